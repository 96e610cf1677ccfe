//! The `mptcp` command as its users run it: what it prints, and its exit codes.

#[path = "lab/mod.rs"]
mod lab;

use lab::{client_address, clock, library, server_address, Lab, LabSpec, Middlebox, Peer, Transport, Wire};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{chown, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

const MPTCP: &str = env!("CARGO_BIN_EXE_mptcp");
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(20);

fn two_wires() -> (Lab, Peer) {
    let lab = Lab::new(LabSpec::new([Wire::new(50.0, 5.0), Wire::new(50.0, 5.0)])).unwrap();
    let http = lab.server().http_server(Transport::Mptcp, &[]).unwrap();
    (lab, http)
}

fn in_lab(lab: &Lab, arguments: &[&str]) -> Output {
    lab.client().command(MPTCP).args(arguments).output().unwrap()
}

fn here(arguments: &[&str]) -> Output {
    Command::new(MPTCP).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// A program that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// curl under `mptcp run`, slowed down by itself so that it lasts as long as the test looks at it.
fn slow_download(lab: &Lab, http: &Peer) -> Running {
    let url = http.url(server_address(0, false), "/100000000");
    let mut command = lab.client().command(MPTCP);
    command.args(["run", "--library"]).arg(library());
    command.args(["curl", "--silent", "--limit-rate", "1M", "--output", "/dev/null", &url]);
    Running(command.spawn().unwrap())
}

/// The first picture of the engine that fits.
fn status_with(lab: &Lab, fits: impl Fn(&Value) -> bool) -> Value {
    let deadline = clock::now() + PATIENCE;
    loop {
        let output = in_lab(lab, &["status", "--json"]);
        let picture = json(&output);
        if fits(&picture) {
            return picture;
        }
        assert!(clock::now() < deadline, "never as wanted: {picture}");
        thread::sleep(STEP);
    }
}

#[test]
fn check_shows_each_path_and_succeeds() {
    let (lab, _) = two_wires();
    let destination = server_address(0, false).to_string();
    let output = in_lab(&lab, &["check", "--json", &destination]);
    let findings = json(&output);
    assert!(output.status.success(), "{findings}");
    assert_eq!(findings["usable"], true);
    // Which one is the host's matter: whether its firewall, IPsec, traffic control and BPF are empty.
    let name = &findings["link"]["name"];
    assert!(name == "ip" || name == "packet", "{name}");
    for wire in 0..2 {
        assert_eq!(findings["paths"][wire]["interface"], format!("eth{wire}"));
        assert_eq!(
            findings["paths"][wire]["address"],
            client_address(wire, false).to_string()
        );
    }
    let people = text(&in_lab(&lab, &["check"]).stdout);
    for expected in ["eth0", "eth1", "first subflow", "\nUsable.\n"] {
        assert!(people.contains(expected), "no {expected:?} in\n{people}");
    }
}

#[test]
fn check_says_why_an_interface_is_not_used() {
    let (lab, _) = two_wires();
    let mut command = lab.client().command(MPTCP);
    let output = command.arg("check").env("MPTCP_PATHS", "-eth1").output().unwrap();
    assert!(output.status.success());
    let people = text(&output.stdout);
    assert!(
        people.contains("eth1") && people.contains("MPTCP_PATHS leaves it out"),
        "{people}"
    );
    assert!(people.contains("over one path"), "{people}");
}

#[test]
fn check_fails_where_raw_sockets_are_forbidden_and_says_what_to_change() {
    let (lab, _) = two_wires();
    let mut command = lab.client().command("setpriv");
    command.args(["--bounding-set=-net_raw", "--inh-caps=-net_raw", MPTCP, "check"]);
    let output = command.output().unwrap();
    let people = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{people}");
    assert!(
        people.contains("NOT USABLE") && people.contains("CAP_NET_RAW"),
        "{people}"
    );
}

#[test]
fn check_fails_where_the_destination_or_the_user_leaves_it_to_the_kernel() {
    let (lab, _) = two_wires();
    let own = client_address(0, false).to_string();
    for destination in ["127.0.0.1", &own] {
        let output = in_lab(&lab, &["check", destination]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stdout).contains("left to the kernel"), "{output:?}");
    }
    let output = lab
        .client()
        .command(MPTCP)
        .arg("check")
        .env("MPTCP", "off")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("MPTCP=off"), "{output:?}");
}

#[test]
fn status_without_an_engine_says_so() {
    let (lab, _) = two_wires();
    let output = in_lab(&lab, &["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with("No engine runs"), "{output:?}");
    let output = in_lab(&lab, &["status", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["engines"], Value::Array(Vec::new()));
}

#[test]
fn status_shows_a_connection_and_its_subflows() {
    let (lab, http) = two_wires();
    let curl = slow_download(&lab, &http);
    let picture = status_with(&lab, |picture| {
        let subflows = picture["engines"][0]["connections"][0]["subflows"].as_array();
        let established = |flow: &Value| flow["bytes_received"].as_u64() > Some(0);
        subflows.is_some_and(|flows| flows.len() == 2 && flows.iter().all(established))
    });
    let connection = &picture["engines"][0]["connections"][0];
    assert_eq!(connection["program"], "curl");
    assert_eq!(connection["pid"], curl.0.id());
    assert_eq!(connection["protocol"], "mptcp");
    assert_eq!(connection["remote"], http.at(server_address(0, false)).to_string());
    assert!(connection["bytes_received"].as_u64() > Some(0), "{connection}");
    for wire in 0..2 {
        let subflow = &connection["subflows"][wire];
        assert_eq!(subflow["interface"], format!("eth{wire}"));
        // Two propagation delays of 5 ms are the least.
        assert!(subflow["rtt_us"].as_u64() >= Some(10_000), "{subflow}");
    }

    let output = in_lab(&lab, &["status"]);
    assert!(output.status.success());
    let people = text(&output.stdout);
    for expected in ["curl[", ": MPTCP, established", "  eth0 ", "  eth1 ", " rtt "] {
        assert!(people.contains(expected), "no {expected:?} in\n{people}");
    }

    let mut watch = lab.client().command(MPTCP);
    let watch = watch.args(["status", "--json", "--watch"]).stdout(Stdio::piped());
    let mut watch = Running(watch.spawn().unwrap());
    let lines = BufReader::new(watch.0.stdout.take().unwrap()).lines();
    let pictures: Vec<String> = lines.take(2).map(Result::unwrap).collect();
    assert_eq!(pictures.len(), 2);
}

#[test]
fn status_says_why_a_connection_is_plain_tcp() {
    let (lab, http) = two_wires();
    lab.wire(0).middleboxes([Middlebox::StripSyn]).unwrap();
    let _curl = slow_download(&lab, &http);
    let picture = status_with(&lab, |picture| {
        picture["engines"][0]["connections"][0]["why_plain"].is_string()
    });
    assert_eq!(picture["engines"][0]["connections"][0]["protocol"], "tcp");
    let people = text(&in_lab(&lab, &["status"]).stdout);
    assert!(people.contains("plain TCP (the peer, or a middlebox"), "{people}");
}

#[test]
fn status_shows_what_was_left_to_the_kernel() {
    let (lab, http) = two_wires();
    let _curl = slow_download(&lab, &http);
    let own = format!("http://{}:9/", client_address(0, false));
    let mut refused = lab.client().command(MPTCP);
    refused
        .args(["run", "--library"])
        .arg(library())
        .args(["curl", "--silent", &own]);
    // CURLE_COULDNT_CONNECT
    assert_eq!(refused.status().unwrap().code(), Some(7));
    status_with(&lab, |picture| !picture["engines"][0]["bypasses"][0].is_null());
    let people = text(&in_lab(&lab, &["status"]).stdout);
    assert!(people.contains("an address of this host"), "{people}");
}

#[test]
fn run_hands_options_on_and_keeps_what_is_preloaded_already() {
    let mut command = Command::new(MPTCP);
    command.args(["run", "--library"]).arg(library());
    command.args([
        "--paths",
        "lo:backup",
        "--log",
        "warn",
        "--log-file",
        "/dev/null",
        "--link",
        "kernel",
    ]);
    let output = command.arg("env").env("LD_PRELOAD", "libm.so.6").output().unwrap();
    let environment = text(&output.stdout);
    for line in [
        "MPTCP_PATHS=lo:backup",
        "MPTCP_LOG=warn",
        "MPTCP_LOG_FILE=/dev/null",
        "MPTCP_LINK=kernel",
        &format!("LD_PRELOAD=libm.so.6:{}", library().display()),
    ] {
        assert!(environment.lines().any(|l| l == line), "no {line} in\n{environment}");
    }
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn run_ends_as_the_program_does() {
    let status = |program: &[&str]| {
        let mut command = Command::new(MPTCP);
        command.args(["run", "--library"]).arg(library()).args(program);
        command.stderr(Stdio::null()).status().unwrap().code()
    };
    assert_eq!(status(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(status(&["no-such-program"]), Some(127));
    assert_eq!(status(&[concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]), Some(126));
}

/// A directory of one test's own.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn script(&self, name: &str, first_line: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, format!("{first_line}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn warnings(program: &Path) -> String {
    let mut command = Command::new(MPTCP);
    let output = command
        .args(["run", "--library"])
        .arg(library())
        .arg(program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&output.stderr)
}

#[test]
fn run_warns_of_programs_that_preloading_does_not_reach() {
    let scratch = Scratch::new("command");
    let (source, program) = (scratch.0.join("static.c"), scratch.0.join("static"));
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let mut cc = Command::new("cc");
    assert!(cc
        .arg("-static")
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .status()
        .unwrap()
        .success());
    assert!(warnings(&program).contains("is statically linked"));
    let script = scratch.script("script", &format!("#!{}", program.display()));
    assert!(warnings(&script).contains("is statically linked"));

    let setuid = scratch.0.join("setuid");
    fs::copy("/bin/true", &setuid).unwrap();
    chown(&setuid, Some(65534), None).expect("these tests run as root");
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
    assert!(warnings(&setuid).contains("is setuid"));

    for quiet in [
        PathBuf::from("/bin/true"),
        scratch.script("quiet", "#!/usr/bin/env true"),
    ] {
        assert_eq!(warnings(&quiet), "");
    }
}

#[test]
fn mistakes_on_the_command_line_are_exit_code_2() {
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["check", "--jsn"],
        &["run"],
        &["run", "--paths", "eth0:primary", "true"],
        &["run", "--link", "pigeon", "true"],
        &["sim"],
    ] {
        let output = here(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains("usage:"), "{output:?}");
    }
    for help in [&["--help"][..], &["--version"], &["run", "--help"]] {
        assert!(here(help).status.success());
    }
}

/// `mptcp config check` of a file with this text: exit code, standard output, standard error.
fn config_check(name: &str, text_of_file: &str) -> (Option<i32>, String, String) {
    let scratch = Scratch::new(name);
    let file = scratch.0.join("mptcp.toml");
    fs::write(&file, text_of_file).unwrap();
    let output = here(&["config", "check", file.to_str().unwrap()]);
    let named = |bytes: &[u8]| text(bytes).replace(file.to_str().unwrap(), "FILE");
    (output.status.code(), named(&output.stdout), named(&output.stderr))
}

#[test]
fn config_check_explains_a_file() {
    let (code, said, error) = config_check(
        "config-good",
        "intent = \"aggregate\"\n\n[interface.wwan0]\nuse = \"standby\"\n\n[[rule]]\nprogram = [\"ssh\", \"mosh-client\"]\n\
         intent = \"interactive\"\n\n[[rule]]\ndestination = \"192.0.2.0/24\"\nport = 443\nmultipath = false\n",
    );
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(
        said,
        "FILE:\n  every connection: MPTCP_INTENT=aggregate\n  interface wwan0: only when nothing else works\n  \
         programs ssh, mosh-client: MPTCP_INTENT=interactive\n  destinations 192.0.2.0/24; ports 443: MPTCP=off\n"
    );
}

#[test]
fn config_check_names_line_and_key_of_every_mistake() {
    let (code, said, error) = config_check(
        "config-bad",
        "intent = \"fast\"\nfate = \"yes\"\n\n[[rule]]\nport = 70000\nintnet = \"handover\"\n",
    );
    assert_eq!((code, said.as_str()), (Some(1), ""));
    for (line, key) in [(1, "intent"), (2, "fate"), (5, "port"), (6, "intnet")] {
        let named = error
            .lines()
            .any(|text| text.starts_with(&format!("FILE:{line}:")) && text.contains(key));
        assert!(named, "line {line}, {key}: {error}");
    }
    let (code, _, error) = config_check("config-broken", "intent = \n");
    assert!(code == Some(1) && error.starts_with("FILE:1:"), "{error}");
}

#[test]
fn config_check_reads_the_files_that_count() {
    let scratch = Scratch::new("config-home");
    fs::create_dir(scratch.0.join(".config")).unwrap();
    fs::write(scratch.0.join(".config/mptcp.toml"), "fate = true\n").unwrap();
    let mut command = Command::new(MPTCP);
    command.args(["config", "check"]).env("HOME", &scratch.0);
    command.env_remove("XDG_CONFIG_HOME").env_remove("MPTCP_CONFIG");
    let output = command.output().unwrap();
    let said = text(&output.stdout);
    assert!(
        said.contains(".config/mptcp.toml:\n  every connection: MPTCP_FATE=on\n"),
        "{said}"
    );
    assert!(said.starts_with("/etc/mptcp.toml"), "{said}");
    let missing = here(&["config", "check", scratch.0.join("none.toml").to_str().unwrap()]);
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn sim_replays_a_seed() {
    let output = here(&["sim", "--seed", "7"]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).starts_with("seed 7 ran well"));
    let traced = here(&["sim", "--trace", "--seed", "7"]);
    assert!(traced.stdout.len() > output.stdout.len());
}

#[test]
fn the_library_and_the_header_have_the_same_version() {
    let output = Command::new(library()).arg("--version").output().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(text(&output.stdout), format!("libmptcp.so {version}\n"));
    let header = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/include/mptcp.h")).unwrap();
    assert!(
        header.contains(&format!("#define MPTCP_VERSION \"{version}\"")),
        "{header}"
    );
}

#[test]
fn another_users_engine_is_counted() {
    let (lab, http) = two_wires();
    let _running = slow_download(&lab, &http);
    status_with(&lab, |picture| !picture["engines"].as_array().unwrap().is_empty());
    let mut command = lab.client().command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    let output = command.args([MPTCP, "status", "--json"]).output().unwrap();
    let picture = json(&output);
    assert_eq!(picture["of_others"], 1, "{picture}");
    assert_eq!(picture["faults"].as_array().map(Vec::len), Some(0), "{picture}");
}

#[test]
fn what_makes_no_sense_is_said_before_the_program_starts() {
    let library = library();
    let run = |words: &[&str]| {
        let own = ["run", "--library", library.to_str().unwrap()];
        here(&[&own[..], words, &["true"]].concat())
    };
    let unknown = run(&["--paths", "nowhere9"]);
    assert_eq!(unknown.status.code(), Some(0));
    assert!(text(&unknown.stderr).contains("no interface nowhere9"), "{unknown:?}");
    let unwritable = run(&["--log-file", "/nonexistent/x"]);
    assert_eq!(unwritable.status.code(), Some(0));
    assert!(text(&unwritable.stderr).contains("/nonexistent/x"), "{unwritable:?}");
    for filter in ["bogus", "info,x=warn", "mptcp=loud"] {
        assert_eq!(run(&["--log", filter]).status.code(), Some(2), "{filter}");
    }
    for filter in ["info", "WARN,mptcp::shim=debug", "mptcp"] {
        let output = run(&["--log", filter]);
        assert_eq!(
            (output.status.code(), output.stderr.len()),
            (Some(0), 0),
            "{filter}: {output:?}"
        );
    }
    let port = here(&["check", "192.0.2.1:99999"]);
    assert_eq!(port.status.code(), Some(2));
    assert!(text(&port.stderr).contains("99999 is no port"), "{port:?}");
}

/// What the library does not read, or would wait for, is named.
#[test]
fn config_check_names_files_that_do_not_count() {
    let scratch = Scratch::new("config-odd");
    let file = |name: &str| scratch.0.join(name);
    fs::write(file("long"), "# \n".repeat(100_000)).unwrap();
    fs::write(file("binary"), [0xff, 0, 0xfe]).unwrap();
    fs::write(
        file("nul"),
        "interface.\"a\\u0000b\".use = \"never\"\npaths = \"a\\u0000b\"\n",
    )
    .unwrap();
    fs::write(file("deep"), format!("x = {}", "[".repeat(100_000))).unwrap();
    fs::create_dir(file("directory")).unwrap();
    std::os::unix::fs::symlink("loop", file("loop")).unwrap();
    let fifo = Command::new("mkfifo").arg(file("fifo")).status().unwrap();
    assert!(fifo.success());
    for (name, why) in [
        ("long", "longer than 256 KiB"),
        ("binary", "UTF-8"),
        ("nul", "this is not an interface name"),
        ("deep", "recurs"),
        ("directory", "no regular file"),
        ("loop", "symbolic links"),
        ("fifo", "no regular file"),
    ] {
        let path = file(name).display().to_string();
        let output = here(&["config", "check", &path]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {error}");
        assert!(error.starts_with(&path) && error.contains(why), "{name}: {error}");
    }
    let nul = text(&here(&["config", "check", file("nul").to_str().unwrap()]).stderr);
    assert_eq!(nul.lines().count(), 2, "{nul}");
    for (name, expected) in [("loop", "symbolic links"), ("../relative", "does not begin with /")] {
        let path = match name {
            "loop" => file(name),
            _ => name.into(),
        };
        let mut command = Command::new(MPTCP);
        let output = command
            .args(["config", "check"])
            .env("MPTCP_CONFIG", path)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(text(&output.stderr).contains(expected), "{output:?}");
    }
}

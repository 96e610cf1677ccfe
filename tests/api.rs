//! The options of `mptcp.h`: the header by every language standard, and the programs of `c-tests/api/` under the library against a kernel
//! MPTCP peer. What RFC 6897 says of legacy programs is in `api/rows.rs`.

mod interop;
use interop::lab;

#[path = "rules/capture.rs"]
mod capture;
#[path = "api/info.rs"]
mod info;
#[path = "api/own_peer.rs"]
mod own_peer;
#[path = "api/rows.rs"]
mod rows;
#[path = "api/silence.rs"]
mod silence;
#[path = "api/wire.rs"]
mod wire;

use interop::{run, server_address, LabSpec, Middlebox, Outcome, Peer, Site, Transport, Wire};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const PLAIN_PORT: &str = "8080";
/// No program of `c-tests/api/` asks for more.
const STREAM_LEN: u64 = 30_000_000;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("c-tests/api")
}

fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

/// A program of `c-tests/api/`, compiled; its file goes with it.
struct Program(PathBuf);

impl Program {
    fn compile(name: &str) -> Program {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = format!("api-{name}-{}-{number}", std::process::id());
        let program = Program(Path::new(env!("CARGO_TARGET_TMPDIR")).join(file));
        let status = Command::new("cc")
            .args(["-std=c99", "-D_GNU_SOURCE", "-O1"])
            .args(["-Wall", "-Wextra", "-pedantic", "-Werror", "-o"])
            .arg(&program.0)
            .arg("-I")
            .arg(include())
            .args([directory().join(format!("{name}.c")), directory().join("api.c")])
            .status()
            .expect("a C compiler (cc) is installed");
        assert!(status.success(), "{name}.c does not compile");
        program
    }

    /// As the host `run_by` starts it: against the server's first address, with further arguments.
    fn command(&self, run_by: impl FnOnce(&Path) -> Command, v6: bool, arguments: &[&str]) -> Command {
        let mut command = run_by(&self.0);
        command
            .args([&server_address(0, v6).to_string(), "80", PLAIN_PORT])
            .args(arguments);
        command
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It is missing where it does not compile.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A lab with two wires, an MPTCP server on port 80 and a plain one on another.
struct Place {
    site: Site,
    _servers: [Peer; 2],
}

impl Place {
    /// The MPTCP server is the kernel's.
    fn new() -> Place {
        Place::with(|site| site.http(Transport::Mptcp))
    }

    /// The MPTCP server is one for TCP, under the library.
    fn own_peer() -> Place {
        Place::with(|site| {
            let mut server = site.lab().server().command("python3");
            server
                .arg(directory().join("server.py"))
                .arg("80")
                .arg(site.stream_file(STREAM_LEN))
                .env("LD_PRELOAD", lab::library())
                .env("MPTCP_LOG", "info")
                .env("MPTCP_LOG_FILE", site.file("server.log"));
            Peer::start(server).expect("the server starts")
        })
    }

    fn with(server: impl FnOnce(&Site) -> Peer) -> Place {
        let site = Site::with(LabSpec::new([Wire::new(20.0, 5.0); 2]));
        let plain = site.lab().server().http_server(Transport::Tcp, &["--port", PLAIN_PORT]);
        let servers = [server(&site), plain.expect("the HTTP server starts")];
        Place {
            site,
            _servers: servers,
        }
    }

    /// A counter of the server's kernel.
    fn counter(&self, name: &str) -> u64 {
        self.site.lab().server().counter(name).expect("counters")
    }

    /// Runs a Python program of `c-tests/api/` under the library to its end; what it said.
    fn python(&self, name: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
        let mut command = self.site.command("python3");
        command
            .arg(directory().join(name))
            .args([&server_address(0, false).to_string(), "80"])
            .args(arguments)
            .envs(variables.iter().copied());
        let outcome = run(command);
        assert!(outcome.status.success(), "{name} {arguments:?}: {}", outcome.stderr);
        outcome
    }

    /// Runs a program of `c-tests/api/` under the library to its end.
    fn check(&self, name: &str, variables: &[(&str, &str)], arguments: &[&str]) {
        let program = Program::compile(name);
        let mut command = program.command(|path| self.site.command(path), false, arguments);
        command.envs(variables.iter().copied());
        let outcome = run(command);
        assert!(
            outcome.status.success(),
            "{name}: {}\n{}\n{}",
            outcome.stderr,
            String::from_utf8_lossy(&outcome.stdout),
            self.site.engine_log()
        );
    }
}

fn compile(compiler: &str, standard: &str, macros: &[&str], text: &str, extension: &str) -> std::process::Output {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let stem = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("header-{}-{number}", std::process::id()));
    let (source, object) = (stem.with_extension(extension), stem.with_extension("o"));
    std::fs::write(&source, text).expect("target/tmp is writable");
    let output = Command::new(compiler)
        .arg(format!("-std={standard}"))
        .args(["-Wall", "-Wextra", "-pedantic", "-Werror", "-c"])
        .args(macros)
        .arg("-I")
        .arg(include())
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .output()
        .expect("a compiler is installed");
    for file in [source, object] {
        // The object is missing when the compiler refused.
        let _ = std::fs::remove_file(file);
    }
    output
}

#[test]
fn the_header_stands_alone_in_every_language_standard() {
    let text =
        "#include <mptcp.h>\n#include <mptcp.h>\nint f(struct mptcp_full_info *i, struct mptcp_subflow_data *d);\n\
                int f(struct mptcp_full_info *i, struct mptcp_subflow_data *d)\n\
                { return (int)i->num_subflows + (int)d->size_user + TCP_MULTIPATH_ENABLE + EMULTIPATH; }\n";
    for macros in [&[][..], &["-DMPTCP_NO_LINUX_HEADER"]] {
        for standard in ["c89", "c99", "c11", "c17"] {
            let output = compile("cc", standard, macros, text, "c");
            assert!(output.status.success(), "{standard} {macros:?}: {output:?}");
        }
        for standard in ["c++98", "c++11", "c++14", "c++17", "c++20"] {
            let output = compile("c++", standard, macros, text, "cc");
            assert!(output.status.success(), "{standard} {macros:?}: {output:?}");
        }
    }
}

#[test]
fn the_header_stands_beside_the_systems() {
    for order in [
        "#include <mptcp.h>\n#include <linux/mptcp.h>\n#include <linux/tcp.h>\n",
        "#include <linux/tcp.h>\n#include <linux/mptcp.h>\n#include <mptcp.h>\n",
        "#include <netinet/tcp.h>\n#include <mptcp.h>\n",
    ] {
        let output = compile("cc", "gnu11", &[], &format!("{order}int x = MPTCP_FULL_INFO;\n"), "c");
        assert!(output.status.success(), "{order}: {output:?}");
    }
}

/// The numbers of the system's headers at level IPPROTO_TCP and SOL_MPTCP, and its errno values.
fn system_numbers() -> Vec<(String, i64)> {
    let text = "#include <linux/tcp.h>\n#include <linux/mptcp.h>\n#include <errno.h>\n";
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("macros-{}.c", std::process::id()));
    std::fs::write(&source, text).expect("target/tmp is writable");
    let output = Command::new("cc")
        .args(["-E", "-dM"])
        .arg(&source)
        .output()
        .expect("a C compiler (cc) is installed");
    std::fs::remove_file(source).expect("it was just made");
    let macros = String::from_utf8(output.stdout).expect("macros are ASCII");
    let numbers = macros.lines().filter_map(|line| {
        let mut words = line.strip_prefix("#define ")?.split_whitespace();
        let (name, value) = (words.next()?, words.next()?);
        let ours = ["TCP_", "MPTCP_", "E"].iter().any(|prefix| name.starts_with(prefix));
        Some((name.to_owned(), value.parse().ok().filter(|_| ours)?))
    });
    numbers.collect()
}

#[test]
fn the_numbers_are_clear_of_the_systems() {
    use mptcp::control::multipath::{name, EMULTIPATH};
    let numbers = system_numbers();
    assert!(
        numbers.iter().any(|(name, _)| name == "TCP_USER_TIMEOUT"),
        "the headers were read"
    );
    assert!(
        numbers.iter().any(|(name, _)| name == "EINVAL"),
        "the headers were read"
    );
    for ours in [
        name::ENABLE,
        name::BIND,
        name::ADD,
        name::REMOVE,
        name::SUBFLOWS,
        name::CONNID,
        name::NAMES,
        name::FATE,
        name::JOIN,
        name::INTENT,
        name::SCHEDULER,
        name::CONGESTION,
        name::OPEN,
        name::CLOSE,
        name::BACKUP,
        name::SUBFLOW,
        name::EVENTS,
        EMULTIPATH,
    ] {
        assert!(
            numbers.iter().all(|(_, theirs)| *theirs != i64::from(ours)),
            "{ours:#x}"
        );
    }
    // No system call returns it by chance, and none of the system's own is as large.
    let largest_errno = numbers
        .iter()
        .filter(|(name, _)| name.starts_with('E'))
        .map(|(_, n)| *n)
        .max();
    assert!(largest_errno.is_some_and(|n| n < i64::from(EMULTIPATH)) && EMULTIPATH < 4096);
}

#[test]
fn the_header_has_the_numbers_that_the_library_answers() {
    use mptcp::control::multipath::{name, ADDRESSES_MAX, EMULTIPATH};
    let text = format!(
        "#include <mptcp.h>\n\
         #define SAME(a, b) typedef char same_##a[(a) == (b) ? 1 : -1];\n\
         SAME(TCP_MULTIPATH_ENABLE, {}) SAME(TCP_MULTIPATH_BIND, {}) SAME(TCP_MULTIPATH_ADD, {})\n\
         SAME(TCP_MULTIPATH_REMOVE, {}) SAME(TCP_MULTIPATH_SUBFLOWS, {}) SAME(TCP_MULTIPATH_CONNID, {})\n\
         SAME(TCP_MULTIPATH_NAMES, {}) SAME(TCP_MULTIPATH_FATE, {}) SAME(TCP_MULTIPATH_JOIN, {})\n\
         SAME(TCP_MULTIPATH_INTENT, {}) SAME(TCP_MULTIPATH_OPEN, {}) SAME(TCP_MULTIPATH_CLOSE, {})\n\
         SAME(TCP_MULTIPATH_BACKUP, {}) SAME(TCP_MULTIPATH_SUBFLOW, {}) SAME(TCP_MULTIPATH_EVENTS, {})\n\
         SAME(TCP_MULTIPATH_SCHEDULER, {}) SAME(TCP_MULTIPATH_CONGESTION, {})\n\
         SAME(EMULTIPATH, {EMULTIPATH}) SAME(TCP_MULTIPATH_ADDRS_MAX, {ADDRESSES_MAX})\n",
        name::ENABLE,
        name::BIND,
        name::ADD,
        name::REMOVE,
        name::SUBFLOWS,
        name::CONNID,
        name::NAMES,
        name::FATE,
        name::JOIN,
        name::INTENT,
        name::OPEN,
        name::CLOSE,
        name::BACKUP,
        name::SUBFLOW,
        name::EVENTS,
        name::SCHEDULER,
        name::CONGESTION
    );
    let output = compile("cc", "c99", &["-Wno-pedantic"], &text, "c");
    assert!(output.status.success(), "{output:?}");
}

// Proves REQ1.
#[test]
fn enable() {
    let place = Place::new();
    place.check("enable", &[], &[]);
    place.site.assert_server_mptcp(1, 1);
}

// Proves REQ2, REQ5.
#[test]
fn bind_moves_the_traffic() {
    let place = Place::new();
    place.check("bind", &[], &[]);
    // Two lists took an address back.
    assert!(place.counter("MPTcpExtRmAddr") >= 2, "REMOVE_ADDR");
}

#[test]
fn wrong_lists_change_nothing() {
    Place::new().check("wrong_lists", &[], &[]);
}

#[test]
fn inq() {
    // The kernel's TCP counts the end of the stream as a byte when it has come.
    Place::new().check("inq", &[], &[]);
}

#[test]
fn a_barrage_of_wrong_calls() {
    Place::new().check("barrage", &[], &[]);
}

// Proves REQ2.
#[test]
fn add_and_remove() {
    let place = Place::new();
    place.check("add_remove", &[], &[]);
    assert!(place.counter("MPTcpExtRmAddr") >= 1, "REMOVE_ADDR");
}

// Proves REQ3.
#[test]
fn subflows() {
    Place::new().check("subflows", &[], &[]);
}

// Proves REQ4.
#[test]
fn connid() {
    Place::new().check("connid", &[], &[]);
}

// Proves L3.
#[test]
fn names() {
    let place = Place::new();
    place.check("names", &[], &[]);
    place.check("names", &[("MPTCP_AWARE_NAMES", "first")], &[]);
    place.check("names", &[("MPTCP_AWARE_NAMES", "fail")], &["fail"]);
}

// Proves REQ7.
#[test]
fn intents() {
    Place::new().check("intent", &[], &[]);
}

#[test]
fn schedulers_and_congestion_controls() {
    let place = Place::new();
    place.check("algorithms", &[], &[]);
    let variables = [("MPTCP_SCHEDULER", "ecf"), ("MPTCP_CONGESTION", "balia")];
    place.check("algorithms", &variables, &["variables"]);
}

// Proves REQ6, REQ10.
#[test]
fn single_subflows() {
    Place::new().check("steer", &[], &[]);
}

// Proves REQ13.
#[test]
fn events() {
    Place::new().check("events", &[], &[]);
}

/// A middlebox on both wires lets handshakes pass as they are, and nothing after them.
fn assert_options_after_fallback(place: &Place) {
    for wire in 0..2 {
        let boxes = place.site.lab().wire(wire).middleboxes([Middlebox::StripLater]);
        boxes.expect("a middlebox");
    }
    place.check("fallback", &[], &[]);
}

// Proves REQ2, REQ3, REQ4.
#[test]
fn fallback_in_mid_connection() {
    assert_options_after_fallback(&Place::new());
}

// Proves L12, REQ9.
#[test]
fn join() {
    Place::new().check("join", &[], &[]);
}

/// A program of `c-tests/api/` on the kernel's own MPTCP, and under the library on a kernel whose MPTCP is switched off.
fn kernel_and_library(place: &Place, name: &str) -> [String; 2] {
    let program = Program::compile(name);
    let client = place.site.lab().client();
    let said = |command: Command| {
        let outcome = run(command);
        assert!(
            outcome.status.success(),
            "{name}: {}\n{}",
            outcome.stderr,
            place.site.engine_log()
        );
        String::from_utf8(outcome.stdout).expect("text")
    };
    place.site.lab().kernel_paths().expect("endpoints");
    let kernel = said(program.command(|path| client.command(path), false, &[]));
    client
        .output("sysctl", &["-q", "-w", "net.mptcp.enabled=0"])
        .expect("it can be switched off");
    let library = said(program.command(|path| place.site.command(path), false, &[]));
    [kernel, library]
}

#[test]
fn linux_options_say_what_the_kernels_mptcp_says() {
    assert_linux_options_agree(&Place::new());
}

fn assert_linux_options_agree(place: &Place) {
    let [kernel, library] = kernel_and_library(place, "linux");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (kernel, library) = (lines(&kernel), lines(&library));
    let differences: Vec<String> = kernel
        .iter()
        .zip(&library)
        .enumerate()
        .filter(|(_, (kernel, library))| kernel != library)
        .map(|(at, (kernel, library))| format!("{at}: kernel: {kernel}; library: {library}"))
        .collect();
    assert!(
        kernel.len() > 100 && kernel.len() == library.len(),
        "{kernel:#?} {library:#?}"
    );
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn python_with_nothing_but_its_socket_module() {
    Place::new().python("socket_only.py", &[], &[]);
}

//! The engine's life: started once, unseen by the program, gone when idle, dead or silent in mid-transfer, and nobody else's.

use crate::lab::{stream, Cgroup};
use crate::site::{finish, wait_until, By, Ended, Site};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn two_first_programs_have_one_engine() {
    let site = Site::new();
    for round in 0..20 {
        let programs = [0, 1].map(|_| site.start(By::Library, &["curl", "-sS", "-o", "/dev/null", &site.url("/1000")]));
        for program in programs {
            let ended = finish(program);
            assert_eq!(ended.code, Some(0), "round {round}: {ended:?}");
            assert!(ended.used_engine(), "round {round}: {ended:?}");
        }
        site.engine();
        site.kill_engines();
    }
}

#[test]
fn an_engine_that_goes_is_followed_by_another_without_a_gap() {
    let site = Site::new();
    // Refused connections leave nothing behind, so the engine is idle at once.
    let script =
        "for i in {1..60}; do (exec 3<>/dev/tcp/192.0.2.2/9) 2>&1 | grep -v '^mptcp' ; sleep 0.0$((RANDOM % 4)); done";
    let ended = site.run(By::Library, &["MPTCP_IDLE_MS=15", "bash", "-c", script]);
    let messages: Vec<&str> = ended.stdout.lines().filter(|line| line.contains("onnect")).collect();
    assert!(
        messages.iter().all(|line| line.contains("Connection refused")),
        "{messages:?}"
    );
    assert!(messages.len() >= 60, "{messages:?}");
    let starts = site.engine_log().matches(" serves as process ").count();
    assert!(starts > 1, "engines went and came: {starts}");
    wait_until("the last engine goes", || site.engines().is_empty());
}

#[test]
fn the_engine_holds_nothing_of_the_program() {
    let site = Site::new();
    // wc ends when curl has closed the pipe, and nobody else has it.
    let script = format!(
        "cd \"$1\" && exec 5>\"$1/open\" && trap 'echo child' CHLD && curl -s {} | wc -c",
        site.url("/1000")
    );
    let directory = Scratch::new("held");
    let ended = site.run(
        By::Library,
        &[
            "MPTCP_IDLE_MS=60000",
            "bash",
            "-c",
            &script,
            "x",
            &directory.0.to_string_lossy(),
        ],
    );
    assert_eq!(
        ended.stdout.lines().find(|line| *line != "child"),
        Some("1000"),
        "{ended:?}"
    );
    let engine = site.engine();
    assert_eq!(
        fs::read_link(format!("/proc/{engine}/cwd")).expect("it runs"),
        Path::new("/")
    );
    for entry in fs::read_dir(format!("/proc/{engine}/fd")).expect("it runs").flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        assert!(!target.starts_with("pipe:") && !target.contains("held"), "{target}");
    }
    assert_ne!(session(&engine.to_string()), session("self"), "a session of its own");
}

/// The session of a process; 0 where its leader is outside of this PID namespace.
fn session(process: &str) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields = stat.rsplit_once(") ").expect("a name in parentheses").1;
    fields
        .split(' ')
        .nth(3)
        .and_then(|field| field.parse().ok())
        .expect("a number")
}

/// Prints how often SIGCHLD came, what wait() says, and how many bytes came.
const CHILDLESS: &str = r#"
use Socket;
my $signals = 0;
$SIG{CHLD} = sub { $signals++ };
socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
connect($s, sockaddr_in(80, inet_aton("192.0.2.2"))) or die "connect: $!\n";
print "signals $signals wait ", wait(), " error ", $!+0, "\n";
"#;

#[test]
fn starting_the_engine_is_no_child_of_the_program() {
    let site = Site::new();
    let [kernel, library] = By::BOTH.map(|by| site.run(by, &["perl", "-e", CHILDLESS]));
    assert_eq!(kernel.stdout, "signals 0 wait -1 error 10\n", "{kernel:?}");
    assert_eq!(
        (library.code, &library.stdout),
        (kernel.code, &kernel.stdout),
        "{library:?}"
    );
    assert!(library.used_engine(), "{library:?}");
}

/// Reads by read(2) itself, number 0 on x86-64 and 63 on arm64, and says how it ended.
const RAW_READ: &str = r#"
use Socket;
my $read = `uname -m` =~ /aarch64/ ? 63 : 0;
socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
connect($s, sockaddr_in(80, inet_aton("192.0.2.2"))) or die "connect: $!\n";
syswrite($s, "GET /100000000 HTTP/1.1\r\nHost: x\r\n\r\n");
my $buffer = "\0" x 65536;
my $result;
while (($result = syscall($read, fileno($s), $buffer, 65536)) > 0) {}
print "$result ", $!+0, "\n";
"#;

#[test]
fn an_engine_killed_in_mid_transfer_is_a_reset() {
    let site = Site::new();
    for round in 0..2 {
        let url = site.url("/100000000");
        let before = site.carried(0);
        let programs = [
            site.start(By::Library, &["curl", "-sS", "-o", "/dev/null", &url]),
            site.start(By::Library, &["perl", "-e", RAW_READ]),
        ];
        wait_until("data flows", || site.carried(0) > before + 1_000_000);
        wait_until("both are served", || {
            site.engine_log().matches(" established").count() >= 2 + 3 * round
        });
        Site::signal(site.engine(), libc::SIGKILL);
        let [curl, perl] = programs.map(finish);
        assert_eq!(curl.code, Some(56), "{curl:?}");
        assert!(curl.stderr.contains("reset"), "{curl:?}");
        assert_eq!(perl.stdout, format!("-1 {}\n", libc::ECONNRESET), "{perl:?}");
        assert!(site.download(&[], &site.url("/100000"), 100_000).used_engine());
    }
}

/// Connects thirty times.
const MANY_CONNECTS: &str = r#"
use Socket;
my $n = 0;
for (1..30) {
    socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    $n++ if connect($s, sockaddr_in(80, inet_aton("192.0.2.2")));
}
print $n;
"#;

/// Writes its process id, closes every descriptor, and connects to where nobody answers.
const WITHOUT_STDIO: &str = r#"
use POSIX; use Socket;
open(my $pid, ">", "$ARGV[0].new"); print $pid $$; close $pid; rename("$ARGV[0].new", $ARGV[0]);
POSIX::close($_) for 0..1023;
socket(my $s, PF_INET, SOCK_STREAM, 0); connect($s, sockaddr_in(9, inet_aton("192.0.2.2")));
"#;

#[test]
fn closed_standard_descriptors_stay_closed() {
    let site = Site::new();
    site.nft("filter hook output priority 0", &["tcp dport 9 drop"]);
    let directory = Scratch::new("stdio");
    let file = directory.0.join("pid");
    let program = site.start(By::Library, &["perl", "-e", WITHOUT_STDIO, &file.to_string_lossy()]);
    wait_until("it runs", || file.exists());
    let pid: i32 = fs::read_to_string(&file).expect("a file").parse().expect("a number");
    let open = || -> Vec<i32> {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    };
    // The kernel's socket and the channel on which it waits.
    wait_until("it waits, with its own socket alone among the three", || {
        let open = open();
        open.contains(&0) && !open.contains(&1) && !open.contains(&2) && open.len() == 3
    });
    Site::signal(pid, libc::SIGKILL);
    finish(program);
}

#[test]
fn a_stopped_engine_leaves_new_connections_to_the_kernel() {
    let site = Site::new();
    site.download(&[], &site.url("/1000"), 1000);
    let engine = site.engine();
    Site::signal(engine, libc::SIGSTOP);
    // Killed by timeout(1) if it waits for the engine each time.
    let ended = site.run(By::Library, &["perl", "-e", MANY_CONNECTS]);
    Site::signal(engine, libc::SIGCONT);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "30"), "{ended:?}");
    assert!(
        ended.log.contains("left to the kernel: the engine failed to answer"),
        "{ended:?}"
    );
}

#[test]
fn a_killed_cgroup_takes_its_own_engine_only() {
    let groups = [Cgroup::new("a"), Cgroup::new("b")];
    let site = Site::new();
    let inside = |group: &Cgroup, len: u64| {
        let script = format!(
            "echo $$ > {} && exec env LD_PRELOAD={} bash -c 'curl -sS {} | sha256sum'",
            group.procs().display(),
            crate::lab::library().display(),
            site.url(&format!("/{len}"))
        );
        site.start(By::Library, &["LD_PRELOAD=", "bash", "-c", &script])
    };
    let first = inside(&groups[0], 100_000_000);
    wait_until("the first engine serves", || site.carried(0) > 1_000_000);
    let second = inside(&groups[1], 10_000_000);
    wait_until("the second engine serves", || site.engines().len() == 2);
    let killed = groups[0].kill();
    assert!(killed >= 2, "engine and program: {killed}");
    assert!(finish(first).stdout.trim() != stream::sha256(100_000_000));
    let second = finish(second);
    assert!(second.stdout.contains(&stream::sha256(10_000_000)), "{second:?}");
}

/// A directory of this test's, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("mptcp-rules-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("a directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The abstract names that somebody listens on, in hex.
fn names(site: &Site) -> Vec<String> {
    let sockets = site.lab.client().output("cat", &["/proc/net/unix"]).expect("a list");
    // Listening: flags 00010000.
    let listening = sockets.lines().filter(|line| line.contains(" 00010000 "));
    let names = listening.filter_map(|line| Some(line.split_once('@')?.1));
    names
        .map(|name| name.bytes().map(|byte| format!("{byte:02x}")).collect())
        .collect()
}

fn engine_name(site: &Site) -> String {
    names(site).pop().expect("the engine listens")
}

/// Asks an engine for its status, as PROTOCOL_VERSION 1 wants it, and prints how many bytes came.
const ASK: &str = r#"
use Socket;
socket(my $s, PF_UNIX, 5, 0) or die;
connect($s, pack("S a*", 1, "\0" . pack("H*", $ARGV[0]))) or (print("refused\n"), exit);
send($s, "MPTC" . pack("vv", $ARGV[1], 7), MSG_NOSIGNAL);
recv($s, my $answer, 20000, 0);
print length($answer // ""), "\n";
"#;

/// Takes a name and stays, taking no connection.
const SQUAT: &str = r#"
use Socket;
$| = 1;
socket(my $s, PF_UNIX, 5, 0) or die;
bind($s, pack("S a*", 1, "\0" . pack("H*", $ARGV[0]))) or die "bind: $!\n";
listen($s, 100) or die;
print "taken\n";
while (accept(my $c, $s)) { recv($c, my $request, 5000, 0); send($c, "MPTC" . pack("vvl<", 1, 131, 13), 0) }
"#;

const NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// The bytes of an answer that is only an error.
const AN_ERROR: usize = 12;

#[test]
fn another_user_gets_nothing_from_the_engine() {
    let site = Site::new();
    site.download(&["MPTCP_IDLE_MS=60000"], &site.url("/1000"), 1000);
    let name = engine_name(&site);
    let version = mptcp::control::PROTOCOL_VERSION.to_string();
    let ask = ["perl", "-e", ASK, &name, &version];
    let answered = |ended: &Ended| ended.stdout.trim().parse::<usize>().ok();
    let own = site.run(By::Kernel, &ask);
    assert!(answered(&own).is_some_and(|len| len > AN_ERROR), "{own:?}");
    // Refused, or an error and nothing else.
    let other = site.run(By::Kernel, &[&NOBODY[..], &ask].concat());
    assert!(
        other.stdout.trim() == "refused" || answered(&other).is_some_and(|len| len <= AN_ERROR),
        "{other:?}"
    );
    // Still well.
    assert!(site.download(&[], &site.url("/1000"), 1000).used_engine());
}

#[test]
fn a_name_taken_by_another_user_is_not_believed() {
    let site = Site::new();
    site.download(&["MPTCP_IDLE_MS=60000"], &site.url("/1000"), 1000);
    let name = engine_name(&site);
    site.kill_engines();
    wait_until("the name is free", || !engine_name_is_taken(&site, &name));
    let mut squatter = site.start(By::Kernel, &[&NOBODY[..], &["perl", "-e", SQUAT, &name]].concat());
    let taken = || engine_name_is_taken(&site, &name);
    wait_until("the name is taken", taken);
    let ended = site.download(&[], &site.url("/100000"), 100_000);
    let _ = squatter.kill();
    let _ = squatter.wait();
    assert!(!ended.used_engine(), "{ended:?}");
    assert!(ended.log.contains("left to the kernel"), "{ended:?}");
}

fn engine_name_is_taken(site: &Site, name: &String) -> bool {
    names(site).contains(name)
}

#[test]
fn a_connection_on_loopback_starts_no_engine() {
    let site = Site::new();
    let ended = site.run(By::Library, &["curl", "-sS", "http://127.0.0.1:9/"]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert_eq!(site.engines(), [0; 0]);
}

//! Two hosts as network namespaces, joined by two wires, and the peer on one of them.
//!
//! A namespace lives as long as the process that holds it, and that process dies with the thread that made it:
//! nothing has a name on the machine, and nothing is left behind.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::build;

const PEER_ADDRESS: &str = "192.0.2.2";
const OWN_ADDRESS: &str = "192.0.2.1";
/// Scenarios end themselves after 40 s by alarm(2); one that blocks even that is killed after this.
const SCENARIO_TIME_MAX: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const ENDING_ROUNDS_MAX: usize = 50;

/// What the peer's sockets speak.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PeerKind {
    Tcp,
    Mptcp,
    /// TCP on the program's own host; under the library when the program is.
    Own,
}

impl PeerKind {
    fn port(self) -> &'static str {
        match self {
            PeerKind::Tcp => "5001",
            PeerKind::Mptcp => "5002",
            PeerKind::Own => "5003",
        }
    }

    fn address(self) -> &'static str {
        match self {
            PeerKind::Tcp | PeerKind::Mptcp => PEER_ADDRESS,
            PeerKind::Own => OWN_ADDRESS,
        }
    }
}

/// The program's host, the peer's host and the peer; two peers when one of them is on the program's host.
pub struct Hosts {
    client: Namespace,
    server: Namespace,
    peers: Vec<Child>,
    kind: PeerKind,
    under_library: bool,
}

impl Hosts {
    /// Makes both hosts and starts the peer; it listens when this returns.
    pub fn new(kind: PeerKind, under_library: bool) -> Hosts {
        let client = Namespace::new();
        let server = Namespace::new();
        join(&client, &server);
        let mut peers = vec![start_peer(&server, kind, false)];
        if kind == PeerKind::Own {
            peers.push(start_peer(&client, kind, under_library));
        }
        Hosts {
            client,
            server,
            peers,
            kind,
            under_library,
        }
    }

    /// Runs one scenario, its output in `output`: standard output, then what it said to standard error and how it
    /// ended if that was not well.
    pub fn run(&self, scenario: &str, output: &Path) {
        let errors = output.with_extension("stderr");
        let mut command = self.client.command(build::descriptors());
        command.args([scenario, self.kind.address(), self.kind.port()]);
        command.stdin(Stdio::null());
        // Files, not pipes: a process that outlives the scenario must not hold the test up.
        command.stdout(File::create(output).expect("an output file"));
        command.stderr(File::create(&errors).expect("an error file"));
        if self.under_library {
            preload(&mut command, self.kind);
        }
        let status = wait(command.spawn().expect("the scenario starts"));
        let mut text = std::fs::read_to_string(output).unwrap_or_default();
        for line in std::fs::read_to_string(&errors).unwrap_or_default().lines() {
            text += &format!("stderr: {line}\n");
        }
        if !status.success() {
            text += &match status.signal() {
                Some(signal) => format!("killed by signal {signal}\n"),
                None => format!("exit status {}\n", status.code().unwrap_or_default()),
            };
        }
        std::fs::write(output, text).expect("the output file is writable");
        let _ = std::fs::remove_file(errors);
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for peer in &mut self.peers {
            let _ = peer.kill();
            let _ = peer.wait();
        }
        self.client.end_processes();
        self.server.end_processes();
    }
}

fn start_peer(host: &Namespace, kind: PeerKind, under_library: bool) -> Child {
    let mut peer = host.command(build::descriptors());
    peer.args(["peer", kind.port()])
        .stdout(Stdio::piped())
        .stdin(Stdio::null());
    if kind == PeerKind::Mptcp {
        peer.arg("mptcp");
    }
    if under_library {
        preload(&mut peer, kind);
    }
    let mut peer = peer.spawn().expect("the peer starts");
    let mut line = String::new();
    let stdout = peer.stdout.take().expect("it was asked for");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("the peer says when it listens");
    assert_eq!(line, "listening\n", "the peer did not start");
    peer
}

fn preload(command: &mut Command, kind: PeerKind) {
    command.env("LD_PRELOAD", build::library());
    if kind == PeerKind::Own {
        command.env("MPTCP_LOOPBACK", "1");
    }
}

fn wait(mut child: Child) -> ExitStatus {
    let mut left = SCENARIO_TIME_MAX;
    loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return status;
        }
        if left.is_zero() {
            let _ = child.kill();
            return child.wait().expect("it is our child");
        }
        std::thread::sleep(POLL_INTERVAL);
        left = left.saturating_sub(POLL_INTERVAL);
    }
}

/// A network namespace, and the process that holds it open.
struct Namespace {
    holder: Child,
    file: OwnedFd,
}

impl Namespace {
    fn new() -> Namespace {
        let mut holder = Command::new("sleep");
        holder
            .arg("infinity")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: between fork and exec only system calls are made; they touch no memory of the parent.
        unsafe {
            holder.pre_exec(|| {
                die_with_parent()?;
                check(libc::unshare(libc::CLONE_NEWNET))
            });
        }
        let holder = holder.spawn().expect("root may make network namespaces");
        let file = File::open(format!("/proc/{}/ns/net", holder.id())).expect("the holder runs");
        Namespace {
            holder,
            file: file.into(),
        }
    }

    /// A command that will run in this namespace.
    fn command(&self, program: &Path) -> Command {
        let namespace = self.file.as_raw_fd();
        let mut command = Command::new(program);
        // SAFETY: as above; `namespace` is open as long as `self`, which outlives every spawn of its commands.
        unsafe {
            command.pre_exec(move || {
                die_with_parent()?;
                check(libc::setns(namespace, libc::CLONE_NEWNET))
            });
        }
        command
    }

    fn ip(&self, arguments: &str) {
        let status = self
            .command(Path::new("ip"))
            .args(arguments.split(' '))
            .status()
            .expect("iproute2 is installed");
        assert!(status.success(), "ip {arguments} failed");
    }

    /// Ends what still runs in the namespace, such as an engine that serves no program any more.
    fn end_processes(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        // Again while there is something: one may have forked while the others were looked through.
        for _ in 0..ENDING_ROUNDS_MAX {
            let processes = self.processes();
            if processes.is_empty() {
                return;
            }
            for pid in processes {
                // SAFETY: kill() takes numbers only. The process is in a namespace that only this test uses.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// The processes that run in the namespace.
    fn processes(&self) -> Vec<libc::pid_t> {
        let Ok(own) = std::fs::metadata(format!("/proc/self/fd/{}", self.file.as_raw_fd())) else {
            return Vec::new();
        };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let inside = entries.filter(|process| {
            std::fs::metadata(process.path().join("ns/net"))
                .is_ok_and(|theirs| theirs.ino() == own.ino() && theirs.dev() == own.dev())
        });
        inside
            .filter_map(|process| process.file_name().to_str()?.parse().ok())
            .collect()
    }
}

fn check(result: libc::c_int) -> std::io::Result<()> {
    if result == -1 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

fn die_with_parent() -> std::io::Result<()> {
    // SAFETY: prctl with numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })
}

/// Two wires, addresses on both, and the routes that c-tests/host.h names. There is no default route, so that
/// "no route" exists; the peer announces its second address, so that MPTCP has a second path.
fn join(client: &Namespace, server: &Namespace) {
    for wire in 1..=2 {
        client.ip(&format!(
            "link add wire{wire} type veth peer name wire{wire} netns {}",
            server.holder.id()
        ));
    }
    for (host, number) in [(client, 1), (server, 2)] {
        host.ip("link set lo up");
        host.ip(&format!("address add 192.0.2.{number}/24 dev wire1"));
        host.ip(&format!("address add 198.51.100.{number}/24 dev wire2"));
        host.ip(&format!("address add 2001:db8:1::{number}/64 dev wire1 nodad"));
        host.ip(&format!("address add 2001:db8:2::{number}/64 dev wire2 nodad"));
        host.ip("link set wire1 up");
        host.ip("link set wire2 up");
    }
    client.ip("route add 203.0.113.0/25 via 192.0.2.2");
    client.ip("route add unreachable 203.0.113.201");
    client.ip("route add prohibit 203.0.113.202");
    server.ip("mptcp limits set subflows 8 add_addr_accepted 8");
    server.ip("mptcp endpoint add 198.51.100.2 dev wire2 signal");
}

//! One scenario, three runs, one output.

use crate::lab::{client_address, clock, library, server_address, stream, Host, Lab, LabSpec, Wire};
use rustix::process::{kill_process, Pid, Signal};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);
/// A command that takes longer is killed.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(90);
/// The engine stays for the whole run, so that its log is one.
const IDLE_MS: &str = "120000";

/// Where the program under test is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// On the server's host: the other host connects to it.
    Server,
    /// On the client's host: it connects to the other host.
    Client,
}

/// What the program runs under, and what its peer speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// No library, plain TCP.
    Without,
    /// The library, and the kernel's MPTCP.
    KernelPeer,
    /// The library, and plain TCP.
    PlainPeer,
}

/// One run of a scenario: two hosts, two wires of 100 Mbit/s and 5 ms, and a directory that goes with them.
pub struct Run {
    pub mode: Mode,
    pub lab: Lab,
    role: Role,
    directory: PathBuf,
}

/// A running program; killed when dropped.
pub struct Process {
    pub child: Child,
    output: PathBuf,
}

impl Process {
    /// What it has written so far, to standard output and error.
    pub fn output(&self) -> String {
        let bytes = fs::read(&self.output).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it lives");
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) {
        eventually("it ends", || self.child.try_wait().expect("a child").is_some());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What it has started is killed with the lab.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !condition() {
        assert!(clock::now() < deadline, "not in {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal to a process of a run.
pub fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a process id"), signal).expect("it lives");
}

/// Runs `scenario` in each mode and compares what it gives.
///
/// # Panics
/// Where outputs differ; where the kernel's MPTCP saw no join; where the engine carried nothing.
pub fn compare(role: Role, scenario: impl Fn(&Run) -> String) {
    compare_all(role, &[], Evidence::Join, scenario);
}

/// The same, the program under test being started by `launcher` (setpriv(1) and its arguments, say).
pub fn compare_as(role: Role, launcher: &[&str], scenario: impl Fn(&Run) -> String) {
    compare_all(role, launcher, Evidence::Join, scenario);
}

/// The same for servers that stop listening when they have accepted: the kernel refuses joins then, its own MPTCP's and ours.
pub fn compare_without_joins(role: Role, scenario: impl Fn(&Run) -> String) {
    compare_all(role, &[], Evidence::Connection, scenario);
}

/// What the kernel's MPTCP must have seen.
#[derive(Clone, Copy)]
enum Evidence {
    Connection,
    Join,
}

fn compare_all(role: Role, launcher: &[&str], evidence: Evidence, scenario: impl Fn(&Run) -> String) {
    let mut expected = None;
    for mode in [Mode::Without, Mode::KernelPeer, Mode::PlainPeer] {
        let run = Run::new(role, mode);
        if mode != Mode::Without {
            run.start_engine(launcher);
        }
        let said = scenario(&run);
        let expected = expected.get_or_insert_with(|| said.clone());
        if let Some(difference) = difference(expected, &said) {
            panic!("{mode:?}: {difference}\n{}", run.log());
        }
        run.check(evidence);
    }
}

/// The first line that is another; None where all are the same.
fn difference(expected: &str, said: &str) -> Option<String> {
    let (mut expected, mut said) = (expected.lines(), said.lines());
    for number in 1.. {
        match (expected.next(), said.next()) {
            (None, None) => return None,
            (one, other) if one == other => {}
            (one, other) => {
                let show = |line: Option<&str>| line.map_or("nothing".into(), |line| format!("{line:.200?}"));
                return Some(format!(
                    "line {number} is {}, without the library {}",
                    show(other),
                    show(one)
                ));
            }
        }
    }
    None
}

impl Run {
    fn new(role: Role, mode: Mode) -> Run {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let lab = Lab::new(LabSpec::new([Wire::new(100.0, 5.0); 2])).expect("a lab");
        if role == Role::Server {
            lab.kernel_paths().expect("the client's kernel has endpoints");
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mptcp-programs-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).expect("a directory");
        // Daemons write to it as users of their own.
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).expect("ours");
        Run {
            mode,
            lab,
            role,
            directory,
        }
    }

    /// Whether the program under test is a server.
    pub fn subject_serves(&self) -> bool {
        self.role == Role::Server
    }

    /// The host of the program under test.
    pub fn subject_host(&self) -> &Host {
        match self.role {
            Role::Server => self.lab.server(),
            Role::Client => self.lab.client(),
        }
    }

    /// The other host.
    pub fn peer_host(&self) -> &Host {
        match self.role {
            Role::Server => self.lab.client(),
            Role::Client => self.lab.server(),
        }
    }

    /// The address of the host under test on the first wire.
    pub fn subject_address(&self) -> String {
        match self.role {
            Role::Server => server_address(0, false).to_string(),
            Role::Client => client_address(0, false).to_string(),
        }
    }

    /// The other host's address on the first wire.
    pub fn peer_address(&self) -> String {
        match self.role {
            Role::Server => client_address(0, false).to_string(),
            Role::Client => server_address(0, false).to_string(),
        }
    }

    /// The client's address on the first wire: what servers see.
    pub fn connecting_address(&self) -> String {
        client_address(0, false).to_string()
    }

    /// The run's directory.
    pub fn directory(&self) -> String {
        self.directory.display().to_string()
    }

    /// A file's path in the directory.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Writes a file; its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        path
    }

    /// What a file has; nothing when there is none.
    pub fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A file of that many bytes of the lab's stream, named by their number.
    pub fn stream_file(&self, len: u64) -> String {
        let mut bytes = vec![0; len as usize];
        stream::fill(0, &mut bytes);
        let path = self.path(&len.to_string());
        fs::write(&path, bytes).expect("room");
        path
    }

    /// The program under test.
    pub fn subject(&self, words: &[&str]) -> Command {
        let mut command = self.subject_host().command("env");
        if self.mode != Mode::Without {
            command.arg(format!("LD_PRELOAD={}", library().display()));
        }
        self.prepare(command, words)
    }

    /// What it talks to.
    pub fn peer(&self, words: &[&str]) -> Command {
        let mut command = self.peer_host().command("env");
        if self.mode == Mode::KernelPeer {
            command.args(["mptcpize", "run"]);
        }
        self.prepare(command, words)
    }

    /// A command on the host under test that is not under test.
    pub fn helper(&self, words: &[&str]) -> Command {
        self.prepare(self.subject_host().command("env"), words)
    }

    fn prepare(&self, mut command: Command, words: &[&str]) -> Command {
        command.args(words).current_dir(&self.directory).stdin(Stdio::null());
        command.env_remove("MPTCP_LOG").env("LC_ALL", "C.UTF-8");
        command
    }

    /// Starts a server under test, and waits until it listens on `port`.
    pub fn serve(&self, port: u16, words: &[&str]) -> Process {
        self.start(self.subject_host(), port, self.subject(words))
    }

    /// Starts a server on the other host, and waits until it listens on `port`.
    pub fn serve_peer(&self, port: u16, words: &[&str]) -> Process {
        self.start(self.peer_host(), port, self.peer(words))
    }

    fn start(&self, host: &Host, port: u16, command: Command) -> Process {
        let mut process = self.spawn(command);
        let filter = format!("sport = :{port}");
        eventually("it listens", || {
            let ended = process.child.try_wait().expect("a child");
            // A daemon's first process ends well.
            assert!(ended.is_none_or(|status| status.success()), "{}", process.output());
            let listening = host.output("ss", &["-Hltn", &filter]).expect("ss(8) runs");
            !listening.trim().is_empty()
        });
        process
    }

    /// Starts a command, its output going to a file.
    pub fn spawn(&self, mut command: Command) -> Process {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("output-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let output = self.directory.join(name);
        let file = File::options().create(true).append(true).open(&output).expect("a file");
        command.stdout(file.try_clone().expect("a descriptor")).stderr(file);
        // Daemons signal their group.
        command.process_group(0);
        Process {
            child: command.spawn().expect("env(1) runs"),
            output,
        }
    }

    /// Runs a command to its end: what it says, errors too, and how it ends.
    pub fn output(&self, command: Command) -> String {
        let mut process = self.spawn(command);
        let deadline = clock::now() + COMMAND_TIME_MAX;
        let status = loop {
            if let Some(status) = process.child.try_wait().expect("a child") {
                break status.to_string();
            }
            if clock::now() > deadline {
                break format!("killed, it took longer than {COMMAND_TIME_MAX:?}");
            }
            thread::sleep(Duration::from_millis(10));
        };
        format!("{}[{status}]\n", process.output())
    }

    /// Runs the program under test to its end.
    pub fn run(&self, words: &[&str]) -> String {
        self.output(self.subject(words))
    }

    /// Runs a client on the other host to its end.
    pub fn ask(&self, words: &[&str]) -> String {
        self.output(self.peer(words))
    }

    /// Processes of this name on the host under test, those of the library aside.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        let own = self.subject_host().output("readlink", &["/proc/self/ns/net"]);
        let namespace = own.expect("a namespace");
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
            let link = fs::read_link(format!("/proc/{pid}/ns/net"));
            comm.is_ok_and(|comm| comm.trim() == name)
                && link.is_ok_and(|link| link.to_string_lossy() == namespace.trim())
        })
        .collect()
    }

    /// Starts the engine before the program does, so that it logs while the program's own output stays as it is.
    fn start_engine(&self, launcher: &[&str]) {
        let log = format!("MPTCP_LOG_FILE={}", self.path("engine.log"));
        let idle = format!("MPTCP_IDLE_MS={IDLE_MS}");
        let preload = format!("LD_PRELOAD={}", library().display());
        let connect = format!("exec 3<>/dev/tcp/{}/9", self.peer_address());
        let mut words = launcher.to_vec();
        words.extend(["env", "MPTCP_LOG=info", &log, &idle, &preload, "bash", "-c", &connect]);
        let command = self.subject_host().command("env");
        let refused = self.prepare(command, &words).output().expect("env(1) runs");
        assert!(!refused.status.success(), "the discard service runs");
        assert!(self.log().contains("serves as process"), "{refused:?}");
    }

    /// What the engine has written.
    pub fn log(&self) -> String {
        self.read("engine.log")
    }

    /// After the scenario: who spoke what.
    fn check(&self, evidence: Evidence) {
        let own = self.subject_host().nstat().expect("counters");
        let spoken = own
            .iter()
            .find(|(name, value)| name.starts_with("MPTcpExt") && **value > 0);
        assert_eq!(spoken, None, "the kernel of the host under test spoke MPTCP");
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        match self.mode {
            Mode::Without => {}
            Mode::KernelPeer => {
                // Answers that the kernel got to its own requests, or third segments of its peers'.
                let names = match evidence {
                    Evidence::Connection => ["MPTcpExtMPCapableSYNACKRX", "MPTcpExtMPCapableACKRX"],
                    Evidence::Join => ["MPTcpExtMPJoinSynAckRx", "MPTcpExtMPJoinAckRx"],
                };
                let counters = self.peer_host().nstat().expect("counters");
                let seen: u64 = names.iter().filter_map(|name| counters.get(*name)).sum();
                assert!(seen > 0, "none of {names:?}:\n{log}");
            }
            Mode::PlainPeer => assert!(log.contains("speaks plain TCP"), "{log}"),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

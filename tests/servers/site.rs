//! A lab whose server host runs programs under the library, and clients of each kind.

use crate::lab::{clock, library, server_address, stream, Holding, Lab, LabSpec, Wire};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// How long a condition may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Seconds after which a client gives up.
const CLIENT_TIME_MAX: &str = "30";

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    /// Kernel TCP on the other host.
    Plain,
    /// Kernel MPTCP on the other host.
    Kernel,
    /// The library on the other host.
    Library,
    /// Kernel TCP on the server's own host.
    Own,
}

/// Two hosts, two wires of 50 Mbit/s and 5 ms, and a directory that goes with them.
pub struct Site {
    pub lab: Lab,
    directory: PathBuf,
}

/// A running program; killed when dropped.
pub struct Server {
    pub child: Child,
    output: PathBuf,
}

impl Server {
    /// A program that was started otherwise, and the file that it writes to.
    pub fn of(child: Child, output: PathBuf) -> Server {
        Server { child, output }
    }

    /// What it has written so far, to standard output and error.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Ends it by SIGTERM and waits.
    pub fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        eventually("it ends", || self.child.try_wait().expect("a child").is_some());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Site {
    pub fn new() -> Site {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let lab = Lab::new(LabSpec::new([Wire::new(50.0, 5.0), Wire::new(50.0, 5.0)])).expect("a lab");
        lab.kernel_paths().expect("the client's kernel has endpoints");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mptcp-servers-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).expect("a directory");
        Site { lab, directory }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file of the lab's stream in the directory.
    pub fn stream_file(&self, len: u64) -> PathBuf {
        let path = self.directory.join(len.to_string());
        let mut file = File::create(&path).expect("a file");
        file.write_all(&bytes(len)).expect("room");
        path
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.join(name);
        fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    }

    /// A command on the server's host; with the library, unless `words` begin with other settings for it.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.lab.server().command("env");
        command
            .arg(format!("LD_PRELOAD={}", library().display()))
            .arg("MPTCP_LOG=info")
            .arg(format!("MPTCP_LOG_FILE={}", self.engine_log().display()))
            .args(words)
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        command
    }

    /// Every user's programs may use the directory.
    pub fn open_directory(&self) {
        fs::set_permissions(&self.directory, Permissions::from_mode(0o777)).expect("ours");
    }

    fn engine_log(&self) -> PathBuf {
        self.directory.join("engine.log")
    }

    /// What the engine has written.
    pub fn log(&self) -> String {
        fs::read_to_string(self.engine_log()).unwrap_or_default()
    }

    /// Starts a program under the library, and waits until it listens on `port`.
    pub fn serve(&self, port: u16, words: &[&str]) -> Server {
        self.start(port, self.command(words))
    }

    /// Starts a command, and waits until somebody listens on `port`.
    pub fn start(&self, port: u16, mut command: Command) -> Server {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("output-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let output = self.directory.join(name);
        let file = File::create(&output).expect("a file");
        command.stdout(file.try_clone().expect("a descriptor")).stderr(file);
        let mut server = Server {
            child: command.spawn().expect("env(1) runs"),
            output,
        };
        eventually("it listens", || {
            assert!(
                server.child.try_wait().expect("a child").is_none(),
                "{}",
                server.output()
            );
            self.listens(port)
        });
        server
    }

    /// Whether a kernel socket listens on this port of the server.
    pub fn listens(&self, port: u16) -> bool {
        let filter = format!("sport = :{port}");
        let listening = self.lab.server().output("ss", &["-Hltn", &filter]).expect("ss(8) runs");
        !listening.trim().is_empty()
    }

    /// Connections of clients' kernels with a port of the server.
    pub fn established(&self, port: u16) -> usize {
        let filter = format!("dport = :{port}");
        let words = ["-Htn", "state", "established", &filter];
        let sockets = self.lab.client().output("ss", &words).expect("ss(8) runs");
        sockets.lines().count()
    }

    /// What the server's engine holds.
    pub fn engine(&self) -> Holding {
        let mut engines = Holding::of(self.lab.server()).expect("/proc");
        engines.pop().expect("an engine")
    }

    /// A client's command, killed when it takes too long.
    pub fn client(&self, client: Client, words: &[&str]) -> Command {
        let host = match client {
            Client::Own => self.lab.server(),
            _ => self.lab.client(),
        };
        let mut command = host.command("timeout");
        command.args(["-k", "1", CLIENT_TIME_MAX]);
        match client {
            Client::Kernel => drop(command.args(["mptcpize", "run"])),
            Client::Library => drop(command.arg("env").arg(format!("LD_PRELOAD={}", library().display()))),
            Client::Plain | Client::Own => {}
        }
        command.args(words).stdin(Stdio::null());
        command
    }

    /// Fetches a file of `len` bytes of the stream.
    pub fn fetch(&self, client: Client, url: &str, len: u64) {
        let output = self.client(client, &["curl", "-sS", url]).output().expect("timeout(1)");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{client:?} {url}: {error}\n{}", self.log());
        assert_eq!(output.stdout.len() as u64, len, "{client:?} {url}");
        assert!(output.stdout == bytes(len), "{client:?} {url}: other bytes");
    }

    /// Fetches from every kind of client, and looks whether the client's kernel joined over the second wire.
    pub fn fetch_all(&self, port: u16, path: &str, len: u64) {
        let url = format!("http://{}:{port}{path}", server_address(0, false));
        self.fetch(Client::Plain, &url, len);
        let joins = self.joins();
        self.fetch(Client::Kernel, &url, len);
        assert_eq!(self.joins(), joins + 1, "{}", self.log());
        self.fetch(Client::Library, &url, len);
        self.fetch(Client::Own, &url, len);
        self.fetch(Client::Own, &format!("http://127.0.0.1:{port}{path}"), len);
    }

    /// Joins of the client's kernel that were answered. A connection of a few bytes is over before its join.
    pub fn joins(&self) -> u64 {
        let counter = self.lab.client().counter("MPTcpExtMPJoinSynAckRx");
        counter.expect("the kernel counts")
    }

    /// MPTCP connections of the client's kernel.
    pub fn mptcp(&self) -> u64 {
        let counter = self.lab.client().counter("MPTcpExtMPCapableSYNACKRX");
        counter.expect("the kernel counts")
    }

    /// MP_FASTCLOSEs that the client's kernel got.
    pub fn fastcloses(&self) -> u64 {
        let counter = self.lab.client().counter("MPTcpExtMPFastcloseRx");
        counter.expect("the kernel counts")
    }

    /// curl's exit code.
    pub fn curl_code(&self, client: Client, url: &str) -> Option<i32> {
        let output = self.client(client, &["curl", "-sS", "-m", "5", url]).output();
        output.expect("timeout(1) runs").status.code()
    }

    /// Processes of this name on the server's host.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        self.lab.server().processes(name).expect("/proc")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
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

/// The first bytes of the lab's stream.
pub fn bytes(len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    stream::fill(0, &mut bytes);
    bytes
}

/// SIGKILL.
pub fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
}

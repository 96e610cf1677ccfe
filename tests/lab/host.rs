//! A host of the lab: run commands in it, read its counters, start peers.

use super::namespace::Namespace;
use super::{clock, program, require_program};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What a peer's sockets speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// IPPROTO_MPTCP: the kernel's Multipath TCP.
    Mptcp,
    /// IPPROTO_TCP.
    Tcp,
}

impl Transport {
    /// As the program `lab` wants it: `mptcp` or `tcp`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Mptcp => "mptcp",
            Transport::Tcp => "tcp",
        }
    }
}

/// A host: a network namespace.
pub struct Host {
    namespace: Arc<Namespace>,
}

impl Host {
    /// The host in this namespace.
    pub(super) fn new(namespace: Namespace) -> Host {
        Host {
            namespace: Arc::new(namespace),
        }
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A command that runs on this host; as root there, if need be of a user namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace.command(program)
    }

    /// Runs `work` on a thread whose sockets are this host's.
    ///
    /// # Errors
    /// Where the lab runs without root (a process with threads cannot enter a user namespace): use `command` there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        self.namespace.run(work)
    }

    /// Runs a command and gives its standard output; fails with its standard error in one line.
    pub fn output(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> io::Result<String> {
        let output = self.command(program.as_ref()).args(arguments).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let why = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
        Err(io::Error::other(format!(
            "{:?} {arguments:?}: {}: {why}",
            program.as_ref(),
            output.status
        )))
    }

    /// Runs `ip` with these arguments.
    pub fn ip(&self, arguments: &[&str]) -> io::Result<()> {
        self.output("ip", arguments).map(|_| ())
    }

    /// The kernel's counters of this host by nstat's names (`MPTcpExtMPCapableSYNRX`, `TcpRetransSegs`), since the lab began.
    pub fn nstat(&self) -> io::Result<BTreeMap<String, u64>> {
        let text = self.output("cat", &["/proc/net/netstat", "/proc/net/snmp"])?;
        let mut lines = text.lines();
        let mut counters = BTreeMap::new();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let (mut names, mut values) = (names.split_whitespace(), values.split_whitespace());
            let group = names.next().unwrap_or_default().trim_end_matches(':');
            // The second line begins with the group's name too.
            values.next();
            for (name, value) in names.zip(values) {
                counters.insert(format!("{group}{name}"), value.parse().unwrap_or(0));
            }
        }
        Ok(counters)
    }

    /// One counter; 0 where the kernel does not have it.
    pub fn counter(&self, name: &str) -> io::Result<u64> {
        Ok(self.nstat()?.get(name).copied().unwrap_or(0))
    }

    /// Starts `lab SUBCOMMAND --transport … ARGUMENTS…` and waits until it listens.
    pub fn peer(&self, subcommand: &str, transport: Transport, arguments: &[&str]) -> io::Result<Peer> {
        let mut command = self.command(program()?);
        command
            .args([subcommand, "--transport", transport.name()])
            .args(arguments);
        Peer::start(command)
    }

    /// The server that `lab load` talks to, under a preloaded library.
    pub fn std_server(&self, library: &Path) -> io::Result<Peer> {
        let mut command = self.command(program()?);
        command.arg("std-server").env("LD_PRELOAD", library);
        Peer::start(command)
    }

    /// Processes of this name.
    pub fn processes(&self, name: &str) -> io::Result<Vec<i32>> {
        let own = self.output("readlink", &["/proc/self/ns/net"])?;
        let entries = fs::read_dir("/proc")?.flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let inside = |pid: &i32| {
            let named = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|text| text.trim() == name);
            let link = fs::read_link(format!("/proc/{pid}/ns/net"));
            named && link.is_ok_and(|link| link.to_string_lossy() == own.trim())
        };
        Ok(pids.filter(inside).collect())
    }

    /// An HTTP/1.1 server on all addresses: `GET /N` gives N bytes of the lab's stream, `PUT` and `POST` answer with count and SHA-256,
    /// `/slow/N` and `/reset/N` do what they say. Arguments: `--port N` (default: any free one), `--congestion NAME`.
    pub fn http_server(&self, transport: Transport, arguments: &[&str]) -> io::Result<Peer> {
        self.peer("http-server", transport, arguments)
    }

    /// nginx with TLS and HTTP/2 and a certificate made on the spot: `GET /BYTES` gives that many bytes of the stream.
    pub fn https_server(&self, transport: Transport, bytes: u64) -> io::Result<Peer> {
        self.peer(
            "https-server",
            transport,
            &["--port", "443", "--bytes", &bytes.to_string()],
        )
    }

    /// A command whose TCP sockets are made the kernel's MPTCP by Debian's mptcpize.
    ///
    /// # Errors
    /// One line that names the package when mptcpize is missing.
    pub fn mptcpize(&self, program: impl AsRef<OsStr>) -> io::Result<Command> {
        let mptcpize = require_program("mptcpize", "mptcpize").map_err(io::Error::other)?;
        let mut command = self.command(mptcpize);
        command.arg("run").arg(program);
        Ok(command)
    }

    /// Accepts connections, reads them to the end, reports each.
    pub fn sink(&self, transport: Transport, arguments: &[&str]) -> io::Result<Peer> {
        self.peer("sink", transport, arguments)
    }

    /// Accepts connections and sends each `--bytes N` of the lab's stream.
    pub fn source(&self, transport: Transport, arguments: &[&str]) -> io::Result<Peer> {
        self.peer("source", transport, arguments)
    }

    /// Fetches a path from an HTTP server over kernel sockets, to the end; `lab get`.
    pub fn get(&self, transport: Transport, server: SocketAddr, path: &str) -> io::Result<Report> {
        let server = server.to_string();
        let output = self.output(program()?, &["get", "--transport", transport.name(), &server, path])?;
        Ok(serde_json::from_str(&output)?)
    }
}

/// What a peer or the reader saw of one stream of bytes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Bytes of payload.
    pub bytes: u64,
    /// Of these bytes, in hex.
    pub sha256: String,
    /// From the beginning to the end, seconds.
    pub seconds: f64,
    /// The longest time between two reads that gave something, ms.
    pub longest_silence_ms: f64,
    /// Why the stream ended, if not by end of file.
    pub error: Option<String>,
}

/// A running peer; killed when dropped.
pub struct Peer {
    child: Child,
    /// The port that it listens on.
    pub port: u16,
    reports: Mutex<Receiver<String>>,
}

impl Peer {
    /// Starts a command that prints `{"port":N}` when it listens and then a report a line.
    pub fn start(mut command: Command) -> io::Result<Peer> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let (sender, reports) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut peer = Peer {
            child,
            port: 0,
            reports: Mutex::new(reports),
        };
        let first: Value = serde_json::from_str(&peer.next_line(Duration::from_secs(10))?)?;
        let port = first["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        peer.port = port.ok_or_else(|| io::Error::other(format!("the peer said {first}")))?;
        Ok(peer)
    }

    fn next_line(&self, timeout: Duration) -> io::Result<String> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.recv_timeout(timeout).map_err(|e| match e {
            RecvTimeoutError::Timeout => io::Error::new(io::ErrorKind::TimedOut, "no report from the peer"),
            RecvTimeoutError::Disconnected => io::Error::other("the peer died"),
        })
    }

    /// The next report: of a connection (sink) or of an upload (HTTP server).
    pub fn report(&self, timeout: Duration) -> io::Result<Report> {
        Ok(serde_json::from_str(&self.next_line(timeout)?)?)
    }

    /// The peer's address on a host address.
    pub fn at(&self, address: IpAddr) -> SocketAddr {
        SocketAddr::new(address, self.port)
    }

    /// `http://ADDRESS:PORT` and the path.
    pub fn url(&self, address: IpAddr, path: &str) -> String {
        format!("http://{}{path}", self.at(address))
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may be dead already, by the lab's end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a child, but not for ever: kills it after `timeout`.
pub fn wait_timeout(child: &mut Child, timeout: Duration) -> io::Result<ExitStatus> {
    let deadline = clock::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if clock::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("killed after {timeout:?}"),
            ));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

//! Programs under the library, in a lab, against the kernel's peers: what transfers, handovers, middleboxes and comparisons share.
//!
//! A test that fails prints what the engine logged, the kernels' MPTCP and TCP counters and the wires' counters. Every wait ends.
#![allow(dead_code, unused_imports, reason = "every test uses its own part")]

#[path = "../lab/mod.rs"]
pub mod lab;
pub mod probe;

pub use lab::*;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// No transfer of these tests takes longer, however slow the machine; a program that still runs then is killed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A lab whose client runs programs under the library.
pub struct Site {
    lab: Lab,
    directory: PathBuf,
}

impl Site {
    /// A lab with these wires and CUBIC servers.
    pub fn new(wires: impl Into<Vec<Wire>>) -> Site {
        Site::with(LabSpec::new(wires))
    }

    /// A lab made to order.
    pub fn with(spec: LabSpec) -> Site {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        for (program, package) in [("curl", "curl"), ("mptcpize", "mptcpize")] {
            require_program(program, package).unwrap_or_else(|why| panic!("{why}"));
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("interop-{}-{number}", std::process::id());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).expect("target/tmp is writable");
        Site {
            lab: Lab::new(spec).unwrap_or_else(|e| panic!("no lab: {e}")),
            directory,
        }
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// An HTTP server on port 80 of the server's host.
    pub fn http(&self, transport: Transport) -> Peer {
        let peer = self.lab.server().http_server(transport, &["--port", "80"]);
        peer.expect("the HTTP server starts")
    }

    /// A file of this site's own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A file with the first `len` bytes of the lab's stream.
    pub fn stream_file(&self, len: u64) -> PathBuf {
        let path = self.file(&format!("stream-{len}"));
        let mut stream = Command::new(program().expect("the lab's program"));
        stream.args(["stream", &len.to_string()]);
        let file = fs::File::create(&path).expect("a file");
        assert!(stream.stdout(file).status().expect("it starts").success());
        path
    }

    /// A program on the client's host under the library. The library's log is on: lines of the shim begin with `mptcp[`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.lab.client().command(program);
        command
            .env("LD_PRELOAD", library())
            .env("MPTCP_LOG", "info")
            .env("MPTCP_LOG_FILE", self.file("engine.log"))
            .stdin(Stdio::null());
        command
    }

    /// `curl` under the library.
    pub fn curl(&self, arguments: &[&str]) -> Command {
        let mut curl = self.command("curl");
        curl.args(["-sS", "--max-time", "60"]).args(arguments);
        curl
    }

    /// `curl` over the kernel's MPTCP.
    pub fn kernel_curl(&self, arguments: &[&str]) -> Command {
        let mut curl = self.lab.client().mptcpize("curl").expect("mptcpize is installed");
        curl.args(["-sS", "--max-time", "60"]).args(arguments);
        curl
    }

    /// What the engine has logged so far.
    pub fn engine_log(&self) -> String {
        fs::read_to_string(self.file("engine.log")).unwrap_or_default()
    }

    /// Process id of the engine that serves now.
    pub fn engine_pid(&self) -> i32 {
        let log = self.engine_log();
        let pid = log
            .rsplit("serves as process ")
            .next()
            .and_then(|rest| rest.lines().next());
        pid.and_then(|pid| pid.trim().parse().ok())
            .expect("an engine has said that it serves")
    }

    /// Bytes of whole frames that a wire has delivered to the client.
    pub fn delivered(&self, wire: usize) -> u64 {
        self.lab.wire(wire).stats().expect("counters").to_client.bytes_out
    }

    /// Bytes of whole frames that a wire has delivered to the server.
    pub fn sent(&self, wire: usize) -> u64 {
        self.lab.wire(wire).stats().expect("counters").to_server.bytes_out
    }

    /// The client's kernel spoke no MPTCP: the library did.
    pub fn assert_kernel_client_idle(&self) {
        let counters = self.lab.client().nstat().expect("counters");
        let busy: Vec<_> = mptcp_counters(&counters).collect();
        assert!(busy.is_empty(), "the client's kernel spoke MPTCP: {busy:?}");
    }

    /// The server accepted this many MPTCP connections and at least so many joins, and gave MPTCP up on none.
    pub fn assert_server_mptcp(&self, connections: u64, joins_min: u64) {
        let counters = self.lab.server().nstat().expect("counters");
        let value = |name: &str| counters.get(name).copied().unwrap_or(0);
        assert_eq!(value("MPTcpExtMPCapableACKRX"), connections, "MPTCP connections");
        assert!(value("MPTcpExtMPJoinAckRx") >= joins_min, "joins");
        let given_up: Vec<_> = mptcp_counters(&counters)
            .filter(|(name, _)| name.contains("Fallback") || name.contains("InfiniteMap"))
            .collect();
        assert!(given_up.is_empty(), "the server gave MPTCP up: {given_up:?}");
    }
}

/// The kernel's MPTCP counters that are not zero.
fn mptcp_counters(counters: &std::collections::BTreeMap<String, u64>) -> impl Iterator<Item = (&str, u64)> {
    let named = counters.iter().map(|(name, &value)| (name.as_str(), value));
    named.filter(|&(name, value)| name.starts_with("MPTcpExt") && value != 0)
}

impl Drop for Site {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- engine log\n{}---", self.engine_log());
            for (name, host) in [("client", self.lab.client()), ("server", self.lab.server())] {
                let counters = host.nstat().unwrap_or_default();
                let told = |name: &str| {
                    name.starts_with("MPTcpExt") || ["TcpRetransSegs", "TcpOutRsts", "TcpEstabResets"].contains(&name)
                };
                let busy = counters.iter().filter(|(name, &value)| value != 0 && told(name));
                eprintln!("--- {name}: {:?}", busy.collect::<Vec<_>>());
            }
            for wire in 0..WIRES_MAX {
                if let Ok(stats) = self.lab.wire(wire).stats() {
                    eprintln!("--- wire {wire}: {stats:?}");
                }
            }
        }
        // Left for the next `cargo clean` where it fails.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error without the library's own lines.
    pub stderr: String,
}

/// Runs a program to its end; kills it after `PATIENCE`.
pub fn run(command: Command) -> Outcome {
    Running::start(command).finish()
}

/// A program under way; killed when dropped.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Starts it, with its output collected.
    pub fn start(mut command: Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
        Running {
            stdout: child.stdout.take().map(collect),
            stderr: child.stderr.take().map(collect),
            child,
        }
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Outcome {
        let status = host::wait_timeout(&mut self.child, PATIENCE);
        let stdout = joined(&mut self.stdout);
        let stderr = without_log(&joined(&mut self.stderr));
        match status {
            Ok(status) => Outcome { status, stdout, stderr },
            Err(e) => panic!("the program did not end: {e}; it said {stderr}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the test failed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is what there is.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

fn joined(output: &mut Option<JoinHandle<Vec<u8>>>) -> Vec<u8> {
    output.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
}

/// The program's own lines.
fn without_log(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let own = text.split_inclusive('\n').filter(|line| !line.starts_with("mptcp["));
    own.collect()
}

/// A download under way: a program whose standard output a reader counts, hashes and times.
pub struct Download {
    curl: Running,
    reader: Running,
}

impl Download {
    /// Starts the program and the reader.
    pub fn start(mut command: Command) -> Download {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
        let body = child.stdout.take().expect("it was asked for");
        let stderr = child.stderr.take().map(collect);
        let mut reader = Command::new(program().expect("the lab's program"));
        let reader = reader.arg("reader").stdin(body).stdout(Stdio::piped()).spawn();
        let mut reader = reader.expect("the reader starts");
        Download {
            curl: Running {
                child,
                stdout: None,
                stderr,
            },
            reader: Running {
                stdout: reader.stdout.take().map(collect),
                stderr: None,
                child: reader,
            },
        }
    }

    /// Waits for the end: how the program ended, and the reader's report.
    pub fn finish(self) -> (Outcome, Report) {
        let outcome = self.curl.finish();
        let report = self.reader.finish();
        let report = serde_json::from_slice(&report.stdout).expect("the reader reports");
        (outcome, report)
    }

    /// Waits for the end and checks that all bytes of the lab's stream came.
    pub fn expect_stream(self, len: u64) -> Report {
        let (outcome, report) = self.finish();
        assert!(
            outcome.status.success(),
            "{}: {} after {} bytes",
            outcome.status,
            outcome.stderr,
            report.bytes
        );
        assert_eq!(
            (report.bytes, report.sha256.as_str()),
            (len, stream::sha256(len).as_str())
        );
        report
    }
}

/// What the server said about an upload must name all bytes of the lab's stream.
pub fn assert_uploaded(outcome: &Outcome, len: u64) {
    assert!(outcome.status.success(), "{}: {}", outcome.status, outcome.stderr);
    let report: Report = serde_json::from_slice(&outcome.stdout)
        .unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&outcome.stdout)));
    assert_eq!((report.bytes, report.sha256), (len, stream::sha256(len)));
}

/// Waits until `condition` holds; fails the test when it never does.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !condition() {
        assert!(clock::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// `LEN` bytes of the stream by HTTP from the server's address on the first wire.
pub fn url(len: u64) -> String {
    format!("http://{}/{len}", server_address(0, false))
}

/// Mbit/s of payload.
pub fn mbit(report: &Report) -> f64 {
    report.bytes as f64 * 8e-6 / report.seconds
}

/// A figure for people, shown by `cargo test -- --nocapture`.
pub fn figure(text: &str) {
    // Not println: the test harness would hide it in a test that passes.
    let _ = writeln!(std::io::stderr().lock(), "figure: {text}");
}

//! A lab with a kernel MPTCP web server, and the ways to run programs in it: with the library and without.

use crate::lab::{clock, library, server_address, stream, Lab, LabSpec, Peer, Transport, Wire};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// Seconds after which a program is killed.
const PROGRAM_TIME_MAX: &str = "40";
/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who carries a program's connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The kernel: no library.
    Kernel,
    /// The library decides.
    Library,
}

impl By {
    /// The reference first.
    pub const BOTH: [By; 2] = [By::Kernel, By::Library];
}

/// Two hosts, two wires of 50 Mbit/s and 5 ms, a web server on port 80.
pub struct Site {
    pub lab: Lab,
    pub http: Peer,
    log: PathBuf,
}

/// How a program ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    /// Without the library's lines.
    pub stderr: String,
    /// The library's lines.
    pub log: String,
}

impl Ended {
    /// The engine took a connection of this program's.
    pub fn used_engine(&self) -> bool {
        self.log.contains(" by engine ")
    }

    fn from_output(output: &Output) -> Ended {
        let text = String::from_utf8_lossy(&output.stderr);
        let (log, stderr): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("mptcp["));
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: stderr.join("\n"),
            log: log.join("\n"),
        }
    }
}

impl Site {
    pub fn new() -> Site {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let lab = Lab::new(LabSpec::new([Wire::new(50.0, 5.0), Wire::new(50.0, 5.0)])).expect("a lab");
        let http = lab
            .server()
            .http_server(Transport::Mptcp, &["--port", "80"])
            .expect("a web server");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("mptcp-rules-{}-{number}.log", std::process::id()));
        Site { lab, http, log }
    }

    /// `http://` and the server's address on the first wire.
    pub fn url(&self, path: &str) -> String {
        self.http.url(server_address(0, false), path)
    }

    /// A command on the client host, killed when it takes too long. `words` are settings (`NAME=value`), then the program.
    pub fn command(&self, by: By, words: &[&str]) -> Command {
        let mut command = self.lab.client().command("timeout");
        command.args(["-k", "1", PROGRAM_TIME_MAX, "env"]);
        if by == By::Library {
            command.arg(format!("LD_PRELOAD={}", library().display()));
            command.arg(format!("MPTCP_LOG_FILE={}", self.log.display()));
            command.arg("MPTCP_LOG=info");
        }
        command.args(words).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, by: By, words: &[&str]) -> Ended {
        let output = self.command(by, words).output().expect("timeout(1) runs");
        Ended::from_output(&output)
    }

    /// Starts it; [`finish`] takes it.
    pub fn start(&self, by: By, words: &[&str]) -> std::process::Child {
        let mut command = self.command(by, words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("timeout(1) runs")
    }

    /// Fetches `len` bytes by curl with more words before it, and checks them.
    pub fn download(&self, before: &[&str], url: &str, len: u64) -> Ended {
        let script = format!("set -o pipefail; curl -sS {url} | sha256sum | cut -d' ' -f1");
        let ended = self.run(By::Library, &[before, &["bash", "-c", &script]].concat());
        assert_eq!(
            (ended.code, ended.stdout.trim()),
            (Some(0), stream::sha256(len).as_str()),
            "{url}: {ended:?}"
        );
        ended
    }

    /// Sends `len` bytes by curl to the web server, and checks what came.
    pub fn upload(&self, len: u64) -> Ended {
        let file = self.log.with_extension("upload");
        let mut bytes = vec![0; len as usize];
        stream::fill(0, &mut bytes);
        fs::write(&file, bytes).expect("a file to send");
        let ended = self.run(
            By::Library,
            &["curl", "-sS", "-T", &file.to_string_lossy(), &self.url("/x")],
        );
        fs::remove_file(&file).expect("it was there");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains(&stream::sha256(len)), "{ended:?}");
        ended
    }

    /// Replaces the client's packet filter by one chain.
    pub fn nft(&self, hook: &str, rules: &[&str]) {
        let rules = rules.join("\n");
        let text = format!("flush ruleset\ntable inet t {{\nchain c {{\ntype {hook};\n{rules}\n}}\n}}\n");
        let file = self.log.with_extension("nft");
        fs::write(&file, &text).expect("a file of rules");
        let loaded = self.lab.client().output("nft", &["-f", &file.to_string_lossy()]);
        fs::remove_file(&file).expect("it was there");
        loaded.unwrap_or_else(|error| panic!("{text}{error}"));
    }

    /// `ip WORDS` on the client host.
    pub fn ip(&self, words: &str) {
        let words: Vec<&str> = words.split(' ').collect();
        self.lab.client().ip(&words).expect("ip(8) succeeds");
    }

    /// Bytes that the wire carried to the client.
    pub fn carried(&self, wire: usize) -> u64 {
        self.lab.wire(wire).stats().expect("counters").to_client.bytes_out
    }

    /// Segments that the client sent by the wire.
    pub fn tcp_sent(&self, wire: usize) -> u64 {
        self.lab.wire(wire).stats().expect("counters").to_server.tcp_in
    }

    /// The engines' log.
    pub fn engine_log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Processes of engines on the client host.
    pub fn engines(&self) -> Vec<i32> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let ours = self
            .lab
            .client()
            .run(|| namespace("thread-self"))
            .expect("a thread there");
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let engines = names.filter(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "mptcp-engine" && namespace(pid) == ours
        });
        engines.filter_map(|pid| pid.parse().ok()).collect()
    }

    /// The one engine there is, once those that came second have gone.
    pub fn engine(&self) -> i32 {
        let mut engines = Vec::new();
        wait_until("there is one engine", || {
            engines = self.engines();
            engines.len() == 1
        });
        engines[0]
    }

    /// Sends a signal to a process that this test caused.
    pub fn signal(pid: i32, signal: i32) {
        // SAFETY: kill() takes numbers only.
        unsafe { libc::kill(pid, signal) };
    }

    /// Kills the engines, and waits until they are gone.
    pub fn kill_engines(&self) {
        for pid in self.engines() {
            Site::signal(pid, libc::SIGKILL);
        }
        wait_until("the engines are gone", || self.engines().is_empty());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the engines' log:\n{}", self.engine_log());
        }
        let _ = fs::remove_file(&self.log);
    }
}

/// The end of a program that [`Site::start`] started.
pub fn finish(child: std::process::Child) -> Ended {
    Ended::from_output(&child.wait_with_output().expect("it is our child"))
}

/// Waits until `condition` holds; fails the test when it never does.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !condition() {
        assert!(clock::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

//! A client's namespace wired to a server's, and programs run in the first, with and without libmptcp.so.

use crate::netns::Netns;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

const CLIENT: &str = "192.0.2.1";
const SERVER: &str = "192.0.2.2";

/// How a program is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    /// Without us.
    Plain,
    /// With LD_PRELOAD.
    Preloaded,
    /// With LD_PRELOAD and MPTCP=off.
    Off,
}

/// What a program did.
#[derive(Debug)]
pub struct Outcome {
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub status: ExitStatus,
}

impl Outcome {
    /// Connections that the engine carried, by the shim's own log.
    pub fn carried(&self) -> usize {
        self.stderr.matches("established by engine").count() + self.stderr.matches("handshake begun by engine").count()
    }
}

/// Two hosts and a server.
pub struct Host {
    client: Netns,
    port: u16,
    scratch: PathBuf,
    _server: Netns,
}

impl Host {
    pub fn new() -> Host {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "shim-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir_all(&scratch).expect("a scratch directory");
        let (client, server) = (Netns::new(), Netns::new());
        client.wire("eth0", &server, "eth0");
        client.ip(&format!("addr add {CLIENT}/24 dev eth0"));
        server.ip(&format!("addr add {SERVER}/24 dev eth0"));
        let listener = server.run(|| TcpListener::bind((SERVER, 0)).expect("a listener"));
        let port = listener.local_addr().expect("it has an address").port();
        thread::spawn(move || serve(&listener));
        Host {
            client,
            port,
            scratch,
            _server: server,
        }
    }

    /// A directory of this host's own.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Runs a scenario of program.c to its end.
    pub fn run(&self, run: Run, scenario: &str, more: &[&str]) -> Outcome {
        finish(self.spawn(run, scenario, more))
    }

    /// Starts a scenario of program.c.
    pub fn spawn(&self, run: Run, scenario: &str, more: &[&str]) -> Child {
        let mut command = Command::new(program());
        command.args([scenario, SERVER, &self.port.to_string()]).args(more);
        self.start(run, command)
    }

    /// Runs curl on a path of the server.
    pub fn curl(&self, run: Run, path: &str) -> Outcome {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20"]);
        command.arg(format!("http://{SERVER}:{}{path}", self.port));
        finish(self.start(run, command))
    }

    fn start(&self, run: Run, mut command: Command) -> Child {
        // Whatever the caller's environment says about us is not this test's.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MPTCP")) {
            command.env_remove(name);
        }
        if run != Run::Plain {
            command.env("LD_PRELOAD", library()).env("MPTCP_LOG", "info");
            command.env("MPTCP_LINK", "kernel").env("MPTCP_IDLE_MS", "500");
        }
        if run == Run::Off {
            command.env("MPTCP", "off");
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.client.run(move || command.spawn().expect("the program starts"))
    }

    /// Kills the engines of this client's namespace with SIGKILL; there must be one.
    pub fn kill_engine(&self) {
        let own = self
            .client
            .run(|| std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace"));
        let mut killed = 0;
        for entry in std::fs::read_dir("/proc").expect("proc is mounted").flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            let is_engine =
                std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm == "mptcp-engine\n");
            if is_engine && std::fs::read_link(entry.path().join("ns/net")).is_ok_and(|ns| ns == own) {
                // SAFETY: an engine in the namespace that this test made.
                assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
                killed += 1;
            }
        }
        assert_eq!(killed, 1, "one engine serves this namespace");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Only files of this test; what cannot be removed lies in target/.
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

/// Waits for the end, at most half a minute.
fn finish(mut child: Child) -> Outcome {
    let pid = child.id() as i32;
    let mut pipes = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (done, watch) = std::sync::mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if watch.recv_timeout(Duration::from_secs(30)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            // SAFETY: our own child, not waited for before the channel is closed.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    });
    let errors = thread::spawn(move || {
        let mut stderr = String::new();
        pipes.1.read_to_string(&mut stderr).map(|_| stderr)
    });
    let mut stdout = Vec::new();
    pipes.0.read_to_end(&mut stdout).expect("output");
    let stderr = errors.join().expect("no panic").expect("messages in UTF-8");
    drop(done);
    watchdog.join().expect("no panic");
    let status = child.wait().expect("it ends");
    Outcome { stdout, stderr, status }
}

/// `hello` is answered by `world`, `reset` by a RST, an HTTP request by as many bytes as its path says.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            // The client may leave at any time: that ends the conversation.
            let _ = converse(stream);
        });
    }
}

fn converse(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if line == "hello\n" {
        stream.write_all(b"world\n")?;
    } else if line == "reset\n" {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        let len = size_of::<libc::linger>() as libc::socklen_t;
        // SAFETY: the structure is readable for its length.
        let set = unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                len,
            )
        };
        assert_eq!(set, 0);
    } else if let Some(rest) = line.strip_prefix("GET /") {
        let size = rest.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let body: Vec<u8> = (0..size).map(|i: usize| (i % 251) as u8).collect();
        write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {size}\r\n\r\n")?;
        stream.write_all(&body)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        std::io::copy(&mut reader, &mut std::io::sink())?;
    }
    Ok(())
}

/// program.c, compiled once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shim-program-{}", std::process::id()));
        let status = Command::new("cc")
            .args([
                "-std=gnu11",
                "-O2",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-D_FORTIFY_SOURCE=2",
                "-pthread",
                "-o",
            ])
            .arg(&program)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/program.c"))
            .status()
            .expect("a C compiler (cc) is installed");
        assert!(status.success(), "program.c does not compile");
        program
    })
}

/// `libmptcp.so`: what `MPTCP_LIB` names, or else built here as `make` builds it, without optimisation.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("MPTCP_LIB") {
            return std::fs::canonicalize(path).expect("MPTCP_LIB names a library");
        }
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("target/tmp lies in target");
        let status = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args([
                "rustc",
                "--quiet",
                "--lib",
                "--crate-type",
                "cdylib",
                "--features",
                "preload",
                "--target-dir",
            ])
            .arg(target)
            .args(["--", "-C", "link-arg=-Wl,-e,mptcp_entry"])
            .status()
            .expect("cargo runs");
        assert!(status.success(), "libmptcp.so does not build");
        target.join("debug/libmptcp.so")
    })
}

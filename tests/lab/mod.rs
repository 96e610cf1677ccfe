//! The lab: two hosts in network namespaces, wires between them with an emulator of our own, middleboxes, and peers on kernel sockets.
//! This is the handle that tests hold; the work is done by the program `lab` (`program.rs`, a Cargo example), one `lab hold` process a lab.
//!
//! ```no_run
//! let lab = Lab::new(LabSpec::new([Wire::new(50.0, 10.0), Wire::new(50.0, 10.0)])).unwrap();
//! let http = lab.server().http_server(Transport::Mptcp, &[]).unwrap();
//! let url = http.url(server_address(0, false), "/1000000");
//! let output = lab.client().command("curl").args(["-s", &url]).output().unwrap();
//! lab.wire(0).cut().unwrap();
//! ```
//!
//! Addresses: see `spec::client_address` and its neighbours. Several labs run at once without knowing of each other. When a lab is dropped, or
//! its test dies by any signal, every process inside is killed and nothing is left: the namespaces have no names. Without root the lab makes
//! itself a user namespace; where that is refused, `Lab::new` fails with one line that says so.
#![allow(dead_code, unused_imports, reason = "every test uses its own part of the lab")]

pub mod cgroup;
pub mod channel;
pub mod clock;
pub mod holding;
pub mod host;
pub mod library;
pub mod namespace;
pub mod spec;
pub mod stream;

pub use cgroup::Cgroup;
pub use holding::{Holding, Talking};
pub use host::{Host, Peer, Report, Transport};
pub use library::library;
pub use spec::*;

use channel::Channel;
use namespace::Namespace;
use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// No request takes the holder this long.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

/// Two hosts and their wires.
pub struct Lab {
    /// Dropped explicitly first: its end of file tells the holder to clean up.
    control: Mutex<Option<Channel>>,
    holder: Child,
    wire_count: usize,
    client: Host,
    server: Host,
}

impl Lab {
    /// Makes a lab.
    ///
    /// # Errors
    /// One line: no privilege and no user namespaces, a missing program and its Debian package, or what the kernel refused.
    pub fn new(spec: LabSpec) -> io::Result<Lab> {
        let (control, other_end) = Channel::pair()?;
        control.set_timeout(REPLY_TIMEOUT)?;
        let holder = Command::new(program()?)
            .arg("hold")
            .stdin(Stdio::from(other_end.into_fd()))
            .spawn()?;
        let mut holder = Reaped(Some(holder));
        let wire_count = spec.wires.len();
        control.send(&Request::Make(spec), &[])?;
        let (reply, fds) = control
            .receive()?
            .ok_or_else(|| io::Error::other("the lab's holder died"))?;
        let user_namespace = match reply {
            Reply::Ready { user_namespace } => user_namespace,
            Reply::Failed(why) => return Err(io::Error::other(why)),
            other => return Err(io::Error::other(format!("the lab's holder answered {other:?}"))),
        };
        let mut fds = fds.into_iter();
        let user = if user_namespace { fds.next() } else { None };
        let (Some(client), Some(server)) = (fds.next(), fds.next()) else {
            return Err(io::Error::other("the lab's holder sent too few descriptors"));
        };
        let owner = user.as_ref().map(|fd| fd.try_clone()).transpose()?;
        Ok(Lab {
            wire_count,
            client: Host::new(Namespace { net: client, user }),
            server: Host::new(Namespace {
                net: server,
                user: owner,
            }),
            control: Mutex::new(Some(control)),
            holder: holder.0.take().ok_or_else(|| io::Error::other("no holder"))?,
        })
    }

    /// The host with the program under test.
    pub fn client(&self) -> &Host {
        &self.client
    }

    /// The host with the peer.
    pub fn server(&self) -> &Host {
        &self.server
    }

    /// The `index`th wire.
    pub fn wire(&self, index: usize) -> WireHandle<'_> {
        WireHandle { lab: self, index }
    }

    /// Process id of the holder.
    pub fn holder_pid(&self) -> u32 {
        self.holder.id()
    }

    /// Lets the client's kernel open subflows from its addresses on all wires but the first, as the reference (`ip mptcp endpoint`).
    pub fn kernel_paths(&self) -> io::Result<()> {
        for wire in 1..self.wire_count {
            for v6 in [false, true] {
                let address = client_address(wire, v6).to_string();
                self.client
                    .ip(&["mptcp", "endpoint", "add", &address, "dev", &interface(wire), "subflow"])?;
            }
        }
        Ok(())
    }

    /// Lets the server's kernel announce its address on a wire by ADD_ADDR.
    pub fn announce(&self, wire: usize, v6: bool) -> io::Result<()> {
        let address = server_address(wire, v6).to_string();
        self.server
            .ip(&["mptcp", "endpoint", "add", &address, "dev", &interface(wire), "signal"])
    }

    fn request(&self, request: &Request) -> io::Result<Reply> {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let control = control.as_ref().ok_or_else(|| io::Error::other("the lab is gone"))?;
        control.send(request, &[])?;
        match control.receive()? {
            Some((Reply::Failed(why), _)) => Err(io::Error::other(why)),
            Some((reply, _)) => Ok(reply),
            None => Err(io::Error::other("the lab's holder died")),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The holder kills what runs inside when the channel ends.
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = None;
        wait_or_kill(&mut self.holder, Duration::from_secs(5));
        // Only needed if the holder itself was killed.
        namespace::kill_processes_inside(&[self.client.namespace(), self.server.namespace()]);
    }
}

/// A child that does not outlive a failed `Lab::new`.
struct Reaped(Option<Child>);

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            wait_or_kill(child, Duration::from_secs(1));
        }
    }
}

/// Waits for a child to end by itself, then no longer.
fn wait_or_kill(child: &mut Child, patience: Duration) {
    let deadline = clock::now() + patience;
    while let Ok(None) = child.try_wait() {
        if clock::now() > deadline {
            // It may have ended just now; then there is nothing to kill and wait() returns at once.
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A wire of a lab. All changes hold for frames that come later.
pub struct WireHandle<'a> {
    lab: &'a Lab,
    index: usize,
}

impl WireHandle<'_> {
    /// Drops everything both ways, silently; the links stay up. What is under way is lost too.
    pub fn cut(&self) -> io::Result<()> {
        self.done(Request::Cut {
            wire: self.index,
            cut: true,
        })
    }

    /// Ends a cut.
    pub fn mend(&self) -> io::Result<()> {
        self.done(Request::Cut {
            wire: self.index,
            cut: false,
        })
    }

    /// Takes the carrier away from both hosts' interfaces, or gives it back.
    pub fn set_carrier(&self, up: bool) -> io::Result<()> {
        self.done(Request::Carrier { wire: self.index, up })
    }

    /// Other rate, delay, loss and so on.
    pub fn set(&self, to: Wire) -> io::Result<()> {
        self.done(Request::Set { wire: self.index, to })
    }

    /// These boxes instead of those before, the first one nearest to the client; none with `[]`.
    pub fn middleboxes(&self, boxes: impl Into<Vec<Middlebox>>) -> io::Result<()> {
        self.done(Request::Middleboxes {
            wire: self.index,
            boxes: boxes.into(),
        })
    }

    /// Writes a pcap file of what the client sees of this wire from now on, until `None` or the lab's end completes it.
    pub fn capture(&self, path: Option<&Path>) -> io::Result<()> {
        let path = path.map(std::path::absolute).transpose()?;
        self.done(Request::Capture { wire: self.index, path })
    }

    /// Counters of both directions.
    pub fn stats(&self) -> io::Result<WireStats> {
        match self.lab.request(&Request::Stats { wire: self.index })? {
            Reply::Stats(stats) => Ok(stats),
            other => Err(io::Error::other(format!("the lab's holder answered {other:?}"))),
        }
    }

    fn done(&self, request: Request) -> io::Result<()> {
        self.lab.request(&request).map(|_| ())
    }
}

/// The program `lab`, up to date: `cargo test --test NAME` does not build examples, so under Cargo it is built here, once a process.
///
/// # Errors
/// One line that says what to run.
pub fn program() -> io::Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = PROGRAM.get_or_init(|| find_program().map_err(|e| e.to_string()));
    found.as_deref().map_err(|why| io::Error::other(why.clone()))
}

fn find_program() -> io::Result<PathBuf> {
    let own = env::current_exe()?;
    if own.file_stem().is_some_and(|stem| stem == "lab") {
        return Ok(own);
    }
    // target/PROFILE/deps/TEST-HASH or target/PROFILE/examples/NAME
    let profile = own
        .parent()
        .and_then(Path::parent)
        .ok_or_else(|| io::Error::other("no target directory"))?;
    let program = profile.join("examples/lab");
    if let Some(cargo) = env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args([
            "build",
            "--quiet",
            "--example",
            "lab",
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        if !build.status()?.success() {
            return Err(io::Error::other("cargo build --example lab failed"));
        }
    }
    if program.exists() {
        return Ok(program);
    }
    Err(io::Error::other(format!(
        "{} is missing: run cargo build --example lab",
        program.display()
    )))
}

/// Finds a program in PATH.
///
/// # Errors
/// One line that names the Debian package which has it.
pub fn require_program(name: &str, package: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Daemons live in sbin, which an unprivileged user's PATH leaves out.
    let directories = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut candidates = directories.map(|directory| directory.join(name));
    candidates
        .find(|file| file.is_file())
        .ok_or_else(|| format!("{name} is missing: apt-get install {package}"))
}

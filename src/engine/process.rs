//! The engine as a process: leaves everything that belongs to the program that happened to start it.
//!
//! Its session and working directory (a terminal's hang-up, an unmount), its descriptors (`curl | cat` would wait for
//! our copy of the pipe), its signals and its soft limits. Its environment says where to log.
//!
//! Not here: namespaces and the cgroup, which are the program's on purpose; and what is given up once the engine serves,
//! which is in `sandbox`.

use super::clock::Clock;
use super::keeper::{Held, Inheritance};
use super::server::{Engine, Settings};
use crate::control::channel::{self, CallError};
use crate::control::{believes, EngineId, Privileges};
use crate::time::Duration;
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

/// How long the engine stays with nothing to do; `MPTCP_IDLE_MS` says otherwise.
const IDLE: Duration = Duration::from_secs(10);
/// Descriptors that the engine asks for: a thousand short connections a second over two paths.
const DESCRIPTORS_MAX: u64 = 1 << 18;
/// How often, and after which pauses, a name is tried for whose owner is leaving.
const LEAVING_TRIES: usize = 500;
const LEAVING_PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

/// Runs the engine named `id` (this process's own, when it was started by hand) until it is idle; the exit code.
pub fn run(id: Option<&OsStr>) -> i32 {
    let id = match id {
        Some(text) => EngineId::parse(text.as_bytes()).ok(),
        None => EngineId::current().ok(),
    };
    let Some(id) = id else {
        eprintln!("libmptcp.so: not an engine's id");
        return 2;
    };
    // A relative name means the program's directory, which is left below. Not blocking: it may be a pipe that nobody reads,
    // and the program's own descriptors are still held here.
    let mut options = OpenOptions::new();
    options
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK);
    let log = std::env::var_os("MPTCP_LOG_FILE").and_then(|path| options.open(path).ok());
    let logged = log.is_some();
    if leave_program(log).is_err() {
        return 1;
    }
    if logged {
        start_log();
    }
    let idle = std::env::var("MPTCP_IDLE_MS").ok().and_then(|text| text.parse().ok());
    let idle = idle.map_or(IDLE, Duration::from_millis);
    serve(Settings { id, idle }, None)
}

/// Serves, in this process as it is, until idle; the exit code.
pub(super) fn serve(settings: Settings, inheritance: Option<Inheritance>) -> i32 {
    let id = settings.id;
    // Only a name.
    let _ = rustix::thread::set_name(c"mptcp-engine");
    match try_serve(settings, inheritance) {
        Ok(()) => 0,
        Err(error) => {
            log::error!("engine {id} gives up: {error}");
            1
        }
    }
}

fn try_serve(settings: Settings, mut inheritance: Option<Inheritance>) -> std::io::Result<()> {
    let Settings { id, idle } = settings;
    if !Privileges::current().cover(id.privileges()) {
        // The program has capabilities that execve(2) does not hand on. With this name, and without them, we would be in the way
        // of engines that have them.
        return Err(std::io::Error::other(
            "it has not the capabilities of the program that started it",
        ));
    }
    let held = inheritance.as_mut().and_then(|inheritance| inheritance.held.take());
    match start(id, idle, held) {
        Ok(mut engine) => {
            log::info!(
                "engine {id} of libmptcp {} serves as process {}",
                env!("CARGO_PKG_VERSION"),
                std::process::id()
            );
            if let Some(inheritance) = inheritance {
                engine.inherit(inheritance);
            }
            engine.run()?;
            log::info!("engine {id} goes, having been idle for {idle:?}");
            Ok(())
        }
        // Another one was faster.
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes the name, also from an engine that is just about to give it up: it refuses clients before it does. A name that is inherited is had already.
fn start(id: EngineId, idle: Duration, held: Option<Held>) -> std::io::Result<Engine> {
    if held.is_some() {
        return Engine::start(Settings { id, idle }, held);
    }
    let taken = |error: &std::io::Error| error.raw_os_error() == Some(libc::EADDRINUSE);
    for _ in 0..LEAVING_TRIES {
        match Engine::start(Settings { id, idle }, None) {
            Err(error) if taken(&error) && matches!(channel::open(id, believes), Err(CallError::NoEngine)) => {
                std::thread::sleep(LEAVING_PAUSE);
            }
            result => return result,
        }
    }
    Engine::start(Settings { id, idle }, None)
}

/// Leaves what was inherited. The log, if there is one, becomes standard error: so the last words of a panic or of the
/// dynamic linker are in it too.
fn leave_program(log: Option<File>) -> Result<(), Errno> {
    // Fails for the leader of a process group, which only a shell makes of us: then we stay in its session.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/")?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        // A chroot without /dev.
        .or_else(|_| rustix::fs::memfd_create(c"null", MemfdFlags::CLOEXEC))?;
    // Whoever started us may have closed some of the three, so that these are among them: first out of the way.
    let null = into_high(null)?;
    let log = log.map_or(Ok(null), |file| into_high(file.into()))?;
    for (from, to) in [(null, 0), (null, 1), (log, 2)] {
        // SAFETY: no `OwnedFd` has one of the standard three.
        if unsafe { libc::dup2(from, to) } < 0 {
            return Err(Errno::IO);
        }
    }
    close_above_stdio();
    reset_signals();
    raise_limits();
    Ok(())
}

/// A copy of a descriptor above the standard three. The original is left for [`close_above_stdio`], or is one of them.
fn into_high(fd: OwnedFd) -> Result<RawFd, Errno> {
    let copy = rustix::io::fcntl_dupfd_cloexec(&fd, 3)?;
    let _ = fd.into_raw_fd();
    Ok(copy.into_raw_fd())
}

/// Closes every descriptor above the standard three. Nothing in this process owns one yet.
fn close_above_stdio() {
    // SAFETY: no `OwnedFd` is alive; the call touches no memory.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) } == 0 {
        return;
    }
    // Before Linux 5.9, or forbidden.
    let open: Vec<RawFd> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect(),
        Err(_) => (3..65_536).collect(),
    };
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: as above. The directory's own descriptor is closed already: EBADF.
        unsafe { libc::close(fd) };
    }
}

/// Closes every descriptor above the standard three but `kept` ones, which are above them too. For a forked child that never drops what its parent owned.
pub(super) fn close_all_but<'fd>(kept: impl IntoIterator<Item = BorrowedFd<'fd>>) {
    let mut kept: Vec<libc::c_uint> = kept.into_iter().map(|fd| fd.as_raw_fd() as libc::c_uint).collect();
    kept.sort_unstable();
    let mut first = 3;
    for last in kept.iter().map(|fd| fd - 1).chain([libc::c_uint::MAX]) {
        if first <= last {
            // SAFETY: what these numbers belonged to is never used again; the call touches no memory. It fails where it
            // is not known (before Linux 5.9): then the child holds copies for its life.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
        first = last.saturating_add(2);
    }
}

/// Ends a forked child, without the handlers and destructors of what it is a copy of.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(code) }
}

/// Default actions and an empty mask, whatever the program had; SIGPIPE ignored (every write says EPIPE instead).
fn reset_signals() {
    for signal in 1..=64 {
        let action = if signal == libc::SIGPIPE {
            libc::SIG_IGN
        } else {
            libc::SIG_DFL
        };
        // SAFETY: both actions are always valid. It fails for those that cannot be changed, and for glibc's own.
        unsafe { libc::signal(signal, action) };
    }
    // SAFETY: an all-zero set is made empty before it is used.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        // The program's death is none of ours.
        libc::prctl(libc::PR_SET_PDEATHSIG, 0);
    }
}

/// The program's soft limits were meant for the program: descriptors above all, but also CPU time and memory.
///
/// Each port in use has a guard with a descriptor, for a minute after the connection's end too. Who may raises the hard limit as well
/// (CAP_SYS_RESOURCE); at the limit, connections are left to the kernel.
fn raise_limits() {
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open");
    if let Some(most) = most.ok().and_then(|text| text.trim().parse().ok()) {
        let limit = Some(DESCRIPTORS_MAX.min(most)).max(getrlimit(Resource::Nofile).maximum);
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit,
                maximum: limit,
            },
        );
    }
    let limits = [
        Resource::Nofile,
        Resource::Cpu,
        Resource::Fsize,
        Resource::As,
        Resource::Data,
        Resource::Memlock,
    ];
    for resource in limits {
        let Rlimit { maximum, .. } = getrlimit(resource);
        // Raising to the hard limit needs no privilege.
        let _ = setrlimit(
            resource,
            Rlimit {
                current: maximum,
                maximum,
            },
        );
    }
}

/// Log lines go to standard error: seconds since the start, level, text. `MPTCP_LOG` filters them (`info` by default).
fn start_log() {
    let clock = Clock::start();
    let filter = std::env::var("MPTCP_LOG").unwrap_or_else(|_| "info".into());
    // It fails only when there is a logger already.
    let _ = env_logger::Builder::new()
        .parse_filters(&filter)
        .format(move |out, record| {
            let us = clock.now().as_micros();
            writeln!(
                out,
                "{:6}.{:06} {:5} {}",
                us / 1_000_000,
                us % 1_000_000,
                record.level(),
                record.args()
            )
        })
        .try_init();
}

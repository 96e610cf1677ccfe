//! SIGTERM: a service manager ends a service by telling every process of its cgroup, and the engine is among them.
//!
//! The program may take its time to end in order, so the engine goes on for as long as programs listen or have connections. What they have
//! written then still gets [`DRAIN`] to arrive: a service is not to be held up by a peer that has vanished. After that the engine goes at once, and
//! its TIME_WAITs with it. The keeper takes no notice: it goes with the engine.
//!
//! Not here: SIGKILL, after which there is nobody left to tell a peer anything.

use super::connection::Backend;
use super::server::Engine;
use crate::time::{Duration, Instant};
use rustix::io::read;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// How long data may take to arrive whose program has gone.
const DRAIN: Duration = Duration::from_secs(10);
/// What is known about the end.
pub struct Leaving {
    /// A signalfd(2).
    signals: OwnedFd,
    /// The signal came.
    told: bool,
    /// The programs have gone since: when the engine does at the latest.
    until: Option<Instant>,
}

impl Leaving {
    /// From now on SIGTERM ends neither this process nor those that are forked from it.
    pub fn prepare() -> io::Result<Leaving> {
        // SAFETY: the set is made empty before it is used, and lives during the calls; the descriptor is new and nobody else's.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGTERM);
            if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) < 0 {
                return Err(io::Error::last_os_error());
            }
            match libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) {
                fd if fd < 0 => Err(io::Error::last_os_error()),
                fd => Ok(Leaving {
                    signals: OwnedFd::from_raw_fd(fd),
                    told: false,
                    until: None,
                }),
            }
        }
    }

    /// For the event loop: readable when the signal came.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// The signal came.
    pub fn is_told(&self) -> bool {
        self.told
    }

    /// When [`Engine::leaves`] has something to do that no event tells.
    pub fn due(&self) -> Option<Instant> {
        self.until
    }
}

impl Engine {
    /// The signal came.
    pub(super) fn on_terminate(&mut self, now: Instant) {
        // struct signalfd_siginfo.
        let mut info = [0; 128];
        while matches!(read(&self.leaving.signals, &mut info), Ok(len) if len > 0) {
            log::info!("told to end: when the programs have");
            self.leaving.told = true;
        }
        self.sweep_listeners(now);
    }

    /// Whether it is time to go.
    pub(super) fn leaves(&mut self, now: Instant) -> bool {
        if !self.leaving.told {
            return false;
        }
        if self.listens() || !self.by_cookie.is_empty() {
            self.leaving.until = None;
            return false;
        }
        let until = *self.leaving.until.get_or_insert(now + DRAIN);
        if !self.connections.is_empty() && now < until {
            return false;
        }
        self.abort_all(now);
        log::info!("the engine goes, as it was told");
        self.keeper = None;
        self.control.retire();
        true
    }

    /// What is left has had its time: the peers are told.
    fn abort_all(&mut self, now: Instant) {
        let Some(core) = &mut self.core else { return };
        for (_, connection) in self.connections.iter() {
            if let Backend::Core(conn) = connection.backend {
                core.endpoint.abort(now, conn);
            }
        }
        core.transmit(now);
    }
}

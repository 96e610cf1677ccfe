//! The keeper: a process that outlives the engine and gives a new one the listeners of the old.
//!
//! A listening socket is deaf for the engine's sake; were nobody there to answer in its stead, a server that sleeps in epoll_wait would
//! never know. The keeper is forked from the engine with the first listener. It parses no packet and holds no socket of a program's: it remembers
//! where programs listen, waits for the engine's end, and forks a new engine then. The engine in turn replaces a keeper that was killed.
//! It holds the engine's own listener: the name is not free while one engine is dead and the next one not there, so no program starts one that knows
//! of nobody who listens; requests of that time wait in its queue. And it holds the sockets that the engine hears the network by: what comes in
//! that time waits in their queues, so that no client has to send its SYN again, a second later.
//!
//! Not here: what is lost with an engine. Its connections are; programs get ECONNRESET by the shadow's own means, and the next engine tells the peers,
//! whom it knows from the `ledger`.

use super::clock::Clock;
use super::ledger::Table;
use super::process;
use super::server::Settings;
use crate::time::Duration;
use rustix::io::Errno;
use rustix::net::{recv, send, socketpair, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{waitpid, Pid, WaitOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// An engine that lives less long than this may be a failed start.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// The pause after the second short life in a row; it doubles with each, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Short lives in a row after which the keeper gives up: after some ten seconds.
const FAILURES_MAX: u32 = 16;
/// No note is longer, bytes.
const NOTE_MAX: usize = 16384;

/// A listening socket as the next engine needs to know it.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Record {
    /// SO_COOKIE.
    pub cookie: u64,
    /// Its address as the program sees it.
    pub bound: SocketAddr,
    /// IPV6_V6ONLY, or an IPv4 socket.
    pub one_family: bool,
    /// [`super::socket_options::SocketOptions::pack`].
    pub options: Vec<u8>,
    /// What it carries of options of `mptcp.h`: [`crate::control::multipath::stash::words`].
    pub wishes: Vec<u32>,
    /// The program's MPTCP_* variables, as a request has them.
    pub settings: String,
    /// The program's name.
    pub program: String,
    /// Its process id.
    pub pid: u32,
}

/// What the engine tells the keeper.
#[derive(Serialize, Deserialize, Debug)]
enum Note {
    Listens(Record),
    Gone(u64),
}

/// What of the engine's the keeper holds for the next one.
pub struct Held {
    /// The engine's listener: [`super::control::Control::name`].
    pub name: OwnedFd,
    /// What it hears the network by: [`super::core::Core::ears`].
    pub ears: Vec<OwnedFd>,
}

impl Held {
    fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.name].into_iter().chain(&self.ears).map(AsFd::as_fd)
    }
}

/// The engine's end.
pub struct Keeper {
    channel: OwnedFd,
    /// To be waited for; None for a keeper that is this engine's parent.
    child: Option<Pid>,
}

impl Keeper {
    /// Forks a keeper. Call it on the engine's one thread only.
    pub fn start(settings: &Settings, held: Held, table: Rc<Table>) -> io::Result<Keeper> {
        let (ours, theirs) = pair()?;
        match fork()? {
            Some(child) => Ok(Keeper {
                channel: ours,
                child: Some(child),
            }),
            None => {
                // Until now it is a copy of the engine: every descriptor but these goes.
                process::close_all_but(held.fds().chain([theirs.as_fd()]));
                std::mem::forget(ours);
                let code = keep(theirs, held, settings, table);
                process::exit_now(code)
            }
        }
    }

    /// For the event loop: its end is the keeper's.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Remembers a listening socket.
    pub fn listens(&self, record: Record) {
        self.tell(&Note::Listens(record));
    }

    /// Forgets it.
    pub fn gone(&self, cookie: u64) {
        self.tell(&Note::Gone(cookie));
    }

    fn tell(&self, note: &Note) {
        // Plain values: it cannot fail. A keeper that is not there is found out by the event loop.
        let bytes = serde_json::to_vec(note).unwrap_or_default();
        if let Err(error) = send(&self.channel, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            log::warn!("the keeper does not listen: {error}");
        }
    }

    /// The keeper has gone: nothing of it is left behind.
    pub fn bury(self) {
        if let Some(child) = self.child {
            // It has closed its end, so it is over or nearly so.
            let _ = waitpid(Some(child), WaitOptions::empty());
        }
    }
}

/// A new engine's inheritance.
pub struct Inheritance {
    /// Its keeper.
    pub keeper: Keeper,
    /// Where programs listen.
    pub records: Vec<Record>,
    /// The connections that were lost are in it.
    pub table: Rc<Table>,
    /// The descriptors of the engine before.
    pub held: Option<Held>,
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// fork(); None in the child.
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: engine and keeper have one thread each, so the child's memory is whole.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid if pid < 0 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// The keeper's life.
fn keep(mut channel: OwnedFd, held: Held, settings: &Settings, table: Rc<Table>) -> i32 {
    // Only a name.
    let _ = rustix::thread::set_name(c"mptcp-keeper");
    let mut records = BTreeMap::new();
    let mut failures = 0;
    let mut child = None;
    loop {
        let clock = Clock::start();
        remember(&channel, &mut records);
        if records.is_empty() {
            // An engine that goes may still have to: the name is for the next one at once.
            return 0;
        }
        if let Some(child) = child.take() {
            // It has closed its end, so it is over or nearly so.
            let _ = waitpid(Some(child), WaitOptions::empty());
        }
        failures = match clock.now().since(crate::time::Instant::ZERO) < SHORT_LIFE {
            true => failures + 1,
            false => 0,
        };
        if failures > FAILURES_MAX {
            log::error!("the engine does not stay alive: {} listeners are deaf", records.len());
            return 1;
        }
        if failures > 1 {
            std::thread::sleep((PAUSE * (1 << (failures - 2))).min(PAUSE_MAX));
        }
        log::warn!(
            "the engine is gone: a new one takes its {} listeners over",
            records.len()
        );
        let Ok((ours, theirs)) = pair() else { return 1 };
        match fork() {
            Ok(Some(pid)) => {
                channel = ours;
                child = Some(pid);
            }
            Ok(None) => {
                process::close_all_but(held.fds().chain([theirs.as_fd()]));
                std::mem::forget((ours, channel));
                let keeper = Keeper {
                    channel: theirs,
                    child: None,
                };
                let records = records.into_values().collect();
                let inheritance = Inheritance {
                    keeper,
                    records,
                    table,
                    held: Some(held),
                };
                let code = process::serve(settings.clone(), Some(inheritance));
                process::exit_now(code)
            }
            Err(error) => {
                log::error!("no new engine: {error}");
                return 1;
            }
        }
    }
}

/// Takes notes until the engine's end.
fn remember(channel: &OwnedFd, records: &mut BTreeMap<u64, Record>) {
    let mut bytes = vec![0; NOTE_MAX];
    loop {
        match recv(channel, &mut bytes[..], RecvFlags::empty()) {
            Ok((0, _)) => return,
            Ok((len, _)) => match serde_json::from_slice(&bytes[..len]) {
                Ok(Note::Listens(record)) => {
                    records.insert(record.cookie, record);
                }
                Ok(Note::Gone(cookie)) => {
                    records.remove(&cookie);
                }
                Err(error) => log::warn!("a note makes no sense: {error}"),
            },
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

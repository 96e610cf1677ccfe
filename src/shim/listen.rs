//! listen(): the socket stays the program's and the kernel's, and becomes deaf to other hosts, whom the engine answers in its stead.
//!
//! A filter on the listening socket lets through what comes by the loopback device: this host's own clients, whom the kernel serves as ever,
//! and the engine, which hands established connections over that way ([`super::accept`]). All else that listening sockets can do and
//! have done to them is therefore the kernel's: names, options, backlog, poll and epoll, EADDRINUSE, duplicates, forks, exec, the last close.
//!
//! The order: filter, listen(), engine. So nothing is answered twice; and when the engine cannot, the filter goes and it is a listening socket like
//! any other.

use super::log::info;
use super::send::Outcome;
use super::sys;
use super::{config, eligible, engine, linux, multipath, start, Verdict};
use crate::control::multipath::is_ours;
use crate::control::options::KEPT;
use crate::control::{Bypass, EngineId, Listen, Request};
use core::ffi::c_int;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use rustix::fd::BorrowedFd;

/// Engines that answer for sockets of this process and its ancestors: an accepted socket is shown to them, whatever user this process has become
/// since it started or called listen().
/// 0 is none.
static ENGINES: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// The engines that an accepted socket may belong to, the likeliest first.
pub fn engines() -> impl Iterator<Item = EngineId> {
    let known = ENGINES
        .iter()
        .filter_map(|slot| EngineId::from_bits(slot.load(Relaxed)));
    let own = engine::own().filter(|own| !ENGINES.iter().any(|slot| slot.load(Relaxed) == own.bits()));
    known.chain(own)
}

/// As the process starts: it may have inherited listening sockets by exec, and become another user before it accepts (nginx's new binary).
pub fn remember_own() {
    if let Some(own) = engine::own() {
        remember(own);
    }
}

fn remember(engine: EngineId) {
    let bits = engine.bits();
    if ENGINES.iter().any(|slot| slot.load(Relaxed) == bits) {
        return;
    }
    for slot in &ENGINES {
        if slot.compare_exchange(0, bits, Relaxed, Relaxed).is_ok() {
            return;
        }
    }
    ENGINES[0].store(bits, Relaxed);
}

/// Before listen(): whether the socket is deaf to other hosts now.
pub fn prepare(fd: c_int) -> bool {
    if sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL) != Ok(libc::IPPROTO_TCP) {
        return false;
    }
    let judged = eligible::listener(fd)
        .and_then(|()| multipath::judge_listener(fd))
        .and_then(|()| multipath::set_deaf(fd, true).map_err(|_| Bypass::NoFilter));
    if let Err(reason) = judged {
        // To change the backlog of a listening socket is no news.
        if reason != Bypass::NotFresh {
            bypass(reason);
            if reason != Bypass::Shared {
                linux::give_back(fd);
            }
        }
    }
    judged.is_ok()
}

fn bypass(reason: Bypass) {
    info!("listen: left to the kernel: {}", reason.text());
}

/// After listen(): tells the engine of a socket that was prepared.
pub fn settle(fd: c_int, prepared: bool, done: Outcome) -> Verdict {
    if prepared {
        let result = match done {
            Ok(_) => register(fd),
            Err(_) => None,
        };
        match result {
            Some(engine) => remember(engine),
            None => {
                // It was attached just now.
                let _ = multipath::set_deaf(fd, false);
            }
        }
    }
    Verdict::Done(done.map(|value| value as c_int))
}

/// After setsockopt() of an option that the next connections have, down to their SYN-ACKs, and the engine has to know.
pub fn option_changed(fd: c_int, level: c_int, name: c_int) {
    let kept = || KEPT.iter().any(|option| (option.level, option.name) == (level, name));
    if (is_ours(level, name) || kept())
        && !start::sandboxed()
        && sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == Ok(1)
        && multipath::is_deaf(fd)
    {
        // An engine that does not take it knows the socket as it was.
        let _ = submit(fd);
    }
}

fn register(fd: c_int) -> Option<EngineId> {
    match submit(fd) {
        Ok(engine) => {
            info!("listen: answered by engine {engine}");
            Some(engine)
        }
        Err(reason) => {
            bypass(reason);
            None
        }
    }
}

fn submit(fd: c_int) -> Result<EngineId, Bypass> {
    let request = Request::Listen(Listen {
        program: config::get().program(),
        settings: config::get().settings(),
    });
    let mask = sys::block_signals();
    // SAFETY: the program's descriptor, which it does not close while it listens on it; borrowed for this call.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let answer = engine::listen(&request, socket);
    sys::restore_signals(mask);
    answer
}

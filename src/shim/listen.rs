//! listen(): the socket stays the program's and the kernel's, and becomes deaf to other hosts, whom the engine answers in its stead.
//!
//! A filter on the listening socket lets through what comes by the loopback device: this host's own clients, whom the kernel serves as ever,
//! and the engine, which hands established connections over that way ([`super::accept`]). All else that listening sockets can do and
//! have done to them is therefore the kernel's: names, options, backlog, poll and epoll, EADDRINUSE, duplicates, forks, exec, the last close.
//!
//! The order: the engine is ready, filter, listen(), and the engine knows. So nothing is answered twice, clients that come at once are not kept
//! waiting by an engine that starts, and when the engine cannot, the filter goes and it is a listening socket like any other.

use super::log::info;
use super::send::Outcome;
use super::sys;
use super::{config, eligible, engine, linux, multipath, start, Verdict};
use crate::control::multipath::is_ours;
use crate::control::multipath::stash::Answerer;
use crate::control::options::KEPT;
use crate::control::{Bypass, EngineId, Listen, Request};
use core::ffi::c_int;
use core::sync::atomic::{AtomicI32, Ordering::Relaxed};
use rustix::fd::BorrowedFd;

/// The highest descriptor that an engine was told of by this process, or before a fork by the one that it is a copy of; -1 is none.
static HIGHEST: AtomicI32 = AtomicI32::new(-1);

/// Before listen(): whether the socket is deaf to other hosts now.
pub fn prepare(fd: c_int) -> bool {
    if sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL) != Ok(libc::IPPROTO_TCP) {
        return false;
    }
    let judged = eligible::listener(fd)
        .and_then(|()| multipath::judge_listener(fd))
        .and_then(|()| own().ok_or(Bypass::NoLibrary))
        .and_then(|own| show(fd, |request, socket| engine::listen(own.engine, request, socket)).map(|()| own))
        .and_then(|own| multipath::set_answerer(fd, Some(own)).map_err(|_| Bypass::NoFilter));
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
    if prepared && (done.is_err() || !register(fd)) {
        // It was attached just now.
        let _ = multipath::set_answerer(fd, None);
    }
    Verdict::Done(done.map(|value| value as c_int))
}

/// After setsockopt(): what the engine has to know of a listening socket before anybody accepts from it (when to hand connections over, what is in a
/// SYN/ACK) is brought up to date.
pub fn option_changed(fd: c_int, level: c_int, name: c_int) {
    let forced = level == libc::SOL_SOCKET && [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE].contains(&name);
    let kept = || KEPT.iter().any(|option| (option.level, option.name) == (level, name));
    if !(is_ours(level, name) || forced || kept())
        || start::sandboxed()
        || sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) != Ok(1)
    {
        return;
    }
    if let Some(answerer) = multipath::answerer(fd) {
        show(fd, |request, socket| engine::listen_again(answerer, request, socket));
    }
}

fn own() -> Option<Answerer> {
    let uid = rustix::process::geteuid().as_raw();
    engine::own().map(|engine| Answerer { engine, uid })
}

fn register(fd: c_int) -> bool {
    let answerer = multipath::answerer(fd).ok_or(Bypass::NoFilter);
    let answered = answerer.and_then(|Answerer { engine, .. }| {
        show(fd, |request, socket| engine::listen(engine, request, socket))?;
        Ok(engine)
    });
    match answered {
        Ok(engine) => {
            HIGHEST.fetch_max(fd, Relaxed);
            info!("listen: answered by engine {engine}");
        }
        Err(reason) => bypass(reason),
    }
    answered.is_ok()
}

/// The engine and its keeper were killed: the next engine, which nobody has told yet where this program listens, is told.
pub fn renew(engine: EngineId) {
    for fd in 0..=HIGHEST.load(Relaxed) {
        let listens = sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == Ok(1);
        if listens && multipath::answerer(fd).is_some_and(|answerer| answerer.engine == engine) {
            register(fd);
        }
    }
}

/// Shows a listening socket to an engine by `ask`.
fn show<R>(fd: c_int, ask: impl FnOnce(&Request<'_>, BorrowedFd<'_>) -> R) -> R {
    let request = Request::Listen(Listen {
        program: config::get().program(),
        settings: config::get().settings(),
    });
    let mask = sys::block_signals();
    // SAFETY: the program's descriptor, which it does not close while it listens on it; borrowed for this call.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let answer = ask(&request, socket);
    sys::restore_signals(mask);
    answer
}

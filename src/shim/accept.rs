//! accept(): a carrier becomes the connection that it stands for; every other socket is what it is.
//!
//! The kernel has accepted, with the program's own arguments. A carrier is recognised by one system call ([`may_be_carrier`]), and shown to the
//! engine that its filter names ([`multipath::answerer`]), which gives the shadow for it. What the carrier inherited from the listener (status flags, timeouts, close-on-exec) the shadow gets.

use super::log::debug;
use super::send::Outcome;
use super::sys;
use super::table::{self, Kind};
use super::{engine, identify, memory, multipath, names, replace, start};
use crate::control::carrier::may_be_carrier;
use crate::control::shadow::ShadowName;
use core::ffi::{c_int, c_void};
use rustix::fd::{BorrowedFd, OwnedFd};

/// How much room the program has for an address: accept() overwrites it.
///
/// # Safety
/// As for accept().
pub unsafe fn room(addr: *mut c_void, len: *mut libc::socklen_t) -> Option<[u8; 4]> {
    let mut room = [0; 4];
    // SAFETY: the caller's promise.
    let copied = !addr.is_null() && unsafe { memory::copy_in(len.cast(), &mut room) }.is_ok();
    copied.then_some(room)
}

/// What accept() returned, as the program shall see it; None when it is to be called again.
///
/// # Safety
/// As for accept(); `room` is [`room`]'s.
pub unsafe fn accepted(
    done: Outcome,
    addr: *mut c_void,
    len: *mut libc::socklen_t,
    room: Option<[u8; 4]>,
) -> Option<Outcome> {
    let Ok(fd) = done else { return Some(done) };
    let fd = fd as c_int;
    if start::sandboxed() {
        return Some(done);
    }
    table::forget(fd);
    match sys::getsockopt_int(fd, libc::IPPROTO_TCP, libc::TCP_MAXSEG) {
        Ok(mss) if may_be_carrier(mss) => {}
        _ => return Some(done),
    }
    let mask = sys::block_signals();
    let name = take_over(fd);
    sys::restore_signals(mask);
    let name = match name {
        Taken::Shadow(name) => name,
        Taken::Native => return Some(done),
        Taken::Lost => {
            debug!("a connection was lost while it was accepted");
            sys::close(fd);
            return None;
        }
    };
    if let Some(room) = room {
        // SAFETY: the caller's promise; accept() has just written to both.
        let written = unsafe {
            memory::copy_out(&room, len.cast()).and_then(|()| names::write(name.remote, addr, len).map(drop))
        };
        if let Err(errno) = written {
            sys::close(fd);
            return Some(Err(errno));
        }
    }
    Some(done)
}

enum Taken {
    /// The shadow is in the carrier's place.
    Shadow(ShadowName),
    /// Somebody's own connection.
    Native,
    /// There was a shadow, and no way to put it in place.
    Lost,
}

fn take_over(fd: c_int) -> Taken {
    // SAFETY: accepted just now, and nobody but this thread knows its number; borrowed for this call.
    let accepted = unsafe { BorrowedFd::borrow_raw(fd) };
    let claimed = multipath::answerer(fd).and_then(|answerer| engine::claim(answerer, accepted));
    let Some((end, cookie)) = claimed else {
        return Taken::Native;
    };
    match put(fd, end, cookie) {
        Some(name) => Taken::Shadow(name),
        None => Taken::Lost,
    }
}

fn put(fd: c_int, end: OwnedFd, cookie: u64) -> Option<ShadowName> {
    let flags = sys::fcntl(fd, libc::F_GETFL, 0).ok()?;
    if multipath::is_aware(fd) {
        // As the listener is, whose options the kernel has copied.
        table::set_aware(fd);
    }
    replace::put(fd, end, flags, Kind::Shadow, cookie).ok()?;
    identify::shadow(fd)
}

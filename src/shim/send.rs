//! The sending calls: what AF_UNIX does otherwise than TCP.
//!
//! | call | AF_UNIX | TCP, and what is done here |
//! |---|---|---|
//! | an address on a connected socket | EISCONN | ignored: sent again without |
//! | MSG_OOB | a byte beside the stream | MPTCP has no urgent data (RFC 8684 section 3.3.1): in the stream |
//! | MSG_FASTOPEN | ignored | EISCONN; on an unconnected socket connect(), then the data: what TCP does without a cookie |
//! | write after a reset | EPIPE and SIGPIPE | first the error, without a signal, then those |
//! | ECONNRESET | for every failure | the connection's own error |
//!
//! A descriptor that the table calls a shadow is sent to with MSG_NOSIGNAL, and the signal raised here when it is due: right for every kind of
//! socket, so a wrong hint does no harm.
//!
//! Not here: sendfile and splice, which get SIGPIPE where TCP first gives the error; control messages (descriptors that a program sends where
//! TCP ignores them reach the engine, whose kernel drops them).

use super::table::{self, Kind};
use super::{connect, identify, start, sys, Verdict};
use core::ffi::{c_int, c_void};

/// A libc call's outcome: its result, or errno.
pub type Outcome = Result<isize, c_int>;

/// One sending call on a socket. `attempt(flags, addressed)` makes it, with these flags, with or without the program's address (and control messages).
pub fn transmit(fd: c_int, flags: c_int, attempt: impl Fn(c_int, bool) -> Outcome) -> Outcome {
    if start::sandboxed() {
        return attempt(flags, true);
    }
    if flags & (libc::MSG_OOB | libc::MSG_FASTOPEN) != 0 && identify::shadow(fd).is_some() {
        return match flags & libc::MSG_FASTOPEN {
            0 => on_shadow(fd, flags & !libc::MSG_OOB, true, attempt),
            _ => Err(libc::EISCONN),
        };
    }
    if table::hint(fd) == Kind::Shadow {
        return on_shadow(fd, flags, true, attempt);
    }
    match attempt(flags, true) {
        Err(libc::EISCONN | libc::EOPNOTSUPP) if identify::shadow(fd).is_some() => on_shadow(fd, flags, false, attempt),
        Err(libc::ECONNRESET) => Err(reset(fd)),
        outcome => outcome,
    }
}

/// MSG_FASTOPEN on an unconnected socket: connects it as connect() does. No data travels with the SYN, as in TCP without a cookie (net/ipv4/tcp.c
/// `tcp_sendmsg_fastopen`): a blocking call sends it afterwards, another one fails with EINPROGRESS. None when the kernel is to do it.
///
/// # Safety
/// `addr` and `len` are what connect() would be given.
pub unsafe fn fast_open(fd: c_int, addr: *const c_void, len: usize) -> Option<Result<(), c_int>> {
    if addr.is_null() || start::sandboxed() || identify::shadow(fd).is_some() {
        return None;
    }
    // SAFETY: the caller's promise.
    match unsafe { connect::connect(fd, addr, len) } {
        Verdict::Pass => None,
        Verdict::Done(done) => Some(done.map(drop)),
    }
}

fn on_shadow(fd: c_int, flags: c_int, addressed: bool, attempt: impl Fn(c_int, bool) -> Outcome) -> Outcome {
    match attempt(flags | libc::MSG_NOSIGNAL, addressed) {
        Err(libc::EPIPE) => Err(broken_pipe(fd, flags)),
        Err(libc::ECONNRESET) => match reset(fd) {
            libc::EPIPE => Err(broken_pipe(fd, flags)),
            errno => Err(errno),
        },
        Err(libc::EISCONN | libc::EOPNOTSUPP) if addressed && identify::shadow(fd).is_some() => {
            on_shadow(fd, flags, false, attempt)
        }
        outcome => outcome,
    }
}

/// The error that a reset left is told first, without a signal.
fn broken_pipe(fd: c_int, flags: c_int) -> c_int {
    if let Some(shadow) = identify::shadow(fd) {
        match identify::take_error(fd, &shadow) {
            Ok(0 | libc::EPIPE) | Err(_) => {}
            Ok(errno) => return errno,
        }
    }
    if flags & libc::MSG_NOSIGNAL == 0 {
        sys::raise(libc::SIGPIPE);
    }
    libc::EPIPE
}

/// ECONNRESET, or what it stands for.
pub fn reset(fd: c_int) -> c_int {
    if start::sandboxed() {
        return libc::ECONNRESET;
    }
    identify::shadow(fd).map_or(libc::ECONNRESET, |shadow| identify::reset_cause(fd, &shadow))
}

/// Whether a write() should be made as a send(): only then can the signal be held back.
pub fn write_as_send(fd: c_int) -> bool {
    table::hint(fd) == Kind::Shadow && !start::sandboxed()
}

//! ioctl and shutdown on a shadow.

use super::{connect, engine, identify, start, sys, Verdict};
use crate::control::Phase;
use core::ffi::{c_int, c_ulong, c_void};

/// linux/sockios.h.
const SIOCOUTQ: c_ulong = libc::TIOCOUTQ as c_ulong;
const SIOCOUTQNSD: c_ulong = 0x894b;

/// The logic of ioctl: AF_UNIX counts memory where TCP counts bytes that are not acknowledged. The rest is the same for both.
///
/// # Safety
/// As ioctl(): for SIOCOUTQ and SIOCOUTQNSD `argument` points to an int.
pub unsafe fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> Verdict {
    // The request is an unsigned int in the kernel; callers sign-extend it at will.
    let request = request & 0xffff_ffff;
    if request != SIOCOUTQ && request != SIOCOUTQNSD || argument.is_null() || start::sandboxed() {
        return Verdict::Pass;
    }
    let Some(shadow) = identify::shadow(fd) else {
        return Verdict::Pass;
    };
    let queues = sys::cookie(fd)
        .ok()
        .and_then(|cookie| engine::queues(shadow.engine, cookie))
        .unwrap_or_default();
    let bytes = if request == SIOCOUTQ {
        queues.unacked
    } else {
        queues.unsent
    };
    let value = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    // SAFETY: the caller's promise.
    unsafe { argument.cast::<c_int>().write_unaligned(value) };
    Verdict::Done(Ok(0))
}

/// The logic of shutdown. net/ipv4/af_inet.c `inet_shutdown`: a handshake is given up and the socket is as new, a closed connection is ENOTCONN.
pub fn shutdown(fd: c_int, how: c_int) -> Verdict {
    if start::sandboxed() || !matches!(how, libc::SHUT_RD | libc::SHUT_WR | libc::SHUT_RDWR) {
        return Verdict::Pass;
    }
    let Some(shadow) = identify::shadow(fd) else {
        return Verdict::Pass;
    };
    match identify::phase(fd, &shadow) {
        Phase::Established => Verdict::Pass,
        Phase::Connecting => {
            connect::disconnect(fd, &shadow);
            Verdict::Done(Ok(0))
        }
        Phase::Failed { .. } | Phase::Gone => Verdict::Done(Err(libc::ENOTCONN)),
    }
}

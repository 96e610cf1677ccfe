//! ioctl and shutdown on a shadow.

use super::{connect, engine, identify, memory, start, sys, Verdict};
use crate::control::Phase;
use core::ffi::{c_int, c_ulong, c_void};
use rustix::fd::AsRawFd;

/// linux/sockios.h.
const SIOCOUTQ: c_ulong = libc::TIOCOUTQ as c_ulong;
const SIOCOUTQNSD: c_ulong = 0x894b;

/// What only Internet sockets answer (net/ipv4/af_inet.c `inet_ioctl`): routes, neighbours, interfaces' addresses.
fn is_internet_request(request: c_ulong) -> bool {
    matches!(request, 0x890b | 0x890c | 0x8915..=0x891c | 0x8934 | 0x8935 | 0x8953..=0x8955)
}

/// The logic of ioctl: AF_UNIX counts memory where TCP counts bytes that are not acknowledged, and knows no Internet
/// addresses. The rest is the same for both.
///
/// # Safety
/// As ioctl(): for SIOCOUTQ and SIOCOUTQNSD `argument` points to an int.
pub unsafe fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> Verdict {
    // The request is an unsigned int in the kernel; callers sign-extend it at will.
    let request = request & 0xffff_ffff;
    let of_queue = request == SIOCOUTQ || request == SIOCOUTQNSD;
    if !of_queue && !is_internet_request(request) || argument.is_null() || start::sandboxed() {
        return Verdict::Pass;
    }
    let Some(shadow) = identify::shadow(fd) else {
        return Verdict::Pass;
    };
    if !of_queue {
        let family = if shadow.local.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        // SAFETY: the caller's promise.
        return Verdict::Done(unsafe { on_datagram_socket(family, request, argument) });
    }
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
    Verdict::Done(unsafe { memory::copy_out(&value.to_ne_bytes(), argument.cast()) }.map(|()| 0))
}

/// Makes a request that concerns the host on a socket that is there for it alone.
///
/// # Safety
/// As ioctl().
unsafe fn on_datagram_socket(family: c_int, request: c_ulong, argument: *mut c_void) -> Result<c_int, sys::Errno> {
    let socket = sys::own_socket(family, libc::SOCK_DGRAM)?;
    let args = [
        socket.as_raw_fd() as usize,
        request as usize,
        argument as usize,
        0,
        0,
        0,
    ];
    // SAFETY: the caller's promise.
    unsafe { sys::call(libc::SYS_ioctl, args) }.map(|value| value as c_int)
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
        Phase::Established => {
            // Nothing gets into a shadow whose reading side is shut, but TCP lets the program read what came before.
            if let (true, Ok(cookie)) = (how != libc::SHUT_WR, sys::cookie(fd)) {
                engine::shutdown(shadow.engine, cookie, how == libc::SHUT_RDWR);
            }
            Verdict::Pass
        }
        Phase::Connecting => {
            connect::disconnect(fd, &shadow);
            Verdict::Done(Ok(0))
        }
        Phase::Failed { .. } | Phase::Gone => Verdict::Done(Err(libc::ENOTCONN)),
    }
}

//! The sending calls.

use super::{active, outcome, padded, plain, returned};
use crate::shim::receive::explain;
use crate::shim::send::{fast_open, transmit, write_as_send, Outcome};
use crate::shim::{identify, memory, table};
use core::ffi::{c_int, c_uint, c_void};
use core::ptr::{null, null_mut};
use libc::{iovec, mmsghdr, msghdr, socklen_t, ssize_t};

/// Bytes of control messages that are looked at.
const CONTROL_MAX: usize = 1024;

blocking! {
    unsafe fn send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> ssize_t
        = libc::SYS_sendto, [fd, buf, len, flags]
    {
        if !active() {
            return send::real(fd, buf, len, flags);
        }
        returned(transmit(fd, flags, |flags, _| outcome(send::real(fd, buf, len, flags))))
    }

    unsafe fn sendto(
        fd: c_int, buf: *const c_void, len: usize, flags: c_int, addr: *const c_void, addr_len: socklen_t
    ) -> ssize_t = libc::SYS_sendto, [fd, buf, len, flags, addr, addr_len] {
        if !active() {
            return sendto::real(fd, buf, len, flags, addr, addr_len);
        }
        let flags = match opened(fd, flags, || (addr, addr_len as usize)) {
            Ok(flags) => flags,
            Err(errno) => return returned(Err(errno)),
        };
        returned(transmit(fd, flags, |flags, addressed| match addressed {
            true => outcome(sendto::real(fd, buf, len, flags, addr, addr_len)),
            false => outcome(sendto::real(fd, buf, len, flags, null(), 0)),
        }))
    }

    unsafe fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t = libc::SYS_sendmsg, [fd, msg, flags] {
        if !active() {
            return sendmsg::real(fd, msg, flags);
        }
        let address = || match copied(msg) {
            Ok(msg) => (msg.msg_name.cast_const(), msg.msg_namelen as usize),
            Err(_) => (null(), 0),
        };
        let flags = match opened(fd, flags, address) {
            Ok(flags) => flags,
            Err(errno) => return returned(Err(errno)),
        };
        returned(transmit(fd, flags, |flags, addressed| match addressed {
            true => match outcome(sendmsg::real(fd, msg, flags)) {
                Err(libc::EINVAL) if identify::shadow(fd).is_some() => match tcp_ignores_control(msg) {
                    Ok(true) => outcome(sendmsg::real(fd, &uncontrolled(&copied(msg)?), flags)),
                    _ => Err(libc::EINVAL),
                },
                sent => sent,
            },
            false => outcome(sendmsg::real(fd, &unaddressed(&copied(msg)?), flags)),
        }))
    }

    unsafe fn sendmmsg(fd: c_int, msgs: *mut mmsghdr, n: c_uint, flags: c_int) -> c_int
        = libc::SYS_sendmmsg, [fd, msgs, n, flags]
    {
        if !active() {
            return sendmmsg::real(fd, msgs, n, flags);
        }
        returned(transmit(fd, flags, |flags, addressed| match addressed {
            true => outcome(sendmmsg::real(fd, msgs, n, flags) as isize),
            false => each_unaddressed(fd, msgs, n, flags),
        })) as c_int
    }

    unsafe fn write(fd: c_int, buf: *const c_void, len: usize) -> ssize_t = libc::SYS_write, [fd, buf, len] {
        if !active() {
            return write::real(fd, buf, len);
        }
        let sent = as_send(fd, |flags| outcome(send::real(fd, buf, len, flags)));
        returned(sent.unwrap_or_else(|| explain(fd, outcome(write::real(fd, buf, len)))))
    }

    unsafe fn writev(fd: c_int, iov: *const iovec, n: c_int) -> ssize_t = libc::SYS_writev, [fd, iov, n] {
        if !active() || !(0..=libc::UIO_MAXIOV).contains(&n) {
            return writev::real(fd, iov, n);
        }
        let sent = as_send(fd, |flags| outcome(sendmsg::real(fd, &gathered(iov, n), flags)));
        returned(sent.unwrap_or_else(|| explain(fd, outcome(writev::real(fd, iov, n)))))
    }
}

/// The flags that are left when MSG_FASTOPEN has opened the connection.
unsafe fn opened(fd: c_int, flags: c_int, address: impl Fn() -> (*const c_void, usize)) -> Result<c_int, c_int> {
    if flags & libc::MSG_FASTOPEN == 0 {
        return Ok(flags);
    }
    let (addr, len) = address();
    match fast_open(fd, addr, len) {
        Some(done) => done.map(|()| flags & !libc::MSG_FASTOPEN),
        None => Ok(flags),
    }
}

/// A write() made as a send(), if it should and can be: the table may be wrong, and the number a file's by now.
fn as_send(fd: c_int, attempt: impl Fn(c_int) -> Outcome) -> Option<Outcome> {
    if !write_as_send(fd) {
        return None;
    }
    match transmit(fd, 0, |flags, _| attempt(flags)) {
        Err(libc::ENOTSOCK) => {
            table::forget(fd);
            None
        }
        sent => Some(sent),
    }
}

/// A structure of the program's, EFAULT where the kernel would say it.
unsafe fn copied(msg: *const msghdr) -> Result<msghdr, c_int> {
    let mut bytes = [0; size_of::<msghdr>()];
    memory::copy_in(msg.cast(), &mut bytes)?;
    // SAFETY: pointers and integers only: any bytes are a msghdr, and reading does not ask for alignment.
    Ok(unsafe { bytes.as_ptr().cast::<msghdr>().read_unaligned() })
}

/// Whether all control messages are of AF_UNIX and well-formed: TCP sends as if there were none (net/core/sock.c
/// `__sock_cmsg_send`). Those beyond [`CONTROL_MAX`] bytes are not looked at: false.
unsafe fn tcp_ignores_control(msg: *const msghdr) -> Result<bool, c_int> {
    #[repr(align(8))]
    struct Aligned([u8; CONTROL_MAX]);
    let mut msg = copied(msg)?;
    let mut control = Aligned([0; CONTROL_MAX]);
    let len: usize = msg.msg_controllen as _;
    let Some(room) = control.0.get_mut(..len) else {
        return Ok(false);
    };
    memory::copy_in(msg.msg_control.cast(), room)?;
    msg.msg_control = room.as_mut_ptr().cast();
    // SAFETY: the message's control buffer is the copy, with its length; the macros stay within it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&msg) };
    let any = !header.is_null();
    while !header.is_null() {
        let known = matches!((*header).cmsg_type, libc::SCM_RIGHTS | libc::SCM_CREDENTIALS);
        if (*header).cmsg_level == libc::SOL_SOCKET && !known {
            return Ok(false);
        }
        header = libc::CMSG_NXTHDR(&msg, header);
    }
    Ok(any)
}

/// The message without its control messages.
fn uncontrolled(msg: &msghdr) -> msghdr {
    msghdr {
        msg_control: null_mut(),
        msg_controllen: 0,
        ..*msg
    }
}

/// The message without its address.
fn unaddressed(msg: &msghdr) -> msghdr {
    msghdr {
        msg_name: null_mut(),
        msg_namelen: 0,
        ..*msg
    }
}

/// sendmmsg without addresses: what went before an error is the result.
unsafe fn each_unaddressed(fd: c_int, msgs: *mut mmsghdr, n: c_uint, flags: c_int) -> Outcome {
    let n = n.min(libc::UIO_MAXIOV as c_uint);
    for i in 0..n {
        let entry = msgs.wrapping_add(i as usize);
        match one_unaddressed(fd, entry, flags) {
            Ok(()) => {}
            Err(errno) if i == 0 => return Err(errno),
            Err(_) => return Ok(i as isize),
        }
    }
    Ok(n as isize)
}

unsafe fn one_unaddressed(fd: c_int, entry: *mut mmsghdr, flags: c_int) -> Result<(), c_int> {
    let msg = unaddressed(&copied(entry.cast())?);
    let sent = outcome(sendmsg::real(fd, &msg, flags))?;
    let len = entry.cast::<u8>().wrapping_add(core::mem::offset_of!(mmsghdr, msg_len));
    memory::copy_out(&(sent as c_uint).to_ne_bytes(), len)
}

fn gathered(iov: *const iovec, n: c_int) -> msghdr {
    // SAFETY: all-zero bytes are a msghdr: null pointers and zero lengths.
    let mut msg: msghdr = unsafe { core::mem::zeroed() };
    msg.msg_iov = iov.cast_mut();
    msg.msg_iovlen = n as _;
    msg
}

//! The receiving calls, and their twins that programs built with _FORTIFY_SOURCE call.

use super::{active, outcome, padded, plain, returned};
use crate::shim::receive::{explain, is_shadow_name, receive, total_len};
use crate::shim::table::{self, Kind};
use crate::shim::{identify, inq, memory};
use core::ffi::{c_int, c_uint, c_void};
use core::ptr::null_mut;
use libc::{iovec, mmsghdr, msghdr, socklen_t, ssize_t, timespec};

blocking! {
    unsafe fn recv(fd: c_int, buf: *mut c_void, len: usize, flags: c_int) -> ssize_t
        = libc::SYS_recvfrom, [fd, buf, len, flags]
    {
        if !active() {
            return recv::real(fd, buf, len, flags);
        }
        returned(receive(fd, len, flags, || outcome(recv::real(fd, buf, len, flags))))
    }

    unsafe fn recvfrom(
        fd: c_int, buf: *mut c_void, len: usize, flags: c_int, addr: *mut c_void, addr_len: *mut socklen_t
    ) -> ssize_t = libc::SYS_recvfrom, [fd, buf, len, flags, addr, addr_len] {
        if !active() || addr.is_null() || addr_len.is_null() {
            return recv_at(fd, len, flags, || recvfrom::real(fd, buf, len, flags, addr, addr_len));
        }
        if identify::shadow(fd).is_none() {
            return recv_at(fd, len, flags, || recvfrom::real(fd, buf, len, flags, addr, addr_len));
        }
        match recv_at(fd, len, flags, || recvfrom::real(fd, buf, len, flags, null_mut(), null_mut())) {
            n if n < 0 => n,
            n => returned(no_address(addr_len).map(|()| n)),
        }
    }

    unsafe fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t = libc::SYS_recvmsg, [fd, msg, flags] {
        if !active() {
            return recvmsg::real(fd, msg, flags);
        }
        let told = inq::room(fd, msg);
        let n = match total_len(msg, flags) {
            Ok(len) => recv_at(fd, len, flags, || recvmsg::real(fd, msg, flags)),
            // The kernel says so too, of a socket of another kind maybe otherwise.
            Err(errno) if identify::shadow(fd).is_some() => returned(Err(errno)),
            Err(_) => recvmsg::real(fd, msg, flags),
        };
        if n >= 0 {
            unname(msg);
            if flags & libc::MSG_TRUNC != 0 && table::hint(fd) == Kind::Shadow {
                // The bytes were dropped without the kernel's seeing the message.
                (*msg).msg_namelen = 0;
                (*msg).msg_controllen = 0;
                (*msg).msg_flags = flags & libc::MSG_CMSG_CLOEXEC;
            }
            if let Some(room) = told {
                inq::tell(fd, msg, room);
            }
        }
        n
    }

    unsafe fn recvmmsg(
        fd: c_int, msgs: *mut mmsghdr, n: c_uint, flags: c_int, timeout: *mut timespec
    ) -> c_int = libc::SYS_recvmmsg, [fd, msgs, n, flags, timeout] {
        if active() && table::is_queue_told(fd) {
            return each_told(fd, msgs, n, |msg, first| {
                let wait = if first || flags & libc::MSG_WAITFORONE == 0 { 0 } else { libc::MSG_DONTWAIT };
                let got = recvmmsg::real(fd, msg, 1, flags | wait, timeout);
                (got, !timeout.is_null() && got == 1 && (*timeout).tv_sec == 0 && (*timeout).tv_nsec == 0)
            });
        }
        let got = recvmmsg::real(fd, msgs, n, flags, timeout);
        for i in 0..usize::try_from(got).unwrap_or(0) {
            unname(&raw mut (*msgs.add(i)).msg_hdr);
        }
        got
    }

    unsafe fn read(fd: c_int, buf: *mut c_void, len: usize) -> ssize_t = libc::SYS_read, [fd, buf, len] {
        let n = read::real(fd, buf, len);
        if n >= 0 || !active() {
            return n;
        }
        returned(explain(fd, outcome(n)))
    }

    unsafe fn readv(fd: c_int, iov: *const iovec, n: c_int) -> ssize_t = libc::SYS_readv, [fd, iov, n] {
        let n = readv::real(fd, iov, n);
        if n >= 0 || !active() {
            return n;
        }
        returned(explain(fd, outcome(n)))
    }
}

fn recv_at(fd: c_int, len: usize, flags: c_int, attempt: impl Fn() -> ssize_t) -> ssize_t {
    if active() {
        returned(receive(fd, len, flags, || outcome(attempt())))
    } else {
        attempt()
    }
}

/// recvmmsg() a message at a time, since each is told what waits behind it. `attempt` is the kernel's call for one message, the first or a later
/// one: what it gives, and whether the time is over (the kernel keeps count of it in the program's timeout).
unsafe fn each_told(
    fd: c_int,
    msgs: *mut mmsghdr,
    n: c_uint,
    attempt: impl Fn(*mut mmsghdr, bool) -> (c_int, bool),
) -> c_int {
    // As many as the kernel takes at once (net/socket.c `__sys_recvmmsg`).
    let n = n.min(libc::UIO_MAXIOV as c_uint);
    for i in 0..n {
        let msg = msgs.wrapping_add(i as usize);
        let told = inq::room(fd, msg.cast());
        let (got, over) = attempt(msg, i == 0);
        if got != 1 {
            return if i == 0 { got } else { i as c_int };
        }
        unname(msg.cast());
        if let Some(room) = told {
            inq::tell(fd, msg.cast(), room);
        }
        if over {
            return i as c_int + 1;
        }
    }
    n as c_int
}

/// TCP tells no sender: the length is 0, and the room for an address stays as it is (net/socket.c `move_addr_to_user`).
unsafe fn no_address(addr_len: *mut socklen_t) -> Result<(), c_int> {
    let mut room = [0; size_of::<socklen_t>()];
    memory::copy_in(addr_len.cast(), &mut room)?;
    if c_int::from_ne_bytes(room) < 0 {
        return Err(libc::EINVAL);
    }
    memory::copy_out(&[0; size_of::<socklen_t>()], addr_len.cast())
}

/// TCP tells no sender. The kernel has used `msg`, so it is readable. Only the first bytes of a name are looked at, and only of one as
/// long as a shadow's: a program that asks for names has room for the shortest address.
unsafe fn unname(msg: *mut msghdr) {
    let len = (*msg).msg_namelen as usize;
    if is_shadow_name((*msg).msg_name, len, len) {
        (*msg).msg_namelen = 0;
    }
}

#[cfg(target_env = "gnu")]
extern "C-unwind" {
    /// Ends the process: "buffer overflow detected".
    fn __chk_fail() -> !;
}

/// recv with the buffer's size known.
#[cfg(target_env = "gnu")]
#[no_mangle]
pub unsafe extern "C-unwind" fn __recv_chk(
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    size: usize,
    flags: c_int,
) -> ssize_t {
    if len > size {
        __chk_fail();
    }
    recv(fd, buf, len, flags)
}

/// recvfrom with the buffer's size known.
#[cfg(target_env = "gnu")]
#[no_mangle]
pub unsafe extern "C-unwind" fn __recvfrom_chk(
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    size: usize,
    flags: c_int,
    addr: *mut c_void,
    addr_len: *mut socklen_t,
) -> ssize_t {
    if len > size {
        __chk_fail();
    }
    recvfrom(fd, buf, len, flags, addr, addr_len)
}

/// read with the buffer's size known.
#[cfg(target_env = "gnu")]
#[no_mangle]
pub unsafe extern "C-unwind" fn __read_chk(fd: c_int, buf: *mut c_void, len: usize, size: usize) -> ssize_t {
    if len > size {
        __chk_fail();
    }
    read(fd, buf, len)
}

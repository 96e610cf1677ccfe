//! TCP_INQ: recvmsg() tells in a control message how many bytes wait behind those that it gives (linux/tcp.h, TCP_CM_INQ).
//!
//! AF_UNIX has nothing of the kind, so the message is written here, behind the kernel's call. Whether it is wanted is kept in the shadow itself,
//! as its SO_PRIORITY, which nothing else uses: so it is there under every duplicate and in every process. The table remembers it, so that
//! nobody pays who does not want it.
//!
//! Not told: bytes that the shadow has no room for yet and the engine keeps. The number is the least that the next call finds.

use super::sys::{self, Errno};
use super::{memory, table};
use crate::control::options::TCP_INQ;
use core::ffi::c_int;

/// The mark.
const TOLD: c_int = 1;
/// Control messages are aligned to this.
const ALIGN: usize = size_of::<usize>();
/// Bytes of the message: its header and an int.
const MESSAGE_LEN: usize = size_of::<libc::cmsghdr>().next_multiple_of(ALIGN) + size_of::<c_int>();

/// Keeps in a shadow whether the program wants to be told.
pub fn keep(shadow: c_int, told: bool) -> Result<(), Errno> {
    let mark = if told { TOLD } else { 0 };
    sys::setsockopt_bytes(shadow, libc::SOL_SOCKET, libc::SO_PRIORITY, &mark.to_ne_bytes())?;
    table::set_queue_told(shadow, told);
    Ok(())
}

/// A shadow that this process did not know: what it keeps goes into the table.
pub fn learn(shadow: c_int) {
    let told = sys::getsockopt_int(shadow, libc::SOL_SOCKET, libc::SO_PRIORITY) == Ok(TOLD);
    table::set_queue_told(shadow, told);
}

/// A shadow takes the place of a TCP socket: what that one was asked for.
pub fn take_over(from: c_int, shadow: c_int) -> Result<(), Errno> {
    match sys::getsockopt_int(from, libc::IPPROTO_TCP, TCP_INQ) {
        Ok(1) => sys::setsockopt_bytes(shadow, libc::SOL_SOCKET, libc::SO_PRIORITY, &TOLD.to_ne_bytes()),
        _ => Ok(()),
    }
}

/// Where control messages go, before recvmsg() overwrites that; None when nobody is told.
///
/// # Safety
/// `msg` is what recvmsg() would be given.
pub unsafe fn room(fd: c_int, msg: *const libc::msghdr) -> Option<usize> {
    if !table::is_queue_told(fd) {
        return None;
    }
    let mut len = [0; size_of::<usize>()];
    let at = msg
        .cast::<u8>()
        .wrapping_add(core::mem::offset_of!(libc::msghdr, msg_controllen));
    // SAFETY: the caller's promise.
    unsafe { memory::copy_in(at, &mut len) }.ok()?;
    Some(usize::from_ne_bytes(len))
}

/// Adds the message behind those that recvmsg() has written, as net/core/scm.c `put_cmsg` does.
///
/// # Safety
/// `msg` is what recvmsg() was given and has used, with this room for control messages.
pub unsafe fn tell(fd: c_int, msg: *mut libc::msghdr, room: usize) {
    // SAFETY: the kernel has just read and written it.
    let message = unsafe { &mut *msg };
    let used: usize = message.msg_controllen as _;
    let left = room.saturating_sub(used);
    if message.msg_control.is_null() || left < size_of::<libc::cmsghdr>() {
        message.msg_flags |= libc::MSG_CTRUNC;
        return;
    }
    let len = if left < MESSAGE_LEN {
        message.msg_flags |= libc::MSG_CTRUNC;
        left
    } else {
        MESSAGE_LEN
    };
    let mut bytes = [0; MESSAGE_LEN];
    bytes[..ALIGN].copy_from_slice(&len.to_ne_bytes());
    let kind = core::mem::offset_of!(libc::cmsghdr, cmsg_level);
    bytes[kind..kind + 4].copy_from_slice(&libc::IPPROTO_TCP.to_ne_bytes());
    bytes[kind + 4..kind + 8].copy_from_slice(&TCP_INQ.to_ne_bytes());
    bytes[MESSAGE_LEN - 4..].copy_from_slice(&waiting(fd).to_ne_bytes());
    let to = message.msg_control.cast::<u8>().wrapping_add(used);
    // SAFETY: within the room that the program says it has, or refused.
    if unsafe { memory::copy_out(&bytes[..len], to) }.is_ok() {
        message.msg_controllen = (used + len.next_multiple_of(ALIGN).min(left)) as _;
    }
}

/// What waits; 1 at the end of the stream, so that the program reads on (net/ipv4/tcp.c `tcp_inq_hint`).
fn waiting(fd: c_int) -> c_int {
    // SAFETY: the descriptor is the program's and only looked at.
    let socket = unsafe { rustix::fd::BorrowedFd::borrow_raw(fd) };
    match rustix::io::ioctl_fionread(socket).unwrap_or(0) {
        0 => c_int::from(sys::poll_now(fd, libc::POLLRDHUP).is_ok_and(|events| events & libc::POLLRDHUP != 0)),
        n => c_int::try_from(n).unwrap_or(c_int::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[repr(align(8))]
    struct Control([u8; 64]);

    /// The message and the flags after recvmsg() of one byte with this room.
    fn receive(fd: c_int, room: usize) -> (Option<(c_int, c_int)>, c_int) {
        let (mut byte, mut control) = ([0u8], Control([0xff; 64]));
        let mut part = libc::iovec {
            iov_base: byte.as_mut_ptr().cast(),
            iov_len: 1,
        };
        // SAFETY: all-zero bytes are a msghdr.
        let mut msg: libc::msghdr = unsafe { core::mem::zeroed() };
        msg.msg_iov = &mut part;
        msg.msg_iovlen = 1;
        msg.msg_control = control.0.as_mut_ptr().cast();
        msg.msg_controllen = room as _;
        // SAFETY: a message of this frame's own.
        unsafe {
            let asked = super::room(fd, &msg);
            assert!(libc::recvmsg(fd, &mut msg, libc::MSG_DONTWAIT) >= 0);
            asked.into_iter().for_each(|room| tell(fd, &mut msg, room));
            let header = libc::CMSG_FIRSTHDR(&msg);
            let read = (!header.is_null()).then(|| {
                assert_eq!(
                    ((*header).cmsg_level, (*header).cmsg_type),
                    (libc::IPPROTO_TCP, TCP_INQ)
                );
                let value = libc::CMSG_DATA(header).cast::<c_int>().read_unaligned();
                (value, (*header).cmsg_len as c_int)
            });
            (read, msg.msg_flags)
        }
    }

    #[test]
    fn what_waits_is_told_to_who_asked() {
        let (mut peer, socket) = UnixStream::pair().expect("a pair");
        let fd = socket.as_raw_fd();
        table::note(fd, table::Kind::Shadow, 1);
        peer.write_all(b"12345").expect("room");
        assert_eq!(receive(fd, 64), (None, 0), "nobody asked");
        keep(fd, true).expect("it is kept");
        assert_eq!(receive(fd, 64), (Some((3, 20)), 0));
        assert_eq!(receive(fd, 8), (None, libc::MSG_CTRUNC));
        assert_eq!(receive(fd, 24), (Some((1, 20)), 0));
        drop(peer);
        assert_eq!(receive(fd, 64).0, Some((1, 20)), "the end is to be read");
        table::note(fd, table::Kind::Shadow, 1);
        learn(fd);
        assert!(table::is_queue_told(fd));
        keep(fd, false).expect("it is kept");
        assert!(!table::is_queue_told(fd));
        table::forget(fd);
    }
}

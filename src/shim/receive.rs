//! The receiving calls: what AF_UNIX does otherwise than TCP.
//!
//! | call | AF_UNIX | TCP, and what is done here |
//! |---|---|---|
//! | the sender's address | the engine's end's name | none, length 0 |
//! | MSG_TRUNC | ignored | the bytes are dropped, the buffer is not touched |
//! | MSG_OOB | a byte beside the stream, or EINVAL | MPTCP has no urgent data: EINVAL |
//! | MSG_ERRQUEUE | ignored | an empty error queue: EAGAIN |
//! | ECONNRESET | for every failure | the connection's own error |

use super::send::{reset, Outcome};
use super::{identify, memory, start, sys};
use crate::control::shadow::ShadowName;
use core::ffi::{c_int, c_void};

/// Flags that mean something else on AF_UNIX.
const TRANSLATED: c_int = libc::MSG_TRUNC | libc::MSG_OOB | libc::MSG_ERRQUEUE;
/// How much MSG_TRUNC drops with one system call.
const SCRATCH_LEN: usize = 2048;

/// One receiving call on a socket for up to `len` bytes. `attempt` makes it as the program did.
pub fn receive(fd: c_int, len: usize, flags: c_int, attempt: impl Fn() -> Outcome) -> Outcome {
    if flags & TRANSLATED != 0 && identify::shadow(fd).is_some() {
        if flags & libc::MSG_ERRQUEUE != 0 {
            return Err(libc::EAGAIN);
        }
        if flags & libc::MSG_OOB != 0 {
            return Err(libc::EINVAL);
        }
        return discard(fd, len, flags & !libc::MSG_TRUNC);
    }
    explain(fd, attempt())
}

/// The bytes that a message has room for; 0 when nobody needs to know.
///
/// # Errors
/// EFAULT and EMSGSIZE where recvmsg() would say it.
///
/// # Safety
/// `msg` is what recvmsg() would be given.
pub unsafe fn total_len(msg: *const libc::msghdr, flags: c_int) -> Result<usize, c_int> {
    if flags & TRANSLATED == 0 {
        return Ok(0);
    }
    let mut bytes = [0; size_of::<libc::msghdr>()];
    // SAFETY: the caller's promise.
    unsafe { memory::copy_in(msg.cast(), &mut bytes) }?;
    // SAFETY: pointers and integers only: any bytes are a msghdr, and reading does not ask for alignment.
    let msg = unsafe { bytes.as_ptr().cast::<libc::msghdr>().read_unaligned() };
    let count: usize = msg.msg_iovlen as _;
    if count > libc::UIO_MAXIOV as usize {
        return Err(libc::EMSGSIZE);
    }
    (0..count).try_fold(0usize, |sum, i| {
        let mut len = [0; size_of::<usize>()];
        let at = msg.msg_iov.wrapping_add(i).cast::<u8>();
        let at = at.wrapping_add(core::mem::offset_of!(libc::iovec, iov_len));
        // SAFETY: an address of the program's, readable or refused.
        unsafe { memory::copy_in(at, &mut len) }?;
        Ok(sum.saturating_add(usize::from_ne_bytes(len)))
    })
}

/// Names the error behind ECONNRESET.
pub fn explain(fd: c_int, outcome: Outcome) -> Outcome {
    match outcome {
        Err(libc::ECONNRESET) if !start::sandboxed() => match reset(fd) {
            // Reset behind the peer's end of stream, which is what TCP goes on to show a reader.
            libc::EPIPE => Ok(0),
            errno => Err(errno),
        },
        outcome => outcome,
    }
}

/// MSG_TRUNC: takes bytes (or with MSG_PEEK counts them) and shows none.
fn discard(fd: c_int, len: usize, flags: c_int) -> Outcome {
    let mut scratch = [0; SCRATCH_LEN];
    let first = len.min(scratch.len());
    let mut taken = match sys::recv(fd, &mut scratch[..first], flags) {
        Ok(n) => n,
        Err(errno) => return explain(fd, Err(errno)),
    };
    if flags & libc::MSG_PEEK != 0 {
        return Ok(queued(fd).clamp(taken, len.max(taken)) as isize);
    }
    // What is there already is taken; only MSG_WAITALL waits for the rest.
    let more = if flags & libc::MSG_WAITALL != 0 {
        flags
    } else {
        flags | libc::MSG_DONTWAIT
    };
    let waits_or_full = taken == first || flags & libc::MSG_WAITALL != 0;
    while waits_or_full && taken < len {
        let n = (len - taken).min(scratch.len());
        match sys::recv(fd, &mut scratch[..n], more) {
            Ok(0) | Err(_) => break,
            Ok(n) => taken += n,
        }
    }
    Ok(taken as isize)
}

/// SIOCINQ.
fn queued(fd: c_int) -> usize {
    // SAFETY: the descriptor is the program's and only looked at.
    let fd = unsafe { rustix::fd::BorrowedFd::borrow_raw(fd) };
    rustix::io::ioctl_fionread(fd).map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// After a receiving call: whether the sender's name, `len` bytes of which the kernel has written to `addr`, is a shadow's. No system call: the
/// name itself says it.
///
/// # Safety
/// `addr` is readable for `room` bytes.
pub unsafe fn is_shadow_name(addr: *const c_void, room: usize, len: usize) -> bool {
    const NAME_AT: usize = 3;
    // Enough for the prefix: a buffer for an Internet address has no room for more.
    let visible = room.min(16);
    if addr.is_null() || len < ShadowName::LEN_MIN || visible <= NAME_AT {
        return false;
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { core::slice::from_raw_parts(addr.cast::<u8>(), visible) };
    let family = u16::from_ne_bytes([bytes[0], bytes[1]]);
    family == libc::AF_UNIX as u16 && bytes[2] == 0 && ShadowName::may_begin(&bytes[NAME_AT..])
}

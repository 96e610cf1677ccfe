//! System calls by instruction: no libc function (another preload may have hooked it, or it may be ours), no errno, no cancellation point.
//!
//! rustix has typed calls for most; here are those that it lacks or whose arguments the program supplied untyped. Pointers that come
//! from the program are passed on unread: the kernel judges them (EFAULT), as it does without us.

use crate::control::channel;
use core::ffi::{c_int, c_long};
use rustix::fd::{FromRawFd, OwnedFd};

/// A system call's failure: the positive errno.
pub type Errno = c_int;

/// The kernel's return value: -4095..=-1 is a negated errno.
///
/// # Safety
/// As the call `nr` with these arguments.
#[cfg(target_arch = "x86_64")]
#[inline]
pub unsafe fn syscall6(nr: c_long, args: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel clobbers rcx and r11 and whatever the call itself is documented to write (the caller's promise).
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") nr as isize => ret,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    ret
}

/// The kernel's return value: -4095..=-1 is a negated errno.
///
/// # Safety
/// As the call `nr` with these arguments.
#[cfg(target_arch = "aarch64")]
#[inline]
pub unsafe fn syscall6(nr: c_long, args: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel preserves every register but x0 and writes only what the call is documented to (the caller's promise).
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") nr,
            inlateout("x0") args[0] as isize => ret,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack)
        );
    }
    ret
}

fn result(ret: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&ret) {
        Err(-ret as Errno)
    } else {
        Ok(ret as usize)
    }
}

/// Any call, its failure as a value.
///
/// # Safety
/// As the call `nr` with these arguments.
pub unsafe fn call(nr: c_long, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    result(unsafe { syscall6(nr, args) })
}

/// A call whose arguments are all numbers (descriptors, flags): nothing of this process's memory is touched.
fn numbers(nr: c_long, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: private to this file and only used with calls that take no pointers.
    unsafe { call(nr, args) }
}

/// A name as the kernel gives it: `family` and the bytes after it.
pub struct RawName {
    bytes: [u8; 128],
    len: usize,
}

impl RawName {
    /// AF_*, AF_UNSPEC for an empty one.
    pub fn family(&self) -> c_int {
        if self.len < 2 {
            return libc::AF_UNSPEC;
        }
        c_int::from(u16::from_ne_bytes([self.bytes[0], self.bytes[1]]))
    }

    /// What follows the family.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.len.min(2)..self.len]
    }
}

fn name_of(nr: c_long, fd: c_int) -> Result<RawName, Errno> {
    let mut name = RawName {
        bytes: [0; 128],
        len: 0,
    };
    let mut len = name.bytes.len() as u32;
    // SAFETY: the kernel writes at most `len` bytes to the buffer and the true length to `len`; both live on this stack.
    unsafe {
        call(
            nr,
            [
                fd as usize,
                name.bytes.as_mut_ptr() as usize,
                &raw mut len as usize,
                0,
                0,
                0,
            ],
        )?
    };
    name.len = (len as usize).min(name.bytes.len());
    Ok(name)
}

/// The peer's name.
pub fn getpeername(fd: c_int) -> Result<RawName, Errno> {
    name_of(libc::SYS_getpeername, fd)
}

/// Its own name.
pub fn getsockname(fd: c_int) -> Result<RawName, Errno> {
    name_of(libc::SYS_getsockname, fd)
}

/// bind().
pub fn bind(fd: c_int, address: core::net::SocketAddr) -> Result<(), Errno> {
    let (bytes, len) = crate::control::multipath::sockaddr(address);
    // SAFETY: the kernel reads `len` bytes, which there are.
    unsafe { call(libc::SYS_bind, [fd as usize, bytes.as_ptr() as usize, len, 0, 0, 0]) }.map(drop)
}

/// An option that is an int.
pub fn getsockopt_int(fd: c_int, level: c_int, name: c_int) -> Result<c_int, Errno> {
    let mut value = [0; 4];
    getsockopt_bytes(fd, level, name, &mut value)?;
    Ok(c_int::from_ne_bytes(value))
}

/// An option of any size into `value`; its length.
pub fn getsockopt_bytes(fd: c_int, level: c_int, name: c_int, value: &mut [u8]) -> Result<usize, Errno> {
    let mut len = value.len() as u32;
    let args = [
        fd as usize,
        level as usize,
        name as usize,
        value.as_mut_ptr() as usize,
        &raw mut len as usize,
        0,
    ];
    // SAFETY: the kernel writes at most `len` bytes into `value`.
    unsafe { call(libc::SYS_getsockopt, args)? };
    Ok((len as usize).min(value.len()))
}

/// Sets an option from its bytes.
pub fn setsockopt_bytes(fd: c_int, level: c_int, name: c_int, value: &[u8]) -> Result<(), Errno> {
    let args = [
        fd as usize,
        level as usize,
        name as usize,
        value.as_ptr() as usize,
        value.len(),
        0,
    ];
    // SAFETY: the kernel reads `value.len()` bytes.
    unsafe { call(libc::SYS_setsockopt, args)? };
    Ok(())
}

/// The 64-bit identity of a socket's description: the same in every process that holds it, never reused.
pub fn cookie(fd: c_int) -> Result<u64, Errno> {
    let mut value = [0; 8];
    getsockopt_bytes(fd, libc::SOL_SOCKET, libc::SO_COOKIE, &mut value)?;
    Ok(u64::from_ne_bytes(value))
}

/// CLOCK_MONOTONIC_COARSE. Not by the vDSO, which rustix would look for where the kernel said: under valgrind it is not there.
pub fn monotonic_ms() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let args = [
        libc::CLOCK_MONOTONIC_COARSE as usize,
        &raw mut time as usize,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: it writes to `time` only.
    match unsafe { call(libc::SYS_clock_gettime, args) } {
        Ok(_) => time
            .tv_sec
            .saturating_mul(1000)
            .saturating_add(time.tv_nsec / 1_000_000),
        Err(_) => 0,
    }
}

/// fcntl with a number.
pub fn fcntl(fd: c_int, cmd: c_int, arg: c_int) -> Result<c_int, Errno> {
    numbers(libc::SYS_fcntl, [fd as usize, cmd as usize, arg as usize, 0, 0, 0]).map(|v| v as c_int)
}

/// A socket.
pub fn socket(family: c_int, kind: c_int, protocol: c_int) -> Result<c_int, Errno> {
    numbers(
        libc::SYS_socket,
        [family as usize, kind as usize, protocol as usize, 0, 0, 0],
    )
    .map(|v| v as c_int)
}

/// A close-on-exec socket of ours, above the standard three descriptors.
pub fn own_socket(family: c_int, kind: c_int) -> Result<OwnedFd, Errno> {
    let fd = socket(family, kind | libc::SOCK_CLOEXEC, 0)?;
    // SAFETY: a new descriptor that is nobody else's.
    channel::above_stdio(unsafe { OwnedFd::from_raw_fd(fd) }).map_err(|error| error.raw_os_error())
}

/// Puts the description of `from` at number `to`, closing what was there.
pub fn dup3(from: c_int, to: c_int, flags: c_int) -> Result<(), Errno> {
    numbers(libc::SYS_dup3, [from as usize, to as usize, flags as usize, 0, 0, 0]).map(drop)
}

/// close().
pub fn close(fd: c_int) {
    // A failed close has closed all the same.
    let _ = numbers(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]);
}

/// poll() on one descriptor without waiting: the events.
pub fn poll_now(fd: c_int, events: i16) -> Result<i16, Errno> {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let args = [&raw mut entry as usize, 1, &raw const zero as usize, 0, 0, 0];
    // SAFETY: one entry, one timespec, no signal mask.
    unsafe { call(libc::SYS_ppoll, args)? };
    Ok(entry.revents)
}

/// epoll_ctl().
pub fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: Option<libc::epoll_event>) -> Result<(), Errno> {
    let pointer = event.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: the kernel reads the event, or nothing when the operation needs none.
    unsafe {
        call(
            libc::SYS_epoll_ctl,
            [epfd as usize, op as usize, fd as usize, pointer as usize, 0, 0],
        )?
    };
    Ok(())
}

/// Receives into a buffer of ours.
pub fn recv(fd: c_int, buf: &mut [u8], flags: c_int) -> Result<usize, Errno> {
    let args = [fd as usize, buf.as_mut_ptr() as usize, buf.len(), flags as usize, 0, 0];
    // SAFETY: the kernel writes at most `buf.len()` bytes.
    unsafe { call(libc::SYS_recvfrom, args) }
}

/// Blocks every signal of the calling thread; the mask to give back to [`restore_signals`].
pub fn block_signals() -> u64 {
    let all = u64::MAX;
    let mut old = 0u64;
    let args = [
        libc::SIG_SETMASK as usize,
        &raw const all as usize,
        &raw mut old as usize,
        8,
        0,
        0,
    ];
    // SAFETY: the kernel's signal set is 8 bytes.
    let _ = unsafe { call(libc::SYS_rt_sigprocmask, args) };
    old
}

/// Gives the mask back; what came meanwhile is delivered.
pub fn restore_signals(old: u64) {
    let args = [libc::SIG_SETMASK as usize, &raw const old as usize, 0, 8, 0, 0];
    // SAFETY: the kernel's signal set is 8 bytes.
    let _ = unsafe { call(libc::SYS_rt_sigprocmask, args) };
}

/// Raises a signal for the calling thread, as the kernel does for a failed write.
pub fn raise(signal: c_int) {
    let pid = numbers(libc::SYS_getpid, [0; 6]).unwrap_or(0);
    let tid = numbers(libc::SYS_gettid, [0; 6]).unwrap_or(0);
    let _ = numbers(libc::SYS_tgkill, [pid, tid, signal as usize, 0, 0, 0]);
}

//! getsockopt and setsockopt on a shadow: the program sees a TCP socket with the values that it set.
//!
//! What the kernel's waiting calls obey on the socket itself stays there (SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVLOWAT, SO_PEEK_OFF). What says which
//! kind of socket it is, is answered here. All else is the engine's: it keeps the program's kernel socket's values and applies what concerns
//! segments.

use super::eligible;
use super::sys::{self, Errno};
use super::{engine, identify, inq, linux, memory, multipath, start, table, Verdict};
use crate::control::multipath::is_ours;
use crate::control::options::TCP_INQ;
use crate::control::shadow::ShadowName;
use crate::control::VALUE_MAX;
use core::ffi::{c_int, c_void};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};

/// SO_TIMESTAMP*_NEW of asm-generic/socket.h.
const SO_TIMESTAMP_NEW: c_int = 63;
/// As above.
const SO_TIMESTAMPNS_NEW: c_int = 64;
/// As above.
const SO_TIMESTAMPING_NEW: c_int = 65;

/// Where an option of a shadow lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Home {
    /// On the shadow itself.
    Kernel,
    /// In the engine.
    Engine,
    /// On the shadow, and the engine has to know.
    Both,
    /// Off, and not to be switched on.
    NeverOn,
    /// TCP_INQ: the engine's, and kept in the shadow.
    Queue,
    /// A number that says what the socket is.
    Constant(c_int),
    /// SO_ERROR.
    Error,
    /// SO_PEERCRED: a TCP socket has no peer process.
    NoCredentials,
    /// TCP passes such a level on, to nobody.
    NoSuchLevel,
    /// Not on TCP sockets, or not on ours.
    Refused(Errno),
}

fn home(level: c_int, name: c_int, shadow: &ShadowName) -> Home {
    match level {
        libc::SOL_SOCKET => {}
        libc::IPPROTO_TCP if name == TCP_INQ => return Home::Queue,
        libc::IPPROTO_TCP | libc::IPPROTO_IP => return Home::Engine,
        libc::IPPROTO_IPV6 if shadow.local.is_ipv6() => return Home::Engine,
        _ => return Home::NoSuchLevel,
    }
    match name {
        libc::SO_DOMAIN if shadow.local.is_ipv4() => Home::Constant(libc::AF_INET),
        libc::SO_DOMAIN => Home::Constant(libc::AF_INET6),
        libc::SO_PROTOCOL => Home::Constant(libc::IPPROTO_TCP),
        libc::SO_ERROR => Home::Error,
        libc::SO_PEERCRED => Home::NoCredentials,
        libc::SO_PEERSEC => Home::Refused(libc::ENOPROTOOPT),
        libc::SO_PEERGROUPS => Home::Refused(libc::ENODATA),
        // SO_PASSPIDFD is the last.
        libc::SO_PASSCRED | libc::SO_PASSSEC | 76 => Home::Refused(libc::EOPNOTSUPP),
        // An AF_UNIX stream has neither: the kernel would take them, and nothing would come of it.
        libc::SO_TIMESTAMP
        | libc::SO_TIMESTAMPNS
        | libc::SO_TIMESTAMPING
        | SO_TIMESTAMP_NEW
        | SO_TIMESTAMPNS_NEW
        | SO_TIMESTAMPING_NEW
        | libc::SO_ZEROCOPY => Home::NeverOn,
        // Their values point into the program's memory, or name its descriptors.
        libc::SO_ATTACH_FILTER
        | libc::SO_ATTACH_BPF
        | libc::SO_ATTACH_REUSEPORT_CBPF
        | libc::SO_ATTACH_REUSEPORT_EBPF => Home::Refused(libc::EOPNOTSUPP),
        libc::SO_SNDBUF
        | libc::SO_RCVBUF
        | libc::SO_SNDBUFFORCE
        | libc::SO_RCVBUFFORCE
        | libc::SO_KEEPALIVE
        | libc::SO_REUSEADDR
        | libc::SO_REUSEPORT
        | libc::SO_OOBINLINE
        | libc::SO_DONTROUTE
        | libc::SO_PRIORITY
        | libc::SO_MARK
        | libc::SO_COOKIE
        | libc::SO_MAX_PACING_RATE => Home::Engine,
        libc::SO_RCVLOWAT | libc::SO_LINGER => Home::Both,
        // Known to every socket, and without meaning for segments.
        _ => Home::Kernel,
    }
}

/// The logic of getsockopt.
///
/// # Safety
/// `value` and `len` are what getsockopt() would be given.
pub unsafe fn get(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut libc::socklen_t) -> Verdict {
    if is_ours(level, name) {
        // SAFETY: the caller's promise.
        return unsafe { multipath::get(fd, name, value, len) };
    }
    if linux::is_ours(level, name) {
        // SAFETY: the caller's promise.
        match unsafe { linux::get(fd, level, name, value, len) } {
            Verdict::Pass => {}
            done => return done,
        }
    }
    let Some(shadow) = identify::shadow(fd) else {
        return Verdict::Pass;
    };
    let mut room = [0; 4];
    // SAFETY: the caller's promise.
    if let Err(errno) = unsafe { memory::copy_in(len.cast(), &mut room) } {
        return Verdict::Done(Err(errno));
    }
    let Ok(room) = usize::try_from(i32::from_ne_bytes(room)) else {
        return Verdict::Done(Err(libc::EINVAL));
    };
    let mut bytes = [0; VALUE_MAX];
    let int = |bytes: &mut [u8; VALUE_MAX], v: c_int| {
        bytes[..4].copy_from_slice(&v.to_ne_bytes());
        Ok(4)
    };
    let length = match home(level, name, &shadow) {
        // What is off there is told at the kernel's own length.
        Home::Kernel | Home::Both | Home::NeverOn => return Verdict::Pass,
        _ if (level, name) == (libc::SOL_SOCKET, libc::SO_COOKIE) && room < 8 => Err(libc::EINVAL),
        Home::Constant(v) => int(&mut bytes, v),
        Home::Error => identify::take_error(fd, &shadow).and_then(|errno| int(&mut bytes, errno)),
        Home::NoCredentials => {
            bytes[4..12].fill(0xff);
            Ok(12)
        }
        Home::Refused(errno) => Err(errno),
        Home::NoSuchLevel => Err(libc::EOPNOTSUPP),
        Home::Engine | Home::Queue if start::sandboxed() => return Verdict::Pass,
        Home::Engine | Home::Queue => sys::cookie(fd).and_then(|cookie| {
            engine::get_option(shadow.engine, cookie, level, name, &mut bytes, room.max(4))
                .unwrap_or(Err(libc::ENOPROTOOPT))
        }),
    };
    Verdict::Done(length.and_then(|length| {
        let n = shown(level, &bytes[..length], room);
        // SAFETY: the caller's promise.
        unsafe {
            memory::copy_out(&bytes[..n], value.cast())?;
            memory::copy_out(&(n as libc::socklen_t).to_ne_bytes(), len.cast())?;
        }
        Ok(0)
    }))
}

/// How much of a value is shown in `room` bytes: `ip_getsockopt` makes one byte of a small number that has no room for four.
fn shown(level: c_int, value: &[u8], room: usize) -> usize {
    match (level, value) {
        (libc::IPPROTO_IP, &[_, 0, 0, 0]) if cfg!(target_endian = "little") && (1..4).contains(&room) => 1,
        _ => value.len().min(room),
    }
}

/// The logic of setsockopt.
///
/// # Safety
/// `value` is what setsockopt() would be given.
pub unsafe fn set(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: usize) -> Verdict {
    if is_ours(level, name) {
        // SAFETY: the caller's promise.
        return unsafe { multipath::set(fd, name, value, len) };
    }
    let Some(shadow) = identify::shadow(fd) else {
        if eligible::is_odd(level, name) {
            table::mark_odd(fd);
        }
        return Verdict::Pass;
    };
    if start::sandboxed() {
        return Verdict::Pass;
    }
    match home(level, name, &shadow) {
        Home::Kernel => Verdict::Pass,
        Home::Constant(_) | Home::Error | Home::NoCredentials | Home::NoSuchLevel => {
            Verdict::Done(Err(libc::ENOPROTOOPT))
        }
        Home::Refused(errno) => Verdict::Done(Err(errno)),
        // SAFETY: the caller's promise.
        Home::NeverOn => Verdict::Done(unsafe { stays_off(value, len) }.map(|()| 0)),
        // SAFETY: the caller's promise.
        Home::Engine => Verdict::Done(unsafe { tell_engine(fd, &shadow, level, name, value, len) }.map(|()| 0)),
        // SAFETY: the caller's promise.
        Home::Queue => Verdict::Done(
            unsafe { tell_engine(fd, &shadow, level, name, value, len) }.and_then(|()| {
                let mut on = [0; 4];
                // SAFETY: the engine took an int from there.
                unsafe { memory::copy_in(value.cast(), &mut on) }?;
                inq::keep(fd, on != [0; 4]).map(|()| 0)
            }),
        ),
        Home::Both => {
            // The kernel's verdict counts; an engine that is gone needs no option any more.
            // SAFETY: the caller's promise.
            let _ = unsafe { tell_engine(fd, &shadow, level, name, value, len) };
            Verdict::Pass
        }
    }
}

/// Switching off what is off is no error.
unsafe fn stays_off(value: *const c_void, len: usize) -> Result<(), Errno> {
    let mut on = [0; 4];
    if len < on.len() {
        return Err(libc::EINVAL);
    }
    // SAFETY: the caller's promise.
    unsafe { memory::copy_in(value.cast(), &mut on) }?;
    match on {
        [0, 0, 0, 0] => Ok(()),
        _ => Err(libc::ENOPROTOOPT),
    }
}

unsafe fn tell_engine(
    fd: c_int,
    shadow: &ShadowName,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: usize,
) -> Result<(), Errno> {
    // The kernel is the judge, of the value and of what this program may do, on a socket of the program's own.
    let judge = new_socket(shadow)?;
    let args = [
        judge.as_raw_fd() as usize,
        level as usize,
        name as usize,
        value as usize,
        len,
        0,
    ];
    // SAFETY: the caller's promise.
    unsafe { sys::call(libc::SYS_setsockopt, args) }?;
    let cookie = sys::cookie(fd)?;
    // A connection without its engine is dead, and TCP takes options on dead connections.
    engine::set_option(shadow.engine, cookie, (level, name), judge.as_fd()).unwrap_or(Ok(()))
}

/// A TCP socket of the shadow's family, above the standard descriptors.
fn new_socket(shadow: &ShadowName) -> Result<OwnedFd, Errno> {
    let family = if shadow.local.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    sys::own_socket(family, libc::SOCK_STREAM)
}

/// A kernel socket in place of a shadow whose engine does not give one: as new, of the same family.
pub fn fresh_socket(fd: c_int, shadow: &ShadowName) -> Option<OwnedFd> {
    let socket = new_socket(shadow).ok()?;
    let mut linger = [0; size_of::<libc::linger>()];
    if sys::getsockopt_bytes(fd, libc::SOL_SOCKET, libc::SO_LINGER, &mut linger).is_ok() {
        // Best effort: the engine that knew the rest is gone.
        let _ = sys::setsockopt_bytes(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger);
    }
    Some(socket)
}

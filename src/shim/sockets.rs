//! The book on sockets that this process makes: only one that it made itself, and that nobody else can hold, may be replaced.

use super::table::{self, Kind};
use super::{epoll, start, sys};
use core::ffi::c_int;

/// The low bits of a socket's type, without SOCK_NONBLOCK and SOCK_CLOEXEC.
const TYPE_MASK: c_int = 0xf;

/// socket() returned `fd` (or -1).
pub fn made(fd: c_int, family: c_int, kind: c_int, protocol: c_int) {
    if fd < 0 || !start::active() || start::sandboxed() {
        return;
    }
    let tcp = matches!(family, libc::AF_INET | libc::AF_INET6)
        && kind & TYPE_MASK == libc::SOCK_STREAM
        && matches!(protocol, 0 | libc::IPPROTO_TCP);
    if !tcp {
        return table::forget(fd);
    }
    match sys::cookie(fd) {
        Ok(cookie) => {
            epoll::forget(fd);
            table::note(fd, Kind::KernelTcp, cookie);
        }
        Err(_) => table::forget(fd),
    }
}

/// `to` (or -1) is a duplicate of `from`; returns it.
pub fn duplicated(from: c_int, to: c_int) -> c_int {
    if to >= 0 && to != from && start::active() {
        table::mark_shared(from, to);
    }
    to
}

/// fcntl(`fd`, `cmd`) returned `result`; returns it.
pub fn controlled(fd: c_int, cmd: c_int, result: c_int) -> c_int {
    match cmd {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => duplicated(fd, result),
        _ => result,
    }
}

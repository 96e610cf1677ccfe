//! listen, accept, accept4: the last two may block.

use super::{active, finish, outcome, padded, plain, returned};
use crate::shim::{accept as accepting, listen as listening};
use core::ffi::{c_int, c_void};
use libc::socklen_t;

blocking! {
    unsafe fn listen(fd: c_int, backlog: c_int) -> c_int = libc::SYS_listen, [fd, backlog] {
        if !active() {
            return listen::real(fd, backlog);
        }
        let prepared = listening::prepare(fd);
        let done = outcome(listen::real(fd, backlog) as isize);
        finish(listening::settle(fd, prepared, done)).unwrap_or(0)
    }

    unsafe fn accept(fd: c_int, addr: *mut c_void, len: *mut socklen_t) -> c_int = libc::SYS_accept, [fd, addr, len] {
        if !active() {
            return accept::real(fd, addr, len);
        }
        let room = accepting::room(addr, len);
        loop {
            let done = outcome(accept::real(fd, addr, len) as isize);
            if let Some(done) = accepting::accepted(done, addr, len, room) {
                return returned(done) as c_int;
            }
        }
    }

    unsafe fn accept4(fd: c_int, addr: *mut c_void, len: *mut socklen_t, flags: c_int) -> c_int
        = libc::SYS_accept4, [fd, addr, len, flags]
    {
        if !active() {
            return accept4::real(fd, addr, len, flags);
        }
        let room = accepting::room(addr, len);
        loop {
            let done = outcome(accept4::real(fd, addr, len, flags) as isize);
            if let Some(done) = accepting::accepted(done, addr, len, room) {
                return returned(done) as c_int;
            }
        }
    }
}

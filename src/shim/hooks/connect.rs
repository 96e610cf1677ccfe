//! connect: it may block.

use super::{active, finish, padded, plain};
use crate::shim::connect as logic;
use core::ffi::{c_int, c_void};
use libc::socklen_t;

blocking! {
    unsafe fn connect(fd: c_int, addr: *const c_void, len: socklen_t) -> c_int = libc::SYS_connect, [fd, addr, len] {
        if !active() {
            return connect::real(fd, addr, len);
        }
        finish(logic::connect(fd, addr, len as usize)).unwrap_or_else(|| connect::real(fd, addr, len))
    }
}

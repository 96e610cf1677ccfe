//! getsockopt, setsockopt, ioctl (variadic in C: its one optional argument is always passed on).

use super::{active, finish, plain, resolved};
use crate::shim::{controls, listen, options};
use core::ffi::{c_int, c_ulong, c_void};
use libc::socklen_t;

pub fn resolve() {
    let _ = redhook::real!(getsockopt);
    let _ = redhook::real!(setsockopt);
    let _ = redhook::real!(ioctl);
}

redhook::hook! {
    unsafe fn getsockopt(
        fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t
    ) -> c_int => mptcp_getsockopt {
        if !resolved() {
            let args = [fd as usize, level as usize, name as usize, value as usize, len as usize, 0];
            return plain(libc::SYS_getsockopt, args) as c_int;
        }
        let done = if active() { finish(options::get(fd, level, name, value, len)) } else { None };
        done.unwrap_or_else(|| redhook::real!(getsockopt)(fd, level, name, value, len))
    }
}

redhook::hook! {
    unsafe fn setsockopt(
        fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t
    ) -> c_int => mptcp_setsockopt {
        if !resolved() {
            let args = [fd as usize, level as usize, name as usize, value as usize, len as usize, 0];
            return plain(libc::SYS_setsockopt, args) as c_int;
        }
        let done = if active() { finish(options::set(fd, level, name, value, len as usize)) } else { None };
        done.unwrap_or_else(|| {
            let done = redhook::real!(setsockopt)(fd, level, name, value, len);
            if done == 0 && active() {
                listen::option_changed(fd, level, name);
            }
            done
        })
    }
}

redhook::hook! {
    unsafe fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int => mptcp_ioctl {
        if !resolved() {
            return plain(libc::SYS_ioctl, [fd as usize, request as usize, argument as usize, 0, 0, 0]) as c_int;
        }
        let done = if active() { finish(controls::ioctl(fd, request, argument)) } else { None };
        done.unwrap_or_else(|| redhook::real!(ioctl)(fd, request, argument))
    }
}

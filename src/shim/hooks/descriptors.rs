//! What makes sockets and duplicates of them, and what names and ends them.

use super::{active, finish, plain, resolved};
use crate::shim::names::{self, End};
use crate::shim::{controls, linux, sockets};
use core::ffi::{c_int, c_void};
use libc::socklen_t;

pub fn resolve() {
    let _ = redhook::real!(socket);
    let _ = redhook::real!(dup);
    let _ = redhook::real!(dup2);
    let _ = redhook::real!(dup3);
    let _ = redhook::real!(getpeername);
    let _ = redhook::real!(getsockname);
    let _ = redhook::real!(shutdown);
}

redhook::hook! {
    unsafe fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int => mptcp_socket {
        if !resolved() {
            return plain(libc::SYS_socket, [family as usize, kind as usize, protocol as usize, 0, 0, 0]) as c_int;
        }
        let given = linux::protocol(family, kind, protocol);
        let fd = redhook::real!(socket)(family, kind, given);
        sockets::made(fd, family, kind, given);
        linux::made(fd, protocol, given);
        fd
    }
}

redhook::hook! {
    unsafe fn dup(from: c_int) -> c_int => mptcp_dup {
        if !resolved() {
            return plain(libc::SYS_dup, [from as usize, 0, 0, 0, 0, 0]) as c_int;
        }
        sockets::duplicated(from, redhook::real!(dup)(from))
    }
}

redhook::hook! {
    unsafe fn dup2(from: c_int, to: c_int) -> c_int => mptcp_dup2 {
        if !resolved() {
            // dup3 refuses equal numbers, for which dup2 only asks whether the first is open.
            if from == to {
                let open = plain(libc::SYS_fcntl, [from as usize, libc::F_GETFD as usize, 0, 0, 0, 0]) >= 0;
                return if open { to } else { -1 };
            }
            return plain(libc::SYS_dup3, [from as usize, to as usize, 0, 0, 0, 0]) as c_int;
        }
        sockets::duplicated(from, redhook::real!(dup2)(from, to))
    }
}

redhook::hook! {
    unsafe fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int => mptcp_dup3 {
        if !resolved() {
            return plain(libc::SYS_dup3, [from as usize, to as usize, flags as usize, 0, 0, 0]) as c_int;
        }
        sockets::duplicated(from, redhook::real!(dup3)(from, to, flags))
    }
}

redhook::hook! {
    unsafe fn getpeername(fd: c_int, addr: *mut c_void, len: *mut socklen_t) -> c_int => mptcp_getpeername {
        if !resolved() {
            return plain(libc::SYS_getpeername, [fd as usize, addr as usize, len as usize, 0, 0, 0]) as c_int;
        }
        let done = if active() { finish(names::name(fd, End::Remote, addr, len)) } else { None };
        done.unwrap_or_else(|| redhook::real!(getpeername)(fd, addr, len))
    }
}

redhook::hook! {
    unsafe fn getsockname(fd: c_int, addr: *mut c_void, len: *mut socklen_t) -> c_int => mptcp_getsockname {
        if !resolved() {
            return plain(libc::SYS_getsockname, [fd as usize, addr as usize, len as usize, 0, 0, 0]) as c_int;
        }
        let done = if active() { finish(names::name(fd, End::Local, addr, len)) } else { None };
        done.unwrap_or_else(|| redhook::real!(getsockname)(fd, addr, len))
    }
}

redhook::hook! {
    unsafe fn shutdown(fd: c_int, how: c_int) -> c_int => mptcp_shutdown {
        if !resolved() {
            return plain(libc::SYS_shutdown, [fd as usize, how as usize, 0, 0, 0, 0]) as c_int;
        }
        let done = if active() { finish(controls::shutdown(fd, how)) } else { None };
        done.unwrap_or_else(|| redhook::real!(shutdown)(fd, how))
    }
}

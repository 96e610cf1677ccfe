//! epoll_ctl: what is registered before connecting is remembered.

use super::{active, plain, resolved};
use crate::shim::epoll;
use core::ffi::c_int;
use libc::epoll_event;

pub fn resolve() {
    let _ = redhook::real!(epoll_ctl);
}

redhook::hook! {
    unsafe fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int => mptcp_epoll_ctl {
        if !resolved() {
            let args = [epfd as usize, op as usize, fd as usize, event as usize, 0, 0];
            return plain(libc::SYS_epoll_ctl, args) as c_int;
        }
        let done = redhook::real!(epoll_ctl)(epfd, op, fd, event);
        if done == 0 && active() {
            // The kernel has just read the event.
            epoll::note(epfd, op, fd, (!event.is_null()).then(|| event.read_unaligned()));
        }
        done
    }
}

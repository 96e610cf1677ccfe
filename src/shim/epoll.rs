//! Epoll registrations of sockets that are not connected yet.
//!
//! Epoll watches a description, not a number: what a program registered before connecting has to be taken out before the shadow takes the number
//! (afterwards it cannot be, and reports a hang-up for ever), and put back with the same events and data. Seen are the epoll_ctl calls of
//! this process; each registration is kept beside the number of its descriptor, and the kernel has the last word: what it does not find
//! is not put back.
//!
//! A socket stays with the kernel when it is in more than one epoll, when its registration is one-shot (whether it was fired is not to be
//! known), or when the epoll's number was closed: all rare before connecting.

use super::sys;
use super::table::{self, Kind, TABLE_LEN};
use crate::control::Bypass;
use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// One registration: epoll's number + 1 (0 is none, `MANY` several), the events, the data. Untouched entries cost no memory.
struct Slot {
    epoll: AtomicU32,
    events: AtomicU32,
    data: AtomicU64,
}

const NONE: u32 = 0;
const MANY: u32 = u32::MAX;

static SLOTS: [Slot; TABLE_LEN] = [const {
    Slot {
        epoll: AtomicU32::new(NONE),
        events: AtomicU32::new(0),
        data: AtomicU64::new(0),
    }
}; TABLE_LEN];

fn slot(fd: c_int) -> Option<&'static Slot> {
    SLOTS.get(usize::try_from(fd).ok()?)
}

/// An epoll_ctl that succeeded; only registrations of what connects, or may be disconnected and connect again, matter.
pub fn note(epfd: c_int, op: c_int, fd: c_int, event: Option<libc::epoll_event>) {
    if table::hint(fd) == Kind::Unknown {
        return;
    }
    let (Some(slot), Ok(number)) = (slot(fd), u32::try_from(epfd)) else {
        return;
    };
    let number = number.saturating_add(1);
    let known = slot.epoll.load(Relaxed);
    match (op, event) {
        (libc::EPOLL_CTL_ADD, Some(_)) if known != NONE && known != number => slot.epoll.store(MANY, Relaxed),
        (libc::EPOLL_CTL_ADD | libc::EPOLL_CTL_MOD, Some(event)) if known != MANY => {
            slot.events.store(event.events, Relaxed);
            slot.data.store(event.u64, Relaxed);
            slot.epoll.store(number, Relaxed);
        }
        (libc::EPOLL_CTL_DEL, _) if known == number => slot.epoll.store(NONE, Relaxed),
        _ => {}
    }
}

/// The number names a new socket.
pub fn forget(fd: c_int) {
    if let Some(slot) = slot(fd) {
        // Most were never registered: reading keeps their memory untouched.
        if slot.epoll.load(Relaxed) != NONE {
            slot.epoll.store(NONE, Relaxed);
        }
    }
}

/// A registration that was taken out.
#[derive(Clone, Copy)]
pub struct Registration {
    epfd: c_int,
    event: libc::epoll_event,
}

/// Whether [`take`] can do its work.
pub fn movable(fd: c_int) -> Result<(), Bypass> {
    let Some(slot) = slot(fd) else { return Ok(()) };
    match slot.epoll.load(Relaxed) {
        NONE => Ok(()),
        MANY => Err(Bypass::Epoll),
        // Whether the one shot was fired is not known here.
        _ if slot.events.load(Relaxed) & libc::EPOLLONESHOT as u32 != 0 => Err(Bypass::Epoll),
        // Closed, but perhaps alive under another number.
        epoll if sys::fcntl(epoll as c_int - 1, libc::F_GETFD, 0).is_err() => Err(Bypass::Epoll),
        _ => Ok(()),
    }
}

/// Takes the descriptor out of the epoll that has it.
pub fn take(fd: c_int) -> Option<Registration> {
    let slot = slot(fd)?;
    let epoll = slot.epoll.load(Relaxed);
    if epoll == NONE || epoll == MANY {
        return None;
    }
    let epfd = epoll as c_int - 1;
    // The program, or the end of the epoll, may have removed it unseen.
    sys::epoll_ctl(epfd, libc::EPOLL_CTL_DEL, fd, None).ok()?;
    let event = libc::epoll_event {
        events: slot.events.load(Relaxed),
        u64: slot.data.load(Relaxed),
    };
    Some(Registration { epfd, event })
}

/// Puts it back, for the description that has the number now.
pub fn put_back(fd: c_int, registration: Registration) -> Result<(), sys::Errno> {
    sys::epoll_ctl(registration.epfd, libc::EPOLL_CTL_ADD, fd, Some(registration.event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_registration_moves_with_its_number() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let fd = listener.as_raw_fd();
        table::note(fd, Kind::KernelTcp, 1);
        // SAFETY: a plain system call.
        let epfd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(epfd >= 0);
        let event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0xfeed_f00d_dead_beef,
        };
        assert!(take(fd).is_none(), "never registered");
        sys::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, Some(event)).expect("added");
        note(epfd, libc::EPOLL_CTL_ADD, fd, Some(event));
        let registration = take(fd).expect("registered");
        let (events, data) = (registration.event.events, registration.event.u64);
        assert_eq!((events, data), (libc::EPOLLIN as u32, 0xfeed_f00d_dead_beef));
        assert!(take(fd).is_none(), "the kernel has the last word");
        put_back(fd, registration).expect("added again");
        assert_eq!(sys::epoll_ctl(epfd, libc::EPOLL_CTL_DEL, fd, None), Ok(()));
        note(epfd + 1, libc::EPOLL_CTL_ADD, fd, Some(event));
        assert_eq!(movable(fd), Err(Bypass::Epoll), "two epolls");
        forget(fd);
        assert_eq!(movable(fd), Ok(()));
        sys::close(epfd);
        table::forget(fd);
    }
}

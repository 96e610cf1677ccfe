//! Puts one description in the place of another, so that whoever uses the number does not notice: status flags, close-on-exec, timeouts, epoll.

use super::sys::{self, Errno};
use super::{epoll, inq, table};
use core::ffi::c_int;
use rustix::fd::{AsRawFd, OwnedFd};

/// Options that live on the socket itself, those that the kernel's waiting calls obey and what getsockopt() shows of SO_LINGER, and their size.
const CARRIED: [(c_int, usize); 4] = [
    (libc::SO_RCVTIMEO, size_of::<libc::timeval>()),
    (libc::SO_SNDTIMEO, size_of::<libc::timeval>()),
    (libc::SO_RCVLOWAT, size_of::<c_int>()),
    (libc::SO_LINGER, size_of::<libc::linger>()),
];

/// Gives `to` what `from` has of status flags and of those options.
fn copy_manners(from: c_int, to: c_int, status_flags: c_int) -> Result<(), Errno> {
    for (name, len) in CARRIED {
        let (mut value, mut present) = ([0; 16], [0; 16]);
        let wanted = sys::getsockopt_bytes(from, libc::SOL_SOCKET, name, &mut value[..len])?;
        let had = sys::getsockopt_bytes(to, libc::SOL_SOCKET, name, &mut present[..len])?;
        if value[..wanted] != present[..had] {
            sys::setsockopt_bytes(to, libc::SOL_SOCKET, name, &value[..wanted])?;
        }
    }
    sys::fcntl(to, libc::F_SETFL, status_flags).map(drop)
}

/// Puts `new` at the number `fd`, with these status flags; `kind` and its cookie go into the table. On failure nothing has changed.
pub fn put(fd: c_int, new: OwnedFd, status_flags: c_int, kind: table::Kind, cookie: u64) -> Result<(), Errno> {
    let descriptor_flags = sys::fcntl(fd, libc::F_GETFD, 0)?;
    copy_manners(fd, new.as_raw_fd(), status_flags)?;
    if kind == table::Kind::Shadow {
        inq::take_over(fd, new.as_raw_fd())?;
    }
    let cloexec = if descriptor_flags & libc::FD_CLOEXEC != 0 {
        libc::O_CLOEXEC
    } else {
        0
    };
    let registration = epoll::take(fd);
    let replaced = sys::dup3(new.as_raw_fd(), fd, cloexec);
    if replaced.is_ok() {
        let aware = table::is_aware(fd);
        table::note(fd, kind, cookie);
        if kind == table::Kind::Shadow {
            inq::learn(fd);
        }
        if aware {
            table::set_aware(fd);
        }
    }
    if let Some(registration) = registration {
        // Fails only without memory, or at the limit of watches that the removal just freed.
        let _ = epoll::put_back(fd, registration);
    }
    replaced
}

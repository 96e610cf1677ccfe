//! Passed sockets prove what a program may do in this network namespace, so they must be of this one: in a namespace of
//! its own every user may have any address, any port and any mark.

use super::socket_options;
use rustix::io::Errno;
use rustix::net::{socket_with, AddressFamily, SocketFlags, SocketType};
use std::os::fd::{AsFd, BorrowedFd};

/// SO_NETNS_COOKIE of asm-generic/socket.h (Linux 5.14).
const SO_NETNS_COOKIE: i32 = 71;

/// Whether `socket` is of the engine's network namespace. A kernel that cannot say it (before Linux 5.14) is not asked.
///
/// # Errors
/// EPERM when it is of another one; what the kernel says of something that is no socket.
pub fn check(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let own = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let own = match cookie(own.as_fd()) {
        Err(Errno::NOPROTOOPT) => return Ok(()),
        cookie => cookie?,
    };
    match cookie(socket)? == own {
        true => Ok(()),
        false => Err(Errno::PERM),
    }
}

fn cookie(socket: BorrowedFd<'_>) -> Result<[u8; 8], Errno> {
    let mut cookie = [0; 8];
    socket_options::get(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut cookie)?;
    Ok(cookie)
}

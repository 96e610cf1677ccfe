//! Passed sockets prove what a program may do in this network namespace, so they must be of this one: in a namespace of
//! its own every user may have any address, any port and any mark.

use super::socket_options;
use rustix::io::Errno;
use rustix::net::{socket_with, AddressFamily, SocketFlags, SocketType};
use std::os::fd::{AsFd, BorrowedFd};

/// SO_NETNS_COOKIE of asm-generic/socket.h (Linux 5.14).
const SO_NETNS_COOKIE: i32 = 71;

/// The engine's network namespace, which it never leaves.
pub struct Namespace {
    /// None before Linux 5.14, which cannot say it and is not asked.
    cookie: Option<[u8; 8]>,
}

impl Namespace {
    /// That of this process.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn own() -> Result<Namespace, Errno> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let cookie = match cookie(socket.as_fd()) {
            Err(Errno::NOPROTOOPT) => None,
            cookie => Some(cookie?),
        };
        Ok(Namespace { cookie })
    }

    /// Whether `socket` is of this namespace.
    ///
    /// # Errors
    /// EPERM when it is of another one; what the kernel says of something that is no socket.
    pub fn check(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        match self.cookie {
            Some(own) if cookie(socket)? != own => Err(Errno::PERM),
            _ => Ok(()),
        }
    }
}

fn cookie(socket: BorrowedFd<'_>) -> Result<[u8; 8], Errno> {
    let mut cookie = [0; 8];
    socket_options::get(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut cookie)?;
    Ok(cookie)
}

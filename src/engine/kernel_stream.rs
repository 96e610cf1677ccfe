//! The kernel's own TCP as a stream: the last resort when no SYN-ACK came on our link, and the link named `kernel`.
//!
//! It buffers what the kernel did not take, one chunk at most: `send` is only offered when nothing waits.

use super::event_loop::Readiness;
use super::stream::{Incoming, Stream};
use crate::control::Queues;
use rustix::buffer::spare_capacity;
use rustix::io::{ioctl_fionbio, Errno};
use rustix::net::{
    connect, connect_unspec, getpeername, recv, send, shutdown, sockopt, RecvFlags, SendFlags, Shutdown,
};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Bytes taken from the relay, and read from the kernel, at once.
const CHUNK: usize = 256 * 1024;
const READ: usize = 64 * 1024;

/// Bytes not sent at all (linux/sockios.h).
const SIOCOUTQNSD: libc::Ioctl = 0x894B;

/// A kernel TCP socket that connects or is connected.
pub struct KernelStream {
    fd: OwnedFd,
    connecting: bool,
    /// Taken by `send` and not yet by the kernel.
    unsent: Vec<u8>,
    /// Read from the kernel, not yet consumed from `inbox_at` on.
    inbox: Vec<u8>,
    inbox_at: usize,
    /// The peer's end of stream was read.
    ended: bool,
    error: Option<Errno>,
    /// What to do when `unsent` has gone.
    then: Then,
}

/// What follows the last byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    Shutdown,
    Close,
    /// It was done.
    Over,
}

/// How a connection attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// The handshake still runs.
    Pending,
    /// Established.
    Connected,
    /// It failed.
    Failed(Errno),
}

impl KernelStream {
    /// Begins to connect `fd`, which becomes non-blocking.
    ///
    /// # Errors
    /// What connect() says at once (ENETUNREACH, EADDRNOTAVAIL, …); the socket comes back as it was.
    pub fn connect(fd: OwnedFd, remote: SocketAddr) -> Result<KernelStream, (Errno, OwnedFd)> {
        let started = ioctl_fionbio(&fd, true).and_then(|()| connect(&fd, &remote));
        match started {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(error) => return Err((error, fd)),
        }
        Ok(KernelStream {
            fd,
            connecting: true,
            unsent: Vec::new(),
            inbox: Vec::new(),
            inbox_at: 0,
            ended: false,
            error: None,
            then: Then::Nothing,
        })
    }

    /// Gives up an attempt: the socket is unconnected again and blocks, as a program expects of a fresh one.
    pub fn undo(self) -> OwnedFd {
        // Should either fail, the program's own connect() reports it.
        let _ = connect_unspec(&self.fd);
        let _ = ioctl_fionbio(&self.fd, false);
        self.fd
    }

    /// The socket, to be watched and asked for its options.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What the kernel holds, in bytes, and what waits here.
    pub fn queues(&self) -> Result<Queues, Errno> {
        let waiting = self.unsent.len() as u32;
        Ok(Queues {
            unacked: ioctl_int(&self.fd, libc::TIOCOUTQ)? + waiting,
            unsent: ioctl_int(&self.fd, SIOCOUTQNSD)? + waiting,
        })
    }

    /// How the attempt stands, after an event.
    pub fn attempt(&mut self) -> Attempt {
        if !self.connecting {
            return Attempt::Connected;
        }
        match sockopt::socket_error(&self.fd) {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => return Attempt::Failed(error),
        }
        match getpeername(&self.fd) {
            Ok(_) => {
                self.connecting = false;
                Attempt::Connected
            }
            Err(_) => Attempt::Pending,
        }
    }

    /// The event loop saw something: sends what waits and notes an error.
    pub fn on_ready(&mut self, ready: Readiness) {
        if self.connecting {
            return;
        }
        if ready.error {
            if let Ok(Err(error)) = sockopt::socket_error(&self.fd) {
                self.fail(error);
            }
        }
        self.flush();
    }

    /// True when nothing more will happen: closed or aborted, and all bytes are the kernel's.
    pub fn is_over(&self) -> bool {
        self.then == Then::Over || (self.then == Then::Close && self.error.is_some())
    }

    fn fail(&mut self, error: Errno) {
        self.error.get_or_insert(error);
        self.unsent = Vec::new();
    }

    fn flush(&mut self) {
        let mut at = 0;
        while at < self.unsent.len() {
            match send(&self.fd, &self.unsent[at..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(n) => at += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return self.fail(error),
            }
        }
        self.unsent.drain(..at);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
            self.finish_writing();
        }
    }

    fn finish_writing(&mut self) {
        match self.then {
            Then::Nothing | Then::Over => {}
            Then::Shutdown => {
                // A socket that broke meanwhile says so when it is read.
                let _ = shutdown(&self.fd, Shutdown::Write);
                self.then = Then::Nothing;
            }
            Then::Close => self.then = Then::Over,
        }
    }

    fn fill(&mut self) {
        self.inbox.clear();
        self.inbox.reserve(READ);
        self.inbox_at = 0;
        let result = loop {
            match recv(&self.fd, spare_capacity(&mut self.inbox), RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                other => break other.map(|(n, _)| n),
            }
        };
        match result {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            // Nothing to hold a buffer for.
            Err(Errno::AGAIN) => self.inbox = Vec::new(),
            Err(error) => self.fail(error),
        }
    }
}

/// An ioctl that writes one int.
fn ioctl_int(fd: &OwnedFd, request: libc::Ioctl) -> Result<u32, Errno> {
    let mut value: libc::c_int = 0;
    // SAFETY: every caller passes a request that writes one int.
    if unsafe { libc::ioctl(fd.as_raw_fd(), request, &mut value) } < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(u32::try_from(value).unwrap_or(0))
}

impl Stream for KernelStream {
    fn send_space(&self) -> usize {
        let open = self.unsent.is_empty() && self.error.is_none() && self.then == Then::Nothing;
        if open {
            CHUNK
        } else {
            0
        }
    }

    fn room(&mut self, count: usize) -> [&mut [u8]; 2] {
        self.unsent.resize(count, 0);
        [&mut self.unsent, &mut []]
    }

    fn sent(&mut self, count: usize) {
        self.unsent.truncate(count);
        self.flush();
    }

    fn recv(&mut self) -> Incoming<'_> {
        if self.inbox_at == self.inbox.len() && !self.ended {
            self.fill();
        }
        if self.inbox_at < self.inbox.len() {
            return Incoming::Data(&self.inbox[self.inbox_at..], &[]);
        }
        match self.error {
            Some(error) => Incoming::Broken(error),
            None if self.ended => Incoming::End,
            None => Incoming::Nothing,
        }
    }

    fn consume(&mut self, n: usize) {
        self.inbox_at = (self.inbox_at + n).min(self.inbox.len());
    }

    fn shutdown_write(&mut self) {
        self.then = Then::Shutdown;
        self.flush();
    }

    fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    fn close(&mut self) {
        self.then = Then::Close;
        self.flush();
    }

    fn abort(&mut self) {
        self.unsent = Vec::new();
        // Close with linger time zero is how a kernel socket sends RST.
        let _ = sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO));
        self.then = Then::Over;
    }
}

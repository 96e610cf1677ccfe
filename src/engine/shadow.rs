//! The shadow: the pair of AF_UNIX stream sockets of which the program holds one end in place of its TCP socket.
//!
//! **Death is the default.** One byte that was already forwarded is always left unread in our end's queue: padding at
//! first, then the last byte the program wrote. A close with bytes unread makes the *kernel* give the program
//! ECONNRESET, so whichever way this process ends, the program sees a broken connection and never a clean end of file.
//! Only [`Shadow::finish`] consumes that byte.
//!
//! **Not writable before it is connected.** [`Shadow::connecting`] fills the program's end with padding until EAGAIN, so poll
//! says "not writable" as on a connecting TCP socket; [`Shadow::open`] drains it and the POLLOUT edge arrives.
//!
//! | the program does                   | we see                     | it is                                    |
//! |------------------------------------|----------------------------|------------------------------------------|
//! | write                              | EPOLLIN                    | [`Read::Bytes`]                          |
//! | shutdown(SHUT_WR)                  | EPOLLRDHUP, queue empty    | [`Read::HalfClosed`]                     |
//! | last close, or shutdown(SHUT_RDWR) | EPOLLHUP, queue empty      | [`Read::Closed`], after the last byte    |
//! | last close, data unread            | EPOLLERR (ECONNRESET)      | [`Read::Reset`], after the last byte that there is room for: TCP has sent those, and sends RST |
//! | shutdown(SHUT_RD)                  | EPIPE when we write        | [`Write::Deaf`]                          |
//!
//! "Queue empty" means: nothing but the held byte. Readiness is edge-triggered: with a byte always unread, a level
//! would be up for ever.
//!
//! A failed connection is closed without shutdown(): close() marks the end and the error under one lock, while a
//! shutdown() before it would show a reader a clean end of file for a moment. That is safe because our end is never
//! passed, inherited (it is close-on-exec and the engine executes nothing) or duplicated.
//!
//! Not here: where the bytes go, and what a reset or a close means to the network (`relay`).

use crate::control::shadow::{PADDING_BYTE, PADDING_CHUNK, RETAINED_BYTES, SNDBUF_MIN};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{ftruncate, memfd_create, sendfile, MemfdFlags};
use rustix::io::Errno;
use rustix::net::{
    bind, recv, recvmsg, send, sendmsg, shutdown, socketpair, sockopt, AddressFamily, RecvAncillaryBuffer, RecvFlags,
    SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::event_loop::Readiness;

#[cfg(test)]
mod tests;

/// Bytes of the file of padding: what the kernel queues at a time.
const PADDING_FILE: usize = 65536;
/// What is left of the send buffer for the last, small writes.
const PADDING_TAIL: usize = 8192;
const _: () = assert!(PADDING_BYTE == 0);
/// The smallest padding write but the single bytes.
const PADDING_WRITE_MIN: usize = 1024;

/// Our end of the pair.
pub struct Shadow {
    end: OwnedFd,
    /// Padding that is still in the queue, the byte to hold included; 0 once opened.
    padding: usize,
    /// The program will not write any more.
    write_shut: bool,
    /// The program closed its last descriptor, or shut down both directions.
    hung_up: bool,
    /// The program closed with data unread.
    reset: bool,
    /// The last read took all there was: an event tells of what comes after it.
    drained: bool,
}

/// What [`Shadow::read`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// So many bytes were written to the start of the buffer.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Everything was read, and the program shut its writing side down.
    HalfClosed,
    /// Everything was read, and nobody holds the program's end any more (or it was shut down both ways).
    Closed,
    /// The program closed with data unread: what TCP answers with RST. What the buffer had no room for is lost, as in TCP.
    Reset,
}

/// What [`Shadow::write`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// So many bytes are in the program's queue now; more may fit.
    Bytes(usize),
    /// No room; an edge of writability will come.
    Full,
    /// The program shut its reading side down but lives: discard the bytes.
    Deaf,
    /// Nobody holds the program's end any more.
    Gone,
}

impl Shadow {
    /// A new pair for a connection that is being made: our end, and the program's end, full of padding. Both are close-on-exec; blocking mode
    /// is the receiver's choice (we never rely on it).
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM; another one when the machine's limits make the send buffer too small.
    pub fn connecting(padding: &Padding) -> io::Result<(Shadow, OwnedFd)> {
        Shadow::pair(|program| padding.fill(program))
    }

    /// A new pair for a connection that is there already: the program's end can be written at once. Otherwise as [`Shadow::connecting`].
    pub fn connected() -> io::Result<(Shadow, OwnedFd)> {
        Shadow::pair(|program| Ok(send(program, &[PADDING_BYTE; RETAINED_BYTES], SendFlags::DONTWAIT)?))
    }

    fn pair(fill: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>) -> io::Result<(Shadow, OwnedFd)> {
        let (end, program) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        if sockopt::socket_send_buffer_size(&program)? < SNDBUF_MIN {
            raise_send_buffer(program.as_fd())?;
        }
        let padding = fill(program.as_fd())?;
        let shadow = Shadow {
            end,
            padding,
            write_shut: false,
            hung_up: false,
            reset: false,
            drained: false,
        };
        Ok((shadow, program))
    }

    /// Gives our end its abstract name (without the leading zero byte), which is what the program's end has as its peer.
    ///
    /// # Errors
    /// EADDRINUSE when the name is taken.
    pub fn bind(&self, name: &[u8]) -> Result<(), Errno> {
        bind(&self.end, &SocketAddrUnix::new_abstract_name(name)?)
    }

    /// Our end, to be watched for input, output and hang-up, edge-triggered.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Remembers what the event loop saw.
    pub fn on_ready(&mut self, ready: Readiness) {
        self.write_shut |= ready.read_closed || ready.hung_up;
        self.hung_up |= ready.hung_up;
        if ready.error && sockopt::socket_error(&self.end) == Ok(Err(Errno::CONNRESET)) {
            self.reset = true;
        }
    }

    /// The connection is established: drains the padding but for one byte, so that the program's end becomes writable.
    pub fn open(&mut self) {
        while self.padding > 1 {
            match discard(self.end.as_fd(), self.padding - 1) {
                Ok(n) if n > 0 => self.padding -= n,
                Err(Errno::INTR) => {}
                // The padding is there until we read it.
                _ => break,
            }
        }
        self.padding = 0;
    }

    /// Nothing is left after the last read, and the program may still write: an event will tell.
    pub fn is_drained(&self) -> bool {
        self.drained && !self.write_shut && !self.hung_up && !self.reset
    }

    /// True when the program has closed with data unread, or holds its end no more: whatever is read for it is lost.
    pub fn is_hung_up(&self) -> bool {
        self.hung_up
    }

    /// Bytes that the program wrote and nobody has read, the held one not counted.
    pub fn unread(&self) -> u32 {
        let queued = rustix::io::ioctl_fionread(&self.end).unwrap_or(0);
        u32::try_from(queued.saturating_sub(self.padding.max(1) as u64)).unwrap_or(u32::MAX)
    }

    /// Reads what the program wrote, at most `max` bytes, to where `room` says that so many bytes belong. The last byte returned remains in
    /// the queue as the held one.
    pub fn read<'b>(&mut self, max: usize, room: impl FnOnce(usize) -> [&'b mut [u8]; 2]) -> io::Result<Read> {
        let queued = rustix::io::ioctl_fionread(&self.end)? as usize;
        let wanted = queued.saturating_sub(1).min(max);
        self.drained = false;
        if wanted == 0 {
            return Ok(match (self.hung_up, self.write_shut) {
                _ if self.reset => Read::Reset,
                _ if queued > 1 => Read::Nothing,
                (true, _) => Read::Closed,
                (false, true) => Read::HalfClosed,
                (false, false) => Read::Nothing,
            });
        }
        // [held, d1, …, d(n-1)] is consumed, d(n) is looked at: the result is d1…d(n). A short read only happens where
        // somebody sent a descriptor along; d(n) is then what comes next, whatever it is.
        let [head, tail] = room(wanted);
        if head.len() + tail.len() < wanted {
            return Ok(Read::Nothing);
        }
        let (mut held, cut) = ([0], head.len().min(wanted - 1));
        let mut slices = [
            IoSliceMut::new(&mut held),
            IoSliceMut::new(&mut head[..cut]),
            IoSliceMut::new(&mut tail[..wanted - 1 - cut]),
        ];
        let n = recvmsg(
            &self.end,
            &mut slices,
            &mut RecvAncillaryBuffer::default(),
            RecvFlags::DONTWAIT,
        )?
        .bytes;
        let at = n.checked_sub(1).ok_or(io::ErrorKind::UnexpectedEof)?;
        let last = match at.checked_sub(head.len()) {
            None => &mut head[at..n],
            Some(at) => &mut tail[at..at + 1],
        };
        let (peeked, _) = recv(&self.end, last, RecvFlags::DONTWAIT | RecvFlags::PEEK)?;
        if peeked != 1 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.drained = n == wanted && wanted + 1 == queued;
        Ok(Read::Bytes(n))
    }

    /// Writes to the program what came for it, from two slices.
    pub fn write(&mut self, data: (&[u8], &[u8])) -> io::Result<Write> {
        let slices = [IoSlice::new(data.0), IoSlice::new(data.1)];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(&self.end, &slices, &mut SendAncillaryBuffer::default(), flags) {
            Ok(n) => Ok(Write::Bytes(n)),
            Err(Errno::AGAIN | Errno::NOBUFS) => Ok(Write::Full),
            Err(Errno::INTR) => Ok(Write::Bytes(0)),
            Err(Errno::CONNRESET) => {
                (self.hung_up, self.write_shut, self.reset) = (true, true, true);
                Ok(Write::Gone)
            }
            Err(Errno::PIPE) => {
                // The event that would tell a shutdown from a close may still be in the queue.
                self.look()?;
                Ok(if self.hung_up { Write::Gone } else { Write::Deaf })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Raises the limit of what the program may leave unread by `length` bytes and what the kernel adds to them. Without CAP_NET_ADMIN only
    /// as far as net.core.wmem_max.
    pub fn make_room(&self, length: usize) {
        let used = out_queue(self.end.as_fd()).unwrap_or(0);
        // The kernel doubles what it is told.
        let half = used / 2 + length + PADDING_CHUNK;
        if sockopt::socket_send_buffer_size(&self.end).is_ok_and(|size| size >= 2 * half) {
            return;
        }
        if sockopt::set_socket_send_buffer_size_force(&self.end, half).is_err() {
            // What does not fit then is the caller's to notice.
            let _ = sockopt::set_socket_send_buffer_size(&self.end, half);
        }
    }

    /// Asks for the readiness that the event loop will also report.
    fn look(&mut self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.end, PollFlags::RDHUP)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        let seen = fds[0].revents();
        self.on_ready(Readiness {
            read_closed: seen.contains(PollFlags::RDHUP),
            hung_up: seen.contains(PollFlags::HUP),
            error: seen.contains(PollFlags::ERR),
            ..Readiness::default()
        });
        Ok(())
    }

    /// The peer's end of stream: the program reads end of file after what it was given.
    pub fn end_of_stream(&mut self) {
        // It fails only where nobody is left to see it.
        let _ = shutdown(&self.end, Shutdown::Write);
    }

    /// An orderly end: consumes the held byte, so that the program sees end of file and no error.
    pub fn finish(self) {
        let mut scratch = [0; PADDING_CHUNK];
        while matches!(
            recv(&self.end, &mut scratch, RecvFlags::DONTWAIT),
            Ok((1.., _)) | Err(Errno::INTR)
        ) {}
    }

    /// The connection broke or never came to be: the program gets ECONNRESET, after what it was given before.
    pub fn fail(self) {
        // The kernel tells the program first and frees the padding then, which the program may see as another event. So
        // let there be little of it, but enough that the program's end does not become writable now.
        if self.padding > 1 {
            let _ = discard(self.end.as_fd(), self.padding / 8 * 5);
        }
        drop(self);
    }
}

/// Raises a send buffer that the machine's default leaves too small.
fn raise_send_buffer(program: BorrowedFd<'_>) -> io::Result<()> {
    // The kernel doubles what it is told.
    let half = SNDBUF_MIN / 2;
    if sockopt::set_socket_send_buffer_size_force(program, half).is_err() {
        sockopt::set_socket_send_buffer_size(program, half)?;
    }
    if sockopt::socket_send_buffer_size(program)? < SNDBUF_MIN {
        return Err(io::Error::other("net.core.wmem_max is below 106496 bytes"));
    }
    Ok(())
}

/// What program's ends are filled with.
pub struct Padding {
    /// A file of [`PADDING_BYTE`]s, whose pages the kernel queues without copying them; None where it gives us none.
    file: Option<OwnedFd>,
}

impl Padding {
    /// Once for all shadows.
    pub fn new() -> Padding {
        let file = memfd_create(c"mptcp-padding", MemfdFlags::CLOEXEC).ok();
        Padding {
            // It has no pages of its own: what was never written reads as zeros.
            file: file.filter(|file| ftruncate(file, PADDING_FILE as u64).is_ok()),
        }
    }

    /// Fills the program's end until EAGAIN; how many bytes that took. The last writes are of one byte each, so that the
    /// byte that stays after [`Shadow::open`] does not pin a large buffer; before them, as few as possible: the kernel wakes
    /// the program for each one that is read below the mark of writability.
    fn fill(&self, program: BorrowedFd<'_>) -> io::Result<usize> {
        let limit = sockopt::socket_send_buffer_size(program)?;
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let padding = [PADDING_BYTE; PADDING_CHUNK];
        let mut total = self.fill_by_pages(program, limit)?;
        let mut size = PADDING_CHUNK;
        loop {
            let used = out_queue(program)?;
            while size > 1 && used + padding_cost_max(size) >= limit {
                size = if size > PADDING_WRITE_MIN { size / 2 } else { 1 };
            }
            match send(program, &padding[..size], flags) {
                Ok(n) => total += n,
                Err(Errno::AGAIN) if total > 0 => return Ok(total),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The most of it, from the file. There is room for all of it, so that it does not block.
    fn fill_by_pages(&self, program: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let Some(file) = &self.file else { return Ok(0) };
        let mut total = 0;
        loop {
            let room = limit.saturating_sub(out_queue(program)? + PADDING_TAIL);
            if room < PADDING_TAIL {
                return Ok(total);
            }
            match sendfile(program, file, Some(&mut 0), room.min(PADDING_FILE)) {
                Ok(n) if n > 0 => total += n,
                // The kernel cannot do it: by copies, then.
                _ => return Ok(total),
            }
        }
    }
}

/// What the kernel may account at most for one padding write: buffers are powers of two, with room for their head.
fn padding_cost_max(size: usize) -> usize {
    2 * size.min(PADDING_CHUNK / 2) + size.saturating_sub(PADDING_CHUNK / 2) + 2048
}

/// Reads up to `count` bytes (of what [`fill`] wrote) to nowhere, with one system call: every further one would be
/// another moment at which an edge-triggered program may see the socket become writable.
fn discard(socket: BorrowedFd<'_>, count: usize) -> Result<usize, Errno> {
    const VECTORS: usize = 64;
    let mut scratch = [0u8; PADDING_CHUNK];
    let mut left = count;
    let vectors: [libc::iovec; VECTORS] = std::array::from_fn(|_| {
        let iov_len = left.min(PADDING_CHUNK);
        left -= iov_len;
        libc::iovec {
            iov_base: scratch.as_mut_ptr().cast(),
            iov_len,
        }
    });
    // SAFETY: all-zero bytes are a msghdr: null pointers and zero lengths.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_ptr().cast_mut();
    message.msg_iovlen = VECTORS as _;
    // SAFETY: every vector is within `scratch`; that they are the same bytes does not matter to the kernel, and nobody
    // reads them.
    let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
    usize::try_from(read).map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Bytes of the send buffer in use, as the kernel accounts them (SIOCOUTQ).
fn out_queue(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (the same number as SIOCOUTQ) writes one int.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

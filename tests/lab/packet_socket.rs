//! A packet socket on one interface: whole Ethernet frames, in and out in batches. Lossless as far as the kernel's buffers go; a frame that
//! the interface does not take (it is down) is dropped, as on a cable.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Frames per system call.
const BATCH: usize = 64;
/// The largest frame: the hosts' offloads are off, so MTU + Ethernet header, with room for bigger MTUs.
const FRAME_MAX: usize = 9216;
/// Enough for a burst of a whole congestion window on a fast wire.
const BUFFER_BYTES: libc::c_int = 8 << 20;

/// The socket and its receive buffers.
pub struct PacketSocket {
    fd: OwnedFd,
    buffers: Vec<Vec<u8>>,
}

impl PacketSocket {
    /// Opens a socket on the interface with this index, in the calling thread's network namespace.
    pub fn open(index: u32) -> io::Result<PacketSocket> {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: plain system call; protocol 0 hears nothing before bind.
        let raw = check(unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                0,
            )
        })?;
        // SAFETY: `raw` is a descriptor that was just made and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        set_option(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        set_option(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?;
        for (forced, plain) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
        ] {
            // Beyond the system's limit where that is allowed, else up to it.
            set_option(&fd, libc::SOL_SOCKET, forced, BUFFER_BYTES)
                .or_else(|_| set_option(&fd, libc::SOL_SOCKET, plain, BUFFER_BYTES))?;
        }
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as i32;
        // SAFETY: `address` is a whole sockaddr_ll and the length is its own.
        check(unsafe {
            libc::bind(
                raw,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        Ok(PacketSocket {
            fd,
            buffers: vec![vec![0; FRAME_MAX]; BATCH],
        })
    }

    /// Calls `take` with each frame that has come; returns at the first empty batch.
    pub fn receive(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let mut slices: Vec<libc::iovec> = self.buffers.iter_mut().map(|buffer| iovec(buffer)).collect();
            let mut headers: Vec<libc::mmsghdr> = slices.iter_mut().map(header).collect();
            // SAFETY: `headers` holds BATCH headers, each with one iovec over a live buffer of its own.
            let count = unsafe {
                libc::recvmmsg(
                    self.fd.as_raw_fd(),
                    headers.as_mut_ptr(),
                    BATCH as u32,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            let count = match check(count) {
                Ok(count) => count as usize,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock || is_down(&e) => return Ok(()),
                Err(e) => return Err(e),
            };
            for (header, buffer) in headers[..count].iter().zip(&self.buffers) {
                take(&buffer[..(header.msg_len as usize).min(FRAME_MAX)]);
            }
            if count < BATCH {
                return Ok(());
            }
        }
    }

    /// Sends the frames in order.
    pub fn send(&self, frames: &mut [Vec<u8>]) -> io::Result<()> {
        for batch in frames.chunks_mut(BATCH) {
            let mut slices: Vec<libc::iovec> = batch.iter_mut().map(|frame| iovec(frame)).collect();
            let mut headers: Vec<libc::mmsghdr> = slices.iter_mut().map(header).collect();
            let mut sent = 0;
            while sent < headers.len() {
                let rest = &mut headers[sent..];
                // SAFETY: `rest` holds that many headers, each with one iovec over a live frame.
                let count = unsafe { libc::sendmmsg(self.fd.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
                sent += match check(count) {
                    Ok(count) => count as usize,
                    Err(e) if loses_frame(&e) => 1,
                    Err(e) => return Err(e),
                };
            }
        }
        Ok(())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn is_down(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV))
}

/// Errors of one frame, not of the socket.
fn loses_frame(e: &io::Error) -> bool {
    is_down(e)
        || matches!(
            e.raw_os_error(),
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EMSGSIZE | libc::EINVAL)
        )
}

fn iovec(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    }
}

fn header(slice: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all-zero is a valid mmsghdr.
    let mut header: libc::mmsghdr = unsafe { zeroed() };
    header.msg_hdr.msg_iov = slice;
    header.msg_hdr.msg_iovlen = 1;
    header
}

fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and length describe one live int.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// A negative result as the error it stands for.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

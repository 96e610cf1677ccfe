//! A minimal netlink client: requests, dumps and attributes, for routes, rules, interfaces, addresses and IPsec policies.
//!
//! The kernel answers while it takes the request, so nothing here ever waits. Not a general library: it reads the few
//! attributes that path discovery needs and skips what it does not know, so that a newer kernel cannot break it.

use super::sys;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Length of `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
/// One answer of a dump is at most this long (the kernel's NLMSG_GOODSIZE ends at 32 KB).
const BUFFER_LEN: usize = 1 << 16;
/// A dump that tables changed under is asked for again, so often.
const DUMP_TRIES: usize = 4;

/// A netlink socket.
pub(super) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of an answer: type and body.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) body: &'a [u8],
}

impl Netlink {
    /// A socket for requests; `groups` is a mask of multicast groups to listen to (group n is bit n-1).
    pub(super) fn new(protocol: libc::c_int, groups: u32) -> io::Result<Netlink> {
        let fd = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol)?;
        rustix::net::bind(&fd, &rustix::net::netlink::SocketAddrNetlink::new(0, groups))?;
        Ok(Netlink {
            fd,
            sequence: 0,
            buffer: vec![0; BUFFER_LEN],
        })
    }

    /// For the event loop.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Asks one question and collects the answer. Errors: the errno that the kernel answered.
    pub(super) fn get<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        parse: impl FnMut(Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        self.ask(kind, libc::NLM_F_ACK, body, parse).map(|(items, _)| items)
    }

    /// Asks for a whole table. What `parse` gives None for is left out.
    pub(super) fn dump<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        mut parse: impl FnMut(Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_TRIES {
            let (items, whole) = self.ask(kind, libc::NLM_F_DUMP, body, &mut parse)?;
            if whole {
                return Ok(items);
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// The answer, and whether it is of one piece (tables may change during a dump).
    fn ask<T>(
        &mut self,
        kind: u16,
        flags: libc::c_int,
        body: &[u8],
        mut parse: impl FnMut(Message<'_>) -> Option<T>,
    ) -> io::Result<(Vec<T>, bool)> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Vec::with_capacity(HEADER_LEN + body.len());
        request.extend(((HEADER_LEN + body.len()) as u32).to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend(0u32.to_ne_bytes());
        request.extend_from_slice(body);
        rustix::net::send(&self.fd, &request, rustix::net::SendFlags::empty())?;

        let mut items = Vec::new();
        let mut whole = true;
        loop {
            let len = self.receive()?;
            for (header, message) in Messages(&self.buffer[..len]) {
                if header.sequence != self.sequence {
                    continue;
                }
                whole &= i32::from(header.flags) & libc::NLM_F_DUMP_INTR == 0;
                match i32::from(message.kind) {
                    // Both begin with an errno, negative or 0.
                    libc::NLMSG_DONE | libc::NLMSG_ERROR => match i32_at(message.body, 0).unwrap_or(0) {
                        0 => return Ok((items, whole)),
                        errno => return Err(io::Error::from_raw_os_error(-errno)),
                    },
                    libc::NLMSG_NOOP => {}
                    _ => items.extend(parse(message)),
                }
            }
        }
    }

    /// Empties a listening socket. True when there was anything, or when messages were lost (ENOBUFS): read anew then.
    pub(super) fn drain(&mut self) -> bool {
        let mut any = false;
        self.hear(|_| any = true) | any
    }

    /// Empties a listening socket, and shows what was in it. True when messages were lost (ENOBUFS).
    pub(super) fn hear(&mut self, mut each: impl FnMut(Message<'_>)) -> bool {
        let mut lost = false;
        loop {
            match self.receive() {
                Ok(len) => Messages(&self.buffer[..len]).for_each(|(_, message)| each(message)),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => lost = true,
                Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
                Err(_) => return lost,
            }
        }
    }

    fn receive(&mut self) -> io::Result<usize> {
        let (len, _) = rustix::net::recv(&self.fd, &mut self.buffer[..], rustix::net::RecvFlags::empty())?;
        Ok(len)
    }
}

/// What of `struct nlmsghdr` the caller does not need.
struct Header {
    flags: u16,
    sequence: u32,
}

/// The messages of one datagram.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (Header, Message<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let len = u32_at(self.0, 0)? as usize;
        let message = Message {
            kind: u16_at(self.0, 4)?,
            body: self.0.get(HEADER_LEN..len)?,
        };
        let header = Header {
            flags: u16_at(self.0, 6)?,
            sequence: u32_at(self.0, 8)?,
        };
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((header, message))
    }
}

/// The attributes of a message (`struct rtattr`), as (type without flag bits, data).
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    core::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & libc::NLA_TYPE_MASK as u16;
        let data = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, data))
    })
}

/// Appends an attribute to a request.
pub(super) fn push_attribute(request: &mut Vec<u8>, kind: u16, data: &[u8]) {
    request.extend(((4 + data.len()) as u16).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend_from_slice(data);
    request.resize(request.len().next_multiple_of(4), 0);
}

/// The native u16 at an offset.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The native u32 at an offset.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    u32_at(bytes, at).map(|value| value as i32)
}

/// An address attribute: 4 or 16 bytes.
pub(super) fn ip_addr(data: &[u8]) -> Option<core::net::IpAddr> {
    match data.len() {
        4 => <[u8; 4]>::try_from(data).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(data).ok().map(Into::into),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_written() {
        let mut bytes = Vec::new();
        push_attribute(&mut bytes, 3, b"eth0\0");
        push_attribute(&mut bytes, 4, &7u32.to_ne_bytes());
        assert_eq!(bytes.len(), 12 + 8);
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(3, &b"eth0\0"[..]), (4, &7u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn lengths_that_lie_end_the_list() {
        for len in [0u16, 3, 9, u16::MAX] {
            let mut bytes = len.to_ne_bytes().to_vec();
            bytes.extend([0; 6]);
            assert_eq!(attributes(&bytes).count(), 0, "{len}");
        }
        let mut message = vec![0; HEADER_LEN];
        assert!(Messages(&message).next().is_none());
        message[0] = 200;
        assert!(Messages(&message).next().is_none());
    }
}

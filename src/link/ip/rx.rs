//! Receiving: one socket per family hears the admitted ports on all interfaces, in batches by recvmmsg(2). It never
//! sends. It also gets the ICMP errors.

use super::control;
use super::errqueue;
use crate::link::arrival::Arrival;
use crate::link::filter::Filter;
use crate::link::ports::PortSet;
use crate::link::sys;
use crate::link::{Incoming, LinkStats};
use core::net::{Ipv4Addr, Ipv6Addr};
use rustix::net::{sockopt, AddressFamily};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Packets in one recvmmsg call.
const BATCH: usize = 32;
/// Bytes for one packet: GRO merges segments up to this length.
const SLOT: usize = 1 << 16;
/// Room for the control messages of one packet.
const CONTROL: usize = 128;
/// Batches taken before others have their turn.
const ROUNDS: usize = 8;
/// Receive buffer: 64 KB segments count with their bookkeeping.
const BUFFER_BYTES: libc::c_int = 16 << 20;

/// Buffers for one batch, shared by the sockets. Untouched pages take no memory.
pub(super) struct RxBuffers {
    packets: Box<[u8]>,
    controls: Box<[ControlSlot]>,
    names: Box<[libc::sockaddr_in6]>,
}

/// Aligned as `struct cmsghdr`.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct ControlSlot([u8; CONTROL]);

impl RxBuffers {
    pub(super) fn new() -> RxBuffers {
        // SAFETY: all-zero is a valid sockaddr_in6.
        let name: libc::sockaddr_in6 = unsafe { core::mem::zeroed() };
        RxBuffers {
            packets: vec![0; BATCH * SLOT].into_boxed_slice(),
            controls: vec![ControlSlot([0; CONTROL]); BATCH].into_boxed_slice(),
            names: vec![name; BATCH].into_boxed_slice(),
        }
    }
}

/// What the kernel said about one packet of a batch.
#[derive(Clone, Copy, Default)]
struct Received {
    len: usize,
    control_len: usize,
    truncated: bool,
}

/// A receiving socket.
pub(super) struct RxSocket {
    fd: OwnedFd,
    ipv6: bool,
    ports: PortSet,
    /// Segments are left to another link.
    deaf: bool,
}

impl RxSocket {
    /// A socket that hears `ports`. EPERM without CAP_NET_RAW, EAFNOSUPPORT on a host without the family.
    pub(super) fn new(ipv6: bool, ports: &PortSet) -> io::Result<RxSocket> {
        let domain = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
        let fd = sys::socket(domain, libc::SOCK_RAW, libc::IPPROTO_TCP)?;
        let socket = RxSocket {
            fd,
            ipv6,
            ports: ports.clone(),
            deaf: false,
        };
        socket.attach_filter()?;
        let fd = &socket.fd;
        sys::set_buffers(fd, BUFFER_BYTES);
        if ipv6 {
            sys::set_int(fd, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            sys::set_int(fd, libc::SOL_IPV6, libc::IPV6_RECVERR, 1)?;
            // With it a quote in the error queue begins at the IP header: our own address is there only.
            sys::set_int(fd, libc::SOL_IPV6, libc::IPV6_HDRINCL, 1)?;
        } else {
            sys::set_int(fd, libc::SOL_IP, libc::IP_PKTINFO, 1)?;
            sys::set_int(fd, libc::SOL_IP, libc::IP_RECVERR, 1)?;
            sys::set_int(fd, libc::SOL_IP, libc::IP_HDRINCL, 1)?;
            // The kernel believes every "fragmentation needed" that a raw socket could be meant with, for all the
            // host's connections. With this it leaves the routes alone for our sake; the core checks, then obeys.
            sys::set_int(fd, libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_INTERFACE)?;
        }
        Ok(socket)
    }

    /// Goes on with the socket of another `RxSocket`, whose filter it has until [`RxSocket::admit`].
    pub(super) fn adopt(fd: OwnedFd) -> io::Result<RxSocket> {
        Ok(RxSocket {
            ipv6: sockopt::socket_domain(&fd)? == AddressFamily::INET6,
            fd,
            ports: PortSet::all(),
            deaf: false,
        })
    }

    /// For the event loop.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Hears `ports` from now on.
    pub(super) fn admit(&mut self, ports: &PortSet) -> io::Result<()> {
        if self.ports != *ports {
            self.ports.clone_from(ports);
            self.attach_filter()?;
        }
        Ok(())
    }

    /// Which family's.
    pub(super) fn is_ipv6(&self) -> bool {
        self.ipv6
    }

    /// Hears segments, or ICMP errors only.
    pub(super) fn hear(&mut self, hear: bool) -> io::Result<()> {
        self.deaf = !hear;
        self.attach_filter()
    }

    fn attach_filter(&self) -> io::Result<()> {
        let filter = if self.deaf {
            Filter::drop_all()
        } else if self.ipv6 {
            Filter::ipv6_ports(&self.ports)
        } else {
            Filter::ipv4_ports(&self.ports)
        };
        filter.attach(&self.fd)
    }

    /// Hands over what has come in. True when everything was taken; false when there may be more.
    pub(super) fn recv(
        &self,
        buffers: &mut RxBuffers,
        stats: &mut LinkStats,
        sink: &mut dyn FnMut(Incoming<'_>),
    ) -> bool {
        let mut drained = self.recv_errors(sink);
        for _ in 0..ROUNDS {
            match self.recv_batch(buffers) {
                Ok((received, count)) => {
                    for (index, received) in received.iter().take(count).enumerate() {
                        self.deliver(buffers, index, *received, stats, sink);
                    }
                    if count < BATCH {
                        return drained;
                    }
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return drained,
                    Some(libc::EINTR) => {}
                    // A pending socket error is an ICMP error: its story is in the error queue.
                    _ => drained &= self.recv_errors(sink),
                },
            }
        }
        false
    }

    fn recv_errors(&self, sink: &mut dyn FnMut(Incoming<'_>)) -> bool {
        errqueue::drain_icmp(&self.fd, |port| self.ports.contains(port), sink)
    }

    /// recvmmsg into `buffers`.
    fn recv_batch(&self, buffers: &mut RxBuffers) -> io::Result<([Received; BATCH], usize)> {
        let mut vectors = [libc::iovec {
            iov_base: core::ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        // SAFETY: all-zero is a valid mmsghdr (null pointers with zero lengths).
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { core::mem::zeroed() };
        let slots = buffers.packets.chunks_exact_mut(SLOT);
        let aux = buffers.controls.iter_mut().zip(buffers.names.iter_mut());
        for (((slot, (control, name)), vector), header) in slots.zip(aux).zip(&mut vectors).zip(&mut headers) {
            vector.iov_base = slot.as_mut_ptr().cast();
            vector.iov_len = SLOT;
            header.msg_hdr.msg_name = (name as *mut libc::sockaddr_in6).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as _;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL as _;
        }
        // SAFETY: the headers point into `vectors` and `buffers`, which are not touched before the call returns, and
        // give their lengths.
        let result = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as _,
                0,
                core::ptr::null_mut(),
            )
        };
        let count = sys::check(result as isize)?;
        let mut received = [Received::default(); BATCH];
        for (received, header) in received.iter_mut().zip(&headers).take(count) {
            *received = Received {
                len: header.msg_len as usize,
                control_len: header.msg_hdr.msg_controllen as _,
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            };
        }
        Ok((received, count))
    }

    /// Checks one packet and hands its segment over.
    fn deliver(
        &self,
        buffers: &RxBuffers,
        index: usize,
        received: Received,
        stats: &mut LinkStats,
        sink: &mut dyn FnMut(Incoming<'_>),
    ) {
        let slot = &buffers.packets[index * SLOT..(index + 1) * SLOT];
        let bytes = slot.get(..received.len).unwrap_or(slot);
        let control = &buffers.controls[index].0;
        let control = control.get(..received.control_len).unwrap_or(control);
        let packet = if self.ipv6 {
            ipv6_packet(bytes, control, &buffers.names[index])
        } else {
            ipv4_packet(bytes, control)
        };
        let Some(packet) = packet.filter(|_| !received.truncated) else {
            stats.malformed += 1;
            return;
        };
        packet.deliver(stats, sink);
    }
}

/// A raw IPv4 socket gives the packet with its IP header (RFC 791 section 3.1).
fn ipv4_packet<'a>(bytes: &'a [u8], control: &[u8]) -> Option<Arrival<'a>> {
    let address = |at: usize| <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok().map(Ipv4Addr::from);
    let header_len = usize::from(bytes.first()? & 15) * 4;
    let total_len = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
    let iface = control::messages(control).find_map(|(level, kind, data)| {
        let is_info = (level, kind) == (libc::SOL_IP, libc::IP_PKTINFO);
        is_info.then(|| control::int(data, 0)).flatten()
    });
    Some(Arrival {
        src: address(12)?.into(),
        dst: address(16)?.into(),
        iface: iface.unwrap_or(0) as u32,
        tcp: bytes.get(header_len..total_len)?,
        checksum_known: false,
    })
}

/// A raw IPv6 socket gives what follows the IP headers; they are in control messages.
fn ipv6_packet<'a>(bytes: &'a [u8], control: &[u8], name: &libc::sockaddr_in6) -> Option<Arrival<'a>> {
    let mut dst = None;
    let mut iface = 0;
    for (level, kind, data) in control::messages(control) {
        if (level, kind) == (libc::SOL_IPV6, libc::IPV6_PKTINFO) {
            dst = Some(Ipv6Addr::from(<[u8; 16]>::try_from(data.get(..16)?).ok()?));
            iface = control::int(data, 16)? as u32;
        }
    }
    Some(Arrival {
        src: Ipv6Addr::from(name.sin6_addr.s6_addr).into(),
        dst: dst?.into(),
        iface,
        tcp: bytes,
        checksum_known: false,
    })
}

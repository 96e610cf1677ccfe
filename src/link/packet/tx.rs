//! Sending: frames with a virtio-net header, by which the kernel, or the device, cuts long payloads into segments and
//! completes checksums. Short frames wait in an arena for a batch; long ones leave at once, without a copy of ours.

use super::hops::Hop;
use crate::link::sys;
use crate::link::{IcmpKind, Incoming, LinkStats, Outgoing};
use crate::wire::{self, SeqNum};
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Frames in one sendmmsg call, and the queue's length at which it is sent off without waiting for `flush`.
const BATCH: usize = 64;
/// Payload from which on a frame leaves at once.
const LONG: usize = 4096;
/// Send buffer: what is beyond it is lost as in a full queue.
const BUFFER_BYTES: libc::c_int = 4 << 20;
/// `struct virtio_net_hdr`: flags, GSO type, header length, GSO size, checksum start and offset.
pub(super) const VNET_LEN: usize = 10;
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const ETHERNET_LEN: usize = 14;
const IP_LEN: usize = 20;
/// Everything before the payload at its longest.
const HEADERS_MAX: usize = VNET_LEN + ETHERNET_LEN + IP_LEN + 60;
const DONT_FRAGMENT: u16 = 0x4000;

/// The sending socket, and what waits for it.
pub(super) struct PacketTx {
    fd: OwnedFd,
    arena: Vec<u8>,
    queue: Vec<(Range<usize>, u32)>,
    too_big: Vec<(SocketAddr, SocketAddr, SeqNum, u32)>,
    ip_id: u16,
}

/// Headers of one frame.
struct Headers {
    bytes: [u8; HEADERS_MAX],
    len: usize,
}

impl PacketTx {
    pub(super) fn new() -> io::Result<PacketTx> {
        // Protocol 0: it hears nothing.
        let fd = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
        sys::set_int(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        sys::set_buffers(&fd, BUFFER_BYTES);
        Ok(PacketTx {
            fd,
            arena: Vec::new(),
            queue: Vec::new(),
            too_big: Vec::new(),
            ip_id: 0,
        })
    }

    /// Takes a segment, IPv4.
    pub(super) fn send(&mut self, out: &Outgoing<'_>, hop: Hop, stats: &mut LinkStats) {
        let Some(headers) = self.headers(out, &hop, stats) else {
            return;
        };
        let [head, tail] = out.payload;
        if head.len() + tail.len() >= LONG {
            self.transmit(stats);
            let mut bytes = headers.bytes;
            let vectors = [&mut bytes[..headers.len], &mut [][..]].map(|slice| libc::iovec {
                iov_base: slice.as_mut_ptr().cast(),
                iov_len: slice.len(),
            });
            let payload = [head, tail].map(|slice| libc::iovec {
                iov_base: slice.as_ptr().cast_mut().cast(),
                iov_len: slice.len(),
            });
            let mut vectors = [vectors[0], payload[0], payload[1]];
            let mut address = link_address(hop.iface);
            let mut message = message_to(&mut address);
            message.msg_iov = vectors.as_mut_ptr();
            message.msg_iovlen = vectors.len() as _;
            // SAFETY: the message points at `address`, `vectors`, and through them at `bytes` and the payload, all of
            // which live until the call returns; the kernel only reads them.
            let result = unsafe { libc::sendmsg(self.fd.as_raw_fd(), &message, 0) };
            count(sys::check(result), 1, stats);
            return;
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(&headers.bytes[..headers.len]);
        self.arena.extend_from_slice(head);
        self.arena.extend_from_slice(tail);
        self.queue.push((start..self.arena.len(), hop.iface));
        if self.queue.len() >= BATCH {
            self.transmit(stats);
        }
    }

    /// Sends everything, and reports what was too big for its way.
    pub(super) fn flush(&mut self, stats: &mut LinkStats, sink: &mut dyn FnMut(Incoming<'_>)) {
        self.transmit(stats);
        for (local, remote, seq, mtu) in self.too_big.drain(..) {
            sink(Incoming::Icmp {
                local,
                remote,
                seq: Some(seq),
                kind: IcmpKind::PacketTooBig { mtu },
            });
        }
    }

    /// The frame up to its payload; None when it is too big for the hop.
    fn headers(&mut self, out: &Outgoing<'_>, hop: &Hop, stats: &mut LinkStats) -> Option<Headers> {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (out.src, out.dst) else {
            return None;
        };
        let mut tcp = [0; 60];
        let tcp_len = wire::emit_header(&out.header, &out.options, &mut tcp);
        let payload_len = out.payload[0].len() + out.payload[1].len();
        let total_len = IP_LEN + tcp_len + payload_len;
        let size = match out.segment_size {
            0 => payload_len,
            size => usize::from(size).min(payload_len),
        };
        if IP_LEN + tcp_len + size > hop.mtu as usize || total_len > usize::from(u16::MAX) {
            stats.lost_too_big += 1;
            let local = SocketAddr::new(out.src, out.header.src_port);
            let remote = SocketAddr::new(out.dst, out.header.dst_port);
            self.too_big.push((local, remote, out.header.seq, hop.mtu));
            return None;
        }
        // What a partial checksum stands on; the kernel adds the rest, per segment.
        let partial = wire::pseudo_header_sum(out.src, out.dst, tcp_len + payload_len);
        tcp[16..18].copy_from_slice(&partial.to_be_bytes());
        let segments = payload_len.div_ceil(size.max(1)).max(1);
        let mut ip = [0; IP_LEN];
        ip[0] = 0x45;
        ip[1] = out.tos;
        ip[2..4].copy_from_slice(&(total_len as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&self.ip_id.to_be_bytes());
        ip[6..8].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
        ip[8] = if out.ttl == 0 { hop.ttl } else { out.ttl };
        ip[9] = libc::IPPROTO_TCP as u8;
        ip[12..16].copy_from_slice(&src.octets());
        ip[16..20].copy_from_slice(&dst.octets());
        let mut sum = wire::Checksum::new();
        sum.add(&ip);
        ip[10..12].copy_from_slice(&sum.finish().to_be_bytes());
        self.ip_id = self.ip_id.wrapping_add(segments as u16);

        let vnet = vnet_header(
            ETHERNET_LEN + IP_LEN,
            tcp_len,
            if segments > 1 { size as u16 } else { 0 },
        );
        let mut headers = Headers {
            bytes: [0; HEADERS_MAX],
            len: 0,
        };
        for part in [&vnet[..], &hop.ethernet, &ip, &tcp[..tcp_len]] {
            headers.bytes[headers.len..headers.len + part.len()].copy_from_slice(part);
            headers.len += part.len();
        }
        Some(headers)
    }

    /// Every frame of the queue is offered to the kernel once.
    fn transmit(&mut self, stats: &mut LinkStats) {
        let PacketTx { fd, arena, queue, .. } = self;
        let mut left = &queue[..];
        while !left.is_empty() {
            let batch_len = left.len().min(BATCH);
            let mut addresses: [libc::sockaddr_ll; BATCH] = [link_address(0); BATCH];
            let mut vectors = [libc::iovec {
                iov_base: core::ptr::null_mut(),
                iov_len: 0,
            }; BATCH];
            // SAFETY: all-zero is a valid mmsghdr (null pointers with zero lengths).
            let mut messages: [libc::mmsghdr; BATCH] = unsafe { core::mem::zeroed() };
            let places = addresses.iter_mut().zip(&mut vectors).zip(&mut messages);
            for ((range, iface), ((address, vector), message)) in left.iter().zip(places) {
                *address = link_address(*iface);
                let bytes = &mut arena[range.clone()];
                vector.iov_base = bytes.as_mut_ptr().cast();
                vector.iov_len = bytes.len();
                message.msg_hdr = message_to(address);
                message.msg_hdr.msg_iov = vector;
                message.msg_hdr.msg_iovlen = 1;
            }
            // SAFETY: the first `batch_len` messages point into `addresses`, `vectors` and `arena`, none of which moves
            // or is touched before the call returns; the kernel only reads what they point at.
            let result = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), batch_len as _, 0) };
            let settled = count(sys::check(result as isize), left.len(), stats);
            left = &left[settled.min(left.len())..];
        }
        queue.clear();
        arena.clear();
    }
}

/// Books what became of frames; how many of `offered` that settles. A full buffer settles all of them: they are lost as in
/// any queue that overflows, and recovery sees to them.
fn count(result: io::Result<usize>, offered: usize, stats: &mut LinkStats) -> usize {
    match result {
        Ok(sent) => {
            // sendmsg gives bytes, sendmmsg frames.
            let sent = sent.clamp(1, offered);
            stats.sent += sent as u64;
            sent
        }
        Err(e) => match e.raw_os_error() {
            Some(libc::EINTR) if offered > 1 => 0,
            Some(libc::EAGAIN) => {
                stats.lost_full += offered as u64;
                offered
            }
            Some(libc::ENOBUFS | libc::ENOMEM) => {
                stats.lost_full += 1;
                1
            }
            // The interface has gone or is down: the routes' monitor will say so.
            _ => {
                stats.lost_unroutable += 1;
                1
            }
        },
    }
}

fn vnet_header(tcp_at: usize, tcp_len: usize, gso_size: u16) -> [u8; VNET_LEN] {
    let mut vnet = [0; VNET_LEN];
    vnet[0] = NEEDS_CSUM;
    if gso_size != 0 {
        vnet[1] = GSO_TCPV4;
        vnet[2..4].copy_from_slice(&((tcp_at + tcp_len) as u16).to_ne_bytes());
        vnet[4..6].copy_from_slice(&gso_size.to_ne_bytes());
    }
    vnet[6..8].copy_from_slice(&(tcp_at as u16).to_ne_bytes());
    vnet[8..10].copy_from_slice(&16u16.to_ne_bytes());
    vnet
}

/// The address of an interface for a frame that has its Ethernet header.
fn link_address(iface: u32) -> libc::sockaddr_ll {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    address.sll_ifindex = iface as libc::c_int;
    address
}

/// A message header with that address, and no bytes yet.
fn message_to(address: &mut libc::sockaddr_ll) -> libc::msghdr {
    // SAFETY: all-zero is a valid msghdr (null pointers with zero lengths).
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_name = (address as *mut libc::sockaddr_ll).cast();
    message.msg_namelen = size_of::<libc::sockaddr_ll>() as _;
    message
}

//! Sending: segments are written into an arena as they come and leave in batches by sendmmsg(2).
//!
//! The sockets here send only. Each is bound to an address to which nothing is ever sent: otherwise the kernel would
//! clone every TCP packet of the host for each of them, and fill their error queues.

use super::control::Control;
use super::errqueue;
use crate::link::sys::{self, RawAddr};
use crate::link::{for_each_segment, IcmpKind, Incoming, LinkStats, Outgoing};
use crate::wire::{self, Header, SeqNum};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::Range;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Segments in one sendmmsg call, and the queue's length at which it is sent off without waiting for `flush`.
const BATCH: usize = 64;
/// Send buffer: several bandwidth-delay products; what is beyond it is lost as in a full queue.
const BUFFER_BYTES: libc::c_int = 4 << 20;
/// MTU reported when the kernel does not say it: every IPv4 (RFC 1122 section 3.3.3) and IPv6 host takes this much.
const MTU_MIN_IPV4: u32 = 576;
const MTU_MIN_IPV6: u32 = 1280;

/// A sending socket for one family and one interface (or the routing's choice), and what waits for it.
pub(super) struct TxSocket {
    fd: OwnedFd,
    arena: Vec<u8>,
    queue: Vec<Queued>,
    failures: Vec<Failure>,
}

/// A segment in the arena.
struct Queued {
    bytes: Range<usize>,
    name: RawAddr,
    control: Control,
    origin: Origin,
}

/// Whose segment it was, for the report of an error.
#[derive(Clone, Copy)]
struct Origin {
    local: SocketAddr,
    remote: SocketAddr,
    seq: SeqNum,
}

/// What the kernel's routing said at once, as an ICMP error would have said later.
pub(super) struct Failure {
    origin: Origin,
    kind: IcmpKind,
}

impl TxSocket {
    /// A socket that sends from `iface`, 0 for the routing's choice. EPERM without CAP_NET_RAW.
    pub(super) fn new(domain: libc::c_int, iface: u32) -> io::Result<TxSocket> {
        let fd = sys::socket(domain, libc::SOCK_RAW, libc::IPPROTO_TCP)?;
        sys::set_buffers(&fd, BUFFER_BYTES);
        if domain == libc::AF_INET {
            sys::set_int(&fd, libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)?;
            sys::set_int(&fd, libc::SOL_IP, libc::IP_RECVERR, 1)?;
            sys::bind(&fd, SocketAddr::new(Ipv4Addr::BROADCAST.into(), 0))?;
        } else {
            sys::set_int(&fd, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)?;
            sys::set_int(&fd, libc::SOL_IPV6, libc::IPV6_RECVERR, 1)?;
            // A multicast group that nobody joins.
            let deaf = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 0);
            sys::bind(&fd, SocketAddr::new(deaf.into(), 0))?;
        }
        if iface != 0 {
            sys::bind_to_interface(&fd, iface)?;
        }
        Ok(TxSocket {
            fd,
            arena: Vec::new(),
            queue: Vec::new(),
            failures: Vec::new(),
        })
    }

    /// Writes a segment into the arena; a full batch leaves at once.
    pub(super) fn push(&mut self, out: &Outgoing<'_>, stats: &mut LinkStats) {
        let name = RawAddr::host(out.dst, out.iface);
        let control = control_messages(out);
        for_each_segment(out, |header, payload| {
            let start = self.arena.len();
            write_segment(out, header, payload, &mut self.arena);
            self.queue.push(Queued {
                bytes: start..self.arena.len(),
                name,
                control,
                origin: Origin::of(out, header),
            });
            if self.queue.len() >= BATCH {
                self.transmit(stats);
            }
        });
    }

    /// Sends everything and reports what failed.
    pub(super) fn flush(&mut self, stats: &mut LinkStats, sink: &mut dyn FnMut(Incoming<'_>)) {
        self.transmit(stats);
        for failure in self.failures.drain(..) {
            sink(failure.report());
        }
    }

    /// Every segment of the queue is offered to the kernel once.
    fn transmit(&mut self, stats: &mut LinkStats) {
        let mut first = 0;
        while first < self.queue.len() {
            match self.send_batch(first) {
                Ok(sent) => {
                    stats.sent += sent as u64;
                    first += sent;
                }
                Err(error) => first += self.failed(first, &error, stats),
            }
        }
        self.queue.clear();
        self.arena.clear();
    }

    /// sendmmsg from the segment at `first` on: how many went, at least one, or the error of that one.
    fn send_batch(&mut self, first: usize) -> io::Result<usize> {
        let TxSocket { fd, arena, queue, .. } = self;
        let batch = &mut queue[first..];
        let batch_len = batch.len().min(BATCH);
        let mut vectors = [libc::iovec {
            iov_base: core::ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        // SAFETY: all-zero is a valid mmsghdr (null pointers with zero lengths).
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { core::mem::zeroed() };
        for ((queued, vector), header) in batch.iter_mut().zip(&mut vectors).zip(&mut headers) {
            let bytes = &mut arena[queued.bytes.clone()];
            vector.iov_base = bytes.as_mut_ptr().cast();
            vector.iov_len = bytes.len();
            let (control, control_len) = queued.control.as_ptr();
            let (name, name_len) = queued.name.as_ptr();
            header.msg_hdr.msg_name = name;
            header.msg_hdr.msg_namelen = name_len;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control;
            header.msg_hdr.msg_controllen = control_len as _;
        }
        // SAFETY: the first `batch_len` headers point into `vectors`, `queue` and `arena`, none of which moves or is
        // touched before the call returns; the kernel only reads what they point at.
        let result = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), batch_len as _, 0) };
        sys::check(result as isize).map(|sent| sent.max(1))
    }

    /// Books the failure of the segment at `index`; returns how many segments that settles. A full buffer settles all
    /// that are left: they are lost as in any queue that overflows, and recovery sees to them.
    fn failed(&mut self, index: usize, error: &io::Error, stats: &mut LinkStats) -> usize {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        match errno {
            libc::EINTR => 0,
            libc::EAGAIN => {
                let left = self.queue.len() - index;
                stats.lost_full += left as u64;
                left
            }
            libc::ENOBUFS | libc::ENOMEM => {
                stats.lost_full += 1;
                1
            }
            // A firewall dropped it: silent, as for the kernel's TCP.
            libc::EPERM => {
                stats.lost_filtered += 1;
                1
            }
            libc::EMSGSIZE => {
                stats.lost_too_big += 1;
                let origin = self.queue[index].origin;
                let mtu = errqueue::local_mtu(&self.fd).unwrap_or(match origin.remote {
                    SocketAddr::V4(_) => MTU_MIN_IPV4,
                    SocketAddr::V6(_) => MTU_MIN_IPV6,
                });
                self.failures.push(Failure {
                    origin,
                    kind: IcmpKind::PacketTooBig { mtu },
                });
                1
            }
            _ => {
                stats.lost_unroutable += 1;
                let origin = self.queue[index].origin;
                self.failures.push(Failure {
                    origin,
                    kind: IcmpKind::Unreachable { errno },
                });
                1
            }
        }
    }
}

impl Origin {
    fn of(out: &Outgoing<'_>, header: &Header) -> Origin {
        Origin {
            local: SocketAddr::new(out.src, out.header.src_port),
            remote: SocketAddr::new(out.dst, out.header.dst_port),
            seq: header.seq,
        }
    }
}

impl Failure {
    /// For a segment that could not even be offered to the kernel.
    pub(super) fn unroutable(out: &Outgoing<'_>, errno: i32) -> Failure {
        Failure {
            origin: Origin::of(out, &out.header),
            kind: IcmpKind::Unreachable { errno },
        }
    }

    /// For the core.
    pub(super) fn report(&self) -> Incoming<'static> {
        Incoming::Icmp {
            local: self.origin.local,
            remote: self.origin.remote,
            seq: Some(self.origin.seq),
            kind: self.kind,
        }
    }
}

/// Header, options, payload and checksum, appended to `arena`.
fn write_segment(out: &Outgoing<'_>, header: &Header, payload: [&[u8]; 2], arena: &mut Vec<u8>) {
    let mut buf = [0; 60];
    let header_len = wire::emit_header(header, &out.options, &mut buf);
    let header = &mut buf[..header_len];
    let checksum = wire::checksum(out.src, out.dst, header, payload);
    header[16..18].copy_from_slice(&checksum.to_be_bytes());
    arena.extend_from_slice(header);
    arena.extend_from_slice(payload[0]);
    arena.extend_from_slice(payload[1]);
}

/// Source address, TOS, TTL and mark. The interface comes from the socket: with IP_PKTINFO's ifindex alone netfilter's
/// rerouting (a mark set in OUTPUT) forgets it, as it does not for a connected socket that is bound to a device.
fn control_messages(out: &Outgoing<'_>) -> Control {
    let mut control = Control::new();
    let tos = i32::from(out.tos).to_ne_bytes();
    let ttl = i32::from(out.ttl).to_ne_bytes();
    match out.src {
        IpAddr::V4(src) => {
            // struct in_pktinfo: ifindex, source, and an address that only matters on receive.
            control.push(libc::SOL_IP, libc::IP_PKTINFO, &[&[0; 4], &src.octets(), &[0; 4]]);
            if out.tos != 0 {
                control.push(libc::SOL_IP, libc::IP_TOS, &[&tos]);
            }
            if out.ttl != 0 {
                control.push(libc::SOL_IP, libc::IP_TTL, &[&ttl]);
            }
        }
        IpAddr::V6(src) => {
            // struct in6_pktinfo: source, ifindex.
            control.push(libc::SOL_IPV6, libc::IPV6_PKTINFO, &[&src.octets(), &[0; 4]]);
            if out.tos != 0 {
                control.push(libc::SOL_IPV6, libc::IPV6_TCLASS, &[&tos]);
            }
            if out.ttl != 0 {
                control.push(libc::SOL_IPV6, libc::IPV6_HOPLIMIT, &[&ttl]);
            }
        }
    }
    if out.mark != 0 {
        control.push(libc::SOL_SOCKET, libc::SO_MARK, &[&out.mark.to_ne_bytes()]);
    }
    control
}

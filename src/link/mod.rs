//! Links carry TCP segments between the engine and the network; guards keep the host kernel silent about them;
//! routes say which paths there are.
//!
//! How the engine uses them, one connection from its beginning:
//! ```no_run
//! use mptcp::link::{GuardRequest, Guards, Incoming, IpLink, Link, PathConfig, Query, Routes, Verdict, WantedPort};
//! # fn main() -> std::io::Result<()> {
//! let mut routes = Routes::new()?;
//! let mut guards = Guards::new()?;
//! let mut link = IpLink::new(&guards.ports())?;
//! // epoll, edge-triggered: link.fds() → link.recv(…) until true; routes.fd() → routes.changed().
//!
//! let remote: std::net::SocketAddr = "203.0.113.9:443".parse().unwrap();
//! let query = Query { dst: remote.ip(), src: None, mark: 0 };
//! let paths = match routes.verdict(&query, &PathConfig::default())? {
//!     Verdict::Kernel(reason) => return Ok(println!("left to the kernel: {reason}")),
//!     Verdict::Paths { paths, .. } => paths,
//! };
//! let (local, iface) = (paths[0].addr, paths[0].iface);
//! let guard = guards.acquire(&GuardRequest { local, port: WantedPort::Any, remote, iface, mark: 0 })?;
//! link.admit(&guards.ports())?; // before the first segment
//! // endpoint.connect(now, FourTuple { local: guard.local(), remote }, paths[0], …), set_paths(…, &paths)
//! // while let Some(out) = endpoint.poll_transmit(now) { link.send(&out) }
//! link.flush(&mut |incoming| if let Incoming::Icmp { .. } = incoming { /* endpoint.handle_icmp(…) */ });
//! // On SubflowGone: drop the guard. On WantSubflow: routes.permits(…), then acquire, admit, open_subflow.
//! # drop(guard);
//! # Ok(())
//! # }
//! ```

mod arrival;
mod auto;
mod bpf;
pub mod diag;
mod filter;
pub mod guard;
pub mod ip;
mod netlink;
pub mod own_host;
pub mod packet;
pub mod path_config;
pub mod paths;
pub mod ports;
pub mod routes;
pub mod sources;
mod sys;
mod tables;

pub use auto::AutoLink;
pub use guard::{Guard, GuardKind, GuardRequest, Guards, Lease, WantedPort};
pub use ip::IpLink;
pub use own_host::OwnHost;
pub use path_config::PathConfig;
pub use paths::Verdict;
pub use ports::PortSet;
pub use routes::{Query, Routes};
pub use sources::Sources;
pub use sys::interface_exists;

use crate::wire::{Flags, Header, Segment, TcpOptions};
use core::net::IpAddr;
use std::io;
use std::os::fd::BorrowedFd;

/// The loopback device's index, in every network namespace (LOOPBACK_IFINDEX of net/flow.h). A path bound to it leads to this host
/// itself, by [`OwnHost`].
pub const LOOPBACK: u32 = 1;

/// A segment to send. The link writes IP and TCP headers, options and checksum.
pub struct Outgoing<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Interface index that the path is bound to; 0 leaves the choice to the kernel's routing (the first subflow).
    pub iface: u32,
    /// Fixed TCP header.
    pub header: Header,
    /// Options.
    pub options: TcpOptions,
    /// Payload, in up to two slices, in order.
    pub payload: [&'a [u8]; 2],
    /// Payload bytes that one packet carries. A longer payload leaves as several segments with the same options and
    /// flags, but PSH and FIN on the last one only (what Linux calls GSO); 0: it fits.
    pub segment_size: u16,
    /// IP TOS / traffic class, and time to live (0: the system's default).
    pub tos: u8,
    /// Hop limit; 0: the system's default.
    pub ttl: u8,
    /// SO_MARK; 0 is none.
    pub mark: u32,
}

/// Cuts what is to leave into the segments that a packet can carry each: `each` gets header and payload.
pub fn for_each_segment(out: &Outgoing<'_>, mut each: impl FnMut(&Header, [&[u8]; 2])) {
    let size = match out.segment_size {
        0 => usize::MAX,
        size => usize::from(size),
    };
    let [mut head, mut tail] = out.payload;
    let mut header = out.header;
    loop {
        let (first, head_left) = head.split_at(size.min(head.len()));
        let (second, tail_left) = tail.split_at((size - first.len()).min(tail.len()));
        (head, tail) = (head_left, tail_left);
        let last = head.is_empty() && tail.is_empty();
        if last {
            header.flags = out.header.flags;
            return each(&header, [first, second]);
        }
        header.flags = Flags(out.header.flags.0 & !(Flags::PSH.0 | Flags::FIN.0));
        each(&header, [first, second]);
        header.seq += (first.len() + second.len()) as u32;
    }
}

/// What the network said.
#[allow(clippy::large_enum_variant, reason = "handed over, not stored")]
pub enum Incoming<'a> {
    /// A segment whose checksum was right.
    Segment {
        /// Source address.
        src: IpAddr,
        /// Destination address.
        dst: IpAddr,
        /// Interface index it came in on, 0 when unknown.
        iface: u32,
        /// The segment.
        segment: Segment<'a>,
    },
    /// An ICMP error about a segment of ours (RFC 5927: the core checks `seq` against what is in flight).
    Icmp {
        /// Our address and port, as quoted.
        local: core::net::SocketAddr,
        /// The peer's address and port, as quoted.
        remote: core::net::SocketAddr,
        /// Sequence number quoted, where the quote has one.
        seq: Option<crate::wire::SeqNum>,
        /// What it says.
        kind: IcmpKind,
    },
}

/// ICMP errors that matter to TCP (RFC 1122 section 4.2.3.9, RFC 5461).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpKind {
    /// Fragmentation needed or packet too big: the next hop's MTU in bytes.
    PacketTooBig { mtu: u32 },
    /// A soft or hard error, as the errno that Linux reports for it (EHOSTUNREACH, ENETUNREACH, ECONNREFUSED, …).
    Unreachable { errno: i32 },
}

/// A way to carry segments. Nothing here blocks, and nothing is tried twice: what does not go is lost and counted.
pub trait Link {
    /// The name that users know: "ip", ….
    fn name(&self) -> &'static str;

    /// Descriptors for the event loop, the same ones while the link lives. When one becomes readable or has an error
    /// (edge-triggered), call `recv` with its position here until it says true.
    fn fds(&self) -> Vec<BorrowedFd<'_>>;

    /// Hears segments to these local ports from now on. To be called before the first segment from a new port is sent.
    fn admit(&mut self, ports: &PortSet) -> io::Result<()>;

    /// Takes a segment: it is copied before this returns, and leaves at the latest with `flush`.
    fn send(&mut self, segment: &Outgoing<'_>);

    /// Sends what `send` took. `sink` hears `Incoming::Icmp` for segments that the host's own routing refused: too big
    /// for the path, or no way there.
    fn flush(&mut self, sink: &mut dyn FnMut(Incoming<'_>));

    /// Hands over what came in at one of `fds`, up to a bound. True when there is nothing left; false: call again, others may go first.
    fn recv(&mut self, source: usize, sink: &mut dyn FnMut(Incoming<'_>)) -> bool;

    /// Counters since the start.
    fn stats(&self) -> LinkStats;
}

/// Segments counted by a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkStats {
    /// Given to the kernel.
    pub sent: u64,
    /// Handed to the core; one may be many that GRO merged.
    pub received: u64,
    /// Lost on the way out: a full queue or buffer.
    pub lost_full: u64,
    /// Lost on the way out: dropped by a firewall of this host.
    pub lost_filtered: u64,
    /// Lost on the way out: larger than the path's MTU. Reported.
    pub lost_too_big: u64,
    /// Lost on the way out: no route, no such interface or address. Reported.
    pub lost_unroutable: u64,
    /// Received, but the checksum was wrong.
    pub bad_checksum: u64,
    /// Received, but not a TCP segment.
    pub malformed: u64,
}

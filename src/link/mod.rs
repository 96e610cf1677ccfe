//! Links carry TCP segments between the engine and the network; guards keep the host kernel silent about them;
//! routes say which paths there are.

use crate::wire::{Segment, TcpOptions};
use core::net::IpAddr;

/// A segment to send. The link writes IP and TCP headers, options and checksum.
pub struct Outgoing<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Interface index that the path is bound to; 0 leaves the choice to the kernel's routing (the first subflow).
    pub iface: u32,
    /// Fixed TCP header.
    pub header: crate::wire::Header,
    /// Options.
    pub options: TcpOptions,
    /// Payload, in up to two slices, in order.
    pub payload: [&'a [u8]; 2],
    /// IP TOS / traffic class, and time to live (0: the system's default).
    pub tos: u8,
    /// Hop limit; 0: the system's default.
    pub ttl: u8,
    /// SO_MARK; 0 is none.
    pub mark: u32,
}

/// What the network said.
pub enum Incoming<'a> {
    /// A segment whose checksum was right.
    Segment {
        /// Source address.
        src: IpAddr,
        /// Destination address.
        dst: IpAddr,
        /// Interface index it came in on, 0 when unknown.
        iface: u32,
        /// The two ECN bits of the IP header.
        ecn: u8,
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

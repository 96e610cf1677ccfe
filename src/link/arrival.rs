//! An IP packet that a link received, taken apart as far as IP goes.

use super::{Incoming, LinkStats};
use crate::wire::{is_partial_checksum, verify_checksum, Segment};
use core::net::IpAddr;

/// The TCP segment of one packet.
pub(super) struct Arrival<'a> {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// Index of the interface that it came by.
    pub iface: u32,
    /// Header and payload.
    pub tcp: &'a [u8],
    /// The kernel says that the checksum is right, or not written yet.
    pub checksum_known: bool,
}

impl Arrival<'_> {
    /// Hands a sound one over, and counts it or what is wrong with it.
    pub fn deliver(self, stats: &mut LinkStats, sink: &mut dyn FnMut(Incoming<'_>)) {
        let Arrival { src, dst, tcp, .. } = self;
        if !self.checksum_known && !is_partial_checksum(src, dst, tcp) && !verify_checksum(src, dst, tcp) {
            stats.bad_checksum += 1;
            return;
        }
        let Ok(segment) = Segment::parse(tcp) else {
            stats.malformed += 1;
            return;
        };
        stats.received += 1;
        sink(Incoming::Segment {
            src,
            dst,
            iface: self.iface,
            segment,
        });
    }
}

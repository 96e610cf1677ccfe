//! The packet link: AF_PACKET sockets with PACKET_VNET_HDR. Up to 64 KB leave and arrive as one packet (GSO, GRO).
//!
//! It hears packets before the host's INPUT rules and sends behind its OUTPUT rules, so it exists only in a network
//! namespace that is proven to have neither (`proof`); [`PacketLink::is_still_proven`] asks again.
//!
//! Not here: IPv6, marked segments, interfaces that are not plain Ethernet, neighbours that the kernel has not resolved,
//! ICMP errors. All of that goes the ip link's way, which is the same way here, as nothing stands in it (`link/auto.rs`).

mod hops;
mod proof;
mod rx;
mod tx;
mod witness;

use super::ports::PortSet;
use super::{Incoming, LinkStats, Outgoing};
use hops::Hops;
use proof::Proof;
use rx::PacketRx;
use std::io;
use std::os::fd::BorrowedFd;
use tx::PacketTx;

pub use proof::Doubt;

/// Why there is no packet link.
#[derive(Debug)]
pub enum Refusal {
    /// The namespace is not, or cannot be, proven free of what would have to see our segments.
    Doubt(Doubt),
    /// The sockets could not be had.
    Io(io::Error),
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Refusal::Doubt(doubt) => doubt.fmt(f),
            Refusal::Io(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Io(error)
    }
}

/// See the module's head.
pub struct PacketLink {
    proof: Proof,
    hops: Hops,
    rx: PacketRx,
    tx: PacketTx,
}

impl PacketLink {
    /// A link that hears IPv4 segments to `ports`.
    ///
    /// # Errors
    /// The doubt about the namespace, or what socket(2) says: EPERM without CAP_NET_RAW and CAP_NET_ADMIN.
    pub fn new(ports: &PortSet) -> Result<PacketLink, Refusal> {
        let mut proof = Proof::new()?;
        proof.check().map_err(Refusal::Doubt)?;
        Ok(PacketLink {
            proof,
            hops: Hops::new()?,
            rx: PacketRx::new(ports)?,
            tx: PacketTx::new()?,
        })
    }

    /// Asks the kernel again.
    pub fn is_still_proven(&mut self) -> Result<(), Doubt> {
        self.proof.check()
    }

    /// For the event loop: what receives segments, and what hears of changed routes and neighbours.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.rx.fd(), self.hops.fd()]
    }

    /// Hears `ports` from now on.
    pub fn admit(&mut self, ports: &PortSet) -> io::Result<()> {
        self.rx.admit(ports)
    }

    /// Takes a segment, or says that it is for the ip link.
    #[must_use]
    pub fn send(&mut self, out: &Outgoing<'_>, stats: &mut LinkStats) -> bool {
        let Some(hop) = self.hops.find(out) else { return false };
        self.tx.send(out, hop, stats);
        true
    }

    /// Sends what `send` took; see [`super::Link::flush`].
    pub fn flush(&mut self, stats: &mut LinkStats, sink: &mut dyn FnMut(Incoming<'_>)) {
        self.tx.flush(stats, sink);
    }

    /// See [`super::Link::recv`].
    pub fn recv(&mut self, source: usize, stats: &mut LinkStats, sink: &mut dyn FnMut(Incoming<'_>)) -> bool {
        if source == 0 {
            return self.rx.recv(stats, sink);
        }
        self.hops.refresh();
        true
    }
}

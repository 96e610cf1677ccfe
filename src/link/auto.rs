//! The link that works best here: the packet link where the namespace is proven free of what it would go around, for as
//! long as that holds, and the ip link for everything else. There is no way back: where a doubt came up once, the
//! machine's rules are somebody's concern.

use super::packet::{PacketLink, Refusal};
use super::ports::PortSet;
use super::{Incoming, IpLink, Link, LinkStats, Outgoing};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// See the module's head.
pub struct AutoLink {
    ip: IpLink,
    packet: Option<PacketLink>,
    packet_stats: LinkStats,
}

impl AutoLink {
    /// A link that hears `ports`. EPERM without CAP_NET_RAW.
    pub fn new(ports: &PortSet) -> io::Result<AutoLink> {
        let mut ip = IpLink::new(ports)?;
        let packet = match PacketLink::new(ports) {
            Ok(packet) => {
                ip.hear_ipv4(false)?;
                Some(packet)
            }
            Err(refusal) => {
                log::info!("ip link: {refusal}");
                None
            }
        };
        Ok(AutoLink {
            ip,
            packet,
            packet_stats: LinkStats::default(),
        })
    }

    /// A link that goes on with the ip link's receiving sockets of another one: see [`IpLink::adopt`].
    pub fn adopt(ears: Vec<OwnedFd>) -> io::Result<AutoLink> {
        Ok(AutoLink {
            ip: IpLink::adopt(ears)?,
            packet: None,
            packet_stats: LinkStats::default(),
        })
    }

    /// The ip link's receiving sockets.
    pub fn ears(&self) -> Vec<BorrowedFd<'_>> {
        self.ip.fds()
    }

    /// Asks again whether the packet link is as good as the ip link, and gives it up otherwise. To be called before each
    /// connection, and once a second while segments flow.
    pub fn review(&mut self) {
        let doubt = self.packet.as_mut().and_then(|packet| packet.is_still_proven().err());
        if let Some(doubt) = doubt {
            self.give_up_packet(&Refusal::Doubt(doubt));
        }
    }

    /// The ip link alone from now on: for who answers other hosts, before whose SYN there is no time to ask whether a packet filter
    /// has a rule for it.
    pub fn hear_after_filters(&mut self) {
        self.give_up_packet(&"programs listen");
    }

    fn give_up_packet(&mut self, why: &dyn core::fmt::Display) {
        if self.packet.is_some() {
            log::info!("ip link from now on: {why}");
            // Both may hear a segment for a moment, which is a duplicate; a failure leaves the ports to a filter that
            // drops them, and the retransmissions to the next review.
            if let Err(error) = self.ip.hear_ipv4(true) {
                log::warn!("the ip link cannot listen: {error}");
                return;
            }
            self.packet = None;
        }
    }

    /// Interfaces that are gone; see [`IpLink::retain_interfaces`].
    pub fn retain_interfaces(&mut self, alive: impl Fn(u32) -> bool) {
        self.ip.retain_interfaces(alive);
    }
}

impl Link for AutoLink {
    fn name(&self) -> &'static str {
        match self.packet {
            Some(_) => "packet",
            None => self.ip.name(),
        }
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = self.ip.fds();
        fds.extend(self.packet.iter().flat_map(PacketLink::fds));
        fds
    }

    fn admit(&mut self, ports: &PortSet) -> io::Result<()> {
        self.ip.admit(ports)?;
        self.packet.as_mut().map_or(Ok(()), |packet| packet.admit(ports))
    }

    fn send(&mut self, out: &Outgoing<'_>) {
        let taken = self
            .packet
            .as_mut()
            .is_some_and(|packet| packet.send(out, &mut self.packet_stats));
        if !taken {
            self.ip.send(out);
        }
    }

    fn flush(&mut self, sink: &mut dyn FnMut(Incoming<'_>)) {
        if let Some(packet) = &mut self.packet {
            packet.flush(&mut self.packet_stats, sink);
        }
        self.ip.flush(sink);
    }

    fn recv(&mut self, source: usize, sink: &mut dyn FnMut(Incoming<'_>)) -> bool {
        match (source.checked_sub(self.ip.sources()), &mut self.packet) {
            (None, _) => self.ip.recv(source, sink),
            (Some(source), Some(packet)) => packet.recv(source, &mut self.packet_stats, sink),
            (Some(_), None) => true,
        }
    }

    fn stats(&self) -> LinkStats {
        let (ip, packet) = (self.ip.stats(), self.packet_stats);
        LinkStats {
            sent: ip.sent + packet.sent,
            received: ip.received + packet.received,
            lost_full: ip.lost_full + packet.lost_full,
            lost_filtered: ip.lost_filtered + packet.lost_filtered,
            lost_too_big: ip.lost_too_big + packet.lost_too_big,
            lost_unroutable: ip.lost_unroutable + packet.lost_unroutable,
            bad_checksum: ip.bad_checksum + packet.bad_checksum,
            malformed: ip.malformed + packet.malformed,
        }
    }
}

//! The next hop of a segment: interface, Ethernet addresses, MTU, hop limit, as the kernel's routing and neighbour tables
//! have them, remembered until the kernel reports any change of either.
//!
//! Resolving and confirming neighbours stays the kernel's: where there is no confirmed one, a segment goes by the ip link,
//! which makes the kernel see to it, and the news of that ends what is remembered here.

use super::super::netlink::{attributes, ip_addr, push_attribute, u16_at, u32_at, Message, Netlink};
use super::super::Outgoing;
use core::net::{IpAddr, Ipv4Addr};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

/// Multicast groups of linux/rtnetlink.h: RTNLGRP_LINK 1, NEIGH 3, IPV4_IFADDR 5, IPV4_ROUTE 7, IPV4_RULE 8.
const GROUPS: u32 = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 7;
/// Attributes: RTA_ENCAP of rtnetlink.h; RTAX_MTU and RTAX_HOPLIMIT in RTA_METRICS.
const RTA_ENCAP: u16 = 22;
const RTAX_MTU: u16 = 2;
const RTAX_HOPLIMIT: u16 = 10;
/// Attributes of linux/neighbour.h, and the states in which the address may be used, and is known to be right.
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const USABLE: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;
const CONFIRMED: u16 = 0x02 | 0x80;
/// Kinds of virtual interface that carry our packets as they are; hardware has no kind.
const CARRIERS: [&[u8]; 4] = [b"veth", b"vlan", b"bond", b"macvlan"];
/// Destinations remembered at the most.
const HOPS_MAX: usize = 4096;

/// Where a segment is to be put.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    /// Interface index.
    pub(super) iface: u32,
    /// Ethernet header: destination, source, type.
    pub(super) ethernet: [u8; 14],
    /// Of interface and route, bytes.
    pub(super) mtu: u32,
    /// TTL when the program asked for none.
    pub(super) ttl: u8,
}

/// The hops known.
pub(super) struct Hops {
    tables: Netlink,
    monitor: Netlink,
    default_ttl: u8,
    /// By source, destination and interface asked for. None: not by this link, until something changes.
    known: HashMap<(Ipv4Addr, Ipv4Addr, u32), Option<Hop>>,
}

/// What a route says.
struct Way {
    oif: u32,
    next: Ipv4Addr,
    mtu: Option<u32>,
    ttl: Option<u8>,
}

impl Hops {
    pub(super) fn new() -> io::Result<Hops> {
        let default_ttl = fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl")?;
        Ok(Hops {
            monitor: Netlink::new(libc::NETLINK_ROUTE, GROUPS)?,
            tables: Netlink::new(libc::NETLINK_ROUTE, 0)?,
            default_ttl: default_ttl.trim().parse().map_err(io::Error::other)?,
            known: HashMap::new(),
        })
    }

    /// Readable when the kernel's tables have changed.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.monitor.fd()
    }

    /// Forgets everything when the kernel's tables have changed.
    pub(super) fn refresh(&mut self) {
        if self.monitor.drain() {
            self.known.clear();
        }
    }

    /// None when the segment is not for this link, or not now.
    pub(super) fn find(&mut self, out: &Outgoing<'_>) -> Option<Hop> {
        let (IpAddr::V4(src), IpAddr::V4(dst), 0) = (out.src, out.dst, out.mark) else {
            return None;
        };
        let key = (src, dst, out.iface);
        if let Some(hop) = self.known.get(&key) {
            return *hop;
        }
        if self.known.len() >= HOPS_MAX {
            self.known.clear();
        }
        let (hop, confirmed) = match self.look_up(key) {
            Some((hop, confirmed)) => (Some(hop), confirmed),
            None => (None, false),
        };
        self.known.insert(key, hop);
        // One segment by way of the kernel makes it confirm the neighbour.
        hop.filter(|_| confirmed)
    }

    fn look_up(&mut self, (src, dst, iface): (Ipv4Addr, Ipv4Addr, u32)) -> Option<(Hop, bool)> {
        let way = self.route(src, dst, iface)?;
        let (own, link_mtu) = self.interface(way.oif)?;
        let (neighbour, confirmed) = self.neighbour(way.oif, way.next)?;
        let mut ethernet = [0; 14];
        ethernet[..6].copy_from_slice(&neighbour);
        ethernet[6..12].copy_from_slice(&own);
        ethernet[12..].copy_from_slice(&(libc::ETH_P_IP as u16).to_be_bytes());
        let hop = Hop {
            iface: way.oif,
            ethernet,
            mtu: way.mtu.unwrap_or(link_mtu).min(link_mtu),
            ttl: way.ttl.unwrap_or(self.default_ttl),
        };
        Some((hop, confirmed))
    }

    fn route(&mut self, src: Ipv4Addr, dst: Ipv4Addr, iface: u32) -> Option<Way> {
        // struct rtmsg: family, both prefix lengths, tos, table, protocol, scope, type, flags.
        let mut request = vec![libc::AF_INET as u8, 32, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        push_attribute(&mut request, libc::RTA_DST, &dst.octets());
        push_attribute(&mut request, libc::RTA_SRC, &src.octets());
        if iface != 0 {
            push_attribute(&mut request, libc::RTA_OIF, &iface.to_ne_bytes());
        }
        let ways = self
            .tables
            .get(libc::RTM_GETROUTE, &request, |message| way(&message, dst));
        ways.ok()?.into_iter().next()
    }

    /// Ethernet address and MTU of an interface that carries packets as they are.
    fn interface(&mut self, index: u32) -> Option<([u8; 6], u32)> {
        // struct ifinfomsg: family, padding, type, index, flags, change.
        let mut request = [0; 16];
        request[4..8].copy_from_slice(&index.to_ne_bytes());
        let links = self
            .tables
            .get(libc::RTM_GETLINK, &request, |message| ethernet_link(&message));
        links.ok()?.into_iter().next()
    }

    /// Ethernet address of a neighbour, and whether it is confirmed.
    fn neighbour(&mut self, iface: u32, next: Ipv4Addr) -> Option<([u8; 6], bool)> {
        // struct ndmsg: family, padding, interface, state, flags, type.
        let mut request = vec![0; 12];
        request[0] = libc::AF_INET as u8;
        request[4..8].copy_from_slice(&iface.to_ne_bytes());
        push_attribute(&mut request, NDA_DST, &next.octets());
        let neighbours = self.tables.get(libc::RTM_GETNEIGH, &request, |message| {
            let state = u16_at(message.body, 8)?;
            let (_, address) = attributes(message.body.get(12..)?).find(|&(kind, _)| kind == NDA_LLADDR)?;
            let address = <[u8; 6]>::try_from(address).ok()?;
            (state & USABLE != 0).then_some((address, state & CONFIRMED != 0))
        });
        neighbours.ok()?.into_iter().next()
    }
}

/// A plain way to `dst`.
fn way(message: &Message<'_>, dst: Ipv4Addr) -> Option<Way> {
    if *message.body.get(7)? != libc::RTN_UNICAST {
        return None;
    }
    let mut way = Way {
        oif: 0,
        next: dst,
        mtu: None,
        ttl: None,
    };
    for (kind, data) in attributes(message.body.get(12..)?) {
        match kind {
            libc::RTA_OIF => way.oif = u32_at(data, 0)?,
            libc::RTA_GATEWAY => match ip_addr(data)? {
                IpAddr::V4(gateway) => way.next = gateway,
                IpAddr::V6(_) => return None,
            },
            libc::RTA_VIA | RTA_ENCAP | libc::RTA_MULTIPATH => return None,
            libc::RTA_METRICS => {
                for (kind, data) in attributes(data) {
                    match kind {
                        RTAX_MTU => way.mtu = u32_at(data, 0).filter(|&mtu| mtu != 0),
                        RTAX_HOPLIMIT => way.ttl = u32_at(data, 0).and_then(|ttl| u8::try_from(ttl).ok()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    way.ttl = way.ttl.filter(|&ttl| ttl != 0);
    (way.oif != 0).then_some(way)
}

fn ethernet_link(message: &Message<'_>) -> Option<([u8; 6], u32)> {
    let body = message.body;
    if u16_at(body, 2)? != libc::ARPHRD_ETHER || u32_at(body, 8)? & libc::IFF_UP as u32 == 0 {
        return None;
    }
    let (mut address, mut mtu) = (None, None);
    for (kind, data) in attributes(body.get(16..)?) {
        match kind {
            libc::IFLA_ADDRESS => address = <[u8; 6]>::try_from(data).ok(),
            libc::IFLA_MTU => mtu = u32_at(data, 0),
            // A port of a bridge, a bond, a VRF: packets are its master's matter.
            libc::IFLA_MASTER => return None,
            libc::IFLA_LINKINFO => {
                let (_, kind) = attributes(data).find(|&(kind, _)| kind == libc::IFLA_INFO_KIND)?;
                if !CARRIERS.contains(&kind.strip_suffix(&[0]).unwrap_or(kind)) {
                    return None;
                }
            }
            _ => {}
        }
    }
    Some((address?, mtu?))
}

//! Which paths a connection may use: a pure function from what the kernel's tables say to a list of paths.
//!
//! The first subflow takes the kernel's plain route, whatever it is. Another interface is used only where that leaks
//! nothing: not under a VPN, a policy rule, an IPsec policy, or a route that was set for this destination, unless the
//! user names interfaces (`MPTCP_PATHS`, [`super::path_config`]). In doubt there is one path.
//!
//! Not here: reading the tables ([`super::routes`]).

use super::path_config::PathConfig;
use crate::mptcp::endpoint::LocalPath;
use core::fmt;
use core::net::IpAddr;

/// A network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// It belongs to a VRF.
    pub vrf_member: bool,
    /// Administratively up, and running: it has a carrier.
    pub up: bool,
    /// Bytes of an IP packet.
    pub mtu: u32,
}

/// What kind of interface, as far as paths care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InterfaceKind {
    /// A way out: Ethernet, wireless, a modem, and what is built of them without changing where packets go (VLAN,
    /// bond, macvlan, veth).
    Ordinary,
    /// A bridge: a way out on some hosts, a network of virtual machines or containers on others.
    Bridge,
    /// The loopback interface.
    Loopback,
    /// A VRF's master device.
    Vrf,
    /// Packets go somewhere else inside: tun, WireGuard, PPP, IP tunnels, xfrm and dummy interfaces, and every kind
    /// that we do not know.
    Tunnel,
}

/// An address of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The interface's index.
    pub iface: u32,
    /// The address.
    pub addr: IpAddr,
    /// Length of its subnet's prefix, bits.
    pub prefix_len: u8,
    /// Fit to be a source: global or site scope, not tentative, deprecated or a failed duplicate.
    pub usable: bool,
}

/// A routing policy rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// One of those that every host has: tables local, main, default, or a VRF's, for all packets.
    Standard,
    /// Packets from one address of ours use a table: the common set-up of hosts with several uplinks. It does not
    /// divert destinations.
    FromAddress(IpAddr),
    /// Anything else of the family.
    Diverting {
        /// IPv6, or IPv4.
        ipv6: bool,
        /// It selects by port, which the kernel does not know of our segments.
        by_port: bool,
    },
}

/// An outbound IPsec policy's selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpsecPolicy {
    /// Destinations: address and prefix length in bits; None is all of both families.
    pub dst: Option<(IpAddr, u8)>,
    /// It selects by port, which the kernel does not know of our segments.
    pub by_port: bool,
    /// IP protocol, 0 for all.
    pub protocol: u8,
}

/// The kernel's answer to a route lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// rtm_type.
    pub kind: RouteKind,
    /// Outgoing interface.
    pub oif: u32,
    /// Source address that the kernel would take.
    pub src: Option<IpAddr>,
    /// There is a next hop: the destination is not on the link.
    pub via_gateway: bool,
    /// Length of the matched prefix, bits; 0 is a default route.
    pub prefix_len: u8,
    /// The route's own or learned MTU, bytes.
    pub mtu: Option<u32>,
}

/// What a route says about its destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteKind {
    /// Another host.
    Unicast,
    /// This host.
    Local,
    /// Broadcast, multicast, anycast, and what a lookup does not give for TCP.
    Other,
}

/// A way that a socket bound to an interface would take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The interface's index.
    pub iface: u32,
    /// Its source address.
    pub src: IpAddr,
    /// The route that matched through that interface, from that address.
    pub route: Route,
}

/// All that a decision rests on.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The destination.
    pub dst: IpAddr,
    /// The plain lookup's answer, as for connect(), or its errno.
    pub plain: Result<Route, i32>,
    /// Interfaces.
    pub interfaces: &'a [Interface],
    /// Addresses.
    pub addresses: &'a [Address],
    /// Rules of both families.
    pub rules: &'a [Rule],
    /// IPsec policies for outbound packets.
    pub ipsec: &'a [IpsecPolicy],
    /// Lookups through each interface that is up, the plain route's not among them.
    pub candidates: &'a [Candidate],
    /// What the user says.
    pub config: &'a PathConfig,
}

/// The decision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Leave the connection to the kernel's own TCP.
    Kernel(KernelReason),
    /// Use these paths. The first is the plain route's, with interface 0: routed by the kernel.
    Paths {
        /// The plain one first, if its source may be used; none when the program's addresses lead nowhere.
        paths: Vec<LocalPath>,
        /// The interface that the plain route leads to at present.
        plain_oif: u32,
        /// Why no other interface is used, where policy forbids it.
        single: Option<SingleReason>,
        /// Interfaces that give no path.
        skipped: Vec<Skipped>,
    },
}

/// Why a connection is none of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelReason {
    /// The destination is this host.
    Local,
    /// A multicast, broadcast or link-local destination.
    NotGlobal,
    /// The plain lookup failed with this errno: the kernel's connect() says it best.
    NoRoute(i32),
    /// A routing rule selects by port, and the kernel does not look for ports in our segments.
    RuleByPort,
    /// An IPsec policy selects by port: our segments would leave in cleartext.
    IpsecByPort,
}

/// Why there is one path only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SingleReason {
    /// The plain route is a tunnel.
    Tunnel,
    /// The plain route is in a VRF.
    Vrf,
    /// IPsec policies cover the destination.
    Ipsec,
    /// There are policy rules beyond the standard ones.
    Rules,
    /// A route more specific than the default leads to the destination.
    SpecificRoute,
    /// The destination is on a bridge of this host, perhaps a virtual machine or container.
    OnBridge,
}

/// An interface that gives no path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: SkipReason,
}

/// Why an interface gives no path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SkipReason {
    /// Down, or without carrier.
    Down,
    /// No usable source address of the family, or no route to the destination.
    NoRoute,
    /// It is a tunnel, a VRF or part of one.
    NotOrdinary,
    /// The user's configuration leaves it out.
    Excluded,
    /// The user's configuration names it, but there is no such interface.
    Missing,
}

/// Decides.
pub fn decide(situation: &Situation<'_>) -> Verdict {
    let plain = match plain_route(situation) {
        Ok(plain) => plain,
        Err(reason) => return Verdict::Kernel(reason),
    };
    let single = single_reason(situation, plain).filter(|_| !situation.config.names_interfaces());
    let mut paths = vec![plain_path(situation, plain)];
    let mut skipped = Vec::new();
    let sources = &situation.config.sources;
    for interface in chosen_interfaces(situation, plain.oif, &mut skipped) {
        match path_through(situation, interface, None) {
            Ok(path) if single.is_none() => paths.push(path),
            // The one reason for all of them is in `single`.
            Ok(_) => {}
            Err(why) => skipped.push(Skipped {
                name: interface.name.clone(),
                why,
            }),
        }
    }
    for addr in sources.named_for(situation.dst).filter(|_| single.is_none()) {
        // What the program names may be on any interface, also a second address of one.
        let known = paths.iter().any(|path| path.addr == addr);
        let home = situation.addresses.iter().find(|a| a.addr == addr);
        let device = home.and_then(|home| interface(situation, home.iface));
        // The user's word on interfaces comes before the program's on addresses.
        let device = device.filter(|device| !known && situation.config.leaves(&device.name));
        paths.extend(device.and_then(|device| path_through(situation, device, Some(addr)).ok()));
    }
    paths.retain(|path| sources.allow(path.addr));
    Verdict::Paths {
        paths,
        plain_oif: plain.oif,
        single,
        skipped,
    }
}

impl Verdict {
    /// The plain routes of both destinations leave by the same interface, under the same rules.
    pub fn is_routed_like(&self, other: &Verdict) -> bool {
        let way = |verdict: &Verdict| match *verdict {
            Verdict::Kernel(_) => None,
            Verdict::Paths { plain_oif, single, .. } => Some((plain_oif, single)),
        };
        way(self).is_some() && way(self) == way(other)
    }

    /// A subflow from `addr` bound to `iface` (not 0) is allowed.
    pub fn allows(&self, addr: IpAddr, iface: u32) -> bool {
        match self {
            Verdict::Kernel(_) => false,
            Verdict::Paths { paths, plain_oif, .. } => paths
                .iter()
                .any(|p| p.addr == addr && (p.iface == iface || (p.iface == 0 && *plain_oif == iface))),
        }
    }
}

/// The plain route if we can carry its connection as the kernel would.
fn plain_route<'a>(situation: &'a Situation<'_>) -> Result<&'a Route, KernelReason> {
    let not_global = match situation.dst {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local() || v6.is_unspecified(),
    };
    // An IPv6 address is in the address table a moment before its local route is there.
    if situation.dst.is_loopback() || situation.addresses.iter().any(|a| a.addr == situation.dst) {
        return Err(KernelReason::Local);
    }
    if not_global {
        return Err(KernelReason::NotGlobal);
    }
    let plain = situation
        .plain
        .as_ref()
        .map_err(|&errno| KernelReason::NoRoute(errno))?;
    match plain.kind {
        RouteKind::Unicast => {}
        RouteKind::Local => return Err(KernelReason::Local),
        RouteKind::Other => return Err(KernelReason::NotGlobal),
    }
    let device = interface(situation, plain.oif);
    if device.is_some_and(|i| i.kind == InterfaceKind::Loopback) {
        return Err(KernelReason::Local);
    }
    let ours = situation.dst.is_ipv6();
    let rule_by_port = |rule: &Rule| matches!(*rule, Rule::Diverting { ipv6, by_port: true } if ipv6 == ours);
    if situation.rules.iter().any(rule_by_port) {
        return Err(KernelReason::RuleByPort);
    }
    if ipsec_policies(situation).any(|policy| policy.by_port) {
        return Err(KernelReason::IpsecByPort);
    }
    Ok(plain)
}

/// Why no interface but the plain route's may be used.
fn single_reason(situation: &Situation<'_>, plain: &Route) -> Option<SingleReason> {
    // An interface that is not in the table has just come: nothing is known about it.
    let Some(device) = interface(situation, plain.oif) else {
        return Some(SingleReason::Tunnel);
    };
    let ours = situation.dst.is_ipv6();
    if device.kind == InterfaceKind::Vrf || device.vrf_member {
        Some(SingleReason::Vrf)
    } else if device.kind == InterfaceKind::Tunnel {
        Some(SingleReason::Tunnel)
    } else if ipsec_policies(situation).next().is_some() {
        Some(SingleReason::Ipsec)
    } else if situation.rules.iter().any(|rule| diverts(rule, ours, situation)) {
        Some(SingleReason::Rules)
    } else if plain.prefix_len > 0 && !is_connected(situation, plain) {
        Some(SingleReason::SpecificRoute)
    } else if plain.prefix_len > 0 && device.kind == InterfaceKind::Bridge {
        Some(SingleReason::OnBridge)
    } else {
        None
    }
}

/// A rule that may send packets of the family elsewhere than the table for everybody does.
fn diverts(rule: &Rule, ours_ipv6: bool, situation: &Situation<'_>) -> bool {
    match *rule {
        Rule::Standard => false,
        Rule::Diverting { ipv6, .. } => ipv6 == ours_ipv6,
        // For an address that is not ours it is about forwarded packets, or about an address that may come.
        Rule::FromAddress(addr) => addr.is_ipv6() == ours_ipv6 && !situation.addresses.iter().any(|a| a.addr == addr),
    }
}

/// The destination is in the subnet of an address on the route's interface: a route that every interface has, not one
/// that was set for this destination.
fn is_connected(situation: &Situation<'_>, route: &Route) -> bool {
    !route.via_gateway
        && situation
            .addresses
            .iter()
            .any(|a| a.iface == route.oif && a.prefix_len > 0 && in_prefix(situation.dst, a.addr, a.prefix_len))
}

/// Policies for TCP to the destination.
fn ipsec_policies<'a>(situation: &'a Situation<'_>) -> impl Iterator<Item = &'a IpsecPolicy> {
    situation.ipsec.iter().filter(|policy| {
        let for_tcp = matches!(i32::from(policy.protocol), 0 | libc::IPPROTO_TCP);
        for_tcp
            && policy
                .dst
                .is_none_or(|(prefix, len)| in_prefix(situation.dst, prefix, len))
    })
}

fn plain_path(situation: &Situation<'_>, plain: &Route) -> LocalPath {
    let device = interface(situation, plain.oif);
    LocalPath {
        addr: plain.src.unwrap_or(match situation.dst {
            IpAddr::V4(_) => core::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => core::net::Ipv6Addr::UNSPECIFIED.into(),
        }),
        iface: 0,
        mtu: path_mtu(device, plain),
        backup: device.is_some_and(|d| situation.config.is_backup(&d.name)),
    }
}

/// Interfaces to look at besides the plain route's: those named, in the order named, or else all.
fn chosen_interfaces<'a>(
    situation: &'a Situation<'_>,
    plain_oif: u32,
    skipped: &mut Vec<Skipped>,
) -> Vec<&'a Interface> {
    let config = situation.config;
    let mut skip = |name: &str, why| {
        skipped.push(Skipped {
            name: name.to_owned(),
            why,
        });
    };
    let others = || situation.interfaces.iter().filter(move |i| i.index != plain_oif);
    if !config.names_interfaces() {
        return others()
            .filter(|i| i.kind != InterfaceKind::Loopback)
            .filter(|i| {
                let excluded = config.excludes(&i.name);
                let ordinary = matches!(i.kind, InterfaceKind::Ordinary | InterfaceKind::Bridge) && !i.vrf_member;
                match (excluded, ordinary) {
                    (true, _) => skip(&i.name, SkipReason::Excluded),
                    (false, false) => skip(&i.name, SkipReason::NotOrdinary),
                    (false, true) => {}
                }
                !excluded && ordinary
            })
            .collect();
    }
    let mut chosen = Vec::new();
    for name in config.named() {
        match situation.interfaces.iter().find(|i| i.name == name) {
            Some(i) if i.index == plain_oif => {}
            Some(_) if config.excludes(name) => skip(name, SkipReason::Excluded),
            Some(i) => chosen.push(i),
            None => skip(name, SkipReason::Missing),
        }
    }
    chosen
}

/// The path through an interface, from its own choice of address or from the one that was named.
fn path_through(
    situation: &Situation<'_>,
    interface: &Interface,
    named: Option<IpAddr>,
) -> Result<LocalPath, SkipReason> {
    if !interface.up {
        return Err(SkipReason::Down);
    }
    let candidate = situation
        .candidates
        .iter()
        .filter(|c| c.iface == interface.index && c.route.oif == interface.index)
        .find(|c| named.is_none_or(|addr| c.src == addr))
        .filter(|c| c.route.kind == RouteKind::Unicast)
        .filter(|c| {
            let fits = |a: &Address| a.usable && a.addr == c.src && a.iface == c.iface;
            situation.addresses.iter().any(fits)
        })
        .ok_or(SkipReason::NoRoute)?;
    Ok(LocalPath {
        addr: candidate.src,
        iface: interface.index,
        mtu: path_mtu(Some(interface), &candidate.route),
        backup: situation.config.is_backup(&interface.name),
    })
}

/// The smaller of the interface's and the route's MTU; the least that the family allows where neither is known.
fn path_mtu(device: Option<&Interface>, route: &Route) -> u32 {
    let device_mtu = device.map(|d| d.mtu).filter(|&mtu| mtu != 0);
    match (device_mtu, route.mtu) {
        (Some(device), Some(route)) => device.min(route),
        (Some(mtu), None) | (None, Some(mtu)) => mtu,
        (None, None) => 1280,
    }
}

fn interface<'a>(situation: &'a Situation<'_>, index: u32) -> Option<&'a Interface> {
    situation.interfaces.iter().find(|i| i.index == index)
}

/// `addr` is in the subnet of `prefix`.
fn in_prefix(addr: IpAddr, prefix: IpAddr, len: u8) -> bool {
    match (addr, prefix) {
        (IpAddr::V4(a), IpAddr::V4(p)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(len.min(32))).unwrap_or(0);
            (a.to_bits() ^ p.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(p)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
            (a.to_bits() ^ p.to_bits()) & mask == 0
        }
        _ => false,
    }
}

impl fmt::Display for KernelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelReason::Local => f.write_str("the destination is this host"),
            KernelReason::NotGlobal => f.write_str("the destination is multicast, broadcast or link-local"),
            KernelReason::NoRoute(errno) => write!(f, "no route: {}", std::io::Error::from_raw_os_error(*errno)),
            KernelReason::RuleByPort => f.write_str("a routing rule selects by port"),
            KernelReason::IpsecByPort => f.write_str("an IPsec policy selects by port"),
        }
    }
}

impl fmt::Display for SingleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SingleReason::Tunnel => "the route is a tunnel",
            SingleReason::Vrf => "the route is in a VRF",
            SingleReason::Ipsec => "IPsec policies cover the destination",
            SingleReason::Rules => "there are routing policy rules",
            SingleReason::SpecificRoute => "a route more specific than the default leads to the destination",
            SingleReason::OnBridge => "the destination is on a bridge of this host",
        })
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SkipReason::Down => "it is down or has no carrier",
            SkipReason::NoRoute => "it has no usable address or no route to the destination",
            SkipReason::NotOrdinary => "it is a tunnel, in a VRF, or of a kind that may lead into one",
            SkipReason::Excluded => "MPTCP_PATHS leaves it out",
            SkipReason::Missing => "there is no such interface",
        })
    }
}

#[cfg(test)]
#[path = "paths_tests.rs"]
mod tests;

//! Netlink messages → the values of [`super::paths`]. Layouts are those of linux/rtnetlink.h, fib_rules.h and xfrm.h.
//!
//! A message that is shorter than its type is skipped (None); attributes that we do not know are too, except in rules:
//! there whatever is not understood diverts.

use super::netlink::{attributes, ip_addr, u16_at, u32_at, Message};
use super::paths::{Address, Interface, InterfaceKind, IpsecPolicy, Route, RouteKind, Rule};
use core::net::IpAddr;

/// XFRM_POLICY_OUT of linux/xfrm.h.
const XFRM_POLICY_OUT: u8 = 1;
/// FR_ACT_TO_TBL and FIB_RULE_INVERT of linux/fib_rules.h.
const FR_ACT_TO_TBL: u8 = 1;
const FIB_RULE_INVERT: u32 = 2;
/// RTAX_MTU of linux/rtnetlink.h.
const RTAX_MTU: u16 = 2;
/// ARPHRD_IP6GRE of linux/if_arp.h.
const ARPHRD_IP6GRE: u16 = 823;

/// FRA_* of linux/fib_rules.h.
mod fra {
    pub const SRC: u16 = 2;
    pub const PRIORITY: u16 = 6;
    pub const SUPPRESS_IFGROUP: u16 = 13;
    pub const SUPPRESS_PREFIXLEN: u16 = 14;
    pub const TABLE: u16 = 15;
    pub const PAD: u16 = 18;
    pub const L3MDEV: u16 = 19;
    pub const PROTOCOL: u16 = 21;
    pub const SPORT_RANGE: u16 = 23;
    pub const DPORT_RANGE: u16 = 24;
}

/// `struct ifinfomsg` (family, pad, type u16, index, flags, change) and its attributes.
pub(super) fn link(message: Message<'_>) -> Option<Interface> {
    let body = message.body;
    if message.kind != libc::RTM_NEWLINK {
        return None;
    }
    let flags = u32_at(body, 8)?;
    let needed = (libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_LOWER_UP) as u32;
    let mut interface = Interface {
        index: u32_at(body, 4)?,
        name: String::new(),
        kind: InterfaceKind::Ordinary,
        vrf_member: false,
        up: flags & needed == needed,
        mtu: 0,
    };
    let mut link_kind = None;
    for (kind, data) in attributes(body.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => interface.name = text(data),
            libc::IFLA_MTU => interface.mtu = u32_at(data, 0)?,
            libc::IFLA_LINKINFO => {
                for (kind, data) in attributes(data) {
                    match kind {
                        libc::IFLA_INFO_KIND => link_kind = Some(text(data)),
                        libc::IFLA_INFO_SLAVE_KIND => interface.vrf_member = text(data) == "vrf",
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let hardware = u16_at(body, 2)?;
    interface.kind = interface_kind(link_kind.as_deref(), hardware, flags);
    Some(interface)
}

/// By the name of its driver kind where it is a virtual device, else by its ARPHRD_* type.
fn interface_kind(link_kind: Option<&str>, hardware: u16, flags: u32) -> InterfaceKind {
    if flags & libc::IFF_LOOPBACK as u32 != 0 {
        return InterfaceKind::Loopback;
    }
    match link_kind {
        Some("bridge") => InterfaceKind::Bridge,
        Some("vrf") => InterfaceKind::Vrf,
        Some(
            "veth" | "vlan" | "bond" | "team" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap" | "dsa" | "hsr" | "rmnet"
            | "wwan" | "virt_wifi" | "netdevsim" | "ipoib",
        ) => InterfaceKind::Ordinary,
        Some(_) => InterfaceKind::Tunnel,
        None => match hardware {
            libc::ARPHRD_PPP
            | libc::ARPHRD_TUNNEL
            | libc::ARPHRD_TUNNEL6
            | libc::ARPHRD_SIT
            | libc::ARPHRD_IPGRE
            | ARPHRD_IP6GRE => InterfaceKind::Tunnel,
            // Modems in raw IP mode have ARPHRD_NONE or ARPHRD_RAWIP.
            _ => InterfaceKind::Ordinary,
        },
    }
}

/// `struct ifaddrmsg` (family, prefix length, flags, scope, index) and its attributes.
pub(super) fn address(message: Message<'_>) -> Option<Address> {
    let body = message.body;
    if message.kind != libc::RTM_NEWADDR {
        return None;
    }
    let (prefix_len, scope, iface) = (*body.get(1)?, *body.get(3)?, u32_at(body, 4)?);
    let mut flags = u32::from(*body.get(2)?);
    let (mut local, mut address) = (None, None);
    for (kind, data) in attributes(body.get(8..)?) {
        match kind {
            libc::IFA_LOCAL => local = ip_addr(data),
            libc::IFA_ADDRESS => address = ip_addr(data),
            libc::IFA_FLAGS => flags = u32_at(data, 0)?,
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the other end.
    let addr = local.or(address)?;
    let unfit = libc::IFA_F_TENTATIVE | libc::IFA_F_DEPRECATED | libc::IFA_F_DADFAILED;
    let link_local = match addr {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    Some(Address {
        iface,
        addr,
        prefix_len,
        usable: flags & unfit == 0 && scope < libc::RT_SCOPE_LINK && !link_local,
    })
}

/// A rule; one that is not understood diverts.
pub(super) fn rule(message: Message<'_>) -> Option<Rule> {
    if message.kind != libc::RTM_NEWRULE {
        return None;
    }
    let ipv6 = message.body.first() == Some(&(libc::AF_INET6 as u8));
    let unknown = Rule::Diverting { ipv6, by_port: false };
    Some(understand_rule(message.body).unwrap_or(unknown))
}

/// `struct fib_rule_hdr` (family, both prefix lengths, tos, table, two reserved, action, flags) and its attributes.
fn understand_rule(body: &[u8]) -> Option<Rule> {
    let &[family, dst_len, src_len, tos, table, _, _, action] = body.get(..8)?.first_chunk()?;
    let flags = u32_at(body, 8)?;
    let mut table = u32::from(table);
    let (mut source, mut l3mdev, mut by_port, mut selects) = (None, false, false, false);
    for (kind, data) in attributes(body.get(12..)?) {
        match kind {
            fra::TABLE => table = u32_at(data, 0)?,
            fra::SRC => source = ip_addr(data),
            fra::L3MDEV => l3mdev = data.first() == Some(&1),
            fra::SPORT_RANGE | fra::DPORT_RANGE => by_port = true,
            fra::PRIORITY | fra::PROTOCOL | fra::PAD => {}
            // -1 is what every rule has: nothing is suppressed.
            fra::SUPPRESS_PREFIXLEN | fra::SUPPRESS_IFGROUP if u32_at(data, 0) == Some(u32::MAX) => {}
            _ => selects = true,
        }
    }
    let ipv6 = i32::from(family) == libc::AF_INET6;
    let invert = flags & FIB_RULE_INVERT != 0;
    let to_table = action == FR_ACT_TO_TBL;
    let plain = to_table && !invert && !selects && !by_port && dst_len == 0 && tos == 0;
    let standard_table = table == u32::from(libc::RT_TABLE_LOCAL)
        || table == u32::from(libc::RT_TABLE_MAIN)
        || table == u32::from(libc::RT_TABLE_DEFAULT);
    Some(match source {
        None if plain && src_len == 0 && (standard_table || l3mdev) => Rule::Standard,
        Some(addr) if plain && !l3mdev && src_len == if ipv6 { 128 } else { 32 } => Rule::FromAddress(addr),
        _ => Rule::Diverting { ipv6, by_port },
    })
}

/// `struct rtmsg` and its attributes.
pub(super) fn route(message: Message<'_>) -> Option<Route> {
    let body = message.body;
    if message.kind != libc::RTM_NEWROUTE {
        return None;
    }
    let mut route = Route {
        kind: match *body.get(7)? {
            libc::RTN_UNICAST => RouteKind::Unicast,
            libc::RTN_LOCAL => RouteKind::Local,
            _ => RouteKind::Other,
        },
        oif: 0,
        src: None,
        via_gateway: false,
        prefix_len: *body.get(1)?,
        mtu: None,
    };
    for (kind, data) in attributes(body.get(12..)?) {
        match kind {
            libc::RTA_OIF => route.oif = u32_at(data, 0)?,
            libc::RTA_PREFSRC => route.src = ip_addr(data),
            libc::RTA_GATEWAY | libc::RTA_VIA => route.via_gateway = true,
            libc::RTA_METRICS => {
                let mtu = attributes(data).find(|&(kind, _)| kind == RTAX_MTU);
                route.mtu = mtu.and_then(|(_, data)| u32_at(data, 0)).filter(|&mtu| mtu != 0);
            }
            _ => {}
        }
    }
    Some(route)
}

/// `struct xfrm_userpolicy_info`: a selector of 56 bytes, limits and statistics, at 160 the direction.
pub(super) fn ipsec_policy(message: Message<'_>) -> Option<IpsecPolicy> {
    let body = message.body;
    if *body.get(160)? != XFRM_POLICY_OUT {
        return None;
    }
    let family = i32::from(u16_at(body, 40)?);
    let dst = match family {
        libc::AF_INET => Some(ip_addr(body.get(..4)?)?),
        libc::AF_INET6 => Some(ip_addr(body.get(..16)?)?),
        _ => None,
    };
    let prefix_len = *body.get(42)?;
    let no_ports = body.get(34..36)? == [0; 2] && body.get(38..40)? == [0; 2];
    Some(IpsecPolicy {
        dst: dst.map(|addr| (addr, prefix_len)),
        by_port: !no_ports,
        protocol: *body.get(44)?,
    })
}

/// A zero-terminated string.
fn text(data: &[u8]) -> String {
    let end = data.iter().position(|&b| b == 0).unwrap_or(data.len());
    String::from_utf8_lossy(&data[..end]).into_owned()
}

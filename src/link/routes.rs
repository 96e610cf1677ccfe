//! What the kernel's tables say: route lookups as connect() does them, interfaces, addresses, rules, IPsec policies; and
//! a monitor for changes. The decision what to make of it is [`super::paths`]'.
//!
//! Not here: reading whole routing tables. A lookup through an interface (`oif`) says all that matters about it, on a
//! host with a million routes too; and it never decides where the first subflow goes, because under the rules of a VPN
//! it finds the way around the tunnel.

use super::netlink::{push_attribute, Netlink};
use super::path_config::PathConfig;
use super::paths::{
    self, Address, Candidate, Interface, InterfaceKind, IpsecPolicy, Route, RouteKind, Rule, Situation, Verdict,
};
use super::{own_host, tables, LOOPBACK};
use crate::mptcp::endpoint::LocalPath;
use core::net::IpAddr;
use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;

/// Multicast groups of linux/rtnetlink.h: RTNLGRP_LINK 1, IPV4_IFADDR 5, IPV4_ROUTE 7, IPV4_RULE 8, IPV6_IFADDR 9,
/// IPV6_ROUTE 11, IPV6_RULE 19.
const GROUPS: u32 = 1 << 0 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18;
/// RTM_F_FIB_MATCH of linux/rtnetlink.h: answer with the route that matched, not with the way through it.
const RTM_F_FIB_MATCH: u32 = 0x2000;
/// Answers remembered at the most.
const KNOWN_MAX: usize = 1024;
/// XFRM_MSG_GETPOLICY of linux/xfrm.h.
const XFRM_MSG_GETPOLICY: u16 = 0x15;

/// A connection's question: where would it go?
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The destination.
    pub dst: IpAddr,
    /// The source that the program has bound, if any.
    pub src: Option<IpAddr>,
    /// SO_MARK, 0 for none.
    pub mark: u32,
}

/// The kernel's tables, as they are now.
pub struct Routes {
    route: Netlink,
    monitor: Netlink,
    xfrm: Option<Netlink>,
    stale: bool,
    interfaces: Vec<Interface>,
    addresses: Vec<Address>,
    rules: Vec<Rule>,
    /// What lookups have answered, until a table changes.
    known: HashMap<Lookup, Route>,
}

/// One question to the kernel: destination, mark, source, interface, flags.
type Lookup = (IpAddr, u32, Option<IpAddr>, u32, u32);

impl Routes {
    /// Opens the sockets and reads the tables.
    pub fn new() -> io::Result<Routes> {
        let mut routes = Routes {
            // The monitor first: what changes while we read is seen.
            monitor: Netlink::new(libc::NETLINK_ROUTE, GROUPS)?,
            route: Netlink::new(libc::NETLINK_ROUTE, 0)?,
            xfrm: match Netlink::new(libc::NETLINK_XFRM, 0) {
                Ok(xfrm) => Some(xfrm),
                // A kernel without IPsec.
                Err(e) if e.raw_os_error() == Some(libc::EPROTONOSUPPORT) => None,
                Err(e) => return Err(e),
            },
            stale: false,
            interfaces: Vec::new(),
            addresses: Vec::new(),
            rules: Vec::new(),
            known: HashMap::new(),
        };
        routes.read_tables()?;
        Ok(routes)
    }

    /// For the event loop: readable (edge-triggered) when tables changed; call `changed` then.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.monitor.fd()
    }

    /// Interfaces, addresses, routes or rules changed since the last call: ask `verdict` anew for every connection.
    /// Lost notifications count as a change.
    pub fn changed(&mut self) -> bool {
        let changed = self.monitor.drain();
        self.stale |= changed;
        changed
    }

    /// Reads the tables anew if something has changed since.
    pub fn refresh(&mut self) -> io::Result<()> {
        match self.stale {
            true => self.read_tables(),
            false => Ok(()),
        }
    }

    /// Asks the kernel anew from here on: for what it tells nobody, such as a path's MTU that it has learnt.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// The interfaces, as of the last question or [`Routes::refresh`].
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Which paths a connection may use, by the tables as they are at this moment.
    pub fn verdict(&mut self, query: &Query, config: &PathConfig) -> io::Result<Verdict> {
        // A change that the loop has not yet heard of stays pending for its `changed`.
        self.stale |= self.monitor_has_news();
        self.refresh()?;
        let verdict = self.decide(query, config)?;
        let nowhere = matches!(&verdict, Verdict::Paths { paths, .. } if paths.is_empty());
        match config.sources.first_for(query.dst).filter(|_| nowhere) {
            // As after bind() to that address: the kernel's rules say where it goes.
            Some(src) => self.decide(
                &Query {
                    src: Some(src),
                    ..*query
                },
                config,
            ),
            None => Ok(verdict),
        }
    }

    /// The path to an address of this host itself, if `query` asks about one (and not one that is somebody's on each link).
    pub fn own_path(&mut self, query: &Query) -> io::Result<Option<LocalPath>> {
        let route = self.lookup(query, query.src, 0, 0)?;
        let on_each_link = matches!(query.dst, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let own = route.kind == RouteKind::Local && !on_each_link;
        Ok(query.src.or(route.src).filter(|_| own).map(|addr| LocalPath {
            addr,
            iface: LOOPBACK,
            mtu: own_host::MTU,
            backup: false,
        }))
    }

    fn decide(&mut self, query: &Query, config: &PathConfig) -> io::Result<Verdict> {
        let plain = match self.plain_route(query) {
            Ok(route) => Ok(route),
            Err(e) => Err(e.raw_os_error().ok_or(e)?),
        };
        let candidates = match &plain {
            Ok(route) => self.candidates(query, route.oif, config),
            Err(_) => Vec::new(),
        };
        let ipsec = self.ipsec_policies()?;
        Ok(paths::decide(&Situation {
            dst: query.dst,
            plain,
            interfaces: &self.interfaces,
            addresses: &self.addresses,
            rules: &self.rules,
            ipsec: &ipsec,
            candidates: &candidates,
            config,
        }))
    }

    /// A subflow of the connection that asked `first`, from `local` and bound to `iface` (0: not bound), may go to
    /// `remote`, an address that the peer announced: the routing may treat it otherwise than the first one. Not bound
    /// it must leave by the interface that the first destination is reached by, under the same rules: an announced
    /// address may be on a network beside the tunnel, or not covered by the IPsec policy.
    pub fn permits(
        &mut self,
        first: &Query,
        local: IpAddr,
        iface: u32,
        remote: IpAddr,
        config: &PathConfig,
    ) -> io::Result<bool> {
        let query = Query {
            src: (iface == 0).then_some(local),
            ..*first
        };
        let verdict = self.verdict(&Query { dst: remote, ..query }, config)?;
        if iface != 0 {
            return Ok(verdict.allows(local, iface));
        }
        Ok(verdict.is_routed_like(&self.verdict(&query, config)?))
    }

    fn monitor_has_news(&self) -> bool {
        let mut poll = [rustix::event::PollFd::from_borrowed_fd(
            self.monitor.fd(),
            rustix::event::PollFlags::IN,
        )];
        let now = rustix::event::Timespec::default();
        // An error would be reported as readiness; a failed poll means nothing else than "look".
        rustix::event::poll(&mut poll, Some(&now)).map_or(true, |ready| ready > 0)
    }

    fn read_tables(&mut self) -> io::Result<()> {
        let all = [0u8; 16];
        self.forget();
        self.interfaces = self.route.dump(libc::RTM_GETLINK, &all, tables::link)?;
        self.addresses = self.route.dump(libc::RTM_GETADDR, &all[..8], tables::address)?;
        self.rules.clear();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut request = [0u8; 12];
            request[0] = family as u8;
            match self.route.dump(libc::RTM_GETRULE, &request, tables::rule) {
                Ok(rules) => self.rules.extend(rules),
                // A kernel without policy routing for the family.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => {}
                Err(e) => return Err(e),
            }
        }
        self.stale = false;
        Ok(())
    }

    /// The route of connect(): looked up, and looked up again with the source address that the first answer gave.
    fn plain_route(&mut self, query: &Query) -> io::Result<Route> {
        let src = match query.src {
            Some(src) => Some(src),
            None => self.lookup(query, None, 0, 0)?.src,
        };
        let way = self.lookup(query, src, 0, 0)?;
        if way.kind != RouteKind::Unicast {
            return Ok(way);
        }
        let matched = self.lookup(query, src, 0, RTM_F_FIB_MATCH)?;
        Ok(Route {
            src: src.or(way.src),
            prefix_len: matched.prefix_len,
            ..way
        })
    }

    /// The ways that sockets bound to the other interfaces would take.
    fn candidates(&mut self, query: &Query, plain_oif: u32, config: &PathConfig) -> Vec<Candidate> {
        let others: Vec<u32> = self
            .interfaces
            .iter()
            .filter(|i| i.up && i.kind != InterfaceKind::Loopback && i.index != plain_oif)
            .map(|i| i.index)
            .collect();
        let mut candidates: Vec<Candidate> = others
            .into_iter()
            .filter_map(|iface| self.candidate(query, iface, None))
            .collect();
        for addr in config.sources.named_for(query.dst) {
            let home = self.addresses.iter().find(|a| a.addr == addr).map(|a| a.iface);
            let known = candidates.iter().any(|c| c.src == addr);
            let found = home
                .filter(|_| !known)
                .and_then(|iface| self.candidate(query, iface, Some(addr)));
            candidates.extend(found);
        }
        candidates
    }

    /// The way through an interface, from the address that the kernel would take there, or from `named`.
    fn candidate(&mut self, query: &Query, iface: u32, named: Option<IpAddr>) -> Option<Candidate> {
        let preferred = match named {
            Some(_) => named,
            None => self.lookup(query, None, iface, 0).ok()?.src,
        };
        let fits = |a: &&Address| a.iface == iface && a.usable && a.addr.is_ipv6() == query.dst.is_ipv6();
        let src = self
            .addresses
            .iter()
            .filter(fits)
            .find(|a| Some(a.addr) == preferred)
            .or_else(|| self.addresses.iter().find(fits))?
            .addr;
        // A rule for this address must lead out here too: it may be how the user keeps its packets in a tunnel.
        let has_rule = self.rules.contains(&Rule::FromAddress(src));
        if has_rule && self.lookup(query, Some(src), 0, 0).ok()?.oif != iface {
            return None;
        }
        // Without a route the kernel guesses that the destination is on the link. A match in a table is no guess.
        let (lookup_src, matched) = self.strict_match(query, src, iface)?;
        let way = self.lookup(query, lookup_src, iface, 0).ok()?;
        Some(Candidate {
            iface,
            src,
            route: Route {
                prefix_len: matched.prefix_len,
                ..way
            },
        })
    }

    /// The route that a socket bound to `iface` and `src` matches, and the source to ask with. For IPv6 a lookup with a
    /// source address only prefers `iface`, a bound socket's insists on it, and so does a lookup without a source; that
    /// one decides when no rule for the source address led to `iface`.
    fn strict_match(&mut self, query: &Query, src: IpAddr, iface: u32) -> Option<(Option<IpAddr>, Route)> {
        let matched = self.lookup(query, Some(src), iface, RTM_F_FIB_MATCH).ok()?;
        if matched.oif == iface {
            return Some((Some(src), matched));
        }
        let matched = self.lookup(query, None, iface, RTM_F_FIB_MATCH).ok()?;
        Some((None, matched)).filter(|(_, matched)| matched.oif == iface)
    }

    /// RTM_GETROUTE, for this process's user. `oif` 0 leaves the interface to the rules and tables.
    fn lookup(&mut self, query: &Query, src: Option<IpAddr>, oif: u32, flags: u32) -> io::Result<Route> {
        let question = (query.dst, query.mark, src, oif, flags);
        if let Some(route) = self.known.get(&question) {
            return Ok(*route);
        }
        // struct rtmsg: family, both prefix lengths, tos, table, protocol, scope, type, flags.
        let ipv6 = query.dst.is_ipv6();
        let len = if ipv6 { 128 } else { 32 };
        let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
        let mut request = vec![family, len, if src.is_some() { len } else { 0 }, 0, 0, 0, 0, 0];
        request.extend(flags.to_ne_bytes());
        push_ip(&mut request, libc::RTA_DST, query.dst);
        if let Some(src) = src {
            push_ip(&mut request, libc::RTA_SRC, src);
        }
        if oif != 0 {
            push_attribute(&mut request, libc::RTA_OIF, &oif.to_ne_bytes());
        }
        if query.mark != 0 {
            push_attribute(&mut request, libc::RTA_MARK, &query.mark.to_ne_bytes());
        }
        let answers = self.route.get(libc::RTM_GETROUTE, &request, tables::route)?;
        let no_answer = || io::Error::from_raw_os_error(libc::ENETUNREACH);
        let route = answers.into_iter().next().ok_or_else(no_answer)?;
        if self.known.len() >= KNOWN_MAX {
            self.forget();
        }
        self.known.insert(question, route);
        Ok(route)
    }

    /// Policies for outbound packets. Who may not ask (no CAP_NET_ADMIN) is taken to have none: such a process cannot
    /// know, and the kernel still applies them to what it sends on the plain route.
    fn ipsec_policies(&mut self) -> io::Result<Vec<IpsecPolicy>> {
        let Some(xfrm) = &mut self.xfrm else {
            return Ok(Vec::new());
        };
        // struct xfrm_userpolicy_id, all of it wild.
        match xfrm.dump(XFRM_MSG_GETPOLICY, &[0; 64], tables::ipsec_policy) {
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => Ok(Vec::new()),
            result => result,
        }
    }
}

fn push_ip(request: &mut Vec<u8>, kind: u16, addr: IpAddr) {
    match addr {
        IpAddr::V4(v4) => push_attribute(request, kind, &v4.octets()),
        IpAddr::V6(v6) => push_attribute(request, kind, &v6.octets()),
    }
}

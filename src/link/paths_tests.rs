//! The policy, case by case: each begins with a plain host with two uplinks and changes one thing.

use super::super::sources::Sources;
use super::*;

const ETH0: u32 = 2;
const ETH1: u32 = 3;
const EXTRA: u32 = 9;
const DST: &str = "203.0.113.9";

/// Owns what a `Situation` borrows.
struct Host {
    dst: IpAddr,
    plain: Result<Route, i32>,
    interfaces: Vec<Interface>,
    addresses: Vec<Address>,
    rules: Vec<Rule>,
    ipsec: Vec<IpsecPolicy>,
    candidates: Vec<Candidate>,
    config: PathConfig,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn interface(index: u32, name: &str, kind: InterfaceKind) -> Interface {
    Interface {
        index,
        name: name.to_owned(),
        kind,
        vrf_member: false,
        up: true,
        mtu: 1500,
    }
}

fn address(iface: u32, addr: &str, prefix_len: u8) -> Address {
    Address {
        iface,
        addr: ip(addr),
        prefix_len,
        usable: true,
    }
}

fn default_route(oif: u32, src: &str) -> Route {
    Route {
        kind: RouteKind::Unicast,
        oif,
        src: Some(ip(src)),
        via_gateway: true,
        prefix_len: 0,
        mtu: None,
    }
}

fn candidate(iface: u32, src: &str) -> Candidate {
    Candidate {
        iface,
        src: ip(src),
        route: default_route(iface, src),
    }
}

impl Host {
    /// lo, eth0 with the default route, and eth1 with another.
    fn new() -> Host {
        Host {
            dst: ip(DST),
            plain: Ok(default_route(ETH0, "192.0.2.1")),
            interfaces: vec![
                interface(1, "lo", InterfaceKind::Loopback),
                interface(ETH0, "eth0", InterfaceKind::Ordinary),
                interface(ETH1, "eth1", InterfaceKind::Ordinary),
            ],
            addresses: vec![
                address(1, "127.0.0.1", 8),
                address(ETH0, "192.0.2.1", 24),
                address(ETH1, "198.51.100.1", 24),
            ],
            rules: vec![Rule::Standard; 5],
            ipsec: Vec::new(),
            candidates: vec![candidate(ETH1, "198.51.100.1")],
            config: PathConfig::default(),
        }
    }

    fn with(change: impl FnOnce(&mut Host)) -> Host {
        let mut host = Host::new();
        change(&mut host);
        host
    }

    fn configured(text: &str, change: impl FnOnce(&mut Host)) -> Host {
        let mut host = Host::with(change);
        host.config = PathConfig::parse(text).unwrap();
        host
    }

    fn plain(&mut self) -> &mut Route {
        self.plain.as_mut().unwrap()
    }

    fn decide(&self) -> Verdict {
        decide(&Situation {
            dst: self.dst,
            plain: self.plain,
            interfaces: &self.interfaces,
            addresses: &self.addresses,
            rules: &self.rules,
            ipsec: &self.ipsec,
            candidates: &self.candidates,
            config: &self.config,
        })
    }

    /// Source addresses, the reason why there is one only, and skipped interfaces.
    fn outcome(&self) -> (Vec<String>, Option<SingleReason>, Vec<(String, SkipReason)>) {
        match self.decide() {
            Verdict::Paths {
                paths, single, skipped, ..
            } => {
                assert_eq!(paths[0].iface, 0, "the first path is routed by the kernel");
                assert!(paths[1..].iter().all(|p| p.iface != 0), "others are bound");
                let sources = paths.iter().map(|p| p.addr.to_string()).collect();
                (sources, single, skipped.into_iter().map(|s| (s.name, s.why)).collect())
            }
            Verdict::Kernel(reason) => panic!("left to the kernel: {reason}"),
        }
    }

    fn sources(&self) -> Vec<String> {
        self.outcome().0
    }
}

const FIRST: &str = "192.0.2.1";
const SECOND: &str = "198.51.100.1";

#[test]
fn two_uplinks_are_two_paths() {
    assert_eq!(Host::new().outcome(), (vec![FIRST.into(), SECOND.into()], None, vec![]));
}

#[test]
fn one_path_only_where_another_interface_could_leak() {
    let tunnel = |kind| move |host: &mut Host| host.interfaces[1].kind = kind;
    let rule = |rule| move |host: &mut Host| host.rules.push(rule);
    let diverting = Rule::Diverting {
        ipv6: false,
        by_port: false,
    };
    let specific = |via_gateway, prefix_len| {
        move |host: &mut Host| {
            let plain = host.plain();
            (plain.via_gateway, plain.prefix_len) = (via_gateway, prefix_len);
        }
    };
    let policy = |protocol| {
        move |host: &mut Host| {
            host.ipsec.push(IpsecPolicy {
                dst: Some((ip("203.0.113.0"), 24)),
                by_port: false,
                protocol,
            });
        }
    };
    let on_bridge = |host: &mut Host| {
        host.interfaces[1].kind = InterfaceKind::Bridge;
        host.dst = ip("192.0.2.7");
        (host.plain().via_gateway, host.plain().prefix_len) = (false, 24);
    };
    let cases: Vec<(&str, Host, SingleReason)> = vec![
        (
            "tunnel",
            Host::with(tunnel(InterfaceKind::Tunnel)),
            SingleReason::Tunnel,
        ),
        ("VRF master", Host::with(tunnel(InterfaceKind::Vrf)), SingleReason::Vrf),
        (
            "VRF member",
            Host::with(|host| host.interfaces[1].vrf_member = true),
            SingleReason::Vrf,
        ),
        (
            "interface that has just come",
            Host::with(|host| host.plain().oif = EXTRA),
            SingleReason::Tunnel,
        ),
        ("policy rule", Host::with(rule(diverting)), SingleReason::Rules),
        (
            "rule for an address that is not ours",
            Host::with(rule(Rule::FromAddress(ip("192.0.2.99")))),
            SingleReason::Rules,
        ),
        (
            "half of the internet",
            Host::with(specific(true, 1)),
            SingleReason::SpecificRoute,
        ),
        (
            "host route by a gateway",
            Host::with(specific(true, 32)),
            SingleReason::SpecificRoute,
        ),
        (
            "on-link route outside our subnets",
            Host::with(specific(false, 24)),
            SingleReason::SpecificRoute,
        ),
        ("IPsec for all protocols", Host::with(policy(0)), SingleReason::Ipsec),
        ("IPsec for TCP", Host::with(policy(6)), SingleReason::Ipsec),
        ("bridge network", Host::with(on_bridge), SingleReason::OnBridge),
    ];
    for (name, mut host, reason) in cases {
        let (sources, single, _) = host.outcome();
        assert_eq!((sources, single), (vec![FIRST.into()], Some(reason)), "{name}");
        // Who names an interface gets it.
        host.config = PathConfig::parse("eth1").unwrap();
        assert_eq!(host.sources(), [FIRST, SECOND], "{name}, named");
        // Leaving one out names none.
        host.config = PathConfig::parse("-docker0").unwrap();
        assert_eq!(host.sources(), [FIRST], "{name}, another left out");
    }
}

#[test]
fn what_does_not_concern_the_destination_changes_nothing() {
    let cases: Vec<(&str, Host)> = vec![
        (
            "rule of the other family",
            Host::with(|host| {
                host.rules.push(Rule::Diverting {
                    ipv6: true,
                    by_port: true,
                });
            }),
        ),
        (
            "rule for an address of ours",
            Host::with(|host| host.rules.push(Rule::FromAddress(ip(SECOND)))),
        ),
        (
            "IPsec for another destination",
            Host::with(|host| {
                host.ipsec.push(IpsecPolicy {
                    dst: Some((ip("198.18.0.0"), 15)),
                    by_port: true,
                    protocol: 0,
                });
            }),
        ),
        (
            "IPsec for UDP",
            Host::with(|host| {
                host.ipsec.push(IpsecPolicy {
                    dst: None,
                    by_port: true,
                    protocol: 17,
                });
            }),
        ),
        (
            "destination on the first wire",
            Host::with(|host| {
                host.dst = ip("192.0.2.2");
                (host.plain().via_gateway, host.plain().prefix_len) = (false, 24);
            }),
        ),
        (
            "bridge with the default route",
            Host::with(|host| host.interfaces[1].kind = InterfaceKind::Bridge),
        ),
    ];
    for (name, host) in cases {
        assert_eq!(
            host.outcome(),
            (vec![FIRST.into(), SECOND.into()], None, vec![]),
            "{name}"
        );
    }
}

#[test]
fn interfaces_that_give_no_path_say_why() {
    let skipped = |change: fn(&mut Host)| {
        let (sources, single, skipped) = Host::with(change).outcome();
        assert_eq!((sources, single), (vec![FIRST.to_owned()], None));
        assert_eq!(skipped.len(), 1);
        skipped[0].1
    };
    assert_eq!(skipped(|host| host.interfaces[2].up = false), SkipReason::Down);
    assert_eq!(skipped(|host| host.candidates.clear()), SkipReason::NoRoute);
    assert_eq!(skipped(|host| host.addresses[2].usable = false), SkipReason::NoRoute);
    assert_eq!(skipped(|host| host.addresses[2].iface = ETH0), SkipReason::NoRoute);
    assert_eq!(skipped(|host| host.candidates[0].route.oif = ETH0), SkipReason::NoRoute);
    assert_eq!(
        skipped(|host| host.candidates[0].route.kind = RouteKind::Other),
        SkipReason::NoRoute
    );
    for kind in [InterfaceKind::Tunnel, InterfaceKind::Vrf] {
        let host = Host::with(|host| host.interfaces[2].kind = kind);
        assert_eq!(host.outcome().2, [("eth1".to_owned(), SkipReason::NotOrdinary)]);
    }
    assert_eq!(
        skipped(|host| host.interfaces[2].vrf_member = true),
        SkipReason::NotOrdinary
    );
}

#[test]
fn what_we_cannot_carry_as_the_kernel_would_is_left_to_it() {
    let by_port = |host: &mut Host| {
        host.rules.push(Rule::Diverting {
            ipv6: false,
            by_port: true,
        });
    };
    let ipsec_by_port = |host: &mut Host| {
        host.ipsec.push(IpsecPolicy {
            dst: None,
            by_port: true,
            protocol: 6,
        });
    };
    let cases: Vec<(Host, KernelReason)> = vec![
        (Host::with(|host| host.dst = ip("127.1.2.3")), KernelReason::Local),
        (Host::with(|host| host.dst = ip(SECOND)), KernelReason::Local),
        (
            Host::with(|host| host.plain().kind = RouteKind::Local),
            KernelReason::Local,
        ),
        (Host::with(|host| host.plain().oif = 1), KernelReason::Local),
        (
            Host::with(|host| host.plain().kind = RouteKind::Other),
            KernelReason::NotGlobal,
        ),
        (Host::with(|host| host.dst = ip("fe80::1")), KernelReason::NotGlobal),
        (Host::with(|host| host.dst = ip("224.0.0.1")), KernelReason::NotGlobal),
        (Host::with(|host| host.plain = Err(113)), KernelReason::NoRoute(113)),
        (Host::with(by_port), KernelReason::RuleByPort),
        (Host::with(ipsec_by_port), KernelReason::IpsecByPort),
    ];
    for (mut host, reason) in cases {
        assert_eq!(host.decide(), Verdict::Kernel(reason));
        // Naming interfaces does not help: it is not a matter of other paths.
        host.config = PathConfig::parse("eth1").unwrap();
        assert_eq!(host.decide(), Verdict::Kernel(reason));
    }
}

#[test]
fn names_choose_order_and_mark_backups() {
    let extra = |host: &mut Host| {
        host.interfaces.push(interface(EXTRA, "tun0", InterfaceKind::Tunnel));
        host.addresses.push(address(EXTRA, "203.0.113.200", 32));
        host.candidates.push(candidate(EXTRA, "203.0.113.200"));
    };
    // A tunnel is no path by itself, but may be named.
    assert_eq!(Host::with(extra).sources(), [FIRST, SECOND]);
    let named = Host::configured("tun0,eth1:backup", extra);
    assert_eq!(named.sources(), [FIRST, "203.0.113.200", SECOND]);
    let Verdict::Paths { paths, .. } = named.decide() else {
        panic!("left to the kernel");
    };
    assert_eq!(paths.iter().map(|p| p.backup).collect::<Vec<_>>(), [false, false, true]);
    // The plain route's interface may be named too: it stays the first path.
    assert_eq!(Host::configured("eth1,eth0", extra).sources(), [FIRST, SECOND]);
    assert_eq!(Host::configured("eth0", extra).sources(), [FIRST]);
    assert_eq!(Host::configured("-eth1", extra).sources(), [FIRST]);
    let missing = Host::configured("eth5", |_| {}).outcome();
    assert_eq!(missing.2, [("eth5".to_owned(), SkipReason::Missing)]);
}

#[test]
fn the_mtu_is_the_smaller_of_interface_and_route() {
    for (device, route, expected) in [(1500, None, 1500), (1500, Some(1400), 1400), (1400, Some(1500), 1400)] {
        let host = Host::with(|host| {
            host.interfaces[1].mtu = device;
            host.plain().mtu = route;
        });
        let Verdict::Paths { paths, .. } = host.decide() else {
            panic!("left to the kernel");
        };
        assert_eq!(paths[0].mtu, expected);
    }
}

#[test]
fn prefixes_match_to_the_bit() {
    for (addr, prefix, len, matches) in [
        ("203.0.113.9", "0.0.0.0", 0, true),
        ("203.0.113.9", "128.0.0.0", 1, true),
        ("3.0.113.9", "128.0.0.0", 1, false),
        ("203.0.113.9", "203.0.113.8", 31, true),
        ("203.0.113.9", "203.0.113.8", 32, false),
        ("2001:db8::1", "2001:db8::", 127, true),
        ("2001:db8::1", "2001:db8::", 128, false),
        ("2001:db8::1", "::", 0, true),
        ("2001:db8::1", "0.0.0.0", 0, false),
    ] {
        assert_eq!(
            in_prefix(ip(addr), ip(prefix), len),
            matches,
            "{addr} in {prefix}/{len}"
        );
    }
}

/// A host whose eth1 has a second address, as a program with these sources sees it.
fn with_sources(restricted: bool, named: &[&str], removed: &[&str]) -> Host {
    Host::with(|host| {
        host.addresses.push(address(ETH1, "198.51.100.9", 24));
        host.candidates.push(candidate(ETH1, "198.51.100.9"));
        let all = |list: &[&str]| list.iter().map(|a| ip(a)).collect();
        host.config.sources = Sources {
            restricted,
            named: all(named),
            removed: all(removed),
        };
    })
}

#[test]
fn a_program_narrows_the_addresses_and_names_further_ones() {
    for (restricted, named, removed, expected) in [
        (false, &[][..], &[][..], &["192.0.2.1", "198.51.100.1"][..]),
        (true, &["192.0.2.1"], &[], &["192.0.2.1"]),
        (true, &["198.51.100.1"], &[], &["198.51.100.1"]),
        (
            true,
            &["192.0.2.1", "198.51.100.9"],
            &[],
            &["192.0.2.1", "198.51.100.9"],
        ),
        (
            false,
            &["198.51.100.9"],
            &[],
            &["192.0.2.1", "198.51.100.1", "198.51.100.9"],
        ),
        (false, &[], &["192.0.2.1"], &["198.51.100.1"]),
        (true, &["203.0.113.1"], &[], &[]),
    ] {
        let Verdict::Paths { paths, .. } = with_sources(restricted, named, removed).decide() else {
            panic!("left to the kernel");
        };
        let paths: Vec<String> = paths.iter().map(|p| p.addr.to_string()).collect();
        assert_eq!(paths, expected, "{restricted} {named:?} {removed:?}");
    }
}

#[test]
fn a_program_overrules_neither_policy_nor_the_user() {
    let mut host = with_sources(false, &["198.51.100.9"], &[]);
    host.rules.push(Rule::Diverting {
        ipv6: false,
        by_port: false,
    });
    let (paths, single, _) = host.outcome();
    assert_eq!(
        (paths.as_slice(), single),
        (&["192.0.2.1".to_string()][..], Some(SingleReason::Rules))
    );
    let mut host = with_sources(false, &["198.51.100.9"], &[]);
    let sources = host.config.sources.clone();
    host.config = PathConfig::parse("-eth1").unwrap();
    host.config.sources = sources;
    assert_eq!(host.outcome().0, ["192.0.2.1"]);
}

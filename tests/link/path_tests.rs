//! Paths as real kernels' tables give them. The policy's cases are in src/link/paths_tests.rs; here it is seen that the
//! tables are read right.

use crate::netns::Netns;
use mptcp::link::paths::{KernelReason, SingleReason, SkipReason, Skipped};
use mptcp::link::{PathConfig, Query, Routes, Verdict};
use mptcp::mptcp::endpoint::LocalPath;
use std::net::IpAddr;

/// A host with two uplinks, each with a default route: eth0 is preferred.
fn two_uplinks() -> (Netns, Netns) {
    let (host, net) = (Netns::new(), Netns::new());
    for (name, v4, v6, metric) in [
        ("eth0", "192.0.2", "2001:db8:0", 100),
        ("eth1", "198.51.100", "2001:db8:1", 200),
    ] {
        host.wire(name, &net, name);
        host.ip(&format!("addr add {v4}.1/24 dev {name}"));
        host.ip(&format!("addr add {v6}::1/64 dev {name} nodad"));
        host.ip(&format!("route add default via {v4}.2 dev {name} metric {metric}"));
        host.ip(&format!("-6 route add default via {v6}::2 dev {name} metric {metric}"));
    }
    (host, net)
}

fn verdict(host: &Netns, dst: &str, config: &str) -> Verdict {
    let query = Query {
        dst: dst.parse().unwrap(),
        src: None,
        mark: 0,
    };
    let config = PathConfig::parse(config).unwrap();
    host.run(move || Routes::new().unwrap().verdict(&query, &config).unwrap())
}

fn path(addr: &str, iface: u32) -> LocalPath {
    LocalPath {
        addr: addr.parse().unwrap(),
        iface,
        mtu: 1500,
        backup: false,
    }
}

/// Paths and the reason why there is one only.
fn paths(verdict: Verdict) -> (Vec<LocalPath>, Option<SingleReason>) {
    match verdict {
        Verdict::Paths { paths, single, .. } => (paths, single),
        Verdict::Kernel(reason) => panic!("left to the kernel: {reason}"),
    }
}

const FAR: &str = "203.0.113.9";
const FAR_V6: &str = "2001:db8:ffff::9";

#[test]
fn two_uplinks_are_two_paths_in_both_families() {
    let (host, _net) = two_uplinks();
    let eth1 = host.index("eth1");
    let expected = vec![path("192.0.2.1", 0), path("198.51.100.1", eth1)];
    assert_eq!(paths(verdict(&host, FAR, "")), (expected.clone(), None));
    // A destination on the first wire itself is reached by the second one's router too.
    assert_eq!(paths(verdict(&host, "192.0.2.2", "")), (expected, None));
    let expected = vec![path("2001:db8::1", 0), path("2001:db8:1::1", eth1)];
    assert_eq!(paths(verdict(&host, FAR_V6, "")), (expected, None));
}

#[test]
fn the_interface_and_route_mtu_are_known() {
    let (host, _net) = two_uplinks();
    host.ip("link set eth0 mtu 1400");
    host.ip("route change default via 198.51.100.2 dev eth1 metric 200 mtu 1300");
    let (paths, _) = paths(verdict(&host, FAR, ""));
    assert_eq!(paths.iter().map(|p| p.mtu).collect::<Vec<_>>(), [1400, 1300]);
}

#[test]
fn an_interface_without_carrier_route_or_address_gives_no_path() {
    for change in [
        "link set eth1 down",
        "route del default dev eth1",
        "addr del 198.51.100.1/24 dev eth1",
    ] {
        let (host, _net) = two_uplinks();
        host.ip(change);
        assert_eq!(
            paths(verdict(&host, FAR, "")),
            (vec![path("192.0.2.1", 0)], None),
            "{change}"
        );
    }
    let (host, net) = two_uplinks();
    net.ip("link set eth1 down");
    assert_eq!(paths(verdict(&host, FAR, "")).0.len(), 1, "no carrier");
}

#[test]
fn wireguard_style_rules_keep_everything_inside() {
    let (host, _net) = two_uplinks();
    // wg-quick's rules; a tun device stands in for the tunnel.
    host.ip("tuntap add dev wg0 mode tun");
    host.ip("addr add 203.0.113.200/32 dev wg0");
    host.ip("link set wg0 up");
    host.ip("route add default dev wg0 table 51820");
    host.ip("rule add not fwmark 51820 table 51820");
    host.ip("rule add table main suppress_prefixlength 0");
    let (inside, single) = paths(verdict(&host, FAR, ""));
    assert_eq!(single, Some(SingleReason::Tunnel));
    assert_eq!(inside, [path("203.0.113.200", 0)]);
    // The endpoint of the tunnel itself, on the first wire, is still under policy rules.
    assert_eq!(paths(verdict(&host, "192.0.2.2", "")).1, Some(SingleReason::Rules));
    // The user may name interfaces.
    let eth1 = host.index("eth1");
    let (named, single) = paths(verdict(&host, FAR, "eth1:backup"));
    assert_eq!(single, None);
    let backup = LocalPath {
        backup: true,
        ..path("198.51.100.1", eth1)
    };
    assert_eq!(named, [path("203.0.113.200", 0), backup]);
}

#[test]
fn openvpn_style_halves_keep_everything_inside() {
    let (host, _net) = two_uplinks();
    host.ip("tuntap add dev tun0 mode tun");
    host.ip("addr add 203.0.113.200/24 dev tun0");
    host.ip("link set tun0 up");
    host.ip("route add 0.0.0.0/1 dev tun0");
    host.ip("route add 128.0.0.0/1 dev tun0");
    assert_eq!(paths(verdict(&host, "198.18.0.1", "")).1, Some(SingleReason::Tunnel));
}

#[test]
fn a_route_to_the_destination_by_a_gateway_keeps_everything_on_it() {
    let (host, _net) = two_uplinks();
    host.ip("route add 203.0.113.0/24 via 198.51.100.2");
    let expected = vec![path("198.51.100.1", 0)];
    assert_eq!(
        paths(verdict(&host, FAR, "")),
        (expected, Some(SingleReason::SpecificRoute))
    );
}

#[test]
fn rules_for_source_addresses_are_no_diversion_but_others_are() {
    let (host, _net) = two_uplinks();
    host.ip("route add default via 198.51.100.2 dev eth1 table 2");
    host.ip("route del default via 198.51.100.2 dev eth1");
    host.ip("rule add from 198.51.100.1 table 2");
    let expected = vec![path("192.0.2.1", 0), path("198.51.100.1", host.index("eth1"))];
    assert_eq!(paths(verdict(&host, FAR, "")), (expected, None));
    host.ip("rule add to 203.0.113.128/25 table 2");
    assert_eq!(paths(verdict(&host, FAR, "")).1, Some(SingleReason::Rules));
    // Rules are per family.
    assert_eq!(paths(verdict(&host, FAR_V6, "")).1, None);
    host.ip("rule add dport 443 table 2");
    assert_eq!(verdict(&host, FAR, ""), Verdict::Kernel(KernelReason::RuleByPort));
}

#[test]
fn a_rule_that_keeps_an_address_in_a_tunnel_is_heeded() {
    let (host, _net) = two_uplinks();
    host.ip("tuntap add dev tun0 mode tun");
    host.ip("link set tun0 up");
    host.ip("route add default dev tun0 table 3");
    host.ip("rule add from 198.51.100.1 table 3");
    assert_eq!(paths(verdict(&host, FAR, "")), (vec![path("192.0.2.1", 0)], None));
}

#[test]
fn blackholes_and_their_like_are_the_kernels_to_report() {
    let (host, _net) = two_uplinks();
    for (route, errno) in [
        ("blackhole", libc::EINVAL),
        ("unreachable", libc::EHOSTUNREACH),
        ("prohibit", libc::EACCES),
    ] {
        host.ip(&format!("route add {route} 203.0.113.0/24"));
        assert_eq!(verdict(&host, FAR, ""), Verdict::Kernel(KernelReason::NoRoute(errno)));
        host.ip(&format!("route del {route} 203.0.113.0/24"));
        host.ip(&format!("-6 route add {route} 2001:db8:ffff::/48"));
        let v6 = verdict(&host, FAR_V6, "");
        assert!(matches!(v6, Verdict::Kernel(KernelReason::NoRoute(_))), "{v6:?}");
        host.ip(&format!("-6 route del {route} 2001:db8:ffff::/48"));
    }
}

#[test]
fn own_addresses_loopback_and_multicast_are_the_kernels() {
    let (host, _net) = two_uplinks();
    for dst in [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "192.0.2.1",
        "198.51.100.1",
        "2001:db8:1::1",
    ] {
        assert_eq!(verdict(&host, dst, ""), Verdict::Kernel(KernelReason::Local), "{dst}");
    }
    for dst in [
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.255",
        "169.254.1.1",
        "ff02::1",
        "fe80::1",
    ] {
        assert_eq!(
            verdict(&host, dst, ""),
            Verdict::Kernel(KernelReason::NotGlobal),
            "{dst}"
        );
    }
}

#[test]
fn a_container_bridge_is_neither_a_path_nor_left() {
    let (host, _net) = two_uplinks();
    host.ip("link add docker0 type bridge");
    host.ip("addr add 203.0.113.1/24 dev docker0");
    host.ip("link add port0 type veth peer name port1");
    host.ip("link set port0 master docker0 up");
    host.ip("link set port1 up");
    host.ip("link set docker0 up");
    assert_eq!(paths(verdict(&host, "198.18.0.1", "")).0.len(), 2);
    assert_eq!(paths(verdict(&host, "203.0.113.7", "")).1, Some(SingleReason::OnBridge));
}

#[test]
fn ipsec_policies_for_the_destination_forbid_other_paths() {
    let (host, _net) = two_uplinks();
    let tunnel = "tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel";
    host.ip(&format!(
        "xfrm policy add src 0.0.0.0/0 dst 203.0.113.0/24 dir out {tunnel}"
    ));
    assert_eq!(paths(verdict(&host, FAR, "")).1, Some(SingleReason::Ipsec));
    assert_eq!(paths(verdict(&host, "198.18.0.1", "")).1, None);
    assert_eq!(paths(verdict(&host, FAR_V6, "")).1, None);
    // Only inbound, or for another protocol: not ours.
    host.ip(&format!(
        "xfrm policy add src 198.18.0.0/24 dst 0.0.0.0/0 dir in {tunnel}"
    ));
    host.ip(&format!(
        "xfrm policy add dst 198.18.0.0/24 proto udp dport 53 dir out {tunnel}"
    ));
    assert_eq!(paths(verdict(&host, "198.18.0.1", "")).1, None);
    host.ip(&format!(
        "xfrm policy add dst 198.18.0.0/24 proto tcp dport 443 dir out {tunnel}"
    ));
    assert_eq!(
        verdict(&host, "198.18.0.1", ""),
        Verdict::Kernel(KernelReason::IpsecByPort)
    );
}

#[test]
fn the_configuration_names_and_leaves_out_interfaces() {
    let (host, _net) = two_uplinks();
    let Verdict::Paths {
        paths: left, skipped, ..
    } = verdict(&host, FAR, "-eth1")
    else {
        panic!("left to the kernel");
    };
    assert_eq!(left.len(), 1);
    let skip = |name: &str, why| Skipped {
        name: name.to_owned(),
        why,
    };
    assert_eq!(skipped, [skip("eth1", SkipReason::Excluded)]);
    let Verdict::Paths {
        paths: left, skipped, ..
    } = verdict(&host, FAR, "eth0:backup,eth7")
    else {
        panic!("left to the kernel");
    };
    assert_eq!((left.len(), left[0].backup), (1, true));
    assert_eq!(skipped, [skip("eth7", SkipReason::Missing)]);
}

#[test]
fn a_bound_source_address_leads_the_plain_lookup() {
    let (host, _net) = two_uplinks();
    host.ip("route add default via 198.51.100.2 dev eth1 table 2");
    host.ip("rule add from 198.51.100.1 table 2");
    let src: IpAddr = "198.51.100.1".parse().unwrap();
    let verdict = host.run(move || {
        let query = Query {
            dst: FAR.parse().unwrap(),
            src: Some(src),
            mark: 0,
        };
        Routes::new().unwrap().verdict(&query, &PathConfig::default()).unwrap()
    });
    let expected = vec![path("198.51.100.1", 0), path("192.0.2.1", host.index("eth0"))];
    assert_eq!(paths(verdict), (expected, None));
}

#[test]
fn an_announced_address_is_judged_by_its_own_route() {
    let (host, _net) = two_uplinks();
    host.ip("tuntap add dev tun0 mode tun");
    host.ip("link set tun0 up");
    host.ip("route add 198.18.0.0/24 dev tun0");
    host.ip("route add blackhole 198.18.1.0/24");
    let (eth0, eth1) = (host.index("eth0"), host.index("eth1"));
    host.run(move || {
        let mut routes = Routes::new().unwrap();
        let mut permits = |local: &str, iface, remote: &str| {
            let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
            let first = Query {
                dst: FAR.parse().unwrap(),
                src: None,
                mark: 0,
            };
            let config = PathConfig::default();
            routes.permits(&first, local, iface, remote, &config).unwrap()
        };
        assert!(permits("192.0.2.1", 0, FAR));
        assert!(permits("192.0.2.1", eth0, FAR));
        assert!(permits("198.51.100.1", eth1, FAR));
        assert!(!permits("198.51.100.1", eth0, FAR));
        // The connection is not in the tunnel, and a subflow of it does not go there.
        assert!(!permits("192.0.2.1", 0, "198.18.0.1"));
        assert!(!permits("198.51.100.1", eth1, "198.18.0.1"));
        assert!(!permits("192.0.2.1", 0, "198.18.1.1"));
        assert!(!permits("192.0.2.1", 0, "127.0.0.1"));
    });
}

#[test]
fn changes_are_heard_and_verdicts_are_never_stale() {
    let (host, _net) = two_uplinks();
    let host = &host;
    host.run(move || {
        let mut routes = Routes::new().unwrap();
        let query = Query {
            dst: FAR.parse().unwrap(),
            src: None,
            mark: 0,
        };
        let count = |routes: &mut Routes| {
            let verdict = routes.verdict(&query, &PathConfig::default()).unwrap();
            paths(verdict).0.len()
        };
        while routes.changed() {}
        assert_eq!(count(&mut routes), 2);
        for (change, left) in [
            ("link set eth1 down", 1),
            ("link set eth1 up", 1),
            ("route add default via 198.51.100.2 dev eth1 metric 200", 2),
            ("rule add to 203.0.113.0/24 table main", 1),
            ("rule del to 203.0.113.0/24 table main", 2),
            ("addr del 198.51.100.1/24 dev eth1", 1),
        ] {
            host.ip(change);
            assert_eq!(count(&mut routes), left, "{change}");
            assert!(routes.changed(), "{change}");
            assert!(!routes.changed(), "{change}: reported twice");
        }
    });
}

//! Under a VPN and under IPsec policies nothing leaves by another way: not the first subflow, not a join, not one to an announced address.

use crate::capture::WireCapture;
use crate::site::{By, Site};
use crate::tunnel::Tunnel;

/// As wg-quick(8) with `AllowedIPs = 0.0.0.0/0`.
const WG_QUICK: &[&str] = &[
    "route add default dev tun0 table 51820",
    "rule add not fwmark 51820 table 51820",
    "rule add table main suppress_prefixlength 0",
];

/// As OpenVPN with `redirect-gateway def1`.
const OPENVPN: &[&str] = &[
    "route add 0.0.0.0/1 via 203.0.113.2 dev tun0",
    "route add 128.0.0.0/1 via 203.0.113.2 dev tun0",
];

/// A more specific route for one network only (split tunnel).
const SPLIT: &[&str] = &["route add 192.0.2.200/32 dev tun0"];

/// Downloads under a VPN; the segments that were seen on the wires.
fn leaked(commands: &[&str], settings: &[&str], announce: bool) -> Vec<String> {
    let site = Site::new();
    let tunnel = Tunnel::new(&site.lab);
    for command in commands {
        site.ip(command);
    }
    if announce {
        site.lab
            .announce(1, false)
            .expect("the server announces its second address");
    }
    let captures = [0, 1].map(|wire| WireCapture::start(&site.lab, wire));
    let ended = site.download(settings, "http://192.0.2.200/2000000", 2_000_000);
    assert!(ended.used_engine(), "{ended:?}");
    assert!(tunnel.carried() > 1000);
    let segments = captures.map(WireCapture::finish).concat();
    let mut ways: Vec<String> = segments.iter().map(|s| format!("{} > {}", s.from, s.to)).collect();
    ways.sort();
    ways.dedup();
    ways
}

#[test]
fn wg_quick_keeps_everything_in_the_tunnel() {
    assert_eq!(leaked(WG_QUICK, &[], false), [""; 0]);
}

#[test]
fn openvpn_keeps_everything_in_the_tunnel() {
    assert_eq!(leaked(OPENVPN, &[], false), [""; 0]);
}

#[test]
fn a_split_tunnel_keeps_its_destinations() {
    assert_eq!(leaked(SPLIT, &[], false), [""; 0]);
}

#[test]
fn an_announced_address_is_not_joined_outside_the_tunnel() {
    for commands in [WG_QUICK, OPENVPN, SPLIT] {
        assert_eq!(leaked(commands, &[], true), [""; 0], "{commands:?}");
    }
}

#[test]
fn a_vpn_that_comes_later_gets_no_new_subflow_beside_it() {
    let site = Site::new();
    let tunnel = Tunnel::new(&site.lab);
    // One path at first, so that what opens later would be seen.
    site.ip("link set eth1 down");
    let url = "http://192.0.2.200/20000000";
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| site.run(By::Library, &["curl", "-sS", "-m", "20", "-o", "/dev/null", url]));
        crate::site::wait_until("data flows", || site.carried(0) > 500_000);
        for command in OPENVPN {
            site.ip(command);
        }
        site.ip("link set eth1 up");
        transfer.join().expect("it ends");
    });
    assert_eq!(site.tcp_sent(1), 0, "tunnel: {} packets", tunnel.carried());
}

#[test]
fn the_user_may_name_an_interface_beside_the_tunnel() {
    let ways = leaked(OPENVPN, &["MPTCP_PATHS=eth1"], false);
    assert!(ways.iter().any(|way| way.starts_with("198.51.100.1:")), "{ways:?}");
    assert!(!ways.iter().any(|way| way.starts_with("192.0.2.1:")), "{ways:?}");
}

#[test]
fn an_ipsec_policy_lets_nothing_out_in_clear() {
    for policy in [
        "xfrm policy add dir out dst 192.0.2.200/32 action block",
        "xfrm policy add dir out dst 192.0.2.200/32 tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel",
        "xfrm policy add dir out dst 192.0.2.200/32 proto tcp dport 80 tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel",
    ] {
        let site = Site::new();
        site.ip(policy);
        let ended = By::BOTH.map(|by| {
            let ended = site.run(by, &["curl", "-sS", "--connect-timeout", "2", "http://192.0.2.200/10"]);
            assert_eq!([0, 1].map(|wire| site.tcp_sent(wire)), [0, 0], "{by:?} {policy}: {ended:?}");
            (ended.code, ended.stdout)
        });
        assert_eq!(ended[0], ended[1], "{policy}");
    }
}

//! The host's own packet filter, here nft(8)'s, decides about our segments as about the kernel's.

use crate::client::{Client, Heard};
use crate::netns::Netns;
use mptcp::link::{GuardKind, Guards, IcmpKind, Link};
use mptcp::wire::Flags;
use std::net::TcpListener;

/// A client host with one nft rule in a chain, and a server host that listens on port 80.
fn two_hosts(chain: &str, rule: &str) -> (Netns, Netns, TcpListener) {
    let (client, server) = (Netns::new(), Netns::new());
    client.wire("eth0", &server, "eth0");
    client.ip("addr add 192.0.2.1/24 dev eth0");
    server.ip("addr add 192.0.2.2/24 dev eth0");
    for command in [
        "add table ip t".to_owned(),
        format!("add chain ip t c {{ {chain} ; }}"),
        format!("add rule ip t c {rule}"),
    ] {
        let output = client.command("nft", &command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nft {command}: {stderr}");
    }
    let listener = server.run(|| TcpListener::bind("192.0.2.2:80").unwrap());
    (client, server, listener)
}

const OUTPUT: &str = "type filter hook output priority 0";
const INPUT: &str = "type filter hook input priority 0";

fn client() -> Client {
    Client::new(Guards::of_kind(GuardKind::Repair).unwrap())
}

#[test]
fn what_output_drops_is_counted_and_silent() {
    let (client_ns, _server, _listener) = two_hosts(OUTPUT, "tcp dport 80 drop");
    client_ns.run(|| {
        let mut client = client();
        client.open("192.0.2.1", "192.0.2.2:80", 0);
        assert_eq!(client.link.stats().lost_filtered, 1);
        assert!(client.heard.is_empty());
    });
}

#[test]
fn what_output_rejects_is_reported() {
    let (client_ns, _server, _listener) = two_hosts(OUTPUT, "tcp dport 80 reject with tcp reset");
    client_ns.run(|| {
        let mut client = client();
        client.open("192.0.2.1", "192.0.2.2:80", 0);
        client.wait(|heard| match heard {
            Heard::Segment { header, .. } => header.flags.has(Flags::RST).then_some(()),
            Heard::Icmp { .. } => None,
        });
    });
    let (client_ns, _server, _listener) = two_hosts(OUTPUT, "tcp dport 80 reject with icmp host-prohibited");
    client_ns.run(|| {
        let mut client = client();
        client.open("192.0.2.1", "192.0.2.2:80", 0);
        client.wait(|heard| match heard {
            Heard::Icmp { kind, .. } => matches!(kind, IcmpKind::Unreachable { .. }).then_some(()),
            Heard::Segment { .. } => None,
        });
    });
}

#[test]
fn established_related_and_a_final_reset_let_the_connection_live() {
    let (client_ns, server_ns, listener) = two_hosts(INPUT, "ct state established,related accept");
    assert!(client_ns
        .command("nft", "add rule ip t c reject with tcp reset")
        .status
        .success());
    client_ns.run(|| {
        let mut client = client();
        let mut connection = client.open("192.0.2.1", "192.0.2.2:80", 0);
        client.establish(&mut connection);
        assert_eq!(listener.accept().unwrap().1, connection.guard.local());
    });
    assert_eq!(server_ns.counter("Tcp", "EstabResets"), 0);
    assert_eq!(client_ns.counter("Tcp", "OutRsts"), 0);
}

#[test]
fn masquerade_and_destination_nat_translate_both_ways() {
    for (chain, rule, remote) in [
        (
            "type nat hook postrouting priority 100",
            "meta l4proto tcp masquerade to :61000-61010",
            "192.0.2.2:80",
        ),
        (
            "type nat hook output priority -100",
            "tcp dport 81 dnat to 192.0.2.2:80",
            "192.0.2.2:81",
        ),
    ] {
        let (client_ns, _server, listener) = two_hosts(chain, rule);
        client_ns.run(|| {
            let mut client = client();
            let mut connection = client.open("192.0.2.1", remote, 0);
            client.establish(&mut connection);
            listener.accept().unwrap();
        });
        assert_eq!(client_ns.counter("Tcp", "OutRsts"), 0, "{rule}");
    }
}

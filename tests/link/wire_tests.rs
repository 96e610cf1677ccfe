//! Segments to and from a kernel peer.

use crate::client::{Client, Connection, Heard};
use crate::netns::Netns;
use mptcp::link::{GuardKind, Guards, IcmpKind, IpLink, Link, PortSet};
use mptcp::wire::{Flags, SeqNum, TcpOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// A client host and a server host on one wire.
fn two_hosts() -> (Netns, Netns) {
    let (client, server) = (Netns::new(), Netns::new());
    client.wire("eth0", &server, "eth0");
    client.ip("addr add 192.0.2.1/24 dev eth0");
    client.ip("addr add 2001:db8::1/64 dev eth0 nodad");
    server.ip("addr add 192.0.2.2/24 dev eth0");
    server.ip("addr add 2001:db8::2/64 dev eth0 nodad");
    (client, server)
}

/// A connection by hand to a kernel listener, data both ways, and not one RST from either kernel.
fn round_trip(kind: GuardKind, local: &str, listen: &str) {
    let (client_ns, server_ns) = two_hosts();
    let listener = server_ns.run(|| TcpListener::bind(listen).unwrap());
    let (client_ns_ref, server_ns_ref) = (&client_ns, &server_ns);
    client_ns.run(move || {
        let mut client = Client::new(Guards::of_kind(kind).unwrap());
        let mut connection = client.open(local, listen, 0);
        client.establish(&mut connection);
        let (mut stream, peer) = listener.accept().unwrap();
        assert_eq!(peer, connection.guard.local());

        client.send(
            &connection,
            Flags::ACK.with(Flags::PSH),
            TcpOptions::default(),
            b"hello, kernel",
        );
        let mut bytes = [0; 13];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello, kernel");
        connection.seq += 13;

        stream.write_all(b"hello, link").unwrap();
        let ack = connection.ack;
        client.wait(|heard| match heard {
            Heard::Segment { header, payload, .. } if header.seq == ack && payload == b"hello, link" => Some(()),
            _ => None,
        });
        assert_eq!(client_ns_ref.counter("Tcp", "OutRsts"), 0);
        assert_eq!(server_ns_ref.counter("Tcp", "OutRsts"), 0);
        assert_eq!(server_ns_ref.counter("Tcp", "EstabResets"), 0);
        finish(&mut client, connection, stream);
        assert_eq!(client_ns_ref.counter("Tcp", "OutRsts"), 0);
    });
}

/// Ends a connection with an RST of our own, and then the guard, in silence.
fn finish(client: &mut Client, mut connection: Connection, stream: TcpStream) {
    connection.ack += 11;
    client.send(&connection, Flags::RST.with(Flags::ACK), TcpOptions::default(), &[]);
    drop(connection);
    drop(stream);
}

// Proves MUST-2.
#[test]
fn round_trip_with_a_repair_guard_over_ipv4() {
    round_trip(GuardKind::Repair, "192.0.2.1", "192.0.2.2:8080");
}

#[test]
fn round_trip_with_a_repair_guard_over_ipv6() {
    round_trip(GuardKind::Repair, "2001:db8::1", "[2001:db8::2]:8080");
}

#[test]
fn round_trip_with_a_listening_guard_over_ipv4() {
    round_trip(GuardKind::Listening, "192.0.2.1", "192.0.2.2:8080");
}

#[test]
fn round_trip_with_a_listening_guard_over_ipv6() {
    round_trip(GuardKind::Listening, "2001:db8::1", "[2001:db8::2]:8080");
}

fn repair() -> Guards {
    Guards::of_kind(GuardKind::Repair).unwrap()
}

/// The first ICMP error heard: what it is about, and what it says.
fn icmp(client: &mut Client) -> (SocketAddr, SocketAddr, Option<SeqNum>, IcmpKind) {
    client.wait(|heard| match *heard {
        Heard::Icmp {
            local,
            remote,
            seq,
            kind,
        } => Some((local, remote, seq, kind)),
        Heard::Segment { .. } => None,
    })
}

#[test]
fn segments_of_64_kilobytes_are_received() {
    let (client_ns, server_ns) = two_hosts();
    let listener = server_ns.run(|| TcpListener::bind("192.0.2.2:80").unwrap());
    client_ns.run(|| {
        let mut client = Client::new(repair());
        let mut connection = client.open("192.0.2.1", "192.0.2.2:80", 0);
        client.establish(&mut connection);
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let data: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
        let mut written = 0;
        let mut read: Vec<u8> = Vec::new();
        let mut longest = 0;
        for _ in 0..2000 {
            if read.len() == data.len() {
                break;
            }
            if written < data.len() {
                written += stream.write(&data[written..]).unwrap_or(0);
            }
            client.take_in(Duration::from_millis(10));
            for heard in std::mem::take(&mut client.heard) {
                let Heard::Segment { header, payload, .. } = heard else {
                    panic!("{heard:?}");
                };
                longest = longest.max(payload.len());
                if header.seq == connection.ack {
                    connection.ack += payload.len() as u32;
                    read.extend(payload);
                }
            }
            client.send(&connection, Flags::ACK, TcpOptions::default(), &[]);
        }
        assert!(read == data, "{} of {} bytes, or others", read.len(), data.len());
        assert!(longest > 60_000, "the longest segment had {longest} bytes");
        assert_eq!(client.link.stats().bad_checksum, 0);
    });
}

#[test]
fn our_own_segments_are_not_heard() {
    let (client_ns, _server_ns) = two_hosts();
    client_ns.run(|| {
        let mut client = Client::new(repair());
        for remote in ["192.0.2.2:80", "[2001:db8::2]:80"] {
            let local = if remote.starts_with('[') {
                "2001:db8::1"
            } else {
                "192.0.2.1"
            };
            let connection = client.open(local, remote, 0);
            let from_peer = |heard: &Heard| match heard {
                Heard::Segment { src, header, .. } => {
                    assert_eq!(*src, connection.remote);
                    header.flags.has(Flags::RST).then_some(())
                }
                Heard::Icmp { .. } => None,
            };
            client.wait(from_peer);
            client.heard.clear();
        }
    });
}

#[test]
fn sockets_that_send_hear_nothing() {
    let (client_ns, server_ns) = two_hosts();
    for (local, remote) in [("192.0.2.1", "192.0.2.2:80"), ("2001:db8::1", "[2001:db8::2]:80")] {
        let _listener = server_ns.run(|| TcpListener::bind(remote).unwrap());
        let eth0 = client_ns.index("eth0");
        client_ns.run(|| {
            let mut client = Client::new(repair());
            for iface in [0, eth0] {
                let mut connection = client.open(local, remote, iface);
                client.establish(&mut connection);
            }
            // Everything was taken in: what still waits on a raw socket waits on a sending one.
            for table in ["raw", "raw6"] {
                let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap();
                for line in text.lines().skip(1) {
                    let queues = line.split_whitespace().nth(4).unwrap();
                    assert!(queues.ends_with(":00000000"), "{line}");
                }
            }
        });
    }
}

// Proves MUST-3.
#[test]
fn a_wrong_checksum_is_not_heard() {
    let (client_ns, server_ns) = two_hosts();
    let (client_ns, server_ns) = (&client_ns, &server_ns);
    client_ns.run(move || {
        let mut client = Client::new(repair());
        let connection = client.open("192.0.2.1", "192.0.2.2:80", 0);
        // The RST from the closed port; then a segment of ours with a wrong checksum.
        client.wait(|heard| matches!(heard, Heard::Segment { .. }).then_some(()));
        client.heard.clear();
        let [high, low] = connection.guard.local().port().to_be_bytes();
        let bytes = [
            0, 80, high, low, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0x12, 0x34, 0, 0,
        ];
        server_ns.run(|| {
            use rustix::net::{ipproto, sendto, socket, AddressFamily, SendFlags, SocketType};
            let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::TCP)).unwrap();
            let to: SocketAddr = "192.0.2.1:0".parse().unwrap();
            sendto(&raw, &bytes, SendFlags::empty(), &to).unwrap();
        });
        for _ in 0..100 {
            if client.link.stats().bad_checksum == 1 {
                break;
            }
            client.take_in(Duration::from_millis(100));
        }
        assert_eq!(client.link.stats().bad_checksum, 1);
        assert!(client.heard.is_empty(), "{:?}", client.heard);
    });
}

#[test]
fn tos_reaches_the_other_side_with_all_its_bits() {
    let (client_ns, server_ns) = two_hosts();
    for (client_addr, server_addr) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let mut wire = server_ns.run(packets);
        client_ns.run(|| {
            let mut client = Client::new(repair());
            client.tos = 0x2a;
            client.open(
                client_addr,
                &SocketAddr::new(server_addr.parse().unwrap(), 80).to_string(),
                0,
            );
        });
        let mut heard = None;
        for _ in 0..100 {
            let mut packet = [0; 100];
            while let Ok(20..) = wire.read(&mut packet) {
                heard = heard.or(traffic_class_of_tcp(&packet));
            }
            if heard.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(heard, Some(0x2a), "{server_addr}");
    }
}

/// The kernel answers them; so would whoever heard them here.
#[test]
fn a_hosts_own_segments_are_not_heard() {
    let (_client_ns, server_ns) = two_hosts();
    server_ns.run(|| {
        let ports = PortSet::new(80..=80, []);
        let mut link = IpLink::new(&ports).unwrap();
        let mut heard = 0;
        for own in ["192.0.2.2:80", "[2001:db8::2]:80", "127.0.0.1:80", "[::1]:80"] {
            let refused = TcpStream::connect(own).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{own}");
            for source in 0..link.fds().len() {
                link.recv(source, &mut |_| heard += 1);
            }
        }
        assert_eq!(heard, 0);
    });
}

/// Every IP packet that comes to this namespace.
fn packets() -> std::fs::File {
    use rustix::net::{socket_with, AddressFamily, Protocol, SocketFlags, SocketType};
    let all = core::num::NonZeroU32::new(u32::from((libc::ETH_P_ALL as u16).to_be())).map(Protocol::from_raw);
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::NONBLOCK, all).unwrap();
    std::fs::File::from(socket)
}

/// TOS or traffic class of a TCP segment in an IP packet; None for anything else.
fn traffic_class_of_tcp(packet: &[u8]) -> Option<u8> {
    let tcp = libc::IPPROTO_TCP as u8;
    match packet[0] >> 4 {
        4 if packet[9] == tcp => Some(packet[1]),
        6 if packet[6] == tcp => Some(packet[0] << 4 | packet[1] >> 4),
        _ => None,
    }
}

/// A client, a router whose far wire has an MTU of 1300, and a server behind it. IPv4: 192.0.2.1, 198.51.100.2.
fn narrow_path() -> (Netns, Netns, Netns) {
    let (client, router, server) = (Netns::new(), Netns::new(), Netns::new());
    client.wire("eth0", &router, "eth0");
    router.wire("eth1", &server, "eth0");
    client.ip("addr add 192.0.2.1/24 dev eth0");
    client.ip("addr add 2001:db8:0::1/64 dev eth0 nodad");
    router.ip("addr add 192.0.2.2/24 dev eth0");
    router.ip("addr add 2001:db8:0::2/64 dev eth0 nodad");
    router.ip("addr add 198.51.100.1/24 dev eth1");
    router.ip("addr add 2001:db8:1::1/64 dev eth1 nodad");
    server.ip("addr add 198.51.100.2/24 dev eth0");
    server.ip("addr add 2001:db8:1::2/64 dev eth0 nodad");
    router.sysctl("net/ipv4/ip_forward", "1");
    router.sysctl("net/ipv6/conf/all/forwarding", "1");
    client.ip("route add default via 192.0.2.2");
    client.ip("-6 route add default via 2001:db8:0::2");
    server.ip("route add default via 198.51.100.1");
    server.ip("-6 route add default via 2001:db8:1::1");
    router.ip("link set eth1 mtu 1300");
    server.ip("link set eth0 mtu 1300");
    (client, router, server)
}

const FAR: [(&str, &str); 2] = [("192.0.2.1", "198.51.100.2:80"), ("2001:db8::1", "[2001:db8:1::2]:80")];

#[test]
fn a_narrow_path_is_reported_and_leaves_the_hosts_routes_alone() {
    let (client_ns, _router_ns, server_ns) = narrow_path();
    for (local, remote) in FAR {
        let listener = server_ns.run(|| TcpListener::bind(remote).unwrap());
        client_ns.run(|| {
            let mut client = Client::new(repair());
            let mut connection = client.open(local, remote, 0);
            client.establish(&mut connection);
            drop(listener);
            client.send(&connection, Flags::ACK, TcpOptions::default(), &[7; 1400]);
            let (from, to, seq, kind) = icmp(&mut client);
            assert_eq!(
                (from, to, seq),
                (connection.guard.local(), connection.remote, Some(connection.seq))
            );
            assert_eq!(kind, IcmpKind::PacketTooBig { mtu: 1300 });
        });
    }
    let route = client_ns.ip("route get 198.51.100.2");
    assert!(!route.contains("mtu"), "learned without a check: {route}");
}

#[test]
fn a_segment_that_the_route_cannot_take_is_reported_at_once() {
    let (client_ns, _router_ns, _server_ns) = narrow_path();
    client_ns.ip("route change default via 192.0.2.2 mtu 1300");
    client_ns.ip("-6 route change default via 2001:db8:0::2 mtu 1300");
    for (local, remote) in FAR {
        client_ns.run(|| {
            let mut client = Client::new(repair());
            let connection = client.open(local, remote, 0);
            client.heard.clear();
            client.send(&connection, Flags::ACK, TcpOptions::default(), &[7; 1400]);
            assert_eq!(client.link.stats().lost_too_big, 1);
            let (from, to, seq, kind) = icmp(&mut client);
            assert_eq!(
                (from, to, seq),
                (connection.guard.local(), connection.remote, Some(connection.seq))
            );
            assert_eq!(kind, IcmpKind::PacketTooBig { mtu: 1300 });
        });
    }
}

// Proves MUST-54.
#[test]
fn unreachable_destinations_are_reported() {
    let (client_ns, router_ns, _server_ns) = narrow_path();
    router_ns.ip("route add unreachable 203.0.113.0/24");
    router_ns.ip("-6 route add unreachable 2001:db8:ffff::/48");
    for (local, remote) in [
        ("192.0.2.1", "203.0.113.9:80"),
        ("2001:db8::1", "[2001:db8:ffff::9]:80"),
    ] {
        client_ns.run(|| {
            let mut client = Client::new(repair());
            let connection = client.open(local, remote, 0);
            let (from, to, seq, kind) = icmp(&mut client);
            assert_eq!(
                (from, to, seq),
                (connection.guard.local(), connection.remote, Some(SeqNum(1000)))
            );
            assert!(matches!(kind, IcmpKind::Unreachable { .. }), "{kind:?}");
        });
    }
}

#[test]
fn a_hop_limit_that_runs_out_is_reported() {
    let (client_ns, _router_ns, _server_ns) = narrow_path();
    for (local, remote) in FAR {
        client_ns.run(|| {
            let mut client = Client::new(repair());
            client.ttl = 1;
            client.open(local, remote, 0);
            let (_, _, _, kind) = icmp(&mut client);
            let errno = libc::EHOSTUNREACH;
            assert_eq!(kind, IcmpKind::Unreachable { errno });
        });
    }
}

#[test]
fn a_route_that_goes_is_reported_at_once() {
    let (client_ns, _router_ns, _server_ns) = narrow_path();
    let client_ns_ref = &client_ns;
    client_ns.run(move || {
        for ((local, remote), family) in FAR.into_iter().zip(["-4", "-6"]) {
            let mut client = Client::new(repair());
            let connection = client.open(local, remote, 0);
            client_ns_ref.ip(&format!("{family} route replace unreachable default"));
            client_ns_ref.ip(&format!("{family} route flush dev eth0 default"));
            client.heard.clear();
            client.send(&connection, Flags::ACK, TcpOptions::default(), &[]);
            let errno = libc::EHOSTUNREACH;
            assert_eq!(icmp(&mut client).3, IcmpKind::Unreachable { errno });
            assert_eq!(client.link.stats().lost_unroutable, 1);
        }
    });
}

#[test]
fn a_path_that_is_bound_leaves_by_its_interface_through_its_router() {
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
        net.ip(&format!("addr add {v4}.2/24 dev {name}"));
        net.ip(&format!("addr add {v6}::2/64 dev {name} nodad"));
    }
    net.ip("addr add 203.0.113.9/32 dev lo");
    net.ip("addr add 2001:db8:ffff::9/128 dev lo nodad");
    let eth1 = host.index("eth1");
    for (local, remote) in [
        ("198.51.100.1", "203.0.113.9:80"),
        ("2001:db8:1::1", "[2001:db8:ffff::9]:80"),
        // On the other wire's own subnet: still by eth1 and its router.
        ("198.51.100.1", "192.0.2.2:80"),
    ] {
        let listener = net.run(|| TcpListener::bind(remote).unwrap());
        let received = |name: &str| -> u64 {
            let text = net.ip(&format!("-s link show dev {name}"));
            let line = text.lines().nth(3).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let before = received("eth1");
        host.run(|| {
            let mut client = Client::new(repair());
            let mut connection = client.open(local, remote, eth1);
            client.establish(&mut connection);
            let (mut stream, peer) = listener.accept().unwrap();
            assert_eq!(peer, connection.guard.local());
            client.send(&connection, Flags::ACK, TcpOptions::default(), b"by eth1");
            let mut bytes = [0; 7];
            stream.read_exact(&mut bytes).unwrap();
            let came_in = client.wait(|heard| match heard {
                Heard::Segment { iface, .. } => Some(*iface),
                Heard::Icmp { .. } => None,
            });
            // The answer to an address of eth1's subnet comes back there.
            assert_eq!(came_in, eth1);
        });
        // SYN, ACK and data.
        assert!(received("eth1") >= before + 3, "{remote}");
    }
}

#[test]
fn an_interface_that_is_gone_is_an_error_of_its_own_path_only() {
    let (client_ns, server_ns) = two_hosts();
    let _listener = server_ns.run(|| TcpListener::bind("192.0.2.2:80").unwrap());
    client_ns.run(|| {
        let mut client = Client::new(repair());
        let mut connection = client.open("192.0.2.1", "192.0.2.2:80", 0);
        connection.iface = 4242;
        client.send(&connection, Flags::ACK, TcpOptions::default(), &[]);
        let (_, _, _, kind) = icmp(&mut client);
        assert!(matches!(kind, IcmpKind::Unreachable { .. }));
        connection.iface = 0;
        client.establish(&mut connection);
    });
}

//! Guards: silence, ports that come and go, and what other programs still can do.

use crate::client::Client;
use crate::netns::Netns;
use mptcp::link::{Guard, GuardKind, GuardRequest, Guards, WantedPort};
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

/// Both kinds of guards.
const KINDS: [GuardKind; 2] = [GuardKind::Repair, GuardKind::Listening];

/// A client host and a server host that has all of 203.0.113.0/24 for addresses.
fn two_hosts() -> (Netns, Netns) {
    let (client, server) = (Netns::new(), Netns::new());
    client.wire("eth0", &server, "eth0");
    client.ip("addr add 192.0.2.1/24 dev eth0");
    client.ip("addr add 2001:db8::1/64 dev eth0 nodad");
    server.ip("addr add 192.0.2.2/24 dev eth0");
    server.ip("addr add 2001:db8::2/64 dev eth0 nodad");
    server.ip("route add local 203.0.113.0/24 dev lo");
    client.ip("route add default via 192.0.2.2");
    (client, server)
}

fn acquire(guards: &mut Guards, remote: &str, port: WantedPort<'_>) -> io::Result<Guard> {
    let remote: SocketAddr = remote.parse().unwrap();
    let local: IpAddr = match remote {
        SocketAddr::V4(_) => "192.0.2.1".parse().unwrap(),
        SocketAddr::V6(_) => "2001:db8::1".parse().unwrap(),
    };
    guards.acquire(&GuardRequest {
        local,
        port,
        remote,
        iface: 0,
        mark: 0,
    })
}

fn any(guards: &mut Guards, remote: &str) -> io::Result<Guard> {
    acquire(guards, remote, WantedPort::Any)
}

/// Tries for at most five seconds: while another test starts a program, its child holds copies of our descriptors until
/// it has executed the program.
fn eventually<T>(mut attempt: impl FnMut() -> io::Result<T>) -> T {
    for _ in 0..250 {
        if let Ok(value) = attempt() {
            return value;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    attempt().unwrap()
}

#[test]
fn the_best_kind_is_found() {
    let (host, _server) = two_hosts();
    assert_eq!(host.run(|| Guards::new().unwrap().kind()), GuardKind::Repair);
}

#[test]
fn a_port_is_admitted_owned_and_free_after_the_guard() {
    for kind in KINDS {
        for remote in ["192.0.2.2:80", "[2001:db8::2]:80"] {
            let (host, _server) = two_hosts();
            host.run(|| {
                let mut guards = Guards::of_kind(kind).unwrap();
                let guard = any(&mut guards, remote).unwrap();
                let local = guard.local();
                assert!(guards.ports().contains(local.port()));
                let error = TcpListener::bind(local).map(drop);
                // Rust's listeners set SO_REUSEADDR: they live beside a connected guard, not beside a listening one.
                assert_eq!(error.is_ok(), kind == GuardKind::Repair, "{kind:?}");
                drop(guard);
                eventually(|| TcpListener::bind(local));
            });
        }
    }
}

#[test]
fn a_repair_guard_lives_beside_a_listener_that_was_there_before() {
    let (host, server) = two_hosts();
    let host_ref = &host;
    host.run(|| {
        let listener = TcpListener::bind("0.0.0.0:8443").unwrap();
        let mut guards = Guards::of_kind(GuardKind::Repair).unwrap();
        let guard = acquire(&mut guards, "192.0.2.2:80", WantedPort::Ours(8443)).unwrap();
        assert_eq!(guard.local(), "192.0.2.1:8443".parse().unwrap());
        // The listener works on for everybody else.
        let stream = server.run(|| TcpStream::connect("192.0.2.1:8443").unwrap());
        assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
        drop(guard);
        assert_eq!(host_ref.counter("Tcp", "OutRsts"), 0);
    });
}

#[test]
fn strangers_get_no_answer_from_a_guarded_port() {
    for kind in KINDS {
        let (host, server) = two_hosts();
        let (host_ref, server_ref) = (&host, &server);
        host.run(move || {
            let mut guards = Guards::of_kind(kind).unwrap();
            let guard = any(&mut guards, "192.0.2.2:80").unwrap();
            let port = guard.local().port();
            let _listener = TcpListener::bind("0.0.0.0:7777").unwrap();
            // The guarded peer itself, by hand: a SYN, and data out of the blue.
            server_ref.run(|| {
                let mut peer = Client::new(Guards::of_kind(GuardKind::Repair).unwrap());
                let request = (
                    "192.0.2.2".parse().unwrap(),
                    SocketAddr::new("192.0.2.1".parse().unwrap(), port),
                );
                let connection = peer.open_port(request.0, request.1, 0, WantedPort::Ours(80));
                let ack = mptcp::wire::Flags::ACK;
                peer.send(&connection, ack, mptcp::wire::TcpOptions::default(), b"who are you?");
                // Both segments were there, and an answer would be here, when this connection is.
                TcpStream::connect("192.0.2.1:7777").unwrap();
                peer.take_in(std::time::Duration::ZERO);
                assert!(peer.heard.is_empty(), "{kind:?}: {:?}", peer.heard);
            });
            assert_eq!(host_ref.counter("Tcp", "OutRsts"), 0, "{kind:?}");
        });
    }
}

#[test]
fn a_tuple_is_given_once() {
    for kind in KINDS {
        let (host, _server) = two_hosts();
        host.run(|| {
            let mut guards = Guards::of_kind(kind).unwrap();
            let guard = any(&mut guards, "192.0.2.2:80").unwrap();
            let port = WantedPort::Ours(guard.local().port());
            let error = acquire(&mut guards, "192.0.2.2:80", port).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
            let other = acquire(&mut guards, "192.0.2.2:81", port).unwrap();
            assert_eq!(other.local(), guard.local());
            drop(guard);
            eventually(|| acquire(&mut guards, "192.0.2.2:80", port));
        });
    }
}

#[test]
fn an_address_that_is_not_ours_is_an_error_and_grows_nothing() {
    for kind in KINDS {
        let (host, _server) = two_hosts();
        host.run(|| {
            let mut guards = Guards::of_kind(kind).unwrap();
            let before = guards.ports();
            let request = GuardRequest {
                local: "198.51.100.77".parse().unwrap(),
                port: WantedPort::Any,
                remote: "192.0.2.2:80".parse().unwrap(),
                iface: 0,
                mark: 0,
            };
            let error = guards.acquire(&request).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
            assert_eq!(guards.ports(), before);
        });
    }
}

#[test]
fn the_block_grows_when_one_destination_has_used_it_up() {
    for kind in KINDS {
        let (host, _server) = two_hosts();
        host.run(|| {
            let mut guards = Guards::of_kind(kind).unwrap();
            let before = guards.ports();
            let held: Vec<Guard> = (0..600).map(|_| any(&mut guards, "192.0.2.2:80").unwrap()).collect();
            let ports: HashSet<u16> = held.iter().map(|g| g.local().port()).collect();
            assert_eq!(ports.len(), 600, "{kind:?}");
            assert!(ports.iter().all(|&port| guards.ports().contains(port)));
            assert_ne!(guards.ports(), before);
        });
    }
}

#[test]
fn other_programs_still_get_ports() {
    for kind in KINDS {
        let (host, server) = two_hosts();
        let listener = server.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
        // 700 ports for everybody, of which the engine's block has 512.
        host.sysctl("net/ipv4/ip_local_port_range", "40000 40699");
        host.run(|| {
            let mut guards = Guards::of_kind(kind).unwrap();
            let held: Vec<Guard> = (0..1000)
                .map(|i| any(&mut guards, &format!("203.0.113.{}:{}", i % 250 + 1, 80 + i / 250)).unwrap())
                .collect();
            let ports: HashSet<u16> = held.iter().map(|g| g.local().port()).collect();
            assert!(ports.len() <= 512, "{kind:?}: {} ports", ports.len());
            // A repair guard takes no port from anybody; a listening one at most the block.
            let wanted = if kind == GuardKind::Repair { 600 } else { 180 };
            let streams: Vec<TcpStream> = (0..wanted)
                .map(|i| {
                    let stream = TcpStream::connect("203.0.113.251:80")
                        .unwrap_or_else(|e| panic!("{kind:?}, connection {i}: {e}"));
                    // Keeps the backlog empty.
                    listener.accept().unwrap();
                    stream
                })
                .collect();
            assert_eq!(streams.len(), wanted);
        });
    }
}

#[test]
fn reserved_ports_are_not_taken() {
    for kind in KINDS {
        let (host, _server) = two_hosts();
        host.sysctl("net/ipv4/ip_local_port_range", "40000 40099");
        host.sysctl("net/ipv4/ip_local_reserved_ports", "40010-40089");
        host.run(|| {
            let mut guards = Guards::of_kind(kind).unwrap();
            let held: Vec<Guard> = (0..20).map(|_| any(&mut guards, "192.0.2.2:80").unwrap()).collect();
            assert!(
                held.iter().all(|g| !(40010..=40089).contains(&g.local().port())),
                "{kind:?}"
            );
            assert!(any(&mut guards, "192.0.2.2:80").is_err(), "{kind:?}");
        });
    }
}

/// A TCP socket bound to a port of the client host.
fn bound_socket(port: u16) -> std::os::fd::OwnedFd {
    use rustix::net::{bind, socket, AddressFamily, SocketType};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::new("192.0.2.1".parse().unwrap(), port)).unwrap();
    fd
}

fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(("192.0.2.1", port))
}

#[test]
fn a_port_that_the_program_had_bound_is_never_lost() {
    for kind in KINDS {
        let (host, _server) = two_hosts();
        host.run(|| {
            let mut guards = Guards::of_kind(kind).unwrap();
            let passed = bound_socket(5555);
            let guard = acquire(&mut guards, "192.0.2.2:80", WantedPort::Held(passed.as_fd())).unwrap();
            assert_eq!(guard.local(), "192.0.2.1:5555".parse().unwrap());
            assert!(guards.ports().contains(5555));
            assert!(listen(5555).is_err() || kind == GuardKind::Repair);
            drop(passed);
            let rival =
                rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
            let address: SocketAddr = "192.0.2.1:5555".parse().unwrap();
            // Without SO_REUSEADDR nobody else gets it.
            assert!(rustix::net::bind(&rival, &address).is_err(), "{kind:?}");
            drop(guard);
            assert!(!guards.ports().contains(5555));
            eventually(|| listen(5555));
        });
    }
}

#[test]
fn a_socket_that_served_as_guard_connects_again_by_the_kernel() {
    for kind in KINDS {
        let (host, server) = two_hosts();
        let listener = server.run(|| TcpListener::bind("192.0.2.2:80").unwrap());
        host.run(|| {
            let mut guards = Guards::of_kind(kind).unwrap();
            let passed = bound_socket(5556);
            let guard = acquire(&mut guards, "192.0.2.2:80", WantedPort::Held(passed.as_fd())).unwrap();
            drop(guard);
            let address: SocketAddr = "192.0.2.2:80".parse().unwrap();
            eventually(|| rustix::net::connect(&passed, &address).map_err(io::Error::from));
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer, "192.0.2.1:5556".parse().unwrap(), "{kind:?}");
        });
    }
}

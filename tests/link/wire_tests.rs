//! Segments to and from a kernel peer.

use crate::client::{Client, Connection, Heard};
use crate::netns::Netns;
use mptcp::link::{GuardKind, Guards};
use mptcp::wire::{Flags, TcpOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

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
        connection.seq = connection.seq + 13;

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
    connection.ack = connection.ack + 11;
    client.send(&connection, Flags::RST.with(Flags::ACK), TcpOptions::default(), &[]);
    drop(connection);
    drop(stream);
}

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

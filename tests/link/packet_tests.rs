//! The packet link: when it may be used, and that what it carries arrives as by the ip link.

use crate::client::{Client, Connection, Heard};
use crate::netns::Netns;
use mptcp::link::packet::{Doubt, PacketLink, Refusal};
use mptcp::link::{AutoLink, GuardKind, Guards, IpLink, Link, LinkStats, PortSet};
use mptcp::wire::{Flags, TcpOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SERVER: &str = "192.0.2.2:8080";

/// BPF programs are the whole machine's: the test that loads one must not meet those that expect none.
fn machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn two_hosts() -> (Netns, Netns) {
    let (client, server) = (Netns::new(), Netns::new());
    client.wire("eth0", &server, "eth0");
    client.ip("addr add 192.0.2.1/24 dev eth0");
    server.ip("addr add 192.0.2.2/24 dev eth0");
    (client, server)
}

fn done(ns: &Netns, command: &str) {
    let (program, arguments) = command.split_once(' ').unwrap();
    let output = ns.command(program, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {stderr}");
}

/// Why there is no packet link in this namespace; None where there is one.
fn doubt(ns: &Netns) -> Option<Doubt> {
    ns.run(|| match PacketLink::new(&PortSet::new(40000..=40511, [])) {
        Ok(_) => None,
        Err(Refusal::Doubt(doubt)) => Some(doubt),
        Err(Refusal::Io(error)) => panic!("{error}"),
    })
}

#[test]
fn an_empty_namespace_has_the_packet_link() {
    let _machine = machine();
    let (client, _server) = two_hosts();
    // A machine whose own programs or security module see every packet never has it.
    match doubt(&client) {
        None | Some(Doubt::Bpf | Doubt::ControlGroup | Doubt::SecurityModule) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn whatever_sees_packets_keeps_us_on_the_ip_link() {
    let cases: [(&[&str], Doubt); 7] = [
        (&["nft add table ip t"], Doubt::Netfilter),
        (&["nft add table inet t"], Doubt::Netfilter),
        (
            &[
                "nft add table ip nat",
                "nft add chain ip nat c { type nat hook postrouting priority 100 ; }",
                "nft add rule ip nat c masquerade",
            ],
            Doubt::Netfilter,
        ),
        (&["nft add table netdev t"], Doubt::Netfilter),
        (
            &["ip xfrm policy add dir out src 192.0.2.0/24 dst 192.0.2.0/24 proto udp action block"],
            Doubt::Ipsec,
        ),
        (&["tc qdisc add dev eth0 clsact"], Doubt::TrafficControl),
        (
            &["tc qdisc add dev eth0 root handle 1: htb default 1"],
            Doubt::TrafficControl,
        ),
    ];
    for (commands, wanted) in cases {
        let (client, _server) = two_hosts();
        for command in commands {
            done(&client, command);
        }
        assert_eq!(doubt(&client), Some(wanted), "{commands:?}");
        let name = client.run(|| AutoLink::new(&PortSet::new(40000..=40511, [])).unwrap().name());
        assert_eq!(name, "ip", "{commands:?}");
    }
}

#[test]
fn a_classifier_program_anywhere_keeps_us_on_the_ip_link() {
    let _machine = machine();
    let (client, _server) = two_hosts();
    let _program = load_classifier();
    assert_eq!(doubt(&client), Some(Doubt::Bpf));
}

/// Loads "return 0" as a BPF_PROG_TYPE_SCHED_CLS; attached to nothing.
fn load_classifier() -> OwnedFd {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: *const u64,
        license: *const libc::c_char,
        rest: [u64; 4],
    }
    // r0 = 0; exit
    let instructions = [0x0000_0000_0000_00b7_u64.to_le(), 0x95_u64.to_le()];
    let load = Load {
        kind: 3,
        count: 2,
        instructions: instructions.as_ptr(),
        license: c"GPL".as_ptr(),
        rest: [0; 4],
    };
    // SAFETY: BPF_PROG_LOAD (5) reads the attributes, the instructions and the license, which live through the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, 5, &load, size_of::<Load>()) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i * 7 + (i >> 8)) as u8).collect()
}

/// 20,000 bytes each way, ours sent in one go with segments of 1,448 bytes.
fn exchange<L: Link>(client: &mut Client<L>, connection: &mut Connection, stream: &mut TcpStream) {
    let sent = bytes(20_000);
    client.segment_size = 1448;
    client.send(connection, Flags::ACK.with(Flags::PSH), TcpOptions::default(), &sent);
    client.segment_size = 0;
    connection.seq += 20_000;
    let mut read = vec![0; 20_000];
    stream.read_exact(&mut read).unwrap();
    assert!(read == sent);

    client.heard.clear();
    stream.write_all(&sent).unwrap();
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let wanted = connection.ack;
        let piece = client.wait(|heard| match heard {
            Heard::Segment { header, payload, .. } if header.seq == wanted && !payload.is_empty() => {
                Some(payload.clone())
            }
            _ => None,
        });
        connection.ack += piece.len() as u32;
        received.extend(piece);
        client.send(connection, Flags::ACK, TcpOptions::default(), &[]);
    }
    assert!(received == sent);
}

fn connect<L: Link>(client: &mut Client<L>, listener: &TcpListener) -> (Connection, TcpStream) {
    let mut connection = client.open("192.0.2.1", SERVER, 0);
    client.establish(&mut connection);
    let (stream, _) = listener.accept().unwrap();
    (connection, stream)
}

#[test]
fn the_ip_link_cuts_what_is_longer_than_a_segment() {
    let (client_ns, server_ns) = two_hosts();
    let listener = server_ns.run(|| TcpListener::bind(SERVER).unwrap());
    client_ns.run(move || {
        let guards = Guards::of_kind(GuardKind::Repair).unwrap();
        let mut client = Client::over(IpLink::new(&guards.ports()).unwrap(), guards);
        let (mut connection, mut stream) = connect(&mut client, &listener);
        exchange(&mut client, &mut connection, &mut stream);
        assert!(client.link.stats().sent >= 14 + 3, "{:?}", client.link.stats());
    });
}

#[test]
fn the_packet_link_carries_a_connection_and_hands_it_over_when_a_doubt_comes_up() {
    let _machine = machine();
    let (client_ns, server_ns) = two_hosts();
    if let Some(doubt) = doubt(&client_ns) {
        eprintln!("the packet link is not for this machine: {doubt}");
        assert!(matches!(
            doubt,
            Doubt::Bpf | Doubt::ControlGroup | Doubt::SecurityModule
        ));
        return;
    }
    let listener = server_ns.run(|| TcpListener::bind(SERVER).unwrap());
    let ns = &client_ns;
    client_ns.run(move || {
        let guards = Guards::of_kind(GuardKind::Repair).unwrap();
        let mut client = Client::over(AutoLink::new(&guards.ports()).unwrap(), guards);
        assert_eq!(client.link.name(), "packet");
        let (mut connection, mut stream) = connect(&mut client, &listener);
        exchange(&mut client, &mut connection, &mut stream);
        exchange(&mut client, &mut connection, &mut stream);
        let LinkStats {
            bad_checksum,
            malformed,
            lost_full,
            ..
        } = client.link.stats();
        assert_eq!((bad_checksum, malformed, lost_full), (0, 0, 0));

        client.link.review();
        assert_eq!(client.link.name(), "packet");
        done(ns, "nft add table ip t");
        client.link.review();
        assert_eq!(client.link.name(), "ip");
        exchange(&mut client, &mut connection, &mut stream);
        assert_eq!(ns.counter("Tcp", "OutRsts"), 0);
    });
}

//! Our own TCP as the network side: raw IP sockets, against the kernel's MPTCP and TCP in another network namespace.
//!
//! Two hosts and two wires. The server's address is behind both, reached by default routes only:
//!
//!     client  w1 192.0.2.1    ── 192.0.2.2    w1  server, lo 203.0.113.1
//!             w2 198.51.100.1 ── 198.51.100.2 w2

use super::client::*;
use super::netns::Netns;
use mptcp::control::{Bypass, Phase};
use mptcp::engine::status::{ConnectionStatus, SubflowStatus};
use rustix::net::{shutdown, sockopt, Shutdown};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

const SERVER: &str = "203.0.113.1";
const IPPROTO_MPTCP: i32 = 262;

struct Hosts {
    client: Netns,
    server: Netns,
}

impl Hosts {
    fn new() -> Hosts {
        let hosts = Hosts {
            client: Netns::new(),
            server: Netns::new(),
        };
        let Hosts { client, server } = &hosts;
        for (wire, net, metric) in [("w1", "192.0.2", 100), ("w2", "198.51.100", 200)] {
            client.wire(wire, server, wire);
            client.ip(&format!("addr add {net}.1/24 dev {wire}"));
            server.ip(&format!("addr add {net}.2/24 dev {wire}"));
            client.ip(&format!("route add default via {net}.2 dev {wire} metric {metric}"));
        }
        server.ip(&format!("addr add {SERVER}/32 dev lo"));
        server.sysctl("net/mptcp/enabled", "1");
        server.ip("mptcp limits set subflows 8 add_addr_accepted 8");
        hosts
    }

    /// An engine in the client's namespace.
    fn engine(&self) -> Engine {
        let mut engine = self.client.run(Engine::start);
        engine.settings = b"";
        engine
    }

    fn connect(&self, engine: &Engine, remote: SocketAddr) -> Program {
        self.client.run(|| engine.connect(remote))
    }

    fn listener(&self, protocol: i32) -> (TcpListener, SocketAddr) {
        self.server.run(|| {
            // SAFETY: a new descriptor, which nobody else owns.
            let fd = unsafe {
                let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, protocol);
                assert!(fd >= 0, "the kernel of the test must have MPTCP");
                OwnedFd::from_raw_fd(fd)
            };
            let address: SocketAddr = format!("{SERVER}:0").parse().unwrap();
            rustix::net::bind(&fd, &address).unwrap();
            rustix::net::listen(&fd, 16).unwrap();
            let listener = TcpListener::from(fd);
            let address = listener.local_addr().unwrap();
            (listener, address)
        })
    }

    /// A counter of the server's kernel MPTCP.
    fn server_mptcp(&self, name: &str) -> u64 {
        let text = self
            .server
            .run(|| std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap());
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("MPTcpExt: "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|n| n == name).unwrap();
        values.split(' ').nth(at).unwrap().parse().unwrap()
    }

    fn status(&self, engine: &Engine) -> Vec<ConnectionStatus> {
        self.client.run(|| engine.status().connections)
    }

    fn phase(&self, engine: &Engine, program: &Program) -> Phase {
        self.client.run(|| engine.phase(program.cookie))
    }
}

fn send_all(mut to: impl Write + Send + 'static, data: Vec<u8>, done: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        // A test that broke the connection looks at the other end.
        let _ = to.write_all(&data);
        done();
    });
}

#[test]
fn a_download_and_an_upload_over_two_subflows() {
    let hosts = Hosts::new();
    let engine = hosts.engine();
    let (listener, address) = hosts.listener(IPPROTO_MPTCP);
    let mut program = hosts.connect(&engine, address);
    let mut peer = accept(&listener);
    program.end.write_all(b"hello").unwrap();
    peer.read_exact(&mut [0; 5]).unwrap();
    wait_until("the second subflow is there", || {
        hosts.status(&engine)[0]
            .subflows
            .iter()
            .filter(|s| s.state == "ESTABLISHED")
            .count()
            == 2
    });

    let data = pattern(20 << 20);
    send_all(peer.try_clone().unwrap(), data.clone(), || {});
    let mut got = vec![0; data.len()];
    program.end.read_exact(&mut got).unwrap();
    assert!(got == data);

    send_all(program.end.try_clone().unwrap(), data.clone(), || {});
    peer.read_exact(&mut got).unwrap();
    assert!(got == data);

    let status = &hosts.status(&engine)[0];
    assert_eq!((status.protocol.as_str(), &status.why_plain), ("mptcp", &None));
    let mut interfaces: Vec<_> = status.subflows.iter().filter_map(|s| s.interface.clone()).collect();
    interfaces.sort();
    assert_eq!(interfaces, ["w1", "w2"]);
    assert!(
        status.subflows.iter().all(|s| s.bytes_received > 0 && s.rtt_us > 0),
        "{status:?}"
    );
    assert_eq!(
        (hosts.server_mptcp("MPCapableSYNRX"), hosts.server_mptcp("MPJoinAckRx")),
        (1, 1)
    );
    assert_eq!(hosts.server_mptcp("MPCapableFallbackACK"), 0);

    // Both directions end in order.
    shutdown(&program.end, Shutdown::Write).unwrap();
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    drop(peer);
    assert_eq!(program.end.read(&mut [0; 1]).unwrap(), 0);
    wait_until("the connection is over", || {
        hosts.phase(&engine, &program) == Phase::Gone
    });
}

#[test]
fn the_kernel_of_the_client_says_nothing_about_our_segments() {
    let hosts = Hosts::new();
    let engine = hosts.engine();
    let (listener, address) = hosts.listener(IPPROTO_MPTCP);
    let mut program = hosts.connect(&engine, address);
    let mut peer = accept(&listener);
    program.end.write_all(b"ping").unwrap();
    peer.read_exact(&mut [0; 4]).unwrap();
    peer.write_all(b"pong").unwrap();
    program.end.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(hosts.client.counter("Tcp", "OutRsts"), 0);
    assert_eq!(program.name().remote, address);
    assert_eq!(program.name().local, peer.peer_addr().unwrap());
}

#[test]
fn a_plain_server_is_spoken_to_in_plain_tcp_and_then_left_to_the_kernel() {
    let hosts = Hosts::new();
    let engine = hosts.engine();
    let (listener, address) = hosts.listener(libc::IPPROTO_TCP);
    let mut program = hosts.connect(&engine, address);
    let mut peer = accept(&listener);
    let data = pattern(2 << 20);
    send_all(program.end.try_clone().unwrap(), data.clone(), || {});
    let mut got = vec![0; data.len()];
    peer.read_exact(&mut got).unwrap();
    assert!(got == data);
    peer.write_all(b"thanks").unwrap();
    program.end.read_exact(&mut [0; 6]).unwrap();
    let status = &hosts.status(&engine)[0];
    assert_eq!(status.protocol, "tcp");
    assert!(
        status
            .why_plain
            .as_ref()
            .is_some_and(|why| why.contains("does not speak MPTCP")),
        "{status:?}"
    );
    let reason = hosts.client.run(|| engine.refusal(address, &tcp_socket(address)));
    assert_eq!(reason, Bypass::PeerPlain);
}

#[test]
fn a_program_that_exits_after_its_last_write_loses_nothing() {
    let hosts = Hosts::new();
    let engine = hosts.engine();
    let (listener, address) = hosts.listener(IPPROTO_MPTCP);
    let mut program = hosts.connect(&engine, address);
    let mut peer = accept(&listener);
    let data = pattern(8 << 20);
    let expected = data.clone();
    thread::spawn(move || program.end.write_all(&expected));
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    assert!(got == data);
}

#[test]
fn a_wire_that_is_cut_does_not_stop_a_download() {
    for cut in ["w1", "w2"] {
        let hosts = Hosts::new();
        let engine = hosts.engine();
        let (listener, address) = hosts.listener(IPPROTO_MPTCP);
        let mut program = hosts.connect(&engine, address);
        let mut peer = accept(&listener);
        program.end.write_all(b"hello").unwrap();
        peer.read_exact(&mut [0; 5]).unwrap();
        wait_until("the second subflow is there", || {
            hosts.status(&engine)[0]
                .subflows
                .iter()
                .filter(|s| s.state == "ESTABLISHED")
                .count()
                == 2
        });
        let data = pattern(16 << 20);
        send_all(peer, data.clone(), || {});
        let mut got = vec![0; data.len()];
        let half = got.len() / 2;
        program.end.read_exact(&mut got[..half]).unwrap();
        hosts.client.ip(&format!("link set {cut} down"));
        program.end.read_exact(&mut got[half..]).unwrap();
        assert!(got == data, "wire {cut}");
        // The name stays what it was.
        assert_eq!(
            program.name().local.ip(),
            "192.0.2.1".parse::<std::net::IpAddr>().unwrap()
        );
    }
}

#[test]
fn a_mended_wire_is_used_again() {
    let hosts = Hosts::new();
    let engine = hosts.engine();
    let (listener, address) = hosts.listener(IPPROTO_MPTCP);
    let mut program = hosts.connect(&engine, address);
    let mut peer = accept(&listener);
    program.end.write_all(b"hello").unwrap();
    peer.read_exact(&mut [0; 5]).unwrap();
    let alive = || {
        let alive = |s: &&SubflowStatus| s.state == "ESTABLISHED" && !s.stalled;
        let status = hosts.status(&engine);
        status[0].subflows.iter().filter(alive).count()
    };
    wait_until("the second subflow is there", || alive() == 2);
    hosts.client.ip("link set w2 down");
    wait_until("the second subflow is gone", || alive() == 1);
    hosts.client.ip("link set w2 up");
    hosts.client.ip("route add default via 198.51.100.2 dev w2 metric 200");
    wait_until("the second subflow is back", || alive() == 2);
    program.end.write_all(b"again").unwrap();
    peer.read_exact(&mut [0; 5]).unwrap();
}

#[test]
fn a_socket_of_the_other_family_sees_mapped_addresses() {
    let hosts = Hosts::new();
    let engine = hosts.engine();
    let (listener, address) = hosts.listener(IPPROTO_MPTCP);
    let mapped = format!("[::ffff:{SERVER}]:{}", address.port());
    let program = hosts.connect(&engine, mapped.parse().unwrap());
    let peer = accept(&listener);
    let name = program.name();
    assert_eq!(name.remote.to_string(), mapped);
    assert_eq!(name.local.ip().to_canonical(), peer.peer_addr().unwrap().ip());
    assert!(name.local.is_ipv6());
}

#[test]
fn refusals_and_resets_arrive() {
    let hosts = Hosts::new();
    let engine = hosts.engine();
    let (listener, address) = hosts.listener(IPPROTO_MPTCP);
    let mut program = hosts.connect(&engine, address);
    let peer = accept(&listener);
    wait_until("it is established", || {
        hosts.phase(&engine, &program) == Phase::Established
    });
    sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(
        program.end.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );

    drop(listener);
    let mut program = hosts.connect(&engine, address);
    assert_eq!(
        program.end.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    let errno = libc::ECONNREFUSED;
    assert_eq!(hosts.phase(&engine, &program), Phase::Failed { errno });
}

#[test]
fn a_killed_engine_is_a_reset_and_never_an_end_of_file() {
    let hosts = Hosts::new();
    let mut engine = hosts.engine();
    let (listener, address) = hosts.listener(IPPROTO_MPTCP);
    let mut program = hosts.connect(&engine, address);
    let mut peer = accept(&listener);
    program.end.write_all(b"hello").unwrap();
    peer.read_exact(&mut [0; 5]).unwrap();
    engine.kill();
    assert_eq!(
        program.end.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn what_is_none_of_ours_is_left_to_the_kernel() {
    let hosts = Hosts::new();
    let engine = hosts.engine();
    let refusal = |remote: &str| {
        let remote: SocketAddr = remote.parse().unwrap();
        hosts.client.run(|| engine.refusal(remote, &tcp_socket(remote)))
    };
    assert_eq!(refusal("127.0.0.1:80"), Bypass::OwnAddress);
    assert_eq!(refusal("192.0.2.1:80"), Bypass::OwnAddress);
    assert_eq!(refusal("[2001:db8::1]:80"), Bypass::NoRoute);
    assert_eq!(refusal("224.0.0.1:80"), Bypass::OddAddress);
}

#[test]
fn the_programs_own_port_is_used() {
    let hosts = Hosts::new();
    let engine = hosts.engine();
    let (listener, address) = hosts.listener(IPPROTO_MPTCP);
    let local: SocketAddr = "198.51.100.1:4711".parse().unwrap();
    let program = hosts.client.run(|| {
        let socket = tcp_socket(address);
        rustix::net::bind(&socket, &local).unwrap();
        engine.connect_with(address, socket)
    });
    let peer: TcpStream = accept(&listener);
    assert_eq!(peer.peer_addr().unwrap(), local);
    assert_eq!(program.name().local, local);
}

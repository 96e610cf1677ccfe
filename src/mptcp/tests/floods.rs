//! Floods of SYNs and joins: what they cost is bounded, and they keep nobody out.

use super::pair::{events, hear, sent, Packet, Pair};
use crate::mptcp::endpoint::ConnInfo;
use crate::mptcp::listening::MAX_HALF_OPEN;
use crate::mptcp::{ConnOptions, Endpoint, Event, FourTuple};
use crate::time::Duration;
use crate::wire::{Flags, Header, MpJoin, SeqNum, TcpOptions};

/// A SYN from an address that answers nothing.
pub fn forged_syn(n: u32) -> Packet {
    Packet {
        tuple: FourTuple {
            local: (core::net::Ipv4Addr::from(0xcb00_7100 | n >> 16), n as u16 | 1).into(),
            remote: super::pair::SERVER.parse().expect("an address"),
        },
        header: Header {
            src_port: n as u16 | 1,
            dst_port: 8000,
            seq: SeqNum(n.wrapping_mul(0x9e37_79b9)),
            ack: SeqNum(0),
            flags: Flags::SYN,
            window: 64_240,
        },
        options: TcpOptions {
            mss: Some(1460),
            ..TcpOptions::default()
        },
        payload: Vec::new(),
    }
}

/// A server with as many half-open connections as it remembers, and more SYNs behind.
fn flooded() -> Pair {
    let mut pair = Pair::new(ConnOptions::default());
    for n in 0..4 * MAX_HALF_OPEN as u32 {
        assert!(hear(&mut pair.server, pair.now, &forged_syn(2 * n)));
        let now = pair.now;
        pair.elsewhere.extend(sent(&mut pair.server, now));
    }
    assert_eq!(pair.server.connections().len(), MAX_HALF_OPEN);
    assert_eq!(pair.elsewhere.len(), 4 * MAX_HALF_OPEN, "each SYN is answered");
    pair
}

fn accepted(server: &mut Endpoint) -> Vec<ConnInfo> {
    let conns = events(server).into_iter().filter_map(|event| match event {
        Event::Accepted { conn, .. } => Some(conn),
        _ => None,
    });
    let conns: Vec<_> = conns.collect();
    conns.into_iter().filter_map(|conn| server.info(conn)).collect()
}

#[test]
fn a_client_gets_in_during_a_syn_flood_and_speaks_mptcp() {
    let mut pair = flooded();
    let conn = pair.connect(4000, ConnOptions::default());
    pair.talk();
    let infos = accepted(&mut pair.server);
    let [info] = infos.as_slice() else { panic!("{infos:?}") };
    assert!(info.fallback.is_none() && info.token != 0, "{info:?}");
    let [first] = info.subflows.as_slice() else {
        panic!("{info:?}")
    };
    assert!(first.timestamps && first.sack, "{first:?}");
    assert_eq!((first.window_shifts.0, first.mtu), (10, 1500));
    // Both directions work.
    assert_eq!(pair.client.send(pair.now, conn, b"question"), Ok(8));
    pair.talk();
    let conn_there = *pair.server.connections().last().expect("it is the youngest");
    assert_eq!(pair.server.recv(conn_there).expect("open").0, b"question");
    assert_eq!(pair.server.send(pair.now, conn_there, b"answer"), Ok(6));
    pair.talk();
    assert_eq!(pair.client.recv(conn).expect("open").0, b"answer");
}

#[test]
fn plain_clients_get_in_too() {
    let mut pair = flooded();
    let options = ConnOptions {
        multipath: false,
        ..ConnOptions::default()
    };
    let conn = pair.connect(4000, options);
    pair.talk();
    let infos = accepted(&mut pair.server);
    assert_eq!(infos.len(), 1);
    assert!(infos[0].fallback.is_some());
    assert_eq!(pair.client.send(pair.now, conn, b"question"), Ok(8));
    pair.talk();
    let conn_there = *pair.server.connections().last().expect("it is the youngest");
    assert_eq!(pair.server.recv(conn_there).expect("open").0, b"question");
}

/// The third ACK is lost, and the first data brings the keys (RFC 8684 section 3.1), at once or from a client that thinks for half a minute.
#[test]
fn data_brings_a_cookie_back_as_well() {
    for pause_s in [0, 30] {
        let mut pair = flooded();
        let conn = pair.connect(4000, ConnOptions::default());
        let now = pair.now;
        for syn in sent(&mut pair.client, now) {
            hear(&mut pair.server, now, &syn);
        }
        for syn_ack in sent(&mut pair.server, now) {
            hear(&mut pair.client, now, &syn_ack);
        }
        let lost = sent(&mut pair.client, now);
        assert_eq!(lost.len(), 1);
        pair.now = now + Duration::from_secs(pause_s);
        assert_eq!(pair.client.send(pair.now, conn, b"question"), Ok(8));
        pair.talk();
        let infos = accepted(&mut pair.server);
        assert_eq!(infos.len(), 1, "{pause_s} s");
        assert!(infos[0].fallback.is_none(), "{pause_s} s");
        assert_eq!(infos[0].bytes_received, 8, "{pause_s} s");
    }
}

#[test]
fn guessed_third_acks_open_nothing() {
    let mut pair = flooded();
    let before = pair.server.connections().len();
    for n in 0..10_000u32 {
        let mut ack = forged_syn(2 * n);
        ack.header.src_port = 10;
        ack.tuple.local.set_port(10);
        ack.header.flags = Flags::ACK;
        ack.header.ack = SeqNum(n.wrapping_mul(0x85eb_ca6b));
        assert!(!hear(&mut pair.server, pair.now, &ack));
    }
    assert_eq!(pair.server.connections().len(), before);
}

/// A cookie that was overheard or kept is worth nothing two minutes later, and nothing for another port.
#[test]
fn cookies_do_not_keep() {
    for (age, port, good) in [(60, 4000, true), (130, 4000, false), (0, 4001, false)] {
        let mut pair = flooded();
        pair.connect(4000, ConnOptions::default());
        let now = pair.now;
        for syn in sent(&mut pair.client, now) {
            hear(&mut pair.server, now, &syn);
        }
        for syn_ack in sent(&mut pair.server, now) {
            hear(&mut pair.client, now, &syn_ack);
        }
        let mut acks = sent(&mut pair.client, now);
        acks[0].tuple.local.set_port(port);
        acks[0].header.src_port = port;
        let later = now + Duration::from_secs(age);
        assert_eq!(hear(&mut pair.server, later, &acks[0]), good, "{age} s, port {port}");
    }
}

#[test]
fn nothing_is_left_of_a_syn_flood() {
    let mut pair = flooded();
    pair.wait(Duration::from_secs(300));
    assert_eq!(pair.server.connections(), []);
    assert_eq!(pair.server.poll_timeout(), None);
    // And it remembers half-open connections as before.
    let now = pair.now;
    assert!(hear(&mut pair.server, now, &forged_syn(7)));
    assert_eq!(pair.server.connections().len(), 1);
}

fn join_syn(n: u32, token: u32) -> Packet {
    let mut syn = forged_syn(n);
    syn.options.mptcp.join = Some(MpJoin::Syn {
        backup: false,
        address_id: 1,
        token,
        nonce: n,
    });
    syn
}

#[test]
fn a_flood_of_joins_costs_nothing_and_keeps_no_join_out() {
    let mut pair = Pair::new(ConnOptions::default());
    pair.connect(4000, ConnOptions::default());
    pair.talk();
    let token = accepted(&mut pair.server)[0].token;
    let now = pair.now;
    // Of unknown tokens: each is refused.
    for n in 0..10_000u32 {
        assert!(hear(&mut pair.server, now, &join_syn(2 * n, token ^ (n + 1))));
        let answers = sent(&mut pair.server, now);
        assert!(answers.iter().all(|answer| answer.header.flags.has(Flags::RST)));
    }
    // Of somebody who has seen the token, but not the keys: the newest few wait.
    for n in 0..10_000u32 {
        hear(&mut pair.server, now, &join_syn(2 * n, token));
        sent(&mut pair.server, now);
    }
    let conn = pair.server.connections()[0];
    let subflows = pair.server.info(conn).expect("it lives").subflows.len();
    assert!(subflows <= 5, "{subflows}");
    // They are gone when nobody has answered.
    pair.wait(Duration::from_secs(200));
    assert_eq!(pair.server.info(conn).expect("it lives").subflows.len(), 1);
}

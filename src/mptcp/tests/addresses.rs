//! ADD_ADDR and REMOVE_ADDR (note A1 to A8).

use super::script::*;
use crate::mptcp::{crypto, Event};
use core::net::IpAddr;

fn add_addr(id: u8, ip: [u8; 4]) -> String {
    let hmac = crypto::add_addr_hmac(SERVER_KEY, CLIENT_KEY, id, IpAddr::from(ip), None);
    format!("1e1030{id:02x}{}{hmac:016x}", hex(&ip))
}

fn echo(id: u8, ip: [u8; 4]) -> String {
    format!("1e0831{id:02x}{}", hex(&ip))
}

fn wanted(s: &mut Script) -> Vec<String> {
    let events = s.events();
    let remotes = events.iter().filter_map(|e| match e {
        Event::WantSubflow { remote, .. } => Some(remote.to_string()),
        _ => None,
    });
    remotes.collect()
}

fn client() -> Script {
    let mut s = Script::client_up();
    s.set_paths(&[path("192.0.2.1")]);
    s.events();
    s
}

// Proves A3, M3.4-2.
#[test]
fn a3_an_announcement_is_echoed_each_time_it_comes() {
    let mut s = client();
    for _ in 0..3 {
        s.inject(ack(1, 1).mp(&add_addr(1, [198, 51, 100, 2])));
        s.expect_among(ack(1, 1).mp(&echo(1, [198, 51, 100, 2])));
        s.take_sent();
    }
    assert_eq!(wanted(&mut s), ["198.51.100.2:8000"], "and wanted once");
}

// Proves A3, M3.4-3.
#[test]
fn a3_ours_is_repeated_until_the_echo_and_one_at_a_time() {
    let mut s = Script::server_up();
    s.set_paths(&[path("192.0.2.2"), path("198.51.100.2"), path("203.0.113.2")]);
    let announced = |s: &mut Script| -> Vec<u8> {
        let sent = s.take_sent();
        sent.iter()
            .filter_map(|seg| seg.options.mptcp.add_addr.map(|a| a.id))
            .collect()
    };
    let first = announced(&mut s);
    assert_eq!(first.len(), 1);
    s.advance(1100);
    assert_eq!(announced(&mut s), first);
    s.inject(ack(1, 1).mp(&echo(first[0], [198, 51, 100, 2])));
    let second = announced(&mut s);
    assert_eq!(second.len(), 1);
    assert_ne!(second, first);
    // Never echoed: it is given up after a few times.
    s.advance(120_000);
    assert!((1..=6).contains(&announced(&mut s).len()));
}

// Proves A4, M3.4-1.
#[test]
fn a4_a_wrong_hmac_is_ignored_in_silence() {
    let mut s = client();
    s.inject(ack(1, 1).mp("1e103001c63364020000000000000000"));
    s.expect_nothing();
    assert!(wanted(&mut s).is_empty());
}

// Proves A5.
#[test]
fn a5_addresses_that_no_peer_may_send_us_to_are_not_joined() {
    for ip in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
        let mut s = client();
        s.inject(ack(1, 1).mp(&add_addr(1, ip)));
        assert!(wanted(&mut s).is_empty(), "{ip:?}");
    }
}

// Proves A5.
#[test]
fn a5_the_same_id_with_another_address_is_an_update() {
    let mut s = client();
    s.inject(ack(1, 1).mp(&add_addr(1, [198, 51, 100, 2])));
    s.inject(ack(1, 1).mp(&add_addr(1, [198, 51, 100, 3])));
    assert_eq!(wanted(&mut s).last().map(String::as_str), Some("198.51.100.3:8000"));
}

// Proves A6.
#[test]
fn a6_remove_addr_closes_the_subflows_of_the_id_and_data_goes_elsewhere() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.send("hello");
    let flow = s.take_sent()[0].flow;
    let id = [0, 1][flow];
    s.inject(ack(1, 1).on(1 - flow).dack32(1).mp(&format!("1e0440{id:02x}")));
    let sent = s.take_sent();
    let again = sent.iter().find(|seg| seg.flow == 1 - flow && seg.payload == b"hello");
    assert!(again.is_some(), "{sent:?}");
}

// Proves M3.3-10.
#[test]
fn a6_remove_addr_of_the_only_subflow_does_not_break_the_connection() {
    let mut s = Script::server_up();
    s.inject(ack(1, 1).dack32(1).mp("1e044000"));
    s.inject(data(1, 1, "on").dack32(1).map(1, 1, 2));
    assert_eq!(s.recv().unwrap(), b"on");
}

// Proves A6, M3.4-7.
#[test]
fn a6_unknown_ids_are_ignored() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(ack(1, 1).dack32(1).mp("1e06400708ff"));
    s.expect_nothing();
    assert_eq!(s.info().unwrap().subflows.len(), 2);
}

// Proves A6, M3.2-9, M3.4-9.
#[test]
fn a6_a_path_that_is_gone_is_removed_behind_a_dss_on_another_subflow() {
    let mut s = Script::client_up();
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    s.join_as_client(SECOND);
    s.set_paths(&[path("192.0.2.1")]);
    s.expect_among(ack(1, 1).dack32(1).mp("1e044001"));
}

// Proves A8.
#[test]
fn a8_id_0_with_another_address_is_echoed_and_ignored() {
    let mut s = client();
    s.inject(ack(1, 1).mp(&add_addr(0, [198, 51, 100, 2])));
    s.expect_among(ack(1, 1).mp(&echo(0, [198, 51, 100, 2])));
    assert!(wanted(&mut s).is_empty());
}

// Proves SEC.
#[test]
fn a_flood_of_announcements_is_bounded() {
    let mut s = client();
    for i in 1..=255u8 {
        s.inject(ack(1, 1).mp(&add_addr(i, [198, 51, 100, i])));
    }
    let wanted = wanted(&mut s);
    assert!(wanted.len() <= 7, "{} subflows wanted", wanted.len());
}

// Proves A5, M3.4-5.
#[test]
fn an_announced_address_that_may_not_be_used_does_not_take_a_path_away() {
    let mut s = Script::client_up();
    s.inject(ack(1, 1).mp(&add_addr(1, [203, 0, 113, 9])));
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    // The engine refuses every subflow to it, as routes may demand; the second path goes to the peer's first address then.
    let mut joined = Vec::new();
    for _ in 0..8 {
        let wants: Vec<_> = s
            .events()
            .into_iter()
            .filter_map(|e| match e {
                Event::WantSubflow {
                    want, local, remote, ..
                } => Some((want, local, remote)),
                _ => None,
            })
            .collect();
        for (want, local, remote) in wants {
            if remote.ip() == IpAddr::from([203, 0, 113, 9]) {
                s.refuse(want);
            } else {
                joined.push((local, remote.to_string()));
            }
        }
    }
    assert_eq!(
        joined,
        [(IpAddr::from([198, 51, 100, 1]), "192.0.2.2:8000".to_string())]
    );
}

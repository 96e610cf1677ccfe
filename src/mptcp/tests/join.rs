//! MP_JOIN (note J1 to J10, P1, P2): who may join, what is answered to a wrong join, and when data may flow.

use super::script::*;
use crate::mptcp::endpoint::{CallError, LocalPath};
use crate::mptcp::{crypto, ConnOptions, Event};

fn two_paths() -> [LocalPath; 2] {
    [path("192.0.2.1"), path("198.51.100.1")]
}

fn join_syn(nonce: u32) -> Seg {
    let token = crypto::token(SERVER_KEY);
    syn().on(SECOND).mp(&format!("1e0c1001{token:08x}{nonce:08x}"))
}

fn wants(s: &mut Script) -> usize {
    let events = s.events();
    events.iter().filter(|e| matches!(e, Event::WantSubflow { .. })).count()
}

// Proves J2, M3.2-3, M5-1.
#[test]
fn j2_wrong_hmac_in_the_syn_ack_is_reset() {
    let mut s = Script::client_up();
    s.set_paths(&two_paths());
    s.open(SECOND, 1);
    s.take_sent();
    s.inject(syn_ack().on(SECOND).mp("1e1010000000000000000000551366b1"));
    assert_eq!(s.expect_reset(SECOND), Some(1));
    s.expect_nothing();
    assert_eq!(s.state(FIRST), Some("ESTABLISHED"));
}

// Proves M3.2-4, M3.7-3.
#[test]
fn j2_syn_ack_without_mp_join_is_reset() {
    let mut s = Script::client_up();
    s.set_paths(&two_paths());
    s.open(SECOND, 1);
    s.take_sent();
    s.inject(syn_ack().on(SECOND));
    assert!(s.expect_reset(SECOND).is_some());
}

// Proves J3, X6, M3.2-3, M5-1.
#[test]
fn j3_wrong_hmac_in_the_third_ack_is_reset_with_reason_3() {
    let mut s = Script::server_up();
    s.inject(join_syn(5));
    s.take_sent();
    s.inject(ack(1, 1).on(SECOND).mp(&format!("1e181000{}", hex(&[0; 20]))));
    assert_eq!(s.expect_reset(SECOND), Some(3));
    assert!(s.state(SECOND).is_none());
}

// Proves M3.2-5.
#[test]
fn j3_third_ack_without_mp_join_is_reset() {
    // note F2: without the option a join is reset, it cannot become anything else.
    let mut s = Script::server_up();
    s.inject(join_syn(5));
    s.take_sent();
    s.inject(data(1, 1, "x").on(SECOND));
    assert!(s.expect_reset(SECOND).is_some());
}

// Proves J4, M3.2-6.
#[test]
fn j4_no_data_before_the_fourth_ack_and_the_third_is_repeated() {
    let mut s = Script::client_up();
    s.set_paths(&two_paths());
    let nonce = 5;
    s.open(SECOND, nonce);
    s.take_sent();
    let hmac = crypto::join_synack_hmac(SERVER_KEY, CLIENT_KEY, 9, nonce);
    s.inject(syn_ack().on(SECOND).mp(&format!("1e101000{hmac:016x}00000009")));
    let third = format!(
        "1e181000{}",
        hex(&crypto::join_ack_hmac(CLIENT_KEY, SERVER_KEY, nonce, 9))
    );
    s.expect(ack(1, 1).on(SECOND).mp(&third));
    for _ in 0..40 {
        s.send([1; 1400]);
    }
    assert!(s.take_sent().iter().all(|seg| seg.flow == FIRST));
    s.advance(1100);
    s.expect_among(ack(1, 1).on(SECOND).mp(&third));
    s.take_sent();
    s.inject(ack(1, 1).on(SECOND).dack32(1));
    assert!(s
        .take_sent()
        .iter()
        .any(|seg| seg.flow == SECOND && !seg.payload.is_empty()));
}

// Proves J5, M3.2-2.
#[test]
fn j5_a_join_is_matched_by_token_whatever_the_port() {
    let mut s = Script::server_up();
    let token = crypto::token(SERVER_KEY);
    s.inject(syn().on(CROSS_PORT).mp(&format!("1e0c1001{token:08x}00000005")));
    let answer = s.take_sent().pop().expect("SYN/ACK");
    assert!(answer.options.mptcp.join.is_some());
}

// Proves J6, X6, M3.2-1.
#[test]
fn j6_unknown_token_is_reset_with_reason_1() {
    let mut s = Script::server_up();
    s.inject(syn().on(SECOND).mp("1e0c1001deadbeef00000005"));
    assert_eq!(s.expect_reset(SECOND), Some(1));
}

// Proves M3.2-8.
#[test]
fn j6_a_retransmitted_join_syn_is_answered_again_alike() {
    let mut s = Script::server_up();
    s.inject(join_syn(5));
    let first = s.waiting();
    s.take_sent();
    s.inject(join_syn(5));
    assert_eq!(s.waiting(), first);
}

// Proves J7.
#[test]
fn j7_no_join_before_the_connection_is_established() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(syn().mp("1e040101"));
    s.take_sent();
    s.inject(join_syn(5));
    assert!(s.expect_reset(SECOND).is_some());
}

// Proves J7, M3.1-12.
#[test]
fn j7_a_client_asks_for_joins_only_when_the_server_has_shown_its_keys() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.set_paths(&two_paths());
    assert_eq!(wants(&mut s), 0);
    s.inject(ack(1, 1).dack32(1));
    assert_eq!(wants(&mut s), 1);
}

// Proves J8, M3.2-9.
#[test]
fn j8_the_address_id_of_the_joiner_counts_not_its_address() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 9);
    // REMOVE_ADDR of that id, which no other subflow has.
    s.inject(ack(1, 1).dack32(1).mp("1e044009"));
    s.expect_among(fin(1, 1).on(SECOND).dack32(1));
    assert_eq!(s.state(FIRST), Some("ESTABLISHED"));
}

// Proves J9.
#[test]
fn j9_on_a_join_of_the_peer_one_segment_until_it_is_acknowledged() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    for _ in 0..60 {
        s.send([1; 1400]);
    }
    let sent = s.take_sent();
    assert_eq!(
        sent.iter()
            .filter(|seg| seg.flow == SECOND && !seg.payload.is_empty())
            .count(),
        1
    );
    s.inject(ack(1, 1401).on(SECOND).dack32(1));
    s.take_sent().iter().find(|seg| seg.flow == SECOND).expect("more data");
}

// Proves J10, M3.9-3.
#[test]
fn j10_a_refused_join_is_not_tried_again_until_a_subflow_closes() {
    let mut s = Script::client_up();
    s.set_paths(&two_paths());
    let nonce = 5;
    s.open(SECOND, nonce);
    s.take_sent();
    let hmac = crypto::join_synack_hmac(SERVER_KEY, CLIENT_KEY, 9, nonce);
    s.inject(syn_ack().on(SECOND).mp(&format!("1e101000{hmac:016x}00000009")));
    s.take_sent();
    // As Linux at its limit: a bare RST after the third ACK.
    s.inject(
        rst(1, 0)
            .on(SECOND)
            .flags(crate::wire::Flags::RST)
            .no_stamps()
            .mp("1e048003"),
    );
    assert!(s.state(SECOND).is_none());
    s.advance(120_000);
    assert_eq!(wants(&mut s), 0);
}

// Proves SEC, M3.2-10, M5-2.
#[test]
fn j_half_open_joins_are_bounded() {
    let mut s = Script::server_up();
    let token = crypto::token(SERVER_KEY);
    for flow in [SECOND, CROSS, CROSS_PORT, THIRD] {
        s.inject(syn().on(flow).mp(&format!("1e0c1001{token:08x}00000005")));
        let sent = s.take_sent();
        assert!(sent[0].options.mptcp.join.is_some(), "flow {flow}");
    }
    // The oldest gives way to who answers.
    s.join_as_server(FOURTH, 5);
    assert_eq!(s.info().unwrap().subflows.len(), 5);
    assert_eq!((s.state(SECOND), s.state(CROSS)), (None, Some("SYN-RECEIVED")));
    assert_eq!(s.state(FOURTH), Some("ESTABLISHED"));
    // They vanish when nobody completes them.
    s.advance(200_000);
    assert_eq!(s.info().unwrap().subflows.len(), 2);
}

// Proves P1.
#[test]
fn p1_mp_prio_applies_to_the_subflow_it_came_on() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(ack(1, 1).on(SECOND).dack32(1).mp("1e0351"));
    let backup = |s: &Script| -> Vec<bool> { s.info().unwrap().subflows.iter().map(|f| f.backup).collect() };
    assert_eq!(backup(&s), [false, true]);
    s.inject(ack(1, 1).on(SECOND).dack32(1).mp("1e0350"));
    assert_eq!(backup(&s), [false, false]);
}

// Proves P1.
#[test]
fn p1_a_path_that_becomes_backup_is_told_by_mp_prio_behind_a_dss() {
    let mut s = Script::client_up();
    s.set_paths(&two_paths());
    s.join_as_client(SECOND);
    let backup = LocalPath {
        backup: true,
        ..path("198.51.100.1")
    };
    s.set_paths(&[path("192.0.2.1"), backup]);
    s.expect(ack(1, 1).on(SECOND).dack32(1).mp("1e0351"));
    s.expect_nothing();
}

// Proves P2, M3.3-16.
#[test]
fn p2_nothing_is_sent_on_a_backup_while_another_works() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(ack(1, 1).on(SECOND).dack32(1).mp("1e0351"));
    for _ in 0..60 {
        s.send([1; 1400]);
    }
    assert!(s.take_sent().iter().all(|seg| seg.flow == FIRST));
    // The first one is reset: the backup takes over, with what was lost.
    s.inject(rst(1, 1));
    let sent = s.take_sent();
    assert!(
        sent.iter().any(|seg| seg.flow == SECOND && !seg.payload.is_empty()),
        "{sent:?}"
    );
}

#[test]
fn a_join_that_was_never_confirmed_is_reset_at_the_end() {
    let mut s = Script::client_up();
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    let (nonce, remote_nonce) = (0xd644_d3e2, 0x5513_66b1_u32);
    s.open(SECOND, nonce);
    let hmac = crypto::join_synack_hmac(SERVER_KEY, CLIENT_KEY, remote_nonce, nonce);
    s.inject(
        syn_ack()
            .on(SECOND)
            .mp(&format!("1e101000{hmac:016x}{remote_nonce:08x}")),
    );
    s.close();
    s.take_sent();
    s.inject(ack(1, 1).dack(2).data_fin(1));
    s.expect_reset(SECOND);
    assert_eq!(s.state(SECOND), None);
}

#[test]
fn a_port_in_use_leaves_the_want_for_another() {
    let mut s = Script::client_up();
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    let events = s.events();
    let want = events.iter().find_map(|e| match e {
        Event::WantSubflow { want, .. } => Some(*want),
        _ => None,
    });
    let want = want.expect("a second subflow");
    let (taken, free) = (s.tuple(FIRST).local, s.tuple(SECOND).local);
    let first = s.ep.open_subflow(s.now, s.conn, want, taken);
    assert_eq!(first, Err(CallError::InUse));
    assert!(s.ep.open_subflow(s.now, s.conn, want, free).is_ok());
}

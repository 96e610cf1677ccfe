//! A peer that wants more than its share, or to spend our time: acknowledgments of what it has not got, in crumbs, tiny windows for
//! hours; and somebody who recorded a join. What is refused, what it costs, and that the connection goes on.
//!
//! Elsewhere: those who do not know the numbers (`off_path`), options and segments without any sense (`hostile`, `hostile_peer`), wrong
//! joins (`join`), floods (`hostile`, `addresses`).

use super::script::*;
use crate::mptcp::crypto;
use crate::mptcp::ConnOptions;
use crate::wire::MpJoin;

/// A client with ten segments of 1000 bytes in flight, and its congestion window then.
fn ten_in_flight() -> (Script, u32) {
    let mut s = Script::plain_client_up(ConnOptions {
        nodelay: true,
        ..ConnOptions::default()
    });
    for i in 0..10 {
        s.send([i; 1000]);
    }
    assert_eq!(s.take_sent().len(), 10);
    s.advance(50);
    // A tail-loss probe may have left meanwhile.
    s.take_sent();
    let cwnd = cwnd(&s);
    (s, cwnd)
}

fn cwnd(s: &Script) -> u32 {
    s.info().expect("it is there").subflows[0].cwnd
}

// Proves SEC.
#[test]
fn acknowledgments_in_crumbs_open_the_window_by_what_they_acknowledge() {
    let (mut s, before) = ten_in_flight();
    for end in (11..=10_001).step_by(10) {
        s.inject(ack(1, end));
    }
    assert_eq!(s.info().expect("it is there").bytes_acked, 10_000);
    assert!(cwnd(&s) - before <= 10_000, "{} after {before}", cwnd(&s));
    s.expect_nothing();
}

// Proves SEC.
#[test]
fn acknowledgments_of_what_was_never_sent_open_nothing() {
    let (mut s, before) = ten_in_flight();
    for n in 0..1000 {
        s.inject(ack(1, 10_002 + n * 1000));
    }
    let info = s.info().expect("it is there");
    assert_eq!((info.error, info.bytes_acked, info.subflows[0].cwnd), (None, 0, before));
    let answers = s.take_sent();
    assert!(answers.len() <= 10, "answers are limited: {}", answers.len());
    s.inject(ack(1, 10_001));
    assert_eq!(s.info().expect("it is there").bytes_acked, 10_000);
}

// Proves D5, SEC.
#[test]
fn a_data_ack_of_what_was_never_sent_frees_nothing() {
    let mut s = Script::server_up();
    s.send("abc");
    s.take_sent();
    for beyond in [5, 1000, 1 << 40] {
        s.inject(ack(1, 4).dack(beyond));
        let info = s.info().expect("it is there");
        assert_eq!((info.error, info.bytes_acked, info.send_queue), (None, 0, 3));
    }
    s.inject(ack(1, 4).dack(4));
    let info = s.info().expect("it is there");
    assert_eq!((info.bytes_acked, info.send_queue), (3, 0));
}

/// Each probe of an hour is answered with a window of one byte: the program's data waits, in a bounded buffer, for little traffic.
// Proves SEC.
#[test]
fn an_hour_of_tiny_windows_costs_a_few_segments_a_second() {
    let mut s = Script::client(
        1,
        2,
        ConnOptions {
            multipath: false,
            send_buffer: 50_000,
            ..ConnOptions::default()
        },
    );
    s.take_sent();
    s.inject(syn_ack().scale(None).win(1));
    s.take_sent();
    s.send(vec![7; 50_000]);
    let (mut segments, mut high) = (0, 1);
    for _ in 0..3600 {
        for sent in s.take_sent() {
            segments += 1;
            high = high.max(s.end_of(&sent));
            s.inject(ack(1, high).win(1));
        }
        s.advance(1000);
    }
    let info = s.info().expect("it is there");
    assert_eq!((info.error, info.send_queue as u64 + info.bytes_acked), (None, 50_000));
    assert!(segments < 5 * 3600, "{segments} segments in an hour");
    for sent in s.take_sent() {
        high = high.max(s.end_of(&sent));
    }
    s.inject(ack(1, high).win(60_000));
    let sent: usize = s.take_sent().iter().map(|sent| sent.payload.len()).sum();
    assert!(sent > 1000, "it goes on: {sent}");
}

/// Both nonces are in the HMAC, and ours is another each time.
// Proves J3, SEC, M5-1.
#[test]
fn a_join_that_was_recorded_is_refused_when_it_comes_again() {
    let mut s = Script::server_up();
    let token = crypto::token(SERVER_KEY);
    let join = |s: &mut Script, flow| {
        s.inject(syn().on(flow).mp(&format!("1e0c1001{token:08x}00000005")));
        match s.take_sent()[0].options.mptcp.join {
            Some(MpJoin::SynAck { nonce, .. }) => nonce,
            ref other => panic!("{other:?}"),
        }
    };
    let nonce = join(&mut s, SECOND);
    let proof = crypto::join_ack_hmac(CLIENT_KEY, SERVER_KEY, 5, nonce);
    let recorded = format!("1e181000{}", hex(&proof));
    s.inject(ack(1, 1).on(SECOND).mp(&recorded));
    s.take_sent();
    assert_ne!(join(&mut s, THIRD), nonce);
    s.inject(ack(1, 1).on(THIRD).mp(&recorded));
    assert_eq!(s.expect_reset(THIRD), Some(3));
    assert_eq!(s.state(THIRD), None);
    assert_eq!([FIRST, SECOND].map(|flow| s.state(flow)), [Some("ESTABLISHED"); 2]);
}

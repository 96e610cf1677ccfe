//! What was lost comes again, and not more often than it must: RFC 6298, RFC 2018, RFC 2883, RFC 8985, and the small
//! rules of sending: Nagle, delayed acknowledgments, zero windows.

use super::script::*;
use crate::mptcp::endpoint::{Algorithm, ConnError};
use crate::mptcp::{ConnOptions, Event};
use crate::time::Duration;

fn up() -> Script {
    Script::plain_client_up(ConnOptions::default())
}

fn nodelay() -> Script {
    Script::plain_client_up(ConnOptions {
        nodelay: true,
        ..ConnOptions::default()
    })
}

/// Connected over a path of 100 ms, with `n` segments of 1000 bytes in flight.
fn in_flight(n: usize) -> Script {
    in_flight_to(syn_ack(), n, 1000)
}

fn in_flight_to(syn_ack: Seg, n: usize, len: usize) -> Script {
    let options = ConnOptions {
        congestion: Algorithm::Cubic,
        multipath: false,
        nodelay: true,
        ..ConnOptions::default()
    };
    let mut s = Script::client(1, 2, options);
    s.advance(100);
    s.inject(syn_ack);
    s.take_sent();
    for i in 0..n {
        s.send(vec![i as u8; len]);
    }
    assert_eq!(s.take_sent().len(), n);
    s
}

fn numbers(s: &mut Script) -> Vec<u8> {
    s.take_sent()
        .iter()
        .filter_map(|seg| seg.payload.first().copied())
        .collect()
}

// Proves SHLD-7, MUST-60.
#[test]
fn nagle_holds_a_small_segment_until_the_last_is_acknowledged() {
    let mut s = up();
    s.send("a");
    s.expect(data(1, 1, "a"));
    s.send("b");
    s.send("c");
    s.expect_nothing();
    s.inject(ack(1, 2));
    s.expect(data(2, 1, "bc"));
}

#[test]
fn a_cork_holds_what_is_incomplete_for_200_ms() {
    let mut s = nodelay();
    s.ep.set_options(s.now, s.conn, &mut |o| o.cork = true);
    s.send("head");
    s.send([1; 2000]);
    let sizes: Vec<_> = s.take_sent().iter().map(|sent| sent.payload.len()).collect();
    assert_eq!(sizes, [1448], "only what is full");
    s.inject(ack(1, 1449));
    s.advance(199);
    s.expect_nothing();
    s.advance(1);
    let sizes: Vec<_> = s.take_sent().iter().map(|sent| sent.payload.len()).collect();
    assert_eq!(sizes, [556]);
    s.inject(ack(1, 2005));
    s.send("next");
    s.advance(199);
    s.expect_nothing();
}

#[test]
fn a_cork_pulled_out_and_the_end_of_the_stream_let_it_go() {
    let corked = || {
        let mut s = up();
        s.ep.set_options(s.now, s.conn, &mut |o| o.cork = true);
        s.send("held");
        s.expect_nothing();
        s
    };
    let mut s = corked();
    s.ep.set_options(s.now, s.conn, &mut |o| o.cork = false);
    s.drain();
    s.expect(data(1, 1, "held"));
    let mut s = corked();
    s.shutdown();
    let sent = s.take_sent();
    assert_eq!(sent[0].payload, b"held");
}

/// Linux: __tcp_sock_set_nodelay.
#[test]
fn nodelay_lets_go_what_a_cork_holds_now_and_no_more() {
    let mut s = up();
    s.ep.set_options(s.now, s.conn, &mut |o| o.cork = true);
    s.send("held");
    s.expect_nothing();
    s.ep.set_options(s.now, s.conn, &mut |o| o.nodelay = true);
    s.drain();
    s.expect(data(1, 1, "held"));
    s.inject(ack(1, 5));
    s.send("later");
    s.expect_nothing();
}

#[test]
fn a_cork_does_not_spin_while_the_window_is_closed() {
    let mut s = nodelay();
    s.ep.set_options(s.now, s.conn, &mut |o| o.cork = true);
    s.send("held");
    s.inject(ack(1, 1).win(0));
    s.advance(60_000);
    s.inject(ack(1, 1).win(1000));
    s.advance(200);
    let sent = s.take_sent();
    assert!(sent.iter().any(|seg| seg.payload == b"held"));
}

// Proves MUST-17.
#[test]
fn nodelay_sends_at_once() {
    let mut s = nodelay();
    s.send("a");
    s.send("b");
    s.expect(data(1, 1, "a"));
    s.expect(data(2, 1, "b"));
}

// Proves MUST-40, SHLD-18, SHLD-19, MUST-58.
#[test]
fn acknowledgments_are_delayed_by_40_ms_or_two_segments_after_the_start() {
    let mut s = up();
    let mut at = 1;
    let mut next = |s: &mut Script, n: usize| {
        s.inject(data(at, 1, vec![0; n]));
        at += n as u32;
        s.take_sent().len()
    };
    for _ in 0..16 {
        assert_eq!(next(&mut s, 1448), 1, "quick acknowledgments at the start");
    }
    assert_eq!(next(&mut s, 1448), 0);
    assert_eq!(next(&mut s, 1448), 1, "every second segment");
    assert_eq!(next(&mut s, 10), 0);
    s.advance(39);
    s.expect_nothing();
    s.advance(1);
    assert_eq!(s.take_sent().len(), 1);
}

// Proves R2018-2, R5681-2.
#[test]
fn out_of_order_data_is_acknowledged_at_once_with_sack_most_recent_first() {
    let mut s = up();
    s.inject(data(101, 1, [1; 100]));
    s.expect(ack(1, 1).sack(&[(101, 201)]));
    s.inject(data(301, 1, [3; 100]));
    s.expect(ack(1, 1).sack(&[(301, 401), (101, 201)]));
    s.inject(data(201, 1, [2; 50]));
    s.expect(ack(1, 1).sack(&[(101, 251), (301, 401)]));
    s.inject(data(1, 1, [0; 100]));
    s.expect(ack(1, 251).sack(&[(301, 401)]));
    s.inject(data(251, 1, [2; 50]));
    s.expect(ack(1, 401));
    assert_eq!(s.recv().unwrap().len(), 400);
}

// Proves R2883-1.
#[test]
fn rfc2883_a_duplicate_is_told_once() {
    let mut s = up();
    s.inject(data(1, 1, [0; 100]));
    s.take_sent();
    s.inject(data(1, 1, [0; 100]));
    s.expect(ack(1, 101).sack(&[(1, 101)]));
    s.inject(data(101, 1, [0; 100]));
    s.expect(ack(1, 201));
}

// Proves R2018-1.
#[test]
fn without_sack_permitted_no_blocks() {
    let mut s = Script::client(
        1,
        2,
        ConnOptions {
            multipath: false,
            ..ConnOptions::default()
        },
    );
    s.inject(syn_ack().no_sack());
    s.take_sent();
    s.inject(data(101, 1, [1; 100]));
    s.expect(ack(1, 1));
}

// Proves R6582-1.
#[test]
fn three_duplicate_acknowledgments_with_sack_send_the_hole_again() {
    let mut s = in_flight(5);
    s.advance(100);
    s.inject(ack(1, 1).sack(&[(1001, 2001)]));
    s.inject(ack(1, 1).sack(&[(1001, 3001)]));
    s.expect_nothing();
    s.inject(ack(1, 1).sack(&[(1001, 4001)]));
    assert_eq!(numbers(&mut s), [0]);
    s.inject(ack(1, 1).sack(&[(1001, 5001)]));
    s.expect_nothing();
}

// Proves R6582-2.
#[test]
fn without_sack_three_duplicates_send_the_first_again_and_a_partial_acknowledgment_the_next() {
    let mut s = in_flight_to(syn_ack().no_sack(), 8, 1000);
    s.advance(100);
    // The first has another window than the SYN/ACK.
    for _ in 0..3 {
        s.inject(ack(1, 1));
    }
    s.expect_nothing();
    s.inject(ack(1, 1));
    assert_eq!(numbers(&mut s), [0]);
    s.inject(ack(1, 1));
    s.inject(ack(1, 1));
    s.expect_nothing();
    // The first has arrived, the fourth has not.
    s.advance(100);
    s.inject(ack(1, 3001));
    assert_eq!(numbers(&mut s), [3]);
    s.advance(100);
    s.inject(ack(1, 8001));
    s.advance(5000);
    s.expect_nothing();
    assert_eq!(s.info().unwrap().subflows[0].tally.retransmits, 2);
}

// Proves R6582-2.
#[test]
fn without_sack_what_says_something_new_is_no_duplicate() {
    let mut s = in_flight_to(syn_ack().no_sack(), 8, 1000);
    s.advance(100);
    for window in 1..10 {
        s.inject(ack(1, 1).win(2000 + window));
    }
    for i in 0..5 {
        s.inject(data(1 + 10 * i, 1, [7; 10]));
    }
    assert_eq!(s.info().unwrap().subflows[0].tally.retransmits, 0);
}

// Proves R3042-1.
#[test]
fn without_sack_two_duplicates_let_two_new_segments_out() {
    // All that the initial window lets out.
    let mut s = in_flight_to(syn_ack().no_sack(), 10, 1448);
    for i in 10..20 {
        s.send([i; 1448]);
    }
    s.expect_nothing();
    s.advance(100);
    s.inject(ack(1, 1).win(500));
    s.expect_nothing();
    s.inject(ack(1, 1).win(500));
    assert_eq!(numbers(&mut s), [10]);
    s.inject(ack(1, 1).win(500));
    // It is paced.
    s.advance(20);
    assert_eq!(numbers(&mut s), [11]);
}

// Proves R8985-1.
#[test]
fn rack_waits_a_quarter_of_the_round_trip_for_reordered_segments() {
    let mut s = in_flight(3);
    s.advance(100);
    s.inject(ack(1, 1).sack(&[(1001, 2001)]));
    s.expect_nothing();
    // 25 ms is the reordering window of a round trip of 100 ms.
    s.advance(24);
    s.expect_nothing();
    s.advance(3);
    assert_eq!(numbers(&mut s), [0]);
}

// Proves R8985-1.
#[test]
fn rack_reordering_within_the_window_is_no_loss() {
    let mut s = in_flight(3);
    s.advance(100);
    s.inject(ack(1, 1).sack(&[(1001, 2001)]));
    s.advance(20);
    s.inject(ack(1, 2001));
    s.inject(ack(1, 3001));
    s.advance(5000);
    s.expect_nothing();
    assert_eq!(s.info().unwrap().subflows[0].tally.retransmits, 0);
}

// Proves R8985-2.
#[test]
fn a_tail_loss_is_probed_before_the_timeout() {
    let mut s = in_flight(5);
    s.advance(100);
    s.inject(ack(1, 3001));
    s.take_sent();
    // Two round trips, 200 ms, after the last transmission: before the RTO, which is 300 ms at least.
    s.advance(120);
    assert_eq!(numbers(&mut s), [4], "the last one");
    s.advance(100);
    s.inject(ack(1, 3001).sack(&[(4001, 5001)]));
    s.advance(30);
    assert_eq!(numbers(&mut s), [3], "the probe's answer shows the hole");
}

// Proves MUST-20, MUST-21.
#[test]
fn after_a_long_sleep_of_the_host_the_probe_has_its_time() {
    let mut s = in_flight(3);
    // Nobody calls while the host sleeps: probe and timeout are overdue together.
    s.now += Duration::from_secs(60);
    s.advance(0);
    let sent = s.take_sent();
    assert_eq!(sent.len(), 1, "one segment asks");
    s.inject(ack(1, 3001));
    s.advance(2000);
    s.expect_nothing();
}

#[test]
fn the_timeout_backs_off_and_ends_with_the_user_timeout() {
    let options = ConnOptions {
        user_timeout: Some(Duration::from_secs(20)),
        ..ConnOptions::default()
    };
    let mut s = Script::plain_client_up(options);
    s.send("lost");
    let first = s.take_sent()[0].at;
    s.advance(19_000);
    let times: Vec<u64> = s
        .take_sent()
        .iter()
        .map(|seg| seg.at.since(first).as_millis() as u64)
        .collect();
    assert!(times.len() >= 4 && times.len() <= 9, "{times:?}");
    for w in times.windows(3).skip(1) {
        assert!(w[2] - w[1] >= (w[1] - w[0]) * 3 / 2, "not doubled: {times:?}");
    }
    s.advance(20_000);
    let error = s.events().iter().find_map(|e| match e {
        Event::Failed(_, error) => Some(*error),
        _ => None,
    });
    assert_eq!(error, Some(ConnError::TimedOut));
}

// Proves R2018-3.
#[test]
fn after_a_timeout_everything_unacknowledged_comes_again_in_order() {
    let mut s = in_flight(4);
    s.advance(3000);
    s.take_sent();
    s.inject(ack(1, 1001));
    let mut seen = numbers(&mut s);
    s.inject(ack(1, 2001));
    seen.extend(numbers(&mut s));
    s.inject(ack(1, 4001));
    assert_eq!(seen, [1, 2, 3]);
    s.advance(10_000);
    s.expect_nothing();
}

// Proves MUST-18.
#[test]
fn karn_an_acknowledgment_of_what_was_sent_twice_is_no_sample() {
    let mut s = in_flight(1);
    let before = s.info().unwrap().subflows[0].srtt_us;
    s.advance(5000);
    s.take_sent();
    s.inject(ack(1, 1001).no_stamps());
    assert_eq!(s.info().unwrap().subflows[0].srtt_us, before);
}

// Proves R2018-3.
#[test]
fn a_lying_sack_past_what_was_sent_is_ignored() {
    let mut s = in_flight(2);
    s.advance(100);
    s.inject(ack(1, 1).sack(&[(2001, 900_001)]));
    s.inject(ack(1, 1).sack(&[(1, 900_001), (5, 5), (2000, 1000)]));
    s.inject(ack(1, 2001));
    s.advance(5000);
    s.expect_nothing();
}

// Proves MUST-35, SHLD-30.
#[test]
fn a_zero_window_stops_data_and_is_probed_with_backoff() {
    let mut s = nodelay();
    s.send("a");
    s.take_sent();
    s.inject(ack(1, 2).win(0));
    // The handshake offered more, and the right edge of a window does not move back here.
    s.send(vec![7; 70_000]);
    let mut all = 1;
    loop {
        let sent: usize = s.take_sent().iter().map(|seg| seg.payload.len()).sum();
        if sent == 0 {
            break;
        }
        all += sent as u32;
        s.inject(ack(1, all + 1).win(0));
    }
    s.advance(30_000);
    let probes = s.take_sent();
    assert!((3..=10).contains(&probes.len()), "{} probes", probes.len());
    assert!(probes.iter().all(|seg| seg.payload.len() <= 1));
    s.inject(ack(1, all + 1).win(63));
    assert!(!numbers(&mut s).is_empty());
}

// Proves MUST-39.
#[test]
fn the_window_reopens_with_an_update_of_ours() {
    let options = ConnOptions {
        recv_buffer: 8192,
        ..ConnOptions::default()
    };
    let mut s = Script::plain_client_up(options);
    for i in 0..8u32 {
        s.inject(data(1 + 1024 * i, 1, [0; 1024]));
    }
    assert_eq!(s.take_sent().pop().unwrap().header.window, 0);
    s.inject(data(8193, 1, [0; 1]));
    s.expect(ack(1, 8193));
    assert_eq!(s.recv().unwrap().len(), 8192);
    let update = s.take_sent().pop().expect("a window update");
    assert_eq!(update.header.window, 8);
}

// Proves MUST-38.
#[test]
fn silly_windows_are_not_filled_while_data_is_in_flight() {
    let mut s = Script::client(
        1,
        2,
        ConnOptions {
            multipath: false,
            nodelay: true,
            ..ConnOptions::default()
        },
    );
    s.inject(syn_ack().scale(None).win(3000));
    s.take_sent();
    s.send(vec![1; 10_000]);
    let sent: Vec<usize> = s.take_sent().iter().map(|seg| seg.payload.len()).collect();
    assert_eq!(sent, [1448, 1448], "104 bytes of window are left alone");
}

/// Two of four segments are acknowledged, and the probe repeated the last one.
fn probed() -> Script {
    let mut s = in_flight(4);
    s.advance(100);
    s.inject(ack(1, 2001));
    s.take_sent();
    s.advance(110);
    assert_eq!(numbers(&mut s), [3]);
    s
}

fn ssthresh(s: &Script) -> u32 {
    s.info().map_or(0, |i| i.subflows[0].ssthresh)
}

#[test]
fn a_loss_that_a_probe_repaired_slows_down() {
    let mut s = probed();
    s.inject(ack(1, 4001));
    assert_eq!(ssthresh(&s), u32::MAX, "the original may have arrived late");
    s.send([4; 1000]);
    s.inject(ack(1, 5001));
    assert!(ssthresh(&s) < u32::MAX);
}

#[test]
fn a_probe_that_was_not_needed_does_not() {
    let mut s = probed();
    s.inject(ack(1, 4001));
    s.inject(ack(1, 4001).sack(&[(3001, 4001)]));
    s.send([4; 1000]);
    s.inject(ack(1, 5001));
    assert_eq!(ssthresh(&s), u32::MAX);
}

#[test]
fn a_probe_carries_new_data_first() {
    let mut s = in_flight(14);
    s.send([14; 1000]);
    s.expect_nothing();
    s.advance(210);
    assert_eq!(numbers(&mut s), [14], "beyond the congestion window");
}

#[test]
fn half_of_a_small_window_is_worth_a_segment() {
    let options = ConnOptions {
        multipath: false,
        ..ConnOptions::default()
    };
    let mut s = Script::client(1, 2, options);
    s.inject(syn_ack().win(1000).scale(Some(0)));
    s.take_sent();
    s.send([0; 400]);
    s.send([0; 2000]);
    let sizes: Vec<_> = s.take_sent().iter().map(|sent| sent.payload.len()).collect();
    assert_eq!(sizes, [400, 600]);
}

#[test]
fn a_larger_send_buffer_is_told_to_who_waits() {
    let mut s = Script::plain_client_up(ConnOptions {
        send_buffer: 1000,
        ..ConnOptions::default()
    });
    assert_eq!(s.ep.send(s.now, s.conn, &[0; 2000]), Ok(1000));
    s.ep.set_options(s.now, s.conn, &mut |o| o.send_buffer = 100_000);
    s.advance(0);
    assert_eq!(s.ep.send_space(s.conn), 99_000);
    assert_eq!(s.ep.poll_event(), Some(Event::Writable(s.conn)));
}

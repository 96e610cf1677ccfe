//! Requirements of the RFCs that no other test is about; `tests/conformance/table.txt` has all of them.

use super::script::*;
use crate::mptcp::endpoint::ConnError;
use crate::mptcp::{ConnOptions, Endpoint, Entropy, Event, FourTuple};
use crate::time::{Duration, Instant};
use crate::wire::SeqNum;

/// The bytes of all options but of those that carry keys.
fn keyless_options(sent: &Sent) -> Vec<u8> {
    let mut options = sent.options;
    options.mptcp.capable = None;
    options.mptcp.fastclose = None;
    let mut bytes = [0; 40];
    let len = options.emit(&mut bytes);
    bytes[..len].to_vec()
}

// Proves K3, M3.1-9.
#[test]
fn keys_are_as_drawn_and_travel_in_two_options_only() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.expect(syn().mp("1e040101"));
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.expect(ack(1, 1).mp("1e1401010b66ce9e6378385cc18f0d286dd989ca"));
    s.inject(ack(1, 1).dack32(1));
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    s.join_as_client(SECOND);
    s.send("some data");
    s.shutdown();
    s.abort();
    let sent = s.take_sent();
    assert!(sent.iter().any(|seg| seg.options.mptcp.fastclose == Some(SERVER_KEY)));
    for segment in &sent {
        let bytes = keyless_options(segment);
        for key in [CLIENT_KEY, SERVER_KEY] {
            let found = bytes.windows(8).any(|window| window == key.to_be_bytes());
            assert!(!found, "a key in {bytes:02x?}");
        }
    }
}

// Proves X6, M3.6-1.
#[test]
fn mp_tcprst_away_from_a_rst_says_nothing() {
    let mut s = Script::client_up();
    s.inject(ack(1, 1).dack32(1).mp("1e048003"));
    s.send("on");
    assert_eq!(s.take_sent()[0].payload, b"on");
    assert_eq!(s.info().unwrap().error, None);
}

// Proves M3.6-2.
#[test]
fn an_unknown_reset_reason_is_a_reset_all_the_same() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(rst(1, 1).on(SECOND).mp("1e0480ff"));
    assert_eq!(s.state(SECOND), None);
    assert_eq!(s.info().unwrap().error, None);
}

// Proves M3.8-3.
#[test]
fn a_dsn_far_outside_of_the_window_is_not_delivered() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "good").dack32(1).map(1, 1, 4));
    s.inject(data(5, 1, "evil").dack32(1).map(1 << 40, 5, 4));
    s.inject(data(9, 1, "past").dack32(1).map((-3i64) as u64, 9, 4));
    assert_eq!(s.recv().unwrap(), b"good");
    s.advance(10_000);
    assert_eq!(s.recv().unwrap_or_default(), b"");
}

// Proves MUST-66.
#[test]
fn a_reset_counts_at_a_closed_window() {
    let options = ConnOptions {
        recv_buffer: 8192,
        ..ConnOptions::default()
    };
    let mut s = Script::plain_client_up(options);
    let mut next = 1;
    let mut window = u16::MAX;
    for _ in 0..100 {
        s.inject(data(next, 1, [7; 500]));
        s.advance(100);
        if let Some(sent) = s.take_sent().last() {
            next = s.ack_of(sent);
            window = sent.header.window;
        }
        if window == 0 {
            break;
        }
    }
    assert_eq!(window, 0, "the window closes when nobody reads");
    s.inject(rst(next, 1));
    let events = s.events();
    assert!(
        events.iter().any(|e| matches!(e, Event::Failed(_, ConnError::Reset))),
        "{events:?}"
    );
}

// Proves MUST-65.
#[test]
fn options_of_syns_stand_on_syns_only() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    let sent = s.expect(syn().mp("1e040101"));
    assert!(sent.options.mss.is_some() && sent.options.window_scale.is_some() && sent.options.sack_permitted);
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.send("data");
    s.shutdown();
    s.advance(5000);
    let sent = s.take_sent();
    assert!(sent.len() > 3);
    for segment in sent {
        let options = segment.options;
        assert!(options.mss.is_none() && options.window_scale.is_none() && !options.sack_permitted);
    }
}

// Proves MUST-37.
#[test]
fn a_zero_window_that_is_answered_is_probed_for_hours() {
    let options = ConnOptions {
        nodelay: true,
        ..ConnOptions::default()
    };
    let mut s = Script::plain_client_up(options);
    s.send(vec![7; 100_000]);
    let mut acked = 0;
    for _ in 0..2000 {
        let sent = s.take_sent();
        // All that the handshake's window allowed is taken; what comes then is probes, and each is answered.
        if sent.iter().any(|seg| seg.payload.len() > 1) {
            acked += sent.iter().map(|seg| seg.payload.len() as u32).sum::<u32>();
        }
        s.inject(ack(1, acked + 1).win(0));
        if s.waiting().is_empty() {
            s.advance(10_000);
        }
    }
    assert_eq!(s.info().unwrap().error, None, "after more than five hours");
    s.take_sent();
    s.inject(ack(1, acked + 1).win(63));
    assert!(s.take_sent().iter().any(|seg| !seg.payload.is_empty()));
}

// Proves MUST-25.
#[test]
fn keepalives_are_off_until_asked_for() {
    let mut s = Script::plain_client_up(ConnOptions::default());
    s.advance(24 * 3_600_000);
    s.expect_nothing();
    assert_eq!(s.info().unwrap().error, None);
}

/// Draws one number after the other.
struct Counting(u64);

impl Entropy for Counting {
    fn next_u64(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// The sequence number of a SYN sent at this time from this port, by a host with this secret.
fn initial_number(secret: u64, at: Instant, port: u16) -> SeqNum {
    let mut ep = Endpoint::new(Box::new(Counting(secret)));
    let tuple = FourTuple {
        local: (core::net::Ipv4Addr::new(192, 0, 2, 1), port).into(),
        remote: (core::net::Ipv4Addr::new(192, 0, 2, 2), 8000).into(),
    };
    ep.connect(at, tuple, path("192.0.2.1"), ConnOptions::default())
        .expect("connect");
    ep.poll_transmit(at).expect("a SYN").header.seq
}

// Proves MUST-8, SHLD-1.
#[test]
fn initial_sequence_numbers_follow_the_clock_and_a_secret() {
    let start = Instant::from_millis(5000);
    let first = initial_number(1, start, 40_000);
    let later = initial_number(1, start + Duration::from_secs(1), 40_000);
    assert_eq!(later.diff(first), 250_000, "a tick every four microseconds");
    // Neither ports nor hosts give each other's numbers away.
    let others = [initial_number(1, start, 40_001), initial_number(77, start, 40_000)];
    for other in others {
        assert!(other.diff(first).unsigned_abs() > 1_000_000, "{other:?} {first:?}");
    }
}

//! MP_CAPABLE (note C1 to C9, F1, F2, F4, O5): what we accept, and what makes us speak plain TCP.

use super::script::*;
use crate::mptcp::endpoint::Fallback;
use crate::mptcp::{crypto, ConnOptions, Event};
use crate::wire::Flags;

fn fallback(s: &Script) -> Option<Fallback> {
    s.info().expect("a connection").fallback
}

/// What a server answers to a SYN with this option: its own option, or none.
fn answer_to(option: &str) -> bool {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(syn().mp(option));
    let sent = s.take_sent().pop().expect("a SYN/ACK");
    assert!(sent.header.flags.has(Flags::SYN.with(Flags::ACK)));
    if let Some(c) = sent.options.mptcp.capable {
        assert_eq!(c.version, 1);
    }
    sent.options.mptcp.capable.is_some()
}

// Proves C2.
#[test]
fn c2_a_syn_option_of_another_length_is_not_there() {
    assert!(answer_to("1e040101"));
    assert!(!answer_to("1e0c0101c18f0d286dd989ca"));
}

// Proves C4.
#[test]
fn c4_version_0_is_plain_tcp_and_a_later_one_is_answered_with_ours() {
    assert!(!answer_to("1e040001"));
    assert!(answer_to("1e040201"));
}

// Proves C3, C5, M3.1-4, M3.1-8.
#[test]
fn c5_flag_strictness() {
    // (flags & 0x1f) must be 1, and B clear.
    for (flags, ok) in [
        (0x01, true),
        (0x81, true),
        (0x21, true),
        (0xa1, true),
        (0x00, false),
        (0x03, false),
        (0x11, false),
        (0x41, false),
        (0xc1, false),
    ] {
        assert_eq!(answer_to(&format!("1e0401{flags:02x}")), ok, "flags {flags:02x}");
    }
}

// Proves C5.
#[test]
fn c5_bad_flags_in_the_syn_ack_mean_plain_tcp() {
    for (option, falls_back) in [
        ("1e0c0101c18f0d286dd989ca", false),
        ("1e0c0141c18f0d286dd989ca", true),
        ("1e0c0103c18f0d286dd989ca", true),
        ("1e0c0201c18f0d286dd989ca", true),
        ("1e040101", true),
    ] {
        let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
        s.take_sent();
        s.inject(syn_ack().mp(option));
        let third = s.take_sent().pop().expect("the third ACK");
        assert_eq!(third.options.mptcp.is_empty(), falls_back, "{option}");
        assert_eq!(fallback(&s).is_some(), falls_back, "{option}");
    }
}

// Proves C7, M3.1-11.
#[test]
fn c7_lost_third_ack_is_repeated_with_the_data_and_with_its_retransmission() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.take_sent();
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.expect(ack(1, 1).mp("1e1401010b66ce9e6378385cc18f0d286dd989ca"));
    // A repeated SYN/ACK means that the third ACK was lost.
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.expect(ack(1, 1).mp("1e1401010b66ce9e6378385cc18f0d286dd989ca"));
    s.send("hello");
    let first = "1e1601010b66ce9e6378385cc18f0d286dd989ca0005";
    s.expect(data(1, 1, "hello").mp(first));
    s.send("world");
    s.take_sent();
    s.advance(2000);
    s.expect_among(data(1, 1, "hello").mp(first));
}

// Proves C7.
#[test]
fn c7_after_a_dss_of_the_server_the_retransmission_is_a_dss() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.take_sent();
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.send("hello");
    s.take_sent();
    s.inject(ack(1, 1).dack32(1));
    s.advance(2000);
    s.expect_among(data(1, 1, "hello").dack32(1).map(1, 1, 5));
}

// Proves C8.
#[test]
fn c8_data_after_a_lost_third_ack_establishes_the_server() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(syn().mp("1e040101"));
    s.take_sent();
    s.inject(data(1, 1, "hello").mp("1e1601010b66ce9e6378385cc18f0d286dd989ca0005"));
    s.expect(ack(1, 6).dack(6));
    assert_eq!(s.recv().unwrap(), b"hello");
    assert_eq!(fallback(&s), None);
}

// Proves C8.
#[test]
fn c8_first_data_may_be_a_plain_dss() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "hello").dack32(1).map(1, 1, 5));
    s.expect(ack(1, 6).dack(6));
    assert_eq!(s.recv().unwrap(), b"hello");
}

// Proves C9.
#[test]
fn c9_a_server_holds_its_data_until_the_third_ack() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(syn().mp("1e040101"));
    s.take_sent();
    assert!(s.events().is_empty(), "not accepted before the third ACK");
    s.inject(ack(1, 1).mp("1e1401010b66ce9e6378385cc18f0d286dd989ca"));
    assert!(matches!(s.events()[..], [Event::Accepted { .. }, ..]));
    s.send("banner");
    s.expect(data(1, 1, "banner").dack32(1).map(1, 1, 6));
}

// Proves K1, M3.1-9, M3.1-10.
#[test]
fn k1_token_collision_draws_another_key() {
    let mut s = Script::server_up();
    // The next connection is offered the same key first.
    s.random(&[SERVER_KEY, 0x0000_0000_0000_0042]);
    s.inject(syn().on(SECOND).mp("1e040101"));
    s.expect(syn_ack().on(SECOND).mp("1e0c01010000000000000042"));
}

// Proves F1, M3.1-13.
#[test]
fn f1_syns_with_mp_capable_three_times_then_without() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.expect(syn().mp("1e040101"));
    s.advance(999);
    s.expect_nothing();
    s.advance(1);
    s.expect(syn().mp("1e040101"));
    s.advance(1000);
    s.expect(syn().mp("1e040101"));
    s.advance(1000);
    s.expect(syn());
    s.inject(syn_ack());
    s.expect(ack(1, 1));
    assert_eq!(fallback(&s), Some(Fallback::SynDropped));
}

// Proves F1.
#[test]
fn f1_mp_capable_in_an_answer_to_a_syn_without_it_does_not_count() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.advance(8000);
    assert!(s.take_sent().len() >= 4);
    // The answer to an early SYN, arrived late: the server may be either way, and its option proves that it is MPTCP.
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.expect(ack(1, 1).mp("1e1401010b66ce9e6378385cc18f0d286dd989ca"));
}

// Proves F2, M3.1-3.
#[test]
fn f2_third_ack_without_keys_is_plain_tcp() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(syn().mp("1e040101"));
    s.take_sent();
    s.inject(ack(1, 1));
    assert_eq!(fallback(&s), Some(Fallback::OptionsStripped));
    s.inject(data(1, 1, "plain"));
    s.expect(ack(1, 6));
    assert_eq!(s.recv().unwrap(), b"plain");
}

// Proves F2.
#[test]
fn f2_third_ack_with_a_key_that_is_not_ours_is_not_multipath() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(syn().mp("1e040101"));
    s.take_sent();
    s.inject(ack(1, 1).mp("1e1401010b66ce9e6378385c0000000000000001"));
    assert!(fallback(&s).is_some());
}

// Proves F4, M3.7-7.
#[test]
fn f4_after_a_fallback_there_is_no_way_back() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.take_sent();
    s.inject(syn_ack());
    s.take_sent();
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    s.inject(ack(1, 1).mp("1e103001c63364022f9c55f3d5cd734c"));
    s.advance(10_000);
    s.expect_nothing();
    assert!(!format!("{:?}", s.events()).contains("WantSubflow"));
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(syn());
    s.inject(ack(1, 1));
    s.take_sent();
    let token = crypto::token(SERVER_KEY);
    s.inject(syn().on(SECOND).mp(&format!("1e0c1001{token:08x}d644d3e2")));
    assert!(s.expect_reset(SECOND).is_some());
}

// Proves O5, MUST-10.
#[test]
fn o5_simultaneous_open_is_plain_tcp() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.take_sent();
    s.inject(syn().mp("1e040101"));
    s.expect(syn_ack());
    s.inject(syn_ack());
    s.take_sent();
    s.inject(ack(1, 1));
    assert_eq!(s.state(FIRST), Some("ESTABLISHED"));
    assert_eq!(fallback(&s), Some(Fallback::SimultaneousOpen));
    s.send("x");
    s.expect_among(data(1, 1, "x"));
}

#[test]
fn o2_a_cookie_like_third_ack_that_comes_twice_is_harmless() {
    let mut s = Script::server_up();
    s.inject(ack(1, 1).mp("1e1401010b66ce9e6378385cc18f0d286dd989ca"));
    s.inject(data(1, 1, "hi").mp("1e1601010b66ce9e6378385cc18f0d286dd989ca0002"));
    s.expect_among(ack(1, 3).dack(3));
    assert_eq!(s.recv().unwrap(), b"hi");
}

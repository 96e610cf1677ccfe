//! DSS checksums and what follows from a wrong one (note S1 to S6, F3, F5), infinite mappings and MP_FAIL.

use super::script::*;
use crate::mptcp::endpoint::Fallback;
use crate::mptcp::{ConnOptions, Event};
use crate::wire::{Flags, WireDsn};

fn with_checksum() -> ConnOptions {
    ConnOptions {
        checksum: true,
        ..ConnOptions::default()
    }
}

/// A server whose client asked for checksums.
fn summed_server() -> Script {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.checksums = true;
    s.inject(syn().mp("1e040181"));
    s.inject(ack(1, 1).mp("1e1401810b66ce9e6378385cc18f0d286dd989ca"));
    s.take_sent();
    s.events();
    s
}

fn fallback(s: &Script) -> Option<Fallback> {
    s.info().and_then(|i| i.fallback)
}

// Proves C3, S1, M3.1-5, M3.1-6.
#[test]
fn s1_either_side_switches_checksums_on() {
    for (option, flags) in [(false, "81"), (true, "01"), (true, "81")] {
        let options = ConnOptions {
            checksum: option,
            ..ConnOptions::default()
        };
        let mut s = Script::client(CLIENT_KEY, SERVER_KEY, options);
        s.checksums = true;
        s.inject(syn_ack().mp(&format!("1e0c01{flags}c18f0d286dd989ca")));
        s.inject(ack(1, 1).dack32(1));
        s.take_sent();
        s.send("abc");
        s.expect(data(1, 1, "abc").dack32(1).map(1, 1, 3));
    }
}

// Proves S1, M3.3-4.
#[test]
fn s1_a_map_without_checksum_first_of_all_is_a_fallback() {
    let mut s = summed_server();
    s.checksums = false;
    s.inject(data(1, 1, "abc").dack32(1).map(1, 1, 3));
    assert!(fallback(&s).is_some());
    assert_eq!(s.recv().unwrap(), b"abc");
}

// Proves S1, M3.3-4.
#[test]
fn s1_a_map_with_checksum_where_none_was_agreed_on_a_join_is_reset() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.checksums = true;
    s.inject(data(1, 1, "abc").on(SECOND).dack32(1).map(1, 1, 3));
    assert_eq!(s.expect_reset(SECOND), Some(1));
}

// Proves S3, M3.7-4.
#[test]
fn s3_a_wrong_checksum_on_one_of_two_subflows_resets_it_with_mp_fail() {
    let mut s = summed_server();
    s.join_as_server(SECOND, 1);
    s.inject(data(1, 1, "bad").on(SECOND).dack32(1).map(1, 1, 3).wrong_sum());
    let sent = s.take_sent();
    let rst = sent.iter().find(|seg| seg.header.flags.has(Flags::RST)).expect("a RST");
    assert_eq!(rst.flow, SECOND);
    assert_eq!(rst.options.mptcp.fail, Some(crate::mptcp::crypto::idsn(CLIENT_KEY) + 1));
    assert_eq!(rst.options.mptcp.tcprst.map(|r| r.reason), Some(6));
    assert_eq!(s.recv().unwrap(), b"", "nothing of it is delivered");
    s.inject(data(1, 1, "good").dack32(1).map(1, 1, 4));
    assert_eq!(s.recv().unwrap(), b"good");
}

// Proves S4.
#[test]
fn s4_a_wrong_checksum_before_any_good_one_is_a_fallback_without_mp_fail() {
    let mut s = summed_server();
    s.inject(data(1, 1, "ALG").dack32(1).map(1, 1, 3).wrong_sum());
    assert_eq!(fallback(&s), Some(Fallback::ChecksumFailed));
    assert_eq!(s.recv().unwrap(), b"ALG");
    assert!(s.take_sent().iter().all(|seg| seg.options.mptcp.fail.is_none()));
    s.inject(data(4, 1, "more"));
    assert_eq!(s.recv().unwrap(), b"more");
}

// Proves S4, M3.7-5.
#[test]
fn s4_a_wrong_checksum_later_is_answered_with_mp_fail_and_the_infinite_map_accepted() {
    let mut s = summed_server();
    s.inject(data(1, 1, "good").dack32(1).map(1, 1, 4));
    s.take_sent();
    s.inject(data(5, 1, "BAD").dack32(1).map(5, 5, 3).wrong_sum());
    let sent = s.take_sent();
    let fail = sent.iter().find_map(|seg| seg.options.mptcp.fail);
    assert_eq!(fail, Some(crate::mptcp::crypto::idsn(CLIENT_KEY) + 5));
    assert!(sent.iter().all(|seg| !seg.header.flags.has(Flags::RST)));
    // The peer answers with MP_FAIL and an infinite mapping, and then without options.
    s.inject(data(8, 1, "inf").dack32(1).map(8, 8, 0));
    s.inject(data(11, 1, "plain"));
    assert_eq!(s.recv().unwrap(), b"goodBADinfplain");
    s.advance(130_000);
    assert!(
        s.info().is_some_and(|i| i.error.is_none()),
        "the infinite map was the answer"
    );
}

// Proves S4.
#[test]
fn s4_unanswered_mp_fail_ends_the_connection_after_120_s() {
    let mut s = summed_server();
    s.inject(data(1, 1, "good").dack32(1).map(1, 1, 4));
    s.inject(data(5, 1, "BAD").dack32(1).map(5, 5, 3).wrong_sum());
    s.take_sent();
    s.advance(119_000);
    assert_eq!(s.info().unwrap().error, None);
    s.advance(2000);
    assert!(s.info().is_none_or(|i| i.error.is_some()));
}

// Proves S4, M3.7-6.
#[test]
fn s4_mp_fail_of_the_peer_is_answered_with_mp_fail_and_an_infinite_map() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, with_checksum());
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.inject(ack(1, 1).dack32(1));
    s.send("hello");
    s.take_sent();
    let dsn = crate::mptcp::crypto::idsn(CLIENT_KEY) + 1;
    s.inject(ack(1, 6).dack32(1).mp(&format!("1e0c6000{:016x}", dsn.0)));
    assert_eq!(fallback(&s), Some(Fallback::ChecksumFailed));
    let sent = s.take_sent();
    assert!(sent.iter().any(|seg| seg.options.mptcp.fail.is_some()), "{sent:?}");
    s.send("next");
    // It is repeated with each repetition of the data, as long as nothing says that the peer has heard.
    for _ in 0..4 {
        let sent = s.take_sent();
        let data = sent.iter().filter(|seg| seg.payload == b"next");
        let maps: Vec<_> = data.map(|seg| seg.options.mptcp.dss.and_then(|d| d.map)).collect();
        assert!(!maps.is_empty());
        for map in maps {
            let map = map.expect("an infinite mapping");
            assert_eq!((map.len, map.ssn, map.checksum), (0, 6, Some(0)));
            assert_eq!(map.dsn, WireDsn::Long(dsn + 5));
        }
        s.advance(5000);
    }
}

// Proves S5.
#[test]
fn s5_mp_fail_after_a_join_is_no_fallback() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(ack(1, 1).dack32(1).mp("1e0c60000000000000000001"));
    assert_eq!(fallback(&s), None);
}

// Proves S6.
#[test]
fn s6_a_checksummed_mapping_is_delivered_whole_or_not_at_all() {
    let mut s = summed_server();
    let whole = b"helloworld";
    let dsn = crate::mptcp::crypto::idsn(CLIENT_KEY) + 1;
    let sum = crate::mptcp::crypto::dss_checksum(dsn, 1, 10, [&whole[..]]);
    let option = format!("1e18200d{:08x}{:016x}00000001000a{sum:04x}", 0, dsn.0);
    s.inject(data(1, 1, "hello").mp(&option));
    assert_eq!(s.recv().unwrap(), b"");
    s.inject(data(6, 1, "world").mp(&option));
    assert_eq!(s.recv().unwrap(), whole);
}

// Proves F3, M3.7-1.
#[test]
fn f3_first_data_without_options_is_a_fallback_and_the_peer_is_told() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "plain"));
    assert_eq!(fallback(&s), Some(Fallback::OptionsStripped));
    assert_eq!(s.recv().unwrap(), b"plain");
    assert!(s.events().iter().any(|e| matches!(e, Event::FellBack(..))));
    s.inject(data(6, 1, "more"));
    assert_eq!(s.recv().unwrap(), b"more");
}

// Proves F3, M3.7-2.
#[test]
fn f3_first_data_of_ours_acknowledged_without_a_dss_is_a_fallback() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.send("hello");
    s.take_sent();
    s.inject(ack(1, 6));
    assert_eq!(fallback(&s), Some(Fallback::OptionsStripped));
    s.send("world");
    assert_eq!(s.take_sent()[0].payload, b"world");
    s.inject(data(1, 11, "answer"));
    assert_eq!(s.recv().unwrap(), b"answer");
}

// Proves F3.
#[test]
fn f3_unmapped_data_after_good_maps_is_no_fallback() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "good").dack32(1).map(1, 1, 4));
    for _ in 0..21 {
        s.inject(data(5, 1, "bare"));
    }
    assert_eq!(s.recv().unwrap(), b"good");
    assert_eq!(s.info().unwrap().fallback, None);
    assert!(s.expect_reset(FIRST).is_some());
}

// Proves M3.3-5.
#[test]
fn f3_an_infinite_map_at_once_is_a_fallback() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "inf").dack32(1).map(1, 1, 0));
    assert_eq!(fallback(&s), Some(Fallback::PeerFellBack));
    assert_eq!(s.recv().unwrap(), b"inf");
    s.inject(data(4, 1, "plain"));
    assert_eq!(s.recv().unwrap(), b"plain");
}

// Proves F5.
#[test]
fn f5_an_infinite_map_after_a_join_resets_the_subflow() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(data(1, 1, "inf").dack32(1).map(1, 1, 0));
    assert_eq!(fallback(&s), None);
    s.expect_reset(FIRST);
}

// Proves M3.7-7.
#[test]
fn f_plain_close_after_a_fallback() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "plain"));
    s.recv().unwrap();
    s.take_sent();
    s.inject(fin(6, 1));
    let answer = s.take_sent().pop().expect("an acknowledgment");
    assert_eq!(s.ack_of(&answer), 7);
    assert!(s.recv().is_err(), "end of the stream");
    s.close();
    let sent = s.take_sent();
    assert!(sent.iter().any(|seg| seg.header.flags.has(Flags::FIN)));
}

//! DSS (note D1 to D11, O1, O4): mappings, DATA_ACKs and what a peer can get wrong in them.

use super::script::*;
use crate::mptcp::ConnOptions;
use crate::wire::{options_len, WireDsn};

fn small(recv_buffer: usize) -> ConnOptions {
    ConnOptions {
        recv_buffer,
        ..ConnOptions::default()
    }
}

// Proves D3, M3.3-3.
#[test]
fn d3_data_acks_have_32_bits_before_any_map_and_64_after() {
    let mut s = Script::client_up();
    s.send("a");
    s.expect(data(1, 1, "a").dack32(1).map(1, 1, 1));
    s.inject(data(1, 2, "b").dack(2).map(1, 1, 1));
    s.expect(ack(2, 2).dack(2));
}

/// Linux falls back when the server speaks first and its first segment has no DATA_ACK.
#[test]
fn d3_every_segment_of_a_run_carries_a_data_ack() {
    let mut s = Script::server_up();
    s.send([7; 9000]);
    let sent = s.take_sent();
    let runs = sent
        .windows(2)
        .filter(|two| two[0].options.mptcp.dss == two[1].options.mptcp.dss);
    assert!(runs.count() > 0, "no run of segments under one mapping");
    for segment in sent {
        let dss = segment.options.mptcp.dss.expect("a DSS");
        assert!(dss.data_ack.is_some(), "{dss:?}");
    }
}

// Proves D4, M3.3-3.
#[test]
fn d4_short_numbers_are_completed_near_what_is_known() {
    // A DSN and a DATA_ACK of 32 bits each: flags 05 (ACK, map), subtype 2.
    let mut s = Script::server_up();
    s.send("abc");
    s.take_sent();
    let their = crate::mptcp::crypto::idsn(CLIENT_KEY) + 1;
    let our = crate::mptcp::crypto::idsn(SERVER_KEY) + 4;
    let option = format!("1e122005{:08x}{:08x}000000010002", our.0 as u32, their.0 as u32);
    s.inject(data(1, 4, "hi").mp(&option));
    assert_eq!(s.recv().unwrap(), b"hi");
    assert_eq!(s.info().unwrap().bytes_acked, 3);
}

// Proves D5, M3.8-1.
#[test]
fn d5_data_ack_of_what_was_never_sent_is_ignored() {
    let mut s = Script::client_up();
    s.send("abc");
    s.take_sent();
    for wrong in [5, 1 << 31, 1 << 40] {
        s.inject(ack(1, 4).dack(wrong));
        assert_eq!(s.info().unwrap().bytes_acked, 0, "DATA_ACK {wrong}");
    }
    s.inject(ack(1, 4).dack(4));
    assert_eq!(s.info().unwrap().bytes_acked, 3);
}

// Proves D5, M3.3-6.
#[test]
fn d5_data_is_kept_until_it_is_acknowledged_at_data_level_and_sent_again() {
    let mut s = Script::client_up();
    s.send("hello");
    s.take_sent();
    s.inject(ack(1, 6).dack(1));
    s.expect_nothing();
    s.advance(3000);
    // As in run R: the same data number on new subflow bytes.
    s.expect_among(data(6, 1, "hello").dack32(1).map(1, 6, 5));
    s.inject(ack(1, 11).dack(6));
    s.take_sent();
    s.advance(60_000);
    s.expect_nothing();
}

// Proves D5.
#[test]
fn d5_data_ack_on_the_other_subflow_counts() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.send("hello");
    let flow = s.take_sent()[0].flow;
    s.inject(ack(1, 1).on(1 - flow).dack(6));
    assert_eq!(s.info().unwrap().bytes_acked, 5);
}

// Proves D6, M3.3-1.
#[test]
fn d6_retransmission_repeats_its_map_bit_for_bit() {
    let mut s = Script::client_up();
    s.send("hello");
    s.send("again");
    s.take_sent();
    s.advance(1500);
    s.expect_among(data(1, 1, "hello").dack32(1).map(1, 1, 5));
}

// Proves D6, M3.3-2.
#[test]
fn d6_data_without_a_map_waits_for_it_and_is_reset_with_reason_6_when_it_never_comes() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    // Not acknowledged: a middlebox that merges segments may have dropped the map, and the bytes come again with it.
    for _ in 0..20 {
        s.inject(data(1, 1, "hello").on(SECOND).dack32(1));
        s.expect(ack(1, 1).on(SECOND).dack32(1));
    }
    s.inject(data(1, 1, "hello").on(SECOND).dack32(1));
    assert_eq!(s.expect_reset(SECOND), Some(6));
    assert_eq!(s.state(FIRST), Some("ESTABLISHED"));
    assert_eq!(s.recv().unwrap(), b"");
}

#[test]
fn d6_the_map_that_comes_late_is_in_time() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(data(1, 1, "hello").on(SECOND).dack32(1));
    s.take_sent();
    s.inject(data(1, 1, "hello").on(SECOND).dack32(1).map(1, 1, 5));
    s.expect_among(ack(1, 6).on(SECOND).dack(6));
    assert_eq!(s.recv().unwrap(), b"hello");
}

// Proves D6, M3.3-1.
#[test]
fn d6_a_contradicting_map_is_reset() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(data(1, 1, "hello").on(SECOND).dack32(1).map(1, 1, 10));
    s.take_sent();
    s.inject(data(6, 1, "world").on(SECOND).dack32(1).map(100, 1, 10));
    assert_eq!(s.expect_reset(SECOND), Some(1));
    assert_eq!(s.recv().unwrap(), b"hello");
}

#[test]
fn d6_an_identical_map_repeated_is_fine() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "hello").dack32(1).map(1, 1, 10));
    s.inject(data(6, 1, "world").dack32(1).map(1, 1, 10));
    assert_eq!(s.recv().unwrap(), b"helloworld");
}

#[test]
fn d6_bytes_of_a_known_map_need_no_option() {
    // A middlebox may split segments and keep the option on the first part only.
    let mut s = Script::server_up();
    s.inject(data(1, 1, "hello").dack32(1).map(1, 1, 10));
    s.inject(data(6, 1, "world"));
    assert_eq!(s.recv().unwrap(), b"helloworld");
    assert_eq!(s.info().unwrap().fallback, None);
}

// Proves D7.
#[test]
fn d7_one_map_never_exceeds_what_it_can_say_and_comes_with_its_first_byte() {
    let mut s = Script::client_up();
    s.send(vec![3; 20_000]);
    let mut next = 1;
    for seg in s.take_sent() {
        let map = seg
            .options
            .mptcp
            .dss
            .and_then(|d| d.map)
            .expect("a map on every segment");
        assert!(map.ssn <= next && next + seg.payload.len() as u32 <= map.ssn + u32::from(map.len));
        next += seg.payload.len() as u32;
    }
    assert!(next > 10_000);
}

// Proves D8.
#[test]
fn d8_the_receiver_drops_what_it_has_by_data_number() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(data(1, 1, "hello").on(SECOND).dack32(1).map(1, 1, 5));
    s.inject(data(1, 1, "hello world").dack32(1).map(1, 1, 11));
    assert_eq!(s.recv().unwrap(), b"hello world");
    s.inject(data(6, 1, "llo").on(SECOND).dack32(1).map(3, 6, 3));
    assert_eq!(s.recv().unwrap(), b"");
}

// Proves D8.
#[test]
fn d8_two_subflows_fill_each_others_gaps() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(data(1, 1, "world").on(SECOND).dack32(1).map(6, 1, 5));
    s.expect_among(ack(1, 6).on(SECOND).dack(1));
    assert_eq!(s.recv().unwrap(), b"");
    s.inject(data(1, 1, "hello").dack32(1).map(1, 1, 5));
    s.expect_among(ack(1, 6).dack(11));
    assert_eq!(s.recv().unwrap(), b"helloworld");
}

// Proves D9, M3.3-12, MUST-34.
#[test]
fn d9_the_window_is_one_and_its_right_edge_never_shrinks() {
    // The SYN/ACK offered 64240 bytes; what offers less takes nothing back.
    let mut s = Script::client_up();
    s.inject(ack(1, 1).dack(1).win(4));
    s.inject(ack(1, 1).dack(1).win(1));
    s.send(vec![0; 200_000]);
    let sent: usize = s.take_sent().iter().map(|seg| seg.payload.len()).sum();
    assert!(sent > 4096, "{sent}");
}

// Proves D9.
#[test]
fn d9_our_window_counts_from_the_data_ack() {
    let mut s = Script::server_up_with(small(64 << 10));
    s.inject(data(1, 1, vec![1; 1400]).dack32(1).map(1, 1, 1400));
    let first = s.take_sent().pop().expect("an acknowledgment");
    assert_eq!(usize::from(first.header.window) << 10, ((64 << 10) - 1400) >> 10 << 10);
    s.recv().unwrap();
}

// Proves D11, MUST-36.
#[test]
fn d11_zero_window_probe_is_answered_and_the_window_is_probed() {
    let mut s = Script::client_up();
    s.send(vec![9; 70_000]);
    let mut all = 0;
    loop {
        let sent: usize = s.take_sent().iter().map(|seg| seg.payload.len()).sum();
        if sent == 0 {
            break;
        }
        all += sent as u32;
        // Acknowledged, but the window's edge stays where the SYN/ACK and the first acknowledgment put it.
        s.inject(ack(1, all + 1).dack(u64::from(all) + 1).win(0));
    }
    assert_eq!(all, 64_512, "exactly the window");
    s.advance(60_000);
    let probes = s.take_sent();
    assert!(probes.len() >= 3, "{} probes", probes.len());
    // The window opens with an acknowledgment: data flows again.
    s.inject(ack(1, all + 1).dack(u64::from(all) + 1).win(63));
    assert!(s.take_sent().iter().any(|seg| !seg.payload.is_empty()));
}

// Proves O4.
#[test]
fn o1_o4_one_sack_block_fits_beside_a_64_bit_data_ack_and_two_beside_32_bits() {
    let mut s = Script::server_up();
    for at in [101u32, 301, 501] {
        s.inject(data(at, 1, [1; 100]).dack32(1).map(u64::from(at), at, 100));
    }
    let acks = s.take_sent();
    let last = acks.last().expect("acknowledgments");
    assert!(matches!(
        last.options.mptcp.dss.unwrap().data_ack,
        Some(WireDsn::Short(_))
    ));
    assert_eq!(last.options.sack.as_slice().len(), 2);
    assert_eq!(options_len(&last.options), 40);
    s.inject(data(1, 1, [1; 50]).dack32(1).map(1, 1, 50));
    let last = s.take_sent().pop().expect("an acknowledgment");
    assert!(matches!(
        last.options.mptcp.dss.unwrap().data_ack,
        Some(WireDsn::Long(_))
    ));
    assert_eq!(last.options.sack.as_slice().len(), 1);
}

// Proves O1, MUST-16.
#[test]
fn o1_a_full_sized_segment_fits_the_mtu_with_all_its_options() {
    let mut s = Script::client_up();
    s.send(vec![1; 10_000]);
    for seg in s.take_sent() {
        let bytes = 40 + options_len(&seg.options) + seg.payload.len();
        assert!(bytes <= 1500, "{bytes} bytes");
    }
}

// Proves D2.
#[test]
fn d2_maps_are_relative_to_the_isn_also_across_the_wrap() {
    // The script's ISN lies 256 below the wrap.
    let mut s = Script::server_up();
    let mut at = 1;
    for _ in 0..4 {
        s.inject(data(at, 1, vec![at as u8; 100]).dack32(1).map(u64::from(at), at, 100));
        at += 100;
    }
    assert_eq!(s.recv().unwrap().len(), 400);
}

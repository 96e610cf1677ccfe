//! What a Linux peer does that has surprised others (notes on peers in ARCHITECTURE.md), and losses at awkward moments.

use super::script::*;
use crate::mptcp::endpoint::Fallback;
use crate::mptcp::{crypto, ConnOptions, Event};
use crate::wire::{Flags, WireDsn};

#[test]
fn the_server_s_first_data_may_come_before_the_third_ack_was_confirmed() {
    // C9, B: the greeting itself is the proof that the server has our key.
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.take_sent();
    s.inject(data(1, 1, "220 ready").dack32(1).map(1, 1, 9));
    s.expect(ack(1, 10).dack(10));
    s.send("HELO");
    s.expect(data(1, 10, "HELO").dack(10).map(1, 1, 4));
}

#[test]
fn a_server_that_falls_back_at_our_third_ack_is_understood_by_its_bare_data() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.take_sent();
    s.inject(data(1, 1, "220 ready"));
    assert_eq!(s.info().unwrap().fallback, Some(Fallback::OptionsStripped));
    assert_eq!(s.recv().unwrap(), b"220 ready");
}

#[test]
fn a_server_that_falls_back_is_understood_by_its_bare_fin() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.take_sent();
    s.inject(fin(1, 1));
    assert!(s.recv().is_err(), "end of the stream");
}

#[test]
fn a_bare_window_update_after_a_dss_is_no_stripping() {
    // ACKs from TIME_WAIT and of request sockets carry no MPTCP option (D5).
    let mut s = Script::client_up();
    s.inject(ack(1, 1));
    s.send("abc");
    s.take_sent();
    s.inject(ack(1, 4).dack32(4));
    s.inject(ack(1, 4));
    assert_eq!(s.info().unwrap().fallback, None);
}

// Proves M3.3-6.
#[test]
fn a_data_ack_that_lags_is_waited_for_without_a_storm() {
    let mut s = Script::client_up();
    s.send("hello");
    s.take_sent();
    s.inject(ack(1, 6).dack32(1));
    s.advance(150);
    s.expect_nothing();
    s.inject(ack(1, 6).dack32(6));
    s.advance(30_000);
    s.expect_nothing();
}

// Proves D9, M3.3-13.
#[test]
fn the_greatest_right_edge_of_all_subflows_counts() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    // A small window on the second subflow does not take back what the first offered.
    s.inject(ack(1, 1).on(SECOND).dack32(1).win(1));
    for _ in 0..8 {
        s.send([1; 1400]);
    }
    let sent: usize = s.take_sent().iter().map(|seg| seg.payload.len()).sum();
    assert!(sent > 8000, "{sent}");
}

// Proves M3.2-8.
#[test]
fn a_lost_syn_ack_of_a_join_is_asked_for_again_with_the_same_nonce() {
    let mut s = Script::client_up();
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    s.open(SECOND, 0xd644_d3e2);
    let join = syn().on(SECOND).mp("1e0c1001e6c9e5e2d644d3e2");
    s.expect(join.clone());
    s.advance(1000);
    s.expect(join);
    // A dead path is left to path management: it wants the flow again later.
    s.advance(60_000);
    assert!(s.take_sent().len() <= 1);
    assert!(s.state(SECOND).is_none());
    assert!(s.events().iter().any(|e| matches!(e, Event::WantSubflow { .. })));
}

// Proves J4, M3.2-7.
#[test]
fn a_lost_fourth_ack_is_answered_again() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    // The client repeats its third ACK.
    let hmac = crypto::join_ack_hmac(CLIENT_KEY, SERVER_KEY, 0xd644_d3e2, 0x5513_66b1);
    s.inject(ack(1, 1).on(SECOND).mp(&format!("1e181000{}", hex(&hmac))));
    s.expect(ack(1, 1).on(SECOND).dack32(1));
}

// Proves M3.3-14.
#[test]
fn data_of_a_silent_subflow_comes_again_on_the_other() {
    let mut s = Script::client_up();
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    s.join_as_client(SECOND);
    s.send("precious");
    let sent = s.take_sent().remove(0);
    let other = 1 - sent.flow;
    s.advance(5000);
    let again = s.take_sent();
    let there = again.iter().find(|seg| seg.flow == other && seg.payload == b"precious");
    let map = there
        .and_then(|seg| seg.options.mptcp.dss)
        .and_then(|d| d.map)
        .expect("a mapping");
    assert_eq!(map.dsn, WireDsn::Long(crypto::idsn(CLIENT_KEY) + 1));
    // Acknowledged there, it is over everywhere but for the subflow's own sequence space.
    s.inject(ack(1, 9).on(other).dack32(9));
    assert_eq!(s.info().unwrap().bytes_acked, 8);
}

/// A box takes the DSS off what comes back on one path: TCP's acknowledgments come, DATA_ACKs do not. The other path is asked.
// Proves M3.3-14, D5.
#[test]
fn data_acks_that_one_path_swallows_are_asked_for_on_the_other() {
    let mut s = Script::client_up();
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    s.join_as_client(SECOND);
    s.send("precious");
    let mut silent = s.take_sent().remove(0);
    let other = 1 - silent.flow;
    for _ in 0..4 {
        s.inject(ack(1, s.end_of(&silent)).on(silent.flow));
        s.advance(3000);
        let sent = s.take_sent();
        if sent.iter().any(|seg| seg.flow == other && seg.payload.is_empty()) {
            s.inject(ack(1, 1).on(other).dack32(9));
            assert_eq!(s.info().expect("it is there").bytes_acked, 8);
            return;
        }
        if let Some(again) = sent
            .into_iter()
            .find(|seg| seg.flow == silent.flow && !seg.payload.is_empty())
        {
            silent = again;
        }
    }
    panic!("nobody asked the other path");
}

// Proves M3.3-14.
#[test]
fn a_stalled_subflow_s_late_copy_is_dropped_by_data_number() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(data(1, 1, "again").on(SECOND).dack32(1).map(1, 1, 5));
    s.inject(data(1, 1, "again").dack32(1).map(1, 1, 5));
    s.inject(data(6, 1, "!").dack32(1).map(6, 6, 1));
    assert_eq!(s.recv().unwrap(), b"again!");
}

// Proves M6-2.
#[test]
fn coalesced_segments_carry_one_option_and_split_ones_repeat_it() {
    let mut s = Script::server_up();
    // GRO: three segments of one map as one, longer than any MTU.
    s.inject(data(1, 1, vec![1; 4000]).dack32(1).map(1, 1, 6000));
    // TSO in the network: the option on both halves, relative to the map, not to the half.
    s.inject(data(4001, 1, vec![1; 1000]).dack32(1).map(1, 1, 6000));
    s.inject(data(5001, 1, vec![1; 1000]).dack32(1).map(1, 1, 6000));
    assert_eq!(s.recv().unwrap(), vec![1; 6000]);
}

#[test]
fn one_segment_with_the_end_of_one_map_and_the_start_of_another() {
    // Merged on the way, the second map lost: what it covered is not acknowledged and comes again, with it.
    let mut s = Script::server_up();
    s.inject(data(1, 1, "helloworld").dack32(1).map(1, 1, 5));
    s.expect_among(ack(1, 6).dack(6));
    assert_eq!(s.recv().unwrap(), b"hello");
    s.inject(data(6, 1, "world").dack32(1).map(6, 6, 5));
    assert_eq!(s.recv().unwrap(), b"world");
}

// Proves M6-1.
#[test]
fn rewritten_ports_and_isns_do_not_matter_to_a_join() {
    // The token says whose it is, from whatever address: NAT (J5, J8).
    let mut s = Script::server_up();
    s.join_as_server(THIRD, 1);
    s.inject(data(1, 1, "via NAT").on(THIRD).dack32(1).map(1, 1, 7));
    assert_eq!(s.recv().unwrap(), b"via NAT");
}

// Proves A3.
#[test]
fn an_echo_of_a_wrong_address_is_no_echo() {
    let mut s = Script::server_up();
    s.set_paths(&[path("192.0.2.2"), path("198.51.100.2")]);
    s.take_sent();
    s.inject(ack(1, 1).mp("1e083101c0000263"));
    s.advance(1100);
    assert!(
        s.take_sent().iter().any(|seg| seg.options.mptcp.add_addr.is_some()),
        "announced again"
    );
}

// Proves M3.5-3.
#[test]
fn a_reset_of_ours_on_the_last_subflow_carries_fastclose() {
    // X5: a plain RST would leave a Linux program waiting for 60 s.
    let mut s = Script::server_up();
    s.inject(data(1, 1, "good").dack32(1).map(1, 1, 4));
    s.take_sent();
    s.inject(data(5, 1, "next").dack32(1).map(5, 5, 8));
    s.inject(data(9, 1, "next").dack32(1).map(900, 5, 8));
    let sent = s.take_sent();
    let rst = sent.iter().find(|seg| seg.header.flags.has(Flags::RST)).expect("a RST");
    assert_eq!(rst.options.mptcp.fastclose, Some(CLIENT_KEY));
}

#[test]
fn data_in_the_syn_is_not_acknowledged() {
    // O3: without TFO, payload of a SYN is not taken; it comes again.
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(data(0, 0, "early").flags(Flags::SYN).mp("1e040101"));
    let answer = s.take_sent().pop().expect("a SYN/ACK");
    assert!(answer.header.flags.has(Flags::SYN.with(Flags::ACK)));
    s.inject(ack(1, 1).mp("1e1401010b66ce9e6378385cc18f0d286dd989ca"));
    s.inject(data(1, 1, "early").dack32(1).map(1, 1, 5));
    assert_eq!(s.recv().unwrap(), b"early");
}

#[test]
fn fin_with_the_last_data_of_plain_tcp() {
    let mut s = Script::plain_client_up(ConnOptions::default());
    s.inject(data(1, 1, "bye").flags(Flags::ACK.with(Flags::FIN)));
    s.expect_among(ack(1, 5));
    assert_eq!(s.recv().unwrap(), b"bye");
    assert!(s.recv().is_err(), "end of the stream");
}

#[test]
fn a_fin_ahead_of_a_gap_waits() {
    let mut s = Script::plain_client_up(ConnOptions::default());
    s.inject(fin(4, 1));
    assert_eq!(s.recv().unwrap(), b"");
    assert_eq!(s.state(FIRST), Some("ESTABLISHED"));
    s.inject(data(1, 1, "bye"));
    assert_eq!(s.recv().unwrap(), b"bye");
    assert_eq!(s.state(FIRST), Some("CLOSE-WAIT"));
}

#[test]
fn a_wrong_remote_address_id_in_remove_addr_never_takes_the_last_path() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    // Both at once: one of them must stay.
    s.inject(ack(1, 1).dack32(1).mp("1e05400001"));
    s.take_sent();
    let usable = s.info().unwrap().subflows;
    assert!(usable.iter().any(|f| f.state == "ESTABLISHED"), "{usable:?}");
    s.inject(data(1, 1, "on").dack32(1).map(1, 1, 2));
    s.inject(data(1, 1, "on").on(SECOND).dack32(1).map(1, 1, 2));
    assert_eq!(s.recv().unwrap(), b"on");
}

#[test]
fn a_join_after_the_data_fin_of_the_client_is_allowed_while_the_server_sends() {
    let mut s = Script::server_up();
    s.inject(ack(1, 1).dack32(1).data_fin(1));
    s.take_sent();
    s.join_as_server(SECOND, 1);
    s.send("still sending");
    assert!(s.take_sent().iter().any(|seg| !seg.payload.is_empty()));
}

// Proves M3.3-16.
#[test]
fn mp_prio_on_the_only_subflow_does_not_stop_it() {
    let mut s = Script::server_up();
    s.inject(ack(1, 1).dack32(1).mp("1e0351"));
    s.send("alone");
    s.expect(data(1, 1, "alone").dack32(1).map(1, 1, 5));
}

#[test]
fn a_failed_connection_says_so_once_and_then_nothing() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.send("x");
    s.inject(rst(1, 1));
    s.inject(rst(1, 1).on(SECOND));
    let failures = s.events().iter().filter(|e| matches!(e, Event::Failed(..))).count();
    assert_eq!(failures, 1);
    s.take_sent();
    s.close();
    s.advance(100_000);
    s.expect_nothing();
    assert!(s.info().is_none());
}

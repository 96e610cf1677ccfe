//! The end of a connection and of its subflows (note X1 to X7).

use super::script::*;
use crate::mptcp::endpoint::{CallError, ConnError};
use crate::mptcp::{ConnOptions, Event};
use crate::wire::Flags;

fn failed(s: &mut Script) -> Option<ConnError> {
    s.events().iter().find_map(|e| match e {
        Event::Failed(_, error) => Some(*error),
        _ => None,
    })
}

// Proves X1, M3.3-8.
#[test]
fn x1_a_data_fin_alone_takes_one_number_and_is_acknowledged() {
    let mut s = Script::server_up();
    s.inject(ack(1, 1).dack32(1).data_fin(1));
    s.expect(ack(1, 1).dack(2));
    assert_eq!(s.recv(), Err(CallError::Shutdown));
}

// Proves X1.
#[test]
fn x1_a_data_fin_with_data_counts_in_the_length() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "bye").dack32(1).map(1, 1, 4).with_data_fin());
    s.expect_among(ack(1, 4).dack(5));
    assert_eq!(s.recv().unwrap(), b"bye");
    assert_eq!(s.recv(), Err(CallError::Shutdown));
}

// Proves X1.
#[test]
fn x1_a_data_fin_before_its_data_waits() {
    let mut s = Script::server_up();
    s.inject(ack(1, 1).dack32(1).data_fin(4));
    assert_eq!(s.recv().unwrap(), b"");
    s.inject(data(1, 1, "bye").dack32(1).map(1, 1, 3));
    s.expect_among(ack(1, 4).dack(5));
    assert_eq!(s.recv().unwrap(), b"bye");
    assert_eq!(s.recv(), Err(CallError::Shutdown));
}

#[test]
fn x1_a_second_data_fin_elsewhere_changes_nothing() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "bye").dack32(1).map(1, 1, 3));
    s.inject(ack(4, 1).dack32(1).data_fin(4));
    s.inject(ack(4, 1).dack32(1).data_fin(9));
    assert_eq!(s.recv().unwrap(), b"bye");
    assert_eq!(s.recv(), Err(CallError::Shutdown));
}

// Proves X2, M3.3-7.
#[test]
fn x2_no_fin_before_both_data_fins_are_acknowledged() {
    let mut s = Script::client_up();
    s.close();
    s.expect(ack(1, 1).dack32(1).data_fin(1));
    s.inject(ack(1, 1).dack32(2));
    s.advance(1000);
    assert!(s.take_sent().iter().all(|seg| !seg.header.flags.has(Flags::FIN)));
    s.inject(ack(1, 1).dack32(2).data_fin(1));
    s.expect_among(fin(1, 1).dack(2));
}

// Proves X2.
#[test]
fn x2_a_subflow_fin_alone_closes_that_subflow_only() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(fin(1, 1).on(SECOND).dack32(1));
    s.expect_among(fin(1, 2).on(SECOND).dack32(1));
    s.take_sent();
    s.inject(ack(2, 2).on(SECOND).dack32(1));
    assert!(s.state(SECOND).is_none());
    s.inject(data(1, 1, "still here").dack32(1).map(1, 1, 10));
    assert_eq!(s.recv().unwrap(), b"still here");
}

// Proves X2, M3.3-10.
#[test]
fn x2_a_fin_on_the_only_subflow_is_no_end_of_the_stream() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "abc").dack32(1).map(1, 1, 3));
    s.inject(fin(4, 1).dack32(1));
    assert_eq!(s.recv().unwrap(), b"abc");
    assert_eq!(s.recv().unwrap(), b"", "neither more nor the end");
    // A new subflow may bring the rest.
    s.take_sent();
    s.join_as_server(SECOND, 1);
    s.inject(data(1, 1, "def").on(SECOND).dack32(1).map(4, 1, 3));
    assert_eq!(s.recv().unwrap(), b"def");
}

// Proves X3.
#[test]
fn x3_after_shutdown_the_other_direction_goes_on() {
    let mut s = Script::client_up();
    s.send("request");
    s.shutdown();
    s.inject(ack(1, 8).dack32(9));
    s.take_sent();
    assert_eq!(s.ep.send(s.now, s.conn, b"more"), Err(CallError::Shutdown));
    for i in 0..5u32 {
        let at = 1 + 4 * i;
        s.inject(data(at, 8, "data").dack32(9).map(u64::from(at), at, 4));
    }
    assert_eq!(s.recv().unwrap().len(), 20);
}

// Proves X4, M3.5-1.
#[test]
fn x4_fastclose_on_an_ack_is_answered_with_resets() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(ack(1, 1).mp(&format!("1e0c7000{SERVER_KEY:016x}")));
    s.expect_reset(FIRST);
    s.expect_reset(SECOND);
    assert_eq!(failed(&mut s), Some(ConnError::Reset));
}

// Proves X4, M3.5-1.
#[test]
fn x4_fastclose_in_a_rst_resets_the_other_subflows() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(rst(1, 1).mp(&format!("1e0c7000{SERVER_KEY:016x}")));
    s.expect_reset(SECOND);
    s.expect_nothing();
    assert_eq!(failed(&mut s), Some(ConnError::Reset));
}

// Proves X4, M3.5-2.
#[test]
fn x4_a_wrong_key_is_ignored() {
    let mut s = Script::server_up();
    s.inject(ack(1, 1).dack32(1).mp("1e0c70000000000000000001"));
    assert_eq!(failed(&mut s), None);
    s.inject(data(1, 1, "fine").dack32(1).map(1, 1, 4));
    assert_eq!(s.recv().unwrap(), b"fine");
}

// Proves X5, M4-1.
#[test]
fn x5_a_rst_on_one_of_two_closes_that_one_and_its_data_goes_elsewhere() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.send("precious");
    let flow = s.take_sent()[0].flow;
    s.inject(rst(1, 1).on(flow));
    assert!(s.state(flow).is_none());
    assert_eq!(failed(&mut s), None);
    s.expect_among(data(1, 1, "precious").on(1 - flow).dack32(1).map(1, 1, 8));
}

// Proves X5, MUST-12.
#[test]
fn x5_a_rst_on_the_only_subflow_is_econnreset_at_once() {
    let mut s = Script::server_up();
    s.inject(rst(1, 1));
    assert_eq!(failed(&mut s), Some(ConnError::Reset));
    assert_eq!(s.recv(), Err(CallError::Broken(ConnError::Reset)));
}

#[test]
fn x5_data_already_here_can_be_read_after_the_rst() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "last").dack32(1).map(1, 1, 4));
    s.inject(rst(5, 1));
    assert_eq!(s.recv().unwrap(), b"last");
    assert_eq!(s.recv(), Err(CallError::Broken(ConnError::Reset)));
}

// Proves X7.
#[test]
fn x7_the_data_fin_is_repeated_until_acknowledged() {
    let mut s = Script::client_up();
    s.shutdown();
    s.expect(ack(1, 1).dack32(1).data_fin(1));
    // Every acknowledgment carries it.
    s.inject(data(1, 1, "x").dack32(1).map(1, 1, 1));
    s.expect(ack(1, 2).dack(2).data_fin(1));
    s.advance(5000);
    let again = s.take_sent();
    assert!(again.len() >= 2, "{} repetitions", again.len());
    s.inject(ack(2, 1).dack(2));
    s.advance(60_000);
    s.expect_nothing();
}

// Proves X7.
#[test]
fn x7_an_orphan_whose_peer_never_closes_is_forgotten() {
    for multipath in [true, false] {
        let mut s = match multipath {
            true => Script::client_up(),
            false => Script::plain_client_up(ConnOptions::default()),
        };
        s.close();
        s.inject(match multipath {
            true => ack(1, 1).dack32(2),
            false => ack(1, 2),
        });
        s.take_sent();
        s.advance(59_999);
        assert!(s.info().is_some());
        s.advance(1);
        assert!(s.info().is_none());
        // The peer's program may still read what has arrived, up to the end of the stream.
        s.expect_nothing();
        assert!(!s.ep.knows(s.tuple(FIRST)), "the kernel answers, or `Endpoint::refuse`");
    }
}

#[test]
fn shutdown_before_the_handshake_ends_shows_the_keys_first() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.take_sent();
    s.shutdown();
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.expect(ack(1, 1).mp("1e1401010b66ce9e6378385cc18f0d286dd989ca"));
    s.expect(ack(1, 1).dack32(1).data_fin(1));
}

// Proves SHLD-3.
#[test]
fn close_with_unread_data_resets() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "unread").dack32(1).map(1, 1, 6));
    s.take_sent();
    s.close();
    s.expect(rst(1, 7).mp(&format!("1e0c7000{CLIENT_KEY:016x} 1e048000")));
}

// Proves SHLD-3.
#[test]
fn data_after_close_resets() {
    let mut s = Script::server_up();
    s.close();
    s.take_sent();
    s.inject(data(1, 1, "late").dack32(1).map(1, 1, 4));
    s.expect_reset(FIRST);
}

#[test]
fn flushed_comes_when_the_data_fin_is_acknowledged() {
    let mut s = Script::client_up();
    s.send("all");
    s.shutdown();
    s.inject(ack(1, 4).dack32(4));
    assert!(!s.events().contains(&Event::Flushed(s.conn)));
    s.inject(ack(1, 4).dack32(5));
    assert!(s.events().contains(&Event::Flushed(s.conn)));
}

#[test]
fn plain_tcp_simultaneous_close() {
    let mut s = Script::plain_client_up(ConnOptions::default());
    s.close();
    s.expect(fin(1, 1));
    assert_eq!(s.state(FIRST), Some("FIN-WAIT-1"));
    s.inject(fin(1, 1));
    s.expect(ack(2, 2));
    assert_eq!(s.state(FIRST), Some("CLOSING"));
    s.inject(ack(2, 2));
    assert_eq!(s.ep.time_wait_len(), 1);
}

#[test]
fn plain_tcp_half_close_and_last_ack() {
    let mut s = Script::plain_client_up(ConnOptions::default());
    s.inject(data(1, 1, "bye"));
    s.inject(fin(4, 1));
    s.take_sent();
    assert_eq!(s.state(FIRST), Some("CLOSE-WAIT"));
    assert_eq!(s.recv().unwrap(), b"bye");
    assert_eq!(s.recv(), Err(CallError::Shutdown));
    s.send("answer");
    s.expect(data(1, 5, "answer"));
    s.close();
    s.inject(ack(5, 7));
    s.expect(fin(7, 5));
    assert_eq!(s.state(FIRST), Some("LAST-ACK"));
    s.inject(ack(5, 8));
    assert!(s.info().is_none());
    assert_eq!(s.ep.time_wait_len(), 0);
}

#[test]
fn a_lost_fin_is_sent_again() {
    let mut s = Script::plain_client_up(ConnOptions::default());
    s.close();
    s.expect(fin(1, 1));
    s.advance(2000);
    s.expect_among(fin(1, 1));
    s.inject(ack(1, 2));
    assert_eq!(s.state(FIRST), Some("FIN-WAIT-2"));
}

#[test]
fn a_fin_that_nobody_answers_is_given_up() {
    let mut s = Script::plain_client_up(ConnOptions::default());
    s.close();
    s.advance(20 * 60_000);
    assert!(s.info().is_none());
    let options = ConnOptions {
        user_timeout: Some(crate::time::Duration::from_secs(30)),
        ..ConnOptions::default()
    };
    let mut s = Script::plain_client_up(options);
    s.shutdown();
    s.advance(65_000);
    assert_eq!(failed(&mut s), Some(ConnError::TimedOut));
}

// Proves MAY-2.
#[test]
fn time_wait_answers_a_repeated_fin_and_lets_a_newer_syn_in() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(syn());
    s.inject(ack(1, 1));
    s.take_sent();
    s.close();
    s.inject(ack(1, 2));
    s.inject(fin(1, 2));
    s.take_sent();
    assert_eq!(s.ep.time_wait_len(), 1);
    s.inject(fin(1, 2));
    s.expect(ack(2, 2));
    // A SYN that is not newer is answered like anything else.
    s.inject(syn().at(1));
    s.expect(ack(2, 2));
    s.inject(rst(2, 2));
    assert_eq!(s.ep.time_wait_len(), 1, "RFC 1337: a reset does not end TIME_WAIT");
    s.inject(syn().at(3));
    assert_eq!(s.ep.time_wait_len(), 0);
    assert!(s.take_sent()[0].header.flags.has(Flags::SYN.with(Flags::ACK)));
}

// Proves MUST-13.
#[test]
fn time_wait_ends_after_60_s() {
    let mut s = Script::plain_client_up(ConnOptions::default());
    s.close();
    s.inject(ack(1, 2));
    s.inject(fin(1, 2));
    s.advance(59_999);
    assert_eq!(s.ep.time_wait_len(), 1);
    s.advance(1);
    assert_eq!(s.ep.time_wait_len(), 0);
}

#[test]
fn silence_behind_a_data_fin_is_no_stripping() {
    let mut s = Script::server_up();
    // The keys a second time, with the first data.
    s.inject(data(1, 1, "helloworld").mp("1e1601010b66ce9e6378385cc18f0d286dd989ca000a"));
    assert_eq!(s.recv().unwrap(), b"helloworld");
    s.shutdown();
    s.advance(20_000);
    let fallen = s.events().into_iter().find(|e| matches!(e, Event::FellBack(..)));
    assert_eq!(fallen, None, "nothing has come that could have lost its options");
    s.take_sent();
    s.inject(ack(11, 1).dack(2));
    assert_eq!(s.info().unwrap().fallback, None);
}

//! Addresses that a program takes back while they work (RFC 6897 section 5.3.2), and joins that wait (section 4.5).

use super::script::*;
use crate::mptcp::{ConnOptions, Event};

const HERE: &str = "192.0.2.1";
const THERE: &str = "198.51.100.1";

fn joined() -> Script {
    let mut s = Script::client_up();
    s.set_paths(&[path(HERE), path(THERE)]);
    s.join_as_client(SECOND);
    s
}

fn wants(s: &mut Script) -> usize {
    let events = s.events();
    events.iter().filter(|e| matches!(e, Event::WantSubflow { .. })).count()
}

#[test]
fn an_address_taken_back_is_removed_and_its_subflow_ends_with_fin() {
    for (stays, leaves, id, left) in [(HERE, SECOND, 1, FIRST), (THERE, FIRST, 0, SECOND)] {
        let mut s = joined();
        s.replace_paths(&[path(stays)]);
        let sent = s.take_sent();
        let told = sent
            .iter()
            .any(|seg| seg.flow == left && seg.options.mptcp.remove_addr.is_some_and(|r| r.ids() == [id]));
        assert!(told, "REMOVE_ADDR {id} on the subflow that stays: {sent:?}");
        assert_eq!(s.state(leaves), Some("FIN-WAIT-1"));
        s.send("goes on");
        assert!(s.take_sent().iter().all(|seg| seg.flow == left));
    }
}

#[test]
fn data_in_flight_is_sent_again_on_what_stays() {
    let mut s = joined();
    s.send("hello");
    let flow = s.take_sent()[0].flow;
    s.replace_paths(&[path([THERE, HERE][flow])]);
    let sent = s.take_sent();
    let again = sent.iter().any(|seg| seg.flow == 1 - flow && seg.payload == b"hello");
    assert!(again, "{sent:?}");
}

#[test]
fn the_only_subflow_carries_on_until_another_is_up() {
    let mut s = Script::client_up();
    s.set_paths(&[path(HERE)]);
    s.replace_paths(&[path(THERE)]);
    assert_eq!(s.state(FIRST), Some("ESTABLISHED"));
    s.accept_join(SECOND);
    assert_eq!(s.state(FIRST), Some("FIN-WAIT-1"));
}

#[test]
fn an_address_that_comes_back_in_time_keeps_its_subflow_and_id() {
    let mut s = Script::client_up();
    s.set_paths(&[path(HERE)]);
    s.replace_paths(&[path(THERE)]);
    s.replace_paths(&[path(HERE)]);
    s.expect_nothing();
    assert_eq!(s.state(FIRST), Some("ESTABLISHED"));
    assert_eq!(s.info().unwrap().subflows.len(), 1);
}

#[test]
fn joins_wait_for_as_many_bytes_as_the_options_say() {
    for (join_after, before, after) in [(0, 1, 0), (5, 0, 1), (6, 0, 0), (u64::MAX, 0, 0)] {
        let mut s = Script::client_up_with(ConnOptions {
            join_after,
            ..ConnOptions::default()
        });
        s.set_paths(&[path(HERE), path(THERE)]);
        assert_eq!(wants(&mut s), before, "{join_after}: at once");
        s.inject(data(1, 1, "hello").dack32(1).map(1, 1, 5));
        assert_eq!(wants(&mut s), after, "{join_after}: after five bytes");
    }
}

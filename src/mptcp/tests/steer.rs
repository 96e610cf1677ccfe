//! What a program does to single subflows, and data that does not spill over to slow paths.

use super::script::*;
use crate::mptcp::api::{LowLatency, Scheduler, SteerError, SubflowManner};
use crate::mptcp::{ConnOptions, Event};

const HERE: &str = "192.0.2.1";
const THERE: &str = "198.51.100.1";

fn joined() -> Script {
    let mut s = Script::client_up();
    s.set_paths(&[path(HERE), path(THERE)]);
    s.join_as_client(SECOND);
    s
}

#[test]
fn a_subflow_that_the_program_closes_ends_with_fin_and_stays_closed() {
    let mut s = joined();
    let second = s.tuple(SECOND);
    assert_eq!(s.steer(|e, now, conn| e.close_subflow(now, conn, second)), Ok(()));
    s.take_sent();
    assert_eq!(s.state(SECOND), Some("FIN-WAIT-1"));
    let last = s.tuple(FIRST);
    let refused = s.steer(|e, now, conn| e.close_subflow(now, conn, last));
    assert_eq!(refused, Err(SteerError::Last), "the only one left");
    s.advance(120_000);
    let events = s.events();
    assert!(
        !events.iter().any(|e| matches!(e, Event::WantSubflow { .. })),
        "{events:?}"
    );
    // Until it asks.
    let there = THERE.parse().unwrap();
    assert_eq!(
        s.steer(|e, now, conn| e.ask_for_subflow(now, conn, there, None)),
        Ok(())
    );
    let events = s.events();
    assert!(
        events
            .iter()
            .any(|e| matches!(e, Event::WantSubflow { local, .. } if *local == there)),
        "{events:?}"
    );
}

#[test]
fn what_is_no_path_or_no_subflow_is_refused() {
    let mut s = joined();
    let foreign = "203.0.113.9".parse().unwrap();
    let ask = s.steer(|e, now, conn| e.ask_for_subflow(now, conn, foreign, None));
    assert_eq!(ask, Err(SteerError::NoPath));
    let elsewhere = "203.0.113.9:80".parse().ok();
    let here = HERE.parse().unwrap();
    let ask = s.steer(|e, now, conn| e.ask_for_subflow(now, conn, here, elsewhere));
    assert_eq!(ask, Err(SteerError::NoPath), "not an address of the peer's");
    let mut nobody = s.tuple(SECOND);
    nobody.local.set_port(9);
    let close = s.steer(|e, now, conn| e.close_subflow(now, conn, nobody));
    assert_eq!(close, Err(SteerError::Unknown));
    let mut plain = Script::plain_client_up(ConnOptions::default());
    let here = plain.tuple(FIRST);
    let close = plain.steer(|e, now, conn| e.close_subflow(now, conn, here));
    assert_eq!(close, Err(SteerError::NotMultipath));
}

#[test]
fn a_subflow_marked_backup_says_mp_prio_and_carries_nothing_new() {
    let mut s = joined();
    let first = s.tuple(FIRST);
    assert_eq!(s.steer(|e, now, conn| e.mark_backup(now, conn, first, true)), Ok(()));
    let sent = s.take_sent();
    let told = sent
        .iter()
        .any(|seg| seg.flow == FIRST && seg.options.mptcp.prio.is_some());
    assert!(told, "{sent:?}");
    s.send("data");
    assert!(s.take_sent().iter().all(|seg| seg.flow == SECOND));
}

#[test]
fn one_subflow_has_a_type_of_service_of_its_own() {
    let mut s = joined();
    let second = s.tuple(SECOND);
    let set = s.steer(|e, now, conn| {
        e.set_manner(now, conn, second, &mut |manner: &mut SubflowManner| {
            manner.tos = Some(0x48)
        })
    });
    assert_eq!(set, Ok(()));
    let first = s.tuple(FIRST);
    s.steer(|e, now, conn| e.mark_backup(now, conn, first, true)).unwrap();
    s.send("data");
    for seg in s.take_sent() {
        assert_eq!(seg.tos, if seg.flow == SECOND { 0x48 } else { 0 });
    }
}

#[test]
fn low_latency_waits_for_the_fast_path() {
    for (low_latency, spills) in [(LowLatency::Never, true), (LowLatency::Always, false)] {
        let mut s = Script::client_up_with(ConnOptions {
            low_latency,
            scheduler: Scheduler::LowestRtt,
            ..ConnOptions::default()
        });
        s.set_paths(&[path(HERE), path(THERE)]);
        s.join_slowly(SECOND, 400);
        s.send(vec![0; 200_000]);
        let sent = s.take_sent();
        assert!(sent.iter().any(|seg| seg.flow == FIRST && !seg.payload.is_empty()));
        let spilt = sent.iter().any(|seg| seg.flow == SECOND && !seg.payload.is_empty());
        assert_eq!(spilt, spills, "{low_latency:?}");
    }
}

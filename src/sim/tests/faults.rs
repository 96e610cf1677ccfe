//! Directed faults: one packet of the handshakes lost, wires that are cut, loss and reordering.

use super::{completes, completes_in};
use crate::mptcp::endpoint::{ConnError, Keepalive};
use crate::sim::app::{Finish, Plan, Start};
use crate::sim::packet::Packet;
use crate::sim::scenario::{Change, Ending, Report, Scenario};
use crate::sim::wire::{Dir, Faults};
use crate::sim::world::{World, CLIENT, SERVER};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, MpJoin};

/// Runs `scenario` with the first `times` packets on `wire` lost that `picked` points at; they must exist.
fn losing(scenario: &Scenario, wire: usize, times: u32, picked: fn(Dir, &Packet) -> bool) -> Report {
    let mut world = World::new(scenario, super::trace_asked());
    let left = std::rc::Rc::new(std::cell::Cell::new(times));
    let counter = left.clone();
    world.wires[wire].picker = Some(Box::new(move |dir, packet| {
        let hit = counter.get() > 0 && picked(dir, packet);
        counter.set(counter.get() - u32::from(hit));
        hit
    }));
    let report = completes_in(scenario, &mut world);
    assert_eq!(left.get(), 0, "the packet to lose was never sent");
    report
}

fn bare_ack(p: &Packet) -> bool {
    p.header.flags == Flags::ACK && p.payload.is_empty()
}

/// Who speaks first decides what follows a lost handshake packet.
fn talkers() -> [Scenario; 3] {
    let answers = Plan {
        start: Start::AfterReading(100_000),
        ..Plan::sends(100_000)
    };
    [
        Scenario::clean(2, Plan::sends(100_000), Plan::sends(100_000)),
        Scenario::clean(2, answers, Plan::sends(100_000)),
        Scenario::clean(2, Plan::sends(100_000), answers),
    ]
}

#[test]
fn syn_lost() {
    for scenario in talkers() {
        let report = losing(&scenario, 0, 1, |_, p| p.header.flags == Flags::SYN);
        assert_eq!(report.fallback, [None; 2]);
    }
}

#[test]
fn syn_ack_lost() {
    for scenario in talkers() {
        let report = losing(&scenario, 0, 1, |dir, p| dir == Dir::Down && p.has(Flags::SYN));
        assert_eq!(report.fallback, [None; 2]);
    }
}

#[test]
fn third_ack_lost() {
    for scenario in talkers() {
        let report = losing(&scenario, 0, 1, |dir, p| dir == Dir::Up && bare_ack(p));
        assert_eq!(report.fallback, [None; 2]);
    }
}

// Proves C7, M3.1-11.
#[test]
fn third_ack_and_first_data_lost() {
    for scenario in talkers() {
        // Linux falls back to TCP here; either is right, every byte must arrive.
        losing(&scenario, 0, 2, |dir, p| dir == Dir::Up && !p.has(Flags::SYN));
    }
}

#[test]
fn a_join_whose_handshake_loses_a_packet_comes_up_all_the_same() {
    let picks: [fn(Dir, &Packet) -> bool; 4] = [
        |_, p| p.header.flags == Flags::SYN,
        |dir, p| dir == Dir::Down && p.has(Flags::SYN),
        |_, p| matches!(p.options.mptcp.join, Some(MpJoin::Ack { .. })),
        |dir, p| dir == Dir::Down && bare_ack(p), // The fourth ACK (RFC 8684 section 3.2).
    ];
    for (i, pick) in picks.into_iter().enumerate() {
        for client_sends in [true, false] {
            let (client, server) = if client_sends { (4_000_000, 0) } else { (0, 4_000_000) };
            let scenario = one_way(client, server);
            let report = losing(&scenario, 1, 1, pick);
            assert_eq!(report.subflows_up, [2, 2], "pick {i}: {report:?}");
        }
    }
}

#[test]
fn the_last_segments_lost() {
    let picks: [fn(Dir, &Packet) -> bool; 3] = [
        |_, p| p.options.mptcp.dss.is_some_and(|d| d.data_fin),
        |dir, p| dir == Dir::Up && p.has(Flags::FIN),
        |dir, p| dir == Dir::Down && p.has(Flags::FIN),
    ];
    for pick in picks {
        for times in [1, 3] {
            losing(
                &Scenario::clean(1, Plan::sends(5000), Plan::sends(5000)),
                0,
                times,
                pick,
            );
        }
    }
}

/// Two paths; who sends nothing waits for the other's end, since no join is opened after a DATA_FIN.
fn one_way(client_bytes: u64, server_bytes: u64) -> Scenario {
    let plan = |bytes| Plan {
        finish: if bytes == 0 {
            Finish::ShutdownAfterEof
        } else {
            Finish::Shutdown
        },
        ..Plan::sends(bytes)
    };
    Scenario::clean(2, plan(client_bytes), plan(server_bytes))
}

/// Two megabytes from either end over two paths of 10 Mbit/s; the script cuts wires.
fn cut(server_sends: bool, script: Vec<(Instant, Change)>) -> Report {
    let (client, server) = if server_sends { (0, 2_000_000) } else { (2_000_000, 0) };
    let mut scenario = one_way(client, server);
    scenario.script = script;
    completes(&scenario)
}

#[test]
fn a_path_that_dies_for_good_is_survived_by_the_other() {
    for server_sends in [false, true] {
        for wire in [0, 1] {
            let report = cut(server_sends, vec![(Instant::from_millis(500), Change::Cut(wire))]);
            assert_eq!(report.failed, [None; 2]);
            // 1.68 s for all the bytes over one path, and the time to notice.
            assert!(
                report.through_at < Instant::from_millis(4_500),
                "wire {wire}: {report:?}"
            );
        }
    }
}

// Proves M3.9-3.
#[test]
fn a_path_that_comes_back_is_used_again() {
    for server_sends in [false, true] {
        for wire in [0, 1] {
            let (client, server) = if server_sends { (0, 20_000_000) } else { (20_000_000, 0) };
            let mut scenario = one_way(client, server);
            scenario.script = vec![
                (Instant::from_millis(500), Change::Cut(wire)),
                (Instant::from_millis(2500), Change::Mend(wire)),
            ];
            let report = completes(&scenario);
            let through: u64 = report.wire_bytes[wire].iter().sum();
            // Half a second at 10 Mbit/s is 0.6 MB; the rest came after it was mended.
            assert!(through > 3_000_000, "wire {wire}: {report:?}");
        }
    }
}

#[test]
fn both_paths_cut_and_one_mended() {
    for mended in [0, 1] {
        let report = cut(
            true,
            vec![
                (Instant::from_millis(500), Change::Cut(0)),
                (Instant::from_millis(600), Change::Cut(1)),
                (Instant::from_millis(5_000), Change::Mend(mended)),
            ],
        );
        assert_eq!(report.failed, [None; 2]);
    }
}

#[test]
fn one_path_alone_survives_a_pause() {
    let mut scenario = Scenario::clean(1, Plan::sends(1_000_000), Plan::sends(1_000_000));
    scenario.script = vec![
        (Instant::from_millis(300), Change::Cut(0)),
        (Instant::from_millis(9_000), Change::Mend(0)),
    ];
    completes(&scenario);
}

#[test]
fn clocks_jump_ahead_and_back() {
    for by_ms in [60_000, -2_000] {
        for host in [CLIENT, SERVER] {
            let mut scenario = Scenario::clean(2, Plan::sends(1_000_000), Plan::sends(1_000_000));
            scenario.script = vec![(Instant::from_millis(300), Change::Clock { host, by_ms })];
            completes(&scenario);
        }
    }
}

// Proves MUST-20.
#[test]
fn dead_for_good_is_learned_by_both_ends() {
    let mut scenario = Scenario::clean(2, Plan::sends(5_000_000), Plan::sends(5_000_000));
    for options in &mut scenario.conns[0].options {
        options.user_timeout = Some(Duration::from_secs(30));
        options.keepalive = Some(Keepalive {
            idle: Duration::from_secs(10),
            interval: Duration::from_secs(2),
            count: 5,
        });
    }
    scenario.script = vec![
        (Instant::from_millis(500), Change::Cut(0)),
        (Instant::from_millis(500), Change::Cut(1)),
    ];
    scenario.ending = Ending::MayBreak;
    let report = completes(&scenario);
    assert_eq!(report.failed, [Some(ConnError::TimedOut); 2], "{report:?}");
    assert!(report.through_at < Instant::from_millis(31_000), "{report:?}");
}

#[test]
fn loss_reordering_and_duplication() {
    let all = [
        Faults {
            loss_per_mille: 20,
            ..Faults::default()
        },
        Faults {
            reorder_per_mille: 50,
            reorder_by: Duration::from_millis(30),
            ..Faults::default()
        },
        Faults {
            duplicate_per_mille: 100,
            ..Faults::default()
        },
    ];
    for faults in all {
        for paths in [1, 2] {
            let mut scenario = Scenario::clean(paths, Plan::sends(500_000), Plan::sends(500_000));
            scenario.wires.iter_mut().for_each(|w| w.config.faults = faults);
            let report = completes(&scenario);
            assert_eq!(report.fallback, [None; 2], "{faults:?}");
        }
    }
}

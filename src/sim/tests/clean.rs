//! Directed runs over wires without faults: every way to begin, to end, and to be slow.

use super::completes;
use crate::mptcp::endpoint::{ConnError, Fallback, Keepalive};
use crate::sim::app::{Finish, Pace, Plan, Start};
use crate::sim::middlebox::{Middlebox, Strip};
use crate::sim::scenario::{client_addr, local_path, server_addr, Change, ConnSpec, Ending, Scenario, WireSpec};
use crate::sim::wire::WireConfig;
use crate::sim::world::{CLIENT, OTHER, SERVER};
use crate::time::{Duration, Instant};

const MEGABYTE: u64 = 1_000_000;

/// Sends nothing, and does not shut down before the other end has: no join is opened after a DATA_FIN.
fn quiet() -> Plan {
    Plan {
        finish: Finish::ShutdownAfterEof,
        ..Plan::sends(0)
    }
}

#[test]
fn one_path_carries_both_directions() {
    let report = completes(&Scenario::clean(1, Plan::sends(MEGABYTE), Plan::sends(MEGABYTE)));
    assert_eq!(report.received, [MEGABYTE; 2]);
    assert_eq!(report.fallback, [None; 2]);
    // 10 Mbit/s: 0.84 s for the bytes.
    assert!(report.through_at < Instant::from_millis(1500), "{report:?}");
}

// Proves MUST-16.
#[test]
fn ipv6_with_the_smallest_mtu() {
    let mut scenario = Scenario::clean(1, Plan::sends(100_000), Plan::sends(100_000));
    let config = WireConfig {
        mtu: 1280,
        ..WireConfig::default()
    };
    scenario.wires = vec![WireSpec {
        client: CLIENT,
        ends: (client_addr(0, true), server_addr(0, true)),
        config,
        middleboxes: vec![],
    }];
    scenario.paths = [vec![local_path(client_addr(0, true), 0, 1280)], vec![], vec![]];
    completes(&scenario);
}

// Proves M3.3-15.
#[test]
fn two_paths_are_faster_than_one() {
    for server_sends in [false, true] {
        let mut plans = [Plan::sends(2 * MEGABYTE), quiet()];
        if server_sends {
            plans.reverse();
        }
        let report = completes(&Scenario::clean(2, plans[0], plans[1]));
        // One path alone needs 1.68 s for the bytes.
        assert!(report.through_at < Instant::from_millis(1400), "{report:?}");
        let shares = report.wire_bytes.iter().map(|w| w[0] + w[1]);
        assert!(shares.clone().min() > Some(MEGABYTE / 2), "{report:?}");
        assert_eq!(report.subflows_up, [2, 2]);
    }
}

#[test]
fn nothing_is_sent_at_all() {
    completes(&Scenario::clean(1, Plan::sends(0), Plan::sends(0)));
    completes(&Scenario::clean(1, quiet(), Plan::sends(0)));
    completes(&Scenario::clean(1, Plan::sends(0), quiet()));
}

#[test]
fn server_talks_first() {
    let client = Plan {
        start: Start::AfterReading(50_000),
        ..Plan::sends(50_000)
    };
    completes(&Scenario::clean(2, client, Plan::sends(50_000)));
}

#[test]
fn half_close_by_either_end_leaves_the_other_direction_open() {
    for bytes in [0, 1, 300_000] {
        let last = Plan {
            finish: Finish::ShutdownAfterEof,
            ..Plan::sends(bytes)
        };
        let talks_after = Plan {
            start: Start::AfterReading(300_000),
            ..last
        };
        completes(&Scenario::clean(2, last, Plan::sends(300_000)));
        completes(&Scenario::clean(2, Plan::sends(300_000), last));
        completes(&Scenario::clean(2, talks_after, Plan::sends(300_000)));
        completes(&Scenario::clean(2, Plan::sends(300_000), talks_after));
    }
}

#[test]
fn a_half_closed_connection_lives_as_long_as_the_other_end_writes() {
    let slowly = Plan {
        // 400 pauses of half a second on average.
        write: Pace {
            chunk_max: 10,
            pause_max: Duration::from_secs(1),
        },
        ..Plan::sends(3_000)
    };
    for multipath in [true, false] {
        for writer in [CLIENT, SERVER] {
            let mut plans = [Plan::sends(0); 2];
            plans[writer] = slowly;
            let mut scenario = Scenario::clean(1, plans[0], plans[1]);
            scenario.conns[0].options[CLIENT].multipath = multipath;
            completes(&scenario);
        }
    }
}

#[test]
fn both_close_at_once() {
    for bytes in [0, 10_000] {
        let plan = Plan {
            linger: Duration::from_secs(1),
            ..Plan::sends(bytes)
        };
        completes(&Scenario::clean(1, plan, plan));
        completes(&Scenario::clean(2, plan, plan));
    }
}

#[test]
fn close_delivers_what_is_queued() {
    let closes = Plan {
        finish: Finish::Close,
        ..Plan::sends(MEGABYTE)
    };
    completes(&Scenario::clean(2, closes, quiet()));
    completes(&Scenario::clean(2, quiet(), closes));
}

// Proves MUST-12.
#[test]
fn an_abort_is_a_reset_at_the_other_end() {
    for aborter in [CLIENT, SERVER] {
        for paths in [1, 2] {
            let mut plans = [Plan::sends(MEGABYTE); 2];
            plans[aborter].finish = Finish::Abort(300_000);
            let mut scenario = Scenario::clean(paths, plans[0], plans[1]);
            scenario.ending = Ending::MayBreak;
            let report = completes(&scenario);
            assert_eq!(report.failed[1 - aborter], Some(ConnError::Reset), "{report:?}");
            assert!(report.through_at < Instant::from_millis(1500), "{report:?}");
        }
    }
}

#[test]
fn data_after_close_is_a_reset() {
    let closes = Plan {
        finish: Finish::Close,
        ..Plan::sends(1000)
    };
    let mut scenario = Scenario::clean(1, closes, Plan::sends(MEGABYTE));
    // The server is still writing when the reset comes.
    scenario.conns[0].options[SERVER].send_buffer = 20_000;
    scenario.ending = Ending::MayBreak;
    let report = completes(&scenario);
    assert_eq!(report.failed[SERVER], Some(ConnError::Reset), "{report:?}");
}

#[test]
fn a_closed_port_refuses() {
    let mut scenario = Scenario::clean(1, Plan::sends(10), quiet());
    scenario.conns[0].listening = false;
    scenario.ending = Ending::Fails(ConnError::Refused);
    let report = completes(&scenario);
    assert!(report.through_at < Instant::from_millis(100), "{report:?}");
}

// Proves MUST-22.
#[test]
fn no_answer_times_out() {
    let mut scenario = Scenario::clean(1, Plan::sends(10), quiet());
    scenario.script = vec![(Instant::ZERO, Change::Cut(0))];
    scenario.calm_at = Instant::from_millis(200_000);
    scenario.ending = Ending::Fails(ConnError::TimedOut);
    completes(&scenario);
}

// Proves MUST-39.
#[test]
fn a_slow_reader_closes_the_window_and_opens_it_again() {
    let mut reader = quiet();
    for (chunk_max, pause_ms) in [(2_000, 100), (50_000, 20_000)] {
        reader.read = Pace {
            chunk_max,
            pause_max: Duration::from_millis(pause_ms),
        };
        for paths in [1, 2] {
            let mut scenario = Scenario::clean(paths, Plan::sends(100_000), reader);
            scenario.conns[0].options[SERVER].recv_buffer = 10_000;
            completes(&scenario);
        }
    }
}

/// The kernel would give up a minute after close().
#[test]
fn what_was_written_before_close_arrives_however_slowly_it_is_read() {
    let mut reader = quiet();
    reader.read = Pace {
        chunk_max: 5_000,
        pause_max: Duration::from_secs(4),
    };
    let writer = Plan {
        finish: Finish::Close,
        ..Plan::sends(200_000)
    };
    for paths in [1, 2] {
        for writes in [CLIENT, SERVER] {
            let plans = if writes == CLIENT {
                (writer, reader)
            } else {
                (reader, writer)
            };
            let mut scenario = Scenario::clean(paths, plans.0, plans.1);
            scenario.conns[0].options[1 - writes].recv_buffer = 10_000;
            let report = completes(&scenario);
            assert!(report.through_at > Instant::from_millis(90_000), "{report:?}");
        }
    }
}

// Proves MUST-39.
#[test]
fn a_reader_of_single_bytes() {
    let mut reader = quiet();
    reader.read = Pace {
        chunk_max: 1,
        pause_max: Duration::from_micros(500),
    };
    let mut scenario = Scenario::clean(1, Plan::sends(10_000), reader);
    scenario.conns[0].options[SERVER].recv_buffer = 3_000;
    completes(&scenario);
}

#[test]
fn a_writer_of_small_pieces() {
    for nodelay in [false, true] {
        let writer = Plan {
            write: Pace {
                chunk_max: 50,
                pause_max: Duration::from_millis(5),
            },
            ..Plan::sends(5_000)
        };
        let mut scenario = Scenario::clean(2, writer, writer);
        scenario.conns[0].options[CLIENT].nodelay = nodelay;
        completes(&scenario);
    }
}

#[test]
fn tiny_buffers() {
    let mut scenario = Scenario::clean(2, Plan::sends(100_000), Plan::sends(100_000));
    for options in &mut scenario.conns[0].options {
        options.send_buffer = 3_000;
        options.recv_buffer = 3_000;
    }
    completes(&scenario);
}

// Proves MUST-14.
#[test]
fn the_smallest_mss() {
    for who in [CLIENT, SERVER] {
        let mut scenario = Scenario::clean(2, Plan::sends(30_000), Plan::sends(30_000));
        scenario.conns[0].options[who].mss_limit = 88;
        completes(&scenario);
    }
}

#[test]
fn a_peer_without_sack_timestamps_or_window_scaling() {
    for what in [Strip::SackPermitted, Strip::Timestamps, Strip::WindowScale] {
        let mut scenario = Scenario::clean(1, Plan::sends(200_000), Plan::sends(200_000));
        scenario.wires[0]
            .middleboxes
            .push(Middlebox::Strip { what, towards: None });
        scenario.wires[0].config.queue_bytes = 10_000; // Losses, so that recovery has to do without.
        let report = completes(&scenario);
        assert_eq!(report.fallback, [None; 2], "{what:?}");
    }
}

// Proves M3.1-5.
#[test]
fn checksums_asked_by_either_end() {
    for who in [CLIENT, SERVER] {
        let mut scenario = Scenario::clean(2, Plan::sends(200_000), Plan::sends(200_000));
        scenario.conns[0].options[who].checksum = true;
        let report = completes(&scenario);
        assert_eq!((report.fallback, report.subflows_up), ([None; 2], [2, 2]));
    }
}

#[test]
fn an_end_that_does_not_want_multipath_gets_plain_tcp() {
    let mut scenario = Scenario::clean(2, Plan::sends(100_000), Plan::sends(100_000));
    scenario.conns[0].options[SERVER].multipath = false;
    assert_eq!(completes(&scenario).fallback[CLIENT], Some(Fallback::PeerNotCapable));
    let mut scenario = Scenario::clean(2, Plan::sends(100_000), Plan::sends(100_000));
    scenario.conns[0].options[CLIENT].multipath = false;
    assert_eq!(completes(&scenario).subflows_up[CLIENT], 1);
}

/// A client with one address, a server with two; the wire to the second is the second wire.
fn second_server_address(bytes: u64) -> Scenario {
    let mut scenario = Scenario::clean(1, quiet(), Plan::sends(bytes));
    let mut wire = scenario.wires[0].clone();
    wire.ends.1 = server_addr(1, false);
    scenario.paths[SERVER].push(local_path(wire.ends.1, 1, wire.config.mtu));
    scenario.wires.push(wire);
    scenario
}

// Proves M3.9-2.
#[test]
fn the_client_joins_the_address_that_the_server_announces() {
    let report = completes(&second_server_address(2 * MEGABYTE));
    assert_eq!(report.subflows_up, [2, 2], "{report:?}");
    assert!(report.wire_bytes[1][1] > MEGABYTE / 2, "{report:?}");
}

#[test]
fn a_removed_path_is_left_and_an_added_one_used() {
    for removed in [0, 1] {
        let mut scenario = Scenario::clean(2, Plan::sends(2 * MEGABYTE), quiet());
        let all = scenario.paths[CLIENT].clone();
        let kept = vec![all[1 - removed]];
        let removal = Change::Paths {
            host: CLIENT,
            paths: kept,
        };
        scenario.script = vec![
            (Instant::from_millis(500), removal),
            (Instant::from_millis(600), Change::Cut(removed)),
            (Instant::from_millis(900), Change::Mend(removed)),
            (
                Instant::from_millis(900),
                Change::Paths {
                    host: CLIENT,
                    paths: all,
                },
            ),
        ];
        let report = completes(&scenario);
        assert_eq!(report.subflows_up[CLIENT], 3, "{report:?}");
    }
}

// Proves P2.
#[test]
fn a_backup_path_carries_nothing_while_the_other_works() {
    let mut scenario = Scenario::clean(2, Plan::sends(MEGABYTE), Plan::sends(MEGABYTE));
    scenario.paths[CLIENT][1].backup = true;
    let report = completes(&scenario);
    assert_eq!(report.subflows_up, [2, 2]);
    assert_eq!(report.wire_bytes[1], [0, 0]);
}

#[test]
fn keepalive_finds_a_peer_that_is_gone() {
    let mut scenario = Scenario::clean(1, quiet(), quiet());
    let keepalive = Keepalive {
        idle: Duration::from_secs(5),
        interval: Duration::from_secs(1),
        count: 3,
    };
    for options in &mut scenario.conns[0].options {
        options.keepalive = Some(keepalive);
    }
    scenario.script = vec![(Instant::from_millis(1000), Change::Cut(0))];
    scenario.ending = Ending::MayBreak;
    let report = completes(&scenario);
    assert_eq!(report.failed, [Some(ConnError::TimedOut); 2], "{report:?}");
    assert!(report.through_at < Instant::from_millis(20_000), "{report:?}");
}

/// Two clients of one server, which has a wire to each of their two addresses.
fn two_clients() -> Scenario {
    let mut scenario = Scenario::clean(2, Plan::sends(300_000), Plan::sends(300_000));
    let first = scenario.clone();
    for (i, wire) in first.wires.iter().enumerate() {
        let i = i as u8;
        let addr = client_addr(100 + i, false);
        scenario.wires.push(WireSpec {
            client: OTHER,
            ends: (addr, wire.ends.1),
            ..wire.clone()
        });
        scenario.paths[OTHER].push(local_path(addr, i, wire.config.mtu));
    }
    scenario.conns.push(ConnSpec {
        client: OTHER,
        ..first.conns[0].clone()
    });
    scenario
}

#[test]
fn two_clients_of_one_server_have_their_own_wires() {
    let report = completes(&two_clients());
    assert_eq!(report.fallback, [None; 2]);
    assert_eq!(report.subflows_up[SERVER], 4, "{report:?}");
    assert!(
        report.wire_bytes.iter().all(|bytes| bytes[0] + bytes[1] > 0),
        "{report:?}"
    );
}

#[test]
fn a_client_whose_wires_are_cut_does_not_slow_the_other() {
    let alone = completes(&Scenario::clean(2, Plan::sends(300_000), Plan::sends(300_000))).wire_bytes;
    let mut scenario = two_clients();
    let at = |ms, change| (Instant::from_millis(ms), change);
    scenario.script = vec![
        at(50, Change::Cut(2)),
        at(50, Change::Cut(3)),
        at(10_000, Change::Mend(2)),
        at(10_000, Change::Mend(3)),
    ];
    let report = completes(&scenario);
    assert!(report.through_at > Instant::from_millis(10_000), "{report:?}");
    let through: u64 = report.wire_bytes[..2].iter().flatten().sum();
    assert!(through.abs_diff(alone.iter().flatten().sum()) < 100_000, "{report:?}");
}

#[test]
fn a_hundred_connections_at_once_share_two_wires() {
    let mut scenario = Scenario::clean(2, Plan::sends(20_000), Plan::sends(20_000));
    let conn = scenario.conns[0].clone();
    scenario.conns = vec![conn; 100];
    let report = completes(&scenario);
    // 4 MB at 20 Mbit/s both ways take 0.8 s, and losses in queues of 64 KB their time.
    assert!(report.through_at < Instant::from_millis(30_000), "{report:?}");
}

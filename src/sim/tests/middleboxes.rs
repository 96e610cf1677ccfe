//! Each kind of middlebox alone: the right bytes every time, and plain TCP exactly where MPTCP cannot live.

use super::completes;
use crate::mptcp::endpoint::Fallback;
use crate::sim::app::{Plan, Start};
use crate::sim::middlebox::{Middlebox, Strip};
use crate::sim::scenario::{Report, Scenario};
use crate::sim::wire::Dir;
use crate::sim::world::{CLIENT, SERVER};
use core::net::{IpAddr, Ipv4Addr};

/// Both ends send over two paths; `middlebox` is on wire `on`.
fn through(middlebox: Middlebox, on: usize) -> Report {
    completes(&scenario(middlebox, on))
}

fn scenario(middlebox: Middlebox, on: usize) -> Scenario {
    let mut scenario = Scenario::clean(2, Plan::sends(700_000), Plan::sends(700_000));
    scenario.wires[on].middleboxes.push(middlebox);
    scenario
}

fn stays_multipath(report: &Report) {
    assert_eq!(report.fallback, [None; 2], "{report:?}");
    assert_eq!(report.subflows_up, [2, 2], "{report:?}");
}

fn strip(what: Strip, towards: Option<Dir>) -> Middlebox {
    Middlebox::Strip { what, towards }
}

// Proves MB, M3.1-1.
#[test]
fn options_stripped_from_syns() {
    for towards in [None, Some(Dir::Up), Some(Dir::Down)] {
        let report = through(strip(Strip::MptcpFromSyn, towards), 0);
        assert_eq!(report.fallback[CLIENT], Some(Fallback::PeerNotCapable), "{towards:?}");
        assert!(towards != Some(Dir::Down) || report.fallback[SERVER] == Some(Fallback::OptionsStripped));
    }
}

// Proves C4.
#[test]
fn a_peer_of_another_version() {
    for (version, towards) in [
        (0, Some(Dir::Up)),
        (0, Some(Dir::Down)),
        (0, None),
        (2, Some(Dir::Down)),
    ] {
        let report = through(Middlebox::Version { version, towards }, 0);
        assert!(report.fallback[CLIENT].is_some(), "{version} {towards:?}: {report:?}");
        assert_eq!(report.subflows_up[CLIENT], 1);
    }
}

// Proves MUST-34.
#[test]
fn windows_that_shrink() {
    for per_mille in [50, 1000] {
        let shrink = Middlebox::ShrinkWindow { per_mille, left: 100 };
        stays_multipath(&through(shrink.clone(), 0));
        let mut alone = Scenario::clean(1, Plan::sends(300_000), Plan::sends(300_000));
        alone.wires[0].middleboxes.push(shrink);
        completes(&alone);
    }
}

// Proves MB, M3.7-1.
#[test]
fn options_stripped_from_data_whoever_speaks_first() {
    for towards in [None, Some(Dir::Up), Some(Dir::Down)] {
        for what in [Strip::MptcpFromData, Strip::MptcpAll] {
            for waiter in [None, Some(CLIENT), Some(SERVER)] {
                let mut scenario = scenario(strip(what, towards), 0);
                if let Some(waiter) = waiter {
                    scenario.conns[0].plans[waiter].start = Start::AfterReading(700_000);
                }
                let report = completes(&scenario);
                assert!(
                    report.fallback[CLIENT].is_some(),
                    "{what:?} {towards:?} {waiter:?}: {report:?}"
                );
            }
        }
    }
}

// Proves M3.7-3.
#[test]
fn options_stripped_on_the_second_path_leave_the_first_alone() {
    for what in [Strip::MptcpFromSyn, Strip::MptcpFromData, Strip::MptcpAll] {
        for towards in [None, Some(Dir::Up), Some(Dir::Down)] {
            let report = through(strip(what, towards), 1);
            assert_eq!(report.fallback, [None; 2], "{what:?} {towards:?}: {report:?}");
        }
    }
}

#[test]
fn syns_with_capable_dropped() {
    let report = through(Middlebox::DropCapableSyn, 0);
    assert_eq!(report.fallback[CLIENT], Some(Fallback::SynDropped));
}

#[test]
fn syns_with_join_dropped() {
    let report = through(Middlebox::DropJoinSyn, 1);
    assert_eq!((report.fallback, report.subflows_up), ([None; 2], [1, 1]));
}

#[test]
fn add_addr_stripped() {
    stays_multipath(&through(strip(Strip::AddAddr, None), 0));
}

// Proves MB, M6-3.
#[test]
fn sequence_numbers_shifted() {
    for on in [0, 1] {
        stays_multipath(&through(
            Middlebox::ShiftSequence {
                by: [0xdead_beef, 0x1234_5678],
            },
            on,
        ));
    }
}

// Proves MB.
#[test]
fn segments_split() {
    for max_payload in [100, 1000] {
        for on in [0, 1] {
            stays_multipath(&through(Middlebox::Split { max_payload }, on));
        }
    }
}

// Proves M6-2.
#[test]
fn segments_split_under_checksums() {
    let mut scenario = scenario(Middlebox::Split { max_payload: 500 }, 0);
    scenario.conns[0].options[CLIENT].checksum = true;
    stays_multipath(&completes(&scenario));
}

// Proves MB.
#[test]
fn segments_coalesced() {
    for on in [0, 1] {
        stays_multipath(&through(Middlebox::coalesce(16_000), on));
    }
}

// Proves MB, M6-1.
#[test]
fn addresses_translated() {
    for on in [0, 1] {
        stays_multipath(&through(Middlebox::nat(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1))), on));
    }
}

// Proves S3, MB.
#[test]
fn payload_corrupted_with_another_path_to_go_to() {
    // The join is up long before the tenth segment with some certainty: it is the second path that is damaged.
    let mut scenario = scenario(
        Middlebox::Corrupt {
            per_mille: 20,
            left: 1,
            done: 0,
        },
        1,
    );
    scenario.conns[0].options[CLIENT].checksum = true;
    let report = completes(&scenario);
    assert_eq!(
        report.fallback, [None; 2],
        "a damaged join is reset, the connection lives: {report:?}"
    );
}

#[test]
fn first_payload_corrupted_on_the_only_path_is_fallback() {
    let mut scenario = Scenario::clean(1, Plan::sends(100_000), Plan::sends(0));
    scenario.wires[0].middleboxes.push(Middlebox::Corrupt {
        per_mille: 1000,
        left: 1,
        done: 0,
    });
    scenario.conns[0].options[CLIENT].checksum = true;
    let report = completes(&scenario);
    assert!(report.fallback[SERVER].is_some(), "{report:?}");
}

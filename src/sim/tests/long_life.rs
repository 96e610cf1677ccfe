//! Twenty hours of a program's life: connections that stay, connections that come and go, losses, cuts, addresses that come and go.

use super::{completes_in, trace_asked};
use crate::sim::app::{Finish, Pace, Plan};
use crate::sim::scenario::{client_addr, local_path, server_addr, Change, ConnSpec, Scenario, WireSpec};
use crate::sim::wire::{Faults, WireConfig};
use crate::sim::world::{World, CLIENT, SERVER};
use crate::time::{Duration, Instant};

const HOUR_S: u64 = 3600;
const HOURS: u64 = 20;
const MTU: u32 = 1500;

fn at_s(s: u64) -> Instant {
    Instant::from_millis(s * 1000)
}

/// 400 pieces with pauses of three minutes on average make twenty hours.
fn slowly() -> Plan {
    Plan {
        write: Pace {
            chunk_max: 20_000,
            pause_max: Duration::from_secs(360),
        },
        ..Plan::sends(5_000_000)
    }
}

fn scenario() -> Scenario {
    let mut scenario = Scenario::clean(1, slowly(), slowly());
    let config = WireConfig {
        faults: Faults {
            loss_per_mille: 10,
            reorder_per_mille: 5,
            reorder_by: Duration::from_millis(30),
            duplicate_per_mille: 2,
        },
        ..WireConfig::default()
    };
    let wire = |client, server| WireSpec {
        client: CLIENT,
        ends: (client_addr(client, false), server_addr(server, false)),
        config,
        middleboxes: vec![],
    };
    scenario.wires = vec![wire(0, 0), wire(1, 0), wire(1, 1), wire(0, 1)];
    let client: Vec<_> = [0, 1].map(|i| local_path(client_addr(i, false), i, MTU)).into();
    let server: Vec<_> = [0, 1].map(|i| local_path(server_addr(i, false), i, MTU)).into();
    scenario.paths = [client.clone(), server.clone(), Vec::new()];
    let conn = |plans, connect_at| ConnSpec {
        client: CLIENT,
        plans,
        connect_at,
        ..scenario.conns[0].clone()
    };
    let last = Plan {
        finish: Finish::ShutdownAfterEof,
        ..Plan::sends(0)
    };
    let mut conns = vec![
        conn([slowly(), slowly()], Instant::ZERO),
        // Half closed for all that time, in either direction.
        conn([Plan::sends(0), slowly()], at_s(1)),
        conn([slowly(), last], at_s(2)),
    ];
    // Ten an hour that do their work and end.
    for n in 0..10 * HOURS {
        conns.push(conn([Plan::sends(30_000), Plan::sends(60_000)], at_s(360 * n + 17)));
    }
    scenario.conns = conns;
    // Each address goes and comes back a few times an hour, and each wire but the first is cut now and then: there is always a way.
    for n in 0..6 * HOURS {
        let start = 600 * n;
        let change = |s, change| (at_s(start + s), change);
        let paths = |host, paths: &[_]| Change::Paths {
            host,
            paths: paths.to_vec(),
        };
        scenario.script.extend([
            change(100, paths(CLIENT, &client[..1])),
            change(160, paths(CLIENT, &client)),
            change(250, paths(SERVER, &server[..1])),
            change(310, paths(SERVER, &server)),
            change(400, Change::Cut(1)),
            change(430, Change::Mend(1)),
            change(500, Change::Cut(2)),
            change(505, Change::Cut(3)),
            change(530, Change::Mend(2)),
            change(540, Change::Mend(3)),
        ]);
    }
    scenario.calm_at = at_s(HOURS * HOUR_S);
    scenario.script.push((scenario.calm_at, Change::Calm));
    scenario
}

/// What an endpoint holds of connections that live and that have ended, in the middle of it: no more than these few connections explain, and in
/// the last hour no more than in the first. At the end nothing is left, which every scenario asks for.
#[test]
fn nothing_accumulates_in_twenty_hours() {
    let scenario = scenario();
    let mut world = World::new(&scenario, trace_asked());
    world.start().expect("it starts");
    for hour in 1..HOURS {
        // Ten seconds before a connection begins, and after one and its TIME_WAIT have ended.
        let over = world.run(at_s(hour * HOUR_S + 7)).expect("nothing is wrong");
        assert!(!over, "hour {hour}");
        for host in &world.hosts {
            let endpoint = &host.endpoint;
            let connections = endpoint.connections();
            assert!(connections.len() <= 3, "hour {hour}: {}", connections.len());
            assert!(
                endpoint.time_wait_len() <= 6,
                "hour {hour}: {}",
                endpoint.time_wait_len()
            );
            for conn in connections {
                let info = endpoint.info(conn).expect("it lives");
                let (bytes, entries) = endpoint.held(conn);
                assert!(
                    info.error.is_none() && info.subflows.len() <= 6,
                    "hour {hour}: {info:?}"
                );
                assert!(bytes <= 1 << 20 && entries <= 16, "hour {hour}: {bytes}, {entries}");
            }
        }
    }
    let report = completes_in(&scenario, &mut world);
    assert!(report.through_at > at_s(HOURS * HOUR_S / 2), "{report:?}");
    assert!(report.subflows_up.iter().all(|up| *up > 100), "{report:?}");
}

//! Draws a scenario from a seed. Whole classes of faults are off in most runs, so that each also runs alone and rarely hides another.

use super::app::{Finish, Pace, Plan, Start};
use super::middlebox::{Middlebox, Strip};
use super::rng::Rng;
use super::scenario::{client_addr, local_path, server_addr, Change, ConnSpec, Ending, Scenario, WireSpec};
use super::wire::{Dir, Faults, WireConfig};
use super::world::{CLIENT, OTHER, SERVER};
use crate::mptcp::endpoint::{ConnOptions, Keepalive, LocalPath};
use crate::time::{Duration, Instant};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeSet;

/// Number of the other client's first address.
const OTHERS_FIRST: u8 = 100;

/// The scenario of a seed.
pub fn scenario(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let calm_at = Instant::ZERO + rng.millis(500, 15_000);
    let mut scenario = Scenario {
        seed,
        wires: Vec::new(),
        one_line: false,
        paths: [const { Vec::new() }; 3],
        conns: Vec::new(),
        script: vec![(calm_at, Change::Calm)],
        calm_at,
        refuse_subflow_per_mille: if rng.chance(100) { 300 } else { 0 },
        edgy_numbers: rng.chance(300),
        ending: Ending::Orderly,
    };
    draw_network(&mut rng, &mut scenario);
    let conns = match rng.below(100) {
        0..=8 => rng.between(2, 4),
        9 => rng.between(5, 12),
        _ => 1,
    };
    for _ in 0..conns {
        draw_conn(&mut rng, &mut scenario, CLIENT);
    }
    if rng.chance(300) {
        draw_middlebox(&mut rng, &mut scenario);
    }
    if rng.chance(250) {
        draw_cuts(&mut rng, &mut scenario);
    }
    if rng.chance(150) {
        draw_path_changes(&mut rng, &mut scenario);
    }
    if rng.chance(100) {
        draw_pauses(&mut rng, &mut scenario);
    }
    if rng.chance(80) {
        draw_clock_jumps(&mut rng, &mut scenario);
    }
    if rng.chance(60) {
        draw_forger(&mut rng, &mut scenario);
    }
    if rng.chance(40) {
        draw_crash(&mut rng, &mut scenario);
    }
    draw_company(&mut Rng::new(seed ^ 0x636f_6d70), &mut scenario);
    if scenario.ending == Ending::MayBreak {
        // The RST may be lost, and only a probe tells an end that has nothing to send.
        let keepalive = Keepalive {
            idle: Duration::from_secs(10),
            interval: Duration::from_secs(2),
            count: 5,
        };
        for options in scenario.conns.iter_mut().flat_map(|c| &mut c.options) {
            options.keepalive = Some(keepalive);
        }
    }
    scenario
}

/// One to three client addresses and one or two server addresses, a wire between each pair of a family.
fn draw_network(rng: &mut Rng, scenario: &mut Scenario) {
    let v6 = rng.chance(250);
    let clients = rng.pick(&[1, 1, 2, 2, 2, 3]);
    let servers = rng.pick(&[1, 1, 1, 2]);
    let mtu = rng.pick(&[1500, 1500, 1500, 1500, 1500, 1280, 9000, 65_535]);
    let faults = if rng.chance(600) {
        draw_faults(rng)
    } else {
        Faults::default()
    };
    for s in 0..servers {
        for c in 0..clients {
            let config = WireConfig {
                rate_bps: rng.log_between(200_000, 100_000_000),
                delay: rng.millis(1, 100),
                queue_bytes: rng.log_between(4_000, 300_000),
                mtu,
                faults,
            };
            scenario.wires.push(WireSpec {
                client: CLIENT,
                ends: (client_addr(c, v6), server_addr(s, v6)),
                config,
                middleboxes: Vec::new(),
            });
        }
    }
    let backup = rng.chance(100);
    let path = |addr: IpAddr, i: u8| LocalPath {
        backup: backup && i == 1,
        ..local_path(addr, i, mtu)
    };
    if rng.chance(850) {
        scenario.paths[CLIENT] = (0..clients).map(|i| path(client_addr(i, v6), i)).collect();
    }
    if rng.chance(850) {
        scenario.paths[SERVER] = (0..servers).map(|i| path(server_addr(i, v6), i)).collect();
    }
}

/// Others beside what the scenario has: many connections at once, another client. Drawn from numbers of their own, so that the
/// scenarios of the other seeds stay what they are.
fn draw_company(rng: &mut Rng, scenario: &mut Scenario) {
    if rng.chance(30) {
        for _ in 0..rng.between(10, 40) {
            draw_conn(rng, scenario, CLIENT);
            crowd(rng, scenario);
        }
    }
    if rng.chance(120) {
        draw_other_client(rng, scenario);
    }
}

/// The last of many connections: short, and begun with the others.
fn crowd(rng: &mut Rng, scenario: &mut Scenario) {
    if let Some(conn) = scenario.conns.last_mut() {
        conn.connect_at = Instant::ZERO + rng.millis(0, 300);
        let total: u64 = conn.plans.iter().map(|plan| plan.send_bytes.min(20_000)).sum();
        for plan in &mut conn.plans {
            plan.send_bytes = plan.send_bytes.min(20_000);
            plan.write.pause_max = Duration::ZERO;
            plan.read.pause_max = Duration::ZERO;
            if let Finish::Abort(bytes) = &mut plan.finish {
                *bytes = (*bytes).min(total);
            }
            if let Start::AfterReading(bytes) = &mut plan.start {
                *bytes = (*bytes).min(1);
            }
        }
    }
}

/// A second client of the same server: wires to each of its addresses with rates, faults and cuts of their own.
fn draw_other_client(rng: &mut Rng, scenario: &mut Scenario) {
    let v6 = scenario.wires[0].ends.0.is_ipv6();
    let mtu = scenario.wires[0].config.mtu;
    let servers: BTreeSet<IpAddr> = scenario.wires.iter().map(|w| w.ends.1).collect();
    let addrs = rng.pick(&[1, 2, 2]);
    let first_wire = scenario.wires.len();
    for server in servers {
        for i in 0..addrs {
            let faults = if rng.chance(600) {
                draw_faults(rng)
            } else {
                Faults::default()
            };
            scenario.wires.push(WireSpec {
                client: OTHER,
                ends: (client_addr(OTHERS_FIRST + i, v6), server),
                config: WireConfig {
                    rate_bps: rng.log_between(200_000, 100_000_000),
                    delay: rng.millis(1, 100),
                    queue_bytes: rng.log_between(4_000, 300_000),
                    mtu,
                    faults,
                },
                middleboxes: Vec::new(),
            });
        }
    }
    if rng.chance(850) {
        let path = |i| local_path(client_addr(OTHERS_FIRST + i, v6), i, mtu);
        scenario.paths[OTHER] = (0..addrs).map(path).collect();
    }
    for _ in 0..rng.between(1, 3) {
        draw_conn(rng, scenario, OTHER);
    }
    if rng.chance(300) {
        draw_middlebox(rng, scenario);
    }
    let moment = |rng: &mut Rng, scenario: &Scenario| Instant::ZERO + rng.millis(0, scenario.calm_at.as_millis());
    if rng.chance(300) {
        let wire = first_wire + rng.below((scenario.wires.len() - first_wire) as u64) as usize;
        let at = moment(rng, scenario);
        scenario.script.push((at, Change::Cut(wire)));
        scenario.script.push((at + rng.millis(1, 4000), Change::Mend(wire)));
    }
    if rng.chance(150) {
        let at = moment(rng, scenario);
        let until = (at + Duration::from_millis(rng.log_between(10, 5000))).min(scenario.calm_at);
        scenario.script.push((at, Change::Pause { host: OTHER, until }));
    }
    if rng.chance(80) {
        let at = moment(rng, scenario);
        scenario.script.push((at, Change::Crash(OTHER)));
        scenario.ending = Ending::MayBreak;
    }
}

fn draw_faults(rng: &mut Rng) -> Faults {
    let mut faults = Faults::default();
    if rng.chance(600) {
        faults.loss_per_mille = rng.pick(&[1, 10, 20, 50, 200]);
    }
    if rng.chance(400) {
        faults.reorder_per_mille = rng.pick(&[10, 50, 300]);
        faults.reorder_by = rng.millis(1, 100);
    }
    if rng.chance(300) {
        faults.duplicate_per_mille = rng.pick(&[10, 100]);
    }
    faults
}

fn draw_conn(rng: &mut Rng, scenario: &mut Scenario, client: usize) {
    let mut plans = [draw_plan(rng), draw_plan(rng)];
    // Only one end may wait for the other.
    let waiter = rng.below(2) as usize;
    if rng.chance(300) {
        plans[waiter].start = Start::AfterReading(rng.below(plans[1 - waiter].send_bytes + 1));
    }
    if rng.chance(200) {
        plans[waiter].finish = Finish::ShutdownAfterEof;
    }
    draw_ending(rng, scenario, &mut plans);
    let mut options = [draw_options(rng), draw_options(rng)];
    if rng.chance(100) {
        options[rng.below(2) as usize].multipath = false;
    }
    let connect_at = if scenario.conns.is_empty() {
        Duration::ZERO
    } else {
        rng.millis(0, 3000)
    };
    scenario.conns.push(ConnSpec {
        client,
        plans,
        options,
        listening: true,
        connect_at: Instant::ZERO + connect_at,
    });
}

/// Some close early or abort.
fn draw_ending(rng: &mut Rng, scenario: &mut Scenario, plans: &mut [Plan; 2]) {
    let who = rng.below(2) as usize;
    let other = 1 - who;
    if rng.chance(60) {
        let bytes = plans[who].send_bytes + plans[other].send_bytes;
        plans[who].finish = Finish::Abort(rng.below(bytes + 1));
        scenario.ending = Ending::MayBreak;
    } else if rng.chance(100) {
        plans[who].finish = Finish::Close;
        if rng.chance(700) {
            // Nothing can come after the close but the end of stream.
            plans[other].send_bytes = 0;
            plans[who].start = Start::AtOnce;
        } else {
            scenario.ending = Ending::MayBreak;
        }
    }
}

fn draw_plan(rng: &mut Rng) -> Plan {
    let send_bytes = if rng.chance(150) {
        0
    } else {
        rng.log_between(1, 400_000)
    };
    Plan {
        send_bytes,
        write: draw_pace(rng, send_bytes),
        read: draw_pace(rng, send_bytes),
        start: Start::AtOnce,
        linger: if rng.chance(200) {
            rng.millis(0, 2000)
        } else {
            Duration::ZERO
        },
        finish: Finish::Shutdown,
    }
}

fn draw_pace(rng: &mut Rng, bytes: u64) -> Pace {
    if rng.chance(600) {
        return Pace {
            chunk_max: rng.log_between(1000, 100_000),
            pause_max: Duration::ZERO,
        };
    }
    // Tiny pieces of a long stream cost time and show nothing new.
    let smallest = (bytes / 2000).max(1);
    Pace {
        chunk_max: rng.log_between(smallest, smallest * 1000),
        pause_max: rng.millis(0, 100),
    }
}

fn draw_options(rng: &mut Rng) -> ConnOptions {
    let mut options = ConnOptions {
        checksum: rng.chance(250),
        nodelay: rng.chance(300),
        ..ConnOptions::default()
    };
    if rng.chance(150) {
        options.mss_limit = rng.pick(&[88, 216, 536, 1200]);
    }
    if rng.chance(300) {
        options.send_buffer = rng.log_between(2_000, 200_000) as usize;
    }
    if rng.chance(300) {
        options.recv_buffer = rng.log_between(4_000, 200_000) as usize;
    }
    options
}

/// One kind of middlebox, on one wire.
fn draw_middlebox(rng: &mut Rng, scenario: &mut Scenario) {
    let index = rng.below(scenario.wires.len() as u64) as usize;
    let towards = rng.pick(&[None, None, Some(Dir::Up), Some(Dir::Down)]);
    let strip = |what| Middlebox::Strip { what, towards };
    let public = match scenario.wires[index].ends.0 {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(203, 0, 113, index as u8 + 1)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xaa, index as u16, 0, 0, 0, 1)),
    };
    let middlebox = match rng.below(17) {
        0 => strip(Strip::MptcpFromSyn),
        1 => strip(Strip::MptcpFromData),
        2 => strip(Strip::MptcpAll),
        3 => strip(Strip::AddAddr),
        4 => strip(Strip::SackPermitted),
        5 => strip(Strip::Timestamps),
        6 => Middlebox::Strip {
            what: Strip::WindowScale,
            towards: None,
        },
        7 => Middlebox::DropCapableSyn,
        8 => Middlebox::DropJoinSyn,
        9 => Middlebox::ShiftSequence {
            by: [rng.next_u64() as u32, rng.next_u64() as u32],
        },
        10 => Middlebox::Split {
            max_payload: rng.between(50, 1000) as usize,
        },
        11 => Middlebox::coalesce(rng.between(1500, 20_000) as usize),
        12 => Middlebox::nat(public),
        13 => Middlebox::Version {
            version: rng.pick(&[0, 2, 15]),
            towards,
        },
        14 | 15 => Middlebox::ShrinkWindow {
            per_mille: rng.pick(&[10, 100, 500]),
            left: rng.between(1, 200) as u32,
        },
        _ => {
            // A connection whose only subflow is damaged may be beyond repair (RFC 8684 section 3.7).
            scenario.ending = Ending::MayBreak;
            for conn in &mut scenario.conns {
                conn.options[0].checksum = true;
            }
            Middlebox::Corrupt {
                per_mille: rng.pick(&[5, 50, 500]),
                left: rng.between(1, 3) as u32,
                done: 0,
            }
        }
    };
    scenario.wires[index].middleboxes.push(middlebox);
}

/// Wires go down and come back; all are up again when calm comes.
fn draw_cuts(rng: &mut Rng, scenario: &mut Scenario) {
    let calm_ms = scenario.calm_at.as_millis();
    for _ in 0..rng.between(1, 4) {
        let wire = rng.below(scenario.wires.len() as u64) as usize;
        let at = Instant::ZERO + rng.millis(0, calm_ms);
        scenario.script.push((at, Change::Cut(wire)));
        scenario.script.push((at + rng.millis(1, 4000), Change::Mend(wire)));
    }
}

/// Hosts stand still, as a laptop that sleeps or a process that is stopped.
fn draw_pauses(rng: &mut Rng, scenario: &mut Scenario) {
    for _ in 0..rng.between(1, 3) {
        let at = Instant::ZERO + rng.millis(0, scenario.calm_at.as_millis());
        let until = (at + Duration::from_millis(rng.log_between(10, 5000))).min(scenario.calm_at);
        let host = rng.pick(&[CLIENT, SERVER]);
        scenario.script.push((at, Change::Pause { host, until }));
    }
}

/// Clocks jump: far ahead as after a sleep that they did not see, or a little back.
fn draw_clock_jumps(rng: &mut Rng, scenario: &mut Scenario) {
    for _ in 0..rng.between(1, 3) {
        let at = Instant::ZERO + rng.millis(0, scenario.calm_at.as_millis());
        let host = rng.pick(&[CLIENT, SERVER]);
        let far = rng.log_between(1, 20_000) as i64;
        let by_ms = if rng.chance(500) { far } else { -(far / 10) };
        scenario.script.push((at, Change::Clock { host, by_ms }));
    }
}

/// Somebody on a wire sends what nobody meant. Its resets may be good enough to be believed.
fn draw_forger(rng: &mut Rng, scenario: &mut Scenario) {
    let index = rng.below(scenario.wires.len() as u64) as usize;
    scenario.wires[index].middleboxes.push(Middlebox::Forge {
        per_mille: rng.pick(&[5, 50, 300]),
        left: rng.between(1, 50) as u32,
    });
    scenario.ending = Ending::MayBreak;
}

/// An engine dies. The server's ports are closed afterwards.
fn draw_crash(rng: &mut Rng, scenario: &mut Scenario) {
    let at = Instant::ZERO + rng.millis(0, scenario.calm_at.as_millis());
    let host = rng.pick(&[CLIENT, SERVER]);
    scenario.script.push((at, Change::Crash(host)));
    scenario.ending = Ending::MayBreak;
}

/// Paths other than the first go and come back. The first stays: without it a connection whose join never came up has nothing left.
fn draw_path_changes(rng: &mut Rng, scenario: &mut Scenario) {
    let host = if rng.chance(700) { CLIENT } else { SERVER };
    let all = scenario.paths[host].clone();
    if all.len() < 2 {
        return;
    }
    let calm_ms = scenario.calm_at.as_millis();
    for _ in 0..rng.between(1, 3) {
        let at = Instant::ZERO + rng.millis(0, calm_ms);
        let kept = all
            .iter()
            .enumerate()
            .filter(|(i, _)| *i == 0 || rng.chance(400))
            .map(|(_, p)| *p)
            .collect();
        scenario.script.push((at, Change::Paths { host, paths: kept }));
    }
    scenario
        .script
        .push((scenario.calm_at, Change::Paths { host, paths: all }));
}

//! The schedulers against their rules in the plainest words, for any set of subflows.
//!
//! What BLEST and ECF compute is computed anew here: BLEST's segments are counted round by round, ECF is the paper's algorithm line by line.

use crate::mptcp::endpoint::{FourTuple, SubflowId};
use crate::mptcp::scheduler::{pick, Demand, Memory, Scheduler};
use crate::mptcp::subflow::{Join, State, Subflow};
use crate::time::{Duration, Instant};
use crate::wire::SeqNum;
use proptest::collection::vec;
use proptest::prelude::*;

const NOW: Instant = Instant::from_millis(1000);

#[derive(Clone, Debug)]
struct Path {
    srtt_ms: u64,
    /// Segments sent and not acknowledged; the initial window is ten.
    sent: u32,
    backup: bool,
    stalled: bool,
    /// Its handshake is not done.
    joining: bool,
}

fn path() -> impl Strategy<Value = Path> {
    let rarely = || prop::bool::weighted(0.15);
    // Whole multiples of ten, so that one round trip often is a whole number of another.
    (1u64..20, 0u32..12, rarely(), rarely(), rarely()).prop_map(|(tens, sent, backup, stalled, joining)| Path {
        srtt_ms: tens * 10,
        sent,
        backup,
        stalled,
        joining,
    })
}

fn demand() -> impl Strategy<Value = Demand> {
    (1u64..400_000, any::<bool>(), 1u64..2_000_000, prop::bool::weighted(0.2)).prop_map(
        |(unsent, endless, window, fast_only)| Demand {
            unsent,
            endless,
            window,
            fast_only,
        },
    )
}

fn subflow(id: usize, path: &Path) -> Subflow {
    let tuple = FourTuple {
        local: "192.0.2.1:1000".parse().unwrap(),
        remote: "198.51.100.1:80".parse().unwrap(),
    };
    let mut sf = Subflow::new(NOW, SubflowId(id as u32), tuple, 1, 1500, SeqNum(7), State::Established);
    sf.tx.rtt.on_sample(NOW, Duration::from_millis(path.srtt_ms));
    sf.local_backup = path.backup;
    sf.stalled = path.stalled;
    if path.joining {
        sf.join = Some(Join {
            local_nonce: 1,
            remote_nonce: 2,
            initiator: true,
        });
    }
    for _ in 0..path.sent {
        let tag = crate::mptcp::subflow::SendTag {
            dsn: crate::wire::Dsn(0),
            map: None,
            detached: None,
            elsewhere: false,
        };
        sf.tx.on_sent(NOW, sf.tx.mss(), false, tag);
    }
    sf
}

/// Whom data may go to: the best class of which there is one (RFC 8684 section 3.3.8). Silent ones are the last resort, backup or not.
fn class(paths: &[Path]) -> Vec<usize> {
    let of = |wanted: &dyn Fn(&Path) -> bool| -> Vec<usize> {
        let fits = |i: &usize| !paths[*i].joining && wanted(&paths[*i]);
        (0..paths.len()).filter(fits).collect()
    };
    let classes = [of(&|p| !p.stalled && !p.backup), of(&|p| !p.stalled), of(&|_| true)];
    classes.into_iter().find(|class| !class.is_empty()).unwrap_or_default()
}

/// Would the fast path, in the round trips that pass while one segment is on the slow one, fill what that leaves of the window? Its window
/// grows by a segment each round. None when the rounds are no whole number.
fn blest_waits(fast: &Subflow, slow: &Subflow, ms: (u64, u64), demand: &Demand) -> Option<bool> {
    if ms.1 % ms.0 != 0 {
        return None;
    }
    let (mut bytes, mut cwnd) = (0, u64::from(fast.tx.cc.cwnd()));
    for _ in 0..ms.1 / ms.0 {
        bytes += cwnd;
        cwnd += u64::from(fast.tx.mss());
    }
    Some(bytes + u64::from(slow.tx.pipe()) + u64::from(slow.tx.mss()) > demand.window)
}

/// Lim et al., algorithm 1. Round trips in ms; one sample makes their deviation half of them.
fn ecf_waits(waiting: &mut bool, fast: &Subflow, slow: &Subflow, ms: (u64, u64), demand: &Demand) -> bool {
    let k = demand.unsent as f64;
    let (rtt_f, rtt_s) = (ms.0 as f64, ms.1 as f64);
    let delta = f64::max(rtt_f / 2.0, rtt_s / 2.0);
    let n = 1.0 + k / f64::from(fast.tx.cc.cwnd());
    let beta = if *waiting { 0.25 } else { 0.0 };
    if n * rtt_f < (1.0 + beta) * (rtt_s + delta) {
        // Part of a window takes a round trip too.
        let rounds = f64::max(1.0, k / f64::from(slow.tx.cc.cwnd()));
        if rounds * rtt_s >= 2.0 * rtt_f + delta {
            *waiting = true;
            return true;
        }
        return false;
    }
    *waiting = false;
    false
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    // Proves P2, M3.3-16.
    #[test]
    fn every_rule_picks_what_it_says(paths in vec(path(), 2..6), demands in vec(demand(), 1..6)) {
        for rule in Scheduler::ALL {
            let mut subflows: Vec<Subflow> = paths.iter().enumerate().map(|(i, p)| subflow(i, p)).collect();
            let (mut memory, mut waiting, mut turn) = (Memory::default(), false, 0);
            for demand in &demands {
                let picked = pick(rule, &mut memory, NOW, &mut subflows, demand);
                let ms = |i: usize| paths[i].srtt_ms;
                let mut class = class(&paths);
                let fastest = class.iter().copied().min_by_key(|i| ms(*i));
                if let (true, Some(fastest)) = (demand.fast_only, fastest) {
                    class.retain(|i| ms(*i) <= 2 * ms(fastest));
                }
                let room: Vec<usize> = class.iter().copied().filter(|i| subflows[*i].tx.may_send(NOW)).collect();
                let Some(lowest) = room.iter().copied().min_by_key(|i| ms(*i)) else {
                    prop_assert_eq!(picked, None, "{}: nobody has room", rule);
                    continue;
                };
                if rule == Scheduler::RoundRobin {
                    let next = (0..paths.len()).map(|n| (turn + n) % paths.len()).find(|i| room.contains(i));
                    prop_assert_eq!(picked, next, "round robin");
                    turn = next.map_or(turn, |i| i + 1);
                    continue;
                }
                let fastest = fastest.unwrap_or(lowest);
                if lowest == fastest {
                    waiting = false;
                    prop_assert_eq!(picked, Some(fastest), "{}: the fastest has room", rule);
                    continue;
                }
                let (fast, slow, ms) = (&subflows[fastest], &subflows[lowest], (ms(fastest), ms(lowest)));
                let waits = match rule {
                    Scheduler::LowestRtt | Scheduler::Redundant => Some(false),
                    Scheduler::Blest => blest_waits(fast, slow, ms, demand),
                    Scheduler::Ecf => Some(ecf_waits(&mut waiting, fast, slow, ms, demand)),
                    Scheduler::Adaptive => blest_waits(fast, slow, ms, demand).map(|blest| {
                        blest || (!demand.endless && ecf_waits(&mut waiting, fast, slow, ms, demand))
                    }),
                    Scheduler::RoundRobin => None,
                };
                prop_assert!(picked.is_none_or(|i| i == lowest), "{rule}: {picked:?}, a slower one than {lowest}");
                match waits {
                    Some(waits) => prop_assert_eq!(picked, (!waits).then_some(lowest), "{}", rule),
                    // What ECF remembers is not known any more.
                    None => break,
                }
            }
        }
    }

    #[test]
    fn round_robin_is_fair(count in 2usize..8, picks in 1usize..60) {
        let path = Path { srtt_ms: 10, sent: 0, backup: false, stalled: false, joining: false };
        let mut subflows: Vec<Subflow> = (0..count).map(|i| subflow(i, &path)).collect();
        let demand = Demand { unsent: 1 << 20, endless: false, window: 1 << 20, fast_only: false };
        let (mut memory, mut turns) = (Memory::default(), vec![0; count]);
        for _ in 0..picks {
            let picked = pick(Scheduler::RoundRobin, &mut memory, NOW, &mut subflows, &demand);
            turns[picked.expect("all have room")] += 1;
        }
        prop_assert!(turns.iter().all(|n| (picks / count..=picks.div_ceil(count)).contains(n)), "{turns:?}");
    }
}

//! Which subflow takes the next segment; backup subflows only when nothing else is usable (RFC 8684 section 3.3.8).
//!
//! Every rule answers one question: the subflows with room are known, the fastest of them too; is it better to use it, or to wait for one
//! that is faster still and full? Waiting says None: an ACK, or pacing, asks again. A connection that wants low latency does not
//! spill over to subflows that are slow beside the fastest, whatever the rule. What arrives too late is `reinjection`'s.

use super::subflow::Subflow;
use crate::time::{Duration, Instant};
use core::fmt;
use core::str::FromStr;

/// A subflow is slow when its round-trip time is more than so many times that of the fastest.
const SLOW: u32 = 2;
/// ECF's hysteresis (Lim et al., CoNEXT 2017, section 4).
const ECF_BETA: f64 = 0.25;

/// The rules to choose from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scheduler {
    /// The lowest round trip, unless BLEST or ECF would wait: what a slower path takes neither fills the window that the faster one needs
    /// nor ends the transfer later.
    #[default]
    Adaptive,
    /// The lowest round trip among those with room (RFC 6182 section 5.4 and Linux before 5.7).
    LowestRtt,
    /// Blocking estimation (Ferlin et al., IFIP Networking 2016), with its factor λ fixed at 1.
    Blest,
    /// Earliest completion first (Lim et al., CoNEXT 2017).
    Ecf,
    /// One segment, or run of segments, on each in turn.
    RoundRobin,
    /// Everything on every subflow, as far as each keeps up.
    Redundant,
}

impl Scheduler {
    /// All of them.
    pub const ALL: [Scheduler; 6] = [
        Scheduler::Adaptive,
        Scheduler::LowestRtt,
        Scheduler::Blest,
        Scheduler::Ecf,
        Scheduler::RoundRobin,
        Scheduler::Redundant,
    ];

    /// Its name in options and in the environment.
    pub fn name(self) -> &'static str {
        match self {
            Scheduler::Adaptive => "adaptive",
            Scheduler::LowestRtt => "lowrtt",
            Scheduler::Blest => "blest",
            Scheduler::Ecf => "ecf",
            Scheduler::RoundRobin => "roundrobin",
            Scheduler::Redundant => "redundant",
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No scheduler has this name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownScheduler;

impl FromStr for Scheduler {
    type Err = UnknownScheduler;
    fn from_str(name: &str) -> Result<Self, UnknownScheduler> {
        let known = Scheduler::ALL.into_iter().find(|s| s.name() == name);
        known.ok_or(UnknownScheduler)
    }
}

/// What there is to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// Bytes that wait to be sent for the first time.
    pub unsent: u64,
    /// The program has more than fits into the send buffer.
    pub endless: bool,
    /// Bytes that may be unacknowledged at once: the peer's window, or the send buffer.
    pub window: u64,
    /// Subflows that are slow beside the fastest one count as full.
    pub fast_only: bool,
}

/// What a rule remembers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// Round robin: the id behind the one that had its turn.
    next: u32,
    /// ECF waits for the faster subflow.
    waiting: bool,
}

/// A subflow in the rules' figures; seconds and bytes.
#[derive(Clone, Copy, Debug)]
struct Path {
    rtt: f64,
    /// How far the round trip varies.
    sigma: f64,
    cwnd: f64,
    in_flight: f64,
    mss: f64,
}

impl Path {
    fn of(s: &Subflow) -> Path {
        Path {
            rtt: srtt(s).as_secs_f64(),
            sigma: s.tx.rtt.rttvar().unwrap_or_default().as_secs_f64(),
            cwnd: s.tx.cc.per_round(srtt(s)).max(f64::from(s.tx.mss())),
            in_flight: f64::from(s.tx.pipe()),
            mss: f64::from(s.tx.mss()),
        }
    }
}

/// Round trip, or a guess before the first sample.
pub(super) fn srtt(s: &Subflow) -> Duration {
    s.tx.rtt.srtt().unwrap_or(Duration::from_millis(100))
}

/// The subflows that data may go to, room or not.
pub(super) fn eligible(subflows: &[Subflow]) -> Vec<usize> {
    let regular = subflows.iter().any(|s| s.usable() && !s.stalled && !s.backup());
    let any_alive = subflows.iter().any(|s| s.usable() && !s.stalled);
    let fits = |s: &Subflow| {
        let waits = s.one_at_a_time && !s.tx.is_idle();
        s.usable() && !waits && (!s.stalled || !any_alive) && (!s.backup() || !regular)
    };
    (0..subflows.len()).filter(|&i| fits(&subflows[i])).collect()
}

/// The subflow for the next new segment, None when none may send now, or waiting is better.
pub(super) fn pick(
    rule: Scheduler,
    memory: &mut Memory,
    now: Instant,
    subflows: &mut [Subflow],
    demand: &Demand,
) -> Option<usize> {
    if let [only] = subflows {
        // The usual case, and the one that must cost nothing.
        let waits = only.one_at_a_time && !only.tx.is_idle();
        return (only.usable() && !waits && only.tx.may_send(now)).then_some(0);
    }
    let mut eligible = eligible(subflows);
    if demand.fast_only {
        let fastest = eligible.iter().map(|&i| srtt(&subflows[i])).min().unwrap_or_default();
        eligible.retain(|&i| srtt(&subflows[i]) <= fastest * SLOW);
    }
    let mut room: Vec<usize> = Vec::with_capacity(eligible.len());
    for &i in &eligible {
        if subflows[i].tx.may_send(now) {
            room.push(i);
        }
    }
    if rule == Scheduler::RoundRobin {
        return turn(memory, subflows, &room);
    }
    let lowest = |of: &[usize]| of.iter().copied().min_by_key(|&i| srtt(&subflows[i]));
    let best = lowest(&room)?;
    let fastest = lowest(&eligible)?;
    if best == fastest {
        memory.waiting = false;
        return Some(best);
    }
    let (fast, slow) = (Path::of(&subflows[fastest]), Path::of(&subflows[best]));
    let wait = match rule {
        Scheduler::Adaptive => blest(&fast, &slow, demand) || (!demand.endless && ecf(memory, &fast, &slow, demand)),
        Scheduler::Blest => blest(&fast, &slow, demand),
        Scheduler::Ecf => ecf(memory, &fast, &slow, demand),
        Scheduler::LowestRtt | Scheduler::RoundRobin | Scheduler::Redundant => false,
    };
    (!wait).then_some(best)
}

fn turn(memory: &mut Memory, subflows: &[Subflow], room: &[usize]) -> Option<usize> {
    let id = |i: &usize| subflows[*i].id.0;
    let next = room.iter().copied().filter(|i| id(i) >= memory.next).min_by_key(id);
    let chosen = next.or_else(|| room.iter().copied().min_by_key(id))?;
    memory.next = subflows[chosen].id.0 + 1;
    Some(chosen)
}

/// Ferlin et al., equation 2: what the fast path sends while a segment travels the slow one must fit into the window beside it.
fn blest(fast: &Path, slow: &Path, demand: &Demand) -> bool {
    let rounds = slow.rtt / fast.rtt;
    let fast_needs = fast.mss * (fast.cwnd / fast.mss + (rounds - 1.0) / 2.0) * rounds;
    fast_needs > demand.window as f64 - (slow.in_flight + slow.mss)
}

/// Lim et al., algorithm 1: waiting for the fast path ends the transfer earlier.
fn ecf(memory: &mut Memory, fast: &Path, slow: &Path, demand: &Demand) -> bool {
    let k = demand.unsent as f64;
    let delta = fast.sigma.max(slow.sigma);
    let by_fast = (1.0 + k / fast.cwnd) * fast.rtt;
    let beta = if memory.waiting { ECF_BETA } else { 0.0 };
    if by_fast >= (1.0 + beta) * (slow.rtt + delta) {
        memory.waiting = false;
        return false;
    }
    // Unless the slow path is through with all of it before the fast one could begin.
    let wait = (k / slow.cwnd).max(1.0) * slow.rtt >= 2.0 * fast.rtt + delta;
    memory.waiting |= wait;
    wait
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(rtt_ms: f64, segments: f64) -> Path {
        Path {
            rtt: rtt_ms / 1e3,
            sigma: 0.0,
            cwnd: segments * 1400.0,
            in_flight: 0.0,
            mss: 1400.0,
        }
    }

    fn demand(unsent: u64, window: u64) -> Demand {
        Demand {
            unsent,
            endless: false,
            window,
            fast_only: false,
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for rule in Scheduler::ALL {
            assert_eq!(rule.name().parse(), Ok(rule));
        }
        assert_eq!("fifo".parse::<Scheduler>(), Err(UnknownScheduler));
    }

    #[test]
    fn blest_leaves_the_slow_path_alone_when_the_window_is_what_the_fast_one_needs() {
        // Ten rounds of the fast path pass while one segment travels the slow one: 1400 * (20 + 4.5) * 10 = 343,000 bytes.
        let (fast, slow) = (path(10.0, 20.0), path(100.0, 20.0));
        assert!(blest(&fast, &slow, &demand(1 << 20, 344_000)));
        assert!(!blest(&fast, &slow, &demand(1 << 20, 345_000)));
    }

    #[test]
    fn ecf_keeps_the_end_of_a_transfer_on_the_fast_path() {
        let (fast, slow) = (path(10.0, 20.0), path(100.0, 20.0));
        let ecf = |unsent| ecf(&mut Memory::default(), &fast, &slow, &demand(unsent, 1 << 20));
        // Nine windows of the fast path take less than one round of the slow one, ten do not.
        assert!(ecf(8 * 28_000));
        assert!(!ecf(10 * 28_000));
    }

    #[test]
    fn ecf_goes_on_waiting_a_little_longer_than_it_began() {
        let (fast, slow) = (path(10.0, 20.0), path(100.0, 20.0));
        let mut memory = Memory::default();
        assert!(ecf(&mut memory, &fast, &slow, &demand(8 * 28_000, 1 << 20)));
        assert!(ecf(&mut memory, &fast, &slow, &demand(10 * 28_000, 1 << 20)));
        assert!(!ecf(&mut memory, &fast, &slow, &demand(12 * 28_000, 1 << 20)));
    }

    proptest! {
        /// Equal paths with a window for both are both used, whatever they are.
        #[test]
        fn no_rule_waits_for_a_path_that_is_no_faster(rtt in 0.1..2000.0f64, segments in 2.0..1000.0f64) {
            let p = path(rtt, segments);
            let much = demand(1 << 30, 1 << 30);
            prop_assert!(!blest(&p, &p, &much));
            prop_assert!(!ecf(&mut Memory::default(), &p, &p, &much));
        }
    }
}

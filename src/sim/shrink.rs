//! Makes a failing scenario smaller: leaves out whatever it can without the failure going away.
//!
//! Greedy: each simplification that still fails in the same way is kept, until none does. The random numbers of a run
//! follow from the scenario's seed and from what happens, so a smaller scenario is another run; only its kind of problem is
//! the same.

use super::app::{Finish, Pace, Start};
use super::problem::{Failure, Problem};
use super::scenario::{Change, Scenario};
use super::wire::Faults;
use crate::mptcp::endpoint::ConnOptions;
use crate::time::Duration;
use core::mem::discriminant;

/// Runs that one shrinking may take.
const RUNS_MAX: u32 = 2000;

/// The smallest scenario found that fails as this one did, with its failure. `run` tells how a scenario ends.
pub fn shrink(
    scenario: Scenario,
    failure: Failure,
    run: impl Fn(&Scenario) -> Result<(), Failure>,
) -> (Scenario, Failure) {
    let mut best = (scenario, failure);
    let mut runs = 0;
    loop {
        let before = runs;
        let mut smaller = None;
        for candidate in candidates(&best.0) {
            runs += 1;
            match run(&candidate) {
                Err(failure) if same_kind(&failure.problem, &best.1.problem) => {
                    smaller = Some((candidate, failure));
                    break;
                }
                _ if runs >= RUNS_MAX => break,
                _ => {}
            }
        }
        match smaller {
            Some(found) if runs < RUNS_MAX => best = found,
            Some(found) => return found,
            None => return best,
        }
        debug_assert!(runs > before);
    }
}

fn same_kind(a: &Problem, b: &Problem) -> bool {
    discriminant(a) == discriminant(b)
}

/// Scenarios with one thing less, the greatest steps first.
fn candidates(from: &Scenario) -> Vec<Scenario> {
    let mut list = Vec::new();
    let mut add = |change: &dyn Fn(&mut Scenario)| {
        let mut next = from.clone();
        change(&mut next);
        // A change that changes nothing would be found again and again.
        if format!("{next:?}") != format!("{from:?}") {
            list.push(next);
        }
    };
    for conn in 0..from.conns.len() {
        // Connections are numbered, so the last one goes; the others become empty.
        if conn + 1 == from.conns.len() && conn > 0 {
            add(&|s| {
                s.conns.pop();
            });
        }
        add(&|s| s.conns[conn].plans.iter_mut().for_each(|plan| plan.send_bytes = 0));
    }
    for wire in 0..from.wires.len() {
        add(&|s| s.wires[wire].middleboxes.clear());
        add(&|s| s.wires[wire].config.faults = Faults::default());
        add(&|s| s.wires[wire].config.faults.loss_per_mille = 0);
        add(&|s| s.wires[wire].config.faults.reorder_per_mille = 0);
        add(&|s| s.wires[wire].config.faults.duplicate_per_mille = 0);
    }
    for index in 0..from.script.len() {
        if !matches!(from.script[index].1, Change::Calm) {
            add(&|s| {
                s.script.remove(index);
            });
        }
    }
    for host in 0..from.paths.len() {
        add(&|s| s.paths[host].truncate(1));
    }
    add(&|s| s.refuse_subflow_per_mille = 0);
    add(&|s| s.edgy_numbers = false);
    for conn in 0..from.conns.len() {
        for end in 0..2 {
            add(&|s| s.conns[conn].options[end] = ConnOptions::default());
            add(&|s| s.conns[conn].plans[end].send_bytes /= 2);
            add(&|s| s.conns[conn].plans[end].write = Pace::FAST);
            add(&|s| s.conns[conn].plans[end].read = Pace::FAST);
            add(&|s| s.conns[conn].plans[end].start = Start::AtOnce);
            add(&|s| s.conns[conn].plans[end].linger = Duration::ZERO);
            add(&|s| s.conns[conn].plans[end].finish = Finish::Shutdown);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    fn fails(scenario: &Scenario) -> Failure {
        Failure {
            seed: scenario.seed,
            at: Instant::ZERO,
            problem: Problem::Livelock,
            scenario: String::new(),
        }
    }

    #[test]
    fn only_what_the_failure_needs_is_left() {
        // Fails as long as the first wire loses packets.
        let run = |s: &Scenario| match s.wires[0].config.faults.loss_per_mille {
            0 => Ok(()),
            _ => Err(fails(s)),
        };
        let mut scenario = (0..)
            .map(Scenario::draw)
            .find(|s| s.conns.len() > 1 && !s.wires.is_empty());
        let scenario = scenario.as_mut().expect("a seed with two connections");
        scenario.wires[0].config.faults.loss_per_mille = 10;
        scenario.wires[0].config.faults.duplicate_per_mille = 10;
        let (small, _) = shrink(scenario.clone(), fails(scenario), run);
        assert_eq!(small.conns.len(), 1);
        assert_eq!(small.conns[0].plans.map(|plan| plan.send_bytes), [0, 0]);
        let faults = small.wires[0].config.faults;
        assert_eq!((faults.loss_per_mille, faults.duplicate_per_mille), (10, 0));
        assert_eq!(small.script.len(), 1, "the calm");
    }

    #[test]
    fn another_kind_of_failure_does_not_count() {
        let scenario = Scenario::draw(1);
        let other = |s: &Scenario| {
            Err(Failure {
                problem: Problem::Deadlock(String::new()),
                ..fails(s)
            })
        };
        let (small, failure) = shrink(scenario.clone(), fails(&scenario), other);
        assert_eq!(format!("{small:?}"), format!("{scenario:?}"));
        assert_eq!(failure.problem, Problem::Livelock);
    }
}

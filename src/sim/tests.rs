//! Thousands of seeds, and directed scenarios by name. A failing seed prints the line that replays it.

use super::*;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

mod clean;
mod faults;
mod long_life;
mod middleboxes;
mod rates;

/// Seeds that `make check` runs; `SIM_SEEDS` asks for another number.
const SEEDS: u64 = 2000;

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// A failure in words that fit a terminal, with the line to replay it.
fn run_caught(seed: u64, trace: bool) -> Result<Report, String> {
    let replay = format!("replay: SIM_SEED={seed} cargo test --lib sim::tests::seeds -- --nocapture");
    match catch_unwind(AssertUnwindSafe(|| run_seed(seed, trace))) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(failure)) if trace => Err(format!("{failure}\n{replay}")),
        Ok(Err(failure)) => Err(format!(
            "seed {seed} at {:?}: {:?}\n  {replay}",
            failure.at, failure.problem
        )),
        Err(_) => Err(format!("seed {seed}: panic\n  {replay}")),
    }
}

/// The report of a directed scenario, which must find nothing wrong.
fn completes(scenario: &Scenario) -> Report {
    completes_in(scenario, &mut world::World::new(scenario, trace_asked()))
}

/// The same, in a world that was prepared.
fn completes_in(scenario: &Scenario, world: &mut world::World<'_>) -> Report {
    scenario.drive(world).unwrap_or_else(|failure| {
        panic!(
            "at {:?}: {:?}\n{}\nSIM_TRACE=1 shows the segments",
            failure.at,
            failure.problem,
            world.describe()
        )
    })
}

/// `SIM_TRACE=1`: directed scenarios print their segments too.
fn trace_asked() -> bool {
    std::env::var_os("SIM_TRACE").is_some()
}

/// `SIM_SEED` replays one seed with a trace; `SIM_SEEDS` and `SIM_FIRST` choose how many and from where.
#[test]
fn seeds() {
    if let Some(seed) = number_from_env("SIM_SEED") {
        let report = run_caught(seed, true).unwrap_or_else(|failure| panic!("{failure}"));
        println!("{report:#?}");
        return;
    }
    let first = number_from_env("SIM_FIRST").unwrap_or(0);
    let count = number_from_env("SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count {
                    break;
                }
                if let Err(failure) = run_caught(seed, false) {
                    // At once: a soak runs for hours.
                    println!("{failure}");
                    failures.lock().unwrap_or_else(|e| e.into_inner()).push((seed, failure));
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(|e| e.into_inner());
    failures.sort();
    let lines: Vec<_> = failures.iter().take(20).map(|(_, line)| line.as_str()).collect();
    assert!(
        failures.is_empty(),
        "{} of {count} seeds failed:\n{}",
        failures.len(),
        lines.join("\n")
    );
}

#[test]
fn a_seed_is_one_run() {
    for seed in [3, 14, 159] {
        let runs = [run_caught(seed, false), run_caught(seed, false)];
        assert_eq!(runs[0], runs[1]);
    }
}

//! The simulator: hosts, wires, middleboxes and applications in virtual time. One seed decides one run, byte for byte.
//!
//! `world` drives real `Endpoint`s exactly as the engine does (drain, then sleep until the next event); `wire` and `middlebox` do to their
//! packets what networks do; `app` writes and checks the streams; `monitor` looks at every segment sent; `scenario` draws all of it from a
//! seed: a safety phase under faults, then a calm phase in which everything must come to its end.
//!
//! Replay: `SIM_SEED=7 cargo test --lib sim::tests::seeds -- --nocapture` prints one seed's segments; `SIM_SEEDS` and `SIM_FIRST` choose how
//! many seeds the test runs, and from where; `SIM_TRACE=1` prints the segments of the directed scenarios.
//!
//! Absent on purpose: any clock, any global, any thread. A run that fails is replayed by its seed, with `trace` to see it.
#![deny(unsafe_code)]

pub mod app;
pub mod clock;
pub mod forge;
pub mod middlebox;
pub mod monitor;
pub mod packet;
pub mod problem;
pub mod rate;
pub mod rng;
pub mod scenario;
pub mod shrink;
pub mod stream;
pub mod trace;
pub mod wire;
pub mod world;

mod draw;
#[cfg(test)]
mod tests;

pub use problem::{Failure, Problem};
pub use scenario::{Report, Scenario};

/// Draws the scenario of `seed` and runs it; `trace` prints every segment and event to standard output.
pub fn run_seed(seed: u64, trace: bool) -> Result<Report, Failure> {
    Scenario::draw(seed).run(trace)
}

//! `mptcp sim`: one seed of the simulator, the replay line of a failed test.

use super::{print, Stop};
use lexopt::{Arg, ValueExt};
use mptcp::sim::{shrink::shrink, Scenario};
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs it; exit code 1 when the run finds something wrong.
pub fn run(arguments: Vec<OsString>) -> Result<ExitCode, Stop> {
    let (mut seed, mut trace, mut smaller) = (None, false, false);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("seed") => seed = Some(parser.value()?.parse::<u64>()?),
            Arg::Long("trace") => trace = true,
            Arg::Long("shrink") => smaller = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let seed = seed.ok_or_else(|| Stop::Usage("--seed N is missing".into()))?;
    let mut scenario = Scenario::draw(seed);
    if smaller {
        if let Err(failure) = scenario.run(false) {
            let quietly = |s: &Scenario| s.run(false).map(drop);
            scenario = shrink(scenario, failure, quietly).0;
        }
    }
    match scenario.run(trace) {
        Ok(report) => print(&format!("seed {seed} ran well\n{report:#?}\n")),
        Err(failure) => Err(Stop::Failed(failure.to_string())),
    }
}

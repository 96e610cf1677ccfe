//! `lab endure`: very many connections, one after the other and at once, with server and client under the library; what the two engines hold
//! before, with them, and after.
//!
//! Figures, not verdicts: `tests/servers/endurance_tests.rs` judges smaller numbers.

use crate::lab::{server_address, Holding, Lab, LabSpec, Talking, Wire};
use crate::peer::load::Load;
use lexopt::{Arg, ValueExt};
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

const HELP: &str = "usage: lab endure --library FILE [OPTIONS]
  --connections N      opened and closed in a row (default 100000)
  --idle N             held at once (default 10000)
  --idle-by-kernel     by kernel TCP on the client's side: for a server with as many descriptors as connections";
/// TIME_WAIT, and a bit.
const TIME_WAIT: Duration = Duration::from_secs(65);
/// How long the engines' wake-ups are counted.
const QUIET: Duration = Duration::from_secs(3);

struct Settings {
    library: PathBuf,
    connections: u64,
    idle: u64,
    idle_by_kernel: bool,
}

/// Runs all of it, some minutes.
pub fn run(arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let settings = parse(arguments).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("{e}\n{HELP}")))?;
    let lab = Lab::new(LabSpec::new([Wire::bare()]))?;
    let server = lab.server().std_server(&settings.library)?;
    let address = server.at(server_address(0, false)).to_string();
    let command = |what: &str, number: u64| {
        let mut command = lab.client().command(crate::lab::program()?);
        command.args(["load", what, &address, &number.to_string()]);
        io::Result::Ok(command)
    };
    let client = |what: &str, number: u64| Talking::start(command(what, number)?, &settings.library);
    // One connection that stays, so that there is a client's engine to look at.
    let mut held = client("idle", 1)?;
    held.line()?;
    show(&lab, "before")?;

    let mut churn = client("churn", settings.connections)?;
    let load: Load = serde_json::from_str(&churn.line()?)?;
    churn.child.wait()?;
    let rate = load.count as f64 / load.seconds;
    println!(
        "{} connections in {:.0} s, {rate:.0} a second",
        load.count, load.seconds
    );
    show(&lab, "right after")?;
    thread::sleep(TIME_WAIT);
    show(&lab, "after TIME_WAIT")?;

    let mut idle = match settings.idle_by_kernel {
        true => Talking::start_plain(command("idle", settings.idle)?)?,
        false => client("idle", settings.idle)?,
    };
    let load: Load = serde_json::from_str(&idle.line()?)?;
    println!("{} connections held, opened in {:.0} s", load.count, load.seconds);
    show(&lab, "held")?;
    idle.say()?;
    let load: Load = serde_json::from_str(&idle.line()?)?;
    println!("{} of them answered in {:.1} s", load.count, load.seconds);
    drop(idle);
    thread::sleep(TIME_WAIT);
    show(&lab, "closed, and after TIME_WAIT")
}

/// One line for each host.
fn show(lab: &Lab, when: &str) -> io::Result<()> {
    for (name, host) in [("server", lab.server()), ("client", lab.client())] {
        for holding in Holding::of(host)? {
            let wakeups = holding.wakeups_in(QUIET)?;
            println!(
                "{when:<28} {name}'s engine: {:>6} descriptors, {:>7} KB; {:>6} TCP sockets on the host; {wakeups} wake-ups in {QUIET:?}",
                holding.descriptors, holding.memory_kb, holding.sockets
            );
        }
    }
    Ok(())
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Settings, lexopt::Error> {
    let (mut library, mut connections, mut idle, mut idle_by_kernel) = (None, 100_000, 10_000, false);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("library") => library = Some(PathBuf::from(parser.value()?)),
            Arg::Long("connections") => connections = parser.value()?.parse()?,
            Arg::Long("idle") => idle = parser.value()?.parse()?,
            Arg::Long("idle-by-kernel") => idle_by_kernel = true,
            other => return Err(other.unexpected()),
        }
    }
    let library = library.ok_or("--library FILE is missing")?.canonicalize();
    Ok(Settings {
        library: library.map_err(|e| e.to_string())?,
        connections,
        idle,
        idle_by_kernel,
    })
}

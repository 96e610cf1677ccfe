//! `lab bench`: rates of downloads over pairs of wires, beside those of the kernel's own MPTCP under the same conditions.
//!
//! Figures, not verdicts: nothing here fails because something is slow.

use crate::lab::Wire;
use crate::transfer::{transfer, Carrier, Plan};
use lexopt::Arg;
use std::io;
use std::path::PathBuf;

struct Case {
    name: &'static str,
    wires: fn() -> Vec<Wire>,
    bytes: u64,
}

const CASES: &[Case] = &[
    Case {
        name: "2 x 50 Mbit/s, 10 ms",
        wires: || vec![Wire::new(50.0, 10.0); 2],
        bytes: 60_000_000,
    },
    Case {
        name: "20 Mbit/s 5 ms + 20 Mbit/s 150 ms",
        wires: || vec![Wire::new(20.0, 5.0), Wire::new(20.0, 150.0)],
        bytes: 40_000_000,
    },
    Case {
        name: "50 Mbit/s 10 ms 0.5 % loss + 20 Mbit/s 50 ms 1 % loss",
        wires: || vec![Wire::new(50.0, 10.0).loss(0.005), Wire::new(20.0, 50.0).loss(0.01)],
        bytes: 40_000_000,
    },
];

/// Prints a table.
pub fn run(arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let library = parse(arguments).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
    let library = library.canonicalize()?;
    let congestion = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
    println!(
        "Mbit/s of payload; the server's congestion control is {}",
        congestion.trim()
    );
    println!("{:<56} {:>8} {:>8}", "wires", "libmptcp", "kernel");
    for case in CASES {
        let rate = |carrier| {
            let plan = Plan {
                carrier,
                wires: (case.wires)(),
                bytes: case.bytes,
            };
            transfer(&plan, |_| Ok(())).map(|outcome| outcome.mbit())
        };
        let ours = rate(Carrier::Preload(library.clone()))?;
        let kernel = rate(Carrier::KernelMptcp)?;
        println!("{:<56} {ours:>8.1} {kernel:>8.1}", case.name);
    }
    Ok(())
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<PathBuf, lexopt::Error> {
    let mut library = None;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("library") => library = Some(PathBuf::from(parser.value()?)),
            other => return Err(other.unexpected()),
        }
    }
    library.ok_or_else(|| "--library FILE is missing".into())
}

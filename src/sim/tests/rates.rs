//! Rates against what the wires carry, as a snapshot, so that a regression shows in review.
//!
//! `rates.txt` has a line for each cell of the matrix: algorithm, wires, share of the wires' payload rate until so many bytes were read,
//! start-up included. `make check` runs the cells that are marked quick; `RATES=all cargo test --lib sim::tests::rates` runs all, and
//! `RATES=write` writes the file.

use crate::mptcp::endpoint::Algorithm;
use crate::sim::rate::{beside_tcp, lossy, wire, Transfer};
use crate::sim::wire::WireConfig;
use crate::time::Duration;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sim/tests/rates.txt");

struct Cell {
    name: String,
    algorithm: Algorithm,
    wires: Vec<WireConfig>,
    quick: bool,
}

/// One wire, and how many of them: Mbit/s, one-way milliseconds, loss per mille, wires, quick.
const WIRES: [(f64, f64, u32, usize, bool); 17] = [
    // Rates, from a modem's to a data centre's.
    (0.056, 100.0, 0, 2, true),
    (1.0, 25.0, 0, 2, false),
    (10.0, 25.0, 0, 2, true),
    (100.0, 10.0, 0, 2, false),
    (1000.0, 1.0, 0, 2, true),
    (10_000.0, 0.1, 0, 2, false),
    (100_000.0, 0.05, 0, 2, true),
    // Round trips, to a satellite's satellite.
    (20.0, 1.0, 0, 2, false),
    (20.0, 100.0, 0, 2, false),
    (2.0, 1000.0, 0, 2, true),
    // Losses.
    (20.0, 25.0, 5, 2, true),
    (20.0, 25.0, 20, 2, false),
    (20.0, 25.0, 50, 2, false),
    (20.0, 25.0, 200, 2, true),
    // Numbers of wires.
    (20.0, 25.0, 0, 1, true),
    (20.0, 25.0, 0, 4, false),
    (20.0, 25.0, 0, 8, true),
];

fn cells() -> Vec<Cell> {
    let pairs = [
        ("20M 5ms + 20M 150ms", vec![wire(20.0, 5.0), wire(20.0, 150.0)], true),
        (
            "50M 10ms 0.5% + 20M 50ms 1%",
            vec![lossy(50.0, 10.0, 5), lossy(20.0, 50.0, 10)],
            true,
        ),
        ("30M 40ms + 5M 10ms", vec![wire(30.0, 40.0), wire(5.0, 10.0)], true),
        ("2M 5ms + 100M 100ms", vec![wire(2.0, 5.0), wire(100.0, 100.0)], false),
    ];
    let same = WIRES.map(|(mbit, ms, loss, count, quick)| {
        let name = format!("{count} x {mbit}M {ms}ms {}%", f64::from(loss) / 10.0);
        (name, vec![lossy(mbit, ms, loss); count], quick)
    });
    let pairs = pairs.map(|(name, wires, quick)| (name.to_string(), wires, quick));
    let mut cells = Vec::new();
    for algorithm in [Algorithm::Bbr, Algorithm::Cubic] {
        for (name, wires, quick) in same.iter().chain(&pairs) {
            cells.push(Cell {
                name: name.clone(),
                algorithm,
                wires: wires.clone(),
                quick: *quick,
            });
        }
    }
    cells
}

impl Cell {
    /// Twenty round trips' worth and two seconds', 4 MB at the most.
    fn line(&self) -> String {
        let rate: u64 = self.wires.iter().map(|w| w.rate_bps / 8).sum();
        let longest = self.wires.iter().map(|w| w.delay * 2).max().unwrap_or_default();
        let seconds = longest.as_secs_f64() * 20.0 + 2.0;
        let bytes = ((rate as f64 * seconds) as u64).min(4_000_000);
        let mut transfer = Transfer::over(self.wires.clone());
        transfer.options.iter_mut().for_each(|o| o.congestion = self.algorithm);
        let ideal_us = bytes as f64 / rate as f64 * 1e6;
        transfer.step =
            Duration::from_micros((ideal_us / 500.0) as u64).clamp(Duration::from_micros(2), Duration::from_millis(10));
        let progress = transfer.run(Duration::from_secs(200), bytes);
        format!(
            "{} {}: {bytes} bytes {:.2}",
            self.algorithm,
            self.name,
            progress.share_of_bytes(bytes)
        )
    }
}

#[test]
fn rates_are_those_of_the_snapshot() {
    let asked = std::env::var("RATES").unwrap_or_default();
    let cells = cells();
    if asked == "write" {
        let lines: Vec<String> = cells.iter().map(Cell::line).collect();
        std::fs::write(FILE, lines.join("\n") + "\n").unwrap();
        return;
    }
    let known = std::fs::read_to_string(FILE).unwrap();
    let known: Vec<&str> = known.lines().collect();
    assert_eq!(known.len(), cells.len(), "RATES=write makes it anew");
    let mut changed = Vec::new();
    for (cell, known) in cells.iter().zip(known).filter(|(cell, _)| cell.quick || asked == "all") {
        let line = cell.line();
        if line != known {
            changed.push(format!("- {known}\n+ {line}"));
        }
    }
    assert!(
        changed.is_empty(),
        "RATES=write if it is meant so:\n{}",
        changed.join("\n")
    );
}

/// Two subflows and one TCP connection, all of one algorithm, through one wire of 20 Mbit/s and 20 ms.
#[test]
fn two_coupled_subflows_take_about_what_one_connection_does() {
    for algorithm in [Algorithm::Lia, Algorithm::Olia, Algorithm::Balia] {
        let [two, one] = beside_tcp(algorithm, wire(20.0, 20.0), Duration::from_secs(40));
        let ratio = two as f64 / one as f64;
        println!("{algorithm}: {ratio:.2}");
        assert!((0.5..1.6).contains(&ratio), "{algorithm}: {ratio}");
    }
}

//! What `lab bench` measures: wires, what goes over them, and what becomes of it on the way.

use crate::lab::{Lab, Wire};
use std::io;
use std::thread;
use std::time::Duration;

const IDLE_CONNECTIONS: u64 = 500;
const RANDOM_PAIRS: u64 = 10;
/// Of a run with a disturbance, ms.
const DISTURBED_MS: u64 = 3000;

/// What carries the client's connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// This library, on the link that it chooses.
    Own,
    /// This library in a namespace with a table of nftables in it: the ip link.
    OwnIp,
    KernelMptcp,
    KernelTcp,
}

const ALL: &[Carrier] = &[Carrier::Own, Carrier::OwnIp, Carrier::KernelMptcp, Carrier::KernelTcp];
const PATHS: &[Carrier] = &[Carrier::Own, Carrier::KernelMptcp, Carrier::KernelTcp];
const BOTH: &[Carrier] = &[Carrier::Own, Carrier::KernelMptcp];
const OWN: &[Carrier] = &[Carrier::Own];

/// One measurement.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub wires: Vec<Wire>,
    /// What `lab load` does, and its number.
    pub what: &'static str,
    pub number: u64,
    pub measure: Measure,
    pub carriers: &'static [Carrier],
    /// Congestion control of both sides.
    pub congestion: &'static str,
    /// One run is enough: there are many of its kind.
    pub once: bool,
}

/// How a load becomes a figure.
#[derive(Clone, Copy, PartialEq)]
pub enum Measure {
    /// Gbit/s, and CPU seconds of client, engine and server per gigabyte.
    Bulk,
    /// Share of the wires' payload rate.
    Share,
    /// The longest silence.
    Silence(Disturbance),
    /// Microseconds for each.
    Latency,
    /// So many a second.
    Rate,
    /// Kilobytes of memory for each idle connection.
    Memory,
    /// How often a second the engine wakes with one idle connection.
    WakeUps,
}

/// What happens to the first wire, from a third of the time on.
#[derive(Clone, Copy, PartialEq)]
pub enum Disturbance {
    /// Nothing passes any more.
    Cut,
    /// Nothing passes for 100 ms.
    BlackOut,
    /// Five times 100 ms without, and 200 ms with.
    Flap,
    /// Ten times the delay.
    Delay,
}

impl Disturbance {
    /// Does it, in its time.
    pub fn act(self, lab: &Lab, wire: &Wire) -> io::Result<()> {
        let handle = lab.wire(0);
        let pause = |ms| thread::sleep(Duration::from_millis(ms));
        pause(DISTURBED_MS / 3);
        match self {
            Disturbance::Cut => handle.cut(),
            Disturbance::BlackOut => {
                handle.cut()?;
                pause(100);
                handle.mend()
            }
            Disturbance::Flap => (0..5).try_for_each(|_| {
                handle.cut()?;
                pause(100);
                handle.mend()?;
                pause(200);
                Ok(())
            }),
            Disturbance::Delay => handle.set(wire.both(|line| line.delay_ms *= 10.0)),
        }
    }
}

/// All of them; transfers over wires take `ms`.
pub fn cases(ms: u64) -> Vec<Case> {
    let mut cases = bare();
    let pairs: [(&str, Vec<Wire>); 4] = [
        ("2 x (50 Mbit/s 10 ms)", vec![Wire::new(50.0, 10.0); 2]),
        (
            "20 Mbit/s 5 ms + 20 Mbit/s 150 ms",
            vec![Wire::new(20.0, 5.0), Wire::new(20.0, 150.0)],
        ),
        (
            "50 Mbit/s 10 ms 0.5 % loss + 20 Mbit/s 50 ms 1 %",
            vec![Wire::new(50.0, 10.0).loss(0.005), Wire::new(20.0, 50.0).loss(0.01)],
        ),
        (
            "30 Mbit/s 40 ms + 5 Mbit/s 10 ms",
            vec![Wire::new(30.0, 40.0), Wire::new(5.0, 10.0)],
        ),
    ];
    for (name, wires) in &pairs {
        for congestion in ["bbr", "cubic"] {
            for (sender, what) in [("we send", "upload"), ("kernel sends", "download")] {
                let name = format!("{name}, {sender}, {congestion}");
                cases.push(case(name, wires.clone(), what, ms, Measure::Share, PATHS).with(congestion));
            }
        }
    }
    for (name, disturbance) in [
        ("a wire is cut", Disturbance::Cut),
        ("a wire is dead for 100 ms", Disturbance::BlackOut),
        ("a wire flaps", Disturbance::Flap),
        ("a wire's delay is ten times as long", Disturbance::Delay),
    ] {
        for (sender, what) in [("we send", "upload"), ("kernel sends", "download")] {
            let wires = vec![Wire::new(50.0, 10.0); 2];
            let measure = Measure::Silence(disturbance);
            cases.push(case(
                format!("{name}, {sender}"),
                wires,
                what,
                DISTURBED_MS,
                measure,
                BOTH,
            ));
        }
    }
    cases.extend(random_pairs(ms));
    cases
}

/// Without emulator: what the processor's time limits.
fn bare() -> Vec<Case> {
    let rows = [
        ("bare veth, download", "download", 1500, Measure::Bulk, ALL),
        ("bare veth, upload", "upload", 1500, Measure::Bulk, ALL),
        ("1-byte ping-pong", "ping", 3000, Measure::Latency, ALL),
        ("connect, 1 byte each way", "connect", 300, Measure::Latency, ALL),
        ("connections, 1 KB each way", "exchange", 1000, Measure::Rate, ALL),
        ("idle connection", "idle", IDLE_CONNECTIONS, Measure::Memory, BOTH),
        ("idle engine", "idle", 1, Measure::WakeUps, OWN),
    ];
    rows.map(|(name, what, number, measure, carriers)| {
        case(name.into(), vec![Wire::bare()], what, number, measure, carriers)
    })
    .into()
}

/// Unequal wires, the same ones each time; the first is the better one.
fn random_pairs(ms: u64) -> Vec<Case> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |limit: u64| {
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    (0..RANDOM_PAIRS)
        .map(|_| {
            let mut wire = || (5 + below(56), 2 + below(119));
            let (one, other) = (wire(), wire());
            let ((rate, delay), (second_rate, second_delay)) =
                if one.0 >= other.0 { (one, other) } else { (other, one) };
            let name = format!("{rate} Mbit/s {delay} ms + {second_rate} Mbit/s {second_delay} ms, we send, cubic");
            let wires =
                [(rate, delay), (second_rate, second_delay)].map(|(rate, delay)| Wire::new(rate as f64, delay as f64));
            Case {
                once: true,
                ..case(name, wires.into(), "upload", ms, Measure::Share, PATHS)
            }
        })
        .collect()
}

fn case(
    name: String,
    wires: Vec<Wire>,
    what: &'static str,
    number: u64,
    measure: Measure,
    carriers: &'static [Carrier],
) -> Case {
    Case {
        name,
        wires,
        what,
        number,
        measure,
        carriers,
        congestion: "cubic",
        once: false,
    }
}

impl Case {
    fn with(self, congestion: &'static str) -> Case {
        Case { congestion, ..self }
    }
}

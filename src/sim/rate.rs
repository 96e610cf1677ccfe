//! How fast: one bulk transfer over given wires, as the reader sees it. Deterministic, whatever else the machine does.
//!
//! The client writes for as long as the run lasts, the server reads at once. Rates count from the moment the server has the connection, as
//! an application's own clock would, and are shares of what the wires' rates leave for payload.

use super::app::Plan;
use super::scenario::{client_addr, local_path, server_addr, Change, Scenario, WireSpec};
use super::wire::WireConfig;
use super::world::{World, CLIENT, SERVER};
use crate::mptcp::endpoint::{Algorithm, ConnOptions};
use crate::time::{Duration, Instant};

/// Payload of a full packet of `MTU` bytes beside IPv4, TCP, timestamps and a mapping.
const PAYLOAD: u64 = 1428;
const MTU: u64 = 1500;
/// More than any run moves.
const ENDLESS: u64 = 1 << 40;

/// A bulk transfer to be timed.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// The wires; the connection begins on the first.
    pub wires: Vec<WireConfig>,
    /// Options of client and server.
    pub options: [ConnOptions; 2],
    /// Wires that are cut and mended.
    pub script: Vec<(Instant, Change)>,
    /// Decides which packets are lost.
    pub seed: u64,
    /// How often the reader is looked at.
    pub step: Duration,
}

/// What the reader saw.
#[derive(Clone, Debug)]
pub struct Progress {
    /// When the server had the connection.
    pub begin: Instant,
    /// Bytes read at the end of each step since.
    pub read: Vec<u64>,
    /// How long a step is.
    pub step: Duration,
    /// Payload bytes a second that all the wires carry.
    pub payload_rate: f64,
}

/// A wire of a rate and a one-way delay, with a queue as long as the round trip (20 ms, and 64 KiB, at least).
pub fn wire(mbit: f64, delay_ms: f64) -> WireConfig {
    let queue_ms = (2.0 * delay_ms).max(20.0);
    WireConfig {
        rate_bps: (mbit * 1e6) as u64,
        delay: Duration::from_micros((delay_ms * 1000.0) as u64),
        queue_bytes: ((mbit * 125.0 * queue_ms) as u64).max(65_536),
        ..WireConfig::default()
    }
}

/// The same, losing so many packets of a thousand.
pub fn lossy(mbit: f64, delay_ms: f64, loss_per_mille: u32) -> WireConfig {
    let mut config = wire(mbit, delay_ms);
    config.faults.loss_per_mille = loss_per_mille;
    config
}

impl Transfer {
    /// Over these wires with default options.
    pub fn over(wires: Vec<WireConfig>) -> Transfer {
        Transfer {
            wires,
            options: [ConnOptions::default(), ConnOptions::default()],
            script: Vec::new(),
            seed: 1,
            step: Duration::from_millis(1),
        }
    }

    /// Runs it until the reader has had `bytes`, or has read for `time`.
    pub fn run(&self, time: Duration, bytes: u64) -> Progress {
        let count = self.wires.len() as u8;
        let mut scenario = Scenario::clean(count, Plan::sends(ENDLESS), Plan::sends(0));
        scenario.seed = self.seed;
        scenario.wires = (0..count)
            .map(|i| WireSpec {
                client: CLIENT,
                ends: (client_addr(i, false), server_addr(0, false)),
                config: self.wires[usize::from(i)],
                middleboxes: vec![],
            })
            .collect();
        scenario.paths[0] = (0..count)
            .map(|i| local_path(client_addr(i, false), i, MTU as u32))
            .collect();
        scenario.conns[0].options = self.options.clone();
        scenario.script = self.script.clone();
        let mut world = World::new(&scenario, false);
        let rate: u64 = self.wires.iter().map(|w| w.rate_bps).sum();
        let mut progress = Progress {
            begin: Instant::ZERO,
            read: Vec::new(),
            step: self.step,
            payload_rate: rate as f64 / 8.0 * PAYLOAD as f64 / MTU as f64,
        };
        let mut at = Instant::ZERO;
        let patience = Instant::ZERO + time + Duration::from_secs(30);
        let mut ok = world.start().map(|()| true);
        while let (Ok(_), true) = (&ok, at < patience) {
            at += self.step;
            ok = world.run(at);
            let Some(read) = world.hosts[SERVER].apps.values().next().map(|app| app.received) else {
                continue;
            };
            if progress.read.is_empty() {
                progress.begin = at;
            }
            progress.read.push(read);
            if read >= bytes || at.since(progress.begin) >= time {
                break;
            }
        }
        if let Err(problem) = ok {
            panic!("{problem:?} after {at:?}\n{}", world.describe());
        }
        progress
    }
}

/// Two subflows of one connection and one TCP connection through one wire, all with the same algorithm: the bytes that each had delivered in
/// the second half of `time`.
pub fn beside_tcp(algorithm: Algorithm, line: WireConfig, time: Duration) -> [u64; 2] {
    let mut scenario = Scenario::clean(2, Plan::sends(ENDLESS), Plan::sends(0));
    scenario.one_line = true;
    scenario.wires.iter_mut().for_each(|wire| wire.config = line);
    for options in &mut scenario.conns[0].options {
        options.congestion = algorithm;
    }
    let mut tcp = scenario.conns[0].clone();
    tcp.options.iter_mut().for_each(|options| options.multipath = false);
    scenario.conns.push(tcp);
    let mut world = World::new(&scenario, false);
    let mut read = [[0; 2]; 2];
    let mut ok = world.start().map(|()| true);
    for (half, read) in read.iter_mut().enumerate() {
        ok = ok.and_then(|_| world.run(Instant::ZERO + time * (half as u32 + 1) / 2));
        for app in world.hosts[SERVER].apps.values() {
            read[app.name.conn] = app.received;
        }
    }
    if let Err(problem) = ok {
        panic!("{problem:?}\n{}", world.describe());
    }
    [0, 1].map(|conn| read[1][conn] - read[0][conn])
}

impl Progress {
    /// Share of the wires' payload rate in the first `time`.
    pub fn share_of_first(&self, time: Duration) -> f64 {
        self.share_between(Duration::ZERO, time)
    }

    /// Share of the wires' payload rate from `from` to `to` after the beginning.
    pub fn share_between(&self, from: Duration, to: Duration) -> f64 {
        let at = |t: Duration| -> u64 {
            let steps = (t.as_micros() / self.step.as_micros()) as usize;
            let known = self.read.get(steps.saturating_sub(1)).or(self.read.last());
            if steps == 0 {
                0
            } else {
                known.copied().unwrap_or(0)
            }
        };
        (at(to) - at(from)) as f64 / (self.payload_rate * (to - from).as_secs_f64())
    }

    /// The same until the reader had `bytes`; 0 when it never had.
    pub fn share_of_bytes(&self, bytes: u64) -> f64 {
        match self.read.iter().position(|read| *read >= bytes) {
            Some(step) => bytes as f64 / (self.payload_rate * (step + 1) as f64 * self.step.as_secs_f64()),
            None => 0.0,
        }
    }

    /// The longest time without a byte read between `from` and the end.
    pub fn longest_silence(&self, from: Duration) -> Duration {
        let first = (from.as_micros() / self.step.as_micros()) as usize;
        let (mut longest, mut since) = (0, first);
        for step in first.max(1)..self.read.len() {
            if self.read[step] != self.read[step - 1] {
                longest = longest.max(step - since);
                since = step;
            }
        }
        self.step * longest.max(self.read.len().saturating_sub(since + 1)) as u32
    }
}

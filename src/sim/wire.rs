//! A wire between two hosts: rate, delay, queue, loss, reordering, duplication, cuts, and the middleboxes on it.
//!
//! Not here: routing (`world`), and what middleboxes do (`middlebox`).

use super::middlebox::Middlebox;
use super::packet::Packet;
use super::rng::Rng;
use crate::time::{Duration, Instant};

/// Direction of travel over a wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Dir {
    /// From the client's end to the server's.
    Up,
    /// From the server's end to the client's.
    Down,
}

/// What a wire is like, the same in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WireConfig {
    /// Bits a second; the serialisation time of a packet follows from it.
    pub rate_bps: u64,
    /// One-way propagation delay.
    pub delay: Duration,
    /// Bytes that may wait for their turn, for each direction.
    pub queue_bytes: u64,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// What goes wrong.
    pub faults: Faults,
}

/// Random faults of a wire; `Faults::default()` is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Packets lost, per mille.
    pub loss_per_mille: u32,
    /// Packets that arrive later than their turn, per mille.
    pub reorder_per_mille: u32,
    /// How much later at most.
    pub reorder_by: Duration,
    /// Packets that arrive twice, per mille.
    pub duplicate_per_mille: u32,
}

impl Default for WireConfig {
    /// 10 Mbit/s, 10 ms, 64 KB of queue, Ethernet's MTU, no faults.
    fn default() -> Self {
        WireConfig {
            rate_bps: 10_000_000,
            delay: Duration::from_millis(10),
            queue_bytes: 64 << 10,
            mtu: 1500,
            faults: Faults::default(),
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It comes out at the other end then, unless the wire is cut before.
    Arrives(Instant),
    /// Random loss.
    Lost,
    /// Loss that a test asked for.
    Picked,
    /// No room in the queue.
    QueueFull,
    /// The wire is cut.
    Cut,
}

/// A directed test's say in a packet's fate: true loses it.
pub type Picker = Box<dyn FnMut(Dir, &Packet) -> bool>;

/// One wire.
pub struct Wire {
    /// Its properties; may change during the run.
    pub config: WireConfig,
    /// False while it is cut.
    pub up: bool,
    /// What sits on it, from the client's end on.
    pub middleboxes: Vec<Middlebox>,
    /// Loses what a directed test points at.
    pub picker: Option<Picker>,
    /// Payload bytes delivered, per direction.
    pub delivered_bytes: [u64; 2],
    /// Nanoseconds: a packet takes 120 of them at 100 Gbit/s.
    busy_until_ns: [u64; 2],
    rng: Rng,
}

impl Wire {
    /// A wire that is up.
    pub fn new(config: WireConfig, middleboxes: Vec<Middlebox>, rng: Rng) -> Self {
        Wire {
            config,
            up: true,
            middleboxes,
            picker: None,
            delivered_bytes: [0; 2],
            busy_until_ns: [0; 2],
            rng,
        }
    }

    /// Puts a packet in at one end; says what becomes of it, or of the packets that middleboxes made of it.
    pub fn send(&mut self, now: Instant, dir: Dir, packet: Packet) -> Vec<(Packet, Fate)> {
        let mut packets = vec![packet];
        for index in self.order(dir) {
            let mut next = Vec::new();
            for packet in packets {
                self.middleboxes[index].pass(dir, packet, &mut self.rng, &mut next);
            }
            packets = next;
        }
        self.travel_all(now, dir, packets)
    }

    /// Lets go of what a coalescing middlebox holds.
    pub fn flush(&mut self, now: Instant, dir: Dir) -> Vec<(Packet, Fate)> {
        let mut packets = Vec::new();
        for index in self.order(dir) {
            let mut next = Vec::new();
            for packet in packets {
                self.middleboxes[index].pass(dir, packet, &mut self.rng, &mut next);
            }
            next.extend(self.middleboxes[index].release(dir));
            packets = next;
        }
        self.travel_all(now, dir, packets)
    }

    /// A middlebox holds a packet of that direction.
    pub fn holds(&self, dir: Dir) -> bool {
        self.middleboxes.iter().any(|m| m.holds(dir))
    }

    fn order(&self, dir: Dir) -> Vec<usize> {
        let forward = 0..self.middleboxes.len();
        match dir {
            Dir::Up => forward.collect(),
            Dir::Down => forward.rev().collect(),
        }
    }

    fn travel_all(&mut self, now: Instant, dir: Dir, packets: Vec<Packet>) -> Vec<(Packet, Fate)> {
        let mut fates = Vec::with_capacity(packets.len());
        for packet in packets {
            let fate = self.travel(now, dir, &packet);
            if let (Fate::Arrives(at), true) = (fate, self.rng.chance(self.config.faults.duplicate_per_mille)) {
                let later = at + self.config.delay / 2;
                fates.push((packet.clone(), Fate::Arrives(later)));
            }
            fates.push((packet, fate));
        }
        fates
    }

    fn travel(&mut self, now: Instant, dir: Dir, packet: &Packet) -> Fate {
        if !self.up {
            return Fate::Cut;
        }
        if self.picker.as_mut().is_some_and(|pick| pick(dir, packet)) {
            return Fate::Picked;
        }
        let busy_ns = &mut self.busy_until_ns[dir as usize];
        let now_ns = now.as_micros() * 1000;
        let waiting_ns = busy_ns.saturating_sub(now_ns);
        let rate = self.config.rate_bps.max(1000);
        let backlog_bytes = (u128::from(waiting_ns) * u128::from(rate) / 8_000_000_000) as u64;
        let size = packet.ip_len() as u64;
        // An idle wire takes any packet, whatever its queue.
        if backlog_bytes > 0 && backlog_bytes + size > self.config.queue_bytes {
            return Fate::QueueFull;
        }
        *busy_ns = now_ns + waiting_ns + size * 8_000_000_000 / rate;
        let mut arrives = Instant::from_micros(busy_ns.div_ceil(1000)) + self.config.delay;
        let faults = &self.config.faults;
        if self.rng.chance(faults.loss_per_mille) {
            return Fate::Lost;
        }
        if self.rng.chance(faults.reorder_per_mille) {
            arrives += Duration::from_micros(self.rng.below(faults.reorder_by.as_micros() as u64 + 1));
        }
        Fate::Arrives(arrives)
    }
}

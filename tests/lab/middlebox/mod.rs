//! The boxes in a wire: frames in, frames out. Pure: time is an argument, the only randomness is the seed of the sequence shift.

mod coalesce;
mod frame;
mod translate;

#[cfg(test)]
mod tests;

pub use frame::is_neighbour_discovery;

use crate::lab::spec::{LineStats, Middlebox, Toward};
use frame::{Parsed, TcpFrame, ACK, ADD_ADDR, MP_CAPABLE, MP_JOIN, SYN};
use std::time::Duration;

/// The boxes of one wire, the first one nearest to the client.
pub struct Chain {
    boxes: Vec<State>,
}

/// A box with what it remembers.
enum State {
    /// Boxes that look at one segment at a time.
    Plain(Middlebox),
    Corrupt(translate::Corrupt),
    Shift(translate::Shift),
    Nat(translate::Nat),
    Merge(coalesce::Merge),
}

impl State {
    fn new(wire: usize, seed: u64, kind: Middlebox) -> State {
        match kind {
            Middlebox::CorruptOnce { .. } | Middlebox::CorruptEvery { .. } => {
                State::Corrupt(translate::Corrupt::new(kind))
            }
            Middlebox::ShiftSequence => State::Shift(translate::Shift::new(seed)),
            Middlebox::Nat => State::Nat(translate::Nat::new(wire)),
            Middlebox::Merge { equal_options } => State::Merge(coalesce::Merge::new(equal_options)),
            plain => State::Plain(plain),
        }
    }

    fn handle(&mut self, now: Duration, toward: Toward, mut segment: TcpFrame, out: &mut Vec<TcpFrame>) {
        match self {
            State::Plain(Middlebox::Split { max_payload }) => {
                return coalesce::split(segment, *max_payload as usize, out);
            }
            State::Merge(merge) => return merge.handle(now, toward, segment, out),
            State::Plain(kind) if drops(*kind, &segment) => return,
            State::Plain(kind) => strip(*kind, &mut segment),
            State::Corrupt(corrupt) => corrupt.handle(toward, &mut segment),
            State::Shift(shift) => shift.handle(toward, &mut segment),
            State::Nat(nat) => nat.handle(toward, &mut segment),
        }
        out.push(segment);
    }
}

/// True when a box of this kind swallows the segment.
fn drops(kind: Middlebox, segment: &TcpFrame) -> bool {
    if !segment.has(SYN) || segment.has(ACK) {
        return false;
    }
    let carries = segment.mptcp_subtypes();
    match kind {
        Middlebox::DropCapableSyn => carries.contains(&MP_CAPABLE),
        Middlebox::DropJoinSyn => carries.contains(&MP_JOIN),
        Middlebox::DropMptcpSyn => !carries.is_empty(),
        _ => false,
    }
}

/// Does what a box of this kind does to options.
fn strip(kind: Middlebox, segment: &mut TcpFrame) {
    let syn = segment.has(SYN);
    match kind {
        Middlebox::StripSyn if syn => segment.strip_mptcp(|_| true),
        Middlebox::StripSynAck if segment.has(SYN | ACK) => segment.strip_mptcp(|_| true),
        Middlebox::StripLater if !syn => segment.strip_mptcp(|_| true),
        Middlebox::StripAll => segment.strip_mptcp(|_| true),
        Middlebox::StripAddAddr => segment.strip_mptcp(|subtype| subtype == ADD_ADDR),
        _ => 0,
    };
}

impl Chain {
    /// The boxes of wire `wire`.
    pub fn new(wire: usize, seed: u64, boxes: &[Middlebox]) -> Chain {
        Chain {
            boxes: boxes.iter().map(|&kind| State::new(wire, seed, kind)).collect(),
        }
    }

    /// One frame into the chain; what comes out at its end is appended to `out`.
    pub fn handle(
        &mut self,
        now: Duration,
        toward: Toward,
        bytes: Vec<u8>,
        stats: &mut LineStats,
        out: &mut Vec<Vec<u8>>,
    ) {
        match frame::parse(bytes) {
            Parsed::Tcp(segment) => {
                stats.tcp_in += 1;
                self.run(now, toward, 0, vec![segment], stats, out);
            }
            Parsed::BadChecksum(bytes) => {
                stats.bad_checksum += 1;
                out.push(bytes);
            }
            Parsed::Other(bytes) => out.push(bytes),
        }
    }

    /// Passes `segments` through the boxes from the `first`th on, counted in the direction of travel.
    fn run(
        &mut self,
        now: Duration,
        toward: Toward,
        first: usize,
        mut segments: Vec<TcpFrame>,
        stats: &mut LineStats,
        out: &mut Vec<Vec<u8>>,
    ) {
        let count = self.boxes.len();
        for step in first..count {
            let index = if toward == Toward::Server {
                step
            } else {
                count - 1 - step
            };
            let state = &mut self.boxes[index];
            let had = !segments.is_empty();
            let mut next = Vec::with_capacity(segments.len());
            for segment in segments {
                state.handle(now, toward, segment, &mut next);
            }
            if had && next.is_empty() && matches!(state, State::Plain(_)) {
                stats.box_dropped += 1;
            }
            segments = next;
        }
        for segment in segments {
            let (bytes, changed) = segment.into_frame();
            stats.box_changed += changed as u64;
            out.push(bytes);
        }
    }

    /// Lets go of what a box has held long enough.
    pub fn handle_timeout(&mut self, now: Duration, toward: Toward, stats: &mut LineStats, out: &mut Vec<Vec<u8>>) {
        let count = self.boxes.len();
        for index in 0..count {
            if let State::Merge(merge) = &mut self.boxes[index] {
                let segments = merge.take_due(now, toward);
                if !segments.is_empty() {
                    let step = if toward == Toward::Server {
                        index
                    } else {
                        count - 1 - index
                    };
                    self.run(now, toward, step + 1, segments, stats, out);
                }
            }
        }
    }

    /// When `handle_timeout` has something to do.
    pub fn next_timeout(&self) -> Option<Duration> {
        let merges = self.boxes.iter().filter_map(|state| match state {
            State::Merge(merge) => merge.next_timeout(),
            _ => None,
        });
        merges.min()
    }
}

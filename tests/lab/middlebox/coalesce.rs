//! Boxes that change where segments begin and end: split as TSO does, merge as LRO or a normalizer does.

use super::frame::{TcpFrame, ACK, CWR, FIN, PSH, RST, SYN, URG};
use crate::lab::spec::Toward;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Cuts a segment into pieces of at most `max_payload` bytes (at least 1). The options go to every piece, FIN and PSH to the last, CWR to the first.
pub fn split(segment: TcpFrame, max_payload: usize, out: &mut Vec<TcpFrame>) {
    let payload = segment.payload();
    let max_payload = max_payload.max(1);
    if payload.len() <= max_payload || segment.flags() & (SYN | RST | URG) != 0 {
        return out.push(segment);
    }
    let last = payload.len().div_ceil(max_payload) - 1;
    for (index, bytes) in payload.chunks(max_payload).enumerate() {
        let mut piece = segment.clone();
        piece.set_payload(bytes);
        piece.set_seq(segment.seq().wrapping_add((index * max_payload) as u32));
        piece.advance_ip_id(index as u16);
        let not_here = if index == last { 0 } else { FIN | PSH } | if index == 0 { 0 } else { CWR };
        piece.set_flags(segment.flags() & !not_here);
        out.push(piece);
    }
}

/// How long a segment waits for its neighbour.
const HOLD: Duration = Duration::from_millis(2);
/// A merged packet must still fit into the hosts' MTU.
const IP_LEN_MAX: usize = 1500;

/// Holds a data segment a moment and appends the next one to it.
pub struct Merge {
    equal_options: bool,
    held: BTreeMap<(Toward, SocketAddr, SocketAddr), Held>,
}

struct Held {
    segment: TcpFrame,
    until: Duration,
}

impl Merge {
    /// Merges only segments with equal options, or all neighbours.
    pub fn new(equal_options: bool) -> Merge {
        Merge {
            equal_options,
            held: BTreeMap::new(),
        }
    }

    pub fn handle(&mut self, now: Duration, toward: Toward, mut segment: TcpFrame, out: &mut Vec<TcpFrame>) {
        let key = (toward, segment.source(), segment.destination());
        if segment.has(SYN) {
            // Two segments can only fit into one packet if neither fills it.
            segment.map_mss(|mss| mss / 2);
        }
        let Some(Held { segment: first, .. }) = self.held.remove(&key) else {
            return self.hold_or_pass(now, key, segment, out);
        };
        if self.mergeable(&first, &segment) {
            out.push(merge(first, &segment));
        } else {
            out.push(first);
            self.hold_or_pass(now, key, segment, out);
        }
    }

    fn hold_or_pass(
        &mut self,
        now: Duration,
        key: (Toward, SocketAddr, SocketAddr),
        segment: TcpFrame,
        out: &mut Vec<TcpFrame>,
    ) {
        if segment.payload().is_empty() || segment.flags() & !(ACK | PSH) != 0 {
            return out.push(segment);
        }
        let until = now + HOLD;
        self.held.insert(key, Held { segment, until });
    }

    fn mergeable(&self, first: &TcpFrame, second: &TcpFrame) -> bool {
        second.seq() == first.seq().wrapping_add(first.payload().len() as u32)
            && !second.payload().is_empty()
            && second.flags() & !(ACK | PSH | FIN) == 0
            && first.ip_len() + second.payload().len() <= IP_LEN_MAX
            && (!self.equal_options || first.option_bytes() == second.option_bytes())
    }

    /// The segments for `toward` that have waited long enough, at most one a connection.
    pub fn take_due(&mut self, now: Duration, toward: Toward) -> Vec<TcpFrame> {
        let due = self
            .held
            .iter()
            .filter(|(key, held)| key.0 == toward && held.until <= now);
        let keys: Vec<_> = due.map(|(key, _)| *key).collect();
        keys.iter()
            .filter_map(|key| self.held.remove(key))
            .map(|held| held.segment)
            .collect()
    }

    /// When the next one has.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.held.values().map(|held| held.until).min()
    }
}

/// One segment of two neighbours: the first one's options, the second one's acknowledgement and window, the flags of both.
fn merge(mut first: TcpFrame, second: &TcpFrame) -> TcpFrame {
    let payload = [first.payload(), second.payload()].concat();
    first.set_payload(&payload);
    first.set_flags(first.flags() | second.flags());
    first.set_ack(second.ack());
    first.set_window(second.window());
    first
}

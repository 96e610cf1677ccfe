//! The receiving half of a flow: what is next, what came out of order, what to say in SACK blocks (RFC 2018, 2883),
//! and when to acknowledge (RFC 5681 section 4.2, RFC 9293 section 3.8.6.3).
//!
//! In-order payload is never stored here: the caller takes it straight from the packet. `T` is the owner's note to a segment.

use crate::time::{Duration, Instant};
use crate::wire::{SackBlocks, SeqNum};
use std::collections::VecDeque;

/// How long an acknowledgment may wait (RFC 9293 allows 500 ms; Linux waits 40 ms at least).
pub const DELAYED_ACK: Duration = Duration::from_millis(40);
/// At the start of a flow every segment is acknowledged at once, so that the peer's slow start is not slowed down.
const QUICK_ACKS: u32 = 16;
/// Segments kept out of order at the most, however small they are.
const MAX_STORED: usize = 4096;

/// A segment that arrived before its turn.
#[derive(Debug)]
pub struct Stored<T> {
    /// First sequence number.
    pub seq: SeqNum,
    /// Payload.
    pub payload: Vec<u8>,
    /// FIN follows the payload.
    pub fin: bool,
    /// The owner's note.
    pub tag: T,
}

impl<T> Stored<T> {
    fn end(&self) -> SeqNum {
        self.seq + self.payload.len() as u32 + u32::from(self.fin)
    }
}

/// Where an arrived segment stands.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Arrival {
    /// It continues the stream after its first `skip` bytes, which are known already.
    InOrder { skip: usize },
    /// It lies ahead: call `store`.
    Ahead,
    /// All of it is known.
    Duplicate,
}

/// See the module's head.
#[derive(Debug)]
pub struct Receiver<T> {
    rcv_nxt: SeqNum,
    stored: VecDeque<Stored<T>>,
    stored_bytes: usize,
    /// Blocks ahead of rcv_nxt, most recently changed first.
    blocks: Vec<(SeqNum, SeqNum)>,
    dsack: Option<(SeqNum, SeqNum)>,
    /// rcv_nxt of the last acknowledgment that was sent.
    last_acked: SeqNum,
    ack_now: bool,
    ack_at: Option<Instant>,
    unacked_bytes: u32,
    quick_acks: u32,
    largest: u32,
    /// When anything last arrived.
    pub last_arrival: Instant,
    /// Segments that came before their turn.
    pub ahead: u32,
}

impl<T> Receiver<T> {
    /// The first expected byte is `rcv_nxt`.
    pub fn new(now: Instant, rcv_nxt: SeqNum) -> Self {
        Receiver {
            rcv_nxt,
            stored: VecDeque::new(),
            stored_bytes: 0,
            blocks: Vec::new(),
            dsack: None,
            last_acked: rcv_nxt,
            ack_now: false,
            ack_at: None,
            unacked_bytes: 0,
            quick_acks: QUICK_ACKS,
            largest: 536,
            last_arrival: now,
            ahead: 0,
        }
    }

    /// Next expected sequence number.
    pub fn rcv_nxt(&self) -> SeqNum {
        self.rcv_nxt
    }

    /// What the last acknowledgment acknowledged.
    pub fn last_acked(&self) -> SeqNum {
        self.last_acked
    }

    /// A stored segment was not taken after all: SACK blocks do not claim it any more.
    pub fn withdraw(&mut self, from: SeqNum, to: SeqNum) {
        for b in self.blocks.iter_mut().filter(|b| b.0.lt(to) && b.1.gt(from)) {
            b.0 = to;
        }
        self.blocks.retain(|b| b.0.lt(b.1));
    }

    /// Payload bytes kept out of order.
    #[cfg(test)]
    pub fn stored_bytes(&self) -> usize {
        self.stored_bytes
    }

    /// Classifies a segment of `len` payload bytes, and a FIN.
    pub fn classify(&self, seq: SeqNum, len: usize, fin: bool) -> Arrival {
        let end = seq + len as u32 + u32::from(fin);
        if seq.gt(self.rcv_nxt) {
            Arrival::Ahead
        } else if end.gt(self.rcv_nxt) {
            Arrival::InOrder {
                skip: (self.rcv_nxt.diff(seq) as usize).min(len),
            }
        } else {
            Arrival::Duplicate
        }
    }

    /// `n` sequence numbers arrived in order.
    pub fn advance(&mut self, now: Instant, n: u32) {
        self.rcv_nxt += n;
        let nxt = self.rcv_nxt;
        let had_gap = !self.blocks.is_empty();
        self.blocks.retain(|b| b.1.gt(nxt));
        // RFC 5681 section 4.2: at once when a gap is (partly) filled, and for every second full-sized segment.
        self.unacked_bytes += n;
        self.largest = self.largest.max(n.min(1460));
        if had_gap || self.quick_acks > 0 || self.unacked_bytes >= 2 * self.largest {
            self.quick_acks = self.quick_acks.saturating_sub(1);
            self.ack_now = true;
        } else if self.ack_at.is_none() {
            self.ack_at = Some(now + DELAYED_ACK);
        }
    }

    /// Keeps a segment that lies ahead; false when there is no room (`limit` bytes).
    pub fn store(&mut self, seq: SeqNum, payload: &[u8], fin: bool, tag: T, limit: usize) -> bool {
        self.ack_now = true;
        let end = seq + payload.len() as u32 + u32::from(fin);
        let at = self
            .stored
            .partition_point(|s| s.seq.lt(seq) || (s.seq == seq && s.end().ge(end)));
        let covered = at > 0 && self.stored[at - 1].end().ge(end);
        if covered {
            self.dsack = Some((seq, end));
            return true;
        }
        if self.stored.len() >= MAX_STORED || self.stored_bytes + payload.len() > limit {
            return false;
        }
        self.ahead = self.ahead.wrapping_add(1);
        self.stored_bytes += payload.len();
        self.stored.insert(
            at,
            Stored {
                seq,
                payload: payload.to_vec(),
                fin,
                tag,
            },
        );
        self.note_block(seq, end);
        true
    }

    fn note_block(&mut self, mut left: SeqNum, mut right: SeqNum) {
        self.blocks.retain(|&(l, r)| {
            let apart = r.lt(left) || l.gt(right);
            if !apart {
                left = if l.lt(left) { l } else { left };
                right = right.max(r);
            }
            apart
        });
        self.blocks.insert(0, (left, right));
    }

    /// A stored segment whose turn has come, with the number of its bytes that are known already.
    /// The caller processes it and calls `advance`.
    pub fn pop_ready(&mut self) -> Option<(Stored<T>, usize)> {
        while self.stored.front().is_some_and(|s| s.seq.le(self.rcv_nxt)) {
            let s = self.stored.pop_front()?;
            self.stored_bytes -= s.payload.len();
            if s.end().gt(self.rcv_nxt) {
                let skip = (self.rcv_nxt.diff(s.seq) as usize).min(s.payload.len());
                return Some((s, skip));
            }
        }
        None
    }

    /// A FIN came in order: nothing can follow it (RFC 9293 section 3.10.7.4), whatever was stored beyond it.
    pub fn discard_stored(&mut self) {
        self.stored.clear();
        self.stored_bytes = 0;
        self.blocks.clear();
    }

    /// A segment arrived that was known already: say so in a D-SACK (RFC 2883), at once.
    pub fn note_duplicate(&mut self, seq: SeqNum, len: u32) {
        self.ack_now = true;
        if len > 0 {
            self.dsack = Some((seq, seq + len));
        }
    }

    /// TCP_QUICKACK: with `on` what is owed leaves at once, and so do the next acknowledgments; else they may wait.
    pub fn set_quick(&mut self, on: bool) {
        self.quick_acks = if on { QUICK_ACKS } else { 0 };
        self.ack_now |= on && self.ack_at.is_some();
    }

    /// An acknowledgment must leave at once.
    pub fn demand_ack(&mut self) {
        self.ack_now = true;
    }

    /// An acknowledgment is due.
    pub fn ack_due(&self) -> bool {
        self.ack_now
    }

    /// When a delayed acknowledgment becomes due.
    pub fn ack_at(&self) -> Option<Instant> {
        if self.ack_now {
            None
        } else {
            self.ack_at
        }
    }

    /// The delayed acknowledgment's time has come.
    pub fn on_timer(&mut self, now: Instant) {
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_now = true;
        }
    }

    /// Something may be said in SACK blocks.
    pub fn has_sack(&self) -> bool {
        self.dsack.is_some() || !self.blocks.is_empty()
    }

    /// Up to `max` SACK blocks: D-SACK first, then the most recent (RFC 2018 section 4, RFC 2883 section 4).
    pub fn sack_blocks(&self, max: usize) -> SackBlocks {
        let mut out = SackBlocks::default();
        for &(l, r) in self.dsack.iter().chain(self.blocks.iter()).take(max) {
            out.push(l, r);
        }
        out
    }

    /// An acknowledgment of everything was sent; `with_sack` when it could carry the blocks.
    pub fn on_ack_sent(&mut self, with_sack: bool) {
        if with_sack || !self.has_sack() {
            self.ack_now = false;
            self.dsack = None;
        }
        self.last_acked = self.rcv_nxt;
        self.ack_at = None;
        self.unacked_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rx() -> Receiver<()> {
        Receiver::new(Instant::ZERO, SeqNum(100))
    }

    // Proves R2018-2.
    #[test]
    fn sack_blocks_most_recent_first_and_merged() {
        let mut r = rx();
        assert!(r.store(SeqNum(200), &[0; 10], false, (), 1000));
        assert!(r.store(SeqNum(300), &[0; 10], false, (), 1000));
        assert!(r.store(SeqNum(210), &[0; 10], false, (), 1000));
        let b = r.sack_blocks(4);
        assert_eq!(b.as_slice(), [(SeqNum(200), SeqNum(220)), (SeqNum(300), SeqNum(310))]);
    }

    // Proves SHLD-31.
    #[test]
    fn filling_the_gap_releases_stored_segments_in_order() {
        let mut r = rx();
        assert!(r.store(SeqNum(110), &[2; 10], false, (), 1000));
        assert!(r.store(SeqNum(105), &[1; 10], false, (), 1000));
        assert_eq!(r.classify(SeqNum(100), 10, false), Arrival::InOrder { skip: 0 });
        r.advance(Instant::ZERO, 10);
        assert!(r.ack_due());
        let (s, skip) = r.pop_ready().unwrap();
        assert_eq!((s.seq, skip), (SeqNum(105), 5));
        r.advance(Instant::ZERO, 5);
        let (s, skip) = r.pop_ready().unwrap();
        assert_eq!((s.seq, skip), (SeqNum(110), 5));
        r.advance(Instant::ZERO, 5);
        assert!(r.pop_ready().is_none());
        assert!(!r.has_sack());
        assert_eq!(r.stored_bytes(), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut r = rx();
        assert!(r.store(SeqNum(200), &[0; 10], false, (), 10));
        assert!(!r.store(SeqNum(300), &[0; 1], false, (), 10));
        assert!(
            r.store(SeqNum(200), &[0; 10], false, (), 10),
            "a duplicate needs no room"
        );
    }

    #[test]
    fn so_many_segments_out_of_order_and_no_more() {
        let mut r = rx();
        let seq = |n: usize| SeqNum(102 + 2 * n as u32);
        assert!((0..MAX_STORED).all(|n| r.store(seq(n), b"x", false, (), usize::MAX)));
        assert!(!r.store(seq(MAX_STORED), b"x", false, (), usize::MAX));
    }

    #[test]
    fn one_new_byte_makes_the_difference() {
        let r = rx();
        assert_eq!(r.classify(SeqNum(90), 10, false), Arrival::Duplicate);
        assert_eq!(r.classify(SeqNum(90), 11, false), Arrival::InOrder { skip: 10 });
        assert_eq!(
            r.classify(SeqNum(90), 10, true),
            Arrival::InOrder { skip: 10 },
            "a FIN takes a number"
        );
        assert_eq!(r.classify(SeqNum(101), 1, false), Arrival::Ahead);
    }

    #[test]
    fn delayed_after_quick_start() {
        let mut r = rx();
        for _ in 0..QUICK_ACKS {
            r.advance(Instant::ZERO, 1);
            assert!(r.ack_due());
            r.on_ack_sent(true);
        }
        r.advance(Instant::ZERO, 100);
        assert!(!r.ack_due());
        assert_eq!(r.ack_at(), Some(Instant::ZERO + DELAYED_ACK));
        r.advance(Instant::ZERO, 536);
        r.advance(Instant::ZERO, 536);
        assert!(r.ack_due());
    }

    #[test]
    fn quick_acknowledgments_on_demand() {
        let mut r = rx();
        r.set_quick(false);
        r.advance(Instant::ZERO, 1);
        assert!(!r.ack_due(), "also at the start of a flow");
        r.set_quick(true);
        assert!(r.ack_due(), "the one that was owed");
        r.on_ack_sent(true);
        r.advance(Instant::ZERO, 1);
        assert!(r.ack_due(), "and the next");
        r.on_ack_sent(true);
        r.set_quick(true);
        assert!(!r.ack_due(), "none is owed");
    }
}

//! Connections that died with a predecessor of this endpoint: their peers are told.
//!
//! Of such a connection only the addresses and the peer's key are known, no sequence number. So the peer is probed with an
//! acknowledgment that cannot be right; its answer says what it expects (RFC 9293 section 3.5.1, half-open connections), and a reset with that number and
//! MP_FASTCLOSE (RFC 8684 section 3.5) ends it. Linux closes a connection at once when it gets one, and waits for a minute after a plain reset
//! (note X5).

use super::endpoint::{ConnId, Endpoint, Event, FourTuple, SubflowId};
use super::strays::{Stray, MAX_STRAYS};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Segment, SeqNum};
use std::collections::{BTreeMap, HashMap};

/// The first pause between two probes, which then doubles: longer than the 500 ms in which Linux answers only one (tcp_invalid_ratelimit).
const PAUSE: Duration = Duration::from_millis(600);
/// Probes until the peer is given up: a bit more than half a minute.
const PROBES: u32 = 6;

/// The subflows of dead connections, until the peer is known to have forgotten them too.
#[derive(Default)]
pub(super) struct Inherited {
    by_tuple: HashMap<FourTuple, Remains>,
    /// When to probe; the number tells those of one instant apart.
    due: BTreeMap<(Instant, u64), FourTuple>,
    next_number: u64,
}

struct Remains {
    remote_key: Option<u64>,
    probes: u32,
    due: (Instant, u64),
}

impl Inherited {
    pub fn timeout(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    fn schedule(&mut self, at: Instant, tuple: FourTuple) -> (Instant, u64) {
        let due = (at, self.next_number);
        self.next_number += 1;
        self.due.insert(due, tuple);
        due
    }

    fn remove(&mut self, tuple: FourTuple) -> bool {
        let removed = self.by_tuple.remove(&tuple);
        removed.as_ref().map(|remains| self.due.remove(&remains.due));
        removed.is_some()
    }
}

impl Endpoint {
    /// A predecessor had a subflow of these addresses, and died; `remote_key` is the peer's key if MPTCP was spoken. The peer's side of it is ended.
    /// When that is done, or given up, `SubflowGone` comes with the connection's id 0.
    pub fn inherit(&mut self, now: Instant, tuple: FourTuple, remote_key: Option<u64>) {
        if self.knows(tuple) {
            return;
        }
        self.inherited.remove(tuple);
        let due = self.inherited.schedule(now, tuple);
        let remains = Remains {
            remote_key,
            probes: 0,
            due,
        };
        self.inherited.by_tuple.insert(tuple, remains);
    }

    /// Takes a segment of a dead connection.
    pub(super) fn on_inherited(&mut self, tuple: FourTuple, iface: u32, segment: &Segment<'_>) -> bool {
        let Some(remains) = self.inherited.by_tuple.get(&tuple) else {
            return false;
        };
        let h = &segment.header;
        if h.flags.has(Flags::RST) {
            self.forget_inherited(tuple);
            return true;
        }
        if !h.flags.has(Flags::ACK) {
            // A SYN: the peer has forgotten it, and opens another.
            self.forget_inherited(tuple);
            return false;
        }
        let mut stray = Stray::reset(tuple, iface, segment);
        stray.options.mptcp.fastclose = remains.remote_key;
        self.push_stray(stray);
        true
    }

    fn forget_inherited(&mut self, tuple: FourTuple) {
        if self.inherited.remove(tuple) {
            self.events.push_back(Event::SubflowGone {
                conn: ConnId(0),
                subflow: SubflowId(0),
                tuple,
            });
        }
    }

    /// Sends the probes that are due, as far as there is room; the rest stay due.
    pub(super) fn probe_inherited(&mut self, now: Instant) {
        while self.stray.len() < MAX_STRAYS / 2 {
            match self.inherited.due.first_key_value() {
                Some((&(at, number), &tuple)) if at <= now => {
                    self.inherited.due.remove(&(at, number));
                    self.probe(now, tuple);
                }
                _ => return,
            }
        }
    }

    fn probe(&mut self, now: Instant, tuple: FourTuple) {
        let Some(remains) = self.inherited.by_tuple.get_mut(&tuple) else {
            return;
        };
        if remains.probes >= PROBES {
            return self.forget_inherited(tuple);
        }
        let pause = PAUSE * (1 << remains.probes);
        remains.probes += 1;
        let due = self.inherited.schedule(now + pause, tuple);
        if let Some(remains) = self.inherited.by_tuple.get_mut(&tuple) {
            remains.due = due;
        }
        let guess = self.entropy.next_u64();
        let (seq, ack) = (SeqNum(guess as u32), SeqNum((guess >> 32) as u32));
        self.push_stray(Stray::by(0, tuple, Stray::header(tuple, seq, ack, Flags::ACK)));
    }
}

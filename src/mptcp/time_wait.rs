//! 4-tuples that are over and not free yet: TIME_WAIT, and connections that were given up before the peer answered.

use super::connection::{Manner, Released};
use super::endpoint::{Endpoint, FourTuple};
use super::strays::Stray;
use crate::link::LOOPBACK;
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Header, Segment, SeqNum, TcpOptions, Timestamps};
use std::collections::{HashMap, VecDeque};

/// RFC 9293 section 3.4.2: 2 MSL. Linux: 60 s.
const TIME_WAIT: Duration = Duration::from_secs(60);
/// How long the answer to a SYN whose connection was given up is waited for.
const OPENING_WAIT: Duration = Duration::from_secs(3);

/// RFC 9293 section 3.10.7.4, TIME-WAIT: enough to acknowledge a repeated FIN.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeWait {
    pub snd_nxt: SeqNum,
    pub rcv_nxt: SeqNum,
    pub timestamps: Option<(u32, u32)>,
    pub manner: Manner,
    /// It never got further than our SYN, and an answer may be on its way: that is reset, and the tuple free again.
    pub opening: bool,
}

#[derive(Default)]
pub(super) struct TimeWaits {
    by_tuple: HashMap<FourTuple, Waiting>,
    /// When they end, in order. A tuple that was taken out before its end is still here.
    closed: VecDeque<(Instant, FourTuple)>,
    opening: VecDeque<(Instant, FourTuple)>,
}

struct Waiting {
    time_wait: TimeWait,
    until: Instant,
    released: Released,
}

impl TimeWaits {
    fn insert(&mut self, until: Instant, released: Released, time_wait: TimeWait) {
        let queue = match time_wait.opening {
            true => &mut self.opening,
            false => &mut self.closed,
        };
        queue.push_back((until, released.tuple));
        let waiting = Waiting {
            time_wait,
            until,
            released,
        };
        self.by_tuple.insert(waiting.released.tuple, waiting);
    }

    pub fn contains(&self, tuple: FourTuple) -> bool {
        self.by_tuple.contains_key(&tuple)
    }

    pub fn len(&self) -> usize {
        self.by_tuple.len()
    }

    fn take(&mut self, tuple: FourTuple) -> Option<Released> {
        Some(self.by_tuple.remove(&tuple)?.released)
    }

    /// One that has waited long enough.
    pub fn expired(&mut self, now: Instant) -> Option<Released> {
        for queue in [&mut self.closed, &mut self.opening] {
            while let Some(&(until, tuple)) = queue.front().filter(|(until, _)| *until <= now) {
                queue.pop_front();
                if self.by_tuple.get(&tuple).is_some_and(|waiting| waiting.until == until) {
                    return Some(self.by_tuple.remove(&tuple)?.released);
                }
            }
        }
        None
    }

    /// When the next one may have.
    pub fn timeout(&self) -> Option<Instant> {
        let next = [self.closed.front(), self.opening.front()];
        next.into_iter().flatten().map(|(until, _)| *until).min()
    }
}

impl Endpoint {
    /// The last acknowledgment of a subflow, and what remains of it.
    pub(super) fn enter_time_wait(&mut self, now: Instant, released: Released, tw: TimeWait) {
        if tw.opening {
            return self.time_waits.insert(now + OPENING_WAIT, released, tw);
        }
        self.acknowledge_fin(now, released.tuple, tw);
        if tw.manner.iface == LOOPBACK {
            // Two MSL (RFC 9293 section 3.10.7.4): on this host no segment is lost or late.
            self.events.push_back(released.gone());
        } else {
            self.time_waits.insert(now + TIME_WAIT, released, tw);
        }
    }

    /// RFC 9293 section 3.10.7.4, TIME-WAIT. False when a new connection may take the tuple.
    pub(super) fn on_time_wait(&mut self, now: Instant, tuple: FourTuple, segment: &Segment<'_>) -> bool {
        let Some(tw) = self.time_waits.by_tuple.get(&tuple).map(|waiting| waiting.time_wait) else {
            return false;
        };
        let h = &segment.header;
        if tw.opening {
            if h.flags.has(Flags::ACK) && h.ack == tw.snd_nxt && !h.flags.has(Flags::RST) {
                // The peer's half of a connection that was given up: then the tuple may be used again.
                self.reset_old_connection(tuple, tw.manner.iface, segment);
                self.free(tuple);
            }
            return true;
        }
        if h.flags.has(Flags::RST) {
            return true;
        }
        if h.flags.has(Flags::SYN) && !h.flags.has(Flags::ACK) && h.seq.gt(tw.rcv_nxt) {
            // RFC 6191: a newer SYN opens a new connection; the old one's end is reported first.
            self.free(tuple);
            return false;
        }
        let wants_answer = h.flags.has(Flags::FIN) || !segment.payload.is_empty() || h.seq.lt(tw.rcv_nxt);
        if wants_answer {
            self.acknowledge_fin(now, tuple, tw);
        }
        true
    }

    fn free(&mut self, tuple: FourTuple) {
        if let Some(released) = self.time_waits.take(tuple) {
            self.events.push_back(released.gone());
        }
    }

    /// An acknowledgment from TIME_WAIT: no MPTCP option (golden run A).
    fn acknowledge_fin(&mut self, now: Instant, tuple: FourTuple, tw: TimeWait) {
        let options = TcpOptions {
            timestamps: tw.timestamps.map(|(offset, ecr)| Timestamps {
                val: (now.as_millis() as u32).wrapping_add(offset),
                ecr,
            }),
            ..TcpOptions::default()
        };
        let header = Header {
            window: 65_535,
            ..Stray::header(tuple, tw.snd_nxt, tw.rcv_nxt, Flags::ACK)
        };
        self.push_stray(Stray {
            tuple,
            manner: tw.manner,
            header,
            options,
        });
    }
}

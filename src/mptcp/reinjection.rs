//! Data again on another subflow than the one it was sent on (RFC 8684 section 3.3.6): because that one lost it, is silent, ended, or is
//! simply slower than the time that is left.
//!
//! A range is taken off its list when it is sent, or acknowledged. The subflow that carried it first repeats it too where it has to, because
//! its own sequence numbers must be complete.

use super::connection::{Connection, Outgo};
use super::endpoint::SubflowId;
use super::scheduler::{self, srtt};
use super::subflow::Subflow;
use crate::time::{Duration, Instant};
use crate::wire::Dsn;

/// A range of data to be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Again {
    pub from: Dsn,
    pub to: Dsn,
    /// Not on this subflow: it has it.
    pub holder: SubflowId,
}

/// A lost segment goes to a faster subflow as well when its round trip is this part of the own one at most: three quarters in quarters.
const FASTER_QUARTERS: u32 = 3;

impl Outgo {
    /// Queues a range. Ranges are kept in order and apart; a silent subflow's mostly follow each other.
    pub fn queue_again(&mut self, from: Dsn, to: Dsn, holder: SubflowId) {
        let from = from.max(self.una);
        if to.le(from) {
            return;
        }
        let at = self.reinject.partition_point(|r| r.from.lt(from));
        if at > 0 && self.reinject[at - 1].to.ge(from) && self.reinject[at - 1].holder == holder {
            let before = &mut self.reinject[at - 1];
            before.to = before.to.max(to);
        } else {
            self.reinject.insert(at, Again { from, to, holder });
        }
    }

    /// What is acknowledged need not be sent again.
    pub fn forget_acknowledged(&mut self) {
        let una = self.una;
        while let Some(range) = self.reinject.front_mut() {
            range.from = range.from.max(una);
            if range.from.lt(range.to) {
                break;
            }
            self.reinject.pop_front();
        }
    }
}

impl Connection {
    /// Gives every range that `sf` has not got acknowledged to the others.
    pub fn reinject_all(&mut self, sf: &Subflow) {
        for s in sf.tx.unacked() {
            let len = s.len - u32::from(s.fin);
            self.out.queue_again(s.tag.dsn, s.tag.dsn + u64::from(len), sf.id);
        }
    }

    /// The same for a live subflow that does not answer.
    pub fn reinject_stalled(&mut self, index: usize) {
        let Connection { subflows, out, .. } = self;
        let sf = &mut subflows[index];
        let holder = sf.id;
        for (len, tag) in sf.tx.tags_mut() {
            tag.elsewhere = true;
            out.queue_again(tag.dsn, tag.dsn + u64::from(len), holder);
        }
        self.no_way_back |= !self.out.reinject.is_empty();
    }

    /// What a subflow has just lost goes to a clearly faster one too: it is there earlier.
    pub fn reinject_lost(&mut self, index: usize) {
        if !self.multipath() {
            return;
        }
        let own = srtt(&self.subflows[index]);
        let faster = |s: &Subflow| s.usable() && !s.stalled && !s.backup() && srtt(s) * 4 < own * FASTER_QUARTERS;
        if !self.subflows.iter().any(faster) {
            return;
        }
        let Connection { subflows, out, .. } = self;
        let sf = &mut subflows[index];
        let holder = sf.id;
        for (len, tag) in sf.tx.lost_tags_mut() {
            if !core::mem::replace(&mut tag.elsewhere, true) {
                out.queue_again(tag.dsn, tag.dsn + u64::from(len), holder);
            }
        }
        self.no_way_back |= !self.out.reinject.is_empty();
    }

    /// The subflow for a range that is to be sent again: the fastest with room. A range that its own subflow repeats as well waits for one
    /// that is faster than that.
    pub(super) fn pick_again(&mut self, now: Instant, range: &Again) -> Option<usize> {
        let repeats = |s: &&Subflow| s.id == range.holder && s.usable() && !s.stalled && s.has(range.from);
        let own = self.subflows.iter().find(repeats).map(srtt);
        let mut eligible = scheduler::eligible(&self.subflows);
        if let Some(own) = own {
            eligible.retain(|&i| self.subflows[i].id != range.holder && srtt(&self.subflows[i]) < own);
        }
        eligible.sort_by_key(|&i| srtt(&self.subflows[i]));
        eligible.into_iter().find(|&i| self.subflows[i].tx.may_send(now))
    }

    /// Nothing new may be sent: the fastest subflow with room repeats what would arrive later on a slower one. At the end of a burst this is
    /// tail reinjection; where the window is full, opportunistic retransmission, and then the slow one is penalised too (Raiciu et al.,
    /// NSDI 2012, sections 4.1 and 4.2).
    pub(super) fn pick_rescue(&mut self, now: Instant) -> Option<(usize, Dsn, Dsn)> {
        if !self.multipath() || self.subflows.len() < 2 || self.out.una == self.out.nxt {
            return None;
        }
        let mut eligible = scheduler::eligible(&self.subflows);
        eligible.sort_by_key(|&i| srtt(&self.subflows[i]));
        let fast = *eligible.first()?;
        if !self.subflows[fast].tx.may_send(now) {
            return None;
        }
        let there_at = now + srtt(&self.subflows[fast]) * 3 / 2;
        let mut at = self.out.rescued.max(self.out.una);
        while at.lt(self.out.nxt) {
            let Some((holder, to, due)) = self.holder_of(at).filter(|(_, to, _)| to.gt(at)) else {
                break;
            };
            // Overdue is late too: nobody knows by how much.
            let late = due > there_at || due < now;
            if holder != fast && late && !self.subflows[fast].has(at) {
                self.penalize(now, holder, at);
                self.out.rescued = to;
                self.no_way_back = true;
                return Some((fast, at, to));
            }
            at = to;
        }
        self.out.rescued = at;
        None
    }

    /// Who was given the byte `at` first of those that have it in flight: subflow, end of the segment, when its acknowledgment is due.
    fn holder_of(&self, at: Dsn) -> Option<(usize, Dsn, Instant)> {
        for (i, sf) in self.subflows.iter().enumerate() {
            let segment = sf.tx.unacked().find(|s| {
                let end = s.tag.dsn + u64::from(s.len - u32::from(s.fin));
                s.tag.dsn.le(at) && at.lt(end)
            });
            if let Some(s) = segment {
                let end = s.tag.dsn + u64::from(s.len - u32::from(s.fin));
                return Some((i, end, s.last_sent + srtt(sf)));
            }
        }
        None
    }

    /// The window is full because a slow subflow has its oldest data: half its window, once a round trip.
    fn penalize(&mut self, now: Instant, index: usize, at: Dsn) {
        let full = self.out.edge.le(self.out.nxt) || (self.out.blocked && self.out.nxt == self.out.buf.end());
        let sf = &mut self.subflows[index];
        let round = sf.tx.rtt.srtt().unwrap_or(Duration::from_millis(100));
        if full && at == self.out.una && now.since(sf.penalized_at) > round {
            sf.penalized_at = now;
            sf.tx.cc.penalize();
        }
    }
}

impl Subflow {
    /// It has this byte in flight.
    fn has(&self, at: Dsn) -> bool {
        self.tx.unacked().any(|s| {
            let end = s.tag.dsn + u64::from(s.len - u32::from(s.fin));
            s.tag.dsn.le(at) && at.lt(end)
        })
    }
}

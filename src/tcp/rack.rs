//! RACK's state (RFC 8985): which segment that was delivered was sent last, and how much reordering the path has shown.
//!
//! Not here: the segments themselves; the sender walks them in the order of sending.

use super::sender::Arrived;
use crate::time::{Duration, Instant};
use crate::wire::SeqNum;

/// RFC 8985 section 5: the most recently sent segment known to be delivered.
#[derive(Debug, Default)]
pub(super) struct Rack {
    pub xmit_ts: Instant,
    pub end_seq: SeqNum,
    pub rtt: Duration,
    pub fack: Option<SeqNum>,
    pub reordering_seen: bool,
    /// How often it was.
    pub reordered: u32,
    pub reo_wnd_mult: u32,
    /// A D-SACK widened the window in this round; recoveries that the wider window outlives.
    pub dsack_round: Option<SeqNum>,
    pub persist: u8,
}

impl Rack {
    /// Nothing delivered yet; the flow begins at `first`.
    pub fn new(first: SeqNum) -> Self {
        Rack {
            reo_wnd_mult: 1,
            end_seq: first,
            ..Rack::default()
        }
    }

    /// RFC 8985 section 6.2 step 4, for every acknowledgment: a D-SACK widens the reordering window, once a round trip. True: now.
    pub fn note_dsack(&mut self, dsack: bool, snd_una: SeqNum, snd_nxt: SeqNum) -> bool {
        self.dsack_round = self.dsack_round.filter(|end| snd_una.lt(*end));
        let widens = dsack && self.dsack_round.is_none();
        if widens {
            self.dsack_round = Some(snd_nxt);
            self.reo_wnd_mult = self.reo_wnd_mult.saturating_add(1);
            self.persist = 16;
        }
        widens
    }

    /// The same: after 16 recoveries without D-SACK the window is narrow again.
    pub fn on_recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.reo_wnd_mult = 1;
        }
    }
    /// RFC 8985 section 6.2 step 3: a segment below the highest delivered one arrived without being sent again.
    pub fn note_order(&mut self, end: SeqNum, retransmitted: bool) {
        match self.fack {
            Some(fack) if end.lt(fack) => {
                self.reordering_seen |= !retransmitted;
                self.reordered = self.reordered.wrapping_add(u32::from(!retransmitted));
            }
            _ => self.fack = Some(end),
        }
    }

    /// RFC 8985 section 6.2 step 2, without its look at the timestamp echo, as in Linux: that is the echo of the last segment that moved the
    /// left edge (RFC 7323 section 4.3), older than any retransmission that arrived beyond a gap.
    pub fn update(&mut self, now: Instant, arrived: &Arrived, min_rtt: Duration) {
        let &Arrived {
            last_sent,
            end,
            repeated,
        } = arrived;
        let rtt = now.since(last_sent);
        // A retransmission acknowledged faster than any RTT: the original was.
        if repeated && rtt < min_rtt {
            return;
        }
        self.rtt = rtt;
        if last_sent > self.xmit_ts || (last_sent == self.xmit_ts && end.gt(self.end_seq)) {
            self.xmit_ts = last_sent;
            self.end_seq = end;
        }
    }
}

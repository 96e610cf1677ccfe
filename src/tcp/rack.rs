//! RACK's state (RFC 8985): which segment that was delivered was sent last, and how much reordering the path has shown.
//!
//! Not here: the segments themselves; the sender walks them in the order of sending.

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

    /// RFC 8985 section 6.2 step 4: a D-SACK widens the reordering window, once a round trip.
    pub fn widen(&mut self, ack: SeqNum, snd_nxt: SeqNum) {
        if self.dsack_round.is_none_or(|end| ack.ge(end)) {
            self.dsack_round = Some(snd_nxt);
            self.reo_wnd_mult = (self.reo_wnd_mult + 1).min(16);
            self.persist = 16;
        }
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

    /// RFC 8985 section 6.2 step 2.
    pub fn update(&mut self, now: Instant, sent: Instant, end: SeqNum, retransmitted: bool, min_rtt: Duration) {
        let rtt = now.since(sent);
        // A retransmission acknowledged faster than any RTT: the original was.
        if retransmitted && rtt < min_rtt {
            return;
        }
        self.rtt = rtt;
        if sent > self.xmit_ts || (sent == self.xmit_ts && end.gt(self.end_seq)) {
            self.xmit_ts = sent;
            self.end_seq = end;
        }
    }
}

//! The scoreboard, RACK and the recovery's state as the RFCs tell them: a list that is walked from end to end for each question, and numbers
//! that do not wrap.
//!
//! Not modelled: congestion control and pacing (they say when something may leave, not what became of it), and peers without SACK.

use crate::tcp::rtt::RttEstimator;
use crate::time::{Duration, Instant};

/// RFC 6675 section 2.
const DUP_THRESH: usize = 3;

/// A run of sequence space that was sent as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    pub start: u64,
    pub end: u64,
    /// When it was sent, each time.
    pub sent: Vec<Instant>,
    pub sacked: bool,
    pub lost: bool,
}

impl Piece {
    fn last_sent(&self) -> Instant {
        self.sent[self.sent.len() - 1]
    }
    fn repeated(&self) -> bool {
        self.sent.len() > 1
    }
    pub fn in_flight(&self) -> bool {
        !self.sacked && !self.lost
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Open,
    Recovery(u64),
    Loss(u64),
}

/// RFC 8985 section 5.2; `rtt` is RACK.rtt.
#[derive(Clone, Debug, PartialEq)]
pub struct Rack {
    pub xmit_ts: Instant,
    pub end_seq: u64,
    pub rtt: Duration,
    pub fack: u64,
    pub reordering_seen: bool,
    pub reo_wnd_mult: u32,
    pub dsack_round: Option<u64>,
    pub persist: u32,
}

/// What an acknowledgment brought.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub acked: u64,
    pub delivered: u64,
    pub lost: bool,
}

#[derive(Debug)]
pub struct Model {
    pub una: u64,
    pub nxt: u64,
    pub pieces: Vec<Piece>,
    pub mode: Mode,
    pub rack: Rack,
    /// Fed with the samples that this model chooses.
    pub rtt: RttEstimator,
    /// RFC 8985 section 7: TLP.end_seq and TLP.is_retrans.
    pub tlp: Option<(u64, bool)>,
    /// The probe is yet to be sent.
    tlp_due: bool,
    /// When RACK looks again.
    pub reorder_at: Option<Instant>,
    pub last_progress: Instant,
    /// What a recovery sent again, while it may turn out to have been needless: when, of which pieces no D-SACK told.
    repeats: Option<(Vec<Instant>, usize)>,
}

impl Model {
    pub fn new(now: Instant, first: u64) -> Model {
        Model {
            una: first,
            nxt: first,
            pieces: Vec::new(),
            mode: Mode::Open,
            rack: Rack {
                xmit_ts: Instant::ZERO,
                end_seq: first,
                rtt: Duration::ZERO,
                fack: first,
                reordering_seen: false,
                reo_wnd_mult: 1,
                dsack_round: None,
                persist: 0,
            },
            rtt: RttEstimator::new(),
            tlp: None,
            tlp_due: false,
            reorder_at: None,
            last_progress: now,
            repeats: None,
        }
    }

    pub fn sacked(&self) -> usize {
        self.pieces.iter().filter(|p| p.sacked).count()
    }

    pub fn pipe(&self) -> u64 {
        let flight = self.pieces.iter().filter(|p| p.in_flight());
        flight.map(|p| p.end - p.start).sum()
    }

    pub fn first_lost(&self) -> Option<usize> {
        self.pieces.iter().position(|p| p.lost)
    }

    /// The last one not selectively acknowledged.
    pub fn probe(&self) -> Option<usize> {
        self.pieces.iter().rposition(|p| !p.sacked)
    }

    pub fn send(&mut self, now: Instant, len: u64) {
        if self.pieces.is_empty() {
            self.last_progress = now;
        }
        // RFC 8985 section 7.3: a probe with new data ends where that does.
        if self.tlp.is_some() && core::mem::take(&mut self.tlp_due) {
            self.tlp = Some((self.nxt + len, false));
        }
        self.pieces.push(Piece {
            start: self.nxt,
            end: self.nxt + len,
            sent: vec![now],
            sacked: false,
            lost: false,
        });
        self.nxt += len;
    }

    pub fn send_again(&mut self, now: Instant, index: usize) {
        let piece = &mut self.pieces[index];
        piece.sent.push(now);
        if !piece.lost {
            self.tlp = self.tlp.map(|(end, _)| (end, true));
            self.tlp_due = false;
        }
        piece.lost = false;
        if let Some((times, unanswered)) = &mut self.repeats {
            times.push(now);
            *unanswered += 1;
        }
    }

    pub fn split(&mut self, index: usize, len: u64) {
        let mut rest = self.pieces[index].clone();
        rest.start += len;
        self.pieces[index].end = rest.start;
        self.pieces.insert(index + 1, rest);
    }

    /// Those in flight that are longer are lost, and not by congestion.
    pub fn oversized(&mut self, fits: u64) {
        for piece in self.pieces.iter_mut().filter(|p| p.in_flight()) {
            piece.lost = piece.end - piece.start > fits;
        }
    }

    pub fn on_ack(&mut self, now: Instant, ack: u64, sack: &[(u64, u64)], echo: Option<Instant>) -> Outcome {
        let acked = ack.saturating_sub(self.una);
        self.una = self.una.max(ack);
        let mut newly = Vec::new();
        let mut delivered = 0;
        // What is acknowledged in parts counts in parts.
        if let Some(cut) = self.pieces.iter_mut().find(|p| p.start < ack && ack < p.end) {
            delivered += if cut.sacked { 0 } else { ack - cut.start };
            cut.start = ack;
        }
        for piece in &mut self.pieces {
            let covers = |b: &(u64, u64)| {
                let valid = b.0 < b.1 && b.1 > ack && b.1 <= self.nxt;
                valid && b.0 <= piece.start && piece.end <= b.1
            };
            if piece.sacked {
                continue;
            }
            if piece.end <= ack || sack.iter().any(covers) {
                delivered += piece.end - piece.start;
                newly.push(piece.clone());
                piece.sacked = true;
                piece.lost = false;
            }
        }
        self.pieces.retain(|p| p.end > ack);
        if acked > 0 {
            self.last_progress = now;
            self.rtt.reset_backoff();
        }
        // RFC 6298 section 3: Karn's rule; of the others the one that was sent last.
        let samples = newly.iter().filter(|p| !p.repeated()).map(|p| now.since(p.last_sent()));
        if let Some(rtt) = samples.min() {
            self.rtt.on_sample(now, rtt);
        }
        self.rack_update(now, &mut newly);
        // RFC 2883 section 4: at or below the acknowledgment, or within the second block.
        let dsack = match sack {
            [first, ..] if first.0 >= first.1 => false,
            [first, ..] if first.1 <= ack => true,
            [first, second, ..] => second.0 <= first.0 && first.1 <= second.1,
            _ => false,
        };
        let widens = dsack && self.rack.dsack_round.is_none_or(|end| self.una >= end);
        if widens {
            self.rack.dsack_round = Some(self.nxt);
            self.rack.reo_wnd_mult += 1;
            self.rack.persist = 16;
        }
        self.tlp_update(ack, dsack, acked == 0 && delivered == 0);
        self.undo_if_needless(acked, dsack, echo);
        let lost = self.detect(now) | self.head_lost();
        self.next_mode(ack, widens);
        Outcome { acked, delivered, lost }
    }

    /// RFC 8985 section 6.2 steps 2 (without timestamps, see `Rack::update`) and 3.
    fn rack_update(&mut self, now: Instant, newly: &mut [Piece]) {
        newly.sort_by_key(|p| (p.last_sent(), p.end));
        for p in newly.iter() {
            let rtt = now.since(p.last_sent());
            if p.repeated() && rtt < self.rtt.min_rtt().unwrap_or_default() {
                continue;
            }
            self.rack.rtt = rtt;
            if (p.last_sent(), p.end) > (self.rack.xmit_ts, self.rack.end_seq) {
                (self.rack.xmit_ts, self.rack.end_seq) = (p.last_sent(), p.end);
            }
        }
        newly.sort_by_key(|p| p.end);
        for p in newly.iter() {
            if p.end > self.rack.fack {
                self.rack.fack = p.end;
            } else if p.end < self.rack.fack && !p.repeated() {
                self.rack.reordering_seen = true;
            }
        }
    }

    /// RFC 8985 section 7.4.2. Any D-SACK counts for the probe's.
    fn tlp_update(&mut self, ack: u64, dsack: bool, nothing_new: bool) {
        let Some((end, repeats)) = self.tlp else { return };
        let answered = ack >= end && (!repeats || dsack || ack > end || nothing_new);
        if answered {
            self.tlp = None;
        }
    }

    /// RFC 3522: an echo from before the first repetition. RFC 3708: each repetition has its D-SACK.
    fn undo_if_needless(&mut self, acked: u64, dsack: bool, echo: Option<Instant>) {
        let Some((times, unanswered)) = &mut self.repeats else {
            return;
        };
        let Some(first) = times.first().copied() else { return };
        let early = echo.is_some_and(|echo| echo.as_millis() < first.as_millis());
        let original = acked > 0 && early && self.mode != Mode::Open;
        let all_twice = dsack && *unanswered == 1;
        if dsack {
            *unanswered = unanswered.saturating_sub(1);
        }
        if original || all_twice {
            self.repeats = None;
            self.rack.reordering_seen = true;
            if self.mode != Mode::Open {
                self.mode = Mode::Open;
                self.pieces.iter_mut().for_each(|p| p.lost = false);
            }
        }
    }

    /// RFC 8985 section 6.2 step 4.
    pub fn reo_wnd(&self) -> Duration {
        let short = self.mode != Mode::Open || self.sacked() >= DUP_THRESH;
        if !self.rack.reordering_seen && short {
            return Duration::ZERO;
        }
        let quarters = self.rtt.min_rtt().unwrap_or_default() / 4 * self.rack.reo_wnd_mult;
        quarters.min(self.rtt.srtt().unwrap_or_default())
    }

    /// RFC 8985 section 6.2 step 5; but RACK looks again when the first of those that wait is due, not the last. Without anything
    /// out of order, and with nothing under repair, there is nothing to detect.
    fn detect(&mut self, now: Instant) -> bool {
        self.reorder_at = None;
        if self.sacked() == 0 && self.mode == Mode::Open {
            return false;
        }
        let wait = self.rack.rtt + self.reo_wnd();
        let mut any = false;
        for p in self.pieces.iter_mut().filter(|p| p.in_flight()) {
            if (self.rack.xmit_ts, self.rack.end_seq) <= (p.last_sent(), p.end) {
                continue;
            }
            let age = now.since(p.last_sent());
            if age >= wait {
                p.lost = true;
                any = true;
            } else {
                let due = now + (wait - age).max(Duration::from_millis(1));
                self.reorder_at = Some(self.reorder_at.map_or(due, |at| at.min(due)));
            }
        }
        any
    }

    /// RFC 6675's rule beside RACK's.
    fn head_lost(&mut self) -> bool {
        let enough = !self.rack.reordering_seen && self.sacked() >= DUP_THRESH;
        match self.pieces.first_mut() {
            Some(head) if enough && head.in_flight() && !head.repeated() => {
                head.lost = true;
                true
            }
            _ => false,
        }
    }

    fn next_mode(&mut self, ack: u64, widened: bool) {
        let over = match self.mode {
            Mode::Open => false,
            Mode::Recovery(point) | Mode::Loss(point) => ack >= point,
        };
        if over {
            self.mode = Mode::Open;
            // RFC 8985 section 6.2 step 4: recoveries without a D-SACK.
            if !widened {
                self.rack.persist = self.rack.persist.saturating_sub(1);
                if self.rack.persist == 0 {
                    self.rack.reo_wnd_mult = 1;
                }
            }
        }
        self.recover_if_lost();
    }

    /// RFC 6675 section 5 step 4.
    fn recover_if_lost(&mut self) {
        if self.mode == Mode::Open && self.pieces.iter().any(|p| p.lost) {
            self.mode = Mode::Recovery(self.nxt);
            self.tlp = None;
            self.repeats = Some((Vec::new(), 0));
        }
    }

    /// RACK's timer.
    pub fn on_reorder(&mut self, now: Instant) -> bool {
        let any = self.detect(now);
        if any {
            self.recover_if_lost();
        }
        any
    }

    pub fn on_probe(&mut self) {
        self.tlp = Some((self.nxt, false));
        self.tlp_due = true;
    }

    /// RFC 6675 section 5.1: all that is not known to have arrived is lost, and the head in any case (RFC 2018 section 8).
    pub fn on_rto(&mut self, first_in_a_row: bool) {
        if first_in_a_row && !matches!(self.mode, Mode::Loss(_)) {
            self.repeats = Some((Vec::new(), 0));
        }
        self.mode = Mode::Loss(self.nxt);
        self.tlp = None;
        self.reorder_at = None;
        self.rtt.backoff();
        for (index, p) in self.pieces.iter_mut().enumerate() {
            p.sacked &= index > 0;
            p.lost |= !p.sacked;
        }
    }
}

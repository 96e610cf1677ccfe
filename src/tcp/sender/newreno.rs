//! Loss detection for a peer without SACK: NewReno (RFC 6582), and limited transmit (RFC 3042).
//!
//! A duplicate acknowledgment says that a segment behind the first one has arrived, not which. It is taken for the oldest that it can be: that
//! counts for the flight, and for the number of duplicates. What the guess was worth is known when the acknowledgment moves.

use super::{AckOutcome, Mode, Sender, DUP_THRESH};
use crate::time::Instant;

impl<T> Sender<T> {
    /// The peer acknowledges cumulatively only.
    pub fn without_sack(&mut self) {
        self.selective = false;
    }

    /// A duplicate acknowledgment (RFC 5681 section 2) of a peer without SACK. True when it is the one that shows a loss.
    pub fn on_duplicate(&mut self, now: Instant) -> bool {
        let prior_pipe = self.pipe;
        if self.selective || self.queue.is_empty() {
            return false;
        }
        let delivered = self.guess_delivered();
        if delivered > 0 {
            self.last_delivery = now;
        }
        let head = self.queue.front();
        let lost = self.mode == Mode::Open
            && self.sacked_segments >= DUP_THRESH
            && head.is_some_and(|head| head.in_flight() && head.transmissions == 1);
        if lost {
            self.mark_lost(now, 0);
        }
        let out = AckOutcome {
            delivered,
            lost,
            ..AckOutcome::default()
        };
        self.update_mode(now, self.snd_una, prior_pipe, &out);
        self.arm(now);
        lost
    }

    /// After an acknowledgment: one that ends a part of what a recovery began with shows the next hole (RFC 6582 section 3.2 step 3).
    pub(super) fn partial_acknowledgment(&mut self, now: Instant, out: &AckOutcome) -> bool {
        if out.acked == 0 {
            return false;
        }
        let partial = matches!(self.mode, Mode::Recovery(point) if self.snd_una.lt(point));
        if !partial {
            self.forget_guesses();
            return false;
        }
        // The first one has not arrived: another one has.
        if let Some(head) = self.queue.front_mut().filter(|head| head.sacked) {
            head.sacked = false;
            self.pipe += head.len;
            self.sacked_segments -= 1;
            self.guess_delivered();
        }
        let lost = self
            .queue
            .front()
            .is_some_and(|head| head.in_flight() && head.transmissions == 1);
        if lost {
            self.mark_lost(now, 0);
        }
        lost
    }

    /// Nothing is known but what was acknowledged.
    pub(super) fn forget_guesses(&mut self) {
        if self.selective || self.sacked_segments == 0 {
            return;
        }
        for segment in self.queue.iter_mut().filter(|segment| segment.sacked) {
            segment.sacked = false;
            self.pipe += segment.len;
        }
        self.sacked_segments = 0;
        self.flight_from = self.snd_una;
    }

    /// Takes the oldest segment in flight behind the first for delivered; its length.
    fn guess_delivered(&mut self) -> u32 {
        // Guesses follow each other.
        let from = (1 + self.sacked_segments).min(self.queue.len());
        let Some(segment) = self.queue.range_mut(from..).find(|segment| segment.in_flight()) else {
            return 0;
        };
        segment.sacked = true;
        self.pipe -= segment.len;
        self.sacked_segments += 1;
        segment.len
    }
}

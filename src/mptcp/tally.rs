//! What went over a subflow, and when: figures that `struct tcp_info` shows and nothing here decides by.
//!
//! Not here: what decides and is shown too (round trips, windows, what is in flight).

use crate::time::{Duration, Instant};
use core::ops::AddAssign;

/// Counters, which wrap as the kernel's do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Segments sent, as they are on the wire, of all kinds.
    pub segments_sent: u32,
    /// Segments received; of a run that the host has merged, as many as it was sent in.
    pub segments_received: u32,
    /// Of the segments sent, those with payload.
    pub data_segments_sent: u32,
    /// Of the segments received, those with payload.
    pub data_segments_received: u32,
    /// Segments that the peer is known to have.
    pub segments_delivered: u32,
    /// Segments sent again.
    pub retransmits: u32,
    /// Payload sent again, bytes.
    pub bytes_retransmitted: u64,
    /// Acknowledgments that told of a duplicate (RFC 2883).
    pub duplicates: u32,
    /// Segments that arrived after later ones, without having been sent again (RFC 8985 section 6.2 step 3).
    pub reordered: u32,
    /// Segments that came before their turn.
    pub ahead: u32,
    /// Retransmission timeouts.
    pub timeouts: u32,
    /// Recoveries that a timeout began.
    pub timeout_recoveries: u32,
    /// When payload was last sent; before any, when the peer's SYN came.
    pub last_data_sent: Instant,
    /// When payload last came; as above.
    pub last_data_received: Instant,
    /// When an acknowledgment last came; as above.
    pub last_ack_received: Instant,
}

impl Tally {
    /// Nothing yet.
    pub fn new(now: Instant) -> Tally {
        Tally {
            last_data_sent: now,
            last_data_received: now,
            last_ack_received: now,
            ..Tally::default()
        }
    }

    /// `payload` bytes leave in segments of at most `segment_size` (0: in one).
    pub fn on_sent(&mut self, now: Instant, payload: u32, segment_size: u16) {
        let segments = match segment_size {
            0 => 1,
            size => payload.div_ceil(size.into()).max(1),
        };
        self.segments_sent = self.segments_sent.wrapping_add(segments);
        if payload > 0 {
            self.data_segments_sent = self.data_segments_sent.wrapping_add(segments);
            self.last_data_sent = now;
        }
    }

    /// `payload` bytes came, of which one segment has no more than `segment_size`.
    pub fn on_received(&mut self, now: Instant, payload: u32, segment_size: u32, acknowledges: bool) {
        let segments = payload.div_ceil(segment_size.max(1)).max(1);
        self.segments_received = self.segments_received.wrapping_add(segments);
        if payload > 0 {
            self.data_segments_received = self.data_segments_received.wrapping_add(segments);
            self.last_data_received = now;
        }
        if acknowledges {
            self.last_ack_received = now;
        }
    }
}

impl AddAssign for Tally {
    /// Of both together: sums, and the later times.
    fn add_assign(&mut self, other: Tally) {
        // Every field, so that a new one is not forgotten here.
        let Tally {
            segments_sent,
            segments_received,
            data_segments_sent,
            data_segments_received,
            segments_delivered,
            retransmits,
            bytes_retransmitted,
            duplicates,
            reordered,
            ahead,
            timeouts,
            timeout_recoveries,
            last_data_sent,
            last_data_received,
            last_ack_received,
        } = self;
        for (count, more) in [
            (segments_sent, other.segments_sent),
            (segments_received, other.segments_received),
            (data_segments_sent, other.data_segments_sent),
            (data_segments_received, other.data_segments_received),
            (segments_delivered, other.segments_delivered),
            (retransmits, other.retransmits),
            (duplicates, other.duplicates),
            (reordered, other.reordered),
            (ahead, other.ahead),
            (timeouts, other.timeouts),
            (timeout_recoveries, other.timeout_recoveries),
        ] {
            *count = count.wrapping_add(more);
        }
        *bytes_retransmitted = bytes_retransmitted.wrapping_add(other.bytes_retransmitted);
        for (time, others) in [
            (last_data_sent, other.last_data_sent),
            (last_data_received, other.last_data_received),
            (last_ack_received, other.last_ack_received),
        ] {
            *time = others.max(*time);
        }
    }
}

/// How long something was the case, all times together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stopwatch {
    before: Duration,
    since: Option<Instant>,
}

impl Stopwatch {
    /// It is the case from now on, or not any more.
    pub fn note(&mut self, now: Instant, is_so: bool) {
        match self.since {
            None if is_so => self.since = Some(now),
            Some(since) if !is_so => {
                self.before += now.since(since);
                self.since = None;
            }
            _ => {}
        }
    }

    /// The time until now.
    pub fn read(&self, now: Instant) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| now.since(since))
    }
}

/// What a connection waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waits {
    /// Something was not acknowledged, or not sent yet.
    pub busy: Stopwatch,
    /// Of this, what the peer's window held back.
    pub window: Stopwatch,
    /// Of this, everything was sent, and the program had more than the send buffer takes.
    pub buffer: Stopwatch,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn runs_count_as_the_segments_that_they_are() {
        let mut tally = Tally::new(at(1));
        tally.on_sent(at(2), 0, 0);
        tally.on_sent(at(3), 2500, 1000);
        tally.on_sent(at(4), 0, 0);
        assert_eq!((tally.segments_sent, tally.data_segments_sent), (5, 3));
        tally.on_received(at(5), 3001, 1000, true);
        tally.on_received(at(6), 0, 1000, true);
        tally.on_received(at(7), 0, 0, false);
        assert_eq!((tally.segments_received, tally.data_segments_received), (6, 4));
        assert_eq!(
            (tally.last_data_sent, tally.last_data_received, tally.last_ack_received),
            (at(3), at(5), at(6))
        );
    }

    #[test]
    fn two_together_are_their_sums_and_the_later_times() {
        let mut one = Tally::new(at(1));
        let mut other = Tally::new(at(2));
        one.on_sent(at(9), 10, 0);
        other.on_sent(at(5), 10, 0);
        one += other;
        assert_eq!(
            (one.segments_sent, one.last_data_sent, one.last_ack_received),
            (2, at(9), at(2))
        );
    }

    #[test]
    fn a_stopwatch_adds_up_what_was_so() {
        let mut watch = Stopwatch::default();
        for (ms, is_so) in [(10, true), (20, true), (25, false), (40, false), (50, true)] {
            watch.note(at(ms), is_so);
        }
        assert_eq!(watch.read(at(53)), Duration::from_millis(18));
    }
}

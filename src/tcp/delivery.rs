//! Delivery rate estimation (draft-ietf-ccwg-bbr section 4.1, draft-cheng-iccrg-delivery-rate-estimation): how fast the path delivered what
//! was sent, one sample for each ACK, and whether it was the program that held the rate down.

use crate::time::{Duration, Instant};

/// What is remembered of the flow when a segment leaves (the draft's per-packet "P." variables).
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// Bytes delivered until then.
    delivered: u64,
    /// When the last of them was.
    delivered_at: Instant,
    /// When the first segment of this flight left.
    first_sent: Instant,
    /// The program had no more to send.
    pub app_limited: bool,
    /// Bytes in flight, this segment included.
    pub in_flight: u32,
    /// Bytes lost until then.
    pub lost: u64,
}

impl Snapshot {
    /// Bytes that had been delivered when the segment left: the same for segments that left together.
    pub fn delivered_count(&self) -> u64 {
        self.delivered
    }
}

/// One sample (the draft's "RS." variables).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Bytes a second; None where the interval was too short to say.
    pub rate: Option<f64>,
    /// Bytes delivered over the sample's interval.
    pub delivered: u64,
    /// Bytes that had been delivered when the sampled segment left.
    pub prior_delivered: u64,
    /// The program had no more to send when it left.
    pub app_limited: bool,
    /// Bytes in flight when it left, itself included.
    pub in_flight: u32,
    /// Bytes lost since.
    pub lost: u64,
}

/// The counters of one flow (the draft's "C." variables).
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery {
    /// Bytes delivered so far.
    pub delivered: u64,
    /// Segments delivered so far.
    pub segments: u32,
    /// The last rate that says what the path carries, bytes a second: of a flight that the program did not hold down, or more than that.
    /// And whether it did.
    pub rate: Option<(f64, bool)>,
    /// Bytes declared lost so far, spurious declarations included.
    pub lost: u64,
    delivered_at: Instant,
    first_sent: Instant,
    /// What is delivered up to this count was sent while the program had no more.
    app_limited_until: Option<u64>,
    /// The latest sent of the segments that this ACK delivered.
    newest: Option<(Snapshot, Instant)>,
}

impl Delivery {
    /// A segment leaves; `pipe` bytes were in flight before it.
    pub fn on_sent(&mut self, now: Instant, pipe: u32, len: u32) -> Snapshot {
        if pipe == 0 {
            self.first_sent = now;
            self.delivered_at = now;
        }
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            app_limited: self.app_limited_until.is_some(),
            in_flight: pipe + len,
            lost: self.lost,
        }
    }

    /// A segment of `len` bytes, last sent at `sent`, is known to have arrived.
    pub fn on_delivered(&mut self, now: Instant, len: u32, snapshot: &Snapshot, sent: Instant) {
        self.delivered += u64::from(len);
        self.segments = self.segments.wrapping_add(1);
        self.delivered_at = now;
        let newer = self
            .newest
            .is_none_or(|(newest, at)| (snapshot.delivered, sent) > (newest.delivered, at));
        if newer {
            self.newest = Some((*snapshot, sent));
            self.first_sent = sent;
        }
    }

    /// The program has no more to send while the window has room; `pipe` bytes are in flight.
    pub fn note_app_limited(&mut self, pipe: u32) {
        self.app_limited_until = Some(self.delivered + u64::from(pipe));
    }

    /// What leaves now counts as limited by the program.
    pub fn is_app_limited(&self) -> bool {
        self.app_limited_until.is_some()
    }

    /// The sample of an ACK, once everything that it delivered is noted. An interval below `min_rtt` is an artefact of the ACK's path.
    pub fn sample(&mut self, min_rtt: Duration) -> Option<Sample> {
        if self.app_limited_until.is_some_and(|until| self.delivered > until) {
            self.app_limited_until = None;
        }
        let (snapshot, sent) = self.newest.take()?;
        let delivered = self.delivered - snapshot.delivered;
        let send_elapsed = sent.since(snapshot.first_sent);
        let ack_elapsed = self.delivered_at.since(snapshot.delivered_at);
        // The slower of the two: neither a burst sent nor one acknowledged says what the path carries.
        let interval = send_elapsed.max(ack_elapsed);
        let known = interval >= min_rtt && !interval.is_zero();
        let rate = known.then(|| delivered as f64 / interval.as_secs_f64());
        if let Some(rate) = rate {
            // As in Linux (tcp_rate_gen).
            if !snapshot.app_limited || self.rate.is_none_or(|(before, _)| rate >= before) {
                self.rate = Some((rate, snapshot.app_limited));
            }
        }
        Some(Sample {
            rate,
            delivered,
            prior_delivered: snapshot.delivered,
            app_limited: snapshot.app_limited,
            in_flight: snapshot.in_flight,
            lost: self.lost - snapshot.lost.min(self.lost),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn a_steady_flight_gives_the_rate_of_the_path() {
        let mut d = Delivery::default();
        let mut flight: Vec<(Snapshot, Instant)> = (0..4).map(|i| (d.on_sent(at(0), i * 1000, 1000), at(0))).collect();
        // One segment each 10 ms comes back from 40 ms on, and lets another one go.
        for round in 1..4 {
            for (i, segment) in flight.iter_mut().enumerate() {
                let now = at(40 * round + 10 * i as u64);
                d.on_delivered(now, 1000, &segment.0, segment.1);
                let sample = d.sample(Duration::from_millis(1)).unwrap();
                assert!(sample.rate.unwrap() <= 100_000.0, "never above the path's");
                if round == 3 {
                    assert_eq!((sample.delivered, sample.rate), (4000, Some(100_000.0)));
                }
                *segment = (d.on_sent(now, 3000, 1000), now);
            }
        }
    }

    #[test]
    fn acknowledgments_in_a_clump_do_not_raise_it_above_the_rate_of_sending() {
        let mut d = Delivery::default();
        let sent: Vec<(Snapshot, Instant)> = (0..4u32)
            .map(|i| (d.on_sent(at(10 * u64::from(i)), i * 1000, 1000), at(10 * u64::from(i))))
            .collect();
        for (snapshot, sent) in &sent {
            d.on_delivered(at(41), 1000, snapshot, *sent);
        }
        assert!(d.sample(Duration::ZERO).unwrap().rate.unwrap() <= 4000.0 / 0.03);
    }

    #[test]
    fn what_leaves_while_the_program_has_no_more_is_marked_until_that_flight_is_over() {
        let mut d = Delivery::default();
        let before = d.on_sent(at(0), 0, 1000);
        d.note_app_limited(1000);
        let during = d.on_sent(at(1), 1000, 1000);
        assert_eq!((before.app_limited, during.app_limited), (false, true));
        for snapshot in [before, during] {
            d.on_delivered(at(50), 1000, &snapshot, at(1));
            d.sample(Duration::ZERO);
        }
        assert!(!d.on_sent(at(51), 0, 1000).app_limited);
    }

    #[test]
    fn the_rate_that_is_told_is_the_paths_also_when_the_program_pauses() {
        let mut d = Delivery::default();
        let flight = [d.on_sent(at(0), 0, 1000), d.on_sent(at(0), 1000, 1000)];
        for snapshot in flight {
            d.on_delivered(at(10), 1000, &snapshot, at(0));
        }
        d.sample(Duration::ZERO);
        assert_eq!((d.rate, d.segments), (Some((200_000.0, false)), 2));
        for (sent, arrived, rate, limited) in [(20, 30, 200_000.0, false), (40, 44, 250_000.0, true)] {
            d.note_app_limited(0);
            let alone = d.on_sent(at(sent), 0, 1000);
            d.on_delivered(at(arrived), 1000, &alone, at(sent));
            d.sample(Duration::ZERO);
            assert_eq!(d.rate, Some((rate, limited)), "{sent}");
        }
    }

    #[test]
    fn a_shorter_interval_than_any_round_trip_is_no_rate() {
        let mut d = Delivery::default();
        let snapshot = d.on_sent(at(0), 0, 1000);
        d.on_delivered(at(9), 1000, &snapshot, at(0));
        assert_eq!(d.sample(Duration::from_millis(10)).unwrap().rate, None);
        assert!(d.sample(Duration::ZERO).is_none(), "nothing was delivered since");
    }
}

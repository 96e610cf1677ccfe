//! HyStart++ (RFC 9406): leaving slow start because the round trip grows, before a queue overflows.
//!
//! It says how fast the window may grow and when slow start is over; the window itself is the congestion controller's.
//! For the initial slow start only, as section 4.3 advises. Conservative slow start also ends when the round trip grows once more as much as
//! it did to begin it. Two deviations more, because our receivers and senders work
//! with segments of up to 64 KB: no limit L on the growth for one ACK (Linux has none), and an ACK counts as up to
//! `SAMPLE_WEIGHT_MAX` samples, by the ACKs that a peer without coalescing would have sent for the same bytes.

use crate::time::Duration;
use crate::wire::SeqNum;

/// MIN_RTT_THRESH: the least growth of the round trip that counts.
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
/// MAX_RTT_THRESH: growth that always counts.
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
/// MIN_RTT_DIVISOR: between the two, growth by this part of the round trip counts.
const MIN_RTT_DIVISOR: u32 = 8;
/// N_RTT_SAMPLE: samples that a round needs before it is judged.
const N_RTT_SAMPLE: u32 = 8;
/// CSS_GROWTH_DIVISOR: conservative slow start grows this much slower.
const CSS_GROWTH_DIVISOR: u32 = 4;
/// CSS_ROUNDS: rounds of conservative slow start before congestion avoidance.
const CSS_ROUNDS: u32 = 5;
/// Samples that one ACK can stand for: two ACKs are needed to judge a round, whatever they cover.
const SAMPLE_WEIGHT_MAX: u32 = 4;

/// The state of one slow start.
#[derive(Clone, Debug, Default)]
pub struct HyStart {
    /// The round ends when this is acknowledged; None before the first.
    round_end: Option<SeqNum>,
    last_round_min: Option<Duration>,
    round_min: Option<Duration>,
    samples: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    SlowStart,
    /// Conservative slow start.
    Conservative {
        baseline: Duration,
        rounds: u32,
    },
    Over,
}

impl HyStart {
    /// An ACK in slow start gave a round-trip sample. `snd_una` and `snd_nxt` are those after it, `acked` the bytes it
    /// acknowledged. True when slow start is over: set ssthresh to the window.
    pub fn on_sample(&mut self, snd_una: SeqNum, snd_nxt: SeqNum, rtt: Duration, acked: u32, mss: u32) -> bool {
        let round_end = *self.round_end.get_or_insert(snd_nxt);
        self.round_min = Some(self.round_min.map_or(rtt, |min| min.min(rtt)));
        // A peer without coalescing acknowledges every second segment.
        self.samples += (acked / (2 * mss.max(1))).clamp(1, SAMPLE_WEIGHT_MAX);
        if self.samples >= N_RTT_SAMPLE {
            self.judge();
        }
        if snd_una.ge(round_end) {
            self.end_round(snd_nxt);
        }
        self.phase == Phase::Over
    }

    /// The growth of the window for `acked` bytes.
    pub fn growth(&self, acked: u32) -> u32 {
        match self.phase {
            Phase::Conservative { .. } => acked / CSS_GROWTH_DIVISOR,
            Phase::SlowStart | Phase::Over => acked,
        }
    }

    /// Whether the round trip of this round has grown (or, in conservative slow start, has not after all).
    fn judge(&mut self) {
        let (Some(round_min), Some(last_round_min)) = (self.round_min, self.last_round_min) else {
            return;
        };
        match self.phase {
            Phase::SlowStart => {
                if round_min >= last_round_min + threshold(last_round_min) {
                    self.phase = Phase::Conservative {
                        baseline: round_min,
                        rounds: 0,
                    };
                }
            }
            Phase::Conservative { baseline, .. } if round_min < baseline => self.phase = Phase::SlowStart,
            // It has risen as much again: this is a queue, and five rounds of growth by a quarter would fill it.
            Phase::Conservative { baseline, .. } if round_min >= baseline + threshold(baseline) => {
                self.phase = Phase::Over
            }
            Phase::Conservative { .. } | Phase::Over => {}
        }
    }

    fn end_round(&mut self, snd_nxt: SeqNum) {
        self.round_end = Some(snd_nxt);
        self.last_round_min = self.round_min.take();
        self.samples = 0;
        if let Phase::Conservative { baseline, rounds } = self.phase {
            // A round that conservative slow start began in counts too.
            let rounds = rounds + 1;
            self.phase = if rounds >= CSS_ROUNDS {
                Phase::Over
            } else {
                Phase::Conservative { baseline, rounds }
            };
        }
    }
}

/// RTT_THRESH: growth beyond a round's least round trip that is no jitter.
fn threshold(round_min: Duration) -> Duration {
    (round_min / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;
    const WINDOW: u32 = 10 * MSS;

    /// A round of `acks` ACKs for one segment each, all with this round trip. True when slow start was over.
    fn round(hystart: &mut HyStart, una: &mut SeqNum, acks: u32, rtt_us: u64) -> bool {
        let mut over = false;
        for i in 1..=acks {
            // The last ACK of the round takes the rest of the window.
            let acked = if i == acks { WINDOW - (acks - 1) * MSS } else { MSS };
            *una += acked;
            let rtt = Duration::from_micros(rtt_us);
            // As one segment: the weight of coalesced ACKs has a test of its own.
            over |= hystart.on_sample(*una, *una + WINDOW, rtt, MSS, MSS);
        }
        over
    }

    /// After a first round at `first_us` and a second one of `acks` ACKs at `second_us`: is growth slower?
    fn conservative_after(first_us: u64, acks: u32, second_us: u64) -> bool {
        let mut hystart = HyStart::default();
        let mut una = SeqNum(u32::MAX - 5000);
        // The end of the first round is known from its first ACK, so it ends with the window after that ACK.
        round(&mut hystart, &mut una, 1, first_us);
        round(&mut hystart, &mut una, 8, first_us);
        round(&mut hystart, &mut una, acks, second_us);
        hystart.growth(MSS) == MSS / 4
    }

    // Proves R9406-1.
    #[test]
    fn growth_by_an_eighth_of_the_round_trip_counts() {
        assert!(!conservative_after(80_000, 8, 89_999));
        assert!(conservative_after(80_000, 8, 90_000));
    }

    #[test]
    fn the_threshold_is_between_4_and_16_ms() {
        assert!(!conservative_after(1_000, 8, 4_999));
        assert!(conservative_after(1_000, 8, 5_000));
        assert!(!conservative_after(400_000, 8, 415_999));
        assert!(conservative_after(400_000, 8, 416_000));
    }

    #[test]
    fn seven_samples_are_not_enough() {
        assert!(!conservative_after(80_000, 7, 200_000));
        assert!(conservative_after(80_000, 8, 200_000));
    }

    #[test]
    fn two_acks_for_64_kb_are_enough_and_one_is_not() {
        let sample = |hystart: &mut HyStart, una: u32, rtt| {
            hystart.on_sample(
                SeqNum(una),
                SeqNum(una + 3 * 64_000),
                Duration::from_millis(rtt),
                64_000,
                MSS,
            );
        };
        let mut hystart = HyStart::default();
        sample(&mut hystart, 0, 10);
        sample(&mut hystart, 192_000, 10);
        sample(&mut hystart, 256_000, 50);
        assert_eq!(hystart.growth(MSS), MSS);
        sample(&mut hystart, 320_000, 50);
        assert_eq!(hystart.growth(MSS), MSS / 4);
    }

    /// In conservative slow start since the round that just ended, as its first of five.
    fn conservative() -> (HyStart, SeqNum) {
        let mut hystart = HyStart::default();
        let mut una = SeqNum(0);
        round(&mut hystart, &mut una, 1, 40_000);
        round(&mut hystart, &mut una, 8, 40_000);
        round(&mut hystart, &mut una, 8, 60_000);
        assert_eq!(hystart.growth(MSS), MSS / 4);
        (hystart, una)
    }

    // Proves R9406-1.
    #[test]
    fn five_rounds_of_it_end_slow_start() {
        let (mut hystart, mut una) = conservative();
        for _ in 0..3 {
            assert!(!round(&mut hystart, &mut una, 8, 60_000));
        }
        assert!(round(&mut hystart, &mut una, 8, 60_000));
    }

    // Proves R9406-1.
    #[test]
    fn a_round_trip_that_grows_further_ends_it_at_once() {
        let (mut hystart, mut una) = conservative();
        assert!(!round(&mut hystart, &mut una, 8, 67_499));
        assert!(round(&mut hystart, &mut una, 8, 67_500));
    }

    // Proves R9406-1.
    #[test]
    fn a_round_trip_that_falls_again_resumes_slow_start() {
        let (mut hystart, mut una) = conservative();
        assert!(!round(&mut hystart, &mut una, 8, 60_000));
        assert_eq!(hystart.growth(MSS), MSS / 4, "not below the baseline");
        assert!(!round(&mut hystart, &mut una, 8, 59_999));
        assert_eq!(hystart.growth(MSS), MSS);
    }
}

//! Round-trip time and retransmission timeout (RFC 6298) with Linux's lower bound, and a windowed minimum.
//!
//! Not done here: choosing samples (Karn's rule) and running the timer. The gains are those of one sample a round
//! trip also where every ACK gives one (RFC 7323 appendix G warns of it): the lower bound on the variance term keeps
//! the timeout safe when RTTVAR falls fast.

use crate::time::{Duration, Instant};

/// Timeout before the first sample (RFC 6298 section 2.1).
pub const RTO_INITIAL: Duration = Duration::from_secs(1);
/// Timeout before the first sample when the SYN had to be sent again (RFC 6298 section 5.7).
pub const RTO_AFTER_SYN_TIMEOUT: Duration = Duration::from_secs(3);
/// Least variance term of the timeout. As in Linux (TCP_RTO_MIN) the bound is on 4·RTTVAR, not on the sum, so the
/// timeout is never closer than this above SRTT; RFC 6298 section 2.4 asks for a timeout of 1 s at least.
pub const RTO_MIN: Duration = Duration::from_millis(200);
/// Greatest timeout, back-off included (TCP_RTO_MAX of Linux; RFC 6298 section 2.5 allows 60 s or more).
pub const RTO_MAX: Duration = Duration::from_secs(120);
/// How long a sample can be the minimum: at least half of this, at most all of it.
pub const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);
/// Doublings that are told apart: 2^10 times the least timeout is beyond `RTO_MAX`.
const BACKOFF_MAX: u32 = 10;

/// What is known about the round trip of one path.
#[derive(Clone, Debug)]
pub struct RttEstimator {
    /// SRTT and RTTVAR.
    smoothed: Option<(Duration, Duration)>,
    min: WindowedMin,
    /// Timeout while there is no sample.
    initial: Duration,
    /// Doublings of the timeout.
    backoff: u32,
}

impl Default for RttEstimator {
    fn default() -> Self {
        Self::new()
    }
}

impl RttEstimator {
    /// Nothing known.
    pub fn new() -> Self {
        RttEstimator {
            smoothed: None,
            min: WindowedMin::default(),
            initial: RTO_INITIAL,
            backoff: 0,
        }
    }

    /// The handshake needed more than one SYN: start the data phase with the longer timeout (RFC 6298 section 5.7).
    pub fn on_syn_timeout(&mut self) {
        self.initial = RTO_AFTER_SYN_TIMEOUT;
    }

    /// A round trip was measured on a segment that was sent once, or by timestamps (RFC 6298 sections 2.2, 2.3).
    pub fn on_sample(&mut self, now: Instant, rtt: Duration) {
        // The clock ticks in microseconds; a round trip took some time.
        let rtt = rtt.max(Duration::from_micros(1));
        self.smoothed = Some(match self.smoothed {
            None => (rtt, rtt / 2),
            Some((srtt, rttvar)) => ((srtt * 7 + rtt) / 8, (rttvar * 3 + srtt.abs_diff(rtt)) / 4),
        });
        self.min.add(now, rtt);
    }

    /// SRTT.
    pub fn srtt(&self) -> Option<Duration> {
        self.smoothed.map(|(srtt, _)| srtt)
    }

    /// RTTVAR.
    pub fn rttvar(&self) -> Option<Duration> {
        self.smoothed.map(|(_, rttvar)| rttvar)
    }

    /// The least sample of the last `MIN_RTT_WINDOW`, as of the last sample.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.min.get()
    }

    /// The retransmission timeout, back-off included.
    pub fn rto(&self) -> Duration {
        let base = match self.smoothed {
            None => self.initial,
            Some((srtt, rttvar)) => srtt + (rttvar * 4).max(RTO_MIN),
        };
        base.saturating_mul(1 << self.backoff).min(RTO_MAX)
    }

    /// The timer fired: double the timeout (RFC 6298 section 5.5).
    pub fn backoff(&mut self) {
        self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
    }

    /// New data was acknowledged: the timeout is the computed one again.
    pub fn reset_backoff(&mut self) {
        self.backoff = 0;
    }
}

/// A minimum over the last half to whole window, in two buckets of half a window.
#[derive(Clone, Debug, Default)]
struct WindowedMin {
    current: Option<Bucket>,
    previous: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    since: Instant,
    min: Duration,
}

impl WindowedMin {
    fn add(&mut self, now: Instant, sample: Duration) {
        let half = MIN_RTT_WINDOW / 2;
        match &mut self.current {
            Some(bucket) if now.since(bucket.since) < half => bucket.min = bucket.min.min(sample),
            bucket => {
                // A bucket that ended more than half a window ago has nothing to say any more.
                self.previous = bucket
                    .filter(|bucket| now.since(bucket.since) < MIN_RTT_WINDOW)
                    .map(|bucket| bucket.min);
                *bucket = Some(Bucket {
                    since: now,
                    min: sample,
                });
            }
        }
    }

    fn get(&self) -> Option<Duration> {
        let current = self.current?.min;
        Some(self.previous.map_or(current, |previous| previous.min(current)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn after(samples: &[u64]) -> RttEstimator {
        let mut rtt = RttEstimator::new();
        for (i, sample) in samples.iter().enumerate() {
            rtt.on_sample(Instant::from_millis(i as u64), ms(*sample));
        }
        rtt
    }

    // Proves R6298-1.
    #[test]
    fn the_first_sample_is_the_estimate_and_half_of_it_the_variance() {
        let rtt = after(&[300]);
        assert_eq!((rtt.srtt(), rtt.rttvar()), (Some(ms(300)), Some(ms(150))));
        assert_eq!(rtt.rto(), ms(300 + 4 * 150));
    }

    // Proves R6298-1.
    #[test]
    fn later_samples_move_it_by_an_eighth_and_a_quarter() {
        // RTTVAR = 3/4 * 150 + 1/4 * |300 - 380| = 132.5, SRTT = 7/8 * 300 + 1/8 * 380 = 310
        let rtt = after(&[300, 380]);
        assert_eq!(rtt.srtt(), Some(ms(310)));
        assert_eq!(rtt.rttvar(), Some(Duration::from_micros(132_500)));
        assert_eq!(rtt.rto(), ms(310 + 530));
    }

    // Proves R6298-2.
    #[test]
    fn the_variance_term_is_200_ms_at_least() {
        // 4 * RTTVAR = 2 * sample: 100 ms is the boundary.
        assert_eq!(after(&[99]).rto(), ms(299));
        assert_eq!(after(&[100]).rto(), ms(300));
        assert_eq!(after(&[101]).rto(), ms(303));
    }

    // Proves R6298-4.
    #[test]
    fn without_a_sample_one_second_or_three_after_a_lost_syn() {
        let mut rtt = RttEstimator::new();
        assert_eq!((rtt.rto(), rtt.srtt(), rtt.min_rtt()), (ms(1000), None, None));
        rtt.on_syn_timeout();
        assert_eq!(rtt.rto(), ms(3000));
        rtt.on_sample(Instant::ZERO, ms(10));
        assert_eq!(rtt.rto(), ms(210));
    }

    // Proves MUST-19, R6298-3.
    #[test]
    fn back_off_doubles_up_to_two_minutes_and_ends() {
        let mut rtt = after(&[100]);
        let mut seen = Vec::new();
        for _ in 0..12 {
            rtt.backoff();
            seen.push(rtt.rto().as_millis());
        }
        assert_eq!(seen[..3], [600, 1200, 2400]);
        assert_eq!(seen[7..], [76_800, 120_000, 120_000, 120_000, 120_000]);
        rtt.reset_backoff();
        assert_eq!(rtt.rto(), ms(300));
    }

    #[test]
    fn no_sample_overflows_the_timeout() {
        let mut rtt = RttEstimator::new();
        rtt.on_sample(Instant::ZERO, Duration::from_secs(1 << 40));
        rtt.on_sample(Instant::ZERO, Duration::ZERO);
        (0..99).for_each(|_| rtt.backoff());
        assert_eq!(rtt.rto(), RTO_MAX);
    }

    #[test]
    fn the_minimum_forgets_what_is_a_window_old() {
        let mut rtt = RttEstimator::new();
        rtt.on_sample(Instant::from_millis(0), ms(10));
        rtt.on_sample(Instant::from_millis(4_999), ms(30));
        assert_eq!(rtt.min_rtt(), Some(ms(10)));
        // The second half of the window still knows the first.
        rtt.on_sample(Instant::from_millis(5_000), ms(30));
        rtt.on_sample(Instant::from_millis(9_999), ms(20));
        assert_eq!(rtt.min_rtt(), Some(ms(10)));
        rtt.on_sample(Instant::from_millis(10_000), ms(30));
        assert_eq!(rtt.min_rtt(), Some(ms(20)));
        // A long silence leaves only what came after it.
        rtt.on_sample(Instant::from_millis(60_000), ms(50));
        assert_eq!(rtt.min_rtt(), Some(ms(50)));
    }
}

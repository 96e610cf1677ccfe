//! Pacing: segments leave at the congestion control's rate instead of in bursts at each ACK.
//!
//! Whoever drives the core has a timer whose wake-ups cost something, so segments leave in groups of about a millisecond, and a wake-up that
//! comes late is made up for. What leaves before there is any measurement (the initial window) is not paced.

use crate::time::{Duration, Instant};

/// The time that one group of segments stands for.
const QUANTUM: Duration = Duration::from_millis(1);
/// How late a wake-up may come without costing rate.
const CATCH_UP: Duration = Duration::from_millis(3);

/// When the next segment of one flow may leave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pacer {
    /// Nanoseconds since the origin of time.
    next_ns: u64,
    /// Bytes that may still leave without waiting.
    free: u32,
    wake: Option<Instant>,
}

impl Pacer {
    /// The first `free` bytes are not paced.
    pub fn new(free: u32) -> Self {
        Pacer {
            free,
            ..Pacer::default()
        }
    }

    /// Whether a segment may leave now at `rate` bytes a second (None: unlimited). When not, `wake` says when to ask again.
    pub fn may_send(&mut self, now: Instant, rate: Option<f64>) -> bool {
        if self.is_open(now, rate) {
            self.wake = None;
            return true;
        }
        let next = Instant::from_micros(self.next_ns.div_ceil(1000));
        let wake = next.max(now + QUANTUM);
        self.wake = Some(self.wake.map_or(wake, |earlier| earlier.min(wake)));
        false
    }

    /// The same question, asked by nobody who waits.
    pub fn is_open(&self, now: Instant, rate: Option<f64>) -> bool {
        rate.is_none() || self.free > 0 || self.next_ns <= nanos(now)
    }

    /// `len` bytes left.
    pub fn on_sent(&mut self, now: Instant, len: u32, rate: Option<f64>) {
        let paced = len.saturating_sub(self.free);
        self.free -= self.free.min(len);
        let Some(rate) = rate.filter(|rate| *rate > 0.0) else {
            return;
        };
        let earliest = nanos(now).saturating_sub(CATCH_UP.as_nanos() as u64);
        self.next_ns = self.next_ns.max(earliest) + (f64::from(paced) / rate * 1e9) as u64;
    }

    /// When something that waits may leave.
    pub fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Time has passed: whoever waited asks again.
    pub fn on_timer(&mut self, now: Instant) {
        if self.wake.is_some_and(|at| at <= now) {
            self.wake = None;
        }
    }
}

fn nanos(at: Instant) -> u64 {
    at.as_micros().saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that leave in a second, asked at each `wake`, which comes `late` by so much.
    fn sent_in_a_second(rate: f64, late: Duration) -> u64 {
        let mut pacer = Pacer::new(0);
        let (mut now, mut sent) = (Instant::from_millis(10), 0);
        while now < Instant::from_millis(1010) {
            while pacer.may_send(now, Some(rate)) {
                pacer.on_sent(now, 1000, Some(rate));
                sent += 1000;
            }
            now = pacer.wake().unwrap() + late;
            pacer.on_timer(now);
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_whatever_it_is() {
        for rate in [5e3, 1e5, 1e7, 1e9] {
            let sent = sent_in_a_second(rate, Duration::ZERO) as f64;
            assert!(
                (0.98..1.02).contains(&((sent - 4000.0).max(1.0) / rate)) || (sent - rate).abs() < 5000.0,
                "{rate}: {sent}"
            );
        }
    }

    #[test]
    fn late_wake_ups_cost_nothing() {
        let sent = sent_in_a_second(1e7, Duration::from_micros(1500)) as f64;
        assert!(sent > 0.99e7, "{sent}");
    }

    #[test]
    fn groups_of_a_millisecond_leave_together() {
        let mut pacer = Pacer::new(0);
        let now = Instant::from_millis(10);
        pacer.on_sent(now, 40_000, Some(1e7));
        assert!(!pacer.may_send(now, Some(1e7)));
        assert_eq!(pacer.wake(), Some(Instant::from_millis(11)));
    }

    #[test]
    fn the_initial_window_is_not_paced() {
        let mut pacer = Pacer::new(10_000);
        let now = Instant::from_millis(10);
        for _ in 0..10 {
            assert!(pacer.may_send(now, Some(1000.0)));
            pacer.on_sent(now, 1000, Some(1000.0));
        }
        assert!(pacer.may_send(now, Some(1000.0)));
        pacer.on_sent(now, 1000, Some(1000.0));
        assert!(!pacer.may_send(now + Duration::from_millis(900), Some(1000.0)));
        assert!(pacer.may_send(now, None), "no rate is known");
    }
}

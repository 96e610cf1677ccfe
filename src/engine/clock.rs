//! The one place that reads the clock; everything else is told the time.

use crate::time::Instant;
use rustix::time::{clock_gettime, ClockId};

/// Monotonic time since the engine started.
pub struct Clock {
    origin_us: u64,
}

impl Clock {
    /// A clock whose origin is now.
    pub fn start() -> Self {
        Clock {
            origin_us: monotonic_us(),
        }
    }

    /// Now.
    pub fn now(&self) -> Instant {
        Instant::from_micros(monotonic_us() - self.origin_us)
    }
}

/// CLOCK_MONOTONIC, which does not go backwards and does not count suspend: a laptop that wakes up has not lost its
/// connections to timeouts that ran while it slept.
fn monotonic_us() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000
}

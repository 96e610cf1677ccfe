//! The lab's only reader of the clock.

use rustix::time::{clock_gettime, ClockId};
use std::time::Duration;

/// CLOCK_MONOTONIC.
pub fn now() -> Duration {
    let t = clock_gettime(ClockId::Monotonic);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

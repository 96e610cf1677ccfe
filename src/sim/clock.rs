//! A host's clock: it runs as fast as the world's, shows another time, and may jump.
//!
//! The engine reads CLOCK_MONOTONIC, which does neither go back nor run while the machine sleeps. A virtual machine that was
//! moved or restored is not so sure of it, and a core that trusts its caller's clock with its life would hang or spin.

use crate::time::{Duration, Instant};

/// How far a host's clock is ahead of the world's, microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostClock(i64);

impl HostClock {
    /// A clock that is this far ahead.
    pub fn ahead(by: Duration) -> Self {
        HostClock(i64::try_from(by.as_micros()).unwrap_or(i64::MAX))
    }

    /// What it shows when it is `world` in the world.
    pub fn at(self, world: Instant) -> Instant {
        Instant::from_micros(world.as_micros().saturating_add_signed(self.0))
    }

    /// When it shows `shown`; the world's origin when it never did.
    pub fn when(self, shown: Instant) -> Instant {
        Instant::from_micros(shown.as_micros().saturating_add_signed(self.0.saturating_neg()))
    }

    /// It jumps, forward or (negative) back.
    pub fn jump(&mut self, by_ms: i64) {
        self.0 = self.0.saturating_add(by_ms.saturating_mul(1000));
    }
}

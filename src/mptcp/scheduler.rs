//! Which subflow takes the next segment. One rule today: the lowest smoothed RTT among those whose window has room;
//! backup subflows only when nothing else is usable (RFC 8684 section 3.3.8). A connection that wants low latency does not spill over
//! to subflows that are slow beside the fastest.

use super::subflow::Subflow;
use crate::time::Duration;

/// A subflow is slow when its round-trip time is so many times that of the fastest.
const SLOW: u32 = 2;

/// The subflow for the next segment, None when none may send now. With `fast_only` slow ones count as full: the data waits.
pub(super) fn pick(subflows: &mut [Subflow], fast_only: bool) -> Option<usize> {
    let regular = subflows.iter().any(|s| s.usable() && !s.stalled && !s.backup());
    let any_alive = subflows.iter().any(|s| s.usable() && !s.stalled);
    let eligible = |s: &Subflow| s.usable() && (!any_alive || !s.stalled) && (!regular || !s.backup());
    let fastest = subflows.iter().filter(|s| eligible(s)).map(srtt).min();
    let limit = fastest.filter(|_| fast_only).map(|fastest| fastest * SLOW);
    let mut best: Option<(Duration, usize)> = None;
    for (i, s) in subflows.iter_mut().enumerate() {
        let slow = limit.is_some_and(|limit| srtt(s) > limit);
        if !eligible(s) || slow || (s.one_at_a_time && !s.tx.is_idle()) || !s.tx.may_send() {
            continue;
        }
        let srtt = srtt(s);
        if best.is_none_or(|(b, _)| srtt < b) {
            best = Some((srtt, i));
        }
    }
    best.map(|(_, i)| i)
}

/// Smoothed round-trip time; a guess before there is a sample.
fn srtt(subflow: &Subflow) -> Duration {
    subflow.tx.rtt.srtt().unwrap_or(Duration::from_millis(100))
}

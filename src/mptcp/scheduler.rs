//! Which subflow takes the next segment. One rule today: the lowest smoothed RTT among those whose window has room;
//! backup subflows only when nothing else is usable (RFC 8684 section 3.3.8).

use super::subflow::Subflow;
use crate::time::Duration;

/// The subflow for the next segment, None when none may send now.
pub(super) fn pick(subflows: &mut [Subflow]) -> Option<usize> {
    let regular = subflows.iter().any(|s| s.usable() && !s.stalled && !s.backup());
    let any_alive = subflows.iter().any(|s| s.usable() && !s.stalled);
    let mut best: Option<(Duration, usize)> = None;
    for (i, s) in subflows.iter_mut().enumerate() {
        let eligible = s.usable() && (!any_alive || !s.stalled) && (!regular || !s.backup());
        if !eligible || (s.one_at_a_time && !s.tx.is_idle()) || !s.tx.may_send() {
            continue;
        }
        let srtt = s.tx.rtt.srtt().unwrap_or(Duration::from_millis(100));
        if best.is_none_or(|(b, _)| srtt < b) {
            best = Some((srtt, i));
        }
    }
    best.map(|(_, i)| i)
}

//! Proportional Rate Reduction (RFC 9937, which replaces RFC 6937): how much to send during fast recovery, so that the
//! flight is ssthresh when recovery ends, without a burst and without a silence.
//!
//! Not done here: finding losses, choosing ssthresh, and the window after recovery, which is ssthresh.

/// One episode of fast recovery. All figures are bytes.
#[derive(Clone, Debug, Default)]
pub struct Prr {
    ssthresh: u32,
    /// RecoverFS: the flight that recovery began with.
    recover_flight: u64,
    delivered: u64,
    /// Sent during this recovery.
    out: u64,
    /// What the flight may grow to.
    cwnd: u32,
}

impl Prr {
    /// Recovery begins. `flight`: what was in the network before the ACK (or the timer) that revealed the loss, without
    /// what was selectively acknowledged before. `ssthresh`: the flight to end with.
    pub fn start(&mut self, flight: u32, ssthresh: u32) {
        *self = Prr {
            ssthresh,
            recover_flight: u64::from(flight.max(1)),
            ..Prr::default()
        };
    }

    /// An ACK came during recovery, the one that began it included. `delivered`: bytes that it newly reports as
    /// arrived, cumulatively or selectively; `pipe`: bytes in the network after it; `lost`: it revealed more losses;
    /// `una_advanced`: it acknowledged cumulatively (RFC 9937 section 6.2).
    pub fn on_ack(&mut self, delivered: u32, pipe: u32, mss: u32, lost: bool, una_advanced: bool) {
        if delivered == 0 {
            return;
        }
        self.delivered += u64::from(delivered);
        let send = if pipe > self.ssthresh {
            // Proportional: for each byte that left the network, ssthresh/RecoverFS bytes may enter.
            let allowed = (self.delivered * u64::from(self.ssthresh)).div_ceil(self.recover_flight);
            allowed.saturating_sub(self.out)
        } else {
            // Too little is in flight. Conservative bound: as much as was delivered; one segment more while the
            // recovery makes progress (slow-start bound); never above ssthresh.
            let bound = self.delivered.saturating_sub(self.out).max(u64::from(delivered));
            let safe_ack = una_advanced && !lost;
            let bound = if safe_ack { bound + u64::from(mss) } else { bound };
            bound.min(u64::from(self.ssthresh - pipe))
        };
        self.cwnd = pipe.saturating_add(u32::try_from(send).unwrap_or(u32::MAX));
    }

    /// Bytes, new or again, were handed to the link.
    pub fn on_sent(&mut self, bytes: u32) {
        self.out += u64::from(bytes);
    }

    /// Bytes that may be sent now with `pipe` in the network; one segment at least while nothing was sent yet, which is
    /// the fast retransmission.
    pub fn quota(&self, pipe: u32, mss: u32) -> u32 {
        let quota = self.cwnd.saturating_sub(pipe);
        if self.out == 0 {
            quota.max(mss)
        } else {
            quota
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    /// Sends whole segments as far as allowed; what that came to.
    fn send_all(prr: &mut Prr, pipe: &mut u32) -> u32 {
        let mut sent = 0;
        while prr.quota(*pipe, MSS) >= MSS {
            prr.on_sent(MSS);
            *pipe += MSS;
            sent += MSS;
        }
        sent
    }

    // Proves CC, R6937-1.
    #[test]
    fn one_loss_of_a_hundred_ends_at_ssthresh_without_a_gap() {
        let mut prr = Prr::default();
        let mut pipe = 100 * MSS;
        prr.start(pipe, 70 * MSS);
        // The first ACK that reveals the loss: one delivered, one lost.
        pipe -= 2 * MSS;
        prr.on_ack(MSS, pipe, MSS, true, false);
        let mut sent = vec![send_all(&mut prr, &mut pipe)];
        assert_eq!(sent, [MSS], "the fast retransmission leaves at once");
        for _ in 0..98 {
            pipe -= MSS;
            prr.on_ack(MSS, pipe, MSS, false, false);
            sent.push(send_all(&mut prr, &mut pipe));
        }
        assert_eq!(pipe, 70 * MSS);
        // 7 segments for 10 ACKs, spread: never two in one go, never more than one ACK of silence after the start.
        assert!(sent.iter().all(|&bytes| bytes <= MSS));
        assert!(sent[1..].windows(3).all(|three| three.iter().sum::<u32>() > 0));
    }

    #[test]
    fn proportional_part_rounds_up() {
        let mut prr = Prr::default();
        prr.start(10, 7);
        prr.on_sent(1);
        prr.on_ack(2, 8, 1, false, false);
        // ceil(2 * 7 / 10) - 1 sent = 1
        assert_eq!(prr.quota(8, 1), 1);
    }

    #[test]
    fn at_ssthresh_the_bound_changes_not_above_it() {
        let quota = |pipe| {
            let mut prr = Prr::default();
            prr.start(10_000, 7000);
            prr.on_sent(MSS);
            prr.on_ack(2000, pipe, MSS, false, true);
            prr.quota(pipe, MSS)
        };
        // One byte above is proportional: ceil(2000 * 0.7) - 1000 sent. At ssthresh there is nothing to catch up.
        assert_eq!(quota(7001), 400);
        assert_eq!(quota(7000), 0);
        assert_eq!(quota(6999), 1);
    }

    // Proves R6937-1.
    #[test]
    fn after_heavy_loss_it_sends_what_was_delivered_and_one_more_on_progress() {
        // 100 in flight, 70 lost at once: pipe is far below ssthresh.
        let fresh = || {
            let mut prr = Prr::default();
            prr.start(100 * MSS, 70 * MSS);
            prr.on_sent(MSS);
            prr.delivered = u64::from(MSS);
            prr
        };
        let quota = |lost, una_advanced| {
            let mut prr = fresh();
            prr.on_ack(MSS, 29 * MSS, MSS, lost, una_advanced);
            prr.quota(29 * MSS, MSS)
        };
        assert_eq!(quota(false, false), MSS, "conservative");
        assert_eq!(quota(true, true), MSS, "progress, but more losses");
        assert_eq!(quota(false, true), 2 * MSS, "slow-start bound");
    }

    #[test]
    fn a_duplicate_that_delivers_nothing_changes_nothing() {
        let mut prr = Prr::default();
        prr.start(10 * MSS, 7 * MSS);
        prr.on_sent(MSS);
        prr.on_ack(MSS, 2 * MSS, MSS, false, true);
        let before = prr.quota(2 * MSS, MSS);
        prr.on_ack(0, 2 * MSS, MSS, false, true);
        assert_eq!(prr.quota(2 * MSS, MSS), before);
    }

    #[test]
    fn a_recovery_that_a_timer_began_sends_one_segment() {
        let mut prr = Prr::default();
        prr.start(0, 2 * MSS);
        assert_eq!(prr.quota(0, MSS), MSS);
        prr.on_sent(MSS);
        assert_eq!(prr.quota(MSS, MSS), 0);
    }
}

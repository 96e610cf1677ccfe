//! CUBIC (RFC 9438) over bytes, with HyStart++ in the initial slow start.
//!
//! The caller says when the window was what limited it: a window that was not used does not grow (RFC 9438
//! section 5.8, after RFC 7661). Not done here: the window during fast recovery (`prr`), finding losses, pacing.

use super::hystart::HyStart;
use crate::time::{Duration, Instant};
use crate::wire::SeqNum;

/// β_cubic: what a congestion event leaves of the window.
const BETA: f64 = 0.7;
/// C, in segments per second³.
const C: f64 = 0.4;
/// α_cubic = 3·(1 − β)/(1 + β): the increase, in segments a round trip, that makes β as gentle as Reno's half.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// The largest window in bytes: more than this cannot be in flight (RFC 7323 section 2.2).
const CWND_MAX: u32 = 1 << 30;
/// How long use of the whole window vouches for its size: at least this, at least 3 round trips (RFC 7661 section 4.2).
const VALID_FOR: Duration = Duration::from_secs(1);

/// Initial window in bytes (RFC 6928 section 2).
pub fn initial_window(mss: u32) -> u32 {
    mss.saturating_mul(10).min(mss.saturating_mul(2).max(14_600))
}

/// The congestion window of one subflow.
#[derive(Clone, Debug)]
pub struct Cubic {
    mss: u32,
    state: State,
    hystart: HyStart,
    /// A retransmission timeout was the last thing that happened: a further one is the same event.
    timed_out: bool,
    last_ack: Option<Instant>,
    last_limited: Option<Instant>,
    srtt: Duration,
    /// Before the last congestion event.
    saved: Option<State>,
}

/// What a spurious congestion event gives back.
#[derive(Clone, Copy, Debug)]
struct State {
    cwnd: u32,
    ssthresh: u32,
    /// W_max in bytes, already lowered by fast convergence; 0 when there is none.
    w_max: f64,
    /// cwnd_prior: the window in bytes at the last congestion event.
    cwnd_prior: f64,
    epoch: Option<Epoch>,
}

/// A congestion avoidance stage.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Instant,
    /// Seconds until the cubic function is at `origin`.
    k: f64,
    /// The plateau of the cubic function, bytes.
    origin: f64,
    /// W_est: what Reno would have, bytes.
    w_est: f64,
}

impl Cubic {
    /// The initial window for segments of `mss` bytes of payload.
    pub fn new(mss: u32) -> Self {
        let mss = mss.max(1);
        Cubic {
            mss,
            state: State {
                cwnd: initial_window(mss),
                ssthresh: u32::MAX,
                w_max: 0.0,
                cwnd_prior: 0.0,
                epoch: None,
            },
            hystart: HyStart::default(),
            timed_out: false,
            last_ack: None,
            last_limited: None,
            srtt: Duration::ZERO,
            saved: None,
        }
    }

    /// Congestion window, bytes.
    pub fn cwnd(&self) -> u32 {
        self.state.cwnd
    }

    /// Slow start threshold, bytes; `u32::MAX` before the first congestion event.
    pub fn ssthresh(&self) -> u32 {
        self.state.ssthresh
    }

    /// In slow start.
    pub fn in_slow_start(&self) -> bool {
        self.state.cwnd < self.state.ssthresh
    }

    /// Sets the window, bytes; one segment at least. Fast recovery ends so (RFC 9937 section 6.2: at ssthresh).
    pub fn set_cwnd(&mut self, cwnd: u32) {
        self.state.cwnd = cwnd.clamp(self.mss, CWND_MAX);
    }

    /// The path takes segments of another size.
    pub fn set_mss(&mut self, mss: u32) {
        self.mss = mss.max(1);
        self.set_cwnd(self.state.cwnd);
    }

    /// An ACK of new data gave a round-trip sample; call it before `on_ack`. `snd_una` and `snd_nxt` are those after the
    /// ACK and delimit HyStart++'s rounds.
    pub fn on_rtt_sample(&mut self, snd_una: SeqNum, snd_nxt: SeqNum, rtt: Duration, acked: u32) {
        if self.state.ssthresh == u32::MAX && self.hystart.on_sample(snd_una, snd_nxt, rtt, acked, self.mss) {
            self.state.ssthresh = self.state.cwnd;
        }
    }

    /// New data was acknowledged outside fast recovery. `cwnd_limited`: since the last call the window was what kept the
    /// sender from sending more.
    pub fn on_ack(&mut self, now: Instant, acked: u32, srtt: Duration, cwnd_limited: bool) {
        let gap = self.last_ack.map_or(Duration::ZERO, |last| now.since(last));
        self.last_ack = Some(now);
        self.srtt = srtt;
        self.timed_out = false;
        if !cwnd_limited {
            // RFC 9438 section 5.8: time in which the window could not show what it is worth does not count.
            self.delay_epoch(gap);
            return;
        }
        self.last_limited = Some(now);
        let left = self.slow_start(acked);
        if left > 0 {
            self.congestion_avoidance(now, left, srtt);
        }
    }

    /// Grows up to ssthresh; the acknowledged bytes that are left for congestion avoidance.
    fn slow_start(&mut self, acked: u32) -> u32 {
        let room = self.state.ssthresh.saturating_sub(self.state.cwnd);
        if room == 0 {
            return acked;
        }
        let growth = if self.state.ssthresh == u32::MAX {
            self.hystart.growth(acked)
        } else {
            acked
        };
        self.set_cwnd(self.state.cwnd.saturating_add(growth.min(room)));
        growth.saturating_sub(room)
    }

    /// RFC 9438 sections 4.2 to 4.5.
    fn congestion_avoidance(&mut self, now: Instant, acked: u32, srtt: Duration) {
        let mss = f64::from(self.mss);
        let cwnd = f64::from(self.state.cwnd);
        let acked = f64::from(acked).min(cwnd);
        let cwnd_prior = self.state.cwnd_prior;
        let w_max = self.state.w_max;
        let epoch = self
            .state
            .epoch
            .get_or_insert_with(|| Epoch::begin(now, cwnd, w_max, mss));

        // RFC 9438 section 4.3: as Reno once the window of the last event is regained.
        let alpha = if epoch.w_est >= cwnd_prior { 1.0 } else { ALPHA };
        epoch.w_est += alpha * mss * acked / cwnd;
        let t = now.since(epoch.start).as_secs_f64();
        let growth = if epoch.w_cubic(t, mss) < epoch.w_est {
            (epoch.w_est - cwnd).max(0.0)
        } else {
            let target = epoch.w_cubic(t + srtt.as_secs_f64(), mss).clamp(cwnd, 1.5 * cwnd);
            (target - cwnd) * acked / cwnd
        };
        // The part of a byte that is cut off is not lost: both targets are absolute, so the next ACK makes up for it.
        self.set_cwnd(self.state.cwnd.saturating_add(growth as u32));
    }

    /// Loss found without a timeout, or an ECN mark: once for each recovery. `flight`: bytes in the network before.
    /// The window is ssthresh at once; fast recovery spreads the way there (`Prr`).
    pub fn on_congestion_event(&mut self, now: Instant, flight: u32) {
        self.saved = Some(self.state);
        let cwnd = f64::from(self.state.cwnd);
        let ssthresh = self.reduced(now, flight);
        // RFC 9438 section 4.7, fast convergence: losing before the old plateau is regained makes room for others.
        self.state.w_max = if cwnd < self.state.w_max {
            cwnd * (1.0 + BETA) / 2.0
        } else {
            cwnd
        };
        self.state.cwnd_prior = cwnd;
        self.state.ssthresh = ssthresh;
        self.state.epoch = None;
        self.set_cwnd(self.state.cwnd.min(ssthresh));
    }

    /// The retransmission timer fired. `flight`: bytes in the network before. The window is one segment; a timeout that
    /// follows another without an ACK between leaves ssthresh alone (RFC 5681 section 3.1).
    pub fn on_rto(&mut self, now: Instant, flight: u32) {
        if !self.timed_out {
            self.timed_out = true;
            self.saved = Some(self.state);
            let ssthresh = self.reduced(now, flight);
            self.state.cwnd_prior = f64::from(self.state.cwnd);
            self.state.ssthresh = ssthresh;
            // RFC 9438 section 4.8: the next stage starts on its plateau.
            self.state.w_max = 0.0;
            self.state.epoch = None;
        }
        self.set_cwnd(self.mss);
    }

    /// The last congestion event was none (RFC 9438 section 4.9): the state before it, with the larger window.
    pub fn undo(&mut self) {
        if let Some(before) = self.saved.take() {
            let cwnd = self.state.cwnd.max(before.cwnd);
            self.state = before;
            self.timed_out = false;
            self.set_cwnd(cwnd);
        }
    }

    /// Half the window, and no slow start back to where it was.
    pub fn penalize(&mut self) {
        self.set_cwnd(self.state.cwnd / 2);
        self.state.ssthresh = self.state.cwnd.max(2 * self.mss);
        self.state.epoch = None;
    }

    /// The slow start threshold after an event, bytes (RFC 9438 section 4.6). It takes the window where that was in use
    /// lately, and else the flight: an old, unused window says nothing (RFC 7661 section 4.4).
    fn reduced(&self, now: Instant, flight: u32) -> u32 {
        let valid_for = self.srtt.saturating_mul(3).max(VALID_FOR);
        let valid = self.last_limited.is_some_and(|last| now.since(last) <= valid_for);
        let base = if valid {
            self.state.cwnd
        } else {
            flight.min(self.state.cwnd)
        };
        ((f64::from(base) * BETA) as u32).max(2 * self.mss)
    }

    /// Sending starts again after `idle` without a segment in flight, the timeout being `rto`: the window halves for
    /// each timeout passed, down to the initial one (RFC 2861 section 3.2, as Linux), and idle time does not count in
    /// the cubic function (RFC 9438 section 5.8).
    pub fn on_idle_restart(&mut self, now: Instant, idle: Duration, rto: Duration) {
        self.delay_epoch(idle);
        self.last_ack = Some(now);
        let floor = initial_window(self.mss).min(self.state.cwnd);
        let halvings = idle.as_micros() / rto.as_micros().max(1);
        if halvings == 0 {
            return;
        }
        if self.state.ssthresh != u32::MAX {
            // What the window was worth is still known, so slow start gets back there.
            let three_quarters = self.state.cwnd / 4 * 3;
            self.state.ssthresh = self.state.ssthresh.max(three_quarters);
        }
        let shift = u32::try_from(halvings).unwrap_or(31).min(31);
        self.set_cwnd((self.state.cwnd >> shift).max(floor));
    }

    fn delay_epoch(&mut self, by: Duration) {
        if let Some(epoch) = &mut self.state.epoch {
            epoch.start += by;
        }
    }
}

impl Epoch {
    /// RFC 9438 section 4.2. Without a plateau above the window (after a timeout, or slow start that ended without
    /// loss) the window is the plateau and K is 0 (sections 4.8 and 4.10).
    fn begin(now: Instant, cwnd: f64, w_max: f64, mss: f64) -> Epoch {
        let origin = w_max.max(cwnd);
        Epoch {
            start: now,
            k: ((origin - cwnd) / mss / C).cbrt(),
            origin,
            w_est: cwnd,
        }
    }

    /// W_cubic `t` seconds into the stage, bytes.
    fn w_cubic(&self, t: f64, mss: f64) -> f64 {
        C * (t - self.k).powi(3) * mss + self.origin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A controller with this window, in use since `now`, out of slow start.
    fn avoiding(segments: u32) -> Cubic {
        let mut cubic = Cubic::new(MSS);
        cubic.set_cwnd(segments * MSS);
        cubic.last_limited = Some(Instant::ZERO);
        cubic
    }

    /// Acknowledges a window per round trip, segment by segment, from `from` to `to`.
    fn run(cubic: &mut Cubic, from: u64, to: u64, rtt_ms: u64) {
        let mut at = from;
        while at < to {
            at += rtt_ms;
            let mut left = cubic.cwnd();
            while left > 0 {
                let acked = left.min(2 * MSS);
                cubic.on_ack(Instant::from_millis(at), acked, ms(rtt_ms), true);
                left -= acked;
            }
        }
    }

    fn segments(cubic: &Cubic) -> f64 {
        f64::from(cubic.cwnd()) / f64::from(MSS)
    }

    // Proves R6928-1.
    #[test]
    fn the_initial_window_is_that_of_rfc_6928() {
        assert_eq!(initial_window(536), 5_360);
        assert_eq!(initial_window(1_460), 14_600);
        assert_eq!(initial_window(1_461), 14_600);
        assert_eq!(initial_window(7_300), 14_600);
        assert_eq!(initial_window(7_301), 14_602);
    }

    // Proves M3.3-15, MUST-19.
    #[test]
    fn slow_start_doubles_in_a_round_and_stops_at_ssthresh() {
        let mut cubic = Cubic::new(MSS);
        run(&mut cubic, 0, 10, 10);
        assert_eq!(cubic.cwnd(), 20 * MSS);
        cubic.state.ssthresh = 25 * MSS;
        run(&mut cubic, 10, 20, 10);
        // 5 segments to ssthresh; the other 15 of 20 acknowledged count as congestion avoidance, less than one segment.
        assert!((25 * MSS..26 * MSS).contains(&cubic.cwnd()), "{}", cubic.cwnd());
    }

    // Proves R9438-1.
    #[test]
    fn an_event_leaves_seven_tenths_and_two_segments_at_least() {
        let mut cubic = avoiding(100);
        cubic.on_congestion_event(Instant::ZERO, 100 * MSS);
        assert_eq!((cubic.cwnd(), cubic.ssthresh()), (70 * MSS, 70 * MSS));
        let mut small = avoiding(2);
        small.on_congestion_event(Instant::ZERO, 2 * MSS);
        assert_eq!(small.cwnd(), 2 * MSS);
    }

    // Proves R9438-1.
    #[test]
    fn the_plateau_is_regained_after_k_seconds() {
        // K = cbrt((100 - 70) / 0.4) = 4.217 s; the target looks one round trip ahead.
        let mut cubic = avoiding(100);
        cubic.on_congestion_event(Instant::ZERO, 100 * MSS);
        run(&mut cubic, 0, 4_200, 100);
        let k = cubic.state.epoch.unwrap().k;
        assert!((k - 4.217).abs() < 0.001, "{k}");
        assert!((99.0..100.5).contains(&segments(&cubic)), "{}", segments(&cubic));
        // Halfway, at 2.1 s: 100 - 0.4 * 2.117^3 = 96.2
        let mut half = avoiding(100);
        half.on_congestion_event(Instant::ZERO, 100 * MSS);
        run(&mut half, 0, 2_200, 100);
        assert!((95.2..97.2).contains(&segments(&half)), "{}", segments(&half));
    }

    #[test]
    fn beyond_the_plateau_it_grows_by_the_cube() {
        let mut cubic = avoiding(1000);
        cubic.on_congestion_event(Instant::ZERO, 1000 * MSS);
        // K = cbrt(300 / 0.4) = 9.086 s; 5 s later 1000 + 0.4 * 5^3 = 1050
        run(&mut cubic, 0, 14_200, 100);
        assert!((1045.0..1060.0).contains(&segments(&cubic)), "{}", segments(&cubic));
    }

    // Proves R9438-1.
    #[test]
    fn on_short_paths_it_is_as_reno() {
        // 10 ms: 0.529 segments a round trip from 70 to 100 (56.7 round trips), then 1.
        let mut cubic = avoiding(100);
        cubic.on_congestion_event(Instant::ZERO, 100 * MSS);
        run(&mut cubic, 0, 500, 10);
        assert!((95.0..97.5).contains(&segments(&cubic)), "{}", segments(&cubic));
        run(&mut cubic, 500, 1_000, 10);
        assert!((140.0..144.5).contains(&segments(&cubic)), "{}", segments(&cubic));
    }

    #[test]
    fn one_window_of_acks_grows_it_by_half_at_most() {
        let mut cubic = avoiding(100);
        cubic.on_congestion_event(Instant::ZERO, 100 * MSS);
        run(&mut cubic, 0, 100, 100);
        let before = cubic.cwnd();
        cubic.on_ack(Instant::from_millis(60_000), before, ms(100), true);
        assert!(cubic.cwnd() > before + before / 3);
        assert!(cubic.cwnd() <= before + before / 2);
    }

    #[test]
    fn fast_convergence_gives_way_only_below_the_old_plateau() {
        let w_max_after = |second: u32| {
            let mut cubic = avoiding(100);
            cubic.on_congestion_event(Instant::ZERO, 100 * MSS);
            cubic.set_cwnd(second);
            cubic.on_congestion_event(Instant::ZERO, second);
            cubic.state.w_max
        };
        assert_eq!(w_max_after(100 * MSS), 100_000.0);
        assert!((w_max_after(100 * MSS - 1) - 0.85 * 99_999.0).abs() < 1e-6);
    }

    #[test]
    fn many_small_acks_are_worth_as_much_as_few_large_ones() {
        let grown = |piece: u32| {
            let mut cubic = avoiding(10_000);
            cubic.on_congestion_event(Instant::ZERO, 10_000 * MSS);
            for round in 1..=5 {
                let mut left = cubic.cwnd();
                while left > 0 {
                    let acked = left.min(piece);
                    cubic.on_ack(Instant::from_millis(round * 100), acked, ms(100), true);
                    left -= acked;
                }
            }
            segments(&cubic) - 7_000.0
        };
        let (small, large) = (grown(MSS), grown(64_000));
        assert!(small > 50.0 && (small - large).abs() < 0.02 * large, "{small} {large}");
    }

    #[test]
    fn an_unused_window_does_not_grow_and_its_time_does_not_count() {
        let mut cubic = avoiding(100);
        cubic.on_congestion_event(Instant::ZERO, 100 * MSS);
        run(&mut cubic, 0, 1_000, 100);
        let mut steady = cubic.clone();
        let before = cubic.cwnd();
        for at in (1_100..=31_000).step_by(100) {
            cubic.on_ack(Instant::from_millis(at), 2 * MSS, ms(100), false);
        }
        assert_eq!(cubic.cwnd(), before);
        run(&mut cubic, 31_000, 32_000, 100);
        run(&mut steady, 1_000, 2_000, 100);
        assert_eq!(cubic.cwnd(), steady.cwnd(), "as if the 30 s had not been");
    }

    #[test]
    fn an_event_on_an_unused_window_goes_by_the_flight() {
        let ssthresh_after = |idle_ms: u64| {
            let mut cubic = avoiding(100);
            cubic.srtt = ms(100);
            cubic.on_congestion_event(Instant::from_millis(idle_ms), 20 * MSS);
            cubic.ssthresh()
        };
        assert_eq!(ssthresh_after(1_000), 70 * MSS);
        assert_eq!(ssthresh_after(1_001), 14 * MSS);
    }

    #[test]
    fn a_timeout_leaves_one_segment_and_slow_start_to_seven_tenths() {
        let mut cubic = avoiding(100);
        cubic.on_rto(Instant::ZERO, 100 * MSS);
        assert_eq!((cubic.cwnd(), cubic.ssthresh()), (MSS, 70 * MSS));
        // A second timeout without an ACK between is the same event.
        cubic.on_rto(Instant::from_millis(400), MSS);
        assert_eq!((cubic.cwnd(), cubic.ssthresh()), (MSS, 70 * MSS));
        // 1, 2, 4, …, 64, then ssthresh: and the next stage starts on its plateau.
        run(&mut cubic, 0, 700, 100);
        assert!((70.0..72.0).contains(&segments(&cubic)), "{}", segments(&cubic));
        assert_eq!(cubic.state.epoch.unwrap().k, 0.0);
        // After an ACK it is another event.
        cubic.on_rto(Instant::from_millis(1_200), MSS);
        assert!(cubic.ssthresh() < 51 * MSS);
    }

    // Proves R5681-1.
    #[test]
    fn idleness_halves_the_window_for_each_timeout_down_to_the_initial_one() {
        let cwnd_after = |idle_ms: u64| {
            let mut cubic = avoiding(100);
            cubic.on_idle_restart(Instant::from_millis(idle_ms), ms(idle_ms), ms(300));
            cubic.cwnd()
        };
        assert_eq!(cwnd_after(299), 100 * MSS);
        assert_eq!(cwnd_after(300), 50 * MSS);
        assert_eq!(cwnd_after(900), 12_500);
        assert_eq!(cwnd_after(1_200), 10 * MSS);
        assert_eq!(cwnd_after(u64::from(u32::MAX)), 10 * MSS);
    }

    #[test]
    fn a_growing_round_trip_ends_the_initial_slow_start() {
        let mut cubic = Cubic::new(MSS);
        let mut una = SeqNum(0);
        let mut at = 0;
        let mut rounds = 0;
        while cubic.ssthresh() == u32::MAX {
            rounds += 1;
            assert!(rounds < 20, "slow start does not end");
            // The queue grows with what is above 40 segments, at 1 ms a segment.
            let flight = cubic.cwnd();
            let rtt = 50 + u64::from(flight / MSS).saturating_sub(40);
            at += rtt;
            let end = una + flight;
            while una.lt(end) {
                let acked = end.diff(una).min(2 * MSS as i32) as u32;
                una += acked;
                cubic.on_rtt_sample(una, una + flight, ms(rtt), acked);
                cubic.on_ack(Instant::from_millis(at), acked, ms(rtt), true);
            }
        }
        assert!((60..300).contains(&(cubic.cwnd() / MSS)), "{}", cubic.cwnd());
        assert!(!cubic.in_slow_start());
    }

    #[test]
    fn no_input_leaves_the_bounds() {
        let mut cubic = Cubic::new(0);
        cubic.on_ack(Instant::ZERO, u32::MAX, Duration::ZERO, true);
        assert_eq!(cubic.cwnd(), CWND_MAX);
        cubic.on_congestion_event(Instant::ZERO, 0);
        cubic.on_ack(Instant::ZERO, u32::MAX, Duration::MAX, true);
        cubic.on_ack(Instant::from_micros(u64::MAX), u32::MAX, Duration::MAX, true);
        assert_eq!(cubic.cwnd(), CWND_MAX);
        cubic.on_congestion_event(Instant::ZERO, u32::MAX);
        cubic.on_rto(Instant::ZERO, 0);
        assert_eq!(cubic.cwnd(), 1);
    }
}

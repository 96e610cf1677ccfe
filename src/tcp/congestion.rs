//! The congestion control of one flow: which algorithm, and one face for all of them.
//!
//! Two kinds: those that answer each loss (`cubic`, `coupled`) keep to `prr` in fast recovery; the model-based one (`bbr`) has its own window
//! for every state, and answers ACKs in all of them.

use super::bbr::{Ack, Bbr};
use super::coupled::{Coupled, Coupling, Flow, Rule};
use super::cubic::Cubic;
use super::delivery::Snapshot;
use crate::time::{Duration, Instant};
use crate::wire::SeqNum;
use core::fmt;
use core::str::FromStr;

/// Loss-based flows leave at this many windows a round trip while in slow start, and afterwards (Linux: tcp_pacing_ss_ratio, _ca_ratio).
const SLOW_START_PACING: f64 = 2.0;
const AVOIDANCE_PACING: f64 = 1.2;
/// Below this round trip ACKs pace well enough, and timers would cost more than bursts do.
const UNPACED_RTT: Duration = Duration::from_millis(2);

/// The algorithms to choose from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406).
    #[default]
    Cubic,
    /// BBR version 3 (draft-ietf-ccwg-bbr): for wires that lose at random.
    Bbr,
    /// LIA (RFC 6356).
    Lia,
    /// OLIA (draft-khalili-mptcp-congestion-control).
    Olia,
    /// BALIA (draft-walid-mptcp-congestion-control).
    Balia,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 5] = [
        Algorithm::Cubic,
        Algorithm::Bbr,
        Algorithm::Lia,
        Algorithm::Olia,
        Algorithm::Balia,
    ];

    /// The subflows' windows grow together.
    pub fn is_coupled(self) -> bool {
        matches!(self, Algorithm::Lia | Algorithm::Olia | Algorithm::Balia)
    }

    /// Its name in TCP_CONGESTION and in the environment.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Cubic => "cubic",
            Algorithm::Bbr => "bbr",
            Algorithm::Lia => "lia",
            Algorithm::Olia => "olia",
            Algorithm::Balia => "balia",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No algorithm has this name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        let known = Algorithm::ALL.into_iter().find(|a| a.name() == name);
        known.ok_or(UnknownAlgorithm)
    }
}

/// One flow's window and rate.
#[derive(Clone, Debug)]
pub enum Congestion {
    /// See `cubic`.
    Cubic(Cubic),
    /// See `bbr`.
    Bbr(Box<Bbr>),
    /// See `coupled`.
    Coupled(Coupled),
}

impl Congestion {
    /// The initial window for segments of `mss` bytes; `seed` spreads what flows do at random times.
    pub fn new(algorithm: Algorithm, now: Instant, mss: u32, seed: u64) -> Congestion {
        match algorithm {
            Algorithm::Cubic => Congestion::Cubic(Cubic::new(mss)),
            Algorithm::Bbr => Congestion::Bbr(Box::new(Bbr::new(now, mss, seed))),
            Algorithm::Lia => Congestion::Coupled(Coupled::new(Rule::Lia, mss)),
            Algorithm::Olia => Congestion::Coupled(Coupled::new(Rule::Olia, mss)),
            Algorithm::Balia => Congestion::Coupled(Coupled::new(Rule::Balia, mss)),
        }
    }

    /// Which algorithm it is.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Congestion::Cubic(_) => Algorithm::Cubic,
            Congestion::Bbr(_) => Algorithm::Bbr,
            Congestion::Coupled(c) => match c.rule() {
                Rule::Lia => Algorithm::Lia,
                Rule::Olia => Algorithm::Olia,
                Rule::Balia => Algorithm::Balia,
            },
        }
    }

    /// Congestion window, bytes.
    pub fn cwnd(&self) -> u32 {
        match self {
            Congestion::Cubic(c) => c.cwnd(),
            Congestion::Bbr(c) => c.cwnd(),
            Congestion::Coupled(c) => c.cwnd(),
        }
    }

    /// Slow start threshold, bytes; `u32::MAX` while there is none.
    pub fn ssthresh(&self) -> u32 {
        match self {
            Congestion::Cubic(c) => c.ssthresh(),
            Congestion::Bbr(c) => c.ssthresh(),
            Congestion::Coupled(c) => c.ssthresh(),
        }
    }

    /// Fast recovery follows `prr`, and ends at ssthresh.
    pub fn reduces_on_loss(&self) -> bool {
        !matches!(self, Congestion::Bbr(_))
    }

    /// The path takes segments of another size.
    pub fn set_mss(&mut self, mss: u32) {
        match self {
            Congestion::Cubic(c) => c.set_mss(mss),
            Congestion::Bbr(c) => c.set_mss(mss),
            Congestion::Coupled(c) => c.set_mss(mss),
        }
    }

    /// Bytes a second that segments may leave at; None is no limit.
    pub fn pacing_rate(&self, srtt: Option<Duration>) -> Option<f64> {
        if let Congestion::Bbr(bbr) = self {
            return bbr.pacing_rate();
        }
        let srtt = srtt.filter(|srtt| *srtt >= UNPACED_RTT)?;
        let cwnd = self.cwnd();
        let gain = if cwnd < self.ssthresh() {
            SLOW_START_PACING
        } else {
            AVOIDANCE_PACING
        };
        Some(gain * f64::from(cwnd) / srtt.as_secs_f64())
    }

    /// A segment leaves while nothing is in flight, after `idle`.
    pub fn on_idle_restart(&mut self, now: Instant, idle: Duration, rto: Duration, app_limited: bool) {
        match self {
            Congestion::Cubic(c) => c.on_idle_restart(now, idle, rto),
            Congestion::Bbr(c) => c.on_restart_from_idle(now, app_limited),
            // RFC 5681 section 4.1: after a timeout without sending, the initial window again.
            Congestion::Coupled(c) if idle > rto => c.on_idle_restart(),
            Congestion::Coupled(_) => {}
        }
    }

    /// An ACK of new data gave a round-trip sample; before `on_ack`.
    pub fn on_rtt_sample(&mut self, snd_una: SeqNum, snd_nxt: SeqNum, rtt: Duration, acked: u32) {
        match self {
            Congestion::Cubic(c) => c.on_rtt_sample(snd_una, snd_nxt, rtt, acked),
            Congestion::Coupled(c) => c.on_rtt_sample(snd_una, snd_nxt, rtt, acked),
            Congestion::Bbr(_) => {}
        }
    }

    /// New data was acknowledged outside fast recovery.
    pub fn on_ack(&mut self, now: Instant, acked: u32, srtt: Duration, cwnd_limited: bool) {
        match self {
            Congestion::Cubic(c) => c.on_ack(now, acked, srtt, cwnd_limited),
            Congestion::Coupled(c) => c.on_ack(acked, cwnd_limited),
            Congestion::Bbr(_) => {}
        }
    }

    /// An ACK in any state gave a delivery rate sample. True: the flow counts as limited by the program from here.
    pub fn on_sample(&mut self, ack: &Ack) -> bool {
        match self {
            Congestion::Bbr(c) => c.on_ack(ack),
            _ => false,
        }
    }

    /// A segment is declared lost; `lost`: all bytes lost so far, it included.
    pub fn on_lost(&mut self, now: Instant, len: u32, snapshot: &Snapshot, lost: u64) {
        if let Congestion::Bbr(c) = self {
            c.on_lost(now, len, snapshot, lost);
        }
    }

    /// Fast recovery begins. `flight`: bytes in the network before the loss was known; `pipe`: after; `newly_acked`: delivered by that ACK.
    pub fn on_enter_recovery(&mut self, now: Instant, flight: u32, pipe: u32, newly_acked: u32) {
        match self {
            Congestion::Cubic(c) => c.on_congestion_event(now, flight),
            Congestion::Coupled(c) => c.on_congestion_event(),
            Congestion::Bbr(c) => c.on_enter_recovery(pipe, newly_acked),
        }
    }

    /// A tail-loss probe repaired a loss (RFC 8985 section 7.4.2): it is answered as others, at once.
    pub fn on_probe_loss(&mut self, now: Instant, flight: u32) {
        match self {
            Congestion::Cubic(c) => c.on_congestion_event(now, flight),
            Congestion::Coupled(c) => c.on_congestion_event(),
            Congestion::Bbr(_) => {}
        }
        self.on_recovered();
    }

    /// Recovery is over: the window is ssthresh (RFC 9937 section 6.2), or the one before.
    pub fn on_recovered(&mut self) {
        match self {
            Congestion::Cubic(c) => c.set_cwnd(c.ssthresh()),
            Congestion::Coupled(c) => c.set_cwnd(c.ssthresh()),
            Congestion::Bbr(c) => c.on_recovered(),
        }
    }

    /// What was sent again after a timeout has been acknowledged.
    pub fn on_timeout_repaired(&mut self) {
        if let Congestion::Bbr(c) = self {
            c.on_recovered();
        }
    }

    /// The retransmission timer fired. `flight`: bytes in the network before.
    pub fn on_rto(&mut self, now: Instant, flight: u32) {
        match self {
            Congestion::Cubic(c) => c.on_rto(now, flight),
            Congestion::Coupled(c) => c.on_rto(flight),
            Congestion::Bbr(c) => c.on_rto(),
        }
    }

    /// The last event was no loss: window and threshold are those before it, or larger.
    pub fn undo(&mut self) {
        match self {
            Congestion::Cubic(c) => c.undo(),
            Congestion::Coupled(c) => c.undo(),
            Congestion::Bbr(c) => c.undo(),
        }
    }

    /// What the coupled rules say of this flow now.
    pub fn set_coupling(&mut self, coupling: Option<Coupling>) {
        if let Congestion::Coupled(c) = self {
            c.set_coupling(coupling);
        }
    }

    /// Bytes that the flow delivers in a round trip of `srtt`: its window, unless it knows better.
    pub fn per_round(&self, srtt: Duration) -> f64 {
        match self {
            Congestion::Bbr(c) => c.path_holds(srtt).min(f64::from(self.cwnd())),
            _ => f64::from(self.cwnd()),
        }
    }

    /// Another algorithm in the middle of the flow: it begins with the window that this one has.
    pub fn switched(&self, algorithm: Algorithm, now: Instant, mss: u32, seed: u64) -> Congestion {
        let mut new = Congestion::new(algorithm, now, mss, seed);
        match &mut new {
            Congestion::Cubic(c) => c.set_cwnd(self.cwnd()),
            Congestion::Coupled(c) => c.set_cwnd(self.cwnd()),
            // Its Startup finds out soon.
            Congestion::Bbr(_) => {}
        }
        new
    }

    /// This flow for the coupled rules, None when its algorithm is none of them.
    pub fn coupled_flow(&self, srtt: Option<Duration>) -> Option<(Rule, Flow)> {
        match self {
            Congestion::Coupled(c) => Some((c.rule(), c.flow(srtt?))),
            _ => None,
        }
    }

    /// A scheduler's penalty for a path that held up the others: half the window (Raiciu et al., NSDI 2012, section 4.2).
    pub fn penalize(&mut self) {
        match self {
            Congestion::Cubic(c) => c.penalize(),
            Congestion::Coupled(c) => c.set_cwnd(c.cwnd() / 2),
            // Its window is two bandwidth-delay products at the most: no queue stands behind it.
            Congestion::Bbr(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
            assert_eq!(
                Congestion::new(algorithm, Instant::ZERO, 1000, 1).algorithm(),
                algorithm
            );
        }
        assert_eq!("reno".parse::<Algorithm>(), Err(UnknownAlgorithm));
    }

    #[test]
    fn loss_based_flows_are_paced_where_a_round_trip_is_worth_a_timer() {
        let cubic = Congestion::new(Algorithm::Cubic, Instant::ZERO, 1000, 1);
        assert_eq!(cubic.pacing_rate(Some(Duration::from_micros(1999))), None);
        assert_eq!(cubic.pacing_rate(Some(Duration::from_millis(100))), Some(200_000.0));
        assert_eq!(cubic.pacing_rate(None), None);
    }
}

//! BBR against a modelled path: a bottleneck with a queue that loses what does not fit, and losses at random.

use super::super::delivery::{Delivery, Snapshot};
use super::*;
use std::collections::VecDeque;

const MSS: u32 = 1000;

/// One flow over one bottleneck, a segment at a time.
struct Path {
    /// Microseconds that a segment takes.
    service_us: u64,
    delay_us: u64,
    queue: u64,
    /// Of a thousand segments so many are lost at random.
    loss: u64,
    bbr: Bbr,
    delivery: Delivery,
    /// Sent and not yet reported: arrival of the ACK (None: lost), sent, snapshot.
    flight: VecDeque<(Option<u64>, u64, Snapshot)>,
    free_at: u64,
    next_send_ns: u64,
    now_us: u64,
    random: u64,
    queue_seen: u64,
    dropped: u64,
}

impl Path {
    /// `mbit` and a round trip of `rtt_ms`, with a queue of `bdps` bandwidth-delay products.
    fn new(mbit: f64, rtt_ms: u64, bdps: f64, loss: u64) -> Path {
        let service_us = (f64::from(MSS) * 8.0 / mbit) as u64;
        Path {
            service_us,
            delay_us: rtt_ms * 1000,
            queue: (bdps * rtt_ms as f64 * 1000.0 / service_us as f64) as u64,
            loss,
            bbr: Bbr::new(Instant::ZERO, MSS, 7),
            delivery: Delivery::default(),
            flight: VecDeque::new(),
            free_at: 0,
            next_send_ns: 0,
            now_us: 0,
            random: 1,
            queue_seen: 0,
            dropped: 0,
        }
    }

    fn pipe(&self) -> u32 {
        self.flight.len() as u32 * MSS
    }

    fn send(&mut self) {
        let waiting = self.free_at.saturating_sub(self.now_us) / self.service_us;
        self.queue_seen = self.queue_seen.max(waiting);
        self.random = self
            .random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let snapshot = self
            .delivery
            .on_sent(Instant::from_micros(self.now_us), self.pipe(), MSS);
        let full = waiting > self.queue;
        self.dropped += u64::from(full);
        let lost = full || (self.random >> 33) % 1000 < self.loss;
        if !full {
            self.free_at = self.free_at.max(self.now_us) + self.service_us;
        }
        let ack_at = self.free_at + self.delay_us;
        self.flight
            .push_back((if lost { None } else { Some(ack_at) }, self.now_us, snapshot));
        let rate = self.bbr.pacing_rate().unwrap_or(1e9);
        self.next_send_ns = self.next_send_ns.max(self.now_us * 1000) + (f64::from(MSS) / rate * 1e9) as u64;
    }

    /// The ACK of the first segment in flight that arrives; what was sent before it is lost.
    fn ack(&mut self) {
        let now = Instant::from_micros(self.now_us);
        while let Some((None, _, snapshot)) = self.flight.front().copied() {
            self.flight.pop_front();
            self.delivery.lost += u64::from(MSS);
            self.bbr.on_lost(now, MSS, &snapshot, self.delivery.lost);
        }
        let Some((_, sent, snapshot)) = self.flight.pop_front() else {
            return;
        };
        let sent = Instant::from_micros(sent);
        self.delivery.on_delivered(now, MSS, &snapshot, sent);
        let sample = self.delivery.sample(Duration::ZERO).unwrap();
        let limited = self.bbr.on_ack(&Ack {
            now,
            sample,
            newly_acked: MSS,
            pipe: self.flight.len() as u32 * MSS,
            rtt: Some(now.since(sent)),
            cwnd_limited: self.pipe() + MSS > self.bbr.cwnd(),
            delivered: self.delivery.delivered,
            lost: self.delivery.lost,
        });
        if limited {
            let pipe = self.pipe();
            self.delivery.note_app_limited(pipe);
        }
    }

    /// Runs for `ms`; bytes delivered in that time as a share of the path's rate.
    fn run(&mut self, ms: u64) -> f64 {
        let (begin, before) = (self.now_us, self.delivery.delivered);
        let end = self.now_us + ms * 1000;
        while self.now_us < end {
            let ack_at = self.flight.iter().find_map(|f| f.0);
            let may = self.pipe() + MSS <= self.bbr.cwnd() || ack_at.is_none();
            let send_at = if may {
                (self.next_send_ns / 1000).max(self.now_us)
            } else {
                u64::MAX
            };
            let next = send_at.min(ack_at.unwrap_or(u64::MAX));
            self.now_us = next.max(self.now_us);
            if ack_at.is_some_and(|at| at <= send_at) {
                self.ack();
            } else {
                self.send();
            }
        }
        let possible = (self.now_us - begin) as f64 / self.service_us as f64;
        (self.delivery.delivered - before) as f64 / f64::from(MSS) / possible
    }
}

#[test]
fn startup_finds_the_bandwidth_and_drains_its_queue() {
    let mut path = Path::new(50.0, 40, 4.0, 0);
    path.run(1000);
    let bw = path.bbr.bw * 8.0 / 1e6;
    assert!((47.0..=52.0).contains(&bw), "{bw}");
    assert!(path.bbr.full_bw_reached && path.bbr.in_probe_bw());
    assert_eq!(path.bbr.min_rtt.unwrap().as_millis(), 40);
    assert_eq!(path.dropped, 0);
}

#[test]
fn a_path_is_full_whatever_its_rate_and_round_trip() {
    for (mbit, rtt) in [(1.0, 100), (10.0, 2), (100.0, 20), (400.0, 5), (20.0, 300)] {
        let mut path = Path::new(mbit, rtt, 1.0, 0);
        path.run(10 * rtt + 1000);
        let share = path.run(10_000);
        assert!(share > 0.95, "{mbit} Mbit/s {rtt} ms: {share}");
    }
}

#[test]
fn random_loss_below_the_threshold_costs_little_more_than_itself() {
    for loss in [1, 5, 10] {
        let mut path = Path::new(20.0, 100, 1.0, loss);
        path.run(2000);
        let share = path.run(20_000);
        assert!(share > 0.93, "{loss} per mille: {share}");
    }
}

#[test]
fn a_small_queue_is_not_overrun_for_long() {
    let mut path = Path::new(50.0, 40, 0.1, 0);
    path.run(3000);
    let (dropped, sent) = (path.dropped, path.delivery.delivered / u64::from(MSS));
    let share = path.run(20_000);
    let lost = (path.dropped - dropped) as f64 / (path.delivery.delivered as f64 / f64::from(MSS) - sent as f64);
    // The headroom is left to others, whether there are any or not.
    assert!(share > 0.75 && lost < 0.02, "{share}, {lost} lost");
}

#[test]
fn the_standing_queue_is_short() {
    let mut path = Path::new(50.0, 40, 8.0, 0);
    path.run(3000);
    path.queue_seen = 0;
    path.run(20_000);
    let bdp = 40_000 / path.service_us;
    assert!(path.queue_seen < bdp, "{} of {bdp} segments", path.queue_seen);
}

#[test]
fn a_rate_that_rises_is_found_within_two_probes() {
    let mut path = Path::new(20.0, 40, 1.0, 0);
    path.run(5000);
    path.service_us /= 2;
    path.run(8000);
    let share = path.run(5000);
    assert!(share > 0.9, "{share}");
}

#[test]
fn a_rate_that_falls_is_followed() {
    let mut path = Path::new(40.0, 40, 1.0, 0);
    path.run(5000);
    path.service_us *= 4;
    path.run(8000);
    let (dropped, delivered) = (path.dropped, path.delivery.delivered);
    let share = path.run(10_000);
    let lost = (path.dropped - dropped) as f64 * f64::from(MSS) / (path.delivery.delivered - delivered) as f64;
    assert!(share > 0.9 && lost < 0.03, "{share}, {lost} lost");
}

#[test]
fn a_timeout_leaves_one_segment_and_its_repair_the_window() {
    let mut path = Path::new(20.0, 40, 1.0, 0);
    path.run(3000);
    let before = path.bbr.cwnd();
    path.bbr.on_rto();
    assert_eq!(path.bbr.cwnd(), MSS);
    path.bbr.on_recovered();
    assert_eq!(path.bbr.cwnd(), before);
}

#[test]
fn few_losses_of_few_segments_are_no_rate() {
    let bbr = Bbr::new(Instant::ZERO, MSS, 1);
    let segments = |n: u64| n * u64::from(MSS);
    assert!(!bbr.inflight_too_high(segments(1), segments(10)));
    assert!(bbr.inflight_too_high(segments(2), segments(10)));
    // 2 % of 200 are 4, and chance makes 8 of them in one flight of forty.
    assert!(!bbr.inflight_too_high(segments(8), segments(200)));
    assert!(bbr.inflight_too_high(segments(9), segments(200)));
}

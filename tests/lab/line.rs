//! One direction of a wire as a model: rate, queue, delay, loss, reordering, duplication, cut. Frames and the time go in, frames come out
//! when they are due. Pure: the random numbers come from a seed.
//!
//! Not modelled: preamble and FCS, jitter, ECN marking. A change of rate or delay concerns frames that come later.

use crate::lab::spec::{Line as Spec, LineStats};
use crate::middlebox::is_neighbour_discovery;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// A direction of a wire and the frames under way in it.
pub struct Line {
    spec: Spec,
    cut: bool,
    random: SplitMix,
    /// When the last byte queued so far has been sent.
    busy_until: Duration,
    /// Arrival times, each with the order of coming as a tie-break.
    due: BinaryHeap<Reverse<(Duration, u64)>>,
    frames: BTreeMap<u64, Vec<u8>>,
    count: u64,
    /// Counters.
    pub stats: LineStats,
}

impl Line {
    /// An idle line.
    pub fn new(spec: Spec, seed: u64) -> Line {
        Line {
            spec,
            cut: false,
            random: SplitMix(seed),
            busy_until: Duration::ZERO,
            due: BinaryHeap::new(),
            frames: BTreeMap::new(),
            count: 0,
            stats: LineStats::default(),
        }
    }

    /// Other properties from now on.
    pub fn set(&mut self, spec: Spec) {
        self.spec = spec;
    }

    /// Cuts or mends. What is under way when the line is cut is lost with it.
    pub fn set_cut(&mut self, cut: bool) {
        if cut {
            self.stats.cut_dropped += self.frames.len() as u64;
            self.due.clear();
            self.frames.clear();
            self.busy_until = Duration::ZERO;
        }
        self.cut = cut;
    }

    /// Counts a frame that came to the wire; false when the line is cut and the frame lost.
    pub fn admit(&mut self, frame: &[u8]) -> bool {
        self.stats.frames_in += 1;
        self.stats.bytes_in += frame.len() as u64;
        self.stats.cut_dropped += self.cut as u64;
        !self.cut
    }

    /// Sends a frame into the line.
    pub fn push(&mut self, now: Duration, frame: Vec<u8>) {
        let delay = Duration::from_secs_f64(self.spec.delay_ms / 1e3);
        if is_neighbour_discovery(&frame) {
            return self.schedule(now + delay, frame);
        }
        let Some(sent) = self.enqueue(now, frame.len()) else {
            self.stats.tail_dropped += 1;
            return;
        };
        if self.random.chance(self.spec.loss) {
            self.stats.lost += 1;
            return;
        }
        let mut arrival = sent + delay;
        if self.random.chance(self.spec.reorder) {
            self.stats.reordered += 1;
            arrival += Duration::from_micros(1000 + self.random.next() % 3000);
        }
        if self.random.chance(self.spec.duplicate) {
            self.stats.duplicated += 1;
            self.schedule(arrival, frame.clone());
        }
        self.schedule(arrival, frame);
    }

    /// Queues `len` bytes behind the others; when the last of them will have been sent, or None when the queue is full.
    fn enqueue(&mut self, now: Duration, len: usize) -> Option<Duration> {
        if self.spec.rate_mbit <= 0.0 {
            return Some(now);
        }
        let bytes_per_second = self.spec.rate_mbit * 125_000.0;
        let waiting = self.busy_until.saturating_sub(now).as_secs_f64() * bytes_per_second;
        if waiting + len as f64 > self.spec.queue_bytes.max(len as u64) as f64 {
            return None;
        }
        self.busy_until = self.busy_until.max(now) + Duration::from_secs_f64(len as f64 / bytes_per_second);
        Some(self.busy_until)
    }

    fn schedule(&mut self, at: Duration, frame: Vec<u8>) {
        self.count += 1;
        self.due.push(Reverse((at, self.count)));
        self.frames.insert(self.count, frame);
    }

    /// The next frame that has arrived by `now`.
    pub fn pop(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse((_, number)) = self.due.pop()?;
        let frame = self.frames.remove(&number)?;
        self.stats.frames_out += 1;
        self.stats.bytes_out += frame.len() as u64;
        Some(frame)
    }

    /// When the next frame arrives.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True with this probability.
    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn frame() -> Vec<u8> {
        vec![0; 1000]
    }

    fn drain(line: &mut Line, now: Duration) -> usize {
        std::iter::from_fn(|| line.pop(now)).count()
    }

    #[test]
    fn frames_leave_at_the_rate_and_arrive_after_the_delay() {
        // 1000 bytes at 8 Mbit/s take 1 ms.
        let mut line = Line::new(Spec::new(8.0, 10.0), 1);
        for _ in 0..5 {
            line.push(Duration::ZERO, frame());
        }
        assert_eq!(line.next_due(), Some(11 * MS));
        assert_eq!(drain(&mut line, 10 * MS), 0);
        assert_eq!(drain(&mut line, 13 * MS), 3);
        assert_eq!(drain(&mut line, 15 * MS), 2);
        line.push(100 * MS, frame());
        assert_eq!(line.next_due(), Some(111 * MS));
    }

    #[test]
    fn a_full_queue_drops_the_newest() {
        let mut spec = Spec::new(8.0, 0.0);
        spec.queue_bytes = 3000;
        let mut line = Line::new(spec, 1);
        for _ in 0..5 {
            line.push(Duration::ZERO, frame());
        }
        assert_eq!(line.stats.tail_dropped, 2);
        line.push(MS, frame());
        assert_eq!(line.stats.tail_dropped, 2);
        assert_eq!(drain(&mut line, 100 * MS), 4);
    }

    #[test]
    fn a_cut_loses_what_is_under_way_and_what_comes() {
        let mut line = Line::new(Spec::new(0.0, 10.0), 1);
        line.push(Duration::ZERO, frame());
        line.set_cut(true);
        assert!(!line.admit(&frame()));
        assert_eq!(drain(&mut line, 100 * MS), 0);
        assert_eq!(line.stats.cut_dropped, 2);
        line.set_cut(false);
        assert!(line.admit(&frame()));
    }

    #[test]
    fn loss_duplication_and_reordering_follow_their_probabilities_and_the_seed() {
        let run = |seed| {
            let mut spec = Spec::new(0.0, 1.0);
            (spec.loss, spec.duplicate, spec.reorder) = (0.1, 0.2, 0.3);
            let mut line = Line::new(spec, seed);
            for _ in 0..10_000 {
                line.push(Duration::ZERO, frame());
            }
            let out = drain(&mut line, 100 * MS) as u64;
            assert_eq!(out, 10_000 - line.stats.lost + line.stats.duplicated);
            line.stats
        };
        let stats = run(7);
        assert!((900..1100).contains(&stats.lost), "{stats:?}");
        assert!((1650..1950).contains(&stats.duplicated), "{stats:?}");
        assert!((2500..2900).contains(&stats.reordered), "{stats:?}");
        assert_eq!(stats, run(7));
        assert_ne!(stats, run(8));
    }

    #[test]
    fn a_reordered_frame_is_overtaken() {
        let mut line = Line::new(Spec::new(0.0, 1.0), 1);
        line.spec.reorder = 1.0;
        line.push(Duration::ZERO, vec![1; 60]);
        line.spec.reorder = 0.0;
        line.push(Duration::ZERO, vec![2; 60]);
        assert_eq!(line.pop(100 * MS), Some(vec![2; 60]));
        assert_eq!(line.pop(100 * MS), Some(vec![1; 60]));
    }

    #[test]
    fn neighbour_discovery_passes_a_lossy_full_line() {
        let mut line = Line::new(Spec::new(0.001, 0.0).with_loss(1.0), 1);
        let mut arp = vec![0; 42];
        arp[12..14].copy_from_slice(&[8, 6]);
        line.push(Duration::ZERO, arp);
        line.push(Duration::ZERO, frame());
        assert_eq!(drain(&mut line, 1000 * MS), 1);
    }

    impl Spec {
        fn with_loss(mut self, loss: f64) -> Spec {
            self.loss = loss;
            self
        }
    }
}

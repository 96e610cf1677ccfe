//! The sender against the model of `model`, step by step, whatever the peer says; and what must hold of its timer.

use super::*;
use model::Model;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

mod model;

#[derive(Clone, Debug)]
enum Step {
    /// New segments of one length.
    Send { count: u8, len: u32 },
    /// Everything so far is acknowledged, then this many megabytes are sent and acknowledged: numbers wrap, old marks go stale.
    Bulk { megabytes: u16 },
    /// Time passes; timers fire when they are due.
    Pass { us: u32 },
    /// Until just after the next timer.
    Fire,
    /// The host stands still: the timer is late.
    Sleep { ms: u16 },
    /// Up to so many lost segments again.
    Repeat { count: u8 },
    /// Positions are in parts of 256 of what is outstanding; the first block may lie below the acknowledgment.
    Ack {
        upto: u8,
        sack: Vec<(u8, u8)>,
        aligned: bool,
        below: Option<u16>,
        echo_ms: Option<u16>,
    },
    /// SACK blocks of any numbers.
    Lie { sack: Vec<(u32, u32)> },
    /// The path takes this much only.
    Shrink { fits: u32 },
    /// The first lost segment is cut.
    Cut { len: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u8..6, prop_oneof![Just(1000u32), 1u32..3000]).prop_map(|(count, len)| Step::Send { count, len }),
        1 => (1u16..1200).prop_map(|megabytes| Step::Bulk { megabytes }),
        5 => prop_oneof![0u32..2000, 0u32..300_000].prop_map(|us| Step::Pass { us }),
        3 => Just(Step::Fire),
        1 => (0u16..20_000).prop_map(|ms| Step::Sleep { ms }),
        5 => (1u8..6).prop_map(|count| Step::Repeat { count }),
        9 => ack(),
        1 => vec((any::<u32>(), any::<u32>()), 1..4).prop_map(|sack| Step::Lie { sack }),
        1 => (200u32..2000).prop_map(|fits| Step::Shrink { fits }),
        1 => (1u32..1500).prop_map(|len| Step::Cut { len }),
    ]
}

fn ack() -> impl Strategy<Value = Step> {
    let upto = prop_oneof![3 => Just(0u8), 2 => any::<u8>()];
    let parts = (
        upto,
        vec(any::<(u8, u8)>(), 0..4),
        prop::bool::weighted(0.8),
        option::weighted(0.15, any::<u16>()),
        option::weighted(0.3, 0u16..400),
    );
    parts.prop_map(|(upto, sack, aligned, below, echo_ms)| Step::Ack {
        upto,
        sack,
        aligned,
        below,
        echo_ms,
    })
}

/// The sender, the model, and how the model's numbers are written on the wire.
struct Pair {
    now: Instant,
    sender: Sender<u64>,
    model: Model,
}

/// Numbers of the model begin here, so that nothing before them is negative.
const FIRST: u64 = 1 << 40;

impl Pair {
    fn new(first: u32) -> Pair {
        let now = Instant::from_millis(1000);
        let first = FIRST + u64::from(first);
        Pair {
            now,
            sender: Sender::new(now, seq(first), 1000, Algorithm::default()),
            model: Model::new(now, first),
        }
    }

    fn send(&mut self, len: u32) {
        self.sender.on_sent(self.now, len, false, self.model.nxt);
        self.model.send(self.now, u64::from(len));
    }

    fn ack(&mut self, ack: u64, sack: &[(u64, u64)], echo: Option<Instant>) -> Result<(), TestCaseError> {
        let wire: Vec<_> = sack.iter().map(|b| (seq(b.0), seq(b.1))).collect();
        let trim = |tag: &mut u64, n: u32| *tag += u64::from(n);
        let (before, recovering) = (self.sender.timer, self.sender.recovering());
        let out = self.sender.on_ack(self.now, seq(ack), &wire, echo, trim);
        let expected = self.model.on_ack(self.now, ack, sack, echo);
        prop_assert_eq!(u64::from(out.acked), expected.acked, "acked");
        prop_assert_eq!(u64::from(out.delivered), expected.delivered, "delivered");
        prop_assert_eq!(out.lost, expected.lost, "lost");
        // RFC 6298 section 5.3: only what is news starts the timer anew (that nothing was lost is news too).
        let nothing_new = out.acked + out.delivered == 0 && !out.lost && self.sender.recovering() == recovering;
        if let (true, Some((at, Fired::Rto)), Some((then, Fired::Rto))) = (nothing_new, before, self.sender.timer) {
            prop_assert!(then <= at, "put off from {at:?} to {then:?} by nothing new");
        }
        Ok(())
    }

    fn repeat(&mut self) -> Result<bool, TestCaseError> {
        let wanted = self.model.first_lost();
        match self.sender.next_retransmit(self.now) {
            Some(index) => {
                prop_assert_eq!(Some(index), wanted, "which is sent again");
                self.sender.on_retransmitted(self.now, index);
                self.model.send_again(self.now, index);
                Ok(true)
            }
            None => {
                let may_wait = self.model.pipe() > 0 || self.sender.paced_until().is_some();
                prop_assert!(
                    wanted.is_none() || may_wait,
                    "nothing in flight, and nothing is sent again"
                );
                Ok(false)
            }
        }
    }

    /// Time has come to `now`.
    fn timers(&mut self) -> Result<Option<Fired>, TestCaseError> {
        self.sender.on_pace_timer(self.now);
        let due = self.sender.timer.filter(|(at, _)| *at <= self.now);
        let in_a_row = self.sender.consecutive_rtos;
        let fired = self.sender.on_timer(self.now);
        match due {
            None => prop_assert_eq!(fired, None),
            Some((_, Fired::Reorder)) => {
                let any = self.model.on_reorder(self.now);
                prop_assert_eq!(fired, any.then_some(Fired::Reorder));
            }
            Some((_, Fired::Probe)) => {
                prop_assert_eq!(fired, Some(Fired::Probe));
                self.model.on_probe();
            }
            Some((_, Fired::Rto)) => {
                prop_assert_eq!(fired, Some(Fired::Rto));
                self.model.on_rto(in_a_row == 0);
            }
        }
        if let Some(at) = self.sender.timer() {
            prop_assert!(at > self.now, "armed in the past by {due:?}");
        }
        Ok(fired)
    }

    /// As the connection does it: a probe leaves at once, new data in every second case.
    fn after(&mut self, fired: Option<Fired>) {
        if fired == Some(Fired::Probe) {
            if self.now.as_micros() % 2 == 0 {
                self.send(700);
            } else if let Some(index) = self.sender.probe_segment() {
                assert_eq!(Some(index), self.model.probe());
                self.sender.on_retransmitted(self.now, index);
                self.model.send_again(self.now, index);
            }
        }
    }

    fn pass(&mut self, until: Instant) -> Result<(), TestCaseError> {
        for _ in 0..1000 {
            match self.sender.timer() {
                Some(at) if at <= until => {
                    self.now = at.max(self.now);
                    let fired = self.timers()?;
                    self.after(fired);
                    self.check()?;
                }
                _ => {
                    self.now = until;
                    self.sender.on_pace_timer(until);
                    return Ok(());
                }
            }
        }
        Err(TestCaseError::fail("the timer never comes to rest"))
    }

    /// A place in what is outstanding.
    fn place(&self, part: u8, aligned: bool) -> u64 {
        let (una, nxt) = (self.model.una, self.model.nxt);
        let at = una + (nxt - una) * u64::from(part) / 255;
        if !aligned {
            return at;
        }
        let ends = self.model.pieces.iter().map(|p| p.end);
        ends.chain([una]).filter(|end| *end <= at).max().unwrap_or(una)
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Send { count, len } => (0..*count).for_each(|_| self.send(*len)),
            Step::Bulk { megabytes } => {
                self.ack(self.model.nxt, &[], None)?;
                for _ in 0..*megabytes / 8 {
                    (0..4).for_each(|_| self.send(2 << 20));
                    self.now += Duration::from_millis(1);
                    self.ack(self.model.nxt, &[], None)?;
                }
            }
            Step::Pass { us } => self.pass(self.now + Duration::from_micros(u64::from(*us)))?,
            Step::Fire => {
                if let Some(at) = self.sender.timer() {
                    self.pass(at)?;
                }
            }
            Step::Sleep { ms } => {
                self.now += Duration::from_millis(u64::from(*ms));
                let fired = self.timers()?;
                self.after(fired);
            }
            Step::Repeat { count } => {
                for _ in 0..*count {
                    if !self.repeat()? {
                        break;
                    }
                }
            }
            Step::Ack {
                upto,
                sack,
                aligned,
                below,
                echo_ms,
            } => {
                let upto = self.place(*upto, *aligned);
                let below = below.map(|n| (self.model.una.saturating_sub(u64::from(n) + 1), self.model.una));
                let blocks = sack.iter().map(|(a, b)| {
                    let (left, right) = (self.place(*a.min(b), *aligned), self.place(*a.max(b), *aligned));
                    (left, right)
                });
                let blocks: Vec<_> = below.into_iter().chain(blocks).collect();
                let echo = echo_ms.map(|ms| Instant::from_millis(self.now.as_millis().saturating_sub(u64::from(ms))));
                self.ack(upto, &blocks, echo)?;
            }
            Step::Lie { sack } => {
                // What the wire's numbers mean to who compares them with what is outstanding.
                let near = |n: u32| {
                    let base = self.model.una;
                    base.wrapping_add_signed(i64::from(SeqNum(n).diff(seq(base))))
                };
                let far: Vec<_> = sack.iter().map(|(a, b)| (near(*a), near(*b))).collect();
                // Numbers half a circle apart have no order.
                let ordered = |at: u64| at.abs_diff(self.model.una) < 1 << 30;
                let blocks: Vec<_> = far.into_iter().filter(|b| ordered(b.0) && ordered(b.1)).collect();
                self.ack(self.model.una, &blocks, None)?;
            }
            Step::Shrink { fits } => {
                self.sender.mark_oversized(self.now, *fits);
                self.model.oversized(u64::from(*fits));
            }
            Step::Cut { len } => {
                if let Some(index) = self.model.first_lost() {
                    let piece = &self.model.pieces[index];
                    if u64::from(*len) < piece.end - piece.start {
                        self.sender.split(index, *len, |tag, at| *tag + u64::from(at));
                        self.model.split(index, u64::from(*len));
                    }
                }
            }
        }
        self.check()
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let (s, m) = (&self.sender, &self.model);
        let ours: Vec<_> = s
            .queue
            .iter()
            .map(|p| (p.tag, p.seq, p.end(), p.sacked, p.lost))
            .collect();
        let models: Vec<_> = m
            .pieces
            .iter()
            .map(|p| (p.start, seq(p.start), seq(p.end), p.sacked, p.lost))
            .collect();
        prop_assert_eq!(ours, models, "scoreboard");
        prop_assert_eq!((s.snd_una, s.snd_nxt), (seq(m.una), seq(m.nxt)));
        prop_assert_eq!(u64::from(s.pipe), m.pipe(), "pipe");
        prop_assert_eq!(s.sacked_segments, m.sacked());
        prop_assert_eq!(s.lost_segments, m.pieces.iter().filter(|p| p.lost).count());
        let mode = match m.mode {
            model::Mode::Open => Mode::Open,
            model::Mode::Recovery(point) => Mode::Recovery(seq(point)),
            model::Mode::Loss(point) => Mode::Loss(seq(point)),
        };
        prop_assert_eq!(s.mode, mode);
        prop_assert_eq!(
            (s.rack.xmit_ts, s.rack.rtt),
            (m.rack.xmit_ts, m.rack.rtt),
            "RACK's segment"
        );
        prop_assert_eq!(s.rack.reordering_seen, m.rack.reordering_seen, "reordering seen");
        prop_assert_eq!(s.rack.reo_wnd_mult, m.rack.reo_wnd_mult, "RACK.reo_wnd_mult");
        prop_assert_eq!(s.reordering_window(), m.reo_wnd(), "RACK.reo_wnd");
        prop_assert_eq!(s.rtt.srtt(), m.rtt.srtt(), "SRTT");
        prop_assert_eq!(s.rtt.rto(), m.rtt.rto(), "RTO");
        let mut flight = m.pieces.iter().filter(|p| p.in_flight());
        let oldest = flight
            .next()
            .and_then(|p| p.sent.last())
            .map(|sent| (*sent, flight.next().is_some()));
        prop_assert_eq!(s.oldest_in_flight(), oldest, "the oldest in flight");
        prop_assert_eq!(s.tlp_end, m.tlp.map(|tlp| seq(tlp.0)), "TLP.end_seq");
        self.check_timer()
    }

    /// One timer, armed whenever something is outstanding, and never for longer than its kind allows.
    fn check_timer(&self) -> Result<(), TestCaseError> {
        let (s, m) = (&self.sender, &self.model);
        prop_assert_eq!(
            s.timer.is_some(),
            !m.pieces.is_empty(),
            "armed while something is outstanding, only then"
        );
        let Some((at, kind)) = s.timer else { return Ok(()) };
        prop_assert_eq!(
            kind == Fired::Reorder,
            m.reorder_at.is_some(),
            "{:?} {:?}",
            s.timer,
            m.reorder_at
        );
        let srtt = m.rtt.srtt().unwrap_or(Duration::from_secs(1));
        let latest = match kind {
            Fired::Reorder => m.reorder_at.unwrap_or_default(),
            Fired::Probe => self.now + (srtt * 2 + WORST_DELAYED_ACK).max(Duration::from_millis(2)),
            Fired::Rto => self.now + m.rtt.rto().max(Duration::from_millis(1)),
        };
        prop_assert!(at <= latest, "{kind:?} at {at:?}, {latest:?} at the latest");
        if kind == Fired::Probe {
            // RFC 8985 section 7.2.
            prop_assert_eq!((m.mode, m.tlp, m.sacked()), (model::Mode::Open, None, 0));
            let newest = m.pieces.last().and_then(|p| p.sent.last());
            prop_assert!(
                newest.is_some_and(|sent| at >= *sent + srtt * 2),
                "a probe before its time"
            );
        }
        Ok(())
    }

    /// From here on all that is sent arrives, and the peer has kept nothing but what it acknowledged cumulatively: a timeout for each
    /// segment at the most, and everything is acknowledged.
    fn comes_to_an_end(&mut self) -> Result<(), TestCaseError> {
        let mut arrived: Vec<(u64, u64)> = Vec::new();
        let patience = 3 * self.model.pieces.len() + 10;
        for _ in 0..patience {
            loop {
                let lost = self
                    .model
                    .first_lost()
                    .map(|i| (self.model.pieces[i].start, self.model.pieces[i].end));
                match lost {
                    Some(piece) if self.repeat()? => arrived.push(piece),
                    Some(_) if self.model.pipe() == 0 && self.sender.paced_until().is_some() => {
                        self.now = self.sender.paced_until().unwrap_or(self.now).max(self.now);
                        self.sender.on_pace_timer(self.now);
                    }
                    _ => break,
                }
            }
            self.now += Duration::from_millis(10);
            let mut ack = self.model.una;
            while let Some(next) = arrived.iter().find(|a| a.0 <= ack && ack < a.1) {
                ack = next.1;
            }
            if ack > self.model.una {
                self.ack(ack, &[], None)?;
                self.check()?;
            } else if let Some(at) = self.sender.timer() {
                self.now = at.max(self.now);
                let fired = self.timers()?;
                if fired == Some(Fired::Probe) {
                    if let Some(index) = self.sender.probe_segment() {
                        arrived.push((self.model.pieces[index].start, self.model.pieces[index].end));
                        self.sender.on_retransmitted(self.now, index);
                        self.model.send_again(self.now, index);
                    }
                }
                self.check()?;
            }
            if self.sender.is_idle() {
                prop_assert_eq!(self.sender.timer(), None);
                return Ok(());
            }
        }
        Err(TestCaseError::fail(format!(
            "still outstanding: {:?}",
            self.model.pieces
        )))
    }
}

fn seq(position: u64) -> SeqNum {
    SeqNum(position as u32)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    // Proves R8985-1, R8985-2, R6582-1, R6298-3.
    #[test]
    fn the_sender_does_what_the_rfcs_say(first in any::<u32>(), steps in vec(step(), 1..120)) {
        let mut pair = Pair::new(first);
        for step in &steps {
            pair.take(step)?;
        }
        pair.comes_to_an_end()?;
    }
}

/// Four segments of 1,000 bytes from `first` on, sent at 1 s.
fn four_in_flight(first: u32) -> Sender<()> {
    let mut s = Sender::new(at(1000), SeqNum(first), 1000, Algorithm::default());
    (0..4).for_each(|_| s.on_sent(at(1000), 1000, false, ()));
    s
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn blocks(of: &[(u32, u32)]) -> Vec<(SeqNum, SeqNum)> {
    of.iter().map(|b| (SeqNum(b.0), SeqNum(b.1))).collect()
}

// Proves R8985-1.
#[test]
fn two_new_blocks_in_one_acknowledgment_are_no_reordering() {
    let mut s = four_in_flight(0);
    // The most recent block stands first (RFC 2018 section 4).
    s.on_ack(
        at(1100),
        SeqNum(0),
        &blocks(&[(3000, 4000), (1000, 2000)]),
        None,
        |_, _| {},
    );
    assert!(!s.rack.reordering_seen);
    s.on_ack(at(1100), SeqNum(0), &blocks(&[(1000, 4000)]), None, |_, _| {});
    assert!(s.rack.reordering_seen, "the one between came after them");
}

#[test]
fn losses_are_found_again_two_gigabytes_after_the_last_mark() {
    let mut s = Sender::new(at(1000), SeqNum(0), 1000, Algorithm::default());
    // The second of the lost segments lies half a circle of numbers from the flow's beginning.
    let first = SeqNum((1 << 31) - 1500);
    while s.snd_nxt != first {
        s.on_sent(at(1000), (first.diff(s.snd_nxt) as u32).min(8 << 20), false, ());
        s.on_ack(at(1100), s.snd_nxt, &[], None, |_, _| {});
    }
    (0..6).for_each(|_| s.on_sent(at(1100), 1000, false, ()));
    s.on_ack(at(1200), first, &[(first + 3000, first + 6000)], None, |_, _| {});
    assert_eq!(s.lost_segments, 3);
    assert_eq!(s.lost_tags_mut().count(), 3);
}

// Proves R6298-3.
#[test]
fn duplicates_that_say_nothing_do_not_put_the_timeout_off() {
    let mut s = four_in_flight(0);
    // The peer says that it has everything, and never acknowledges it.
    let all = blocks(&[(0, 4000)]);
    s.on_ack(at(1100), SeqNum(0), &all, None, |_, _| {});
    let due = s.timer().expect("something is outstanding");
    let mut now = at(1100);
    while now < due {
        s.on_ack(now, SeqNum(0), &all, None, |_, _| {});
        assert_eq!(s.timer(), Some(due), "at {now:?}");
        now += Duration::from_micros(900);
    }
    assert_eq!(s.on_timer(now), Some(Fired::Rto));
}

#[test]
fn a_bound_on_the_timeout_outlives_what_is_sent_again() {
    let mut s = four_in_flight(0);
    let repeated = |s: &mut Sender<()>, cap: Option<u64>| {
        let now = s.timer().expect("something is outstanding");
        assert_eq!(s.on_timer(now), Some(Fired::Rto));
        if let Some(ms) = cap {
            s.cap_timer(now, Duration::from_millis(ms));
        }
        let head = s.next_retransmit(now).expect("it is lost");
        s.on_retransmitted(now, head);
        s.timer().map(|at| at.since(now).as_millis())
    };
    assert_eq!(repeated(&mut s, None), Some(2000));
    assert_eq!(repeated(&mut s, Some(3000)), Some(3000), "not four seconds");
    assert_eq!(repeated(&mut s, None), Some(8000), "the bound was for one time");
}

#[test]
fn a_d_sack_is_below_the_acknowledgment_or_within_the_second_block() {
    let told = |ack, of: &[(u32, u32)]| is_dsack(SeqNum(ack), &blocks(of));
    assert!(told(1000, &[(500, 1000)]) && !told(1000, &[(500, 1001)]));
    assert!(told(1000, &[(2000, 3000), (2000, 3000)]) && !told(1000, &[(2000, 3001), (2000, 3000)]));
    assert!(!told(1000, &[(1999, 3000), (2000, 3000)]) && !told(1000, &[(500, 500)]) && !told(1000, &[]));
}

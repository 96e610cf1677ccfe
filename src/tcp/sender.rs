//! The sending half of a flow: the queue of unacknowledged segments, SACK scoreboard (RFC 2018, 6675),
//! RACK-TLP loss detection (RFC 8985), retransmission timeout (RFC 6298) and the congestion window (RFC 9438).
//!
//! Sequence space starts after the SYN; the handshake keeps its own timer. A segment's payload is not held here:
//! `T` tells the owner which bytes it carried.

use super::bbr::Ack;
use super::congestion::{Algorithm, Congestion};
use super::cubic::initial_window;
use super::delivery::{Delivery, Snapshot};
use super::pacer::Pacer;
use super::prr::Prr;
use super::rack::Rack;
use super::rtt::RttEstimator;
use super::undo::Episode;
use crate::time::{Duration, Instant};
use crate::wire::SeqNum;
use std::collections::VecDeque;

mod newreno;
#[cfg(test)]
mod tests;

/// RFC 8985 section 7.2: worst-case delayed-ACK time of the peer.
const WORST_DELAYED_ACK: Duration = Duration::from_millis(200);
/// RFC 5681, RFC 6675: duplicate acknowledgments that mean a loss.
const DUP_THRESH: usize = 3;

/// Sequence space that may lie between the oldest unacknowledged byte and the next one to send.
const MAX_OUTSTANDING: u32 = 16 << 20;

/// One transmitted and not cumulatively acknowledged segment.
#[derive(Debug)]
pub struct Sent<T> {
    /// First sequence number.
    pub seq: SeqNum,
    /// Sequence space it takes: payload, plus 1 for a FIN.
    pub len: u32,
    /// Carries the FIN.
    pub fin: bool,
    /// The owner's description of the payload.
    pub tag: T,
    /// When it was last sent.
    pub last_sent: Instant,
    /// Times sent.
    pub transmissions: u32,
    sacked: bool,
    lost: bool,
    snapshot: Snapshot,
}

impl<T> Sent<T> {
    /// One past its last sequence number.
    pub fn end(&self) -> SeqNum {
        self.seq + self.len
    }
    /// Believed to be in the network.
    fn in_flight(&self) -> bool {
        !self.sacked && !self.lost
    }
    fn arrived(&self) -> Arrived {
        Arrived {
            last_sent: self.last_sent,
            end: self.end(),
            repeated: self.transmissions > 1,
        }
    }
}

/// What an acknowledgment did.
#[derive(Debug, Default, Clone, Copy)]
pub struct AckOutcome {
    /// Sequence space newly acknowledged cumulatively.
    pub acked: u32,
    /// Sequence space newly delivered, selectively acknowledged included.
    pub delivered: u32,
    /// The FIN was acknowledged.
    pub fin_acked: bool,
    /// Segments were marked lost.
    pub lost: bool,
}

/// Which timer of the sender fired.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Fired {
    /// RACK's reordering window passed: segments were marked lost.
    Reorder,
    /// Probe timeout: send a tail-loss probe (RFC 8985 section 7.3).
    Probe,
    /// Retransmission timeout: everything outstanding was marked lost, the window is one segment.
    Rto,
}

/// A segment of which an acknowledgment says for the first time that it arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    pub last_sent: Instant,
    pub end: SeqNum,
    pub repeated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// Fast recovery until `snd_una` passes the point.
    Recovery(SeqNum),
    /// After an RTO, until the point is acknowledged.
    Loss(SeqNum),
}

/// See the module's head.
#[derive(Debug)]
pub struct Sender<T> {
    snd_una: SeqNum,
    snd_nxt: SeqNum,
    queue: VecDeque<Sent<T>>,
    /// Sequence space in flight (RFC 6675 "pipe").
    pipe: u32,
    sacked_segments: usize,
    lost_segments: usize,
    mss: u32,
    /// The peer sends SACK blocks (RFC 2018). Without them `sacked` is a guess (`newreno`).
    selective: bool,
    /// Round-trip time.
    pub rtt: RttEstimator,
    /// Congestion window.
    pub cc: Congestion,
    delivery: Delivery,
    pacer: Pacer,
    /// The last recovery, while it may turn out to have been needless.
    episode: Episode,
    prr: Prr,
    mode: Mode,
    rack: Rack,
    /// Every transmission, oldest first, by its segment's end; what happened to the segment since makes an entry stale.
    /// RACK's walk in order of sending stops at the first segment that may still arrive.
    sending_order: VecDeque<(Instant, SeqNum)>,
    /// No segment before this one is marked lost.
    lost_from: SeqNum,
    /// No segment before this one is in flight.
    flight_from: SeqNum,
    /// SACK blocks of the acknowledgment before: what they cover is marked.
    known_sack: Vec<(SeqNum, SeqNum)>,
    /// Room for those of the next one.
    next_sack: Vec<(SeqNum, SeqNum)>,
    /// What the acknowledgment being read says has arrived; empty otherwise.
    newly: Vec<Arrived>,
    /// The next number when a tail-loss probe had been sent; whether it is yet to be sent; whether it repeated what was sent before.
    tlp_end: Option<SeqNum>,
    tlp_due: bool,
    tlp_repeats: bool,
    timer: Option<(Instant, Fired)>,
    /// The next retransmission timeout is not later, whatever its back-off.
    capped_at: Option<Instant>,
    cwnd_limited: bool,
    fin_sent: bool,
    /// Segments sent again.
    pub retransmits: u32,
    /// When the peer last acknowledged something new.
    pub last_progress: Instant,
    /// When the peer last said that something had arrived, selectively or not.
    pub last_delivery: Instant,
    /// RTOs since the last progress.
    pub consecutive_rtos: u32,
    /// RTOs of all, and the recoveries that they began.
    pub timeouts: u32,
    /// As above.
    pub timeout_recoveries: u32,
    /// Acknowledgments with a D-SACK (RFC 2883).
    pub duplicates: u32,
}

impl<T> Sender<T> {
    /// A sender whose first byte has sequence number `first`.
    pub fn new(now: Instant, first: SeqNum, mss: u32, algorithm: Algorithm) -> Self {
        Sender {
            snd_una: first,
            snd_nxt: first,
            queue: VecDeque::new(),
            pipe: 0,
            sacked_segments: 0,
            lost_segments: 0,
            mss,
            selective: true,
            rtt: RttEstimator::new(),
            cc: Congestion::new(algorithm, now, mss, u64::from(first.0)),
            delivery: Delivery::default(),
            pacer: Pacer::new(initial_window(mss)),
            episode: Episode::default(),
            prr: Prr::default(),
            mode: Mode::Open,
            rack: Rack::new(first),
            sending_order: VecDeque::new(),
            lost_from: first,
            flight_from: first,
            known_sack: Vec::new(),
            next_sack: Vec::new(),
            newly: Vec::new(),
            tlp_end: None,
            tlp_due: false,
            tlp_repeats: false,
            timer: None,
            capped_at: None,
            cwnd_limited: false,
            fin_sent: false,
            retransmits: 0,
            last_progress: now,
            last_delivery: now,
            consecutive_rtos: 0,
            timeouts: 0,
            timeout_recoveries: 0,
            duplicates: 0,
        }
    }

    /// Oldest unacknowledged sequence number.
    pub fn snd_una(&self) -> SeqNum {
        self.snd_una
    }
    /// Next sequence number to send.
    pub fn snd_nxt(&self) -> SeqNum {
        self.snd_nxt
    }
    /// Nothing is unacknowledged.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }
    /// Bytes believed to be in the network.
    pub fn pipe(&self) -> u32 {
        self.pipe
    }
    /// Payload bytes a segment may carry.
    pub fn mss(&self) -> u32 {
        self.mss
    }
    /// The path takes smaller segments only (PMTU).
    pub fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
        self.cc.set_mss(mss);
    }
    /// Another congestion control from now on.
    pub fn set_congestion(&mut self, now: Instant, algorithm: Algorithm) {
        if self.cc.algorithm() != algorithm {
            self.cc = self.cc.switched(algorithm, now, self.mss, u64::from(self.snd_nxt.0));
            self.prr.start(self.pipe, self.cc.cwnd());
        }
    }
    /// When the oldest segment in flight was sent, and whether it is one of several.
    pub fn oldest_in_flight(&self) -> Option<(Instant, bool)> {
        let from = self.queue.partition_point(|s| s.seq.lt(self.flight_from));
        let mut flight = self.queue.range(from..).filter(|s| s.in_flight());
        Some((flight.next()?.last_sent, flight.next().is_some()))
    }
    /// Tags of segments that are marked lost, with their payload's length.
    pub fn lost_tags_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let from = self.queue.partition_point(|s| s.seq.lt(self.lost_from));
        let lost = self.queue.range_mut(from..).filter(|s| s.lost);
        lost.map(|s| (s.len - u32::from(s.fin), &mut s.tag))
    }
    /// The FIN has been sent at least once.
    pub fn fin_sent(&self) -> bool {
        self.fin_sent
    }
    /// How many segments are not cumulatively acknowledged.
    pub fn unacked_segments(&self) -> u32 {
        self.queue.len() as u32
    }
    /// How many of them are acknowledged selectively.
    pub fn sacked_segments(&self) -> u32 {
        self.sacked_segments as u32
    }
    /// How many of them are marked lost.
    pub fn lost_segments(&self) -> u32 {
        self.lost_segments as u32
    }
    /// How many segments are known to have arrived.
    pub fn delivered_segments(&self) -> u32 {
        self.delivery.segments
    }
    /// How many of them arrived after later ones, without having been sent again.
    pub fn reordered(&self) -> u32 {
        self.rack.reordered
    }
    /// The rate of delivery, bytes a second, and whether the program held it down; None before a sample.
    pub fn delivery_rate(&self) -> Option<(u64, bool)> {
        self.delivery.rate.map(|(rate, limited)| (rate as u64, limited))
    }
    /// Everything outstanding was marked lost by a timeout, and is not acknowledged yet.
    pub fn after_timeout(&self) -> bool {
        matches!(self.mode, Mode::Loss(_))
    }
    /// Unacknowledged segments in order.
    pub fn unacked(&self) -> impl Iterator<Item = &Sent<T>> {
        self.queue.iter()
    }
    /// Unacknowledged segments in order, their tags changeable.
    pub fn tags_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.queue.iter_mut().map(|s| (s.len - u32::from(s.fin), &mut s.tag))
    }
    /// In recovery from loss.
    pub fn recovering(&self) -> bool {
        self.mode != Mode::Open
    }

    /// Room in the congestion window for new data, in bytes.
    pub fn cwnd_room(&self) -> u32 {
        match self.mode {
            Mode::Recovery(_) if self.cc.reduces_on_loss() => self.prr.quota(self.pipe, self.mss),
            _ => self.cc.cwnd().saturating_sub(self.pipe),
        }
    }

    /// A segment may be sent now: RFC 9293's and RFC 5681's test, with at least one segment outstanding allowed.
    pub fn may_send(&mut self, now: Instant) -> bool {
        // A peer that acknowledges selectively, but never cumulatively, does not make the queue grow for ever.
        if self.snd_nxt.diff(self.snd_una) as u32 >= MAX_OUTSTANDING {
            return false;
        }
        let room = self.cwnd_room();
        let may = room >= self.mss || self.pipe == 0;
        if !may {
            self.cwnd_limited = true;
        }
        may && self.pace_permits(now)
    }

    /// Pacing lets a segment leave now.
    fn pace_permits(&mut self, now: Instant) -> bool {
        let permits = self.pacer.may_send(now, self.cc.pacing_rate(self.rtt.srtt()));
        // The rate of a loss-based flow is its window's: what waits for it waits for the window.
        self.cwnd_limited |= !permits && self.cc.reduces_on_loss();
        permits
    }

    /// When a segment that pacing held back may leave.
    pub fn paced_until(&self) -> Option<Instant> {
        self.pacer.wake()
    }

    /// `paced_until` has come.
    pub fn on_pace_timer(&mut self, now: Instant) {
        self.pacer.on_timer(now);
    }

    /// There is nothing to send here although the window has room: the rate of what is in flight says nothing of the path.
    pub fn note_app_limited(&mut self, now: Instant) {
        let open = self.pacer.is_open(now, self.cc.pacing_rate(self.rtt.srtt()));
        if open && self.lost_segments == 0 && self.cwnd_room() >= self.mss {
            self.delivery.note_app_limited(self.pipe);
        }
    }

    /// Records a new segment handed to the link.
    pub fn on_sent(&mut self, now: Instant, payload: u32, fin: bool, tag: T) {
        let len = payload + u32::from(fin);
        if self.queue.is_empty() {
            let idle = now.since(self.last_progress);
            let app_limited = self.delivery.is_app_limited();
            self.cc.on_idle_restart(now, idle, self.rtt.rto(), app_limited);
            self.last_progress = now;
        }
        let snapshot = self.note_leaving(now, len);
        self.queue.push_back(Sent {
            seq: self.snd_nxt,
            len,
            fin,
            tag,
            last_sent: now,
            transmissions: 1,
            sacked: false,
            lost: false,
            snapshot,
        });
        self.snd_nxt += len;
        self.note_transmission(now, self.snd_nxt);
        if core::mem::take(&mut self.tlp_due) {
            self.tlp_end = Some(self.snd_nxt);
        }
        self.pipe += len;
        self.fin_sent |= fin;
        if let Mode::Recovery(_) = self.mode {
            self.prr.on_sent(len);
        }
        self.arm(now);
    }

    /// The first segment marked lost, to be sent again, when the window allows.
    pub fn next_retransmit(&mut self, now: Instant) -> Option<usize> {
        if self.lost_segments == 0 {
            return None;
        }
        let from = self.queue.partition_point(|s| s.seq.lt(self.lost_from));
        let first = from + self.queue.range(from..).position(|s| s.lost)?;
        self.lost_from = self.queue[first].seq;
        // The first retransmission of a recovery leaves at once (RFC 6675 section 5 step 4.3).
        let allowed = self.pipe == 0 || self.cwnd_room() >= self.queue[first].len.min(self.mss);
        if !allowed {
            self.cwnd_limited = true;
        }
        (allowed && self.pace_permits(now)).then_some(first)
    }

    /// A segment leaves, for the first time or again.
    fn note_leaving(&mut self, now: Instant, len: u32) -> Snapshot {
        self.pacer.on_sent(now, len, self.cc.pacing_rate(self.rtt.srtt()));
        self.delivery.on_sent(now, self.pipe, len)
    }

    /// Keeps the order of sending: of what left at the same time, by number (RFC 8985 section 6.2, RACK_sent_after).
    fn note_transmission(&mut self, now: Instant, end: SeqNum) {
        let behind = self.sending_order.iter().rev();
        let behind = behind.take_while(|(sent, other)| *sent == now && other.gt(end)).count();
        self.sending_order.insert(self.sending_order.len() - behind, (now, end));
    }

    /// A segment by its index.
    pub fn segment(&self, index: usize) -> Option<&Sent<T>> {
        self.queue.get(index)
    }

    /// Cuts segment `index` after `payload` bytes, because the path's MSS fell; `split` makes the second part's tag from the first's.
    pub fn split(&mut self, index: usize, payload: u32, split: impl FnOnce(&mut T, u32) -> T) {
        let Some(s) = self.queue.get_mut(index) else { return };
        if payload == 0 || payload >= s.len - u32::from(s.fin) {
            return;
        }
        let tag = split(&mut s.tag, payload);
        let rest = Sent {
            seq: s.seq + payload,
            len: s.len - payload,
            fin: s.fin,
            tag,
            last_sent: s.last_sent,
            transmissions: s.transmissions,
            sacked: s.sacked,
            lost: s.lost,
            snapshot: s.snapshot,
        };
        s.len = payload;
        s.fin = false;
        self.sacked_segments += usize::from(rest.sacked);
        self.lost_segments += usize::from(rest.lost);
        // A block that ended inside it may cover the first part.
        self.known_sack.clear();
        // The rest has the end that stands in the order of sending; the first part gets an entry beside it.
        let (sent, end, cut) = (rest.last_sent, rest.end(), rest.seq);
        if let Some(at) = self.sending_order.iter().position(|e| *e == (sent, end)) {
            self.sending_order.insert(at, (sent, cut));
        }
        self.queue.insert(index + 1, rest);
    }

    /// Records that segment `index` was handed to the link again.
    pub fn on_retransmitted(&mut self, now: Instant, index: usize) {
        let Some(len) = self.queue.get(index).map(|s| s.len) else {
            return;
        };
        let snapshot = self.note_leaving(now, len);
        self.episode.on_retransmitted(now);
        let Some(s) = self.queue.get_mut(index) else { return };
        s.last_sent = now;
        s.transmissions += 1;
        s.snapshot = snapshot;
        if s.lost {
            s.lost = false;
            self.lost_segments -= 1;
            self.pipe += s.len;
        } else {
            self.tlp_repeats = true;
            self.tlp_due = false;
        }
        let end = s.end();
        if s.seq.lt(self.flight_from) {
            self.flight_from = s.seq;
        }
        self.note_transmission(now, end);
        self.retransmits += 1;
        if let Mode::Recovery(_) = self.mode {
            self.prr.on_sent(len);
        }
        self.arm(now);
    }

    /// The segment a tail-loss probe sends again when there is nothing new: the last one not selectively acknowledged.
    pub fn probe_segment(&self) -> Option<usize> {
        self.queue.iter().rposition(|s| !s.sacked)
    }

    /// An acceptable acknowledgment (`snd_una <= ack <= snd_nxt`). When it ends inside a segment, as a receiver's does that
    /// cut it at its window, `trim` takes that many bytes off the front of the segment's tag. `echo`: when the segment that
    /// it answers left, to the millisecond, where timestamps say so.
    pub fn on_ack(
        &mut self,
        now: Instant,
        ack: SeqNum,
        sack: &[(SeqNum, SeqNum)],
        echo: Option<Instant>,
        trim: impl FnOnce(&mut T, u32),
    ) -> AckOutcome {
        let mut out = AckOutcome::default();
        let prior_pipe = self.pipe;
        let lost_before = self.delivery.lost;
        self.newly.clear();
        while self.queue.front().is_some_and(|s| s.end().le(ack)) {
            let Some(s) = self.queue.pop_front() else { break };
            out.acked += s.len;
            self.sacked_segments -= usize::from(s.sacked);
            if !s.sacked {
                out.delivered += s.len;
            }
            if !s.sacked || !self.selective {
                self.newly.push(s.arrived());
                self.delivery.on_delivered(now, s.len, &s.snapshot, s.last_sent);
            }
            if s.lost {
                self.lost_segments -= 1;
            }
            if s.in_flight() {
                self.pipe -= s.len;
            }
            out.fin_acked |= s.fin;
        }
        let (trimmed, known) = self.trim_head(ack, trim);
        out.acked += trimmed;
        out.delivered += if known { 0 } else { trimmed };
        if ack.gt(self.snd_una) {
            self.snd_una = ack;
        }
        self.forget_old_transmissions();
        let dsack = is_dsack(ack, sack);
        out.delivered += self.apply_sack(now, sack);
        if out.acked > 0 {
            self.last_progress = now;
            self.consecutive_rtos = 0;
            self.capped_at = None;
            self.rtt.reset_backoff();
        }
        if out.delivered > 0 {
            self.last_delivery = now;
        }
        // Karn: no sample from what was sent twice. What was sent last gives it.
        let clean = self.newly.iter().filter(|a| !a.repeated).map(|a| a.last_sent).max();
        let clean_rtt = clean.map(|sent| now.since(sent));
        if let Some(rtt) = clean_rtt {
            self.rtt.on_sample(now, rtt);
            self.cc.on_rtt_sample(self.snd_una, self.snd_nxt, rtt, out.acked);
        }
        let min_rtt = self.rtt.min_rtt().unwrap_or_default();
        for arrived in &self.newly {
            self.rack.note_order(arrived.end, arrived.repeated);
        }
        self.newly.sort_by_key(|arrived| arrived.last_sent);
        for arrived in self.newly.drain(..) {
            self.rack.update(now, &arrived, min_rtt);
        }
        self.duplicates = self.duplicates.wrapping_add(u32::from(dsack));
        let widened = self.rack.note_dsack(dsack, self.snd_una, self.snd_nxt);
        self.on_probe_answered(now, ack, dsack, prior_pipe, &out);
        let needless = out.acked > 0 && self.recovering() && self.episode.echoes_original(echo);
        if needless | (dsack && self.episode.on_dsack()) {
            self.undo();
        }
        out.lost = match self.selective {
            true => self.detect_losses(now) | self.sacked_head_lost(now),
            false => self.partial_acknowledgment(now, &out),
        };
        let repaired = matches!(self.mode, Mode::Recovery(point) | Mode::Loss(point) if ack.ge(point));
        if repaired && !widened {
            self.rack.on_recovered();
        }
        self.update_mode(now, ack, prior_pipe, &out);
        self.update_model(now, clean_rtt, out.delivered, self.delivery.lost > lost_before);
        self.arm(now);
        out
    }

    /// The delivery rate sample of an ACK, for a congestion control with a model.
    fn update_model(&mut self, now: Instant, rtt: Option<Duration>, newly_acked: u32, lost: bool) {
        let sample = self.delivery.sample(self.rtt.min_rtt().unwrap_or_default());
        if self.cc.reduces_on_loss() || (sample.is_none() && !lost) {
            return;
        }
        let ack = Ack {
            now,
            sample: sample.unwrap_or_default(),
            newly_acked,
            pipe: self.pipe,
            rtt,
            cwnd_limited: core::mem::take(&mut self.cwnd_limited),
            delivered: self.delivery.delivered,
            lost: self.delivery.lost,
        };
        if self.cc.on_sample(&ack) {
            self.delivery.note_app_limited(self.pipe);
        }
    }

    /// The recovery was needless: the window as before, and what was called lost is on its way after all (RFC 9438 section 4.9, RFC 4015).
    fn undo(&mut self) {
        self.cc.undo();
        self.episode.close();
        // What came late was overtaken, or delayed: less haste from here on.
        self.rack.reordering_seen = true;
        if self.mode == Mode::Open {
            return;
        }
        self.mode = Mode::Open;
        for s in self.queue.iter_mut().filter(|s| s.lost) {
            s.lost = false;
            self.pipe += s.len;
        }
        self.lost_segments = 0;
        self.lost_from = self.snd_nxt;
        self.flight_from = self.snd_una;
        let in_flight = self.queue.iter().filter(|s| s.in_flight());
        let mut order: Vec<(Instant, SeqNum)> = in_flight.map(|s| (s.last_sent, s.end())).collect();
        order.sort_by_key(|(sent, _)| *sent);
        self.sending_order = order.into();
    }

    /// A cumulative ACK inside the first segment: its front leaves. How long that is, and whether it was known to have arrived.
    fn trim_head(&mut self, ack: SeqNum, trim: impl FnOnce(&mut T, u32)) -> (u32, bool) {
        match self.queue.front_mut() {
            Some(s) if s.seq.lt(ack) => {
                let n = ack.diff(s.seq).max(0) as u32;
                trim(&mut s.tag, n);
                s.seq = ack;
                s.len -= n;
                if s.in_flight() {
                    self.pipe -= n;
                }
                (n, s.sacked)
            }
            _ => (0, false),
        }
    }

    /// Marks what the blocks cover, in the order of its numbers, which is that of its first sending; its length.
    fn apply_sack(&mut self, now: Instant, sack: &[(SeqNum, SeqNum)]) -> u32 {
        if sack.is_empty() {
            return 0;
        }
        let (una, nxt) = (self.snd_una, self.snd_nxt);
        let mut blocks = core::mem::take(&mut self.next_sack);
        // RFC 2018 section 5 and RFC 2883: a block at or below snd_una is a D-SACK; one past snd_nxt is a lie.
        let valid = |b: &&(SeqNum, SeqNum)| b.1.gt(una) && b.1.le(nxt) && b.0.lt(b.1);
        blocks.clear();
        blocks.extend(sack.iter().filter(valid));
        blocks.sort_unstable_by_key(|b| b.0.diff(una));
        let mut delivered = 0;
        for &(left, right) in &blocks {
            let mut at = self.queue.partition_point(|s| s.seq.lt(left));
            while let Some(s) = self.queue.get_mut(at).filter(|s| s.end().le(right)) {
                at += 1;
                if s.sacked {
                    let (seq, end) = (s.seq, s.end());
                    let known = self.known_sack.iter().find(|b| b.0.le(seq) && end.le(b.1));
                    if let Some(&(_, known_to)) = known {
                        at = at.max(self.queue.partition_point(|s| s.end().le(known_to)));
                    }
                    continue;
                }
                if s.lost {
                    s.lost = false;
                    self.lost_segments -= 1;
                } else {
                    self.pipe -= s.len;
                }
                s.sacked = true;
                self.sacked_segments += 1;
                delivered += s.len;
                self.newly.push(s.arrived());
                self.delivery.on_delivered(now, s.len, &s.snapshot, s.last_sent);
            }
        }
        self.next_sack = core::mem::replace(&mut self.known_sack, blocks);
        delivered
    }

    /// RFC 8985 section 7.4.2: what became of the tail-loss probe. When it repaired a loss, that loss is answered as any other.
    fn on_probe_answered(&mut self, now: Instant, ack: SeqNum, dsack: bool, prior_pipe: u32, out: &AckOutcome) {
        let Some(end) = self.tlp_end.filter(|end| ack.ge(*end)) else {
            return;
        };
        // The original arrived: a D-SACK says so, or a duplicate acknowledgment of a peer without SACK.
        let needless = dsack || (ack == end && out.acked == 0 && out.delivered == 0);
        if !self.tlp_repeats || needless {
            self.forget_probe();
        } else if ack.gt(end) {
            self.forget_probe();
            if self.mode == Mode::Open {
                self.cc.on_probe_loss(now, prior_pipe);
            }
        }
    }

    /// Transmissions of segments that are acknowledged leave the front of the order of sending.
    fn forget_old_transmissions(&mut self) {
        let una = self.snd_una;
        while self.sending_order.front().is_some_and(|e| e.1.le(una)) {
            self.sending_order.pop_front();
        }
    }

    /// The segment that transmission `(sent, end)` was the last one of, if it is in flight.
    fn in_flight_since(&self, (sent, end): (Instant, SeqNum)) -> Option<usize> {
        let at = self.queue.partition_point(|s| s.end().lt(end));
        let s = self.queue.get(at)?;
        (s.end() == end && s.last_sent == sent && s.in_flight()).then_some(at)
    }

    fn mark_lost(&mut self, now: Instant, index: usize) {
        let Some(s) = self.queue.get_mut(index) else { return };
        s.lost = true;
        self.pipe -= s.len;
        self.delivery.lost += u64::from(s.len);
        self.cc.on_lost(now, s.len, &s.snapshot, self.delivery.lost);
        let seq = s.seq;
        self.note_lost(seq);
    }

    /// A segment that begins at `seq` was marked lost.
    fn note_lost(&mut self, seq: SeqNum) {
        // With nothing marked, `lost_from` may be so old that it does not compare.
        if self.lost_segments == 0 || seq.lt(self.lost_from) {
            self.lost_from = seq;
        }
        self.lost_segments += 1;
    }

    /// RFC 8985 section 6.2 step 5: marks what RACK calls lost; true when something was marked.
    fn detect_losses(&mut self, now: Instant) -> bool {
        if self.sacked_segments == 0 && !self.recovering() {
            self.rack_timeout(now, None);
            return false;
        }
        let reo_wnd = self.reordering_window();
        let deadline = self.rack.rtt + reo_wnd;
        let mut any = false;
        let mut timeout: Option<Duration> = None;
        let (rack_ts, rack_end) = (self.rack.xmit_ts, self.rack.end_seq);
        while let Some(&entry) = self.sending_order.front() {
            if let Some(index) = self.in_flight_since(entry) {
                let (sent, end) = entry;
                if sent > rack_ts || (sent == rack_ts && end.ge(rack_end)) {
                    break;
                }
                let age = now.since(sent);
                if age < deadline {
                    // Those behind it were sent later: each has its turn when its own time is over.
                    timeout = Some(deadline - age);
                    break;
                }
                self.mark_lost(now, index);
                any = true;
            }
            self.sending_order.pop_front();
        }
        self.rack_timeout(now, timeout);
        any
    }

    fn rack_timeout(&mut self, now: Instant, timeout: Option<Duration>) {
        match (timeout, self.timer) {
            (Some(t), _) => self.timer = Some((now + t.max(Duration::from_millis(1)), Fired::Reorder)),
            (None, Some((_, Fired::Reorder))) => self.timer = None,
            (None, _) => {}
        }
    }

    /// RFC 6675's rule beside RACK: three segments above the head delivered and no reordering ever seen.
    fn sacked_head_lost(&mut self, now: Instant) -> bool {
        if self.rack.reordering_seen || self.sacked_segments < DUP_THRESH {
            return false;
        }
        let lost = self
            .queue
            .front()
            .is_some_and(|s| s.in_flight() && s.transmissions == 1);
        if lost {
            self.mark_lost(now, 0);
        }
        lost
    }

    /// RFC 8985 section 6.2 step 4.
    fn reordering_window(&self) -> Duration {
        if !self.rack.reordering_seen && (self.recovering() || self.sacked_segments >= DUP_THRESH) {
            return Duration::ZERO;
        }
        let quarter = self.rtt.min_rtt().unwrap_or_default() / 4;
        (quarter * self.rack.reo_wnd_mult).min(self.rtt.srtt().unwrap_or_default())
    }

    fn update_mode(&mut self, now: Instant, ack: SeqNum, prior_pipe: u32, out: &AckOutcome) {
        match self.mode {
            Mode::Open => {
                if self.lost_segments > 0 {
                    self.enter_recovery(now, prior_pipe, out.delivered);
                    self.prr
                        .on_ack(out.delivered, self.pipe, self.mss, out.lost, out.acked > 0);
                } else if out.acked > 0 {
                    self.grow(now, out.acked);
                }
            }
            Mode::Recovery(point) => {
                if ack.ge(point) {
                    self.mode = Mode::Open;
                    self.cc.on_recovered();
                    if self.lost_segments > 0 {
                        self.enter_recovery(now, prior_pipe, out.delivered);
                    }
                } else {
                    self.prr
                        .on_ack(out.delivered, self.pipe, self.mss, out.lost, out.acked > 0);
                }
            }
            Mode::Loss(point) => {
                if out.acked > 0 {
                    self.grow(now, out.acked);
                }
                if ack.ge(point) {
                    self.mode = Mode::Open;
                    self.cc.on_timeout_repaired();
                    if self.lost_segments > 0 {
                        self.enter_recovery(now, prior_pipe, out.delivered);
                    }
                }
            }
        }
    }

    fn grow(&mut self, now: Instant, acked: u32) {
        let srtt = self.rtt.srtt().unwrap_or(Duration::from_millis(100));
        self.cc.on_ack(now, acked, srtt, self.cwnd_limited);
        // A model has its own look at it, with the sample.
        self.cwnd_limited &= !self.cc.reduces_on_loss();
    }

    fn enter_recovery(&mut self, now: Instant, prior_pipe: u32, newly_acked: u32) {
        self.mode = Mode::Recovery(self.snd_nxt);
        self.forget_probe();
        self.episode = Episode::begin();
        self.cc.on_enter_recovery(now, prior_pipe, self.pipe, newly_acked);
        self.prr.start(prior_pipe, self.cc.ssthresh());
    }

    fn forget_probe(&mut self) {
        self.tlp_end = None;
        self.tlp_due = false;
    }

    /// When `on_timer` must be called.
    pub fn timer(&self) -> Option<Instant> {
        self.timer.map(|(at, _)| at)
    }

    /// Sets the probe or retransmission timer (RFC 6298 section 5, RFC 8985 section 7.2), unless RACK's runs.
    fn arm(&mut self, now: Instant) {
        if self.queue.is_empty() {
            self.timer = None;
            return;
        }
        if matches!(self.timer, Some((_, Fired::Reorder))) {
            return;
        }
        let rto_at = self.rto_at(now);
        let probing = self.mode == Mode::Open && self.tlp_end.is_none() && self.consecutive_rtos == 0;
        if let (true, Some(srtt)) = (probing && self.sacked_segments == 0, self.rtt.srtt()) {
            let mut pto = srtt * 2;
            if self.queue.len() == 1 {
                pto += WORST_DELAYED_ACK;
            }
            // From the last segment on, not, as in the RFC, from the last acknowledgment: a lost tail is found out a round trip earlier.
            let last = self.queue.back().map_or(now, |s| s.last_sent);
            let at = last + pto.max(Duration::from_millis(2));
            if at < rto_at {
                // As below: not due while another timer's work is being done.
                self.timer = Some((at.max(now + Duration::from_millis(1)), Fired::Probe));
                return;
            }
        }
        // Something else was due first: this is not due before it is over.
        let soon = rto_at.max(now + Duration::from_millis(1));
        let at = match self.timer {
            // The host stood still for longer than the timeout: the probe that it sent first gets its time all the same.
            Some((at, Fired::Rto)) if self.tlp_end.is_some() && rto_at <= now => at,
            None if self.tlp_end.is_some() && rto_at <= now => now + self.rtt.rto(),
            // What is about to fire is not put off by every acknowledgment that says nothing new.
            Some((at, Fired::Rto)) if rto_at <= at => soon.min(at),
            _ => soon,
        };
        self.timer = Some((at, Fired::Rto));
    }

    /// RFC 6298 section 5.3: an acknowledgment of new data restarts the timer; so does what is sent when nothing before it is in flight.
    fn rto_at(&mut self, now: Instant) -> Instant {
        let rto = self.rtt.rto();
        let progress = self.last_progress;
        let oldest = self.first_in_flight().map(|s| s.last_sent);
        let at = match (oldest, self.timer) {
            (Some(sent), _) => sent.max(progress) + rto,
            // All of it arrived, as the peer says without acknowledging it, or is about to be sent again.
            (None, Some((at, Fired::Rto))) if progress < now => at.min(now + rto),
            (None, _) => now + rto,
        };
        self.capped_at.map_or(at, |cap| at.min(cap))
    }

    fn first_in_flight(&mut self) -> Option<&Sent<T>> {
        // As long as nothing is lost or came early it is the first of all.
        if self.queue.front().is_some_and(Sent::in_flight) {
            self.flight_from = self.snd_una;
            return self.queue.front();
        }
        let from = self.queue.partition_point(|s| s.seq.lt(self.flight_from));
        let first = self.queue.range(from..).position(Sent::in_flight);
        let index = first.map_or(self.queue.len(), |n| from + n);
        self.flight_from = self.queue.get(index).map_or(self.snd_nxt, |s| s.seq);
        self.queue.get(index)
    }

    /// The timer fired. None when it was not due (or nothing is outstanding).
    pub fn on_timer(&mut self, now: Instant) -> Option<Fired> {
        let (at, kind) = self.timer?;
        if now < at {
            return None;
        }
        self.timer = None;
        match kind {
            Fired::Reorder => {
                let prior_pipe = self.pipe;
                let lost = self.detect_losses(now);
                if lost && self.mode == Mode::Open {
                    self.enter_recovery(now, prior_pipe, 0);
                }
                self.arm(now);
                lost.then_some(Fired::Reorder)
            }
            Fired::Probe => {
                self.tlp_end = Some(self.snd_nxt);
                self.tlp_due = true;
                self.tlp_repeats = false;
                self.arm(now);
                Some(Fired::Probe)
            }
            Fired::Rto => {
                self.capped_at = None;
                self.on_rto(now);
                Some(Fired::Rto)
            }
        }
    }

    /// RFC 6298 section 5.4 to 5.6, RFC 6675 section 5.1, RFC 8985 section 6.3.
    fn on_rto(&mut self, now: Instant) {
        if self.consecutive_rtos == 0 && !matches!(self.mode, Mode::Loss(_)) {
            self.cc.on_rto(now, self.pipe);
            self.episode = Episode::begin();
            self.timeout_recoveries = self.timeout_recoveries.wrapping_add(1);
        }
        self.timeouts = self.timeouts.wrapping_add(1);
        self.consecutive_rtos += 1;
        self.mode = Mode::Loss(self.snd_nxt);
        self.forget_probe();
        self.forget_guesses();
        for s in self.queue.iter_mut().filter(|s| s.in_flight()) {
            s.lost = true;
            self.lost_segments += 1;
        }
        // RFC 2018 section 8: a receiver may renege, so the head is sent again in any case.
        if let Some(s) = self.queue.front_mut().filter(|s| s.sacked) {
            s.sacked = false;
            s.lost = true;
            self.sacked_segments -= 1;
            self.lost_segments += 1;
        }
        self.pipe = 0;
        self.lost_from = self.snd_una;
        self.known_sack.clear();
        self.sending_order.clear();
        self.rtt.backoff();
        self.timer = Some((now + self.rtt.rto(), Fired::Rto));
    }

    /// The path takes smaller segments now: what was sent larger is lost (RFC 8201 section 4), and not by congestion.
    /// `fits` is the payload that can leave in one segment.
    pub fn mark_oversized(&mut self, now: Instant, fits: u32) {
        for index in 0..self.queue.len() {
            let s = &self.queue[index];
            if s.in_flight() && s.len - u32::from(s.fin) > fits {
                let s = &mut self.queue[index];
                s.lost = true;
                self.pipe -= s.len;
                let seq = s.seq;
                self.note_lost(seq);
            }
        }
        self.arm(now);
    }

    /// Bounds the wait until the next attempt on a silent path, so that a mended one is found again.
    pub fn cap_timer(&mut self, now: Instant, most: Duration) {
        if let Some((at, Fired::Rto)) = self.timer {
            let at = at.min(now + most);
            self.capped_at = Some(at);
            self.timer = Some((at, Fired::Rto));
        }
    }
}

/// The first block tells of a segment that came twice (RFC 2883 section 4): it is acknowledged already, or part of the second block.
fn is_dsack(ack: SeqNum, sack: &[(SeqNum, SeqNum)]) -> bool {
    match sack {
        [first, ..] if !first.0.lt(first.1) => false,
        [first, ..] if first.1.le(ack) => true,
        [first, second, ..] => second.0.le(first.0) && first.1.le(second.1),
        _ => false,
    }
}

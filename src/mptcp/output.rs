//! Segments to send: control first, then what was lost, then new data on the subflow that the scheduler picks, then
//! acknowledgments.

use super::connection::{Connection, Cork, Ctx, Manner, Role};
use super::crypto;
use super::scheduler::{self, Demand, Scheduler};
use super::subflow::{SendMap, SendTag, State, Subflow};
use crate::link::Outgoing;
use crate::time::{Duration, Instant};
use crate::wire::options::{options_len, OPTIONS_MAX};
use crate::wire::{Dsn, Flags, Header, SeqNum, TcpOptions};

/// The longest run of segments: the length field of a mapping, and of an IP packet, has 16 bits; headers take their part.
const BURST_MAX: u64 = 65_535 - 128;

/// How long TCP_CORK holds back an incomplete segment (tcp(7)).
const CORKED_MAX: Duration = Duration::from_millis(200);

/// A segment decided on; its payload is looked up when it is handed out.
pub(super) struct Plan {
    pub tuple: super::endpoint::FourTuple,
    pub iface: u32,
    pub header: Header,
    pub options: TcpOptions,
    pub payload: Payload,
    /// See `Outgoing`.
    pub segment_size: u16,
}

/// A segment without payload that outlives its subflow: a reset.
pub(super) struct Bare {
    pub tuple: super::endpoint::FourTuple,
    pub manner: Manner,
    pub header: Header,
    pub options: TcpOptions,
}

impl Plan {
    /// `manner`: how its connection's segments leave.
    pub(super) fn bare(self, manner: Manner) -> Bare {
        Bare {
            tuple: self.tuple,
            manner: Manner {
                iface: self.iface,
                ..manner
            },
            header: self.header,
            options: self.options,
        }
    }
}

/// Why data is sent.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// For the first time.
    New,
    /// From the list of what is to be sent again, at this place.
    Again(usize),
    /// On one more subflow.
    Copy,
}

/// Where a segment's payload is.
pub(super) enum Payload {
    None,
    /// One byte that the peer has already, whatever it was.
    Known,
    Stream(Dsn, u32),
    /// Bytes that moved from the buffer to the segment: subflow, segment, offset, length.
    Detached(usize, usize, u32),
}

impl Payload {
    /// Bytes.
    fn len(&self) -> u32 {
        match self {
            Payload::None => 0,
            Payload::Known => 1,
            Payload::Stream(_, len) | Payload::Detached(_, _, len) => *len,
        }
    }
}

impl Connection {
    /// The next segment to send now, None when there is none.
    pub(super) fn plan(&mut self, ctx: &mut Ctx<'_>) -> Option<Plan> {
        let plan = self.next_plan(ctx);
        match &plan {
            Some(plan) => self.count(ctx.now, plan),
            None => self.note_waits(ctx.now),
        }
        plan
    }

    fn count(&mut self, now: Instant, plan: &Plan) {
        if let Some(sf) = self.subflows.iter_mut().find(|s| s.tuple == plan.tuple) {
            sf.counted.on_sent(now, plan.payload.len(), plan.segment_size);
        }
    }

    /// What waits, waits from now on.
    fn note_waits(&mut self, now: Instant) {
        for sf in &mut self.subflows {
            sf.note_waits(now);
        }
        let (out, waits) = (&self.out, &mut self.waits);
        let unsent = out.nxt != out.buf.end();
        waits.busy.note(now, out.una != out.buf.end());
        waits.window.note(now, unsent && out.edge.le(out.nxt));
        waits.buffer.note(now, !unsent && out.blocked);
    }

    fn next_plan(&mut self, ctx: &mut Ctx<'_>) -> Option<Plan> {
        for index in 0..self.subflows.len() {
            if let Some(plan) = self.plan_control(ctx, index) {
                return Some(plan);
            }
        }
        for index in 0..self.subflows.len() {
            if let Some(plan) = self.plan_retransmission(ctx, index) {
                return Some(plan);
            }
        }
        if let Some(plan) = self.plan_data(ctx) {
            return Some(plan);
        }
        for index in 0..self.subflows.len() {
            if let Some(plan) = self.plan_fin(ctx, index).or_else(|| self.plan_ack(ctx, index)) {
                return Some(plan);
            }
        }
        None
    }

    /// The planned segment with its payload.
    pub(super) fn outgoing(&self, plan: Plan) -> Outgoing<'_> {
        let payload = match plan.payload {
            Payload::None => [&[][..], &[]],
            Payload::Known => [&[0][..], &[]],
            Payload::Stream(dsn, len) => self.out.buf.slices(dsn, len as usize),
            Payload::Detached(index, segment, len) => {
                let bytes = self
                    .subflows
                    .get(index)
                    .and_then(|s| s.tx.segment(segment))
                    .and_then(|s| s.tag.detached.as_deref());
                let bytes = bytes.unwrap_or(&[]);
                [&bytes[..bytes.len().min(len as usize)], &[]]
            }
        };
        let sender = self.subflows.iter().find(|s| s.tuple == plan.tuple);
        let own = sender.map(|s| s.own_manner).unwrap_or_default();
        Outgoing {
            src: plan.tuple.local.ip(),
            dst: plan.tuple.remote.ip(),
            iface: plan.iface,
            header: plan.header,
            options: plan.options,
            payload,
            segment_size: plan.segment_size,
            tos: own.tos.unwrap_or(self.options.tos),
            ttl: own.ttl.unwrap_or(self.options.ttl),
            mark: self.options.mark,
        }
    }

    // ---- data -------------------------------------------------------------------------------------------------

    /// A lost segment again, or a tail-loss probe.
    pub(super) fn plan_retransmission(&mut self, ctx: &mut Ctx<'_>, index: usize) -> Option<Plan> {
        let sf = &mut self.subflows[index];
        if !sf.state.synchronized() || sf.tx.is_idle() {
            sf.tlp_now = false;
            return None;
        }
        let segment = match sf.tx.next_retransmit(ctx.now) {
            Some(segment) => segment,
            None if sf.tlp_now => {
                sf.tlp_now = false;
                // RFC 8985 section 7.3: new data if there is any, beyond the congestion window by this one segment.
                if let Some(plan) = self.plan_probe_data(ctx, index) {
                    return Some(plan);
                }
                self.subflows[index].tx.probe_segment()?
            }
            None => return None,
        };
        self.plan_again(ctx, index, segment)
    }

    fn plan_probe_data(&mut self, ctx: &mut Ctx<'_>, index: usize) -> Option<Plan> {
        let sf = &self.subflows[index];
        if self.error.is_some() || !self.established || !sf.usable() || sf.stalled || !self.out.reinject.is_empty() {
            return None;
        }
        let room = self.payload_room(ctx.now, index);
        let len = self.new_data_len(ctx.now, room, room)?;
        Some(self.plan_segment(ctx, index, self.out.nxt, (len, room), Kind::New))
    }

    pub(super) fn plan_again(&mut self, ctx: &mut Ctx<'_>, index: usize, segment: usize) -> Option<Plan> {
        self.split_for_mss(index, segment);
        let sf = &self.subflows[index];
        let sent = sf.tx.segment(segment)?;
        let (seq, fin, dsn) = (sent.seq, sent.fin, sent.tag.dsn);
        let len = sent.len - u32::from(fin);
        let detached = sent.tag.detached.is_some();
        // What first left with an infinite mapping has it again: nothing else may have told the peer (RFC 8684 section 3.7).
        let infinite = || self.infinite(dsn, sf.ssn_out(seq)).filter(|_| len > 0);
        let map = match sent.tag.map {
            Some(map) => Some((map, self.as_capable(index, seq))),
            None => infinite().map(|map| (map, false)),
        };
        let options = self.established_options(ctx.now, index, map, len);
        let mut flags = if len > 0 { Flags::PSH } else { Flags(0) };
        if fin {
            flags = flags.with(Flags::FIN);
        }
        let header = self.established_header(index, seq, flags);
        let sf = &mut self.subflows[index];
        sf.tx.on_retransmitted(ctx.now, segment);
        sf.bytes_sent += u64::from(len);
        sf.counted.bytes_retransmitted += u64::from(len);
        let payload = match (len, detached) {
            (0, _) => Payload::None,
            (_, true) => Payload::Detached(index, segment, len),
            _ => Payload::Stream(dsn, len),
        };
        Some(Plan {
            tuple: sf.tuple,
            iface: sf.iface,
            header,
            options,
            payload,
            segment_size: 0,
        })
    }

    /// The path's MSS fell below a segment's size: send it in parts; each repeats the whole mapping.
    fn split_for_mss(&mut self, index: usize, segment: usize) {
        let limit = self.options.mss_limit;
        let mapped = self.subflows[index]
            .tx
            .segment(segment)
            .is_some_and(|s| s.tag.map.is_some());
        let fits = self.payload_that_fits(index, mapped);
        let sf = &mut self.subflows[index];
        let room = sf.segment_room(limit).saturating_sub(OPTIONS_MAX as u32).max(1);
        let too_long = sf.tx.segment(segment).is_some_and(|s| s.len - u32::from(s.fin) > fits);
        if !too_long {
            return;
        }
        sf.tx.split(segment, room, |tag, at| {
            let detached = tag.detached.take().map(|whole| {
                let (head, tail) = whole.split_at((at as usize).min(whole.len()));
                tag.detached = Some(head.into());
                tail.into()
            });
            SendTag {
                dsn: tag.dsn + u64::from(at),
                map: tag.map,
                detached,
                elsewhere: tag.elsewhere,
            }
        });
    }

    /// Payload of a segment that can leave whole: beside timestamps and, when it is mapped, the smallest options that say so
    /// (a DSS without DATA_ACK; MP_CAPABLE while the peer is not known to have our key).
    pub(super) fn payload_that_fits(&self, index: usize, mapped: bool) -> u32 {
        let sf = &self.subflows[index];
        let timestamps = if sf.timestamps { 12 } else { 0 };
        let mapping = match (mapped, sf.confirmed) {
            (false, _) => 0,
            (true, true) => 20,
            (true, false) => 24,
        };
        let room = sf.segment_room(self.options.mss_limit);
        room.saturating_sub(timestamps + mapping).max(1)
    }

    /// MP_CAPABLE instead of DSS: only on what starts at ISN+1, until the server is known to have both keys (note C7).
    fn as_capable(&self, index: usize, seq: SeqNum) -> bool {
        let sf = &self.subflows[index];
        self.role == Role::Client && sf.join.is_none() && !sf.confirmed && seq == sf.iss + 1
    }

    /// Reinjections first, then new data, on the subflow that the scheduler picks; with nothing new, what a faster subflow can save time with.
    pub(super) fn plan_data(&mut self, ctx: &mut Ctx<'_>) -> Option<Plan> {
        if self.error.is_some() || !self.established {
            return None;
        }
        self.out.forget_acknowledged();
        let redundant = self.options.scheduler == Scheduler::Redundant && self.multipath();
        let plan = match self.plan_reinjection(ctx) {
            Some(plan) => Some(plan),
            None if redundant => self.plan_redundant(ctx),
            None => self.plan_new(ctx).or_else(|| self.plan_rescue(ctx)),
        };
        if plan.is_none() {
            // Whoever has room now has it because there is nothing to send, or because it is better sent elsewhere.
            for sf in self.subflows.iter_mut().filter(|s| s.usable()) {
                sf.tx.note_app_limited(ctx.now);
            }
        }
        plan
    }

    fn plan_reinjection(&mut self, ctx: &mut Ctx<'_>) -> Option<Plan> {
        let mut tried = None;
        for at in 0..self.out.reinject.len() {
            let range = self.out.reinject[at];
            if tried == Some(range.holder) {
                continue;
            }
            tried = Some(range.holder);
            if let Some(index) = self.pick_again(ctx.now, &range) {
                return Some(self.plan_range(ctx, index, (range.from, range.to), Kind::Again(at)));
            }
        }
        None
    }

    fn plan_rescue(&mut self, ctx: &mut Ctx<'_>) -> Option<Plan> {
        let (index, from, to) = self.pick_rescue(ctx.now)?;
        Some(self.plan_range(ctx, index, (from, to), Kind::Copy))
    }

    /// The beginning of a range that was sent before, as much of it as fits.
    fn plan_range(&mut self, ctx: &mut Ctx<'_>, index: usize, (from, to): (Dsn, Dsn), kind: Kind) -> Plan {
        let room = self.payload_room(ctx.now, index);
        let most = u64::from(room * self.burst(index, room));
        let len = (to.diff(from).max(0) as u64).min(most) as u32;
        self.plan_segment(ctx, index, from, (len, room), kind)
    }

    fn plan_new(&mut self, ctx: &mut Ctx<'_>) -> Option<Plan> {
        let (send_limit, fast_only) = (self.send_limit(), self.prefers_low_latency());
        let out = &mut self.out;
        if out.nxt == out.buf.end() || out.edge.le(out.nxt) {
            return None;
        }
        let window = out.edge.diff(out.una).max(0) as u64;
        let demand = Demand {
            unsent: out.buf.end().diff(out.nxt).max(0) as u64,
            endless: out.blocked,
            window: window.min(send_limit as u64),
            fast_only,
        };
        let rule = self.options.scheduler;
        let index = scheduler::pick(rule, &mut out.memory, ctx.now, &mut self.subflows, &demand)?;
        let room = self.payload_room(ctx.now, index);
        let most = room * self.burst(index, room);
        let len = self.new_data_len(ctx.now, room, most)?;
        Some(self.plan_segment(ctx, index, self.out.nxt, (len, room), Kind::New))
    }

    /// The redundant scheduler: each subflow with room goes on where it stopped.
    fn plan_redundant(&mut self, ctx: &mut Ctx<'_>) -> Option<Plan> {
        for index in scheduler::eligible(&self.subflows) {
            let from = self.subflows[index]
                .position
                .map_or(self.out.una, |at| at.max(self.out.una));
            let new = from.ge(self.out.nxt);
            if new && (self.out.nxt == self.out.buf.end() || self.out.edge.le(self.out.nxt)) {
                continue;
            }
            if !self.subflows[index].tx.may_send(ctx.now) {
                continue;
            }
            let plan = if new {
                let room = self.payload_room(ctx.now, index);
                let most = room * self.burst(index, room);
                let Some(len) = self.new_data_len(ctx.now, room, most) else {
                    continue;
                };
                self.plan_segment(ctx, index, self.out.nxt, (len, room), Kind::New)
            } else {
                let to = self.out.nxt;
                self.no_way_back = true;
                self.plan_range(ctx, index, (from, to), Kind::Copy)
            };
            return Some(plan);
        }
        None
    }

    /// How many segments of `room` bytes may leave as one: as long as one mapping and one IP packet can say, as the
    /// congestion window has room for, and no more than the path carries in a millisecond, so that what is decided
    /// now is not decided for long (Linux: tcp_tso_autosize).
    fn burst(&self, index: usize, room: u32) -> u32 {
        let sf = &self.subflows[index];
        let alone = self.checksum
            || sf.one_at_a_time
            || self.as_capable(index, sf.tx.snd_nxt())
            || (self.plain() && self.infinite_map.is_some());
        if alone {
            return 1;
        }
        let srtt_us = sf.tx.rtt.srtt().map_or(u64::MAX, |srtt| srtt.as_micros().max(1) as u64);
        let in_a_moment = (u64::from(sf.tx.cc.cwnd()) * 1000 / srtt_us).max(u64::from(2 * room));
        let bytes = u64::from(sf.tx.cwnd_room()).min(in_a_moment).min(BURST_MAX);
        (bytes as u32 / room).max(1)
    }

    /// Payload that fits beside the options of a data segment now.
    fn payload_room(&mut self, now: Instant, index: usize) -> u32 {
        let sf = &self.subflows[index];
        let room = sf.segment_room(self.options.mss_limit);
        if self.plain() {
            let infinite = if self.infinite_map.is_some() { 24 } else { 0 };
            return room
                .saturating_sub(if sf.timestamps { 12 } else { 0 } + infinite)
                .max(1);
        }
        let seq = sf.tx.snd_nxt();
        let probe = SendMap {
            dsn: Dsn(0),
            ssn: 0,
            len: 1,
            checksum: self.checksum.then_some(0),
        };
        let mut options = TcpOptions::default();
        if sf.timestamps {
            options.timestamps = Some(sf.timestamps_now(now));
        }
        self.map_option(&mut options, probe, self.as_capable(index, seq));
        room.saturating_sub(options_len(&options) as u32).max(1)
    }

    /// How much new data a segment takes: the window, Nagle (RFC 9293 section 3.7.4), TCP_CORK and silly windows (section 3.8.6.2.1)
    /// decide.
    /// One segment is `room` bytes; several full ones together are `most` bytes.
    fn new_data_len(&mut self, now: Instant, room: u32, most: u32) -> Option<u32> {
        let out = &self.out;
        let waiting = out.buf.end().diff(out.nxt).max(0) as u64;
        let window = out.edge.diff(out.nxt).max(0) as u64;
        let sendable = waiting.min(window);
        if sendable >= u64::from(2 * room) {
            let sendable = sendable.min(u64::from(most)) as u32;
            return Some((sendable - sendable % room).max(room));
        }
        let len = sendable.min(u64::from(room));
        if len == 0 {
            return None;
        }
        let full = len == u64::from(room);
        let all = len == waiting;
        let outstanding = out.nxt != out.una;
        // Half of the largest window is worth a segment too: the peer's whole buffer may be smaller than one (section 3.8.6.2.1).
        let largest = self.subflows.iter().map(|s| s.max_window).max().unwrap_or(0);
        let half = len >= u64::from(largest / 2);
        let full = full || half;
        let go = full || !outstanding || (all && (self.options.nodelay || out.fin_queued));
        (go && (full || out.fin_queued || !self.is_corked(now))).then_some(len as u32)
    }

    /// An incomplete segment that could leave now has to wait (TCP_CORK).
    fn is_corked(&mut self, now: Instant) -> bool {
        if !self.options.cork {
            return false;
        }
        if self.out.cork == Cork::Idle {
            self.out.cork = Cork::Until(now + CORKED_MAX);
        }
        self.out.cork != Cork::Expired
    }

    /// A run of `len` bytes in segments of `room` bytes under one mapping, each of which is remembered for itself.
    pub(super) fn plan_segment(
        &mut self,
        ctx: &mut Ctx<'_>,
        index: usize,
        dsn: Dsn,
        (len, room): (u32, u32),
        kind: Kind,
    ) -> Plan {
        let sf = &self.subflows[index];
        let seq = sf.tx.snd_nxt();
        let ssn = sf.ssn_out(seq);
        let map = self.multipath().then(|| {
            let checksum = self
                .checksum
                .then(|| crypto::dss_checksum(dsn, ssn, len as u16, self.out.buf.slices(dsn, len as usize)));
            SendMap {
                dsn,
                ssn,
                len: len as u16,
                checksum,
            }
        });
        let capable = self.as_capable(index, seq);
        let shown = map.or_else(|| self.infinite(dsn, ssn));
        let options = self.established_options(ctx.now, index, shown.map(|m| (m, capable)), len.min(room));
        let end = dsn + u64::from(len);
        let push = end == self.out.buf.end();
        let header = self.established_header(index, seq, if push { Flags::PSH } else { Flags(0) });
        match kind {
            Kind::New => {
                if self.out.una == self.out.nxt {
                    self.out.progress_at = ctx.now;
                }
                self.out.nxt = end;
                self.out.cork = Cork::Idle;
            }
            Kind::Again(at) => {
                self.out.reinject[at].from = end;
                if end.ge(self.out.reinject[at].to) {
                    self.out.reinject.remove(at);
                }
            }
            Kind::Copy => {}
        }
        if self.fin_ready() {
            self.data_fin_due = self.multipath() && !self.out.fin_acked;
        }
        self.subflows[index].position = Some(end);
        let acks = options.sack.is_empty() != self.subflows[index].rx.has_sack();
        let sf = &mut self.subflows[index];
        let mut at = 0;
        while at < len {
            let piece = room.min(len - at);
            sf.tx.on_sent(
                ctx.now,
                piece,
                false,
                SendTag {
                    dsn: dsn + u64::from(at),
                    map,
                    detached: None,
                    elsewhere: !matches!(kind, Kind::New),
                },
            );
            at += piece;
        }
        sf.bytes_sent += u64::from(len);
        if capable {
            sf.keys_shown = true;
        } else {
            sf.rx.on_ack_sent(acks);
        }
        Plan {
            tuple: sf.tuple,
            iface: sf.iface,
            header,
            options,
            payload: Payload::Stream(dsn, len),
            segment_size: if len > room { room as u16 } else { 0 },
        }
    }

    // ---- FIN and acknowledgments ------------------------------------------------------------------------------

    pub(super) fn plan_fin(&mut self, ctx: &mut Ctx<'_>, index: usize) -> Option<Plan> {
        let plain = self.plain();
        let data_left = plain && self.out.nxt != self.out.buf.end();
        let sf = &self.subflows[index];
        if !sf.close_queued || !sf.state.can_send() || sf.tx.fin_sent() || data_left {
            return None;
        }
        let seq = sf.tx.snd_nxt();
        let options = self.established_options(ctx.now, index, None, 0);
        let header = self.established_header(index, seq, Flags::FIN);
        let dsn = self.out.nxt;
        let sf = &mut self.subflows[index];
        sf.state = if sf.state == State::CloseWait {
            State::LastAck
        } else {
            State::FinWait1
        };
        sf.tx.on_sent(
            ctx.now,
            0,
            true,
            SendTag {
                dsn,
                map: None,
                detached: None,
                elsewhere: false,
            },
        );
        sf.rx.on_ack_sent(true);
        Some(Plan {
            tuple: sf.tuple,
            iface: sf.iface,
            header,
            options,
            payload: Payload::None,
            segment_size: 0,
        })
    }

    pub(super) fn plan_ack(&mut self, ctx: &mut Ctx<'_>, index: usize) -> Option<Plan> {
        let sf = &self.subflows[index];
        let keys_first = self.role == Role::Client && sf.join.is_none() && !sf.confirmed && !sf.keys_shown;
        if self.data_fin_due && self.fin_ready() && self.multipath() && !keys_first {
            self.data_fin_due = false;
            for sf in self.subflows.iter_mut().filter(|s| s.is_up() && s.confirmed_enough()) {
                sf.rx.demand_ack();
            }
        }
        let sf = &self.subflows[index];
        if !sf.state.synchronized() {
            return None;
        }
        let multipath = self.multipath();
        if sf.probe_now {
            return Some(self.plan_probe(ctx, index));
        }
        let announce =
            sf.fail_now.is_some() || (multipath && sf.prio_now && sf.confirmed) || self.wants_to_announce(index);
        if !self.subflows[index].rx.ack_due() && !announce {
            return None;
        }
        let seq = self.subflows[index].tx.snd_nxt();
        let options = self.established_options(ctx.now, index, None, 0);
        let header = self.established_header(index, seq, Flags(0));
        let sf = &mut self.subflows[index];
        // An echo or announcement carries no DATA_ACK: the acknowledgment proper follows it.
        let complete = options.mptcp.add_addr.is_none();
        if complete {
            sf.rx.on_ack_sent(true);
        }
        Some(Plan {
            tuple: sf.tuple,
            iface: sf.iface,
            header,
            options,
            payload: Payload::None,
            segment_size: 0,
        })
    }

    /// Address signalling goes out on the first subflow that is up and not stalled.
    fn wants_to_announce(&self, index: usize) -> bool {
        self.multipath()
            && self.addresses.has_signal()
            && self.data_fin_option().is_none()
            && self
                .subflows
                .iter()
                .position(|s| s.is_up() && s.confirmed && !s.stalled)
                == Some(index)
    }

    /// A segment below the window: the peer answers with an acknowledgment (RFC 9293 section 3.8.4).
    pub(super) fn plan_probe(&mut self, ctx: &mut Ctx<'_>, index: usize) -> Plan {
        let seq = self.subflows[index].tx.snd_una() - 1;
        self.subflows[index].probe_now = false;
        let byte = core::mem::take(&mut self.subflows[index].probe_with_byte);
        let mut options = self.established_options(ctx.now, index, None, 0);
        if let Some(dss) = options.mptcp.dss.as_mut().filter(|_| byte) {
            // A map would claim the byte.
            dss.map = None;
            dss.data_fin = false;
        }
        let header = self.established_header(index, seq, Flags(0));
        let sf = &self.subflows[index];
        Plan {
            tuple: sf.tuple,
            iface: sf.iface,
            header,
            options,
            payload: if byte { Payload::Known } else { Payload::None },
            segment_size: 0,
        }
    }
}

impl Subflow {
    /// A DSS may go out here: the handshake of a join is complete.
    fn confirmed_enough(&self) -> bool {
        self.join.is_none() || self.confirmed
    }
}

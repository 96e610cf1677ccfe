//! Segments that arrive on a subflow (RFC 9293 section 3.10.7, RFC 5961, RFC 7323), and the MPTCP options in them.

use super::connection::{Connection, Ctx, Proto, TIGHT_BUFFER};
use super::crypto;
use super::endpoint::{ConnError, Event, Fallback};
use super::subflow::{Reset, SendTag, State};
use super::time_wait::TimeWait;
use crate::link::IcmpKind;
use crate::tcp::coupled::couple;
use crate::time::Duration;
use crate::wire::{Dss, Flags, MpCapable, MpJoin, MptcpOptions, Segment, SeqNum, TcpRst};

/// MP_CAPABLE flags (RFC 8684 section 3.1).
pub(super) const FLAG_CHECKSUM: u8 = 0x80;
pub(super) const FLAG_EXTENSIBILITY: u8 = 0x40;
pub(super) const FLAG_NO_JOIN_HERE: u8 = 0x20;
pub(super) const FLAG_SHA256: u8 = 0x01;
/// MP_TCPRST reasons (RFC 8684 section 3.6).
pub(super) const RST_MPTCP: u8 = 1;
pub(super) const RST_PROHIBITED: u8 = 3;
pub(super) const RST_MIDDLEBOX: u8 = 6;

/// Is this MP_CAPABLE one that we can answer or accept? (note C4, C5.)
pub(super) fn capable_ok(c: &MpCapable) -> bool {
    c.version == 1 && c.flags & 0x1f == FLAG_SHA256 && c.flags & FLAG_EXTENSIBILITY == 0
}

pub(super) fn reset_reason(reason: u8) -> Reset {
    Reset {
        reason: Some(TcpRst {
            transient: false,
            reason,
        }),
        ..Reset::default()
    }
}

impl Connection {
    /// A segment arrived on subflow `index`.
    pub(super) fn handle_segment(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) {
        if self.subflows[index].reset.is_some() {
            return;
        }
        self.subflows[index].note_arrival(ctx.now, seg, self.options.mss_limit);
        match self.subflows[index].state {
            State::SynSent => self.on_syn_sent(ctx, index, seg),
            State::SynReceived => self.on_syn_received(ctx, index, seg),
            _ => self.on_synchronized(ctx, index, seg),
        }
    }

    /// In SYN-SENT: an acknowledgment of something that is not our SYN.
    pub(super) fn acks_another_syn(&self, subflow: super::endpoint::SubflowId, seg: &Segment<'_>) -> bool {
        let h = &seg.header;
        let sf = self.subflow_index(subflow).map(|i| &self.subflows[i]);
        h.flags.has(Flags::ACK)
            && !h.flags.has(Flags::RST)
            && sf.is_some_and(|s| s.state == State::SynSent && h.ack != s.iss + 1)
    }

    // ---- synchronized states ----------------------------------------------------------------------------------

    pub(super) fn on_synchronized(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) {
        let h = &seg.header;
        if !self.paws_ok(ctx, index, seg) {
            return;
        }
        let sf = &mut self.subflows[index];
        let len = seg.payload.len() as u32 + u32::from(h.flags.has(Flags::FIN));
        let nxt = sf.rx.rcv_nxt();
        let window = (self.inc.buf.advertised() as u32).max(1 << 16);
        if h.flags.has(Flags::RST) {
            self.on_rst(ctx, index, seg, window);
            return;
        }
        if h.flags.has(Flags::SYN) {
            // RFC 5961 section 4.2; a repeated SYN/ACK means that our third ACK was lost.
            if h.flags.has(Flags::ACK) && h.seq == sf.irs {
                sf.rx.demand_ack();
            } else {
                sf.challenge(ctx.now);
            }
            return;
        }
        if h.seq.gt(nxt + window) {
            sf.challenge(ctx.now);
            return;
        }
        // RFC 9293 section 3.10.7.4, first check: what lies wholly below the window says nothing, but is answered; keepalives
        // and window probes are such segments.
        if (h.seq + len).lt(sf.rx.last_acked()) {
            if len == 0 {
                sf.challenge(ctx.now);
            } else {
                sf.rx.note_duplicate(h.seq, seg.payload.len() as u32);
            }
            return;
        }
        if !h.flags.has(Flags::ACK) {
            return;
        }
        // RFC 5961 section 5.2.
        if h.ack.gt(sf.tx.snd_nxt()) || h.ack.lt(sf.tx.snd_una() - sf.max_window.max(1 << 16)) {
            sf.challenge(ctx.now);
            return;
        }
        sf.rx.last_arrival = ctx.now;
        sf.silence_probes = 0;
        sf.silence_at = None;
        sf.keepalive_probes = 0;
        sf.keepalive_sent = None;
        self.update_timestamps(ctx, index, seg);
        if !self.on_mptcp_options(ctx, index, seg) {
            return;
        }
        if !self.on_ack(ctx, index, seg) {
            return;
        }
        // Not before: what this segment acknowledges on both levels needs no copy for the subflow's sake.
        self.release_acked();
        if len > 0 {
            self.on_payload(ctx, index, seg);
        } else if h.seq.lt(self.subflows[index].rx.rcv_nxt()) {
            // RFC 9293 section 3.10.7.4: an unacceptable segment, a keepalive or window probe, is answered.
            self.subflows[index].rx.demand_ack();
        }
        self.after_input(ctx);
    }

    /// RFC 7323 section 5.3: true when the segment is not older than what came before.
    fn paws_ok(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) -> bool {
        let sf = &mut self.subflows[index];
        let (true, Some(ts)) = (sf.timestamps, seg.options.timestamps) else {
            return true;
        };
        if seg.header.flags.has(Flags::RST) {
            return true;
        }
        let older = (ts.val.wrapping_sub(sf.ts_recent) as i32) < 0;
        let idle = ctx.now.since(sf.ts_recent_at) > Duration::from_secs(24 * 24 * 3600);
        if older && !idle && sf.rx.rcv_nxt() != sf.irs {
            // A reordered segment within the window fails too; its retransmission carries a newer value.
            if seg.payload.is_empty() && seg.header.seq == sf.rx.rcv_nxt() {
                return true;
            }
            sf.rx.demand_ack();
            return false;
        }
        true
    }

    fn update_timestamps(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) {
        let sf = &mut self.subflows[index];
        let (true, Some(ts)) = (sf.timestamps, seg.options.timestamps) else {
            return;
        };
        // RFC 7323 section 4.3 (2): only from the segment that covers the left edge.
        if seg.header.seq.le(sf.rx.last_acked()) && (ts.val.wrapping_sub(sf.ts_recent) as i32) >= 0 {
            sf.ts_recent = ts.val;
            sf.ts_recent_at = ctx.now;
        }
    }

    /// RFC 5961 section 3.2, RFC 8684 sections 3.5 and 3.6.
    fn on_rst(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>, window: u32) {
        let multipath = self.multipath();
        let sf = &mut self.subflows[index];
        let nxt = sf.rx.rcv_nxt();
        if seg.header.seq.lt(nxt) || seg.header.seq.ge(nxt + window) {
            return;
        }
        let key_right = seg.options.mptcp.fastclose == Some(self.local_key) && multipath;
        // A RST of a request socket has the sequence number after the SYN (golden run J).
        if seg.header.seq != nxt && !key_right {
            sf.challenge(ctx.now);
            return;
        }
        if key_right {
            let others = self.subflows.len() > 1;
            self.release(ctx, index, None);
            self.break_with(ctx, ConnError::Reset, others.then(Reset::default));
            return;
        }
        let sf = &self.subflows[index];
        if sf.join.is_some_and(|j| j.initiator) && !sf.confirmed {
            let reason = seg.options.mptcp.tcprst.map(|r| r.reason);
            self.addresses.on_join_failed(ctx.now, sf, reason);
            self.release(ctx, index, None);
            return;
        }
        let both_done = self.finished() || (self.plain() && self.out.fin_acked && self.inc_finished());
        if both_done {
            self.release(ctx, index, None);
        } else {
            self.subflow_lost(ctx, index, ConnError::Reset);
        }
    }

    // ---- MPTCP options ----------------------------------------------------------------------------------------

    /// False when the segment must not be processed further.
    fn on_mptcp_options(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) -> bool {
        let o = &seg.options.mptcp;
        if !self.multipath() {
            // RFC 8684 section 3.7: MP_FAIL and the infinite mapping are the answer to our MP_FAIL.
            if o.fail.is_some() || o.dss.and_then(|d| d.map).is_some_and(|m| m.len == 0) {
                self.fail_deadline = None;
            }
            return true;
        }
        if let Some(key) = o.fastclose {
            // RFC 8684 section 3.5: a wrong key is ignored; on an ACK it is answered with RSTs.
            if key == self.local_key {
                self.break_with(ctx, ConnError::Reset, Some(Reset::default()));
                return false;
            }
        }
        self.confirm(ctx, index, o);
        if matches!(o.join, Some(MpJoin::Ack { .. })) {
            // RFC 8684 section 3.2: it comes again until the fourth ACK arrives.
            self.subflows[index].rx.demand_ack();
        }
        if let Some(dss) = &o.dss {
            self.bare_run = 0;
            self.on_dss(ctx, index, seg, dss);
        } else if o.capable.is_some() {
            // The peer still shows its keys: it has seen no DSS of ours.
            self.bare_run = self.bare_run.saturating_add(1);
        } else if !self.no_way_back && o.is_empty() {
            self.bare_run = self.bare_run.saturating_add(1);
            self.suspect_stripping(ctx, index, seg);
            if self.error.is_some() || self.plain() {
                return self.error.is_none();
            }
        }
        if let Some(backup) = o.prio {
            self.subflows[index].remote_backup = backup;
        }
        if let Some(add) = &o.add_addr {
            self.on_add_addr(ctx, add);
        }
        if let Some(remove) = &o.remove_addr {
            self.on_remove_addr(ctx, remove.ids());
        }
        if let Some(dsn) = o.fail {
            self.on_mp_fail(ctx, index, dsn);
        }
        self.error.is_none()
    }

    /// The peer showed that it has our key (first subflow), or acknowledged our join.
    fn confirm(&mut self, ctx: &mut Ctx<'_>, index: usize, o: &MptcpOptions) {
        let first_proof = o.dss.is_some() || o.add_addr.is_some_and(|a| a.hmac.is_some());
        if o.dss.is_some() {
            self.dss_seen = true;
        }
        let sf = &mut self.subflows[index];
        if sf.confirmed {
            return;
        }
        match sf.join {
            None if first_proof => {
                sf.confirmed = true;
                self.addresses.fully_established = true;
            }
            // RFC 8684 section 3.2: the fourth ACK.
            Some(j) if j.initiator && o.join.is_none() => {
                sf.confirmed = true;
                sf.join_ack_timer = None;
                self.no_way_back = true;
                let (id, tuple) = (sf.id, sf.tuple);
                self.addresses.on_join_up();
                ctx.events.push_back(Event::SubflowUp {
                    conn: self.id,
                    subflow: id,
                    tuple,
                });
            }
            _ => {}
        }
    }

    /// Data before any DSS, or an acknowledgment of our first data without one: a middlebox removed it (RFC 8684 section 3.7).
    fn suspect_stripping(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) {
        let sf = &self.subflows[index];
        // Our first data acknowledged, but not at data level.
        let acks_data = seg.header.ack.gt(sf.iss + 1) && self.out.acked == 0;
        let carries = !seg.payload.is_empty() || seg.header.flags.has(Flags::FIN);
        if (acks_data || (carries && !self.dss_seen)) && sf.join.is_none() {
            self.fall_back(ctx, Fallback::OptionsStripped, true);
        }
    }

    fn on_dss(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>, dss: &Dss) {
        if let Some(ack) = dss.data_ack {
            let ack = ack.expand(self.out.una);
            let window = self.subflows[index].window_of(&seg.header);
            self.on_data_ack(ctx, ack, window);
        }
        if dss.map.is_some_and(|m| m.len == 0) && seg.payload.is_empty() {
            self.on_infinite_map(ctx, index);
        } else if dss.map.is_some_and(|m| m.ssn == 0) {
            self.on_bare_data_fin(ctx, index, &seg.options.mptcp);
        }
    }

    /// RFC 8684 section 3.3.2; an acknowledgment of what was never sent is ignored (note D5).
    fn on_data_ack(&mut self, ctx: &mut Ctx<'_>, ack: crate::wire::Dsn, window: u32) {
        let end = self.out.nxt + u64::from(self.out.fin_queued && self.fin_ready());
        if ack.gt(end) {
            return;
        }
        if ack.gt(self.out.una) {
            self.advance_una(ctx, ack);
        }
        let edge = ack + u64::from(window);
        if edge.gt(self.out.edge) {
            self.out.edge = edge;
            self.persist = None;
            self.persist_backoff = 0;
        }
    }

    fn advance_una(&mut self, ctx: &mut Ctx<'_>, ack: crate::wire::Dsn) {
        let fin = self.fin_dsn();
        let data = ack.min(fin);
        self.out.acked = self.out.acked.wrapping_add(data.diff(self.out.una).max(0) as u64);
        self.out.una = data;
        self.out.progress_at = ctx.now;
        self.data_backoff = 0;
        self.data_timer = None;
        self.out.forget_acknowledged();
        if self.infinite_map.is_some_and(|from| data.gt(from)) {
            self.infinite_map = None;
        }
        if self.out.fin_queued && ack.gt(fin) && !self.out.fin_acked {
            self.on_fin_acked(ctx);
        }
        self.tell_writable(ctx);
    }

    fn on_fin_acked(&mut self, ctx: &mut Ctx<'_>) {
        self.out.fin_acked = true;
        self.data_fin_due = false;
        ctx.events.push_back(Event::Flushed(self.id));
    }

    /// MP_FAIL (RFC 8684 section 3.7): the peer saw a wrong checksum in what we sent.
    fn on_mp_fail(&mut self, ctx: &mut Ctx<'_>, index: usize, _dsn: crate::wire::Dsn) {
        if self.subflows.len() == 1 && !self.no_way_back {
            let answered = self.fail_deadline.is_some();
            if !answered {
                let dsn = self.data_ack();
                self.subflows[index].fail_now = Some(dsn);
            }
            self.fall_back(ctx, Fallback::ChecksumFailed, true);
        }
    }

    // ---- acknowledgment and payload ---------------------------------------------------------------------------

    /// Subflow-level acknowledgment. False when the subflow is gone after it.
    fn on_ack(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) -> bool {
        let plain = self.plain();
        let sf = &mut self.subflows[index];
        let before = sf.last_window;
        let window = sf.window_of(&seg.header);
        if seg.header.ack.lt(sf.tx.snd_una()) {
            return true;
        }
        // RFC 5681 section 2. With DSS options an acknowledgment may be about another subflow.
        let duplicate = plain
            && window == before
            && seg.header.ack == sf.tx.snd_una()
            && seg.payload.is_empty()
            && !seg.header.flags.has(Flags::FIN);
        let sack = if sf.sack { seg.options.sack } else { Default::default() };
        let echo = seg.options.timestamps.and_then(|ts| sf.echoed(ctx.now, ts.ecr));
        self.couple(index);
        let sf = &mut self.subflows[index];
        let outcome = sf
            .tx
            .on_ack(ctx.now, seg.header.ack, sack.as_slice(), echo, SendTag::trim);
        let found = !sf.sack && {
            sf.tx.without_sack();
            duplicate && sf.tx.on_duplicate(ctx.now)
        };
        if outcome.acked > 0 {
            sf.one_at_a_time = false;
            sf.stalled = false;
        }
        if outcome.lost || found {
            self.reinject_lost(index);
        }
        let sf = &mut self.subflows[index];
        if plain {
            let idsn = crypto::idsn(self.local_key);
            let ssn = u64::from(sf.ssn_out(seg.header.ack));
            let end = self.out.buf.end();
            // 32-bit sequence numbers: complete the number near what is known.
            let acked = (self.out.una.expand((idsn + ssn).0 as u32)).min(end).max(self.out.una);
            let fin_acked = outcome.fin_acked;
            self.on_data_ack(ctx, acked, window);
            if fin_acked && !self.out.fin_acked {
                self.on_fin_acked(ctx);
            }
        }
        if outcome.fin_acked {
            return self.on_subflow_fin_acked(ctx, index);
        }
        true
    }

    /// Coupled congestion control: what the subflows together mean for this one.
    fn couple(&mut self, index: usize) {
        if !self.options.congestion.is_coupled() {
            return;
        }
        let mut flows = Vec::with_capacity(self.subflows.len());
        let mut own = None;
        for (i, sf) in self.subflows.iter().enumerate().filter(|(_, s)| s.is_up()) {
            if let Some((rule, flow)) = sf.tx.cc.coupled_flow(sf.tx.rtt.srtt()) {
                own = if i == index { Some((rule, flows.len())) } else { own };
                flows.push(flow);
            }
        }
        let Some((rule, at)) = own else { return };
        self.subflows[index].tx.cc.set_coupling(couple(rule, &flows, at));
    }

    fn on_subflow_fin_acked(&mut self, ctx: &mut Ctx<'_>, index: usize) -> bool {
        // Half-closed plain TCP may last; a subflow that is closed on our side alone has nothing to wait for.
        let multipath = self.multipath();
        let sf = &mut self.subflows[index];
        match sf.state {
            State::FinWait1 => {
                sf.state = State::FinWait2;
                if multipath {
                    sf.deadline.get_or_insert(ctx.now + super::connection::ORPHAN);
                }
                true
            }
            State::Closing => {
                self.enter_time_wait(ctx, index);
                false
            }
            State::LastAck => {
                self.release(ctx, index, None);
                false
            }
            _ => true,
        }
    }

    pub(super) fn enter_time_wait(&mut self, ctx: &mut Ctx<'_>, index: usize) {
        let sf = &self.subflows[index];
        let timestamps = sf.timestamps.then_some((sf.ts_offset, sf.ts_recent));
        let tw = TimeWait {
            snd_nxt: sf.tx.snd_nxt(),
            rcv_nxt: sf.rx.rcv_nxt(),
            timestamps,
            manner: self.manner(sf.iface),
            opening: false,
        };
        self.release(ctx, index, Some(tw));
    }

    fn on_payload(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) {
        use crate::tcp::receiver::Arrival;
        let fin = seg.header.flags.has(Flags::FIN);
        let sf = &mut self.subflows[index];
        if matches!(sf.state, State::CloseWait | State::Closing | State::LastAck) {
            // The peer has closed already: only repetitions can come.
            sf.rx.note_duplicate(seg.header.seq, seg.payload.len() as u32);
            return;
        }
        // Linux (`tcp_data_queue`) drops what it has no memory for, too; its acknowledgment was taken.
        if !seg.payload.is_empty() && self.share.is_exhausted(TIGHT_BUFFER) {
            return;
        }
        sf.got_payload |= !seg.payload.is_empty();
        match sf.rx.classify(seg.header.seq, seg.payload.len(), fin) {
            Arrival::Duplicate => sf.rx.note_duplicate(seg.header.seq, seg.payload.len() as u32),
            Arrival::Ahead => {
                let limit = self.options.recv_buffer;
                sf.rx.store(seg.header.seq, seg.payload, fin, seg.options, limit);
            }
            Arrival::InOrder { skip } => {
                let known = u32::try_from(skip).unwrap_or(0);
                let at = seg.header.seq + known;
                if !self.take_in_order(ctx, index, at, &seg.payload[skip..], fin, &seg.options.mptcp) {
                    return;
                }
                if fin {
                    self.subflows[index].rx.discard_stored();
                }
                while let Some((stored, skip)) = self.subflows[index].rx.pop_ready() {
                    let at = stored.seq + skip as u32;
                    let end = stored.seq + stored.payload.len() as u32 + u32::from(stored.fin);
                    if !self.take_in_order(ctx, index, at, &stored.payload[skip..], stored.fin, &stored.tag.mptcp) {
                        if let Some(sf) = self.subflows.get_mut(index) {
                            sf.rx.withdraw(stored.seq, end);
                        }
                        return;
                    }
                    if stored.fin {
                        self.subflows[index].rx.discard_stored();
                    }
                }
            }
        }
    }

    /// The next bytes of a subflow. False when the subflow is gone, or the bytes were not taken.
    fn take_in_order(
        &mut self,
        ctx: &mut Ctx<'_>,
        index: usize,
        seq: SeqNum,
        payload: &[u8],
        fin: bool,
        options: &MptcpOptions,
    ) -> bool {
        let had = self.inc.buf.nxt();
        let mut taken = payload.len();
        if self.plain() {
            // Plain TCP: beyond the window is not acknowledged either.
            taken = taken.min(self.inc.buf.advertised());
            let at = self.inc.buf.nxt();
            self.inc.buf.insert(at, &payload[..taken]);
        } else {
            match self.map_in(ctx, index, seq, payload, options) {
                super::mapping::Mapped::Done => {}
                super::mapping::Mapped::Plain(done) => {
                    self.subflows[index].rx.advance(ctx.now, done as u32);
                    return self.take_in_order(ctx, index, seq + done as u32, &payload[done..], fin, options);
                }
                super::mapping::Mapped::Part(done) => taken = done,
                super::mapping::Mapped::Gone => return false,
            }
        }
        if self.detached && self.inc.buf.ready() > 0 {
            // RFC 1122 section 4.2.2.13: new data for a closed receiver is answered with a reset.
            self.abort(ctx);
            return false;
        }
        let whole = taken == payload.len();
        let sf = &mut self.subflows[index];
        sf.bytes_received += taken as u64;
        if taken > 0 {
            sf.rx.advance(ctx.now, taken as u32);
        }
        if self.inc.buf.nxt() != had {
            self.tell_readable(ctx);
        }
        if !whole {
            self.subflows[index].rx.demand_ack();
            return false;
        }
        !fin || self.on_subflow_fin(ctx, index)
    }

    /// A FIN in order. True: the subflow lives on.
    fn on_subflow_fin(&mut self, ctx: &mut Ctx<'_>, index: usize) -> bool {
        let plain = self.plain();
        let sf = &mut self.subflows[index];
        sf.rx.advance(ctx.now, 1);
        sf.rx.demand_ack();
        if plain && self.inc.fin.is_none() {
            self.inc.fin = Some(self.inc.buf.nxt());
            self.tell_readable(ctx);
        }
        let sf = &mut self.subflows[index];
        match sf.state {
            State::Established => sf.state = State::CloseWait,
            State::FinWait1 => sf.state = State::Closing,
            State::FinWait2 => {
                // The acknowledgment leaves from the TIME_WAIT table.
                self.enter_time_wait(ctx, index);
                return false;
            }
            _ => {}
        }
        if !plain {
            let others = self.subflows.iter().enumerate().any(|(i, s)| i != index && s.usable());
            if others {
                self.reinject_stalled(index);
                self.subflows[index].close_queued = true;
            }
        }
        true
    }

    /// After every segment: closing, joins, errors.
    pub(super) fn after_input(&mut self, ctx: &mut Ctx<'_>) {
        if self.error.is_some() {
            return;
        }
        self.update_close(ctx);
        self.evaluate_paths(ctx);
    }

    // ---- ICMP -------------------------------------------------------------------------------------------------

    /// RFC 5927 section 4.1: `seq` must be something in flight; RFC 1122 section 4.2.3.9.
    pub(super) fn handle_icmp(&mut self, ctx: &mut Ctx<'_>, index: usize, seq: Option<SeqNum>, kind: IcmpKind) {
        let sf = &mut self.subflows[index];
        let in_flight = match sf.state {
            State::SynSent | State::SynReceived => seq.is_none_or(|s| s == sf.iss),
            _ => seq.is_none_or(|s| s.ge(sf.tx.snd_una() - 1) && s.le(sf.tx.snd_nxt())),
        };
        if !in_flight {
            return;
        }
        match kind {
            IcmpKind::PacketTooBig { mtu } => self.on_packet_too_big(ctx, index, mtu),
            IcmpKind::Unreachable { errno } => {
                if sf.state == State::SynSent {
                    if sf.join.is_some() {
                        self.addresses.on_join_failed(ctx.now, &self.subflows[index], None);
                        self.release(ctx, index, None);
                    } else {
                        self.release(ctx, index, None);
                        self.break_with(ctx, ConnError::Unreachable(errno), None);
                    }
                } else {
                    self.soft_error = Some(errno);
                }
            }
        }
    }

    /// RFC 8201, RFC 1191: smaller segments from now on, and what was too big again.
    fn on_packet_too_big(&mut self, ctx: &mut Ctx<'_>, index: usize, mtu: u32) {
        let limit = self.options.mss_limit;
        let sf = &mut self.subflows[index];
        let floor = if sf.tuple.local.is_ipv4() { 552 } else { 1280 };
        let mtu = mtu.max(floor);
        if mtu >= sf.mtu {
            return;
        }
        sf.mtu = mtu;
        let options = if sf.timestamps { 12 } else { 0 };
        sf.tx.set_mss(sf.segment_room(limit).saturating_sub(options));
        let fits = self.payload_that_fits(index, !matches!(self.proto, Proto::Plain(Fallback::NotAsked)));
        self.subflows[index].tx.mark_oversized(ctx.now, fits);
    }
}

//! One connection: both directions of its byte stream, its subflows, its life from SYN to the last FIN.
//!
//! The work is cut by direction: `input` takes segments, `output` makes them, `mapping` ties subflow and data sequence
//! numbers on receipt, `addresses` opens and announces paths, `timers` acts when nothing comes.

use super::addresses::Addresses;
use super::crypto;
use super::endpoint::{
    CallError, ConnError, ConnId, ConnInfo, ConnOptions, Event, Fallback, FourTuple, LocalPath, LowLatency, Repair,
    SubflowId, SubflowInfo, Traffic,
};
use super::memory::Share;
use super::pattern::WritePattern;
use super::recv_buffer::RecvBuffer;
use super::reinjection::Again;
use super::scheduler;
use super::send_buffer::SendBuffer;
use super::subflow::{Reset, State, Subflow};
use super::tally::{Tally, Waits};
use super::time_wait::TimeWait;
use crate::time::{Duration, Instant};
use crate::wire::{Dsn, SeqNum, TcpRst};
use std::collections::VecDeque;

/// A closed connection whose peer never closes is forgotten after this (Linux: tcp_fin_timeout).
pub(super) const ORPHAN: Duration = Duration::from_secs(60);
/// How long a subflow's FIN may wait for its answer when both data streams are complete.
const LINGERING_FIN: Duration = Duration::from_secs(60);
/// How many bare acknowledgments carry the infinite mapping: it takes the room of SACK blocks.
const INFINITE_ACKS: u8 = 3;
/// A send buffer that its option does not hold smaller has this much room.
const SEND_BUFFER_MIN: usize = 1 << 20;
/// What either buffer holds at the most while all connections together hold more than their budget of memory.
pub(super) const TIGHT_BUFFER: usize = 1 << 16;
/// Bytes that the peer acknowledged but a subflow still has to repeat stay in the send buffer up to this, then they move to the segment.
const SLACK: u64 = 256 << 10;

/// What a call of the core may touch outside the connection.
pub(super) struct Ctx<'a> {
    pub now: Instant,
    pub events: &'a mut VecDeque<Event>,
    /// Subflows that ended, for the endpoint's tables.
    pub released: &'a mut Vec<Released>,
}

/// A subflow that is over.
pub(super) struct Released {
    pub conn: ConnId,
    pub subflow: SubflowId,
    pub tuple: FourTuple,
    /// It ends in TIME_WAIT: what a late segment is answered with.
    pub time_wait: Option<TimeWait>,
}

impl Released {
    /// Its 4-tuple may be used again.
    pub fn gone(&self) -> Event {
        Event::SubflowGone {
            conn: self.conn,
            subflow: self.subflow,
            tuple: self.tuple,
        }
    }
}

/// How a segment leaves, besides its addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    pub iface: u32,
    pub tos: u8,
    pub ttl: u8,
    pub mark: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Client,
    Server,
}

/// Which protocol the connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Proto {
    /// MP_CAPABLE was sent, not answered.
    Negotiating,
    Multipath,
    Plain(Fallback),
}

/// The sending direction.
#[derive(Debug)]
pub(super) struct Outgo {
    pub buf: SendBuffer,
    /// Everything before is acknowledged at data level.
    pub una: Dsn,
    /// Next number to send for the first time (the DATA_FIN not counted).
    pub nxt: Dsn,
    /// Right edge of the peer's window; never moves back (note D9).
    pub edge: Dsn,
    pub fin_queued: bool,
    pub fin_acked: bool,
    /// Ranges to send again on another subflow.
    pub reinject: VecDeque<Again>,
    /// What lies before was looked at for an earlier arrival elsewhere.
    pub rescued: Dsn,
    /// What the scheduler remembers.
    pub memory: scheduler::Memory,
    pub cork: Cork,
    /// `send` took less than offered: say when there is room.
    pub blocked: bool,
    pub acked: u64,
    /// When `una` last moved, or data went out with nothing outstanding.
    pub progress_at: Instant,
}

/// What TCP_CORK does with an incomplete segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cork {
    /// None was held back.
    Idle,
    /// One waits, at most until then.
    Until(Instant),
    /// One has waited long enough.
    Expired,
}

/// The receiving direction.
#[derive(Debug)]
pub(super) struct Income {
    pub buf: RecvBuffer,
    /// Number of the peer's DATA_FIN, once known.
    pub fin: Option<Dsn>,
    /// The peer maps with 64 bits: so our DATA_ACKs have 64 (note D3).
    pub long: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub id: ConnId,
    pub options: ConnOptions,
    pub role: Role,
    pub proto: Proto,
    pub first: FourTuple,
    pub subflows: Vec<Subflow>,
    pub next_subflow: u32,
    pub local_key: u64,
    pub remote_key: u64,
    pub local_token: u32,
    pub remote_token: u32,
    pub checksum: bool,
    pub out: Outgo,
    pub inc: Income,
    pub addresses: Addresses,
    /// A DSS of the peer came: it is an MPTCP peer beyond doubt.
    pub dss_seen: bool,
    /// Segments without any MPTCP option that came in a row.
    pub bare_run: u8,
    /// There was a second subflow, or a data-level retransmission: no way back to TCP (note F5).
    pub no_way_back: bool,
    /// After falling back: tell it by infinite mappings until what was sent from this number on is acknowledged.
    pub infinite_map: Option<Dsn>,
    /// Bare acknowledgments that still say it, for a side that sends no data.
    pub infinite_acks: u8,
    pub established: bool,
    pub error: Option<ConnError>,
    pub soft_error: Option<i32>,
    /// `Readable` is queued and was not polled yet.
    pub readable_told: bool,
    /// The application is gone.
    pub detached: bool,
    pub data_timer: Option<Instant>,
    pub data_backoff: u32,
    pub persist: Option<Instant>,
    pub persist_backoff: u32,
    /// When the window was found closed.
    pub persist_since: Instant,
    /// It stands in the endpoint's queue of those that may have something to send.
    pub queued: bool,
    /// End of waiting: for the peer's close, or for a subflow to come back.
    pub give_up: Option<Instant>,
    /// Answer to MP_FAIL is awaited until then (note S4).
    pub fail_deadline: Option<Instant>,
    pub data_fin_due: bool,
    pub writes: WritePattern,
    /// What went over subflows that are no more.
    pub past: Tally,
    pub waits: Waits,
    /// Of the memory that all connections have together.
    pub share: Share,
}

impl Connection {
    pub fn new(
        now: Instant,
        id: ConnId,
        role: Role,
        first: FourTuple,
        path: LocalPath,
        options: ConnOptions,
        key: u64,
    ) -> Self {
        let idsn = crypto::idsn(key);
        let proto = if options.multipath {
            Proto::Negotiating
        } else {
            Proto::Plain(Fallback::NotAsked)
        };
        let recv_buffer = RecvBuffer::new(Dsn(0), options.recv_buffer_first, options.recv_buffer);
        let mut addresses = Addresses::new(path);
        addresses.forbid_join_here = role == Role::Server && options.join_after == u64::MAX;
        Connection {
            id,
            role,
            proto,
            first,
            subflows: Vec::with_capacity(1),
            next_subflow: 0,
            local_key: key,
            remote_key: 0,
            local_token: crypto::token(key),
            remote_token: 0,
            checksum: options.checksum,
            out: Outgo {
                buf: SendBuffer::new(idsn + 1),
                una: idsn + 1,
                nxt: idsn + 1,
                edge: idsn + 1,
                fin_queued: false,
                fin_acked: false,
                reinject: VecDeque::new(),
                rescued: idsn + 1,
                memory: scheduler::Memory::default(),
                cork: Cork::Idle,
                blocked: false,
                acked: 0,
                progress_at: now,
            },
            inc: Income {
                buf: recv_buffer,
                fin: None,
                long: false,
            },
            addresses,
            dss_seen: false,
            bare_run: 0,
            no_way_back: false,
            infinite_map: None,
            infinite_acks: 0,
            established: false,
            error: None,
            soft_error: None,
            readable_told: false,
            detached: false,
            data_timer: None,
            data_backoff: 0,
            persist: None,
            persist_backoff: 0,
            persist_since: now,
            queued: false,
            give_up: None,
            fail_deadline: None,
            data_fin_due: false,
            writes: WritePattern::default(),
            past: Tally::new(now),
            waits: Waits::default(),
            share: Share::default(),
            options,
        }
    }

    // ---- questions --------------------------------------------------------------------------------------------

    pub fn multipath(&self) -> bool {
        self.proto == Proto::Multipath
    }

    pub fn plain(&self) -> bool {
        matches!(self.proto, Proto::Plain(_))
    }

    pub fn subflow_index(&self, id: SubflowId) -> Option<usize> {
        self.subflows.iter().position(|s| s.id == id)
    }

    /// One past the last byte that will ever be sent: the DATA_FIN's number.
    pub fn fin_dsn(&self) -> Dsn {
        self.out.buf.end()
    }

    /// All data was sent once and the end is queued.
    pub fn fin_ready(&self) -> bool {
        self.out.fin_queued && self.out.nxt == self.out.buf.end()
    }

    /// The peer's stream has ended and all of it is here.
    pub fn inc_finished(&self) -> bool {
        self.inc.fin == Some(self.inc.buf.nxt())
    }

    /// DATA_ACK to send: the peer's DATA_FIN takes a number too.
    pub fn data_ack(&self) -> Dsn {
        self.inc.buf.nxt() + u64::from(self.inc_finished())
    }

    /// Nothing is left: no subflow, and nobody who asks.
    pub fn is_over(&self) -> bool {
        self.detached && self.subflows.is_empty()
    }

    /// A server's connection that was not accepted yet: no event named it.
    pub fn unheard(&self) -> bool {
        self.role == Role::Server && !self.established
    }

    /// How segments of a subflow on `iface` leave.
    pub fn manner(&self, iface: u32) -> Manner {
        Manner {
            iface,
            tos: self.options.tos,
            ttl: self.options.ttl,
            mark: self.options.mark,
        }
    }

    /// Data rather waits for a fast path than takes a slow one.
    pub fn prefers_low_latency(&self) -> bool {
        match (self.options.low_latency, self.writes.traffic()) {
            (LowLatency::Never, _) | (LowLatency::UnlessBulk, Traffic::Bulk) => false,
            (LowLatency::WhenInteractive, traffic) => traffic == Traffic::Interactive,
            (LowLatency::Always | LowLatency::UnlessBulk, _) => true,
        }
    }

    pub fn send_space(&self) -> usize {
        if self.error.is_some() || self.out.fin_queued {
            return 0;
        }
        let held = self.out.buf.end().diff(self.out.una).max(0) as usize;
        self.send_limit().saturating_sub(held)
    }

    /// Bytes that the send buffer holds now at the most: what all paths together carry in twice the longest round trip, so that no path
    /// runs dry while the slowest one's acknowledgments are awaited.
    pub fn send_limit(&self) -> usize {
        let known = self.subflows.iter().filter(|s| s.usable() && !s.stalled);
        let (mut rate, mut longest) = (0.0, Duration::ZERO);
        for (srtt, cwnd) in known.filter_map(|s| Some((s.tx.rtt.srtt()?, s.tx.cc.cwnd()))) {
            rate += f64::from(cwnd) / srtt.as_secs_f64();
            longest = longest.max(srtt);
        }
        let wanted = 2.0 * rate * longest.as_secs_f64();
        let limit = (wanted as usize).max(SEND_BUFFER_MIN).min(self.options.send_buffer);
        match self.share.is_tight() {
            true => limit.min(TIGHT_BUFFER),
            false => limit,
        }
    }

    /// Counts what the buffers hold, and gives the receiving one the limit that follows.
    pub fn note_memory(&mut self) {
        self.share.set(self.out.buf.capacity() + self.inc.buf.capacity());
        let bound = if self.share.is_tight() {
            TIGHT_BUFFER
        } else {
            usize::MAX
        };
        self.inc.buf.bound(bound);
    }

    /// Queues `Readable`, once until it is polled.
    pub fn tell_readable(&mut self, ctx: &mut Ctx<'_>) {
        if !self.readable_told {
            self.readable_told = true;
            ctx.events.push_back(Event::Readable(self.id));
        }
    }

    // ---- the application --------------------------------------------------------------------------------------

    pub fn send(&mut self, now: Instant, data: &[u8]) -> Result<usize, CallError> {
        self.may_send()?;
        let n = self.send_space().min(data.len());
        self.note_write(now, n);
        self.out.buf.write(&data[..n]);
        self.out.blocked = n < data.len();
        Ok(n)
    }

    fn may_send(&self) -> Result<(), CallError> {
        match self.error {
            Some(error) => Err(CallError::Broken(error)),
            None if self.out.fin_queued => Err(CallError::Shutdown),
            None => Ok(()),
        }
    }

    /// Where the next `count` bytes belong, as many as there is room for.
    pub fn send_room(&mut self, count: usize) -> Result<[&mut [u8]; 2], CallError> {
        self.may_send()?;
        let n = self.send_space().min(count);
        Ok(self.out.buf.room(n))
    }

    /// The application has put `n` bytes where [`Connection::send_room`] said. One that leaves no room waits for more.
    pub fn sent(&mut self, now: Instant, n: usize) {
        self.note_write(now, n);
        self.out.buf.written(n);
        self.out.blocked = self.send_space() == 0;
    }

    fn note_write(&mut self, now: Instant, n: usize) {
        if self.out.una == self.out.nxt {
            self.out.progress_at = now;
        }
        self.writes.on_write(n, self.out.una == self.out.buf.end());
    }

    pub fn recv(&self) -> Result<(&[u8], &[u8]), CallError> {
        if self.inc.buf.ready() > 0 {
            return Ok(self.inc.buf.slices());
        }
        if let Some(e) = self.error {
            return Err(CallError::Broken(e));
        }
        if self.inc_finished() {
            return Err(CallError::Shutdown);
        }
        Ok((&[], &[]))
    }

    pub fn consume(&mut self, n: usize) {
        self.inc.buf.consume(n);
        self.tell_window();
    }

    /// TCP_NODELAY lets go what a cork holds now, though not what comes after (Linux: __tcp_sock_set_nodelay).
    pub fn push_corked(&mut self) {
        if matches!(self.out.cork, Cork::Until(_)) {
            self.out.cork = Cork::Expired;
        }
    }

    /// The buffers have other limits now.
    pub fn options_changed(&mut self, ctx: &mut Ctx<'_>) {
        let ConnOptions {
            recv_buffer,
            recv_buffer_first,
            ..
        } = self.options;
        self.inc.buf.set_limits(recv_buffer_first, recv_buffer);
        if self.established {
            self.tell_window();
        }
        let algorithm = self.options.congestion;
        for sf in &mut self.subflows {
            sf.tx.set_congestion(ctx.now, algorithm);
        }
        self.tell_writable(ctx);
    }

    /// Where there is no room, somebody may have seen that: the limit may have sunk since the last write, and tells nobody.
    pub fn note_full(&mut self) {
        self.out.blocked |= self.send_space() == 0;
    }

    /// Queues `Writable` when somebody waits for room and there is enough of it.
    pub fn tell_writable(&mut self, ctx: &mut Ctx<'_>) {
        if self.out.blocked && self.send_space() >= (self.send_limit() / 4).min(1 << 16) {
            self.out.blocked = false;
            ctx.events.push_back(Event::Writable(self.id));
        }
    }

    /// RFC 9293 section 3.8.6.2.2: tells the peer when the window grew by something worth telling.
    fn tell_window(&mut self) {
        let grown = self.inc.buf.free().saturating_sub(self.inc.buf.advertised());
        let limit = self.inc.buf.limit();
        let worth =
            grown >= (limit / 4).max(1) || (self.inc.buf.advertised() < 2 * 1460 && grown >= (limit / 2).min(2 * 1460));
        if worth && !self.inc_finished() {
            for sf in self.subflows.iter_mut().filter(|s| s.is_up() && !s.stalled) {
                sf.rx.demand_ack();
            }
        }
    }

    pub fn shutdown_write(&mut self, now: Instant) {
        if self.out.fin_queued || self.error.is_some() {
            return;
        }
        if self.out.una == self.out.nxt {
            self.out.progress_at = now;
        }
        self.out.fin_queued = true;
        self.data_fin_due = true;
    }

    pub fn close(&mut self, ctx: &mut Ctx<'_>) {
        self.detached = true;
        if self.error.is_some() {
            return;
        }
        if self.inc.buf.ready() > 0 {
            // RFC 2525 section 2.17, RFC 1122 section 4.2.2.13: data lost by close() is a reset.
            self.abort(ctx);
            return;
        }
        if !self.established {
            self.abort(ctx);
            return;
        }
        self.shutdown_write(ctx.now);
        self.update_close(ctx);
    }

    /// Abort: MP_FASTCLOSE in RSTs on every subflow (RFC 8684 section 3.5), RST on plain TCP.
    pub fn abort(&mut self, ctx: &mut Ctx<'_>) {
        self.detached = true;
        self.break_with(
            ctx,
            ConnError::Aborted,
            Some(Reset {
                fastclose: true,
                reason: Some(TcpRst {
                    transient: false,
                    reason: 0,
                }),
                fail: None,
            }),
        );
    }

    /// The connection is dead: `reset` goes out on every subflow that still can, the rest vanish.
    pub fn break_with(&mut self, ctx: &mut Ctx<'_>, error: ConnError, reset: Option<Reset>) {
        if self.unheard() {
            // Nobody heard of it yet, nobody has to.
            self.detached = true;
        }
        if self.error.is_none() {
            self.error = Some(error);
            if !self.detached {
                ctx.events.push_back(Event::Failed(self.id, error));
            }
        }
        self.addresses.stop();
        for i in (0..self.subflows.len()).rev() {
            let sf = &mut self.subflows[i];
            match reset {
                Some(r) if sf.state != State::SynSent => sf.reset = Some(r),
                _ => self.let_go(ctx, i),
            }
        }
        self.data_timer = None;
        self.persist = None;
        self.give_up = None;
        self.fail_deadline = None;
    }

    /// Takes out a subflow that says nothing more; when only its SYN went out, the answer to that is awaited.
    fn let_go(&mut self, ctx: &mut Ctx<'_>, index: usize) {
        let sf = &self.subflows[index];
        let given_up = sf.state == State::SynSent && sf.handshake.sent > 0;
        let linger = given_up.then(|| TimeWait {
            snd_nxt: sf.iss + 1,
            rcv_nxt: SeqNum(0),
            timestamps: None,
            manner: self.manner(sf.iface),
            opening: true,
        });
        self.release(ctx, index, linger);
    }

    /// Takes a subflow out of the connection.
    pub fn release(&mut self, ctx: &mut Ctx<'_>, index: usize, time_wait: Option<TimeWait>) {
        let sf = self.subflows.remove(index);
        self.past += sf.tally();
        if sf.state.synchronized() && (sf.join.is_none() || sf.confirmed) && !self.unheard() {
            ctx.events.push_back(Event::SubflowDown {
                conn: self.id,
                subflow: sf.id,
                tuple: sf.tuple,
            });
        }
        ctx.released.push(Released {
            conn: self.id,
            subflow: sf.id,
            tuple: sf.tuple,
            time_wait,
        });
        self.addresses.on_subflow_gone(ctx.now, &sf);
        if self.multipath() && self.error.is_none() {
            self.reinject_all(&sf);
        }
    }

    /// A subflow ended while the connection lives.
    pub fn subflow_lost(&mut self, ctx: &mut Ctx<'_>, index: usize, error: ConnError) {
        let sf = &self.subflows[index];
        let was_up = sf.join.is_none() || (sf.state.synchronized() && sf.confirmed);
        self.release(ctx, index, None);
        let none_left = !self.subflows.iter().any(|s| s.is_up());
        if !was_up || !none_left || self.error.is_some() {
            return;
        }
        if self.finished() {
            return;
        }
        // note X5: the last one was reset: the program learns it at once.
        self.break_with(ctx, error, None);
    }

    /// Both directions are closed and acknowledged at data level.
    pub fn finished(&self) -> bool {
        self.out.fin_acked && self.inc_finished()
    }

    /// What is acknowledged at data level leaves the buffer, except the bytes that a subflow may have to repeat:
    /// they move to the segment when they would hold back too much.
    pub fn release_acked(&mut self) {
        let una = self.out.una;
        if una.diff(self.out.buf.base()) < 32 << 10 && una != self.out.buf.end() {
            return;
        }
        if self.plain() {
            self.out.buf.release(una);
            return;
        }
        let mut keep = una;
        for sf in &self.subflows {
            for s in sf.tx.unacked() {
                if s.tag.detached.is_none() && s.len > u32::from(s.fin) {
                    keep = keep.min(s.tag.dsn);
                }
            }
        }
        if una.diff(keep) > SLACK as i64 {
            let Connection { subflows, out, .. } = self;
            for sf in subflows.iter_mut() {
                for (len, tag) in sf.tx.tags_mut() {
                    if tag.detached.is_none() && len > 0 && tag.dsn.lt(una) {
                        tag.detached = Some(out.buf.slices(tag.dsn, len as usize).concat().into_boxed_slice());
                    }
                }
            }
            keep = una;
        }
        self.out.buf.release(keep);
    }

    /// Falls back to plain TCP (RFC 8684 section 3.7). `tell` sends infinite mappings so that the peer does too.
    pub fn fall_back(&mut self, ctx: &mut Ctx<'_>, why: Fallback, tell: bool) {
        if self.plain() {
            return;
        }
        self.proto = Proto::Plain(why);
        self.infinite_map = tell.then_some(self.out.nxt);
        self.infinite_acks = if tell { INFINITE_ACKS } else { 0 };
        self.fail_deadline = None;
        self.out.reinject.clear();
        self.addresses.stop();
        for sf in self.subflows.iter_mut() {
            sf.confirmed = true;
            sf.prio_now = false;
            // A mapping held back for its checksum: its bytes were acknowledged, so they count.
            for held in sf.maps.drain(..).filter_map(|m| Some((m.dsn, m.checked?.held))) {
                self.inc.buf.insert(held.0, &held.1);
            }
            // Joins cannot exist here; a connection that had one never falls back.
            if sf.join.is_some() {
                sf.reset = Some(Reset::default());
            }
        }
        if self.established {
            ctx.events.push_back(Event::FellBack(self.id, why));
        }
    }

    /// After any change: is it time for FINs, or for nothing more?
    pub fn update_close(&mut self, ctx: &mut Ctx<'_>) {
        if self.error.is_some() {
            return;
        }
        if self.multipath() {
            if self.finished() {
                self.end_unanswered_joins(ctx);
                for sf in &mut self.subflows {
                    sf.close_queued = true;
                    // The streams are complete: a FIN that nobody answers is not worth waiting for.
                    sf.deadline.get_or_insert(ctx.now + LINGERING_FIN);
                }
            }
        } else if self.fin_ready() && self.plain() {
            for sf in &mut self.subflows {
                sf.close_queued = true;
            }
        }
        if self.is_orphan() && self.give_up.is_none() {
            self.give_up = Some(ctx.now + ORPHAN);
        }
    }

    /// Nobody reads, everything of ours arrived, and the peer does not close (Linux: orphaned FIN_WAIT2).
    pub(super) fn is_orphan(&self) -> bool {
        self.detached && self.out.fin_acked && !self.inc_finished()
    }

    /// Joins of ours that the peer never confirmed have nothing to finish: a FIN would wait for the answer that never came.
    fn end_unanswered_joins(&mut self, ctx: &mut Ctx<'_>) {
        for i in (0..self.subflows.len()).rev() {
            let sf = &mut self.subflows[i];
            match sf.join {
                Some(join) if join.initiator && !sf.confirmed && sf.state != State::SynSent => {
                    sf.reset.get_or_insert_default();
                }
                Some(join) if join.initiator && !sf.confirmed => self.let_go(ctx, i),
                _ => {}
            }
        }
    }

    pub fn info(&self) -> ConnInfo {
        let mut tally = self.past;
        for sf in &self.subflows {
            tally += sf.tally();
        }
        ConnInfo {
            first: self.first,
            established: self.established,
            fallback: match self.proto {
                Proto::Plain(why) => Some(why),
                _ => None,
            },
            token: if self.multipath() { self.local_token } else { 0 },
            error: self.error,
            bytes_acked: self.out.acked,
            bytes_received: self.inc.buf.received(),
            write_seq: self.out.buf.end().0,
            snd_una: self.out.una.0,
            rcv_nxt: self.data_ack().0,
            checksum: self.checksum,
            traffic: self.writes.traffic(),
            announced: self.addresses.announced(),
            heard: self.addresses.heard,
            send_queue: self.out.buf.end().diff(self.out.una).max(0) as usize,
            unsent: self.out.buf.end().diff(self.out.nxt).max(0) as usize,
            recv_queue: self.inc.buf.ready(),
            recv_space: self.inc.buf.limit(),
            tally,
            waits: self.waits,
            subflows: self
                .subflows
                .iter()
                .map(|sf| subflow_info(sf, self.options.mss_limit))
                .collect(),
        }
    }
}

fn subflow_info(sf: &Subflow, mss_limit: u16) -> SubflowInfo {
    let us = |d: Duration| u32::try_from(d.as_micros()).unwrap_or(u32::MAX);
    SubflowInfo {
        id: sf.id,
        tuple: sf.tuple,
        iface: sf.iface,
        state: sf.state.name(),
        up: sf.is_up(),
        backup: sf.backup(),
        manner: sf.own_manner,
        stalled: sf.stalled,
        srtt_us: sf.tx.rtt.srtt().map_or(0, us),
        rttvar_us: sf.tx.rtt.rttvar().map_or(0, us),
        rto_us: us(sf.tx.rtt.rto()),
        cwnd: sf.tx.cc.cwnd(),
        ssthresh: sf.tx.cc.ssthresh(),
        mss: sf.tx.mss(),
        mtu: sf.mtu,
        timestamps: sf.timestamps,
        sack: sf.sack,
        window_shifts: (sf.snd_scale, sf.rcv_scale),
        bytes_sent: sf.bytes_sent,
        bytes_acked: sf.bytes_acked(),
        bytes_received: sf.bytes_received,
        tally: sf.tally(),
        unacked: sf.tx.unacked_segments(),
        sacked: sf.tx.sacked_segments(),
        lost: sf.tx.lost_segments(),
        repair: match sf.tx.recovering() {
            false => Repair::None,
            true if sf.tx.after_timeout() => Repair::Timeout,
            true => Repair::Recovery,
        },
        timeouts: sf.tx.consecutive_rtos,
        min_rtt_us: sf.tx.rtt.min_rtt().map(us),
        pacing_rate: sf.tx.cc.pacing_rate(sf.tx.rtt.srtt()).map(|rate| rate as u64),
        delivery_rate: sf.tx.delivery_rate(),
        windows: (sf.last_window, sf.last_advertised),
        largest_received: sf.largest_received,
        payload_max: sf.payload_max(mss_limit),
        busy: sf.busy,
        repairing: sf.repairing,
    }
}

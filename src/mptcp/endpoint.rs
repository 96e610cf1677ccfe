//! All connections of one host: demultiplexing by 4-tuple, token and listener, timers, and the boundary of the core.
//!
//! The boundary is sans-IO. Input: `handle_*` and the application's calls. Output: `poll_transmit`, `poll_event`, `poll_timeout`.
//! After any input, drain `poll_transmit` and `poll_event` until None, then sleep until `poll_timeout`.

pub use super::api::*;
use super::connection::{Connection, Ctx, Released, Role};
use super::cookies::Cookies;
use super::crypto;
use super::inherited::Inherited;
use super::memory::Budget;
use super::strays::Stray;
use super::subflow::{Join, State, Subflow};
use super::time_wait::TimeWaits;
use crate::link::{IcmpKind, Outgoing};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, MpJoin, Segment, SeqNum};
use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// All connections of one host.
pub struct Endpoint {
    pub(super) entropy: Box<dyn Entropy>,
    isn_key: (u64, u64),
    pub(super) connections: HashMap<ConnId, Connection>,
    next_id: u64,
    pub(super) tuples: HashMap<FourTuple, (ConnId, SubflowId)>,
    pub(super) tokens: HashMap<u32, ConnId>,
    pub(super) listeners: HashMap<SocketAddr, ConnOptions>,
    /// Of interfaces by index.
    pub(super) mtus: HashMap<u32, u32>,
    /// Connections of listeners that are not established yet.
    pub(super) half_open: usize,
    pub(super) cookies: Cookies,
    pub(super) inherited: Inherited,
    pub(super) time_waits: TimeWaits,
    timers: BTreeSet<(Instant, ConnId)>,
    armed: HashMap<ConnId, Instant>,
    /// Connections that may have something to send.
    ready: VecDeque<ConnId>,
    /// Segments that belong to no connection: resets and TIME_WAIT acknowledgments.
    pub(super) stray: VecDeque<Stray>,
    pub(super) events: VecDeque<Event>,
    released: Vec<Released>,
    pub(super) memory: Budget,
}

impl Endpoint {
    /// An endpoint without connections.
    pub fn new(mut entropy: Box<dyn Entropy>) -> Self {
        let isn_key = (entropy.next_u64(), entropy.next_u64());
        Endpoint {
            entropy,
            isn_key,
            connections: HashMap::new(),
            next_id: 1,
            tuples: HashMap::new(),
            tokens: HashMap::new(),
            listeners: HashMap::new(),
            mtus: HashMap::new(),
            half_open: 0,
            cookies: Cookies::new(isn_key),
            inherited: Inherited::default(),
            time_waits: TimeWaits::default(),
            timers: BTreeSet::new(),
            armed: HashMap::new(),
            ready: VecDeque::new(),
            stray: VecDeque::new(),
            events: VecDeque::new(),
            released: Vec::new(),
            memory: Budget::default(),
        }
    }

    /// The memory that the buffers of all connections may take together, bytes; no limit at first. Beyond it connections go on with small ones.
    pub fn set_memory_budget(&mut self, bytes: usize) {
        self.memory.set_limit(bytes);
    }

    /// The memory that the buffers of all connections take, bytes.
    pub fn memory_used(&self) -> usize {
        self.memory.used()
    }

    /// Runs `f` on a connection with its surroundings, then brings tables and timers up to date.
    pub(super) fn with<R>(
        &mut self,
        now: Instant,
        id: ConnId,
        f: impl FnOnce(&mut Connection, &mut Ctx<'_>) -> R,
    ) -> Option<R> {
        let conn = self.connections.get_mut(&id)?;
        let mut ctx = Ctx {
            now,
            events: &mut self.events,
            released: &mut self.released,
        };
        let result = f(conn, &mut ctx);
        conn.note_memory();
        conn.note_full();
        conn.arm_timers(now);
        if !core::mem::replace(&mut conn.queued, true) {
            self.ready.push_back(id);
        }
        self.settle(now, id);
        Some(result)
    }

    /// After a connection changed: its tuples, token, timer and end.
    fn settle(&mut self, now: Instant, id: ConnId) {
        while let Some(r) = self.released.pop() {
            self.tuples.remove(&r.tuple);
            match r.time_wait {
                Some(tw) => self.enter_time_wait(now, r, tw),
                None if self.connections.get(&r.conn).is_some_and(Connection::unheard) => {}
                None => self.events.push_back(r.gone()),
            }
        }
        let Some(conn) = self.connections.get(&id) else { return };
        if conn.is_over() {
            let unheard = conn.unheard();
            if unheard {
                self.half_open = self.half_open.saturating_sub(1);
            }
            self.tokens.remove(&conn.local_token);
            self.connections.remove(&id);
            self.disarm(id);
            if !unheard {
                self.events.push_back(Event::Closed(id));
            }
            return;
        }
        let at = conn.timeout();
        self.rearm(id, at);
    }

    fn rearm(&mut self, id: ConnId, at: Option<Instant>) {
        if self.armed.get(&id).copied() == at {
            return;
        }
        self.disarm(id);
        if let Some(at) = at {
            self.timers.insert((at, id));
            self.armed.insert(id, at);
        }
    }

    fn disarm(&mut self, id: ConnId) {
        if let Some(at) = self.armed.remove(&id) {
            self.timers.remove(&(at, id));
        }
    }

    // ---- input from the network -------------------------------------------------------------------------------

    /// Whether a segment with these addresses belongs to a connection, or to one that was here until lately.
    pub fn knows(&self, tuple: FourTuple) -> bool {
        self.tuples.contains_key(&tuple) || self.time_waits.contains(tuple)
    }

    /// Whether a connection here has this token, for which a join may come in.
    pub fn has_token(&self, token: u32) -> bool {
        self.tokens.contains_key(&token)
    }

    /// A segment arrived for this host. False when it belongs to nothing here (the caller may ignore it).
    pub fn handle_segment(
        &mut self,
        now: Instant,
        src: IpAddr,
        dst: IpAddr,
        iface: u32,
        segment: &Segment<'_>,
    ) -> bool {
        let tuple = FourTuple {
            local: SocketAddr::new(dst, segment.header.dst_port),
            remote: SocketAddr::new(src, segment.header.src_port),
        };
        if let Some(&(id, subflow)) = self.tuples.get(&tuple) {
            let conn = self.connections.get(&id);
            if conn.is_some_and(|c| c.acks_another_syn(subflow, segment)) {
                self.reset_old_connection(tuple, iface, segment);
                return true;
            }
            self.with(now, id, |conn, ctx| {
                if let Some(index) = conn.subflow_index(subflow) {
                    conn.handle_segment(ctx, index, segment);
                }
            });
            return true;
        }
        if self.time_waits.contains(tuple) && self.on_time_wait(now, tuple, segment) {
            return true;
        }
        if self.on_inherited(tuple, iface, segment) {
            return true;
        }
        let h = &segment.header;
        if h.flags.has(Flags::ACK) && !h.flags.has(Flags::SYN) && !h.flags.has(Flags::RST) {
            return self.on_cookie(now, tuple, iface, segment);
        }
        if !h.flags.has(Flags::SYN) || h.flags.has(Flags::ACK) || h.flags.has(Flags::RST) || h.flags.has(Flags::FIN) {
            return false;
        }
        // RFC 8684 section 3.2: a join is matched by its token, whatever port it is sent to.
        if let Some(MpJoin::Syn { .. }) = segment.options.mptcp.join {
            return self.on_join_syn(now, tuple, iface, segment);
        }
        self.on_syn(now, tuple, iface, segment)
    }

    pub(super) fn insert(&mut self, now: Instant, mut conn: Connection, tuple: FourTuple) {
        conn.queued = true;
        let id = conn.id;
        self.tuples.insert(tuple, (id, SubflowId(0)));
        self.tokens.insert(conn.local_token, id);
        conn.share = self.memory.share();
        self.connections.insert(id, conn);
        self.ready.push_back(id);
        self.settle(now, id);
    }

    pub(super) fn fresh_id(&mut self) -> ConnId {
        let id = ConnId(self.next_id);
        self.next_id += 1;
        id
    }

    /// A key whose token no other connection has (RFC 8684 section 3.1; 0 is not a token, so that "none" can be told).
    pub(super) fn fresh_key(&mut self) -> u64 {
        loop {
            let key = self.entropy.next_u64();
            let token = crypto::token(key);
            if token != 0 && !self.tokens.contains_key(&token) {
                return key;
            }
        }
    }

    /// RFC 6528: a clock of 4 microseconds plus a keyed hash of the tuple.
    pub(super) fn isn(&self, now: Instant, tuple: FourTuple) -> SeqNum {
        let mut h = crypto::hash_addresses(self.isn_key, tuple);
        h.write_u16(tuple.local.port());
        h.write_u16(tuple.remote.port());
        SeqNum((h.finish() as u32).wrapping_add((now.as_micros() / 4) as u32))
    }

    /// RFC 7323 section 5.4: one timestamp clock for each pair of addresses, so that a port used again is not older than the
    /// peer's TIME_WAIT remembers (RFC 6191).
    pub(super) fn ts_offset(&self, tuple: FourTuple) -> u32 {
        let mut h = crypto::hash_addresses(self.isn_key, tuple);
        h.write_u8(0);
        h.finish() as u32
    }

    /// An ICMP error about one of our segments arrived.
    pub fn handle_icmp(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        seq: Option<SeqNum>,
        kind: IcmpKind,
    ) {
        if let Some(&(id, subflow)) = self.tuples.get(&FourTuple { local, remote }) {
            self.with(now, id, |conn, ctx| {
                if let Some(index) = conn.subflow_index(subflow) {
                    conn.handle_icmp(ctx, index, seq, kind);
                }
            });
        }
    }

    /// Time has come to `poll_timeout()` or later.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(released) = self.time_waits.expired(now) {
            self.events.push_back(released.gone());
        }
        self.probe_inherited(now);
        while let Some(&(at, id)) = self.timers.first() {
            if at > now {
                break;
            }
            self.disarm(id);
            self.with(now, id, |conn, ctx| {
                conn.handle_timeout(ctx);
                conn.after_input(ctx);
            });
            // A timer that stays due would spin: whatever it is, a millisecond later is soon enough. None is known to.
            if let Some(again) = self.armed.get(&id).copied().filter(|t| *t <= now) {
                debug_assert!(false, "a timer stays due: {}", self.due_timers(id, now));
                let later = again.max(now) + Duration::from_millis(1);
                self.rearm(id, Some(later));
            }
        }
    }

    /// The timers of a connection that are due, by name.
    fn due_timers(&self, id: ConnId, now: Instant) -> String {
        let names = self.connections.get(&id).map(|c| c.due_timers(now));
        names.unwrap_or_default().join(", ")
    }

    // ---- output -----------------------------------------------------------------------------------------------

    /// The next segment to send, None when there is none now.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing<'_>> {
        if let Some(s) = self.stray.pop_front() {
            return Some(Outgoing {
                src: s.tuple.local.ip(),
                dst: s.tuple.remote.ip(),
                iface: s.manner.iface,
                header: s.header,
                options: s.options,
                payload: [&[], &[]],
                segment_size: 0,
                tos: s.manner.tos,
                ttl: s.manner.ttl,
                mark: s.manner.mark,
            });
        }
        while let Some(&id) = self.ready.front() {
            let Some(conn) = self.connections.get_mut(&id) else {
                self.ready.pop_front();
                continue;
            };
            let mut ctx = Ctx {
                now,
                events: &mut self.events,
                released: &mut self.released,
            };
            let plan = conn.plan(&mut ctx);
            conn.arm_timers(now);
            match plan {
                None => {
                    conn.queued = false;
                    self.ready.pop_front();
                    self.settle(now, id);
                }
                Some(plan) => {
                    if !self.released.is_empty() {
                        // A reset takes its subflow along; it has no payload, so the connection may go too.
                        let out = plan.bare(conn.manner(0));
                        self.settle(now, id);
                        self.push_stray(out.into());
                        return self.poll_transmit(now);
                    }
                    return self.connections.get(&id).map(|c| c.outgoing(plan));
                }
            }
        }
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        match event {
            Some(Event::Accepted { .. }) => self.half_open = self.half_open.saturating_sub(1),
            Some(Event::Readable(id)) => {
                if let Some(conn) = self.connections.get_mut(&id) {
                    conn.readable_told = false;
                }
            }
            _ => {}
        }
        event
    }

    /// When `handle_timeout` must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.time_waits.timeout(), self.inherited.timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    // ---- the application --------------------------------------------------------------------------------------

    /// Opens a connection; its first subflow uses `tuple` over `path` (whose `addr` is `tuple.local`'s).
    pub fn connect(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        path: LocalPath,
        options: ConnOptions,
    ) -> Result<ConnId, CallError> {
        if self.knows(tuple) {
            return Err(CallError::InUse);
        }
        let key = self.fresh_key();
        let id = self.fresh_id();
        let iss = self.isn(now, tuple);
        let mut conn = Connection::new(now, id, Role::Client, tuple, path, options, key);
        let mut sf = Subflow::new(now, SubflowId(0), tuple, path.iface, path.mtu, iss, State::SynSent);
        sf.ts_offset = self.ts_offset(tuple);
        sf.local_backup = path.backup;
        conn.next_subflow = 1;
        conn.subflows.push(sf);
        self.insert(now, conn, tuple);
        Ok(id)
    }

    /// Accepts connections to `local` (an unspecified address is a wildcard), with these options.
    pub fn listen(&mut self, local: SocketAddr, options: ConnOptions) -> Result<(), CallError> {
        if self.listeners.contains_key(&local) {
            return Err(CallError::InUse);
        }
        self.listeners.insert(local, options);
        Ok(())
    }

    /// The MTUs of interfaces by index, bytes: what comes in by one says by them which segments it takes (RFC 9293 section 3.7.1). Those of
    /// others are taken to be 1500.
    pub fn set_mtus(&mut self, mtus: impl IntoIterator<Item = (u32, u32)>) {
        self.mtus.clear();
        self.mtus.extend(mtus);
    }

    /// Stops accepting at `local`; connections live on.
    pub fn unlisten(&mut self, local: SocketAddr) {
        self.listeners.remove(&local);
    }

    /// Local addresses that `conn` may open further subflows from (the first one's may be among them). Replaces the list; a subflow from
    /// an address that is gone is closed and REMOVE_ADDR sent. A client opens joins from them, a server announces them with ADD_ADDR.
    pub fn set_paths(&mut self, now: Instant, conn: ConnId, paths: &[LocalPath]) {
        self.with(now, conn, |c, ctx| c.set_paths(ctx, paths));
    }

    /// As [`Endpoint::set_paths`], for a program that takes back addresses which still work: their subflows end in order, and not before
    /// another one is up.
    pub fn replace_paths(&mut self, now: Instant, conn: ConnId, paths: &[LocalPath]) {
        self.with(now, conn, |c, ctx| c.replace_paths(ctx, paths));
    }

    /// Answers `WantSubflow`: a port was taken.
    pub fn open_subflow(
        &mut self,
        now: Instant,
        conn: ConnId,
        want: u32,
        local: SocketAddr,
    ) -> Result<SubflowId, CallError> {
        let c = self.connections.get_mut(&conn).ok_or(CallError::Gone)?;
        let remote = c.wanted_remote(want).ok_or(CallError::Gone)?;
        let tuple = FourTuple { local, remote };
        if self.tuples.contains_key(&tuple) || self.time_waits.contains(tuple) {
            // The want stays: `subflow_refused` ends it, another port answers it.
            return Err(CallError::InUse);
        }
        let (path, local_id, _, remote_id) = c.take_want(want).ok_or(CallError::Gone)?;
        let iss = self.isn(now, tuple);
        let local_nonce = self.entropy.next_u64() as u32;
        let ts_offset = self.ts_offset(tuple);
        let id = self.with(now, conn, |c, _| {
            let id = SubflowId(c.next_subflow);
            c.next_subflow += 1;
            let mut sf = Subflow::new(now, id, tuple, path.iface, path.mtu, iss, State::SynSent);
            sf.ts_offset = ts_offset;
            sf.join = Some(Join {
                local_nonce,
                remote_nonce: 0,
                initiator: true,
            });
            sf.local_id = local_id;
            sf.remote_id = remote_id;
            sf.local_backup = path.backup;
            // The peer may count the join before we do: no infinite mapping from here on (note F5, Linux likewise).
            c.no_way_back = true;
            c.subflows.push(sf);
            id
        });
        let id = id.ok_or(CallError::Gone)?;
        self.tuples.insert(tuple, (conn, id));
        Ok(id)
    }

    /// Answers `WantSubflow`: no port, or no route.
    pub fn subflow_refused(&mut self, now: Instant, conn: ConnId, want: u32) {
        self.with(now, conn, |c, ctx| {
            c.want_refused(now, want);
            c.evaluate_paths(ctx);
        });
    }

    /// How many bytes `send` would take now.
    pub fn send_space(&self, conn: ConnId) -> usize {
        self.connections.get(&conn).map_or(0, Connection::send_space)
    }

    /// Queues bytes; takes as many as fit.
    pub fn send(&mut self, now: Instant, conn: ConnId, data: &[u8]) -> Result<usize, CallError> {
        self.with(now, conn, |c, _| c.send(now, data))
            .unwrap_or(Err(CallError::Gone))
    }

    /// Where the next bytes to send belong, `count` or as many as there is room for: to be filled from the front, and followed by
    /// [`Endpoint::sent`] with nothing else of this connection in between.
    pub fn send_room(&mut self, conn: ConnId, count: usize) -> Result<[&mut [u8]; 2], CallError> {
        self.connections
            .get_mut(&conn)
            .map_or(Err(CallError::Gone), |c| c.send_room(count))
    }

    /// The first `n` bytes of [`Endpoint::send_room`] were filled. Who leaves no room is told by [`Event::Writable`] when there is some again.
    pub fn sent(&mut self, now: Instant, conn: ConnId, n: usize) {
        self.with(now, conn, |c, _| c.sent(now, n));
    }

    /// Bytes to read, in order, in two slices; both empty when there are none now. `Err(Shutdown)` is the end of the stream.
    pub fn recv(&self, conn: ConnId) -> Result<(&[u8], &[u8]), CallError> {
        self.connections
            .get(&conn)
            .map_or(Err(CallError::Gone), Connection::recv)
    }

    /// The application took `n` bytes of what `recv` showed.
    pub fn consume(&mut self, now: Instant, conn: ConnId, n: usize) {
        self.with(now, conn, |c, _| c.consume(n));
    }

    /// shutdown(SHUT_WR): DATA_FIN after what is queued.
    pub fn shutdown_write(&mut self, now: Instant, conn: ConnId) {
        self.with(now, conn, |c, ctx| {
            c.shutdown_write(now);
            c.update_close(ctx);
        });
    }

    /// close(): nobody reads any more, queued data is still delivered; data that arrives now aborts.
    pub fn close(&mut self, now: Instant, conn: ConnId) {
        self.with(now, conn, |c, ctx| c.close(ctx));
    }

    /// Abort: MP_FASTCLOSE (or RST on plain TCP).
    pub fn abort(&mut self, now: Instant, conn: ConnId) {
        self.with(now, conn, |c, ctx| c.abort(ctx));
    }

    /// TCP_QUICKACK: with `on` the acknowledgment that is owed leaves at once, and the next ones do not wait either.
    pub fn set_quick_ack(&mut self, now: Instant, conn: ConnId, on: bool) {
        self.with(now, conn, |c, _| {
            c.subflows.iter_mut().for_each(|sf| sf.rx.set_quick(on))
        });
    }

    /// Changes nodelay, cork, keepalive, user_timeout, tos, ttl, mark, send_buffer, recv_buffer of a live connection. A buffer that
    /// shrinks takes nothing back: neither bytes that were accepted nor a window that was offered.
    pub fn set_options(&mut self, now: Instant, conn: ConnId, change: &mut dyn FnMut(&mut ConnOptions)) {
        self.with(now, conn, |c, ctx| {
            let nodelay = c.options.nodelay;
            change(&mut c.options);
            if c.options.nodelay && !nodelay {
                c.push_corked();
            }
            c.options_changed(ctx);
        });
    }

    /// Asks for one more subflow from a local address of the connection's paths, to an address of the peer's or the least used one;
    /// `WantSubflow` follows.
    pub fn ask_for_subflow(
        &mut self,
        now: Instant,
        conn: ConnId,
        local: IpAddr,
        remote: Option<SocketAddr>,
    ) -> Result<(), SteerError> {
        self.with(now, conn, |c, ctx| c.ask_for_subflow(ctx, local, remote))
            .unwrap_or(Err(SteerError::NotMultipath))
    }

    /// Ends one subflow in order, and leaves its path alone afterwards.
    pub fn close_subflow(&mut self, now: Instant, conn: ConnId, tuple: FourTuple) -> Result<(), SteerError> {
        self.with(now, conn, |c, ctx| c.close_subflow(ctx, tuple))
            .unwrap_or(Err(SteerError::NotMultipath))
    }

    /// Marks one subflow as backup, or as a regular one; the peer is told.
    pub fn mark_backup(
        &mut self,
        now: Instant,
        conn: ConnId,
        tuple: FourTuple,
        backup: bool,
    ) -> Result<(), SteerError> {
        self.with(now, conn, |c, _| c.mark_backup(tuple, backup))
            .unwrap_or(Err(SteerError::NotMultipath))
    }

    /// Gives one subflow a type of service or hop limit of its own.
    pub fn set_manner(
        &mut self,
        now: Instant,
        conn: ConnId,
        tuple: FourTuple,
        change: &mut dyn FnMut(&mut SubflowManner),
    ) -> Result<(), SteerError> {
        self.with(now, conn, |c, _| c.set_manner(tuple, change))
            .unwrap_or(Err(SteerError::Unknown))
    }

    /// A picture of one connection.
    pub fn info(&self, conn: ConnId) -> Option<ConnInfo> {
        self.connections.get(&conn).map(Connection::info)
    }

    /// Connections to this port that are established and were not yet told of by `poll_event`.
    pub fn untold(&self, port: u16) -> usize {
        let accepted = |event: &&Event| matches!(event, Event::Accepted { tuple, .. } if tuple.local.port() == port);
        self.events.iter().filter(accepted).count()
    }

    /// The peer's key; None while MPTCP is not spoken.
    pub fn peer_key(&self, conn: ConnId) -> Option<u64> {
        let conn = self.connections.get(&conn)?;
        conn.multipath().then_some(conn.remote_key)
    }

    /// Every connection, oldest first.
    pub fn connections(&self) -> Vec<ConnId> {
        let mut ids: Vec<ConnId> = self.connections.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Bytes of the peer's that a connection holds, and the entries that describe them.
    #[cfg(test)]
    pub fn held(&self, conn: ConnId) -> (usize, usize) {
        let Some(c) = self.connections.get(&conn) else {
            return (0, 0);
        };
        let maps = c.subflows.iter().flat_map(|s| &s.maps);
        let checked: usize = maps.filter_map(|m| Some(m.checked.as_ref()?.held.len())).sum();
        let stored: usize = c.subflows.iter().map(|s| s.rx.stored_bytes()).sum();
        let entries = c.out.reinject.len() + c.subflows.iter().map(|s| s.maps.len()).sum::<usize>();
        (c.inc.buf.ready() + c.inc.buf.ahead_bytes() + checked + stored, entries)
    }

    /// 4-tuples in TIME_WAIT.
    pub fn time_wait_len(&self) -> usize {
        self.time_waits.len()
    }
}

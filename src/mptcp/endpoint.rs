//! All connections of one host: demultiplexing by 4-tuple, token and listener, timers, and the boundary of the core.
//!
//! The boundary is sans-IO. Input: `handle_*` and the application's calls. Output: `poll_transmit`, `poll_event`, `poll_timeout`.
//! After any input, drain `poll_transmit` and `poll_event` until None, then sleep until `poll_timeout`.

use super::connection::{Connection, Ctx, Proto, Released, Role, TimeWait};
use super::crypto;
use super::input::capable_ok;
use super::subflow::{Join, State, Subflow};
use crate::link::{IcmpKind, Outgoing};
use crate::time::{Duration, Instant};
use crate::wire::mptcp_option::MpCapableBody;
use crate::wire::{Flags, Header, MpJoin, Segment, SeqNum, TcpOptions, TcpRst, Timestamps};
use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};
use siphasher::sip::SipHasher13;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// RFC 9293 section 3.4.2: 2 MSL. Linux: 60 s.
const TIME_WAIT: Duration = Duration::from_secs(60);
/// Half-open connections that a listener holds at the most.
const MAX_HALF_OPEN: usize = 1024;
/// Half-open joins of one connection.
const MAX_HALF_OPEN_JOINS: usize = 4;

/// Names one connection of an endpoint; never reused while the endpoint lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnId(pub u64);

/// Names one subflow of a connection, in order of creation: 0 is the first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SubflowId(pub u32);

/// Local and remote address of a subflow, as this host sees them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FourTuple {
    /// Ours.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
}

/// A source of unpredictable numbers: the kernel's generator in the engine, a seed in the simulator.
pub trait Entropy {
    /// 64 random bits.
    fn next_u64(&mut self) -> u64;
}

/// What a connection is asked to be. `Default` is what a plain connect() gets.
#[derive(Clone, Debug)]
pub struct ConnOptions {
    /// Try MPTCP; false speaks plain TCP.
    pub multipath: bool,
    /// Ask for DSS checksums.
    pub checksum: bool,
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// Keepalive: idle time, interval, count.
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT; None is the RFC 9293 R2 default.
    pub user_timeout: Option<Duration>,
    /// TCP_SYNCNT: SYN retransmissions before the connection attempt fails.
    pub syn_retries: u8,
    /// Upper bound of the MSS we announce and use (TCP_MAXSEG); 0 is none.
    pub mss_limit: u16,
    /// Bytes that may wait in the send buffer.
    pub send_buffer: usize,
    /// Bytes that may wait in the receive buffer (its upper bound; it grows to it).
    pub recv_buffer: usize,
    /// IP TOS / traffic class of every segment.
    pub tos: u8,
    /// TTL / hop limit, 0 the system's.
    pub ttl: u8,
    /// SO_MARK.
    pub mark: u32,
}

/// TCP keepalive (RFC 9293 section 3.8.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes until the connection is dead.
    pub count: u8,
}

impl Default for ConnOptions {
    fn default() -> Self {
        ConnOptions {
            multipath: true,
            checksum: false,
            nodelay: false,
            keepalive: None,
            user_timeout: None,
            syn_retries: 6,
            mss_limit: 0,
            send_buffer: 4 << 20,
            recv_buffer: 6 << 20,
            tos: 0,
            ttl: 0,
            mark: 0,
        }
    }
}

/// A local address that a connection may open subflows from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalPath {
    /// Source address.
    pub addr: IpAddr,
    /// Interface to bind to; 0 follows the kernel's routing.
    pub iface: u32,
    /// MTU of the interface or route, bytes.
    pub mtu: u32,
    /// Ask the peer to use it only when nothing else works (RFC 8684 section 3.2, B flag).
    pub backup: bool,
}

/// Why a connection ended or never began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnError {
    /// The peer answered the SYN with RST: ECONNREFUSED.
    Refused,
    /// No answer in the time allowed: ETIMEDOUT.
    TimedOut,
    /// The peer reset the connection, or its MP_FASTCLOSE, or the last subflow was reset: ECONNRESET.
    Reset,
    /// ICMP said so: the errno.
    Unreachable(i32),
    /// We gave it up ourselves (protocol error of the peer, memory): ECONNABORTED seen locally as ECONNRESET.
    Aborted,
}

/// Why a connection speaks plain TCP although MPTCP was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fallback {
    /// multipath was false.
    NotAsked,
    /// The SYN/ACK had no MP_CAPABLE: the peer or a middlebox on the SYN's way does not speak it.
    PeerNotCapable,
    /// SYNs with MP_CAPABLE were not answered, one without was.
    SynDropped,
    /// The peer's version is not ours.
    Version,
    /// The first data or ACKs came without MPTCP options: a middlebox removed them.
    OptionsStripped,
    /// A DSS checksum failed: a middlebox changes payload.
    ChecksumFailed,
    /// The peer sent an infinite mapping or MP_FAIL.
    PeerFellBack,
    /// Both ends opened at once (SYN crossing SYN).
    SimultaneousOpen,
}

/// What happened, for the caller of the core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The connection is established (client), or accepted by a listener (server: `Accepted` came first).
    Connected(ConnId),
    /// A listener got a connection, which is established.
    Accepted { conn: ConnId, tuple: FourTuple },
    /// Bytes, or the end of the stream, can be read.
    Readable(ConnId),
    /// The send buffer has room again after `send` took less than offered.
    Writable(ConnId),
    /// Everything written so far, the DATA_FIN included, has been acknowledged at data level.
    Flushed(ConnId),
    /// Broken, or the attempt failed. Reads and writes fail with it; the id stays valid until `Closed`.
    Failed(ConnId, ConnError),
    /// MPTCP was given up: plain TCP from here on.
    FellBack(ConnId, Fallback),
    /// The core wants a subflow from this local address: take a port (and guard), then `open_subflow` or `subflow_refused`.
    WantSubflow {
        conn: ConnId,
        want: u32,
        local: IpAddr,
        iface: u32,
        remote: SocketAddr,
    },
    /// A subflow was established.
    SubflowUp {
        conn: ConnId,
        subflow: SubflowId,
        tuple: FourTuple,
    },
    /// A subflow is over and its 4-tuple is free, TIME_WAIT included: its guard can go. With TIME_WAIT it comes after the
    /// connection's `Closed`, whose id it still bears.
    SubflowGone {
        conn: ConnId,
        subflow: SubflowId,
        tuple: FourTuple,
    },
    /// Nothing of the connection is left, the id is invalid now.
    Closed(ConnId),
}

/// A picture of one connection for `mptcp status` and socket options.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// First subflow's addresses, for ever.
    pub first: FourTuple,
    /// Established, in either protocol.
    pub established: bool,
    /// None while MPTCP is spoken (or still negotiated).
    pub fallback: Option<Fallback>,
    /// Local token (RFC 6897 TCP_MULTIPATH_CONNID), 0 before it is known.
    pub token: u32,
    /// Error that ended it.
    pub error: Option<ConnError>,
    /// Data-level bytes acknowledged by the peer.
    pub bytes_acked: u64,
    /// Data-level bytes received in order.
    pub bytes_received: u64,
    /// Bytes waiting in the send buffer (unacknowledged and unsent).
    pub send_queue: usize,
    /// Of these, never sent.
    pub unsent: usize,
    /// Bytes waiting to be read.
    pub recv_queue: usize,
    /// Live subflows.
    pub subflows: Vec<SubflowInfo>,
}

/// A picture of one subflow.
#[derive(Clone, Debug)]
pub struct SubflowInfo {
    /// Its id.
    pub id: SubflowId,
    /// Its addresses.
    pub tuple: FourTuple,
    /// Interface index, 0 for the routing's choice.
    pub iface: u32,
    /// TCP state name as in RFC 9293 ("ESTABLISHED", …).
    pub state: &'static str,
    /// Either side marked it backup.
    pub backup: bool,
    /// It does not answer at present.
    pub stalled: bool,
    /// Smoothed RTT, microseconds; 0 before a sample.
    pub srtt_us: u32,
    /// RTT variance, microseconds.
    pub rttvar_us: u32,
    /// Retransmission timeout, microseconds.
    pub rto_us: u32,
    /// Congestion window, bytes.
    pub cwnd: u32,
    /// Slow start threshold, bytes; u32::MAX initially.
    pub ssthresh: u32,
    /// Sending MSS, bytes of payload.
    pub mss: u32,
    /// Path MTU, bytes.
    pub mtu: u32,
    /// Timestamps (RFC 7323) are used.
    pub timestamps: bool,
    /// SACK (RFC 2018) is used.
    pub sack: bool,
    /// Window shifts (RFC 7323), the peer's and ours; both 0 without the option.
    pub window_shifts: (u8, u8),
    /// Payload bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// Payload bytes received, in order.
    pub bytes_received: u64,
    /// Segments retransmitted.
    pub retransmits: u32,
}

/// A caller's mistake, or a connection that can no longer do what is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// No such connection (any more).
    Gone,
    /// Not established yet.
    NotConnected,
    /// This direction was closed.
    Shutdown,
    /// The connection broke.
    Broken(ConnError),
    /// The 4-tuple is in use.
    InUse,
}

/// All connections of one host.
pub struct Endpoint {
    entropy: Box<dyn Entropy>,
    isn_key: (u64, u64),
    connections: HashMap<ConnId, Connection>,
    next_id: u64,
    tuples: HashMap<FourTuple, (ConnId, SubflowId)>,
    tokens: HashMap<u32, ConnId>,
    listeners: HashMap<SocketAddr, ConnOptions>,
    half_open: usize,
    time_wait: HashMap<FourTuple, (TimeWait, Instant)>,
    time_wait_queue: VecDeque<(Instant, Released)>,
    timers: BTreeSet<(Instant, ConnId)>,
    armed: HashMap<ConnId, Instant>,
    /// Connections that may have something to send.
    ready: VecDeque<ConnId>,
    /// Segments that belong to no connection: resets and TIME_WAIT acknowledgments.
    stray: VecDeque<Stray>,
    events: VecDeque<Event>,
    released: Vec<Released>,
}

/// A segment without payload that no connection sends.
struct Stray {
    tuple: FourTuple,
    iface: u32,
    header: Header,
    options: TcpOptions,
}

/// Strays wait in a bounded queue: under a flood they are dropped.
const MAX_STRAYS: usize = 256;

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
            half_open: 0,
            time_wait: HashMap::new(),
            time_wait_queue: VecDeque::new(),
            timers: BTreeSet::new(),
            armed: HashMap::new(),
            ready: VecDeque::new(),
            stray: VecDeque::new(),
            events: VecDeque::new(),
            released: Vec::new(),
        }
    }

    /// Runs `f` on a connection with its surroundings, then brings tables and timers up to date.
    fn with<R>(&mut self, now: Instant, id: ConnId, f: impl FnOnce(&mut Connection, &mut Ctx<'_>) -> R) -> Option<R> {
        let conn = self.connections.get_mut(&id)?;
        let mut ctx = Ctx {
            now,
            events: &mut self.events,
            released: &mut self.released,
        };
        let result = f(conn, &mut ctx);
        conn.arm_timers(now);
        self.ready.push_back(id);
        self.settle(now, id);
        Some(result)
    }

    /// After a connection changed: its tuples, token, timer and end.
    fn settle(&mut self, now: Instant, id: ConnId) {
        while let Some(r) = self.released.pop() {
            self.tuples.remove(&r.tuple);
            match r.time_wait {
                Some(tw) => {
                    self.time_wait.insert(r.tuple, (tw, now + TIME_WAIT));
                    self.stray_ack(now, &r, tw);
                    self.time_wait_queue.push_back((now + TIME_WAIT, r));
                }
                None if self.connections.get(&r.conn).is_some_and(Connection::unheard) => {}
                None => self.events.push_back(Event::SubflowGone {
                    conn: r.conn,
                    subflow: r.subflow,
                    tuple: r.tuple,
                }),
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
            self.with(now, id, |conn, ctx| {
                if let Some(index) = conn.subflow_index(subflow) {
                    conn.handle_segment(ctx, index, segment);
                }
            });
            return true;
        }
        if self.time_wait.contains_key(&tuple) && self.on_time_wait(now, tuple, segment) {
            return true;
        }
        let h = &segment.header;
        if !h.flags.has(Flags::SYN) || h.flags.has(Flags::ACK) || h.flags.has(Flags::RST) || h.flags.has(Flags::FIN) {
            return false;
        }
        // RFC 8684 section 3.2: a join is matched by its token, whatever port it is sent to.
        if let Some(MpJoin::Syn { .. }) = segment.options.mptcp.join {
            return self.on_join_syn(now, tuple, iface, segment);
        }
        self.on_syn(now, tuple, iface, segment)
    }

    /// RFC 9293 section 3.10.7.4, TIME-WAIT. False when a new connection may take the tuple.
    fn on_time_wait(&mut self, now: Instant, tuple: FourTuple, segment: &Segment<'_>) -> bool {
        let Some(&(tw, _)) = self.time_wait.get(&tuple) else {
            return false;
        };
        let h = &segment.header;
        if h.flags.has(Flags::RST) {
            return true;
        }
        if h.flags.has(Flags::SYN) && !h.flags.has(Flags::ACK) && h.seq.gt(tw.rcv_nxt) {
            // RFC 6191: a newer SYN opens a new connection; the old one's end is reported first.
            self.time_wait.remove(&tuple);
            if let Some(at) = self.time_wait_queue.iter().position(|(_, r)| r.tuple == tuple) {
                if let Some((_, r)) = self.time_wait_queue.remove(at) {
                    self.events.push_back(Event::SubflowGone {
                        conn: r.conn,
                        subflow: r.subflow,
                        tuple,
                    });
                }
            }
            return false;
        }
        let wants_answer = h.flags.has(Flags::FIN) || !segment.payload.is_empty() || h.seq.lt(tw.rcv_nxt);
        if wants_answer {
            let r = Released {
                conn: ConnId(0),
                subflow: SubflowId(0),
                tuple,
                iface: 0,
                time_wait: None,
            };
            self.stray_ack(now, &r, tw);
        }
        true
    }

    /// An acknowledgment from TIME_WAIT: no MPTCP option (vectors A).
    fn stray_ack(&mut self, now: Instant, r: &Released, tw: TimeWait) {
        let options = TcpOptions {
            timestamps: tw.timestamps.map(|(offset, ecr)| Timestamps {
                val: (now.as_millis() as u32).wrapping_add(offset),
                ecr,
            }),
            ..TcpOptions::default()
        };
        let header = Header {
            src_port: r.tuple.local.port(),
            dst_port: r.tuple.remote.port(),
            seq: tw.snd_nxt,
            ack: tw.rcv_nxt,
            flags: Flags::ACK,
            window: 65_535,
        };
        self.push_stray(Stray {
            tuple: r.tuple,
            iface: r.iface,
            header,
            options,
        });
    }

    fn push_stray(&mut self, stray: Stray) {
        if self.stray.len() < MAX_STRAYS {
            self.stray.push_back(stray);
        }
    }

    /// RFC 9293 section 3.10.7.1: a reset for a segment that has no connection; `reason` goes into MP_TCPRST.
    fn stray_reset(&mut self, tuple: FourTuple, iface: u32, segment: &Segment<'_>, reason: u8) {
        let h = &segment.header;
        let len =
            segment.payload.len() as u32 + u32::from(h.flags.has(Flags::SYN)) + u32::from(h.flags.has(Flags::FIN));
        let mut options = TcpOptions::default();
        options.mptcp.tcprst = Some(TcpRst {
            transient: false,
            reason,
        });
        let header = Header {
            src_port: tuple.local.port(),
            dst_port: tuple.remote.port(),
            seq: if h.flags.has(Flags::ACK) { h.ack } else { SeqNum(0) },
            ack: h.seq + len,
            flags: Flags::RST.with(Flags::ACK),
            window: 0,
        };
        self.push_stray(Stray {
            tuple,
            iface,
            header,
            options,
        });
    }

    /// A SYN for a listener (RFC 9293 section 3.10.7.2).
    fn on_syn(&mut self, now: Instant, tuple: FourTuple, iface: u32, segment: &Segment<'_>) -> bool {
        let wildcard = match tuple.local.ip() {
            IpAddr::V4(_) => IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED),
        };
        let any = SocketAddr::new(wildcard, tuple.local.port());
        let Some(options) = self
            .listeners
            .get(&tuple.local)
            .or_else(|| self.listeners.get(&any))
            .cloned()
        else {
            return false;
        };
        if self.half_open >= MAX_HALF_OPEN {
            return true;
        }
        self.half_open += 1;
        let key = self.fresh_key();
        let id = self.fresh_id();
        let path = LocalPath {
            addr: tuple.local.ip(),
            iface,
            mtu: 1500,
            backup: false,
        };
        let mut conn = Connection::new(now, id, Role::Server, tuple, path, options, key);
        if conn.proto == Proto::Negotiating {
            match segment.options.mptcp.capable {
                Some(c) if c.body == MpCapableBody::Syn && (capable_ok(&c) || c.version > 1) => {
                    conn.checksum |= c.flags & super::input::FLAG_CHECKSUM != 0;
                }
                Some(_) => conn.proto = Proto::Plain(Fallback::Version),
                None => conn.proto = Proto::Plain(Fallback::PeerNotCapable),
            }
        }
        let iss = self.isn(now, tuple);
        let mut sf = Subflow::new(now, SubflowId(0), tuple, iface, path.mtu, iss, State::SynReceived);
        sf.learn_syn(now, segment, conn.options.mss_limit);
        sf.ts_offset = self.entropy.next_u64() as u32;
        conn.next_subflow = 1;
        conn.out.edge = conn.out.una + u64::from(segment.header.window);
        conn.subflows.push(sf);
        self.insert(now, conn, tuple);
        true
    }

    /// MP_JOIN (RFC 8684 section 3.2): an unknown token is answered with RST (PROTOCOL J6).
    fn on_join_syn(&mut self, now: Instant, tuple: FourTuple, iface: u32, segment: &Segment<'_>) -> bool {
        let Some(MpJoin::Syn {
            backup,
            address_id,
            token,
            nonce,
        }) = segment.options.mptcp.join
        else {
            return false;
        };
        let Some(&id) = self.tokens.get(&token) else {
            self.stray_reset(tuple, iface, segment, super::input::RST_MPTCP);
            return true;
        };
        let Some(conn) = self.connections.get(&id) else {
            return true;
        };
        let half_open = conn.subflows.iter().filter(|s| s.state == State::SynReceived).count();
        // J7: only when established, and neither after fallback nor after the end of both directions.
        let allowed = conn.multipath() && conn.established && conn.error.is_none() && !conn.finished();
        if !allowed || conn.subflows.len() >= 8 || half_open >= MAX_HALF_OPEN_JOINS {
            self.stray_reset(tuple, iface, segment, super::input::RST_PROHIBITED);
            return true;
        }
        let iss = self.isn(now, tuple);
        let local_nonce = self.entropy.next_u64() as u32;
        let ts_offset = self.entropy.next_u64() as u32;
        let subflow = self.with(now, id, |conn, _| {
            let subflow = SubflowId(conn.next_subflow);
            conn.next_subflow += 1;
            let mut sf = Subflow::new(now, subflow, tuple, iface, 1500, iss, State::SynReceived);
            sf.learn_syn(now, segment, conn.options.mss_limit);
            sf.ts_offset = ts_offset;
            sf.join = Some(Join {
                local_nonce,
                remote_nonce: nonce,
                initiator: false,
                want: 0,
            });
            sf.remote_id = address_id;
            sf.remote_backup = backup;
            conn.subflows.push(sf);
            subflow
        });
        if let Some(subflow) = subflow {
            self.tuples.insert(tuple, (id, subflow));
        }
        true
    }

    fn insert(&mut self, now: Instant, conn: Connection, tuple: FourTuple) {
        let id = conn.id;
        self.tuples.insert(tuple, (id, SubflowId(0)));
        self.tokens.insert(conn.local_token, id);
        self.connections.insert(id, conn);
        self.ready.push_back(id);
        self.settle(now, id);
    }

    fn fresh_id(&mut self) -> ConnId {
        let id = ConnId(self.next_id);
        self.next_id += 1;
        id
    }

    /// A key whose token no other connection has (RFC 8684 section 3.1; 0 is not a token, so that "none" can be told).
    fn fresh_key(&mut self) -> u64 {
        loop {
            let key = self.entropy.next_u64();
            let token = crypto::token(key);
            if token != 0 && !self.tokens.contains_key(&token) {
                return key;
            }
        }
    }

    /// RFC 6528: a clock of 4 microseconds plus a keyed hash of the tuple.
    fn isn(&self, now: Instant, tuple: FourTuple) -> SeqNum {
        let mut h = SipHasher13::new_with_keys(self.isn_key.0, self.isn_key.1);
        for a in [tuple.local, tuple.remote] {
            match a.ip() {
                IpAddr::V4(v4) => h.write(&v4.octets()),
                IpAddr::V6(v6) => h.write(&v6.octets()),
            }
            h.write_u16(a.port());
        }
        SeqNum((h.finish() as u32).wrapping_add((now.as_micros() / 4) as u32))
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
        while self.time_wait_queue.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, r)) = self.time_wait_queue.pop_front() else {
                break;
            };
            self.time_wait.remove(&r.tuple);
            self.events.push_back(Event::SubflowGone {
                conn: r.conn,
                subflow: r.subflow,
                tuple: r.tuple,
            });
        }
        while let Some(&(at, id)) = self.timers.first() {
            if at > now {
                break;
            }
            self.disarm(id);
            self.with(now, id, |conn, ctx| {
                conn.handle_timeout(ctx);
                conn.after_input(ctx);
            });
            // A timer that stays due would spin: whatever it is, a millisecond later is soon enough.
            if let Some(again) = self.armed.get(&id).copied().filter(|t| *t <= now) {
                let later = again.max(now) + Duration::from_millis(1);
                self.rearm(id, Some(later));
            }
        }
    }

    // ---- output -----------------------------------------------------------------------------------------------

    /// The next segment to send, None when there is none now.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing<'_>> {
        if let Some(s) = self.stray.pop_front() {
            return Some(Outgoing {
                src: s.tuple.local.ip(),
                dst: s.tuple.remote.ip(),
                iface: s.iface,
                header: s.header,
                options: s.options,
                payload: [&[], &[]],
                tos: 0,
                ttl: 0,
                mark: 0,
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
                    self.ready.pop_front();
                    self.settle(now, id);
                }
                Some(plan) => {
                    if !self.released.is_empty() {
                        // A reset takes its subflow along; it has no payload, so the connection may go too.
                        let out = plan.bare();
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
        let wait = self.time_wait_queue.front().map(|(at, _)| *at);
        [timer, wait].into_iter().flatten().min()
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
        if self.tuples.contains_key(&tuple) || self.time_wait.contains_key(&tuple) {
            return Err(CallError::InUse);
        }
        let key = self.fresh_key();
        let id = self.fresh_id();
        let iss = self.isn(now, tuple);
        let mut conn = Connection::new(now, id, Role::Client, tuple, path, options, key);
        let mut sf = Subflow::new(now, SubflowId(0), tuple, path.iface, path.mtu, iss, State::SynSent);
        sf.ts_offset = self.entropy.next_u64() as u32;
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

    /// Stops accepting at `local`; connections live on.
    pub fn unlisten(&mut self, local: SocketAddr) {
        self.listeners.remove(&local);
    }

    /// Local addresses that `conn` may open further subflows from (the first one's may be among them). Replaces the list; a subflow from
    /// an address that is gone is closed and REMOVE_ADDR sent. A client opens joins from them, a server announces them with ADD_ADDR.
    pub fn set_paths(&mut self, now: Instant, conn: ConnId, paths: &[LocalPath]) {
        self.with(now, conn, |c, ctx| c.set_paths(ctx, paths));
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
        let (path, local_id, remote, remote_id) = c.take_want(want).ok_or(CallError::Gone)?;
        let tuple = FourTuple { local, remote };
        if self.tuples.contains_key(&tuple) || self.time_wait.contains_key(&tuple) {
            return Err(CallError::InUse);
        }
        let iss = self.isn(now, tuple);
        let local_nonce = self.entropy.next_u64() as u32;
        let ts_offset = self.entropy.next_u64() as u32;
        let id = self.with(now, conn, |c, _| {
            let id = SubflowId(c.next_subflow);
            c.next_subflow += 1;
            let mut sf = Subflow::new(now, id, tuple, path.iface, path.mtu, iss, State::SynSent);
            sf.ts_offset = ts_offset;
            sf.join = Some(Join {
                local_nonce,
                remote_nonce: 0,
                initiator: true,
                want,
            });
            sf.local_id = local_id;
            sf.remote_id = remote_id;
            sf.local_backup = path.backup;
            c.subflows.push(sf);
            id
        });
        let id = id.ok_or(CallError::Gone)?;
        self.tuples.insert(tuple, (conn, id));
        Ok(id)
    }

    /// Answers `WantSubflow`: no port, or no route.
    pub fn subflow_refused(&mut self, now: Instant, conn: ConnId, want: u32) {
        self.with(now, conn, |c, _| c.want_refused(now, want));
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

    /// Changes nodelay, keepalive, user_timeout, tos, ttl, mark of a live connection.
    pub fn set_options(&mut self, now: Instant, conn: ConnId, change: &mut dyn FnMut(&mut ConnOptions)) {
        self.with(now, conn, |c, _| change(&mut c.options));
    }

    /// A picture of one connection.
    pub fn info(&self, conn: ConnId) -> Option<ConnInfo> {
        self.connections.get(&conn).map(Connection::info)
    }

    /// Every connection, oldest first.
    pub fn connections(&self) -> Vec<ConnId> {
        let mut ids: Vec<ConnId> = self.connections.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// 4-tuples in TIME_WAIT.
    pub fn time_wait_len(&self) -> usize {
        self.time_wait.len()
    }
}

impl From<super::output::Bare> for Stray {
    fn from(b: super::output::Bare) -> Self {
        Stray {
            tuple: b.tuple,
            iface: b.iface,
            header: b.header,
            options: b.options,
        }
    }
}

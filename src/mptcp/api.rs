//! What the core and its callers say to each other: names, options, events, errors, pictures. No logic.

pub use super::pattern::Traffic;
pub use super::scheduler::Scheduler;
pub use super::steer::{SteerError, SubflowManner};
pub use super::tally::{Stopwatch, Tally, Waits};
pub use crate::tcp::congestion::Algorithm;
use crate::time::Duration;
use core::net::{IpAddr, SocketAddr};

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

impl FourTuple {
    /// As the peer sees it.
    pub fn reversed(self) -> FourTuple {
        FourTuple {
            local: self.remote,
            remote: self.local,
        }
    }
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
    /// TCP_CORK: an incomplete segment waits until it is full, the stream ends, or 200 ms have passed.
    pub cork: bool,
    /// Keepalive: idle time, interval, count.
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT; None is the RFC 9293 R2 default.
    pub user_timeout: Option<Duration>,
    /// TCP_SYNCNT: SYN retransmissions before the connection attempt fails.
    pub syn_retries: u8,
    /// The connection attempt fails after this even if SYNs were left; None is no such bound.
    pub syn_patience: Option<Duration>,
    /// Upper bound of the MSS we announce and use (TCP_MAXSEG); 0 is none.
    pub mss_limit: u16,
    /// Bytes that may wait in the send buffer (its upper bound: it grows with what the paths carry).
    pub send_buffer: usize,
    /// Bytes that may wait in the receive buffer at the most.
    pub recv_buffer: usize,
    /// Bytes that may wait there before the application has read any: what it reads lets the buffer grow. As much as
    /// `recv_buffer` where that is the program's own choice.
    pub recv_buffer_first: usize,
    /// IP TOS / traffic class of every segment.
    pub tos: u8,
    /// TTL / hop limit, 0 the system's.
    pub ttl: u8,
    /// SO_MARK.
    pub mark: u32,
    /// Bytes, of both directions, before a client opens further subflows; 0 is at once, u64::MAX never. A server with never announces no
    /// addresses, refuses joins, and says so in its SYN/ACK (C flag, RFC 8684 section 3.1).
    pub join_after: u64,
    /// Congestion control of every subflow (TCP_CONGESTION).
    pub congestion: Algorithm,
    /// Which subflow takes what.
    pub scheduler: Scheduler,
    /// When subflows that are slow beside the fastest one carry nothing new.
    pub low_latency: LowLatency,
}

/// When a connection rather waits for its fastest paths than sends on slow ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LowLatency {
    /// Never: whatever has room takes data.
    #[default]
    Never,
    /// While its writes are short messages.
    WhenInteractive,
    /// Unless its writes are bulk.
    UnlessBulk,
    /// Always.
    Always,
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
            cork: false,
            keepalive: None,
            user_timeout: None,
            syn_retries: 6,
            syn_patience: None,
            mss_limit: 0,
            send_buffer: 16 << 20,
            recv_buffer: 6 << 20,
            recv_buffer_first: 512 << 10,
            tos: 0,
            ttl: 0,
            mark: 0,
            join_after: 0,
            congestion: Algorithm::default(),
            scheduler: Scheduler::default(),
            low_latency: LowLatency::Never,
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
    /// A subflow that was up carries nothing any more. Its 4-tuple may be in TIME_WAIT yet: `SubflowGone` says when it is free.
    SubflowDown {
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
    /// Next data sequence number to write, the oldest not acknowledged, the next expected.
    pub write_seq: u64,
    /// As above.
    pub snd_una: u64,
    /// As above.
    pub rcv_nxt: u64,
    /// DSS checksums are used.
    pub checksum: bool,
    /// What its writes say.
    pub traffic: Traffic,
    /// Addresses of ours that the peer was told of.
    pub announced: u8,
    /// Addresses of the peer that were taken up.
    pub heard: u8,
    /// Bytes waiting in the send buffer (unacknowledged and unsent).
    pub send_queue: usize,
    /// Of these, never sent.
    pub unsent: usize,
    /// Bytes waiting to be read.
    pub recv_queue: usize,
    /// Bytes that may wait there at present.
    pub recv_space: usize,
    /// What went over all subflows, also over those that are no more.
    pub tally: Tally,
    /// What it waited for.
    pub waits: Waits,
    /// Live subflows.
    pub subflows: Vec<SubflowInfo>,
}

/// What a sender repeats, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Repair {
    /// Nothing was lost.
    #[default]
    None,
    /// What acknowledgments showed to be lost (RFC 6675, RFC 8985).
    Recovery,
    /// Everything, after a timeout (RFC 6298).
    Timeout,
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
    /// Established, MPTCP's handshake included (RFC 6897 section 5.3.3).
    pub up: bool,
    /// Either side marked it backup.
    pub backup: bool,
    /// It does not answer at present.
    pub stalled: bool,
    /// What is different on it than on the connection.
    pub manner: SubflowManner,
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
    /// Payload bytes that the peer acknowledged.
    pub bytes_acked: u64,
    /// Payload bytes received, in order.
    pub bytes_received: u64,
    /// What went over it.
    pub tally: Tally,
    /// Segments sent and not cumulatively acknowledged.
    pub unacked: u32,
    /// Of these, acknowledged selectively.
    pub sacked: u32,
    /// Of these, taken for lost and not sent again yet.
    pub lost: u32,
    /// What is being repaired.
    pub repair: Repair,
    /// Retransmission timeouts since something was acknowledged.
    pub timeouts: u32,
    /// The least round trip of late, microseconds; None before a sample.
    pub min_rtt_us: Option<u32>,
    /// Bytes a second that pacing allows; None where it does not hold anything back.
    pub pacing_rate: Option<u64>,
    /// Bytes a second that the path delivered, and whether that was all that there was to send; None before a sample.
    pub delivery_rate: Option<(u64, bool)>,
    /// Windows that the peer has announced last, and we, bytes.
    pub windows: (u32, u32),
    /// The largest payload that came in one segment, bytes.
    pub largest_received: u32,
    /// The largest payload that the peer may send in one, bytes.
    pub payload_max: u32,
    /// How long something was not acknowledged.
    pub busy: Stopwatch,
    /// How long a timeout's damage was being repaired.
    pub repairing: Stopwatch,
}

/// A caller's mistake, or a connection that can no longer do what is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// No such connection (any more).
    Gone,
    /// This direction was closed.
    Shutdown,
    /// The connection broke.
    Broken(ConnError),
    /// The 4-tuple is in use.
    InUse,
}

//! One subflow: a TCP flow (`tcp::Sender`, `tcp::Receiver`) with its handshake, TCP state and what MPTCP knows about it.
//! What happens on it is decided in `connection` and its siblings; this file holds the data and its small questions.

use super::endpoint::{Algorithm, ConnOptions, FourTuple, SubflowId, SubflowManner};
use super::tally::{Stopwatch, Tally};
use crate::tcp::{Receiver, Sender};
use crate::time::{Duration, Instant};
use crate::wire::{Checksum, Dsn, DssMap, Flags, Header, Segment, SeqNum, TcpOptions, TcpRst, Timestamps};
use std::collections::VecDeque;

/// Our window scale shift: granularity 1 KiB, enough for 64 MiB (RFC 7323 section 2.2).
pub(super) const WINDOW_SCALE: u8 = 10;
/// RFC 6298 section 2.1: before a sample.
pub(super) const INITIAL_RTO: Duration = Duration::from_secs(1);
/// Mappings of one subflow that wait for their bytes.
const MAX_MAPS: usize = 64;

/// TCP connection state (RFC 9293 section 3.3.2). TIME_WAIT lives in the endpoint's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
        }
    }
    /// Both SYNs are exchanged.
    pub fn synchronized(self) -> bool {
        !matches!(self, State::SynSent | State::SynReceived)
    }
    /// Our side has not sent its FIN.
    pub fn can_send(self) -> bool {
        matches!(self, State::Established | State::CloseWait)
    }
}

/// The mapping a data segment was first sent with; it is repeated bit for bit (note D6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SendMap {
    pub dsn: Dsn,
    pub ssn: u32,
    pub len: u16,
    pub checksum: Option<u16>,
}

/// What a sent segment carried.
#[derive(Debug)]
pub(super) struct SendTag {
    /// Number of its first byte.
    pub dsn: Dsn,
    /// None on plain TCP.
    pub map: Option<SendMap>,
    /// The bytes, when the connection's send buffer no longer holds them.
    pub detached: Option<Box<[u8]>>,
    /// Another subflow was given it too.
    pub elsewhere: bool,
}

impl SendTag {
    /// The first `n` bytes are acknowledged; the mapping keeps describing the whole.
    pub fn trim(&mut self, n: u32) {
        self.dsn += u64::from(n);
        if let Some(bytes) = self.detached.take() {
            self.detached = Some(bytes.get(n as usize..).unwrap_or_default().into());
        }
    }
}

/// A mapping the peer announced on this subflow.
#[derive(Debug)]
pub(super) struct RecvMap {
    pub ssn: u32,
    pub dsn: Dsn,
    /// Payload bytes mapped (a DATA_FIN not counted).
    pub len: u32,
    pub checked: Option<Checked>,
}

/// A mapping under checksum is delivered only when all of it is here and right.
#[derive(Debug)]
pub(super) struct Checked {
    pub sum: Checksum,
    pub held: Vec<u8>,
}

/// What MP_JOIN needs to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Join {
    pub local_nonce: u32,
    pub remote_nonce: u32,
    /// We sent the SYN.
    pub initiator: bool,
}

/// The handshake's own retransmission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshake {
    pub send_now: bool,
    pub sent: u8,
    pub sent_at: Instant,
    /// When the subflow was made.
    pub since: Instant,
    pub rto: Duration,
    pub timer: Option<Instant>,
}

/// A reset to send, and what it says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reset {
    pub fastclose: bool,
    pub reason: Option<TcpRst>,
    pub fail: Option<Dsn>,
}

#[derive(Debug)]
pub(super) struct Subflow {
    pub id: SubflowId,
    pub tuple: FourTuple,
    pub iface: u32,
    pub mtu: u32,
    pub state: State,
    pub iss: SeqNum,
    pub irs: SeqNum,
    pub tx: Sender<SendTag>,
    pub rx: Receiver<TcpOptions>,
    pub handshake: Handshake,
    /// None on the first subflow.
    pub join: Option<Join>,
    /// The first subflow: the peer has our key. A join of ours: the fourth ACK came. A join of the peer's: its HMAC was right.
    pub confirmed: bool,
    /// As a client we sent our key in MP_CAPABLE: a DATA_FIN may follow, not precede it.
    pub keys_shown: bool,
    /// A join that the peer opened takes one segment at a time until it acknowledged one (note J9).
    pub one_at_a_time: bool,
    pub local_id: u8,
    pub remote_id: u8,
    pub local_backup: bool,
    pub own_manner: SubflowManner,
    pub remote_backup: bool,
    /// Timestamps are in use; the last TSval of the peer, and when it came (RFC 7323 section 4.3).
    pub timestamps: bool,
    pub ts_recent: u32,
    pub ts_recent_at: Instant,
    pub ts_offset: u32,
    pub sack: bool,
    pub snd_scale: u8,
    pub rcv_scale: u8,
    /// Largest TCP payload the peer takes, options not subtracted.
    pub peer_mss: u32,
    /// Largest window the peer ever offered, for RFC 5961 section 5.
    pub max_window: u32,
    /// The last one that it announced.
    pub last_window: u32,
    /// Window of the last segment, for status.
    pub last_advertised: u32,
    pub maps: VecDeque<RecvMap>,
    /// How often the next byte came without a mapping.
    pub unmapped: u8,
    /// No answer: its data was given to the others.
    pub stalled: bool,
    /// Data sent here ended before this number.
    pub position: Option<Dsn>,
    /// When it last lost half its window for holding up the others.
    pub penalized_at: Instant,
    pub reset: Option<Reset>,
    pub close_queued: bool,
    pub probe_now: bool,
    /// The probe carries a byte: Linux answers bare ones twice a second at the most.
    pub probe_with_byte: bool,
    /// A tail-loss probe is due.
    pub tlp_now: bool,
    pub prio_now: bool,
    /// MP_FAIL to send on the next segment.
    pub fail_now: Option<Dsn>,
    pub join_ack_timer: Option<Instant>,
    pub deadline: Option<Instant>,
    pub keepalive_probes: u8,
    pub keepalive_sent: Option<Instant>,
    /// Silence checks of the receiver: probes sent, and when the last left.
    pub silence_probes: u8,
    pub silence_at: Option<Instant>,
    pub got_payload: bool,
    pub challenge_acks: u8,
    pub challenge_window: Instant,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// What nobody else counts; `tally` has all of it.
    pub counted: Tally,
    /// The largest payload that came in one segment, as far as the host tells them apart.
    pub largest_received: u32,
    /// Something is not acknowledged.
    pub busy: Stopwatch,
    /// A timeout's damage is being repaired.
    pub repairing: Stopwatch,
}

impl Subflow {
    pub fn new(now: Instant, id: SubflowId, tuple: FourTuple, iface: u32, mtu: u32, iss: SeqNum, state: State) -> Self {
        Subflow {
            id,
            tuple,
            iface,
            mtu,
            state,
            iss,
            irs: SeqNum(0),
            tx: Sender::new(now, iss + 1, 536, Algorithm::default()),
            rx: Receiver::new(now, SeqNum(0)),
            handshake: Handshake {
                send_now: true,
                sent: 0,
                sent_at: now,
                since: now,
                rto: INITIAL_RTO,
                timer: None,
            },
            join: None,
            confirmed: false,
            keys_shown: false,
            one_at_a_time: false,
            local_id: 0,
            remote_id: 0,
            local_backup: false,
            own_manner: SubflowManner::default(),
            remote_backup: false,
            timestamps: true,
            ts_recent: 0,
            ts_recent_at: now,
            ts_offset: 0,
            sack: true,
            snd_scale: 0,
            rcv_scale: 0,
            peer_mss: 536,
            max_window: 0,
            last_window: 0,
            last_advertised: 0,
            maps: VecDeque::new(),
            unmapped: 0,
            stalled: false,
            position: None,
            penalized_at: Instant::ZERO,
            reset: None,
            close_queued: false,
            probe_now: false,
            probe_with_byte: false,
            tlp_now: false,
            prio_now: false,
            fail_now: None,
            join_ack_timer: None,
            deadline: None,
            keepalive_probes: 0,
            keepalive_sent: None,
            silence_probes: 0,
            silence_at: None,
            got_payload: false,
            challenge_acks: 0,
            challenge_window: now,
            bytes_sent: 0,
            bytes_received: 0,
            counted: Tally::new(now),
            largest_received: 0,
            busy: Stopwatch::default(),
            repairing: Stopwatch::default(),
        }
    }

    /// IP and TCP headers without options.
    fn header_bytes(&self) -> u32 {
        if self.tuple.local.is_ipv4() {
            40
        } else {
            60
        }
    }

    /// The MSS to announce (RFC 6691), `limit` 0 being none.
    pub fn announced_mss(&self, limit: u16) -> u16 {
        let mss = self.mtu.saturating_sub(self.header_bytes()).clamp(88, 65_495);
        if limit == 0 {
            mss as u16
        } else {
            (mss as u16).min(limit.max(88))
        }
    }

    /// TCP bytes beyond the fixed header that one packet carries: options and payload.
    pub fn segment_room(&self, limit: u16) -> u32 {
        self.peer_mss.min(u32::from(self.announced_mss(limit)))
    }

    /// Learns what a SYN or SYN/ACK says (RFC 9293, 7323, 2018).
    pub fn learn_syn(&mut self, now: Instant, seg: &Segment<'_>, asked: &ConnOptions) {
        let mss_limit = asked.mss_limit;
        let o = &seg.options;
        self.irs = seg.header.seq;
        // As Linux counts them.
        (self.counted.last_data_sent, self.counted.last_data_received) = (now, now);
        self.rx = Receiver::new(now, seg.header.seq + 1);
        // RFC 9293 section 3.7.1: 536 without the option. An absurdly small value would make us send tinygrams for ever.
        let default = if self.tuple.local.is_ipv4() { 536 } else { 1220 };
        self.peer_mss = u32::from(o.mss.unwrap_or(default)).max(88);
        self.timestamps &= o.timestamps.is_some();
        if let Some(ts) = o.timestamps {
            self.ts_recent = ts.val;
            self.ts_recent_at = now;
        }
        self.sack &= o.sack_permitted;
        match o.window_scale {
            Some(shift) => {
                self.snd_scale = shift.min(14);
                self.rcv_scale = WINDOW_SCALE;
            }
            None => {
                self.snd_scale = 0;
                self.rcv_scale = 0;
            }
        }
        // RFC 7323 section 2.2: the window of a SYN is never scaled.
        self.max_window = u32::from(seg.header.window);
        self.last_window = self.max_window;
        let options = if self.timestamps { 12 } else { 0 };
        self.tx = Sender::new(
            now,
            self.iss + 1,
            self.segment_room(mss_limit).saturating_sub(options).max(1),
            asked.congestion,
        );
    }

    /// Payload that the peer may put in one segment.
    pub fn payload_max(&self, mss_limit: u16) -> u32 {
        let options = if self.timestamps { 12 } else { 0 };
        u32::from(self.announced_mss(mss_limit)).saturating_sub(options)
    }

    /// Payload that the peer acknowledged.
    pub fn bytes_acked(&self) -> u64 {
        let outstanding: u32 = self.tx.snd_nxt().diff(self.tx.snd_una()).max(0) as u32;
        let fin = u32::from(self.tx.fin_sent() && outstanding > 0);
        let sent = self.bytes_sent.saturating_sub(self.counted.bytes_retransmitted);
        sent.saturating_sub(u64::from(outstanding - fin))
    }

    /// A segment arrived, or a run of several that the host has merged.
    pub fn note_arrival(&mut self, now: Instant, seg: &Segment<'_>, mss_limit: u16) {
        let payload = seg.payload.len() as u32;
        self.largest_received = self.largest_received.max(payload.min(self.payload_max(mss_limit)));
        let acknowledges = seg.header.flags.has(Flags::ACK);
        self.counted
            .on_received(now, payload, self.largest_received, acknowledges);
    }

    /// The times that something took so far.
    pub fn note_waits(&mut self, now: Instant) {
        self.busy.note(now, !self.tx.is_idle());
        self.repairing.note(now, self.tx.after_timeout());
    }

    /// Everything that was counted.
    pub fn tally(&self) -> Tally {
        Tally {
            segments_delivered: self.tx.delivered_segments(),
            // Those of its SYN too, as in Linux.
            retransmits: self.tx.retransmits.wrapping_add(self.counted.retransmits),
            duplicates: self.tx.duplicates,
            reordered: self.tx.reordered(),
            ahead: self.rx.ahead,
            timeouts: self.tx.timeouts,
            timeout_recoveries: self.tx.timeout_recoveries,
            ..self.counted
        }
    }

    /// Window of a non-SYN segment, in bytes.
    pub fn window_of(&mut self, header: &Header) -> u32 {
        let w = u32::from(header.window) << self.snd_scale;
        self.max_window = self.max_window.max(w);
        self.last_window = w;
        w
    }

    /// TSval for a segment that leaves now: milliseconds with an offset of the flow's own (RFC 7323 section 5.4).
    pub fn timestamps_now(&self, now: Instant) -> Timestamps {
        Timestamps {
            val: (now.as_millis() as u32).wrapping_add(self.ts_offset),
            ecr: self.ts_recent,
        }
    }

    /// When the segment that is answered with `ecr` left, to the millisecond; None without timestamps.
    pub fn echoed(&self, now: Instant, ecr: u32) -> Option<Instant> {
        let ago = self.timestamps_now(now).val.wrapping_sub(ecr);
        let sent = now.as_millis().checked_sub(u64::from(ago))?;
        self.timestamps.then(|| Instant::from_millis(sent))
    }

    /// Sequence number relative to ours: the SSN of a mapping (RFC 8684 section 3.3).
    pub fn ssn_out(&self, seq: SeqNum) -> u32 {
        seq.0.wrapping_sub(self.iss.0)
    }

    /// Sequence number relative to the peer's.
    pub fn ssn_in(&self, seq: SeqNum) -> u32 {
        seq.0.wrapping_sub(self.irs.0)
    }

    /// Either side asked for backup use only (note P2).
    pub fn backup(&self) -> bool {
        self.local_backup || self.remote_backup
    }

    /// New data may go here as far as the handshakes and TCP's state are concerned.
    pub fn usable(&self) -> bool {
        self.state.can_send() && self.reset.is_none() && !self.close_queued && (self.join.is_none() || self.confirmed)
    }

    /// Established in the sense of RFC 6897 TCP_MULTIPATH_SUBFLOWS.
    pub fn is_up(&self) -> bool {
        self.state.synchronized() && self.reset.is_none() && (self.join.is_none() || self.confirmed)
    }

    /// RFC 5961 section 7: at most 10 challenge ACKs a second.
    pub fn challenge(&mut self, now: Instant) {
        if now.since(self.challenge_window) >= Duration::from_secs(1) {
            self.challenge_window = now;
            self.challenge_acks = 0;
        }
        if self.challenge_acks < 10 {
            self.challenge_acks += 1;
            self.rx.demand_ack();
        }
    }

    /// Adds a mapping that the peer announced; false when it contradicts one that covers the same bytes (note D6)
    /// or there are too many.
    pub fn add_map(&mut self, map: &DssMap, dsn: Dsn, data_fin: bool, checked: Option<Checksum>) -> bool {
        let len = u32::from(map.len) - u32::from(data_fin && map.len > 0);
        let nxt = self.ssn_in(self.rx.rcv_nxt());
        if map.ssn.wrapping_add(len).wrapping_sub(nxt) as i32 <= 0 {
            return true;
        }
        for m in &self.maps {
            if m.ssn == map.ssn {
                return m.dsn == dsn && m.len == len;
            }
            let apart = m.ssn.wrapping_add(m.len).wrapping_sub(map.ssn) as i32 <= 0
                || map.ssn.wrapping_add(len).wrapping_sub(m.ssn) as i32 <= 0;
            if !apart {
                return false;
            }
        }
        if self.maps.len() >= MAX_MAPS {
            return false;
        }
        let checked = checked.map(|sum| Checked { sum, held: Vec::new() });
        let at = self.maps.partition_point(|m| (m.ssn.wrapping_sub(map.ssn) as i32) < 0);
        self.maps.insert(
            at,
            RecvMap {
                ssn: map.ssn,
                dsn,
                len,
                checked,
            },
        );
        true
    }
}

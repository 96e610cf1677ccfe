//! `struct tcp_info` for getsockopt(TCP_INFO) and MPTCP_TCPINFO: the connection as one TCP with the figures of its best subflow, or one subflow.
//! A field that nothing here counts is 0, as on a kernel that is older than the field: those of Fast Open, of ECN and of rehashing, which are not
//! done, the receiver's estimate of the round trip, and last_ack_sent, which is 0 in the kernel too.

use crate::control::picture::TCP_INFO_LEN;
use crate::mptcp::endpoint::{ConnInfo, Repair, SubflowInfo, Tally};
use crate::tcp::receiver::DELAYED_ACK;
use crate::time::{Duration, Instant};

/// `struct tcp_info` of linux/tcp.h (Linux 6.18).
#[repr(C)]
#[derive(Default)]
struct TcpInfo {
    state: u8,
    ca_state: u8,
    retransmits: u8,
    probes: u8,
    backoff: u8,
    options: u8,
    /// Two fields of four bits, the sender's first.
    wscale: u8,
    flags: u8,
    rto: u32,
    ato: u32,
    snd_mss: u32,
    rcv_mss: u32,
    unacked: u32,
    sacked: u32,
    lost: u32,
    retrans: u32,
    fackets: u32,
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_recv: u32,
    last_ack_recv: u32,
    pmtu: u32,
    rcv_ssthresh: u32,
    rtt: u32,
    rttvar: u32,
    snd_ssthresh: u32,
    snd_cwnd: u32,
    advmss: u32,
    reordering: u32,
    rcv_rtt: u32,
    rcv_space: u32,
    total_retrans: u32,
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    segs_out: u32,
    segs_in: u32,
    notsent_bytes: u32,
    min_rtt: u32,
    data_segs_in: u32,
    data_segs_out: u32,
    delivery_rate: u64,
    busy_time: u64,
    rwnd_limited: u64,
    sndbuf_limited: u64,
    delivered: u32,
    delivered_ce: u32,
    bytes_sent: u64,
    bytes_retrans: u64,
    dsack_dups: u32,
    reord_seen: u32,
    rcv_ooopack: u32,
    snd_wnd: u32,
    rcv_wnd: u32,
    rehash: u32,
    total_rto: u16,
    total_rto_recoveries: u16,
    total_rto_time: u32,
    /// The last ones are about Accurate ECN, which nothing here speaks: no mark was ever seen.
    accurate_ecn: [u32; 8],
}

const _: () = assert!(size_of::<TcpInfo>() == TCP_INFO_LEN);

impl TcpInfo {
    fn count(&mut self, tally: &Tally, now: Instant) {
        self.segs_out = tally.segments_sent;
        self.segs_in = tally.segments_received;
        self.data_segs_out = tally.data_segments_sent;
        self.data_segs_in = tally.data_segments_received;
        self.delivered = tally.segments_delivered;
        self.total_retrans = tally.retransmits;
        self.bytes_retrans = tally.bytes_retransmitted;
        self.dsack_dups = tally.duplicates;
        self.reord_seen = tally.reordered;
        self.rcv_ooopack = tally.ahead;
        self.total_rto = u16::try_from(tally.timeouts).unwrap_or(u16::MAX);
        self.total_rto_recoveries = u16::try_from(tally.timeout_recoveries).unwrap_or(u16::MAX);
        self.last_data_sent = ms_ago(now, tally.last_data_sent);
        self.last_data_recv = ms_ago(now, tally.last_data_received);
        self.last_ack_recv = ms_ago(now, tally.last_ack_received);
    }

    fn bytes(self) -> [u8; TCP_INFO_LEN] {
        // SAFETY: the struct consists of integers and has no padding: its fields' sizes add up to its own.
        unsafe { std::mem::transmute::<TcpInfo, [u8; TCP_INFO_LEN]>(self) }
    }
}

/// How long ago, ms.
pub fn ms_ago(now: Instant, then: Instant) -> u32 {
    u32::try_from(now.since(then).as_millis()).unwrap_or(u32::MAX)
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The struct's bytes for a connection; `ends` says which streams have ended: the program's, and the peer's. `unread` bytes are written by
/// the program, and the core has not seen them yet.
pub fn bytes(info: &ConnInfo, ends: (bool, bool), unread: u32, now: Instant) -> [u8; TCP_INFO_LEN] {
    let mut out = TcpInfo::default();
    let alive = info
        .subflows
        .iter()
        .filter(|subflow| subflow.srtt_us > 0 && !subflow.stalled);
    if let Some(best) = alive.min_by_key(|subflow| subflow.srtt_us).or(info.subflows.first()) {
        out = fill(best, now);
    }
    out.state = match ends {
        _ if !info.established => TCP_SYN_SENT,
        (false, false) => TCP_ESTABLISHED,
        (false, true) => TCP_CLOSE_WAIT,
        (true, false) if info.send_queue > 0 => TCP_FIN_WAIT1,
        (true, false) => TCP_FIN_WAIT2,
        (true, true) => TCP_LAST_ACK,
    };
    let in_flight = info.send_queue - info.unsent.min(info.send_queue);
    let sum = |count: fn(&SubflowInfo) -> u32| info.subflows.iter().map(count).sum();
    out.unacked = sum(|subflow| subflow.unacked);
    out.sacked = sum(|subflow| subflow.sacked);
    out.lost = sum(|subflow| subflow.lost);
    out.count(&info.tally, now);
    out.bytes_acked = info.bytes_acked;
    out.bytes_received = info.bytes_received;
    out.bytes_sent = info.bytes_acked + in_flight as u64 + out.bytes_retrans;
    out.notsent_bytes = u32::try_from(info.unsent).unwrap_or(u32::MAX).saturating_add(unread);
    out.rcv_space = u32::try_from(info.recv_space).unwrap_or(u32::MAX);
    out.busy_time = us(info.waits.busy.read(now));
    out.rwnd_limited = us(info.waits.window.read(now));
    out.sndbuf_limited = us(info.waits.buffer.read(now));
    out.bytes()
}

/// The struct's bytes for a connection that is over; None of the kernel's.
pub fn closed(info: Option<&ConnInfo>, now: Instant) -> [u8; TCP_INFO_LEN] {
    let mut out = info.map_or([0; TCP_INFO_LEN], |info| bytes(info, (true, true), 0, now));
    out[0] = TCP_CLOSE;
    out
}

/// The struct's bytes for one subflow.
pub fn of_subflow(subflow: &SubflowInfo, now: Instant) -> [u8; TCP_INFO_LEN] {
    let mut out = fill(subflow, now);
    out.state = match subflow.state {
        "SYN-SENT" => TCP_SYN_SENT,
        "SYN-RECEIVED" => TCP_SYN_RECV,
        "FIN-WAIT-1" => TCP_FIN_WAIT1,
        "FIN-WAIT-2" => TCP_FIN_WAIT2,
        "CLOSE-WAIT" => TCP_CLOSE_WAIT,
        "CLOSING" => TCP_CLOSING,
        "LAST-ACK" => TCP_LAST_ACK,
        "CLOSED" => TCP_CLOSE,
        _ => TCP_ESTABLISHED,
    };
    out.count(&subflow.tally, now);
    out.bytes_sent = subflow.bytes_sent;
    out.bytes_acked = subflow.bytes_acked;
    out.busy_time = us(subflow.busy.read(now));
    out.bytes_received = subflow.bytes_received;
    out.bytes()
}

// tcp_states.h.
const TCP_ESTABLISHED: u8 = 1;
const TCP_SYN_SENT: u8 = 2;
const TCP_SYN_RECV: u8 = 3;
const TCP_FIN_WAIT1: u8 = 4;
const TCP_FIN_WAIT2: u8 = 5;
const TCP_CLOSE: u8 = 7;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LAST_ACK: u8 = 9;
const TCP_CLOSING: u8 = 11;

// TCP_CA_* and TCPI_OPT_* of linux/tcp.h.
const CA_RECOVERY: u8 = 3;
const CA_LOSS: u8 = 4;
const OPT_TIMESTAMPS: u8 = 1;
const OPT_SACK: u8 = 2;
const OPT_WSCALE: u8 = 4;
/// tcpi_delivery_rate_app_limited.
const FLAG_RATE_LIMITED_BY_PROGRAM: u8 = if cfg!(target_endian = "little") { 1 } else { 0x80 };
/// TCP_MIN_RCVMSS.
const RCV_MSS_MIN: u32 = 536;
/// How far segments may be out of order before one counts as lost (RFC 6675 DupThresh).
const REORDERING: u32 = 3;

fn fill(subflow: &SubflowInfo, now: Instant) -> TcpInfo {
    let mss = subflow.mss.max(1);
    let (theirs, ours) = subflow.window_shifts;
    let mut options = 0;
    for (used, option) in [
        (subflow.timestamps, OPT_TIMESTAMPS),
        (subflow.sack, OPT_SACK),
        (theirs | ours != 0, OPT_WSCALE),
    ] {
        options |= if used { option } else { 0 };
    }
    TcpInfo {
        ca_state: match subflow.repair {
            Repair::None => 0,
            Repair::Recovery => CA_RECOVERY,
            Repair::Timeout => CA_LOSS,
        },
        retransmits: u8::try_from(subflow.timeouts).unwrap_or(u8::MAX),
        backoff: u8::try_from(subflow.timeouts).unwrap_or(u8::MAX),
        options,
        unacked: subflow.unacked,
        sacked: subflow.sacked,
        lost: subflow.lost,
        // As the kernel says it where nothing was measured, and nothing holds back.
        min_rtt: subflow.min_rtt_us.unwrap_or(u32::MAX),
        pacing_rate: subflow.pacing_rate.unwrap_or(u64::MAX),
        max_pacing_rate: u64::MAX,
        wscale: if cfg!(target_endian = "little") {
            ours << 4 | theirs & 0xf
        } else {
            theirs << 4 | ours & 0xf
        },
        rto: subflow.rto_us,
        snd_mss: subflow.mss,
        // As in the kernel never less than what TCP takes for granted.
        rcv_mss: subflow.largest_received.max(RCV_MSS_MIN),
        advmss: subflow.payload_max,
        ato: us(DELAYED_ACK) as u32,
        reordering: REORDERING,
        flags: match subflow.delivery_rate {
            Some((_, true)) => FLAG_RATE_LIMITED_BY_PROGRAM,
            _ => 0,
        },
        delivery_rate: subflow.delivery_rate.map_or(0, |(rate, _)| rate),
        snd_wnd: subflow.windows.0,
        rcv_wnd: subflow.windows.1,
        rcv_ssthresh: subflow.windows.1,
        total_rto_time: u32::try_from(subflow.repairing.read(now).as_millis()).unwrap_or(u32::MAX),
        pmtu: subflow.mtu,
        rtt: subflow.srtt_us,
        rttvar: subflow.rttvar_us,
        // In segments there.
        snd_cwnd: subflow.cwnd / mss,
        snd_ssthresh: if subflow.ssthresh == u32::MAX {
            0x7fff_ffff
        } else {
            subflow.ssthresh / mss
        },
        ..TcpInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mptcp::endpoint::FourTuple;

    #[test]
    fn a_connection_without_subflows_still_has_a_state() {
        let any = "192.0.2.1:1".parse().unwrap();
        let info = ConnInfo {
            first: FourTuple {
                local: any,
                remote: any,
            },
            established: true,
            fallback: None,
            token: 0,
            error: None,
            bytes_acked: 0,
            bytes_received: 0,
            write_seq: 0,
            snd_una: 0,
            rcv_nxt: 0,
            checksum: false,
            traffic: Default::default(),
            announced: 0,
            heard: 0,
            send_queue: 10,
            unsent: 4,
            recv_queue: 0,
            recv_space: 0,
            tally: Tally::default(),
            waits: Default::default(),
            subflows: Vec::new(),
        };
        let state = |ends| bytes(&info, ends, 0, Instant::ZERO)[0];
        assert_eq!(state((false, true)), TCP_CLOSE_WAIT);
        assert_eq!(state((true, false)), TCP_FIN_WAIT1);
        assert_eq!(state((false, false)), TCP_ESTABLISHED);
    }

    #[test]
    fn fields_are_where_the_systems_header_has_them() {
        let out = TcpInfo {
            total_retrans: 7,
            ..TcpInfo::default()
        };
        let at = std::mem::offset_of!(libc::tcp_info, tcpi_total_retrans);
        assert_eq!(out.bytes()[at..at + 4], 7u32.to_ne_bytes());
        assert_eq!(std::mem::offset_of!(TcpInfo, total_retrans), at);
        assert_eq!(
            std::mem::offset_of!(TcpInfo, total_rto_time),
            244,
            "the end of Linux 6.12's"
        );
        assert_eq!(
            std::mem::offset_of!(TcpInfo, rtt),
            std::mem::offset_of!(libc::tcp_info, tcpi_rtt)
        );
    }
}

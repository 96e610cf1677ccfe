//! `struct tcp_info` for getsockopt(TCP_INFO): the connection as one TCP, the figures of the best subflow.

use crate::mptcp::endpoint::{ConnInfo, SubflowInfo};

/// The struct's bytes, in the oldest layout that programs may ask for (Linux 2.6.x to `tcpi_total_retrans`).
///
/// `ends` says which streams have ended: the program's, and the peer's.
pub fn bytes(info: &ConnInfo, ends: (bool, bool)) -> Vec<u8> {
    // SAFETY: `tcp_info` consists of integers, for which zero is a value.
    let mut out: libc::tcp_info = unsafe { std::mem::zeroed() };
    out.tcpi_state = match ends {
        _ if !info.established => TCP_SYN_SENT,
        (false, false) => TCP_ESTABLISHED,
        (false, true) => TCP_CLOSE_WAIT,
        (true, false) if info.send_queue > 0 => TCP_FIN_WAIT1,
        (true, false) => TCP_FIN_WAIT2,
        (true, true) => TCP_LAST_ACK,
    };
    out.tcpi_unacked = u32::try_from(info.send_queue - info.unsent.min(info.send_queue)).unwrap_or(u32::MAX);
    let alive = info
        .subflows
        .iter()
        .filter(|subflow| subflow.srtt_us > 0 && !subflow.stalled);
    if let Some(best) = alive.min_by_key(|subflow| subflow.srtt_us).or(info.subflows.first()) {
        fill(&mut out, best);
    }
    out.tcpi_total_retrans = info.subflows.iter().map(|subflow| subflow.retransmits).sum();
    let start: *const libc::tcp_info = &out;
    // SAFETY: `out` lives to the end of this function, is fully initialised (zeroed, padding included), and read as
    // bytes of its own size.
    unsafe { std::slice::from_raw_parts(start.cast::<u8>(), size_of::<libc::tcp_info>()) }.to_vec()
}

// tcp_states.h.
const TCP_ESTABLISHED: u8 = 1;
const TCP_SYN_SENT: u8 = 2;
const TCP_FIN_WAIT1: u8 = 4;
const TCP_FIN_WAIT2: u8 = 5;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LAST_ACK: u8 = 9;

// TCPI_OPT_* of linux/tcp.h.
const OPT_TIMESTAMPS: u8 = 1;
const OPT_SACK: u8 = 2;
const OPT_WSCALE: u8 = 4;

fn fill(out: &mut libc::tcp_info, subflow: &SubflowInfo) {
    let mss = subflow.mss.max(1);
    out.tcpi_rto = subflow.rto_us;
    out.tcpi_snd_mss = subflow.mss;
    out.tcpi_rcv_mss = subflow.mss;
    out.tcpi_advmss = subflow.mss;
    out.tcpi_pmtu = subflow.mtu;
    let (theirs, ours) = subflow.window_shifts;
    for (used, option) in [
        (subflow.timestamps, OPT_TIMESTAMPS),
        (subflow.sack, OPT_SACK),
        (theirs | ours != 0, OPT_WSCALE),
    ] {
        out.tcpi_options |= if used { option } else { 0 };
    }
    // Two fields of four bits, the sender's first.
    out.tcpi_snd_rcv_wscale = if cfg!(target_endian = "little") {
        ours << 4 | theirs & 0xf
    } else {
        theirs << 4 | ours & 0xf
    };
    out.tcpi_rtt = subflow.srtt_us;
    out.tcpi_rttvar = subflow.rttvar_us;
    // In segments there.
    out.tcpi_snd_cwnd = subflow.cwnd / mss;
    out.tcpi_snd_ssthresh = if subflow.ssthresh == u32::MAX {
        0x7fff_ffff
    } else {
        subflow.ssthresh / mss
    };
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
            send_queue: 10,
            unsent: 4,
            recv_queue: 0,
            subflows: Vec::new(),
        };
        let state = |ends| bytes(&info, ends)[0];
        assert_eq!(state((false, true)), TCP_CLOSE_WAIT);
        assert_eq!(state((true, false)), TCP_FIN_WAIT1);
        let bytes = bytes(&info, (false, false));
        assert_eq!((bytes[0], bytes.len()), (TCP_ESTABLISHED, size_of::<libc::tcp_info>()));
    }
}

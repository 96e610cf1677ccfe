//! SYNs, SYN/ACKs and resets to send.

use super::connection::{Connection, Ctx, Proto};
use super::crypto;
use super::endpoint::ConnError;
use super::input::{FLAG_CHECKSUM, FLAG_SHA256};
use super::output::{Payload, Plan};
use super::subflow::{State, WINDOW_SCALE};
use super::timers::{CAPABLE_SYNS, LINEAR_SYNS};
use crate::time::Duration;
use crate::wire::mptcp_option::MpCapableBody;
use crate::wire::{Flags, Header, MpCapable, MpJoin, SeqNum, TcpOptions};

impl Connection {
    pub(super) fn plan_control(&mut self, ctx: &mut Ctx<'_>, index: usize) -> Option<Plan> {
        let sf = &self.subflows[index];
        if sf.reset.is_some() {
            return self.plan_reset(ctx, index);
        }
        if sf.handshake.send_now && matches!(sf.state, State::SynSent | State::SynReceived) {
            return self.plan_syn(ctx, index);
        }
        None
    }

    pub(super) fn plan_reset(&mut self, ctx: &mut Ctx<'_>, index: usize) -> Option<Plan> {
        let sf = &self.subflows[index];
        let reset = sf.reset.unwrap_or_default();
        let mut options = TcpOptions::default();
        if sf.timestamps && sf.state.synchronized() {
            options.timestamps = Some(sf.timestamps_now(ctx.now));
        }
        if self.multipath() {
            options.mptcp.fastclose = reset.fastclose.then_some(self.remote_key);
            options.mptcp.tcprst = reset.reason;
            // MP_FAIL and MP_FASTCLOSE do not fit together beside timestamps.
            options.mptcp.fail = reset.fail.filter(|_| !reset.fastclose);
        }
        let header = Header {
            src_port: sf.tuple.local.port(),
            dst_port: sf.tuple.remote.port(),
            seq: if sf.state == State::SynReceived {
                sf.iss + 1
            } else {
                sf.tx.snd_nxt()
            },
            ack: sf.rx.rcv_nxt(),
            flags: Flags::RST.with(Flags::ACK),
            window: 0,
        };
        let plan = Plan {
            tuple: sf.tuple,
            iface: sf.iface,
            header,
            options,
            payload: Payload::None,
            segment_size: 0,
        };
        self.subflow_lost(ctx, index, ConnError::Aborted);
        Some(plan)
    }

    pub(super) fn plan_syn(&mut self, ctx: &mut Ctx<'_>, index: usize) -> Option<Plan> {
        let now = ctx.now;
        let answer = self.subflows[index].state == State::SynReceived;
        let mptcp = self.syn_option(index, answer);
        let window = self.inc.buf.window().min(65_535);
        let sf = &mut self.subflows[index];
        sf.handshake.send_now = false;
        sf.counted.retransmits += u32::from(sf.handshake.sent > 0);
        sf.handshake.sent = sf.handshake.sent.saturating_add(1);
        sf.handshake.sent_at = now;
        let patience = self.options.syn_patience.filter(|_| sf.join.is_none() && !answer);
        let next = now + sf.handshake.rto;
        sf.handshake.timer = Some(patience.map_or(next, |p| next.min(sf.handshake.since + p)));
        // Linux: the first repetitions are linear (tcp_syn_linear_timeouts), so that MPTCP is given up after 3 s.
        if sf.handshake.sent > LINEAR_SYNS || answer {
            sf.handshake.rto = (sf.handshake.rto * 2).min(Duration::from_secs(60));
        }
        let mut options = TcpOptions {
            mss: Some(sf.announced_mss(self.options.mss_limit)),
            sack_permitted: sf.sack,
            ..TcpOptions::default()
        };
        if sf.timestamps {
            let mut ts = sf.timestamps_now(now);
            if !answer {
                ts.ecr = 0;
            }
            options.timestamps = Some(ts);
        }
        if !answer || sf.rcv_scale != 0 {
            options.window_scale = Some(WINDOW_SCALE);
        }
        options.mptcp = mptcp;
        let flags = if answer {
            Flags::SYN.with(Flags::ACK)
        } else {
            Flags::SYN
        };
        let header = Header {
            src_port: sf.tuple.local.port(),
            dst_port: sf.tuple.remote.port(),
            seq: sf.iss,
            ack: if answer { sf.rx.rcv_nxt() } else { SeqNum(0) },
            flags,
            window: window as u16,
        };
        Some(Plan {
            tuple: sf.tuple,
            iface: sf.iface,
            header,
            options,
            payload: Payload::None,
            segment_size: 0,
        })
    }

    pub(super) fn syn_option(&self, index: usize, answer: bool) -> crate::wire::MptcpOptions {
        let mut o = crate::wire::MptcpOptions::default();
        let sf = &self.subflows[index];
        let (backup, address_id) = (sf.local_backup, sf.local_id);
        if let Some(join) = sf.join {
            o.join = Some(if answer {
                let hmac =
                    crypto::join_synack_hmac(self.local_key, self.remote_key, join.local_nonce, join.remote_nonce);
                MpJoin::SynAck {
                    backup,
                    address_id,
                    hmac,
                    nonce: join.local_nonce,
                }
            } else {
                MpJoin::Syn {
                    backup,
                    address_id,
                    token: self.remote_token,
                    nonce: join.local_nonce,
                }
            });
        } else if self.proto == Proto::Negotiating {
            // RFC 8684 section 3.1: after some unanswered SYNs, one without the option (note F1).
            if answer {
                let body = MpCapableBody::SynAck { key: self.local_key };
                o.capable = Some(MpCapable {
                    version: 1,
                    flags: self.capable_flags(),
                    body,
                });
            } else if sf.handshake.sent < CAPABLE_SYNS {
                o.capable = Some(MpCapable {
                    version: 1,
                    flags: self.capable_flags(),
                    body: MpCapableBody::Syn,
                });
            }
        }
        o
    }

    pub(super) fn capable_flags(&self) -> u8 {
        let c = if self.addresses.forbid_join_here {
            super::input::FLAG_NO_JOIN_HERE
        } else {
            0
        };
        FLAG_SHA256 | c | if self.checksum { FLAG_CHECKSUM } else { 0 }
    }
}

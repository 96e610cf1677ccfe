//! Segments that arrive before a subflow is synchronized: SYN/ACKs, third ACKs, refusals; for the first subflow and for
//! joins, in both roles (RFC 9293 section 3.10.7.3 and 3.10.7.4, RFC 8684 sections 3.1 and 3.2).

use super::connection::{Connection, Ctx, Proto, Role};
use super::crypto;
use super::endpoint::{ConnError, Event, Fallback};
use super::input::{capable_ok, reset_reason, FLAG_CHECKSUM, FLAG_NO_JOIN_HERE, RST_MPTCP, RST_PROHIBITED};
use super::subflow::State;
use crate::wire::mptcp_option::MpCapableBody;
use crate::wire::{Flags, MpCapable, MpJoin, Segment};

impl Connection {
    /// RFC 9293 section 3.10.7.3.
    pub(super) fn on_syn_sent(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) {
        let h = &seg.header;
        let sf = &mut self.subflows[index];
        let ack_ok = h.flags.has(Flags::ACK) && h.ack == sf.iss + 1;
        if h.flags.has(Flags::ACK) && !ack_ok {
            return;
        }
        if h.flags.has(Flags::RST) {
            if ack_ok {
                self.on_refused(ctx, index, seg);
            }
            return;
        }
        if !h.flags.has(Flags::SYN) {
            return;
        }
        if !ack_ok {
            self.on_simultaneous_open(ctx, index, seg);
            return;
        }
        let rtt = (sf.handshake.sent == 1).then(|| ctx.now.since(sf.handshake.sent_at));
        sf.learn_syn(ctx.now, seg, &self.options);
        match rtt {
            Some(rtt) => sf.tx.rtt.on_sample(ctx.now, rtt),
            None => sf.tx.rtt.on_syn_timeout(),
        }
        sf.handshake.timer = None;
        sf.handshake.send_now = false;
        if sf.join.is_some() {
            self.on_join_answered(ctx, index, seg);
        } else {
            self.on_first_answered(ctx, index, seg);
        }
    }

    pub(super) fn on_refused(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) {
        if self.subflows[index].join.is_some() {
            let reason = seg.options.mptcp.tcprst.map(|r| r.reason);
            self.addresses.on_join_failed(ctx.now, &self.subflows[index], reason);
            self.release(ctx, index, None);
        } else {
            self.release(ctx, index, None);
            self.break_with(ctx, ConnError::Refused, None);
        }
    }

    /// RFC 9293 section 3.5, figure 8; with MP_CAPABLE it is plain TCP (note O5).
    pub(super) fn on_simultaneous_open(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) {
        let sf = &mut self.subflows[index];
        if sf.join.is_some() {
            return;
        }
        sf.learn_syn(ctx.now, seg, &self.options);
        sf.state = State::SynReceived;
        sf.handshake.send_now = true;
        if self.proto == Proto::Negotiating {
            self.proto = Proto::Plain(Fallback::SimultaneousOpen);
        }
    }

    pub(super) fn on_first_answered(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) {
        let asked = self.proto == Proto::Negotiating;
        let dropped = self.subflows[index].handshake.sent > super::timers::CAPABLE_SYNS;
        match seg.options.mptcp.capable {
            Some(MpCapable {
                body: MpCapableBody::SynAck { key },
                flags,
                version,
            }) if asked => {
                let capable = MpCapable {
                    body: MpCapableBody::SynAck { key },
                    flags,
                    version,
                };
                if capable_ok(&capable) {
                    self.learn_remote_key(key);
                    self.checksum |= flags & FLAG_CHECKSUM != 0;
                    self.addresses.no_join_here = flags & FLAG_NO_JOIN_HERE != 0;
                    self.proto = Proto::Multipath;
                } else {
                    self.proto = Proto::Plain(Fallback::Version);
                }
            }
            _ if asked => {
                self.proto = Proto::Plain(if dropped {
                    Fallback::SynDropped
                } else {
                    Fallback::PeerNotCapable
                });
            }
            _ => {}
        }
        let sf = &mut self.subflows[index];
        sf.state = State::Established;
        sf.confirmed = self.proto != Proto::Multipath;
        sf.rx.demand_ack();
        let window = u64::from(seg.header.window);
        self.out.edge = self.out.una + window;
        self.become_established(ctx);
    }

    pub(super) fn learn_remote_key(&mut self, key: u64) {
        self.remote_key = key;
        self.remote_token = crypto::token(key);
        self.inc.buf.rebase(crypto::idsn(key) + 1);
    }

    pub(super) fn become_established(&mut self, ctx: &mut Ctx<'_>) {
        if self.established {
            return;
        }
        self.established = true;
        self.out.progress_at = ctx.now;
        match self.role {
            Role::Client => ctx.events.push_back(Event::Connected(self.id)),
            Role::Server => ctx.events.push_back(Event::Accepted {
                conn: self.id,
                tuple: self.first,
            }),
        }
        if let Proto::Plain(why) = self.proto {
            self.addresses.stop();
            ctx.events.push_back(Event::FellBack(self.id, why));
        }
        let sf = &self.subflows[0];
        ctx.events.push_back(Event::SubflowUp {
            conn: self.id,
            subflow: sf.id,
            tuple: sf.tuple,
        });
    }

    /// SYN/ACK of a join of ours (RFC 8684 section 3.2, note J2).
    pub(super) fn on_join_answered(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) {
        let (local_key, remote_key) = (self.local_key, self.remote_key);
        let sf = &mut self.subflows[index];
        let Some(join) = sf.join.as_mut() else { return };
        let answer = match seg.options.mptcp.join {
            Some(MpJoin::SynAck {
                backup,
                address_id,
                hmac,
                nonce,
            }) => {
                join.remote_nonce = nonce;
                let right = crypto::join_synack_hmac(remote_key, local_key, nonce, join.local_nonce);
                (right == hmac).then_some((backup, address_id))
            }
            _ => None,
        };
        sf.state = State::Established;
        match answer {
            Some((backup, address_id)) => {
                sf.remote_backup = backup;
                sf.remote_id = address_id;
                sf.rx.demand_ack();
                sf.join_ack_timer = Some(ctx.now + sf.tx.rtt.rto());
            }
            None => {
                // "If … the HMAC … does not match, … MUST close the subflow with a RST" (section 3.2).
                self.addresses.on_join_failed(ctx.now, sf, None);
                sf.reset = Some(reset_reason(RST_MPTCP));
            }
        }
    }

    /// Server side, or simultaneous open: the SYN/ACK was sent.
    pub(super) fn on_syn_received(&mut self, ctx: &mut Ctx<'_>, index: usize, seg: &Segment<'_>) {
        let h = &seg.header;
        let sf = &mut self.subflows[index];
        if h.flags.has(Flags::RST) {
            if h.seq == sf.rx.rcv_nxt() {
                let first = sf.join.is_none();
                self.release(ctx, index, None);
                if first {
                    self.break_with(ctx, ConnError::Refused, None);
                }
            }
            return;
        }
        if h.flags.has(Flags::SYN) && !h.flags.has(Flags::ACK) && h.seq == sf.irs {
            sf.handshake.send_now = true;
            return;
        }
        if !h.flags.has(Flags::ACK) || h.ack != sf.iss + 1 || h.seq.lt(sf.irs) {
            return;
        }
        if let Some(join) = sf.join {
            let Some(MpJoin::Ack { hmac }) = seg.options.mptcp.join else {
                // Nothing else can come of a join whose options a middlebox removed (RFC 8684 section 3.7).
                sf.reset = Some(reset_reason(RST_MPTCP));
                return;
            };
            let right = crypto::join_ack_hmac(self.remote_key, self.local_key, join.remote_nonce, join.local_nonce);
            if !crypto::hmac_eq(&hmac, &right) {
                sf.reset = Some(reset_reason(RST_PROHIBITED));
                return;
            }
            sf.confirmed = true;
            sf.one_at_a_time = true;
            self.no_way_back = true;
            let (id, tuple) = (sf.id, sf.tuple);
            ctx.events.push_back(Event::SubflowUp {
                conn: self.id,
                subflow: id,
                tuple,
            });
        } else if !self.accept_first(seg) {
            return;
        }
        let sf = &mut self.subflows[index];
        match sf.handshake.sent {
            // It was answered by a cookie: nobody knows when.
            0 => {}
            1 => sf.tx.rtt.on_sample(ctx.now, ctx.now.since(sf.handshake.sent_at)),
            _ => sf.tx.rtt.on_syn_timeout(),
        }
        sf.state = State::Established;
        sf.handshake.timer = None;
        sf.handshake.send_now = false;
        if sf.join.is_some() {
            sf.rx.demand_ack();
        }
        self.become_established(ctx);
        self.on_synchronized(ctx, index, seg);
    }

    /// Third ACK of the first subflow (RFC 8684 section 3.1): both keys, or plain TCP.
    pub(super) fn accept_first(&mut self, seg: &Segment<'_>) -> bool {
        if self.proto != Proto::Negotiating {
            self.subflows[0].confirmed = true;
            return true;
        }
        let keys = match seg.options.mptcp.capable {
            Some(c) if capable_ok(&c) => match c.body {
                MpCapableBody::Ack {
                    sender_key,
                    receiver_key,
                }
                | MpCapableBody::AckData {
                    sender_key,
                    receiver_key,
                    ..
                } => Some((sender_key, receiver_key, c.flags)),
                _ => None,
            },
            _ => None,
        };
        match keys {
            Some((key, ours, flags)) if ours == self.local_key => {
                self.learn_remote_key(key);
                self.checksum |= flags & FLAG_CHECKSUM != 0;
                self.proto = Proto::Multipath;
                self.subflows[0].confirmed = true;
                self.addresses.fully_established = true;
            }
            _ => self.proto = Proto::Plain(Fallback::OptionsStripped),
        }
        true
    }
}

//! SYNs for listeners and joins, and what becomes of them: connections and subflows that are half open until the third ACK.
//!
//! However many SYNs come, no more than [`MAX_HALF_OPEN`] connections are remembered; the SYNs beyond are answered by cookies. Nothing is
//! ever taken from those that came first, so a flood keeps nobody out. Of one connection's joins, which only those can ask for who have seen its
//! token, [`MAX_HALF_OPEN_JOINS`] are remembered: the newest, so that forged ones bar others for no longer than the flood lasts.

use super::addresses::MAX_SUBFLOWS;
use super::connection::{Connection, Ctx, Proto, Role};
use super::cookies;
use super::crypto;
use super::endpoint::{ConnId, ConnOptions, Endpoint, Fallback, FourTuple, LocalPath, SubflowId};
use super::input::{capable_ok, FLAG_CHECKSUM, RST_MPTCP, RST_PROHIBITED};
use super::strays::MAX_STRAYS;
use super::subflow::{Join, State, Subflow};
use crate::link::{own_host, LOOPBACK};
use crate::time::Instant;
use crate::wire::mptcp_option::MpCapableBody;
use crate::wire::{Flags, Header, MpCapable, MpJoin, Segment, SeqNum};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::VecDeque;

/// Half-open connections that are remembered (Linux: net.ipv4.tcp_max_syn_backlog, 1024 on a small machine).
pub(super) const MAX_HALF_OPEN: usize = 1024;
/// Half-open joins of one connection; the oldest gives way to another.
const MAX_HALF_OPEN_JOINS: usize = 4;

/// A SYN, and who answers it with which numbers.
struct Opening<'a> {
    tuple: FourTuple,
    iface: u32,
    mtu: u32,
    syn: &'a Segment<'a>,
    options: ConnOptions,
    id: ConnId,
    iss: SeqNum,
    key: u64,
    ts_offset: u32,
}

/// The interface of answers: they follow the routing, as the kernel's own do; only a link-local peer is where it came from, and this
/// host itself.
fn answer_by(tuple: FourTuple, iface: u32) -> u32 {
    match tuple.remote.ip() {
        _ if iface == LOOPBACK => iface,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => iface,
        _ => 0,
    }
}

/// The MTU of an interface of which nothing was said: Ethernet's.
pub(super) const MTU_UNKNOWN: u32 = 1500;

impl Endpoint {
    fn mtu(&self, iface: u32) -> u32 {
        match iface {
            LOOPBACK => own_host::MTU,
            _ => self.mtus.get(&iface).copied().unwrap_or(MTU_UNKNOWN),
        }
    }

    fn listener_options(&self, local: SocketAddr) -> Option<&ConnOptions> {
        let wildcard = match local.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let any = SocketAddr::new(wildcard, local.port());
        self.listeners.get(&local).or_else(|| self.listeners.get(&any))
    }

    /// A SYN for a listener (RFC 9293 section 3.10.7.2).
    pub(super) fn on_syn(&mut self, now: Instant, tuple: FourTuple, iface: u32, syn: &Segment<'_>) -> bool {
        let Some(options) = self.listener_options(tuple.local).cloned() else {
            return false;
        };
        let mtu = self.mtu(iface);
        let iface = answer_by(tuple, iface);
        let ts_offset = self.ts_offset(tuple);
        if self.half_open >= MAX_HALF_OPEN {
            if self.stray.len() < MAX_STRAYS {
                let cookie = self.cookies.make(now, tuple, syn);
                self.answer_by_cookie(
                    now,
                    Opening {
                        tuple,
                        iface,
                        mtu,
                        syn,
                        options,
                        id: ConnId(0),
                        iss: cookie.iss,
                        key: cookie.key,
                        ts_offset,
                    },
                );
            }
            return true;
        }
        let opening = Opening {
            tuple,
            iface,
            mtu,
            syn,
            options,
            key: self.fresh_key(),
            id: self.fresh_id(),
            iss: self.isn(now, tuple),
            ts_offset,
        };
        self.half_open += 1;
        self.insert(now, half_open(now, opening), tuple);
        true
    }

    /// Answers a SYN as a connection would that is forgotten again.
    fn answer_by_cookie(&mut self, now: Instant, opening: Opening<'_>) {
        let syn = opening.syn.options;
        let mut conn = half_open(now, opening);
        let manner = conn.manner(0);
        let sf = &mut conn.subflows[0];
        let val = sf.timestamps_now(now).val;
        let stamped = cookies::stamp(val, &syn);
        sf.ts_offset = sf.ts_offset.wrapping_sub(val.wrapping_sub(stamped));
        // Nothing happens to a connection that nobody knows.
        let mut ctx = Ctx {
            now,
            events: &mut VecDeque::new(),
            released: &mut Vec::new(),
        };
        if let Some(plan) = conn.plan_syn(&mut ctx, 0) {
            self.push_stray(plan.bare(manner).into());
        }
    }

    /// A segment of no known connection, with ACK: it may be the third of a handshake that was answered by a cookie.
    pub(super) fn on_cookie(&mut self, now: Instant, tuple: FourTuple, iface: u32, ack: &Segment<'_>) -> bool {
        let Some((cookie, mss)) = self.cookies.check(now, tuple, ack) else {
            return false;
        };
        let Some(options) = self.listener_options(tuple.local).cloned() else {
            return false;
        };
        if self.tokens.contains_key(&crypto::token(cookie.key)) {
            // One in billions: another connection has the token by now.
            return false;
        }
        let mut said = cookies::said(&ack.options, mss);
        said.mptcp.capable = ack.options.mptcp.capable.map(|capable| MpCapable {
            body: MpCapableBody::Syn,
            ..capable
        });
        let syn = Segment {
            header: Header {
                seq: ack.header.seq + u32::MAX,
                ack: SeqNum(0),
                flags: Flags::SYN,
                ..ack.header
            },
            options: said,
            payload: &[],
        };
        let opening = Opening {
            tuple,
            iface: answer_by(tuple, iface),
            mtu: self.mtu(iface),
            syn: &syn,
            options,
            id: self.fresh_id(),
            iss: cookie.iss,
            key: cookie.key,
            ts_offset: self.ts_offset(tuple),
        };
        let id = opening.id;
        let mut conn = half_open(now, opening);
        conn.subflows[0].handshake.send_now = false;
        self.half_open += 1;
        self.insert(now, conn, tuple);
        self.with(now, id, |conn, ctx| conn.handle_segment(ctx, 0, ack));
        true
    }

    /// A join for the connection with this token came to `addr`, at a port where nobody listens any more, so that the kernel refused it: the peer
    /// is told of another port there.
    pub fn announce_port(&mut self, now: Instant, token: u32, addr: IpAddr, port: u16) {
        if let Some(&id) = self.tokens.get(&token) {
            self.with(now, id, |conn, ctx| conn.announce_port(ctx, addr, port));
        }
    }

    /// Whether the segment is the third of a handshake that was answered by a cookie.
    pub fn answers_cookie(&self, now: Instant, tuple: FourTuple, segment: &Segment<'_>) -> bool {
        let flags = segment.header.flags;
        flags.has(Flags::ACK)
            && !flags.has(Flags::SYN)
            && !flags.has(Flags::RST)
            && self.cookies.check(now, tuple, segment).is_some()
    }

    /// MP_JOIN (RFC 8684 section 3.2): an unknown token is answered with RST (note J6).
    pub(super) fn on_join_syn(&mut self, now: Instant, tuple: FourTuple, iface: u32, segment: &Segment<'_>) -> bool {
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
            self.stray_reset(tuple, iface, segment, RST_MPTCP);
            return true;
        };
        let Some(conn) = self.connections.get(&id) else {
            return true;
        };
        let half_open = || {
            conn.subflows
                .iter()
                .enumerate()
                .filter(|(_, s)| s.state == State::SynReceived)
        };
        let (oldest, count) = (half_open().next().map(|(index, _)| index), half_open().count());
        let full = count >= MAX_HALF_OPEN_JOINS || conn.subflows.len() >= MAX_SUBFLOWS;
        // J7: only when established, and neither after fallback nor after the end of both directions.
        let open = conn.established && conn.error.is_none() && !conn.finished();
        let allowed = conn.multipath() && open && !conn.addresses.forbid_join_here;
        if !allowed || (full && oldest.is_none()) {
            self.stray_reset(tuple, iface, segment, RST_PROHIBITED);
            return true;
        }
        let iss = self.isn(now, tuple);
        let mtu = self.mtu(iface);
        let local_nonce = self.entropy.next_u64() as u32;
        let ts_offset = self.ts_offset(tuple);
        let subflow = self.with(now, id, |conn, ctx| {
            if let Some(oldest) = oldest.filter(|_| full) {
                conn.release(ctx, oldest, None);
            }
            let subflow = SubflowId(conn.next_subflow);
            conn.next_subflow += 1;
            let mut sf = Subflow::new(now, subflow, tuple, iface, mtu, iss, State::SynReceived);
            sf.learn_syn(now, segment, &conn.options);
            sf.ts_offset = ts_offset;
            sf.join = Some(Join {
                local_nonce,
                remote_nonce: nonce,
                initiator: false,
            });
            sf.remote_id = address_id;
            sf.remote_backup = backup;
            if let Some(local) = conn.addresses.locals.iter().find(|l| l.path.addr == tuple.local.ip()) {
                sf.local_id = local.id;
                sf.local_backup = local.path.backup;
            }
            conn.subflows.push(sf);
            subflow
        });
        if let Some(subflow) = subflow {
            self.tuples.insert(tuple, (id, subflow));
        }
        true
    }
}

/// A server's connection that knows nothing but the SYN.
fn half_open(now: Instant, opening: Opening<'_>) -> Connection {
    let Opening {
        tuple,
        iface,
        mtu,
        syn,
        options,
        id,
        iss,
        key,
        ts_offset,
    } = opening;
    let path = LocalPath {
        addr: tuple.local.ip(),
        iface,
        mtu,
        backup: false,
    };
    let mut conn = Connection::new(now, id, Role::Server, tuple, path, options, key);
    if conn.proto == Proto::Negotiating {
        match syn.options.mptcp.capable {
            Some(c) if c.body == MpCapableBody::Syn && (capable_ok(&c) || c.version > 1) => {
                conn.checksum |= c.flags & FLAG_CHECKSUM != 0;
            }
            Some(_) => conn.proto = Proto::Plain(Fallback::Version),
            None => conn.proto = Proto::Plain(Fallback::PeerNotCapable),
        }
    }
    let mut sf = Subflow::new(now, SubflowId(0), tuple, iface, path.mtu, iss, State::SynReceived);
    sf.learn_syn(now, syn, &conn.options);
    sf.ts_offset = ts_offset;
    conn.next_subflow = 1;
    conn.out.edge = conn.out.una + u64::from(syn.header.window);
    conn.subflows.push(sf);
    conn
}

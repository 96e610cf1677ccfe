//! One line a segment, for people: time, who to whom, flags, numbers relative to the start, options decoded, and what became of it.
//!
//! ```text
//! 0.021350 A→B 192.0.2.1:40000>198.51.100.1:5000 .P   1:1401(1400) ack 1 win 65535 ts 21/20 <dss ack 1 map 1+1400@1> → 0.032
//! ```
//!
//! Sequence numbers are relative to the SYN's, data numbers to the sender's key (RFC 8684 section 3.1: the first byte is 1), where the
//! handshake was seen; otherwise they are printed whole, in hexadecimal.

use super::packet::Packet;
use super::wire::Fate;
use crate::mptcp::endpoint::Event;
use crate::time::Instant;
use crate::wire::mptcp_option::{MpCapableBody, WireDsn};
use crate::wire::{AddAddr, Dsn, Dss, Flags, MpCapable, MpJoin, SeqNum};
use core::fmt::Write as _;
use core::net::SocketAddr;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Source and destination of a segment.
type Flow = (SocketAddr, SocketAddr);

/// What a key stands for.
#[derive(Clone, Copy)]
struct Key {
    token: u32,
    idsn: Dsn,
}

impl Key {
    fn new(key: u64) -> Self {
        let hash = Sha256::digest(key.to_be_bytes());
        let part = |range: core::ops::Range<usize>| hash[range].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        Key {
            token: part(0..4) as u32,
            idsn: Dsn(part(24..32)),
        }
    }
}

/// Prints a run.
pub struct Trace {
    on: bool,
    isn: BTreeMap<Flow, SeqNum>,
    /// The keys of a flow's sender.
    keys: BTreeMap<Flow, Key>,
}

/// The hosts' names: client, server, the other client.
pub(super) const HOSTS: [&str; 3] = ["A", "B", "C"];

impl Trace {
    /// Silent unless `on`.
    pub fn new(on: bool) -> Self {
        Trace {
            on,
            isn: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    /// A host sent a packet (noted also when silent: failures describe packets), and these came of it (several, or none, where middleboxes are).
    pub fn sent(&mut self, now: Instant, (from, to): (usize, usize), packet: &Packet, fates: &[(Packet, Fate)]) {
        self.learn(packet);
        fates.iter().for_each(|(after, _)| self.learn(after));
        if !self.on {
            return;
        }
        let mut line = format!("{} {}→{} {}", time(now), HOSTS[from], HOSTS[to], self.describe(packet));
        if fates.is_empty() {
            line.push_str(" ✗ kept by a middlebox");
        }
        let mut changed = String::new();
        for (after, fate) in fates {
            if after == packet {
                line.push_str(&describe_fate(*fate));
            } else {
                self.learn(after);
                let _ = write!(
                    changed,
                    "\n{:>10}     ~ {}{}",
                    "",
                    self.describe(after),
                    describe_fate(*fate)
                );
            }
        }
        println!("{line}{changed}");
    }

    /// A packet arrived after the wire was cut.
    pub fn cut_in_flight(&self, now: Instant, packet: &Packet) {
        self.note(now, || format!("cut in flight: {}", self.describe(packet)));
    }

    /// An endpoint said something.
    pub fn event(&self, now: Instant, host: usize, event: &Event) {
        self.note(now, || format!("{}   {event:?}", HOSTS[host]));
    }

    /// Anything else worth a line.
    pub fn note(&self, now: Instant, text: impl FnOnce() -> String) {
        if self.on {
            println!("{} {}", time(now), text());
        }
    }

    /// Takes initial sequence numbers and keys out of handshakes.
    fn learn(&mut self, packet: &Packet) {
        let flow = (packet.source(), packet.destination());
        let back = (flow.1, flow.0);
        if packet.has(Flags::SYN) {
            self.isn.insert(flow, packet.header.seq);
        }
        match packet.options.mptcp.capable.map(|c| c.body) {
            Some(MpCapableBody::SynAck { key }) => {
                self.keys.insert(flow, Key::new(key));
            }
            Some(
                MpCapableBody::Ack {
                    sender_key,
                    receiver_key,
                }
                | MpCapableBody::AckData {
                    sender_key,
                    receiver_key,
                    ..
                },
            ) => {
                self.keys.insert(flow, Key::new(sender_key));
                self.keys.insert(back, Key::new(receiver_key));
            }
            Some(MpCapableBody::Syn) | None => {}
        }
        if let Some(MpJoin::Syn { token, .. }) = packet.options.mptcp.join {
            let first = self
                .keys
                .iter()
                .find(|(_, key)| key.token == token)
                .map(|(flow, key)| (*flow, *key));
            if let Some((receiver_flow, receiver_key)) = first {
                self.keys.insert(back, receiver_key);
                if let Some(own) = self.keys.get(&(receiver_flow.1, receiver_flow.0)).copied() {
                    self.keys.insert(flow, own);
                }
            }
        }
    }

    /// The packet in one line.
    pub fn describe(&self, packet: &Packet) -> String {
        let flow = (packet.source(), packet.destination());
        let back = (flow.1, flow.0);
        let header = &packet.header;
        let mut s = format!("{}>{} {:<4}", flow.0, flow.1, flags(header.flags));
        let seq = self.relative(flow, header.seq);
        let end = self.relative(flow, packet.end());
        let _ = write!(s, " {seq}:{end}({})", packet.payload.len());
        if packet.has(Flags::ACK) {
            let _ = write!(s, " ack {}", self.relative(back, header.ack));
        }
        let _ = write!(s, " win {}", header.window);
        self.describe_tcp_options(&mut s, packet, back);
        self.describe_mptcp_options(&mut s, packet, flow);
        s
    }

    fn describe_tcp_options(&self, s: &mut String, packet: &Packet, back: Flow) {
        let options = &packet.options;
        if let Some(mss) = options.mss {
            let _ = write!(s, " mss {mss}");
        }
        if let Some(shift) = options.window_scale {
            let _ = write!(s, " wscale {shift}");
        }
        if options.sack_permitted {
            s.push_str(" sackOK");
        }
        if let Some(ts) = options.timestamps {
            let _ = write!(s, " ts {}/{}", ts.val, ts.ecr);
        }
        for (left, right) in options.sack.as_slice() {
            let _ = write!(
                s,
                " sack {}:{}",
                self.relative(back, *left),
                self.relative(back, *right)
            );
        }
    }

    fn describe_mptcp_options(&self, s: &mut String, packet: &Packet, flow: Flow) {
        let mptcp = &packet.options.mptcp;
        if let Some(capable) = &mptcp.capable {
            let _ = write!(s, " <{}>", describe_capable(capable));
        }
        if let Some(join) = &mptcp.join {
            let _ = write!(s, " <{}>", describe_join(join));
        }
        if let Some(dss) = &mptcp.dss {
            let _ = write!(s, " <{}>", self.describe_dss(dss, flow));
        }
        if let Some(add) = &mptcp.add_addr {
            let _ = write!(s, " <{}>", describe_add_addr(add));
        }
        if let Some(remove) = &mptcp.remove_addr {
            let _ = write!(s, " <remove_addr {:?}>", remove.ids());
        }
        if let Some(backup) = mptcp.prio {
            let _ = write!(s, " <prio {}>", if backup { "backup" } else { "normal" });
        }
        if let Some(dsn) = mptcp.fail {
            let _ = write!(s, " <fail {}>", self.data_number(flow, false, WireDsn::Long(dsn)));
        }
        if let Some(key) = mptcp.fastclose {
            let _ = write!(s, " <fastclose {key:016x}>");
        }
        if let Some(reset) = mptcp.tcprst {
            let _ = write!(
                s,
                " <tcprst {}{}>",
                reset.reason,
                if reset.transient { " transient" } else { "" }
            );
        }
    }

    fn describe_dss(&self, dss: &Dss, flow: Flow) -> String {
        let mut s = "dss".to_string();
        if let Some(ack) = dss.data_ack {
            let _ = write!(s, " ack {}", self.data_number(flow, false, ack));
        }
        if let Some(map) = &dss.map {
            let _ = write!(
                s,
                " map {}+{}@{}",
                self.data_number(flow, true, map.dsn),
                map.len,
                map.ssn
            );
            if let Some(sum) = map.checksum {
                let _ = write!(s, " sum {sum:04x}");
            }
        }
        if dss.data_fin {
            s.push_str(" FIN");
        }
        s
    }

    fn relative(&self, flow: Flow, seq: SeqNum) -> String {
        match self.isn.get(&flow) {
            Some(isn) => seq.diff(*isn).to_string(),
            None => format!("{:#x}", seq.0),
        }
    }

    /// A data number of the flow's sender (`own`) or of its receiver; short ones are marked.
    fn data_number(&self, flow: Flow, own: bool, dsn: WireDsn) -> String {
        let flow = if own { flow } else { (flow.1, flow.0) };
        let short = if matches!(dsn, WireDsn::Short(_)) { "₃₂" } else { "" };
        match (self.keys.get(&flow), dsn) {
            (Some(key), dsn) => format!("{}{short}", dsn.expand(key.idsn).diff(key.idsn)),
            (None, WireDsn::Long(dsn)) => format!("{:#x}", dsn.0),
            (None, WireDsn::Short(low)) => format!("{low:#x}{short}"),
        }
    }
}

fn describe_capable(capable: &MpCapable) -> String {
    let body = match capable.body {
        MpCapableBody::Syn => String::new(),
        MpCapableBody::SynAck { key } => format!(" key {key:016x}"),
        MpCapableBody::Ack { .. } => " keys".to_string(),
        MpCapableBody::AckData { data_len, checksum, .. } => {
            format!(
                " keys map 1+{data_len}@1{}",
                checksum.map(|c| format!(" sum {c:04x}")).unwrap_or_default()
            )
        }
    };
    format!("capable v{} flags {:02x}{body}", capable.version, capable.flags)
}

fn describe_join(join: &MpJoin) -> String {
    let backup = |b: &bool| if *b { " backup" } else { "" };
    match join {
        MpJoin::Syn {
            backup: b,
            address_id,
            token,
            nonce,
        } => {
            format!("join id {address_id} token {token:08x} nonce {nonce:08x}{}", backup(b))
        }
        MpJoin::SynAck {
            backup: b,
            address_id,
            hmac,
            nonce,
        } => {
            format!("join id {address_id} hmac {hmac:016x} nonce {nonce:08x}{}", backup(b))
        }
        MpJoin::Ack { hmac } => format!("join hmac {:02x}{:02x}…", hmac[0], hmac[1]),
    }
}

fn describe_add_addr(add: &AddAddr) -> String {
    let port = add.port.map(|p| format!(" port {p}")).unwrap_or_default();
    let kind = if add.hmac.is_some() {
        "add_addr"
    } else {
        "add_addr echo"
    };
    format!("{kind} id {} {}{port}", add.id, add.addr)
}

fn describe_fate(fate: Fate) -> String {
    match fate {
        Fate::Arrives(at) => format!(" → {}", time(at).trim_start()),
        Fate::Lost => " ✗ lost".to_string(),
        Fate::Picked => " ✗ taken by the test".to_string(),
        Fate::QueueFull => " ✗ queue full".to_string(),
        Fate::Cut => " ✗ wire is cut".to_string(),
    }
}

fn time(at: Instant) -> String {
    let us = at.as_micros();
    format!("{:>3}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// As tcpdump does: letters of the flags that are set, a dot for ACK.
fn flags(flags: Flags) -> String {
    let names = [
        (Flags::SYN, 'S'),
        (Flags::FIN, 'F'),
        (Flags::RST, 'R'),
        (Flags::PSH, 'P'),
        (Flags::URG, 'U'),
        (Flags::ECE, 'E'),
        (Flags::CWR, 'W'),
        (Flags::ACK, '.'),
    ];
    names
        .iter()
        .filter(|(flag, _)| flags.has(*flag))
        .map(|(_, c)| *c)
        .collect()
}

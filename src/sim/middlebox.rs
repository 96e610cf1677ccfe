//! What stands on a wire and does things to segments: the lab's middleboxes as functions over values.

use super::forge::forge;
use super::packet::Packet;
use super::rng::Rng;
use super::wire::Dir;
use crate::wire::{Flags, MptcpOptions, SackBlocks, SeqNum};
use core::net::{IpAddr, SocketAddr};

/// What is removed from segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strip {
    /// MPTCP options of SYN and SYN/ACK.
    MptcpFromSyn,
    /// MPTCP options of everything else.
    MptcpFromData,
    /// All MPTCP options.
    MptcpAll,
    /// ADD_ADDR only.
    AddAddr,
    /// SACK permitted: a peer without SACK.
    SackPermitted,
    /// Timestamps of SYNs: a peer without them.
    Timestamps,
    /// Window scale of SYNs: a peer without it. Meaningful in both directions only.
    WindowScale,
}

/// One middlebox.
#[derive(Clone, Debug)]
pub enum Middlebox {
    /// Removes options from segments going `towards` (None: both ways).
    Strip { what: Strip, towards: Option<Dir> },
    /// Eats SYNs (not SYN/ACKs) with MP_CAPABLE.
    DropCapableSyn,
    /// Eats SYNs (not SYN/ACKs) with MP_JOIN.
    DropJoinSyn,
    /// Flips a byte of every `per_mille`th segment with payload, `left` times at most; `done` counts.
    Corrupt { per_mille: u32, left: u32, done: u64 },
    /// Speaks for a peer of another version of MPTCP: changes it in MP_CAPABLE of SYN and SYN/ACK that go `towards` (None: both ways).
    Version { version: u8, towards: Option<Dir> },
    /// Makes windows smaller, down to nothing, `left` times at most: a peer that takes back what it has offered (RFC 9293
    /// section 3.8.6 wants a sender to stand it).
    ShrinkWindow { per_mille: u32, left: u32 },
    /// Adds to the sequence numbers of each direction, as firewalls that choose their own initial numbers do.
    ShiftSequence { by: [u32; 2] },
    /// Cuts segments so that none carries more than `max_payload` bytes; options are copied to each piece.
    Split { max_payload: usize },
    /// Joins consecutive segments that belong to one mapping, up to `max_payload` bytes.
    Coalesce {
        max_payload: usize,
        held: [Option<Box<Packet>>; 2],
    },
    /// Sends, behind segments that pass, others that nobody meant (`forge`), `left` times at most.
    Forge { per_mille: u32, left: u32 },
    /// Rewrites the client's address and port; what comes to `public` and was not asked for is dropped.
    Nat { public: IpAddr, inside: Vec<SocketAddr> },
}

/// The first port that a NAT gives out.
const NAT_PORT_BASE: u16 = 20_000;

impl Middlebox {
    /// A coalescer that holds nothing.
    pub fn coalesce(max_payload: usize) -> Self {
        Middlebox::Coalesce {
            max_payload,
            held: [None, None],
        }
    }

    /// A NAT without mappings.
    pub fn nat(public: IpAddr) -> Self {
        Middlebox::Nat {
            public,
            inside: Vec::new(),
        }
    }

    /// Takes a packet, appends what goes on to `out`.
    pub fn pass(&mut self, dir: Dir, mut packet: Packet, rng: &mut Rng, out: &mut Vec<Packet>) {
        match self {
            Middlebox::Strip { what, towards } => {
                if towards.is_none_or(|t| t == dir) {
                    strip(*what, &mut packet);
                }
                out.push(packet);
            }
            Middlebox::DropCapableSyn if first_syn(&packet) && packet.options.mptcp.capable.is_some() => {}
            Middlebox::DropJoinSyn if first_syn(&packet) && packet.options.mptcp.join.is_some() => {}
            Middlebox::DropCapableSyn | Middlebox::DropJoinSyn => out.push(packet),
            Middlebox::Corrupt { per_mille, left, done } => {
                if *left > 0 && !packet.payload.is_empty() && rng.chance(*per_mille) {
                    *left -= 1;
                    *done += 1;
                    let at = rng.below(packet.payload.len() as u64) as usize;
                    packet.payload[at] ^= 0x55;
                }
                out.push(packet);
            }
            Middlebox::Forge { per_mille, left } => {
                let forged = (*left > 0 && rng.chance(*per_mille)).then(|| forge(&packet, rng));
                out.push(packet);
                if let Some(forged) = forged {
                    *left -= 1;
                    out.push(forged);
                }
            }
            Middlebox::Version { version, towards } => {
                if towards.is_none_or(|t| t == dir) && packet.has(Flags::SYN) {
                    if let Some(capable) = &mut packet.options.mptcp.capable {
                        capable.version = *version;
                    }
                }
                out.push(packet);
            }
            Middlebox::ShrinkWindow { per_mille, left } => {
                if *left > 0 && !packet.has(Flags::SYN) && rng.chance(*per_mille) {
                    *left -= 1;
                    packet.header.window = (rng.below(u64::from(packet.header.window) + 1) >> rng.below(17)) as u16;
                }
                out.push(packet);
            }
            Middlebox::ShiftSequence { by } => {
                shift(&mut packet, by[dir as usize], by[1 - dir as usize]);
                out.push(packet);
            }
            Middlebox::Split { max_payload } => split(packet, *max_payload, out),
            Middlebox::Coalesce { max_payload, held } => {
                let slot = &mut held[dir as usize];
                match slot.as_mut() {
                    Some(before) if mergeable(before, &packet, *max_payload) => merge(before, packet),
                    _ => {
                        out.extend(slot.take().map(|p| *p));
                        if holdable(&packet) {
                            *slot = Some(Box::new(packet));
                        } else {
                            out.push(packet);
                        }
                    }
                }
            }
            Middlebox::Nat { public, inside } => out.extend(translate(*public, inside, dir, packet)),
        }
    }

    /// Gives up what it holds.
    pub fn release(&mut self, dir: Dir) -> Option<Packet> {
        match self {
            Middlebox::Coalesce { held, .. } => held[dir as usize].take().map(|p| *p),
            _ => None,
        }
    }

    /// It holds a packet of that direction.
    pub fn holds(&self, dir: Dir) -> bool {
        matches!(self, Middlebox::Coalesce { held, .. } if held[dir as usize].is_some())
    }

    /// Faults are over: it corrupts, forges and shrinks no more. What a middlebox is by its nature (stripping, rewriting) stays.
    pub fn calm(&mut self) {
        if let Middlebox::Corrupt { left, .. } | Middlebox::Forge { left, .. } | Middlebox::ShrinkWindow { left, .. } =
            self
        {
            *left = 0;
        }
    }

    /// Bytes that it changed so far.
    pub fn corrupted(&self) -> u64 {
        match self {
            Middlebox::Corrupt { done, .. } => *done,
            _ => 0,
        }
    }
}

fn first_syn(packet: &Packet) -> bool {
    packet.has(Flags::SYN) && !packet.has(Flags::ACK)
}

fn strip(what: Strip, packet: &mut Packet) {
    let syn = packet.has(Flags::SYN);
    let options = &mut packet.options;
    match what {
        Strip::MptcpFromSyn if syn => options.mptcp = MptcpOptions::default(),
        Strip::MptcpFromData if !syn => options.mptcp = MptcpOptions::default(),
        Strip::MptcpFromSyn | Strip::MptcpFromData => {}
        Strip::MptcpAll => options.mptcp = MptcpOptions::default(),
        Strip::AddAddr => options.mptcp.add_addr = None,
        Strip::SackPermitted => options.sack_permitted = false,
        Strip::Timestamps if syn => options.timestamps = None,
        Strip::Timestamps => {}
        Strip::WindowScale => options.window_scale = None,
    }
}

/// `own` was added to this direction's numbers, `other` to those of the opposite one, which this packet acknowledges.
fn shift(packet: &mut Packet, own: u32, other: u32) {
    packet.header.seq += own;
    if packet.has(Flags::ACK) {
        packet.header.ack = packet.header.ack - other;
    }
    let mut sack = SackBlocks::default();
    for (left, right) in packet.options.sack.as_slice() {
        sack.push(*left - other, *right - other);
    }
    packet.options.sack = sack;
}

fn split(packet: Packet, max_payload: usize, out: &mut Vec<Packet>) {
    if packet.payload.len() <= max_payload {
        out.push(packet);
        return;
    }
    let last_only = Flags::FIN.with(Flags::PSH);
    let syn = u32::from(packet.has(Flags::SYN));
    let pieces = packet.payload.chunks(max_payload);
    let count = pieces.len();
    for (i, piece) in pieces.enumerate() {
        let mut part = packet.clone();
        part.payload = piece.to_vec();
        if i > 0 {
            part.header.seq += (i * max_payload) as u32 + syn;
            part.header.flags = Flags(part.header.flags.0 & !Flags::SYN.0);
        }
        if i + 1 < count {
            part.header.flags = Flags(part.header.flags.0 & !last_only.0);
        }
        out.push(part);
    }
}

fn holdable(packet: &Packet) -> bool {
    let control = Flags::SYN.0 | Flags::FIN.0 | Flags::RST.0 | Flags::URG.0;
    packet.header.flags.0 & control == 0 && !packet.payload.is_empty()
}

/// Consecutive, and under the same mapping: joining segments of different mappings would lose one of them.
fn mergeable(before: &Packet, next: &Packet, max_payload: usize) -> bool {
    let without_ack = |p: &Packet| {
        let mut mptcp = p.options.mptcp;
        if let Some(dss) = &mut mptcp.dss {
            dss.data_ack = None;
        }
        mptcp
    };
    before.source() == next.source()
        && before.destination() == next.destination()
        && before.end() == next.header.seq
        && holdable(next)
        && before.payload.len() + next.payload.len() <= max_payload
        && without_ack(before) == without_ack(next)
}

fn merge(before: &mut Packet, next: Packet) {
    let seq: SeqNum = before.header.seq;
    before.payload.extend_from_slice(&next.payload);
    before.header = next.header;
    before.header.seq = seq;
    before.options = next.options;
}

fn translate(public: IpAddr, inside: &mut Vec<SocketAddr>, dir: Dir, mut packet: Packet) -> Option<Packet> {
    match dir {
        Dir::Up => {
            let source = packet.source();
            let index = inside.iter().position(|s| *s == source).unwrap_or_else(|| {
                inside.push(source);
                inside.len() - 1
            });
            packet.src = public;
            packet.header.src_port = NAT_PORT_BASE + index as u16;
        }
        Dir::Down => {
            let index = packet.header.dst_port.checked_sub(NAT_PORT_BASE)?;
            let client = inside.get(usize::from(index))?;
            packet.dst = client.ip();
            packet.header.dst_port = client.port();
        }
    }
    Some(packet)
}

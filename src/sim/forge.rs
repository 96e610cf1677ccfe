//! Segments that nobody meant, made from one that passes: what a hostile peer or a broken box sends at any time.
//!
//! They may break a connection, and cost it much; they may not make it deliver wrong bytes. So they carry no payload, and
//! nothing that says what the stream is: no mapping, no FIN, no DATA_FIN, no acknowledgment that the segment itself does
//! not have. Who can forge those on the path owns the stream, with any TCP.

use super::packet::Packet;
use super::rng::Rng;
use crate::wire::mptcp_option::{MpCapableBody, WireDsn};
use crate::wire::{AddAddr, Dsn, Dss, Flags, MpCapable, MpJoin, MptcpOptions, RemoveAddr, SackBlocks, SeqNum, TcpRst};
use core::net::{IpAddr, Ipv4Addr};

/// A forged companion of this segment.
pub fn forge(packet: &Packet, rng: &mut Rng) -> Packet {
    let mut forged = packet.clone();
    forged.payload.clear();
    forged.options.mss = None;
    forged.options.window_scale = None;
    forged.options.sack_permitted = false;
    // With two options of a kind a list may not fit; the blocks go first.
    forged.options.sack = SackBlocks::default();
    forged.options.mptcp = MptcpOptions::default();
    let mut flags = Flags(forged.header.flags.0 & !(Flags::FIN.0 | Flags::SYN.0));
    match rng.below(10) {
        0 => flags = flags.with(Flags::RST),
        1 => flags = Flags::SYN,
        2 => flags = Flags::SYN.with(Flags::ACK),
        3 => flags = Flags(0),
        // An older time: a newer one makes the peer's own segments old, as it should (RFC 7323 section 5.3).
        4 => {
            if let Some(stamps) = &mut forged.options.timestamps {
                stamps.val = stamps.val.wrapping_sub(rng.between(1, 1 << 30) as u32);
                stamps.ecr = rng.next_u64() as u32;
            }
        }
        5 => {
            let edge = SeqNum(rng.next_u64() as u32);
            forged.options.sack.push(edge, edge + rng.below(100_000) as u32);
        }
        _ => forged.options.mptcp = option(rng),
    }
    forged.header.flags = flags;
    match rng.below(4) {
        0 => forged.header.seq += rng.below(200_000) as u32,
        1 => forged.header.seq = SeqNum(rng.next_u64() as u32),
        _ => {}
    }
    forged
}

/// Any option with any numbers.
fn option(rng: &mut Rng) -> MptcpOptions {
    let (a, b) = (rng.next_u64(), rng.next_u64());
    let id = rng.below(4) as u8;
    let mut options = MptcpOptions::default();
    match rng.below(10) {
        0 => {
            let body = MpCapableBody::Ack {
                sender_key: a,
                receiver_key: b,
            };
            options.capable = Some(MpCapable {
                version: 1,
                flags: b as u8,
                body,
            });
        }
        1 => {
            options.join = Some(MpJoin::SynAck {
                backup: id & 1 == 1,
                address_id: id,
                hmac: a,
                nonce: b as u32,
            });
        }
        2 => options.join = Some(MpJoin::Ack { hmac: [b as u8; 20] }),
        3 => {
            options.dss = Some(Dss {
                data_ack: Some(WireDsn::Long(Dsn(a))),
                map: None,
                data_fin: false,
            });
        }
        4 => {
            options.add_addr = Some(AddAddr {
                id,
                addr: IpAddr::V4(Ipv4Addr::from(b as u32)),
                port: None,
                hmac: (a & 1 == 1).then_some(a),
            });
        }
        5 => options.remove_addr = RemoveAddr::new(&[id]),
        6 => options.prio = Some(a & 1 == 1),
        7 => options.fail = Some(Dsn(a)),
        8 => options.fastclose = Some(a),
        _ => {
            options.tcprst = Some(TcpRst {
                transient: a & 1 == 1,
                reason: b as u8,
            });
        }
    }
    options
}

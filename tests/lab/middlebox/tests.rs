//! Each box over crafted segments, IPv4 and IPv6.

use super::frame::{parse, Parsed, TcpFrame, ACK, CWR, FIN, PSH, RST, SYN};
use super::{is_neighbour_discovery, Chain};
use crate::lab::spec::{client_address, nat_address, server_address, LineStats, Middlebox, Toward};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Golden option bytes: SYN with MP_CAPABLE (MSS, SACK permitted, timestamps, window scale, option 30).
const SYN_OPTIONS: &[u8] = &[
    2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 10, 30, 4, 1, 1,
];
/// Timestamps and a 12-byte DSS.
const ACK_OPTIONS: &[u8] = &[
    1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 30, 12, 0x20, 3, 1, 2, 3, 4, 5, 6, 7, 8,
];
/// Timestamps and an ADD_ADDR echo.
const ADD_ADDR_OPTIONS: &[u8] = &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 30, 8, 0x31, 1, 198, 51, 100, 2];
/// MP_JOIN SYN.
const JOIN_OPTIONS: &[u8] = &[30, 12, 0x10, 1, 1, 2, 3, 4, 5, 6, 7, 8];
/// One SACK block, 1000 to 2000.
const SACK_OPTIONS: &[u8] = &[1, 1, 5, 10, 0, 0, 0x03, 0xe8, 0, 0, 0x07, 0xd0];

#[derive(Clone)]
struct Crafted {
    toward: Toward,
    v6: bool,
    seq: u32,
    ack: u32,
    flags: u8,
    options: Vec<u8>,
    payload: Vec<u8>,
}

fn segment(flags: u8, options: &[u8], payload: &[u8]) -> Crafted {
    Crafted {
        toward: Toward::Server,
        v6: false,
        seq: 5000,
        ack: 9000,
        flags,
        options: options.to_vec(),
        payload: payload.to_vec(),
    }
}

const CLIENT_PORT: u16 = 50_000;
const SERVER_PORT: u16 = 80;

impl Crafted {
    fn toward(mut self, toward: Toward) -> Self {
        self.toward = toward;
        self
    }

    fn v6(mut self, v6: bool) -> Self {
        self.v6 = v6;
        self
    }

    fn at(mut self, seq: u32, ack: u32) -> Self {
        (self.seq, self.ack) = (seq, ack);
        self
    }

    fn ends(&self) -> [SocketAddr; 2] {
        let client = SocketAddr::new(client_address(0, self.v6), CLIENT_PORT);
        let server = SocketAddr::new(server_address(0, self.v6), SERVER_PORT);
        match self.toward {
            Toward::Server => [client, server],
            Toward::Client => [server, client],
        }
    }

    /// Written out field by field, checksum by a sum of its own.
    fn bytes(&self) -> Vec<u8> {
        let [source, destination] = self.ends();
        let mut tcp = Vec::new();
        tcp.extend(source.port().to_be_bytes());
        tcp.extend(destination.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags, 0x10, 0, 0, 0, 0, 0]);
        tcp.extend(&self.options);
        tcp.extend(&self.payload);
        let mut pseudo = octets(source.ip());
        pseudo.extend(octets(destination.ip()));
        pseudo.extend([0, 6]);
        pseudo.extend((tcp.len() as u16).to_be_bytes());
        pseudo.extend(&tcp);
        let sum = checksum(&pseudo);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut frame = vec![0; 12];
        if self.v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((tcp.len() as u16).to_be_bytes());
            frame.extend([6, 64]);
            frame.extend(octets(source.ip()));
            frame.extend(octets(destination.ip()));
        } else {
            frame.extend([8, 0]);
            let mut ip = vec![0x45, 0];
            ip.extend((20 + tcp.len() as u16).to_be_bytes());
            ip.extend([0x12, 0x34, 0x40, 0, 64, 6, 0, 0]);
            ip.extend(octets(source.ip()));
            ip.extend(octets(destination.ip()));
            let sum = checksum(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(ip);
        }
        frame.extend(tcp);
        frame
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// RFC 1071 with end-around carry at each step.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += (pair[0] as u32) << 8 | pair.get(1).copied().unwrap_or(0) as u32;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn tcp(bytes: Vec<u8>) -> TcpFrame {
    match parse(bytes) {
        Parsed::Tcp(frame) => frame,
        Parsed::BadChecksum(_) => panic!("bad TCP checksum"),
        Parsed::Other(_) => panic!("not TCP"),
    }
}

/// A chain with its counters.
struct Rig {
    chain: Chain,
    stats: LineStats,
}

fn rig(boxes: &[Middlebox]) -> Rig {
    Rig {
        chain: Chain::new(0, 7, boxes),
        stats: LineStats::default(),
    }
}

impl Rig {
    /// What comes out, each parsed, which checks its TCP checksum; the IPv4 header's too.
    fn put(&mut self, crafted: &Crafted) -> Vec<TcpFrame> {
        let mut out = Vec::new();
        self.chain.handle(
            Duration::ZERO,
            crafted.toward,
            crafted.bytes(),
            &mut self.stats,
            &mut out,
        );
        out.into_iter().map(checked).collect()
    }

    fn put_one(&mut self, crafted: &Crafted) -> TcpFrame {
        let mut out = self.put(crafted);
        assert_eq!(out.len(), 1);
        out.remove(0)
    }
}

fn checked(bytes: Vec<u8>) -> TcpFrame {
    if bytes[12] == 8 {
        assert_eq!(checksum(&bytes[14..34]), 0, "IPv4 header checksum");
    }
    tcp(bytes)
}

#[test]
fn no_box_changes_nothing() {
    let crafted = segment(ACK | PSH, ACK_OPTIONS, b"hello");
    let mut out = Vec::new();
    let mut rig = rig(&[Middlebox::StripSyn]);
    rig.chain.handle(
        Duration::ZERO,
        Toward::Server,
        crafted.bytes(),
        &mut rig.stats,
        &mut out,
    );
    assert_eq!(out, [crafted.bytes()]);
    assert_eq!(rig.stats.box_changed, 0);
}

#[test]
fn a_wrong_checksum_is_never_repaired() {
    let mut bytes = segment(SYN, SYN_OPTIONS, b"").bytes();
    bytes[50] ^= 1;
    let mut rig = rig(&[Middlebox::StripAll, Middlebox::Nat]);
    let mut out = Vec::new();
    rig.chain
        .handle(Duration::ZERO, Toward::Server, bytes.clone(), &mut rig.stats, &mut out);
    assert_eq!((out, rig.stats.bad_checksum), (vec![bytes], 1));
}

#[test]
fn stripping_takes_just_the_options_it_names() {
    let cases = [
        (Middlebox::StripSyn, [true, true, false, false]),
        (Middlebox::StripSynAck, [false, true, false, false]),
        (Middlebox::StripLater, [false, false, true, true]),
        (Middlebox::StripAll, [true, true, true, true]),
        (Middlebox::StripAddAddr, [false, false, false, true]),
    ];
    for (kind, stripped) in cases {
        for v6 in [false, true] {
            let segments = [
                segment(SYN, SYN_OPTIONS, b""),
                segment(SYN | ACK, SYN_OPTIONS, b"").toward(Toward::Client),
                segment(ACK, ACK_OPTIONS, b"data"),
                segment(ACK, ADD_ADDR_OPTIONS, b""),
            ];
            for (crafted, stripped) in segments.into_iter().zip(stripped) {
                let out = rig(&[kind]).put_one(&crafted.clone().v6(v6));
                assert_eq!(out.mptcp_subtypes().is_empty(), stripped, "{kind:?}");
                assert_eq!(out.option_bytes().len(), crafted.options.len());
                assert_eq!(out.payload(), crafted.payload);
                assert_eq!(out.options()[0].kind, if crafted.flags & SYN != 0 { 2 } else { 8 });
            }
        }
    }
}

#[test]
fn syns_with_mptcp_are_dropped_by_kind() {
    let (capable, join) = (segment(SYN, SYN_OPTIONS, b""), segment(SYN, JOIN_OPTIONS, b""));
    let plain = segment(SYN, &SYN_OPTIONS[..20], b"");
    let cases = [
        (Middlebox::DropCapableSyn, [0, 1, 1]),
        (Middlebox::DropJoinSyn, [1, 0, 1]),
        (Middlebox::DropMptcpSyn, [0, 0, 1]),
    ];
    for (kind, expected) in cases {
        for (crafted, count) in [&capable, &join, &plain].into_iter().zip(expected) {
            let mut rig = rig(&[kind]);
            assert_eq!(rig.put(crafted).len(), count, "{kind:?}");
            assert_eq!(rig.stats.box_dropped, 1 - count as u64);
        }
    }
}

#[test]
fn corruption_hits_one_byte_once() {
    let mut rig = rig(&[Middlebox::CorruptOnce {
        toward: Toward::Server,
        offset: 6,
    }]);
    rig.put_one(&segment(SYN, SYN_OPTIONS, b"").at(u32::MAX - 2, 0));
    // The first payload byte is at u32::MAX - 1, so byte 6 lies behind the wrap.
    let first = rig.put_one(&segment(ACK, ACK_OPTIONS, b"aaaa").at(u32::MAX - 1, 1));
    assert_eq!(first.payload(), b"aaaa");
    let second = rig.put_one(&segment(ACK, ACK_OPTIONS, b"bbbb").at(2, 1));
    assert_eq!(second.payload(), b"bbfb");
    let again = rig.put_one(&segment(ACK, ACK_OPTIONS, b"bbbb").at(2, 1));
    assert_eq!(again.payload(), b"bbbb");
}

#[test]
fn corruption_of_every_nth_counts_data_segments_of_its_direction() {
    let mut rig = rig(&[Middlebox::CorruptEvery {
        toward: Toward::Client,
        nth: 2,
    }]);
    let data = segment(ACK, ACK_OPTIONS, b"aa").toward(Toward::Client);
    let mut changed = Vec::new();
    for _ in 0..4 {
        rig.put_one(&segment(ACK, ACK_OPTIONS, b"aa"));
        rig.put_one(&segment(ACK, ACK_OPTIONS, b"").toward(Toward::Client));
        changed.push(rig.put_one(&data).payload() != b"aa");
    }
    assert_eq!(changed, [false, true, false, true]);
}

#[test]
fn shifted_numbers_are_consistent_both_ways() {
    for v6 in [false, true] {
        let mut rig = rig(&[Middlebox::ShiftSequence]);
        let syn = rig.put_one(&segment(SYN, SYN_OPTIONS, b"").at(100, 0).v6(v6));
        let client = syn.seq().wrapping_sub(100);
        assert_ne!(client, 0);
        assert_eq!(syn.ack(), 0);
        let syn_ack = segment(SYN | ACK, SYN_OPTIONS, b"").toward(Toward::Client).v6(v6);
        let syn_ack = rig.put_one(&syn_ack.at(300, syn.seq().wrapping_add(1)));
        let server = syn_ack.seq().wrapping_sub(300);
        assert_eq!(syn_ack.ack(), 101);
        let data = rig.put_one(
            &segment(ACK, ACK_OPTIONS, b"x")
                .at(101, syn_ack.seq().wrapping_add(1))
                .v6(v6),
        );
        assert_eq!((data.seq(), data.ack()), (client.wrapping_add(101), 301));
        let sack = rig.put_one(&segment(ACK, SACK_OPTIONS, b"").at(102, 0).v6(v6));
        let block = &sack.option_bytes()[4..12];
        assert_eq!(block[..4], 1000u32.wrapping_sub(server).to_be_bytes());
        assert_eq!(block[4..], 2000u32.wrapping_sub(server).to_be_bytes());
    }
}

#[test]
fn a_connection_whose_syn_was_not_seen_is_left_alone() {
    let crafted = segment(ACK, ACK_OPTIONS, b"x");
    for kind in [Middlebox::ShiftSequence, Middlebox::Nat] {
        let out = rig(&[kind]).put_one(&crafted);
        assert_eq!((out.seq(), out.source()), (crafted.seq, crafted.ends()[0]));
    }
}

#[test]
fn split_pieces_carry_the_options_and_the_flags_where_they_belong() {
    for v6 in [false, true] {
        let crafted = segment(ACK | PSH | FIN | CWR, ACK_OPTIONS, b"abcdefghij").v6(v6);
        let out = rig(&[Middlebox::Split { max_payload: 4 }]).put(&crafted);
        let pieces: Vec<_> = out.iter().map(|p| (p.seq(), p.flags(), p.payload())).collect();
        let expected: [(u32, u8, &[u8]); 3] = [
            (5000, ACK | CWR, b"abcd"),
            (5004, ACK, b"efgh"),
            (5008, ACK | PSH | FIN, b"ij"),
        ];
        assert_eq!(pieces, expected);
        assert!(out.iter().all(|p| p.option_bytes() == ACK_OPTIONS));
    }
}

#[test]
fn neighbours_merge_and_strangers_do_not() {
    let mut rig = rig(&[Middlebox::Merge { equal_options: true }]);
    let first = segment(ACK, ACK_OPTIONS, b"abc");
    assert!(rig.put(&first).is_empty());
    let merged = rig.put_one(&segment(ACK | PSH, ACK_OPTIONS, b"def").at(5003, 9001));
    assert_eq!(merged.payload(), b"abcdef");
    assert_eq!((merged.seq(), merged.ack(), merged.flags()), (5000, 9001, ACK | PSH));
    // A gap: the first one goes on alone, the second waits in its turn.
    assert!(rig.put(&first).is_empty());
    assert_eq!(
        rig.put_one(&segment(ACK, ACK_OPTIONS, b"xyz").at(6000, 9000)).payload(),
        b"abc"
    );
    // A pure ACK lets go of what is held, and keeps the order.
    let out = rig.put(&segment(ACK, ACK_OPTIONS, b"").at(6003, 9000));
    let payloads: Vec<_> = out.iter().map(TcpFrame::payload).collect();
    assert_eq!(payloads, [b"xyz".as_slice(), b""]);
}

#[test]
fn unequal_options_merge_only_when_allowed_and_the_second_ones_are_lost() {
    for equal_options in [true, false] {
        let mut rig = rig(&[Middlebox::Merge { equal_options }]);
        rig.put(&segment(ACK, ACK_OPTIONS, b"abc"));
        let out = rig.put_one(&segment(ACK, SACK_OPTIONS, b"def").at(5003, 9000));
        assert_eq!(out.option_bytes(), ACK_OPTIONS);
        assert_eq!(out.payload(), if equal_options { b"abc".as_slice() } else { b"abcdef" });
    }
}

#[test]
fn a_held_segment_goes_on_after_a_while() {
    let mut rig = rig(&[Middlebox::Merge { equal_options: true }]);
    rig.put(&segment(ACK, ACK_OPTIONS, b"abc"));
    let due = rig.chain.next_timeout().unwrap();
    let mut out = Vec::new();
    for (now, count) in [(due - Duration::from_micros(1), 0), (due, 1)] {
        rig.chain.handle_timeout(now, Toward::Server, &mut rig.stats, &mut out);
        assert_eq!(out.len(), count);
    }
    assert_eq!(rig.chain.next_timeout(), None);
}

#[test]
fn merging_clamps_the_mss() {
    let out = rig(&[Middlebox::Merge { equal_options: true }]).put_one(&segment(SYN, SYN_OPTIONS, b""));
    assert_eq!(out.option_bytes()[..4], [2, 4, 0x02, 0xda]);
}

#[test]
fn nat_translates_both_ways() {
    for v6 in [false, true] {
        let mut rig = rig(&[Middlebox::Nat]);
        let crafted = segment(SYN, SYN_OPTIONS, b"").v6(v6);
        let [client, server] = crafted.ends();
        let syn = rig.put_one(&crafted);
        let outside = SocketAddr::new(nat_address(0, v6), 40_000);
        assert_eq!((syn.source(), syn.destination()), (outside, server));
        let mut answer = tcp(segment(SYN | ACK, SYN_OPTIONS, b"")
            .toward(Toward::Client)
            .v6(v6)
            .bytes());
        answer.set_destination(outside);
        let mut out = Vec::new();
        rig.chain.handle(
            Duration::ZERO,
            Toward::Client,
            answer.into_frame().0,
            &mut rig.stats,
            &mut out,
        );
        assert_eq!(checked(out.remove(0)).destination(), client);
    }
}

#[test]
fn boxes_stand_in_the_same_order_for_both_directions() {
    // The corrupting box next to the server sees translated addresses; toward the client it must be the first.
    let boxes = [
        Middlebox::Nat,
        Middlebox::CorruptOnce {
            toward: Toward::Client,
            offset: 0,
        },
    ];
    let mut rig = rig(&boxes);
    rig.put_one(&segment(SYN, SYN_OPTIONS, b""));
    let outside = SocketAddr::new(nat_address(0, false), 40_000);
    let mut payloads = Vec::new();
    for (flags, seq, payload) in [(SYN | ACK, 300, b"".as_slice()), (ACK, 301, b"a")] {
        let mut answer = tcp(segment(flags, ACK_OPTIONS, payload)
            .toward(Toward::Client)
            .at(seq, 101)
            .bytes());
        answer.set_destination(outside);
        let mut out = Vec::new();
        rig.chain.handle(
            Duration::ZERO,
            Toward::Client,
            answer.into_frame().0,
            &mut rig.stats,
            &mut out,
        );
        payloads.push(checked(out.remove(0)).payload().to_vec());
    }
    assert_eq!(payloads, [b"".to_vec(), b"e".to_vec()]);
}

#[test]
fn discovery_is_recognised() {
    let mut arp = vec![0; 42];
    arp[12..14].copy_from_slice(&[8, 6]);
    assert!(is_neighbour_discovery(&arp));
    assert!(!is_neighbour_discovery(&segment(RST, &[], b"").bytes()));
    let mut solicitation = vec![0; 78];
    solicitation[12..14].copy_from_slice(&[0x86, 0xdd]);
    (solicitation[20], solicitation[54]) = (58, 135);
    assert!(is_neighbour_discovery(&solicitation));
    solicitation[54] = 128;
    assert!(!is_neighbour_discovery(&solicitation));
}

proptest! {
    /// No bytes make a box panic, and what is not TCP comes out as it was.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let all = [Middlebox::StripAll, Middlebox::ShiftSequence, Middlebox::Nat, Middlebox::Merge { equal_options: false }];
        let mut rig = rig(&all);
        let mut out = Vec::new();
        rig.chain.handle(Duration::ZERO, Toward::Server, bytes.clone(), &mut rig.stats, &mut out);
        prop_assert_eq!(out, [bytes]);
    }

    /// Nor does a frame damaged anywhere.
    #[test]
    fn any_damage_is_survived(damage in prop::collection::vec((0usize..90, any::<u8>()), 1..4), v6: bool, cut in 0usize..90) {
        let mut bytes = segment(ACK, ACK_OPTIONS, b"payload").v6(v6).bytes();
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        let mut rig = rig(&[Middlebox::StripAll, Middlebox::Split { max_payload: 3 }]);
        let mut out = Vec::new();
        rig.chain.handle(Duration::ZERO, Toward::Server, bytes, &mut rig.stats, &mut out);
        prop_assert!(!out.is_empty());
    }

    /// Nor do any options in an otherwise sound segment.
    #[test]
    fn any_options_are_survived(options in prop::collection::vec(any::<[u8; 4]>(), 0..=10), flags: u8, v6: bool) {
        let options = options.concat();
        let boxes = [
            Middlebox::Split { max_payload: 3 }, Middlebox::StripAll, Middlebox::ShiftSequence, Middlebox::Nat,
            Middlebox::CorruptEvery { toward: Toward::Server, nth: 1 }, Middlebox::Merge { equal_options: true },
        ];
        let mut rig = rig(&boxes);
        rig.put(&segment(SYN, &options, b"").v6(v6));
        rig.put(&segment(flags, &options, b"payload").v6(v6));
        rig.put(&segment(ACK, &options, b"payload").v6(v6));
    }
}

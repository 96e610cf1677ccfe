//! Tests of the whole layer: golden bytes, wrong lengths, malformed lists, room, checksums, and any bytes at all.

mod any;
mod checksums;
mod vectors;

use super::*;

const TIMESTAMPS: Timestamps = Timestamps {
    val: 0x0102_0304,
    ecr: 0xa0b0_c0d0,
};

const HEADER: Header = Header {
    src_port: 34058,
    dst_port: 8000,
    seq: SeqNum(0xfeed_0001),
    ack: SeqNum(0x0bad_0002),
    flags: Flags(0x18),
    window: 63,
};

/// The bytes of a hexadecimal string.
fn bytes(hex: &str) -> Vec<u8> {
    assert_eq!(hex.len() % 2, 0, "{hex}");
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}

/// A segment with this option list and a payload.
fn segment(options: &[u8], payload: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0);
    let mut all = bytes("850a1f40feed00010bad0002");
    all.extend([((20 + options.len()) as u8 / 4) << 4, 0x18, 0, 63, 0, 0, 0, 0]);
    all.extend(options);
    all.extend(payload);
    all
}

fn parsed(option_hex: &str) -> TcpOptions {
    TcpOptions::parse(&bytes(option_hex))
}

/// The hex is exactly `options` on the wire, in a segment read and in a segment written.
fn both_ways(option_hex: &str, options: TcpOptions) {
    let raw = segment(&bytes(option_hex), b"payload");
    let read = Segment::parse(&raw).unwrap();
    assert_eq!(read.header, HEADER);
    assert_eq!(read.options, options, "reading {option_hex}");
    assert_eq!(read.payload, b"payload");

    let mut buf = [0xee; 60];
    let len = emit_header(&HEADER, &options, &mut buf);
    assert_eq!(buf[..len], raw[..raw.len() - 7], "writing {options:?}");
    assert_eq!(options_len(&options), option_hex.len() / 2);
}

#[test]
fn a_header_is_refused_for_what_is_wrong_with_it() {
    let whole = segment(&[], &[]);
    assert!(Segment::parse(&whole).is_ok());
    assert_eq!(Segment::parse(&whole[..19]), Err(ParseError::Truncated));
    assert_eq!(Segment::parse(&[]), Err(ParseError::Truncated));
    let with = |at: usize, value: u8| {
        let mut changed = whole.clone();
        changed[at] = value;
        changed
    };
    assert_eq!(Segment::parse(&with(12, 0x40)), Err(ParseError::BadDataOffset));
    assert_eq!(Segment::parse(&with(12, 0x60)), Err(ParseError::Truncated));
    for port in [0..2, 2..4] {
        let mut changed = whole.clone();
        changed[port].fill(0);
        assert_eq!(Segment::parse(&changed), Err(ParseError::PortZero));
    }
}

// Proves MUST-4, MUST-69.
#[test]
fn padding_without_timestamps_is_that_of_linux() {
    let sack_permitted = TcpOptions {
        sack_permitted: true,
        ..Default::default()
    };
    both_ways("01010402", sack_permitted);
    let options = TcpOptions {
        mss: Some(536),
        window_scale: Some(7),
        ..sack_permitted
    };
    both_ways("020402180101040201030307", options);
}

// Proves MUST-7.
#[test]
fn a_bad_length_ends_the_list_and_keeps_what_came_before() {
    let before = TcpOptions {
        mss: Some(1460),
        ..Default::default()
    };
    for end in [
        "0800",         // length 0
        "0801",         // length 1
        "080a01020304", // past the end
        "1e",           // no length
        "00",           // end of list
    ] {
        assert_eq!(parsed(&format!("020405b4{end}")), before, "{end}");
    }
    // Nothing behind the bad one is read.
    assert_eq!(parsed("020405b4080003030a"), before);
    assert_eq!(parsed("020405b40003030a"), before);
}

// Proves MUST-4, MUST-6.
#[test]
fn unknown_and_mis_sized_tcp_options_are_skipped() {
    let expected = TcpOptions {
        window_scale: Some(10),
        ..Default::default()
    };
    for skipped in [
        "fd04abcd",                             // experimental
        "131200000000000000000000000000000000", // MD5 signature
        "020305",                               // MSS of 1 byte
        "02040000",                             // MSS 0
        "03040a0a",                             // window scale of 2 bytes
        "040300",                               // SACK permitted with a body
        "0809000000000000ff",                   // timestamps of 7 bytes
        "080b000000000000ffffff",               // timestamps of 9 bytes
        "0502",                                 // SACK of nothing
        "050600000001",                         // SACK of half a block
        "1e02",                                 // MPTCP without a subtype
    ] {
        assert_eq!(parsed(&format!("{skipped}03030a")), expected, "{skipped}");
    }
}

#[test]
fn four_sack_blocks_are_read_and_five_are_no_sack_option() {
    let four = format!("0522{}", "0000000100000002".repeat(4));
    assert_eq!(parsed(&four).sack.as_slice(), [(SeqNum(1), SeqNum(2)); 4]);
    let five = format!("052a{}", "0000000100000002".repeat(5));
    assert!(parsed(&five).sack.is_empty());
}

#[test]
fn the_last_valid_one_of_two_options_counts() {
    assert_eq!(parsed("020405b402040218").mss, Some(536));
    assert_eq!(parsed("020405b4020302").mss, Some(1460));
    assert_eq!(
        parsed("1e0c6000000000000000000a1e0c6000000000000000000b").mptcp.fail,
        Some(Dsn(11))
    );
    assert_eq!(
        parsed("1e0c6000000000000000000a1e0b60000000000000000b").mptcp.fail,
        Some(Dsn(10))
    );
    let ack = |hex| parsed(hex).mptcp.dss.and_then(|dss| dss.data_ack);
    assert_eq!(ack("1e082001000000051e08200100000006"), Some(WireDsn::Short(6)));
}

// Proves C2, C6, J1, M3.8-2.
#[test]
fn mptcp_options_of_every_other_length_are_ignored() {
    // The third byte with a low half of 0, which is a non-echo ADD_ADDR; DSS has a test of its own.
    let lengths: [&[usize]; 16] = [
        &[4, 12, 20, 22, 24],
        &[12, 16, 24],
        &[4],
        &[16, 18, 28, 30],
        &[4, 5, 6, 7, 8, 9, 10],
        &[3],
        &[12],
        &[12],
        &[4],
        &[],
        &[],
        &[],
        &[],
        &[],
        &[],
        &[],
    ];
    for (subtype, lengths) in (0u8..).zip(lengths) {
        for len in 3..=40 {
            let mut list = vec![30, len as u8, subtype << 4];
            list.resize(len, 0);
            list.extend([2, 4, 5, 0xb4]);
            let options = TcpOptions::parse(&list);
            assert_eq!(options.mss, Some(1460), "the rest is read");
            // REMOVE_ADDR takes all lengths; the table has the first few.
            let taken = lengths.contains(&len) || (subtype == 4 && len > 3);
            assert_eq!(options.mptcp.is_empty(), !taken, "subtype {subtype} length {len}");
        }
    }
}

// Proves A1.
#[test]
fn an_echo_of_an_address_has_no_hmac_and_its_own_lengths() {
    for len in 3..=40 {
        let mut list = vec![30, len as u8, 0x31];
        list.resize(len, 7);
        let echo = TcpOptions::parse(&list).mptcp.add_addr;
        assert_eq!(echo.is_some(), [8, 10, 20, 22].contains(&len), "length {len}");
        assert!(echo.is_none_or(|echo| echo.hmac.is_none()));
    }
}

// Proves C6, D1.
#[test]
fn a_dss_has_exactly_the_length_of_its_flags() {
    for flags in 0..=255u8 {
        let ack = [0, 4, 0, 8][usize::from(flags & 3)];
        let map = [0, 10, 0, 14][usize::from(flags >> 2 & 3)];
        for len in 4..=40 {
            let mut list = vec![30, len as u8, 0x20, flags];
            list.resize(len, 9);
            let dss = TcpOptions::parse(&list).mptcp.dss;
            let fits = len == 4 + ack + map || map > 0 && len == 4 + ack + map + 2;
            assert_eq!(dss.is_some(), fits, "flags {flags:#x} length {len}");
            if let Some(dss) = dss {
                assert_eq!(dss.data_fin, flags & 0x10 != 0);
                let checksum = dss.map.and_then(|map| map.checksum);
                assert_eq!(checksum.is_some(), len > 4 + ack + map);
            }
        }
    }
}

#[test]
fn short_numbers_stay_short() {
    let dss = parsed("1e122005000000070000000800000001000a").mptcp.dss.unwrap();
    assert_eq!(dss.data_ack, Some(WireDsn::Short(7)));
    assert_eq!(dss.map.unwrap().dsn, WireDsn::Short(8));
}

// Proves M3.1-14.
#[test]
fn reserved_bits_and_versions_do_not_hide_an_option() {
    // DSS flags e0, MP_PRIO bits 2 to 4, version 15 and all flags of MP_CAPABLE.
    assert_eq!(parsed("1e0820e100000007"), parsed("1e08200100000007"));
    assert_eq!(parsed("1e035f").mptcp.prio, Some(true));
    assert_eq!(parsed("1e035e").mptcp.prio, Some(false));
    let capable = parsed("1e040fff").mptcp.capable.unwrap();
    assert_eq!((capable.version, capable.flags), (15, 0xff));
    // MP_EXPERIMENTAL.
    assert!(parsed("1e08f00000000000").mptcp.is_empty());
}

/// Options that are each as long as can be.
fn everything() -> TcpOptions {
    let mut sack = SackBlocks::default();
    for i in 0..4 {
        assert!(sack.push(SeqNum(i), SeqNum(i + 1)));
    }
    TcpOptions {
        mss: Some(1460),
        window_scale: Some(14),
        sack_permitted: true,
        timestamps: Some(TIMESTAMPS),
        sack,
        mptcp: MptcpOptions {
            capable: Some(MpCapable {
                version: 1,
                flags: 0x81,
                body: MpCapableBody::AckData {
                    sender_key: 1,
                    receiver_key: 2,
                    data_len: 3,
                    checksum: Some(4),
                },
            }),
            join: Some(MpJoin::Ack { hmac: [5; 20] }),
            dss: Some(Dss {
                data_ack: Some(WireDsn::Long(Dsn(6))),
                map: Some(DssMap {
                    dsn: WireDsn::Long(Dsn(7)),
                    ssn: 8,
                    len: 9,
                    checksum: Some(10),
                }),
                data_fin: true,
            }),
            add_addr: Some(AddAddr {
                id: 11,
                addr: core::net::Ipv6Addr::LOCALHOST.into(),
                port: Some(12),
                hmac: Some(13),
            }),
            remove_addr: RemoveAddr::new(&[14; RemoveAddr::MAX]),
            prio: Some(true),
            fail: Some(Dsn(15)),
            fastclose: Some(16),
            tcprst: Some(TcpRst {
                transient: true,
                reason: 17,
            }),
        },
    }
}

// Proves O1.
#[test]
fn what_does_not_fit_is_dropped_in_the_documented_order() {
    let all = everything();
    let kept = all.fitted();
    assert_eq!(kept.mptcp, MptcpOptions::default());
    assert!(kept.sack.is_empty());
    assert_eq!((kept.mss, kept.timestamps), (all.mss, all.timestamps));
    assert_eq!(options_len(&all), 20);

    // SACK goes one block at a time, the last first: three beside timestamps, one beside a 64-bit DATA_ACK too.
    let mut options = TcpOptions {
        timestamps: all.timestamps,
        sack: all.sack,
        ..Default::default()
    };
    assert_eq!(options.fitted().sack.as_slice(), &all.sack.as_slice()[..3]);
    options.mptcp.dss = Some(Dss {
        data_ack: Some(WireDsn::Long(Dsn(1))),
        ..Default::default()
    });
    assert_eq!(options.fitted().sack.as_slice(), &all.sack.as_slice()[..1]);
    options.mptcp.dss = Some(Dss {
        data_ack: Some(WireDsn::Short(1)),
        ..Default::default()
    });
    assert_eq!(options.fitted().sack.as_slice(), &all.sack.as_slice()[..2]);

    // An IPv6 announcement with port and HMAC does not fit beside timestamps, and the DSS survives it.
    options.mptcp.add_addr = all.mptcp.add_addr;
    let kept = options.fitted();
    assert_eq!((kept.mptcp.add_addr, kept.mptcp.dss), (None, options.mptcp.dss));

    // The order among MPTCP options, from the one that goes first.
    let mut rest = all.mptcp;
    let mut order = Vec::new();
    while !rest.is_empty() {
        let before = rest;
        rest.drop_least();
        let gone = |was: bool, is: bool| was && !is;
        for (name, was, is) in [
            ("tcprst", before.tcprst.is_some(), rest.tcprst.is_some()),
            ("remove_addr", before.remove_addr.is_some(), rest.remove_addr.is_some()),
            ("add_addr", before.add_addr.is_some(), rest.add_addr.is_some()),
            ("prio", before.prio.is_some(), rest.prio.is_some()),
            ("fail", before.fail.is_some(), rest.fail.is_some()),
            ("fastclose", before.fastclose.is_some(), rest.fastclose.is_some()),
            ("dss", before.dss.is_some(), rest.dss.is_some()),
            ("join", before.join.is_some(), rest.join.is_some()),
            ("capable", before.capable.is_some(), rest.capable.is_some()),
        ] {
            if gone(was, is) {
                order.push(name);
            }
        }
    }
    let documented = [
        "tcprst",
        "remove_addr",
        "add_addr",
        "prio",
        "fail",
        "fastclose",
        "dss",
        "join",
        "capable",
    ];
    assert_eq!(order, documented);
}

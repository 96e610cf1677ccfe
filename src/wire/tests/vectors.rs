//! Golden option bytes: what two Linux 6.18 kernels said to each other, and the values they stand for.

use super::super::mptcp_option::MpCapableBody::{Ack, AckData, Syn, SynAck};
use super::super::mptcp_option::WireDsn::{self, Long, Short};
use super::super::*;
use super::{both_ways, bytes, TIMESTAMPS};
use Shape::*;

/// The TCP options in front of the MPTCP option.
#[derive(Clone, Copy)]
enum Shape {
    /// MSS, SACK permitted, timestamps, NOP, window scale.
    First,
    /// NOP, NOP, timestamps.
    Later,
    /// Nothing: a RST that answers for a socket that does not exist yet.
    Bare,
}

impl Shape {
    fn options(self) -> (&'static str, TcpOptions) {
        let none = TcpOptions::default();
        let timestamps = Some(TIMESTAMPS);
        match self {
            First => (
                "020405b40402080a01020304a0b0c0d00103030a",
                TcpOptions {
                    mss: Some(1460),
                    window_scale: Some(10),
                    sack_permitted: true,
                    timestamps,
                    ..none
                },
            ),
            Later => ("0101080a01020304a0b0c0d0", TcpOptions { timestamps, ..none }),
            Bare => ("", none),
        }
    }
}

fn capable(flags: u8, body: MpCapableBody) -> MptcpOptions {
    let version = 1;
    MptcpOptions {
        capable: Some(MpCapable { version, flags, body }),
        ..Default::default()
    }
}
fn keys(sender_key: u64, receiver_key: u64) -> MpCapableBody {
    Ack {
        sender_key,
        receiver_key,
    }
}
fn keys_data(sender_key: u64, receiver_key: u64, data_len: u16, checksum: Option<u16>) -> MpCapableBody {
    AckData {
        sender_key,
        receiver_key,
        data_len,
        checksum,
    }
}
fn join(join: MpJoin) -> MptcpOptions {
    MptcpOptions {
        join: Some(join),
        ..Default::default()
    }
}
fn join_syn(backup: bool, address_id: u8, token: u32, nonce: u32) -> MptcpOptions {
    join(MpJoin::Syn {
        backup,
        address_id,
        token,
        nonce,
    })
}
fn join_syn_ack(backup: bool, address_id: u8, hmac: u64, nonce: u32) -> MptcpOptions {
    join(MpJoin::SynAck {
        backup,
        address_id,
        hmac,
        nonce,
    })
}
fn join_ack(hmac: &str) -> MptcpOptions {
    join(MpJoin::Ack {
        hmac: bytes(hmac).try_into().unwrap(),
    })
}
fn dss(dss: Dss) -> MptcpOptions {
    MptcpOptions {
        dss: Some(dss),
        ..Default::default()
    }
}
fn ack(data_ack: WireDsn) -> MptcpOptions {
    dss(Dss {
        data_ack: Some(data_ack),
        ..Default::default()
    })
}
fn map(dsn: u64, ssn: u32, len: u16, checksum: Option<u16>) -> Option<DssMap> {
    Some(DssMap {
        dsn: Long(Dsn(dsn)),
        ssn,
        len,
        checksum,
    })
}
fn ack_map(data_ack: WireDsn, dsn: u64, ssn: u32, len: u16, checksum: Option<u16>) -> MptcpOptions {
    dss(Dss {
        data_ack: Some(data_ack),
        map: map(dsn, ssn, len, checksum),
        data_fin: false,
    })
}
fn ack_fin(data_ack: WireDsn, dsn: u64, ssn: u32, len: u16, checksum: Option<u16>) -> MptcpOptions {
    dss(Dss {
        data_ack: Some(data_ack),
        map: map(dsn, ssn, len, checksum),
        data_fin: true,
    })
}
fn add_addr(id: u8, addr: &str, port: Option<u16>, hmac: Option<u64>) -> MptcpOptions {
    MptcpOptions {
        add_addr: Some(AddAddr {
            id,
            addr: addr.parse().unwrap(),
            port,
            hmac,
        }),
        ..Default::default()
    }
}

// Proves C1, A1.
#[test]
fn captured_options_parse_to_their_values_and_emit_byte_for_byte() {
    for (shape, mptcp_hex, mptcp) in captured() {
        let (before_hex, before) = shape.options();
        both_ways(&format!("{before_hex}{mptcp_hex}"), TcpOptions { mptcp, ..before });
    }
}

#[test]
fn a_sack_block_stands_before_the_dss_and_fills_36_bytes() {
    let mut sack = SackBlocks::default();
    sack.push(SeqNum(22297), SeqNum(23721));
    let options = TcpOptions {
        timestamps: Some(TIMESTAMPS),
        sack,
        mptcp: ack(Long(Dsn(0x72f7_72dc_01f4_9ffb))),
        ..Default::default()
    };
    both_ways(
        "0101080a01020304a0b0c0d00101050a0000571900005ca91e0c200372f772dc01f49ffb",
        options,
    );
    assert_eq!(options_len(&options), 36);
}

#[test]
fn mp_fail_stands_behind_a_dss_and_before_a_tcprst() {
    let (_, before) = Later.options();
    let fail = Some(Dsn(0xcb6d_c3ac_de7c_9678));
    let mptcp = MptcpOptions {
        fail,
        ..ack(Short(0xded9_843d))
    };
    both_ways(
        "0101080a01020304a0b0c0d01e082001ded9843d1e0c6000cb6dc3acde7c9678",
        TcpOptions { mptcp, ..before },
    );
    let mptcp = MptcpOptions {
        fail,
        tcprst: Some(TcpRst {
            transient: false,
            reason: 6,
        }),
        ..Default::default()
    };
    both_ways(
        "0101080a01020304a0b0c0d01e0c6000cb6dc3acde7c96781e048006",
        TcpOptions { mptcp, ..before },
    );
}

// Proves M3.3-5.
#[test]
fn an_infinite_mapping_has_length_and_checksum_zero() {
    let (_, before) = Later.options();
    let mptcp = ack_map(Long(Dsn(1)), 0xcb6d_c3ac_de7c_9678, 11, 0, Some(0));
    both_ways(
        "0101080a01020304a0b0c0d01e1c200f0000000000000001cb6dc3acde7c96780000000b00000000",
        TcpOptions { mptcp, ..before },
    );
}

/// Each option (or pair of options) once, with its padding. Without digit separators, to be found by their bytes.
#[rustfmt::skip]
#[allow(clippy::unreadable_literal)]
fn captured() -> Vec<(Shape, &'static str, MptcpOptions)> { vec![
    (First, "1e040101", capable(0x01, Syn)),
    (First, "1e0c0101c18f0d286dd989ca", capable(0x01, SynAck { key: 0xc18f0d286dd989ca })),
    (Later, "1e1401010b66ce9e6378385cc18f0d286dd989ca", capable(0x01, keys(0x0b66ce9e6378385c, 0xc18f0d286dd989ca))),
    (Later, "1e1601010b66ce9e6378385cc18f0d286dd989ca000a0101",
        capable(0x01, keys_data(0x0b66ce9e6378385c, 0xc18f0d286dd989ca, 10, None))),
    (Later, "1e0c2003cb6dc3acde7c9678", ack(Long(Dsn(0xcb6dc3acde7c9678)))),
    (Later, "1e1a200fcb6dc3acde7c96787a416d8686b5ec7e00000001000a0101",
        ack_map(Long(Dsn(0xcb6dc3acde7c9678)), 0x7a416d8686b5ec7e, 1, 10, None)),
    (Later, "1e0c20037a416d8686b5ec7e", ack(Long(Dsn(0x7a416d8686b5ec7e)))),
    (First, "1e0c1001e6c9e5e2d644d3e2", join_syn(false, 1, 0xe6c9e5e2, 0xd644d3e2)),
    (First, "1e1010005003209bdbf4b093551366b1", join_syn_ack(false, 0, 0x5003209bdbf4b093, 0x551366b1)),
    (Later, "1e18100078be831103bdf040c47d0b15beb2c3074e65441a", join_ack("78be831103bdf040c47d0b15beb2c3074e65441a")),
    (Later, "1e1a200f7a416d8686b5ec88cb6dc3acde7c96780000000b00060101",
        ack_map(Long(Dsn(0x7a416d8686b5ec88)), 0xcb6dc3acde7c9678, 11, 6, None)),
    (Later, "1e1a200fcb6dc3acde7c967e7a416d8686b5ec880000000b00060101",
        ack_map(Long(Dsn(0xcb6dc3acde7c967e)), 0x7a416d8686b5ec88, 11, 6, None)),
    (Later, "1e0c20037a416d8686b5ec8e", ack(Long(Dsn(0x7a416d8686b5ec8e)))),
    (Later, "1e1a201f7a416d8686b5ec8ecb6dc3acde7c967e0000000000010101",
        ack_fin(Long(Dsn(0x7a416d8686b5ec8e)), 0xcb6dc3acde7c967e, 0, 1, None)),
    (Later, "1e0c2003cb6dc3acde7c967f", ack(Long(Dsn(0xcb6dc3acde7c967f)))),
    (Later, "1e1a201fcb6dc3acde7c967f7a416d8686b5ec8e0000000000010101",
        ack_fin(Long(Dsn(0xcb6dc3acde7c967f)), 0x7a416d8686b5ec8e, 0, 1, None)),
    (Later, "1e0c20037a416d8686b5ec8f", ack(Long(Dsn(0x7a416d8686b5ec8f)))),
    (First, "1e0c01018b7a45fd8ac2d2c5", capable(0x01, SynAck { key: 0x8b7a45fd8ac2d2c5 })),
    (Later, "1e140101ff4cbfcc682c0bc78b7a45fd8ac2d2c5", capable(0x01, keys(0xff4cbfcc682c0bc7, 0x8b7a45fd8ac2d2c5))),
    (Later, "1e16200dded9843c75bf268b3df9874e0000000100080101",
        ack_map(Short(0xded9843c), 0x75bf268b3df9874e, 1, 8, None)),
    (Later, "1e0c200375bf268b3df98756", ack(Long(Dsn(0x75bf268b3df98756)))),
    (Later, "1e1a201f75bf268b3df98756c4f66864ded9843c0000000000010101",
        ack_fin(Long(Dsn(0x75bf268b3df98756)), 0xc4f66864ded9843c, 0, 1, None)),
    (Later, "1e082001ded9843d", ack(Short(0xded9843d))),
    (Later, "1e16201dded9843d75bf268b3df987560000000000010101",
        ack_fin(Short(0xded9843d), 0x75bf268b3df98756, 0, 1, None)),
    (Later, "1e0c200375bf268b3df98757", ack(Long(Dsn(0x75bf268b3df98757)))),
    (First, "1e0c0101054abd02257d3909", capable(0x01, SynAck { key: 0x054abd02257d3909 })),
    (Later, "1e14010141d2e2976f12a6f7054abd02257d3909", capable(0x01, keys(0x41d2e2976f12a6f7, 0x054abd02257d3909))),
    (Later, "1e103001c63364022f9c55f3d5cd734c", add_addr(1, "198.51.100.2", None, Some(0x2f9c55f3d5cd734c))),
    (Later, "1e083101c6336402", add_addr(1, "198.51.100.2", None, None)),
    (First, "1e0c1001f9767573f04f21f9", join_syn(false, 1, 0xf9767573, 0xf04f21f9)),
    (First, "1e101001c4b425e2801dbb6ce2fbeabe", join_syn_ack(false, 1, 0xc4b425e2801dbb6c, 0xe2fbeabe)),
    (Later, "1e1810001d854a7113333a1cb0b58275f0e75a33265e9156", join_ack("1d854a7113333a1cb0b58275f0e75a33265e9156")),
    (Later, "1e0820013009e6f5", ack(Short(0x3009e6f5))),
    (Later, "1e16200ddf50476c99971b533009e6f500000001000a0101",
        ack_map(Short(0xdf50476c), 0x99971b533009e6f5, 1, 10, None)),
    (Later, "1e0c200399971b533009e6ff", ack(Long(Dsn(0x99971b533009e6ff)))),
    (Later, "1e123001c633640220fbde8a16b484b3a8370101",
        add_addr(1, "198.51.100.2", Some(8443), Some(0xde8a16b484b3a837))),
    (Later, "1e0a3101c633640220fb0101", add_addr(1, "198.51.100.2", Some(8443), None)),
    (First, "1e0c10019a4112d3bca93e25", join_syn(false, 1, 0x9a4112d3, 0xbca93e25)),
    (First, "1e101001f19e422859a561c7b212bba8", join_syn_ack(false, 1, 0xf19e422859a561c7, 0xb212bba8)),
    (Later, "1e181000e15da0273e6898a116033a9e6d9fb49fa1124291", join_ack("e15da0273e6898a116033a9e6d9fb49fa1124291")),
    (Later, "1e082001972ed028", ack(Short(0x972ed028))),
    (Later, "1e1c300120010db8000100000000000000000002b5f12d52ff5718cf",
        add_addr(1, "2001:db8:1::2", None, Some(0xb5f12d52ff5718cf))),
    (Later, "1e14310120010db8000100000000000000000002", add_addr(1, "2001:db8:1::2", None, None)),
    (Later, "1e16200ddd0b6ecafea605f5d81a009c00000001000a0101",
        ack_map(Short(0xdd0b6eca), 0xfea605f5d81a009c, 1, 10, None)),
    (First, "1e0c0121230180c8c4226e47", capable(0x21, SynAck { key: 0x230180c8c4226e47 })),
    (Later, "1e14010117d7c331b2306b03230180c8c4226e47", capable(0x01, keys(0x17d7c331b2306b03, 0x230180c8c4226e47))),
    (Later, "1e103001c6336402773f3a82a8a93f2b", add_addr(1, "198.51.100.2", None, Some(0x773f3a82a8a93f2b))),
    (First, "1e0c10013c6539cf4963354d", join_syn(false, 1, 0x3c6539cf, 0x4963354d)),
    (First, "1e040181", capable(0x81, Syn)),
    (First, "1e0c01018c6ac579b0d37c4f", capable(0x01, SynAck { key: 0x8c6ac579b0d37c4f })),
    (Later, "1e140181a50df7ac7cbf45158c6ac579b0d37c4f", capable(0x81, keys(0xa50df7ac7cbf4515, 0x8c6ac579b0d37c4f))),
    (Later, "1e180181a50df7ac7cbf45158c6ac579b0d37c4f000acecb",
        capable(0x81, keys_data(0xa50df7ac7cbf4515, 0x8c6ac579b0d37c4f, 10, Some(0xcecb)))),
    (Later, "1e0c2003f022f0e15207de06", ack(Long(Dsn(0xf022f0e15207de06)))),
    (Later, "1e1c200ff022f0e15207de06d17be320d85762fa00000001000aefe5",
        ack_map(Long(Dsn(0xf022f0e15207de06)), 0xd17be320d85762fa, 1, 10, Some(0xefe5))),
    (Later, "1e0c2003d17be320d85762fa", ack(Long(Dsn(0xd17be320d85762fa)))),
    (First, "1e0c1001c4b05cb105793d5a", join_syn(false, 1, 0xc4b05cb1, 0x05793d5a)),
    (First, "1e101000b1e59a2d8add9a692e61ac89", join_syn_ack(false, 0, 0xb1e59a2d8add9a69, 0x2e61ac89)),
    (Later, "1e1810008898258f39c73c3e7d88563b732bc62587eaa597", join_ack("8898258f39c73c3e7d88563b732bc62587eaa597")),
    (Later, "1e1c200fd17be320d8576304f022f0e15207de060000000b0006a9a2",
        ack_map(Long(Dsn(0xd17be320d8576304)), 0xf022f0e15207de06, 11, 6, Some(0xa9a2))),
    (Later, "1e1c200ff022f0e15207de0cd17be320d85763040000000b0006cabc",
        ack_map(Long(Dsn(0xf022f0e15207de0c)), 0xd17be320d8576304, 11, 6, Some(0xcabc))),
    (Later, "1e0c2003d17be320d857630a", ack(Long(Dsn(0xd17be320d857630a)))),
    (Later, "1e1c201fd17be320d857630af022f0e15207de0c000000000001eee5",
        ack_fin(Long(Dsn(0xd17be320d857630a)), 0xf022f0e15207de0c, 0, 1, Some(0xeee5))),
    (Later, "1e0c70006a1e8f983ca1c26e1e048000",
        MptcpOptions { fastclose: Some(0x6a1e8f983ca1c26e), tcprst: Some(TcpRst { transient: false, reason: 0 }), ..MptcpOptions::default() }),
    (Later, "1e0c2003141ddaab6c410a741e044001",
        MptcpOptions { remove_addr: RemoveAddr::new(&[1]), ..ack(Long(Dsn(0x141ddaab6c410a74))) }),
    (Later, "1e0c2003141ddaab6c410a74", ack(Long(Dsn(0x141ddaab6c410a74)))),
    (Later, "1e0c2003e45d4db5600012a0", ack(Long(Dsn(0xe45d4db5600012a0)))),
    (Later, "1e1a201f141ddaab6c410a74e45d4db5600012a00000000000010101",
        ack_fin(Long(Dsn(0x141ddaab6c410a74)), 0xe45d4db5600012a0, 0, 1, None)),
    (Later, "1e0c2003f3453ddd247f2deb1e035101",
        MptcpOptions { prio: Some(true), ..ack(Long(Dsn(0xf3453ddd247f2deb))) }),
    (First, "1e0c1101d582c1a753f7300c", join_syn(true, 1, 0xd582c1a7, 0x53f7300c)),
    (First, "1e101000e249e9981132af355610c8a8", join_syn_ack(false, 0, 0xe249e9981132af35, 0x5610c8a8)),
    (First, "1e0c1001a57543561083b78e", join_syn(false, 1, 0xa5754356, 0x1083b78e)),
    (First, "1e101000392c67a6659abb7cc10b6cda", join_syn_ack(false, 0, 0x392c67a6659abb7c, 0xc10b6cda)),
    (Later, "1e181000335b66f19f79c702caf325e05f32359de9611137", join_ack("335b66f19f79c702caf325e05f32359de9611137")),
    (Bare, "1e048003",
        MptcpOptions { tcprst: Some(TcpRst { transient: false, reason: 3 }), ..MptcpOptions::default() }),
    (Later, "1e048000",
        MptcpOptions { tcprst: Some(TcpRst { transient: false, reason: 0 }), ..MptcpOptions::default() }),
    (First, "1e0c0101df22e8e53ff4910f", capable(0x01, SynAck { key: 0xdf22e8e53ff4910f })),
    (Later, "1e14010183f29c675a89ad03df22e8e53ff4910f", capable(0x01, keys(0x83f29c675a89ad03, 0xdf22e8e53ff4910f))),
    (Later, "1e16010183f29c675a89ad03df22e8e53ff4910f000a0101",
        capable(0x01, keys_data(0x83f29c675a89ad03, 0xdf22e8e53ff4910f, 10, None))),
    (Later, "1e0c20037613a4556a758693", ack(Long(Dsn(0x7613a4556a758693)))),
    (Later, "1e16201de3d1416d7613a4556a7586930000000000010101",
        ack_fin(Short(0xe3d1416d), 0x7613a4556a758693, 0, 1, None)),
    (Later, "1e0c20037613a4556a758694", ack(Long(Dsn(0x7613a4556a758694)))),
    (Later, "1e1a200f7613a4556a7586946e6b9ce9e3d1416d00000001000a0101",
        ack_map(Long(Dsn(0x7613a4556a758694)), 0x6e6b9ce9e3d1416d, 1, 10, None)),
    (Later, "1e0c20036e6b9ce9e3d14177", ack(Long(Dsn(0x6e6b9ce9e3d14177)))),
    (Later, "1e1a201f7613a4556a7586946e6b9ce9e3d141770000000000010101",
        ack_fin(Long(Dsn(0x7613a4556a758694)), 0x6e6b9ce9e3d14177, 0, 1, None)),
    (Later, "1e0c20036e6b9ce9e3d14178", ack(Long(Dsn(0x6e6b9ce9e3d14178)))),
    (First, "1e0c0101aa1c3e1e3020b823", capable(0x01, SynAck { key: 0xaa1c3e1e3020b823 })),
    (Later, "1e14010122b37c1407873adaaa1c3e1e3020b823", capable(0x01, keys(0x22b37c1407873ada, 0xaa1c3e1e3020b823))),
    (Later, "1e16010122b37c1407873adaaa1c3e1e3020b8237a600101",
        capable(0x01, keys_data(0x22b37c1407873ada, 0xaa1c3e1e3020b823, 31328, None))),
    (Later, "1e0c2003d74279037deb2959", ack(Long(Dsn(0xd74279037deb2959)))),
    (Later, "1e0c2003d74279037deb2ee9", ack(Long(Dsn(0xd74279037deb2ee9)))),
    (Later, "1e0c2003d74279037deb3479", ack(Long(Dsn(0xd74279037deb3479)))),
    (Later, "1e0c2003d74279037deb3a09", ack(Long(Dsn(0xd74279037deb3a09)))),
    (Later, "1e0c2003d74279037deb3f99", ack(Long(Dsn(0xd74279037deb3f99)))),
    (Later, "1e16200da6dc7477d74279037deb23c9000000017a600101",
        ack_map(Short(0xa6dc7477), 0xd74279037deb23c9, 1, 31328, None)),
    (First, "1e0c0101f833a397a6fb0698", capable(0x01, SynAck { key: 0xf833a397a6fb0698 })),
    (Later, "1e140101d603b7ef58e7b7c9f833a397a6fb0698", capable(0x01, keys(0xd603b7ef58e7b7c9, 0xf833a397a6fb0698))),
    (Later, "1e160101d603b7ef58e7b7c9f833a397a6fb06987a600101",
        capable(0x01, keys_data(0xd603b7ef58e7b7c9, 0xf833a397a6fb0698, 31328, None))),
    (Later, "1e0c20037163e71ad28f90e0", ack(Long(Dsn(0x7163e71ad28f90e0)))),
    (Later, "1e16200d52771ea17163e71ad28f7510000000017a600101",
        ack_map(Short(0x52771ea1), 0x7163e71ad28f7510, 1, 31328, None)),
    (Later, "1e0c20037163e71ad28facb0", ack(Long(Dsn(0x7163e71ad28facb0)))),
    (Later, "1e0c20037163e71ad28fd3a0", ack(Long(Dsn(0x7163e71ad28fd3a0)))),
    (Later, "1e0c20037163e71ad28fef70", ack(Long(Dsn(0x7163e71ad28fef70)))),
    (Later, "1e16200d52771ea17163e71ad28fef7000007a617a600101",
        ack_map(Short(0x52771ea1), 0x7163e71ad28fef70, 31329, 31328, None)),
    (Later, "1e0c20037163e71ad29037c0", ack(Long(Dsn(0x7163e71ad29037c0)))),
    (Later, "1e16200d52771ea17163e71ad29069d00000f4c109c80101",
        ack_map(Short(0x52771ea1), 0x7163e71ad29069d0, 62657, 2504, None)),
    (Later, "1e16200d52771ea17163e71ad29073980000fe895c280101",
        ack_map(Short(0x52771ea1), 0x7163e71ad2907398, 65161, 23592, None)),
    (Later, "1e0c20037163e71ad290cc98", ack(Long(Dsn(0x7163e71ad290cc98)))),
    (Later, "1e16200d52771ea17163e71ad290cfc000015ab1de800101",
        ack_map(Short(0x52771ea1), 0x7163e71ad290cfc0, 88753, 56960, None)),
    (Later, "1e16200d687ec54572f772dc01f49ffa00005d3100010101",
        ack_map(Short(0x687ec545), 0x72f772dc01f49ffa, 23857, 1, None)),
    (Later, "1e0c200372f772dc01f49ffb", ack(Long(Dsn(0x72f772dc01f49ffb)))),
    (Later, "1e082001687ec545", ack(Short(0x687ec545))),
    (Later, "1e16200d687ec54572f772dc01f473a3000040d91c580101",
        ack_map(Short(0x687ec545), 0x72f772dc01f473a3, 16601, 7256, None)),
    (Later, "1e1a200f97338e65db884a5711ff1563ef12cd1c0000000100050101",
        ack_map(Long(Dsn(0x97338e65db884a57)), 0x11ff1563ef12cd1c, 1, 5, None)),
    (Later, "1e0c200311ff1563ef12cd1c", ack(Long(Dsn(0x11ff1563ef12cd1c)))),
    (Later, "1e1a200f97338e65db884a5711ff1563ef12cd1c0000000600050101",
        ack_map(Long(Dsn(0x97338e65db884a57)), 0x11ff1563ef12cd1c, 6, 5, None)),
    (Later, "1e0c200311ff1563ef12cd21", ack(Long(Dsn(0x11ff1563ef12cd21)))),
    (Later, "1e0c70000b95b250949201061e048000",
        MptcpOptions { fastclose: Some(0x0b95b25094920106), tcprst: Some(TcpRst { transient: false, reason: 0 }), ..MptcpOptions::default() }),
]}

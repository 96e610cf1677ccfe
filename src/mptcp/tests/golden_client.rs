//! Runs captured between two Linux 6.18 kernels, played again with us in the client's place: our MPTCP options must be
//! the client's, bit for bit. Where the number or the moment of acknowledgments differs from Linux, the test says so.

use super::script::*;
use crate::mptcp::ConnOptions;

// Proves J1, M3.3-9.
#[test]
fn a_handshake_echo_join_and_orderly_close() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.expect(syn().mp("1e040101"));
    s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.expect(ack(1, 1).mp("1e1401010b66ce9e6378385cc18f0d286dd989ca"));
    s.send("helloworld");
    s.expect(data(1, 1, "helloworld").mp("1e1601010b66ce9e6378385cc18f0d286dd989ca000a"));
    s.inject(ack(1, 11).mp("1e0c2003cb6dc3acde7c9678"));
    s.expect_nothing();
    s.inject(data(1, 11, "helloworld").mp("1e1a200fcb6dc3acde7c96787a416d8686b5ec7e00000001000a"));
    // Linux's first acknowledgment still says 7a416d8686b5ec7e: its DATA_ACK lags. Ours is right at once.
    s.expect(ack(11, 11).mp("1e0c20037a416d8686b5ec88"));
    assert_eq!(s.recv().unwrap(), b"helloworld");

    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    s.open(SECOND, 0xd644_d3e2);
    s.expect(syn().on(SECOND).mp("1e0c1001e6c9e5e2d644d3e2"));
    s.inject(syn_ack().on(SECOND).mp("1e1010005003209bdbf4b093551366b1"));
    s.expect(
        ack(1, 1)
            .on(SECOND)
            .mp("1e18100078be831103bdf040c47d0b15beb2c3074e65441a"),
    );
    s.inject(ack(1, 1).on(SECOND).mp("1e0c2003cb6dc3acde7c9678"));
    s.expect_nothing();

    s.send("second");
    s.expect(data(11, 11, "second").mp("1e1a200f7a416d8686b5ec88cb6dc3acde7c96780000000b0006"));
    s.inject(data(11, 17, "second").mp("1e1a200fcb6dc3acde7c967e7a416d8686b5ec880000000b0006"));
    s.expect(ack(17, 17).mp("1e0c20037a416d8686b5ec8e"));
    assert_eq!(s.recv().unwrap(), b"second");

    s.close();
    let data_fin = "1e1a201f7a416d8686b5ec8ecb6dc3acde7c967e000000000001";
    s.expect(ack(17, 17).mp(data_fin));
    s.expect(ack(1, 1).on(SECOND).mp(data_fin));
    s.inject(ack(17, 17).mp("1e0c2003cb6dc3acde7c967f"));
    s.inject(ack(1, 1).on(SECOND).mp("1e0c2003cb6dc3acde7c967f"));
    s.expect_nothing();
    s.inject(ack(17, 17).mp("1e1a201fcb6dc3acde7c967f7a416d8686b5ec8e000000000001"));
    // The acknowledgment of the DATA_FIN rides on the FINs; Linux sends pure acknowledgments behind them too.
    s.expect_among(fin(17, 17).mp("1e0c20037a416d8686b5ec8f"));
    s.expect_among(fin(1, 1).on(SECOND).mp("1e0c20037a416d8686b5ec8f"));
    s.take_sent();
    s.inject(
        ack(1, 2)
            .on(SECOND)
            .mp("1e1a201fcb6dc3acde7c967f7a416d8686b5ec8e000000000001"),
    );
    s.take_sent();
    s.inject(fin(17, 18).mp("1e0c2003cb6dc3acde7c967f"));
    s.inject(fin(1, 2).on(SECOND).mp("1e0c2003cb6dc3acde7c967f"));
    // From TIME_WAIT: no MPTCP option.
    s.expect(ack(18, 18));
    s.expect(ack(2, 2).on(SECOND));
    s.expect_nothing();
}

// Proves C9.
#[test]
fn b_server_speaks_first() {
    let (client, server) = (0xff4c_bfcc_682c_0bc7, 0x8b7a_45fd_8ac2_d2c5);
    let mut s = Script::client(client, server, ConnOptions::default());
    s.expect(syn().mp("1e040101"));
    s.inject(syn_ack().mp("1e0c01018b7a45fd8ac2d2c5"));
    s.expect(ack(1, 1).mp("1e140101ff4cbfcc682c0bc78b7a45fd8ac2d2c5"));
    s.inject(data(1, 1, "greeting").mp("1e16200dded9843c75bf268b3df9874e000000010008"));
    s.expect(ack(1, 9).mp("1e0c200375bf268b3df98756"));
    assert_eq!(s.recv().unwrap(), b"greeting");
    s.close();
    s.expect(ack(1, 9).mp("1e1a201f75bf268b3df98756c4f66864ded9843c000000000001"));
    s.inject(ack(9, 1).mp("1e082001ded9843d"));
    s.inject(ack(9, 1).mp("1e16201dded9843d75bf268b3df98756000000000001"));
    s.expect(fin(1, 9).mp("1e0c200375bf268b3df98757"));
    s.take_sent();
    s.inject(fin(9, 2).mp("1e082001ded9843d"));
    s.expect(ack(2, 10));
}

// Proves C8, M3.4-4, M3.9-1.
#[test]
fn c_announced_address_is_echoed_and_joined() {
    let (client, server) = (0x41d2_e297_6f12_a6f7, 0x054a_bd02_257d_3909);
    let mut s = Script::client(client, server, ConnOptions::default());
    s.expect(syn().mp("1e040101"));
    s.inject(syn_ack().mp("1e0c0101054abd02257d3909"));
    s.expect(ack(1, 1).mp("1e14010141d2e2976f12a6f7054abd02257d3909"));
    s.inject(ack(1, 1).mp("1e103001c63364022f9c55f3d5cd734c"));
    s.expect(ack(1, 1).mp("1e083101c6336402"));
    s.take_sent();
    s.send("helloworld");
    // An ordinary DSS: the announcement proved that the server has our key (note C8).
    s.expect(data(1, 1, "helloworld").mp("1e16200ddf50476c99971b533009e6f500000001000a"));
    s.inject(ack(1, 11).mp("1e0c200399971b533009e6ff"));
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    s.open(CROSS, 0xf04f_21f9);
    s.expect(syn().on(CROSS).mp("1e0c1001f9767573f04f21f9"));
    s.inject(syn_ack().on(CROSS).mp("1e101001c4b425e2801dbb6ce2fbeabe"));
    s.expect(
        ack(1, 1)
            .on(CROSS)
            .mp("1e1810001d854a7113333a1cb0b58275f0e75a33265e9156"),
    );
}

// Proves M3.4-4, M3.9-1.
#[test]
fn cp_announced_port_is_echoed_and_joined() {
    let (client, server) = (0x1bb0_448e_8c2e_fc41, 0x8a5b_d2b3_7888_2636);
    let mut s = Script::client(client, server, ConnOptions::default());
    s.inject(syn_ack().mp("1e0c01018a5bd2b378882636"));
    s.take_sent();
    s.inject(ack(1, 1).mp("1e123001c633640220fbde8a16b484b3a837"));
    s.expect(ack(1, 1).mp("1e0a3101c633640220fb"));
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    s.take_sent();
    s.open(CROSS_PORT, 0xbca9_3e25);
    s.expect(syn().on(CROSS_PORT).mp("1e0c10019a4112d3bca93e25"));
    s.inject(syn_ack().on(CROSS_PORT).mp("1e101001f19e422859a561c7b212bba8"));
    s.expect(
        ack(1, 1)
            .on(CROSS_PORT)
            .mp("1e181000e15da0273e6898a116033a9e6d9fb49fa1124291"),
    );
    s.inject(ack(1, 1).on(CROSS_PORT).mp("1e082001972ed028"));
    s.expect_nothing();
}

#[test]
fn c6_ipv6_announcement_on_ipv4_is_echoed_and_not_used() {
    let (client, server) = (0xa328_9405_0a7c_6b0a, 0xbfa7_c77b_8318_853e);
    let mut s = Script::client(client, server, ConnOptions::default());
    s.inject(syn_ack().mp("1e0c0101bfa7c77b8318853e"));
    s.take_sent();
    s.set_paths(&[path("192.0.2.1")]);
    s.inject(ack(1, 1).mp("1e1c300120010db8000100000000000000000002b5f12d52ff5718cf"));
    s.expect(ack(1, 1).mp("1e14310120010db8000100000000000000000002"));
    s.take_sent();
    s.send("helloworld");
    s.expect(data(1, 1, "helloworld").mp("1e16200ddd0b6ecafea605f5d81a009c00000001000a"));
    assert!(!format!("{:?}", s.events()).contains("WantSubflow"));
}

// Proves C3, A7, M3.1-7.
#[test]
fn k_the_c_flag_forbids_joins_to_the_first_address() {
    let (client, server) = (0x17d7_c331_b230_6b03, 0x2301_80c8_c422_6e47);
    let mut s = Script::client(client, server, ConnOptions::default());
    s.expect(syn().mp("1e040101"));
    s.inject(syn_ack().mp("1e0c0121230180c8c4226e47"));
    s.expect(ack(1, 1).mp("1e14010117d7c331b2306b03230180c8c4226e47"));
    s.inject(ack(1, 1).dack32(1));
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    assert!(!format!("{:?}", s.events()).contains("WantSubflow"));
    s.inject(ack(1, 1).mp("1e103001c6336402773f3a82a8a93f2b"));
    s.expect(ack(1, 1).mp("1e083101c6336402"));
    s.open(CROSS, 0x4963_354d);
    s.expect_among(syn().on(CROSS).mp("1e0c10013c6539cf4963354d"));
}

// Proves M3.3-8.
#[test]
fn f_checksum_asked_for_by_the_client_only() {
    let (client, server) = (0xa50d_f7ac_7cbf_4515, 0x8c6a_c579_b0d3_7c4f);
    let options = ConnOptions {
        checksum: true,
        ..ConnOptions::default()
    };
    let mut s = Script::client(client, server, options);
    s.expect(syn().mp("1e040181"));
    s.inject(syn_ack().mp("1e0c01018c6ac579b0d37c4f"));
    s.expect(ack(1, 1).mp("1e140181a50df7ac7cbf45158c6ac579b0d37c4f"));
    s.send("helloworld");
    s.expect(data(1, 1, "helloworld").mp("1e180181a50df7ac7cbf45158c6ac579b0d37c4f000acecb"));
    s.inject(ack(1, 11).mp("1e0c2003f022f0e15207de06"));
    s.inject(data(1, 11, "helloworld").mp("1e1c200ff022f0e15207de06d17be320d85762fa00000001000aefe5"));
    s.expect(ack(11, 11).mp("1e0c2003d17be320d8576304"));
    assert_eq!(s.recv().unwrap(), b"helloworld");
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    s.open(SECOND, 0x0579_3d5a);
    s.expect(syn().on(SECOND).mp("1e0c1001c4b05cb105793d5a"));
    s.inject(syn_ack().on(SECOND).mp("1e101000b1e59a2d8add9a692e61ac89"));
    s.expect(
        ack(1, 1)
            .on(SECOND)
            .mp("1e1810008898258f39c73c3e7d88563b732bc62587eaa597"),
    );
    s.inject(ack(1, 1).on(SECOND).mp("1e0c2003f022f0e15207de06"));
    s.send("second");
    s.expect(data(11, 11, "second").mp("1e1c200fd17be320d8576304f022f0e15207de060000000b0006a9a2"));
    s.inject(data(11, 17, "second").mp("1e1c200ff022f0e15207de0cd17be320d85763040000000b0006cabc"));
    s.expect(ack(17, 17).mp("1e0c2003d17be320d857630a"));
    assert_eq!(s.recv().unwrap(), b"second");
    s.close();
    s.expect_among(ack(17, 17).mp("1e1c201fd17be320d857630af022f0e15207de0c000000000001eee5"));
}

// Proves X3.
#[test]
fn hc_half_close() {
    let (client, server) = (0x83f2_9c67_5a89_ad03, 0xdf22_e8e5_3ff4_910f);
    let mut s = Script::client(client, server, ConnOptions::default());
    s.inject(syn_ack().mp("1e0c0101df22e8e53ff4910f"));
    s.take_sent();
    s.send("helloworld");
    s.shutdown();
    s.expect(data(1, 1, "helloworld").mp("1e16010183f29c675a89ad03df22e8e53ff4910f000a"));
    s.take_sent();
    s.inject(ack(1, 11).mp("1e0c20037613a4556a758693"));
    s.advance(300);
    s.expect_among(ack(11, 1).mp("1e16201de3d1416d7613a4556a758693000000000001"));
    s.take_sent();
    s.inject(ack(1, 11).mp("1e0c20037613a4556a758694"));
    s.inject(data(1, 11, "helloworld").mp("1e1a200f7613a4556a7586946e6b9ce9e3d1416d00000001000a"));
    s.expect(ack(11, 11).mp("1e0c20036e6b9ce9e3d14177"));
    assert_eq!(s.recv().unwrap(), b"helloworld");
    s.inject(ack(11, 11).mp("1e1a201f7613a4556a7586946e6b9ce9e3d14177000000000001"));
    s.expect(fin(11, 11).mp("1e0c20036e6b9ce9e3d14178"));
    assert!(s.recv().is_err(), "end of the stream");
}

// Proves F1, M3.1-1.
#[test]
fn i_server_is_plain_tcp() {
    let mut s = Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default());
    s.expect(syn().mp("1e040101"));
    s.inject(syn_ack());
    s.expect(ack(1, 1));
    s.send("helloworld");
    s.expect(data(1, 1, "helloworld"));
    s.inject(ack(1, 11));
    s.expect_nothing();
}

//! Runs captured between two Linux 6.18 kernels, played again with us in the server's place; see `golden_client`.

use super::script::*;
use crate::mptcp::endpoint::ConnError;
use crate::mptcp::{ConnOptions, Event};

// Proves M3.2-7.
#[test]
fn a_handshake_echo_join_and_orderly_close() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(syn().mp("1e040101"));
    s.expect(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
    s.inject(ack(1, 1).mp("1e1401010b66ce9e6378385cc18f0d286dd989ca"));
    s.expect_nothing();
    s.inject(data(1, 1, "helloworld").mp("1e1601010b66ce9e6378385cc18f0d286dd989ca000a"));
    // 64 bits: MP_CAPABLE with data counts as a 64-bit map.
    s.expect(ack(1, 11).mp("1e0c2003cb6dc3acde7c9678"));
    assert_eq!(s.recv().unwrap(), b"helloworld");
    s.send("helloworld");
    s.expect(data(1, 11, "helloworld").mp("1e1a200fcb6dc3acde7c96787a416d8686b5ec7e00000001000a"));
    // Linux's DATA_ACK lags behind its acknowledgment here.
    s.inject(ack(11, 11).mp("1e0c20037a416d8686b5ec7e"));

    s.random(&[0x5513_66b1]);
    s.inject(syn().on(SECOND).mp("1e0c1001e6c9e5e2d644d3e2"));
    s.expect(syn_ack().on(SECOND).mp("1e1010005003209bdbf4b093551366b1"));
    s.inject(
        ack(1, 1)
            .on(SECOND)
            .mp("1e18100078be831103bdf040c47d0b15beb2c3074e65441a"),
    );
    s.expect(ack(1, 1).on(SECOND).mp("1e0c2003cb6dc3acde7c9678"));

    s.inject(data(11, 11, "second").mp("1e1a200f7a416d8686b5ec88cb6dc3acde7c96780000000b0006"));
    s.expect(ack(11, 17).mp("1e0c2003cb6dc3acde7c967e"));
    assert_eq!(s.recv().unwrap(), b"second");
    s.send("second");
    s.expect(data(11, 17, "second").mp("1e1a200fcb6dc3acde7c967e7a416d8686b5ec880000000b0006"));
    s.inject(ack(17, 17).mp("1e0c20037a416d8686b5ec8e"));
    s.expect_nothing();

    let data_fin = "1e1a201f7a416d8686b5ec8ecb6dc3acde7c967e000000000001";
    s.inject(ack(17, 17).mp(data_fin));
    // Linux acknowledges on both subflows only because the DATA_FIN came on both.
    s.expect_among(ack(17, 17).mp("1e0c2003cb6dc3acde7c967f"));
    s.inject(ack(1, 1).on(SECOND).mp(data_fin));
    s.expect_among(ack(1, 1).on(SECOND).mp("1e0c2003cb6dc3acde7c967f"));
    s.take_sent();
    assert!(s.recv().is_err(), "end of the stream");
    s.close();
    let ours = "1e1a201fcb6dc3acde7c967f7a416d8686b5ec8e000000000001";
    s.expect(ack(17, 17).mp(ours));
    s.expect(ack(1, 1).on(SECOND).mp(ours));
    s.inject(fin(17, 17).mp("1e0c20037a416d8686b5ec8f"));
    // Acknowledged: each subflow gets its FIN.
    s.expect_among(fin(17, 18).mp("1e0c2003cb6dc3acde7c967f"));
    s.inject(fin(1, 1).on(SECOND).mp("1e0c20037a416d8686b5ec8f"));
    s.inject(ack(18, 18).mp("1e0c20037a416d8686b5ec8f"));
    s.take_sent();
    s.inject(ack(2, 2).on(SECOND));
    // The FINs crossed on the second subflow: it went to TIME_WAIT, whose acknowledgment has no MPTCP option.
    s.expect(ack(2, 2).on(SECOND));
    s.expect_nothing();
    assert!(s.info().is_none(), "nothing is left");
}

#[test]
fn b_server_speaks_first_with_short_data_acks() {
    let (client, server) = (0xff4c_bfcc_682c_0bc7, 0x8b7a_45fd_8ac2_d2c5);
    let mut s = Script::server(server, client, ConnOptions::default());
    s.inject(syn().mp("1e040101"));
    s.expect(syn_ack().mp("1e0c01018b7a45fd8ac2d2c5"));
    s.inject(ack(1, 1).mp("1e140101ff4cbfcc682c0bc78b7a45fd8ac2d2c5"));
    s.send("greeting");
    s.expect(data(1, 1, "greeting").mp("1e16200dded9843c75bf268b3df9874e000000010008"));
    s.inject(ack(1, 9).mp("1e0c200375bf268b3df98756"));
    s.inject(ack(1, 9).mp("1e1a201f75bf268b3df98756c4f66864ded9843c000000000001"));
    // Linux keeps 32 bits here, because a DATA_FIN alone is no map to it; a DATA_FIN of 64 bits makes ours long.
    let sent = s.take_sent();
    assert!(!sent.is_empty());
    let dss = sent[0].options.mptcp.dss.expect("a DSS");
    let low = match dss.data_ack.expect("a DATA_ACK") {
        crate::wire::WireDsn::Short(low) => low,
        crate::wire::WireDsn::Long(all) => all.0 as u32,
    };
    assert_eq!(low, 0xded9_843d);
}

// Proves M3.9-2.
#[test]
fn c_address_is_announced() {
    let (client, server) = (0x41d2_e297_6f12_a6f7, 0x054a_bd02_257d_3909);
    let mut s = Script::server(server, client, ConnOptions::default());
    s.inject(syn().mp("1e040101"));
    s.inject(ack(1, 1).mp("1e14010141d2e2976f12a6f7054abd02257d3909"));
    s.take_sent();
    s.set_paths(&[path("192.0.2.2"), path("198.51.100.2")]);
    s.expect(ack(1, 1).mp("1e103001c63364022f9c55f3d5cd734c"));
    s.inject(ack(1, 1).mp("1e083101c6336402"));
    s.take_sent();
    s.random(&[0xe2fb_eabe]);
    s.inject(syn().on(CROSS).mp("1e0c1001f9767573f04f21f9"));
    let answer = s.take_sent().pop().expect("SYN/ACK");
    let Some(crate::wire::MpJoin::SynAck { hmac, nonce, .. }) = answer.options.mptcp.join else {
        panic!("not a join: {answer:?}");
    };
    assert_eq!((hmac, nonce), (0xc4b4_25e2_801d_bb6c, 0xe2fb_eabe));
    s.inject(
        ack(1, 1)
            .on(CROSS)
            .mp("1e1810001d854a7113333a1cb0b58275f0e75a33265e9156"),
    );
    s.expect(ack(1, 1).on(CROSS).mp("1e0820013009e6f5"));
}

#[test]
fn f_checksum_asked_for_by_the_client_only() {
    let (client, server) = (0xa50d_f7ac_7cbf_4515, 0x8c6a_c579_b0d3_7c4f);
    let mut s = Script::server(server, client, ConnOptions::default());
    s.inject(syn().mp("1e040181"));
    // We set A in the SYN/ACK; Linux without a wish of its own does not. Either is allowed: A of one side is enough.
    s.expect(syn_ack().mp("1e0c01818c6ac579b0d37c4f"));
    s.inject(ack(1, 1).mp("1e140181a50df7ac7cbf45158c6ac579b0d37c4f"));
    s.inject(data(1, 1, "helloworld").mp("1e180181a50df7ac7cbf45158c6ac579b0d37c4f000acecb"));
    s.expect(ack(1, 11).mp("1e0c2003f022f0e15207de06"));
    s.recv().unwrap();
    s.send("helloworld");
    s.expect(data(1, 11, "helloworld").mp("1e1c200ff022f0e15207de06d17be320d85762fa00000001000aefe5"));
    s.inject(ack(11, 11).mp("1e0c2003d17be320d8576304"));
    s.inject(data(11, 11, "second").mp("1e1c200fd17be320d8576304f022f0e15207de060000000b0006a9a2"));
    s.expect(ack(11, 17).mp("1e0c2003f022f0e15207de0c"));
    s.recv().unwrap();
    s.send("second");
    s.expect(data(11, 17, "second").mp("1e1c200ff022f0e15207de0cd17be320d85763040000000b0006cabc"));
    s.inject(ack(17, 17).mp("1e1c201fd17be320d857630af022f0e15207de0c000000000001eee5"));
    assert!(s.recv().is_err(), "end of the stream");
}

// Proves X4, M3.5-3.
#[test]
fn e1_abort_is_a_reset_with_fastclose_on_every_subflow() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.abort();
    let fastclose = format!("1e0c7000{CLIENT_KEY:016x} 1e048000");
    s.expect(rst(1, 1).mp(&fastclose));
    s.expect(rst(1, 1).on(SECOND).mp(&fastclose));
    s.expect_nothing();
    assert!(s.info().is_none());
}

#[test]
fn e1_fastclose_of_the_peer_ends_everything_and_is_not_answered_on_its_subflow() {
    let mut s = Script::client_up();
    s.inject(rst(1, 1).mp(&format!("1e0c7000{CLIENT_KEY:016x} 1e048000")));
    s.expect_nothing();
    assert!(s.events().contains(&Event::Failed(s.conn, ConnError::Reset)));
}

// Proves P2.
#[test]
fn pb_join_with_backup() {
    let (client, server) = (CLIENT_KEY, SERVER_KEY);
    let mut s = Script::server_up();
    let token = crate::mptcp::crypto::token(server);
    s.random(&[0x5610_c8a8]);
    s.inject(syn().on(SECOND).mp(&format!("1e0c1101{token:08x}53f7300c")));
    let hmac = crate::mptcp::crypto::join_synack_hmac(server, client, 0x5610_c8a8, 0x53f7_300c);
    s.expect(syn_ack().on(SECOND).mp(&format!("1e101000{hmac:016x}5610c8a8")));
    assert!(s.info().unwrap().subflows[1].backup);
}

#[test]
fn hc_half_close_of_the_client() {
    let (client, server) = (0x83f2_9c67_5a89_ad03, 0xdf22_e8e5_3ff4_910f);
    let mut s = Script::server(server, client, ConnOptions::default());
    s.inject(syn().mp("1e040101"));
    s.inject(ack(1, 1).mp("1e14010183f29c675a89ad03df22e8e53ff4910f"));
    s.take_sent();
    s.inject(data(1, 1, "helloworld").mp("1e16010183f29c675a89ad03df22e8e53ff4910f000a"));
    s.expect(ack(1, 11).mp("1e0c20037613a4556a758693"));
    s.recv().unwrap();
    s.inject(ack(11, 1).mp("1e16201de3d1416d7613a4556a758693000000000001"));
    s.expect(ack(1, 11).mp("1e0c20037613a4556a758694"));
    assert!(s.recv().is_err(), "end of the stream");
    s.send("helloworld");
    s.expect(data(1, 11, "helloworld").mp("1e1a200f7613a4556a7586946e6b9ce9e3d1416d00000001000a"));
    s.inject(ack(11, 11).mp("1e0c20036e6b9ce9e3d14177"));
    s.close();
    s.expect(ack(11, 11).mp("1e1a201f7613a4556a7586946e6b9ce9e3d14177000000000001"));
    s.inject(fin(11, 11).mp("1e0c20036e6b9ce9e3d14178"));
    s.expect_among(fin(11, 12).mp("1e0c20037613a4556a758694"));
    s.take_sent();
    s.inject(ack(12, 12).mp("1e0c20036e6b9ce9e3d14178"));
    s.expect_nothing();
}

// Proves D11.
#[test]
fn n_zero_window_probe_byte_is_accepted() {
    let options = ConnOptions {
        recv_buffer: 4096,
        ..ConnOptions::default()
    };
    let mut s = Script::server_up_with(options);
    for i in 0..4u32 {
        let at = 1 + 1024 * i;
        s.inject(data(at, 1, [7; 1024]).dack32(1).map(u64::from(at), at, 1024));
    }
    let last = s.take_sent().pop().expect("an acknowledgment");
    assert_eq!(last.header.window, 0);
    // A new subflow byte that maps the last acknowledged data byte.
    s.inject(data(4097, 1, [7]).dack32(1).map(4096, 4097, 1));
    s.expect(ack(1, 4098).dack(4097));
    assert_eq!(s.recv().unwrap().len(), 4096);
}

#[test]
fn r_data_level_retransmission_on_new_subflow_bytes_is_dropped_as_a_duplicate() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "hello").dack32(1).map(1, 1, 5));
    s.expect(ack(1, 6).dack(6));
    s.inject(data(6, 1, "hello").dack32(1).map(1, 6, 5));
    s.expect(ack(1, 11).dack(6));
    assert_eq!(s.recv().unwrap(), b"hello");
}

// Proves D2.
#[test]
fn d2_one_mapping_in_both_forms_over_many_segments() {
    let mut s = Script::server_up();
    let capable = "1e1601010b66ce9e6378385cc18f0d286dd989ca1770";
    for i in 0..4u32 {
        let at = 1 + 1000 * i;
        s.inject(data(at, 1, [i as u8; 1000]).mp(capable));
    }
    for i in 4..6u32 {
        let at = 1 + 1000 * i;
        s.inject(data(at, 1, [i as u8; 1000]).dack32(1).map(1, 1, 6000));
    }
    let acks = s.take_sent();
    assert_eq!(acks.len(), 6, "quick acknowledgments");
    let expected: Vec<u8> = (0..6u8).flat_map(|i| [i; 1000]).collect();
    assert_eq!(s.recv().unwrap(), expected);
}

// Proves A6.
#[test]
fn g_the_client_removes_its_address() {
    let mut s = Script::server_up();
    s.join_as_server(SECOND, 1);
    s.inject(ack(1, 1).dack32(1).mp("1e044001"));
    s.inject(fin(1, 1).on(SECOND).dack32(1));
    // Linux acknowledges and closes at once, without any probe.
    s.expect_among(fin(1, 1).on(SECOND).dack32(1));
    s.expect_among(ack(2, 2).on(SECOND).dack32(1));
    s.expect_nothing();
    assert_eq!(s.state(FIRST), Some("ESTABLISHED"));
}

// Proves M3.1-2.
#[test]
fn i_the_client_is_plain_tcp() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(syn());
    s.expect(syn_ack());
    s.inject(ack(1, 1));
    s.expect_nothing();
    s.inject(data(1, 1, "helloworld"));
    s.expect(ack(1, 11));
    assert_eq!(s.recv().unwrap(), b"helloworld");
}

// Proves J6.
#[test]
fn j_refused_join_of_linux_is_over_with_its_reset() {
    // Run J with us as the client: the RST of Linux's request socket has ACK number 0 and no timestamps.
    let mut s = Script::client_up();
    s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
    let nonce = 0x1083_b78e;
    s.open(SECOND, nonce);
    s.take_sent();
    let hmac = crate::mptcp::crypto::join_synack_hmac(SERVER_KEY, CLIENT_KEY, 0xc10b_6cda, nonce);
    s.inject(syn_ack().on(SECOND).mp(&format!("1e101000{hmac:016x}c10b6cda")));
    s.take_sent();
    s.inject(
        rst(1, 0)
            .flags(crate::wire::Flags::RST)
            .on(SECOND)
            .no_stamps()
            .mp("1e048003"),
    );
    // Linux's client resets too; a reset is not answered by us (RFC 9293 section 3.10.7.4).
    s.expect_nothing();
    assert!(s.state(SECOND).is_none());
    assert_eq!(s.state(FIRST), Some("ESTABLISHED"));
}

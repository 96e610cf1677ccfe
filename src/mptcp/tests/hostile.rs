//! A peer, or somebody between, that sends what it likes: nothing panics, nothing spins, nothing grows without bound, and
//! the byte stream stays what the peer's mappings say it is.

use super::script::*;
use crate::mptcp::{ConnId, ConnOptions, Endpoint};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Header, Segment, SeqNum, TcpOptions};
use core::net::{IpAddr, Ipv4Addr};
use proptest::prelude::*;

/// The peer's stream: the byte with data number `n` (and, on one subflow, subflow sequence number `n`).
fn stream(from: u32, len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| ((from + i) * 167 / 13) as u8).collect()
}

/// One thing that a hostile peer may do.
#[derive(Clone, Debug)]
enum Deed {
    /// The next piece of the stream, as it should be.
    Good(u16),
    /// A piece of the stream out of order, its mapping equal or longer.
    Ahead {
        skip: u16,
        len: u16,
        map_len: u16,
    },
    /// Any flags and numbers near the right ones, an MPTCP option of any subtype and content, the stream's payload.
    Wild {
        flags: u8,
        seq: i32,
        ack: i32,
        window: u16,
        subtype: u8,
        body: Vec<u8>,
        len: u16,
    },
    DataAck(u64),
    Sack(u32, u32),
    Write(u16),
    Pass(u16),
}

fn deed() -> impl Strategy<Value = Deed> {
    let wild = (
        any::<u8>(),
        prop_oneof![-3000i32..3000, any::<i32>()],
        prop_oneof![-3i32..3, any::<i32>()],
        any::<u16>(),
        0u8..16,
        proptest::collection::vec(any::<u8>(), 0..30),
        0u16..300,
    );
    prop_oneof![
        4 => (1u16..1400).prop_map(Deed::Good),
        2 => (1u16..5000, 1u16..1400, 0u16..3000)
            .prop_map(|(skip, len, more)| Deed::Ahead { skip, len, map_len: len + more }),
        4 => wild.prop_map(|(flags, seq, ack, window, subtype, body, len)| Deed::Wild {
            flags, seq, ack, window, subtype, body, len }),
        1 => any::<u64>().prop_map(Deed::DataAck),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(l, r)| Deed::Sack(l, r)),
        1 => (1u16..4000).prop_map(Deed::Write),
        1 => (0u16..3000).prop_map(Deed::Pass),
    ]
}

/// An option of this subtype with this body. A DSS keeps no map, so that only `Good` and `Ahead` say what the stream is.
fn option(subtype: u8, body: &[u8]) -> String {
    let mut bytes = vec![0x1e, body.len() as u8 + 3, subtype << 4];
    bytes.extend(body);
    if let Some(low) = body.first() {
        bytes[2] |= low & 0x0f;
    }
    if subtype == 2 && bytes.len() > 3 {
        bytes[3] &= !0x04;
    }
    hex(&bytes)
}

struct Hostile {
    s: Script,
    conn: ConnId,
    next: u32,
    got: Vec<u8>,
}

impl Hostile {
    fn new(server: bool) -> Hostile {
        let s = if server {
            Script::server_up()
        } else {
            Script::client_up()
        };
        let mut h = Hostile {
            conn: s.conn,
            s,
            next: 1,
            got: Vec::new(),
        };
        // After a mapping there is no fallback: from here on bytes without one are not the stream's.
        h.apply(&Deed::Good(10));
        h
    }

    fn apply(&mut self, deed: &Deed) {
        let s = &mut self.s;
        match deed {
            Deed::Good(len) => {
                let at = self.next;
                s.inject(
                    data(at, 1, stream(at, usize::from(*len)))
                        .dack(1)
                        .map(u64::from(at), at, *len),
                );
                self.next += u32::from(*len);
            }
            Deed::Ahead { skip, len, map_len } => {
                let at = self.next + u32::from(*skip);
                s.inject(
                    data(at, 1, stream(at, usize::from(*len)))
                        .dack(1)
                        .map(u64::from(at), at, *map_len),
                );
            }
            Deed::Wild {
                flags,
                seq,
                ack: number,
                window,
                subtype,
                body,
                len,
            } => {
                let at = self.next.wrapping_add(*seq as u32);
                let payload = stream(at % (1 << 24), usize::from(*len));
                let in_stream = at < 1 << 24;
                let payload = if in_stream { payload } else { vec![0xee; 3] };
                let wild = data(at, 1u32.wrapping_add(*number as u32), payload).win(*window);
                s.inject(wild.flags(Flags(*flags)).mp(&option(*subtype, body)));
            }
            Deed::DataAck(n) => s.inject(ack(self.next, 1).dack(*n)),
            Deed::Sack(l, r) => s.inject(ack(self.next, 1).sack(&[(*l, *r), (*r, *l), (1, 2)])),
            Deed::Write(n) => {
                let _ = s.ep.send(s.now, s.conn, &vec![1; usize::from(*n)]);
            }
            Deed::Pass(ms) => s.advance(u64::from(*ms)),
        }
        s.take_sent();
        // A wild SYN may open another connection, whose stream is another.
        let bytes = if s.conn == self.conn { s.recv() } else { Ok(Vec::new()) };
        self.got.extend(bytes.unwrap_or_default());
        s.take_sent();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    // Proves SEC.
    #[test]
    fn the_stream_is_never_corrupted(server in any::<bool>(), deeds in proptest::collection::vec(deed(), 1..60)) {
        let mut h = Hostile::new(server);
        for deed in &deeds {
            h.apply(deed);
            prop_assert_eq!(&h.got, &stream(1, h.got.len()), "after {:?}", deed);
        }
        // Whatever state that left: it comes to rest, and what is left of it to an end.
        h.s.close();
        h.s.advance(3_600_000);
        prop_assert!(h.s.info().is_none(), "a closed connection is over after an hour");
    }

    // Proves SEC, M3.8-2.
    #[test]
    fn any_options_on_two_subflows_and_at_any_time_do_no_harm(
        segments in proptest::collection::vec(
            (0usize..2, any::<u8>(), 0u32..4000, 0u32..4000, proptest::collection::vec(any::<u8>(), 0..40), 0usize..500),
            1..60))
    {
        let mut s = Script::server_up();
        s.join_as_server(SECOND, 1);
        for (flow, flags, seq, number, options, len) in segments {
            let text = hex(&options);
            s.inject(data(seq, number, vec![9; len]).on(flow).flags(Flags(flags)).mp(&text));
            let _ = s.ep.send(s.now, s.conn, &[1; 700]);
            s.advance(u64::from(number % 300));
            let _ = s.recv();
            s.take_sent();
        }
        s.abort();
        s.advance(200_000);
    }

    #[test]
    fn anything_may_answer_a_syn(
        segments in proptest::collection::vec(
            (any::<u8>(), 0u32..3, 0u32..3, proptest::collection::vec(any::<u8>(), 0..40), 0usize..50, 0u64..2000),
            1..12))
    {
        for server in [false, true] {
            let mut s = if server {
                Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default())
            } else {
                Script::client(CLIENT_KEY, SERVER_KEY, ConnOptions::default())
            };
            for (flags, seq, number, options, len, ms) in &segments {
                s.inject(data(*seq, *number, vec![9; *len]).flags(Flags(*flags)).mp(&hex(options)));
                s.advance(*ms);
                let _ = s.recv();
                s.take_sent();
            }
            s.abort();
            s.advance(600_000);
        }
    }
}

#[test]
fn thousands_of_tiny_segments_out_of_order_are_bounded_and_the_stream_recovers() {
    let mut s = Script::server_up();
    for i in 0..20_000u32 {
        let at = 3 + 2 * i;
        s.inject(data(at, 1, stream(at, 1)).dack32(1).map(u64::from(at), at, 1));
        s.take_sent();
    }
    // The missing bytes come, and what was not kept comes again.
    let mut at = 1;
    while at < 40_000 {
        s.inject(data(at, 1, stream(at, 1000)).dack32(1).map(u64::from(at), at, 1000));
        s.take_sent();
        at += 1000;
    }
    let got = s.recv().unwrap_or_default();
    assert_eq!(got, stream(1, got.len()));
    assert!(
        got.len() >= 39_000 || s.info().is_none_or(|i| i.error.is_some()),
        "{}",
        got.len()
    );
}

#[test]
fn contradicting_maps_ahead_do_not_corrupt() {
    let mut s = Script::server_up();
    s.inject(data(1, 1, "one ").dack32(1).map(1, 1, 4));
    // Two segments ahead of a gap whose maps overlap in subflow space and differ.
    s.inject(data(9, 1, "AAAA").dack32(1).map(9, 9, 4));
    s.inject(data(11, 1, "BBBB").dack32(1).map(5, 11, 4));
    s.inject(data(5, 1, "two ").dack32(1).map(5, 5, 4));
    let got = s.recv().unwrap_or_default();
    assert!(
        b"one two AAAABBBB".starts_with(&got[..]),
        "{:?}",
        got.escape_ascii().to_string()
    );
}

/// An endpoint alone, for what needs more flows than a script has.
fn syn_from(ep: &mut Endpoint, now: Instant, port: u16) -> bool {
    let server = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    let client = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
    let segment = Segment {
        header: Header {
            src_port: port,
            dst_port: 8000,
            seq: SeqNum(u32::from(port)),
            ack: SeqNum(0),
            flags: Flags::SYN,
            window: 1000,
        },
        options: TcpOptions::default(),
        payload: &[],
    };
    ep.handle_segment(now, client, server, 0, &segment);
    let mut answered = false;
    while let Some(out) = ep.poll_transmit(now) {
        answered |= out.header.dst_port == port;
    }
    answered
}

#[test]
fn a_flood_of_syns_is_bounded_and_passes() {
    let s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    let (mut ep, mut now) = (s.ep, s.now);
    let answered = (1..=3000u16).filter(|port| syn_from(&mut ep, now, *port)).count();
    assert_eq!(answered, 3000, "by cookies, when there is no room");
    assert_eq!(ep.connections().len(), 1024);
    let end = now + Duration::from_secs(300);
    while let Some(at) = ep.poll_timeout().filter(|at| *at <= end) {
        now = now.max(at);
        ep.handle_timeout(now);
        while ep.poll_transmit(now).is_some() {}
    }
    assert!(ep.connections().is_empty());
    assert_eq!(ep.poll_event(), None);
    assert!(syn_from(&mut ep, end, 4000), "and then there is room again");
}

// Proves SEC, M5-2.
#[test]
fn a_flood_of_join_syns_leaves_the_connection_alone() {
    let mut s = Script::server_up();
    let token = crate::mptcp::crypto::token(SERVER_KEY);
    for round in 0..200 {
        for flow in [SECOND, CROSS, CROSS_PORT, THIRD] {
            s.inject(
                syn()
                    .on(flow)
                    .mp(&format!("1e0c10{:02x}{token:08x}00000005", round % 250 + 1)),
            );
        }
        s.inject(rst(1, 1).on(THIRD));
        s.take_sent();
    }
    s.inject(data(1, 1, "fine").dack32(1).map(1, 1, 4));
    assert_eq!(s.recv().unwrap(), b"fine");
    assert!(s.info().unwrap().subflows.len() <= 5);
}

#[test]
fn an_unmapped_fin_among_stored_segments_shifts_nothing() {
    let mut h = Hostile::new(false);
    for deed in [
        Deed::Write(1),
        Deed::Wild {
            flags: 241,
            seq: 1093,
            ack: 1,
            window: 0,
            subtype: 5,
            body: vec![0],
            len: 238,
        },
        Deed::Ahead {
            skip: 1094,
            len: 239,
            map_len: 239,
        },
        Deed::Good(1093),
    ] {
        h.apply(&deed);
        let want = stream(1, h.got.len());
        let at = h.got.iter().zip(&want).position(|(a, b)| a != b);
        assert_eq!(at, None, "after {deed:?} of {} bytes, {:?}", h.got.len(), h.s.info());
    }
}

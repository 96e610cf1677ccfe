//! A peer that knows the keys and means harm: right and wrong options at any time, in both roles, with MPTCP and without.
//! It may ruin its own connection. It may not make us panic, spin, answer one segment with many, or hold without bound.

use super::script::*;
use crate::link::IcmpKind;
use crate::mptcp::{crypto, ConnOptions, Event};
use core::net::IpAddr;
use proptest::prelude::*;

/// Acknowledgments and resets that one segment may draw: one on each subflow, an echo, and a reset.
const ANSWERS: usize = 20;
const RECV_BUFFER: usize = 64 << 10;

#[derive(Clone, Debug)]
enum Trick {
    /// Payload in order or not, with a mapping that need not fit it.
    Map {
        skip: u16,
        dsn: i64,
        ssn: i32,
        len: u16,
        payload: u16,
        fin: bool,
    },
    DataFin(i64),
    DataAck(i64),
    Infinite {
        payload: u16,
    },
    AddAddr {
        id: u8,
        ip: [u8; 4],
        right: bool,
    },
    Remove([u8; 3]),
    Prio(bool),
    Fail(u64),
    WrongFastclose(u64),
    Keys {
        payload: u16,
    },
    Ack(i32),
    Sack(i32, i32),
    Window(u16),
    Stamp(i32),
    Rst(i32),
    Syn {
        ack: bool,
    },
    Fin(u16),
    Icmp {
        seq: i32,
        mtu: Option<u32>,
    },
    Write(u16),
    Read,
    Pass(u16),
}

fn near() -> impl Strategy<Value = i64> {
    prop_oneof![
        -3i64..3,
        -3000i64..3000,
        Just(1 << 31),
        Just(-(1 << 32)),
        Just(i64::MAX),
        any::<i64>()
    ]
}

fn near32() -> impl Strategy<Value = i32> {
    prop_oneof![-3i32..3, -3000i32..3000, any::<i32>()]
}

fn trick() -> impl Strategy<Value = Trick> {
    let map = (0u16..3000, near(), near32(), any::<u16>(), 0u16..1400, any::<bool>());
    let exact = (0u16..3, 1u16..1400).prop_map(|(skip, len)| Trick::Map {
        skip,
        dsn: 0,
        ssn: 0,
        len,
        payload: len,
        fin: false,
    });
    prop_oneof![
        3 => exact,
        3 => map.prop_map(|(skip, dsn, ssn, len, payload, fin)| Trick::Map { skip, dsn, ssn, len, payload, fin }),
        1 => near().prop_map(Trick::DataFin),
        2 => near().prop_map(Trick::DataAck),
        1 => (0u16..100).prop_map(|payload| Trick::Infinite { payload }),
        1 => (any::<u8>(), prop_oneof![any::<[u8; 4]>(), Just([198, 51, 100, 2])], any::<bool>()).prop_map(|(id, ip, right)| Trick::AddAddr { id, ip, right }),
        1 => any::<[u8; 3]>().prop_map(Trick::Remove),
        1 => any::<bool>().prop_map(Trick::Prio),
        1 => any::<u64>().prop_map(Trick::Fail),
        1 => any::<u64>().prop_map(Trick::WrongFastclose),
        1 => (0u16..100).prop_map(|payload| Trick::Keys { payload }),
        3 => near32().prop_map(Trick::Ack),
        2 => (near32(), near32()).prop_map(|(l, r)| Trick::Sack(l, r)),
        1 => any::<u16>().prop_map(Trick::Window),
        1 => near32().prop_map(Trick::Stamp),
        1 => near32().prop_map(Trick::Rst),
        1 => any::<bool>().prop_map(|ack| Trick::Syn { ack }),
        1 => (0u16..300).prop_map(Trick::Fin),
        1 => (near32(), proptest::option::of(prop_oneof![Just(68), Just(0), 500u32..1600]))
            .prop_map(|(seq, mtu)| Trick::Icmp { seq, mtu }),
        2 => (1u16..20_000).prop_map(Trick::Write),
        1 => Just(Trick::Read),
        2 => (0u16..5000).prop_map(Trick::Pass),
    ]
}

struct Peer {
    s: Script,
    /// Next byte of the peer's, and of ours that it has seen.
    seq: u32,
    ours: u32,
}

impl Peer {
    fn new(kind: u8, checksums: bool) -> Peer {
        let options = ConnOptions {
            recv_buffer: RECV_BUFFER,
            ..ConnOptions::default()
        };
        let mut s = match (kind, checksums) {
            (0, true) => {
                let mut s = Script::client(CLIENT_KEY, SERVER_KEY, options);
                s.checksums = true;
                s.inject(syn_ack().mp("1e0c0181c18f0d286dd989ca"));
                s.inject(ack(1, 1).dack32(1));
                s
            }
            (1, true) => {
                let mut s = Script::server(SERVER_KEY, CLIENT_KEY, options);
                s.checksums = true;
                s.inject(syn().mp("1e040181"));
                s.inject(ack(1, 1).mp("1e1401810b66ce9e6378385cc18f0d286dd989ca"));
                s
            }
            (0, false) => Script::client_up_with(options),
            (1, false) => Script::server_up_with(options),
            _ => Script::plain_client_up(options),
        };
        s.set_paths(&[path("192.0.2.1"), path("198.51.100.1")]);
        s.take_sent();
        Peer { s, seq: 1, ours: 1 }
    }

    /// What the trick sends, if it sends anything.
    fn segment(&mut self, trick: &Trick) -> Option<Seg> {
        let (seq, ours) = (self.seq, self.ours);
        let bytes = |n: u16| vec![0x55; usize::from(n)];
        let dsn = |offset: i64| u64::from(seq).wrapping_add_signed(offset);
        Some(match trick {
            Trick::Map {
                skip,
                dsn: d,
                ssn,
                len,
                payload,
                fin,
            } => {
                let at = seq.wrapping_add(u32::from(*skip));
                if *skip == 0 {
                    self.seq = seq.wrapping_add(u32::from(*payload));
                }
                let map_at = u64::from(at).wrapping_add_signed(*d);
                let s = data(at, ours, bytes(*payload)).dack(1);
                let s = s.map(map_at, at.wrapping_add_signed(*ssn), *len);
                if *fin {
                    s.with_data_fin()
                } else {
                    s
                }
            }
            Trick::DataFin(d) => ack(seq, ours).dack(1).data_fin(dsn(*d)),
            Trick::DataAck(d) => ack(seq, ours).dack(u64::from(ours).wrapping_add_signed(*d)),
            Trick::Infinite { payload } => data(seq, ours, bytes(*payload)).dack(1).map(dsn(0), seq, 0),
            Trick::AddAddr { id, ip, right } => {
                let hmac = crypto::add_addr_hmac(SERVER_KEY, CLIENT_KEY, *id, IpAddr::from(*ip), None);
                let hmac = hmac ^ u64::from(!right);
                ack(seq, ours).mp(&format!("1e1030{id:02x}{}{hmac:016x}", hex(ip)))
            }
            Trick::Remove(ids) => ack(seq, ours).mp(&format!("1e0640{}", hex(ids))),
            Trick::Prio(backup) => ack(seq, ours).mp(&format!("1e035{}", u8::from(*backup))),
            Trick::Fail(n) => ack(seq, ours).mp(&format!("1e0c6000{n:016x}")),
            Trick::WrongFastclose(key) => ack(seq, ours).mp(&format!("1e0c7000{key:016x}")),
            Trick::Keys { payload } => {
                let keys = format!("{CLIENT_KEY:016x}{SERVER_KEY:016x}{payload:04x}");
                let option = match self.s.checksums {
                    true => format!("1e180181{keys}0000"),
                    false => format!("1e160181{keys}"),
                };
                data(seq, ours, bytes(*payload)).mp(&option)
            }
            Trick::Ack(n) => ack(seq, ours.wrapping_add_signed(*n)),
            Trick::Sack(l, r) => {
                let (l, r) = (ours.wrapping_add_signed(*l), ours.wrapping_add_signed(*r));
                ack(seq, ours).sack(&[(l, r), (r, l), (ours.wrapping_add(1), ours.wrapping_add(2))])
            }
            Trick::Window(n) => ack(seq, ours).win(*n).dack(1),
            Trick::Stamp(n) => ack(seq, ours).stamp(*n as u32, n.wrapping_mul(7) as u32),
            Trick::Rst(n) if *n != 0 => rst(seq.wrapping_add_signed(*n), ours),
            Trick::Syn { ack: true } => syn_ack().at(0),
            Trick::Syn { ack: false } => syn().at(seq),
            Trick::Fin(n) => fin(seq.wrapping_add(u32::from(*n)), ours),
            Trick::Rst(_) | Trick::Icmp { .. } | Trick::Write(_) | Trick::Read | Trick::Pass(_) => return None,
        })
    }

    fn play(&mut self, trick: &Trick) {
        match trick {
            Trick::Icmp { seq, mtu } => {
                let kind = mtu.map_or(IcmpKind::Unreachable { errno: 113 }, |mtu| IcmpKind::PacketTooBig {
                    mtu,
                });
                let seq = self.ours.wrapping_add_signed(*seq);
                self.s.inject_icmp(FIRST, seq, kind);
            }
            Trick::Write(n) => {
                let _ = self.s.ep.send(self.s.now, self.s.conn, &vec![1; usize::from(*n)]);
                self.s.advance(0);
            }
            Trick::Read => {
                let _ = self.s.recv();
            }
            Trick::Pass(ms) => self.s.advance(u64::from(*ms)),
            _ => {}
        }
        self.s.take_sent();
        if let Some(segment) = self.segment(trick) {
            self.s.inject(segment);
        }
        self.answer_wants();
    }

    /// Subflows that the script knows are opened, the others refused.
    fn answer_wants(&mut self) {
        for event in self.s.events() {
            let Event::WantSubflow {
                conn,
                want,
                local,
                remote,
                ..
            } = event
            else {
                continue;
            };
            let tuples = [SECOND, CROSS].map(|flow| self.s.tuple(flow));
            match tuples.iter().find(|t| t.local.ip() == local && t.remote == remote) {
                Some(t) => {
                    // A port that is in use already is as good as none.
                    let _ = self.s.ep.open_subflow(self.s.now, conn, want, t.local);
                }
                None => self.s.refuse(want),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tricks_are_answered_sparingly_and_held_in_bounds(
        kind in 0u8..3, checksums in any::<bool>(), tricks in proptest::collection::vec(trick(), 1..80))
    {
        let mut peer = Peer::new(kind, checksums);
        for trick in &tricks {
            peer.play(trick);
            let sent = peer.s.take_sent();
            let answers = sent.iter().filter(|s| s.payload.is_empty()).count();
            prop_assert!(answers <= ANSWERS, "{answers} answers to {trick:?}");
            let (held, entries) = peer.s.ep.held(peer.s.conn);
            prop_assert!(held <= 4 * RECV_BUFFER && entries <= 1000, "{held} bytes, {entries} entries after {trick:?}");
        }
        peer.s.close();
        peer.s.advance(3_600_000);
        prop_assert!(peer.s.info().is_none(), "a closed connection is over after an hour");
    }
}

/// What a flood of one trick makes us send: segments without payload.
fn answers_to(trick: &Trick, times: usize) -> usize {
    let mut peer = Peer::new(0, false);
    for _ in 0..times {
        let segment = peer.segment(trick).expect("a trick that sends");
        peer.s.inject(segment);
        peer.answer_wants();
    }
    peer.s.take_sent().len()
}

#[test]
fn floods_of_nonsense_are_not_answered_one_to_one() {
    for trick in [
        Trick::WrongFastclose(1),
        Trick::Prio(true),
        Trick::Remove([9, 10, 11]),
        Trick::AddAddr {
            id: 3,
            ip: [198, 51, 100, 9],
            right: false,
        },
        Trick::DataAck(1 << 40),
        Trick::Ack(100_000),
        Trick::Sack(5, 9),
        Trick::Rst(5000),
        Trick::Syn { ack: false },
    ] {
        let answers = answers_to(&trick, 1000);
        assert!(answers <= 50, "{answers} answers to {trick:?}");
    }
}

#[test]
fn what_follows_the_data_fin_is_not_the_streams() {
    let mut s = Script::server_up();
    s.inject(data(3, 1, "cdEVIL").dack(1).map(3, 3, 6));
    s.inject(ack(1, 1).dack(1).data_fin(5));
    s.inject(data(1, 1, "ab").dack(1).map(1, 1, 2));
    assert_eq!(s.recv().expect("the stream"), b"abcd");
    assert!(s.recv().is_err(), "and its end");
}

#[test]
fn every_second_byte_acknowledged_costs_no_more_than_its_segments() {
    let mut s = Script::plain_client_up(ConnOptions {
        nodelay: true,
        ..ConnOptions::default()
    });
    for _ in 0..100 {
        s.send([7; 100]);
    }
    assert_eq!(s.take_sent().len(), 100);
    // Lies about what arrived, then the truth: all of it is sent again at most once for each lie.
    for i in 0..50u32 {
        s.inject(ack(1, 1).sack(&[(i * 200 + 101, i * 200 + 201)]));
    }
    let again = s.take_sent().len();
    assert!(again <= 100, "{again} segments sent again");
    s.inject(ack(1, 10_001));
    s.advance(60_000);
    s.expect_nothing();
}

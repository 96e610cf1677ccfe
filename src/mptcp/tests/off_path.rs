//! Somebody who knows the addresses and ports of a server's connection, and not its numbers: resets, SYNs, data and ICMP messages that are
//! guesses; and a path that sends our own segments back to us.

use super::script::*;
use crate::link::IcmpKind;
use crate::mptcp::{ConnOptions, FourTuple};
use crate::time::Duration;
use crate::wire::{Flags, Header, Segment, SeqNum, TcpOptions};

/// Guesses all over the space of sequence numbers, without those near `next`, which are the window.
fn guesses(next: u32) -> impl Iterator<Item = u32> {
    let step = (u32::MAX / 64) as usize;
    (0..u32::MAX)
        .step_by(step)
        .map(move |i| next.wrapping_add(1 << 24).wrapping_add(i))
        .take(63)
}

/// A server's connection that has sent and received, and the same after falling back to TCP.
fn servers() -> [Script; 2] {
    let mut multipath = Script::server_up();
    multipath.inject(data(1, 1, "hello").dack32(1).map(1, 1, 5));
    let mut plain = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    plain.inject(syn());
    plain.inject(ack(1, 1));
    plain.inject(data(1, 1, "hello"));
    [multipath, plain].map(|mut s| {
        assert_eq!(s.recv().expect("it is established"), b"hello");
        s.send("answer");
        s.take_sent();
        s.events();
        s
    })
}

/// The connection has no error, and carries data both ways.
fn assert_well(s: &mut Script) {
    let info = s.info().expect("it is there");
    assert_eq!((info.error, info.subflows.len()), (None, 1));
    let more = data(6, 7, "more");
    s.inject(match info.fallback {
        None => more.dack32(7).map(6, 6, 4),
        Some(_) => more,
    });
    assert_eq!(s.recv().expect("it is open"), b"more");
}

// Proves SEC.
#[test]
fn resets_and_syns_outside_the_window_are_not_believed() {
    for mut s in servers() {
        for seq in guesses(6) {
            s.inject(rst(seq, 7));
            s.inject(data(seq, 7, "").flags(Flags::RST));
            s.inject(data(seq, 7, "").flags(Flags::SYN));
            s.inject(data(seq, 7, "").flags(Flags::SYN.with(Flags::ACK)));
            s.inject(data(seq, 7, "").flags(Flags::FIN.with(Flags::ACK)));
        }
        assert_well(&mut s);
    }
}

/// RFC 5961 section 3.2: inside the window, but not exactly the next number.
// Proves SEC.
#[test]
fn a_reset_in_the_window_is_asked_about_and_not_believed() {
    for mut s in servers() {
        s.inject(rst(7, 7));
        s.inject(rst(1000, 7));
        s.inject(data(6, 7, "").flags(Flags::SYN));
        assert_well(&mut s);
    }
}

// Proves SEC.
#[test]
fn data_with_wild_acknowledgments_is_not_taken() {
    for mut s in servers() {
        for number in guesses(7) {
            s.inject(data(6, number, "evil"));
        }
        assert_eq!(s.recv().expect("it is open"), b"");
        assert_well(&mut s);
    }
}

// Proves SEC.
#[test]
fn icmp_guesses_change_nothing() {
    for mut s in servers() {
        let mtu = s.info().expect("it is there").subflows[0].mtu;
        for seq in guesses(7) {
            s.inject_icmp(FIRST, seq, IcmpKind::PacketTooBig { mtu: 576 });
            s.inject_icmp(FIRST, seq, IcmpKind::Unreachable { errno: 111 });
        }
        assert_eq!(s.info().expect("it is there").subflows[0].mtu, mtu);
        assert_well(&mut s);
    }
}

/// RFC 5927 section 5.2: a hard error is a soft one once the connection is established.
// Proves SEC.
#[test]
fn even_an_icmp_message_that_is_right_does_not_end_a_servers_connection() {
    for mut s in servers() {
        s.inject_icmp(FIRST, 1, IcmpKind::Unreachable { errno: 111 });
        assert_well(&mut s);
    }
}

/// Gives back to the endpoint what it sends on `tuple`; how many segments that were until it was silent, or 1000.
fn reflect(s: &mut Script, tuple: FourTuple) -> usize {
    let mut count = 0;
    loop {
        let sent = s.take_sent();
        count += sent.len();
        if sent.is_empty() || count > 1000 {
            return count;
        }
        for Sent {
            header,
            options,
            payload,
            ..
        } in &sent
        {
            let header = Header {
                src_port: tuple.remote.port(),
                dst_port: tuple.local.port(),
                ..*header
            };
            let (remote, local) = (tuple.remote.ip(), tuple.local.ip());
            let segment = Segment {
                header,
                options: *options,
                payload,
            };
            s.ep.handle_segment(s.now, remote, local, 0, &segment);
        }
        s.advance(0);
    }
}

// Proves SEC.
#[test]
fn our_own_segments_sent_back_to_us_do_not_circle() {
    for mut s in servers() {
        let tuple = s.tuple(FIRST);
        s.inject(ack(6, 7));
        s.send("to be reflected");
        let count = reflect(&mut s, tuple);
        assert!((1..20).contains(&count), "{count}");
        assert_eq!(s.info().expect("it is there").error, None);
    }
}

/// "LAND": a SYN whose source is its destination.
// Proves SEC.
#[test]
fn a_syn_from_ourselves_to_ourselves_is_no_connection_and_does_not_circle() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    let local = s.tuple(FIRST).local;
    let header = Header {
        src_port: local.port(),
        dst_port: local.port(),
        seq: SeqNum(1),
        ack: SeqNum(0),
        flags: Flags::SYN,
        window: 1000,
    };
    let segment = Segment {
        header,
        options: TcpOptions::default(),
        payload: &[],
    };
    s.ep.handle_segment(s.now, local.ip(), local.ip(), 0, &segment);
    let mut count = 0;
    let end = s.now + Duration::from_secs(600);
    loop {
        while let Some(out) = s.ep.poll_transmit(s.now) {
            let (header, options) = (out.header, out.options);
            count += 1;
            assert!(count < 50, "it circles");
            let segment = Segment {
                header,
                options,
                payload: &[],
            };
            s.ep.handle_segment(s.now, local.ip(), local.ip(), 0, &segment);
        }
        let Some(at) = s.ep.poll_timeout().filter(|at| *at <= end) else {
            break;
        };
        s.now = s.now.max(at);
        s.ep.handle_timeout(s.now);
    }
    assert!(s.ep.connections().is_empty());
    assert_eq!(s.ep.poll_event(), None);
}

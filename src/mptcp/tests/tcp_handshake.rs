//! TCP's opening and its defence: RFC 9293 section 3.10.7, RFC 5961, RFC 7323, ICMP.

use super::script::*;
use crate::link::IcmpKind;
use crate::mptcp::endpoint::{ConnError, Keepalive};
use crate::mptcp::{ConnOptions, Event};
use crate::time::Duration;
use crate::wire::Flags;

fn plain() -> ConnOptions {
    ConnOptions {
        multipath: false,
        ..ConnOptions::default()
    }
}

fn plain_up() -> Script {
    Script::plain_client_up(ConnOptions::default())
}

fn failed(s: &mut Script) -> Option<ConnError> {
    s.events().iter().find_map(|e| match e {
        Event::Failed(_, error) => Some(*error),
        _ => None,
    })
}

#[test]
fn syn_sent_answers_a_wrong_ack_with_a_reset_and_goes_on() {
    let mut s = Script::client(1, 2, plain());
    s.take_sent();
    // The peer still has an older connection of these addresses and challenges the SYN.
    s.inject(ack(1, 77));
    s.expect(rst(77, 0).flags(Flags::RST));
    s.inject(syn_ack().acking(2));
    s.expect(rst(2, 0).flags(Flags::RST));
    s.inject(rst(0, 2));
    s.expect_nothing();
    assert_eq!(
        s.state(FIRST),
        Some("SYN-SENT"),
        "a reset counts only when it acknowledges the SYN"
    );
    s.advance(1000);
    s.expect(syn());
    s.inject(syn_ack());
    s.expect(ack(1, 1));
}

#[test]
fn syn_sent_refused_by_a_reset() {
    let mut s = Script::client(1, 2, plain());
    s.inject(rst(0, 1));
    assert_eq!(failed(&mut s), Some(ConnError::Refused));
}

// Proves MUST-22, MUST-23.
#[test]
fn syn_retries_are_counted() {
    let options = ConnOptions {
        syn_retries: 2,
        ..plain()
    };
    let mut s = Script::client(1, 2, options);
    // Linux 6.18 with tcp_syn_retries=2 sends at 0, 1, 2, 3, 4 and 5 s, and gives up at 7 s.
    s.advance(6_999);
    assert_eq!(s.take_sent().len(), 6);
    assert_eq!(failed(&mut s), None);
    s.advance(1);
    assert_eq!(failed(&mut s), Some(ConnError::TimedOut));
    s.expect_nothing();
}

#[test]
fn an_attempt_ends_with_its_patience() {
    let options = ConnOptions {
        syn_patience: Some(Duration::from_millis(3500)),
        ..plain()
    };
    let mut s = Script::client(1, 2, options);
    s.advance(3_499);
    assert_eq!(s.take_sent().len(), 4);
    assert_eq!(failed(&mut s), None);
    s.advance(1);
    assert_eq!(failed(&mut s), Some(ConnError::TimedOut));
    s.expect_nothing();
}

#[test]
fn a_syn_ack_is_repeated_and_then_given_up() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, plain());
    s.inject(syn());
    s.advance(1000);
    assert_eq!(s.take_sent().len(), 2);
    s.advance(200_000);
    assert!(s.take_sent().len() <= 6);
    assert!(s.ep.connections().is_empty());
    assert!(s.events().is_empty(), "nobody ever heard of it");
}

// Proves MUST-11.
#[test]
fn syn_received_is_reset_only_by_the_exact_number() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, plain());
    s.inject(syn());
    s.inject(rst(2, 0));
    assert_eq!(s.ep.connections().len(), 1);
    s.inject(rst(1, 0));
    assert!(s.ep.connections().is_empty());
}

// Proves MUST-10.
#[test]
fn simultaneous_open_of_plain_tcp() {
    let mut s = Script::client(1, 2, plain());
    s.take_sent();
    s.inject(syn());
    assert_eq!(s.state(FIRST), Some("SYN-RECEIVED"));
    s.expect(syn_ack());
    s.inject(ack(1, 1));
    assert_eq!(s.state(FIRST), Some("ESTABLISHED"));
}

// Proves R5961-1.
#[test]
fn rfc5961_a_reset_in_the_window_but_not_exact_is_challenged() {
    let mut s = plain_up();
    s.inject(rst(2, 1));
    s.expect(ack(1, 1));
    assert_eq!(s.state(FIRST), Some("ESTABLISHED"));
    s.inject(rst(1 << 30, 1));
    s.inject(rst(0, 1));
    s.expect_nothing();
    s.inject(rst(1, 1));
    assert_eq!(failed(&mut s), Some(ConnError::Reset));
}

// Proves R5961-2.
#[test]
fn rfc5961_a_syn_is_challenged() {
    let mut s = plain_up();
    s.inject(syn().at(1));
    s.expect(ack(1, 1));
    assert_eq!(s.state(FIRST), Some("ESTABLISHED"));
}

// Proves R5961-4.
#[test]
fn rfc5961_challenges_are_limited_to_ten_a_second() {
    let mut s = plain_up();
    for _ in 0..50 {
        s.inject(rst(2, 1));
    }
    assert_eq!(s.take_sent().len(), 10);
    s.advance(1000);
    s.inject(rst(2, 1));
    assert_eq!(s.take_sent().len(), 1);
}

// Proves R5961-3.
#[test]
fn rfc5961_acks_of_the_future_and_of_the_distant_past_are_challenged() {
    let mut s = plain_up();
    s.send("abc");
    s.take_sent();
    s.inject(ack(1, 4));
    s.inject(ack(1, 5));
    s.expect(ack(4, 1));
    s.inject(ack(1, 4u32.wrapping_sub(1 << 20)));
    s.expect(ack(4, 1));
    // Data in such a segment does not count.
    s.inject(data(1, 5, "evil"));
    assert_eq!(s.recv().unwrap(), b"");
}

// Proves M3.3-11.
#[test]
fn data_beyond_the_window_is_not_taken() {
    let options = ConnOptions {
        recv_buffer: 4096,
        ..ConnOptions::default()
    };
    let mut s = Script::plain_client_up(options);
    s.inject(data(1 + (1 << 24), 1, "far"));
    s.expect(ack(1, 1));
    s.inject(data(1, 1, vec![1; 6000]));
    assert_eq!(s.recv().unwrap().len(), 4096);
}

// Proves R7323-3.
#[test]
fn rfc7323_an_old_timestamp_is_dropped_and_acknowledged() {
    let mut s = plain_up();
    s.inject(data(1, 1, "new").stamp(0x7000_0001, 0));
    s.expect(ack(1, 4));
    s.inject(data(4, 1, "old").stamp(0x7000_0000, 0));
    s.expect(ack(1, 4));
    assert_eq!(s.recv().unwrap(), b"new");
    s.inject(data(4, 1, "same").stamp(0x7000_0001, 0));
    assert_eq!(s.recv().unwrap(), b"same");
}

// Proves R7323-3.
#[test]
fn rfc7323_timestamps_wrap() {
    let mut s = Script::client(1, 2, plain());
    s.inject(syn_ack().stamp(0xffff_fff0, 0));
    s.inject(data(1, 1, "a").stamp(0x10, 0));
    s.inject(data(2, 1, "b").stamp(0xffff_fff1, 0));
    assert_eq!(s.recv().unwrap(), b"a");
}

// Proves R7323-2.
#[test]
fn rfc7323_the_echo_is_from_the_segment_at_the_left_edge() {
    let mut s = plain_up();
    s.inject(data(1, 1, "a").stamp(0x7000_0000, 0));
    let first = s.take_sent().pop().unwrap();
    assert_eq!(first.options.timestamps.unwrap().ecr, 0x7000_0000);
    // Ahead of a gap: the echo stays.
    s.inject(data(12, 1, "c").stamp(0x7000_0005, 0));
    let second = s.take_sent().pop().unwrap();
    assert_eq!(second.options.timestamps.unwrap().ecr, 0x7000_0000);
}

// Proves MUST-1.
#[test]
fn rfc7323_without_window_scale_windows_are_as_they_stand() {
    let mut s = Script::client(1, 2, plain());
    s.inject(syn_ack().scale(None).win(5000));
    let third = s.take_sent().pop().unwrap();
    assert_eq!(third.header.window, 65_535, "unscaled too");
    s.send(vec![1; 9000]);
    let sent: usize = s.take_sent().iter().map(|seg| seg.payload.len()).sum();
    assert!((3000..=5000).contains(&sent), "{sent} bytes into a window of 5000");
}

// Proves R7323-1.
#[test]
fn rfc7323_a_scale_above_14_counts_as_14() {
    for (scale, edge) in [(14, 1u32 << 14), (15, 1 << 14), (255, 1 << 14)] {
        let mut s = Script::client(1, 2, plain());
        s.inject(syn_ack().scale(Some(scale)).win(100));
        s.take_sent();
        s.inject(ack(1, 1).win(1));
        s.send(vec![1; 60_000]);
        let mut total = 0;
        loop {
            let sent: u32 = s.take_sent().iter().map(|seg| seg.payload.len() as u32).sum();
            if sent == 0 {
                break;
            }
            total += sent;
            s.inject(ack(1, total + 1).win(0));
        }
        assert!(total <= edge && total + 1460 > edge, "{total} of {edge}, scale {scale}");
    }
}

// Proves MUST-14, MUST-15.
#[test]
fn mss_absent_is_536_and_tiny_is_bounded() {
    for (mss, largest) in [(None, 536), (Some(1), 88), (Some(1460), 1460), (Some(65_535), 1460)] {
        let mut s = Script::client(1, 2, plain());
        s.inject(syn_ack().mss(mss).no_stamps());
        s.take_sent();
        s.send(vec![1; 3000]);
        let most = s.take_sent().iter().map(|seg| seg.payload.len()).max();
        assert_eq!(most, Some(largest), "MSS {mss:?}");
    }
}

// Proves R7323-4.
#[test]
fn a_peer_without_options_gets_none() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(syn().no_stamps().no_sack().scale(None).mss(None));
    let answer = s.take_sent().pop().unwrap();
    let o = answer.options;
    assert!(o.timestamps.is_none() && !o.sack_permitted && o.window_scale.is_none() && o.mptcp.is_empty());
}

// Proves MUST-54, MUST-56.
#[test]
fn icmp_unreachable_ends_an_attempt_and_not_a_connection() {
    let unreachable = IcmpKind::Unreachable { errno: 113 };
    let mut s = Script::client(1, 2, plain());
    s.inject_icmp(FIRST, 77, unreachable);
    assert_eq!(failed(&mut s), None, "not about what we sent");
    s.inject_icmp(FIRST, 0, unreachable);
    assert_eq!(failed(&mut s), Some(ConnError::Unreachable(113)));
    let mut s = plain_up();
    s.send("abc");
    s.inject_icmp(FIRST, 1, unreachable);
    assert_eq!(failed(&mut s), None);
}

// Proves R1191-1.
#[test]
fn packet_too_big_makes_segments_smaller_and_sends_again_and_a_forged_one_does_not() {
    let mut s = Script::client_up();
    s.send(vec![5; 2800]);
    let before: Vec<usize> = s.take_sent().iter().map(|seg| seg.payload.len()).collect();
    assert!(before[0] > 1300);
    s.inject_icmp(FIRST, 1 << 20, IcmpKind::PacketTooBig { mtu: 1280 });
    s.expect_nothing();
    s.inject_icmp(FIRST, 1, IcmpKind::PacketTooBig { mtu: 1280 });
    let again = s.take_sent();
    assert!(!again.is_empty());
    for seg in &again {
        let bytes = 40 + crate::wire::options_len(&seg.options) + seg.payload.len();
        assert!(bytes <= 1280, "{bytes} bytes");
    }
    let sent: usize = again.iter().map(|seg| seg.payload.len()).sum();
    assert!(sent >= before[0], "what was too big came again: {sent}");
}

// Proves R1191-1.
#[test]
fn packet_too_big_with_an_absurd_mtu_is_bounded() {
    let mut s = plain_up();
    s.send(vec![5; 2800]);
    s.take_sent();
    s.inject_icmp(FIRST, 1, IcmpKind::PacketTooBig { mtu: 1 });
    let largest = s.take_sent().iter().map(|seg| seg.payload.len()).max().unwrap_or(0);
    assert!(largest >= 500, "{largest}");
}

// Proves MUST-24, MUST-26, MUST-29.
#[test]
fn keepalive_probes_and_gives_up() {
    let options = ConnOptions {
        keepalive: Some(Keepalive {
            idle: Duration::from_secs(10),
            interval: Duration::from_secs(2),
            count: 3,
        }),
        ..ConnOptions::default()
    };
    let mut s = Script::plain_client_up(options);
    s.advance(9_999);
    s.expect_nothing();
    s.advance(1);
    s.expect(ack(0, 1));
    s.inject(ack(1, 1));
    s.advance(9_999);
    s.expect_nothing();
    s.advance(1);
    s.expect(ack(0, 1));
    s.advance(4000);
    assert_eq!(s.take_sent().len(), 2);
    assert_eq!(failed(&mut s), None);
    s.advance(2000);
    assert_eq!(failed(&mut s), Some(ConnError::TimedOut));
}

/// tcp(7): TCP_USER_TIMEOUT overrides keepalive's number of probes.
#[test]
fn with_a_user_timeout_keepalives_go_on_until_it_is_over() {
    let options = ConnOptions {
        keepalive: Some(Keepalive {
            idle: Duration::from_secs(1),
            interval: Duration::from_secs(1),
            count: 1,
        }),
        user_timeout: Some(Duration::from_millis(300_500)),
        ..ConnOptions::default()
    };
    let mut s = Script::plain_client_up(options);
    s.advance(300_999);
    assert_eq!((s.take_sent().len(), failed(&mut s)), (300, None));
    s.advance(1);
    assert_eq!(failed(&mut s), Some(ConnError::TimedOut));
}

// Proves SHLD-12.
#[test]
fn a_keepalive_of_the_peer_is_answered() {
    let mut s = plain_up();
    s.inject(ack(0, 1));
    s.expect(ack(1, 1));
    s.inject(data(0, 1, [0]));
    s.expect_among(ack(1, 1).sack(&[(0, 1)]));
}

#[test]
fn stray_segments_are_left_to_the_host() {
    let mut s = Script::server(SERVER_KEY, CLIENT_KEY, ConnOptions::default());
    s.inject(ack(1, 1));
    s.inject(rst(1, 1));
    s.inject(syn().flags(Flags::SYN.with(Flags::FIN)));
    s.inject(syn().on(CROSS_PORT));
    s.expect_nothing();
}

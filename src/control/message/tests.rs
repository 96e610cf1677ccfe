use super::*;
use crate::control::MESSAGE_MAX;
use proptest::prelude::*;

fn v4() -> SocketAddr {
    "192.0.2.7:443".parse().expect("an address")
}

fn v6() -> SocketAddr {
    "[2001:db8::1]:8080".parse().expect("an address")
}

fn requests() -> Vec<Request<'static>> {
    vec![
        Request::Connect(Connect {
            remote: v4(),
            nonblocking: true,
            pid: 4711,
            program: b"curl",
            settings: b"MPTCP_PATHS=eth0,wlan0:backup\0MPTCP_LOG=info\0",
        }),
        Request::Connect(Connect {
            remote: v6(),
            nonblocking: false,
            pid: 1,
            program: b"",
            settings: b"",
        }),
        Request::Query { cookie: u64::MAX },
        Request::GetOption {
            cookie: 1,
            level: 6,
            name: 11,
            room: 256,
        },
        Request::SetOption {
            cookie: 2,
            level: 6,
            name: 1,
        },
        Request::QueueSizes { cookie: 3 },
        Request::Abort { cookie: 4 },
        Request::Wait { cookie: 5 },
        Request::Listen(Listen {
            program: b"nginx",
            settings: b"MPTCP_LOG=info\0",
        }),
        Request::Shutdown { cookie: 8, both: true },
        Request::Claim,
        Request::Picture { cookie: 6 },
        Request::SetWish {
            cookie: 7,
            name: crate::control::multipath::name::BIND,
            value: &[9; crate::control::WISH_MAX],
        },
        Request::AskWish {
            cookie: 9,
            name: crate::control::multipath::name::EVENTS,
            value: b"",
        },
        Request::Left(Left {
            remote: v4(),
            program: b"bgpd",
            reason: Bypass::TcpFeature,
        }),
        Request::Status,
    ]
}

fn replies() -> Vec<Reply<'static>> {
    let report = |phase| {
        Reply::Phase(PhaseReport {
            phase,
            local: Some(v6()),
            remote: None,
        })
    };
    vec![
        Reply::Shadow { cookie: 9 },
        Reply::Bypass(Bypass::OwnAddress),
        Reply::Error(libc::ENETUNREACH),
        report(Phase::Connecting),
        report(Phase::Established),
        report(Phase::Failed {
            errno: libc::ECONNREFUSED,
        }),
        report(Phase::Gone),
        Reply::Value(&[7; VALUE_MAX]),
        Reply::Done,
        Reply::Queues(Queues { unacked: 1, unsent: 2 }),
    ]
}

#[test]
fn requests_survive_the_wire() {
    for request in requests() {
        let mut buf = [0; MESSAGE_MAX];
        let n = request.encode(&mut buf).expect("it fits");
        assert_eq!(Request::decode(&buf[..n]), Ok(request));
        assert_eq!(Request::decode(&buf[..n + 1]), Err(DecodeError::Trailing));
        for short in 0..n {
            assert_eq!(
                Request::decode(&buf[..short]),
                Err(DecodeError::Truncated),
                "{request:?} cut to {short}"
            );
        }
    }
}

#[test]
fn replies_survive_the_wire() {
    for reply in replies() {
        let mut buf = [0; MESSAGE_MAX];
        let n = reply.encode(&mut buf).expect("it fits");
        assert_eq!(Reply::decode(&buf[..n]), Ok(reply));
        assert_eq!(Reply::decode(&buf[..n + 1]), Err(DecodeError::Trailing));
        for short in 0..n {
            assert_eq!(
                Reply::decode(&buf[..short]),
                Err(DecodeError::Truncated),
                "{reply:?} cut to {short}"
            );
        }
    }
}

#[test]
fn settings_are_found_by_whole_name() {
    let Request::Connect(c) = requests()[0] else {
        unreachable!("the first is a Connect")
    };
    assert_eq!(c.setting("MPTCP_PATHS"), Some(&b"eth0,wlan0:backup"[..]));
    assert_eq!(c.setting("MPTCP_PATH"), None);
    assert_eq!(c.setting("MPTCP_LOG"), Some(&b"info"[..]));
}

#[test]
fn bounds_hold_in_both_directions() {
    let mut buf = [0; MESSAGE_MAX];
    let long = Reply::Value(&[0; VALUE_MAX + 1]);
    assert_eq!(long.encode(&mut buf), Err(Overflow));
    let n = Reply::Value(&[0; 4]).encode(&mut buf).expect("it fits");
    buf[8..10].copy_from_slice(&(VALUE_MAX as u16 + 1).to_le_bytes());
    assert_eq!(Reply::decode(&buf[..n]), Err(DecodeError::TooLong));
    assert_eq!(Request::Status.encode(&mut [0; 7]), Err(Overflow));
}

#[test]
fn strangers_are_refused_by_name() {
    let mut buf = [0; MESSAGE_MAX];
    let n = Request::Status.encode(&mut buf).expect("it fits");
    let mut other = buf;
    other[0] = b'X';
    assert_eq!(Request::decode(&other[..n]), Err(DecodeError::Magic));
    let mut other = buf;
    other[4] = 200;
    assert_eq!(Request::decode(&other[..n]), Err(DecodeError::Version(200)));
    assert_eq!(Reply::decode(&buf[..n]), Err(DecodeError::Kind(STATUS)));
    let n = Reply::Error(5).encode(&mut buf).expect("it fits");
    buf[8..12].copy_from_slice(&0i32.to_le_bytes());
    assert_eq!(Reply::decode(&buf[..n]), Err(DecodeError::Value));
}

proptest! {
    /// Whatever decodes was canonical: it encodes to the same bytes again (mapped flow labels included). Garbage never panics.
    #[test]
    fn garbage_is_an_error_or_canonical(mut bytes in proptest::collection::vec(any::<u8>(), 8..300), kind in 0u16..140) {
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..6].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        bytes[6..8].copy_from_slice(&kind.to_le_bytes());
        let mut buf = [0; MESSAGE_MAX];
        if let Ok(request) = Request::decode(&bytes) {
            let n = request.encode(&mut buf).expect("what was decoded fits");
            prop_assert_eq!(n, bytes.len());
            prop_assert_eq!(Request::decode(&buf[..n]), Ok(request));
        }
        if let Ok(reply) = Reply::decode(&bytes) {
            let n = reply.encode(&mut buf).expect("what was decoded fits");
            prop_assert_eq!(n, bytes.len());
            prop_assert_eq!(Reply::decode(&buf[..n]), Ok(reply));
        }
    }
}

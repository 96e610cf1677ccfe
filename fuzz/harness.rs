//! What the fuzzers do with their input; `tests/corpus.rs` does the same with the committed corpora. A panic is a finding.

use mptcp::control::multipath::stash::{self, Answerer, Filter, Instruction, Kept};
use mptcp::control::multipath::{name, read_sockaddr, Socket, Stage, Wishes};
use mptcp::control::picture::{Picture, MPTCP_INFO_LEN, PICTURE_MAX};
use mptcp::control::{setting, Reply, Request};
use mptcp::control::{shadow, EngineId};
use mptcp::link::path_config::PathConfig;
use mptcp::mptcp::{ConnId, ConnOptions, Endpoint, Entropy, FourTuple, LocalPath};
use mptcp::time::{Duration, Instant};
use mptcp::wire::mptcp_option::MpCapableBody;
use mptcp::wire::{Flags, Header, MpCapable, Segment, SeqNum, TcpOptions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A target by the name of its corpus.
pub fn target(name: &str) -> fn(&[u8]) {
    match name {
        "options" => options,
        "segments" => segments,
        "control" => control,
        "config" => config,
        "wishes" => wishes,
        "pictures" => pictures,
        other => panic!("no target {other}"),
    }
}

/// A TCP option list: what was read is written and read again the same.
pub fn options(data: &[u8]) {
    let read = TcpOptions::parse(data);
    let mut buf = [0; 40];
    let len = read.emit(&mut buf);
    assert_eq!(TcpOptions::parse(&buf[..len]), read.fitted());
    let _ = Segment::parse(data);
}

/// One datagram of the control protocol, and the names that programs and engines have.
pub fn control(data: &[u8]) {
    let mut buf = [0; mptcp::control::MESSAGE_MAX];
    if let Ok(request) = Request::decode(data) {
        let len = request.encode(&mut buf).expect("what was read fits");
        assert_eq!(Request::decode(&buf[..len]), Ok(request));
    }
    if let Ok(reply) = Reply::decode(data) {
        let len = reply.encode(&mut buf).expect("what was read fits");
        assert_eq!(Reply::decode(&buf[..len]), Ok(reply));
    }
    if let Some(name) = shadow::ShadowName::decode(data) {
        let mut bytes = [0; shadow::NAME_MAX];
        let len = name.encode(&mut bytes).expect("what was read fits");
        assert_eq!(shadow::ShadowName::decode(&bytes[..len]), Some(name));
    }
    let _ = EngineId::parse(data);
}

/// What a user's environment says.
pub fn config(data: &[u8]) {
    let _ = setting(data, "MPTCP_PATHS");
    if let Ok(text) = core::str::from_utf8(data) {
        if let Ok(config) = PathConfig::parse(text) {
            for name in config.named() {
                assert!(!config.excludes(name));
            }
        }
    }
}

/// setsockopt() of `mptcp.h`, one after the other: option, stage and family, length, value. What is wished survives in the socket.
pub fn wishes(data: &[u8]) {
    const STAGES: [Stage; 6] = [
        Stage::Fresh,
        Stage::Listening,
        Stage::Connecting,
        Stage::Multipath,
        Stage::Plain,
        Stage::Ended,
    ];
    let mut wishes = Wishes::default();
    let mut rest = data;
    while let Some(([option, manner, len], tail)) = rest.split_first_chunk::<3>() {
        let (value, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = tail;
        let mut is_local = |address: SocketAddr| manner & 0x40 == 0 || address.port() == 0 && address.is_ipv4();
        let mut socket = Socket {
            inet6: manner & 0x80 != 0,
            stage: STAGES[usize::from(manner & 7) % STAGES.len()],
            is_local: &mut is_local,
        };
        let before = wishes;
        if wishes
            .set(name::ENABLE + i32::from(option % 0x14), value, &mut socket)
            .is_err()
        {
            assert_eq!(wishes, before, "what is refused changes nothing");
        }
        let _ = read_sockaddr(value);
        let answerer = |engine| Answerer {
            engine,
            uid: u32::from(*len),
        };
        let answered_by = match manner & 0x20 {
            0 => None,
            _ => EngineId::from_bits(u64::from(*manner) << 40 | u64::from(*option)).map(answerer),
        };
        assert_eq!(kept(&Filter::new(&wishes, answered_by)), Kept { wishes, answered_by });
    }
}

/// What a socket with this filter says: getsockopt(SO_GET_FILTER), without a socket.
fn kept(filter: &Filter) -> Kept {
    let program = filter.program();
    let get = |to: *mut Instruction, room: &mut u32| {
        if !to.is_null() {
            assert!(*room >= u32::from(program.len), "the room is for the longest filter");
            // SAFETY: `filter` has as many instructions as its program says, `to` room for them, and they are two places.
            unsafe { core::ptr::copy_nonoverlapping(program.filter.cast(), to, usize::from(program.len)) };
        }
        *room = program.len.into();
        Ok(())
    };
    stash::read(get).expect("a filter of ours")
}

/// The engine's picture of a connection, and getsockopt() at SOL_MPTCP with any buffer: nothing is written beyond it.
pub fn pictures(data: &[u8]) {
    if let Ok(picture) = Picture::decode(data) {
        let mut bytes = [0; PICTURE_MAX];
        let len = picture.encode(&mut bytes).expect("what was read fits");
        assert_eq!(Picture::decode(&bytes[..len]), Ok(picture));
    }
    let Some(([option, subflows, len], rest)) = data.split_first_chunk::<3>() else {
        return;
    };
    const CANARY: u8 = 0xa5;
    const ROOM: usize = 4096;
    let mut socklen = libc::socklen_t::from(*len) * 16;
    let given = socklen as usize;
    let mut value = vec![CANARY; ROOM + 64];
    value[..rest.len().min(ROOM)].copy_from_slice(&rest[..rest.len().min(ROOM)]);
    // struct mptcp_full_info points to two arrays of the program's, which have as much room as it says.
    let mut arrays = [vec![CANARY; ROOM], vec![CANARY; ROOM]];
    for (at, array) in arrays.iter_mut().enumerate() {
        let address = array.as_mut_ptr().expose_provenance().to_ne_bytes();
        value[24 + 8 * at..32 + 8 * at].copy_from_slice(&address);
    }
    let picture = sample_picture(*subflows % 9);
    let before = value.clone();
    let name = i32::from(option % 6);
    // SAFETY: `value` and the two arrays have more room than the option ever writes to with eight subflows.
    let told = unsafe { mptcp::shim::linux::tell(&picture, name, value.as_mut_ptr().cast(), &mut socklen) };
    let end = given.min(value.len());
    assert_eq!(value[end..], before[end..], "nothing behind the buffer is touched");
    if told.is_err() {
        assert_eq!(value, before, "an error writes nothing");
    }
    assert!(
        told.is_err() || socklen as usize <= given,
        "no longer than what was given"
    );
}

fn sample_picture(subflows: u8) -> Picture {
    let subflow = |id: u8| mptcp::control::picture::SubflowPicture {
        id: id.into(),
        established: true,
        local: addr(id, 40_000),
        remote: addr(id, 8000),
        tcp_info: [id; mptcp::control::picture::TCP_INFO_LEN],
    };
    Picture::new(true, true, [7; MPTCP_INFO_LEN], (1..=subflows).map(subflow))
}

/// Draws one number after the other.
struct Counting(u64);

impl Entropy for Counting {
    fn next_u64(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

const KEY: u64 = 0x1122_3344_5566_7788;
const ISN: SeqNum = SeqNum(0xffff_ff00);

/// A connection of ours and the peer that the input plays.
struct Rig {
    ep: Endpoint,
    conn: ConnId,
    now: Instant,
    iss: SeqNum,
}

fn addr(host: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, host), port).into()
}

impl Rig {
    /// A client whose handshake went well.
    fn established() -> Rig {
        let now = Instant::from_millis(1000);
        let mut ep = Endpoint::new(Box::new(Counting(7)));
        let tuple = FourTuple {
            local: addr(1, 40_000),
            remote: addr(2, 8000),
        };
        let path = LocalPath {
            addr: tuple.local.ip(),
            iface: 0,
            mtu: 1500,
            backup: false,
        };
        let conn = ep
            .connect(now, tuple, path, ConnOptions::default())
            .expect("a connection");
        let iss = ep.poll_transmit(now).expect("a SYN").header.seq;
        let mut rig = Rig { ep, conn, now, iss };
        let mut options = TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            ..TcpOptions::default()
        };
        options.mptcp.capable = Some(MpCapable {
            version: 1,
            flags: 1,
            body: MpCapableBody::SynAck { key: KEY },
        });
        rig.inject(ISN, 1, Flags::SYN.with(Flags::ACK), 65_535, options, &[]);
        rig
    }

    fn inject(&mut self, seq: SeqNum, ack: u32, flags: Flags, window: u16, options: TcpOptions, payload: &[u8]) {
        let header = Header {
            src_port: 8000,
            dst_port: 40_000,
            seq,
            ack: self.iss + ack,
            flags,
            window,
        };
        let segment = Segment {
            header,
            options,
            payload,
        };
        let (peer, own): (IpAddr, IpAddr) = (addr(2, 0).ip(), addr(1, 0).ip());
        self.ep.handle_segment(self.now, peer, own, 0, &segment);
        self.drain();
    }

    /// Takes out all that the endpoint has to say, and reads what came.
    fn drain(&mut self) {
        for _ in 0..100_000 {
            let sent = self.ep.poll_transmit(self.now).is_some();
            if !sent && self.ep.poll_event().is_none() {
                let available = self.ep.recv(self.conn).map_or(0, |(a, b)| a.len() + b.len());
                if available == 0 {
                    return;
                }
                self.ep.consume(self.now, self.conn, available);
            }
        }
        panic!("the endpoint never comes to rest");
    }

    fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..100_000 {
            match self.ep.poll_timeout() {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    self.ep.handle_timeout(self.now);
                    self.drain();
                }
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("the endpoint's timer is always due");
    }
}

/// Segments into an established connection. Each is eight bytes (flags, sequence and acknowledgment number near the right
/// ones, window, milliseconds before it, lengths) and its option list.
pub fn segments(data: &[u8]) {
    let mut rig = Rig::established();
    let mut rest = data;
    let mut seq = ISN + 1;
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let [flags, ahead, ack, window, wait, options_len, payload_len, write] = *head;
        let (list, tail) = tail.split_at(usize::from(options_len).min(40).min(tail.len()));
        rest = tail;
        let _ = rig.ep.send(rig.now, rig.conn, &vec![write; usize::from(write) * 8]);
        rig.drain();
        rig.advance(Duration::from_millis(u64::from(wait) * 10));
        let payload = vec![flags; usize::from(payload_len) * 5];
        let at = if ahead < 128 {
            seq + u32::from(ahead) * 5
        } else {
            seq - u32::from(ahead - 128)
        };
        rig.inject(
            at,
            u32::from(ack) * 8 + 1,
            Flags(flags),
            u16::from(window) * 257,
            TcpOptions::parse(list),
            &payload,
        );
        if ahead == 0 {
            seq += payload.len() as u32;
        }
    }
    rig.ep.abort(rig.now, rig.conn);
    rig.drain();
    rig.advance(Duration::from_secs(3600));
    assert!(
        rig.ep.connections().is_empty(),
        "an aborted connection is over after an hour"
    );
}

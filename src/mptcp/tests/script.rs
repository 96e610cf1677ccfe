//! The vocabulary of the segment tests, after packetdrill: an endpoint of ours alone in virtual time, and a script that
//! plays its peer.
//!
//! Numbers in scripts are relative: sequence numbers to the ISN of their sender (the first byte is 1), data-level numbers
//! to the IDSN of their sender (likewise). The peer's ISN lies just below the wrap. Compared are flags but PSH, numbers,
//! payload, SACK blocks and the bytes of the MPTCP options; window and timestamps only where a test asks for them.

use super::segment::RelativeDss;
pub use super::segment::{ack, data, fin, rst, syn, syn_ack, Seg};
use crate::link::{for_each_segment, IcmpKind};
use crate::mptcp::endpoint::{CallError, SubflowId};
use crate::mptcp::{crypto, ConnId, ConnOptions, Endpoint, Entropy, Event, FourTuple, LocalPath};
use crate::time::{Duration, Instant};
use crate::wire::{Dss, DssMap, Flags, Header, SackBlocks, Segment, SeqNum, TcpOptions, Timestamps, WireDsn};
use core::cell::RefCell;
use core::net::SocketAddr;
use std::collections::VecDeque;
use std::fmt::Write;
use std::rc::Rc;

/// Keys of captured run A, whose token and IDSN are known.
pub const CLIENT_KEY: u64 = 0x0b66_ce9e_6378_385c;
pub const SERVER_KEY: u64 = 0xc18f_0d28_6dd9_89ca;
const PEER_ISN: SeqNum = SeqNum(0xffff_ff00);
/// Milliseconds between the peer's clock and ours.
const PEER_CLOCK: u32 = 0xffff_f000;

/// Flows by the addresses of client and server.
pub const FIRST: usize = 0;
pub const SECOND: usize = 1;
/// To the server's second address, and to another port there.
pub const CROSS: usize = 2;
pub const CROSS_PORT: usize = 3;
pub const THIRD: usize = 4;
pub const FOURTH: usize = 5;
const FLOWS: [(&str, &str); 6] = [
    ("192.0.2.1:34058", "192.0.2.2:8000"),
    ("198.51.100.1:44769", "192.0.2.2:8000"),
    ("198.51.100.1:40199", "198.51.100.2:8000"),
    ("198.51.100.1:50917", "198.51.100.2:8443"),
    ("203.0.113.1:45000", "192.0.2.2:8000"),
    ("203.0.113.2:45000", "192.0.2.2:8000"),
];

/// Unpredictable numbers that the script predicts: what it queued, then a counter.
struct Scripted {
    queue: Rc<RefCell<VecDeque<u64>>>,
    counter: u64,
}

impl Entropy for Scripted {
    fn next_u64(&mut self) -> u64 {
        self.queue.borrow_mut().pop_front().unwrap_or_else(|| {
            self.counter += 1;
            self.counter
        })
    }
}

/// A segment that the endpoint sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub flow: usize,
    pub header: Header,
    pub options: TcpOptions,
    pub payload: Vec<u8>,
    pub at: Instant,
    pub tos: u8,
}

/// See the module's head.
pub struct Script {
    pub ep: Endpoint,
    pub now: Instant,
    pub conn: ConnId,
    pub client: bool,
    /// Checksums are in use: maps of the script carry them.
    pub checksums: bool,
    random: Rc<RefCell<VecDeque<u64>>>,
    sent: VecDeque<Sent>,
    events: VecDeque<Event>,
    /// Our ISN and last TSval of each flow.
    iss: [Option<SeqNum>; FLOWS.len()],
    tsval: [u32; FLOWS.len()],
    local_key: u64,
    peer_key: u64,
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address of FLOWS")
}

/// A path of 1500 bytes from this address.
pub fn path(ip: &str) -> LocalPath {
    LocalPath {
        addr: ip.parse().expect("an address"),
        iface: 0,
        mtu: 1500,
        backup: false,
    }
}

impl Script {
    fn new(client: bool, local_key: u64, peer_key: u64) -> Script {
        // The endpoint takes two numbers for its ISNs first; TSvals begin at 0 + time.
        let random = Rc::new(RefCell::new(VecDeque::from([7, 9])));
        let source = Scripted {
            queue: random.clone(),
            counter: 0x1000,
        };
        let ep = Endpoint::new(Box::new(source));
        Script {
            ep,
            now: Instant::from_millis(1_000_000),
            conn: ConnId(1),
            client,
            checksums: false,
            random,
            sent: VecDeque::new(),
            events: VecDeque::new(),
            iss: Default::default(),
            tsval: Default::default(),
            local_key,
            peer_key,
        }
    }

    /// A client whose SYN is sent but not yet looked at.
    pub fn client(local_key: u64, peer_key: u64, options: ConnOptions) -> Script {
        let mut s = Script::new(true, local_key, peer_key);
        s.random(&[local_key]);
        let tuple = s.tuple(FIRST);
        let local = path("192.0.2.1");
        s.conn = s.ep.connect(s.now, tuple, local, options).expect("connect");
        s.drain();
        s
    }

    /// A listener on port 8000 whose first connection will have this key.
    pub fn server(local_key: u64, peer_key: u64, options: ConnOptions) -> Script {
        let mut s = Script::new(false, local_key, peer_key);
        s.random(&[local_key]);
        s.ep.listen(addr("0.0.0.0:8000"), options).expect("listen");
        s
    }

    /// A client with an established MPTCP connection, whose peer has shown that it has both keys.
    pub fn client_up() -> Script {
        Script::client_up_with(ConnOptions::default())
    }

    pub fn client_up_with(options: ConnOptions) -> Script {
        let mut s = Script::client(CLIENT_KEY, SERVER_KEY, options);
        s.expect(syn().mp("1e040101"));
        s.inject(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
        s.expect(ack(1, 1).mp("1e1401010b66ce9e6378385cc18f0d286dd989ca"));
        s.inject(ack(1, 1).dack32(1));
        s.expect_nothing();
        s.events.clear();
        s
    }

    /// A server with an established MPTCP connection, nothing sent yet.
    pub fn server_up() -> Script {
        Script::server_up_with(ConnOptions::default())
    }

    pub fn server_up_with(options: ConnOptions) -> Script {
        let mut s = Script::server(SERVER_KEY, CLIENT_KEY, options);
        s.inject(syn().mp("1e040101"));
        s.expect(syn_ack().mp("1e0c0101c18f0d286dd989ca"));
        s.inject(ack(1, 1).mp("1e1401010b66ce9e6378385cc18f0d286dd989ca"));
        s.expect_nothing();
        s.events.clear();
        s
    }

    /// A client of plain TCP, established.
    pub fn plain_client_up(options: ConnOptions) -> Script {
        let options = ConnOptions {
            multipath: false,
            ..options
        };
        let mut s = Script::client(CLIENT_KEY, SERVER_KEY, options);
        s.expect(syn());
        s.inject(syn_ack());
        s.expect(ack(1, 1));
        s.events.clear();
        s
    }

    /// The numbers that the endpoint draws next.
    pub fn random(&mut self, numbers: &[u64]) {
        self.random.borrow_mut().extend(numbers);
    }

    /// A flow as the endpoint sees it.
    pub fn tuple(&self, flow: usize) -> FourTuple {
        let (client, server) = FLOWS[flow];
        let (local, remote) = if self.client {
            (client, server)
        } else {
            (server, client)
        };
        FourTuple {
            local: addr(local),
            remote: addr(remote),
        }
    }

    fn flow_of(&self, tuple: FourTuple) -> usize {
        (0..FLOWS.len())
            .find(|f| self.tuple(*f) == tuple)
            .unwrap_or_else(|| panic!("a segment on a flow that no script has: {tuple:?}"))
    }

    // ---- the network ------------------------------------------------------------------------------------------

    pub fn drain(&mut self) {
        for _ in 0..100_000 {
            let now = self.now;
            let Some(out) = self.ep.poll_transmit(now) else {
                while let Some(event) = self.ep.poll_event() {
                    if let Event::Accepted { conn, .. } = event {
                        self.conn = conn;
                    }
                    self.events.push_back(event);
                }
                return;
            };
            let header = out.header;
            let tuple = FourTuple {
                local: SocketAddr::new(out.src, header.src_port),
                remote: SocketAddr::new(out.dst, header.dst_port),
            };
            let (options, tos) = (out.options, out.tos);
            let mut segments = Vec::new();
            for_each_segment(&out, |header, payload| segments.push((*header, payload.concat())));
            assert!(options.unbounded_len() <= 40, "options that do not fit: {options:?}");
            let flow = self.flow_of(tuple);
            if header.flags.has(Flags::SYN) {
                self.iss[flow] = Some(header.seq);
            }
            if let Some(ts) = options.timestamps {
                self.tsval[flow] = ts.val;
            }
            for (header, payload) in segments {
                self.sent.push_back(Sent {
                    flow,
                    header,
                    options,
                    payload,
                    at: now,
                    tos,
                });
            }
        }
        panic!("the endpoint never stops sending");
    }

    fn options_in(&self, s: &Seg) -> TcpOptions {
        let bytes: Vec<u8> = hex_bytes(&s.mptcp);
        let mut options = TcpOptions::parse(&bytes);
        if let Some(d) = s.dss {
            options.mptcp.dss = Some(self.dss(d, self.local_key, self.peer_key, &s.payload));
        }
        options.mss = s.mss;
        options.window_scale = s.scale;
        options.sack_permitted = s.sack_permitted;
        options.timestamps = s.stamps.then(|| {
            s.stamp.unwrap_or(Timestamps {
                val: (self.now.as_millis() as u32).wrapping_add(PEER_CLOCK),
                ecr: self.tsval[s.flow],
            })
        });
        let base = self.iss[s.flow].unwrap_or_default();
        for (l, r) in &s.sack {
            options.sack.push(base + *l, base + *r);
        }
        options
    }

    /// A DSS with absolute numbers: acknowledgments count from `acked`'s IDSN, maps from `mapped`'s.
    fn dss(&self, d: RelativeDss, acked: u64, mapped: u64, payload: &[u8]) -> Dss {
        let data_ack = d.ack.map(|n| {
            let dsn = crypto::idsn(acked) + n;
            if d.short_ack {
                WireDsn::Short(dsn.0 as u32)
            } else {
                WireDsn::Long(dsn)
            }
        });
        let map = d.map.map(|(dsn, ssn, len)| {
            let dsn = crypto::idsn(mapped) + dsn;
            let sum = if len == 0 {
                0
            } else {
                crypto::dss_checksum(dsn, ssn, len, [payload])
            };
            DssMap {
                dsn: WireDsn::Long(dsn),
                ssn,
                len,
                checksum: self.checksums.then_some(sum ^ u16::from(d.wrong_sum)),
            }
        });
        Dss {
            data_ack,
            map,
            data_fin: d.fin,
        }
    }

    /// The peer's segment arrives.
    pub fn inject(&mut self, s: Seg) {
        let options = self.options_in(&s);
        let tuple = self.tuple(s.flow);
        let base = self.iss[s.flow].unwrap_or_default();
        let header = Header {
            src_port: tuple.remote.port(),
            dst_port: tuple.local.port(),
            seq: PEER_ISN + s.seq,
            ack: if s.flags.has(Flags::ACK) {
                base + s.ack
            } else {
                SeqNum(0)
            },
            flags: s.flags,
            window: s.window,
        };
        let segment = Segment {
            header,
            options,
            payload: &s.payload,
        };
        let (src, dst) = (tuple.remote.ip(), tuple.local.ip());
        self.ep.handle_segment(self.now, src, dst, 0, &segment);
        self.drain();
    }

    /// An ICMP error about our segment with relative sequence number `seq`.
    pub fn inject_icmp(&mut self, flow: usize, seq: u32, kind: IcmpKind) {
        let FourTuple { local, remote } = self.tuple(flow);
        let seq = self.iss[flow].unwrap_or_default() + seq;
        self.ep.handle_icmp(self.now, local, remote, Some(seq), kind);
        self.drain();
    }

    fn sent_as_text(&self, s: &Sent) -> String {
        let h = &s.header;
        let ours = self.iss[s.flow].unwrap_or_default();
        let ack = if h.flags.has(Flags::ACK) {
            h.ack.diff(PEER_ISN) as u32
        } else {
            0
        };
        let sack: Vec<_> = relative(&s.options.sack, PEER_ISN);
        let only_mptcp = TcpOptions {
            mptcp: s.options.mptcp,
            ..TcpOptions::default()
        };
        let mut bytes = [0; 40];
        let n = only_mptcp.emit(&mut bytes);
        let mptcp = options_text(&bytes[..n]);
        text(s.flow, h.flags, h.seq.diff(ours) as u32, ack, &sack, &mptcp, &s.payload)
    }

    fn expected_as_text(&self, s: &Seg) -> String {
        // Options given in hexadecimal are compared as they stand.
        let mut mptcp = options_text(&hex_bytes(&s.mptcp));
        if let Some(d) = s.dss {
            let mut options = TcpOptions::default();
            options.mptcp.dss = Some(self.dss(d, self.peer_key, self.local_key, &s.payload));
            let mut bytes = [0; 40];
            let n = options.emit(&mut bytes);
            mptcp = [options_text(&bytes[..n]), mptcp].join(" ").trim_end().to_owned();
        }
        text(s.flow, s.flags, s.seq, s.ack, &s.sack, &mptcp, &s.payload)
    }

    /// The endpoint sent this next.
    #[track_caller]
    pub fn expect(&mut self, expected: Seg) -> Sent {
        let want = self.expected_as_text(&expected);
        let Some(sent) = self.sent.pop_front() else {
            panic!("nothing was sent, expected\n  {want}");
        };
        let got = self.sent_as_text(&sent);
        assert!(
            got == want,
            "sent\n  {got}\nexpected\n  {want}\nthen {:#?}",
            self.waiting()
        );
        sent
    }

    /// Among what the endpoint sent is this; it is taken out.
    #[track_caller]
    pub fn expect_among(&mut self, expected: Seg) -> Sent {
        let want = self.expected_as_text(&expected);
        let found = (0..self.sent.len()).find(|i| self.sent_as_text(&self.sent[*i]) == want);
        let found = found.unwrap_or_else(|| panic!("expected\n  {want}\nsent {:#?}", self.waiting()));
        self.sent.remove(found).expect("just found")
    }

    /// What was sent and not looked at, as text.
    pub fn waiting(&self) -> Vec<String> {
        self.sent.iter().map(|s| self.sent_as_text(s)).collect()
    }

    /// Takes everything that was sent and not looked at.
    pub fn take_sent(&mut self) -> Vec<Sent> {
        self.sent.drain(..).collect()
    }

    /// Nothing (more) was sent.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        assert!(self.sent.is_empty(), "sent {:#?}", self.waiting());
    }

    /// Only a RST (with whatever options) was sent on this flow; its MP_TCPRST reason.
    #[track_caller]
    pub fn expect_reset(&mut self, flow: usize) -> Option<u8> {
        let rst = self
            .sent
            .iter()
            .position(|s| s.flow == flow && s.header.flags.has(Flags::RST));
        let rst = rst.unwrap_or_else(|| panic!("no RST on {flow}: {:#?}", self.waiting()));
        let sent = self.sent.remove(rst).expect("just found");
        sent.options.mptcp.tcprst.map(|r| r.reason)
    }

    /// Time passes, and timers fire when they are due.
    pub fn advance(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
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

    // ---- the application --------------------------------------------------------------------------------------

    /// Writes; all of it must be taken.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        assert_eq!(self.ep.send(self.now, self.conn, bytes), Ok(bytes.len()));
        self.drain();
    }

    /// Reads all there is.
    pub fn recv(&mut self) -> Result<Vec<u8>, CallError> {
        let (a, b) = self.ep.recv(self.conn)?;
        let bytes = [a, b].concat();
        self.ep.consume(self.now, self.conn, bytes.len());
        self.drain();
        Ok(bytes)
    }

    pub fn shutdown(&mut self) {
        self.ep.shutdown_write(self.now, self.conn);
        self.drain();
    }

    pub fn close(&mut self) {
        self.ep.close(self.now, self.conn);
        self.drain();
    }

    pub fn abort(&mut self) {
        self.ep.abort(self.now, self.conn);
        self.drain();
    }

    pub fn set_paths(&mut self, paths: &[LocalPath]) {
        self.ep.set_paths(self.now, self.conn, paths);
        self.drain();
    }

    pub fn replace_paths(&mut self, paths: &[LocalPath]) {
        self.ep.replace_paths(self.now, self.conn, paths);
        self.drain();
    }

    /// Something that the program does to a subflow.
    pub fn steer<R>(&mut self, f: impl FnOnce(&mut Endpoint, Instant, ConnId) -> R) -> R {
        let result = f(&mut self.ep, self.now, self.conn);
        self.drain();
        result
    }

    /// The caller may not open what was wanted.
    pub fn refuse(&mut self, want: u32) {
        self.ep.subflow_refused(self.now, self.conn, want);
        self.drain();
    }

    /// The endpoint wants this flow: it gets it, with this nonce; its SYN is sent but not looked at.
    #[track_caller]
    pub fn open(&mut self, flow: usize, nonce: u32) -> SubflowId {
        let tuple = self.tuple(flow);
        let at = self.events.iter().position(|e| {
            matches!(e, Event::WantSubflow { local, remote, .. }
                if *local == tuple.local.ip() && *remote == tuple.remote)
        });
        let at = at.unwrap_or_else(|| panic!("flow {flow} is not wanted: {:?}", self.events));
        let Some(Event::WantSubflow { want, .. }) = self.events.remove(at) else {
            unreachable!("just found")
        };
        self.random(&[u64::from(nonce)]);
        let id = self.ep.open_subflow(self.now, self.conn, want, tuple.local);
        self.drain();
        id.expect("open_subflow")
    }

    /// The events since the last look.
    pub fn events(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }

    /// The peer of a client accepts a join of ours that was just opened on `flow`: after it the flow is usable.
    #[track_caller]
    pub fn join_as_client(&mut self, flow: usize) {
        self.accept_join(flow);
        self.expect_nothing();
    }

    /// The same, and what is sent in answer is not looked at.
    #[track_caller]
    pub fn accept_join(&mut self, flow: usize) {
        self.join_slowly(flow, 0);
    }

    /// The same over a path with this round-trip time.
    #[track_caller]
    pub fn join_slowly(&mut self, flow: usize, rtt_ms: u64) {
        let nonce = 0xd644_d3e2;
        self.open(flow, nonce);
        let sent = self.sent.pop_front().expect("the SYN of a join");
        assert!(sent.options.mptcp.join.is_some() && sent.flow == flow);
        self.advance(rtt_ms);
        let remote_nonce = 0x5513_66b1;
        let hmac = crypto::join_synack_hmac(self.peer_key, self.local_key, remote_nonce, nonce);
        self.inject(syn_ack().on(flow).mp(&format!("1e101000{hmac:016x}{remote_nonce:08x}")));
        let sent = self.sent.pop_front().expect("the third ACK of a join");
        assert!(sent.options.mptcp.join.is_some());
        self.inject(ack(1, 1).on(flow).dack32(1));
    }

    /// The peer of a server joins on `flow`; the fourth ACK is taken.
    #[track_caller]
    pub fn join_as_server(&mut self, flow: usize, id: u8) {
        let (nonce, local_nonce) = (0xd644_d3e2, 0x5513_66b1);
        self.random(&[u64::from(local_nonce)]);
        let token = crypto::token(self.local_key);
        self.inject(syn().on(flow).mp(&format!("1e0c10{id:02x}{token:08x}{nonce:08x}")));
        let sent = self.sent.pop_front().expect("the SYN/ACK of a join");
        assert!(sent.options.mptcp.join.is_some());
        let hmac = crypto::join_ack_hmac(self.peer_key, self.local_key, nonce, local_nonce);
        self.inject(ack(1, 1).on(flow).mp(&format!("1e181000{}", hex(&hmac))));
        let fourth = self.sent.pop_front().expect("the fourth ACK");
        assert!(fourth.options.mptcp.dss.is_some() && fourth.flow == flow);
        self.expect_nothing();
    }

    /// What `info` says; None when the connection is gone.
    pub fn info(&self) -> Option<crate::mptcp::endpoint::ConnInfo> {
        self.ep.info(self.conn)
    }

    /// The state name of the subflow on `flow`.
    pub fn state(&self, flow: usize) -> Option<&'static str> {
        let tuple = self.tuple(flow);
        self.info()?.subflows.iter().find(|s| s.tuple == tuple).map(|s| s.state)
    }

    /// Relative acknowledgment number for all of a segment that the endpoint sent.
    pub fn end_of(&self, sent: &Sent) -> u32 {
        let iss = self.iss[sent.flow].unwrap_or_default();
        sent.header.seq.diff(iss) as u32 + sent.payload.len() as u32
    }

    /// Relative acknowledgment number of a segment that the endpoint sent.
    pub fn ack_of(&self, sent: &Sent) -> u32 {
        sent.header.ack.diff(PEER_ISN) as u32
    }
}

fn relative(blocks: &SackBlocks, base: SeqNum) -> Vec<(u32, u32)> {
    let slice = blocks.as_slice().iter();
    slice.map(|(l, r)| (l.diff(base) as u32, r.diff(base) as u32)).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

fn hex_bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| *c != ' ')
        .map(|c| c.to_digit(16).expect("hexadecimal"))
        .collect();
    digits.chunks(2).map(|d| (d[0] * 16 + d[1]) as u8).collect()
}

/// Options without padding, a blank between two.
fn options_text(mut bytes: &[u8]) -> String {
    let mut all = Vec::new();
    while let Some(kind) = bytes.first() {
        let len = if *kind == 1 { 1 } else { usize::from(bytes[1]) };
        if *kind != 1 {
            all.push(hex(&bytes[..len]));
        }
        bytes = &bytes[len..];
    }
    all.join(" ")
}

fn text(flow: usize, flags: Flags, seq: u32, ack: u32, sack: &[(u32, u32)], mptcp: &str, payload: &[u8]) -> String {
    let mut text = format!("flow {flow} ");
    for (flag, letter) in [
        (Flags::SYN, 'S'),
        (Flags::FIN, 'F'),
        (Flags::RST, 'R'),
        (Flags::ACK, 'A'),
    ] {
        if flags.has(flag) {
            text.push(letter);
        }
    }
    let _ = write!(text, " seq={seq} ack={ack} len={}", payload.len());
    if !payload.is_empty() {
        let shown = &payload[..payload.len().min(24)];
        let _ = write!(text, " \"{}\"", shown.escape_ascii());
        let sum = payload
            .iter()
            .fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(*b)));
        let _ = write!(text, "#{sum:x}");
    }
    if !sack.is_empty() {
        let _ = write!(text, " SACK {sack:?}");
    }
    if !mptcp.is_empty() {
        let _ = write!(text, " {mptcp}");
    }
    text
}

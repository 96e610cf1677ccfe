//! The hostile server: packet sockets and a seed. It has addresses that its host does not know of, so that the kernel there says nothing.

use mptcp::wire::{checksum, verify_checksum, Flags, MpCapable, MpCapableBody, MpJoin, Segment, SeqNum, TcpOptions};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{sendto, socket_with, AddressFamily, Protocol, SendFlags, SocketFlags, SocketType};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Where its addresses are.
pub const NETWORK: &str = "203.0.113.0/24";

/// One of its addresses.
pub fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, host)
}

/// Room for IP and TCP headers with all options, and the payload of one segment.
const PACKET_MAX: usize = 1500;
const IP_LEN: usize = 20;
const TCP_LEN: usize = 20;
/// Between two looks at its orders, milliseconds.
const PAUSE_MS: i64 = 20;

/// What the test wants of a server that runs.
#[derive(Default)]
pub struct Orders {
    closing: AtomicBool,
    stop: AtomicBool,
}

impl Orders {
    /// From now on every connection is reset.
    pub fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    /// The server returns when the result is dropped.
    pub fn stop_when_dropped(&self) -> impl Drop + '_ {
        struct Stop<'o>(&'o AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        Stop(&self.stop)
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `n`, which is not 0.
    fn below(&mut self, n: u32) -> u32 {
        (self.next() % u64::from(n)) as u32
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Addresses of a flow as they stand in the client's packets: client, server.
type Flow = (SocketAddrV4, SocketAddrV4);

/// What it knows of one subflow.
#[derive(Clone, Copy)]
struct Known {
    /// Next number to send.
    next: SeqNum,
    /// What the client sends next.
    client_next: SeqNum,
    /// What the client expects of us, by its last acknowledgment.
    client_ack: SeqNum,
    /// Our first number, and the client's.
    start: (SeqNum, SeqNum),
    /// Our initial data number, and the client's, 0 until it shows its key.
    idsn: (u64, u64),
}

/// See the module's head.
pub struct Server {
    heard: File,
    raw: OwnedFd,
    random: Random,
    flows: BTreeMap<Flow, Known>,
    left: usize,
    sent: usize,
}

impl Server {
    /// In the calling thread's network namespace; it says at most `segments` segments before it only resets.
    pub fn open(seed: u64, segments: usize) -> io::Result<Server> {
        let ip = NonZeroU32::new(u32::from((libc::ETH_P_IP as u16).to_be())).map(Protocol::from_raw);
        let heard = socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::NONBLOCK, ip)?;
        let with_header = NonZeroU32::new(libc::IPPROTO_RAW as u32).map(Protocol::from_raw);
        let raw = socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::empty(), with_header)?;
        Ok(Server {
            heard: heard.into(),
            raw,
            random: Random(seed),
            flows: BTreeMap::new(),
            left: segments,
            sent: 0,
        })
    }

    /// Segments that it has sent before it began to reset.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Serves until it is ordered to stop.
    pub fn serve(&mut self, orders: &Orders) -> io::Result<()> {
        let mut told = false;
        while !orders.stop.load(Relaxed) {
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: PAUSE_MS * 1_000_000,
            };
            match poll(&mut [PollFd::new(&self.heard, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if orders.closing.load(Relaxed) {
                self.left = 0;
                if !std::mem::replace(&mut told, true) {
                    self.reset_all()?;
                }
            }
            let mut packet = [0; PACKET_MAX];
            let mut silent = true;
            while let Ok(len) = self.heard.read(&mut packet) {
                silent = false;
                self.hear(&packet[..len])?;
            }
            if silent {
                for flow in self.flows.keys().copied().collect::<Vec<_>>() {
                    self.say_something(flow)?;
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, packet: &[u8]) -> io::Result<()> {
        let Some((flow, tcp)) = tcp_of(packet) else {
            return Ok(());
        };
        let (client, server) = (*flow.0.ip(), *flow.1.ip());
        if server.octets()[..3] != [203, 0, 113] || !verify_checksum(client.into(), server.into(), tcp) {
            return Ok(());
        }
        let Ok(segment) = Segment::parse(tcp) else {
            return Ok(());
        };
        let h = segment.header;
        if h.flags.has(Flags::RST) {
            self.flows.remove(&flow);
            return Ok(());
        }
        if self.left == 0 {
            return self.reset(flow, &segment);
        }
        if h.flags.has(Flags::SYN) {
            return self.accept(flow, &segment);
        }
        let Some(known) = self.flows.get_mut(&flow) else {
            return self.reset(flow, &segment);
        };
        let end = h.seq + segment.payload.len() as u32 + u32::from(h.flags.has(Flags::FIN));
        if end.gt(known.client_next) {
            known.client_next = end;
        }
        known.client_ack = h.ack;
        if let Some(MpCapable {
            body: MpCapableBody::Ack { sender_key, .. } | MpCapableBody::AckData { sender_key, .. },
            ..
        }) = segment.options.mptcp.capable
        {
            known.idsn.1 = idsn(sender_key);
        }
        for _ in 0..=self.random.below(3) {
            self.say_something(flow)?;
        }
        Ok(())
    }

    /// A SYN/ACK, mostly one that speaks MPTCP.
    fn accept(&mut self, flow: Flow, syn: &Segment<'_>) -> io::Result<()> {
        let start = SeqNum(self.random.next() as u32);
        let key = self.random.next();
        let known = Known {
            next: start + 1,
            client_next: syn.header.seq + 1,
            client_ack: start + 1,
            start: (start + 1, syn.header.seq + 1),
            idsn: (idsn(key), 0),
        };
        self.flows.insert(flow, known);
        let mut options = TcpOptions::default();
        if syn.options.mptcp.capable.is_some() && !self.random.one_in(8) {
            options.mptcp.capable = Some(MpCapable {
                version: 1,
                flags: 1,
                body: MpCapableBody::SynAck { key },
            });
        } else if syn.options.mptcp.join.is_some() {
            options.mptcp.join = Some(MpJoin::SynAck {
                backup: self.random.one_in(2),
                address_id: self.random.next() as u8,
                hmac: self.random.next(),
                nonce: self.random.next() as u32,
            });
        }
        let mut bytes = [0; 40];
        let len = options.emit(&mut bytes);
        self.send(
            flow,
            (start, syn.header.seq + 1),
            Flags::SYN.with(Flags::ACK),
            &bytes[..len],
            &[],
        )
    }

    /// A segment that is right in most things, or in few.
    fn say_something(&mut self, flow: Flow) -> io::Result<()> {
        let Some(&known) = self.flows.get(&flow) else {
            return Ok(());
        };
        let r = &mut self.random;
        let payload_len = if r.one_in(2) { r.below(1300) as usize } else { 0 };
        let off = r.below(4000);
        let seq = match r.below(8) {
            0 => known.next + off,
            1 => known.next - off,
            _ => known.next,
        };
        let ack = match r.below(16) {
            0 => known.client_next + r.below(4000),
            1 => known.client_next - r.below(4000),
            _ => known.client_next,
        };
        let flags = match r.below(64) {
            0 => Flags(r.next() as u8),
            1 => Flags::FIN.with(Flags::ACK),
            2 => Flags::SYN.with(Flags::ACK),
            _ => Flags::ACK.with(Flags::PSH),
        };
        let options = options(r, &known, seq, payload_len);
        let payload = r.bytes(payload_len);
        if seq == known.next {
            if let Some(known) = self.flows.get_mut(&flow) {
                known.next = seq + payload_len as u32;
            }
        }
        self.send(flow, (seq, ack), flags, &options, &payload)
    }

    fn reset_all(&mut self) -> io::Result<()> {
        for (flow, known) in std::mem::take(&mut self.flows) {
            self.packet(flow, (known.client_ack, SeqNum(0)), Flags::RST, &[], &[])?;
        }
        Ok(())
    }

    /// RFC 9293 section 3.10.7.1.
    fn reset(&mut self, flow: Flow, of: &Segment<'_>) -> io::Result<()> {
        let h = of.header;
        if h.flags.has(Flags::ACK) {
            return self.packet(flow, (h.ack, SeqNum(0)), Flags::RST, &[], &[]);
        }
        let end = h.seq + of.payload.len() as u32 + u32::from(h.flags.has(Flags::SYN));
        self.packet(flow, (SeqNum(0), end), Flags::RST.with(Flags::ACK), &[], &[])
    }

    fn send(
        &mut self,
        flow: Flow,
        numbers: (SeqNum, SeqNum),
        flags: Flags,
        options: &[u8],
        payload: &[u8],
    ) -> io::Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        self.sent += 1;
        self.packet(flow, numbers, flags, options, payload)
    }

    /// One packet from the server to the client of `flow`; `options` are padded.
    fn packet(
        &mut self,
        (client, server): Flow,
        (seq, ack): (SeqNum, SeqNum),
        flags: Flags,
        options: &[u8],
        payload: &[u8],
    ) -> io::Result<()> {
        let mut tcp = Vec::with_capacity(PACKET_MAX);
        tcp.extend(server.port().to_be_bytes());
        tcp.extend(client.port().to_be_bytes());
        tcp.extend(seq.0.to_be_bytes());
        tcp.extend(ack.0.to_be_bytes());
        let header_len = TCP_LEN + options.len().next_multiple_of(4);
        tcp.extend([(header_len as u8 / 4) << 4, flags.0, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(options);
        tcp.resize(header_len, 1);
        let sum = checksum((*server.ip()).into(), (*client.ip()).into(), &tcp, [payload, &[]]);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        tcp.extend(payload);
        // The kernel fills in length, identification and checksum.
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, libc::IPPROTO_TCP as u8, 0, 0];
        packet.extend(server.ip().octets());
        packet.extend(client.ip().octets());
        packet.extend(tcp);
        sendto(&self.raw, &packet, SendFlags::empty(), &SocketAddr::from(client))?;
        Ok(())
    }
}

/// Options of a segment: a DSS whose mapping is right, one that is not, another MPTCP option of any content, or mere bytes.
fn options(r: &mut Random, known: &Known, seq: SeqNum, payload_len: usize) -> Vec<u8> {
    // Relative, as a DSS has it: the SYN took number 0 (RFC 8684 section 3.3).
    let ssn = (seq.diff(known.start.0) as u32).wrapping_add(1);
    let mut option = match r.below(8) {
        0 => return Vec::new(),
        1..=4 => {
            let acked = known.client_next.diff(known.start.1) as u64 + 1;
            let (dsn, ack, len) = match r.below(4) {
                0 => (r.next(), r.next(), r.next() as u16),
                _ => (u64::from(ssn), acked, payload_len as u16),
            };
            // All fields, 64 bits wide; a mapping of nothing would be an infinite one.
            let mut dss = vec![30, 26, 0x20, 0x0f];
            dss.extend(known.idsn.1.wrapping_add(ack).to_be_bytes());
            if len == 0 {
                dss[1..4].copy_from_slice(&[12, 0x20, 0x03]);
                return dss;
            }
            dss.extend(known.idsn.0.wrapping_add(dsn).to_be_bytes());
            dss.extend(ssn.to_be_bytes());
            dss.extend(len.to_be_bytes());
            dss
        }
        5..=6 => {
            let body_len = r.below(22) as usize;
            let mut any = vec![30, body_len as u8 + 4, r.next() as u8, r.next() as u8];
            any.extend(r.bytes(body_len));
            any
        }
        _ => {
            let len = r.below(40) as usize;
            r.bytes(len)
        }
    };
    option.truncate(40);
    option
}

/// Initial data sequence number of whose key this is (RFC 8684 section 3.2).
fn idsn(key: u64) -> u64 {
    let digest = Sha256::digest(key.to_be_bytes());
    digest[24..]
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// A TCP segment in an IPv4 packet without options, and its flow.
fn tcp_of(packet: &[u8]) -> Option<(Flow, &[u8])> {
    if packet.len() < IP_LEN + TCP_LEN || packet[0] != 0x45 || i32::from(packet[9]) != libc::IPPROTO_TCP {
        return None;
    }
    let end = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let tcp = packet.get(IP_LEN..end)?;
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let port = |at: usize| u16::from_be_bytes([packet[IP_LEN + at], packet[IP_LEN + at + 1]]);
    let (source, target) = (
        SocketAddrV4::new(address(12), port(0)),
        SocketAddrV4::new(address(16), port(2)),
    );
    Some(((source, target), tcp))
}

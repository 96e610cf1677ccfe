//! An Ethernet frame that holds one whole TCP segment over IPv4 or IPv6, to be read and changed in place. Written on raw bytes, apart from
//! the crate's own `wire`, so that neither can hide the other's mistake. Pure; leaves alone what it does not understand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

const ETHERNET: usize = 14;
/// Options take at most this much (data offset 15 less the fixed header).
const OPTIONS_MAX: usize = 40;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;
pub const CWR: u8 = 0x80;

/// MPTCP's option kind and the subtypes that the boxes look at (RFC 8684 section 8).
pub const MPTCP: u8 = 30;
pub const MP_CAPABLE: u8 = 0;
pub const MP_JOIN: u8 = 1;
pub const ADD_ADDR: u8 = 3;

const NOP: u8 = 1;
const MSS: u8 = 2;
const SACK: u8 = 5;

/// What a frame is to the lab.
pub enum Parsed {
    /// A whole TCP segment with a right checksum.
    Tcp(TcpFrame),
    /// A TCP segment whose checksum is wrong: nobody repairs it by accident.
    BadChecksum(Vec<u8>),
    /// Anything else.
    Other(Vec<u8>),
}

/// One TCP segment in its frame. Lengths and checksums are brought up to date by `into_frame`, and only if something changed.
#[derive(Clone)]
pub struct TcpFrame {
    bytes: Vec<u8>,
    tcp: usize,
    changed: bool,
}

/// One option: its kind and where it stands in the frame (kind and length bytes included).
pub struct TcpOption {
    pub kind: u8,
    pub at: Range<usize>,
}

/// Address resolution (ARP, IPv6 neighbour and router discovery), which random loss must not touch.
pub fn is_neighbour_discovery(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        Some([0x86, 0xdd]) => frame.get(20) == Some(&58) && matches!(frame.get(54), Some(133..=137)),
        _ => false,
    }
}

/// Reads a frame.
pub fn parse(mut bytes: Vec<u8>) -> Parsed {
    let Some((tcp, end)) = tcp_bounds(&bytes) else {
        return Parsed::Other(bytes);
    };
    bytes.truncate(end);
    let frame = TcpFrame {
        bytes,
        tcp,
        changed: false,
    };
    match frame.tcp_sum() {
        0xffff => Parsed::Tcp(frame),
        _ => Parsed::BadChecksum(frame.bytes),
    }
}

/// Where the TCP header begins and the IP packet ends, if this is an unfragmented TCP segment with sound lengths.
fn tcp_bounds(bytes: &[u8]) -> Option<(usize, usize)> {
    let ip = bytes.get(ETHERNET..)?;
    let (header, total) = match bytes[12..14] {
        [0x08, 0x00] => {
            let fixed: &[u8; 20] = ip.first_chunk()?;
            let fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff;
            if fixed[0] >> 4 != 4 || fixed[9] != 6 || fragment != 0 {
                return None;
            }
            let total = u16::from_be_bytes([fixed[2], fixed[3]]) as usize;
            ((fixed[0] & 15) as usize * 4, total)
        }
        [0x86, 0xdd] => {
            let fixed: &[u8; 40] = ip.first_chunk()?;
            if fixed[0] >> 4 != 6 || fixed[6] != 6 {
                return None;
            }
            (40, 40 + u16::from_be_bytes([fixed[4], fixed[5]]) as usize)
        }
        _ => return None,
    };
    if header < 20 || total > ip.len() || total < header + 20 {
        return None;
    }
    let data_offset = (ip[header + 12] >> 4) as usize * 4;
    (data_offset >= 20 && header + data_offset <= total).then_some((ETHERNET + header, ETHERNET + total))
}

/// The ones' complement sum of RFC 1071 over `bytes`, on top of `sum`, not yet folded.
fn sum16(bytes: &[u8], sum: u64) -> u64 {
    let pairs = bytes.chunks_exact(2);
    let odd = pairs.remainder().first().map_or(0, |&b| (b as u64) << 8);
    sum + odd + pairs.map(|p| u16::from_be_bytes([p[0], p[1]]) as u64).sum::<u64>()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

impl TcpFrame {
    fn is_v6(&self) -> bool {
        self.bytes[12] == 0x86
    }

    /// Where source and destination address stand.
    fn address_ranges(&self) -> [Range<usize>; 2] {
        let (first, len) = if self.is_v6() {
            (ETHERNET + 8, 16)
        } else {
            (ETHERNET + 12, 4)
        };
        [first..first + len, first + len..first + 2 * len]
    }

    fn address(&self, which: usize) -> SocketAddr {
        let octets = &self.bytes[self.address_ranges()[which].clone()];
        let ip = match <[u8; 4]>::try_from(octets) {
            Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
            Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).expect("4 or 16 octets"))),
        };
        SocketAddr::new(ip, self.u16_at(self.tcp + 2 * which))
    }

    fn set_address(&mut self, which: usize, to: SocketAddr) {
        let range = self.address_ranges()[which].clone();
        match (to.ip(), range.len()) {
            (IpAddr::V4(ip), 4) => self.bytes[range].copy_from_slice(&ip.octets()),
            (IpAddr::V6(ip), 16) => self.bytes[range].copy_from_slice(&ip.octets()),
            _ => unreachable!("an address of the frame's own family"),
        }
        self.put(self.tcp + 2 * which, &to.port().to_be_bytes());
    }

    /// Source address and port.
    pub fn source(&self) -> SocketAddr {
        self.address(0)
    }

    /// Destination address and port.
    pub fn destination(&self) -> SocketAddr {
        self.address(1)
    }

    /// Another source; the family must be the frame's.
    pub fn set_source(&mut self, to: SocketAddr) {
        self.set_address(0, to);
    }

    /// Another destination; the family must be the frame's.
    pub fn set_destination(&mut self, to: SocketAddr) {
        self.set_address(1, to);
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes([
            self.bytes[at],
            self.bytes[at + 1],
            self.bytes[at + 2],
            self.bytes[at + 3],
        ])
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        self.bytes[at..at + value.len()].copy_from_slice(value);
        self.changed = true;
    }

    /// Sequence number.
    pub fn seq(&self) -> u32 {
        self.u32_at(self.tcp + 4)
    }

    pub fn set_seq(&mut self, seq: u32) {
        self.put(self.tcp + 4, &seq.to_be_bytes());
    }

    /// Acknowledgement number, whatever the ACK flag says.
    pub fn ack(&self) -> u32 {
        self.u32_at(self.tcp + 8)
    }

    pub fn set_ack(&mut self, ack: u32) {
        self.put(self.tcp + 8, &ack.to_be_bytes());
    }

    /// The eight low flags.
    pub fn flags(&self) -> u8 {
        self.bytes[self.tcp + 13]
    }

    pub fn set_flags(&mut self, flags: u8) {
        self.put(self.tcp + 13, &[flags]);
    }

    /// True when all of `flags` are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags() & flags == flags
    }

    /// The window field, unscaled.
    pub fn window(&self) -> u16 {
        self.u16_at(self.tcp + 14)
    }

    pub fn set_window(&mut self, window: u16) {
        self.put(self.tcp + 14, &window.to_be_bytes());
    }

    fn payload_at(&self) -> usize {
        self.tcp + (self.bytes[self.tcp + 12] >> 4) as usize * 4
    }

    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.payload_at()..]
    }

    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.changed = true;
        let at = self.payload_at();
        &mut self.bytes[at..]
    }

    /// Other payload, options and header fields kept.
    pub fn set_payload(&mut self, payload: &[u8]) {
        self.changed = true;
        self.bytes.truncate(self.payload_at());
        self.bytes.extend_from_slice(payload);
    }

    /// The option bytes, padding included.
    pub fn option_bytes(&self) -> &[u8] {
        debug_assert!(self.payload_at() - self.tcp - 20 <= OPTIONS_MAX);
        &self.bytes[self.tcp + 20..self.payload_at()]
    }

    /// The options that have a length, up to the first malformed one.
    pub fn options(&self) -> Vec<TcpOption> {
        let mut found = Vec::new();
        let (mut at, end) = (self.tcp + 20, self.payload_at());
        while at < end {
            match self.bytes[at] {
                0 => break,
                NOP => at += 1,
                kind => {
                    let len = if at + 1 < end { self.bytes[at + 1] as usize } else { 0 };
                    if len < 2 || at + len > end {
                        break;
                    }
                    found.push(TcpOption { kind, at: at..at + len });
                    at += len;
                }
            }
        }
        found
    }

    /// The subtypes of the MPTCP options in this segment.
    pub fn mptcp_subtypes(&self) -> Vec<u8> {
        let mptcp = self.options().into_iter().filter(|o| o.kind == MPTCP && o.at.len() > 2);
        mptcp.map(|o| self.bytes[o.at.start + 2] >> 4).collect()
    }

    /// Overwrites with NOPs the MPTCP options whose subtype `which` picks; returns how many.
    pub fn strip_mptcp(&mut self, which: impl Fn(u8) -> bool) -> usize {
        let mut stripped = 0;
        for option in self.options() {
            if option.kind == MPTCP && option.at.len() > 2 && which(self.bytes[option.at.start + 2] >> 4) {
                self.bytes[option.at].fill(NOP);
                stripped += 1;
            }
        }
        self.changed |= stripped > 0;
        stripped
    }

    /// Subtracts `by` from every edge in SACK blocks.
    pub fn shift_sack(&mut self, by: u32) {
        for option in self.options().into_iter().filter(|o| o.kind == SACK) {
            let mut at = option.at.start + 2;
            while at + 4 <= option.at.end {
                let edge = self.u32_at(at).wrapping_sub(by);
                self.put(at, &edge.to_be_bytes());
                at += 4;
            }
        }
    }

    /// Rewrites the MSS option, if there is one.
    pub fn map_mss(&mut self, change: impl Fn(u16) -> u16) {
        for option in self.options().into_iter().filter(|o| o.kind == MSS && o.at.len() == 4) {
            let mss = change(self.u16_at(option.at.start + 2));
            self.put(option.at.start + 2, &mss.to_be_bytes());
        }
    }

    /// Adds to the IPv4 identification, so that the pieces of a split packet have names of their own. IPv6 has none.
    pub fn advance_ip_id(&mut self, by: u16) {
        if !self.is_v6() {
            let id = self.u16_at(ETHERNET + 4).wrapping_add(by);
            self.put(ETHERNET + 4, &id.to_be_bytes());
        }
    }

    /// Length of the IP packet.
    pub fn ip_len(&self) -> usize {
        self.bytes.len() - ETHERNET
    }

    /// Folded sum of pseudo header and segment: ffff when the checksum in it is right (RFC 9293 section 3.1).
    fn tcp_sum(&self) -> u16 {
        let [source, destination] = self.address_ranges();
        let len = (self.bytes.len() - self.tcp) as u64;
        let pseudo = sum16(&self.bytes[source.start..destination.end], 6 + len);
        fold(sum16(&self.bytes[self.tcp..], pseudo))
    }

    /// The frame's bytes, and whether anything was changed.
    pub fn into_frame(mut self) -> (Vec<u8>, bool) {
        if self.changed {
            self.update_lengths_and_checksums();
        }
        (self.bytes, self.changed)
    }

    fn update_lengths_and_checksums(&mut self) {
        let ip_len = self.ip_len();
        if self.is_v6() {
            self.put(ETHERNET + 4, &((ip_len - 40) as u16).to_be_bytes());
        } else {
            self.put(ETHERNET + 2, &(ip_len as u16).to_be_bytes());
            self.put(ETHERNET + 10, &[0, 0]);
            let sum = !fold(sum16(&self.bytes[ETHERNET..self.tcp], 0));
            self.put(ETHERNET + 10, &sum.to_be_bytes());
        }
        self.put(self.tcp + 16, &[0, 0]);
        let sum = !self.tcp_sum();
        self.put(self.tcp + 16, &sum.to_be_bytes());
    }
}

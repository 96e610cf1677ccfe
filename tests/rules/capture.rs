//! What went over a wire: the lab's captures, read for what the headers of TCP segments say.
#![allow(dead_code, reason = "every test uses its own part")]

use crate::lab::Lab;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A capture under way; the file goes with it.
pub struct WireCapture<'a> {
    lab: &'a Lab,
    wire: usize,
    path: PathBuf,
}

/// One TCP segment.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its sender.
    pub from: SocketAddr,
    /// Its receiver.
    pub to: SocketAddr,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags (RFC 9293 section 3.1).
    pub flags: u8,
    /// The window as it stands there (RFC 7323 section 2.2: to be shifted, but not in a SYN).
    pub window: u16,
    /// The shift that a SYN announces.
    pub shift: Option<u8>,
    /// The value of the option Maximum Segment Size.
    pub mss: Option<u16>,
    /// Subtypes of the MPTCP options (RFC 8684 section 8).
    pub mptcp: Vec<u8>,
    /// Bytes of payload.
    pub payload: Vec<u8>,
}

/// The flag SYN.
pub const SYN: u8 = 2;
/// The flag RST.
pub const RST: u8 = 4;

impl Segment {
    /// It has a SYN.
    pub fn is_syn(&self) -> bool {
        self.flags & SYN != 0
    }

    /// It has a RST.
    pub fn is_reset(&self) -> bool {
        self.flags & RST != 0
    }
}

impl<'a> WireCapture<'a> {
    pub fn start(lab: &'a Lab, wire: usize) -> WireCapture<'a> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mptcp-capture-{}-{number}.pcap", std::process::id()));
        lab.wire(wire).capture(Some(&path)).expect("a capture starts");
        WireCapture { lab, wire, path }
    }

    /// Every TCP segment that went by, in order.
    pub fn finish(self) -> Vec<Segment> {
        self.lab.wire(self.wire).capture(None).expect("a capture ends");
        let file = fs::read(&self.path).expect("the capture's file");
        // A file header of 24 bytes; before each frame its time, kept length and length in 16 bytes (pcap-savefile).
        let mut rest = &file[24..];
        let mut segments = Vec::new();
        while let Some((header, after)) = rest.split_at_checked(16) {
            let len = u32::from_ne_bytes(header[8..12].try_into().expect("four bytes")) as usize;
            let (frame, after) = after.split_at(len);
            segments.extend(segment(frame));
            rest = after;
        }
        segments
    }
}

impl Drop for WireCapture<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The segment in an Ethernet frame; None of what is no TCP, or a fragment.
fn segment(frame: &[u8]) -> Option<Segment> {
    let (packet, kind) = (frame.get(14..)?, &frame[12..14]);
    let (addresses, tos, ttl, tcp) = match kind {
        [0x08, 0x00] if packet.len() >= 20 && packet[9] == 6 => {
            let ip = |at: usize| {
                IpAddr::from(Ipv4Addr::new(
                    packet[at],
                    packet[at + 1],
                    packet[at + 2],
                    packet[at + 3],
                ))
            };
            let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            let tcp = packet.get(usize::from(packet[0] & 15) * 4..total)?;
            ([ip(12), ip(16)], packet[1], packet[8], tcp)
        }
        [0x86, 0xdd] if packet.len() >= 40 && packet[6] == 6 => {
            let ip = |at: usize| IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("16")));
            let len = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            let class = packet[0] << 4 | packet[1] >> 4;
            ([ip(8), ip(24)], class, packet[7], packet.get(40..40 + len)?)
        }
        _ => return None,
    };
    let number = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    let (mss, shift, mptcp) = options(tcp.get(20..header)?);
    Some(Segment {
        from: SocketAddr::new(addresses[0], number(0)?),
        to: SocketAddr::new(addresses[1], number(2)?),
        tos,
        ttl,
        seq: u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?),
        ack: u32::from_be_bytes(tcp.get(8..12)?.try_into().ok()?),
        flags: tcp[13],
        window: number(14)?,
        shift,
        mss,
        mptcp,
        payload: tcp.get(header..)?.to_vec(),
    })
}

/// The segment size, the window's shift, and the subtypes of MPTCP's options.
fn options(mut rest: &[u8]) -> (Option<u16>, Option<u8>, Vec<u8>) {
    let (mut mss, mut shift, mut mptcp) = (None, None, Vec::new());
    while let [kind, after @ ..] = rest {
        if *kind <= 1 {
            rest = after;
            continue;
        }
        let len = after.first().map_or(0, |len| usize::from(*len));
        let Some((option, after)) = rest.split_at_checked(len).filter(|_| len >= 2) else {
            break;
        };
        match option {
            [2, 4, a, b] => mss = Some(u16::from_be_bytes([*a, *b])),
            [3, 3, by] => shift = Some(*by),
            [30, _, first, ..] => mptcp.push(first >> 4),
            _ => {}
        }
        rest = after;
    }
    (mss, shift, mptcp)
}

//! What went over a wire: the lab's captures, read for addresses and ports of IPv4 TCP.

use crate::lab::Lab;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A capture under way; the file goes with it.
pub struct WireCapture<'a> {
    lab: &'a Lab,
    wire: usize,
    path: PathBuf,
}

impl<'a> WireCapture<'a> {
    pub fn start(lab: &'a Lab, wire: usize) -> WireCapture<'a> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mptcp-rules-{}-{number}.pcap", std::process::id()));
        lab.wire(wire).capture(Some(&path)).expect("a capture starts");
        WireCapture { lab, wire, path }
    }

    /// Source and destination of every TCP segment over IPv4.
    pub fn finish(self) -> Vec<(SocketAddrV4, SocketAddrV4)> {
        self.lab.wire(self.wire).capture(None).expect("a capture ends");
        let file = fs::read(&self.path).expect("the capture's file");
        // A file header of 24 bytes; before each frame its time, kept length and length in 16 bytes (pcap-savefile).
        let mut rest = &file[24..];
        let mut segments = Vec::new();
        while let Some((header, after)) = rest.split_at_checked(16) {
            let len = u32::from_ne_bytes(header[8..12].try_into().expect("four bytes")) as usize;
            let (frame, after) = after.split_at(len);
            segments.extend(tcp_addresses(frame));
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

fn tcp_addresses(frame: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4)> {
    let packet = frame.get(14..).filter(|_| frame[12..14] == [0x08, 0x00])?;
    if packet.len() < 20 || packet[9] != 6 {
        return None;
    }
    let segment = packet.get(usize::from(packet[0] & 15) * 4..)?;
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let port = |at: usize| Some(u16::from_be_bytes(segment.get(at..at + 2)?.try_into().ok()?));
    Some((
        SocketAddrV4::new(address(12), port(0)?),
        SocketAddrV4::new(address(16), port(2)?),
    ))
}

//! Segments between two connections of one engine: a queue in the place of a device, for a host's connections to itself
//! (`MPTCP_LOOPBACK=1`).
//!
//! The segments are those that a wire would carry, and come back by the same parser. The kernel sees none of them: a listening
//! socket, which hears the loopback device, would answer them too.
//!
//! Not here: checksums (nothing can change a byte), a limit (the peers' windows are one), and segments to another engine
//! (the kernel's TCP carries those connections).

use super::{for_each_segment, Incoming, Outgoing, LOOPBACK};
use crate::wire::{emit_header, Segment};
use core::net::IpAddr;
use core::ops::Range;

/// Bytes of an IP packet: the path MTU of the loopback device of Linux.
pub const MTU: u32 = 65_535;

/// Segments under way, in order.
#[derive(Default)]
pub struct OwnHost {
    arena: Vec<u8>,
    queue: Vec<Queued>,
    /// What `recv` reads while `send` may be called again.
    arena_read: Vec<u8>,
    queue_read: Vec<Queued>,
}

struct Queued {
    src: IpAddr,
    dst: IpAddr,
    bytes: Range<usize>,
}

impl OwnHost {
    /// Takes a segment.
    pub fn send(&mut self, out: &Outgoing<'_>) {
        for_each_segment(out, |header, payload| {
            let start = self.arena.len();
            let mut buf = [0; 60];
            let header_len = emit_header(header, &out.options, &mut buf);
            self.arena.extend_from_slice(&buf[..header_len]);
            self.arena.extend_from_slice(payload[0]);
            self.arena.extend_from_slice(payload[1]);
            self.queue.push(Queued {
                src: out.src,
                dst: out.dst,
                bytes: start..self.arena.len(),
            });
        });
    }

    /// Hands over what was taken before this call. False when that was nothing.
    pub fn recv(&mut self, sink: &mut dyn FnMut(Incoming<'_>)) -> bool {
        core::mem::swap(&mut self.arena, &mut self.arena_read);
        core::mem::swap(&mut self.queue, &mut self.queue_read);
        let heard = !self.queue_read.is_empty();
        for Queued { src, dst, bytes } in self.queue_read.drain(..) {
            // What we wrote ourselves is well formed.
            if let Ok(segment) = Segment::parse(&self.arena_read[bytes]) {
                sink(Incoming::Segment {
                    src,
                    dst,
                    iface: LOOPBACK,
                    segment,
                });
            }
        }
        self.arena_read.clear();
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Flags, Header, SeqNum, TcpOptions};

    fn heard(own_host: &mut OwnHost) -> Vec<(u32, Vec<u8>)> {
        let mut heard = Vec::new();
        own_host.recv(&mut |incoming| match incoming {
            Incoming::Segment { iface, segment, .. } => {
                assert_eq!(iface, LOOPBACK);
                heard.push((segment.header.seq.0, segment.payload.to_vec()));
            }
            Incoming::Icmp { .. } => panic!("no ICMP here"),
        });
        heard
    }

    #[test]
    fn segments_come_back_in_order_and_once() {
        let mut own_host = OwnHost::default();
        let out = Outgoing {
            src: [127, 0, 0, 1].into(),
            dst: [127, 0, 0, 2].into(),
            iface: LOOPBACK,
            header: Header {
                src_port: 1,
                dst_port: 2,
                seq: SeqNum(10),
                ack: SeqNum(0),
                flags: Flags::ACK,
                window: 1,
            },
            options: TcpOptions::default(),
            payload: [b"one ", b"two"],
            segment_size: 4,
            tos: 0,
            ttl: 0,
            mark: 0,
        };
        own_host.send(&out);
        assert_eq!(heard(&mut own_host), [(10, b"one ".to_vec()), (14, b"two".to_vec())]);
        assert_eq!(heard(&mut own_host), []);
    }
}

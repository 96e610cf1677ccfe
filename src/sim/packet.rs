//! A packet in flight, as values that middleboxes can work on. At both ends it passes through the real codec (`encode`), so that what does
//! not fit a TCP header, or reads back differently, is found.

use crate::link::{for_each_segment, Outgoing};
use crate::wire::segment::{emit_header, HEADER_LEN};
use crate::wire::{options::options_len, Flags, Header, ParseError, Segment, SeqNum, TcpOptions};
use core::net::{IpAddr, SocketAddr};

/// One IP packet with a TCP segment in it.
#[derive(Clone, PartialEq, Debug)]
pub struct Packet {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TCP header.
    pub header: Header,
    /// TCP options.
    pub options: TcpOptions,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Packet {
    /// Copies of the segments that the core wants sent, in order.
    pub fn from_outgoing(out: &Outgoing<'_>) -> Vec<Self> {
        let mut packets = Vec::new();
        for_each_segment(out, |header, payload| {
            packets.push(Packet {
                src: out.src,
                dst: out.dst,
                header: *header,
                options: out.options,
                payload: payload.concat(),
            });
        });
        packets
    }

    /// What a host answers to a segment that belongs to nothing (RFC 9293 section 3.10.7.1); None to a RST.
    pub fn reset_for(&self) -> Option<Packet> {
        if self.has(Flags::RST) {
            return None;
        }
        let (seq, ack, flags) = if self.has(Flags::ACK) {
            (self.header.ack, SeqNum(0), Flags::RST)
        } else {
            (SeqNum(0), self.end(), Flags::RST.with(Flags::ACK))
        };
        Some(Packet {
            src: self.dst,
            dst: self.src,
            header: Header {
                src_port: self.header.dst_port,
                dst_port: self.header.src_port,
                seq,
                ack,
                flags,
                window: 0,
            },
            options: TcpOptions::default(),
            payload: Vec::new(),
        })
    }

    /// TCP header and payload as bytes; options that do not fit are dropped.
    pub fn encode(&self) -> Vec<u8> {
        let mut header = [0; 60];
        let header_len = emit_header(&self.header, &self.options, &mut header);
        [&header[..header_len], &self.payload].concat()
    }

    /// The packet as the other end reads it, after its bytes.
    pub fn reread(&self) -> Result<Packet, ParseError> {
        let bytes = self.encode();
        let Segment {
            header,
            options,
            payload,
        } = Segment::parse(&bytes)?;
        Ok(Packet {
            header,
            options,
            payload: payload.to_vec(),
            ..*self
        })
    }

    /// Bytes of the whole IP packet.
    pub fn ip_len(&self) -> usize {
        self.ip_header_len() + HEADER_LEN + options_len(&self.options) + self.payload.len()
    }

    /// Source address and port.
    pub fn source(&self) -> SocketAddr {
        SocketAddr::new(self.src, self.header.src_port)
    }

    /// Destination address and port.
    pub fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.dst, self.header.dst_port)
    }

    /// All of these flags are set.
    pub fn has(&self, flags: Flags) -> bool {
        self.header.flags.has(flags)
    }

    /// The sequence number after this segment, SYN and FIN counted.
    pub fn end(&self) -> SeqNum {
        let controls = u32::from(self.has(Flags::SYN)) + u32::from(self.has(Flags::FIN));
        self.header.seq + self.payload.len() as u32 + controls
    }

    fn ip_header_len(&self) -> usize {
        if self.src.is_ipv4() {
            20
        } else {
            40
        }
    }
}

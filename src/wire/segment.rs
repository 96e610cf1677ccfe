//! A TCP segment: header, options, payload.

use super::options::TcpOptions;
use super::seq::SeqNum;

/// TCP header flags, as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// FIN.
    pub const FIN: Flags = Flags(0x01);
    /// SYN.
    pub const SYN: Flags = Flags(0x02);
    /// RST.
    pub const RST: Flags = Flags(0x04);
    /// PSH.
    pub const PSH: Flags = Flags(0x08);
    /// ACK.
    pub const ACK: Flags = Flags(0x10);
    /// URG.
    pub const URG: Flags = Flags(0x20);
    /// ECE.
    pub const ECE: Flags = Flags(0x40);
    /// CWR.
    pub const CWR: Flags = Flags(0x80);

    /// All of `other`'s flags are set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
    /// The union.
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// The fixed TCP header, without checksum and data offset, which belong to the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number; meaningful with ACK.
    pub ack: SeqNum,
    /// Flags.
    pub flags: Flags,
    /// Window field as on the wire, unscaled.
    pub window: u16,
}

/// A parsed segment; the payload borrows the packet.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Segment<'a> {
    /// Fixed header.
    pub header: Header,
    /// Options.
    pub options: TcpOptions,
    /// Payload.
    pub payload: &'a [u8],
}

/// Why bytes are not a TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// Shorter than its header says.
    Truncated,
    /// Data offset below 5 words.
    BadDataOffset,
    /// Port 0.
    PortZero,
}

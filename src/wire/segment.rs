//! A TCP segment (RFC 9293 section 3.1): header, options, payload. The checksum is `checksum`'s matter; the urgent
//! pointer is neither read nor written.

use super::options::{TcpOptions, OPTIONS_MAX};
use super::rw::{Reader, Sink, Writer};
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

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 20;

impl Segment<'_> {
    /// Reads a segment from a TCP header on. The checksum is not looked at.
    pub fn parse(tcp_bytes: &[u8]) -> Result<Segment<'_>, ParseError> {
        let mut bytes = Reader(tcp_bytes);
        let (header, header_len) = Header::parse(&mut bytes).ok_or(ParseError::Truncated)?;
        let options_len = header_len.checked_sub(HEADER_LEN).ok_or(ParseError::BadDataOffset)?;
        let options = bytes.bytes(options_len).ok_or(ParseError::Truncated)?;
        if header.src_port == 0 || header.dst_port == 0 {
            return Err(ParseError::PortZero);
        }
        Ok(Segment {
            header,
            options: TcpOptions::parse(options),
            payload: bytes.rest(),
        })
    }
}

impl Header {
    /// The fixed header, and the length in bytes that its data offset gives.
    fn parse(bytes: &mut Reader<'_>) -> Option<(Header, usize)> {
        let header = Header {
            src_port: bytes.u16()?,
            dst_port: bytes.u16()?,
            seq: SeqNum(bytes.u32()?),
            ack: SeqNum(bytes.u32()?),
            flags: Flags::default(),
            window: 0,
        };
        let [data_offset, flags] = bytes.array()?;
        let window = bytes.u16()?;
        let _checksum_and_urgent = bytes.u32()?;
        let header = Header {
            flags: Flags(flags),
            window,
            ..header
        };
        Some((header, usize::from(data_offset >> 4) * 4))
    }
}

/// Writes fixed header and options to the front of `buf` and returns their length in bytes, a multiple of 4. The
/// checksum field is zero. Options that do not fit are dropped as `TcpOptions::fitted` says.
pub fn emit_header(header: &Header, options: &TcpOptions, buf: &mut [u8; 60]) -> usize {
    let (fixed, option_space) = buf.split_at_mut(HEADER_LEN);
    let mut option_bytes = [0; OPTIONS_MAX];
    let options_len = options.emit(&mut option_bytes);
    option_space.copy_from_slice(&option_bytes);
    let len = HEADER_LEN + options_len;

    let mut out = Writer::new(fixed);
    out.put(&header.src_port.to_be_bytes());
    out.put(&header.dst_port.to_be_bytes());
    out.put(&header.seq.0.to_be_bytes());
    out.put(&header.ack.0.to_be_bytes());
    out.put(&[(len as u8 / 4) << 4, header.flags.0]);
    out.put(&header.window.to_be_bytes());
    // Checksum and urgent pointer.
    out.put(&[0; 4]);
    len
}

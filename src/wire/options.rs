//! The options of one TCP segment (RFC 9293 section 3.2, RFC 7323, RFC 2018) as a value, and as bytes.
//!
//! Reading follows Linux (tcp_parse_options): of an option that comes twice the last valid one counts; one of a wrong
//! length is skipped; a length below 2 or past the end stops the reading and keeps what came before. Writing follows
//! Linux byte for byte. Not done here: judging whether an option belongs on a segment with these flags, and capping
//! the window scale.

use super::mptcp_option::MptcpOptions;
use super::rw::{Counter, Reader, Sink, Writer};
use super::seq::SeqNum;

/// The option space of a TCP header, bytes.
pub const OPTIONS_MAX: usize = 40;

/// Option kinds (IANA "TCP Option Kind Numbers").
mod kind {
    pub const END: u8 = 0;
    pub const NOP: u8 = 1;
    pub const MSS: u8 = 2;
    pub const WINDOW_SCALE: u8 = 3;
    pub const SACK_PERMITTED: u8 = 4;
    pub const SACK: u8 = 5;
    pub const TIMESTAMPS: u8 = 8;
    pub const MPTCP: u8 = 30;
}
use kind::NOP;

/// RFC 7323 timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timestamps {
    /// TSval.
    pub val: u32,
    /// TSecr.
    pub ecr: u32,
}

/// Up to four SACK blocks, [left, right) each, most recent first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SackBlocks {
    blocks: [(SeqNum, SeqNum); 4],
    len: u8,
}

impl SackBlocks {
    /// Appends a block; false when four are there already.
    pub fn push(&mut self, left: SeqNum, right: SeqNum) -> bool {
        match self.blocks.get_mut(self.len as usize) {
            Some(slot) => {
                *slot = (left, right);
                self.len += 1;
                true
            }
            None => false,
        }
    }
    /// The blocks.
    pub fn as_slice(&self) -> &[(SeqNum, SeqNum)] {
        &self.blocks[..self.len as usize]
    }
    /// Takes the last, least recent, block away.
    pub fn pop(&mut self) -> Option<(SeqNum, SeqNum)> {
        let last = *self.as_slice().last()?;
        self.len -= 1;
        // What lies beyond `len` takes part in `==`.
        self.blocks[self.len as usize] = Default::default();
        Some(last)
    }
    /// No block.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// All the options of one segment that this implementation knows; unknown ones are skipped by their length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpOptions {
    /// Maximum segment size, bytes; a received 0 is no option, as in Linux.
    pub mss: Option<u16>,
    /// Window scale shift, as received (RFC 7323 caps its use at 14).
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK blocks.
    pub sack: SackBlocks,
    /// MPTCP.
    pub mptcp: MptcpOptions,
}

/// Bytes that `options` take on the wire: padded to a multiple of 4, at most 40, after dropping what does not fit.
pub fn options_len(options: &TcpOptions) -> usize {
    options.fitted().unbounded_len()
}

impl TcpOptions {
    /// Reads an option list: the bytes between the fixed header and the payload. Never fails; see the module's head.
    pub fn parse(bytes: &[u8]) -> TcpOptions {
        let mut options = TcpOptions::default();
        let mut list = Reader(bytes);
        while let Some(kind) = list.u8() {
            match kind {
                kind::END => break,
                kind::NOP => continue,
                _ => {}
            }
            let Some(body) = list
                .u8()
                .and_then(|len| usize::from(len).checked_sub(2))
                .and_then(|len| list.bytes(len))
            else {
                break;
            };
            options.parse_one(kind, body);
        }
        options
    }

    /// Takes in one option; `body` is what follows kind and length.
    fn parse_one(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            (kind::MSS, [0, 0]) => {}
            (kind::MSS, &[hi, lo]) => self.mss = Some(u16::from_be_bytes([hi, lo])),
            (kind::WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift),
            (kind::SACK_PERMITTED, []) => self.sack_permitted = true,
            (kind::TIMESTAMPS, _) => self.timestamps = parse_timestamps(body).or(self.timestamps),
            (kind::SACK, _) => self.sack = parse_sack(body).unwrap_or(self.sack),
            (kind::MPTCP, _) => self.mptcp.parse_one(body),
            _ => {}
        }
    }

    /// Writes the list to the front of `buf` and returns its length, a multiple of 4: exactly `options_len`.
    pub fn emit(&self, buf: &mut [u8; OPTIONS_MAX]) -> usize {
        let mut out = Writer::new(buf);
        self.fitted().put(&mut out);
        out.len()
    }

    /// Bytes that all of these options would take if a header had room for them.
    pub fn unbounded_len(&self) -> usize {
        let mut count = Counter::default();
        self.put(&mut count);
        count.0
    }

    /// These options without what does not fit 40 bytes. Dropped, one by one until the rest fits: SACK blocks from the
    /// last (they come again), then MPTCP options from the least to the most needed: MP_TCPRST, REMOVE_ADDR, ADD_ADDR,
    /// MP_PRIO, MP_FAIL, MP_FASTCLOSE, DSS, MP_JOIN, MP_CAPABLE. The rest, 20 bytes at most, always fits: timestamps
    /// are never dropped, because they must stand on every segment once agreed (RFC 7323 section 3.2).
    pub fn fitted(&self) -> TcpOptions {
        let mut options = *self;
        while options.unbounded_len() > OPTIONS_MAX {
            if options.sack.pop().is_none() {
                options.mptcp.drop_least();
            }
        }
        options
    }

    /// The list in the order and with the padding of Linux: MSS, SACK permitted, timestamps, window scale, SACK, MPTCP.
    fn put(&self, out: &mut impl Sink) {
        if let Some(mss) = self.mss {
            out.put(&[kind::MSS, 4]);
            out.put(&mss.to_be_bytes());
        }
        // SACK permitted stands where the padding of the timestamps would be.
        if self.sack_permitted {
            if self.timestamps.is_none() {
                out.put(&[NOP, NOP]);
            }
            out.put(&[kind::SACK_PERMITTED, 2]);
        }
        if let Some(Timestamps { val, ecr }) = self.timestamps {
            if !self.sack_permitted {
                out.put(&[NOP, NOP]);
            }
            out.put(&[kind::TIMESTAMPS, 10]);
            out.put(&val.to_be_bytes());
            out.put(&ecr.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            out.put(&[NOP, kind::WINDOW_SCALE, 3, shift]);
        }
        if !self.sack.is_empty() {
            out.put(&[NOP, NOP, kind::SACK, 2 + 8 * self.sack.len]);
            for (left, right) in self.sack.as_slice() {
                out.put(&left.0.to_be_bytes());
                out.put(&right.0.to_be_bytes());
            }
        }
        self.mptcp.put(out);
    }
}

fn parse_timestamps(body: &[u8]) -> Option<Timestamps> {
    let mut body = Reader(body);
    let timestamps = Timestamps {
        val: body.u32()?,
        ecr: body.u32()?,
    };
    (body.left() == 0).then_some(timestamps)
}

/// `None` unless the body is one to four whole blocks.
fn parse_sack(body: &[u8]) -> Option<SackBlocks> {
    if body.is_empty() || body.len() % 8 != 0 {
        return None;
    }
    let mut blocks = SackBlocks::default();
    let mut body = Reader(body);
    while body.left() > 0 {
        if !blocks.push(SeqNum(body.u32()?), SeqNum(body.u32()?)) {
            return None;
        }
    }
    Some(blocks)
}

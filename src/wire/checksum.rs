//! The Internet checksum (RFC 1071) and its use by TCP (RFC 9293 section 3.1). MPTCP's DSS checksum (RFC 8684
//! section 3.3.1) adds up with the same `Checksum`; what goes into it is in `mptcp::crypto`.

use core::net::IpAddr;

/// IP protocol number of TCP.
const PROTOCOL_TCP: u64 = 6;
/// Where the checksum stands in a TCP header.
const CHECKSUM_FIELD: core::ops::Range<usize> = 16..18;

/// A one's complement sum in the making, over pieces of any length: what was added is one stream of bytes, paired
/// into 16-bit words across the borders of the pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    /// Folded sum of the big-endian words so far.
    sum: u16,
    /// An odd number of bytes was added: the next one is the low half of a word.
    odd: bool,
}

impl Checksum {
    /// Nothing added.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sum of `folded` (from [`Checksum::folded`]) to go on from.
    pub fn from_folded(folded: u16) -> Self {
        Checksum {
            sum: folded,
            odd: false,
        }
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let piece = sum_words(bytes);
        // RFC 1071 section 2(B): a sum over bytes that are shifted by one place is the sum with its bytes swapped.
        let piece = if self.odd { piece.swap_bytes() } else { piece };
        self.sum = fold(u64::from(self.sum) + u64::from(piece));
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// The sum itself, 16 bits, not complemented.
    pub fn folded(self) -> u16 {
        self.sum
    }

    /// The complement of the sum: what a checksum field holds.
    pub fn finish(self) -> u16 {
        !self.sum
    }
}

/// The folded sum of the big-endian words of `bytes`, an odd last byte padded with zero.
fn sum_words(bytes: &[u8]) -> u16 {
    // Byte order does not matter until the end (RFC 1071 section 2(B)), so add what one load gives. The two 32-bit
    // halves are added apart: no carry is lost below 16 GB, and the loop has no dependency that stops vectorising.
    let (chunks, tail) = bytes.split_at(bytes.len() & !7);
    let mut sum = 0u64;
    for chunk in chunks.chunks_exact(8) {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        let word = u64::from_ne_bytes(word);
        sum += (word & 0xffff_ffff) + (word >> 32);
    }
    let mut word = [0; 8];
    word[..tail.len()].copy_from_slice(tail);
    let word = u64::from_ne_bytes(word);
    sum += (word & 0xffff_ffff) + (word >> 32);
    u16::from_be(fold(sum))
}

/// Folds carries back in until 16 bits are left; zero only for zero.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The folded, not complemented, sum of the pseudo-header; `len` is TCP header and payload together, in bytes.
/// It is also what the checksum field of a segment with a partial checksum holds.
pub fn pseudo_header_sum(src: IpAddr, dst: IpAddr, len: usize) -> u16 {
    let address = |addr: IpAddr| match addr {
        IpAddr::V4(v4) => sum_words(&v4.octets()),
        IpAddr::V6(v6) => sum_words(&v6.octets()),
    };
    let len = len as u64;
    let len = u64::from(fold(len));
    fold(u64::from(address(src)) + u64::from(address(dst)) + PROTOCOL_TCP + len)
}

/// The value for the checksum field of a segment whose `header` (with options) has a checksum field of zero.
/// The payload slices may have any length, odd ones too.
pub fn checksum(src: IpAddr, dst: IpAddr, header: &[u8], payload: [&[u8]; 2]) -> u16 {
    let len = header.len() + payload[0].len() + payload[1].len();
    let mut sum = Checksum::from_folded(pseudo_header_sum(src, dst, len));
    sum.add(header);
    sum.add(payload[0]);
    sum.add(payload[1]);
    sum.finish()
}

/// Whether the checksum of a whole segment (header and payload) is right.
pub fn verify_checksum(src: IpAddr, dst: IpAddr, tcp_bytes: &[u8]) -> bool {
    checksum(src, dst, tcp_bytes, [&[], &[]]) == 0
}

/// Whether a segment's checksum field holds exactly the sum of the pseudo-header: Linux leaves it so (CHECKSUM_PARTIAL)
/// on segments that never left the machine, for a device to complete.
pub fn is_partial_checksum(src: IpAddr, dst: IpAddr, tcp_bytes: &[u8]) -> bool {
    let Some(field) = tcp_bytes.get(CHECKSUM_FIELD) else {
        return false;
    };
    field == pseudo_header_sum(src, dst, tcp_bytes.len()).to_be_bytes()
}

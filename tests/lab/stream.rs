//! The bytes that sources send: pseudo-random, the same for everybody, each one found from its offset.

use sha2::{Digest, Sha256};

/// The finalizer of SplitMix64 over the number of the 8-byte word.
fn word(index: u64) -> [u8; 8] {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

/// Fills `buffer` with the stream from byte `offset` on; offset must be a multiple of 8.
pub fn fill(offset: u64, buffer: &mut [u8]) {
    debug_assert_eq!(offset % 8, 0);
    for (index, bytes) in (offset / 8..).zip(buffer.chunks_mut(8)) {
        bytes.copy_from_slice(&word(index)[..bytes.len()]);
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of the first `len` bytes of the stream, in hex.
pub fn sha256(len: u64) -> String {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 65_536];
    let mut offset = 0;
    while offset < len {
        let count = (len - offset).min(buffer.len() as u64) as usize;
        fill(offset, &mut buffer[..count]);
        hash.update(&buffer[..count]);
        offset += count as u64;
    }
    hex(&hash.finalize())
}

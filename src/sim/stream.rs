//! The content of a simulated stream: every byte is a function of its position, so a lost, doubled or moved byte shows at once.

use super::rng::splitmix64;

/// Names a stream; different streams have unrelated bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream(pub u64);

/// The first byte that is not what the position demands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// Its position in the stream.
    pub pos: u64,
    /// How many bytes of the checked piece are wrong.
    pub wrong: u64,
    /// Where the bytes that stand there belong, when they are of this stream.
    pub belongs_at: Option<u64>,
}

impl Stream {
    /// The byte at `pos`.
    pub fn byte(self, pos: u64) -> u8 {
        splitmix64(self.0 ^ (pos >> 3).rotate_left(32)).to_le_bytes()[(pos & 7) as usize]
    }

    /// Writes the bytes from `pos` on.
    pub fn fill(self, pos: u64, out: &mut [u8]) {
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = self.byte(pos + i as u64);
        }
    }

    /// Compares `data` with the bytes from `pos` on.
    pub fn check(self, pos: u64, data: &[u8]) -> Result<(), Mismatch> {
        let differs = |i: &usize| data[*i] != self.byte(pos + *i as u64);
        let Some(first) = (0..data.len()).find(differs) else {
            return Ok(());
        };
        Err(Mismatch {
            pos: pos + first as u64,
            wrong: (first..data.len()).filter(differs).count() as u64,
            belongs_at: self.locate(pos + data.len() as u64, &data[first..]),
        })
    }

    /// Finds a piece of this stream, up to a mebibyte past `near`.
    fn locate(self, near: u64, piece: &[u8]) -> Option<u64> {
        let piece = &piece[..piece.len().min(16)];
        if piece.len() < 4 {
            return None;
        }
        (0..near + (1 << 20)).find(|at| piece.iter().enumerate().all(|(i, b)| *b == self.byte(at + i as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_piece_is_found_and_placed() {
        let stream = Stream(9);
        let mut data = [0; 64];
        stream.fill(1000, &mut data);
        assert_eq!(stream.check(1000, &data), Ok(()));
        let mismatch = stream.check(1064, &data).unwrap_err();
        assert_eq!(mismatch.belongs_at, Some(1000 + mismatch.pos - 1064));
    }

    #[test]
    fn one_flipped_byte_is_one_wrong_byte() {
        let mut data = [0; 64];
        Stream(9).fill(5, &mut data);
        data[10] ^= 1;
        let mismatch = Stream(9).check(5, &data).unwrap_err();
        assert_eq!((mismatch.pos, mismatch.wrong, mismatch.belongs_at), (15, 1, None));
    }
}

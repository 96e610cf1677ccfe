//! The bytes that the application wrote and the peer has not acknowledged at data level, addressed by data sequence number.

use crate::wire::Dsn;
use std::collections::VecDeque;

/// A contiguous run of the stream.
#[derive(Debug, Default)]
pub struct SendBuffer {
    base: Dsn,
    bytes: VecDeque<u8>,
}

impl SendBuffer {
    /// Empty; the next byte written has number `first`.
    pub fn new(first: Dsn) -> Self {
        SendBuffer {
            base: first,
            bytes: VecDeque::new(),
        }
    }
    /// Number of the oldest byte held.
    pub fn base(&self) -> Dsn {
        self.base
    }
    /// Number that the next byte written will have.
    pub fn end(&self) -> Dsn {
        self.base + self.bytes.len() as u64
    }
    /// Appends.
    pub fn write(&mut self, data: &[u8]) {
        self.bytes.extend(data);
    }
    /// Forgets everything before `upto`.
    pub fn release(&mut self, upto: Dsn) {
        let n = upto.diff(self.base).clamp(0, self.bytes.len() as i64) as usize;
        self.bytes.drain(..n);
        self.base += n as u64;
        if self.bytes.is_empty() && self.bytes.capacity() > 1 << 16 {
            self.bytes = VecDeque::new();
        }
    }
    /// `len` bytes from `from`, in up to two slices; shorter when not all of them are held.
    pub fn slices(&self, from: Dsn, len: usize) -> [&[u8]; 2] {
        let at = from.diff(self.base);
        if at < 0 || at as usize > self.bytes.len() {
            return [&[], &[]];
        }
        let at = at as usize;
        let end = (at + len).min(self.bytes.len());
        let (a, b) = self.bytes.as_slices();
        let cut = a.len();
        [&a[at.min(cut)..end.min(cut)], &b[at.max(cut) - cut..end.max(cut) - cut]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_follow_the_numbers_across_release() {
        let mut b = SendBuffer::new(Dsn(u64::MAX - 2));
        b.write(b"abcdefgh");
        assert_eq!(b.slices(Dsn(u64::MAX), 3).concat(), b"cde");
        b.release(Dsn(1));
        assert_eq!(b.base(), Dsn(1));
        assert_eq!(b.slices(Dsn(u64::MAX), 3).concat(), b"");
        assert_eq!(b.slices(Dsn(1), 100).concat(), b"efgh");
        b.release(Dsn(1000));
        assert_eq!((b.base(), b.end()), (Dsn(5), Dsn(5)));
    }
}

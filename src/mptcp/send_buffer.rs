//! The bytes that the application wrote and the peer has not acknowledged at data level, addressed by data sequence number.
//!
//! A ring, so that whoever has the bytes elsewhere can put them where they will be sent from: [`SendBuffer::room`].

use crate::wire::Dsn;

/// The smallest ring, bytes.
const CAPACITY_MIN: usize = 512;
/// An empty ring that is larger than this is given back.
const CAPACITY_IDLE: usize = 1 << 16;

/// A contiguous run of the stream.
#[derive(Debug, Default)]
pub struct SendBuffer {
    base: Dsn,
    /// Its length is a power of two, or zero.
    ring: Box<[u8]>,
    /// Where the oldest byte is.
    start: usize,
    len: usize,
}

impl SendBuffer {
    /// Empty; the next byte written has number `first`.
    pub fn new(first: Dsn) -> Self {
        SendBuffer {
            base: first,
            ..SendBuffer::default()
        }
    }

    /// Number of the oldest byte held.
    pub fn base(&self) -> Dsn {
        self.base
    }

    /// Number that the next byte written will have.
    pub fn end(&self) -> Dsn {
        self.base + self.len as u64
    }

    /// Bytes of memory that it takes.
    pub fn capacity(&self) -> usize {
        self.ring.len()
    }

    /// Appends.
    pub fn write(&mut self, data: &[u8]) {
        let [head, tail] = self.room(data.len());
        let (first, second) = data.split_at(head.len());
        head.copy_from_slice(first);
        tail.copy_from_slice(second);
        self.written(data.len());
    }

    /// Where the next `count` bytes belong, to be filled from the front.
    pub fn room(&mut self, count: usize) -> [&mut [u8]; 2] {
        if self.len + count > self.ring.len() {
            self.grow(self.len + count);
        }
        let at = self.wrap(self.start + self.len);
        let head = count.min(self.ring.len() - at);
        let (wrapped, rest) = self.ring.split_at_mut(at);
        [&mut rest[..head], &mut wrapped[..count - head]]
    }

    /// The first `count` bytes of the last [`SendBuffer::room`] were filled: they are part of the stream.
    pub fn written(&mut self, count: usize) {
        debug_assert!(self.len + count <= self.ring.len());
        self.len += count;
    }

    /// Forgets everything before `upto`.
    pub fn release(&mut self, upto: Dsn) {
        let n = upto.diff(self.base).clamp(0, self.len as i64) as usize;
        self.start = self.wrap(self.start + n);
        self.len -= n;
        self.base += n as u64;
        if self.len == 0 && self.ring.len() > CAPACITY_IDLE {
            (self.ring, self.start) = (Box::default(), 0);
        }
    }

    /// `len` bytes from `from`, in up to two slices; shorter when not all of them are held.
    pub fn slices(&self, from: Dsn, len: usize) -> [&[u8]; 2] {
        let at = from.diff(self.base);
        if at < 0 || at as usize > self.len {
            return [&[], &[]];
        }
        let at = at as usize;
        self.held(at, len.min(self.len - at))
    }

    /// `count` bytes that are held, from the one at `offset` on.
    fn held(&self, offset: usize, count: usize) -> [&[u8]; 2] {
        let at = self.wrap(self.start + offset);
        let head = count.min(self.ring.len() - at);
        [&self.ring[at..at + head], &self.ring[..count - head]]
    }

    fn grow(&mut self, least: usize) {
        let mut ring = vec![0; least.next_power_of_two().max(CAPACITY_MIN)].into_boxed_slice();
        let [head, tail] = self.held(0, self.len);
        ring[..head.len()].copy_from_slice(head);
        ring[head.len()..self.len].copy_from_slice(tail);
        (self.ring, self.start) = (ring, 0);
    }

    fn wrap(&self, at: usize) -> usize {
        at & self.ring.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn nothing_is_held_and_nothing_written() {
        let mut b = SendBuffer::new(Dsn(7));
        assert_eq!(b.slices(Dsn(7), 10), [&[] as &[u8], &[]]);
        assert!(b.room(0).iter().all(|slice| slice.is_empty()));
        b.write(&[]);
        b.release(Dsn(9));
        assert_eq!((b.base(), b.end()), (Dsn(7), Dsn(7)));
    }

    proptest! {
        /// Writes, partial fills and releases in any order: the bytes of a plain list.
        #[test]
        fn it_is_a_list(steps in prop::collection::vec((0..3u8, 0..3000usize, any::<u8>()), 1..60)) {
            let first = Dsn(u64::MAX - 5000);
            let mut buffer = SendBuffer::new(first);
            let (mut all, mut released) = (Vec::<u8>::new(), 0usize);
            for (step, size, byte) in steps {
                let data: Vec<u8> = (0..size).map(|i| byte.wrapping_add(i as u8)).collect();
                match step {
                    0 => {
                        buffer.write(&data);
                        all.extend(&data);
                    }
                    1 => {
                        // Less is filled than was asked for.
                        let filled = size / 2;
                        for (to, from) in buffer.room(size).into_iter().flatten().zip(&data[..filled]) {
                            *to = *from;
                        }
                        buffer.written(filled);
                        all.extend(&data[..filled]);
                    }
                    _ => {
                        released = (released + size).min(all.len());
                        buffer.release(first + released as u64);
                    }
                }
                prop_assert_eq!((buffer.base(), buffer.end()), (first + released as u64, first + all.len() as u64));
                prop_assert_eq!(buffer.slices(buffer.base(), usize::MAX >> 1).concat(), &all[released..]);
                let middle = released + (all.len() - released) / 3;
                prop_assert_eq!(buffer.slices(first + middle as u64, 100).concat(), &all[middle..all.len().min(middle + 100)]);
            }
        }
    }
}

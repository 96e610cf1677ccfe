//! Data-level reassembly (RFC 8684 section 3.3.2): bytes from any subflow, put in order by data sequence number.
//! Bounded by the window that was advertised: what lies beyond is not kept.

use crate::wire::Dsn;
use std::collections::{BTreeMap, VecDeque};

/// Pieces kept out of order at the most, however small they are.
const MAX_PIECES: usize = 8192;

/// The step in which the right edge of the window moves: a full segment on most paths.
const STEP: usize = 1460;

/// See the module's head.
#[derive(Debug)]
pub struct RecvBuffer {
    /// Number of the first byte of the stream.
    first: Dsn,
    /// Bytes received in order since then.
    received: u64,
    ready: VecDeque<u8>,
    /// Out-of-order pieces by stream offset; they neither overlap nor touch `received`.
    ahead: BTreeMap<u64, Vec<u8>>,
    ahead_bytes: usize,
    /// Bytes that it holds at the most now, and at the most ever.
    limit: usize,
    limit_max: usize,
    /// The limit before anything was read.
    limit_first: usize,
    /// What both are bounded by for want of memory.
    bound: usize,
    /// Bytes that the application took.
    consumed: u64,
    edge: u64,
    /// Offset of the stream's end, once known: nothing lies beyond.
    end: u64,
}

impl RecvBuffer {
    /// Empty; the first byte has number `first`; at most `limit_first` bytes are held, and `limit_max` by a reader who keeps up: two more for
    /// each that is read. So the window is twice what a round trip brings (a sender in slow start doubles that with each), and who
    /// reads nothing keeps little, as with Linux's tuning (`tcp_rcv_space_adjust`).
    pub fn new(first: Dsn, limit_first: usize, limit_max: usize) -> Self {
        let limit = limit_first.min(limit_max);
        RecvBuffer {
            first,
            received: 0,
            ready: VecDeque::new(),
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
            limit,
            limit_max,
            limit_first,
            bound: usize::MAX,
            consumed: 0,
            edge: limit as u64,
            end: u64::MAX,
        }
    }

    /// The stream starts at another number (the peer's key came); only before anything was received.
    pub fn rebase(&mut self, first: Dsn) {
        self.first = first;
    }

    /// The stream ends before number `end`, which is not before `nxt`: what was kept beyond is nobody's.
    pub fn ends_at(&mut self, end: Dsn) {
        self.end = self.received + end.diff(self.nxt()).max(0) as u64;
        let beyond = self.ahead.split_off(&self.end);
        self.ahead_bytes -= beyond.values().map(Vec::len).sum::<usize>();
        if let Some(mut last) = self.ahead.last_entry() {
            let room = (self.end - *last.key()) as usize;
            let piece = last.get_mut();
            self.ahead_bytes -= piece.len().saturating_sub(room);
            piece.truncate(room);
        }
    }

    /// Next expected number: the DATA_ACK (a DATA_FIN not counted).
    pub fn nxt(&self) -> Dsn {
        self.first + self.received
    }

    /// Bytes received in order so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes ready to be read.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Bytes kept out of order.
    #[cfg(test)]
    pub fn ahead_bytes(&self) -> usize {
        self.ahead_bytes
    }

    /// Something waits for a gap to be filled.
    pub fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// At most so much is held from now on, as in [`RecvBuffer::new`], apart from what the peer was promised.
    pub fn set_limits(&mut self, first: usize, max: usize) {
        (self.limit_first, self.limit_max) = (first, max);
        self.tune();
    }

    /// As long as this is given, no more than `bound` is held, apart from what the peer was promised.
    pub fn bound(&mut self, bound: usize) {
        if self.bound != bound {
            self.bound = bound;
            self.tune();
        }
    }

    /// Bytes of memory that it takes.
    pub fn capacity(&self) -> usize {
        self.ready.capacity() + self.ahead_bytes
    }

    /// Bytes that are held at the most now.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn tune(&mut self) {
        let read = usize::try_from(self.consumed).unwrap_or(usize::MAX);
        self.limit = self
            .limit_first
            .saturating_add(read.saturating_mul(2))
            .min(self.limit_max)
            .min(self.bound);
    }

    /// Bytes that may arrive from `nxt` on: the window to advertise. Its right edge never moves back (RFC 9293 section 3.8.6),
    /// and forward only by something worth sending (section 3.8.6.2.2).
    pub fn window(&mut self) -> usize {
        let edge = self.received + self.free() as u64;
        if edge >= self.edge + (self.limit / 2).clamp(1, STEP) as u64 {
            self.edge = edge;
        }
        (self.edge - self.received) as usize
    }

    /// The window that was advertised last, without advertising more.
    pub fn advertised(&self) -> usize {
        self.edge.saturating_sub(self.received) as usize
    }

    /// The window that could be advertised now.
    pub fn free(&self) -> usize {
        self.limit.saturating_sub(self.ready.len())
    }

    /// Takes what is new of `data`, whose first byte is number `dsn`; true when something new arrived.
    pub fn insert(&mut self, dsn: Dsn, data: &[u8]) -> bool {
        let offset = dsn.diff(self.nxt());
        let (data, start) = if offset < 0 {
            let skip = offset.unsigned_abs();
            if skip >= data.len() as u64 {
                return false;
            }
            (&data[skip as usize..], self.received)
        } else {
            (data, self.received + offset as u64)
        };
        let room = self.edge.min(self.end).saturating_sub(start).min(data.len() as u64) as usize;
        let data = &data[..room];
        if data.is_empty() {
            return false;
        }
        if start == self.received {
            self.append(data);
            true
        } else {
            self.keep(start, data)
        }
    }

    fn append(&mut self, data: &[u8]) {
        self.ready.extend(data);
        self.received += data.len() as u64;
        while let Some(entry) = self.ahead.first_entry() {
            let at = *entry.key();
            if at > self.received {
                break;
            }
            let piece = entry.remove();
            self.ahead_bytes -= piece.len();
            let skip = (self.received - at) as usize;
            if let Some(new) = piece.get(skip..) {
                self.ready.extend(new);
                self.received += new.len() as u64;
            }
        }
    }

    /// Keeps the parts of `data` that no piece covers.
    fn keep(&mut self, mut start: u64, mut data: &[u8]) -> bool {
        let mut any = false;
        if let Some((&at, piece)) = self.ahead.range(..=start).next_back() {
            let end = at + piece.len() as u64;
            if end > start {
                let skip = ((end - start) as usize).min(data.len());
                data = &data[skip..];
                start += skip as u64;
            }
        }
        while !data.is_empty() && self.ahead.len() < MAX_PIECES {
            let next = self
                .ahead
                .range(start..)
                .next()
                .map(|(&at, piece)| (at, at + piece.len() as u64));
            let take = next.map_or(data.len(), |(at, _)| ((at - start) as usize).min(data.len()));
            if take > 0 {
                self.ahead.insert(start, data[..take].to_vec());
                self.ahead_bytes += take;
                any = true;
            }
            let Some((_, next_end)) = next else { break };
            let skip = ((next_end - start) as usize).min(data.len());
            data = &data[skip..];
            start += skip as u64;
        }
        any
    }

    /// What can be read, in two slices.
    pub fn slices(&self) -> (&[u8], &[u8]) {
        self.ready.as_slices()
    }

    /// The application took `n` bytes.
    pub fn consume(&mut self, n: usize) {
        let n = n.min(self.ready.len());
        self.ready.drain(..n);
        self.consumed += n as u64;
        self.tune();
        if self.ready.is_empty() && self.ready.capacity() > 1 << 16 {
            self.ready = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(b: &RecvBuffer) -> Vec<u8> {
        let (x, y) = b.slices();
        [x, y].concat()
    }

    // Proves M3.3-11.
    #[test]
    fn beyond_the_window_is_not_kept() {
        let mut b = RecvBuffer::new(Dsn(10), 8, 8);
        assert!(b.insert(Dsn(14), b"efghIJ"));
        assert_eq!(b.ahead_bytes(), 4);
        assert!(b.insert(Dsn(10), b"abcd"));
        assert_eq!(read(&b), b"abcdefgh");
        assert_eq!(b.window(), 0);
        assert!(!b.insert(Dsn(18), b"I"));
        b.consume(3);
        assert_eq!(b.advertised(), 0);
        assert_eq!(b.window(), 0, "less than half of the buffer is a silly window");
        b.consume(2);
        assert_eq!(b.window(), 5);
        assert!(b.insert(Dsn(18), b"I"));
    }

    #[test]
    fn the_last_byte_of_the_window_is_kept_and_the_next_is_not() {
        // The numbers wrap within the window.
        let first = Dsn(u64::MAX - 3);
        let mut b = RecvBuffer::new(first, 8, 8);
        assert!(b.insert(first + 7, b"h"));
        assert!(!b.insert(first + 8, b"i"));
        assert!(!b.insert(first - 1, b"x"), "before the first");
        assert!(b.insert(first - 1, b"xa"), "one byte of it is new");
        assert_eq!((read(&b), b.nxt(), b.ahead_bytes()), (b"a".to_vec(), first + 1, 1));
    }

    #[test]
    fn so_many_pieces_out_of_order_and_no_more() {
        let mut b = RecvBuffer::new(Dsn(0), 1 << 20, 1 << 20);
        let piece = |n: usize| Dsn(2 * n as u64 + 1);
        assert!((0..MAX_PIECES).all(|n| b.insert(piece(n), b"x")));
        assert!(!b.insert(piece(MAX_PIECES), b"x"));
        assert!(
            b.insert(Dsn(0), b"x"),
            "what comes in order is no piece, and makes room for one"
        );
        assert!(b.insert(piece(MAX_PIECES), b"x"));
    }

    #[test]
    fn nothing_lies_beyond_the_end() {
        let mut b = RecvBuffer::new(Dsn(10), 100, 100);
        assert!(b.insert(Dsn(12), b"cdEF"));
        assert!(b.insert(Dsn(20), b"X"));
        b.ends_at(Dsn(14));
        assert_eq!(b.ahead_bytes(), 2);
        assert!(b.insert(Dsn(10), b"abcdefg"));
        assert_eq!(read(&b), b"abcd");
        assert!(!b.insert(Dsn(14), b"E"));
        assert_eq!((b.nxt(), b.ahead_bytes()), (Dsn(14), 0));
    }

    #[test]
    fn a_smaller_limit_takes_no_promise_back() {
        let mut b = RecvBuffer::new(Dsn(0), 100, 100);
        b.set_limits(10, 10);
        assert_eq!(b.window(), 100);
        assert!(b.insert(Dsn(0), &[1; 100]));
        b.consume(100);
        assert_eq!(b.window(), 10);
        b.set_limits(1000, 1000);
        assert_eq!(b.window(), 1000);
    }

    #[test]
    fn what_is_read_lets_it_grow_to_its_bound() {
        let mut b = RecvBuffer::new(Dsn(0), 100, 1000);
        assert_eq!(b.window(), 100);
        assert!(b.insert(Dsn(0), &[1; 100]));
        assert_eq!(b.window(), 0, "who does not read keeps no more");
        b.consume(50);
        assert_eq!((b.limit(), b.window()), (200, 150));
        b.consume(50);
        assert_eq!(b.window(), 300);
        assert!(b.insert(Dsn(100), &[1; 300]));
        b.consume(300);
        assert_eq!((b.limit(), b.window()), (900, 900));
        assert!(b.insert(Dsn(400), &[1; 900]));
        b.consume(900);
        assert_eq!(b.limit(), 1000);
    }

    proptest! {
        #[test]
        fn any_order_any_overlap_gives_the_stream(
            pieces in proptest::collection::vec((0usize..200, 1usize..60), 1..80), start in any::<u64>())
        {
            let stream: Vec<u8> = (0..260u32).map(|i| (i * 7 % 251) as u8).collect();
            let mut b = RecvBuffer::new(Dsn(start), 1000, 1000);
            let mut have = vec![false; 260];
            for (at, len) in pieces {
                b.insert(Dsn(start) + at as u64, &stream[at..at + len]);
                have[at..at + len].iter_mut().for_each(|h| *h = true);
                let prefix = have.iter().take_while(|h| **h).count();
                prop_assert_eq!(read(&b), &stream[..prefix]);
                let ahead = have[prefix..].iter().filter(|h| **h).count();
                prop_assert_eq!(b.ahead_bytes(), ahead);
            }
        }
    }
}

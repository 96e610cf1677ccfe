//! What the relay needs of the network side of a connection, whoever speaks TCP there.

use rustix::io::Errno;

/// What a stream has for the program.
#[derive(PartialEq, Eq, Debug)]
pub enum Incoming<'a> {
    /// Bytes in order, in two slices of which not both are empty.
    Data(&'a [u8], &'a [u8]),
    /// Nothing now.
    Nothing,
    /// The peer's end of stream, everything before it was consumed.
    End,
    /// The connection broke; what came before was consumed.
    Broken(Errno),
}

/// The network side of one established connection.
pub trait Stream {
    /// How many bytes it takes now. Zero also when it broke.
    fn send_space(&self) -> usize;
    /// Where the next `count` bytes belong, at most `send_space()`, to be filled from the front; `sent` says how many were.
    fn room(&mut self, count: usize) -> [&mut [u8]; 2];
    /// The first `count` bytes of the last `room` were filled: they are sent.
    fn sent(&mut self, count: usize);
    /// What there is to read.
    fn recv(&mut self) -> Incoming<'_>;
    /// `n` bytes of what `recv` showed were taken.
    fn consume(&mut self, n: usize);
    /// End of stream after what was sent.
    fn shutdown_write(&mut self);
    /// Everything sent, and the end of stream, are out of our hands: the peer, or the kernel, has them.
    fn is_flushed(&self) -> bool;
    /// Nobody reads any more; what was sent is delivered, then the end of stream.
    fn close(&mut self);
    /// Resets the connection.
    fn abort(&mut self);
}

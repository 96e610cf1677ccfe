//! A connection of the core as a stream.

use super::core::Core;
use super::stream::{Incoming, Stream};
use crate::mptcp::endpoint::{CallError, ConnError, ConnId};
use crate::time::Instant;
use rustix::io::Errno;

/// One connection of the core, for the length of a turn.
pub struct CoreStream<'e> {
    /// The core.
    pub core: &'e mut Core,
    /// The connection.
    pub conn: ConnId,
    /// Now.
    pub now: Instant,
    /// The core has said that everything written, DATA_FIN included, was acknowledged.
    pub flushed: bool,
}

impl Stream for CoreStream<'_> {
    fn send_space(&self) -> usize {
        self.core.endpoint.send_space(self.conn)
    }

    fn room(&mut self, count: usize) -> [&mut [u8]; 2] {
        // One that broke has no room, and `recv` says so.
        self.core
            .endpoint
            .send_room(self.conn, count)
            .unwrap_or([&mut [], &mut []])
    }

    fn sent(&mut self, count: usize) {
        self.core.endpoint.sent(self.now, self.conn, count);
    }

    fn recv(&mut self) -> Incoming<'_> {
        match self.core.endpoint.recv(self.conn) {
            Ok(([], [])) | Err(CallError::InUse) => Incoming::Nothing,
            Ok((head, tail)) => Incoming::Data(head, tail),
            Err(CallError::Shutdown) => Incoming::End,
            Err(CallError::Broken(error)) => Incoming::Broken(errno(error)),
            Err(CallError::Gone) => Incoming::Broken(Errno::CONNRESET),
        }
    }

    fn consume(&mut self, n: usize) {
        self.core.endpoint.consume(self.now, self.conn, n);
    }

    fn shutdown_write(&mut self) {
        self.core.endpoint.shutdown_write(self.now, self.conn);
    }

    fn is_flushed(&self) -> bool {
        self.flushed
    }

    fn close(&mut self) {
        self.core.endpoint.close(self.now, self.conn);
    }

    fn abort(&mut self) {
        // What the program wrote before has left, as far as the window lets it: so it was with the kernel's TCP, and the peer reads it.
        self.core.transmit(self.now);
        self.core.endpoint.abort(self.now, self.conn);
    }
}

/// What a TCP socket would say in SO_ERROR.
pub fn errno(error: ConnError) -> Errno {
    match error {
        ConnError::Refused => Errno::CONNREFUSED,
        ConnError::TimedOut => Errno::TIMEDOUT,
        ConnError::Reset | ConnError::Aborted => Errno::CONNRESET,
        ConnError::Unreachable(errno) => Errno::from_raw_os_error(errno),
    }
}

//! A connection of the core as a stream.

use super::stream::{Incoming, Stream};
use crate::mptcp::endpoint::{CallError, ConnError, ConnId, Endpoint};
use crate::time::Instant;
use rustix::io::Errno;

/// One connection of the core, for the length of a turn.
pub struct CoreStream<'e> {
    /// The core.
    pub endpoint: &'e mut Endpoint,
    /// The connection.
    pub conn: ConnId,
    /// Now.
    pub now: Instant,
    /// The core has said that everything written, DATA_FIN included, was acknowledged.
    pub flushed: bool,
}

impl Stream for CoreStream<'_> {
    fn send_space(&self) -> usize {
        self.endpoint.send_space(self.conn)
    }

    fn send(&mut self, data: &[u8]) {
        // It takes what `send_space` said. When the connection broke in between, the bytes are lost with it, and `recv`
        // says so.
        let _ = self.endpoint.send(self.now, self.conn, data);
        if self.endpoint.send_space(self.conn) == 0 {
            // A byte offered in vain is how the core learns that somebody waits for room.
            let _ = self.endpoint.send(self.now, self.conn, &[0]);
        }
    }

    fn recv(&mut self) -> Incoming<'_> {
        match self.endpoint.recv(self.conn) {
            Ok(([], [])) | Err(CallError::InUse) => Incoming::Nothing,
            Ok((head, tail)) => Incoming::Data(head, tail),
            Err(CallError::Shutdown) => Incoming::End,
            Err(CallError::Broken(error)) => Incoming::Broken(errno(error)),
            Err(CallError::Gone) => Incoming::Broken(Errno::CONNRESET),
        }
    }

    fn consume(&mut self, n: usize) {
        self.endpoint.consume(self.now, self.conn, n);
    }

    fn shutdown_write(&mut self) {
        self.endpoint.shutdown_write(self.now, self.conn);
    }

    fn is_flushed(&self) -> bool {
        self.flushed
    }

    fn close(&mut self) {
        self.endpoint.close(self.now, self.conn);
    }

    fn abort(&mut self) {
        self.endpoint.abort(self.now, self.conn);
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

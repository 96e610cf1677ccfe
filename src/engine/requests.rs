//! What a client asks, and the answer.

use super::connection::{Backend, Connection};
use super::control::Asked;
use super::event_loop::Key;
use super::relay::Ending;
use super::server::Engine;
use super::socket_options;
use super::stream::Stream;
use crate::control::{Phase, PhaseReport, Queues, Reply, Request, MESSAGE_MAX, VALUE_MAX};
use crate::time::Instant;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

impl Engine {
    /// A client may have said something: answers it.
    pub(super) fn serve(&mut self, now: Instant, key: Key) {
        let Some(asked) = self.control.take_request(key) else {
            return;
        };
        let Asked { bytes, len, fd, cred } = asked;
        match Request::decode(&bytes[..len]) {
            Ok(Request::Connect(request)) => self.serve_connect(now, key, &request, fd, cred),
            Ok(Request::Status) => {
                let text = self.status(now);
                self.control.answer_text(key, &text);
            }
            Ok(request) => {
                let mut value = [0; VALUE_MAX];
                let reply = self
                    .serve_cookie(now, &request, &mut value)
                    .unwrap_or_else(|e| Reply::Error(e.raw_os_error()));
                self.answer(key, &reply, None);
            }
            Err(error) => {
                log::warn!(
                    "a request of process {} makes no sense: {error}",
                    cred.pid.as_raw_nonzero()
                );
                self.answer(key, &Reply::Error(Errno::PROTO.raw_os_error()), None);
            }
        }
    }

    /// Sends the one answer; false when the client has gone.
    pub(super) fn answer(&mut self, key: Key, reply: &Reply<'_>, fd: Option<BorrowedFd<'_>>) -> bool {
        let mut bytes = [0; MESSAGE_MAX];
        match reply.encode(&mut bytes) {
            Ok(len) => self.control.answer(key, &bytes[..len], fd).is_ok(),
            Err(_) => false,
        }
    }

    /// Requests about one connection.
    fn serve_cookie<'v>(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        value: &'v mut [u8; VALUE_MAX],
    ) -> Result<Reply<'v>, Errno> {
        match *request {
            Request::Query { cookie } => Ok(Reply::Phase(self.phase(cookie))),
            Request::GetOption {
                cookie,
                level,
                name,
                room,
            } => {
                let room = (room as usize).min(VALUE_MAX);
                let len = self.connection(cookie)?.1.get_option(level, name, &mut value[..room])?;
                Ok(Reply::Value(&value[..len]))
            }
            Request::SetOption {
                cookie,
                level,
                name,
                value,
            } => {
                let key = self.connection(cookie)?.0;
                self.set_option(now, key, level, name, value).map(|()| Reply::Done)
            }
            Request::QueueSizes { cookie } => self.queue_sizes(cookie).map(Reply::Queues),
            Request::Abort { cookie } => {
                let key = self.connection(cookie)?.0;
                self.abort(now, key);
                Ok(Reply::Done)
            }
            Request::Connect(_) | Request::Status => Err(Errno::PROTO),
        }
    }

    fn connection(&mut self, cookie: u64) -> Result<(Key, &mut Connection), Errno> {
        let key = *self.by_cookie.get(&cookie).ok_or(Errno::NOTCONN)?;
        let connection = self.connections.get_mut(key).ok_or(Errno::NOTCONN)?;
        Ok((key, connection))
    }

    fn phase(&mut self, cookie: u64) -> PhaseReport {
        if let Ok((_, connection)) = self.connection(cookie) {
            return connection.report(connection.phase());
        }
        let forgotten = PhaseReport {
            phase: Phase::Gone,
            local: None,
            remote: None,
        };
        self.ends.get(cookie).unwrap_or(forgotten)
    }

    fn set_option(&mut self, _now: Instant, key: Key, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        let connection = self.connections.get_mut(key).ok_or(Errno::NOTCONN)?;
        let Backend::Kernel(stream) = &connection.backend;
        socket_options::set(stream.as_fd(), level, name, value)?;
        // Linger is ours to obey: the kernel socket is closed by the engine, not by the program.
        connection.options.set(level, name, value).or_else(|error| match error {
            Errno::NOPROTOOPT => Ok(()),
            error => Err(error),
        })
    }

    fn queue_sizes(&mut self, cookie: u64) -> Result<Queues, Errno> {
        let (_, connection) = self.connection(cookie)?;
        let Backend::Kernel(stream) = &connection.backend;
        stream.queues()
    }

    fn abort(&mut self, now: Instant, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            let Backend::Kernel(stream) = &mut connection.backend;
            stream.abort();
        }
        self.end(now, key, Ending::Aborted);
    }
}

impl Connection {
    /// getsockopt(2); the length of the value.
    fn get_option(&self, level: i32, name: i32, value: &mut [u8]) -> Result<usize, Errno> {
        let Backend::Kernel(stream) = &self.backend;
        socket_options::get(stream.as_fd(), level, name, value)
    }
}

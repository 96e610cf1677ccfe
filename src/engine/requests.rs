//! What a client asks, and the answer. The request to connect has a file of its own (`connect`).

use super::connection::{Backend, Connection};
use super::control::Asked;
use super::core_stream::CoreStream;
use super::event_loop::Key;
use super::multipath;
use super::relay::Ending;
use super::server::Engine;
use super::socket_options;
use super::stream::Stream;
use super::tcp_info;
use crate::control::multipath::is_ours;
use crate::control::{Phase, PhaseReport, Queues, Reply, Request, MESSAGE_MAX, PICTURE_MESSAGE_MAX, VALUE_MAX};
use crate::mptcp::endpoint::ConnInfo;
use crate::time::Instant;
use rustix::io::Errno;
use rustix::net::{bind, UCred};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Clients that may wait for one handshake: one per thread that has the descriptor and asks.
const WAITERS_MAX: usize = 64;

/// TCP_IS_MPTCP of linux/tcp.h.
const TCP_IS_MPTCP: i32 = 43;

impl Engine {
    /// A client may have said something: answers it.
    pub(super) fn serve(&mut self, now: Instant, client: Key) {
        let Some(asked) = self.control.take_request(client) else {
            return;
        };
        let Asked { bytes, len, fd, cred } = asked;
        match Request::decode(&bytes[..len]) {
            // Before all that only the engine's own user may ask: the accepted socket is the proof.
            Ok(Request::Claim) => self.serve_claim(now, client, fd, cred),
            // The listening socket is the proof, where it is one that is known.
            Ok(Request::Listen(request)) if !self.retired => self.serve_listen(now, client, &request, fd, cred),
            // Status is text, and that of nobody's business is empty.
            Ok(Request::Status) if !self.may_ask(&Request::Status, &cred) => self.control.answer_text(client, b""),
            Ok(request) if !self.may_ask(&request, &cred) => self.answer_error(client, Errno::ACCESS),
            // The name is being given up, and later questions about a connection would not find us: the program is to start another engine.
            Ok(Request::Connect(_) | Request::Listen(_) | Request::Left(_)) if self.retired => {
                self.control.dismiss(client)
            }
            Ok(Request::Connect(request)) => self.serve_connect(now, client, &request, fd, cred),
            Ok(Request::Status) => {
                let text = self.status(now);
                self.control.answer_text(client, &text);
            }
            Ok(Request::Left(left)) => self.serve_left(now, client, &left, &cred),
            Ok(Request::Abort { cookie }) => match self.disconnect(now, cookie) {
                Ok(socket) => {
                    self.answer(client, &Reply::Done, Some(socket.as_fd()));
                }
                Err(error) => self.answer_error(client, error),
            },
            Ok(Request::Wait { cookie }) => self.serve_wait(client, cookie),
            Ok(Request::Picture { cookie }) => self.serve_picture(now, client, cookie),
            Ok(Request::AskWish { cookie, name, value }) => self.serve_ask(now, client, cookie, name, value),
            Ok(request) => {
                let mut value = [0; VALUE_MAX];
                match self.serve_cookie(now, &request, fd.as_ref(), &mut value) {
                    Ok(reply) => {
                        self.answer(client, &reply, None);
                    }
                    Err(error) => self.answer_error(client, error),
                }
            }
            Err(error) => {
                log::warn!(
                    "a request of process {} makes no sense: {error}",
                    cred.pid.as_raw_nonzero()
                );
                self.answer_error(client, Errno::PROTO);
            }
        }
    }

    /// The engine serves its own user; another one may ask about connections that were accepted by it, which is how a server has it that
    /// gave up its privileges.
    fn may_ask(&mut self, request: &Request<'_>, cred: &UCred) -> bool {
        let cookie = match *request {
            _ if cred.uid == rustix::process::geteuid() => return true,
            Request::Query { cookie }
            | Request::GetOption { cookie, .. }
            | Request::SetOption { cookie, .. }
            | Request::QueueSizes { cookie }
            | Request::Abort { cookie }
            | Request::Picture { cookie }
            | Request::SetWish { cookie, .. }
            | Request::AskWish { cookie, .. }
            | Request::Shutdown { cookie, .. }
            | Request::Wait { cookie } => cookie,
            Request::Connect(_) | Request::Listen(_) | Request::Left(_) | Request::Claim | Request::Status => {
                return false
            }
        };
        match self.connection(cookie) {
            Ok((_, connection)) => connection.uid == Some(cred.uid),
            Err(_) => self.ends.get(cookie).is_some_and(|end| end.uid == Some(cred.uid)),
        }
    }

    /// Sends the one answer; false when the client has gone.
    pub(super) fn answer(&mut self, client: Key, reply: &Reply<'_>, fd: Option<BorrowedFd<'_>>) -> bool {
        let mut bytes = [0; PICTURE_MESSAGE_MAX];
        match reply.encode(&mut bytes) {
            Ok(len) => self.control.answer(client, &bytes[..len], fd).is_ok(),
            Err(_) => false,
        }
    }

    /// Sends the first of two answers; false when the client has gone.
    pub(super) fn answer_first(&mut self, client: Key, reply: &Reply<'_>, fd: BorrowedFd<'_>) -> bool {
        let mut bytes = [0; MESSAGE_MAX];
        match reply.encode(&mut bytes) {
            Ok(len) => self.control.answer_first(client, &bytes[..len], Some(fd)).is_ok(),
            Err(_) => false,
        }
    }

    pub(super) fn answer_error(&mut self, client: Key, error: Errno) {
        self.answer(client, &Reply::Error(error.raw_os_error()), None);
    }

    /// Requests about one connection whose answer is data.
    fn serve_cookie<'v>(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        fd: Option<&OwnedFd>,
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
                let len = self.get_option(now, cookie, level, name, &mut value[..room])?;
                Ok(Reply::Value(&value[..len]))
            }
            Request::SetOption { cookie, level, name } => {
                let judge = fd.ok_or(Errno::BADMSG)?;
                self.set_option(now, cookie, judge.as_fd(), level, name)
                    .map(|()| Reply::Done)
            }
            Request::SetWish { cookie, name, value } => {
                let (key, _) = self.connection(cookie)?;
                self.set_multipath(now, key, name, value).map(|()| Reply::Done)
            }
            Request::QueueSizes { cookie } => self.queue_sizes(cookie).map(Reply::Queues),
            Request::Shutdown { cookie, both } => {
                let (key, _) = self.connection(cookie)?;
                self.with_stream(now, key, |relay, stream| relay.shutdown(stream, both));
                Ok(Reply::Done)
            }
            Request::Connect(_)
            | Request::Listen(_)
            | Request::Claim
            | Request::Abort { .. }
            | Request::Wait { .. }
            | Request::Picture { .. }
            | Request::AskWish { .. }
            | Request::Left(_)
            | Request::Status => Err(Errno::PROTO),
        }
    }

    fn serve_ask(&mut self, now: Instant, client: Key, cookie: u64, name: i32, value: &[u8]) {
        let asked = self.connection(cookie).map(|(key, _)| key);
        match asked.and_then(|key| self.ask_multipath(now, key, name, value)) {
            Ok((_, Some(fd))) => {
                self.answer(client, &Reply::Done, Some(fd.as_fd()));
            }
            Ok((bytes, None)) => {
                self.answer(client, &Reply::Value(&bytes), None);
            }
            Err(error) => self.answer_error(client, error),
        }
    }

    pub(super) fn connection(&mut self, cookie: u64) -> Result<(Key, &mut Connection), Errno> {
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
        self.ends.get(cookie).map_or(forgotten, |end| end.report)
    }

    /// Answers now, or when the handshake is over.
    fn serve_wait(&mut self, client: Key, cookie: u64) {
        let report = self.phase(cookie);
        if report.phase != Phase::Connecting {
            self.answer(client, &Reply::Phase(report), None);
            return;
        }
        let Engine {
            control,
            by_cookie,
            connections,
            ..
        } = self;
        let connection = by_cookie.get(&cookie).and_then(|key| connections.get_mut(*key));
        let waiters = connection.map(|connection| &mut connection.waiters);
        let Some(waiters) = waiters else { return };
        waiters.retain(|waiter| control.is_here(*waiter));
        if waiters.len() >= WAITERS_MAX {
            return self.answer_error(client, Errno::AGAIN);
        }
        waiters.push(client);
        control.hold(client);
    }

    fn get_option(
        &mut self,
        now: Instant,
        cookie: u64,
        level: i32,
        name: i32,
        value: &mut [u8],
    ) -> Result<usize, Errno> {
        let Ok((key, connection)) = self.connection(cookie) else {
            return self.get_option_of_the_past(cookie, level, name, value);
        };
        if is_ours(level, name) {
            let answer = self.get_multipath(key, name)?.to_ne_bytes();
            let len = answer.len().min(value.len());
            value[..len].copy_from_slice(&answer[..len]);
            return Ok(len);
        }
        let conn = match &connection.backend {
            Backend::Kernel(stream) => return socket_options::get(stream.as_fd(), level, name, value),
            Backend::Core(conn) => *conn,
        };
        let info = self
            .core
            .as_ref()
            .and_then(|core| core.endpoint.info(conn))
            .ok_or(Errno::NOTCONN)?;
        let (_, connection) = self.connection(cookie)?;
        let computed = connection.computed_option(now, &info, level, name);
        let answer = match &computed {
            Some(bytes) => bytes.as_slice(),
            None => match connection.options.get(level, name) {
                Some(kept) => kept,
                None => return connection.options.get_unset(level, name, value),
            },
        };
        let len = answer.len().min(value.len());
        value[..len].copy_from_slice(&answer[..len]);
        Ok(len)
    }

    /// A connection that is over keeps its options, as the kernel's do; those of `mptcp.h` end with it.
    fn get_option_of_the_past(&self, cookie: u64, level: i32, name: i32, value: &mut [u8]) -> Result<usize, Errno> {
        let end = self.ends.get(cookie).filter(|_| !is_ours(level, name));
        let end = end.ok_or(Errno::NOTCONN)?;
        let multipath = i32::from(end.multipath).to_ne_bytes();
        let answer = match (level, name) {
            (libc::IPPROTO_TCP, libc::TCP_INFO) => &end.tcp_info[..],
            (libc::IPPROTO_TCP, TCP_IS_MPTCP) => &multipath,
            _ => match end.options.get(level, name) {
                Some(kept) => kept,
                None => return end.options.get_unset(level, name, value),
            },
        };
        let len = answer.len().min(value.len());
        value[..len].copy_from_slice(&answer[..len]);
        Ok(len)
    }

    /// The program has set the option on `judge`, a socket of its own: what it may not do there it cannot do here.
    fn set_option(
        &mut self,
        now: Instant,
        cookie: u64,
        judge: BorrowedFd<'_>,
        level: i32,
        name: i32,
    ) -> Result<(), Errno> {
        self.namespace.check(judge)?;
        let Some(key) = self.by_cookie.get(&cookie).copied() else {
            let end = self.ends.get_mut(cookie).ok_or(Errno::NOTCONN)?;
            return end.options.set_as(judge, level, name);
        };
        let connection = self.connections.get_mut(key).ok_or(Errno::NOTCONN)?;
        let conn = match &connection.backend {
            Backend::Core(conn) => *conn,
            Backend::Kernel(stream) => {
                // Kept too: linger is ours to obey, since the engine closes the kernel's socket.
                connection.options.set_as(judge, level, name)?;
                return connection.options.apply(stream.as_fd(), level, name);
            }
        };
        connection.options.set_as(judge, level, name)?;
        let (kept, ipv6) = (&connection.options, connection.wire_remote().is_ipv6());
        if let Some(core) = &mut self.core {
            core.endpoint.set_options(now, conn, &mut |options| {
                kept.update_core(ipv6, options);
                connection.policy().apply(options);
            });
            if (level, name) == (libc::IPPROTO_TCP, libc::TCP_QUICKACK) {
                core.endpoint.set_quick_ack(now, conn, kept.quick_ack());
            }
        }
        Ok(())
    }

    fn queue_sizes(&mut self, cookie: u64) -> Result<Queues, Errno> {
        let (_, connection) = self.connection(cookie)?;
        let in_shadow = connection.relay.as_ref().map_or(0, |relay| relay.unread());
        let Queues { unacked, unsent } = match &connection.backend {
            Backend::Kernel(stream) => stream.queues()?,
            Backend::Core(conn) => {
                let conn = *conn;
                let info = self
                    .core
                    .as_ref()
                    .and_then(|core| core.endpoint.info(conn))
                    .ok_or(Errno::NOTCONN)?;
                let bytes = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                Queues {
                    unacked: bytes(info.send_queue),
                    unsent: bytes(info.unsent),
                }
            }
        };
        Ok(Queues {
            unacked: unacked.saturating_add(in_shadow),
            unsent: unsent.saturating_add(in_shadow),
        })
    }

    /// What connect() to AF_UNSPEC does: resets what there is, and gives an unconnected socket like the first one.
    fn disconnect(&mut self, now: Instant, cookie: u64) -> Result<OwnedFd, Errno> {
        // What the program wrote before goes first.
        if let Ok((key, connection)) = self.connection(cookie) {
            if let Some(relay) = &mut connection.relay {
                relay.ask();
            }
            self.turn(now, key);
        }
        if let Ok((key, connection)) = self.connection(cookie) {
            match &mut connection.backend {
                Backend::Kernel(stream) => stream.abort(),
                Backend::Core(conn) => {
                    let conn = *conn;
                    if let Some(core) = &mut self.core {
                        CoreStream {
                            core,
                            conn,
                            now,
                            flushed: false,
                        }
                        .abort();
                    }
                }
            }
            self.end(now, key, Ending::Aborted);
        }
        let end = self.ends.get(cookie).ok_or(Errno::NOTCONN)?;
        let socket = end.options.fresh_socket()?;
        multipath::write_wishes(socket.as_fd(), &end.wishes);
        if let Some(bound) = end.bound {
            bind(&socket, &bound)?;
        }
        Ok(socket)
    }
}

impl Connection {
    /// Options whose value is not what the program set.
    fn computed_option(&self, now: Instant, info: &ConnInfo, level: i32, name: i32) -> Option<Vec<u8>> {
        let int = |value: i32| Some(value.to_ne_bytes().to_vec());
        match (level, name) {
            (libc::IPPROTO_TCP, libc::TCP_INFO) => {
                let ends = self.relay.as_ref().map_or((true, true), |relay| relay.ends());
                let unread = self.relay.as_ref().map_or(0, |relay| relay.unread());
                Some(tcp_info::bytes(info, ends, unread, now).to_vec())
            }
            (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => int(info.subflows.first().map_or(536, |first| first.mss as i32)),
            (libc::IPPROTO_IP, libc::IP_MTU) | (libc::IPPROTO_IPV6, libc::IPV6_MTU) => {
                info.subflows.first().and_then(|first| int(first.mtu as i32))
            }
            // As CUBIC in Linux: nothing to say.
            (libc::IPPROTO_TCP, libc::TCP_CC_INFO) => Some(Vec::new()),
            (libc::IPPROTO_TCP, TCP_IS_MPTCP) => int(i32::from(info.fallback.is_none())),
            (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => {
                let mut name = [0; 16];
                let algorithm = self.policy().congestion().name().as_bytes();
                name[..algorithm.len()].copy_from_slice(algorithm);
                Some(name.to_vec())
            }
            _ => None,
        }
    }
}

//! The request to connect: is the passed socket what it must be, who shall speak TCP for it, and the answer.
//!
//! Authority is the passed socket: who could create and bind it may use that address and port. It must be a fresh TCP
//! socket of the destination's family; everything else goes back to the kernel with the reason.
//!
//! The passed socket is kept while the core's handshake runs. When no answer comes at all, the kernel's own connect()
//! gets a try with it, from the same address and port.

use super::connection::{self, map_like, unmap, Backend, Connection};
use super::core::Opening;
use super::event_loop::{Key, Source};
use super::kernel_stream::KernelStream;
use super::multipath;
use super::namespace::Namespace;
use super::paths;
use super::policy::Defaults;
use super::recent::BypassRecord;
use super::relay::Relay;
use super::server::Engine;
use super::shadow::Shadow;
use super::socket_options::{self, SocketOptions};
use crate::control::multipath::{Wishes, CONGESTIONS};
use crate::control::shadow::{ShadowName, NAME_MAX};
use crate::control::{loopback_wanted, Bypass, Connect, Left, Reply};
use crate::link::path_config::PathConfig;
use crate::mptcp::endpoint::{ConnOptions, FourTuple};
use crate::time::{Duration, Instant};
use rustix::io::Errno;
use rustix::net::{bind, getsockname, ipproto, socket_with, sockopt};
use rustix::net::{AddressFamily, SocketFlags, SocketType, UCred};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Names that are tried before the engine says it has none left: serial numbers wrap, connections may live on.
const SERIALS_MAX: u32 = 64;

/// TCP_CLOSE of the kernel's tcp_states.h: neither connected nor connecting nor listening.
const TCP_CLOSE: u8 = 7;

/// SYNs that the core repeats, beside the four that come a second apart, before the kernel gets its try: three SYNs ask for MPTCP and two
/// do not, which takes 5 to 6 seconds. A peer that the kernel reaches and our link does not is found before most
/// programs lose their patience.
const SYN_RETRIES_MAX: u8 = 1;

/// Why there is no shadow.
enum Refusal {
    /// The kernel's TCP shall do it.
    Bypass(Bypass),
    /// The call fails.
    Error(Errno),
}

impl From<Bypass> for Refusal {
    fn from(reason: Bypass) -> Self {
        Refusal::Bypass(reason)
    }
}

/// What a program wants, beside its socket.
struct Wish {
    /// As the program gave it.
    remote: SocketAddr,
    options: SocketOptions,
    /// The address that the program has bound.
    bound: Option<SocketAddr>,
    wishes: Box<Wishes>,
    defaults: Defaults,
    path_config: PathConfig,
    /// MPTCP_LOOPBACK=1.
    loopback: bool,
    program: String,
    pid: u32,
}

impl Wish {
    /// The kernel does not know the program's list of addresses: where no path has one of them, it is not to have the connection.
    fn refusal(&self, reason: Bypass) -> Refusal {
        let narrowed = self.path_config.sources != multipath::sources(&Wishes::default(), self.bound);
        match reason {
            Bypass::NoRoute if narrowed => Refusal::Error(Errno::ADDRNOTAVAIL),
            reason => Refusal::Bypass(reason),
        }
    }
}

impl Engine {
    /// Answers a request to connect.
    pub(super) fn serve_connect(
        &mut self,
        now: Instant,
        client: Key,
        request: &Connect<'_>,
        fd: Option<OwnedFd>,
        cred: UCred,
    ) {
        self.counters.connects += 1;
        let settings = self
            .settings_files
            .complete(request.settings, request.program, Some(request.remote));
        let request = &Connect {
            settings: &settings,
            ..*request
        };
        let pid = cred.pid.as_raw_nonzero().get() as u32;
        let program = String::from_utf8_lossy(request.program).into_owned();
        let remote = request.remote;
        let result = verify(&self.namespace, fd, remote).and_then(|(socket, options)| {
            if options.congestion().is_some_and(|name| !CONGESTIONS.contains(&name)) {
                return Err(Bypass::Option.into());
            }
            let (wishes, bound) = (
                Box::new(multipath::read_wishes(socket.as_fd())),
                bound_address(socket.as_fd()),
            );
            let off = request.setting("MPTCP") == Some(b"off") && wishes.enable != Some(true);
            if wishes.enable == Some(false) || off {
                return Err(Bypass::TurnedOff.into());
            }
            let mut path_config = paths::parse_config(request.setting("MPTCP_PATHS"));
            path_config.sources = multipath::sources(&wishes, bound);
            let wish = Wish {
                remote,
                options,
                bound,
                wishes,
                defaults: Defaults::read(request.settings),
                path_config,
                loopback: loopback_wanted(request.settings),
                program: program.clone(),
                pid,
            };
            let by_kernel = request.setting("MPTCP_LINK") == Some(b"kernel");
            self.connect(now, socket, wish, by_kernel)
        });
        match result {
            Ok((key, cookie, end)) => {
                let shadow = Reply::Shadow { cookie };
                let answered = match request.nonblocking {
                    true => self.answer(client, &shadow, Some(end.as_fd())),
                    false => self.answer_first(client, &shadow, end.as_fd()),
                };
                if !answered {
                    log::info!("{program}[{pid}] went away before its connection was there");
                }
                if let (false, Some(connection)) = (request.nonblocking, self.connections.get_mut(key)) {
                    connection.waiters.push(client);
                }
                // The program's end is the program's alone now, or nobody's: then the shadow hangs up.
                drop(end);
                self.turn(now, key);
            }
            Err(Refusal::Bypass(reason)) => {
                self.note_bypass(BypassRecord {
                    at: now,
                    program,
                    pid,
                    remote,
                    reason,
                });
                self.answer(client, &Reply::Bypass(reason), None);
            }
            Err(Refusal::Error(errno)) => {
                self.answer(client, &Reply::Error(errno.raw_os_error()), None);
            }
        }
    }

    /// A program left a connection to the kernel without asking: it is counted, and shown, as if it had asked.
    pub(super) fn serve_left(&mut self, now: Instant, client: Key, left: &Left<'_>, cred: &UCred) {
        self.counters.connects += 1;
        self.note_bypass(BypassRecord {
            at: now,
            program: String::from_utf8_lossy(left.program).into_owned(),
            pid: cred.pid.as_raw_nonzero().get() as u32,
            remote: left.remote,
            reason: left.reason,
        });
        self.answer(client, &Reply::Done, None);
    }

    fn note_bypass(&mut self, record: BypassRecord) {
        let (program, pid, remote, why) = (&record.program, record.pid, record.remote, record.reason.text());
        log::info!("{program}[{pid}] > {remote} left to the kernel: {why}");
        self.counters.bypassed += 1;
        self.bypasses.push(record);
    }

    /// Begins a connection: its key, its cookie, and the program's end of the shadow.
    fn connect(
        &mut self,
        now: Instant,
        socket: OwnedFd,
        wish: Wish,
        by_kernel: bool,
    ) -> Result<(Key, u64, OwnedFd), Refusal> {
        // What can fail for want of resources comes before anything leaves this host.
        let (shadow, end) = Shadow::connecting(&self.padding).map_err(|_| Bypass::NoResources)?;
        let cookie = sockopt::socket_cookie(&end).map_err(|_| Bypass::NoResources)?;
        let relay = Relay::new(shadow);
        let key = if by_kernel {
            self.connect_kernel(now, socket, wish, relay, cookie)?
        } else {
            self.connect_core(now, socket, wish, relay, cookie)?
        };
        Ok((key, cookie, end))
    }

    /// Begins a connection of the core.
    fn connect_core(
        &mut self,
        now: Instant,
        socket: OwnedFd,
        wish: Wish,
        relay: Relay,
        cookie: u64,
    ) -> Result<Key, Refusal> {
        let remote = unmap(wish.remote);
        if self.plain_peers.until(now, remote).is_some() {
            return Err(Bypass::PeerPlain.into());
        }
        let core = self.core.as_mut().ok_or(Bypass::NoLink)?;
        core.prepare(now);
        let query = connection::query(wish.remote, wish.bound, &wish.options);
        let all = match paths::first_paths(core, &query, &wish.path_config) {
            Err(Bypass::OwnAddress) if wish.loopback => paths::own_path(core, &query, &wish.path_config),
            found => found,
        }
        .map_err(|reason| wish.refusal(reason))?;
        let path = *all.first().ok_or(Bypass::NoRoute)?;
        let mut options = wish.options.for_core(remote.is_ipv6());
        bound_attempt(&mut options);
        let has_port = wish.bound.is_some_and(|bound| bound.port() != 0);
        let bound = has_port.then(|| socket.as_fd());
        // A port that cannot be had: the kernel's connect() says it best.
        let (conn, tuple) = core
            .connect(
                now,
                Opening {
                    remote,
                    path,
                    bound,
                    options,
                },
            )
            .map_err(|error| {
                log::info!("no port towards {remote}: {error}");
                guard_refusal(&error)
            })?;
        let local = map_like(tuple.local, wish.remote);
        let named = self.name_shadow(&relay, local, wish.remote).is_ok();
        let key = self.insert(now, relay, Backend::Core(conn), wish, local, cookie);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.spare = Some(socket);
        }
        if named && self.watch(key, cookie) {
            if let (Some(core), Some(connection)) = (&mut self.core, self.connections.get(key)) {
                core.by_conn.insert(conn, key);
                core.endpoint
                    .set_options(now, conn, &mut |options| connection.policy().apply(options));
                core.endpoint.set_paths(now, conn, &connection.shaped(all));
            }
            return Ok(key);
        }
        self.connections.remove(key);
        if let Some(core) = &mut self.core {
            core.endpoint.abort(now, conn);
        }
        Err(Bypass::NoResources.into())
    }

    /// Begins a connection over the kernel's TCP.
    fn connect_kernel(
        &mut self,
        now: Instant,
        socket: OwnedFd,
        wish: Wish,
        relay: Relay,
        cookie: u64,
    ) -> Result<Key, Refusal> {
        let stream = KernelStream::connect(socket, wish.remote).map_err(|(error, _)| Refusal::Error(error))?;
        let local = local_address(stream.as_fd());
        let named = local.filter(|local| self.name_shadow(&relay, *local, wish.remote).is_ok());
        let Some(local) = named else {
            stream.undo();
            return Err(Bypass::NoResources.into());
        };
        let key = self.insert(now, relay, Backend::Kernel(stream), wish, local, cookie);
        if self.watch(key, cookie) {
            self.note_plain(key, "MPTCP_LINK=kernel");
            return Ok(key);
        }
        if let Some(Connection {
            backend: Backend::Kernel(stream),
            ..
        }) = self.connections.remove(key)
        {
            stream.undo();
        }
        Err(Bypass::NoResources.into())
    }

    /// The last resort of a connection of the core that got no answer: the kernel's own connect(), from the same
    /// address and port. False when that is not possible.
    ///
    /// Both attempts together take about as long as the kernel's alone would have: the time left becomes its
    /// TCP_USER_TIMEOUT, which the program's own value replaces when it is established.
    pub(super) fn try_kernel(&mut self, now: Instant, key: Key) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let (Backend::Core(conn), Some(spare)) = (&connection.backend, connection.spare.take()) else {
            return false;
        };
        let conn = *conn;
        // The kernel's socket takes the port over. Should it fail, the attempt is over, and a late answer is the kernel's to refuse.
        if let Some(core) = &mut self.core {
            core.release(FourTuple {
                local: unmap(connection.local),
                remote: unmap(connection.remote),
            });
        }
        let has_port = connection.bound.is_some_and(|bound| bound.port() != 0);
        if !has_port && bind(&spare, &connection.local).is_err() {
            return false;
        }
        let remote = connection.wire_remote();
        let given = connection.options.for_core(remote.is_ipv6());
        let whole = given.user_timeout.unwrap_or_else(|| attempt_time(given.syn_retries));
        let left = whole.saturating_sub(now.since(connection.since));
        let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        if left_ms == 0 || sockopt::set_tcp_user_timeout(&spare, left_ms).is_err() {
            return false;
        }
        let Ok(stream) = KernelStream::connect(spare, connection.remote) else {
            return false;
        };
        if self.event_loop.add(stream.as_fd(), Source::Kernel(key)).is_err() {
            return false;
        }
        log::info!(
            "{}: no answer on our link, once more through the kernel",
            connection.describe()
        );
        connection.backend = Backend::Kernel(stream);
        self.note_plain(key, "no answer on our link, but perhaps one to the kernel");
        if let Some(core) = &mut self.core {
            core.by_conn.remove(&conn);
        }
        true
    }

    /// Remembers why a connection does not speak MPTCP.
    pub(super) fn note_plain(&mut self, key: Key, why: &'static str) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.why_plain = Some(why);
        }
    }

    fn insert(
        &mut self,
        now: Instant,
        relay: Relay,
        backend: Backend,
        wish: Wish,
        local: SocketAddr,
        cookie: u64,
    ) -> Key {
        let Wish {
            remote,
            options,
            bound,
            wishes,
            defaults,
            path_config,
            loopback: _,
            program,
            pid,
        } = wish;
        self.connections.insert_with(|_| Connection {
            relay: Some(relay),
            backend,
            cookie,
            options,
            local,
            remote,
            program,
            pid,
            since: now,
            bound,
            wishes,
            defaults,
            path_config,
            spare: None,
            waiters: Vec::new(),
            why_plain: None,
            flushed: false,
            queued: false,
            watchers: Vec::new(),
            accepted: false,
            delivery: None,
            uid: None,
        })
    }

    /// Has the event loop watch a new connection.
    pub(super) fn watch(&mut self, key: Key, cookie: u64) -> bool {
        let Some(connection) = self.connections.get(key) else {
            return false;
        };
        let Some(relay) = &connection.relay else { return false };
        let mut watched = self.event_loop.add(relay.as_fd(), Source::Shadow(key));
        if let Backend::Kernel(stream) = &connection.backend {
            watched = watched.and_then(|()| self.event_loop.add(stream.as_fd(), Source::Kernel(key)));
        }
        if watched.is_ok() {
            self.by_cookie.insert(cookie, key);
        }
        watched.is_ok()
    }

    /// Gives the shadow the name that says whose it is and what it is connected to.
    pub(super) fn name_shadow(&mut self, relay: &Relay, local: SocketAddr, remote: SocketAddr) -> Result<(), Errno> {
        for _ in 0..SERIALS_MAX {
            self.next_serial = self.next_serial.wrapping_add(1);
            let name = ShadowName {
                engine: self.settings.id,
                serial: self.next_serial,
                local,
                remote,
            };
            let mut bytes = [0; NAME_MAX];
            let len = name.encode(&mut bytes).ok_or(Errno::AFNOSUPPORT)?;
            match relay.bind(&bytes[..len]) {
                Err(Errno::ADDRINUSE) => {}
                result => return result,
            }
        }
        Err(Errno::ADDRINUSE)
    }
}

/// What TCP_SYNCNT and TCP_USER_TIMEOUT allow to an attempt to connect, and of that the core's part.
pub(super) fn bound_attempt(options: &mut ConnOptions) {
    let patience = options.user_timeout;
    options.syn_patience = Some(patience.unwrap_or_else(|| attempt_time(options.syn_retries)));
    options.syn_retries = options.syn_retries.min(SYN_RETRIES_MAX);
}

/// How long the kernel tries to connect with this many repetitions of its SYN (net/ipv4/tcp_timer.c `tcp_model_timeout`;
/// repetitions a second apart make it no longer than to the next one).
fn attempt_time(syn_retries: u8) -> Duration {
    let last_wait = 1u64 << u32::from(syn_retries).min(30);
    Duration::from_secs(2 * last_wait - 1)
}

/// Why there is no guard for a port.
fn guard_refusal(error: &io::Error) -> Bypass {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Bypass::NoPrivilege,
        Some(libc::ECONNREFUSED) => Bypass::NotOurListener,
        Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL) => Bypass::NoPort,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => Bypass::NoResources,
        _ => Bypass::EngineFault,
    }
}

/// The passed descriptor must be a TCP socket of the destination's family that the kernel does not use yet.
fn verify(namespace: &Namespace, fd: Option<OwnedFd>, remote: SocketAddr) -> Result<(OwnedFd, SocketOptions), Refusal> {
    let socket = fd.ok_or(Bypass::Unproven)?;
    let unproven = |_| Refusal::from(Bypass::Unproven);
    namespace.check(socket.as_fd()).map_err(unproven)?;
    let family = sockopt::socket_domain(&socket).map_err(unproven)?;
    let stream = sockopt::socket_type(&socket).map_err(unproven)? == SocketType::STREAM;
    if !stream || sockopt::socket_protocol(&socket).map_err(unproven)? != Some(ipproto::TCP) {
        return Err(Bypass::NotTcp.into());
    }
    let inet6 = match (family, remote) {
        (AddressFamily::INET, SocketAddr::V4(_)) => false,
        (AddressFamily::INET6, SocketAddr::V6(_)) => true,
        _ => return Err(Bypass::OddAddress.into()),
    };
    let mut state = [0; 1];
    socket_options::get(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut state).map_err(unproven)?;
    if state[0] != TCP_CLOSE {
        return Err(Bypass::NotFresh.into());
    }
    let options = SocketOptions::read(socket.as_fd(), inet6).map_err(unproven)?;
    let mapped = inet6 && unmap(remote).is_ipv4();
    if mapped && sockopt::ipv6_v6only(&socket).map_err(unproven)? {
        return Err(Bypass::OddAddress.into());
    }
    Ok((socket, options))
}

fn local_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    SocketAddr::try_from(getsockname(socket).ok()?).ok()
}

/// The address that a socket is bound to; None when it is not.
fn bound_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    let local = local_address(socket)?;
    match (local.ip().is_unspecified(), local.port()) {
        (true, 0) => None,
        (true, _) if !holds_port(socket, local) => None,
        _ => Some(local),
    }
}

/// Whether a socket without an address has the port that getsockname() shows: a dissolved connection's port is shown, and given back
/// (net/ipv4/tcp.c `tcp_disconnect`). Who has a port is told so by bind() (EINVAL) before it is told that another one has the port it
/// asks for.
fn holds_port(socket: BorrowedFd<'_>, like: SocketAddr) -> bool {
    let (family, loopback) = match like {
        SocketAddr::V4(_) => (AddressFamily::INET, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        SocketAddr::V6(_) => (AddressFamily::INET6, SocketAddr::from((Ipv6Addr::LOCALHOST, 0))),
    };
    let taken = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .and_then(|other| bind(&other, &loopback).map(|()| other));
    let Ok(other) = taken else { return true };
    let Some(taken) = local_address(other.as_fd()) else {
        return true;
    };
    bind(socket, &taken) != Err(Errno::ADDRINUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{connect, connect_unspec};

    #[test]
    fn a_dissolved_connections_port_is_not_bound() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = listener.local_addr().unwrap();
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        assert_eq!(bound_address(socket.as_fd()), None);
        connect(&socket, &remote).unwrap();
        connect_unspec(&socket).unwrap();
        assert_ne!(local_address(socket.as_fd()).unwrap().port(), 0, "it is shown");
        assert_eq!(bound_address(socket.as_fd()), None);
        connect(&socket, &remote).unwrap();
    }

    #[test]
    fn what_the_program_has_bound_is_bound() {
        for any in ["0.0.0.0:0", "[::]:0", "127.0.0.1:0"] {
            let any: SocketAddr = any.parse().unwrap();
            let family = if any.is_ipv4() {
                AddressFamily::INET
            } else {
                AddressFamily::INET6
            };
            let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            bind(&socket, &any).unwrap();
            let local = local_address(socket.as_fd());
            assert!(local.unwrap().port() != 0);
            assert_eq!(bound_address(socket.as_fd()), local);
        }
    }
}

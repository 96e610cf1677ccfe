//! How an established connection gets to the program that listens: through its own accept().
//!
//! The engine connects to the program's listening socket over the loopback device, once per connection, by a kernel TCP connection that carries
//! nothing: the *carrier*. So poll, epoll in all its flavours, the backlog, SO_REUSEPORT, prefork, EMFILE and shutdown() are the kernel's. The
//! accept hook recognises a carrier ([`CARRIER_MSS`]), shows it to the engine ([`Request::Claim`](crate::control::Request::Claim)), and puts the
//! shadow that it gets in the carrier's place. The carrier that it accepted is the proof that it may have it, whatever user it has
//! become; and it has inherited the listener's socket options, as the kernel does it.

use super::connection::{map_like, unmap, Backend, Connection};
use super::descriptors;
use super::event_loop::{Key, Readiness, Source};
use super::listeners::Listener;
use super::paths;
use super::policy::Defaults;
use super::pump::{Pump, Pumped};
use super::relay::{Ending, Relay};
use super::server::Engine;
use super::shadow::Shadow;
use super::socket_options::{self, SocketOptions};
use crate::control::carrier::{CARRIER_MSS, CARRIER_SOURCE};
use crate::control::multipath::Wishes;
use crate::control::{setting, Reply};
use crate::mptcp::endpoint::{ConnId, FourTuple};
use crate::time::Instant;
use rustix::io::Errno;
use rustix::net::{
    bind, connect, getpeername, getsockname, send, socket_with, sockopt, AddressFamily, SendFlags, SocketFlags,
    SocketType, UCred,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How often carriers are looked at that were accepted and not claimed.
const CLAIM_TIME: Duration = Duration::from_millis(200);
/// How often one is found so until it is the connection itself: a program that is stopped just there for longer loses the peer's address, no
/// more. Where the last one was never claimed, the next is not waited for.
const PATIENCE: u32 = 5;
/// When to try again to hand over what there were no descriptors for.
const RETRY: Duration = Duration::from_millis(50);
/// Carriers that are looked at in one turn.
const LOOKS_MAX: usize = 64;

/// A connection on its way to a program.
pub struct Delivery {
    carrier: OwnedFd,
    /// The carrier's own address: the accepted end's peer.
    address: SocketAddr,
    /// The program's end of the shadow, and its SO_COOKIE.
    end: OwnedFd,
    cookie: u64,
    connection: Key,
    /// A listener with TCP_DEFER_ACCEPT shows a connection when it has brought data: the carrier brings the first byte then.
    deferred: bool,
    first_byte: Option<u8>,
    /// That byte was sent by the carrier.
    primed: bool,
    /// Where it connects to.
    target: SocketAddr,
    established: bool,
    /// How often it was found accepted and not claimed.
    unclaimed: u32,
}

impl Delivery {
    fn send_first_byte(&mut self) {
        if let (Some(byte), false) = (self.first_byte, self.primed) {
            // Not before the handshake is done: then the carrier becomes writable.
            self.primed = send(&self.carrier, &[byte], SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok();
        }
    }
}

/// What a listener gives its connections, copied so that it need not be held.
struct Origin {
    bound: SocketAddr,
    options: SocketOptions,
    wishes: Box<Wishes>,
    /// The variables of its program.
    settings: String,
    program: String,
    pid: u32,
    own_side: (SocketAddr, std::net::IpAddr),
    deferred: bool,
}

impl Origin {
    fn of(listener: &Listener) -> Origin {
        Origin {
            bound: listener.record.bound,
            options: listener.options.clone(),
            wishes: listener.wishes.clone(),
            settings: listener.record.settings.clone(),
            program: listener.record.program.clone(),
            pid: listener.record.pid,
            own_side: listener.own_side(),
            deferred: listener.options.defers_accept(),
        }
    }
}

impl Engine {
    /// The core has accepted a connection.
    pub(super) fn on_accepted(&mut self, now: Instant, conn: ConnId, tuple: FourTuple) {
        if !self.undelivered.is_empty() {
            // In their order, as in the kernel's queue.
            return self.undelivered.push_back((conn, tuple));
        }
        self.try_delivery(now, conn, tuple);
    }

    /// Tries again to hand over what there were no descriptors for.
    pub(super) fn deliver_late(&mut self, now: Instant) {
        if self.undelivered_due.is_none_or(|due| due > now) {
            return;
        }
        self.undelivered_due = None;
        for (conn, tuple) in std::mem::take(&mut self.undelivered) {
            self.on_accepted(now, conn, tuple);
        }
        if self.undelivered.is_empty() {
            self.set_saturated(false);
        }
    }

    /// As a program that is out of descriptors leaves connections in the kernel's queue, until the queue is full.
    fn wait_for_descriptors(&mut self, now: Instant, conn: ConnId, tuple: FourTuple) {
        self.undelivered.push_back((conn, tuple));
        self.undelivered_due = Some(now + RETRY);
        self.set_saturated(true);
    }

    fn set_saturated(&mut self, saturated: bool) {
        let listeners = self.core.as_mut().and_then(|core| core.listeners.as_mut());
        let changed = listeners.is_some_and(|listeners| listeners.set_saturated(saturated));
        match saturated {
            true if changed => log::warn!("no descriptors are left: new connections wait"),
            false if changed => log::info!("there are descriptors again"),
            _ => {}
        }
    }

    fn try_delivery(&mut self, now: Instant, conn: ConnId, tuple: FourTuple) {
        let origin = self.core.as_mut().and_then(|core| {
            let listeners = core.listeners.as_mut()?;
            listeners.count(tuple.local).map(Origin::of)
        });
        let delivered = match origin {
            Some(origin) => self.deliver(now, conn, tuple, origin),
            None => Err(Errno::CONNREFUSED),
        };
        match delivered {
            Ok(key) => self.turn(now, key),
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS) => self.wait_for_descriptors(now, conn, tuple),
            Err(error) => {
                log::warn!("{} > {} cannot be delivered: {error}", tuple.remote, tuple.local);
                if let Some(core) = &mut self.core {
                    core.endpoint.abort(now, conn);
                }
            }
        }
    }

    /// Makes the engine's side of a new connection, and sends it on its way.
    fn deliver(&mut self, now: Instant, conn: ConnId, tuple: FourTuple, origin: Origin) -> Result<Key, Errno> {
        if let Some(core) = &mut self.core {
            core.subflow_up(tuple, origin.options.reuses_address());
        }
        let (shadow, end) = Shadow::connected().map_err(errno)?;
        if end.as_raw_fd() as usize >= descriptors::for_connections() {
            return Err(Errno::MFILE);
        }
        let cookie = sockopt::socket_cookie(&end)?;
        let mut relay = Relay::new(shadow);
        relay.establish();
        let (local, remote) = (
            map_like(tuple.local, origin.bound),
            map_like(tuple.remote, origin.bound),
        );
        self.name_shadow(&relay, local, remote)?;
        let (target, source) = origin.own_side;
        let carrier = open_carrier(target, source)?;
        let address = SocketAddr::try_from(getsockname(&carrier)?).map_err(|_| Errno::AFNOSUPPORT)?;
        // A program that bound a certain address gets that one only.
        let bound = (!origin.bound.ip().is_unspecified()).then_some(local);
        // The files may say something else than when it began to listen.
        let settings = self
            .settings_files
            .complete(origin.settings.as_bytes(), origin.program.as_bytes(), None);
        let key = self.connections.insert_with(|_| Connection {
            relay: Some(relay),
            backend: Backend::Core(conn),
            cookie,
            options: origin.options,
            local,
            remote,
            program: origin.program,
            pid: origin.pid,
            since: now,
            bound,
            wishes: origin.wishes,
            defaults: Defaults::read(&settings),
            path_config: paths::parse_config(setting(&settings, "MPTCP_PATHS")),
            spare: None,
            waiters: Vec::new(),
            why_plain: None,
            flushed: false,
            queued: false,
            watchers: Vec::new(),
            accepted: true,
            delivery: None,
            uid: None,
        });
        let deferred = origin.deferred;
        let delivery = self.deliveries.insert_with(|_| Delivery {
            carrier,
            address,
            end,
            cookie,
            deferred,
            first_byte: None,
            primed: false,
            connection: key,
            target,
            established: false,
            unclaimed: 0,
        });
        if !self.watch(key, cookie) || !self.watch_carrier(now, delivery) {
            self.drop_delivery(delivery);
            self.by_cookie.remove(&cookie);
            self.connections.remove(key);
            return Err(Errno::NOMEM);
        }
        if let Some(connection) = self.connections.get_mut(key) {
            connection.delivery = Some(delivery);
        }
        if let Some(core) = &mut self.core {
            core.by_conn.insert(conn, key);
        }
        self.obey(now, key);
        self.obey_listeners_list(now, key);
        Ok(key)
    }

    /// Before a connection's first data may be moved: a carrier that was deferred is accepted when it brings something too.
    pub(super) fn prime(&mut self, key: Key) {
        let (Some(connection), Some(core)) = (self.connections.get(key), &self.core) else {
            return;
        };
        let Some(delivery) = connection.delivery.and_then(|key| self.deliveries.get_mut(key)) else {
            return;
        };
        if let (true, None, Backend::Core(conn)) = (delivery.deferred, delivery.first_byte, &connection.backend) {
            let data = core.endpoint.recv(*conn).map_or(&[][..], |(first, _)| first);
            delivery.first_byte = data.first().copied();
            delivery.send_first_byte();
        }
    }

    fn watch_carrier(&mut self, now: Instant, key: Key) -> bool {
        let Some(delivery) = self.deliveries.get(key) else {
            return false;
        };
        self.by_carrier.insert((delivery.address, delivery.target), key);
        self.claims_due.get_or_insert(now + CLAIM_TIME);
        self.event_loop.add(&delivery.carrier, Source::Carrier(key)).is_ok()
    }

    fn drop_delivery(&mut self, key: Key) -> Option<Delivery> {
        let delivery = self.deliveries.remove(key)?;
        self.by_carrier.remove(&(delivery.address, delivery.target));
        Some(delivery)
    }

    /// Something happened to a carrier.
    pub(super) fn on_carrier_ready(&mut self, now: Instant, key: Key, ready: Readiness) {
        let Some(delivery) = self.deliveries.get_mut(key) else {
            return;
        };
        let failed = match sockopt::socket_error(&delivery.carrier) {
            Ok(Ok(())) => ready.hung_up || ready.read_closed,
            Ok(Err(_)) | Err(_) => true,
        };
        if !failed {
            delivery.established |= ready.writable;
            delivery.send_first_byte();
            return;
        }
        // Nobody listens any more, or whoever accepted it is gone: the kernel would reset it.
        let refused = !delivery.established;
        if let Some(delivery) = self.drop_delivery(key) {
            let key = delivery.connection;
            let conn = match self.connections.get(key).map(|connection| &connection.backend) {
                Some(Backend::Core(conn)) => Some(*conn),
                _ => None,
            };
            if let (Some(conn), Some(core)) = (conn, &mut self.core) {
                core.endpoint.abort(now, conn);
            }
            self.end(now, key, Ending::Aborted);
        }
        if refused {
            self.sweep_listeners(now);
        }
    }

    /// Carriers that were accepted some time ago and not claimed are the program's connections themselves.
    pub(super) fn look_for_unclaimed(&mut self, now: Instant) {
        if self.claims_due.is_none_or(|due| due > now) {
            return;
        }
        self.claims_due = (!self.deliveries.is_empty()).then(|| now + CLAIM_TIME);
        let Some(listeners) = self.core.as_mut().and_then(|core| core.listeners.as_mut()) else {
            return;
        };
        let keys: Vec<Key> = self.deliveries.iter().map(|(key, _)| key).take(LOOKS_MAX).collect();
        let mut raw = Vec::new();
        for key in keys {
            let Some(delivery) = self.deliveries.get_mut(key) else {
                continue;
            };
            if delivery.established && listeners.is_accepted(delivery.target, delivery.address) {
                delivery.unclaimed += 1;
                let patience = match self.unclaimed_ports.contains(&delivery.target.port()) {
                    true => 1,
                    false => PATIENCE,
                };
                if delivery.unclaimed >= patience {
                    raw.push(key);
                }
            }
        }
        for key in raw {
            if let Some(delivery) = self.drop_delivery(key) {
                self.pump(delivery);
            }
        }
    }

    /// Lets the carrier be the connection.
    fn pump(&mut self, delivery: Delivery) {
        if let Some(connection) = self.connections.get(delivery.connection) {
            log::info!(
                "{} was accepted without the library, or before its engine answered: its program sees {} as the peer",
                connection.describe(),
                delivery.address
            );
        }
        self.unclaimed_ports.insert(delivery.target.port());
        // What the carrier has brought already comes again.
        let skipped = usize::from(delivery.primed);
        let key = self
            .pumps
            .insert_with(|_| Pump::new(delivery.carrier, delivery.end, skipped));
        let event_loop = &self.event_loop;
        let watched = self.pumps.get(key).is_some_and(|pump| {
            let mut fds = pump.fds().into_iter();
            fds.all(|fd| event_loop.add(fd, Source::Pump(key)).is_ok())
        });
        if watched {
            self.turn_pump(key);
        } else {
            self.pumps.remove(key);
        }
    }

    /// Moves the bytes of one that is.
    pub(super) fn turn_pump(&mut self, key: Key) {
        match self.pumps.get_mut(key).map(Pump::turn) {
            Some(Pumped::More) => self.pumps_more.push(key),
            Some(Pumped::Over) => drop(self.pumps.remove(key)),
            Some(Pumped::Wait) | None => {}
        }
    }

    /// Answers a claim: `fd` is a socket that a program has accepted.
    pub(super) fn serve_claim(&mut self, now: Instant, client: Key, fd: Option<OwnedFd>, cred: UCred) {
        let claimed = fd.as_ref().and_then(|fd| {
            let address = SocketAddr::try_from(getpeername(fd).ok()??).ok()?;
            let target = SocketAddr::try_from(getsockname(fd).ok()?).ok()?;
            let key = *self.by_carrier.get(&(unmap(address), unmap(target)))?;
            self.drop_delivery(key)
        });
        let Some(delivery) = claimed else {
            return self.answer_error(client, Errno::NOENT);
        };
        self.unclaimed_ports.remove(&delivery.target.port());
        let (key, cookie) = (delivery.connection, delivery.cookie);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.uid = Some(cred.uid);
            connection.pid = cred.pid.as_raw_nonzero().get() as u32;
            connection.delivery = None;
            if let Some(fd) = &fd {
                self.inherit_options(now, key, fd.as_fd());
                self.inherit_wishes(now, key, fd.as_fd());
            }
        } else {
            // It broke while it waited, and says so when it is read.
            self.ends.hand_over(cookie, cred.uid);
        }
        if !self.answer(client, &Reply::Shadow { cookie }, Some(delivery.end.as_fd())) {
            // The program lost patience with an engine that got no processor, and has the carrier.
            self.pump(delivery);
            return self.turn(now, key);
        }
        // Both ends are closed now, ours with a reset: nothing of it lingers.
        let _ = sockopt::set_socket_linger(&delivery.carrier, Some(Duration::ZERO));
        drop(delivery);
        self.turn(now, key);
    }

    /// The accepted socket has the options that the listener had when it was accepted.
    fn inherit_options(&mut self, now: Instant, key: Key, accepted: BorrowedFd<'_>) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let inet6 = connection.local.is_ipv6();
        let Ok(mut options) = SocketOptions::read(accepted, inet6) else {
            return;
        };
        // The carrier's own segment size is no option of the program's, nor are its buffers, which the kernel tunes.
        options.keep_transport(&connection.options);
        connection.options = options;
        let (kept, ipv6) = (&connection.options, connection.wire_remote().is_ipv6());
        let Backend::Core(conn) = connection.backend else {
            return;
        };
        if let Some(core) = &mut self.core {
            core.endpoint
                .set_options(now, conn, &mut |options| kept.update_core(ipv6, options));
        }
    }
}

/// A TCP socket that is connecting to a program's listener on this host.
fn open_carrier(target: SocketAddr, source: std::net::IpAddr) -> Result<OwnedFd, Errno> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    let mss = CARRIER_MSS.to_ne_bytes();
    socket_options::set(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_MAXSEG, &mss)?;
    let one = 1i32.to_ne_bytes();
    socket_options::set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &one)?;
    match bind(&socket, &SocketAddr::new(source, 0)) {
        // A loopback device with one address only.
        Err(Errno::ADDRNOTAVAIL) if source == CARRIER_SOURCE => {}
        bound => bound?,
    }
    match connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

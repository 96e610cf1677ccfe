//! Which sockets programs listen on, and which SYNs are therefore ours.
//!
//! A program's listening socket stays what it is, and stays the program's: the engine keeps no copy. A filter that the shim attached makes
//! it deaf to everything but the loopback device, so that the kernel answers this host's own clients as ever and nobody else; the core answers
//! the others. Whether the socket still listens is asked of the kernel for every SYN ([`TcpDiag::find`]): a listener that was closed, or one
//! that a program without us opened in its place, is the kernel's from that moment on.
//!
//! Not here: how an established connection gets to the program (`delivery`).

use super::connection::unmap;
use super::keeper::Record;
use super::socket_options::SocketOptions;
use crate::control::carrier::CARRIER_SOURCE;
use crate::control::multipath::{stash, Wishes};
use crate::link::diag::{TcpDiag, TcpEnds, TCP_LISTEN};
use crate::link::Lease;
use crate::mptcp::endpoint::FourTuple;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

/// One listening socket.
pub struct Listener {
    /// What the keeper knows of it, too.
    pub record: Record,
    /// Its options when it began to listen.
    pub options: SocketOptions,
    /// Its options of `mptcp.h`.
    pub wishes: Box<Wishes>,
    /// Connections that it was given.
    pub accepted: u64,
    /// The link hears the port while this lives. None: only this host reaches it.
    _lease: Option<Lease>,
}

impl Listener {
    /// None when the record is of another version.
    pub fn new(record: Record, lease: Option<Lease>) -> Option<Listener> {
        Some(Listener {
            options: SocketOptions::unpack(&record.options)?,
            wishes: Box::new(stash::from_words(record.wishes.iter().copied())?),
            record,
            accepted: 0,
            _lease: lease,
        })
    }

    /// The addresses under which it is found on the wire: two for an IPv6 socket that hears IPv4 too.
    pub fn wire_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let first = unmap(self.record.bound);
        let second = (!self.record.one_family && self.record.bound.ip() == Ipv6Addr::UNSPECIFIED)
            .then(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), first.port()));
        [Some(first), second].into_iter().flatten()
    }

    /// Where this host's own clients reach it, and the address that a carrier comes from.
    pub fn own_side(&self) -> (SocketAddr, IpAddr) {
        let bound = unmap(self.record.bound);
        let (target, source) = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST.into(), CARRIER_SOURCE.into()),
            IpAddr::V6(ip) if ip.is_unspecified() && !self.record.one_family => {
                (Ipv4Addr::LOCALHOST.into(), CARRIER_SOURCE.into())
            }
            IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
            // An address that this host has lost would be somebody else's: to have it as one's own proves it.
            ip => (ip, ip),
        };
        (SocketAddr::new(target, bound.port()), source)
    }
}

/// All listening sockets, by SO_COOKIE.
pub struct Listeners {
    diag: TcpDiag,
    /// Tells when one is gone. None while there are none, and where the kernel does not tell.
    ends: Option<TcpEnds>,
    by_cookie: HashMap<u64, Listener>,
    by_address: HashMap<SocketAddr, Vec<u64>>,
    /// The engine has no descriptors left: new connections wait, at every listener.
    saturated: bool,
}

/// Who gets a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reception {
    /// Nobody, or a socket that is not ours to answer for: the kernel sees to it.
    Kernel,
    /// A listener whose program accepts more slowly than clients come, or the engine has no descriptors left: the kernel would say nothing, so that
    /// they try again.
    Full,
    /// A listener.
    Open,
}

/// What a sweep found.
#[derive(Default)]
pub struct Swept {
    /// Addresses at which nobody listens any more.
    pub addresses: Vec<SocketAddr>,
    /// Sockets that are gone: cookie and address.
    pub gone: Vec<(u64, SocketAddr)>,
    /// The kernel did not say.
    pub failed: bool,
}

impl Listeners {
    /// None yet.
    ///
    /// # Errors
    /// Where the kernel has no sock_diag.
    pub fn new() -> io::Result<Listeners> {
        Ok(Listeners {
            diag: TcpDiag::new()?,
            ends: None,
            by_cookie: HashMap::new(),
            by_address: HashMap::new(),
            saturated: false,
        })
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.by_cookie.is_empty()
    }

    /// The one with this cookie.
    pub fn get(&self, cookie: u64) -> Option<&Listener> {
        self.by_cookie.get(&cookie)
    }

    /// Every one.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.by_cookie.values()
    }

    /// Is it known to the kernel by this cookie? Tells at once whether sock_diag works here.
    pub fn confirm(&mut self, cookie: u64, bound: SocketAddr) -> io::Result<bool> {
        let sockets = self.diag.listening(bound.is_ipv6())?;
        Ok(sockets.iter().any(|socket| socket.cookie == cookie))
    }

    /// Adds one, or knows it anew.
    pub fn add(&mut self, listener: Listener) {
        let cookie = listener.record.cookie;
        for address in listener.wire_addresses() {
            let cookies = self.by_address.entry(address).or_default();
            if !cookies.contains(&cookie) {
                cookies.push(cookie);
            }
        }
        self.by_cookie.insert(cookie, listener);
    }

    /// Will tell when one is gone: what the event loop is to watch from now on. None when it does already.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn begin_to_hear_ends(&mut self) -> io::Result<Option<BorrowedFd<'_>>> {
        if self.ends.is_some() {
            return Ok(None);
        }
        Ok(Some(self.ends.insert(TcpEnds::new()?).fd()))
    }

    /// Nobody need look whether they are still there.
    pub fn hears_ends(&self) -> bool {
        self.ends.is_some()
    }

    /// Whether one may be gone since the last call.
    pub fn hear_ends(&mut self) -> bool {
        let known = &self.by_cookie;
        let ends = self.ends.as_mut();
        ends.is_some_and(|ends| ends.any(|cookie| known.contains_key(&cookie)))
    }

    /// Forgets those that do not listen any more.
    pub fn sweep(&mut self) -> Swept {
        let mut swept = Swept::default();
        let mut live = HashSet::new();
        for ipv6 in [false, true] {
            if !self.by_cookie.values().any(|l| l.record.bound.is_ipv6() == ipv6) {
                continue;
            }
            match self.diag.listening(ipv6) {
                Ok(sockets) => live.extend(sockets.iter().map(|socket| socket.cookie)),
                Err(error) => {
                    log::warn!("cannot read who listens: {error}");
                    swept.failed = true;
                    return swept;
                }
            }
        }
        self.by_cookie.retain(|cookie, listener| {
            let lives = live.contains(cookie);
            if !lives {
                swept.gone.push((*cookie, listener.record.bound));
            }
            lives
        });
        self.by_address.retain(|address, cookies| {
            cookies.retain(|cookie| live.contains(cookie));
            if cookies.is_empty() {
                swept.addresses.push(*address);
            }
            !cookies.is_empty()
        });
        if self.by_cookie.is_empty() {
            self.ends = None;
        }
        swept
    }

    /// What becomes of a connection of these addresses that is opened now: the kernel's own lookup says whose it would be. `coming` are about to be
    /// put into its queue.
    pub fn reception(&mut self, tuple: FourTuple, coming: usize) -> Reception {
        if self.at(tuple.local).is_empty() {
            return Reception::Kernel;
        }
        match self.diag.find(tuple.local, tuple.remote) {
            Ok(Some(socket)) if socket.state == TCP_LISTEN && self.by_cookie.contains_key(&socket.cookie) => {
                // sk_acceptq_is_full of net/sock.h.
                match self.saturated || socket.queue as usize + coming > socket.backlog as usize {
                    true => Reception::Full,
                    false => Reception::Open,
                }
            }
            Ok(_) => Reception::Kernel,
            Err(error) => {
                log::warn!("cannot tell who listens at {}: {error}", tuple.local);
                Reception::Kernel
            }
        }
    }

    /// Whether the kernel has any socket, of whomever, for a segment of these addresses.
    pub fn is_taken(&mut self, tuple: FourTuple) -> bool {
        // In doubt there is one.
        !matches!(self.diag.find(tuple.local, tuple.remote), Ok(None))
    }

    /// The engine cannot hand over any more connections, or can again; whether that is news.
    pub fn set_saturated(&mut self, saturated: bool) -> bool {
        std::mem::replace(&mut self.saturated, saturated) != saturated
    }

    /// Counts a connection for a listener at this address, and shows it.
    pub fn count(&mut self, local: SocketAddr) -> Option<&Listener> {
        let cookie = *self.at(local).first()?;
        let listener = self.by_cookie.get_mut(&cookie)?;
        listener.accepted += 1;
        Some(listener)
    }

    /// Whether a program has accepted the connection of these addresses on this host.
    pub fn is_accepted(&mut self, local: SocketAddr, remote: SocketAddr) -> bool {
        let socket = self.diag.find(local, remote).ok().flatten();
        socket.is_some_and(|socket| socket.state != TCP_LISTEN && socket.inode != 0)
    }

    fn at(&self, local: SocketAddr) -> &[u64] {
        let any = match local.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let wildcard = SocketAddr::new(any, local.port());
        let found = self.by_address.get(&local).or_else(|| self.by_address.get(&wildcard));
        found.map_or(&[], Vec::as_slice)
    }
}

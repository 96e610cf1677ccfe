//! The ip link: raw IP sockets. The kernel routes, filters, translates, encrypts, resolves neighbours and reassembles;
//! we write and read TCP segments. Needs CAP_NET_RAW.
//!
//! Not here: fragmentation (segments carry "don't fragment", as the kernel's TCP), retries of a send that found the
//! queue full (a loss like any other), and a place on the path after netfilter (that is the packet link's).

mod control;
mod errqueue;
mod rx;
mod tx;

use super::ports::PortSet;
use super::sys;
use super::{Incoming, Link, LinkStats, Outgoing};
use rx::{RxBuffers, RxSocket};
use std::collections::btree_map::Entry;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use tx::{Failure, TxSocket};

/// Raw IP sockets: one pair for receiving, and for sending one socket per family and interface.
pub struct IpLink {
    rx: Vec<RxSocket>,
    buffers: RxBuffers,
    tx: BTreeMap<(libc::c_int, u32), TxSocket>,
    /// Errors of segments that had no socket to go to, until `flush`.
    unsent: Vec<Failure>,
    stats: LinkStats,
}

impl IpLink {
    /// A link that hears `ports`. EPERM without CAP_NET_RAW. A host without IPv6 (or IPv4) has the other one.
    pub fn new(ports: &PortSet) -> io::Result<IpLink> {
        let mut rx = Vec::new();
        for ipv6 in [false, true] {
            match RxSocket::new(ipv6, ports) {
                Ok(socket) => rx.push(socket),
                Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                Err(e) => return Err(e),
            }
        }
        if rx.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        }
        Ok(IpLink::on(rx))
    }

    /// A link that goes on with the receiving sockets of another one ([`IpLink::fds`]) in a process that has died: what has come since waits
    /// in their queues. It hears the ports that they heard until [`Link::admit`].
    pub fn adopt(fds: Vec<OwnedFd>) -> io::Result<IpLink> {
        let rx: io::Result<_> = fds.into_iter().map(RxSocket::adopt).collect();
        Ok(IpLink::on(rx?))
    }

    fn on(rx: Vec<RxSocket>) -> IpLink {
        IpLink {
            rx,
            buffers: RxBuffers::new(),
            tx: BTreeMap::new(),
            unsent: Vec::new(),
            stats: LinkStats::default(),
        }
    }

    /// Hears IPv4 segments, or leaves them to another link. ICMP errors are heard in any case.
    pub fn hear_ipv4(&mut self, hear: bool) -> io::Result<()> {
        let mut ipv4 = self.rx.iter_mut().filter(|socket| !socket.is_ipv6());
        ipv4.try_for_each(|socket| socket.hear(hear))
    }

    /// How many descriptors it has in [`Link::fds`].
    pub fn sources(&self) -> usize {
        self.rx.len()
    }

    /// Closes the sending sockets of interfaces that are no longer there: `alive` says which are.
    pub fn retain_interfaces(&mut self, alive: impl Fn(u32) -> bool) {
        self.tx.retain(|&(_, iface), _| iface == 0 || alive(iface));
    }
}

impl Link for IpLink {
    fn name(&self) -> &'static str {
        "ip"
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.rx.iter().map(RxSocket::fd).collect()
    }

    fn admit(&mut self, ports: &PortSet) -> io::Result<()> {
        self.rx.iter_mut().try_for_each(|socket| socket.admit(ports))
    }

    fn send(&mut self, out: &Outgoing<'_>) {
        let key = (sys::domain(out.src), out.iface);
        let socket = match self.tx.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => match TxSocket::new(key.0, key.1) {
                Ok(socket) => entry.insert(socket),
                Err(error) => {
                    self.stats.lost_unroutable += 1;
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    self.unsent.push(Failure::unroutable(out, errno));
                    return;
                }
            },
        };
        socket.push(out, &mut self.stats);
    }

    fn flush(&mut self, sink: &mut dyn FnMut(Incoming<'_>)) {
        for socket in self.tx.values_mut() {
            socket.flush(&mut self.stats, sink);
        }
        for failure in self.unsent.drain(..) {
            sink(failure.report());
        }
    }

    fn recv(&mut self, source: usize, sink: &mut dyn FnMut(Incoming<'_>)) -> bool {
        let IpLink { rx, buffers, stats, .. } = self;
        rx.get(source).is_none_or(|socket| socket.recv(buffers, stats, sink))
    }

    fn stats(&self) -> LinkStats {
        self.stats
    }
}

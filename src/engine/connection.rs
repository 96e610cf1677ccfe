//! One connection as the engine keeps it: whose it is, its program's side, and who speaks TCP for it.

use super::event_loop::Key;
use super::kernel_stream::KernelStream;
use super::policy::Defaults;
use super::relay::Relay;
use super::socket_options::SocketOptions;
use super::steering::Watcher;
use crate::control::multipath::Wishes;
use crate::control::{Phase, PhaseReport};
use crate::link::path_config::PathConfig;
use crate::link::routes::Query;
use crate::mptcp::endpoint::ConnId;
use crate::time::Instant;
use rustix::process::Uid;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// A connection.
pub struct Connection {
    /// The program's side; None when the program has gone and the stream still delivers.
    pub relay: Option<Relay>,
    /// The network's side.
    pub backend: Backend,
    /// SO_COOKIE of the program's end.
    pub cookie: u64,
    /// The program's socket options.
    pub options: SocketOptions,
    /// First subflow's local address, as the program sees it (an AF_INET6 socket sees IPv4 addresses mapped).
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// The program's name.
    pub program: String,
    /// Its process id as the engine sees it.
    pub pid: u32,
    /// When it was asked for.
    pub since: Instant,
    /// The address that the program had bound, port 0 or not; None when it had not.
    pub bound: Option<SocketAddr>,
    /// What the program asked for by options of `mptcp.h`.
    pub wishes: Box<Wishes>,
    /// What its MPTCP_* variables say where those say nothing.
    pub defaults: Defaults,
    /// The program's `MPTCP_PATHS`, and which addresses its options leave.
    pub path_config: PathConfig,
    /// The program's kernel socket, for the last try through the kernel while the core connects.
    pub spare: Option<OwnedFd>,
    /// Clients that wait for the end of the handshake.
    pub waiters: Vec<Key>,
    /// Why MPTCP is not spoken.
    pub why_plain: Option<&'static str>,
    /// The core says that everything written was acknowledged, the end of stream included.
    pub flushed: bool,
    /// It waits for another turn.
    pub queued: bool,
    /// Event descriptors of its program's.
    pub watchers: Vec<Watcher>,
    /// A listener's: the peer opened it.
    pub accepted: bool,
    /// It is on its way to a program that has not claimed it yet.
    pub delivery: Option<Key>,
    /// The user who claimed it, if that is another than the engine's, may ask about it.
    pub uid: Option<Uid>,
}

/// Who speaks TCP.
pub enum Backend {
    /// The kernel.
    Kernel(KernelStream),
    /// The core.
    Core(ConnId),
}

impl Connection {
    /// For the log.
    pub fn describe(&self) -> String {
        format!("{}[{}] {} > {}", self.program, self.pid, self.local, self.remote)
    }

    /// The peer as on the wire.
    pub fn wire_remote(&self) -> SocketAddr {
        unmap(self.remote)
    }

    /// The question whose answer are this connection's paths.
    pub fn query(&self) -> Query {
        query(self.remote, self.bound, &self.options)
    }

    /// For a program that asks.
    pub fn report(&self, phase: Phase) -> PhaseReport {
        PhaseReport {
            phase,
            local: Some(self.local),
            remote: Some(self.remote),
        }
    }

    /// Where it is in its life, while it lives.
    pub fn phase(&self) -> Phase {
        match &self.relay {
            Some(relay) if !relay.is_established() => Phase::Connecting,
            _ => Phase::Established,
        }
    }
}

/// What to ask the routes about a connection.
pub fn query(remote: SocketAddr, bound: Option<SocketAddr>, options: &SocketOptions) -> Query {
    Query {
        dst: unmap(remote).ip(),
        src: bound.map(|bound| unmap(bound).ip()).filter(|ip| !ip.is_unspecified()),
        mark: options.mark(),
    }
}

/// An address as on the wire: an IPv4-mapped one is IPv4, and flow and scope are not part of it.
pub fn unmap(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An address as the program's socket shows it: mapped when that is an AF_INET6 socket (`like` is what it connects to).
pub fn map_like(address: SocketAddr, like: SocketAddr) -> SocketAddr {
    match (address.ip(), like) {
        (IpAddr::V4(v4), SocketAddr::V6(_)) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        _ => address,
    }
}

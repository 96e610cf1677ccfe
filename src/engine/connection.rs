//! One connection as the engine keeps it: whose it is, its program's side, and who speaks TCP for it.

use super::kernel_stream::KernelStream;
use super::relay::Relay;
use super::socket_options::SocketOptions;
use crate::control::{Phase, PhaseReport};
use crate::time::Instant;
use std::net::SocketAddr;

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
    /// It waits for another turn.
    pub queued: bool,
}

/// Who speaks TCP.
pub enum Backend {
    /// The kernel.
    Kernel(KernelStream),
}

impl Connection {
    /// For the log.
    pub fn describe(&self) -> String {
        format!("{}[{}] {} > {}", self.program, self.pid, self.local, self.remote)
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

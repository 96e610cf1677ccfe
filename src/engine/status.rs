//! The picture that `mptcp status` shows, as JSON.

use super::connection::{Backend, Connection};
use super::server::Engine;
use crate::control::Phase;
use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Everything about one engine.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Status {
    /// The engine.
    pub engine: EngineStatus,
    /// Live connections, and those that still deliver after their program has gone.
    pub connections: Vec<ConnectionStatus>,
    /// Requests that were left to the kernel lately, oldest first.
    pub bypasses: Vec<BypassStatus>,
    /// Peers that are left to the kernel at present because they answered in plain TCP.
    pub plain_peers: Vec<PlainPeerStatus>,
}

/// Facts about the engine itself.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct EngineStatus {
    /// Version of libmptcp.
    pub version: String,
    /// Its id, as in its name.
    pub id: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Requests to connect since then.
    pub connects: u64,
    /// Of these, left to the kernel.
    pub bypassed: u64,
    /// Connections that broke or were never established.
    pub failed: u64,
}

/// One connection.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct ConnectionStatus {
    /// The program's name.
    pub program: String,
    /// Its process id.
    pub pid: u32,
    /// First subflow's local address.
    pub local: SocketAddr,
    /// First subflow's remote address.
    pub remote: SocketAddr,
    /// `connecting`, `established`, or `draining` when the program has gone.
    pub state: String,
    /// `mptcp`, `tcp` (ours) or `kernel`.
    pub protocol: String,
    /// Seconds since the program asked for it.
    pub age_s: u64,
}

/// One request that was left to the kernel.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct BypassStatus {
    /// The program's name.
    pub program: String,
    /// Its process id.
    pub pid: u32,
    /// Where it wanted to connect.
    pub remote: SocketAddr,
    /// Why not through us.
    pub reason: String,
    /// Seconds ago.
    pub ago_s: u64,
}

/// One peer that is left to the kernel.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct PlainPeerStatus {
    /// Its address.
    pub peer: SocketAddr,
    /// Seconds until it is tried again.
    pub left_s: u64,
}

impl Engine {
    /// The picture, as JSON text.
    pub(super) fn status(&self, now: Instant) -> Vec<u8> {
        let status = Status {
            engine: EngineStatus {
                version: env!("CARGO_PKG_VERSION").into(),
                id: self.settings.id.to_string(),
                pid: std::process::id(),
                uptime_s: now.since(Instant::ZERO).as_secs(),
                connects: self.counters.connects,
                bypassed: self.counters.bypassed,
                failed: self.counters.failed,
            },
            connections: self
                .connections
                .iter()
                .map(|(_, connection)| connection_status(now, connection))
                .collect(),
            bypasses: self
                .bypasses
                .iter()
                .map(|record| BypassStatus {
                    program: record.program.clone(),
                    pid: record.pid,
                    remote: record.remote,
                    reason: record.reason.text().into(),
                    ago_s: now.since(record.at).as_secs(),
                })
                .collect(),
            plain_peers: self
                .plain_peers
                .iter(now)
                .map(|(peer, until)| PlainPeerStatus {
                    peer,
                    left_s: until.since(now).as_secs(),
                })
                .collect(),
        };
        // Plain structs of strings and numbers: it cannot fail, and an empty answer is no JSON.
        serde_json::to_vec(&status).unwrap_or_default()
    }
}

fn connection_status(now: Instant, connection: &Connection) -> ConnectionStatus {
    let state = match (&connection.relay, connection.phase()) {
        (None, _) => "draining",
        (Some(_), Phase::Connecting) => "connecting",
        (Some(_), _) => "established",
    };
    let protocol = match &connection.backend {
        Backend::Kernel(_) => "kernel",
    };
    ConnectionStatus {
        program: connection.program.clone(),
        pid: connection.pid,
        local: connection.local,
        remote: connection.remote,
        state: state.into(),
        protocol: protocol.into(),
        age_s: now.since(connection.since).as_secs(),
    }
}

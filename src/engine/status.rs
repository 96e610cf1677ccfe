//! The picture that `mptcp status` shows, as JSON.

use super::connection::{Backend, Connection};
use super::server::Engine;
use crate::control::Phase;
use crate::mptcp::endpoint::SubflowInfo;
use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ffi::CStr;
use std::net::{IpAddr, SocketAddr};

/// Everything about one engine.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Status {
    /// The engine.
    pub engine: EngineStatus,
    /// Live connections, and those that still deliver after their program has gone.
    pub connections: Vec<ConnectionStatus>,
    /// Where programs listen.
    pub listeners: Vec<ListenerStatus>,
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
    /// The link in use; None where everything is left to the kernel.
    pub link: Option<String>,
    /// Why there is no link.
    pub no_link: Option<String>,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Requests to connect since then.
    pub connects: u64,
    /// Of these, left to the kernel.
    pub bypassed: u64,
    /// Of these, begun and never established.
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
    /// Why MPTCP is not spoken.
    pub why_plain: Option<String>,
    /// What it is to be; None for a connection of the kernel.
    pub policy: Option<PolicyStatus>,
    /// Bytes that the peer has acknowledged.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Live subflows; none for a connection of the kernel.
    pub subflows: Vec<SubflowStatus>,
}

/// How a connection uses its paths, and why.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct PolicyStatus {
    /// `none`, `aggregate`, `handover` or `interactive`: what somebody asked for.
    pub intent: String,
    /// `unknown`, `interactive` or `bulk`: what its writes say.
    pub traffic: String,
    /// Why slow paths carry nothing new at present; None when they may.
    pub low_latency: Option<String>,
    /// When further subflows are opened.
    pub joins: String,
    /// Which subflow takes what.
    pub scheduler: String,
    /// Congestion control.
    pub congestion: String,
}

/// One listening socket.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct ListenerStatus {
    /// Its address.
    pub address: SocketAddr,
    /// The name of the program that began to listen.
    pub program: String,
    /// That program's process id.
    pub pid: u32,
    /// Connections from other hosts since then.
    pub accepted: u64,
}

/// One subflow.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct SubflowStatus {
    /// Its number in the connection.
    pub id: u32,
    /// Interface that has the local address.
    pub interface: Option<String>,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// TCP state.
    pub state: String,
    /// For backup only.
    pub backup: bool,
    /// It does not answer at present.
    pub stalled: bool,
    /// Smoothed round-trip time, microseconds.
    pub rtt_us: u32,
    /// Congestion window, bytes.
    pub cwnd_bytes: u32,
    /// Payload sent, retransmissions included.
    pub bytes_sent: u64,
    /// Payload received in order.
    pub bytes_received: u64,
    /// Segments sent again.
    pub retransmits: u32,
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
        let interfaces = interfaces_by_address();
        let status = Status {
            engine: EngineStatus {
                version: env!("CARGO_PKG_VERSION").into(),
                id: self.settings.id.to_string(),
                pid: std::process::id(),
                link: self.core.as_ref().map(|core| core.link_name().into()),
                no_link: self.no_core.clone(),
                uptime_s: now.since(Instant::ZERO).as_secs(),
                connects: self.counters.connects,
                bypassed: self.counters.bypassed,
                failed: self.counters.failed,
            },
            connections: self
                .connections
                .iter()
                .map(|(_, connection)| self.connection_status(now, connection, &interfaces))
                .collect(),
            listeners: self.listener_status(),
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

    fn listener_status(&self) -> Vec<ListenerStatus> {
        let listeners = self.core.iter().filter_map(|core| core.listeners.as_ref());
        let mut listeners: Vec<_> = listeners
            .flat_map(|listeners| listeners.iter())
            .map(|listener| ListenerStatus {
                address: listener.record.bound,
                program: listener.record.program.clone(),
                pid: listener.record.pid,
                accepted: listener.accepted,
            })
            .collect();
        listeners.sort_by_key(|listener| (listener.address, listener.pid));
        listeners
    }

    fn connection_status(&self, now: Instant, connection: &Connection, interfaces: &Interfaces) -> ConnectionStatus {
        let info = match (&connection.backend, &self.core) {
            (Backend::Core(conn), Some(core)) => core.endpoint.info(*conn),
            _ => None,
        };
        let protocol = match (&connection.backend, connection.why_plain) {
            (Backend::Kernel(_), _) => "kernel",
            (Backend::Core(_), None) => "mptcp",
            (Backend::Core(_), Some(_)) => "tcp",
        };
        let state = match (&connection.relay, connection.phase()) {
            (None, _) => "draining",
            (Some(_), Phase::Connecting) => "connecting",
            (Some(_), _) => "established",
        };
        let subflows = info.iter().flat_map(|info| &info.subflows);
        ConnectionStatus {
            program: connection.program.clone(),
            pid: connection.pid,
            local: connection.local,
            remote: connection.remote,
            state: state.into(),
            protocol: protocol.into(),
            age_s: now.since(connection.since).as_secs(),
            why_plain: connection.why_plain.map(Into::into),
            policy: info.as_ref().map(|info| connection.policy_status(info.traffic)),
            bytes_acked: info.as_ref().map_or(0, |info| info.bytes_acked),
            bytes_received: info.as_ref().map_or(0, |info| info.bytes_received),
            subflows: subflows.map(|subflow| subflow_status(subflow, interfaces)).collect(),
        }
    }
}

fn subflow_status(subflow: &SubflowInfo, interfaces: &Interfaces) -> SubflowStatus {
    SubflowStatus {
        id: subflow.id.0,
        interface: interfaces.get(&subflow.tuple.local.ip()).cloned(),
        local: subflow.tuple.local,
        remote: subflow.tuple.remote,
        state: subflow.state.into(),
        backup: subflow.backup,
        stalled: subflow.stalled,
        rtt_us: subflow.srtt_us,
        cwnd_bytes: subflow.cwnd,
        bytes_sent: subflow.bytes_sent,
        bytes_received: subflow.bytes_received,
        retransmits: subflow.tally.retransmits,
    }
}

type Interfaces = HashMap<IpAddr, String>;

/// Which interface has which address, as the kernel says now.
fn interfaces_by_address() -> Interfaces {
    let mut found = Interfaces::new();
    let mut list = std::ptr::null_mut();
    // SAFETY: it stores a list that we free below, or fails.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return found;
    }
    let mut next = list;
    while !next.is_null() {
        // SAFETY: an element of the list, which is not freed yet.
        let entry = unsafe { &*next };
        if let Some(address) = ip_address(entry.ifa_addr) {
            // SAFETY: the name is a string of the same life.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) };
            found.insert(address, name.to_string_lossy().into_owned());
        }
        next = entry.ifa_next;
    }
    // SAFETY: as above; nothing refers to it any more.
    unsafe { libc::freeifaddrs(list) };
    found
}

fn ip_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, and getifaddrs() gives addresses of the size that their family says.
    unsafe {
        match i32::from((*address).sa_family) {
            libc::AF_INET => {
                let v4 = &*address.cast::<libc::sockaddr_in>();
                Some(IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes()))
            }
            libc::AF_INET6 => {
                let v6 = &*address.cast::<libc::sockaddr_in6>();
                Some(IpAddr::from(v6.sin6_addr.s6_addr))
            }
            _ => None,
        }
    }
}

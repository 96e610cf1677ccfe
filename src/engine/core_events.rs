//! What the core's events mean to the engine's connections.

use super::core::Want;
use super::core_stream;
use super::event_loop::Key;
use super::ledger::Entry;
use super::relay::Ending;
use super::server::Engine;
use super::steering::Happening;
use crate::mptcp::endpoint::{ConnError, ConnId, Event, Fallback, FourTuple, SubflowId};
use crate::time::Instant;
use rustix::io::Errno;
use std::net::{IpAddr, SocketAddr};

impl Engine {
    /// Brings the core up to date: timers, events, segments to send, until nothing follows from anything any more.
    pub(super) fn drive_core(&mut self, now: Instant) {
        let Some(core) = &mut self.core else { return };
        core.expire(now);
        loop {
            let Some(core) = &mut self.core else { return };
            core.transmit(now);
            if !self.drain_core_events(now) {
                return;
            }
        }
    }

    /// False when there were none.
    fn drain_core_events(&mut self, now: Instant) -> bool {
        let Some(core) = &mut self.core else { return false };
        let events = std::iter::from_fn(|| core.poll_event());
        // On one host connect() returns when the other side can accept: that comes first, when both ends are here.
        let (first, others): (Vec<_>, Vec<_>) = events.partition(|event| matches!(event, Event::Accepted { .. }));
        let any = !first.is_empty() || !others.is_empty();
        for event in first.into_iter().chain(others) {
            self.on_core_event(now, event);
        }
        any
    }

    fn on_core_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected(conn) => self.on_connected(now, conn),
            Event::Accepted { conn, tuple } => self.on_accepted(now, conn, tuple),
            Event::Readable(conn) | Event::Writable(conn) => self.turn_conn(now, conn),
            Event::Flushed(conn) => {
                if let Some(key) = self.key_of(conn) {
                    if let Some(connection) = self.connections.get_mut(key) {
                        connection.flushed = true;
                    }
                    self.turn(now, key);
                }
            }
            Event::Failed(conn, error) => self.on_failed(now, conn, error),
            Event::FellBack(conn, why) => self.on_fallback(now, conn, why),
            Event::WantSubflow {
                conn,
                want,
                local,
                iface,
                remote,
            } => {
                self.on_want_subflow(now, conn, want, (local, iface), remote);
            }
            Event::SubflowUp { conn, subflow, tuple } => {
                log::info!(
                    "connection {}: subflow {} {} > {} is up",
                    conn.0,
                    subflow.0,
                    tuple.local,
                    tuple.remote
                );
                // One that is not delivered yet has its guard with that: the listener keeps the kernel silent meanwhile.
                let connection = self.key_of(conn).and_then(|key| self.connections.get(key));
                let reuse = connection.map(|connection| connection.options.reuses_address());
                if let Some(core) = &mut self.core {
                    if let Some(reuse) = reuse {
                        core.subflow_up(tuple, reuse);
                    }
                    // One whose other end is here dies with the engine altogether.
                    if let Some(ledger) = self.ledger.as_mut().filter(|_| !core.is_own_hosts(tuple)) {
                        let remote_key = core.endpoint.peer_key(conn);
                        ledger.add(conn, Entry { tuple, remote_key });
                    }
                }
                if let Some(key) = self.key_of(conn) {
                    self.tell_watchers(key, Happening::Up, subflow, tuple);
                }
            }
            Event::SubflowDown { conn, subflow, tuple } => {
                log::info!(
                    "connection {}: subflow {} {} > {} is gone",
                    conn.0,
                    subflow.0,
                    tuple.local,
                    tuple.remote
                );
                if let Some(ledger) = &mut self.ledger {
                    ledger.remove(conn, tuple);
                }
                if let Some(key) = self.key_of(conn) {
                    self.tell_watchers(key, Happening::Down, subflow, tuple);
                    self.share_fate(now, key, subflow, tuple);
                }
            }
            Event::SubflowGone { tuple, .. } => {
                if let Some(core) = &mut self.core {
                    core.release(tuple);
                }
            }
            Event::Closed(conn) => self.on_closed(now, conn),
        }
    }

    fn key_of(&self, conn: ConnId) -> Option<Key> {
        self.core.as_ref()?.by_conn.get(&conn).copied()
    }

    fn turn_conn(&mut self, now: Instant, conn: ConnId) {
        if let Some(key) = self.key_of(conn) {
            self.turn(now, key);
        }
    }

    fn on_connected(&mut self, now: Instant, conn: ConnId) {
        let Some(key) = self.key_of(conn) else { return };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        // The kernel's connect() is not needed any more.
        connection.spare = None;
        if connection.why_plain.is_none() {
            self.plain_peers.forget(connection.wire_remote());
        }
        self.establish(now, key);
    }

    fn on_failed(&mut self, now: Instant, conn: ConnId, error: ConnError) {
        let Some(key) = self.key_of(conn) else { return };
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let connecting = connection.relay.as_ref().is_some_and(|relay| !relay.is_established());
        if !connecting {
            // What came before the end is still delivered; then the stream says that it is broken.
            return self.turn(now, key);
        }
        if let Some(core) = &mut self.core {
            // Nothing is expected of it any more.
            core.endpoint.close(now, conn);
        }
        if error == ConnError::TimedOut && self.try_kernel(now, key) {
            return;
        }
        self.end(now, key, Ending::Failed(core_stream::errno(error)));
    }

    fn on_fallback(&mut self, now: Instant, conn: ConnId, why: Fallback) {
        let Some(connection) = self.key_of(conn).and_then(|key| self.connections.get_mut(key)) else {
            return;
        };
        log::info!("{} speaks plain TCP: {}", connection.describe(), fallback_text(why));
        connection.why_plain = Some(fallback_text(why));
        let tuple = FourTuple {
            local: connection.local,
            remote: connection.remote,
        };
        if let Some(key) = self.key_of(conn) {
            self.tell_watchers(key, Happening::Fallback, SubflowId(0), tuple);
        }
        let Some(connection) = self.key_of(conn).and_then(|key| self.connections.get_mut(key)) else {
            return;
        };
        if connection.accepted {
            // How this peer answers is another matter than how it asks.
            return;
        }
        let peer: SocketAddr = connection.wire_remote();
        match why {
            Fallback::PeerNotCapable
            | Fallback::SynDropped
            | Fallback::Version
            | Fallback::OptionsStripped
            | Fallback::ChecksumFailed => self.plain_peers.learn(now, peer),
            Fallback::NotAsked | Fallback::PeerFellBack | Fallback::SimultaneousOpen => {}
        }
    }

    fn on_want_subflow(&mut self, now: Instant, conn: ConnId, want: u32, path: (IpAddr, u32), remote: SocketAddr) {
        let connection = self.key_of(conn).and_then(|key| self.connections.get(key));
        let Some(core) = &mut self.core else { return };
        match connection {
            Some(connection) => {
                let (config, first) = (&connection.path_config, connection.query());
                core.open_subflow(
                    now,
                    Want {
                        conn,
                        want,
                        path,
                        remote,
                        config,
                        first,
                    },
                );
            }
            None => core.endpoint.subflow_refused(now, conn, want),
        }
    }

    fn on_closed(&mut self, now: Instant, conn: ConnId) {
        if let Some(ledger) = &mut self.ledger {
            ledger.close(conn);
        }
        self.undelivered.retain(|(waiting, _)| *waiting != conn);
        let Some(key) = self.core.as_mut().and_then(|core| core.by_conn.remove(&conn)) else {
            return;
        };
        if self
            .connections
            .get(key)
            .is_some_and(|connection| connection.relay.is_some())
        {
            // It ends only when it was told to, and then there is no shadow any more.
            self.end(now, key, Ending::Failed(Errno::CONNRESET));
        }
        self.connections.remove(key);
    }
}

/// For people.
fn fallback_text(why: Fallback) -> &'static str {
    match why {
        Fallback::NotAsked => "MPTCP was not asked for",
        Fallback::PeerNotCapable => "the peer, or a middlebox, does not speak MPTCP",
        Fallback::SynDropped => "SYNs that carry MPTCP were not answered",
        Fallback::Version => "the peer speaks another version of MPTCP",
        Fallback::OptionsStripped => "a middlebox removes MPTCP options",
        Fallback::ChecksumFailed => "a middlebox changes the data",
        Fallback::PeerFellBack => "the peer gave MPTCP up",
        Fallback::SimultaneousOpen => "both sides connected at once",
    }
}

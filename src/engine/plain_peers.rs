//! Peers that recently answered in plain TCP: connecting to them through us gains nothing, so the kernel gets them for
//! a while. Each time they are found plain again the while doubles.

use crate::time::{Duration, Instant};
use std::collections::HashMap;
use std::net::SocketAddr;

/// How long a peer is left to the kernel, the first time and at most.
const WHILE_MIN: Duration = Duration::from_secs(10 * 60);
const WHILE_MAX: Duration = Duration::from_secs(4 * 3600);
/// Peers that are remembered.
const PEERS_MAX: usize = 1024;

struct Entry {
    until: Instant,
    length: Duration,
}

/// The peers, by address and port.
#[derive(Default)]
pub struct PlainPeers {
    entries: HashMap<SocketAddr, Entry>,
}

impl PlainPeers {
    /// Until when this peer is left to the kernel; None when it is not.
    pub fn until(&self, now: Instant, peer: SocketAddr) -> Option<Instant> {
        self.entries
            .get(&peer)
            .map(|entry| entry.until)
            .filter(|until| *until > now)
    }

    /// It answered in plain TCP.
    pub fn learn(&mut self, now: Instant, peer: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            if entry.until <= now {
                entry.length = (entry.length * 2).min(WHILE_MAX);
            }
            entry.until = now + entry.length;
            return;
        }
        if self.entries.len() >= PEERS_MAX {
            self.forget_one();
        }
        self.entries.insert(
            peer,
            Entry {
                until: now + WHILE_MIN,
                length: WHILE_MIN,
            },
        );
    }

    /// It spoke MPTCP.
    pub fn forget(&mut self, peer: SocketAddr) {
        self.entries.remove(&peer);
    }

    /// The host's paths have changed: another network may have other middleboxes.
    pub fn forget_all(&mut self) {
        self.entries.clear();
    }

    /// Those left to the kernel now, and until when.
    pub fn iter(&self, now: Instant) -> impl Iterator<Item = (SocketAddr, Instant)> + '_ {
        self.entries
            .iter()
            .map(|(peer, entry)| (*peer, entry.until))
            .filter(move |(_, until)| *until > now)
    }

    /// Makes room: the one that would be asked again first.
    fn forget_one(&mut self) {
        if let Some(peer) = self
            .entries
            .iter()
            .min_by_key(|(_, entry)| entry.until)
            .map(|(peer, _)| *peer)
        {
            self.entries.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], n))
    }

    #[test]
    fn a_peer_is_tried_again_after_a_while_that_doubles() {
        let mut peers = PlainPeers::default();
        let start = Instant::from_millis(1);
        peers.learn(start, peer(80));
        let first = peers.until(start, peer(80)).unwrap();
        assert_eq!(first.since(start), WHILE_MIN);
        assert_eq!(peers.until(first, peer(80)), None);
        peers.learn(first, peer(80));
        assert_eq!(peers.until(first, peer(80)).unwrap().since(first), WHILE_MIN * 2);
        // Other connections that were under way at the same time do not double it again.
        peers.learn(first, peer(80));
        assert_eq!(peers.until(first, peer(80)).unwrap().since(first), WHILE_MIN * 2);
        assert_eq!(peers.until(first, peer(443)), None);
        peers.forget_all();
        assert_eq!(peers.until(first, peer(80)), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut peers = PlainPeers::default();
        for n in 0..=PEERS_MAX {
            peers.learn(Instant::from_millis(n as u64), peer(n as u16));
        }
        let now = Instant::from_millis(PEERS_MAX as u64);
        assert_eq!(peers.iter(now).count(), PEERS_MAX);
        assert_eq!(peers.until(now, peer(0)), None);
        assert!(peers.until(now, peer(PEERS_MAX as u16)).is_some());
    }
}

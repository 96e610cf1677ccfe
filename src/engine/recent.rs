//! What the engine remembers of the past, bounded: how connections ended (a program asks for the errno after the fact),
//! and which requests were left to the kernel (a person asks why).

use super::socket_options::SocketOptions;
use crate::control::multipath::Wishes;
use crate::control::picture::TCP_INFO_LEN;
use crate::control::{Bypass, PhaseReport};
use crate::time::Instant;
use rustix::process::Uid;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Ends that are remembered. A program asks within its own next system call.
const ENDS_MAX: usize = 1024;
/// Bypasses that are remembered.
const BYPASSES_MAX: usize = 64;

/// How a connection ended, and what it takes to give the program a fresh socket like its old one.
pub struct End {
    /// How.
    pub report: PhaseReport,
    /// The program's socket options.
    pub options: SocketOptions,
    /// The last `struct tcp_info`.
    pub tcp_info: Box<[u8; TCP_INFO_LEN]>,
    /// TCP_IS_MPTCP: it spoke MPTCP to its end.
    pub multipath: bool,
    /// What it asked for by options of `mptcp.h`.
    pub wishes: Box<Wishes>,
    /// The address that the program had bound.
    pub bound: Option<SocketAddr>,
    /// As `Connection::uid`.
    pub uid: Option<Uid>,
}

/// How the last connections ended, by cookie.
#[derive(Default)]
pub struct Ends {
    ends: HashMap<u64, End>,
    order: VecDeque<u64>,
}

impl Ends {
    /// Remembers one, forgetting the oldest when there are too many.
    pub fn push(&mut self, cookie: u64, end: End) {
        if self.ends.insert(cookie, end).is_none() {
            self.order.push_back(cookie);
        }
        if self.order.len() > ENDS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.ends.remove(&oldest);
            }
        }
    }

    /// A user has got it although it has ended.
    pub fn hand_over(&mut self, cookie: u64, uid: Uid) {
        if let Some(end) = self.ends.get_mut(&cookie) {
            end.uid = Some(uid);
        }
    }

    /// As [`Ends::get`], to be changed.
    pub fn get_mut(&mut self, cookie: u64) -> Option<&mut End> {
        self.ends.get_mut(&cookie)
    }

    /// How it ended.
    pub fn get(&self, cookie: u64) -> Option<&End> {
        self.ends.get(&cookie)
    }
}

/// One request that was left to the kernel.
#[derive(Clone, Debug)]
pub struct BypassRecord {
    /// When.
    pub at: Instant,
    /// The program's name.
    pub program: String,
    /// Its process id.
    pub pid: u32,
    /// Where it wanted to connect.
    pub remote: SocketAddr,
    /// Why not through us.
    pub reason: Bypass,
}

/// The last requests that were left to the kernel, oldest first.
#[derive(Default)]
pub struct Bypasses {
    records: VecDeque<BypassRecord>,
}

impl Bypasses {
    /// Remembers one, forgetting the oldest when there are too many.
    pub fn push(&mut self, record: BypassRecord) {
        if self.records.len() == BYPASSES_MAX {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &BypassRecord> {
        self.records.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Phase;
    use std::os::fd::AsFd;

    #[test]
    fn the_oldest_end_is_forgotten_first() {
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
        let options = SocketOptions::read(socket.as_fd(), false).unwrap();
        let report = PhaseReport {
            phase: Phase::Gone,
            local: None,
            remote: None,
        };
        let mut ends = Ends::default();
        for cookie in 0..=ENDS_MAX as u64 {
            ends.push(
                cookie,
                End {
                    report,
                    options: options.clone(),
                    tcp_info: Box::new([0; TCP_INFO_LEN]),
                    multipath: false,
                    wishes: Box::default(),
                    bound: None,
                    uid: None,
                },
            );
            ends.push(
                cookie,
                End {
                    report,
                    options: options.clone(),
                    tcp_info: Box::new([0; TCP_INFO_LEN]),
                    multipath: false,
                    wishes: Box::default(),
                    bound: None,
                    uid: None,
                },
            );
        }
        assert!(ends.get(0).is_none());
        assert!(ends.get(1).is_some());
        assert!(ends.get(ENDS_MAX as u64).is_some());
        assert_eq!(ends.ends.len(), ENDS_MAX);
    }
}

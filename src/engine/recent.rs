//! What the engine remembers of the past, bounded: how connections ended (a program asks for the errno after the fact),
//! and which requests were left to the kernel (a person asks why).

use crate::control::{Bypass, PhaseReport};
use crate::time::Instant;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Ends that are remembered. A program asks within its own next system call.
const ENDS_MAX: usize = 4096;
/// Bypasses that are remembered.
const BYPASSES_MAX: usize = 64;

/// How the last connections ended, by cookie.
#[derive(Default)]
pub struct Ends {
    reports: HashMap<u64, PhaseReport>,
    order: VecDeque<u64>,
}

impl Ends {
    /// Remembers one, forgetting the oldest when there are too many.
    pub fn push(&mut self, cookie: u64, report: PhaseReport) {
        if self.reports.insert(cookie, report).is_none() {
            self.order.push_back(cookie);
        }
        if self.order.len() > ENDS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.reports.remove(&oldest);
            }
        }
    }

    /// How it ended.
    pub fn get(&self, cookie: u64) -> Option<PhaseReport> {
        self.reports.get(&cookie).copied()
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

    #[test]
    fn the_oldest_end_is_forgotten_first() {
        let report = PhaseReport {
            phase: Phase::Gone,
            local: None,
            remote: None,
        };
        let mut ends = Ends::default();
        for cookie in 0..=ENDS_MAX as u64 {
            ends.push(cookie, report);
            ends.push(cookie, report);
        }
        assert_eq!(ends.get(0), None);
        assert_eq!(ends.get(1), Some(report));
        assert_eq!(ends.get(ENDS_MAX as u64), Some(report));
        assert_eq!(ends.reports.len(), ENDS_MAX);
    }
}

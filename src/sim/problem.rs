//! Everything that a run can find wrong.

use super::stream::Mismatch;
use crate::mptcp::endpoint::{ConnError, ConnId};
use crate::time::Instant;
use core::fmt;

/// What a run found wrong.
#[derive(Clone, PartialEq, Debug)]
pub enum Problem {
    /// Events go on and on without time passing.
    Livelock,
    /// Nothing will ever happen again, but somebody still waits.
    Deadlock(String),
    /// Not at its end within the bound.
    Late(String),
    /// An application read a byte that was not written at that position.
    WrongByte { at: AppName, mismatch: Mismatch },
    /// More wrong bytes than a middlebox corrupted.
    MoreWrongThanCorrupted { at: AppName, wrong: u64, corrupted: u64 },
    /// Wrong bytes on a connection that still claims to check them.
    CorruptWithoutFallback { at: AppName },
    /// More bytes than were written.
    TooManyBytes { at: AppName, received: u64, written: u64 },
    /// A clean end of stream before the last byte.
    Truncated { at: AppName, received: u64, expected: u64 },
    /// Broken, in a scenario that gives no reason for it.
    Broken { at: AppName, error: ConnError },
    /// A call to the endpoint failed that must succeed.
    Refused { at: AppName, call: String },
    /// An event for a connection that is over or never was.
    StrayEvent { host: usize, event: String },
    /// The connection ended (`Closed`) before the application was through with it.
    ClosedEarly { at: AppName },
    /// State that outlives every connection.
    Left(String),
    /// A segment that must not be sent.
    BadSegment { host: usize, why: String, segment: String },
    /// A buffer holds more than its option allows.
    Overfull {
        host: usize,
        conn: ConnId,
        what: &'static str,
        bytes: usize,
        limit: usize,
    },
    /// A directed test's own expectation.
    Unexpected(String),
}

/// One application: the host it runs on, and the number of its connection in the scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AppName {
    /// 0 is the client, 1 the server, 2 the other client.
    pub host: usize,
    /// Index of the connection in the scenario.
    pub conn: usize,
}

/// A problem, with what is needed to see it again.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// Virtual time at which it was noticed.
    pub at: Instant,
    /// What is wrong.
    pub problem: Problem,
    /// The scenario, in words.
    pub scenario: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} failed at {:?}: {:?}", self.seed, self.at, self.problem)?;
        write!(f, "{}", self.scenario)
    }
}

//! An application at one end of a connection: writes its stream, reads and checks the other's, and ends as its plan says.
//!
//! It keeps to the endpoint's contract and to nothing more: it writes again only after `Writable` where `send` took less than offered, and
//! looks for bytes only after `Readable` once it has seen none. An endpoint that forgets an event leaves it waiting, and that is noticed.

use super::clock::HostClock;
use super::problem::{AppName, Problem};
use super::rng::Rng;
use super::stream::Stream;
use super::trace::HOSTS;
use super::world::end_of;
use crate::mptcp::endpoint::{CallError, ConnError, ConnId, Endpoint, Event, Fallback};
use crate::time::{Duration, Instant};

/// How fast an application reads or writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Largest piece at a time, bytes, at least 1.
    pub chunk_max: u64,
    /// Longest pause between pieces; zero is as fast as it goes.
    pub pause_max: Duration,
}

/// When an application begins to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// As soon as it is connected.
    AtOnce,
    /// After having read that many bytes.
    AfterReading(u64),
}

/// How an application ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// shutdown(SHUT_WR) after the last byte, close() after the peer's end of stream.
    Shutdown,
    /// The same, but it waits for the peer's end of stream first.
    ShutdownAfterEof,
    /// close() after the last byte, whatever comes from the peer.
    Close,
    /// Aborts after that many bytes read and written.
    Abort(u64),
}

/// What an application is going to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Bytes to write.
    pub send_bytes: u64,
    /// How it writes them.
    pub write: Pace,
    /// How it reads.
    pub read: Pace,
    /// When it begins to write.
    pub start: Start,
    /// Pause between the last byte and the shutdown or close.
    pub linger: Duration,
    /// How it ends.
    pub finish: Finish,
}

impl Pace {
    /// As fast as it goes.
    pub const FAST: Pace = Pace {
        chunk_max: 64 << 10,
        pause_max: Duration::ZERO,
    };

    /// The longest time that `bytes` take at this pace.
    pub fn longest(&self, bytes: u64) -> Duration {
        self.pause_max
            .saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX).min(MAX_PAUSES))
    }

    /// Pauses end after `MAX_PAUSES` pieces, so that a run has a bound.
    fn pause(&self, rng: &mut Rng, pieces: u32) -> Duration {
        if pieces >= MAX_PAUSES {
            return Duration::ZERO;
        }
        Duration::from_micros(rng.below(self.pause_max.as_micros() as u64 + 1))
    }
}

const MAX_PAUSES: u32 = 400;

impl Plan {
    /// Writes `send_bytes` as fast as it goes, reads likewise, and ends in order.
    pub fn sends(send_bytes: u64) -> Plan {
        Plan {
            send_bytes,
            write: Pace::FAST,
            read: Pace::FAST,
            start: Start::AtOnce,
            linger: Duration::ZERO,
            finish: Finish::Shutdown,
        }
    }
}

/// An application.
pub struct App {
    /// Who it is.
    pub name: AppName,
    /// Its connection.
    pub conn: ConnId,
    /// What it does.
    pub plan: Plan,
    /// Bytes written.
    pub sent: u64,
    /// Bytes read.
    pub received: u64,
    /// Wrong bytes read.
    pub wrong: u64,
    /// The peer's end of stream was read.
    pub eof: bool,
    /// Everything written has been acknowledged, the endpoint says.
    pub flushed: bool,
    /// How the connection broke.
    pub failed: Option<ConnError>,
    /// MPTCP was given up.
    pub fallback: Option<Fallback>,
    /// shutdown_write was called.
    pub shut: bool,
    /// close or abort was called: the application is through.
    pub closed_at: Option<Instant>,
    /// `Closed` came: the id is invalid.
    pub gone: bool,
    /// When it wants to be called again; None leaves that to events.
    pub wake: Option<Instant>,
    /// What its host's clock shows.
    clock: HostClock,
    own: Stream,
    peer: Stream,
    peer_bytes: u64,
    corruption: bool,
    connected: bool,
    readable: bool,
    blocked: bool,
    read_at: Instant,
    write_at: Instant,
    end_at: Option<Instant>,
    pieces_read: u32,
    pieces_written: u32,
    rng: Rng,
}

/// The stream that `host` writes on the scenario's connection `conn`.
fn stream(seed: u64, conn: usize, host: usize) -> Stream {
    Stream(seed ^ ((conn as u64) << 8 | host as u64 | 0x5eed_0000_0000))
}

impl App {
    /// An application for `plan`, whose peer follows `peer_plan`. With `corruption`, a middlebox changes bytes, so wrong ones are counted
    /// instead of being an error at once.
    pub fn new(
        name: AppName,
        conn: ConnId,
        plan: Plan,
        peer_plan: &Plan,
        seed: u64,
        corruption: bool,
        rng: Rng,
    ) -> Self {
        App {
            name,
            conn,
            plan,
            sent: 0,
            received: 0,
            wrong: 0,
            eof: false,
            flushed: false,
            failed: None,
            fallback: None,
            shut: false,
            closed_at: None,
            gone: false,
            wake: None,
            clock: HostClock::ahead(Duration::ZERO),
            own: stream(seed, name.conn, end_of(name.host)),
            peer: stream(seed, name.conn, 1 - end_of(name.host)),
            peer_bytes: peer_plan.send_bytes,
            corruption,
            connected: false,
            readable: true,
            blocked: false,
            read_at: Instant::ZERO,
            write_at: Instant::ZERO,
            end_at: None,
            pieces_read: 0,
            pieces_written: 0,
            rng,
        }
    }

    /// Takes note of an event of its connection.
    pub fn on_event(&mut self, event: &Event) -> Result<(), Problem> {
        match event {
            Event::Connected(_) | Event::Accepted { .. } => self.connected = true,
            Event::Readable(_) => self.readable = true,
            Event::Writable(_) => self.blocked = false,
            Event::Flushed(_) => self.flushed = true,
            Event::Failed(_, error) => self.failed = self.failed.or(Some(*error)),
            Event::FellBack(_, why) => self.fallback = self.fallback.or(Some(*why)),
            Event::Closed(_) => {
                self.gone = true;
                if self.closed_at.is_none() && self.failed.is_none() {
                    return Err(Problem::ClosedEarly { at: self.name });
                }
            }
            Event::WantSubflow { .. }
            | Event::SubflowUp { .. }
            | Event::SubflowDown { .. }
            | Event::SubflowGone { .. } => {}
        }
        Ok(())
    }

    /// Its engine has died: a reset.
    pub fn lose(&mut self, now: Instant) {
        self.failed = self.failed.or(Some(ConnError::Reset));
        self.closed_at = self.closed_at.or(Some(now));
        self.gone = true;
        self.wake = None;
    }

    /// Does all that is due, and sets `wake`.
    pub fn act(&mut self, now: Instant, clock: HostClock, endpoint: &mut Endpoint) -> Result<(), Problem> {
        self.clock = clock;
        self.wake = None;
        if self.gone || self.closed_at.is_some() {
            return Ok(());
        }
        if self.failed.is_some() {
            endpoint.close(self.clock.at(now), self.conn);
            self.closed_at = Some(now);
            return Ok(());
        }
        if !self.connected {
            return Ok(());
        }
        while self.abort_if_due(now, endpoint) || self.read(now, endpoint)? || self.write(now, endpoint)? {
            if self.closed_at.is_some() {
                return Ok(());
            }
        }
        self.end(now, endpoint);
        if self.closed_at.is_none() {
            self.wake = self.next_wake(now);
        }
        Ok(())
    }

    fn abort_if_due(&mut self, now: Instant, endpoint: &mut Endpoint) -> bool {
        let due = matches!(self.plan.finish, Finish::Abort(after) if self.sent + self.received >= after);
        if due {
            endpoint.abort(self.clock.at(now), self.conn);
            self.closed_at = Some(now);
        }
        due
    }

    /// Reads one piece; true when there may be more to do at once.
    fn read(&mut self, now: Instant, endpoint: &mut Endpoint) -> Result<bool, Problem> {
        if self.eof || !self.readable || now < self.read_at {
            return Ok(false);
        }
        let (first, second) = match endpoint.recv(self.conn) {
            Ok(slices) => slices,
            Err(CallError::Shutdown) => {
                self.eof = true;
                return self.check_eof().map(|()| true);
            }
            Err(CallError::Broken(error)) => {
                self.failed = Some(error);
                return Ok(false);
            }
            Err(error) => return Err(self.refused("recv", error)),
        };
        let available = first.len() + second.len();
        if available == 0 {
            self.readable = false;
            return Ok(false);
        }
        let wanted = self.rng.between(1, self.plan.read.chunk_max) as usize;
        let from_first = wanted.min(first.len());
        let from_second = (wanted - from_first).min(second.len());
        let wrong = self.check(self.received, &first[..from_first])?
            + self.check(self.received + from_first as u64, &second[..from_second])?;
        let taken = from_first + from_second;
        self.wrong += wrong;
        self.received += taken as u64;
        if self.received > self.peer_bytes {
            return Err(Problem::TooManyBytes {
                at: self.name,
                received: self.received,
                written: self.peer_bytes,
            });
        }
        endpoint.consume(self.clock.at(now), self.conn, taken);
        self.pieces_read += 1;
        self.read_at = now + self.plan.read.pause(&mut self.rng, self.pieces_read);
        Ok(true)
    }

    fn check(&self, pos: u64, data: &[u8]) -> Result<u64, Problem> {
        match self.peer.check(pos, data) {
            Ok(()) => Ok(0),
            Err(mismatch) if self.corruption => Ok(mismatch.wrong),
            Err(mismatch) => Err(Problem::WrongByte {
                at: self.name,
                mismatch,
            }),
        }
    }

    /// A clean end of stream comes after the last byte only: an abort must never look like one.
    fn check_eof(&self) -> Result<(), Problem> {
        if self.received == self.peer_bytes {
            return Ok(());
        }
        Err(Problem::Truncated {
            at: self.name,
            received: self.received,
            expected: self.peer_bytes,
        })
    }

    /// Writes one piece; true when there may be more to do at once.
    fn write(&mut self, now: Instant, endpoint: &mut Endpoint) -> Result<bool, Problem> {
        if self.blocked || self.shut || !self.started() || self.sent == self.plan.send_bytes || now < self.write_at {
            return Ok(false);
        }
        let len = self
            .rng
            .between(1, self.plan.write.chunk_max)
            .min(self.plan.send_bytes - self.sent) as usize;
        let mut piece = vec![0; len];
        self.own.fill(self.sent, &mut piece);
        let taken = match endpoint.send(self.clock.at(now), self.conn, &piece) {
            Ok(taken) if taken <= len => taken,
            Ok(taken) => return Err(self.refused(&format!("send of {len} took {taken}:"), CallError::Gone)),
            Err(CallError::Broken(error)) => {
                self.failed = Some(error);
                return Ok(false);
            }
            Err(error) => return Err(self.refused("send", error)),
        };
        self.sent += taken as u64;
        self.blocked = taken < len;
        self.pieces_written += 1;
        self.write_at = now + self.plan.write.pause(&mut self.rng, self.pieces_written);
        Ok(true)
    }

    fn started(&self) -> bool {
        match self.plan.start {
            Start::AtOnce => true,
            Start::AfterReading(bytes) => self.received >= bytes,
        }
    }

    /// Shuts down and closes when it is time.
    fn end(&mut self, now: Instant, endpoint: &mut Endpoint) {
        if self.failed.is_some() {
            endpoint.close(self.clock.at(now), self.conn);
            self.closed_at = Some(now);
            return;
        }
        if self.sent == self.plan.send_bytes && self.started() && !self.shut {
            let end_at = *self.end_at.get_or_insert(now + self.plan.linger);
            let may = match self.plan.finish {
                Finish::ShutdownAfterEof => self.eof,
                Finish::Abort(_) => false,
                Finish::Shutdown | Finish::Close => true,
            };
            if may && now >= end_at {
                self.shut = true;
                if self.plan.finish == Finish::Close {
                    endpoint.close(self.clock.at(now), self.conn);
                    self.closed_at = Some(now);
                    return;
                }
                endpoint.shutdown_write(self.clock.at(now), self.conn);
            }
        }
        if self.shut && self.eof {
            endpoint.close(self.clock.at(now), self.conn);
            self.closed_at = Some(now);
        }
    }

    fn next_wake(&self, now: Instant) -> Option<Instant> {
        let reading = (self.readable && !self.eof).then_some(self.read_at);
        let writing = (!self.blocked && self.started() && self.sent < self.plan.send_bytes).then_some(self.write_at);
        let ending = if self.shut { None } else { self.end_at };
        [reading, writing, ending]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    fn refused(&self, call: &str, error: CallError) -> Problem {
        Problem::Refused {
            at: self.name,
            call: format!("{call} {error:?}"),
        }
    }

    /// One line on where it stands.
    pub fn describe(&self) -> String {
        format!(
            "host {} conn {} wrote {}/{} read {}/{}{}{}{}{} failed {:?} fallback {:?}",
            HOSTS[self.name.host],
            self.name.conn,
            self.sent,
            self.plan.send_bytes,
            self.received,
            self.peer_bytes,
            if self.connected { "" } else { " not connected" },
            if self.eof { " eof" } else { "" },
            if self.shut { " shut" } else { "" },
            if self.gone { " gone" } else { "" },
            self.failed,
            self.fallback,
        )
    }

    /// Bytes that the peer's plan writes.
    pub fn peer_bytes(&self) -> u64 {
        self.peer_bytes
    }
}

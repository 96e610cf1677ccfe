//! One thread waits for everything: edge-triggered epoll, and a timer descriptor for the time.
//!
//! The timer has microseconds (epoll_wait has milliseconds), and is set only when something must happen earlier than
//! it is set for already: a retransmission timer that every ACK pushes back costs one early wake-up per period instead
//! of a system call per ACK. With nothing to wait for there is no wake-up at all.

use crate::time::{Duration, Instant};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fs::Timespec;
use rustix::io::Errno;
use rustix::time::{timerfd_create, timerfd_settime, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Who an event is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// The control listener has a client.
    Control,
    /// A client said something.
    Client(Key),
    /// A shadow's program did something.
    Shadow(Key),
    /// A kernel socket of ours.
    Kernel(Key),
    /// A carrier was accepted, or broke.
    Carrier(Key),
    /// A carrier that is a connection itself, or its shadow, can go on.
    Pump(Key),
    /// The keeper has gone.
    Keeper,
    /// SIGTERM.
    Signal,
    /// Sockets that may have listened are gone.
    Ends,
    /// The link has received something, or can send again.
    Link(u32),
    /// Addresses, routes or interfaces changed.
    Monitor,
}

/// Names an entry of a [`super::slots::Slots`]; an entry that was removed is never mistaken for its successor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// Position.
    pub index: u32,
    /// Which occupant of that position (24 bits).
    pub generation: u32,
}

/// What happened to a descriptor. Only a hint to try again, but for the three ends, which last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Readiness {
    /// It can be read.
    pub readable: bool,
    /// It can be written.
    pub writable: bool,
    /// The other side will not send any more.
    pub read_closed: bool,
    /// Both directions are over.
    pub hung_up: bool,
    /// An error waits (SO_ERROR).
    pub error: bool,
}

/// The descriptors that are watched.
pub struct EventLoop {
    epoll: OwnedFd,
    timer: OwnedFd,
    /// When the timer goes off.
    armed: Option<Instant>,
    buffer: Vec<Event>,
}

/// Events taken per wait: enough to amortise the call, few enough that their state is in the cache.
const BATCH: usize = 256;

impl EventLoop {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        // Edge-triggered: setting it again is all the acknowledgement it needs.
        epoll::add(
            &epoll,
            &timer,
            EventData::new_u64(TIMER),
            EventFlags::IN | EventFlags::ET,
        )?;
        Ok(EventLoop {
            epoll,
            timer,
            armed: None,
            buffer: Vec::with_capacity(BATCH),
        })
    }

    /// Watches a descriptor for everything, edge-triggered, until its description is closed: when others hold that too
    /// (a program's socket), events go on that mean nothing any more.
    pub fn add(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let data = EventData::new_u64(encode(source));
        match epoll::add(&self.epoll, &fd, data, flags) {
            // The same description came back under the same number: the program that holds it too connects once more.
            Err(Errno::EXIST) => Ok(epoll::modify(&self.epoll, &fd, data, flags)?),
            added => Ok(added?),
        }
    }

    /// Sleeps until something happens or `deadline` comes (None: no end), and says what happened. An empty answer is
    /// the deadline, an earlier one that no longer holds, or a signal.
    pub fn wait(
        &mut self,
        now: Instant,
        deadline: Option<Instant>,
        events: &mut Vec<(Source, Readiness)>,
    ) -> io::Result<()> {
        events.clear();
        let due = deadline.is_some_and(|deadline| deadline <= now);
        if !due {
            self.arm(now, deadline)?;
        }
        let poll = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.buffer.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.buffer),
            due.then_some(&poll),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.buffer {
            match decode(event.data.u64()) {
                Some(source) => events.push((source, Readiness::from(event.flags))),
                None => self.armed = None,
            }
        }
        Ok(())
    }

    fn arm(&mut self, now: Instant, deadline: Option<Instant>) -> io::Result<()> {
        let Some(deadline) = deadline else { return Ok(()) };
        if self.armed.is_some_and(|armed| armed > now && armed <= deadline) {
            return Ok(());
        }
        let wait = deadline.since(now).max(Duration::from_micros(1));
        let value = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: wait.subsec_nanos() as _,
        };
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.armed = Some(deadline);
        Ok(())
    }
}

impl From<EventFlags> for Readiness {
    fn from(flags: EventFlags) -> Self {
        Readiness {
            readable: flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
            read_closed: flags.contains(EventFlags::RDHUP),
            hung_up: flags.contains(EventFlags::HUP),
            error: flags.contains(EventFlags::ERR),
        }
    }
}

// An event carries 64 bits: kind (8), generation (24), index (32).
const TIMER: u64 = 0;

fn encode(source: Source) -> u64 {
    let (kind, key) = match source {
        Source::Control => (
            1,
            Key {
                index: 0,
                generation: 0,
            },
        ),
        Source::Client(key) => (2, key),
        Source::Shadow(key) => (3, key),
        Source::Kernel(key) => (4, key),
        Source::Link(index) => (5, Key { index, generation: 0 }),
        Source::Carrier(key) => (7, key),
        Source::Pump(key) => (9, key),
        Source::Keeper => (
            8,
            Key {
                index: 0,
                generation: 0,
            },
        ),
        Source::Signal => (
            10,
            Key {
                index: 0,
                generation: 0,
            },
        ),
        Source::Ends => (
            11,
            Key {
                index: 0,
                generation: 0,
            },
        ),
        Source::Monitor => (
            6,
            Key {
                index: 0,
                generation: 0,
            },
        ),
    };
    kind << 56 | u64::from(key.generation & 0xff_ffff) << 32 | u64::from(key.index)
}

fn decode(data: u64) -> Option<Source> {
    let key = Key {
        index: data as u32,
        generation: (data >> 32) as u32 & 0xff_ffff,
    };
    match data >> 56 {
        1 => Some(Source::Control),
        10 => Some(Source::Signal),
        2 => Some(Source::Client(key)),
        3 => Some(Source::Shadow(key)),
        4 => Some(Source::Kernel(key)),
        5 => Some(Source::Link(key.index)),
        6 => Some(Source::Monitor),
        7 => Some(Source::Carrier(key)),
        8 => Some(Source::Keeper),
        9 => Some(Source::Pump(key)),
        11 => Some(Source::Ends),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_survives_its_64_bits() {
        let key = Key {
            index: 0xdead_beef,
            generation: 0xff_fffe,
        };
        let sources = [
            Source::Control,
            Source::Client(key),
            Source::Shadow(key),
            Source::Kernel(key),
            Source::Carrier(key),
            Source::Keeper,
            Source::Pump(key),
            Source::Link(7),
            Source::Monitor,
            Source::Signal,
            Source::Ends,
        ];
        for source in sources {
            assert_eq!(decode(encode(source)), Some(source));
        }
        assert_eq!(decode(TIMER), None);
    }

    #[test]
    fn wait_returns_at_the_deadline_and_not_for_an_old_timer() {
        let mut events = Vec::new();
        let mut event_loop = EventLoop::new().unwrap();
        let clock = super::super::clock::Clock::start();
        let start = clock.now();
        let deadline = start + Duration::from_millis(20);
        while clock.now() < deadline {
            event_loop.wait(clock.now(), Some(deadline), &mut events).unwrap();
            assert!(events.is_empty());
        }
        // A deadline in the past does not sleep.
        event_loop.wait(clock.now(), Some(start), &mut events).unwrap();
        assert!(events.is_empty());
    }
}

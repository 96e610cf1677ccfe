//! Moves bytes between a shadow and a stream, and translates how each of them can end.
//!
//! | program                      | network                                                              |
//! |------------------------------|----------------------------------------------------------------------|
//! | shutdown(SHUT_WR)            | end of stream after the last byte (DATA_FIN, FIN)                     |
//! | last close                   | likewise; nobody reads any more                                      |
//! | shutdown(SHUT_RDWR)          | likewise; what came before stays readable, later data is reset       |
//! | close with data unread       | reset: unread in the shadow, or here, is the same to the program     |
//! | close with SO_LINGER zero    | reset                                                                |
//! | *end of file* after the data | peer's end of stream                                                 |
//! | *ECONNRESET* after the data  | broken connection, failed attempt, death of the engine               |
//!
//! A relay is over when both directions ended in order and were delivered, when the program has gone, or when the
//! connection broke; what is left to deliver then is the stream's own affair.

use super::event_loop::Readiness;
use super::shadow::{Read, Shadow, Write};
use super::stream::{Incoming, Stream};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

#[cfg(test)]
mod tests;

/// Bytes moved per turn and direction before others get theirs.
const BUDGET: usize = 1 << 20;
/// Bytes read at once: what is sent next is still in the processor's cache then.
const READ_MAX: usize = 1 << 18;

/// The program's side of one connection, and how far it has come.
pub struct Relay {
    shadow: Shadow,
    established: bool,
    /// The program's end of stream was passed on.
    out_ended: bool,
    /// The peer's end of stream was passed on.
    in_ended: bool,
    /// The program shut both directions down: its end is not closed, although it looks so.
    both_shut: bool,
    /// The program had nothing more to say when it was last asked: an edge will tell.
    silent: bool,
}

/// What became of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Nothing to do until the next event.
    Wait,
    /// The budget is used up: come again.
    More,
    /// The relay is over; the shadow can be let go in the way [`Relay::finish`] or [`Relay::fail`] does.
    Over(Ending),
}

/// How a relay ended. The stream was told already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// In order: closed by the program, or by both sides.
    Closed,
    /// The program reset it.
    Aborted,
    /// The connection broke.
    Failed(Errno),
}

impl Relay {
    /// A relay for a connection that is not established yet.
    pub fn new(shadow: Shadow) -> Relay {
        Relay {
            shadow,
            established: false,
            out_ended: false,
            in_ended: false,
            both_shut: false,
            silent: false,
        }
    }

    /// Our end of the shadow, to be watched.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.shadow.as_fd()
    }

    /// Gives our end of the shadow its name.
    pub fn bind(&self, name: &[u8]) -> Result<(), Errno> {
        self.shadow.bind(name)
    }

    /// Bytes that the program wrote and that are still in the shadow.
    pub fn unread(&self) -> u32 {
        self.shadow.unread()
    }

    /// The shadow's descriptor has news.
    pub fn on_ready(&mut self, ready: Readiness) {
        // Writability alone is about the other direction.
        self.silent &= !(ready.readable || ready.read_closed || ready.hung_up || ready.error);
        self.shadow.on_ready(ready);
    }

    /// The next turn asks the program what it has written, also when the event that tells of it has not been seen yet.
    pub fn ask(&mut self) {
        self.silent = false;
    }

    /// The connection is established: the program's end becomes writable.
    pub fn establish(&mut self) {
        self.established = true;
        self.shadow.open();
    }

    /// The handshake has succeeded.
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the program, and whether the peer, has ended its stream.
    pub fn ends(&self) -> (bool, bool) {
        (self.out_ended, self.in_ended)
    }

    /// Moves what can be moved. `linger_zero` says that the program asked for a reset on close.
    pub fn turn(&mut self, stream: &mut dyn Stream, linger_zero: bool) -> Turn {
        let result = if self.established {
            self.move_both(stream, linger_zero)
        } else if self.shadow.is_hung_up() {
            // Closed while connecting: TCP drops the attempt.
            Err(Ending::Aborted)
        } else {
            Ok(Turn::Wait)
        };
        match result {
            Ok(turn) => turn,
            Err(ending) => {
                if ending == Ending::Closed {
                    stream.close();
                } else {
                    stream.abort();
                }
                Turn::Over(ending)
            }
        }
    }

    /// The program is about to shut down its reading side (`both`: and its writing side). Everything that came is handed over now: the
    /// shadow takes nothing later.
    pub fn shutdown(&mut self, stream: &mut dyn Stream, both: bool) {
        self.both_shut |= both || self.out_ended;
        while let Incoming::Data(head, tail) = stream.recv() {
            self.shadow.make_room(head.len() + tail.len());
            match self.shadow.write((head, tail)) {
                Ok(Write::Bytes(n)) if n > 0 => stream.consume(n),
                _ => return,
            }
        }
    }

    /// The last step of an orderly end, or of one that the program caused: no error for anybody who still holds the
    /// program's end (after shutdown(SHUT_RDWR), say).
    pub fn finish(self) {
        self.shadow.finish();
    }

    /// The last step of any other end.
    pub fn fail(self) {
        self.shadow.fail();
    }

    fn move_both(&mut self, stream: &mut dyn Stream, linger_zero: bool) -> Result<Turn, Ending> {
        let out = match self.silent {
            true => Turn::Wait,
            false => self.move_out(stream, linger_zero)?,
        };
        let inward = self.move_in(stream)?;
        if self.out_ended && self.in_ended && stream.is_flushed() {
            return Err(Ending::Closed);
        }
        Ok(if out == Turn::More || inward == Turn::More {
            Turn::More
        } else {
            Turn::Wait
        })
    }

    /// Program to network.
    fn move_out(&mut self, stream: &mut dyn Stream, linger_zero: bool) -> Result<Turn, Ending> {
        let mut budget = BUDGET;
        loop {
            // With no space (or no bytes expected) reading still tells how the program stands.
            let space = match self.out_ended {
                true => 0,
                false => stream.send_space().min(budget).min(READ_MAX),
            };
            let read = self.shadow.read(space, |count| stream.room(count));
            match read.map_err(|_| Ending::Failed(Errno::IO))? {
                Read::Bytes(n) => {
                    stream.sent(n);
                    budget -= n;
                    if self.shadow.is_drained() {
                        self.silent = true;
                        break;
                    }
                }
                Read::HalfClosed if !self.out_ended => {
                    self.out_ended = true;
                    stream.shutdown_write();
                }
                // TCP does not wait for room then, but drops what it has not sent.
                Read::Nothing if linger_zero && self.shadow.is_hung_up() && !self.both_shut => {
                    return Err(Ending::Aborted);
                }
                Read::Nothing | Read::HalfClosed => {
                    // With room for more it is the program that has no more.
                    self.silent = self.out_ended || space > 0;
                    break;
                }
                Read::Closed if self.both_shut => {
                    // What the shadow could not take: lost to the program, but no reason for a reset.
                    while let Incoming::Data(head, tail) = stream.recv() {
                        let length = head.len() + tail.len();
                        stream.consume(length);
                    }
                    return Err(Ending::Closed);
                }
                Read::Closed if linger_zero || matches!(stream.recv(), Incoming::Data(..)) => {
                    return Err(Ending::Aborted);
                }
                Read::Closed => return Err(Ending::Closed),
                Read::Reset => return Err(Ending::Aborted),
            }
        }
        Ok(if budget == 0 { Turn::More } else { Turn::Wait })
    }

    /// Network to program.
    fn move_in(&mut self, stream: &mut dyn Stream) -> Result<Turn, Ending> {
        let mut budget = BUDGET;
        loop {
            let (head, tail) = match stream.recv() {
                Incoming::Data(head, tail) => (head, tail),
                Incoming::Nothing => return Ok(Turn::Wait),
                // A reset behind the peer's FIN is EPIPE (Linux `tcp_reset` in CLOSE_WAIT).
                Incoming::Broken(Errno::CONNRESET) if self.in_ended => return Err(Ending::Failed(Errno::PIPE)),
                Incoming::Broken(error) => return Err(Ending::Failed(error)),
                Incoming::End => {
                    if !self.in_ended {
                        self.in_ended = true;
                        self.shadow.end_of_stream();
                    }
                    return Ok(Turn::Wait);
                }
            };
            if budget == 0 {
                return Ok(Turn::More);
            }
            let length = head.len() + tail.len();
            let moved = match self.shadow.write((head, tail)).map_err(|_| Ending::Failed(Errno::IO))? {
                Write::Bytes(n) => n,
                Write::Full => return Ok(Turn::Wait),
                Write::Deaf => length,
                // The end of stream goes first, behind what the program wrote: the event of the shutdown is still to come.
                Write::Gone if self.both_shut => {
                    self.silent = false;
                    return Ok(Turn::Wait);
                }
                // TCP answers data that comes after close() with RST, behind what it has sent already.
                Write::Gone if stream.send_space() == 0 => return Err(Ending::Aborted),
                Write::Gone => {
                    self.silent = false;
                    return Ok(Turn::More);
                }
            };
            stream.consume(moved);
            budget = budget.saturating_sub(moved);
        }
    }
}

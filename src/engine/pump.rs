//! Bytes between a carrier that was accepted and never claimed, and the shadow that it stands for.
//!
//! Not every accept() is hooked: a program may accept by io_uring, confined by seccomp, or without the library that its parent had. Then the
//! carrier itself has to be the connection: the program sees a peer on this host, and everything else as it should be.

use rustix::io::Errno;
use rustix::net::{recv, send, shutdown, RecvFlags, SendFlags, Shutdown};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes that may wait in one direction.
const BUFFER: usize = 64 * 1024;
/// Buffers moved per turn before others get theirs.
const ROUNDS: usize = 16;

/// Two sockets, and what is on its way between them.
pub struct Pump {
    carrier: OwnedFd,
    end: OwnedFd,
    inward: Half,
    outward: Half,
}

/// One direction.
#[derive(Default)]
struct Half {
    waiting: Vec<u8>,
    /// Bytes at the beginning that the other side has already.
    skip: usize,
    ended: bool,
    told: bool,
}

/// What became of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pumped {
    /// Nothing to do until the next event.
    Wait,
    /// Come again.
    More,
    /// Both directions have ended, or one broke.
    Over,
}

impl Pump {
    /// Between the engine's end of a carrier and the program's end of a shadow, whose first `skip` bytes the carrier has brought already.
    pub fn new(carrier: OwnedFd, end: OwnedFd, skip: usize) -> Pump {
        Pump {
            carrier,
            end,
            inward: Half {
                skip,
                ..Half::default()
            },
            outward: Half::default(),
        }
    }

    /// Both, to be watched edge-triggered.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.carrier.as_fd(), self.end.as_fd()]
    }

    /// Moves what can be moved.
    pub fn turn(&mut self) -> Pumped {
        let inward = self.inward.turn(self.end.as_fd(), self.carrier.as_fd());
        let outward = self.outward.turn(self.carrier.as_fd(), self.end.as_fd());
        match (inward, outward) {
            (Err(_), _) | (_, Err(_)) => Pumped::Over,
            _ if self.inward.told && self.outward.told => Pumped::Over,
            (Ok(true), _) | (_, Ok(true)) => Pumped::More,
            _ => Pumped::Wait,
        }
    }
}

impl Half {
    /// True when there is more to do than one turn does.
    fn turn(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<bool, Errno> {
        for _ in 0..ROUNDS {
            if self.waiting.is_empty() && !self.ended {
                self.waiting.resize(BUFFER, 0);
                let result = recv(from, &mut self.waiting[..], RecvFlags::DONTWAIT);
                self.waiting.truncate(result.map_or(0, |(n, _)| n));
                let skipped = self.skip.min(self.waiting.len());
                self.waiting.drain(..skipped);
                self.skip -= skipped;
                match result {
                    Ok((0, _)) => self.ended = true,
                    Ok(_) => {}
                    Err(Errno::AGAIN) => return Ok(false),
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(error),
                }
            }
            if self.waiting.is_empty() && !self.ended {
                continue;
            }
            if self.waiting.is_empty() {
                if !self.told {
                    self.told = true;
                    shutdown(to, Shutdown::Write)?;
                }
                return Ok(false);
            }
            match send(to, &self.waiting, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{socketpair, AddressFamily, SocketFlags, SocketType};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a pair")
    }

    #[test]
    fn both_directions_and_both_ends_come_through() {
        let (program, carrier) = pair();
        let (end, engine) = pair();
        let mut pump = Pump::new(carrier, end, 2);
        assert_eq!(pump.turn(), Pumped::Wait);
        send(&engine, b"##question", SendFlags::empty()).expect("room");
        send(&program, b"answer", SendFlags::empty()).expect("room");
        assert_eq!(pump.turn(), Pumped::Wait);
        let mut buffer = [0; 16];
        assert_eq!(recv(&program, &mut buffer[..], RecvFlags::DONTWAIT).expect("data").0, 8);
        assert_eq!(recv(&engine, &mut buffer[..], RecvFlags::DONTWAIT).expect("data").0, 6);
        shutdown(&engine, Shutdown::Write).expect("open");
        assert_eq!(pump.turn(), Pumped::Wait);
        assert_eq!(
            recv(&program, &mut buffer[..], RecvFlags::DONTWAIT).expect("the end").0,
            0
        );
        drop(program);
        assert_eq!(pump.turn(), Pumped::Over);
    }

    #[test]
    fn what_does_not_fit_waits() {
        let (program, carrier) = pair();
        let (end, engine) = pair();
        let mut pump = Pump::new(carrier, end, 0);
        let chunk = [7; 4096];
        let mut sent = 0;
        let mut received = 0;
        let mut buffer = [0; 65536];
        for _ in 0..2000 {
            match send(&engine, &chunk, SendFlags::DONTWAIT) {
                Ok(n) => sent += n,
                Err(Errno::AGAIN) => {
                    while pump.turn() == Pumped::More {}
                    received += recv(&program, &mut buffer[..], RecvFlags::DONTWAIT).expect("data").0;
                }
                Err(error) => panic!("{error}"),
            }
        }
        while received < sent {
            pump.turn();
            received += recv(&program, &mut buffer[..], RecvFlags::DONTWAIT).expect("data").0;
        }
        assert_eq!(received, sent);
    }
}

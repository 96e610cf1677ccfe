//! The relay between a real shadow and a stream that remembers what it was told.

use super::*;
use crate::engine::shadow::Padding;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::net::{recv, send, shutdown, RecvFlags, SendFlags, Shutdown};
use std::os::fd::OwnedFd;

/// A network of one's own making.
#[derive(Default)]
struct Fake {
    space: usize,
    room: Vec<u8>,
    sent: Vec<u8>,
    incoming: Vec<u8>,
    ended: bool,
    broken: Option<Errno>,
    flushed: bool,
    told: Vec<&'static str>,
}

impl Stream for Fake {
    fn send_space(&self) -> usize {
        self.space
    }
    fn room(&mut self, count: usize) -> [&mut [u8]; 2] {
        assert!(count <= self.space);
        self.room = vec![0; count];
        let (head, tail) = self.room.split_at_mut(count / 3);
        [head, tail]
    }
    fn sent(&mut self, count: usize) {
        self.space -= count;
        self.sent.extend_from_slice(&self.room[..count]);
    }
    fn recv(&mut self) -> Incoming<'_> {
        match (self.incoming.is_empty(), self.broken, self.ended) {
            (false, _, _) => Incoming::Data(&self.incoming[..1], &self.incoming[1..self.incoming.len().min(1 << 16)]),
            (true, Some(error), _) => Incoming::Broken(error),
            (true, None, true) => Incoming::End,
            (true, None, false) => Incoming::Nothing,
        }
    }
    fn consume(&mut self, n: usize) {
        self.incoming.drain(..n);
    }
    fn shutdown_write(&mut self) {
        self.told.push("shutdown");
    }
    fn is_flushed(&self) -> bool {
        self.flushed
    }
    fn close(&mut self) {
        self.told.push("close");
    }
    fn abort(&mut self) {
        self.told.push("abort");
    }
}

struct Rig {
    relay: Relay,
    program: Option<OwnedFd>,
    fake: Fake,
    linger_zero: bool,
}

impl Rig {
    fn connecting() -> Rig {
        let (shadow, program) = Shadow::connecting(&Padding::new()).unwrap();
        let fake = Fake {
            space: 1 << 20,
            ..Fake::default()
        };
        Rig {
            relay: Relay::new(shadow),
            program: Some(program),
            fake,
            linger_zero: false,
        }
    }

    fn established() -> Rig {
        let mut rig = Rig::connecting();
        rig.relay.establish();
        rig
    }

    fn turn(&mut self) -> Turn {
        let end = self.relay.as_fd();
        let mut fds = [PollFd::from_borrowed_fd(end, PollFlags::IN | PollFlags::RDHUP)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        let seen = fds[0].revents();
        self.relay.on_ready(Readiness {
            read_closed: seen.contains(PollFlags::RDHUP),
            hung_up: seen.contains(PollFlags::HUP),
            readable: seen.contains(PollFlags::IN),
            error: seen.contains(PollFlags::ERR),
            ..Readiness::default()
        });
        self.relay.turn(&mut self.fake, self.linger_zero)
    }

    fn program(&self) -> &OwnedFd {
        self.program.as_ref().unwrap()
    }

    fn write(&self, data: &[u8]) {
        assert_eq!(send(self.program(), data, SendFlags::DONTWAIT), Ok(data.len()));
    }

    fn read(&self) -> rustix::io::Result<Vec<u8>> {
        let mut buf = vec![0; 1 << 20];
        let (n, _) = recv(self.program(), &mut buf, RecvFlags::DONTWAIT)?;
        buf.truncate(n);
        Ok(buf)
    }
}

#[test]
fn bytes_go_both_ways() {
    let mut rig = Rig::established();
    rig.write(b"question");
    rig.fake.incoming = b"answer".to_vec();
    assert_eq!(rig.turn(), Turn::Wait);
    assert_eq!(rig.fake.sent, b"question");
    assert_eq!(rig.read().unwrap(), b"answer");
    assert!(rig.fake.told.is_empty());
}

#[test]
fn no_space_leaves_bytes_with_the_program_until_there_is() {
    let mut rig = Rig::established();
    rig.fake.space = 3;
    rig.write(b"abcdef");
    assert_eq!(rig.turn(), Turn::Wait);
    assert_eq!(rig.fake.sent, b"abc");
    shutdown(rig.program(), Shutdown::Write).unwrap();
    assert_eq!(rig.turn(), Turn::Wait);
    assert!(rig.fake.told.is_empty());
    rig.fake.space = 100;
    assert_eq!(rig.turn(), Turn::Wait);
    assert_eq!(rig.fake.sent, b"abcdef");
    assert_eq!(rig.fake.told, ["shutdown"]);
}

#[test]
fn half_close_then_the_peers_end_is_an_orderly_end_once_flushed() {
    let mut rig = Rig::established();
    rig.write(b"last");
    shutdown(rig.program(), Shutdown::Write).unwrap();
    assert_eq!(rig.turn(), Turn::Wait);
    rig.fake.incoming = b"reply".to_vec();
    rig.fake.ended = true;
    assert_eq!(rig.turn(), Turn::Wait);
    assert_eq!(rig.fake.told, ["shutdown"]);
    rig.fake.flushed = true;
    assert_eq!(rig.turn(), Turn::Over(Ending::Closed));
    assert_eq!(rig.fake.told, ["shutdown", "close"]);
    let Rig { relay, program, .. } = rig;
    relay.finish();
    let rig = Rig {
        program,
        ..Rig::connecting()
    };
    assert_eq!(rig.read().unwrap(), b"reply");
    assert_eq!(rig.read().unwrap(), b"");
}

#[test]
fn program_gone_after_its_last_write_closes_in_order() {
    let mut rig = Rig::established();
    rig.fake.space = 2;
    rig.write(b"bye");
    rig.program = None;
    assert_eq!(rig.turn(), Turn::Wait);
    rig.fake.space = 2;
    assert_eq!(rig.turn(), Turn::Over(Ending::Closed));
    assert_eq!(rig.fake.sent, b"bye");
    assert_eq!(rig.fake.told, ["close"]);
}

#[test]
fn data_that_nobody_will_read_aborts() {
    // Unread in the shadow.
    let mut rig = Rig::established();
    rig.fake.incoming = b"unread".to_vec();
    assert_eq!(rig.turn(), Turn::Wait);
    rig.program = None;
    assert_eq!(rig.turn(), Turn::Over(Ending::Aborted));
    assert_eq!(rig.fake.told, ["abort"]);
    // Arrives after the program has gone.
    let mut rig = Rig::established();
    rig.program = None;
    rig.fake.incoming = b"late".to_vec();
    assert_eq!(rig.turn(), Turn::Over(Ending::Aborted));
    assert_eq!(rig.fake.told, ["abort"]);
}

#[test]
fn what_came_before_a_shutdown_of_both_directions_stays_readable() {
    let bytes: Vec<u8> = (0..1_000_000u32).map(|i| (i * 7 / 3) as u8).collect();
    let mut rig = Rig::established();
    rig.linger_zero = true;
    rig.fake.incoming = bytes.clone();
    assert_eq!(rig.turn(), Turn::Wait);
    assert!(!rig.fake.incoming.is_empty(), "more than the shadow takes by itself");
    rig.relay.shutdown(&mut rig.fake, true);
    shutdown(rig.program(), Shutdown::Both).unwrap();
    assert_eq!(rig.turn(), Turn::Over(Ending::Closed));
    assert_eq!(rig.fake.told, ["close"]);
    let mut got = Vec::new();
    while let Ok(piece) = rig.read() {
        if piece.is_empty() {
            break;
        }
        got.extend(piece);
    }
    assert!(got == bytes, "{} bytes", got.len());
}

#[test]
fn a_close_after_a_shutdown_of_reading_alone_is_a_close() {
    let mut rig = Rig::established();
    rig.relay.shutdown(&mut rig.fake, false);
    shutdown(rig.program(), Shutdown::Read).unwrap();
    rig.linger_zero = true;
    rig.program = None;
    assert_eq!(rig.turn(), Turn::Over(Ending::Aborted));
}

/// The kernel's TCP has sent it when the program closes.
#[test]
fn what_was_written_before_a_reset_goes_first() {
    // Data unread in the shadow.
    let mut rig = Rig::established();
    rig.fake.incoming = b"unread".to_vec();
    assert_eq!(rig.turn(), Turn::Wait);
    rig.write(b"reply");
    rig.program = None;
    assert_eq!(rig.turn(), Turn::Over(Ending::Aborted));
    assert_eq!(rig.fake.sent, b"reply");
    // Data that finds nobody.
    let mut rig = Rig::established();
    rig.write(b"reply");
    rig.program = None;
    rig.fake.incoming = b"late".to_vec();
    while rig.turn() != Turn::Over(Ending::Aborted) {}
    assert_eq!(rig.fake.sent, b"reply");
}

/// Not even what was written waits for room.
#[test]
fn close_with_linger_zero_and_no_room_aborts_at_once() {
    let mut rig = Rig::established();
    (rig.linger_zero, rig.fake.space) = (true, 2);
    rig.write(b"much");
    rig.program = None;
    assert_eq!(rig.turn(), Turn::Over(Ending::Aborted));
    assert_eq!(rig.fake.sent, b"mu");
    let mut rig = Rig::established();
    rig.fake.space = 2;
    rig.write(b"much");
    rig.program = None;
    assert_eq!(rig.turn(), Turn::Wait, "an ordinary close");
}

#[test]
fn close_with_linger_zero_aborts() {
    let mut rig = Rig::established();
    rig.linger_zero = true;
    assert_eq!(rig.turn(), Turn::Wait);
    rig.program = None;
    assert_eq!(rig.turn(), Turn::Over(Ending::Aborted));
    assert_eq!(rig.fake.told, ["abort"]);
}

#[test]
fn close_after_half_close_closes() {
    let mut rig = Rig::established();
    shutdown(rig.program(), Shutdown::Write).unwrap();
    assert_eq!(rig.turn(), Turn::Wait);
    rig.program = None;
    assert_eq!(rig.turn(), Turn::Over(Ending::Closed));
    assert_eq!(rig.fake.told, ["shutdown", "close"]);
}

#[test]
fn a_broken_connection_is_a_reset_after_its_data() {
    let mut rig = Rig::established();
    rig.fake.incoming = b"before".to_vec();
    rig.fake.broken = Some(Errno::TIMEDOUT);
    assert_eq!(rig.turn(), Turn::Over(Ending::Failed(Errno::TIMEDOUT)));
    let Rig { relay, program, .. } = rig;
    relay.fail();
    let rig = Rig {
        program,
        ..Rig::connecting()
    };
    assert_eq!(rig.read().unwrap(), b"before");
    assert_eq!(rig.read(), Err(Errno::CONNRESET));
}

#[test]
fn a_connection_that_breaks_after_the_peers_end_is_noticed() {
    let mut rig = Rig::established();
    rig.fake.ended = true;
    assert_eq!(rig.turn(), Turn::Wait);
    assert_eq!(rig.read().unwrap(), b"");
    rig.fake.broken = Some(Errno::CONNRESET);
    // As the kernel says of a reset in CLOSE_WAIT.
    assert_eq!(rig.turn(), Turn::Over(Ending::Failed(Errno::PIPE)));
}

#[test]
fn a_program_that_shut_its_reading_side_does_not_stop_the_peer() {
    let mut rig = Rig::established();
    shutdown(rig.program(), Shutdown::Read).unwrap();
    rig.fake.incoming = b"nobody listens".to_vec();
    assert_eq!(rig.turn(), Turn::Wait);
    assert!(rig.fake.incoming.is_empty());
    rig.write(b"still talking");
    assert_eq!(rig.turn(), Turn::Wait);
    assert_eq!(rig.fake.sent, b"still talking");
    assert!(rig.fake.told.is_empty());
}

#[test]
fn close_while_connecting_drops_the_attempt() {
    let mut rig = Rig::connecting();
    assert_eq!(rig.turn(), Turn::Wait);
    rig.program = None;
    assert_eq!(rig.turn(), Turn::Over(Ending::Aborted));
}

#[test]
fn a_fast_peer_does_not_hold_the_engine_for_ever() {
    let mut rig = Rig::established();
    shutdown(rig.program(), Shutdown::Read).unwrap();
    rig.fake.incoming = vec![0; BUDGET + 1];
    assert_eq!(rig.turn(), Turn::More);
    assert_eq!(rig.turn(), Turn::Wait);
    assert!(rig.fake.incoming.is_empty());
}

//! The shadow against the kernel: what a program sees on its end of the pair.

use super::*;
use crate::engine::clock::Clock;
use crate::engine::event_loop::{EventLoop, Key, Source};
use crate::time::Duration;
use rustix::net::getpeername;

/// A pair, and an event loop that watches our end.
struct Rig {
    shadow: Shadow,
    program: OwnedFd,
    event_loop: EventLoop,
    clock: Clock,
}

impl Rig {
    fn connecting() -> Rig {
        let (shadow, program) = Shadow::connecting(&Padding::new()).unwrap();
        let event_loop = EventLoop::new().unwrap();
        event_loop
            .add(
                shadow.as_fd(),
                Source::Shadow(Key {
                    index: 0,
                    generation: 0,
                }),
            )
            .unwrap();
        Rig {
            shadow,
            program,
            event_loop,
            clock: Clock::start(),
        }
    }

    fn connected() -> Rig {
        let mut rig = Rig::connecting();
        rig.shadow.open();
        rig
    }

    /// Tells the shadow what epoll has to say now.
    fn turn(&mut self) {
        let mut events = Vec::new();
        let now = self.clock.now();
        self.event_loop.wait(now, Some(now), &mut events).unwrap();
        for (_, ready) in events {
            self.shadow.on_ready(ready);
        }
    }

    fn read(&mut self) -> Read {
        self.turn();
        self.read_into(&mut [0; 65_536])
    }

    /// Reads to a place that is in two pieces.
    fn read_into(&mut self, buf: &mut [u8]) -> Read {
        let read = self.shadow.read(buf.len(), |count| {
            let (head, tail) = buf[..count].split_at_mut(count / 3);
            [head, tail]
        });
        read.unwrap()
    }
}

fn revents(fd: &OwnedFd) -> PollFlags {
    let mut fds = [PollFd::new(fd, PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    fds[0].revents()
}

fn write_all(fd: &OwnedFd, data: &[u8]) {
    assert_eq!(
        send(fd, data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        Ok(data.len())
    );
}

fn read_once(fd: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    let mut buf = vec![0; 1 << 20];
    let (n, _) = recv(fd, &mut buf, RecvFlags::DONTWAIT)?;
    buf.truncate(n);
    Ok(buf)
}

#[test]
fn program_cannot_write_until_connected_and_then_gets_its_edge() {
    let mut rig = Rig::connecting();
    let watch = EventLoop::new().unwrap();
    watch.add(&rig.program, Source::Monitor).unwrap();
    let mut watch = watch;
    let mut edges = |now| {
        let mut events = Vec::new();
        watch.wait(now, Some(now), &mut events).unwrap();
        events
    };
    let now = rig.clock.now();
    assert!(edges(now).iter().all(|(_, ready)| !ready.writable));
    assert_eq!(revents(&rig.program), PollFlags::empty());
    assert_eq!(send(&rig.program, b"x", SendFlags::DONTWAIT), Err(Errno::AGAIN));
    assert_eq!(read_once(&rig.program), Err(Errno::AGAIN));

    rig.shadow.open();
    assert!(edges(now).iter().any(|(_, ready)| ready.writable));
    assert_eq!(revents(&rig.program), PollFlags::OUT);
    assert_eq!(rig.read(), Read::Nothing);
}

#[test]
fn the_programs_end_shows_our_name() {
    let text = format!("mptcp-test-{}", std::process::id());
    let name = SocketAddrUnix::new_abstract_name(text.as_bytes()).unwrap();
    let (shadow, program) = Shadow::connecting(&Padding::new()).unwrap();
    shadow.bind(text.as_bytes()).unwrap();
    let peer = getpeername(&program).unwrap().unwrap();
    assert_eq!(SocketAddrUnix::try_from(peer).unwrap(), name);
    let (other, _) = Shadow::connecting(&Padding::new()).unwrap();
    assert_eq!(other.bind(text.as_bytes()), Err(Errno::ADDRINUSE));
}

#[test]
fn every_byte_is_forwarded_once_and_one_is_always_held() {
    let mut rig = Rig::connected();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i * 7 + (i >> 8)) as u8).collect();
    let mut offered = 0;
    let mut got = Vec::new();
    let mut sizes = [1, 2, 3, 1000, 65_536, 17].iter().cycle();
    let mut limits = [1, 100_000, 4096, 2].iter().cycle();
    let mut buf = vec![0; 1 << 17];
    while got.len() < sent.len() {
        let size = *sizes.next().unwrap();
        let chunk = &sent[offered..(offered + size).min(sent.len())];
        match send(&rig.program, chunk, SendFlags::DONTWAIT) {
            Ok(n) => offered += n,
            Err(error) => assert_eq!(error, Errno::AGAIN),
        }
        let limit = *limits.next().unwrap();
        if let Read::Bytes(n) = rig.read_into(&mut buf[..limit]) {
            assert!(n <= limit);
            got.extend_from_slice(&buf[..n]);
        }
        assert!(rustix::io::ioctl_fionread(&rig.shadow.end).unwrap() >= 1);
    }
    assert_eq!(got, sent);
    assert_eq!(rig.read(), Read::Nothing);
}

#[test]
fn program_becomes_writable_again_with_only_a_held_byte_left() {
    let mut rig = Rig::connected();
    let chunk = [7; 65_536];
    while send(&rig.program, &chunk, SendFlags::DONTWAIT).is_ok() {}
    assert_eq!(revents(&rig.program), PollFlags::empty());
    let mut buf = vec![0; 1 << 20];
    while let Read::Bytes(_) = rig.read_into(&mut buf) {}
    assert_eq!(revents(&rig.program), PollFlags::OUT);
}

#[test]
fn death_is_a_reset_after_the_data_and_never_an_end_of_file() {
    for connected in [false, true] {
        let mut rig = if connected { Rig::connected() } else { Rig::connecting() };
        assert_eq!(rig.shadow.write((b"last ", b"words")).unwrap(), Write::Bytes(10));
        rig.shadow.fail();
        assert_eq!(read_once(&rig.program).unwrap(), b"last words");
        assert_eq!(read_once(&rig.program), Err(Errno::CONNRESET));
    }
}

#[test]
fn death_after_everything_was_forwarded_is_a_reset_too() {
    let mut rig = Rig::connected();
    write_all(&rig.program, b"request");
    assert_eq!(rig.read(), Read::Bytes(7));
    drop(rig.shadow);
    assert_eq!(read_once(&rig.program), Err(Errno::CONNRESET));
}

#[test]
fn end_of_stream_then_finish_is_clean() {
    let mut rig = Rig::connected();
    write_all(&rig.program, b"request");
    shutdown(&rig.program, Shutdown::Write).unwrap();
    assert_eq!(rig.read(), Read::Bytes(7));
    assert_eq!(rig.read(), Read::HalfClosed);
    assert_eq!(rig.shadow.write((b"answer", b"")).unwrap(), Write::Bytes(6));
    rig.shadow.end_of_stream();
    rig.shadow.finish();
    assert_eq!(read_once(&rig.program).unwrap(), b"answer");
    assert_eq!(read_once(&rig.program).unwrap(), b"");
    assert!(sockopt::socket_error(&rig.program).unwrap().is_ok());
}

#[test]
fn program_can_write_after_the_peers_end_of_stream() {
    let mut rig = Rig::connected();
    rig.shadow.end_of_stream();
    assert_eq!(read_once(&rig.program).unwrap(), b"");
    write_all(&rig.program, b"still here");
    assert_eq!(rig.read(), Read::Bytes(10));
}

#[test]
fn last_write_before_exit_is_not_lost() {
    let mut rig = Rig::connected();
    let copy = rig.program.try_clone().unwrap();
    write_all(&rig.program, b"goodbye");
    drop(rig.program);
    rig.program = copy;
    rig.turn();
    assert_eq!(rig.read_into(&mut [0; 3]), Read::Bytes(3));
    rig.program = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    assert_eq!(rig.read(), Read::Bytes(4));
    assert_eq!(rig.read(), Read::Closed);
    assert!(rig.shadow.is_hung_up());
    assert_eq!(rig.shadow.write((b"x", b"")).unwrap(), Write::Gone);
}

#[test]
fn close_with_data_unread_is_a_reset_behind_what_was_written() {
    let mut rig = Rig::connected();
    write_all(&rig.program, b"sent");
    assert_eq!(rig.shadow.write((b"unread", b"")).unwrap(), Write::Bytes(6));
    rig.program = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    assert_eq!(rig.read(), Read::Bytes(4));
    assert_eq!(rig.read(), Read::Reset);
    assert_eq!(rig.read(), Read::Reset);
}

#[test]
fn reset_is_seen_by_a_write_that_comes_before_the_event() {
    let mut rig = Rig::connected();
    assert_eq!(rig.shadow.write((b"unread", b"")).unwrap(), Write::Bytes(6));
    rig.program = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    assert_eq!(rig.shadow.write((b"x", b"")).unwrap(), Write::Gone);
    assert_eq!(rig.read(), Read::Reset);
}

#[test]
fn a_deaf_program_is_not_a_closed_one() {
    let mut rig = Rig::connected();
    shutdown(&rig.program, Shutdown::Read).unwrap();
    rig.turn();
    assert_eq!(rig.shadow.write((b"x", b"")).unwrap(), Write::Deaf);
    write_all(&rig.program, b"talks on");
    assert_eq!(rig.read(), Read::Bytes(8));
    assert_eq!(rig.read(), Read::Nothing);
}

#[test]
fn a_slow_program_stops_us_and_its_reading_wakes_us() {
    let mut rig = Rig::connected();
    rig.turn();
    let chunk = vec![1; 1 << 16];
    let mut total = 0;
    while let Write::Bytes(n) = rig.shadow.write((&chunk[..1000], &chunk[1000..])).unwrap() {
        total += n;
    }
    assert_eq!(rig.shadow.write((b"x", b"")).unwrap(), Write::Full);
    let mut events = Vec::new();
    let now = rig.clock.now();
    rig.event_loop.wait(now, Some(now), &mut events).unwrap();
    assert!(events.iter().all(|(_, ready)| !ready.writable));
    while let Ok(data) = read_once(&rig.program) {
        total -= data.len();
    }
    assert_eq!(total, 0);
    rig.event_loop
        .wait(now, Some(now + Duration::from_millis(1)), &mut events)
        .unwrap();
    assert!(events.iter().any(|(_, ready)| ready.writable));
}

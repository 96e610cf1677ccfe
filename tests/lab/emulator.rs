//! The wires of a lab at work: frames from one packet socket through middleboxes and line model to the other, in one thread.
//!
//! While frames are under way the loop sleeps in steps of at least `QUANTUM`, so that 100 Mbit/s cost a few thousand wake-ups a second
//! and not one a frame; delays are right to about that step. An idle emulator sleeps until a frame comes.

use crate::capture::Capture;
use crate::lab::clock;
use crate::lab::spec::{Middlebox, Toward, Wire as Spec, WireStats};
use crate::line::Line;
use crate::middlebox::Chain;
use crate::packet_socket::PacketSocket;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

const QUANTUM: Duration = Duration::from_micros(500);

/// One wire: two ends, two directions, boxes between.
pub struct Wire {
    index: usize,
    seed: u64,
    /// The ends at the client and at the server.
    ends: [PacketSocket; 2],
    /// Toward server and toward client.
    lines: [Line; 2],
    chain: Chain,
    capture: Option<Capture>,
}

impl Wire {
    /// Wire `index` between the end at the client and the end at the server.
    pub fn new(index: usize, spec: Spec, seed: u64, client_end: PacketSocket, server_end: PacketSocket) -> Wire {
        let line_seed = seed.wrapping_mul(1_000_003).wrapping_add(2 * index as u64);
        Wire {
            index,
            seed,
            ends: [client_end, server_end],
            lines: [
                Line::new(spec.to_server, line_seed),
                Line::new(spec.to_client, line_seed + 1),
            ],
            chain: Chain::new(index, seed, &[]),
            capture: None,
        }
    }

    /// Other properties from now on.
    pub fn set(&mut self, spec: Spec) {
        self.lines[0].set(spec.to_server);
        self.lines[1].set(spec.to_client);
    }

    /// Cuts or mends both directions.
    pub fn set_cut(&mut self, cut: bool) {
        self.lines.iter_mut().for_each(|line| line.set_cut(cut));
    }

    /// Other boxes from now on; what the old ones remembered or held is forgotten.
    pub fn set_middleboxes(&mut self, boxes: &[Middlebox]) {
        self.chain = Chain::new(self.index, self.seed, boxes);
    }

    /// Writes what the client sees into this file from now on.
    pub fn set_capture(&mut self, capture: Option<Capture>) {
        self.capture = capture;
    }

    /// Counters.
    pub fn stats(&self) -> WireStats {
        WireStats {
            to_server: self.lines[0].stats,
            to_client: self.lines[1].stats,
        }
    }

    /// Takes in what has come and sends what is due.
    fn turn(&mut self) -> io::Result<()> {
        for (way, toward) in Toward::BOTH.into_iter().enumerate() {
            self.take_in(way, toward)?;
        }
        let now = clock::now();
        for (way, toward) in Toward::BOTH.into_iter().enumerate() {
            let line = &mut self.lines[way];
            let mut due: Vec<Vec<u8>> = std::iter::from_fn(|| line.pop(now)).collect();
            if let (Toward::Client, Some(capture)) = (toward, &mut self.capture) {
                due.iter().try_for_each(|frame| capture.write(now, frame))?;
            }
            self.ends[1 - way].send(&mut due)?;
        }
        Ok(())
    }

    /// What has come from one end, through the boxes into the line.
    fn take_in(&mut self, way: usize, toward: Toward) -> io::Result<()> {
        let now = clock::now();
        let (mut arrived, mut captured) = (Vec::new(), Ok(()));
        let (line, chain) = (&mut self.lines[way], &mut self.chain);
        let mut capture = self.capture.as_mut().filter(|_| toward == Toward::Server);
        self.ends[way].receive(|bytes| {
            if let (Some(capture), Ok(())) = (&mut capture, &captured) {
                captured = capture.write(now, bytes);
            }
            if line.admit(bytes) {
                chain.handle(now, toward, bytes.to_vec(), &mut line.stats, &mut arrived);
            }
        })?;
        chain.handle_timeout(now, toward, &mut line.stats, &mut arrived);
        arrived.into_iter().for_each(|frame| line.push(now, frame));
        captured
    }

    fn next_event(&self) -> Option<Duration> {
        let lines = self.lines.iter().filter_map(Line::next_due);
        lines.chain(self.chain.next_timeout()).min()
    }
}

/// Works until `control` is readable, then returns.
pub fn run_until_readable(control: BorrowedFd<'_>, wires: &mut [Option<Wire>]) -> io::Result<()> {
    loop {
        for wire in wires.iter_mut().flatten() {
            wire.turn()?;
        }
        let mut fds = vec![PollFd::from_borrowed_fd(control, PollFlags::IN)];
        let next = wires.iter().flatten().filter_map(Wire::next_event).min();
        // Frames that come meanwhile wait for the end of the step: batches instead of a wake-up a frame.
        if next.is_some() && sleep_or_readable(&mut fds, Some(QUANTUM))? {
            return Ok(());
        }
        for wire in wires.iter().flatten() {
            fds.extend(
                wire.ends
                    .iter()
                    .map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)),
            );
        }
        if sleep_or_readable(&mut fds, next.map(|at| at.saturating_sub(clock::now())))? {
            return Ok(());
        }
    }
}

/// Waits for any of the descriptors or the timeout; true when the first one is readable or at its end.
fn sleep_or_readable(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout.map(|t| Timespec {
        tv_sec: t.as_secs() as i64,
        tv_nsec: t.subsec_nanos() as i64,
    });
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!fds[0].revents().is_empty()),
        Err(e) => Err(e.into()),
    }
}

//! A tunnel between both hosts that touches no wire: a TUN device on each, and a thread that carries packets from one to the other. So whatever
//! TCP is seen on a wire has left the tunnel.

use crate::lab::Lab;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{open, Mode, OFlags};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// The tunnel; gone when dropped.
pub struct Tunnel {
    stop: Arc<AtomicBool>,
    carried: Arc<AtomicU64>,
    carrier: Option<JoinHandle<()>>,
}

/// The client's end is 203.0.113.1, the server's 203.0.113.2, the devices are `tun0`.
impl Tunnel {
    pub fn new(lab: &Lab) -> Tunnel {
        let ends = [(lab.client(), 1), (lab.server(), 2)].map(|(host, number)| {
            let end = host.run(|| device("tun0")).expect("a thread on the host");
            let address = format!("203.0.113.{number}/24");
            host.ip(&["addr", "add", &address, "dev", "tun0"]).expect("an address");
            host.ip(&["link", "set", "tun0", "up"]).expect("the device comes up");
            end
        });
        let (stop, carried) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let (told, count) = (stop.clone(), carried.clone());
        let carrier = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                carry(&ends, &count);
            }
        });
        Tunnel {
            stop,
            carried,
            carrier: Some(carrier),
        }
    }

    /// Packets both ways.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            let _ = carrier.join();
        }
    }
}

/// Waits a moment for packets at both ends, and carries them over.
fn carry(ends: &[OwnedFd; 2], count: &AtomicU64) {
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    let mut polled = ends.each_ref().map(|end| PollFd::new(end, PollFlags::IN));
    if poll(&mut polled, Some(&moment)).is_err() {
        return;
    }
    let mut packet = [0; 65_536];
    for (from, to) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
        while let Ok(len) = rustix::io::read(from, &mut packet) {
            // Full is lost, as on any wire.
            let _ = rustix::io::write(to, &packet[..len]);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A TUN device without packet information, in the calling thread's namespace.
fn device(name: &str) -> OwnedFd {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open("/dev/net/tun", flags, Mode::empty()).expect("the kernel has TUN devices");
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    // SAFETY: TUNSETIFF reads and writes one ifreq.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(result, 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
    file
}

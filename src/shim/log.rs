//! One line on standard error when MPTCP_LOG asks for it; silent otherwise.
//!
//! Formatted on the stack and written with one system call. Standard error is remembered by device and inode at start: a program that
//! closes it and gets the number for a socket or a file does not find our lines in there.

use super::config;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, AtomicU8, Ordering};

/// How much is said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    Off = 0,
    /// What must not have happened.
    Error = 1,
    /// What the user will want to change.
    Warn = 2,
    /// What became of each connection.
    Info = 3,
    /// Each decision.
    Debug = 4,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Off as u8);
static STDERR_DEVICE: AtomicU64 = AtomicU64::new(0);
static STDERR_INODE: AtomicU64 = AtomicU64::new(0);

/// The level that an env_logger filter gives this library: `info`, `mptcp=debug`, `warn,mptcp::shim=debug`. The last match that is ours wins.
pub fn parse_level(filter: &[u8]) -> Level {
    let mut level = Level::Off;
    for directive in filter.split(|&b| b == b',') {
        let mut parts = directive.trim_ascii().splitn(2, |&b| b == b'=');
        let first = parts.next().unwrap_or_default();
        let (module, name) = match parts.next() {
            Some(name) => (first, name),
            None => (&b"mptcp"[..], first),
        };
        if module == b"mptcp" || module.starts_with(b"mptcp::shim") {
            level = named(name.trim_ascii()).unwrap_or(level);
        }
    }
    level
}

fn named(name: &[u8]) -> Option<Level> {
    const NAMES: [(&[u8], Level); 6] = [
        (b"off", Level::Off),
        (b"error", Level::Error),
        (b"warn", Level::Warn),
        (b"info", Level::Info),
        (b"debug", Level::Debug),
        (b"trace", Level::Debug),
    ];
    NAMES
        .iter()
        .find(|(n, _)| name.eq_ignore_ascii_case(n))
        .map(|&(_, level)| level)
}

/// At start: sets the level and remembers which file standard error is.
pub fn start(level: Level) {
    if level == Level::Off {
        return;
    }
    // SAFETY: descriptor 2 is only looked at, and an error is the answer when it is closed.
    let stderr = unsafe { rustix::fd::BorrowedFd::borrow_raw(2) };
    if let Ok(stat) = rustix::fs::fstat(stderr) {
        STDERR_DEVICE.store(stat.st_dev, Ordering::Relaxed);
        STDERR_INODE.store(stat.st_ino, Ordering::Relaxed);
        LEVEL.store(level as u8, Ordering::Relaxed);
    }
}

/// Whether lines of this level are written.
pub fn enabled(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Writes one line.
pub fn write(level: Level, text: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    let mut line = Line {
        bytes: [0; 400],
        len: 0,
    };
    // A line that is too long is cut; nothing else can fail.
    let _ = write!(line, "mptcp[{}] ", rustix::process::getpid().as_raw_nonzero());
    let program = config::get().program();
    let _ = line.push(program);
    let _ = line.write_str(": ");
    let _ = line.write_fmt(text);
    let end = line.len.min(line.bytes.len() - 1);
    line.bytes[end] = b'\n';
    // SAFETY: descriptor 2 is only looked at and written to, which fails when it is closed.
    let stderr = unsafe { rustix::fd::BorrowedFd::borrow_raw(2) };
    let same = rustix::fs::fstat(stderr).is_ok_and(|stat| {
        stat.st_dev == STDERR_DEVICE.load(Ordering::Relaxed) && stat.st_ino == STDERR_INODE.load(Ordering::Relaxed)
    });
    if same {
        // Nobody to tell when it fails.
        let _ = rustix::io::write(stderr, &line.bytes[..=end]);
    }
}

struct Line {
    bytes: [u8; 400],
    len: usize,
}

impl Line {
    fn push(&mut self, bytes: &[u8]) -> fmt::Result {
        let room = self.bytes.len() - self.len;
        let n = bytes.len().min(room);
        self.bytes[self.len..self.len + n].copy_from_slice(&bytes[..n]);
        self.len += n;
        if n == bytes.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.push(s.as_bytes())
    }
}

/// Logs what became of a connection.
macro_rules! info {
    ($($arg:tt)*) => { $crate::shim::log::write($crate::shim::log::Level::Info, format_args!($($arg)*)) };
}

/// Logs a decision.
macro_rules! debug {
    ($($arg:tt)*) => { $crate::shim::log::write($crate::shim::log::Level::Debug, format_args!($($arg)*)) };
}

/// Logs what the user will want to change.
macro_rules! warning {
    ($($arg:tt)*) => { $crate::shim::log::write($crate::shim::log::Level::Warn, format_args!($($arg)*)) };
}

pub(crate) use {debug, info, warning};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_env_logger_are_understood() {
        assert_eq!(parse_level(b""), Level::Off);
        assert_eq!(parse_level(b"info"), Level::Info);
        assert_eq!(parse_level(b"TRACE"), Level::Debug);
        assert_eq!(parse_level(b"mptcp=debug"), Level::Debug);
        assert_eq!(parse_level(b"hyper=debug"), Level::Off);
        assert_eq!(
            parse_level(b"warn, mptcp::shim=debug ,mptcp::engine=error"),
            Level::Debug
        );
        assert_eq!(parse_level(b"nonsense"), Level::Off);
    }
}

//! Counts, hashes and times one stream of bytes.

use crate::lab::host::Report;
use crate::lab::{clock, stream};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use std::time::Duration;

/// Watches a stream from its first moment on.
pub struct Meter {
    start: Duration,
    last: Duration,
    longest_silence: Duration,
    bytes: u64,
    hash: Sha256,
}

impl Meter {
    /// The stream begins now.
    pub fn new() -> Meter {
        let start = clock::now();
        Meter {
            start,
            last: start,
            longest_silence: Duration::ZERO,
            bytes: 0,
            hash: Sha256::new(),
        }
    }

    /// Bytes came. The time before the first ones is no silence: nothing had been promised yet.
    pub fn add(&mut self, bytes: &[u8]) {
        let now = clock::now();
        if self.bytes > 0 {
            self.longest_silence = self.longest_silence.max(now - self.last);
        }
        self.last = now;
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// Reads to the end of file or the first error.
    pub fn read_all(mut self, mut from: impl Read) -> Report {
        let mut buffer = vec![0; 65_536];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return self.report(None),
                Ok(count) => self.add(&buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return self.report(Some(e)),
            }
        }
    }

    /// The stream ended.
    pub fn report(self, error: Option<io::Error>) -> Report {
        Report {
            bytes: self.bytes,
            sha256: stream::hex(&self.hash.finalize()),
            seconds: (clock::now() - self.start).as_secs_f64(),
            longest_silence_ms: self.longest_silence.as_secs_f64() * 1e3,
            error: error.map(|e| e.to_string()),
        }
    }
}

/// Prints a value as one line, whole even when several threads print.
pub fn print_line(value: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&line)?;
    output.flush()
}

//! A pcap file of what the client sees of a wire (draft-ietf-opsawg-pcap: microseconds, Ethernet). Times are CLOCK_MONOTONIC.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
const SNAP_LEN: u32 = 65_535;
const LINKTYPE_ETHERNET: u32 = 1;

/// An open file.
pub struct Capture(BufWriter<File>);

impl Capture {
    /// Begins a new file.
    pub fn create(path: &Path) -> io::Result<Capture> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&MAGIC_MICROSECONDS.to_ne_bytes())?;
        // Version 2.4.
        file.write_all(&2u16.to_ne_bytes())?;
        file.write_all(&4u16.to_ne_bytes())?;
        for word in [0, 0, SNAP_LEN, LINKTYPE_ETHERNET] {
            file.write_all(&word.to_ne_bytes())?;
        }
        Ok(Capture(file))
    }

    /// Appends a frame.
    pub fn write(&mut self, now: Duration, frame: &[u8]) -> io::Result<()> {
        let len = frame.len() as u32;
        for word in [now.as_secs() as u32, now.subsec_micros(), len, len] {
            self.0.write_all(&word.to_ne_bytes())?;
        }
        self.0.write_all(frame)
    }
}

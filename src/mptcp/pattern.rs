//! What a program's writes say about it: does it send messages and wait, or all it has?
//!
//! No clock: a write that finds everything acknowledged begins a new message. So typing and requests are short messages, however fast they
//! follow, and a file is one long message, however slow the line.
//!
//! Not here: what follows from it ([`super::scheduler`]), and what a peer's writes say, which a receiver cannot steer.

/// A longer message is bulk: no path's delay matters to it any more, but its rate does.
const BULK_BYTES: u64 = 256 << 10;
/// A message up to this is short: it fits in every path's initial window.
const SHORT_BYTES: u64 = 10 << 10;
/// So many short messages one after the other make an interactive connection.
const SHORT_RUN: u8 = 3;

/// What a connection is used for, as far as its writes tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Traffic {
    /// Not enough was written to tell.
    #[default]
    Unknown,
    /// Short messages, each after the last one had arrived.
    Interactive,
    /// More than any path holds is waiting to be sent.
    Bulk,
}

/// Watches the writes of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WritePattern {
    message_bytes: u64,
    short_run: u8,
}

impl WritePattern {
    /// The program wrote `n` bytes; `idle` when everything before them was acknowledged.
    pub fn on_write(&mut self, n: usize, idle: bool) {
        if n == 0 {
            return;
        }
        if idle {
            self.short_run = match self.message_bytes {
                0 => 0,
                1..=SHORT_BYTES => self.short_run.saturating_add(1),
                _ => 0,
            };
            self.message_bytes = 0;
        }
        self.message_bytes += n as u64;
    }

    /// What it says so far.
    pub fn traffic(&self) -> Traffic {
        if self.message_bytes > BULK_BYTES {
            Traffic::Bulk
        } else if self.short_run >= SHORT_RUN && self.message_bytes <= SHORT_BYTES {
            Traffic::Interactive
        } else {
            Traffic::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_interactive_after_three() {
        let mut pattern = WritePattern::default();
        for _ in 0..SHORT_RUN {
            pattern.on_write(100, true);
            assert_eq!(pattern.traffic(), Traffic::Unknown);
        }
        pattern.on_write(100, true);
        assert_eq!(pattern.traffic(), Traffic::Interactive);
        // A long answer is one exception, not the end of it.
        pattern.on_write(50_000, true);
        assert_eq!(pattern.traffic(), Traffic::Unknown);
        pattern.on_write(100, true);
        assert_eq!(pattern.traffic(), Traffic::Unknown, "counted anew");
    }

    #[test]
    fn a_file_is_bulk_in_whatever_pieces_it_comes() {
        let mut pattern = WritePattern::default();
        for i in 0..=BULK_BYTES / 1000 {
            assert_eq!(pattern.traffic(), Traffic::Unknown, "after {i} kB");
            pattern.on_write(1000, i == 0);
        }
        pattern.on_write(1000, false);
        assert_eq!(pattern.traffic(), Traffic::Bulk);
        pattern.on_write(1000, true);
        assert_eq!(pattern.traffic(), Traffic::Unknown, "all of it has arrived");
    }
}

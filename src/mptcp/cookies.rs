//! SYN cookies (RFC 4987 section 3.6): what a SYN said comes back with the third ACK, so that nothing has to be remembered.
//!
//! Our initial sequence number is a keyed hash of the addresses, the client's number and the time, with the segment size in its low bits;
//! the low bits of TSval hold window scale and SACK, as on Linux. The MPTCP key is such a hash too (RFC 8684 section 3.1 leaves its making
//! to the host), and MP_CAPABLE brings it back.
//!
//! Not here: when SYNs are answered so, and what becomes of the third ACK (`listening`).

use super::crypto;
use super::endpoint::FourTuple;
use crate::time::{Duration, Instant};
use crate::wire::{Segment, SeqNum, TcpOptions};
use core::hash::Hasher;

/// Segment sizes that fit in the low bits of a cookie, ascending.
const SEGMENT_SIZES: [u16; 8] = [88, 536, 1220, 1340, 1400, 1440, 1460, 8948];
const SIZE_BITS: u32 = 7;
/// A cookie is good for the rest of the period it was made in, and the next.
const PERIOD_S: u64 = 64;
const LIFETIME: Duration = Duration::from_secs(2 * PERIOD_S);
/// The bits of TSval that hold options: the window scale (15: none), and SACK.
const STAMP_BITS: u32 = 0x1f;
const NO_SCALE: u32 = 0xf;
const SACK: u32 = 0x10;

/// What a hash is for: no two uses may give the same number.
#[derive(Clone, Copy)]
enum Use {
    SequenceNumber = 1,
    Key = 2,
}

/// Makes and checks cookies.
pub(super) struct Cookies {
    secret: (u64, u64),
    last_made: Option<Instant>,
}

/// The two numbers of a stateless SYN/ACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cookie {
    pub iss: SeqNum,
    /// Our MPTCP key.
    pub key: u64,
}

impl Cookies {
    pub fn new(secret: (u64, u64)) -> Cookies {
        Cookies {
            secret,
            last_made: None,
        }
    }

    /// The cookie for a SYN.
    pub fn make(&mut self, now: Instant, tuple: FourTuple, syn: &Segment<'_>) -> Cookie {
        self.last_made = Some(now);
        let mss = syn.options.mss.unwrap_or(SEGMENT_SIZES[1]);
        let size = SEGMENT_SIZES.iter().rposition(|size| *size <= mss).unwrap_or(0) as u32;
        self.cookie(tuple, syn.header.seq, period(now), size)
    }

    /// The cookie that a third ACK brings back, and the segment size that the client announced; None when it brings none of ours.
    pub fn check(&self, now: Instant, tuple: FourTuple, ack: &Segment<'_>) -> Option<(Cookie, u16)> {
        if now.since(self.last_made?) > LIFETIME {
            return None;
        }
        let (iss, irs) = (ack.header.ack + u32::MAX, ack.header.seq + u32::MAX);
        let size = iss.0 & SIZE_BITS;
        let periods = [period(now), period(now).wrapping_sub(1)];
        let mut cookies = periods.into_iter().map(|period| self.cookie(tuple, irs, period, size));
        let cookie = cookies.find(|cookie| cookie.iss == iss)?;
        Some((cookie, SEGMENT_SIZES[size as usize]))
    }

    fn cookie(&self, tuple: FourTuple, irs: SeqNum, period: u64, size: u32) -> Cookie {
        let hash = |r#use: Use| {
            let mut h = crypto::hash_addresses(self.secret, tuple);
            h.write_u16(tuple.local.port());
            h.write_u16(tuple.remote.port());
            h.write_u32(irs.0);
            h.write_u64(period);
            h.write_u8(r#use as u8);
            h.finish()
        };
        Cookie {
            iss: SeqNum(hash(Use::SequenceNumber) as u32 & !SIZE_BITS | size),
            key: hash(Use::Key),
        }
    }
}

fn period(now: Instant) -> u64 {
    now.as_micros() / 1_000_000 / PERIOD_S
}

/// TSval of a stateless SYN/ACK that would be `val`: not later than that, and its low bits say what the SYN's options were.
pub(super) fn stamp(val: u32, syn: &TcpOptions) -> u32 {
    let scale = syn.window_scale.map_or(NO_SCALE, |shift| u32::from(shift.min(14)));
    let said = scale | if syn.sack_permitted { SACK } else { 0 };
    let stamp = val & !STAMP_BITS | said;
    match stamp.wrapping_sub(val) as i32 > 0 {
        true => stamp.wrapping_sub(STAMP_BITS + 1),
        false => stamp,
    }
}

/// The options of the SYN that a third ACK with these options follows.
pub(super) fn said(ack: &TcpOptions, mss: u16) -> TcpOptions {
    let stamp = ack.timestamps.map_or(NO_SCALE, |timestamps| timestamps.ecr);
    let scale = stamp & NO_SCALE;
    TcpOptions {
        mss: Some(mss),
        window_scale: (scale != NO_SCALE).then_some(scale as u8),
        sack_permitted: stamp & SACK != 0,
        timestamps: ack.timestamps,
        ..TcpOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_remember_options_and_never_run_ahead() {
        for val in [0u32, 1, 31, 32, 1_000_003, u32::MAX] {
            for window_scale in [None, Some(0), Some(7), Some(14)] {
                for sack_permitted in [false, true] {
                    let syn = TcpOptions {
                        window_scale,
                        sack_permitted,
                        ..TcpOptions::default()
                    };
                    let ecr = stamp(val, &syn);
                    let late = val.wrapping_sub(ecr);
                    assert!(late <= 2 * STAMP_BITS, "{val}: {late}");
                    let ack = TcpOptions {
                        timestamps: Some(crate::wire::Timestamps { val: 5, ecr }),
                        ..TcpOptions::default()
                    };
                    let said = said(&ack, 1460);
                    assert_eq!(
                        (said.window_scale, said.sack_permitted),
                        (window_scale, sack_permitted),
                        "{val}"
                    );
                }
            }
        }
        let without = said(&TcpOptions::default(), 536);
        assert_eq!((without.window_scale, without.sack_permitted), (None, false));
    }
}

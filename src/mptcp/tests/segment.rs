//! Segments as scripts write them: relative numbers, MPTCP options as values or in hexadecimal; see `script`.

use super::script::FIRST;
use crate::wire::{Flags, Timestamps};

/// A segment as a script writes it.
#[derive(Clone, Debug)]
pub struct Seg {
    pub(super) flow: usize,
    pub(super) flags: Flags,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) window: u16,
    pub(super) mss: Option<u16>,
    pub(super) scale: Option<u8>,
    pub(super) sack_permitted: bool,
    pub(super) stamps: bool,
    pub(super) stamp: Option<Timestamps>,
    pub(super) sack: Vec<(u32, u32)>,
    pub(super) mptcp: String,
    pub(super) dss: Option<RelativeDss>,
    pub(super) payload: Vec<u8>,
}

/// A DSS with numbers relative to the IDSNs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RelativeDss {
    pub(super) ack: Option<u64>,
    pub(super) short_ack: bool,
    pub(super) map: Option<(u64, u32, u16)>,
    pub(super) fin: bool,
    pub(super) wrong_sum: bool,
}

fn seg(flags: Flags, seq: u32, ack: u32) -> Seg {
    Seg {
        flow: FIRST,
        flags,
        seq,
        ack,
        window: 63,
        mss: None,
        scale: None,
        sack_permitted: false,
        stamps: true,
        stamp: None,
        sack: Vec::new(),
        mptcp: String::new(),
        dss: None,
        payload: Vec::new(),
    }
}

/// SYN with the options of a Linux host.
pub fn syn() -> Seg {
    Seg {
        window: 64_240,
        mss: Some(1460),
        scale: Some(10),
        sack_permitted: true,
        ..seg(Flags::SYN, 0, 0)
    }
}

/// SYN/ACK with the options of a Linux host.
pub fn syn_ack() -> Seg {
    Seg {
        flags: Flags::SYN.with(Flags::ACK),
        ack: 1,
        ..syn()
    }
}

/// Pure acknowledgment.
pub fn ack(seq: u32, ack: u32) -> Seg {
    seg(Flags::ACK, seq, ack)
}

/// Data.
pub fn data(seq: u32, ack: u32, payload: impl AsRef<[u8]>) -> Seg {
    Seg {
        payload: payload.as_ref().to_vec(),
        ..seg(Flags::ACK, seq, ack)
    }
}

/// FIN with ACK.
pub fn fin(seq: u32, ack: u32) -> Seg {
    seg(Flags::ACK.with(Flags::FIN), seq, ack)
}

/// RST with ACK.
pub fn rst(seq: u32, ack: u32) -> Seg {
    Seg {
        window: 0,
        ..seg(Flags::ACK.with(Flags::RST), seq, ack)
    }
}

impl Seg {
    pub fn on(self, flow: usize) -> Seg {
        Seg { flow, ..self }
    }
    pub fn flags(self, flags: Flags) -> Seg {
        Seg { flags, ..self }
    }
    /// The same at another relative sequence number.
    pub fn at(self, seq: u32) -> Seg {
        Seg { seq, ..self }
    }
    /// The same with another relative acknowledgment number.
    pub fn acking(self, ack: u32) -> Seg {
        Seg { ack, ..self }
    }
    /// Window field as on the wire.
    pub fn win(self, window: u16) -> Seg {
        Seg { window, ..self }
    }
    /// MPTCP options in hexadecimal, a blank between two.
    pub fn mp(self, hex: &str) -> Seg {
        Seg {
            mptcp: hex.to_owned(),
            ..self
        }
    }
    pub fn mss(self, mss: Option<u16>) -> Seg {
        Seg { mss, ..self }
    }
    pub fn scale(self, scale: Option<u8>) -> Seg {
        Seg { scale, ..self }
    }
    pub fn no_sack(self) -> Seg {
        Seg {
            sack_permitted: false,
            ..self
        }
    }
    pub fn no_stamps(self) -> Seg {
        Seg { stamps: false, ..self }
    }
    /// Explicit timestamps.
    pub fn stamp(self, val: u32, ecr: u32) -> Seg {
        Seg {
            stamp: Some(Timestamps { val, ecr }),
            ..self
        }
    }
    pub fn sack(self, blocks: &[(u32, u32)]) -> Seg {
        Seg {
            sack: blocks.to_vec(),
            ..self
        }
    }
    fn with_dss(mut self, f: impl FnOnce(&mut RelativeDss)) -> Seg {
        let mut dss = self.dss.unwrap_or_default();
        f(&mut dss);
        self.dss = Some(dss);
        self
    }
    /// DATA_ACK of 64 bits.
    pub fn dack(self, n: u64) -> Seg {
        self.with_dss(|d| d.ack = Some(n))
    }
    /// DATA_ACK of 32 bits.
    pub fn dack32(self, n: u64) -> Seg {
        self.with_dss(|d| (d.ack, d.short_ack) = (Some(n), true))
    }
    /// Mapping with a 64-bit number; under checksums its sum is over this segment's payload.
    pub fn map(self, dsn: u64, ssn: u32, len: u16) -> Seg {
        self.with_dss(|d| d.map = Some((dsn, ssn, len)))
    }
    /// DATA_FIN without payload.
    pub fn data_fin(self, dsn: u64) -> Seg {
        self.with_dss(|d| (d.map, d.fin) = (Some((dsn, 0, 1)), true))
    }
    /// Sets the DATA_FIN flag on a mapping.
    pub fn with_data_fin(self) -> Seg {
        self.with_dss(|d| d.fin = true)
    }
    pub fn wrong_sum(self) -> Seg {
        self.with_dss(|d| d.wrong_sum = true)
    }
}

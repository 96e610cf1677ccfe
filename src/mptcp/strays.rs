//! Segments that no connection sends: resets for what belongs to nothing here (RFC 9293 section 3.10.7.1), acknowledgments from
//! TIME_WAIT, answers by cookies and probes of what a dead engine left.
//!
//! They wait in a bounded queue: under a flood they are dropped.

use super::connection::Manner;
use super::endpoint::{Endpoint, FourTuple};
use crate::wire::{Flags, Header, Segment, SeqNum, TcpOptions, TcpRst};

/// Length of the queue.
pub(super) const MAX_STRAYS: usize = 256;

/// A segment without payload that no connection sends.
pub(super) struct Stray {
    pub tuple: FourTuple,
    pub manner: Manner,
    pub header: Header,
    pub options: TcpOptions,
}

impl Stray {
    /// A header without a window.
    pub fn header(tuple: FourTuple, seq: SeqNum, ack: SeqNum, flags: Flags) -> Header {
        Header {
            src_port: tuple.local.port(),
            dst_port: tuple.remote.port(),
            seq,
            ack,
            flags,
            window: 0,
        }
    }

    /// A segment that leaves by an interface in no special manner.
    pub fn by(iface: u32, tuple: FourTuple, header: Header) -> Stray {
        Stray {
            tuple,
            manner: Manner {
                iface,
                ..Manner::default()
            },
            header,
            options: TcpOptions::default(),
        }
    }

    /// A reset that acknowledges the whole segment that it answers.
    pub fn reset(tuple: FourTuple, iface: u32, segment: &Segment<'_>) -> Stray {
        let h = &segment.header;
        let controls = u32::from(h.flags.has(Flags::SYN)) + u32::from(h.flags.has(Flags::FIN));
        let ack = h.seq + segment.payload.len() as u32 + controls;
        let seq = if h.flags.has(Flags::ACK) { h.ack } else { SeqNum(0) };
        Stray::by(
            iface,
            tuple,
            Stray::header(tuple, seq, ack, Flags::RST.with(Flags::ACK)),
        )
    }
}

impl From<super::output::Bare> for Stray {
    fn from(b: super::output::Bare) -> Self {
        Stray {
            tuple: b.tuple,
            manner: b.manner,
            header: b.header,
            options: b.options,
        }
    }
}

impl Endpoint {
    pub(super) fn push_stray(&mut self, stray: Stray) {
        if self.stray.len() < MAX_STRAYS {
            self.stray.push_back(stray);
        }
    }

    /// A reset for a segment that has no connection; `reason` goes into MP_TCPRST.
    pub(super) fn stray_reset(&mut self, tuple: FourTuple, iface: u32, segment: &Segment<'_>, reason: u8) {
        let mut stray = Stray::reset(tuple, iface, segment);
        stray.options.mptcp.tcprst = Some(TcpRst {
            transient: false,
            reason,
        });
        self.push_stray(stray);
    }

    /// RFC 9293 section 3.10.7.1: a reset for a segment that belongs to nothing here, at a port where nobody else answers.
    pub fn refuse(&mut self, tuple: FourTuple, iface: u32, segment: &Segment<'_>) {
        let flags = segment.header.flags;
        if flags.has(Flags::RST) {
            return;
        }
        if flags.has(Flags::ACK) {
            return self.reset_old_connection(tuple, iface, segment);
        }
        self.push_stray(Stray::reset(tuple, iface, segment));
    }

    /// RFC 9293 sections 3.5.1 and 3.10.7.3: the peer holds another connection of this 4-tuple, an
    /// older one or one that was given up here; a reset frees it.
    pub(super) fn reset_old_connection(&mut self, tuple: FourTuple, iface: u32, segment: &Segment<'_>) {
        let header = Stray::header(tuple, segment.header.ack, SeqNum(0), Flags::RST);
        self.push_stray(Stray::by(iface, tuple, header));
    }
}

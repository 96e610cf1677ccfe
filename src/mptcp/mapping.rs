//! From subflow bytes to the data stream: mappings, their checksums, DATA_FIN, and what to do when a mapping is missing or
//! wrong (RFC 8684 sections 3.3 and 3.7).

use super::connection::{Connection, Ctx};
use super::crypto;
use super::endpoint::Fallback;
use super::input::{reset_reason, RST_MIDDLEBOX, RST_MPTCP};
use super::subflow::Reset;
use crate::time::Duration;
use crate::wire::mptcp_option::{MpCapableBody, WireDsn};
use crate::wire::{Dsn, DssMap, MptcpOptions, SeqNum, TcpRst};

/// What became of a piece of in-order subflow payload.
pub(super) enum Mapped {
    /// Taken, or known already.
    Done,
    /// The connection is plain TCP from here on: take what follows this many bytes as such.
    Plain(usize),
    /// This many bytes; the rest has no mapping yet and is not acknowledged.
    Part(usize),
    /// The subflow, or the connection, is being reset.
    Gone,
}

/// Times that a subflow's next byte may come without a mapping.
const MAX_UNMAPPED: u8 = 20;
/// RFC 8684 section 3.7: how long the answer to MP_FAIL may take (note S4).
const FAIL_WAIT: Duration = Duration::from_secs(120);

impl Connection {
    /// Learns the segment's mapping and delivers `payload`, whose first byte has subflow sequence number `seq`.
    pub(super) fn map_in(
        &mut self,
        ctx: &mut Ctx<'_>,
        index: usize,
        seq: SeqNum,
        payload: &[u8],
        options: &MptcpOptions,
    ) -> Mapped {
        if let Some(outcome) = self.learn_map(ctx, index, options) {
            return outcome;
        }
        let mut at = self.subflows[index].ssn_in(seq);
        let mut rest = payload;
        while !rest.is_empty() {
            let done = payload.len() - rest.len();
            let Some(m) = self.subflows[index].maps.front() else {
                return self.on_unmapped(ctx, index, done);
            };
            let into = at.wrapping_sub(m.ssn);
            if (into as i32) < 0 {
                return self.on_unmapped(ctx, index, done);
            }
            if into >= m.len {
                self.subflows[index].maps.pop_front();
                continue;
            }
            let n = ((m.len - into) as usize).min(rest.len());
            let (piece, tail) = rest.split_at(n);
            match self.deliver(ctx, index, into, piece) {
                Mapped::Done => {}
                other => return other,
            }
            at = at.wrapping_add(n as u32);
            rest = tail;
        }
        Mapped::Done
    }

    /// Some(…) when the mapping decides the segment's fate by itself.
    fn learn_map(&mut self, ctx: &mut Ctx<'_>, index: usize, options: &MptcpOptions) -> Option<Mapped> {
        let (map, data_fin) = match (&options.dss, &options.capable) {
            (Some(dss), _) => (dss.map?, dss.data_fin),
            // MP_CAPABLE with data is a mapping too (note C8).
            (None, Some(c)) => match c.body {
                MpCapableBody::AckData { data_len, checksum, .. } => {
                    let dsn = WireDsn::Long(crypto::idsn(self.remote_key) + 1);
                    (
                        DssMap {
                            dsn,
                            ssn: 1,
                            len: data_len,
                            checksum,
                        },
                        false,
                    )
                }
                _ => return None,
            },
            _ => return None,
        };
        self.inc.long |= matches!(map.dsn, WireDsn::Long(_));
        if map.len == 0 {
            return Some(self.on_infinite_map(ctx, index));
        }
        if self.checksum != map.checksum.is_some() {
            return Some(self.on_checksum_mismatch(ctx, index));
        }
        let dsn = map.dsn.expand(self.inc.buf.nxt());
        if data_fin {
            let fin = dsn + u64::from(map.len) - 1;
            if !self.learn_fin(ctx, fin) {
                return Some(self.reset_subflow(index, RST_MPTCP));
            }
        }
        let sum = map
            .checksum
            .map(|c| crypto::dss_pseudo_header(dsn, map.ssn, map.len, c));
        if !self.subflows[index].add_map(&map, dsn, data_fin, sum) {
            return Some(self.reset_subflow(index, RST_MPTCP));
        }
        None
    }

    /// A DATA_FIN without payload, on any segment (RFC 8684 section 3.3.3).
    pub(super) fn on_bare_data_fin(&mut self, ctx: &mut Ctx<'_>, index: usize, options: &MptcpOptions) {
        let Some(dss) = options.dss.filter(|d| d.data_fin) else {
            return;
        };
        let Some(map) = dss.map else { return };
        self.inc.long |= matches!(map.dsn, WireDsn::Long(_));
        let dsn = map.dsn.expand(self.inc.buf.nxt());
        if let Some(checksum) = map.checksum {
            if map.ssn == 0 && crypto::dss_pseudo_header(dsn, 0, map.len, checksum).finish() != 0 {
                return;
            }
        }
        if map.ssn != 0 || map.len != 1 {
            return;
        }
        let _ = self.learn_fin(ctx, dsn);
        // It is acknowledged at once, also when it is a repetition.
        self.subflows[index].rx.demand_ack();
    }

    /// False when the peer contradicts itself about the end of its stream.
    fn learn_fin(&mut self, ctx: &mut Ctx<'_>, fin: Dsn) -> bool {
        match self.inc.fin {
            Some(known) => known == fin,
            None if fin.lt(self.inc.buf.nxt()) => false,
            None => {
                self.inc.fin = Some(fin);
                self.inc.buf.ends_at(fin);
                self.note_end(ctx);
                true
            }
        }
    }

    /// The end may have been reached: tell the program, acknowledge it everywhere.
    fn note_end(&mut self, ctx: &mut Ctx<'_>) {
        if self.inc_finished() {
            self.tell_readable(ctx);
            for sf in self.subflows.iter_mut().filter(|s| s.is_up()) {
                sf.rx.demand_ack();
            }
        }
    }

    fn deliver(&mut self, ctx: &mut Ctx<'_>, index: usize, into: u32, piece: &[u8]) -> Mapped {
        let sf = &mut self.subflows[index];
        let Some(m) = sf.maps.front_mut() else {
            return Mapped::Gone;
        };
        let Some(checked) = m.checked.as_mut() else {
            let dsn = m.dsn + u64::from(into);
            self.inc.buf.insert(dsn, piece);
            self.note_end_reached(ctx);
            return Mapped::Done;
        };
        // Under checksum a mapping is delivered whole, when it proved right (note S6 describes Linux, which does the same).
        if into != checked.held.len() as u32 {
            return Mapped::Done;
        }
        checked.sum.add(piece);
        checked.held.extend_from_slice(piece);
        if (checked.held.len() as u32) < m.len {
            return Mapped::Done;
        }
        let right = checked.sum.finish() == 0;
        let (dsn, held) = (m.dsn, core::mem::take(&mut checked.held));
        if !right {
            return self.on_bad_checksum(ctx, index, dsn, &held);
        }
        self.inc.buf.insert(dsn, &held);
        self.note_end_reached(ctx);
        Mapped::Done
    }

    fn note_end_reached(&mut self, ctx: &mut Ctx<'_>) {
        if self.inc.fin.is_some() {
            self.note_end(ctx);
        }
    }

    fn reset_subflow(&mut self, index: usize, reason: u8) -> Mapped {
        // On the only subflow the reset ends the connection, so it says so with MP_FASTCLOSE.
        let only = self.subflows.iter().filter(|s| s.is_up()).count() <= 1;
        self.subflows[index].reset = Some(Reset {
            fastclose: only,
            ..reset_reason(reason)
        });
        Mapped::Gone
    }

    /// Bytes without a mapping: fall back where that is still allowed, else reset (note D6, F3).
    fn on_unmapped(&mut self, ctx: &mut Ctx<'_>, index: usize, done: usize) -> Mapped {
        if !self.no_way_back
            && self.subflows.len() == 1
            && !self.inc.buf.has_gap()
            && self.inc.fin.is_none()
            && !self.inc.long
        {
            self.fall_back(ctx, Fallback::OptionsStripped, true);
            return Mapped::Plain(done);
        }
        // A middlebox that merges segments drops mappings: left unacknowledged, the bytes come again, with theirs.
        let sf = &mut self.subflows[index];
        sf.unmapped = if done > 0 { 0 } else { sf.unmapped.saturating_add(1) };
        if sf.unmapped <= MAX_UNMAPPED {
            sf.rx.demand_ack();
            return Mapped::Part(done);
        }
        self.reset_subflow(index, RST_MIDDLEBOX)
    }

    pub(super) fn on_infinite_map(&mut self, ctx: &mut Ctx<'_>, index: usize) -> Mapped {
        if self.no_way_back || self.subflows.len() > 1 || self.inc.buf.has_gap() {
            return self.reset_subflow(index, RST_MPTCP);
        }
        let answered = self.fail_deadline.is_some();
        self.fall_back(
            ctx,
            if answered {
                Fallback::ChecksumFailed
            } else {
                Fallback::PeerFellBack
            },
            false,
        );
        Mapped::Plain(0)
    }

    /// A checksum where none was agreed, or none where one was (note S1).
    fn on_checksum_mismatch(&mut self, ctx: &mut Ctx<'_>, index: usize) -> Mapped {
        if !self.no_way_back && self.subflows.len() == 1 && self.inc.buf.received() == 0 {
            self.fall_back(ctx, Fallback::OptionsStripped, true);
            return Mapped::Plain(0);
        }
        self.reset_subflow(index, RST_MPTCP)
    }

    /// RFC 8684 section 3.7: with other subflows, the bad one is reset with MP_FAIL and the data comes again elsewhere;
    /// on the only one, MP_FAIL, and both sides go on as plain TCP.
    fn on_bad_checksum(&mut self, ctx: &mut Ctx<'_>, index: usize, dsn: Dsn, held: &[u8]) -> Mapped {
        let others = self.subflows.iter().enumerate().any(|(i, s)| i != index && s.is_up());
        if others || self.no_way_back || dsn != self.inc.buf.nxt() {
            let reason = Some(TcpRst {
                transient: false,
                reason: RST_MIDDLEBOX,
            });
            self.subflows[index].reset = Some(Reset {
                fastclose: !others,
                reason,
                fail: Some(dsn),
            });
            return Mapped::Gone;
        }
        let first = self.inc.buf.received() == 0;
        if !first {
            self.subflows[index].fail_now = Some(dsn);
            self.subflows[index].rx.demand_ack();
            self.fail_deadline = Some(ctx.now + FAIL_WAIT);
        }
        // As plain TCP would: the bytes are what the subflow's own checksum vouches for.
        self.inc.buf.insert(dsn, held);
        let deadline = self.fail_deadline;
        self.fall_back(ctx, Fallback::ChecksumFailed, true);
        self.fail_deadline = deadline;
        Mapped::Done
    }
}

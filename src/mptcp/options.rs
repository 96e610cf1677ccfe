//! Options of segments on a synchronized subflow: mappings, DATA_ACKs, DATA_FIN, address signals, SACK blocks, and which of
//! them fit.

use super::connection::{Connection, Role};
use super::crypto;
use super::input::{FLAG_CHECKSUM, FLAG_SHA256};
use super::subflow::SendMap;
use crate::time::Instant;
use crate::wire::mptcp_option::{MpCapableBody, WireDsn};
use crate::wire::options::{options_len, OPTIONS_MAX};
use crate::wire::{Dsn, Dss, DssMap, Flags, Header, MpCapable, MpJoin, SeqNum, TcpOptions};

impl Connection {
    /// Options of a segment of subflow `index` that carries `payload` bytes under `map`; SACK blocks as room allows.
    pub(super) fn established_options(
        &mut self,
        now: Instant,
        index: usize,
        map: Option<(SendMap, bool)>,
        payload: u32,
    ) -> TcpOptions {
        let space = self.subflows[index]
            .segment_room(self.options.mss_limit)
            .saturating_sub(payload);
        let space = (space as usize).min(OPTIONS_MAX);
        let mut options = TcpOptions::default();
        let sf = &self.subflows[index];
        if sf.timestamps {
            options.timestamps = Some(sf.timestamps_now(now));
        }
        if let Some((map, capable)) = map {
            self.map_option(&mut options, map, capable);
        } else if self.multipath() {
            self.ack_option(&mut options, index);
        } else if let Some(dsn) = self.subflows[index].fail_now.take() {
            // The last word of MPTCP before plain TCP (RFC 8684 section 3.7).
            options.mptcp.dss = Some(Dss {
                data_ack: Some(self.wire_ack()),
                map: None,
                data_fin: false,
            });
            options.mptcp.fail = Some(dsn);
        } else if self.infinite_acks > 0 && !self.subflows[index].rx.has_sack() {
            let sf = &self.subflows[index];
            if let Some(map) = self.infinite(self.out.nxt, sf.ssn_out(sf.tx.snd_nxt())) {
                self.infinite_acks -= 1;
                self.map_option(&mut options, map, false);
            }
        }
        // A segment that is sent again is as long as it was, but DATA_ACKs may have become wider since.
        if options_len(&options) > space {
            if let Some(dss) = options.mptcp.dss.as_mut() {
                dss.data_ack = dss.data_ack.map(WireDsn::shorten);
            }
        }
        if options_len(&options) > space {
            if let Some(dss) = options.mptcp.dss.as_mut() {
                dss.data_ack = None;
            }
        }
        let sf = &mut self.subflows[index];
        if sf.sack && sf.rx.has_sack() {
            let room = space.saturating_sub(options_len(&options));
            options.sack = sf.rx.sack_blocks(room.saturating_sub(4) / 8);
        }
        options
    }

    /// RFC 8684 section 3.7: after a fallback of ours the infinite mapping tells the peer.
    pub(super) fn infinite(&self, dsn: Dsn, ssn: u32) -> Option<SendMap> {
        let tell = self.plain() && self.infinite_map.is_some();
        tell.then(|| SendMap {
            dsn,
            ssn,
            len: 0,
            checksum: self.checksum.then_some(0),
        })
    }

    pub(super) fn wire_ack(&self) -> WireDsn {
        let ack = self.data_ack();
        if self.inc.long {
            WireDsn::Long(ack)
        } else {
            WireDsn::Short(ack.0 as u32)
        }
    }

    pub(super) fn map_option(&self, options: &mut TcpOptions, map: SendMap, capable: bool) {
        if capable {
            let body = MpCapableBody::AckData {
                sender_key: self.local_key,
                receiver_key: self.remote_key,
                data_len: map.len,
                checksum: map.checksum,
            };
            options.mptcp.capable = Some(MpCapable {
                version: 1,
                flags: self.own_flags(),
                body,
            });
        } else {
            let wire = DssMap {
                dsn: WireDsn::Long(map.dsn),
                ssn: map.ssn,
                len: map.len,
                checksum: map.checksum,
            };
            let ack = if map.len == 0 {
                self.wire_ack().shorten()
            } else {
                self.wire_ack()
            };
            options.mptcp.dss = Some(Dss {
                data_ack: Some(ack),
                map: Some(wire),
                data_fin: false,
            });
        }
    }

    /// In the third ACK the A flag repeats what was agreed so far, C is the server's alone (golden runs F, K).
    pub(super) fn own_flags(&self) -> u8 {
        FLAG_SHA256 | if self.checksum { FLAG_CHECKSUM } else { 0 }
    }

    /// MPTCP part of a pure acknowledgment.
    pub(super) fn ack_option(&mut self, options: &mut TcpOptions, index: usize) {
        let key_pair = (self.local_key, self.remote_key);
        let fin = self.data_fin_option();
        let ack = self.wire_ack();
        let flags = self.own_flags();
        let sf = &mut self.subflows[index];
        match sf.join {
            Some(j) if j.initiator && !sf.confirmed => {
                let hmac = crypto::join_ack_hmac(key_pair.0, key_pair.1, j.local_nonce, j.remote_nonce);
                options.mptcp.join = Some(MpJoin::Ack { hmac });
                return;
            }
            None if !sf.confirmed && self.role == Role::Client && (fin.is_none() || !sf.keys_shown) => {
                sf.keys_shown = true;
                let body = MpCapableBody::Ack {
                    sender_key: key_pair.0,
                    receiver_key: key_pair.1,
                };
                options.mptcp.capable = Some(MpCapable {
                    version: 1,
                    flags,
                    body,
                });
                return;
            }
            _ => {}
        }
        if sf.prio_now {
            options.mptcp.prio = Some(sf.local_backup);
            sf.prio_now = false;
        }
        if let Some(dsn) = sf.fail_now.take() {
            options.mptcp.fail = Some(dsn);
        }
        if fin.is_none() && options.mptcp.prio.is_none() && options.mptcp.fail.is_none() {
            if let Some(add) = self.addresses.next_add_addr(key_pair) {
                // On a pure acknowledgment, alone (golden run C).
                options.mptcp.add_addr = Some(add);
                return;
            }
        }
        // What is said of addresses is said on a subflow that stays.
        let leaving = sf.stalled && sf.close_queued;
        let mut dss = Dss {
            data_ack: Some(ack),
            map: None,
            data_fin: false,
        };
        if let Some(map) = fin {
            dss.map = Some(map);
            dss.data_fin = true;
        } else if !leaving {
            options.mptcp.remove_addr = self.addresses.take_remove_addr();
        }
        options.mptcp.dss = Some(dss);
    }

    /// A DATA_FIN that still waits for its acknowledgment rides on every pure ACK (note X7).
    pub(super) fn data_fin_option(&self) -> Option<DssMap> {
        if !self.multipath() || !self.fin_ready() || self.out.fin_acked {
            return None;
        }
        let dsn = self.fin_dsn();
        let checksum = self.checksum.then(|| crypto::dss_checksum(dsn, 0, 1, []));
        Some(DssMap {
            dsn: WireDsn::Long(dsn),
            ssn: 0,
            len: 1,
            checksum,
        })
    }

    pub(super) fn established_header(&mut self, index: usize, seq: SeqNum, flags: Flags) -> Header {
        let window = self.inc.buf.window();
        let sf = &mut self.subflows[index];
        let field = (window >> sf.rcv_scale).min(65_535);
        sf.last_advertised = (field << sf.rcv_scale) as u32;
        Header {
            src_port: sf.tuple.local.port(),
            dst_port: sf.tuple.remote.port(),
            seq,
            ack: sf.rx.rcv_nxt(),
            flags: flags.with(Flags::ACK),
            window: field as u16,
        }
    }
}

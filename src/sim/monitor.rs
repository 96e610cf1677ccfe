//! Looks at every segment that an endpoint sends, for what is wrong whatever the scenario.
//!
//! It knows one flow at a time: what it would need keys for (data-level windows) is seen by the applications' streams.

use super::packet::Packet;
use crate::wire::{Dss, Flags, SeqNum};
use core::net::SocketAddr;
use std::collections::BTreeMap;

/// One direction of one subflow, as its sender speaks.
struct Flow {
    /// The SYN's sequence number.
    isn: SeqNum,
    /// Payload sent, from the first byte on: a retransmission must repeat it (RFC 9293 section 3.8.1).
    sent: Vec<u8>,
    /// Mappings by relative subflow sequence number: length, data sequence number, checksum. Linux resets a subflow whose mapping
    /// changes between retransmissions.
    maps: BTreeMap<u32, (u16, u64, Option<u16>)>,
    /// A FIN was sent: its relative sequence number.
    fin: Option<u32>,
}

/// All flows by source and destination.
#[derive(Default)]
pub struct Monitor {
    flows: BTreeMap<(SocketAddr, SocketAddr), Flow>,
}

impl Monitor {
    /// Checks a segment; `Err` says what is wrong with it.
    pub fn on_transmit(&mut self, host: usize, packet: &Packet) -> Result<(), String> {
        let key = (packet.source(), packet.destination());
        if packet.header.src_port == 0 || packet.header.dst_port == 0 {
            return Err("port 0".to_string());
        }
        if packet.has(Flags::SYN.with(Flags::FIN)) || packet.has(Flags::SYN.with(Flags::RST)) {
            return Err("SYN with FIN or RST".to_string());
        }
        if packet.has(Flags::RST) {
            return if packet.payload.is_empty() {
                Ok(())
            } else {
                Err("RST with payload".to_string())
            };
        }
        if packet.has(Flags::SYN) {
            return self.on_syn(key, packet);
        }
        if !packet.has(Flags::ACK) {
            return Err(format!("host {host}: neither SYN, RST nor ACK"));
        }
        match self.flows.get_mut(&key) {
            Some(flow) => flow.on_segment(packet),
            None => Err("a segment before the SYN".to_string()),
        }
    }

    fn on_syn(&mut self, key: (SocketAddr, SocketAddr), packet: &Packet) -> Result<(), String> {
        match self.flows.get(&key) {
            // A server that forgot a half-open connection answers a late duplicate of the SYN with a new number.
            Some(flow) if flow.isn != packet.header.seq && !packet.has(Flags::ACK) => {
                return Err(format!(
                    "another initial sequence number on the same ports, {:?} before",
                    flow.isn
                ));
            }
            Some(flow) if flow.isn == packet.header.seq => {}
            _ => {
                let flow = Flow {
                    isn: packet.header.seq,
                    sent: Vec::new(),
                    maps: BTreeMap::new(),
                    fin: None,
                };
                self.flows.insert(key, flow);
            }
        }
        Ok(())
    }
}

impl Flow {
    fn on_segment(&mut self, packet: &Packet) -> Result<(), String> {
        if let Some(dss) = &packet.options.mptcp.dss {
            self.on_dss(dss)?;
        }
        let start = packet.header.seq.diff(self.isn + 1);
        let Ok(start) = usize::try_from(start) else {
            // A keepalive probe's number lies one before, and the first byte may be the SYN's.
            return if packet.payload.len() <= 1 {
                Ok(())
            } else {
                Err("payload before the first byte".to_string())
            };
        };
        let end = start + packet.payload.len();
        self.check_fin(packet, end)?;
        if packet.payload.is_empty() {
            return Ok(());
        }
        if start > self.sent.len() {
            // A keepalive probe with a garbage byte is the only one that may lie outside; a hole is an error.
            return Err(format!("payload at {start} leaves a hole after {}", self.sent.len()));
        }
        let known = self.sent.len().min(end);
        let unmapped = packet.options.mptcp.dss.is_some_and(|d| d.map.is_none());
        if packet.payload.len() == 1 && unmapped && end <= self.sent.len() {
            // A probe's garbage octet (RFC 9293 section 3.8.4).
            return Ok(());
        }
        if self.sent[start..known] != packet.payload[..known - start] {
            return Err(format!("other bytes at {start}..{known} than were sent there before"));
        }
        self.sent.extend_from_slice(&packet.payload[known - start..]);
        Ok(())
    }

    fn check_fin(&mut self, packet: &Packet, end: usize) -> Result<(), String> {
        let end = end as u32;
        if let Some(fin) = self.fin {
            if end > fin && !packet.payload.is_empty() {
                return Err(format!("payload up to {end} after the FIN at {fin}"));
            }
        }
        if packet.has(Flags::FIN) {
            match self.fin {
                Some(fin) if fin != end => return Err(format!("a FIN at {end}, but it was at {fin} before")),
                _ => self.fin = Some(end),
            }
        }
        Ok(())
    }

    fn on_dss(&mut self, dss: &Dss) -> Result<(), String> {
        let Some(map) = &dss.map else {
            return if dss.data_fin {
                Err("DATA_FIN without a mapping".to_string())
            } else {
                Ok(())
            };
        };
        // Subflow number 0 is the DATA_FIN alone, length 0 the infinite mapping: neither maps bytes of its own.
        if map.ssn == 0 || map.len == 0 {
            return Ok(());
        }
        let dsn = match map.dsn {
            crate::wire::mptcp_option::WireDsn::Long(dsn) => dsn.0,
            crate::wire::mptcp_option::WireDsn::Short(low) => u64::from(low),
        };
        let now = (map.len, dsn, map.checksum);
        let before = self.maps.insert(map.ssn, now);
        match before {
            Some(before) if before != now => Err(format!(
                "the mapping at {} changed: {before:?} before, {now:?} now",
                map.ssn
            )),
            _ => Ok(()),
        }
    }
}

//! Boxes that remember connections: corrupt payload, shift sequence numbers, translate addresses.

use super::frame::{TcpFrame, ACK, SYN};
use crate::lab::spec::{nat_address, Middlebox, Toward};
use siphasher::sip::SipHasher13;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

/// Client and server address of a connection, as the box sees them.
type Flow = (SocketAddr, SocketAddr);

fn flow(toward: Toward, segment: &TcpFrame) -> Flow {
    match toward {
        Toward::Server => (segment.source(), segment.destination()),
        Toward::Client => (segment.destination(), segment.source()),
    }
}

/// Flips payload bits and lets the checksum be fixed up.
pub struct Corrupt {
    kind: Middlebox,
    /// Sequence number of the first payload byte, by connection.
    first_byte: HashMap<Flow, u32>,
    data_segments: u32,
    done: bool,
}

impl Corrupt {
    /// `kind` is one of the two corrupting boxes.
    pub fn new(kind: Middlebox) -> Corrupt {
        Corrupt {
            kind,
            first_byte: HashMap::new(),
            data_segments: 0,
            done: false,
        }
    }

    pub fn handle(&mut self, toward: Toward, segment: &mut TcpFrame) {
        let hit = match self.kind {
            Middlebox::CorruptOnce { toward: way, offset } if way == toward => self.once(offset, toward, segment),
            Middlebox::CorruptEvery { toward: way, nth } if way == toward => self.every(nth, segment),
            _ => None,
        };
        if let Some(at) = hit {
            segment.payload_mut()[at] ^= 0x04;
        }
    }

    fn once(&mut self, offset: u32, toward: Toward, segment: &TcpFrame) -> Option<usize> {
        let flow = flow(toward, segment);
        if segment.has(SYN) {
            self.first_byte.insert(flow, segment.seq().wrapping_add(1));
        }
        let target = self.first_byte.get(&flow)?.wrapping_add(offset);
        let at = target.wrapping_sub(segment.seq()) as usize;
        let hit = !self.done && !segment.has(SYN) && at < segment.payload().len();
        self.done |= hit;
        hit.then_some(at)
    }

    fn every(&mut self, nth: u32, segment: &TcpFrame) -> Option<usize> {
        if segment.payload().is_empty() {
            return None;
        }
        self.data_segments += 1;
        (self.data_segments % nth.max(1) == 0).then_some(0)
    }
}

/// Gives every connection other initial sequence numbers.
pub struct Shift {
    seed: u64,
    /// What is added to the client's and to the server's numbers.
    offsets: HashMap<Flow, [u32; 2]>,
}

impl Shift {
    /// The offsets are drawn from `seed`.
    pub fn new(seed: u64) -> Shift {
        Shift {
            seed,
            offsets: HashMap::new(),
        }
    }

    pub fn handle(&mut self, toward: Toward, segment: &mut TcpFrame) {
        let flow = flow(toward, segment);
        if segment.has(SYN) && !segment.has(ACK) && toward == Toward::Server {
            let mut hasher = SipHasher13::new_with_keys(self.seed, 0);
            flow.hash(&mut hasher);
            let drawn = hasher.finish();
            self.offsets.insert(flow, [drawn as u32 | 1, (drawn >> 32) as u32 | 1]);
        }
        let Some(&[client, server]) = self.offsets.get(&flow) else {
            return;
        };
        let (own, others) = match toward {
            Toward::Server => (client, server),
            Toward::Client => (server, client),
        };
        segment.set_seq(segment.seq().wrapping_add(own));
        if segment.has(ACK) {
            segment.set_ack(segment.ack().wrapping_sub(others));
            segment.shift_sack(others);
        }
    }
}

/// The first port that the translator gives out.
const NAT_FIRST_PORT: u16 = 40_000;

/// Translates the client's address and port; addresses inside options (ADD_ADDR) and inside ICMP errors stay, as in simple routers.
pub struct Nat {
    wire: usize,
    outside: HashMap<Flow, SocketAddr>,
    inside: HashMap<Flow, SocketAddr>,
    next_port: u16,
}

impl Nat {
    /// The translator of wire `wire`, whose outside is `nat_address(wire, _)`.
    pub fn new(wire: usize) -> Nat {
        Nat {
            wire,
            outside: HashMap::new(),
            inside: HashMap::new(),
            next_port: NAT_FIRST_PORT,
        }
    }

    pub fn handle(&mut self, toward: Toward, segment: &mut TcpFrame) {
        let flow = flow(toward, segment);
        match toward {
            Toward::Server => {
                if segment.has(SYN) && !self.outside.contains_key(&flow) {
                    self.open(flow);
                }
                if let Some(&source) = self.outside.get(&flow) {
                    segment.set_source(source);
                }
            }
            Toward::Client => {
                if let Some(&destination) = self.inside.get(&flow) {
                    segment.set_destination(destination);
                }
            }
        }
    }

    fn open(&mut self, (client, server): Flow) {
        let outside = SocketAddr::new(nat_address(self.wire, client.is_ipv6()), self.next_port);
        self.next_port = self.next_port.checked_add(1).unwrap_or(NAT_FIRST_PORT);
        self.outside.insert((client, server), outside);
        self.inside.insert((outside, server), client);
    }
}

//! Two endpoints that hear each other at once, in virtual time, and segments that nobody of them sent.

use crate::link::for_each_segment;
use crate::mptcp::{ConnId, ConnOptions, Endpoint, Entropy, Event, FourTuple, LocalPath};
use crate::time::{Duration, Instant};
use crate::wire::{Header, Segment, TcpOptions};
use std::collections::VecDeque;

pub const SERVER: &str = "192.0.2.2:8000";

/// Numbers that are all different and reproducible.
struct Counting(u64);

impl Entropy for Counting {
    fn next_u64(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        self.0
    }
}

/// An endpoint with numbers of its own.
pub fn endpoint(seed: u64) -> Endpoint {
    Endpoint::new(Box::new(Counting(seed)))
}

/// A segment on its way.
pub struct Packet {
    pub tuple: FourTuple,
    pub header: Header,
    pub options: TcpOptions,
    pub payload: Vec<u8>,
}

/// A client and a server that listens at [`SERVER`].
pub struct Pair {
    pub client: Endpoint,
    pub server: Endpoint,
    pub now: Instant,
    /// What the server sent to others than the client's address.
    pub elsewhere: Vec<Packet>,
}

impl Pair {
    pub fn new(options: ConnOptions) -> Pair {
        let mut pair = Pair {
            client: endpoint(1),
            server: endpoint(2),
            now: Instant::from_millis(1_000_000),
            elsewhere: Vec::new(),
        };
        let any = "0.0.0.0:8000".parse().expect("an address");
        pair.server.listen(any, options).expect("free");
        pair
    }

    /// The client's 4-tuple with this port.
    pub fn tuple(port: u16) -> FourTuple {
        FourTuple {
            local: format!("192.0.2.1:{port}").parse().expect("an address"),
            remote: SERVER.parse().expect("an address"),
        }
    }

    /// Connects; nothing is sent yet.
    pub fn connect(&mut self, port: u16, options: ConnOptions) -> ConnId {
        let tuple = Pair::tuple(port);
        let path = LocalPath {
            addr: tuple.local.ip(),
            iface: 0,
            mtu: 1500,
            backup: false,
        };
        self.client.connect(self.now, tuple, path, options).expect("free")
    }

    /// Lets both speak until neither has anything to say.
    pub fn talk(&mut self) {
        loop {
            let mut packets = sent(&mut self.client, self.now);
            let from_client = packets.len();
            packets.extend(sent(&mut self.server, self.now));
            if packets.is_empty() {
                return;
            }
            for (i, packet) in packets.into_iter().enumerate() {
                if i < from_client {
                    hear(&mut self.server, self.now, &packet);
                } else if packet.tuple.remote.ip() == Pair::tuple(1).local.ip() {
                    hear(&mut self.client, self.now, &packet);
                } else {
                    self.elsewhere.push(packet);
                }
            }
        }
    }

    /// Time passes, in steps no longer than the next deadline.
    pub fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        self.talk();
        loop {
            let deadlines = [self.client.poll_timeout(), self.server.poll_timeout()];
            let next = deadlines.into_iter().flatten().min().filter(|at| *at <= end);
            self.now = next.map_or(end, |at| at.max(self.now));
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.talk();
            if next.is_none() {
                return;
            }
        }
    }
}

/// All that an endpoint wants to send now.
pub fn sent(endpoint: &mut Endpoint, now: Instant) -> Vec<Packet> {
    let mut packets = Vec::new();
    while let Some(out) = endpoint.poll_transmit(now) {
        let tuple = FourTuple {
            local: (out.src, out.header.src_port).into(),
            remote: (out.dst, out.header.dst_port).into(),
        };
        for_each_segment(&out, |header, payload| {
            packets.push(Packet {
                tuple,
                header: *header,
                options: out.options,
                payload: payload.concat(),
            });
        });
    }
    packets
}

/// Gives it to the endpoint that it is for; whether that knew what to do with it.
pub fn hear(endpoint: &mut Endpoint, now: Instant, packet: &Packet) -> bool {
    let segment = Segment {
        header: packet.header,
        options: packet.options,
        payload: &packet.payload,
    };
    let (src, dst) = (packet.tuple.local.ip(), packet.tuple.remote.ip());
    endpoint.handle_segment(now, src, dst, 0, &segment)
}

/// An endpoint's events.
pub fn events(endpoint: &mut Endpoint) -> VecDeque<Event> {
    std::iter::from_fn(|| endpoint.poll_event()).collect()
}

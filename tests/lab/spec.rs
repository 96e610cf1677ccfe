//! What a lab is made of, as values: wires, middleboxes, addresses, and what handle and lab say to each other.
//! Shared by the handle (`mod.rs`, in the test) and the program (`program.rs`).

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// The most wires that one lab has: one documentation network (RFC 5737) each.
pub const WIRES_MAX: usize = 3;

/// One direction of a wire.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Mbit/s; 0 is unlimited. Counted are whole Ethernet frames without preamble and FCS: IP packet + 14 bytes.
    pub rate_mbit: f64,
    /// One-way delay in ms, behind the queue.
    pub delay_ms: f64,
    /// Bytes that may wait for the rate; one more frame is dropped (tail drop).
    pub queue_bytes: u64,
    /// Probability (0 to 1) that a frame is lost.
    pub loss: f64,
    /// Probability that a frame is held back by 1 to 4 ms more, so that later ones overtake it.
    pub reorder: f64,
    /// Probability that a frame arrives twice.
    pub duplicate: f64,
}

impl Line {
    /// Queue of one round trip of both delays (at least 20 ms) at the rate, never less than 64 KiB.
    pub fn new(rate_mbit: f64, delay_ms: f64) -> Line {
        let queue_ms = (2.0 * delay_ms).max(20.0);
        Line {
            rate_mbit,
            delay_ms,
            queue_bytes: ((rate_mbit * 125.0 * queue_ms) as u64).max(65_536),
            loss: 0.0,
            reorder: 0.0,
            duplicate: 0.0,
        }
    }
}

/// One wire between client and server.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Wire {
    /// From client to server.
    pub to_server: Line,
    /// From server to client.
    pub to_client: Line,
    /// A plain veth pair with all offloads, no emulator: nothing else in this struct applies, and it cannot be cut.
    pub bare: bool,
}

impl Wire {
    /// The same rate (Mbit/s) and one-way delay (ms) both ways.
    pub fn new(rate_mbit: f64, delay_ms: f64) -> Wire {
        Wire {
            to_server: Line::new(rate_mbit, delay_ms),
            to_client: Line::new(rate_mbit, delay_ms),
            bare: false,
        }
    }

    /// A veth pair without emulator.
    pub fn bare() -> Wire {
        Wire {
            bare: true,
            ..Wire::new(0.0, 0.0)
        }
    }

    /// The same wire with `change` applied to both directions.
    pub fn both(mut self, change: impl Fn(&mut Line)) -> Wire {
        change(&mut self.to_server);
        change(&mut self.to_client);
        self
    }

    /// Random loss both ways, 0 to 1.
    pub fn loss(self, probability: f64) -> Wire {
        self.both(|line| line.loss = probability)
    }

    /// Random reordering both ways, 0 to 1.
    pub fn reorder(self, probability: f64) -> Wire {
        self.both(|line| line.reorder = probability)
    }

    /// Random duplication both ways, 0 to 1.
    pub fn duplicate(self, probability: f64) -> Wire {
        self.both(|line| line.duplicate = probability)
    }

    /// Queue limit both ways.
    pub fn queue_bytes(self, limit: u64) -> Wire {
        self.both(|line| line.queue_bytes = limit)
    }
}

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Toward {
    /// Sent by the client.
    Server,
    /// Sent by the server.
    Client,
}

impl Toward {
    /// Both, in the order of `[T; 2]` arrays.
    pub const BOTH: [Toward; 2] = [Toward::Server, Toward::Client];

    /// The other way.
    pub fn opposite(self) -> Toward {
        match self {
            Toward::Server => Toward::Client,
            Toward::Client => Toward::Server,
        }
    }
}

/// A box in the wire that meddles with TCP. IPv4 and IPv6, never with fragments, extension headers or a segment whose checksum is wrong
/// already. Boxes with state per connection (shift, NAT, corrupt-once) touch only connections whose SYN they saw.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub enum Middlebox {
    /// MPTCP options in segments with SYN become NOPs, both ways.
    StripSyn,
    /// MPTCP options in SYN/ACKs become NOPs: the server believes in MPTCP, the client does not.
    StripSynAck,
    /// MPTCP options in segments without SYN become NOPs.
    StripLater,
    /// Every MPTCP option becomes NOPs.
    StripAll,
    /// ADD_ADDR (and its echo) becomes NOPs.
    StripAddAddr,
    /// SYNs that carry MP_CAPABLE vanish.
    DropCapableSyn,
    /// SYNs that carry MP_JOIN vanish.
    DropJoinSyn,
    /// SYNs that carry any MPTCP option vanish.
    DropMptcpSyn,
    /// One bit of the payload byte `offset` (0 = first of the connection in that direction) flips, TCP checksum fixed up; once.
    CorruptOnce { toward: Toward, offset: u32 },
    /// One bit of the first payload byte of every `nth` data segment flips, TCP checksum fixed up.
    CorruptEvery { toward: Toward, nth: u32 },
    /// Initial sequence numbers change, consistently: sequence, acknowledgement, SACK blocks.
    ShiftSequence,
    /// Segments are cut into pieces of at most `max_payload` bytes, the options copied to each (as TSO does).
    Split { max_payload: u16 },
    /// MSS is clamped to half in SYNs, and two neighbouring data segments become one that has the first one's options.
    /// With `equal_options` only segments whose options are equal are merged (as GRO does), otherwise the second one's are lost,
    /// mappings with them: Linux 6.18 as MPTCP receiver does not survive that, TCP does.
    Merge { equal_options: bool },
    /// The client's address and port are translated to `nat_address` and a port from 40000 on.
    Nat,
}

/// What went through one direction of a wire since the lab began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LineStats {
    /// Frames and bytes that came to the wire.
    pub frames_in: u64,
    pub bytes_in: u64,
    /// Of these, sound TCP segments that came through to the boxes (the wire was not cut).
    pub tcp_in: u64,
    /// Frames and bytes that left it (duplicates counted).
    pub frames_out: u64,
    pub bytes_out: u64,
    /// Lost at random.
    pub lost: u64,
    /// Dropped because the queue was full.
    pub tail_dropped: u64,
    /// Dropped because the wire was cut.
    pub cut_dropped: u64,
    /// Dropped by a middlebox.
    pub box_dropped: u64,
    /// Frames that a middlebox changed, split or merged.
    pub box_changed: u64,
    /// TCP segments whose checksum was wrong when they came.
    pub bad_checksum: u64,
    /// Held back for reordering.
    pub reordered: u64,
    /// Doubled.
    pub duplicated: u64,
}

/// Both directions of a wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WireStats {
    /// From client to server.
    pub to_server: LineStats,
    /// From server to client.
    pub to_client: LineStats,
}

/// What a lab is to be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LabSpec {
    /// One to `WIRES_MAX` wires.
    pub wires: Vec<Wire>,
    /// Seed of loss, reordering, duplication and sequence shifts.
    pub seed: u64,
    /// Congestion control of both kernels, set by route; None leaves the machine's default.
    pub congestion: Option<String>,
}

impl LabSpec {
    /// Wires, with seed 1 and CUBIC (Debian's default) as the kernels' congestion control.
    pub fn new(wires: impl Into<Vec<Wire>>) -> LabSpec {
        LabSpec {
            wires: wires.into(),
            seed: 1,
            congestion: Some("cubic".into()),
        }
    }
}

/// From the handle to the lab, one JSON value a line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// First of all: make everything. Answered by `Reply::Ready` with the namespaces' descriptors.
    Make(LabSpec),
    /// Other properties for frames that come from now on.
    Set { wire: usize, to: Wire },
    /// Drop everything, or no longer.
    Cut { wire: usize, cut: bool },
    /// Carrier off or on, at both hosts.
    Carrier { wire: usize, up: bool },
    /// These boxes instead of those before, the first one nearest to the client.
    Middleboxes { wire: usize, boxes: Vec<Middlebox> },
    /// Write a pcap file of what the client sees from now on; None ends it.
    Capture { wire: usize, path: Option<PathBuf> },
    /// Counters.
    Stats { wire: usize },
}

/// The lab's answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The namespaces' descriptors come with this: client and server; before them the user namespace if there is one.
    Ready { user_namespace: bool },
    /// Done.
    Done,
    /// Counters.
    Stats(WireStats),
    /// Not done; why, in one line.
    Failed(String),
}

/// The documentation networks by wire (RFC 5737), each used as a /25; the far addresses live in the other half.
fn network(wire: usize) -> [u8; 3] {
    [[192, 0, 2], [198, 51, 100], [203, 0, 113]][wire]
}

fn ipv4(wire: usize, host: u8) -> Ipv4Addr {
    let [a, b, c] = network(wire);
    Ipv4Addr::new(a, b, c, host)
}

fn ipv6(wire: usize, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, wire as u16, 0, 0, 0, 0, host)
}

/// The client's address on a wire: 192.0.2.1, 198.51.100.1, 203.0.113.1; 2001:db8:WIRE::1.
pub fn client_address(wire: usize, v6: bool) -> IpAddr {
    if v6 {
        ipv6(wire, 1).into()
    } else {
        ipv4(wire, 1).into()
    }
}

/// The server's address on a wire: as the client's with 2 at the end. It is the client's next hop there too.
pub fn server_address(wire: usize, v6: bool) -> IpAddr {
    if v6 {
        ipv6(wire, 2).into()
    } else {
        ipv4(wire, 2).into()
    }
}

/// An address of the server that is on no wire's network, so that the client reaches it only by a default route: 192.0.2.200, 2001:db8:ff::1.
pub fn far_address(v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1).into()
    } else {
        ipv4(0, 200).into()
    }
}

/// The address that `Middlebox::Nat` gives to the client on a wire: 77 at the end.
pub fn nat_address(wire: usize, v6: bool) -> IpAddr {
    if v6 {
        ipv6(wire, 0x77).into()
    } else {
        ipv4(wire, 77).into()
    }
}

/// The hosts' interface on a wire.
pub fn interface(wire: usize) -> String {
    format!("eth{wire}")
}

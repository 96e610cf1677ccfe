//! A hand-driven TCP client over a link: just enough to see what goes over the wire.

use mptcp::link::{Guard, GuardRequest, Guards, IcmpKind, Incoming, IpLink, Link, Outgoing, WantedPort};
use mptcp::wire::{Flags, Header, SeqNum, TcpOptions};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// What a link said, copied.
#[derive(Debug, Clone)]
pub enum Heard {
    Segment {
        src: SocketAddr,
        dst: SocketAddr,
        iface: u32,
        header: Header,
        payload: Vec<u8>,
    },
    Icmp {
        local: SocketAddr,
        remote: SocketAddr,
        seq: Option<SeqNum>,
        kind: IcmpKind,
    },
}

impl Heard {
    fn copy(incoming: Incoming<'_>) -> Heard {
        match incoming {
            Incoming::Segment {
                src,
                dst,
                iface,
                segment,
                ..
            } => Heard::Segment {
                src: SocketAddr::new(src, segment.header.src_port),
                dst: SocketAddr::new(dst, segment.header.dst_port),
                iface,
                header: segment.header,
                payload: segment.payload.to_vec(),
            },
            Incoming::Icmp {
                local,
                remote,
                seq,
                kind,
            } => Heard::Icmp {
                local,
                remote,
                seq,
                kind,
            },
        }
    }
}

pub struct Client<L = IpLink> {
    pub link: L,
    pub guards: Guards,
    pub heard: Vec<Heard>,
    /// Announced in the SYN.
    pub window: u16,
    /// TOS of every segment.
    pub tos: u8,
    /// TTL of every segment.
    pub ttl: u8,
    /// Payload is cut into segments of this length; 0: not.
    pub segment_size: u16,
}

/// One half-open or open connection.
pub struct Connection {
    pub guard: Guard,
    pub remote: SocketAddr,
    pub iface: u32,
    pub seq: SeqNum,
    pub ack: SeqNum,
}

impl Client {
    pub fn new(guards: Guards) -> Client {
        Client::over(IpLink::new(&guards.ports()).unwrap(), guards)
    }
}

impl<L: Link> Client<L> {
    pub fn over(link: L, guards: Guards) -> Client<L> {
        Client {
            link,
            guards,
            heard: Vec::new(),
            window: 65535,
            tos: 0,
            ttl: 0,
            segment_size: 0,
        }
    }

    pub fn open(&mut self, local: &str, remote: &str, iface: u32) -> Connection {
        self.open_port(local.parse().unwrap(), remote.parse().unwrap(), iface, WantedPort::Any)
    }

    /// Guard, filter, SYN.
    pub fn open_port(&mut self, local: IpAddr, remote: SocketAddr, iface: u32, port: WantedPort<'_>) -> Connection {
        let request = GuardRequest {
            local,
            port,
            remote,
            iface,
            mark: 0,
        };
        let guard = self.guards.acquire(&request).unwrap();
        self.link.admit(&self.guards.ports()).unwrap();
        let connection = Connection {
            guard,
            remote,
            iface,
            seq: SeqNum(1000),
            ack: SeqNum(0),
        };
        let mut options = TcpOptions {
            mss: Some(1460),
            ..TcpOptions::default()
        };
        options.window_scale = Some(8);
        self.send(&connection, Flags::SYN, options, &[]);
        connection
    }

    pub fn send(&mut self, connection: &Connection, flags: Flags, options: TcpOptions, payload: &[u8]) {
        let local = connection.guard.local();
        // Uneven halves: the link must join them, checksum included.
        let (one, two) = payload.split_at(payload.len() / 3);
        self.link.send(&Outgoing {
            src: local.ip(),
            dst: connection.remote.ip(),
            iface: connection.iface,
            header: Header {
                src_port: local.port(),
                dst_port: connection.remote.port(),
                seq: connection.seq,
                ack: connection.ack,
                flags,
                window: self.window,
            },
            options,
            payload: [one, two],
            segment_size: self.segment_size,
            tos: self.tos,
            ttl: self.ttl,
            mark: 0,
        });
        self.flush();
    }

    pub fn flush(&mut self) {
        let heard = &mut self.heard;
        self.link.flush(&mut |incoming| heard.push(Heard::copy(incoming)));
    }

    /// Takes in what comes until `wanted` finds it, at most ten seconds.
    pub fn wait<T>(&mut self, mut wanted: impl FnMut(&Heard) -> Option<T>) -> T {
        for _ in 0..100 {
            if let Some(found) = self.heard.iter().find_map(&mut wanted) {
                return found;
            }
            self.take_in(Duration::from_millis(100));
        }
        panic!("not heard within ten seconds; heard {:?}", self.heard);
    }

    /// Waits for something, and takes it in.
    pub fn take_in(&mut self, timeout: Duration) {
        let mut polls: Vec<libc::pollfd> = self
            .link
            .fds()
            .iter()
            .map(|fd| libc::pollfd {
                fd: fd.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        // SAFETY: the array lives through the call, and its length is given.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as _, timeout.as_millis() as _) };
        let heard = &mut self.heard;
        for source in 0..polls.len() {
            while !self
                .link
                .recv(source, &mut |incoming| heard.push(Heard::copy(incoming)))
            {}
        }
    }

    /// Waits for the SYN/ACK and acknowledges it.
    pub fn establish(&mut self, connection: &mut Connection) {
        let seq = self.syn_ack(connection);
        connection.seq += 1;
        connection.ack = seq + 1;
        self.send(connection, Flags::ACK, TcpOptions::default(), &[]);
    }

    /// Waits for the SYN/ACK; its sequence number.
    pub fn syn_ack(&mut self, connection: &Connection) -> SeqNum {
        let (local, remote) = (connection.guard.local(), connection.remote);
        self.wait(|heard| match heard {
            Heard::Segment { src, dst, header, .. }
                if *src == remote && *dst == local && header.flags.has(Flags::SYN.with(Flags::ACK)) =>
            {
                Some(header.seq)
            }
            _ => None,
        })
    }
}

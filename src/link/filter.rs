//! Classic BPF socket filters: which segments a raw socket hears, and the one that makes a guard deaf.
//!
//! A program runs for every TCP packet that the host receives, so its length is bounded: one contiguous block and at
//! most [`super::ports::SINGLES_MAX`] further ports.
//!
//! What comes by the loopback device is the kernel's: this host's own segments, also those between its other addresses. Only a filter can
//! tell, for IP_PKTINFO names the device that has the address (net/ipv4/route.c `ip_route_output_key_hash_rcu`). Resets are heard: by one a
//! firewall rejects what we send (net/ipv4/netfilter/nf_reject_ipv4.c `nf_send_reset`).

use super::ports::PortSet;
use super::{sys, LOOPBACK};
use crate::wire::Flags;
use core::ops::RangeInclusive;
use libc::{sock_filter, sock_fprog};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Accept the whole packet: more than any packet has.
const ACCEPT: u32 = 0x4_0000;

/// SKF_NET_OFF of linux/filter.h: offsets from here on count from the IP header.
const AT_NETWORK_HEADER: u32 = 0xfff0_0000;

/// SKF_AD_OFF + SKF_AD_IFINDEX: the index of the device that the packet came by.
const DEVICE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX) as u32;

/// A classic BPF program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Filter(Vec<Instruction>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Instruction {
    code: u32,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

const fn statement(code: u32, k: u32) -> Instruction {
    Instruction {
        code,
        jump_true: 0,
        jump_false: 0,
        k,
    }
}

/// Jumps over so many instructions when the comparison is true, or false.
const fn jump(comparison: u32, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code: libc::BPF_JMP | comparison | libc::BPF_K,
        jump_true,
        jump_false,
        k,
    }
}

const DROP: Instruction = statement(libc::BPF_RET | libc::BPF_K, 0);

impl Filter {
    /// Drops every packet.
    pub(super) fn drop_all() -> Filter {
        Filter(vec![DROP])
    }

    /// For a sock_diag socket: what is said of sockets that have no peer, as listening ones.
    pub(super) fn without_peer() -> Filter {
        // idiag_dport of struct inet_diag_msg, behind struct nlmsghdr.
        let peer_port = statement(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 16 + 6);
        let accept = statement(libc::BPF_RET | libc::BPF_K, ACCEPT);
        Filter(vec![peer_port, jump(libc::BPF_JEQ, 0, 0, 1), accept, DROP])
    }

    /// For a raw IPv4 socket, whose packets begin at the IP header: TCP to `ports`.
    pub(super) fn ipv4_ports(ports: &PortSet) -> Filter {
        // X = length of the IP header.
        let length = statement(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0);
        Filter::ports(&[length], libc::BPF_IND, 0, ports)
    }

    /// For a packet socket, whose IPv4 packets begin at any link header and are of any protocol: TCP to `ports`, no fragments.
    pub(super) fn packet_ipv4_ports(ports: &PortSet) -> Filter {
        let begin = [
            statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, AT_NETWORK_HEADER + 9),
            jump(libc::BPF_JEQ, libc::IPPROTO_TCP as u32, 1, 0),
            DROP,
            statement(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, AT_NETWORK_HEADER + 6),
            jump(libc::BPF_JSET, 0x3fff, 0, 1),
            DROP,
            statement(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, AT_NETWORK_HEADER),
        ];
        Filter::ports(&begin, libc::BPF_IND, AT_NETWORK_HEADER, ports)
    }

    /// For a raw IPv6 socket, whose packets begin at the TCP header: TCP to `ports`.
    pub(super) fn ipv6_ports(ports: &PortSet) -> Filter {
        Filter::ports(&[], libc::BPF_ABS, 0, ports)
    }

    /// After `begin` a load in `mode` finds the TCP header at `base`; one beyond the packet's end drops it.
    fn ports(begin: &[Instruction], mode: u32, base: u32, ports: &PortSet) -> Filter {
        let mut program = begin.to_vec();
        program.extend([
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, DEVICE),
            jump(libc::BPF_JEQ, LOOPBACK, 0, 3),
            statement(libc::BPF_LD | libc::BPF_B | mode, base + 13),
            jump(libc::BPF_JSET, u32::from(Flags::RST.0), 1, 0),
            DROP,
            // The destination port.
            statement(libc::BPF_LD | libc::BPF_H | mode, base + 2),
        ]);
        let ranges: Vec<RangeInclusive<u16>> = ports.ranges().collect();
        for (i, range) in ranges.iter().enumerate() {
            // Jumps are relative to the next instruction: over the tests that are left, and the final drop.
            let after = 2 * (ranges.len() - i - 1) as u8;
            program.push(jump(libc::BPF_JGE, u32::from(*range.start()), 0, 1));
            program.push(jump(libc::BPF_JGT, u32::from(*range.end()), 0, after + 1));
        }
        program.push(DROP);
        program.push(statement(libc::BPF_RET | libc::BPF_K, ACCEPT));
        Filter(program)
    }

    /// Attaches it to a socket, in place of the one that was there, atomically.
    pub(super) fn attach(&self, fd: impl AsFd) -> io::Result<()> {
        let mut program: Vec<sock_filter> = self
            .0
            .iter()
            .map(|i| sock_filter {
                code: i.code as u16,
                jt: i.jump_true,
                jf: i.jump_false,
                k: i.k,
            })
            .collect();
        let fprog = sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        // The kernel copies the program before the call returns; `program` lives until then.
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &fprog)
    }
}

/// Gives a socket a filter that is loaded already (SO_ATTACH_BPF).
pub(super) fn attach_program(fd: impl AsFd, program: &OwnedFd) -> io::Result<()> {
    sys::set_int(fd, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, program.as_raw_fd())
}

/// Takes the filter of a socket off again.
pub(super) fn detach(fd: impl AsFd) -> io::Result<()> {
    sys::set_int(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a filter accepts a packet that came by another device than loopback.
    fn accepts(filter: &Filter, packet: &[u8]) -> bool {
        accepts_by(filter, packet, LOOPBACK + 1)
    }

    /// Interprets the few instructions that the filters use, as linux/filter.h defines them.
    fn accepts_by(filter: &Filter, packet: &[u8], device: u32) -> bool {
        let half = |at: usize| {
            packet
                .get(at..at + 2)
                .map(|b| u32::from(u16::from_be_bytes([b[0], b[1]])))
        };
        let (mut a, mut x, mut pc) = (0u32, 0usize, 0usize);
        loop {
            let i = filter.0[pc];
            pc += 1;
            let taken = match i.code {
                c if c == libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH => match packet.get(i.k as usize) {
                    Some(byte) => {
                        x = usize::from(byte & 15) * 4;
                        continue;
                    }
                    None => return false,
                },
                c if c == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS && i.k == DEVICE => {
                    a = device;
                    continue;
                }
                c if c & 7 == libc::BPF_LD => {
                    let base = if c & 0xe0 == libc::BPF_IND { x } else { 0 };
                    let at = base + i.k as usize;
                    let byte = || packet.get(at).copied().map(u32::from);
                    match if c & 0x18 == libc::BPF_B { byte() } else { half(at) } {
                        Some(value) => a = value,
                        None => return false,
                    }
                    continue;
                }
                c if c == libc::BPF_JMP | libc::BPF_JEQ => a == i.k,
                c if c == libc::BPF_JMP | libc::BPF_JSET => a & i.k != 0,
                c if c == libc::BPF_JMP | libc::BPF_JGE => a >= i.k,
                c if c == libc::BPF_JMP | libc::BPF_JGT => a > i.k,
                c if c == libc::BPF_RET => return i.k != 0,
                other => panic!("instruction {other:#x}"),
            };
            pc += usize::from(if taken { i.jump_true } else { i.jump_false });
        }
    }

    fn ipv4_packet(port: u16, ip_header_len: usize) -> Vec<u8> {
        let mut packet = vec![0u8; ip_header_len + 20];
        packet[0] = 0x40 | (ip_header_len / 4) as u8;
        packet[ip_header_len + 2..ip_header_len + 4].copy_from_slice(&port.to_be_bytes());
        packet
    }

    #[test]
    fn admits_exactly_the_block_and_the_singles() {
        let ports = PortSet::new(40000..=40511, [80, 443, 50000]);
        for port in 1..=u16::MAX {
            let wanted = (40000..=40511).contains(&port) || [80, 443, 50000].contains(&port);
            for header_len in [20, 60] {
                assert_eq!(
                    accepts(&Filter::ipv4_ports(&ports), &ipv4_packet(port, header_len)),
                    wanted,
                    "port {port}"
                );
            }
            let tcp = ipv4_packet(port, 20);
            assert_eq!(
                accepts(&Filter::ipv6_ports(&ports), &tcp[20..]),
                wanted,
                "port {port}, IPv6"
            );
        }
    }

    #[test]
    fn what_comes_by_the_loopback_device_is_dropped_but_for_resets() {
        let ports = PortSet::new(0..=u16::MAX, []);
        for flags in [Flags::SYN, Flags::ACK, Flags::RST, Flags::RST.with(Flags::ACK)] {
            let mut tcp = ipv4_packet(80, 20);
            tcp[20 + 13] = flags.0;
            for (filter, packet) in [
                (Filter::ipv4_ports(&ports), &tcp[..]),
                (Filter::ipv6_ports(&ports), &tcp[20..]),
            ] {
                assert!(accepts(&filter, packet));
                assert_eq!(
                    accepts_by(&filter, packet, LOOPBACK),
                    flags.has(Flags::RST),
                    "{flags:?}"
                );
            }
        }
    }

    #[test]
    fn a_packet_without_ports_is_dropped() {
        let ports = PortSet::new(0..=u16::MAX, []);
        assert!(!accepts(&Filter::ipv4_ports(&ports), &[0x45; 21]));
        assert!(!accepts(&Filter::ipv6_ports(&ports), &[0; 3]));
        assert!(!accepts(&Filter::drop_all(), &ipv4_packet(80, 20)));
    }

    #[test]
    fn many_single_ports_widen_to_all_and_never_lengthen_the_program() {
        let many = PortSet::new(40000..=40511, 1000..2000);
        assert!(accepts(&Filter::ipv4_ports(&many), &ipv4_packet(7, 20)));
        let one_range = PortSet::new(40000..=40511, []);
        assert_eq!(
            Filter::ipv4_ports(&many).0.len(),
            Filter::ipv4_ports(&one_range).0.len()
        );
    }
}

//! The error queue of a raw socket (IP_RECVERR): ICMP errors with the packet that they quote, and local errors.
//!
//! Whether the quoted sequence number is in flight (RFC 5927 section 4.1) is the core's to judge.

use super::control;
use crate::link::sys::check;
use crate::link::{IcmpKind, Incoming};
use crate::wire::SeqNum;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

/// ee_origin values of linux/errqueue.h.
const ORIGIN_LOCAL: u8 = 1;
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;
/// Bytes of a quote that we look at: the longest IP header and the first 8 bytes of TCP are less.
const QUOTE_MAX: usize = 256;
/// Errors taken in one go: a flood of them must not hold up everything else.
const DRAIN_MAX: usize = 256;
/// RFC 1191 section 7.1: plateaus of the MTU for routers that do not say theirs.
const PLATEAUS: [u16; 10] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// One entry: `struct sock_extended_err`, and what it is about.
struct SocketError<'a> {
    errno: i32,
    origin: u8,
    icmp_type: u8,
    info: u32,
    quote: &'a [u8],
}

/// Hands the ICMP errors about TCP segments from admitted ports to `sink`. The socket must have IP_HDRINCL set: the
/// quote begins at the IP header then. False when there may be more.
pub(super) fn drain_icmp(fd: impl AsFd, admitted: impl Fn(u16) -> bool, sink: &mut dyn FnMut(Incoming<'_>)) -> bool {
    let fd = fd.as_fd();
    for _ in 0..DRAIN_MAX {
        let mut quote = [0; QUOTE_MAX];
        let error = match next(fd, &mut quote) {
            Entry::None => return true,
            Entry::Unreadable => continue,
            Entry::Error(error) => error,
        };
        if let Some((local, remote, seq, kind)) = interpret(&error) {
            if admitted(local.port()) {
                sink(Incoming::Icmp {
                    local,
                    remote,
                    seq: Some(seq),
                    kind,
                });
            }
        }
    }
    false
}

/// The MTU that the kernel gave with a local EMSGSIZE; empties the queue.
pub(super) fn local_mtu(fd: impl AsFd) -> Option<u32> {
    let fd = fd.as_fd();
    let mut mtu = None;
    for _ in 0..DRAIN_MAX {
        let mut quote = [0; QUOTE_MAX];
        let error = match next(fd, &mut quote) {
            Entry::None => break,
            Entry::Unreadable => continue,
            Entry::Error(error) => error,
        };
        if error.origin == ORIGIN_LOCAL && error.errno == libc::EMSGSIZE {
            mtu = Some(error.info);
        }
    }
    mtu
}

/// What was at the head of the queue.
enum Entry<'a> {
    /// Nothing.
    None,
    /// Something that says nothing about an error; it is off the queue.
    Unreadable,
    /// An error.
    Error(SocketError<'a>),
}

/// Takes the next entry off the queue.
fn next(fd: impl AsFd, quote: &mut [u8; QUOTE_MAX]) -> Entry<'_> {
    #[repr(align(8))]
    struct Aligned([u8; 256]);
    let mut control = Aligned([0; 256]);
    let mut iov = libc::iovec {
        iov_base: quote.as_mut_ptr().cast(),
        iov_len: quote.len(),
    };
    // SAFETY: all-zero is a valid msghdr (null pointers with zero lengths).
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: the message header points at buffers that live on this stack frame, with their lengths.
    let result = unsafe { libc::recvmsg(fd.as_fd().as_raw_fd(), &mut message, libc::MSG_ERRQUEUE) };
    let Ok(len) = check(result) else {
        return Entry::None;
    };
    let control_len: usize = message.msg_controllen as _;
    let used = control.0.get(..control_len).unwrap_or_default();
    let error = control::messages(used).find_map(extended_err);
    match (error, quote.get(..len)) {
        (Some((errno, origin, icmp_type, info)), Some(quote)) => Entry::Error(SocketError {
            errno,
            origin,
            icmp_type,
            info,
            quote,
        }),
        _ => Entry::Unreadable,
    }
}

/// ee_errno, ee_origin, ee_type and ee_info of a `struct sock_extended_err` (u32, u8, u8, u8, u8, u32, u32).
fn extended_err((level, kind, data): (i32, i32, &[u8])) -> Option<(i32, u8, u8, u32)> {
    match (level, kind) {
        (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => Some((
            control::int(data, 0)?,
            *data.get(4)?,
            *data.get(5)?,
            control::int(data, 8)? as u32,
        )),
        _ => None,
    }
}

/// Addresses, sequence number and meaning of an ICMP error about one of our TCP segments.
fn interpret(error: &SocketError<'_>) -> Option<(SocketAddr, SocketAddr, SeqNum, IcmpKind)> {
    // Only errors that RFC 1122 section 4.2.3.9 has TCP heed; a source quench (type 4) is ignored (RFC 6633).
    let heeded = match error.origin {
        ORIGIN_ICMP => matches!(error.icmp_type, 3 | 11 | 12),
        ORIGIN_ICMP6 => matches!(error.icmp_type, 1..=4),
        _ => false,
    };
    if !heeded {
        return None;
    }
    let quote = Quote::parse(error.quote)?;
    let kind = match error.errno {
        libc::EMSGSIZE => IcmpKind::PacketTooBig {
            mtu: match error.info {
                0 => plateau_below(quote.total_len),
                mtu => mtu,
            },
        },
        errno => IcmpKind::Unreachable { errno },
    };
    Some((quote.local, quote.remote, quote.seq, kind))
}

fn plateau_below(total_len: u16) -> u32 {
    u32::from(PLATEAUS.into_iter().find(|&mtu| mtu < total_len).unwrap_or(68))
}

/// The beginning of a packet of ours, as an ICMP error quotes it: at least 8 bytes of TCP (RFC 792).
struct Quote {
    local: SocketAddr,
    remote: SocketAddr,
    seq: SeqNum,
    total_len: u16,
}

impl Quote {
    fn parse(packet: &[u8]) -> Option<Quote> {
        let half = |bytes: &[u8], at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let (src, dst, protocol, header_len, total_len): (IpAddr, IpAddr, u8, usize, u16) = match packet.first()? >> 4 {
            4 => {
                let address = |at: usize| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok().map(Ipv4Addr::from);
                let header_len = usize::from(packet[0] & 15) * 4;
                let total_len = half(packet, 2)?;
                (
                    address(12)?.into(),
                    address(16)?.into(),
                    *packet.get(9)?,
                    header_len,
                    total_len,
                )
            }
            6 => {
                let address = |at: usize| <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok().map(Ipv6Addr::from);
                let total_len = half(packet, 4)?.saturating_add(40);
                (address(8)?.into(), address(24)?.into(), *packet.get(6)?, 40, total_len)
            }
            _ => return None,
        };
        let tcp = packet.get(header_len..)?;
        if i32::from(protocol) != libc::IPPROTO_TCP {
            return None;
        }
        Some(Quote {
            local: SocketAddr::new(src, half(tcp, 0)?),
            remote: SocketAddr::new(dst, half(tcp, 2)?),
            seq: SeqNum(u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?)),
            total_len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4_quote() -> Vec<u8> {
        let mut packet = vec![
            0x45, 0, 5, 220, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7,
        ];
        packet.extend([0x9c, 0x40, 0, 80, 1, 2, 3, 4]);
        packet
    }

    fn error(errno: i32, origin: u8, icmp_type: u8, info: u32, quote: &[u8]) -> SocketError<'_> {
        SocketError {
            errno,
            origin,
            icmp_type,
            info,
            quote,
        }
    }

    #[test]
    fn reads_addresses_ports_and_sequence_number_of_the_quote() {
        let quote = ipv4_quote();
        let (local, remote, seq, kind) = interpret(&error(libc::EMSGSIZE, ORIGIN_ICMP, 3, 1280, &quote)).unwrap();
        assert_eq!(local, "192.0.2.1:40000".parse().unwrap());
        assert_eq!(remote, "198.51.100.7:80".parse().unwrap());
        assert_eq!(seq, SeqNum(0x0102_0304));
        assert_eq!(kind, IcmpKind::PacketTooBig { mtu: 1280 });

        let mut v6 = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
        v6.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        v6.extend("2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        v6.extend(&quote[20..]);
        let (local, _, seq, kind) = interpret(&error(libc::EHOSTUNREACH, ORIGIN_ICMP6, 1, 0, &v6)).unwrap();
        assert_eq!(local, "[2001:db8::1]:40000".parse().unwrap());
        assert_eq!(seq, SeqNum(0x0102_0304));
        assert_eq!(
            kind,
            IcmpKind::Unreachable {
                errno: libc::EHOSTUNREACH
            }
        );
    }

    #[test]
    fn a_router_that_does_not_say_its_mtu_gets_the_next_plateau() {
        let quote = ipv4_quote();
        let (.., kind) = interpret(&error(libc::EMSGSIZE, ORIGIN_ICMP, 3, 0, &quote)).unwrap();
        assert_eq!(kind, IcmpKind::PacketTooBig { mtu: 1492 });
    }

    #[test]
    fn source_quench_other_protocols_and_short_quotes_say_nothing() {
        let quote = ipv4_quote();
        assert!(interpret(&error(0, ORIGIN_ICMP, 4, 0, &quote)).is_none());
        assert!(interpret(&error(libc::EHOSTUNREACH, ORIGIN_LOCAL, 3, 0, &quote)).is_none());
        for len in 0..quote.len() {
            assert!(interpret(&error(libc::EHOSTUNREACH, ORIGIN_ICMP, 3, 0, &quote[..len])).is_none());
        }
        let mut udp = quote;
        udp[9] = 17;
        assert!(interpret(&error(libc::EHOSTUNREACH, ORIGIN_ICMP, 3, 0, &udp)).is_none());
    }
}

//! The shadow pair: the name that says whose it is, and what its buffers mean.
//!
//! The engine creates an AF_UNIX stream pair, binds *its own* end to [`ShadowName`] and passes the other end to the program. Any process
//! that ever holds the program's end reads engine, connection and the first subflow's two addresses with one `getpeername`, for as long as
//! the descriptor lives, even after the engine is dead.
//!
//! The name (without the leading NUL of an abstract name) is hexadecimal without separators, because a name of raw bytes would break readers of
//! /proc/net/unix, and 107 bytes hold no more than this:
//!
//! | field | digits IPv4 | digits IPv6 |
//! |---|---|---|
//! | `mptcp:` | 6 | 6 |
//! | family, `4` or `6` | 1 | 1 |
//! | engine id | 12 | 12 |
//! | connection, unique in the engine | 8 | 8 |
//! | local address, local port | 8 + 4 | 32 + 4 |
//! | remote address, remote port | 8 + 4 | 32 + 4 |
//! | interface of link-local addresses | – | 8 |
//!
//! The family is the program's socket's: an AF_INET6 socket connected to an IPv4-mapped address has family 6 and two mapped addresses.
//!
//! Buffers, from the program to the engine:
//! - While the handshake runs, the engine has filled the program's end with [`PADDING_BYTE`] until EAGAIN (before it passes the end; at last by
//!   single bytes): `poll` says "not writable". The engine knows how many it wrote and drops that many.
//! - From the end of the handshake on, the engine leaves [`RETAINED_BYTES`] byte, already forwarded (or padding), unread: if it dies, the
//!   kernel gives the program ECONNRESET. It reads all but the last byte and peeks that one.
//! - The retained byte is consumed only for an orderly end (FIN in both directions, or the program closed its end).

use super::codec::is_link_local;
use super::EngineId;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// What fills the program's end while the handshake runs.
pub const PADDING_BYTE: u8 = 0;
/// The size of the writes that fill it; the rest is filled with single bytes.
pub const PADDING_CHUNK: usize = 32768;
/// Bytes, already forwarded, that the engine leaves unread while the connection lives.
pub const RETAINED_BYTES: usize = 1;
/// SO_SNDBUF of the program's end below which a blocked writer may never wake while one byte is retained: the kernel demands that no more
/// than a quarter is in use, and one buffer that sendfile or splice filled takes up to 17 pages (measured: with the default of 212,992 a
/// sendfile of 1 MB sleeps for ever). What the kernel's default limit (net.core.wmem_max) allows.
pub const SNDBUF_MIN: usize = 425_984;

const PREFIX: &[u8] = b"mptcp:";
const ENGINE: usize = 12;
const SERIAL: usize = 8;
/// The longest name, bytes: an abstract name's limit.
pub const NAME_MAX: usize = 107;
const LEN_V4: usize = PREFIX.len() + 1 + ENGINE + SERIAL + 2 * (8 + 4);
const LEN_V6: usize = PREFIX.len() + 1 + ENGINE + SERIAL + 2 * (32 + 4) + 8;
const _: () = assert!(LEN_V6 <= NAME_MAX);

/// What the name of an engine's end says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShadowName {
    /// The engine that made it, so that any holder finds it in whatever cgroup.
    pub engine: EngineId,
    /// Unique among the engine's pairs (bind says EADDRINUSE when a wrapped counter is not).
    pub serial: u32,
    /// First subflow's local address, of the same family as `remote`.
    pub local: SocketAddr,
    /// First subflow's remote address.
    pub remote: SocketAddr,
}

impl ShadowName {
    /// Writes the name, without the leading NUL; returns its length. None when the two addresses are of different families.
    pub fn encode(&self, out: &mut [u8; NAME_MAX]) -> Option<usize> {
        let mut hex = Hex { out, at: 0 };
        hex.raw(PREFIX);
        match (self.local, self.remote) {
            (SocketAddr::V4(local), SocketAddr::V4(remote)) => {
                hex.raw(b"4");
                self.encode_ids(&mut hex);
                for a in [local, remote] {
                    hex.digits(8, u64::from(u32::from(*a.ip())));
                    hex.digits(4, u64::from(a.port()));
                }
            }
            (SocketAddr::V6(local), SocketAddr::V6(remote)) => {
                hex.raw(b"6");
                self.encode_ids(&mut hex);
                for a in [local, remote] {
                    let ip = u128::from(*a.ip());
                    hex.digits(16, (ip >> 64) as u64);
                    hex.digits(16, ip as u64);
                    hex.digits(4, u64::from(a.port()));
                }
                let scope = if remote.scope_id() != 0 {
                    remote.scope_id()
                } else {
                    local.scope_id()
                };
                hex.digits(8, u64::from(scope));
            }
            _ => return None,
        }
        Some(hex.at)
    }

    /// The shortest name, bytes.
    pub const LEN_MIN: usize = LEN_V4;

    /// Whether these first bytes of a name, cut at whatever length, can be those of a shadow's.
    pub fn may_begin(name: &[u8]) -> bool {
        let n = name.len().min(PREFIX.len());
        n > 0 && name[..n] == PREFIX[..n]
    }

    fn encode_ids(&self, hex: &mut Hex<'_>) {
        hex.raw(&self.engine.text());
        hex.digits(SERIAL, u64::from(self.serial));
    }

    /// Reads a name (without the leading NUL); None for any other name. The caller still has to ask SO_PEERCRED who bound it.
    pub fn decode(name: &[u8]) -> Option<ShadowName> {
        let rest = name.strip_prefix(PREFIX)?;
        let (&family, rest) = rest.split_first()?;
        let (engine, rest) = rest.split_at_checked(ENGINE)?;
        let engine = EngineId::parse(engine).ok()?;
        let (serial, rest) = rest.split_at_checked(SERIAL)?;
        let serial = get_hex(serial)? as u32;
        let (local, remote) = match (family, name.len()) {
            (b'4', LEN_V4) => (decode_v4(&rest[..12])?, decode_v4(&rest[12..])?),
            (b'6', LEN_V6) => {
                let scope = get_hex(&rest[72..])? as u32;
                (decode_v6(&rest[..36], scope)?, decode_v6(&rest[36..72], scope)?)
            }
            _ => return None,
        };
        Some(ShadowName {
            engine,
            serial,
            local,
            remote,
        })
    }
}

fn decode_v4(digits: &[u8]) -> Option<SocketAddr> {
    let ip = Ipv4Addr::from(get_hex(&digits[..8])? as u32);
    Some(SocketAddr::V4(SocketAddrV4::new(ip, get_hex(&digits[8..])? as u16)))
}

fn decode_v6(digits: &[u8], scope: u32) -> Option<SocketAddr> {
    let ip = (u128::from(get_hex(&digits[..16])?) << 64) | u128::from(get_hex(&digits[16..32])?);
    let ip = Ipv6Addr::from(ip);
    // The kernel reports a scope for link-local addresses only.
    let scope = if is_link_local(IpAddr::V6(ip)) { scope } else { 0 };
    Some(SocketAddr::V6(SocketAddrV6::new(
        ip,
        get_hex(&digits[32..])? as u16,
        0,
        scope,
    )))
}

struct Hex<'a> {
    out: &'a mut [u8; NAME_MAX],
    at: usize,
}

impl Hex<'_> {
    fn raw(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn digits(&mut self, n: usize, value: u64) {
        put_hex(&mut self.out[self.at..self.at + n], value);
        self.at += n;
    }
}

/// Fills `out` with the lower digits of `value`, lower case.
pub(super) fn put_hex(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

/// Reads up to 16 lower-case digits.
pub(super) fn get_hex(digits: &[u8]) -> Option<u64> {
    if digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((value << 4) | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Cgroup, Privileges};
    use super::*;
    use proptest::prelude::*;

    fn engine() -> EngineId {
        EngineId::new(
            0,
            Cgroup {
                user_namespace: 1,
                cgroup: 2,
            },
            Privileges::NONE,
        )
    }

    fn round_trip(local: &str, remote: &str) {
        let name = ShadowName {
            engine: engine(),
            serial: 0xdead_beef,
            local: local.parse().expect("an address"),
            remote: remote.parse().expect("an address"),
        };
        let mut buf = [0; NAME_MAX];
        let n = name.encode(&mut buf).expect("one family");
        assert_eq!(ShadowName::decode(&buf[..n]), Some(name));
        for short in 0..n {
            assert_eq!(ShadowName::decode(&buf[..short]), None);
        }
        assert!(buf[..n].iter().all(|b| b.is_ascii_graphic()));
    }

    #[test]
    fn every_kind_of_address_comes_back() {
        round_trip("192.0.2.1:40000", "198.51.100.255:443");
        round_trip("[2001:db8::1]:65535", "[2001:db8::ffff:ffff:ffff:ffff]:1");
        round_trip("[::ffff:192.0.2.1]:40000", "[::ffff:198.51.100.2]:80");
        round_trip("[fe80::1%7]:40000", "[fe80::2%7]:80");
        round_trip("[2001:db8::1]:40000", "[fe80::2%4294967295]:80");
    }

    #[test]
    fn mixed_families_have_no_name() {
        let name = ShadowName {
            engine: engine(),
            serial: 0,
            local: "192.0.2.1:1".parse().expect("an address"),
            remote: "[2001:db8::1]:2".parse().expect("an address"),
        };
        assert_eq!(name.encode(&mut [0; NAME_MAX]), None);
    }

    proptest! {
        #[test]
        fn foreign_names_are_not_ours(tail in proptest::collection::vec(any::<u8>(), 0..110), prefixed: bool) {
            let mut name = if prefixed { PREFIX.to_vec() } else { Vec::new() };
            name.extend(tail);
            if let Some(decoded) = ShadowName::decode(&name) {
                let mut buf = [0; NAME_MAX];
                let n = decoded.encode(&mut buf).expect("one family");
                prop_assert_eq!(n, name.len());
            }
        }
    }
}

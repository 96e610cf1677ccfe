//! Little-endian cursors over fixed buffers: the only code that indexes into a message.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Why a datagram is not a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// It ends before its last field.
    Truncated,
    /// Bytes follow its last field.
    Trailing,
    /// It does not begin with the magic.
    Magic,
    /// Another protocol version.
    Version(u16),
    /// No such kind of request or reply.
    Kind(u16),
    /// A length above its bound.
    TooLong,
    /// A field with a value that it cannot have.
    Value,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => f.write_str("message truncated"),
            DecodeError::Trailing => f.write_str("bytes after the message"),
            DecodeError::Magic => f.write_str("not a control message"),
            DecodeError::Version(v) => write!(f, "control protocol version {v}"),
            DecodeError::Kind(k) => write!(f, "unknown message kind {k}"),
            DecodeError::TooLong => f.write_str("field too long"),
            DecodeError::Value => f.write_str("field out of range"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A message does not fit its buffer, or a field its bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overflow;

/// Writes fields one after another.
pub(super) struct Writer<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    pub fn new(buf: &'a mut [u8]) -> Self {
        Writer { buf, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Overflow> {
        let end = self.len.checked_add(bytes.len()).ok_or(Overflow)?;
        self.buf.get_mut(self.len..end).ok_or(Overflow)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    pub fn u8(&mut self, v: u8) -> Result<(), Overflow> {
        self.raw(&[v])
    }

    pub fn u16(&mut self, v: u16) -> Result<(), Overflow> {
        self.raw(&v.to_le_bytes())
    }

    pub fn u32(&mut self, v: u32) -> Result<(), Overflow> {
        self.raw(&v.to_le_bytes())
    }

    pub fn i32(&mut self, v: i32) -> Result<(), Overflow> {
        self.raw(&v.to_le_bytes())
    }

    pub fn u64(&mut self, v: u64) -> Result<(), Overflow> {
        self.raw(&v.to_le_bytes())
    }

    /// A u16 length and the bytes, at most `max`.
    pub fn bytes(&mut self, bytes: &[u8], max: usize) -> Result<(), Overflow> {
        let len = u16::try_from(bytes.len()).map_err(|_| Overflow)?;
        if bytes.len() > max {
            return Err(Overflow);
        }
        self.u16(len)?;
        self.raw(bytes)
    }

    pub fn addr(&mut self, addr: Option<SocketAddr>) -> Result<(), Overflow> {
        let (family, port, flow, scope, ip) = match addr {
            None => (0, 0, 0, 0, [0; 16]),
            Some(SocketAddr::V4(a)) => {
                let mut ip = [0; 16];
                ip[..4].copy_from_slice(&a.ip().octets());
                (4, a.port(), 0, 0, ip)
            }
            Some(SocketAddr::V6(a)) => (6, a.port(), a.flowinfo(), a.scope_id(), a.ip().octets()),
        };
        self.u8(family)?;
        self.u8(0)?;
        self.u16(port)?;
        self.u32(flow)?;
        self.u32(scope)?;
        self.raw(&ip)
    }
}

/// Reads fields one after another.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Reader { rest }
    }

    pub fn raw(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], DecodeError> {
        let len = usize::from(self.u16()?);
        if len > max {
            return Err(DecodeError::TooLong);
        }
        self.raw(len)
    }

    pub fn addr(&mut self) -> Result<Option<SocketAddr>, DecodeError> {
        let family = self.u8()?;
        let zero = self.u8()?;
        let port = self.u16()?;
        let flow = self.u32()?;
        let scope = self.u32()?;
        let ip: [u8; 16] = self.array()?;
        if zero != 0 {
            return Err(DecodeError::Value);
        }
        match family {
            0 => Ok(None),
            4 => {
                let v4 = Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]);
                Ok(Some(SocketAddr::V4(SocketAddrV4::new(v4, port))))
            }
            6 => Ok(Some(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(ip),
                port,
                flow,
                scope,
            )))),
            _ => Err(DecodeError::Value),
        }
    }

    /// Nothing may follow the last field.
    pub fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing)
        }
    }
}

/// True for fe80::/10, the addresses that mean nothing without their interface.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80)
}

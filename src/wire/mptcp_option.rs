//! The MPTCP option, kind 30 (RFC 8684 section 3): one struct a subtype, and `MptcpOptions`, all that one segment carries.
//!
//! Reading takes exact lengths only: an option of any other length, of an unknown subtype or MP_EXPERIMENTAL is as if
//! it were not there. Of two of one subtype the last valid one counts, as in Linux (mptcp_parse_option). Reserved bits
//! are not looked at. Not done here: whether an option may stand on a segment with these flags (MP_CAPABLE of 4 bytes
//! belongs on a SYN, MP_TCPRST on a RST), versions, and keys.

use super::rw::{Reader, Sink};
use super::seq::Dsn;
use core::net::IpAddr;

/// Option kind.
const KIND: u8 = 30;
/// No-operation, the padding.
const NOP: u8 = 1;

/// Subtypes (RFC 8684 section 8.1), in the upper half of the third byte.
mod subtype {
    pub const MP_CAPABLE: u8 = 0x0;
    pub const MP_JOIN: u8 = 0x1;
    pub const DSS: u8 = 0x2;
    pub const ADD_ADDR: u8 = 0x3;
    pub const REMOVE_ADDR: u8 = 0x4;
    pub const MP_PRIO: u8 = 0x5;
    pub const MP_FAIL: u8 = 0x6;
    pub const MP_FASTCLOSE: u8 = 0x7;
    pub const MP_TCPRST: u8 = 0x8;
}

/// B of MP_JOIN and MP_PRIO, in the lower half of the third byte.
const BACKUP: u8 = 0x1;
/// E of ADD_ADDR, likewise.
const ECHO: u8 = 0x1;
/// T of MP_TCPRST, likewise.
const TRANSIENT: u8 = 0x1;

/// Flags of a DSS option (RFC 8684 section 3.3, figure 9).
mod dss_flag {
    pub const DATA_ACK: u8 = 0x01;
    pub const DATA_ACK_LONG: u8 = 0x02;
    pub const MAP: u8 = 0x04;
    pub const DSN_LONG: u8 = 0x08;
    pub const DATA_FIN: u8 = 0x10;
}

/// MP_CAPABLE (section 3.1). The variant is the option's length: 4, 12, 20, 22 or 24 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MpCapable {
    /// Version, 4 bits; this implementation speaks 1.
    pub version: u8,
    /// Flags A to H as on the wire: A=0x80 checksum required, B=0x40 extensibility, C=0x20 no join to this address, H=0x01 HMAC-SHA256.
    pub flags: u8,
    /// What follows the flags.
    pub body: MpCapableBody,
}

/// The variable part of MP_CAPABLE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MpCapableBody {
    /// SYN: nothing (4 bytes).
    Syn,
    /// SYN/ACK: the sender's key (12 bytes).
    SynAck { key: u64 },
    /// Third ACK: sender's and receiver's key (20 bytes).
    Ack { sender_key: u64, receiver_key: u64 },
    /// Third ACK with data: both keys, data-level length, checksum when negotiated (22 or 24 bytes).
    AckData {
        sender_key: u64,
        receiver_key: u64,
        data_len: u16,
        checksum: Option<u16>,
    },
}

/// MP_JOIN (section 3.2). The variant is the option's length: 12, 16 or 24 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MpJoin {
    /// SYN: the receiver's token and a nonce.
    Syn {
        backup: bool,
        address_id: u8,
        token: u32,
        nonce: u32,
    },
    /// SYN/ACK: leftmost 64 bits of the HMAC, and a nonce.
    SynAck {
        backup: bool,
        address_id: u8,
        hmac: u64,
        nonce: u32,
    },
    /// Third ACK: leftmost 160 bits of the HMAC.
    Ack { hmac: [u8; 20] },
}

/// A DSS option (section 3.3). Numbers keep the width they had on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dss {
    /// DATA_ACK.
    pub data_ack: Option<WireDsn>,
    /// Data sequence mapping.
    pub map: Option<DssMap>,
    /// DATA_FIN flag; meaningful with a map only.
    pub data_fin: bool,
}

/// A data-level number as it stood on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireDsn {
    /// The low 32 bits; `Dsn::expand` completes them.
    Short(u32),
    /// All 64 bits.
    Long(Dsn),
}

impl WireDsn {
    /// The same number in 32 bits.
    pub fn shorten(self) -> WireDsn {
        match self {
            WireDsn::Short(low) => WireDsn::Short(low),
            WireDsn::Long(dsn) => WireDsn::Short(dsn.0 as u32),
        }
    }

    /// The full number, a short one completed near `reference`.
    pub fn expand(self, reference: Dsn) -> Dsn {
        match self {
            WireDsn::Short(low) => reference.expand(low),
            WireDsn::Long(dsn) => dsn,
        }
    }
}

/// The map part of a DSS option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DssMap {
    /// Data sequence number of the first mapped byte.
    pub dsn: WireDsn,
    /// Subflow sequence number relative to the subflow's initial one (first byte = 1); 0 for a DATA_FIN without payload.
    pub ssn: u32,
    /// Data-level length, in bytes, a DATA_FIN included; 0 is the infinite mapping.
    pub len: u16,
    /// Checksum when negotiated.
    pub checksum: Option<u16>,
}

/// ADD_ADDR (section 3.4.1). `hmac` is None exactly on an echo.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddAddr {
    /// Address id.
    pub id: u8,
    /// The address.
    pub addr: IpAddr,
    /// The port, when it differs from the connection's.
    pub port: Option<u16>,
    /// Rightmost 64 bits of the HMAC; None on an echo.
    pub hmac: Option<u64>,
}

/// REMOVE_ADDR (section 3.4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoveAddr {
    ids: [u8; Self::MAX],
    len: u8,
}

impl RemoveAddr {
    /// The most ids that one value holds (40 bytes of option space less 3 of header is 37).
    pub const MAX: usize = 37;

    /// From a list; None when it is empty or too long.
    pub fn new(list: &[u8]) -> Option<Self> {
        if list.is_empty() || list.len() > Self::MAX {
            return None;
        }
        let mut ids = [0; Self::MAX];
        ids[..list.len()].copy_from_slice(list);
        Some(RemoveAddr {
            ids,
            len: list.len() as u8,
        })
    }

    /// The ids.
    pub fn ids(&self) -> &[u8] {
        &self.ids[..self.len as usize]
    }
}

/// MP_TCPRST (section 3.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpRst {
    /// T flag: the condition is transient.
    pub transient: bool,
    /// Reason code (IANA "MPTCP MP_TCPRST Reason Codes").
    pub reason: u8,
}

/// All the MPTCP options of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MptcpOptions {
    /// MP_CAPABLE.
    pub capable: Option<MpCapable>,
    /// MP_JOIN.
    pub join: Option<MpJoin>,
    /// DSS.
    pub dss: Option<Dss>,
    /// ADD_ADDR, one a segment.
    pub add_addr: Option<AddAddr>,
    /// REMOVE_ADDR.
    pub remove_addr: Option<RemoveAddr>,
    /// MP_PRIO: the backup flag for the subflow it arrives on.
    pub prio: Option<bool>,
    /// MP_FAIL: data sequence number of the failed mapping.
    pub fail: Option<Dsn>,
    /// MP_FASTCLOSE: the receiver's key.
    pub fastclose: Option<u64>,
    /// MP_TCPRST.
    pub tcprst: Option<TcpRst>,
}

impl MptcpOptions {
    /// True when the segment carries no MPTCP option that was understood.
    pub fn is_empty(&self) -> bool {
        *self == MptcpOptions::default()
    }

    /// Takes in one option; `body` is what follows kind and length.
    pub(super) fn parse_one(&mut self, body: &[u8]) {
        // A subtype's parser says nothing on a wrong length, and then an earlier option stands.
        fn keep<T>(slot: &mut Option<T>, parsed: Option<T>) {
            if parsed.is_some() {
                *slot = parsed;
            }
        }
        let mut fields = Reader(body);
        let Some(first) = fields.u8() else {
            return;
        };
        let low = first & 0x0f;
        match first >> 4 {
            subtype::MP_CAPABLE => keep(&mut self.capable, MpCapable::parse(low, fields)),
            subtype::MP_JOIN => keep(&mut self.join, MpJoin::parse(low, fields)),
            subtype::DSS => keep(&mut self.dss, Dss::parse(fields)),
            subtype::ADD_ADDR => keep(&mut self.add_addr, AddAddr::parse(low, fields)),
            subtype::REMOVE_ADDR => keep(&mut self.remove_addr, RemoveAddr::new(fields.rest())),
            subtype::MP_PRIO => keep(&mut self.prio, (fields.left() == 0).then_some(low & BACKUP != 0)),
            subtype::MP_FAIL => keep(&mut self.fail, parse_reserved_u64(fields).map(Dsn)),
            subtype::MP_FASTCLOSE => keep(&mut self.fastclose, parse_reserved_u64(fields)),
            subtype::MP_TCPRST => keep(&mut self.tcprst, TcpRst::parse(low, fields)),
            _ => {}
        }
    }

    /// All options in the order of Linux (mptcp_write_options), each padded to a multiple of 4 by NOPs behind it.
    pub(super) fn put(&self, out: &mut impl Sink) {
        let MptcpOptions {
            capable,
            join,
            dss,
            add_addr,
            remove_addr,
            prio,
            fail,
            fastclose,
            tcprst,
        } = self;
        if let Some(capable) = capable {
            capable.put(out);
        }
        if let Some(join) = join {
            join.put(out);
        }
        if let Some(dss) = dss {
            dss.put(out);
        }
        if let Some(backup) = prio {
            let backup = if *backup { BACKUP } else { 0 };
            out.put(&[KIND, 3, subtype::MP_PRIO << 4 | backup, NOP]);
        }
        if let Some(add_addr) = add_addr {
            add_addr.put(out);
        }
        if let Some(remove_addr) = remove_addr {
            remove_addr.put(out);
        }
        if let Some(dsn) = fail {
            out.put(&[KIND, 12, subtype::MP_FAIL << 4, 0]);
            out.put(&dsn.0.to_be_bytes());
        }
        if let Some(key) = fastclose {
            out.put(&[KIND, 12, subtype::MP_FASTCLOSE << 4, 0]);
            out.put(&key.to_be_bytes());
        }
        if let Some(TcpRst { transient, reason }) = *tcprst {
            let transient = if transient { TRANSIENT } else { 0 };
            out.put(&[KIND, 4, subtype::MP_TCPRST << 4 | transient, reason]);
        }
    }

    /// Drops the option that is needed least, in the order that `TcpOptions::fitted` documents.
    pub(super) fn drop_least(&mut self) {
        fn dropped<T>(slot: &mut Option<T>) -> bool {
            slot.take().is_some()
        }
        let _ = dropped(&mut self.tcprst)
            || dropped(&mut self.remove_addr)
            || dropped(&mut self.add_addr)
            || dropped(&mut self.prio)
            || dropped(&mut self.fail)
            || dropped(&mut self.fastclose)
            || dropped(&mut self.dss)
            || dropped(&mut self.join)
            || dropped(&mut self.capable);
    }
}

impl MpCapable {
    fn parse(version: u8, mut fields: Reader<'_>) -> Option<Self> {
        let flags = fields.u8()?;
        let body = match fields.left() {
            0 => MpCapableBody::Syn,
            8 => MpCapableBody::SynAck { key: fields.u64()? },
            16 => MpCapableBody::Ack {
                sender_key: fields.u64()?,
                receiver_key: fields.u64()?,
            },
            18 | 20 => MpCapableBody::AckData {
                sender_key: fields.u64()?,
                receiver_key: fields.u64()?,
                data_len: fields.u16()?,
                checksum: fields.u16(),
            },
            _ => return None,
        };
        Some(MpCapable { version, flags, body })
    }

    fn put(&self, out: &mut impl Sink) {
        let head = |len| [KIND, len, subtype::MP_CAPABLE << 4 | self.version & 0x0f, self.flags];
        match self.body {
            MpCapableBody::Syn => out.put(&head(4)),
            MpCapableBody::SynAck { key } => {
                out.put(&head(12));
                out.put(&key.to_be_bytes());
            }
            MpCapableBody::Ack {
                sender_key,
                receiver_key,
            } => {
                out.put(&head(20));
                out.put(&sender_key.to_be_bytes());
                out.put(&receiver_key.to_be_bytes());
            }
            MpCapableBody::AckData {
                sender_key,
                receiver_key,
                data_len,
                checksum,
            } => {
                out.put(&head(if checksum.is_some() { 24 } else { 22 }));
                out.put(&sender_key.to_be_bytes());
                out.put(&receiver_key.to_be_bytes());
                out.put(&data_len.to_be_bytes());
                put_checksum_or_padding(checksum, out);
            }
        }
    }
}

impl MpJoin {
    fn parse(low: u8, mut fields: Reader<'_>) -> Option<Self> {
        let backup = low & BACKUP != 0;
        let address_id = fields.u8()?;
        match fields.left() {
            8 => Some(MpJoin::Syn {
                backup,
                address_id,
                token: fields.u32()?,
                nonce: fields.u32()?,
            }),
            12 => Some(MpJoin::SynAck {
                backup,
                address_id,
                hmac: fields.u64()?,
                nonce: fields.u32()?,
            }),
            // The third byte's low half and the address id are reserved here.
            20 => Some(MpJoin::Ack { hmac: fields.array()? }),
            _ => None,
        }
    }

    fn put(&self, out: &mut impl Sink) {
        let head = |len, backup: bool, address_id| {
            let backup = if backup { BACKUP } else { 0 };
            [KIND, len, subtype::MP_JOIN << 4 | backup, address_id]
        };
        match *self {
            MpJoin::Syn {
                backup,
                address_id,
                token,
                nonce,
            } => {
                out.put(&head(12, backup, address_id));
                out.put(&token.to_be_bytes());
                out.put(&nonce.to_be_bytes());
            }
            MpJoin::SynAck {
                backup,
                address_id,
                hmac,
                nonce,
            } => {
                out.put(&head(16, backup, address_id));
                out.put(&hmac.to_be_bytes());
                out.put(&nonce.to_be_bytes());
            }
            MpJoin::Ack { hmac } => {
                out.put(&head(24, false, 0));
                out.put(&hmac);
            }
        }
    }
}

impl Dss {
    fn parse(mut fields: Reader<'_>) -> Option<Self> {
        let flags = fields.u8()?;
        let has = |flag| flags & flag != 0;
        let data_ack = if has(dss_flag::DATA_ACK) {
            Some(WireDsn::parse(has(dss_flag::DATA_ACK_LONG), &mut fields)?)
        } else {
            None
        };
        let map = if has(dss_flag::MAP) {
            Some(DssMap {
                dsn: WireDsn::parse(has(dss_flag::DSN_LONG), &mut fields)?,
                ssn: fields.u32()?,
                len: fields.u16()?,
                checksum: if fields.left() > 0 { Some(fields.u16()?) } else { None },
            })
        } else {
            None
        };
        (fields.left() == 0).then_some(Dss {
            data_ack,
            map,
            data_fin: has(dss_flag::DATA_FIN),
        })
    }

    fn put(&self, out: &mut impl Sink) {
        let (mut len, mut flags) = (4, 0);
        if self.data_fin {
            flags |= dss_flag::DATA_FIN;
        }
        if let Some(data_ack) = self.data_ack {
            len += data_ack.len();
            flags |= dss_flag::DATA_ACK;
            if matches!(data_ack, WireDsn::Long(_)) {
                flags |= dss_flag::DATA_ACK_LONG;
            }
        }
        if let Some(map) = self.map {
            len += map.dsn.len() + if map.checksum.is_some() { 8 } else { 6 };
            flags |= dss_flag::MAP;
            if matches!(map.dsn, WireDsn::Long(_)) {
                flags |= dss_flag::DSN_LONG;
            }
        }
        out.put(&[KIND, len, subtype::DSS << 4, flags]);
        if let Some(data_ack) = self.data_ack {
            data_ack.put(out);
        }
        if let Some(map) = self.map {
            map.dsn.put(out);
            out.put(&map.ssn.to_be_bytes());
            out.put(&map.len.to_be_bytes());
            put_checksum_or_padding(map.checksum, out);
        }
    }
}

impl WireDsn {
    fn parse(long: bool, fields: &mut Reader<'_>) -> Option<Self> {
        if long {
            fields.u64().map(|n| WireDsn::Long(Dsn(n)))
        } else {
            fields.u32().map(WireDsn::Short)
        }
    }

    fn len(self) -> u8 {
        match self {
            WireDsn::Short(_) => 4,
            WireDsn::Long(_) => 8,
        }
    }

    fn put(self, out: &mut impl Sink) {
        match self {
            WireDsn::Short(low) => out.put(&low.to_be_bytes()),
            WireDsn::Long(dsn) => out.put(&dsn.0.to_be_bytes()),
        }
    }
}

impl AddAddr {
    fn parse(low: u8, mut fields: Reader<'_>) -> Option<Self> {
        let echo = low & ECHO != 0;
        let id = fields.u8()?;
        // The length alone tells the family and whether a port is there, once the HMAC is taken off.
        let hmac_len = if echo { 0 } else { 8 };
        let (v6, has_port) = match fields.left().checked_sub(hmac_len)? {
            4 => (false, false),
            6 => (false, true),
            16 => (true, false),
            18 => (true, true),
            _ => return None,
        };
        Some(AddAddr {
            id,
            addr: if v6 {
                IpAddr::from(fields.array::<16>()?)
            } else {
                IpAddr::from(fields.array::<4>()?)
            },
            port: if has_port { Some(fields.u16()?) } else { None },
            hmac: if echo { None } else { Some(fields.u64()?) },
        })
    }

    fn put(&self, out: &mut impl Sink) {
        let address_len = if self.addr.is_ipv4() { 4 } else { 16 };
        let port_len = if self.port.is_some() { 2 } else { 0 };
        let (hmac_len, echo) = if self.hmac.is_some() { (8, 0) } else { (0, ECHO) };
        let len = 4 + address_len + port_len + hmac_len;
        out.put(&[KIND, len, subtype::ADD_ADDR << 4 | echo, self.id]);
        match self.addr {
            IpAddr::V4(v4) => out.put(&v4.octets()),
            IpAddr::V6(v6) => out.put(&v6.octets()),
        }
        if let Some(port) = self.port {
            out.put(&port.to_be_bytes());
        }
        if let Some(hmac) = self.hmac {
            out.put(&hmac.to_be_bytes());
        }
        pad(len, out);
    }
}

impl RemoveAddr {
    fn put(&self, out: &mut impl Sink) {
        let len = 3 + self.len;
        out.put(&[KIND, len, subtype::REMOVE_ADDR << 4]);
        out.put(self.ids());
        pad(len, out);
    }
}

impl TcpRst {
    fn parse(low: u8, mut fields: Reader<'_>) -> Option<Self> {
        let reason = fields.u8()?;
        (fields.left() == 0).then_some(TcpRst {
            transient: low & TRANSIENT != 0,
            reason,
        })
    }
}

/// A reserved byte and 64 bits: MP_FAIL and MP_FASTCLOSE.
fn parse_reserved_u64(mut fields: Reader<'_>) -> Option<u64> {
    fields.u8()?;
    let value = fields.u64()?;
    (fields.left() == 0).then_some(value)
}

/// A map ends two bytes short of a multiple of 4: the checksum, or two NOPs that its length does not count.
fn put_checksum_or_padding(checksum: Option<u16>, out: &mut impl Sink) {
    match checksum {
        Some(checksum) => out.put(&checksum.to_be_bytes()),
        None => out.put(&[NOP, NOP]),
    }
}

/// NOPs behind an option of `len` bytes up to a multiple of 4.
fn pad(len: u8, out: &mut impl Sink) {
    let missing = len.wrapping_neg() % 4;
    out.put(&[NOP; 3][..usize::from(missing)]);
}

//! The MPTCP option, kind 30 (RFC 8684 section 3): one struct a subtype, and `MptcpOptions`, all that one segment carries.

use super::seq::Dsn;
use core::net::IpAddr;

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
}

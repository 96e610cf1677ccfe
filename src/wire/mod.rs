//! Bytes ↔ values: TCP segments, their options, MPTCP's options. No unsafe code, no clock, no descriptor, no panic on any bytes.
#![deny(unsafe_code)]

pub mod checksum;
pub mod mptcp_option;
pub mod options;
mod rw;
pub mod segment;
pub mod seq;
#[cfg(test)]
mod tests;

pub use checksum::{checksum, is_partial_checksum, pseudo_header_sum, verify_checksum, Checksum};
pub use mptcp_option::{
    AddAddr, Dss, DssMap, MpCapable, MpCapableBody, MpJoin, MptcpOptions, RemoveAddr, TcpRst, WireDsn,
};
pub use options::{options_len, SackBlocks, TcpOptions, Timestamps};
pub use segment::{emit_header, Flags, Header, ParseError, Segment};
pub use seq::{Dsn, SeqNum};

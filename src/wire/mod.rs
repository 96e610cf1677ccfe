//! Bytes ↔ values: TCP segments, their options, MPTCP's options. No unsafe code, no clock, no descriptor, no panic on any bytes.
#![deny(unsafe_code)]

pub mod mptcp_option;
pub mod options;
pub mod segment;
pub mod seq;

pub use mptcp_option::{AddAddr, Dss, DssMap, MpCapable, MpJoin, MptcpOptions, RemoveAddr, TcpRst};
pub use options::{SackBlocks, TcpOptions, Timestamps};
pub use segment::{Flags, Header, ParseError, Segment};
pub use seq::{Dsn, SeqNum};

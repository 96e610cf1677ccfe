//! Multipath TCP (RFC 8684) in userspace. See ARCHITECTURE.md for the map; `wire`, `tcp`, `mptcp` and `sim` are pure
//! (time and randomness are arguments), `link` and `engine` touch the network, `shim` lives in the user's program.

pub mod config;
pub mod control;
pub mod engine;
pub mod link;
pub mod mptcp;
pub mod shim;
pub mod sim;
pub mod tcp;
pub mod time;
pub mod wire;

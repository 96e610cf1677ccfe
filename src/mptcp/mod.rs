//! One MPTCP connection and the endpoint that owns them all (RFC 8684 version 1). Pure: time and randomness are arguments.
#![deny(unsafe_code)]

mod addresses;
pub mod api;
mod connection;
mod cookies;
pub mod crypto;
pub mod endpoint;
mod handshake;
mod inherited;
mod input;
mod listening;
mod mapping;
mod memory;
mod opening;
mod options;
mod output;
mod pattern;
mod recv_buffer;
mod reinjection;
pub mod scheduler;
mod send_buffer;
mod steer;
mod strays;
mod subflow;
pub mod tally;
#[cfg(test)]
mod tests;
mod time_wait;
mod timers;
mod withdraw;

pub use endpoint::{ConnId, ConnOptions, Endpoint, Entropy, Event, FourTuple, LocalPath};

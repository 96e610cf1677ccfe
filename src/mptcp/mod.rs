//! One MPTCP connection and the endpoint that owns them all. Pure: time and randomness are arguments.
#![deny(unsafe_code)]

pub mod crypto;
pub mod endpoint;

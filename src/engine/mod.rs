//! The engine process: loop, clients, relay, timers. The only reader of the clock.

pub mod clock;
mod connect;
mod connection;
mod control;
mod core;
mod core_events;
mod core_stream;
#[cfg(feature = "preload")]
pub mod entry;
mod event_loop;
mod kernel_stream;
mod paths;
mod plain_peers;
mod process;
pub mod program;
mod recent;
mod relay;
mod requests;
mod server;
mod shadow;
mod slots;
mod socket_options;
pub mod status;
mod stream;
mod tcp_info;

//! The engine: the process that speaks TCP for programs. One thread, no lock; the only reader of the clock.
//!
//! | to understand                                  | read                                              |
//! |------------------------------------------------|---------------------------------------------------|
//! | how `libmptcp.so` can be executed              | `entry`, `program`                                |
//! | what the process leaves and keeps, and what outlives it | `process`, `sandbox`, `keeper`, `ledger` |
//! | the loop, and who owns what                    | `server`, `event_loop`, `slots`, `clock`          |
//! | requests and answers                           | `control`, `requests`, `connect`, `status`        |
//! | who listens, and how programs get connections    | `listeners`, `listen`, `delivery`, `pump`         |
//! | bytes between a program and the network        | `shadow`, `relay`, `stream`                       |
//! | who speaks TCP on the network                  | `core`, `core_events`, `core_stream`, `kernel_stream` |
//! | which paths, and which peers are left alone    | `paths`, `plain_peers`                            |
//! | what is remembered of a program's socket       | `connection`, `socket_options`, `tcp_info`, `recent` |
//!
//! What holds everywhere: nothing blocks but the loop's one wait; no client, program or peer can make the engine grow
//! without bound or keep it from others; a request is answered with a reason when it is not granted.

pub mod clock;
mod connect;
mod connection;
mod control;
mod core;
mod core_events;
mod core_stream;
mod delivery;
mod descriptors;
#[cfg(feature = "preload")]
pub mod entry;
mod event_loop;
mod keeper;
mod kernel_stream;
mod leaving;
mod ledger;
mod listen;
mod listeners;
mod memory;
mod multipath;
mod namespace;
mod paths;
mod picture;
mod plain_peers;
mod policy;
mod process;
pub mod program;
mod pump;
mod recent;
mod relay;
mod requests;
mod sandbox;
mod server;
mod settings_files;
mod shadow;
mod slots;
mod socket_options;
pub mod status;
mod steering;
mod stream;
mod tcp_info;

//! Tests of the core segment by segment; `script` is their vocabulary.

mod pair;
mod script;
mod segment;

mod address_model;
mod addresses;
mod attacks;
mod capable;
mod checksum;
mod close;
mod dss;
mod floods;
mod golden_client;
mod golden_server;
mod hostile;
mod hostile_peer;
mod inherited;
mod join;
mod mapping_model;
mod memory;
mod off_path;
mod requirements;
mod scheduler_model;
mod server_paths;
mod steer;
mod tcp_handshake;
mod tcp_recovery;
mod traps;
mod withdraw;

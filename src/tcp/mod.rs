//! One TCP flow's machinery: what was sent and what came of it, what was received, timers, congestion control.
//! Pure: time is an argument. Handshakes and options that tie flows into a connection belong to `mptcp`.
#![deny(unsafe_code)]

pub mod bbr;
pub mod congestion;
pub mod coupled;
pub mod cubic;
pub mod delivery;
pub mod hystart;
pub mod pacer;
pub mod prr;
mod rack;
pub mod receiver;
pub mod rtt;
pub mod sender;
pub mod undo;

pub use receiver::Receiver;
pub use sender::Sender;

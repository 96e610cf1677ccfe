//! The engine process: loop, clients, relay, timers. The only reader of the clock.

pub mod clock;
#[cfg(feature = "preload")]
pub mod entry;
pub mod event_loop;
pub mod program;
pub mod shadow;
pub mod slots;

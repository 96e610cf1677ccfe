//! The engine process: loop, clients, relay, timers. The only reader of the clock.

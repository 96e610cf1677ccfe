//! How an accepted socket is recognised that is not somebody's connection but the engine's way of handing one over.
//!
//! The engine connects to a program's listening socket over the loopback device and announces a segment size that nobody else has there. The accepted
//! socket shows it in one system call, in any process, after any exec. It is a hint only: the engine says whether it is true.

use core::net::Ipv4Addr;

/// Where carriers to a socket that hears all of IPv4 come from. Whoever accepts one behind the library's back is shown this, and not the
/// 127.0.0.1 that access lists trust.
pub const CARRIER_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 77, 84, 80);
/// TCP_MAXSEG of the engine's end.
pub const CARRIER_MSS: i32 = 777;

/// Whether a socket whose TCP_MAXSEG is `mss` may be a carrier; it is less where the program itself has asked for less.
pub fn may_be_carrier(mss: i32) -> bool {
    mss <= CARRIER_MSS
}

//! Which local addresses a connection may use, as its program says (RFC 6897 section 5.3.2, `mptcp(7)`).
//!
//! It narrows, and names addresses that the automatic choice leaves out (a second address of an interface). It overrules no policy: under a
//! VPN or IPsec policy one path stays one path.

use core::net::IpAddr;

/// What the program says. The default says nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sources {
    /// Only the named addresses may be used.
    pub restricted: bool,
    /// Addresses that the program has named.
    pub named: Vec<IpAddr>,
    /// Addresses that it has taken away.
    pub removed: Vec<IpAddr>,
}

impl Sources {
    /// Whether a path may have this source.
    pub fn allow(&self, addr: IpAddr) -> bool {
        !self.removed.contains(&addr) && (!self.restricted || self.named.contains(&addr))
    }

    /// The address for a first subflow whose plain route's source is not allowed: the first of those named that fits the destination.
    pub fn first_for(&self, dst: IpAddr) -> Option<IpAddr> {
        self.named_for(dst).next()
    }

    /// Those named that fit the destination's family.
    pub fn named_for(&self, dst: IpAddr) -> impl Iterator<Item = IpAddr> + '_ {
        self.named.iter().copied().filter(move |a| a.is_ipv4() == dst.is_ipv4())
    }
}

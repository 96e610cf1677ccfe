//! The options of `mptcp.h`: their numbers, and what a program has asked for with them.
//!
//! [`Wishes`] belong to a socket. Until it connects they lie in the kernel socket itself ([`stash`]), so that they survive dup, fork, exec and
//! passing as every option does, without memory in the program's process; afterwards the engine keeps them. Both sides change them by the same
//! function, [`Wishes::set`]: nothing here allocates or makes a system call.
//!
//! Not here: what a wish means to paths (`link/sources.rs`), and who answers (`shim/multipath.rs`, `engine/multipath.rs`).

pub mod stash;

use super::codec::is_link_local;
use core::net::{IpAddr, SocketAddr};

/// Option names at level IPPROTO_TCP, clear of the kernel's (which are below 100) and of each other; `mptcp.h` has the same numbers.
pub mod name {
    /// Whether to speak MPTCP (RFC 6897 section 5.3.1).
    pub const ENABLE: i32 = 0x68_9701;
    /// Replaces the whole list of local addresses (draft-scharf-mptcp-api).
    pub const BIND: i32 = 0x68_9702;
    /// Adds local addresses (RFC 6897 section 5.3.2).
    pub const ADD: i32 = 0x68_9703;
    /// Removes local addresses (RFC 6897 section 5.3.2).
    pub const REMOVE: i32 = 0x68_9704;
    /// The address pairs of the established subflows (RFC 6897 section 5.3.3).
    pub const SUBFLOWS: i32 = 0x68_9705;
    /// The local token (RFC 6897 section 5.3.4).
    pub const CONNID: i32 = 0x68_9706;
    /// What getpeername() and getsockname() say to a program that knows MPTCP.
    pub const NAMES: i32 = 0x68_9711;
    /// Whether the connection ends with its first subflow.
    pub const FATE: i32 = 0x68_9712;
    /// When further subflows are opened.
    pub const JOIN: i32 = 0x68_9713;
    /// What the connection is for.
    pub const INTENT: i32 = 0x68_9714;
    /// Which subflow takes what.
    pub const SCHEDULER: i32 = 0x68_9715;
    /// Congestion control, also of those that no kernel has.
    pub const CONGESTION: i32 = 0x68_9716;
    /// Opens a subflow.
    pub const OPEN: i32 = 0x68_9721;
    /// Closes one.
    pub const CLOSE: i32 = 0x68_9722;
    /// Marks one as backup.
    pub const BACKUP: i32 = 0x68_9723;
    /// A socket option of one subflow.
    pub const SUBFLOW: i32 = 0x68_9724;
    /// A descriptor that tells what happens to subflows.
    pub const EVENTS: i32 = 0x68_9725;
}

/// EMULTIPATH of `mptcp.h`: an error number that no kernel uses.
pub const EMULTIPATH: i32 = 3897;
/// Level of Linux's own MPTCP options (linux/socket.h).
pub const SOL_MPTCP: i32 = 284;
/// Linux's own MPTCP protocol number.
pub const IPPROTO_MPTCP: i32 = 262;
/// Entries of a list of addresses.
pub const ADDRESSES_MAX: usize = 32;

/// A list of addresses, without memory of its own elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressList {
    entries: [Option<SocketAddr>; ADDRESSES_MAX],
    len: usize,
}

impl Default for AddressList {
    fn default() -> Self {
        AddressList {
            entries: [None; ADDRESSES_MAX],
            len: 0,
        }
    }
}

impl AddressList {
    /// The addresses, in the order they were given.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.entries[..self.len].iter().flatten().copied()
    }

    /// Whether it has the address, whatever the port.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.iter().any(|a| a.ip() == ip)
    }

    /// No entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, address: SocketAddr) -> Result<(), i32> {
        let slot = self.entries.get_mut(self.len).ok_or(libc::ENOSPC)?;
        *slot = Some(address);
        self.len += 1;
        Ok(())
    }

    fn without(&self, gone: &AddressList) -> AddressList {
        let mut rest = AddressList::default();
        for address in self.iter().filter(|a| !gone.contains(a.ip())) {
            // Never longer than `self`.
            let _ = rest.push(address);
        }
        rest
    }

    fn with(&self, more: &AddressList) -> Result<AddressList, i32> {
        let mut all = *self;
        for address in more.iter().filter(|a| !self.contains(a.ip())) {
            all.push(address)?;
        }
        Ok(all)
    }
}

/// What getpeername() and getsockname() say when the program has set an option of `mptcp.h` (the three choices of draft-scharf-mptcp-api).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Names {
    /// As `MPTCP_AWARE_NAMES` says, else the first subflow's addresses.
    #[default]
    Default,
    /// The first subflow's addresses.
    First,
    /// EMULTIPATH.
    Fail,
}

/// When a connection opens further subflows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum JoinPolicy {
    /// As `MPTCP_JOIN` says, else at once.
    #[default]
    Default,
    /// As soon as the protocol allows.
    AtOnce,
    /// When it has carried enough bytes to be worth it.
    AfterBytes,
    /// Never.
    Never,
}

/// What a connection is for (the service types that Apple's API has).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Intent {
    /// As `MPTCP_INTENT` says, else as the program's other options and its writes suggest.
    #[default]
    Default,
    /// All paths at once.
    Aggregate,
    /// One path; the others stand by.
    Handover,
    /// The fastest path first, and none that is slow beside it.
    Interactive,
}

/// What a program has asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wishes {
    /// TCP_MULTIPATH_ENABLE; None when it was not set.
    pub enable: Option<bool>,
    /// The socket was made with IPPROTO_MPTCP.
    pub linux: bool,
    /// Only the listed addresses may be used: BIND, or ADD before the connection.
    pub restricted: bool,
    /// Addresses that the program has named.
    pub listed: AddressList,
    /// Addresses that REMOVE took from all those of the host.
    pub removed: AddressList,
    /// TCP_MULTIPATH_NAMES.
    pub names: Names,
    /// TCP_MULTIPATH_FATE; None when it was not set.
    pub fate: Option<bool>,
    /// TCP_MULTIPATH_JOIN.
    pub join: JoinPolicy,
    /// TCP_MULTIPATH_INTENT.
    pub intent: Intent,
    /// TCP_MULTIPATH_SCHEDULER: from 1 the number of [`SCHEDULERS`]; 0 when it was not set.
    pub scheduler: u8,
    /// TCP_MULTIPATH_CONGESTION, likewise of [`CONGESTIONS`].
    pub congestion: u8,
}

/// Names of schedulers, in the order of their numbers.
pub const SCHEDULERS: [&str; 6] = ["adaptive", "lowrtt", "blest", "ecf", "roundrobin", "redundant"];
/// Names of congestion controls, likewise.
pub const CONGESTIONS: [&str; 5] = ["cubic", "bbr", "lia", "olia", "balia"];

/// Where a socket is in its life, as far as these options care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Neither connected nor connecting nor listening.
    Fresh,
    /// It waits for connections.
    Listening,
    /// The handshake runs.
    Connecting,
    /// MPTCP is spoken.
    Multipath,
    /// Plain TCP is spoken, by whomever.
    Plain,
    /// The connection is over.
    Ended,
}

/// The socket that an option is set on.
pub struct Socket<'a> {
    /// AF_INET6.
    pub inet6: bool,
    /// Where it is in its life.
    pub stage: Stage,
    /// Whether an address is one of this host's, as bind() sees it.
    pub is_local: &'a mut dyn FnMut(SocketAddr) -> bool,
}

/// Whether an option is one of `mptcp.h` that [`Wishes::set`] and its callers answer.
pub fn is_ours(level: i32, option: i32) -> bool {
    level == libc::IPPROTO_TCP
        && (matches!(option, name::ENABLE..=name::CONNID)
            || matches!(option, name::NAMES..=name::CONGESTION)
            || is_steering(option))
}

/// Whether an option is about single subflows: there is none before the connection.
pub fn is_steering(option: i32) -> bool {
    matches!(option, name::OPEN..=name::EVENTS)
}

impl Wishes {
    /// setsockopt() at level IPPROTO_TCP.
    ///
    /// # Errors
    /// The errno, as `mptcp(7)` lists them; then nothing has changed.
    pub fn set(&mut self, option: i32, value: &[u8], socket: &mut Socket<'_>) -> Result<(), i32> {
        match option {
            name::ENABLE => {
                let on = int(value)? != 0;
                if !matches!(socket.stage, Stage::Fresh | Stage::Listening) {
                    return Err(libc::EISCONN);
                }
                self.enable = Some(on);
            }
            name::BIND | name::ADD | name::REMOVE => {
                match socket.stage {
                    Stage::Plain => return Err(libc::EOPNOTSUPP),
                    Stage::Ended => return Err(libc::ENOTCONN),
                    Stage::Fresh | Stage::Listening | Stage::Connecting | Stage::Multipath => {}
                }
                let list = parse_list(value, socket.inet6)?;
                self.change_list(option, &list, socket)?;
            }
            name::NAMES => {
                self.names = match int(value)? {
                    0 => Names::Default,
                    1 => Names::First,
                    2 => Names::Fail,
                    _ => return Err(libc::EINVAL),
                }
            }
            name::FATE => self.fate = Some(int(value)? != 0),
            name::JOIN => {
                self.join = match int(value)? {
                    0 => JoinPolicy::Default,
                    1 => JoinPolicy::AtOnce,
                    2 => JoinPolicy::AfterBytes,
                    3 => JoinPolicy::Never,
                    _ => return Err(libc::EINVAL),
                }
            }
            name::INTENT => {
                self.intent = match int(value)? {
                    0 => Intent::Default,
                    1 => Intent::Aggregate,
                    2 => Intent::Handover,
                    3 => Intent::Interactive,
                    _ => return Err(libc::EINVAL),
                }
            }
            name::SCHEDULER => self.scheduler = choice(value, SCHEDULERS.len())?,
            name::CONGESTION => self.congestion = choice(value, CONGESTIONS.len())?,
            name::OPEN | name::CLOSE | name::BACKUP | name::SUBFLOW => match socket.stage {
                Stage::Plain => return Err(libc::EOPNOTSUPP),
                _ => return Err(libc::ENOTCONN),
            },
            _ => return Err(libc::ENOPROTOOPT),
        }
        Ok(())
    }

    /// getsockopt() of those options whose value is what was set; None for the others.
    pub fn get(&self, option: i32) -> Option<i32> {
        match option {
            name::ENABLE => Some(i32::from(self.enable != Some(false))),
            name::NAMES => Some(self.names as i32),
            name::FATE => Some(i32::from(self.fate == Some(true))),
            name::JOIN => Some(self.join as i32),
            name::INTENT => Some(self.intent as i32),
            name::SCHEDULER => Some(self.scheduler.into()),
            name::CONGESTION => Some(self.congestion.into()),
            _ => None,
        }
    }

    fn change_list(&mut self, option: i32, list: &AddressList, socket: &mut Socket<'_>) -> Result<(), i32> {
        // An address that has left the host can still be taken from the list that has it.
        let known = |a: SocketAddr| option == name::REMOVE && self.restricted && self.listed.contains(a.ip());
        if list.iter().any(|a| !known(a) && !(socket.is_local)(a)) {
            return Err(libc::EADDRNOTAVAIL);
        }
        match option {
            name::BIND => {
                self.restricted = !list.is_empty();
                self.listed = *list;
                self.removed = AddressList::default();
            }
            name::ADD => {
                self.listed = self.listed.with(list)?;
                self.removed = self.removed.without(list);
                // Before the connection the list is what may be used (RFC 6897 section 5.3.2); later it is more of it.
                let before = matches!(socket.stage, Stage::Fresh | Stage::Listening);
                self.restricted |= before && !self.listed.is_empty();
            }
            _ if self.restricted => {
                if list.iter().any(|a| !self.listed.contains(a.ip())) {
                    return Err(libc::EADDRNOTAVAIL);
                }
                let rest = self.listed.without(list);
                if rest.is_empty() {
                    return Err(libc::EBUSY);
                }
                self.listed = rest;
            }
            _ => {
                self.removed = self.removed.with(list)?;
                self.listed = self.listed.without(list);
            }
        }
        Ok(())
    }
}

/// An int, or, as for many options of Linux, more that begins with one.
pub fn int(value: &[u8]) -> Result<i32, i32> {
    let bytes = value.first_chunk::<4>().ok_or(libc::EINVAL)?;
    Ok(i32::from_ne_bytes(*bytes))
}

/// A number of a list that begins with 1, or 0.
fn choice(value: &[u8], len: usize) -> Result<u8, i32> {
    let number = u8::try_from(int(value)?).map_err(|_| libc::EINVAL)?;
    match usize::from(number) <= len {
        true => Ok(number),
        false => Err(libc::EINVAL),
    }
}

/// Bytes of the longest list that is not refused for its length.
pub const LIST_MAX: usize = ADDRESSES_MAX * size_of::<libc::sockaddr_in6>();

/// Reads a packed list: a sockaddr_in or sockaddr_in6 behind the other, each as long as its family's is.
fn parse_list(mut value: &[u8], inet6: bool) -> Result<AddressList, i32> {
    let mut list = AddressList::default();
    if value.len() > LIST_MAX {
        return Err(libc::ENOSPC);
    }
    while !value.is_empty() {
        let (address, rest) = take_address(value)?;
        value = rest;
        if address.is_ipv6() && !inet6 {
            return Err(libc::EAFNOSUPPORT);
        }
        let ip = address.ip().to_canonical();
        if ip.is_unspecified() || ip.is_multicast() {
            return Err(libc::EADDRNOTAVAIL);
        }
        if address.port() != 0 || list.contains(ip) {
            return Err(libc::EINVAL);
        }
        let scope = match address {
            SocketAddr::V6(a) if is_link_local(ip) => a.scope_id(),
            _ => 0,
        };
        list.push(with_scope(ip, scope))?;
    }
    Ok(list)
}

fn with_scope(ip: IpAddr, scope: u32) -> SocketAddr {
    let mut address = SocketAddr::new(ip, 0);
    if let SocketAddr::V6(a) = &mut address {
        a.set_scope_id(scope);
    }
    address
}

/// One address at the front of a packed list, and what follows it.
///
/// # Errors
/// EINVAL for a length that is none of whole addresses, EAFNOSUPPORT for another family.
pub fn take_address(value: &[u8]) -> Result<(SocketAddr, &[u8]), i32> {
    let family = value.first_chunk::<2>().ok_or(libc::EINVAL)?;
    let len = match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return Err(libc::EAFNOSUPPORT),
    };
    let (entry, rest) = value.split_at_checked(len).ok_or(libc::EINVAL)?;
    Ok((read_sockaddr(entry).ok_or(libc::EINVAL)?, rest))
}

/// The bytes of a sockaddr_in or sockaddr_in6, and their number.
pub fn sockaddr(address: SocketAddr) -> ([u8; 28], usize) {
    let mut bytes = [0; 28];
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(a) => {
            bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            bytes[4..8].copy_from_slice(&a.ip().octets());
            (bytes, 16)
        }
        SocketAddr::V6(a) => {
            bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            bytes[4..8].copy_from_slice(&a.flowinfo().to_ne_bytes());
            bytes[8..24].copy_from_slice(&a.ip().octets());
            bytes[24..28].copy_from_slice(&a.scope_id().to_ne_bytes());
            (bytes, 28)
        }
    }
}

/// A sockaddr_in or sockaddr_in6 of at least its family's length.
pub fn read_sockaddr(bytes: &[u8]) -> Option<SocketAddr> {
    let word = |at: usize| bytes.get(at..at + 4)?.first_chunk::<4>().copied();
    let port = u16::from_be_bytes(*bytes.get(2..4)?.first_chunk()?);
    match i32::from(u16::from_ne_bytes(*bytes.first_chunk()?)) {
        libc::AF_INET if bytes.len() >= size_of::<libc::sockaddr_in>() => {
            Some(SocketAddr::new(IpAddr::from(word(4)?), port))
        }
        libc::AF_INET6 => {
            let ip = *bytes.get(8..24)?.first_chunk::<16>()?;
            let mut address = core::net::SocketAddrV6::new(ip.into(), port, 0, 0);
            address.set_flowinfo(u32::from_ne_bytes(word(4)?));
            address.set_scope_id(u32::from_ne_bytes(word(24)?));
            Some(SocketAddr::V6(address))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

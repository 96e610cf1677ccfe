//! Single subflows in the program's hands: options of `mptcp.h` that open, close and mark one, or set an option on it, and descriptors that
//! tell what happens to them (RFC 6897 appendix A, REQ6, REQ10 and REQ13).
//!
//! An event descriptor is a SOCK_SEQPACKET pair, of which the program holds one end: it polls readable, each read gives one
//! `struct mptcp_event`, and it ends with the connection.

use super::connection::{map_like, unmap, Backend, Connection};
use super::event_loop::Key;
use super::server::Engine;
use super::tcp_info;
use crate::control::multipath::{int, name, sockaddr, take_address};
use crate::mptcp::endpoint::{ConnId, FourTuple, SteerError, SubflowId, SubflowManner};
use crate::time::Instant;
use rustix::io::Errno;
use rustix::net::{send, socketpair, AddressFamily, SendFlags, SocketFlags, SocketType};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Event descriptors of one connection.
const WATCHERS_MAX: usize = 8;
/// Bytes of `struct sockaddr_storage`.
const STORAGE_LEN: usize = 128;
/// Bytes of `struct mptcp_event`: type, subflow, local, remote.
const EVENT_LEN: usize = 8 + 2 * STORAGE_LEN;

/// MPTCP_EVENT_* of `mptcp.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happening {
    /// A subflow is up.
    Up = 1,
    /// A subflow is over.
    Down = 2,
    /// MPTCP was given up.
    Fallback = 3,
    /// Events before this one were lost: nobody read them in time.
    Lost = 4,
}

/// The program's end is elsewhere; this is ours.
pub struct Watcher {
    end: OwnedFd,
    lost: bool,
}

impl Watcher {
    /// False when nobody listens any more.
    fn tell(&mut self, happening: Happening, subflow: u32, tuple: FourTuple) -> bool {
        let bytes = event(happening, subflow, tuple);
        if self.lost && !self.try_send(&event(Happening::Lost, 0, tuple)) {
            return true;
        }
        self.lost = false;
        match send(&self.end, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => true,
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {
                self.lost = true;
                true
            }
            Err(_) => false,
        }
    }

    fn try_send(&self, bytes: &[u8]) -> bool {
        send(&self.end, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok()
    }
}

fn event(happening: Happening, subflow: u32, tuple: FourTuple) -> [u8; EVENT_LEN] {
    let mut bytes = [0; EVENT_LEN];
    bytes[..4].copy_from_slice(&(happening as u32).to_ne_bytes());
    bytes[4..8].copy_from_slice(&subflow.to_ne_bytes());
    for (address, at) in [(tuple.local, 8), (tuple.remote, 8 + STORAGE_LEN)] {
        let (address, len) = sockaddr(address);
        bytes[at..at + len].copy_from_slice(&address[..len]);
    }
    bytes
}

/// A pair of addresses at the front of a value, as TCP_MULTIPATH_SUBFLOWS gives it.
fn take_pair(value: &[u8]) -> Result<(FourTuple, &[u8]), Errno> {
    let take = |value| take_address(value).map_err(Errno::from_raw_os_error);
    let (local, rest) = take(value)?;
    let (remote, rest) = take(rest)?;
    let tuple = FourTuple {
        local: unmap(local),
        remote: unmap(remote),
    };
    if tuple.local.is_ipv4() != tuple.remote.is_ipv4() {
        return Err(Errno::INVAL);
    }
    Ok((tuple, rest))
}

/// The whole value is one pair.
fn pair(value: &[u8]) -> Result<FourTuple, Errno> {
    match take_pair(value)? {
        (tuple, []) => Ok(tuple),
        _ => Err(Errno::INVAL),
    }
}

fn take_int(value: &[u8]) -> Result<(i32, &[u8]), Errno> {
    let number = int(value).map_err(Errno::from_raw_os_error)?;
    Ok((number, &value[4..]))
}

fn errno(error: SteerError) -> Errno {
    match error {
        SteerError::NotMultipath => Errno::OPNOTSUPP,
        SteerError::Unknown => Errno::NOENT,
        SteerError::NoPath => Errno::ADDRNOTAVAIL,
        SteerError::Last => Errno::BUSY,
        SteerError::Full => Errno::NOSPC,
    }
}

/// Changes a type of service or a hop limit; -1 is the connection's own.
fn change(manner: &mut SubflowManner, level: i32, option: i32, value: i32, ipv6: bool) -> Result<(), Errno> {
    let byte = match value {
        -1 => None,
        _ => Some(u8::try_from(value).map_err(|_| Errno::INVAL)?),
    };
    match (level, option) {
        (libc::IPPROTO_IP, libc::IP_TOS) if !ipv6 => manner.tos = byte,
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if ipv6 => manner.tos = byte,
        (libc::IPPROTO_IP, libc::IP_TTL) if !ipv6 && value != 0 => manner.ttl = byte,
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) if ipv6 && value != 0 => manner.ttl = byte,
        (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) => return Err(Errno::INVAL),
        _ => return Err(Errno::NOPROTOOPT),
    }
    Ok(())
}

impl Engine {
    fn core_of(&self, key: Key) -> Result<ConnId, Errno> {
        let connection = self.connections.get(key).ok_or(Errno::NOTCONN)?;
        match connection.backend {
            Backend::Core(conn) => Ok(conn),
            Backend::Kernel(_) => Err(Errno::OPNOTSUPP),
        }
    }

    /// setsockopt of OPEN, CLOSE, BACKUP and SUBFLOW.
    ///
    /// # Errors
    /// As `mptcp(7)` lists them; then nothing has changed.
    pub(super) fn steer(&mut self, now: Instant, key: Key, option: i32, value: &[u8]) -> Result<(), Errno> {
        let conn = self.core_of(key)?;
        let core = self.core.as_mut().ok_or(Errno::NOTCONN)?;
        let endpoint = &mut core.endpoint;
        let info = endpoint.info(conn).ok_or(Errno::NOTCONN)?;
        match (info.established, info.fallback) {
            (false, _) => return Err(Errno::NOTCONN),
            (true, Some(_)) => return Err(Errno::OPNOTSUPP),
            (true, None) => {}
        }
        let known = |tuple| info.subflows.iter().any(|subflow| subflow.tuple == tuple);
        match option {
            name::OPEN => {
                let (local, rest) = take_address(value).map_err(Errno::from_raw_os_error)?;
                if local.port() != 0 {
                    return Err(Errno::INVAL);
                }
                let remote = match rest {
                    [] => None,
                    _ => Some(pair(value)?.remote),
                };
                endpoint
                    .ask_for_subflow(now, conn, unmap(local).ip(), remote)
                    .map_err(errno)
            }
            name::CLOSE => endpoint.close_subflow(now, conn, pair(value)?).map_err(errno),
            name::BACKUP => {
                let (backup, rest) = take_int(value)?;
                let tuple = pair(rest)?;
                match backup {
                    0 | 1 => endpoint.mark_backup(now, conn, tuple, backup == 1).map_err(errno),
                    _ => Err(Errno::INVAL),
                }
            }
            name::SUBFLOW => {
                let (level, rest) = take_int(value)?;
                let (option, rest) = take_int(rest)?;
                let (tuple, rest) = take_pair(rest)?;
                let (value, _) = take_int(rest)?;
                if !known(tuple) {
                    return Err(Errno::NOENT);
                }
                let ipv6 = tuple.local.is_ipv6();
                change(&mut SubflowManner::default(), level, option, value, ipv6)?;
                let mut apply = |manner: &mut SubflowManner| {
                    // It was tried on another one just now.
                    let _ = change(manner, level, option, value, ipv6);
                };
                endpoint.set_manner(now, conn, tuple, &mut apply).map_err(errno)
            }
            _ => Err(Errno::NOPROTOOPT),
        }
    }

    /// getsockopt of SUBFLOW: level, option, pair, and behind them room for the value, whose bytes are the answer.
    pub(super) fn ask_subflow(&mut self, now: Instant, key: Key, value: &[u8]) -> Result<Vec<u8>, Errno> {
        let conn = self.core_of(key)?;
        let core = self.core.as_ref().ok_or(Errno::NOTCONN)?;
        let info = core.endpoint.info(conn).ok_or(Errno::NOTCONN)?;
        let connection = self.connections.get(key).ok_or(Errno::NOTCONN)?;
        let (level, rest) = take_int(value)?;
        let (option, rest) = take_int(rest)?;
        let (tuple, _) = take_pair(rest)?;
        let subflow = info.subflows.iter().find(|subflow| subflow.tuple == tuple);
        let subflow = subflow.ok_or(Errno::NOENT)?;
        let ipv6 = tuple.local.is_ipv6();
        let conn_options = connection.options.for_core(ipv6);
        let int = |value: i32| Ok(value.to_ne_bytes().to_vec());
        match (level, option) {
            (libc::IPPROTO_TCP, libc::TCP_INFO) => Ok(tcp_info::of_subflow(subflow, now).to_vec()),
            (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => int(subflow.mss as i32),
            (libc::IPPROTO_IP, libc::IP_MTU) if !ipv6 => int(subflow.mtu as i32),
            (libc::IPPROTO_IPV6, libc::IPV6_MTU) if ipv6 => int(subflow.mtu as i32),
            (libc::IPPROTO_IP, libc::IP_TOS) if !ipv6 => int(subflow.manner.tos.unwrap_or(conn_options.tos).into()),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if ipv6 => {
                int(subflow.manner.tos.unwrap_or(conn_options.tos).into())
            }
            (libc::IPPROTO_IP, libc::IP_TTL) if !ipv6 => int(subflow.manner.ttl.unwrap_or(conn_options.ttl).into()),
            (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) if ipv6 => {
                int(subflow.manner.ttl.unwrap_or(conn_options.ttl).into())
            }
            _ => Err(Errno::NOPROTOOPT),
        }
    }

    /// A new event descriptor. What is up already is told first, so that nothing is missed.
    pub(super) fn watch_subflows(&mut self, key: Key) -> Result<OwnedFd, Errno> {
        let conn = self.core_of(key)?;
        let info = self.core.as_ref().and_then(|core| core.endpoint.info(conn));
        let info = info.ok_or(Errno::NOTCONN)?;
        if info.fallback.is_some() {
            return Err(Errno::OPNOTSUPP);
        }
        let connection = self.connections.get_mut(key).ok_or(Errno::NOTCONN)?;
        if connection.watchers.len() >= WATCHERS_MAX {
            return Err(Errno::NOSPC);
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (end, program) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let mut watcher = Watcher { end, lost: false };
        for subflow in info.subflows.iter().filter(|subflow| subflow.up) {
            watcher.tell(Happening::Up, subflow.id.0, connection.shown(subflow.tuple));
        }
        connection.watchers.push(watcher);
        Ok(program)
    }

    /// Something happened to a subflow.
    pub(super) fn tell_watchers(&mut self, key: Key, happening: Happening, subflow: SubflowId, tuple: FourTuple) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let tuple = connection.shown(tuple);
        connection
            .watchers
            .retain_mut(|watcher| watcher.tell(happening, subflow.0, tuple));
    }
}

impl Connection {
    /// Addresses as the program's socket shows them.
    fn shown(&self, tuple: FourTuple) -> FourTuple {
        let map = |address: SocketAddr| map_like(address, self.remote);
        FourTuple {
            local: map(tuple.local),
            remote: map(tuple.remote),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(addresses: &[&str]) -> Vec<u8> {
        let addresses = addresses.iter().map(|a| sockaddr(a.parse().unwrap()));
        addresses.flat_map(|(bytes, len)| bytes[..len].to_vec()).collect()
    }

    #[test]
    fn pairs_are_read_whole_or_not() {
        let value = packed(&["192.0.2.1:5", "192.0.2.2:80"]);
        let tuple = pair(&value).unwrap();
        assert_eq!(tuple.local, "192.0.2.1:5".parse().unwrap());
        for n in 0..value.len() {
            assert_eq!(pair(&value[..n]), Err(Errno::INVAL), "{n} bytes");
        }
        let mapped = packed(&["[::ffff:192.0.2.1]:5", "[::ffff:192.0.2.2]:80"]);
        assert_eq!(pair(&mapped), Ok(tuple));
        let mixed = packed(&["192.0.2.1:5", "[2001:db8::2]:80"]);
        assert_eq!(pair(&mixed), Err(Errno::INVAL));
        let three = packed(&["192.0.2.1:5", "192.0.2.2:80", "192.0.2.3:9"]);
        assert_eq!(pair(&three), Err(Errno::INVAL));
    }

    #[test]
    fn options_of_a_subflow_are_of_its_family_and_range() {
        let mut manner = SubflowManner::default();
        let mut set = |level, option, value, ipv6| change(&mut manner, level, option, value, ipv6);
        assert_eq!(set(libc::IPPROTO_IP, libc::IP_TOS, 0x48, false), Ok(()));
        assert_eq!(set(libc::IPPROTO_IP, libc::IP_TTL, 9, false), Ok(()));
        for value in [0, 256, -2] {
            assert_eq!(set(libc::IPPROTO_IP, libc::IP_TTL, value, false), Err(Errno::INVAL));
        }
        assert_eq!(set(libc::IPPROTO_IP, libc::IP_TOS, 1, true), Err(Errno::NOPROTOOPT));
        assert_eq!(set(libc::SOL_SOCKET, libc::SO_MARK, 1, false), Err(Errno::NOPROTOOPT));
        assert_eq!((manner.tos, manner.ttl), (Some(0x48), Some(9)));
    }

    #[test]
    fn events_that_nobody_reads_are_lost_and_said_to_be() {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (end, program) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let mut watcher = Watcher { end, lost: false };
        let tuple = pair(&packed(&["192.0.2.1:5", "192.0.2.2:80"])).unwrap();
        let mut told = 0;
        while !watcher.lost {
            assert!(watcher.tell(Happening::Up, told, tuple));
            told += 1;
            assert!(told < 100_000, "a socket holds so many");
        }
        let read = || {
            let mut bytes = [0; EVENT_LEN];
            assert_eq!(rustix::io::read(&program, &mut bytes), Ok(EVENT_LEN));
            (bytes[0], u32::from_ne_bytes(bytes[4..8].try_into().unwrap()))
        };
        for expected in 0..told - 1 {
            assert_eq!(read(), (Happening::Up as u8, expected));
        }
        assert!(watcher.tell(Happening::Down, 7, tuple));
        assert_eq!(read(), (Happening::Lost as u8, 0));
        assert_eq!(read(), (Happening::Down as u8, 7));
        drop(program);
        assert!(!watcher.tell(Happening::Up, 1, tuple), "nobody listens");
    }
}

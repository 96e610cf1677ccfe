//! The options of `mptcp.h` on a connection: what the program asks for, kept and carried out.
//!
//! Not here: sockets that are not connected yet; their wishes lie in the kernel socket and come with it (`control/multipath`).

use super::connection::{unmap, Backend, Connection};
use super::event_loop::Key;
use super::relay::Ending;
use super::server::Engine;
use crate::control::multipath::stash::{self, Filter, SO_GET_FILTER};
use crate::control::multipath::{is_steering, name, Names, Socket, Stage, Wishes};
use crate::link::paths::Verdict;
use crate::link::Sources;
use crate::mptcp::endpoint::{ConnInfo, FourTuple, SubflowId};
use crate::time::Instant;
use rustix::io::Errno;
use rustix::net::{bind, socket_with, AddressFamily, SocketFlags, SocketType};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// The wishes that a kernel socket carries; those of a socket with a filter of its own are none.
pub fn read_wishes(socket: BorrowedFd<'_>) -> Wishes {
    let read = stash::read(|room, len| {
        let fd = socket.as_raw_fd();
        // SAFETY: `room` is null with no room, or has as much as `len` says.
        let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, SO_GET_FILTER, room.cast(), len) };
        if result < 0 {
            return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO));
        }
        Ok(())
    });
    read.unwrap_or_default().wishes
}

/// Has a kernel socket carry wishes, where it is to be as the program's was.
pub fn write_wishes(socket: BorrowedFd<'_>, wishes: &Wishes) {
    if *wishes == Wishes::default() {
        return;
    }
    let filter = Filter::new(wishes, None);
    let program = filter.program();
    let len = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let value: *const libc::sock_fprog = &program;
    // SAFETY: the program points to as many instructions as it says, and `filter` lives until the call has returned.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            value.cast(),
            len,
        )
    };
    if result < 0 {
        log::warn!("a socket lost its MPTCP options: {}", std::io::Error::last_os_error());
    }
}

/// What wishes mean to the choice of paths. A specific address that the program has bound is one that it named, and then there are no others
/// than those that it names (RFC 6897 sections 4.2.1 and 5.3.2).
pub fn sources(wishes: &Wishes, bound: Option<SocketAddr>) -> Sources {
    let bound = bound.map(|bound| unmap(bound).ip()).filter(|ip| !ip.is_unspecified());
    let listed = wishes.listed.iter().map(|a| a.ip()).filter(|ip| Some(*ip) != bound);
    Sources {
        restricted: wishes.restricted || bound.is_some(),
        named: bound.into_iter().chain(listed).collect(),
        removed: wishes.removed.iter().map(|a| a.ip()).collect(),
    }
}

/// Whether an address is one of this host's: bind() is the judge.
fn is_local(address: SocketAddr) -> bool {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| bind(&socket, &address))
        .is_ok()
}

impl Connection {
    /// The connection ends with its first subflow.
    fn shares_fate(&self) -> bool {
        self.wishes.fate.unwrap_or(self.defaults.fate)
    }

    /// getpeername() and getsockname() fail in a program that knows MPTCP.
    fn names_fail(&self) -> bool {
        match self.wishes.names {
            Names::Default => self.defaults.names_fail,
            Names::First => false,
            Names::Fail => true,
        }
    }
}

impl Engine {
    /// The accepted socket carries what the listener did (RFC 6897 leaves it open; Linux's accepted sockets inherit too).
    pub(super) fn inherit_wishes(&mut self, now: Instant, key: Key, accepted: BorrowedFd<'_>) {
        let wishes = read_wishes(accepted);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let before = std::mem::replace(&mut *connection.wishes, wishes);
        self.obey(now, key);
        if sources(&wishes, None) != sources(&before, None) {
            self.obey_listeners_list(now, key);
        }
    }

    /// Tells the core what policy a connection has now.
    pub(super) fn obey(&mut self, now: Instant, key: Key) {
        let (Some(connection), Some(core)) = (self.connections.get(key), &mut self.core) else {
            return;
        };
        if let Backend::Core(conn) = connection.backend {
            core.endpoint
                .set_options(now, conn, &mut |options| connection.policy().apply(options));
        }
    }

    /// Tells an accepted connection its paths, of which its listener may have named some.
    pub(super) fn obey_listeners_list(&mut self, now: Instant, key: Key) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let wishes = *connection.wishes;
        if sources(&wishes, None) == Sources::default() {
            self.tell_paths(now, key);
        } else if let Err(error) = self.apply_sources(now, key, &wishes) {
            // It has the path that it came by, and gets no other.
            log::info!("the listener's list of addresses leaves no path: {error}");
        }
    }

    fn stage(&self, connection: &Connection) -> Stage {
        match (&connection.backend, self.conn_info(connection)) {
            (_, Some(info)) if !info.established => Stage::Connecting,
            (Backend::Core(_), Some(info)) if info.fallback.is_none() => Stage::Multipath,
            _ => Stage::Plain,
        }
    }

    /// What the core knows of a connection; None of the kernel's.
    pub(super) fn conn_info(&self, connection: &Connection) -> Option<ConnInfo> {
        match connection.backend {
            Backend::Core(conn) => self.core.as_ref()?.endpoint.info(conn),
            Backend::Kernel(_) => None,
        }
    }

    /// getsockopt of an option of `mptcp.h`, SUBFLOWS excepted: the shim makes that of a picture.
    pub(super) fn get_multipath(&self, key: Key, option: i32) -> Result<u32, Errno> {
        let connection = self.connections.get(key).ok_or(Errno::NOTCONN)?;
        let stage = self.stage(connection);
        match (option, stage) {
            (name::ENABLE, Stage::Connecting) => Ok(u32::from(connection.wishes.enable != Some(false))),
            (name::ENABLE, stage) => Ok(u32::from(stage == Stage::Multipath)),
            (name::CONNID, Stage::Multipath) => self.conn_info(connection).map(|info| info.token).ok_or(Errno::NOTCONN),
            (name::CONNID, Stage::Plain) => Err(Errno::OPNOTSUPP),
            (name::CONNID, _) => Err(Errno::NOTCONN),
            (name::NAMES, _) => Ok(if connection.names_fail() { 2 } else { 1 }),
            (name::FATE, _) => Ok(u32::from(connection.shares_fate())),
            (name::SCHEDULER, _) => Ok(connection.policy().algorithm_numbers().0),
            (name::CONGESTION, _) => Ok(connection.policy().algorithm_numbers().1),
            (name::INTENT, _) => Ok(connection.policy().intent() as u32),
            (name::JOIN, _) => Ok(match connection.policy().join_after() {
                0 => 1,
                u64::MAX => 3,
                _ => 2,
            }),
            _ => Err(Errno::NOPROTOOPT),
        }
    }

    /// setsockopt of an option of `mptcp.h`.
    ///
    /// # Errors
    /// As `mptcp(7)` lists them; then nothing has changed.
    pub(super) fn set_multipath(&mut self, now: Instant, key: Key, option: i32, value: &[u8]) -> Result<(), Errno> {
        if is_steering(option) {
            return self.steer(now, key, option, value);
        }
        let connection = self.connections.get(key).ok_or(Errno::NOTCONN)?;
        let mut wishes = *connection.wishes;
        let mut socket = Socket {
            inet6: connection.remote.is_ipv6(),
            stage: self.stage(connection),
            is_local: &mut is_local,
        };
        let errno = wishes.set(option, value, &mut socket);
        errno.map_err(Errno::from_raw_os_error)?;
        let of_paths = matches!(option, name::BIND | name::ADD | name::REMOVE);
        if of_paths {
            self.apply_sources(now, key, &wishes)?;
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        *connection.wishes = wishes;
        self.obey(now, key);
        if option == name::INTENT {
            self.tell_paths(now, key);
        }
        Ok(())
    }

    /// getsockopt of an option of `mptcp.h` that takes a value, or gives a descriptor.
    pub(super) fn ask_multipath(
        &mut self,
        now: Instant,
        key: Key,
        option: i32,
        value: &[u8],
    ) -> Result<(Vec<u8>, Option<OwnedFd>), Errno> {
        match option {
            name::SUBFLOW => Ok((self.ask_subflow(now, key, value)?, None)),
            name::EVENTS => Ok((Vec::new(), Some(self.watch_subflows(key)?))),
            _ => Err(Errno::NOPROTOOPT),
        }
    }

    /// Gives a live connection the paths that its program's new list leaves.
    ///
    /// # Errors
    /// EBUSY when there would be none: a connection is not left without a subflow.
    fn apply_sources(&mut self, now: Instant, key: Key, wishes: &Wishes) -> Result<(), Errno> {
        let (Some(connection), Some(core)) = (self.connections.get_mut(key), &mut self.core) else {
            return Ok(());
        };
        let Backend::Core(conn) = connection.backend else {
            return Ok(());
        };
        let mut config = connection.path_config.clone();
        config.sources = sources(wishes, connection.bound);
        // Where a path may begin was decided when the connection did: the plain route counts as any other.
        match core.verdict(&connection.query(), &config) {
            Ok(Verdict::Paths { paths, .. }) if !paths.is_empty() => {
                core.endpoint.replace_paths(now, conn, &connection.shaped(paths));
                connection.path_config = config;
                Ok(())
            }
            Ok(_) => Err(Errno::BUSY),
            Err(error) => {
                log::warn!("cannot read the routes: {error}");
                Err(Errno::BUSY)
            }
        }
    }

    /// A subflow has gone; with the first one, the connection of a program that wants it so (RFC 6897 section 4.2.2).
    pub(super) fn share_fate(&mut self, now: Instant, key: Key, subflow: SubflowId, tuple: FourTuple) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let open = connection
            .relay
            .as_ref()
            .is_some_and(|relay| relay.ends() == (false, false));
        if subflow.0 != 0 || !open || !connection.shares_fate() {
            return;
        }
        log::info!("{} ends with its first subflow, {tuple:?}", connection.describe());
        if let (Backend::Core(conn), Some(core)) = (&connection.backend, &mut self.core) {
            core.endpoint.abort(now, *conn);
        }
        self.end(now, key, Ending::Failed(Errno::CONNRESET));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_hosts_addresses_are_those_that_bind_takes() {
        assert!(is_local("127.0.0.1:0".parse().unwrap()));
        assert!(!is_local("192.0.2.1:0".parse().unwrap()));
    }

    #[test]
    fn a_bound_address_is_the_only_one_unless_more_are_named() {
        let mut wishes = Wishes::default();
        let bound = "[::ffff:192.0.2.1]:5000".parse().ok();
        let none = sources(&wishes, "0.0.0.0:5000".parse().ok());
        assert_eq!(none, Sources::default());
        let one = sources(&wishes, bound);
        assert!(one.restricted && one.named.len() == 1);
        let mut always = |_| true;
        let mut socket = Socket {
            inet6: false,
            stage: Stage::Fresh,
            is_local: &mut always,
        };
        let mut address = [0; 16];
        address[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        address[4..8].copy_from_slice(&[198, 51, 100, 1]);
        wishes.set(name::ADD, &address, &mut socket).unwrap();
        assert_eq!(sources(&wishes, bound).named.len(), 2);
    }
}

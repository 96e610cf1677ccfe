//! Who of this host's kernel sockets would get a segment: sock_diag(7), as `ss` uses it.
//!
//! The kernel's own lookup decides, with everything that it considers: specific before wildcard, devices, SO_REUSEPORT groups. So what
//! answers for a port is known exactly at the moment of asking, without holding anything that belongs to a program.

use super::filter::Filter;
use super::netlink::{u16_at, u32_at, Message, Netlink};
use super::sys;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::io;
use std::os::fd::BorrowedFd;

/// SOCK_DIAG_BY_FAMILY of linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// include/net/tcp_states.h.
pub const TCP_LISTEN: u8 = 10;
/// SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY of linux/sock_diag.h.
const DESTROY_GROUPS: [libc::c_int; 2] = [1, 3];
/// "Any cookie": INET_DIAG_NOCOOKIE, twice.
const NO_COOKIE: u64 = u64::MAX;

/// One TCP socket, as the kernel describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpSocket {
    /// State as in include/net/tcp_states.h.
    pub state: u8,
    /// SO_COOKIE.
    pub cookie: u64,
    /// Local port.
    pub port: u16,
    /// Inode of the socket's file; 0 while nobody has accepted it.
    pub inode: u32,
    /// Of a listening socket: connections that wait to be accepted. Of others: bytes to read.
    pub queue: u32,
    /// Of a listening socket: how many may wait, less one. Of others: bytes not acknowledged.
    pub backlog: u32,
}

/// Asks about TCP sockets of this network namespace.
pub struct TcpDiag(Netlink);

impl TcpDiag {
    /// A netlink socket.
    ///
    /// # Errors
    /// EPROTONOSUPPORT and others where the kernel has no sock_diag.
    pub fn new() -> io::Result<TcpDiag> {
        Ok(TcpDiag(Netlink::new(libc::NETLINK_SOCK_DIAG, 0)?))
    }

    /// The socket that gets a segment from `remote` to `local`; None when there is none.
    ///
    /// # Errors
    /// ENOENT excepted, what the kernel says: EOPNOTSUPP or EINVAL without tcp_diag.
    pub fn find(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<TcpSocket>> {
        let request = request(local, remote, u32::MAX);
        match self.0.get(SOCK_DIAG_BY_FAMILY, &request, |message| parse(&message)) {
            Ok(sockets) => Ok(sockets.first().copied()),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every listening socket of one family.
    pub fn listening(&mut self, ipv6: bool) -> io::Result<Vec<TcpSocket>> {
        let any = match ipv6 {
            true => SocketAddr::new(core::net::Ipv6Addr::UNSPECIFIED.into(), 0),
            false => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        };
        let request = request(any, any, 1 << TCP_LISTEN);
        self.0.dump(SOCK_DIAG_BY_FAMILY, &request, |message| parse(&message))
    }
}

/// Hears which TCP sockets of this network namespace that have no peer are gone: the last holder has closed them.
pub struct TcpEnds(Netlink);

impl TcpEnds {
    /// From now on.
    ///
    /// # Errors
    /// Where the kernel does not tell (before Linux 4.3, or without sock_diag).
    pub fn new() -> io::Result<TcpEnds> {
        let netlink = Netlink::new(libc::NETLINK_SOCK_DIAG, 0)?;
        // Before there is anything to hear: connections end all the time.
        Filter::without_peer().attach(netlink.fd())?;
        for group in DESTROY_GROUPS {
            sys::set_int(netlink.fd(), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)?;
        }
        Ok(TcpEnds(netlink))
    }

    /// For the event loop.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    /// Whether one with such a cookie is among those that are gone since the last call. True also when the kernel could not tell all.
    pub fn any(&mut self, mut wanted: impl FnMut(u64) -> bool) -> bool {
        let mut any = false;
        self.0
            .hear(|message| any |= parse(&message).is_some_and(|socket| wanted(socket.cookie)))
            | any
    }
}

/// `struct inet_diag_req_v2`.
fn request(local: SocketAddr, remote: SocketAddr, states: u32) -> Vec<u8> {
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut request = vec![family as u8, libc::IPPROTO_TCP as u8, 0, 0];
    request.extend(states.to_ne_bytes());
    for address in [local, remote] {
        request.extend(address.port().to_be_bytes());
    }
    for address in [local, remote] {
        let mut bytes = [0; 16];
        match address.ip() {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        request.extend(bytes);
    }
    request.extend(0u32.to_ne_bytes());
    request.extend(NO_COOKIE.to_ne_bytes());
    request
}

/// `struct inet_diag_msg`.
fn parse(message: &Message<'_>) -> Option<TcpSocket> {
    let body = message.body;
    let (low, high) = (u32_at(body, 44)?, u32_at(body, 48)?);
    Some(TcpSocket {
        state: *body.get(1)?,
        cookie: u64::from(low) | u64::from(high) << 32,
        port: u16::from_be(u16_at(body, 4)?),
        inode: u32_at(body, 68)?,
        queue: u32_at(body, 56)?,
        backlog: u32_at(body, 60)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn cookie(socket: impl std::os::fd::AsFd) -> u64 {
        rustix::net::sockopt::socket_cookie(socket).expect("a cookie")
    }

    #[test]
    fn a_listener_is_found_while_it_lives() {
        let mut diag = TcpDiag::new().expect("sock_diag");
        for (text, from) in [
            ("127.0.0.1:0", "127.0.0.1:9"),
            ("[::1]:0", "[::1]:9"),
            ("0.0.0.0:0", "127.0.0.1:9"),
        ] {
            let listener = TcpListener::bind(text).expect("a listener");
            rustix::net::listen(&listener, 7).expect("it listens");
            let port = listener.local_addr().expect("bound").port();
            let from: SocketAddr = from.parse().expect("an address");
            let local = SocketAddr::new(from.ip(), port);
            let found = diag.find(local, from).expect("an answer").expect("found");
            assert_eq!(
                (found.state, found.cookie, found.port),
                (TCP_LISTEN, cookie(&listener), port)
            );
            let all = diag.listening(local.is_ipv6()).expect("a table");
            assert!(all.contains(&found));
            assert_eq!((found.queue, found.backlog), (0, 7));
            drop(listener);
            assert_eq!(diag.find(local, from).expect("an answer"), None, "{text}");
        }
    }

    #[test]
    fn nobody_has_accepted_a_socket_without_inode() {
        let mut diag = TcpDiag::new().expect("sock_diag");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let local = listener.local_addr().expect("bound");
        let client = TcpStream::connect(local).expect("connected");
        let remote = client.local_addr().expect("bound");
        let before = diag.find(local, remote).expect("an answer").expect("found");
        assert_eq!(before.inode, 0);
        let (_accepted, _) = listener.accept().expect("accepted");
        let after = diag.find(local, remote).expect("an answer").expect("found");
        assert!(after.inode != 0 && after.cookie == before.cookie);
    }

    #[test]
    fn the_end_of_a_listener_is_heard_and_not_that_of_a_connection() {
        let mut ends = TcpEnds::new().expect("sock_diag");
        for text in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(text).expect("a listener");
            let own = cookie(&listener);
            let copy = listener.try_clone().expect("a descriptor");
            drop(listener);
            let address = copy.local_addr().expect("bound");
            let stream = TcpStream::connect(address).expect("it listens");
            let (accepted, _) = copy.accept().expect("a client");
            let connections = [cookie(&stream), cookie(&accepted)];
            drop((stream, accepted));
            assert!(!ends.any(|cookie| cookie == own), "{text}: a copy is open");
            drop(copy);
            let mut connection = false;
            while !ends.any(|cookie| {
                connection |= connections.contains(&cookie);
                cookie == own
            }) {
                let mut fds = [rustix::event::PollFd::from_borrowed_fd(
                    ends.fd(),
                    rustix::event::PollFlags::IN,
                )];
                let timeout = rustix::fs::Timespec { tv_sec: 20, tv_nsec: 0 };
                assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)), Ok(1), "{text}");
            }
            assert!(!connection, "{text}");
        }
    }
}

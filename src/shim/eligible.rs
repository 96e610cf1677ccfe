//! Which connects are left to the kernel. Each question is one cheap system call at most; the first "no" decides.

use super::memory;
use super::sys;
use super::table::{self, Ownership};
use super::{config, multipath, start};
use crate::control::options::{TCP_REPAIR, TCP_ULP};
use crate::control::{heuristic_off, Bypass};
use core::ffi::{c_int, c_void};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// TCP's own default (net.ipv4.tcp_wmem); who sets less wants little buffered, and a shadow buffers much.
const SEND_BUFFER_MIN: c_int = 16384;
/// What getsockopt says of a buffer that is small: two paths that differ by 20 ms and carry 10 Mbit/s need more.
const RECEIVE_BUFFER_MIN: c_int = 32768;
/// include/net/tcp_states.h.
const TCP_CLOSE: u8 = 7;

/// A sockaddr of the program's, if it is one of AF_INET or AF_INET6 and of a length that the kernel takes.
///
/// # Safety
/// `addr` is what connect() would be given.
pub unsafe fn read_address(addr: *const c_void, len: usize) -> Option<SocketAddr> {
    let mut bytes = [0; size_of::<libc::sockaddr_in6>()];
    if len > size_of::<libc::sockaddr_storage>() {
        return None;
    }
    let given = len.min(bytes.len());
    // SAFETY: the caller's promise.
    unsafe { memory::copy_in(addr.cast(), &mut bytes[..given]) }.ok()?;
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    match c_int::from(u16::from_ne_bytes([bytes[0], bytes[1]])) {
        libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => {
            Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(word(4)), port)))
        }
        libc::AF_INET6 if len >= bytes.len() => {
            let mut ip = [0; 16];
            ip.copy_from_slice(&bytes[8..24]);
            let (flow, scope) = (u32::from_ne_bytes(word(4)), u32::from_ne_bytes(word(24)));
            Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope)))
        }
        _ => None,
    }
}

/// Judges a destination; `loopback`: this host's connections to itself are wanted.
pub fn destination(remote: SocketAddr, loopback: bool) -> Result<(), Bypass> {
    let only_kernel = match remote.ip().to_canonical() {
        IpAddr::V4(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    };
    if remote.port() == 0 {
        Err(Bypass::OddAddress)
    } else if only_kernel || (remote.ip().to_canonical().is_loopback() && !loopback) {
        Err(Bypass::Loopback)
    } else {
        Ok(())
    }
}

/// Judges the socket, which `connect` was called for with an address of the family of `remote`. Its file status flags when it is ours to take.
pub fn socket(fd: c_int, remote: SocketAddr) -> Result<c_int, Bypass> {
    if config::get().off {
        return Err(Bypass::TurnedOff);
    }
    if start::sandboxed() {
        return Err(Bypass::Sandboxed);
    }
    match table::ownership(fd) {
        Ownership::Sole => {}
        Ownership::MaybeShared => return Err(Bypass::Shared),
        Ownership::Odd => return Err(Bypass::TcpFeature),
    }
    let family = if remote.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    if sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_DOMAIN) != Ok(family) {
        return Err(Bypass::OddAddress);
    }
    fresh(fd)?;
    options(fd)?;
    let flags = sys::fcntl(fd, libc::F_GETFL, 0).map_err(|_| Bypass::NotTcp)?;
    if flags & libc::O_ASYNC != 0 {
        return Err(Bypass::AsyncIo);
    }
    Ok(flags)
}

/// Judges a socket that is about to listen.
pub fn listener(fd: c_int) -> Result<(), Bypass> {
    if config::get().off {
        return Err(Bypass::TurnedOff);
    }
    if config::get().listen_off {
        return Err(Bypass::ListenOff);
    }
    if start::sandboxed() {
        return Err(Bypass::Sandboxed);
    }
    match table::made_here(fd) {
        Ownership::Sole => {}
        Ownership::MaybeShared => return Err(Bypass::Shared),
        Ownership::Odd => return Err(Bypass::TcpFeature),
    }
    fresh(fd)?;
    options(fd)
}

/// Unconnected and not listening: TCP_INFO's first byte is the state.
fn fresh(fd: c_int) -> Result<(), Bypass> {
    let mut state = [0u8; 1];
    match sys::getsockopt_bytes(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut state) {
        Ok(1) if state[0] == TCP_CLOSE => Ok(()),
        Ok(_) => Err(Bypass::NotFresh),
        Err(_) => Err(Bypass::NotTcp),
    }
}

/// Options that a shadow cannot have, and what is said about them.
const ONLY_KERNEL: &[(c_int, c_int, Bypass)] = &[
    (libc::SOL_SOCKET, libc::SO_ZEROCOPY, Bypass::ZeroCopy),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMP, Bypass::Timestamps),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, Bypass::Timestamps),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPING, Bypass::Timestamps),
    (libc::IPPROTO_TCP, TCP_REPAIR, Bypass::TcpFeature),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, Bypass::FastOpen),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT, Bypass::Transparent),
    (libc::IPPROTO_IP, libc::IP_FREEBIND, Bypass::Transparent),
    (libc::IPPROTO_IP, libc::IP_RECVERR, Bypass::TcpFeature),
];

/// Options whose mere length says that they are set.
const ONLY_KERNEL_WHEN_LONG: &[(c_int, c_int, Bypass)] = &[
    (libc::SOL_SOCKET, libc::SO_BINDTODEVICE, Bypass::BoundToDevice),
    (libc::IPPROTO_TCP, TCP_ULP, Bypass::TcpFeature),
    (libc::IPPROTO_IP, libc::IP_OPTIONS, Bypass::IpOptions),
];

fn options(fd: c_int) -> Result<(), Bypass> {
    for &(level, name, reason) in ONLY_KERNEL {
        // An option that this kernel does not know is not set.
        if sys::getsockopt_int(fd, level, name).unwrap_or(0) != 0 {
            return Err(reason);
        }
    }
    for &(level, name, reason) in ONLY_KERNEL_WHEN_LONG {
        let mut value = [0; 64];
        if sys::getsockopt_bytes(fd, level, name, &mut value).unwrap_or(0) != 0 {
            return Err(reason);
        }
    }
    small_buffers(fd)
}

/// RFC 6897 section 4.4.3: who asks for a small buffer asks for no MPTCP. Unless it was asked for, or `MPTCP_HEURISTICS` has `-buffers`.
fn small_buffers(fd: c_int) -> Result<(), Bypass> {
    let ignored = heuristic_off(
        config::get().setting(b"MPTCP_HEURISTICS").unwrap_or_default(),
        b"buffers",
    );
    let below = |name, least| sys::getsockopt_int(fd, libc::SOL_SOCKET, name).is_ok_and(|size| size < least);
    let reason = if below(libc::SO_SNDBUF, SEND_BUFFER_MIN) {
        Bypass::SmallSendBuffer
    } else if below(libc::SO_RCVBUF, RECEIVE_BUFFER_MIN) {
        Bypass::SmallReceiveBuffer
    } else {
        return Ok(());
    };
    match ignored || multipath::is_asked_for(fd) {
        true => Ok(()),
        false => Err(reason),
    }
}

/// Options that cannot be read back and that only the kernel has: noted when set.
pub fn is_odd(level: c_int, name: c_int) -> bool {
    const TCP_MD5SIG: c_int = 14;
    const TCP_MD5SIG_EXT: c_int = 32;
    const TCP_AO_ADD_KEY: c_int = 38;
    const TCP_AO_INFO: c_int = 40;
    match level {
        libc::IPPROTO_TCP => matches!(name, TCP_MD5SIG | TCP_MD5SIG_EXT | TCP_AO_ADD_KEY..=TCP_AO_INFO),
        libc::SOL_SOCKET => matches!(name, libc::SO_ATTACH_FILTER | libc::SO_ATTACH_BPF),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    #[test]
    fn destinations_of_this_host_alone_are_the_kernels() {
        for a in [
            "127.0.0.1:1",
            "127.255.255.255:1",
            "0.0.0.0:1",
            "255.255.255.255:1",
            "224.0.0.1:1",
            "[::1]:1",
            "[::]:1",
            "[::ffff:127.0.0.1]:1",
            "[ff02::1]:1",
        ] {
            let address: SocketAddr = a.parse().expect("an address");
            assert_eq!(destination(address, false), Err(Bypass::Loopback), "{a}");
            let wanted = destination(address, true).is_ok();
            assert_eq!(wanted, address.ip().to_canonical().is_loopback(), "{a}");
        }
        for a in [
            "192.0.2.1:1",
            "[2001:db8::1]:1",
            "[fe80::1%2]:1",
            "[::ffff:192.0.2.1]:1",
        ] {
            assert_eq!(destination(a.parse().expect("an address"), false), Ok(()), "{a}");
        }
        assert_eq!(
            destination("192.0.2.1:0".parse().expect("an address"), false),
            Err(Bypass::OddAddress)
        );
    }

    #[test]
    fn addresses_are_read_at_their_length() {
        // SAFETY: all-zero bytes are a sockaddr_in.
        let mut a: libc::sockaddr_in = unsafe { core::mem::zeroed() };
        a.sin_family = libc::AF_INET as u16;
        a.sin_port = 80u16.to_be();
        a.sin_addr.s_addr = u32::from_be_bytes([192, 0, 2, 1]).to_be();
        // SAFETY: the structure is readable for its size.
        let read = |len| unsafe { read_address((&raw const a).cast(), len) };
        assert_eq!(read(16), Some("192.0.2.1:80".parse().expect("an address")));
        assert_eq!(read(15), None);
        assert_eq!(read(1), None);
        // SAFETY: null is allowed.
        assert_eq!(unsafe { read_address(core::ptr::null(), 16) }, None);
    }

    #[test]
    fn a_listening_socket_is_not_fresh_and_options_are_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        assert_eq!(fresh(listener.as_raw_fd()), Err(Bypass::NotFresh));
        assert_eq!(options(listener.as_raw_fd()), Ok(()));
        for (level, name, reason) in [
            (libc::SOL_SOCKET, libc::SO_TIMESTAMP, Bypass::Timestamps),
            (libc::IPPROTO_IP, libc::IP_FREEBIND, Bypass::Transparent),
            (libc::SOL_SOCKET, libc::SO_ZEROCOPY, Bypass::ZeroCopy),
        ] {
            let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0).expect("a socket");
            assert_eq!(fresh(fd), Ok(()));
            assert_eq!(options(fd), Ok(()));
            sys::setsockopt_bytes(fd, level, name, &1i32.to_ne_bytes()).expect("it can be set");
            assert_eq!(options(fd), Err(reason));
            sys::close(fd);
        }
    }
}

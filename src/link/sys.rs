//! The few socket calls that links, guards and routes share, in safe clothes. No policy here.

use core::ffi::c_int;
use core::mem::size_of;
use core::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `result` of a system call, or its errno.
pub(super) fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// socket(2), non-blocking and close-on-exec.
pub(super) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol) };
    check(fd as isize)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// AF_INET or AF_INET6.
pub(super) fn domain(addr: IpAddr) -> c_int {
    match addr {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    }
}

/// setsockopt(2) with a plain C value.
pub(super) fn set_option<T: Copy>(fd: impl AsFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is readable for `len` bytes, and the kernel only reads them.
    let result = unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), level, name, (value as *const T).cast(), len) };
    check(result as isize).map(drop)
}

/// setsockopt(2) with an int.
pub(super) fn set_int(fd: impl AsFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    set_option(fd, level, name, &value)
}

/// Raises both buffers of a socket to `bytes`, beyond the sysctl limits where we may, and else as far as they allow.
pub(super) fn set_buffers(fd: impl AsFd, bytes: c_int) {
    let fd = fd.as_fd();
    for (force, plain) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ] {
        if set_int(fd, libc::SOL_SOCKET, force, bytes).is_err() {
            // Cannot fail on a socket; a smaller buffer would only cost losses.
            let _ = set_int(fd, libc::SOL_SOCKET, plain, bytes);
        }
    }
}

/// Whether this network namespace has an interface of this name now.
pub fn interface_exists(name: &str) -> bool {
    // SAFETY: reads the string, which ends with NUL.
    CString::new(name).is_ok_and(|name| unsafe { libc::if_nametoindex(name.as_ptr()) } != 0)
}

/// Binds a socket to an interface index, or unbinds it with 0.
pub(super) fn bind_to_interface(fd: impl AsFd, index: u32) -> io::Result<()> {
    let index = c_int::try_from(index).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    set_int(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, index)
}

/// bind(2). rustix is used for the address calls: its encoding of addresses is right for every family.
pub(super) fn bind(fd: impl AsFd, addr: SocketAddr) -> io::Result<()> {
    Ok(rustix::net::bind(fd, &addr)?)
}

/// connect(2).
pub(super) fn connect(fd: impl AsFd, addr: SocketAddr) -> io::Result<()> {
    Ok(rustix::net::connect(fd, &addr)?)
}

/// getsockname(2) of an internet socket; EAFNOSUPPORT for another family.
pub(super) fn local_addr(fd: impl AsFd) -> io::Result<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(fd)?).map_err(|_| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

/// A socket address in the kernel's form, in place, so that message headers can point at it.
#[derive(Clone, Copy)]
pub(super) enum RawAddr {
    /// IPv4.
    V4(libc::sockaddr_in),
    /// IPv6.
    V6(libc::sockaddr_in6),
}

impl RawAddr {
    /// `addr` with port 0, as raw sockets want it; `scope` matters for link-local IPv6 addresses only.
    pub(super) fn host(addr: IpAddr, scope: u32) -> RawAddr {
        match addr {
            IpAddr::V4(v4) => RawAddr::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: 0,
                sin_addr: in_addr(v4),
                sin_zero: [0; 8],
            }),
            IpAddr::V6(v6) => RawAddr::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: 0,
                sin6_flowinfo: 0,
                sin6_addr: in6_addr(v6),
                sin6_scope_id: if v6.is_unicast_link_local() { scope } else { 0 },
            }),
        }
    }

    /// Pointer and length for a message header. The pointer is valid while `self` stays where it is.
    pub(super) fn as_ptr(&mut self) -> (*mut core::ffi::c_void, libc::socklen_t) {
        match self {
            RawAddr::V4(a) => (
                (a as *mut libc::sockaddr_in).cast(),
                size_of::<libc::sockaddr_in>() as _,
            ),
            RawAddr::V6(a) => (
                (a as *mut libc::sockaddr_in6).cast(),
                size_of::<libc::sockaddr_in6>() as _,
            ),
        }
    }
}

/// An IPv4 address in the kernel's form.
pub(super) fn in_addr(addr: core::net::Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from_ne_bytes(addr.octets()),
    }
}

/// An IPv6 address in the kernel's form.
pub(super) fn in6_addr(addr: core::net::Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr { s6_addr: addr.octets() }
}

/// A socket address whose scope is `iface` if it is link-local.
pub(super) fn socket_addr(addr: IpAddr, port: u16, iface: u32) -> SocketAddr {
    match addr {
        IpAddr::V4(v4) => SocketAddr::V4(SocketAddrV4::new(v4, port)),
        IpAddr::V6(v6) => {
            let scope = if v6.is_unicast_link_local() { iface } else { 0 };
            SocketAddr::V6(SocketAddrV6::new(v6, port, 0, scope))
        }
    }
}

/// A random number below `n`, from the kernel's generator; 0 for n = 0.
pub(super) fn random_below(n: u32) -> io::Result<u32> {
    let number = getrandom::u64().map_err(io::Error::other)?;
    Ok((number % u64::from(n.max(1))) as u32)
}

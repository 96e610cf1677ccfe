//! The socket options that have to survive a change of socket: engine and shim read the same list from the program's kernel socket.
//!
//! The engine reads them from the passed socket when a connection begins (what it cannot keep is a [`super::Bypass`]); the shim replays them on
//! a fresh kernel socket after a failed or undone connect. Options that make the shim leave a socket to the kernel are not here.

/// One option: `level` and `name` as for getsockopt, `len` the size of its value in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketOption {
    /// SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP or IPPROTO_IPV6.
    pub level: i32,
    /// The option.
    pub name: i32,
    /// Size of its value, bytes.
    pub len: usize,
    /// AF_INET6 sockets only.
    pub inet6: bool,
    /// getsockopt gives twice what setsockopt takes (SO_SNDBUF, SO_RCVBUF).
    pub doubled: bool,
}

const fn option(level: i32, name: i32, len: usize) -> SocketOption {
    SocketOption {
        level,
        name,
        len,
        inet6: false,
        doubled: false,
    }
}

const fn buffer(name: i32) -> SocketOption {
    SocketOption {
        doubled: true,
        ..option(libc::SOL_SOCKET, name, 4)
    }
}

const fn inet6(name: i32) -> SocketOption {
    SocketOption {
        inet6: true,
        ..option(libc::IPPROTO_IPV6, name, 4)
    }
}

/// Bytes of the longest value in [`KEPT`].
pub const KEPT_LEN_MAX: usize = 16;

/// What a fresh socket gets from the old one, in an order in which it can be set.
pub const KEPT: &[SocketOption] = &[
    option(libc::SOL_SOCKET, libc::SO_REUSEADDR, 4),
    option(libc::SOL_SOCKET, libc::SO_REUSEPORT, 4),
    option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 4),
    option(libc::SOL_SOCKET, libc::SO_OOBINLINE, 4),
    option(libc::SOL_SOCKET, libc::SO_DONTROUTE, 4),
    option(libc::SOL_SOCKET, libc::SO_LINGER, 8),
    option(libc::SOL_SOCKET, libc::SO_PRIORITY, 4),
    option(libc::SOL_SOCKET, libc::SO_MARK, 4),
    option(libc::SOL_SOCKET, libc::SO_RCVLOWAT, 4),
    option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, 16),
    option(libc::SOL_SOCKET, libc::SO_SNDTIMEO, 16),
    buffer(libc::SO_SNDBUF),
    buffer(libc::SO_RCVBUF),
    option(libc::IPPROTO_TCP, libc::TCP_NODELAY, 4),
    option(libc::IPPROTO_TCP, libc::TCP_MAXSEG, 4),
    option(libc::IPPROTO_TCP, libc::TCP_CORK, 4),
    option(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 4),
    option(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 4),
    option(libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 4),
    option(libc::IPPROTO_TCP, libc::TCP_SYNCNT, 4),
    option(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 4),
    option(libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, 4),
    option(libc::IPPROTO_TCP, libc::TCP_CONGESTION, 16),
    option(libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 4),
    option(libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, 4),
    // Hints: how long a half-closed connection lingers, and how soon to acknowledge, and to repeat, is the core's own affair.
    option(libc::IPPROTO_TCP, libc::TCP_LINGER2, 4),
    option(libc::IPPROTO_TCP, libc::TCP_QUICKACK, 4),
    option(libc::IPPROTO_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS, 4),
    option(libc::IPPROTO_TCP, TCP_INQ, 4),
    option(libc::IPPROTO_IP, libc::IP_TOS, 4),
    option(libc::IPPROTO_IP, libc::IP_TTL, 4),
    option(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, 4),
    option(libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 4),
    // It is about bind() alone; one that comes before that leaves the socket to the kernel.
    option(libc::IPPROTO_IP, libc::IP_FREEBIND, 4),
    inet6(libc::IPV6_V6ONLY),
    inet6(libc::IPV6_UNICAST_HOPS),
    inet6(libc::IPV6_TCLASS),
    inet6(libc::IPV6_MTU_DISCOVER),
    // Of what these ask for, TCP sockets tell nothing in recvmsg().
    option(libc::IPPROTO_IP, libc::IP_RECVTOS, 4),
    option(libc::IPPROTO_IP, libc::IP_RECVTTL, 4),
    option(libc::IPPROTO_IP, libc::IP_PKTINFO, 4),
    inet6(libc::IPV6_RECVTCLASS),
    inet6(libc::IPV6_RECVHOPLIMIT),
    inet6(libc::IPV6_RECVPKTINFO),
];

/// TCP_REPAIR, TCP_ULP and TCP_INQ of linux/tcp.h.
pub const TCP_REPAIR: i32 = 19;
/// As above.
pub const TCP_ULP: i32 = 31;
/// As above.
pub const TCP_INQ: i32 = 36;

/// Options that a socket does not have when it comes to the engine, and does not get there: the shim leaves a socket that has one to the
/// kernel, and setting one later is refused. So they are known to be as on a new socket.
pub const NEVER_SET: &[(i32, i32)] = &[
    (libc::IPPROTO_TCP, TCP_REPAIR),
    (libc::IPPROTO_TCP, TCP_ULP),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_socket_has_every_option_at_its_length() {
        for option in KEPT {
            assert!(option.len <= KEPT_LEN_MAX);
            // SAFETY: a plain system call; the descriptor is closed below.
            let fd = unsafe { libc::socket(libc::AF_INET6, libc::SOCK_STREAM, 0) };
            assert!(fd >= 0);
            let mut value = [0u8; KEPT_LEN_MAX];
            let mut len = option.len as libc::socklen_t;
            // SAFETY: `value` is writable for `len` bytes, checked above.
            let r = unsafe { libc::getsockopt(fd, option.level, option.name, value.as_mut_ptr().cast(), &mut len) };
            // SAFETY: the descriptor is ours.
            unsafe { libc::close(fd) };
            assert_eq!((r, len as usize), (0, option.len), "{option:?}");
        }
    }
}

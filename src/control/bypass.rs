//! Why a connection is left to the kernel's own TCP: one list for the shim's log, the engine's answer and `mptcp status`.

macro_rules! bypass {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a connection is left to the kernel's own TCP.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u16)]
        pub enum Bypass {
            $($(#[$doc])* $name = $code,)*
        }

        impl Bypass {
            /// Every reason.
            pub const ALL: &'static [Bypass] = &[$(Bypass::$name),*];

            /// The reason with this number on the wire.
            pub fn from_code(code: u16) -> Option<Bypass> {
                match code {
                    $($code => Some(Bypass::$name),)*
                    _ => None,
                }
            }

            /// For a person: completes "left to the kernel: …".
            pub fn text(self) -> &'static str {
                match self {
                    $(Bypass::$name => $text,)*
                }
            }
        }
    };
}

bypass! {
    /// Not an AF_INET or AF_INET6 stream socket of TCP.
    NotTcp = 1, "not a TCP socket";
    /// The destination's family is not the socket's, or the address is too short: the kernel knows the error.
    OddAddress = 2, "the kernel must judge this address";
    /// 127.0.0.0/8, ::1, unspecified, multicast or broadcast.
    Loopback = 3, "loopback, unspecified or multicast destination";
    /// MPTCP=off, or the setting of a policy.
    TurnedOff = 4, "turned off";
    /// The socket is not unconnected: connecting, connected or listening.
    NotFresh = 5, "the kernel already uses the socket";
    /// Other descriptors or processes may hold the same description.
    Shared = 6, "the socket may be shared with others";
    /// SO_ZEROCOPY.
    ZeroCopy = 7, "SO_ZEROCOPY is set";
    /// O_ASYNC, or an owner for SIGIO.
    AsyncIo = 8, "O_ASYNC or F_SETOWN is set";
    /// SO_TIMESTAMP, SO_TIMESTAMPNS or SO_TIMESTAMPING.
    Timestamps = 9, "socket timestamps are on";
    /// TCP_REPAIR, TCP_MD5SIG, TCP_AO, TCP_ULP, an attached filter.
    TcpFeature = 10, "a TCP feature of the kernel's is on (repair, MD5, ULP, filter)";
    /// TCP_FASTOPEN_CONNECT or MSG_FASTOPEN.
    FastOpen = 11, "TCP Fast Open";
    /// IP_TRANSPARENT or IP_FREEBIND.
    Transparent = 12, "a foreign source address (IP_TRANSPARENT, IP_FREEBIND)";
    /// SO_BINDTODEVICE.
    BoundToDevice = 13, "bound to a device";
    /// IP options, routing headers, source-route options.
    IpOptions = 14, "IP options are set";
    /// SO_SNDBUF of who wants little buffered (RFC 6897 section 4.4.3).
    SmallSendBuffer = 15, "SO_SNDBUF is too small for several paths";
    /// It is in an epoll whose registration cannot be moved.
    Epoll = 16, "an epoll registration cannot be moved";
    /// The program confined itself with seccomp: our system calls could kill it.
    Sandboxed = 17, "the program confined itself with seccomp";
    /// /proc, or the library's file, cannot be reached.
    NoLibrary = 18, "the engine's file cannot be reached";
    /// The engine was started and did not come up.
    NoEngine = 19, "no engine";
    /// The engine did not answer, or nonsense.
    EngineFault = 20, "the engine failed to answer";
    /// Descriptors, memory.
    NoResources = 21, "out of descriptors or memory";
    /// MPTCP_LISTEN=0.
    ListenOff = 22, "listening is turned off (MPTCP_LISTEN=0)";
    /// SO_ATTACH_FILTER was refused.
    NoFilter = 23, "the system does not let us keep the kernel from answering (CAP_NET_ADMIN)";
    /// bind() to an address, by a program that did not ask for MPTCP (RFC 6897 section 4.2.1).
    BoundAddress = 24, "bound to a local address";
    /// An address of this host.
    OwnAddress = 40, "an address of this host";
    /// No route: the kernel's own connect gives the error.
    NoRoute = 41, "no route";
    /// The engine has no link it could use (CAP_NET_RAW).
    NoLink = 42, "no link is available (CAP_NET_RAW)";
    /// Policy excludes the destination, or the route's interface.
    Policy = 43, "excluded by policy";
    /// The destination recently did not speak MPTCP.
    PeerPlain = 44, "the peer recently did not speak MPTCP";
    /// The passed socket does not prove its address and port.
    Unproven = 45, "the socket does not prove its address";
    /// The engine is at a limit or going down.
    Busy = 46, "the engine is at its limit";
    /// A socket option that the engine cannot keep.
    Option = 47, "a socket option that only the kernel has";
    /// The engine may not hold a port for the connection.
    NoPrivilege = 48, "the engine lacks a privilege to hold the port";
    /// sock_diag does not answer.
    NoDiag = 50, "the kernel does not tell who listens (sock_diag)";
    /// SO_RCVBUF below what several paths need (RFC 6897 section 4.4.3).
    SmallReceiveBuffer = 52, "SO_RCVBUF is too small for several paths";
    /// No port is free towards the destination.
    NoPort = 49, "no port is free";
    /// An address of this host, where no program listens through this engine.
    NotOurListener = 51, "an address of this host, where the kernel answers";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_as_their_reason() {
        for &reason in Bypass::ALL {
            assert_eq!(Bypass::from_code(reason as u16), Some(reason));
            assert!(!reason.text().is_empty());
        }
        assert_eq!(Bypass::from_code(0), None);
    }
}

"""What the Python programs of this directory share: options of TCP and IP by the names that their arguments use, and HTTP's beginning."""
import socket

TCP = socket.IPPROTO_TCP
OPTIONS = {
    "tos": (socket.IPPROTO_IP, socket.IP_TOS), "ttl": (socket.IPPROTO_IP, socket.IP_TTL),
    "mark": (socket.SOL_SOCKET, socket.SO_MARK), "rcvbuf": (socket.SOL_SOCKET, socket.SO_RCVBUF),
    "maxseg": (TCP, socket.TCP_MAXSEG), "clamp": (TCP, socket.TCP_WINDOW_CLAMP), "nodelay": (TCP, socket.TCP_NODELAY),
    "syncnt": (TCP, socket.TCP_SYNCNT), "timeout": (TCP, socket.TCP_USER_TIMEOUT),
    "keepalive": (socket.SOL_SOCKET, socket.SO_KEEPALIVE), "keepidle": (TCP, socket.TCP_KEEPIDLE),
    "keepintvl": (TCP, socket.TCP_KEEPINTVL), "keepcnt": (TCP, socket.TCP_KEEPCNT),
}
# The same on IPv6.
OPTIONS_V6 = OPTIONS | {
    "tos": (socket.IPPROTO_IPV6, socket.IPV6_TCLASS), "ttl": (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
}


def words(arguments, moment):
    """Of arguments as `before:tos=16` those of a moment: names and values."""
    for argument in arguments:
        when, _, rest = argument.partition(":")
        if when == moment:
            name, _, value = rest.partition("=")
            yield name, value


def read_head(connection):
    """An HTTP request or answer to the empty line, and what came behind it; nothing at the end of the connection."""
    came = b""
    while b"\r\n\r\n" not in came:
        more = connection.recv(4096)
        if not more:
            return b"", b""
        came += more
    head, _, rest = came.partition(b"\r\n\r\n")
    return head, rest

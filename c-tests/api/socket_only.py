"""The options of mptcp.h from Python, with nothing but its socket module: numbers as in the header."""
import socket
import struct
import sys

TCP_MULTIPATH_ENABLE = 0x689701
TCP_MULTIPATH_BIND = 0x689702
TCP_MULTIPATH_SUBFLOWS = 0x689705
TCP_MULTIPATH_CONNID = 0x689706
PAIR = 2 * 16


def address(ip):
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(ip))


def subflows(s):
    pairs = s.getsockopt(socket.IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, 1000)
    return [
        (socket.inet_ntoa(pairs[at + 4:at + 8]), socket.inet_ntoa(pairs[at + 20:at + 24]))
        for at in range(0, len(pairs), PAIR)
    ]


server, port = sys.argv[1], int(sys.argv[2])
with socket.socket() as s:
    assert s.getsockopt(socket.IPPROTO_TCP, TCP_MULTIPATH_ENABLE) == 1
    s.setsockopt(socket.IPPROTO_TCP, TCP_MULTIPATH_BIND, address("192.0.2.1"))
    s.connect((server, port))
    s.sendall(b"GET /5000000 HTTP/1.0\r\n\r\n")
    assert s.getsockopt(socket.IPPROTO_TCP, TCP_MULTIPATH_CONNID) != 0
    assert subflows(s) == [("192.0.2.1", server)], subflows(s)
    s.setsockopt(socket.IPPROTO_TCP, TCP_MULTIPATH_BIND, address("192.0.2.1") + address("198.51.100.1"))
    came, seen = 0, set()
    while data := s.recv(65536):
        came += len(data)
        seen.update(local for local, _ in subflows(s)) if came < 4_000_000 else None
    assert came > 5_000_000 and seen == {"192.0.2.1", "198.51.100.1"}, (came, seen)
    try:
        s.setsockopt(socket.IPPROTO_TCP, TCP_MULTIPATH_BIND, address("203.0.113.200"))
        raise AssertionError("a foreign address was taken")
    except OSError as error:
        assert error.errno is not None

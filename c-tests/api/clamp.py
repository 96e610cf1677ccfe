"""A window that is bounded in mid-connection. Arguments: server, port, the bound. Downloads; after the first part sets TCP_WINDOW_CLAMP, and
prints a line of JSON: what getsockopt() says then, and the errno of clamp 0."""
import json
import socket
import sys

from common import read_head

LEN, FIRST = 3_000_000, 1_500_000
clamp = (socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP)
s = socket.socket()
# Where a program leaves the buffer to the kernel, its tuning soon overrules the bound.
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
s.connect((sys.argv[1], int(sys.argv[2])))
s.sendall(b"GET /%d HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n" % LEN)
_, body = read_head(s)
came = len(body)
while came < FIRST:
    came += len(s.recv(65536))
s.setsockopt(*clamp, int(sys.argv[3]))
said = s.getsockopt(*clamp)
none = 0
try:
    s.setsockopt(*clamp, 0)
except OSError as error:
    none = error.errno
while more := s.recv(65536):
    came += len(more)
assert came == LEN, came
print(json.dumps({"clamp": said, "none": none}))

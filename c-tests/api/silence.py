"""How long a program waits for a peer that has fallen silent. Arguments: server, port, a directory, what to do, and options as `keepcnt=2`, which
are set before connect() otherwise.

`connect`: connects. `connect-late`: connects, and sets the options when that has begun. `listen`: has a connection, says so by a file `ready`,
waits for a file `go`, and then for the peer. `send`: the same, but sends a few bytes first. Prints a line of JSON: the errno of the end, the
seconds until then, and what getsockopt() says of the options."""
import errno
import json
import os
import select
import socket
import sys
import time

from common import OPTIONS, read_head

PATIENCE = 60

server, port, directory, what = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
chosen = dict(word.split("=") for word in sys.argv[5:])
s = socket.socket()


def set_options():
    for name, value in chosen.items():
        s.setsockopt(*OPTIONS[name], int(value))


if what != "connect-late":
    set_options()
begin = time.monotonic()
end = 0
try:
    if what == "connect-late":
        s.setblocking(False)
        end = s.connect_ex((server, port))
        assert end == errno.EINPROGRESS, end
        set_options()
        select.select([], [s], [], PATIENCE)
        end = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    else:
        s.connect((server, port))
    if what in ("listen", "send"):
        s.sendall(b"GET /1000 HTTP/1.1\r\nHost: lab\r\n\r\n")
        _, body = read_head(s)
        while len(body) < 1000:
            more = s.recv(65536)
            assert more, body
            body += more
        open(os.path.join(directory, "ready"), "w").close()
        while not os.path.exists(os.path.join(directory, "go")):
            time.sleep(0.005)
        begin = time.monotonic()
        if what == "send":
            s.sendall(b"GET /1000 HT")
        s.settimeout(PATIENCE)
        while s.recv(65536):
            pass
except OSError as error:
    end = error.errno or errno.EAGAIN
print(json.dumps({
    "errno": end, "seconds": time.monotonic() - begin,
    "options": {name: s.getsockopt(*OPTIONS[name]) for name in chosen},
}))

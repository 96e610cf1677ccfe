"""How small writes leave. Arguments: server, port, and `nodelay`, `nagle`, `cork` or `cork-nodelay`. Each connection writes ten bytes, waits PAUSE,
and writes ten more, long before anything can be acknowledged. A slow machine makes the wait longer than it should be: then another connection
tries again. Prints the port of the one that counts."""
import socket
import sys
import time

PAUSE, PAUSE_MAX = 0.03, 0.12
TCP = socket.IPPROTO_TCP
way = sys.argv[3]

for _ in range(20):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    if "nodelay" in way:
        s.setsockopt(TCP, socket.TCP_NODELAY, 1)
        assert s.getsockopt(TCP, socket.TCP_NODELAY) == 1
    if "cork" in way:
        s.setsockopt(TCP, socket.TCP_CORK, 1)
        assert s.getsockopt(TCP, socket.TCP_CORK) == 1
    begin = time.monotonic()
    s.sendall(b"GET /1000 ")
    time.sleep(PAUSE)
    s.sendall(b"HTTP/1.0\r\n")
    time.sleep(PAUSE)
    if "cork" in way:
        s.setsockopt(TCP, socket.TCP_CORK, 0)
        assert s.getsockopt(TCP, socket.TCP_CORK) == 0
    took = time.monotonic() - begin
    port = s.getsockname()[1]
    s.sendall(b"\r\n")
    while s.recv(4096):
        pass
    if took < PAUSE_MAX:
        print(port)
        break
else:
    sys.exit("the machine is too slow")

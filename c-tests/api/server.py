"""The other end of the programs of this directory, for a library that is preloaded here too: HTTP GET /N gives the first N bytes of a file, PUT takes
as many as it says.
Arguments: the port, the file."""
import json
import mmap
import socket
import sys
import threading

from common import read_head


def take(connection, head, body):
    left = int(head.lower().split(b"content-length:")[1].split()[0]) - len(body)
    while left > 0:
        more = connection.recv(min(left, 1 << 16))
        if not more:
            return
        left -= len(more)
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\ntaken")
    while connection.recv(4096):
        pass


def serve(connection):
    request, rest = read_head(connection)
    if not request:
        return
    if request.startswith(b"PUT"):
        return take(connection, request, rest)
    count = int(request.split()[1][1:])
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % count)
    connection.sendall(memoryview(data)[:count])
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass


def one(connection):
    with connection:
        try:
            serve(connection)
        except OSError:
            # A client that goes away is its own business.
            pass


with open(sys.argv[2], "rb") as file:
    data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
listener = socket.create_server(("", int(sys.argv[1])), backlog=50)
print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
while True:
    threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

"""Options of TCP and IP that a client sets: an upload, whose first half has what was set before connect(), and its second half what was set then.
Arguments: server, port, and words as `before:tos=16` or `after:ttl=9`. Prints a line of JSON for each half: what getsockopt()
says of the options that were named."""
import fcntl
import json
import socket
import struct
import sys
import termios
import time

from common import OPTIONS, OPTIONS_V6, words

LEN = 400_000
address = (sys.argv[1], int(sys.argv[2]))
family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
options = OPTIONS_V6 if family == socket.AF_INET6 else OPTIONS
named = {word.split(":")[1].split("=")[0] for word in sys.argv[3:]}


def put(s, when):
    for name, value in words(sys.argv[3:], when):
        s.setsockopt(*options[name], int(value))
    print(json.dumps({name: s.getsockopt(*options[name]) for name in named}), flush=True)


s = socket.socket(family)
put(s, "before")
s.connect(address)
s.sendall(b"PUT /upload HTTP/1.1\r\nHost: lab\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % LEN)
s.sendall(bytes(LEN // 2))
while struct.unpack("i", fcntl.ioctl(s, termios.TIOCOUTQ, bytes(4)))[0]:
    # Until it was acknowledged.
    time.sleep(0.005)
put(s, "after")
s.sendall(bytes(LEN // 2))
answer = b""
while more := s.recv(4096):
    answer += more
assert b'"bytes":%d,' % LEN in answer, answer

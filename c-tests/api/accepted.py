"""A server of the files in its directory that sets options and says, a line of JSON for each connection, what they are on its listener and on what
it accepts. Arguments: the port, and words like `before:intent=2` (before listen()), `later:tos=16` (after it), `accepted:ttl=9` (in the middle of
each answer). `later:wrong=bind` tries lists that are wrong on the listener, and `accepted:wrong=bind` on what it accepts: the errno of each is told
too, by the list's name, and that of any other list. Options of mptcp.h, by number: Python's socket module is all that is needed."""
import json
import socket
import struct
import sys

from common import OPTIONS, TCP, read_head, words

MULTIPATH = {
    "enable": 0x689701, "names": 0x689711, "fate": 0x689712, "join": 0x689713,
    "intent": 0x689714, "scheduler": 0x689715, "congestion": 0x689716,
}
LISTS = {"bind": 0x689702, "add": 0x689703, "remove": 0x689704}
PLAIN = {
    name: OPTIONS[name] for name in ("tos", "ttl", "maxseg", "nodelay", "mark", "keepidle", "timeout", "syncnt")
}


def addresses(text):
    return b"".join(
        struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(ip)) for ip in text.split(",") if ip
    )


FIRST = addresses("192.0.2.2")
WRONG = {
    "foreign": addresses("192.0.2.2,203.0.113.200"), "twice": FIRST + FIRST,
    "families": FIRST + struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, "2001:db8::1"), 0),
    "odd": FIRST[:-1], "port": FIRST[:3] + b"P" + FIRST[4:], "wildcard": addresses("0.0.0.0"), "many": FIRST * 10_000,
}
failures = {}


def fail(s, option):
    for name, addresses in WRONG.items():
        try:
            s.setsockopt(TCP, LISTS[option], addresses)
            failures[name] = 0
        except OSError as error:
            failures[name] = error.errno


def put(s, when):
    for name, value in words(sys.argv[2:], when):
        if name == "wrong":
            fail(s, value)
        elif name in LISTS:
            try:
                s.setsockopt(TCP, LISTS[name], addresses(value))
            except OSError as error:
                failures[name] = error.errno
        elif name in MULTIPATH:
            s.setsockopt(TCP, MULTIPATH[name], int(value))
        else:
            s.setsockopt(*PLAIN[name], int(value))


def peer(s):
    try:
        return s.getpeername()[0]
    except OSError as error:
        return error.errno


def said(s):
    numbers = {name: (TCP, number) for name, number in MULTIPATH.items()} | PLAIN
    return {name: s.getsockopt(*number) for name, number in numbers.items()} | {
        "peer": peer(s), "failures": failures,
    }


listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("", int(sys.argv[1])))
put(listener, "before")
listener.listen()
put(listener, "later")
while True:
    s, _ = listener.accept()
    request, _ = read_head(s)
    print(json.dumps({"listener": said(listener), "accepted": said(s)}), flush=True)
    try:
        body = open(request.split()[1][1:], "rb").read()
        s.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:len(body) // 2])
        put(s, "accepted")
        s.sendall(body[len(body) // 2:])
        print(json.dumps({"accepted": said(s)}), flush=True)
        s.shutdown(socket.SHUT_WR)
        s.recv(1)
    except OSError as error:
        print(json.dumps({"errno": error.errno}), flush=True)
    s.close()

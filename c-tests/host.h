/*
 * The scenario's view of its surroundings: the addresses of the lab, the scripted peer, and the steps
 * that most scenarios begin with. Nothing here prints unless it fails.
 */
#ifndef HOST_H
#define HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct address {
	struct sockaddr_storage storage;
	socklen_t length;
};
#define SA(address) ((struct sockaddr *)&(address).storage)

/* Addresses that the lab prepares beside the peer's own. */
#define PEER_IPV6 "2001:db8:1::2"
#define OWN_IPV4 "192.0.2.1"
#define BLACK_HOLE "203.0.113.66"    /* routed to the peer's host, which forwards nothing and says nothing */
#define NO_ROUTE "203.0.113.200"     /* no route leads there */
#define UNREACHABLE "203.0.113.201"  /* an "unreachable" route */
#define PROHIBITED "203.0.113.202"   /* a "prohibit" route */
#define NO_NEIGHBOUR "192.0.2.77"    /* on the wire, but nobody answers for it */
#define REFUSED_PORT 9               /* nobody listens there */

/* The peer as given on the command line. */
extern struct address peer;
extern const char *peer_host;
extern uint16_t peer_port_number;
/* Set when the scenario was started again by exec_self(): the descriptor that it inherited, else -1. */
extern int inherited;

struct address address_of(const char *host, uint16_t port);

/* A blocking TCP socket connected to the peer, which was told to play `script` (see peer.c). */
int connected(const char *script);
/* Tells the peer behind a connected descriptor what to play. */
void play(int fd, const char *script);
/* Reads a line that ends in '\n' from the peer into a static buffer, without the '\n'. */
const char *read_line(int fd);
/* Connects a control connection whose script begins with "listen" or "gate": gives the address to connect to. */
int control(const char *script, struct address *target);
/* Lets the peer pass its next "sync". */
void release(int fd);

/* Waits, at most ten seconds, until poll() gives one of these events; ends the scenario if it never does. */
void until(int fd, short events);
/* Waits until so many bytes can be read without waiting. */
void until_readable_bytes(int fd, int count);
/* Waits for the peer, which under the library the program's queue to it waits for too: each step is an edge of EPOLLOUT there. */
void until_acknowledged(int fd);

/* Reads until end of file or error; prints bytes, digest and how it ended. */
void trace_read_all(int fd);
/* Writes `length` bytes of the pattern, however many writes that takes (waits by poll when it must). */
void write_pattern(int fd, uint64_t length);
/* Reads exactly that much; prints the digest. */
void trace_read_exactly(int fd, uint64_t length);
/* Writes text, reads it back from an "echo" peer and prints that it came back. */
void trace_echo(int fd, const char *text);

/* A listening socket on a wildcard address; port 0 is any. */
int listening(int family, uint16_t port);
uint16_t port_of(int fd);
/* A control connection to a peer that connects to our port by `word` ("call", "call6") and plays `script` on that. */
int called(const char *word, uint16_t port, const char *script);

void set_nonblocking(int fd, bool on);
/* Replaces this process by the same scenario with `inherited` set to fd. */
void exec_self(int fd);
/* Waits for a child and prints how it ended. */
void trace_wait(int pid);

#endif

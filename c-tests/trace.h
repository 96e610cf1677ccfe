/*
 * What a scenario prints: one line per call under test, normalised so that two runs of a correct
 * implementation print the same text. The runner compares a run on kernel TCP with a run under the
 * library line by line.
 *
 * Values that legitimately vary (partial counts, ephemeral ports) never reach a line: ports are
 * numbered in the order of their appearance, bulk transfers print totals and digests.
 */
#ifndef TRACE_H
#define TRACE_H

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* "expr = value", or "expr = -1 ERRNO". The text of the expression is the description of the call. */
#define CALL(expr) (errno = 0, trace_number(#expr, (long)(expr)))
/* The same for calls that return a descriptor: its number is not printed. */
#define CALL_FD(expr) (errno = 0, (int)trace_descriptor(#expr, (long)(expr)))
/* For counts that vary: "expr > 0", "expr = 0" or the error. */
#define CALL_SOME(expr) (errno = 0, trace_some(#expr, (long)(expr)))
/* For steps that are not under test and must succeed: prints only when they fail, and ends the scenario. */
#define MUST(expr) (errno = 0, trace_must(#expr, __FILE__, __LINE__, (long)(expr)))

void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
long trace_number(const char *text, long value);
long trace_descriptor(const char *text, long value);
long trace_some(const char *text, long value);
long trace_must(const char *text, const char *file, int line, long value);

/* One poll() of one descriptor: asked events, result and returned events by name. */
#define POLL(fd, events, timeout_ms) trace_poll("poll(" #fd ", " #events ")", (fd), (events), (timeout_ms))
int trace_poll(const char *text, int fd, short events, int timeout_ms);
const char *poll_names(short events, char *buffer, size_t size);

/* One epoll_wait(): each event with its names and its data, sorted by data. */
#define EPOLL_WAIT(epoll, timeout_ms) trace_epoll_wait("epoll_wait(" #epoll ")", (epoll), (timeout_ms))
int trace_epoll_wait(const char *text, int epoll, int timeout_ms);

/* getsockopt of an int; SO_ERROR prints the name of the error. */
#define GET_INT(fd, level, option) \
	trace_get_int("getsockopt(" #fd ", " #level ", " #option ")", (fd), (level), (option))
int trace_get_int(const char *text, int fd, int level, int option);
#define SOCKET_ERROR(fd) trace_socket_error("SO_ERROR of " #fd, (fd))
int trace_socket_error(const char *text, int fd);

/* getsockname and getpeername with the addresses they give. */
#define GETSOCKNAME(fd) trace_name("getsockname(" #fd ")", (fd), getsockname)
#define GETPEERNAME(fd) trace_name("getpeername(" #fd ")", (fd), getpeername)
int trace_name(const char *text, int fd, int (*get)(int, struct sockaddr *, socklen_t *));
void trace_address(const char *text, const struct sockaddr *address, socklen_t length);
/* Declares `port` as one that lines show as PEER_PORT. */
void trace_peer_port(uint16_t port);
/* Forgets the numbering of ports (a reconnect may or may not get the same port again). */
void trace_forget_ports(void);

/* Bytes: the pattern all transfers carry, and their digest (Adler-32, RFC 1950 section 8.2). */
void pattern_fill(void *buffer, size_t length, uint64_t offset);
#define DIGEST_START 1u
uint32_t digest_update(uint32_t digest, const void *bytes, size_t length);

#endif

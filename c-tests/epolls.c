/* epoll: level, edge and oneshot, registered before and after connect, nested, in several sets at once. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define ALL (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP)
#define DATA 0x1122334455667788ull
#define SOME_MS 10000
/* Long enough to see an event that should not be there; none is expected. */
#define NONE_MS 50

static int new_epoll(void)
{
	return (int)MUST(epoll_create1(EPOLL_CLOEXEC));
}

static int control_epoll(int epoll, int operation, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };
	return epoll_ctl(epoll, operation, fd, &event);
}

/* The life of a connection as an epoll shows it that had the socket before connect(). */
/* Asks whoever carries the connection, who answers when it is through with what it does just now. One cause may wake a
 * waiter several times, and edges of one cause shall be one event here, however the processes are scheduled. */
static void settle(int fd)
{
	char info[256];
	socklen_t length = sizeof info;
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &length);
}

static void registered_before_connect(uint32_t kind)
{
	struct address target;
	int gate = control("gate sync open accept sync say:hello sync say:again sync fin sync", &target);
	int epoll = new_epoll(), fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, ALL | kind, DATA));
	EPOLL_WAIT(epoll, 0);
	EPOLL_WAIT(epoll, 0);
	CALL(connect(fd, SA(target), target.length));
	EPOLL_WAIT(epoll, NONE_MS);
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, ALL | kind, DATA));
	release(gate);
	until(fd, POLLOUT);
	settle(fd);
	EPOLL_WAIT(epoll, kind == EPOLLONESHOT ? NONE_MS : SOME_MS);
	EPOLL_WAIT(epoll, 0);
	release(fd);
	until_readable_bytes(fd, 5);
	EPOLL_WAIT(epoll, kind == EPOLLONESHOT ? NONE_MS : SOME_MS);
	EPOLL_WAIT(epoll, 0);
	CALL(control_epoll(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP | kind, DATA + 1));
	EPOLL_WAIT(epoll, SOME_MS);
	EPOLL_WAIT(epoll, 0);
	release(fd);
	until_readable_bytes(fd, 10);
	EPOLL_WAIT(epoll, kind == EPOLLONESHOT ? NONE_MS : SOME_MS);
	CALL(read(fd, &(char[16]){ 0 }, 16));
	EPOLL_WAIT(epoll, 0);
	release(fd);
	until(fd, POLLRDHUP);
	EPOLL_WAIT(epoll, kind == EPOLLONESHOT ? NONE_MS : SOME_MS);
	CALL(control_epoll(epoll, EPOLL_CTL_MOD, fd, ALL | kind, DATA + 2));
	EPOLL_WAIT(epoll, SOME_MS);
	CALL(shutdown(fd, SHUT_WR));
	EPOLL_WAIT(epoll, kind == EPOLLONESHOT ? NONE_MS : SOME_MS);
	CALL(control_epoll(epoll, EPOLL_CTL_DEL, fd, 0, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_DEL, fd, 0, 0));
	EPOLL_WAIT(epoll, 0);
}

static void epoll_level_registered_before_connect(void)
{
	registered_before_connect(0);
}

static void epoll_edge_registered_before_connect(void)
{
	registered_before_connect(EPOLLET);
}

static void epoll_oneshot_registered_before_connect(void)
{
	registered_before_connect(EPOLLONESHOT);
}

static void epoll_edge_oneshot_rearmed_while_connecting(void)
{
	struct address target;
	int gate = control("gate sync open accept hold", &target);
	int epoll = new_epoll(), fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	uint32_t kind = EPOLLET | EPOLLONESHOT;
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT | kind, DATA));
	EPOLL_WAIT(epoll, 0);
	CALL(connect(fd, SA(target), target.length));
	CALL(control_epoll(epoll, EPOLL_CTL_MOD, fd, EPOLLOUT | kind, DATA));
	EPOLL_WAIT(epoll, NONE_MS);
	release(gate);
	EPOLL_WAIT(epoll, SOME_MS);
	EPOLL_WAIT(epoll, NONE_MS);
	SOCKET_ERROR(fd);
}

/* Registered between connect() and the end of the handshake. */
static void registered_while_connecting(uint32_t kind)
{
	struct address target;
	int gate = control("gate sync open accept say:hello hold", &target);
	int epoll = new_epoll(), fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, ALL | kind, DATA));
	EPOLL_WAIT(epoll, NONE_MS);
	release(gate);
	until_readable_bytes(fd, 5);
	EPOLL_WAIT(epoll, SOME_MS);
	EPOLL_WAIT(epoll, 0);
}

static void epoll_level_registered_while_connecting(void)
{
	registered_while_connecting(0);
}

static void epoll_edge_registered_while_connecting(void)
{
	registered_while_connecting(EPOLLET);
}

static void registered_after_connect(uint32_t kind)
{
	int epoll = new_epoll(), fd = connected("sync say:hello sync fin sync");
	until_acknowledged(fd);
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, ALL | kind, DATA));
	EPOLL_WAIT(epoll, SOME_MS);
	EPOLL_WAIT(epoll, 0);
	CALL(control_epoll(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP | kind, DATA));
	release(fd);
	until_readable_bytes(fd, 5);
	EPOLL_WAIT(epoll, SOME_MS);
	EPOLL_WAIT(epoll, 0);
	CALL(read(fd, &(char[2]){ 0 }, 2));
	EPOLL_WAIT(epoll, 0);
	CALL(read(fd, &(char[8]){ 0 }, 8));
	EPOLL_WAIT(epoll, 0);
	CALL(control_epoll(epoll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP | kind, DATA));
	release(fd);
	until(fd, POLLRDHUP);
	EPOLL_WAIT(epoll, SOME_MS);
	EPOLL_WAIT(epoll, 0);
	CALL(close(fd));
	EPOLL_WAIT(epoll, 0);
}

static void epoll_level_registered_after_connect(void)
{
	registered_after_connect(0);
}

static void epoll_edge_registered_after_connect(void)
{
	registered_after_connect(EPOLLET);
}

static void epoll_oneshot_registered_after_connect(void)
{
	registered_after_connect(EPOLLONESHOT);
}

static void registered_before_blocking_connect(uint32_t kind)
{
	int epoll = new_epoll(), fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, ALL | kind, DATA));
	CALL(connect(fd, SA(peer), peer.length));
	EPOLL_WAIT(epoll, 0);
	EPOLL_WAIT(epoll, 0);
	play(fd, "echo");
	trace_echo(fd, "hello");
}

static void epoll_level_registered_before_blocking_connect(void)
{
	registered_before_blocking_connect(0);
}

static void epoll_edge_registered_before_blocking_connect(void)
{
	registered_before_blocking_connect(EPOLLET);
}

/* An edge-triggered reader must not be woken by its own writes being acknowledged. */
static void epoll_edge_after_own_writes(void)
{
	int epoll = new_epoll(), fd = connected("sink:5 say:k hold");
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, ALL | EPOLLET, DATA));
	EPOLL_WAIT(epoll, SOME_MS);
	CALL(write(fd, "hello", 5));
	until_readable_bytes(fd, 1);
	EPOLL_WAIT(epoll, SOME_MS);
	EPOLL_WAIT(epoll, NONE_MS);
}

/* The edge that tells a writer to go on after EAGAIN. */
static void epoll_edge_writable_again(void)
{
	static char block[65536];
	/* The peer's buffer is not small: an MPTCP peer then acknowledges a segment in 40 ms, and nothing gets through. */
	int epoll = new_epoll(), fd = connected("sync drain");
	MUST(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ 65536 }, sizeof(int)));
	set_nonblocking(fd, true);
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLET, DATA));
	EPOLL_WAIT(epoll, SOME_MS);
	release(fd);
	/* Twenty times full, twenty edges: each wait must end. */
	for (int full = 0; full < 20;) {
		if (write(fd, block, sizeof block) > 0)
			continue;
		struct epoll_event event;
		if (errno != EAGAIN || epoll_wait(epoll, &event, 1, SOME_MS) != 1) {
			trace("no edge after %d times full", full);
			return;
		}
		full++;
	}
	trace("an edge each time");
}

static void epoll_of_a_refused_connection(void)
{
	struct address closed = address_of(peer_host, REFUSED_PORT);
	int epoll = new_epoll(), fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLET, DATA));
	EPOLL_WAIT(epoll, 0);
	CALL(connect(fd, SA(closed), closed.length));
	until(fd, POLLHUP);
	settle(fd);
	EPOLL_WAIT(epoll, SOME_MS);
	SOCKET_ERROR(fd);
	EPOLL_WAIT(epoll, 0);
	CALL(control_epoll(epoll, EPOLL_CTL_MOD, fd, ALL, DATA));
	EPOLL_WAIT(epoll, 0);
}

static void epoll_of_a_reset(void)
{
	int epoll = new_epoll(), fd = connected("sync reset");
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, ALL | EPOLLET, DATA));
	EPOLL_WAIT(epoll, SOME_MS);
	release(fd);
	until(fd, POLLHUP);
	EPOLL_WAIT(epoll, SOME_MS);
	CALL(read(fd, &(char){ 0 }, 1));
	EPOLL_WAIT(epoll, NONE_MS);
}

static void epoll_nested_registered_before_connect(void)
{
	int inner = new_epoll(), middle = new_epoll(), outer = new_epoll();
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(control_epoll(outer, EPOLL_CTL_ADD, middle, EPOLLIN, 3));
	CALL(control_epoll(middle, EPOLL_CTL_ADD, inner, EPOLLIN, 2));
	CALL(control_epoll(inner, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP, 1));
	EPOLL_WAIT(inner, 0);
	CALL(connect(fd, SA(peer), peer.length));
	until(fd, POLLOUT);
	play(fd, "say:hello hold");
	EPOLL_WAIT(outer, SOME_MS);
	POLL(outer, POLLIN, SOME_MS);
	EPOLL_WAIT(middle, 0);
	EPOLL_WAIT(inner, 0);
	until_readable_bytes(fd, 5);
	CALL(read(fd, &(char[8]){ 0 }, 8));
	EPOLL_WAIT(outer, NONE_MS);
}

static void epoll_two_sets_with_one_socket(void)
{
	int first = new_epoll(), second = new_epoll(), fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(control_epoll(first, EPOLL_CTL_ADD, fd, EPOLLIN, 1));
	CALL(control_epoll(second, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLET, 2));
	CALL(connect(fd, SA(peer), peer.length));
	EPOLL_WAIT(first, 0);
	EPOLL_WAIT(second, 0);
	play(fd, "say:hello hold");
	EPOLL_WAIT(first, SOME_MS);
	CALL(control_epoll(first, EPOLL_CTL_DEL, fd, 0, 0));
	CALL(control_epoll(second, EPOLL_CTL_DEL, fd, 0, 0));
}

static void epoll_deleted_before_connect(void)
{
	int epoll = new_epoll(), fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, ALL, DATA));
	CALL(control_epoll(epoll, EPOLL_CTL_DEL, fd, 0, 0));
	CALL(connect(fd, SA(peer), peer.length));
	EPOLL_WAIT(epoll, 0);
	CALL(control_epoll(epoll, EPOLL_CTL_DEL, fd, 0, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_MOD, fd, ALL, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, ALL, DATA));
	EPOLL_WAIT(epoll, 0);
}

static void epoll_disabled_oneshot_stays_disabled_over_connect(void)
{
	int epoll = new_epoll(), fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, ALL | EPOLLONESHOT, DATA));
	EPOLL_WAIT(epoll, 0);
	CALL(connect(fd, SA(peer), peer.length));
	EPOLL_WAIT(epoll, NONE_MS);
	CALL(control_epoll(epoll, EPOLL_CTL_MOD, fd, ALL | EPOLLONESHOT, DATA + 1));
	EPOLL_WAIT(epoll, 0);
	EPOLL_WAIT(epoll, 0);
}

static void epoll_with_no_events_asked(void)
{
	int epoll = new_epoll(), fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, 0, DATA));
	EPOLL_WAIT(epoll, 0);
	CALL(connect(fd, SA(peer), peer.length));
	EPOLL_WAIT(epoll, 0);
	play(fd, "sync reset");
	release(fd);
	EPOLL_WAIT(epoll, SOME_MS);
}

/* The registration made by number `copy` lives on when `fd` connects, as the description is one. */
static void epoll_of_a_duplicate(void)
{
	int epoll = new_epoll(), fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	int copy = CALL_FD(dup(fd));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, copy, EPOLLIN | EPOLLOUT, 1));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT, 2));
	EPOLL_WAIT(epoll, 0);
	CALL(connect(fd, SA(peer), peer.length));
	EPOLL_WAIT(epoll, 0);
	CALL(close(fd));
	EPOLL_WAIT(epoll, 0);
	GETPEERNAME(copy);
	play(copy, "echo");
	trace_echo(copy, "hello");
}

static void epoll_set_duplicated_before_connect(void)
{
	int epoll = new_epoll(), fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT, DATA));
	int copy = CALL_FD(dup(epoll));
	CALL(close(epoll));
	CALL(connect(fd, SA(peer), peer.length));
	EPOLL_WAIT(copy, 0);
	CALL(control_epoll(copy, EPOLL_CTL_MOD, fd, EPOLLOUT, DATA + 1));
	EPOLL_WAIT(copy, 0);
}

static void epoll_set_inherited_by_a_child_that_connects(void)
{
	int epoll = new_epoll();
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT, DATA));
	pid_t child = fork();
	if (child == 0) {
		CALL(connect(fd, SA(peer), peer.length));
		EPOLL_WAIT(epoll, 0);
		_exit(0);
	}
	trace_wait(child);
	EPOLL_WAIT(epoll, 0);
	GETPEERNAME(fd);
}

static void epoll_with_many_other_members(void)
{
	enum { MEMBERS = 500 };
	int epoll = new_epoll(), found = 0;
	struct rlimit limit = { 1024, 1024 };
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
	for (uint64_t i = 0; i < MEMBERS; i++) {
		int member = (int)MUST(eventfd(1, 0));
		MUST(control_epoll(epoll, EPOLL_CTL_ADD, member, EPOLLIN | EPOLLET, i));
	}
	struct epoll_event events[MEMBERS + 1];
	CALL(epoll_wait(epoll, events, MEMBERS + 1, 0));
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLET, DATA));
	CALL(connect(fd, SA(peer), peer.length));
	int count = (int)CALL(epoll_wait(epoll, events, MEMBERS + 1, 0));
	for (int i = 0; i < count; i++)
		found += events[i].data.u64 == DATA;
	trace("found: %d", found);
}

static void epoll_exclusive_over_connect(void)
{
	int epoll = new_epoll(), fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLEXCLUSIVE, DATA));
	CALL(connect(fd, SA(peer), peer.length));
	EPOLL_WAIT(epoll, 0);
	CALL(control_epoll(epoll, EPOLL_CTL_MOD, fd, EPOLLOUT, DATA));
}

static void epoll_reconnect_keeps_the_registration(void)
{
	struct sockaddr unspecified = { .sa_family = AF_UNSPEC };
	int epoll = new_epoll(), fd = connected("hold");
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, ALL, DATA));
	CALL(connect(fd, &unspecified, sizeof unspecified));
	EPOLL_WAIT(epoll, 0);
	CALL(connect(fd, SA(peer), peer.length));
	EPOLL_WAIT(epoll, 0);
	CALL(control_epoll(epoll, EPOLL_CTL_DEL, fd, 0, 0));
}

static void epoll_errors(void)
{
	int epoll = new_epoll(), fd = connected("hold");
	CALL(control_epoll(epoll, EPOLL_CTL_MOD, fd, EPOLLIN, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_DEL, fd, 0, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, 0));
	CALL(control_epoll(epoll, 99, fd, EPOLLIN, 0));
	CALL(control_epoll(fd, EPOLL_CTL_ADD, epoll, EPOLLIN, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, epoll, EPOLLIN, 0));
	CALL(control_epoll(epoll, EPOLL_CTL_ADD, -1, EPOLLIN, 0));
	CALL(epoll_ctl(epoll, EPOLL_CTL_MOD, fd, NULL));
	CALL(epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL));
}

const struct scenario epoll_scenarios[] = {
	SCENARIO(epoll_level_registered_before_connect),
	SCENARIO(epoll_edge_registered_before_connect),
	SCENARIO(epoll_oneshot_registered_before_connect),
	SCENARIO(epoll_edge_oneshot_rearmed_while_connecting),
	SCENARIO(epoll_level_registered_while_connecting),
	SCENARIO(epoll_edge_registered_while_connecting),
	SCENARIO(epoll_level_registered_after_connect),
	SCENARIO(epoll_edge_registered_after_connect),
	SCENARIO(epoll_oneshot_registered_after_connect),
	SCENARIO(epoll_level_registered_before_blocking_connect),
	SCENARIO(epoll_edge_registered_before_blocking_connect),
	SCENARIO(epoll_edge_after_own_writes),
	SCENARIO(epoll_edge_writable_again),
	SCENARIO(epoll_of_a_refused_connection),
	SCENARIO(epoll_of_a_reset),
	SCENARIO(epoll_nested_registered_before_connect),
	SCENARIO(epoll_two_sets_with_one_socket),
	SCENARIO(epoll_deleted_before_connect),
	SCENARIO(epoll_disabled_oneshot_stays_disabled_over_connect),
	SCENARIO(epoll_with_no_events_asked),
	SCENARIO(epoll_of_a_duplicate),
	SCENARIO(epoll_set_duplicated_before_connect),
	SCENARIO(epoll_set_inherited_by_a_child_that_connects),
	SCENARIO(epoll_with_many_other_members),
	SCENARIO(epoll_exclusive_over_connect),
	SCENARIO(epoll_reconnect_keeps_the_registration),
	SCENARIO(epoll_errors),
	END_OF_SCENARIOS,
};

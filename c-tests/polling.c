/* poll, ppoll, select and pselect at each stage of a connection. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <signal.h>
#include <string.h>
#include <sys/select.h>
#include <sys/time.h>
#include <unistd.h>

#define ALL_EVENTS (POLLIN | POLLPRI | POLLOUT | POLLRDHUP)
#define NORM_AND_BAND (POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND)

static void poll_at_each_stage(void)
{
	struct address target;
	int gate = control("gate sync open accept sync say:hello sync fin sync", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	POLL(fd, ALL_EVENTS, 0);
	CALL(connect(fd, SA(target), target.length));
	POLL(fd, ALL_EVENTS, 0);
	POLL(fd, ALL_EVENTS, 50);
	release(gate);
	POLL(fd, ALL_EVENTS, 10000);
	POLL(fd, POLLIN, 50);
	release(fd);
	POLL(fd, POLLIN, 10000);
	POLL(fd, ALL_EVENTS, 0);
	POLL(fd, NORM_AND_BAND, 0);
	POLL(fd, 0, 0);
	CALL(read(fd, &(char[8]){ 0 }, 8));
	POLL(fd, ALL_EVENTS, 0);
	release(fd);
	POLL(fd, POLLIN | POLLRDHUP, 10000);
	POLL(fd, ALL_EVENTS, 0);
	CALL(read(fd, &(char[8]){ 0 }, 8));
	POLL(fd, ALL_EVENTS, 0);
	CALL(shutdown(fd, SHUT_WR));
	POLL(fd, ALL_EVENTS, 0);
	CALL(close(fd));
	POLL(fd, ALL_EVENTS, 0);
}

static void poll_not_writable_when_the_peer_reads_nothing(void)
{
	static char block[65536];
	int fd = connected("small hold");
	set_nonblocking(fd, true);
	while (write(fd, block, sizeof block) > 0)
		;
	trace("write: %s", errno == EAGAIN ? "EAGAIN" : "another error");
	/* Some of it is still on its way: write until nothing has moved for a while. */
	struct pollfd item = { .fd = fd, .events = POLLOUT };
	while (poll(&item, 1, 300) == 1)
		while (write(fd, block, sizeof block) > 0)
			;
	POLL(fd, ALL_EVENTS, 0);
	CALL(close(fd));
}

static void poll_of_several(void)
{
	int quiet = connected("hold"), ready = connected("say:hello hold");
	until_readable_bytes(ready, 5);
	struct pollfd items[] = {
		{ .fd = quiet, .events = POLLIN },
		{ .fd = ready, .events = POLLIN },
		{ .fd = -1, .events = POLLIN },
		{ .fd = 1000, .events = POLLIN },
	};
	CALL(poll(items, 4, 10000));
	for (int i = 0; i < 4; i++) {
		char buffer[256];
		trace("  %s", poll_names(items[i].revents, buffer, sizeof buffer));
	}
}

static void ppoll_waits(void)
{
	int fd = connected("sync say:hello hold");
	struct pollfd item = { .fd = fd, .events = POLLIN };
	struct timespec none = { 0, 50000000 }, some = { 10, 0 };
	CALL(ppoll(&item, 1, &none, NULL));
	release(fd);
	CALL(ppoll(&item, 1, &some, NULL));
	CALL(item.revents == POLLIN);
}

static void trace_select(int fd, int milliseconds)
{
	fd_set readable, writable, exceptional;
	struct timeval timeout = { milliseconds / 1000, milliseconds % 1000 * 1000 };
	FD_ZERO(&readable);
	FD_ZERO(&writable);
	FD_ZERO(&exceptional);
	FD_SET(fd, &readable);
	FD_SET(fd, &writable);
	FD_SET(fd, &exceptional);
	CALL(select(fd + 1, &readable, &writable, &exceptional, &timeout));
	trace("  readable %d writable %d exceptional %d", FD_ISSET(fd, &readable) != 0, FD_ISSET(fd, &writable) != 0,
	      FD_ISSET(fd, &exceptional) != 0);
}

static void select_at_each_stage(void)
{
	struct address target;
	int gate = control("gate sync open accept say:hello sync fin sync", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	trace_select(fd, 0);
	CALL(connect(fd, SA(target), target.length));
	trace_select(fd, 50);
	release(gate);
	until(fd, POLLIN);
	trace_select(fd, 0);
	CALL(read(fd, &(char[8]){ 0 }, 8));
	trace_select(fd, 0);
	release(fd);
	until(fd, POLLRDHUP);
	trace_select(fd, 0);
}

static void select_on_a_refused_connection(void)
{
	struct address closed = address_of(peer_host, REFUSED_PORT);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(closed), closed.length));
	until(fd, POLLHUP);
	trace_select(fd, 0);
	SOCKET_ERROR(fd);
	trace_select(fd, 0);
}

static void pselect_waits(void)
{
	int fd = connected("sync say:hello hold");
	fd_set readable;
	struct timespec some = { 10, 0 };
	FD_ZERO(&readable);
	FD_SET(fd, &readable);
	release(fd);
	CALL(pselect(fd + 1, &readable, NULL, NULL, &some, NULL));
	CALL(FD_ISSET(fd, &readable) != 0);
}

/* Another process polls the same connecting description. */
static void poll_in_a_child_while_connecting(void)
{
	struct address target;
	int gate = control("gate sync open accept hold", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	pid_t child = fork();
	if (child == 0) {
		POLL(fd, ALL_EVENTS, 0);
		release(gate);
		POLL(fd, POLLOUT, 10000);
		SOCKET_ERROR(fd);
		GETPEERNAME(fd);
		_exit(0);
	}
	trace_wait(child);
	POLL(fd, ALL_EVENTS, 0);
	SOCKET_ERROR(fd);
	GETPEERNAME(fd);
}

const struct scenario poll_scenarios[] = {
	SCENARIO(poll_at_each_stage),
	SCENARIO(poll_not_writable_when_the_peer_reads_nothing),
	SCENARIO(poll_of_several),
	SCENARIO(ppoll_waits),
	SCENARIO(select_at_each_stage),
	SCENARIO(select_on_a_refused_connection),
	SCENARIO(pselect_waits),
	SCENARIO(poll_in_a_child_while_connecting),
	END_OF_SCENARIOS,
};

/* The twins that _FORTIFY_SOURCE calls: __read_chk, __recv_chk, __recvfrom_chk, __poll_chk, __ppoll_chk. */
#define _GNU_SOURCE
#ifndef _FORTIFY_SOURCE
#define _FORTIFY_SOURCE 2
#endif
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <sys/socket.h>
#include <unistd.h>

/* A length that the compiler cannot know makes it call the checking twin. */
static volatile size_t four = 4;

static void fortified_receives(void)
{
	char text[8] = "";
	struct sockaddr_storage address;
	socklen_t length = sizeof address;
	int fd = connected("say:abcdefghijkl sync fin hold");
	until_readable_bytes(fd, 12);
	CALL(read(fd, text, four));
	trace("got %s", text);
	CALL(recv(fd, text, four, 0));
	trace("got %s", text);
	CALL(recv(fd, text, four, MSG_TRUNC | MSG_PEEK));
	CALL(recvfrom(fd, text, four, 0, (struct sockaddr *)&address, &length));
	trace("got %s, length %u", text, length);
	CALL(recvfrom(fd, text, four, MSG_DONTWAIT, (struct sockaddr *)&address, &length));
	release(fd);
	CALL(recv(fd, text, four, 0));
}

static void fortified_polls(void)
{
	struct timespec some = { 10, 0 };
	int fd = connected("hold");
	struct pollfd items[4] = { { .fd = fd, .events = POLLOUT }, { .fd = -1 }, { .fd = -1 }, { .fd = -1 } };
	CALL(poll(items, four, 10000));
	CALL(items[0].revents == POLLOUT);
	CALL(ppoll(items, four, &some, NULL));
	CALL(items[0].revents == POLLOUT);
}

static void fortified_overflow_aborts(void)
{
	char text[2];
	int fd = connected("say:abcdefgh hold");
	pid_t child = fork();
	if (child == 0) {
		close(STDERR_FILENO);
		CALL(recv(fd, text, four, 0));
		_exit(0);
	}
	trace_wait(child);
}

const struct scenario fortified_scenarios[] = {
	SCENARIO(fortified_receives),
	SCENARIO(fortified_polls),
	SCENARIO(fortified_overflow_aborts),
	END_OF_SCENARIOS,
};

/* shutdown() and close(): both ways, twice, with unread data, with SO_LINGER. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ALL_EVENTS (POLLIN | POLLPRI | POLLOUT | POLLRDHUP)

static void shutdown_write_then_read(void)
{
	struct address target;
	int hand = control("listen accept drain say:late pause back", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(target), target.length));
	CALL(write(fd, "hello", 5));
	CALL(shutdown(fd, SHUT_WR));
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(shutdown(fd, SHUT_WR));
	trace_read_exactly(fd, 4);
	POLL(fd, ALL_EVENTS, 0);
	GETPEERNAME(fd);
	release(hand);
	CALL(read(fd, &(char){ 0 }, 1));
	GETSOCKNAME(fd);
}

static void shutdown_write_events(void)
{
	int fd = connected("drain say:late");
	CALL(shutdown(fd, SHUT_WR));
	until_readable_bytes(fd, 4);
	until(fd, POLLRDHUP);
	POLL(fd, ALL_EVENTS, 0);
	CALL(read(fd, &(char[8]){ 0 }, 8));
	POLL(fd, ALL_EVENTS, 0);
}

static void shutdown_read(void)
{
	int fd = connected("sync say:hello echo");
	CALL(shutdown(fd, SHUT_RD));
	POLL(fd, ALL_EVENTS, 0);
	CALL(read(fd, &(char){ 0 }, 1));
	CALL(read(fd, &(char){ 0 }, 1));
	release(fd);
	until_readable_bytes(fd, 5);
	POLL(fd, ALL_EVENTS, 0);
	CALL(read(fd, &(char[8]){ 0 }, 8));
	CALL(read(fd, &(char[8]){ 0 }, 8));
	CALL(write(fd, "still", 5));
	until_readable_bytes(fd, 5);
	CALL(read(fd, &(char[8]){ 0 }, 8));
	CALL(shutdown(fd, SHUT_RD));
}

static void shutdown_read_with_data_waiting(void)
{
	int fd = connected("say:hello hold");
	until_readable_bytes(fd, 5);
	CALL(shutdown(fd, SHUT_RD));
	POLL(fd, ALL_EVENTS, 0);
	CALL(ioctl(fd, FIONREAD, &(int){ 0 }));
	CALL(read(fd, &(char[8]){ 0 }, 8));
	CALL(read(fd, &(char[8]){ 0 }, 8));
	POLL(fd, ALL_EVENTS, 0);
}

static void shutdown_both(void)
{
	int fd = connected("drain");
	CALL(shutdown(fd, SHUT_RDWR));
	POLL(fd, ALL_EVENTS, 0);
	CALL(read(fd, &(char){ 0 }, 1));
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
	SOCKET_ERROR(fd);
}

/* More than the two ends of a socket pair hold. */
static void shutdown_both_with_data_unread(void)
{
	struct address target;
	int hand = control("listen accept send:400000 acked tell drain back digest", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	MUST(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &(int){ 4 << 20 }, sizeof(int)));
	CALL(connect(fd, SA(target), target.length));
	read_line(hand);
	CALL(shutdown(fd, SHUT_RDWR));
	trace("peer: %s", read_line(hand));
	trace_read_all(fd);
}

static void shutdown_both_with_linger_zero(void)
{
	struct address target;
	int hand = control("listen accept say:unread acked tell drain back digest", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger)));
	CALL(connect(fd, SA(target), target.length));
	read_line(hand);
	CALL(shutdown(fd, SHUT_RDWR));
	trace("peer: %s", read_line(hand));
	trace_read_all(fd);
}

static void shutdown_both_resets_what_comes_later(void)
{
	struct address target;
	int hand = control("listen accept say:unread acked tell drain pause say:late gone back digest", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(target), target.length));
	read_line(hand);
	CALL(shutdown(fd, SHUT_RDWR));
	trace_read_all(fd);
	MUST(write(hand, "!", 1));
	trace("peer: %s", read_line(hand));
	CALL(read(fd, &(char){ 0 }, 1));
	CALL(read(fd, &(char){ 0 }, 1));
}

static void shutdown_wakes_a_reader(void)
{
	int fd = connected("hold");
	pid_t child = fork();
	if (child == 0) {
		usleep(100000);
		MUST(shutdown(fd, SHUT_RD));
		_exit(0);
	}
	CALL(read(fd, &(char){ 0 }, 1));
	trace_wait(child);
}

static void shutdown_after_the_peer(void)
{
	int fd = connected("fin drain");
	until(fd, POLLRDHUP);
	POLL(fd, ALL_EVENTS, 0);
	CALL(write(fd, "hello", 5));
	CALL(shutdown(fd, SHUT_WR));
	POLL(fd, ALL_EVENTS, 0);
	CALL(read(fd, &(char){ 0 }, 1));
}

static void shutdown_with_a_bad_argument(void)
{
	int fd = connected("echo");
	CALL(shutdown(fd, 3));
	CALL(shutdown(fd, -1));
	CALL(shutdown(-1, SHUT_WR));
	CALL(shutdown(STDERR_FILENO, SHUT_WR) == -1);
	trace_echo(fd, "hello");
}

static void shutdown_reaches_the_peer(void)
{
	int fd = connected("drain digest");
	CALL(write(fd, "hello", 5));
	CALL(shutdown(fd, SHUT_WR));
	trace("peer: %s", read_line(fd));
	trace_read_all(fd);
}

static void close_reaches_the_peer(void)
{
	struct address target;
	int report = control("listen accept drain back digest", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(target), target.length));
	CALL(write(fd, "hello", 5));
	CALL(close(fd));
	trace("peer: %s", read_line(report));
}

static void close_with_unread_data_resets(void)
{
	struct address target;
	int report = control("listen accept say:unread drain back digest", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(target), target.length));
	until_readable_bytes(fd, 6);
	CALL(close(fd));
	trace("peer: %s", read_line(report));
}

static void trace_close_with_linger(int on, int seconds)
{
	struct address target;
	struct linger linger = { .l_onoff = on, .l_linger = seconds };
	int report = control("listen accept drain back digest", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(target), target.length));
	CALL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
	CALL(close(fd));
	trace("peer: %s", read_line(report));
}

/* What was written has left before the reset, and the peer reads it. */
static void last_words_before_a_reset(const char *script, bool linger)
{
	struct address target;
	struct linger zero = { .l_onoff = 1 };
	int report = control(script, &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(target), target.length));
	if (linger)
		CALL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &zero, sizeof zero));
	else
		until_readable_bytes(fd, 6);
	CALL(write(fd, "last words", 10));
	CALL(close(fd));
	trace("peer: %s", read_line(report));
}

static void last_words_before_a_close_with_unread_data(void)
{
	last_words_before_a_reset("listen accept say:unread drain back digest", false);
}

static void last_words_before_a_close_with_linger_zero(void)
{
	last_words_before_a_reset("listen accept drain back digest", true);
}

static void close_with_linger_zero_resets(void)
{
	trace_close_with_linger(1, 0);
}

static void close_with_linger_waits(void)
{
	trace_close_with_linger(1, 10);
}

static void close_without_linger(void)
{
	trace_close_with_linger(0, 0);
}

static void linger_zero_set_before_connect(void)
{
	struct address target;
	struct linger abort = { .l_onoff = 1, .l_linger = 0 };
	int report = control("listen accept drain back digest", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof abort));
	CALL(connect(fd, SA(target), target.length));
	CALL(close(fd));
	trace("peer: %s", read_line(report));
}

/* The connection ends when the last of its descriptors is closed, wherever that is. */
static void last_close_ends_the_connection(void)
{
	struct address target;
	int report = control("listen accept drain back digest", &target), start[2];
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(target), target.length));
	int copy = CALL_FD(dup(fd));
	MUST(pipe(start));
	pid_t child = fork();
	if (child == 0) {
		close(report);
		close(fd);
		MUST(read(start[0], &(char){ 0 }, 1));
		MUST(write(copy, "child", 5));
		_exit(0);
	}
	CALL(write(fd, "parent", 6));
	CALL(close(fd));
	CALL(write(copy, "copy", 4));
	CALL(close(copy));
	POLL(report, POLLIN, 50);
	MUST(write(start[1], "x", 1));
	trace_wait(child);
	trace("peer: %s", read_line(report));
}

const struct scenario shutdown_scenarios[] = {
	SCENARIO(shutdown_write_then_read),
	SCENARIO(shutdown_write_events),
	SCENARIO(shutdown_read),
	SCENARIO(shutdown_read_with_data_waiting),
	SCENARIO(shutdown_both),
	SCENARIO(shutdown_both_with_data_unread),
	SCENARIO(shutdown_both_with_linger_zero),
	SCENARIO(shutdown_both_resets_what_comes_later),
	SCENARIO(shutdown_wakes_a_reader),
	SCENARIO(shutdown_after_the_peer),
	SCENARIO(shutdown_with_a_bad_argument),
	SCENARIO(shutdown_reaches_the_peer),
	SCENARIO(close_reaches_the_peer),
	SCENARIO(close_with_unread_data_resets),
	SCENARIO(close_with_linger_zero_resets),
	SCENARIO(last_words_before_a_close_with_unread_data),
	SCENARIO(last_words_before_a_close_with_linger_zero),
	SCENARIO(close_with_linger_waits),
	SCENARIO(close_without_linger),
	SCENARIO(linger_zero_set_before_connect),
	SCENARIO(last_close_ends_the_connection),
	END_OF_SCENARIOS,
};

/* connect() that fails, resets by the peer, and writing to nobody. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ALL_EVENTS (POLLIN | POLLPRI | POLLOUT | POLLRDHUP)

static volatile sig_atomic_t broken_pipes;

static void count_broken_pipe(int number)
{
	(void)number;
	broken_pipes++;
}

static void count_sigpipe(void)
{
	signal(SIGPIPE, count_broken_pipe);
}

static void refused_blocking_then_the_same_descriptor(void)
{
	struct address closed = address_of(peer_host, REFUSED_PORT);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(closed), closed.length));
	POLL(fd, ALL_EVENTS, 0);
	SOCKET_ERROR(fd);
	GETPEERNAME(fd);
	CALL(connect(fd, SA(closed), closed.length));
	CALL(connect(fd, SA(peer), peer.length));
	GETPEERNAME(fd);
	play(fd, "echo");
	trace_echo(fd, "hello");
}

static void refused_nonblocking_then_so_error(void)
{
	struct address closed = address_of(peer_host, REFUSED_PORT);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(closed), closed.length));
	until(fd, POLLHUP);
	POLL(fd, ALL_EVENTS, 0);
	SOCKET_ERROR(fd);
	SOCKET_ERROR(fd);
	POLL(fd, ALL_EVENTS, 0);
	GETPEERNAME(fd);
	CALL(read(fd, &(char){ 0 }, 1));
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
}

static void refused_nonblocking_then_connect(void)
{
	struct address closed = address_of(peer_host, REFUSED_PORT);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(closed), closed.length));
	until(fd, POLLHUP);
	CALL(connect(fd, SA(closed), closed.length));
	SOCKET_ERROR(fd);
	CALL(connect(fd, SA(peer), peer.length));
	until(fd, POLLOUT);
	SOCKET_ERROR(fd);
	GETPEERNAME(fd);
	play(fd, "echo");
	trace_echo(fd, "hello");
}

static void refused_nonblocking_then_read(void)
{
	struct address closed = address_of(peer_host, REFUSED_PORT);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(closed), closed.length));
	until(fd, POLLHUP);
	CALL(read(fd, &(char){ 0 }, 1));
	CALL(read(fd, &(char){ 0 }, 1));
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
	SOCKET_ERROR(fd);
}

static void refused_nonblocking_then_write(void)
{
	struct address closed = address_of(peer_host, REFUSED_PORT);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(closed), closed.length));
	until(fd, POLLHUP);
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
	SOCKET_ERROR(fd);
}

static void refused_on_ipv6(void)
{
	struct address closed = address_of(PEER_IPV6, REFUSED_PORT);
	int fd = CALL_FD(socket(AF_INET6, SOCK_STREAM, 0));
	CALL(connect(fd, SA(closed), closed.length));
	GETPEERNAME(fd);
	SOCKET_ERROR(fd);
}

static void trace_blocking_connect_to(const char *host, uint16_t port)
{
	struct address target = address_of(host, port);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(target), target.length));
	POLL(fd, ALL_EVENTS, 0);
	SOCKET_ERROR(fd);
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	CALL(close(fd));
}

static void no_route(void)
{
	trace_blocking_connect_to(NO_ROUTE, 80);
}

static void unreachable_route(void)
{
	trace_blocking_connect_to(UNREACHABLE, 80);
}

static void prohibited_route(void)
{
	trace_blocking_connect_to(PROHIBITED, 80);
}

static void no_neighbour(void)
{
	trace_blocking_connect_to(NO_NEIGHBOUR, 80);
}

static void no_neighbour_nonblocking(void)
{
	struct address target = address_of(NO_NEIGHBOUR, 80);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	until(fd, POLLHUP);
	POLL(fd, ALL_EVENTS, 0);
	SOCKET_ERROR(fd);
	SOCKET_ERROR(fd);
}

static void broadcast_address(void)
{
	trace_blocking_connect_to("255.255.255.255", 80);
}

static void multicast_address(void)
{
	trace_blocking_connect_to("224.0.0.1", 80);
}

static void port_zero(void)
{
	struct address target = address_of(peer_host, 0);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	until(fd, POLLHUP);
	SOCKET_ERROR(fd);
}

static void bad_addresses(void)
{
	struct address six = address_of(PEER_IPV6, peer_port_number);
	struct sockaddr_un path = { .sun_family = AF_UNIX, .sun_path = "/nowhere" };
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(peer), 0));
	CALL(connect(fd, SA(peer), 1));
	CALL(connect(fd, SA(peer), 2));
	CALL(connect(fd, SA(peer), 15));
	CALL(connect(fd, SA(peer), 1000));
	CALL(connect(fd, SA(peer), (socklen_t)-1));
	CALL(connect(fd, (struct sockaddr *)8, 16));
	CALL(connect(fd, SA(six), six.length));
	CALL(connect(fd, (struct sockaddr *)&path, sizeof path));
	CALL(connect(-1, SA(peer), peer.length));
	CALL(connect(1000, SA(peer), peer.length));
	CALL(connect(fd, SA(peer), sizeof(struct sockaddr_storage)));
	GETPEERNAME(fd);
	CALL(connect(fd, SA(peer), 15));
	CALL(connect(fd, SA(six), six.length));
	int file = CALL_FD(open("/dev/null", O_RDWR));
	CALL(connect(file, SA(peer), peer.length));
}

/* No page is mapped there, and the compiler must not know. */
static void *volatile nowhere = (void *)8;

static void buffers_nowhere(void)
{
	int fd = connected("say:hello echo");
	until_readable_bytes(fd, 5);
	CALL(read(fd, nowhere, 5));
	CALL(write(fd, nowhere, 5));
	CALL(getpeername(fd, nowhere, &(socklen_t){ 16 }));
	CALL(getpeername(fd, nowhere, nowhere));
	CALL(getsockname(fd, nowhere, &(socklen_t){ 16 }));
	CALL(getsockopt(fd, SOL_SOCKET, SO_ERROR, nowhere, &(socklen_t){ 4 }));
	CALL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, nowhere, 4));
	CALL(recvmsg(fd, nowhere, 0));
	CALL(sendmsg(fd, nowhere, 0));
	CALL(ioctl(fd, FIONREAD, nowhere));
	CALL(recvfrom(fd, &(char){ 0 }, 1, MSG_PEEK, nowhere, &(socklen_t){ 16 }));
	trace_read_exactly(fd, 5);
}

static void connect_timeout_by_so_sndtimeo(void)
{
	struct address target = address_of(BLACK_HOLE, 80);
	struct timeval timeout = { .tv_usec = 300000 };
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout));
	CALL(connect(fd, SA(target), target.length));
	POLL(fd, ALL_EVENTS, 0);
	SOCKET_ERROR(fd);
	GETPEERNAME(fd);
	CALL(connect(fd, SA(target), target.length));
	CALL(close(fd));
}

static void connect_timeout_by_syn_count(void)
{
	struct address target = address_of(BLACK_HOLE, 80);
	int one = 1, fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &one, sizeof one));
	CALL(connect(fd, SA(target), target.length));
	SOCKET_ERROR(fd);
	GETPEERNAME(fd);
}

static void connect_timeout_by_user_timeout(void)
{
	struct address target = address_of(BLACK_HOLE, 80);
	unsigned timeout_ms = 1500;
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms));
	CALL(connect(fd, SA(target), target.length));
	SOCKET_ERROR(fd);
}

static void black_hole_nonblocking_poll_times_out(void)
{
	struct address target = address_of(BLACK_HOLE, 80);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	POLL(fd, ALL_EVENTS, 500);
	SOCKET_ERROR(fd);
	CALL(close(fd));
}

static void unconnected_socket(void)
{
	count_sigpipe();
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(read(fd, &(char){ 0 }, 1));
	CALL(recv(fd, &(char){ 0 }, 1, MSG_PEEK));
	CALL(write(fd, "x", 1));
	trace("SIGPIPE: %d", broken_pipes);
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(sendto(fd, "x", 1, MSG_NOSIGNAL, SA(peer), peer.length));
	trace("SIGPIPE: %d", broken_pipes);
	CALL(shutdown(fd, SHUT_RDWR));
	CALL(accept(fd, NULL, NULL));
	CALL(ioctl(fd, FIONREAD, &(int){ 0 }));
	CALL(ioctl(fd, TIOCOUTQ, &(int){ 0 }));
	SOCKET_ERROR(fd);
	GET_INT(fd, SOL_SOCKET, SO_ACCEPTCONN);
}

static void reset_by_peer_then_read(void)
{
	int fd = connected("sync reset");
	release(fd);
	until(fd, POLLHUP);
	POLL(fd, ALL_EVENTS, 0);
	CALL(read(fd, &(char){ 0 }, 1));
	CALL(read(fd, &(char){ 0 }, 1));
	POLL(fd, ALL_EVENTS, 0);
	SOCKET_ERROR(fd);
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	CALL(shutdown(fd, SHUT_RDWR));
}

static void reset_by_peer_then_so_error(void)
{
	int fd = connected("sync reset");
	release(fd);
	until(fd, POLLHUP);
	SOCKET_ERROR(fd);
	SOCKET_ERROR(fd);
	POLL(fd, ALL_EVENTS, 0);
	CALL(read(fd, &(char){ 0 }, 1));
}

static void reset_by_peer_then_write(void)
{
	count_sigpipe();
	int fd = connected("sync reset");
	release(fd);
	until(fd, POLLHUP);
	CALL(write(fd, "x", 1));
	trace("SIGPIPE: %d", broken_pipes);
	CALL(write(fd, "x", 1));
	trace("SIGPIPE: %d", broken_pipes);
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
	trace("SIGPIPE: %d", broken_pipes);
	SOCKET_ERROR(fd);
}

static void reset_by_peer_after_data(void)
{
	int fd = connected("say:hello sync reset");
	until_readable_bytes(fd, 5);
	release(fd);
	until(fd, POLLERR | POLLHUP);
	POLL(fd, ALL_EVENTS, 0);
	CALL(ioctl(fd, FIONREAD, &(int){ 0 }));
	CALL(read(fd, &(char[8]){ 0 }, 8));
	CALL(read(fd, &(char[8]){ 0 }, 8));
	CALL(read(fd, &(char[8]){ 0 }, 8));
}

static void reset_wakes_a_blocking_read(void)
{
	int fd = connected("sync reset");
	release(fd);
	CALL(recv(fd, &(char[8]){ 0 }, 8, 0));
	CALL(recv(fd, &(char[8]){ 0 }, 8, 0));
}

static void disconnect_after_a_reset_and_reconnect(void)
{
	struct sockaddr unspecified = { .sa_family = AF_UNSPEC };
	int fd = connected("sync reset");
	release(fd);
	until(fd, POLLHUP);
	CALL(connect(fd, &unspecified, sizeof unspecified));
	SOCKET_ERROR(fd);
	CALL(connect(fd, SA(peer), peer.length));
	play(fd, "echo");
	trace_echo(fd, "hello");
}

static void connect_again_after_a_reset(void)
{
	int fd = connected("sync reset");
	release(fd);
	until(fd, POLLHUP);
	CALL(connect(fd, SA(peer), peer.length));
	SOCKET_ERROR(fd);
	CALL(connect(fd, SA(peer), peer.length));
}

/* The peer is gone: the first write draws a RST, the ones after it see it. */
static void write_to_a_closed_peer(void)
{
	count_sigpipe();
	int fd = connected("say:bye");
	until(fd, POLLRDHUP);
	trace_read_all(fd);
	CALL(write(fd, "x", 1));
	until(fd, POLLHUP);
	POLL(fd, ALL_EVENTS, 0);
	CALL(write(fd, "x", 1));
	trace("SIGPIPE: %d", broken_pipes);
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
	trace("SIGPIPE: %d", broken_pipes);
	CALL(read(fd, &(char){ 0 }, 1));
	SOCKET_ERROR(fd);
}

static void sigpipe_kills(void)
{
	pid_t child = fork();
	if (child == 0) {
		int fd = connected("echo");
		CALL(shutdown(fd, SHUT_WR));
		write(fd, "x", 1) == 1 ? trace("written") : trace("alive");
		_exit(0);
	}
	trace_wait(child);
}

const struct scenario failure_scenarios[] = {
	SCENARIO(refused_blocking_then_the_same_descriptor),
	SCENARIO(refused_nonblocking_then_so_error),
	SCENARIO(refused_nonblocking_then_connect),
	SCENARIO(refused_nonblocking_then_read),
	SCENARIO(refused_nonblocking_then_write),
	SCENARIO(refused_on_ipv6),
	SCENARIO(no_route),
	SCENARIO(unreachable_route),
	SCENARIO(prohibited_route),
	SCENARIO(no_neighbour),
	SCENARIO(no_neighbour_nonblocking),
	SCENARIO(broadcast_address),
	SCENARIO(multicast_address),
	SCENARIO(port_zero),
	SCENARIO(bad_addresses),
	SCENARIO(buffers_nowhere),
	SCENARIO(connect_timeout_by_so_sndtimeo),
	SCENARIO(connect_timeout_by_syn_count),
	SCENARIO(connect_timeout_by_user_timeout),
	SCENARIO(black_hole_nonblocking_poll_times_out),
	SCENARIO(unconnected_socket),
	SCENARIO(reset_by_peer_then_read),
	SCENARIO(reset_by_peer_then_so_error),
	SCENARIO(reset_by_peer_then_write),
	SCENARIO(reset_by_peer_after_data),
	SCENARIO(reset_wakes_a_blocking_read),
	SCENARIO(disconnect_after_a_reset_and_reconnect),
	SCENARIO(connect_again_after_a_reset),
	SCENARIO(write_to_a_closed_peer),
	SCENARIO(sigpipe_kills),
	END_OF_SCENARIOS,
};

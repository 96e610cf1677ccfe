/* Listening sockets: bind, listen, accept, what accepted sockets are, and who gets them. The peer connects to us when told to (peer.c, "call"). */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/select.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct address any_address(int family, uint16_t port)
{
	return address_of(family == AF_INET ? "0.0.0.0" : "::", port);
}

uint16_t port_of(int fd)
{
	struct address own = { .length = sizeof own.storage };
	MUST(getsockname(fd, SA(own), &own.length));
	/* Both families have the port at the same place. */
	return ntohs(((struct sockaddr_in *)&own.storage)->sin_port);
}

static void set_int(int fd, int level, int option, int value)
{
	MUST(setsockopt(fd, level, option, &value, sizeof value));
}

int listening(int family, uint16_t port)
{
	struct address address = any_address(family, port);
	int fd = (int)MUST(socket(family, SOCK_STREAM, 0));
	MUST(bind(fd, SA(address), address.length));
	MUST(listen(fd, 16));
	return fd;
}

int called(const char *word, uint16_t port, const char *script)
{
	char line[200];
	snprintf(line, sizeof line, "%s:%u %s", word, port, script);
	return connected(line);
}

/* Reads and echoes one short message of the peer's. */
static void trace_serve(int fd)
{
	char text[64];
	until(fd, POLLIN);
	ssize_t got = read(fd, text, sizeof text - 1);
	trace("it says: %.*s", got > 0 ? (int)got : 0, text);
	CALL(write(fd, "answer", 6));
	CALL(shutdown(fd, SHUT_WR));
	trace_read_all(fd);
	close(fd);
}

static void accept_plainly(void)
{
	int listener = listening(AF_INET, 0);
	int control = called("call", port_of(listener), "say:hello drain back digest");
	struct address from = { .length = sizeof from.storage };
	int fd = CALL_FD(accept(listener, SA(from), &from.length));
	trace_address("from", SA(from), from.length);
	GETSOCKNAME(listener);
	GETSOCKNAME(fd);
	GETPEERNAME(fd);
	GETPEERNAME(listener);
	CALL(fcntl(fd, F_GETFL));
	CALL(fcntl(fd, F_GETFD));
	GET_INT(fd, SOL_SOCKET, SO_ACCEPTCONN);
	GET_INT(fd, SOL_SOCKET, SO_TYPE);
	GET_INT(fd, SOL_SOCKET, SO_DOMAIN);
	GET_INT(fd, SOL_SOCKET, SO_PROTOCOL);
	SOCKET_ERROR(fd);
	trace_serve(fd);
	trace("%s", read_line(control));
}

static void accept4_and_its_flags(void)
{
	int listener = listening(AF_INET, 0);
	int control = called("call", port_of(listener), "say:hello hold");
	until(listener, POLLIN);
	CALL(accept4(listener, NULL, NULL, 0x40000000));
	int fd = CALL_FD(accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
	CALL(fcntl(fd, F_GETFL) & O_NONBLOCK);
	CALL(fcntl(fd, F_GETFD));
	GETPEERNAME(fd);
	close(control);
	control = called("call", port_of(listener), "say:again hold");
	set_nonblocking(listener, true);
	until(listener, POLLIN);
	fd = CALL_FD(accept(listener, NULL, NULL));
	CALL(fcntl(fd, F_GETFL) & O_NONBLOCK);
	CALL(accept(listener, NULL, NULL));
	close(control);
}

static void accept_with_odd_arguments(void)
{
	int listener = listening(AF_INET, 0), nothing = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in from;
	socklen_t length;
	CALL(accept(-1, NULL, NULL));
	CALL(accept(nothing, NULL, NULL));
	CALL(accept(MUST(socket(AF_INET, SOCK_DGRAM, 0)), NULL, NULL));
	for (int i = 0; i < 4; i++)
		called("call", port_of(listener), "hold");
	until(listener, POLLIN);
	memset(&from, 0x55, sizeof from);
	length = 4;
	CALL_FD(accept(listener, (struct sockaddr *)&from, &length));
	trace("length %u, family %d, port %s, the rest %s", length, from.sin_family, from.sin_port ? "set" : "0",
	      from.sin_addr.s_addr == 0x55555555 ? "untouched" : "written");
	length = (socklen_t)-1;
	CALL(accept(listener, (struct sockaddr *)&from, &length));
	length = sizeof from;
	CALL(accept(listener, (struct sockaddr *)1, &length));
	length = 0;
	CALL_FD(accept(listener, (struct sockaddr *)&from, &length));
	trace("length %u", length);
}

static void listening_socket_and_its_options(void)
{
	struct address address = any_address(AF_INET, 0);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	char state;
	socklen_t length = 1;
	GET_INT(fd, SOL_SOCKET, SO_ACCEPTCONN);
	CALL(bind(fd, SA(address), address.length));
	CALL(accept(fd, NULL, NULL));
	CALL(listen(fd, 5));
	GET_INT(fd, SOL_SOCKET, SO_ACCEPTCONN);
	CALL(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &length));
	trace("state %d", state);
	CALL(listen(fd, 7));
	CALL(bind(fd, SA(address), address.length));
	CALL(connect(fd, SA(peer), peer.length));
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(read(fd, &state, 1));
	POLL(fd, POLLIN | POLLOUT, 0);
	SOCKET_ERROR(fd);
	CALL(shutdown(fd, SHUT_WR));
	POLL(fd, POLLIN | POLLOUT, 0);
	CALL(shutdown(fd, SHUT_RD));
	POLL(fd, POLLIN | POLLOUT, 0);
	GET_INT(fd, SOL_SOCKET, SO_ACCEPTCONN);
	CALL(accept(fd, NULL, NULL));
	CALL(listen(fd, 5));
	GET_INT(fd, SOL_SOCKET, SO_ACCEPTCONN);
	int control = called("call", port_of(fd), "say:hello drain");
	trace_serve(CALL_FD(accept(fd, NULL, NULL)));
	close(control);
}

static void listen_without_bind(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(listen(fd, 5));
	GETSOCKNAME(fd);
	trace("it has %s", port_of(fd) ? "a port" : "no port");
	int control = called("call", port_of(fd), "say:hello drain");
	trace_serve(CALL_FD(accept(fd, NULL, NULL)));
	close(control);
}

static void ports_in_use(void)
{
	int first = listening(AF_INET, 0), second = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	struct address address = any_address(AF_INET, port_of(first)), own = address_of(OWN_IPV4, port_of(first));
	CALL(bind(second, SA(address), address.length));
	set_int(second, SOL_SOCKET, SO_REUSEADDR, 1);
	CALL(bind(second, SA(address), address.length));
	CALL(bind(second, SA(own), own.length));
	CALL(close(first));
	CALL(bind(second, SA(address), address.length));
	CALL(listen(second, 5));
	/* Both may bind; the second to listen is refused. */
	int third = CALL_FD(socket(AF_INET, SOCK_STREAM, 0)), fourth = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	set_int(third, SOL_SOCKET, SO_REUSEADDR, 1);
	set_int(fourth, SOL_SOCKET, SO_REUSEADDR, 1);
	address = any_address(AF_INET, 0);
	CALL(bind(third, SA(address), address.length));
	address = any_address(AF_INET, port_of(third));
	CALL(bind(fourth, SA(address), address.length));
	CALL(listen(third, 5));
	CALL(listen(fourth, 5));
	int control = called("call", port_of(third), "say:hello drain");
	trace_serve(CALL_FD(accept(third, NULL, NULL)));
	close(control);
}

static void restart_beside_old_connections(void)
{
	int listener = listening(AF_INET, 0);
	uint16_t port = port_of(listener);
	struct address address = any_address(AF_INET, port);
	called("call", port, "echo");
	int old = CALL_FD(accept(listener, NULL, NULL));
	trace_echo(old, "before");
	CALL(close(listener));
	int control = called("call", port, "back digest");
	trace("nobody listens: %s", read_line(control));
	listener = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(bind(listener, SA(address), address.length));
	set_int(listener, SOL_SOCKET, SO_REUSEADDR, 1);
	/* The old one was accepted from a socket without SO_REUSEADDR. */
	CALL(bind(listener, SA(address), address.length));
	set_int(old, SOL_SOCKET, SO_REUSEADDR, 1);
	trace_echo(old, "after");
	close(old);
}

static void restart_with_reuseaddr(void)
{
	struct address address = any_address(AF_INET, 0);
	int old = -1;
	for (int round = 0; round < 3; round++) {
		int listener = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
		set_int(listener, SOL_SOCKET, SO_REUSEADDR, 1);
		CALL(bind(listener, SA(address), address.length));
		CALL(listen(listener, 5));
		address = any_address(AF_INET, port_of(listener));
		called("call", port_of(listener), "echo");
		int fd = CALL_FD(accept(listener, NULL, NULL));
		trace_echo(fd, "hello");
		if (old != -1) {
			trace_echo(old, "still here");
			close(old);
		}
		old = fd;
		CALL(close(listener));
	}
}

static void one_socket_for_both_families(void)
{
	int listener = listening(AF_INET6, 0);
	for (int six = 0; six < 2; six++) {
		struct address from = { .length = sizeof from.storage };
		int control = called(six ? "call6" : "call", port_of(listener), "say:hello drain");
		int fd = CALL_FD(accept(listener, SA(from), &from.length));
		trace_address("from", SA(from), from.length);
		GETSOCKNAME(fd);
		GETPEERNAME(fd);
		GET_INT(fd, SOL_SOCKET, SO_DOMAIN);
		GET_INT(fd, IPPROTO_IPV6, IPV6_V6ONLY);
		trace_serve(fd);
		close(control);
	}
}

static void one_socket_for_each_family(void)
{
	struct address address = any_address(AF_INET6, 0);
	int six = CALL_FD(socket(AF_INET6, SOCK_STREAM, 0));
	set_int(six, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	CALL(bind(six, SA(address), address.length));
	CALL(setsockopt(six, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 0 }, sizeof(int)));
	CALL(listen(six, 5));
	int control = called("call", port_of(six), "back digest");
	trace("by IPv4: %s", read_line(control));
	close(control);
	int four = listening(AF_INET, port_of(six));
	control = called("call", port_of(six), "say:four drain");
	trace_serve(CALL_FD(accept(four, NULL, NULL)));
	close(control);
	control = called("call6", port_of(six), "say:six drain");
	trace_serve(CALL_FD(accept(six, NULL, NULL)));
	close(control);
}

static void a_certain_address(void)
{
	struct address own = address_of(OWN_IPV4, 0), other = address_of("127.0.0.1", 0);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0)), second = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(bind(fd, SA(own), own.length));
	CALL(listen(fd, 5));
	other = address_of("127.0.0.1", port_of(fd));
	CALL(bind(second, SA(other), other.length));
	CALL(listen(second, 5));
	GETSOCKNAME(fd);
	int control = called("call", port_of(fd), "say:hello drain");
	trace_serve(CALL_FD(accept(fd, NULL, NULL)));
	close(control);
	struct address foreign = address_of(NO_NEIGHBOUR, 0);
	CALL(bind(MUST(socket(AF_INET, SOCK_STREAM, 0)), SA(foreign), foreign.length));
}

static const struct {
	int level, option, value;
} inherited_options[] = {
	{ SOL_SOCKET, SO_KEEPALIVE, 1 },
	{ IPPROTO_TCP, TCP_KEEPIDLE, 77 },
	{ IPPROTO_TCP, TCP_KEEPINTVL, 33 },
	{ IPPROTO_TCP, TCP_KEEPCNT, 5 },
	{ IPPROTO_TCP, TCP_NODELAY, 1 },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, 12345 },
	{ IPPROTO_TCP, TCP_QUICKACK, 0 },
	{ IPPROTO_TCP, TCP_LINGER2, 9 },
	{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, 65536 },
	{ SOL_SOCKET, SO_SNDBUF, 300000 },
	{ SOL_SOCKET, SO_RCVBUF, 300000 },
	{ SOL_SOCKET, SO_PRIORITY, 3 },
	{ SOL_SOCKET, SO_MARK, 11 },
	{ SOL_SOCKET, SO_OOBINLINE, 1 },
	{ SOL_SOCKET, SO_REUSEADDR, 1 },
	{ SOL_SOCKET, SO_DONTROUTE, 0 },
	{ IPPROTO_IP, IP_TOS, 0x48 },
	{ IPPROTO_IP, IP_TTL, 33 },
};
#define INHERITED (sizeof inherited_options / sizeof *inherited_options)

static void trace_options(int fd)
{
	char name[64];
	for (size_t i = 0; i < INHERITED; i++) {
		/* TCP_QUICKACK shows a mode that the kernel changes by itself. */
		if (inherited_options[i].level == IPPROTO_TCP && inherited_options[i].option == TCP_QUICKACK)
			continue;
		snprintf(name, sizeof name, "level %d option %d", inherited_options[i].level, inherited_options[i].option);
		trace_get_int(name, fd, inherited_options[i].level, inherited_options[i].option);
	}
	struct linger linger = { 0 };
	struct timeval timeout = { 0 };
	socklen_t length = sizeof linger;
	CALL(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length));
	trace("linger %d %d", linger.l_onoff, linger.l_linger);
	length = sizeof timeout;
	CALL(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, &length));
	trace("timeout %ld.%06ld", (long)timeout.tv_sec, (long)timeout.tv_usec);
}

static void set_options(int fd)
{
	for (size_t i = 0; i < INHERITED; i++)
		set_int(fd, inherited_options[i].level, inherited_options[i].option, inherited_options[i].value);
	struct linger linger = { 1, 7 };
	struct timeval timeout = { 3, 0 };
	MUST(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
	MUST(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
}

static void options_set_before_listen_are_inherited(void)
{
	struct address address = any_address(AF_INET, 0);
	int listener = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	set_options(listener);
	CALL(bind(listener, SA(address), address.length));
	CALL(listen(listener, 5));
	int control = called("call", port_of(listener), "say:hello drain");
	int fd = CALL_FD(accept(listener, NULL, NULL));
	trace_options(fd);
	trace_serve(fd);
	close(control);
}

static void options_set_after_listen_are_inherited(void)
{
	int listener = listening(AF_INET, 0);
	set_options(listener);
	int control = called("call", port_of(listener), "say:hello drain");
	int fd = CALL_FD(accept(listener, NULL, NULL));
	trace_options(fd);
	trace_serve(fd);
	close(control);
}

static void default_options(void)
{
	int listener = listening(AF_INET, 0);
	int control = called("call", port_of(listener), "say:hello drain");
	int fd = CALL_FD(accept(listener, NULL, NULL));
	GET_INT(fd, SOL_SOCKET, SO_KEEPALIVE);
	GET_INT(fd, IPPROTO_TCP, TCP_NODELAY);
	GET_INT(fd, IPPROTO_TCP, TCP_KEEPIDLE);
	GET_INT(fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
	GET_INT(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT);
	GET_INT(fd, IPPROTO_IP, IP_TOS);
	GET_INT(fd, SOL_SOCKET, SO_REUSEADDR);
	GET_INT(fd, SOL_SOCKET, SO_REUSEPORT);
	trace_serve(fd);
	close(control);
}

static void deferred_accept(void)
{
	int listener = listening(AF_INET, 0);
	set_int(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 10);
	GET_INT(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT);
	/* The peer says nothing until the first connection brings a byte. */
	int control = called("call", port_of(listener), "pause say:hello drain");
	POLL(listener, POLLIN, 300);
	release(control);
	POLL(listener, POLLIN, 10000);
	int fd = CALL_FD(accept(listener, NULL, NULL));
	GET_INT(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT);
	POLL(fd, POLLIN, 0);
	trace_serve(fd);
	close(control);
}

static void reset_before_accept(void)
{
	int listener = listening(AF_INET, 0);
	/* The answer comes on the first connection, so the reset is on its way or here. */
	int control = called("call", port_of(listener), "say:hello reset back tell");
	until(listener, POLLIN);
	read_line(control);
	usleep(100000);
	POLL(listener, POLLIN, 0);
	struct address from = { .length = sizeof from.storage };
	int fd = CALL_FD(accept(listener, SA(from), &from.length));
	trace_address("from", SA(from), from.length);
	POLL(fd, POLLIN | POLLOUT | POLLRDHUP, 1000);
	CALL(getpeername(fd, SA(from), &from.length));
	trace_read_all(fd);
	close(fd);
}

static void closed_before_accept(void)
{
	int listener = listening(AF_INET, 0);
	int control = called("call", port_of(listener), "say:hello fin back tell");
	until(listener, POLLIN);
	read_line(control);
	usleep(100000);
	int fd = CALL_FD(accept(listener, NULL, NULL));
	GETPEERNAME(fd);
	trace_read_all(fd);
	close(fd);
}

static void closed_while_connections_wait(void)
{
	int listener = listening(AF_INET, 0);
	int control = called("call", port_of(listener), "say:hello gone back digest");
	until(listener, POLLIN);
	CALL(close(listener));
	trace("the other side: %s", read_line(control));
}

static void reuseport_spreads(void)
{
	int fds[2], got[2] = { 0, 0 };
	struct address address = any_address(AF_INET, 0);
	for (int i = 0; i < 2; i++) {
		fds[i] = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
		set_int(fds[i], SOL_SOCKET, SO_REUSEPORT, 1);
		CALL(bind(fds[i], SA(address), address.length));
		CALL(listen(fds[i], 64));
		address = any_address(AF_INET, port_of(fds[0]));
	}
	for (int i = 0; i < 40; i++) {
		int control = called("call", port_of(fds[0]), "say:hello drain");
		struct pollfd items[2] = { { .fd = fds[0], .events = POLLIN }, { .fd = fds[1], .events = POLLIN } };
		MUST(poll(items, 2, 10000));
		int which = items[1].revents != 0;
		int fd = (int)MUST(accept(fds[which], NULL, NULL));
		got[which]++;
		close(fd);
		close(control);
	}
	trace("both got some: %d, together %d", got[0] > 0 && got[1] > 0, got[0] + got[1]);
	/* What is left gets all. */
	CALL(close(fds[0]));
	for (int i = 0; i < 8; i++) {
		int control = called("call", port_of(fds[1]), "say:hello drain");
		until(fds[1], POLLIN);
		close((int)MUST(accept(fds[1], NULL, NULL)));
		close(control);
	}
	trace("eight more");
}

static void several_at_once_with_select(void)
{
	int listeners[2] = { listening(AF_INET, 0), listening(AF_INET6, 0) };
	fd_set set;
	int controls[2] = { called("call", port_of(listeners[0]), "say:first drain"),
			    called("call6", port_of(listeners[1]), "say:second drain") };
	for (int i = 0; i < 2; i++) {
		struct timeval patience = { 10, 0 };
		until(listeners[i], POLLIN);
		FD_ZERO(&set);
		FD_SET(listeners[i], &set);
		CALL(select(listeners[i] + 1, &set, NULL, NULL, &patience));
		CALL(ppoll(&(struct pollfd){ .fd = listeners[i], .events = POLLIN }, 1, &(struct timespec){ 1, 0 }, NULL));
		trace_serve(CALL_FD(accept(listeners[i], NULL, NULL)));
		close(controls[i]);
	}
}

const struct scenario listen_scenarios[] = {
	SCENARIO(accept_plainly),
	SCENARIO(accept4_and_its_flags),
	SCENARIO(accept_with_odd_arguments),
	SCENARIO(listening_socket_and_its_options),
	SCENARIO(listen_without_bind),
	SCENARIO(ports_in_use),
	SCENARIO(restart_beside_old_connections),
	SCENARIO(restart_with_reuseaddr),
	SCENARIO(one_socket_for_both_families),
	SCENARIO(one_socket_for_each_family),
	SCENARIO(a_certain_address),
	SCENARIO(options_set_before_listen_are_inherited),
	SCENARIO(options_set_after_listen_are_inherited),
	SCENARIO(default_options),
	SCENARIO(deferred_accept),
	SCENARIO(reset_before_accept),
	SCENARIO(closed_before_accept),
	SCENARIO(closed_while_connections_wait),
	SCENARIO(reuseport_spreads),
	SCENARIO(several_at_once_with_select),
	END_OF_SCENARIOS,
};

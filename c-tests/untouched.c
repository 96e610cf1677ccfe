/* What is none of the library's business: datagrams, local sockets, loopback, own addresses, listeners, files. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <unistd.h>

static void datagrams(void)
{
	struct address any = address_of("127.0.0.1", 0), from = { .length = sizeof from.storage };
	char text[8] = "";
	int server = CALL_FD(socket(AF_INET, SOCK_DGRAM, 0));
	CALL(bind(server, SA(any), any.length));
	any.length = sizeof any.storage;
	MUST(getsockname(server, SA(any), &any.length));
	int client = CALL_FD(socket(AF_INET, SOCK_DGRAM, 0));
	GETPEERNAME(client);
	CALL(connect(client, SA(any), any.length));
	GETPEERNAME(client);
	GETSOCKNAME(client);
	CALL(send(client, "hello", 5, 0));
	CALL(recvfrom(server, text, 3, MSG_TRUNC, SA(from), &from.length));
	trace_address("from", SA(from), from.length);
	CALL(sendto(server, "back", 4, 0, SA(from), from.length));
	CALL(recv(client, text, 8, 0));
	CALL(close(server));
	CALL(send(client, "x", 1, 0));
	CALL(recv(client, text, 8, 0));
	CALL(shutdown(client, SHUT_RDWR));
	GET_INT(client, SOL_SOCKET, SO_TYPE);
}

static void local_stream_sockets(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX }, got;
	socklen_t length = sizeof got;
	int pair[2];
	snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "descriptors %d", getpid());
	int listener = CALL_FD(socket(AF_UNIX, SOCK_STREAM, 0));
	CALL(bind(listener, (struct sockaddr *)&name, sizeof name));
	CALL(listen(listener, 1));
	int client = CALL_FD(socket(AF_UNIX, SOCK_STREAM, 0));
	CALL(connect(client, (struct sockaddr *)&name, sizeof name));
	int server = CALL_FD(accept(listener, NULL, NULL));
	CALL(getpeername(client, (struct sockaddr *)&got, &length));
	trace("length %u, same: %d", length, memcmp(&got, &name, sizeof name) == 0);
	CALL(write(client, "hello", 5));
	CALL(read(server, &(char[8]){ 0 }, 8));
	CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	GETPEERNAME(pair[0]);
	GETSOCKNAME(pair[0]);
	GET_INT(pair[0], SOL_SOCKET, SO_DOMAIN);
	CALL(send(pair[0], "hello", 5, MSG_OOB));
	CALL(recv(pair[1], &(char[2]){ 0 }, 2, MSG_TRUNC));
	CALL(shutdown(pair[0], SHUT_RD));
	CALL(send(pair[1], "x", 1, MSG_NOSIGNAL));
	GET_INT(pair[0], IPPROTO_TCP, 1);
}

static void trace_own_listener(const char *host)
{
	struct address any = address_of(host, 0);
	int listener = CALL_FD(socket(any.storage.ss_family, SOCK_STREAM, 0));
	CALL(bind(listener, SA(any), any.length));
	CALL(listen(listener, 5));
	GET_INT(listener, SOL_SOCKET, SO_ACCEPTCONN);
	any.length = sizeof any.storage;
	MUST(getsockname(listener, SA(any), &any.length));
	int client = CALL_FD(socket(any.storage.ss_family, SOCK_STREAM, 0));
	CALL(connect(client, SA(any), any.length));
	struct address from = { .length = sizeof from.storage };
	int server = CALL_FD(accept4(listener, SA(from), &from.length, SOCK_CLOEXEC));
	trace_address("accepted from", SA(from), from.length);
	GETSOCKNAME(client);
	GETPEERNAME(client);
	GETSOCKNAME(server);
	GETPEERNAME(server);
	CALL(write(client, "hello", 5));
	until_readable_bytes(server, 5);
	CALL(recv(server, &(char[8]){ 0 }, 8, MSG_TRUNC));
	GET_INT(server, SOL_SOCKET, SO_PROTOCOL);
	CALL(shutdown(client, SHUT_WR));
	CALL(read(server, &(char[8]){ 0 }, 8));
}

static void loopback(void)
{
	trace_own_listener("127.0.0.1");
}

static void loopback_ipv6(void)
{
	trace_own_listener("::1");
}

static void own_address(void)
{
	trace_own_listener(OWN_IPV4);
}

static void connect_to_itself(void)
{
	struct address own = address_of("127.0.0.1", 0);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(bind(fd, SA(own), own.length));
	own.length = sizeof own.storage;
	MUST(getsockname(fd, SA(own), &own.length));
	CALL(connect(fd, SA(own), own.length));
	trace_echo(fd, "hello");
}

static void files_and_pipes(void)
{
	int pipe_ends[2];
	MUST(pipe(pipe_ends));
	CALL(write(pipe_ends[1], "hello", 5));
	CALL(ioctl(pipe_ends[0], FIONREAD, &(int){ 0 }));
	CALL(recv(pipe_ends[0], &(char){ 0 }, 1, 0));
	CALL(send(pipe_ends[1], "x", 1, 0));
	CALL(sendto(pipe_ends[1], "x", 1, 0, SA(peer), peer.length));
	CALL(shutdown(pipe_ends[0], SHUT_RD));
	GETPEERNAME(pipe_ends[0]);
	GETSOCKNAME(pipe_ends[0]);
	SOCKET_ERROR(pipe_ends[0]);
	CALL(listen(pipe_ends[0], 1));
	CALL(accept(pipe_ends[0], NULL, NULL));
	CALL(read(pipe_ends[0], &(char[8]){ 0 }, 8));
	CALL(recv(999, &(char){ 0 }, 1, 0));
	CALL(shutdown(999, SHUT_WR));
	CALL(close(999));
}

const struct scenario untouched_scenarios[] = {
	SCENARIO(datagrams),
	SCENARIO(local_stream_sockets),
	SCENARIO(loopback),
	SCENARIO(loopback_ipv6),
	SCENARIO(own_address),
	SCENARIO(connect_to_itself),
	SCENARIO(files_and_pipes),
	END_OF_SCENARIOS,
};

/* The same calls made through syscall(2), as some runtimes do. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int raw_getpeername(int fd, struct sockaddr *address, socklen_t *length)
{
	return (int)syscall(SYS_getpeername, fd, address, length);
}

static int raw_getsockname(int fd, struct sockaddr *address, socklen_t *length)
{
	return (int)syscall(SYS_getsockname, fd, address, length);
}

static void raw_everything(void)
{
	int value = 0;
	socklen_t length = sizeof value;
	int fd = CALL_FD(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
	CALL(syscall(SYS_connect, fd, SA(peer), peer.length));
	trace_name("raw getpeername", fd, raw_getpeername);
	trace_name("raw getsockname", fd, raw_getsockname);
	GETPEERNAME(fd);
	CALL(syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &value, &length));
	trace("domain %d", value);
	play(fd, "echo");
	CALL(syscall(SYS_write, fd, "hello", 5));
	until_readable_bytes(fd, 5);
	CALL(syscall(SYS_recvfrom, fd, &(char[8]){ 0 }, 8, 0, NULL, NULL));
	CALL(syscall(SYS_shutdown, fd, SHUT_WR));
	CALL(syscall(SYS_read, fd, &(char[8]){ 0 }, 8));
	CALL(syscall(SYS_close, fd));
	CALL(syscall(9999));
	CALL(syscall(SYS_getppid) > 0);
}

/* What the library carries must be readable by a program that never calls through libc. */
static void raw_data_calls_on_a_libc_connection(void)
{
	int fd = connected("echo");
	CALL(syscall(SYS_write, fd, "hello", 5));
	until_readable_bytes(fd, 5);
	CALL(syscall(SYS_read, fd, &(char[8]){ 0 }, 8));
	CALL(syscall(SYS_sendto, fd, "again", 5, 0, NULL, 0));
	until_readable_bytes(fd, 5);
	CALL(syscall(SYS_recvfrom, fd, &(char[8]){ 0 }, 8, 0, NULL, NULL));
}

const struct scenario syscall_scenarios[] = {
	SCENARIO(raw_everything),
	SCENARIO(raw_data_calls_on_a_libc_connection),
	END_OF_SCENARIOS,
};

#define _GNU_SOURCE
#include "trace.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Lines go out by write(2) at once: nothing of them may sit in a buffer that fork() would double. */
void trace(const char *format, ...)
{
	char line[1024];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(line, sizeof line - 1, format, arguments);
	va_end(arguments);
	if (length < 0)
		_exit(99);
	if ((size_t)length > sizeof line - 2)
		length = sizeof line - 2;
	line[length++] = '\n';
	if (write(STDOUT_FILENO, line, (size_t)length) != length)
		_exit(99);
}

static const char *error_name(int error)
{
	const char *name = strerrorname_np(error);
	return name ? name : "unknown error";
}

long trace_number(const char *text, long value)
{
	int error = errno;
	if (value == -1)
		trace("%s = -1 %s", text, error_name(error));
	else
		trace("%s = %ld", text, value);
	errno = error;
	return value;
}

long trace_descriptor(const char *text, long value)
{
	int error = errno;
	if (value == -1)
		trace("%s = -1 %s", text, error_name(error));
	else
		trace("%s = descriptor", text);
	errno = error;
	return value;
}

long trace_some(const char *text, long value)
{
	int error = errno;
	if (value > 0)
		trace("%s > 0", text);
	else
		trace_number(text, value);
	errno = error;
	return value;
}

long trace_must(const char *text, const char *file, int line, long value)
{
	if (value == -1) {
		trace("%s:%d: %s failed: %s", file, line, text, error_name(errno));
		_exit(98);
	}
	return value;
}

struct bit_name {
	unsigned bit;
	const char *name;
};

static const char *names_of(unsigned bits, const struct bit_name *names, char *buffer, size_t size)
{
	size_t used = 0;
	buffer[0] = '\0';
	for (; names->name; names++) {
		if (!(bits & names->bit))
			continue;
		bits &= ~names->bit;
		used += (size_t)snprintf(buffer + used, size - used, "%s%s", used ? "|" : "", names->name);
	}
	if (bits)
		snprintf(buffer + used, size - used, "%s%#x", used ? "|" : "", bits);
	return buffer[0] ? buffer : "nothing";
}

/* POLLRDNORM and POLLWRNORM only double POLLIN and POLLOUT, and poll() gives them only when asked. */
const char *poll_names(short events, char *buffer, size_t size)
{
	static const struct bit_name names[] = {
		{ POLLIN, "POLLIN" },         { POLLPRI, "POLLPRI" },       { POLLOUT, "POLLOUT" },
		{ POLLRDHUP, "POLLRDHUP" },   { POLLERR, "POLLERR" },       { POLLHUP, "POLLHUP" },
		{ POLLNVAL, "POLLNVAL" },     { POLLRDNORM, "POLLRDNORM" }, { POLLRDBAND, "POLLRDBAND" },
		{ POLLWRNORM, "POLLWRNORM" }, { POLLWRBAND, "POLLWRBAND" }, { 0, NULL },
	};
	return names_of((unsigned short)events, names, buffer, size);
}

int trace_poll(const char *text, int fd, short events, int timeout_ms)
{
	char buffer[256];
	struct pollfd item = { .fd = fd, .events = events };
	int result = poll(&item, 1, timeout_ms);
	if (result <= 0)
		trace_number(text, result);
	else
		trace("%s = %d %s", text, result, poll_names(item.revents, buffer, sizeof buffer));
	return item.revents;
}

static int by_data(const void *left, const void *right)
{
	uint64_t a = ((const struct epoll_event *)left)->data.u64;
	uint64_t b = ((const struct epoll_event *)right)->data.u64;
	return (a > b) - (a < b);
}

int trace_epoll_wait(const char *text, int epoll, int timeout_ms)
{
	char buffer[256];
	struct epoll_event events[64];
	errno = 0;
	int count = epoll_wait(epoll, events, 64, timeout_ms);
	trace_number(text, count);
	if (count > 0)
		qsort(events, (size_t)count, sizeof *events, by_data);
	for (int i = 0; i < count; i++) {
		/* EPOLLIN and its kin have the values of POLLIN and its kin. */
		poll_names((short)events[i].events, buffer, sizeof buffer);
		trace("  event %s data %#llx", buffer, (unsigned long long)events[i].data.u64);
	}
	return count;
}

int trace_get_int(const char *text, int fd, int level, int option)
{
	int value = -12345;
	socklen_t length = sizeof value;
	errno = 0;
	if (getsockopt(fd, level, option, &value, &length) == -1)
		trace_number(text, -1);
	else
		trace("%s = %d, %u bytes", text, value, length);
	return value;
}

int trace_socket_error(const char *text, int fd)
{
	int value = -1;
	socklen_t length = sizeof value;
	errno = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length) == -1)
		trace_number(text, -1);
	else
		trace("%s: %s", text, value ? error_name(value) : "none");
	return value;
}

static uint16_t peer_port;
static uint16_t seen_ports[64];
static int seen_count;

void trace_peer_port(uint16_t port)
{
	peer_port = port;
}

void trace_forget_ports(void)
{
	seen_count = 0;
}

static const char *port_name(uint16_t port, char *buffer, size_t size)
{
	if (port == 0)
		return "0";
	if (port == peer_port)
		return "PEER_PORT";
	int i = 0;
	while (i < seen_count && seen_ports[i] != port)
		i++;
	if (i == seen_count && seen_count < 64)
		seen_ports[seen_count++] = port;
	snprintf(buffer, size, "PORT%d", i + 1);
	return buffer;
}

void trace_address(const char *text, const struct sockaddr *address, socklen_t length)
{
	char host[INET6_ADDRSTRLEN] = "?", port[16];
	if (length < sizeof(sa_family_t)) {
		trace("%s: no address, %u bytes", text, length);
	} else if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)address;
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
		trace("%s: AF_INET %s %s, %u bytes", text, host, port_name(ntohs(in->sin_port), port, sizeof port),
		      length);
	} else if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
		trace("%s: AF_INET6 %s %s flow %u scope %u, %u bytes", text, host,
		      port_name(ntohs(in6->sin6_port), port, sizeof port), ntohl(in6->sin6_flowinfo),
		      in6->sin6_scope_id, length);
	} else {
		trace("%s: family %d, %u bytes", text, address->sa_family, length);
	}
}

int trace_name(const char *text, int fd, int (*get)(int, struct sockaddr *, socklen_t *))
{
	struct sockaddr_storage address;
	socklen_t length = sizeof address;
	memset(&address, 0, sizeof address);
	errno = 0;
	int result = get(fd, (struct sockaddr *)&address, &length);
	if (result == -1)
		trace_number(text, result);
	else
		trace_address(text, (struct sockaddr *)&address, length);
	return result;
}

void pattern_fill(void *buffer, size_t length, uint64_t offset)
{
	unsigned char *bytes = buffer;
	for (size_t i = 0; i < length; i++) {
		uint64_t at = offset + i;
		bytes[i] = (unsigned char)(at ^ (at >> 8) * 31 ^ (at >> 16) * 17);
	}
}

uint32_t digest_update(uint32_t digest, const void *bytes, size_t length)
{
	const unsigned char *byte = bytes;
	uint32_t a = digest & 0xffff, b = digest >> 16;
	for (size_t i = 0; i < length; i++) {
		a = (a + byte[i]) % 65521;
		b = (b + a) % 65521;
	}
	return b << 16 | a;
}

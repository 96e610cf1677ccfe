#define _GNU_SOURCE
#include "host.h"
#include "trace.h"

#include <linux/sockios.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct address peer;
const char *peer_host;
uint16_t peer_port_number;
int inherited = -1;

struct address address_of(const char *host, uint16_t port)
{
	struct address address;
	struct sockaddr_in *in = (struct sockaddr_in *)&address.storage;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address.storage;
	memset(&address, 0, sizeof address);
	if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		address.length = sizeof *in;
	} else if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		address.length = sizeof *in6;
	} else {
		trace("%s is no address", host);
		_exit(98);
	}
	return address;
}

void play(int fd, const char *script)
{
	char line[256];
	int length = snprintf(line, sizeof line, "%s\n", script);
	MUST(write(fd, line, (size_t)length) == length ? 0 : -1);
}

int connected(const char *script)
{
	int fd = (int)MUST(socket(peer.storage.ss_family, SOCK_STREAM, 0));
	MUST(connect(fd, SA(peer), peer.length));
	play(fd, script);
	return fd;
}

const char *read_line(int fd)
{
	static char line[256];
	size_t length = 0;
	while (length < sizeof line - 1) {
		MUST(read(fd, line + length, 1) == 1 ? 0 : -1);
		if (line[length] == '\n')
			break;
		length++;
	}
	line[length] = '\0';
	return line;
}

int control(const char *script, struct address *target)
{
	int fd = connected(script);
	*target = address_of(peer_host, (uint16_t)atoi(read_line(fd)));
	return fd;
}

void release(int fd)
{
	MUST(write(fd, ".", 1));
}

void until(int fd, short events)
{
	char asked[256], got[256];
	struct pollfd item = { .fd = fd, .events = events };
	MUST(poll(&item, 1, 10000));
	if (!(item.revents & events)) {
		trace("waited in vain for %s, there is %s", poll_names(events, asked, sizeof asked),
		      poll_names(item.revents, got, sizeof got));
		_exit(97);
	}
}

void until_readable_bytes(int fd, int count)
{
	int readable = 0;
	for (int ms = 0; ms < 10000; ms++) {
		MUST(ioctl(fd, FIONREAD, &readable));
		if (readable >= count)
			return;
		usleep(1000);
	}
	trace("waited in vain for %d readable bytes, there are %d", count, readable);
	_exit(97);
}

void until_acknowledged(int fd)
{
	int queued = 0;
	for (int ms = 0; ms < 10000; ms++) {
		MUST(ioctl(fd, SIOCOUTQ, &queued));
		if (queued == 0)
			return;
		usleep(1000);
	}
	trace("waited in vain for an acknowledgment of %d bytes", queued);
	_exit(97);
}

void trace_read_all(int fd)
{
	static unsigned char buffer[65536];
	uint64_t total = 0;
	uint32_t digest = DIGEST_START;
	ssize_t got;
	while ((got = read(fd, buffer, sizeof buffer)) > 0 || (got == -1 && errno == EAGAIN)) {
		if (got == -1) {
			until(fd, POLLIN);
			continue;
		}
		digest = digest_update(digest, buffer, (size_t)got);
		total += (uint64_t)got;
	}
	trace("read %llu bytes, digest %08x, then %s", (unsigned long long)total, digest,
	      got == 0 ? "end of file" : strerrorname_np(errno));
}

void trace_read_exactly(int fd, uint64_t length)
{
	static unsigned char buffer[65536];
	uint64_t total = 0;
	uint32_t digest = DIGEST_START;
	while (total < length) {
		size_t wanted = length - total < sizeof buffer ? (size_t)(length - total) : sizeof buffer;
		ssize_t got = read(fd, buffer, wanted);
		if (got == -1 && errno == EAGAIN) {
			until(fd, POLLIN);
			continue;
		}
		if (got <= 0) {
			trace("read %llu bytes, then %s", (unsigned long long)total,
			      got == 0 ? "end of file" : strerrorname_np(errno));
			return;
		}
		digest = digest_update(digest, buffer, (size_t)got);
		total += (uint64_t)got;
	}
	trace("read %llu bytes, digest %08x", (unsigned long long)total, digest);
}

void write_pattern(int fd, uint64_t length)
{
	static unsigned char buffer[65536];
	for (uint64_t done = 0; done < length;) {
		size_t size = length - done < sizeof buffer ? (size_t)(length - done) : sizeof buffer;
		pattern_fill(buffer, size, done);
		ssize_t put = write(fd, buffer, size);
		if (put == -1 && errno == EAGAIN) {
			until(fd, POLLOUT);
			continue;
		}
		MUST(put);
		done += (uint64_t)put;
	}
}

void trace_echo(int fd, const char *text)
{
	char back[256];
	size_t length = strlen(text), total = 0;
	CALL(write(fd, text, length));
	while (total < length) {
		until(fd, POLLIN);
		ssize_t got = read(fd, back + total, sizeof back - 1 - total);
		if (got <= 0) {
			trace("echo ended: %s", got == 0 ? "end of file" : strerrorname_np(errno));
			return;
		}
		total += (size_t)got;
	}
	back[total] = '\0';
	trace("echo: %s", back);
}

void set_nonblocking(int fd, bool on)
{
	int flags = (int)MUST(fcntl(fd, F_GETFL));
	MUST(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

extern const char *scenario_name;

void exec_self(int fd)
{
	char number[16], port[16];
	snprintf(number, sizeof number, "%d", fd);
	snprintf(port, sizeof port, "%u", peer_port_number);
	execl("/proc/self/exe", "descriptors", scenario_name, peer_host, port, number, (char *)NULL);
	trace("exec failed");
	_exit(98);
}

void trace_wait(int pid)
{
	int status = 0;
	MUST(waitpid(pid, &status, 0));
	if (WIFEXITED(status))
		trace("child exited with %d", WEXITSTATUS(status));
	else
		trace("child was killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
}

/*
 * The other end: a server on kernel sockets that does what each client asks for. A client begins with
 * one line of words; the peer plays them from left to right and then closes.
 *
 *   echo        send back what comes, until end of file
 *   say:TEXT    send TEXT
 *   send:N      send N bytes of the pattern
 *   sink:N      read N bytes;   drain  read until end of file or error
 *   digest      send "BYTES DIGEST END\n" about what sink and drain have read so far
 *   acked       wait until the other side has acknowledged all that was sent
 *   gone        wait, at most ten seconds, until the connection is broken
 *   sync        wait for one byte of the client
 *   fin         shutdown(SHUT_WR)
 *   reset       abort the connection;   hold  wait until the client is gone, reading nothing
 *   small       SO_RCVBUF as small as it gets
 *   listen      listen on a new port and send "PORT\n"
 *   gate        the same, but SYNs there are dropped until "open"
 *   accept      go on with a connection accepted there
 *   call:PORT   connect to this port of the client's own host, and go on with that connection;   call6  the same by IPv6
 *   pause       wait for one byte of the first connection (the one in hand may have ended)
 *   tell        send an empty line on the first connection
 *   back        close the accepted one and go on with the first (a digest taken there is still known)
 */
#define _GNU_SOURCE
#include "peer.h"
#include "trace.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#define IDLE_SECONDS_MAX 60

/* The client's address on the first wire (host.h has the IPv4 one). */
#define CLIENT_IPV6 "2001:db8:1::1"

struct play {
	int current, first, listener, filler;
	int protocol;
	uint64_t bytes;
	uint32_t digest;
	const char *end;
};

static void send_all(int fd, const void *bytes, size_t length)
{
	const char *at = bytes;
	while (length > 0) {
		ssize_t put = send(fd, at, length, MSG_NOSIGNAL);
		if (put <= 0)
			return;
		at += put;
		length -= (size_t)put;
	}
}

static void send_pattern(int fd, uint64_t length)
{
	static unsigned char buffer[65536];
	for (uint64_t done = 0; done < length; done += sizeof buffer) {
		size_t size = length - done < sizeof buffer ? (size_t)(length - done) : sizeof buffer;
		pattern_fill(buffer, size, done);
		send_all(fd, buffer, size);
	}
}

static void echo(int fd)
{
	static unsigned char buffer[65536];
	ssize_t got;
	while ((got = read(fd, buffer, sizeof buffer)) > 0)
		send_all(fd, buffer, (size_t)got);
}

static void take(struct play *play, uint64_t length)
{
	static unsigned char buffer[65536];
	while (length > 0) {
		ssize_t got = read(play->current, buffer, length < sizeof buffer ? (size_t)length : sizeof buffer);
		if (got <= 0) {
			play->end = got == 0 ? "EOF" : strerrorname_np(errno);
			return;
		}
		play->digest = digest_update(play->digest, buffer, (size_t)got);
		play->bytes += (uint64_t)got;
		length -= (uint64_t)got;
	}
}

static void wait_until_acknowledged(int fd)
{
	int unacknowledged;
	while (ioctl(fd, SIOCOUTQ, &unacknowledged) == 0 && unacknowledged > 0)
		usleep(1000);
}

static bool is_broken_in_time(int fd)
{
	struct pollfd item = { .fd = fd };
	return poll(&item, 1, 10000) == 1;
}

/* A disconnect is the abort that TCP (RST) and MPTCP (MP_FASTCLOSE) sockets have in common. */
static void reset(int fd)
{
	struct sockaddr unspecified = { .sa_family = AF_UNSPEC };
	connect(fd, &unspecified, sizeof unspecified);
	close(fd);
}

static int listen_on(uint16_t port, int protocol, int backlog)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int on = 1, fd = socket(AF_INET6, SOCK_STREAM, protocol);
	if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == -1 ||
	    bind(fd, (struct sockaddr *)&address, sizeof address) == -1 || listen(fd, backlog) == -1) {
		perror("peer: listen");
		exit(1);
	}
	return fd;
}

/* With backlog 0 the queue holds one connection; the filler takes the place, and SYNs are dropped. */
static void open_port(struct play *play, bool gate)
{
	struct sockaddr_in6 address;
	socklen_t length = sizeof address;
	char text[16];
	play->listener = listen_on(0, play->protocol, gate ? 0 : 16);
	getsockname(play->listener, (struct sockaddr *)&address, &length);
	if (gate) {
		address.sin6_addr = in6addr_loopback;
		play->filler = socket(AF_INET6, SOCK_STREAM, 0);
		if (connect(play->filler, (struct sockaddr *)&address, length) == -1)
			exit(1);
	}
	snprintf(text, sizeof text, "%u\n", ntohs(address.sin6_port));
	send_all(play->current, text, strlen(text));
}

static void call(struct play *play, bool ipv6, uint16_t port)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6 };
	socklen_t length = sizeof to;
	/* IPv4 addresses are mapped: the listener is for both. */
	if (ipv6)
		inet_pton(AF_INET6, CLIENT_IPV6, &to.sin6_addr);
	else
		getpeername(play->first, (struct sockaddr *)&to, &length);
	to.sin6_port = htons(port);
	play->current = socket(AF_INET6, SOCK_STREAM, play->protocol);
	if (connect(play->current, (struct sockaddr *)&to, sizeof to) == -1)
		play->end = strerrorname_np(errno);
}

static void send_digest(struct play *play)
{
	char text[128];
	snprintf(text, sizeof text, "%llu bytes, digest %08x, %s\n", (unsigned long long)play->bytes, play->digest,
		 play->end);
	send_all(play->current, text, strlen(text));
}

static void wait_until_gone(int fd)
{
	struct pollfd item = { .fd = fd, .events = POLLRDHUP };
	poll(&item, 1, IDLE_SECONDS_MAX * 1000);
}

/* Gives false for a word that does not exist. */
static bool play_word(struct play *play, const char *word)
{
	const char *argument = strchr(word, ':');
	size_t name = argument ? (size_t)(argument++ - word) : strlen(word);
	char byte;
#define IS(text) (name == strlen(text) && memcmp(word, text, name) == 0)
	if (IS("echo"))
		echo(play->current);
	else if (IS("say") && argument)
		send_all(play->current, argument, strlen(argument));
	else if (IS("send") && argument)
		send_pattern(play->current, strtoull(argument, NULL, 10));
	else if (IS("sink") && argument)
		take(play, strtoull(argument, NULL, 10));
	else if (IS("drain"))
		take(play, UINT64_MAX);
	else if (IS("digest"))
		send_digest(play);
	else if (IS("acked"))
		wait_until_acknowledged(play->current);
	else if (IS("gone"))
		play->end = is_broken_in_time(play->current) ? "broken" : "alive";
	else if (IS("tell"))
		send_all(play->first, "\n", 1);
	else if (IS("sync"))
		return read(play->current, &byte, 1) == 1;
	else if (IS("pause"))
		return read(play->first, &byte, 1) == 1;
	else if (IS("fin"))
		shutdown(play->current, SHUT_WR);
	else if (IS("reset"))
		reset(play->current);
	else if (IS("hold"))
		wait_until_gone(play->current);
	else if (IS("small"))
		setsockopt(play->current, SOL_SOCKET, SO_RCVBUF, &(int){ 1 }, sizeof(int));
	else if (IS("listen"))
		open_port(play, false);
	else if (IS("gate"))
		open_port(play, true);
	else if (IS("open"))
		close(accept(play->listener, NULL, NULL));
	else if (IS("accept"))
		play->current = accept(play->listener, NULL, NULL);
	else if ((IS("call") || IS("call6")) && argument)
		call(play, IS("call6"), (uint16_t)atoi(argument));
	else if (IS("back")) {
		close(play->current);
		play->current = play->first;
	} else
		return false;
#undef IS
	return true;
}

static void serve(int fd, int protocol)
{
	char line[256], *rest = NULL;
	size_t length = 0;
	struct play play = { .current = fd, .first = fd, .listener = -1, .filler = -1, .protocol = protocol,
			     .digest = DIGEST_START, .end = "open" };
	alarm(IDLE_SECONDS_MAX);
	while (length < sizeof line - 1 && read(fd, line + length, 1) == 1 && line[length] != '\n')
		length++;
	line[length] = '\0';
	for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		if (!play_word(&play, word))
			break;
}

int run_peer(uint16_t port, bool mptcp)
{
	int protocol = mptcp ? IPPROTO_MPTCP : IPPROTO_TCP;
	int listener = listen_on(port, protocol, 256);
	signal(SIGCHLD, SIG_IGN);
	trace("listening");
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd == -1)
			continue;
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(listener);
			serve(fd, protocol);
			_exit(0);
		}
		close(fd);
	}
}

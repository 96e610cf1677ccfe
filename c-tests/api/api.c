#include "api.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 20

static struct sockaddr_storage server;
static socklen_t server_len;
static int plain_port;
static int transfer = -1;
static long wanted, came;

void failed(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s (errno: %s)\n", file, line, what, strerror(errno));
	exit(1);
}

void check_errno(const char *file, int line, const char *what, int result, int expected)
{
	if (result == -1 && errno == expected)
		return;
	fprintf(stderr, "%s:%d: %s: %d, %s; expected: %s\n", file, line, what, result, strerror(errno), strerror(expected));
	exit(1);
}

static void set_port(struct sockaddr_storage *address, int port)
{
	if (address->ss_family == AF_INET6)
		((struct sockaddr_in6 *)address)->sin6_port = htons((unsigned short)port);
	else
		((struct sockaddr_in *)address)->sin_port = htons((unsigned short)port);
}

static socklen_t parse(const char *text, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
	memset(address, 0, sizeof *address);
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		address->ss_family = AF_INET;
	} else {
		CHECK(inet_pton(AF_INET6, text, &v6->sin6_addr) == 1);
		address->ss_family = AF_INET6;
	}
	return MPTCP_SOCKADDR_LEN(address->ss_family);
}

void api_start(int argc, char **argv)
{
	CHECK(argc >= 4);
	alarm(3 * PATIENCE_S);
	server_len = parse(argv[1], &server);
	set_port(&server, atoi(argv[2]));
	plain_port = atoi(argv[3]);
}

int api_socket(void)
{
	int fd = socket(server.ss_family, SOCK_STREAM, 0);
	CHECK(fd >= 0);
	return fd;
}

void api_connect(int fd)
{
	CHECK(connect(fd, (struct sockaddr *)&server, server_len) == 0);
}

void api_connect_plain(int fd)
{
	struct sockaddr_storage plain = server;
	set_port(&plain, plain_port);
	CHECK(connect(fd, (struct sockaddr *)&plain, server_len) == 0);
}

int api_connected(void)
{
	int fd = api_socket();
	api_connect(fd);
	return fd;
}

int set_int(int fd, int option, int value)
{
	return setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value);
}

int get_int(int fd, int option)
{
	int value = -1;
	socklen_t len = sizeof value;
	if (getsockopt(fd, IPPROTO_TCP, option, &value, &len) == -1)
		return -1;
	CHECK(len == sizeof value);
	return value;
}

void list_add(struct list *list, const char *address)
{
	struct sockaddr_storage parsed;
	socklen_t len = parse(address, &parsed);
	CHECK(list->len + len <= sizeof list->bytes);
	memcpy(list->bytes + list->len, &parsed, len);
	list->len += len;
}

int set_list(int fd, int option, const char *first, const char *second)
{
	struct list list;
	list.len = 0;
	if (first)
		list_add(&list, first);
	if (second)
		list_add(&list, second);
	return setsockopt(fd, IPPROTO_TCP, option, list.bytes, list.len);
}

int subflows(int fd, const char *local)
{
	unsigned char pairs[16 * 2 * sizeof(struct sockaddr_in6)];
	socklen_t len = sizeof pairs, at = 0;
	struct sockaddr_storage from;
	int count = 0;
	if (local)
		parse(local, &from);
	if (getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, pairs, &len) == -1)
		return -1;
	CHECK(len <= sizeof pairs);
	while (at < len) {
		struct sockaddr_storage address;
		sa_family_t family;
		socklen_t size;
		memcpy(&family, pairs + at, sizeof family);
		size = MPTCP_SOCKADDR_LEN(family);
		CHECK(at + 2 * size <= len);
		memset(&address, 0, sizeof address);
		memcpy(&address, pairs + at, size);
		set_port(&address, 0);
		count += !local || memcmp(&address, &from, size) == 0;
		memcpy(&address, pairs + at + size, size);
		CHECK(address.ss_family == family);
		at += 2 * size;
	}
	return count;
}

/* Byte `at` of what the lab's servers send: the finalizer of SplitMix64 over the number of the 8-byte word. */
static unsigned char expected(long at)
{
	static uint64_t number = UINT64_MAX, word;
	if (number != (uint64_t)at / 8) {
		number = (uint64_t)at / 8;
		word = (number + 1) * UINT64_C(0x9e3779b97f4a7c15);
		word = (word ^ (word >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		word = (word ^ (word >> 27)) * UINT64_C(0x94d049bb133111eb);
		word ^= word >> 31;
	}
	return (unsigned char)(word >> (at % 8 * 8));
}

static void read_some(int timeout_ms)
{
	static unsigned char buffer[65536];
	struct pollfd ready;
	ssize_t n, i;
	ready.fd = transfer;
	ready.events = POLLIN;
	if (transfer == -1 || came == wanted) {
		usleep(5000);
		return;
	}
	CHECK(poll(&ready, 1, timeout_ms) >= 0);
	if (!ready.revents)
		return;
	n = read(transfer, buffer, sizeof buffer);
	CHECK(n > 0);
	for (i = 0; i < n; i++)
		CHECK(buffer[i] == expected(came + i));
	came += n;
}

void await_subflows(int fd, const char *local, int count)
{
	time_t end = time(NULL) + PATIENCE_S;
	while (subflows(fd, local) != count) {
		if (time(NULL) > end)
			fprintf(stderr, "%d subflows of %s, not %d\n", subflows(fd, local), local ? local : "any", count);
		CHECK(time(NULL) <= end);
		read_some(5);
	}
}

void request(int fd, long bytes)
{
	char text[100], byte;
	int len = sprintf(text, "GET /%ld HTTP/1.0\r\n\r\n", bytes);
	int line = 0;
	CHECK(write(fd, text, (size_t)len) == len);
	/* The answer's header, to the empty line. */
	while (line < 2) {
		CHECK(read(fd, &byte, 1) == 1);
		if (byte == '\n')
			line++;
		else if (byte != '\r')
			line = 0;
	}
	transfer = fd;
	wanted = bytes;
	came = 0;
}

void read_until(long bytes)
{
	while (came < bytes)
		read_some(PATIENCE_S * 1000);
}

void read_more(long bytes)
{
	read_until(came + bytes < wanted ? came + bytes : wanted);
}

void settle_traffic(void)
{
	read_more(1000000);
}

/* Asks for TCP_INFO of a subflow; 0 when it has gone. */
long received_by(int fd, const unsigned char *pair, size_t len)
{
	struct {
		struct mptcp_subflow_option option;
		unsigned char rest[2 * sizeof(struct sockaddr_in6) + 256];
	} question;
	uint64_t received;
	socklen_t room = sizeof question;
	/* Of struct tcp_info, in linux/tcp.h. */
	const size_t bytes_received_at = 128;
	question.option.level = IPPROTO_TCP;
	question.option.name = TCP_INFO;
	memcpy(question.rest, pair, len);
	if (getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOW, &question, &room) == -1)
		return 0;
	CHECK(room >= sizeof question.option + len + bytes_received_at + sizeof received);
	memcpy(&received, question.rest + len + bytes_received_at, sizeof received);
	return (long)received;
}

int int_of_subflows(int fd, int level, int name)
{
	unsigned char pairs[16 * 2 * sizeof(struct sockaddr_in6)];
	struct {
		struct mptcp_subflow_option option;
		unsigned char rest[2 * sizeof(struct sockaddr_in6) + sizeof(int)];
	} question;
	socklen_t len = sizeof pairs, pair = 2 * MPTCP_SOCKADDR_LEN(server.ss_family), at;
	int value, same = -1;
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, pairs, &len) == 0);
	for (at = 0; at < len; at += pair) {
		socklen_t room = sizeof question;
		question.option.level = level;
		question.option.name = name;
		memcpy(question.rest, pairs + at, pair);
		CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOW, &question, &room) == 0);
		memcpy(&value, question.rest + pair, sizeof value);
		CHECK(at == 0 || value == same);
		same = value;
	}
	return same;
}

long received_from(int fd, const char *local)
{
	unsigned char pairs[16 * 2 * sizeof(struct sockaddr_in6)];
	socklen_t len = sizeof pairs, at, size;
	struct sockaddr_storage from, address;
	long sum = 0;
	parse(local, &from);
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, pairs, &len) == 0);
	size = MPTCP_SOCKADDR_LEN(from.ss_family);
	for (at = 0; at < len; at += 2 * size) {
		memset(&address, 0, sizeof address);
		memcpy(&address, pairs + at, size);
		set_port(&address, 0);
		if (memcmp(&address, &from, size) == 0)
			sum += received_by(fd, pairs + at, 2 * size);
	}
	return sum;
}

void all_comes_by(int fd, const char *local)
{
	const long much = 2000000;
	long before, others, gained;
	int pairs = subflows(fd, NULL);
	settle_traffic();
	before = received_from(fd, local);
	others = received_from(fd, strcmp(local, FIRST) == 0 ? SECOND : FIRST);
	read_more(much);
	gained = received_from(fd, local) - before;
	CHECK(gained >= much / 2);
	CHECK(received_from(fd, strcmp(local, FIRST) == 0 ? SECOND : FIRST) == others);
	CHECK(subflows(fd, NULL) == pairs && pairs == 1);
}

void read_rest(void)
{
	char more;
	read_until(wanted);
	CHECK(came == wanted);
	CHECK(read(transfer, &more, 1) == 0);
}

/* TCP_MULTIPATH_OPEN, _CLOSE, _BACKUP, _SUBFLOW: single subflows in the program's hands. */
#include "api.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#define PAIR_LEN (2 * sizeof(struct sockaddr_in))

/* The pair of the subflow from an address. */
static void pair_of(int fd, const char *local, unsigned char *pair)
{
	unsigned char pairs[16 * PAIR_LEN];
	socklen_t len = sizeof pairs, at;
	struct in_addr wanted;
	CHECK(inet_pton(AF_INET, local, &wanted) == 1);
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, pairs, &len) == 0);
	for (at = 0; at < len; at += PAIR_LEN) {
		struct sockaddr_in from;
		memcpy(&from, pairs + at, sizeof from);
		if (from.sin_addr.s_addr == wanted.s_addr) {
			memcpy(pair, pairs + at, PAIR_LEN);
			return;
		}
	}
	CHECK(!"a subflow from there");
}

static int set_backup(int fd, int backup, const unsigned char *pair)
{
	unsigned char value[sizeof(int) + PAIR_LEN];
	memcpy(value, &backup, sizeof backup);
	memcpy(value + sizeof backup, pair, PAIR_LEN);
	return setsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_BACKUP, value, sizeof value);
}

struct question {
	struct mptcp_subflow_option option;
	unsigned char rest[PAIR_LEN + 256];
};

static socklen_t ask(struct question *question, int level, int name, const unsigned char *pair)
{
	question->option.level = level;
	question->option.name = name;
	memcpy(question->rest, pair, PAIR_LEN);
	return sizeof question->option + PAIR_LEN;
}

static int get_of_subflow(int fd, int level, int name, const unsigned char *pair)
{
	struct question question;
	int value;
	socklen_t asked = ask(&question, level, name, pair), len = sizeof question;
	if (getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOW, &question, &len) == -1)
		return -1;
	CHECK(len == asked + sizeof value);
	memcpy(&value, question.rest + PAIR_LEN, sizeof value);
	return value;
}

static int set_of_subflow(int fd, int level, int name, const unsigned char *pair, int value)
{
	struct question question;
	socklen_t asked = ask(&question, level, name, pair);
	memcpy(question.rest + PAIR_LEN, &value, sizeof value);
	return setsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOW, &question, asked + sizeof value);
}

static void options_of_one_subflow(int fd)
{
	unsigned char first[PAIR_LEN], second[PAIR_LEN], nobody[PAIR_LEN];
	struct question question;
	struct tcp_info info;
	socklen_t asked, len = sizeof question;
	pair_of(fd, FIRST, first);
	pair_of(fd, SECOND, second);
	CHECK(set_of_subflow(fd, IPPROTO_IP, IP_TOS, second, 0x48) == 0);
	CHECK(get_of_subflow(fd, IPPROTO_IP, IP_TOS, second) == 0x48);
	CHECK(get_of_subflow(fd, IPPROTO_IP, IP_TOS, first) == 0);
	CHECK(set_of_subflow(fd, IPPROTO_IP, IP_TTL, second, 33) == 0);
	CHECK(get_of_subflow(fd, IPPROTO_IP, IP_TTL, second) == 33);
	CHECK(get_of_subflow(fd, IPPROTO_IP, IP_TTL, first) == 64);
	CHECK(set_of_subflow(fd, IPPROTO_IP, IP_TOS, second, -1) == 0);
	CHECK(get_of_subflow(fd, IPPROTO_IP, IP_TOS, second) == 0);
	CHECK(get_of_subflow(fd, IPPROTO_TCP, TCP_MAXSEG, first) > 500);
	asked = ask(&question, IPPROTO_TCP, TCP_INFO, second);
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOW, &question, &len) == 0);
	CHECK(len > asked);
	memcpy(&info, question.rest + PAIR_LEN, 8);
	CHECK(info.tcpi_state == TCP_ESTABLISHED);
	FAILS(EINVAL, set_of_subflow(fd, IPPROTO_IP, IP_TTL, second, 256));
	FAILS(ENOPROTOOPT, set_of_subflow(fd, SOL_SOCKET, SO_KEEPALIVE, second, 1));
	FAILS(ENOPROTOOPT, get_of_subflow(fd, SOL_SOCKET, SO_KEEPALIVE, second));
	memcpy(nobody, second, sizeof nobody);
	nobody[3] ^= 1; /* another port */
	FAILS(ENOENT, set_of_subflow(fd, IPPROTO_IP, IP_TOS, nobody, 0x48));
	FAILS(ENOENT, get_of_subflow(fd, IPPROTO_IP, IP_TOS, nobody));
	len = asked - 1;
	FAILS(EINVAL, getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOW, &question, &len));
}

int main(int argc, char **argv)
{
	unsigned char first[PAIR_LEN], second[PAIR_LEN];
	long before;
	int fd;
	api_start(argc, argv);

	fd = api_socket();
	memset(first, 0, sizeof first);
	FAILS(ENOTCONN, set_list(fd, TCP_MULTIPATH_OPEN, SECOND, NULL));
	FAILS(ENOTCONN, set_backup(fd, 1, first));
	FAILS(ENOPROTOOPT, get_int(fd, TCP_MULTIPATH_OPEN));
	api_connect(fd);
	request(fd, 24000000);
	await_subflows(fd, NULL, 2);
	options_of_one_subflow(fd);

	/* Closed, it stays closed; nothing is lost. */
	pair_of(fd, SECOND, second);
	CHECK(setsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_CLOSE, second, sizeof second) == 0);
	await_subflows(fd, SECOND, 0);
	FAILS(ENOENT, setsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_CLOSE, second, sizeof second));
	pair_of(fd, FIRST, first);
	FAILS(EBUSY, setsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_CLOSE, first, sizeof first));
	FAILS(EINVAL, setsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_CLOSE, first, sizeof first - 1));

	/* Opened again. */
	FAILS(EADDRNOTAVAIL, set_list(fd, TCP_MULTIPATH_OPEN, FOREIGN, NULL));
	CHECK(set_list(fd, TCP_MULTIPATH_OPEN, SECOND, NULL) == 0);
	await_subflows(fd, SECOND, 1);
	/* A second one from the same address. */
	CHECK(set_list(fd, TCP_MULTIPATH_OPEN, SECOND, NULL) == 0);
	await_subflows(fd, SECOND, 2);

	/* Marked as backup, the first one rests: the peer sends on the others. */
	pair_of(fd, FIRST, first);
	FAILS(EINVAL, set_backup(fd, 2, first));
	CHECK(set_backup(fd, 1, first) == 0);
	settle_traffic();
	before = received_by(fd, first, PAIR_LEN);
	read_more(3000000);
	CHECK(received_by(fd, first, PAIR_LEN) - before < 300000);
	CHECK(set_backup(fd, 0, first) == 0);
	settle_traffic();
	before = received_by(fd, first, PAIR_LEN);
	read_more(3000000);
	CHECK(received_by(fd, first, PAIR_LEN) - before > 300000);
	read_rest();
	close(fd);

	fd = api_socket();
	api_connect_plain(fd);
	request(fd, 1000);
	FAILS(EOPNOTSUPP, set_list(fd, TCP_MULTIPATH_OPEN, SECOND, NULL));
	FAILS(EOPNOTSUPP, set_backup(fd, 1, first));
	read_rest();
	return 0;
}

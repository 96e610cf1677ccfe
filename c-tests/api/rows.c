/* What RFC 6897 says of legacy programs, by the numbers of the table in ARCHITECTURE.md (argv[4]). */
#include "api.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* L1, L3, L13: names are the first subflow's, also when that subflow is gone; also in a program that knows MPTCP. */
static void names_outlive_the_first_subflow(void)
{
	struct sockaddr_in own, peer, again;
	socklen_t len = sizeof own;
	int fd = api_connected();
	CHECK(getsockname(fd, (struct sockaddr *)&own, &len) == 0);
	CHECK(getpeername(fd, (struct sockaddr *)&peer, &len) == 0);
	request(fd, 12000000);
	await_subflows(fd, SECOND, 1);
	CHECK(set_list(fd, TCP_MULTIPATH_REMOVE, FIRST, NULL) == 0);
	await_subflows(fd, FIRST, 0);
	CHECK(getsockname(fd, (struct sockaddr *)&again, &len) == 0 && memcmp(&own, &again, sizeof own) == 0);
	CHECK(getpeername(fd, (struct sockaddr *)&again, &len) == 0 && memcmp(&peer, &again, sizeof peer) == 0);
	read_rest();
}

/* L2: fate sharing is a policy. */
static void the_connection_ends_with_its_first_subflow(int shares)
{
	char bytes[4096];
	ssize_t n;
	int fd = api_socket();
	if (shares)
		CHECK(set_int(fd, TCP_MULTIPATH_FATE, 1) == 0);
	CHECK(get_int(fd, TCP_MULTIPATH_FATE) == shares);
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_FATE) == shares);
	request(fd, 12000000);
	await_subflows(fd, SECOND, 1);
	CHECK(set_list(fd, TCP_MULTIPATH_REMOVE, FIRST, NULL) == 0);
	if (!shares) {
		read_rest();
		return;
	}
	while ((n = read(fd, bytes, sizeof bytes)) > 0)
		;
	CHECK(n == -1 && errno == ECONNRESET);
}

static int bound_to(const char *address)
{
	struct sockaddr_in local;
	int fd = api_socket();
	memset(&local, 0, sizeof local);
	local.sin_family = AF_INET;
	CHECK(inet_pton(AF_INET, address, &local.sin_addr) == 1);
	CHECK(bind(fd, (struct sockaddr *)&local, sizeof local) == 0);
	return fd;
}

/* L4: any address leaves the choice to the stack. */
static void a_wildcard_leaves_the_choice(void)
{
	int fd = bound_to("0.0.0.0");
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 1);
	request(fd, 6000000);
	await_subflows(fd, SECOND, 1);
	read_rest();
}

/* L5: a specific address is respected: no MPTCP. */
static void a_specific_address_is_respected(void)
{
	int fd = bound_to(FIRST);
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 0);
	request(fd, 300000);
	read_rest();
}

/* L6: unless MPTCP is asked for; then only addresses that the program provides. */
static void an_address_and_multipath(void)
{
	int fd = bound_to(FIRST);
	CHECK(set_int(fd, TCP_MULTIPATH_ENABLE, 1) == 0);
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 1);
	request(fd, 9000000);
	read_until(3000000);
	CHECK(subflows(fd, NULL) == 1 && subflows(fd, FIRST) == 1);
	CHECK(set_list(fd, TCP_MULTIPATH_ADD, SECOND, NULL) == 0);
	await_subflows(fd, SECOND, 1);
	read_rest();
}

/* L7: shutdown() is half a close. */
static void shutdown_is_half_a_close(void)
{
	int fd = api_connected();
	request(fd, 300000);
	CHECK(shutdown(fd, SHUT_WR) == 0);
	read_rest();
	FAILS(EPIPE, (int)send(fd, "x", 1, MSG_NOSIGNAL));
}

/* A key for an address that is not connected to. */
static void sign_nobody(int fd)
{
	struct tcp_md5sig sig;
	struct sockaddr_in nobody;
	memset(&sig, 0, sizeof sig);
	memset(&nobody, 0, sizeof nobody);
	nobody.sin_family = AF_INET;
	CHECK(inet_pton(AF_INET, FOREIGN, &nobody.sin_addr) == 1);
	memcpy(&sig.tcpm_addr, &nobody, sizeof nobody);
	sig.tcpm_keylen = 3;
	memcpy(sig.tcpm_key, "key", 3);
	/* A kernel without signatures says so; there is nothing to see then. */
	CHECK(setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &sig, sizeof sig) == 0 || errno == ENOPROTOOPT);
}

/* L8: an option of the connection holds on every subflow. */
static void options_hold_on_all_subflows(void)
{
	int tos = 0x10, fd = api_socket();
	CHECK(setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof tos) == 0);
	api_connect(fd);
	request(fd, 6000000);
	await_subflows(fd, SECOND, 1);
	CHECK(int_of_subflows(fd, IPPROTO_IP, IP_TOS) == 0x10);
	tos = 0x48;
	CHECK(setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof tos) == 0);
	CHECK(int_of_subflows(fd, IPPROTO_IP, IP_TOS) == 0x48);
	read_rest();
}

/* A connection with TCP_NODELAY that does nothing more; somebody looks at it and ends this program. */
static void nodelay_and_wait(void)
{
	int fd = api_socket();
	CHECK(set_int(fd, TCP_NODELAY, 1) == 0);
	api_connect(fd);
	pause();
}

/* Characters, one after the other; until somebody has seen enough. */
static void type_slowly(void)
{
	int fd = api_connected();
	CHECK(write(fd, "GET /1 HTTP/1.0\r\nX: ", 20) == 20);
	for (;;) {
		CHECK(write(fd, "x", 1) == 1);
		usleep(200000);
	}
}

/* More than a path holds; again, should the server not like it. */
static void pour(void)
{
	static char much[1 << 20];
	memset(much, 'x', sizeof much);
	for (;;) {
		int fd = api_connected();
		while (send(fd, much, sizeof much, MSG_NOSIGNAL) > 0)
			;
		close(fd);
	}
}

static int small_buffer(int option)
{
	int size = 4096, fd = api_socket();
	CHECK(setsockopt(fd, SOL_SOCKET, option, &size, sizeof size) == 0);
	return fd;
}

/* L10: a small buffer asks for no MPTCP; MPTCP that is asked for all the same wins. */
static void a_small_buffer_asks_for_none(int option)
{
	int fd = small_buffer(option);
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 0);
	request(fd, 100000);
	read_rest();
	close(fd);
	fd = small_buffer(option);
	CHECK(set_int(fd, TCP_MULTIPATH_ENABLE, 1) == 0);
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 1);
	request(fd, 100000);
	read_rest();
}

static void a_small_buffer_is_a_habit(int option)
{
	int fd = small_buffer(option);
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 1);
	request(fd, 100000);
	read_rest();
}

/* L11: options that have nothing to do with paths change nothing about them. */
static void other_options_do_not_interfere(void)
{
	int on = 1, priority = 3, idle = 50, fd = api_socket();
	CHECK(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority) == 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on) == 0);
	CHECK(set_int(fd, TCP_KEEPIDLE, idle) == 0);
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 1);
	CHECK(get_int(fd, TCP_KEEPIDLE) == 50);
	request(fd, 6000000);
	await_subflows(fd, SECOND, 1);
	read_rest();
}

/* L14: on how many paths, when there is time to open more. */
static void count_paths(int expected)
{
	int fd = api_connected();
	request(fd, 6000000);
	if (expected > 1)
		await_subflows(fd, NULL, expected);
	read_until(4000000);
	CHECK(subflows(fd, NULL) == expected);
	read_rest();
}

static void say(const char *what, int result)
{
	printf("%s: %s\n", what, result == -1 ? strerror(errno) : "done");
}

/* L15: what SCTP's calls say, on its sockets and on ours; the caller compares it with what the kernel says. */
static void sctp_is_another_matter(void)
{
	const int types[] = { SOCK_STREAM, SOCK_SEQPACKET };
	const int sctp_nodelay = 3;
	int on = 1, i, fd;
	socklen_t len = sizeof on;
	for (i = 0; i < 2; i++) {
		fd = socket(AF_INET, types[i], IPPROTO_SCTP);
		say("socket", fd == -1 ? -1 : 0);
		if (fd == -1)
			continue;
		say("ENABLE", set_int(fd, TCP_MULTIPATH_ENABLE, 1));
		say("SCTP_NODELAY", setsockopt(fd, IPPROTO_SCTP, sctp_nodelay, &on, sizeof on));
		close(fd);
	}
	fd = api_connected();
	say("set on TCP", setsockopt(fd, IPPROTO_SCTP, sctp_nodelay, &on, sizeof on));
	say("get on TCP", getsockopt(fd, IPPROTO_SCTP, sctp_nodelay, &on, &len));
	request(fd, 1000);
	read_rest();
}

/* L16: no other address of the peer's than the one connected to, which announces none. */
static void only_the_address_connected_to(void)
{
	unsigned char pairs[1000];
	struct sockaddr_in peer, remote;
	socklen_t len = sizeof peer, at;
	int fd = api_connected();
	CHECK(getpeername(fd, (struct sockaddr *)&peer, &len) == 0);
	request(fd, 6000000);
	await_subflows(fd, SECOND, 1);
	len = sizeof pairs;
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, pairs, &len) == 0);
	for (at = 0; at < len; at += 2 * sizeof remote) {
		memcpy(&remote, pairs + at + sizeof remote, sizeof remote);
		CHECK(memcmp(&remote, &peer, sizeof peer) == 0);
	}
	read_rest();
}

/* L18: a peer without MPTCP. */
static void fallback_is_not_noticed(void)
{
	struct sockaddr_in own;
	socklen_t len = sizeof own;
	int fd = api_socket();
	api_connect_plain(fd);
	CHECK(getsockname(fd, (struct sockaddr *)&own, &len) == 0 && len == sizeof own);
	request(fd, 1000000);
	read_rest();
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 0);
	FAILS(EOPNOTSUPP, subflows(fd, NULL));
}

/* L19: without MPTCP no path but the kernel's. */
static void without_multipath(void)
{
	int fd = api_socket();
	CHECK(set_int(fd, TCP_MULTIPATH_ENABLE, 0) == 0);
	api_connect(fd);
	request(fd, 1000000);
	read_rest();
}

static int with_ip_options(void)
{
	unsigned char router_alert[4] = { 148, 4, 0, 0 };
	int fd = api_socket();
	CHECK(setsockopt(fd, IPPROTO_IP, IP_OPTIONS, router_alert, sizeof router_alert) == 0);
	return fd;
}

static int transparent(void)
{
	int on = 1, fd = api_socket();
	CHECK(setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on) == 0);
	return fd;
}

static int with_signatures(void)
{
	int fd = api_socket();
	sign_nobody(fd);
	return fd;
}

/* L21: TCP_MD5SIG, IP options, foreign source addresses. */
static void what_only_the_kernel_has(void)
{
	int fd = with_ip_options();
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 0);
	close(fd);
	fd = transparent();
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 0);
	close(fd);
	fd = with_signatures();
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 0);
	request(fd, 1000);
	read_rest();
}

/* A connection for each reason to leave it to the kernel that its socket can give; somebody looks at them and ends this program. */
static void one_of_each_and_wait(void)
{
	int fds[6], i;
	fds[0] = small_buffer(SO_SNDBUF);
	fds[1] = small_buffer(SO_RCVBUF);
	fds[2] = bound_to(FIRST);
	fds[3] = with_ip_options();
	fds[4] = transparent();
	fds[5] = with_signatures();
	for (i = 0; i < 6; i++)
		api_connect(fds[i]);
	pause();
}

static void a_bound_address_is_a_habit(void)
{
	int fd = bound_to(FIRST);
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 1);
	request(fd, 1000000);
	read_rest();
	CHECK(subflows(fd, SECOND) == 0);
}

static void an_intent_from_a_variable(void)
{
	int fd = api_connected();
	CHECK(get_int(fd, TCP_MULTIPATH_INTENT) == MPTCP_INTENT_HANDOVER);
	CHECK(set_int(fd, TCP_MULTIPATH_INTENT, MPTCP_INTENT_AGGREGATE) == 0);
	CHECK(get_int(fd, TCP_MULTIPATH_INTENT) == MPTCP_INTENT_AGGREGATE);
}

int main(int argc, char **argv)
{
	const char *row = argc > 4 ? argv[4] : "";
	api_start(argc, argv);
	if (strcmp(row, "l1") == 0)
		names_outlive_the_first_subflow();
	else if (strcmp(row, "l2") == 0)
		the_connection_ends_with_its_first_subflow(1);
	else if (strcmp(row, "l2-default") == 0)
		the_connection_ends_with_its_first_subflow(0);
	else if (strcmp(row, "l4") == 0)
		a_wildcard_leaves_the_choice();
	else if (strcmp(row, "l5") == 0)
		a_specific_address_is_respected();
	else if (strcmp(row, "l6") == 0)
		an_address_and_multipath();
	else if (strcmp(row, "l7") == 0)
		shutdown_is_half_a_close();
	else if (strcmp(row, "l8") == 0)
		options_hold_on_all_subflows();
	else if (strcmp(row, "nodelay") == 0)
		nodelay_and_wait();
	else if (strcmp(row, "typing") == 0)
		type_slowly();
	else if (strcmp(row, "pouring") == 0)
		pour();
	else if (strcmp(row, "l10") == 0)
		a_small_buffer_asks_for_none(SO_RCVBUF);
	else if (strcmp(row, "l10-send") == 0)
		a_small_buffer_asks_for_none(SO_SNDBUF);
	else if (strcmp(row, "l10-ignored") == 0)
		a_small_buffer_is_a_habit(SO_RCVBUF);
	else if (strcmp(row, "l10-send-ignored") == 0)
		a_small_buffer_is_a_habit(SO_SNDBUF);
	else if (strcmp(row, "left") == 0)
		one_of_each_and_wait();
	else if (strcmp(row, "l11") == 0)
		other_options_do_not_interfere();
	else if (strcmp(row, "l14") == 0)
		count_paths(1);
	else if (strcmp(row, "l14-without") == 0)
		count_paths(2);
	else if (strcmp(row, "l15") == 0)
		sctp_is_another_matter();
	else if (strcmp(row, "l16") == 0)
		only_the_address_connected_to();
	else if (strcmp(row, "l18") == 0)
		fallback_is_not_noticed();
	else if (strcmp(row, "l19") == 0)
		without_multipath();
	else if (strcmp(row, "l21") == 0)
		what_only_the_kernel_has();
	else if (strcmp(row, "bound-ignored") == 0)
		a_bound_address_is_a_habit();
	else if (strcmp(row, "intent") == 0)
		an_intent_from_a_variable();
	else
		CHECK(row == NULL);
	return 0;
}

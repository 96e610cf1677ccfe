/* What RFC 6897 says of legacy programs, by the numbers of the table in ARCHITECTURE.md (argv[4]). */
#include "api.h"

#include <arpa/inet.h>
#include <errno.h>
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
	else
		CHECK(row == NULL);
	return 0;
}

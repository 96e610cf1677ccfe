/* TCP_MULTIPATH_SUBFLOWS: whole pairs, what a short buffer gets, when. */
#include "api.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define PAIR ((socklen_t)(2 * sizeof(struct sockaddr_in)))

int main(int argc, char **argv)
{
	struct sockaddr_in own, peer, pairs[16];
	socklen_t len;
	int fd;
	api_start(argc, argv);

	fd = api_socket();
	CHECK(subflows(fd, NULL) == -1 && errno == ENOTCONN);
	FAILS(ENOPROTOOPT, set_int(fd, TCP_MULTIPATH_SUBFLOWS, 1));
	api_connect(fd);
	request(fd, 6000000);
	await_subflows(fd, NULL, 2);

	/* The first pair is the first subflow's: what getsockname() and getpeername() say. */
	len = sizeof pairs;
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, pairs, &len) == 0 && len == 2 * PAIR);
	len = sizeof own;
	CHECK(getsockname(fd, (struct sockaddr *)&own, &len) == 0);
	CHECK(getpeername(fd, (struct sockaddr *)&peer, &len) == 0);
	CHECK(memcmp(&pairs[0], &own, sizeof own) == 0 && memcmp(&pairs[1], &peer, sizeof peer) == 0);
	CHECK(pairs[2].sin_port != 0 && pairs[3].sin_port == peer.sin_port);

	/* Whole pairs that fit, and the length of all. */
	memset(pairs, 0, sizeof pairs);
	len = 2 * PAIR - 1;
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, pairs, &len) == 0 && len == 2 * PAIR);
	CHECK(pairs[1].sin_family == AF_INET && pairs[2].sin_family == 0);
	len = 0;
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, NULL, &len) == 0 && len == 2 * PAIR);
	len = (socklen_t)-1;
	FAILS(EINVAL, getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, pairs, &len));
	len = sizeof pairs;
	FAILS(EFAULT, getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, (void *)8, &len));
	FAILS(EFAULT, getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, pairs, (void *)8));
	read_rest();
	close(fd);

	fd = api_socket();
	api_connect_plain(fd);
	request(fd, 1000);
	CHECK(subflows(fd, NULL) == -1 && errno == EOPNOTSUPP);
	read_rest();
	return 0;
}

/* A connection that speaks MPTCP, and after its first data plain TCP, since a middlebox removes what it says: the options of mptcp.h before
 * and after that. */
#include "api.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

static void names(int fd, struct sockaddr_in *both)
{
	socklen_t len = sizeof both[0];
	CHECK(getsockname(fd, (struct sockaddr *)&both[0], &len) == 0);
	CHECK(getpeername(fd, (struct sockaddr *)&both[1], &len) == 0);
}

/* Reads until the connection has fallen back, some seconds at the most. */
static void await_fallback(int fd)
{
	int tries;
	for (tries = 0; get_int(fd, TCP_MULTIPATH_ENABLE) == 1; tries++) {
		CHECK(tries < 2000);
		read_more(1);
		usleep(5000);
	}
}

/* Nothing that needs subflows is left, and nothing that is asked for changes anything. */
static void plain(int fd)
{
	unsigned char pairs[1000];
	socklen_t len = sizeof pairs;
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 0);
	FAILS(EISCONN, set_int(fd, TCP_MULTIPATH_ENABLE, 1));
	FAILS(EOPNOTSUPP, set_list(fd, TCP_MULTIPATH_BIND, SECOND, NULL));
	FAILS(EOPNOTSUPP, set_list(fd, TCP_MULTIPATH_BIND, FIRST, SECOND));
	FAILS(EOPNOTSUPP, set_list(fd, TCP_MULTIPATH_ADD, SECOND, NULL));
	FAILS(EOPNOTSUPP, set_list(fd, TCP_MULTIPATH_ADD, FOREIGN, NULL));
	FAILS(EOPNOTSUPP, set_list(fd, TCP_MULTIPATH_REMOVE, FIRST, NULL));
	FAILS(EOPNOTSUPP, getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, pairs, &len));
	FAILS(EOPNOTSUPP, get_int(fd, TCP_MULTIPATH_CONNID));
}

int main(int argc, char **argv)
{
	struct sockaddr_in before[2], after[2];
	int fd;
	api_start(argc, argv);
	memset(before, 0, sizeof before);
	memset(after, 0, sizeof after);

	/* Nothing was said yet that the box could have removed. */
	fd = api_connected();
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 1);
	CHECK(subflows(fd, FIRST) == 1 && subflows(fd, NULL) == 1);
	CHECK(get_int(fd, TCP_MULTIPATH_CONNID) != -1);
	CHECK(set_list(fd, TCP_MULTIPATH_BIND, FIRST, SECOND) == 0);
	names(fd, before);

	request(fd, 2000000);
	await_fallback(fd);
	plain(fd);
	read_more(500000);
	plain(fd);
	names(fd, after);
	CHECK(memcmp(before, after, sizeof before) == 0);
	read_rest();
	plain(fd);
	close(fd);
	return 0;
}

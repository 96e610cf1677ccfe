/* TCP_MULTIPATH_JOIN: when further subflows are opened. */
#include "api.h"

#include <errno.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd;
	api_start(argc, argv);

	fd = api_socket();
	CHECK(get_int(fd, TCP_MULTIPATH_JOIN) == MPTCP_JOIN_DEFAULT);
	FAILS(EINVAL, set_int(fd, TCP_MULTIPATH_JOIN, 4));
	CHECK(set_int(fd, TCP_MULTIPATH_JOIN, MPTCP_JOIN_NEVER) == 0);
	api_connect(fd);
	request(fd, 9000000);
	read_until(900000);
	CHECK(subflows(fd, NULL) == 1);
	/* It may change its mind. */
	CHECK(set_int(fd, TCP_MULTIPATH_JOIN, MPTCP_JOIN_AT_ONCE) == 0);
	await_subflows(fd, NULL, 2);
	read_rest();
	close(fd);

	fd = api_socket();
	CHECK(set_int(fd, TCP_MULTIPATH_JOIN, MPTCP_JOIN_AFTER_BYTES) == 0);
	api_connect(fd);
	request(fd, 50000);
	read_until(50000);
	CHECK(subflows(fd, NULL) == 1);
	close(fd);

	fd = api_socket();
	CHECK(set_int(fd, TCP_MULTIPATH_JOIN, MPTCP_JOIN_AFTER_BYTES) == 0);
	api_connect(fd);
	request(fd, 3000000);
	await_subflows(fd, NULL, 2);
	read_rest();
	return 0;
}

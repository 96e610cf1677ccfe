/* TCP_MULTIPATH_ENABLE: before, during and after the connection; after fallback. */
#include "api.h"

#include <errno.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd;
	short half = 1;
	api_start(argc, argv);

	fd = api_socket();
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 1);
	FAILS(EINVAL, setsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_ENABLE, &half, sizeof half));
	FAILS(EFAULT, setsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_ENABLE, (void *)8, sizeof(int)));
	CHECK(set_int(fd, TCP_MULTIPATH_ENABLE, 1) == 0);
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 1);
	FAILS(EISCONN, set_int(fd, TCP_MULTIPATH_ENABLE, 0));
	request(fd, 6000000);
	await_subflows(fd, NULL, 2);
	read_rest();
	close(fd);

	/* false: no MPTCP on the wire, which the kernel's counters show to the caller of this program. */
	fd = api_socket();
	CHECK(set_int(fd, TCP_MULTIPATH_ENABLE, 0) == 0);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 0);
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 0);
	FAILS(EISCONN, set_int(fd, TCP_MULTIPATH_ENABLE, 1));
	request(fd, 100000);
	read_rest();
	close(fd);

	/* A peer without MPTCP. */
	fd = api_socket();
	CHECK(set_int(fd, TCP_MULTIPATH_ENABLE, 1) == 0);
	api_connect_plain(fd);
	request(fd, 1000);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 0);
	FAILS(EISCONN, set_int(fd, TCP_MULTIPATH_ENABLE, 1));
	read_rest();
	return 0;
}

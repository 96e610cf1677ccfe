/* TCP_MULTIPATH_ADD and TCP_MULTIPATH_REMOVE, before and during the connection. */
#include "api.h"

#include <arpa/inet.h>
#include <errno.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in bound;
	int fd;
	api_start(argc, argv);

	/* Before: the list is what may be used. */
	fd = api_socket();
	CHECK(set_list(fd, TCP_MULTIPATH_ADD, FIRST, NULL) == 0);
	api_connect(fd);
	request(fd, 30000000);
	read_until(2000000);
	CHECK(subflows(fd, NULL) == 1 && subflows(fd, FIRST) == 1);
	/* During: one more, which opens a subflow; the first one given back, which moves the traffic. */
	CHECK(set_list(fd, TCP_MULTIPATH_ADD, SECOND, NULL) == 0);
	await_subflows(fd, SECOND, 1);
	CHECK(set_list(fd, TCP_MULTIPATH_REMOVE, FIRST, NULL) == 0);
	await_subflows(fd, FIRST, 0);
	CHECK(subflows(fd, SECOND) == 1);
	all_comes_by(fd, SECOND);
	FAILS(EBUSY, set_list(fd, TCP_MULTIPATH_REMOVE, SECOND, NULL));
	read_rest();
	close(fd);

	/* Without a list REMOVE takes from all addresses. */
	fd = api_socket();
	CHECK(set_list(fd, TCP_MULTIPATH_REMOVE, SECOND, NULL) == 0);
	api_connect(fd);
	request(fd, 300000);
	read_rest();
	CHECK(subflows(fd, SECOND) == 0 && subflows(fd, FIRST) >= 1);
	close(fd);

	/* bind() to a specific address, and MPTCP asked for: that address and those that are added. */
	fd = api_socket();
	bound.sin_family = AF_INET;
	bound.sin_port = 0;
	CHECK(inet_pton(AF_INET, FIRST, &bound.sin_addr) == 1);
	CHECK(bind(fd, (struct sockaddr *)&bound, sizeof bound) == 0);
	CHECK(set_int(fd, TCP_MULTIPATH_ENABLE, 1) == 0);
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 1);
	request(fd, 5000000);
	read_until(2000000);
	CHECK(subflows(fd, NULL) == 1 && subflows(fd, FIRST) == 1);
	CHECK(set_list(fd, TCP_MULTIPATH_ADD, SECOND, NULL) == 0);
	await_subflows(fd, SECOND, 1);
	read_rest();
	return 0;
}

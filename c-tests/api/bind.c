/* TCP_MULTIPATH_BIND: the whole list of local addresses, before and during the connection. */
#include "api.h"

#include <errno.h>
#include <unistd.h>

static void before_the_connection(void)
{
	int fd = api_socket();
	CHECK(set_list(fd, TCP_MULTIPATH_BIND, SECOND, NULL) == 0);
	api_connect(fd);
	request(fd, 300000);
	read_rest();
	CHECK(subflows(fd, SECOND) == subflows(fd, NULL));
	close(fd);
}

static void during_the_connection(void)
{
	int fd = api_connected();
	request(fd, 30000000);
	await_subflows(fd, NULL, 2);
	CHECK(set_list(fd, TCP_MULTIPATH_BIND, SECOND, NULL) == 0);
	await_subflows(fd, FIRST, 0);
	CHECK(subflows(fd, SECOND) == 1);
	all_comes_by(fd, SECOND);
	/* The other way round: the only subflow stays until its successor is up. */
	CHECK(set_list(fd, TCP_MULTIPATH_BIND, FIRST, NULL) == 0);
	await_subflows(fd, SECOND, 0);
	CHECK(subflows(fd, FIRST) == 1);
	all_comes_by(fd, FIRST);
	/* An empty list allows all again. */
	CHECK(set_list(fd, TCP_MULTIPATH_BIND, NULL, NULL) == 0);
	await_subflows(fd, SECOND, 1);
	read_rest();
	close(fd);
}

int main(int argc, char **argv)
{
	int fd;
	api_start(argc, argv);
	before_the_connection();
	during_the_connection();
	fd = api_socket();
	FAILS(ENOPROTOOPT, get_int(fd, TCP_MULTIPATH_BIND));
	api_connect_plain(fd);
	request(fd, 1000);
	FAILS(EOPNOTSUPP, set_list(fd, TCP_MULTIPATH_BIND, FIRST, NULL));
	read_rest();
	return 0;
}

/* TCP_MULTIPATH_SCHEDULER, TCP_MULTIPATH_CONGESTION and TCP_CONGESTION: what is set is what is used and told. With the variables
 * MPTCP_SCHEDULER=ecf and MPTCP_CONGESTION=balia an argument follows. */
#include "api.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

static const char *congestion(int fd)
{
	static char name[16];
	socklen_t len = sizeof name;
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len) == 0);
	return name;
}

int main(int argc, char **argv)
{
	int fd, scheduler, algorithm;
	api_start(argc, argv);

	fd = api_socket();
	CHECK(get_int(fd, TCP_MULTIPATH_SCHEDULER) == MPTCP_SCHEDULER_DEFAULT);
	CHECK(get_int(fd, TCP_MULTIPATH_CONGESTION) == MPTCP_CONGESTION_DEFAULT);
	FAILS(EINVAL, set_int(fd, TCP_MULTIPATH_SCHEDULER, 7));
	FAILS(EINVAL, set_int(fd, TCP_MULTIPATH_SCHEDULER, -1));
	FAILS(EINVAL, set_int(fd, TCP_MULTIPATH_CONGESTION, 6));
	if (argc > 4) {
		api_connect(fd);
		CHECK(get_int(fd, TCP_MULTIPATH_SCHEDULER) == MPTCP_SCHEDULER_ECF);
		CHECK(get_int(fd, TCP_MULTIPATH_CONGESTION) == MPTCP_CONGESTION_BALIA);
		CHECK(strcmp(congestion(fd), "balia") == 0);
		request(fd, 1000000);
		read_rest();
		return 0;
	}

	CHECK(set_int(fd, TCP_MULTIPATH_CONGESTION, MPTCP_CONGESTION_OLIA) == 0);
	CHECK(get_int(fd, TCP_MULTIPATH_CONGESTION) == MPTCP_CONGESTION_OLIA);
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_CONGESTION) == MPTCP_CONGESTION_OLIA);
	CHECK(strcmp(congestion(fd), "olia") == 0);
	request(fd, 6000000);
	await_subflows(fd, NULL, 2);
	/* All of them, in the middle of a transfer. */
	for (scheduler = 1; scheduler <= 6; scheduler++) {
		CHECK(set_int(fd, TCP_MULTIPATH_SCHEDULER, scheduler) == 0);
		CHECK(get_int(fd, TCP_MULTIPATH_SCHEDULER) == scheduler);
		read_more(200000);
	}
	for (algorithm = 1; algorithm <= 5; algorithm++) {
		CHECK(set_int(fd, TCP_MULTIPATH_CONGESTION, algorithm) == 0);
		CHECK(get_int(fd, TCP_MULTIPATH_CONGESTION) == algorithm);
		read_more(200000);
	}
	read_rest();
	close(fd);

	/* The kernel's own option, before and after connecting. */
	fd = api_socket();
	CHECK(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) == 0);
	api_connect(fd);
	CHECK(strcmp(congestion(fd), "cubic") == 0);
	FAILS(ENOENT, setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "none such", 9));
	FAILS(ENOENT, setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	CHECK(strcmp(congestion(fd), "cubic") == 0);
	return 0;
}

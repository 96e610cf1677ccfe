/* TCP_MULTIPATH_INTENT: what the connection is for. */
#include "api.h"

#include <errno.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd;
	api_start(argc, argv);

	fd = api_socket();
	CHECK(get_int(fd, TCP_MULTIPATH_INTENT) == MPTCP_INTENT_DEFAULT);
	FAILS(EINVAL, set_int(fd, TCP_MULTIPATH_INTENT, 4));
	CHECK(set_int(fd, TCP_MULTIPATH_INTENT, MPTCP_INTENT_HANDOVER) == 0);
	CHECK(get_int(fd, TCP_MULTIPATH_INTENT) == MPTCP_INTENT_HANDOVER);

	/* Handover: the second path is there, and carries nothing. */
	api_connect(fd);
	CHECK(get_int(fd, TCP_MULTIPATH_INTENT) == MPTCP_INTENT_HANDOVER);
	request(fd, 12000000);
	await_subflows(fd, SECOND, 1);
	read_more(3000000);
	CHECK(received_from(fd, SECOND) < 100000);

	/* Aggregate, in the middle of it: it carries its part. */
	CHECK(set_int(fd, TCP_MULTIPATH_INTENT, MPTCP_INTENT_AGGREGATE) == 0);
	read_rest();
	CHECK(received_from(fd, SECOND) > 1000000);
	CHECK(set_int(fd, TCP_MULTIPATH_INTENT, MPTCP_INTENT_INTERACTIVE) == 0);
	CHECK(get_int(fd, TCP_MULTIPATH_INTENT) == MPTCP_INTENT_INTERACTIVE);
	return 0;
}

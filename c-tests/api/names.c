/* TCP_MULTIPATH_NAMES: what getpeername() and getsockname() say to a program that knows MPTCP. With the variable
 * MPTCP_AWARE_NAMES=fail an argument "fail" follows. */
#include "api.h"

#include <string.h>

static int name(int fd)
{
	struct sockaddr_storage own, peer;
	socklen_t len = sizeof own;
	int failures = getsockname(fd, (struct sockaddr *)&own, &len) == -1;
	len = sizeof peer;
	failures += getpeername(fd, (struct sockaddr *)&peer, &len) == -1;
	CHECK(failures == 0 || failures == 2);
	return failures ? -1 : 0;
}

int main(int argc, char **argv)
{
	int fd, fails = argc > 4 && strcmp(argv[4], "fail") == 0;
	api_start(argc, argv);

	/* A legacy program: always the first subflow's addresses. */
	fd = api_connected();
	CHECK(name(fd) == 0);
	/* It shows that it knows MPTCP. */
	CHECK(set_int(fd, TCP_MULTIPATH_JOIN, MPTCP_JOIN_DEFAULT) == 0);
	if (fails)
		FAILS(EMULTIPATH, name(fd));
	else
		CHECK(name(fd) == 0);
	CHECK(get_int(fd, TCP_MULTIPATH_NAMES) == (fails ? MPTCP_NAMES_FAIL : MPTCP_NAMES_FIRST));
	CHECK(set_int(fd, TCP_MULTIPATH_NAMES, MPTCP_NAMES_FIRST) == 0);
	CHECK(name(fd) == 0);
	CHECK(set_int(fd, TCP_MULTIPATH_NAMES, MPTCP_NAMES_FAIL) == 0);
	FAILS(EMULTIPATH, name(fd));

	/* Set before connecting. */
	fd = api_socket();
	CHECK(set_int(fd, TCP_MULTIPATH_NAMES, MPTCP_NAMES_FAIL) == 0);
	api_connect(fd);
	FAILS(EMULTIPATH, name(fd));
	return 0;
}

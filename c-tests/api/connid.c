/* TCP_MULTIPATH_CONNID: the local token, one to a connection, the same for its life. */
#include "api.h"

#include <errno.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int one, other, copy;
	api_start(argc, argv);

	one = api_socket();
	FAILS(ENOTCONN, get_int(one, TCP_MULTIPATH_CONNID));
	FAILS(ENOPROTOOPT, set_int(one, TCP_MULTIPATH_CONNID, 1));
	api_connect(one);
	other = api_connected();
	CHECK(get_int(one, TCP_MULTIPATH_CONNID) != 0);
	CHECK(get_int(one, TCP_MULTIPATH_CONNID) != get_int(other, TCP_MULTIPATH_CONNID));
	copy = dup(one);
	CHECK(get_int(copy, TCP_MULTIPATH_CONNID) == get_int(one, TCP_MULTIPATH_CONNID));
	close(other);

	other = api_socket();
	api_connect_plain(other);
	request(other, 1000);
	FAILS(EOPNOTSUPP, get_int(other, TCP_MULTIPATH_CONNID));
	read_rest();
	return 0;
}

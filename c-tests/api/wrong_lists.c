/* Lists that are wrong: the documented errno, and nothing changes. */
#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void try_all(int fd, int option)
{
	static unsigned char many[10000 * sizeof(struct sockaddr_in)];
	struct list list;
	size_t at;
	char text[20];
	int i;

	FAILS(EADDRNOTAVAIL, set_list(fd, option, FIRST, FOREIGN));
	FAILS(EINVAL, set_list(fd, option, FIRST, FIRST));
	FAILS(EAFNOSUPPORT, set_list(fd, option, FIRST, "2001:db8::1"));
	FAILS(EADDRNOTAVAIL, set_list(fd, option, "0.0.0.0", NULL));

	list.len = 0;
	list_add(&list, FIRST);
	FAILS(EINVAL, setsockopt(fd, IPPROTO_TCP, option, list.bytes, list.len - 1));
	FAILS(EINVAL, setsockopt(fd, IPPROTO_TCP, option, list.bytes, 1));
	FAILS(EFAULT, setsockopt(fd, IPPROTO_TCP, option, (void *)8, list.len));
	list.bytes[3] = 80; /* a port */
	FAILS(EINVAL, setsockopt(fd, IPPROTO_TCP, option, list.bytes, list.len));
	list.bytes[3] = 0;

	for (at = 0; at < sizeof many; at += list.len)
		memcpy(many + at, list.bytes, list.len);
	FAILS(ENOSPC, setsockopt(fd, IPPROTO_TCP, option, many, sizeof many));
	list.len = 0;
	for (i = 1; i <= TCP_MULTIPATH_ADDRS_MAX + 1; i++) {
		sprintf(text, "192.0.2.%d", i);
		list_add(&list, text);
	}
	FAILS(ENOSPC, setsockopt(fd, IPPROTO_TCP, option, list.bytes, list.len));
}

int main(int argc, char **argv)
{
	int options[] = { TCP_MULTIPATH_BIND, TCP_MULTIPATH_ADD, TCP_MULTIPATH_REMOVE };
	int fd, i;
	api_start(argc, argv);

	fd = api_socket();
	CHECK(set_list(fd, TCP_MULTIPATH_BIND, SECOND, NULL) == 0);
	for (i = 0; i < 3; i++)
		try_all(fd, options[i]);
	api_connect(fd);
	request(fd, 3000000);
	read_until(1000000);
	for (i = 0; i < 3; i++)
		try_all(fd, options[i]);
	/* The last address is not given away. */
	FAILS(EBUSY, set_list(fd, TCP_MULTIPATH_REMOVE, SECOND, NULL));
	FAILS(EADDRNOTAVAIL, set_list(fd, TCP_MULTIPATH_REMOVE, FIRST, NULL));
	read_rest();
	CHECK(subflows(fd, FIRST) == 0);
	return 0;
}

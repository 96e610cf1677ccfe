/* TCP_MULTIPATH_EVENTS: a descriptor that polls readable when something happens to a subflow. */
#include "api.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* Waits for the next event while the transfer goes on: its type, and the local address is this one. */
static void expect(int events, uint32_t type, const char *local)
{
	struct pollfd ready;
	struct mptcp_event event;
	struct sockaddr_in from;
	char text[INET_ADDRSTRLEN];
	int tries = 0;
	ready.fd = events;
	ready.events = POLLIN;
	while (poll(&ready, 1, 5) == 0) {
		CHECK(++tries < 4000);
		read_more(1);
	}
	CHECK(read(events, &event, sizeof event) == sizeof event);
	CHECK(event.type == type);
	memcpy(&from, &event.local, sizeof from);
	CHECK(from.sin_family == AF_INET && from.sin_port != 0);
	CHECK(strcmp(inet_ntop(AF_INET, &from.sin_addr, text, sizeof text), local) == 0);
	CHECK(event.subflow == 0 || strcmp(local, FIRST) != 0);
}

int main(int argc, char **argv)
{
	struct mptcp_event event;
	int fd, events, others[16], count = 0;
	api_start(argc, argv);

	fd = api_socket();
	FAILS(ENOTCONN, get_int(fd, TCP_MULTIPATH_EVENTS));
	FAILS(ENOPROTOOPT, set_int(fd, TCP_MULTIPATH_EVENTS, 1));
	api_connect(fd);
	request(fd, 16000000);
	events = get_int(fd, TCP_MULTIPATH_EVENTS);
	CHECK(events > fd);
	CHECK((fcntl(events, F_GETFD) & FD_CLOEXEC) && (fcntl(events, F_GETFL) & O_NONBLOCK));
	/* What is up already, what comes, and what goes. */
	expect(events, MPTCP_SUBFLOW_UP, FIRST);
	expect(events, MPTCP_SUBFLOW_UP, SECOND);
	FAILS(EAGAIN, (int)read(events, &event, sizeof event));
	CHECK(set_list(fd, TCP_MULTIPATH_REMOVE, FIRST, NULL) == 0);
	expect(events, MPTCP_SUBFLOW_DOWN, FIRST);
	CHECK(set_list(fd, TCP_MULTIPATH_ADD, FIRST, NULL) == 0);
	while ((others[count] = get_int(fd, TCP_MULTIPATH_EVENTS)) != -1)
		CHECK(++count < 16);
	CHECK(errno == ENOSPC && count == 7);
	read_rest();
	close(fd);
	/* It ends with the connection. */
	while (read(events, &event, sizeof event) != 0)
		usleep(5000);
	return 0;
}

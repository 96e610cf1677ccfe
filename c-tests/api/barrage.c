/* Every option of mptcp.h with every length, with no pointer and with a wrong one, on sockets in every state, from many threads and after fork():
 * a documented errno, or success; and the connection that all this is done to loses nothing. */
#include "api.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8

static const int options[] = {
	TCP_MULTIPATH_ENABLE,  TCP_MULTIPATH_BIND,	TCP_MULTIPATH_ADD,     TCP_MULTIPATH_REMOVE,	TCP_MULTIPATH_SUBFLOWS,
	TCP_MULTIPATH_CONNID,  TCP_MULTIPATH_NAMES,	TCP_MULTIPATH_FATE,    TCP_MULTIPATH_JOIN,	TCP_MULTIPATH_INTENT,
	TCP_MULTIPATH_SCHEDULER, TCP_MULTIPATH_CONGESTION, TCP_MULTIPATH_OPEN, TCP_MULTIPATH_CLOSE,	TCP_MULTIPATH_BACKUP,
	TCP_MULTIPATH_SUBFLOW, TCP_MULTIPATH_EVENTS,	0x689700,	       0x689707,		0x689717,
	0x689726,
};
#define OPTIONS (int)(sizeof options / sizeof *options)

/* Lengths of everything that an option takes, and those beside them. */
static const socklen_t lengths[] = {
	0,  1,	2,  3,	4,  5,	7,  8,	9,  12, 15, 16, 17, 27, 28, 29, 31, 32,
	33, 35, 36, 37, 39, 40, 41, 44, 55, 56, 57, 64, 65, 68, 96, 280, 312, 320, 321, 895, 896, 897, 1024, 4096,
};
#define LENGTHS (int)(sizeof lengths / sizeof *lengths)

static const int documented[] = {
	EADDRNOTAVAIL, EAFNOSUPPORT, EBUSY, EFAULT, EINVAL, EISCONN, ENOPROTOOPT, ENOENT, ENOSPC, ENOTCONN, EOPNOTSUPP,
};

static void check_result(const char *call, int option, socklen_t len, int result)
{
	size_t i;
	if (result == 0)
		return;
	for (i = 0; i < sizeof documented / sizeof *documented; i++)
		if (errno == documented[i])
			return;
	fprintf(stderr, "%s of %#x with length %u: %s\n", call, (unsigned)option, (unsigned)len, strerror(errno));
	exit(1);
}

/* What is wrong with a descriptor, an option or a pointer is no matter of length. */
static void get(int fd, int option, void *value, socklen_t len)
{
	socklen_t told = len;
	int result = getsockopt(fd, IPPROTO_TCP, option, value, &told), descriptor;
	check_result("get", option, len, result);
	if (result == 0 && option == TCP_MULTIPATH_EVENTS) {
		memcpy(&descriptor, value, sizeof descriptor);
		CHECK(close(descriptor) == 0);
	}
	/* Only a list of pairs says how long it would be. */
	CHECK(result != 0 || told <= len || option == TCP_MULTIPATH_SUBFLOWS);
}

static void bombard(int fd)
{
	unsigned char value[4096], pair[2 * sizeof(struct sockaddr_in)];
	socklen_t len = sizeof pair;
	const unsigned char fill[] = { 0, 1, 0xff };
	int has_pair = getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_SUBFLOWS, pair, &len) == 0;
	int i, j, k;
	for (i = 0; i < OPTIONS; i++) {
		for (j = 0; j < LENGTHS; j++) {
			for (k = 0; k < 3; k++) {
				memset(value, fill[k], sizeof value);
				if (options[i] == TCP_MULTIPATH_FATE)
					memset(value, 0, sizeof value);
				check_result("set", options[i], lengths[j],
					     setsockopt(fd, IPPROTO_TCP, options[i], value, lengths[j]));
				get(fd, options[i], value, lengths[j]);
			}
			/* A real pair of addresses behind what SUBFLOW and BACKUP have before it. */
			if (has_pair && options[i] != TCP_MULTIPATH_CLOSE) {
				memset(value, 0, sizeof value);
				memcpy(value + (options[i] == TCP_MULTIPATH_SUBFLOW ? 8 : 4), pair, sizeof pair);
				check_result("set", options[i], lengths[j],
					     setsockopt(fd, IPPROTO_TCP, options[i], value, lengths[j]));
				get(fd, options[i], value, lengths[j]);
			}
		}
		if (setsockopt(fd, IPPROTO_TCP, options[i], NULL, sizeof(int)) != 0)
			check_result("set", options[i], 4, -1);
		FAILS(EFAULT, getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_JOIN, value, NULL));
		FAILS(EFAULT, getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_JOIN, value, (socklen_t *)8));
		len = (socklen_t)-1;
		FAILS(EINVAL, getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_JOIN, value, &len));
		len = sizeof(int);
		CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MULTIPATH_JOIN, (void *)8, &len) == -1);
		CHECK(errno == EFAULT || errno == ENOTCONN);
	}
	/* As it was. */
	CHECK(set_list(fd, TCP_MULTIPATH_BIND, NULL, NULL) == 0 || errno == EOPNOTSUPP || errno == ENOTCONN);
	CHECK(set_int(fd, TCP_MULTIPATH_JOIN, MPTCP_JOIN_DEFAULT) == 0 || errno == ENOTCONN);
	CHECK(set_int(fd, TCP_MULTIPATH_NAMES, MPTCP_NAMES_DEFAULT) == 0 || errno == ENOTCONN);
}

static void *turn(void *argument)
{
	unsigned seed = (unsigned)((char *)argument - (char *)0);
	int fd = (int)(seed >> 8), i, value;
	for (i = 0; i < 200; i++) {
		int option = TCP_MULTIPATH_JOIN + rand_r(&seed) % 4;
		CHECK(set_int(fd, option, rand_r(&seed) % 4) == 0);
		value = get_int(fd, option);
		CHECK(value >= 0 && value <= 5);
		CHECK(subflows(fd, NULL) >= 1);
		CHECK(get_int(fd, TCP_MULTIPATH_ENABLE) == 1);
	}
	return NULL;
}

static void many_threads(int fd)
{
	pthread_t threads[THREADS];
	int i;
	for (i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, turn, (char *)0 + (fd << 8 | i)) == 0);
	for (i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

/* A child shares the connection, and what it sets. */
static void a_child(int fd)
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		if (set_int(fd, TCP_MULTIPATH_SCHEDULER, MPTCP_SCHEDULER_ECF) != 0)
			_exit(1);
		_exit(get_int(fd, TCP_MULTIPATH_SCHEDULER) == MPTCP_SCHEDULER_ECF ? 0 : 2);
	}
	CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
	CHECK(get_int(fd, TCP_MULTIPATH_SCHEDULER) == MPTCP_SCHEDULER_ECF);
}

int main(int argc, char **argv)
{
	int fd, pipes[2];
	api_start(argc, argv);

	/* Not a connection of TCP's: the kernel answers, and nothing comes of it. */
	FAILS(EBADF, set_int(-1, TCP_MULTIPATH_ENABLE, 1));
	CHECK(pipe(pipes) == 0);
	FAILS(ENOTSOCK, set_int(pipes[0], TCP_MULTIPATH_ENABLE, 1));
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(set_int(fd, TCP_MULTIPATH_ENABLE, 1) == -1);
	close(fd);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	FAILS(EOPNOTSUPP, set_int(fd, TCP_MULTIPATH_ENABLE, 1));
	close(fd);

	fd = api_socket();
	bombard(fd);
	CHECK(listen(fd, 5) == 0);
	bombard(fd);
	close(fd);

	fd = api_connected();
	request(fd, 12000000);
	read_more(1000000);
	bombard(fd);
	read_more(1000000);
	many_threads(fd);
	a_child(fd);
	read_rest();
	bombard(fd);
	CHECK(shutdown(fd, SHUT_RDWR) == 0);
	bombard(fd);
	close(fd);

	fd = api_socket();
	api_connect_plain(fd);
	request(fd, 1000000);
	bombard(fd);
	read_rest();
	return 0;
}

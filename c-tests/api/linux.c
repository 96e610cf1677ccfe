/* Linux's MPTCP API: prints what each call says, in a form that is the same on the kernel's MPTCP and under the library.
 * Numbers that only a kernel has (sizes of its structs, sequence numbers, its limits) are checked, not printed. */
#include "api.h"

#include <errno.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void say(const char *what, int result, socklen_t len)
{
	printf("%s: %s, length %u\n", what, result == 0 ? "done" : strerror(errno), (unsigned)len);
}

static void say_int(int fd, const char *what, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof value;
	int result = getsockopt(fd, level, name, &value, &len);
	say(what, result, len);
	if (result == 0)
		printf("  %d\n", value);
}

static void info(int fd, socklen_t len)
{
	struct mptcp_info info;
	int result;
	memset(&info, 0xff, sizeof info);
	result = getsockopt(fd, SOL_MPTCP, MPTCP_INFO, &info, &len);
	say("MPTCP_INFO", result, len);
	if (result == 0 && len >= 16)
		printf("  subflows %d, flags %x, token %s\n", info.mptcpi_subflows, info.mptcpi_flags,
		       info.mptcpi_token ? "there" : "none");
}

struct buffer {
	struct mptcp_subflow_data head;
	unsigned char elements[4 * sizeof(struct mptcp_subflow_addrs)];
};

static void array(int fd, const char *what, int name, unsigned head, unsigned size_user, unsigned count, socklen_t len)
{
	struct buffer buffer;
	int result;
	memset(&buffer, 0, sizeof buffer);
	buffer.head.size_subflow_data = head;
	buffer.head.size_user = size_user;
	buffer.head.num_subflows = count;
	result = getsockopt(fd, SOL_MPTCP, name, &buffer, &len);
	say(what, result, len);
	if (result == 0) {
		printf("  %u subflows, elements of %u\n", buffer.head.num_subflows, buffer.head.size_user);
		CHECK(buffer.head.size_kernel >= buffer.head.size_user);
	}
	if (result == 0 && name == MPTCP_TCPINFO && len > sizeof buffer.head)
		printf("  state %d\n", buffer.elements[0]);
	if (result == 0 && name == MPTCP_SUBFLOW_ADDRS && len > sizeof buffer.head) {
		struct mptcp_subflow_addrs addrs;
		memcpy(&addrs, buffer.elements, sizeof addrs);
		printf("  %d %08x > %08x:%d\n", addrs.sa_family, addrs.sin_local.sin_addr.s_addr,
		       addrs.sin_remote.sin_addr.s_addr, addrs.sin_remote.sin_port);
	}
}

static void arrays(int fd)
{
	unsigned head = sizeof(struct mptcp_subflow_data), addrs = sizeof(struct mptcp_subflow_addrs);
	socklen_t all = sizeof(struct buffer);
	array(fd, "TCPINFO", MPTCP_TCPINFO, head, 100, 0, all);
	array(fd, "TCPINFO, one element", MPTCP_TCPINFO, head, 100, 0, head + 199);
	array(fd, "TCPINFO, no element", MPTCP_TCPINFO, head, 100, 0, head);
	array(fd, "TCPINFO, short", MPTCP_TCPINFO, head, 100, 0, head - 1);
	array(fd, "TCPINFO, long header", MPTCP_TCPINFO, head + 8, 100, 0, all);
	array(fd, "TCPINFO, short header", MPTCP_TCPINFO, head - 4, 100, 0, all);
	array(fd, "TCPINFO, header beyond", MPTCP_TCPINFO, all + 1, 100, 0, all);
	array(fd, "TCPINFO, huge element", MPTCP_TCPINFO, head, 0x80000000u, 0, all);
	array(fd, "TCPINFO, a count", MPTCP_TCPINFO, head, 100, 1, all);
	array(fd, "TCPINFO, elements of 0", MPTCP_TCPINFO, head, 0, 0, all);
	array(fd, "SUBFLOW_ADDRS", MPTCP_SUBFLOW_ADDRS, head, addrs, 0, all);
	array(fd, "SUBFLOW_ADDRS, larger elements", MPTCP_SUBFLOW_ADDRS, head, addrs + 100, 0, all);
	array(fd, "SUBFLOW_ADDRS, smaller elements", MPTCP_SUBFLOW_ADDRS, head, 16, 0, all);
}

static void full(int fd, const char *what, unsigned array_len, unsigned count, socklen_t len)
{
	struct mptcp_full_info full;
	struct mptcp_subflow_info infos[4];
	unsigned char tcp_infos[4][104];
	int result;
	memset(&full, 0, sizeof full);
	memset(infos, 0, sizeof infos);
	memset(tcp_infos, 0, sizeof tcp_infos);
	full.size_tcpinfo_user = sizeof tcp_infos[0];
	full.size_sfinfo_user = sizeof infos[0];
	full.size_arrays_user = array_len;
	full.num_subflows = count;
	full.subflow_info = (uintptr_t)infos;
	full.tcp_info = (uintptr_t)tcp_infos;
	result = getsockopt(fd, SOL_MPTCP, MPTCP_FULL_INFO, &full, &len);
	say(what, result, len);
	if (result != 0)
		return;
	printf("  %u subflows, sizes %u of %u, %u\n", full.num_subflows, full.size_sfinfo_user, full.size_sfinfo_kernel,
	       full.size_tcpinfo_user);
	printf("  states %d %d, families %d %d, ids %s\n", tcp_infos[0][0], tcp_infos[1][0], infos[0].addrs.sa_family,
	       infos[1].addrs.sa_family, infos[0].id < infos[1].id || !infos[1].addrs.sa_family ? "grow" : "do not grow");
}

static void all(int fd)
{
	int one = 1;
	socklen_t len;
	say_int(fd, "SO_PROTOCOL", SOL_SOCKET, SO_PROTOCOL);
	say_int(fd, "SO_TYPE", SOL_SOCKET, SO_TYPE);
	say_int(fd, "TCP_IS_MPTCP", IPPROTO_TCP, TCP_IS_MPTCP);
	for (len = 0; len <= sizeof(struct mptcp_info); len += 8)
		info(fd, len);
	arrays(fd);
	full(fd, "FULL_INFO", 4, 0, sizeof(struct mptcp_full_info));
	full(fd, "FULL_INFO, one element", 1, 0, sizeof(struct mptcp_full_info));
	full(fd, "FULL_INFO, no info", 4, 0, 40);
	full(fd, "FULL_INFO, half an info", 4, 0, 60);
	full(fd, "FULL_INFO, short", 4, 0, 39);
	full(fd, "FULL_INFO, a count", 4, 1, sizeof(struct mptcp_full_info));
	len = sizeof one;
	say("unknown", getsockopt(fd, SOL_MPTCP, 99, &one, &len), len);
	say("set", setsockopt(fd, SOL_MPTCP, MPTCP_INFO, &one, sizeof one), 0);
}

int main(int argc, char **argv)
{
	int fd;
	api_start(argc, argv);

	puts("== before the connection");
	fd = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
	CHECK(fd >= 0);
	all(fd);

	puts("== connected");
	api_connect(fd);
	request(fd, 6000000);
	read_until(4000000);
	all(fd);
	close(fd);

	puts("== plain TCP");
	fd = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
	CHECK(fd >= 0);
	api_connect_plain(fd);
	request(fd, 1000);
	all(fd);
	return 0;
}

/* getsockopt and setsockopt before and after connect. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

static int set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof value);
}

static void trace_identity(int fd)
{
	GET_INT(fd, SOL_SOCKET, SO_DOMAIN);
	GET_INT(fd, SOL_SOCKET, SO_TYPE);
	GET_INT(fd, SOL_SOCKET, SO_PROTOCOL);
	GET_INT(fd, SOL_SOCKET, SO_ACCEPTCONN);
	GET_INT(fd, SOL_SOCKET, SO_ERROR);
}

static void identity_of_the_socket(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	trace_identity(fd);
	CALL(connect(fd, SA(peer), peer.length));
	trace_identity(fd);
}

static void trace_defaults(int fd)
{
	GET_INT(fd, SOL_SOCKET, SO_KEEPALIVE);
	GET_INT(fd, SOL_SOCKET, SO_REUSEADDR);
	GET_INT(fd, SOL_SOCKET, SO_REUSEPORT);
	GET_INT(fd, SOL_SOCKET, SO_BROADCAST);
	GET_INT(fd, SOL_SOCKET, SO_OOBINLINE);
	GET_INT(fd, SOL_SOCKET, SO_RCVLOWAT);
	GET_INT(fd, SOL_SOCKET, SO_SNDLOWAT);
	GET_INT(fd, SOL_SOCKET, SO_PRIORITY);
	GET_INT(fd, SOL_SOCKET, SO_MARK);
	GET_INT(fd, SOL_SOCKET, SO_DONTROUTE);
	GET_INT(fd, SOL_SOCKET, SO_TIMESTAMP);
	GET_INT(fd, SOL_SOCKET, SO_PASSCRED);
	GET_INT(fd, SOL_SOCKET, SO_ZEROCOPY);
	GET_INT(fd, SOL_SOCKET, SO_BUSY_POLL);
	GET_INT(fd, IPPROTO_TCP, TCP_NODELAY);
	GET_INT(fd, IPPROTO_TCP, TCP_CORK);
	GET_INT(fd, IPPROTO_TCP, TCP_KEEPIDLE);
	GET_INT(fd, IPPROTO_TCP, TCP_KEEPINTVL);
	GET_INT(fd, IPPROTO_TCP, TCP_KEEPCNT);
	GET_INT(fd, IPPROTO_TCP, TCP_SYNCNT);
	GET_INT(fd, IPPROTO_TCP, TCP_LINGER2);
	GET_INT(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT);
	GET_INT(fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
	GET_INT(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT);
	GET_INT(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT);
	GET_INT(fd, IPPROTO_TCP, TCP_INQ);
	GET_INT(fd, IPPROTO_TCP, TCP_REPAIR);
	GET_INT(fd, IPPROTO_IP, IP_TOS);
	GET_INT(fd, IPPROTO_IP, IP_TTL);
	GET_INT(fd, IPPROTO_IP, IP_MTU_DISCOVER);
	GET_INT(fd, IPPROTO_IP, IP_FREEBIND);
	GET_INT(fd, IPPROTO_IP, IP_TRANSPARENT);
	GET_INT(fd, IPPROTO_IP, IP_RECVERR);
}

static void defaults_before_and_after_connect(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	trace_defaults(fd);
	CALL(connect(fd, SA(peer), peer.length));
	trace_defaults(fd);
}

static void set_all(int fd)
{
	CALL(set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1));
	CALL(set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1));
	CALL(set_int(fd, SOL_SOCKET, SO_OOBINLINE, 1));
	CALL(set_int(fd, SOL_SOCKET, SO_PRIORITY, 5));
	CALL(set_int(fd, SOL_SOCKET, SO_MARK, 0));
	CALL(set_int(fd, SOL_SOCKET, SO_SNDBUF, 65536));
	CALL(set_int(fd, SOL_SOCKET, SO_RCVBUF, 65536));
	CALL(set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1));
	CALL(set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 100));
	CALL(set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, 20));
	CALL(set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 3));
	CALL(set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 30000));
	CALL(set_int(fd, IPPROTO_TCP, TCP_LINGER2, 10));
	CALL(set_int(fd, IPPROTO_TCP, TCP_QUICKACK, 1));
	CALL(set_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384));
	CALL(set_int(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, 65536));
	CALL(set_int(fd, IPPROTO_IP, IP_TOS, 0x10));
	CALL(set_int(fd, IPPROTO_IP, IP_TTL, 33));
	CALL(set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO));
}

static void trace_all_set(int fd)
{
	GET_INT(fd, SOL_SOCKET, SO_KEEPALIVE);
	GET_INT(fd, SOL_SOCKET, SO_REUSEADDR);
	GET_INT(fd, SOL_SOCKET, SO_OOBINLINE);
	GET_INT(fd, SOL_SOCKET, SO_PRIORITY);
	GET_INT(fd, SOL_SOCKET, SO_SNDBUF);
	GET_INT(fd, SOL_SOCKET, SO_RCVBUF);
	GET_INT(fd, IPPROTO_TCP, TCP_NODELAY);
	GET_INT(fd, IPPROTO_TCP, TCP_KEEPIDLE);
	GET_INT(fd, IPPROTO_TCP, TCP_KEEPINTVL);
	GET_INT(fd, IPPROTO_TCP, TCP_KEEPCNT);
	GET_INT(fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
	GET_INT(fd, IPPROTO_TCP, TCP_LINGER2);
	GET_INT(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT);
	GET_INT(fd, IPPROTO_IP, IP_TOS);
	GET_INT(fd, IPPROTO_IP, IP_TTL);
	GET_INT(fd, IPPROTO_IP, IP_MTU_DISCOVER);
}

static void options_set_before_connect(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	set_all(fd);
	CALL(connect(fd, SA(peer), peer.length));
	trace_all_set(fd);
	play(fd, "echo");
	trace_echo(fd, "hello");
}

static void options_set_after_connect(void)
{
	int fd = connected("echo");
	set_all(fd);
	trace_all_set(fd);
	CALL(set_int(fd, IPPROTO_TCP, TCP_NODELAY, 0));
	GET_INT(fd, IPPROTO_TCP, TCP_NODELAY);
	CALL(set_int(fd, IPPROTO_TCP, TCP_CORK, 1));
	GET_INT(fd, IPPROTO_TCP, TCP_CORK);
	CALL(set_int(fd, IPPROTO_TCP, TCP_CORK, 0));
	trace_echo(fd, "hello");
}

static void options_set_while_connecting(void)
{
	struct address target;
	int gate = control("gate sync open accept echo", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	CALL(set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1));
	GET_INT(fd, IPPROTO_TCP, TCP_NODELAY);
	CALL(set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1));
	trace_identity(fd);
	release(gate);
	until(fd, POLLOUT);
	GET_INT(fd, IPPROTO_TCP, TCP_NODELAY);
	GET_INT(fd, SOL_SOCKET, SO_KEEPALIVE);
	trace_echo(fd, "hello");
}

static void options_on_ipv6(void)
{
	struct address target = address_of(PEER_IPV6, peer_port_number);
	int fd = CALL_FD(socket(AF_INET6, SOCK_STREAM, 0));
	CALL(set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x20));
	CALL(set_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33));
	CALL(connect(fd, SA(target), target.length));
	GET_INT(fd, IPPROTO_IPV6, IPV6_V6ONLY);
	GET_INT(fd, IPPROTO_IPV6, IPV6_TCLASS);
	GET_INT(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS);
	GET_INT(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER);
	CALL(set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1));
	CALL(set_int(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1));
	CALL(set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x40));
	GET_INT(fd, IPPROTO_IPV6, IPV6_TCLASS);
	GET_INT(fd, IPPROTO_TCP, TCP_NODELAY);
	GET_INT(fd, IPPROTO_IP, IP_TOS);
}

static void unknown_options(void)
{
	int fd = connected("echo");
	int value = 0;
	socklen_t length = sizeof value;
	CALL(set_int(fd, SOL_SOCKET, 9999, 1));
	GET_INT(fd, SOL_SOCKET, 9999);
	CALL(set_int(fd, IPPROTO_TCP, 9999, 1));
	GET_INT(fd, IPPROTO_TCP, 9999);
	CALL(set_int(fd, IPPROTO_IP, 9999, 1));
	GET_INT(fd, IPPROTO_IP, 9999);
	CALL(set_int(fd, 9999, 1, 1));
	GET_INT(fd, 9999, 1);
	CALL(set_int(fd, IPPROTO_UDP, 1, 1));
	GET_INT(fd, IPPROTO_UDP, 1);
	CALL(set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, 1));
	GET_INT(fd, IPPROTO_IPV6, IPV6_TCLASS);
	CALL(set_int(fd, SOL_SOCKET, SO_TYPE, 1));
	CALL(set_int(fd, SOL_SOCKET, SO_ERROR, 1));
	CALL(getsockopt(-1, SOL_SOCKET, SO_TYPE, &value, &length));
	CALL(getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &value, &length) == -1);
	CALL(set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1));
	CALL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, 1));
	CALL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, 0));
	CALL(set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, -1));
	CALL(set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 1));
	CALL(set_int(fd, IPPROTO_IP, IP_TTL, 300));
}

static void option_buffers_of_all_lengths(void)
{
	int fd = connected("echo");
	for (socklen_t room = 0; room <= 8; room += 2) {
		unsigned char value[8] = { 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee };
		socklen_t length = room;
		trace("room for %u bytes", room);
		CALL(getsockopt(fd, SOL_SOCKET, SO_TYPE, value, &length));
		trace("length %u, bytes %02x %02x %02x %02x %02x", length, value[0], value[1], value[2], value[3],
		      value[4]);
		memset(value, 0xee, sizeof value);
		length = room;
		CALL(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, value, &length));
		trace("length %u, bytes %02x %02x %02x %02x %02x", length, value[0], value[1], value[2], value[3],
		      value[4]);
		memset(value, 0xee, sizeof value);
		length = room;
		CALL(getsockopt(fd, IPPROTO_IP, IP_TTL, value, &length));
		trace("length %u, bytes %02x %02x %02x %02x %02x", length, value[0], value[1], value[2], value[3],
		      value[4]);
	}
	socklen_t negative = (socklen_t)-1;
	CALL(getsockopt(fd, SOL_SOCKET, SO_TYPE, &(int){ 0 }, &negative));
	CALL(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 0 }, &negative));
}

static void linger_option(void)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 7 };
	socklen_t length = sizeof linger;
	int fd = connected("echo");
	CALL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
	linger.l_linger = 0;
	CALL(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length));
	trace("on %d for %d s, %u bytes", linger.l_onoff, linger.l_linger, length);
	CALL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, 4));
}

static const char *state_of(int fd)
{
	static const char *const names[] = { "?", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",
					     "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING" };
	struct tcp_info info = { 0 };
	socklen_t length = sizeof info;
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == -1)
		return strerrorname_np(errno);
	return info.tcpi_state < sizeof names / sizeof *names ? names[info.tcpi_state] : "unknown";
}

static void tcp_info_state(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	trace("state %s", state_of(fd));
	CALL(connect(fd, SA(peer), peer.length));
	trace("state %s", state_of(fd));
	play(fd, "sync fin hold");
	release(fd);
	until(fd, POLLRDHUP);
	trace("state %s", state_of(fd));
}

static void tcp_info_fields(void)
{
	struct tcp_info info;
	socklen_t length = sizeof info;
	memset(&info, 0xee, sizeof info);
	int fd = connected("echo");
	trace_echo(fd, "hello");
	CALL(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length));
	trace("length %u, congestion state %u, retransmits %u, timestamps %d, sack %d, window scale %d", length,
	      info.tcpi_ca_state, info.tcpi_retransmits, (info.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0,
	      (info.tcpi_options & TCPI_OPT_SACK) != 0, (info.tcpi_options & TCPI_OPT_WSCALE) != 0);
	trace("rtt > 0: %d, cwnd > 0: %d, path MTU %u", info.tcpi_rtt > 0, info.tcpi_snd_cwnd > 0, info.tcpi_pmtu);
	length = 8;
	CALL(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length));
	trace("length %u", length);
}

static void segment_size(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	GET_INT(fd, IPPROTO_TCP, TCP_MAXSEG);
	CALL(connect(fd, SA(peer), peer.length));
	GET_INT(fd, IPPROTO_TCP, TCP_MAXSEG);
	GET_INT(fd, IPPROTO_IP, IP_MTU);
	fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 1000));
	CALL(connect(fd, SA(peer), peer.length));
	GET_INT(fd, IPPROTO_TCP, TCP_MAXSEG);
}

static void congestion_control(void)
{
	char name[16] = "";
	socklen_t length = sizeof name;
	int fd = connected("echo");
	CALL(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5));
	CALL(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length));
	trace("%s, %u bytes", name, length);
	CALL(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "nonsense", 8));
	length = 3;
	CALL(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length));
	trace("%.3s, %u bytes", name, length);
	length = sizeof name;
	memset(name, 0, sizeof name);
	CALL(getsockopt(fd, IPPROTO_TCP, TCP_ULP, name, &length));
	trace("\"%s\", %u bytes", name, length);
	CALL(setsockopt(fd, IPPROTO_TCP, TCP_ULP, "mptcp", 5));
}

static void peer_credentials_and_names(void)
{
	struct ucred credentials = { 0 };
	struct sockaddr_storage name;
	char label[64];
	socklen_t length = sizeof credentials;
	int fd = connected("echo");
	CALL(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length));
	trace("pid %d uid %d gid %d", credentials.pid, (int)credentials.uid, (int)credentials.gid);
	length = sizeof name;
	CALL(getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &name, &length));
	length = sizeof label;
	CALL(getsockopt(fd, SOL_SOCKET, SO_PEERSEC, label, &length));
	length = sizeof label;
	CALL(getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, label, &length));
}

static void device_and_filter(void)
{
	char name[32] = "";
	socklen_t length = sizeof name;
	struct sock_filter accept_all = { 0x06, 0, 0, 0xffffffff };
	struct sock_fprog program = { 1, &accept_all };
	int fd = connected("echo");
	CALL(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &length));
	trace("\"%s\", %u bytes", name, length);
	CALL(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &program, sizeof program));
	CALL(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
	CALL(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &program, sizeof program));
	trace_echo(fd, "hello");
}

static void bound_to_a_device_before_connect(void)
{
	char name[32] = "";
	socklen_t length = sizeof name;
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "wire1", 6));
	CALL(connect(fd, SA(peer), peer.length));
	CALL(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &length));
	trace("\"%s\", %u bytes", name, length);
	play(fd, "echo");
	trace_echo(fd, "hello");
}

/* Zero and numbers below the kernel's least too. */
static void buffer_sizes(void)
{
	static const int sizes[] = { 0, 1, 1000, 2304, 4096, 10000, 65536, 0x7fffffff, -1 };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
		CALL(set_int(fd, SOL_SOCKET, SO_SNDBUF, sizes[i]));
		CALL(set_int(fd, SOL_SOCKET, SO_RCVBUF, sizes[i]));
		CALL(connect(fd, SA(peer), peer.length));
		GET_INT(fd, SOL_SOCKET, SO_SNDBUF);
		GET_INT(fd, SOL_SOCKET, SO_RCVBUF);
		play(fd, "echo");
		trace_echo(fd, "hello");
		MUST(close(fd));
		fd = connected("echo");
		CALL(set_int(fd, SOL_SOCKET, SO_SNDBUF, 100000));
		CALL(set_int(fd, SOL_SOCKET, SO_RCVBUF, 100000));
		CALL(set_int(fd, SOL_SOCKET, SO_SNDBUF, sizes[i]));
		CALL(set_int(fd, SOL_SOCKET, SO_RCVBUF, sizes[i]));
		GET_INT(fd, SOL_SOCKET, SO_SNDBUF);
		GET_INT(fd, SOL_SOCKET, SO_RCVBUF);
		trace_echo(fd, "hello");
		MUST(close(fd));
	}
}

/* Programs key tables by it. */
static void cookie_is_stable(void)
{
	uint64_t before = 0, after = 0, again = 0;
	socklen_t length = sizeof before;
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &before, &length));
	CALL(connect(fd, SA(peer), peer.length));
	CALL(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &after, &length));
	CALL(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &again, &length));
	trace("kept over connect: %d, kept after: %d", before == after, after == again);
}

/* Options that send the connection to the kernel's own TCP: everything must still work. */
static void odd_options_before_connect(void)
{
	static const struct {
		int level, option;
	} odd[] = { { SOL_SOCKET, SO_ZEROCOPY }, { SOL_SOCKET, SO_TIMESTAMP }, { SOL_SOCKET, SO_OOBINLINE },
		    { SOL_SOCKET, SO_REUSEPORT }, { IPPROTO_IP, IP_FREEBIND }, { IPPROTO_TCP, TCP_INQ },
		    { SOL_SOCKET, SO_DONTROUTE }, { IPPROTO_TCP, TCP_CORK }, { IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS } };
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
		CALL(set_int(fd, odd[i].level, odd[i].option, 1));
		CALL(connect(fd, SA(peer), peer.length));
		GET_INT(fd, odd[i].level, odd[i].option);
		GETPEERNAME(fd);
		play(fd, "echo");
		trace_echo(fd, "hello");
	}
}

const struct scenario option_scenarios[] = {
	SCENARIO(identity_of_the_socket),
	SCENARIO(defaults_before_and_after_connect),
	SCENARIO(options_set_before_connect),
	SCENARIO(options_set_after_connect),
	SCENARIO(options_set_while_connecting),
	SCENARIO(options_on_ipv6),
	SCENARIO(unknown_options),
	SCENARIO(option_buffers_of_all_lengths),
	SCENARIO(linger_option),
	SCENARIO(tcp_info_state),
	SCENARIO(tcp_info_fields),
	SCENARIO(segment_size),
	SCENARIO(congestion_control),
	SCENARIO(peer_credentials_and_names),
	SCENARIO(device_and_filter),
	SCENARIO(bound_to_a_device_before_connect),
	SCENARIO(buffer_sizes),
	SCENARIO(cookie_is_stable),
	SCENARIO(odd_options_before_connect),
	END_OF_SCENARIOS,
};

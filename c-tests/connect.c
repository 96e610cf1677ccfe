/* connect() that succeeds: blocking, non-blocking, names, who does it and on which descriptor. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void connect_blocking(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	POLL(fd, POLLIN | POLLOUT | POLLRDHUP, 0);
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	CALL(connect(fd, SA(peer), peer.length));
	POLL(fd, POLLIN | POLLOUT | POLLRDHUP, 0);
	SOCKET_ERROR(fd);
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	CALL(connect(fd, SA(peer), peer.length));
	play(fd, "echo");
	trace_echo(fd, "hello");
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	CALL(close(fd));
	CALL(write(fd, "x", 1));
}

/* The gate holds the handshake back, so that what a connecting socket says can be seen. */
static void connect_nonblocking(void)
{
	struct address target;
	int gate = control("gate sync open accept echo", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	POLL(fd, POLLIN | POLLOUT | POLLRDHUP, 0);
	CALL(connect(fd, SA(target), target.length));
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	SOCKET_ERROR(fd);
	CALL(read(fd, &(char){ 0 }, 1));
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
	release(gate);
	POLL(fd, POLLOUT, 10000);
	POLL(fd, POLLIN | POLLOUT | POLLRDHUP, 0);
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	SOCKET_ERROR(fd);
	CALL(connect(fd, SA(target), target.length));
	CALL(connect(fd, SA(target), target.length));
	trace_echo(fd, "hello");
	CALL(read(fd, &(char){ 0 }, 1));
	CALL(close(fd));
}

/* Programs that ask SO_ERROR instead of connecting again. */
static void connect_nonblocking_then_so_error(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(peer), peer.length));
	POLL(fd, POLLOUT, 10000);
	SOCKET_ERROR(fd);
	play(fd, "echo");
	trace_echo(fd, "hello");
	CALL(connect(fd, SA(peer), peer.length));
	CALL(connect(fd, SA(peer), peer.length));
}

static void connect_waits_for_the_gate(void)
{
	struct address target;
	int gate = control("gate sync open accept echo", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	if (fork() == 0) {
		close(fd);
		usleep(100000);
		release(gate);
		_exit(0);
	}
	CALL(connect(fd, SA(target), target.length));
	GETPEERNAME(fd);
	trace_echo(fd, "hello");
	CALL(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

/* A second thread's write while the first connects, and one that makes the socket blocking again. */
static void connecting_socket_becomes_blocking(void)
{
	struct address target;
	int gate = control("gate sync open accept echo", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	set_nonblocking(fd, false);
	release(gate);
	CALL(connect(fd, SA(target), target.length));
	GETPEERNAME(fd);
	CALL(connect(fd, SA(target), target.length));
	trace_echo(fd, "hello");
}

static void write_waits_for_the_connection(void)
{
	struct address target;
	int gate = control("gate sync open accept echo", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	set_nonblocking(fd, false);
	release(gate);
	CALL(write(fd, "early", 5));
	trace_read_exactly(fd, 5);
}

static void connecting_refuses_other_calls(void)
{
	struct address target = address_of(BLACK_HOLE, 80), own = address_of(OWN_IPV4, 0);
	struct tcp_info info;
	socklen_t length = sizeof info;
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	CALL(listen(fd, 1));
	CALL(bind(fd, SA(own), own.length));
	CALL(accept(fd, NULL, NULL));
	CALL(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length));
	trace("state %u", info.tcpi_state);
	CALL(recv(fd, &(char){ 0 }, 1, MSG_PEEK));
	CALL(ioctl(fd, FIONREAD, &(int){ 0 }));
	CALL(close(fd));
}

static void connecting_then_shutdown(void)
{
	struct address target = address_of(BLACK_HOLE, 80);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	CALL(shutdown(fd, SHUT_RDWR));
	POLL(fd, POLLIN | POLLOUT | POLLRDHUP, 0);
	SOCKET_ERROR(fd);
	CALL(read(fd, &(char){ 0 }, 1));
	GETPEERNAME(fd);
}

static void connecting_then_disconnect(void)
{
	struct address target = address_of(BLACK_HOLE, 80);
	struct sockaddr unspecified = { .sa_family = AF_UNSPEC };
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	CALL(connect(fd, &unspecified, sizeof unspecified));
	POLL(fd, POLLIN | POLLOUT | POLLRDHUP, 0);
	SOCKET_ERROR(fd);
	set_nonblocking(fd, false);
	CALL(connect(fd, SA(peer), peer.length));
	GETPEERNAME(fd);
	play(fd, "echo");
	trace_echo(fd, "hello");
}

static void disconnect_and_reconnect(void)
{
	struct sockaddr unspecified = { .sa_family = AF_UNSPEC };
	int fd = connected("echo");
	trace_echo(fd, "first");
	GETSOCKNAME(fd);
	CALL(connect(fd, &unspecified, sizeof unspecified));
	POLL(fd, POLLIN | POLLOUT | POLLRDHUP, 0);
	SOCKET_ERROR(fd);
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	CALL(read(fd, &(char){ 0 }, 1));
	CALL(send(fd, "x", 1, MSG_NOSIGNAL));
	trace_forget_ports();
	CALL(connect(fd, SA(peer), peer.length));
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	SOCKET_ERROR(fd);
	play(fd, "echo");
	trace_echo(fd, "second");
	CALL(connect(fd, &unspecified, sizeof unspecified));
	CALL(connect(fd, &unspecified, sizeof unspecified));
	CALL(connect(fd, SA(peer), peer.length));
	play(fd, "echo");
	trace_echo(fd, "third");
}

static void disconnect_tells_the_peer(void)
{
	struct sockaddr unspecified = { .sa_family = AF_UNSPEC };
	struct address target;
	int report = control("listen accept sink:5 drain back digest", &target);
	int fd = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(target), target.length));
	CALL(write(fd, "hello", 5));
	int queued = 1;
	while (queued)
		MUST(ioctl(fd, TIOCOUTQ, &queued));
	CALL(connect(fd, &unspecified, sizeof unspecified));
	trace("peer: %s", read_line(report));
}

static void bound_to_a_port_before_connect(void)
{
	struct address own = address_of(OWN_IPV4, 20117);
	int on = 1, fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	/* The run before this one may have left the port in TIME_WAIT, which SO_REUSEADDR permits. */
	CALL(bind(fd, SA(own), own.length));
	GETSOCKNAME(fd);
	CALL(bind(fd, SA(own), own.length));
	CALL(connect(fd, SA(peer), peer.length));
	GETSOCKNAME(fd);
	struct sockaddr_in name;
	socklen_t length = sizeof name;
	MUST(getsockname(fd, (struct sockaddr *)&name, &length));
	trace("port kept: %s", ntohs(name.sin_port) == 20117 ? "yes" : "no");
	CALL(bind(fd, SA(own), own.length));
	CALL(listen(fd, 1));
	CALL(accept(fd, NULL, NULL));
	play(fd, "echo");
	trace_echo(fd, "hello");
	/* Abort, so that no TIME_WAIT stays behind for the next run. */
	struct linger abort = { .l_onoff = 1, .l_linger = 0 };
	CALL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof abort));
	CALL(close(fd));
}

static void bound_to_any_before_connect(void)
{
	struct address any = address_of("0.0.0.0", 0);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(bind(fd, SA(any), any.length));
	GETSOCKNAME(fd);
	CALL(connect(fd, SA(peer), peer.length));
	GETSOCKNAME(fd);
	play(fd, "echo");
	trace_echo(fd, "hello");
}

static void bound_to_an_address_without_a_port(void)
{
	struct address own = address_of(OWN_IPV4, 0);
	int on = 1, fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on));
	CALL(bind(fd, SA(own), own.length));
	GETSOCKNAME(fd);
	CALL(connect(fd, SA(peer), peer.length));
	GETSOCKNAME(fd);
	play(fd, "echo");
	trace_echo(fd, "hello");
}

static void calls_of_listeners_on_connected(void)
{
	struct address own = address_of(OWN_IPV4, 0);
	int fd = connected("echo");
	CALL(bind(fd, SA(own), own.length));
	CALL(listen(fd, 1));
	CALL(accept(fd, NULL, NULL));
	CALL(accept4(fd, NULL, NULL, SOCK_NONBLOCK));
	trace_echo(fd, "still there");
}

static void name_buffers_of_all_lengths(void)
{
	int fd = connected("echo");
	for (socklen_t room = 0; room <= 20; room += 4) {
		struct sockaddr_storage storage;
		socklen_t length = room;
		memset(&storage, 0xee, sizeof storage);
		trace("room for %u bytes", room);
		CALL(getpeername(fd, (struct sockaddr *)&storage, &length));
		trace("length %u, byte after the room %#x", length, ((unsigned char *)&storage)[room]);
		length = room;
		CALL(getsockname(fd, (struct sockaddr *)&storage, &length));
		trace("length %u", length);
	}
	socklen_t negative = (socklen_t)-1;
	struct sockaddr_storage storage;
	CALL(getpeername(fd, (struct sockaddr *)&storage, &negative));
	CALL(getsockname(fd, (struct sockaddr *)&storage, &negative));
	CALL(getpeername(-1, (struct sockaddr *)&storage, &negative));
}

static void names_after_the_peer_closed(void)
{
	int fd = connected("fin hold");
	until(fd, POLLRDHUP);
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	CALL(read(fd, &(char){ 0 }, 1));
	GETPEERNAME(fd);
}

static void names_after_both_sides_closed(void)
{
	struct sockaddr_storage name;
	int fd = connected("drain");
	CALL(shutdown(fd, SHUT_WR));
	until(fd, POLLRDHUP);
	for (int ms = 0; ms < 2000; ms++) {
		socklen_t length = sizeof name;
		if (getpeername(fd, (struct sockaddr *)&name, &length) == -1)
			break;
		usleep(1000);
	}
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
}

static void ipv6(void)
{
	struct address target = address_of(PEER_IPV6, peer_port_number);
	int fd = CALL_FD(socket(AF_INET6, SOCK_STREAM, 0));
	GETSOCKNAME(fd);
	CALL(connect(fd, SA(target), target.length));
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	GET_INT(fd, SOL_SOCKET, SO_DOMAIN);
	play(fd, "echo");
	trace_echo(fd, "hello");
}

static void ipv4_mapped(void)
{
	char mapped[64] = "::ffff:";
	struct address target = address_of(strcat(mapped, peer_host), peer_port_number);
	int fd = CALL_FD(socket(AF_INET6, SOCK_STREAM, 0));
	CALL(connect(fd, SA(target), target.length));
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	GET_INT(fd, SOL_SOCKET, SO_DOMAIN);
	play(fd, "echo");
	trace_echo(fd, "hello");
}

static void ipv4_mapped_on_a_v6only_socket(void)
{
	char mapped[64] = "::ffff:";
	struct address target = address_of(strcat(mapped, peer_host), peer_port_number);
	int on = 1, fd = CALL_FD(socket(AF_INET6, SOCK_STREAM, 0));
	CALL(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
	CALL(connect(fd, SA(target), target.length));
	SOCKET_ERROR(fd);
}

static void ipv4_address_on_an_ipv6_socket(void)
{
	int fd = CALL_FD(socket(AF_INET6, SOCK_STREAM, 0));
	CALL(connect(fd, SA(peer), peer.length));
}

static void protocol_numbers_of_tcp(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, IPPROTO_TCP));
	CALL(connect(fd, SA(peer), peer.length));
	GET_INT(fd, SOL_SOCKET, SO_PROTOCOL);
	fd = CALL_FD(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP));
	GET_INT(fd, SOL_SOCKET, SO_PROTOCOL);
	CALL_FD(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
	CALL_FD(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
	CALL_FD(socket(AF_INET, SOCK_SEQPACKET, 0));
	CALL_FD(socket(AF_INET, SOCK_STREAM | 0x100000, 0));
}

static void flags_of_the_descriptor_survive_connect(void)
{
	int kinds[] = { 0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC };
	for (int i = 0; i < 4; i++) {
		int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | kinds[i], 0));
		CALL(connect(fd, SA(peer), peer.length));
		CALL(fcntl(fd, F_GETFL));
		CALL(fcntl(fd, F_GETFD));
		until(fd, POLLOUT);
		CALL(fcntl(fd, F_SETFL, O_NONBLOCK));
		CALL(fcntl(fd, F_GETFL));
		CALL(ioctl(fd, FIONBIO, &(int){ 0 }));
		CALL(fcntl(fd, F_GETFL));
		CALL(fcntl(fd, F_SETFD, FD_CLOEXEC));
		CALL(fcntl(fd, F_GETFD));
	}
}

static void cloexec_and_nonblock_set_before_connect(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(fcntl(fd, F_SETFD, FD_CLOEXEC));
	CALL(ioctl(fd, FIONBIO, &(int){ 1 }));
	CALL(connect(fd, SA(peer), peer.length));
	CALL(fcntl(fd, F_GETFD));
	CALL(fcntl(fd, F_GETFL));
}

static int by_number(const void *left, const void *right)
{
	return *(const int *)left - *(const int *)right;
}

/* What the process has open beyond its standard descriptors, and how many threads it runs. */
static void trace_process(void)
{
	int numbers[64], count = 0, threads = 0;
	struct dirent *entry;
	DIR *directory = opendir("/proc/self/fd");
	while ((entry = readdir(directory)) && count < 64)
		if (entry->d_name[0] != '.' && atoi(entry->d_name) > 2 && atoi(entry->d_name) != dirfd(directory))
			numbers[count++] = atoi(entry->d_name);
	closedir(directory);
	qsort(numbers, (size_t)count, sizeof *numbers, by_number);
	for (int i = 0; i < count; i++) {
		char path[32], target[128] = "";
		snprintf(path, sizeof path, "/proc/self/fd/%d", numbers[i]);
		ssize_t length = readlink(path, target, sizeof target - 1);
		target[length > 0 ? length : 0] = '\0';
		target[strcspn(target, ":")] = '\0';
		trace("descriptor %d: %s", numbers[i], target);
	}
	directory = opendir("/proc/self/task");
	while ((entry = readdir(directory)))
		threads += entry->d_name[0] != '.';
	closedir(directory);
	trace("threads: %d", threads);
}

static void first_connect_leaves_nothing_in_the_process(void)
{
	close_range(3, ~0u, 0);
	trace_process();
	int fd = connected("echo");
	trace("number %d", fd);
	trace_process();
	trace_echo(fd, "hello");
	CALL(close(fd));
	trace_process();
}

static void status_of_the_descriptor(void)
{
	struct stat before, after;
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(fstat(fd, &before));
	CALL(connect(fd, SA(peer), peer.length));
	CALL(fstat(fd, &after));
	trace("socket: %d, permissions %o, size %lld, links %lu, block size %ld", S_ISSOCK(after.st_mode),
	      after.st_mode & 0777, (long long)after.st_size, (unsigned long)after.st_nlink, (long)after.st_blksize);
	trace("same inode as before: %s", before.st_ino == after.st_ino ? "yes" : "no");
	CALL(isfdtype(fd, S_IFSOCK));
	CALL(lseek(fd, 0, SEEK_CUR));
	CALL(pread(fd, &(char){ 0 }, 1, 0));
	CALL(fsync(fd));
	CALL(ftruncate(fd, 0));
	CALL(isatty(fd) - 1);
}

static void all_other_descriptors_closed_before_connect(void)
{
	CALL(close_range(3, ~0u, 0));
	int fd = connected("echo");
	trace("number %d", fd);
	CALL(close_range(4, ~0u, 0));
	trace_echo(fd, "hello");
	int second = connected("echo");
	trace("number %d", second);
	trace_echo(second, "hello");
}

static void socket_takes_number_zero(void)
{
	CALL(close(0));
	int fd = (int)CALL(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(peer), peer.length));
	play(fd, "echo");
	trace_echo(fd, "hello");
	GETPEERNAME(fd);
}

static void connect_at_the_descriptor_limit(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	struct rlimit limit = { (rlim_t)fd + 1, (rlim_t)fd + 1 };
	CALL(setrlimit(RLIMIT_NOFILE, &limit));
	CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(peer), peer.length));
	GETPEERNAME(fd);
	play(fd, "echo");
	trace_echo(fd, "hello");
}

#define CONNECTING_THREADS 24

static void *connect_in_thread(void *argument)
{
	uintptr_t index = (uintptr_t)argument, good = 0;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_storage name;
	socklen_t length = sizeof name;
	char text[8], back[8] = "";
	if (connect(fd, SA(peer), peer.length) == 0 && getpeername(fd, (struct sockaddr *)&name, &length) == 0 &&
	    memcmp(&name, &peer.storage, peer.length) == 0) {
		int size = snprintf(text, sizeof text, "%03u", (unsigned)index);
		play(fd, "echo");
		good = write(fd, text, (size_t)size) == size && recv(fd, back, (size_t)size, MSG_WAITALL) == size &&
		       memcmp(text, back, (size_t)size) == 0;
	}
	close(fd);
	return (void *)good;
}

static void many_threads_connect_at_once(void)
{
	pthread_t threads[CONNECTING_THREADS];
	int good = 0;
	for (uintptr_t i = 0; i < CONNECTING_THREADS; i++)
		pthread_create(&threads[i], NULL, connect_in_thread, (void *)i);
	for (int i = 0; i < CONNECTING_THREADS; i++) {
		void *result;
		pthread_join(threads[i], &result);
		good += result != NULL;
	}
	trace("%d of %d threads connected and got their echo", good, CONNECTING_THREADS);
}

static void connection_of_another_thread(void)
{
	pthread_t thread;
	void *result;
	pthread_create(&thread, NULL, connect_in_thread, (void *)7);
	pthread_join(thread, &result);
	trace("thread: %s", result ? "good" : "bad");
	int fd = connected("echo");
	trace_echo(fd, "hello");
}

static void hundred_connections_in_turn(void)
{
	int good = 0;
	for (int i = 0; i < 100; i++)
		good += connect_in_thread((void *)(uintptr_t)i) != NULL;
	trace("%d of 100 connections got their echo", good);
}

static void fastopen_connects_by_sendto(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(sendto(fd, "echo\nhello", 10, MSG_FASTOPEN, SA(peer), peer.length));
	GETPEERNAME(fd);
	trace_read_exactly(fd, 5);
}

static void fastopen_connects_by_first_write(void)
{
	int on = 1, fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on));
	CALL(connect(fd, SA(peer), peer.length));
	CALL(write(fd, "echo\nhello", 10));
	trace_read_exactly(fd, 5);
	GETPEERNAME(fd);
}

const struct scenario connect_scenarios[] = {
	SCENARIO(first_connect_leaves_nothing_in_the_process),
	SCENARIO(connect_blocking),
	SCENARIO(connect_nonblocking),
	SCENARIO(connect_nonblocking_then_so_error),
	SCENARIO(connect_waits_for_the_gate),
	SCENARIO(connecting_socket_becomes_blocking),
	SCENARIO(write_waits_for_the_connection),
	SCENARIO(connecting_refuses_other_calls),
	SCENARIO(connecting_then_shutdown),
	SCENARIO(connecting_then_disconnect),
	SCENARIO(disconnect_and_reconnect),
	SCENARIO(disconnect_tells_the_peer),
	SCENARIO(bound_to_a_port_before_connect),
	SCENARIO(bound_to_any_before_connect),
	SCENARIO(bound_to_an_address_without_a_port),
	SCENARIO(calls_of_listeners_on_connected),
	SCENARIO(name_buffers_of_all_lengths),
	SCENARIO(names_after_the_peer_closed),
	SCENARIO(names_after_both_sides_closed),
	SCENARIO(ipv6),
	SCENARIO(ipv4_mapped),
	SCENARIO(ipv4_mapped_on_a_v6only_socket),
	SCENARIO(ipv4_address_on_an_ipv6_socket),
	SCENARIO(protocol_numbers_of_tcp),
	SCENARIO(flags_of_the_descriptor_survive_connect),
	SCENARIO(cloexec_and_nonblock_set_before_connect),
	SCENARIO(status_of_the_descriptor),
	SCENARIO(all_other_descriptors_closed_before_connect),
	SCENARIO(socket_takes_number_zero),
	SCENARIO(connect_at_the_descriptor_limit),
	SCENARIO(many_threads_connect_at_once),
	SCENARIO(connection_of_another_thread),
	SCENARIO(hundred_connections_in_turn),
	SCENARIO(fastopen_connects_by_sendto),
	SCENARIO(fastopen_connects_by_first_write),
	END_OF_SCENARIOS,
};

/* dup, fork, exec, descriptor passing, vfork, chroot, seccomp: one description in many hands. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void dup_after_connect(void)
{
	int fd = connected("echo");
	int copy = CALL_FD(dup(fd));
	GETPEERNAME(copy);
	GETSOCKNAME(copy);
	CALL(close(fd));
	trace_echo(copy, "hello");
	int second = CALL_FD(fcntl(copy, F_DUPFD_CLOEXEC, 100));
	trace("number %d", second);
	CALL(fcntl(second, F_GETFD));
	GETPEERNAME(second);
	CALL(connect(second, SA(peer), peer.length));
	CALL(close(copy));
	trace_echo(second, "again");
}

static void dup_before_connect(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	int copy = CALL_FD(dup(fd));
	CALL(connect(fd, SA(peer), peer.length));
	GETPEERNAME(copy);
	GETPEERNAME(fd);
	POLL(copy, POLLOUT, 0);
	play(copy, "echo");
	trace_echo(fd, "hello");
	CALL(close(fd));
	trace_echo(copy, "again");
}

static void dup_while_connecting(void)
{
	struct address target;
	int gate = control("gate sync open accept echo", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CALL(connect(fd, SA(target), target.length));
	int copy = CALL_FD(dup(fd));
	GETPEERNAME(copy);
	CALL(connect(copy, SA(target), target.length));
	release(gate);
	POLL(copy, POLLOUT, 10000);
	SOCKET_ERROR(copy);
	GETPEERNAME(copy);
	GETPEERNAME(fd);
	trace_echo(copy, "hello");
}

static void dup2_over_a_connected_descriptor(void)
{
	int pipe_ends[2], fd = connected("echo");
	MUST(pipe(pipe_ends));
	CALL(dup2(pipe_ends[1], fd) == fd);
	GETPEERNAME(fd);
	GETSOCKNAME(fd);
	GET_INT(fd, SOL_SOCKET, SO_TYPE);
	CALL(write(fd, "x", 1));
	CALL(read(pipe_ends[0], &(char){ 0 }, 1));
	int second = connected("echo");
	CALL(dup2(second, fd) == fd);
	GETPEERNAME(fd);
	trace_echo(fd, "hello");
	CALL(dup2(fd, fd) == fd);
	CALL(dup3(second, fd, O_CLOEXEC) == fd);
	CALL(fcntl(fd, F_GETFD));
	trace_echo(fd, "again");
}

/* A number that was a connection becomes another kind of thing. */
static void number_reused_after_close(void)
{
	int fd = connected("echo");
	CALL(close(fd));
	int udp = CALL_FD(socket(AF_INET, SOCK_DGRAM, 0));
	trace("same number: %d", udp == fd);
	CALL(connect(udp, SA(peer), peer.length));
	GET_INT(udp, SOL_SOCKET, SO_TYPE);
	GETPEERNAME(udp);
	CALL(close(udp));
	int again = connected("echo");
	trace("same number: %d", again == fd);
	GETPEERNAME(again);
	trace_echo(again, "hello");
}

static void standard_streams_are_the_connection(void)
{
	int fd = connected("echo");
	CALL(dup2(fd, STDIN_FILENO));
	CALL(close(fd));
	GETPEERNAME(STDIN_FILENO);
	trace_echo(STDIN_FILENO, "hello");
	pid_t child = fork();
	if (child == 0) {
		dup2(STDIN_FILENO, STDERR_FILENO);
		execl("/bin/sh", "sh", "-c", "echo from the shell >&2", (char *)NULL);
		_exit(127);
	}
	trace_wait(child);
	trace_read_exactly(STDIN_FILENO, 15);
}

static void fork_after_connect(void)
{
	int fd = connected("echo");
	pid_t child = fork();
	if (child == 0) {
		GETPEERNAME(fd);
		GETSOCKNAME(fd);
		trace_echo(fd, "child");
		CALL(close(fd));
		_exit(0);
	}
	trace_wait(child);
	trace_echo(fd, "parent");
	GETPEERNAME(fd);
}

static void fork_before_connect_child_connects(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	pid_t child = fork();
	if (child == 0) {
		CALL(connect(fd, SA(peer), peer.length));
		GETPEERNAME(fd);
		_exit(0);
	}
	trace_wait(child);
	GETPEERNAME(fd);
	CALL(connect(fd, SA(peer), peer.length));
	play(fd, "echo");
	trace_echo(fd, "hello");
}

static void fork_before_connect_parent_connects(void)
{
	int start[2], fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	MUST(pipe(start));
	pid_t child = fork();
	if (child == 0) {
		MUST(read(start[0], &(char){ 0 }, 1));
		GETPEERNAME(fd);
		play(fd, "echo");
		trace_echo(fd, "child");
		_exit(0);
	}
	CALL(connect(fd, SA(peer), peer.length));
	MUST(write(start[1], "x", 1));
	trace_wait(child);
	trace_echo(fd, "parent");
}

static void child_connects_for_itself(void)
{
	int first = connected("echo");
	pid_t child = fork();
	if (child == 0) {
		int fd = connected("echo");
		GETPEERNAME(fd);
		trace_echo(fd, "child");
		_exit(0);
	}
	trace_wait(child);
	trace_echo(first, "parent");
}

static void vfork_child_connects(void)
{
	volatile int result = -1;
	pid_t child = vfork();
	if (child == 0) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		result = connect(fd, SA(peer), peer.length);
		_exit(0);
	}
	trace("in the child: %d", result);
	trace_wait(child);
	int fd = connected("echo");
	GETPEERNAME(fd);
	trace_echo(fd, "hello");
}

static void two_processes_read(void)
{
	int counts[2], fd = connected("send:1000000");
	uint64_t total = 0, count;
	MUST(pipe(counts));
	for (int i = 0; i < 2; i++) {
		if (fork() == 0) {
			static char buffer[4096];
			ssize_t got;
			for (count = 0; (got = read(fd, buffer, sizeof buffer)) > 0;)
				count += (uint64_t)got;
			MUST(write(counts[1], &count, sizeof count));
			_exit(got == 0 ? 0 : 1);
		}
	}
	for (int i = 0; i < 2; i++) {
		int status;
		MUST(wait(&status));
		trace("child exited with %d", WEXITSTATUS(status));
		MUST(read(counts[0], &count, sizeof count));
		total += count;
	}
	trace("together %llu bytes", (unsigned long long)total);
}

static void *read_one_byte(void *argument)
{
	char byte = 0;
	return (void *)(intptr_t)(read(*(int *)argument, &byte, 1) == 1 ? byte : -1);
}

static void close_in_another_thread_while_reading(void)
{
	int fd = connected("sync say:x hold"), copy = (int)MUST(dup(fd));
	pthread_t thread;
	void *result;
	pthread_create(&thread, NULL, read_one_byte, &fd);
	/* Nothing tells when the reader sleeps in read(); much less time than this will do. */
	usleep(300000);
	CALL(close(fd));
	release(copy);
	pthread_join(thread, &result);
	trace("the reader got %c", (char)(intptr_t)result);
}

static void exec_with_the_descriptor(void)
{
	if (inherited == -1) {
		int fd = connected("say:hello echo");
		trace("before exec");
		exec_self(fd);
	}
	GETPEERNAME(inherited);
	GETSOCKNAME(inherited);
	SOCKET_ERROR(inherited);
	GET_INT(inherited, SOL_SOCKET, SO_DOMAIN);
	GET_INT(inherited, SOL_SOCKET, SO_PROTOCOL);
	CALL(fcntl(inherited, F_GETFL));
	CALL(connect(inherited, SA(peer), peer.length));
	trace_read_exactly(inherited, 5);
	trace_echo(inherited, "after exec");
	CALL(shutdown(inherited, SHUT_WR));
	trace_read_all(inherited);
}

static void exec_while_connecting(void)
{
	if (inherited == -1) {
		struct address target;
		int gate = control("gate sync open accept echo", &target);
		int fd = CALL_FD(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
		CALL(connect(fd, SA(target), target.length));
		release(gate);
		exec_self(fd);
	}
	POLL(inherited, POLLOUT, 10000);
	SOCKET_ERROR(inherited);
	GETPEERNAME(inherited);
	trace_echo(inherited, "after exec");
}

static void exec_of_an_unconnected_socket(void)
{
	if (inherited == -1) {
		int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
		exec_self(fd);
	}
	CALL(connect(inherited, SA(peer), peer.length));
	GETPEERNAME(inherited);
	play(inherited, "echo");
	trace_echo(inherited, "after exec");
}

static void exec_closes_by_cloexec(void)
{
	if (inherited == -1) {
		int fd = connected("echo");
		CALL(fcntl(fd, F_SETFD, FD_CLOEXEC));
		exec_self(fd);
	}
	CALL(fcntl(inherited, F_GETFD));
}

/* Nothing of the environment survives: the bytes still flow. */
static void exec_with_an_empty_environment(void)
{
	if (inherited == -1) {
		int fd = connected("echo");
		clearenv();
		exec_self(fd);
	}
	POLL(inherited, POLLIN | POLLOUT, 0);
	trace_echo(inherited, "after exec");
	CALL(shutdown(inherited, SHUT_WR));
	trace_read_all(inherited);
}

static void exec_then_connect_anew(void)
{
	if (inherited == -1) {
		int fd = connected("echo");
		exec_self(fd);
	}
	int fd = connected("echo");
	GETPEERNAME(fd);
	trace_echo(fd, "hello");
}

static void pass_descriptor(int channel, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} room;
	struct iovec part = { "x", 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room.bytes,
				  .msg_controllen = sizeof room.bytes };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	MUST(sendmsg(channel, &message, 0));
}

static int receive_descriptor(int channel)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} room;
	char byte;
	int fd;
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room.bytes,
				  .msg_controllen = sizeof room.bytes };
	MUST(recvmsg(channel, &message, 0));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

static void descriptor_passed_to_a_process(void)
{
	int channel[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, channel));
	pid_t child = fork();
	if (child == 0) {
		int fd = receive_descriptor(channel[1]);
		GETPEERNAME(fd);
		GETSOCKNAME(fd);
		GET_INT(fd, SOL_SOCKET, SO_PROTOCOL);
		trace_echo(fd, "passed");
		_exit(0);
	}
	int fd = connected("echo");
	pass_descriptor(channel[0], fd);
	MUST(close(fd));
	trace_wait(child);
}

static void unconnected_descriptor_passed_to_a_process(void)
{
	int channel[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, channel));
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	pass_descriptor(channel[0], fd);
	pid_t child = fork();
	if (child == 0) {
		close(fd);
		int copy = receive_descriptor(channel[1]);
		CALL(connect(copy, SA(peer), peer.length));
		GETPEERNAME(copy);
		_exit(0);
	}
	trace_wait(child);
	GETPEERNAME(fd);
	play(fd, "echo");
	trace_echo(fd, "hello");
}

static void connect_in_a_chroot(void)
{
	char directory[] = "/tmp/descriptors-XXXXXX";
	MUST(mkdtemp(directory) ? 0 : -1);
	pid_t child = fork();
	if (child == 0) {
		MUST(chroot(directory));
		MUST(chdir("/"));
		int fd = connected("echo");
		GETPEERNAME(fd);
		trace_echo(fd, "hello");
		_exit(0);
	}
	trace_wait(child);
	MUST(rmdir(directory));
}

static void connect_as_nobody(void)
{
	pid_t child = fork();
	if (child == 0) {
		MUST(setgid(65534));
		MUST(setuid(65534));
		int fd = connected("echo");
		GETPEERNAME(fd);
		GETSOCKNAME(fd);
		trace_echo(fd, "hello");
		_exit(0);
	}
	trace_wait(child);
}

static int install_filter(struct sock_filter *filter, unsigned short length)
{
	struct sock_fprog program = { length, filter };
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* After connecting, a sandbox that kills for anything but reading, writing and waiting. */
static void sandbox_around_the_data_path(void)
{
	struct sock_filter filter[] = {
		LOAD(nr), ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_poll), ALLOW(SYS_recvfrom),
		ALLOW(SYS_sendto), ALLOW(SYS_close), ALLOW(SYS_exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	pid_t child = fork();
	if (child == 0) {
		int fd = connected("echo");
		MUST(install_filter(filter, sizeof filter / sizeof *filter));
		trace_echo(fd, "hello");
		CALL(send(fd, "x", 1, MSG_NOSIGNAL));
		CALL(recv(fd, &(char){ 0 }, 1, 0));
		CALL(close(fd));
		_exit(0);
	}
	trace_wait(child);
}

/* A sandbox that knows TCP sockets only: everything else fails with EPERM. */
static void sandbox_without_local_sockets(void)
{
	struct sock_filter filter[] = {
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execve, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
		LOAD(args[0]),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	pid_t child = fork();
	if (child == 0) {
		MUST(install_filter(filter, sizeof filter / sizeof *filter));
		int fd = connected("echo");
		GETPEERNAME(fd);
		trace_echo(fd, "hello");
		_exit(0);
	}
	trace_wait(child);
}

const struct scenario process_scenarios[] = {
	SCENARIO(dup_after_connect),
	SCENARIO(dup_before_connect),
	SCENARIO(dup_while_connecting),
	SCENARIO(dup2_over_a_connected_descriptor),
	SCENARIO(number_reused_after_close),
	SCENARIO(standard_streams_are_the_connection),
	SCENARIO(fork_after_connect),
	SCENARIO(fork_before_connect_child_connects),
	SCENARIO(fork_before_connect_parent_connects),
	SCENARIO(child_connects_for_itself),
	SCENARIO(vfork_child_connects),
	SCENARIO(two_processes_read),
	SCENARIO(close_in_another_thread_while_reading),
	SCENARIO(exec_with_the_descriptor),
	SCENARIO(exec_while_connecting),
	SCENARIO(exec_of_an_unconnected_socket),
	SCENARIO(exec_closes_by_cloexec),
	SCENARIO(exec_with_an_empty_environment),
	SCENARIO(exec_then_connect_anew),
	SCENARIO(descriptor_passed_to_a_process),
	SCENARIO(unconnected_descriptor_passed_to_a_process),
	SCENARIO(connect_in_a_chroot),
	SCENARIO(connect_as_nobody),
	SCENARIO(sandbox_around_the_data_path),
	SCENARIO(sandbox_without_local_sockets),
	END_OF_SCENARIOS,
};

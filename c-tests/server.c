/* What servers do with listening and accepted sockets: event loops, children, exec, descriptor passing, other users. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

static void watch(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };
	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

/* Echoes what comes, until the end. */
static void serve(int fd)
{
	char text[64];
	ssize_t got;
	while ((got = read(fd, text, sizeof text)) > 0)
		MUST(write(fd, text, (size_t)got));
	close(fd);
}

/* A caller that says hello, and reports what came back on the first connection. */
#define HELLO "say:hello sink:5 back digest"

static void epoll_of_a_listener(void)
{
	int listener = listening(AF_INET, 0), epoll = (int)MUST(epoll_create1(0)), outer = (int)MUST(epoll_create1(0));
	set_nonblocking(listener, true);
	watch(epoll, listener, EPOLLIN, 1);
	watch(outer, epoll, EPOLLIN, 2);
	EPOLL_WAIT(outer, 0);
	for (int i = 0; i < 2; i++) {
		int control = called("call", port_of(listener), HELLO);
		EPOLL_WAIT(outer, 10000);
		EPOLL_WAIT(epoll, 0);
		EPOLL_WAIT(epoll, 0);
		int fd = CALL_FD(accept(listener, NULL, NULL));
		CALL(accept(listener, NULL, NULL));
		EPOLL_WAIT(epoll, 0);
		watch(epoll, fd, EPOLLIN | EPOLLRDHUP, 3);
		EPOLL_WAIT(epoll, 10000);
		serve(fd);
		trace("%s", read_line(control));
		EPOLL_WAIT(outer, 0);
		close(control);
	}
}

static void edge_and_oneshot_on_a_listener(void)
{
	int listener = listening(AF_INET, 0), epoll = (int)MUST(epoll_create1(0));
	set_nonblocking(listener, true);
	watch(epoll, listener, EPOLLIN | EPOLLET, 1);
	int control = called("call", port_of(listener), "hold");
	EPOLL_WAIT(epoll, 10000);
	EPOLL_WAIT(epoll, 0);
	int second = called("call", port_of(listener), "hold");
	EPOLL_WAIT(epoll, 10000);
	CALL_FD(accept(listener, NULL, NULL));
	CALL_FD(accept(listener, NULL, NULL));
	CALL(accept(listener, NULL, NULL));
	struct epoll_event once = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = 1 };
	CALL(epoll_ctl(epoll, EPOLL_CTL_MOD, listener, &once));
	int third = called("call", port_of(listener), "hold");
	EPOLL_WAIT(epoll, 10000);
	EPOLL_WAIT(epoll, 0);
	CALL(epoll_ctl(epoll, EPOLL_CTL_MOD, listener, &once));
	EPOLL_WAIT(epoll, 0);
	close(control);
	close(second);
	close(third);
}

static void accepted_socket_edge_triggered(void)
{
	int listener = listening(AF_INET, 0), epoll = (int)MUST(epoll_create1(0));
	int control = called("call", port_of(listener), "pause say:hello pause fin drain");
	int fd = CALL_FD(accept4(listener, NULL, NULL, SOCK_NONBLOCK));
	char text[16];
	watch(epoll, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 1);
	EPOLL_WAIT(epoll, 0);
	EPOLL_WAIT(epoll, 0);
	release(control);
	until(fd, POLLIN);
	EPOLL_WAIT(epoll, 1000);
	CALL(read(fd, text, sizeof text));
	CALL(read(fd, text, sizeof text));
	release(control);
	until(fd, POLLRDHUP);
	EPOLL_WAIT(epoll, 1000);
	CALL(read(fd, text, sizeof text));
}

static void exclusive_wakeups(void)
{
	int listener = listening(AF_INET, 0), epolls[2];
	for (int i = 0; i < 2; i++) {
		epolls[i] = (int)MUST(epoll_create1(0));
		watch(epolls[i], listener, EPOLLIN | EPOLLEXCLUSIVE, (uint64_t)i);
	}
	struct epoll_event event = { .events = EPOLLIN };
	CALL(epoll_ctl(epolls[0], EPOLL_CTL_MOD, listener, &event));
	int control = called("call", port_of(listener), "hold");
	until(listener, POLLIN);
	EPOLL_WAIT(epolls[0], 0);
	CALL_FD(accept(listener, NULL, NULL));
	EPOLL_WAIT(epolls[0], 0);
	EPOLL_WAIT(epolls[1], 0);
	close(control);
}

/* Each worker accepts from the one listener until it has had its share. */
static void preforked_workers(void)
{
	int listener = listening(AF_INET, 0), pids[3];
	for (int i = 0; i < 3; i++) {
		pids[i] = (int)MUST(fork());
		if (pids[i] == 0) {
			for (int j = 0; j < 4; j++)
				serve((int)MUST(accept(listener, NULL, NULL)));
			_exit(0);
		}
	}
	for (int i = 0; i < 12; i++) {
		int control = called("call", port_of(listener), HELLO);
		trace("%s", read_line(control));
		close(control);
	}
	for (int i = 0; i < 3; i++)
		trace_wait(pids[i]);
}

static void a_worker_is_killed(void)
{
	int listener = listening(AF_INET, 0), told[2];
	MUST(pipe(told));
	int pid = (int)MUST(fork());
	if (pid == 0) {
		int fd = (int)MUST(accept(listener, NULL, NULL));
		MUST(write(told[1], "x", 1));
		pause();
		close(fd);
	}
	int control = called("call", port_of(listener), "say:hello gone back digest");
	MUST(read(told[0], &(char){ 0 }, 1));
	MUST(kill(pid, SIGKILL));
	trace_wait(pid);
	trace("%s", read_line(control));
	control = called("call", port_of(listener), HELLO);
	serve(CALL_FD(accept(listener, NULL, NULL)));
	trace("%s", read_line(control));
}

static void fork_for_each_connection(void)
{
	int listener = listening(AF_INET, 0);
	for (int i = 0; i < 3; i++) {
		int control = called("call", port_of(listener), HELLO);
		int fd = CALL_FD(accept(listener, NULL, NULL));
		int pid = (int)MUST(fork());
		if (pid == 0) {
			close(listener);
			GETPEERNAME(fd);
			serve(fd);
			_exit(0);
		}
		close(fd);
		trace("%s", read_line(control));
		trace_wait(pid);
	}
}

static void both_sides_of_a_fork_use_a_connection(void)
{
	int listener = listening(AF_INET, 0);
	int control = called("call", port_of(listener), "say:one pause say:two sink:10 back digest");
	int fd = CALL_FD(accept(listener, NULL, NULL));
	char text[8] = "";
	int pid = (int)MUST(fork());
	if (pid == 0) {
		CALL(read(fd, text, 3));
		CALL(write(fd, "child", 5));
		_exit(0);
	}
	trace_wait(pid);
	release(control);
	CALL(read(fd, text, 3));
	CALL(write(fd, "other", 5));
	trace("%s", read_line(control));
}

/* As daemon() does it, twice, with the standard three closed and everything else that need not be open. */
static void daemon_serves(void)
{
	int listener = listening(AF_INET, 0);
	int pid = (int)MUST(fork());
	if (pid == 0) {
		setsid();
		if (fork() != 0)
			_exit(0);
		int kept = dup2(listener, 3);
		close_range(4, ~0u, 0);
		close(0);
		for (int i = 0; i < 2; i++)
			serve((int)MUST(accept(kept, NULL, NULL)));
		_exit(0);
	}
	trace_wait(pid);
	uint16_t port = port_of(listener);
	CALL(close(listener));
	for (int i = 0; i < 2; i++) {
		int control = called("call", port, HELLO);
		trace("%s", read_line(control));
		close(control);
	}
}

static void exec_with_a_listener(void)
{
	if (inherited == -1)
		exec_self(listening(AF_INET, 0));
	GET_INT(inherited, SOL_SOCKET, SO_ACCEPTCONN);
	int control = called("call", port_of(inherited), HELLO);
	int fd = CALL_FD(accept(inherited, NULL, NULL));
	GETPEERNAME(fd);
	serve(fd);
	trace("%s", read_line(control));
}

/* As inetd does it: the connection is standard input and output of another program. */
static void exec_with_a_connection(void)
{
	if (inherited == -1) {
		int listener = listening(AF_INET, 0);
		int control = called("call", port_of(listener), "say:hello sink:5 fin drain back digest");
		int fd = CALL_FD(accept(listener, NULL, NULL));
		int pid = (int)MUST(fork());
		if (pid == 0)
			exec_self(fd);
		close(fd);
		trace_wait(pid);
		trace("%s", read_line(control));
		return;
	}
	GETPEERNAME(inherited);
	GETSOCKNAME(inherited);
	serve(inherited);
}

static void spawned_program_serves(void)
{
	int listener = listening(AF_INET, 0);
	int control = called("call", port_of(listener), "say:hello fin drain back digest");
	int fd = CALL_FD(accept(listener, NULL, NULL)), pid;
	posix_spawn_file_actions_t actions;
	char *arguments[] = { "cat", NULL };
	MUST(posix_spawn_file_actions_init(&actions));
	MUST(posix_spawn_file_actions_adddup2(&actions, fd, 0));
	MUST(posix_spawn_file_actions_adddup2(&actions, fd, 1));
	MUST(posix_spawnp(&pid, "cat", &actions, NULL, arguments, environ));
	close(fd);
	trace("%s", read_line(control));
	trace_wait(pid);
}

static void send_fd(int channel, int fd)
{
	char control[CMSG_SPACE(sizeof fd)] = { 0 };
	struct iovec byte = { .iov_base = "x", .iov_len = 1 };
	struct msghdr message = { .msg_iov = &byte, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	MUST(sendmsg(channel, &message, 0));
}

static int receive_fd(int channel)
{
	int fd;
	char control[CMSG_SPACE(sizeof fd)], byte;
	struct iovec room = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &room, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	MUST(recvmsg(channel, &message, 0));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

/* The listener and an accepted connection go to a process that was there before both. */
static void descriptors_passed_to_another_process(void)
{
	int channel[2];
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel));
	int pid = (int)MUST(fork());
	if (pid == 0) {
		close(channel[0]);
		int fd = receive_fd(channel[1]);
		GETPEERNAME(fd);
		serve(fd);
		int listener = receive_fd(channel[1]);
		GET_INT(listener, SOL_SOCKET, SO_ACCEPTCONN);
		fd = CALL_FD(accept(listener, NULL, NULL));
		GETPEERNAME(fd);
		serve(fd);
		_exit(0);
	}
	int listener = listening(AF_INET, 0);
	int control = called("call", port_of(listener), HELLO);
	int fd = CALL_FD(accept(listener, NULL, NULL));
	send_fd(channel[0], fd);
	close(fd);
	trace("%s", read_line(control));
	uint16_t port = port_of(listener);
	send_fd(channel[0], listener);
	close(listener);
	control = called("call", port, HELLO);
	trace("%s", read_line(control));
	trace_wait(pid);
}

/* Binds as root, serves as somebody else. */
static void other_user_after_listen(void)
{
	int listener = listening(AF_INET, 0);
	MUST(setgroups(0, NULL));
	MUST(setresgid(NOBODY, NOBODY, NOBODY));
	MUST(setresuid(NOBODY, NOBODY, NOBODY));
	for (int i = 0; i < 2; i++) {
		int control = called("call", port_of(listener), HELLO);
		struct address from = { .length = sizeof from.storage };
		int fd = CALL_FD(accept(listener, SA(from), &from.length));
		trace_address("from", SA(from), from.length);
		GETSOCKNAME(fd);
		GET_INT(fd, IPPROTO_IP, IP_TOS);
		CALL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){ 1 }, sizeof(int)));
		GET_INT(fd, SOL_SOCKET, SO_KEEPALIVE);
		serve(fd);
		trace("%s", read_line(control));
	}
	/* And listens anew, where such a user may. */
	int second = listening(AF_INET, 0);
	int control = called("call", port_of(second), HELLO);
	serve(CALL_FD(accept(second, NULL, NULL)));
	trace("%s", read_line(control));
}

static void signals_among_connections(void)
{
	int listener = listening(AF_INET, 0), epoll = (int)MUST(epoll_create1(0));
	sigset_t set;
	struct signalfd_siginfo info;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
	int signals = (int)MUST(signalfd(-1, &set, SFD_NONBLOCK));
	watch(epoll, listener, EPOLLIN, 1);
	watch(epoll, signals, EPOLLIN, 2);
	int control = called("call", port_of(listener), HELLO);
	until(listener, POLLIN);
	raise(SIGUSR1);
	EPOLL_WAIT(epoll, 1000);
	CALL(read(signals, &info, sizeof info) == sizeof info);
	serve(CALL_FD(accept(listener, NULL, NULL)));
	trace("%s", read_line(control));
	EPOLL_WAIT(epoll, 0);
}

static void on_signal(int number)
{
	(void)number;
}

static void accept_is_interrupted(void)
{
	int listener = listening(AF_INET, 0);
	struct sigaction action = { .sa_handler = on_signal };
	MUST(sigaction(SIGALRM, &action, NULL));
	unsigned left = alarm(1);
	CALL(accept(listener, NULL, NULL));
	alarm(left);
	struct timeval patience = { 0, 200000 };
	MUST(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
	CALL(accept(listener, NULL, NULL));
	int control = called("call", port_of(listener), HELLO);
	until(listener, POLLIN);
	serve(CALL_FD(accept(listener, NULL, NULL)));
	trace("%s", read_line(control));
}

/* ---- io_uring, by its system calls ---- */

struct ring {
	int fd;
	unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *entries;
	struct io_uring_cqe *results;
};

/* False where there is none; what says so is printed. */
static bool ring_open(struct ring *ring)
{
	struct io_uring_params p = { 0 };
	ring->fd = (int)CALL(syscall(SYS_io_uring_setup, 8, &p) < 0 ? -1 : 0);
	if (ring->fd == -1)
		return false;
	memset(&p, 0, sizeof p);
	ring->fd = (int)MUST(syscall(SYS_io_uring_setup, 8, &p));
	size_t sq = p.sq_off.array + p.sq_entries * sizeof(unsigned);
	size_t cq = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	int prot = PROT_READ | PROT_WRITE;
	char *s = mmap(NULL, sq, prot, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	char *c = mmap(NULL, cq, prot, MAP_SHARED, ring->fd, IORING_OFF_CQ_RING);
	ring->entries = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), prot, MAP_SHARED, ring->fd, IORING_OFF_SQES);
	MUST(s == MAP_FAILED || c == MAP_FAILED || (void *)ring->entries == MAP_FAILED ? -1 : 0);
	ring->sq_tail = (unsigned *)(s + p.sq_off.tail);
	ring->sq_mask = (unsigned *)(s + p.sq_off.ring_mask);
	ring->sq_array = (unsigned *)(s + p.sq_off.array);
	ring->cq_head = (unsigned *)(c + p.cq_off.head);
	ring->cq_tail = (unsigned *)(c + p.cq_off.tail);
	ring->cq_mask = (unsigned *)(c + p.cq_off.ring_mask);
	ring->results = (struct io_uring_cqe *)(c + p.cq_off.cqes);
	return true;
}

/* One operation, waited for: its result. */
static int ring_do(struct ring *ring, int opcode, int fd, void *buffer, unsigned length)
{
	unsigned tail = *ring->sq_tail, at = tail & *ring->sq_mask;
	ring->entries[at] = (struct io_uring_sqe){ .opcode = (__u8)opcode, .fd = fd, .addr = (uintptr_t)buffer, .len = length };
	ring->sq_array[at] = at;
	__atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
	MUST(syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0));
	unsigned head = *ring->cq_head;
	MUST(head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE) ? -1 : 0);
	int result = ring->results[head & *ring->cq_mask].res;
	__atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
	return result;
}

/* The accept is the kernel's own: no hook sees it. */
static void io_uring_accepts_reads_and_writes(void)
{
	struct ring ring;
	if (!ring_open(&ring))
		return;
	int listener = listening(AF_INET, 0);
	for (int i = 0; i < 2; i++) {
		int control = called("call", port_of(listener), HELLO);
		char text[16] = "";
		int fd = ring_do(&ring, IORING_OP_ACCEPT, listener, NULL, 0);
		trace("accepted: %s", fd >= 0 ? "a descriptor" : strerrorname_np(-fd));
		int got = ring_do(&ring, IORING_OP_RECV, fd, text, sizeof text);
		trace("received %d: %s", got, text);
		trace("sent %d", ring_do(&ring, IORING_OP_SEND, fd, text, (unsigned)got));
		trace("%s", read_line(control));
		trace("then %d", ring_do(&ring, IORING_OP_READ, fd, text, sizeof text));
		close(fd);
		close(control);
	}
}

static void io_uring_on_an_accepted_socket(void)
{
	struct ring ring;
	if (!ring_open(&ring))
		return;
	int listener = listening(AF_INET, 0);
	int control = called("call", port_of(listener), HELLO);
	char text[16] = "";
	int fd = CALL_FD(accept(listener, NULL, NULL));
	GETPEERNAME(fd);
	int got = ring_do(&ring, IORING_OP_READ, fd, text, sizeof text);
	trace("read %d: %s", got, text);
	trace("written %d", ring_do(&ring, IORING_OP_WRITE, fd, text, (unsigned)got));
	trace("%s", read_line(control));
}

const struct scenario server_scenarios[] = {
	SCENARIO(epoll_of_a_listener),
	SCENARIO(edge_and_oneshot_on_a_listener),
	SCENARIO(accepted_socket_edge_triggered),
	SCENARIO(exclusive_wakeups),
	SCENARIO(preforked_workers),
	SCENARIO(a_worker_is_killed),
	SCENARIO(fork_for_each_connection),
	SCENARIO(both_sides_of_a_fork_use_a_connection),
	SCENARIO(daemon_serves),
	SCENARIO(exec_with_a_listener),
	SCENARIO(exec_with_a_connection),
	SCENARIO(spawned_program_serves),
	SCENARIO(descriptors_passed_to_another_process),
	SCENARIO(other_user_after_listen),
	SCENARIO(signals_among_connections),
	SCENARIO(accept_is_interrupted),
	SCENARIO(io_uring_accepts_reads_and_writes),
	SCENARIO(io_uring_on_an_accepted_socket),
	END_OF_SCENARIOS,
};

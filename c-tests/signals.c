/* Signals in the middle: EINTR, SA_RESTART, SIGCHLD and wait() around the first connect, SIGIO. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t caught;
static int gate_to_open = -1;

static void count(int number)
{
	(void)number;
	int error = errno;
	caught++;
	if (gate_to_open != -1 && write(gate_to_open, ".", 1) != 1)
		_exit(96);
	errno = error;
}

static void catch_signal(int number, int flags)
{
	struct sigaction action = { .sa_handler = count, .sa_flags = flags };
	MUST(sigaction(number, &action, NULL));
}

static void alarm_after_ms(int milliseconds)
{
	struct itimerval timer = { .it_value = { .tv_usec = milliseconds * 1000 } };
	MUST(setitimer(ITIMER_REAL, &timer, NULL));
}

static void signal_interrupts_connect(void)
{
	struct address target;
	int gate = control("gate sync open accept echo", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	catch_signal(SIGALRM, 0);
	alarm_after_ms(100);
	CALL(connect(fd, SA(target), target.length));
	trace("signals: %d", caught);
	GETPEERNAME(fd);
	SOCKET_ERROR(fd);
	CALL(fcntl(fd, F_GETFL) & O_NONBLOCK);
	/* The handshake goes on: a second connect waits for it, and gives the result. */
	release(gate);
	CALL(connect(fd, SA(target), target.length));
	CALL(connect(fd, SA(target), target.length));
	GETPEERNAME(fd);
	trace_echo(fd, "hello");
}

static void signal_interrupts_connect_then_poll(void)
{
	struct address target;
	int gate = control("gate sync open accept echo", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	catch_signal(SIGALRM, 0);
	alarm_after_ms(100);
	CALL(connect(fd, SA(target), target.length));
	release(gate);
	POLL(fd, POLLOUT, 10000);
	SOCKET_ERROR(fd);
	trace_echo(fd, "hello");
}

static void restarting_signal_does_not_interrupt_connect(void)
{
	struct address target;
	gate_to_open = control("gate sync open accept echo", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	catch_signal(SIGALRM, SA_RESTART);
	alarm_after_ms(100);
	CALL(connect(fd, SA(target), target.length));
	trace("signals: %d", caught);
	GETPEERNAME(fd);
	trace_echo(fd, "hello");
}

static void signal_interrupts_connect_with_a_timeout(void)
{
	struct address target = address_of(BLACK_HOLE, 80);
	struct timeval timeout = { .tv_sec = 5 };
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout));
	catch_signal(SIGALRM, SA_RESTART);
	alarm_after_ms(100);
	CALL(connect(fd, SA(target), target.length));
}

static void signal_interrupts_read(void)
{
	int fd = connected("hold");
	catch_signal(SIGALRM, 0);
	alarm_after_ms(100);
	CALL(read(fd, &(char){ 0 }, 1));
	alarm_after_ms(100);
	CALL(recv(fd, &(char){ 0 }, 1, MSG_WAITALL));
	alarm_after_ms(100);
	POLL(fd, POLLIN, 10000);
	trace("signals: %d", caught);
}

static void restarting_signal_does_not_interrupt_read(void)
{
	int fd = connected("sync say:x hold");
	gate_to_open = fd;
	catch_signal(SIGALRM, SA_RESTART);
	alarm_after_ms(100);
	CALL(read(fd, &(char){ 0 }, 1));
	trace("signals: %d", caught);
}

/* Whatever the first connect starts is not the program's child. */
static void first_connect_and_wait(void)
{
	catch_signal(SIGCHLD, SA_RESTART);
	CALL(waitpid(-1, NULL, WNOHANG));
	int fd = connected("echo");
	CALL(waitpid(-1, NULL, WNOHANG));
	CALL(waitpid(-1, NULL, WNOHANG | __WALL));
	CALL(wait(NULL));
	trace("SIGCHLD: %d", caught);
	trace_echo(fd, "hello");
	pid_t child = fork();
	if (child == 0)
		_exit(7);
	int status = 0;
	CALL(wait(&status) == child);
	trace("status %d", WEXITSTATUS(status));
	CALL(wait(NULL));
	trace("SIGCHLD: %d", caught);
}

static void first_connect_with_sigchld_ignored(void)
{
	signal(SIGCHLD, SIG_IGN);
	int fd = connected("echo");
	trace_echo(fd, "hello");
	CALL(waitpid(-1, NULL, __WALL));
}

static void first_connect_with_all_signals_blocked(void)
{
	sigset_t all, after;
	sigfillset(&all);
	MUST(sigprocmask(SIG_SETMASK, &all, NULL));
	int fd = connected("echo");
	trace_echo(fd, "hello");
	MUST(sigprocmask(SIG_SETMASK, NULL, &after));
	CALL(sigismember(&after, SIGTERM));
	CALL(sigpending(&after));
	CALL(sigismember(&after, SIGCHLD));
}

static void first_connect_while_a_child_runs(void)
{
	int start[2], status = 0;
	MUST(pipe(start));
	pid_t child = fork();
	if (child == 0) {
		MUST(read(start[0], &(char){ 0 }, 1));
		_exit(5);
	}
	int fd = connected("echo");
	CALL(waitpid(-1, NULL, WNOHANG));
	MUST(write(start[1], "x", 1));
	CALL(waitpid(-1, &status, 0) == child);
	trace("status %d", WEXITSTATUS(status));
	CALL(waitpid(-1, &status, 0));
	trace_echo(fd, "hello");
}

static void wait_for_sigio(void)
{
	for (int ms = 0; ms < 10000 && !caught; ms++)
		usleep(1000);
	trace("SIGIO came: %s", caught ? "yes" : "no");
}

static void sigio_set_after_connect(void)
{
	int fd = connected("sync say:x hold");
	catch_signal(SIGIO, SA_RESTART);
	CALL(fcntl(fd, F_SETOWN, getpid()));
	CALL(fcntl(fd, F_GETOWN) == getpid());
	CALL(fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK));
	CALL(fcntl(fd, F_GETFL));
	caught = 0;
	release(fd);
	until_readable_bytes(fd, 1);
	wait_for_sigio();
}

static void sigio_set_before_connect(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	catch_signal(SIGIO, SA_RESTART);
	CALL(fcntl(fd, F_SETOWN, getpid()));
	CALL(fcntl(fd, F_SETFL, O_ASYNC));
	CALL(connect(fd, SA(peer), peer.length));
	CALL(fcntl(fd, F_GETFL));
	CALL(fcntl(fd, F_GETOWN) == getpid());
	play(fd, "sync say:x hold");
	caught = 0;
	release(fd);
	until_readable_bytes(fd, 1);
	wait_for_sigio();
}

const struct scenario signal_scenarios[] = {
	SCENARIO(first_connect_and_wait),
	SCENARIO(first_connect_with_sigchld_ignored),
	SCENARIO(first_connect_with_all_signals_blocked),
	SCENARIO(first_connect_while_a_child_runs),
	SCENARIO(signal_interrupts_connect),
	SCENARIO(signal_interrupts_connect_then_poll),
	SCENARIO(restarting_signal_does_not_interrupt_connect),
	SCENARIO(signal_interrupts_connect_with_a_timeout),
	SCENARIO(signal_interrupts_read),
	SCENARIO(restarting_signal_does_not_interrupt_read),
	SCENARIO(sigio_set_after_connect),
	SCENARIO(sigio_set_before_connect),
	END_OF_SCENARIOS,
};

/* A client of the interoperability tests.
 *   probe get ADDRESS PORT PATH     reads the answer to GET PATH by read(), to the end; says the socket's names before and after
 *   probe rawget ADDRESS PORT PATH  the same by the read system call itself, which no library sees
 *   probe put ADDRESS PORT          copies standard input to the connection and leaves at once after the last write
 * Standard output: one line a fact. The exit status is the errno of what failed. IPv4 only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TIME_MAX_S 60

static char buffer[65536];

static void die(const char *what)
{
	int error = errno;
	printf("%s: %s\n", what, strerror(error));
	fflush(stdout);
	_exit(error);
}

static int connected(const char *address, const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1)
		die("socket");
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		die("connect");
	return fd;
}

static void write_all(int fd, const char *from, size_t left)
{
	while (left > 0) {
		ssize_t done = write(fd, from, left);
		if (done < 0)
			die("write");
		from += done;
		left -= done;
	}
}

static void say_name(const char *which, int fd, int (*call)(int, struct sockaddr *, socklen_t *))
{
	struct sockaddr_in name;
	socklen_t size = sizeof name;
	char text[INET_ADDRSTRLEN];
	if (call(fd, (struct sockaddr *)&name, &size) < 0)
		die(which);
	printf("%s %s:%d\n", which, inet_ntop(AF_INET, &name.sin_addr, text, sizeof text), ntohs(name.sin_port));
	fflush(stdout);
}

static void say_names(int fd)
{
	say_name("local", fd, getsockname);
	say_name("peer", fd, getpeername);
}

/* read(), past every library. */
static ssize_t raw_read(int fd, void *to, size_t size)
{
#if defined(__x86_64__)
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"((long)SYS_read), "D"((long)fd), "S"(to), "d"(size)
			 : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long number __asm__("x8") = SYS_read;
	register long result __asm__("x0") = fd;
	register void *second __asm__("x1") = to;
	register size_t third __asm__("x2") = size;
	__asm__ volatile("svc 0" : "+r"(result) : "r"(number), "r"(second), "r"(third) : "memory");
#else
#error "write the system call instruction of this machine here"
#endif
	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}

static void get(const char *address, const char *port, const char *path, ssize_t (*receive)(int, void *, size_t))
{
	int fd = connected(address, port);
	unsigned long long total = 0;
	ssize_t count;
	say_names(fd);
	int length = snprintf(buffer, sizeof buffer, "GET %s HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n", path);
	write_all(fd, buffer, length);
	while ((count = receive(fd, buffer, sizeof buffer)) > 0)
		total += count;
	int error = errno;
	printf("read %llu\n", total);
	errno = error;
	if (count < 0)
		die("read");
	say_names(fd);
}

static void put(const char *address, const char *port)
{
	int fd = connected(address, port);
	ssize_t count;
	while ((count = read(STDIN_FILENO, buffer, sizeof buffer)) > 0)
		write_all(fd, buffer, count);
	_exit(0);
}

int main(int argc, char **argv)
{
	alarm(TIME_MAX_S);
	if (argc == 5 && !strcmp(argv[1], "get"))
		get(argv[2], argv[3], argv[4], read);
	else if (argc == 5 && !strcmp(argv[1], "rawget"))
		get(argv[2], argv[3], argv[4], raw_read);
	else if (argc == 4 && !strcmp(argv[1], "put"))
		put(argv[2], argv[3]);
	else
		return 2;
	return 0;
}

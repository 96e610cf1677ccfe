/* Bytes both ways: bulk, stdio, sendfile, splice, flags of recv, queue lengths, timeouts, low-water mark. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#define TEN_MEGABYTES 10000000

static void ten_megabytes_in_one_blocking_write(void)
{
	char *bytes = malloc(TEN_MEGABYTES);
	pattern_fill(bytes, TEN_MEGABYTES, 0);
	int fd = connected("drain digest");
	CALL(write(fd, bytes, TEN_MEGABYTES));
	CALL(shutdown(fd, SHUT_WR));
	trace("peer: %s", read_line(fd));
	free(bytes);
}

static void ten_megabytes_by_nonblocking_writes(void)
{
	int fd = connected("drain digest");
	set_nonblocking(fd, true);
	write_pattern(fd, TEN_MEGABYTES);
	CALL(shutdown(fd, SHUT_WR));
	set_nonblocking(fd, false);
	trace("peer: %s", read_line(fd));
}

static void ten_megabytes_received(void)
{
	int fd = connected("send:10000000");
	trace_read_all(fd);
}

static void ten_megabytes_received_nonblocking(void)
{
	int fd = connected("send:10000000");
	set_nonblocking(fd, true);
	trace_read_all(fd);
}

static void *write_in_thread(void *argument)
{
	int fd = *(int *)argument;
	write_pattern(fd, TEN_MEGABYTES);
	MUST(shutdown(fd, SHUT_WR));
	return NULL;
}

static void ten_megabytes_both_ways_at_once(void)
{
	pthread_t writer;
	int fd = connected("echo");
	pthread_create(&writer, NULL, write_in_thread, &fd);
	trace_read_all(fd);
	pthread_join(writer, NULL);
}

static void written_then_closed_at_once(void)
{
	struct address target;
	int report = control("listen accept drain back digest", &target);
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(connect(fd, SA(target), target.length));
	write_pattern(fd, 1000000);
	CALL(close(fd));
	trace("peer: %s", read_line(report));
}

static void written_then_exited_at_once(void)
{
	struct address target;
	int report = control("listen accept drain back digest", &target);
	pid_t child = fork();
	if (child == 0) {
		int fd = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
		MUST(connect(fd, SA(target), target.length));
		write_pattern(fd, 1000000);
		_exit(0);
	}
	trace_wait(child);
	trace("peer: %s", read_line(report));
}

static void stdio_on_the_descriptor(void)
{
	char line[64];
	int fd = connected("echo");
	FILE *stream = fdopen(fd, "r+");
	CALL(stream != NULL);
	CALL(fileno(stream) == fd);
	CALL(fprintf(stream, "line %d\n", 1));
	CALL(fflush(stream));
	CALL(fgets(line, sizeof line, stream) != NULL);
	trace("got %s", strtok(line, "\n"));
	CALL(fputs("second line\n", stream));
	CALL(fflush(stream));
	CALL(fgets(line, sizeof line, stream) != NULL);
	trace("got %s", strtok(line, "\n"));
	CALL(fseek(stream, 0, SEEK_SET));
	CALL(shutdown(fd, SHUT_WR));
	CALL(fgetc(stream));
	CALL(feof(stream) != 0);
	CALL(ferror(stream));
	CALL(fclose(stream));
	CALL(fcntl(fd, F_GETFD));
}

static void stdio_opened_before_connect(void)
{
	char line[64];
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	FILE *stream = fdopen(fd, "r+");
	CALL(connect(fd, SA(peer), peer.length));
	CALL(fprintf(stream, "echo\nhello\n"));
	CALL(fflush(stream));
	CALL(fgets(line, sizeof line, stream) != NULL);
	trace("got %s", strtok(line, "\n"));
	CALL(fclose(stream));
}

static int file_with_pattern(size_t length)
{
	int file = (int)MUST(memfd_create("pattern", 0));
	write_pattern(file, length);
	MUST(lseek(file, 0, SEEK_SET));
	return file;
}

static void sendfile_to_the_peer(void)
{
	int fd = connected("drain digest"), file = file_with_pattern(1000000);
	off_t offset = 100;
	CALL(sendfile(fd, file, &offset, 1000));
	trace("offset %lld", (long long)offset);
	CALL(sendfile(fd, file, NULL, 1000000));
	CALL(lseek(file, 0, SEEK_CUR));
	CALL(sendfile(fd, file, NULL, 1));
	CALL(shutdown(fd, SHUT_WR));
	signal(SIGPIPE, SIG_IGN);
	CALL(sendfile(fd, file, &offset, 1));
	trace("peer: %s", read_line(fd));
}

static void bulk_through_small_buffers(void)
{
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0)), file = file_with_pattern(1000000);
	CALL(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ 1 }, sizeof(int)));
	CALL(connect(fd, SA(peer), peer.length));
	play(fd, "drain digest");
	write_pattern(fd, 1000000);
	CALL(sendfile(fd, file, NULL, 1000000));
	CALL(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ 1 << 20 }, sizeof(int)));
	write_pattern(fd, 1000000);
	CALL(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ 1 }, sizeof(int)));
	write_pattern(fd, 1000000);
	CALL(shutdown(fd, SHUT_WR));
	trace("peer: %s", read_line(fd));
}

static void receive_buffer_grows_and_shrinks(void)
{
	int fd = connected("send:1000000 sync send:1000000 sync send:1000000");
	CALL(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){ 1 }, sizeof(int)));
	trace_read_exactly(fd, 1000000);
	CALL(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){ 1 << 20 }, sizeof(int)));
	release(fd);
	trace_read_exactly(fd, 1000000);
	CALL(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){ 4096 }, sizeof(int)));
	release(fd);
	trace_read_exactly(fd, 1000000);
}

static void splice_both_ways(void)
{
	int pipe_ends[2], fd = connected("echo");
	MUST(pipe(pipe_ends));
	CALL(write(pipe_ends[1], "spliced bytes", 13));
	CALL(splice(pipe_ends[0], NULL, fd, NULL, 13, SPLICE_F_MOVE));
	until_readable_bytes(fd, 13);
	CALL(splice(fd, NULL, pipe_ends[1], NULL, 100, SPLICE_F_MOVE));
	char text[16] = "";
	CALL(read(pipe_ends[0], text, 13));
	trace("got %s", text);
	set_nonblocking(fd, true);
	CALL(splice(fd, NULL, pipe_ends[1], NULL, 100, SPLICE_F_NONBLOCK));
	CALL(splice(fd, NULL, fd, NULL, 100, 0));
	CALL(shutdown(fd, SHUT_WR));
	until(fd, POLLRDHUP);
	CALL(splice(fd, NULL, pipe_ends[1], NULL, 100, 0));
}

static void splice_a_megabyte_in(void)
{
	int pipe_ends[2], fd = connected("send:1000000");
	static unsigned char buffer[65536];
	uint64_t total = 0;
	uint32_t digest = DIGEST_START;
	ssize_t got;
	MUST(pipe(pipe_ends));
	while ((got = splice(fd, NULL, pipe_ends[1], NULL, 32768, 0)) > 0) {
		MUST(read(pipe_ends[0], buffer, (size_t)got) == got ? 0 : -1);
		digest = digest_update(digest, buffer, (size_t)got);
		total += (uint64_t)got;
	}
	trace("spliced %llu bytes, digest %08x, then %zd", (unsigned long long)total, digest, got);
}

/* Counts that the compiler must not know to be wrong. */
static volatile int minus_one = -1, too_many = IOV_MAX + 1;

static void vectors(void)
{
	char first[3] = "", second[4] = "", third[20] = "";
	int fd = connected("echo");
	struct iovec out[] = { { "one", 3 }, { "", 0 }, { "two", 3 }, { "three", 5 } };
	struct iovec in[] = { { first, 3 }, { second, 4 }, { third, 19 } };
	CALL(writev(fd, out, 4));
	until_readable_bytes(fd, 11);
	CALL(readv(fd, in, 3));
	trace("got %.3s %.4s %s", first, second, third);
	CALL(writev(fd, out, minus_one));
	CALL(writev(fd, out, 0));
	CALL(readv(fd, in, too_many));
	CALL(pwritev2(fd, out, 1, -1, 0));
	CALL(pwritev(fd, out, 1, 0));
	until_readable_bytes(fd, 3);
	CALL(preadv2(fd, in, 1, -1, 0));
}

static void zero_bytes(void)
{
	int fd = connected("say:hello echo");
	CALL(write(fd, "", 0));
	CALL(send(fd, "", 0, 0));
	until_readable_bytes(fd, 5);
	CALL(read(fd, &(char){ 0 }, 0));
	CALL(recv(fd, &(char){ 0 }, 0, 0));
	CALL(recv(fd, &(char){ 0 }, 0, MSG_PEEK));
	trace_read_exactly(fd, 5);
	CALL(recv(fd, &(char){ 0 }, 0, MSG_DONTWAIT));
}

static void peek(void)
{
	char text[16] = "";
	int fd = connected("say:hello sync fin");
	until_readable_bytes(fd, 5);
	CALL(recv(fd, text, 3, MSG_PEEK));
	CALL(recv(fd, text, 16, MSG_PEEK));
	CALL(ioctl(fd, FIONREAD, &(int){ 0 }));
	CALL(recv(fd, text, 2, 0));
	CALL(recv(fd, text, 16, MSG_PEEK));
	trace("got %s", text);
	CALL(recv(fd, text, 16, 0));
	CALL(recv(fd, text, 16, MSG_PEEK | MSG_DONTWAIT));
	release(fd);
	CALL(recv(fd, text, 16, MSG_PEEK));
	CALL(recv(fd, text, 16, MSG_PEEK));
	CALL(recv(fd, text, 16, 0));
}

static void peek_offset(void)
{
	char text[16] = "";
	int zero = 0, fd = connected("say:abcdefgh hold");
	until_readable_bytes(fd, 8);
	CALL(setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof zero));
	CALL(recv(fd, text, 3, MSG_PEEK));
	CALL(recv(fd, text, 3, MSG_PEEK));
	trace("got %.3s", text);
	GET_INT(fd, SOL_SOCKET, SO_PEEK_OFF);
	CALL(recv(fd, text, 2, 0));
	GET_INT(fd, SOL_SOCKET, SO_PEEK_OFF);
}

static void waitall(void)
{
	char text[16] = "";
	int fd = connected("say:hello sync say:world sync say:end");
	until_readable_bytes(fd, 5);
	release(fd);
	CALL(recv(fd, text, 10, MSG_WAITALL));
	trace("got %s", text);
	release(fd);
	CALL(recv(fd, text, 10, MSG_WAITALL));
	CALL(recv(fd, text, 10, MSG_WAITALL));
}

static void waitall_of_a_megabyte(void)
{
	char *bytes = malloc(1000000);
	int fd = connected("send:1000000 hold");
	CALL(recv(fd, bytes, 1000000, MSG_WAITALL));
	trace("digest %08x", digest_update(DIGEST_START, bytes, 1000000));
	CALL(recv(fd, bytes, 1, MSG_DONTWAIT | MSG_WAITALL));
	free(bytes);
}

static void waitall_with_peek(void)
{
	char text[16] = "";
	int fd = connected("say:hello sync say:world hold");
	until_readable_bytes(fd, 5);
	release(fd);
	until_readable_bytes(fd, 10);
	CALL(recv(fd, text, 10, MSG_WAITALL | MSG_PEEK));
	CALL(recv(fd, text, 10, MSG_WAITALL));
	trace("got %s", text);
}

static void trunc_discards(void)
{
	char text[16] = "untouched";
	int fd = connected("say:abcdefgh hold");
	until_readable_bytes(fd, 8);
	CALL(recv(fd, text, 3, MSG_TRUNC | MSG_PEEK));
	CALL(recv(fd, text, 3, MSG_TRUNC));
	trace("buffer: %s", text);
	CALL(recv(fd, NULL, 2, MSG_TRUNC));
	CALL(recv(fd, text, 16, 0));
	trace("got %.3s", text);
	CALL(recv(fd, text, 16, MSG_TRUNC | MSG_DONTWAIT));
}

static void dontwait(void)
{
	int fd = connected("hold");
	CALL(recv(fd, &(char){ 0 }, 1, MSG_DONTWAIT));
	CALL(send(fd, "x", 1, MSG_DONTWAIT));
	CALL(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static void flags_of_send(void)
{
	int fd = connected("echo");
	CALL(send(fd, "a", 1, MSG_MORE));
	CALL(send(fd, "b", 1, MSG_NOSIGNAL));
	CALL(send(fd, "c", 1, MSG_DONTROUTE));
	CALL(send(fd, "d", 1, MSG_EOR));
	CALL(send(fd, "e", 1, MSG_CONFIRM));
	CALL(send(fd, "f", 1, MSG_ZEROCOPY));
	trace_read_exactly(fd, 6);
	CALL(recv(fd, &(char){ 0 }, 1, MSG_ERRQUEUE));
	CALL(recv(fd, &(char){ 0 }, 1, MSG_OOB));
	CALL(send(fd, "g", 1, MSG_FASTOPEN));
	CALL(send(fd, "", 0, MSG_OOB));
}

static void out_of_band_byte_is_taken(void)
{
	int fd = connected("drain");
	CALL(send(fd, "xyz", 3, MSG_OOB));
	CALL(ioctl(fd, SIOCATMARK, &(int){ 0 }));
	CALL(sockatmark(fd));
	CALL(recv(fd, &(char){ 0 }, 1, MSG_OOB));
}

static void readable_bytes(void)
{
	int count = -1, fd = connected("say:hello sync fin hold");
	until_readable_bytes(fd, 5);
	CALL(ioctl(fd, FIONREAD, &count));
	trace("FIONREAD %d", count);
	CALL(read(fd, &(char[2]){ 0 }, 2));
	CALL(ioctl(fd, FIONREAD, &count));
	trace("FIONREAD %d", count);
	release(fd);
	until(fd, POLLRDHUP);
	CALL(ioctl(fd, FIONREAD, &count));
	trace("FIONREAD %d", count);
	CALL(read(fd, &(char[8]){ 0 }, 8));
	CALL(ioctl(fd, FIONREAD, &count));
	trace("FIONREAD %d", count);
}

static void queued_bytes_converge_to_zero(void)
{
	int count = -1, unsent = -1, fd = connected("drain");
	CALL(ioctl(fd, SIOCOUTQ, &count));
	write_pattern(fd, 300000);
	for (int ms = 0; ms < 10000 && (count != 0 || unsent != 0); ms++) {
		MUST(ioctl(fd, SIOCOUTQ, &count));
		MUST(ioctl(fd, SIOCOUTQNSD, &unsent));
		usleep(1000);
	}
	trace("SIOCOUTQ %d SIOCOUTQNSD %d", count, unsent);
}

/* A peer that reads nothing: what its buffer cannot take stays in the queue, counted in bytes of payload. */
static void queued_bytes_are_payload(void)
{
	int count = -1, fd = connected("small hold");
	static char block[1 << 20];
	set_nonblocking(fd, true);
	struct pollfd item = { .fd = fd, .events = POLLOUT };
	uint64_t written = 0;
	while (poll(&item, 1, 300) == 1) {
		ssize_t put = write(fd, block, sizeof block);
		if (put > 0)
			written += (uint64_t)put;
	}
	MUST(ioctl(fd, SIOCOUTQ, &count));
	trace("queued, and not more than written: %s", count > 0 && (uint64_t)count <= written ? "yes" : "no");
}

static void receive_timeout(void)
{
	struct timeval timeout = { .tv_usec = 100000 }, got = { 0, 0 };
	socklen_t length = sizeof got;
	int fd = connected("sync say:hello hold");
	CALL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
	CALL(read(fd, &(char){ 0 }, 1));
	CALL(recv(fd, &(char){ 0 }, 1, MSG_WAITALL));
	CALL(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &got, &length));
	trace("timeout %ld.%06ld", (long)got.tv_sec, (long)got.tv_usec);
	release(fd);
	until_readable_bytes(fd, 5);
	CALL(recv(fd, &(char[8]){ 0 }, 8, MSG_WAITALL));
	timeout.tv_usec = 1000000;
	CALL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
}

static void timeouts_set_before_connect(void)
{
	struct timeval receive = { .tv_usec = 100000 }, send = { .tv_sec = 3 }, got;
	socklen_t length = sizeof got;
	int fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &receive, sizeof receive));
	CALL(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send, sizeof send));
	CALL(connect(fd, SA(peer), peer.length));
	play(fd, "hold");
	CALL(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &got, &length));
	trace("receive timeout %ld.%06ld", (long)got.tv_sec, (long)got.tv_usec);
	CALL(getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &got, &length));
	trace("send timeout %ld.%06ld", (long)got.tv_sec, (long)got.tv_usec);
	CALL(read(fd, &(char){ 0 }, 1));
}

static void send_timeout(void)
{
	static char block[1 << 20];
	struct timeval timeout = { .tv_usec = 200000 };
	int fd = connected("small hold");
	CALL(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout));
	/* A write that a timeout ends gives what it took; one that took nothing gives EAGAIN. */
	int writes = 0;
	while (write(fd, block, sizeof block) > 0 && writes++ < 1000)
		;
	trace("no more: %s", strerrorname_np(errno));
}

static void low_water_mark(void)
{
	int mark = 100, fd = connected("send:50 sync send:49 sync send:1 sync fin hold");
	CALL(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark));
	GET_INT(fd, SOL_SOCKET, SO_RCVLOWAT);
	until_readable_bytes(fd, 50);
	POLL(fd, POLLIN, 50);
	release(fd);
	until_readable_bytes(fd, 99);
	POLL(fd, POLLIN, 50);
	CALL(recv(fd, &(char[200]){ 0 }, 200, MSG_DONTWAIT | MSG_PEEK));
	release(fd);
	POLL(fd, POLLIN, 10000);
	CALL(recv(fd, &(char[200]){ 0 }, 200, 0));
	release(fd);
	POLL(fd, POLLIN, 10000);
}

static void low_water_mark_set_before_connect(void)
{
	int mark = 10, fd = CALL_FD(socket(AF_INET, SOCK_STREAM, 0));
	CALL(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark));
	CALL(connect(fd, SA(peer), peer.length));
	GET_INT(fd, SOL_SOCKET, SO_RCVLOWAT);
	play(fd, "say:hello sync say:world hold");
	until_readable_bytes(fd, 5);
	POLL(fd, POLLIN, 50);
	release(fd);
	until_readable_bytes(fd, 10);
	CALL(recv(fd, &(char[200]){ 0 }, 200, 0));
}

static void read_blocks_until_data(void)
{
	int fd = connected("sync say:hello hold");
	pid_t child = fork();
	if (child == 0) {
		usleep(100000);
		release(fd);
		_exit(0);
	}
	CALL(read(fd, &(char[8]){ 0 }, 8));
	trace_wait(child);
}

const struct scenario data_scenarios[] = {
	SCENARIO(ten_megabytes_in_one_blocking_write),
	SCENARIO(ten_megabytes_by_nonblocking_writes),
	SCENARIO(ten_megabytes_received),
	SCENARIO(ten_megabytes_received_nonblocking),
	SCENARIO(ten_megabytes_both_ways_at_once),
	SCENARIO(written_then_closed_at_once),
	SCENARIO(written_then_exited_at_once),
	SCENARIO(stdio_on_the_descriptor),
	SCENARIO(stdio_opened_before_connect),
	SCENARIO(sendfile_to_the_peer),
	SCENARIO(bulk_through_small_buffers),
	SCENARIO(receive_buffer_grows_and_shrinks),
	SCENARIO(splice_both_ways),
	SCENARIO(splice_a_megabyte_in),
	SCENARIO(vectors),
	SCENARIO(zero_bytes),
	SCENARIO(peek),
	SCENARIO(peek_offset),
	SCENARIO(waitall),
	SCENARIO(waitall_of_a_megabyte),
	SCENARIO(waitall_with_peek),
	SCENARIO(trunc_discards),
	SCENARIO(dontwait),
	SCENARIO(flags_of_send),
	SCENARIO(out_of_band_byte_is_taken),
	SCENARIO(readable_bytes),
	SCENARIO(queued_bytes_converge_to_zero),
	SCENARIO(queued_bytes_are_payload),
	SCENARIO(receive_timeout),
	SCENARIO(timeouts_set_before_connect),
	SCENARIO(send_timeout),
	SCENARIO(low_water_mark),
	SCENARIO(low_water_mark_set_before_connect),
	SCENARIO(read_blocks_until_data),
	END_OF_SCENARIOS,
};

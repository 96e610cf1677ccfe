/* TCP_INQ: recvmsg() and recvmmsg() tell what waits behind each message that they give. */
#include "api.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define MESSAGES 3
#define LEN 100
#define ALL 1000

#ifndef TCP_INQ
#define TCP_INQ 36
#endif

static struct mmsghdr messages[MESSAGES];
static struct iovec parts[MESSAGES];
static char bytes[MESSAGES][LEN], controls[MESSAGES][CMSG_SPACE(sizeof(int))];

static void prepare(void)
{
	int i;
	for (i = 0; i < MESSAGES; i++) {
		struct msghdr *header = &messages[i].msg_hdr;
		memset(&messages[i], 0, sizeof messages[i]);
		parts[i].iov_base = bytes[i];
		parts[i].iov_len = LEN;
		header->msg_iov = &parts[i];
		header->msg_iovlen = 1;
		header->msg_control = controls[i];
		header->msg_controllen = sizeof controls[i];
	}
}

static int told(int i)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(&messages[i].msg_hdr);
	int value;
	CHECK(header && header->cmsg_level == IPPROTO_TCP && header->cmsg_type == TCP_INQ);
	memcpy(&value, CMSG_DATA(header), sizeof value);
	return value;
}

int main(int argc, char **argv)
{
	struct timespec second = { 1, 0 };
	int fd, waiting = 0, i;
	api_start(argc, argv);
	fd = api_connected();
	request(fd, ALL);
	while (waiting < ALL) {
		CHECK(ioctl(fd, FIONREAD, &waiting) == 0);
		usleep(1000);
	}
	/* Nobody asked. */
	prepare();
	CHECK(recvmmsg(fd, messages, 1, 0, NULL) == 1 && !CMSG_FIRSTHDR(&messages[0].msg_hdr));
	CHECK(set_int(fd, TCP_INQ, 1) == 0);
	prepare();
	CHECK(recvmmsg(fd, messages, MESSAGES, 0, NULL) == MESSAGES);
	for (i = 0; i < MESSAGES; i++)
		CHECK(messages[i].msg_len == LEN && told(i) == ALL - (i + 2) * LEN);
	prepare();
	CHECK(recvmsg(fd, &messages[0].msg_hdr, 0) == LEN && told(0) == ALL - 5 * LEN);
	/* A time that is not over; one message is enough. */
	prepare();
	CHECK(recvmmsg(fd, messages, 2, MSG_WAITFORONE, &second) == 2 && told(1) == ALL - 7 * LEN);
	/* The end of the stream is told as a byte. */
	for (i = 0; i < 3; i++) {
		prepare();
		CHECK(recvmmsg(fd, messages, 1, 0, NULL) == 1 && messages[0].msg_len == LEN);
	}
	prepare();
	CHECK(recvmmsg(fd, messages, 1, 0, NULL) == 1 && messages[0].msg_len == 0 && told(0) == 1);
	return 0;
}

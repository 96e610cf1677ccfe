/* The send and receive families with addresses, flags and control messages. */
#define _GNU_SOURCE
#include "host.h"
#include "scenario.h"
#include "trace.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static void recvfrom_gives_no_address(void)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof address;
	memset(&address, 0xee, sizeof address);
	int fd = connected("say:hello hold");
	CALL(recvfrom(fd, &(char[2]){ 0 }, 2, 0, (struct sockaddr *)&address, &length));
	trace("length %u, first byte %#x", length, *(unsigned char *)&address);
	length = 0;
	CALL(recvfrom(fd, &(char[2]){ 0 }, 2, MSG_PEEK, (struct sockaddr *)&address, &length));
	trace("length %u", length);
	CALL(recvfrom(fd, &(char[2]){ 0 }, 2, 0, NULL, NULL));
	length = sizeof address;
	CALL(recvfrom(fd, &(char[2]){ 0 }, 2, 0, (struct sockaddr *)&address, &length));
	trace("length %u", length);
	length = sizeof address;
	CALL(recvfrom(fd, &(char[2]){ 0 }, 2, MSG_DONTWAIT, (struct sockaddr *)&address, &length));
	trace("length %u", length);
}

static void sendto_ignores_the_address(void)
{
	struct address other = address_of("198.51.100.99", 1), six = address_of("2001:db8::99", 1);
	int fd = connected("echo");
	CALL(sendto(fd, "a", 1, 0, SA(peer), peer.length));
	CALL(sendto(fd, "b", 1, 0, SA(other), other.length));
	CALL(sendto(fd, "c", 1, 0, SA(six), six.length));
	CALL(sendto(fd, "d", 1, 0, SA(peer), 2));
	CALL(sendto(fd, "e", 1, 0, NULL, 16));
	CALL(sendto(fd, "f", 1, 0, SA(peer), 0));
	CALL(sendto(fd, "g", 1, 0, SA(peer), 1000));
	trace_read_exactly(fd, 6);
}

static void sendmsg_with_an_address(void)
{
	struct iovec part = { "hello", 5 };
	struct address other = address_of("198.51.100.99", 1);
	struct msghdr message = { .msg_name = &other.storage, .msg_namelen = other.length, .msg_iov = &part,
				  .msg_iovlen = 1 };
	int fd = connected("echo");
	CALL(sendmsg(fd, &message, 0));
	trace_read_exactly(fd, 5);
}

static void recvmsg_fields(void)
{
	char text[8] = "", control_bytes[256];
	struct sockaddr_storage address;
	struct iovec part = { text, 3 };
	struct msghdr message = { .msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &part,
				  .msg_iovlen = 1, .msg_control = control_bytes,
				  .msg_controllen = sizeof control_bytes, .msg_flags = -1 };
	int fd = connected("say:hello sync fin hold");
	until_readable_bytes(fd, 5);
	CALL(recvmsg(fd, &message, 0));
	trace("got %s, name %u, control %zu, flags %#x", text, message.msg_namelen, message.msg_controllen,
	      (unsigned)message.msg_flags);
	message.msg_namelen = sizeof address;
	message.msg_controllen = sizeof control_bytes;
	CALL(recvmsg(fd, &message, MSG_TRUNC | MSG_CMSG_CLOEXEC));
	trace("name %u, control %zu, flags %#x", message.msg_namelen, message.msg_controllen,
	      (unsigned)message.msg_flags);
	CALL(recvmsg(fd, &message, MSG_DONTWAIT));
	release(fd);
	message.msg_namelen = sizeof address;
	message.msg_controllen = sizeof control_bytes;
	CALL(recvmsg(fd, &message, 0));
	trace("name %u, control %zu, flags %#x", message.msg_namelen, message.msg_controllen,
	      (unsigned)message.msg_flags);
	CALL(recvmsg(fd, &message, MSG_ERRQUEUE));
}

/* TCP takes no descriptors along; SCM_RIGHTS is not its level and passes unseen. */
static void sendmsg_with_rights_attached(void)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} room;
	struct iovec part = { "hello", 5 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room.bytes,
				  .msg_controllen = sizeof room.bytes };
	memset(&room, 0, sizeof room);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	int fd = connected("echo");
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	CALL(sendmsg(fd, &message, 0));
	header->cmsg_type = SCM_CREDENTIALS;
	CALL(sendmsg(fd, &message, 0));
	header->cmsg_type = 99;
	CALL(sendmsg(fd, &message, 0));
	header->cmsg_level = IPPROTO_IP;
	CALL(sendmsg(fd, &message, 0));
	CALL(shutdown(fd, SHUT_WR));
	trace_read_all(fd);
}

static void bytes_in_queue_as_control_message(void)
{
	char text[8], control_bytes[256];
	int on = 1, fd = connected("say:hello hold");
	struct iovec part = { text, 2 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control_bytes,
				  .msg_controllen = sizeof control_bytes };
	CALL(setsockopt(fd, IPPROTO_TCP, TCP_INQ, &on, sizeof on));
	GET_INT(fd, IPPROTO_TCP, TCP_INQ);
	until_readable_bytes(fd, 5);
	CALL(recvmsg(fd, &message, 0));
	for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
		int left = -1;
		memcpy(&left, CMSG_DATA(header), sizeof left);
		trace("level %d type %d: %d", header->cmsg_level, header->cmsg_type, left);
	}
}

static void many_messages_at_once(void)
{
	char texts[4][4];
	struct iovec out[3] = { { "one", 3 }, { "two", 3 }, { "six", 3 } }, in[4];
	struct mmsghdr messages[4];
	struct sockaddr_storage address;
	memset(messages, 0, sizeof messages);
	for (int i = 0; i < 3; i++) {
		messages[i].msg_hdr.msg_iov = &out[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = &peer.storage;
		messages[i].msg_hdr.msg_namelen = peer.length;
	}
	int fd = connected("echo");
	CALL(sendmmsg(fd, messages, 3, 0));
	for (int i = 0; i < 3; i++)
		trace("  length %u", messages[i].msg_len);
	until_readable_bytes(fd, 9);
	for (int i = 0; i < 4; i++) {
		in[i] = (struct iovec){ texts[i], 4 };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &in[i], .msg_iovlen = 1, .msg_name = &address,
						       .msg_namelen = sizeof address };
	}
	CALL(recvmmsg(fd, messages, 4, MSG_DONTWAIT, NULL));
	for (int i = 0; i < 3; i++)
		trace("  length %u name %u flags %#x", messages[i].msg_len, messages[i].msg_hdr.msg_namelen,
		      (unsigned)messages[i].msg_hdr.msg_flags);
	CALL(recvmmsg(fd, messages, 4, MSG_DONTWAIT, NULL));
	struct timespec timeout = { 5, 0 };
	CALL(sendmmsg(fd, messages, 0, 0));
	CALL(recvmmsg(fd, messages, 0, 0, &timeout));
	CALL(write(fd, "z", 1));
	CALL(recvmmsg(fd, messages, 4, MSG_WAITFORONE, NULL));
}

/* Pointers that lead nowhere, and addresses and control messages beside them that take the library's own ways. */
static void bad_pointers(void)
{
	void *nowhere = (void *)8;
	char byte = 'x';
	struct iovec part = { &byte, 1 }, bad_part = { nowhere, 1 };
	struct msghdr message = { .msg_name = &peer.storage, .msg_namelen = peer.length, .msg_iov = &bad_part,
				  .msg_iovlen = 1 };
	int fd = connected("echo");
	CALL(sendmsg(fd, nowhere, 0));
	CALL(sendmmsg(fd, nowhere, 2, 0));
	CALL(sendmsg(fd, &message, 0));
	message.msg_iov = nowhere;
	CALL(sendmsg(fd, &message, 0));
	message = (struct msghdr){ .msg_name = nowhere, .msg_namelen = 16, .msg_iov = &part, .msg_iovlen = 1 };
	CALL(sendmsg(fd, &message, 0));
	message = (struct msghdr){ .msg_iov = &part, .msg_iovlen = 1, .msg_control = nowhere, .msg_controllen = 32 };
	CALL(sendmsg(fd, &message, 0));
	CALL(recvmsg(fd, nowhere, 0));
	CALL(recvmsg(fd, nowhere, MSG_TRUNC));
	message = (struct msghdr){ .msg_iov = nowhere, .msg_iovlen = 1 };
	CALL(recvmsg(fd, &message, MSG_TRUNC | MSG_DONTWAIT));
	CALL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, nowhere, 4));
}

const struct scenario message_scenarios[] = {
	SCENARIO(recvfrom_gives_no_address),
	SCENARIO(sendto_ignores_the_address),
	SCENARIO(sendmsg_with_an_address),
	SCENARIO(recvmsg_fields),
	SCENARIO(sendmsg_with_rights_attached),
	SCENARIO(bytes_in_queue_as_control_message),
	SCENARIO(many_messages_at_once),
	SCENARIO(bad_pointers),
	END_OF_SCENARIOS,
};

/* What the programs of this directory share. Each tries one option of mptcp.h and checks itself: it ends with status 0, or
 * says on standard error which check failed. The server (argv[1], port argv[2]) answers HTTP GET /N with N bytes. */
#ifndef API_H
#define API_H

#include <mptcp.h>
#include <stddef.h>

/* The client's addresses on both wires of the lab, and one that it does not have. */
#define FIRST "192.0.2.1"
#define SECOND "198.51.100.1"
#define FOREIGN "203.0.113.200"

#define CHECK(condition) ((condition) ? (void)0 : failed(__FILE__, __LINE__, #condition))
/* The call fails with this errno. */
#define FAILS(errno_expected, call) check_errno(__FILE__, __LINE__, #call, (call), (errno_expected))

void failed(const char *file, int line, const char *what);
void check_errno(const char *file, int line, const char *what, int result, int expected);

/* The server's address, as the command line has it. */
void api_start(int argc, char **argv);
/* A fresh socket of its family; connected; connected to a server that speaks plain TCP. */
int api_socket(void);
void api_connect(int fd);
void api_connect_plain(int fd);
int api_connected(void);

int set_int(int fd, int option, int value);
/* The value, or -1 with errno. */
int get_int(int fd, int option);

/* A packed list of addresses; returns its length. */
struct list {
	unsigned char bytes[40 * sizeof(struct sockaddr_in6)];
	socklen_t len;
};
void list_add(struct list *list, const char *address);
int set_list(int fd, int option, const char *first, const char *second);

/* Subflows that are up, and how many of them come from this address (any for a null pointer). */
int subflows(int fd, const char *local);
/* Waits for a number of subflows from an address; fails after some seconds. Reads what comes meanwhile. */
void await_subflows(int fd, const char *local, int count);

/* Asks for this many bytes; reads until at least this many of all have come since the request. */
void request(int fd, long bytes);
void read_until(long bytes);
/* Reads at least this many bytes more. */
void read_more(long bytes);
/* Reads for a while, until what was sent before has come. */
void settle_traffic(void);
/* Bytes that came on one subflow (a pair), on those from an address. */
long received_by(int fd, const unsigned char *pair, size_t len);
long received_from(int fd, const char *local);
/* What is read now came by this address, and no other. */
void all_comes_by(int fd, const char *local);
/* An int option that is the same on all subflows. */
int int_of_subflows(int fd, int level, int name);
/* Reads the rest of what was requested, and checks that it was all. Every byte that these functions read is compared with what the server
 * has sent. */
void read_rest(void);

#endif

/* libmptcp: Multipath TCP (RFC 8684) in userspace.
 *
 * A legacy program needs nothing of this: LD_PRELOAD=libmptcp.so gives it Multipath TCP as it is. This header is
 * for programs that want to see and steer it, by the socket options of RFC 6897 (and of the draft that it began
 * as, draft-scharf-mptcp-api), and by Linux's own. mptcp(7) says everything about each.
 *
 * There is nothing to link with. Without the library preloaded the kernel answers: setsockopt() of an option of
 * RFC 6897 fails with ENOPROTOOPT, and that is how a program finds out.
 *
 * C89 to C23 and C++. Needs <sys/socket.h> and <netinet/in.h>, which it includes. */
#ifndef MPTCP_H
#define MPTCP_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#define MPTCP_VERSION "0.1.0"
#define MPTCP_VERSION_MAJOR 0
#define MPTCP_VERSION_MINOR 1
#define MPTCP_VERSION_PATCH 0

/* ---- RFC 6897: options at level IPPROTO_TCP ----------------------------------------------------------------
 *
 * The numbers are ours (the RFC gives none), clear of the kernel's TCP_* options.
 *
 * A list of addresses is packed: each entry a struct sockaddr_in or struct sockaddr_in6, as long as its family's
 * is (MPTCP_SOCKADDR_LEN), one right behind the other. Ports are 0 in lists that are set.
 *
 * Listening sockets take what a socket takes before it connects, and accept() gives all of it on. */

/* get, set; int. Set before connect() or listen(): 1 asks for MPTCP, also after bind() to a specific address;
 * 0 forbids it. Get: before, what was set (1 by default); after, whether MPTCP is spoken. */
#define TCP_MULTIPATH_ENABLE 0x689701
/* set; list of local addresses, at any time. The connection uses these and no others; subflows from addresses that
 * the list no longer has end once another one is up. An empty list allows all again. */
#define TCP_MULTIPATH_BIND 0x689702
/* set; list of local addresses, at any time. More of them; the first ones before the connection are the whole list. */
#define TCP_MULTIPATH_ADD 0x689703
/* set; list of local addresses, at any time. Fewer of them, of the list or, when there is none, of all. */
#define TCP_MULTIPATH_REMOVE 0x689704
/* get; list of pairs (local, remote), with ports: the established subflows in order of creation. As many whole pairs
 * as fit are written; the length told is that of all, so that a length of 0 asks for it. */
#define TCP_MULTIPATH_SUBFLOWS 0x689705
/* get; uint32_t: the local token (RFC 8684 section 3.2), unique on this host while the connection lives. */
#define TCP_MULTIPATH_CONNID 0x689706

/* Entries of a list that is set, at the most. */
#define TCP_MULTIPATH_ADDRS_MAX 32

/* Bytes of one entry of a list, by its family. */
#define MPTCP_SOCKADDR_LEN(family) ((family) == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in))

/* ---- beyond the RFC: options at level IPPROTO_TCP, all get and set, all int, at any time ------------------- */

/* What getpeername() and getsockname() say once a program has set an option of this header. */
#define TCP_MULTIPATH_NAMES 0x689711
#define MPTCP_NAMES_DEFAULT 0 /* as the variable MPTCP_AWARE_NAMES says (first, fail), else first */
#define MPTCP_NAMES_FIRST 1   /* the first subflow's addresses, also when it is gone */
#define MPTCP_NAMES_FAIL 2    /* EMULTIPATH */

/* 1: the connection ends (ECONNRESET) when its first subflow does. Default: the variable MPTCP_FATE (on, off), else 0. */
#define TCP_MULTIPATH_FATE 0x689712

/* When the connection opens further subflows. */
#define TCP_MULTIPATH_JOIN 0x689713
#define MPTCP_JOIN_DEFAULT 0     /* as the variable MPTCP_JOIN says, else at once */
#define MPTCP_JOIN_AT_ONCE 1     /* as soon as the protocol allows */
#define MPTCP_JOIN_AFTER_BYTES 2 /* when 100,000 bytes went both ways together */
#define MPTCP_JOIN_NEVER 3       /* the first subflow only */

/* What the connection is for. */
#define TCP_MULTIPATH_INTENT 0x689714
#define MPTCP_INTENT_DEFAULT 0     /* as the variable MPTCP_INTENT says, else as options and writes suggest */
#define MPTCP_INTENT_AGGREGATE 1   /* all paths at once */
#define MPTCP_INTENT_HANDOVER 2    /* one path, the others stand by */
#define MPTCP_INTENT_INTERACTIVE 3 /* the fastest path first, and none that is slow beside it */

/* Which subflow takes the next data; 0: as the variable MPTCP_SCHEDULER says, else adaptive. */
#define TCP_MULTIPATH_SCHEDULER 0x689715
#define MPTCP_SCHEDULER_DEFAULT 0
#define MPTCP_SCHEDULER_ADAPTIVE 1
#define MPTCP_SCHEDULER_LOWEST_RTT 2
#define MPTCP_SCHEDULER_BLEST 3
#define MPTCP_SCHEDULER_ECF 4
#define MPTCP_SCHEDULER_ROUND_ROBIN 5
#define MPTCP_SCHEDULER_REDUNDANT 6

/* Congestion control of all subflows; 0: as TCP_CONGESTION or the variable MPTCP_CONGESTION says. */
#define TCP_MULTIPATH_CONGESTION 0x689716
#define MPTCP_CONGESTION_DEFAULT 0
#define MPTCP_CONGESTION_CUBIC 1
#define MPTCP_CONGESTION_BBR 2
#define MPTCP_CONGESTION_LIA 3
#define MPTCP_CONGESTION_OLIA 4
#define MPTCP_CONGESTION_BALIA 5

/* ---- single subflows: options at level IPPROTO_TCP, on established connections --------------------------------
 *
 * A pair is as TCP_MULTIPATH_SUBFLOWS gives it: local and remote address with ports, packed. */

/* set; a local address (port 0), or a pair: opens a subflow from there, to the peer's address that has the fewest,
 * or to that one. */
#define TCP_MULTIPATH_OPEN 0x689721
/* set; a pair: closes that subflow, and leaves its local address alone until TCP_MULTIPATH_OPEN names it. */
#define TCP_MULTIPATH_CLOSE 0x689722
/* set; int (1 backup, 0 regular), pair: the peer is told (MP_PRIO). */
#define TCP_MULTIPATH_BACKUP 0x689723
/* get, set; struct mptcp_subflow_option, pair, value: a socket option of one subflow. Set: IP_TOS, IP_TTL, IPV6_TCLASS,
 * IPV6_UNICAST_HOPS (int; -1: the connection's). Get: these, TCP_INFO, TCP_MAXSEG, IP_MTU, IPV6_MTU; the answer
 * stands behind the pair, and the length told is that of all. */
#define TCP_MULTIPATH_SUBFLOW 0x689724
/* get; int: a new descriptor (close-on-exec, non-blocking). It polls readable when something happened to a subflow; each
 * read() gives one struct mptcp_event, and 0 when the connection is over. What is up already is told first. */
#define TCP_MULTIPATH_EVENTS 0x689725

struct mptcp_subflow_option {
	int32_t level;
	int32_t name;
};

#define MPTCP_SUBFLOW_UP 1
#define MPTCP_SUBFLOW_DOWN 2
#define MPTCP_SUBFLOW_FALLBACK 3    /* the connection speaks plain TCP from here on */
#define MPTCP_SUBFLOW_EVENTS_LOST 4 /* nobody read them in time */

struct mptcp_event {
	uint32_t type;    /* MPTCP_SUBFLOW_* */
	uint32_t subflow; /* its number, in order of creation */
	struct sockaddr_storage local;
	struct sockaddr_storage remote;
};

/* getpeername() and getsockname() under MPTCP_NAMES_FAIL: there is more than one path. No kernel uses the number. */
#define EMULTIPATH 3897

/* ---- Linux's own: socket(…, IPPROTO_MPTCP), and options at level SOL_MPTCP --------------------------------- */

/* The system's header where there is one (MPTCP_NO_LINUX_HEADER leaves it out); what it lacks is here. */
#if defined(__has_include) && !defined(MPTCP_NO_LINUX_HEADER)
#if __has_include(<linux/mptcp.h>)
#include <linux/mptcp.h>
#endif
#endif

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef SOL_MPTCP
#define SOL_MPTCP 284
#endif
/* At level IPPROTO_TCP, get; int: whether MPTCP is spoken. */
#ifndef TCP_IS_MPTCP
#define TCP_IS_MPTCP 43
#endif

#ifndef MPTCP_INFO_FLAG_FALLBACK
#define MPTCP_INFO_FLAG_FALLBACK 1U
#define MPTCP_INFO_FLAG_REMOTE_KEY_RECEIVED 2U
#endif

#ifndef MPTCP_INFO
#define MPTCP_INFO 1

/* As of Linux 6.18; older versions are beginnings of it. */
struct mptcp_info {
	uint8_t mptcpi_subflows; /* without the first */
	uint8_t mptcpi_add_addr_signal;
	uint8_t mptcpi_add_addr_accepted;
	uint8_t mptcpi_subflows_max;
	uint8_t mptcpi_add_addr_signal_max;
	uint8_t mptcpi_add_addr_accepted_max;
	uint32_t mptcpi_flags;
	uint32_t mptcpi_token;
	uint64_t mptcpi_write_seq;
	uint64_t mptcpi_snd_una;
	uint64_t mptcpi_rcv_nxt;
	uint8_t mptcpi_local_addr_used;
	uint8_t mptcpi_local_addr_max;
	uint8_t mptcpi_csum_enabled;
	uint32_t mptcpi_retransmits;
	uint64_t mptcpi_bytes_retrans;
	uint64_t mptcpi_bytes_sent;
	uint64_t mptcpi_bytes_received;
	uint64_t mptcpi_bytes_acked;
	uint8_t mptcpi_subflows_total; /* with the first */
	uint8_t mptcpi_endp_laminar_max;
	uint8_t mptcpi_endp_fullmesh_max;
	uint8_t reserved;
	uint32_t mptcpi_last_data_sent; /* ms ago */
	uint32_t mptcpi_last_data_recv;
	uint32_t mptcpi_last_ack_recv;
};
#endif

#ifndef MPTCP_TCPINFO
#define MPTCP_TCPINFO 2
#define MPTCP_SUBFLOW_ADDRS 3

struct mptcp_subflow_data {
	uint32_t size_subflow_data; /* of this struct, in */
	uint32_t num_subflows;      /* must be 0, out */
	uint32_t size_kernel;       /* must be 0, out: size of an element there */
	uint32_t size_user;         /* size of an element here, in */
} __attribute__((aligned(8)));

__extension__ struct mptcp_subflow_addrs {
	__extension__ union {
		sa_family_t sa_family;
		struct sockaddr sa_local;
		struct sockaddr_in sin_local;
		struct sockaddr_in6 sin6_local;
		struct sockaddr_storage ss_local;
	};
	__extension__ union {
		struct sockaddr sa_remote;
		struct sockaddr_in sin_remote;
		struct sockaddr_in6 sin6_remote;
		struct sockaddr_storage ss_remote;
	};
};
#endif

#ifndef MPTCP_FULL_INFO
#define MPTCP_FULL_INFO 4

struct mptcp_subflow_info {
	uint32_t id;
	struct mptcp_subflow_addrs addrs;
};

struct mptcp_full_info {
	uint32_t size_tcpinfo_kernel; /* must be 0, out */
	uint32_t size_tcpinfo_user;
	uint32_t size_sfinfo_kernel; /* must be 0, out */
	uint32_t size_sfinfo_user;
	uint32_t num_subflows; /* must be 0, out: all there are */
	uint32_t size_arrays_user;
	uint64_t subflow_info; /* pointer to an array of struct mptcp_subflow_info */
	uint64_t tcp_info;     /* pointer to an array of struct tcp_info */
	struct mptcp_info mptcp_info;
};
#endif

#endif

/* libmptcp: Multipath TCP (RFC 8684) in userspace.
 *
 * A program needs nothing of this: LD_PRELOAD=libmptcp.so gives it Multipath TCP as it is. There is no
 * programming interface beyond the socket calls yet; this header says which version is installed. */
#ifndef MPTCP_H
#define MPTCP_H

#define MPTCP_VERSION "0.1.0"
#define MPTCP_VERSION_MAJOR 0
#define MPTCP_VERSION_MINOR 1
#define MPTCP_VERSION_PATCH 0

#endif

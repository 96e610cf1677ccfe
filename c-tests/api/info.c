/* TCP_INFO: what programs read (iperf3, nginx, ss) is counted. Each bound holds on the kernel's TCP too, on which this program is run as well.
 * argv[4]: `down` or `up`; argv[5]: `plain` for a server that speaks plain TCP. */
#include "api.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define LEN 3000000
#define PAUSE_MS 400
/* The lab's wires. */
#define RATE (20e6 / 8)
#define RTT_US 10000

static struct tcp_info info(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof info;
	memset(&info, 0xff, sizeof info);
	CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
	CHECK(len == sizeof info);
	return info;
}

static double ms_now(void)
{
	struct timespec now;
	CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int unacknowledged(int fd)
{
	int bytes;
	CHECK(ioctl(fd, SIOCOUTQ, &bytes) == 0);
	return bytes;
}

static void shown(const char *when, const struct tcp_info *i)
{
	printf("%s: state %d, options %d, rto %u, ato %u, mss %u %u %u, unacked %u, last %u %u %u, pmtu %u, rtt %u min %u, cwnd %u\n", when,
	       i->tcpi_state, i->tcpi_options, i->tcpi_rto, i->tcpi_ato, i->tcpi_snd_mss, i->tcpi_rcv_mss, i->tcpi_advmss, i->tcpi_unacked,
	       i->tcpi_last_data_sent, i->tcpi_last_data_recv, i->tcpi_last_ack_recv, i->tcpi_pmtu, i->tcpi_rtt, i->tcpi_min_rtt,
	       i->tcpi_snd_cwnd);
	printf("  acked %llu, received %llu, sent %llu, segments %u %u, data %u %u, notsent %u, rates %llu %llu, delivered %u, window %u %u %u\n",
	       (unsigned long long)i->tcpi_bytes_acked, (unsigned long long)i->tcpi_bytes_received, (unsigned long long)i->tcpi_bytes_sent,
	       i->tcpi_segs_out, i->tcpi_segs_in, i->tcpi_data_segs_out, i->tcpi_data_segs_in, i->tcpi_notsent_bytes,
	       (unsigned long long)i->tcpi_delivery_rate, (unsigned long long)i->tcpi_pacing_rate, i->tcpi_delivered, i->tcpi_snd_wnd,
	       i->tcpi_rcv_space, i->tcpi_rcv_ssthresh);
	printf("  busy %llu, window %llu, buffer %llu, retrans %u %llu, reordering %u %u\n", (unsigned long long)i->tcpi_busy_time,
	       (unsigned long long)i->tcpi_rwnd_limited, (unsigned long long)i->tcpi_sndbuf_limited, i->tcpi_total_retrans,
	       (unsigned long long)i->tcpi_bytes_retrans, i->tcpi_reordering, i->tcpi_reord_seen);
}

/* As many segments as so many bytes take, whatever the host has merged: at least those of 64 KB, at most those of 500 bytes. */
static void check_segments(unsigned count, double bytes)
{
	CHECK(count >= bytes / 65536 && count <= bytes / 500 + 100);
}

static void pause_for(int fd)
{
	double begin = ms_now(), took;
	struct tcp_info before = info(fd), after;
	usleep(PAUSE_MS * 1000);
	after = info(fd);
	took = ms_now() - begin + 50;
	shown("after a pause", &after);
	CHECK(after.tcpi_last_data_sent >= PAUSE_MS - 50 && after.tcpi_last_data_sent <= before.tcpi_last_data_sent + took);
	CHECK(after.tcpi_last_data_recv >= PAUSE_MS - 50 && after.tcpi_last_data_recv <= before.tcpi_last_data_recv + took);
	CHECK(after.tcpi_last_ack_recv >= PAUSE_MS - 50 && after.tcpi_last_ack_recv <= before.tcpi_last_ack_recv + took);
	CHECK(after.tcpi_busy_time == before.tcpi_busy_time);
}

static void check_always(const struct tcp_info *i)
{
	CHECK(i->tcpi_state == 1 && i->tcpi_options == (TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE));
	CHECK(i->tcpi_snd_mss >= 1300 && i->tcpi_snd_mss <= 1460 && i->tcpi_pmtu == 1500);
	CHECK(i->tcpi_advmss >= 1440 && i->tcpi_advmss <= 1460);
	CHECK(i->tcpi_rtt >= RTT_US * 9 / 10 && i->tcpi_min_rtt >= RTT_US * 9 / 10 && i->tcpi_min_rtt <= RTT_US * 10);
	CHECK(i->tcpi_rto >= 200000 && i->tcpi_rttvar > 0 && i->tcpi_snd_cwnd >= 2);
	CHECK(i->tcpi_snd_wnd > 10000 && i->tcpi_rcv_space > 10000 && i->tcpi_rcv_ssthresh > 10000);
	CHECK(i->tcpi_reordering >= 3);
	CHECK(i->tcpi_rwnd_limited + i->tcpi_sndbuf_limited <= i->tcpi_busy_time);
	CHECK(i->tcpi_bytes_retrans <= i->tcpi_bytes_sent && i->tcpi_data_segs_out <= i->tcpi_segs_out);
	CHECK(i->tcpi_data_segs_in <= i->tcpi_segs_in && i->tcpi_total_retrans < 1000);
}

static void down(int fd)
{
	struct tcp_info end;
	request(fd, LEN);
	read_rest();
	end = info(fd);
	shown("downloaded", &end);
	/* The head of the answer, and perhaps the end of the stream, come on top. */
	CHECK(end.tcpi_bytes_received >= LEN + 19 && end.tcpi_bytes_received <= LEN + 500);
	CHECK(end.tcpi_bytes_sent > 10 && end.tcpi_bytes_sent < 200);
	CHECK(end.tcpi_rcv_mss >= 536 && end.tcpi_rcv_mss <= 1460);
	check_segments(end.tcpi_data_segs_in, LEN);
	CHECK(end.tcpi_data_segs_out >= 1 && end.tcpi_data_segs_out < 10);
	CHECK(end.tcpi_segs_out > end.tcpi_data_segs_out && end.tcpi_ato > 0);
}

static void up(int fd)
{
	static char bytes[LEN];
	char head[200];
	double begin = ms_now(), took;
	int len = sprintf(head, "PUT /upload HTTP/1.1\r\nHost: lab\r\nContent-Length: %d\r\n\r\n", LEN);
	struct tcp_info half, end;
	CHECK(write(fd, head, (size_t)len) == len);
	CHECK(write(fd, bytes, LEN / 2) == LEN / 2);
	half = info(fd);
	shown("uploading", &half);
	CHECK(half.tcpi_unacked > 0 && half.tcpi_notsent_bytes > 0 && half.tcpi_notsent_bytes < LEN);
	CHECK(write(fd, bytes, LEN - LEN / 2) == LEN - LEN / 2);
	/* Over two paths a second copy may be under way still when all of the data is acknowledged. */
	while (unacknowledged(fd) > 0 || info(fd).tcpi_unacked > 0)
		usleep(2000);
	took = ms_now() - begin;
	end = info(fd);
	shown("uploaded", &end);
	check_always(&end);
	CHECK(end.tcpi_notsent_bytes == 0 && end.tcpi_unacked == 0);
	/* The kernel counts the SYN. */
	CHECK(end.tcpi_bytes_acked >= (unsigned)(LEN + len) && end.tcpi_bytes_acked <= (unsigned)(LEN + len + 1));
	CHECK(end.tcpi_bytes_sent - end.tcpi_bytes_retrans == (unsigned)(LEN + len));
	check_segments(end.tcpi_data_segs_out, LEN);
	check_segments(end.tcpi_delivered, LEN);
	/* The rate is the wire's, whose queue may make a burst of acknowledgments of it; time is spent with it. */
	CHECK(end.tcpi_delivery_rate > RATE / 10 && end.tcpi_delivery_rate < RATE * 10);
	CHECK(end.tcpi_pacing_rate > RATE / 10);
	CHECK((double)end.tcpi_busy_time / 1e3 <= took + 50 && (double)end.tcpi_busy_time / 1e3 > LEN / RATE * 1e3 / 3);
	/* The server's answer. */
	CHECK(read(fd, head, sizeof head) > 0);
	pause_for(fd);
}

int main(int argc, char **argv)
{
	struct tcp_info before, after;
	int fd;
	api_start(argc, argv);
	fd = api_socket();
	before = info(fd);
	CHECK(before.tcpi_state == 7 && before.tcpi_bytes_acked == 0);
	if (argc > 5 && strcmp(argv[5], "plain") == 0)
		api_connect_plain(fd);
	else
		api_connect(fd);
	before = info(fd);
	shown("connected", &before);
	CHECK(before.tcpi_state == 1 && before.tcpi_bytes_received == 0 && before.tcpi_data_segs_out == 0);
	CHECK(before.tcpi_segs_out >= 1 && before.tcpi_segs_in >= 1);
	if (strcmp(argv[4], "down") == 0)
		down(fd);
	else
		up(fd);
	after = info(fd);
	CHECK(after.tcpi_segs_out >= before.tcpi_segs_out && after.tcpi_busy_time >= before.tcpi_busy_time);
	return 0;
}

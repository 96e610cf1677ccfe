/*
 * descriptors: what a program may do with a TCP descriptor, one scenario at a time.
 *
 *   descriptors list                               names of the scenarios
 *   descriptors peer PORT [mptcp]                  the server they talk to (kernel sockets)
 *   descriptors SCENARIO PEER_ADDRESS PEER_PORT    plays one and prints each result
 */
#define _GNU_SOURCE
#include "host.h"
#include "peer.h"
#include "scenario.h"
#include "trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCENARIO_SECONDS_MAX 40

static const struct scenario *const tables[] = {
	connect_scenarios, failure_scenarios,  poll_scenarios,    epoll_scenarios,  data_scenarios,
	message_scenarios, shutdown_scenarios, option_scenarios,  process_scenarios, signal_scenarios,
	fortified_scenarios, syscall_scenarios, untouched_scenarios,
};
#define TABLES (sizeof tables / sizeof *tables)

const char *scenario_name;

static void list(void)
{
	for (size_t i = 0; i < TABLES; i++)
		for (const struct scenario *scenario = tables[i]; scenario->name; scenario++)
			puts(scenario->name);
}

static int run(const char *name)
{
	for (size_t i = 0; i < TABLES; i++) {
		for (const struct scenario *scenario = tables[i]; scenario->name; scenario++) {
			if (strcmp(scenario->name, name) != 0)
				continue;
			alarm(SCENARIO_SECONDS_MAX);
			scenario->run();
			trace("end");
			return 0;
		}
	}
	fprintf(stderr, "no scenario is named %s\n", name);
	return 2;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "list") == 0) {
		list();
		return 0;
	}
	if (argc >= 3 && strcmp(argv[1], "peer") == 0)
		return run_peer((uint16_t)atoi(argv[2]), argc == 4 && strcmp(argv[3], "mptcp") == 0);
	if (argc != 4 && argc != 5) {
		fprintf(stderr, "usage: descriptors list | peer PORT [mptcp] | SCENARIO PEER_ADDRESS PEER_PORT\n");
		return 2;
	}
	scenario_name = argv[1];
	peer_host = argv[2];
	peer_port_number = (uint16_t)atoi(argv[3]);
	peer = address_of(peer_host, peer_port_number);
	trace_peer_port(peer_port_number);
	if (argc == 5)
		inherited = atoi(argv[4]);
	return run(scenario_name);
}

/*
 * descriptors: what a program may do with a TCP descriptor, one scenario at a time.
 *
 *   descriptors list                               names of the scenarios
 *   descriptors peer PORT [mptcp]                  the server they talk to (kernel sockets)
 *   descriptors SCENARIO PEER_ADDRESS PEER_PORT    plays one and prints each result
 *   descriptors carrier PEER_ADDRESS PEER_PORT     connects and prints what kind of socket carries it
 */
#define _GNU_SOURCE
#include "host.h"
#include "peer.h"
#include "scenario.h"
#include "trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCENARIO_SECONDS_MAX 40

static const struct scenario *const tables[] = {
	connect_scenarios, failure_scenarios,  poll_scenarios,    epoll_scenarios,  data_scenarios,
	message_scenarios, shutdown_scenarios, option_scenarios,  process_scenarios, signal_scenarios,
	fortified_scenarios, syscall_scenarios, untouched_scenarios, listen_scenarios, server_scenarios,
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

/* Whether a table of /proc/net names this inode as a word of its own. */
static bool table_has_inode(const char *path, unsigned long inode)
{
	char line[512], wanted[32];
	bool found = false;
	FILE *table = fopen(path, "r");
	snprintf(wanted, sizeof wanted, "%lu", inode);
	while (table && !found && fgets(line, sizeof line, table))
		for (char *word = strtok(line, " \n"); word && !found; word = strtok(NULL, " \n"))
			found = strcmp(word, wanted) == 0;
	if (table)
		fclose(table);
	return found;
}

/* No scenario: here kernel and library must differ, or a comparison of them would compare nothing. */
static int carrier(void)
{
	struct stat status;
	int fd = connected("hold");
	MUST(fstat(fd, &status));
	if (table_has_inode("/proc/net/tcp", status.st_ino))
		trace("kernel TCP");
	else
		trace("%s", table_has_inode("/proc/net/unix", status.st_ino) ? "local socket" : "unknown");
	return 0;
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
	return strcmp(scenario_name, "carrier") == 0 ? carrier() : run(scenario_name);
}

/* A scenario: a function that makes calls and traces them, named for what it shows. */
#ifndef SCENARIO_H
#define SCENARIO_H

struct scenario {
	const char *name;
	void (*run)(void);
};
#define SCENARIO(function) { #function, function }
#define END_OF_SCENARIOS { 0, 0 }

/* One table for each file of scenarios. */
extern const struct scenario connect_scenarios[];
extern const struct scenario failure_scenarios[];
extern const struct scenario poll_scenarios[];
extern const struct scenario epoll_scenarios[];
extern const struct scenario data_scenarios[];
extern const struct scenario message_scenarios[];
extern const struct scenario shutdown_scenarios[];
extern const struct scenario option_scenarios[];
extern const struct scenario process_scenarios[];
extern const struct scenario signal_scenarios[];
extern const struct scenario fortified_scenarios[];
extern const struct scenario syscall_scenarios[];
extern const struct scenario untouched_scenarios[];
extern const struct scenario listen_scenarios[];
extern const struct scenario server_scenarios[];

#endif

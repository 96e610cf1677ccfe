/* The scripted server that scenarios talk to; peer.c explains the script. */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stdint.h>

/* Serves for ever on every address; one process for each connection. */
int run_peer(uint16_t port, bool mptcp);

#endif

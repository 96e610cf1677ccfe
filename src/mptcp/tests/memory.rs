//! The budget of memory for all connections' buffers.

use super::pair::{events, Pair};
use crate::mptcp::{ConnId, ConnOptions, Event};
use crate::time::Duration;

const CONNECTIONS: u16 = 20;
const BUDGET: usize = 4 << 20;
/// What a connection may hold whatever the budget says: its small buffers, with what their growing in powers of two adds.
const LEAST: usize = 4 << 16;

/// Everything that the connections have to read.
fn read(pair: &mut Pair, conns: &[ConnId]) -> usize {
    let mut total = 0;
    for conn in conns {
        let n = pair
            .server
            .recv(*conn)
            .map_or(0, |(head, tail)| head.len() + tail.len());
        pair.server.consume(pair.now, *conn, n);
        total += n;
    }
    total
}

/// Everybody sends as much as they may.
fn send(pair: &mut Pair, conns: &[ConnId]) -> usize {
    let chunk = vec![7; 1 << 18];
    let sent = conns
        .iter()
        .map(|conn| pair.client.send(pair.now, *conn, &chunk).unwrap_or(0));
    sent.sum()
}

/// Connections whose windows have grown far beyond the budget, one that may be had without it.
fn grown(budget: usize) -> (Pair, Vec<ConnId>, Vec<ConnId>, usize) {
    let mut pair = Pair::new(ConnOptions::default());
    pair.server.set_memory_budget(budget);
    let clients: Vec<ConnId> = (0..CONNECTIONS)
        .map(|n| pair.connect(5000 + n, ConnOptions::default()))
        .collect();
    pair.wait(Duration::from_millis(10));
    let accepted = events(&mut pair.server).into_iter().filter_map(|event| match event {
        Event::Accepted { conn, .. } => Some(conn),
        _ => None,
    });
    let servers: Vec<ConnId> = accepted.collect();
    assert_eq!(servers.len(), usize::from(CONNECTIONS));
    let mut under_way = 0;
    for _ in 0..40 {
        under_way += send(&mut pair, &clients);
        pair.wait(Duration::from_millis(5));
        under_way -= read(&mut pair, &servers);
    }
    (pair, clients, servers, under_way)
}

/// Readers that stop: what they were promised together would be several times the budget.
fn stalled(budget: usize) -> (Pair, Vec<ConnId>, Vec<ConnId>, usize, usize) {
    let (mut pair, clients, servers, mut under_way) = grown(budget);
    let mut most = 0;
    for _ in 0..40 {
        under_way += send(&mut pair, &clients);
        pair.wait(Duration::from_millis(50));
        most = most.max(pair.server.memory_used());
    }
    (pair, clients, servers, under_way, most)
}

// Proves SEC.
#[test]
fn all_connections_together_keep_to_their_budget_and_lose_nothing() {
    let (.., without) = stalled(usize::MAX);
    let (mut pair, _clients, servers, mut under_way, most) = stalled(BUDGET);
    let bound = BUDGET + BUDGET / 4 + usize::from(CONNECTIONS) * LEAST;
    assert!(without > 2 * bound, "it is the budget that bounds it: {without}");
    assert!(most <= bound, "{most} > {bound}");
    // Somebody reads again: all of it comes.
    for _ in 0..4000 {
        pair.wait(Duration::from_millis(50));
        under_way -= read(&mut pair, &servers);
    }
    assert_eq!(under_way, 0, "what was not taken was sent again");
    assert!(servers
        .iter()
        .all(|conn| pair.server.info(*conn).is_some_and(|info| info.error.is_none())));
}

#[test]
fn what_ends_gives_its_memory_back() {
    let (mut pair, clients, servers, under_way) = grown(BUDGET);
    assert!(under_way > 0 || pair.server.memory_used() > 0 || pair.client.memory_used() > 0);
    for (client, server) in clients.into_iter().zip(servers) {
        pair.client.abort(pair.now, client);
        pair.server.abort(pair.now, server);
    }
    pair.wait(Duration::from_secs(70));
    assert_eq!((pair.client.memory_used(), pair.server.memory_used()), (0, 0));
}

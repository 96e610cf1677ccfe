//! What an endpoint does for the peers of one that died.

use super::pair::{endpoint, events, Pair};
use crate::mptcp::endpoint::ConnError;
use crate::mptcp::{ConnId, ConnOptions, Event, FourTuple};
use crate::time::Duration;

/// A client whose server died, and another server in its place.
fn bereaved(multipath: bool) -> (Pair, ConnId) {
    let mut pair = Pair::new(ConnOptions::default());
    let options = ConnOptions {
        multipath,
        ..ConnOptions::default()
    };
    let conn = pair.connect(4000, options);
    pair.talk();
    assert_eq!(pair.client.send(pair.now, conn, b"hello"), Ok(5));
    pair.talk();
    let there = pair.server.connections()[0];
    let info = pair.server.info(there).expect("it lives");
    assert_eq!(info.fallback.is_none(), multipath);
    let key = pair.server.peer_key(there);
    assert_eq!(key.is_some(), multipath);
    pair.server = endpoint(3);
    events(&mut pair.client);
    pair.server.inherit(pair.now, info.first, key);
    (pair, conn)
}

fn gone(tuple: FourTuple) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::SubflowGone { conn: ConnId(0), tuple: t, .. } if *t == tuple)
}

#[test]
fn the_peer_is_told_at_once_and_then_forgotten() {
    for multipath in [true, false] {
        let (mut pair, conn) = bereaved(multipath);
        pair.wait(Duration::from_millis(1));
        let told = events(&mut pair.client);
        assert!(told.contains(&Event::Failed(conn, ConnError::Reset)), "{told:?}");
        // The client's endpoint says nothing to probes of a connection that it does not know; its kernel would send a reset.
        pair.wait(Duration::from_secs(60));
        let tuple = Pair::tuple(4000);
        let tuple = FourTuple {
            local: tuple.remote,
            remote: tuple.local,
        };
        assert!(events(&mut pair.server).iter().any(gone(tuple)));
        assert_eq!(pair.server.poll_timeout(), None);
    }
}

#[test]
fn a_peer_that_connects_again_is_not_told() {
    let (mut pair, _) = bereaved(true);
    pair.client = endpoint(4);
    pair.server
        .listen("0.0.0.0:8000".parse().expect("an address"), ConnOptions::default())
        .expect("free");
    let conn = pair.connect(4000, ConnOptions::default());
    pair.talk();
    pair.wait(Duration::from_secs(60));
    assert!(events(&mut pair.server)
        .iter()
        .any(|event| matches!(event, Event::Accepted { .. })));
    assert_eq!(pair.client.info(conn).expect("it lives").error, None);
}

//! What a server says first, and about its addresses: the C flag, backup, another port.

use super::pair::{events, hear, sent, Pair};
use crate::mptcp::endpoint::ConnInfo;
use crate::mptcp::{ConnId, ConnOptions, Event, FourTuple, LocalPath};
use crate::time::Duration;
use crate::wire::MpJoin;
use core::net::SocketAddr;

fn path(ip: &str, backup: bool) -> LocalPath {
    LocalPath {
        addr: ip.parse().expect("an address"),
        iface: 0,
        mtu: 1500,
        backup,
    }
}

/// A connection; its id at the client and at the server.
fn connected(options: ConnOptions) -> (Pair, ConnId, ConnId) {
    let mut pair = Pair::new(options);
    let conn = pair.connect(4000, ConnOptions::default());
    pair.talk();
    pair.client.set_paths(pair.now, conn, &[path("192.0.2.1", false)]);
    let there = pair.server.connections()[0];
    // The client's first data, so that both know that they speak MPTCP.
    assert_eq!(pair.client.send(pair.now, conn, b"hello"), Ok(5));
    pair.talk();
    (pair, conn, there)
}

/// Opens the subflows that the client wants, and says to where.
fn open_wanted(pair: &mut Pair) -> Vec<SocketAddr> {
    let wanted = events(&mut pair.client).into_iter().filter_map(|event| match event {
        Event::WantSubflow {
            conn,
            want,
            local,
            remote,
            ..
        } => Some((conn, want, local, remote)),
        _ => None,
    });
    let wanted: Vec<_> = wanted.collect();
    for (conn, want, local, _) in &wanted {
        let local = SocketAddr::new(*local, 5000 + *want as u16);
        pair.client
            .open_subflow(pair.now, *conn, *want, local)
            .expect("a free port");
    }
    pair.talk();
    wanted.into_iter().map(|(.., remote)| remote).collect()
}

fn client_info(pair: &Pair, conn: ConnId) -> ConnInfo {
    pair.client.info(conn).expect("it lives")
}

#[test]
fn a_server_that_wants_no_joins_says_so_and_takes_none() {
    let (mut pair, conn, there) = connected(ConnOptions {
        join_after: u64::MAX,
        ..ConnOptions::default()
    });
    let (now, paths) = (pair.now, [path("192.0.2.2", false), path("198.51.100.2", false)]);
    pair.server.set_paths(now, there, &paths);
    // A client with more addresses keeps to what the C flag says, and hears of no others.
    let more = [path("192.0.2.1", false), path("203.0.113.1", false)];
    pair.client.set_paths(now, conn, &more);
    pair.wait(Duration::from_secs(30));
    assert_eq!(open_wanted(&mut pair), []);
    assert_eq!(client_info(&pair, conn).heard, 0);
    // One that does not is refused.
    let token = pair.server.info(there).expect("it lives").token;
    let mut syn = super::floods::forged_syn(2);
    syn.options.mptcp.join = Some(MpJoin::Syn {
        backup: false,
        address_id: 1,
        token,
        nonce: 1,
    });
    assert!(hear(&mut pair.server, now, &syn));
    let answers = sent(&mut pair.server, now);
    assert_eq!(answers.len(), 1);
    assert!(answers[0].header.flags.has(crate::wire::Flags::RST));
}

/// Linux falls back to TCP when the first segment that it gets has no DATA_ACK (check_fully_established of net/mptcp/options.c).
#[test]
fn a_server_that_speaks_first_acknowledges_in_every_segment_of_a_run() {
    let mut pair = Pair::new(ConnOptions::default());
    pair.connect(4000, ConnOptions::default());
    pair.talk();
    let there = pair.server.connections()[0];
    let now = pair.now;
    assert_eq!(pair.server.send(now, there, &[7; 14_240]), Ok(14_240));
    let segments = sent(&mut pair.server, now);
    assert!(segments.len() > 9, "{}", segments.len());
    for segment in &segments {
        let dss = segment.options.mptcp.dss.expect("a mapping");
        assert!(dss.data_ack.is_some() && dss.map.is_some());
    }
}

#[test]
fn joins_to_a_backup_address_are_backup_ones() {
    let (mut pair, conn, there) = connected(ConnOptions::default());
    let paths = [path("192.0.2.2", false), path("198.51.100.2", true)];
    pair.server.set_paths(pair.now, there, &paths);
    pair.talk();
    assert_eq!(
        open_wanted(&mut pair),
        ["198.51.100.2:8000".parse().expect("an address")]
    );
    let info = client_info(&pair, conn);
    let backups: Vec<bool> = info.subflows.iter().map(|subflow| subflow.backup).collect();
    assert_eq!(backups, [false, true]);
}

/// MP_PRIO tells it of the first subflow, which is there before its path is known.
#[test]
fn a_first_address_that_is_backup_is_made_so() {
    let (mut pair, conn, there) = connected(ConnOptions::default());
    let paths = [path("192.0.2.2", true), path("198.51.100.2", false)];
    pair.server.set_paths(pair.now, there, &paths);
    pair.talk();
    open_wanted(&mut pair);
    let info = client_info(&pair, conn);
    let backups: Vec<bool> = info.subflows.iter().map(|subflow| subflow.backup).collect();
    assert_eq!(backups, [true, false]);
}

#[test]
fn an_address_that_vanishes_is_struck_out_at_the_peers() {
    let (mut pair, conn, there) = connected(ConnOptions::default());
    let paths = [path("192.0.2.2", false), path("198.51.100.2", false)];
    pair.server.set_paths(pair.now, there, &paths);
    pair.talk();
    open_wanted(&mut pair);
    assert_eq!(client_info(&pair, conn).subflows.len(), 2);
    pair.server.set_paths(pair.now, there, &paths[..1]);
    pair.wait(Duration::from_secs(15));
    assert_eq!(open_wanted(&mut pair), [], "nobody knocks there any more");
    assert_eq!(client_info(&pair, conn).subflows.len(), 1);
}

#[test]
fn another_port_is_announced_once_and_joined() {
    let (mut pair, conn, there) = connected(ConnOptions::default());
    pair.server.set_paths(pair.now, there, &[path("192.0.2.2", false)]);
    let token = pair.server.info(there).expect("it lives").token;
    let door: SocketAddr = "192.0.2.2:33000".parse().expect("an address");
    for _ in 0..3 {
        pair.server.announce_port(pair.now, token, door.ip(), door.port());
    }
    pair.server.announce_port(pair.now, token ^ 1, door.ip(), 1);
    pair.talk();
    assert_eq!(open_wanted(&mut pair), [door]);
    let infos = [client_info(&pair, conn), pair.server.info(there).expect("it lives")];
    assert!(infos
        .iter()
        .all(|info| info.subflows.len() == 2 && info.subflows.iter().all(|subflow| subflow.up)));
    let tuple = FourTuple {
        local: door,
        remote: infos[0].subflows[1].tuple.local,
    };
    assert_eq!(infos[1].subflows[1].tuple, tuple);
}

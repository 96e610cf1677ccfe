//! What servers set by options, variables and files holds for what they accept: told by getsockopt(), and seen by the kernel's MPTCP on the other
//! host and on the wire.

use crate::capture::{Segment, WireCapture};
use crate::lab::{client_address, interface, server_address};
use crate::site::{eventually, Client, Server, Site};
use serde_json::{json, Value};
use std::fs;
use std::net::SocketAddr;

const LEN: u64 = 2_000_000;
const PORT: u16 = 8000;
/// Says what the options are on its listener and on what it accepts.
const ACCEPTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/c-tests/api/accepted.py");

fn url() -> String {
    format!("http://{}:{PORT}/{LEN}", server_address(0, false))
}

fn serve(site: &Site, settings: &[&str], words: &[&str]) -> Server {
    site.stream_file(LEN);
    site.serve(PORT, &[settings, &["python3", "-u", ACCEPTED, "8000"], words].concat())
}

/// The line of JSON that the server has said, counted from 0.
fn told(server: &Server, line: usize) -> Value {
    let said = || {
        let output = server.output();
        let mut lines = output.lines().filter(|line| line.starts_with('{'));
        lines.nth(line).map(str::to_owned)
    };
    eventually("the server tells", || said().is_some());
    let line = said().expect("it was there");
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

/// Of everything that was said, these entries must be as expected.
fn assert_said(said: &Value, expected: Value) {
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&said[name], value, "{name}: {said}");
    }
}

fn counter(site: &Site, name: &str) -> u64 {
    let counter = site.lab.client().counter(&format!("MPTcpExt{name}"));
    counter.expect("the kernel counts")
}

/// A client whose kernel takes up what the server announces, and joins nowhere by itself; the server's second wire leads everywhere too, or its
/// address would not be announced.
fn passive(site: &Site) {
    let limits = ["mptcp", "limits", "set", "subflows", "4", "add_addr_accepted", "4"];
    site.lab.client().ip(&limits).expect("ip(8)");
    let (gateway, wire) = (client_address(1, false).to_string(), interface(1));
    let route = [
        "route", "add", "default", "via", &gateway, "dev", &wire, "metric", "200",
    ];
    site.lab.server().ip(&route).expect("ip(8)");
    site.lab.client().ip(&["mptcp", "endpoint", "flush"]).expect("ip(8)");
}

#[test]
fn variables_hold_for_what_a_server_accepts() {
    let site = Site::new();
    let settings = [
        "MPTCP_INTENT=handover",
        "MPTCP_SCHEDULER=ecf",
        "MPTCP_CONGESTION=balia",
        "MPTCP_FATE=on",
        "MPTCP_JOIN=after-bytes:5000",
    ];
    let server = serve(&site, &settings, &[]);
    for (line, client) in [Client::Kernel, Client::Library].into_iter().enumerate() {
        site.fetch(client, &url(), LEN);
        let said = told(&server, 2 * line);
        let expected = json!({"enable": 1, "intent": 2, "scheduler": 4, "congestion": 5, "fate": 1, "join": 2});
        assert_said(&said["accepted"], expected);
    }
}

/// Also when the file changes while the server runs.
#[test]
fn files_hold_for_what_a_server_accepts() {
    let site = Site::new();
    let file = site.file("mptcp.toml", "[[rule]]\nprogram = \"python3\"\nintent = \"handover\"\n");
    let setting = format!("MPTCP_CONFIG={file}");
    let server = serve(&site, &[&setting, "MPTCP_SCHEDULER=redundant"], &[]);
    site.fetch(Client::Kernel, &url(), LEN);
    assert_said(
        &told(&server, 0)["accepted"],
        json!({"intent": 2, "scheduler": 6, "congestion": 1}),
    );
    let other =
        "congestion = \"olia\"\nscheduler = \"blest\"\n[[rule]]\nprogram = \"nginx\"\nintent = \"interactive\"\n";
    fs::write(&file, other).expect("a file");
    site.fetch(Client::Kernel, &url(), LEN);
    // What the program's variables say comes first.
    assert_said(
        &told(&server, 2)["accepted"],
        json!({"intent": 0, "scheduler": 6, "congestion": 4}),
    );
}

#[test]
fn options_are_inherited_from_the_listener() {
    let site = Site::new();
    let words = [
        "before:enable=1",
        "before:intent=3",
        "before:scheduler=5",
        "before:names=1",
        "before:tos=16",
        "before:ttl=33",
        "before:nodelay=1",
        "before:keepidle=77",
        "later:congestion=3",
        "later:fate=1",
        "later:join=3",
        "later:timeout=30000",
        "later:syncnt=3",
        "later:mark=5",
    ];
    let server = serve(&site, &["MPTCP_INTENT=handover", "MPTCP_CONGESTION=bbr"], &words);
    let expected = json!({
        "enable": 1, "intent": 3, "scheduler": 5, "names": 1, "congestion": 3, "fate": 1, "join": 3,
        "tos": 16, "ttl": 33, "nodelay": 1, "keepidle": 77, "timeout": 30000, "syncnt": 3, "mark": 5,
    });
    for (line, client) in [Client::Kernel, Client::Library].into_iter().enumerate() {
        site.fetch(client, &url(), LEN);
        let said = told(&server, 2 * line);
        assert_said(&said["listener"], expected.clone());
        assert_said(&said["accepted"], expected.clone());
    }
    // TCP_MULTIPATH_JOIN was set after listen(), and yet clients are told not to join.
    assert_eq!(
        (counter(&site, "MPJoinSynTx"), counter(&site, "AddAddr")),
        (0, 0),
        "{}",
        site.log()
    );
}

/// EMULTIPATH for programs that know, and only for them.
// Proves L3.
#[test]
fn names_of_accepted_sockets_are_as_the_listener_and_the_variable_say() {
    let client = client_address(0, false).to_string();
    let variable = "MPTCP_AWARE_NAMES=fail";
    for (settings, words, peer) in [
        (&[][..], &["before:names=2"][..], json!(3897)),
        (&[variable], &["before:fate=0"], json!(3897)),
        (&[variable], &["later:fate=0"], json!(3897)),
        (&[variable], &["before:names=1"], json!(client)),
        (&[variable], &[], json!(client)),
    ] {
        let site = Site::new();
        let server = serve(&site, settings, words);
        site.fetch(Client::Kernel, &url(), LEN);
        assert_eq!(told(&server, 0)["accepted"]["peer"], peer, "{settings:?} {words:?}");
    }
}

/// An accepted connection whose client does not speak MPTCP.
#[test]
fn what_is_accepted_in_plain_tcp_says_so_and_has_the_options() {
    let site = Site::new();
    let server = serve(&site, &[], &["before:tos=16", "before:intent=1", "before:maxseg=900"]);
    site.fetch(Client::Plain, &url(), LEN);
    assert_said(
        &told(&server, 0)["accepted"],
        json!({"enable": 0, "tos": 16, "intent": 1}),
    );
}

// Proves REQ10.
#[test]
fn a_servers_intent_makes_its_other_address_a_backup() {
    let site = Site::new();
    passive(&site);
    let _server = serve(&site, &["MPTCP_INTENT=handover"], &[]);
    site.fetch(Client::Kernel, &url(), LEN);
    assert_eq!(
        (site.joins(), counter(&site, "MPJoinSynAckBackupRx")),
        (1, 1),
        "{}",
        site.log()
    );
}

#[test]
fn a_listeners_list_is_obeyed_before_its_program_accepts() {
    let [first, second] = [0, 1].map(|wire| server_address(wire, false).to_string());
    for (word, announced) in [
        (format!("before:bind={first}"), 0),
        (format!("later:bind={first}"), 0),
        (format!("before:remove={second}"), 0),
        (format!("before:bind={first},{second}"), 1),
    ] {
        let site = Site::new();
        passive(&site);
        let server = serve(&site, &[], &[&word]);
        site.fetch(Client::Kernel, &url(), LEN);
        let seen = (site.mptcp(), counter(&site, "AddAddr"), site.joins());
        assert_eq!(seen, (1, announced, announced), "{word}: {}", site.log());
        assert_eq!(told(&server, 0)["accepted"]["failures"], json!({}), "{word}");
    }
}

/// REMOVE and BIND on an accepted socket: the peer is told, and the rest of the bytes goes the other way.
#[test]
fn a_server_takes_an_address_back_in_the_middle_of_a_connection() {
    let [first, second] = [0, 1].map(|wire| server_address(wire, false).to_string());
    for word in [format!("accepted:remove={first}"), format!("accepted:bind={second}")] {
        let site = Site::new();
        passive(&site);
        let server = serve(&site, &[], &[&word]);
        let before = site.lab.wire(1).stats().expect("counters").to_client.bytes_out;
        site.fetch(Client::Kernel, &url(), LEN);
        assert!(told(&server, 1)["accepted"].is_object());
        let gained = site.lab.wire(1).stats().expect("counters").to_client.bytes_out - before;
        assert!(
            counter(&site, "RmAddr") >= 1 && site.joins() == 1,
            "{word}: {}",
            site.log()
        );
        assert!(gained > LEN / 4, "{word}: {gained} bytes by the second wire");
    }
}

/// Lists that are wrong have the errno of `mptcp(7)` and change nothing, on a listener and on what it accepts.
#[test]
fn wrong_lists_of_a_server_change_nothing() {
    let expected = json!({
        "foreign": libc::EADDRNOTAVAIL, "twice": libc::EINVAL, "families": libc::EAFNOSUPPORT, "odd": libc::EINVAL,
        "port": libc::EINVAL, "wildcard": libc::EADDRNOTAVAIL, "many": libc::ENOSPC,
    });
    for moment in ["later", "accepted"] {
        for option in ["bind", "add", "remove"] {
            let site = Site::new();
            passive(&site);
            let server = serve(&site, &[], &[&format!("{moment}:wrong={option}")]);
            site.fetch(Client::Kernel, &url(), LEN);
            assert_eq!(told(&server, 1)["accepted"]["failures"], expected, "{moment}, {option}");
            let seen = (site.mptcp(), site.joins(), counter(&site, "RmAddr"));
            assert_eq!(seen, (1, 1, 0), "{moment}, {option}: {}", site.log());
        }
    }
}

/// A connection in plain TCP has one path, and no list of addresses.
#[test]
fn what_is_accepted_in_plain_tcp_takes_no_list() {
    let site = Site::new();
    let first = server_address(0, false).to_string();
    let server = serve(&site, &[], &[&format!("accepted:bind={first}")]);
    site.fetch(Client::Plain, &url(), LEN);
    let failures = &told(&server, 1)["accepted"]["failures"];
    assert_eq!(failures, &json!({ "bind": libc::EOPNOTSUPP }));
}

/// What the server sent, from its SYN-ACK on; a connection before may still be closing.
fn answers(segments: &[Segment]) -> Vec<&Segment> {
    let server = SocketAddr::new(server_address(0, false), PORT);
    let syn_ack = segments.iter().find(|s| s.from == server && s.is_syn());
    let client = syn_ack.expect("a connection").to;
    let sent = segments.iter().filter(|s| (s.from, s.to) == (server, client));
    sent.collect()
}

/// What is set on the listener is in the SYN-ACK and behind it; what is set on the accepted socket, from then on.
#[test]
fn what_is_set_is_what_the_wire_shows() {
    let site = Site::new();
    let words = [
        "before:tos=16",
        "before:ttl=33",
        "later:maxseg=900",
        "accepted:tos=72",
        "accepted:ttl=99",
    ];
    let server = serve(&site, &["MPTCP_JOIN=never"], &words);
    for (line, client) in [Client::Kernel, Client::Library, Client::Plain].into_iter().enumerate() {
        let capture = WireCapture::start(&site.lab, 0);
        site.fetch(client, &url(), LEN);
        assert_said(&told(&server, 2 * line)["accepted"], json!({"tos": 16, "ttl": 33}));
        assert_said(&told(&server, 2 * line + 1)["accepted"], json!({"tos": 72, "ttl": 99}));
        let segments = capture.finish();
        let answers = answers(&segments);
        let syn_ack = answers.first().expect("segments");
        assert!(syn_ack.is_syn());
        assert_eq!(
            (syn_ack.tos, syn_ack.ttl, syn_ack.mss),
            (16, 33, Some(900)),
            "{client:?}"
        );
        let data: Vec<_> = answers.iter().filter(|s| !s.payload.is_empty()).collect();
        assert!(data.iter().all(|s| s.payload.len() <= 900), "{client:?}");
        let manner = |s: &&&Segment| (s.tos, s.ttl);
        assert_eq!(data.first().map(manner), Some((16, 33)), "{client:?}");
        assert_eq!(data.last().map(manner), Some((72, 99)), "{client:?}");
        let changes = data
            .windows(2)
            .filter(|pair| manner(&pair[0]) != manner(&pair[1]))
            .count();
        assert_eq!(changes, 1, "{client:?}");
    }
}

/// Also below the size by which accepted sockets are recognised that stand for a connection.
#[test]
fn a_small_segment_size_of_a_listener_is_announced() {
    for word in ["before:maxseg=500", "later:maxseg=500"] {
        let site = Site::new();
        let server = serve(&site, &["MPTCP_JOIN=never"], &[word]);
        for (line, client) in [Client::Kernel, Client::Library, Client::Plain].into_iter().enumerate() {
            let capture = WireCapture::start(&site.lab, 0);
            site.fetch(client, &url(), LEN);
            let peer = json!({"peer": client_address(0, false).to_string()});
            assert_said(&told(&server, 2 * line)["accepted"], peer);
            let segments = capture.finish();
            let answers = answers(&segments);
            assert_eq!(answers.first().and_then(|s| s.mss), Some(500), "{word}, {client:?}");
            assert!(answers.iter().all(|s| s.payload.len() <= 500), "{word}, {client:?}");
        }
        assert_eq!(site.mptcp(), 1, "the kernel's client, {word}: {}", site.log());
    }
}

//! TCP_SYNCNT, TCP_USER_TIMEOUT and keepalive: how long a program waits for a peer that has fallen silent, what it is told, and what the wire
//! shows meanwhile. The kernel's TCP under the same options says what is right.

use crate::capture::{Segment, WireCapture};
use crate::directory;
use crate::interop::{run, server_address, wait_until, Outcome, Running, Site, Transport, Wire};
use crate::lab::client_address;
use serde_json::{json, Value};
use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

/// Who has the client's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    Kernel,
    Library,
}

/// What `silence.py` said, and what went over each wire.
struct Silence {
    said: Value,
    segments: Vec<Vec<Segment>>,
}

impl Silence {
    fn errno(&self) -> i64 {
        self.said["errno"].as_i64().expect("a number")
    }

    fn seconds(&self) -> f64 {
        self.said["seconds"].as_f64().expect("a number")
    }

    /// What the client has sent by a wire.
    fn sent(&self, wire: usize) -> Vec<&Segment> {
        let own: IpAddr = client_address(wire, false);
        self.segments[wire].iter().filter(|s| s.from.ip() == own).collect()
    }
}

fn command(site: &Site, client: Client, words: &[&str]) -> Command {
    let mut command = match client {
        Client::Kernel => site.lab().client().command("python3"),
        Client::Library => site.command("python3"),
    };
    let address = server_address(0, false).to_string();
    let files = site.file("").display().to_string();
    command
        .arg(directory().join("silence.py"))
        .args([address.as_str(), "80", &files])
        .args(words);
    command
}

fn said(site: &Site, outcome: &Outcome, words: &[&str]) -> Value {
    assert!(
        outcome.status.success(),
        "{words:?}: {}\n{}",
        outcome.stderr,
        site.engine_log()
    );
    let said: Value = serde_json::from_slice(&outcome.stdout).expect("a line of JSON");
    for word in words.iter().filter_map(|word| word.split_once('=')) {
        assert_eq!(said["options"][word.0], json!(word.1.parse::<i64>().expect("a number")));
    }
    said
}

/// Runs `silence.py`, whose server hears nothing from the start, or when there is a connection (on all wires); then captures begin.
fn silence(client: Client, wires: usize, words: &[&str]) -> Silence {
    let site = Site::new(vec![Wire::new(20.0, 5.0); wires]);
    let _server = site.http(Transport::Mptcp);
    let start = || {
        let deaf = "add table inet deaf\n\
                    add chain inet deaf input { type filter hook input priority -300; }\n\
                    add rule inet deaf input meta l4proto tcp drop";
        site.lab().server().output("nft", &[deaf]).expect("nft(8)");
        let start = |wire| WireCapture::start(site.lab(), wire);
        (0..wires).map(start).collect::<Vec<_>>()
    };
    let (outcome, captures) = if words[0].starts_with("connect") {
        let captures = start();
        (run(command(&site, client, words)), captures)
    } else {
        let program = Running::start(command(&site, client, words));
        wait_until("a connection", || site.file("ready").exists());
        if client == Client::Library {
            wait_until("a subflow on each wire", || {
                let joined = site.lab().server().counter("MPTcpExtMPJoinAckRx");
                joined.expect("a counter") + 1 >= wires as u64
            });
        }
        let captures = start();
        fs::write(site.file("go"), "").expect("a file");
        (program.finish(), captures)
    };
    Silence {
        said: said(&site, &outcome, words),
        segments: captures.into_iter().map(WireCapture::finish).collect(),
    }
}

/// The same on the kernel's TCP and under the library, over one wire.
fn both(words: &[&str]) -> [Silence; 2] {
    [Client::Kernel, Client::Library].map(|client| silence(client, 1, words))
}

const TIMED_OUT: i64 = libc::ETIMEDOUT as i64;
/// No machine is as slow, and without the options everything here takes longer.
const FAR_TOO_LONG: f64 = 60.0;

fn assert_timed_out(silence: &Silence, least: f64, what: &str) {
    assert_eq!(silence.errno(), TIMED_OUT, "{what}: {}", silence.said);
    let seconds = silence.seconds();
    assert!((least..FAR_TOO_LONG).contains(&seconds), "{what}: {seconds} s");
}

#[test]
fn syns_are_as_many_as_the_program_allows() {
    assert_same_syns("connect");
}

#[test]
fn syns_are_as_many_as_the_program_allows_while_it_connects() {
    assert_same_syns("connect-late");
}

fn assert_same_syns(when: &str) {
    let counts = both(&[when, "syncnt=1"]).map(|silence| {
        assert_timed_out(&silence, 2.9, "TCP_SYNCNT 1");
        silence.sent(0).iter().filter(|s| s.is_syn()).count()
    });
    assert!(counts[0] >= 2, "{counts:?}");
    assert_eq!(counts[0], counts[1], "SYNs of the kernel's and ours");
}

#[test]
fn an_attempt_to_connect_ends_with_the_user_timeout() {
    for silence in both(&["connect", "timeout=1500"]) {
        assert_timed_out(&silence, 1.4, "TCP_USER_TIMEOUT 1500");
        let syns = silence.sent(0).iter().filter(|s| s.is_syn()).count();
        assert!(syns >= 2, "{}", silence.said);
    }
}

#[test]
fn data_that_nobody_acknowledges_ends_a_connection_with_the_user_timeout() {
    let words = ["send", "timeout=1200"];
    for silence in both(&words).into_iter().chain([silence(Client::Library, 2, &words)]) {
        assert_timed_out(&silence, 1.1, "TCP_USER_TIMEOUT 1200");
        let data: Vec<_> = silence.sent(0).into_iter().filter(|s| !s.payload.is_empty()).collect();
        assert!(data.len() >= 2 && data.windows(2).all(|pair| pair[0].payload == pair[1].payload));
    }
}

/// Segments below the window that ask for an answer (RFC 9293 section 3.8.4).
fn probes(silence: &Silence, wire: usize) -> usize {
    let sent = silence.sent(wire);
    let first = sent.first().expect("a probe").seq;
    let probes = sent
        .iter()
        .filter(|s| s.seq == first && s.flags & 0x17 == 0x10 && s.payload.len() <= 1);
    probes.count()
}

#[test]
fn keepalives_are_as_many_and_as_far_apart_as_the_program_says() {
    let words = ["listen", "keepalive=1", "keepidle=1", "keepintvl=1", "keepcnt=2"];
    for silence in both(&words) {
        assert_timed_out(&silence, 2.0, "three seconds of silence");
        assert_eq!(probes(&silence, 0), 2, "{}", silence.said);
    }
    let two = silence(Client::Library, 2, &words);
    assert_timed_out(&two, 2.0, "on both wires");
    assert_eq!([0, 1].map(|wire| probes(&two, wire)), [2, 2]);
}

/// With a user timeout it is that which decides, and not the number of probes (tcp(7)).
#[test]
fn keepalives_go_on_until_the_user_timeout() {
    let words = [
        "listen",
        "keepalive=1",
        "keepidle=1",
        "keepintvl=1",
        "keepcnt=1",
        "timeout=3500",
    ];
    for silence in both(&words) {
        assert_timed_out(&silence, 2.5, "four seconds of silence");
        assert!(probes(&silence, 0) >= 2, "{}", silence.said);
    }
}

#[test]
fn a_peer_that_answers_keepalives_is_alive() {
    let site = Site::new([Wire::new(20.0, 5.0)]);
    let _server = site.http(Transport::Mptcp);
    let words = ["listen", "keepalive=1", "keepidle=1", "keepintvl=1", "keepcnt=1"];
    let program = Running::start(command(&site, Client::Library, &words));
    wait_until("a connection", || site.file("ready").exists());
    let capture = WireCapture::start(site.lab(), 0);
    fs::write(site.file("go"), "").expect("a file");
    // Two of them unanswered would be the end.
    std::thread::sleep(Duration::from_secs(4));
    drop(program);
    let segments = capture.finish();
    let own = client_address(0, false);
    let sent: Vec<_> = segments
        .iter()
        .filter(|s| s.from.ip() == own && s.flags & 0x17 == 0x10)
        .collect();
    let answers = segments.iter().filter(|s| s.from.ip() != own);
    assert!(sent.len() >= 2 && answers.count() >= 2, "{segments:?}");
    assert!(
        segments.iter().all(|s| s.flags & 4 == 0 || s.from.ip() == own),
        "{segments:?}"
    );
}

//! No option lies: what was set is what getsockopt() says and what the wire shows, on connections that a program opens. Those that it accepts are
//! in `tests/servers/option_tests.rs`.

use crate::capture::{Segment, WireCapture};
use crate::directory;
use crate::interop::{run, LabSpec, Site, Transport, Wire};
use crate::lab::{client_address, server_address};
use crate::silence::Client;
use serde_json::{json, Value};

const WORDS: [&str; 6] = [
    "before:tos=16",
    "before:ttl=33",
    "before:maxseg=700",
    "before:mark=7",
    "after:tos=72",
    "after:ttl=99",
];

/// Runs a Python program of `c-tests/api/` against the server's first address; its lines.
fn python(site: &Site, name: &str, v6: bool, words: &[&str]) -> Vec<String> {
    let mut command = site.command("python3");
    command
        .arg(directory().join(name))
        .args([&server_address(0, v6).to_string(), "80"])
        .args(words);
    let outcome = run(command);
    assert!(
        outcome.status.success(),
        "{name} {words:?}: {}\n{}",
        outcome.stderr,
        site.engine_log()
    );
    let said = String::from_utf8(outcome.stdout).expect("text");
    said.lines().map(str::to_owned).collect()
}

fn said(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

/// Type of service, time to live, segment size: in the SYN, in joins' SYNs, in all data.
fn options_on_the_wire(v6: bool) {
    let site = Site::new([Wire::new(20.0, 5.0); 2]);
    let _server = site.http(Transport::Mptcp);
    let captures = [0, 1].map(|wire| WireCapture::start(site.lab(), wire));
    let lines = python(&site, "options.py", v6, &WORDS);
    assert_eq!(said(&lines[0]), json!({"tos": 16, "ttl": 33, "maxseg": 700, "mark": 7}));
    let after = said(&lines[1]);
    assert_eq!(
        (&after["tos"], &after["ttl"], &after["mark"]),
        (&json!(72), &json!(99), &json!(7))
    );
    assert!(
        after["maxseg"].as_u64().is_some_and(|mss| (500..=700).contains(&mss)),
        "{after}"
    );
    for (wire, capture) in captures.into_iter().enumerate() {
        let own = client_address(wire, v6);
        let segments = capture.finish();
        let sent: Vec<&Segment> = segments.iter().filter(|s| s.from.ip() == own).collect();
        let syn = sent.iter().find(|s| s.is_syn()).expect("a subflow");
        assert_eq!(syn.mss, Some(700), "wire {wire}");
        let manner = |s: &&Segment| (s.tos, s.ttl);
        assert!([(16, 33), (72, 99)].contains(&manner(syn)), "wire {wire}");
        assert!(
            sent.iter().all(|s| [(16, 33), (72, 99)].contains(&manner(s))),
            "wire {wire}"
        );
        assert!(sent.iter().all(|s| s.payload.len() <= 700), "wire {wire}");
        if wire == 0 {
            let data: Vec<&&Segment> = sent.iter().filter(|s| !s.payload.is_empty()).collect();
            assert_eq!(manner(syn), (16, 33));
            assert_eq!(data.first().map(|s| manner(s)), Some((16, 33)));
            assert_eq!(data.last().map(|s| manner(s)), Some((72, 99)));
        }
    }
}

#[test]
fn tos_ttl_and_segment_size() {
    options_on_the_wire(false);
}

#[test]
fn traffic_class_hop_limit_and_segment_size() {
    options_on_the_wire(true);
}

/// The firewall sees it on every segment of every subflow.
#[test]
fn marks() {
    let site = Site::new([Wire::new(20.0, 5.0); 2]);
    let _server = site.http(Transport::Mptcp);
    let client = site.lab().client();
    let rules = "add table inet marks\n\
                 add chain inet marks output { type filter hook output priority 0; }\n\
                 add rule inet marks output tcp dport 80 meta mark 7 counter comment \"seven\"\n\
                 add rule inet marks output tcp dport 80 meta mark 9 counter comment \"nine\"\n\
                 add rule inet marks output tcp dport 80 meta mark != 7 meta mark != 9 counter comment \"others\"";
    client.output("nft", &[rules]).expect("nft(8)");
    python(&site, "options.py", false, &["before:mark=7", "after:mark=9"]);
    let listed = client
        .output("nft", &["list", "table", "inet", "marks"])
        .expect("nft(8)");
    let packets = |comment: &str| -> u64 {
        let line = listed.lines().find(|line| line.contains(comment)).expect("the rule");
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "packets").expect("a counter");
        words[at + 1].parse().expect("a number")
    };
    assert!(packets("seven") > 0 && packets("nine") > 0, "{listed}");
    assert_eq!(packets("others"), 0, "{listed}");
}

/// Payloads that the counted connection of `pieces.py` has sent, without retransmissions, and whether anything came back before the second.
fn pieces(way: &str) -> (Vec<usize>, bool) {
    // Nothing is acknowledged before both writes are made.
    let site = Site::with(LabSpec::new([Wire::new(20.0, 200.0)]));
    let _server = site.http(Transport::Mptcp);
    let capture = WireCapture::start(site.lab(), 0);
    let lines = python(&site, "pieces.py", false, &[way]);
    let port: u16 = lines[0].parse().expect("a port");
    let own = (client_address(0, false), port);
    let segments = capture.finish();
    let (mut payloads, mut seen, mut answered) = (Vec::new(), Vec::new(), false);
    for segment in segments {
        let to_server = (segment.from.ip(), segment.from.port()) == own;
        let to_client = (segment.to.ip(), segment.to.port()) == own;
        if to_client && !segment.is_syn() && payloads.len() == 1 {
            answered = true;
        }
        if to_server && !segment.payload.is_empty() && !seen.contains(&segment.seq) {
            seen.push(segment.seq);
            payloads.push(segment.payload.len());
        }
    }
    (payloads, answered)
}

#[test]
fn with_nodelay_each_write_leaves_at_once() {
    let (payloads, answered) = pieces("nodelay");
    assert_eq!((&payloads[..2], answered), (&[10, 10][..], false), "{payloads:?}");
}

#[test]
fn without_it_the_second_write_waits_for_an_acknowledgment() {
    let (payloads, answered) = pieces("nagle");
    assert_eq!((payloads[0], answered), (10, true), "{payloads:?}");
}

#[test]
fn a_cork_holds_both_writes_also_with_nodelay() {
    for way in ["cork", "cork-nodelay"] {
        let (payloads, _) = pieces(way);
        assert_eq!(payloads[0], 20, "{way}: {payloads:?}");
    }
}

/// The largest window that a client announces over both wires, and what it says of the options.
fn largest_window(site: &Site, words: &[&str]) -> (usize, Value) {
    let captures = [0, 1].map(|wire| WireCapture::start(site.lab(), wire));
    let lines = python(site, "options.py", false, words);
    let segments = captures.map(WireCapture::finish);
    let windows = segments.iter().enumerate().flat_map(|(wire, segments)| {
        let own = client_address(wire, false);
        let sent = segments.iter().filter(move |s| s.from.ip() == own);
        let shift = segments.iter().find_map(|s| s.shift.filter(|_| s.from.ip() == own));
        sent.map(move |s| match s.is_syn() {
            true => usize::from(s.window),
            false => usize::from(s.window) << shift.unwrap_or(0),
        })
    });
    (windows.max().expect("segments"), said(&lines[1]))
}

/// TCP_WINDOW_CLAMP and SO_RCVBUF bound what a client lets come. SO_RCVBUF is doubled, as by the kernel, and the double is what is told.
#[test]
fn windows() {
    let site = Site::new([Wire::new(20.0, 5.0); 2]);
    let _server = site.http(Transport::Mptcp);
    let (clamped, said) = largest_window(&site, &["before:clamp=50000"]);
    assert!((20_000..=50_000).contains(&clamped), "{clamped}");
    assert_eq!(said, json!({"clamp": 50_000}));
    let (bounded, said) = largest_window(&site, &["before:rcvbuf=40000"]);
    assert!((20_000..=80_000).contains(&bounded), "{bounded}");
    assert_eq!(said, json!({"rcvbuf": 80_000}));
    let (free, _) = largest_window(&site, &[]);
    assert!(free > 100_000, "{free}");
}

/// Runs a Python program of `c-tests/api/` over one wire; its last line, and what its host sent and was sent.
fn over_one_wire(client: Client, name: &str, words: &[&str]) -> (Value, Vec<Segment>) {
    let site = Site::new([Wire::new(20.0, 5.0)]);
    let _server = site.http(Transport::Mptcp);
    let capture = WireCapture::start(site.lab(), 0);
    let mut command = match client {
        Client::Kernel => site.lab().client().command("python3"),
        Client::Library => site.command("python3"),
    };
    command
        .arg(directory().join(name))
        .args([&server_address(0, false).to_string(), "80"])
        .args(words);
    let outcome = run(command);
    assert!(outcome.status.success(), "{client:?} {name}: {}", outcome.stderr);
    let lines = String::from_utf8(outcome.stdout).expect("text");
    (said(lines.lines().last().expect("a line")), capture.finish())
}

/// TCP_WINDOW_CLAMP in mid-connection: what was offered stays offered, and then no more than this.
#[test]
fn windows_that_are_bounded_later() {
    for client in [Client::Kernel, Client::Library] {
        let (said, segments) = over_one_wire(client, "clamp.py", &["20000"]);
        assert_eq!(said, json!({"clamp": 20_000, "none": libc::EINVAL}), "{client:?}");
        let own = client_address(0, false);
        let sent: Vec<&Segment> = segments.iter().filter(|s| s.from.ip() == own).collect();
        let shift = sent.iter().find_map(|s| s.shift).expect("a SYN");
        let window = |s: &Segment| usize::from(s.window) << shift;
        let offers: Vec<&&Segment> = sent.iter().filter(|s| !s.is_syn() && !s.is_reset()).collect();
        // Half of the bytes come after the bound; a window's worth of them was promised before.
        let (first, last) = offers.split_at(offers.len() * 3 / 4);
        let largest = |offers: &[&&Segment]| offers.iter().map(|s| window(s)).max().expect("segments");
        assert!(largest(first) > 40_000, "{client:?}: {}", largest(first));
        assert!(largest(last) <= 20_000, "{client:?}: {}", largest(last));
        let mut edge = None;
        for segment in offers {
            let next = segment.ack.wrapping_add(window(segment) as u32);
            let back = edge.map_or(0, |edge: u32| edge.wrapping_sub(next) as i32);
            // A window that is no multiple of the scale's unit is rounded.
            assert!(back < 1 << shift, "{client:?}: the right edge went back by {back}");
            edge = Some(if back > 0 { edge.unwrap_or(next) } else { next });
        }
    }
}

/// TCP_MAXSEG in mid-connection: neither segments nor getsockopt() change, of the kernel's TCP as of ours.
#[test]
fn segments_that_are_limited_later_stay_as_they_are() {
    for client in [Client::Kernel, Client::Library] {
        let (said, segments) = over_one_wire(client, "options.py", &["after:maxseg=700"]);
        assert!(
            said["maxseg"].as_u64().is_some_and(|mss| mss > 1400),
            "{client:?}: {said}"
        );
        let own = client_address(0, false);
        let sent: Vec<usize> = segments
            .iter()
            .filter(|s| s.from.ip() == own)
            .map(|s| s.payload.len())
            .collect();
        let (first, second) = sent.split_at(sent.len() / 2);
        let full = |sent: &[usize]| sent.iter().filter(|len| **len > 1300).count();
        assert!(full(first) > 50 && full(second) > 50, "{client:?}: {sent:?}");
    }
}

// Proves REQ11.
#[test]
fn the_redundant_scheduler_sends_the_same_on_both_wires() {
    let site = Site::new([Wire::new(20.0, 5.0); 2]);
    let _server = site.http(Transport::Mptcp);
    let capture = WireCapture::start(site.lab(), 1);
    let mut command = site.command("python3");
    command
        .arg(directory().join("options.py"))
        .args([&server_address(0, false).to_string(), "80"])
        .env("MPTCP_SCHEDULER", "redundant");
    let outcome = run(command);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let own = client_address(1, false);
    let mut seen = std::collections::BTreeMap::new();
    for segment in capture.finish() {
        if segment.from.ip() == own {
            seen.insert(segment.seq, segment.payload.len());
        }
    }
    // The second half of 400,000 bytes, which the first wire carries as well.
    let carried: usize = seen.values().sum();
    assert!(carried > 150_000, "{carried} bytes by the second wire");
}

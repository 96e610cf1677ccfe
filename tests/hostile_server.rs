//! A server that means harm, with real packets: it accepts MPTCP and then sends right and wrong segments and options, drawn from a seed.
//! The engine must outlive it, hold little, serve the next program, and keep nothing of its connections.
//!
//! The core's own tests draw many more cases (`src/mptcp/tests/hostile*.rs`); here it is the whole engine, link and relay included.

mod hostile;
mod interop;

use hostile::{Orders, Server};
use interop::{run, server_address, url, wait_until, Download, Site, Transport, Wire};
use serde_json::Value;
use std::thread;

const MPTCP: &str = env!("CARGO_BIN_EXE_mptcp");
const SEED: u64 = 1;
/// Segments of the hostile server in all.
const SEGMENTS: usize = 3000;
/// With fewer it had no chance to do harm.
const SEGMENTS_MIN: usize = 200;
const PROGRAMS: u8 = 8;
/// An engine with eight connections stays far below it; what a peer can make it hold without bound does not.
const PEAK_KIB_MAX: u64 = 128 << 10;
const LEN: u64 = 4_000_000;

#[test]
fn the_engine_outlives_a_hostile_server() {
    let site = Site::new([Wire::new(50.0, 5.0), Wire::new(50.0, 5.0)]);
    let _http = site.http(Transport::Mptcp);
    for wire in 0..2 {
        let (via, device) = (server_address(wire, false).to_string(), interop::interface(wire));
        let metric = (10 + wire).to_string();
        let route = [
            "route",
            "add",
            hostile::NETWORK,
            "via",
            &via,
            "dev",
            &device,
            "metric",
            &metric,
        ];
        site.lab().client().ip(&route).expect("a route");
    }
    let server = site
        .lab()
        .server()
        .run(|| Server::open(SEED, SEGMENTS))
        .expect("a lab of root's");
    let mut server = server.expect("packet sockets");
    let orders = Orders::default();
    thread::scope(|scope| {
        let hostile = scope.spawn(|| {
            server.serve(&orders).expect("packets can be sent");
            server.sent()
        });
        // Ends the server also when something below fails.
        let stop = orders.stop_when_dropped();
        let curls: Vec<_> = (1..=PROGRAMS)
            .map(|host| {
                let url = format!("http://{}/[1-4]", hostile::address(host));
                let mut curl = site.command("curl");
                // It takes any bytes for an answer, and goes on with the next connection.
                curl.args(["-s", "--http0.9", "--max-time", "1", "-o", "/dev/null", &url]);
                curl.spawn().expect("curl starts")
            })
            .collect();
        for mut curl in curls {
            let ended = interop::host::wait_timeout(&mut curl, interop::PATIENCE);
            assert!(
                ended.expect("curl ends").code().is_some(),
                "curl was killed by a signal"
            );
        }
        orders.close();
        let engine = site.engine_pid();
        assert!(peak_kib(engine) < PEAK_KIB_MAX, "{} KiB", peak_kib(engine));
        wait_until("no connection is left", || connections(&site) == 0);
        Download::start(site.curl(&[&url(LEN)])).expect_stream(LEN);
        assert_eq!(site.engine_pid(), engine, "the engine died");
        drop(stop);
        let sent = hostile.join().expect("the server ends");
        assert!(sent >= SEGMENTS_MIN, "it had only {sent} segments to say");
    });
}

/// VmHWM of a process.
fn peak_kib(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the engine lives");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a number of KiB")
}

/// Connections that `mptcp status` shows.
fn connections(site: &Site) -> usize {
    let mut status = site.lab().client().command(MPTCP);
    status.args(["status", "--json"]);
    let outcome = run(status);
    let picture: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let engines = picture["engines"].as_array().expect("an array");
    assert_eq!(engines.len(), 1, "one engine answers: {picture}");
    engines[0]["connections"].as_array().expect("an array").len()
}

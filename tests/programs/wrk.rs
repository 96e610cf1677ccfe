//! wrk against nginx: 200 connections for ten seconds, undisturbed, with a worker killed, and with a reload in the middle.

use crate::nginx;
use crate::run::{compare, eventually, signal, Process, Role, Run};
use rustix::process::Signal;
use std::thread;
use std::time::Duration;

const CONNECTIONS: u64 = 200;

/// What wrk counted: requests, and what went wrong with some.
struct Counted {
    requests: u64,
    non_2xx: u64,
    connect: u64,
    read: u64,
    write: u64,
    timeout: u64,
}

fn number_before(text: &str, mark: &str) -> u64 {
    let before = text
        .split_once(mark)
        .and_then(|(before, _)| before.split_whitespace().last());
    before.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn number_after(text: &str, mark: &str) -> u64 {
    let after = text.split_once(mark).map_or("", |(_, after)| after.trim_start());
    let digits = after.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Runs wrk, and `disturb` in its middle.
fn load(run: &Run, disturb: impl FnOnce()) -> Counted {
    let url = format!("http://{}/1000", run.subject_address());
    let words = [
        "wrk",
        "-t",
        "2",
        "-c",
        &CONNECTIONS.to_string(),
        "-d",
        "10s",
        "--timeout",
        "10s",
        &url,
    ];
    let mut wrk = run.spawn(run.peer(&words));
    thread::sleep(Duration::from_secs(4));
    disturb();
    wrk.wait();
    let said = wrk.output();
    println!("{:?}: {said}", run.mode);
    Counted {
        requests: number_before(&said, " requests in "),
        non_2xx: number_after(&said, "Non-2xx or 3xx responses:"),
        connect: number_after(&said, "Socket errors: connect"),
        read: number_after(&said, ", read"),
        write: number_after(&said, ", write"),
        timeout: number_after(&said, ", timeout"),
    }
}

fn site(run: &Run) -> Process {
    // Rather many connections than a join of each: the requests are small.
    run.stream_file(1000);
    run.stream_file(nginx::LEN);
    let configuration = nginx::configure(run, "keepalive_requests 1000000; access_log off;", "");
    nginx::serve(run, &configuration)
}

/// One of the many bytes that make a join worth it, as evidence that nothing is in the way of joins.
fn large(run: &Run) -> String {
    let url = format!("http://{}/{}", run.subject_address(), nginx::LEN);
    run.ask(&["bash", "-c", &format!("curl -sS {url} | sha256sum")])
}

/// What failed. A disturbed nginx closes connections on which requests are under way, each of the first ones once at most: so it is on kernel TCP.
fn failures(counted: &Counted, disturbed: bool) -> String {
    assert!(counted.requests > CONNECTIONS, "{} requests", counted.requests);
    let read_max = if disturbed { CONNECTIONS } else { 0 };
    let read = counted.read <= read_max;
    let Counted {
        non_2xx,
        connect,
        write,
        timeout,
        ..
    } = counted;
    format!("{non_2xx} {connect} {write} {timeout} {read}\n")
}

const NONE: &str = "0 0 0 0 true\n";

#[test]
#[ignore = "make programs"]
fn wrk_has_no_failed_request() {
    compare(Role::Server, |run| {
        let _nginx = site(run);
        assert_eq!(failures(&load(run, || {}), false), NONE);
        large(run)
    });
}

#[test]
#[ignore = "make programs"]
fn wrk_goes_on_when_nginx_reloads() {
    compare(Role::Server, |run| {
        let nginx = site(run);
        let before = nginx::workers(run);
        let counted = load(run, || nginx.signal(Signal::HUP));
        eventually("the workers are others", || {
            let now = nginx::workers(run);
            now.len() == before.len() && now.iter().filter(|pid| before.contains(pid)).count() == 1
        });
        assert_eq!(failures(&counted, true), NONE);
        large(run)
    });
}

#[test]
#[ignore = "make programs"]
fn wrk_goes_on_when_a_worker_is_killed() {
    compare(Role::Server, |run| {
        let nginx = site(run);
        let master = nginx.child.id() as i32;
        let counted = load(run, || {
            let worker = nginx::workers(run).into_iter().find(|&pid| pid != master);
            signal(worker.expect("a worker"), Signal::KILL);
        });
        assert_eq!(failures(&counted, true), NONE);
        large(run)
    });
}

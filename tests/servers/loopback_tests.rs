//! `MPTCP_LOOPBACK=1`: a host's connections to itself.

use crate::lab::server_address;
use crate::site::{bytes, eventually, Site};
use std::process::Output;

const MPTCP: &str = env!("CARGO_BIN_EXE_mptcp");
const LEN: u64 = 3_000_000;
const LOOPBACK: &str = "MPTCP_LOOPBACK=1";
const SERVE: [&str; 5] = ["python3", "-u", "-m", "http.server", "8000"];

/// A command on the server's host, under the library.
fn run(site: &Site, words: &[&str]) -> Output {
    site.command(words).output().expect("env(1) runs")
}

fn fetch(site: &Site, settings: &[&str], url: &str) {
    let words = [settings, &["curl", "-sS", "-m", "20", url]].concat();
    let output = run(site, &words);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{url}: {error}\n{}", site.log());
    assert!(output.stdout == bytes(LEN), "{url}: other bytes");
}

/// Connections of the core that were established from this program's side.
fn established(site: &Site, program: &str) -> usize {
    let log = site.log();
    let lines = log.lines();
    lines
        .filter(|line| line.contains(&format!(" {program}[")) && line.ends_with(" established"))
        .count()
}

#[test]
fn every_own_address_is_carried_when_it_is_asked_for() {
    let site = Site::new();
    site.stream_file(LEN);
    let _server = site.serve(8000, &[&[LOOPBACK], &SERVE[..], &["--bind", "::"]].concat());
    eventually("the engine knows of it", || site.log().contains("listens at [::]:8000"));
    let own = [server_address(0, false), server_address(1, false)].map(|ip| ip.to_string());
    let v6 = format!("[{}]", server_address(0, true));
    let hosts = ["127.0.0.1", "127.1.2.3", "[::1]", &own[0], &own[1], &v6];
    for (already, host) in hosts.into_iter().enumerate() {
        let url = format!("http://{host}:8000/{LEN}");
        fetch(&site, &[LOOPBACK], &url);
        assert_eq!(established(&site, "curl"), already + 1, "{host}: {}", site.log());
        // Not without the setting, and not with kernel TCP on the client's side.
        fetch(&site, &[], &url);
        fetch(&site, &["MPTCP=off"], &url);
        assert_eq!(established(&site, "curl"), already + 1, "{host}: {}", site.log());
    }
    assert!(!site.log().contains("plain TCP"), "{}", site.log());
}

/// The server is the kernel's: so is the connection, and so is the refusal where nobody listens.
#[test]
fn who_listens_without_the_library_is_reached_by_the_kernel() {
    let site = Site::new();
    site.stream_file(LEN);
    let _ours = site.serve(8001, &[LOOPBACK, "python3", "-m", "http.server", "8001"]);
    let mut command = site.lab.server().command("python3");
    command.args(&SERVE[1..]).current_dir(site.directory());
    let _server = site.start(8000, command);
    fetch(&site, &[LOOPBACK], &format!("http://127.0.0.1:8000/{LEN}"));
    assert_eq!(established(&site, "curl"), 0, "{}", site.log());
    let refused = run(&site, &[LOOPBACK, "curl", "-sS", "http://127.0.0.1:8002/"]);
    assert_eq!(refused.status.code(), Some(7), "refused");
}

/// A client of another user has another engine, and reaches the server through the kernel.
#[test]
fn an_engine_of_another_user_is_reached_by_the_kernel() {
    let site = Site::new();
    site.stream_file(LEN);
    let _server = site.serve(8000, &[&[LOOPBACK], &SERVE[..]].concat());
    let caps = "+net_raw,+net_admin";
    let user = [
        LOOPBACK,
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
    ];
    let user = [&user[..], &["--inh-caps", caps, "--ambient-caps", caps]].concat();
    fetch(&site, &user, &format!("http://127.0.0.1:8000/{LEN}"));
    assert_eq!(established(&site, "curl"), 0, "{}", site.log());
}

/// One program that is both ends: it sees what it would see of the kernel's TCP, and `mptcp status` shows both.
#[test]
fn both_ends_are_shown_and_see_each_other() {
    let site = Site::new();
    let program = site.file(
        "ends.py",
        "import socket, subprocess, sys
s = socket.create_server(('127.0.0.1', 0))
s.setblocking(False)
for turn in range(50):
    c = socket.create_connection(s.getsockname())
    # On one host the other side can accept as soon as connect() returns.
    a, name = s.accept()
    a.setblocking(True)
    assert name == c.getsockname() == a.getpeername(), name
    assert c.getpeername() == a.getsockname() == s.getsockname()
    c.sendall(b'question'); assert a.recv(100) == b'question'
    a.sendall(b'answer'); a.shutdown(socket.SHUT_WR)
    assert c.recv(100) == b'answer' and c.recv(100) == b''
    c.sendall(b'more'); assert a.recv(100) == b'more'
    if turn < 49: c.close(); assert a.recv(100) == b''; a.close()
print(subprocess.run([sys.argv[1], 'status', '--json'], capture_output=True, text=True).stdout)
",
    );
    let output = run(&site, &[LOOPBACK, "python3", &program, MPTCP]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}\n{}", site.log());
    let picture: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let connections = picture["engines"][0]["connections"].as_array().expect("a list");
    let live: Vec<_> = connections.iter().filter(|c| c["state"] == "established").collect();
    assert_eq!(live.len(), 2, "{picture:#}");
    for end in &live {
        assert_eq!(
            (&end["protocol"], &end["subflows"][0]["interface"]),
            (&"mptcp".into(), &"lo".into())
        );
    }
    assert_eq!(live[0]["local"], live[1]["remote"]);
}

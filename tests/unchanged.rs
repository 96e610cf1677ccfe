//! Never in the way: curl's standard output, standard error and exit code are the same with and without the library, whatever goes wrong.
//! Durations in messages are masked; they are the only difference allowed.

mod interop;

use interop::{far_address, run, server_address, Peer, Site, Transport, Wire};
use std::process::Command;

/// Output and exit code of one run, times masked.
#[derive(PartialEq, Debug)]
struct Seen {
    stdout: String,
    stderr: String,
    status: String,
}

fn seen(command: Command) -> Seen {
    let outcome = run(command);
    Seen {
        stdout: String::from_utf8_lossy(&outcome.stdout).into_owned(),
        stderr: mask_times(&outcome.stderr),
        status: outcome.status.to_string(),
    }
}

/// `after 58 ms` becomes `after N ms`.
fn mask_times(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let masked = words
        .iter()
        .enumerate()
        .map(|(index, word)| match words.get(index + 1) {
            Some(next) if next.starts_with("ms") && word.parse::<u64>().is_ok() => "N",
            _ => word,
        });
    masked.collect::<Vec<_>>().join(" ")
}

/// Runs a script of bash without and with the library, each in a lab of its own. With `MPTCP_LOG` unset the library must be silent.
fn assert_unchanged(make: impl Fn() -> (Site, Option<Peer>), script: &str) -> Seen {
    let script = format!(
        "S={}; FAR={}; V6=[{}]; {script}",
        server_address(0, false),
        far_address(false),
        server_address(0, true)
    );
    let bash = |mut command: Command| {
        command.args(["-c", &script]).env_remove("MPTCP_LOG");
        command
    };
    let without = {
        let (site, _http) = make();
        seen(bash(site.lab().client().command("bash")))
    };
    let (site, _http) = make();
    let with = seen(bash(site.command("bash")));
    assert_eq!(with, without, "under the library, and without it: {script}");
    site.assert_kernel_client_idle();
    with
}

fn site() -> Site {
    Site::new([Wire::new(50.0, 10.0); 2])
}

fn quiet() -> (Site, Option<Peer>) {
    (site(), None)
}

fn serving(transport: Transport) -> impl Fn() -> (Site, Option<Peer>) {
    move || {
        let site = site();
        let http = site.http(transport);
        (site, Some(http))
    }
}

#[test]
fn a_refused_port() {
    let seen = assert_unchanged(quiet, "curl -sS http://$S:81/");
    assert_eq!(seen.status, "exit status: 7");
    assert_unchanged(quiet, "curl -sS http://$V6:81/");
}

#[test]
fn a_black_hole_with_a_connect_timeout() {
    let dark = || {
        let site = site();
        (0..2).for_each(|wire| site.lab().wire(wire).cut().unwrap());
        (site, None)
    };
    let seen = assert_unchanged(dark, "curl -sS --connect-timeout 2 http://$S/");
    assert_eq!(seen.status, "exit status: 28");
}

#[test]
fn an_unreachable_network() {
    let cut_off = || {
        let site = site();
        for wire in ["eth0", "eth1"] {
            site.lab().client().ip(&["link", "set", wire, "down"]).unwrap();
        }
        (site, None)
    };
    let seen = assert_unchanged(cut_off, "curl -sS http://$S/");
    assert_eq!(seen.status, "exit status: 7");
}

#[test]
fn a_server_that_resets() {
    for transport in [Transport::Mptcp, Transport::Tcp] {
        let seen = assert_unchanged(serving(transport), "curl -sS -o /dev/null http://$S/reset/1000000");
        assert_eq!(seen.status, "exit status: 56");
    }
}

#[test]
fn a_reader_that_has_enough() {
    let script = "curl -s http://$S/20000000 | head -c 10 | od -c; echo ${PIPESTATUS[@]}";
    let seen = assert_unchanged(serving(Transport::Mptcp), script);
    assert!(seen.stdout.contains("23 0 0"), "{seen:?}");
}

#[test]
fn ordinary_answers() {
    for transport in [Transport::Mptcp, Transport::Tcp] {
        let script =
            "for path in / 0 1 1000 300000 nothing slow/1000; do curl -sSi http://$S/$path | sha256sum; done; \
             curl -sS -I http://$S/10; curl -sS -d hello http://$S/ | cut -c1-90; curl -sS http://$V6/20 | od -c";
        assert_unchanged(serving(transport), script);
    }
}

#[test]
fn kept_alive_connections() {
    assert_unchanged(
        serving(Transport::Mptcp),
        "curl -sS -w '%{num_connects} ' \"http://$S/[1-20]\" | md5sum",
    );
}

#[test]
fn times_are_masked_and_nothing_else() {
    assert_eq!(mask_times("after 58 ms: 7 (58)\n"), "after N ms: 7 (58)\n");
}

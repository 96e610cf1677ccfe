//! The shim in a real program, through the engine's relay over the kernel's TCP, between two namespaces: what the program sees must be what it sees without us.
//! `c-tests/` compares call by call; here are the things that only a whole process shows.

#[path = "../link/netns.rs"]
#[allow(dead_code)]
mod netns;

mod host;

use host::{Host, Run};
use std::io::{BufRead, BufReader, Read};

/// Runs a scenario without and with the library; both must print the same, and the library must have carried `carried` connections.
fn compare(scenario: &str, carried: usize) {
    let host = Host::new();
    let plain = host.run(Run::Plain, scenario, &[]);
    let shimmed = host.run(Run::Preloaded, scenario, &[]);
    assert!(plain.status.success(), "{scenario} fails by itself: {plain:?}");
    let [expected, seen] = [&plain, &shimmed].map(|run| String::from_utf8_lossy(&run.stdout));
    assert_eq!(expected, seen, "{scenario}: {}", shimmed.stderr);
    assert_eq!(plain.status, shimmed.status, "{scenario}: {}", shimmed.stderr);
    assert_eq!(shimmed.carried(), carried, "{scenario}: {}", shimmed.stderr);
}

#[test]
fn starting_the_engine_leaves_no_trace_in_the_program() {
    compare("start", 1);
}

#[test]
fn a_program_that_closed_all_descriptors_connects() {
    compare("closed", 1);
}

#[test]
fn forked_and_executed_programs_know_the_connection() {
    compare("fork_exec", 1);
}

#[test]
fn a_thread_blocked_in_a_hook_can_be_cancelled() {
    compare("cancel", 1);
}

#[test]
fn stdio_works_on_the_descriptor() {
    compare("stdio", 1);
}

#[test]
fn a_socket_connects_again_after_failure_and_disconnect() {
    compare("again", 2);
}

#[test]
fn system_calls_by_number_are_hooked() {
    compare("by_number", 1);
}

#[test]
fn a_reset_is_an_error_before_it_is_a_signal() {
    compare("reset", 1);
}

#[test]
fn epoll_registrations_survive_connecting() {
    compare("watched", 1);
}

#[test]
fn behind_a_filter_that_kills_nothing_but_the_programs_own_calls_is_made() {
    compare("confined", 1);
}

#[test]
fn in_a_chroot_a_running_engine_is_used_and_otherwise_the_kernel() {
    let host = Host::new();
    let root = host.scratch().join("root");
    std::fs::create_dir_all(&root).expect("a directory");
    let root = root.to_str().expect("a path in UTF-8");
    let plain = host.run(Run::Plain, "rooted", &[root]);
    assert!(plain.status.success(), "{plain:?}");
    let alone = host.run(Run::Preloaded, "rooted", &[root]);
    assert_eq!(plain.stdout, alone.stdout, "{}", alone.stderr);
    assert_eq!(alone.carried(), 0, "{}", alone.stderr);
    assert!(
        alone.stderr.contains("the engine's file cannot be reached"),
        "{}",
        alone.stderr
    );
    let first = host.run(Run::Preloaded, "stdio", &[]);
    assert_eq!(first.carried(), 1, "{}", first.stderr);
    let second = host.run(Run::Preloaded, "rooted", &[root]);
    assert_eq!(plain.stdout, second.stdout, "{}", second.stderr);
    assert_eq!(second.carried(), 1, "{}", second.stderr);
}

#[test]
fn turned_off_everything_is_the_kernels() {
    let host = Host::new();
    let plain = host.run(Run::Plain, "start", &[]);
    let off = host.run(Run::Off, "start", &[]);
    assert_eq!((plain.stdout, plain.status), (off.stdout, off.status));
    assert_eq!(off.stderr, "");
}

#[test]
fn curl_gets_what_it_gets_from_the_kernel() {
    let host = Host::new();
    let [plain, shimmed] = [Run::Plain, Run::Preloaded].map(|run| host.curl(run, "/1000000"));
    assert!(plain.status.success(), "{plain:?}");
    assert_eq!(plain.stdout.len(), 1_000_000);
    assert!(plain.stdout == shimmed.stdout, "other bytes: {}", shimmed.stderr);
    assert_eq!(shimmed.carried(), 1, "{}", shimmed.stderr);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_dead_engine_is_a_reset_even_for_a_raw_read() {
    let host = Host::new();
    let mut child = host.spawn(Run::Preloaded, "orphaned", &[]);
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while line != "ready\n" {
        line.clear();
        assert_ne!(
            output.read_line(&mut line).expect("output"),
            0,
            "the program ended early"
        );
    }
    host.kill_engine();
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("output");
    assert_eq!(rest, "read: Connection reset by peer\n");
    assert!(child.wait().expect("the program ends").success());
}

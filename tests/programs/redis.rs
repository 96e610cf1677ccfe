//! Redis and redis-benchmark.

use crate::run::{compare, Role, Run};

const SERVER: [&str; 8] = [
    "redis-server",
    "--port",
    "6379",
    "--protected-mode",
    "no",
    "--save",
    "",
    "--daemonize",
];

/// A large value makes a join worth it; the benchmark's rates are masked, its tests and errors are not.
fn session(run: &Run, address: &str) -> String {
    run.stream_file(2_000_000);
    format!(
        "redis-cli -h {address} -x set large < 2000000; redis-cli -h {address} get large | sha256sum
         redis-cli -h {address} client list | grep -o ' addr=[0-9.]*'; redis-cli -h {address} --no-raw incr counter
         redis-benchmark -h {address} -q -n 5000 -c 50 -P 4 -t ping,set,get,lpush,lrange_100 | tr '\\r' '\\n' |
           grep 'per second' | cut -d: -f1
         redis-cli -h {address} dbsize"
    )
}

#[test]
#[ignore = "make programs"]
fn redis_server_under_its_benchmark() {
    compare(Role::Server, |run| {
        let _redis = run.serve(6379, &[&SERVER[..], &["no"]].concat());
        run.ask(&["bash", "-c", &session(run, &run.subject_address())])
    });
}

#[test]
#[ignore = "make programs"]
fn redis_clients() {
    compare(Role::Client, |run| {
        let _redis = run.serve_peer(6379, &[&SERVER[..], &["no"]].concat());
        run.run(&["bash", "-c", &session(run, &run.peer_address())])
    });
}

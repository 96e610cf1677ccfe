//! rsync, as daemon and client.

use crate::run::{compare, Role, Run};

fn daemon(run: &Run) -> [String; 5] {
    let directory = run.directory();
    run.stream_file(3_000_000);
    let configuration = run.file(
        "rsyncd.conf",
        &format!(
            "log file = {directory}/rsyncd.log\npid file = {directory}/rsyncd.pid\nuse chroot = yes\nuid = root\ngid = root
             [data]\npath = {directory}/data\nread only = no\n"
        ),
    );
    let prepare =
        "mkdir -p data/sub; ln 3000000 data/; echo small > data/sub/small; touch -d @1 data/sub/small data/sub data";
    assert_eq!(run.output(run.helper(&["bash", "-c", prepare])), "[exit status: 0]\n");
    ["rsync", "--daemon", "--no-detach", "--config", &configuration].map(String::from)
}

/// Lists, fetches, changes, sends back.
fn session(address: &str) -> String {
    format!(
        "rsync rsync://{address}/; rsync -r --out-format='%o %n %l' rsync://{address}/data/ got/; sha256sum got/3000000 got/sub/small
         echo more >> got/3000000; echo new > got/new
         rsync -r --no-whole-file --out-format='%o %n %l' got/ rsync://{address}/data/; sha256sum data/3000000 data/new
         rsync -r --dry-run --size-only --out-format='%n' got/ rsync://{address}/data/; rsync rsync://{address}/none/; echo $?; rm -r got"
    )
}

/// Addresses and what was done, without dates and process ids.
fn log(run: &Run) -> String {
    let log = run.read("rsyncd.log");
    let lines = log
        .lines()
        .filter_map(|line| line.split_once("] ").map(|(_, said)| said));
    let lines = lines.filter(|said| !said.starts_with("sent ") && !said.starts_with("rsyncd version"));
    lines.map(|said| format!("{said}\n")).collect()
}

#[test]
#[ignore = "make programs"]
fn rsync_daemon() {
    compare(Role::Server, |run| {
        let words = daemon(run);
        let _daemon = run.serve(873, &words.each_ref().map(String::as_str));
        run.ask(&["bash", "-c", &session(&run.subject_address())]) + &log(run)
    });
}

#[test]
#[ignore = "make programs"]
fn rsync_client() {
    compare(Role::Client, |run| {
        let words = daemon(run);
        let _daemon = run.serve_peer(873, &words.each_ref().map(String::as_str));
        run.run(&["bash", "-c", &session(&run.peer_address())]) + &log(run)
    });
}

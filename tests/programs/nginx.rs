//! nginx: a master of root's, workers of another user's.

use crate::run::{compare, eventually, signal, Process, Role, Run};
use rustix::process::Signal;

pub const LEN: u64 = 3_000_000;

/// A configuration with one `server` block.
///
/// nginx clears its environment; a new binary needs the library to accept on the sockets of the old.
pub fn configure(run: &Run, http: &str, server: &str) -> String {
    let directory = run.directory();
    let text = format!(
        "env LD_PRELOAD; user www-data; worker_processes 2; pid {directory}/nginx.pid; error_log {directory}/error.log;
         worker_shutdown_timeout 10s; events {{ worker_connections 1024; }}
         http {{ log_format short '$remote_addr $server_addr $request $status $body_bytes_sent';
           access_log {directory}/access.log short; sendfile on; tcp_nopush on; client_body_temp_path {directory}/body;
           proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fcgi; uwsgi_temp_path {directory}/uwsgi;
           scgi_temp_path {directory}/scgi; {http}
           server {{ listen 80; listen [::]:80; root {directory}; {server} }} }}"
    );
    run.file("nginx.conf", &text)
}

/// The master stays a child of the test's.
pub fn serve(run: &Run, configuration: &str) -> Process {
    run.serve(80, &["nginx", "-g", "daemon off;", "-c", configuration])
}

/// Many requests over one connection, and one of the many bytes that make a join worth it; what curl says, and a hash of all bytes.
fn fetch(run: &Run) -> String {
    let script = format!(
        "curl -sS -w '%{{num_connects}} %{{http_code}}\\n' -o /dev/null http://$S/[1-5]00 -o /dev/null http://$S/{LEN} -o /dev/null http://$S/nothing
         curl -sS http://$S/{LEN} | sha256sum; curl -sS -I http://$S/{LEN} | grep -v -e Date -e Last-Modified -e ETag",
    );
    run.ask(&["env", &format!("S={}", run.subject_address()), "bash", "-c", &script])
}

fn files(run: &Run) {
    run.stream_file(LEN);
    (1..=5).for_each(|hundred| drop(run.stream_file(hundred * 100)));
}

/// What went wrong, without dates and directories.
fn errors(run: &Run) -> String {
    let log = run.read("error.log");
    let lines = log.lines().filter(|line| !line.contains("[notice]"));
    lines
        .filter_map(|line| line.rsplit_once("\" "))
        .map(|(_, what)| format!("{what}\n"))
        .collect()
}

pub fn workers(run: &Run) -> Vec<i32> {
    run.processes("nginx")
}

#[test]
fn nginx_serves_files_and_reloads() {
    compare(Role::Server, |run| {
        files(run);
        let configuration = configure(run, "", "");
        let mut nginx = serve(run, &configuration);
        let mut said = fetch(run);
        let before = workers(run);
        nginx.signal(Signal::HUP);
        eventually("the workers are others", || {
            let now = workers(run);
            now.len() == before.len() && now.iter().filter(|pid| before.contains(pid)).count() == 1
        });
        said += &fetch(run);
        nginx.signal(Signal::QUIT);
        nginx.wait();
        // Refused: nobody listens any more.
        let url = format!("http://{}/", run.subject_address());
        said += &run.ask(&["curl", "-s", &url]);
        said + &run.read("access.log") + &errors(run)
    });
}

#[test]
fn nginx_is_a_proxy() {
    compare(Role::Server, |run| {
        files(run);
        let upstream = format!(
            "upstream u {{ server {}:8000; keepalive 4; }} proxy_http_version 1.1;",
            run.peer_address()
        );
        let configuration = configure(
            run,
            &upstream,
            "location / { proxy_pass http://u; proxy_set_header Connection ''; proxy_buffering off; }",
        );
        let _upstream = run.serve_peer(8000, &["python3", "-m", "http.server", "8000"]);
        let _nginx = serve(run, &configuration);
        fetch(run) + &run.read("access.log") + &errors(run)
    });
}

/// SIGUSR2 starts a new binary, which gets the listening sockets by exec; SIGQUIT ends the old one.
#[test]
fn nginx_is_upgraded_in_its_running() {
    compare(Role::Server, |run| {
        files(run);
        let configuration = configure(run, "", "");
        // The new master must not be waited for.
        let _nginx = run.serve(80, &["/usr/sbin/nginx", "-c", &configuration]);
        let pid = |name: &str| run.read(name).trim().parse::<i32>().ok();
        eventually("a master", || pid("nginx.pid").is_some());
        let old = pid("nginx.pid").expect("a process id");
        let mut said = fetch(run);
        signal(old, Signal::USR2);
        eventually("a new master", || pid("nginx.pid").is_some_and(|new| new != old));
        said += &fetch(run);
        signal(old, Signal::QUIT);
        eventually("the old one goes", || !workers(run).contains(&old));
        said += &fetch(run);
        said + &run.read("access.log") + &errors(run)
    });
}

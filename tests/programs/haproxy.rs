//! HAProxy, between a client and a server that are both on the other host; it speaks HTTP and plain bytes, and reloads.

use crate::run::{compare, eventually, Role, Run};
use rustix::process::Signal;

fn configure(run: &Run) -> String {
    run.file(
        "haproxy.cfg",
        &format!(
            "global\n  maxconn 500\n  user haproxy\n  stats socket {directory}/stats level admin expose-fd listeners
defaults\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  option splice-auto
frontend web\n  bind :80\n  mode http\n  option forwardfor\n  default_backend files
backend files\n  mode http\n  http-reuse always\n  server one {peer}:8000\n  server two {peer}:8000
listen raw\n  bind :8001\n  mode tcp\n  server one {peer}:8000\n",
            directory = run.directory(),
            peer = run.peer_address(),
        ),
    )
}

#[test]
#[ignore = "make programs"]
fn haproxy_forwards_and_reloads() {
    compare(Role::Server, |run| {
        run.stream_file(3_000_000);
        run.stream_file(100);
        let configuration = configure(run);
        let http = run.serve_peer(8000, &["python3", "-u", "-m", "http.server", "8000"]);
        let haproxy = run.serve(80, &["haproxy", "-W", "-q", "-f", &configuration]);
        let fetch = || {
            let script = "for port in 80 8001; do
                   curl -sS -w '%{num_connects} %{http_code}\n' -o /dev/null http://$S:$port/3000000 -o /dev/null http://$S:$port/100
                   curl -sS http://$S:$port/3000000 | sha256sum; curl -sS -I http://$S:$port/100 | head -n 1
                 done";
            run.ask(&["env", &format!("S={}", run.subject_address()), "bash", "-c", script])
        };
        let mut said = fetch();
        let before = run.processes("haproxy");
        haproxy.signal(Signal::USR2);
        eventually("the worker is another", || {
            let now = run.processes("haproxy");
            now.len() == before.len() && now.iter().filter(|pid| before.contains(pid)).count() == 1
        });
        said += &fetch();
        let asked = http
            .output()
            .lines()
            .filter(|line| line.starts_with("192.0.2.2 - -"))
            .count();
        said + &asked.to_string()
    });
}

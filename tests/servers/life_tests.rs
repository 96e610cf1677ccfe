//! Lives of servers and of engines.

use crate::lab::server_address;
use crate::site::{eventually, kill, Client, Site};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const SERVE: [&str; 5] = ["python3", "-u", "-m", "http.server", "8000"];

fn url() -> String {
    format!("http://{}:8000/1000", server_address(0, false))
}

#[test]
fn a_new_engine_takes_the_listeners_over() {
    let site = Site::new();
    site.stream_file(1000);
    let mut server = site.serve(8000, &SERVE);
    site.fetch(Client::Kernel, &url(), 1000);
    for name in ["mptcp-engine", "mptcp-keeper", "mptcp-engine"] {
        let before = site.processes(name);
        assert_eq!(before.len(), 1, "{name}");
        kill(before[0]);
        eventually("a new one", || {
            let now = site.processes(name);
            now.len() == 1 && now != before
        });
        let mptcp = site.mptcp();
        site.fetch(Client::Kernel, &url(), 1000);
        assert_eq!(site.mptcp(), mptcp + 1, "{name}");
    }
    server.terminate();
    assert_eq!(site.curl_code(Client::Plain, &url()), Some(7), "refused");
    eventually("the engine forgets it", || {
        site.log().contains("nobody listens at 0.0.0.0:8000 any more")
    });
}

/// What the program holds of an engine that dies is reset, on both sides.
#[test]
fn connections_of_a_dead_engine_are_reset() {
    let site = Site::new();
    let program = site.file(
        "reader.py",
        "import socket
s = socket.socket(); s.bind(('', 8000)); s.listen()
c, a = s.accept(); print(a[0], c.getpeername()[0], c.getsockname(), flush=True)
print(c.recv(5), flush=True)
try: print(c.recv(5), flush=True)
except OSError as e: print(e.errno, flush=True)
",
    );
    let server = site.serve(8000, &["python3", "-u", &program]);
    let talk = "import socket, sys
c = socket.create_connection(('192.0.2.2', 8000)); c.send(b'hello'); print('sent', flush=True)
sys.stdin.readline()
try:
    for _ in range(100): c.send(b'more'); __import__('time').sleep(0.05)
except OSError as e: print(e.errno, flush=True)";
    let mut command = site.client(Client::Plain, &["python3", "-u", "-c", talk]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = command.spawn().expect("timeout(1)");
    let mut said = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    assert_eq!(said.next().expect("a line").expect("text"), "sent");
    eventually("it was read", || server.output().contains("b'hello'"));
    kill(site.processes("mptcp-engine")[0]);
    eventually("the server is told", || {
        server.output().trim_end().ends_with(&libc::ECONNRESET.to_string())
    });
    assert!(
        server.output().contains("192.0.2.1 192.0.2.1 ('192.0.2.2', 8000)"),
        "{}",
        server.output()
    );
    drop(client.stdin.take());
    let errno: i32 = said.next().expect("a line").expect("text").parse().expect("a number");
    assert!([libc::ECONNRESET, libc::EPIPE].contains(&errno), "{errno}");
    client.wait().expect("a child");
}

#[test]
fn children_serve_and_exec_of_a_program_without_library_is_served_too() {
    let site = Site::new();
    site.stream_file(1000);
    // socat forks for each connection; its child executes cat with the connection as standard input and output.
    let _server = site.serve(
        9000,
        &["socat", "TCP4-LISTEN:9000,fork,reuseaddr", "EXEC:cat 1000,nofork"],
    );
    for client in [Client::Kernel, Client::Plain, Client::Own] {
        let read = "exec 3<>/dev/tcp/192.0.2.2/9000; exec cat <&3";
        let output = site.client(client, &["bash", "-c", read]).output().expect("timeout(1)");
        assert_eq!(output.stdout, crate::site::bytes(1000), "{client:?}");
    }
    assert_eq!(site.mptcp(), 1);
}

//! Lives of servers and of engines.

use crate::lab::{clock, server_address};
use crate::site::{eventually, kill, Client, Site};
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
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
        for name in ["mptcp-engine", "mptcp-keeper"] {
            let status = std::fs::read_to_string(format!("/proc/{}/status", site.processes(name)[0]));
            let status = status.expect("it lives");
            let confined = status.lines().any(|line| line.replace('\t', " ") == "Seccomp: 2");
            assert!(confined, "{name}: {status}");
        }
    }
    server.terminate();
    assert_eq!(site.curl_code(Client::Plain, &url()), Some(7), "refused");
    eventually("the engine forgets it", || {
        site.log().contains("nobody listens at 0.0.0.0:8000 any more")
    });
}

/// Where both are killed at once nobody is left who knows of the listener but the program, which learns of it by its connections.
#[test]
fn a_program_whose_engine_and_keeper_were_killed_at_once_starts_others() {
    let site = Site::new();
    let program = site.file(
        "serve.py",
        "import socket, threading
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 8000)); s.listen()
def serve(c):
    try:
        while data := c.recv(100): c.sendall(data)
    except ConnectionResetError: print('reset', flush=True)
while True: threading.Thread(target=serve, args=[s.accept()[0]]).start()
",
    );
    let server = site.serve(8000, &["python3", "-u", &program]);
    let ask = "import socket, sys
c = socket.create_connection(('192.0.2.2', 8000), 20); c.sendall(b'hello'); print(c.recv(5), flush=True)
sys.stdin.readline()";
    let talk = || {
        let mptcp = site.mptcp();
        let mut command = site.client(Client::Kernel, &["python3", "-u", "-c", ask]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("timeout(1)");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let first = said.next().expect("a line").expect("text");
        assert_eq!(first, "b'hello'", "{}\n{}", server.output(), site.log());
        assert_eq!(site.mptcp(), mptcp + 1);
        child
    };
    let mut first = talk();
    let ours = ["mptcp-keeper", "mptcp-engine"].map(|name| site.processes(name)[0]);
    for signal in [rustix::process::Signal::STOP, rustix::process::Signal::KILL] {
        for pid in ours {
            let pid = rustix::process::Pid::from_raw(pid).expect("a process");
            rustix::process::kill_process(pid, signal).expect("it lives");
        }
    }
    eventually("the program is told", || server.output().contains("reset"));
    let mut second = talk();
    for name in ["mptcp-keeper", "mptcp-engine"] {
        assert_eq!(site.processes(name).len(), 1, "{name}");
    }
    for child in [&mut first, &mut second] {
        drop(child.stdin.take());
        child.wait().expect("a child");
    }
}

/// Nothing is looked at now and then, not even whether the program still listens.
#[test]
fn the_engine_of_a_server_without_clients_sleeps() {
    let site = Site::new();
    let words = [&["MPTCP_IDLE_MS=200"], &SERVE[..]].concat();
    let mut server = site.serve(8000, &words);
    eventually("the engine knows of it", || {
        site.log().contains("listens at 0.0.0.0:8000")
    });
    let engine = site.processes("mptcp-engine")[0];
    let timers = || -> Vec<String> {
        let infos = std::fs::read_dir(format!("/proc/{engine}/fdinfo")).expect("it lives");
        let infos = infos.filter_map(|info| std::fs::read_to_string(info.ok()?.path()).ok());
        let lines = infos.flat_map(|info| info.lines().map(str::to_string).collect::<Vec<_>>());
        lines.filter(|line| line.starts_with("it_value")).collect()
    };
    eventually("no timer is set", || timers() == ["it_value: (0, 0)"]);
    eventually("a second passes without a wake-up", || {
        site.engine()
            .wakeups_in(std::time::Duration::from_secs(1))
            .expect("/proc")
            == 0
    });
    server.terminate();
    eventually("it ends", || site.processes("mptcp-engine").is_empty());
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

/// A kernel's MPTCP would wait for a minute after a plain reset. Most of these connections say nothing when the engine dies, and none is asked.
#[test]
fn peers_of_a_dead_engine_are_told_by_mp_fastclose() {
    const CONNECTIONS: usize = 20;
    let site = Site::new();
    let program = site.file(
        "echo.py",
        "import asyncio
async def serve(reader, writer):
    try:
        while data := await reader.read(1000): writer.write(data); await writer.drain()
    except ConnectionError: print('reset', flush=True)
    writer.close()
async def main():
    await (await asyncio.start_server(serve, '', 8000)).serve_forever()
asyncio.run(main())
",
    );
    let server = site.serve(8000, &["python3", "-u", &program]);
    let talk = format!(
        "import select, socket, sys
held = [socket.create_connection(('192.0.2.2', 8000)) for _ in range({CONNECTIONS})]
for c in held: c.sendall(b'hello'); assert c.recv(5) == b'hello'
print('all there', flush=True)
for c in held:
    try: print('data', c.recv(5), flush=True)
    except OSError as e: print(e.errno, flush=True)"
    );
    let mut resets = 0;
    for client in [Client::Kernel, Client::Library, Client::Plain] {
        let fastcloses = site.fastcloses();
        let mut command = site.client(client, &["python3", "-u", "-c", &talk]);
        command.stdout(Stdio::piped());
        let mut child = command.spawn().expect("timeout(1)");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut line = || said.next().expect("a line").expect("text");
        assert_eq!(line(), "all there");
        if client == Client::Kernel {
            eventually("joins", || site.log().matches("subflow 1 ").count() >= CONNECTIONS);
        }
        let engines = site.processes("mptcp-engine");
        kill(engines[0]);
        let start = clock::now();
        for _ in 0..CONNECTIONS {
            assert_eq!(line(), libc::ECONNRESET.to_string(), "{client:?}");
        }
        println!(
            "{client:?}: the last of {CONNECTIONS} was told after {:?}",
            clock::now() - start
        );
        child.wait().expect("a child");
        if client == Client::Kernel {
            assert!(site.fastcloses() > fastcloses, "{}", site.log());
        }
        resets += CONNECTIONS;
        eventually("the server is told", || {
            server.output().matches("reset").count() == resets
        });
    }
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

/// By a system call that no hook sees, which is what io_uring amounts to.
#[test]
fn what_is_accepted_behind_the_librarys_back_works_too() {
    let site = Site::new();
    let unhooked = site.file(
        "unhooked.py",
        "import socket, sys
s = socket.socket(fileno=int(sys.argv[1]))
while True:
    c, a = s.accept(); print(a[0], flush=True); c.sendall(c.recv(100)); c.close()
",
    );
    let program = site.file(
        "listen.py",
        "import os, socket, sys
s = socket.socket(); s.bind(('', 8000)); s.listen()
os.set_inheritable(s.fileno(), True)
env = dict(os.environ); del env['LD_PRELOAD']
os.execve(sys.executable, [sys.executable, '-u', sys.argv[1], str(s.fileno())], env)
",
    );
    let server = site.serve(8000, &["python3", "-u", &program, &unhooked]);
    let talk = "exec 3<>/dev/tcp/192.0.2.2/8000; echo hello >&3; exec cat <&3";
    for client in [Client::Kernel, Client::Plain, Client::Own] {
        let output = site.client(client, &["bash", "-c", talk]).output().expect("timeout(1)");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "hello\n", "{client:?}: {}", server.output());
    }
    assert_eq!(site.log().matches("was accepted without the library").count(), 2);
    // Not 127.0.0.1, which access lists trust; the third is this host's own client.
    let output = server.output();
    let peers: Vec<&str> = output.lines().filter(|line| line.parse::<IpAddr>().is_ok()).collect();
    assert_eq!(peers, ["127.77.84.80", "127.77.84.80", "192.0.2.2"], "{output}");
}

//! Listening sockets that get to other programs, users and services.

use crate::lab::{server_address, Cgroup};
use crate::site::{eventually, kill, Client, Server, Site};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Serves on a listening socket that it did not make: says who came, and sends back what it got.
const SERVE: &str = "
def serve(s):
    while True:
        c, a = s.accept()
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print('from', a[0], c.getpeername()[0], c.getsockname()[0], c.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), flush=True)
        c.sendall(c.recv(100)); c.close()
";

/// The system's: every user may execute it.
const PYTHON: &str = "/usr/bin/python3";
/// A user without any privilege, and another one.
const NOBODY: &str = "65534";
const SOMEBODY: &str = "65533";

/// Asks a server of [`SERVE`]'s as every kind of client, and looks what it saw of them.
fn ask_all(site: &Site, server: &Server, port: u16) {
    let talk = format!("exec 3<>/dev/tcp/192.0.2.2/{port}; echo hello >&3; exec cat <&3");
    let clients = [Client::Kernel, Client::Plain, Client::Library, Client::Own];
    let mptcp = site.mptcp();
    for client in clients {
        let output = site
            .client(client, &["bash", "-c", &talk])
            .output()
            .expect("timeout(1)");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "hello\n", "{client:?}: {}\n{}", server.output(), site.log());
    }
    assert_eq!(site.mptcp(), mptcp + 1, "{}", site.log());
    let output = server.output();
    let seen: Vec<&str> = output.lines().filter(|line| line.starts_with("from ")).collect();
    let from = |address: &str| format!("from {address} {address} 192.0.2.2 1");
    let other = from("192.0.2.1");
    assert_eq!(seen, [&other[..], &other, &other, &from("192.0.2.2")], "{output}");
    assert!(!site.log().contains("was accepted without the library"));
}

/// As a service manager does it, which runs under the library itself: the service is another program, and another user who has become so before
/// it was executed.
#[test]
fn a_socket_of_a_parent_with_the_library_is_served_by_every_user() {
    for user in ["0", NOBODY] {
        let site = Site::new();
        let service = site.file(
            "service.py",
            &format!(
                "import os, socket{SERVE}
assert os.environ['LISTEN_FDS'] == '1' and os.environ['LISTEN_PID'] == str(os.getpid())
s = socket.socket(fileno=3); s.listen(7); serve(s)"
            ),
        );
        let manager = site.file(
            "manager.py",
            "import os, socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 8000)); s.listen()
pid = os.fork()
if pid == 0:
    if s.fileno() != 3: os.dup2(s.fileno(), 3)
    os.set_inheritable(3, True)
    if sys.argv[2] != '0': os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
    os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
    os.execv(sys.executable, [sys.executable, '-u', sys.argv[1]])
os.waitpid(pid, 0)
",
        );
        site.open_directory();
        let server = site.serve(8000, &[PYTHON, "-u", &manager, &service, user]);
        ask_all(&site, &server, 8000);
        // One engine: the service has none of its own.
        assert_eq!(site.processes("mptcp-engine").len(), 1, "user {user}");
    }
}

/// Both users are ordinary ones, so neither is believed by the other for what he is.
#[test]
fn a_listening_socket_can_be_passed_to_another_user() {
    let site = Site::new();
    site.open_directory();
    let program = site.file(
        "pass.py",
        &format!(
            "import os, socket, sys{SERVE}
u = socket.socket(socket.AF_UNIX)
if sys.argv[1] == 'give':
    u.bind('passed'); os.chmod('passed', 0o777); u.listen()
    s = socket.socket(); s.bind(('', 8000)); s.listen()
    c, _ = u.accept(); socket.send_fds(c, [b'x'], [s.fileno()]); s.close()
    c.recv(1)
else:
    u.connect('passed')
    serve(socket.socket(fileno=socket.recv_fds(u, 1, 1)[1][0]))
"
        ),
    );
    let caps = "+net_raw,+net_admin";
    let as_user = |user: &'static str, caps: &'static str| {
        [
            "setpriv",
            "--reuid",
            user,
            "--regid",
            user,
            "--clear-groups",
            "--inh-caps",
            caps,
            "--ambient-caps",
            caps,
        ]
    };
    let give = [&as_user(NOBODY, caps)[..], &[PYTHON, "-u", &program, "give"]].concat();
    let _giver = site.serve(8000, &give);
    eventually("the engine knows of it", || {
        site.log().contains("listens at 0.0.0.0:8000")
    });
    let take = [&as_user(SOMEBODY, "-all")[..], &[PYTHON, "-u", &program, "take"]].concat();
    let taker = site.serve(8000, &take);
    ask_all(&site, &taker, 8000);
    assert_eq!(site.processes("mptcp-engine").len(), 1);
}

/// A service manager ends one service by killing its cgroup.
#[test]
fn the_end_of_one_service_leaves_the_other_ones_connections() {
    let site = Site::new();
    let groups = [Cgroup::new("first"), Cgroup::new("second")];
    let program = site.file(
        "echo.py",
        "import socket, sys, threading
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', int(sys.argv[1]))); s.listen()
def echo(c):
    while data := c.recv(1000): c.sendall(data)
while True: threading.Thread(target=echo, args=[s.accept()[0]], daemon=True).start()
",
    );
    let serve = |group: &Cgroup, port: u16| {
        let script = format!("echo $$ > {} && exec \"$@\"", group.procs().display());
        // Only what is executed in the group belongs to it: the shell has no library yet.
        let mut command = site.lab.server().command("bash");
        let library = format!("LD_PRELOAD={}", crate::lab::library().display());
        let log = format!("MPTCP_LOG_FILE={}", site.directory().join("engine.log").display());
        command
            .args(["-c", &script, "bash", "env", &library, &log, "python3", "-u", &program])
            .arg(port.to_string())
            .stdin(Stdio::null());
        site.start(port, command)
    };
    let _servers = [serve(&groups[0], 8001), serve(&groups[1], 8002)];
    eventually("two engines know of them", || {
        site.log().matches("listens at").count() == 2
    });
    assert_eq!(site.processes("mptcp-engine").len(), 2);
    let talk = "import socket, sys
def ask(c): c.sendall(b'hello'); assert c.recv(5) == b'hello'
c = [socket.create_connection(('192.0.2.2', port)) for port in (8001, 8002)]
for s in c: ask(s)
print('both there', flush=True); sys.stdin.readline()
ask(c[1]); ask(socket.create_connection(('192.0.2.2', 8002)))
print('served', flush=True)
try: socket.create_connection(('192.0.2.2', 8001))
except OSError as e: print(e.errno, flush=True)
";
    let mut command = site.client(Client::Kernel, &["python3", "-u", "-c", talk]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = command.spawn().expect("timeout(1)");
    let mut said = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    let mut line = || said.next().expect("a line").expect("text");
    assert_eq!(line(), "both there");
    let killed = groups[0].kill();
    assert!(killed >= 3, "program, engine and keeper: {killed}");
    eventually("the first port is free", || !site.listens(8001));
    drop(client.stdin.take());
    assert_eq!(line(), "served", "{}", site.log());
    assert_eq!(line(), libc::ECONNREFUSED.to_string());
    client.wait().expect("a child");
    eventually("one engine is left", || site.processes("mptcp-engine").len() == 1);
}

/// Requests that come while there is no engine wait for the next one: nobody starts another, which would know of no listening socket.
#[test]
fn no_program_gets_between_an_engine_and_its_successor() {
    const DEATHS: usize = 10;
    let site = Site::new();
    site.stream_file(1000);
    let _server = site.serve(8000, &["python3", "-u", "-m", "http.server", "8000"]);
    // A port where nobody listens: each try is a request to the engine.
    let knock = "import socket
while True:
    s = socket.socket()
    try: s.connect(('192.0.2.1', 9))
    except OSError: pass
    s.close()";
    let _knocking = [0, 1].map(|_| site.serve(8000, &["python3", "-c", knock]));
    let engine = || match site.processes("mptcp-engine")[..] {
        [engine] => Some(engine),
        _ => None,
    };
    for _ in 0..DEATHS {
        let mut before = None;
        eventually("one engine", || {
            before = engine();
            before.is_some()
        });
        kill(before.expect("found"));
        eventually("a new one", || engine().is_some_and(|now| Some(now) != before));
        let mptcp = site.mptcp();
        let url = format!("http://{}:8000/1000", server_address(0, false));
        site.fetch(Client::Kernel, &url, 1000);
        assert_eq!(site.mptcp(), mptcp + 1, "{}", site.log());
    }
    assert_eq!(
        site.log().matches(" serves as process ").count(),
        DEATHS + 1,
        "{}",
        site.log()
    );
}

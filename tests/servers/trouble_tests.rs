//! Servers and engines in trouble: killed while they are busy, out of descriptors, stopped, closed in the middle of a call.

use crate::lab::{clock, server_address};
use crate::site::{eventually, kill, Client, Site};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const ECHO: &str = "import asyncio
async def serve(reader, writer):
    try:
        while data := await reader.read(1000): writer.write(data); await writer.drain()
    except ConnectionError: pass
    writer.close()
async def main():
    await (await asyncio.start_server(serve, '0.0.0.0', 8000, backlog=200)).serve_forever()
asyncio.run(main())
";

/// So many clients, each asking without a pause. One that is reset says so, and how soon another connection answers.
const BUSY: usize = 40;
const ASK: &str = "import asyncio, sys, time
async def ask(reader, writer):
    writer.write(b'hello'); await writer.drain()
    data = await reader.readexactly(5)
async def client(busy):
    c = await asyncio.open_connection('192.0.2.2', 8000)
    try:
        await ask(*c); busy.release()
        while True: await ask(*c)
    except ConnectionResetError: print('reset', flush=True)
    except asyncio.IncompleteReadError: print('end', flush=True)
    start = time.monotonic()
    c = await asyncio.open_connection('192.0.2.2', 8000); await ask(*c)
    print('again', int((time.monotonic() - start) * 1000), flush=True)
async def main(number):
    busy = asyncio.Semaphore(0)
    clients = [asyncio.create_task(client(busy)) for _ in range(number)]
    for _ in clients: await busy.acquire()
    print('busy', flush=True)
    await asyncio.gather(*clients)
asyncio.run(main(int(sys.argv[1])))
";

#[test]
fn every_client_of_an_engine_that_is_killed_is_reset_and_served_by_the_next() {
    let site = Site::new();
    let program = site.file("echo.py", ECHO);
    let _server = site.serve(8000, &["python3", "-u", &program]);
    for client in [Client::Kernel, Client::Library, Client::Plain] {
        let mut command = site.client(client, &["python3", "-u", "-c", ASK, &BUSY.to_string()]);
        command.stdout(Stdio::piped());
        let mut child = command.spawn().expect("timeout(1)");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert_eq!(said.next().expect("a line").expect("text"), "busy", "{client:?}");
        // That of this host's own, where the clients have one on theirs.
        let engines = site.processes("mptcp-engine");
        assert_eq!(engines.len(), 1);
        kill(engines[0]);
        let start = clock::now();
        let mut reset_after = None;
        let said: Vec<String> = said
            .map(|line| line.expect("text"))
            .inspect(|line| {
                if line == "reset" {
                    reset_after = Some(clock::now() - start);
                }
            })
            .collect();
        assert!(
            child.wait().expect("a child").success(),
            "{client:?}: {said:?}\n{}",
            site.log()
        );
        assert_eq!(
            said.iter().filter(|line| *line == "reset").count(),
            BUSY,
            "{client:?}: {said:?}"
        );
        let again = said
            .iter()
            .filter_map(|line| line.strip_prefix("again ")?.parse::<u64>().ok());
        println!(
            "{client:?}: the last of {BUSY} was reset after {reset_after:?}, the slowest of the next connections took {:?} ms",
            again.max()
        );
    }
}

/// One SYN from a port where nothing is that could send it again, and whether it is answered.
const ONE_SYN: &str = "import socket, struct
def sum16(b):
    s = sum(struct.unpack('!%dH' % (len(b) // 2), b)); s = (s >> 16) + (s & 0xffff); return ~(s + (s >> 16)) & 0xffff
r = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP); r.settimeout(20)
src, dst = socket.inet_aton('192.0.2.1'), socket.inet_aton('192.0.2.2')
tcp = struct.pack('!HHIIBBHHH', 1234, 8000, 7919, 0, 5 << 4, 2, 64240, 0, 0)
check = sum16(src + dst + struct.pack('!BBH', 0, 6, 20) + tcp)
r.sendto(tcp[:16] + struct.pack('!H', check) + tcp[18:], ('192.0.2.2', 0))
print('sent', flush=True)
while struct.unpack_from('!HHIIBB', r.recv(100), 20)[:4:3] != (8000, 7920): pass
print('answered', flush=True)
";

/// Who connects when an engine is dead and the next one not there need not send his SYN again.
#[test]
fn a_syn_that_no_engine_was_there_for_is_answered_by_the_next() {
    let site = Site::new();
    let program = site.file("echo.py", ECHO);
    let _server = site.serve(8000, &["python3", "-u", &program]);
    eventually("the engine knows of it", || {
        site.log().contains("listens at 0.0.0.0:8000")
    });
    let keeper = rustix::process::Pid::from_raw(site.processes("mptcp-keeper")[0]).expect("a process");
    let signal = |signal| rustix::process::kill_process(keeper, signal).expect("it lives");
    signal(rustix::process::Signal::STOP);
    kill(site.processes("mptcp-engine")[0]);
    eventually("it is dead", || site.processes("mptcp-engine").is_empty());
    let mut command = site.client(Client::Plain, &["python3", "-u", "-c", ONE_SYN]);
    command.stdout(Stdio::piped());
    let mut child = command.spawn().expect("timeout(1)");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert_eq!(said.next().expect("a line").expect("text"), "sent");
    // It takes 5 ms; where it takes longer it meets the next engine.
    std::thread::sleep(std::time::Duration::from_millis(100));
    signal(rustix::process::Signal::CONT);
    assert_eq!(
        said.next().expect("an answer").expect("text"),
        "answered",
        "{}",
        site.log()
    );
    child.wait().expect("a child");
}

/// accept() in many threads and processes at once: each connection is somebody's, once.
#[test]
fn threads_and_processes_accept_from_one_socket() {
    const CONNECTIONS: usize = 150;
    let site = Site::new();
    let program = site.file(
        "workers.py",
        "import os, socket, threading
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 8000)); s.listen(200)
def serve():
    while True:
        c, a = s.accept(); c.sendall(b'%s %d' % (a[0].encode(), c.getpeername()[1])); c.close()
for _ in range(100):
    if os.fork() == 0: break
for _ in range(4): threading.Thread(target=serve).start()
",
    );
    let _server = site.serve(8000, &["python3", "-u", &program]);
    let connect = format!(
        "import socket
from concurrent.futures import ThreadPoolExecutor
def ask(_):
    c = socket.create_connection(('192.0.2.2', 8000), 20); said = b''
    while data := c.recv(100): said += data
    return said == b'192.0.2.1 %d' % c.getsockname()[1]
with ThreadPoolExecutor(30) as pool: print(sum(pool.map(ask, range({CONNECTIONS}))))
"
    );
    for client in [Client::Kernel, Client::Plain, Client::Library] {
        let output = site
            .client(client, &["python3", "-c", &connect])
            .output()
            .expect("timeout(1)");
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            said.trim(),
            CONNECTIONS.to_string(),
            "{client:?}: {error}\n{}",
            site.log()
        );
    }
    assert!(
        !site.log().contains("was accepted without the library"),
        "{}",
        site.log()
    );
    let status = std::process::Command::new("kill")
        .args(site.processes("python3").iter().map(i32::to_string))
        .status();
    assert!(status.expect("kill(1)").success());
    eventually("the last worker's end frees the port", || !site.listens(8000));
}

/// The calls of a server around a listening socket that is closed: with kernel TCP, and under the library.
#[test]
fn a_listening_socket_that_is_closed_or_shut_down_in_the_middle_of_accept() {
    let program = "import errno, os, select, socket, sys, threading, time
def name(f):
    try: return f()
    except OSError as e: return errno.errorcode[e.errno]
def listener(port):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', port)); s.listen(); return s
def in_accept(port, act):
    s = listener(port); said = []
    t = threading.Thread(target=lambda: said.append(name(s.accept))); t.start()
    while open('/proc/self/task/%d/wchan' % t.native_id).read() in ('0', ''): time.sleep(0.01)
    time.sleep(0.1); act(s); t.join(10); print(said, flush=True); return s
s = in_accept(8000, lambda s: s.shutdown(socket.SHUT_RDWR))
print(name(s.accept), select.select([s], [s], [s], 0)[0] == [s], flush=True)
s.listen(); print(name(s.getsockname)); s.close()
s = listener(8001); s.setblocking(False); print(name(s.accept)); fd = s.fileno(); s.close()
s = listener(8001); e = select.epoll(); e.register(s, select.EPOLLIN); s.shutdown(socket.SHUT_RD)
print([(f == s.fileno(), m) for f, m in e.poll(5)], flush=True); s.close()
print(name(lambda: listener(8001).getsockname()))
";
    let site = Site::new();
    let file = site.file("close.py", program);
    let mut kernel = site.lab.server().command("timeout");
    kernel.args(["20", "python3", "-u", &file]);
    let kernel = kernel.output().expect("timeout(1)");
    let library = site
        .command(&["timeout", "20", "python3", "-u", &file])
        .output()
        .expect("timeout(1)");
    let text = |output: &std::process::Output| {
        let both = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8_lossy(&both).into_owned();
        let ours = |line: &&str| !line.starts_with("mptcp");
        text.lines()
            .filter(ours)
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    assert!(kernel.status.success(), "{}", text(&kernel));
    assert_eq!(text(&library), text(&kernel));
}

/// The engine's log is on a full disk, or its end is somebody else's: it serves.
#[test]
fn a_log_that_takes_nothing_is_no_reason_not_to_serve() {
    let site = Site::new();
    site.stream_file(1000);
    let words = [
        "MPTCP_LOG_FILE=/dev/full",
        "MPTCP_LOG=trace",
        "python3",
        "-u",
        "-m",
        "http.server",
        "8000",
    ];
    let _server = site.serve(8000, &words);
    let mptcp = site.mptcp();
    eventually("it serves", || {
        site.fetch(
            Client::Kernel,
            &format!("http://{}:8000/1000", server_address(0, false)),
            1000,
        );
        site.mptcp() > mptcp
    });
}

/// A server that is stopped: its clients wait, as with the kernel, and are served when it goes on. The engine does not spin meanwhile.
#[test]
fn clients_of_a_stopped_server_wait() {
    let site = Site::new();
    let program = site.file("echo.py", ECHO);
    let server = site.serve(8000, &["python3", "-u", &program]);
    eventually("the engine knows of it", || {
        site.log().contains("listens at 0.0.0.0:8000")
    });
    let pid = rustix::process::Pid::from_child(&server.child);
    let signal = |signal| rustix::process::kill_process(pid, signal).expect("it lives");
    signal(rustix::process::Signal::STOP);
    let talk = "import socket, sys
held = [socket.create_connection(('192.0.2.2', 8000), 20) for _ in range(20)]
for c in held: c.sendall(b'hello')
print('sent', flush=True); sys.stdin.readline()
for c in held: assert c.recv(5) == b'hello'
print('all', flush=True)";
    let mut command = site.client(Client::Kernel, &["python3", "-u", "-c", talk]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("timeout(1)");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert_eq!(said.next().expect("a line").expect("text"), "sent");
    let wakeups = site
        .engine()
        .wakeups_in(std::time::Duration::from_secs(1))
        .expect("/proc");
    assert!(wakeups < 200, "{wakeups} in a second");
    signal(rustix::process::Signal::CONT);
    drop(child.stdin.take());
    assert_eq!(said.next().expect("a line").expect("text"), "all", "{}", site.log());
    child.wait().expect("a child");
}

/// An engine that may have few descriptors: clients wait that come when all are in use, and none is refused, as where a program itself has run out.
#[test]
fn clients_wait_for_an_engine_without_descriptors() {
    const CLIENTS: usize = 150;
    let site = Site::new();
    let program = site.file("echo.py", ECHO);
    // The engine raises its limit where it may: not without this capability.
    let words = [
        "setpriv",
        "--bounding-set",
        "-sys_resource",
        "--inh-caps",
        "-sys_resource",
        "prlimit",
        "--nofile=160:160",
        "python3",
        "-u",
        &program,
    ];
    let _server = site.serve(8000, &words);
    let talk = format!(
        "import asyncio
async def client():
    reader, writer = await asyncio.open_connection('192.0.2.2', 8000)
    writer.write(b'hello'); await writer.drain()
    data = await reader.readexactly(5); await asyncio.sleep(0.3)
    writer.transport.abort()
    return data == b'hello'
async def main(): print(sum(await asyncio.gather(*[client() for _ in range({CLIENTS})])))
asyncio.run(main())"
    );
    let output = site
        .client(Client::Plain, &["python3", "-c", &talk])
        .output()
        .expect("timeout(1)");
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.trim(), CLIENTS.to_string(), "{error}\n{}", site.log());
    assert!(site.log().contains("no descriptors are left"), "{}", site.log());
    eventually("it recovers", || site.log().contains("there are descriptors again"));
}

/// A service manager tells all processes of a service to end: the program ends in order, and what it says by then arrives. The engine goes after it,
/// and does not wait for the end of any TIME_WAIT.
#[test]
fn a_server_that_is_told_to_end_with_its_engine_ends_in_order() {
    const LEN: usize = 3_000_000;
    let site = Site::new();
    let program = site.file(
        "graceful.py",
        &format!(
            "import signal, socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 8000)); s.listen()
def end(*_):
    s.close(); time.sleep(0.3); c.sendall(b'x' * {LEN}); c.close(); sys.exit(0)
signal.signal(signal.SIGTERM, end)
c, a = s.accept(); c.sendall(b'hello')
while True: time.sleep(1)
"
        ),
    );
    let server = site.serve(8000, &["python3", "-u", &program]);
    let talk = "import socket
c = socket.create_connection(('192.0.2.2', 8000)); print(c.recv(5), flush=True); got = 0
while data := c.recv(100000): got += len(data)
print(got, flush=True)";
    let mut command = site.client(Client::Kernel, &["python3", "-u", "-c", talk]);
    command.stdout(Stdio::piped());
    let mut client = command.spawn().expect("timeout(1)");
    let mut said = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    assert_eq!(said.next().expect("a line").expect("text"), "b'hello'");
    let ours = ["mptcp-keeper", "mptcp-engine"].map(|name| site.processes(name)[0]);
    for pid in ours.into_iter().chain([server.child.id() as i32]) {
        let pid = rustix::process::Pid::from_raw(pid).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
    }
    assert_eq!(
        said.next().expect("a line").expect("text"),
        LEN.to_string(),
        "{}",
        site.log()
    );
    client.wait().expect("a child");
    eventually("engine and keeper go", || {
        site.processes("mptcp-engine").is_empty() && site.processes("mptcp-keeper").is_empty()
    });
}

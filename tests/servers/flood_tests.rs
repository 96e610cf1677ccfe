//! More clients than a server takes: full queues, and SYNs that nobody means.

use crate::lab::server_address;
use crate::site::{eventually, Client, Server, Site};
use std::process::Stdio;

/// Listens, and accepts only when told to by a line of input: a file that grows.
const SLOW: &str = "import os, socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 8000)); s.listen(2)
while not os.path.exists('go'): time.sleep(0.02)
while True:
    c, a = s.accept(); c.sendall(b'hello'); print(a[0], flush=True); c.close()
";

/// One connection after the other, each with half a second; what became of them.
const KNOCK: &str = "import socket, sys
held = []
for i in range(6):
    c = socket.socket(); c.settimeout(0.5)
    try: c.connect(('192.0.2.2', 8000)); held.append(c); print('in')
    except OSError as e: print('out')
sys.stdout.flush(); sys.stdin.readline()
for c in held: c.settimeout(20); print(c.recv(5))
c = socket.create_connection(('192.0.2.2', 8000), 20); print(c.recv(5))
";

fn knock(site: &Site, server: &Server, client: Client) -> String {
    let _ = std::fs::remove_file(site.directory().join("go"));
    let mut command = site.client(client, &["python3", "-u", "-c", KNOCK]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("timeout(1)");
    eventually("all have knocked", || {
        // Three are in, the others give up: then it waits for a line.
        site.established(8000) >= 3 && child.try_wait().expect("a child").is_none()
    });
    std::thread::sleep(std::time::Duration::from_secs(2));
    std::fs::write(site.directory().join("go"), "").expect("ours");
    drop(child.stdin.take());
    let output = child.wait_with_output().expect("a child");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", server.output());
    said
}

/// As net.ipv4.tcp_abort_on_overflow=0: silence, so that clients try again.
#[test]
fn a_full_accept_queue_is_as_full_as_the_kernels() {
    let site = Site::new();
    let program = site.file("slow.py", SLOW);
    let mut plain = site.lab.server().command("python3");
    plain.args(["-u", &program]).current_dir(site.directory());
    let mut kernel = site.start(8000, plain);
    let expected = knock(&site, &kernel, Client::Plain);
    assert_eq!(
        expected,
        "in\nin\nin\nout\nout\nout\nb'hello'\nb'hello'\nb'hello'\nb'hello'\n"
    );
    kernel.terminate();
    for client in [Client::Plain, Client::Kernel] {
        let _ = std::fs::remove_file(site.directory().join("go"));
        let mut server = site.serve(8000, &["python3", "-u", &program]);
        assert_eq!(knock(&site, &server, client), expected, "{client:?}");
        server.terminate();
    }
}

/// SYNs from addresses of a documentation network, as fast as a program sends them, until it is killed.
const FLOOD: &str = "import os, socket, struct, sys, time
def sum16(b):
    s = sum(struct.unpack('!%dH' % (len(b) // 2), b)); s = (s >> 16) + (s & 0xffff); return ~(s + (s >> 16)) & 0xffff
r = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
dst = socket.inet_aton('192.0.2.2'); n = 0
while True:
    for _ in range(20):
        n += 1
        src = bytes([203, 0, 113, n % 250 + 1])
        tcp = struct.pack('!HHIIBBHHH', n & 0x7fff | 1024, 8000, n * 7919 & 0xffffffff, 0, 5 << 4, 2, 64240, 0, 0)
        check = sum16(src + dst + struct.pack('!BBH', 0, 6, 20) + tcp)
        ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 40, 0, 0, 64, 6, 0, src, dst)
        r.sendto(ip + tcp[:16] + struct.pack('!H', check) + tcp[18:], ('192.0.2.2', 0))
    print(n, flush=True)
    time.sleep(0.005)
";

#[test]
fn clients_get_in_during_a_syn_flood_and_memory_is_bounded() {
    let site = Site::new();
    site.stream_file(1000);
    let server = site.serve(8000, &["python3", "-u", "-m", "http.server", "8000"]);
    let url = format!("http://{}:8000/1000", server_address(0, false));
    site.fetch(Client::Kernel, &url, 1000);
    let before = site.engine().memory_kb;
    let mut command = site.lab.client().command("python3");
    let sent = site.directory().join("sent");
    let file = std::fs::File::create(&sent).expect("a file");
    command.args(["-u", "-c", FLOOD]).stdin(Stdio::null()).stdout(file);
    let flood = Server::of(command.spawn().expect("python3"), sent);
    let count = || {
        flood
            .output()
            .lines()
            .next_back()
            .map_or(0, |line| line.parse().unwrap_or(0))
    };
    eventually("more SYNs than are remembered", || count() > 3000);
    for client in [Client::Kernel, Client::Plain, Client::Library] {
        let mptcp = site.mptcp();
        site.fetch(client, &url, 1000);
        assert_eq!(site.mptcp(), mptcp + u64::from(client == Client::Kernel), "{client:?}");
    }
    eventually("ten times as many", || count() > 10_240);
    let after = site.engine().memory_kb;
    println!("{} SYNs: {before} KB before, {after} KB after", count());
    assert!(after < before + 16_384, "{before} KB before, {after} KB after");
    drop(flood);
    site.fetch(Client::Kernel, &url, 1000);
    assert!(server.output().lines().count() >= 5);
}

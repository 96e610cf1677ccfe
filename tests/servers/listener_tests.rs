//! What a listening socket is to its program and to others: addresses, rules, ends.

use crate::lab::{server_address, Lab};
use crate::site::{eventually, Client, Site};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const SERVE: [&str; 5] = ["python3", "-u", "-m", "http.server", "8000"];

fn url(port: u16) -> String {
    format!("http://{}:{port}/1000", server_address(0, false))
}

fn nft(lab: &Lab, rule: &str) {
    let table = format!(
        "add table inet rules\nadd chain inet rules input {{ type filter hook input priority 0; }}\n\
         flush chain inet rules input\nadd rule inet rules input {rule}"
    );
    lab.server().output("nft", &[&table]).expect("nft(8)");
}

#[test]
fn a_port_that_the_firewall_closes_stays_closed() {
    let site = Site::new();
    site.stream_file(1000);
    let _server = site.serve(8000, &SERVE);
    site.fetch(Client::Kernel, &url(8000), 1000);
    nft(&site.lab, "iifname != lo tcp dport 8000 drop");
    assert_eq!(site.curl_code(Client::Plain, &url(8000)), Some(28), "silence");
    nft(&site.lab, "iifname != lo tcp dport 8000 reject with tcp reset");
    assert_eq!(site.curl_code(Client::Plain, &url(8000)), Some(7), "refused");
    nft(&site.lab, "ip saddr 192.0.2.1 tcp dport 8000 accept");
    site.fetch(Client::Kernel, &url(8000), 1000);
}

/// Joins come from the second wire's address.
#[test]
fn a_firewall_that_drops_joins_leaves_the_first_subflow() {
    let site = Site::new();
    site.stream_file(1_000_000);
    let _server = site.serve(8000, &SERVE);
    nft(&site.lab, "iifname eth1 tcp dport 8000 drop");
    let joins = site.joins();
    let url = format!("http://{}:8000/1000000", server_address(0, false));
    site.fetch(Client::Kernel, &url, 1_000_000);
    assert_eq!(site.joins(), joins);
}

#[test]
fn the_last_close_frees_the_port_also_when_it_is_a_childs() {
    let site = Site::new();
    let program = site.file(
        "holder.py",
        "import os, socket, sys, time
s = socket.socket(); s.bind(('', 8000)); s.listen()
print('listening', flush=True)
if os.fork() == 0:
    time.sleep(1000)
",
    );
    let holder = site.command(&["python3", &program]).status();
    assert!(holder.expect("env(1)").success(), "the parent ends at once");
    let children = site.processes("python3");
    assert_eq!(children.len(), 1);
    assert!(site.listens(8000), "the child holds it");
    let bind = "import socket; s = socket.socket(); s.bind(('', 8000)); s.listen()";
    let again = |reason: &str| {
        let status = site.command(&["python3", "-c", bind]).status();
        status.expect("env(1)").success().then_some(()).ok_or(reason.to_owned())
    };
    assert!(again("in use").is_err(), "EADDRINUSE");
    crate::site::kill(children[0]);
    eventually("the child is gone", || site.processes("python3").is_empty());
    again("free").expect("the port is free at once");
    assert_eq!(site.curl_code(Client::Plain, &url(8000)), Some(7), "refused");
}

/// What another program opens in the place of a listener is that program's alone, at once.
#[test]
fn a_successor_without_the_library_is_left_alone() {
    let site = Site::new();
    site.stream_file(1000);
    let mut server = site.serve(8000, &SERVE);
    site.fetch(Client::Kernel, &url(8000), 1000);
    server.terminate();
    let mut command = site.lab.server().command("python3");
    command.args(&SERVE[1..]).current_dir(site.directory());
    let _successor = site.start(8000, command);
    let resets = || site.lab.client().counter("TcpEstabResets").expect("a counter");
    let before = resets();
    for _ in 0..5 {
        site.fetch(Client::Plain, &url(8000), 1000);
    }
    assert_eq!(resets(), before);
    let log = site.log();
    let ours = log
        .lines()
        .filter(|line| line.contains("subflow 0 192.0.2.2:8000") && line.ends_with(" is up"));
    assert_eq!(ours.count(), 1, "{log}");
}

#[test]
fn a_restart_beside_lingering_connections_works() {
    let site = Site::new();
    site.stream_file(1000);
    for _ in 0..3 {
        let mut server = site.serve(8000, &SERVE);
        site.fetch(Client::Kernel, &url(8000), 1000);
        site.fetch(Client::Plain, &url(8000), 1000);
        server.terminate();
    }
}

/// The next server has the port at once, and the clients of the one that was killed get all that it had written, and the end.
#[test]
fn a_server_that_was_killed_is_restarted_while_its_connections_linger() {
    const LEN: usize = 300_000;
    let site = Site::new();
    let program = site.file(
        "serve.py",
        &format!(
            "import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 8000)); s.listen(); held = []
while True: held.append(s.accept()[0]); held[-1].sendall(b'x' * {LEN}); print('written', flush=True)
"
        ),
    );
    let ask = "import socket, sys
c = socket.create_connection(('192.0.2.2', 8000), 20); got = len(c.recv(1)); print('in', flush=True); sys.stdin.readline()
while data := c.recv(100000): got += len(data)
print(got, flush=True)";
    let clients = [Client::Kernel, Client::Plain, Client::Library];
    let mut waiting = Vec::new();
    for _ in 0..2 {
        // The first one's is killed when this one listens.
        let server = site.serve(8000, &["python3", "-u", &program]);
        for client in clients {
            let mut command = site.client(client, &["python3", "-u", "-c", ask]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().expect("timeout(1)");
            let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
            assert_eq!(said.next().expect("a line").expect("text"), "in", "{client:?}");
            waiting.push((client, child, said));
        }
        eventually("all is written", || {
            server.output().matches("written\n").count() == clients.len()
        });
        // Dropped: SIGKILL.
    }
    for (client, mut child, mut said) in waiting {
        drop(child.stdin.take());
        let got = said.next().expect("a line").expect("text");
        assert_eq!(got, LEN.to_string(), "{client:?}: {}", site.log());
        assert!(child.wait().expect("a child").success(), "{client:?}");
    }
}

#[test]
fn a_certain_address_is_heard_and_no_other() {
    let site = Site::new();
    site.stream_file(1000);
    let address = server_address(0, false).to_string();
    let _server = site.serve(8000, &[&SERVE[..], &["--bind", &address]].concat());
    site.fetch(Client::Kernel, &url(8000), 1000);
    site.fetch(Client::Own, &url(8000), 1000);
    let other = format!("http://{}:8000/1000", server_address(1, false));
    assert_eq!(site.curl_code(Client::Plain, &other), Some(7));
    assert_eq!(site.curl_code(Client::Own, "http://127.0.0.1:8000/1000"), Some(7));
}

#[test]
fn one_socket_serves_both_families_and_shows_mapped_addresses() {
    let site = Site::new();
    site.stream_file(1000);
    let _server = site.serve(8000, &[&SERVE[..], &["--bind", "::"]].concat());
    site.fetch(Client::Kernel, &url(8000), 1000);
    let v6 = format!("http://[{}]:8000/1000", server_address(0, true));
    site.fetch(Client::Kernel, &v6, 1000);
    site.fetch(Client::Own, "http://[::1]:8000/1000", 1000);
    site.fetch(Client::Own, "http://127.0.0.1:8000/1000", 1000);
    assert_eq!(site.mptcp(), 2, "{}", site.log());
    assert!(site.log().contains("[::ffff:192.0.2.2]:8000 > [::ffff:192.0.2.1]"));
}

#[test]
fn ipv6_alone_is_handed_over_by_the_ipv6_loopback() {
    let site = Site::new();
    site.stream_file(1000);
    let program = site.file(
        "only6.py",
        "import http.server, socket, socketserver
class S(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = 'lab', 8000
S(('::', 8000), http.server.SimpleHTTPRequestHandler).serve_forever()
",
    );
    let server = site.serve(8000, &["python3", "-u", &program]);
    let v6 = format!("http://[{}]:8000/1000", server_address(0, true));
    site.fetch(Client::Kernel, &v6, 1000);
    site.fetch(Client::Own, "http://[::1]:8000/1000", 1000);
    assert_eq!(site.mptcp(), 1, "{}", site.log());
    assert!(server.output().contains("2001:db8"), "{}", server.output());
}

/// As a service manager does it: the parent is not ours.
#[test]
fn a_socket_that_others_hold_stays_with_the_kernel() {
    let site = Site::new();
    site.stream_file(1000);
    let program = site.file(
        "activate.py",
        "import os, socket, subprocess, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 8000)); s.listen()
os.set_inheritable(s.fileno(), True)
env = dict(os.environ, LD_PRELOAD=sys.argv[1], MPTCP_LOG='info')
code = '''
import http.server, socket, sys
h = http.server.HTTPServer(('', 8000), http.server.SimpleHTTPRequestHandler, bind_and_activate=False)
h.socket.close(); h.socket = socket.socket(fileno=%d); h.socket.listen(5); h.serve_forever()
''' % s.fileno()
subprocess.run([sys.executable, '-u', '-c', code], env=env, close_fds=False)
",
    );
    let mut command = site.lab.server().command("python3");
    let library = crate::lab::library().display().to_string();
    command.args(["-u", &program, &library]).current_dir(site.directory());
    let server = site.start(8000, command);
    for client in [Client::Plain, Client::Kernel, Client::Own] {
        site.fetch(client, &url(8000), 1000);
    }
    assert_eq!(site.mptcp(), 0);
    assert!(!server.output().contains("answered by engine"), "{}", server.output());
}

#[test]
fn listening_can_be_turned_off() {
    let site = Site::new();
    site.stream_file(1000);
    let server = site.serve(8000, &[&["MPTCP_LISTEN=0"], &SERVE[..]].concat());
    site.fetch(Client::Kernel, &url(8000), 1000);
    assert_eq!(site.mptcp(), 0);
    assert!(server.output().contains("left to the kernel: listening is turned off"));
}

/// The carrier's peer is this host: a program that trusts 127.0.0.1 must never see it in the place of a peer that reset its connection.
#[test]
fn a_connection_that_is_reset_before_it_is_accepted_has_its_peers_address() {
    let site = Site::new();
    let server = site.file(
        "late.py",
        "import os, socket, time
s = socket.socket(); s.bind(('', 8000)); s.listen()
print('listening', flush=True)
while not os.path.exists('reset'): time.sleep(0.01)
c, (host, port) = s.accept()
print('peer', host, flush=True)
try: print('read', c.recv(10))
except ConnectionResetError: print('reset', flush=True)
",
    );
    let server = site.serve(8000, &["python3", "-u", &server]);
    let reset = format!(
        "import socket, struct
c = socket.create_connection(('{}', 8000))
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))",
        server_address(0, false)
    );
    let client = site.client(Client::Kernel, &["python3", "-c", &reset]).status();
    assert!(client.expect("python3").success());
    eventually("the reset is heard", || site.log().contains(" over after "));
    std::fs::write(site.directory().join("reset"), "").expect("a file");
    eventually("it was accepted", || server.output().contains("reset"));
    assert!(server.output().contains("peer 192.0.2.1\n"), "{}", server.output());
}

/// Carriers are known by their segment size, and by nothing that a stranger can say.
#[test]
fn a_stranger_on_this_host_is_a_client_like_any_other() {
    let site = Site::new();
    site.stream_file(1000);
    let server = site.serve(8000, &SERVE);
    site.fetch(Client::Kernel, &url(8000), 1000);
    let stranger = "import socket
for mss in (777, 789):
    c = socket.socket(); c.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss); c.connect(('127.0.0.1', 8000))
    c.sendall(b'GET /1000 HTTP/1.0\\r\\n\\r\\n'); data = b''
    while more := c.recv(4096): data += more
    print(len(data.split(b'\\r\\n\\r\\n', 1)[1]))";
    let output = site.client(Client::Own, &["python3", "-c", stranger]).output();
    let said = output.expect("timeout(1)").stdout;
    assert_eq!(String::from_utf8_lossy(&said), "1000\n1000\n");
    assert_eq!(
        server.output().matches("127.0.0.1 - - ").count(),
        2,
        "{}",
        server.output()
    );
    site.fetch(Client::Kernel, &url(8000), 1000);
}

/// Joins by an address that the firewall shuts out do not come in; one that it lets in does.
#[test]
fn a_source_address_is_let_in_or_not_as_with_the_kernel() {
    let site = Site::new();
    site.stream_file(1000);
    let _server = site.serve(8000, &SERVE);
    nft(&site.lab, "ip saddr 192.0.2.1 tcp dport 8000 drop");
    assert_eq!(site.curl_code(Client::Plain, &url(8000)), Some(28), "silence");
    assert_eq!(site.curl_code(Client::Kernel, &url(8000)), Some(28), "silence");
    nft(
        &site.lab,
        "iifname != lo ip saddr != 192.0.2.1 tcp dport 8000 reject with tcp reset",
    );
    site.fetch(Client::Kernel, &url(8000), 1000);
    let other = format!("http://{}:8000/1000", server_address(1, false));
    assert_eq!(site.curl_code(Client::Plain, &other), Some(7), "refused");
}

/// The segment size that SYN/ACKs announce is what the interface takes, and what the program asks for, also when it asks after listen(). What is
/// below the size by which carriers are recognised is no exception.
#[test]
fn the_segment_size_is_that_of_the_interface_and_of_the_listening_socket() {
    let site = Site::new();
    let program = site.file(
        "maxseg.py",
        "import socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 8000)); s.listen()
for size in sys.argv[1:]:
    if size != '0': s.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, int(size))
    c, a = s.accept(); print(a[0], flush=True); c.sendall(b'hello'); c.recv(1); c.close()
",
    );
    let host = site.lab.server();
    let route = host.output("ip", &["-o", "route", "get", "192.0.2.1"]).expect("ip(8)");
    let device = route
        .split_once(" dev ")
        .expect("a device")
        .1
        .split(' ')
        .next()
        .expect("its name");
    host.output("ip", &["link", "set", "dev", device, "mtu", "1400"])
        .expect("ip(8)");
    let sizes = ["0", "900", "500"];
    let ask = "import socket
c = socket.create_connection(('192.0.2.2', 8000), 10); print(c.recv(5), c.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))";
    let measure = |mut server: crate::site::Server| {
        let asked = sizes.map(|_| {
            let output = site
                .client(Client::Plain, &["python3", "-c", ask])
                .output()
                .expect("timeout(1)");
            String::from_utf8_lossy(&output.stdout).trim().to_string()
        });
        eventually("it has served all", || {
            server.child.try_wait().expect("a child").is_some()
        });
        assert_eq!(
            server.output().matches("192.0.2.1\n").count(),
            sizes.len(),
            "{}",
            server.output()
        );
        asked
    };
    let words = [&["python3", "-u", &program], &sizes[..]].concat();
    let mut kernel = host.command("env");
    kernel.args(&words);
    let expected = measure(site.start(8000, kernel));
    assert_eq!(expected, ["b'hello' 1348", "b'hello' 888", "b'hello' 488"]);
    eventually("the port is free", || !site.listens(8000));
    assert_eq!(measure(site.serve(8000, &words)), expected, "{}", site.log());
}

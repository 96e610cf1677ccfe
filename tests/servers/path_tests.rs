//! Further subflows of servers: what they announce, take back, prefer and refuse, seen by the kernel's MPTCP.

use crate::lab::{client_address, interface, server_address};
use crate::site::{eventually, Client, Site};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

const LEN: u64 = 2_000_000;
const SERVE: [&str; 5] = ["python3", "-u", "-m", "http.server", "8000"];

fn url() -> String {
    format!("http://{}:8000/{LEN}", server_address(0, false))
}

/// A client whose kernel takes up what the server announces.
fn attentive(site: &Site) {
    let limits = ["mptcp", "limits", "set", "subflows", "4", "add_addr_accepted", "4"];
    site.lab.client().ip(&limits).expect("ip(8)");
}

/// The same, and it joins nowhere by itself. The server's second wire leads everywhere too, or its address would not be announced.
fn passive(site: &Site) {
    attentive(site);
    let gateway = client_address(1, false).to_string();
    let route = [
        "route",
        "add",
        "default",
        "via",
        &gateway,
        "dev",
        &interface(1),
        "metric",
        "200",
    ];
    site.lab.server().ip(&route).expect("ip(8)");
    site.lab.client().ip(&["mptcp", "endpoint", "flush"]).expect("ip(8)");
}

fn counter(site: &Site, name: &str) -> u64 {
    let counter = site.lab.client().counter(&format!("MPTcpExt{name}"));
    counter.expect("the kernel counts")
}

#[test]
fn other_addresses_are_announced_joined_and_taken_back() {
    let site = Site::new();
    passive(&site);
    let program = site.file(
        "echo.py",
        "import socket
s = socket.socket(); s.bind(('', 8000)); s.listen()
c, a = s.accept()
while data := c.recv(1000): c.sendall(data)
",
    );
    let _server = site.serve(8000, &["python3", "-u", &program]);
    let talk = "import socket, sys
c = socket.create_connection(('192.0.2.2', 8000))
for line in sys.stdin:
    c.sendall(line.encode()); print(c.recv(1000).decode().strip(), flush=True)";
    let mut command = site.client(Client::Kernel, &["python3", "-u", "-c", talk]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = command.spawn().expect("timeout(1)");
    let mut input = client.stdin.take().expect("a pipe");
    let mut said = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    let mut say = |text: &str| {
        writeln!(input, "{text}").expect("it reads");
        assert_eq!(said.next().expect("a line").expect("text"), text);
    };
    say("one");
    eventually("the announced address is joined", || {
        counter(&site, "AddAddr") >= 1 && site.joins() == 1
    });
    say("two");
    let link = ["link", "set", &interface(1), "down"];
    site.lab.server().ip(&link).expect("ip(8)");
    eventually("it is taken back", || counter(&site, "RmAddr") >= 1);
    say("three");
    drop(input);
    client.wait().expect("a child");
}

/// FTP data, netcat, inetd: the listener is closed as soon as it has its one connection, and joins come later.
#[test]
fn joins_come_in_after_the_listener_has_gone() {
    let site = Site::new();
    attentive(&site);
    site.stream_file(4 * LEN);
    let len = (4 * LEN).to_string();
    let _server = site.serve(9000, &["socat", "-u", &format!("FILE:{len}"), "TCP4-LISTEN:9000"]);
    let read = "exec 3<>/dev/tcp/192.0.2.2/9000; exec cat <&3";
    let output = site.client(Client::Kernel, &["bash", "-c", read]).output();
    assert!(output.expect("timeout(1)").stdout == crate::site::bytes(4 * LEN));
    assert!(
        site.log().contains("came after its listener had gone"),
        "{}",
        site.log()
    );
    assert!(site.joins() >= 1, "{}", site.log());
}

#[test]
fn a_backup_address_of_the_servers_is_a_backup() {
    let site = Site::new();
    passive(&site);
    site.stream_file(LEN);
    let backup = format!("MPTCP_PATHS={}:backup,{}", interface(1), interface(0));
    let _server = site.serve(8000, &[&[backup.as_str()], &SERVE[..]].concat());
    site.fetch(Client::Kernel, &url(), LEN);
    assert_eq!(site.joins(), 1, "{}", site.log());
    assert_eq!(counter(&site, "MPJoinSynAckBackupRx"), 1);
}

/// The C flag: clients that would join are told not to.
#[test]
fn a_server_may_forbid_joins() {
    let site = Site::new();
    attentive(&site);
    site.stream_file(LEN);
    let _server = site.serve(8000, &[&["MPTCP_JOIN=never"], &SERVE[..]].concat());
    site.fetch(Client::Kernel, &url(), LEN);
    assert_eq!(site.mptcp(), 1);
    assert_eq!((counter(&site, "MPJoinSynTx"), counter(&site, "AddAddr")), (0, 0));
}

/// A specific bind is the program's choice: other addresses of the server are no part of it.
#[test]
fn a_bound_address_announces_no_other() {
    let site = Site::new();
    passive(&site);
    site.stream_file(LEN);
    let address = server_address(0, false).to_string();
    let _server = site.serve(8000, &[&SERVE[..], &["--bind", &address]].concat());
    site.fetch(Client::Kernel, &url(), LEN);
    assert_eq!(
        (site.mptcp(), site.joins(), counter(&site, "AddAddr")),
        (1, 0, 0),
        "{}",
        site.log()
    );
}

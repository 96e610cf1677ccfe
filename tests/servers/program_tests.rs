//! Real programs.

use crate::lab::server_address;
use crate::site::{eventually, Client, Site};

const LEN: u64 = 1_000_000;

#[test]
fn python_serves_every_kind_of_client_and_logs_their_addresses() {
    let site = Site::new();
    site.stream_file(LEN);
    let server = site.serve(8000, &["python3", "-u", "-m", "http.server", "8000"]);
    site.fetch_all(8000, &format!("/{LEN}"), LEN);
    let output = server.output();
    let lines = |address: &str| output.lines().filter(|line| line.starts_with(address)).count();
    assert_eq!(lines("192.0.2.1 - -"), 3, "{output}");
    assert_eq!(lines("192.0.2.2 - -") + lines("127.0.0.1 - -"), 2, "{output}");
    assert!(site.log().contains("listens at 0.0.0.0:8000"));
}

/// The master binds as root and listens, the workers accept as another user.
fn nginx(site: &Site, listen: &str) -> String {
    let directory = site.directory().display().to_string();
    std::fs::set_permissions(site.directory(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let text = format!(
        "user www-data; worker_processes 2; daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log;
         events {{ worker_connections 256; }}
         http {{ access_log {directory}/access.log; sendfile on; client_body_temp_path {directory}/body;
           proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fcgi; uwsgi_temp_path {directory}/uwsgi;
           scgi_temp_path {directory}/scgi;
           server {{ {listen} root {directory}; }} }}"
    );
    site.file("nginx.conf", &text)
}

#[test]
fn nginx_workers_of_another_user_serve_and_reload() {
    let site = Site::new();
    site.stream_file(LEN);
    let path = format!("/{LEN}");
    let configuration = nginx(&site, "listen 80; listen [::]:80;");
    let mut server = site.serve(80, &["nginx", "-c", &configuration]);
    site.fetch_all(80, &path, LEN);
    site.fetch(
        Client::Kernel,
        &format!("http://[{}]{path}", server_address(0, true)),
        LEN,
    );
    let before = site.processes("nginx");
    let reload = site.command(&["nginx", "-c", &configuration, "-s", "reload"]).status();
    assert!(reload.expect("env(1)").success());
    eventually("the workers are replaced", || {
        let now = site.processes("nginx");
        now.len() == before.len() && now != before
    });
    site.fetch_all(80, &path, LEN);
    let log = std::fs::read_to_string(site.directory().join("access.log")).expect("a log");
    let from = |address: &str| log.lines().filter(|line| line.starts_with(address)).count();
    assert_eq!(from("192.0.2.1 "), 6, "{log}");
    server.terminate();
    assert_eq!(
        site.curl_code(Client::Plain, &format!("http://{}/", server_address(0, false))),
        Some(7)
    );
}

#[test]
fn nginx_spreads_over_listeners_of_one_port() {
    let site = Site::new();
    site.stream_file(1000);
    let configuration = nginx(&site, "listen 80 reuseport;");
    let _server = site.serve(80, &["nginx", "-c", &configuration]);
    let url = format!("http://{}/1000", server_address(0, false));
    for _ in 0..8 {
        site.fetch(Client::Kernel, &url, 1000);
        site.fetch(Client::Plain, &url, 1000);
    }
    assert_eq!(site.mptcp(), 8);
    site.fetch(Client::Own, "http://127.0.0.1/1000", 1000);
}

#[test]
fn socat_and_netcat_serve_one_connection() {
    for words in [
        &["socat", "-u", "FILE:1000", "TCP4-LISTEN:9000"][..],
        &["bash", "-c", "exec nc.openbsd -l -N -p 9000 <1000"],
    ] {
        let site = Site::new();
        site.stream_file(1000);
        let _server = site.serve(9000, words);
        let read = format!("exec 3<>/dev/tcp/{}/9000; exec cat <&3", server_address(0, false));
        let output = site.client(Client::Kernel, &["bash", "-c", &read]).output();
        assert_eq!(
            output.expect("timeout(1)").stdout,
            crate::site::bytes(1000),
            "{words:?}"
        );
        assert!(site.log().contains("subflow 0 192.0.2.2:9000"), "{}", site.log());
    }
}

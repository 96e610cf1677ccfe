//! Wires that die, come back, lose carrier or address, gain an address: the transfer goes on, and the program's socket keeps its names.
//! The reader's longest silence is printed beside the kernel client's (`--nocapture`), never asserted.

mod interop;

use interop::{
    client_address, figure, interface, probe, server_address, url, wait_until, Download, Running, Site, Transport, Wire,
};
use std::process::Command;

/// Delivered bytes that say: it carries data, not only handshakes.
const CARRIES: u64 = 200_000;

fn two(rate_mbit: f64, delay_ms: f64) -> [Wire; 2] {
    [Wire::new(rate_mbit, delay_ms); 2]
}

/// Waits until both wires have carried data, then lets the second subflow be up for a while.
fn wait_for_both(site: &Site) {
    wait_until("both wires carry", || {
        (0..2).all(|wire| site.delivered(wire) > 5 * CARRIES)
    });
}

/// Downloads while `wire` is cut for good; longest silence in ms.
fn silence_at_cut(wire: usize, kernel: bool) -> f64 {
    let len = 16_000_000;
    let site = Site::new(two(50.0, 10.0));
    let _http = site.http(Transport::Mptcp);
    let url = url(len);
    let curl = match kernel {
        true => {
            site.lab().kernel_paths().unwrap();
            site.kernel_curl(&[&url])
        }
        false => site.curl(&[&url]),
    };
    let download = Download::start(curl);
    wait_for_both(&site);
    site.lab().wire(wire).cut().unwrap();
    let report = download.expect_stream(len);
    if !kernel {
        site.assert_kernel_client_idle();
    }
    report.longest_silence_ms
}

#[test]
fn the_first_subflows_wire_is_cut_for_good() {
    let silences = [silence_at_cut(0, false), silence_at_cut(0, true)];
    figure(&format!(
        "first wire cut: silent for {:.0} ms, kernel client {:.0} ms",
        silences[0], silences[1]
    ));
}

#[test]
fn the_second_subflows_wire_is_cut_for_good() {
    let silences = [silence_at_cut(1, false), silence_at_cut(1, true)];
    figure(&format!(
        "second wire cut: silent for {:.0} ms, kernel client {:.0} ms",
        silences[0], silences[1]
    ));
}

#[test]
fn an_upload_survives_the_cut_of_either_wire() {
    let len = 12_000_000;
    for wire in 0..2 {
        let site = Site::new(two(50.0, 10.0));
        let _http = site.http(Transport::Mptcp);
        let file = site.stream_file(len);
        let url = format!("http://{}/upload", server_address(0, false));
        let upload = Running::start(site.curl(&["-T", &file.to_string_lossy(), &url]));
        wait_until("both wires carry", || (0..2).all(|wire| site.sent(wire) > 5 * CARRIES));
        site.lab().wire(wire).cut().unwrap();
        interop::assert_uploaded(&upload.finish(), len);
    }
}

/// A download during which a wire goes and comes: it must carry data again before the end.
fn used_again(wire: usize, take: impl Fn(&Site), give: impl Fn(&Site)) {
    // As long as it takes: curl is ended when the wire has been seen to carry again.
    let site = Site::new(two(20.0, 10.0));
    let _http = site.http(Transport::Mptcp);
    let download = Running::start(site.curl(&[&url(2_000_000_000), "-o", "/dev/null"]));
    wait_for_both(&site);
    take(&site);
    let other = site.delivered(1 - wire);
    wait_until("the other wire carries on", || {
        site.delivered(1 - wire) > other + 5 * CARRIES
    });
    give(&site);
    let before = site.delivered(wire);
    wait_until("the wire carries again", || site.delivered(wire) > before + 5 * CARRIES);
    drop(download);
    site.assert_kernel_client_idle();
}

#[test]
fn a_mended_first_wire_is_used_again() {
    used_again(
        0,
        |site| site.lab().wire(0).cut().unwrap(),
        |site| site.lab().wire(0).mend().unwrap(),
    );
}

#[test]
fn a_mended_second_wire_is_used_again() {
    used_again(
        1,
        |site| site.lab().wire(1).cut().unwrap(),
        |site| site.lab().wire(1).mend().unwrap(),
    );
}

#[test]
fn a_wire_whose_carrier_goes_and_comes_is_used_again() {
    for wire in 0..2 {
        used_again(
            wire,
            |site| site.lab().wire(wire).set_carrier(false).unwrap(),
            |site| site.lab().wire(wire).set_carrier(true).unwrap(),
        );
    }
}

/// `ip address ACTION` for the client's address on the second wire.
fn second_address(site: &Site, action: &str) {
    let (address, dev) = (format!("{}/25", client_address(1, false)), interface(1));
    site.lab()
        .client()
        .ip(&["address", action, &address, "dev", &dev])
        .unwrap();
    if action == "add" {
        // It went with the address; a DHCP client would set it again too.
        let gateway = server_address(1, false).to_string();
        let route = [
            "route", "replace", "default", "via", &gateway, "dev", &dev, "metric", "101",
        ];
        site.lab().client().ip(&route).unwrap();
    }
}

#[test]
fn an_address_that_goes_and_comes_is_used_again() {
    used_again(
        1,
        |site| second_address(site, "del"),
        |site| second_address(site, "add"),
    );
}

#[test]
fn an_address_that_comes_later_is_used() {
    let len = 8_000_000;
    let site = Site::new(two(20.0, 10.0));
    second_address(&site, "del");
    let _http = site.http(Transport::Mptcp);
    let download = Download::start(site.curl(&[&url(len)]));
    wait_until("the first wire carries", || site.delivered(0) > CARRIES);
    second_address(&site, "add");
    wait_until("the second wire carries", || site.delivered(1) > 2 * CARRIES);
    download.expect_stream(len);
    site.assert_server_mptcp(1, 1);
}

/// `probe get`, which says the names of its socket before the first and after the last byte.
fn probe_get(site: &Site, len: u64) -> Command {
    let mut get = site.command(probe::program());
    let server = server_address(0, false).to_string();
    get.args(["get", &server, "80", &format!("/{len}")]);
    get
}

fn names(stdout: &str, which: &str) -> Vec<String> {
    let lines = stdout.lines().filter_map(|line| line.strip_prefix(which));
    lines.map(|name| name.trim().to_string()).collect()
}

#[test]
fn the_socket_keeps_its_names_when_the_first_subflow_has_gone() {
    let site = Site::new(two(50.0, 10.0));
    let _http = site.http(Transport::Mptcp);
    let get = Running::start(probe_get(&site, 16_000_000));
    wait_for_both(&site);
    site.lab().wire(0).cut().unwrap();
    let outcome = get.finish();
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success(), "{}: {stdout}", outcome.status);
    assert!(site.engine_log().contains("subflow 0 192.0.2.1:") && site.engine_log().contains("is gone"));
    let local = names(&stdout, "local");
    assert!(local.len() == 2 && local[0] == local[1], "{stdout}");
    assert!(local[0].starts_with("192.0.2.1:"), "{stdout}");
    assert_eq!(names(&stdout, "peer"), ["192.0.2.2:80"; 2], "{stdout}");
}

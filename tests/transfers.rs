//! Unmodified programs under the library against a kernel MPTCP server over two wires: right bytes, both wires used, the kernel's own
//! MPTCP not involved. Rates are printed beside the kernel client's (`--nocapture`), never asserted.

mod interop;

use interop::{
    assert_uploaded, figure, mbit, probe, run, server_address, stream, url, Download, LabSpec, Report, Running, Site,
    Transport, Wire, PATIENCE,
};
use std::fs::File;
use std::time::Duration;

/// Every wire must have carried at least this part of what a transfer over two equal wires needs.
const SHARE_MIN: f64 = 0.2;

fn two(rate_mbit: f64, delay_ms: f64) -> [Wire; 2] {
    [Wire::new(rate_mbit, delay_ms); 2]
}

fn assert_shared(carried: [u64; 2], len: u64) {
    for wire in carried {
        assert!(
            wire as f64 > SHARE_MIN * len as f64,
            "one wire was left alone: {carried:?}"
        );
    }
}

/// Both clients in labs of their own: a server remembers what it learnt of a path.
fn download_beside_the_kernel(len: u64, congestion: &str) {
    let mut spec = LabSpec::new(two(50.0, 10.0));
    spec.congestion = Some(congestion.into());
    let kernel = {
        let site = Site::with(spec.clone());
        site.lab().kernel_paths().unwrap();
        let _http = site.http(Transport::Mptcp);
        Download::start(site.kernel_curl(&[&url(len)])).expect_stream(len)
    };
    let site = Site::with(spec);
    let _http = site.http(Transport::Mptcp);
    let own = Download::start(site.curl(&[&url(len)])).expect_stream(len);
    let rates = [mbit(&own), mbit(&kernel)];
    figure(&format!(
        "GET of {len} bytes over 2 x (50 Mbit/s, 10 ms), server {congestion}: {:.1} Mbit/s, kernel client {:.1} Mbit/s",
        rates[0], rates[1]
    ));
    site.assert_server_mptcp(1, 1);
    site.assert_kernel_client_idle();
    assert_shared([0, 1].map(|wire| site.delivered(wire)), len);
}

#[test]
fn a_download_uses_both_wires_of_a_cubic_server() {
    download_beside_the_kernel(60_000_000, "cubic");
}

#[test]
fn a_download_uses_both_wires_of_a_bbr_server() {
    download_beside_the_kernel(30_000_000, "bbr");
}

#[test]
fn an_upload_uses_both_wires() {
    let len = 100_000_000;
    let site = Site::new(two(200.0, 5.0));
    let _http = site.http(Transport::Mptcp);
    let file = site.stream_file(len);
    let url = format!("http://{}/upload", server_address(0, false));
    let outcome = run(site.curl(&["-T", &file.to_string_lossy(), &url]));
    assert_uploaded(&outcome, len);
    let report: Report = serde_json::from_slice(&outcome.stdout).unwrap();
    figure(&format!(
        "PUT of {len} bytes over 2 x (200 Mbit/s, 5 ms): {:.1} Mbit/s",
        mbit(&report)
    ));
    site.assert_server_mptcp(1, 1);
    site.assert_kernel_client_idle();
    assert_shared([0, 1].map(|wire| site.sent(wire)), len);
}

#[test]
fn all_bytes_arrive_from_a_program_that_ends_after_its_last_write() {
    let len = 10_000_000;
    for transport in [Transport::Mptcp, Transport::Tcp] {
        let site = Site::new(two(50.0, 10.0));
        let sink = site.lab().server().sink(transport, &[]).unwrap();
        let file = site.stream_file(len);
        let mut put = site.command(probe::program());
        put.args(["put", &server_address(0, false).to_string(), &sink.port.to_string()]);
        put.stdin(File::open(file).unwrap());
        assert!(run(put).status.success());
        let report = sink.report(PATIENCE).unwrap();
        assert_eq!((report.bytes, report.sha256), (len, stream::sha256(len)));
        assert_eq!(report.error, None);
    }
}

#[test]
fn ipv6_uses_both_wires() {
    let len = 10_000_000;
    let site = Site::new(two(50.0, 10.0));
    let _http = site.http(Transport::Mptcp);
    let url = format!("http://[{}]/{len}", server_address(0, true));
    Download::start(site.curl(&[&url])).expect_stream(len);
    site.assert_server_mptcp(1, 1);
    site.assert_kernel_client_idle();
    assert_shared([0, 1].map(|wire| site.delivered(wire)), len);
}

#[test]
fn https_and_http2_use_both_wires() {
    let len = 10_000_000;
    let site = Site::new(two(50.0, 10.0));
    let _https = site.lab().server().https_server(Transport::Mptcp, len).unwrap();
    let url = format!("https://{}/{len}", server_address(0, false));
    for (connections, version) in [(1, "--http1.1"), (2, "--http2")] {
        Download::start(site.curl(&["-k", version, &url])).expect_stream(len);
        site.assert_server_mptcp(connections, connections);
    }
    let streams: Vec<&str> = [url.as_str(); 5].to_vec();
    let mut arguments = vec!["-k", "--http2", "--parallel"];
    arguments.extend(streams);
    let outcome = run(site.curl(&arguments));
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(outcome.stdout.len() as u64, 5 * len);
    assert_shared([0, 1].map(|wire| site.delivered(wire)), 7 * len);
}

#[test]
fn fifty_transfers_of_one_program_at_once() {
    let site = Site::new(two(100.0, 5.0));
    let _http = site.http(Transport::Mptcp);
    let pattern = format!("http://{}/[200001-200050]", server_address(0, false));
    let files = site.file("part-#1");
    let arguments = ["--parallel", "--parallel-immediate", "--parallel-max", "50"];
    let mut curl = site.curl(&arguments);
    curl.args(["-o", &files.to_string_lossy(), &pattern]);
    let outcome = run(curl);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    for len in 200_001..=200_050_u64 {
        let bytes = std::fs::read(site.file(&format!("part-{len}"))).unwrap();
        let mut wanted = vec![0; len as usize];
        stream::fill(0, &mut wanted);
        assert!(
            bytes == wanted,
            "the transfer of {len} bytes: {} bytes came",
            bytes.len()
        );
    }
    site.assert_server_mptcp(50, 1);
    site.assert_kernel_client_idle();
}

#[test]
fn a_plain_server_gets_plain_tcp() {
    let len = 3_000_000;
    let site = Site::new(two(50.0, 10.0));
    let _http = site.http(Transport::Tcp);
    for _ in 0..2 {
        Download::start(site.curl(&[&url(len)])).expect_stream(len);
    }
    let log = site.engine_log();
    assert!(log.contains("does not speak MPTCP"), "the reason is told");
    assert_eq!(
        site.lab().wire(1).stats().unwrap().to_server.tcp_in,
        0,
        "no join without MPTCP"
    );
}

/// The library's own death must not look like an end of file.
fn engine_dies_under(command: impl Fn(&Site) -> std::process::Command) -> (interop::Outcome, Duration) {
    let site = Site::new(two(20.0, 10.0));
    let _http = site.http(Transport::Mptcp);
    let running = Running::start(command(&site));
    interop::wait_until("data flows", || site.delivered(0) + site.delivered(1) > 2_000_000);
    let engine = rustix::process::Pid::from_raw(site.engine_pid()).unwrap();
    let killed = interop::clock::now();
    rustix::process::kill_process(engine, rustix::process::Signal::KILL).unwrap();
    let outcome = running.finish();
    let silence = interop::clock::now() - killed;
    let len = 1_000_000;
    Download::start(site.curl(&[&url(len)])).expect_stream(len);
    site.assert_server_mptcp(2, 1);
    site.assert_kernel_client_idle();
    (outcome, silence)
}

#[test]
fn an_engine_that_is_killed_is_a_reset_to_curl_and_another_one_starts() {
    let (outcome, silence) = engine_dies_under(|site| site.curl(&[&url(60_000_000), "-o", "/dev/null"]));
    assert_eq!(outcome.status.code(), Some(56), "{outcome:?}");
    assert!(outcome.stderr.contains("Connection reset by peer"), "{outcome:?}");
    figure(&format!("engine killed: curl ends after {} ms", silence.as_millis()));
    assert!(silence < Duration::from_secs(10), "it took {silence:?}");
}

#[test]
fn an_engine_that_is_killed_is_a_reset_to_raw_system_calls() {
    let (outcome, silence) = engine_dies_under(|site| {
        let mut get = site.command(probe::program());
        let server = server_address(0, false).to_string();
        get.args(["rawget", &server, "80", "/60000000"]);
        get
    });
    assert_eq!(outcome.status.code(), Some(libc::ECONNRESET), "{outcome:?}");
    figure(&format!(
        "engine killed: a raw read ends after {} ms",
        silence.as_millis()
    ));
    assert!(silence < Duration::from_secs(10), "it took {silence:?}");
}

//! The lab itself: wires, cuts, middleboxes, peers and the clean end, seen with the kernel's own TCP and MPTCP.
//! No test asserts a speed: times are checked from below only, where physics of the wire gives the bound.

#[path = "lab/mod.rs"]
mod lab;

use lab::host::wait_timeout;
use lab::{
    clock, far_address, program, require_program, server_address, stream, Lab, LabSpec, Middlebox, Peer, Report,
    Toward, Transport, Wire,
};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Two wires, used both by the kernel's MPTCP.
fn two_wires() -> Lab {
    let lab = Lab::new(LabSpec::new([Wire::new(50.0, 5.0), Wire::new(50.0, 5.0)])).unwrap();
    lab.kernel_paths().unwrap();
    lab
}

/// Fetches over the first wire's address and compares the bytes.
fn fetch(lab: &Lab, transport: Transport, http: &Peer, len: u64) -> Report {
    let server = http.at(server_address(0, false));
    let report = lab.client().get(transport, server, &format!("/{len}")).unwrap();
    assert_eq!((report.bytes, &report.sha256), (len, &stream::sha256(len)));
    report
}

/// Waits until `condition` holds; fails the test when it never does.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !condition() {
        assert!(clock::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn tcp_crosses_a_wire_to_every_address_of_the_server() {
    let lab = Lab::new(LabSpec::new([Wire::new(100.0, 2.0), Wire::new(100.0, 2.0)])).unwrap();
    let http = lab.server().http_server(Transport::Tcp, &[]).unwrap();
    for v6 in [false, true] {
        for address in [server_address(0, v6), server_address(1, v6), far_address(v6)] {
            let report = lab.client().get(Transport::Tcp, http.at(address), "/300000").unwrap();
            assert_eq!((report.bytes, report.sha256), (300_000, stream::sha256(300_000)));
        }
    }
    let checksums = [0, 1].map(|wire| lab.wire(wire).stats().unwrap().to_client.bad_checksum);
    assert_eq!(checksums, [0, 0]);
}

#[test]
fn a_wire_is_no_faster_than_its_rate_and_delay() {
    let lab = Lab::new(LabSpec::new([Wire::new(20.0, 30.0)])).unwrap();
    let http = lab.server().http_server(Transport::Tcp, &[]).unwrap();
    let report = fetch(&lab, Transport::Tcp, &http, 1_000_000);
    assert!(report.seconds >= 0.4, "8 Mbit at 20 Mbit/s: {report:?}");
    let report = fetch(&lab, Transport::Tcp, &http, 1);
    assert!(
        report.seconds >= 0.12,
        "two round trips of 60 ms, handshake and request: {report:?}"
    );
}

#[test]
fn a_cut_stops_everything_until_it_is_mended() {
    let lab = Lab::new(LabSpec::new([Wire::new(20.0, 5.0)])).unwrap();
    let http = lab.server().http_server(Transport::Tcp, &[]).unwrap();
    thread::scope(|scope| {
        let transfer = scope.spawn(|| fetch(&lab, Transport::Tcp, &http, 3_000_000));
        let delivered = || lab.wire(0).stats().unwrap().to_client.bytes_out;
        wait_until("data flows", || delivered() > 100_000);
        lab.wire(0).cut().unwrap();
        let at_cut = delivered();
        wait_until("something is dropped", || {
            lab.wire(0).stats().unwrap().to_client.cut_dropped > 0
        });
        thread::sleep(Duration::from_millis(300));
        assert_eq!(delivered(), at_cut);
        lab.wire(0).mend().unwrap();
        let report = transfer.join().unwrap();
        assert!(report.longest_silence_ms >= 300.0, "{report:?}");
    });
}

#[test]
fn the_carrier_goes_and_comes_at_both_hosts() {
    let lab = two_wires();
    for (up, expected) in [(false, "down"), (true, "up")] {
        lab.wire(1).set_carrier(up).unwrap();
        for host in [lab.client(), lab.server()] {
            let state = || {
                host.output("ip", &["-j", "link", "show", "eth1"])
                    .unwrap()
                    .to_lowercase()
            };
            wait_until(expected, || state().contains(&format!("\"operstate\":\"{expected}\"")));
        }
    }
    let http = lab.server().http_server(Transport::Tcp, &[]).unwrap();
    let report = lab
        .client()
        .get(Transport::Tcp, http.at(server_address(1, false)), "/1000")
        .unwrap();
    assert_eq!(report.bytes, 1000);
}

#[test]
fn a_capture_holds_every_frame_that_the_client_sees() {
    let lab = Lab::new(LabSpec::new([Wire::new(50.0, 5.0)])).unwrap();
    let path = std::env::temp_dir().join(format!("lab-capture-{}.pcap", std::process::id()));
    lab.wire(0).capture(Some(&path)).unwrap();
    let http = lab.server().http_server(Transport::Tcp, &[]).unwrap();
    fetch(&lab, Transport::Tcp, &http, 100_000);
    lab.wire(0).capture(None).unwrap();
    let stats = lab.wire(0).stats().unwrap();
    let file = fs::read(&path);
    fs::remove_file(&path).unwrap();
    let mut frames = file.unwrap().split_off(24);
    let mut count = 0;
    while !frames.is_empty() {
        let len = u32::from_ne_bytes(frames[8..12].try_into().unwrap()) as usize;
        frames.drain(..16 + len);
        count += 1;
    }
    // Late acknowledgements may come between the two requests.
    let seen = stats.to_server.frames_in + stats.to_client.frames_out;
    assert!((seen - 4..=seen).contains(&count), "{count} of {seen}");
}

#[test]
fn loss_reordering_and_duplication_happen_and_tcp_repairs_them() {
    let wire = Wire::new(50.0, 2.0).loss(0.02).reorder(0.05).duplicate(0.02);
    let lab = Lab::new(LabSpec::new([wire])).unwrap();
    let http = lab.server().http_server(Transport::Tcp, &[]).unwrap();
    fetch(&lab, Transport::Tcp, &http, 2_000_000);
    let stats = lab.wire(0).stats().unwrap().to_client;
    assert!(
        stats.lost > 0 && stats.reordered > 0 && stats.duplicated > 0,
        "{stats:?}"
    );
    assert!(lab.server().counter("TcpRetransSegs").unwrap() > 0);
}

#[test]
fn a_bare_wire_carries_but_has_no_emulator() {
    let lab = Lab::new(LabSpec::new([Wire::bare()])).unwrap();
    let http = lab.server().http_server(Transport::Mptcp, &[]).unwrap();
    fetch(&lab, Transport::Mptcp, &http, 5_000_000);
    assert!(lab.wire(0).cut().is_err());
}

#[test]
fn kernel_mptcp_uses_both_wires() {
    let lab = two_wires();
    let http = lab.server().http_server(Transport::Mptcp, &[]).unwrap();
    for v6 in [false, true] {
        let server = http.at(server_address(0, v6));
        let report = lab.client().get(Transport::Mptcp, server, "/4000000").unwrap();
        assert_eq!(report.sha256, stream::sha256(4_000_000));
    }
    assert_eq!(lab.server().counter("MPTcpExtMPCapableACKRX").unwrap(), 2);
    assert_eq!(lab.server().counter("MPTcpExtMPJoinAckRx").unwrap(), 2);
    for wire in 0..2 {
        let stats = lab.wire(wire).stats().unwrap().to_client;
        assert!(stats.bytes_out > 200_000, "wire {wire}: {stats:?}");
    }
}

#[test]
fn a_transfer_survives_the_cut_of_either_wire() {
    for wire in [0, 1] {
        let lab = two_wires();
        let http = lab.server().http_server(Transport::Mptcp, &[]).unwrap();
        thread::scope(|scope| {
            let transfer = scope.spawn(|| fetch(&lab, Transport::Mptcp, &http, 10_000_000));
            let delivered = || lab.wire(wire).stats().unwrap().to_client.bytes_out;
            wait_until("the wire is used", || delivered() > 500_000);
            lab.wire(wire).cut().unwrap();
            transfer.join().unwrap();
        });
    }
}

/// One transfer by kernel MPTCP through a box on both wires. Returns the lab, so that counters can be looked at.
fn through(boxes: &[Middlebox]) -> Lab {
    let lab = two_wires();
    for wire in 0..2 {
        lab.wire(wire).middleboxes(boxes).unwrap();
    }
    let http = lab.server().http_server(Transport::Mptcp, &[]).unwrap();
    fetch(&lab, Transport::Mptcp, &http, 2_000_000);
    drop(http);
    lab
}

/// Frames that the boxes changed and dropped, both wires and directions together.
fn box_work(lab: &Lab) -> [u64; 2] {
    let stats = [0, 1].map(|wire| lab.wire(wire).stats().unwrap());
    let lines = stats.iter().flat_map(|wire| [wire.to_server, wire.to_client]);
    lines.fold([0, 0], |[changed, dropped], line| {
        [changed + line.box_changed, dropped + line.box_dropped]
    })
}

#[test]
fn stripped_syns_mean_plain_tcp() {
    let lab = through(&[Middlebox::StripSyn]);
    assert_eq!(lab.client().counter("MPTcpExtMPCapableSYNTX").unwrap(), 1);
    assert_eq!(lab.server().counter("MPTcpExtMPCapableSYNRX").unwrap(), 0);
    assert_eq!(box_work(&lab)[0], 1);
}

#[test]
fn a_stripped_syn_ack_makes_the_client_fall_back() {
    let lab = through(&[Middlebox::StripSynAck]);
    assert_eq!(lab.server().counter("MPTcpExtMPCapableSYNRX").unwrap(), 1);
    assert_eq!(lab.client().counter("MPTcpExtMPCapableFallbackSYNACK").unwrap(), 1);
}

#[test]
fn stripped_later_segments_make_the_server_fall_back() {
    let lab = through(&[Middlebox::StripLater]);
    assert_eq!(lab.server().counter("MPTcpExtMPCapableSYNRX").unwrap(), 1);
    assert_eq!(lab.server().counter("MPTcpExtMPCapableFallbackACK").unwrap(), 1);
}

#[test]
fn stripping_everything_leaves_nothing_of_mptcp() {
    let lab = through(&[Middlebox::StripAll]);
    assert_eq!(lab.server().counter("MPTcpExtMPCapableSYNRX").unwrap(), 0);
}

#[test]
fn a_stripped_add_addr_is_never_heard() {
    for stripped in [false, true] {
        let lab = Lab::new(LabSpec::new([Wire::new(50.0, 5.0), Wire::new(50.0, 5.0)])).unwrap();
        lab.announce(1, false).unwrap();
        if stripped {
            lab.wire(0).middleboxes([Middlebox::StripAddAddr]).unwrap();
        }
        let http = lab.server().http_server(Transport::Mptcp, &[]).unwrap();
        fetch(&lab, Transport::Mptcp, &http, 1_000_000);
        let heard = lab.client().counter("MPTcpExtAddAddr").unwrap();
        assert_eq!(heard == 0, stripped);
        assert_eq!(lab.server().counter("MPTcpExtMPJoinSynRx").unwrap() == 0, stripped);
    }
}

#[test]
fn dropped_mptcp_syns_end_in_plain_tcp() {
    let lab = through(&[Middlebox::DropCapableSyn]);
    assert_eq!(lab.server().counter("MPTcpExtMPCapableSYNRX").unwrap(), 0);
    assert!(box_work(&lab)[1] > 0);
}

#[test]
fn dropped_joins_leave_one_path() {
    let lab = through(&[Middlebox::DropJoinSyn]);
    assert_eq!(lab.server().counter("MPTcpExtMPCapableACKRX").unwrap(), 1);
    assert_eq!(lab.server().counter("MPTcpExtMPJoinSynRx").unwrap(), 0);
    assert!(box_work(&lab)[1] > 0);
}

/// Boxes that MPTCP must live with: it stays MPTCP and joins.
#[test]
fn mptcp_passes_boxes_that_change_segments_but_not_meaning() {
    let boxes = [
        Middlebox::ShiftSequence,
        Middlebox::Split { max_payload: 500 },
        Middlebox::Merge { equal_options: true },
        Middlebox::Nat,
    ];
    for kind in boxes {
        let lab = through(&[kind]);
        assert_eq!(lab.server().counter("MPTcpExtMPCapableACKRX").unwrap(), 1, "{kind:?}");
        assert_eq!(lab.server().counter("MPTcpExtMPJoinAckRx").unwrap(), 1, "{kind:?}");
        assert!(box_work(&lab)[0] > 0, "{kind:?}");
    }
    through(&boxes);
}

/// Linux 6.18 as receiver falls back alone when mappings are missing, and then waits for ever: so only that it noticed, and that TCP is unharmed.
#[test]
fn a_merge_can_lose_mappings_but_never_bytes() {
    let lab = two_wires();
    let merge = Middlebox::Merge { equal_options: false };
    lab.wire(0).middleboxes([merge]).unwrap();
    let http = lab.server().http_server(Transport::Tcp, &[]).unwrap();
    fetch(&lab, Transport::Tcp, &http, 500_000);
    assert!(box_work(&lab)[0] > 0);
    let http = lab.server().http_server(Transport::Mptcp, &[]).unwrap();
    let server = http.at(server_address(0, false)).to_string();
    let mut get = lab.client().command(program().unwrap());
    let mut get = get
        .args(["get", "--transport", "mptcp", &server, "/100000"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let noticed = || {
        lab.client().counter("MPTcpExtDSSCorruptionFallback").unwrap()
            + lab.client().counter("MPTcpExtDSSCorruptionReset").unwrap()
    };
    wait_until("the receiver misses a mapping", || noticed() > 0);
    get.kill().unwrap();
    get.wait().unwrap();
}

#[test]
fn corruption_passes_tcp_unseen() {
    require_program("curl", "curl").unwrap();
    let lab = Lab::new(LabSpec::new([Wire::new(50.0, 5.0)])).unwrap();
    let offset = 5000;
    let corrupt = Middlebox::CorruptOnce {
        toward: Toward::Client,
        offset,
    };
    lab.wire(0).middleboxes([corrupt]).unwrap();
    let http = lab.server().http_server(Transport::Tcp, &[]).unwrap();
    let url = http.url(server_address(0, false), "/20000");
    // Head and body: the bytes of the connection.
    let mut fetched = [0, 1].map(|_| {
        lab.client()
            .command("curl")
            .args(["-s", "-i", &url])
            .output()
            .unwrap()
            .stdout
    });
    assert_eq!(lab.wire(0).stats().unwrap().to_client.box_changed, 1);
    assert_ne!(fetched[0], fetched[1]);
    fetched[0][offset as usize] ^= 0x04;
    assert_eq!(fetched[0], fetched[1]);
}

#[test]
fn the_mptcp_checksum_sees_corruption_and_another_path_repairs_it() {
    let lab = two_wires();
    for host in [lab.client(), lab.server()] {
        host.output("sh", &["-c", "echo 1 >/proc/sys/net/mptcp/checksum_enabled"])
            .unwrap();
    }
    let corrupt = Middlebox::CorruptEvery {
        toward: Toward::Client,
        nth: 100,
    };
    lab.wire(1).middleboxes([corrupt]).unwrap();
    let http = lab.server().http_server(Transport::Mptcp, &[]).unwrap();
    fetch(&lab, Transport::Mptcp, &http, 5_000_000);
    assert!(lab.client().counter("MPTcpExtDataCsumErr").unwrap() > 0);
    assert!(lab.client().counter("MPTcpExtMPFailTx").unwrap() > 0);
}

#[test]
fn uploads_are_counted_and_hashed() {
    require_program("curl", "curl").unwrap();
    let lab = two_wires();
    let http = lab
        .server()
        .http_server(Transport::Mptcp, &["--congestion", "reno"])
        .unwrap();
    let url = http.url(server_address(0, false), "/upload");
    // From a pipe curl uploads in chunks, without knowing the length.
    let upload = format!("{} stream 1000000 | curl -sS -T - {url}", program().unwrap().display());
    let answer = lab.client().output("sh", &["-c", &upload]).unwrap();
    assert!(answer.contains(&stream::sha256(1_000_000)), "{answer}");
    assert_eq!(http.report(PATIENCE).unwrap().sha256, stream::sha256(1_000_000));
    let server = http.at(server_address(0, false)).to_string();
    let put = ["put", "--transport", "mptcp", "--bytes", "500000", &server, "/upload"];
    let answer = lab.client().output(program().unwrap(), &put).unwrap();
    assert!(answer.contains(&stream::sha256(500_000)), "{answer}");
}

#[test]
fn sinks_and_sources_report_what_passed() {
    let lab = Lab::new(LabSpec::new([Wire::new(100.0, 1.0)])).unwrap();
    let sink = lab.server().sink(Transport::Mptcp, &[]).unwrap();
    let address = server_address(0, false);
    let bash = |script: String| lab.client().output("bash", &["-c", &script]).unwrap();
    let program = program().unwrap().display();
    bash(format!("{program} stream 200000 >/dev/tcp/{address}/{}", sink.port));
    assert_eq!(sink.report(PATIENCE).unwrap().sha256, stream::sha256(200_000));
    let source = lab.server().source(Transport::Tcp, &["--bytes", "300000"]).unwrap();
    let read = bash(format!("{program} reader </dev/tcp/{address}/{}", source.port));
    assert!(read.contains(&stream::sha256(300_000)), "{read}");
}

#[test]
fn the_server_can_be_slow_and_can_reset() {
    require_program("curl", "curl").unwrap();
    let lab = Lab::new(LabSpec::new([Wire::new(50.0, 1.0)])).unwrap();
    let http = lab.server().http_server(Transport::Tcp, &[]).unwrap();
    let slow = lab
        .client()
        .get(Transport::Tcp, http.at(server_address(0, false)), "/slow/2000")
        .unwrap();
    assert_eq!(slow.bytes, 2000);
    assert!(slow.seconds > 0.9, "{slow:?}");
    let url = http.url(server_address(0, false), "/reset/100000");
    let mut curl = lab.client().command("curl");
    let status = curl.args(["-s", "-o", "/dev/null", &url]).status().unwrap();
    // 56: failure in receiving, which is what ECONNRESET gives; 18: partial file would be an orderly end.
    assert_eq!(status.code(), Some(56));
}

#[test]
fn https_and_http2_by_nginx_on_kernel_mptcp() {
    require_program("curl", "curl").unwrap();
    let lab = two_wires();
    let https = lab.server().https_server(Transport::Mptcp, 1_000_000).unwrap();
    let url = format!("https://{}/1000000", https.at(server_address(0, false)));
    let mut curl = lab.client().mptcpize("curl").unwrap();
    let output = curl
        .args([
            "-sSk",
            "--http2",
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{size_download}",
            &url,
        ])
        .output();
    let output = output.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2 1000000", "{output:?}");
    assert_eq!(lab.server().counter("MPTcpExtMPCapableACKRX").unwrap(), 1);
}

#[test]
fn the_reader_hashes_a_pipe() {
    let command = format!("{0} stream 300000 | {0} reader", program().unwrap().display());
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report.bytes, report.sha256), (300_000, stream::sha256(300_000)));
}

#[test]
fn labs_do_not_see_each_other() {
    let labs = [two_wires(), two_wires()];
    let servers = [0, 1].map(|i| {
        labs[i]
            .server()
            .http_server(Transport::Mptcp, &["--port", "80"])
            .unwrap()
    });
    labs[0].wire(0).cut().unwrap();
    labs[0].wire(1).cut().unwrap();
    fetch(&labs[1], Transport::Mptcp, &servers[1], 100_000);
    assert_eq!(labs[0].server().counter("MPTcpExtMPCapableSYNRX").unwrap(), 0);
}

fn is_alive(pid: u32) -> bool {
    // A zombie has no namespaces any more.
    fs::metadata(format!("/proc/{pid}/ns/net")).is_ok()
}

#[test]
fn the_end_of_a_lab_ends_what_runs_inside() {
    let lab = two_wires();
    let http = lab.server().http_server(Transport::Tcp, &[]).unwrap();
    // A daemon: in its own session, its parent gone.
    let daemon = lab
        .client()
        .output("sh", &["-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"])
        .unwrap();
    let pids = [daemon.trim().parse().unwrap(), http.pid(), lab.holder_pid()];
    assert!(pids.iter().all(|&pid| is_alive(pid)));
    drop(lab);
    assert!(!pids.iter().any(|&pid| is_alive(pid)));
}

#[test]
fn a_killed_test_leaves_nothing_behind() {
    let mut command = Command::new(program().unwrap());
    let script = "setsid sleep 1000 & echo $!; echo $PPID; pgrep -P $PPID; sleep 1000";
    command.args(["run", "--http", "mptcp", "--", "sh", "-c", script]);
    let mut killed = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    // The daemon, `lab run` itself, and its children: holder, HTTP server and shell.
    let pids: Vec<u32> = lines.take(5).map(|line| line.unwrap().parse().unwrap()).collect();
    assert!(pids.iter().all(|&pid| is_alive(pid)), "{pids:?}");
    killed.kill().unwrap();
    killed.wait().unwrap();
    wait_until("everything is gone", || !pids.iter().any(|&pid| is_alive(pid)));
}

/// As a user without rights the lab makes itself a user namespace, or says in one line why it cannot.
#[test]
fn without_root_it_runs_or_says_why_not() {
    let directory = std::env::temp_dir().join(format!("lab-unprivileged-{}", std::process::id()));
    let copy = Copy::new(&directory);
    let mut command = Command::new(&copy.program);
    command.args([
        "run",
        "--http",
        "mptcp",
        "--",
        "sh",
        "-c",
        "exec $0 get $LAB_SERVER:80 /100000",
    ]);
    command
        .arg(&copy.program)
        .current_dir("/")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if output.status.success() {
        assert!(said.contains(&stream::sha256(100_000)), "{said}");
    } else {
        assert!(
            complained.contains("needs root, or unprivileged user namespaces"),
            "{complained}"
        );
        assert_eq!(complained.lines().count(), 1);
    }
}

/// The program where everybody may execute it.
struct Copy<'a> {
    directory: &'a Path,
    program: std::path::PathBuf,
}

impl Copy<'_> {
    fn new(directory: &Path) -> Copy<'_> {
        fs::create_dir_all(directory).unwrap();
        let program = directory.join("lab");
        let copy = Copy { directory, program };
        fs::copy(lab::program().unwrap(), &copy.program).unwrap();
        copy
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        // Best effort: a failed removal must not hide the test's own failure.
        let _ = fs::remove_dir_all(self.directory);
    }
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    let why = require_program("no-such-program", "some-package").unwrap_err();
    assert_eq!(why, "no-such-program is missing: apt-get install some-package");
}

#[test]
fn waiting_is_bounded() {
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    assert!(wait_timeout(&mut child, Duration::from_millis(10)).is_err());
    assert!(!is_alive(child.id()));
}

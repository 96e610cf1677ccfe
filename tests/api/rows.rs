//! What RFC 6897 says of programs that know nothing of MPTCP: rows L1 to L21 of `tests/conformance/table.txt`.

use crate::interop::{self, run, Running};
use crate::{Place, Program};
use std::time::Duration;

fn row(name: &str) {
    Place::new().check("rows", &[], &[name]);
}

// Proves L1, L3, L13.
#[test]
fn l1_l3_l13_names_are_the_first_subflows_also_when_it_is_gone() {
    row("l1");
}

// Proves L2, REQ12.
#[test]
fn l2_fate_sharing_is_a_policy_and_off_by_default() {
    row("l2");
    row("l2-default");
}

// Proves L4.
#[test]
fn l4_a_wildcard_leaves_the_choice_of_addresses() {
    row("l4");
}

// Proves L5.
#[test]
fn l5_a_specific_address_is_respected() {
    let place = Place::new();
    place.check("rows", &[], &["l5"]);
    let counters = place.site.lab().server().nstat().expect("counters");
    assert_eq!(
        counters.get("MPTcpExtMPCapableSYNRX").copied().unwrap_or(0),
        0,
        "no MP_CAPABLE"
    );
}

// Proves L6.
#[test]
fn l6_a_specific_address_and_multipath_asked_for() {
    row("l6");
}

// Proves L7.
#[test]
fn l7_shutdown_is_half_a_close() {
    row("l7");
}

// Proves L12.
#[test]
fn l12_joins_wait_as_the_variable_says() {
    let place = Place::new();
    let mut curl = place.site.curl(&[&interop::url(2_000_000), "-o", "/dev/null"]);
    curl.env("MPTCP_JOIN", "never");
    assert!(run(curl).status.success());
    place.site.assert_server_mptcp(1, 0);
    let counters = place.site.lab().server().nstat().expect("counters");
    assert_eq!(counters.get("MPTcpExtMPJoinSynRx").copied().unwrap_or(0), 0, "no join");
}

// Proves L8.
#[test]
fn l8_options_hold_on_all_subflows() {
    row("l8");
}

/// Runs a row to which the status is asked until it says what is expected of its one connection.
fn until_status(row: &str, variables: &[(&str, &str)], expected: impl Fn(&serde_json::Value) -> bool) {
    until_engine_says(row, variables, |engine| {
        engine["connections"].get(0).is_some_and(&expected)
    });
}

/// Runs a row to which the status is asked until it says what is expected of the engine; what it says for people then.
fn until_engine_says(row: &str, variables: &[(&str, &str)], expected: impl Fn(&serde_json::Value) -> bool) -> String {
    let place = Place::new();
    let program = Program::compile("rows");
    let mut command = program.command(|path| place.site.command(path), false, &[row]);
    command.envs(variables.iter().copied());
    let running = Running::start(command);
    let mut tries = 0;
    loop {
        let mptcp = |arguments: &[&str]| {
            let client = place.site.lab().client();
            client
                .output(env!("CARGO_BIN_EXE_mptcp"), arguments)
                .unwrap_or_default()
        };
        let status: serde_json::Value = serde_json::from_str(&mptcp(&["status", "--json"])).unwrap_or_default();
        let engines = status["engines"].as_array();
        if engines.is_some_and(|engines| engines.iter().any(&expected)) {
            let said = mptcp(&["status"]);
            drop(running);
            return said;
        }
        tries += 1;
        assert!(tries < 600, "{row} {variables:?}: {status:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Why connections were left to the kernel.
fn reasons(engine: &serde_json::Value) -> Vec<&str> {
    let bypasses = engine["bypasses"].as_array().into_iter().flatten();
    bypasses.filter_map(|bypass| bypass["reason"].as_str()).collect()
}

const GUESSES: [&str; 3] = [
    "SO_SNDBUF is too small for several paths",
    "SO_RCVBUF is too small for several paths",
    "bound to a local address",
];
const ONLY_THE_KERNELS: [&str; 3] = [
    "IP options are set",
    "a foreign source address (IP_TRANSPARENT, IP_FREEBIND)",
    "a TCP feature of the kernel's is on (repair, MD5, ULP, filter)",
];

/// Also where no engine ran before.
#[test]
fn status_says_why_connections_are_left_to_the_kernel() {
    let all = [GUESSES, ONLY_THE_KERNELS].concat();
    let said = until_engine_says("left", &[], |engine| reasons(engine) == all);
    assert!(all.iter().all(|reason| said.contains(reason)), "{said}");
}

/// What is no guess stays the kernel's.
#[test]
fn guesses_can_be_switched_off_one_by_one() {
    for (variable, left) in [
        ("-buffers", &GUESSES[2..]),
        ("-bound", &GUESSES[..2]),
        ("off", &GUESSES[..0]),
    ] {
        until_engine_says("left", &[("MPTCP_HEURISTICS", variable)], |engine| {
            let connections = engine["connections"].as_array().map_or(0, Vec::len);
            reasons(engine) == [left, &ONLY_THE_KERNELS].concat() && connections == GUESSES.len() - left.len()
        });
    }
}

#[test]
fn status_says_when_further_subflows_are_opened() {
    for (variable, joins) in [
        ("at-once", "at once"),
        ("after-bytes", "after 100000 bytes"),
        ("after-bytes:5000", "after 5000 bytes"),
        ("never", "never"),
    ] {
        let said = until_engine_says("nodelay", &[("MPTCP_JOIN", variable)], |engine| {
            engine["connections"][0]["policy"]["joins"] == joins
        });
        assert_eq!(
            said.contains(&format!("joins {joins}")),
            variable != "at-once",
            "it tells what is not as by default: {said}"
        );
    }
}

// Proves L9.
#[test]
fn l9_nodelay_keeps_data_off_slow_paths_and_can_be_ignored() {
    let low = |connection: &serde_json::Value| connection["policy"]["low_latency"].clone();
    until_status("nodelay", &[], |c| low(c) == "TCP_NODELAY");
    until_status("nodelay", &[("MPTCP_HEURISTICS", "-nodelay")], |c| {
        c["state"] == "established" && c["policy"].is_object() && low(c).is_null()
    });
}

// Proves L10.
#[test]
fn l10_a_small_buffer_asks_for_no_multipath_unless_told_otherwise() {
    row("l10");
    row("l10-send");
    let place = Place::new();
    for ignored in ["l10-ignored", "l10-send-ignored"] {
        place.check("rows", &[("MPTCP_HEURISTICS", "-buffers")], &[ignored]);
    }
}

// Proves L11.
#[test]
fn l11_other_options_do_not_interfere() {
    row("l11");
}

/// Of the multihoming that the RFC names only Mobile IPv6 is in Linux; its routes are xfrm policies.
// Proves L14.
#[test]
fn l14_not_beside_mobile_ipv6() {
    let place = Place::new();
    let server = interop::server_address(0, true).to_string();
    let program = Program::compile("rows");
    let paths = |row: &str| {
        let outcome = run(program.command(|path| place.site.command(path), true, &[row]));
        assert!(
            outcome.status.success(),
            "{row}: {}\n{}",
            outcome.stderr,
            place.site.engine_log()
        );
    };
    paths("l14-without");
    let destination = format!("{server}/128");
    let policy = [
        "xfrm",
        "policy",
        "add",
        "src",
        "::/0",
        "dst",
        &destination,
        "dir",
        "out",
    ];
    let template = ["tmpl", "proto", "hao", "mode", "ro", "level", "use"];
    let client = place.site.lab().client();
    client.ip(&[&policy[..], &template[..]].concat()).expect("ip(8)");
    paths("l14");
}

// Proves L15.
#[test]
fn l15_sctp_is_another_matter() {
    let place = Place::new();
    let program = Program::compile("rows");
    let said = |command: std::process::Command| {
        let outcome = run(command);
        assert!(outcome.status.success(), "{}", outcome.stderr);
        String::from_utf8(outcome.stdout).expect("text")
    };
    let client = place.site.lab().client();
    let kernel = said(program.command(|path| client.command(path), false, &["l15"]));
    let library = said(program.command(|path| place.site.command(path), false, &["l15"]));
    assert!(
        kernel.lines().count() >= 4 && kernel == library,
        "kernel:\n{kernel}library:\n{library}"
    );
}

// Proves L17.
#[test]
fn l17_tls_runs_unchanged() {
    let len = 2_000_000;
    let site = interop::Site::new([interop::Wire::new(20.0, 5.0); 2]);
    let https = site.lab().server().https_server(interop::Transport::Mptcp, len);
    let _https = https.expect("nginx starts");
    let url = format!("https://{}/{len}", interop::server_address(0, false));
    interop::Download::start(site.curl(&["--insecure", &url])).expect_stream(len);
    site.assert_server_mptcp(1, 1);
}

// Proves L16.
#[test]
fn l16_only_the_address_connected_to_counts() {
    row("l16");
}

// Proves L18.
#[test]
fn l18_fallback_is_not_noticed() {
    row("l18");
}

// Proves L19.
#[test]
fn l19_without_multipath_no_other_path_is_used_nor_told() {
    let place = Place::new();
    place.check("rows", &[], &["l19"]);
    let stats = place.site.lab().wire(1).stats().expect("counters");
    assert_eq!(
        (stats.to_server.tcp_in, stats.to_client.tcp_in),
        (0, 0),
        "the second wire"
    );
    let counters = place.site.lab().server().nstat().expect("counters");
    assert_eq!(counters.get("MPTcpExtAddAddr").copied().unwrap_or(0), 0);
}

// Proves L20.
#[test]
fn l20_writes_tell_what_a_connection_is_for() {
    let traffic = |c: &serde_json::Value| c["policy"]["traffic"].clone();
    until_status("typing", &[], |c| {
        traffic(c) == "interactive" && c["policy"]["low_latency"].is_string()
    });
    until_status("typing", &[("MPTCP_HEURISTICS", "-pattern")], |c| {
        traffic(c) == "interactive" && c["policy"]["low_latency"].is_null()
    });
    until_status("pouring", &[], |c| traffic(c) == "bulk");
}

// Proves L21.
#[test]
fn l21_what_only_the_kernels_tcp_has_is_left_to_it() {
    let place = Place::new();
    place.check("rows", &[], &["l21"]);
    let counters = place.site.lab().server().nstat().expect("counters");
    assert_eq!(
        counters.get("MPTcpExtMPCapableSYNRX").copied().unwrap_or(0),
        0,
        "no MP_CAPABLE"
    );
}

#[test]
fn bound_addresses_can_be_taken_for_a_habit() {
    Place::new().check("rows", &[("MPTCP_HEURISTICS", "-bound")], &["bound-ignored"]);
}

#[test]
fn an_intent_can_come_from_a_variable() {
    Place::new().check("rows", &[("MPTCP_INTENT", "handover")], &["intent"]);
}

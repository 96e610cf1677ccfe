//! Which interfaces are used: what the user says, own addresses, routes that lead nowhere.

use crate::lab::{client_address, Transport};
use crate::site::{By, Site};

/// Bytes of one download over wire 1, with a setting.
fn second_wire_under(setting: &str) -> (u64, u64) {
    let site = Site::new();
    let setting = format!("MPTCP_PATHS={setting}");
    assert!(site
        .download(&[&setting], &site.url("/3000000"), 3_000_000)
        .used_engine());
    (site.tcp_sent(1), site.carried(1))
}

#[test]
fn interfaces_that_the_user_leaves_out_are_not_used() {
    for setting in ["eth0", "-eth1", "eth0,-eth1", "eth9"] {
        assert_eq!(second_wire_under(setting).0, 0, "{setting}");
    }
}

#[test]
fn interfaces_that_the_user_names_are_used() {
    for setting in ["", "eth0,eth1", "eth1", "-eth0"] {
        assert!(second_wire_under(setting).1 > 200_000, "{setting}");
    }
}

#[test]
fn a_backup_waits() {
    for setting in ["eth0,eth1:backup", "eth1:backup"] {
        let (segments, bytes) = second_wire_under(setting);
        assert!(segments > 0, "{setting}: joined");
        assert!(bytes < 100_000, "{setting}: {bytes} bytes by the backup");
    }
}

#[test]
fn a_wrong_setting_is_one_line_and_no_more() {
    for setting in [
        "eth0::",
        "eth0:fast",
        "eth0,,eth1",
        ":backup",
        "-",
        "eth0,-eth0",
        "eth0,eth9",
    ] {
        let site = Site::new();
        let setting = format!("MPTCP_PATHS={setting}");
        let ended = site.download(&[&setting, "MPTCP_LOG=warn"], &site.url("/100000"), 100_000);
        let lines: Vec<&str> = ended
            .log
            .lines()
            .filter(|line| line.contains("curl") && line.contains("MPTCP_PATHS"))
            .collect();
        assert_eq!(lines.len(), 1, "{setting}: {ended:?}");
    }
}

#[test]
fn an_unknown_link_is_one_line_and_no_more() {
    let site = Site::new();
    let ended = site.download(&["MPTCP_LINK=foo", "MPTCP_LOG=warn"], &site.url("/100000"), 100_000);
    let lines = ended
        .log
        .lines()
        .filter(|line| line.contains("curl") && line.contains("MPTCP_LINK"));
    assert_eq!(lines.count(), 1, "{ended:?}");
}

#[test]
fn loopback_and_own_addresses_are_the_kernels() {
    let site = Site::new();
    let local = site
        .lab
        .client()
        .http_server(Transport::Tcp, &[])
        .expect("a web server");
    for address in [
        "127.0.0.1".to_owned(),
        client_address(0, false).to_string(),
        client_address(1, false).to_string(),
        "[::1]".to_owned(),
    ] {
        let url = format!("http://{address}:{}/100000", local.port);
        let ended = site.download(&[], &url, 100_000);
        assert!(!ended.used_engine(), "{ended:?}");
        assert!(ended.log.contains("left to the kernel"), "{ended:?}");
    }
}

#[test]
fn routes_to_nowhere_fail_as_the_kernel_says() {
    let site = Site::new();
    for kind in ["blackhole", "unreachable", "prohibit", "throw"] {
        site.ip(&format!("route add {kind} 192.0.2.200/32"));
        let [kernel, library] = By::BOTH.map(|by| site.run(by, &["bash", "-c", "exec 3<>/dev/tcp/192.0.2.200/80"]));
        assert_eq!(
            (kernel.code, &kernel.stderr),
            (library.code, &library.stderr),
            "{kind}: {library:?}"
        );
        assert_ne!(kernel.code, Some(0), "{kind}");
        assert_eq!(site.tcp_sent(0) + site.tcp_sent(1), 0, "{kind}");
        site.ip(&format!("route del {kind} 192.0.2.200/32"));
    }
}

//! What a serving engine has given up, as the kernel tells it.

use crate::site::Site;
use std::fs;

/// A field of an engine's /proc/PID/status.
fn field(status: &str, name: &str) -> String {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}"))
        .trim()
        .to_string()
}

#[test]
fn a_serving_engine_has_few_rights_left() {
    let site = Site::new();
    let ended = site.download(&[], &site.url("/3000000"), 3_000_000);
    assert!(ended.used_engine(), "{ended:?}");
    let status = fs::read_to_string(format!("/proc/{}/status", site.engine())).expect("it runs");
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    assert_eq!(field(&status, "Seccomp"), "2", "a filter");
    assert_eq!(field(&status, "CapInh"), "0000000000000000");
    // CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW.
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(field(&status, set), "0000000000003400", "{set}");
    }
}

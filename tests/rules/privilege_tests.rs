//! Few privileges, and places where no engine can start: the kernel's TCP, with the same output.

use crate::site::{By, Ended, Site};
use std::fs;

/// The library takes what it cannot carry to the kernel, and says so.
fn assert_by_kernel(ended: &Ended) {
    assert!(!ended.used_engine(), "{ended:?}");
    assert!(ended.log.contains("left to the kernel"), "{ended:?}");
}

#[test]
fn an_unprivileged_user_has_the_kernel() {
    let site = Site::new();
    let user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let ended = site.download(&user, &site.url("/1000000"), 1_000_000);
    assert_by_kernel(&ended);
    assert!(ended.log.contains("CAP_NET_RAW"), "{ended:?}");
    // Silent unless asked, and the same messages.
    for (path, settings) in [
        ("/1000", "MPTCP_LOG="),
        ("/reset/1000", "MPTCP_LOG="),
        ("/1000", "MPTCP_LOG=off"),
    ] {
        let [kernel, library] = By::BOTH.map(|by| {
            site.run(
                by,
                &[&[settings][..], &user, &["curl", "-sSf", &site.url(path)]].concat(),
            )
        });
        assert_eq!(
            (kernel.code, kernel.stdout, kernel.stderr),
            (library.code, library.stdout, library.stderr)
        );
        assert_eq!(library.log, "");
    }
}

#[test]
fn an_engine_of_the_unprivileged_is_in_nobodys_way() {
    let site = Site::new();
    let stays = "MPTCP_IDLE_MS=60000";
    let user = [
        stays,
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
    ];
    assert_by_kernel(&site.download(&user, &site.url("/1000"), 1000));
    let caps = ["--inh-caps", "+net_raw", "--ambient-caps", "+net_raw"];
    let ended = site.download(&[&user[..], &caps].concat(), &site.url("/1000"), 1000);
    assert!(ended.used_engine(), "{ended:?}");
    assert_eq!(site.engines().len(), 2, "one for each");
}

#[test]
fn without_raw_sockets_there_is_the_kernel() {
    let site = Site::new();
    let ended = site.download(
        &["capsh", "--drop=cap_net_raw", "--shell=/usr/bin/env", "--"],
        &site.url("/1000000"),
        1_000_000,
    );
    assert_by_kernel(&ended);
}

#[test]
fn without_net_admin_there_are_listening_guards() {
    let site = Site::new();
    let drop = ["capsh", "--drop=cap_net_admin", "--shell=/usr/bin/env", "--"];
    let ended = site.download(&drop, &site.url("/3000000"), 3_000_000);
    assert!(ended.used_engine(), "{ended:?}");
    assert!(site.carried(1) > 300_000, "both wires");
    assert_eq!(site.lab.client().counter("TcpOutRsts").expect("a counter"), 0);
    assert_eq!(site.lab.server().counter("TcpEstabResets").expect("a counter"), 0);
}

/// Perl says where it runs out, by connect() and a request of its own.
const FETCH: &str = r#"
use Socket;
socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
connect($s, sockaddr_in(80, inet_aton("192.0.2.2"))) or die "connect: $!\n";
syswrite($s, "GET /1000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
my $bytes = "";
while (sysread($s, my $part, 65536)) { $bytes .= $part }
$bytes =~ s/^.*?\r\n\r\n//s;
print length($bytes), "\n";
"#;

#[test]
fn in_a_chroot_without_the_library_there_is_the_kernel() {
    let site = Site::new();
    let script = format!("use Socket; chroot('/proc/self/fdinfo') or die $!; chdir '/'; {FETCH}");
    let ended = site.run(By::Library, &["perl", "-e", &script]);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(0), "1000\n", ""),
        "{ended:?}"
    );
    assert_by_kernel(&ended);
}

#[test]
fn at_the_limit_of_processes_there_is_the_kernel() {
    let site = Site::new();
    // RLIMIT_NPROC does not hold for root.
    let words = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "prlimit",
        "--nproc=0",
        "perl",
        "-e",
        FETCH,
    ];
    let ended = site.run(By::Library, &words);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(0), "1000\n", ""),
        "{ended:?}"
    );
    assert_by_kernel(&ended);
}

#[test]
fn a_library_that_cannot_be_executed_starts_by_the_dynamic_linker_and_a_removed_one_not_at_all() {
    for (removed, name) in [(false, "plain"), (true, "removed")] {
        let site = Site::new();
        let copy = std::env::temp_dir().join(format!("mptcp-rules-{name}-{}.so", std::process::id()));
        fs::copy(crate::lab::library(), &copy).expect("a copy of the library");
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).expect("its mode");
        let path = copy.to_string_lossy();
        let before = if removed {
            format!("unlink '{path}';")
        } else {
            String::new()
        };
        let ended = site.run(
            By::Library,
            &[&format!("LD_PRELOAD={path}"), "perl", "-e", &format!("{before}{FETCH}")],
        );
        let _ = fs::remove_file(&copy);
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
            (Some(0), "1000\n", ""),
            "{ended:?}"
        );
        assert_eq!(ended.used_engine(), !removed, "{ended:?}");
    }
}

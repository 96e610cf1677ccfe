//! Ports belong to everybody: many connections of ours leave enough of them, and no RST of the kernel's ends one.

use crate::site::{finish, wait_until, By, Site};

fn client_counter(site: &Site, name: &str) -> u64 {
    site.lab.client().counter(name).expect("a counter")
}

#[test]
fn the_kernel_resets_nothing_of_ours() {
    let site = Site::new();
    site.download(&[], &site.url("/2000000"), 2_000_000);
    site.upload(2_000_000);
    // What comes late would be answered by now: a few round trips.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(client_counter(&site, "TcpOutRsts"), 0);
}

/// While 200 connections run, others connect 100 times; with a small port range.
fn others_still_connect(before: &[&str]) {
    let site = Site::new();
    site.lab
        .client()
        .output("sysctl", &["-qw", "net.ipv4.ip_local_port_range=40000 41199"])
        .expect("a sysctl");
    // 60 MB over 100 Mbit/s: nobody is done before all are there.
    let curls: Vec<_> = (0..4)
        .map(|_| {
            let urls = "http://192.0.2.2/[300000-300049]";
            let words = [
                "curl",
                "-sS",
                "--no-progress-meter",
                "-Z",
                "--parallel-max",
                "50",
                "--parallel-immediate",
                "-o",
                "/dev/null",
                urls,
            ];
            site.start(By::Library, &[before, &words].concat())
        })
        .collect();
    let established = || {
        site.engine_log()
            .lines()
            .filter(|line| line.ends_with("established"))
            .count()
    };
    wait_until("200 connections are established", || established() >= 200);
    let script = "for i in {1..100}; do exec 3<>/dev/tcp/192.0.2.2/80 || exit 1; done; echo all";
    let others = site.run(By::Kernel, &["bash", "-c", script]);
    assert_eq!((others.code, others.stdout.trim()), (Some(0), "all"), "{others:?}");
    for curl in curls {
        let ended = finish(curl);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.log);
    }
}

#[test]
fn two_hundred_connections_leave_ports_for_others() {
    others_still_connect(&[]);
}

#[test]
fn two_hundred_connections_leave_ports_for_others_without_net_admin() {
    others_still_connect(&["capsh", "--drop=cap_net_admin", "--shell=/usr/bin/env", "--"]);
}

//! Packet filters on INPUT and OUTPUT.

use crate::site::{By, Site};

const INPUT: &str = "filter hook input priority 0";
const OUTPUT: &str = "filter hook output priority 0";

#[test]
fn rules_for_established_connections_pass_whole_transfers() {
    for last in ["meta l4proto tcp reject with tcp reset", "drop"] {
        let site = Site::new();
        let rules = [
            "iif lo accept",
            "meta l4proto icmpv6 accept",
            "ct state established,related accept",
            last,
        ];
        site.nft(INPUT, &rules);
        assert!(site.download(&[], &site.url("/3000000"), 3_000_000).used_engine());
        assert!(site.upload(3_000_000).used_engine());
        let server = |name| site.lab.server().counter(name).expect("a counter");
        assert_eq!(server("MPTcpExtMPJoinAckRx"), 2, "{last}");
        assert_eq!(server("TcpEstabResets"), 0, "{last}");
        assert_eq!(site.lab.client().counter("TcpOutRsts").expect("a counter"), 0, "{last}");
    }
}

/// bash says connect()'s error in words.
#[test]
fn what_is_rejected_fails_with_the_kernels_error() {
    let site = Site::new();
    for rule in [
        "tcp dport 80 reject with tcp reset",
        "tcp dport 80 reject",
        "ip daddr 192.0.2.2 reject with icmp admin-prohibited",
        "ip daddr 192.0.2.2 reject with icmp net-unreachable",
        "ip daddr 192.0.2.2 reject with icmp prot-unreachable",
        "oifname eth0 meta l4proto tcp reject with icmpx host-unreachable",
    ] {
        site.nft(OUTPUT, &[rule]);
        let [kernel, library] = By::BOTH.map(|by| site.run(by, &["bash", "-c", "exec 3<>/dev/tcp/192.0.2.2/80"]));
        assert_eq!(
            (kernel.code, &kernel.stderr),
            (library.code, &library.stderr),
            "{rule}: {library:?}"
        );
        assert_ne!(kernel.code, Some(0), "{rule}");
    }
}

#[test]
fn what_is_dropped_times_out() {
    let site = Site::new();
    for (hook, rule) in [
        (OUTPUT, "tcp dport 80 drop"),
        (OUTPUT, "oifname eth0 drop"),
        (INPUT, "ip saddr 192.0.2.2 drop"),
        (INPUT, "tcp sport 80 reject with tcp reset"),
    ] {
        site.nft(hook, &[rule]);
        let ended = By::BOTH.map(|by| {
            let ended = site.run(by, &["curl", "-sS", "--connect-timeout", "1", &site.url("/10")]);
            (ended.code, ended.stdout)
        });
        assert_eq!(ended[0], (Some(28), String::new()), "{rule}");
        assert_eq!(ended[0], ended[1], "{rule}");
    }
}

#[test]
fn rules_on_the_second_interface_leave_the_first() {
    for (hook, rule) in [
        (OUTPUT, "oifname eth1 drop"),
        (OUTPUT, "oifname eth1 meta l4proto tcp reject with tcp reset"),
        (
            OUTPUT,
            "oifname eth1 meta l4proto tcp reject with icmpx admin-prohibited",
        ),
        (INPUT, "iifname eth1 drop"),
        (INPUT, "iifname eth1 meta l4proto tcp reject with tcp reset"),
    ] {
        let site = Site::new();
        site.nft(hook, &[rule]);
        assert!(
            site.download(&[], &site.url("/2000000"), 2_000_000).used_engine(),
            "{rule}"
        );
    }
}

#[test]
fn a_rule_that_comes_in_the_middle_of_a_transfer_takes_one_path() {
    let site = Site::new();
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| site.download(&[], &site.url("/10000000"), 10_000_000));
        crate::site::wait_until("both wires are used", || {
            site.carried(0) > 300_000 && site.carried(1) > 300_000
        });
        site.nft(OUTPUT, &["oifname eth0 meta l4proto tcp drop"]);
        transfer.join().expect("the transfer goes on by the other wire");
    });
}

//! Address translation on the client host.

use crate::capture::WireCapture;
use crate::lab::Transport;
use crate::site::{By, Site};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const POSTROUTING: &str = "nat hook postrouting priority 100";
const OUTPUT: &str = "nat hook output priority -100";
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

/// Downloads with a rule in place; what the client sent by the first wire.
fn sent_under(hook: &str, rule: &str, url: &str) -> Vec<(SocketAddr, SocketAddr)> {
    let site = Site::new();
    site.nft(hook, &[rule]);
    let capture = WireCapture::start(&site.lab, 0);
    assert!(site.download(&[], url, 2_000_000).used_engine(), "{rule}");
    assert_eq!(site.lab.client().counter("TcpOutRsts").expect("a counter"), 0, "{rule}");
    let mut sent: Vec<_> = capture.finish().iter().map(|s| (s.from, s.to)).collect();
    sent.retain(|(_, destination)| destination.ip() == SERVER);
    assert!(!sent.is_empty(), "{rule}");
    sent
}

#[test]
fn masquerade_translates_ports() {
    let sent = sent_under(
        POSTROUTING,
        "meta l4proto tcp masquerade to :61000-61010",
        "http://192.0.2.2/2000000",
    );
    assert!(
        sent.iter().all(|(source, _)| (61000..=61010).contains(&source.port())),
        "{sent:?}"
    );
}

#[test]
fn source_translation_changes_the_address() {
    let rule = "oifname eth0 meta l4proto tcp snat ip to 192.0.2.77";
    let sent = sent_under(POSTROUTING, rule, "http://192.0.2.2/2000000");
    assert!(
        sent.iter()
            .all(|(source, _)| source.ip() == Ipv4Addr::new(192, 0, 2, 77)),
        "{sent:?}"
    );
}

#[test]
fn destination_translation_leads_elsewhere() {
    let rule = "ip daddr 192.0.2.99 tcp dport 8000 dnat ip to 192.0.2.2:80";
    let sent = sent_under(OUTPUT, rule, "http://192.0.2.99:8000/2000000");
    assert!(sent.iter().all(|(_, destination)| destination.port() == 80), "{sent:?}");
}

#[test]
fn redirect_leads_to_this_host() {
    let site = Site::new();
    let local = site
        .lab
        .client()
        .http_server(Transport::Tcp, &[])
        .expect("a web server");
    site.nft(OUTPUT, &[&format!("tcp dport 81 redirect to :{}", local.port)]);
    let kernel = site.run(
        By::Kernel,
        &["curl", "-sS", "-o", "/dev/null", "http://192.0.2.2:81/1000"],
    );
    assert_eq!(kernel.code, Some(0), "{kernel:?}");
    site.download(&[], "http://192.0.2.2:81/500000", 500_000);
    assert_eq!(site.tcp_sent(0) + site.tcp_sent(1), 0);
}

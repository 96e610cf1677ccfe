//! iperf3, as server and client, both ways, with several streams.

use crate::run::{compare, Role};

/// The amount is fixed; so is what both sides say that they have seen of it, rates apart.
fn session(address: &str) -> String {
    format!(
        "for how in '' -R '-P 3' --bidir; do
           iperf3 -c {address} -n 4M -J $how > report || cat report
           python3 -c \"
import json
report = json.load(open('report'))
print(len(report['start']['connected']), report['start']['test_start']['bytes'], report.get('error'),
  report['end']['sum_received']['bytes'] >= 4 << 20, [c['remote_host'] for c in report['start']['connected']])\"
         done; rm report"
    )
}

#[test]
#[ignore = "make programs"]
fn iperf3_serves() {
    compare(Role::Server, |run| {
        let _iperf = run.serve(5201, &["iperf3", "-s"]);
        run.ask(&["bash", "-c", &session(&run.subject_address())])
    });
}

#[test]
#[ignore = "make programs"]
fn iperf3_asks() {
    compare(Role::Client, |run| {
        let _iperf = run.serve_peer(5201, &["iperf3", "-s"]);
        run.run(&["bash", "-c", &session(&run.peer_address())])
    });
}

//! The lab itself: wires, cuts, middleboxes, peers and the clean end, seen with the kernel's own TCP and MPTCP.

#[path = "lab/mod.rs"]
mod lab;

use lab::{server_address, stream, Lab, LabSpec, Transport, Wire};

fn two_wires() -> Lab {
    let lab = Lab::new(LabSpec::new([Wire::new(50.0, 5.0), Wire::new(50.0, 5.0)])).unwrap();
    lab.kernel_paths(2).unwrap();
    lab
}

#[test]
fn tcp_through_a_wire() {
    let lab = two_wires();
    let http = lab.server().http_server(Transport::Tcp, &[]).unwrap();
    for v6 in [false, true] {
        let report = lab
            .client()
            .get(Transport::Tcp, http.at(server_address(0, v6)), "/1000000")
            .unwrap();
        println!("{report:?}");
        assert_eq!((report.bytes, report.sha256), (1_000_000, stream::sha256(1_000_000)));
    }
}

#[test]
fn mptcp_uses_both_wires() {
    let lab = two_wires();
    let http = lab.server().http_server(Transport::Mptcp, &[]).unwrap();
    for v6 in [false, true] {
        let report = lab
            .client()
            .get(Transport::Mptcp, http.at(server_address(0, v6)), "/10000000")
            .unwrap();
        println!("{report:?}");
        assert_eq!((report.bytes, report.sha256), (10_000_000, stream::sha256(10_000_000)));
    }
    println!("{:?}", lab.wire(0).stats());
    println!("{:?}", lab.wire(1).stats());
    assert_eq!(lab.server().counter("MPTcpExtMPJoinSynRx").unwrap(), 2);
    assert_eq!(lab.server().counter("MPTcpExtMPCapableSYNRX").unwrap(), 2);
}

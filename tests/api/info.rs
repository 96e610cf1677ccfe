//! TCP_INFO beside the kernel's: `info.c` checks the same bounds on the kernel's TCP, and under the library in MPTCP over one and over two wires
//! and in plain TCP.

use crate::interop::{run, server_address, LabSpec, Site, Transport, Wire};
use crate::{program, PLAIN_PORT};

/// Says what it saw, where it fails.
fn counted(way: &str) {
    let site = Site::with(LabSpec::new([Wire::new(20.0, 5.0); 2]));
    let _mptcp = site.http(Transport::Mptcp);
    let plain = site.lab().server().http_server(Transport::Tcp, &["--port", PLAIN_PORT]);
    let _plain = plain.expect("the HTTP server starts");
    let program = program("info");
    let address = server_address(0, false).to_string();
    for (what, port) in [
        ("kernel", "80"),
        ("one path", "80"),
        ("two paths", "80"),
        ("plain", PLAIN_PORT),
    ] {
        let mut command = match what {
            "kernel" => site.lab().client().command(&program),
            _ => site.command(&program),
        };
        command.args([&address, port, PLAIN_PORT, way]);
        if what != "two paths" {
            command.env("MPTCP_JOIN", "never");
        }
        let outcome = run(command);
        let said = String::from_utf8_lossy(&outcome.stdout);
        eprintln!("{what}: {said}");
        assert!(outcome.status.success(), "{what}: {}\n{said}", outcome.stderr);
    }
    std::fs::remove_file(program).expect("it was just made");
}

#[test]
fn a_download_is_counted() {
    counted("down");
}

#[test]
fn an_upload_is_counted() {
    counted("up");
}

//! TCP_INFO beside the kernel's: `info.c` checks the same bounds on the kernel's TCP, and under the library in MPTCP over one and over two wires
//! and in plain TCP.

use crate::interop::{run, LabSpec, Site, Transport, Wire};
use crate::{Program, PLAIN_PORT};
use std::path::Path;

/// Says what it saw, where it fails.
fn counted(way: &str) {
    let site = Site::with(LabSpec::new([Wire::new(20.0, 5.0); 2]));
    let _mptcp = site.http(Transport::Mptcp);
    let plain = site.lab().server().http_server(Transport::Tcp, &["--port", PLAIN_PORT]);
    let _plain = plain.expect("the HTTP server starts");
    let program = Program::compile("info");
    for (what, plain) in [
        ("kernel", false),
        ("one path", false),
        ("two paths", false),
        ("plain", true),
    ] {
        let run_by = |path: &Path| match what {
            "kernel" => site.lab().client().command(path),
            _ => site.command(path),
        };
        let mut command = program.command(run_by, false, &[way, if plain { "plain" } else { "mptcp" }]);
        if what != "two paths" {
            command.env("MPTCP_JOIN", "never");
        }
        let outcome = run(command);
        let said = String::from_utf8_lossy(&outcome.stdout);
        eprintln!("{what}: {said}");
        assert!(outcome.status.success(), "{what}: {}\n{said}", outcome.stderr);
    }
}

#[test]
fn a_download_is_counted() {
    counted("down");
}

#[test]
fn an_upload_is_counted() {
    counted("up");
}

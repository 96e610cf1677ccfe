//! Java: channels and selectors on both sides.

use crate::run::{compare, Role, Run};

/// `java Nio.java serve` echoes what it gets; `java Nio.java ADDRESS` sends two megabytes over each of four connections and hashes what comes back.
const NIO: &str = include_str!("Nio.java");

/// Compiled before, so that the library is in the program and not in its compiler.
fn compile(run: &Run) {
    let source = run.file("Nio.java", NIO);
    let compiled = run.output(run.helper(&["javac", "-d", &run.directory(), &source]));
    assert_eq!(compiled, "[exit status: 0]\n");
}

#[test]
#[ignore = "make programs"]
fn java_channels_serve() {
    compare(Role::Server, |run| {
        compile(run);
        let _server = run.serve(8000, &["java", "-cp", &run.directory(), "Nio", "serve"]);
        run.ask(&["java", "-cp", &run.directory(), "Nio", &run.subject_address()])
    });
}

#[test]
#[ignore = "make programs"]
fn java_channels_ask() {
    compare(Role::Client, |run| {
        compile(run);
        let _server = run.serve_peer(8000, &["java", "-cp", &run.directory(), "Nio", "serve"]);
        run.run(&["java", "-cp", &run.directory(), "Nio", &run.peer_address()])
    });
}

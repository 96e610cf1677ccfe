//! The engine as a process, seen by clients that speak the control protocol themselves: no shim. This test binary is also
//! the engine: it runs itself with `MPTCP_TEST_ENGINE` set.

mod client;
mod core_tests;
mod kernel_tests;
#[path = "../link/netns.rs"]
#[allow(dead_code, reason = "the link's tests use all of it")]
mod netns;

/// Not a test of its own: the engine that the others start.
#[test]
fn engine_process() {
    if let Ok(id) = std::env::var("MPTCP_TEST_ENGINE") {
        std::process::exit(mptcp::engine::program::run(vec!["--engine".into(), id.into()]));
    }
}

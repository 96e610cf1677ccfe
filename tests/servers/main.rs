//! Unmodified servers under `LD_PRELOAD=libmptcp.so`, asked by the kernel's MPTCP, by plain TCP, by our own client, and by the server's own host.
//! Needs root and the programs of `tests/requirements.sh`.

#[path = "../lab/mod.rs"]
mod lab;

#[path = "../rules/capture.rs"]
mod capture;
mod endurance_tests;
mod flood_tests;
mod hand_over_tests;
mod life_tests;
mod listener_tests;
mod loopback_tests;
mod option_tests;
mod path_tests;
mod program_tests;
mod site;
mod trouble_tests;

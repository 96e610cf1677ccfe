//! The ip link and the guards against real kernels, in namespaces of their own. Needs root.

mod client;
mod firewall_tests;
mod guard_tests;
mod netns;
mod packet_tests;
mod path_tests;
mod wire_tests;

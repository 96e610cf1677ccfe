//! The ip link and the guards against real kernels, in namespaces of their own. Needs root.

mod client;
mod netns;
mod wire_tests;

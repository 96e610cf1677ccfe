//! The machine's rules stay the machine's, and nobody is ever in the way: unmodified programs under `LD_PRELOAD=libmptcp.so` on hosts with
//! packet filters, address translation, tunnels, IPsec policies, few privileges, and engines that die. What a program sees is compared with
//! what it sees without the library. Needs root, curl, nft(8), capsh(8) and perl.

#[path = "../lab/mod.rs"]
mod lab;

mod capture;
mod engine_tests;
mod firewall_tests;
mod path_tests;
mod port_tests;
mod privilege_tests;
mod sandbox_tests;
mod site;
mod translation_tests;
mod tunnel;
mod tunnel_tests;

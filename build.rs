//! Links `libmptcp.so` so that it is a library and a program at once: an ELF entry point beside the exported hooks.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_PRELOAD").is_some() {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-e,mptcp_entry");
    }
}

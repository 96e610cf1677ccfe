//! `libmptcp.so` for the tests: what `MPTCP_LIB` names (`make check` sets it), or else built here, once a test process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

/// The library's absolute path.
///
/// # Panics
/// When `MPTCP_LIB` names no file, or the library does not build.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| match env::var_os("MPTCP_LIB") {
        Some(path) => {
            fs::canonicalize(&path).unwrap_or_else(|e| panic!("MPTCP_LIB={}: {e}", Path::new(&path).display()))
        }
        None => build(),
    })
}

/// As `make check` builds it: without optimisation, with assertions. Where nothing has changed this takes a moment.
fn build() -> PathBuf {
    // target/debug/deps/TEST-HASH
    let own = env::current_exe().expect("this test is a file");
    let target = own.ancestors().nth(3).expect("tests are built in the target directory");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "rustc",
            "--quiet",
            "--lib",
            "--crate-type",
            "cdylib",
            "--features",
            "preload",
        ])
        .arg("--target-dir")
        .arg(target)
        .args(["--", "-C", "link-arg=-Wl,-e,mptcp_entry"])
        .status()
        .expect("cargo runs");
    assert!(status.success(), "libmptcp.so does not build");
    let library = target.join("debug/libmptcp.so");
    assert!(library.exists(), "cargo left no {}", library.display());
    library
}

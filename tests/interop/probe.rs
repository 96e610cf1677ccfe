//! A small C program that does what curl does not: raw system calls, names after a handover, an exit right after the last write.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `probe.c`, compiled once a process.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{}", std::process::id()));
        let status = Command::new("cc")
            .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&program)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/probe.c"))
            .status()
            .expect("a C compiler (cc) is installed");
        assert!(status.success(), "probe.c does not compile");
        program
    })
}

//! What the test needs built: the scenarios, by the C compiler, and the library.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

#[path = "../lab/library.rs"]
mod library;

pub use library::library;

/// A directory of this process's own, for the program and its outputs; kept for a look after a failure.
pub fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("descriptors");
        // Programs of an earlier, interrupted test may still hold files there; new ones take their names.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a scratch directory");
        path
    })
}

/// The program of `c-tests/`, compiled once.
pub fn descriptors() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = scratch().join("descriptors");
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("c-tests");
        let files = std::fs::read_dir(&directory)
            .expect("c-tests is there")
            .flatten()
            .map(|entry| entry.path());
        // Optimised, because _FORTIFY_SOURCE (set in fortified.c) does nothing otherwise.
        let status = Command::new("cc")
            .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
            .arg(&program)
            .args(files.filter(|path| path.extension().is_some_and(|extension| extension == "c")))
            .status()
            .expect("a C compiler (cc) is installed");
        assert!(status.success(), "c-tests do not compile");
        assert_fortified(&program);
        program
    })
}

/// The checking twins must really be what fortified.c calls.
fn assert_fortified(program: &Path) {
    let bytes = std::fs::read(program).expect("the program was just written");
    for symbol in [
        "__read_chk",
        "__recv_chk",
        "__recvfrom_chk",
        "__poll_chk",
        "__ppoll_chk",
    ] {
        let found = bytes.windows(symbol.len()).any(|window| window == symbol.as_bytes());
        assert!(found, "the compiler made no call of {symbol}");
    }
}

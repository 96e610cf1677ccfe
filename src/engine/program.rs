//! What `libmptcp.so` does when it is executed: the engine with `--engine`, else a line about itself.

use std::ffi::OsString;
use std::io::Write;

const USAGE: &str = "\
Multipath TCP (RFC 8684) for unmodified programs.

    LD_PRELOAD=/path/to/libmptcp.so PROGRAM [ARGUMENT...]

Options:
    --version      print the version
    --engine [ID]  run the engine (programs start it on first need)

`mptcp check` says whether it can work here, `mptcp status` what it does.
";

/// Runs with the arguments behind the program's name; the exit code.
pub fn run(arguments: Vec<OsString>) -> i32 {
    match arguments.first().map(|argument| argument.to_string_lossy()).as_deref() {
        Some("--engine") => super::process::run(arguments.get(1).map(|id| id.as_os_str())),
        Some("--version") => print(&format!("libmptcp.so {}\n", env!("CARGO_PKG_VERSION"))),
        None | Some("--help") => print(&format!("libmptcp.so {}\n{USAGE}", env!("CARGO_PKG_VERSION"))),
        Some(other) => {
            eprintln!("libmptcp.so: unknown option {other}");
            2
        }
    }
}

/// Prints without the panic that `print!` has for a closed standard output.
fn print(text: &str) -> i32 {
    i32::from(std::io::stdout().write_all(text.as_bytes()).is_err())
}

//! The `mptcp` command: is it working, and why not.

mod check;
mod config;
mod elf;
mod run;
mod sim;
mod status;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "\
usage: mptcp check [--json] [DESTINATION]       whether libmptcp can work here, and over which paths
       mptcp status [--json] [--watch]          what the running engine does
       mptcp config check [FILE…]               what configuration files say, or what is wrong with them
       mptcp run [OPTIONS] PROGRAM [ARGUMENT…]  starts a program with libmptcp preloaded (mptcp run --help)
       mptcp sim [--trace] [--shrink] --seed N  replays one run of the protocol simulator
       mptcp --version | --help
";

/// Why a subcommand ends early.
pub enum Stop {
    /// The command line makes no sense.
    Usage(String),
    /// Something else, in one line.
    Failed(String),
}

impl From<lexopt::Error> for Stop {
    fn from(error: lexopt::Error) -> Self {
        Stop::Usage(error.to_string())
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let subcommand = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    let asks_for_help = arguments.iter().any(|a| a == "--help" || a == "-h");
    let result = match subcommand.to_string_lossy().as_ref() {
        "check" | "status" | "config" | "sim" if asks_for_help => print(USAGE),
        "check" => check::run(arguments),
        "status" => status::run(arguments),
        "config" => config::run(arguments),
        "run" => run::run(arguments),
        "sim" => sim::run(arguments),
        "--version" | "-V" => print(concat!("mptcp ", env!("CARGO_PKG_VERSION"), "\n")),
        "--help" | "-h" | "help" => print(USAGE),
        "" => Err(Stop::Usage("which subcommand?".into())),
        other => Err(Stop::Usage(format!("{other} is no subcommand"))),
    };
    match result {
        Ok(code) => code,
        Err(Stop::Usage(why)) => {
            eprint!("mptcp: {why}\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Stop::Failed(why)) => {
            eprintln!("mptcp: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Prints without the panic that `print!` has for a closed standard output.
fn print(text: &str) -> Result<ExitCode, Stop> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // `mptcp status | head`: the reader has what it wanted.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::FAILURE),
        Err(e) => Err(Stop::Failed(format!("standard output: {e}"))),
    }
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<ExitCode, Stop> {
    let text = serde_json::to_string(value).map_err(|e| Stop::Failed(e.to_string()))?;
    print(&format!("{text}\n"))
}

//! `mptcp config check`: what a configuration file says, or what is wrong with it.

use super::{print, Stop};
use mptcp::config::{Config, SYSTEM_FILE};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

/// Checks the named files, or those that count here.
pub fn run(arguments: Vec<OsString>) -> Result<ExitCode, Stop> {
    let mut arguments = arguments.into_iter();
    match arguments.next() {
        Some(word) if word == "check" => {}
        Some(other) => {
            let other = other.to_string_lossy();
            return Err(Stop::Usage(format!("mptcp config {other}: there is only check")));
        }
        None => return Err(Stop::Usage("mptcp config: check is missing".into())),
    }
    let mut files: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let named = !files.is_empty();
    if !named {
        files = [Some(SYSTEM_FILE.into()), user_file()].into_iter().flatten().collect();
    }
    let mut text = String::new();
    let mut code = ExitCode::SUCCESS;
    for file in files {
        if !named && file.is_relative() {
            // As the variables name it: to each program it would be another file.
            eprintln!("{}: does not begin with /, and is not used", file.display());
            code = ExitCode::FAILURE;
            continue;
        }
        if !named && fs::metadata(&file).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
            text += &format!("{}: there is none\n", file.display());
            continue;
        }
        match check(&file) {
            Ok(lines) => text += &lines,
            Err(problems) => {
                eprint!("{problems}");
                code = ExitCode::FAILURE;
            }
        }
    }
    print(&text)?;
    Ok(code)
}

/// What the file says, or what is wrong, as text.
fn check(file: &Path) -> Result<String, String> {
    let complaint = |why: &dyn std::fmt::Display| format!("{}: {why}\n", file.display());
    let (_, text) = mptcp::config::file::read(file).map_err(|e| complaint(&e))?;
    match Config::parse(&text) {
        Ok(config) => {
            let lines: String = config.explain().iter().map(|line| format!("  {line}\n")).collect();
            match lines.is_empty() {
                true => Ok(format!("{}: says nothing\n", file.display())),
                false => Ok(format!("{}:\n{lines}", file.display())),
            }
        }
        Err(problems) => Err(problems
            .iter()
            .map(|problem| format!("{}:{problem}\n", file.display()))
            .collect()),
    }
}

/// As the library finds it.
fn user_file() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match set("MPTCP_CONFIG") {
        Some(file) if file == Path::new("none") => None,
        Some(file) => Some(file),
        None => set("XDG_CONFIG_HOME")
            .or_else(|| Some(set("HOME")?.join(".config")))
            .map(|directory| directory.join("mptcp.toml")),
    }
}

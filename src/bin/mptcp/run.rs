//! `mptcp run`: starts a program with the library preloaded, and says so when preloading cannot reach it.

use super::elf::{self, Kind};
use super::{print, Stop};
use lexopt::{Arg, ValueExt};
use mptcp::link::interface_exists;
use mptcp::link::path_config::PathConfig;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
usage: mptcp run [OPTIONS] PROGRAM [ARGUMENT…]
  --paths LIST      interfaces, such as eth0,wlan0:backup,-docker0 (MPTCP_PATHS)
  --log FILTER      what to log: warn, info, debug, … (MPTCP_LOG); of the program's side to its standard error
  --log-file FILE   where the engine logs (MPTCP_LOG_FILE)
  --link NAME       auto, or kernel: the kernel's TCP for everything (MPTCP_LINK)
  --library FILE    libmptcp.so, if it is neither beside this command nor in ../lib
";
const LIBRARY_NAME: &str = "libmptcp.so";
/// A script's interpreter may be a script again; the kernel stops after four.
const INTERPRETERS_MAX: usize = 4;
/// Much longer than the kernel reads of a script's first line (BINPRM_BUF_SIZE is 256).
const FIRST_LINE_MAX: u64 = 512;
/// As the shell and env(1) say them.
const EXIT_NOT_FOUND: u8 = 127;
const EXIT_NOT_EXECUTABLE: u8 = 126;

struct Options {
    variables: Vec<(&'static str, OsString)>,
    library: Option<PathBuf>,
    program: OsString,
    arguments: Vec<OsString>,
}

/// Replaces this process by the program.
pub fn run(arguments: Vec<OsString>) -> Result<ExitCode, Stop> {
    let Some(options) = parse(arguments)? else {
        return print(HELP);
    };
    let library = match &options.library {
        Some(path) => path
            .canonicalize()
            .map_err(|e| Stop::Failed(format!("{}: {e}", path.display())))?,
        None => find_library()?,
    };
    let preload = preload(env::var_os("LD_PRELOAD").as_deref(), &library)?;
    if let Some(file) = find_program(&options.program) {
        for reason in out_of_reach(&file) {
            eprintln!("mptcp: warning: {reason}: its connections stay with the kernel's TCP");
        }
    }
    let error = Command::new(&options.program)
        .args(&options.arguments)
        .envs(options.variables)
        .env("LD_PRELOAD", preload)
        .exec();
    eprintln!("mptcp: {}: {error}", options.program.to_string_lossy());
    let code = match error.kind() {
        io::ErrorKind::NotFound => EXIT_NOT_FOUND,
        _ => EXIT_NOT_EXECUTABLE,
    };
    Ok(ExitCode::from(code))
}

/// None when only help is wanted.
fn parse(arguments: Vec<OsString>) -> Result<Option<Options>, Stop> {
    let (mut variables, mut library) = (Vec::new(), None);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long("paths") => {
                let value = parser.value()?.string()?;
                let paths = PathConfig::parse(&value).map_err(|e| Stop::Usage(e.to_string()))?;
                for name in paths.named().filter(|name| !interface_exists(name)) {
                    eprintln!("mptcp: warning: there is no interface {name} at present");
                }
                variables.push(("MPTCP_PATHS", value.into()));
            }
            Arg::Long("log") => {
                let filter = parser.value()?.string()?;
                check_filter(&filter)?;
                variables.push(("MPTCP_LOG", filter.into()));
            }
            Arg::Long("log-file") => {
                let file = parser.value()?;
                if let Err(error) = OpenOptions::new().append(true).create(true).open(&file) {
                    eprintln!("mptcp: warning: no log: {}: {error}", file.to_string_lossy());
                }
                variables.push(("MPTCP_LOG_FILE", file));
            }
            Arg::Long("link") => match parser.value()?.string()?.as_str() {
                name @ ("auto" | "kernel") => variables.push(("MPTCP_LINK", name.into())),
                other => return Err(Stop::Usage(format!("{other} is no link"))),
            },
            Arg::Long("library") => library = Some(parser.value()?.into()),
            Arg::Value(program) => {
                return Ok(Some(Options {
                    variables,
                    library,
                    program,
                    arguments: parser.raw_args()?.collect(),
                }));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Err(Stop::Usage("which program?".into()))
}

/// Each word of a filter is a level, a module of the library, or a module with its level.
fn check_filter(filter: &str) -> Result<(), Stop> {
    let is_level = |word: &str| word.trim().parse::<log::LevelFilter>().is_ok();
    let is_module = |word: &str| word.trim().split("::").next() == Some("mptcp");
    for word in filter.split(',') {
        let known = match word.split_once('=') {
            Some((module, level)) => is_module(module) && is_level(level),
            None => is_level(word) || is_module(word),
        };
        if !known {
            return Err(Stop::Usage(format!(
                "--log {word}: a level is off, error, warn, info, debug or trace"
            )));
        }
    }
    Ok(())
}

/// The library beside this command (as it is built), or in the `lib` beside this command's `bin` (as it is installed).
fn find_library() -> Result<PathBuf, Stop> {
    let own = env::current_exe().map_err(|e| Stop::Failed(format!("where this command is: {e}")))?;
    let directory = own.parent().unwrap_or(Path::new("/"));
    let places = [
        directory.join(LIBRARY_NAME),
        directory.join("../lib").join(LIBRARY_NAME),
    ];
    let found = places.iter().find_map(|place| place.canonicalize().ok());
    found.ok_or_else(|| {
        let places = places.map(|place| place.display().to_string()).join(", ");
        Stop::Failed(format!(
            "{LIBRARY_NAME} is missing, looked for as {places}: build it with `make`, or name it with --library"
        ))
    })
}

/// Of LD_PRELOAD's words (ld.so(8)).
fn is_separator(byte: &u8) -> bool {
    matches!(byte, b' ' | b':')
}

/// LD_PRELOAD with the library behind what is there already: what others preload comes first, as they expect.
fn preload(existing: Option<&OsStr>, library: &Path) -> Result<OsString, Stop> {
    let name = library.as_os_str();
    if name.as_bytes().iter().any(is_separator) {
        let why = "LD_PRELOAD cannot name a file with a space or colon in its path";
        return Err(Stop::Failed(format!("{}: {why}", library.display())));
    }
    let mut value = existing.unwrap_or_default().to_owned();
    if !value.as_bytes().split(is_separator).any(|word| word == name.as_bytes()) {
        if !value.is_empty() {
            value.push(":");
        }
        value.push(name);
    }
    Ok(value)
}

/// The file that execvp(3) would take.
fn find_program(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    let path = env::var_os("PATH")?;
    let executable =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(executable)
}

/// Why LD_PRELOAD will not reach the program, if it will not; for a script that is about its interpreter.
fn out_of_reach(file: &Path) -> Vec<String> {
    let mut file = file.to_owned();
    for _ in 0..INTERPRETERS_MAX {
        match interpreter(&file) {
            Some(interpreter) => file = interpreter,
            None => break,
        }
    }
    let name = file.display();
    let mut reasons = Vec::new();
    match fs::read(&file).map(|bytes| elf::kind(&bytes)) {
        Ok(Kind::Static) => reasons.push(format!("{name} is statically linked, so nothing can be preloaded")),
        Ok(Kind::Go) => reasons.push(format!("{name} is a Go program, which makes system calls without libc")),
        Ok(Kind::Foreign) => reasons.push(format!("{name} is for another kind of machine than {LIBRARY_NAME}")),
        Ok(Kind::Dynamic | Kind::Other) | Err(_) => {}
    }
    if gains_privilege(&file) {
        reasons.push(format!(
            "{name} is setuid, setgid or has file capabilities, so the dynamic linker ignores LD_PRELOAD"
        ));
    }
    reasons
}

/// What a script's first line names; for `#!/usr/bin/env NAME` what env will find.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut line = Vec::new();
    fs::File::open(script)
        .ok()?
        .take(FIRST_LINE_MAX)
        .read_to_end(&mut line)
        .ok()?;
    let line = line.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let interpreter = Path::new(OsStr::from_bytes(words.next()?));
    if interpreter.file_name() != Some(OsStr::new("env")) {
        return Some(interpreter.to_owned());
    }
    let named = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='));
    named.and_then(|name| find_program(OsStr::from_bytes(name)))
}

/// Whether execve(2) would set AT_SECURE (cap_bprm_creds_from_file in the kernel's security/commoncap.c).
fn gains_privilege(file: &Path) -> bool {
    let Ok(metadata) = fs::metadata(file) else {
        return false;
    };
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let mode = metadata.mode();
    let setuid = mode & libc::S_ISUID != 0 && metadata.uid() != uid.as_raw();
    // Without the group's execute bit it once meant mandatory locking.
    let setgid =
        mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP && metadata.gid() != gid.as_raw();
    let capable = !uid.is_root() && rustix::fs::getxattr(file, c"security.capability", &mut [0; 64]).is_ok();
    setuid || setgid || capable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preloaded(existing: Option<&str>) -> String {
        let value = preload(existing.map(OsStr::new), Path::new("/lib/libmptcp.so"));
        value.unwrap_or_else(|_| panic!("{existing:?}")).into_string().unwrap()
    }

    #[test]
    fn others_that_are_preloaded_stay_in_front() {
        assert_eq!(preloaded(None), "/lib/libmptcp.so");
        assert_eq!(preloaded(Some("")), "/lib/libmptcp.so");
        assert_eq!(preloaded(Some("/a.so /b.so")), "/a.so /b.so:/lib/libmptcp.so");
        assert_eq!(preloaded(Some("/lib/libmptcp.so:/a.so")), "/lib/libmptcp.so:/a.so");
        assert!(preload(None, Path::new("/a b/libmptcp.so")).is_err());
    }

    #[test]
    fn a_script_is_judged_by_its_interpreter() {
        let script = env::temp_dir().join(format!("mptcp-script-{}", std::process::id()));
        let interpreter_of = |text: &str| {
            fs::write(&script, text).unwrap();
            interpreter(&script)
        };
        assert_eq!(interpreter_of("#! /bin/sh -e\n"), Some("/bin/sh".into()));
        let by_env = interpreter_of("#!/usr/bin/env -S A=1 sh -e\n");
        let plain = interpreter_of("echo\n");
        fs::remove_file(&script).unwrap();
        assert!(by_env.is_some_and(|file| file.ends_with("sh")));
        assert_eq!(plain, None);
    }
}

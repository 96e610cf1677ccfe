//! What engines hold, and clients of theirs that hold connections.

use super::host::Host;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// What an engine holds.
pub struct Holding {
    /// Its directory in /proc.
    pub process: PathBuf,
    /// Open.
    pub descriptors: usize,
    /// Resident.
    pub memory_kb: u64,
    /// TCP sockets of the kernel on its host: guards are among them.
    pub sockets: usize,
}

impl Holding {
    /// That of each engine on a host.
    pub fn of(host: &Host) -> io::Result<Vec<Holding>> {
        let sockets = host.output("ss", &["-Htan"])?.lines().count();
        let of = |pid: i32| {
            let process = PathBuf::from(format!("/proc/{pid}"));
            Ok(Holding {
                descriptors: std::fs::read_dir(process.join("fd"))?.count(),
                memory_kb: number(&process, "VmRSS:")?,
                process,
                sockets,
            })
        };
        host.processes("mptcp-engine")?.into_iter().map(of).collect()
    }

    /// How often it sleeps and wakes.
    pub fn wakeups_in(&self, time: Duration) -> io::Result<u64> {
        let before = number(&self.process, "voluntary_ctxt_switches:")?;
        thread::sleep(time);
        Ok(number(&self.process, "voluntary_ctxt_switches:")? - before)
    }
}

fn number(process: &Path, name: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string(process.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|text| text.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("{} has no {name}", process.display())))
}

/// A client that is spoken to by lines; killed when dropped.
pub struct Talking {
    /// Its process.
    pub child: Child,
    lines: io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Talking {
    /// Starts it under the library.
    pub fn start(mut command: Command, library: &Path) -> io::Result<Talking> {
        command.env("LD_PRELOAD", library);
        Talking::start_plain(command)
    }

    /// Starts it as it is.
    pub fn start_plain(mut command: Command) -> io::Result<Talking> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        Ok(Talking {
            child,
            lines: BufReader::new(output).lines(),
        })
    }

    /// Its next line.
    pub fn line(&mut self) -> io::Result<String> {
        self.lines.next().ok_or_else(|| io::Error::other("the client died"))?
    }

    /// Gives it one.
    pub fn say(&mut self) -> io::Result<()> {
        let mut input = self.child.stdin.as_ref().ok_or_else(|| io::Error::other("no pipe"))?;
        input.write_all(b"\n")
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        // The end of its input ends it; if it hangs all the same, it is killed with the lab.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

//! A control group, as a service manager gives one to each service.

use rustix::process::{kill_process, Pid, Signal};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A cgroup, removed when dropped, with everything in it.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// In the first hierarchy that can have one: version 2, or pids of version 1. `name` is made unique.
    pub fn new(name: &str) -> Cgroup {
        let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"];
        let name = format!("mptcp-test-{}-{name}", std::process::id());
        let mut made = places.iter().map(|place| Path::new(place).join(&name)).filter(|path| {
            fs::create_dir(path).is_ok() && {
                let whole = path.join("cgroup.procs").exists();
                if !whole {
                    let _ = fs::remove_dir(path);
                }
                whole
            }
        });
        Cgroup(made.next().expect("root may make a cgroup"))
    }

    /// A process that writes its id here is in it.
    pub fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// Kills everything in it; how many that were.
    pub fn kill(&self) -> usize {
        let procs = fs::read_to_string(self.procs()).unwrap_or_default();
        let pids: Vec<Pid> = procs
            .lines()
            .filter_map(|line| Pid::from_raw(line.parse().ok()?))
            .collect();
        for &pid in &pids {
            // It may have ended just now.
            let _ = kill_process(pid, Signal::KILL);
        }
        pids.len()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..200 {
            self.kill();
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

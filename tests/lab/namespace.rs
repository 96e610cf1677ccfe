//! Namespaces without names: held by descriptors, so that they go when their last process and descriptor go.

use rustix::process::{pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};
use rustix::thread::{move_into_link_name_space, LinkNameSpaceType};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A network namespace, and the user namespace that owns it unless that is everybody's.
#[derive(Debug)]
pub struct Namespace {
    /// The network namespace.
    pub net: OwnedFd,
    /// Its owner; entered first.
    pub user: Option<OwnedFd>,
}

impl Namespace {
    /// Moves the calling thread in. With a user namespace the process must have only this thread.
    fn enter(&self) -> rustix::io::Result<()> {
        if let Some(user) = &self.user {
            move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))?;
        }
        move_into_link_name_space(self.net.as_fd(), Some(LinkNameSpaceType::Network))
    }

    /// A command that will run inside.
    pub fn command(self: &Arc<Self>, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let inside = self.clone();
        let mut command = Command::new(program);
        // SAFETY: between fork and exec only setns is called, which neither allocates nor locks.
        unsafe { command.pre_exec(move || Ok(inside.enter()?)) };
        command
    }

    /// Runs `work` on a thread inside.
    ///
    /// # Errors
    /// Where the lab had to make a user namespace: a process with threads cannot enter that. Use `command` there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| self.enter().map(|()| work()));
            match inside.join() {
                Ok(result) => Ok(result?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Device and inode, equal for every descriptor of the same namespace.
    fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.net)?;
        Ok((stat.st_dev, stat.st_ino))
    }
}

/// Kills every process inside the namespaces, whoever started it, and waits until they are gone (at most 2 s). The caller is spared.
pub fn kill_processes_inside(namespaces: &[&Namespace]) {
    let identities: Vec<_> = namespaces.iter().filter_map(|n| n.identity().ok()).collect();
    for _ in 0..200 {
        let found = processes().filter(|&pid| kill_if_inside(pid, &identities)).count();
        if found == 0 {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn processes() -> impl Iterator<Item = i32> {
    let own = std::process::id() as i32;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(move |&pid| pid != own)
}

/// The descriptor is taken before the look, so that a number used again in between hits nobody else.
fn kill_if_inside(pid: i32, identities: &[(u64, u64)]) -> bool {
    let Some(Ok(process)) = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return false;
    };
    let Ok(stat) = fs::metadata(format!("/proc/{pid}/ns/net")) else {
        return false;
    };
    identities.contains(&(stat.dev(), stat.ino())) && pidfd_send_signal(&process, Signal::KILL).is_ok()
}

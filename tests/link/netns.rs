//! Network namespaces without names: each lives as long as its descriptor, so nothing can be left behind.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Command, Output};
use std::thread;

/// A network namespace of its own, with loopback up.
pub struct Netns(File);

impl Netns {
    pub fn new() -> Netns {
        let file = thread::spawn(|| {
            // SAFETY: no pointer is passed; only this thread changes its namespace.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "these tests make network namespaces, so they need root");
            File::open("/proc/thread-self/ns/net").unwrap()
        })
        .join()
        .unwrap();
        let ns = Netns(file);
        ns.ip("link set lo up");
        ns
    }

    /// Runs `f` on a thread inside the namespace.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let fd = self.0.as_raw_fd();
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                enter(fd);
                f()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// `ip ARGS` inside; must succeed.
    pub fn ip(&self, args: &str) -> String {
        let output = self.command("ip", args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "ip {args}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command inside.
    pub fn command(&self, program: &str, args: &str) -> Output {
        self.run(|| Command::new(program).args(args.split_whitespace()).output().unwrap())
    }

    /// Writes a sysctl, its path given below /proc/sys.
    pub fn sysctl(&self, path: &str, value: &str) {
        self.run(|| std::fs::write(format!("/proc/sys/{path}"), value).unwrap());
    }

    /// A counter of /proc/net/snmp, such as ("Tcp", "OutRsts").
    pub fn counter(&self, protocol: &str, name: &str) -> u64 {
        let text = self.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
        let mut lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("{protocol}: ")));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|n| n == name).unwrap();
        values.split(' ').nth(at).unwrap().parse().unwrap()
    }

    /// A veth pair: `name` here, `peer_name` in `peer`, both up, without addresses.
    pub fn wire(&self, name: &str, peer: &Netns, peer_name: &str) {
        let place = format!("/proc/{}/fd/{}", std::process::id(), peer.0.as_raw_fd());
        self.ip(&format!(
            "link add {name} type veth peer name {peer_name} netns {place}"
        ));
        for (ns, name) in [(self, name), (peer, peer_name)] {
            // No neighbour discovery before the test's own packets.
            ns.sysctl(&format!("net/ipv6/conf/{name}/accept_dad"), "0");
            ns.ip(&format!("link set {name} up"));
        }
    }

    /// The index of an interface.
    pub fn index(&self, name: &str) -> u32 {
        let name = std::ffi::CString::new(name).unwrap();
        // SAFETY: `name` is a C string.
        let index = self.run(move || unsafe { libc::if_nametoindex(name.as_ptr()) });
        assert_ne!(index, 0);
        index
    }
}

fn enter(fd: RawFd) {
    // SAFETY: no pointer is passed; only this thread changes its namespace.
    let result = unsafe { libc::setns(fd, libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
}

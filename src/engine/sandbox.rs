//! What the engine gives up once it serves: capabilities it does not need, system calls that only an intruder would make, and
//! writing to files.
//!
//! The engine parses what peers and programs send, often with root's rights. Each measure is taken as far as the kernel and
//! the place allow, and is no reason not to serve: containers forbid some of them, old kernels know not all.
//!
//! A list of what is forbidden, not of what is allowed: the C library chooses its system calls anew with each version, and a
//! new one must not stop the engine. Children inherit everything here, so a forked process is as confined; engaging again
//! in one is harmless. Not here: namespaces and users, which are the program's on purpose.

use core::ffi::{c_long, c_ulong};
use core::mem::size_of;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Ports below 1024 that programs bind, guards and packets of ours, raw sockets.
const KEPT_CAPABILITIES: [u32; 3] = [CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW];
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

/// One thing that is given up: its name, and how.
type Step = (&'static str, fn() -> io::Result<()>);

/// Gives up all of it. What could not be given up is logged.
pub fn engage() {
    let steps: [Step; 4] = [
        ("capabilities", keep_capabilities),
        // The two below ask for it.
        ("new privileges", forbid_new_privileges),
        ("writing to files", forbid_file_writes),
        ("system calls", forbid_system_calls),
    ];
    for (what, step) in steps {
        if let Err(error) = step() {
            log::info!("the engine keeps its {what}: {error}");
        }
    }
}

/// A system call's result, or its errno.
fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn prctl(option: i32, argument: c_ulong) -> io::Result<()> {
    let zero: c_ulong = 0;
    // SAFETY: the options that are used here take numbers only.
    check(unsafe { libc::prctl(option, argument, zero, zero, zero) }.into()).map(drop)
}

fn forbid_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// capset(2)'s structures, version 3: two words for each set.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityWord {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Keeps [`KEPT_CAPABILITIES`], of what there is.
fn keep_capabilities() -> io::Result<()> {
    for capability in 0..64 {
        if !KEPT_CAPABILITIES.contains(&capability) {
            // EINVAL beyond the last that the kernel knows; EPERM without CAP_SETPCAP, and then nothing can be gained either.
            let _ = prctl(libc::PR_CAPBSET_DROP, capability.into());
        }
    }
    let mut header = CapabilityHeader {
        version: CAPABILITY_VERSION,
        pid: 0,
    };
    let mut words = [CapabilityWord::default(); 2];
    // SAFETY: the structures are those of version 3, and live during the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &mut header, words.as_mut_ptr()) })?;
    let kept = KEPT_CAPABILITIES
        .iter()
        .fold(0u32, |mask, capability| mask | 1 << capability);
    for (word, mask) in words.iter_mut().zip([kept, 0]) {
        word.permitted &= mask;
        word.effective &= mask;
        word.inheritable = 0;
    }
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_capset, &mut header, words.as_ptr()) }).map(drop)
}

/// Rights of landlock(7) that change a file system or execute; reading stays free.
const LANDLOCK_EXECUTE: u64 = 1;
const LANDLOCK_WRITE_FILE: u64 = 1 << 1;
/// Removing and making of directories and files of each kind: REMOVE_DIR to MAKE_SYM.
const LANDLOCK_REMOVE_AND_MAKE: u64 = 0x1ff0;

/// No file can be opened for writing, made, removed or executed. What is open stays open.
fn forbid_file_writes() -> io::Result<()> {
    // Only the field of the first version, which every kernel with landlock knows.
    let handled: u64 = LANDLOCK_EXECUTE | LANDLOCK_WRITE_FILE | LANDLOCK_REMOVE_AND_MAKE;
    // SAFETY: the kernel reads the eight bytes of `handled`.
    let ruleset = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &handled as *const u64,
            size_of::<u64>(),
            0,
        )
    })?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset as i32) };
    // SAFETY: no pointer is passed.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) }).map(drop)
}

/// What an engine never does, by purpose.
const FORBIDDEN: &[c_long] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_mknodat,
    // The kernel itself.
    libc::SYS_perf_event_open,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    // The clock.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    // Keys, and what exploits are built with.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_personality,
    // Other users.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
];

/// BPF_PROG_QUERY of linux/bpf.h: the packet link asks what a control group has.
const BPF_QUESTION: u32 = 16;

/// linux/audit.h: the architecture whose numbers `FORBIDDEN` has. Others are left alone.
#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const AUDIT_ARCH: Option<u32> = None;

/// Numbers from here on are those of x32, another set of system calls of x86-64.
const X32_BIT: u32 = 0x4000_0000;

/// The filter: another architecture's calls, those of x32, `FORBIDDEN` and bpf(2) but for its question fail with EPERM.
fn filter(arch: u32) -> Vec<libc::sock_filter> {
    let instruction = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    // Offsets in seccomp_data.
    let (number, architecture, first_argument) = (0, 4, if cfg!(target_endian = "little") { 16 } else { 20 });
    let load = |offset| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    let give = |action| instruction(libc::BPF_RET | libc::BPF_K, action, 0, 0);
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut program = vec![
        load(architecture),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, arch, 1, 0),
        give(refuse),
        load(number),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, X32_BIT, 0, 1),
        give(refuse),
    ];
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    for call in FORBIDDEN {
        program.push(instruction(equal, *call as u32, 0, 1));
        program.push(give(refuse));
    }
    program.push(instruction(equal, libc::SYS_bpf as u32, 0, 3));
    program.push(load(first_argument));
    program.push(instruction(equal, BPF_QUESTION, 1, 0));
    program.push(give(refuse));
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

fn forbid_system_calls() -> io::Result<()> {
    let Some(arch) = AUDIT_ARCH else {
        return Err(Errno::NOSYS.into());
    };
    let mut instructions = filter(arch);
    let program = libc::sock_fprog {
        len: instructions.len() as u16,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: the program's instructions outlive the call, which copies them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn errno_of(result: c_long) -> Option<i32> {
        check(result).err()?.raw_os_error()
    }

    /// All of it is a thread's own, and ends with the thread.
    fn in_a_thread(test: fn()) {
        std::thread::spawn(test).join().expect("the test of the thread");
    }

    #[test]
    fn forbidden_system_calls_fail_and_the_others_work() {
        in_a_thread(|| {
            forbid_new_privileges().unwrap();
            forbid_system_calls().unwrap();
            // SAFETY: all of these would fail with another errno if they were not forbidden: bad descriptors and pointers.
            let refused = unsafe {
                [
                    libc::syscall(libc::SYS_execveat, -1, 0, 0, 0, 0),
                    libc::syscall(libc::SYS_mount, 0, 0, 0, 0, 0),
                    libc::syscall(libc::SYS_setns, -1, 0),
                    libc::syscall(libc::SYS_bpf, -1, 0, 0),
                    libc::syscall(libc::SYS_ptrace, -1, -1, 0, 0),
                ]
                .map(|result| result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM))
            };
            assert_eq!(refused, [true; 5]);
            // PROG_QUERY is a question, whatever its answer, and PROG_LOAD is none.
            let mut attr = [u32::MAX; 12];
            // SAFETY: the kernel reads and writes no more than the size that is passed.
            let asked = unsafe { libc::syscall(libc::SYS_bpf, BPF_QUESTION, attr.as_mut_ptr(), size_of_val(&attr)) };
            assert_ne!(errno_of(asked), Some(libc::EPERM));
            // SAFETY: as above.
            let loaded = unsafe { libc::syscall(libc::SYS_bpf, 5, attr.as_mut_ptr(), size_of_val(&attr)) };
            assert_eq!(errno_of(loaded), Some(libc::EPERM));
            // Again, as a forked successor would.
            forbid_system_calls().unwrap();
            assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_ok());
            assert!(File::open("/proc/self/status").is_ok());
        });
    }

    #[test]
    fn only_the_capabilities_of_networking_stay() {
        in_a_thread(|| {
            keep_capabilities().unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            for set in ["CapInh", "CapPrm", "CapEff"] {
                let line = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
                let bits = u64::from_str_radix(line.trim_start_matches([':', '\t']), 16).unwrap();
                assert_eq!(bits & !0x3400, 0, "{set} {bits:x}");
            }
            // SAFETY: no pointer is passed. If it succeeded, only this thread would have another host name.
            let unshared = unsafe { libc::unshare(libc::CLONE_NEWUTS) };
            assert_eq!(errno_of(unshared.into()), Some(libc::EPERM));
        });
    }

    #[test]
    fn files_can_be_read_but_not_made_or_written() {
        in_a_thread(|| {
            let path = std::env::temp_dir().join(format!("mptcp-sandbox-{}", std::process::id()));
            File::create(&path).unwrap();
            forbid_new_privileges().unwrap();
            let landlock = forbid_file_writes();
            let result = std::fs::OpenOptions::new().write(true).open(&path).map(drop);
            match landlock {
                Ok(()) => {
                    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EACCES));
                    assert!(File::open(&path).is_ok());
                    assert!(std::fs::remove_file(&path).is_err());
                }
                // A kernel without landlock: nothing has changed.
                Err(error) => {
                    assert!(
                        matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP)),
                        "{error}"
                    );
                    assert!(result.is_ok());
                }
            }
        });
        let path = std::env::temp_dir().join(format!("mptcp-sandbox-{}", std::process::id()));
        std::fs::remove_file(path).unwrap();
    }
}

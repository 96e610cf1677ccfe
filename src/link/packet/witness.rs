//! A small process beside the engine that tells which kinds of BPF programs the kernel has. The kernel tells that only to
//! CAP_SYS_ADMIN, which is no right for a process that reads what strangers send: the engine gives it up, and asks here.
//!
//! One byte is a question, one [`Answer`] its answer. The process ends when the engine's socket is closed, and so at the latest
//! with the engine. It is nobody's child, so that nobody has to wait for it.

use super::super::bpf;
use super::super::sys::{check, set_option};
use rustix::io::Errno;
use rustix::net::{recv, send, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// How long the kernel may take to list its programs, seconds.
const PATIENCE: libc::timeval = libc::timeval { tv_sec: 1, tv_usec: 0 };
const ANSWER_LEN: usize = 12;
const SYS_ADMIN_BIT: u32 = 1 << 21;

/// The engine's end.
pub(super) struct Witness(OwnedFd);

impl Witness {
    /// Starts the process, with the caller's rights.
    pub(super) fn new() -> io::Result<Witness> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        set_option(&ours, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &PATIENCE)?;
        // SAFETY: the child calls nothing but system calls until it ends: other threads' locks may be held for ever in it.
        match check(unsafe { libc::fork() } as isize)? {
            0 => testify(theirs.as_raw_fd()),
            child => {
                let mut status = 0;
                // SAFETY: the kernel writes one int.
                while unsafe { libc::waitpid(child as libc::pid_t, &mut status, 0) } < 0 {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
                Ok(Witness(ours))
            }
        }
    }

    /// Asks [`bpf::program_types`] there. ENOSYS: the kernel has no BPF.
    pub(super) fn program_types(&self) -> io::Result<u64> {
        send(&self.0, &[0], SendFlags::NOSIGNAL)?;
        let mut answer = [0; ANSWER_LEN];
        let (len, _) = loop {
            match recv(&self.0, &mut answer[..], RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                done => break done?,
            }
        };
        if len != ANSWER_LEN {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the process that asks is gone",
            ));
        }
        let (errno, types) = answer.split_at(4);
        match i32::from_ne_bytes(errno.try_into().expect("four bytes")) {
            0 => Ok(u64::from_ne_bytes(types.try_into().expect("eight bytes"))),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// The life of the process: only system calls, no memory of the heap.
fn testify(socket: RawFd) -> ! {
    // SAFETY: no pointer is passed but to constants and locals that live longer than the calls; the descriptors that are closed are
    // those of this process only, and nothing of it uses them any more.
    unsafe {
        // In between somebody has ended, and init waits for this one.
        if libc::fork() != 0 {
            libc::_exit(0);
        }
        libc::prctl(libc::PR_SET_NAME, c"mptcp-witness".as_ptr());
        libc::setsid();
        if libc::dup2(socket, 0) != 0 {
            libc::_exit(1);
        }
        libc::syscall(
            libc::SYS_close_range,
            1 as libc::c_long,
            libc::c_long::from(u32::MAX),
            0 as libc::c_long,
        );
        keep_sys_admin();
        let socket = OwnedFd::from_raw_fd(0);
        let mut question = [0; 1];
        loop {
            match recv(&socket, &mut question[..], RecvFlags::empty()) {
                Ok((1, _)) => {}
                Err(Errno::INTR) => continue,
                _ => libc::_exit(0),
            }
            let mut answer = [0; ANSWER_LEN];
            match bpf::program_types() {
                Ok(types) => answer[4..].copy_from_slice(&types.to_ne_bytes()),
                Err(error) => answer[..4].copy_from_slice(&error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes()),
            }
            if send(&socket, &answer, SendFlags::NOSIGNAL).is_err() {
                libc::_exit(0);
            }
        }
    }
}

/// Gives up every other capability, and files' ones. It takes no input but single bytes of the engine: that some call may fail
/// is no harm.
///
/// # Safety
/// None of its own: capset(2) reads its arguments.
unsafe fn keep_sys_admin() {
    // struct __user_cap_header_struct of version 3, and two of __user_cap_data_struct: effective, permitted, inheritable.
    let header = [0x2008_0522u32, 0];
    let data = [SYS_ADMIN_BIT, SYS_ADMIN_BIT, 0, 0, 0, 0];
    // SAFETY: both live during the call, with the sizes of version 3.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_bpf_tells_and_ends_with_its_socket() {
        let witness = Witness::new().unwrap();
        for _ in 0..2 {
            let told = witness.program_types().map_err(|e| e.raw_os_error());
            assert_eq!(told, bpf::program_types().map_err(|e| e.raw_os_error()));
        }
    }
}

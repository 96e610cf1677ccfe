//! Starts the engine so that the program cannot notice: no SIGCHLD, nothing for its wait() to reap, no copy of its memory.
//!
//! An *intermediate* is cloned that shares the program's memory (CLONE_VM, on a stack of its own) while the calling thread stands still
//! (CLONE_VFORK). Its exit signal is 0: it is invisible to SIGCHLD handlers and to every wait() without __WCLONE, and so it must not execute
//! anything (exec resets the exit signal to SIGCHLD). It clones the process that executes the library, exits, and is reaped here.
//! The engine, an orphan, becomes init's child: this program's own only when the program is itself init or a subreaper.
//!
//! In both clones run only system calls by instruction: they share the caller's memory and thread-local storage.

use super::config;
use super::sys::{self, call, Errno};
use crate::control::{channel, EngineId};
use core::ffi::{c_char, c_int, CStr};
use core::ptr::null;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{FromRawFd, OwnedFd};

/// Bytes of stack for each of the two clones.
const STACK_LEN: usize = 64 * 1024;
/// The engine's environment: as many variables as [`config::Config::settings`] can hold.
const ENVIRONMENT_MAX: usize = 128;
const SIGNAL_MAX: usize = 64;

/// A process that was started.
pub struct Process {
    /// Names it even when it is gone; None on kernels before 5.2.
    pidfd: Option<OwnedFd>,
}

impl Process {
    /// Waits for a while; whether it still runs then. (A zombie does not: in many containers nobody reaps orphans.)
    pub fn runs_after(&self, us: i64) -> bool {
        let time = Timespec {
            tv_sec: us / 1_000_000,
            tv_nsec: us % 1_000_000 * 1000,
        };
        let ended = match &self.pidfd {
            Some(pidfd) => rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&time)),
            None => rustix::event::poll(&mut [], Some(&time)),
        };
        ended != Ok(1)
    }
}

/// Executes `libmptcp.so --engine ID`, through the dynamic linker when the file is not executable. Its environment is the program's MPTCP_*
/// settings and nothing else, so no LD_PRELOAD. Signals are blocked by the caller.
///
/// # Errors
/// ENOENT when the library's path is unknown or out of reach, EACCES on file systems mounted noexec, EAGAIN at the limit of processes.
pub fn engine(id: EngineId) -> Result<Process, Errno> {
    let config = config::get();
    let library = config.library.get().ok_or(libc::ENOENT)?;
    match execute(None, library, id) {
        Err(libc::EACCES) => execute(Some(config.linker.get().ok_or(libc::EACCES)?), library, id),
        other => other,
    }
}

/// What the clones need, prepared before because they must not do much.
struct Start {
    path: *const c_char,
    argv: [*const c_char; 5],
    envp: [*const c_char; ENVIRONMENT_MAX],
    stack: usize,
    pidfd: c_int,
    errno: Errno,
}

fn execute(linker: Option<&CStr>, library: &CStr, id: EngineId) -> Result<Process, Errno> {
    let mut text = [0u8; 13];
    text[..12].copy_from_slice(&id.text());
    let stacks = Stacks::new()?;
    let mut start = Start {
        path: linker.unwrap_or(library).as_ptr(),
        argv: [null(); 5],
        envp: [null(); ENVIRONMENT_MAX],
        stack: stacks.top(1),
        pidfd: -1,
        errno: 0,
    };
    let arguments = linker.map(CStr::as_ptr).into_iter().chain([
        library.as_ptr(),
        c"--engine".as_ptr(),
        text.as_ptr().cast::<c_char>(),
    ]);
    // One slot of each array stays null: its end.
    for (slot, argument) in start.argv[..4].iter_mut().zip(arguments) {
        *slot = argument;
    }
    let variables = config::get().settings().split_inclusive(|&b| b == 0);
    for (slot, variable) in start.envp[..ENVIRONMENT_MAX - 1].iter_mut().zip(variables) {
        *slot = variable.as_ptr().cast();
    }
    // Descriptors are shared with it: the pidfd of the process that it starts is to be ours.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES;
    // SAFETY: `intermediate` gets a stack of its own and `start`, which outlives it: this thread stands still until it has exited.
    let pid = unsafe { clone_on(flags, stacks.top(0), intermediate, &raw mut start) }?;
    // SAFETY: no status is wanted.
    while unsafe { call(libc::SYS_wait4, [pid, 0, libc::__WCLONE as usize, 0, 0, 0]) } == Err(libc::EINTR) {}
    let pidfd = (start.pidfd >= 0).then(|| {
        // SAFETY: the kernel made it for us, and nobody else knows of it.
        unsafe { OwnedFd::from_raw_fd(start.pidfd) }
    });
    let process = Process {
        pidfd: pidfd.and_then(|fd| channel::above_stdio(fd).ok()),
    };
    match start.errno {
        0 => Ok(process),
        errno => Err(errno),
    }
}

/// Two stacks in one mapping.
struct Stacks(usize);

impl Stacks {
    fn new() -> Result<Stacks, Errno> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new mapping touches nothing that exists.
        let base = unsafe {
            call(
                libc::SYS_mmap,
                [0, 2 * STACK_LEN, prot as usize, flags as usize, usize::MAX, 0],
            )
        }?;
        Ok(Stacks(base))
    }

    fn top(&self, index: usize) -> usize {
        self.0 + (index + 1) * STACK_LEN
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and both clones have exited or executed something.
        let _ = unsafe { call(libc::SYS_munmap, [self.0, 2 * STACK_LEN, 0, 0, 0, 0]) };
    }
}

extern "C" fn intermediate(start: *mut Start) -> c_int {
    // SAFETY: the caller of `clone_on` lent `start` to this process alone until it exits; the same holds for the executor.
    unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK;
        let cloned = match clone_on(flags | libc::CLONE_PIDFD, (*start).stack, executor, start) {
            Err(libc::EINVAL) => clone_on(flags, (*start).stack, executor, start),
            cloned => cloned,
        };
        if let Err(errno) = cloned {
            (*start).errno = errno;
        }
    }
    0
}

extern "C" fn executor(start: *mut Start) -> c_int {
    // SAFETY: as in `intermediate`. The calls change this process only: neither descriptors, nor signal handlers, nor the session are shared.
    unsafe {
        let _ = call(libc::SYS_setsid, [0; 6]);
        // What the program inherited or opened is not the engine's to hold.
        let _ = call(libc::SYS_close_range, [3, u32::MAX as usize, 0, 0, 0, 0]);
        default_signals();
        let start = &mut *start;
        let args = [
            start.path as usize,
            start.argv.as_ptr() as usize,
            start.envp.as_ptr() as usize,
            0,
            0,
            0,
        ];
        if let Err(errno) = call(libc::SYS_execve, args) {
            start.errno = errno;
        }
    }
    127
}

/// No handler of the program's may run here, and none of its ignored or blocked signals are the engine's: defaults first, then unblock.
fn default_signals() {
    // The kernel's struct sigaction: handler (0 is SIG_DFL), flags, restorer, mask; all zero.
    let default = [0usize; 4];
    for signal in 1..=SIGNAL_MAX {
        // SAFETY: reads the structure; SIGKILL and SIGSTOP are refused.
        let _ = unsafe { call(libc::SYS_rt_sigaction, [signal, default.as_ptr() as usize, 0, 8, 0, 0]) };
    }
    sys::restore_signals(0);
}

/// Runs `child(argument)` in a process that shares this one's memory (CLONE_VM and CLONE_VFORK must be among the flags), on a stack that ends (grows down from) `stack_top`, and returns its pid when it
/// has exited or executed something.
///
/// # Safety
/// `stack_top` is 16-byte aligned and ends enough writable memory that nobody else uses; `child` makes no assumption on thread-local storage.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_on(
    flags: c_int,
    stack_top: usize,
    child: extern "C" fn(*mut Start) -> c_int,
    argument: *mut Start,
) -> Result<usize, Errno> {
    let ret: isize;
    // SAFETY: the child runs on its own stack and never comes back into this frame: it exits.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit,
            inlateout("rax") libc::SYS_clone as isize => ret,
            in("rdi") flags as usize,
            in("rsi") stack_top,
            // Where CLONE_PIDFD puts the descriptor.
            in("rdx") &raw mut (*argument).pidfd,
            in("r10") 0usize,
            in("r8") 0usize,
            in("r12") child,
            in("r13") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    if ret < 0 {
        Err(-ret as Errno)
    } else {
        Ok(ret as usize)
    }
}

/// As the one for x86_64.
///
/// # Safety
/// As the one for x86_64.
#[cfg(target_arch = "aarch64")]
unsafe fn clone_on(
    flags: c_int,
    stack_top: usize,
    child: extern "C" fn(*mut Start) -> c_int,
    argument: *mut Start,
) -> Result<usize, Errno> {
    let ret: isize;
    // SAFETY: the child runs on its own stack and never comes back into this frame: it exits.
    unsafe {
        core::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "mov x8, {exit}",
            "svc 0",
            "brk 1",
            "2:",
            exit = const libc::SYS_exit,
            in("x8") libc::SYS_clone,
            inlateout("x0") flags as isize => ret,
            in("x1") stack_top,
            in("x2") &raw mut (*argument).pidfd,
            in("x3") 0usize,
            in("x4") 0usize,
            in("x20") child,
            in("x21") argument,
        );
    }
    if ret < 0 {
        Err(-ret as Errno)
    } else {
        Ok(ret as usize)
    }
}

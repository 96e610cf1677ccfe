//! `libmptcp.so` as a program: the ELF entry point and the interpreter, so that the library's own file can be executed.
//!
//! The kernel maps the file and the dynamic linker named in `.interp`; the linker relocates everything, runs the
//! constructors of the libraries we need, and jumps to `mptcp_entry` (`build.rs` makes it the ELF entry) with the stack
//! as the kernel left it. What is left to do is exactly what a C start file (`_start`) does: align the stack and hand
//! over to `__libc_start_main`, which runs the constructors of this file (the linker leaves those of the main program
//! to it; glibc before 2.34 leaves them to the start file, so there they do not run, and nothing here needs them), then
//! `main`, then `exit`. Threads, stdio, unwinding and `std` work as in any program.
//!
//! The shim's constructor must know that this process is no host program: [`executed`] is true from before the first
//! constructor of this file.
//!
//! Started through the linker (`ld.so libmptcp.so`, for a file without the execute bit) everything is the same.

use core::ffi::{c_char, c_int, c_void};
use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// True when this file is the process's main program and not a library in one.
pub fn executed() -> bool {
    EXECUTED.load(Ordering::Relaxed)
}

static EXECUTED: AtomicBool = AtomicBool::new(false);

macro_rules! interpreter {
    ($path:literal) => {
        #[used]
        #[link_section = ".interp"]
        static INTERPRETER: [u8; $path.len()] = *$path;
    };
}

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
interpreter!(b"/lib64/ld-linux-x86-64.so.2\0");
#[cfg(all(target_arch = "aarch64", target_env = "gnu"))]
interpreter!(b"/lib/ld-linux-aarch64.so.1\0");
#[cfg(all(target_arch = "x86_64", target_env = "musl"))]
interpreter!(b"/lib/ld-musl-x86_64.so.1\0");
#[cfg(all(target_arch = "aarch64", target_env = "musl"))]
interpreter!(b"/lib/ld-musl-aarch64.so.1\0");

// The first instructions of the program. On entry the stack pointer is at argc, and one register holds a function that
// the linker wants called at exit (System V ABI, "Process Initialization"). The frame pointer is zeroed to end
// backtraces here. No prologue may touch the stack before: that is why this is assembly.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl mptcp_entry",
    ".type mptcp_entry, @function",
    "mptcp_entry:",
    ".cfi_startproc",
    ".cfi_undefined rip",
    "xor %ebp, %ebp",
    "mov %rsp, %rdi",
    "mov %rdx, %rsi",
    "and $-16, %rsp",
    "call {start}",
    "hlt",
    ".cfi_endproc",
    ".size mptcp_entry, . - mptcp_entry",
    start = sym start,
    options(att_syntax)
);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl mptcp_entry",
    ".type mptcp_entry, %function",
    "mptcp_entry:",
    ".cfi_startproc",
    ".cfi_undefined x30",
    "mov x29, #0",
    "mov x30, #0",
    "mov x1, x0",
    "mov x0, sp",
    "and sp, x0, #-16",
    "bl {start}",
    "brk #0",
    ".cfi_endproc",
    ".size mptcp_entry, . - mptcp_entry",
    start = sym start,
);

type Main = extern "C" fn(c_int, *const *const c_char, *const *const c_char) -> c_int;
type Hook = Option<extern "C" fn()>;

extern "C" {
    fn __libc_start_main(
        main: Main,
        argc: c_int,
        argv: *const *const c_char,
        init: Hook,
        fini: Hook,
        linker_fini: Hook,
        stack_end: *const c_void,
    ) -> c_int;
}

/// What a C start file does. `stack` is the initial stack: argc, argv[argc], NULL, environment, NULL, auxiliary vector.
///
/// # Safety
/// Only for `mptcp_entry`, once.
unsafe extern "C" fn start(stack: *const usize, linker_fini: Hook) -> ! {
    EXECUTED.store(true, Ordering::Relaxed);
    // SAFETY: the ABI puts argc at the top of the initial stack and argv right behind it; libc is relocated and its own
    // constructors have run. It does not return: it calls exit() with main's result.
    unsafe {
        let argc = *stack as c_int;
        let argv = stack.add(1).cast::<*const c_char>();
        __libc_start_main(main, argc, argv, None, None, linker_fini, stack.cast());
        libc::abort()
    }
}

extern "C" fn main(argc: c_int, argv: *const *const c_char, _env: *const *const c_char) -> c_int {
    let arguments = (1..argc.max(1) as usize)
        .map(|i| {
            // SAFETY: argv holds argc pointers to strings that live as long as the process.
            let bytes = unsafe { CStr::from_ptr(*argv.add(i)) }.to_bytes();
            OsString::from_vec(bytes.to_vec())
        })
        .collect();
    std::panic::catch_unwind(|| super::program::run(arguments)).unwrap_or(101)
}

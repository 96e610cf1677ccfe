//! The extern shells: libc's names over the shim's logic. No logic here.
//!
//! Calls that return at once are redhook's. Those that may block are [`blocking!`]'s: they are cancellation points, and pthread_cancel unwinds the thread's stack
//! through them; redhook's shells cannot be unwound through (the process would abort), these can ("C-unwind", and nothing to drop).
//!
//! Before the constructor has found the real functions, a shell makes the system call itself: looking a function up allocates, which in an allocator's
//! own start would never end.

// A shell does one thing, with the arguments it was called with, under the promise that it was called with.
#![allow(unsafe_op_in_unsafe_fn)]

use super::start::{active, resolved};
use super::sys::syscall6;
use super::{send, Verdict};
use core::ffi::{c_int, c_long};

/// Defines libc functions that may block. In the body, `NAME::real` is the function behind ours; until it is known, the system call.
macro_rules! blocking {
    ($(unsafe fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $nr:expr, [$($raw:ident),*] $body:block)*) => {
        $(
            pub mod $name {
                use super::*;

                pub static REAL: core::sync::atomic::AtomicPtr<core::ffi::c_void> =
                    core::sync::atomic::AtomicPtr::new(core::ptr::null_mut());

                pub unsafe fn real($($arg: $ty),*) -> $ret {
                    let real = REAL.load(core::sync::atomic::Ordering::Acquire);
                    if real.is_null() {
                        return plain($nr, padded([$($raw as usize),*])) as $ret;
                    }
                    let real: unsafe extern "C-unwind" fn($($ty),*) -> $ret = core::mem::transmute(real);
                    real($($arg),*)
                }
            }

            #[no_mangle]
            pub unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> $ret $body
        )*

        /// Looks the real functions up; one that this libc lacks stays a system call.
        pub fn resolve() {
            $(
                // SAFETY: a lookup by a name that ends with NUL.
                let real = unsafe { libc::dlsym(libc::RTLD_NEXT, concat!(stringify!($name), "\0").as_ptr().cast()) };
                $name::REAL.store(real, core::sync::atomic::Ordering::Release);
            )*
        }
    };
}

mod connect;
mod descriptors;
mod epoll;
mod listen;
mod options;
mod process;
mod receive;
mod write;

/// Looks up every real function; for the constructor.
pub fn resolve() {
    connect::resolve();
    descriptors::resolve();
    epoll::resolve();
    listen::resolve();
    options::resolve();
    process::resolve();
    receive::resolve();
    write::resolve();
}

fn padded<const N: usize>(given: [usize; N]) -> [usize; 6] {
    core::array::from_fn(|i| given.get(i).copied().unwrap_or(0))
}

/// A system call as libc makes it: -1 and errno on failure.
///
/// # Safety
/// As the call `nr` with these arguments.
unsafe fn plain(nr: c_long, args: [usize; 6]) -> isize {
    // SAFETY: the caller's promise.
    let ret = unsafe { syscall6(nr, args) };
    if (-4095..0).contains(&ret) {
        set_errno(-ret as c_int);
        return -1;
    }
    ret
}

fn set_errno(errno: c_int) {
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *libc::__errno_location() = errno };
}

/// A verdict as libc returns it; `None` is for the real function.
fn finish(verdict: Verdict) -> Option<c_int> {
    match verdict {
        Verdict::Done(Ok(value)) => Some(value),
        Verdict::Done(Err(errno)) => {
            set_errno(errno);
            Some(-1)
        }
        Verdict::Pass => None,
    }
}

/// What a real function returned, as a value.
fn outcome(ret: isize) -> send::Outcome {
    if ret < 0 {
        // SAFETY: the address of this thread's errno is always valid.
        Err(unsafe { *libc::__errno_location() })
    } else {
        Ok(ret)
    }
}

/// The value as libc returns it. A success leaves errno alone.
fn returned(outcome: send::Outcome) -> isize {
    outcome.unwrap_or_else(|errno| {
        set_errno(errno);
        -1
    })
}

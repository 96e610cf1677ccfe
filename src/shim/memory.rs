//! The program's memory, reached as the kernel reaches it: a bad pointer is EFAULT, not the end of the process.
//!
//! process_vm_readv and process_vm_writev on this very process. Where they are forbidden, or could be (a sandbox), a pointer is believed.

use super::start;
use super::sys::{self, Errno};
use core::ffi::c_long;

/// Copies from the program's memory.
///
/// # Safety
/// `from` is what a system call would be given: readable for the length of `to`, or to be refused.
pub unsafe fn copy_in(from: *const u8, to: &mut [u8]) -> Result<(), Errno> {
    let len = to.len();
    // SAFETY: the caller's promise; `to` is a slice.
    match unsafe { transfer(libc::SYS_process_vm_readv, to.as_mut_ptr(), from.cast_mut(), len) } {
        // SAFETY: the caller's promise, without the kernel's help.
        None => unsafe { core::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), len) },
        Some(done) => return done,
    }
    Ok(())
}

/// Copies into the program's memory.
///
/// # Safety
/// `to` is what a system call would be given: writable for the length of `from`, or to be refused.
pub unsafe fn copy_out(from: &[u8], to: *mut u8) -> Result<(), Errno> {
    let len = from.len();
    // SAFETY: the caller's promise; the local side is only read.
    match unsafe { transfer(libc::SYS_process_vm_writev, from.as_ptr().cast_mut(), to, len) } {
        // SAFETY: the caller's promise, without the kernel's help.
        None => unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to, len) },
        Some(done) => return done,
    }
    Ok(())
}

/// None when the kernel does not help.
unsafe fn transfer(nr: c_long, own: *mut u8, theirs: *mut u8, len: usize) -> Option<Result<(), Errno>> {
    if len == 0 {
        return Some(Ok(()));
    }
    if start::sandboxed() {
        return None;
    }
    let vector = |base: *mut u8| libc::iovec {
        iov_base: base.cast(),
        iov_len: len,
    };
    let (own, theirs) = (vector(own), vector(theirs));
    let pid = rustix::process::getpid().as_raw_nonzero().get() as usize;
    let args = [pid, &raw const own as usize, 1, &raw const theirs as usize, 1, 0];
    // SAFETY: the kernel checks the remote range, and the local one is the caller's slice.
    match unsafe { sys::call(nr, args) } {
        Ok(n) if n == len => Some(Ok(())),
        Ok(_) | Err(libc::EFAULT) => Some(Err(libc::EFAULT)),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_pointer_is_an_error() {
        let mut buf = [0; 4];
        let bad = core::ptr::without_provenance_mut::<u8>(8);
        // SAFETY: address 8 is never mapped: it has to be refused.
        unsafe {
            assert_eq!(copy_in(bad, &mut buf), Err(libc::EFAULT));
            assert_eq!(copy_out(&buf, bad), Err(libc::EFAULT));
        }
        let mut there = [1, 2, 3, 4];
        // SAFETY: `there` has four bytes.
        unsafe {
            assert_eq!(copy_in(there.as_ptr(), &mut buf), Ok(()));
            assert_eq!(copy_out(&[9, 8], there.as_mut_ptr()), Ok(()));
        }
        assert_eq!((buf, there), ([1, 2, 3, 4], [9, 8, 3, 4]));
    }
}

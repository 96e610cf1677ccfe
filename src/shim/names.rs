//! getpeername and getsockname: the first subflow's addresses, for ever, decoded from the shadow's name.

use super::{identify, memory, multipath, start, Verdict};
use crate::control::multipath::sockaddr;
use crate::control::multipath::EMULTIPATH;
use crate::control::Phase;
use core::ffi::{c_int, c_void};
use core::net::SocketAddr;

/// Which end's address is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// getsockname.
    Local,
    /// getpeername.
    Remote,
}

/// The hooks' logic. TCP knows no peer while the handshake runs (programs test for its end so) and after the connection's end.
///
/// # Safety
/// `addr` and `len` are what getpeername() would be given.
pub unsafe fn name(fd: c_int, end: End, addr: *mut c_void, len: *mut libc::socklen_t) -> Verdict {
    let Some(shadow) = identify::shadow(fd) else {
        return Verdict::Pass;
    };
    let connected = || start::sandboxed() || identify::phase(fd, &shadow) == Phase::Established;
    if multipath::names_fail(fd, &shadow) {
        return Verdict::Done(Err(EMULTIPATH));
    }
    let address = match end {
        End::Local => shadow.local,
        End::Remote if connected() => shadow.remote,
        End::Remote => return Verdict::Done(Err(libc::ENOTCONN)),
    };
    // SAFETY: the caller's promise.
    Verdict::Done(unsafe { write(address, addr, len) })
}

/// Writes a sockaddr as the kernel does: cut to the room there is, its full length told.
///
/// # Safety
/// `addr` and `len` are what getpeername() would be given.
pub unsafe fn write(address: SocketAddr, addr: *mut c_void, len: *mut libc::socklen_t) -> Result<i32, c_int> {
    let (bytes, full) = sockaddr(address);
    let mut room = [0; 4];
    // SAFETY: the caller's promise.
    unsafe {
        memory::copy_in(len.cast(), &mut room)?;
        let room = usize::try_from(i32::from_ne_bytes(room)).map_err(|_| libc::EINVAL)?;
        memory::copy_out(&bytes[..full.min(room)], addr.cast())?;
        memory::copy_out(&(full as libc::socklen_t).to_ne_bytes(), len.cast())?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::eligible::read_address;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["192.0.2.1:80", "[2001:db8::1]:443", "[fe80::1%3]:1"] {
            let address: SocketAddr = text.parse().expect("an address");
            let mut buf = [0u8; 28];
            let mut len = 28;
            // SAFETY: the buffer has that size.
            assert_eq!(unsafe { write(address, buf.as_mut_ptr().cast(), &mut len) }, Ok(0));
            // SAFETY: the buffer has that size.
            let read = unsafe { read_address(buf.as_ptr().cast(), len as usize) };
            assert_eq!(read, Some(address));
        }
    }

    #[test]
    fn a_small_buffer_is_not_overrun_and_told_the_length() {
        let mut buf = [0xffu8; 28];
        let mut len = 3;
        let address = "192.0.2.1:80".parse().expect("an address");
        // SAFETY: the buffer is larger than it says.
        assert_eq!(unsafe { write(address, buf.as_mut_ptr().cast(), &mut len) }, Ok(0));
        assert_eq!((len, buf[3]), (16, 0xff));
        let mut negative = u32::MAX;
        // SAFETY: nothing is written.
        let written = unsafe { write(address, buf.as_mut_ptr().cast(), &mut negative) };
        assert_eq!(written, Err(libc::EINVAL));
    }
}

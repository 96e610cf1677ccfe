//! Is this descriptor a shadow, and what has become of its connection? The kernel answers the first, mostly also the second.

use super::sys::{self, Errno};
use super::table::{self, Kind};
use super::{engine, inq, listen, start};
use crate::control::channel::CallError;
use crate::control::shadow::ShadowName;
use crate::control::Phase;
use core::ffi::c_int;

/// The connection behind `fd`, if `fd` is the program's end of a shadow pair: by its peer's name, and by who bound that name. In any
/// process that holds it, after any dup, fork, exec or passing.
pub fn shadow(fd: c_int) -> Option<ShadowName> {
    let hint = table::hint(fd);
    if start::sandboxed() && hint != Kind::Shadow {
        return None;
    }
    let found = ask_kernel(fd);
    match (&found, hint) {
        (Some(_), Kind::Shadow) => {}
        // Inherited over exec, or received: from now on the data path knows.
        (Some(_), _) => {
            table::note(fd, Kind::Shadow, sys::cookie(fd).unwrap_or(0));
            inq::learn(fd);
        }
        (None, Kind::Shadow) => table::forget(fd),
        (None, _) => {}
    }
    found
}

fn ask_kernel(fd: c_int) -> Option<ShadowName> {
    let name = sys::getpeername(fd).ok()?;
    if name.family() != libc::AF_UNIX {
        return None;
    }
    let shadow = ShadowName::decode(name.rest().strip_prefix(b"\0")?)?;
    made_by_an_engine(fd).then_some(shadow)
}

/// Anybody may bind an abstract name; the kernel remembers who made the socket.
fn made_by_an_engine(fd: c_int) -> bool {
    if start::sandboxed() {
        // A filter that lets getpeername pass need not let getsockopt pass.
        return true;
    }
    let mut ucred = [0; 12];
    match sys::getsockopt_bytes(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut ucred) {
        Ok(12) => {
            let uid = u32::from_ne_bytes([ucred[4], ucred[5], ucred[6], ucred[7]]);
            engine::believes(uid) || uid == rustix::process::getuid().as_raw()
        }
        _ => false,
    }
}

/// Where the connection is in its life, as far as the shadow tells without asking: None when only the engine knows.
pub fn phase_by_poll(fd: c_int) -> Option<Phase> {
    let events = sys::poll_now(fd, libc::POLLOUT).ok()?;
    let ended = events & (libc::POLLHUP | libc::POLLERR) != 0;
    (!ended && events & libc::POLLOUT != 0).then_some(Phase::Established)
}

/// Where the connection is in its life. An engine that cannot be asked any more has failed the connection.
pub fn phase(fd: c_int, shadow: &ShadowName) -> Phase {
    phase_by_poll(fd).unwrap_or_else(|| ask_phase(fd, shadow))
}

/// What the engine says.
pub fn ask_phase(fd: c_int, shadow: &ShadowName) -> Phase {
    sys::cookie(fd)
        .ok()
        .and_then(|cookie| engine::query(shadow.engine, cookie).ok()?)
        .unwrap_or(Phase::Failed {
            errno: libc::ECONNRESET,
        })
}

/// The pending error of the socket, taken from it (SO_ERROR), as TCP would have named it. 0 is none.
pub fn take_error(fd: c_int, shadow: &ShadowName) -> Result<c_int, Errno> {
    match sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_ERROR)? {
        libc::ECONNRESET => Ok(reset_cause(fd, shadow)),
        other => Ok(other),
    }
}

/// How many engines in a row may die of a question, so to speak: one that was killed, and its keeper.
const ANSWERS_LOST_MAX: usize = 3;

/// Why the kernel says ECONNRESET.
pub fn reset_cause(fd: c_int, shadow: &ShadowName) -> c_int {
    let cookie = sys::cookie(fd).unwrap_or_default();
    // Who is being killed has the name until it is gone, but gives no answer: whether another one has it then is asked again.
    for _ in 0..ANSWERS_LOST_MAX {
        match engine::query(shadow.engine, cookie) {
            Ok(Some(Phase::Failed { errno })) => return errno,
            Err(CallError::NoAnswer) => continue,
            Err(CallError::NoEngine) => listen::renew(shadow.engine),
            _ => {}
        }
        break;
    }
    libc::ECONNRESET
}

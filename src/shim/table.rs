//! A cache by descriptor number. The kernel may contradict it at any time: numbers are closed and reused by raw system calls, by libc's
//! own, by close_range. So an entry is either a *hint*, good enough to choose between two right ways of making the same call, or it is
//! *verified* against the socket's cookie before anything depends on it.
//!
//! One word per number, in untouched (and so unbacked) static memory; numbers above [`TABLE_LEN`] are never known, which is safe.
//!
//! | bits | meaning |
//! |---|---|
//! | 0–2 | [`Kind`]; a shadow whose recvmsg() tells what waits (TCP_INQ) is one of its own |
//! | 3 | shared: a duplicate was made |
//! | 4 | odd: an option was set that only the kernel has and that cannot be read back |
//! | 5 | awaiting: a connect() said EINPROGRESS and none has told the result |
//! | 6 | aware: the program set an option of `mptcp.h` |
//! | 7–22 | generation of forks at creation; those beyond 65535 are all one, and what was made there is never this process's alone |
//! | 23–63 | the socket's cookie, lower 41 bits |

use super::sys;
use core::ffi::c_int;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};

/// Descriptor numbers that can be known: few programs have more open, and mlockall() makes every page of this real.
pub const TABLE_LEN: usize = 1 << 17;

/// What a number was when we last heard of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing is known.
    Unknown,
    /// A kernel TCP socket that this process made with socket().
    KernelTcp,
    /// A shadow that this process put there.
    Shadow,
}

const KIND: u64 = 0b111;
const KERNEL_TCP: u64 = 1;
const SHADOW: u64 = 2;
const SHADOW_QUEUE_TOLD: u64 = 3;
const SHARED: u64 = 1 << 3;
const ODD: u64 = 1 << 4;
const AWAITING: u64 = 1 << 5;
const AWARE: u64 = 1 << 6;
const GENERATION_SHIFT: u32 = 7;
const GENERATION_MAX: u16 = u16::MAX;
const GENERATION: u64 = (GENERATION_MAX as u64) << GENERATION_SHIFT;
const COOKIE_SHIFT: u32 = 23;

static TABLE: [AtomicU64; TABLE_LEN] = [const { AtomicU64::new(0) }; TABLE_LEN];

/// Counts forks of this process and its ancestors since the library was loaded, up to [`GENERATION_MAX`].
static FORKS: AtomicU16 = AtomicU16::new(0);

/// A fork happened: sockets made before are shared with the other side from now on. For pthread_atfork, in parent and child.
pub extern "C" fn count_fork() {
    // Never around to an earlier value: sockets of then would seem to be nobody else's.
    let _ = FORKS.fetch_update(Relaxed, Relaxed, |forks| forks.checked_add(1));
}

fn slot(fd: c_int) -> Option<&'static AtomicU64> {
    TABLE.get(usize::try_from(fd).ok()?)
}

fn entry(kind: Kind, cookie: u64) -> u64 {
    let kind = match kind {
        Kind::Unknown => return 0,
        Kind::KernelTcp => KERNEL_TCP,
        Kind::Shadow => SHADOW,
    };
    kind | (u64::from(FORKS.load(Relaxed)) << GENERATION_SHIFT) | (cookie << COOKIE_SHIFT)
}

/// Notes what `fd` is now.
pub fn note(fd: c_int, kind: Kind, cookie: u64) {
    if let Some(slot) = slot(fd) {
        slot.store(entry(kind, cookie), Relaxed);
    }
}

/// Forgets `fd`.
pub fn forget(fd: c_int) {
    note(fd, Kind::Unknown, 0);
}

/// The hint, without a system call.
pub fn hint(fd: c_int) -> Kind {
    match slot(fd).map_or(0, |slot| slot.load(Relaxed)) & KIND {
        KERNEL_TCP => Kind::KernelTcp,
        SHADOW | SHADOW_QUEUE_TOLD => Kind::Shadow,
        _ => Kind::Unknown,
    }
}

/// True when the entry still speaks of the socket with this cookie.
fn speaks_of(value: u64, cookie: u64) -> bool {
    value & KIND != 0 && value >> COOKIE_SHIFT == cookie & (u64::MAX >> COOKIE_SHIFT)
}

/// What is known of a kernel socket that is about to be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ownership {
    /// This process made it, and nobody else can hold it.
    Sole,
    /// Duplicated, inherited, received, or made in a way that we did not see.
    MaybeShared,
    /// Ours, but with an option that only the kernel has.
    Odd,
}

/// Whether the kernel socket at `fd` is this process's alone. One system call (its cookie).
pub fn ownership(fd: c_int) -> Ownership {
    let Some(slot) = slot(fd) else {
        return Ownership::MaybeShared;
    };
    let value = slot.load(Relaxed);
    let generation = (value & GENERATION) >> GENERATION_SHIFT;
    let forks = FORKS.load(Relaxed);
    let since_fork = generation == u64::from(forks) && forks != GENERATION_MAX;
    if hint(fd) != Kind::KernelTcp || value & SHARED != 0 || !since_fork {
        return Ownership::MaybeShared;
    }
    match sys::cookie(fd) {
        Ok(cookie) if speaks_of(value, cookie) && value & ODD != 0 => Ownership::Odd,
        Ok(cookie) if speaks_of(value, cookie) => Ownership::Sole,
        _ => Ownership::MaybeShared,
    }
}

/// As [`ownership`], of a socket that stays in its place: forks and duplicates of this program's do not matter, other programs do.
pub fn made_here(fd: c_int) -> Ownership {
    let value = slot(fd).map_or(0, |slot| slot.load(Relaxed));
    match sys::cookie(fd) {
        Ok(cookie) if hint(fd) == Kind::KernelTcp && speaks_of(value, cookie) => match value & ODD {
            0 => Ownership::Sole,
            _ => Ownership::Odd,
        },
        _ => Ownership::MaybeShared,
    }
}

/// Two numbers now name one description.
pub fn mark_shared(from: c_int, to: c_int) {
    let kind = hint(from);
    if kind == Kind::Unknown {
        forget(to);
        return;
    }
    if let (Some(from), Some(to)) = (slot(from), slot(to)) {
        to.store(from.fetch_or(SHARED, Relaxed) | SHARED, Relaxed);
    }
}

/// An option was set that only the kernel has.
pub fn mark_odd(fd: c_int) {
    if let (Kind::KernelTcp, Some(slot)) = (hint(fd), slot(fd)) {
        slot.fetch_or(ODD, Relaxed);
    }
}

/// The program has set an option of `mptcp.h`: it knows MPTCP.
pub fn set_aware(fd: c_int) {
    if let Some(slot) = slot(fd) {
        slot.fetch_or(AWARE, Relaxed);
    }
}

/// A hint: whether the program knows MPTCP.
pub fn is_aware(fd: c_int) -> bool {
    slot(fd).is_some_and(|slot| slot.load(Relaxed) & AWARE != 0)
}

/// Whether recvmsg() on a shadow tells what waits (TCP_INQ).
pub fn set_queue_told(fd: c_int, told: bool) {
    if let (Kind::Shadow, Some(slot)) = (hint(fd), slot(fd)) {
        let kind = if told { SHADOW_QUEUE_TOLD } else { SHADOW };
        let _ = slot.fetch_update(Relaxed, Relaxed, |value| Some(value & !KIND | kind));
    }
}

/// A hint: whether recvmsg() tells what waits.
pub fn is_queue_told(fd: c_int) -> bool {
    slot(fd).is_some_and(|slot| slot.load(Relaxed) & KIND == SHADOW_QUEUE_TOLD)
}

/// connect() has said EINPROGRESS: the next one to find it established tells success, once.
pub fn set_awaiting(fd: c_int) {
    if let Some(slot) = slot(fd) {
        slot.fetch_or(AWAITING, Relaxed);
    }
}

/// Whether success has not been told yet for the shadow with this cookie; it has been after this.
pub fn take_awaiting(fd: c_int, cookie: u64) -> bool {
    slot(fd)
        .is_some_and(|slot| speaks_of(slot.load(Relaxed), cookie) && slot.fetch_and(!AWAITING, Relaxed) & AWAITING != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    // Numbers that no test opens: the table is shared by all tests of the process.
    const HIGH: c_int = TABLE_LEN as c_int - 100;

    #[test]
    fn numbers_out_of_range_are_never_known() {
        for fd in [-1, TABLE_LEN as c_int, c_int::MAX] {
            note(fd, Kind::Shadow, 1);
            assert_eq!(hint(fd), Kind::Unknown);
            assert_eq!(ownership(fd), Ownership::MaybeShared);
            assert!(!take_awaiting(fd, 1));
        }
    }

    #[test]
    fn success_is_told_once() {
        let fd = HIGH;
        note(fd, Kind::Shadow, 77);
        assert!(!take_awaiting(fd, 77));
        set_awaiting(fd);
        assert!(!take_awaiting(fd, 78), "another socket's");
        assert!(take_awaiting(fd, 77));
        assert!(!take_awaiting(fd, 77));
    }

    #[test]
    fn a_duplicate_makes_both_shared() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let fd = socket.as_raw_fd();
        let cookie = sys::cookie(fd).expect("a socket has a cookie");
        note(fd, Kind::KernelTcp, cookie);
        assert_eq!(ownership(fd), Ownership::Sole);
        mark_shared(fd, HIGH + 1);
        assert_eq!(ownership(fd), Ownership::MaybeShared);
        assert_eq!(hint(HIGH + 1), Kind::KernelTcp);
        note(fd, Kind::KernelTcp, cookie + 1);
        assert_eq!(ownership(fd), Ownership::MaybeShared, "the number was reused");
        note(fd, Kind::KernelTcp, cookie);
        mark_odd(fd);
        assert_eq!(ownership(fd), Ownership::Odd);
        forget(fd);
    }
}

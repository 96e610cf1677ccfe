//! What lives in the program's process: hooks over libc's socket calls, and nothing else. No thread, no descriptor, no lock.
//!
//! The program holds kernel descriptors only. A connection that the engine carries is an AF_UNIX stream socket, the *shadow*, whose peer's
//! name says so ([`identify`]); everything else is the kernel's own and passes through untouched, for a reason that has a name
//! ([`crate::control::Bypass`]).
//!
//! | file | idea |
//! |---|---|
//! | [`start`] | the constructor: from here on hooks do something, and only in a process that has the library preloaded |
//! | [`config`] | what is known once at start: environment, name, path, place |
//! | [`sockets`] | which sockets this process made and holds alone |
//! | [`table`] | a cache by descriptor number, which the kernel may contradict |
//! | [`identify`] | is this descriptor a shadow, whose, and in which phase |
//! | [`connect`] | connect() from judging to waiting |
//! | [`eligible`] | which sockets and destinations are left to the kernel |
//! | [`replace`] | one description in the place of another: flags, timeouts, epoll registrations |
//! | [`epoll`] | registrations made before connecting |
//! | [`engine`] | asking the engine, starting it first if need be |
//! | [`spawn`] | starting a process that the program cannot notice |
//! | [`listen`], [`accept`] | a listening socket stays where it is; what it accepts may be a shadow's carrier |
//! | [`multipath`], [`linux`] | the options of `mptcp.h`; IPPROTO_MPTCP and SOL_MPTCP |
//! | [`names`], [`options`], [`controls`] | getpeername, getsockname; socket options; ioctl and shutdown |
//! | [`inq`] | TCP_INQ's control message |
//! | [`send`], [`receive`] | flags, addresses and errors that AF_UNIX treats unlike TCP |
//! | [`sys`], [`memory`], [`log`] | system calls by instruction; the program's pointers; one line on standard error |
//! | `hooks` | the extern shells |
//!
//! Rules: nothing here allocates, takes a lock or calls a libc function that may be hooked, before or after constructors; a hook on the data path makes
//! no system call besides the program's own, unless that failed or its flags need translation; errno survives success.

pub mod accept;
pub mod config;
pub mod connect;
pub mod controls;
pub mod eligible;
pub mod engine;
pub mod epoll;
#[cfg(feature = "preload")]
mod hooks;
pub mod identify;
pub mod inq;
pub mod linux;
pub mod listen;
pub mod log;
pub mod memory;
pub mod multipath;
pub mod names;
pub mod options;
pub mod receive;
pub mod replace;
pub mod send;
pub mod sockets;
pub mod spawn;
pub mod start;
pub mod sys;
pub mod table;

/// What a hook's logic decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<T = i32> {
    /// The call is done, with this result or this errno.
    Done(Result<T, sys::Errno>),
    /// The call is the kernel's: make it as the program did.
    Pass,
}

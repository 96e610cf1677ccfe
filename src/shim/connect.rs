//! connect(): judge, ask the engine, put the shadow in the socket's place, wait if the program does.
//!
//! The states of net/ipv4/af_inet.c `__inet_stream_connect`, on a shadow: connecting (EALREADY), just established (0, once), established (EISCONN),
//! failed (the error, or ECONNABORTED when SO_ERROR has told it; the socket is as new then). Disconnecting by AF_UNSPEC puts a kernel socket
//! back, as does a failed attempt: the next connect begins anew.

use super::engine::{self, Connected};
use super::log::{self, info, warning, Level};
use super::sys::{self, Errno};
use super::table::{self, Kind};
use super::{config, eligible, epoll, identify, linux, memory, multipath, options, replace, Verdict};
use crate::control::shadow::ShadowName;
use crate::control::Reply;
use crate::control::{Bypass, Connect, EngineId, Left, Phase, Request, MESSAGE_MAX};
use core::ffi::{c_int, c_void};
use core::net::SocketAddr;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The hook's logic.
///
/// # Safety
/// `addr` and `len` are what connect() would be given.
pub unsafe fn connect(fd: c_int, addr: *const c_void, len: usize) -> Verdict {
    if let Some(shadow) = identify::shadow(fd) {
        // SAFETY: the caller's promise.
        return unsafe { again(fd, &shadow, addr, len) };
    }
    // SAFETY: the caller's promise.
    let Some(remote) = (unsafe { eligible::read_address(addr, len) }) else {
        return Verdict::Pass;
    };
    // A datagram socket's connect is no news, and no reason to ask more.
    if sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL) != Ok(libc::IPPROTO_TCP) {
        return Verdict::Pass;
    }
    let judged = eligible::destination(remote, config::get().loopback)
        .and_then(|()| eligible::socket(fd, remote))
        .and_then(|flags| multipath::judge(fd).map(|()| flags))
        .and_then(|flags| epoll::movable(fd).map(|()| flags));
    match judged {
        Ok(flags) => first(fd, remote, flags),
        Err(reason) => {
            if is_telling(reason) {
                tell(remote, reason);
            }
            bypass(fd, remote, reason)
        }
    }
}

/// Whether `mptcp status` is to show a connection that is left to the kernel without asking: where the socket's options or its address decided
/// that, and not what the user has turned off or what no engine could carry.
fn is_telling(reason: Bypass) -> bool {
    matches!(
        reason,
        Bypass::ZeroCopy
            | Bypass::AsyncIo
            | Bypass::Timestamps
            | Bypass::TcpFeature
            | Bypass::FastOpen
            | Bypass::Transparent
            | Bypass::BoundToDevice
            | Bypass::IpOptions
            | Bypass::SmallSendBuffer
            | Bypass::SmallReceiveBuffer
            | Bypass::BoundAddress
    )
}

fn tell(remote: SocketAddr, reason: Bypass) {
    // As in `first`.
    let mask = sys::block_signals();
    engine::left(&Request::Left(Left {
        remote,
        program: config::get().program(),
        reason,
    }));
    sys::restore_signals(mask);
}

fn bypass(fd: c_int, remote: SocketAddr, reason: Bypass) -> Verdict {
    // A program that asks a second time how its connect stands is no news.
    let level = if reason == Bypass::NotFresh {
        Level::Debug
    } else {
        Level::Info
    };
    log::write(
        level,
        format_args!("connect {remote}: left to the kernel: {}", reason.text()),
    );
    multipath::narrow(fd, remote);
    // Where the socket is the kernel's already, or cannot be replaced, it stays.
    if !matches!(reason, Bypass::NotFresh | Bypass::Shared | Bypass::Epoll) {
        linux::give_back(fd);
    }
    Verdict::Pass
}

/// What a blocking connect needs to wait, and to put things back.
struct Pending {
    engine: EngineId,
    cookie: u64,
    /// The kernel socket; kept by a blocking connect only.
    kernel: Option<OwnedFd>,
    /// Where the engine tells the outcome, likewise.
    channel: Option<OwnedFd>,
}

fn first(fd: c_int, remote: SocketAddr, flags: c_int) -> Verdict {
    let nonblocking = flags & libc::O_NONBLOCK != 0;
    // No handler of the program's may see, or leave by longjmp, a half-made exchange.
    let mask = sys::block_signals();
    let begun = begin(fd, remote, flags);
    sys::restore_signals(mask);
    match begun {
        Ok(pending) if nonblocking => {
            table::set_awaiting(fd);
            info!("connect {remote}: handshake begun by engine {}", pending.engine);
            Verdict::Done(Err(libc::EINPROGRESS))
        }
        Ok(pending) => wait(fd, remote, pending),
        Err(verdict) => verdict,
    }
}

fn begin(fd: c_int, remote: SocketAddr, flags: c_int) -> Result<Pending, Verdict> {
    let nonblocking = flags & libc::O_NONBLOCK != 0;
    let request = Request::Connect(Connect {
        remote,
        nonblocking,
        pid: rustix::process::getpid().as_raw_nonzero().get().unsigned_abs(),
        program: config::get().program(),
        settings: config::get().settings(),
    });
    // SAFETY: the program's descriptor, which it does not close while it connects it; borrowed for this call.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let answer = engine::connect(&request, socket);
    if !matches!(answer, Connected::Shadow { .. }) {
        // The engine may have made the description non-blocking.
        let _ = sys::fcntl(fd, libc::F_SETFL, flags);
    }
    let (end, engine, cookie, channel) = match answer {
        Connected::Shadow {
            end,
            engine,
            cookie,
            channel,
        } => (end, engine, cookie, channel),
        Connected::Bypass(reason) => return Err(bypass(fd, remote, reason)),
        Connected::Failed(errno) => {
            info!("connect {remote}: {}", rustix::io::Errno::from_raw_os_error(errno));
            return Err(Verdict::Done(Err(errno)));
        }
    };
    let kernel = match nonblocking {
        true => None,
        false => sys::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3).ok().map(|copy| {
            // SAFETY: a new descriptor that is nobody else's.
            unsafe { OwnedFd::from_raw_fd(copy) }
        }),
    };
    match replace::put(fd, end, flags, Kind::Shadow, cookie) {
        Ok(()) => Ok(Pending {
            engine,
            cookie,
            kernel,
            channel: (!nonblocking).then_some(channel),
        }),
        // The shadow's end is closed by now, and the engine gives the attempt up.
        Err(_) => Err(bypass(fd, remote, Bypass::NoResources)),
    }
}

/// Waits as TCP's connect does. Receiving from the engine is interrupted and restarted by the same rules as connect: EINTR without SA_RESTART or with
/// SO_SNDTIMEO, else transparently. The attempt goes on after EINTR.
fn wait(fd: c_int, remote: SocketAddr, pending: Pending) -> Verdict {
    match result(fd, &pending) {
        Ok(Phase::Established) => {
            info!("connect {remote}: established by engine {}", pending.engine);
            table::take_awaiting(fd, pending.cookie);
            Verdict::Done(Ok(0))
        }
        // SO_SNDTIMEO is over.
        Ok(Phase::Connecting) => {
            info!("connect {remote}: handshake goes on in engine {}", pending.engine);
            table::set_awaiting(fd);
            Verdict::Done(Err(libc::EINPROGRESS))
        }
        Ok(Phase::Failed { errno }) => failed(fd, remote, pending, errno),
        // The engine died, or forgot.
        Ok(Phase::Gone) | Err(WaitError::NoAnswer) => failed(fd, remote, pending, libc::ECONNRESET),
        Err(WaitError::Interrupted) => {
            table::set_awaiting(fd);
            Verdict::Done(Err(libc::EINTR))
        }
    }
}

enum WaitError {
    Interrupted,
    NoAnswer,
}

fn result(fd: c_int, pending: &Pending) -> Result<Phase, WaitError> {
    let opened;
    let channel = match &pending.channel {
        Some(channel) => channel,
        None => {
            opened = engine::submit_wait(pending.engine, pending.cookie).map_err(|_| WaitError::NoAnswer)?;
            &opened
        }
    };
    // The program's own limit in place of the channel's; none at all by default.
    let mut timeout = [0; size_of::<libc::timeval>()];
    let timed = sys::getsockopt_bytes(fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &mut timeout).is_ok()
        && sys::setsockopt_bytes(channel.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout).is_ok();
    if !timed {
        return Err(WaitError::NoAnswer);
    }
    let mut buf = [0; MESSAGE_MAX];
    match sys::recv(channel.as_raw_fd(), &mut buf, 0) {
        Ok(n) if n > 0 => Reply::decode(&buf[..n])
            .ok()
            .and_then(engine::phase_reply)
            .ok_or(WaitError::NoAnswer),
        Err(libc::EAGAIN) => Ok(Phase::Connecting),
        Err(libc::EINTR) => Err(WaitError::Interrupted),
        _ => Err(WaitError::NoAnswer),
    }
}

/// The kernel socket, untouched, comes back: as a TCP socket after a failed connect it can be connected again.
fn failed(fd: c_int, remote: SocketAddr, pending: Pending, errno: Errno) -> Verdict {
    info!("connect {remote}: {}", rustix::io::Errno::from_raw_os_error(errno));
    let mask = sys::block_signals();
    if let Some(kernel) = pending.kernel.or_else(|| engine::abort(pending.engine, pending.cookie)) {
        restore(
            fd,
            pending.cookie,
            kernel,
            Trace {
                local: None,
                remote,
                was_open: false,
            },
        );
    }
    sys::restore_signals(mask);
    Verdict::Done(Err(errno))
}

/// What an unconnected socket remembers of its last connection.
struct Trace {
    /// If known.
    local: Option<SocketAddr>,
    remote: SocketAddr,
    /// There was a connection, or an attempt, to break off.
    was_open: bool,
}

/// Puts a kernel socket in the shadow's place, unconnected: the engine may have tried to connect it.
/// Not when the number stands for something else by now: another thread may have closed it, and opened what it likes.
fn restore(fd: c_int, shadow: u64, kernel: OwnedFd, trace: Trace) {
    if sys::cookie(fd) != Ok(shadow) {
        return;
    }
    let _ = rustix::net::connect_unspec(&kernel);
    leave_trace(&kernel, &trace);
    let restored = sys::fcntl(fd, libc::F_GETFL, 0).and_then(|flags| {
        let cookie = sys::cookie(kernel.as_raw_fd())?;
        replace::put(fd, kernel, flags, Kind::KernelTcp, cookie)
    });
    if let Err(errno) = restored {
        warning!(
            "descriptor {fd} stays unusable: {}",
            rustix::io::Errno::from_raw_os_error(errno)
        );
    }
}

/// Gives an unconnected socket what a broken-off connection leaves in one: ECONNRESET in SO_ERROR (net/ipv4/tcp.c
/// `tcp_disconnect`), and a port that getsockname() shows. A connect() of TCP Fast Open that waits for data is such an attempt,
/// and sends nothing. Where the system does not allow that, the socket is simply as new.
fn leave_trace(kernel: &OwnedFd, trace: &Trace) {
    const TCP_FASTOPEN_NO_COOKIE: c_int = 34;
    const IP_LOCAL_PORT_RANGE: c_int = 51;
    const FAST_OPEN: [c_int; 2] = [TCP_FASTOPEN_NO_COOKIE, libc::TCP_FASTOPEN_CONNECT];
    let fd = kernel.as_raw_fd();
    let set = |value: c_int| {
        FAST_OPEN
            .iter()
            .try_for_each(|name| sys::setsockopt_bytes(fd, libc::IPPROTO_TCP, *name, &value.to_ne_bytes()))
    };
    // The caller sets the status flags anew.
    if sys::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK).is_ok() && set(1).is_ok() {
        // Linux 6.3 lets a connection choose its port without binding it. To another port of the peer: this one's 4-tuple may
        // be in use still.
        let port = trace.local.map_or(0, |local| u32::from(local.port()));
        let only = |port: u32| {
            let range = (port | port << 16).to_ne_bytes();
            sys::setsockopt_bytes(fd, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range)
        };
        let mut elsewhere = trace.remote;
        elsewhere.set_port(trace.remote.port() ^ 1);
        let _ = only(port);
        if rustix::net::connect(kernel, &elsewhere).is_err() && only(0).is_ok() {
            let _ = rustix::net::connect(kernel, &elsewhere);
        }
        let _ = only(0);
        let _ = rustix::net::connect_unspec(kernel);
    }
    // Also what could not be set at all.
    let _ = set(0);
    if !trace.was_open {
        let _ = sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_ERROR);
    }
}

/// connect() on a shadow.
unsafe fn again(fd: c_int, shadow: &ShadowName, addr: *const c_void, len: usize) -> Verdict {
    let mut family = [0; 2];
    if !(2..=size_of::<libc::sockaddr_storage>()).contains(&len) {
        return Verdict::Done(Err(libc::EINVAL));
    }
    // SAFETY: the caller's promise.
    if let Err(errno) = unsafe { memory::copy_in(addr.cast(), &mut family) } {
        return Verdict::Done(Err(errno));
    }
    let family = c_int::from(u16::from_ne_bytes(family));
    if family == libc::AF_UNSPEC {
        disconnect(fd, shadow);
        return Verdict::Done(Ok(0));
    }
    let cookie = sys::cookie(fd).unwrap_or(0);
    match identify::phase(fd, shadow) {
        Phase::Connecting if sys::fcntl(fd, libc::F_GETFL, 0).is_ok_and(|flags| flags & libc::O_NONBLOCK != 0) => {
            Verdict::Done(Err(libc::EALREADY))
        }
        Phase::Connecting => {
            let pending = Pending {
                engine: shadow.engine,
                cookie,
                kernel: None,
                channel: None,
            };
            match wait(fd, shadow.remote, pending) {
                // SO_SNDTIMEO ended a wait for an attempt that was not this call's.
                Verdict::Done(Err(libc::EINPROGRESS)) => Verdict::Done(Err(libc::EALREADY)),
                verdict => verdict,
            }
        }
        Phase::Established if table::take_awaiting(fd, cookie) => Verdict::Done(Ok(0)),
        Phase::Established | Phase::Gone => Verdict::Done(Err(libc::EISCONN)),
        Phase::Failed { .. } if !table::take_awaiting(fd, cookie) => Verdict::Done(Err(libc::EISCONN)),
        Phase::Failed { .. } => {
            let errno = identify::take_error(fd, shadow).unwrap_or(0);
            disconnect(fd, shadow);
            Verdict::Done(Err(if errno == 0 { libc::ECONNABORTED } else { errno }))
        }
    }
}

/// Ends the connection at once and puts an unconnected kernel socket in its place.
pub fn disconnect(fd: c_int, shadow: &ShadowName) {
    let Ok(cookie) = sys::cookie(fd) else { return };
    let mask = sys::block_signals();
    let was_open = match identify::phase(fd, shadow) {
        Phase::Connecting | Phase::Established => true,
        // What broke keeps its error until somebody asks for it.
        Phase::Failed { .. } => sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_ERROR).is_ok_and(|errno| errno != 0),
        Phase::Gone => false,
    };
    let kernel = engine::abort(shadow.engine, cookie).or_else(|| options::fresh_socket(fd, shadow));
    match kernel {
        Some(kernel) => {
            let (local, remote) = (Some(shadow.local), shadow.remote);
            restore(
                fd,
                cookie,
                kernel,
                Trace {
                    local,
                    remote,
                    was_open,
                },
            );
        }
        None => warning!("descriptor {fd} stays connected: no socket to put in its place"),
    }
    sys::restore_signals(mask);
}

//! The options of `mptcp.h` (`mptcp(7)`), on sockets in every state.
//!
//! On a kernel socket the wishes lie in the socket itself ([`crate::control::multipath::stash`]): nothing of them is in this process's memory.
//! On a shadow the engine keeps them. A socket of another kind is none of ours, and the kernel answers.

use super::sys::{self, Errno};
use super::{config, engine, identify, listen, memory, start, table, Verdict};
use crate::control::multipath::stash::{self, Answerer, Filter, Foreign, Kept, SO_GET_FILTER};
use crate::control::multipath::{is_steering, name, take_address, Socket, Stage, Wishes, LIST_MAX};
use crate::control::shadow::ShadowName;
use crate::control::{heuristic_off, Bypass};
use core::ffi::{c_int, c_void};
use core::net::SocketAddr;
use rustix::fd::IntoRawFd;

/// include/net/tcp_states.h.
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;

/// What a kernel socket carries.
pub fn load(fd: c_int) -> Result<Kept, Foreign> {
    stash::read(|room, len| {
        let args = [
            fd as usize,
            libc::SOL_SOCKET as usize,
            SO_GET_FILTER as usize,
            room as usize,
            &raw mut *len as usize,
            0,
        ];
        // SAFETY: `room` is null with no room, or has as much as `len` says.
        unsafe { sys::call(libc::SYS_getsockopt, args) }.map(drop)
    })
}

/// Has a kernel socket carry wishes, and hear everything, or only what comes by the loopback device where an engine answers for the rest.
pub fn store(fd: c_int, wishes: &Wishes, answered_by: Option<Answerer>) -> Result<(), Errno> {
    let filter = Filter::new(wishes, answered_by);
    let program = filter.program();
    let args = [
        fd as usize,
        libc::SOL_SOCKET as usize,
        libc::SO_ATTACH_FILTER as usize,
        &raw const program as usize,
        size_of::<libc::sock_fprog>(),
        0,
    ];
    // SAFETY: the program points to as many instructions as it says, and `filter` lives until the call has returned.
    unsafe { sys::call(libc::SYS_setsockopt, args) }.map(drop)
}

/// Judges a socket that is about to connect by what its program asked for.
pub fn judge(fd: c_int) -> Result<(), Bypass> {
    let Kept { wishes, .. } = load(fd).map_err(|Foreign| Bypass::TcpFeature)?;
    match wishes.enable {
        Some(false) => Err(Bypass::TurnedOff),
        // RFC 6897 section 4.2.1: who binds a specific address, and knows nothing of MPTCP, is respected.
        None if !wishes.linux && !bound_ignored() && has_bound_address(fd) => Err(Bypass::BoundAddress),
        _ => Ok(()),
    }
}

/// `MPTCP_HEURISTICS` has `-bound`.
fn bound_ignored() -> bool {
    heuristic_off(config::get().setting(b"MPTCP_HEURISTICS").unwrap_or_default(), b"bound")
}

/// Whether the program itself has asked for MPTCP on a socket.
pub fn is_asked_for(fd: c_int) -> bool {
    load(fd).is_ok_and(|Kept { wishes, .. }| wishes.enable == Some(true) || wishes.linux)
}

/// Whether an option of `mptcp.h` was set on a kernel socket, or on the one that it was accepted from.
pub fn is_aware(fd: c_int) -> bool {
    load(fd).is_ok_and(|Kept { wishes, .. }| {
        let none = Wishes {
            linux: wishes.linux,
            ..Wishes::default()
        };
        wishes != none
    })
}

/// Judges a socket that is about to listen.
pub fn judge_listener(fd: c_int) -> Result<(), Bypass> {
    let Kept { wishes, .. } = load(fd).map_err(|Foreign| Bypass::TcpFeature)?;
    let loopback = config::get().loopback;
    let this_host_alone = || !loopback && bound(fd).is_some_and(|address| address.ip().to_canonical().is_loopback());
    match wishes.enable {
        Some(false) => Err(Bypass::TurnedOff),
        // The engine would say so too, but when it is too late for the kernel's MPTCP.
        _ if wishes.linux && this_host_alone() => Err(Bypass::Loopback),
        _ => Ok(()),
    }
}

/// The engine that answers for a listening socket, or did for the one that this socket was accepted from.
pub fn answerer(fd: c_int) -> Option<Answerer> {
    load(fd).ok()?.answered_by
}

/// Makes a socket hear only what comes by the loopback device, because an engine answers for the rest, or everything again.
pub fn set_answerer(fd: c_int, answered_by: Option<Answerer>) -> Result<(), Errno> {
    let Kept { wishes, .. } = load(fd).map_err(|Foreign| libc::EOPNOTSUPP)?;
    if answered_by.is_none() && wishes == Wishes::default() {
        return sys::setsockopt_bytes(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0i32.to_ne_bytes());
    }
    store(fd, &wishes, answered_by)
}

/// Whether a kernel TCP socket is AF_INET6, and unconnected; None for other descriptors.
pub fn is_unconnected(fd: c_int) -> Option<(bool, bool)> {
    let socket = KernelSocket::look(fd)?;
    let before = matches!(socket.stage, Stage::Fresh | Stage::Listening);
    Some((socket.inet6, before))
}

/// The address that a socket has bound.
pub fn bound(fd: c_int) -> Option<SocketAddr> {
    let name = sys::getsockname(fd).ok()?;
    let mut bytes = [0; size_of::<libc::sockaddr_in6>()];
    let len = name.rest().len().min(bytes.len() - 2);
    bytes[..2].copy_from_slice(&(name.family() as u16).to_ne_bytes());
    bytes[2..2 + len].copy_from_slice(&name.rest()[..len]);
    let address = crate::control::multipath::read_sockaddr(&bytes)?;
    (address.port() != 0 || !address.ip().is_unspecified()).then_some(address)
}

fn has_bound_address(fd: c_int) -> bool {
    sys::getsockname(fd).is_ok_and(|name| match name.family() {
        libc::AF_INET => name.rest().get(2..6).is_some_and(|ip| ip != [0; 4]),
        libc::AF_INET6 => name.rest().get(6..22).is_some_and(|ip| ip != [0; 16]),
        _ => false,
    })
}

/// A connect that is left to the kernel: its TCP uses no address that the program has excluded either.
pub fn narrow(fd: c_int, remote: SocketAddr) {
    let Ok(Kept { wishes, .. }) = load(fd) else { return };
    if !wishes.restricted || has_bound_address(fd) {
        return;
    }
    let ipv4 = remote.ip().to_canonical().is_ipv4();
    let Some(first) = wishes.listed.iter().find(|a| a.is_ipv4() == ipv4) else {
        return;
    };
    let _ = sys::setsockopt_bytes(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1i32.to_ne_bytes());
    let shown = match (first, remote) {
        (SocketAddr::V4(a), SocketAddr::V6(_)) => SocketAddr::new(a.ip().to_ipv6_mapped().into(), 0),
        (other, _) => other,
    };
    // A failure is told by the connect that follows, or the address is bound already.
    let _ = sys::bind(fd, shown);
}

/// setsockopt of an option of `mptcp.h`.
///
/// # Safety
/// `value` is what setsockopt() would be given.
pub unsafe fn set(fd: c_int, option: c_int, value: *const c_void, len: usize) -> Verdict {
    if start::sandboxed() {
        return Verdict::Pass;
    }
    // One byte more than the longest list tells that it is too long.
    let mut bytes = [0; LIST_MAX + 1];
    let given = len.min(bytes.len());
    // SAFETY: the caller's promise.
    if let Err(errno) = unsafe { memory::copy_in(value.cast(), &mut bytes[..given]) } {
        return Verdict::Done(Err(errno));
    }
    let value = &bytes[..given];
    if let Some(shadow) = identify::shadow(fd) {
        table::set_aware(fd);
        return Verdict::Done(set_on_shadow(fd, &shadow, option, value).map(|()| 0));
    }
    match KernelSocket::look(fd) {
        Some(socket) => Verdict::Done(socket.set(fd, option, value).map(|()| 0)),
        None => Verdict::Pass,
    }
}

fn set_on_shadow(fd: c_int, shadow: &ShadowName, option: c_int, value: &[u8]) -> Result<(), Errno> {
    let cookie = sys::cookie(fd)?;
    engine::set_wish(shadow.engine, cookie, option, value).unwrap_or(Err(libc::ENOTCONN))
}

/// getsockopt of an option of `mptcp.h`.
///
/// # Safety
/// `value` and `len` are what getsockopt() would be given.
pub unsafe fn get(fd: c_int, option: c_int, value: *mut c_void, len: *mut libc::socklen_t) -> Verdict {
    if start::sandboxed() {
        return Verdict::Pass;
    }
    let shadow = identify::shadow(fd);
    let kernel = match shadow {
        Some(_) => None,
        None => KernelSocket::look(fd),
    };
    // As the kernel does it: a length that cannot be read, or makes no sense, comes before what the socket has to say.
    // SAFETY: the caller's promise.
    if let (true, Err(errno)) = (shadow.is_some() || kernel.is_some(), unsafe { room(len) }) {
        return Verdict::Done(Err(errno));
    }
    let answer = match (&shadow, &kernel) {
        (Some(shadow), _) if option == name::SUBFLOWS => {
            // SAFETY: the caller's promise.
            return Verdict::Done(unsafe { subflows(fd, shadow, value, len) }.map(|()| 0));
        }
        (Some(shadow), _) if matches!(option, name::SUBFLOW | name::EVENTS) => {
            // SAFETY: the caller's promise.
            return Verdict::Done(unsafe { inquire(fd, shadow, option, value.cast(), len) }.map(|()| 0));
        }
        (Some(shadow), _) => ask(fd, shadow, option),
        (None, Some(kernel)) => kernel.get(fd, option),
        (None, None) => return Verdict::Pass,
    };
    // SAFETY: the caller's promise.
    Verdict::Done(
        answer
            .and_then(|answer| unsafe { put(&answer, value, len) })
            .map(|()| 0),
    )
}

fn ask(fd: c_int, shadow: &ShadowName, option: c_int) -> Result<[u8; 4], Errno> {
    let cookie = sys::cookie(fd)?;
    let mut bytes = [0; crate::control::VALUE_MAX];
    let asked = engine::get_option(shadow.engine, cookie, libc::IPPROTO_TCP, option, &mut bytes, 4);
    match asked.unwrap_or(Err(libc::ENOTCONN))? {
        4 => Ok([bytes[0], bytes[1], bytes[2], bytes[3]]),
        _ => Err(libc::ENOTCONN),
    }
}

/// An option whose value says what is asked for (SUBFLOW: level, option and pair, and behind them room for the answer), or whose answer is a
/// descriptor (EVENTS).
unsafe fn inquire(
    fd: c_int,
    shadow: &ShadowName,
    option: c_int,
    value: *mut u8,
    len: *mut libc::socklen_t,
) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    let room = unsafe { room(len) }?;
    if option == name::EVENTS && room < size_of::<c_int>() {
        return Err(libc::EINVAL);
    }
    let mut question = [0; QUESTION_MAX];
    let given = match option {
        name::EVENTS => 0,
        _ => room.min(question.len()),
    };
    // SAFETY: the caller's promise.
    unsafe { memory::copy_in(value, &mut question[..given]) }?;
    let asked = match option {
        name::EVENTS => 0,
        _ => question_len(&question[..given])?,
    };
    let mut answer = [0; crate::control::VALUE_MAX];
    let cookie = sys::cookie(fd)?;
    let said = engine::ask_wish(shadow.engine, cookie, option, &question[..asked], &mut answer);
    let (bytes, at) = match said.unwrap_or(Err(libc::ENOTCONN))? {
        engine::Answer::Value(n) => (&answer[..n.min(room - asked)], asked),
        engine::Answer::Descriptor(events) => {
            let number = events.into_raw_fd();
            answer[..4].copy_from_slice(&number.to_ne_bytes());
            (&answer[..4], 0)
        }
    };
    let told = ((at + bytes.len()) as libc::socklen_t).to_ne_bytes();
    // SAFETY: the caller's promise; within the room.
    unsafe {
        memory::copy_out(bytes, value.wrapping_add(at))?;
        memory::copy_out(&told, len.cast())
    }
}

/// Level, option and a pair of addresses.
const QUESTION_MAX: usize = 8 + 2 * size_of::<libc::sockaddr_in6>();

/// How much of a value is the question.
fn question_len(value: &[u8]) -> Result<usize, Errno> {
    let pair = value.get(8..).ok_or(libc::EINVAL)?;
    let (_, rest) = take_address(pair)?;
    let (_, rest) = take_address(rest)?;
    Ok(value.len() - rest.len())
}

/// Writes a value, cut to the room there is, and its length.
pub(super) unsafe fn put(answer: &[u8], value: *mut c_void, len: *mut libc::socklen_t) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe {
        let n = room(len)?.min(answer.len());
        memory::copy_out(&answer[..n], value.cast())?;
        memory::copy_out(&(n as libc::socklen_t).to_ne_bytes(), len.cast())
    }
}

/// What the program says that its buffer has room for.
pub(super) unsafe fn room(len: *const libc::socklen_t) -> Result<usize, Errno> {
    let mut room = [0; 4];
    // SAFETY: the caller's promise.
    unsafe { memory::copy_in(len.cast(), &mut room) }?;
    usize::try_from(i32::from_ne_bytes(room)).map_err(|_| libc::EINVAL)
}

/// TCP_MULTIPATH_SUBFLOWS: a packed list of pairs; as many whole pairs as fit are written, and the length told is that of all.
unsafe fn subflows(fd: c_int, shadow: &ShadowName, value: *mut c_void, len: *mut libc::socklen_t) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    let room = unsafe { room(len) }?;
    let picture = engine::picture(shadow.engine, sys::cookie(fd)?)?;
    if !picture.established {
        return Err(libc::ENOTCONN);
    }
    if !picture.multipath {
        return Err(libc::EOPNOTSUPP);
    }
    let (mut at, mut full) = (0, false);
    for subflow in picture.subflows().filter(|subflow| subflow.established) {
        let (local, local_len) = crate::control::multipath::sockaddr(subflow.local);
        let (remote, remote_len) = crate::control::multipath::sockaddr(subflow.remote);
        let end = at + local_len + remote_len;
        full |= end > room;
        if !full {
            let value = value.cast::<u8>();
            // SAFETY: the caller's promise: `end` is within the room.
            unsafe {
                memory::copy_out(&local[..local_len], value.wrapping_add(at))?;
                memory::copy_out(&remote[..remote_len], value.wrapping_add(at + local_len))?;
            }
        }
        at = end;
    }
    // SAFETY: the caller's promise.
    unsafe { memory::copy_out(&(at as libc::socklen_t).to_ne_bytes(), len.cast()) }
}

/// A TCP socket of the kernel.
struct KernelSocket {
    inet6: bool,
    stage: Stage,
}

impl KernelSocket {
    /// None when the descriptor is something else.
    fn look(fd: c_int) -> Option<KernelSocket> {
        if sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL) != Ok(libc::IPPROTO_TCP) {
            return None;
        }
        let inet6 = match sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_DOMAIN) {
            Ok(libc::AF_INET) => false,
            Ok(libc::AF_INET6) => true,
            _ => return None,
        };
        let mut state = [0u8; 1];
        let known = sys::getsockopt_bytes(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut state);
        let stage = match (known, state[0]) {
            (Ok(1), TCP_CLOSE) => Stage::Fresh,
            (Ok(1), TCP_LISTEN) => Stage::Listening,
            _ => Stage::Plain,
        };
        Some(KernelSocket { inet6, stage })
    }

    fn set(&self, fd: c_int, option: c_int, value: &[u8]) -> Result<(), Errno> {
        let Kept {
            mut wishes,
            answered_by,
        } = load(fd).map_err(|Foreign| libc::EOPNOTSUPP)?;
        let mut socket = Socket {
            inet6: self.inet6,
            stage: self.stage,
            is_local: &mut is_local,
        };
        wishes.set(option, value, &mut socket)?;
        store(fd, &wishes, answered_by)?;
        listen::option_changed(fd, libc::IPPROTO_TCP, option);
        table::set_aware(fd);
        Ok(())
    }

    fn get(&self, fd: c_int, option: c_int) -> Result<[u8; 4], Errno> {
        let before = matches!(self.stage, Stage::Fresh | Stage::Listening);
        match option {
            name::OPEN | name::CLOSE | name::BACKUP => return Err(libc::ENOPROTOOPT),
            name::SUBFLOWS | name::CONNID if before => return Err(libc::ENOTCONN),
            name::SUBFLOWS | name::CONNID => return Err(libc::EOPNOTSUPP),
            _ if is_steering(option) && before => return Err(libc::ENOTCONN),
            _ if is_steering(option) => return Err(libc::EOPNOTSUPP),
            // The kernel's TCP has the connection.
            name::ENABLE if !before => return Ok([0; 4]),
            _ => {}
        }
        let wishes = load(fd).unwrap_or_default().wishes;
        wishes.get(option).map(i32::to_ne_bytes).ok_or(libc::ENOPROTOOPT)
    }
}

/// Whether an address is one of this host's: bind() is the judge.
fn is_local(address: SocketAddr) -> bool {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let Ok(socket) = sys::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) else {
        return false;
    };
    let bound = sys::bind(socket, address);
    sys::close(socket);
    bound.is_ok()
}

/// Whether getpeername() and getsockname() fail: the program knows MPTCP, and asked for it by an option or by `MPTCP_AWARE_NAMES=fail`.
pub fn names_fail(fd: c_int, shadow: &ShadowName) -> bool {
    if start::sandboxed() || !table::is_aware(fd) {
        return false;
    }
    ask(fd, shadow, name::NAMES).map(i32::from_ne_bytes) == Ok(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    const OPTION: c_int = name::ENABLE;

    fn set_int(fd: c_int, option: c_int, value: i32) -> Verdict {
        // SAFETY: an int of its size.
        unsafe { set(fd, option, (&raw const value).cast(), 4) }
    }

    fn get_int(fd: c_int, option: c_int) -> Result<i32, Errno> {
        let (mut value, mut len) = (-1i32, 4);
        // SAFETY: an int of its size.
        match unsafe { get(fd, option, (&raw mut value).cast(), &mut len) } {
            Verdict::Done(Ok(_)) => {
                assert_eq!(len, 4);
                Ok(value)
            }
            Verdict::Done(Err(errno)) => Err(errno),
            Verdict::Pass => panic!("passed on"),
        }
    }

    #[test]
    fn a_kernel_socket_keeps_what_was_set_also_under_another_number() {
        let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0).expect("a socket");
        assert_eq!(get_int(fd, OPTION), Ok(1), "the default");
        assert_eq!(judge(fd), Ok(()));
        assert_eq!(set_int(fd, OPTION, 0), Verdict::Done(Ok(0)));
        let copy = sys::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0).expect("a copy");
        assert_eq!(get_int(copy, OPTION), Ok(0));
        assert_eq!(judge(copy), Err(Bypass::TurnedOff));
        for option in [name::SUBFLOWS, name::CONNID] {
            assert_eq!(get_int(fd, option), Err(libc::ENOTCONN));
        }
        for option in [name::BIND, name::ADD, name::REMOVE] {
            assert_eq!(get_int(fd, option), Err(libc::ENOPROTOOPT));
        }
        sys::close(fd);
        sys::close(copy);
    }

    #[test]
    fn a_connection_of_the_kernels_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        let stream = std::net::TcpStream::connect(address).expect("a connection");
        let fd = stream.as_raw_fd();
        assert_eq!(get_int(fd, OPTION), Ok(0));
        assert_eq!(set_int(fd, OPTION, 1), Verdict::Done(Err(libc::EISCONN)));
        assert_eq!(get_int(fd, name::CONNID), Err(libc::EOPNOTSUPP));
        assert_eq!(set_int(listener.as_raw_fd(), OPTION, 1), Verdict::Done(Ok(0)));
    }

    #[test]
    fn a_specific_address_is_respected_unless_multipath_is_asked_for() {
        let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0).expect("a socket");
        sys::bind(fd, "0.0.0.0:0".parse().expect("an address")).expect("it binds");
        assert_eq!(judge(fd), Ok(()), "no specific address");
        sys::close(fd);
        let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0).expect("a socket");
        sys::bind(fd, "127.0.0.1:0".parse().expect("an address")).expect("it binds");
        assert_eq!(judge(fd), Err(Bypass::BoundAddress));
        assert_eq!(set_int(fd, OPTION, 1), Verdict::Done(Ok(0)));
        assert_eq!(judge(fd), Ok(()));
        sys::close(fd);
    }

    #[test]
    fn what_is_no_tcp_socket_is_the_kernels() {
        let fd = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).expect("a socket");
        assert_eq!(set_int(fd, OPTION, 1), Verdict::Pass);
        sys::close(fd);
        assert_eq!(set_int(-1, OPTION, 1), Verdict::Pass);
    }

    #[test]
    fn a_narrowed_socket_is_narrow_for_the_kernel_too() {
        let fd = sys::socket(libc::AF_INET6, libc::SOCK_STREAM, 0).expect("a socket");
        let mut list = [0u8; 16];
        list[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        list[4..8].copy_from_slice(&[127, 0, 0, 7]);
        // SAFETY: a list of its size.
        let bound = unsafe { set(fd, name::BIND, list.as_ptr().cast(), list.len()) };
        assert_eq!(bound, Verdict::Done(Ok(0)));
        narrow(fd, "[::ffff:192.0.2.1]:80".parse().expect("an address"));
        let shown = sys::getsockname(fd).expect("a name");
        assert_eq!(shown.rest()[16..22], [0xff, 0xff, 127, 0, 0, 7]);
        sys::close(fd);
    }
}

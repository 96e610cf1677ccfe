//! Linux's own MPTCP API, on any kernel: socket(…, IPPROTO_MPTCP), and getsockopt at level SOL_MPTCP.
//!
//! A program that asks for IPPROTO_MPTCP gets a TCP socket that remembers it ([`Wishes::linux`]): options work that the kernel's MPTCP refuses, and
//! a kernel without MPTCP does. Where a connection, or a listener, is left to the kernel after all, a kernel MPTCP socket with the same
//! options takes its place, if the kernel has that ([`give_back`]).
//!
//! Sizes are negotiated as in net/mptcp/sockopt.c.
//!
//! [`Wishes::linux`]: crate::control::multipath::Wishes

use super::multipath::{self, room};
use super::sys::{self, Errno};
use super::table::Kind;
use super::{engine, identify, memory, replace, start, Verdict};
use crate::control::multipath::stash::Kept;
use crate::control::multipath::{Wishes, IPPROTO_MPTCP};
use crate::control::options::KEPT;
use crate::control::picture::{Picture, SubflowPicture, MPTCP_INFO_LEN, TCP_INFO_LEN};
use core::ffi::{c_int, c_void};
use core::net::SocketAddr;
use rustix::fd::{FromRawFd, OwnedFd};

/// TCP_IS_MPTCP of linux/tcp.h.
const TCP_IS_MPTCP: c_int = 43;
/// MPTCP_* of linux/mptcp.h.
const MPTCP_INFO: c_int = 1;
const MPTCP_TCPINFO: c_int = 2;
const MPTCP_SUBFLOW_ADDRS: c_int = 3;
const MPTCP_FULL_INFO: c_int = 4;
/// The low bits of a socket's type, without SOCK_NONBLOCK and SOCK_CLOEXEC.
const TYPE_MASK: c_int = 0xf;

/// The protocol to make a socket with.
pub fn protocol(family: c_int, kind: c_int, protocol: c_int) -> c_int {
    let ours = protocol == IPPROTO_MPTCP
        && matches!(family, libc::AF_INET | libc::AF_INET6)
        && kind & TYPE_MASK == libc::SOCK_STREAM
        && start::active()
        && !start::sandboxed();
    if ours {
        libc::IPPROTO_TCP
    } else {
        protocol
    }
}

/// A TCP socket was made (or not: -1) for a program that asked for `asked`.
pub fn made(fd: c_int, asked: c_int, given: c_int) {
    if fd < 0 || asked == given {
        return;
    }
    let wishes = Wishes {
        linux: true,
        ..Wishes::default()
    };
    // Without memory for it, it is a TCP socket.
    let _ = multipath::store(fd, &wishes, None);
}

/// The socket is left to the kernel: where its program asked for IPPROTO_MPTCP, to the kernel's MPTCP, if there is one.
pub fn give_back(fd: c_int) {
    let Ok(Kept { wishes, .. }) = multipath::load(fd) else {
        return;
    };
    let domain = sys::getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_DOMAIN);
    let (true, Ok(domain)) = (wishes.linux && wishes.enable != Some(false), domain) else {
        return;
    };
    let Ok(new) = sys::socket(domain, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, IPPROTO_MPTCP) else {
        return;
    };
    // SAFETY: a new descriptor that is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(new) };
    for option in KEPT {
        let mut value = [0; crate::control::options::KEPT_LEN_MAX];
        let value = &mut value[..option.len];
        // What the kernel's MPTCP does not have stays as it is; buffers are the kernel's to tune.
        if !option.doubled && sys::getsockopt_bytes(fd, option.level, option.name, value) == Ok(option.len) {
            let _ = sys::setsockopt_bytes(new, option.level, option.name, value);
        }
    }
    let bound = multipath::bound(fd);
    let placed = sys::fcntl(fd, libc::F_GETFL, 0)
        .and_then(|flags| replace::put(fd, socket, flags, Kind::KernelTcp, sys::cookie(new).unwrap_or(0)));
    if let (Ok(()), Some(address)) = (placed, bound) {
        // Its port was free until a moment ago.
        let _ = sys::bind(fd, address);
    }
}

/// What a getsockopt is about.
enum Subject {
    /// A connection that the engine has.
    Connection(Box<Picture>, bool),
    /// A kernel socket, of a program that asked for IPPROTO_MPTCP, which is not connected.
    Fresh,
    /// The same, connected: plain TCP.
    Plain { inet6: bool },
}

/// Whether a getsockopt may be answered here.
pub fn is_ours(level: c_int, name: c_int) -> bool {
    level == crate::control::multipath::SOL_MPTCP
        || (level == libc::IPPROTO_TCP && name == TCP_IS_MPTCP)
        || (level == libc::SOL_SOCKET && name == libc::SO_PROTOCOL)
}

fn subject(fd: c_int) -> Result<Option<Subject>, Errno> {
    if let Some(shadow) = identify::shadow(fd) {
        let picture = engine::picture(shadow.engine, sys::cookie(fd)?)?;
        return Ok(Some(Subject::Connection(Box::new(picture), shadow.local.is_ipv6())));
    }
    let Ok(Kept { wishes, .. }) = multipath::load(fd) else {
        return Ok(None);
    };
    if !wishes.linux {
        return Ok(None);
    }
    Ok(
        multipath::is_unconnected(fd).map(|(inet6, unconnected)| match unconnected {
            true => Subject::Fresh,
            false => Subject::Plain { inet6 },
        }),
    )
}

/// getsockopt of what [`is_ours`].
///
/// # Safety
/// `value` and `len` are what getsockopt() would be given.
pub unsafe fn get(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut libc::socklen_t) -> Verdict {
    if start::sandboxed() {
        return Verdict::Pass;
    }
    let subject = match subject(fd) {
        Ok(Some(subject)) => subject,
        Ok(None) => return Verdict::Pass,
        // The connection is over: what the socket is, its name still says, and what the connection was, the engine.
        Err(_) if level != crate::control::multipath::SOL_MPTCP => return Verdict::Pass,
        Err(errno) => return Verdict::Done(Err(errno)),
    };
    let int = |answer: c_int| {
        let answer = answer.to_ne_bytes();
        // SAFETY: the caller's promise.
        Verdict::Done(unsafe { multipath::put(&answer, value, len) }.map(|()| 0))
    };
    match (level, &subject) {
        (libc::SOL_SOCKET, Subject::Connection(picture, _)) if !picture.linux => int(libc::IPPROTO_TCP),
        (libc::SOL_SOCKET, _) => int(IPPROTO_MPTCP),
        (libc::IPPROTO_TCP, Subject::Connection(picture, _)) => int(c_int::from(picture.multipath)),
        (libc::IPPROTO_TCP, Subject::Fresh) => int(1),
        (libc::IPPROTO_TCP, Subject::Plain { .. }) => int(0),
        (_, Subject::Fresh) => {
            let nothing = Picture::new(true, false, [0; MPTCP_INFO_LEN], core::iter::empty());
            // SAFETY: the caller's promise.
            Verdict::Done(unsafe { tell(&nothing, name, value, len) }.map(|()| 0))
        }
        (_, Subject::Connection(picture, _)) if picture.multipath => {
            // SAFETY: the caller's promise.
            Verdict::Done(unsafe { tell(picture, name, value, len) }.map(|()| 0))
        }
        // As the kernel's TCP says of a level that it does not know.
        (_, Subject::Connection(_, true) | Subject::Plain { inet6: true }) => Verdict::Done(Err(libc::ENOPROTOOPT)),
        (_, Subject::Connection(_, false) | Subject::Plain { inet6: false }) => Verdict::Done(Err(libc::EOPNOTSUPP)),
    }
}

/// getsockopt at level SOL_MPTCP of a connection that speaks MPTCP.
///
/// # Safety
/// `value` and `len` are what getsockopt() would be given.
pub unsafe fn tell(picture: &Picture, name: c_int, value: *mut c_void, len: *mut libc::socklen_t) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe {
        match name {
            // A length of 0 only asks whether this is MPTCP.
            MPTCP_INFO if room(len)? == 0 => Ok(()),
            MPTCP_INFO => multipath::put(&picture.mptcp_info, value, len),
            MPTCP_TCPINFO => array(picture, TCP_INFO_LEN, value, len, |subflow, out| {
                out[..TCP_INFO_LEN].copy_from_slice(&subflow.tcp_info);
            }),
            MPTCP_SUBFLOW_ADDRS => array(picture, ADDRS_LEN, value, len, addrs),
            MPTCP_FULL_INFO => full_info(picture, value.cast(), len),
            _ => Err(libc::EOPNOTSUPP),
        }
    }
}

/// Bytes of `struct mptcp_subflow_data`.
const DATA_LEN: usize = 16;
/// Of `struct mptcp_subflow_addrs`.
const ADDRS_LEN: usize = 2 * size_of::<libc::sockaddr_storage>();
/// The longer of the structs that arrays are made of.
const ELEMENT_LEN_MAX: usize = if TCP_INFO_LEN > ADDRS_LEN {
    TCP_INFO_LEN
} else {
    ADDRS_LEN
};
/// Of `struct mptcp_subflow_info`: the id, a gap, the addresses.
const INFO_LEN: usize = 8 + ADDRS_LEN;
/// Of `struct mptcp_full_info` up to `mptcp_info`.
const FULL_LEN: usize = 40;

fn addrs(subflow: &SubflowPicture, out: &mut [u8]) {
    out.fill(0);
    for (address, half) in [subflow.local, subflow.remote]
        .into_iter()
        .zip(out.chunks_exact_mut(ADDRS_LEN / 2))
    {
        let (bytes, len) = crate::control::multipath::sockaddr(on_the_wire(address));
        half[..len].copy_from_slice(&bytes[..len]);
    }
}

/// The kernel shows a subflow's own family, also on an AF_INET6 socket.
fn on_the_wire(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        core::net::IpAddr::V4(v4) => SocketAddr::new(v4.into(), address.port()),
        core::net::IpAddr::V6(_) => address,
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// `mptcp_getsockopt_tcpinfo` and `mptcp_getsockopt_subflow_addrs`: a header, and an element for each subflow as far as they fit.
unsafe fn array(
    picture: &Picture,
    size_kernel: usize,
    value: *mut c_void,
    len: *mut libc::socklen_t,
    fill: impl Fn(&SubflowPicture, &mut [u8]),
) -> Result<(), Errno> {
    let value = value.cast::<u8>();
    let mut header = [0; DATA_LEN];
    // SAFETY: the caller's promise.
    let given = unsafe { room(len) }?;
    if given < DATA_LEN {
        return Err(libc::EINVAL);
    }
    // SAFETY: the caller's promise.
    unsafe { memory::copy_in(value, &mut header) }?;
    let size_data = word(&header, 0) as usize;
    let (zeros, size_user) = (word(&header, 4) | word(&header, 8), word(&header, 12));
    if i32::try_from(size_user).is_err() || !(DATA_LEN..=given).contains(&size_data) || zeros != 0 {
        return Err(libc::EINVAL);
    }
    let size_user = (size_user as usize).min(size_kernel);
    let (mut left, mut copied, mut count) = (given - size_data, 0, 0u32);
    for subflow in picture.subflows() {
        count += 1;
        if left > 0 && left >= size_user {
            let mut element = [0; ELEMENT_LEN_MAX];
            fill(subflow, &mut element);
            // SAFETY: the caller's promise; it is within the room.
            unsafe { memory::copy_out(&element[..size_user], value.wrapping_add(size_data + copied)) }?;
            copied += size_user;
            left -= size_user;
        }
    }
    for (at, word) in [(4, count), (8, size_kernel as u32), (12, size_user as u32)] {
        header[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    let told = if copied > 0 { size_data + copied } else { DATA_LEN };
    // SAFETY: the caller's promise.
    unsafe {
        memory::copy_out(&(told as libc::socklen_t).to_ne_bytes(), len.cast())?;
        memory::copy_out(&header, value)
    }
}

/// `mptcp_getsockopt_full_info`.
unsafe fn full_info(picture: &Picture, value: *mut u8, len: *mut libc::socklen_t) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    let given = unsafe { room(len) }?;
    if given < FULL_LEN {
        return Err(libc::EINVAL);
    }
    let mut head = [0; FULL_LEN];
    // SAFETY: the caller's promise.
    unsafe { memory::copy_in(value, &mut head) }?;
    let tcp_size = word(&head, 4);
    let info_size = word(&head, 12);
    let too_large = |size: u32| i32::try_from(size).is_err();
    if word(&head, 0) | word(&head, 8) | word(&head, 16) != 0 || too_large(tcp_size) || too_large(info_size) {
        return Err(libc::EINVAL);
    }
    let arrays = word(&head, 20);
    let tcp_size = (tcp_size as usize).min(TCP_INFO_LEN);
    let info_size = (info_size as usize).min(INFO_LEN);
    let pointer = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&head[at..at + 8]);
        core::ptr::with_exposed_provenance_mut::<u8>(u64::from_ne_bytes(bytes) as usize)
    };
    let (infos, tcp_infos) = (pointer(24), pointer(32));
    let mut count = 0;
    for subflow in picture.subflows() {
        if count < arrays {
            let mut info = [0; INFO_LEN];
            info[..4].copy_from_slice(&subflow.id.to_ne_bytes());
            addrs(subflow, &mut info[8..]);
            let at = count as usize;
            // SAFETY: the program's own pointers, writable for as many elements as it says, or refused.
            unsafe {
                memory::copy_out(&subflow.tcp_info[..tcp_size], tcp_infos.wrapping_add(at * tcp_size))?;
                memory::copy_out(&info[..info_size], infos.wrapping_add(at * info_size))?;
            }
        }
        count += 1;
    }
    for (at, word) in [
        (0, TCP_INFO_LEN as u32),
        (4, tcp_size as u32),
        (8, INFO_LEN as u32),
        (12, info_size as u32),
        (16, count),
    ] {
        head[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    let rest = (given - FULL_LEN).min(MPTCP_INFO_LEN);
    // SAFETY: the caller's promise.
    unsafe {
        memory::copy_out(&((FULL_LEN + rest) as libc::socklen_t).to_ne_bytes(), len.cast())?;
        memory::copy_out(&head, value)?;
        memory::copy_out(&picture.mptcp_info[..rest], value.wrapping_add(FULL_LEN))
    }
}

//! The socket options of one connection: read from the program's kernel socket when it connects, then kept here.
//!
//! The kernel stays the judge of values: a later setsockopt is made on a fresh socket by the program first, and what that
//! socket then says is the new value. So errors, rounding and privileges are the kernel's, and the program's own.

use super::connect::bound_attempt;
use crate::control::multipath::CONGESTIONS;
use crate::control::options::{SocketOption, KEPT, KEPT_LEN_MAX, NEVER_SET};
use crate::mptcp::endpoint::{ConnOptions, Keepalive};
use rustix::io::Errno;
use rustix::net::{socket_with, AddressFamily, SocketFlags, SocketType};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// SO_BUF_LOCK (Linux 5.14): which buffer sizes the program set itself.
const SO_BUF_LOCK: i32 = 72;
const SNDBUF_LOCK: i32 = 1;
const RCVBUF_LOCK: i32 = 2;
/// Beside them: TCP_CONGESTION is not the system's.
const CONGESTION_CHOSEN: i32 = 1 << 8;

/// What TCP_MAXSEG says of an unconnected socket on which it was not set.
const MSS_UNSET: i32 = 536;

type Value = [u8; KEPT_LEN_MAX];

/// The values of [`KEPT`] for one connection.
#[derive(Clone)]
pub struct SocketOptions {
    inet6: bool,
    values: Vec<(&'static SocketOption, Value)>,
    /// Bits of SO_BUF_LOCK.
    buffer_lock: i32,
    /// SO_COOKIE of the program's kernel socket, by which the program may know its socket.
    cookie: [u8; 8],
}

impl SocketOptions {
    /// Reads them from the program's socket.
    pub fn read(socket: BorrowedFd<'_>, inet6: bool) -> Result<SocketOptions, Errno> {
        let mut values = Vec::with_capacity(KEPT.len());
        for option in KEPT.iter().filter(|option| inet6 || !option.inet6) {
            let mut value = Value::default();
            match get(socket, option.level, option.name, &mut value[..option.len]) {
                Ok(_) => values.push((option, value)),
                // An older kernel has fewer.
                Err(Errno::NOPROTOOPT | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        let mut lock = [0; 4];
        let buffer_lock = match get(socket, libc::SOL_SOCKET, SO_BUF_LOCK, &mut lock) {
            Ok(_) => i32::from_ne_bytes(lock),
            Err(_) => 0,
        };
        let mut cookie = [0; 8];
        get(socket, libc::SOL_SOCKET, libc::SO_COOKIE, &mut cookie)?;
        let mut options = SocketOptions {
            inet6,
            values,
            buffer_lock,
            cookie,
        };
        let mut default = Value::default();
        let fresh = options.new_socket()?;
        get(fresh.as_fd(), libc::IPPROTO_TCP, libc::TCP_CONGESTION, &mut default)?;
        if options.get(libc::IPPROTO_TCP, libc::TCP_CONGESTION) != Some(&default[..]) {
            options.buffer_lock |= CONGESTION_CHOSEN;
        }
        Ok(options)
    }

    /// The congestion control that the program chose by TCP_CONGESTION, if it did.
    pub fn congestion(&self) -> Option<&str> {
        let chosen = self.buffer_lock & CONGESTION_CHOSEN != 0;
        let value = self.get(libc::IPPROTO_TCP, libc::TCP_CONGESTION).filter(|_| chosen)?;
        let name = value.split(|&b| b == 0).next()?;
        std::str::from_utf8(name).ok()
    }

    /// As bytes, for another process of the same version.
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.inet6)];
        bytes.extend(self.buffer_lock.to_ne_bytes());
        bytes.extend(self.cookie);
        for (option, value) in &self.values {
            let index = KEPT.iter().position(|kept| kept == *option).unwrap_or(KEPT.len());
            bytes.push(index as u8);
            bytes.extend(value);
        }
        bytes
    }

    /// Of [`SocketOptions::pack`]; None when they are not.
    pub fn unpack(bytes: &[u8]) -> Option<SocketOptions> {
        let (&inet6, bytes) = bytes.split_first()?;
        let (lock, bytes) = bytes.split_first_chunk()?;
        let (cookie, bytes) = bytes.split_first_chunk()?;
        let entry = |entry: &[u8]| {
            let (&index, value) = entry.split_first()?;
            Some((KEPT.get(usize::from(index))?, *value.first_chunk()?))
        };
        Some(SocketOptions {
            inet6: inet6 != 0,
            buffer_lock: i32::from_ne_bytes(*lock),
            cookie: *cookie,
            values: bytes.chunks(1 + KEPT_LEN_MAX).map(entry).collect::<Option<_>>()?,
        })
    }

    fn new_socket(&self) -> Result<OwnedFd, Errno> {
        let family = if self.inet6 {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        };
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
    }

    /// getsockopt(2) of an option that is not kept, into `value`; the length.
    ///
    /// # Errors
    /// ENOPROTOOPT unless it is known that nobody can have set it.
    pub fn get_unset(&self, level: i32, name: i32, value: &mut [u8]) -> Result<usize, Errno> {
        match NEVER_SET.contains(&(level, name)) {
            true => get(self.new_socket()?.as_fd(), level, name, value),
            false => Err(Errno::NOPROTOOPT),
        }
    }

    /// The value of an option; None when it is not one that is kept.
    pub fn get(&self, level: i32, name: i32) -> Option<&[u8]> {
        if (level, name) == (libc::SOL_SOCKET, libc::SO_COOKIE) {
            return Some(&self.cookie);
        }
        let (option, value) = self
            .values
            .iter()
            .find(|(option, _)| (option.level, option.name) == (level, name))?;
        Some(&value[..option.len])
    }

    /// Changes one to what it is on `judge`, a TCP socket on which the program has just set it.
    ///
    /// # Errors
    /// ENOPROTOOPT when the option is not one that is kept; what the kernel says when it is asked.
    pub fn set_as(&mut self, judge: BorrowedFd<'_>, level: i32, name: i32) -> Result<(), Errno> {
        let unset_clamp = || {
            let mut clamp = [0; 4];
            get(judge, level, name, &mut clamp).is_ok() && clamp == [0; 4]
        };
        if (level, name) == (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP) && unset_clamp() {
            // Only on a closed socket, as the judge is.
            return Err(Errno::INVAL);
        }
        if (level, name) == (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) {
            // Only before bind(): the judge is not bound.
            return Err(Errno::INVAL);
        }
        let entry = self
            .values
            .iter_mut()
            .find(|(option, _)| (option.level, option.name) == (level, name));
        let (option, value) = entry.ok_or(Errno::NOPROTOOPT)?;
        let mut said = Value::default();
        get(judge, level, name, &mut said[..option.len])?;
        if (level, name) == (libc::IPPROTO_TCP, libc::TCP_CONGESTION) {
            // One that only the kernel has is to this connection as one that the kernel does not have.
            let known = |known: &&str| said.starts_with(known.as_bytes()) && said.get(known.len()) == Some(&0);
            if !CONGESTIONS.iter().any(known) {
                return Err(Errno::NOENT);
            }
            self.buffer_lock |= CONGESTION_CHOSEN;
        }
        *value = said;
        match (level, name) {
            (libc::SOL_SOCKET, libc::SO_SNDBUF) => self.buffer_lock |= SNDBUF_LOCK,
            (libc::SOL_SOCKET, libc::SO_RCVBUF) => self.buffer_lock |= RCVBUF_LOCK,
            // The kernel derives the priority from the type of service.
            (libc::IPPROTO_IP, libc::IP_TOS) => self.copy(judge, libc::SOL_SOCKET, libc::SO_PRIORITY)?,
            _ => {}
        }
        Ok(())
    }

    /// Sets one on another socket.
    ///
    /// # Errors
    /// What the kernel says; ENOPROTOOPT when the option is not one that is kept.
    pub fn apply(&self, to: BorrowedFd<'_>, level: i32, name: i32) -> Result<(), Errno> {
        let kept = |(option, _): &&(&SocketOption, Value)| (option.level, option.name) == (level, name);
        let (option, value) = self.values.iter().find(kept).ok_or(Errno::NOPROTOOPT)?;
        set(to, level, name, &settable(option, *value)[..option.len])
    }

    /// Takes over one value from another socket.
    fn copy(&mut self, from: BorrowedFd<'_>, level: i32, name: i32) -> Result<(), Errno> {
        for (option, value) in &mut self.values {
            if (option.level, option.name) == (level, name) {
                get(from, level, name, &mut value[..option.len])?;
            }
        }
        Ok(())
    }

    /// Takes over from the listener what an accepted carrier has of its own: segment size, and the sizes of buffers that the program
    /// leaves to the kernel.
    pub fn keep_transport(&mut self, listener: &SocketOptions) {
        let lock = self.buffer_lock;
        for (option, value) in &mut self.values {
            let set = option.doubled && lock & lock_of(option) != 0;
            let kept = (option.level, option.name) == (libc::IPPROTO_TCP, libc::TCP_MAXSEG) || (option.doubled && !set);
            let theirs = listener.values.iter().find(|(other, _)| *other == *option);
            if let (true, Some((_, theirs))) = (kept, theirs) {
                *value = *theirs;
            }
        }
    }

    /// close() resets the connection: SO_LINGER is on, with time zero.
    pub fn linger_zero(&self) -> bool {
        self.get(libc::SOL_SOCKET, libc::SO_LINGER)
            .is_some_and(|value| value[..4] != [0; 4] && value[4..8] == [0; 4])
    }

    /// TCP_DEFER_ACCEPT.
    pub fn defers_accept(&self) -> bool {
        self.int(libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT).unwrap_or(0) != 0
    }

    /// SO_REUSEADDR.
    pub fn reuses_address(&self) -> bool {
        self.int(libc::SOL_SOCKET, libc::SO_REUSEADDR).unwrap_or(0) != 0
    }

    /// SO_MARK.
    pub fn mark(&self) -> u32 {
        self.int(libc::SOL_SOCKET, libc::SO_MARK).unwrap_or(0) as u32
    }

    /// A fresh, unconnected TCP socket with these options. What it does not take (a congestion control that needs a
    /// privilege) stays at its default.
    pub fn fresh_socket(&self) -> Result<OwnedFd, Errno> {
        let socket = self.new_socket()?;
        for (option, value) in &self.values {
            if option.doubled && self.buffer_lock & lock_of(option) == 0 {
                // Setting it would end the kernel's own tuning.
                continue;
            }
            let unset_mss = (option.level, option.name) == (libc::IPPROTO_TCP, libc::TCP_MAXSEG)
                && value[..4] == MSS_UNSET.to_ne_bytes();
            if !unset_mss {
                let value = settable(option, *value);
                let _ = set(socket.as_fd(), option.level, option.name, &value[..option.len]);
            }
        }
        Ok(socket)
    }

    /// What they mean to the core. `ipv6` is the family on the wire (an AF_INET6 socket may speak IPv4).
    pub fn for_core(&self, ipv6: bool) -> ConnOptions {
        let defaults = ConnOptions::default();
        let int = |level, name| self.int(level, name);
        let tcp = |name| int(libc::IPPROTO_TCP, name).unwrap_or(0);
        let socket = |name| int(libc::SOL_SOCKET, name).unwrap_or(0);
        let seconds = |name| Duration::from_secs(tcp(name).max(1) as u64);
        let (tos, ttl) = if ipv6 {
            (
                int(libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
                int(libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
            )
        } else {
            (int(libc::IPPROTO_IP, libc::IP_TOS), int(libc::IPPROTO_IP, libc::IP_TTL))
        };
        let locked = |bit, name, default| {
            let set = usize::try_from(socket(name)).unwrap_or(0);
            if self.buffer_lock & bit != 0 {
                set.clamp(BUFFER_MIN, BUFFER_MAX)
            } else {
                default
            }
        };
        let window_max = match tcp(libc::TCP_WINDOW_CLAMP) {
            ..=0 => BUFFER_MAX,
            n => n as usize,
        };
        let tuned = self.buffer_lock & RCVBUF_LOCK == 0;
        ConnOptions {
            nodelay: tcp(libc::TCP_NODELAY) != 0,
            cork: tcp(libc::TCP_CORK) != 0,
            keepalive: (socket(libc::SO_KEEPALIVE) != 0).then(|| Keepalive {
                idle: seconds(libc::TCP_KEEPIDLE),
                interval: seconds(libc::TCP_KEEPINTVL),
                count: tcp(libc::TCP_KEEPCNT).clamp(1, 127) as u8,
            }),
            user_timeout: match tcp(libc::TCP_USER_TIMEOUT) {
                ..=0 => None,
                ms => Some(Duration::from_millis(ms as u64)),
            },
            syn_retries: match tcp(libc::TCP_SYNCNT) {
                ..=0 => defaults.syn_retries,
                n => n.min(255) as u8,
            },
            mss_limit: match tcp(libc::TCP_MAXSEG) {
                ..=0 | MSS_UNSET => 0,
                n => n.min(65_535) as u16,
            },
            send_buffer: locked(SNDBUF_LOCK, libc::SO_SNDBUF, defaults.send_buffer),
            recv_buffer: locked(RCVBUF_LOCK, libc::SO_RCVBUF, defaults.recv_buffer).min(window_max),
            recv_buffer_first: if tuned { defaults.recv_buffer_first } else { BUFFER_MAX },
            tos: tos.unwrap_or(0).clamp(0, 255) as u8,
            ttl: ttl.unwrap_or(0).clamp(0, 255) as u8,
            mark: self.mark(),
            ..defaults
        }
    }

    /// Brings the options of a live connection up to date: those that `Endpoint::set_options` takes.
    pub fn update_core(&self, ipv6: bool, options: &mut ConnOptions) {
        let new = self.for_core(ipv6);
        options.nodelay = new.nodelay;
        options.cork = new.cork;
        options.keepalive = new.keepalive;
        options.user_timeout = new.user_timeout;
        options.syn_retries = new.syn_retries;
        bound_attempt(options);
        options.tos = new.tos;
        options.ttl = new.ttl;
        options.mark = new.mark;
        options.send_buffer = new.send_buffer;
        options.recv_buffer = new.recv_buffer;
        options.recv_buffer_first = new.recv_buffer_first;
    }

    /// TCP_QUICKACK.
    pub fn quick_ack(&self) -> bool {
        self.int(libc::IPPROTO_TCP, libc::TCP_QUICKACK) != Some(0)
    }

    fn int(&self, level: i32, name: i32) -> Option<i32> {
        let bytes = self.get(level, name)?.first_chunk::<4>()?;
        Some(i32::from_ne_bytes(*bytes))
    }
}

/// The bit of SO_BUF_LOCK that says that a program has set the size of this buffer.
fn lock_of(option: &SocketOption) -> i32 {
    match option.name {
        libc::SO_SNDBUF => SNDBUF_LOCK,
        _ => RCVBUF_LOCK,
    }
}

/// What setsockopt(2) takes for a value that getsockopt(2) has given.
fn settable(option: &SocketOption, mut value: Value) -> Value {
    if option.doubled {
        if let Some(size) = value.first_chunk_mut::<4>() {
            *size = (i32::from_ne_bytes(*size) / 2).to_ne_bytes();
        }
    }
    value
}

/// Bounds of a buffer that a program may ask for: two segments at least, and no more than the kernel grants by default.
const BUFFER_MIN: usize = 4096;
const BUFFER_MAX: usize = 64 << 20;

/// getsockopt(2) with any value; its length.
pub fn get(socket: BorrowedFd<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize, Errno> {
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value` and the length to `len`.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &mut len) };
    if result < 0 {
        return Err(last_errno());
    }
    Ok(len as usize)
}

/// setsockopt(2) with any value.
pub fn set(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes from `value`.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if result < 0 {
        return Err(last_errno());
    }
    Ok(())
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt;

    fn socket(family: AddressFamily) -> std::os::fd::OwnedFd {
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn an_untouched_socket_has_the_cores_defaults() {
        let fd = socket(AddressFamily::INET);
        let options = SocketOptions::read(fd.as_fd(), false).unwrap().for_core(false);
        let defaults = ConnOptions::default();
        assert_eq!(options.send_buffer, defaults.send_buffer);
        assert_eq!(options.recv_buffer, defaults.recv_buffer);
        assert_eq!(
            (options.nodelay, options.mss_limit, options.tos, options.mark),
            (false, 0, 0, 0)
        );
        assert_eq!((options.keepalive, options.user_timeout), (None, None));
    }

    #[test]
    fn what_the_program_set_arrives() {
        let fd = socket(AddressFamily::INET6);
        sockopt::set_tcp_nodelay(&fd, true).unwrap();
        sockopt::set_socket_keepalive(&fd, true).unwrap();
        sockopt::set_tcp_keepidle(&fd, Duration::from_secs(77)).unwrap();
        sockopt::set_ipv6_tclass(&fd, 0x48).unwrap();
        sockopt::set_ip_tos(&fd, 0x10).unwrap();
        sockopt::set_tcp_user_timeout(&fd, 5000).unwrap();
        sockopt::set_socket_recv_buffer_size(&fd, 30_000).unwrap();
        let options = SocketOptions::read(fd.as_fd(), true).unwrap();
        let core = options.for_core(true);
        assert!(core.nodelay);
        assert_eq!(core.keepalive.unwrap().idle, Duration::from_secs(77));
        assert_eq!((core.tos, options.for_core(false).tos), (0x48, 0x10));
        assert_eq!(core.user_timeout, Some(Duration::from_millis(5000)));
        assert_eq!(core.recv_buffer, 60_000);
        assert_eq!(core.send_buffer, ConnOptions::default().send_buffer);
    }

    #[test]
    fn a_fresh_socket_is_like_the_old_one() {
        let old = socket(AddressFamily::INET6);
        sockopt::set_tcp_nodelay(&old, true).unwrap();
        sockopt::set_socket_recv_buffer_size(&old, 30_000).unwrap();
        sockopt::set_socket_linger(&old, Some(Duration::from_secs(3))).unwrap();
        sockopt::set_ipv6_v6only(&old, true).unwrap();
        let options = SocketOptions::read(old.as_fd(), true).unwrap();
        let fresh = SocketOptions::read(options.fresh_socket().unwrap().as_fd(), true).unwrap();
        assert_eq!(
            (&fresh.values, fresh.buffer_lock),
            (&options.values, options.buffer_lock)
        );
    }

    #[test]
    fn an_accepted_socket_has_the_buffers_that_its_listener_was_given_and_no_others() {
        let listener = socket(AddressFamily::INET);
        sockopt::set_socket_send_buffer_size(&listener, 50_000).unwrap();
        let then = SocketOptions::read(listener.as_fd(), false).unwrap();
        sockopt::set_socket_recv_buffer_size(&listener, 30_000).unwrap();
        let mut accepted = SocketOptions::read(listener.as_fd(), false).unwrap();
        accepted.keep_transport(&then);
        let core = accepted.for_core(false);
        assert_eq!((core.send_buffer, core.recv_buffer), (100_000, 60_000));
        let mut tuned = SocketOptions::read(socket(AddressFamily::INET).as_fd(), false).unwrap();
        let (_, size) = tuned.values.iter_mut().find(|(option, _)| option.doubled).unwrap();
        size[..4].copy_from_slice(&7i32.to_ne_bytes());
        let plain = SocketOptions::read(socket(AddressFamily::INET).as_fd(), false).unwrap();
        tuned.keep_transport(&plain);
        assert_eq!(tuned.values, plain.values);
    }

    #[test]
    fn later_changes_are_those_that_the_kernel_made_on_another_socket() {
        let fd = socket(AddressFamily::INET);
        let mut options = SocketOptions::read(fd.as_fd(), false).unwrap();
        let judge = socket(AddressFamily::INET);
        sockopt::set_tcp_nodelay(&judge, true).unwrap();
        sockopt::set_socket_linger(&judge, Some(Duration::ZERO)).unwrap();
        assert_eq!(
            options.set_as(judge.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY),
            Ok(())
        );
        assert_eq!(
            options.get(libc::IPPROTO_TCP, libc::TCP_NODELAY),
            Some(&1i32.to_ne_bytes()[..])
        );
        assert_eq!(
            options.set_as(judge.as_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
            Err(Errno::NOPROTOOPT)
        );
        assert!(!options.linger_zero());
        assert_eq!(options.set_as(judge.as_fd(), libc::SOL_SOCKET, libc::SO_LINGER), Ok(()));
        assert!(options.linger_zero());
    }
}

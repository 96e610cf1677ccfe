//! Sends and receives one datagram with at most one descriptor, and makes a whole request for the side that asks.
//!
//! Only direct system calls (rustix), nothing allocated: the shim calls this inside a program's `connect`.

use super::{DecodeError, EngineId, Reply, Request, MESSAGE_MAX};
use core::mem::MaybeUninit;
use core::time::Duration;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    connect, recvmsg, sendmsg, socket_with, sockopt, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage,
    RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};

/// How long the engine may take to answer: far above what it needs, far below a person's patience.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// Why a request got no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// Nobody listens there: no engine runs.
    NoEngine,
    /// Somebody listens there whom this program must not believe.
    Untrusted,
    /// The engine closed the connection.
    NoAnswer,
    /// The engine is there and did not answer in [`ANSWER_TIME_MAX`].
    TooLate,
    /// The answer is not a message.
    Garbage(DecodeError),
    /// A system call failed here.
    Os(Errno),
}

impl From<Errno> for CallError {
    fn from(e: Errno) -> Self {
        CallError::Os(e)
    }
}

/// Connects to an engine, and refuses one of a user whom the caller does not believe. Each later call on the channel fails with EAGAIN after [`ANSWER_TIME_MAX`].
pub fn open(engine: EngineId, believes: fn(u32) -> bool) -> Result<OwnedFd, CallError> {
    let fd = above_stdio(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)?;
    // A full backlog is waited for, as long as an answer.
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(ANSWER_TIME_MAX))?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(ANSWER_TIME_MAX))?;
    let address = SocketAddrUnix::new_abstract_name(&engine.name())?;
    loop {
        match connect(&fd, &address) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::CONNREFUSED) => return Err(CallError::NoEngine),
            Err(Errno::AGAIN) => return Err(CallError::TooLate),
            Err(e) => return Err(CallError::Os(e)),
        }
    }
    let peer = sockopt::socket_peercred(&fd)?;
    if !believes(peer.uid.as_raw()) {
        return Err(CallError::Untrusted);
    }
    Ok(fd)
}

/// A descriptor of ours above the standard three: in a program that has closed one of them, another thread's output would go there.
pub fn above_stdio(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    match fd.as_raw_fd() {
        0..3 => rustix::io::fcntl_dupfd_cloexec(&fd, 3),
        _ => Ok(fd),
    }
}

/// Sends one request, with a descriptor if given; the channel is for [`answer`].
pub fn submit(
    engine: EngineId,
    believes: fn(u32) -> bool,
    request: &Request<'_>,
    fd: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, CallError> {
    let channel = open(engine, believes)?;
    let mut buf = [0; MESSAGE_MAX];
    let len = request.encode(&mut buf).map_err(|_| CallError::Os(Errno::MSGSIZE))?;
    match send(&channel, &buf[..len], fd) {
        Ok(()) => Ok(channel),
        Err(Errno::PIPE | Errno::CONNRESET) => Err(CallError::NoAnswer),
        Err(Errno::AGAIN) => Err(CallError::TooLate),
        Err(e) => Err(CallError::Os(e)),
    }
}

/// Receives the reply, whose bytes stay in `buf`; its descriptor, if any, comes with it.
pub fn answer<'b>(channel: impl AsFd, buf: &'b mut [u8]) -> Result<(Reply<'b>, Option<OwnedFd>), CallError> {
    let (len, received) = receive(channel, buf)?;
    Ok((Reply::decode(&buf[..len]).map_err(CallError::Garbage)?, received))
}

/// Receives the reply undecoded: its length, and its descriptor, if any.
pub fn receive(channel: impl AsFd, buf: &mut [u8]) -> Result<(usize, Option<OwnedFd>), CallError> {
    match recv(channel, buf) {
        Ok((0, _)) | Err(Errno::CONNRESET) => Err(CallError::NoAnswer),
        Err(Errno::AGAIN) => Err(CallError::TooLate),
        Ok(message) => Ok(message),
        Err(e) => Err(CallError::Os(e)),
    }
}

/// One request and its reply.
pub fn call<'b>(
    engine: EngineId,
    believes: fn(u32) -> bool,
    request: &Request<'_>,
    fd: Option<BorrowedFd<'_>>,
    buf: &'b mut [u8],
) -> Result<(Reply<'b>, Option<OwnedFd>), CallError> {
    let channel = submit(engine, believes, request, fd)?;
    answer(&channel, buf)
}

/// Sends one datagram, with a descriptor if given. Never raises SIGPIPE.
pub fn send(channel: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        if !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::MSGSIZE);
        }
    }
    loop {
        match sendmsg(&channel, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(n) if n == bytes.len() => return Ok(()),
            Ok(_) => return Err(Errno::MSGSIZE),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Receives one datagram and at most one descriptor (further ones are closed). EMSGSIZE when it is longer than `buf`; length 0 is the end.
/// EMFILE when it carried a descriptor for which this process has no number left.
pub fn recv(channel: impl AsFd, buf: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match recvmsg(
            &channel,
            &mut [IoSliceMut::new(buf)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut first = None;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = part {
            for fd in fds {
                first.get_or_insert(fd);
            }
        }
    }
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(Errno::MSGSIZE);
    }
    if message.flags.contains(ReturnFlags::CTRUNC) && first.is_none() {
        return Err(Errno::MFILE);
    }
    Ok((message.bytes, first.map(above_stdio).transpose()?))
}

#[cfg(test)]
mod tests {
    use super::super::believes;
    use super::*;
    use rustix::net::socketpair;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair")
    }

    #[test]
    fn a_descriptor_travels_with_its_datagram() {
        let (a, b) = pair();
        let (x, y) = pair();
        send(&a, b"take this", Some(x.as_fd())).expect("room");
        drop(x);
        let mut buf = [0; 64];
        let (n, fd) = recv(&b, &mut buf).expect("a datagram");
        assert_eq!(&buf[..n], b"take this");
        send(fd.expect("the descriptor"), b"through", None).expect("it works");
        assert_eq!(recv(&y, &mut buf).expect("a datagram").0, 7);
    }

    #[test]
    fn a_datagram_too_long_is_an_error_and_an_end_is_empty() {
        let (a, b) = pair();
        send(&a, &[1; 65], None).expect("room");
        assert!(matches!(recv(&b, &mut [0; 64]), Err(Errno::MSGSIZE)));
        drop(a);
        assert!(matches!(recv(&b, &mut [0; 64]), Ok((0, None))));
    }

    #[test]
    fn nobody_there_is_no_engine() {
        let place = super::super::Cgroup {
            user_namespace: 0,
            cgroup: u64::from(std::process::id()),
        };
        let nobody = EngineId::new(u32::MAX, place, super::super::Privileges::NONE);
        let answer = call(nobody, believes, &Request::Status, None, &mut [0; MESSAGE_MAX]).map(|_| ());
        assert_eq!(answer, Err(CallError::NoEngine));
    }
}

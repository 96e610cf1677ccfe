//! Requests and replies, and their bytes (the table is at the head of `control`).

use super::codec::{DecodeError, Overflow, Reader, Writer};
use super::picture::PICTURE_MAX;
use super::{Bypass, PROGRAM_MAX, PROTOCOL_VERSION, SETTINGS_MAX, VALUE_MAX, WISH_MAX};
use core::net::SocketAddr;

const MAGIC: &[u8; 4] = b"MPTC";
const FLAG_NONBLOCKING: u32 = 1;

const CONNECT: u16 = 1;
const QUERY: u16 = 2;
const GET_OPTION: u16 = 3;
const SET_OPTION: u16 = 4;
const QUEUE_SIZES: u16 = 5;
const ABORT: u16 = 6;
const STATUS: u16 = 7;
const WAIT: u16 = 8;
const LISTEN: u16 = 9;
const CLAIM: u16 = 10;
const PICTURE_OF: u16 = 11;
const SET_WISH: u16 = 12;
const SHUTDOWN: u16 = 13;
const ASK_WISH: u16 = 14;
const LEFT: u16 = 15;
const SHADOW: u16 = 129;
const BYPASS: u16 = 130;
const ERROR: u16 = 131;
const PHASE: u16 = 132;
const VALUE: u16 = 133;
const DONE: u16 = 134;
const QUEUES: u16 = 135;
const PICTURE: u16 = 136;

/// What a program asks when it connects; the kernel socket goes with it as a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connect<'a> {
    /// Where to. An IPv4-mapped address says that the program's socket is AF_INET6.
    pub remote: SocketAddr,
    /// The program does not wait for the result.
    pub nonblocking: bool,
    /// The program's process id as it sees it.
    pub pid: u32,
    /// Its name, for `mptcp status`.
    pub program: &'a [u8],
    /// Its MPTCP_* environment, `NAME=value` each ended by NUL; see [`Connect::setting`].
    pub settings: &'a [u8],
}

impl<'a> Connect<'a> {
    /// The value of one of the program's settings, e.g. `MPTCP_PATHS`.
    pub fn setting(&self, name: &str) -> Option<&'a [u8]> {
        setting(self.settings, name)
    }
}

/// The value of one of the settings that a request carries.
pub fn setting<'a>(settings: &'a [u8], name: &str) -> Option<&'a [u8]> {
    settings
        .split(|&b| b == 0)
        .find_map(|s| s.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Whether the settings of a request, or `NAME=value` alone, ask for this host's connections to itself: `MPTCP_LOOPBACK=1`.
pub fn loopback_wanted(settings: &[u8]) -> bool {
    let value = setting(settings, "MPTCP_LOOPBACK").unwrap_or_default();
    [&b"1"[..], b"on", b"yes"]
        .iter()
        .any(|on| value.eq_ignore_ascii_case(on))
}

/// What a program asks when it listens; the listening kernel socket goes with it as a descriptor, and stays the program's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listen<'a> {
    /// Its name, for `mptcp status`.
    pub program: &'a [u8],
    /// As in [`Connect`].
    pub settings: &'a [u8],
}

/// What a program tells that left a connection to the kernel without asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left<'a> {
    /// As in [`Connect`].
    pub remote: SocketAddr,
    /// Likewise.
    pub program: &'a [u8],
    /// Why.
    pub reason: Bypass,
}

/// A request to the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// Make a connection and give me its shadow.
    Connect(Connect<'a>),
    /// What has become of the connection whose shadow has this SO_COOKIE?
    Query { cookie: u64 },
    /// getsockopt on it, at most `room` bytes.
    GetOption {
        cookie: u64,
        level: i32,
        name: i32,
        room: u32,
    },
    /// setsockopt on it: the option has the value that the program gave it on the TCP socket that comes as a descriptor.
    SetOption { cookie: u64, level: i32, name: i32 },
    /// SIOCOUTQ and SIOCOUTQNSD.
    QueueSizes { cookie: u64 },
    /// Disconnect at once (connect to AF_UNSPEC; connect after a failed one): RST or MP_FASTCLOSE when there is something to abort, and give
    /// back an unconnected kernel socket like the one that Connect brought.
    Abort { cookie: u64 },
    /// Answer those who connect to this socket from other hosts.
    Listen(Listen<'a>),
    /// Was this accepted socket connected by the engine? Then give me the shadow that it stands for.
    Claim,
    /// Query, answered once the phase is not Connecting.
    Wait { cookie: u64 },
    /// What Linux's MPTCP options tell of it.
    Picture { cookie: u64 },
    /// setsockopt of an option of `mptcp.h`.
    SetWish { cookie: u64, name: i32, value: &'a [u8] },
    /// getsockopt of an option of `mptcp.h` that takes a value too, or gives a descriptor.
    AskWish { cookie: u64, name: i32, value: &'a [u8] },
    /// The program is about to shut down its reading side, or with `both` its writing side too: what has come by now stays readable,
    /// and must be in the shadow before that.
    Shutdown { cookie: u64, both: bool },
    /// A connection was left to the kernel: for `mptcp status`.
    Left(Left<'a>),
    /// A picture of everything, as JSON.
    Status,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The handshake runs.
    Connecting,
    /// It is, or was closed in order and still drains.
    Established,
    /// It broke or was never made.
    Failed {
        /// What a TCP socket would say in SO_ERROR.
        errno: i32,
    },
    /// Closed in both directions, or never heard of.
    Gone,
}

/// Answer to Query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhaseReport {
    /// Where it is in its life.
    pub phase: Phase,
    /// First subflow's addresses; None when the engine has forgotten.
    pub local: Option<SocketAddr>,
    /// The peer's.
    pub remote: Option<SocketAddr>,
}

/// Answer to QueueSizes, bytes, with what still lies unread (SIOCINQ less the retained byte) in the engine's end of the shadow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Queues {
    /// Written by the program and not yet acknowledged by the peer (SIOCOUTQ counts these).
    pub unacked: u32,
    /// Of these, not yet sent (SIOCOUTQNSD).
    pub unsent: u32,
}

/// The engine's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply<'a> {
    /// The connection is being made (or is, to Claim); the program's end of the pair goes with it as a descriptor.
    Shadow {
        /// SO_COOKIE of that end.
        cookie: u64,
    },
    /// Use the kernel's TCP.
    Bypass(Bypass),
    /// The call fails with this errno.
    Error(i32),
    /// To Query.
    Phase(PhaseReport),
    /// To GetOption and AskWish.
    Value(&'a [u8]),
    /// To Listen, SetOption and Shutdown, to Abort with the kernel socket as a descriptor, to AskWish with the one asked for.
    Done,
    /// To QueueSizes.
    Queues(Queues),
    /// To Picture: a [`super::picture::Picture`].
    Picture(&'a [u8]),
}

fn header(w: &mut Writer<'_>, kind: u16) -> Result<(), Overflow> {
    w.raw(MAGIC)?;
    w.u16(PROTOCOL_VERSION)?;
    w.u16(kind)
}

fn read_header(r: &mut Reader<'_>) -> Result<u16, DecodeError> {
    if r.raw(MAGIC.len())? != MAGIC {
        return Err(DecodeError::Magic);
    }
    match r.u16()? {
        PROTOCOL_VERSION => r.u16(),
        other => Err(DecodeError::Version(other)),
    }
}

impl<'a> Request<'a> {
    /// Writes the message to the front of `buf` ([`super::MESSAGE_MAX`] bytes always suffice) and returns its length.
    pub fn encode(&self, buf: &mut [u8]) -> Result<usize, Overflow> {
        let mut w = Writer::new(buf);
        match *self {
            Request::Connect(c) => {
                header(&mut w, CONNECT)?;
                w.addr(Some(c.remote))?;
                w.u32(if c.nonblocking { FLAG_NONBLOCKING } else { 0 })?;
                w.u32(c.pid)?;
                w.bytes(c.program, PROGRAM_MAX)?;
                w.bytes(c.settings, SETTINGS_MAX)?;
            }
            Request::Query { cookie } => {
                header(&mut w, QUERY)?;
                w.u64(cookie)?;
            }
            Request::GetOption {
                cookie,
                level,
                name,
                room,
            } => {
                header(&mut w, GET_OPTION)?;
                w.u64(cookie)?;
                w.i32(level)?;
                w.i32(name)?;
                w.u32(room)?;
            }
            Request::SetOption { cookie, level, name } => {
                header(&mut w, SET_OPTION)?;
                w.u64(cookie)?;
                w.i32(level)?;
                w.i32(name)?;
            }
            Request::QueueSizes { cookie } => {
                header(&mut w, QUEUE_SIZES)?;
                w.u64(cookie)?;
            }
            Request::Abort { cookie } => {
                header(&mut w, ABORT)?;
                w.u64(cookie)?;
            }
            Request::Wait { cookie } => {
                header(&mut w, WAIT)?;
                w.u64(cookie)?;
            }
            Request::Listen(l) => {
                header(&mut w, LISTEN)?;
                w.bytes(l.program, PROGRAM_MAX)?;
                w.bytes(l.settings, SETTINGS_MAX)?;
            }
            Request::Shutdown { cookie, both } => {
                header(&mut w, SHUTDOWN)?;
                w.u64(cookie)?;
                w.u8(u8::from(both))?;
            }
            Request::Claim => header(&mut w, CLAIM)?,
            Request::Picture { cookie } => {
                header(&mut w, PICTURE_OF)?;
                w.u64(cookie)?;
            }
            Request::SetWish { cookie, name, value } => {
                header(&mut w, SET_WISH)?;
                w.u64(cookie)?;
                w.i32(name)?;
                w.bytes(value, WISH_MAX)?;
            }
            Request::AskWish { cookie, name, value } => {
                header(&mut w, ASK_WISH)?;
                w.u64(cookie)?;
                w.i32(name)?;
                w.bytes(value, WISH_MAX)?;
            }
            Request::Left(l) => {
                header(&mut w, LEFT)?;
                w.addr(Some(l.remote))?;
                w.bytes(l.program, PROGRAM_MAX)?;
                w.u16(l.reason as u16)?;
            }
            Request::Status => header(&mut w, STATUS)?,
        }
        Ok(w.len())
    }

    /// Reads one datagram.
    pub fn decode(bytes: &'a [u8]) -> Result<Request<'a>, DecodeError> {
        let mut r = Reader::new(bytes);
        let request = match read_header(&mut r)? {
            CONNECT => Request::Connect(decode_connect(&mut r)?),
            QUERY => Request::Query { cookie: r.u64()? },
            GET_OPTION => Request::GetOption {
                cookie: r.u64()?,
                level: r.i32()?,
                name: r.i32()?,
                room: r.u32()?,
            },
            SET_OPTION => Request::SetOption {
                cookie: r.u64()?,
                level: r.i32()?,
                name: r.i32()?,
            },
            QUEUE_SIZES => Request::QueueSizes { cookie: r.u64()? },
            ABORT => Request::Abort { cookie: r.u64()? },
            WAIT => Request::Wait { cookie: r.u64()? },
            LISTEN => Request::Listen(Listen {
                program: r.bytes(PROGRAM_MAX)?,
                settings: r.bytes(SETTINGS_MAX)?,
            }),
            SHUTDOWN => Request::Shutdown {
                cookie: r.u64()?,
                both: match r.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(DecodeError::Value),
                },
            },
            CLAIM => Request::Claim,
            PICTURE_OF => Request::Picture { cookie: r.u64()? },
            SET_WISH => Request::SetWish {
                cookie: r.u64()?,
                name: r.i32()?,
                value: r.bytes(WISH_MAX)?,
            },
            ASK_WISH => Request::AskWish {
                cookie: r.u64()?,
                name: r.i32()?,
                value: r.bytes(WISH_MAX)?,
            },
            LEFT => Request::Left(Left {
                remote: r.addr()?.ok_or(DecodeError::Value)?,
                program: r.bytes(PROGRAM_MAX)?,
                reason: Bypass::from_code(r.u16()?).ok_or(DecodeError::Value)?,
            }),
            STATUS => Request::Status,
            other => return Err(DecodeError::Kind(other)),
        };
        r.end()?;
        Ok(request)
    }
}

fn decode_connect<'a>(r: &mut Reader<'a>) -> Result<Connect<'a>, DecodeError> {
    let remote = r.addr()?.ok_or(DecodeError::Value)?;
    let flags = r.u32()?;
    if flags & !FLAG_NONBLOCKING != 0 {
        return Err(DecodeError::Value);
    }
    Ok(Connect {
        remote,
        nonblocking: flags & FLAG_NONBLOCKING != 0,
        pid: r.u32()?,
        program: r.bytes(PROGRAM_MAX)?,
        settings: r.bytes(SETTINGS_MAX)?,
    })
}

impl<'a> Reply<'a> {
    /// Writes the message to the front of `buf` and returns its length. [`super::MESSAGE_MAX`] bytes suffice, for a picture
    /// [`super::PICTURE_MESSAGE_MAX`].
    pub fn encode(&self, buf: &mut [u8]) -> Result<usize, Overflow> {
        let mut w = Writer::new(buf);
        match *self {
            Reply::Shadow { cookie } => {
                header(&mut w, SHADOW)?;
                w.u64(cookie)?;
            }
            Reply::Bypass(reason) => {
                header(&mut w, BYPASS)?;
                w.u16(reason as u16)?;
            }
            Reply::Error(errno) => {
                header(&mut w, ERROR)?;
                w.i32(errno)?;
            }
            Reply::Phase(report) => {
                header(&mut w, PHASE)?;
                encode_phase(&mut w, &report)?;
            }
            Reply::Value(value) => {
                header(&mut w, VALUE)?;
                w.bytes(value, VALUE_MAX)?;
            }
            Reply::Done => header(&mut w, DONE)?,
            Reply::Queues(q) => {
                header(&mut w, QUEUES)?;
                w.u32(q.unacked)?;
                w.u32(q.unsent)?;
            }
            Reply::Picture(bytes) => {
                header(&mut w, PICTURE)?;
                w.bytes(bytes, PICTURE_MAX)?;
            }
        }
        Ok(w.len())
    }

    /// Reads one datagram.
    pub fn decode(bytes: &'a [u8]) -> Result<Reply<'a>, DecodeError> {
        let mut r = Reader::new(bytes);
        let reply = match read_header(&mut r)? {
            SHADOW => Reply::Shadow { cookie: r.u64()? },
            BYPASS => Reply::Bypass(Bypass::from_code(r.u16()?).ok_or(DecodeError::Value)?),
            ERROR => Reply::Error(errno(r.i32()?)?),
            PHASE => Reply::Phase(decode_phase(&mut r)?),
            VALUE => Reply::Value(r.bytes(VALUE_MAX)?),
            DONE => Reply::Done,
            QUEUES => Reply::Queues(Queues {
                unacked: r.u32()?,
                unsent: r.u32()?,
            }),
            PICTURE => Reply::Picture(r.bytes(PICTURE_MAX)?),
            other => return Err(DecodeError::Kind(other)),
        };
        r.end()?;
        Ok(reply)
    }
}

/// The range that system calls use; 0 would make a failure a success.
fn errno(value: i32) -> Result<i32, DecodeError> {
    if (1..4096).contains(&value) {
        Ok(value)
    } else {
        Err(DecodeError::Value)
    }
}

fn encode_phase(w: &mut Writer<'_>, report: &PhaseReport) -> Result<(), Overflow> {
    let (code, errno) = match report.phase {
        Phase::Connecting => (0, 0),
        Phase::Established => (1, 0),
        Phase::Failed { errno } => (2, errno),
        Phase::Gone => (3, 0),
    };
    w.u8(code)?;
    w.raw(&[0; 3])?;
    w.i32(errno)?;
    w.addr(report.local)?;
    w.addr(report.remote)
}

fn decode_phase(r: &mut Reader<'_>) -> Result<PhaseReport, DecodeError> {
    let code = r.u8()?;
    if r.raw(3)? != [0; 3] {
        return Err(DecodeError::Value);
    }
    let value = r.i32()?;
    let phase = match (code, value) {
        (0, 0) => Phase::Connecting,
        (1, 0) => Phase::Established,
        (2, value) => Phase::Failed { errno: errno(value)? },
        (3, 0) => Phase::Gone,
        _ => return Err(DecodeError::Value),
    };
    Ok(PhaseReport {
        phase,
        local: r.addr()?,
        remote: r.addr()?,
    })
}

#[cfg(test)]
mod tests;

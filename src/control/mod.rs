//! What shim, engine and the `mptcp` command say to each other.
//!
//! The engine listens on a SOCK_SEQPACKET socket with an abstract name ([`EngineId::name`]): abstract names belong to a network namespace,
//! and the id adds user, user namespace, cgroup, privileges and version, so that whoever finds an engine finds the right one. Each request is one
//! connection: one datagram there, one back, closed. Both sides look at SO_PEERCRED: the shim believes an engine that runs as the
//! program's effective user or root ([`trusted_uid`]), the engine serves its own user.
//!
//! Every datagram is little-endian and begins with this header:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic, `MPTC` |
//! | 4 | 2 | [`PROTOCOL_VERSION`] |
//! | 6 | 2 | kind, of the tables below |
//!
//! An *address* is 28 bytes: family (u8: 0 none, 4, 6), a zero byte, port (u16), flow information (u32), scope id (u32), 16 bytes of IP
//! address (IPv4 in the first four). *Bytes* are a u16 length and that many bytes. A *flag set* is a u32.
//!
//! | kind | request | body | descriptor | answered by |
//! |---|---|---|---|---|
//! | 1 | Connect | remote address, flag set (bit 0: non-blocking), pid u32, program name bytes (≤ 16), settings bytes (≤ 1024: `NAME=value` each ended by NUL) | the program's kernel socket | Shadow, and unless non-blocking Phase, once it is not Connecting; Bypass; Error |
//! | 2 | Query | cookie u64 | – | Phase, Error |
//! | 3 | GetOption | cookie u64, level i32, name i32, room u32 | – | Value, Error |
//! | 4 | SetOption | cookie u64, level i32, name i32 | a TCP socket of the program's, with the option set | Done, Error |
//! | 5 | QueueSizes | cookie u64 | – | Queues, Error |
//! | 6 | Abort | cookie u64 | – | Done (with a descriptor), Error |
//! | 7 | Status | – | – | a sequence of raw datagrams (no header) of JSON, ended by an empty one |
//! | 8 | Wait | cookie u64 | – | Phase, once it is not Connecting; Error |
//! | 9 | Listen | program name bytes, settings bytes (as Connect's) | the program's listening kernel socket | Done, Bypass |
//! | 10 | Claim | – | an accepted kernel socket | Shadow; Error (ENOENT: it is somebody's real connection) |
//! | 11 | Picture | cookie u64 | – | Picture, Error |
//! | 12 | SetWish | cookie u64, name i32 ([`multipath::name`]), value bytes (≤ 1024) | – | Done, Error |
//! | 13 | Shutdown | cookie u64, both directions u8 (0 or 1) | – | Done, Error |
//! | 14 | AskWish | cookie u64, name i32, value bytes (≤ 1024) | – | Value, or Done with a descriptor; Error |
//! | 15 | Left | remote address, program name bytes, reason u16 ([`Bypass`]) | – | Done, which nobody waits for; Error |
//!
//! | kind | reply | body | descriptor |
//! |---|---|---|---|
//! | 129 | Shadow | cookie u64 | the program's end of the pair |
//! | 130 | Bypass | reason u16 ([`Bypass`]) | – |
//! | 131 | Error | errno i32 | – |
//! | 132 | Phase | phase u8 (0 connecting, 1 established, 2 failed, 3 gone), 3 zero bytes, errno i32, local address, remote address | – |
//! | 133 | Value | value bytes (≤ 256) | – |
//! | 134 | Done | – | to Abort: an unconnected kernel TCP socket with the options and the bound address that the program's has (the passed one, or a new one) |
//! | 135 | Queues | unacknowledged u32, unsent u32 | – |
//! | 136 | Picture | picture bytes ([`picture`]) | – |
//!
//! A cookie is SO_COOKIE of the program's end of the shadow pair: the same in every process that holds it. Trailing bytes, lengths above
//! the bounds, unknown kinds and other versions are errors ([`DecodeError`]), never a panic. Nothing here allocates: the shim uses it in
//! somebody else's process.
//!
//! Each connection of a channel carries one request; who waits (Connect, Wait) may be gone when its answer is due. A program that connects and
//! blocks does so in receiving Connect's second answer: a system call that signals interrupt and restart by the rules that connect has.
//!
//! The engine is started as `libmptcp.so --engine ID`, ID being [`EngineId`] in its text form: shim and engine then cannot disagree on the
//! name, even when the program changed its cgroup meanwhile.

mod address;
mod bypass;
pub mod carrier;
pub mod channel;
mod codec;
mod message;
pub mod multipath;
pub mod options;
pub mod picture;
pub mod shadow;

pub use address::{believes, trusted_uid, Cgroup, EngineId, ParseIdError, Privileges};
pub use bypass::Bypass;
pub use codec::{DecodeError, Overflow};
pub use message::{loopback_wanted, setting, Connect, Left, Listen, Phase, PhaseReport, Queues, Reply, Request};

/// Whether `MPTCP_HEURISTICS` switches one of them off: `off`, or a list with `-NAME` in it.
pub fn heuristic_off(setting: &[u8], name: &[u8]) -> bool {
    setting == b"off"
        || setting
            .split(|&b| b == b',')
            .any(|item| item.strip_prefix(b"-") == Some(name))
}

/// Version of the layout of messages. An engine answers only its own.
pub const PROTOCOL_VERSION: u16 = 6;
/// No request or reply (Status chunks and pictures excepted) is longer, bytes.
pub const MESSAGE_MAX: usize = 2048;
/// A program's name as the kernel keeps it (TASK_COMM_LEN), bytes.
pub const PROGRAM_MAX: usize = 16;
/// The program's MPTCP_* environment, bytes.
pub const SETTINGS_MAX: usize = 1024;
/// A socket option's value, bytes.
pub const VALUE_MAX: usize = 320;
/// A value of an option of `mptcp.h`, bytes: a list of addresses.
pub const WISH_MAX: usize = 1024;
/// A reply that is a picture, bytes.
pub const PICTURE_MESSAGE_MAX: usize = picture::PICTURE_MAX + 16;
/// A Status chunk, bytes.
pub const STATUS_CHUNK_MAX: usize = 16384;

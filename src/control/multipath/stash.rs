//! Where a kernel socket keeps [`Wishes`]: in a socket filter that lets everything pass, or, on a listening socket that the engine answers for,
//! what comes by the loopback device (`shim/listen.rs`), and who answers the rest. An accepted socket inherits the filter, so that any process
//! which accepts knows whom to ask, whatever user it has become, and however it got the listening socket.
//!
//! A classic filter (SO_ATTACH_FILTER) belongs to the socket's description, can be read back (SO_GET_FILTER), needs no privilege, and its
//! instructions behind the first return are never executed: they carry our bytes, four each. A program that attaches a filter of its own takes
//! the place; such a socket is left to the kernel in any case.

use super::super::EngineId;
use super::{AddressList, Intent, JoinPolicy, Names, Wishes, ADDRESSES_MAX, CONGESTIONS, SCHEDULERS};
use core::net::{IpAddr, SocketAddr};

/// One instruction (struct sock_filter of linux/filter.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

/// `return k`.
const RETURN: u16 = 0x06;
/// `load k`.
const LOAD: u16 = 0x00;
/// Everything passes, whole.
const ALL: u32 = u32::MAX;
/// `MPW2`: ours, and the layout's version.
const MAGIC: u32 = 0x4d50_5732;

const fn instruction(code: u32, jump_true: u8, jump_false: u8, k: u32) -> Instruction {
    Instruction {
        code: code as u16,
        jump_true,
        jump_false,
        k,
    }
}

/// The loopback device's index, in every network namespace.
const LOOPBACK: u32 = 1;

/// Lets everything pass.
const OPEN: [Instruction; 1] = [instruction(RETURN as u32, 0, 0, ALL)];

/// The device that a packet came by is the loopback device, or the packet is dropped.
const DEAF: [Instruction; 4] = [
    instruction(
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        0,
        0,
        (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX) as u32,
    ),
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, LOOPBACK),
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, ALL),
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
];

/// What a socket's filter says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// What the program asked for.
    pub wishes: Wishes,
    /// Only what comes by the loopback device passes, and this engine answers for the rest.
    pub answered_by: Option<Answerer>,
}

/// The engine that answers for a listening socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answerer {
    /// Its name.
    pub engine: EngineId,
    /// Its user. Who may attach a filter to a listening socket is believed by whoever accepts from that socket.
    pub uid: u32,
}

/// Words of the fixed part: magic, flags, lengths.
const HEAD: usize = 3;
/// Words of an address: family, sixteen bytes, scope.
const ADDRESS: usize = 6;
/// Words of an [`Answerer`]: the engine's id in two, the user.
const ANSWERER: usize = 3;
const WORDS_MAX: usize = HEAD + 2 * ADDRESSES_MAX * ADDRESS + ANSWERER;
/// The longest filter, instructions.
const LEN_MAX: usize = DEAF.len() + WORDS_MAX + 1;

/// SO_GET_FILTER of asm-generic/socket.h; with the same number SO_ATTACH_FILTER sets.
pub const SO_GET_FILTER: i32 = libc::SO_ATTACH_FILTER;

/// The socket has somebody else's filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Foreign;

/// Reads a socket's wishes; without a filter there are none. `get` is getsockopt(SOL_SOCKET, SO_GET_FILTER): it gets where to write, which is
/// null or has room for as many instructions as ours have at the most, and the room there, in instructions, which it replaces by the
/// filter's length.
pub fn read(mut get: impl FnMut(*mut Instruction, &mut u32) -> Result<(), i32>) -> Result<Kept, Foreign> {
    let mut len = 0;
    match get(core::ptr::null_mut(), &mut len) {
        Ok(()) if len == 0 => return Ok(Kept::default()),
        Ok(()) if len as usize <= LEN_MAX => {}
        // EACCES is how the kernel says that it is an eBPF program; other errors, that there are no filters here.
        Ok(()) | Err(libc::EACCES) => return Err(Foreign),
        Err(_) => return Ok(Kept::default()),
    }
    let mut filter = Filter::EMPTY;
    len = LEN_MAX as u32;
    get(filter.instructions.as_mut_ptr(), &mut len).map_err(|_| Foreign)?;
    filter.len = (len as usize).min(LEN_MAX);
    filter.kept().ok_or(Foreign)
}

/// A filter.
pub struct Filter {
    instructions: [Instruction; LEN_MAX],
    len: usize,
}

impl Filter {
    const EMPTY: Filter = Filter {
        instructions: [Instruction {
            code: 0,
            jump_true: 0,
            jump_false: 0,
            k: 0,
        }; LEN_MAX],
        len: 0,
    };

    /// The filter that carries these wishes, and lets pass everything, or what comes by the loopback device where an engine answers for the rest.
    pub fn new(wishes: &Wishes, answered_by: Option<Answerer>) -> Filter {
        let mut filter = Filter::EMPTY;
        let head: &[Instruction] = if answered_by.is_some() { &DEAF } else { &OPEN };
        filter.instructions[..head.len()].copy_from_slice(head);
        filter.len = head.len();
        filter.push(LOAD, MAGIC);
        filter.push(LOAD, flags(wishes));
        let count = |list: &AddressList| list.iter().count() as u32;
        filter.push(LOAD, count(&wishes.listed) << 16 | count(&wishes.removed));
        for address in wishes.listed.iter().chain(wishes.removed.iter()) {
            filter.push_address(address);
        }
        if let Some(Answerer { engine, uid }) = answered_by {
            filter.push(LOAD, (engine.bits() >> 32) as u32);
            filter.push(LOAD, engine.bits() as u32);
            filter.push(LOAD, uid);
        }
        filter.push(RETURN, ALL);
        filter
    }

    /// Reads it back; None when it is somebody else's.
    fn kept(&self) -> Option<Kept> {
        let instructions = &self.instructions[..self.len];
        let rest = instructions.strip_prefix(&DEAF);
        let deaf = rest.is_some();
        let mut words = rest.or(instructions.strip_prefix(&OPEN))?.iter().map(|i| i.k);
        let wishes = from_words(&mut words)?;
        let answered_by = match deaf {
            true => Some(pop_answerer(&mut words)?),
            false => None,
        };
        Some(Kept { wishes, answered_by })
    }

    /// struct sock_fprog for setsockopt(SO_ATTACH_FILTER); it points into `self`.
    pub fn program(&self) -> libc::sock_fprog {
        libc::sock_fprog {
            len: self.len as u16,
            // Same layout; the kernel only reads.
            filter: self.instructions.as_ptr().cast_mut().cast(),
        }
    }

    fn push(&mut self, code: u16, k: u32) {
        self.instructions[self.len] = Instruction {
            code,
            jump_true: 0,
            jump_false: 0,
            k,
        };
        self.len += 1;
    }

    fn push_address(&mut self, address: SocketAddr) {
        let (family, ip, scope) = match address {
            SocketAddr::V4(a) => (4, a.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(a) => (6, *a.ip(), a.scope_id()),
        };
        self.push(LOAD, family);
        let ip = ip.to_bits();
        for shift in [96, 64, 32, 0] {
            self.push(LOAD, (ip >> shift) as u32);
        }
        self.push(LOAD, scope);
    }
}

/// Wishes as words, for another process of the same version.
pub fn words(wishes: &Wishes) -> Vec<u32> {
    let filter = Filter::new(wishes, None);
    filter.instructions[OPEN.len()..filter.len]
        .iter()
        .map(|i| i.k)
        .collect()
}

/// Of [`words`], or of a filter behind its beginning; None when they are not.
pub fn from_words(mut words: impl Iterator<Item = u32>) -> Option<Wishes> {
    if words.next()? != MAGIC {
        return None;
    }
    let mut wishes = from_flags(words.next()?)?;
    let counts = words.next()?;
    for _ in 0..counts >> 16 {
        wishes.listed.push(pop_address(&mut words)?).ok()?;
    }
    for _ in 0..counts & 0xffff {
        wishes.removed.push(pop_address(&mut words)?).ok()?;
    }
    Some(wishes)
}

fn pop_answerer(words: &mut impl Iterator<Item = u32>) -> Option<Answerer> {
    let bits = u64::from(words.next()?) << 32 | u64::from(words.next()?);
    Some(Answerer {
        engine: EngineId::from_bits(bits)?,
        uid: words.next()?,
    })
}

fn pop_address(words: &mut impl Iterator<Item = u32>) -> Option<SocketAddr> {
    let family = words.next()?;
    let mut bits = 0u128;
    for _ in 0..4 {
        bits = bits << 32 | u128::from(words.next()?);
    }
    let scope = words.next()?;
    let v6 = core::net::Ipv6Addr::from_bits(bits);
    let ip = match family {
        4 => IpAddr::V4(v6.to_ipv4_mapped()?),
        6 => IpAddr::V6(v6),
        _ => return None,
    };
    Some(super::with_scope(ip, scope))
}

// Four bits each, from the lowest: enable, linux and restricted, names, fate, join, intent, scheduler, congestion.
fn flags(wishes: &Wishes) -> u32 {
    let choice = |choice: Option<bool>| match choice {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    };
    choice(wishes.enable)
        | u32::from(wishes.linux) << 4
        | u32::from(wishes.restricted) << 5
        | (wishes.names as u32) << 8
        | choice(wishes.fate) << 12
        | (wishes.join as u32) << 16
        | (wishes.intent as u32) << 20
        | u32::from(wishes.scheduler) << 24
        | u32::from(wishes.congestion) << 28
}

fn from_flags(flags: u32) -> Option<Wishes> {
    let nibble = |shift: u32| flags >> shift & 0xf;
    let choice = |n| match n {
        0 => Some(None),
        1 => Some(Some(false)),
        2 => Some(Some(true)),
        _ => None,
    };
    Some(Wishes {
        enable: choice(nibble(0))?,
        linux: flags & 1 << 4 != 0,
        restricted: flags & 1 << 5 != 0,
        names: [Names::Default, Names::First, Names::Fail]
            .get(nibble(8) as usize)
            .copied()?,
        fate: choice(nibble(12))?,
        join: [
            JoinPolicy::Default,
            JoinPolicy::AtOnce,
            JoinPolicy::AfterBytes,
            JoinPolicy::Never,
        ]
        .get(nibble(16) as usize)
        .copied()?,
        intent: [
            Intent::Default,
            Intent::Aggregate,
            Intent::Handover,
            Intent::Interactive,
        ]
        .get(nibble(20) as usize)
        .copied()?,
        scheduler: numbered(nibble(24), SCHEDULERS.len())?,
        congestion: numbered(nibble(28), CONGESTIONS.len())?,
        ..Wishes::default()
    })
}

fn numbered(number: u32, len: usize) -> Option<u8> {
    u8::try_from(number).ok().filter(|n| usize::from(*n) <= len)
}

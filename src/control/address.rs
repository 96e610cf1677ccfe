//! Which engine serves a program: one per version, user, user namespace, cgroup, network privileges and (abstract names being per namespace)
//! network namespace.
//!
//! The cgroup is part of it because stopping one service kills its whole cgroup: an engine shared across services would die with the first.
//! The privileges are because an engine can do what its first program could: a program without CAP_NET_RAW would otherwise leave an engine
//! without a link to every program of its user that has it.

use core::fmt;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{capabilities, CapabilitySet};

/// Bits of an [`EngineId`]: it has to fit into the shadow's name beside two IPv6 addresses.
const ID_BITS: u32 = 48;
const ID_DIGITS: usize = ID_BITS as usize / 4;
const NAME_PREFIX: &[u8] = b"mptcp-engine-";
const NAME_LEN: usize = NAME_PREFIX.len() + ID_DIGITS;

/// Names an engine among those of a network namespace. Not a secret and not a proof: SO_PEERCRED is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EngineId(u64);

/// The text is not an engine id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseIdError;

/// The parts of an [`EngineId`] that only /proc knows; read at program start and kept, since a chroot may hide /proc later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cgroup {
    /// Inode of the user namespace, 0 when unknown.
    pub user_namespace: u64,
    /// Hash of /proc/self/cgroup, 0 when unknown.
    pub cgroup: u64,
}

impl Cgroup {
    /// Reads them for the calling process: three descriptors' worth of system calls, none kept, no allocation.
    pub fn current() -> Result<Cgroup, Errno> {
        let user_namespace = rustix::fs::stat(c"/proc/self/ns/user")?.st_ino;
        let file = rustix::fs::open(c"/proc/self/cgroup", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Cgroup {
            user_namespace,
            cgroup: hash_file(&file)?,
        })
    }
}

fn hash_file(file: &OwnedFd) -> Result<u64, Errno> {
    let mut hash = Fnv::new();
    let mut buf = [0u8; 512];
    loop {
        match rustix::io::read(file, &mut buf) {
            Ok(0) => return Ok(hash.0),
            Ok(n) => hash.write(&buf[..n]),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// The effective capabilities that decide what an engine can do. They are the last two bits of an [`EngineId`], so that an engine can see
/// whether it has what its name promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Privileges(u64);

impl Privileges {
    const NET_ADMIN: u64 = 1;
    const NET_RAW: u64 = 2;
    const BITS: u32 = 2;

    /// Neither of them.
    pub const NONE: Privileges = Privileges(0);

    /// Those of the calling thread; none when the kernel does not tell.
    pub fn current() -> Privileges {
        let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        let bit = |set, bit| if effective.contains(set) { bit } else { 0 };
        Privileges(bit(CapabilitySet::NET_ADMIN, Self::NET_ADMIN) | bit(CapabilitySet::NET_RAW, Self::NET_RAW))
    }

    /// Whether these are all of `wanted`, and maybe more.
    pub fn cover(self, wanted: Privileges) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

impl EngineId {
    /// The engine of this version for user `uid` in these surroundings, for programs with these privileges.
    pub fn new(uid: u32, place: Cgroup, privileges: Privileges) -> EngineId {
        let mut hash = Fnv::new();
        hash.write(&super::PROTOCOL_VERSION.to_le_bytes());
        hash.write(env!("CARGO_PKG_VERSION").as_bytes());
        hash.write(&uid.to_le_bytes());
        hash.write(&place.user_namespace.to_le_bytes());
        hash.write(&place.cgroup.to_le_bytes());
        // Folding keeps what the upper bits know.
        let folded = (hash.0 ^ (hash.0 >> ID_BITS)) << Privileges::BITS;
        EngineId((folded | privileges.0) & ((1 << ID_BITS) - 1))
    }

    /// What the programs can do that this engine is for.
    pub fn privileges(self) -> Privileges {
        Privileges(self.0 & ((1 << Privileges::BITS) - 1))
    }

    /// The engine for the calling process as it is now (effective user and capabilities).
    pub fn current() -> Result<EngineId, Errno> {
        Ok(EngineId::of_caller(Cgroup::current()?))
    }

    /// As [`EngineId::current`], with the user namespace and cgroup given.
    pub fn of_caller(place: Cgroup) -> EngineId {
        EngineId::new(rustix::process::geteuid().as_raw(), place, Privileges::current())
    }

    /// As a number, which is never 0 but for one in 2^48.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Of a number that is not 0.
    pub fn from_bits(bits: u64) -> Option<EngineId> {
        (bits != 0).then_some(EngineId(bits))
    }

    /// The abstract AF_UNIX name (without the leading NUL) that the engine's SOCK_SEQPACKET listener has.
    pub fn name(self) -> [u8; NAME_LEN] {
        let mut name = [0; NAME_LEN];
        name[..NAME_PREFIX.len()].copy_from_slice(NAME_PREFIX);
        name[NAME_PREFIX.len()..].copy_from_slice(&self.text());
        name
    }

    /// The engine that has this abstract name (without the leading NUL), if it is an engine's.
    pub fn from_name(name: &[u8]) -> Option<EngineId> {
        EngineId::parse(name.strip_prefix(NAME_PREFIX)?).ok()
    }

    /// Twelve hexadecimal digits: the engine's second argument.
    pub fn text(self) -> [u8; ID_DIGITS] {
        let mut text = [0; ID_DIGITS];
        super::shadow::put_hex(&mut text, self.0);
        text
    }

    /// Reads [`EngineId::text`] back.
    pub fn parse(text: &[u8]) -> Result<EngineId, ParseIdError> {
        if text.len() != ID_DIGITS {
            return Err(ParseIdError);
        }
        super::shadow::get_hex(text).map(EngineId).ok_or(ParseIdError)
    }
}

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

/// Whether a program with effective user `own` believes a socket whose SO_PEERCRED says `peer`.
pub fn trusted_uid(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

/// [`trusted_uid`] for the calling process.
pub fn believes(peer: u32) -> bool {
    trusted_uid(peer, rustix::process::geteuid().as_raw())
}

/// FNV-1a, 64 bits: short, stable across versions of Rust, and nothing here is secret.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Cgroup = Cgroup {
        user_namespace: 4026531837,
        cgroup: 77,
    };

    fn id(uid: u32, place: Cgroup) -> EngineId {
        EngineId::new(uid, place, Privileges::NONE)
    }

    #[test]
    fn users_namespaces_cgroups_and_privileges_have_engines_of_their_own() {
        let base = id(1000, PLACE);
        assert_eq!(base, id(1000, PLACE));
        assert_ne!(base, id(1001, PLACE));
        assert_ne!(base, id(1000, Cgroup { cgroup: 78, ..PLACE }));
        let user_namespace = 1;
        assert_ne!(
            base,
            id(
                1000,
                Cgroup {
                    user_namespace,
                    ..PLACE
                }
            )
        );
        let raw = Privileges(Privileges::NET_RAW);
        let with_raw = EngineId::new(1000, PLACE, raw);
        assert_ne!(base, with_raw);
        assert_eq!((base.privileges(), with_raw.privileges()), (Privileges::NONE, raw));
        assert!(raw.cover(Privileges::NONE) && raw.cover(raw) && !Privileges::NONE.cover(raw));
        assert!(!raw.cover(Privileges(Privileges::NET_ADMIN)));
    }

    #[test]
    fn text_and_name_carry_the_whole_id() {
        let id = id(0, PLACE);
        assert_eq!(EngineId::parse(&id.text()), Ok(id));
        assert_eq!(id.to_string().as_bytes(), id.text());
        assert!(id.name().ends_with(&id.text()));
        assert_eq!(EngineId::from_name(&id.name()), Some(id));
        assert_eq!(EngineId::parse(b"12"), Err(ParseIdError));
        assert_eq!(EngineId::parse(b"00000000000G"), Err(ParseIdError));
    }

    #[test]
    fn this_process_has_an_engine() {
        assert_eq!(EngineId::current(), EngineId::current());
        assert!(EngineId::current().is_ok());
    }
}

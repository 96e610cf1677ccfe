//! What bpf(2) says about programs that are loaded, and about those of a control group; and the one program of ours.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Commands of linux/bpf.h.
const PROG_LOAD: libc::c_long = 5;
const PROG_GET_NEXT_ID: libc::c_long = 11;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
/// BPF_PROG_TYPE_SOCKET_FILTER.
const SOCKET_FILTER: u32 = 1;
/// `r0 = 0; exit`: a filter that lets nothing through.
const DROP_ALL: [u64; 2] = [0xb7, 0x95];
/// Count those of the ancestors too.
const QUERY_EFFECTIVE: u32 = 1;

/// `union bpf_attr`, of which the commands used here need the first 48 bytes.
#[derive(Default)]
#[repr(C, align(8))]
struct Attr([u32; 12]);

impl Attr {
    /// A field of 64 bits.
    fn set_pointer(&mut self, at: usize, pointer: u64) {
        let halves = [pointer as u32, (pointer >> 32) as u32];
        let in_order = if cfg!(target_endian = "little") { [0, 1] } else { [1, 0] };
        self.0[at..at + 2].copy_from_slice(&in_order.map(|half| halves[half]));
    }
}

/// A socket filter that lets nothing through, for SO_ATTACH_BPF: many sockets share it, where each classic filter is compiled for its socket.
/// EPERM without CAP_BPF, where the machine's settings demand that.
pub(super) fn load_drop_all() -> io::Result<OwnedFd> {
    // struct bpf_insn: the operation is its first byte.
    let program = DROP_ALL.map(|operation: u64| {
        if cfg!(target_endian = "little") {
            operation
        } else {
            operation << 56
        }
    });
    let mut attr = Attr::default();
    attr.0[0] = SOCKET_FILTER;
    attr.0[1] = program.len() as u32;
    attr.set_pointer(2, program.as_ptr() as u64);
    attr.set_pointer(4, c"".as_ptr() as u64);
    let fd = bpf(PROG_LOAD, &mut attr)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is writable for its size, and whatever it points at is, for the length that stands beside it: see
    // the callers that pass pointers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut Attr, size_of::<Attr>()) };
    match result {
        0.. => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The types (`enum bpf_prog_type`) of all programs that are loaded on this machine, a bit each; what is beyond 62 is the last bit.
/// ENOSYS: the kernel has no BPF.
pub(super) fn program_types() -> io::Result<u64> {
    let mut types = 0;
    let mut id = 0;
    loop {
        let mut next = Attr::default();
        next.0[0] = id;
        match bpf(PROG_GET_NEXT_ID, &mut next) {
            Ok(_) => id = next.0[1],
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(types),
            Err(e) => return Err(e),
        }
        match program_type(id) {
            Ok(kind) => types |= 1 << kind.min(63),
            // It was unloaded in between.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
}

fn program_type(id: u32) -> io::Result<u32> {
    let mut by_id = Attr::default();
    by_id.0[0] = id;
    let fd = bpf(PROG_GET_FD_BY_ID, &mut by_id)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    // `struct bpf_prog_info` begins with type and id; the kernel fills as much as there is room for.
    let mut info = [0u32; 2];
    let mut about = Attr::default();
    about.0[0] = fd.as_raw_fd() as u32;
    about.0[1] = size_of_val(&info) as u32;
    about.set_pointer(2, info.as_mut_ptr() as u64);
    bpf(OBJ_GET_INFO_BY_FD, &mut about)?;
    Ok(info[0])
}

/// How many programs of an attach type (`enum bpf_attach_type`) run for the control group of this directory.
pub(super) fn attached_to_cgroup(directory: impl AsFd, attach_type: u32) -> io::Result<u32> {
    let mut query = Attr::default();
    query.0[0] = directory.as_fd().as_raw_fd() as u32;
    query.0[1] = attach_type;
    query.0[2] = QUERY_EFFECTIVE;
    // prog_ids stays null: only the number is asked for, which the kernel writes to prog_cnt.
    match bpf(PROG_QUERY, &mut query) {
        Err(e) if e.raw_os_error() != Some(libc::ENOSPC) => Err(e),
        _ => Ok(query.0[6]),
    }
}

//! What bpf(2) says about programs that are loaded, and about those of a control group.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Commands of linux/bpf.h.
const PROG_GET_NEXT_ID: libc::c_long = 11;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
/// Count those of the ancestors too.
const QUERY_EFFECTIVE: u32 = 1;

/// `union bpf_attr`, of which the commands used here need the first 48 bytes.
#[derive(Default)]
#[repr(C, align(8))]
struct Attr([u32; 12]);

fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is writable for its size, and whatever it points at is, for the length that stands beside it: see
    // the one caller that passes a pointer.
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
    let pointer = (info.as_mut_ptr() as u64).to_ne_bytes();
    let mut about = Attr::default();
    about.0[0] = fd.as_raw_fd() as u32;
    about.0[1] = size_of_val(&info) as u32;
    let (low, high) = pointer.split_at(4);
    about.0[2] = u32::from_ne_bytes([low[0], low[1], low[2], low[3]]);
    about.0[3] = u32::from_ne_bytes([high[0], high[1], high[2], high[3]]);
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

//! Control messages (cmsg(3)) as bytes in the kernel's layout, written and read without pointers.

use core::mem::size_of;

/// Length of `struct cmsghdr`: a size_t, level and type.
const HEADER_LEN: usize = size_of::<usize>() + 8;
/// Room for the four messages that a segment takes at most.
const CAPACITY: usize = 128;

const fn align(len: usize) -> usize {
    len.next_multiple_of(size_of::<usize>())
}

/// Control messages to send with one segment.
#[derive(Clone, Copy)]
#[repr(align(8))]
pub(super) struct Control {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl Control {
    /// None.
    pub(super) fn new() -> Control {
        Control {
            bytes: [0; CAPACITY],
            len: 0,
        }
    }

    /// Appends a message whose data are `parts`, one after the other. Beyond the capacity nothing is appended: no
    /// segment has more than four messages of at most 40 bytes.
    pub(super) fn push(&mut self, level: i32, kind: i32, parts: &[&[u8]]) {
        let data_len: usize = parts.iter().map(|part| part.len()).sum();
        let len = HEADER_LEN + data_len;
        let Some(space) = self.bytes.get_mut(self.len..self.len + align(len)) else {
            return;
        };
        let header = [&len.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes()];
        let mut at = 0;
        for part in header.iter().chain(parts) {
            space[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.len += align(len);
    }

    /// Pointer and length for a message header. The pointer is valid while `self` stays where it is.
    pub(super) fn as_ptr(&mut self) -> (*mut core::ffi::c_void, usize) {
        (self.bytes.as_mut_ptr().cast(), self.len)
    }
}

/// Reads control messages as (level, type, data) and stops at the first that is not whole.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    core::iter::from_fn(move || {
        let len = usize::from_ne_bytes(bytes.get(..size_of::<usize>())?.try_into().ok()?);
        let level = int(bytes, size_of::<usize>())?;
        let kind = int(bytes, size_of::<usize>() + 4)?;
        let data = bytes.get(HEADER_LEN..len)?;
        bytes = bytes.get(align(len)..).unwrap_or(&[]);
        Some((level, kind, data))
    })
}

/// The native int at an offset.
pub(super) fn int(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_read_again() {
        let mut control = Control::new();
        control.push(1, 2, &[&[3, 4], &[5]]);
        control.push(6, 7, &[&8i32.to_ne_bytes()]);
        let read: Vec<_> = messages(&control.bytes[..control.len]).collect();
        assert_eq!(read, [(1, 2, &[3u8, 4, 5][..]), (6, 7, &8i32.to_ne_bytes()[..])]);
        assert_eq!(control.len % size_of::<usize>(), 0);
    }

    #[test]
    fn lengths_that_lie_end_the_list() {
        for bad_len in [0usize, HEADER_LEN - 1, 4096, usize::MAX] {
            let mut bytes = vec![0u8; 64];
            bytes[..size_of::<usize>()].copy_from_slice(&bad_len.to_ne_bytes());
            assert_eq!(messages(&bytes).count(), 0, "{bad_len}");
        }
        assert_eq!(messages(&[1, 2, 3]).count(), 0);
    }
}

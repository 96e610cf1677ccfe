//! What an executable file says about whether LD_PRELOAD reaches it. Reads the ELF header and the program headers, nothing else.
//!
//! Any bytes are fine: what cannot be read says nothing.

/// What a program file is, as far as preloading cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Needs the dynamic linker, which preloads.
    Dynamic,
    /// No dynamic linker: nothing is preloaded.
    Static,
    /// Made by Go, whose programs make their system calls without libc.
    Go,
    /// For another kind of machine than this library: the dynamic linker refuses to preload it.
    Foreign,
    /// No ELF file.
    Other,
}

const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const ELFCLASS64: u8 = 2;
const ELFDATA2LSB: u8 = 1;
/// A note of Go's linker: size of its name, any size, its build id's type, its name.
const GO_NOTE_NAME: &[u8] = b"Go\0\0";

/// Looks at a whole file.
pub fn kind(file: &[u8]) -> Kind {
    if !file.starts_with(b"\x7fELF") {
        return Kind::Other;
    }
    let machine = u16_at(file, 18);
    if file.get(4) != Some(&ELFCLASS64) || file.get(5) != Some(&ELFDATA2LSB) || machine != Some(own_machine()) {
        return Kind::Foreign;
    }
    let headers = program_headers(file);
    if headers.iter().any(|header| is_go_note(file, header)) {
        return Kind::Go;
    }
    match headers.iter().any(|header| header.kind == PT_INTERP) {
        true => Kind::Dynamic,
        false => Kind::Static,
    }
}

/// e_machine of this program: EM_X86_64 or EM_AARCH64.
const fn own_machine() -> u16 {
    if cfg!(target_arch = "aarch64") {
        183
    } else {
        62
    }
}

struct ProgramHeader {
    kind: u32,
    offset: usize,
    len: usize,
}

fn program_headers(file: &[u8]) -> Vec<ProgramHeader> {
    let (Some(start), Some(size), Some(count)) = (usize_at(file, 32), u16_at(file, 54), u16_at(file, 56)) else {
        return Vec::new();
    };
    let header = |index: u16| {
        let at = start.checked_add(usize::from(size) * usize::from(index))?;
        Some(ProgramHeader {
            kind: u32_at(file, at)?,
            offset: usize_at(file, at.checked_add(8)?)?,
            len: usize_at(file, at.checked_add(32)?)?,
        })
    };
    (0..count).map_while(header).collect()
}

/// Go's linker puts its note first in a segment.
fn is_go_note(file: &[u8], header: &ProgramHeader) -> bool {
    let end = header.offset.saturating_add(header.len).min(file.len());
    let note = file.get(header.offset..end).unwrap_or_default();
    header.kind == PT_NOTE && u32_at(note, 0) == Some(4) && note.get(12..16) == Some(GO_NOTE_NAME)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(bytes_at(bytes, at)?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with these program headers: type and content.
    fn elf(segments: &[(u32, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 * segments.len()];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&own_machine().to_le_bytes());
        file[32] = 64;
        file[54] = 56;
        file[56] = segments.len() as u8;
        for (index, (kind, content)) in segments.iter().enumerate() {
            let (at, offset) = (64 + 56 * index, file.len() as u64);
            file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
            file[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
            file[at + 32..at + 40].copy_from_slice(&(content.len() as u64).to_le_bytes());
            file.extend_from_slice(content);
        }
        file
    }

    const GO_NOTE: &[u8] = b"\x04\0\0\0\x02\0\0\0\x04\0\0\0Go\0\0id";

    #[test]
    fn kinds_are_told_apart() {
        let interp: (u32, &[u8]) = (PT_INTERP, b"/lib/ld.so\0");
        assert_eq!(kind(&elf(&[interp])), Kind::Dynamic);
        assert_eq!(kind(&elf(&[(1, b"code")])), Kind::Static);
        assert_eq!(kind(&elf(&[(PT_NOTE, GO_NOTE)])), Kind::Go);
        assert_eq!(kind(&elf(&[interp, (PT_NOTE, GO_NOTE)])), Kind::Go);
        assert_eq!(kind(b"#!/bin/sh\n"), Kind::Other);
        let mut foreign = elf(&[interp]);
        foreign[4] = 1;
        assert_eq!(kind(&foreign), Kind::Foreign);
    }

    #[test]
    fn this_test_is_dynamic() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(kind(&own), Kind::Dynamic);
    }

    #[test]
    fn torn_files_say_something_and_never_panic() {
        let whole = elf(&[(PT_INTERP, b"/lib/ld.so\0"), (PT_NOTE, GO_NOTE)]);
        for len in 0..whole.len() {
            kind(&whole[..len]);
        }
        let mut wild = whole;
        wild[32..40].fill(0xff);
        assert_eq!(kind(&wild), Kind::Static);
    }
}

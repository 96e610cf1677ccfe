//! Which files count: regular ones of the reader's user or root, of a bounded length. The engine and `mptcp config check` read them here, so that
//! what the one ignores the other names.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A longer file is none of ours.
pub const FILE_LEN_MAX: u64 = 256 << 10;

/// Device, inode, length and time of change: while they are the same, the file is.
pub type Stamp = (u64, u64, u64, i64, i64);

/// A file's text, and what it was read from.
///
/// # Errors
/// Those of open(2) and read(2); InvalidData, with the reason, for a file that does not count, or is not UTF-8.
pub fn read(path: &Path) -> io::Result<(Stamp, String)> {
    // Whoever may write in the directory can put a FIFO there, on which an ordinary open() would wait.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let stamp = stamp(&file.metadata()?)?;
    Ok((stamp, text(file)?))
}

/// Of a file that counts.
///
/// # Errors
/// InvalidData, with the reason, for one that does not.
pub fn stamp(data: &Metadata) -> io::Result<Stamp> {
    let ours = data.uid() == rustix::process::geteuid().as_raw() || data.uid() == 0;
    let why = match () {
        () if !data.is_file() => "is no regular file, and not used",
        () if !ours => "belongs to another user, and is not used",
        () if data.len() > FILE_LEN_MAX => "is longer than 256 KiB, and not used",
        () => return Ok((data.dev(), data.ino(), data.len(), data.ctime(), data.ctime_nsec())),
    };
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

fn text(file: File) -> io::Result<String> {
    let mut text = String::new();
    file.take(FILE_LEN_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_regular_files_of_ours_count_and_nothing_waits() {
        let directory = std::env::temp_dir().join(format!("mptcp-config-file-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let named = |name: &str| directory.join(name);
        fs::write(named("good"), "fate = true\n").unwrap();
        fs::write(named("long"), " ".repeat(FILE_LEN_MAX as usize + 1)).unwrap();
        fs::write(named("binary"), [0xff, 0xfe, 0]).unwrap();
        std::os::unix::fs::symlink("loop", named("loop")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            named("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(read(&named("good")).unwrap().1, "fate = true\n");
        for name in ["long", "binary", "fifo", "."] {
            let error = read(&named(name)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{name}: {error}");
        }
        assert_eq!(read(&named("loop")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(
            read(Path::new("/dev/zero")).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        fs::remove_dir_all(&directory).unwrap();
    }
}

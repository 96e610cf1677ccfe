//! What the shim knows about its program, read once by the constructor: afterwards the environment may change under another thread's hands,
//! and a chroot may hide /proc and the library.

use crate::control::{loopback_wanted, Cgroup, PROGRAM_MAX, SETTINGS_MAX};
use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};

/// Longest path of the library or the dynamic linker, bytes with the ending NUL.
const PATH_LEN_MAX: usize = 1024;

/// A C string of bounded length.
pub struct Path {
    bytes: [u8; PATH_LEN_MAX],
    len: usize,
}

impl Path {
    /// Not known.
    pub const EMPTY: Path = Path {
        bytes: [0; PATH_LEN_MAX],
        len: 0,
    };

    /// Appends; false, and empty from then on, when it does not fit or holds a NUL.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let fits = self.len + bytes.len() < PATH_LEN_MAX && !bytes.contains(&0);
        if fits {
            self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
            self.len += bytes.len();
        } else {
            *self = Path::EMPTY;
        }
        fits
    }

    /// None when it is not known.
    pub fn get(&self) -> Option<&CStr> {
        match self.len {
            0 => None,
            len => CStr::from_bytes_with_nul(&self.bytes[..=len]).ok(),
        }
    }
}

/// What is known from the start.
pub struct Config {
    /// MPTCP=off: everything is the kernel's.
    pub off: bool,
    /// MPTCP_LISTEN=off: listening sockets are the kernel's.
    pub listen_off: bool,
    /// MPTCP_LOOPBACK=1: this host's connections to itself are carried too.
    pub loopback: bool,
    /// User namespace and cgroup, if /proc told.
    pub place: Option<Cgroup>,
    /// libmptcp.so, absolute.
    pub library: Path,
    /// The dynamic linker of this process, for a library that is not executable.
    pub linker: Path,
    program: [u8; PROGRAM_MAX],
    settings: [u8; SETTINGS_MAX],
    settings_len: usize,
}

impl Config {
    /// Nothing known.
    pub const EMPTY: Config = Config {
        off: false,
        listen_off: false,
        loopback: false,
        place: None,
        library: Path::EMPTY,
        linker: Path::EMPTY,
        program: [0; PROGRAM_MAX],
        settings: [0; SETTINGS_MAX],
        settings_len: 0,
    };

    /// The program's name as the kernel keeps it, without the ending NULs.
    pub fn program(&self) -> &[u8] {
        let len = self.program.iter().position(|&b| b == 0).unwrap_or(PROGRAM_MAX);
        &self.program[..len]
    }

    /// Sets the program's name, cut to what fits.
    pub fn set_program(&mut self, name: &[u8]) {
        let len = name.len().min(PROGRAM_MAX);
        self.program[..len].copy_from_slice(&name[..len]);
    }

    /// The MPTCP_* environment, each variable ended by NUL: what a Connect request carries, and the engine's environment.
    pub fn settings(&self) -> &[u8] {
        &self.settings[..self.settings_len]
    }

    /// Takes one `NAME=value` of the environment; what does not fit is left out.
    pub fn take_variable(&mut self, variable: &[u8]) {
        match variable.strip_prefix(b"MPTCP") {
            Some(rest) if rest.starts_with(b"_") => {
                if let Some(value) = rest.strip_prefix(b"_LISTEN") {
                    self.listen_off |= is_off(value);
                }
                self.loopback |= loopback_wanted(variable);
                let end = self.settings_len + variable.len();
                if end < SETTINGS_MAX {
                    self.settings[self.settings_len..end].copy_from_slice(variable);
                    self.settings[end] = 0;
                    self.settings_len = end + 1;
                }
            }
            Some(value) => {
                self.off |= is_off(value);
            }
            None => {}
        }
    }

    /// Names the user's configuration file to the engine, which cannot know it: `MPTCP_CONFIG`, unless the environment has that. `xdg` is
    /// XDG_CONFIG_HOME, `home` HOME.
    pub fn take_user_file(&mut self, xdg: &Path, home: &Path) {
        const NAME: &[u8] = b"MPTCP_CONFIG=";
        if self.setting(b"MPTCP_CONFIG").is_some() {
            return;
        }
        let (directory, rest): (_, &[u8]) = match (xdg.get(), home.get()) {
            (Some(xdg), _) => (xdg, b"/mptcp.toml"),
            (None, Some(home)) => (home, b"/.config/mptcp.toml"),
            (None, None) => return,
        };
        let mut variable = Path::EMPTY;
        if [NAME, directory.to_bytes(), rest]
            .iter()
            .all(|part| variable.push(part))
        {
            if let Some(variable) = variable.get() {
                self.take_variable(variable.to_bytes());
            }
        }
    }

    /// The value of a setting.
    pub fn setting(&self, name: &[u8]) -> Option<&[u8]> {
        self.settings()
            .split(|&b| b == 0)
            .find_map(|s| s.strip_prefix(name)?.strip_prefix(b"="))
    }
}

/// What switches something off, the equals sign included.
fn is_off(value: &[u8]) -> bool {
    [&b"=off"[..], b"=0", b"=no"]
        .iter()
        .any(|off| value.eq_ignore_ascii_case(off))
}

struct Cell(UnsafeCell<Config>);

// SAFETY: written once, before `READY` is set with release ordering, and only read after `READY` was seen with acquire ordering.
unsafe impl Sync for Cell {}

static CONFIG: Cell = Cell(UnsafeCell::new(Config::EMPTY));
static EMPTY: Config = Config::EMPTY;
static READY: AtomicBool = AtomicBool::new(false);

/// Fills the configuration, once, from the constructor.
pub fn set(fill: impl FnOnce(&mut Config)) {
    if !READY.load(Ordering::Acquire) {
        // SAFETY: the only writer: the constructor runs once, on one thread, and readers wait for `READY`.
        fill(unsafe { &mut *CONFIG.0.get() });
        READY.store(true, Ordering::Release);
    }
}

/// The configuration; an empty one before the constructor has run.
pub fn get() -> &'static Config {
    if READY.load(Ordering::Acquire) {
        // SAFETY: nobody writes after `READY`.
        unsafe { &*CONFIG.0.get() }
    } else {
        &EMPTY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_becomes_settings() {
        let mut config = Config::EMPTY;
        for v in [
            "PATH=/bin",
            "MPTCP_PATHS=eth0",
            "MPTCPX=1",
            "MPTCP_LOG=info",
            "MPTCP=on",
        ] {
            config.take_variable(v.as_bytes());
        }
        assert_eq!(config.settings(), b"MPTCP_PATHS=eth0\0MPTCP_LOG=info\0");
        assert_eq!(config.setting(b"MPTCP_LOG"), Some(&b"info"[..]));
        assert_eq!(config.setting(b"MPTCP_PATH"), None);
        assert!(!config.off);
        config.take_variable(b"MPTCP=OFF");
        assert!(config.off);
        config.take_variable(b"MPTCP_LOOPBACK=0");
        assert!(!config.loopback);
        config.take_variable(b"MPTCP_LOOPBACK=1");
        assert!(config.loopback);
    }

    #[test]
    fn the_users_file_is_named_unless_the_environment_does() {
        let path = |text: &[u8]| {
            let mut path = Path::EMPTY;
            assert!(text.is_empty() || path.push(text));
            path
        };
        let named = |variable: &[u8], xdg: &[u8], home: &[u8]| {
            let mut config = Config::EMPTY;
            config.take_variable(variable);
            config.take_user_file(&path(xdg), &path(home));
            config
                .setting(b"MPTCP_CONFIG")
                .map(|file| String::from_utf8_lossy(file).into_owned())
        };
        assert_eq!(
            named(b"", b"", b"/home/a").as_deref(),
            Some("/home/a/.config/mptcp.toml")
        );
        assert_eq!(named(b"", b"/c", b"/home/a").as_deref(), Some("/c/mptcp.toml"));
        assert_eq!(named(b"MPTCP_CONFIG=none", b"/c", b"/home/a").as_deref(), Some("none"));
        assert_eq!(named(b"", b"", b""), None);
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole() {
        let mut config = Config::EMPTY;
        let long = [b"MPTCP_LONG=".as_slice(), &[b'x'; SETTINGS_MAX]].concat();
        config.take_variable(&long);
        config.take_variable(b"MPTCP_A=1");
        assert_eq!(config.settings(), b"MPTCP_A=1\0");
        let mut path = Path::EMPTY;
        assert!(path.push(b"/lib/x.so"));
        assert_eq!(path.get(), Some(c"/lib/x.so"));
        assert!(!path.push(&[b'y'; PATH_LEN_MAX]));
        assert_eq!(path.get(), None);
    }
}

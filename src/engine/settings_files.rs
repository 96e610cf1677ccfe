//! The configuration files (`crate::config`) as the engine sees them: read when a connection begins, and again when they have changed.
//!
//! A file counts when it belongs to the engine's user or root: nobody steers another one's connections. One with errors says nothing, as a
//! whole: the log names them, and so does `mptcp config check`.

use crate::config::{Config, Subject, SYSTEM_FILE};
use crate::control::setting;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A longer file is none of ours.
const FILE_LEN_MAX: u64 = 256 << 10;
/// Files that are remembered: programs may name others.
const FILES_MAX: usize = 16;

/// Device, inode, length and time of change, or nothing for a file that is not there.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// What was read.
#[derive(Default)]
pub struct SettingsFiles {
    known: HashMap<PathBuf, (Stamp, Config)>,
}

impl SettingsFiles {
    /// The settings of a request with those of the files behind them: what the program's variables say comes first, and counts.
    /// `MPTCP_CONFIG` names the user's file, or `none`: then no file is read.
    pub fn complete(&mut self, settings: &[u8], program: &[u8], remote: Option<SocketAddr>) -> Vec<u8> {
        let program = String::from_utf8_lossy(program);
        let subject = Subject {
            program: &program,
            remote,
        };
        let user = setting(settings, "MPTCP_CONFIG").unwrap_or_default();
        let user = std::str::from_utf8(user).unwrap_or_default();
        let mut said = Vec::new();
        if user != "none" {
            for file in [SYSTEM_FILE, user] {
                if file.starts_with('/') {
                    self.read(Path::new(file)).apply(&subject, &mut said);
                }
            }
        }
        let mut all = settings.to_vec();
        for (name, value) in said.iter().filter(|(name, _)| setting(settings, name).is_none()) {
            all.extend(format!("{name}={value}\0").bytes());
        }
        all
    }

    fn read(&mut self, path: &Path) -> &Config {
        let stamp = stamp(path);
        let fresh = self.known.get(path).is_none_or(|(known, _)| *known != stamp);
        if fresh {
            if self.known.len() >= FILES_MAX {
                self.known.clear();
            }
            let config = stamp.map(|_| load(path)).unwrap_or_default();
            self.known.insert(path.to_owned(), (stamp, config));
        }
        // Just put there, or found there.
        &self.known.entry(path.to_owned()).or_default().1
    }
}

fn stamp(path: &Path) -> Stamp {
    let data = fs::metadata(path).ok()?;
    let ours = data.uid() == rustix::process::geteuid().as_raw() || data.uid() == 0;
    let fits = data.is_file() && data.len() <= FILE_LEN_MAX && ours;
    fits.then(|| (data.dev(), data.ino(), data.len(), data.ctime(), data.ctime_nsec()))
}

fn load(path: &Path) -> Config {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_LEN_MAX).read_to_string(&mut text));
    if let Err(error) = read {
        log::warn!("{}: {error}", path.display());
        return Config::default();
    }
    Config::parse(&text).unwrap_or_else(|problems| {
        for problem in problems {
            log::warn!("{}:{problem}; the file is not used", path.display());
        }
        Config::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_when_it_changes_and_variables_overrule_it() {
        let path = std::env::temp_dir().join(format!("mptcp-settings-{}.toml", std::process::id()));
        let variables = format!("MPTCP_FATE=off\0MPTCP_CONFIG={}\0", path.display());
        let mut files = SettingsFiles::default();
        let mut said = |name: &str| {
            let all = files.complete(variables.as_bytes(), b"curl", None);
            setting(&all, name).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        assert_eq!(said("MPTCP_INTENT"), None, "no file");
        fs::write(&path, "intent = \"handover\"\nfate = true\n").unwrap();
        assert_eq!(said("MPTCP_INTENT").as_deref(), Some("handover"));
        assert_eq!(said("MPTCP_FATE").as_deref(), Some("off"), "the variable");
        fs::write(&path, "intent = \"interactive\"\n").unwrap();
        assert_eq!(said("MPTCP_INTENT").as_deref(), Some("interactive"));
        fs::write(&path, "intent = \"fast\"\n").unwrap();
        assert_eq!(said("MPTCP_INTENT"), None, "with errors it says nothing");
        fs::remove_file(&path).unwrap();
        assert_eq!(said("MPTCP_INTENT"), None);
    }
}

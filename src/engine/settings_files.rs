//! The configuration files (`crate::config`) as the engine sees them: read when a connection begins, and again when they have changed.
//!
//! A file counts when it belongs to the engine's user or root (`config::file`): nobody steers another one's connections. One with errors says nothing, as a
//! whole: the log names them, and so does `mptcp config check`.

use crate::config::file::{self, Stamp};
use crate::config::{Config, Subject, SYSTEM_FILE};
use crate::control::setting;
use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Files that are remembered: programs may name others.
const FILES_MAX: usize = 16;

/// What was read.
#[derive(Default)]
pub struct SettingsFiles {
    known: HashMap<PathBuf, (Option<Stamp>, Config)>,
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
            let read = stamp.map(|_| load(path)).unwrap_or_default();
            self.known.insert(path.to_owned(), read);
        }
        // Just put there, or found there.
        &self.known.entry(path.to_owned()).or_default().1
    }
}

/// None of a file that is not there, or does not count.
fn stamp(path: &Path) -> Option<Stamp> {
    file::stamp(&fs::metadata(path).ok()?).ok()
}

/// A file may be another one by now than the one whose stamp was taken: what counts is that of the text.
fn load(path: &Path) -> (Option<Stamp>, Config) {
    let (stamp, text) = match file::read(path) {
        Ok((stamp, text)) => (Some(stamp), text),
        Err(error) => {
            log::warn!("{}: {error}", path.display());
            return (stamp(path), Config::default());
        }
    };
    let config = Config::parse(&text).unwrap_or_else(|problems| {
        for problem in problems {
            log::warn!("{}:{problem}; the file is not used", path.display());
        }
        Config::default()
    });
    (stamp, config)
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

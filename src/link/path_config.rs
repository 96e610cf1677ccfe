//! `MPTCP_PATHS`: interfaces that the user names, such as `eth0,wlan0:backup,-docker0`.
//!
//! `NAME` uses an interface, whatever the routing policy says; `NAME:backup` asks the peer to use it only when nothing
//! else works; `-NAME` leaves it out. When at least one is named to be used, no other one is, except that the first
//! subflow always follows the kernel's routing. `NAME:standby` names none for use: where the automatic choice takes the
//! interface, it is for backup.

use super::sources::Sources;
use core::fmt;

/// IFNAMSIZ of linux/if.h, without the final zero.
const NAME_LEN_MAX: usize = 15;

/// What the user says about paths. The default says nothing: automatic choice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PathConfig {
    named: Vec<Named>,
    excluded: Vec<String>,
    standby: Vec<String>,
    /// What the program says by socket options, beside the user's variable.
    pub sources: Sources,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Named {
    name: String,
    backup: bool,
}

/// What is wrong with a word of `MPTCP_PATHS`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathConfigError {
    word: String,
    problem: Problem,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Problem {
    Empty,
    BadName,
    UnknownSuffix,
    SuffixOnExcluded,
    Twice,
}

impl PathConfig {
    /// Reads a comma-separated list; spaces around words are allowed, and an empty text is the automatic choice.
    pub fn parse(text: &str) -> Result<PathConfig, PathConfigError> {
        let mut config = PathConfig::default();
        if text.trim().is_empty() {
            return Ok(config);
        }
        for word in text.split(',') {
            config.add(word.trim()).map_err(|problem| PathConfigError {
                word: word.trim().to_owned(),
                problem,
            })?;
        }
        Ok(config)
    }

    fn add(&mut self, word: &str) -> Result<(), Problem> {
        let (excluded, rest) = match word.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, word),
        };
        let (name, suffix) = match rest.split_once(':') {
            Some((name, suffix)) => (name, Some(suffix)),
            None => (rest, None),
        };
        if word.is_empty() {
            return Err(Problem::Empty);
        }
        let never = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > NAME_LEN_MAX || name.contains(never) {
            return Err(Problem::BadName);
        }
        if self.excludes(name) || self.named().any(|n| n == name) || self.standby.iter().any(|n| n == name) {
            return Err(Problem::Twice);
        }
        match (excluded, suffix) {
            (true, None) => self.excluded.push(name.to_owned()),
            (false, Some("standby")) => self.standby.push(name.to_owned()),
            (true, Some(_)) => return Err(Problem::SuffixOnExcluded),
            (false, None | Some("backup")) => self.named.push(Named {
                name: name.to_owned(),
                backup: suffix.is_some(),
            }),
            (false, Some(_)) => return Err(Problem::UnknownSuffix),
        }
        Ok(())
    }

    /// At least one interface is named to be used.
    pub fn names_interfaces(&self) -> bool {
        !self.named.is_empty()
    }

    /// Names of those to be used, in order.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(|n| n.name.as_str())
    }

    /// `name` is left out.
    pub fn excludes(&self, name: &str) -> bool {
        self.excluded.iter().any(|e| e == name)
    }

    /// `name` may be used as far as this configuration is concerned.
    pub fn leaves(&self, name: &str) -> bool {
        !self.excludes(name) && (!self.names_interfaces() || self.named().any(|n| n == name))
    }

    /// `name` is for backup.
    pub fn is_backup(&self, name: &str) -> bool {
        self.standby.iter().any(|n| n == name) || self.named.iter().any(|n| n.name == name && n.backup)
    }
}

impl fmt::Display for PathConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.problem {
            Problem::Empty => "an interface name is missing between the commas",
            Problem::BadName => "this is not an interface name (1 to 15 characters, no '/' and no space)",
            Problem::UnknownSuffix => "only ':backup' or ':standby' may follow a name",
            Problem::SuffixOnExcluded => "nothing may follow the name of an interface that is left out",
            Problem::Twice => "this interface is listed twice",
        };
        write!(f, "MPTCP_PATHS: \"{}\": {why}", self.word)
    }
}

impl std::error::Error for PathConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_backups_and_exclusions() {
        let config = PathConfig::parse("eth0, wlan0:backup ,-docker0").unwrap();
        assert_eq!(config.named().collect::<Vec<_>>(), ["eth0", "wlan0"]);
        assert!(config.names_interfaces() && config.is_backup("wlan0") && !config.is_backup("eth0"));
        assert!(config.excludes("docker0") && !config.excludes("eth0"));
    }

    #[test]
    fn standby_marks_and_does_not_restrict() {
        let config = PathConfig::parse("wwan0:standby").unwrap();
        assert!(config.is_backup("wwan0") && config.leaves("wwan0") && config.leaves("eth0"));
        assert!(!config.names_interfaces());
        assert!(PathConfig::parse("wwan0:standby,wwan0").is_err());
    }

    #[test]
    fn nothing_and_exclusions_alone_leave_the_choice_automatic() {
        assert_eq!(PathConfig::parse(" ").unwrap(), PathConfig::default());
        assert!(!PathConfig::parse("-docker0").unwrap().names_interfaces());
    }

    #[test]
    fn errors_name_the_word_and_the_reason() {
        for (text, word, why) in [
            ("eth0,,wlan0", "\"\"", "missing"),
            ("eth0,", "\"\"", "missing"),
            ("eth0,-", "\"-\"", "not an interface name"),
            ("a/b", "\"a/b\"", "not an interface name"),
            ("wlan 0", "\"wlan 0\"", "not an interface name"),
            ("sixteencharacter", "\"sixteencharacter\"", "not an interface name"),
            ("eth0:back", "\"eth0:back\"", "only ':backup'"),
            ("-eth0:backup", "\"-eth0:backup\"", "nothing may follow"),
            ("eth0,-eth0", "\"-eth0\"", "twice"),
        ] {
            let message = PathConfig::parse(text).unwrap_err().to_string();
            assert!(message.contains(word) && message.contains(why), "{text}: {message}");
        }
    }
}

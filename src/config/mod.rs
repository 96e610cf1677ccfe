//! The configuration files: `/etc/mptcp.toml`, then `~/.config/mptcp.toml`. What they say are settings by other means: each becomes the variable of
//! the same meaning, for programs and destinations that a rule names. Pure, but for `file`.
//!
//! The engine reads them, for each connection, and not the program's process: there the parser would be weight, its memory somebody else's, and a
//! change would not be seen before the program starts again. Two system calls find that a file is what it was.
//!
//! ```toml
//! intent = "aggregate"            # for every connection
//!
//! [interface.wwan0]
//! use = "standby"                 # or "never"
//!
//! [[rule]]
//! program = ["ssh", "mosh-client"]
//! intent = "interactive"
//!
//! [[rule]]
//! destination = "192.0.2.0/24"    # or addresses, or a list of both
//! port = 443
//! multipath = false
//! ```
//!
//! What stands at the top holds for all, then each rule that fits, in order; a later one overrules an earlier one key by key, the user's file the
//! system's, and a variable of the program's both.
//!
//! Not here: what the shim decides before it asks the engine (`MPTCP_LOG`, and the heuristics `-buffers` and `-bound`): those are variables only.

pub mod file;
mod keys;
mod parse;
#[cfg(test)]
mod tests;

pub use keys::{parse_intent, parse_join, JOIN_BYTES};
pub use parse::Problem;

use core::net::{IpAddr, SocketAddr};
use std::fmt;

/// The file for all users.
pub const SYSTEM_FILE: &str = "/etc/mptcp.toml";

/// One file's content.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    general: Settings,
    rules: Vec<Rule>,
    /// Words for `MPTCP_PATHS`.
    interfaces: Vec<String>,
}

/// Variables and their values.
type Settings = Vec<(&'static str, String)>;

/// Settings for some connections.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Rule {
    programs: Vec<String>,
    destinations: Vec<Network>,
    ports: Vec<u16>,
    settings: Settings,
}

/// An address with the number of bits that count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Network {
    address: IpAddr,
    prefix_len: u8,
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match len {
            None => most,
            Some(len) => len.parse().ok().filter(|len| *len <= most)?,
        };
        Some(Network { address, prefix_len })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let differs = match (self.address, ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return false,
        };
        differs >= u32::from(self.prefix_len)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// Whose connection it is: what rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The program's name as the kernel keeps it, at most 15 bytes.
    pub program: &'a str,
    /// Where it connects to; None for one that listens.
    pub remote: Option<SocketAddr>,
}

impl Rule {
    fn fits(&self, subject: &Subject<'_>) -> bool {
        let program = self.programs.is_empty() || self.programs.iter().any(|name| name == subject.program);
        let Some(remote) = subject.remote else {
            return program && self.destinations.is_empty() && self.ports.is_empty();
        };
        let destination = self.destinations.is_empty() || self.destinations.iter().any(|n| n.contains(remote.ip()));
        program && destination && (self.ports.is_empty() || self.ports.contains(&remote.port()))
    }
}

impl Config {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Everything that is wrong with it, in order of lines.
    pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
        parse::parse(text)
    }

    /// Adds to `settings` what this file says of a connection, overruling what is there.
    pub fn apply(&self, subject: &Subject<'_>, settings: &mut Vec<(String, String)>) {
        let fitting = self.rules.iter().filter(|rule| rule.fits(subject));
        let said = self.general.iter().chain(fitting.flat_map(|rule| &rule.settings));
        for (name, value) in said {
            set(settings, name, value.clone());
        }
        if !self.interfaces.is_empty() {
            let before = settings.iter().find(|(name, _)| name == "MPTCP_PATHS");
            let mut all: Vec<&str> = before.iter().flat_map(|(_, value)| value.split(',')).collect();
            for word in &self.interfaces {
                // An interface that was spoken of already, by a list of paths or another file, stays as that says.
                if !all.iter().any(|known| interface_of(known) == interface_of(word)) {
                    all.push(word);
                }
            }
            let all = all.join(",");
            set(settings, "MPTCP_PATHS", all);
        }
    }

    /// What the file says, a line for each thing.
    pub fn explain(&self) -> Vec<String> {
        let list = |settings: &Settings| {
            let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
            settings.join(", ")
        };
        let mut lines = Vec::new();
        if !self.general.is_empty() {
            lines.push(format!("every connection: {}", list(&self.general)));
        }
        for word in &self.interfaces {
            lines.push(match word.strip_prefix('-') {
                Some(name) => format!("interface {name}: never used"),
                None => format!(
                    "interface {}: only when nothing else works",
                    word.trim_end_matches(":standby")
                ),
            });
        }
        for rule in &self.rules {
            let mut who = Vec::new();
            if !rule.programs.is_empty() {
                who.push(format!("programs {}", rule.programs.join(", ")));
            }
            if !rule.destinations.is_empty() {
                let networks: Vec<String> = rule.destinations.iter().map(Network::to_string).collect();
                who.push(format!("destinations {}", networks.join(", ")));
            }
            if !rule.ports.is_empty() {
                let ports: Vec<String> = rule.ports.iter().map(u16::to_string).collect();
                who.push(format!("ports {}", ports.join(", ")));
            }
            lines.push(format!("{}: {}", who.join("; "), list(&rule.settings)));
        }
        lines
    }
}

/// The name in a word of `MPTCP_PATHS`.
fn interface_of(word: &str) -> &str {
    let word = word.trim().trim_start_matches('-');
    word.split(':').next().unwrap_or(word)
}

fn set(settings: &mut Vec<(String, String)>, name: &str, value: String) {
    match settings.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => settings.push((name.to_owned(), value)),
    }
}

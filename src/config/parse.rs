//! From a file's text to [`Config`]; every complaint names line and key.

use super::keys::KEYS;
use super::{Config, Network, Rule, Settings};
use core::fmt;
use core::ops::Range;
use toml::de::{DeTable, DeValue};
use toml::Spanned;

/// A program's name as the kernel keeps it has no more bytes.
const PROGRAM_LEN_MAX: usize = 15;
/// IFNAMSIZ of linux/if.h, without the final zero.
const INTERFACE_LEN_MAX: usize = 15;

/// Something that is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Its line, from 1.
    pub line: usize,
    /// The key, with those around it; empty where the text is no TOML.
    pub key: String,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.line, self.why),
            key => write!(f, "{}: {key}: {}", self.line, self.why),
        }
    }
}

/// Reads a file's text.
pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            return Err(vec![Problem {
                line: line_of(text, at),
                key: String::new(),
                why: error.message().to_owned(),
            }]);
        }
    };
    let mut reader = Reader {
        text,
        config: Config::default(),
        problems: Vec::new(),
    };
    reader.file(&table);
    reader.problems.sort_by_key(|problem| problem.line);
    match reader.problems.is_empty() {
        true => Ok(reader.config),
        false => Err(reader.problems),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|&&b| b == b'\n').count()
}

struct Reader<'a> {
    text: &'a str,
    config: Config,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn complain(&mut self, at: Range<usize>, key: &str, why: impl Into<String>) {
        self.problems.push(Problem {
            line: line_of(self.text, at.start),
            key: key.to_owned(),
            why: why.into(),
        });
    }

    fn file(&mut self, table: &DeTable<'_>) {
        for (key, value) in table.iter() {
            match key.get_ref().as_ref() {
                "rule" => self.rules(value),
                "interface" => self.interfaces(value),
                name => {
                    let mut settings = core::mem::take(&mut self.config.general);
                    self.setting(&mut settings, key.span(), name, "", value);
                    self.config.general = settings;
                }
            }
        }
    }

    /// One key that sets something.
    fn setting(
        &mut self,
        settings: &mut Settings,
        at: Range<usize>,
        name: &str,
        around: &str,
        value: &Spanned<DeValue<'_>>,
    ) {
        let full = format!("{around}{name}");
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            let known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
            return self.complain(
                at,
                &full,
                format!("there is no such key; there are {}", known.join(", ")),
            );
        };
        match (key.value)(value.get_ref()) {
            Ok(value) => settings.push((key.variable, value)),
            Err(why) => self.complain(value.span(), &full, why),
        }
    }

    fn rules(&mut self, value: &Spanned<DeValue<'_>>) {
        let Some(rules) = value.get_ref().as_array() else {
            return self.complain(value.span(), "rule", "begins with [[rule]], in double brackets");
        };
        for rule in rules.iter() {
            match rule.get_ref().as_table() {
                Some(table) => self.rule(rule.span(), table),
                None => self.complain(rule.span(), "rule", "is a table: [[rule]], and keys below"),
            }
        }
    }

    fn rule(&mut self, at: Range<usize>, table: &DeTable<'_>) {
        let mut rule = Rule::default();
        for (key, value) in table.iter() {
            match key.get_ref().as_ref() {
                "program" => rule.programs = self.programs(value),
                "destination" => rule.destinations = self.destinations(value),
                "port" => rule.ports = self.ports(value),
                name => self.setting(&mut rule.settings, key.span(), name, "rule.", value),
            }
        }
        let conditions = ["program", "destination", "port"];
        if !table.keys().any(|key| conditions.contains(&key.get_ref().as_ref())) {
            self.complain(at, "rule", "has no condition: program, destination or port");
        } else if table.keys().all(|key| conditions.contains(&key.get_ref().as_ref())) {
            self.complain(at, "rule", "sets nothing");
        }
        self.config.rules.push(rule);
    }

    fn programs(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<String> {
        self.texts(value, "rule.program", |text| match text.len() {
            1..=PROGRAM_LEN_MAX if !text.contains('/') => Ok(text.to_owned()),
            _ => Err(format!(
                "\"{text}\" is not a program's name: 1 to {PROGRAM_LEN_MAX} bytes without directory, as ps(1) shows it"
            )),
        })
    }

    fn destinations(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Network> {
        self.texts(value, "rule.destination", |text| {
            Network::parse(text)
                .ok_or_else(|| format!("\"{text}\" is neither an address nor a network such as 192.0.2.0/24"))
        })
    }

    /// A text, or a list of texts.
    fn texts<T>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let one = [value.clone()];
        let entries: &[Spanned<DeValue<'_>>] = match value.get_ref().as_array() {
            Some(list) => list,
            None => &one,
        };
        let mut all = Vec::new();
        for entry in entries {
            let text = entry.get_ref().as_str();
            match text
                .ok_or_else(|| "must be a text in quotes, or a list of such".to_owned())
                .and_then(&read)
            {
                Ok(value) => all.push(value),
                Err(why) => self.complain(entry.span(), key, why),
            }
        }
        if entries.is_empty() {
            self.complain(value.span(), key, "is an empty list, which fits nothing");
        }
        all
    }

    fn ports(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<u16> {
        let one = [value.clone()];
        let entries: &[Spanned<DeValue<'_>>] = match value.get_ref().as_array() {
            Some(list) => list,
            None => &one,
        };
        let mut all = Vec::new();
        for entry in entries {
            let number = entry.get_ref().as_integer();
            let port = number.and_then(|n| u16::from_str_radix(n.as_str(), n.radix()).ok());
            match port.filter(|port| *port != 0) {
                Some(port) => all.push(port),
                None => self.complain(
                    entry.span(),
                    "rule.port",
                    "must be a number from 1 to 65535, or a list of such",
                ),
            }
        }
        if entries.is_empty() {
            self.complain(value.span(), "rule.port", "is an empty list, which fits nothing");
        }
        all
    }

    fn interfaces(&mut self, value: &Spanned<DeValue<'_>>) {
        let Some(table) = value.get_ref().as_table() else {
            return self.complain(value.span(), "interface", "begins with [interface.NAME]");
        };
        for (name, value) in table.iter() {
            let key = format!("interface.{}", name.get_ref());
            let valid = (1..=INTERFACE_LEN_MAX).contains(&name.get_ref().len())
                && !name
                    .get_ref()
                    .contains(|c: char| matches!(c, '/' | ',' | ':') || c.is_whitespace() || c.is_control());
            if !valid {
                self.complain(name.span(), &key, "this is not an interface name");
                continue;
            }
            match value.get_ref().as_table() {
                Some(table) => self.interface(value.span(), &key, name.get_ref(), table),
                None => self.complain(value.span(), &key, "begins with [interface.NAME]"),
            }
        }
    }

    fn interface(&mut self, at: Range<usize>, around: &str, name: &str, table: &DeTable<'_>) {
        let mut said = false;
        for (key, value) in table.iter() {
            let full = format!("{around}.{}", key.get_ref());
            let word = match (key.get_ref().as_ref(), value.get_ref().as_str()) {
                ("use", Some("standby")) => format!("{name}:standby"),
                ("use", Some("never")) => format!("-{name}"),
                ("use", _) => {
                    self.complain(value.span(), &full, "must be \"standby\" or \"never\"");
                    continue;
                }
                _ => {
                    self.complain(key.span(), &full, "there is no such key; there is use");
                    continue;
                }
            };
            said = true;
            self.config.interfaces.push(word);
        }
        if !said && table.is_empty() {
            self.complain(at, around, "says nothing: use = \"standby\" or \"never\"");
        }
    }
}

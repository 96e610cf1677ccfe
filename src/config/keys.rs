//! The keys that set something: which variable each is, and which values it takes.

use crate::control::multipath::Intent;
use crate::link::PathConfig;
use toml::de::DeValue;

/// Bytes after which a connection is worth a second subflow, where `after-bytes` gives no number: what the first few round trips carry anyway.
pub const JOIN_BYTES: u64 = 100_000;

/// One key.
pub struct Key {
    /// As in the file.
    pub name: &'static str,
    /// The variable of the same meaning.
    pub variable: &'static str,
    /// The variable's value, or what the key takes.
    pub value: fn(&DeValue<'_>) -> Result<String, String>,
}

/// All of them.
pub const KEYS: &[Key] = &[
    Key {
        name: "multipath",
        variable: "MPTCP",
        value: on_or_off,
    },
    Key {
        name: "listen",
        variable: "MPTCP_LISTEN",
        value: on_or_off,
    },
    Key {
        name: "paths",
        variable: "MPTCP_PATHS",
        value: |value| {
            let text = text(value)?;
            PathConfig::parse(&text).map_err(|e| e.to_string())?;
            Ok(text)
        },
    },
    Key {
        name: "join",
        variable: "MPTCP_JOIN",
        value: |value| {
            let known = "\"at-once\", \"after-bytes\", \"after-bytes:NUMBER\" or \"never\"";
            matching(value, known, |text| {
                !text.is_empty() && parse_join(text.as_bytes()).is_some()
            })
        },
    },
    Key {
        name: "fate",
        variable: "MPTCP_FATE",
        value: on_or_off,
    },
    Key {
        name: "aware-names",
        variable: "MPTCP_AWARE_NAMES",
        value: |value| matching(value, "\"first\" or \"fail\"", |text| matches!(text, "first" | "fail")),
    },
    Key {
        name: "intent",
        variable: "MPTCP_INTENT",
        value: |value| {
            let known = "\"aggregate\", \"handover\" or \"interactive\"";
            matching(value, known, |text| {
                !text.is_empty() && parse_intent(text.as_bytes()).is_some()
            })
        },
    },
    Key {
        name: "heuristics",
        variable: "MPTCP_HEURISTICS",
        value: |value| {
            let known = "\"off\", or a list of \"-nodelay\" and \"-pattern\" (\"-buffers\" and \"-bound\" are for the variable only)";
            matching(value, known, |text| {
                text == "off" || text.split(',').all(|word| matches!(word, "-nodelay" | "-pattern"))
            })
        },
    },
    Key {
        name: "link",
        variable: "MPTCP_LINK",
        value: |value| {
            matching(value, "\"auto\" or \"kernel\"", |text| {
                matches!(text, "auto" | "kernel")
            })
        },
    },
];

fn text(value: &DeValue<'_>) -> Result<String, String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| "must be a text in quotes".into())
}

fn matching(value: &DeValue<'_>, known: &str, fits: impl Fn(&str) -> bool) -> Result<String, String> {
    match value.as_str() {
        Some(text) if fits(text) => Ok(text.into()),
        Some(text) => Err(format!("\"{text}\" is neither of {known}")),
        None => Err(format!("must be {known}")),
    }
}

fn on_or_off(value: &DeValue<'_>) -> Result<String, String> {
    match value.as_bool() {
        Some(on) => Ok(if on { "on" } else { "off" }.into()),
        None => Err("must be true or false".into()),
    }
}

/// `MPTCP_JOIN`: the bytes before further subflows; None when it makes no sense.
pub fn parse_join(text: &[u8]) -> Option<u64> {
    match text {
        b"" | b"at-once" => Some(0),
        b"never" => Some(u64::MAX),
        b"after-bytes" => Some(JOIN_BYTES),
        _ => {
            let number = text.strip_prefix(b"after-bytes:")?;
            std::str::from_utf8(number).ok()?.parse().ok()
        }
    }
}

/// `MPTCP_INTENT`; None when it makes no sense.
pub fn parse_intent(text: &[u8]) -> Option<Intent> {
    match text {
        b"" => Some(Intent::Default),
        b"aggregate" => Some(Intent::Aggregate),
        b"handover" => Some(Intent::Handover),
        b"interactive" => Some(Intent::Interactive),
        _ => None,
    }
}

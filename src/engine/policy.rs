//! What a connection is to be, when its program, its variables and its own traffic are put together: intent, low latency, joins.
//!
//! | intent | paths | data |
//! |---|---|---|
//! | aggregate | all | on all |
//! | handover | the others stand by (RFC 8684 section 3.3.8) | on one |
//! | interactive | all | not on those that are slow beside the fastest |
//! | none given | all | TCP_NODELAY: as interactive unless the writes are bulk; else as interactive while the writes are short messages |
//!
//! The last row is what a legacy program is taken for, and `MPTCP_HEURISTICS` switches its parts off.
//!
//! Not here: what the shim leaves to the kernel for the socket's options (`shim/eligible.rs`).

use super::connection::{unmap, Connection};
use super::status::PolicyStatus;
use crate::config::{parse_intent, parse_join, JOIN_BYTES};
use crate::control::multipath::{Intent, JoinPolicy, Wishes, CONGESTIONS, SCHEDULERS};
use crate::control::{heuristic_off, Connect};
use crate::mptcp::endpoint::{Algorithm, ConnOptions, LocalPath, LowLatency, Scheduler, Traffic};
use std::str::FromStr;

/// What the program's MPTCP_* variables say where its sockets say nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Defaults {
    join_after: u64,
    pub(super) fate: bool,
    pub(super) names_fail: bool,
    intent: Intent,
    ignore_nodelay: bool,
    ignore_pattern: bool,
    scheduler: Scheduler,
    congestion: Algorithm,
}

impl Defaults {
    /// Reads them; one that makes no sense is reported and says nothing.
    pub fn read(request: &Connect<'_>) -> Defaults {
        let join = request.setting("MPTCP_JOIN").unwrap_or_default();
        let intent = request.setting("MPTCP_INTENT").unwrap_or_default();
        let heuristics = request.setting("MPTCP_HEURISTICS").unwrap_or_default();
        Defaults {
            join_after: read_join(join),
            fate: request.setting("MPTCP_FATE") == Some(b"on"),
            names_fail: request.setting("MPTCP_AWARE_NAMES") == Some(b"fail"),
            intent: parse_intent(intent).unwrap_or_else(|| {
                complain("MPTCP_INTENT", intent, "aggregate, handover or interactive");
                Intent::Default
            }),
            ignore_nodelay: heuristic_off(heuristics, b"nodelay"),
            ignore_pattern: heuristic_off(heuristics, b"pattern"),
            scheduler: named("MPTCP_SCHEDULER", request, &SCHEDULERS),
            congestion: named("MPTCP_CONGESTION", request, &CONGESTIONS),
        }
    }
}

/// What a variable names; the default where it names nothing.
fn named<T: FromStr + Default>(variable: &str, request: &Connect<'_>, known: &[&str]) -> T {
    let text = request.setting(variable).unwrap_or_default();
    if text.is_empty() {
        return T::default();
    }
    let found = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    found.unwrap_or_else(|| {
        complain(variable, text, &known.join(", "));
        T::default()
    })
}

/// The entry of a list that a wish numbers from 1.
fn numbered<T: FromStr>(number: u8, list: &[&str]) -> Option<T> {
    let at = usize::from(number).checked_sub(1)?;
    list.get(at)?.parse().ok()
}

/// A name's number, from 1.
fn number_of(name: &str, list: &[&str]) -> u32 {
    list.iter()
        .position(|known| *known == name)
        .map_or(0, |at| at as u32 + 1)
}

fn complain(name: &str, text: &[u8], known: &str) {
    log::warn!("{name}: \"{}\": {known}", String::from_utf8_lossy(text));
}

/// `MPTCP_JOIN`: the bytes before further subflows. What makes no sense is reported and says nothing.
pub fn read_join(text: &[u8]) -> u64 {
    parse_join(text).unwrap_or_else(|| {
        complain("MPTCP_JOIN", text, "at-once, after-bytes, after-bytes:NUMBER or never");
        0
    })
}

/// Bytes before further subflows.
pub fn join_after(wishes: &Wishes, defaults: &Defaults) -> u64 {
    match wishes.join {
        JoinPolicy::Default => defaults.join_after,
        JoinPolicy::AtOnce => 0,
        JoinPolicy::AfterBytes => JOIN_BYTES,
        JoinPolicy::Never => u64::MAX,
    }
}

fn low_latency(intent: Intent, nodelay: bool, defaults: &Defaults) -> LowLatency {
    match intent {
        Intent::Aggregate | Intent::Handover => LowLatency::Never,
        Intent::Interactive => LowLatency::Always,
        Intent::Default if nodelay && !defaults.ignore_nodelay => LowLatency::UnlessBulk,
        Intent::Default if !defaults.ignore_pattern => LowLatency::WhenInteractive,
        Intent::Default => LowLatency::Never,
    }
}

impl Connection {
    /// What it is for, as far as somebody said it.
    pub(super) fn intent(&self) -> Intent {
        match self.wishes.intent {
            Intent::Default => self.defaults.intent,
            said => said,
        }
    }

    /// Which subflow takes what.
    fn scheduler(&self) -> Scheduler {
        numbered(self.wishes.scheduler, &SCHEDULERS).unwrap_or(self.defaults.scheduler)
    }

    /// What the program chose by an option of `mptcp.h`, or by TCP_CONGESTION, else the variable's.
    pub(super) fn congestion(&self) -> Algorithm {
        let chosen = || self.options.congestion()?.parse().ok();
        let wished = numbered(self.wishes.congestion, &CONGESTIONS);
        wished.or_else(chosen).unwrap_or(self.defaults.congestion)
    }

    /// Their numbers in `mptcp.h`.
    pub(super) fn algorithm_numbers(&self) -> (u32, u32) {
        (
            number_of(self.scheduler().name(), &SCHEDULERS),
            number_of(self.congestion().name(), &CONGESTIONS),
        )
    }

    /// The parts of the core's options that follow from policy. `options` are up to date otherwise.
    pub(super) fn apply_policy(&self, options: &mut ConnOptions) {
        options.join_after = join_after(&self.wishes, &self.defaults);
        options.low_latency = low_latency(self.intent(), options.nodelay, &self.defaults);
        options.scheduler = self.scheduler();
        options.congestion = self.congestion();
    }

    /// Its paths as its intent has them.
    pub(super) fn shaped(&self, mut paths: Vec<LocalPath>) -> Vec<LocalPath> {
        let first = unmap(self.local).ip();
        if self.accepted && self.bound.is_some() {
            // The listener was bound to this address: it is the program's choice, and others are its own to add (RFC 6897 section 5.2).
            let named = &self.path_config.sources.named;
            paths.retain(|path| path.addr == first || named.contains(&path.addr));
        }
        if self.intent() == Intent::Handover {
            for path in paths.iter_mut().filter(|path| path.addr != first) {
                path.backup = true;
            }
        }
        paths
    }

    /// For `mptcp status`.
    pub(super) fn policy_status(&self, traffic: Traffic) -> PolicyStatus {
        let mut options = self.options.for_core(false);
        self.apply_policy(&mut options);
        let low_latency = match (options.low_latency, traffic) {
            (LowLatency::Always, _) => Some("the program's intent"),
            (LowLatency::UnlessBulk, Traffic::Unknown | Traffic::Interactive) => Some("TCP_NODELAY"),
            (LowLatency::WhenInteractive, Traffic::Interactive) => Some("its writes are short messages"),
            _ => None,
        };
        PolicyStatus {
            intent: match self.intent() {
                Intent::Default => "none",
                Intent::Aggregate => "aggregate",
                Intent::Handover => "handover",
                Intent::Interactive => "interactive",
            }
            .into(),
            traffic: match traffic {
                Traffic::Unknown => "unknown",
                Traffic::Interactive => "interactive",
                Traffic::Bulk => "bulk",
            }
            .into(),
            low_latency: low_latency.map(Into::into),
            joins: match options.join_after {
                0 => "at once".into(),
                u64::MAX => "never".into(),
                n => format!("after {n} bytes"),
            },
            scheduler: options.scheduler.name().into(),
            congestion: options.congestion.name().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_has_what_the_header_names() {
        assert!(SCHEDULERS
            .iter()
            .eq(Scheduler::ALL.iter().map(|s| s.name()).collect::<Vec<_>>().iter()));
        assert!(CONGESTIONS
            .iter()
            .eq(Algorithm::ALL.iter().map(|a| a.name()).collect::<Vec<_>>().iter()));
        assert_eq!(numbered(4, &SCHEDULERS), Some(Scheduler::Ecf));
        assert_eq!(numbered::<Scheduler>(0, &SCHEDULERS), None);
        let said = read(b"MPTCP_SCHEDULER=redundant\0MPTCP_CONGESTION=olia\0");
        assert_eq!(
            (said.scheduler, said.congestion),
            (Scheduler::Redundant, Algorithm::Olia)
        );
        assert_eq!(read(b"MPTCP_SCHEDULER=best\0"), Defaults::default());
    }

    fn read(settings: &[u8]) -> Defaults {
        Defaults::read(&Connect {
            remote: "192.0.2.1:80".parse().unwrap(),
            nonblocking: false,
            pid: 1,
            program: b"",
            settings,
        })
    }

    #[test]
    fn the_variable_for_joins_is_read() {
        for (text, after) in [
            (&b""[..], Some(0)),
            (b"at-once", Some(0)),
            (b"never", Some(u64::MAX)),
            (b"after-bytes", Some(JOIN_BYTES)),
            (b"after-bytes:5000", Some(5000)),
            (b"after-bytes:", None),
            (b"later", None),
        ] {
            assert_eq!(parse_join(text), after);
        }
    }

    #[test]
    fn nodelay_and_the_pattern_count_unless_switched_off_or_overruled() {
        let none = read(b"");
        let off = read(b"MPTCP_HEURISTICS=off\0");
        let pattern_only = read(b"MPTCP_HEURISTICS=-nodelay,-buffers\0");
        for (intent, nodelay, defaults, expected) in [
            (Intent::Default, false, none, LowLatency::WhenInteractive),
            (Intent::Default, true, none, LowLatency::UnlessBulk),
            (Intent::Default, true, pattern_only, LowLatency::WhenInteractive),
            (Intent::Default, true, off, LowLatency::Never),
            (Intent::Interactive, false, off, LowLatency::Always),
            (Intent::Aggregate, true, none, LowLatency::Never),
            (Intent::Handover, true, none, LowLatency::Never),
        ] {
            assert_eq!(
                low_latency(intent, nodelay, &defaults),
                expected,
                "{intent:?} {nodelay}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_says_nothing() {
        assert_eq!(read(b"MPTCP_INTENT=fast\0MPTCP_JOIN=soon\0"), Defaults::default());
        assert_eq!(read(b"MPTCP_INTENT=handover\0").intent, Intent::Handover);
        assert_eq!(read(b"MPTCP_CONGESTION=reno\0MPTCP_SCHEDULER=\0"), Defaults::default());
    }

    #[test]
    fn congestion_control_and_scheduler_go_by_name() {
        let chosen = read(b"MPTCP_CONGESTION=olia\0MPTCP_SCHEDULER=redundant\0");
        assert_eq!(
            (chosen.congestion, chosen.scheduler),
            (Algorithm::Olia, Scheduler::Redundant)
        );
    }
}

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
use super::socket_options::SocketOptions;
use super::status::PolicyStatus;
use crate::config::{parse_intent, parse_join, JOIN_BYTES};
use crate::control::multipath::{Intent, JoinPolicy, Wishes, CONGESTIONS, SCHEDULERS};
use crate::control::{heuristic_off, setting};
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
    /// Reads them from a request's settings (`control::setting`); one that makes no sense is reported and says nothing.
    pub fn read(settings: &[u8]) -> Defaults {
        let said = |name| setting(settings, name).unwrap_or_default();
        let (join, intent, heuristics) = (said("MPTCP_JOIN"), said("MPTCP_INTENT"), said("MPTCP_HEURISTICS"));
        Defaults {
            join_after: parse_join(join).unwrap_or_else(|| {
                complain("MPTCP_JOIN", join, "at-once, after-bytes, after-bytes:NUMBER or never");
                0
            }),
            fate: said("MPTCP_FATE") == b"on",
            names_fail: said("MPTCP_AWARE_NAMES") == b"fail",
            intent: parse_intent(intent).unwrap_or_else(|| {
                complain("MPTCP_INTENT", intent, "aggregate, handover or interactive");
                Intent::Default
            }),
            ignore_nodelay: heuristic_off(heuristics, b"nodelay"),
            ignore_pattern: heuristic_off(heuristics, b"pattern"),
            scheduler: named("MPTCP_SCHEDULER", settings, &SCHEDULERS),
            congestion: named("MPTCP_CONGESTION", settings, &CONGESTIONS),
        }
    }
}

/// What a variable names; the default where it names nothing.
fn named<T: FromStr + Default>(variable: &str, settings: &[u8], known: &[&str]) -> T {
    let text = setting(settings, variable).unwrap_or_default();
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

fn low_latency(intent: Intent, nodelay: bool, defaults: &Defaults) -> LowLatency {
    match intent {
        Intent::Aggregate | Intent::Handover => LowLatency::Never,
        Intent::Interactive => LowLatency::Always,
        Intent::Default if nodelay && !defaults.ignore_nodelay => LowLatency::UnlessBulk,
        Intent::Default if !defaults.ignore_pattern => LowLatency::WhenInteractive,
        Intent::Default => LowLatency::Never,
    }
}

/// What was said of a connection, or of those that a listener is to have, by whom.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    /// By options of `mptcp.h`.
    pub wishes: &'a Wishes,
    /// By variables and files.
    pub defaults: &'a Defaults,
    /// By other socket options.
    pub options: &'a SocketOptions,
}

impl Policy<'_> {
    /// What it is for, as far as somebody said it.
    pub fn intent(&self) -> Intent {
        match self.wishes.intent {
            Intent::Default => self.defaults.intent,
            said => said,
        }
    }

    /// Bytes before further subflows.
    pub fn join_after(&self) -> u64 {
        match self.wishes.join {
            JoinPolicy::Default => self.defaults.join_after,
            JoinPolicy::AtOnce => 0,
            JoinPolicy::AfterBytes => JOIN_BYTES,
            JoinPolicy::Never => u64::MAX,
        }
    }

    /// Which subflow takes what.
    fn scheduler(&self) -> Scheduler {
        numbered(self.wishes.scheduler, &SCHEDULERS).unwrap_or(self.defaults.scheduler)
    }

    /// What the program chose by an option of `mptcp.h`, or by TCP_CONGESTION, else the variable's.
    pub fn congestion(&self) -> Algorithm {
        let chosen = || self.options.congestion()?.parse().ok();
        let wished = numbered(self.wishes.congestion, &CONGESTIONS);
        wished.or_else(chosen).unwrap_or(self.defaults.congestion)
    }

    /// Their numbers in `mptcp.h`.
    pub fn algorithm_numbers(&self) -> (u32, u32) {
        (
            number_of(self.scheduler().name(), &SCHEDULERS),
            number_of(self.congestion().name(), &CONGESTIONS),
        )
    }

    /// The parts of the core's options that follow from policy. `options` are up to date otherwise.
    pub fn apply(&self, options: &mut ConnOptions) {
        options.join_after = self.join_after();
        options.low_latency = low_latency(self.intent(), options.nodelay, self.defaults);
        options.scheduler = self.scheduler();
        options.congestion = self.congestion();
    }
}

impl Connection {
    /// What was said of it.
    pub(super) fn policy(&self) -> Policy<'_> {
        Policy {
            wishes: &self.wishes,
            defaults: &self.defaults,
            options: &self.options,
        }
    }

    /// Its paths as its intent has them.
    pub(super) fn shaped(&self, mut paths: Vec<LocalPath>) -> Vec<LocalPath> {
        let first = unmap(self.local).ip();
        if self.accepted && self.bound.is_some() {
            // The listener was bound to this address: it is the program's choice, and others are its own to add (RFC 6897 section 5.2).
            let named = &self.path_config.sources.named;
            paths.retain(|path| path.addr == first || named.contains(&path.addr));
        }
        if self.policy().intent() == Intent::Handover {
            for path in paths.iter_mut().filter(|path| path.addr != first) {
                path.backup = true;
            }
        }
        paths
    }

    /// For `mptcp status`.
    pub(super) fn policy_status(&self, traffic: Traffic) -> PolicyStatus {
        let mut options = self.options.for_core(false);
        self.policy().apply(&mut options);
        let low_latency = match (options.low_latency, traffic) {
            (LowLatency::Always, _) => Some("the program's intent"),
            (LowLatency::UnlessBulk, Traffic::Unknown | Traffic::Interactive) => Some("TCP_NODELAY"),
            (LowLatency::WhenInteractive, Traffic::Interactive) => Some("its writes are short messages"),
            _ => None,
        };
        PolicyStatus {
            intent: match self.policy().intent() {
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
        let said = Defaults::read(b"MPTCP_SCHEDULER=redundant\0MPTCP_CONGESTION=olia\0");
        assert_eq!(
            (said.scheduler, said.congestion),
            (Scheduler::Redundant, Algorithm::Olia)
        );
        assert_eq!(Defaults::read(b"MPTCP_SCHEDULER=best\0"), Defaults::default());
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
        let none = Defaults::read(b"");
        let off = Defaults::read(b"MPTCP_HEURISTICS=off\0");
        let pattern_only = Defaults::read(b"MPTCP_HEURISTICS=-nodelay,-buffers\0");
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
        assert_eq!(
            Defaults::read(b"MPTCP_INTENT=fast\0MPTCP_JOIN=soon\0"),
            Defaults::default()
        );
        assert_eq!(Defaults::read(b"MPTCP_INTENT=handover\0").intent, Intent::Handover);
        assert_eq!(
            Defaults::read(b"MPTCP_CONGESTION=reno\0MPTCP_SCHEDULER=\0"),
            Defaults::default()
        );
    }

    #[test]
    fn congestion_control_and_scheduler_go_by_name() {
        let chosen = Defaults::read(b"MPTCP_CONGESTION=olia\0MPTCP_SCHEDULER=redundant\0");
        assert_eq!(
            (chosen.congestion, chosen.scheduler),
            (Algorithm::Olia, Scheduler::Redundant)
        );
    }
}

//! Which paths each connection gets, at its start and whenever the host's network changes.

use super::connection::Backend;
use super::core::Core;
use super::server::Engine;
use crate::control::Bypass;
use crate::link::path_config::PathConfig;
use crate::link::paths::{KernelReason, Verdict};
use crate::link::routes::Query;
use crate::mptcp::endpoint::LocalPath;
use crate::time::{Duration, Instant};
use std::net::IpAddr;

/// Changes closer together than this are looked at once: a routing daemon may cause thousands.
const CALM: Duration = Duration::from_millis(200);

/// When to look at the paths of all connections again.
#[derive(Default)]
pub struct Review {
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Review {
    /// Something changed.
    fn ask(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| last + CALM);
        self.due.get_or_insert(earliest.max(now));
    }

    /// When it is due.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    fn take(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            *self = Review {
                last: Some(now),
                due: None,
            };
        }
        due
    }
}

/// The paths of a new connection, the plain route's first, or why the kernel shall have it.
pub fn first_paths(core: &mut Core, query: &Query, config: &PathConfig) -> Result<Vec<LocalPath>, Bypass> {
    match core.verdict(query, config) {
        Ok(Verdict::Kernel(reason)) => Err(bypass(reason)),
        Ok(Verdict::Paths {
            paths, single, skipped, ..
        }) => {
            if let Some(reason) = single {
                log::debug!("to {} by one path only: {reason}", query.dst);
            }
            for interface in &skipped {
                log::debug!("to {} not over {}: {}", query.dst, interface.name, interface.why);
            }
            match paths.first() {
                Some(first) if !first.addr.is_unspecified() => Ok(paths),
                _ => Err(Bypass::NoRoute),
            }
        }
        Err(error) => {
            log::warn!("cannot read the routes to {}: {error}", query.dst);
            Err(Bypass::NoRoute)
        }
    }
}

fn bypass(reason: KernelReason) -> Bypass {
    match reason {
        KernelReason::Local => Bypass::OwnAddress,
        KernelReason::NotGlobal => Bypass::OddAddress,
        KernelReason::NoRoute(_) => Bypass::NoRoute,
        KernelReason::RuleByPort | KernelReason::IpsecByPort => Bypass::Policy,
    }
}

/// A setting as the program gave it; one that makes no sense is reported and says nothing.
pub fn parse_config(text: Option<&[u8]>) -> PathConfig {
    let text = String::from_utf8_lossy(text.unwrap_or_default());
    PathConfig::parse(&text).unwrap_or_else(|error| {
        log::warn!("MPTCP_PATHS: {error}");
        PathConfig::default()
    })
}

impl Engine {
    /// The monitor has news.
    pub(super) fn on_routes_event(&mut self, now: Instant) {
        if self.core.as_mut().is_some_and(Core::routes_changed) {
            // Another network has other middleboxes.
            self.plain_peers.forget_all();
            self.review.ask(now);
        }
    }

    /// Tells every connection its paths anew, when that is due.
    pub(super) fn review_paths(&mut self, now: Instant) {
        if !self.review.take(now) {
            return;
        }
        let Some(core) = &mut self.core else { return };
        // Connections to the same place with the same settings have the same paths.
        let mut known: Vec<(IpAddr, Option<IpAddr>, u32, PathConfig, Vec<LocalPath>)> = Vec::new();
        for (_, connection) in self.connections.iter() {
            let Backend::Core(conn) = connection.backend else {
                continue;
            };
            let Query { dst, src, mark } = connection.query();
            let found = known
                .iter()
                .find(|k| (k.0, k.1, k.2) == (dst, src, mark) && k.3 == connection.path_config);
            let paths = match found {
                Some((.., paths)) => paths.clone(),
                None => {
                    let paths = match core.verdict(&connection.query(), &connection.path_config) {
                        Ok(Verdict::Paths { paths, .. }) => paths,
                        // No way there at present: what is open may recover, as the kernel's connections do.
                        Ok(Verdict::Kernel(_)) | Err(_) => Vec::new(),
                    };
                    known.push((dst, src, mark, connection.path_config.clone(), paths.clone()));
                    paths
                }
            };
            if !paths.is_empty() {
                core.endpoint.set_paths(now, conn, &paths);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_changes_is_looked_at_now_and_then() {
        let at = Instant::from_millis;
        let mut review = Review::default();
        assert!(!review.take(at(0)));
        review.ask(at(1));
        assert!(review.take(at(1)));
        for ms in 2..200 {
            review.ask(at(ms));
            assert!(!review.take(at(ms)), "{ms} ms");
        }
        assert_eq!(review.due(), Some(at(201)));
        assert!(review.take(at(201)));
        assert_eq!(review.due(), None);
    }
}

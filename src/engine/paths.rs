//! Which paths each connection gets, at its start and whenever the host's network changes.

use super::connection::Backend;
use super::core::Core;
use super::event_loop::Key;
use super::server::Engine;
use crate::control::Bypass;
use crate::link::path_config::PathConfig;
use crate::link::paths::{KernelReason, Verdict};
use crate::link::routes::Query;
use crate::mptcp::endpoint::LocalPath;
use crate::time::{Duration, Instant};

/// Changes closer together than this are looked at once: a routing daemon may cause thousands.
const CALM: Duration = Duration::from_millis(200);

/// Routes looked up per turn of the loop: each takes some system calls, and there may be many connections.
const LOOKUPS_PER_TURN: usize = 16;

/// When to look at the paths of all connections again, and which are left to look at.
#[derive(Default)]
pub struct Review {
    last: Option<Instant>,
    due: Option<Instant>,
    left: Vec<Key>,
}

impl Review {
    /// Something changed.
    fn ask(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| last + CALM);
        self.due.get_or_insert(earliest.max(now));
    }

    /// When there is something to do; `now` while connections are left to look at.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if self.left.is_empty() {
            self.due
        } else {
            Some(now)
        }
    }

    /// It is time to begin (again).
    fn begins(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            (self.last, self.due) = (Some(now), None);
        }
        due
    }
}

/// A question about routes, and the answer.
struct Looked {
    query: Query,
    config: PathConfig,
    paths: Vec<LocalPath>,
}

impl Looked {
    fn answers(&self, query: &Query, config: &PathConfig) -> bool {
        (self.query.dst, self.query.src, self.query.mark) == (query.dst, query.src, query.mark)
            && self.config == *config
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

/// The one path to an address of this host itself.
pub fn own_path(core: &mut Core, query: &Query, config: &PathConfig) -> Result<Vec<LocalPath>, Bypass> {
    let path = core.own_path(query).ok().flatten();
    let path = path.filter(|path| config.sources.allow(path.addr));
    path.map(|path| vec![path]).ok_or(Bypass::OwnAddress)
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
        log::warn!("{error}");
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

    /// Tells a new connection its paths. A listener's connection has one already; the routes say which others there are.
    pub(super) fn tell_paths(&mut self, now: Instant, key: Key) {
        let (Some(core), Some(connection)) = (&mut self.core, self.connections.get(key)) else {
            return;
        };
        let Backend::Core(conn) = connection.backend else {
            return;
        };
        let Looked { paths, .. } = look(core, connection.query(), connection.path_config.clone());
        if !paths.is_empty() {
            core.endpoint.set_paths(now, conn, &connection.shaped(paths));
        }
    }

    /// Tells connections their paths anew, some per turn, when that is due.
    pub(super) fn review_paths(&mut self, now: Instant) {
        if self.review.begins(now) {
            self.review.left = self.connections.iter().map(|(key, _)| key).collect();
        }
        let Some(core) = &mut self.core else { return };
        // Connections to the same place with the same settings have the same paths.
        let mut known: Vec<Looked> = Vec::new();
        while known.len() < LOOKUPS_PER_TURN {
            let Some(key) = self.review.left.pop() else { return };
            let Some(connection) = self.connections.get(key) else {
                continue;
            };
            let Backend::Core(conn) = connection.backend else {
                continue;
            };
            let (query, config) = (connection.query(), &connection.path_config);
            if !known.iter().any(|looked| looked.answers(&query, config)) {
                known.push(look(core, query, config.clone()));
            }
            let looked = known.iter().find(|looked| looked.answers(&query, config));
            if let Some(Looked { paths, .. }) = looked.filter(|looked| !looked.paths.is_empty()) {
                core.endpoint.set_paths(now, conn, &connection.shaped(paths.clone()));
            }
        }
    }
}

fn look(core: &mut Core, query: Query, config: PathConfig) -> Looked {
    let paths = match core.verdict(&query, &config) {
        Ok(Verdict::Paths { paths, .. }) => paths,
        // No way there at present: what is open may recover, as the kernel's connections do.
        Ok(Verdict::Kernel(_)) | Err(_) => Vec::new(),
    };
    Looked { query, config, paths }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_changes_is_looked_at_now_and_then() {
        let at = Instant::from_millis;
        let mut review = Review::default();
        assert!(!review.begins(at(0)));
        review.ask(at(1));
        assert!(review.begins(at(1)));
        for ms in 2..200 {
            review.ask(at(ms));
            assert!(!review.begins(at(ms)), "{ms} ms");
        }
        assert_eq!(review.due(at(200)), Some(at(201)));
        assert!(review.begins(at(201)));
        assert_eq!(review.due(at(201)), None);
    }
}

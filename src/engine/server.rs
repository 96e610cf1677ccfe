//! The engine itself: everything it owns, and the loop that drives it.
//!
//! One turn of the loop: sleep until an event or a deadline, let each event do its part, then give a turn to every
//! connection that used up its budget. Nothing here blocks but the sleep, and nothing looks at all connections.
//!
//! The parts of `Engine` that answer requests are in `connect` (the one that matters) and `requests`.

use super::clock::Clock;
use super::connection::{Backend, Connection};
use super::control::Control;
use super::core::Core;
use super::core_stream::CoreStream;
use super::delivery::Delivery;
use super::event_loop::{EventLoop, Key, Readiness, Source};
use super::keeper::{Held, Keeper};
use super::kernel_stream::Attempt;
use super::leaving::Leaving;
use super::ledger::Ledger;
use super::namespace::Namespace;
use super::paths::Review;
use super::plain_peers::PlainPeers;
use super::pump::Pump;
use super::recent::{Bypasses, End, Ends};
use super::relay::{Ending, Relay, Turn};
use super::sandbox;
use super::settings_files::SettingsFiles;
use super::shadow::Padding;
use super::slots::Slots;
use super::socket_options;
use super::stream::Stream;
use super::tcp_info;
use crate::control::{EngineId, Phase, PhaseReport, Reply};
use crate::mptcp::endpoint::{ConnId, FourTuple};
use crate::time::{Duration, Instant};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;

/// How the engine was started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub id: EngineId,
    /// How long it stays with nothing to do.
    pub idle: Duration,
}

/// Everything the engine owns.
pub struct Engine {
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) event_loop: EventLoop,
    pub(super) control: Control,
    /// What speaks TCP by itself; None where it has no link.
    pub(super) core: Option<Core>,
    /// Why there is no core.
    pub(super) no_core: Option<String>,
    pub(super) review: Review,
    pub(super) connections: Slots<Connection>,
    /// SO_COOKIE of the program's end to connection.
    pub(super) by_cookie: HashMap<u64, Key>,
    /// Connections on their way to programs, and the carriers' addresses.
    pub(super) deliveries: Slots<Delivery>,
    pub(super) by_carrier: HashMap<(SocketAddr, SocketAddr), Key>,
    /// Connections for which there were no descriptors, and when to try again.
    pub(super) undelivered: VecDeque<(ConnId, FourTuple)>,
    pub(super) undelivered_due: Option<Instant>,
    /// Ports whose last connection was accepted without the library.
    pub(super) unclaimed_ports: HashSet<u16>,
    /// When to look for carriers that were accepted and not claimed; None while none is under way.
    pub(super) claims_due: Option<Instant>,
    /// Those that are connections themselves, and which of them have more to do.
    pub(super) pumps: Slots<Pump>,
    pub(super) pumps_more: Vec<Key>,
    /// When to look whether listeners still listen; None while there are none, and where the kernel tells.
    pub(super) sweep_due: Option<Instant>,
    /// When a service manager has said so.
    pub(super) leaving: Leaving,
    /// There is one while there are listeners.
    pub(super) keeper: Option<Keeper>,
    /// What the next engine will want to know, once there was a keeper.
    pub(super) ledger: Option<Ledger>,
    pub(super) ends: Ends,
    pub(super) bypasses: Bypasses,
    pub(super) plain_peers: PlainPeers,
    pub(super) padding: Padding,
    pub(super) namespace: Namespace,
    pub(super) settings_files: SettingsFiles,
    pub(super) counters: Counters,
    /// Connections whose turn ended with more to do.
    more: VecDeque<Key>,
    pub(super) next_serial: u32,
    idle_since: Option<Instant>,
    /// The name was given up: the end comes when the last client and connection have gone.
    pub(super) retired: bool,
}

/// Counts since the start.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counters {
    /// Requests to connect.
    pub connects: u64,
    /// … that were left to the kernel.
    pub bypassed: u64,
    /// … that were begun and never established.
    pub failed: u64,
}

impl Engine {
    /// Takes the name, unless its listener is `held` already, and gets ready.
    ///
    /// # Errors
    /// EADDRINUSE when an engine of that name is there already.
    pub fn start(settings: Settings, held: Option<Held>) -> io::Result<Engine> {
        let event_loop = EventLoop::new()?;
        let leaving = Leaving::prepare()?;
        event_loop.add(leaving.fd(), Source::Signal)?;
        let (control, ears) = match held {
            Some(Held { name, ears }) => (Control::on(name, &event_loop)?, ears),
            None => (Control::listen(settings.id, &event_loop)?, Vec::new()),
        };
        let (core, no_core) = match Core::start(&event_loop, ears) {
            Ok(core) => (Some(core), None),
            Err(error) => {
                log::warn!("no link, everything is left to the kernel: {error}");
                (None, Some(error.to_string()))
            }
        };
        Ok(Engine {
            settings,
            clock: Clock::start(),
            event_loop,
            control,
            core,
            no_core,
            review: Review::default(),
            connections: Slots::default(),
            by_cookie: HashMap::new(),
            deliveries: Slots::default(),
            by_carrier: HashMap::new(),
            undelivered: VecDeque::new(),
            undelivered_due: None,
            unclaimed_ports: HashSet::new(),
            claims_due: None,
            pumps: Slots::default(),
            pumps_more: Vec::new(),
            sweep_due: None,
            leaving,
            keeper: None,
            ledger: None,
            ends: Ends::default(),
            bypasses: Bypasses::default(),
            plain_peers: PlainPeers::default(),
            padding: Padding::new(),
            namespace: Namespace::own()?,
            settings_files: SettingsFiles::default(),
            counters: Counters::default(),
            more: VecDeque::new(),
            next_serial: 0,
            idle_since: None,
            retired: false,
        })
    }

    /// Serves until there has been nothing to do for the idle time, without the rights that only the start needs.
    pub fn run(mut self) -> io::Result<()> {
        sandbox::engage();
        let mut events = Vec::new();
        loop {
            let now = self.clock.now();
            if self.is_finished(now) || self.leaves(now) {
                return Ok(());
            }
            self.event_loop.wait(now, self.deadline(now), &mut events)?;
            let now = self.clock.now();
            for (source, ready) in &events {
                self.dispatch(now, *source, *ready);
            }
            self.turn_again(now);
            self.expire(now);
            self.drive_core(now);
        }
    }

    fn dispatch(&mut self, now: Instant, source: Source, ready: Readiness) {
        match source {
            Source::Control => self.accept(now),
            Source::Client(key) => self.serve(now, key),
            Source::Shadow(key) => {
                if let Some(relay) = self.connections.get_mut(key).and_then(|c| c.relay.as_mut()) {
                    relay.on_ready(ready);
                    self.turn(now, key);
                }
            }
            Source::Kernel(key) => self.on_kernel_ready(now, key, ready),
            Source::Carrier(key) => self.on_carrier_ready(now, key, ready),
            Source::Pump(key) => self.turn_pump(key),
            Source::Keeper if ready.hung_up || ready.read_closed => self.replace_keeper(),
            Source::Keeper => {}
            Source::Signal => self.on_terminate(now),
            Source::Ends => self.on_ends(now),
            Source::Link(source) => {
                if let Some(core) = &mut self.core {
                    core.on_link_ready(now, source);
                }
            }
            Source::Monitor => self.on_routes_event(now),
        }
    }

    /// The earliest time at which something must happen without an event.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        if !self.more.is_empty() || !self.pumps_more.is_empty() || self.core.as_ref().is_some_and(Core::has_more) {
            return Some(now);
        }
        let idle = self.idle_since.map(|since| since + self.settings.idle);
        let core = self.core.as_ref().and_then(|core| core.endpoint.poll_timeout());
        [
            idle,
            core,
            self.control.deadline(),
            self.review.due(now),
            self.sweep_due,
            self.claims_due,
            self.undelivered_due,
            self.leaving.due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn expire(&mut self, now: Instant) {
        self.control.expire(now);
        if self.control.accept_due(now) {
            self.accept(now);
        }
        if let Some(core) = self.core.as_mut().filter(|core| core.has_more()) {
            core.receive(now);
        }
        self.review_paths(now);
        self.sweep_when_due(now);
        self.look_for_unclaimed(now);
        self.deliver_late(now);
        for key in std::mem::take(&mut self.pumps_more) {
            self.turn_pump(key);
        }
    }

    fn accept(&mut self, now: Instant) {
        while let Some(key) = self.control.accept(now, &self.event_loop) {
            self.serve(now, key);
        }
    }

    /// The idle time has passed, and nobody came while the name was given up.
    fn is_finished(&mut self, now: Instant) -> bool {
        if !self.is_idle() {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert(now);
        if self.retired {
            return true;
        }
        if now.since(since) < self.settings.idle {
            return false;
        }
        self.retired = true;
        // It holds the name too.
        self.keeper = None;
        self.control.retire();
        self.accept(now);
        self.control.close();
        self.is_idle()
    }

    fn is_idle(&self) -> bool {
        let nothing =
            self.connections.is_empty() && self.deliveries.is_empty() && self.undelivered.is_empty() && !self.listens();
        nothing && self.control.is_idle() && self.core.as_ref().is_none_or(Core::is_idle)
    }

    /// Runs `f` on both sides of a connection; None when either side is gone.
    pub(super) fn with_stream<R>(
        &mut self,
        now: Instant,
        key: Key,
        f: impl FnOnce(&mut Relay, &mut dyn Stream) -> R,
    ) -> Option<R> {
        let connection = self.connections.get_mut(key)?;
        let relay = connection.relay.as_mut()?;
        match &mut connection.backend {
            Backend::Kernel(stream) => Some(f(relay, stream)),
            Backend::Core(conn) => {
                let mut stream = CoreStream {
                    core: self.core.as_mut()?,
                    conn: *conn,
                    now,
                    flushed: connection.flushed,
                };
                Some(f(relay, &mut stream))
            }
        }
    }

    /// Gives a connection its turn: moves bytes, and lets it go when it is over.
    pub(super) fn turn(&mut self, now: Instant, key: Key) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        if connection.relay.is_none() {
            return self.reap(key);
        }
        let linger_zero = connection.options.linger_zero();
        if connection.delivery.is_some() {
            self.prime(key);
        }
        let turn = self.with_stream(now, key, |relay, stream| relay.turn(stream, linger_zero));
        match turn.unwrap_or(Turn::Over(Ending::Failed(Errno::CONNRESET))) {
            Turn::Wait => {}
            Turn::More => {
                let connection = self.connections.get_mut(key);
                if let Some(connection) = connection.filter(|connection| !connection.queued) {
                    connection.queued = true;
                    self.more.push_back(key);
                }
            }
            Turn::Over(ending) => self.end(now, key, ending),
        }
    }

    fn turn_again(&mut self, now: Instant) {
        for _ in 0..self.more.len() {
            if let Some(key) = self.more.pop_front() {
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.queued = false;
                }
                self.turn(now, key);
            }
        }
    }

    /// Ends the program's side of a connection. What the stream still has to deliver goes on.
    pub(super) fn end(&mut self, now: Instant, key: Key, ending: Ending) {
        let info = self
            .connections
            .get(key)
            .and_then(|connection| self.conn_info(connection));
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(relay) = connection.relay.take() else { return };
        let phase = match ending {
            Ending::Failed(errno) => Phase::Failed {
                errno: errno.raw_os_error(),
            },
            Ending::Closed | Ending::Aborted => Phase::Gone,
        };
        log::info!(
            "{} over after {:?}: {ending:?}",
            connection.describe(),
            now.since(connection.since)
        );
        // Before the program can see it: it asks at once.
        let report = connection.report(phase);
        let end = End {
            report,
            options: connection.options.clone(),
            tcp_info: Box::new(tcp_info::closed(info.as_ref(), now)),
            multipath: info.as_ref().is_some_and(|info| info.fallback.is_none()),
            wishes: connection.wishes.clone(),
            bound: connection.bound,
            uid: connection.uid,
        };
        self.ends.push(connection.cookie, end);
        self.by_cookie.remove(&connection.cookie);
        let waiters = std::mem::take(&mut connection.waiters);
        if let Ending::Failed(_) = ending {
            self.counters.failed += u64::from(!relay.is_established());
            relay.fail();
        } else {
            relay.finish();
        }
        self.tell(waiters, report);
        self.reap(key);
    }

    /// The handshake has succeeded: the program can write, and whoever waits for it is told.
    pub(super) fn establish(&mut self, now: Instant, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        log::info!("{} established", connection.describe());
        if let Some(relay) = &mut connection.relay {
            relay.establish();
        }
        let (waiters, report) = (
            std::mem::take(&mut connection.waiters),
            connection.report(connection.phase()),
        );
        self.tell(waiters, report);
        self.turn(now, key);
    }

    /// Answers those who waited for the end of a handshake.
    fn tell(&mut self, waiters: Vec<Key>, report: PhaseReport) {
        for client in waiters {
            self.answer(client, &Reply::Phase(report), None);
        }
    }

    /// Forgets a connection of which nothing is left.
    fn reap(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let over = match &connection.backend {
            Backend::Kernel(stream) => stream.is_over(),
            // The core says when.
            Backend::Core(_) => false,
        };
        if over && connection.relay.is_none() {
            self.connections.remove(key);
        }
    }

    fn on_kernel_ready(&mut self, now: Instant, key: Key, ready: Readiness) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let connecting = connection.phase() == Phase::Connecting;
        let Backend::Kernel(stream) = &mut connection.backend else {
            return;
        };
        match stream.attempt() {
            Attempt::Pending => {}
            Attempt::Connected => {
                stream.on_ready(ready);
                if connecting {
                    // It may have been less, for the attempt.
                    let user_timeout = connection.options.get(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
                    if let Some(value) = user_timeout {
                        // A socket that broke meanwhile says so when it is read.
                        let _ = socket_options::set(stream.as_fd(), libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, value);
                    }
                    self.establish(now, key);
                } else {
                    self.turn(now, key);
                }
            }
            Attempt::Failed(error) => {
                stream.abort();
                self.end(now, key, Ending::Failed(error));
            }
        }
    }
}

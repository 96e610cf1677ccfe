//! Two or three hosts with endpoints, the wires between them, and virtual time that jumps from event to event.
//!
//! The world keeps the endpoint's driving contract as the engine does: after any input it drains `poll_transmit` and `poll_event`, then it
//! comes back at `poll_timeout`. What no connection wants is answered as a host's own TCP would, with RST. Nothing here decides what a run
//! should achieve: that is `scenario`.

use super::app::App;
use super::clock::HostClock;
use super::monitor::Monitor;
use super::packet::Packet;
use super::problem::{AppName, Problem};
use super::rng::{HostEntropy, Rng};
use super::scenario::{Change, Scenario};
use super::trace::Trace;
use super::wire::{Dir, Fate, Faults, Wire};
use crate::mptcp::endpoint::{CallError, ConnId, Endpoint, Event, FourTuple, LocalPath};
use crate::time::{Duration, Instant};
use crate::wire::Segment;
use core::cmp::Reverse;
use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, BinaryHeap};

/// The client is host 0, the server host 1.
pub const CLIENT: usize = 0;
/// See `CLIENT`.
pub const SERVER: usize = 1;
/// Another client of the same server, on wires of its own. It has nothing to do in most scenarios.
pub const OTHER: usize = 2;

/// Which end of a connection a host is: 0 the client's, 1 the server's.
pub fn end_of(host: usize) -> usize {
    usize::from(host == SERVER)
}

/// Steps without time passing that no honest run needs.
const STEPS_AT_ONCE_MAX: u64 = 100_000;
/// The first port that a host takes for itself.
const FIRST_LOCAL_PORT: u16 = 40_000;
/// Connection number i of a scenario goes to this port plus i.
const FIRST_SERVER_PORT: u16 = 5000;
/// What the hosts' clocks show at the world's origin: there is room for a jump back.
const CLOCKS_START: [Duration; 3] = [
    Duration::from_secs(1000),
    Duration::from_secs(5000),
    Duration::from_secs(3000),
];
/// How long a coalescing middlebox waits for more.
const COALESCE_FOR: Duration = Duration::from_millis(1);

/// Something that happens at a time.
enum Happening {
    Arrival { wire: usize, dir: Dir, packet: Box<Packet> },
    Flush { wire: usize, dir: Dir },
    Timer { host: usize },
    AppWake { host: usize, conn: ConnId },
    Change(Change),
}

/// A happening in the queue, ordered by time and, at the same time, by when it was planned.
struct Planned {
    at: Instant,
    order: u64,
    what: Happening,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Planned {}
impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Planned {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}
impl Planned {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.order)
    }
}

/// One host.
pub struct Host {
    /// All its connections.
    pub endpoint: Endpoint,
    /// The applications on it, those that are through included.
    pub apps: BTreeMap<ConnId, App>,
    /// Addresses it tells its connections to use.
    pub paths: Vec<LocalPath>,
    /// Subflows that came up and went, for reports.
    pub subflows_up: u32,
    next_port: u16,
    timer_at: Option<Instant>,
    clock: HostClock,
    /// It stands still until then.
    paused_until: Instant,
    rng: Rng,
}

/// What a run did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Packets that hosts sent.
    pub packets: u64,
    /// Happenings.
    pub steps: u64,
}

/// The simulated world.
pub struct World<'s> {
    /// Virtual time.
    pub now: Instant,
    /// Client, server and the other client.
    pub hosts: [Host; 3],
    /// Wires, in the scenario's order.
    pub wires: Vec<Wire>,
    /// Counters.
    pub totals: Totals,
    scenario: &'s Scenario,
    routes: BTreeMap<(IpAddr, IpAddr), (usize, Dir)>,
    queue: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    steps_at_once: u64,
    monitor: Monitor,
    trace: Trace,
}

impl<'s> World<'s> {
    /// The world of a scenario, before anything happened.
    pub fn new(scenario: &'s Scenario, trace: bool) -> Self {
        let mut rng = Rng::new(scenario.seed ^ 0x7772_6c64);
        let mut wires = Vec::new();
        let mut routes = BTreeMap::new();
        for (index, spec) in scenario.wires.iter().enumerate() {
            let (client, server) = spec.ends;
            let index = if scenario.one_line { 0 } else { index };
            routes.insert((client, server), (index, Dir::Up));
            routes.insert((server, client), (index, Dir::Down));
            if let Some(public) = spec.public() {
                routes.insert((server, public), (index, Dir::Down));
            }
            wires.push(Wire::new(spec.config, spec.middleboxes.clone(), rng.fork()));
        }
        let mut host = |index: usize| Host {
            endpoint: Endpoint::new(Box::new(HostEntropy::new(rng.fork(), scenario.edgy_numbers))),
            apps: BTreeMap::new(),
            paths: scenario.paths[index].clone(),
            subflows_up: 0,
            next_port: FIRST_LOCAL_PORT,
            timer_at: None,
            clock: HostClock::ahead(CLOCKS_START[index]),
            paused_until: Instant::ZERO,
            rng: rng.fork(),
        };
        let hosts = [host(CLIENT), host(SERVER), host(OTHER)];
        let mut world = World {
            now: Instant::ZERO,
            hosts,
            wires,
            totals: Totals::default(),
            scenario,
            routes,
            queue: BinaryHeap::new(),
            planned: 0,
            steps_at_once: 0,
            monitor: Monitor::default(),
            trace: Trace::new(trace),
        };
        for (at, change) in &scenario.script {
            world.plan(*at, Happening::Change(change.clone()));
        }
        world
    }

    /// Runs until nothing is left to happen, or `until`: true when nothing is left.
    pub fn run(&mut self, until: Instant) -> Result<bool, Problem> {
        while let Some(Reverse(next)) = self.queue.pop() {
            if next.at > until {
                self.queue.push(Reverse(next));
                return Ok(false);
            }
            if next.at > self.now {
                self.now = next.at;
                self.steps_at_once = 0;
            }
            self.step(next.what)?;
        }
        Ok(true)
    }

    /// Opens the server's ports and the client's connections.
    pub fn start(&mut self) -> Result<(), Problem> {
        for conn in 0..self.scenario.conns.len() {
            let spec = &self.scenario.conns[conn];
            let remote = SocketAddr::new(self.scenario.wires[0].ends.1, FIRST_SERVER_PORT + conn as u16);
            if spec.listening {
                let listening = self.hosts[SERVER].endpoint.listen(remote, spec.options[SERVER].clone());
                listening.map_err(|e| refused(SERVER, conn, "listen", e))?;
            }
            self.plan(spec.connect_at, Happening::Change(Change::Connect(conn)));
        }
        Ok(())
    }

    fn plan(&mut self, at: Instant, what: Happening) {
        self.planned += 1;
        self.queue.push(Reverse(Planned {
            at,
            order: self.planned,
            what,
        }));
    }

    /// Counts a step; many of them at one time are a livelock.
    fn count_step(&mut self) -> Result<(), Problem> {
        self.totals.steps += 1;
        self.steps_at_once += 1;
        if self.steps_at_once > STEPS_AT_ONCE_MAX {
            return Err(Problem::Livelock);
        }
        Ok(())
    }

    fn step(&mut self, what: Happening) -> Result<(), Problem> {
        self.count_step()?;
        let Some(what) = self.postpone(what) else {
            return Ok(());
        };
        match what {
            Happening::Arrival { wire, dir, packet } => self.arrive(wire, dir, *packet),
            Happening::Flush { wire, dir } => {
                let fates = self.wires[wire].flush(self.now, dir);
                self.plan_arrivals(wire, dir, fates);
                Ok(())
            }
            Happening::Timer { host } => self.timer(host),
            Happening::AppWake { host, conn } => {
                self.act(host, conn)?;
                self.pump(host)
            }
            Happening::Change(change) => self.change(change),
        }
    }

    /// What concerns a host that stands still waits, in order, until it goes on.
    fn postpone(&mut self, what: Happening) -> Option<Happening> {
        let host = match &what {
            Happening::Arrival { wire, dir, .. } => self.host_at(*wire, *dir),
            Happening::Timer { host } | Happening::AppWake { host, .. } => *host,
            Happening::Change(Change::Connect(conn)) => self.scenario.conns[*conn].client,
            Happening::Change(Change::Paths { host, .. } | Change::Clock { host, .. } | Change::Crash(host)) => *host,
            Happening::Flush { .. } | Happening::Change(_) => return Some(what),
        };
        let until = self.hosts[host].paused_until;
        if until <= self.now {
            return Some(what);
        }
        if matches!(what, Happening::Timer { .. }) && self.hosts[host].timer_at == Some(self.now) {
            self.hosts[host].timer_at = Some(until);
        }
        self.plan(until, what);
        None
    }

    fn arrive(&mut self, wire: usize, dir: Dir, packet: Packet) -> Result<(), Problem> {
        if !self.wires[wire].up {
            self.trace.cut_in_flight(self.now, &packet);
            return Ok(());
        }
        self.wires[wire].delivered_bytes[dir as usize] += packet.payload.len() as u64;
        let host = self.host_at(wire, dir);
        let iface = self.iface_of(host, packet.dst);
        let bytes = packet.encode();
        let Ok(segment) = Segment::parse(&bytes) else {
            return Err(bad_segment(host, "does not parse", &self.trace, &packet));
        };
        let now = self.clock(host);
        let endpoint = &mut self.hosts[host].endpoint;
        let known = endpoint.handle_segment(now, packet.src, packet.dst, iface, &segment);
        if !known {
            if let Some(reset) = packet.reset_for() {
                self.transmit(host, reset)?;
            }
        }
        self.pump(host)
    }

    /// The host that a packet in this direction of a wire comes to.
    fn host_at(&self, wire: usize, dir: Dir) -> usize {
        match dir {
            Dir::Up => SERVER,
            Dir::Down => self.scenario.wires[wire].client,
        }
    }

    fn iface_of(&self, host: usize, addr: IpAddr) -> u32 {
        self.hosts[host]
            .paths
            .iter()
            .find(|p| p.addr == addr)
            .map_or(0, |p| p.iface)
    }

    fn timer(&mut self, host: usize) -> Result<(), Problem> {
        let h = &mut self.hosts[host];
        if h.timer_at != Some(self.now) {
            return Ok(()); // An earlier one was planned since, and has replaced it.
        }
        h.timer_at = None;
        let now = h.clock.at(self.now);
        if h.endpoint.poll_timeout().is_some_and(|at| at <= now) {
            h.endpoint.handle_timeout(now);
        }
        self.pump(host)
    }

    /// After any input: takes out all that the endpoint has to say, then plans its timer.
    fn pump(&mut self, host: usize) -> Result<(), Problem> {
        loop {
            let mut progress = false;
            while let Some(out) = self.hosts[host].endpoint.poll_transmit(self.clock(host)) {
                for packet in Packet::from_outgoing(&out) {
                    if let Err(why) = self.monitor.on_transmit(host, &packet) {
                        return Err(bad_segment(host, &why, &self.trace, &packet));
                    }
                    self.transmit(host, packet)?;
                }
                self.count_step()?;
                progress = true;
            }
            while let Some(event) = self.hosts[host].endpoint.poll_event() {
                self.on_event(host, event)?;
                self.count_step()?;
                progress = true;
            }
            if !progress {
                break;
            }
        }
        self.check_buffers(host)?;
        self.plan_timer(host);
        Ok(())
    }

    fn plan_timer(&mut self, host: usize) {
        let Some(at) = self.hosts[host].endpoint.poll_timeout() else {
            return;
        };
        let at = self.hosts[host].clock.when(at).max(self.now);
        // A later one is found out when the earlier fires.
        if self.hosts[host].timer_at.is_none_or(|planned| at < planned) {
            self.hosts[host].timer_at = Some(at);
            self.plan(at, Happening::Timer { host });
        }
    }

    fn transmit(&mut self, host: usize, packet: Packet) -> Result<(), Problem> {
        self.totals.packets += 1;
        let packet = self.through_codec(host, packet)?;
        let Some((wire, dir)) = self.routes.get(&(packet.src, packet.dst)).copied() else {
            self.trace
                .note(self.now, || format!("no route from {} to {}", packet.src, packet.dst));
            return Ok(());
        };
        let own = match dir {
            Dir::Up => host == self.scenario.wires[wire].client,
            Dir::Down => host == SERVER,
        };
        if !own {
            return Err(bad_segment(host, "not this host's address", &self.trace, &packet));
        }
        if packet.ip_len() > self.wires[wire].config.mtu as usize {
            return Err(bad_segment(host, "larger than the path's MTU", &self.trace, &packet));
        }
        let fates = self.wires[wire].send(self.now, dir, packet.clone());
        self.trace
            .sent(self.now, (host, self.host_at(wire, dir)), &packet, &fates);
        self.plan_arrivals(wire, dir, fates);
        if self.wires[wire].holds(dir) {
            self.plan(self.now + COALESCE_FOR, Happening::Flush { wire, dir });
        }
        Ok(())
    }

    /// Writes and reads the packet's bytes. Only SACK blocks may be dropped for want of room: the core has to know what it says.
    fn through_codec(&self, host: usize, packet: Packet) -> Result<Packet, Problem> {
        let bad = |why: &str| bad_segment(host, why, &self.trace, &packet);
        let mut read = packet.reread().map_err(|error| bad(&format!("{error:?}")))?;
        if read.options.mptcp != packet.options.mptcp {
            return Err(bad(&format!(
                "the MPTCP options do not fit, or read back as {:?}",
                read.options.mptcp
            )));
        }
        let sack = core::mem::replace(&mut read.options.sack, packet.options.sack);
        if read != packet {
            return Err(bad(&format!("reads back as {read:?}")));
        }
        read.options.sack = sack;
        Ok(read)
    }

    fn plan_arrivals(&mut self, wire: usize, dir: Dir, fates: Vec<(Packet, Fate)>) {
        for (packet, fate) in fates {
            if let Fate::Arrives(at) = fate {
                self.plan(
                    at,
                    Happening::Arrival {
                        wire,
                        dir,
                        packet: Box::new(packet),
                    },
                );
            }
        }
    }

    fn on_event(&mut self, host: usize, event: Event) -> Result<(), Problem> {
        self.trace.event(self.now, host, &event);
        let conn = match &event {
            Event::Accepted { conn, tuple } => {
                self.accept(host, *conn, *tuple)?;
                *conn
            }
            Event::WantSubflow {
                conn,
                want,
                local,
                remote,
                ..
            } => {
                self.answer_want(host, *conn, *want, *local, *remote)?;
                *conn
            }
            Event::SubflowUp { conn, .. } => {
                self.hosts[host].subflows_up += 1;
                *conn
            }
            Event::SubflowDown { conn, .. }
            | Event::SubflowGone { conn, .. }
            | Event::Connected(conn)
            | Event::Readable(conn)
            | Event::Writable(conn)
            | Event::Flushed(conn)
            | Event::Failed(conn, _)
            | Event::FellBack(conn, _)
            | Event::Closed(conn) => *conn,
        };
        match self.hosts[host].apps.get_mut(&conn) {
            Some(app) if !app.gone => app.on_event(&event)?,
            // A subflow's TIME_WAIT outlives its connection.
            Some(_) if matches!(event, Event::SubflowGone { .. }) => return Ok(()),
            _ => {
                return Err(Problem::StrayEvent {
                    host,
                    event: format!("{event:?}"),
                })
            }
        }
        self.act(host, conn)
    }

    fn accept(&mut self, host: usize, conn: ConnId, tuple: FourTuple) -> Result<(), Problem> {
        let number = usize::from(tuple.local.port().wrapping_sub(FIRST_SERVER_PORT));
        let twice = self.hosts[host].apps.values().any(|a| a.name.conn == number);
        if number >= self.scenario.conns.len() || host != SERVER || twice {
            return Err(Problem::StrayEvent {
                host,
                event: format!("Accepted {conn:?} {tuple:?}"),
            });
        }
        self.install(host, conn, number);
        Ok(())
    }

    /// Starts the application for the scenario's connection `number` on a host, and tells the endpoint its paths.
    fn install(&mut self, host: usize, conn: ConnId, number: usize) {
        let plans = &self.scenario.conns[number].plans;
        let corruption = self.scenario.corrupts();
        let h = &mut self.hosts[host];
        let name = AppName { host, conn: number };
        let rng = h.rng.fork();
        let app = App::new(
            name,
            conn,
            plans[end_of(host)],
            &plans[1 - end_of(host)],
            self.scenario.seed,
            corruption,
            rng,
        );
        h.apps.insert(conn, app);
        if !h.paths.is_empty() {
            h.endpoint.set_paths(h.clock.at(self.now), conn, &h.paths);
        }
    }

    fn answer_want(
        &mut self,
        host: usize,
        conn: ConnId,
        want: u32,
        local: IpAddr,
        remote: SocketAddr,
    ) -> Result<(), Problem> {
        let routed = self.routes.contains_key(&(local, remote.ip()));
        let h = &mut self.hosts[host];
        if !routed || h.rng.chance(self.scenario.refuse_subflow_per_mille) {
            h.endpoint.subflow_refused(h.clock.at(self.now), conn, want);
            return Ok(());
        }
        let local = SocketAddr::new(local, h.take_port());
        match h.endpoint.open_subflow(h.clock.at(self.now), conn, want, local) {
            // The application may have aborted before it came to this event.
            Ok(_) | Err(CallError::Gone) => Ok(()),
            Err(error) => Err(refused(host, 0, "open_subflow", error)),
        }
    }

    fn connect(&mut self, number: usize) -> Result<(), Problem> {
        let spec = &self.scenario.conns[number];
        let host = spec.client;
        let Some(wire) = self.scenario.wires.iter().find(|w| w.client == host) else {
            return Ok(()); // A client without a wire has nowhere to go.
        };
        let (client, server) = wire.ends;
        let h = &mut self.hosts[host];
        let path = h.paths.iter().find(|p| p.addr == client).copied();
        let path = path.unwrap_or(LocalPath {
            addr: client,
            iface: 0,
            mtu: wire.config.mtu,
            backup: false,
        });
        let tuple = FourTuple {
            local: SocketAddr::new(client, h.take_port()),
            remote: SocketAddr::new(server, FIRST_SERVER_PORT + number as u16),
        };
        let now = h.clock.at(self.now);
        let opened = h.endpoint.connect(now, tuple, path, spec.options[CLIENT].clone());
        let conn = opened.map_err(|e| refused(host, number, "connect", e))?;
        self.install(host, conn, number);
        self.pump(host)
    }

    /// Lets an application do what is due, and plans its next turn.
    fn act(&mut self, host: usize, conn: ConnId) -> Result<(), Problem> {
        let Host {
            endpoint, apps, clock, ..
        } = &mut self.hosts[host];
        let Some(app) = apps.get_mut(&conn) else {
            return Ok(());
        };
        let before = (app.sent, app.received, app.shut, app.eof, app.closed_at);
        app.act(self.now, *clock, endpoint)?;
        if (app.sent, app.received, app.shut, app.eof, app.closed_at) != before {
            let line = app.describe();
            let closed = if app.closed_at.is_some() { " closed" } else { "" };
            self.trace.note(self.now, || format!("  {line}{closed}"));
        }
        if let Some(at) = app.wake {
            self.plan(at, Happening::AppWake { host, conn });
        }
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<(), Problem> {
        self.trace.note(self.now, || format!("{change:?}"));
        match change {
            Change::Connect(number) => return self.connect(number),
            Change::Cut(wire) => self.wires[wire].up = false,
            Change::Mend(wire) => self.wires[wire].up = true,
            Change::Calm => {
                for wire in &mut self.wires {
                    wire.up = true;
                    wire.config.faults = Faults::default();
                    wire.middleboxes.iter_mut().for_each(|m| m.calm());
                }
            }
            Change::Pause { host, until } => self.hosts[host].paused_until = until,
            Change::Clock { host, by_ms } => {
                self.hosts[host].clock.jump(by_ms);
                // What the clock has passed is due.
                return self.pump(host);
            }
            Change::Crash(host) => {
                let edgy = self.scenario.edgy_numbers;
                let h = &mut self.hosts[host];
                h.endpoint = Endpoint::new(Box::new(HostEntropy::new(h.rng.fork(), edgy)));
                h.timer_at = None;
                for app in h.apps.values_mut().filter(|app| !app.gone) {
                    app.lose(self.now);
                }
            }
            Change::Paths { host, paths } => {
                let h = &mut self.hosts[host];
                h.paths = paths;
                for (conn, app) in &h.apps {
                    if !app.gone && app.closed_at.is_none() {
                        h.endpoint.set_paths(h.clock.at(self.now), *conn, &h.paths);
                    }
                }
                return self.pump(host);
            }
        }
        Ok(())
    }

    /// Buffers stay within their options.
    fn check_buffers(&self, host: usize) -> Result<(), Problem> {
        for (conn, app) in &self.hosts[host].apps {
            if app.gone {
                continue;
            }
            let Some(info) = self.hosts[host].endpoint.info(*conn) else {
                return Err(Problem::StrayEvent {
                    host,
                    event: format!("no info on {conn:?}, which is not Closed"),
                });
            };
            let options = &self.scenario.conns[app.name.conn].options[end_of(host)];
            let buffers = [
                ("send buffer", info.send_queue, options.send_buffer),
                ("receive buffer", info.recv_queue, options.recv_buffer),
            ];
            for (what, bytes, limit) in buffers {
                if bytes > limit {
                    return Err(Problem::Overfull {
                        host,
                        conn: *conn,
                        what,
                        bytes,
                        limit,
                    });
                }
            }
        }
        Ok(())
    }

    /// What a host's clock shows.
    fn clock(&self, host: usize) -> Instant {
        self.hosts[host].clock.at(self.now)
    }

    /// Where everything stands, for a failure.
    pub fn describe(&self) -> String {
        let mut lines = Vec::new();
        for (host, h) in self.hosts.iter().enumerate() {
            for (conn, app) in &h.apps {
                lines.push(app.describe());
                if !app.gone {
                    lines.push(format!("  {:?}", h.endpoint.info(*conn)));
                }
            }
            let left = h.endpoint.connections().len();
            lines.push(format!(
                "host {host}: {left} connections, next timer {:?}",
                h.endpoint.poll_timeout()
            ));
        }
        lines.join("\n")
    }
}

impl Host {
    /// A local port that no subflow of this host has had.
    fn take_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port - 1
    }
}

fn bad_segment(host: usize, why: &str, trace: &Trace, packet: &Packet) -> Problem {
    Problem::BadSegment {
        host,
        why: why.to_string(),
        segment: trace.describe(packet),
    }
}

fn refused(host: usize, conn: usize, call: &str, error: CallError) -> Problem {
    Problem::Refused {
        at: AppName { host, conn },
        call: format!("{call} {error:?}"),
    }
}

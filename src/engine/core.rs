//! The core with what it needs of the host: a link for its segments, guards for its ports, routes for its paths.
//!
//! Not here: what the core's events mean to connections (`core_events`), and which paths they get (`paths`).

use super::descriptors;
use super::event_loop::{EventLoop, Key, Source};
use super::ledger::Entry as Lost;
use super::listeners::{Listeners, Reception};
use super::memory;
use crate::link::path_config::PathConfig;
use crate::link::paths::Verdict;
use crate::link::routes::{Query, Routes};
use crate::link::{
    AutoLink, Guard, GuardKind, GuardRequest, Guards, Incoming, Lease, Link, OwnHost, PortSet, WantedPort, LOOPBACK,
};
use crate::mptcp::endpoint::{CallError, ConnId, ConnOptions, Endpoint, Entropy, Event, FourTuple, LocalPath};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, MpJoin, Segment};
use std::collections::hash_map::{Entry, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

/// How often what the link reports is acted upon before the loop turns to others.
const TRANSMIT_ROUNDS: usize = 8;
/// How often the link is asked, while anything happens, whether it still is the right one, and routes anew.
const LINK_REVIEW: Duration = Duration::from_secs(1);
/// A new connection is content with answers that are not older than this: many at once would otherwise do little else than ask.
const LINK_REVIEW_MIN: Duration = Duration::from_millis(10);
/// Refused joins that are thought of in one turn.
const MISSED_MAX: usize = 64;
/// Calls of the link's `recv` before others get their turn.
const RECV_BUDGET: usize = 4;

/// Everything that speaks TCP by itself.
pub struct Core {
    /// The protocol.
    pub endpoint: Endpoint,
    /// Connections of the core to connections of the engine.
    pub by_conn: HashMap<ConnId, Key>,
    /// Where programs listen; None where the kernel does not tell who does.
    pub listeners: Option<Listeners>,
    link: AutoLink,
    /// Connections of this host to itself.
    own_host: OwnHost,
    /// When the link was last asked whether it still is the right one.
    reviewed_at: Instant,
    guards: Guards,
    routes: Routes,
    /// A guard for each 4-tuple that is in use, TIME_WAIT included.
    held: HashMap<FourTuple, Guard>,
    /// With so many, accepted connections do without.
    guards_max: usize,
    /// Where joins may come to an address when the listener has gone.
    doors: HashMap<IpAddr, Guard>,
    /// Joins that the kernel has refused for want of a listener: token, and where they came to.
    missed: Vec<(u32, IpAddr)>,
    /// What the link hears now.
    admitted: PortSet,
    /// `Guards::port_changes` of that time; None: what a dead engine had it hear.
    admitted_changes: Option<u64>,
    /// The link's descriptors in which there may be something, a bit each.
    readable: u32,
    /// A bounded turn has left something to send.
    more_to_send: bool,
}

/// What a connection attempt needs to know.
pub struct Opening<'a> {
    /// Destination, as on the wire.
    pub remote: SocketAddr,
    /// The plain route's path.
    pub path: LocalPath,
    /// The program's socket, when the program has bound its port.
    pub bound: Option<BorrowedFd<'a>>,
    /// Options.
    pub options: ConnOptions,
}

/// A subflow that the core wants.
pub struct Want<'a> {
    /// For which connection.
    pub conn: ConnId,
    /// The core's number for it.
    pub want: u32,
    /// Local address and interface.
    pub path: (IpAddr, u32),
    /// Where to.
    pub remote: SocketAddr,
    /// The program's `MPTCP_PATHS`.
    pub config: &'a PathConfig,
    /// What the connection asked about its first destination.
    pub first: Query,
}

impl Core {
    /// Opens link, guards and routes. `ears` are those of an engine that died, or none: it hears by them, and what they heard before until
    /// [`Core::admit_ports`].
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW.
    pub fn start(event_loop: &EventLoop, ears: Vec<OwnedFd>) -> io::Result<Core> {
        let guards = Guards::new()?;
        let admitted = guards.ports();
        let (link, admitted_changes) = match ears.is_empty() {
            true => (AutoLink::new(&admitted)?, Some(guards.port_changes())),
            false => (AutoLink::adopt(ears)?, None),
        };
        let routes = Routes::new()?;
        for (index, fd) in link.fds().into_iter().enumerate() {
            event_loop.add(fd, Source::Link(index as u32))?;
        }
        event_loop.add(routes.fd(), Source::Monitor)?;
        let mut core = Core {
            endpoint: Endpoint::new(Box::new(KernelEntropy::new()?)),
            by_conn: HashMap::new(),
            listeners: Listeners::new().ok(),
            link,
            own_host: OwnHost::default(),
            reviewed_at: Instant::ZERO,
            guards,
            routes,
            held: HashMap::new(),
            guards_max: descriptors::for_guards(),
            doors: HashMap::new(),
            missed: Vec::new(),
            admitted,
            admitted_changes,
            readable: 0,
            more_to_send: false,
        };
        core.endpoint.set_memory_budget(memory::budget());
        core.learn_mtus();
        Ok(core)
    }

    /// The link's name, for people.
    pub fn link_name(&self) -> &'static str {
        self.link.name()
    }

    /// No connection, and no 4-tuple that waits for the end of TIME_WAIT.
    pub fn is_idle(&self) -> bool {
        self.by_conn.is_empty() && self.held.is_empty()
    }

    /// Which paths a connection may use at present.
    pub fn verdict(&mut self, query: &Query, config: &PathConfig) -> io::Result<Verdict> {
        self.routes.verdict(query, config)
    }

    /// The path to an address of this host itself.
    pub fn own_path(&mut self, query: &Query) -> io::Result<Option<LocalPath>> {
        self.routes.own_path(query)
    }

    /// Interfaces, addresses or routes have changed since the last call.
    pub fn routes_changed(&mut self) -> bool {
        let changed = self.routes.changed();
        // Where the tables cannot be read, the next change tries again.
        if changed && self.routes.refresh().is_ok() {
            self.learn_mtus();
            let interfaces = self.routes.interfaces();
            self.link
                .retain_interfaces(|index| interfaces.iter().any(|interface| interface.index == index));
        }
        changed
    }

    /// What the interfaces take, for those who answer SYNs.
    fn learn_mtus(&mut self) {
        let interfaces = self.routes.interfaces().iter();
        self.endpoint
            .set_mtus(interfaces.map(|interface| (interface.index, interface.mtu)));
    }

    /// Before a connection: asks the host for what it does not tell by itself, unless that was done just now.
    pub fn prepare(&mut self, now: Instant) {
        if now.since(self.reviewed_at) >= LINK_REVIEW_MIN {
            self.review_link(now);
        }
    }

    /// Opens a connection: takes the port, has the link hear it, and lets the core send its SYN.
    ///
    /// # Errors
    /// EADDRNOTAVAIL, EADDRINUSE and what else the guard says; the 4-tuple is in use. ECONNREFUSED: an address of this host, where no
    /// listener of ours would get the SYN, or its queue is full: the kernel knows how to wait for that.
    pub fn connect(&mut self, now: Instant, opening: Opening<'_>) -> io::Result<(ConnId, FourTuple)> {
        let Opening {
            remote,
            path,
            bound,
            options,
        } = opening;
        let port = bound.map_or(WantedPort::Any, WantedPort::Held);
        let tuple = self.guard(path.addr, port, remote, path.iface, options.mark)?;
        if path.iface == LOOPBACK && !self.is_open(tuple.reversed()) {
            self.release(tuple);
            return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        }
        match self.endpoint.connect(now, tuple, path, options) {
            Ok(conn) => Ok((conn, tuple)),
            Err(error) => {
                self.release(tuple);
                Err(call_error(error))
            }
        }
    }

    /// Whether the kernel would give a SYN of these addresses to a listener of ours, and has room in its queue.
    fn is_open(&mut self, tuple: FourTuple) -> bool {
        let mut gate = Gate {
            endpoint: &mut self.endpoint,
            listeners: self.listeners.as_mut(),
            missed: &mut self.missed,
        };
        gate.reception(tuple) == Reception::Open
    }

    /// Whether a subflow's other end is here too.
    pub fn is_own_hosts(&self, tuple: FourTuple) -> bool {
        self.held.contains_key(&tuple.reversed())
    }

    /// Answers the core's wish for a subflow.
    pub fn open_subflow(&mut self, now: Instant, wish: Want<'_>) {
        let Want {
            conn,
            want,
            path,
            remote,
            ..
        } = wish;
        if let Err(error) = self.try_subflow(now, &wish) {
            log::info!("connection {}: no subflow from {} to {remote}: {error}", conn.0, path.0);
            self.endpoint.subflow_refused(now, conn, want);
        }
    }

    fn try_subflow(&mut self, now: Instant, wish: &Want<'_>) -> io::Result<()> {
        let &Want {
            conn,
            want,
            path,
            remote,
            config,
            first,
        } = wish;
        if !self.routes.permits(&first, path.0, path.1, remote.ip(), config)? {
            return Err(io::Error::other("the routing does not allow it"));
        }
        let tuple = self.guard(path.0, WantedPort::Any, remote, path.1, first.mark)?;
        self.endpoint
            .open_subflow(now, conn, want, tuple.local)
            .map_err(|error| {
                self.release(tuple);
                call_error(error)
            })?;
        Ok(())
    }

    /// A subflow is there. One that the peer opened has no guard yet: its port is one of ours already. `reuse`: the port may be bound anew beside it
    /// (SO_REUSEADDR of the socket that was accepted).
    pub fn subflow_up(&mut self, tuple: FourTuple, reuse: bool) {
        if self.held.contains_key(&tuple) {
            return;
        }
        let FourTuple { local, remote } = tuple;
        if self.held.len() >= self.guards_max && self.is_open(tuple) {
            // The kernel is silent all the same, as long as the listener is deaf.
            return log::debug!("no guard for {local} > {remote}: there are {} already", self.held.len());
        }
        let iface = if self.is_own_hosts(tuple) { LOOPBACK } else { 0 };
        if let Err(error) = self.guard(local.ip(), WantedPort::Ours(local.port()), remote, iface, 0) {
            log::warn!("no guard for {local} > {remote}: {error}");
        }
        if let (false, Some(guard)) = (reuse, self.held.get(&tuple)) {
            guard.forbid_reuse();
        }
    }

    /// Ends the peers' side of subflows that a dead engine had. The kernel, which would send plain resets, is kept from it by guards.
    pub fn inherit(&mut self, now: Instant, lost: &[Lost]) {
        for Lost { tuple, remote_key } in lost.iter().copied() {
            let FourTuple { local, remote } = tuple;
            let guard = self.guards.acquire(&GuardRequest {
                local: local.ip(),
                port: WantedPort::Ours(local.port()),
                remote,
                iface: 0,
                mark: 0,
            });
            match guard {
                Ok(guard) => {
                    self.held.insert(tuple, guard);
                    self.endpoint.inherit(now, tuple, remote_key);
                }
                // The address has gone, say: the peer finds out by itself.
                Err(error) => log::info!("{local} > {remote} is not ended: {error}"),
            }
        }
        if let Err(error) = self.admit_ports() {
            log::warn!("the link does not hear those who are to be told: {error}");
        }
    }

    /// A 4-tuple is not used any more.
    pub fn release(&mut self, tuple: FourTuple) {
        self.held.remove(&tuple);
    }

    fn guard(
        &mut self,
        local: IpAddr,
        port: WantedPort<'_>,
        remote: SocketAddr,
        iface: u32,
        mark: u32,
    ) -> io::Result<FourTuple> {
        let guard = self.guards.acquire(&GuardRequest {
            local,
            port,
            remote,
            iface,
            mark,
        })?;
        self.admit_ports()?;
        let tuple = FourTuple {
            local: SocketAddr::new(local, guard.local().port()),
            remote,
        };
        self.held.insert(tuple, guard);
        Ok(tuple)
    }

    /// How guards are made here.
    pub fn guard_kind(&self) -> GuardKind {
        self.guards.kind()
    }

    /// From now on the link is one that hears what the host's filters let in.
    pub fn hear_after_filters(&mut self) {
        self.link.hear_after_filters();
    }

    /// Has the link hear a port on which a program listens, from the next [`Core::admit_ports`] on.
    pub fn lease(&self, port: u16) -> Lease {
        self.guards.lease(port)
    }

    /// Tells the link which ports to hear.
    pub fn admit_ports(&mut self) -> io::Result<()> {
        let changes = self.guards.port_changes();
        if self.admitted_changes == Some(changes) {
            return Ok(());
        }
        let ports = self.guards.ports();
        if self.admitted_changes.is_none() || ports != self.admitted {
            self.link.admit(&ports)?;
            self.admitted = ports;
        }
        self.admitted_changes = Some(changes);
        Ok(())
    }

    /// What the link hears by, for an engine that comes after this one.
    ///
    /// # Errors
    /// EMFILE.
    pub fn ears(&self) -> io::Result<Vec<OwnedFd>> {
        self.link.ears().into_iter().map(|fd| fd.try_clone_to_owned()).collect()
    }

    /// One of the link's descriptors has something: hands it to the core.
    pub fn on_link_ready(&mut self, now: Instant, source: u32) {
        self.readable |= 1 << source;
        self.receive(now);
    }

    /// Hands what came in to the core, as much as a turn may take.
    pub fn receive(&mut self, now: Instant) {
        let Core {
            link,
            readable,
            endpoint,
            listeners,
            missed,
            ..
        } = self;
        let listeners = listeners.as_mut();
        let mut gate = Gate {
            endpoint,
            listeners,
            missed,
        };
        for source in 0..u32::BITS {
            let bit = 1 << source;
            let mut recv = || link.recv(source as usize, &mut |incoming| gate.hear(now, incoming));
            if *readable & bit != 0 && (0..RECV_BUDGET).any(|_| recv()) {
                *readable &= !bit;
            }
        }
        self.open_doors(now);
    }

    /// Tells peers whose joins were refused where else they may go.
    fn open_doors(&mut self, now: Instant) {
        if self.by_conn.is_empty() {
            self.doors.clear();
        }
        for (token, address) in std::mem::take(&mut self.missed) {
            let door = match self.doors.entry(address) {
                Entry::Occupied(door) => door.into_mut(),
                Entry::Vacant(place) => match self.guards.door(address) {
                    Ok(door) => place.insert(door),
                    Err(error) => {
                        log::info!("no port for joins to {address}: {error}");
                        continue;
                    }
                },
            };
            let port = door.local().port();
            log::info!("a join to {address} came after its listener had gone: it may come to port {port}");
            self.endpoint.announce_port(now, token, address, port);
        }
        if let Err(error) = self.admit_ports() {
            log::warn!("the link does not hear joins: {error}");
        }
    }

    /// Something is left to receive or to send: do not sleep.
    pub fn has_more(&self) -> bool {
        self.readable != 0 || self.more_to_send
    }

    fn review_link(&mut self, now: Instant) {
        self.reviewed_at = now;
        self.link.review();
        self.routes.forget();
    }

    /// Lets time pass.
    pub fn expire(&mut self, now: Instant) {
        if now.since(self.reviewed_at) >= LINK_REVIEW {
            self.review_link(now);
        }
        if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
    }

    /// Sends what the core wants to send.
    pub fn transmit(&mut self, now: Instant) {
        let Core {
            link,
            endpoint,
            listeners,
            own_host,
            more_to_send,
            missed,
            ..
        } = self;
        // What the link says about a segment (too big, no route) may give the core something to send at once, and so may this host's own
        // connections' segments.
        *more_to_send = (0..TRANSMIT_ROUNDS).all(|_| {
            while let Some(segment) = endpoint.poll_transmit(now) {
                match segment.iface {
                    LOOPBACK => own_host.send(&segment),
                    _ => link.send(&segment),
                }
            }
            let mut heard = false;
            link.flush(&mut |incoming| {
                heard = true;
                let listeners = listeners.as_mut();
                let mut gate = Gate {
                    endpoint,
                    listeners,
                    missed,
                };
                gate.hear(now, incoming);
            });
            let mut own = |incoming: Incoming<'_>| {
                let mut gate = Gate {
                    endpoint,
                    listeners: listeners.as_mut(),
                    missed,
                };
                gate.hear_own_host(now, incoming);
            };
            heard | own_host.recv(&mut own)
        });
    }

    /// The core's next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.endpoint.poll_event()
    }
}

/// What stands between the link and the core: only segments that are ours pass.
struct Gate<'c> {
    endpoint: &'c mut Endpoint,
    listeners: Option<&'c mut Listeners>,
    missed: &'c mut Vec<(u32, IpAddr)>,
}

impl Gate<'_> {
    fn hear(&mut self, now: Instant, incoming: Incoming<'_>) {
        match incoming {
            Incoming::Segment {
                src,
                dst,
                iface,
                segment,
                ..
            } => {
                let tuple = FourTuple {
                    local: SocketAddr::new(dst, segment.header.dst_port),
                    remote: SocketAddr::new(src, segment.header.src_port),
                };
                if !self.is_ours(now, tuple, iface, &segment) {
                    return;
                }
                // The kernel, which answers segments that belong to nothing, is deaf at listeners' ports.
                if !self.endpoint.handle_segment(now, src, dst, iface, &segment)
                    && self.reception(tuple) != Reception::Kernel
                {
                    self.endpoint.refuse(tuple, iface, &segment);
                }
            }
            Incoming::Icmp {
                local,
                remote,
                seq,
                kind,
            } => self.endpoint.handle_icmp(now, local, remote, seq, kind),
        }
    }

    /// A segment of a connection whose ends are both here. The kernel has not seen it: what belongs to nothing is ours to answer.
    fn hear_own_host(&mut self, now: Instant, incoming: Incoming<'_>) {
        let Incoming::Segment {
            src,
            dst,
            iface,
            segment,
        } = incoming
        else {
            return;
        };
        let tuple = FourTuple {
            local: SocketAddr::new(dst, segment.header.dst_port),
            remote: SocketAddr::new(src, segment.header.src_port),
        };
        let opens = !self.endpoint.knows(tuple) && self.opens(now, tuple, &segment);
        if opens && self.reception(tuple) == Reception::Full {
            return;
        }
        if !self.endpoint.handle_segment(now, src, dst, iface, &segment) {
            self.endpoint.refuse(tuple, iface, &segment);
        }
    }

    /// Who gets a connection of these addresses that is opened now.
    fn reception(&mut self, tuple: FourTuple) -> Reception {
        let listeners = self.listeners.as_mut();
        let coming = self.endpoint.untold(tuple.local.port());
        listeners.map_or(Reception::Kernel, |listeners| listeners.reception(tuple, coming))
    }

    /// Whether the kernel leaves a join to us. Where nobody listens it has just refused it.
    fn is_silent_for(&mut self, tuple: FourTuple, token: u32) -> bool {
        let listeners = self.listeners.as_mut();
        let silent = listeners.is_none_or(|listeners| listeners.is_taken(tuple));
        if !silent && self.missed.len() < MISSED_MAX {
            self.missed.push((token, tuple.local.ip()));
        }
        silent
    }

    /// What opens something new is ours when the kernel would give it to a listener that is deaf for our sake and whose queue has room, or when it
    /// joins a connection of ours. All else is the kernel's, and so is everything on the loopback device.
    fn is_ours(&mut self, now: Instant, tuple: FourTuple, iface: u32, segment: &Segment<'_>) -> bool {
        if self.endpoint.knows(tuple) {
            return true;
        }
        if iface == LOOPBACK {
            return false;
        }
        if let Some(token) = self.joined(segment) {
            return self.is_silent_for(tuple, token);
        }
        !self.opens(now, tuple, segment) || self.reception(tuple) == Reception::Open
    }

    /// The token of our connection that a SYN joins.
    fn joined(&self, segment: &Segment<'_>) -> Option<u32> {
        let flags = segment.header.flags;
        match segment.options.mptcp.join {
            Some(MpJoin::Syn { token, .. })
                if flags.has(Flags::SYN) && !flags.has(Flags::ACK) && self.endpoint.has_token(token) =>
            {
                Some(token)
            }
            _ => None,
        }
    }

    /// A segment of no known 4-tuple opens a connection, and does not join one.
    fn opens(&self, now: Instant, tuple: FourTuple, segment: &Segment<'_>) -> bool {
        let flags = segment.header.flags;
        if flags.has(Flags::SYN) && !flags.has(Flags::ACK) {
            self.joined(segment).is_none()
        } else {
            self.endpoint.answers_cookie(now, tuple, segment)
        }
    }
}

fn call_error(error: CallError) -> io::Error {
    let errno = match error {
        CallError::InUse => libc::EADDRNOTAVAIL,
        CallError::Gone => libc::ENOTCONN,
        CallError::Shutdown => libc::EPIPE,
        CallError::Broken(_) => libc::ECONNRESET,
    };
    io::Error::from_raw_os_error(errno)
}

/// Random numbers of the kernel, fetched in blocks: a SYN needs a handful.
struct KernelEntropy {
    block: [u64; 32],
    left: usize,
}

impl KernelEntropy {
    fn new() -> io::Result<KernelEntropy> {
        let mut entropy = KernelEntropy {
            block: [0; 32],
            left: 0,
        };
        entropy.refill()?;
        Ok(entropy)
    }

    fn refill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 256];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        for (word, bytes) in self.block.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        self.left = self.block.len();
        Ok(())
    }
}

impl Entropy for KernelEntropy {
    fn next_u64(&mut self) -> u64 {
        if self.left == 0 && self.refill().is_err() {
            // getrandom(2) worked at the start and cannot fail since. Numbers that repeat would be worse than an end:
            // programs get a reset and start a new engine.
            std::process::abort();
        }
        self.left -= 1;
        // A key is forgotten once it was handed out.
        std::mem::take(&mut self.block[self.left])
    }
}

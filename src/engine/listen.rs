//! The request to listen, and listeners that end.
//!
//! Authority is the passed socket: who could bind it may answer at that address. The engine closes its copy at once.

use super::connection::unmap;
use super::event_loop::{Key, Source};
use super::keeper::{Held, Inheritance, Keeper, Record};
use super::ledger::{Ledger, Table};
use super::listeners::{Listener, Listeners};
use super::multipath;
use super::policy::{Defaults, Policy};
use super::server::Engine;
use super::socket_options::{self, SocketOptions};
use crate::control::multipath::{stash, CONGESTIONS};
use crate::control::{loopback_wanted, setting, Bypass, Listen, Reply};
use crate::link::diag::TCP_LISTEN;
use crate::link::GuardKind;
use crate::time::{Duration, Instant};
use rustix::io::Errno;
use rustix::net::{getsockname, ipproto, sockopt, UCred};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// How often the engine looks whether its listeners still listen where the kernel does not tell when one is closed; and how often when it was told
/// to end.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_TO_LEAVE: Duration = Duration::from_millis(100);

impl Engine {
    /// Answers a request to listen.
    pub(super) fn serve_listen(
        &mut self,
        now: Instant,
        client: Key,
        request: &Listen<'_>,
        fd: Option<OwnedFd>,
        cred: UCred,
    ) {
        if cred.uid != rustix::process::geteuid() {
            return self.serve_foreign_listen(now, client, fd);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let program = text(request.program);
        let pid = cred.pid.as_raw_nonzero().get() as u32;
        let settings = self.settings_files.complete(request.settings, request.program, None);
        let off = |name| setting(&settings, name) == Some(b"off");
        if off("MPTCP") || off("MPTCP_LISTEN") {
            return self.refuse_listener(client, &program, pid, Bypass::ListenOff);
        }
        if fd
            .as_ref()
            .is_some_and(|fd| sockopt::socket_acceptconn(fd) == Ok(false))
        {
            // It is about to, and will be deaf for our sake.
            return match self.get_ready() {
                Ok(()) => drop(self.answer(client, &Reply::Done, None)),
                Err(reason) => self.refuse_listener(client, &program, pid, reason),
            };
        }
        let record = match record_of(fd, loopback_wanted(&settings)) {
            Ok(record) => Record {
                program: program.clone(),
                pid,
                settings: text(request.settings),
                ..record
            },
            Err(reason) => return self.refuse_listener(client, &program, pid, reason),
        };
        match self.listen(now, record) {
            Ok(()) => {
                self.answer(client, &Reply::Done, None);
            }
            Err(reason) => self.refuse_listener(client, &program, pid, reason),
        }
    }

    /// Another user's program, which holds a socket that is known here, has changed its options.
    fn serve_foreign_listen(&mut self, now: Instant, client: Key, fd: Option<OwnedFd>) {
        let listeners = self.core.as_ref().and_then(|core| core.listeners.as_ref());
        let known = record_of(fd, true).ok().and_then(|new| {
            let old = &listeners?.get(new.cookie)?.record;
            let options = new.options;
            Some(Record { options, ..old.clone() })
        });
        match known.map(|record| self.listen(now, record)) {
            Some(Ok(())) => drop(self.answer(client, &Reply::Done, None)),
            Some(Err(reason)) => drop(self.answer(client, &Reply::Bypass(reason), None)),
            None => self.answer_error(client, Errno::ACCESS),
        }
    }

    fn refuse_listener(&mut self, client: Key, program: &str, pid: u32, reason: Bypass) {
        log::info!("{program}[{pid}]: a listener is left to the kernel: {}", reason.text());
        self.answer(client, &Reply::Bypass(reason), None);
    }

    /// All that answering for listening sockets takes and that takes its time: the link that it needs, and the keeper.
    fn get_ready(&mut self) -> Result<(), Bypass> {
        let core = self.core.as_mut().ok_or(Bypass::NoLink)?;
        if core.guard_kind() != GuardKind::Repair {
            // Connections that outlive their listener would need its port.
            return Err(Bypass::NoPrivilege);
        }
        if core.listeners.is_none() {
            return Err(Bypass::NoDiag);
        }
        core.hear_after_filters();
        if let Some(listeners) = &mut core.listeners {
            match listeners.begin_to_hear_ends() {
                Ok(Some(ends)) => self
                    .event_loop
                    .add(ends, Source::Ends)
                    .map_err(|_| Bypass::NoResources)?,
                Ok(None) => {}
                Err(error) => log::info!("the kernel does not tell when a listener is closed: {error}"),
            }
        }
        if self.keeper.is_none() {
            self.start_keeper();
        }
        match self.keeper {
            Some(_) => Ok(()),
            None => Err(Bypass::NoResources),
        }
    }

    /// Answers for a listening socket from now on.
    fn listen(&mut self, now: Instant, record: Record) -> Result<(), Bypass> {
        self.get_ready()?;
        let core = self.core.as_mut().ok_or(Bypass::NoLink)?;
        let Record { cookie, bound, .. } = record;
        // To a loopback address no segment comes from the network.
        let lease = (!unmap(bound).ip().is_loopback()).then(|| core.lease(bound.port()));
        let listeners = core.listeners.as_mut().ok_or(Bypass::NoDiag)?;
        if !listeners.confirm(cookie, bound).map_err(|_| Bypass::NoDiag)? {
            return Err(Bypass::Unproven);
        }
        let listener = Listener::new(record.clone(), lease).ok_or(Bypass::EngineFault)?;
        let settings = self
            .settings_files
            .complete(record.settings.as_bytes(), record.program.as_bytes(), None);
        let mut options = listener.options.for_core(unmap(bound).is_ipv6());
        let policy = Policy {
            wishes: &listener.wishes,
            defaults: &Defaults::read(&settings),
            options: &listener.options,
        };
        policy.apply(&mut options);
        for address in listener.wire_addresses() {
            // Those of the last listener there are those of the next connection.
            core.endpoint.unlisten(address);
            let _ = core.endpoint.listen(address, options.clone());
        }
        listeners.add(listener);
        core.admit_ports().map_err(|_| Bypass::NoResources)?;
        log::info!("{}[{}] listens at {bound}", record.program, record.pid);
        if let Some(keeper) = &self.keeper {
            keeper.listens(record);
        }
        self.sweep_later(now, false);
        Ok(())
    }

    /// Programs listen.
    pub(super) fn listens(&self) -> bool {
        let listeners = self.core.as_ref().and_then(|core| core.listeners.as_ref());
        listeners.is_some_and(|listeners| !listeners.is_empty())
    }

    /// Sees to it that the end of a listener is noticed. `again`: it may have come already.
    fn sweep_later(&mut self, now: Instant, again: bool) {
        let listeners = self.core.as_ref().and_then(|core| core.listeners.as_ref());
        let blind = listeners.is_some_and(|listeners| !listeners.is_empty() && (again || !listeners.hears_ends()));
        let pause = match self.leaving.is_told() {
            true => SWEEP_TO_LEAVE,
            false => SWEEP,
        };
        self.sweep_due = blind.then(|| now + pause);
    }

    /// Sockets are gone that may be listeners.
    pub(super) fn on_ends(&mut self, now: Instant) {
        let listeners = self.core.as_mut().and_then(|core| core.listeners.as_mut());
        if listeners.is_some_and(Listeners::hear_ends) {
            self.sweep_listeners(now);
        }
    }

    /// Takes over the listeners of an engine that died, and tells the peers of its connections.
    pub fn inherit(&mut self, inheritance: Inheritance) {
        let now = self.clock.now();
        let Inheritance {
            keeper, records, table, ..
        } = inheritance;
        if self.event_loop.add(keeper.as_fd(), Source::Keeper).is_ok() {
            self.keeper = Some(keeper);
        }
        // All ports at once: none is unheard, not for a moment.
        let core = self.core.as_ref();
        let _leases: Vec<_> = core.map_or(Vec::new(), |core| {
            records.iter().map(|record| core.lease(record.bound.port())).collect()
        });
        for record in records {
            let (cookie, bound) = (record.cookie, record.bound);
            if let Err(reason) = self.listen(now, record) {
                log::info!("{bound} is not taken over: {}", reason.text());
                if let Some(keeper) = &self.keeper {
                    keeper.gone(cookie);
                }
            }
        }
        let (ledger, lost) = Ledger::open(table);
        self.ledger = Some(ledger);
        if let Some(core) = &mut self.core {
            log::info!("{} subflows of the engine before are ended", lost.len());
            core.inherit(now, &lost);
        }
    }

    /// The keeper was killed.
    pub(super) fn replace_keeper(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.bury();
        }
        let listeners = self.core.as_ref().and_then(|core| core.listeners.as_ref());
        let Some(listeners) = listeners.filter(|listeners| !listeners.is_empty()) else {
            return;
        };
        let records: Vec<Record> = listeners.iter().map(|listener| listener.record.clone()).collect();
        self.start_keeper();
        if let Some(keeper) = &self.keeper {
            records.into_iter().for_each(|record| keeper.listens(record));
        }
    }

    fn start_keeper(&mut self) {
        match self.try_keeper() {
            Ok(keeper) => self.keeper = Some(keeper),
            Err(error) => log::warn!("no keeper: {error}"),
        }
    }

    fn try_keeper(&mut self) -> std::io::Result<Keeper> {
        let gone = || std::io::Error::from(std::io::ErrorKind::NotConnected);
        let name = self.control.name().ok_or_else(gone)?.try_clone_to_owned()?;
        let ears = self.core.as_ref().ok_or_else(gone)?.ears()?;
        let table = match &self.ledger {
            Some(ledger) => ledger.table(),
            None => self.ledger.insert(Ledger::open(Rc::new(Table::new()?)).0).table(),
        };
        let keeper = Keeper::start(&self.settings, Held { name, ears }, table)?;
        self.event_loop.add(keeper.as_fd(), Source::Keeper)?;
        Ok(keeper)
    }

    /// Stops answering for listeners that are gone.
    pub(super) fn sweep_listeners(&mut self, now: Instant) {
        let Some(core) = &mut self.core else { return };
        let Some(listeners) = &mut core.listeners else { return };
        let swept = listeners.sweep();
        for address in swept.addresses {
            core.endpoint.unlisten(address);
        }
        if !swept.gone.is_empty() {
            // A wider filter than needed costs only time.
            let _ = core.admit_ports();
        }
        for (cookie, bound) in swept.gone {
            log::info!("nobody listens at {bound} any more");
            self.unclaimed_ports.remove(&bound.port());
            if let Some(keeper) = &self.keeper {
                keeper.gone(cookie);
            }
        }
        self.sweep_later(now, swept.failed);
    }

    /// Sweeps when it is time.
    pub(super) fn sweep_when_due(&mut self, now: Instant) {
        if self.sweep_due.is_some_and(|due| due <= now) {
            self.sweep_listeners(now);
        }
    }
}

/// The passed descriptor must be a listening TCP socket; what there is to know about it.
fn record_of(fd: Option<OwnedFd>, loopback: bool) -> Result<Record, Bypass> {
    let unproven = |_| Bypass::Unproven;
    let socket = fd.ok_or(Bypass::Unproven)?;
    if sockopt::socket_protocol(&socket).map_err(unproven)? != Some(ipproto::TCP) {
        return Err(Bypass::NotTcp);
    }
    let mut state = [0; 1];
    socket_options::get(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut state).map_err(unproven)?;
    if state[0] != TCP_LISTEN {
        return Err(Bypass::Unproven);
    }
    let bound = getsockname(&socket).map_err(unproven)?;
    let bound = SocketAddr::try_from(bound).map_err(|_| Bypass::OddAddress)?;
    if unmap(bound).ip().is_loopback() && !loopback {
        return Err(Bypass::Loopback);
    }
    let options = SocketOptions::read(socket.as_fd(), bound.is_ipv6()).map_err(unproven)?;
    if options.congestion().is_some_and(|name| !CONGESTIONS.contains(&name)) {
        return Err(Bypass::Option);
    }
    Ok(Record {
        cookie: sockopt::socket_cookie(&socket).map_err(unproven)?,
        bound,
        one_family: bound.is_ipv4() || sockopt::ipv6_v6only(&socket).map_err(unproven)?,
        options: options.pack(),
        wishes: stash::words(&multipath::read_wishes(socket.as_fd())),
        settings: String::new(),
        program: String::new(),
        pid: 0,
    })
}

//! Path management: address ids, joins to open, ADD_ADDR and REMOVE_ADDR to say and to hear (RFC 8684 sections 3.2 and 3.4).
//!
//! A client opens one subflow from each local path, and one to each announced address that has none; a server announces its
//! paths. What fails is tried again ever more slowly; what was prohibited waits until another subflow closes (note J10).

use super::connection::{Connection, Ctx, Role};
use super::crypto;
use super::endpoint::{Event, LocalPath};
use super::input::RST_PROHIBITED;
use super::subflow::Subflow;
use crate::time::{Duration, Instant};
use crate::wire::{AddAddr, RemoveAddr};
use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;

/// Subflows that one connection has at the most.
pub(super) const MAX_SUBFLOWS: usize = 8;
/// Addresses of the peer that are remembered.
const MAX_REMOTES: usize = 16;
/// New addresses that a peer may announce in a connection's life.
const MAX_ANNOUNCED: u8 = 32;
/// Echoes and announcements that wait.
const MAX_SIGNALS: usize = 16;
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// RFC 8684 section 3.4.1: an ADD_ADDR without echo is repeated.
const ECHO_WAIT: Duration = Duration::from_secs(1);
const ECHO_TRIES: u32 = 4;

#[derive(Debug)]
pub(super) struct Local {
    pub path: LocalPath,
    pub id: u8,
    retry_at: Instant,
    failures: u32,
    /// Announced to the peer, or about to be.
    pub announced: bool,
    /// The program has closed a subflow from here: none is opened unless it asks.
    pub closed: bool,
}

#[derive(Debug)]
struct Remote {
    id: u8,
    addr: SocketAddr,
    retry_at: Instant,
    failures: u32,
}

/// A subflow asked for and not yet opened.
#[derive(Debug)]
pub(super) struct Want {
    number: u32,
    pub local: LocalPath,
    local_id: u8,
    remote: SocketAddr,
    remote_id: u8,
}

#[derive(Debug)]
pub(super) struct Announce {
    id: u8,
    pub addr: IpAddr,
    /// Where joins go that cannot go to the connection's own port.
    port: Option<u16>,
    tries: u32,
    resend_at: Option<Instant>,
    send_now: bool,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Addresses {
    first: LocalPath,
    pub locals: Vec<Local>,
    /// Taken back by the program; their subflows end when others are up.
    pub leaving: Vec<Local>,
    remotes: Vec<Remote>,
    pub wants: Vec<Want>,
    next_want: u32,
    next_id: u8,
    /// The peer's C flag: no joins to its first address (RFC 8684 section 3.1).
    pub no_join_here: bool,
    /// Our own C flag.
    pub forbid_join_here: bool,
    pub fully_established: bool,
    pub stopped: bool,
    /// The peer prohibits further subflows until one closes.
    prohibited: bool,
    /// New addresses that the peer announced so far: it does not choose whom we knock at without end.
    pub heard: u8,
    echoes: VecDeque<AddAddr>,
    pub announces: VecDeque<Announce>,
    /// Announced beside the connection's own port.
    doors: Vec<SocketAddr>,
    pub removed: Vec<u8>,
    dirty: bool,
}

impl Addresses {
    pub fn new(first: LocalPath) -> Self {
        Addresses {
            first,
            locals: Vec::new(),
            leaving: Vec::new(),
            remotes: Vec::new(),
            wants: Vec::new(),
            next_want: 1,
            next_id: 1,
            no_join_here: false,
            forbid_join_here: false,
            fully_established: false,
            stopped: false,
            prohibited: false,
            heard: 0,
            echoes: VecDeque::new(),
            announces: VecDeque::new(),
            doors: Vec::new(),
            removed: Vec::new(),
            dirty: false,
        }
    }

    /// Addresses that the peer was told of; the first one needs no telling.
    pub fn announced(&self) -> u8 {
        self.locals.iter().filter(|l| l.announced && l.id != 0).count() as u8
    }

    /// MPTCP is over for this connection: no join, no announcement any more (note F4).
    pub fn stop(&mut self) {
        self.stopped = true;
        self.wants.clear();
        self.echoes.clear();
        self.announces.clear();
        self.removed.clear();
    }

    fn fresh_id(&mut self) -> u8 {
        loop {
            let id = self.next_id;
            self.next_id = if self.next_id == 255 { 1 } else { self.next_id + 1 };
            // There are far fewer local addresses than ids.
            if !self.locals.iter().chain(&self.leaving).any(|l| l.id == id) {
                return id;
            }
        }
    }

    /// A join attempt ended without success; `reason` is the peer's MP_TCPRST.
    pub fn on_join_failed(&mut self, now: Instant, sf: &Subflow, reason: Option<u8>) {
        if reason == Some(RST_PROHIBITED) {
            self.prohibited = true;
        }
        self.postpone(now, sf);
    }

    fn postpone(&mut self, now: Instant, sf: &Subflow) {
        let wait = |failures: &mut u32| {
            let d = RETRY_MIN * (1 << (*failures).min(5));
            *failures += 1;
            now + d.min(RETRY_MAX)
        };
        // An announced address that does not answer says nothing of the path: the peer's first address may be tried next.
        if let Some(r) = self.remotes.iter_mut().find(|r| r.addr == sf.tuple.remote) {
            r.retry_at = wait(&mut r.failures);
        } else if let Some(l) = self.locals.iter_mut().find(|l| l.path.addr == sf.tuple.local.ip()) {
            l.retry_at = wait(&mut l.failures);
        }
    }

    pub fn on_join_up(&mut self) {
        self.dirty = true;
    }

    /// A subflow ended, of whichever side's making.
    pub fn on_subflow_gone(&mut self, now: Instant, sf: &Subflow) {
        let was_up = sf.state.synchronized() && (sf.join.is_none() || sf.confirmed);
        if was_up {
            self.prohibited = false;
            if let Some(l) = self.locals.iter_mut().find(|l| l.path.addr == sf.tuple.local.ip()) {
                l.failures = 0;
                l.retry_at = l.retry_at.max(now + RETRY_MIN);
            }
        }
        self.dirty = true;
    }

    /// When something is to be tried again.
    pub fn timeout(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let resend = self.announces.front().and_then(|a| a.resend_at);
        let retry = if self.fully_established && !self.prohibited {
            let times = self
                .locals
                .iter()
                .map(|l| l.retry_at)
                .chain(self.remotes.iter().map(|r| r.retry_at));
            times.filter(|t| *t > Instant::ZERO).min()
        } else {
            None
        };
        [resend, retry].into_iter().flatten().min()
    }

    /// Retry times that have passed are spent: what they allowed was done, or was not needed.
    pub fn settle(&mut self, now: Instant) {
        for l in self.locals.iter_mut().filter(|l| l.retry_at <= now) {
            l.retry_at = Instant::ZERO;
        }
        for r in self.remotes.iter_mut().filter(|r| r.retry_at <= now) {
            r.retry_at = Instant::ZERO;
        }
        if self
            .announces
            .front()
            .is_some_and(|a| a.resend_at.is_some_and(|t| t <= now))
        {
            // The connection is closing: nobody needs to hear of more addresses.
            self.announces.clear();
        }
    }

    pub fn has_signal(&self) -> bool {
        !self.echoes.is_empty() || !self.removed.is_empty() || self.announces.front().is_some_and(|a| a.send_now)
    }

    /// The next ADD_ADDR to send: an echo, or an announcement of ours (one at a time: note A3).
    pub fn next_add_addr(&mut self, (local_key, remote_key): (u64, u64)) -> Option<AddAddr> {
        if let Some(echo) = self.echoes.pop_front() {
            return Some(echo);
        }
        let a = self.announces.front_mut().filter(|a| a.send_now)?;
        a.send_now = false;
        let hmac = crypto::add_addr_hmac(local_key, remote_key, a.id, a.addr, a.port);
        Some(AddAddr {
            id: a.id,
            addr: a.addr,
            port: a.port,
            hmac: Some(hmac),
        })
    }

    pub fn take_remove_addr(&mut self) -> Option<RemoveAddr> {
        // Beside timestamps and a 64-bit DATA_ACK 16 bytes are left, 3 of them for the header.
        let n = self.removed.len().min(13);
        let ids: Vec<u8> = self.removed.drain(..n).collect();
        RemoveAddr::new(&ids)
    }
}

impl Connection {
    /// The caller's list of local paths changed.
    pub(super) fn set_paths(&mut self, ctx: &mut Ctx<'_>, paths: &[LocalPath]) {
        if self.addresses.stopped || self.error.is_some() {
            return;
        }
        let gone: Vec<IpAddr> = self
            .addresses
            .locals
            .iter()
            .map(|l| l.path.addr)
            .filter(|a| !paths.iter().any(|p| p.addr == *a))
            .collect();
        for addr in gone {
            self.drop_local(ctx, addr);
        }
        let first = self.addresses.first.addr;
        for path in paths {
            if let Some(known) = self.addresses.locals.iter_mut().find(|l| l.path.addr == path.addr) {
                let backup_changed = known.path.backup != path.backup;
                known.path = *path;
                if backup_changed {
                    for sf in self.subflows.iter_mut().filter(|s| s.tuple.local.ip() == path.addr) {
                        sf.local_backup = path.backup;
                        sf.prio_now = true;
                    }
                }
                continue;
            }
            if path.backup {
                // Those that the peer opened before the paths were known.
                let here = |s: &&mut Subflow| s.tuple.local.ip() == path.addr && !s.local_backup;
                for sf in self.subflows.iter_mut().filter(here) {
                    sf.local_backup = true;
                    sf.prio_now = true;
                }
            }
            let first_lives = self.subflows.iter().any(|s| s.join.is_none() && !s.close_queued);
            let fresh = path.addr != first || !first_lives;
            let id = if fresh { self.addresses.fresh_id() } else { 0 };
            self.addresses.locals.push(Local {
                path: *path,
                id,
                retry_at: Instant::ZERO,
                failures: 0,
                announced: !fresh,
                closed: false,
            });
        }
        self.addresses.dirty = true;
        self.evaluate_paths(ctx);
    }

    /// A local address is gone: its subflows end, the peer is told on another one (RFC 8684 section 3.4.2).
    fn drop_local(&mut self, ctx: &mut Ctx<'_>, addr: IpAddr) {
        let Some(at) = self.addresses.locals.iter().position(|l| l.path.addr == addr) else {
            return;
        };
        let local = self.addresses.locals.remove(at);
        self.addresses.wants.retain(|w| w.local.addr != addr);
        self.addresses.announces.retain(|a| a.addr != addr);
        let others = self.subflows.iter().any(|s| s.is_up() && s.tuple.local.ip() != addr);
        if !others {
            // Break before make: the subflows stay until something better comes, or they time out.
            return;
        }
        if self.multipath() && self.addresses.fully_established {
            self.addresses.removed.push(local.id);
        }
        self.end_subflows(ctx, |s| s.tuple.local.ip() == addr);
    }

    /// Subflows of a path that is dead: nothing sent there would arrive.
    pub(super) fn end_subflows(&mut self, ctx: &mut Ctx<'_>, which: impl Fn(&Subflow) -> bool) {
        for i in (0..self.subflows.len()).rev() {
            if which(&self.subflows[i]) {
                self.release(ctx, i, None);
            }
        }
    }

    /// A receiver found a path dead: the peer learns it by REMOVE_ADDR and sends the data again elsewhere.
    pub(super) fn give_up_path(&mut self, ctx: &mut Ctx<'_>, index: usize) {
        let id = self.subflows[index].local_id;
        self.addresses.removed.push(id);
        let tuple = self.subflows[index].tuple;
        self.addresses.postpone(ctx.now, &self.subflows[index]);
        self.release(ctx, index, None);
        // The address is as good as new when it comes back: it gets an id that the peer has not struck out.
        let fresh = self.addresses.fresh_id();
        if let Some(l) = self
            .addresses
            .locals
            .iter_mut()
            .find(|l| l.path.addr == tuple.local.ip())
        {
            l.id = fresh;
        }
    }

    /// Opens, announces and repeats what is due.
    pub(super) fn evaluate_paths(&mut self, ctx: &mut Ctx<'_>) {
        self.withdraw(ctx);
        let due = self.addresses.timeout().is_some_and(|t| t <= ctx.now);
        if !self.addresses.dirty && !due {
            return;
        }
        if !self.multipath() || self.addresses.stopped || self.error.is_some() || !self.addresses.fully_established {
            return;
        }
        self.addresses.dirty = false;
        // A connection that is closing in both directions needs no new subflow; a half-closed one may carry much yet.
        if self.inc_finished() && self.out.fin_queued {
            return;
        }
        if self.role == Role::Server && !self.addresses.forbid_join_here {
            self.announce_locals();
        }
        self.repeat_announcement(ctx.now);
        if self.role == Role::Client && !self.carries_enough_to_join() {
            // Looked at again with every segment that comes.
            self.addresses.dirty = true;
        } else if self.role == Role::Client && !self.addresses.prohibited {
            self.want_from_locals(ctx);
            self.want_to_remotes(ctx);
        }
    }

    /// RFC 6897 section 4.5: further subflows may wait until the connection is worth them.
    fn carries_enough_to_join(&self) -> bool {
        self.out.acked.saturating_add(self.inc.buf.received()) >= self.options.join_after
    }

    pub(super) fn subflow_budget(&self) -> usize {
        MAX_SUBFLOWS.saturating_sub(self.subflows.len() + self.addresses.wants.len())
    }

    fn want_from_locals(&mut self, ctx: &mut Ctx<'_>) {
        for i in 0..self.addresses.locals.len() {
            let l = &self.addresses.locals[i];
            let addr = l.path.addr;
            let used = self.subflows.iter().any(|s| s.tuple.local.ip() == addr)
                || self.addresses.wants.iter().any(|w| w.local.addr == addr);
            if used || l.closed || l.retry_at > ctx.now || self.subflow_budget() == 0 {
                continue;
            }
            let Some((remote, remote_id)) = self.best_remote(ctx.now, addr) else {
                continue;
            };
            self.want(ctx, i, remote, remote_id);
        }
    }

    /// The peer's address for a join from `local`: of the same family, the one with the fewest subflows, the first one in doubt.
    pub(super) fn best_remote(&self, now: Instant, local: IpAddr) -> Option<(SocketAddr, u8)> {
        let initial = (!self.addresses.no_join_here).then_some((self.first.remote, 0u8));
        let announced = self
            .addresses
            .remotes
            .iter()
            .filter(|r| r.retry_at <= now)
            .map(|r| (r.addr, r.id));
        initial
            .into_iter()
            .chain(announced)
            .filter(|(a, _)| a.is_ipv4() == local.is_ipv4())
            .min_by_key(|(a, _)| self.subflows.iter().filter(|s| s.tuple.remote == *a).count())
    }

    /// The id of an address of the peer that may be joined.
    pub(super) fn remote_id(&self, remote: SocketAddr) -> Option<u8> {
        if remote == self.first.remote && !self.addresses.no_join_here {
            return Some(0);
        }
        let known = self.addresses.remotes.iter().find(|r| r.addr == remote);
        known.map(|r| r.id)
    }

    fn want_to_remotes(&mut self, ctx: &mut Ctx<'_>) {
        for i in 0..self.addresses.remotes.len() {
            let r = &self.addresses.remotes[i];
            let (addr, id) = (r.addr, r.id);
            let used = self.subflows.iter().any(|s| s.tuple.remote == addr)
                || self.addresses.wants.iter().any(|w| w.remote == addr);
            if used || r.retry_at > ctx.now || self.subflow_budget() == 0 {
                continue;
            }
            let load = |l: &Local| {
                self.subflows
                    .iter()
                    .filter(|s| s.tuple.local.ip() == l.path.addr)
                    .count()
            };
            let locals = self.addresses.locals.iter().enumerate();
            let best = locals
                .filter(|(_, l)| l.path.addr.is_ipv4() == addr.is_ipv4() && !l.closed && l.retry_at <= ctx.now)
                .min_by_key(|(_, l)| (load(l), core::cmp::Reverse(common_prefix(l.path.addr, addr.ip()))));
            if let Some((l, _)) = best {
                self.want(ctx, l, addr, id);
            }
        }
    }

    pub(super) fn want(&mut self, ctx: &mut Ctx<'_>, local: usize, remote: SocketAddr, remote_id: u8) {
        let l = &self.addresses.locals[local];
        let (path, local_id) = (l.path, l.id);
        let number = self.addresses.next_want;
        self.addresses.next_want += 1;
        self.addresses.wants.push(Want {
            number,
            local: path,
            local_id,
            remote,
            remote_id,
        });
        ctx.events.push_back(Event::WantSubflow {
            conn: self.id,
            want: number,
            local: path.addr,
            iface: path.iface,
            remote,
        });
    }

    /// Where a wanted subflow is to go.
    pub(super) fn wanted_remote(&self, number: u32) -> Option<SocketAddr> {
        self.addresses
            .wants
            .iter()
            .find(|w| w.number == number)
            .map(|w| w.remote)
    }

    /// The caller took a port for a wanted subflow: what is it to be?
    pub(super) fn take_want(&mut self, number: u32) -> Option<(LocalPath, u8, SocketAddr, u8)> {
        let at = self.addresses.wants.iter().position(|w| w.number == number)?;
        let w = self.addresses.wants.remove(at);
        Some((w.local, w.local_id, w.remote, w.remote_id))
    }

    /// The caller could not take a port, or may not send there.
    pub(super) fn want_refused(&mut self, now: Instant, number: u32) {
        let Some((path, _, remote, _)) = self.take_want(number) else {
            return;
        };
        let a = &mut self.addresses;
        if let Some(r) = a.remotes.iter_mut().find(|r| r.addr == remote) {
            r.failures += 1;
            r.retry_at = now + RETRY_MAX;
            // Another address of the peer may do.
            a.dirty = true;
        } else if let Some(l) = a.locals.iter_mut().find(|l| l.path.addr == path.addr) {
            l.failures += 1;
            l.retry_at = now + RETRY_MAX;
        }
    }

    // ---- ADD_ADDR and REMOVE_ADDR -----------------------------------------------------------------------------

    fn announce_locals(&mut self) {
        let a = &mut self.addresses;
        for l in a.locals.iter_mut().filter(|l| !l.announced) {
            l.announced = true;
            if a.announces.len() < MAX_SIGNALS {
                a.announces.push_back(Announce {
                    id: l.id,
                    addr: l.path.addr,
                    port: None,
                    tries: 0,
                    resend_at: None,
                    send_now: false,
                });
            }
        }
    }

    /// A join was refused because nobody listens at the connection's port any more: it may go to this one.
    pub(super) fn announce_port(&mut self, ctx: &mut Ctx<'_>, addr: IpAddr, port: u16) {
        let known = self
            .addresses
            .doors
            .iter()
            .any(|door| *door == SocketAddr::new(addr, port));
        if known || self.addresses.forbid_join_here || self.addresses.announces.len() >= MAX_SIGNALS {
            return;
        }
        let id = self.addresses.fresh_id();
        self.addresses.doors.push(SocketAddr::new(addr, port));
        self.addresses.announces.push_back(Announce {
            id,
            addr,
            port: Some(port),
            tries: 0,
            resend_at: None,
            send_now: false,
        });
        self.addresses.dirty = true;
        self.evaluate_paths(ctx);
    }

    fn repeat_announcement(&mut self, now: Instant) {
        let Some(a) = self.addresses.announces.front_mut() else {
            return;
        };
        if a.resend_at.is_some_and(|t| t > now) {
            return;
        }
        if a.tries >= ECHO_TRIES {
            self.addresses.announces.pop_front();
            self.addresses.dirty = true;
            return;
        }
        a.send_now = true;
        a.resend_at = Some(now + ECHO_WAIT * (1 << a.tries));
        a.tries += 1;
    }

    pub(super) fn on_add_addr(&mut self, ctx: &mut Ctx<'_>, add: &AddAddr) {
        let Some(hmac) = add.hmac else {
            // An echo: the announcement arrived.
            if self
                .addresses
                .announces
                .front()
                .is_some_and(|a| a.id == add.id && a.addr == add.addr && a.port == add.port)
            {
                self.addresses.announces.pop_front();
                self.addresses.dirty = true;
            }
            return;
        };
        // RFC 8684 section 3.4.1: a wrong HMAC is ignored in silence.
        if hmac != crypto::add_addr_hmac(self.remote_key, self.local_key, add.id, add.addr, add.port) {
            return;
        }
        if self.addresses.echoes.len() < MAX_SIGNALS && !self.addresses.echoes.iter().any(|e| e.id == add.id) {
            self.addresses.echoes.push_back(AddAddr { hmac: None, ..*add });
        }
        // A8: id 0 is the connection's first address, which is known.
        if add.id == 0 || !usable_remote(add.addr) {
            return;
        }
        let addr = SocketAddr::new(add.addr, add.port.unwrap_or(self.first.remote.port()));
        let a = &mut self.addresses;
        if a.heard >= MAX_ANNOUNCED && !a.remotes.iter().any(|r| r.id == add.id && r.addr == addr) {
            return;
        }
        let full = a.remotes.len() >= MAX_REMOTES;
        match a.remotes.iter_mut().find(|r| r.id == add.id) {
            Some(r) if r.addr == addr => return,
            Some(r) => {
                *r = Remote {
                    id: add.id,
                    addr,
                    retry_at: Instant::ZERO,
                    failures: 0,
                }
            }
            None if !full => {
                a.remotes.push(Remote {
                    id: add.id,
                    addr,
                    retry_at: Instant::ZERO,
                    failures: 0,
                });
            }
            None => return,
        }
        a.heard = a.heard.saturating_add(1);
        a.dirty = true;
        self.evaluate_paths(ctx);
    }

    /// RFC 8684 section 3.4.2. Like Linux we do not probe: the peer closes its side in any case.
    pub(super) fn on_remove_addr(&mut self, ctx: &mut Ctx<'_>, ids: &[u8]) {
        self.addresses.remotes.retain(|r| !ids.contains(&r.id));
        for i in (0..self.subflows.len()).rev() {
            let sf = &self.subflows[i];
            if !ids.contains(&sf.remote_id) {
                continue;
            }
            let others = self.subflows.iter().enumerate().any(|(k, s)| k != i && s.usable());
            if others {
                self.reinject_stalled(i);
                let sf = &mut self.subflows[i];
                sf.close_queued = true;
                sf.stalled = true;
                sf.deadline = Some(ctx.now + Duration::from_secs(10));
            }
        }
        self.addresses.dirty = true;
    }
}

/// Addresses that no peer may send us to: unspecified, loopback, multicast, broadcast (note A5).
fn usable_remote(addr: IpAddr) -> bool {
    let broadcast = matches!(addr, IpAddr::V4(v4) if v4.is_broadcast());
    !(addr.is_unspecified() || addr.is_loopback() || addr.is_multicast() || broadcast)
}

fn common_prefix(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    }
}

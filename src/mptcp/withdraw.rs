//! Local addresses that a program takes back while they work (RFC 6897 section 5.3.2): make before break. A subflow from such an address
//! carries on until another one is up; then the peer is told by REMOVE_ADDR, what is in flight is sent again elsewhere, and the subflow ends
//! with FIN.
//!
//! Not here: addresses that the host has lost ([`super::addresses`]); nothing sent from those would arrive.

use super::addresses::Local;
use super::connection::{Connection, Ctx};
use super::endpoint::LocalPath;
use crate::time::Duration;

/// How long the peer may take to answer a subflow's FIN.
pub(super) const FIN_WAIT: Duration = Duration::from_secs(10);

impl Connection {
    /// The program's list of addresses changed: what it no longer has is given back in order.
    pub(super) fn replace_paths(&mut self, ctx: &mut Ctx<'_>, paths: &[LocalPath]) {
        if self.addresses.stopped || self.error.is_some() {
            return;
        }
        let listed = |local: &Local| paths.iter().any(|p| p.addr == local.path.addr);
        let a = &mut self.addresses;
        // What comes back before it has left keeps the id that its subflow has.
        let (back, leaving) = a.leaving.drain(..).partition(|local| listed(local));
        a.leaving = leaving;
        a.locals.extend::<Vec<Local>>(back);
        let (stay, leave): (Vec<Local>, Vec<Local>) = a.locals.drain(..).partition(|local| listed(local));
        a.locals = stay;
        a.leaving.extend(leave);
        for local in &a.leaving {
            a.wants.retain(|w| w.local.addr != local.path.addr);
            a.announces.retain(|announce| announce.addr != local.path.addr);
        }
        self.set_paths(ctx, paths);
        self.withdraw(ctx);
    }

    /// Ends the subflows of addresses that are to leave, once another one carries the connection.
    pub(super) fn withdraw(&mut self, ctx: &mut Ctx<'_>) {
        if self.addresses.leaving.is_empty() {
            return;
        }
        let leaving = &self.addresses.leaving;
        let leaves = |addr| leaving.iter().any(|local| local.path.addr == addr);
        let gone: Vec<usize> = (0..self.subflows.len())
            .filter(|&i| leaves(self.subflows[i].tuple.local.ip()))
            .collect();
        let other = |i| !gone.contains(&i) && self.subflows[i].usable() && !self.subflows[i].stalled;
        if !gone.is_empty() && !(0..self.subflows.len()).any(other) {
            return;
        }
        let told = self.multipath() && self.addresses.fully_established;
        for local in core::mem::take(&mut self.addresses.leaving) {
            // One that the peer never heard of needs no removal.
            let known = local.announced || gone.iter().any(|&i| self.subflows[i].local_id == local.id);
            if told && known {
                self.addresses.removed.push(local.id);
            }
        }
        for i in gone {
            self.reinject_stalled(i);
            let sf = &mut self.subflows[i];
            sf.close_queued = true;
            sf.stalled = true;
            sf.deadline = Some(ctx.now + FIN_WAIT);
        }
    }
}

//! What a program that knows MPTCP does to single subflows: opens one, closes one, marks one as backup, and gives one a type of service or hop
//! limit of its own (RFC 6897 appendix A, REQ6 and REQ10).
//!
//! Not here: whole lists of addresses ([`super::withdraw`]), and what the path management does by itself ([`super::addresses`]), which leaves
//! alone what the program has closed.

use super::connection::{Connection, Ctx};
use super::endpoint::FourTuple;
use super::withdraw::FIN_WAIT;
use core::net::{IpAddr, SocketAddr};

/// Why a subflow is not as the program wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SteerError {
    /// MPTCP is not spoken, or not yet confirmed by the peer.
    NotMultipath,
    /// No such subflow.
    Unknown,
    /// Not an address of the connection's paths, or of another family than the peer's.
    NoPath,
    /// It is the last one that works.
    Last,
    /// There are as many as there may be.
    Full,
}

/// What can be different on one subflow than on the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubflowManner {
    /// Type of service, or traffic class.
    pub tos: Option<u8>,
    /// Hop limit.
    pub ttl: Option<u8>,
}

impl Connection {
    /// Asks for a subflow more, from `local` to `remote`, or to the peer's address that has the fewest.
    pub(super) fn ask_for_subflow(
        &mut self,
        ctx: &mut Ctx<'_>,
        local: IpAddr,
        remote: Option<SocketAddr>,
    ) -> Result<(), SteerError> {
        if !self.multipath() || !self.addresses.fully_established || self.error.is_some() || self.addresses.stopped {
            return Err(SteerError::NotMultipath);
        }
        let known = self.addresses.locals.iter().position(|l| l.path.addr == local);
        let at = known.ok_or(SteerError::NoPath)?;
        let (remote, remote_id) = match remote {
            Some(remote) => self.remote_id(remote).map(|id| (remote, id)),
            None => self.best_remote(ctx.now, local),
        }
        .filter(|(remote, _)| remote.is_ipv4() == local.is_ipv4())
        .ok_or(SteerError::NoPath)?;
        if self.subflow_budget() == 0 {
            return Err(SteerError::Full);
        }
        self.addresses.locals[at].closed = false;
        self.want(ctx, at, remote, remote_id);
        Ok(())
    }

    /// Ends one subflow in order: what is in flight is sent again elsewhere, then FIN. The address may be used again when the program asks.
    pub(super) fn close_subflow(&mut self, ctx: &mut Ctx<'_>, tuple: FourTuple) -> Result<(), SteerError> {
        let i = self.steered(tuple)?;
        let other = |(k, s): (usize, &super::subflow::Subflow)| k != i && s.usable() && !s.stalled;
        if !self.subflows.iter().enumerate().any(other) {
            return Err(SteerError::Last);
        }
        if let Some(local) = self
            .addresses
            .locals
            .iter_mut()
            .find(|l| l.path.addr == tuple.local.ip())
        {
            local.closed = true;
        }
        self.reinject_stalled(i);
        let sf = &mut self.subflows[i];
        sf.close_queued = true;
        sf.stalled = true;
        sf.deadline = Some(ctx.now + FIN_WAIT);
        Ok(())
    }

    /// Marks one subflow, and tells the peer by MP_PRIO (RFC 8684 section 3.3.8).
    pub(super) fn mark_backup(&mut self, tuple: FourTuple, backup: bool) -> Result<(), SteerError> {
        let i = self.steered(tuple)?;
        let sf = &mut self.subflows[i];
        if sf.local_backup != backup {
            sf.local_backup = backup;
            sf.prio_now = true;
        }
        Ok(())
    }

    /// Changes how one subflow's segments leave.
    pub(super) fn set_manner(
        &mut self,
        tuple: FourTuple,
        change: &mut dyn FnMut(&mut SubflowManner),
    ) -> Result<(), SteerError> {
        let i = self.subflows.iter().position(|s| s.tuple == tuple);
        change(&mut self.subflows[i.ok_or(SteerError::Unknown)?].own_manner);
        Ok(())
    }

    /// A live subflow of a connection that speaks MPTCP.
    fn steered(&self, tuple: FourTuple) -> Result<usize, SteerError> {
        if !self.multipath() {
            return Err(SteerError::NotMultipath);
        }
        let live = |s: &super::subflow::Subflow| s.tuple == tuple && s.is_up() && !s.close_queued;
        self.subflows.iter().position(live).ok_or(SteerError::Unknown)
    }
}

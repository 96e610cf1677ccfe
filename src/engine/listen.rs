//! The request to listen, and listeners that end.
//!
//! Authority is the passed socket: who could bind it may answer at that address. The engine closes its copy at once.

use super::connection::unmap;
use super::event_loop::Key;
use super::listeners::Listener;
use super::paths;
use super::server::Engine;
use super::socket_options::{self, SocketOptions};
use crate::control::{setting, Bypass, Listen, Reply};
use crate::link::diag::TCP_LISTEN;
use crate::link::GuardKind;
use crate::time::{Duration, Instant};
use rustix::net::{getsockname, ipproto, sockopt, UCred};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// How often the engine looks whether its listeners still listen, when nothing else tells. It cannot end before that.
const SWEEP: Duration = Duration::from_secs(10);

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
        let program = String::from_utf8_lossy(request.program).into_owned();
        let pid = cred.pid.as_raw_nonzero().get() as u32;
        let path_config = paths::parse_config(setting(request.settings, "MPTCP_PATHS"));
        match self.listen(fd, path_config, program.clone(), pid) {
            Ok(bound) => {
                log::info!("{program}[{pid}] listens at {bound}");
                self.sweep_due.get_or_insert(now + SWEEP);
                self.answer(client, &Reply::Done, None);
            }
            Err(reason) => {
                log::info!("{program}[{pid}]: a listener is left to the kernel: {}", reason.text());
                self.answer(client, &Reply::Bypass(reason), None);
            }
        }
    }

    fn listen(
        &mut self,
        fd: Option<OwnedFd>,
        path_config: crate::link::PathConfig,
        program: String,
        pid: u32,
    ) -> Result<SocketAddr, Bypass> {
        let socket = fd.ok_or(Bypass::Unproven)?;
        let bound = verify(&socket)?;
        let cookie = sockopt::socket_cookie(&socket).map_err(|_| Bypass::Unproven)?;
        let options = SocketOptions::read(socket.as_fd(), bound.is_ipv6()).map_err(|_| Bypass::Unproven)?;
        let one_family = bound.is_ipv4() || sockopt::ipv6_v6only(&socket).map_err(|_| Bypass::Unproven)?;
        let core = self.core.as_mut().ok_or(Bypass::NoLink)?;
        if core.guard_kind() != GuardKind::Repair {
            // Connections that outlive their listener would need its port.
            return Err(Bypass::NoPrivilege);
        }
        let lease = core.lease(bound.port());
        let listeners = core.listeners.as_mut().ok_or(Bypass::NoDiag)?;
        if !listeners.confirm(cookie, bound).map_err(|_| Bypass::NoDiag)? {
            return Err(Bypass::Unproven);
        }
        let core_options = options.for_core(unmap(bound).is_ipv6());
        let addresses = listeners.add(
            cookie,
            Listener {
                bound,
                one_family,
                options,
                path_config,
                program,
                pid,
                accepted: 0,
                lease,
            },
        );
        for address in addresses {
            // It fails only for an address at which the core listens.
            let _ = core.endpoint.listen(address, core_options.clone());
        }
        core.admit_ports().map_err(|_| Bypass::NoResources)?;
        Ok(bound)
    }

    /// Stops answering for listeners that are gone.
    pub(super) fn sweep_listeners(&mut self, now: Instant) {
        let Some(core) = &mut self.core else { return };
        let Some(listeners) = &mut core.listeners else { return };
        let swept = listeners.sweep();
        self.sweep_due = (!listeners.is_empty()).then(|| now + SWEEP);
        for address in swept.addresses {
            core.endpoint.unlisten(address);
        }
        if !swept.gone.is_empty() {
            // A wider filter than needed costs only time.
            let _ = core.admit_ports();
        }
        for bound in swept.gone {
            log::info!("nobody listens at {bound} any more");
        }
    }

    /// Sweeps when it is time.
    pub(super) fn sweep_when_due(&mut self, now: Instant) {
        if self.sweep_due.is_some_and(|due| due <= now) {
            self.sweep_listeners(now);
        }
    }
}

/// The passed descriptor must be a listening TCP socket; its address.
fn verify(socket: &OwnedFd) -> Result<SocketAddr, Bypass> {
    let unproven = |_| Bypass::Unproven;
    if sockopt::socket_protocol(socket).map_err(unproven)? != Some(ipproto::TCP) {
        return Err(Bypass::NotTcp);
    }
    let mut state = [0; 1];
    socket_options::get(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut state).map_err(unproven)?;
    if state[0] != TCP_LISTEN {
        return Err(Bypass::Unproven);
    }
    let bound = getsockname(socket).map_err(unproven)?;
    let bound = SocketAddr::try_from(bound).map_err(|_| Bypass::OddAddress)?;
    if unmap(bound).ip().is_loopback() {
        return Err(Bypass::Loopback);
    }
    Ok(bound)
}

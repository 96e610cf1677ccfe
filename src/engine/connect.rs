//! The request to connect: is the passed socket what it must be, who shall speak TCP for it, and the answer.
//!
//! Authority is the passed socket: who could create and bind it may use that address and port. It must be a fresh TCP
//! socket of the destination's family; everything else goes back to the kernel with the reason.

use super::connection::{Backend, Connection};
use super::event_loop::{Key, Source};
use super::kernel_stream::KernelStream;
use super::recent::BypassRecord;
use super::relay::Relay;
use super::server::Engine;
use super::shadow::Shadow;
use super::socket_options::{self, SocketOptions};
use crate::control::shadow::{ShadowName, NAME_MAX};
use crate::control::{Bypass, Connect, Reply};
use crate::time::Instant;
use rustix::io::Errno;
use rustix::net::{getsockname, ipproto, sockopt, AddressFamily, SocketType, UCred};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Names that are tried before the engine says it has none left: serial numbers wrap, connections may live on.
const SERIALS_MAX: u32 = 64;

/// TCP_CLOSE of the kernel's tcp_states.h: neither connected nor connecting nor listening.
const TCP_CLOSE: u8 = 7;

/// Why there is no shadow.
pub(super) enum Refusal {
    /// The kernel's TCP shall do it.
    Bypass(Bypass),
    /// The call fails.
    Error(Errno),
}

impl From<Bypass> for Refusal {
    fn from(reason: Bypass) -> Self {
        Refusal::Bypass(reason)
    }
}

/// A request whose socket was found good.
pub(super) struct Candidate {
    pub socket: OwnedFd,
    /// As the program gave it.
    pub remote: SocketAddr,
    pub options: SocketOptions,
    pub program: String,
    pub pid: u32,
}

impl Engine {
    /// Answers a request to connect.
    pub(super) fn serve_connect(
        &mut self,
        now: Instant,
        client: Key,
        request: &Connect<'_>,
        fd: Option<OwnedFd>,
        cred: UCred,
    ) {
        self.counters.connects += 1;
        let pid = cred.pid.as_raw_nonzero().get() as u32;
        let program = String::from_utf8_lossy(request.program).into_owned();
        let result = verify(fd, request.remote).and_then(|(socket, options)| {
            let remote = request.remote;
            self.connect(
                now,
                Candidate {
                    socket,
                    remote,
                    options,
                    program: program.clone(),
                    pid,
                },
            )
        });
        match result {
            Ok((key, cookie, end)) => {
                if !self.answer(client, &Reply::Shadow { cookie }, Some(end.as_fd())) {
                    log::info!("{program}[{pid}] went away before its connection was there");
                }
                // The program's end is the program's alone now, or nobody's: then the shadow hangs up.
                drop(end);
                self.turn(now, key);
            }
            Err(Refusal::Bypass(reason)) => {
                log::info!(
                    "{program}[{pid}] > {} left to the kernel: {}",
                    request.remote,
                    reason.text()
                );
                self.counters.bypassed += 1;
                self.bypasses.push(BypassRecord {
                    at: now,
                    program,
                    pid,
                    remote: request.remote,
                    reason,
                });
                self.answer(client, &Reply::Bypass(reason), None);
            }
            Err(Refusal::Error(errno)) => {
                self.answer(client, &Reply::Error(errno.raw_os_error()), None);
            }
        }
    }

    /// Begins a connection: its key, its cookie, and the program's end of the shadow.
    fn connect(&mut self, now: Instant, candidate: Candidate) -> Result<(Key, u64, OwnedFd), Refusal> {
        // What can fail for want of resources comes before anything leaves this host.
        let (shadow, end) = Shadow::pair().map_err(|_| Bypass::NoResources)?;
        let cookie = sockopt::socket_cookie(&end).map_err(|_| Bypass::NoResources)?;
        self.connect_kernel(now, candidate, Relay::new(shadow), cookie)
            .map(|key| (key, cookie, end))
    }

    /// Begins a connection over the kernel's TCP.
    fn connect_kernel(
        &mut self,
        now: Instant,
        candidate: Candidate,
        relay: Relay,
        cookie: u64,
    ) -> Result<Key, Refusal> {
        let Candidate {
            socket,
            remote,
            options,
            program,
            pid,
        } = candidate;
        let stream = KernelStream::connect(socket, remote).map_err(|(error, _)| Refusal::Error(error))?;
        let local = match local_address(stream.as_fd()) {
            Some(local) if self.name_shadow(&relay, local, remote).is_ok() => local,
            _ => {
                stream.undo();
                return Err(Bypass::NoResources.into());
            }
        };
        let key = self.connections.insert_with(|_| Connection {
            relay: Some(relay),
            backend: Backend::Kernel(stream),
            cookie,
            options,
            local,
            remote,
            program,
            pid,
            since: now,
            queued: false,
        });
        self.watch(key, cookie)?;
        Ok(key)
    }

    /// Has the event loop watch both sides of a new connection; undoes it all when that fails.
    fn watch(&mut self, key: Key, cookie: u64) -> Result<(), Refusal> {
        let watched = self.connections.get(key).is_some_and(|connection| {
            let relay = connection
                .relay
                .as_ref()
                .map(|relay| self.event_loop.add(relay.as_fd(), Source::Shadow(key)));
            let Backend::Kernel(stream) = &connection.backend;
            relay.is_some_and(|r| r.is_ok()) && self.event_loop.add(stream.as_fd(), Source::Kernel(key)).is_ok()
        });
        if watched {
            self.by_cookie.insert(cookie, key);
            return Ok(());
        }
        if let Some(Connection {
            backend: Backend::Kernel(stream),
            ..
        }) = self.connections.remove(key)
        {
            stream.undo();
        }
        Err(Bypass::NoResources.into())
    }

    /// Gives the shadow the name that says whose it is and what it is connected to.
    fn name_shadow(&mut self, relay: &Relay, local: SocketAddr, remote: SocketAddr) -> Result<(), Errno> {
        for _ in 0..SERIALS_MAX {
            self.next_serial = self.next_serial.wrapping_add(1);
            let name = ShadowName {
                engine: self.settings.id,
                serial: self.next_serial,
                local,
                remote,
            };
            let mut bytes = [0; NAME_MAX];
            let len = name.encode(&mut bytes).ok_or(Errno::AFNOSUPPORT)?;
            match relay.bind(&bytes[..len]) {
                Err(Errno::ADDRINUSE) => {}
                result => return result,
            }
        }
        Err(Errno::ADDRINUSE)
    }
}

/// The passed descriptor must be a TCP socket of the destination's family that the kernel does not use yet.
fn verify(fd: Option<OwnedFd>, remote: SocketAddr) -> Result<(OwnedFd, SocketOptions), Refusal> {
    let socket = fd.ok_or(Bypass::Unproven)?;
    let unproven = |_| Refusal::from(Bypass::Unproven);
    let family = sockopt::socket_domain(&socket).map_err(unproven)?;
    let stream = sockopt::socket_type(&socket).map_err(unproven)? == SocketType::STREAM;
    if !stream || sockopt::socket_protocol(&socket).map_err(unproven)? != Some(ipproto::TCP) {
        return Err(Bypass::NotTcp.into());
    }
    let inet6 = match (family, remote) {
        (AddressFamily::INET, SocketAddr::V4(_)) => false,
        (AddressFamily::INET6, SocketAddr::V6(_)) => true,
        _ => return Err(Bypass::OddAddress.into()),
    };
    let mut state = [0; 1];
    socket_options::get(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut state).map_err(unproven)?;
    if state[0] != TCP_CLOSE {
        return Err(Bypass::NotFresh.into());
    }
    let options = SocketOptions::read(socket.as_fd(), inet6).map_err(unproven)?;
    if inet6 && is_mapped(remote) && sockopt::ipv6_v6only(&socket).map_err(unproven)? {
        return Err(Bypass::OddAddress.into());
    }
    Ok((socket, options))
}

fn is_mapped(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some())
}

fn local_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    SocketAddr::try_from(getsockname(socket).ok()?).ok()
}

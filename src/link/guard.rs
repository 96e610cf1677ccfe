//! Guards: kernel sockets that own a port of ours and keep the kernel silent about segments that it does not know.
//!
//! A guard is a kernel TCP socket with a filter that drops everything, so that the kernel finds it for our segments
//! and swallows them: no RST, no SYN/ACK. Raw sockets have heard the packet before. Two kinds:
//! - *repair* (CAP_NET_ADMIN): a TCP_REPAIR socket connected to the exact 4-tuple. It sends nothing when it connects
//!   or closes, lives beside listeners, and where the kernel has IP_LOCAL_PORT_RANGE (Linux 6.3) it takes its port as
//!   connect() does: other programs may use the same port to other destinations.
//! - *listening* (no privilege): one listener per local address and port, shared by all our connections from there.
//!
//! Not here: who may use an address and a port. The caller has seen a socket that proves it.

use super::bpf;
use super::filter::{self, Filter};
use super::ports::{PortSet, Ports};
use super::sys;
use super::LOOPBACK;
use core::cell::RefCell;
use core::net::{IpAddr, SocketAddr};
use rustix::net::AddressFamily;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};

/// IP_LOCAL_PORT_RANGE of linux/in.h: low port in the lower half, high port in the upper half of a u32.
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

/// Entries of the table of listeners that are kept without looking which are alive.
const LISTENERS_MIN: usize = 64;

/// Which local port a guard shall own.
#[derive(Clone, Copy, Debug)]
pub enum WantedPort<'a> {
    /// Any free one of the engine's block.
    Any,
    /// The one that this socket is bound to: the program had bound it before connect(), and a copy of it was passed.
    /// The guard owns the port before the caller closes its copy, so it is never lost.
    Held(BorrowedFd<'a>),
    /// A port that a guard of ours owns already, to another destination (a peer opens a subflow to us).
    Ours(u16),
}

/// What a guard is asked to keep.
#[derive(Clone, Copy, Debug)]
pub struct GuardRequest<'a> {
    /// Our address.
    pub local: IpAddr,
    /// The port.
    pub port: WantedPort<'a>,
    /// The peer.
    pub remote: SocketAddr,
    /// Interface of the path, 0 for the routing's choice. Only the route lookup of connect() heeds it: the guard
    /// swallows segments from wherever they come. [`LOOPBACK`]: no segment comes from the network at all, and the link need not
    /// hear the port.
    pub iface: u32,
    /// SO_MARK of the connection, 0 is none.
    pub mark: u32,
}

/// How guards are made here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuardKind {
    /// TCP_REPAIR sockets.
    Repair,
    /// Shared listeners.
    Listening,
}

/// Keeps one 4-tuple until it is dropped. Dropping sends nothing.
#[derive(Debug)]
pub struct Guard {
    local: SocketAddr,
    hold: Hold,
    /// After `hold`: the link hears the port until the kernel may answer for it.
    _lease: Option<Lease>,
}

#[derive(Debug)]
#[allow(dead_code, reason = "held for what dropping does")]
enum Hold {
    Exact(OwnedFd),
    Shared(Share),
}

impl Guard {
    /// Keeps others from binding the port beside it, as a socket without SO_REUSEADDR does.
    pub fn forbid_reuse(&self) {
        if let Hold::Exact(fd) = &self.hold {
            // It takes back what TCP_REPAIR gave, which only bind() asked for.
            let _ = sys::set_int(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 0);
        }
    }

    /// Our address and port.
    pub fn local(&self) -> SocketAddr {
        self.local
    }
}

/// A port outside the block stays admitted by the link's filter while this lives.
#[derive(Debug)]
pub struct Lease {
    ports: Rc<RefCell<Ports>>,
    /// None inside the block, which is always admitted.
    single: Option<u16>,
}

impl Lease {
    fn new(ports: &Rc<RefCell<Ports>>, port: u16) -> Lease {
        let single = ports.borrow_mut().take(port).then_some(port);
        Lease {
            ports: Rc::clone(ports),
            single,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(port) = self.single {
            self.ports.borrow_mut().put(port);
        }
    }
}

/// A listening guard, and the destinations that use it.
#[derive(Debug)]
struct Listener {
    fd: OwnedFd,
    /// The program's own socket serves as guard: its listening and its filter end with the guard.
    borrowed: bool,
    remotes: RefCell<HashSet<SocketAddr>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.borrowed {
            // Others may still hold this description (the caller hands the connection back to the kernel): make it the
            // bound socket again that it was.
            let _ = rustix::net::connect_unspec(&self.fd);
            undeafen(&self.fd);
        }
    }
}

/// One destination's use of a listening guard.
#[derive(Debug)]
struct Share {
    listener: Rc<Listener>,
    remote: SocketAddr,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.listener.remotes.borrow_mut().remove(&self.remote);
    }
}

/// Makes guards and keeps the books about ports.
#[derive(Debug)]
pub struct Guards {
    kind: GuardKind,
    ports: Rc<RefCell<Ports>>,
    /// What makes guards deaf, where the kernel has given us such a program.
    silencer: Option<OwnedFd>,
    listeners: HashMap<(IpAddr, u16), Weak<Listener>>,
    /// Entries of listeners that have gone are cleared at this size, which then is twice what is left.
    listeners_max: usize,
}

impl Guards {
    /// Guards of the best kind that this process may make, with a fresh block of ports.
    pub fn new() -> io::Result<Guards> {
        let kind = match new_socket(libc::AF_INET, None).and_then(|fd| enter_repair(&fd)) {
            Ok(()) => GuardKind::Repair,
            Err(_) => GuardKind::Listening,
        };
        Self::of_kind(kind)
    }

    /// Guards of one kind.
    pub fn of_kind(kind: GuardKind) -> io::Result<Guards> {
        Ok(Guards {
            kind,
            ports: Rc::new(RefCell::new(Ports::from_host()?)),
            silencer: bpf::load_drop_all().ok(),
            listeners: HashMap::new(),
            listeners_max: LISTENERS_MIN,
        })
    }

    /// The kind.
    pub fn kind(&self) -> GuardKind {
        self.kind
    }

    /// All the ports that guards own or may own: what the link must admit. After `acquire`, before the first segment.
    pub fn ports(&self) -> PortSet {
        self.ports.borrow().set()
    }

    /// A number that is another one after each change of [`Guards::ports`]: asking costs nothing.
    pub fn port_changes(&self) -> u64 {
        self.ports.borrow().changes()
    }

    /// Has the link hear a port that a program listens on.
    pub fn lease(&self, port: u16) -> Lease {
        Lease::new(&self.ports, port)
    }

    /// A port of the block at which the kernel is silent to whoever connects, so that joins may come there. The peer's address stands for none.
    ///
    /// # Errors
    /// As [`Guards::acquire`].
    pub fn door(&mut self, local: IpAddr) -> io::Result<Guard> {
        let request = GuardRequest {
            local,
            port: WantedPort::Any,
            remote: SocketAddr::new(local, 0),
            iface: 0,
            mark: 0,
        };
        let (hold, port) = self.listening_any(&request).map_err(Refusal::into_error)?;
        Ok(Guard {
            local: SocketAddr::new(local, port),
            hold,
            _lease: Some(Lease::new(&self.ports, port)),
        })
    }

    /// A guard for a 4-tuple.
    ///
    /// Errors: EADDRNOTAVAIL when the 4-tuple is in use or every port towards `remote` is, EADDRINUSE when somebody
    /// else has the wanted port, and what bind() and connect() say about the address and the route.
    pub fn acquire(&mut self, request: &GuardRequest<'_>) -> io::Result<Guard> {
        let wanted = match request.port {
            WantedPort::Any => None,
            WantedPort::Held(fd) => Some(sys::local_addr(fd)?.port()).filter(|&port| port != 0),
            WantedPort::Ours(port) => Some(port),
        };
        let (hold, port) = match (self.kind, wanted) {
            (GuardKind::Repair, Some(port)) => self.repair(request, PortChoice::Exactly(port)),
            (GuardKind::Repair, None) => self.repair_any(request),
            (GuardKind::Listening, Some(port)) => self.listening(request, port),
            (GuardKind::Listening, None) => self.listening_any(request),
        }
        .map_err(Refusal::into_error)?;
        Ok(Guard {
            local: sys::socket_addr(request.local, port, request.iface),
            hold,
            _lease: (request.iface != LOOPBACK).then(|| Lease::new(&self.ports, port)),
        })
    }

    /// A repair guard on a port of the block, chosen by the kernel where it can keep to a range.
    fn repair_any(&self, request: &GuardRequest<'_>) -> Result<(Hold, u16), Refusal> {
        loop {
            let block = self.ports.borrow().block();
            let mut result = self.repair(request, PortChoice::Within(*block.start(), *block.end()));
            if matches!(&result, Err(Refusal::Error(e)) if e.raw_os_error() == Some(libc::ENOPROTOOPT)) {
                let candidates = self.ports.borrow().candidates()?;
                result = first_free(candidates, |port| self.repair(request, PortChoice::Exactly(port)));
            }
            match result {
                Err(Refusal::Taken) if self.ports.borrow_mut().grow() => continue,
                result => return result,
            }
        }
    }

    /// A repair guard. The order matters: the filter is there before the socket can be found, and TCP_REPAIR comes
    /// after SO_REUSEADDR, because it sets the stronger "reuse whatever the others say".
    fn repair(&self, request: &GuardRequest<'_>, choice: PortChoice) -> Result<(Hold, u16), Refusal> {
        let fd = new_socket(sys::domain(request.local), self.silencer.as_ref())?;
        sys::set_int(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        if request.mark != 0 {
            sys::set_option(&fd, libc::SOL_SOCKET, libc::SO_MARK, &request.mark)?;
        }
        let port = match choice {
            PortChoice::Exactly(port) => port,
            PortChoice::Within(low, high) => {
                let range = u32::from(low) | u32::from(high) << 16;
                sys::set_int(&fd, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
                sys::set_option(&fd, libc::SOL_IP, IP_LOCAL_PORT_RANGE, &range)?;
                0
            }
        };
        // To this host's own addresses the routing knows the way, and no other.
        let device = Some(request.iface).filter(|&iface| iface != 0 && iface != LOOPBACK);
        if let Some(device) = device {
            sys::bind_to_interface(&fd, device)?;
        }
        enter_repair(&fd)?;
        sys::bind(&fd, sys::socket_addr(request.local, port, request.iface)).map_err(Refusal::from_bind)?;
        sys::connect(&fd, request.remote).map_err(Refusal::from_connect)?;
        if device.is_some() {
            // Only connect()'s route lookup needed it. Answers may come in by another interface.
            sys::bind_to_interface(&fd, 0)?;
        }
        let port = sys::local_addr(&fd)?.port();
        Ok((Hold::Exact(fd), port))
    }

    /// A listening guard on a random port of the block.
    fn listening_any(&mut self, request: &GuardRequest<'_>) -> Result<(Hold, u16), Refusal> {
        loop {
            let candidates = self.ports.borrow().candidates()?;
            let any = GuardRequest {
                port: WantedPort::Any,
                ..*request
            };
            match first_free(candidates, |port| self.listening(&any, port)) {
                Err(Refusal::Taken) if self.ports.borrow_mut().grow() => continue,
                result => return result,
            }
        }
    }

    /// A share of the listening guard on `port`, which is made when there is none.
    fn listening(&mut self, request: &GuardRequest<'_>, port: u16) -> Result<(Hold, u16), Refusal> {
        let key = (request.local, port);
        let listener = match self.listeners.get(&key).and_then(Weak::upgrade) {
            Some(listener) => listener,
            None => {
                let listener = Rc::new(match request.port {
                    WantedPort::Held(fd) => listen_on_held(fd)?,
                    WantedPort::Any | WantedPort::Ours(_) => listen_on_new(request, port, self.silencer.as_ref())?,
                });
                if self.listeners.len() >= self.listeners_max {
                    self.listeners.retain(|_, l| l.strong_count() > 0);
                    self.listeners_max = (2 * self.listeners.len()).max(LISTENERS_MIN);
                }
                self.listeners.insert(key, Rc::downgrade(&listener));
                listener
            }
        };
        if !listener.remotes.borrow_mut().insert(request.remote) {
            return Err(Refusal::Taken);
        }
        let share = Share {
            listener,
            remote: request.remote,
        };
        Ok((Hold::Shared(share), port))
    }
}

/// Which port a repair guard binds.
#[derive(Clone, Copy)]
enum PortChoice {
    Exactly(u16),
    Within(u16, u16),
}

/// A TCP socket that is deaf from the beginning, by the program `silencer` if there is one.
fn new_socket(domain: libc::c_int, silencer: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    let fd = sys::socket(domain, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
    let silenced = silencer.is_some_and(|program| filter::attach_program(&fd, program).is_ok());
    if !silenced {
        deafen(&fd)?;
    }
    if domain == libc::AF_INET6 {
        sys::set_int(&fd, libc::SOL_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    Ok(fd)
}

/// Makes a TCP socket swallow all segments silently: by a filter, or where that takes CAP_NET_ADMIN (Linux 6.18.44
/// refuses filters on TCP sockets with EPERM) by demanding a TTL (RFC 5082) that only neighbours which mean it can have.
fn deafen(fd: impl AsFd) -> io::Result<()> {
    match Filter::drop_all().attach(&fd) {
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => demand_ttl(&fd, TTL_MAX),
        result => result,
    }
}

/// Undoes [`deafen`]. Only one of the two was set; a failure leaves the socket deaf, which is all that can be done.
fn undeafen(fd: impl AsFd) {
    let _ = filter::detach(&fd);
    let _ = demand_ttl(&fd, 0);
}

const TTL_MAX: libc::c_int = 255;

/// IP_MINTTL and IPV6_MINHOPCOUNT: segments with less are dropped without an answer (tcp_v4_rcv, tcp_v6_rcv).
fn demand_ttl(fd: impl AsFd, ttl: libc::c_int) -> io::Result<()> {
    if rustix::net::sockopt::socket_domain(&fd)? == AddressFamily::INET6 {
        // An IPv6 socket that is not V6ONLY hears IPv4 too.
        sys::set_int(&fd, libc::SOL_IPV6, libc::IPV6_MINHOPCOUNT, ttl)?;
    }
    sys::set_int(&fd, libc::SOL_IP, libc::IP_MINTTL, ttl)
}

fn enter_repair(fd: &OwnedFd) -> io::Result<()> {
    sys::set_int(fd, libc::SOL_TCP, libc::TCP_REPAIR, 1)
}

fn listen_on_new(request: &GuardRequest<'_>, port: u16, silencer: Option<&OwnedFd>) -> Result<Listener, Refusal> {
    let fd = new_socket(sys::domain(request.local), silencer)?;
    sys::bind(&fd, sys::socket_addr(request.local, port, request.iface)).map_err(Refusal::from_bind)?;
    rustix::net::listen(&fd, 0).map_err(|e| Refusal::from_bind(e.into()))?;
    Ok(Listener {
        fd,
        borrowed: false,
        remotes: RefCell::default(),
    })
}

/// Turns the passed socket itself into the guard: no other socket could take its port without a moment in which a
/// third one may. The filter comes first, so it never answers anybody.
fn listen_on_held(held: BorrowedFd<'_>) -> Result<Listener, Refusal> {
    let fd = held.as_fd().try_clone_to_owned()?;
    deafen(&fd)?;
    if let Err(e) = rustix::net::listen(&fd, 0) {
        undeafen(&fd);
        return Err(Refusal::from_bind(e.into()));
    }
    Ok(Listener {
        fd,
        borrowed: true,
        remotes: RefCell::default(),
    })
}

/// Why a port could not be had.
enum Refusal {
    /// The port, or the 4-tuple, belongs to somebody else: another port may do.
    Taken,
    /// No other port would help.
    Error(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::Error(error)
    }
}

impl Refusal {
    fn into_error(self) -> io::Error {
        match self {
            Refusal::Taken => io::Error::from_raw_os_error(libc::EADDRNOTAVAIL),
            Refusal::Error(error) => error,
        }
    }

    /// What connect() says: EADDRNOTAVAIL is a 4-tuple in use there.
    fn from_connect(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => Refusal::Taken,
            _ => Refusal::Error(error),
        }
    }

    /// What bind() and listen() say: EADDRNOTAVAIL is an address that is not ours there.
    fn from_bind(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) => Refusal::Taken,
            _ => Refusal::Error(error),
        }
    }
}

/// The first port that `try_port` can take.
fn first_free<T>(
    ports: impl Iterator<Item = u16>,
    mut try_port: impl FnMut(u16) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    for port in ports {
        match try_port(port) {
            Err(Refusal::Taken) => continue,
            result => return result,
        }
    }
    Err(Refusal::Taken)
}

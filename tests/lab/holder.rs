//! `lab hold`: the process behind one lab. Makes the namespaces, holds them, runs the wires, does what the handle asks over descriptor 0,
//! and when the handle is gone, however it went, kills whatever still runs inside and goes too.

use crate::capture::Capture;
use crate::emulator::{self, Wire};
use crate::lab::channel::Channel;
use crate::lab::namespace::{kill_processes_inside, Namespace};
use crate::lab::spec::{LabSpec, Reply, Request, WIRES_MAX};
use crate::packet_socket::PacketSocket;
use crate::topology;
use rustix::thread::{unshare_unsafe, UnshareFlags};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Serves one handle until it is gone.
pub fn run() -> io::Result<()> {
    // A terminal's Ctrl-C is for the test; the holder ends by the channel's end of file, after it has cleaned up.
    rustix::process::setsid()?;
    let control = Channel::from_fd(io::stdin().as_fd().try_clone_to_owned()?);
    let Some((Request::Make(spec), _)) = control.receive()? else {
        return Err(io::Error::other("the first request must be to make the lab"));
    };
    match make(&spec) {
        Ok(mut holder) => {
            be_punctual();
            let fds = holder.descriptors();
            let user_namespace = fds.len() == 3;
            control.send(&Reply::Ready { user_namespace }, &fds)?;
            holder.serve(&control)
        }
        Err(e) => control.send(&Reply::Failed(e.to_string()), &[]),
    }
}

/// A wire does not wait for a processor: on a busy machine an ordinary process is late by milliseconds, which ends TCP's slow start early
/// (measured: 100 Mbit/s wire 0.97 full instead of 0.82). The emulator sleeps between its steps, so it starves nobody. Where this is refused
/// the wires are less punctual, no more.
fn be_punctual() {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter is a whole sched_param; 0 is this process, which has one thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &lowest) };
}

/// The lab itself.
struct Holder {
    /// The user namespace that owns the others, if the lab had to make one.
    user: Option<OwnedFd>,
    client: Arc<Namespace>,
    server: Arc<Namespace>,
    /// None where the wire is bare.
    wires: Vec<Option<Wire>>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        kill_processes_inside(&[&self.client, &self.server]);
    }
}

fn make(spec: &LabSpec) -> io::Result<Holder> {
    if spec.wires.is_empty() || spec.wires.len() > WIRES_MAX {
        return Err(io::Error::other(format!("a lab has 1 to {WIRES_MAX} wires")));
    }
    let user = become_able()?;
    let client = Arc::new(new_namespace()?);
    let server = Arc::new(new_namespace()?);
    unshare(UnshareFlags::NEWNET)?;
    topology::build(spec, &client, &server)?;
    let wires = spec.wires.iter().enumerate().map(|(i, wire)| {
        let open = |at_client| PacketSocket::open(interface_index(&topology::end_name(i, at_client))?);
        (!wire.bare)
            .then(|| Ok(Wire::new(i, *wire, spec.seed, open(true)?, open(false)?)))
            .transpose()
    });
    Ok(Holder {
        wires: wires.collect::<io::Result<_>>()?,
        user,
        client,
        server,
    })
}

/// Gets the right to make network namespaces: has it already, or by a user namespace, which is returned.
fn become_able() -> io::Result<Option<OwnedFd>> {
    match unshare(UnshareFlags::NEWNET) {
        Ok(()) => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
        Err(e) => return Err(e),
    }
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    unshare(UnshareFlags::NEWUSER).map_err(|e| {
        io::Error::other(format!(
            "the lab needs root, or unprivileged user namespaces, which this system refuses: {e}"
        ))
    })?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    Ok(Some(File::open("/proc/self/ns/user")?.into()))
}

fn unshare(what: UnshareFlags) -> io::Result<()> {
    // SAFETY: no descriptor table is unshared (the danger that rustix names), and this process has one thread.
    Ok(unsafe { unshare_unsafe(what) }?)
}

/// A network namespace, which this process (and its user namespace) may enter as it is.
fn new_namespace() -> io::Result<Namespace> {
    unshare(UnshareFlags::NEWNET)?;
    Ok(Namespace {
        net: File::open("/proc/self/ns/net")?.into(),
        user: None,
    })
}

fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: `name` is a C string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

impl Holder {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let user = self.user.iter().map(AsFd::as_fd);
        user.chain([self.client.net.as_fd(), self.server.net.as_fd()]).collect()
    }

    fn serve(&mut self, control: &Channel) -> io::Result<()> {
        loop {
            emulator::run_until_readable(control.as_fd(), &mut self.wires)?;
            let Some((request, _)) = control.receive::<Request>()? else {
                return Ok(());
            };
            let reply = self.handle(request).unwrap_or_else(|e| Reply::Failed(e.to_string()));
            control.send(&reply, &[])?;
        }
    }

    fn handle(&mut self, request: Request) -> io::Result<Reply> {
        match request {
            Request::Make(_) => return Err(io::Error::other("the lab is made already")),
            Request::Set { wire, to } => self.wire(wire)?.set(to),
            Request::Cut { wire, cut } => self.wire(wire)?.set_cut(cut),
            Request::Middleboxes { wire, boxes } => self.wire(wire)?.set_middleboxes(&boxes),
            Request::Capture { wire, path } => {
                let capture = path.map(|path| Capture::create(&path)).transpose()?;
                self.wire(wire)?.set_capture(capture);
            }
            Request::Stats { wire } => return Ok(Reply::Stats(self.wire(wire)?.stats())),
            Request::Carrier { wire, up } => {
                self.wire(wire)?;
                topology::set_up(&topology::end_name(wire, true), up)?;
                topology::set_up(&topology::end_name(wire, false), up)?;
            }
        }
        Ok(Reply::Done)
    }

    fn wire(&mut self, index: usize) -> io::Result<&mut Wire> {
        let wire = self.wires.get_mut(index).and_then(Option::as_mut);
        wire.ok_or_else(|| io::Error::other(format!("wire {index} has no emulator")))
    }
}

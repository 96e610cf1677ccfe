//! The control listener and its clients: one connection is one request, one datagram in and (Status and a Connect that blocks excepted) one out.
//!
//! A client that says nothing holds a descriptor for two seconds at most, and makes room earlier when others come. The
//! listener's end is without a race: [`Control::retire`] refuses new clients first and serves those that came before.
//!
//! Not here: what requests mean (`server`).

use super::event_loop::{EventLoop, Key, Source};
use super::slots::Slots;
use crate::control::{channel, EngineId, MESSAGE_MAX, STATUS_CHUNK_MAX};
use crate::time::{Duration, Instant};
use rustix::io::Errno;
use rustix::net::{
    accept_with, bind, listen, shutdown, socket_with, sockopt, AddressFamily, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType, UCred,
};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How long a client may be silent, or deaf.
const PATIENCE: Duration = Duration::from_secs(2);
/// Clients at once; a new one takes the place of the oldest.
const CLIENTS_MAX: usize = 256;
/// Of these, clients of other users at once, which have only accepted connections to ask about.
const FOREIGN_MAX: usize = 64;
/// Connections that may wait to be accepted: programs that start a thousand transfers at once are not refused.
const BACKLOG: i32 = 1024;
/// When descriptors have run out, try again so much later.
const RETRY: Duration = Duration::from_millis(50);

/// The listener and the clients.
pub struct Control {
    listener: Option<OwnedFd>,
    clients: Slots<Client>,
    /// How many of them are held.
    held: usize,
    /// How many are of other users.
    foreign: usize,
    /// Every client with the time its patience ends; entries of clients that have left are skipped.
    order: VecDeque<(Instant, Key)>,
    /// accept() found no descriptor: try again then.
    retry: Option<Instant>,
}

struct Client {
    fd: OwnedFd,
    cred: UCred,
    /// Of another user than the engine.
    foreign: bool,
    /// It has asked for something that takes time: its silence is not held against it.
    held: bool,
    /// Datagrams that did not fit into the socket yet.
    outbox: VecDeque<Vec<u8>>,
}

/// What a client asks.
pub struct Asked {
    /// The datagram.
    pub bytes: [u8; MESSAGE_MAX],
    /// Its length.
    pub len: usize,
    /// The descriptor that came with it.
    pub fd: Option<OwnedFd>,
    /// Who the kernel says it is.
    pub cred: UCred,
}

impl Control {
    /// Takes the engine's name and listens.
    ///
    /// # Errors
    /// EADDRINUSE when an engine is there already.
    pub fn listen(id: EngineId, event_loop: &EventLoop) -> io::Result<Control> {
        Control::on(take_name(id)?, event_loop)
    }

    /// Goes on with the listener of an engine that died: [`Control::name`].
    pub fn on(listener: OwnedFd, event_loop: &EventLoop) -> io::Result<Control> {
        event_loop.add(&listener, Source::Control)?;
        Ok(Control {
            listener: Some(listener),
            clients: Slots::default(),
            held: 0,
            foreign: 0,
            order: VecDeque::new(),
            retry: None,
        })
    }

    /// The listener: whoever holds it has the name, also when this engine is dead. None once it was given up.
    pub fn name(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// No client is being served.
    pub fn is_idle(&self) -> bool {
        self.clients.is_empty()
    }

    /// When [`Control::expire`] or [`Control::accept`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let patience = self.order.front().map(|(until, _)| *until);
        patience.into_iter().chain(self.retry).min()
    }

    /// Accepts one who waits: the key of a client that may have spoken already, and is to be served before the next, so that
    /// only those who say nothing add up. None when nobody waits.
    pub fn accept(&mut self, now: Instant, event_loop: &EventLoop) -> Option<Key> {
        self.retry = None;
        while let Some(listener) = &self.listener {
            match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(fd) => match self.admit(now, fd, event_loop) {
                    Some(key) => return Some(key),
                    None => continue,
                },
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.retry = Some(now + RETRY);
                    break;
                }
                Err(_) => break,
            }
        }
        None
    }

    /// True when descriptors had run out and it is time to try again.
    pub fn accept_due(&self, now: Instant) -> bool {
        self.retry.is_some_and(|retry| retry <= now)
    }

    fn admit(&mut self, now: Instant, fd: OwnedFd, event_loop: &EventLoop) -> Option<Key> {
        let cred = sockopt::socket_peercred(&fd).ok()?;
        let foreign = cred.uid != rustix::process::geteuid();
        if foreign && self.foreign >= FOREIGN_MAX {
            log::warn!("refused a request of user {}", cred.uid.as_raw());
            return None;
        }
        if self.clients.len() - self.held >= CLIENTS_MAX {
            self.drop_oldest();
        }
        self.foreign += usize::from(foreign);
        let key = self.clients.insert_with(|_| Client {
            fd,
            cred,
            foreign,
            held: false,
            outbox: VecDeque::new(),
        });
        if event_loop
            .add(self.clients.get(key)?.fd.as_fd(), Source::Client(key))
            .is_err()
        {
            self.remove(key);
            return None;
        }
        self.order.push_back((now + PATIENCE, key));
        Some(key)
    }

    fn drop_oldest(&mut self) {
        while let Some((_, key)) = self.order.pop_front() {
            if self.clients.get(key).is_some_and(|client| !client.held) {
                self.remove(key);
                return;
            }
        }
    }

    fn remove(&mut self, key: Key) -> Option<Client> {
        let client = self.clients.remove(key)?;
        self.held -= usize::from(client.held);
        self.foreign -= usize::from(client.foreign);
        Some(client)
    }

    /// This client's answer takes time; it is forgotten only when it leaves.
    pub fn hold(&mut self, key: Key) {
        if let Some(client) = self.clients.get_mut(key) {
            self.held += usize::from(!client.held);
            client.held = true;
        }
    }

    /// Closes without an answer.
    pub fn dismiss(&mut self, key: Key) {
        self.remove(key);
    }

    /// It is still there.
    pub fn is_here(&self, key: Key) -> bool {
        self.clients.get(key).is_some()
    }

    /// Lets clients go whose patience has ended.
    pub fn expire(&mut self, now: Instant) {
        while let Some((until, key)) = self.order.front().copied() {
            let silent = self.clients.get(key).is_some_and(|client| !client.held);
            if silent && until > now {
                return;
            }
            self.order.pop_front();
            if silent {
                self.remove(key);
            }
        }
    }

    /// What this client asks; None when it has not spoken yet, or has left (it is forgotten then).
    pub fn take_request(&mut self, key: Key) -> Option<Asked> {
        let client = self.clients.get_mut(key)?;
        if !client.outbox.is_empty() {
            self.flush(key);
            return None;
        }
        let mut bytes = [0; MESSAGE_MAX];
        match channel::recv(&client.fd, &mut bytes) {
            Ok((len, fd)) if len > 0 => Some(Asked {
                bytes,
                len,
                fd,
                cred: client.cred,
            }),
            Err(Errno::AGAIN) => None,
            _ => {
                self.remove(key);
                None
            }
        }
    }

    /// Answers with one datagram, and closes.
    pub fn answer(&mut self, key: Key, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let client = self.remove(key).ok_or(Errno::NOTCONN)?;
        channel::send(&client.fd, bytes, fd)
    }

    /// Answers with one datagram, another one to follow by [`Control::answer`].
    pub fn answer_first(&mut self, key: Key, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let client = self.clients.get(key).ok_or(Errno::NOTCONN)?;
        let sent = channel::send(&client.fd, bytes, fd);
        match sent {
            Ok(()) => self.hold(key),
            Err(_) => self.dismiss(key),
        }
        sent
    }

    /// Answers with text in chunks and an empty datagram behind them, and closes when all of it is out.
    pub fn answer_text(&mut self, key: Key, text: &[u8]) {
        if let Some(client) = self.clients.get_mut(key) {
            client.outbox.extend(text.chunks(STATUS_CHUNK_MAX).map(<[u8]>::to_vec));
            client.outbox.push_back(Vec::new());
            self.flush(key);
        }
    }

    fn flush(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        while let Some(chunk) = client.outbox.front() {
            match channel::send(&client.fd, chunk, None) {
                Ok(()) => client.outbox.pop_front(),
                Err(Errno::AGAIN) => return,
                Err(_) => break,
            };
        }
        self.remove(key);
    }

    /// Stops listening. New clients are refused from here on, and start another engine; those that are waiting are
    /// accepted by the next [`Control::accept`], after which [`Control::close`] can follow.
    pub fn retire(&mut self) {
        if let Some(listener) = &self.listener {
            // It cannot fail on a listener.
            let _ = shutdown(listener, Shutdown::Both);
        }
    }

    /// Gives the name up.
    pub fn close(&mut self) {
        self.listener = None;
    }
}

fn take_name(id: EngineId) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&listener, &SocketAddrUnix::new_abstract_name(&id.name())?)?;
    listen(&listener, BACKLOG)?;
    Ok(listener)
}

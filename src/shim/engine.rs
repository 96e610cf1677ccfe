//! Asking the engine, and starting it first if there is none.

use super::log::{debug, warning};
use super::{config, listen, spawn, sys};
use crate::control::multipath::stash::Answerer;
use crate::control::{
    self,
    channel::{self, CallError},
    picture::Picture,
    Bypass, Cgroup, EngineId, Phase, Queues, Reply, Request, MESSAGE_MAX, PICTURE_MESSAGE_MAX, VALUE_MAX,
};
use core::ffi::c_int;
use core::sync::atomic::{
    AtomicI64, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// How long a started engine may take until it answers, on a machine that is very busy. One that ends sooner is not waited for.
const START_MS_MAX: i64 = 5000;
/// How long no further start is tried after one that failed: each costs a connect() START_MS_MAX at worst.
const RETRY_MS: i64 = 30_000;

/// When the last start failed.
static FAILED_AT_MS: AtomicI64 = AtomicI64::new(i64::MIN);
/// When an engine was last waited for in vain: it is stopped, or worse. The next programs' threads do not wait as long again.
static SILENT_AT_MS: AtomicI64 = AtomicI64::new(i64::MIN);

/// Users besides this program's own and root whose engines are believed: those that answer for sockets from which this process, or an ancestor,
/// has accepted. Each is one more than the number; 0 is none.
static BELIEVED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// From now on engines of this user are believed.
fn believe(uid: u32) {
    let entry = u64::from(uid) + 1;
    if believes(uid) {
        return;
    }
    let free = |slot: &&AtomicU64| slot.compare_exchange(0, entry, Relaxed, Relaxed).is_ok();
    if BELIEVED.iter().find(free).is_none() {
        BELIEVED[0].store(entry, Relaxed);
    }
}

/// Whether what an engine of this user says, and gives, is taken for true.
pub fn believes(uid: u32) -> bool {
    let entry = u64::from(uid) + 1;
    control::believes(uid) || BELIEVED.iter().any(|slot| slot.load(Relaxed) == entry)
}

/// The engine that serves this process as it is now: its effective user and capabilities, and the cgroup it was moved to meanwhile if /proc can
/// still be read.
pub fn own() -> Option<EngineId> {
    let place = PLACE.get().or_else(|| PLACE.read()).or(config::get().place)?;
    Some(EngineId::of_caller(place))
}

/// Reading /proc takes longer than the rest of what a connection costs a program, so what it said holds for a moment.
static PLACE: Place = Place {
    read_at_ms: AtomicI64::new(i64::MIN),
    user_namespace: AtomicU64::new(0),
    cgroup: AtomicU64::new(0),
};
const PLACE_HOLDS_MS: i64 = 100;

struct Place {
    /// i64::MIN: not yet, or being written.
    read_at_ms: AtomicI64,
    user_namespace: AtomicU64,
    cgroup: AtomicU64,
}

impl Place {
    /// What was read a moment ago.
    fn get(&self) -> Option<Cgroup> {
        let read_at = self.read_at_ms.load(SeqCst);
        let place = Cgroup {
            user_namespace: self.user_namespace.load(SeqCst),
            cgroup: self.cgroup.load(SeqCst),
        };
        let fresh = sys::monotonic_ms().saturating_sub(read_at) < PLACE_HOLDS_MS;
        (fresh && self.read_at_ms.load(SeqCst) == read_at).then_some(place)
    }

    /// What /proc says now.
    fn read(&self) -> Option<Cgroup> {
        let now = sys::monotonic_ms();
        let place = Cgroup::current().ok()?;
        self.read_at_ms.store(i64::MIN, SeqCst);
        self.user_namespace.store(place.user_namespace, SeqCst);
        self.cgroup.store(place.cgroup, SeqCst);
        self.read_at_ms.store(now, SeqCst);
        Some(place)
    }
}

/// What came of a Connect request.
pub enum Connected {
    /// A connection is being made; the program's end of its shadow, and where the outcome will be told unless the request was non-blocking.
    Shadow {
        end: OwnedFd,
        engine: EngineId,
        cookie: u64,
        channel: OwnedFd,
    },
    /// Leave it to the kernel.
    Bypass(Bypass),
    /// connect() fails.
    Failed(c_int),
}

/// Sends a Connect request to this process's engine.
pub fn connect(request: &Request<'_>, socket: BorrowedFd<'_>) -> Connected {
    let Some(engine) = own() else {
        return Connected::Bypass(Bypass::NoLibrary);
    };
    let mut buf = [0; MESSAGE_MAX];
    match call_started(engine, request, socket, &mut buf) {
        Ok((Reply::Shadow { cookie }, Some(end), channel)) => Connected::Shadow {
            end,
            engine,
            cookie,
            channel,
        },
        Ok((Reply::Bypass(reason), ..)) => Connected::Bypass(reason),
        Ok((Reply::Error(errno), ..)) => Connected::Failed(errno),
        Ok(_) => Connected::Bypass(Bypass::EngineFault),
        Err(reason) => Connected::Bypass(reason),
    }
}

/// Tells this process's engine of a connection that it is not asked to carry. Nobody waits for its answer.
pub fn left(request: &Request<'_>) {
    let Some(engine) = own() else { return };
    let told = match channel::submit(engine, believes, request, None) {
        Err(CallError::NoEngine) => start_and_submit(engine, request, None).map(drop),
        told => told.map(drop).map_err(why),
    };
    if let Err(reason) = told {
        debug!("the engine was not told: {}", reason.text());
    }
}

/// The answer, what came with it, and the channel.
fn call_started<'b>(
    engine: EngineId,
    request: &Request<'_>,
    socket: BorrowedFd<'_>,
    buf: &'b mut [u8; MESSAGE_MAX],
) -> Result<(Reply<'b>, Option<OwnedFd>, OwnedFd), Bypass> {
    if sys::monotonic_ms().saturating_sub(SILENT_AT_MS.load(Relaxed)) < RETRY_MS {
        return Err(Bypass::EngineFault);
    }
    let mut received = Err(CallError::NoAnswer);
    // An engine that closes without an answer was about to go, or dies: another one shall do it.
    for _ in 0..2 {
        let submitted = match channel::submit(engine, believes, request, Some(socket)) {
            Err(CallError::NoEngine) => Ok(start_and_submit(engine, request, Some(socket))?),
            other => other,
        };
        received = submitted.and_then(|channel| Ok((channel::receive(&channel, buf)?, channel)));
        if !matches!(received, Err(CallError::NoAnswer)) {
            break;
        }
    }
    let ((len, end), channel) = received.map_err(why)?;
    let reply = Reply::decode(&buf[..len]).map_err(|error| why(CallError::Garbage(error)))?;
    Ok((reply, end, channel))
}

fn why(error: CallError) -> Bypass {
    debug!("asking the engine: {error:?}");
    if error == CallError::TooLate {
        SILENT_AT_MS.store(sys::monotonic_ms(), Relaxed);
    }
    match error {
        CallError::NoEngine => Bypass::NoEngine,
        CallError::Os(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => Bypass::NoResources,
        CallError::Untrusted | CallError::NoAnswer | CallError::TooLate | CallError::Garbage(_) | CallError::Os(_) => {
            Bypass::EngineFault
        }
    }
}

/// Starts an engine and submits as soon as it, or that of a program that was faster, listens.
fn start_and_submit(
    engine: EngineId,
    request: &Request<'_>,
    socket: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, Bypass> {
    let start = sys::monotonic_ms();
    if start.saturating_sub(FAILED_AT_MS.load(Relaxed)) < RETRY_MS {
        return Err(Bypass::NoEngine);
    }
    let failed = |reason| {
        FAILED_AT_MS.store(start, Relaxed);
        warning!("the engine did not start: {}", Bypass::text(reason));
        Err(reason)
    };
    let process = match spawn::engine(engine) {
        Ok(process) => process,
        Err(errno) => {
            debug!("executing the engine: {}", Errno::from_raw_os_error(errno));
            return failed(Bypass::NoLibrary);
        }
    };
    debug!("started engine {engine}");
    let mut pause_us = 500;
    let mut runs = true;
    while runs && sys::monotonic_ms().saturating_sub(start) < START_MS_MAX {
        // Looked at before asking: whoever wins the race for the name listens before the loser is gone.
        runs = process.runs_after(pause_us);
        match channel::submit(engine, believes, request, socket) {
            Err(CallError::NoEngine) => {}
            other => {
                // It may be the successor of one that was killed together with its keeper.
                listen::renew(engine);
                return other.map_err(why);
            }
        }
        pause_us = (pause_us * 2).min(20_000);
    }
    failed(Bypass::NoEngine)
}

/// Sends a Listen request to this process's engine, which answers for the socket from now on; or is ready to, when it does not listen yet.
pub fn listen(engine: EngineId, request: &Request<'_>, socket: BorrowedFd<'_>) -> Result<(), Bypass> {
    match call_started(engine, request, socket, &mut [0; MESSAGE_MAX])? {
        (Reply::Done, ..) => Ok(()),
        (Reply::Bypass(reason), ..) => Err(reason),
        _ => Err(Bypass::EngineFault),
    }
}

/// Shows a listening socket once more to the engine that answers for it: its options have changed. One that does not take it knows the socket as
/// it was.
pub fn listen_again(Answerer { engine, uid }: Answerer, request: &Request<'_>, socket: BorrowedFd<'_>) {
    believe(uid);
    if let Err(error) = channel::call(engine, believes, request, Some(socket), &mut [0; MESSAGE_MAX]) {
        debug!("showing a listening socket to its engine again: {error:?}");
    }
}

/// Shows an accepted socket to the engine that answers for the listening socket it came from: the shadow that it stands for, and its cookie. None
/// when it is somebody's own connection.
pub fn claim(Answerer { engine, uid }: Answerer, accepted: BorrowedFd<'_>) -> Option<(OwnedFd, u64)> {
    believe(uid);
    match channel::call(engine, believes, &Request::Claim, Some(accepted), &mut [0; MESSAGE_MAX]) {
        Ok((Reply::Shadow { cookie }, Some(end))) => Some((end, cookie)),
        _ => None,
    }
}

/// One request, and its answer; None when the engine does not give one.
fn ask<'b>(
    engine: EngineId,
    request: &Request<'_>,
    buf: &'b mut [u8; MESSAGE_MAX],
) -> Option<(Reply<'b>, Option<OwnedFd>)> {
    channel::call(engine, believes, request, None, buf).ok()
}

/// An answer without a value.
fn done(reply: Reply<'_>) -> Option<Result<(), c_int>> {
    match reply {
        Reply::Done => Some(Ok(())),
        Reply::Error(errno) => Some(Err(errno)),
        _ => None,
    }
}

/// What the engine knows about a connection; None when it makes no sense.
pub fn query(engine: EngineId, cookie: u64) -> Result<Option<Phase>, CallError> {
    let mut buf = [0; MESSAGE_MAX];
    let (reply, _) = channel::call(engine, believes, &Request::Query { cookie }, None, &mut buf)?;
    Ok(phase_reply(reply))
}

/// A phase out of a reply, if it is one.
pub fn phase_reply(reply: Reply<'_>) -> Option<Phase> {
    match reply {
        Reply::Phase(report) => Some(report.phase),
        _ => None,
    }
}

/// Asks to be told the result of the handshake on the channel.
pub fn submit_wait(engine: EngineId, cookie: u64) -> Result<OwnedFd, CallError> {
    channel::submit(engine, believes, &Request::Wait { cookie }, None)
}

/// Ends the connection; an unconnected kernel socket like the program's when it connected.
pub fn abort(engine: EngineId, cookie: u64) -> Option<OwnedFd> {
    ask(engine, &Request::Abort { cookie }, &mut [0; MESSAGE_MAX])?.1
}

/// getsockopt on a connection: the length of the value in `value`, or the errno. None when the engine does not answer.
pub fn get_option(
    engine: EngineId,
    cookie: u64,
    level: c_int,
    name: c_int,
    value: &mut [u8; VALUE_MAX],
    room: usize,
) -> Option<Result<usize, c_int>> {
    let room = u32::try_from(room).unwrap_or(u32::MAX);
    let request = Request::GetOption {
        cookie,
        level,
        name,
        room,
    };
    match ask(engine, &request, &mut [0; MESSAGE_MAX])?.0 {
        Reply::Value(bytes) => {
            let n = bytes.len().min(VALUE_MAX);
            value[..n].copy_from_slice(&bytes[..n]);
            Some(Ok(n))
        }
        Reply::Error(errno) => Some(Err(errno)),
        _ => None,
    }
}

/// setsockopt on a connection, as it was made on the socket `like`. None when the engine does not answer.
pub fn set_option(
    engine: EngineId,
    cookie: u64,
    (level, name): (c_int, c_int),
    like: BorrowedFd<'_>,
) -> Option<Result<(), c_int>> {
    let request = Request::SetOption { cookie, level, name };
    let mut buf = [0; MESSAGE_MAX];
    let (reply, _) = channel::call(engine, believes, &request, Some(like), &mut buf).ok()?;
    done(reply)
}

/// setsockopt of an option of `mptcp.h` on a connection. None when the engine does not answer.
pub fn set_wish(engine: EngineId, cookie: u64, name: c_int, value: &[u8]) -> Option<Result<(), c_int>> {
    let request = Request::SetWish { cookie, name, value };
    done(ask(engine, &request, &mut [0; MESSAGE_MAX])?.0)
}

/// What [`ask_wish`] gave.
pub enum Answer {
    /// So many bytes of a value.
    Value(usize),
    /// A descriptor.
    Descriptor(OwnedFd),
}

/// getsockopt of an option of `mptcp.h` that takes a value, or gives a descriptor. None when the engine does not answer.
pub fn ask_wish(
    engine: EngineId,
    cookie: u64,
    name: c_int,
    value: &[u8],
    into: &mut [u8; VALUE_MAX],
) -> Option<Result<Answer, c_int>> {
    let request = Request::AskWish { cookie, name, value };
    match ask(engine, &request, &mut [0; MESSAGE_MAX])? {
        (Reply::Value(bytes), _) => {
            let n = bytes.len().min(VALUE_MAX);
            into[..n].copy_from_slice(&bytes[..n]);
            Some(Ok(Answer::Value(n)))
        }
        (Reply::Done, Some(fd)) => Some(Ok(Answer::Descriptor(fd))),
        (Reply::Error(errno), _) => Some(Err(errno)),
        _ => None,
    }
}

/// What Linux's MPTCP options tell of a connection.
///
/// # Errors
/// ENOTCONN when there is none, or no engine.
pub fn picture(engine: EngineId, cookie: u64) -> Result<Picture, c_int> {
    let mut buf = [0; PICTURE_MESSAGE_MAX];
    match channel::call(engine, believes, &Request::Picture { cookie }, None, &mut buf) {
        Ok((Reply::Picture(bytes), _)) => Picture::decode(bytes).map_err(|_| libc::ENOTCONN),
        Ok((Reply::Error(errno), _)) => Err(errno),
        Ok(_) | Err(_) => Err(libc::ENOTCONN),
    }
}

/// Has everything that came handed to the shadow before its reading side is shut down. An engine that does not answer has nothing to hand.
pub fn shutdown(engine: EngineId, cookie: u64, both: bool) {
    let request = Request::Shutdown { cookie, both };
    let _ = ask(engine, &request, &mut [0; MESSAGE_MAX]);
}

/// What is not acknowledged and not sent yet. None when the engine does not answer.
pub fn queues(engine: EngineId, cookie: u64) -> Option<Queues> {
    match ask(engine, &Request::QueueSizes { cookie }, &mut [0; MESSAGE_MAX])?.0 {
        Reply::Queues(queues) => Some(queues),
        _ => None,
    }
}

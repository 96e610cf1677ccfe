//! `mptcp status`: asks the engines of this network namespace and shows their live connections.

use super::{print, print_json, Stop};
use lexopt::Arg;
use mptcp::control::channel::{self, CallError};
use mptcp::control::{believes, EngineId, Request, MESSAGE_MAX, STATUS_CHUNK_MAX};
use mptcp::engine::status::{ConnectionStatus, PolicyStatus, Status, SubflowStatus};
use rustix::io::Errno;
use rustix::net::sockopt;
use serde::Serialize;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Time between two pictures of `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(1);
/// No status is longer; an engine has some hundred bytes a connection.
const STATUS_LEN_MAX: usize = 256 << 20;
/// Cursor home, then clear to the end of the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// What all engines together say.
#[derive(Serialize, Default)]
pub struct Picture {
    /// Those that answered.
    pub engines: Vec<Status>,
    /// Engines of other users, which answer only them.
    pub of_others: usize,
    /// What went wrong with the rest.
    pub faults: Vec<String>,
}

/// Exit code 1 when no engine answered.
pub fn run(arguments: Vec<OsString>) -> Result<ExitCode, Stop> {
    let (mut json, mut watch) = (false, false);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("json") => json = true,
            Arg::Long("watch") => watch = true,
            other => return Err(other.unexpected().into()),
        }
    }
    loop {
        let picture = ask()?;
        let clear = if watch && std::io::stdout().is_terminal() {
            CLEAR
        } else {
            ""
        };
        let printed = match json {
            true => print_json(&picture)?,
            false => print(&format!("{clear}{}", describe(&picture)))?,
        };
        if !watch {
            return Ok(if picture.engines.is_empty() {
                ExitCode::FAILURE
            } else {
                printed
            });
        }
        if printed != ExitCode::SUCCESS {
            return Ok(printed);
        }
        thread::sleep(WATCH_PAUSE);
    }
}

/// Asks every engine of this network namespace that serves this user.
pub fn ask() -> Result<Picture, Stop> {
    let sockets = fs::read_to_string("/proc/net/unix").map_err(|e| Stop::Failed(format!("/proc/net/unix: {e}")))?;
    let mut picture = Picture::default();
    for engine in listening(&sockets) {
        match fetch(engine) {
            Ok(status) => picture.engines.push(status),
            Err(Fault::OfAnotherUser) => picture.of_others += 1,
            // It went between two looks.
            Err(Fault::Gone) => {}
            Err(Fault::Other(why)) => picture.faults.push(format!("engine {engine}: {why}")),
        }
    }
    Ok(picture)
}

/// The engines among the lines of /proc/net/unix. Sockets that they have accepted have the same name, so each is named once.
fn listening(sockets: &str) -> Vec<EngineId> {
    let names = sockets
        .lines()
        .filter_map(|line| line.rsplit_once(' ')?.1.strip_prefix('@'));
    let mut engines: Vec<EngineId> = names.filter_map(|name| EngineId::from_name(name.as_bytes())).collect();
    engines.sort_unstable_by_key(|engine| engine.text());
    engines.dedup();
    engines
}

enum Fault {
    OfAnotherUser,
    Gone,
    Other(String),
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoEngine => Fault::Gone,
            CallError::Untrusted => Fault::OfAnotherUser,
            CallError::NoAnswer | CallError::TooLate => Fault::Other("no answer".into()),
            CallError::Garbage(error) => Fault::Other(format!("{error:?}")),
            CallError::Os(errno) => Fault::Other(errno.to_string()),
        }
    }
}

fn fetch(engine: EngineId) -> Result<Status, Fault> {
    let channel = channel::open(engine, believes)?;
    let mut request = [0; MESSAGE_MAX];
    let len = Request::Status
        .encode(&mut request)
        .map_err(|error| Fault::Other(format!("{error:?}")))?;
    // An engine turns other users away; each believes root's to be genuine, and root may connect to everybody's.
    let of_another = sockopt::socket_peercred(&channel).is_ok_and(|peer| peer.uid != rustix::process::geteuid());
    let failed = |errno: Errno| match errno {
        Errno::CONNRESET | Errno::PIPE if of_another => Fault::OfAnotherUser,
        Errno::CONNRESET | Errno::PIPE => Fault::Gone,
        errno => Fault::from(CallError::Os(errno)),
    };
    channel::send(&channel, &request[..len], None).map_err(failed)?;
    let mut text = Vec::new();
    let mut chunk = vec![0; STATUS_CHUNK_MAX];
    loop {
        match channel::recv(&channel, &mut chunk).map_err(failed)? {
            (0, _) => break,
            (len, _) if text.len() + len <= STATUS_LEN_MAX => text.extend_from_slice(&chunk[..len]),
            _ => return Err(Fault::Other("its answer has no end".into())),
        }
    }
    match text.is_empty() {
        true if of_another => Err(Fault::OfAnotherUser),
        true => Err(Fault::Gone),
        false => serde_json::from_slice(&text).map_err(|_| Fault::Other("it is of another version of libmptcp".into())),
    }
}

/// The picture for people.
fn describe(picture: &Picture) -> String {
    let mut text = String::new();
    if picture.engines.is_empty() {
        text += "No engine runs for you here: no program uses libmptcp at present.\n\
                 An engine starts with the first connection of a program (mptcp run PROGRAM) and goes when idle.\n";
    }
    for status in &picture.engines {
        describe_engine(&mut text, status);
    }
    if picture.of_others > 0 {
        let _ = writeln!(
            text,
            "Engines of other users, which answer only them: {}",
            picture.of_others
        );
    }
    for fault in &picture.faults {
        let _ = writeln!(text, "{fault}");
    }
    text
}

fn describe_engine(text: &mut String, status: &Status) {
    let engine = &status.engine;
    let link = match (&engine.link, &engine.no_link) {
        (Some(link), _) => format!("link {link}"),
        (None, Some(why)) => format!("no link ({}): everything is left to the kernel", printable(why)),
        (None, None) => "no link: everything is left to the kernel".into(),
    };
    let _ = writeln!(
        text,
        "engine {} (process {}, up {}): {link}; asked to connect {} times, {} left to the kernel, {} failed",
        printable(&engine.id),
        engine.pid,
        seconds(engine.uptime_s),
        engine.connects,
        engine.bypassed,
        engine.failed
    );
    for listener in &status.listeners {
        let _ = writeln!(
            text,
            "{}[{}] listens at {}: {} connections so far",
            printable(&listener.program),
            listener.pid,
            listener.address,
            listener.accepted
        );
    }
    if status.connections.is_empty() {
        text.push_str("no connections\n");
    }
    for connection in &status.connections {
        describe_connection(text, connection);
    }
    if !status.bypasses.is_empty() {
        text.push_str("left to the kernel lately:\n");
    }
    for bypass in &status.bypasses {
        let _ = writeln!(
            text,
            "  {}[{}] > {}: {}, {} ago",
            printable(&bypass.program),
            bypass.pid,
            bypass.remote,
            printable(&bypass.reason),
            seconds(bypass.ago_s)
        );
    }
    if !status.plain_peers.is_empty() {
        text.push_str("left to the kernel for a while, because they answered in plain TCP:\n");
    }
    for peer in &status.plain_peers {
        let _ = writeln!(text, "  {}: tried again in {}", peer.peer, seconds(peer.left_s));
    }
}

fn describe_connection(text: &mut String, connection: &ConnectionStatus) {
    let protocol = match (connection.protocol.as_str(), &connection.why_plain) {
        ("mptcp", _) => "MPTCP".into(),
        (_, Some(why)) => format!("plain TCP ({})", printable(why)),
        ("kernel", None) => "the kernel's TCP".into(),
        (other, None) => printable(other),
    };
    let _ = writeln!(
        text,
        "{}[{}] {} > {}: {protocol}, {}, {}, {} in, {} out",
        printable(&connection.program),
        connection.pid,
        connection.local,
        connection.remote,
        printable(&connection.state),
        seconds(connection.age_s),
        bytes(connection.bytes_received),
        bytes(connection.bytes_acked)
    );
    if let Some(policy) = &connection.policy {
        describe_policy(text, policy);
    }
    for subflow in &connection.subflows {
        describe_subflow(text, subflow);
    }
}

/// One line, of what is not as by default.
fn describe_policy(text: &mut String, policy: &PolicyStatus) {
    let mut parts = Vec::new();
    if policy.intent != "none" {
        parts.push(format!("intent {}", printable(&policy.intent)));
    }
    if policy.traffic != "unknown" {
        parts.push(format!("{} traffic", printable(&policy.traffic)));
    }
    if let Some(why) = &policy.low_latency {
        parts.push(format!("slow paths wait ({})", printable(why)));
    }
    if policy.joins != "at once" {
        parts.push(format!("joins {}", printable(&policy.joins)));
    }
    if !parts.is_empty() {
        let _ = writeln!(text, "  {}", parts.join(", "));
    }
}

fn describe_subflow(text: &mut String, subflow: &SubflowStatus) {
    let mut state = printable(&subflow.state);
    for (holds, mark) in [(subflow.backup, ", backup"), (subflow.stalled, ", stalled")] {
        if holds {
            state += mark;
        }
    }
    let _ = writeln!(
        text,
        "  {:<6} {} > {}  {state}  rtt {:.1} ms  {} in  {} out  {} resent",
        printable(subflow.interface.as_deref().unwrap_or("?")),
        subflow.local,
        subflow.remote,
        f64::from(subflow.rtt_us) / 1e3,
        bytes(subflow.bytes_received),
        bytes(subflow.bytes_sent),
        subflow.retransmits
    );
}

/// Names of programs are theirs to choose: no terminal is to obey them.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.2} GB", count as f64 / 1e9),
    }
}

fn seconds(count: u64) -> String {
    match count {
        0..120 => format!("{count} s"),
        120..7200 => format!("{} min", count / 60),
        _ => format!("{} h", count / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_found_among_other_sockets_once_each() {
        let sockets = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0005 01  9167 @mptcp-engine-00000000beef
0000000000000000: 00000003 00000000 00000000 0005 03  9168 @mptcp-engine-00000000beef
0000000000000000: 00000003 00000000 00000000 0001 03  9169
0000000000000000: 00000002 00000000 00010000 0001 01  9170 /run/mptcp-engine-000000000001
0000000000000000: 00000002 00000000 00010000 0005 01  9171 @mptcp-engine-00000000000X
0000000000000000: 00000002 00000000 00010000 0005 01  9172 @mptcp-engine-000000000002
";
        let found: Vec<String> = listening(sockets).iter().map(EngineId::to_string).collect();
        assert_eq!(found, ["000000000002", "00000000beef"]);
    }

    #[test]
    fn terminals_see_no_escape_sequences() {
        assert_eq!(printable("a\x1b[31m\u{9b}b"), "a?[31m?b");
    }

    #[test]
    fn quantities_have_units_of_their_size() {
        assert_eq!(bytes(9_999), "9999 B");
        assert_eq!(bytes(25_100_000), "25.1 MB");
        assert_eq!(seconds(119), "119 s");
        assert_eq!(seconds(7_200), "2 h");
    }
}

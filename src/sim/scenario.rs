//! A scenario: the network, the applications, what happens when, and what must come of it.
//!
//! `draw` makes one of a seed. A run has a safety phase, in which faults are on and streams are checked byte by byte, and from `calm_at` on a
//! liveness phase without faults, in which every application must come to its end and the endpoints must forget everything.

use super::app::{App, Finish, Plan};
use super::draw;
use super::middlebox::Middlebox;
use super::problem::{Failure, Problem};
use super::wire::WireConfig;
use super::world::{Totals, World, CLIENT, SERVER};
use crate::link::LOOPBACK;
use crate::mptcp::endpoint::{ConnError, ConnOptions, Fallback, LocalPath};
use crate::time::{Duration, Instant};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How long recovery may take once faults are over: retransmission timers that backed off during them have to fire once more.
const RECOVERY_MAX: Duration = Duration::from_secs(120);
/// How long endpoints may hold state after the applications are through: TIME_WAIT is four minutes at most (RFC 9293 section 3.4.2).
const FORGET_MAX: Duration = Duration::from_secs(400);

/// A wire and its place.
#[derive(Clone, Debug)]
pub struct WireSpec {
    /// The host at its client's end: `CLIENT` or `OTHER`.
    pub client: usize,
    /// The client's and the server's address.
    pub ends: (IpAddr, IpAddr),
    /// Its properties during the safety phase.
    pub config: WireConfig,
    /// What sits on it.
    pub middleboxes: Vec<Middlebox>,
}

/// One connection. Its client's first wire is its first path.
#[derive(Clone, Debug)]
pub struct ConnSpec {
    /// The host that connects: `CLIENT` or `OTHER`.
    pub client: usize,
    /// What client and server do.
    pub plans: [Plan; 2],
    /// Their options.
    pub options: [ConnOptions; 2],
    /// Somebody listens at the server's port.
    pub listening: bool,
    /// When the client connects.
    pub connect_at: Instant,
}

/// Something that the world does at a time.
#[derive(Clone, Debug)]
pub enum Change {
    /// The client opens connection number n.
    Connect(usize),
    /// A wire is cut; what is in flight is lost.
    Cut(usize),
    /// It is mended.
    Mend(usize),
    /// All random faults end, all wires are mended.
    Calm,
    /// A host stands still: nothing is received, no timer fires, no application runs until then.
    Pause { host: usize, until: Instant },
    /// A host's engine dies, and another one begins that knows nothing.
    Crash(usize),
    /// A host's clock jumps, forward or (negative) back.
    Clock { host: usize, by_ms: i64 },
    /// A host's list of paths changes.
    Paths { host: usize, paths: Vec<LocalPath> },
}

/// How connections must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Every byte arrives, nothing breaks.
    Orderly,
    /// They may break, but both ends learn of it, and what was read is an exact prefix.
    MayBreak,
    /// The client's attempt fails with this.
    Fails(ConnError),
}

/// A whole run, before it happens.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Decides all that is random while it runs.
    pub seed: u64,
    /// Wires between the hosts' addresses.
    pub wires: Vec<WireSpec>,
    /// All wires are one: their packets share the first one's rate and queue.
    pub one_line: bool,
    /// What client, server and the other client pass to `set_paths`; nothing is passed of an empty list.
    pub paths: [Vec<LocalPath>; 3],
    /// Connections.
    pub conns: Vec<ConnSpec>,
    /// Changes, by time.
    pub script: Vec<(Instant, Change)>,
    /// When faults end; the script has `Change::Calm` then.
    pub calm_at: Instant,
    /// Subflows that the host has no port for, per mille.
    pub refuse_subflow_per_mille: u32,
    /// Many random numbers lie just before they wrap.
    pub edgy_numbers: bool,
    /// How it must end.
    pub ending: Ending,
}

/// What came of a run that found nothing wrong.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// When the last application was through.
    pub through_at: Instant,
    /// When nothing was left.
    pub ended_at: Instant,
    /// Why the first connection is plain TCP, at client and server.
    pub fallback: [Option<Fallback>; 2],
    /// How the first connection broke, at client and server.
    pub failed: [Option<ConnError>; 2],
    /// Bytes that the first connection's applications read.
    pub received: [u64; 2],
    /// `SubflowUp` events at client and server.
    pub subflows_up: [u32; 2],
    /// Payload bytes that came through each wire, up and down.
    pub wire_bytes: Vec<[u64; 2]>,
    /// Counters.
    pub totals: Totals,
}

/// The client's address on its `index`th network.
pub fn client_addr(index: u8, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, index.into(), 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(192, 0, 2, index + 1).into()
    }
}

/// The server's `index`th address.
pub fn server_addr(index: u8, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0xff, index.into(), 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(198, 51, 100, index + 1).into()
    }
}

/// A path over the address, which is the host's `index`th.
pub fn local_path(addr: IpAddr, index: u8, mtu: u32) -> LocalPath {
    LocalPath {
        addr,
        iface: LOOPBACK + 1 + u32::from(index),
        mtu,
        backup: false,
    }
}

impl WireSpec {
    /// The address that the client has beyond a NAT on this wire.
    pub fn public(&self) -> Option<IpAddr> {
        self.middleboxes.iter().find_map(|m| match m {
            Middlebox::Nat { public, .. } => Some(*public),
            _ => None,
        })
    }
}

impl Scenario {
    /// The scenario that a seed stands for.
    pub fn draw(seed: u64) -> Scenario {
        draw::scenario(seed)
    }

    /// One connection over clean wires, one for each of the client's `paths` addresses, to one server address.
    pub fn clean(paths: u8, client: Plan, server: Plan) -> Scenario {
        let config = WireConfig::default();
        let wire = |i| WireSpec {
            client: CLIENT,
            ends: (client_addr(i, false), server_addr(0, false)),
            config,
            middleboxes: vec![],
        };
        Scenario {
            seed: 1,
            wires: (0..paths).map(wire).collect(),
            one_line: false,
            paths: [
                (0..paths)
                    .map(|i| local_path(client_addr(i, false), i, config.mtu))
                    .collect(),
                vec![local_path(server_addr(0, false), 0, config.mtu)],
                vec![],
            ],
            conns: vec![ConnSpec {
                client: CLIENT,
                plans: [client, server],
                options: [ConnOptions::default(), ConnOptions::default()],
                listening: true,
                connect_at: Instant::ZERO,
            }],
            script: Vec::new(),
            calm_at: Instant::ZERO,
            refuse_subflow_per_mille: 0,
            edgy_numbers: false,
            ending: Ending::Orderly,
        }
    }

    /// A middlebox changes payload.
    pub fn corrupts(&self) -> bool {
        self.wires
            .iter()
            .flat_map(|w| &w.middleboxes)
            .any(|m| matches!(m, Middlebox::Corrupt { .. }))
    }

    /// Runs it; `trace` prints every segment and event to standard output.
    pub fn run(&self, trace: bool) -> Result<Report, Failure> {
        self.drive(&mut World::new(self, trace))
    }

    /// Runs it in a world that was made for it, and perhaps prepared further.
    pub fn drive(&self, world: &mut World<'_>) -> Result<Report, Failure> {
        let result = self.drive_phases(world).and_then(|()| self.judge(world));
        result.map_err(|problem| Failure {
            seed: self.seed,
            at: world.now,
            problem,
            scenario: format!("{self:#?}\n{}", world.describe()),
        })
    }

    fn drive_phases(&self, world: &mut World<'_>) -> Result<(), Problem> {
        if world.now == Instant::ZERO {
            world.start()?;
        }
        let through_by = self.calm_at + RECOVERY_MAX + self.fair_time();
        if world.run(through_by)? {
            return Ok(());
        }
        let late = world
            .hosts
            .iter()
            .flat_map(|h| h.apps.values())
            .find(|a| !a.gone && a.closed_at.is_none());
        if let Some(app) = late {
            return Err(Problem::Late(app.describe()));
        }
        if !world.run(through_by + FORGET_MAX)? {
            return Err(Problem::Left(
                "something still happens long after the applications are through".to_string(),
            ));
        }
        Ok(())
    }

    /// What applications and wires may need when all goes well, generously.
    fn fair_time(&self) -> Duration {
        let slowest_bps = self.wires.iter().map(|w| w.config.rate_bps).min().unwrap_or(1).max(1);
        let mut time = Duration::ZERO;
        for conn in &self.conns {
            let [client, server] = &conn.plans;
            time = time.max(conn.connect_at.since(Instant::ZERO)); // Overlap only makes the bound more generous.
            for (own, peer) in [(client, server), (server, client)] {
                time += own.write.longest(own.send_bytes) + own.read.longest(peer.send_bytes) + own.linger;
                time += Duration::from_micros(own.send_bytes * 8 * 1_000_000 * 4 / slowest_bps);
            }
        }
        time
    }

    fn judge(&self, world: &World<'_>) -> Result<Report, Problem> {
        for host in &world.hosts {
            if let Some(app) = host.apps.values().find(|a| !a.gone) {
                return Err(Problem::Deadlock(app.describe()));
            }
            let left = host.endpoint.connections();
            if !left.is_empty() || host.endpoint.poll_timeout().is_some() {
                return Err(Problem::Left(format!(
                    "{left:?}, timer {:?}",
                    host.endpoint.poll_timeout()
                )));
            }
        }
        for conn in 0..self.conns.len() {
            self.judge_conn(world, conn)?;
        }
        Ok(self.report(world))
    }

    fn judge_conn(&self, world: &World<'_>, conn: usize) -> Result<(), Problem> {
        let corrupted: u64 = world
            .wires
            .iter()
            .flat_map(|w| &w.middleboxes)
            .map(|m| m.corrupted())
            .sum();
        let checksums = self.conns[conn].options.iter().any(|o| o.checksum);
        for host in [self.conns[conn].client, SERVER] {
            let Some(app) = app_of(world, host, conn) else {
                if self.ending == Ending::Orderly {
                    return Err(Problem::Deadlock(format!("host {host} never had connection {conn}")));
                }
                continue;
            };
            if app.wrong > corrupted {
                return Err(Problem::MoreWrongThanCorrupted {
                    at: app.name,
                    wrong: app.wrong,
                    corrupted,
                });
            }
            if app.wrong > 0 && checksums && app.fallback.is_none() {
                return Err(Problem::CorruptWithoutFallback { at: app.name });
            }
            match (self.ending, app.failed) {
                (Ending::Orderly, Some(error)) => return Err(Problem::Broken { at: app.name, error }),
                (Ending::Orderly, None) => judge_orderly(app)?,
                (Ending::Fails(wanted), error) if host != SERVER && error != Some(wanted) => {
                    return Err(Problem::Unexpected(format!(
                        "the attempt ended with {error:?}, not {wanted:?}"
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn report(&self, world: &World<'_>) -> Report {
        let first = [CLIENT, SERVER].map(|host| app_of(world, host, 0));
        let apps = world.hosts.iter().flat_map(|h| h.apps.values());
        Report {
            through_at: apps.filter_map(|a| a.closed_at).max().unwrap_or_default(),
            ended_at: world.now,
            fallback: first.map(|a| a.and_then(|a| a.fallback)),
            failed: first.map(|a| a.and_then(|a| a.failed)),
            received: first.map(|a| a.map_or(0, |a| a.received)),
            subflows_up: [world.hosts[CLIENT].subflows_up, world.hosts[SERVER].subflows_up],
            wire_bytes: world.wires.iter().map(|w| w.delivered_bytes).collect(),
            totals: world.totals,
        }
    }
}

fn app_of<'w>(world: &'w World<'_>, host: usize, conn: usize) -> Option<&'w App> {
    world.hosts[host].apps.values().find(|a| a.name.conn == conn)
}

/// Everything was read and everything written was acknowledged.
fn judge_orderly(app: &App) -> Result<(), Problem> {
    let read_all = app.eof && app.received == app.peer_bytes();
    if !read_all && app.plan.finish != Finish::Close {
        return Err(Problem::Truncated {
            at: app.name,
            received: app.received,
            expected: app.peer_bytes(),
        });
    }
    if app.sent != app.plan.send_bytes || !app.flushed {
        return Err(Problem::Unexpected(format!("no Flushed event: {}", app.describe())));
    }
    Ok(())
}

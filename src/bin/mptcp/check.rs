//! `mptcp check`: can it work here, over which paths, and what to change if not. Looks only; sends nothing.

use super::status::{self, Picture};
use super::{print, print_json, Stop};
use lexopt::{Arg, ValueExt};
use mptcp::link::path_config::PathConfig;
use mptcp::link::paths::{KernelReason, Verdict};
use mptcp::link::routes::{Query, Routes};
use mptcp::link::{AutoLink, GuardKind, Guards, Link};
use serde::Serialize;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::process::ExitCode;

/// Asked about when no destination is given: documentation addresses (RFC 5737, RFC 3849) that the default route covers.
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1)),
];

/// Everything that was found out.
#[derive(Serialize)]
struct Findings {
    version: &'static str,
    /// A program started here would use MPTCP where the peer does.
    usable: bool,
    link: Option<LinkFinding>,
    /// Why there is no link.
    no_link: Option<String>,
    /// net.mptcp.enabled of this kernel; None when it has no MPTCP.
    kernel_mptcp: Option<bool>,
    /// Process ids of this user's running engines.
    engines: Vec<u32>,
    destination: IpAddr,
    paths: Vec<PathFinding>,
    /// Why other interfaces are not used at all.
    single: Option<String>,
    skipped: Vec<SkippedFinding>,
    /// Why the destination is left to the kernel.
    left_to_kernel: Option<String>,
    /// What to do, in order.
    advice: Vec<String>,
}

#[derive(Serialize)]
struct LinkFinding {
    name: &'static str,
    /// `repair` or `listening`.
    guards: &'static str,
}

#[derive(Serialize)]
struct PathFinding {
    interface: String,
    address: IpAddr,
    mtu: u32,
    backup: bool,
}

#[derive(Serialize)]
struct SkippedFinding {
    interface: String,
    reason: String,
}

/// Exit code 0 when it is usable, 1 when not.
pub fn run(arguments: Vec<OsString>) -> Result<ExitCode, Stop> {
    let (mut json, mut destination) = (false, None);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("json") => json = true,
            Arg::Value(value) if destination.is_none() => destination = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let destinations = match destination {
        Some(text) => vec![resolve(&text)?],
        None => ANYWHERE.to_vec(),
    };
    let findings = find(&destinations)?;
    match json {
        true => print_json(&findings)?,
        false => print(&describe(&findings))?,
    };
    Ok(if findings.usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// An address, a name, or either with a port.
fn resolve(text: &str) -> Result<IpAddr, Stop> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some((_, port)) = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'))
    {
        if port.parse::<u16>().is_err() {
            return Err(Stop::Usage(format!("{port} is no port: 0 to 65535")));
        }
    }
    let found = text.to_socket_addrs().or_else(|_| (text, 0).to_socket_addrs());
    let found = found.map_err(|e| Stop::Failed(format!("{text}: {e}")))?.next();
    let found = found.ok_or_else(|| Stop::Failed(format!("{text} has no address")))?;
    Ok(found.ip())
}

/// About the first of the destinations that has a route, or else the first.
fn find(destinations: &[IpAddr]) -> Result<Findings, Stop> {
    let failed = |what: &str, e: &dyn std::fmt::Display| Stop::Failed(format!("{what}: {e}"));
    let config = env::var("MPTCP_PATHS").unwrap_or_default();
    let config = PathConfig::parse(&config).map_err(|e| Stop::Failed(e.to_string()))?;
    let mut routes = Routes::new().map_err(|e| failed("reading the routes", &e))?;
    let mut verdicts = Vec::new();
    for &dst in destinations {
        let query = Query {
            dst,
            src: None,
            mark: 0,
        };
        let verdict = routes.verdict(&query, &config);
        verdicts.push((dst, verdict.map_err(|e| failed("reading the routes", &e))?));
    }
    let with_route = verdicts
        .iter()
        .position(|(_, verdict)| matches!(verdict, Verdict::Paths { .. }));
    let (destination, verdict) = verdicts.swap_remove(with_route.unwrap_or(0));
    let (link, no_link) = match open_link() {
        Ok(link) => (Some(link), None),
        Err(e) => (None, Some(e.to_string())),
    };
    let mut findings = Findings {
        version: env!("CARGO_PKG_VERSION"),
        usable: false,
        link,
        no_link,
        kernel_mptcp: kernel_mptcp(),
        engines: status::ask().map(engine_pids).unwrap_or_default(),
        destination,
        paths: Vec::new(),
        single: None,
        skipped: Vec::new(),
        left_to_kernel: None,
        advice: Vec::new(),
    };
    take_verdict(&mut findings, verdict, &routes);
    let off = env::var("MPTCP").is_ok_and(|value| ["off", "0", "no"].iter().any(|off| value.eq_ignore_ascii_case(off)));
    findings.usable = findings.link.is_some() && findings.left_to_kernel.is_none() && !off;
    findings.advice = advice(&findings, off);
    Ok(findings)
}

fn take_verdict(findings: &mut Findings, verdict: Verdict, routes: &Routes) {
    match verdict {
        Verdict::Kernel(reason) => findings.left_to_kernel = Some(kernel_reason(reason)),
        Verdict::Paths {
            paths,
            plain_oif,
            single,
            skipped,
        } => {
            let name = |index: u32| {
                let found = routes.interfaces().iter().find(|interface| interface.index == index);
                found.map_or_else(|| format!("interface {index}"), |interface| interface.name.clone())
            };
            findings.paths.extend(paths.into_iter().map(|path| PathFinding {
                interface: name(if path.iface == 0 { plain_oif } else { path.iface }),
                address: path.addr,
                mtu: path.mtu,
                backup: path.backup,
            }));
            findings.single = single.map(|reason| reason.to_string());
            findings
                .skipped
                .extend(skipped.into_iter().map(|skipped| SkippedFinding {
                    interface: skipped.name,
                    reason: skipped.why.to_string(),
                }));
        }
    }
}

/// The link that an engine would open, opened and closed again.
fn open_link() -> io::Result<LinkFinding> {
    let guards = Guards::new()?;
    let link = AutoLink::new(&guards.ports())?;
    Ok(LinkFinding {
        name: link.name(),
        guards: match guards.kind() {
            GuardKind::Repair => "repair",
            GuardKind::Listening => "listening",
        },
    })
}

fn kernel_mptcp() -> Option<bool> {
    let enabled = fs::read_to_string("/proc/sys/net/mptcp/enabled").ok()?;
    Some(enabled.trim() != "0")
}

fn engine_pids(picture: Picture) -> Vec<u32> {
    picture.engines.iter().map(|status| status.engine.pid).collect()
}

fn kernel_reason(reason: KernelReason) -> String {
    match reason {
        KernelReason::Local => "it is this host itself".into(),
        KernelReason::NotGlobal => "it is a multicast, broadcast or link-local address".into(),
        KernelReason::NoRoute(errno) => format!("no route ({})", io::Error::from_raw_os_error(errno)),
        KernelReason::RuleByPort => "a routing rule selects by port, which raw IP sockets do not obey".into(),
        KernelReason::IpsecByPort => "an IPsec policy selects by port, which raw IP sockets do not obey".into(),
    }
}

fn advice(findings: &Findings, off: bool) -> Vec<String> {
    let mut advice = Vec::new();
    if off {
        advice.push("The environment says MPTCP=off: unset it.".into());
    }
    if findings.link.is_none() {
        advice.push(
            "Raw IP sockets need CAP_NET_RAW: run as root, give a container --cap-add NET_RAW, \
             a systemd service AmbientCapabilities=CAP_NET_RAW."
                .into(),
        );
    }
    if findings
        .left_to_kernel
        .as_deref()
        .is_some_and(|why| why.starts_with("no route"))
    {
        advice.push("Ask about the address that you mean: mptcp check DESTINATION.".into());
    }
    if findings.single.is_some() {
        advice.push("To use other interfaces all the same, name them: MPTCP_PATHS=eth0,wlan0.".into());
    } else if findings.paths.len() == 1 {
        advice.push("A second interface with an address and a default route would give a second path.".into());
    }
    advice
}

fn describe(findings: &Findings) -> String {
    let mut text = format!("libmptcp {}\n", findings.version);
    let link = match (&findings.link, &findings.no_link) {
        (Some(link), _) if link.guards == "repair" => {
            format!("{} (raw IP sockets); ports kept by TCP_REPAIR", link.name)
        }
        (Some(link), _) => format!(
            "{} (raw IP sockets); ports kept by listening sockets, without CAP_NET_ADMIN",
            link.name
        ),
        (None, why) => format!("none available: {}", why.as_deref().unwrap_or("unknown")),
    };
    let kernel = match findings.kernel_mptcp {
        Some(true) => "has MPTCP of its own (not needed)",
        Some(false) => "has MPTCP of its own, turned off (not needed)",
        None => "has no MPTCP (not needed)",
    };
    let engine = match findings.engines.as_slice() {
        [] => "none runs now; the first connection starts it".into(),
        pids => format!(
            "runs as process {}",
            pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        ),
    };
    let _ = write!(
        text,
        "link    {link}\nkernel  {kernel}\nengine  {engine}\npaths to {}\n",
        findings.destination
    );
    for (index, path) in findings.paths.iter().enumerate() {
        let marks = [
            (index == 0, ", first subflow (the kernel's route)"),
            (path.backup, ", backup"),
        ];
        let marks: String = marks
            .iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, mark)| *mark)
            .collect();
        let _ = writeln!(
            text,
            "  {:<10} from {}, MTU {}{marks}",
            path.interface, path.address, path.mtu
        );
    }
    for skipped in &findings.skipped {
        let _ = writeln!(text, "  {:<10} not used: {}", skipped.interface, skipped.reason);
    }
    if let Some(reason) = &findings.single {
        let _ = writeln!(text, "  no other interface: {reason}");
    }
    if let Some(reason) = &findings.left_to_kernel {
        let _ = writeln!(text, "  none, left to the kernel: {reason}");
    }
    text.push_str(match (findings.usable, findings.paths.len()) {
        (false, _) => "NOT USABLE: connections stay with the kernel's TCP, unchanged.\n",
        (true, 1) => "Usable, over one path.\n",
        (true, _) => "Usable.\n",
    });
    for line in &findings.advice {
        let _ = writeln!(text, "-> {line}");
    }
    text
}

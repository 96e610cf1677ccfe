//! `lab bench`: the same transfers through this library, the kernel's MPTCP and the kernel's TCP, in the same kind of lab, in turn.
//!
//! Figures, not verdicts: nothing here fails because something is slow. Each figure is the median of some runs, with the lowest and the
//! highest beside it. A table on standard output, and a picture.

use crate::cases::{cases, Carrier, Case, Measure};
use crate::chart;
use crate::lab::{server_address, Host, Lab, LabSpec, Transport};
use crate::peer::load::Load;
use lexopt::Arg;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Ethernet, IPv4 and TCP headers with timestamps and a mapping, of a full frame: what the wires' rate does not carry.
const PAYLOAD_SHARE: f64 = 1428.0 / 1514.0;
/// Megabytes, of 1,000,000 bytes, and so on: as wires count.
const MEGA: f64 = 1e6;
/// Ticks a second in /proc/PID/stat, the same on every architecture of today.
const USER_HZ: f64 = 100.0;
/// How long an engine with nothing to do is looked at.
const QUIET_SECONDS: u64 = 5;

/// A row of the table.
struct Row {
    name: String,
    unit: &'static str,
    decimals: usize,
    /// By carrier; empty where it was not measured.
    runs: [Vec<f64>; 4],
}

struct Settings {
    library: PathBuf,
    picture: Option<PathBuf>,
    repeats: usize,
    seconds: f64,
    /// Only cases whose name contains this.
    only: String,
}

/// Measures, prints the table, and draws the picture.
pub fn run(arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let settings = parse(arguments).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
    println!(
        "Median of {} runs (lowest to highest). Congestion control is CUBIC on both sides where nothing else is said; both ends and the wires share {} cores.\n\
         \"we send\" are uploads of the client; the server is always the kernel's MPTCP (TCP for kernel TCP).\n\
         Start-up counts.\n\n\
         {:<84} {:>24} {:>24} {:>24} {:>24} {:>8}",
        settings.repeats,
        thread::available_parallelism().map_or(1, usize::from),
        "",
        "libmptcp",
        "libmptcp, ip link",
        "kernel MPTCP",
        "kernel TCP",
        "ratio"
    );
    let mut rows = Vec::new();
    for case in cases((settings.seconds * 1000.0) as u64)
        .into_iter()
        .filter(|case| case.name.contains(&settings.only))
    {
        for row in measure(&settings, &case)? {
            println!("{}", row.text());
            rows.push(row);
        }
    }
    println!("\nratio: libmptcp to kernel MPTCP.");
    if let Some(path) = &settings.picture {
        let bars: Vec<chart::Bars> = rows.iter().filter_map(Row::bars).collect();
        fs::write(path, chart::draw(&bars))?;
        println!("{} is drawn.", path.display());
    }
    Ok(())
}

/// The carriers in turn, so that what else the machine does meets all of them.
fn measure(settings: &Settings, case: &Case) -> io::Result<Vec<Row>> {
    let row = |name: String, unit, decimals| Row {
        name,
        unit,
        decimals,
        runs: Default::default(),
    };
    let (unit, decimals) = match case.measure {
        Measure::Bulk => ("Gbit/s", 2),
        Measure::Share => ("of the wires", 3),
        Measure::Silence(_) => ("ms of silence", 0),
        Measure::Latency => ("us", 1),
        Measure::Rate => ("a second", 0),
        Measure::Memory => ("KB", 1),
        Measure::WakeUps => ("wake-ups a second", 1),
    };
    let mut main = row(case.name.clone(), unit, decimals);
    let mut cpu = row(format!("{}, CPU of both ends", case.name), "s/GB", 2);
    for repeat in 0..if case.once { 1 } else { settings.repeats } {
        for &carrier in case.carriers {
            // One wire's TCP is a line to compare with, and varies little.
            if carrier == Carrier::KernelTcp && case.measure == Measure::Share && repeat > 0 {
                continue;
            }
            let (figure, cpu_seconds) = once(settings, case, carrier)?;
            main.runs[carrier as usize].push(figure);
            cpu.runs[carrier as usize].push(cpu_seconds);
        }
    }
    Ok(match case.measure {
        Measure::Bulk => vec![main, cpu],
        _ => vec![main],
    })
}

/// One run in a lab of its own: servers remember what they learnt of a path. The figure, and CPU seconds per gigabyte.
fn once(settings: &Settings, case: &Case, carrier: Carrier) -> io::Result<(f64, f64)> {
    let lab = Lab::new(LabSpec {
        congestion: Some(case.congestion.into()),
        ..LabSpec::new(case.wires.clone())
    })?;
    let transport = match carrier {
        Carrier::KernelTcp => Transport::Tcp,
        _ => Transport::Mptcp,
    };
    let server = lab.server().peer("load-server", transport, &[])?;
    let address = server.at(server_address(0, false));
    let load = |what: &str, number: u64| -> io::Result<Command> {
        let mut command = client(settings, &lab, carrier)?;
        command.env("MPTCP_CONGESTION", case.congestion);
        command.args(["load", what, &address.to_string(), &number.to_string()]);
        Ok(command)
    };
    if carrier == Carrier::OwnIp {
        lab.client().output("nft", &["add", "table", "inet", "bench"])?;
    }
    if carrier == Carrier::KernelMptcp {
        lab.kernel_paths()?;
    }
    // The engine starts, neighbours are resolved, paths are known to nobody yet.
    finish(&mut load("ping", 10)?)?;
    match case.measure {
        Measure::Memory => return Ok((memory(&lab, &mut load(case.what, case.number)?, case.number)?, 0.0)),
        Measure::WakeUps => return Ok((wake_ups(&lab, &mut load(case.what, case.number)?)?, 0.0)),
        _ => {}
    }
    let before = cpu_seconds(&lab)?;
    let result = thread::scope(|scope| {
        let disturber = match case.measure {
            Measure::Silence(disturbance) => {
                let (lab, wire) = (&lab, &case.wires[0]);
                Some(scope.spawn(move || disturbance.act(lab, wire)))
            }
            _ => None,
        };
        let result = finish(&mut load(case.what, case.number)?);
        match disturber.map(thread::ScopedJoinHandle::join) {
            Some(Ok(Err(error))) => Err(error),
            _ => result,
        }
    })?;
    let cpu = cpu_seconds(&lab)? - before;
    let rate = result.count as f64 / result.seconds;
    let figure = match case.measure {
        Measure::Bulk => rate * 8e-9,
        Measure::Share => {
            let wires: f64 = case.wires.iter().map(|wire| wire.to_server.rate_mbit).sum();
            rate * 8.0 / MEGA / (wires * PAYLOAD_SHARE)
        }
        Measure::Silence(_) => result.longest_silence_ms,
        Measure::Latency => 1e6 / rate,
        Measure::Rate | Measure::Memory | Measure::WakeUps => rate,
    };
    Ok((figure, cpu / (result.count as f64 * 1e-9)))
}

/// `lab`, its connections carried so.
fn client(settings: &Settings, lab: &Lab, carrier: Carrier) -> io::Result<Command> {
    let program = std::env::current_exe()?;
    match carrier {
        Carrier::Own | Carrier::OwnIp => {
            let mut command = lab.client().command(program);
            command.env("LD_PRELOAD", &settings.library);
            Ok(command)
        }
        Carrier::KernelMptcp => lab.client().mptcpize(program),
        Carrier::KernelTcp => Ok(lab.client().command(program)),
    }
}

fn finish(command: &mut Command) -> io::Result<Load> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
        return Err(io::Error::other(format!("{command:?}: {}: {why}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// How often a second the client's engine wakes while its connection is idle.
fn wake_ups(lab: &Lab, command: &mut Command) -> io::Result<f64> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
    BufReader::new(output).read_line(&mut String::new())?;
    // The last acknowledgments, and timers of what is behind it.
    thread::sleep(Duration::from_secs(2));
    let switches = || engine_sum(lab, "voluntary_ctxt_switches:");
    let before = switches()?;
    thread::sleep(Duration::from_secs(QUIET_SECONDS));
    let after = switches()?;
    drop(child.stdin.take());
    child.wait()?;
    Ok((after - before) / QUIET_SECONDS as f64)
}

/// Kilobytes for each idle connection, on both hosts: slabs of the kernel, and the engine's pages.
fn memory(lab: &Lab, command: &mut Command, count: u64) -> io::Result<f64> {
    let used = || -> io::Result<f64> { Ok(slabs_kb()? + engine_sum(lab, "VmRSS:")?) };
    let before = used()?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let after = used()?;
    drop(child.stdin.take());
    child.wait()?;
    Ok((after - before) / count as f64)
}

fn slabs_kb() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    Ok(field(&text, "Slab:"))
}

/// A field of /proc/PID/status, of all engines in the client's namespace.
fn engine_sum(lab: &Lab, name: &str) -> io::Result<f64> {
    let mut sum = 0.0;
    for path in processes(lab.client())? {
        if fs::read_to_string(path.join("cmdline")).is_ok_and(|line| line.contains("--engine")) {
            // It may have ended meanwhile.
            sum += fs::read_to_string(path.join("status")).map_or(0.0, |text| field(&text, name));
        }
    }
    Ok(sum)
}

/// The directories in /proc of what runs on a host.
fn processes(host: &Host) -> io::Result<Vec<PathBuf>> {
    let own = host.output("readlink", &["/proc/self/ns/net"])?;
    let inside = |path: &PathBuf| fs::read_link(path.join("ns/net")).is_ok_and(|ns| ns == Path::new(own.trim()));
    let entries = fs::read_dir("/proc")?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(inside).collect())
}

/// CPU seconds of both hosts' processes so far, and of those that this one has waited for: clients.
fn cpu_seconds(lab: &Lab) -> io::Result<f64> {
    let mut paths = processes(lab.client())?;
    paths.extend(processes(lab.server())?);
    let running: f64 = paths.iter().map(|path| cpu_ticks(path, 11)).sum();
    Ok((running + cpu_ticks(Path::new("/proc/self"), 13)) / USER_HZ)
}

/// Two neighbouring fields of /proc/PID/stat, counted from the one behind the name.
fn cpu_ticks(process: &Path, at: usize) -> f64 {
    // It may have ended meanwhile.
    let text = fs::read_to_string(process.join("stat")).unwrap_or_default();
    let fields = text.rsplit(") ").next().unwrap_or_default();
    let ticks = fields.split(' ').skip(at).take(2);
    ticks.filter_map(|word| word.parse::<f64>().ok()).sum()
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0.0)
}

/// Lowest, median and highest.
fn spread(runs: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some((*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?))
}

impl Row {
    fn text(&self) -> String {
        let cell = |runs: &Vec<f64>| match spread(runs) {
            Some((low, median, high)) => {
                let decimals = self.decimals;
                format!("{median:.decimals$} ({low:.decimals$}-{high:.decimals$})")
            }
            None => "-".into(),
        };
        let [own, ip, mptcp, tcp] = self.runs.each_ref().map(cell);
        let ratio = match (self.median(Carrier::Own), self.median(Carrier::KernelMptcp)) {
            (Some(own), Some(kernel)) if kernel != 0.0 => format!("{:.2}", own / kernel),
            _ => "-".into(),
        };
        let name = format!("{}, {}", self.name, self.unit);
        format!("{name:<84} {own:>24} {ip:>24} {mptcp:>24} {tcp:>24} {ratio:>8}")
    }

    fn median(&self, carrier: Carrier) -> Option<f64> {
        spread(&self.runs[carrier as usize]).map(|(_, median, _)| median)
    }

    /// For the picture: what a user sees of two wires.
    fn bars(&self) -> Option<chart::Bars> {
        let shown = ["of the wires", "ms of silence"].contains(&self.unit);
        let of = |carrier| self.median(carrier);
        shown.then(|| chart::Bars {
            title: self.name.clone(),
            unit: self.unit,
            decimals: self.decimals.min(2),
            values: [of(Carrier::Own), of(Carrier::KernelMptcp), of(Carrier::KernelTcp)],
        })
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Settings, lexopt::Error> {
    let (mut library, mut picture, mut repeats, mut seconds) = (None, None, 3, 5.0);
    let mut only = String::new();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        use lexopt::ValueExt;
        match argument {
            Arg::Long("library") => library = Some(PathBuf::from(parser.value()?)),
            Arg::Long("picture") => picture = Some(PathBuf::from(parser.value()?)),
            Arg::Long("repeats") => repeats = parser.value()?.parse()?,
            Arg::Long("only") => only = parser.value()?.string()?,
            Arg::Long("seconds") => seconds = parser.value()?.parse()?,
            other => return Err(other.unexpected()),
        }
    }
    let library = library.ok_or("--library FILE is missing")?;
    let library = library
        .canonicalize()
        .map_err(|e| format!("{}: {e}", library.display()))?;
    Ok(Settings {
        library,
        picture,
        repeats: repeats.max(1),
        seconds,
        only,
    })
}

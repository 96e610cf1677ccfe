//! `lab bench`: the same transfers through this library, the kernel's MPTCP and the kernel's TCP, in the same kind of lab, in turn.
//!
//! Figures, not verdicts: nothing here fails because something is slow. Each figure is the median of some runs, with the lowest and the
//! highest beside it. A table on standard output, and a picture.

use crate::chart;
use crate::lab::{server_address, Host, Lab, LabSpec, Transport, Wire};
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
const IDLE_CONNECTIONS: u64 = 500;

/// What carries the client's connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carrier {
    /// This library, on the link that it chooses.
    Own,
    /// This library in a namespace with a table of nftables in it: the ip link.
    OwnIp,
    KernelMptcp,
    KernelTcp,
}

const CARRIERS: [Carrier; 4] = [Carrier::Own, Carrier::OwnIp, Carrier::KernelMptcp, Carrier::KernelTcp];

/// A row of the table.
struct Row {
    name: String,
    unit: &'static str,
    decimals: usize,
    /// By carrier; empty where it was not measured.
    runs: [Vec<f64>; 4],
}

/// What is measured.
#[derive(Clone)]
struct Case {
    name: &'static str,
    wires: Vec<Wire>,
    what: &'static str,
    number: u64,
    measure: Measure,
    carriers: &'static [Carrier],
}

/// How a [`Load`] becomes a figure.
#[derive(Clone, Copy, PartialEq)]
enum Measure {
    /// Gbit/s, and CPU seconds of client, engine and server per gigabyte.
    Bulk,
    /// Share of the wires' payload rate.
    Share,
    /// The longest silence; the first wire is cut after a third of the time.
    Silence,
    /// Microseconds for each.
    Latency,
    /// So many a second.
    Rate,
    /// Kilobytes of memory for each idle connection.
    Memory,
}

struct Settings {
    library: PathBuf,
    picture: Option<PathBuf>,
    repeats: usize,
    seconds: f64,
    /// Only cases whose name contains this.
    only: String,
}

const ALL: &[Carrier] = &CARRIERS;
const PATHS: &[Carrier] = &[Carrier::Own, Carrier::KernelMptcp, Carrier::KernelTcp];
const BOTH: &[Carrier] = &[Carrier::Own, Carrier::KernelMptcp];

fn cases(settings: &Settings) -> Vec<Case> {
    let ms = (settings.seconds * 1000.0) as u64;
    let bare = || vec![Wire::bare()];
    let case = |name, wires, what, number, measure, carriers| Case {
        name,
        wires,
        what,
        number,
        measure,
        carriers,
    };
    let mut cases = vec![
        case("bare veth, download", bare(), "download", 1500, Measure::Bulk, ALL),
        case("bare veth, upload", bare(), "upload", 1500, Measure::Bulk, ALL),
        case("1-byte ping-pong", bare(), "ping", 3000, Measure::Latency, ALL),
        case(
            "connect, 1 byte each way",
            bare(),
            "connect",
            300,
            Measure::Latency,
            ALL,
        ),
        case(
            "connections, 1 KB each way",
            bare(),
            "exchange",
            1000,
            Measure::Rate,
            ALL,
        ),
        case(
            "idle connection",
            bare(),
            "idle",
            IDLE_CONNECTIONS,
            Measure::Memory,
            BOTH,
        ),
    ];
    let pairs: [(&str, &str, Vec<Wire>); 4] = [
        (
            "2 x (50 Mbit/s 10 ms), we send",
            "2 x (50 Mbit/s 10 ms), kernel sends",
            vec![Wire::new(50.0, 10.0); 2],
        ),
        (
            "20 Mbit/s 5 ms + 20 Mbit/s 150 ms, we send",
            "20 Mbit/s 5 ms + 20 Mbit/s 150 ms, kernel sends",
            vec![Wire::new(20.0, 5.0), Wire::new(20.0, 150.0)],
        ),
        (
            "50 Mbit/s 10 ms 0.5 % loss + 20 Mbit/s 50 ms 1 %, we send",
            "50 Mbit/s 10 ms 0.5 % loss + 20 Mbit/s 50 ms 1 %, kernel sends",
            vec![Wire::new(50.0, 10.0).loss(0.005), Wire::new(20.0, 50.0).loss(0.01)],
        ),
        (
            "30 Mbit/s 40 ms + 5 Mbit/s 10 ms, we send",
            "30 Mbit/s 40 ms + 5 Mbit/s 10 ms, kernel sends",
            vec![Wire::new(30.0, 40.0), Wire::new(5.0, 10.0)],
        ),
    ];
    for (up, down, wires) in pairs {
        cases.push(case(up, wires.clone(), "upload", ms, Measure::Share, PATHS));
        cases.push(case(down, wires, "download", ms, Measure::Share, PATHS));
    }
    let two = || vec![Wire::new(50.0, 10.0); 2];
    cases.push(case(
        "a wire is cut, we send",
        two(),
        "upload",
        3000,
        Measure::Silence,
        BOTH,
    ));
    cases.push(case(
        "a wire is cut, kernel sends",
        two(),
        "download",
        3000,
        Measure::Silence,
        BOTH,
    ));
    cases
}

/// Measures, prints the table, and draws the picture.
pub fn run(arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let settings = parse(arguments).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
    println!(
        "Median of {} runs (lowest to highest). Kernels use CUBIC, we BBR; both ends and the wires share {} cores.\n\
         \"we send\" are uploads of the client; the server is always the kernel's MPTCP (TCP for kernel TCP).\n\n\
         {:<64} {:>24} {:>24} {:>24} {:>24} {:>8}",
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
    for case in cases(&settings)
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
        Measure::Silence => ("ms of silence", 0),
        Measure::Latency => ("us", 1),
        Measure::Rate => ("a second", 0),
        Measure::Memory => ("KB", 1),
    };
    let mut main = row(case.name.into(), unit, decimals);
    let mut cpu = row(format!("{}, CPU of both ends", case.name), "s/GB", 2);
    for repeat in 0..settings.repeats {
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
    let lab = Lab::new(LabSpec::new(case.wires.clone()))?;
    let transport = match carrier {
        Carrier::KernelTcp => Transport::Tcp,
        _ => Transport::Mptcp,
    };
    let server = lab.server().peer("load-server", transport, &[])?;
    let address = server.at(server_address(0, false));
    let load = |what: &str, number: u64| -> io::Result<Command> {
        let mut command = client(settings, &lab, carrier)?;
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
    if case.measure == Measure::Memory {
        return Ok((memory(&lab, &mut load(case.what, case.number)?, case.number)?, 0.0));
    }
    let before = cpu_seconds(&lab)?;
    let result = thread::scope(|scope| {
        let cutter = (case.measure == Measure::Silence).then(|| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(case.number / 3));
                lab.wire(0).cut()
            })
        });
        let result = finish(&mut load(case.what, case.number)?);
        match cutter.map(thread::ScopedJoinHandle::join) {
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
        Measure::Silence => result.longest_silence_ms,
        Measure::Latency => 1e6 / rate,
        Measure::Rate | Measure::Memory => rate,
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

/// Kilobytes for each idle connection, on both hosts: slabs of the kernel, and the engine's pages.
fn memory(lab: &Lab, command: &mut Command, count: u64) -> io::Result<f64> {
    let used = || -> io::Result<f64> { Ok(slabs_kb()? + engine_kb(lab)?) };
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

/// Resident memory of the engines in the client's namespace.
fn engine_kb(lab: &Lab) -> io::Result<f64> {
    let mut sum = 0.0;
    for path in processes(lab.client())? {
        if fs::read_to_string(path.join("cmdline")).is_ok_and(|line| line.contains("--engine")) {
            // It may have ended meanwhile.
            sum += fs::read_to_string(path.join("status")).map_or(0.0, |text| field(&text, "VmRSS:"));
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
        format!("{name:<64} {own:>24} {ip:>24} {mptcp:>24} {tcp:>24} {ratio:>8}")
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

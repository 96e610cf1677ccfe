//! `lab demo`: two wires, a web server on the kernel's MPTCP, and an unmodified curl. Says what it does, and fails when anything is not as it says.

use crate::lab::{clock, interface, Wire};
use crate::transfer::{delivered, transfer, url, Carrier, Outcome, Plan, Running};
use lexopt::Arg;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

const WIRE_MBIT: f64 = 50.0;
const WIRE_DELAY_MS: f64 = 10.0;
const BYTES: u64 = 60_000_000;
/// The first wire is cut when so much has arrived.
const CUT_AT_BYTES: u64 = 25_000_000;
/// The status is asked for when so much has arrived.
const STATUS_AT_BYTES: u64 = 20_000_000;
const LOOK: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);
const BAR_LEN: u64 = 24;

struct Options {
    library: PathBuf,
    command: PathBuf,
}

/// Runs the whole demo, about a minute.
pub fn run(arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let options = parse(arguments).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
    let ours = || Carrier::Preload(options.library.clone());
    introduce()?;

    println!(
        "\n1. One wire, curl on the kernel's TCP, 20 MB\n   $ curl {}",
        url(20_000_000)
    );
    let single = download(Carrier::Tcp, 1, 20_000_000, |_| Ok(()))?;
    println!("   {:.1} Mbit/s", single.mbit());

    println!(
        "\n2. Both wires, the same curl with libmptcp, 60 MB\n   $ LD_PRELOAD=libmptcp.so curl {}",
        url(BYTES)
    );
    let double = download(ours(), 2, BYTES, |running| watch(running, Some(&options), false))?;
    judge(&double)?;
    println!(
        "   {:.1} Mbit/s, {:.1} times one wire",
        double.mbit(),
        double.mbit() / single.mbit()
    );
    if double.mbit() <= single.mbit() {
        return Err(io::Error::other("two wires were no faster than one"));
    }

    println!("\n3. The same, and the first wire is cut for good in the middle");
    let cut = download(ours(), 2, BYTES, |running| watch(running, None, true))?;
    judge(&cut)?;
    println!(
        "   {:.1} Mbit/s, longest silence {:.0} ms",
        cut.mbit(),
        cut.report.longest_silence_ms
    );

    println!(
        "\n4. For comparison: the kernel's own MPTCP (mptcpize run curl, addresses configured by ip mptcp endpoint)"
    );
    let kernel = download(Carrier::KernelMptcp, 2, BYTES, |_| Ok(()))?;
    println!(
        "   both wires      {:5.1} Mbit/s   (libmptcp {:.1})",
        kernel.mbit(),
        double.mbit()
    );
    let kernel_cut = download(Carrier::KernelMptcp, 2, BYTES, |running| {
        cut_in_the_middle(running).map(drop)
    })?;
    println!(
        "   first wire cut  {:5.1} Mbit/s   (libmptcp {:.1}), longest silence {:.0} ms (libmptcp {:.0})",
        kernel_cut.mbit(),
        cut.mbit(),
        kernel_cut.report.longest_silence_ms,
        cut.report.longest_silence_ms
    );
    println!(
        "\nAll of it was as it should be. On your own machine: {} check",
        options.command.display()
    );
    Ok(())
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, lexopt::Error> {
    let (mut library, mut command) = (None, None);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("library") => library = Some(PathBuf::from(parser.value()?)),
            Arg::Long("command") => command = Some(PathBuf::from(parser.value()?)),
            other => return Err(other.unexpected()),
        }
    }
    let file = |path: Option<PathBuf>, option: &str| {
        let path = path.ok_or(format!("{option} FILE is missing"))?;
        path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))
    };
    Ok(Options {
        library: file(library, "--library")?,
        command: file(command, "--command")?,
    })
}

fn introduce() -> io::Result<()> {
    let curl = Command::new("curl").arg("--version").output()?;
    let curl = String::from_utf8_lossy(&curl.stdout);
    let curl: Vec<&str> = curl.split_whitespace().take(2).collect();
    let congestion = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
    println!(
        "Two hosts (network namespaces of this machine) joined by two wires, {WIRE_MBIT} Mbit/s and {WIRE_DELAY_MS} ms one way each.\n\
         On one a web server over the Linux kernel's MPTCP (congestion control {}); on the other\n\
         this system's {}, which knows nothing of MPTCP. What it fetches is compared byte by byte (SHA-256).",
        congestion.trim(),
        curl.join(" ")
    );
    Ok(())
}

fn download(
    carrier: Carrier,
    wires: usize,
    bytes: u64,
    watch: impl FnOnce(&Running<'_>) -> io::Result<()> + Send,
) -> io::Result<Outcome> {
    let wires = vec![Wire::new(WIRE_MBIT, WIRE_DELAY_MS); wires];
    transfer(&Plan { carrier, wires, bytes }, watch)
}

/// A line a second; on the way the status, or the cut.
fn watch(running: &Running<'_>, status: Option<&Options>, cut: bool) -> io::Result<()> {
    let (mut status, mut cut) = (status, cut);
    let mut before = [0; 2];
    let start = clock::now();
    for tick in 1.. {
        while clock::now() < start + tick * SECOND {
            if running.is_over() {
                return Ok(());
            }
            if cut && running.received() >= CUT_AT_BYTES {
                cut = false;
                running.lab.wire(0).cut()?;
                println!("        {} is cut", interface(0));
            }
            if let Some(options) = status.filter(|_| running.received() >= STATUS_AT_BYTES) {
                status = None;
                show_status(running, options)?;
            }
            thread::sleep(LOOK);
        }
        let now = [delivered(running.lab, 0)?, delivered(running.lab, 1)?];
        let mbit = [0, 1].map(|wire| (now[wire] - before[wire]) as f64 * 8e-6);
        before = now;
        let received = running.received();
        let full = (received * BAR_LEN / BYTES).min(BAR_LEN) as usize;
        let bar = "#".repeat(full) + &".".repeat(BAR_LEN as usize - full);
        println!(
            "   {tick:2} s {bar} {:4.1} MB   {} {:4.1} Mbit/s   {} {:4.1} Mbit/s",
            received as f64 / 1e6,
            interface(0),
            mbit[0],
            interface(1),
            mbit[1]
        );
    }
    Ok(())
}

fn show_status(running: &Running<'_>, options: &Options) -> io::Result<()> {
    println!("   $ mptcp status");
    let text = running.lab.client().output(&options.command, &["status"])?;
    for line in text.lines() {
        println!("     {line}");
    }
    match text.contains("curl") {
        true => Ok(()),
        false => Err(io::Error::other("the status does not show curl's connection")),
    }
}

fn cut_in_the_middle(running: &Running<'_>) -> io::Result<bool> {
    while running.received() < CUT_AT_BYTES {
        if running.is_over() {
            return Ok(false);
        }
        thread::sleep(LOOK);
    }
    running.lab.wire(0).cut().map(|()| true)
}

/// Both wires carried it, and the server's kernel saw MPTCP while the client's saw none.
fn judge(outcome: &Outcome) -> io::Result<()> {
    let [first, second] = outcome.wire_bytes[..] else {
        return Err(io::Error::other("not two wires"));
    };
    let capable = counter(&outcome.server, "MPTcpExtMPCapableACKRX");
    let join = counter(&outcome.server, "MPTcpExtMPJoinAckRx");
    let fallback = sum(&outcome.server, |name| {
        name.contains("Fallback") || name.contains("InfiniteMap")
    });
    let in_client = sum(&outcome.client, |_| true);
    println!(
        "   {:.1} MB in {:.1} s: {:.1} MB by {} and {:.1} MB by {} (headers included), SHA-256 {}… is right",
        outcome.report.bytes as f64 / 1e6,
        outcome.report.seconds,
        first as f64 / 1e6,
        interface(0),
        second as f64 / 1e6,
        interface(1),
        &outcome.report.sha256[..12]
    );
    println!(
        "   nstat of the server: MPCapableACKRX {capable}, MPJoinAckRx {join}, fallbacks {fallback}; of the client: all of MPTCP {in_client}"
    );
    let enough = outcome.report.bytes / 10;
    let sound = [
        (first > enough && second > enough, "one wire carried next to nothing"),
        (
            capable == 1 && join >= 1,
            "the server's kernel did not see MPTCP over both wires",
        ),
        (fallback == 0, "the server fell back to plain TCP"),
        (in_client == 0, "the client's kernel took part in MPTCP"),
    ];
    match sound.iter().find(|(holds, _)| !holds) {
        Some((_, complaint)) => Err(io::Error::other(*complaint)),
        None => Ok(()),
    }
}

fn counter(counters: &BTreeMap<String, u64>, name: &str) -> u64 {
    counters.get(name).copied().unwrap_or(0)
}

/// The sum of the MPTCP counters that are chosen.
fn sum(counters: &BTreeMap<String, u64>, chosen: impl Fn(&str) -> bool) -> u64 {
    let mptcp = counters.iter().filter(|(name, _)| name.starts_with("MPTcpExt"));
    mptcp.filter(|(name, _)| chosen(name)).map(|(_, count)| count).sum()
}

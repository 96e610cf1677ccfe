//! `lab run`: a lab around one program, for hands and shell scripts. The program runs on the client host.

use crate::lab::host::Transport;
use crate::lab::{far_address, server_address, Lab, LabSpec, Middlebox, Wire};
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

const HELP: &str = "usage: lab run [OPTIONS] -- PROGRAM [ARGUMENTS…]
  --wire MBIT,MS       a wire with that rate and one-way delay; repeat for more (default: two of 50,10)
  --http tcp|mptcp     an HTTP server on the server host, port 80
  --box WIRE@JSON      a middlebox, as in \"StripSyn\" or {\"Split\":{\"max_payload\":500}}; repeat for more
  --kernel-paths       the client's kernel MPTCP uses all wires
  --cut WIRE@MS        cuts a wire that long after the start
  --mend WIRE@MS       mends it
  --pcap WIRE@FILE     what the client sees of a wire
  --stats              the wires' counters on standard error at the end
PROGRAM runs on the client host with LAB_SERVER and LAB_FAR_SERVER (addresses) in its environment.";

/// A change of a wire while the program runs.
#[derive(Clone, Copy)]
struct Change {
    wire: usize,
    at: Duration,
    cut: bool,
}

struct Options {
    wires: Vec<Wire>,
    http: Option<Transport>,
    kernel_paths: bool,
    stats: bool,
    captures: Vec<(usize, PathBuf)>,
    boxes: Vec<(usize, Middlebox)>,
    changes: Vec<Change>,
    program: Vec<OsString>,
}

/// Ends with an error when the program does not succeed.
pub fn run(arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let arguments: Vec<String> = arguments.collect();
    if arguments
        .iter()
        .take_while(|word| *word != "--")
        .any(|word| word == "--help")
    {
        println!("{HELP}");
        return Ok(());
    }
    let options = parse(arguments.into_iter())
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("{e}\n{HELP}")))?;
    let [program, arguments @ ..] = options.program.as_slice() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, HELP));
    };
    let count = options.wires.len();
    let lab = Lab::new(LabSpec::new(options.wires.clone()))?;
    if options.kernel_paths {
        lab.kernel_paths()?;
    }
    for (wire, path) in &options.captures {
        lab.wire(*wire).capture(Some(path))?;
    }
    for wire in 0..count {
        let here = options.boxes.iter().filter(|(at, _)| *at == wire);
        let boxes: Vec<Middlebox> = here.map(|(_, kind)| *kind).collect();
        if !boxes.is_empty() {
            lab.wire(wire).middleboxes(boxes)?;
        }
    }
    let server = options
        .http
        .map(|transport| lab.server().http_server(transport, &["--port", "80"]));
    let _server = server.transpose()?;
    let mut command = lab.client().command(program);
    command.args(arguments);
    command.env("LAB_SERVER", server_address(0, false).to_string());
    command.env("LAB_FAR_SERVER", far_address(false).to_string());
    let mut child = command.spawn()?;
    let status = thread::scope(|scope| {
        for change in options.changes {
            let lab = &lab;
            scope.spawn(move || {
                thread::sleep(change.at);
                let wire = lab.wire(change.wire);
                let done = if change.cut { wire.cut() } else { wire.mend() };
                done.unwrap_or_else(|e| eprintln!("lab: wire {}: {e}", change.wire));
            });
        }
        child.wait()
    })?;
    for wire in (0..count).filter(|_| options.stats) {
        eprintln!("wire {wire}: {}", serde_json::to_string(&lab.wire(wire).stats()?)?);
    }
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{program:?} ended: {status}")))
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, lexopt::Error> {
    let mut options = Options {
        wires: Vec::new(),
        http: None,
        kernel_paths: false,
        stats: false,
        captures: Vec::new(),
        boxes: Vec::new(),
        changes: Vec::new(),
        program: Vec::new(),
    };
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("wire") => {
                let (rate, delay) = pair(&parser.value()?.string()?, ',')?;
                options.wires.push(Wire::new(rate, delay));
            }
            Arg::Long("http") => {
                let tcp = parser.value()?.string()? == Transport::Tcp.name();
                options.http = Some(if tcp { Transport::Tcp } else { Transport::Mptcp });
            }
            Arg::Long("box") => {
                let value = parser.value()?.string()?;
                let (wire, kind) = value.split_once('@').ok_or("a box without a wire")?;
                options
                    .boxes
                    .push((wire.parse().map_err(|_| "a wire is a number")?, parse_box(kind)?));
            }
            Arg::Long("pcap") => {
                let value = parser.value()?.string()?;
                let (wire, path) = value.split_once('@').ok_or("a capture without a wire")?;
                options
                    .captures
                    .push((wire.parse().map_err(|_| "a wire is a number")?, path.into()));
            }
            Arg::Long("stats") => options.stats = true,
            Arg::Long("kernel-paths") => options.kernel_paths = true,
            Arg::Long(name @ ("cut" | "mend")) => {
                let cut = name == "cut";
                let (wire, ms) = pair(&parser.value()?.string()?, '@')?;
                let at = Duration::from_millis(ms as u64);
                options.changes.push(Change {
                    wire: wire as usize,
                    at,
                    cut,
                });
            }
            Arg::Value(program) => {
                options.program.push(program);
                options.program.extend(parser.raw_args()?);
            }
            other => return Err(other.unexpected()),
        }
    }
    if options.wires.is_empty() {
        options.wires = vec![Wire::new(50.0, 10.0); 2];
    }
    Ok(options)
}

fn parse_box(json: &str) -> Result<Middlebox, lexopt::Error> {
    serde_json::from_str(json).map_err(|e| format!("{json} is no middlebox: {e}").into())
}

/// Two numbers that are not negative with a mark between.
fn pair(text: &str, mark: char) -> Result<(f64, f64), lexopt::Error> {
    let numbers = text
        .split_once(mark)
        .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let sound = numbers.filter(|(a, b): &(f64, f64)| (0.0..1e6).contains(a) && (0.0..1e6).contains(b));
    sound.ok_or_else(|| format!("{text} is not two numbers with {mark} between").into())
}

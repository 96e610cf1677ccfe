//! Each hook against the kernel: the scenarios of `c-tests/` run on kernel TCP and under the library, and what
//! they print (every return value, errno and poll or epoll event) must be the same.
//!
//! Kernel runs are compared with each other first: a scenario that is not deterministic there proves nothing.
//!
//! - `cargo test --test descriptors -- --nocapture` runs all and prints the table.
//! - `SCENARIOS=epoll_edge,dup cargo test --test descriptors -- --nocapture` runs those whose names contain a word.
//! - `MPTCP_LIB=path/libmptcp.so` names the library; otherwise it is built here.
//!
//! Needs root: the programs run in network namespaces that the test makes. It deliberately emulates no network
//! (`tests/lab` does): two hosts, two bare wires, nothing that makes a result depend on time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;

#[path = "descriptors/build.rs"]
mod build;
#[path = "descriptors/hosts.rs"]
mod hosts;

use hosts::{Hosts, PeerKind};

/// Scenarios mostly wait (for a retransmitted SYN, a timeout), so more of them than processors run at once.
const SCENARIOS_AT_ONCE: usize = 8;
/// Scenarios named so show what the very first connection does: under the library each gets hosts of its own,
/// where no engine runs yet.
const FIRST_CONNECTION_PREFIX: &str = "first_connect";

/// Words in the names of scenarios that are not run against the program's own host: those that wait for other hosts, and prove nothing about
/// this one; one in which the kernel's TCP never comes to an end there (a window of 2 KB, segments of 64 KB).
const NOT_ON_ONE_HOST: &[&str] = &[
    "no_neighbour",
    "black_hole",
    "connect_timeout",
    "nowhere",
    "receive_buffer_grows_and_shrinks",
];

/// What one scenario printed in each run, by its name.
type Outputs = BTreeMap<String, PathBuf>;

/// One way to run the scenarios.
#[derive(Clone, Copy)]
struct Run {
    name: &'static str,
    peer: PeerKind,
    under_library: bool,
}

const KERNEL: Run = Run {
    name: "kernel TCP to TCP",
    peer: PeerKind::Tcp,
    under_library: false,
};
const KERNEL_AGAIN: Run = Run {
    name: "the same again",
    peer: PeerKind::Tcp,
    under_library: false,
};
const KERNEL_TO_MPTCP: Run = Run {
    name: "kernel TCP to MPTCP",
    peer: PeerKind::Mptcp,
    under_library: false,
};
const KERNEL_TO_ITSELF: Run = Run {
    name: "kernel TCP to its own host",
    peer: PeerKind::Own,
    under_library: false,
};
const LIBRARY_TO_ITSELF: Run = Run {
    name: "library to its own host",
    peer: PeerKind::Own,
    under_library: true,
};
const LIBRARY_TO_TCP: Run = Run {
    name: "library to TCP",
    peer: PeerKind::Tcp,
    under_library: true,
};
const LIBRARY_TO_MPTCP: Run = Run {
    name: "library to MPTCP",
    peer: PeerKind::Mptcp,
    under_library: true,
};

/// How the reason begins for a scenario that is different in some runs only.
const RACY: &str = "at times: ";

#[test]
fn kernel_runs_agree() {
    let runs = [KERNEL_AGAIN, KERNEL_TO_MPTCP].map(|run| (run, run_all(run)));
    assert_same(KERNEL, reference(), &runs, &BTreeMap::new());
}

#[test]
fn library_behaves_as_kernel_tcp() {
    assert_library_carries();
    let runs = [LIBRARY_TO_TCP, LIBRARY_TO_MPTCP].map(|run| (run, run_all(run)));
    assert_same(
        KERNEL,
        reference(),
        &runs,
        &accepted_differences("accepted-differences.txt"),
    );
}

/// The peer is a program under the library too, on the same host, and `MPTCP_LOOPBACK=1`: whatever is different there is the listener's.
#[test]
fn library_behaves_as_kernel_tcp_at_both_ends() {
    let accepted = accepted_differences("accepted-differences-own-host.txt");
    let (mut kernel, mut library) = (run_all(KERNEL_TO_ITSELF), run_all(LIBRARY_TO_ITSELF));
    // Both ends and the engine share the host's processors with all the others: what differs is asked once more, alone.
    let differ = |scenario: &String| difference(&kernel[scenario], &library[scenario]).is_some();
    let again: Vec<String> = kernel.keys().filter(|name| differ(name)).cloned().collect();
    for scenario in again.into_iter().filter(|name| !accepted.contains_key(name)) {
        println!("{scenario} differs among others, and is run alone");
        run_alone(KERNEL_TO_ITSELF, &scenario, &mut kernel);
        run_alone(LIBRARY_TO_ITSELF, &scenario, &mut library);
    }
    let runs = [(LIBRARY_TO_ITSELF, library)];
    assert_same(KERNEL_TO_ITSELF, &kernel, &runs, &accepted);
}

/// The comparison shows something only if the library does carry connections, and does not pass them all through.
fn assert_library_carries() {
    for (under_library, expected) in [(false, "kernel TCP\n"), (true, "local socket\n")] {
        let output = build::scratch().join("carrier");
        Hosts::new(PeerKind::Tcp, under_library).run("carrier", &output);
        let carrier = std::fs::read_to_string(&output).expect("the output was just written");
        assert_eq!(
            carrier, expected,
            "what carries a connection, under the library: {under_library}"
        );
    }
}

/// The run that all others are compared with, made once.
fn reference() -> &'static Outputs {
    static REFERENCE: OnceLock<Outputs> = OnceLock::new();
    REFERENCE.get_or_init(|| run_all(KERNEL))
}

/// Prints a row for each scenario and the differences, and fails if there is one that is not accepted.
fn assert_same(kernel: Run, reference: &Outputs, runs: &[(Run, Outputs)], accepted: &BTreeMap<String, String>) {
    let mut table = String::new();
    let mut differences = String::new();
    let mut failed = Vec::new();
    for (scenario, expected) in reference {
        let mut differs = ended_badly(expected);
        let _ = write!(table, "{scenario:<55}");
        if differs {
            let text = std::fs::read_to_string(expected).unwrap_or_default();
            let _ = writeln!(
                differences,
                "\n== {scenario}, {}: did not reach its end\n{text}",
                kernel.name
            );
        }
        for (run, outputs) in runs {
            let difference = difference(expected, &outputs[scenario]);
            let verdict = match (&difference, accepted.contains_key(scenario)) {
                (None, _) => "same",
                (Some(_), true) => "accepted",
                (Some(_), false) => "DIFFERS",
            };
            let _ = write!(table, "  {}: {verdict:<8}", run.name);
            if let Some(text) = difference {
                differs = true;
                let _ = writeln!(differences, "\n== {scenario}, {}\n{text}", run.name);
            }
        }
        table.push('\n');
        let racy = accepted.get(scenario).is_some_and(|reason| reason.starts_with(RACY));
        if differs != accepted.contains_key(scenario) && !racy {
            failed.push(scenario.as_str());
        }
    }
    println!("{table}\n{differences}");
    for (scenario, reason) in accepted {
        println!("accepted: {scenario}: {reason}");
    }
    println!("{} scenarios, {} failed", reference.len(), failed.len());
    assert!(
        failed.is_empty(),
        "differ, or are accepted and do not differ: {}",
        failed.join(" ")
    );
}

/// Whether the scenario was killed or gave up, which proves nothing even if every run agrees about it.
fn ended_badly(output: &Path) -> bool {
    !std::fs::read_to_string(output)
        .unwrap_or_default()
        .lines()
        .any(|line| line == "end")
}

/// The unified difference of two outputs, if any.
fn difference(expected: &Path, got: &Path) -> Option<String> {
    let mut diff = Command::new("diff");
    diff.args(["-U", "3", "--label", "kernel", "--label", "here"])
        .arg(expected)
        .arg(got);
    let output = diff.output().expect("diff is installed");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `SCENARIO: reason` for each line that is no comment.
fn accepted_differences(file: &str) -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("c-tests").join(file);
    let text = std::fs::read_to_string(&path).expect("the list of accepted differences is there");
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            line.split_once(": ")
                .unwrap_or_else(|| panic!("no reason in {line:?} of {}", path.display()))
        })
        .map(|(scenario, reason)| (scenario.to_owned(), reason.to_owned()))
        .filter(|(scenario, _)| chosen(scenario))
        .collect()
}

/// Whether `SCENARIOS` (words, any of which a name may contain) chooses this one.
fn chosen(scenario: &str) -> bool {
    match std::env::var("SCENARIOS") {
        Ok(words) => words.split(',').any(|word| scenario.contains(word)),
        Err(_) => true,
    }
}

fn scenarios() -> Vec<String> {
    let output = Command::new(build::descriptors())
        .arg("list")
        .output()
        .expect("descriptors runs");
    let list = String::from_utf8(output.stdout).expect("names are ASCII");
    let chosen: Vec<String> = list.lines().filter(|name| chosen(name)).map(str::to_owned).collect();
    assert!(!chosen.is_empty(), "SCENARIOS chooses none of\n{list}");
    chosen
}

/// Runs one scenario in one way, on hosts of its own.
fn run_alone(run: Run, scenario: &str, outputs: &mut Outputs) {
    let output = build::scratch().join(run.name.replace(' ', "-")).join(scenario);
    Hosts::new(run.peer, run.under_library).run(scenario, &output);
    outputs.insert(scenario.to_owned(), output);
}

/// Runs all chosen scenarios in one way, several at once; gives the files with what they printed.
fn run_all(run: Run) -> Outputs {
    let directory = build::scratch().join(run.name.replace(' ', "-"));
    std::fs::create_dir_all(&directory).expect("a directory for the outputs");
    let elsewhere = |name: &str| run.peer == PeerKind::Own && NOT_ON_ONE_HOST.iter().any(|word| name.contains(word));
    let (first, others): (Vec<_>, Vec<_>) = scenarios()
        .into_iter()
        .filter(|name| !elsewhere(name))
        .partition(|name| run.under_library && name.starts_with(FIRST_CONNECTION_PREFIX));
    let mut outputs = Outputs::new();
    for scenario in first {
        run_alone(run, &scenario, &mut outputs);
    }
    let hosts = Hosts::new(run.peer, run.under_library);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(&mut outputs);
    thread::scope(|scope| {
        for _ in 0..SCENARIOS_AT_ONCE {
            scope.spawn(|| {
                while let Some(scenario) = others.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let output = directory.join(scenario);
                    hosts.run(scenario, &output);
                    done.lock()
                        .expect("no worker panics while it holds the lock")
                        .insert(scenario.clone(), output);
                }
            });
        }
    });
    outputs
}

//! Replays the corpora of the fuzzers (`fuzz/`): each input, each of its beginnings, and each with one byte changed.

#[path = "../fuzz/harness.rs"]
mod harness;

use std::fs;
use std::path::Path;

/// Inputs longer than this are only run as they are.
const VARIED_MAX: usize = 200;

fn replay(name: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let target = harness::target(name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() > 5, "the corpus of {name} is there");
    for file in files {
        let input = fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        target(&input);
        if input.len() > VARIED_MAX {
            continue;
        }
        for at in 0..input.len() {
            target(&input[..at]);
            let mut changed = input.clone();
            changed[at] = changed[at].wrapping_add(0x55);
            target(&changed);
        }
    }
}

#[test]
fn option_lists() {
    replay("options");
}

#[test]
fn segments_into_an_established_connection() {
    replay("segments");
}

#[test]
fn control_messages() {
    replay("control");
}

#[test]
fn settings() {
    replay("config");
}

#[test]
fn socket_options_of_mptcp_h() {
    replay("wishes");
}

#[test]
fn pictures_and_linux_options() {
    replay("pictures");
}

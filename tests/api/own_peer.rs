//! The programs of `c-tests/api/` with our own library at the other end.

use crate::capture::WireCapture;
use crate::lab::client_address;
use crate::Place;

/// REMOVE_ADDR (RFC 8684 section 8).
const REMOVE_ADDR: u8 = 4;

/// Runs a program, and counts the segments with REMOVE_ADDR that its host has sent by either wire.
fn removals(name: &str) -> usize {
    let place = Place::own_peer();
    let captures = [0, 1].map(|wire| WireCapture::start(place.site.lab(), wire));
    place.check(name, &[], &[]);
    let own = [0, 1].map(|wire| client_address(wire, false));
    let segments = captures.map(WireCapture::finish).concat();
    let told = segments
        .iter()
        .filter(|s| own.contains(&s.from.ip()) && s.mptcp.contains(&REMOVE_ADDR));
    told.count()
}

// Proves REQ2, REQ5.
#[test]
fn bind() {
    assert!(removals("bind") >= 2);
}

#[test]
fn add_and_remove() {
    assert!(removals("add_remove") >= 1);
}

#[test]
fn lists_that_are_wrong() {
    assert_eq!(removals("wrong_lists"), 0);
}

#[test]
fn single_subflows() {
    Place::own_peer().check("steer", &[], &[]);
}

#[test]
fn fallback_in_mid_connection() {
    crate::assert_options_after_fallback(&Place::own_peer());
}

#[test]
fn what_is_told() {
    let place = Place::own_peer();
    for name in ["subflows", "connid", "names", "events"] {
        place.check(name, &[], &[]);
    }
    place.python("socket_only.py", &[], &[]);
}

#[test]
fn what_is_wished() {
    let place = Place::own_peer();
    for name in ["enable", "intent", "algorithms", "join"] {
        place.check(name, &[], &[]);
    }
}

#[test]
fn a_barrage_of_wrong_calls() {
    Place::own_peer().check("barrage", &[], &[]);
}

#[test]
fn what_waits_to_be_read() {
    Place::own_peer().check("inq", &[], &[]);
}

#[test]
fn linux_options_say_what_the_kernels_mptcp_says() {
    crate::assert_linux_options_agree(&Place::own_peer());
}

#[test]
fn what_is_counted() {
    let place = Place::own_peer();
    for way in ["down", "up"] {
        place.check("info", &[], &[way]);
    }
}

#[test]
fn rows_of_legacy_programs() {
    let place = Place::own_peer();
    for row in [
        "l1", "l2", "l4", "l5", "l6", "l7", "l8", "l10", "l11", "l16", "l18", "l19", "l21",
    ] {
        place.check("rows", &[], &[row]);
    }
}

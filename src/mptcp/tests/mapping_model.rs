//! A subflow's table of mappings against one that has an entry for every byte; and its boundaries.

use crate::mptcp::endpoint::{FourTuple, SubflowId};
use crate::mptcp::subflow::{State, Subflow};
use crate::time::Instant;
use crate::wire::mptcp_option::WireDsn;
use crate::wire::{Dsn, DssMap, SeqNum};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// As many as one subflow keeps.
const MAPS_MAX: usize = 64;

/// A subflow whose next expected byte has subflow sequence number `nxt` (the first byte has 1).
fn subflow(nxt: u32) -> Subflow {
    let tuple = FourTuple {
        local: "192.0.2.1:1000".parse().unwrap(),
        remote: "198.51.100.1:80".parse().unwrap(),
    };
    let mut sf = Subflow::new(
        Instant::ZERO,
        SubflowId(0),
        tuple,
        1,
        1500,
        SeqNum(7),
        State::Established,
    );
    sf.irs = SeqNum(u32::MAX - 5);
    sf.rx = crate::tcp::Receiver::new(Instant::ZERO, sf.irs + nxt);
    sf
}

fn add(sf: &mut Subflow, ssn: u32, len: u16, dsn: u64) -> bool {
    let map = DssMap {
        dsn: WireDsn::Long(Dsn(dsn)),
        ssn,
        len,
        checksum: None,
    };
    sf.add_map(&map, Dsn(dsn), false, None)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Positions count from a first byte whose number is near the wrap.
    #[test]
    fn a_byte_has_one_mapping_for_good(
        base in prop_oneof![Just(u32::MAX - 100), any::<u32>()],
        maps in vec((0u32..400, 1u16..60, prop_oneof![4 => Just(0u64), 1 => 0u64..3], any::<u8>()), 1..80))
    {
        let expected = 50;
        let mut sf = subflow(base.wrapping_add(expected));
        // Of each byte: where its mapping begins, that one's length, the byte's data sequence number.
        let mut bytes: BTreeMap<u32, (u32, u16, u64)> = BTreeMap::new();
        let mut kept = Vec::new();
        for (at, len, shift, again) in maps {
            // Every fourth repeats one that is known.
            let known = kept.get(usize::from(again) / 4).copied().filter(|_| again % 4 == 0);
            let (at, len, first) = known.unwrap_or((at, len, 1000 + u64::from(at) + shift));
            let end = at + u32::from(len);
            let right = if end <= expected {
                true // Nobody needs it any more.
            } else {
                let same = (at..end).all(|b| bytes.get(&b) == Some(&(at, len, first + u64::from(b - at))));
                let free = (at..end).all(|b| !bytes.contains_key(&b)) && kept.len() < MAPS_MAX;
                if free {
                    kept.push((at, len, first));
                    bytes.extend((at..end).map(|b| (b, (at, len, first + u64::from(b - at)))));
                }
                same || free
            };
            prop_assert_eq!(add(&mut sf, base.wrapping_add(at), len, first), right, "{} +{}", at, len);
        }
        kept.sort();
        let table: Vec<_> = sf.maps.iter().map(|m| (m.ssn.wrapping_sub(base), m.len as u16, m.dsn.0)).collect();
        prop_assert_eq!(table, kept, "in the order of the subflow");
    }
}

// Proves D6.
#[test]
fn a_mapping_may_touch_its_neighbours_and_not_overlap_them() {
    let mut sf = subflow(1);
    assert!(add(&mut sf, 100, 50, 1100));
    assert!(add(&mut sf, 150, 50, 1150), "begins where the first ends");
    assert!(add(&mut sf, 50, 50, 1050), "ends where the first begins");
    assert!(!add(&mut sf, 199, 10, 1199), "one byte into the second");
    assert!(!add(&mut sf, 40, 11, 1040), "one byte into the third");
    assert!(add(&mut sf, 100, 50, 1100), "the same again");
    assert!(!add(&mut sf, 100, 50, 1101), "one byte elsewhere");
    assert!(!add(&mut sf, 100, 49, 1100), "one byte shorter");
}

#[test]
fn what_was_received_needs_no_mapping() {
    let mut sf = subflow(101);
    assert!(
        add(&mut sf, 51, 50, 0) && sf.maps.is_empty(),
        "ends with the last byte received"
    );
    assert!(add(&mut sf, 52, 50, 1) && sf.maps.len() == 1, "ends with the next one");
}

#[test]
fn so_many_mappings_and_no_more() {
    let mut sf = subflow(1);
    for n in 0..MAPS_MAX as u32 {
        assert!(add(&mut sf, 1 + n, 1, u64::from(n)));
    }
    assert!(!add(&mut sf, 1 + MAPS_MAX as u32, 1, MAPS_MAX as u64));
    assert!(add(&mut sf, 1, 1, 0), "a known one needs no room");
}

//! The Internet checksum against RFC 1071's example, the definition, and smoltcp.

use super::super::*;
use core::net::IpAddr;
use proptest::collection::vec;
use proptest::prelude::*;

/// RFC 1071 section 1, word by word.
fn by_definition(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn sum_of(pieces: &[&[u8]]) -> u16 {
    let mut sum = Checksum::new();
    for piece in pieces {
        sum.add(piece);
    }
    sum.folded()
}

#[test]
fn the_example_of_rfc_1071_section_3() {
    let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(sum_of(&[&example]), 0xddf2);
    // The same bytes in pieces of odd length, also empty ones.
    assert_eq!(sum_of(&[&example[..1], &[], &example[1..4], &example[4..]]), 0xddf2);
}

#[test]
fn all_ones_do_not_overflow() {
    assert_eq!(sum_of(&[&vec![0xff; 70_001]]), by_definition(&vec![0xff; 70_001]));
    assert_eq!(sum_of(&[]), 0);
}

#[test]
fn a_pseudo_header_of_each_family() {
    let v4 = |last| IpAddr::from([192, 0, 2, last]);
    // c000 + 0201 + c000 + 0202 + 0006 + 0014
    assert_eq!(pseudo_header_sum(v4(1), v4(2), 20), 0x841e);
    // A length above 16 bits, as IPv6 allows, adds its two halves.
    assert_eq!(pseudo_header_sum(v4(1), v4(2), 0x1_0014), 0x841f);
    let v6 = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    // 2 * (2001 + 0db8) + 1 + 2 + 6 + 14
    assert_eq!(pseudo_header_sum(v6(1), v6(2), 20), 0x5b8f);
}

// Proves MUST-2.
#[test]
fn a_partial_checksum_is_the_pseudo_header_sum_and_nothing_else() {
    let (src, dst) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
    let mut raw = super::segment(&[], b"odd");
    let partial = pseudo_header_sum(src, dst, raw.len());
    raw[16..18].copy_from_slice(&partial.to_be_bytes());
    assert!(is_partial_checksum(src, dst, &raw));
    assert!(!verify_checksum(src, dst, &raw));
    raw[16..18].copy_from_slice(&(partial + 1).to_be_bytes());
    assert!(!is_partial_checksum(src, dst, &raw));
    assert!(!is_partial_checksum(src, dst, &raw[..17]));
}

proptest! {
    #[test]
    fn pieces_of_any_length_add_up_to_the_whole(pieces in vec(vec(any::<u8>(), 0..70), 0..6)) {
        let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(sum_of(&slices), by_definition(&pieces.concat()));
    }

    #[test]
    fn smoltcp_agrees(src: [u8; 4], dst: [u8; 4], first in vec(any::<u8>(), 0..40), second in vec(any::<u8>(), 0..40)) {
        let mut raw = super::segment(&[], &[]);
        let sum = checksum(src.into(), dst.into(), &raw, [&first, &second]);
        raw[16..18].copy_from_slice(&sum.to_be_bytes());
        raw.extend(first);
        raw.extend(second);
        let (s, d) = (core::net::Ipv4Addr::from(src).into(), core::net::Ipv4Addr::from(dst).into());
        prop_assert!(smoltcp::wire::TcpPacket::new_unchecked(&raw).verify_checksum(&s, &d));
        prop_assert!(verify_checksum(src.into(), dst.into(), &raw));
        raw[19] ^= 1;
        prop_assert!(!verify_checksum(src.into(), dst.into(), &raw));
    }
}

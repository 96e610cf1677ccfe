//! Tokens, initial data sequence numbers, HMACs and the DSS checksum of RFC 8684 version 1, all from SHA-256; and a keyed hash of addresses.
//! Choosing keys and nonces, and making tokens unique, is the caller's part.

use super::endpoint::FourTuple;
use crate::wire::{Checksum, Dsn};
use core::hash::Hasher;
use core::net::IpAddr;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher13;

/// A keyed hash that has taken in the two addresses of a flow; its ports and whatever else makes it unique are the caller's to add.
pub(super) fn hash_addresses(key: (u64, u64), tuple: FourTuple) -> SipHasher13 {
    let mut h = SipHasher13::new_with_keys(key.0, key.1);
    for a in [tuple.local, tuple.remote] {
        match a.ip() {
            IpAddr::V4(v4) => h.write(&v4.octets()),
            IpAddr::V6(v6) => h.write(&v6.octets()),
        }
    }
    h
}

/// The token of a key: the most significant 32 bits of its hash (RFC 8684 section 3.2).
pub fn token(key: u64) -> u32 {
    let [a, b, c, d, ..] = key_hash(key);
    u32::from_be_bytes([a, b, c, d])
}

/// The initial data sequence number of a key: the least significant 64 bits of its hash (RFC 8684 section 3.1).
/// The first byte of data has the number after it.
pub fn idsn(key: u64) -> Dsn {
    Dsn(low_64(&key_hash(key)))
}

fn key_hash(key: u64) -> [u8; 32] {
    Sha256::digest(key.to_be_bytes()).into()
}

/// The HMAC of an MP_JOIN SYN/ACK as its sender makes it (RFC 8684 section 3.2): `local` is the sender of the SYN/ACK.
/// To check a received one, give the peer's key and nonce as local.
pub fn join_synack_hmac(local_key: u64, remote_key: u64, local_nonce: u32, remote_nonce: u32) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = join_hmac(local_key, remote_key, local_nonce, remote_nonce);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The HMAC of an MP_JOIN third ACK as its sender makes it (RFC 8684 section 3.2): `local` is the sender of the ACK.
/// To check a received one, give the peer's key and nonce as local, and compare with [`hmac_eq`].
pub fn join_ack_hmac(local_key: u64, remote_key: u64, local_nonce: u32, remote_nonce: u32) -> [u8; 20] {
    let mut left = [0; 20];
    left.copy_from_slice(&join_hmac(local_key, remote_key, local_nonce, remote_nonce)[..20]);
    left
}

fn join_hmac(local_key: u64, remote_key: u64, local_nonce: u32, remote_nonce: u32) -> [u8; 32] {
    hmac(
        local_key,
        remote_key,
        &[&local_nonce.to_be_bytes(), &remote_nonce.to_be_bytes()],
    )
}

/// The HMAC of an ADD_ADDR: the rightmost 64 bits (RFC 8684 section 3.4.1). `sender` is who announces the address.
pub fn add_addr_hmac(sender_key: u64, receiver_key: u64, id: u8, addr: IpAddr, port: Option<u16>) -> u64 {
    let port = port.unwrap_or(0).to_be_bytes();
    let hash = match addr {
        IpAddr::V4(v4) => hmac(sender_key, receiver_key, &[&[id], &v4.octets(), &port]),
        IpAddr::V6(v6) => hmac(sender_key, receiver_key, &[&[id], &v6.octets(), &port]),
    };
    low_64(&hash)
}

/// HMAC-SHA256 under the key `first_key || second_key`.
fn hmac(first_key: u64, second_key: u64, message: &[&[u8]]) -> [u8; 32] {
    let mut key = [0; 64];
    key[..8].copy_from_slice(&first_key.to_be_bytes());
    key[8..16].copy_from_slice(&second_key.to_be_bytes());
    // HMAC pads a key with zeros to the block of 64 bytes; given padded, there is no length that could be refused.
    let mut mac = Hmac::<Sha256>::new(&key.into());
    for part in message {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The rightmost 64 bits of a hash.
fn low_64(hash: &[u8; 32]) -> u64 {
    let mut low = [0; 8];
    low.copy_from_slice(&hash[24..]);
    u64::from_be_bytes(low)
}

/// Compares two HMACs in a time that does not tell where they differ. (64-bit ones are integers: one comparison.)
pub fn hmac_eq(a: &[u8; 20], b: &[u8; 20]) -> bool {
    let differing = a.iter().zip(b).fold(0, |bits, (a, b)| bits | (a ^ b));
    core::hint::black_box(differing) == 0
}

/// The checksum of a DSS map or of MP_CAPABLE with data (RFC 8684 section 3.3.1), over the pseudo-header and the
/// `payload` of the whole mapping, in pieces of any length. `len` counts a DATA_FIN, which adds no payload.
pub fn dss_checksum<'a>(dsn: Dsn, ssn: u32, len: u16, payload: impl IntoIterator<Item = &'a [u8]>) -> u16 {
    let mut sum = dss_pseudo_header(dsn, ssn, len, 0);
    for piece in payload {
        sum.add(piece);
    }
    sum.finish()
}

/// The start of a DSS checksum: {64-bit DSN, relative SSN, length, checksum}. The payload of the mapping is added as
/// it comes. A sender gives checksum 0, and `finish` is what the option must carry; a receiver gives the received
/// checksum, and the mapping is right when `finish` is 0 (an equality of the two would take 0 and 0xffff as different).
pub fn dss_pseudo_header(dsn: Dsn, ssn: u32, len: u16, checksum: u16) -> Checksum {
    let mut sum = Checksum::new();
    sum.add(&dsn.0.to_be_bytes());
    sum.add(&ssn.to_be_bytes());
    sum.add(&len.to_be_bytes());
    sum.add(&checksum.to_be_bytes());
    sum
}

/// Golden values: captured between two Linux 6.18 kernels and computed again.
#[cfg(test)]
mod tests {
    use super::*;

    // Proves K1, K2.
    #[test]
    fn tokens_and_initial_numbers_of_captured_keys() {
        for (key, expected_token, expected_idsn) in [
            (0x0b66_ce9e_6378_385c, 0xe11b_a495, 0xcb6d_c3ac_de7c_966d),
            (0xc18f_0d28_6dd9_89ca, 0xe6c9_e5e2, 0x7a41_6d86_86b5_ec7d),
        ] {
            assert_eq!(token(key), expected_token);
            assert_eq!(idsn(key), Dsn(expected_idsn));
        }
        assert_eq!(idsn(0xa50d_f7ac_7cbf_4515) + 1, Dsn(0xf022_f0e1_5207_ddfc));
    }

    // Proves K4, J2, J3.
    #[test]
    fn hmacs_of_a_captured_join() {
        let (client, server) = (0x0b66_ce9e_6378_385c, 0xc18f_0d28_6dd9_89ca);
        let (client_nonce, server_nonce) = (0xd644_d3e2, 0x5513_66b1);
        assert_eq!(
            join_synack_hmac(server, client, server_nonce, client_nonce),
            0x5003_209b_dbf4_b093
        );
        let expected = [
            0x78, 0xbe, 0x83, 0x11, 0x03, 0xbd, 0xf0, 0x40, 0xc4, 0x7d, 0x0b, 0x15, 0xbe, 0xb2, 0xc3, 0x07, 0x4e, 0x65,
            0x44, 0x1a,
        ];
        let ack = join_ack_hmac(client, server, client_nonce, server_nonce);
        assert_eq!(ack, expected);
        assert!(hmac_eq(&ack, &expected));
        for i in 0..20 {
            let mut wrong = expected;
            wrong[i] ^= 0x80;
            assert!(!hmac_eq(&ack, &wrong), "byte {i}");
        }
    }

    // Proves A2.
    #[test]
    fn hmacs_of_captured_announcements() {
        let v4 = IpAddr::from([198, 51, 100, 2]);
        let v6 = IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, 2]);
        for (sender, receiver, addr, port, expected) in [
            (
                0x054a_bd02_257d_3909,
                0x41d2_e297_6f12_a6f7,
                v4,
                None,
                0x2f9c_55f3_d5cd_734c,
            ),
            (
                0x8a5b_d2b3_7888_2636,
                0x1bb0_448e_8c2e_fc41,
                v4,
                Some(8443),
                0xde8a_16b4_84b3_a837,
            ),
            (
                0xbfa7_c77b_8318_853e,
                0xa328_9405_0a7c_6b0a,
                v6,
                None,
                0xb5f1_2d52_ff57_18cf,
            ),
        ] {
            assert_eq!(add_addr_hmac(sender, receiver, 1, addr, port), expected);
        }
    }

    // Proves S2.
    #[test]
    fn checksums_of_captured_mappings() {
        for (dsn, ssn, len, payload, expected) in [
            (0xf022_f0e1_5207_ddfc, 1, 10, "helloworld", 0xcecb),
            (0xd17b_e320_d857_62fa, 1, 10, "helloworld", 0xefe5),
            (0xf022_f0e1_5207_de06, 11, 6, "second", 0xa9a2),
            (0xf022_f0e1_5207_de0c, 0, 1, "", 0xeee5),
            (0xd17b_e320_d857_630a, 0, 1, "", 0x1000),
        ] {
            let payload = payload.as_bytes();
            assert_eq!(dss_checksum(Dsn(dsn), ssn, len, [payload]), expected);
            let pieces = payload.chunks(3);
            assert_eq!(dss_checksum(Dsn(dsn), ssn, len, pieces), expected, "in odd pieces");

            let received = |checksum| {
                let mut sum = dss_pseudo_header(Dsn(dsn), ssn, len, checksum);
                payload.chunks(1).for_each(|piece| sum.add(piece));
                sum.finish()
            };
            assert_eq!(received(expected), 0);
            assert_ne!(received(expected ^ 1), 0);
        }
    }

    // Proves S2.
    #[test]
    fn the_two_zeros_of_one_s_complement_are_the_same_checksum() {
        // DSN ffff, all else zero: the sum is ffff and the checksum 0, which may arrive as ffff.
        assert_eq!(dss_checksum(Dsn(0xffff), 0, 0, []), 0);
        assert_eq!(dss_pseudo_header(Dsn(0xffff), 0, 0, 0).finish(), 0);
        assert_eq!(dss_pseudo_header(Dsn(0xffff), 0, 0, 0xffff).finish(), 0);
    }
}

//! Every middlebox of the lab, and bad wires: the right bytes both ways each time; plain TCP where MPTCP cannot live, and the reason told.

mod interop;

use interop::{
    assert_uploaded, interface, run, server_address, url, Download, LabSpec, Middlebox, Site, Toward, Transport, Wire,
};

const LEN: u64 = 4_000_000;

/// What must become of MPTCP behind a box.
enum Fate {
    /// It lives, with joins.
    Mptcp,
    /// It lives on one path.
    OnePath,
    /// Plain TCP; the engine says why.
    Plain(&'static str),
    /// Not foreseen: MPTCP or plain TCP, for reasons of the wire.
    Any,
}

/// Download and upload in a lab each, so that what was learnt of the peer by one is not known to the other.
fn both_ways(make: impl Fn() -> Site, fate: Fate) {
    for upload in [false, true] {
        let site = make();
        let _http = site.http(Transport::Mptcp);
        if upload {
            let file = site.stream_file(LEN);
            let url = format!("http://{}/upload", server_address(0, false));
            assert_uploaded(&run(site.curl(&["-T", &file.to_string_lossy(), &url])), LEN);
        } else {
            Download::start(site.curl(&[&url(LEN)])).expect_stream(LEN);
        }
        site.assert_kernel_client_idle();
        assert_fate(&site, &fate);
    }
}

fn assert_fate(site: &Site, fate: &Fate) {
    let log = site.engine_log();
    let plain = log.contains("speaks plain TCP");
    match fate {
        Fate::Mptcp => site.assert_server_mptcp(1, 1),
        Fate::OnePath => {
            site.assert_server_mptcp(1, 0);
            assert!(
                !log.contains("subflow 1 198.51.100.1") || !log.contains("198.51.100.1 is up"),
                "a join came through"
            );
        }
        Fate::Plain(reason) => assert!(plain && log.contains(reason), "the engine must say: {reason}"),
        Fate::Any => return,
    }
    assert_eq!(plain, matches!(fate, Fate::Plain(_)), "plain TCP");
}

fn behind(kind: Middlebox) -> Site {
    let site = Site::new([Wire::new(50.0, 10.0); 2]);
    for wire in 0..2 {
        site.lab().wire(wire).middleboxes([kind]).unwrap();
    }
    site
}

fn through(kind: Middlebox, fate: Fate) {
    both_ways(|| behind(kind), fate);
}

#[test]
fn stripped_syns() {
    through(Middlebox::StripSyn, Fate::Plain("does not speak MPTCP"));
}

#[test]
fn stripped_syn_acks() {
    through(Middlebox::StripSynAck, Fate::Plain("does not speak MPTCP"));
}

#[test]
fn stripped_later_segments() {
    through(Middlebox::StripLater, Fate::Plain("a middlebox removes MPTCP options"));
}

#[test]
fn everything_stripped() {
    through(Middlebox::StripAll, Fate::Plain("does not speak MPTCP"));
}

#[test]
fn stripped_add_addr() {
    let announcing = || {
        let site = behind(Middlebox::StripAddAddr);
        site.lab().announce(1, false).unwrap();
        site
    };
    both_ways(announcing, Fate::Mptcp);
}

#[test]
fn an_announced_address_is_joined() {
    let announcing = || {
        let site = Site::new([Wire::new(50.0, 10.0); 2]);
        site.lab().announce(1, false).unwrap();
        site
    };
    both_ways(announcing, Fate::Mptcp);
}

#[test]
fn dropped_capable_syns() {
    through(
        Middlebox::DropCapableSyn,
        Fate::Plain("SYNs that carry MPTCP were not answered"),
    );
}

#[test]
fn dropped_mptcp_syns() {
    through(
        Middlebox::DropMptcpSyn,
        Fate::Plain("SYNs that carry MPTCP were not answered"),
    );
}

#[test]
fn dropped_join_syns() {
    through(Middlebox::DropJoinSyn, Fate::OnePath);
}

#[test]
fn shifted_sequence_numbers() {
    through(Middlebox::ShiftSequence, Fate::Mptcp);
}

#[test]
fn split_segments() {
    through(Middlebox::Split { max_payload: 500 }, Fate::Mptcp);
}

#[test]
fn merged_segments_with_equal_options() {
    through(Middlebox::Merge { equal_options: true }, Fate::Mptcp);
}

/// Linux as receiver does not survive this box (nor does its own client), so only the download.
#[test]
fn merged_segments_that_lose_mappings() {
    let site = behind(Middlebox::Merge { equal_options: false });
    let _http = site.http(Transport::Mptcp);
    Download::start(site.curl(&[&url(LEN)])).expect_stream(LEN);
}

#[test]
fn translated_addresses_and_ports() {
    through(Middlebox::Nat, Fate::Mptcp);
}

/// Without checksums nobody can notice, as with TCP; with them the segment is refused and sent again on the other path.
#[test]
fn corrupted_payload_on_one_of_two_paths() {
    for toward in Toward::BOTH {
        let corrupting = || {
            let site = with_checksums([Wire::new(50.0, 10.0); 2]);
            let kind = Middlebox::CorruptEvery { toward, nth: 300 };
            site.lab().wire(1).middleboxes([kind]).unwrap();
            site
        };
        both_ways(corrupting, Fate::Any);
    }
}

fn with_checksums(wires: [Wire; 2]) -> Site {
    let site = Site::with(LabSpec::new(wires));
    let enable = "echo 1 >/proc/sys/net/mptcp/checksum_enabled";
    site.lab().server().output("sh", &["-c", enable]).unwrap();
    site
}

#[test]
fn checksums_when_the_server_asks() {
    both_ways(|| with_checksums([Wire::new(50.0, 10.0); 2]), Fate::Mptcp);
}

#[test]
fn random_loss_of_2_percent() {
    both_ways(|| Site::new([Wire::new(50.0, 5.0).loss(0.02); 2]), Fate::Any);
}

#[test]
fn reordering_of_5_percent() {
    both_ways(|| Site::new([Wire::new(50.0, 5.0).reorder(0.05); 2]), Fate::Mptcp);
}

#[test]
fn duplication_of_5_percent() {
    both_ways(|| Site::new([Wire::new(50.0, 5.0).duplicate(0.05); 2]), Fate::Mptcp);
}

/// Only the second wire has the box, as when one of two providers meddles: the first one carries on alone or with it.
#[test]
fn a_meddling_second_wire_does_no_harm() {
    let kinds = [
        Middlebox::StripSyn,
        Middlebox::StripLater,
        Middlebox::StripAll,
        Middlebox::Merge { equal_options: false },
    ];
    for kind in kinds {
        let site = Site::new([Wire::new(50.0, 10.0); 2]);
        site.lab().wire(1).middleboxes([kind]).unwrap();
        let _http = site.http(Transport::Mptcp);
        Download::start(site.curl(&[&url(LEN)])).expect_stream(LEN);
        let file = site.stream_file(LEN);
        let upload = format!("http://{}/upload", server_address(0, false));
        assert_uploaded(&run(site.curl(&["-T", &file.to_string_lossy(), &upload])), LEN);
        assert!(
            !site.engine_log().contains("speaks plain TCP"),
            "{kind:?} on {}",
            interface(1)
        );
    }
}

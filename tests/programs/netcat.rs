//! socat and both netcats, listening and connecting.

use crate::run::{compare, Role, Run};

/// More than buffers hold: who is to send it cannot have done so when the first answer comes.
const LEN: u64 = 5_000_000;

/// What one of them says when it is the server of a client of the same kind.
fn serves(server: &str, client: &str) {
    compare(Role::Server, |run| {
        run.stream_file(LEN);
        let _server = run.serve(9000, &["bash", "-c", server]);
        exchange(
            run,
            run.ask(&["env", &format!("S={}", run.subject_address()), "bash", "-c", client]),
        )
    });
}

fn asks(server: &str, client: &str) {
    compare(Role::Client, |run| {
        run.stream_file(LEN);
        let _server = run.serve_peer(9000, &["bash", "-c", server]);
        exchange(
            run,
            run.run(&["env", &format!("S={}", run.peer_address()), "bash", "-c", client]),
        )
    });
}

/// The server has had all when the client has ended, but perhaps not written it.
fn exchange(run: &Run, said: String) -> String {
    crate::run::eventually("the server has it all", || run.read("received").len() == 6);
    said + &run.read("received")
}

const SOCAT_SERVER: &str = "exec socat -t 5 TCP4-LISTEN:9000,reuseaddr 'SYSTEM:head -c 6 > received; cat 5000000'";
const SOCAT_CLIENT: &str = "(echo hello; sleep 1) | socat -t 20 - TCP4:$S:9000 | sha256sum";
const OPENBSD_SERVER: &str = "nc.openbsd -l -N -p 9000 < 5000000 > received";
const OPENBSD_CLIENT: &str = "(echo hello; sleep 1) | nc.openbsd -N $S 9000 | sha256sum; nc.openbsd -z -v $S 9001";
const TRADITIONAL_SERVER: &str = "nc.traditional -l -q 2 -p 9000 < 5000000 > received";
const TRADITIONAL_CLIENT: &str =
    "(echo hello; sleep 1) | nc.traditional -q 5 $S 9000 | sha256sum; nc.traditional -z -v -n $S 9001";

#[test]
#[ignore = "make programs"]
fn socat() {
    serves(SOCAT_SERVER, SOCAT_CLIENT);
    asks(SOCAT_SERVER, SOCAT_CLIENT);
}

#[test]
#[ignore = "make programs"]
fn netcat_of_openbsd() {
    serves(OPENBSD_SERVER, OPENBSD_CLIENT);
    asks(OPENBSD_SERVER, OPENBSD_CLIENT);
}

#[test]
#[ignore = "make programs"]
fn netcat_of_old() {
    serves(TRADITIONAL_SERVER, TRADITIONAL_CLIENT);
    asks(TRADITIONAL_SERVER, TRADITIONAL_CLIENT);
}

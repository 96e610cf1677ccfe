//! socat and both netcats, listening and connecting.

use crate::run::{compare, compare_without_joins, Role, Run};

/// More than buffers hold: who is to send it cannot have done so when the first answer comes.
const LEN: u64 = 5_000_000;

type Compare = fn(Role, &dyn Fn(&Run) -> String);

/// Both sides are of the same kind; first the server is under test, then the client.
fn both(compare: Compare, server: &str, client: &str) {
    compare(Role::Server, &|run| {
        run.stream_file(LEN);
        let _server = run.serve(9000, &["bash", "-c", server]);
        exchange(
            run,
            run.ask(&["env", &format!("S={}", run.subject_address()), "bash", "-c", client]),
        )
    });
    compare(Role::Client, &|run| {
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

/// It goes on listening, which joins need.
const SOCAT_SERVER: &str = "exec socat -t 5 TCP4-LISTEN:9000,reuseaddr,fork 'SYSTEM:head -c 6 > received; cat 5000000'";
const SOCAT_CLIENT: &str = "(echo hello; sleep 1) | socat -t 20 - TCP4:$S:9000 | sha256sum";
const OPENBSD_SERVER: &str = "nc.openbsd -l -N -p 9000 < 5000000 > received";
const OPENBSD_CLIENT: &str = "(echo hello; sleep 1) | nc.openbsd -N $S 9000 | sha256sum; nc.openbsd -z -v $S 9001";
/// It stops listening when it has accepted.
const TRADITIONAL_SERVER: &str = "nc.traditional -l -q 2 -p 9000 < 5000000 > received";
const TRADITIONAL_CLIENT: &str =
    "(echo hello; sleep 1) | nc.traditional -q 5 $S 9000 | sha256sum; nc.traditional -z -v -n $S 9001";

#[test]
#[ignore = "make programs"]
fn socat() {
    both(|role, scenario| compare(role, scenario), SOCAT_SERVER, SOCAT_CLIENT);
}

#[test]
#[ignore = "make programs"]
fn netcat_of_openbsd() {
    both(|role, scenario| compare(role, scenario), OPENBSD_SERVER, OPENBSD_CLIENT);
}

#[test]
#[ignore = "make programs"]
fn netcat_of_old() {
    both(
        |role, scenario| compare_without_joins(role, scenario),
        TRADITIONAL_SERVER,
        TRADITIONAL_CLIENT,
    );
}

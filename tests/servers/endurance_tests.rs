//! Many connections, one after the other and at once: nothing accumulates. `lab endure` does the same with a hundred times as many.

use crate::lab::{library, server_address, Holding, Lab, LabSpec, Talking, Wire};
use serde_json::Value;

/// Each round opens as many.
const ROUND: u64 = 250;
const HELD: u64 = 200;
/// What memory may grow by from the first round to the last: a thousand ended connections are remembered, in some 4 KB each.
const GROWTH_MAX_KB: u64 = 5 * 1024;

/// Descriptors of engine and host that no TIME_WAIT explains: each of those has a guard, which is a socket of the kernel's.
fn beyond_guards(holding: &Holding) -> isize {
    holding.descriptors as isize - holding.sockets as isize
}

#[test]
fn connections_leave_nothing_behind() {
    let lab = Lab::new(LabSpec::new([Wire::bare()])).expect("a lab");
    let server = lab.server().std_server(library()).expect("a server");
    let address = server.at(server_address(0, false)).to_string();
    let client = |what: &str, number: u64| {
        let mut command = lab.client().command(crate::lab::program().expect("the lab"));
        command.args(["load", what, &address, &number.to_string()]);
        Talking::start(command, library()).expect("a client")
    };
    let count = |talking: &mut Talking| {
        let line: Value = serde_json::from_str(&talking.line().expect("a line")).expect("JSON");
        line["count"].as_u64().expect("a number")
    };
    let engines = || {
        let hosts = [lab.server(), lab.client()];
        hosts.map(|host| Holding::of(host).expect("/proc").pop().expect("an engine"))
    };
    let mut first = client("idle", 1);
    assert_eq!(count(&mut first), 1);
    let before = engines();
    let mut memory = Vec::new();
    for _ in 0..4 {
        let mut churn = client("churn", ROUND);
        assert_eq!(count(&mut churn), ROUND);
        drop(churn);
        let after = engines();
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(beyond_guards(after), beyond_guards(before), "{:?}", after.process);
        }
        memory.push(after.map(|engine| engine.memory_kb));
    }
    println!("memory after each {ROUND}, KB: {memory:?}");
    for (first, last) in memory[0].iter().zip(memory[3]) {
        assert!(last < first + GROWTH_MAX_KB, "{memory:?}");
    }
    let mut idle = client("idle", HELD);
    assert_eq!(count(&mut idle), HELD);
    let held = engines();
    // A shadow and a guard for each.
    assert!(held[0].descriptors >= before[0].descriptors + 2 * HELD as usize);
    idle.say().expect("it hears");
    assert_eq!(count(&mut idle), HELD, "all answer");
    drop(idle);
    crate::site::eventually("all are closed", || {
        let now = engines();
        before
            .iter()
            .zip(&now)
            .all(|(before, now)| beyond_guards(now) == beyond_guards(before))
    });
}

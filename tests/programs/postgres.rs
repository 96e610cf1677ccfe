//! PostgreSQL and pgbench. The server refuses to be root: like a service of systemd's it has the capabilities of networking only.

use crate::run::{compare, compare_as, Role, Run};

/// AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN
const SERVICE: [&str; 7] = [
    "setpriv",
    "--reuid=postgres",
    "--regid=postgres",
    "--clear-groups",
    "--inh-caps=-all,+net_raw,+net_admin",
    "--ambient-caps=+net_raw,+net_admin",
    "--",
];

/// Makes a cluster; the words that start the server.
fn cluster(run: &Run) -> Vec<String> {
    let directory = run.directory();
    let script = "bin=$(pg_config --bindir 2>/dev/null || ls -d /usr/lib/postgresql/*/bin | tail -n 1)
         mkdir data socket; chown postgres data socket; export PATH=$bin:$PATH; cd data
         setpriv --reuid=postgres --regid=postgres --clear-groups $bin/initdb -A trust --no-sync -D . > ../initdb.log || exit 1
         echo 'host all all 0.0.0.0/0 trust' >> pg_hba.conf; printf $bin > ../bin";
    let made = run.output(run.helper(&["bash", "-c", script]));
    assert_eq!(made, "[exit status: 0]\n", "{}", run.read("initdb.log"));
    let mut words: Vec<String> = SERVICE.map(String::from).to_vec();
    words.push(format!("{}/postgres", run.read("bin")));
    for word in [
        "-D",
        "data",
        "-k",
        &format!("{directory}/socket"),
        "-c",
        "fsync=off",
        "-h",
        "*",
    ] {
        words.push(word.into());
    }
    words
}

/// A query of many bytes, an address as the server sees it, an error, and the benchmark with its rates left out.
fn session(address: &str) -> String {
    format!(
        "export PATH=$(cat bin):$PATH PGHOST={address} PGUSER=postgres
         for i in $(seq 100); do pg_isready -q && break; sleep 0.1; done
         psql -Atc 'select inet_client_addr(), inet_server_addr(), inet_server_port()'
         psql -Atc \"select repeat(md5(i::text), 20) from generate_series(1, 5000) i\" | sha256sum
         psql -Atc 'select 1/0'; seq 100000 | psql -qc 'create table t(i int)' -c '\\copy t from pstdin' -c 'select sum(i) from t'
         pgbench -i -q -s 1 2>/dev/null; pgbench -c 8 -j 2 -t 50 | grep -v -e latency -e tps -e time -e '(1'
         pgbench -S -C -c 4 -t 10 | grep processed; psql -Atc 'select sum(abalance) = sum(delta) from pgbench_accounts, pgbench_history where false'"
    )
}

#[test]
#[ignore = "make programs"]
fn postgres_serves() {
    compare_as(Role::Server, &SERVICE, |run| {
        let words = cluster(run);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _postgres = run.serve(5432, &words);
        run.ask(&["bash", "-c", &session(&run.subject_address())])
    });
}

#[test]
#[ignore = "make programs"]
fn psql_and_pgbench_ask() {
    compare(Role::Client, |run| {
        let words = cluster(run);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _postgres = run.serve_peer(5432, &words);
        run.run(&["bash", "-c", &session(&run.peer_address())])
    });
}

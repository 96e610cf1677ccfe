//! OpenSSH: privilege separation, sandbox, rekeying, and a session's processes.

use crate::run::{compare, Process, Role, Run};

const LONG: u64 = 100_000_000;
const SHORT: u64 = 10_000_000;

/// Keys of both sides, and what sshd and ssh need to find them.
fn keys(run: &Run) -> String {
    for name in ["host", "user"] {
        let words = [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            name,
            "-f",
            &run.path(name),
        ];
        assert!(run.helper(&words).status().expect("env(1) runs").success());
    }
    run.file(
        "sshd_config",
        &format!(
            "HostKey {0}/host\nAuthorizedKeysFile {0}/user.pub\nStrictModes no\nPermitRootLogin prohibit-password\n\
             UsePAM no\nPort 2222\nPidFile none\nLogLevel INFO\nSubsystem sftp internal-sftp\nUseDNS no\n",
            run.directory()
        ),
    );
    run.file(
        "ssh_config",
        &format!(
            "Host *\nIdentityFile {0}/user\nUserKnownHostsFile {0}/known\nStrictHostKeyChecking accept-new\nPort 2222\n\
             BatchMode yes\nUser root\nLogLevel ERROR\n",
            run.directory()
        ),
    )
}

/// sshd starts itself again for each connection, and must be named by its whole path.
fn daemon() -> Vec<&'static str> {
    // The package's unit makes the directory of the separated process.
    std::fs::create_dir_all("/run/sshd").expect("root");
    vec!["/usr/sbin/sshd", "-D", "-e", "-f", "sshd_config"]
}

/// Logs in, sends 10 MB, copies 100 MB, and 10 MB back with new keys every megabyte.
fn session(address: &str) -> String {
    format!(
        "ssh -F ssh_config {address} 'echo hello; echo $SSH_CONNECTION | cut -d\" \" -f1,3,4; exit 7'; echo $?
         ssh -F ssh_config {address} sha256sum < {SHORT}
         scp -q -F ssh_config {address}:$PWD/{LONG} down && sha256sum < down
         scp -q -F ssh_config -o RekeyLimit=1M {SHORT} {address}:$PWD/up && sha256sum < up
         rm -f up down"
    )
}

fn sessions(run: &Run, mut daemon: Process, said: String) -> String {
    assert!(
        daemon.child.try_wait().expect("a child").is_none(),
        "{}",
        daemon.output()
    );
    let log = daemon.output();
    let accepted = log.matches("Accepted publickey for root from").count();
    let from = log
        .matches(&format!(
            "Accepted publickey for root from {}",
            run.connecting_address()
        ))
        .count();
    format!("{said}{accepted} {from}\n")
}

#[test]
#[ignore = "make programs"]
fn sshd_logs_in_and_copies() {
    compare(Role::Server, |run| {
        keys(run);
        run.stream_file(LONG);
        run.stream_file(SHORT);
        let sshd = run.serve(2222, &daemon());
        let said = run.ask(&["bash", "-c", &session(&run.subject_address())]);
        sessions(run, sshd, said)
    });
}

#[test]
#[ignore = "make programs"]
fn ssh_logs_in_and_copies() {
    compare(Role::Client, |run| {
        keys(run);
        run.stream_file(LONG);
        run.stream_file(SHORT);
        let sshd = run.serve_peer(2222, &daemon());
        let said = run.run(&["bash", "-c", &session(&run.peer_address())]);
        sessions(run, sshd, said)
    });
}

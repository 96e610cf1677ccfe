//! vsftpd: processes for each session, sockets handed between them, and addresses in the payload.

use crate::run::{compare, Role};

/// Downloads and uploads, in passive mode and in active mode, where the server connects from port 20.
#[test]
#[ignore = "make programs"]
fn vsftpd_serves_actively_and_passively() {
    compare(Role::Server, |run| {
        run.stream_file(2_000_000);
        let directory = run.directory();
        let configuration = run.file(
            "vsftpd.conf",
            &format!(
                "listen=YES\nbackground=NO\nanonymous_enable=YES\nanon_root={directory}/root\nwrite_enable=YES
anon_upload_enable=YES\nanon_umask=022\nconnect_from_port_20=YES\npasv_min_port=30000\npasv_max_port=30009
xferlog_enable=YES\nvsftpd_log_file={directory}/vsftpd.log\nsecure_chroot_dir={directory}/empty
ftp_username=nobody\nlog_ftp_protocol=YES\n"
            ),
        );
        let prepare = "mkdir -p empty root/in; ln 2000000 root/; chown nobody root/in; chmod 555 empty root";
        assert_eq!(run.output(run.helper(&["bash", "-c", prepare])), "[exit status: 0]\n");
        let _vsftpd = run.serve(21, &["vsftpd", &configuration]);
        let script = "for mode in --disable-epsv --ftp-pasv -P-; do
               curl -sS $mode ftp://$S/; curl -sS $mode ftp://$S/2000000 | sha256sum
               curl -sS $mode -T 2000000 ftp://$S/in/up$mode; sha256sum < root/in/up$mode
             done; curl -sS ftp://$S/nothing; echo $?";
        let said = run.ask(&["env", &format!("S={}", run.subject_address()), "bash", "-c", script]);
        let listing = undated(&said);
        listing + &protocol(&run.read("vsftpd.log"))
    });
}

/// Listings have dates.
fn undated(said: &str) -> String {
    let lines = said.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.len() {
            9 => format!("{} {} {}\n", words[0], words[4], words[8]),
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

/// What was said on control connections, dates, process ids and ports aside.
fn protocol(log: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in log.lines() {
        let Some((_, said)) = line.split_once("] ") else {
            continue;
        };
        let Some((head, said)) = said.split_once(", ").or(said.split_once(": ")) else {
            continue;
        };
        let said = match said.split_once(|c| "(|".contains(c)) {
            Some((text, _)) => text,
            None => said,
        };
        lines.push(format!("{head}: {said}\n"));
    }
    lines.concat()
}

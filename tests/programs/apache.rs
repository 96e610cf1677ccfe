//! Apache with pre-forked processes, CGI, and git's smart HTTP behind it.

use crate::run::{compare, eventually, Process, Role, Run};
use rustix::process::Signal;

const MODULES: &str = "/usr/lib/apache2/modules";

/// What both Apache and git's backend need; as their packages put it.
fn configure(run: &Run) -> String {
    // With TCP_DEFER_ACCEPT Linux's own MPTCP completes no join: its third segment brings no data.
    let filter = if run.subject_serves() {
        ""
    } else {
        "AcceptFilter http none\n"
    };
    let modules = ["mpm_prefork", "authz_core", "mime", "dir", "cgi", "alias", "env"];
    let modules = modules.map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n"));
    run.file(
        "apache.conf",
        &format!(
            "{modules}
             ServerName lab.test\nListen 80\nUser www-data\nGroup www-data\nPidFile {directory}/apache.pid
             Mutex file:{directory}\nDefaultRuntimeDir {directory}\nErrorLog {directory}/error.log\nLogLevel warn
             {filter}LogFormat \"%a %A %p %r %>s %B\" short\nCustomLog {directory}/access.log short
             TypesConfig /etc/mime.types\nDocumentRoot {directory}/root\nStartServers 3\nMinSpareServers 3
             MaxSpareServers 6\nMaxRequestWorkers 20\nKeepAlive On\nKeepAliveTimeout 2
             SetEnv GIT_PROJECT_ROOT {directory}/root\nSetEnv GIT_HTTP_EXPORT_ALL 1
             SetEnv GIT_CONFIG_COUNT 1\nSetEnv GIT_CONFIG_KEY_0 safe.directory\nSetEnv GIT_CONFIG_VALUE_0 *
             ScriptAlias /git/ /usr/lib/git-core/git-http-backend/\nScriptAlias /cgi/ {directory}/cgi/
             <Directory />\nRequire all granted\n</Directory>\n",
            modules = modules.concat(),
            directory = run.directory(),
        ),
    )
}

/// Files, a CGI program, and a git repository with a large file in it.
fn contents(run: &Run) {
    let script = format!(
        "mkdir root cgi; mv 3000000 root/
         printf '#!/bin/sh\\necho Content-Type: text/plain; echo; echo $REMOTE_ADDR $SERVER_ADDR $REQUEST_METHOD; sha256sum' > cgi/hash
         chmod 755 cgi/hash; {GIT}; git init -q -b main work && cd work && cp ../root/3000000 . &&
         git add 3000000 && git commit -q -m first && git clone -q --bare . ../root/project.git"
    );
    run.stream_file(3_000_000);
    let made = run.output(run.helper(&["bash", "-c", &script]));
    assert_eq!(made, "[exit status: 0]\n");
    // git's backend runs as Apache's user.
    let own = run.helper(&["chown", "-R", "www-data", "root"]);
    assert_eq!(run.output(own), "[exit status: 0]\n");
}

/// Nothing of the machine's configuration.
const GIT: &str =
    "export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@lab.test GIT_AUTHOR_DATE='1000000000 +0000' \
                   GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@lab.test GIT_COMMITTER_DATE='1000000000 +0000'";

fn words(configuration: &str) -> [&str; 4] {
    ["apache2", "-DFOREGROUND", "-f", configuration]
}

fn serve(run: &Run) -> Process {
    contents(run);
    let configuration = configure(run);
    match run.subject_serves() {
        true => run.serve(80, &words(&configuration)),
        false => run.serve_peer(80, &words(&configuration)),
    }
}

/// Who asked for what; a pack's messages are not always as long.
fn requests(run: &Run) -> String {
    let log = run.read("access.log");
    let lines = log.lines().map(|line| match line.contains("git-upload-pack") {
        true => line.rsplit_once(' ').map_or(line, |(rest, _)| rest),
        false => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// A clone, a push back (refused: nobody may), and a fetch of nothing new.
fn git(address: &str) -> String {
    format!(
        "{GIT}; git clone -q http://{address}/git/project.git got; sha256sum < got/3000000; cd got; git log --format='%H %s'
         git fetch -q; echo $?; git push -q 2>&1 | tail -n 1; cd ..; rm -rf got"
    )
}

#[test]
#[ignore = "make programs"]
fn apache_serves_and_restarts_gracefully() {
    compare(Role::Server, |run| {
        let mut apache = serve(run);
        let fetch = || {
            let address = run.subject_address();
            let script = format!(
                "curl -sS http://{address}/3000000 | sha256sum
                 curl -sS -w '%{{num_connects}} %{{http_code}}\\n' -d hello http://{address}/cgi/hash http://{address}/nothing
                 head -c 300000 root/3000000 | curl -sS -H Expect: --data-binary @- http://{address}/cgi/hash
                 {}", git(&address)
            );
            run.ask(&["bash", "-c", &script])
        };
        let mut said = fetch();
        let before = run.processes("apache2");
        apache.signal(Signal::USR1);
        eventually("the processes are others", || {
            let now = run.processes("apache2");
            now.len() >= 4 && now.iter().filter(|pid| before.contains(pid)).count() == 1
        });
        said += &fetch();
        apache.signal(Signal::TERM);
        apache.wait();
        said + &requests(run)
    });
}

#[test]
#[ignore = "make programs"]
fn git_clones_over_http() {
    compare(Role::Client, |run| {
        let _apache = serve(run);
        run.run(&["bash", "-c", &git(&run.peer_address())]) + &requests(run)
    });
}

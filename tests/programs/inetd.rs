//! inetd: services that it starts with a connection as standard input and output, and one that it gives the listening socket.

use crate::run::{compare, Role};

const WAIT: &str = "import socket
s = socket.socket(fileno=0)
s.settimeout(2)
try:
    while True:
        c, a = s.accept(); c.settimeout(None); c.sendall(repr(a[0]).encode() + b' ' + c.recv(100)); c.close()
except TimeoutError: pass
";

const ASK: &str = "import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
question = sys.stdin.buffer.read()
s.sendall(question)
# tr answers behind the end of its input. Who asks nothing leaves its side open: a kernel does not join after its end.
if question: s.shutdown(socket.SHUT_WR)
sys.stdout.buffer.write(s.makefile('rb').read())
";

#[test]
#[ignore = "make programs"]
fn inetd_starts_services() {
    compare(Role::Server, |run| {
        run.stream_file(2_000_000);
        let wait = run.file("wait.py", WAIT);
        let configuration = run.file(
            "inetd.conf",
            &format!(
                "7000 stream tcp nowait nobody /bin/cat cat {directory}/2000000
7001 stream tcp nowait root /usr/bin/tr tr a-z A-Z
7002 stream tcp wait root /usr/bin/python3 python3 {wait}
7003 stream tcp nowait root internal echo\n",
                directory = run.directory()
            ),
        );
        let _inetd = run.serve(
            7000, // Without -E it takes LD_PRELOAD from the environment of its services, which need it to accept.
            &["inetd", "-E", "-d", &configuration],
        );
        run.file("ask.py", ASK);
        let script = "ask() { python3 ask.py $S $1; }
             for round in 1 2; do
               ask 7000 < /dev/null | sha256sum; echo hello | ask 7001; echo there | ask 7002
             done";
        run.ask(&["env", &format!("S={}", run.subject_address()), "bash", "-c", script])
    });
}

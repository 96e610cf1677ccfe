//! wget.

use crate::run::{compare, Role};

#[test]
#[ignore = "make programs"]
fn wget_fetches() {
    compare(Role::Client, |run| {
        run.stream_file(2_000_000);
        run.file(
            "index.html",
            "<a href=2000000>large</a> <a href=small>small</a> <a href=none>none</a>",
        );
        run.file("small", "small");
        let _http = run.serve_peer(80, &["python3", "-m", "http.server", "80"]);
        let address = run.peer_address();
        let script = format!(
            "wget() {{ command wget -nv \"$@\" 2>&1 | grep -v -i -e total -e downloaded -e finished | sed 's/^[-0-9]* [:0-9]* //'; }}
             wget -r -P got http://{address}/; sha256sum got/*/*; head -c 1000000 2000000 > part
             wget -c -O part http://{address}/2000000; sha256sum part; wget -O none http://{address}:81/; rm -r got part none"
        );
        run.run(&["bash", "-c", &script])
    });
}

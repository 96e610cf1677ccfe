//! Python's servers and clients: http.server, asyncio, a forking socketserver, urllib.

use crate::run::{compare, Role};

/// Answers a line with the peer's address, the line, and a megabyte.
const ASYNCIO: &str = "import asyncio
async def serve(reader, writer):
    async for line in reader:
        writer.write(writer.get_extra_info('peername')[0].encode() + b' ' + line + bytes(1000000)); await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, '0.0.0.0', 8000)
    async with server: await server.serve_forever()
asyncio.run(main())
";

const FORKING: &str = "import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile: self.wfile.write(self.client_address[0].encode() + b' ' + line + bytes(1000000))
class Server(socketserver.ForkingTCPServer): allow_reuse_address = True
Server(('0.0.0.0', 8000), Handler).serve_forever()
";

/// Twenty connections at once, a few lines each.
const CLIENT: &str = "import asyncio, hashlib, sys
async def talk(n):
    reader, writer = await asyncio.open_connection(sys.argv[1], 8000)
    said = hashlib.sha256()
    for i in range(2):
        writer.write(b'line %d %d\\n' % (n, i)); said.update(await reader.readline()); said.update(await reader.readexactly(1000000))
    writer.write_eof()
    end = await reader.read()
    writer.close()
    return n, said.hexdigest(), end, writer.get_extra_info('peername')
async def main(): print(*await asyncio.gather(*(talk(n) for n in range(5))), sep='\\n')
asyncio.run(main())
";

fn serves(program: &str) {
    compare(Role::Server, |run| {
        let (server, client) = (run.file("server.py", program), run.file("client.py", CLIENT));
        let _server = run.serve(8000, &["python3", &server]);
        run.ask(&["python3", &client, &run.subject_address()])
    });
}

#[test]
fn asyncio_serves() {
    serves(ASYNCIO);
}

#[test]
fn socketserver_forks() {
    serves(FORKING);
}

#[test]
fn asyncio_asks() {
    compare(Role::Client, |run| {
        let (server, client) = (run.file("server.py", ASYNCIO), run.file("client.py", CLIENT));
        let _server = run.serve_peer(8000, &["python3", &server]);
        run.run(&["python3", &client, &run.peer_address()])
    });
}

#[test]
fn http_server_serves_and_logs_addresses() {
    compare(Role::Server, |run| {
        run.stream_file(2_000_000);
        let server = run.serve(8000, &["python3", "-u", "-m", "http.server", "-b", "0.0.0.0", "8000"]);
        let url = format!("http://{}:8000/2000000", run.subject_address());
        let script =
            format!("curl -sS {url} | sha256sum; curl -sS -I {url} | head -n 1; curl -sS {url}/no | grep -c 404");
        let said = run.ask(&["bash", "-c", &script]);
        let undated = |line: &str| {
            line.split_once(" - - ")
                .and_then(|(from, rest)| Some((from, rest.split_once("] ")?.1)))
                .map(|(from, what)| format!("{from} {what}\n"))
        };
        said + &server.output().lines().filter_map(undated).collect::<String>()
    });
}

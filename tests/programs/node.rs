//! Node, whose sockets are libuv's.

use crate::run::{compare, Role};

const SERVER: &str = "const http = require('http');
http.createServer((request, response) => {
  let received = 0;
  request.on('data', data => received += data.length);
  request.on('end', () => {
    response.setHeader('from', request.socket.remoteAddress.replace('::ffff:', ''));
    response.write(`${request.method} ${request.url} ${received}\\n`);
    response.end(Buffer.alloc(2000000, 'x'));
  });
}).listen(8000);
";

const CLIENT: &str = "const http = require('http'), crypto = require('crypto');
const agent = new http.Agent({keepAlive: true, maxSockets: 4});
const ask = n => new Promise((done, failed) => {
  const hash = crypto.createHash('sha256');
  const request = http.request({host: process.argv[2], port: 8000, path: '/' + n, method: 'POST', agent}, response => {
    response.on('data', data => hash.update(data));
    response.on('end', () => done(`${n} ${response.statusCode} ${response.headers.from} ${hash.digest('hex')}`));
  });
  request.on('error', failed);
  request.end(Buffer.alloc(500000));
});
Promise.all([...Array(8).keys()].map(ask)).then(said => { console.log(said.join('\\n')); agent.destroy(); });
";

#[test]
#[ignore = "make programs"]
fn node_serves() {
    compare(Role::Server, |run| {
        let (server, client) = (run.file("server.js", SERVER), run.file("client.js", CLIENT));
        let _server = run.serve(8000, &["node", &server]);
        run.ask(&["node", &client, &run.subject_address()])
    });
}

#[test]
#[ignore = "make programs"]
fn node_asks() {
    compare(Role::Client, |run| {
        let (server, client) = (run.file("server.js", SERVER), run.file("client.js", CLIENT));
        let _server = run.serve_peer(8000, &["node", &server]);
        run.run(&["node", &client, &run.peer_address()])
    });
}

//! The program `lab`: the holder of a lab, and the peers that run inside one. `mod.rs` is its handle.

#[path = "mod.rs"]
mod lab;

mod bench;
mod capture;
mod cases;
mod chart;
mod demo;
mod emulator;
mod endure;
mod holder;
mod line;
mod middlebox;
mod packet_socket;
mod peer;
mod run;
mod topology;
mod transfer;

use std::io;
use std::process::ExitCode;

const USAGE: &str = "usage: lab hold                                          (started by the handle)
       lab http-server [--transport tcp|mptcp] [--port N] [--congestion NAME]
       lab sink        [--transport tcp|mptcp] [--port N] [--congestion NAME]
       lab source      [--transport tcp|mptcp] [--port N] [--congestion NAME] [--bytes N]
       lab get         [--transport tcp|mptcp] [--congestion NAME] ADDRESS:PORT /PATH
       lab put         [--transport tcp|mptcp] [--congestion NAME] [--bytes N] ADDRESS:PORT /PATH
       lab https-server [--transport tcp|mptcp] [--port N] --bytes N       (nginx, HTTP/2; path /N)
       lab run [OPTIONS] -- PROGRAM…                     (a lab around a program; lab run --help)
       lab demo --library FILE --command FILE            (what make demo shows)
       lab bench --library FILE [--repeats N] [--seconds N] [--only TEXT] [--picture FILE]   (what make bench measures)
       lab endure --library FILE [--connections N] [--idle N]   (very many connections; what the engines hold)
       lab std-server  [--port N]                        (load-server by the C library's calls, for a preloaded library to see)
       lab load-server [--transport tcp|mptcp] [--port N]
       lab load download|upload|ping|connect|exchange|churn|idle ADDRESS:PORT NUMBER
       lab reader                                        (standard input)
       lab stream N                                      (N bytes of the stream to standard output)";

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lab: {e}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let subcommand = arguments.next().unwrap_or_default();
    match subcommand.as_str() {
        "run" => return run::run(arguments),
        "demo" => return demo::run(arguments),
        "bench" => return bench::run(arguments),
        "endure" => return endure::run(arguments),
        _ => {}
    }
    let options = || peer::Options::parse(arguments);
    match subcommand.as_str() {
        "hold" => holder::run(),
        "http-server" => peer::http::serve(&options()?),
        "https-server" => peer::https::serve(&options()?),
        "sink" => peer::bytes::sink(&options()?),
        "source" => peer::bytes::source(&options()?),
        "get" => peer::client::get(&options()?),
        "put" => peer::client::put(&options()?),
        "std-server" => peer::load::serve_by_libc(&options()?),
        "load-server" => peer::load::serve(&options()?),
        "load" => peer::load::run(&options()?),
        "reader" => peer::bytes::reader(),
        "stream" => peer::bytes::stream(&options()?),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, USAGE)),
    }
}

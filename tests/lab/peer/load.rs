//! What `lab bench` times: a server and a client that do nothing but move bytes, without looking at them.
//!
//! A connection begins with a request of 9 bytes: what it is for, and a number (big-endian).
//!
//! | request | then |
//! |---|---|
//! | `D` | the server sends until the client has had enough; the client reads for that many milliseconds |
//! | `U` | the client writes for that many milliseconds; the server answers with what it read in that time |
//! | `P` | the server returns every byte |
//! | `C` | the server answers with one byte and closes, so that the TIME_WAIT is on its side |

use super::meter::print_line;
use super::socket::accept_for_ever;
use super::Options;
use crate::lab::clock;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Bytes a read or write.
const CHUNK: usize = 256 << 10;
/// Bytes of a thread's stack: there may be ten thousand.
const STACK: usize = 64 << 10;
/// Request and answer of one connection in `connections`.
const EXCHANGE: usize = 1024;

/// What the client, or the reading server, saw.
#[derive(Clone, Copy, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Payload bytes that the reader got, or things done.
    pub count: u64,
    /// In this time, seconds.
    pub seconds: f64,
    /// The longest time between two reads that gave something, ms.
    pub longest_silence_ms: f64,
}

impl Load {
    /// Counts for that long; then, with `to_the_end`, reads what still comes.
    fn read_for(mut connection: &TcpStream, limit: Duration, to_the_end: bool) -> io::Result<Load> {
        let mut buffer = vec![0; CHUNK];
        let mut load = Load::default();
        let start = clock::now();
        let mut last = start;
        loop {
            let count = connection.read(&mut buffer)?;
            let now = clock::now();
            if count == 0 || now - start > limit {
                load.seconds = (now - start).min(limit).as_secs_f64();
                while to_the_end && count > 0 && connection.read(&mut buffer)? > 0 {}
                return Ok(load);
            }
            if load.count > 0 {
                load.longest_silence_ms = load.longest_silence_ms.max((now - last).as_secs_f64() * 1e3);
            }
            last = now;
            load.count += count as u64;
        }
    }
}

/// Serves for ever.
pub fn serve(options: &Options) -> io::Result<()> {
    accept_for_ever(options, |connection: TcpStream| {
        // A client that goes away is its own business.
        let _ = serve_connection(&connection);
    })
}

/// The same over sockets that the C library makes, where a preloaded library sees them.
pub fn serve_by_libc(options: &Options) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, options.port))?;
    let port = listener.local_addr()?.port();
    print_line(&serde_json::json!({ "port": port }))?;
    loop {
        let (connection, _) = listener.accept()?;
        thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || drop(serve_connection(&connection)))?;
    }
}

fn serve_connection(mut connection: &TcpStream) -> io::Result<()> {
    let mut request = [0; 9];
    connection.read_exact(&mut request)?;
    let (kind, number) = request.split_at(1);
    let limit = Duration::from_millis(number.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)));
    match kind {
        b"D" => {
            let chunk = vec![0; CHUNK];
            loop {
                connection.write_all(&chunk)?;
            }
        }
        b"U" => {
            let load = Load::read_for(connection, limit, true)?;
            connection.write_all(&serde_json::to_vec(&load)?)
        }
        b"C" => connection.write_all(&[0]),
        _ => {
            connection.set_nodelay(true)?;
            let mut buffer = [0; EXCHANGE];
            loop {
                match connection.read(&mut buffer)? {
                    0 => return Ok(()),
                    count => connection.write_all(&buffer[..count])?,
                }
            }
        }
    }
}

/// `lab load WHAT ADDRESS:PORT NUMBER`: prints a [`Load`]. The number is milliseconds for download and upload, else how many.
pub fn run(options: &Options) -> io::Result<()> {
    let server: SocketAddr = options.positional(1)?.parse().map_err(io::Error::other)?;
    let number: u64 = options.positional(2)?.parse().map_err(io::Error::other)?;
    let load = match options.positional(0)? {
        "download" => Load::read_for(&open(server, b'D', number)?, Duration::from_millis(number), false)?,
        "upload" => upload(server, number)?,
        "ping" => ping(server, number)?,
        "connect" => connections(server, number, 1)?,
        "exchange" => connections(server, number, EXCHANGE)?,
        "churn" => churn(server, number)?,
        "idle" => idle(server, number)?,
        other => return Err(io::Error::other(format!("lab load {other} is not known"))),
    };
    print_line(&load)
}

fn open(server: SocketAddr, kind: u8, number: u64) -> io::Result<TcpStream> {
    let mut connection = TcpStream::connect(server)?;
    let mut request = [kind; 9];
    request[1..].copy_from_slice(&number.to_be_bytes());
    connection.write_all(&request)?;
    Ok(connection)
}

fn upload(server: SocketAddr, ms: u64) -> io::Result<Load> {
    let mut connection = open(server, b'U', ms)?;
    let chunk = vec![0; CHUNK];
    let end = clock::now() + Duration::from_millis(ms);
    while clock::now() < end {
        connection.write_all(&chunk)?;
    }
    connection.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

fn timed(count: u64, mut each: impl FnMut() -> io::Result<()>) -> io::Result<Load> {
    let start = clock::now();
    for _ in 0..count {
        each()?;
    }
    Ok(Load {
        count,
        seconds: (clock::now() - start).as_secs_f64(),
        longest_silence_ms: 0.0,
    })
}

fn ping(server: SocketAddr, count: u64) -> io::Result<Load> {
    let mut connection = open(server, b'P', 0)?;
    connection.set_nodelay(true)?;
    let mut byte = [0];
    timed(count, || {
        connection.write_all(&byte)?;
        connection.read_exact(&mut byte)
    })
}

/// One after the other: open, `len` bytes each way, close.
fn connections(server: SocketAddr, count: u64, len: usize) -> io::Result<Load> {
    timed(count, || {
        let mut connection = open(server, b'P', 0)?;
        let mut bytes = vec![0; len];
        connection.write_all(&bytes)?;
        connection.read_exact(&mut bytes)
    })
}

/// One after the other: open, one byte of an answer, the server's end, close.
fn churn(server: SocketAddr, count: u64) -> io::Result<Load> {
    timed(count, || {
        let mut connection = open(server, b'C', 0)?;
        let mut answer = Vec::new();
        match connection.read_to_end(&mut answer)? {
            1 => Ok(()),
            n => Err(io::Error::other(format!("{n} bytes instead of one"))),
        }
    })
}

/// Holds that many connections open until standard input ends. At each line of it every one has to answer.
fn idle(server: SocketAddr, count: u64) -> io::Result<Load> {
    let mut held = Vec::new();
    let load = timed(count, || {
        let mut connection = open(server, b'P', 0)?;
        connection.write_all(&[0])?;
        connection.read_exact(&mut [0])?;
        held.push(connection);
        Ok(())
    })?;
    print_line(&load)?;
    while io::stdin().read_line(&mut String::new())? > 0 {
        let mut connections = held.iter();
        let load = timed(count, || {
            let mut connection: &TcpStream = connections.next().ok_or_else(|| io::Error::other("too few"))?;
            connection.write_all(&[0])?;
            connection.read_exact(&mut [0])
        })?;
        print_line(&load)?;
    }
    Ok(load)
}

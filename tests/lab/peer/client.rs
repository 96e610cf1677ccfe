//! A reference client over kernel sockets: fetch or upload once, then print a report.

use super::bytes::write_stream;
use super::meter::{print_line, Meter};
use super::socket::connect_to;
use super::Options;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A transfer that stands still for this long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// `GET` of a path; prints what came as body, timed from before the SYN.
pub fn get(options: &Options) -> io::Result<()> {
    let meter = Meter::new();
    let mut connection = connect(options)?;
    let path = options.positional(1)?;
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
    )?;
    let mut input = BufReader::with_capacity(65_536, &connection);
    skip_head(&mut input)?;
    print_line(&meter.read_all(input))
}

/// `PUT` of `--bytes` of the stream; prints the server's answer.
pub fn put(options: &Options) -> io::Result<()> {
    let mut connection = connect(options)?;
    let (path, len) = (options.positional(1)?, options.bytes);
    write!(
        connection,
        "PUT {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n"
    )?;
    write_stream(&mut connection, len)?;
    connection.shutdown(Shutdown::Write)?;
    let mut input = BufReader::new(&connection);
    skip_head(&mut input)?;
    io::copy(&mut input, &mut io::stdout().lock()).map(|_| ())
}

fn connect(options: &Options) -> io::Result<TcpStream> {
    let connection = connect_to(options, options.positional(0)?.parse().map_err(io::Error::other)?)?;
    connection.set_read_timeout(Some(SILENCE_MAX))?;
    Ok(connection)
}

/// Reads up to the empty line; anything but 200 is an error.
fn skip_head(input: &mut impl BufRead) -> io::Result<()> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(format!("the server answered {line:?}")));
    }
    while !line.trim_end().is_empty() {
        line.clear();
        input.read_line(&mut line)?;
    }
    Ok(())
}

//! Plain bytes: sink, source, the reader at the end of a pipe, the stream itself.

use super::meter::{print_line, Meter};
use super::socket::accept_for_ever;
use super::Options;
use crate::lab::stream;
use std::io::{self, Write};
use std::net::TcpStream;

/// Reads each connection to its end and prints a report.
pub fn sink(options: &Options) -> io::Result<()> {
    accept_for_ever(options, |connection: TcpStream| {
        let report = Meter::new().read_all(&connection);
        if let Err(e) = print_line(&report) {
            eprintln!("lab sink: {e}");
        }
    })
}

/// Sends `--bytes` of the stream to each connection and closes it.
pub fn source(options: &Options) -> io::Result<()> {
    let len = options.bytes;
    accept_for_ever(options, move |mut connection: TcpStream| {
        if let Err(e) = write_stream(&mut connection, len) {
            eprintln!("lab source: {e}");
        }
    })
}

/// Reads standard input to its end and prints a report: `curl … | lab reader`.
pub fn reader() -> io::Result<()> {
    print_line(&Meter::new().read_all(io::stdin().lock()))
}

/// Writes that many bytes of the stream to standard output.
pub fn stream(options: &Options) -> io::Result<()> {
    let len = options.positional(0)?.parse().map_err(io::Error::other)?;
    write_stream(&mut io::stdout().lock(), len)
}

/// Writes the first `len` bytes of the stream.
pub fn write_stream(to: &mut impl Write, len: u64) -> io::Result<()> {
    let mut buffer = vec![0; 262_144];
    let mut offset = 0;
    while offset < len {
        let count = (len - offset).min(buffer.len() as u64) as usize;
        stream::fill(offset, &mut buffer[..count]);
        to.write_all(&buffer[..count])?;
        offset += count as u64;
    }
    to.flush()
}

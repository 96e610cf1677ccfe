//! A small HTTP/1.1 server (RFC 9112): `GET /N`, `GET /slow/N`, `GET /reset/N`, uploads by PUT or POST. Keep-alive, chunked uploads and
//! `Expect: 100-continue`; no ranges, no pipelining across an error, no TLS.

use super::bytes::write_stream;
use super::meter::{print_line, Meter};
use super::socket::accept_for_ever;
use super::Options;
use crate::lab::host::Report;
use crate::lab::stream;
use rustix::net::sockopt::set_socket_linger;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

/// One line of a request's head is at most this long.
const LINE_MAX: u64 = 16_384;
/// `/slow` sends in this many pieces, one every `SLOW_PAUSE`.
const SLOW_PIECES: u64 = 20;
const SLOW_PAUSE: Duration = Duration::from_millis(50);

/// Serves for ever; prints a report of each upload.
pub fn serve(options: &Options) -> io::Result<()> {
    accept_for_ever(options, |connection: TcpStream| {
        // A client that goes away is its own business.
        let _ = serve_connection(&connection);
    })
}

/// The head of a request.
#[derive(Default)]
struct Head {
    method: String,
    path: String,
    content_length: u64,
    chunked: bool,
    expect_continue: bool,
    close: bool,
}

fn serve_connection(connection: &TcpStream) -> io::Result<()> {
    let mut input = BufReader::with_capacity(65_536, connection);
    let mut output = connection;
    while let Some(head) = read_head(&mut input)? {
        match head.method.as_str() {
            "GET" | "HEAD" => {
                if !answer_get(connection, &head)? {
                    return Ok(());
                }
            }
            "PUT" | "POST" => {
                if head.expect_continue {
                    output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                let report = read_body(&mut input, &head);
                print_line(&report)?;
                if report.error.is_some() {
                    return Ok(());
                }
                let body = format!("{}\n", serde_json::to_string(&report)?);
                write_response(output, "200 OK", &head, body.as_bytes())?;
            }
            _ => write_response(output, "405 Method Not Allowed", &head, b"")?,
        }
        if head.close {
            return Ok(());
        }
    }
    Ok(())
}

/// None at the end of the connection.
fn read_head(input: &mut impl BufRead) -> io::Result<Option<Head>> {
    let request = read_line(input)?;
    if request.is_empty() {
        return Ok(None);
    }
    let mut words = request.split(' ');
    let mut head = Head {
        method: words.next().unwrap_or_default().into(),
        path: words.next().unwrap_or_default().into(),
        close: words.next() == Some("HTTP/1.0"),
        ..Head::default()
    };
    loop {
        let line = read_line(input)?;
        let Some((name, value)) = line.split_once(':') else {
            return Ok(Some(head));
        };
        let value = value.trim().to_ascii_lowercase();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.content_length = value.parse().map_err(io::Error::other)?,
            "transfer-encoding" => head.chunked = value == "chunked",
            "expect" => head.expect_continue = value == "100-continue",
            "connection" => head.close |= value == "close",
            _ => {}
        }
    }
}

fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.by_ref().take(LINE_MAX).read_line(&mut line)?;
    Ok(line.trim_end().to_string())
}

/// Answers GET and HEAD; false when the connection has been reset on purpose.
fn answer_get(mut connection: &TcpStream, head: &Head) -> io::Result<bool> {
    let (mode, number) = head
        .path
        .trim_start_matches('/')
        .rsplit_once('/')
        .unwrap_or(("", &head.path));
    let len: Option<u64> = number.trim_start_matches('/').parse().ok();
    let (Some(len), "" | "slow" | "reset") = (len, mode) else {
        write_response(connection, "404 Not Found", head, b"no such path\n")?;
        return Ok(true);
    };
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {len}\r\n\r\n"
    )?;
    if head.method == "HEAD" {
        return Ok(true);
    }
    match mode {
        "slow" => write_slowly(connection, len)?,
        "reset" => {
            write_stream(&mut connection, len / 2)?;
            // Time 0: close() sends RST (MP_FASTCLOSE) instead of FIN.
            set_socket_linger(connection, Some(Duration::ZERO))?;
            return Ok(false);
        }
        _ => write_stream(&mut connection, len)?,
    }
    Ok(true)
}

fn write_slowly(mut connection: &TcpStream, len: u64) -> io::Result<()> {
    let mut bytes = vec![0; len as usize];
    stream::fill(0, &mut bytes);
    for piece in bytes.chunks(len.div_ceil(SLOW_PIECES).max(1) as usize) {
        connection.write_all(piece)?;
        thread::sleep(SLOW_PAUSE);
    }
    Ok(())
}

fn write_response(mut connection: &TcpStream, status: &str, head: &Head, body: &[u8]) -> io::Result<()> {
    let mut response = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    if head.method != "HEAD" {
        response.extend_from_slice(body);
    }
    connection.write_all(&response)
}

/// Reads the request's body; the report says whether all of it came.
fn read_body(input: &mut impl BufRead, head: &Head) -> Report {
    let mut meter = Meter::new();
    let result = match head.chunked {
        false => read_exactly(input, head.content_length, &mut meter),
        true => read_chunks(input, &mut meter),
    };
    meter.report(result.err())
}

fn read_exactly(input: &mut impl BufRead, mut left: u64, meter: &mut Meter) -> io::Result<()> {
    while left > 0 {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        meter.add(&buffer[..count]);
        input.consume(count);
        left -= count as u64;
    }
    Ok(())
}

/// RFC 9112 section 7.1; trailers are skipped.
fn read_chunks(input: &mut impl BufRead, meter: &mut Meter) -> io::Result<()> {
    loop {
        let line = read_line(input)?;
        let size = line.split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        read_exactly(input, size, meter)?;
        if size == 0 {
            while !read_line(input)?.is_empty() {}
            return Ok(());
        }
        read_line(input)?;
    }
}

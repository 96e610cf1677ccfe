//! The peers: kernel sockets, TCP or MPTCP, each told its congestion control. One thread a connection; none of them is a benchmark's limit
//! below some Gbit/s.

pub mod bytes;
pub mod client;
pub mod http;
pub mod https;
pub mod load;
pub mod meter;
mod socket;

use crate::lab::Transport;
use lexopt::{Arg, ValueExt};
use std::io;

/// The command line of a peer.
pub struct Options {
    transport: Transport,
    congestion: Option<String>,
    port: u16,
    bytes: u64,
    positional: Vec<String>,
}

impl Options {
    /// Reads what follows the subcommand.
    pub fn parse(arguments: impl Iterator<Item = String>) -> io::Result<Options> {
        Options::read(arguments).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))
    }

    fn read(arguments: impl Iterator<Item = String>) -> Result<Options, lexopt::Error> {
        let mut options = Options {
            transport: Transport::Tcp,
            congestion: None,
            port: 0,
            bytes: 0,
            positional: Vec::new(),
        };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("transport") => {
                    let name = parser.value()?.string()?;
                    let known = [Transport::Tcp, Transport::Mptcp]
                        .into_iter()
                        .find(|t| t.name() == name);
                    options.transport = known.ok_or(format!("transport {name} is neither tcp nor mptcp"))?;
                }
                Arg::Long("congestion") => options.congestion = Some(parser.value()?.string()?),
                Arg::Long("port") => options.port = parser.value()?.parse()?,
                Arg::Long("bytes") => options.bytes = parser.value()?.parse()?,
                Arg::Value(value) => options.positional.push(value.string()?),
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }

    /// The `index`th argument that is not an option.
    fn positional(&self, index: usize) -> io::Result<&str> {
        let found = self.positional.get(index).map(String::as_str);
        found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an argument is missing"))
    }
}

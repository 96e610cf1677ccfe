//! Listeners and connections with a chosen transport and congestion control.

use super::meter::print_line;
use super::Options;
use crate::lab::Transport;
use rustix::net::{bind, connect, ipproto, listen, socket_with, sockopt, AddressFamily, SocketFlags, SocketType};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;

fn open(options: &Options, family: AddressFamily) -> io::Result<OwnedFd> {
    let protocol = match options.transport {
        Transport::Mptcp => ipproto::MPTCP,
        Transport::Tcp => ipproto::TCP,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(protocol))?;
    if let Some(name) = &options.congestion {
        sockopt::set_tcp_congestion(&socket, name)?;
    }
    Ok(socket)
}

/// A connection to `server`.
pub fn connect_to(options: &Options, server: SocketAddr) -> io::Result<TcpStream> {
    let family = if server.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = open(options, family)?;
    connect(&socket, &server)?;
    Ok(TcpStream::from(socket))
}

fn listener(options: &Options, address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = open(options, family)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, 1024)?;
    Ok(TcpListener::from(socket))
}

/// Listens on all addresses, one listener a family as most servers do, prints `{"port":N}` and calls `serve` on a thread a connection.
pub fn accept_for_ever(options: &Options, serve: impl Fn(TcpStream) + Clone + Send + 'static) -> io::Result<()> {
    let v4 = listener(options, SocketAddr::from((Ipv4Addr::UNSPECIFIED, options.port)))?;
    let port = v4.local_addr()?.port();
    let v6 = listener(options, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    print_line(&serde_json::json!({ "port": port }))?;
    let other = serve.clone();
    thread::spawn(move || accept_on(v6, other));
    accept_on(v4, serve)
}

fn accept_on(listener: TcpListener, serve: impl Fn(TcpStream) + Clone + Send + 'static) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((connection, _)) => {
                let serve = serve.clone();
                thread::Builder::new()
                    .stack_size(256 << 10)
                    .spawn(move || serve(connection))?;
            }
            // That connection was gone before it was accepted; the listener is fine.
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
}

//! The kernel's TCP as the network side, over loopback.

use super::client::*;
use mptcp::control::{believes, channel, Bypass, Phase, Reply, Request, MESSAGE_MAX};
use rustix::net::{shutdown, socket_with, sockopt, AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

#[test]
fn bytes_and_half_closes_go_both_ways() {
    let engine = Engine::start();
    let (listener, address) = listener();
    let mut program = engine.connect(address);
    let mut peer = accept(&listener);
    let data = pattern(3 << 20);

    let (mut writer, expected) = (program.end.try_clone().unwrap(), data.clone());
    let sender = thread::spawn(move || {
        writer.write_all(&expected).unwrap();
        shutdown(&writer, Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    sender.join().unwrap();
    assert!(got == data);

    let (mut peer, expected) = (peer, data.clone());
    let sender = thread::spawn(move || peer.write_all(&expected).map(|()| drop(peer)));
    got.clear();
    program.end.read_to_end(&mut got).unwrap();
    sender.join().unwrap().unwrap();
    assert!(got == data);
    wait_until("both ends are over", || engine.phase(program.cookie) == Phase::Gone);
    assert_eq!(program.end.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn the_shadow_is_named_after_the_first_subflow() {
    let engine = Engine::start();
    let (listener, address) = listener();
    let program = engine.connect(address);
    let peer = accept(&listener);
    let name = program.name();
    assert_eq!((name.engine, name.remote), (engine.id, address));
    assert_eq!(name.local, peer.peer_addr().unwrap());
    wait_until("it is established", || {
        engine.phase(program.cookie) == Phase::Established
    });
    let status = engine.status();
    assert_eq!(status.connections.len(), 1);
    assert_eq!(
        (status.connections[0].local, status.connections[0].remote),
        (name.local, address)
    );
    assert_eq!(
        (status.connections[0].program.as_str(), status.connections[0].pid),
        ("test", std::process::id())
    );
}

#[test]
fn a_refused_port_is_a_reset_whose_errno_the_engine_knows() {
    let engine = Engine::start();
    let (listener, address) = listener();
    drop(listener);
    let mut program = engine.connect(address);
    assert_eq!(
        program.end.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(
        engine.phase(program.cookie),
        Phase::Failed {
            errno: libc::ECONNREFUSED
        }
    );
}

#[test]
fn a_reset_by_the_peer_is_a_reset() {
    let engine = Engine::start();
    let (listener, address) = listener();
    let mut program = engine.connect(address);
    let peer = accept(&listener);
    sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(
        program.end.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(
        engine.phase(program.cookie),
        Phase::Failed {
            errno: libc::ECONNRESET
        }
    );
}

#[test]
fn a_killed_engine_is_a_reset_and_never_an_end_of_file() {
    let mut engine = Engine::start();
    let (listener, address) = listener();
    let mut idle = engine.connect(address);
    let mut idle_peer = accept(&listener);
    let mut busy = engine.connect(address);
    let _busy_peer = accept(&listener);
    idle.end.write_all(b"hello").unwrap();
    idle_peer.read_exact(&mut [0; 5]).unwrap();
    // Fills whatever there is to fill.
    busy.end.set_nonblocking(true).unwrap();
    while busy.end.write(&[0; 65_536]).is_ok() {}
    busy.end.set_nonblocking(false).unwrap();
    engine.kill();
    for program in [&mut idle, &mut busy] {
        assert_eq!(
            program.end.read(&mut [0; 1]).unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    }
}

#[test]
fn a_program_that_exits_after_its_last_write_loses_nothing() {
    let engine = Engine::start();
    let (listener, address) = listener();
    let mut program = engine.connect(address);
    let mut peer = accept(&listener);
    let data = pattern(8 << 20);
    let expected = data.clone();
    let sender = thread::spawn(move || {
        program.end.write_all(&expected).unwrap();
        drop(program);
    });
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    sender.join().unwrap();
    assert!(got == data);
    wait_until("the connection is forgotten", || engine.status().connections.is_empty());
}

#[test]
fn close_with_data_unread_resets_the_peer() {
    let engine = Engine::start();
    let (listener, address) = listener();
    let program = engine.connect(address);
    let mut peer = accept(&listener);
    peer.write_all(b"never read").unwrap();
    wait_until("it lies in the shadow", || {
        rustix::io::ioctl_fionread(&program.end).unwrap() == 10
    });
    drop(program);
    assert_eq!(peer.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_slow_peer_stops_the_program_and_a_slow_program_the_peer() {
    let engine = Engine::start();
    let (listener, address) = listener();
    let mut program = engine.connect(address);
    let mut peer = accept(&listener);
    program.end.set_nonblocking(true).unwrap();
    peer.set_nonblocking(true).unwrap();
    let chunk = [1; 65_536];
    let (mut out, mut back) = (0, 0);
    // Ten refusals in a row, with time for the engine between them, are a standstill.
    let fill = |end: &mut dyn Write, total: &mut usize| {
        let mut refusals = 0;
        while refusals < 10 {
            match end.write(&chunk) {
                Ok(n) => (*total, refusals) = (*total + n, 0),
                Err(_) => (refusals, ()) = (refusals + 1, thread::sleep(STEP)),
            }
            assert!(*total < 64 << 20, "nobody stops the writer");
        }
    };
    fill(&mut program.end, &mut out);
    fill(&mut peer, &mut back);
    program.end.set_nonblocking(false).unwrap();
    peer.set_nonblocking(false).unwrap();
    peer.read_exact(&mut vec![0; out]).unwrap();
    program.end.read_exact(&mut vec![0; back]).unwrap();
}

#[test]
fn what_the_socket_does_not_prove_is_left_to_the_kernel() {
    let engine = Engine::start();
    let (listener, address) = listener();
    let udp = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
    assert_eq!(engine.refusal(address, &udp), Bypass::NotTcp);
    let file = OwnedFd::from(File::open("/dev/null").unwrap());
    assert_eq!(engine.refusal(address, &file), Bypass::Unproven);
    let connected = OwnedFd::from(TcpStream::connect(address).unwrap());
    assert_eq!(engine.refusal(address, &connected), Bypass::NotFresh);
    assert_eq!(engine.refusal(address, &OwnedFd::from(listener)), Bypass::NotFresh);
    assert_eq!(
        engine.refusal("[::1]:9".parse().unwrap(), &tcp_socket(address)),
        Bypass::OddAddress
    );
    let no_socket = |reply: Reply<'_>, _| matches!(reply, Reply::Bypass(Bypass::Unproven));
    assert!(engine.call(&connect_request(address, b""), None, no_socket));
    let status = engine.status();
    assert_eq!(
        (status.engine.connects, status.engine.bypassed, status.bypasses.len()),
        (6, 6, 6)
    );
}

#[test]
fn options_are_the_kernels() {
    let engine = Engine::start();
    let (listener, address) = listener();
    let program = engine.connect(address);
    let _peer = accept(&listener);
    let cookie = program.cookie;
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
    let set = Request::SetOption { cookie, level, name };
    let judge = tcp_socket(address);
    sockopt::set_tcp_nodelay(&judge, true).unwrap();
    engine.call(&set, Some(&judge), |reply, _| assert_eq!(reply, Reply::Done));
    let get = Request::GetOption {
        cookie,
        level,
        name,
        room: 4,
    };
    engine.call(&get, None, |reply, _| {
        assert_eq!(reply, Reply::Value(&1i32.to_ne_bytes()))
    });
    engine.call(&set, None, |reply, _| assert_eq!(reply, Reply::Error(libc::EBADMSG)));
    let nobody = Request::GetOption {
        cookie: !cookie,
        level,
        name,
        room: 4,
    };
    engine.call(&nobody, None, |reply, _| {
        assert_eq!(reply, Reply::Error(libc::ENOTCONN))
    });
}

#[test]
fn a_socket_of_another_network_namespace_proves_nothing() {
    let engine = Engine::start();
    let (listener, address) = listener();
    let program = engine.connect(address);
    let _peer = accept(&listener);
    let foreign = thread::spawn(move || {
        // SAFETY: moves this thread alone, which ends here.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
        let socket = tcp_socket(address);
        let mark = 7u32;
        // SAFETY: the kernel reads the four bytes of `mark`.
        let set = unsafe {
            let value = (&raw const mark).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MARK, value, 4)
        };
        assert_eq!(set, 0);
        socket
    });
    let foreign = foreign.join().unwrap();
    let set = Request::SetOption {
        cookie: program.cookie,
        level: libc::SOL_SOCKET,
        name: libc::SO_MARK,
    };
    engine.call(&set, Some(&foreign), |reply, _| {
        assert_eq!(reply, Reply::Error(libc::EPERM))
    });
    assert_eq!(engine.refusal(address, &foreign), Bypass::Unproven);
}

#[test]
fn abort_resets_the_peer_and_gives_a_fresh_socket_like_the_old_one() {
    let engine = Engine::start();
    let (listener, address) = listener();
    let socket = tcp_socket(address);
    sockopt::set_tcp_nodelay(&socket, true).unwrap();
    let program = engine.connect_with(address, socket);
    let mut peer = accept(&listener);
    wait_until("it is established", || {
        engine.phase(program.cookie) == Phase::Established
    });
    let abort = Request::Abort { cookie: program.cookie };
    let disconnect = |reply: Reply<'_>, fd: Option<OwnedFd>| {
        assert_eq!(reply, Reply::Done);
        fd.expect("a socket comes with it")
    };
    let fresh = engine.call(&abort, None, disconnect);
    assert_eq!(peer.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(engine.phase(program.cookie), Phase::Gone);
    assert!(sockopt::tcp_nodelay(&fresh).unwrap());
    rustix::net::connect(&fresh, &address).unwrap();
    // Once more, for a program that tries again after a connection that failed.
    engine.call(&abort, None, disconnect);
}

#[test]
fn wait_is_answered_when_the_handshake_is_over() {
    let engine = Engine::start();
    // A listener whose backlog is full answers no SYN.
    let full = tcp_socket("127.0.0.1:0".parse().unwrap());
    rustix::net::bind(&full, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let full = TcpListener::from(full);
    let address = full.local_addr().unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let program = engine.connect(address);
    let wait = Request::Wait { cookie: program.cookie };
    let channel = channel::submit(engine.id, believes, &wait, None).unwrap();
    let gone = channel::submit(engine.id, believes, &wait, None).unwrap();
    drop(gone);
    assert_eq!(engine.phase(program.cookie), Phase::Connecting);
    // Longer than a silent client may hold its place.
    thread::sleep(Duration::from_millis(2200));
    let early = rustix::net::recv(&channel, &mut [0; 1], RecvFlags::DONTWAIT | RecvFlags::PEEK);
    assert_eq!(early, Err(rustix::io::Errno::AGAIN));
    drop(accept(&full));
    rustix::net::sockopt::set_socket_timeout(&channel, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
    let mut buf = [0; MESSAGE_MAX];
    match channel::answer(&channel, &mut buf).unwrap().0 {
        Reply::Phase(report) => assert_eq!(report.phase, Phase::Established),
        other => panic!("{other:?}"),
    }
    // Where nothing is awaited the answer comes at once.
    engine.call(&wait, None, |reply, _| {
        assert!(matches!(reply, Reply::Phase(_)), "{reply:?}")
    });
}

#[test]
fn silent_and_senseless_clients_hold_nothing_up() {
    let engine = Engine::start();
    let silent: Vec<OwnedFd> = (0..400).map(|_| channel::open(engine.id, believes).unwrap()).collect();
    for (i, fd) in silent.iter().enumerate().take(40) {
        // The oldest were sent away already.
        let _ = channel::send(fd, &pattern(i * 50), None);
    }
    assert_eq!(engine.status().connections.len(), 0);
    for fd in &silent {
        rustix::io::ioctl_fionbio(fd, true).unwrap();
    }
    wait_until("the silent ones are sent away", || {
        let mut buf = [0; MESSAGE_MAX];
        silent
            .iter()
            .all(|fd| !matches!(channel::recv(fd, &mut buf), Err(rustix::io::Errno::AGAIN)))
    });
}

#[test]
fn an_idle_engine_goes_and_a_busy_one_stays() {
    let mut engine = Engine::start_idle(1000);
    let (listener, address) = listener();
    let program = engine.connect(address);
    let peer = accept(&listener);
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(engine.phase(program.cookie), Phase::Established);
    drop((program, peer));
    assert!(engine.child.wait().unwrap().success());
    assert_eq!(
        channel::open(engine.id, believes).unwrap_err(),
        channel::CallError::NoEngine
    );
}

#[test]
fn a_request_at_the_moment_of_leaving_is_served_or_refused_and_never_dropped() {
    let mut left = 0;
    for round in 0..20 {
        let mut engine = Engine::spawn(Engine::new_id(), 20);
        // Pauses around the 20 ms after which it goes.
        let pause = Duration::from_millis(12 + 2 * round);
        for _ in 0..20 {
            let query = Request::Query { cookie: 0 };
            match channel::call(engine.id, believes, &query, None, &mut [0; MESSAGE_MAX]).map(|_| ()) {
                Ok(()) => {}
                // Not there yet, or gone.
                Err(channel::CallError::NoEngine) => {
                    if let Some(status) = engine.child.try_wait().unwrap() {
                        assert!(status.success());
                        left += 1;
                        break;
                    }
                }
                Err(error) => panic!("{error:?}"),
            }
            thread::sleep(pause);
        }
        engine.kill();
    }
    assert!(left > 0, "no engine has left: nothing was tested");
}

#[test]
fn the_loser_of_a_race_goes_quietly() {
    let engine = Engine::start();
    let mut second = Engine::spawn(engine.id, 60_000);
    assert!(second.child.wait().unwrap().success());
    engine.status();
}

//! An engine in a process of its own, and a program that speaks the control protocol.

use mptcp::control::shadow::ShadowName;
use mptcp::control::{
    believes, channel, Bypass, Cgroup, Connect, EngineId, Phase, Privileges, Reply, Request, MESSAGE_MAX,
};
use mptcp::engine::status::Status;
use rustix::net::{socket_with, sockopt, AddressFamily, SocketFlags, SocketType};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Longer than anything here takes; only a broken engine makes a test wait for it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two looks.
pub const STEP: Duration = Duration::from_millis(5);

/// The engine's process; killed when dropped.
pub struct Engine {
    pub id: EngineId,
    pub child: Child,
    /// What programs send as their environment.
    pub settings: &'static [u8],
}

impl Engine {
    pub fn new_id() -> EngineId {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let cgroup = SERIAL.fetch_add(1, Ordering::Relaxed);
        EngineId::new(
            0,
            Cgroup {
                user_namespace: u64::from(std::process::id()),
                cgroup,
            },
            Privileges::NONE,
        )
    }

    pub fn spawn(id: EngineId, idle_ms: u64) -> Engine {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "engine_process", "--nocapture"])
            .env("MPTCP_TEST_ENGINE", id.to_string())
            .env("MPTCP_IDLE_MS", idle_ms.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Engine {
            id,
            child,
            settings: b"MPTCP_LINK=kernel\0",
        }
    }

    pub fn start() -> Engine {
        Engine::start_idle(60_000)
    }

    pub fn start_idle(idle_ms: u64) -> Engine {
        let engine = Engine::spawn(Engine::new_id(), idle_ms);
        wait_until("the engine listens", || channel::open(engine.id, believes).is_ok());
        engine
    }

    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn call<T>(
        &self,
        request: &Request<'_>,
        fd: Option<&OwnedFd>,
        then: impl FnOnce(Reply<'_>, Option<OwnedFd>) -> T,
    ) -> T {
        let mut buf = [0; MESSAGE_MAX];
        let (reply, fd) = channel::call(self.id, believes, request, fd.map(|fd| fd.as_fd()), &mut buf).unwrap();
        then(reply, fd)
    }

    pub fn connect(&self, remote: SocketAddr) -> Program {
        self.connect_with(remote, tcp_socket(remote))
    }

    /// The shim would put the shadow in the socket's place: it is gone when this returns.
    pub fn connect_with(&self, remote: SocketAddr, socket: OwnedFd) -> Program {
        self.call(
            &connect_request(remote, self.settings),
            Some(&socket),
            |reply, fd| match reply {
                Reply::Shadow { cookie } => {
                    let end = UnixStream::from(fd.expect("a descriptor comes with it"));
                    assert_eq!(sockopt::socket_cookie(&end), Ok(cookie));
                    end.set_read_timeout(Some(PATIENCE)).unwrap();
                    end.set_write_timeout(Some(PATIENCE)).unwrap();
                    Program { end, cookie }
                }
                other => panic!("{other:?}"),
            },
        )
    }

    pub fn refusal(&self, remote: SocketAddr, socket: &OwnedFd) -> Bypass {
        self.call(
            &connect_request(remote, self.settings),
            Some(socket),
            |reply, _| match reply {
                Reply::Bypass(reason) => reason,
                other => panic!("{other:?}"),
            },
        )
    }

    pub fn phase(&self, cookie: u64) -> Phase {
        self.call(&Request::Query { cookie }, None, |reply, _| match reply {
            Reply::Phase(report) => report.phase,
            other => panic!("{other:?}"),
        })
    }

    pub fn status(&self) -> Status {
        let fd = channel::open(self.id, believes).unwrap();
        let mut buf = [0; MESSAGE_MAX];
        let len = Request::Status.encode(&mut buf).unwrap();
        channel::send(&fd, &buf[..len], None).unwrap();
        let mut text = Vec::new();
        let mut chunk = vec![0; mptcp::control::STATUS_CHUNK_MAX];
        while let Ok((n @ 1.., _)) = channel::recv(&fd, &mut chunk) {
            text.extend_from_slice(&chunk[..n]);
        }
        serde_json::from_slice(&text).unwrap()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

pub struct Program {
    pub end: UnixStream,
    pub cookie: u64,
}

impl Program {
    /// What the shadow's name says.
    pub fn name(&self) -> ShadowName {
        let name = self.end.peer_addr().unwrap();
        ShadowName::decode(name.as_abstract_name().unwrap()).unwrap()
    }
}

pub fn connect_request(remote: SocketAddr, settings: &[u8]) -> Request<'_> {
    Request::Connect(Connect {
        remote,
        nonblocking: true,
        pid: 1,
        program: b"test",
        settings,
    })
}

pub fn tcp_socket(remote: SocketAddr) -> OwnedFd {
    let family = if remote.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub fn accept(listener: &TcpListener) -> TcpStream {
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    peer
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let steps = PATIENCE.as_millis() / STEP.as_millis();
    for _ in 0..steps {
        if done() {
            return;
        }
        thread::sleep(STEP);
    }
    panic!("waited in vain until {what}");
}

pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

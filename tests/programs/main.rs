//! Programs as Debian has them: each does the same without the library, under it with a peer on the kernel's MPTCP, and under it with a peer on plain TCP.
//!
//! One file is one program, or a few of a kind; `run.rs` compares the three runs. Tests that are `ignored` need packages which nothing else
//! here does: `make programs` names or installs them, and runs all. Needs root and the programs of `tests/requirements.sh`.

#[path = "../lab/mod.rs"]
mod lab;

mod apache;
mod ftp;
mod haproxy;
mod inetd;
mod iperf;
mod java;
mod netcat;
mod nginx;
mod node;
mod postgres;
mod python;
mod redis;
mod rsync;
mod run;
mod ssh;
mod wget;
mod wrk;

//! An HTTPS server with HTTP/2: Debian's nginx, its files in a mount namespace of this process, so that nothing of them is left behind.

use super::bytes::write_stream;
use super::meter::print_line;
use super::Options;
use crate::lab::{clock, require_program, Transport};
use crate::packet_socket::check;
use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::ptr;
use std::thread;
use std::time::Duration;

/// Hidden under a tmpfs of our own.
const DIRECTORY: &str = "/run";

/// Starts nginx, prints `{"port":N}` when it accepts, and stays with it.
pub fn serve(options: &Options) -> io::Result<()> {
    let nginx = require_program("nginx", "nginx-light").map_err(io::Error::other)?;
    require_program("openssl", "openssl").map_err(io::Error::other)?;
    let mut command = match options.transport {
        Transport::Tcp => Command::new(nginx),
        Transport::Mptcp => {
            let mptcpize = require_program("mptcpize", "mptcpize").map_err(io::Error::other)?;
            let mut command = Command::new(mptcpize);
            command.arg("run").arg(nginx);
            command
        }
    };
    hide_run_directory()?;
    make_certificate()?;
    let port = if options.port == 0 { 443 } else { options.port };
    fs::write(format!("{DIRECTORY}/nginx.conf"), configuration(port))?;
    write_stream(
        &mut File::create(format!("{DIRECTORY}/{}", options.bytes))?,
        options.bytes,
    )?;
    command
        .args(["-c", &format!("{DIRECTORY}/nginx.conf"), "-e", "stderr"])
        .stdin(Stdio::null());
    // Its standard output is our reports' pipe, which must end with us.
    command.stdout(Stdio::null());
    // SAFETY: prctl is a plain system call, safe between fork and exec.
    unsafe { command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)).map(|_| ())) };
    let mut child = command.spawn()?;
    let deadline = clock::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if child.try_wait()?.is_some() || clock::now() > deadline {
            // The child may be gone already.
            let _ = child.kill();
            return Err(io::Error::other("nginx does not start"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    print_line(&serde_json::json!({ "port": port }))?;
    let status = child.wait()?;
    Err(io::Error::other(format!("nginx ended: {status}")))
}

/// Mounts a tmpfs where only this process and its children see it.
fn hide_run_directory() -> io::Result<()> {
    let no_change = ptr::null();
    // SAFETY: plain system calls on constant strings; this process has one thread.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(
            ptr::null(),
            c"/".as_ptr(),
            no_change,
            libc::MS_REC | libc::MS_PRIVATE,
            ptr::null(),
        ))?;
        check(libc::mount(
            c"lab".as_ptr(),
            c"/run".as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            ptr::null(),
        ))?;
    }
    Ok(())
}

fn make_certificate() -> io::Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]);
    openssl.args([
        "-days",
        "2",
        "-subj",
        "/CN=lab",
        "-keyout",
        "key.pem",
        "-out",
        "certificate.pem",
    ]);
    let output = openssl.current_dir(DIRECTORY).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&output.stderr).replace('\n', " "),
    ))
}

/// One process in the foreground, every file in `DIRECTORY`.
fn configuration(port: u16) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary
        .map(|name| format!("{name}_temp_path {DIRECTORY}/{name};\n"))
        .concat();
    format!(
        "daemon off; master_process off; user root; pid {DIRECTORY}/nginx.pid;
events {{ }}
http {{
{temporary}access_log off;
server {{
listen 0.0.0.0:{port} ssl http2; listen [::]:{port} ssl http2 ipv6only=on;
ssl_certificate {DIRECTORY}/certificate.pem; ssl_certificate_key {DIRECTORY}/key.pem;
root {DIRECTORY};
}}
}}
"
    )
}

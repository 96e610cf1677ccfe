//! One download by curl in a lab of its own: what the demo shows and the bench measures.

use crate::lab::{server_address, stream, Lab, LabSpec, Report, Transport, Wire};
use crate::peer::meter::Meter;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// What carries curl's connection.
#[derive(Clone, PartialEq, Eq)]
pub enum Carrier {
    /// The kernel's TCP: curl as it is.
    Tcp,
    /// The kernel's MPTCP, by mptcpize, with every address of the client configured as an endpoint.
    KernelMptcp,
    /// This library.
    Preload(PathBuf),
}

/// A download that is to be made.
pub struct Plan {
    pub carrier: Carrier,
    pub wires: Vec<Wire>,
    pub bytes: u64,
}

/// What came of it; every byte has been compared.
pub struct Outcome {
    pub report: Report,
    /// Bytes that each wire delivered to the client, headers included.
    pub wire_bytes: Vec<u64>,
    /// The kernels' counters, by nstat's names.
    pub client: BTreeMap<String, u64>,
    pub server: BTreeMap<String, u64>,
}

impl Outcome {
    /// Payload per second of the whole transfer, handshake included.
    pub fn mbit(&self) -> f64 {
        self.report.bytes as f64 * 8e-6 / self.report.seconds
    }
}

/// A transfer under way, for whoever watches it.
pub struct Running<'a> {
    pub lab: &'a Lab,
    received: &'a AtomicU64,
    over: &'a AtomicBool,
}

impl Running<'_> {
    /// Bytes that curl has given so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// curl has reached the end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// The address that is fetched.
pub fn url(bytes: u64) -> String {
    format!("http://{}/{bytes}", server_address(0, false))
}

/// Makes a lab, runs the download in it while `watch` looks on from a thread of its own, and compares the bytes.
///
/// # Errors
/// The lab, curl, or `watch` failed, or a byte is wrong.
pub fn transfer(plan: &Plan, watch: impl FnOnce(&Running<'_>) -> io::Result<()> + Send) -> io::Result<Outcome> {
    let lab = Lab::new(LabSpec::new(plan.wires.clone()))?;
    let _http = lab.server().http_server(Transport::Mptcp, &["--port", "80"])?;
    let curl = command(&lab, plan)?;
    let (received, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let running = Running {
        lab: &lab,
        received: &received,
        over: &over,
    };
    let report = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&running));
        let report = download(curl, &received);
        over.store(true, Ordering::Relaxed);
        watcher.join().map_err(|_| io::Error::other("the watcher panicked"))??;
        report
    })?;
    if (report.bytes, &report.sha256) != (plan.bytes, &stream::sha256(plan.bytes)) {
        return Err(io::Error::other(format!("the file came damaged: {report:?}")));
    }
    let wire_bytes = (0..plan.wires.len()).map(|wire| delivered(&lab, wire));
    Ok(Outcome {
        report,
        wire_bytes: wire_bytes.collect::<io::Result<_>>()?,
        client: lab.client().nstat()?,
        server: lab.server().nstat()?,
    })
}

/// Bytes that a wire has delivered to the client.
pub fn delivered(lab: &Lab, wire: usize) -> io::Result<u64> {
    Ok(lab.wire(wire).stats()?.to_client.bytes_out)
}

fn command(lab: &Lab, plan: &Plan) -> io::Result<Command> {
    let mut curl = match &plan.carrier {
        Carrier::Tcp => lab.client().command("curl"),
        Carrier::KernelMptcp => {
            lab.kernel_paths()?;
            lab.client().mptcpize("curl")?
        }
        Carrier::Preload(library) => {
            let mut curl = lab.client().command("curl");
            curl.env("LD_PRELOAD", library);
            curl
        }
    };
    curl.args(["--silent", "--show-error", "--fail", &url(plan.bytes)]);
    Ok(curl)
}

/// Runs curl and reads what it writes to its standard output.
fn download(mut curl: Command, received: &AtomicU64) -> io::Result<Report> {
    let mut meter = Meter::new();
    let mut child = curl.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
    let mut buffer = vec![0; 65_536];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                meter.add(&buffer[..count]);
                received.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let report = meter.report(None);
    let status = child.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!(
            "curl ended with {status} after {} bytes",
            report.bytes
        )));
    }
    Ok(report)
}

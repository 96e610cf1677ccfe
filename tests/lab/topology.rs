//! The hosts' interfaces, addresses and routes. By `ip`, in batches; offloads and carrier by ioctl.
//!
//! Each wire is a point-to-point network of its own, a /25 and a /64, with the server as the client's next hop. The client has a default route
//! per interface, so any address of the server is reachable by any wire, and the server answers by the wire that the client's address is on.

use crate::lab::namespace::Namespace;
use crate::lab::require_program;
use crate::lab::spec::{client_address, far_address, interface, nat_address, server_address, LabSpec};
use crate::packet_socket::check;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::mem::zeroed;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The name of a wire's end in the emulator's namespace: at the client or at the server.
pub fn end_name(wire: usize, at_client: bool) -> String {
    format!("{}{wire}", if at_client { 'c' } else { 's' })
}

/// Makes everything; the caller's thread is in the emulator's namespace.
pub fn build(spec: &LabSpec, client: &Arc<Namespace>, server: &Arc<Namespace>) -> io::Result<()> {
    require_program("ip", "iproute2").map_err(io::Error::other)?;
    set_sysctls(&[
        ("net/ipv6/conf/all/disable_ipv6", "1"),
        ("net/ipv6/conf/default/disable_ipv6", "1"),
    ])?;
    for host in [client, server] {
        host.run(|| set_sysctls(HOST_SYSCTLS))??;
    }
    ip_batch(Command::new("ip"), &wires_text(spec, client, server))?;
    ip_batch(client.command("ip"), &client_text(spec))?;
    ip_batch(server.command("ip"), &server_text(spec))?;
    for (wire, _) in spec.wires.iter().enumerate().filter(|(_, wire)| !wire.bare) {
        for host in [client, server] {
            host.run(|| offloads_off(&interface(wire)))??;
        }
        offloads_off(&end_name(wire, true))?;
        offloads_off(&end_name(wire, false))?;
    }
    Ok(())
}

/// Multihomed hosts without surprises: no reverse path filter, no router discovery, no metrics kept from one connection to the next, and no
/// hour without MPTCP after a lost SYN.
const HOST_SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv4/tcp_no_metrics_save", "1"),
    ("net/mptcp/enabled", "1"),
    ("net/mptcp/blackhole_timeout", "0"),
];

/// Writes settings of the calling thread's namespace; one that this kernel does not have is passed over.
fn set_sysctls(settings: &[(&str, &str)]) -> io::Result<()> {
    for (name, value) in settings {
        match fs::write(format!("/proc/sys/{name}"), value) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(io::Error::other(format!("sysctl {name}={value}: {e}")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn namespace_path(namespace: &Namespace) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.net.as_raw_fd())
}

fn wires_text(spec: &LabSpec, client: &Namespace, server: &Namespace) -> String {
    let (client, server) = (namespace_path(client), namespace_path(server));
    let mut text = String::new();
    for (i, wire) in spec.wires.iter().enumerate() {
        let host_end = interface(i);
        if wire.bare {
            let _ = writeln!(
                text,
                "link add {host_end} netns {client} type veth peer name {host_end} netns {server}"
            );
            continue;
        }
        for (at_client, host) in [(true, &client), (false, &server)] {
            let end = end_name(i, at_client);
            let _ = writeln!(text, "link add {end} type veth peer name {host_end} netns {host}");
            let _ = writeln!(text, "link set {end} up");
        }
    }
    text
}

/// Locally administered, and known beforehand: the server's entry for the translated address needs it.
fn client_mac(wire: usize) -> String {
    format!("02:00:5e:00:53:{wire:02x}")
}

fn congestion(spec: &LabSpec) -> String {
    spec.congestion
        .as_ref()
        .map_or(String::new(), |name| format!(" congctl {name}"))
}

/// The network that holds `address`.
fn prefix(wire: usize, v6: bool) -> String {
    let base = client_address(wire, v6).to_string();
    let base = base.strip_suffix('1').expect("the client's address ends in 1");
    if v6 {
        format!("{base}/64")
    } else {
        format!("{base}0/25")
    }
}

/// As many subflows and announced addresses as the kernel can; nothing where it has no MPTCP.
fn mptcp_limits() -> &'static str {
    if fs::exists("/proc/sys/net/mptcp").unwrap_or(false) {
        "mptcp limits set subflow 8 add_addr_accepted 8\n"
    } else {
        ""
    }
}

fn client_text(spec: &LabSpec) -> String {
    let mut text = format!("link set lo up\n{}", mptcp_limits());
    for wire in 0..spec.wires.len() {
        let dev = interface(wire);
        let _ = writeln!(text, "link set {dev} address {}\nlink set {dev} up", client_mac(wire));
        for v6 in [false, true] {
            host_address(&mut text, spec, wire, v6, client_address(wire, v6));
            let gateway = server_address(wire, v6);
            let metric = 100 + wire;
            let _ = writeln!(
                text,
                "route add default via {gateway} dev {dev} metric {metric}{}",
                congestion(spec)
            );
        }
    }
    text
}

fn server_text(spec: &LabSpec) -> String {
    let mut text = format!(
        "link set lo up\n{}addr add {}/32 dev lo\n",
        mptcp_limits(),
        far_address(false)
    );
    let _ = writeln!(text, "addr add {}/128 dev lo nodad", far_address(true));
    for wire in 0..spec.wires.len() {
        let dev = interface(wire);
        let _ = writeln!(text, "link set {dev} up");
        for v6 in [false, true] {
            host_address(&mut text, spec, wire, v6, server_address(wire, v6));
            let outside = nat_address(wire, v6);
            let _ = writeln!(
                text,
                "neigh replace {outside} lladdr {} nud permanent dev {dev}",
                client_mac(wire)
            );
        }
    }
    text
}

fn host_address(text: &mut String, spec: &LabSpec, wire: usize, v6: bool, address: std::net::IpAddr) {
    let dev = interface(wire);
    let length = if v6 { "64 nodad" } else { "25" };
    let _ = writeln!(text, "addr add {address}/{length} dev {dev} noprefixroute");
    let _ = writeln!(
        text,
        "route add {} dev {dev} src {address}{}",
        prefix(wire, v6),
        congestion(spec)
    );
}

/// Runs `ip -batch` on the text.
fn ip_batch(mut ip: Command, text: &str) -> io::Result<()> {
    let mut child = ip
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
    Err(io::Error::other(format!("ip -batch: {why}")))
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Receive and transmit checksums, TSO, GRO: ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGRO. GSO stays: the kernel then cuts before the device.
const OFFLOADS: [u32; 3] = [0x17, 0x1f, 0x2c];

/// What crosses a wire must look as on a cable: at most MTU long, checksums whole.
fn offloads_off(name: &str) -> io::Result<()> {
    let socket = control_socket()?;
    for command in OFFLOADS {
        let mut value = EthtoolValue { command, data: 0 };
        let mut request = interface_request(name);
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the request names an interface and points to a live ethtool_value, as SIOCETHTOOL wants.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) })
            .map_err(|e| io::Error::other(format!("ethtool command {command:#x} on {name}: {e}")))?;
    }
    Ok(())
}

/// Takes an interface of the calling thread's namespace up or down; its veth peer loses or gets the carrier.
pub fn set_up(name: &str, up: bool) -> io::Result<()> {
    let socket = control_socket()?;
    let mut request = interface_request(name);
    // SAFETY: the request names an interface; the kernel fills in the flags.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) })?;
    // SAFETY: SIOCGIFFLAGS has just written this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let bit = libc::IFF_UP as i16;
    request.ifr_ifru.ifru_flags = if up { flags | bit } else { flags & !bit };
    // SAFETY: as above, with the flags to set.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) })?;
    Ok(())
}

fn control_socket() -> io::Result<OwnedFd> {
    // An unbound socket of any kind will do; the address only picks the family.
    Ok(UdpSocket::bind("0.0.0.0:0")?.into())
}

fn interface_request(name: &str) -> libc::ifreq {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request
}

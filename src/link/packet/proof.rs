//! The proof that nothing in this network namespace would treat a segment of the kernel's TCP otherwise than one of an
//! AF_PACKET socket: no netfilter hook, no NAT, no IPsec policy, no traffic control filter, no BPF program on the way, no
//! control group's filter, no security module that labels packets.
//!
//! Each question is answered by the kernel; whatever it does not answer clearly is a doubt, and a doubt is a no. Empty
//! tables are doubts too: who made them will fill them.
//!
//! Not here: XDP programs and shapers without filters, which treat both alike.

use super::super::bpf;
use super::super::netlink::{attributes, u32_at, Message, Netlink};
use super::witness::Witness;
use core::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE.
const NFT_GETTABLE: u16 = 10 << 8 | 1;
/// XFRM_MSG_GETSPDINFO, XFRM_MSG_GETDEFAULT and XFRMA_SPD_INFO of linux/xfrm.h.
const XFRM_GETSPDINFO: u16 = 0x25;
const XFRM_GETDEFAULT: u16 = 0x28;
const XFRMA_SPD_INFO: u16 = 1;
const XFRM_USERPOLICY_BLOCK: u8 = 1;
/// Legacy tables that were made in this namespace, one a line.
const TABLE_LISTS: [&str; 2] = ["ip_tables_names", "arp_tables_names"];
/// Queueing disciplines that take no filter.
const WITHOUT_FILTERS: [&[u8]; 7] = [b"noqueue", b"noop", b"mq", b"pfifo_fast", b"pfifo", b"bfifo", b"fq"];
/// One that takes filters and is many systems' default.
const FQ_CODEL: &[u8] = b"fq_codel";
const TCA_KIND: u16 = 1;
/// `enum bpf_prog_type`, a bit each: SCHED_CLS, SCHED_ACT, LWT_IN, LWT_OUT, LWT_XMIT, LWT_SEG6LOCAL, NETFILTER, and what nobody knows.
const ON_THE_WAY: u64 = 1 << 3 | 1 << 4 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 19 | 1 << 32 | 1 << 63;
/// BPF_PROG_TYPE_CGROUP_SKB, and its attach types for arriving and leaving packets.
const CGROUP_SKB: u64 = 1 << 8;
const CGROUP_ATTACH_TYPES: [u32; 2] = [0, 1];

/// What speaks against the packet link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// Tables of nftables or iptables, or IPVS.
    Netfilter,
    /// IPsec policies.
    Ipsec,
    /// A queueing discipline that may have filters, or filters.
    TrafficControl,
    /// BPF programs of a kind that sees packets.
    Bpf,
    /// A filter of the engine's control group.
    ControlGroup,
    /// A security module that labels packets.
    SecurityModule,
    /// The kernel did not answer: about what, and why.
    Unanswered(&'static str, String),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Netfilter => f.write_str("there are netfilter tables"),
            Doubt::Ipsec => f.write_str("there are IPsec policies"),
            Doubt::TrafficControl => f.write_str("there may be traffic control filters"),
            Doubt::Bpf => f.write_str("there are BPF programs that see packets"),
            Doubt::ControlGroup => f.write_str("the control group filters packets"),
            Doubt::SecurityModule => f.write_str("a security module labels packets"),
            Doubt::Unanswered(what, why) => write!(f, "the kernel does not tell about {what}: {why}"),
        }
    }
}

fn unanswered(what: &'static str) -> impl Fn(io::Error) -> Doubt {
    move |error| Doubt::Unanswered(what, error.to_string())
}

/// The sockets to ask with.
pub(super) struct Proof {
    netfilter: Netlink,
    route: Netlink,
    /// None: the kernel has no IPsec.
    xfrm: Option<Netlink>,
    witness: Witness,
}

impl Proof {
    pub(super) fn new() -> io::Result<Proof> {
        let no_protocol = |e: &io::Error| e.raw_os_error() == Some(libc::EPROTONOSUPPORT);
        Ok(Proof {
            netfilter: Netlink::new(libc::NETLINK_NETFILTER, 0)?,
            route: Netlink::new(libc::NETLINK_ROUTE, 0)?,
            xfrm: match Netlink::new(libc::NETLINK_XFRM, 0) {
                Ok(xfrm) => Some(xfrm),
                Err(e) if no_protocol(&e) && !Path::new("/proc/sys/net/core/xfrm_acq_expires").exists() => None,
                Err(e) => return Err(e),
            },
            witness: Witness::new()?,
        })
    }

    /// Ok when nothing is in the way at this moment.
    pub(super) fn check(&mut self) -> Result<(), Doubt> {
        self.netfilter()?;
        self.ipsec()?;
        self.traffic_control()?;
        self.programs()?;
        security_modules()
    }

    fn netfilter(&mut self) -> Result<(), Doubt> {
        let what = "netfilter tables";
        // struct nfgenmsg: every family.
        let tables = self
            .netfilter
            .dump(NFT_GETTABLE, &[0; 4], |_| Some(()))
            .map_err(unanswered(what))?;
        if !tables.is_empty() {
            return Err(Doubt::Netfilter);
        }
        let proc = Path::new("/proc/thread-self/net");
        if !proc.join("dev").exists() {
            return Err(Doubt::Unanswered(what, "no /proc".into()));
        }
        for list in TABLE_LISTS {
            match fs::read(proc.join(list)) {
                Ok(names) if names.is_empty() => {}
                Ok(_) => return Err(Doubt::Netfilter),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(unanswered(what)(e)),
            }
        }
        match proc.join("ip_vs").exists() {
            true => Err(Doubt::Netfilter),
            false => Ok(()),
        }
    }

    fn ipsec(&mut self) -> Result<(), Doubt> {
        let Some(xfrm) = &mut self.xfrm else { return Ok(()) };
        let what = "IPsec policies";
        // struct xfrmu_spdinfo: policies in, out, forwarded, and those of sockets, of which some kind may be ours to obey.
        let counts = |message: Message<'_>| {
            let (_, info) = attributes(message.body.get(4..)?).find(|&(kind, _)| kind == XFRMA_SPD_INFO)?;
            Some(u32_at(info, 0)? | u32_at(info, 4)?)
        };
        let counts = xfrm.get(XFRM_GETSPDINFO, &[0; 4], counts).map_err(unanswered(what))?;
        match counts[..] {
            [0] => {}
            [] => return Err(Doubt::Unanswered(what, "no answer".into())),
            _ => return Err(Doubt::Ipsec),
        }
        // struct xfrm_userpolicy_default: what happens to packets without a policy, in, forwarded and out.
        let blocks = |message: Message<'_>| Some(message.body.get(..3)?.contains(&XFRM_USERPOLICY_BLOCK));
        match xfrm.get(XFRM_GETDEFAULT, &[0; 4], blocks) {
            Ok(answers) if answers.contains(&true) => Err(Doubt::Ipsec),
            Ok(_) => Ok(()),
            // Linux before 5.15.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            Err(e) => Err(unanswered(what)(e)),
        }
    }

    fn traffic_control(&mut self) -> Result<(), Doubt> {
        let what = "traffic control";
        // struct tcmsg: family, padding, interface, handle, parent, info; then the kind.
        let mut request = [0; 20];
        let filtered = |message: Message<'_>| {
            let (iface, handle) = (u32_at(message.body, 4)?, u32_at(message.body, 8)?);
            let (_, kind) = attributes(message.body.get(20..)?).find(|&(kind, _)| kind == TCA_KIND)?;
            let kind = kind.strip_suffix(&[0]).unwrap_or(kind);
            (!WITHOUT_FILTERS.contains(&kind)).then_some((iface, handle, kind == FQ_CODEL))
        };
        let suspects = self
            .route
            .dump(libc::RTM_GETQDISC, &request, filtered)
            .map_err(unanswered(what))?;
        for (iface, handle, fq_codel) in suspects {
            request[4..8].copy_from_slice(&iface.to_ne_bytes());
            request[12..16].copy_from_slice(&handle.to_ne_bytes());
            let filters = match fq_codel {
                true => self.route.dump(libc::RTM_GETTFILTER, &request, |_| Some(())),
                false => return Err(Doubt::TrafficControl),
            };
            if !filters.map_err(unanswered(what))?.is_empty() {
                return Err(Doubt::TrafficControl);
            }
        }
        Ok(())
    }

    /// No BPF program of this machine can see the segments.
    fn programs(&self) -> Result<(), Doubt> {
        let types = match self.witness.program_types() {
            Ok(types) => types,
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => return Ok(()),
            Err(e) => return Err(unanswered("BPF programs")(e)),
        };
        if types & ON_THE_WAY != 0 {
            return Err(Doubt::Bpf);
        }
        if types & CGROUP_SKB == 0 {
            return Ok(());
        }
        let what = "control groups";
        let directory = own_cgroup().and_then(File::open).map_err(unanswered(what))?;
        for attach_type in CGROUP_ATTACH_TYPES {
            match bpf::attached_to_cgroup(&directory, attach_type) {
                Ok(0) => {}
                Ok(_) => return Err(Doubt::ControlGroup),
                Err(e) => return Err(unanswered(what)(e)),
            }
        }
        Ok(())
    }
}

/// The directory of this process's control group in the unified hierarchy.
fn own_cgroup() -> io::Result<PathBuf> {
    let not_found = || io::Error::from(io::ErrorKind::NotFound);
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let path = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .filter(|path| !path.contains(".."))
        .ok_or_else(not_found)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    mounts
        .lines()
        .find_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            (filesystem.starts_with("cgroup2 ") && root == "/").then(|| Path::new(point).join(&path[1..]))
        })
        .ok_or_else(not_found)
}

/// SELinux and Smack look at packets in hooks of their own.
fn security_modules() -> Result<(), Doubt> {
    if !Path::new("/sys/fs").exists() {
        return Err(Doubt::Unanswered("security modules", "no /sys".into()));
    }
    match ["/sys/fs/selinux", "/sys/fs/smackfs"]
        .iter()
        .any(|path| Path::new(path).exists())
    {
        true => Err(Doubt::SecurityModule),
        false => Ok(()),
    }
}

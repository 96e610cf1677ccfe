//! Receiving: one socket hears IPv4 segments to the admitted ports on all interfaces, merged by GRO as they came, in
//! batches by recvmmsg(2). Fragments are put together by the kernel first.

use super::tx::VNET_LEN;
use crate::link::arrival::Arrival;
use crate::link::filter::Filter;
use crate::link::ports::PortSet;
use crate::link::sys;
use crate::link::{Incoming, LinkStats};
use core::net::Ipv4Addr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Packets in one recvmmsg call.
const BATCH: usize = 32;
/// Bytes for one packet: virtio-net header, Ethernet header, and the longest IP packet.
const SLOT: usize = (1 << 16) + 64;
/// Batches taken before others have their turn.
const ROUNDS: usize = 8;
/// Receive buffer: 64 KB segments count with their bookkeeping.
const BUFFER_BYTES: libc::c_int = 16 << 20;
/// Flags of `struct virtio_net_hdr`: the checksum is the sender's device's to complete, or was verified.
const CHECKSUM_KNOWN: u8 = 1 | 2;
/// PACKET_FANOUT of linux/if_packet.h: a group of one, for the sake of PACKET_FANOUT_FLAG_DEFRAG.
const FANOUT_DEFRAG_UNIQUE: libc::c_int = (0x8000 | 0x2000) << 16;

/// The receiving socket and its buffers. Untouched pages take no memory.
pub(super) struct PacketRx {
    fd: OwnedFd,
    ports: PortSet,
    slots: Box<[u8]>,
    names: Box<[libc::sockaddr_ll]>,
}

impl PacketRx {
    pub(super) fn new(ports: &PortSet) -> io::Result<PacketRx> {
        // Protocol 0 hears nothing; bind() turns it on, behind the filter.
        // PACKET_VNET_HDR is for SOCK_RAW only.
        let fd = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
        sys::set_int(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        sys::set_buffers(&fd, BUFFER_BYTES);
        Filter::packet_ipv4_ports(ports).attach(&fd)?;
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is readable for `len` bytes, and the kernel only reads it.
        let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
        sys::check(result as isize)?;
        sys::set_int(&fd, libc::SOL_PACKET, libc::PACKET_FANOUT, FANOUT_DEFRAG_UNIQUE)?;
        Ok(PacketRx {
            fd,
            ports: ports.clone(),
            slots: vec![0; BATCH * SLOT].into_boxed_slice(),
            names: vec![address; BATCH].into_boxed_slice(),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Hears `ports` from now on.
    pub(super) fn admit(&mut self, ports: &PortSet) -> io::Result<()> {
        if self.ports != *ports {
            self.ports.clone_from(ports);
            Filter::packet_ipv4_ports(ports).attach(&self.fd)?;
        }
        Ok(())
    }

    /// Hands over what has come in. True when everything was taken; false when there may be more.
    pub(super) fn recv(&mut self, stats: &mut LinkStats, sink: &mut dyn FnMut(Incoming<'_>)) -> bool {
        for _ in 0..ROUNDS {
            match self.recv_batch() {
                Ok((lengths, count)) => {
                    for (index, &len) in lengths.iter().take(count).enumerate() {
                        self.deliver(index, len, stats, sink);
                    }
                    if count < BATCH {
                        return true;
                    }
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // ENETDOWN says that an interface went down, once.
                    Some(libc::ENETDOWN) => {}
                    _ => return true,
                },
            }
        }
        false
    }

    /// recvmmsg into the slots: the length of each packet, and how many there are.
    fn recv_batch(&mut self) -> io::Result<([usize; BATCH], usize)> {
        let mut vectors = [libc::iovec {
            iov_base: core::ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        // SAFETY: all-zero is a valid mmsghdr (null pointers with zero lengths).
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { core::mem::zeroed() };
        let slots = self.slots.chunks_exact_mut(SLOT).zip(self.names.iter_mut());
        for (((slot, name), vector), header) in slots.zip(&mut vectors).zip(&mut headers) {
            vector.iov_base = slot.as_mut_ptr().cast();
            vector.iov_len = SLOT;
            header.msg_hdr.msg_name = (name as *mut libc::sockaddr_ll).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as _;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the headers point into `vectors`, the slots and the names, which are not touched before the call
        // returns, and give their lengths.
        let result = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as _,
                0,
                core::ptr::null_mut(),
            )
        };
        let count = sys::check(result as isize)?;
        let mut lengths = [0; BATCH];
        for (len, header) in lengths.iter_mut().zip(&headers) {
            *len = header.msg_len as usize;
        }
        Ok((lengths, count))
    }

    /// Checks one packet and hands its segment over.
    fn deliver(&self, index: usize, len: usize, stats: &mut LinkStats, sink: &mut dyn FnMut(Incoming<'_>)) {
        let (slot, name) = (&self.slots[index * SLOT..][..SLOT], &self.names[index]);
        if name.sll_pkttype != libc::PACKET_HOST {
            return;
        }
        // Tunnels have no link header; what is neither is not understood, and found out by the IP header's checksum.
        let link_header = match name.sll_hatype {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => 14,
            _ => 0,
        };
        let iface = name.sll_ifindex as u32;
        match slot.get(..len).and_then(|frame| parse(frame, link_header, iface)) {
            Some(arrival) => arrival.deliver(stats, sink),
            None => stats.malformed += 1,
        }
    }
}

/// Virtio-net, link and IPv4 headers (RFC 791 section 3.1), the last with its checksum, which the kernel checks behind
/// this socket.
fn parse(frame: &[u8], link_header: usize, iface: u32) -> Option<Arrival<'_>> {
    let checksum_known = frame.first()? & CHECKSUM_KNOWN != 0;
    let ip = frame.get(VNET_LEN + link_header..)?;
    let address = |at: usize| <[u8; 4]>::try_from(ip.get(at..at + 4)?).ok().map(Ipv4Addr::from);
    let header_len = usize::from(ip.first()? & 15) * 4;
    let total_len = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    let mut sum = crate::wire::Checksum::new();
    sum.add(ip.get(..header_len)?);
    if header_len < 20 || ip[0] >> 4 != 4 || sum.finish() != 0 || i32::from(ip[9]) != libc::IPPROTO_TCP {
        return None;
    }
    Some(Arrival {
        src: address(12)?.into(),
        dst: address(16)?.into(),
        iface,
        tcp: ip.get(header_len..total_len)?,
        checksum_known,
    })
}

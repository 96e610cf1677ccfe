//! Answers Picture requests: the structs of Linux's MPTCP options, filled with what the core knows.

use super::connection::{map_like, Backend, Connection};
use super::event_loop::Key;
use super::server::Engine;
use super::tcp_info::{self, ms_ago};
use crate::control::picture::{Picture, SubflowPicture, MPTCP_INFO_LEN, PICTURE_MAX};
use crate::control::Reply;
use crate::mptcp::endpoint::ConnInfo;
use crate::time::Instant;
use rustix::io::Errno;

/// MPTCP_INFO_FLAG_FALLBACK and _REMOTE_KEY_RECEIVED of linux/mptcp.h.
const FLAG_FALLBACK: u32 = 1;
const FLAG_REMOTE_KEY_RECEIVED: u32 = 2;

/// `struct mptcp_info` of linux/mptcp.h (Linux 6.18). Limits that only the kernel's path manager has are 0.
#[repr(C)]
#[derive(Default)]
struct MptcpInfo {
    subflows: u8,
    add_addr_signal: u8,
    add_addr_accepted: u8,
    subflows_max: u8,
    add_addr_signal_max: u8,
    add_addr_accepted_max: u8,
    hole: u16,
    flags: u32,
    token: u32,
    write_seq: u64,
    snd_una: u64,
    rcv_nxt: u64,
    local_addr_used: u8,
    local_addr_max: u8,
    csum_enabled: u8,
    hole2: u8,
    retransmits: u32,
    bytes_retrans: u64,
    bytes_sent: u64,
    bytes_received: u64,
    bytes_acked: u64,
    subflows_total: u8,
    endp_laminar_max: u8,
    endp_fullmesh_max: u8,
    reserved: u8,
    last_data_sent: u32,
    last_data_recv: u32,
    last_ack_recv: u32,
}

const _: () = assert!(size_of::<MptcpInfo>() == MPTCP_INFO_LEN);

/// `unread` bytes are written by the program, and the core has not seen them yet.
fn mptcp_info(info: &ConnInfo, unread: u32, now: Instant) -> [u8; MPTCP_INFO_LEN] {
    let up = info.subflows.iter().filter(|subflow| subflow.up).count() as u8;
    let multipath = info.established && info.fallback.is_none();
    let joins = info.subflows.iter().filter(|subflow| subflow.id.0 != 0 && subflow.up);
    let out = MptcpInfo {
        subflows: joins.count() as u8,
        add_addr_signal: info.announced,
        add_addr_accepted: info.heard,
        flags: if info.fallback.is_some() { FLAG_FALLBACK } else { 0 }
            | if multipath { FLAG_REMOTE_KEY_RECEIVED } else { 0 },
        token: info.token,
        write_seq: info.write_seq.wrapping_add(unread.into()),
        snd_una: info.snd_una,
        rcv_nxt: info.rcv_nxt,
        local_addr_used: info.subflows.iter().filter(|subflow| subflow.id.0 != 0).count() as u8,
        csum_enabled: u8::from(info.checksum),
        bytes_sent: info.bytes_acked + (info.send_queue - info.unsent.min(info.send_queue)) as u64,
        bytes_received: info.bytes_received,
        bytes_acked: info.bytes_acked,
        subflows_total: up,
        last_data_sent: ms_ago(now, info.tally.last_data_sent),
        last_data_recv: ms_ago(now, info.tally.last_data_received),
        last_ack_recv: ms_ago(now, info.tally.last_ack_received),
        ..MptcpInfo::default()
    };
    // SAFETY: the struct consists of integers and has no padding: its named holes fill every gap, as its size shows.
    unsafe { std::mem::transmute::<MptcpInfo, [u8; MPTCP_INFO_LEN]>(out) }
}

fn picture(connection: &Connection, info: &ConnInfo, now: Instant) -> Picture {
    let subflows = info.subflows.iter().map(|subflow| SubflowPicture {
        id: subflow.id.0 + 1,
        established: subflow.up,
        local: map_like(subflow.tuple.local, connection.remote),
        remote: map_like(subflow.tuple.remote, connection.remote),
        tcp_info: tcp_info::of_subflow(subflow, now),
    });
    let unread = connection.relay.as_ref().map_or(0, |relay| relay.unread());
    let mut picture = Picture::new(
        info.fallback.is_none(),
        info.established,
        mptcp_info(info, unread, now),
        subflows,
    );
    // The kernel's accept() gives a TCP socket for a peer that does not speak MPTCP.
    picture.linux = connection.wishes.linux && !(connection.accepted && info.fallback.is_some());
    picture
}

impl Engine {
    pub(super) fn serve_picture(&mut self, now: Instant, client: Key, cookie: u64) {
        let mut bytes = [0; PICTURE_MAX];
        let drawn = self.draw(now, cookie).and_then(|picture| {
            let len = picture.encode(&mut bytes).map_err(|_| Errno::MSGSIZE)?;
            Ok(len)
        });
        match drawn {
            Ok(len) => {
                self.answer(client, &Reply::Picture(&bytes[..len]), None);
            }
            Err(error) => self.answer_error(client, error),
        }
    }

    /// # Errors
    /// ENOTCONN when there is no such connection.
    fn draw(&mut self, now: Instant, cookie: u64) -> Result<Picture, Errno> {
        let (key, _) = self.connection(cookie)?;
        let connection = self.connections.get(key).ok_or(Errno::NOTCONN)?;
        match connection.backend {
            Backend::Kernel(_) => {
                let mut plain = Picture::new(false, true, [0; MPTCP_INFO_LEN], std::iter::empty());
                plain.linux = connection.wishes.linux && !connection.accepted;
                Ok(plain)
            }
            Backend::Core(_) => {
                let info = self.conn_info(connection).ok_or(Errno::NOTCONN)?;
                Ok(picture(connection, &info, now))
            }
        }
    }
}

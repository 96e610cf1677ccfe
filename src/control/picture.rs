//! What Linux's MPTCP options tell of a connection, in one reply: `struct mptcp_info`, and each live subflow with its addresses and its
//! `struct tcp_info`. The engine fills the structs in this host's own layout; the shim cuts them to what the program asked for.

use super::codec::{DecodeError, Overflow, Reader, Writer};
use core::net::SocketAddr;

/// Bytes of `struct mptcp_info` of linux/mptcp.h, as of Linux 6.18.
pub const MPTCP_INFO_LEN: usize = 96;
/// Bytes of `struct tcp_info` of linux/tcp.h, as of Linux 6.18.
pub const TCP_INFO_LEN: usize = 280;
/// Subflows that a picture has room for: all that a connection can have.
pub const SUBFLOWS_MAX: usize = 8;
/// Bytes of the longest picture.
pub const PICTURE_MAX: usize = 3072;

/// One subflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubflowPicture {
    /// Its number, in order of creation; 1 is the first.
    pub id: u32,
    /// Both SYNs are acknowledged, and for a join its HMACs are right.
    pub established: bool,
    /// Our address, as the program's socket shows addresses.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// `struct tcp_info`.
    pub tcp_info: [u8; TCP_INFO_LEN],
}

/// One connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Picture {
    /// MPTCP is spoken.
    pub multipath: bool,
    /// The handshake is over.
    pub established: bool,
    /// The program asked for IPPROTO_MPTCP, and SO_PROTOCOL says so.
    pub linux: bool,
    /// `struct mptcp_info`.
    pub mptcp_info: [u8; MPTCP_INFO_LEN],
    subflows: [Option<SubflowPicture>; SUBFLOWS_MAX],
}

impl Picture {
    /// A picture of these subflows, in order of creation; those beyond [`SUBFLOWS_MAX`] are left out.
    pub fn new(
        multipath: bool,
        established: bool,
        mptcp_info: [u8; MPTCP_INFO_LEN],
        subflows: impl Iterator<Item = SubflowPicture>,
    ) -> Picture {
        let mut picture = Picture {
            multipath,
            established,
            linux: false,
            mptcp_info,
            subflows: [None; SUBFLOWS_MAX],
        };
        for (slot, subflow) in picture.subflows.iter_mut().zip(subflows) {
            *slot = Some(subflow);
        }
        picture
    }

    /// The subflows, in order of creation.
    pub fn subflows(&self) -> impl Iterator<Item = &SubflowPicture> {
        self.subflows.iter().flatten()
    }

    /// Writes it; its length.
    pub fn encode(&self, out: &mut [u8; PICTURE_MAX]) -> Result<usize, Overflow> {
        let mut w = Writer::new(out);
        w.u8(u8::from(self.multipath))?;
        w.u8(u8::from(self.established) | u8::from(self.linux) << 1)?;
        w.u16(self.subflows().count() as u16)?;
        w.raw(&self.mptcp_info)?;
        for subflow in self.subflows() {
            w.u32(subflow.id)?;
            w.u32(u32::from(subflow.established))?;
            w.addr(Some(subflow.local))?;
            w.addr(Some(subflow.remote))?;
            w.raw(&subflow.tcp_info)?;
        }
        Ok(w.len())
    }

    /// Reads it back.
    pub fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
        let mut r = Reader::new(bytes);
        let multipath = r.u8()? != 0;
        let flags = r.u8()?;
        let count = usize::from(r.u16()?);
        let mut mptcp_info = [0; MPTCP_INFO_LEN];
        mptcp_info.copy_from_slice(r.raw(MPTCP_INFO_LEN)?);
        let mut picture = Picture::new(multipath, flags & 1 != 0, mptcp_info, core::iter::empty());
        picture.linux = flags & 2 != 0;
        if count > SUBFLOWS_MAX {
            return Err(DecodeError::Value);
        }
        for slot in &mut picture.subflows[..count] {
            let mut subflow = SubflowPicture {
                id: r.u32()?,
                established: r.u32()? != 0,
                local: r.addr()?.ok_or(DecodeError::Value)?,
                remote: r.addr()?.ok_or(DecodeError::Value)?,
                tcp_info: [0; TCP_INFO_LEN],
            };
            subflow.tcp_info.copy_from_slice(r.raw(TCP_INFO_LEN)?);
            *slot = Some(subflow);
        }
        r.end()?;
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_picture_comes_back_and_a_cut_one_does_not() {
        let subflow = |id| SubflowPicture {
            id,
            established: id % 2 == 0,
            local: "[2001:db8::1]:40000".parse().expect("an address"),
            remote: "[2001:db8::2]:443".parse().expect("an address"),
            tcp_info: [id as u8; TCP_INFO_LEN],
        };
        let picture = Picture::new(true, true, [7; MPTCP_INFO_LEN], (1..20).map(subflow));
        assert_eq!(picture.subflows().count(), SUBFLOWS_MAX);
        let mut bytes = [0; PICTURE_MAX];
        let len = picture.encode(&mut bytes).expect("it fits");
        assert_eq!(Picture::decode(&bytes[..len]), Ok(picture));
        for short in 0..len {
            assert!(Picture::decode(&bytes[..short]).is_err());
        }
    }
}

//! The connections that an engine carries, where its successor can read them: a table in memory that engine, keeper and the next engine share.
//!
//! Of each subflow the addresses and the peer's key are kept, which is what it takes to end the peer's side of it when the engine has died
//! ([`Endpoint::inherit`](crate::mptcp::Endpoint::inherit)). To note one costs a few stores and no system call. An engine may be
//! killed at any instruction: an entry counts only when its last word, which is written last, says so.
//!
//! Not here: listening sockets, which the keeper itself remembers. Connections beyond [`ENTRIES`] are not noted; their peers find out when
//! they next send something.

use crate::mptcp::endpoint::{ConnId, FourTuple};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries of the table. Memory is taken as they are used: 64 bytes each.
const ENTRIES: usize = 1 << 16;

/// One subflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its addresses.
    pub tuple: FourTuple,
    /// The peer's MPTCP key; None of plain TCP.
    pub remote_key: Option<u64>,
}

/// An entry as it lies in memory: the addresses (IPv4 ones mapped), the ports, the key, and [`State`].
type Words = [AtomicU64; 8];

const FREE: u64 = 0;
const PLAIN: u64 = 1;
const MULTIPATH: u64 = 2;

/// The shared memory; unmapped when dropped.
pub struct Table(NonNull<[Words; ENTRIES]>);

impl Table {
    /// Empty, and shared with processes that are forked from now on.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> io::Result<Table> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let len = size_of::<[Words; ENTRIES]>();
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        match NonNull::new(address.cast()) {
            Some(table) if address != libc::MAP_FAILED => Ok(Table(table)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn words(&self) -> &[Words; ENTRIES] {
        // SAFETY: the mapping is as large as that, zeroed at first, lives as long as `self`, and holds atomic integers only, for which any
        // bits are a value and which other processes may change.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this size, and no reference outlives `self`. It cannot fail.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<[Words; ENTRIES]>()) };
    }
}

/// The table, and this engine's books about it.
pub struct Ledger {
    table: Rc<Table>,
    free: Vec<usize>,
    used: usize,
    by_conn: HashMap<ConnId, Vec<(FourTuple, usize)>>,
}

impl Ledger {
    /// A new one on a table, and what a predecessor had noted there.
    pub fn open(table: Rc<Table>) -> (Ledger, Vec<Entry>) {
        let mut entries = Vec::new();
        for words in table.words() {
            entries.extend(read(words));
            // Most pages were never written to, and need not exist.
            if words[7].load(Ordering::Relaxed) != FREE {
                words[7].store(FREE, Ordering::Relaxed);
            }
        }
        let ledger = Ledger {
            table,
            free: Vec::new(),
            used: 0,
            by_conn: HashMap::new(),
        };
        (ledger, entries)
    }

    /// The table, for the keeper.
    pub fn table(&self) -> Rc<Table> {
        Rc::clone(&self.table)
    }

    /// Notes a subflow.
    pub fn add(&mut self, conn: ConnId, entry: Entry) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used - 1
        });
        match self.table.words().get(at) {
            Some(words) => {
                write(words, &entry);
                self.by_conn.entry(conn).or_default().push((entry.tuple, at));
            }
            None => self.used = ENTRIES,
        }
    }

    /// A subflow is over.
    pub fn remove(&mut self, conn: ConnId, tuple: FourTuple) {
        let Some(noted) = self.by_conn.get_mut(&conn) else {
            return;
        };
        let Some(at) = noted.iter().position(|(t, _)| *t == tuple) else {
            return;
        };
        let (_, at) = noted.swap_remove(at);
        if noted.is_empty() {
            self.by_conn.remove(&conn);
        }
        self.free_entry(at);
    }

    /// A connection is over.
    pub fn close(&mut self, conn: ConnId) {
        for (_, at) in self.by_conn.remove(&conn).unwrap_or_default() {
            self.free_entry(at);
        }
    }

    fn free_entry(&mut self, at: usize) {
        self.table.words()[at][7].store(FREE, Ordering::Release);
        self.free.push(at);
    }
}

fn write(words: &Words, entry: &Entry) {
    let put = |at: usize, value: u64| words[at].store(value, Ordering::Relaxed);
    let FourTuple { local, remote } = entry.tuple;
    for (at, address) in [(0, local), (2, remote)] {
        let bits = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        put(at, (bits >> 64) as u64);
        put(at + 1, bits as u64);
    }
    put(4, u64::from(local.port()) << 16 | u64::from(remote.port()));
    put(5, entry.remote_key.unwrap_or_default());
    let state = entry.remote_key.map_or(PLAIN, |_| MULTIPATH);
    words[7].store(state, Ordering::Release);
}

fn read(words: &Words) -> Option<Entry> {
    let state = words[7].load(Ordering::Acquire);
    let get = |at: usize| words[at].load(Ordering::Relaxed);
    let ports = get(4);
    let address = |at: usize, port: u16| {
        let bits = u128::from(get(at)) << 64 | u128::from(get(at + 1));
        SocketAddr::new(Ipv6Addr::from_bits(bits).to_canonical(), port)
    };
    matches!(state, PLAIN | MULTIPATH).then(|| Entry {
        tuple: FourTuple {
            local: address(0, (ports >> 16) as u16),
            remote: address(2, ports as u16),
        },
        remote_key: (state == MULTIPATH).then(|| get(5)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(local: &str, remote: &str, remote_key: Option<u64>) -> Entry {
        let address = |text: &str| text.parse().expect("an address");
        Entry {
            tuple: FourTuple {
                local: address(local),
                remote: address(remote),
            },
            remote_key,
        }
    }

    fn empty() -> Ledger {
        Ledger::open(Rc::new(Table::new().expect("memory"))).0
    }

    #[test]
    fn what_is_noted_and_not_over_is_taken_over() {
        let mut ledger = empty();
        let entries = [
            entry("192.0.2.1:1", "192.0.2.2:65535", Some(u64::MAX)),
            entry("198.51.100.1:2", "192.0.2.2:65535", Some(u64::MAX)),
            entry("[2001:db8::1]:3", "[2001:db8::2]:80", None),
            entry("192.0.2.1:4", "192.0.2.2:80", Some(0)),
        ];
        for (conn, entry) in [1, 1, 2, 3].into_iter().zip(entries) {
            ledger.add(ConnId(conn), entry);
        }
        ledger.remove(ConnId(1), entries[1].tuple);
        ledger.close(ConnId(3));
        ledger.close(ConnId(9));
        let (mut ledger, left) = Ledger::open(ledger.table());
        assert_eq!(left, [entries[0], entries[2]]);
        ledger.add(ConnId(7), entries[3]);
        assert_eq!(Ledger::open(ledger.table()).1, [entries[3]]);
        assert_eq!(Ledger::open(ledger.table()).1, []);
    }

    #[test]
    fn a_full_table_notes_nothing_more_until_there_is_room() {
        let mut ledger = empty();
        let one = entry("192.0.2.1:1", "192.0.2.2:2", Some(1));
        for n in 0..ENTRIES as u64 + 10 {
            ledger.add(ConnId(n), one);
        }
        ledger.close(ConnId(5));
        ledger.close(ConnId(ENTRIES as u64 + 3));
        ledger.add(ConnId(u64::MAX), one);
        assert_eq!(Ledger::open(ledger.table()).1.len(), ENTRIES);
    }
}

//! The engine's local ports: one contiguous block out of the host's ephemeral range, and single ports that programs
//! had bound themselves.
//!
//! The block is small and grows only when it is exhausted: an explicit bind() takes a port away from the automatic
//! choice of every other program (Linux connect() skips ports that were bound explicitly), and one port serves many
//! destinations.

use super::sys;
use core::ops::RangeInclusive;
use std::collections::BTreeMap;
use std::io;

/// Ports that the block begins with.
const BLOCK_LEN: u16 = 512;
/// Single ports that a filter tests one by one; more widen it to all ports.
pub(super) const SINGLES_MAX: usize = 16;
/// ip_local_port_range where /proc cannot be read: Linux' default.
const DEFAULT_RANGE: RangeInclusive<u16> = 32768..=60999;

/// Ports whose segments the engine wants to hear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortSet {
    block: RangeInclusive<u16>,
    singles: Vec<u16>,
}

impl PortSet {
    /// A block and single ports; more than a handful of them widen the set to all ports.
    pub fn new(block: RangeInclusive<u16>, singles: impl IntoIterator<Item = u16>) -> PortSet {
        let singles: Vec<u16> = singles.into_iter().filter(|port| !block.contains(port)).collect();
        if singles.len() > SINGLES_MAX {
            return PortSet::all();
        }
        PortSet { block, singles }
    }

    /// Every port.
    pub fn all() -> PortSet {
        PortSet {
            block: 0..=u16::MAX,
            singles: Vec::new(),
        }
    }

    /// `port` is in it.
    pub fn contains(&self, port: u16) -> bool {
        self.block.contains(&port) || self.singles.contains(&port)
    }

    /// The set as at most `SINGLES_MAX` + 1 ranges.
    pub(super) fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u16>> + '_ {
        core::iter::once(self.block.clone()).chain(self.singles.iter().map(|&port| port..=port))
    }
}

/// The allocator's books: the block, where it may grow, and the ports in use outside it with their users counted.
#[derive(Debug)]
pub(super) struct Ports {
    block: RangeInclusive<u16>,
    range: RangeInclusive<u16>,
    reserved: Vec<RangeInclusive<u16>>,
    /// Ports that were outside the block when they were taken.
    singles: BTreeMap<u16, usize>,
    /// How often the set of admitted ports has changed.
    changes: u64,
}

impl Ports {
    /// Chooses a block at a random place in this host's ephemeral range.
    pub(super) fn from_host() -> io::Result<Ports> {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
            .ok()
            .and_then(|text| parse_range(&text))
            .unwrap_or(DEFAULT_RANGE);
        let reserved = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
        let places = u32::from(range.end() - range.start()) + 1;
        Ok(Ports::new(range, parse_list(&reserved), sys::random_below(places)?))
    }

    /// The block begins at the first place, from `place` (an offset into `range`) on, that has no reserved port;
    /// where there is none it begins at `place` and contains reserved ports, which are skipped one by one.
    fn new(range: RangeInclusive<u16>, reserved: Vec<RangeInclusive<u16>>, place: u32) -> Ports {
        let (first, last) = (u32::from(*range.start()), u32::from(*range.end()));
        let len = u32::from(BLOCK_LEN).min(last - first + 1);
        let places = last - first + 2 - len;
        let block_at = |place: u32| {
            let start = first + place % places;
            start as u16..=(start + len - 1) as u16
        };
        let block = (0..places)
            .map(|i| block_at(place + i))
            .find(|block| {
                !reserved
                    .iter()
                    .any(|r| r.start() <= block.end() && block.start() <= r.end())
            })
            .unwrap_or_else(|| block_at(place));
        Ports {
            block,
            range,
            reserved,
            singles: BTreeMap::new(),
            changes: 0,
        }
    }

    /// The block.
    pub(super) fn block(&self) -> RangeInclusive<u16> {
        self.block.clone()
    }

    /// Ports of the block that may be bound, each once, in circular order from a random one.
    pub(super) fn candidates(&self) -> io::Result<impl Iterator<Item = u16> + use<>> {
        let (first, len) = (
            *self.block.start(),
            u32::from(self.block.end() - self.block.start()) + 1,
        );
        let offset = sys::random_below(len)?;
        let reserved = self.reserved.clone();
        Ok((0..len)
            .map(move |i| first + ((offset + i) % len) as u16)
            .filter(move |port| !reserved.iter().any(|r| r.contains(port))))
    }

    /// Doubles the block, upwards as far as the ephemeral range goes, then downwards. False when it fills the range.
    pub(super) fn grow(&mut self) -> bool {
        let (start, end) = (*self.block.start(), *self.block.end());
        if start <= *self.range.start() && end >= *self.range.end() {
            return false;
        }
        let len = end - start + 1;
        let new_end = end.saturating_add(len).min(*self.range.end()).max(end);
        let left = len - (new_end - end);
        let new_start = start.saturating_sub(left).max(*self.range.start()).min(start);
        self.block = new_start..=new_end;
        self.changes += 1;
        true
    }

    /// Counts a user of a port that the block does not cover; whether it was counted, and is to be given back by [`Ports::put`].
    pub(super) fn take(&mut self, port: u16) -> bool {
        let single = !self.block.contains(&port);
        if single {
            let users = self.singles.entry(port).or_insert(0);
            *users += 1;
            self.changes += u64::from(*users == 1);
        }
        single
    }

    /// A counted user of `port` is gone.
    pub(super) fn put(&mut self, port: u16) {
        if let Some(users) = self.singles.get_mut(&port) {
            *users -= 1;
            if *users == 0 {
                self.singles.remove(&port);
                self.changes += 1;
            }
        }
    }

    /// A number that is another one after each change of [`Ports::set`].
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// What the link's filter should admit.
    pub(super) fn set(&self) -> PortSet {
        PortSet::new(self.block.clone(), self.singles.keys().copied())
    }
}

/// "32768 60999".
fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_whitespace();
    let range = words.next()?.parse().ok()?..=words.next()?.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

/// "8080,9000-9010": words that make no sense are skipped, the kernel wrote them.
fn parse_list(text: &str) -> Vec<RangeInclusive<u16>> {
    let port = |word: &str| word.trim().parse::<u16>().ok();
    text.split(',')
        .filter_map(|word| match word.split_once('-') {
            Some((first, last)) => Some(port(first)?..=port(last)?),
            None => port(word).map(|p| p..=p),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_avoids_reserved_ports() {
        let reserved = parse_list("40000-40100,40700\n");
        assert_eq!(reserved, [40000..=40100, 40700..=40700]);
        let ports = Ports::new(39900..=42000, reserved, 0);
        assert_eq!(ports.block(), 40101..=40612);
    }

    #[test]
    fn with_reserved_ports_everywhere_they_are_skipped_one_by_one() {
        let every_tenth = (1000u16..1100).step_by(10).map(|p| p..=p).collect();
        let ports = Ports::new(1000..=1099, every_tenth, 5);
        assert_eq!(ports.block(), 1000..=1099);
        let mut candidates: Vec<u16> = ports.candidates().unwrap().collect();
        candidates.sort_unstable();
        assert_eq!(candidates, (1000..1100).filter(|p| p % 10 != 0).collect::<Vec<u16>>());
    }

    #[test]
    fn growing_stays_contiguous_inside_the_range_and_ends() {
        let mut ports = Ports::new(60000..=65535, Vec::new(), 5000);
        let mut before = ports.block();
        let mut steps = 0;
        while ports.grow() {
            let block = ports.block();
            assert!(block.start() <= before.start() && block.end() >= before.end() && block != before);
            assert!(*block.start() >= 60000);
            before = block;
            steps += 1;
        }
        assert_eq!(before, 60000..=65535);
        assert!(steps <= 4, "{steps}");
    }

    #[test]
    fn single_ports_are_counted_and_forgotten() {
        let mut ports = Ports::new(40000..=40511, Vec::new(), 0);
        assert!(ports.take(80) && ports.take(80));
        assert!(!ports.take(40001), "the block covers it");
        assert_eq!(ports.singles.len(), 1);
        assert!(ports.set().contains(80) && ports.set().contains(40001) && !ports.set().contains(81));
        ports.put(80);
        assert!(ports.set().contains(80));
        ports.put(80);
        ports.put(80);
        assert!(!ports.set().contains(80));
    }

    #[test]
    fn only_what_changes_the_set_counts_as_a_change() {
        let mut ports = Ports::new(40000..=50000, Vec::new(), 0);
        let mut seen = ports.changes();
        let mut changed = |ports: &Ports| std::mem::replace(&mut seen, ports.changes()) != seen;
        ports.take(40001);
        assert!(!changed(&ports), "the block covers it");
        ports.take(80);
        assert!(changed(&ports));
        ports.take(80);
        ports.put(80);
        assert!(!changed(&ports), "it still has a user");
        ports.put(80);
        assert!(changed(&ports));
        ports.put(80);
        assert!(!changed(&ports));
        assert!(ports.grow() && changed(&ports));
    }

    #[test]
    fn more_singles_than_a_filter_bears_admit_everything() {
        let set = PortSet::new(40000..=40511, 1..=SINGLES_MAX as u16);
        assert!(!set.contains(30000));
        let set = PortSet::new(40000..=40511, 1..=SINGLES_MAX as u16 + 1);
        assert!(set.contains(30000));
        assert_eq!(set.ranges().count(), 1);
    }
}

//! The simulator's only source of randomness: xoshiro256** (Blackman and Vigna), seeded by splitmix64. Not for keys.

use crate::mptcp::endpoint::Entropy;
use crate::time::Duration;

/// One step of splitmix64; also a good mix of a counter.
pub fn splitmix64(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of numbers that its seed determines.
#[derive(Clone, Debug)]
pub struct Rng {
    s: [u64; 4],
}

impl Rng {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut s = [0; 4];
        let mut state = seed;
        for word in &mut s {
            state = splitmix64(state);
            *word = state;
        }
        Rng { s }
    }

    /// An independent stream, so that a component's draws do not move another's.
    pub fn fork(&mut self) -> Rng {
        Rng::new(self.next_u64())
    }

    /// 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let result = self.s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = self.s[1] << 17;
        self.s[2] ^= self.s[0];
        self.s[3] ^= self.s[1];
        self.s[1] ^= self.s[2];
        self.s[0] ^= self.s[3];
        self.s[2] ^= t;
        self.s[3] = self.s[3].rotate_left(45);
        result
    }

    /// A number in `0..n`; 0 when `n` is 0. The bias of the multiplication does not matter here.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True in `per_mille` of 1000 calls.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// A number in `low..=high` (`low` ≥ 1) whose logarithm is uniform: as often small as large.
    pub fn log_between(&mut self, low: u64, high: u64) -> u64 {
        let octaves = (high / low.max(1)).max(1).ilog2() + 1;
        let floor = low << self.below(u64::from(octaves));
        self.between(floor, (floor * 2).min(high).max(floor)).min(high)
    }

    /// A time in `low..=high` milliseconds, to the microsecond.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1000, high * 1000))
    }

    /// One of a list that is not empty.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

/// A host's generator. With `edgy`, a quarter of the numbers have halves just below the point where they wrap, for sequence numbers.
pub struct HostEntropy {
    rng: Rng,
    edgy: bool,
}

impl HostEntropy {
    /// A generator over `rng`.
    pub fn new(rng: Rng, edgy: bool) -> Self {
        HostEntropy { rng, edgy }
    }
}

impl Entropy for HostEntropy {
    fn next_u64(&mut self) -> u64 {
        let n = self.rng.next_u64();
        if self.edgy && self.rng.chance(250) {
            n | 0xffff_e000_ffff_e000
        } else {
            n
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers_and_forks_differ() {
        let mut a = Rng::new(7);
        let mut b = Rng::new(7);
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
        let (mut f, mut g) = (a.fork(), a.fork());
        assert_ne!(f.next_u64(), g.next_u64());
    }

    #[test]
    fn draws_stay_in_their_bounds_and_reach_them() {
        let mut rng = Rng::new(1);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[rng.between(3, 7) as usize - 3] = true;
            let n = rng.log_between(10, 1000);
            assert!((10..=1000).contains(&n), "{n}");
            assert_eq!(rng.below(1), 0);
        }
        assert_eq!(seen, [true; 5]);
        assert!(!rng.chance(0) && rng.chance(1000));
    }
}

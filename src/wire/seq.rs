//! Sequence numbers that wrap. Subflow and data numbers are different types so that they cannot be mixed;
//! wrapping arithmetic lives here only.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

/// A TCP sequence number of one subflow (RFC 9293 section 3.4); ordered by serial arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Signed distance `self - other`.
    pub fn diff(self, other: SeqNum) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }
    /// `self` lies before `other`.
    pub fn lt(self, other: SeqNum) -> bool {
        self.diff(other) < 0
    }
    /// `self` lies before `other` or equals it.
    pub fn le(self, other: SeqNum) -> bool {
        self.diff(other) <= 0
    }
    /// `self` lies after `other`.
    pub fn gt(self, other: SeqNum) -> bool {
        self.diff(other) > 0
    }
    /// `self` lies after `other` or equals it.
    pub fn ge(self, other: SeqNum) -> bool {
        self.diff(other) >= 0
    }
    /// The later of the two.
    pub fn max(self, other: SeqNum) -> SeqNum {
        if self.gt(other) {
            self
        } else {
            other
        }
    }
}

impl Add<u32> for SeqNum {
    type Output = SeqNum;
    fn add(self, n: u32) -> SeqNum {
        SeqNum(self.0.wrapping_add(n))
    }
}
impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}
impl Sub<u32> for SeqNum {
    type Output = SeqNum;
    fn sub(self, n: u32) -> SeqNum {
        SeqNum(self.0.wrapping_sub(n))
    }
}
impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq:{}", self.0)
    }
}

/// A data sequence number of one direction of a connection (RFC 8684 section 3.3); ordered by serial arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Dsn(pub u64);

impl Dsn {
    /// Signed distance `self - other`.
    pub fn diff(self, other: Dsn) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }
    /// `self` lies before `other`.
    pub fn lt(self, other: Dsn) -> bool {
        self.diff(other) < 0
    }
    /// `self` lies before `other` or equals it.
    pub fn le(self, other: Dsn) -> bool {
        self.diff(other) <= 0
    }
    /// `self` lies after `other`.
    pub fn gt(self, other: Dsn) -> bool {
        self.diff(other) > 0
    }
    /// `self` lies after `other` or equals it.
    pub fn ge(self, other: Dsn) -> bool {
        self.diff(other) >= 0
    }
    /// The later of the two.
    pub fn max(self, other: Dsn) -> Dsn {
        if self.gt(other) {
            self
        } else {
            other
        }
    }
    /// The earlier of the two.
    pub fn min(self, other: Dsn) -> Dsn {
        if self.lt(other) {
            self
        } else {
            other
        }
    }
    /// The full number whose low 32 bits are `low` and which lies nearest to `self`
    /// (RFC 8684 section 3.3.1: 32-bit numbers are the low half of 64-bit ones).
    pub fn expand(self, low: u32) -> Dsn {
        let d = low.wrapping_sub(self.0 as u32) as i32;
        Dsn(self.0.wrapping_add(d as i64 as u64))
    }
}

impl Add<u64> for Dsn {
    type Output = Dsn;
    fn add(self, n: u64) -> Dsn {
        Dsn(self.0.wrapping_add(n))
    }
}
impl AddAssign<u64> for Dsn {
    fn add_assign(&mut self, n: u64) {
        *self = *self + n;
    }
}
impl Sub<u64> for Dsn {
    type Output = Dsn;
    fn sub(self, n: u64) -> Dsn {
        Dsn(self.0.wrapping_sub(n))
    }
}
impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dsn:{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_circle_less_one_is_after_and_half_a_circle_is_before() {
        for base in [0, 1, 1 << 31, u32::MAX] {
            let (base, half) = (SeqNum(base), 1 << 31);
            assert!((base + (half - 1)).gt(base) && (base + half).lt(base));
            assert!(base.lt(base + 1) && base.gt(base - 1) && base.le(base) && base.ge(base) && !base.lt(base));
            assert_eq!((base.max(base + 1), base.max(base - 1)), (base + 1, base));
        }
        for base in [0, 1, 1 << 63, u64::MAX] {
            let (base, half) = (Dsn(base), 1 << 63);
            assert!((base + (half - 1)).gt(base) && (base + half).lt(base));
            assert!(base.lt(base + 1) && base.gt(base - 1) && base.le(base) && base.ge(base) && !base.lt(base));
            assert_eq!((base.max(base - 1), base.min(base - 1)), (base, base - 1));
        }
    }

    #[test]
    fn a_short_number_is_the_nearest_of_those_that_it_can_be() {
        for base in [0, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let base = Dsn(base);
            let back = |full: Dsn| base.expand(full.0 as u32) == full;
            let half = 1u64 << 31;
            assert!(back(base) && back(base + (half - 1)) && back(base - half), "{base:?}");
            assert!(!back(base + half) && !back(base - (half + 1)), "{base:?}");
        }
    }
}

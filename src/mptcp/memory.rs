//! One budget of memory for the buffers of all connections (as Linux's net.ipv4.tcp_mem). Each connection counts what its buffers hold; as long as
//! all of them together hold more than the budget, no buffer may become larger than a connection needs to go on at all. What peers were promised
//! before may still come; beyond a quarter more than the budget it is not taken, as if the network had lost it.
//!
//! Not here: what the buffers' limits are then (`connection`, `recv_buffer`), and records of segments, which are in proportion to them.

use core::cell::Cell;
use std::rc::Rc;

#[derive(Debug)]
struct Account {
    limit: Cell<usize>,
    used: Cell<usize>,
}

/// The budget of one endpoint, without limit at first.
#[derive(Debug)]
pub struct Budget(Rc<Account>);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Rc::new(Account {
            limit: Cell::new(usize::MAX),
            used: Cell::new(0),
        }))
    }
}

impl Budget {
    /// From now on, bytes.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.set(limit);
    }

    /// Bytes that all shares hold.
    pub fn used(&self) -> usize {
        self.0.used.get()
    }

    /// A share that holds nothing yet.
    pub fn share(&self) -> Share {
        Share {
            of: Some(Rc::clone(&self.0)),
            held: 0,
        }
    }
}

/// What one connection holds; nothing any more when it is dropped. The default is part of no budget.
#[derive(Debug, Default)]
pub struct Share {
    of: Option<Rc<Account>>,
    held: usize,
}

impl Share {
    /// So many bytes now.
    pub fn set(&mut self, held: usize) {
        if let Some(account) = &self.of {
            account.used.set(account.used.get() - self.held + held);
            self.held = held;
        }
    }

    /// All shares together hold a quarter more than the budget, and this one more than `enough`: it gets nothing more.
    pub fn is_exhausted(&self, enough: usize) -> bool {
        let over = |account: &Account| account.used.get() > account.limit.get().saturating_add(account.limit.get() / 4);
        self.held > enough && self.of.as_deref().is_some_and(over)
    }

    /// All shares together hold more than the budget.
    pub fn is_tight(&self) -> bool {
        self.of
            .as_ref()
            .is_some_and(|account| account.used.get() > account.limit.get())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_go_when_they_are_dropped() {
        let budget = Budget::default();
        budget.set_limit(100);
        let (mut one, mut other) = (budget.share(), budget.share());
        one.set(60);
        other.set(40);
        assert!(
            !one.is_tight() && !other.is_tight(),
            "the budget itself is not too much"
        );
        other.set(41);
        assert!(one.is_tight() && other.is_tight());
        drop(one);
        assert_eq!((budget.used(), other.is_tight()), (41, false));
        other.set(125);
        assert!(!other.is_exhausted(0));
        other.set(126);
        assert!(other.is_exhausted(125) && !other.is_exhausted(126));
    }
}

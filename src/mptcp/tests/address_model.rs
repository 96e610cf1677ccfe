//! The address table against a model: which pairs of addresses a subflow may be wanted for, whatever was announced, removed, refused and
//! taken away before.
//!
//! The model is a map from id to address and the list of own paths. It does not say what must be wanted, nor when: `addresses` does.

use super::script::*;
use crate::mptcp::{crypto, Event};
use core::net::{IpAddr, SocketAddr};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Subflows of one connection, the first included.
const SUBFLOWS_MAX: usize = 8;
/// Announcements that are taken from one peer: the model knows no more.
const ANNOUNCED_MAX: usize = 32;

#[derive(Clone, Debug)]
enum Step {
    Add {
        id: u8,
        host: u8,
        right: bool,
    },
    Remove {
        id: u8,
    },
    Paths(Vec<u8>),
    /// The oldest want is answered with a no.
    Refuse,
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..6, 1u8..8, prop::bool::weighted(0.8)).prop_map(|(id, host, right)| Step::Add { id, host, right }),
        2 => (0u8..6).prop_map(|id| Step::Remove { id }),
        2 => prop::collection::vec(0u8..4, 0..4).prop_map(Step::Paths),
        3 => Just(Step::Refuse),
        2 => (1u16..40_000).prop_map(Step::Pass),
    ]
}

/// What the peer may be reached at, and from where.
struct Model {
    initial: SocketAddr,
    announced: BTreeMap<u8, SocketAddr>,
    heard: usize,
    paths: Vec<IpAddr>,
    /// Wants that were not answered, and whose addresses are still there: number, own address, peer's.
    open: Vec<(u32, IpAddr, SocketAddr)>,
}

impl Model {
    fn look(&mut self, s: &mut Script) -> Result<(), TestCaseError> {
        for event in s.events() {
            if let Event::WantSubflow {
                want, local, remote, ..
            } = event
            {
                prop_assert!(self.paths.contains(&local), "{local} is none of {:?}", self.paths);
                let known = remote == self.initial || self.announced.values().any(|a| *a == remote);
                prop_assert!(known, "{remote} is none of {:?}", self.announced);
                prop_assert!(self.open.iter().all(|open| open.0 != want), "{want} twice");
                self.open.push((want, local, remote));
            }
        }
        prop_assert!(self.open.len() < SUBFLOWS_MAX, "{:?}", self.open);
        Ok(())
    }

    fn take(&mut self, s: &mut Script, step: &Step) {
        match step {
            Step::Add { id, host, right } => {
                let ip = [198, 51, 100, *host];
                let hmac = crypto::add_addr_hmac(SERVER_KEY, CLIENT_KEY, *id, IpAddr::from(ip), None);
                let hmac = if *right { hmac } else { !hmac };
                if *right && *id != 0 && self.heard < ANNOUNCED_MAX {
                    let address = SocketAddr::new(IpAddr::from(ip), self.initial.port());
                    self.heard += usize::from(self.announced.insert(*id, address) != Some(address));
                }
                s.inject(ack(1, 1).mp(&format!("1e1030{id:02x}{}{hmac:016x}", hex(&ip))));
            }
            Step::Remove { id } => {
                self.announced.remove(id);
                s.inject(ack(1, 1).mp(&format!("1e0440{id:02x}")));
            }
            Step::Paths(hosts) => {
                let first = IpAddr::from([192, 0, 2, 1]);
                let others = hosts.iter().map(|host| IpAddr::from([203, 0, 113, 10 + host]));
                self.paths = [first].into_iter().chain(others).collect();
                let paths: Vec<_> = self.paths.iter().map(|ip| path(&ip.to_string())).collect();
                s.replace_paths(&paths);
            }
            Step::Refuse => {
                if !self.open.is_empty() {
                    s.refuse(self.open.remove(0).0);
                }
            }
            Step::Pass(ms) => s.advance(u64::from(*ms)),
        }
        let Model {
            initial,
            announced,
            paths,
            open,
            ..
        } = self;
        open.retain(|(_, local, remote)| {
            paths.contains(local) && (remote == initial || announced.values().any(|a| a == remote))
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn subflows_are_wanted_between_addresses_that_both_ends_still_have(steps in prop::collection::vec(step(), 1..80)) {
        let mut s = Script::client_up();
        let mut model = Model {
            initial: s.tuple(FIRST).remote,
            announced: BTreeMap::new(),
            heard: 0,
            paths: vec![IpAddr::from([192, 0, 2, 1])],
            open: Vec::new(),
        };
        for step in &steps {
            model.take(&mut s, step);
            s.take_sent();
            model.look(&mut s)?;
        }
        prop_assert_eq!(s.state(FIRST), Some("ESTABLISHED"), "nothing of it harms what there is");
    }
}

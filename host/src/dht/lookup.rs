//! Looking for the nodes that are closest to a place: always asking the closest that have not been asked (BEP 5).
//!
//! A lookup is over when the closest [`K`] nodes that answer at all have answered. A node that takes long is not waited
//! for, but may still answer until then.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::bloom::Bloom;
use super::{Config, FoundItem, K, RequestId, network};
use crate::command::SecretKey;
use crate::wire::krpc::{NodeId, NodeInfo};

/// The most nodes that a lookup remembers.
const MOST: usize = 100;

/// Names a lookup of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LookupId(pub(super) u64);

/// What is looked for, and what is done with it.
#[derive(Debug)]
pub(super) enum Goal {
    /// Nodes, for the table; the first time, `bootstrap`.
    Nodes { bootstrap: bool },
    /// Peers of a torrent; and to be one of them, if there is a port.
    Peers { request: RequestId, announce: Option<Announce> },
    /// How many peers a torrent has: those that have everything, and the others.
    Figures { request: RequestId, filters: Box<[Bloom; 2]> },
    /// An item.
    Item(Box<ItemGoal>),
}

/// An item that is looked for.
#[derive(Debug)]
pub(super) struct ItemGoal {
    pub(super) request: RequestId,
    /// Whose it is, if it is a mutable one.
    pub(super) key: Option<ItemKey>,
    /// The newest that was found.
    pub(super) best: Option<FoundItem>,
    /// What is to be stored in its place.
    pub(super) put: Option<Put>,
}

/// How we announce ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Where peers connect to; `None` is where our datagrams come from.
    pub port: Option<u16>,
    /// Whether we have everything.
    pub seed: bool,
}

/// Whose mutable item it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemKey {
    /// The public key.
    pub key: [u8; 32],
    /// Tells several items of one key apart.
    pub salt: Vec<u8>,
}

/// What is to be stored.
#[derive(Clone, Debug)]
pub(super) enum Put {
    Immutable(Vec<u8>),
    Mutable { secret: SecretKey, value: Vec<u8> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not asked yet.
    Fresh,
    /// Asked.
    Asked,
    /// Asked, and not waited for any more.
    Slow,
    Answered,
    Failed,
}

#[derive(Debug)]
struct Candidate {
    /// `None` for a node of which only the address is known.
    id: Option<NodeId>,
    address: SocketAddr,
    stage: Stage,
    token: Vec<u8>,
}

/// A lookup on its way.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) target: NodeId,
    pub(super) goal: Goal,
    /// Closest first; those without an id last.
    candidates: Vec<Candidate>,
    networks: HashSet<u64>,
}

/// A node that is to be asked, or told.
#[derive(Clone, Debug)]
pub(super) struct Next {
    pub(super) id: Option<NodeId>,
    pub(super) address: SocketAddr,
}

impl Lookup {
    pub(super) fn new(target: NodeId, goal: Goal) -> Self {
        Self { target, goal, candidates: Vec::new(), networks: HashSet::new() }
    }

    /// Somebody named a node, or it is from our table.
    pub(super) fn add(&mut self, node: NodeInfo, config: &Config) {
        self.insert(Some(node.id), node.address, config);
    }

    /// A node of which only the address is known.
    pub(super) fn add_address(&mut self, address: SocketAddr, config: &Config) {
        self.insert(None, address, config);
    }

    fn insert(&mut self, id: Option<NodeId>, address: SocketAddr, config: &Config) {
        let known =
            |candidate: &Candidate| candidate.address == address || (id.is_some() && candidate.id == id);
        if self.candidates.iter().any(known) {
            return;
        }
        if config.restrict_search_ips && !self.networks.insert(network(address.ip())) {
            return;
        }
        self.candidates.push(Candidate { id, address, stage: Stage::Fresh, token: Vec::new() });
        self.sort();
        // The farthest go first, but none that waits for an answer.
        if self.candidates.len() > MOST
            && let Some(at) = self.candidates.iter().rposition(|candidate| candidate.stage == Stage::Fresh)
        {
            self.candidates.remove(at);
        }
    }

    fn sort(&mut self) {
        let target = self.target;
        let distance = |candidate: &Candidate| candidate.id.map_or([0xff; 20], |id| id.distance(target));
        self.candidates.sort_by_key(|candidate| (candidate.id.is_none(), distance(candidate)));
    }

    /// The next node that is to be asked, if one is.
    pub(super) fn next(&mut self, config: &Config) -> Option<Next> {
        let asked = self.candidates.iter().filter(|candidate| candidate.stage == Stage::Asked).count();
        if asked >= config.search_branching {
            return None;
        }
        let mut answered = 0;
        for candidate in &mut self.candidates {
            match candidate.stage {
                Stage::Fresh => {
                    candidate.stage = Stage::Asked;
                    return Some(Next { id: candidate.id, address: candidate.address });
                }
                Stage::Answered => answered += 1,
                Stage::Asked | Stage::Slow | Stage::Failed => {}
            }
            if answered == K {
                return None;
            }
        }
        None
    }

    /// Whether nothing more is to come.
    pub(super) fn is_done(&self) -> bool {
        let mut answered = 0;
        for candidate in &self.candidates {
            match candidate.stage {
                Stage::Fresh | Stage::Asked => return false,
                Stage::Answered => answered += 1,
                Stage::Slow | Stage::Failed => {}
            }
            if answered == K {
                return true;
            }
        }
        // With nobody else left, those that take long are all there is.
        answered > 0 || self.candidates.iter().all(|candidate| candidate.stage != Stage::Slow)
    }

    /// A node that was asked answered, as whoever it is.
    pub(super) fn answered(&mut self, address: SocketAddr, id: NodeId, token: Option<&[u8]>) {
        let Some(candidate) = self.at(address) else { return };
        candidate.stage = Stage::Answered;
        candidate.token = token.unwrap_or_default().to_vec();
        if candidate.id != Some(id) {
            candidate.id = Some(id);
            self.sort();
        }
    }

    pub(super) fn slow(&mut self, address: SocketAddr) {
        if let Some(candidate) = self.at(address).filter(|candidate| candidate.stage == Stage::Asked) {
            candidate.stage = Stage::Slow;
        }
    }

    pub(super) fn failed(&mut self, address: SocketAddr) {
        if let Some(candidate) = self.at(address) {
            candidate.stage = Stage::Failed;
        }
    }

    fn at(&mut self, address: SocketAddr) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|candidate| candidate.address == address)
    }

    /// The closest nodes that answered with a token, and the tokens.
    pub(super) fn storers(&self) -> Vec<(Next, Vec<u8>)> {
        let answered = self.candidates.iter().filter(|candidate| candidate.stage == Stage::Answered);
        let with_token = answered.take(K).filter(|candidate| !candidate.token.is_empty());
        with_token.map(|c| (Next { id: c.id, address: c.address }, c.token.clone())).collect()
    }

    /// How many nodes answered.
    pub(super) fn answers(&self) -> u32 {
        let answered = self.candidates.iter().filter(|candidate| candidate.stage == Stage::Answered);
        u32::try_from(answered.count()).unwrap_or(u32::MAX)
    }
}

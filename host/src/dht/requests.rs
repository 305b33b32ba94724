//! What the node asks for: lookups for peers, items and nodes, and single questions.

use std::net::SocketAddr;
use std::time::Instant;

use rand::rngs::StdRng;

use super::items::{self, immutable_target, is_signed, mutable_target, public_key};
pub use super::lookup::{Announce, ItemKey};
use super::lookup::{Goal, ItemGoal, Lookup, LookupId, Next, Put};
use super::node::Node;
use super::state::MOST_NODES;
use super::table::random_id;
use super::transactions::Purpose;
use super::{Event, FoundItem, K, RequestId, is_askable};
use crate::command::{DhtItemError, MutableItem};
use crate::wire::EntryTree;
use crate::wire::krpc::{Arguments, Item, NodeId, Response};

/// The most lookups on their way: what is asked beyond that is answered as if nobody were there.
const MOST_LOOKUPS: usize = 128;
/// The most peers of our own store that a lookup begins with.
const MOST_PEERS: usize = 100;
/// After the first contact, so many random places are looked for, so that the table is more than the neighbourhood.
const EXPLORATIONS: usize = 3;

/// Nodes that were asked to store something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Storing {
    left: u32,
    stored: u32,
}

impl Node {
    /// Begins: `routers` help to find others, and are not remembered.
    pub fn bootstrap(&mut self, routers: &[SocketAddr], now: Instant, rng: &mut StdRng) {
        let is_v4 = self.is_v4();
        let fitting = routers.iter().copied().filter(|router| router.is_ipv4() == is_v4);
        for router in fitting {
            if !self.routers.contains(&router) {
                self.routers.push(router);
            }
        }
        if !self.routers.is_empty() || !self.saved.is_empty() {
            self.look_around(now, rng);
        }
    }

    /// Ends a lookup without its result; nothing more is asked or announced for it.
    pub fn cancel(&mut self, request: RequestId) {
        self.lookups.retain(|_, lookup| match &lookup.goal {
            Goal::Peers { request: other, .. } | Goal::Figures { request: other, .. } => *other != request,
            Goal::Item(item) => item.request != request,
            Goal::Nodes { .. } => true,
        });
    }

    /// Somebody is a node, says our user or a peer: it is asked whether it is, and if nobody else is known, for others.
    pub fn add_node(&mut self, address: SocketAddr, now: Instant, rng: &mut StdRng) {
        if address.is_ipv4() != self.is_v4() || !is_askable(address, address) {
            return;
        }
        if self.table.len() > 0 {
            self.ask(address, None, Purpose::Ping, Arguments::Ping, now, rng);
            return;
        }
        // It may be tried again, if this is lost on its way.
        if !self.saved.contains(&address) && self.saved.len() < MOST_NODES {
            self.saved.push(address);
        }
        let mut lookup = Lookup::new(self.id, Goal::Nodes { bootstrap: true });
        lookup.add_address(address, &self.config);
        self.begin(lookup, now, rng);
    }

    /// Looks for peers of a torrent, and announces us as one.
    pub fn get_peers(
        &mut self,
        request: RequestId,
        info_hash: NodeId,
        announce: Option<Announce>,
        now: Instant,
        rng: &mut StdRng,
    ) {
        // In a small network, those who announced themselves may have done so to us.
        let peers = self.store.peers(info_hash, MOST_PEERS, now, rng);
        if !peers.is_empty() {
            self.events.push_back(Event::Peers { request, peers });
        }
        self.begin(self.lookup(info_hash, Goal::Peers { request, announce }), now, rng);
    }

    /// Asks how many peers a torrent has (BEP 33).
    pub fn scrape(&mut self, request: RequestId, info_hash: NodeId, now: Instant, rng: &mut StdRng) {
        let filters = Box::new(self.store.filters(info_hash, now).unwrap_or_default());
        self.begin(self.lookup(info_hash, Goal::Figures { request, filters }), now, rng);
    }

    /// Looks for an immutable item.
    pub fn get_immutable(&mut self, request: RequestId, target: NodeId, now: Instant, rng: &mut StdRng) {
        let goal = ItemGoal { request, key: None, best: None, put: None };
        self.begin(self.lookup(target, Goal::Item(Box::new(goal))), now, rng);
    }

    /// Looks for a mutable item: each newer one that is found is told.
    pub fn get_mutable(&mut self, request: RequestId, key: ItemKey, now: Instant, rng: &mut StdRng) {
        let target = mutable_target(&key.key, &key.salt);
        let goal = ItemGoal { request, key: Some(key), best: None, put: None };
        self.begin(self.lookup(target, Goal::Item(Box::new(goal))), now, rng);
    }

    /// Stores an immutable item, and says where.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn put_immutable(
        &mut self,
        request: RequestId,
        value: Vec<u8>,
        now: Instant,
        rng: &mut StdRng,
    ) -> Result<NodeId, DhtItemError> {
        items::check(&value, b"")?;
        let target = immutable_target(&value);
        let goal = ItemGoal { request, key: None, best: None, put: Some(Put::Immutable(value)) };
        self.begin(self.lookup(target, Goal::Item(Box::new(goal))), now, rng);
        Ok(target)
    }

    /// Stores a mutable item in the place of the one that is there.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn put_mutable(
        &mut self,
        request: RequestId,
        item: MutableItem,
        now: Instant,
        rng: &mut StdRng,
    ) -> Result<NodeId, DhtItemError> {
        let MutableItem { secret, salt, value } = item;
        items::check(&value, &salt)?;
        let key = ItemKey { key: public_key(&secret), salt };
        let target = mutable_target(&key.key, &key.salt);
        let put = Some(Put::Mutable { secret, value });
        let goal = ItemGoal { request, key: Some(key), best: None, put };
        self.begin(self.lookup(target, Goal::Item(Box::new(goal))), now, rng);
        Ok(target)
    }

    /// Asks one node one question, and hands out its answer.
    pub fn ask_directly(
        &mut self,
        request: RequestId,
        to: SocketAddr,
        arguments: Arguments<'_>,
        now: Instant,
        rng: &mut StdRng,
    ) {
        if !self.ask(to, None, Purpose::Direct(request), arguments, now, rng) {
            self.events.push_back(Event::Answered { request, from: to, message: None });
        }
    }

    /// Sends one node a question that somebody else wrote, and hands out its answer. `query` gets a transaction id, our id and
    /// what else every question has.
    pub fn send_directly(
        &mut self,
        request: RequestId,
        to: SocketAddr,
        query: &mut EntryTree,
        now: Instant,
        rng: &mut StdRng,
    ) {
        let blocked = self.config.ip_filter.blocks(to.ip());
        let begun = (!blocked).then(|| self.transactions.begin(to, None, Purpose::Direct(request), now, rng));
        let Some(transaction) = begun.flatten() else {
            return self.events.push_back(Event::Answered { request, from: to, message: None });
        };
        let root = EntryTree::ROOT;
        // The root is a dictionary: only the depth of `a` could be refused, and that is one.
        let _ = query.insert_bytes(root, b"t", &transaction);
        let _ = query.insert_bytes(root, b"y", b"q");
        if self.config.read_only {
            let _ = query.insert_int(root, b"ro", 1);
        }
        if let Ok(a) = query.dict(root, b"a") {
            let _ = query.insert_bytes(a, b"id", &self.id.0);
        }
        self.events.push_back(Event::Send { to, payload: query.encode_root().into() });
    }

    /// Looks for our own neighbourhood.
    pub(super) fn look_around(&mut self, now: Instant, rng: &mut StdRng) {
        self.look_for_nodes(self.id, !self.bootstrapped, now, rng);
    }

    pub(super) fn look_for_nodes(&mut self, target: NodeId, bootstrap: bool, now: Instant, rng: &mut StdRng) {
        self.begin(self.lookup(target, Goal::Nodes { bootstrap }), now, rng);
    }

    /// A lookup that begins with whom we know.
    fn lookup(&self, target: NodeId, goal: Goal) -> Lookup {
        let mut lookup = Lookup::new(target, goal);
        let known = self.table.closest(target, 2 * K);
        known.iter().for_each(|node| lookup.add(*node, &self.config));
        if known.len() < K {
            let others = self.routers.iter().chain(&self.saved);
            others.for_each(|address| lookup.add_address(*address, &self.config));
        }
        lookup
    }

    fn begin(&mut self, lookup: Lookup, now: Instant, rng: &mut StdRng) {
        self.next_lookup += 1;
        let id = LookupId(self.next_lookup);
        if self.lookups.len() >= MOST_LOOKUPS {
            return self.finish(lookup, now, rng);
        }
        self.lookups.insert(id, lookup);
        self.advance(id, now, rng);
    }

    /// Asks whom a lookup wants asked, and ends it if it is done.
    fn advance(&mut self, id: LookupId, now: Instant, rng: &mut StdRng) {
        loop {
            let want = self.want();
            let Some(lookup) = self.lookups.get_mut(&id) else { return };
            let Some(next) = lookup.next(&self.config) else { break };
            let target = lookup.target;
            let arguments = match &lookup.goal {
                Goal::Nodes { .. } => Arguments::FindNode { target, want },
                Goal::Peers { .. } => Arguments::GetPeers { info_hash: target, want, scrape: false },
                Goal::Figures { .. } => Arguments::GetPeers { info_hash: target, want, scrape: true },
                Goal::Item(_) => Arguments::Get { target, seq: None, want },
            };
            if !self.ask(next.address, next.id, Purpose::Lookup(id), arguments, now, rng)
                && let Some(lookup) = self.lookups.get_mut(&id)
            {
                lookup.failed(next.address);
            }
        }
        if self.lookups.get(&id).is_some_and(Lookup::is_done)
            && let Some(lookup) = self.lookups.remove(&id)
        {
            self.finish(lookup, now, rng);
        }
    }

    /// A node answered a lookup.
    pub(super) fn on_found(
        &mut self,
        id: LookupId,
        from: SocketAddr,
        response: &Response<'_>,
        now: Instant,
        rng: &mut StdRng,
    ) {
        let (own, is_v4) = (self.id, self.is_v4());
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        let fitting = response.nodes.iter().filter(|node| node.address.is_ipv4() == is_v4);
        let askable = fitting.filter(|node| node.id != own && is_askable(node.address, from)).take(2 * K);
        askable.for_each(|node| lookup.add(*node, &self.config));
        lookup.answered(from, response.id, response.token);
        match &mut lookup.goal {
            Goal::Nodes { .. } => {}
            Goal::Peers { request, .. } => {
                let peers: Vec<_> =
                    response.peers.iter().copied().filter(|peer| is_askable(*peer, from)).collect();
                if !peers.is_empty() {
                    self.events.push_back(Event::Peers { request: *request, peers });
                }
            }
            Goal::Figures { filters, .. } => {
                let told = response.filters.iter().flatten();
                filters.iter_mut().zip(told).for_each(|(filter, told)| filter.join(told));
            }
            Goal::Item(goal) => {
                let ItemGoal { request, key, best, put } = goal.as_mut();
                let newer = newer_item(lookup.target, key.as_ref(), best.as_ref(), response);
                if let Some(item) = newer {
                    // Whoever replaces it need not be told what was there.
                    if put.is_none() {
                        self.events.push_back(Event::Item { request: *request, item: Some(item.clone()) });
                    }
                    *best = Some(item);
                }
            }
        }
        self.advance(id, now, rng);
    }

    pub(super) fn on_lookup_failed(&mut self, id: LookupId, to: SocketAddr, now: Instant, rng: &mut StdRng) {
        if let Some(lookup) = self.lookups.get_mut(&id) {
            lookup.failed(to);
            self.advance(id, now, rng);
        }
    }

    pub(super) fn on_lookup_slow(&mut self, id: LookupId, to: SocketAddr, now: Instant, rng: &mut StdRng) {
        if let Some(lookup) = self.lookups.get_mut(&id) {
            lookup.slow(to);
            self.advance(id, now, rng);
        }
    }

    /// Everybody has been asked.
    fn finish(&mut self, lookup: Lookup, now: Instant, rng: &mut StdRng) {
        let (storers, nodes, target) = (lookup.storers(), lookup.answers(), lookup.target);
        match lookup.goal {
            Goal::Nodes { bootstrap } => {
                if bootstrap && nodes > 0 && !self.bootstrapped {
                    self.bootstrapped = true;
                    self.events.push_back(Event::Bootstrapped);
                    for _ in 0..EXPLORATIONS {
                        self.look_for_nodes(random_id(rng), false, now, rng);
                    }
                }
            }
            Goal::Peers { request, announce } => {
                if let Some(Announce { port, seed }) = announce {
                    for (node, token) in &storers {
                        let arguments = Arguments::AnnouncePeer { info_hash: target, port, token, seed };
                        self.ask(node.address, node.id, Purpose::Ping, arguments, now, rng);
                    }
                }
                self.events.push_back(Event::Finished { request, nodes });
            }
            Goal::Figures { request, filters } => {
                let [seeds, downloaders] = filters.map(|filter| filter.count());
                self.events.push_back(Event::Figures { request, seeds, downloaders });
            }
            Goal::Item(goal) => self.finish_item(*goal, &storers, nodes, now, rng),
        }
    }

    /// The newest item is known: it is told, or replaced.
    fn finish_item(
        &mut self,
        goal: ItemGoal,
        storers: &[(Next, Vec<u8>)],
        nodes: u32,
        now: Instant,
        rng: &mut StdRng,
    ) {
        let ItemGoal { request, key, best, put } = goal;
        let seq = best.as_ref().map_or(1, |item| item.seq.saturating_add(1));
        match (&put, &key) {
            (None, _) => {
                let told = best.as_ref().is_some_and(|item| item.signature.is_none());
                if !told {
                    let item = best.map(|item| FoundItem { authoritative: true, ..item });
                    self.events.push_back(Event::Item { request, item });
                }
                self.events.push_back(Event::Finished { request, nodes });
            }
            (Some(Put::Mutable { secret, value }), Some(ItemKey { key, salt })) => {
                let signature = &items::sign(secret, salt, seq, value);
                self.store_at(storers, request, Item::Mutable { key, signature, seq, salt, value }, now, rng);
            }
            (Some(Put::Immutable(value) | Put::Mutable { value, .. }), _) => {
                self.store_at(storers, request, Item::Immutable { value }, now, rng);
            }
        }
    }

    fn store_at(
        &mut self,
        storers: &[(Next, Vec<u8>)],
        request: RequestId,
        item: Item<'_>,
        now: Instant,
        rng: &mut StdRng,
    ) {
        let (target, mut storing) = (items::target(&item), Storing::default());
        for (node, token) in storers {
            let arguments = Arguments::Put { target: Some(target), token, item, cas: None };
            if self.ask(node.address, node.id, Purpose::Store(request), arguments, now, rng) {
                storing.left += 1;
            }
        }
        match storing.left {
            0 => self.events.push_back(Event::Finished { request, nodes: 0 }),
            _ => drop(self.storing.insert(request, storing)),
        }
    }

    /// A node stored something, or did not.
    pub(super) fn on_stored(&mut self, request: RequestId, stored: bool) {
        let Some(storing) = self.storing.get_mut(&request) else { return };
        storing.left = storing.left.saturating_sub(1);
        storing.stored += u32::from(stored);
        if storing.left == 0 {
            let nodes = storing.stored;
            self.storing.remove(&request);
            self.events.push_back(Event::Finished { request, nodes });
        }
    }
}

/// The item in an answer, if it is what is looked for, and newer than what was found.
fn newer_item(
    target: NodeId,
    key: Option<&ItemKey>,
    best: Option<&FoundItem>,
    response: &Response<'_>,
) -> Option<FoundItem> {
    let value = response.value?;
    match key {
        None => {
            let right = best.is_none() && immutable_target(value) == target;
            let item = FoundItem { value: value.to_vec(), seq: 0, signature: None, authoritative: true };
            right.then_some(item)
        }
        Some(ItemKey { key, salt }) => {
            let (signature, seq) = (response.signature?, response.seq?);
            let newer = best.is_none_or(|best| seq > best.seq);
            // Checked only if it matters: it is what costs most.
            let right = newer && response.key.is_none_or(|said| said == key);
            let signed = right && is_signed(key, signature, salt, seq, value);
            let signature = Some(*signature);
            signed.then(|| FoundItem { value: value.to_vec(), seq, signature, authoritative: false })
        }
    }
}

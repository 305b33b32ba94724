//! The node: who it is, whom it knows, and what becomes of a datagram.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;

use super::limits::{Blocker, Quota};
use super::lookup::{Goal, Lookup, LookupId};
use super::node_id::{is_valid, node_id};
use super::requests::Storing;
use super::state::{MOST_NODES, Saved};
use super::store::Store;
use super::table::{Table, random_id};
use super::tokens::Tokens;
use super::transactions::{Late, Purpose, Transactions};
use super::{Config, Event, RequestId, is_askable};
use crate::wire::EntryTree;
use crate::wire::krpc::{self, Arguments, Body, NodeId, NodeInfo, Packet, Query, Response, Want, endpoint};

/// How often is looked after the table, and how often while nodes wait to be asked whether they are there.
const MAINTENANCE: Duration = Duration::from_secs(5);
const BUSY_MAINTENANCE: Duration = Duration::from_secs(1);
/// The most nodes that wait for that; how many are asked at a time.
const MOST_HEARD: usize = 64;
const PINGS: usize = 8;
/// Hardly anybody answered: it is tried again after so long, then twice as long, at most so long.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// One node of the DHT, in one address family.
#[derive(Debug)]
pub struct Node {
    is_v4: bool,
    pub(super) id: NodeId,
    external: Option<IpAddr>,
    pub(super) config: Config,
    /// Whether we have a node of the other family, which nodes of that family are asked for.
    pub(super) wants_foreign: bool,
    pub(super) table: Table,
    pub(super) transactions: Transactions,
    pub(super) lookups: BTreeMap<LookupId, Lookup>,
    pub(super) storing: BTreeMap<RequestId, Storing>,
    pub(super) store: Store,
    pub(super) tokens: Tokens,
    blocker: Blocker,
    quota: Quota,
    /// Where to begin: hosts that only help others to find each other, and so are not in the table.
    pub(super) routers: Vec<SocketAddr>,
    /// Nodes of an earlier time.
    pub(super) saved: Vec<SocketAddr>,
    /// Nodes that were heard of, and are to be asked whether they are there.
    heard: VecDeque<NodeInfo>,
    heard_from: HashSet<SocketAddr>,
    pub(super) bootstrapped: bool,
    /// The next attempt at a first contact, and how long after that the one after it.
    retry: (Instant, Duration),
    maintenance: Instant,
    pub(super) next_lookup: u64,
    pub(super) events: VecDeque<Event>,
}

/// A question that somebody asks. Whoever answers it sends one answer, or none.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub from: SocketAddr,
    /// The bencoded message, repaired if that was needed.
    pub message: Cow<'a, [u8]>,
}

impl Question<'_> {
    /// The query in it, and its transaction. It is there: a question is made of one.
    pub(super) fn read(&self) -> Option<(Query<'_>, &[u8])> {
        let packet = Packet::read(&self.message).ok()?;
        match packet.body {
            Body::Query(query) => Some((query, packet.transaction)),
            _ => None,
        }
    }

    /// Its name.
    pub fn method(&self) -> &str {
        self.read().map_or("", |(query, _)| query.method)
    }

    /// The place that nodes are asked for of, and of which address families.
    pub fn nodes_wanted(&self) -> Option<(NodeId, Want)> {
        self.read()?.0.arguments.ok()?.nodes_wanted()
    }

    /// An answer that says nothing yet, for a plugin to fill in.
    pub fn frame(&self, id: NodeId) -> EntryTree {
        let mut tree = EntryTree::new();
        let root = EntryTree::ROOT;
        let transaction = self.read().map(|(_, t)| t.to_vec()).unwrap_or_default();
        // The root is a dictionary, and the tree is fresh: nothing can be refused.
        let _ = tree.insert_bytes(root, b"y", b"r");
        let _ = tree.insert_bytes(root, b"t", &transaction);
        let _ = tree.insert_bytes(root, b"ip", &endpoint(self.from));
        if let Ok(r) = tree.dict(root, b"r") {
            let _ = tree.insert_bytes(r, b"id", &id.0);
            let _ = tree.insert_int(r, b"p", self.from.port().into());
        }
        tree
    }
}

impl Node {
    /// A node that knows nobody, but perhaps remembers some.
    pub fn new(is_v4: bool, config: Config, saved: Saved, now: Instant, rng: &mut StdRng) -> Self {
        let (id, external) = saved.id.unwrap_or_else(|| (random_id(rng), None));
        Self {
            is_v4,
            id,
            external,
            wants_foreign: false,
            table: Table::new(id, now),
            transactions: Transactions::default(),
            lookups: BTreeMap::new(),
            storing: BTreeMap::new(),
            store: Store::new(now),
            tokens: Tokens::new(now, rng),
            blocker: Blocker::default(),
            quota: Quota::new(now, &config),
            config,
            routers: Vec::new(),
            saved: saved.nodes.into_iter().filter(|node| node.is_ipv4() == is_v4).collect(),
            heard: VecDeque::new(),
            heard_from: HashSet::new(),
            bootstrapped: false,
            retry: (now, RETRY.0),
            maintenance: now,
            next_lookup: 0,
            events: VecDeque::new(),
        }
    }

    /// What it calls itself.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Whether it speaks IPv4, and not IPv6.
    pub fn is_v4(&self) -> bool {
        self.is_v4
    }

    /// How many nodes it knows.
    pub fn num_nodes(&self) -> usize {
        self.table.len()
    }

    /// The nodes that it knows closest to a place.
    pub fn closest(&self, target: NodeId) -> Vec<NodeInfo> {
        self.table.closest(target, super::K)
    }

    /// What is to be kept until another time.
    pub fn save(&self) -> Saved {
        let nodes = self.table.best(MOST_NODES).into_iter().map(|node| node.address);
        // Before anybody answered, what was kept is all that is known.
        let nodes: Vec<_> = if self.table.len() > 0 { nodes.collect() } else { self.saved.clone() };
        Saved { id: Some((self.id, self.external)), nodes }
    }

    /// From now on, these settings hold.
    pub fn set_config(&mut self, config: Config) {
        if config.ip_filter != self.config.ip_filter {
            self.table.retain(|address| !config.ip_filter.blocks(address.ip()));
        }
        self.config = config;
    }

    /// Whether there is a node of the other address family, to which nodes may be passed on.
    pub fn set_wants_foreign(&mut self, wants: bool) {
        self.wants_foreign = wants;
    }

    /// We are seen from this address: if our id does not belong to it, we take one that does (BEP 42).
    pub fn set_external(&mut self, ip: IpAddr, now: Instant, rng: &mut StdRng) {
        self.external = Some(ip);
        if !is_valid(self.id, ip) {
            self.id = node_id(ip, rng);
            self.table.rename(self.id, now, &self.config);
            self.look_around(now, rng);
        }
    }

    /// A datagram came. `Some`: it is a question, to be answered by a plugin or by [`answer`](Self::answer).
    pub fn receive<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a [u8],
        now: Instant,
        rng: &mut StdRng,
    ) -> Option<Question<'a>> {
        if self.config.ip_filter.blocks(from.ip()) {
            return None;
        }
        let message = krpc::checked(datagram).ok()?;
        let packet = Packet::read(&message).ok()?;
        match packet.body {
            Body::Query(query) => {
                let admitted = self.admits(from, &query, packet.transaction, now);
                admitted.then_some(Question { from, message })
            }
            Body::Response(response) => {
                let ours = packet.ip.map(|ip| ip.ip());
                self.on_response(from, packet.transaction, &response, ours, &message, now, rng);
                None
            }
            Body::Error { .. } => {
                self.on_error(from, packet.transaction, &message, now, rng);
                None
            }
        }
    }

    /// Whether a question is to be answered. Who asks is remembered.
    fn admits(&mut self, from: SocketAddr, query: &Query<'_>, transaction: &[u8], now: Instant) -> bool {
        if self.config.read_only || query.id == self.id || from.port() == 0 {
            return false;
        }
        if !self.blocker.admits(from.ip(), now, &self.config) || !self.quota.is_left(now, &self.config) {
            return false;
        }
        if self.config.enforce_node_id && !is_valid(query.id, from.ip()) {
            self.send_error(from, transaction, 203, "invalid node ID");
            return false;
        }
        if !query.read_only {
            self.hear_of(NodeInfo { id: query.id, address: from }, now);
        }
        true
    }

    /// Somebody is said to be a node. If there is use for one like it, it is asked soon whether it is there.
    pub fn hear_of(&mut self, node: NodeInfo, now: Instant) {
        if node.address.is_ipv4() != self.is_v4
            || self.heard.len() >= MOST_HEARD
            || self.routers.contains(&node.address)
            || !is_askable(node.address, node.address)
            || !self.table.wants(node, &self.config)
            || !self.heard_from.insert(node.address)
        {
            return;
        }
        self.heard.push_back(node);
        self.maintenance = self.maintenance.min(now + BUSY_MAINTENANCE);
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one message")]
    fn on_response(
        &mut self,
        from: SocketAddr,
        transaction: &[u8],
        response: &Response<'_>,
        ours: Option<IpAddr>,
        message: &[u8],
        now: Instant,
        rng: &mut StdRng,
    ) {
        let Some(pending) = self.transactions.answered(transaction, from) else { return };
        let verified = is_valid(response.id, from.ip());
        let impostor = pending.id.is_some_and(|id| id != response.id) || response.id == self.id;
        if impostor || (self.config.enforce_node_id && !verified) {
            self.table.failed(from, &self.config);
            return self.give_up(pending.to, pending.purpose, now, rng);
        }
        let node = NodeInfo { id: response.id, address: from };
        if !self.routers.contains(&from) {
            self.table.answered(node, verified, now, &self.config);
        }
        if let Some(ip) = ours.filter(|ip| ip.is_ipv4() == self.is_v4) {
            self.events.push_back(Event::External { voter: from.ip(), ip });
        }
        if self.wants_foreign {
            let foreign = response.nodes.iter().filter(|node| node.address.is_ipv4() != self.is_v4);
            let askable = foreign.filter(|node| is_askable(node.address, from)).take(super::K);
            self.events.extend(askable.copied().map(Event::Foreign));
        }
        match pending.purpose {
            Purpose::Ping => {}
            Purpose::Lookup(lookup) => self.on_found(lookup, from, response, now, rng),
            Purpose::Store(request) => self.on_stored(request, true),
            Purpose::Direct(request) => {
                let message = Some(message.to_vec());
                self.events.push_back(Event::Answered { request, from, message });
            }
        }
    }

    fn on_error(
        &mut self,
        from: SocketAddr,
        transaction: &[u8],
        message: &[u8],
        now: Instant,
        rng: &mut StdRng,
    ) {
        let Some(pending) = self.transactions.answered(transaction, from) else { return };
        if let Purpose::Direct(request) = pending.purpose {
            let message = Some(message.to_vec());
            return self.events.push_back(Event::Answered { request, from, message });
        }
        self.give_up(from, pending.purpose, now, rng);
    }

    /// No good answer will come to a question.
    fn give_up(&mut self, to: SocketAddr, purpose: Purpose, now: Instant, rng: &mut StdRng) {
        match purpose {
            Purpose::Ping => {}
            Purpose::Lookup(lookup) => self.on_lookup_failed(lookup, to, now, rng),
            Purpose::Store(request) => self.on_stored(request, false),
            Purpose::Direct(request) => {
                self.events.push_back(Event::Answered { request, from: to, message: None });
            }
        }
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Instant, rng: &mut StdRng) {
        while let Some(late) = self.transactions.late(now) {
            match late {
                Late::Slow(pending) => {
                    if let Purpose::Lookup(lookup) = pending.purpose {
                        self.on_lookup_slow(lookup, pending.to, now, rng);
                    }
                }
                Late::Lost(pending) => {
                    self.table.failed(pending.to, &self.config);
                    self.give_up(pending.to, pending.purpose, now, rng);
                }
            }
        }
        if now >= self.maintenance {
            self.maintain(now, rng);
        }
    }

    /// When [`on_timeout`](Self::on_timeout) is due.
    pub fn poll_timeout(&self) -> Instant {
        self.transactions.next().map_or(self.maintenance, |next| next.min(self.maintenance))
    }

    /// The next thing that came to pass.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn maintain(&mut self, now: Instant, rng: &mut StdRng) {
        self.tokens.rotate(now, rng);
        self.store.sweep(now);
        for _ in 0..PINGS {
            let Some(node) = self.heard.pop_front() else { break };
            self.heard_from.remove(&node.address);
            if self.table.wants(node, &self.config) {
                self.ask(node.address, Some(node.id), Purpose::Ping, Arguments::Ping, now, rng);
            }
        }
        if let Some(node) = self.table.questionable(now) {
            self.ask(node.address, Some(node.id), Purpose::Ping, Arguments::Ping, now, rng);
        }
        if self.table.len() < super::K {
            self.retry(now, rng);
        }
        if let Some(target) = self.table.refresh(now, rng) {
            self.look_for_nodes(target, false, now, rng);
        }
        let busy = !self.heard.is_empty();
        self.maintenance = now + if busy { BUSY_MAINTENANCE } else { MAINTENANCE };
    }

    /// Hardly anybody is known: everybody who was ever known is tried again.
    fn retry(&mut self, now: Instant, rng: &mut StdRng) {
        let (at, pause) = self.retry;
        let nobody = self.routers.is_empty() && self.saved.is_empty() && self.table.len() == 0;
        if now < at || nobody || self.is_looking_for_nodes() {
            return;
        }
        self.retry = (now + pause, (pause * 2).min(RETRY.1));
        self.look_around(now, rng);
    }

    /// Whether a lookup for nodes is on its way.
    fn is_looking_for_nodes(&self) -> bool {
        self.lookups.values().any(|lookup| matches!(lookup.goal, Goal::Nodes { .. }))
    }

    /// Asks a question. Whether it was asked: the address may be kept out, or too many wait already.
    pub(super) fn ask(
        &mut self,
        to: SocketAddr,
        id: Option<NodeId>,
        purpose: Purpose,
        arguments: Arguments<'_>,
        now: Instant,
        rng: &mut StdRng,
    ) -> bool {
        if self.config.ip_filter.blocks(to.ip()) {
            return false;
        }
        let Some(transaction) = self.transactions.begin(to, id, purpose, now, rng) else { return false };
        let read_only = self.config.read_only;
        let query = Query { id: self.id, method: arguments.method(), read_only, arguments: Ok(arguments) };
        let packet = Packet { transaction: &transaction, ip: None, body: Body::Query(query) };
        self.events.push_back(Event::Send { to, payload: packet.encode().into() });
        true
    }

    /// Sends an answer that a plugin made.
    pub fn send_answer(&mut self, to: SocketAddr, message: Vec<u8>) {
        self.quota.spend(message.len());
        self.events.push_back(Event::Send { to, payload: Bytes::from(message) });
    }

    pub(super) fn send_response(&mut self, to: SocketAddr, transaction: &[u8], response: Response<'_>) {
        let packet = Packet { transaction, ip: Some(to), body: Body::Response(response) };
        self.send_answer(to, packet.encode());
    }

    pub(super) fn send_error(&mut self, to: SocketAddr, transaction: &[u8], code: i64, text: &str) {
        let body = Body::Error { code, text: text.to_owned() };
        self.send_answer(to, Packet { transaction, ip: Some(to), body }.encode());
    }

    /// The families that nodes are asked for of.
    pub(super) fn want(&self) -> Want {
        Want { v4: self.wants_foreign, v6: self.wants_foreign }
    }

    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.transactions.len() == 0 && self.lookups.is_empty()
    }
}

//! The routing table: nodes that answered, the more of them the closer they are to us (BEP 5).
//!
//! Invariants: each node has answered a question of ours from the address it is listed with. No id and no address is
//! listed twice, and (unless that is switched off) no IP address, and in one bucket no network. Only the last bucket, in
//! which our own id lies, is ever divided. A node that fails makes way for one that waits to replace it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

use super::{Config, K, network};
use crate::wire::krpc::{NodeId, NodeInfo};

/// A bucket of which nothing was heard for so long is refreshed, and a node is asked whether it is still there (BEP 5).
pub(super) const REFRESH: Duration = Duration::from_secs(15 * 60);
/// Bits of an id.
const BITS: usize = 160;

/// One node.
#[derive(Clone, Copy, Debug)]
struct Entry {
    info: NodeInfo,
    /// When it last answered.
    answered: Instant,
    /// How often in a row it has not answered.
    failed: u8,
    /// Whether its id belongs to its address (BEP 42).
    verified: bool,
}

#[derive(Debug)]
struct Bucket {
    live: Vec<Entry>,
    /// Nodes that answered, and wait for a place.
    waiting: Vec<Entry>,
    /// When something of it last changed, or it was refreshed.
    changed: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { live: Vec::with_capacity(K), waiting: Vec::new(), changed: now }
    }

    fn all(&self) -> impl Iterator<Item = &Entry> {
        self.live.iter().chain(&self.waiting)
    }

    fn remove(&mut self, mut is: impl FnMut(&Entry) -> bool) {
        self.live.retain(|entry| !is(entry));
        self.waiting.retain(|entry| !is(entry));
    }

    /// A place became free: the node that answered last takes it.
    fn promote(&mut self) {
        while self.live.len() < K {
            let Some(entry) = self.waiting.pop() else { return };
            self.live.push(entry);
        }
    }
}

/// The nodes that we know.
#[derive(Debug)]
pub(super) struct Table {
    own: NodeId,
    /// The bucket at `i` has the nodes that share the first `i` bits of our id and no more; the last, all closer ones.
    buckets: Vec<Bucket>,
}

impl Table {
    pub(super) fn new(own: NodeId, now: Instant) -> Self {
        Self { own, buckets: vec![Bucket::new(now)] }
    }

    /// How many nodes are there.
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.live.len()).sum()
    }

    fn index(&self, id: NodeId) -> usize {
        (self.own.shared_bits(id) as usize).min(self.buckets.len() - 1)
    }

    /// Whether a node that is only heard of would be of use, if it answered.
    pub(super) fn wants(&self, node: NodeInfo, config: &Config) -> bool {
        let bucket = &self.buckets[self.index(node.id)];
        let room = bucket.live.len() < K || bucket.waiting.len() < K || self.can_divide(self.index(node.id));
        room && node.id != self.own
            && !bucket.all().any(|entry| entry.info.id == node.id)
            && self.clash(node, config).is_none()
    }

    /// A node that stands in the way of another one.
    fn clash(&self, node: NodeInfo, config: &Config) -> Option<NodeInfo> {
        let ip = node.address.ip();
        let same = |entry: &&Entry| {
            let other = entry.info.address;
            other == node.address || (config.restrict_routing_ips && other.ip() == ip)
        };
        let clash = self.buckets.iter().flat_map(Bucket::all).find(same);
        let neighbours = || {
            let near = |entry: &&Entry| network(entry.info.address.ip()) == network(ip);
            let mut found = self.buckets[self.index(node.id)].all().filter(near);
            found.next().filter(|_| config.restrict_routing_ips)
        };
        clash.or_else(neighbours).map(|entry| entry.info)
    }

    /// A node answered. Whether it is in the table now, or was before.
    pub(super) fn answered(&mut self, node: NodeInfo, verified: bool, now: Instant, config: &Config) -> bool {
        if node.id == self.own || (config.enforce_node_id && !verified) {
            return false;
        }
        let at = self.index(node.id);
        let bucket = &mut self.buckets[at];
        let known = |entry: &&mut Entry| entry.info.id == node.id;
        if let Some(entry) = bucket.live.iter_mut().chain(&mut bucket.waiting).find(known) {
            if entry.info.address == node.address {
                *entry = Entry { info: node, answered: now, failed: 0, verified };
                bucket.changed = now;
                return true;
            }
            // An id belongs to whoever had it first, for as long as that one answers.
            if entry.failed == 0 {
                return false;
            }
            let before = entry.info.address;
            self.remove(before);
        }
        match self.clash(node, config) {
            // It calls itself otherwise than before.
            Some(other) if other.address == node.address => self.remove(other.address),
            Some(_) => return false,
            None => {}
        }
        self.insert(Entry { info: node, answered: now, failed: 0, verified }, now, config)
    }

    fn insert(&mut self, new: Entry, now: Instant, config: &Config) -> bool {
        loop {
            let at = self.index(new.info.id);
            let divisible = self.can_divide(at);
            let bucket = &mut self.buckets[at];
            if bucket.live.len() < K {
                bucket.live.push(new);
                bucket.changed = now;
                return true;
            }
            let weak = bucket.live.iter().position(|entry| entry.failed > 0).or_else(|| {
                let prefers = config.prefer_verified_node_ids && new.verified;
                bucket.live.iter().position(|entry| prefers && !entry.verified)
            });
            if let Some(weak) = weak {
                bucket.live[weak] = new;
                bucket.changed = now;
                return true;
            }
            if !divisible {
                if bucket.waiting.len() == K {
                    bucket.waiting.remove(0);
                }
                bucket.waiting.push(new);
                return true;
            }
            self.divide(now);
        }
    }

    fn can_divide(&self, at: usize) -> bool {
        at + 1 == self.buckets.len() && self.buckets.len() < BITS
    }

    /// Divides the last bucket: what shares one bit more with us goes into a new one.
    fn divide(&mut self, now: Instant) {
        let bits = self.buckets.len();
        let Some(last) = self.buckets.last_mut() else { return };
        let closer = |entry: &Entry| self.own.shared_bits(entry.info.id) as usize >= bits;
        let mut next = Bucket::new(last.changed.min(now));
        for entry in std::mem::take(&mut last.live) {
            if closer(&entry) { next.live.push(entry) } else { last.live.push(entry) }
        }
        for entry in std::mem::take(&mut last.waiting) {
            if closer(&entry) { next.waiting.push(entry) } else { last.waiting.push(entry) }
        }
        last.promote();
        next.promote();
        self.buckets.push(next);
    }

    /// Forgets the nodes whose address is not `kept`.
    pub(super) fn retain(&mut self, kept: impl Fn(SocketAddr) -> bool) {
        for bucket in &mut self.buckets {
            bucket.live.retain(|entry| kept(entry.info.address));
            bucket.waiting.retain(|entry| kept(entry.info.address));
            bucket.promote();
        }
    }

    /// A node did not answer.
    pub(super) fn failed(&mut self, address: SocketAddr, config: &Config) {
        for bucket in &mut self.buckets {
            bucket.waiting.retain(|entry| entry.info.address != address);
            let Some(at) = bucket.live.iter().position(|entry| entry.info.address == address) else {
                continue;
            };
            let entry = &mut bucket.live[at];
            entry.failed = entry.failed.saturating_add(1);
            if entry.failed >= config.max_fail_count || !bucket.waiting.is_empty() {
                bucket.live.remove(at);
                bucket.promote();
            }
            return;
        }
    }

    fn remove(&mut self, address: SocketAddr) {
        for bucket in &mut self.buckets {
            bucket.remove(|entry| entry.info.address == address);
            bucket.promote();
        }
    }

    /// The nodes that are closest to a place, closest first; those that failed last.
    pub(super) fn closest(&self, target: NodeId, most: usize) -> Vec<NodeInfo> {
        let mut all: Vec<&Entry> = self.buckets.iter().flat_map(|bucket| &bucket.live).collect();
        all.sort_unstable_by_key(|entry| (entry.failed > 0, entry.info.id.distance(target)));
        all.into_iter().take(most).map(|entry| entry.info).collect()
    }

    /// A place in a bucket of which nothing was heard for long, to be looked for.
    pub(super) fn refresh(&mut self, now: Instant, rng: &mut impl Rng) -> Option<NodeId> {
        let last = self.buckets.len() - 1;
        let stale = |bucket: &Bucket| now.duration_since(bucket.changed) >= REFRESH;
        let at = self.buckets.iter().position(stale)?;
        self.buckets[at].changed = now;
        let mut bytes = [0; 20];
        rng.fill_bytes(&mut bytes);
        let mut id = NodeId(bytes);
        // As many bits as the bucket's nodes share with us; and then, unless they are the closest, one that differs.
        for bit in 0..=at.min(BITS - 1) {
            let (byte, mask) = (bit / 8, 0x80 >> (bit % 8));
            let ours = self.own.0[byte] & mask;
            let wanted = if bit == at && at != last { ours ^ mask } else { ours };
            if bit < at || at != last {
                id.0[byte] = (id.0[byte] & !mask) | wanted;
            }
        }
        Some(id)
    }

    /// The node of which nothing was heard for longest, if that is too long, to be asked whether it is still there.
    pub(super) fn questionable(&self, now: Instant) -> Option<NodeInfo> {
        let live = self.buckets.iter().flat_map(|bucket| &bucket.live);
        let oldest = live.min_by_key(|entry| entry.answered)?;
        (now.duration_since(oldest.answered) >= REFRESH).then_some(oldest.info)
    }

    /// Some nodes to begin with another time: from every bucket those that answered last.
    pub(super) fn best(&self, most: usize) -> Vec<NodeInfo> {
        let mut all: Vec<&Entry> = self.buckets.iter().flat_map(|bucket| &bucket.live).collect();
        all.sort_by_key(|entry| (entry.failed, std::cmp::Reverse(entry.answered)));
        all.into_iter().take(most).map(|entry| entry.info).collect()
    }

    /// We call ourselves otherwise from now on: everybody finds a new place.
    pub(super) fn rename(&mut self, own: NodeId, now: Instant, config: &Config) {
        let old = std::mem::replace(self, Self::new(own, now));
        for entry in old.buckets.iter().flat_map(Bucket::all) {
            if entry.info.id != own {
                self.insert(*entry, now, config);
            }
        }
    }
}

/// A random id.
pub(super) fn random_id(rng: &mut impl RngExt) -> NodeId {
    let mut bytes = [0; 20];
    rng.fill(&mut bytes);
    NodeId(bytes)
}

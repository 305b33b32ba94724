//! What we keep for others: who has which torrent (BEP 5), and items (BEP 44). Everything is bounded, and is forgotten
//! unless it is announced again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IteratorRandom;

use super::Config;
use super::bloom::Bloom;
use crate::wire::krpc::{NodeId, Samples};

/// How long a peer is remembered (libtorrent's).
const PEER_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How long an item is remembered (BEP 44).
const ITEM_LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);

#[derive(Debug, Default)]
struct Swarm {
    peers: HashMap<SocketAddr, Peer>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    /// When it last announced itself.
    announced: Instant,
    /// It has everything, it says.
    seed: bool,
}

impl Peer {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.announced) < PEER_LIFETIME
    }
}

/// What is stored under a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) value: Vec<u8>,
    /// Key, signature and number of a mutable item.
    pub(super) owner: Option<([u8; 32], [u8; 64], i64)>,
    pub(super) announced: Instant,
}

/// What we keep for others.
#[derive(Debug)]
pub(super) struct Store {
    torrents: HashMap<NodeId, Swarm>,
    items: HashMap<NodeId, Stored>,
    /// The last answer to `sample_infohashes`, and when it was made.
    samples: Option<(Instant, Samples)>,
    swept: Instant,
}

impl Store {
    pub(super) fn new(now: Instant) -> Self {
        Self { torrents: HashMap::new(), items: HashMap::new(), samples: None, swept: now }
    }

    /// A peer of a torrent announced itself.
    pub(super) fn announce(
        &mut self,
        info_hash: NodeId,
        peer: SocketAddr,
        seed: bool,
        now: Instant,
        config: &Config,
    ) {
        if !self.torrents.contains_key(&info_hash) && self.torrents.len() >= config.max_torrents.max(1) {
            // The smallest swarm is missed least.
            let least = self.torrents.iter().min_by_key(|(id, swarm)| (swarm.peers.len(), **id));
            if let Some(least) = least.map(|(id, _)| *id) {
                self.torrents.remove(&least);
            }
        }
        let swarm = self.torrents.entry(info_hash).or_default();
        if !swarm.peers.contains_key(&peer) && swarm.peers.len() >= config.max_peers.max(1) {
            let oldest = swarm.peers.iter().min_by_key(|(address, peer)| (peer.announced, **address));
            let oldest = oldest.map(|(address, _)| *address);
            oldest.map(|oldest| swarm.peers.remove(&oldest));
        }
        swarm.peers.insert(peer, Peer { announced: now, seed });
    }

    /// The addresses of a torrent's peers: of those that have everything, and of the others (BEP 33).
    pub(super) fn filters(&self, info_hash: NodeId, now: Instant) -> Option<[Bloom; 2]> {
        let mut filters = <[Bloom; 2]>::default();
        let peers = &self.torrents.get(&info_hash)?.peers;
        for (address, peer) in peers.iter().filter(|(_, peer)| peer.is_fresh(now)) {
            filters[usize::from(!peer.seed)].insert(address.ip());
        }
        Some(filters)
    }

    /// Some peers of a torrent, at most `most`.
    pub(super) fn peers(
        &self,
        info_hash: NodeId,
        most: usize,
        now: Instant,
        rng: &mut impl RngExt,
    ) -> Vec<SocketAddr> {
        let Some(swarm) = self.torrents.get(&info_hash) else { return Vec::new() };
        let mut fresh: Vec<SocketAddr> =
            swarm.peers.iter().filter(|(_, peer)| peer.is_fresh(now)).map(|(address, _)| *address).collect();
        // The map has no order of its own that a run could be repeated with.
        fresh.sort_unstable();
        fresh.into_iter().sample(rng, most)
    }

    /// What is stored at a place.
    pub(super) fn item(&self, target: NodeId, now: Instant) -> Option<&Stored> {
        self.items.get(&target).filter(|item| now.duration_since(item.announced) < ITEM_LIFETIME)
    }

    /// Stores an item; `own` is where we are: of too many, the one that is farthest from there goes.
    pub(super) fn put(&mut self, target: NodeId, item: Stored, own: NodeId, config: &Config) {
        if !self.items.contains_key(&target) && self.items.len() >= config.max_items {
            let Some(farthest) = self.items.keys().max_by_key(|id| id.distance(own)).copied() else { return };
            if farthest.distance(own) < target.distance(own) {
                return;
            }
            self.items.remove(&farthest);
        }
        self.items.insert(target, item);
    }

    /// Some of the torrents that we know of (BEP 51): the same ones for a while, so that asking often is of no use.
    pub(super) fn samples(&mut self, now: Instant, config: &Config, rng: &mut impl RngExt) -> Samples {
        let interval = config.sample_infohashes_interval;
        let (num, most) = (self.torrents.len(), config.max_infohashes_sample_count);
        let old = self.samples.take().filter(|(made, samples)| {
            // Few torrents are told as they come.
            now.duration_since(*made) < interval && samples.hashes.len() >= num.min(most)
        });
        let (made, mut samples) = old.unwrap_or_else(|| {
            let mut all: Vec<[u8; 20]> = self.torrents.keys().map(|id| id.0).collect();
            all.sort_unstable();
            (now, Samples { hashes: all.into_iter().sample(rng, most), ..Samples::default() })
        });
        samples.num = u32::try_from(num).unwrap_or(u32::MAX);
        let left = interval.saturating_sub(now.duration_since(made));
        samples.interval = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
        self.samples = Some((made, samples.clone()));
        samples
    }

    /// Forgets what is too old. Cheap if it was done lately.
    pub(super) fn sweep(&mut self, now: Instant) {
        if now.duration_since(self.swept) < Duration::from_secs(60) {
            return;
        }
        self.swept = now;
        self.torrents.retain(|_, swarm| {
            swarm.peers.retain(|_, peer| peer.is_fresh(now));
            !swarm.peers.is_empty()
        });
        self.items.retain(|_, item| now.duration_since(item.announced) < ITEM_LIFETIME);
    }

    /// How many torrents, and items, are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.torrents.len(), self.items.len())
    }
}

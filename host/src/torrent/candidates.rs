//! The peers of a torrent that we know of, and whom to connect to next.
//!
//! Invariant: a peer stands in `idle` exactly when it is not connected and its port is known, and `idle` is in the order
//! in which peers are tried: fewest failures, then longest not connected, then highest priority, then earliest offered. A banned peer is on the
//! list only for as long as it is connected.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotfish_plugin::PeerSource;

use super::bans::{BanReason, Bans};
use crate::peer::mse::Greeting;
use crate::peer::peer_priority;

/// The settings of the list, under libtorrent's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CandidateLimits {
    /// The most peers to remember; more are taken only in the place of hopeless ones.
    pub max_peerlist_size: usize,
    /// A peer is tried again so long after its connection ended, and once more as long for each failure.
    pub min_reconnect_time: Duration,
    /// A peer that failed so often in a row is not tried again.
    pub max_failcount: u8,
}

impl Default for CandidateLimits {
    fn default() -> Self {
        Self { max_peerlist_size: 3_000, min_reconnect_time: Duration::from_secs(60), max_failcount: 3 }
    }
}

/// What became of an address that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is on the list now.
    New,
    /// It was on the list, and may have got one more source.
    Known,
    /// It was not taken.
    Refused(Refusal),
}

/// Why an address is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Port 0 or 1.
    #[error("no peer listens on port 0 or 1")]
    Port,
    /// Unspecified, multicast, or IPv6 link-local without a zone.
    #[error("not the address of a peer")]
    Address,
    /// The caller's IP or port filter.
    #[error("blocked by a filter")]
    Filtered,
    /// The address is banned.
    #[error("banned")]
    Banned,
    /// The torrent is private, and none of its trackers named the address (BEP 27).
    #[error("the torrent is private")]
    Private,
    /// The list is full of better peers.
    #[error("the list of peers is full")]
    Full,
    /// There is a connection with this endpoint.
    #[error("already connected")]
    Connected,
}

/// What is known of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<P> {
    /// Everywhere we heard of it.
    pub sources: PeerSource,
    /// How often connecting to it, or its connection, failed in a row.
    pub failcount: u8,
    /// When its last connection ended.
    pub last_connected: Option<Instant>,
    /// Its port is one that it listens on, not just the one it came from.
    pub connectable: bool,
    /// It has everything.
    pub seed: bool,
    /// It was connected by uTP, or somebody said that it was to them.
    pub speaks_utp: bool,
    /// Its last connection by TCP that we made ended before it said anything.
    pub declined_tcp: bool,
    /// How many pieces that it contributed to failed; stops at 255.
    pub hash_failures: u8,
    /// It contributed to a piece that failed, and to none since that passed.
    pub parole: bool,
    /// The greeting that it answered last.
    pub greeting: Option<Greeting>,
    /// It did not listen to the other greeting, and is to be tried with this one.
    pub retry: Option<Greeting>,
    /// Its connection, from the attempt on.
    pub connected: Option<P>,
    /// How high a connection to it stands (BEP 40); 0 while our own address is not known.
    rank: u32,
    /// Earlier offers first.
    number: u64,
}

/// A peer's place in the order of trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    failcount: u8,
    last_connected: Option<Instant>,
    rank: Reverse<u32>,
    number: u64,
    endpoint: SocketAddr,
}

/// The list of known peers. Every operation on one endpoint is O(log n); the rest says so.
///
/// Endpoints are compared in canonical form: an IPv4 address mapped into IPv6 is that IPv4 address.
#[derive(Clone, Debug)]
pub struct Candidates<P> {
    limits: Arc<CandidateLimits>,
    peers: BTreeMap<SocketAddr, Known<P>>,
    /// Those that are not seeds, and those that are.
    idle: [BTreeSet<Turn>; 2],
    bans: Bans,
    /// The addresses by which peers know us: of IPv4, and of IPv6.
    ours: Arc<[Option<SocketAddr>; 2]>,
    offers: u64,
}

impl<P: Copy> Candidates<P> {
    /// An empty list.
    pub fn new(limits: Arc<CandidateLimits>) -> Self {
        Self {
            limits,
            peers: BTreeMap::new(),
            idle: Default::default(),
            bans: Bans::default(),
            ours: Arc::default(),
            offers: 0,
        }
    }

    /// A list whose peers know us by these addresses.
    pub fn known_as(mut self, ours: Arc<[Option<SocketAddr>; 2]>) -> Self {
        self.ours = ours;
        self
    }

    /// Peers know us by these addresses from now on, of IPv4 and of IPv6. O(n log n).
    pub fn set_our_addresses(&mut self, ours: Arc<[Option<SocketAddr>; 2]>) {
        self.ours = ours;
        let endpoints: Vec<SocketAddr> = self.peers.keys().copied().collect();
        for endpoint in endpoints {
            let rank = self.rank(endpoint);
            self.change(endpoint, |known| known.rank = rank);
        }
    }

    /// Other limits from now on. A list that is too long stays so until peers are forgotten.
    pub fn set_limits(&mut self, limits: Arc<CandidateLimits>) {
        self.limits = limits;
    }

    /// A peer was offered by `source`. `filtered` is what the caller's filters say of the endpoint.
    pub fn add(&mut self, endpoint: SocketAddr, source: PeerSource, filtered: bool) -> Added {
        let endpoint = canonical(endpoint);
        if let Err(refusal) = self.admit(endpoint, filtered) {
            return Added::Refused(refusal);
        }
        if self.peers.contains_key(&endpoint) {
            self.change(endpoint, |known| {
                known.sources = known.sources | source;
                known.connectable = true;
            });
            return Added::Known;
        }
        if self.peers.len() >= self.limits.max_peerlist_size && !self.drop_worst() {
            return Added::Refused(Refusal::Full);
        }
        self.insert(endpoint, source, true);
        Added::New
    }

    /// The best peer to connect to now: fewest failures first, then longest ago, then by priority (BEP 40), then earliest offered. Seeds are of no
    /// use once we are `finished`. The answer stays the same until the caller says [`Candidates::connected`].
    ///
    /// O(max_failcount · log n).
    pub fn next(&self, now: Instant, finished: bool) -> Option<SocketAddr> {
        let due = |turn: &&Turn| self.due(turn).is_none_or(|due| due <= now);
        self.firsts(finished).filter(due).min().map(|turn| turn.endpoint)
    }

    /// When [`Candidates::next`] will have an answer, `now` if it has one; `None` if waiting will not bring one.
    pub fn next_deadline(&self, now: Instant, finished: bool) -> Option<Instant> {
        self.firsts(finished).map(|turn| self.due(turn).map_or(now, |due| due.max(now))).min()
    }

    /// We are connecting, or connected, to this peer. One that is not on the list is put there without a source.
    pub fn connected(&mut self, endpoint: SocketAddr, peer: P) {
        let endpoint = canonical(endpoint);
        if !self.peers.contains_key(&endpoint) {
            self.insert(endpoint, PeerSource::NONE, true);
        }
        self.change(endpoint, |known| {
            known.connected = Some(peer);
            known.retry = None;
        });
    }

    /// A peer connected to us. Its port is one that it came from, and not tried again unless somebody offers it.
    ///
    /// # Errors
    /// Its address is banned or filtered, or this endpoint is connected.
    pub fn incoming(&mut self, endpoint: SocketAddr, peer: P, filtered: bool) -> Result<(), Refusal> {
        let endpoint = canonical(endpoint);
        self.admit(endpoint, filtered)?;
        match self.peers.get(&endpoint) {
            Some(known) if known.connected.is_some() => return Err(Refusal::Connected),
            Some(_) => {}
            None => self.insert(endpoint, PeerSource::INCOMING, false),
        }
        self.change(endpoint, |known| {
            known.sources = known.sources | PeerSource::INCOMING;
            known.connected = Some(peer);
        });
        Ok(())
    }

    /// A peer that connected to us says on which port it listens (`p`, BEP 10). Answers the endpoint by which it is
    /// known from now on: the old one, if somebody else is connected by the new one.
    pub fn listens_on(&mut self, endpoint: SocketAddr, port: u16) -> SocketAddr {
        let old = canonical(endpoint);
        let mut new = old;
        new.set_port(port);
        let taken = self.known(new).is_some_and(|known| known.connected.is_some());
        if taken || port <= RESERVED_PORTS {
            return old;
        }
        let Some(mut known) = self.remove(old) else { return old };
        known.connectable = true;
        known.rank = self.rank(new);
        if let Some(before) = self.remove(new) {
            known.sources = known.sources | before.sources;
            known.number = before.number;
        }
        self.put(new, known);
        new
    }

    /// The connection, or the attempt, ended; `failed` if that was an error. A peer that cannot be connected to is
    /// forgotten.
    pub fn disconnected(&mut self, endpoint: SocketAddr, now: Instant, failed: bool) {
        let endpoint = canonical(endpoint);
        self.change(endpoint, |known| {
            known.connected = None;
            known.last_connected = Some(now);
            known.failcount = known.failcount.saturating_add(u8::from(failed));
        });
        let gone = self.peers.get(&endpoint).is_some_and(|known| !known.connectable);
        if gone || self.is_banned(endpoint.ip()) {
            self.remove(endpoint);
        }
    }

    /// The connection ended, but not for good: the peer may be called again as if it had not been.
    pub fn released(&mut self, endpoint: SocketAddr) {
        let endpoint = canonical(endpoint);
        self.change(endpoint, |known| known.connected = None);
        if self.is_banned(endpoint.ip()) {
            self.remove(endpoint);
        }
    }

    /// The peer did not listen to how it was greeted, and is greeted with this when it is called the next time.
    pub fn retry(&mut self, endpoint: SocketAddr, greeting: Greeting) {
        self.change(canonical(endpoint), |known| known.retry = Some(greeting));
    }

    /// The peer proved to be alive: its earlier failures are forgiven.
    pub fn clear_failures(&mut self, endpoint: SocketAddr) {
        self.change(canonical(endpoint), |known| known.failcount = 0);
    }

    /// There is no use in calling this peer, whoever names it.
    pub fn give_up(&mut self, endpoint: SocketAddr) {
        self.change(canonical(endpoint), |known| known.failcount = u8::MAX);
    }

    /// The peer answered a greeting.
    pub fn set_greeting(&mut self, endpoint: SocketAddr, greeting: Greeting) {
        self.change(canonical(endpoint), |known| known.greeting = Some(greeting));
    }

    /// Whether the peer has everything.
    pub fn set_seed(&mut self, endpoint: SocketAddr, seed: bool) {
        self.change(canonical(endpoint), |known| known.seed = seed);
    }

    /// The peer speaks uTP.
    pub fn set_speaks_utp(&mut self, endpoint: SocketAddr) {
        self.change(canonical(endpoint), |known| known.speaks_utp = true);
    }

    /// Whether the peer took a connection by TCP, and ended it before it said anything.
    pub fn set_declined_tcp(&mut self, endpoint: SocketAddr, declined: bool) {
        self.change(canonical(endpoint), |known| known.declined_tcp = declined);
    }

    /// A piece that the peer contributed to has passed: its parole ends.
    pub fn piece_passed(&mut self, endpoint: SocketAddr) {
        self.change(canonical(endpoint), |known| known.parole = false);
    }

    /// A piece that the peer contributed to, perhaps `alone`, has failed: it is on parole, so that its next piece is its own
    /// alone. Says whether that should end in a [`ban`](Self::ban).
    ///
    /// libtorrent also bans whoever had a part in four pieces that failed. An honest peer that shares its pieces with a liar
    /// gets there as soon as the liar does.
    pub fn piece_failed(&mut self, endpoint: SocketAddr, alone: bool) -> bool {
        self.change(canonical(endpoint), |known| {
            known.hash_failures = known.hash_failures.saturating_add(1);
            known.parole = true;
        });
        alone
    }

    /// Bans an address. Its peers are forgotten, those that are connected as soon as they are not: they are for the caller
    /// to disconnect. Whether it was not banned before. O(n).
    pub fn ban(&mut self, ip: IpAddr, reason: BanReason) -> bool {
        let ip = ip.to_canonical();
        self.retain(|endpoint, _| endpoint.ip() != ip);
        self.bans.insert(ip, reason)
    }

    /// Forgets the peers that are not `kept`. Those that are connected stay for as long as they are: these are answered, for the
    /// caller to disconnect. O(n).
    pub fn retain(&mut self, kept: impl Fn(SocketAddr, &Known<P>) -> bool) -> Vec<P> {
        let gone: Vec<_> = (self.peers.iter())
            .filter(|(endpoint, known)| !kept(**endpoint, known))
            .map(|(&endpoint, known)| (endpoint, known.connected))
            .collect();
        let mut connected = Vec::new();
        for (endpoint, peer) in gone {
            match peer {
                Some(peer) => connected.push(peer),
                None => self.forget(endpoint),
            }
        }
        connected
    }

    /// Forgets a peer, if it is not connected.
    pub fn forget(&mut self, endpoint: SocketAddr) {
        let endpoint = canonical(endpoint);
        if self.peers.get(&endpoint).is_some_and(|known| known.connected.is_none()) {
            self.remove(endpoint);
        }
    }

    /// Lifts a ban. Says whether there was one.
    pub fn unban(&mut self, ip: IpAddr) -> bool {
        self.bans.lift(ip)
    }

    /// Whether the address is banned.
    pub fn is_banned(&self, ip: IpAddr) -> bool {
        self.bans.contains(ip)
    }

    /// Every banned address, and why.
    pub fn banned(&self) -> &Bans {
        &self.bans
    }

    /// What is known of this peer.
    pub fn known(&self, endpoint: SocketAddr) -> Option<&Known<P>> {
        self.peers.get(&canonical(endpoint))
    }

    /// Every peer on the list, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &Known<P>)> {
        self.peers.iter().map(|(&endpoint, known)| (endpoint, known))
    }

    /// How many peers are on the list.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether no peer is on the list.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// How many peers could be connected to, now or later. O(n).
    pub fn num_idle(&self, finished: bool) -> usize {
        let hopeful = |turn: &&Turn| turn.failcount < self.limits.max_failcount;
        self.idle(finished).map(|turns| turns.iter().take_while(hopeful).count()).sum()
    }

    fn admit(&self, endpoint: SocketAddr, filtered: bool) -> Result<(), Refusal> {
        let ip = endpoint.ip();
        if endpoint.port() <= RESERVED_PORTS {
            return Err(Refusal::Port);
        }
        if ip.is_unspecified() || ip.is_multicast() || lacks_zone(endpoint) {
            return Err(Refusal::Address);
        }
        if self.bans.contains(ip) {
            return Err(Refusal::Banned);
        }
        if filtered { Err(Refusal::Filtered) } else { Ok(()) }
    }

    fn insert(&mut self, endpoint: SocketAddr, sources: PeerSource, connectable: bool) {
        self.offers += 1;
        let known = Known {
            sources,
            failcount: 0,
            last_connected: None,
            connectable,
            seed: false,
            speaks_utp: false,
            declined_tcp: false,
            hash_failures: 0,
            parole: false,
            greeting: None,
            retry: None,
            connected: None,
            rank: self.rank(endpoint),
            number: self.offers,
        };
        self.put(endpoint, known);
    }

    /// How high a connection to this peer stands.
    fn rank(&self, endpoint: SocketAddr) -> u32 {
        let ours = self.ours[usize::from(endpoint.is_ipv6())];
        ours.and_then(|ours| peer_priority(ours, endpoint)).unwrap_or(0)
    }

    /// The one way onto the list.
    fn put(&mut self, endpoint: SocketAddr, known: Known<P>) {
        if known.is_idle() {
            self.idle[usize::from(known.seed)].insert(known.turn(endpoint));
        }
        self.peers.insert(endpoint, known);
    }

    /// The one way off the list.
    fn remove(&mut self, endpoint: SocketAddr) -> Option<Known<P>> {
        let known = self.peers.remove(&endpoint)?;
        if known.is_idle() {
            self.idle[usize::from(known.seed)].remove(&known.turn(endpoint));
        }
        Some(known)
    }

    /// The one way to change a peer, because its turn may change with it.
    fn change(&mut self, endpoint: SocketAddr, change: impl FnOnce(&mut Known<P>)) {
        if let Some(mut known) = self.remove(endpoint) {
            change(&mut known);
            self.put(endpoint, known);
        }
    }

    /// Makes room: forgets the peer that would be tried last, if it has failed before.
    fn drop_worst(&mut self) -> bool {
        let worst = self.idle.iter().filter_map(BTreeSet::last).max().filter(|turn| turn.failcount > 0);
        worst.map(|turn| turn.endpoint).and_then(|endpoint| self.remove(endpoint)).is_some()
    }

    /// The peers that are of use: others than seeds, and seeds too until we are `finished`.
    fn idle(&self, finished: bool) -> impl Iterator<Item = &BTreeSet<Turn>> {
        self.idle.iter().take(if finished { 1 } else { 2 })
    }

    /// Of each number of failures, the peer whose turn comes first: none of its equals is due before it.
    fn firsts(&self, finished: bool) -> impl Iterator<Item = &Turn> {
        let counts = 0..self.limits.max_failcount;
        self.idle(finished).flat_map(move |turns| {
            counts.clone().filter_map(|failcount| {
                let (rank, endpoint) = (Reverse(u32::MAX), NOWHERE);
                let least = Turn { failcount, last_connected: None, rank, number: 0, endpoint };
                turns.range(least..).next().filter(|turn| turn.failcount == failcount)
            })
        })
    }

    /// When the peer may be tried; `None` if it never was.
    fn due(&self, turn: &Turn) -> Option<Instant> {
        let wait = self.limits.min_reconnect_time * (u32::from(turn.failcount) + 1);
        turn.last_connected.map(|ended| ended + wait)
    }
}

impl<P> Known<P> {
    fn is_idle(&self) -> bool {
        self.connectable && self.connected.is_none()
    }

    fn turn(&self, endpoint: SocketAddr) -> Turn {
        let (failcount, last_connected) = (self.failcount, self.last_connected);
        Turn { failcount, last_connected, rank: Reverse(self.rank), number: self.number, endpoint }
    }
}

/// Ports up to this one are nobody's, as in libtorrent.
const RESERVED_PORTS: u16 = 1;

/// The least of all endpoints.
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

fn canonical(endpoint: SocketAddr) -> SocketAddr {
    match endpoint {
        SocketAddr::V4(_) => endpoint,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddr::from((ip, v6.port())),
            // The flow label says nothing of who it is.
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
    }
}

fn lacks_zone(endpoint: SocketAddr) -> bool {
    matches!(endpoint, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

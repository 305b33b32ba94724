//! Torrents look for peers in the DHT, and announce themselves there: now, and every `dht_announce_interval`.
//!
//! A private torrent never does (BEP 27). One that was added by a link might turn out to be private: until its metadata is
//! known it only looks for peers, without which the metadata would never come, and does not announce itself.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pilotfish_plugin::{PeerSource, TorrentHandle};

use super::requests::Request;
use crate::alert::AlertKind;
use crate::dht::{Announce, RequestId};
use crate::engine::Engine;
use crate::engine::state::State;
use crate::wire::krpc::NodeId;

/// The most torrents that look for peers at a time.
const MOST: usize = 16;
/// Without peers it is tried again after so long, then twice as long, at most the interval.
const RETRY: Duration = Duration::from_secs(30);

/// What is known of a torrent's announcing.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// When it is due, unless it is on its way.
    at: Option<Instant>,
    /// Requests on their way.
    running: u32,
    /// Peers found by those.
    found: u32,
    /// How long after a failure it is tried again.
    pause: Duration,
}

/// Which torrents are announced when.
#[derive(Debug, Default)]
pub(in crate::engine) struct Announcing {
    turns: HashMap<TorrentHandle, Turn>,
    due: BTreeSet<(Instant, TorrentHandle)>,
    /// Those that are due, and wait until others are done.
    waiting: VecDeque<TorrentHandle>,
    running: usize,
}

impl Announcing {
    /// When the next torrent is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn schedule(&mut self, torrent: TorrentHandle, at: Instant, pause: Duration) {
        if let Some(Turn { at: Some(before), .. }) = self.turns.get(&torrent) {
            self.due.remove(&(*before, torrent));
        }
        self.turns.insert(torrent, Turn { at: Some(at), running: 0, found: 0, pause });
        self.due.insert((at, torrent));
    }

    fn forget(&mut self, torrent: TorrentHandle) {
        if let Some(turn) = self.turns.remove(&torrent) {
            turn.at.map(|at| self.due.remove(&(at, torrent)));
            self.running -= usize::from(turn.running > 0);
        }
        self.waiting.retain(|other| *other != torrent);
    }
}

impl State {
    /// Has a torrent look for peers soon, unless it has a turn already or may not.
    pub(in crate::engine) fn schedule_dht(&mut self, torrent: TorrentHandle) {
        if !self.dht.is_on() || self.dht.announcing.turns.contains_key(&torrent) || !self.uses_dht(torrent) {
            return;
        }
        self.dht.announcing.schedule(torrent, self.now, RETRY);
        self.arm_dht();
    }

    /// A torrent was added: the nodes that it names are asked, unless it is private, and it looks for peers as soon as it takes
    /// any.
    pub(in crate::engine) fn greet_dht(&mut self, torrent: TorrentHandle) {
        let metainfo = self.torrent(torrent).and_then(|t| t.description.metainfo());
        let nodes =
            metainfo.filter(|metainfo| !metainfo.private()).map(|metainfo| metainfo.dht_nodes().to_vec());
        let nodes = nodes.filter(|_| self.dht.is_on()).unwrap_or_default();
        nodes.into_iter().take(MOST).for_each(|(host, port)| self.add_dht_node(&host, port));
        self.schedule_dht(torrent);
        self.arm_dht();
    }

    /// Whether a torrent may look for peers in the DHT now.
    fn uses_dht(&self, torrent: TorrentHandle) -> bool {
        self.torrent(torrent).is_some_and(|t| t.takes_peers() && !t.held_by_session)
            && !self.is_private(torrent)
    }

    /// Ends what the DHT does for a torrent: nothing more of it is sent.
    pub(in crate::engine) fn forget_dht(&mut self, torrent: TorrentHandle) {
        self.dht.announcing.forget(torrent);
        for request in self.dht.requests.of_torrent(torrent) {
            self.dht.nodes.iter_mut().flatten().for_each(|node| node.cancel(request));
        }
        self.announce_due();
    }

    /// Torrents that are due look for peers, a bounded number at a time.
    pub(super) fn announce_due(&mut self) {
        let now = self.now;
        let announcing = &mut self.dht.announcing;
        while let Some((at, torrent)) = announcing.due.first().copied().filter(|(at, _)| *at <= now) {
            announcing.due.remove(&(at, torrent));
            if let Some(turn) = announcing.turns.get_mut(&torrent) {
                turn.at = None;
                announcing.waiting.push_back(torrent);
            }
        }
        while self.dht.announcing.running < MOST {
            let Some(torrent) = self.dht.announcing.waiting.pop_front() else { return };
            if self.uses_dht(torrent) {
                self.announce_in_dht(torrent);
            } else {
                self.dht.announcing.forget(torrent);
            }
        }
    }

    fn announce_in_dht(&mut self, torrent: TorrentHandle) {
        let Some(t) = self.torrent(torrent) else { return };
        let (hashes, known, seed) = (*t.description.info_hashes(), t.has_metadata(), t.is_finished());
        let mut names = vec![NodeId(hashes.truncated()), NodeId(hashes.best())];
        names.dedup();
        let mut running = 0;
        for is_v4 in [true, false] {
            let announce =
                self.dht_port(is_v4).filter(|_| known).map(|port| Announce { port: Some(port), seed });
            for name in &names {
                let request = RequestId(self.fresh_id());
                if self.dht.node(is_v4).is_some() {
                    running += 1;
                    self.dht.requests.insert(request, Request::Torrent(torrent));
                    self.with_node(is_v4, |node, now, rng| {
                        node.get_peers(request, *name, announce, now, rng)
                    });
                }
            }
        }
        let announcing = &mut self.dht.announcing;
        if let Some(turn) = announcing.turns.get_mut(&torrent).filter(|_| running > 0) {
            (turn.running, turn.found) = (running, 0);
            announcing.running += 1;
        }
    }

    /// Whether an address is where we listen, as far as we know: we meet our own announcements again.
    fn is_us(&self, address: SocketAddr) -> bool {
        let seen = self.external_address(address.is_ipv4()) == Some(address.ip());
        self.listening.contains(&address)
            || (seen && self.dht_port(address.is_ipv4()) == Some(address.port()))
    }

    /// One of a torrent's requests is over, with answers of so many nodes.
    pub(super) fn on_announced_in_dht(&mut self, torrent: TorrentHandle, nodes: u32) {
        let now = self.now;
        let interval = self.settings.dht_announce_interval.duration();
        let content = self.torrent(torrent).is_some_and(|t| t.is_finished() || !t.peers.is_empty());
        let announcing = &mut self.dht.announcing;
        let Some(turn) = announcing.turns.get_mut(&torrent).filter(|turn| turn.running > 0) else { return };
        turn.running -= 1;
        if turn.running == 0 {
            announcing.running -= 1;
            let Turn { found, pause, .. } = *turn;
            let lonely = found == 0 && !(content && nodes > 0);
            let (next, pause) =
                if lonely { (pause.min(interval), (pause * 2).min(interval)) } else { (interval, RETRY) };
            announcing.schedule(torrent, now + next, pause);
        }
        self.announce_due();
    }

    /// There is somebody to ask, or something new to tell: torrents need not wait any longer.
    pub(in crate::engine) fn announce_all_now(&mut self) {
        let now = self.now;
        let announcing = &mut self.dht.announcing;
        let waiting: Vec<_> = announcing.due.iter().map(|(_, torrent)| *torrent).collect();
        waiting.into_iter().for_each(|torrent| announcing.schedule(torrent, now, RETRY));
        self.announce_due();
    }

    /// There is no DHT any more.
    pub(super) fn forget_dht_requests(&mut self) {
        self.dht.announcing = Announcing::default();
        self.dht.requests = super::Requests::default();
    }
}

impl Engine {
    /// Peers of a torrent were found.
    pub(super) fn offer_dht_peers(&mut self, torrent: TorrentHandle, peers: Vec<SocketAddr>) {
        if !self.state.uses_dht(torrent) {
            return;
        }
        let peers: Vec<_> = peers.into_iter().filter(|peer| !self.state.is_us(*peer)).collect();
        if let Some(turn) = self.state.dht.announcing.turns.get_mut(&torrent) {
            turn.found = turn.found.saturating_add(u32::try_from(peers.len()).unwrap_or(u32::MAX));
        }
        let name = self.state.torrent(torrent).map_or_else(String::new, |t| t.name().to_owned());
        let num_peers = u32::try_from(peers.len()).unwrap_or(u32::MAX);
        self.state.alert(AlertKind::DhtReply { torrent, name, num_peers });
        for peer in peers {
            self.offer_peer(torrent, peer, PeerSource::DHT);
            self.pump();
        }
    }
}

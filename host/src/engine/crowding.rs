//! Too many connections: who has to go, and who is not let in.
//!
//! Of two connections the one that stands lower by its priority goes (BEP 40), which both of its ends see alike. A session that
//! is full lets a few more in for as long as it takes to hear which torrent they want, so that they can be compared.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;

use pilotfish_plugin::{ErrorCode, Operation, PeerHandle, Severity, TorrentHandle};

use super::state::State;
use crate::peer::peer_priority;

impl State {
    /// Whether one more incoming connection is too many, whatever it wants.
    pub(super) fn is_overcrowded(&self) -> bool {
        let most = self.settings.connections_limit.saturating_add(self.settings.connections_slack);
        self.num_peers() >= most as usize
    }

    /// Whether no more connections are to be opened for a torrent.
    pub(super) fn is_full(&self, torrent: TorrentHandle) -> bool {
        let full = |t: &crate::torrent::Torrent| {
            t.max_connections > 0 && t.peers.len() >= t.max_connections as usize
        };
        self.num_peers() >= self.settings.connections_limit as usize || self.torrent(torrent).is_none_or(full)
    }

    /// Whether an incoming connection may join a torrent. Where there are too many, the lowest goes to make room for it.
    pub(super) fn admit(&mut self, peer: PeerHandle, torrent: TorrentHandle) -> bool {
        let Some(t) = self.torrent(torrent) else { return false };
        let (most, few) = (t.max_connections as usize, t.peers.len());
        if most > 0 && few >= most {
            return self.replace_lowest(torrent, peer);
        }
        if self.num_peers() <= self.settings.connections_limit as usize {
            return true;
        }
        // The torrent that has the most gives one up; among the torrents that have as few, the priority decides.
        let most = |handle: &TorrentHandle| self.torrent(*handle).map_or(0, |t| t.peers.len());
        match self.order.iter().copied().max_by_key(most) {
            Some(largest) if most(&largest) > few + 1 => {
                let lowest = self.lowest(largest);
                lowest.into_iter().for_each(|(lowest, _)| self.evict(lowest));
                lowest.is_some()
            }
            _ => self.replace_lowest(torrent, peer),
        }
    }

    /// Closes connections until there are no more than the limits allow: those of lowest priority, of the torrents that have
    /// the most.
    pub(super) fn enforce_connection_limits(&mut self) {
        for torrent in self.order.clone() {
            let Some(t) = self.torrent(torrent).filter(|t| t.max_connections > 0) else { continue };
            for _ in t.max_connections as usize..self.open_peers(torrent) {
                let lowest = self.lowest(torrent);
                lowest.into_iter().for_each(|(lowest, _)| self.evict(lowest));
            }
        }
        let open = self.peers().filter(|(_, connection)| !connection.is_closing()).count();
        for _ in self.settings.connections_limit as usize..open {
            let largest = self.order.iter().copied().max_by_key(|torrent| self.open_peers(*torrent));
            let lowest = largest.and_then(|torrent| self.lowest(torrent));
            lowest.into_iter().for_each(|(lowest, _)| self.evict(lowest));
        }
    }

    /// Closes the lowest connection of a torrent, if `peer` stands higher. Whether it did.
    fn replace_lowest(&mut self, torrent: TorrentHandle, peer: PeerHandle) -> bool {
        let rank = self.rank(peer);
        match self.lowest(torrent) {
            Some((lowest, low)) if low < rank => {
                self.evict(lowest);
                true
            }
            _ => false,
        }
    }

    /// The connection of a torrent that stands lowest, and how low.
    fn lowest(&self, torrent: TorrentHandle) -> Option<(PeerHandle, u32)> {
        let open = |peer: &&PeerHandle| self.peer(**peer).is_some_and(|connection| !connection.is_closing());
        let peers = self.torrent(torrent)?.peers.iter().filter(open);
        // Of equals the one that came last.
        let ranked = peers.enumerate().map(|(place, peer)| (self.rank(*peer), Reverse(place), *peer));
        ranked.min().map(|(rank, _, peer)| (peer, rank))
    }

    fn open_peers(&self, torrent: TorrentHandle) -> usize {
        let peers = self.torrent(torrent).map(|t| t.peers.as_slice()).unwrap_or_default();
        peers
            .iter()
            .filter(|peer| self.peer(**peer).is_some_and(|connection| !connection.is_closing()))
            .count()
    }

    /// How high a connection stands; 0 while our own address is not known.
    fn rank(&self, peer: PeerHandle) -> u32 {
        let Some(connection) = self.peer(peer) else { return 0 };
        let local =
            connection.local.map(|local| SocketAddr::new(local.ip(), self.listen_port().unwrap_or(0)));
        let ours = self.our_address(connection.remote).or(local);
        ours.and_then(|ours| peer_priority(ours, connection.remote)).unwrap_or(0)
    }

    /// The address by which peers of this one's family know us, as far as that is known.
    fn our_address(&self, remote: SocketAddr) -> Option<SocketAddr> {
        self.our_addresses[usize::from(remote.is_ipv6())]
    }

    /// Peers of its family know us by this address: those that we know of are tried in another order.
    pub(super) fn set_our_address(&mut self, address: SocketAddr) {
        let mut ours = *self.our_addresses;
        let known = &mut ours[usize::from(address.is_ipv6())];
        if known.replace(address) == Some(address) {
            return;
        }
        self.our_addresses = Arc::new(ours);
        let ours = self.our_addresses.clone();
        for torrent in self.order.clone() {
            if let Some(t) = self.torrent_mut(torrent) {
                t.candidates.set_our_addresses(ours.clone());
            }
        }
    }

    fn evict(&mut self, peer: PeerHandle) {
        self.disconnect(peer, ErrorCode::TOO_MANY_CONNECTIONS, Operation::BITTORRENT, Severity::NORMAL);
    }
}

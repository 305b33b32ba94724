//! Super-seeding (BEP 16): a seed that gives every piece away once, as far as it can.
//!
//! It pretends to have nothing, and offers each peer two pieces at a time that are rare, with HAVE. Only what was offered is
//! sent. When the piece turns up, a peer is offered another; with the setting `strict_super_seeding` only when it turns up at
//! somebody else, who can have it from nobody but this peer.

use std::collections::HashSet;

use pilotfish_plugin::{PeerHandle, TorrentHandle};
use rand::seq::IndexedRandom;

use super::state::State;
use crate::metainfo::PieceIndex;
use crate::torrent::Torrent;
use crate::wire::Message;

impl State {
    /// Super-seeds a torrent to the peers that come from now on, or to nobody any more.
    pub(super) fn set_super_seeding(&mut self, torrent: TorrentHandle, on: bool) {
        let Some(t) = self.torrent_mut(torrent) else { return };
        t.super_seeding = on;
        if !on {
            self.peers_of(torrent).into_iter().for_each(|peer| self.end_super_seeding(peer));
        }
    }

    /// Whether a torrent gives itself away piece by piece.
    pub(super) fn is_super_seeding(&self, torrent: Option<TorrentHandle>) -> bool {
        let seeds = |t: &Torrent| t.super_seeding && t.files_checked && t.picker.is_seed();
        torrent.and_then(|torrent| self.torrent(torrent)).is_some_and(seeds)
    }

    /// Tells a peer that we have nothing, and offers it the first two pieces; in the place of our bitfield.
    pub(super) fn begin_super_seeding(&mut self, peer: PeerHandle) {
        let Some(connection) = self.peer_mut(peer) else { return };
        connection.offered = Some([None; 2]);
        connection.bitfield_sent = true;
        if connection.fast() {
            self.send_and_tell(peer, &Message::HaveNone);
        }
        (0..2).for_each(|_| self.offer(peer, None));
    }

    /// Whether a piece is kept from a peer for now.
    pub(super) fn withholds(&self, peer: PeerHandle, piece: u32) -> bool {
        let offered = self.peer(peer).and_then(|connection| connection.offered.as_ref());
        offered.is_some_and(|offered| !offered.iter().flatten().any(|offer| offer.get() == piece))
    }

    /// A peer told us of a piece: whoever was offered that one, and has it, is offered another.
    pub(super) fn spread(&mut self, peer: PeerHandle, piece: PieceIndex) {
        let torrent = self.peer(peer).and_then(|connection| connection.torrent);
        if !self.is_super_seeding(torrent) {
            return;
        }
        let Some(peers) = torrent.map(|torrent| self.peers_of(torrent)) else { return };
        let lacking = |peer: &&PeerHandle| self.peer(**peer).is_some_and(|connection| !connection.is_seed());
        // A piece cannot turn up elsewhere where there is nobody else.
        let strict = self.settings.strict_super_seeding && peers.iter().filter(lacking).count() > 1;
        for other in peers {
            let done = self.peer(other).is_some_and(|connection| {
                let offered = connection.offered.is_some_and(|offered| offered.contains(&Some(piece)));
                offered && connection.has.get(piece.get())
            });
            if done && !(strict && other == peer) {
                self.offer(other, Some(piece));
            }
        }
    }

    /// A peer told us of everything that it has: it needs no offer of that.
    pub(super) fn renew_offers(&mut self, peer: PeerHandle) {
        let Some(connection) = self.peer(peer) else { return };
        let Some(offered) = connection.offered else { return };
        let useless: Vec<PieceIndex> =
            offered.into_iter().flatten().filter(|piece| connection.has.get(piece.get())).collect();
        useless.into_iter().for_each(|piece| self.offer(peer, Some(piece)));
        if self.peer(peer).is_some_and(crate::peer::Connection::is_seed) {
            self.end_super_seeding(peer);
        }
    }

    /// Offers a peer one more piece, in the place of one that it has; of two, the older one is forgotten.
    fn offer(&mut self, peer: PeerHandle, instead_of: Option<PieceIndex>) {
        let choice = self.choose_offer(peer);
        let Some(connection) = self.peer_mut(peer) else { return };
        let Some(offered) = &mut connection.offered else { return };
        if let Some(piece) = choice {
            if offered[0] == instead_of {
                offered.swap(0, 1);
            }
            *offered = [Some(piece), offered[0]];
            self.send_and_tell(peer, &Message::Have(piece.get()));
        } else if connection.is_seed() {
            self.end_super_seeding(peer);
        }
    }

    /// The rarest piece that a peer lacks and has not been offered, better one that nobody has been offered. O(pieces).
    fn choose_offer(&mut self, peer: PeerHandle) -> Option<PieceIndex> {
        let connection = self.peer(peer)?;
        let (torrent, own) = (connection.torrent?, connection.offered?);
        let t = self.torrent(torrent)?;
        let others = t.peers.iter().filter_map(|other| self.peer(*other)?.offered);
        let offered: HashSet<PieceIndex> = others.flatten().flatten().collect();
        let cost = |piece: PieceIndex| (offered.contains(&piece), t.picker.availability(piece));
        let lacks = |piece: &PieceIndex| !connection.has.get(piece.get()) && !own.contains(&Some(*piece));
        let candidates = t.geometry().pieces().filter(lacks).map(|piece| (cost(piece), piece));
        let mut best: Vec<PieceIndex> = Vec::new();
        let mut least = None;
        for (cost, piece) in candidates {
            if least.is_none_or(|least| cost < least) {
                least = Some(cost);
                best.clear();
            }
            if least == Some(cost) {
                best.push(piece);
            }
        }
        best.choose(&mut self.rng).copied()
    }

    /// Tells a peer the truth.
    fn end_super_seeding(&mut self, peer: PeerHandle) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let Some(offered) = connection.offered.take() else { return };
        if connection.fast() {
            return self.send_and_tell(peer, &Message::HaveAll);
        }
        let untold =
            |piece: &PieceIndex| !connection.has.get(piece.get()) && !offered.contains(&Some(*piece));
        let untold: Vec<PieceIndex> = torrent.geometry().pieces().filter(untold).collect();
        untold.into_iter().for_each(|piece| self.send_and_tell(peer, &Message::Have(piece.get())));
    }
}

//! Addresses that are kept out of a torrent or of the session: neither let in nor connected to.
//!
//! There is one list for each torrent and one for the session. Plugins, the embedding program and the engine's own judgement of
//! who sent bad data write to the same ones.

use std::net::SocketAddr;

use pilotfish_plugin::{ErrorCode, PeerHandle, TorrentHandle};

use super::Engine;
use super::state::State;
use crate::alert::AlertKind;
use crate::command::Ban;
use crate::torrent::{BanReason, Bans, Torrent};
use crate::wire::{EntryError, EntryTree};

impl Engine {
    /// Bans an address, whatever its port, from a torrent, or from the session if none is named, and disconnects it.
    pub(super) fn ban(&mut self, torrent: Option<TorrentHandle>, address: SocketAddr, reason: BanReason) {
        let state = &mut self.state;
        let Some(fresh) = state.note_ban(torrent, address, &reason) else { return };
        let peers = state.connections_from(torrent, address);
        if fresh {
            let peer = peers.first().copied();
            state.alert(AlertKind::PeerBan {
                torrent: torrent.unwrap_or(TorrentHandle::INVALID),
                peer: peer.unwrap_or(PeerHandle::INVALID),
                address: peer.and_then(|peer| state.peer(peer)).map_or(address, |c| c.remote),
                by: reason.by,
                reason: reason.why,
            });
        }
        for peer in peers {
            state.peer_error(peer, ErrorCode::PEER_BANNED);
        }
    }
}

impl State {
    /// Whether the ban is a new one; `None` if the torrent is gone.
    fn note_ban(
        &mut self,
        torrent: Option<TorrentHandle>,
        address: SocketAddr,
        reason: &BanReason,
    ) -> Option<bool> {
        let ip = address.ip();
        if let Some(torrent) = torrent {
            return Some(self.torrent_mut(torrent)?.candidates.ban(ip, reason.clone()));
        }
        for torrent in self.order.clone() {
            if let Some(t) = self.torrent_mut(torrent) {
                t.candidates.retain(|endpoint, _| endpoint.ip() != ip.to_canonical());
            }
        }
        Some(self.bans.insert(ip, reason.clone()))
    }

    /// Lifts a ban from a torrent, or from the session if none is named. `None` if the torrent is gone.
    pub(super) fn lift_ban(&mut self, torrent: Option<TorrentHandle>, address: SocketAddr) -> Option<bool> {
        Some(match torrent {
            Some(torrent) => self.torrent_mut(torrent)?.candidates.unban(address.ip()),
            None => self.bans.lift(address.ip()),
        })
    }

    /// The connections from an address to a torrent, or to any and to none yet.
    fn connections_from(&self, torrent: Option<TorrentHandle>, address: SocketAddr) -> Vec<PeerHandle> {
        let ip = address.ip().to_canonical();
        let held = |peer: &PeerHandle| {
            let torrent = torrent.and_then(|torrent| self.torrent(torrent));
            torrent.and_then(Torrent::company).is_some_and(|company| company.held.contains(peer))
        };
        let from = self.peers().filter(|(peer, connection)| {
            connection.remote.ip().to_canonical() == ip
                && (torrent.is_none() || connection.torrent == torrent || held(peer))
        });
        from.map(|(peer, _)| peer).collect()
    }

    /// Every ban.
    pub(super) fn all_bans(&self) -> Vec<Ban> {
        let torrents =
            self.order.iter().filter_map(|torrent| Some((Some(*torrent), self.torrent(*torrent)?)));
        let lists = torrents.map(|(torrent, t)| (torrent, t.candidates.banned()));
        let all = std::iter::once((None, &self.bans)).chain(lists);
        let listed = all.flat_map(|(torrent, bans)| {
            bans.iter().map(move |(address, reason)| Ban {
                address,
                torrent,
                by: reason.by.clone(),
                reason: reason.why.clone(),
            })
        });
        listed.collect()
    }

    /// The name of the plugin whose hook runs, with its reason.
    pub(super) fn plugins_reason(&self, why: &str) -> BanReason {
        BanReason::new(self.plugin_name(self.calling), why)
    }
}

/// A list of bans as plugins get it (`pilotfish_plugin::Ban`).
pub(super) fn bencode_bans(bans: &Bans) -> Vec<u8> {
    // A list of a fresh tree, and texts that are bounded: nothing can be refused but a list that is too long, of which the
    // beginning is as good.
    let mut tree = EntryTree::new();
    let _ = write_bans(bans, &mut tree);
    let list = tree.get(EntryTree::ROOT, b"bans").and_then(|list| tree.encode(list));
    list.unwrap_or_else(|| b"le".to_vec())
}

fn write_bans(bans: &Bans, tree: &mut EntryTree) -> Result<(), EntryError> {
    let list = tree.list(EntryTree::ROOT, b"bans")?;
    for (ip, reason) in bans.iter() {
        let ban = tree.push_dict(list)?;
        match ip {
            std::net::IpAddr::V4(ip) => tree.insert_bytes(ban, b"ip", &ip.octets())?,
            std::net::IpAddr::V6(ip) => tree.insert_bytes(ban, b"ip", &ip.octets())?,
        }
        tree.insert_bytes(ban, b"by", reason.by.as_bytes())?;
        tree.insert_bytes(ban, b"reason", reason.why.as_bytes())?;
    }
    Ok(())
}

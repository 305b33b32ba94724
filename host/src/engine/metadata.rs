//! Torrents that begin with a magnet link: peers come first, then the info dictionary, then everything else (BEP 9).
//!
//! How the info dictionary comes from peers is a plugin's business (ut_metadata). It hands it in, a disk thread hashes and
//! reads it, and if it is the right one the torrent becomes what it would have been from the beginning.

use bytes::Bytes;
use pilotfish_plugin::{
    ErrorCode, Operation, PeerHandle, PluginId, Severity, TorrentHandle, TorrentHooks, TorrentState,
};

use super::Engine;
use super::connections::is_untracked;
use super::state::State;
use super::torrents::pieces_per_file;
use crate::alert::AlertKind;
use crate::job::{DiskJob, MetadataError, StorageId};
use crate::metainfo::{Description, Metainfo};
use crate::peer::Bitfield;
use crate::torrent::{Picker, selection};

/// A peer may name pieces up to this before it is known how many there are (libtorrent's `max_piece_count`).
const MOST_PIECES: u32 = 0x20_0000;
/// So many pieces that a peer allows, or suggests, before then are remembered.
const MOST_EARLY: usize = 64;

/// What a peer said of pieces before it was known how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Early {
    AllowedFast(u32),
    Suggest(u32),
}

impl State {
    /// The plugin whose hook runs hands in an info dictionary. Whether it will be looked at.
    pub(super) fn offer_metadata(&mut self, torrent: TorrentHandle, info: &[u8]) -> bool {
        let most = self.settings.max_metadata_size as usize;
        let plugin = self.calling;
        let Some(t) = self.torrent_mut(torrent).filter(|t| !t.has_metadata() && !t.removing) else {
            return false;
        };
        if info.is_empty() || info.len() > most || t.metadata_from.is_some() {
            return false;
        }
        t.metadata_from = Some(plugin);
        let (storage, info_hashes) = (t.storage, *t.description.info_hashes());
        self.disk(DiskJob::Metadata { storage, info: Bytes::copy_from_slice(info), info_hashes });
        true
    }

    /// The peer has a piece, in a torrent of which nothing is known yet.
    pub(super) fn on_early_have(&mut self, peer: PeerHandle, raw: u32) {
        let Some(connection) = self.peer_mut(peer).filter(|_| raw < MOST_PIECES) else { return };
        if raw >= connection.has.len() {
            connection.has.resize(raw + 1);
        }
        connection.has.set(raw);
        connection.has_metadata = true;
    }

    /// The peer says what it has, in a torrent of which nothing is known yet. `None`: everything.
    pub(super) fn on_early_pieces(&mut self, peer: PeerHandle, has: Option<Bitfield>) {
        let Some(connection) = self.peer_mut(peer) else { return };
        connection.has_all_early = has.is_none();
        connection.has = has.unwrap_or_default();
        connection.bitfield_received = true;
        connection.has_metadata = true;
    }

    pub(super) fn remember_early(&mut self, peer: PeerHandle, early: Early) {
        let Some(connection) = self.peer_mut(peer) else { return };
        let list = match early {
            Early::AllowedFast(_) => &mut connection.allowed_early,
            Early::Suggest(_) => &mut connection.suggested_early,
        };
        let (Early::AllowedFast(piece) | Early::Suggest(piece)) = early;
        if list.len() < MOST_EARLY && !list.contains(&piece) {
            list.push(piece);
        }
    }
}

impl Engine {
    /// The info dictionary was looked at.
    pub(super) fn on_metadata(&mut self, storage: StorageId, metainfo: Result<Box<Metainfo>, MetadataError>) {
        let Some(torrent) = self.state.stored(storage) else { return };
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        let Some(plugin) = t.metadata_from.take() else { return };
        let name = t.name().to_owned();
        match metainfo {
            Ok(metainfo) => {
                self.state.alert(AlertKind::MetadataReceived { torrent, name });
                self.begin_with_metadata(torrent, metainfo);
            }
            Err(MetadataError::WrongHash) => {
                let error = MetadataError::WrongHash.to_string();
                self.state.alert(AlertKind::MetadataFailed { torrent, name, error });
                self.tell_metadata_failed(torrent, plugin);
            }
            Err(error @ MetadataError::Unusable(_)) => {
                // It is what the link names, and no other will ever come.
                self.state.alert(AlertKind::MetadataFailed { torrent, name, error: error.to_string() });
                self.stop_for(torrent, error.to_string());
            }
        }
    }

    fn tell_metadata_failed(&mut self, torrent: TorrentHandle, plugin: PluginId) {
        let Self { state, chains } = self;
        if let Some(chain) = chains.torrents.get_mut(torrent) {
            chain.only(state, plugin, torrent, TorrentHooks::on_metadata_failed, |p, cx| {
                p.on_metadata_failed(cx)
            });
        }
    }

    /// A private torrent has no peers but those that its trackers name, and who connects to us (BEP 27): before its metadata
    /// was known there may have been others.
    fn leave_swarm_if_private(&mut self, torrent: TorrentHandle) {
        let Some(t) = self.state.torrent_mut(torrent).filter(|t| t.is_private()) else { return };
        for peer in t.candidates.retain(|_, known| !is_untracked(known.sources)) {
            let error = ErrorCode::PRIVATE_TORRENT;
            self.state.disconnect(peer, error, Operation::BITTORRENT, Severity::NORMAL);
        }
    }

    /// From now on the torrent has pieces and files.
    fn begin_with_metadata(&mut self, torrent: TorrentHandle, metainfo: Box<Metainfo>) {
        let threshold = self.state.settings.initial_picker_threshold;
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        let description = Description::Metainfo(metainfo);
        t.layout = description.layout();
        t.picker = Picker::new(t.layout.geometry()).with_padding(t.layout.padding());
        t.picker.set_initial_picker_threshold(threshold);
        let mut wanted = std::mem::take(&mut t.file_priorities);
        if let (Description::Magnet(magnet), true) = (&t.description, wanted.is_empty()) {
            wanted = selection::of_files(&t.layout, &magnet.select_only);
        }
        t.prioritize_files(wanted);
        t.pieces_left = pieces_per_file(&t.layout);
        t.description = description;
        self.leave_swarm_if_private(torrent);
        // It may turn out to be private; if not, it is announced once its files have been looked at.
        self.state.forget_dht(torrent);
        self.tell_torrent(torrent, TorrentHooks::on_metadata, |p, cx| p.on_metadata(cx));
        self.pump();
        for peer in self.state.peers_of(torrent) {
            self.state.size_pieces(peer);
            self.state.send_bitfield(peer);
            self.pump();
            self.state.expect_from(peer);
            self.pump();
        }
        self.set_state(torrent, TorrentState::CHECKING_RESUME_DATA);
        self.state.open_storage(torrent);
    }
}

impl State {
    /// It is known now how many pieces there are: what the peer said before is brought into that shape.
    fn size_pieces(&mut self, peer: PeerHandle) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let len = torrent.geometry().num_pieces();
        if std::mem::take(&mut connection.has_all_early) {
            connection.has = Bitfield::full(len);
        } else {
            connection.has.resize(len);
        }
        if connection.bitfield_received {
            self.count(peer);
        }
        let Some(connection) = self.peer_mut(peer) else { return };
        let allowed = std::mem::take(&mut connection.allowed_early);
        let suggested = std::mem::take(&mut connection.suggested_early);
        allowed.into_iter().for_each(|piece| self.on_allowed_fast(peer, piece));
        suggested.into_iter().for_each(|piece| self.on_suggest(peer, piece));
    }

    /// Whatever the files hold, most likely it is nothing yet: a peer that has pieces is interesting (as with libtorrent).
    fn expect_from(&mut self, peer: PeerHandle) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        if connection.is_established() && torrent.picker.is_interesting(&connection.has) {
            self.say_interest(peer, true);
        }
    }

    /// Takes what a peer has into the torrent's availability.
    pub(super) fn count(&mut self, peer: PeerHandle) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        connection.counted = true;
        if connection.is_seed() {
            torrent.picker.peer_is_seed();
        } else {
            torrent.picker.peer_joined(&connection.has);
        }
    }
}

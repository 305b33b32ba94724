//! What the disk says, and what becomes of pieces.

use std::net::SocketAddr;

use bytes::Bytes;
use pilotfish_plugin::{
    ErrorCode, PeerHandle, PeerHooks, PieceOrigin, TorrentHandle, TorrentHooks, TorrentState,
};

use super::Engine;
use super::state::State;
use super::step::Step;
use crate::alert::AlertKind;
use crate::command::SaveResumeFlags;
use crate::job::{DiskDone, DiskError, DiskJob, StorageId};
use crate::metainfo::{BlockSpan, PieceIndex};
use crate::peer::{Connection, as_piece};
use crate::torrent::{BanReason, WebSeed};
use crate::wire::Message;

/// The name of the message that takes a HAVE back (BEP 54).
const DONT_HAVE: &str = "lt_donthave";

impl Engine {
    /// The disk answers. Answers for torrents that are gone mean nothing.
    pub(super) fn on_disk(&mut self, done: DiskDone) {
        match done {
            DiskDone::Opened { storage, existing } => self.on_opened(storage, existing),
            DiskDone::Checked { storage, piece, have } => self.on_checked(storage, piece, have),
            DiskDone::CheckFinished { storage, result } => self.on_check_finished(storage, result),
            DiskDone::Stamped { storage, stamps } => self.on_stamped(storage, &stamps),
            DiskDone::Written { storage, span, result } => self.state.on_block_written(storage, span, result),
            DiskDone::Hashed { storage, piece, passed } => self.on_hashed(storage, piece, passed),
            DiskDone::Read { token, data, .. } => self.state.on_read(token, data),
            DiskDone::Digest { token, digest } => self.state.on_digest(token, digest),
            DiskDone::Metadata { storage, metainfo } => self.on_metadata(storage, metainfo),
            DiskDone::Closed { storage } => self.on_closed(storage),
        }
    }

    fn on_hashed(&mut self, storage: StorageId, piece: PieceIndex, passed: Result<bool, DiskError>) {
        let Some(torrent) = self.state.stored(storage) else { return };
        match passed {
            Ok(true) => self.on_piece_pass(torrent, piece),
            Ok(false) => self.on_piece_failed(torrent, piece),
            Err(error) => {
                if let Some(t) = self.state.torrent_mut(torrent) {
                    t.picker.failed(piece);
                }
                self.state.take_back(torrent, piece);
                self.state.disk_failed(torrent, &error);
            }
        }
    }

    /// A piece is written and its hash is right: its contributors hear of it, then the swarm, then the torrent's plugins.
    fn on_piece_pass(&mut self, torrent: TorrentHandle, piece: PieceIndex) {
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        let number = as_piece(piece.get());
        let contributors = t.picker.contributors(piece);
        for peer in &contributors {
            if let Some((connection, t)) = self.state.pair(*peer) {
                match &connection.web {
                    None => t.candidates.piece_passed(connection.known_as),
                    Some(web) => {
                        t.web_seeds.get_mut(web.seed()).into_iter().for_each(WebSeed::piece_passed);
                    }
                }
            }
            self.tell_peer(*peer, PeerHooks::on_piece_pass, |p, cx| p.on_piece_pass(cx, number));
        }
        self.pump();
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        t.picker.passed(piece);
        t.record.changed(SaveResumeFlags::IF_DOWNLOAD_PROGRESS);
        self.state.announce_piece(torrent, piece);
        self.pump();
        self.tell_torrent(torrent, TorrentHooks::on_piece_pass, |p, cx| {
            p.on_piece_pass(cx, number, PieceOrigin::DOWNLOAD)
        });
        if let Some(t) = self.state.torrent_mut(torrent) {
            t.forget_departed();
        }
        self.state.piece_finished(torrent, piece);
        self.pump();
        if self
            .state
            .torrent(torrent)
            .is_some_and(|t| t.picker.is_finished() && t.state == TorrentState::DOWNLOADING)
        {
            self.finish(torrent);
        } else {
            self.state.update_interest_in(torrent, piece);
        }
    }

    /// A piece has the wrong hash: the torrent's plugins hear of it, then its contributors, and then they pay for it.
    fn on_piece_failed(&mut self, torrent: TorrentHandle, piece: PieceIndex) {
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        t.failed_bytes += u64::from(t.geometry().piece_size(piece));
        let (number, name) = (as_piece(piece.get()), t.name().to_owned());
        let contributors = t.picker.contributors(piece);
        let senders: Vec<_> = contributors
            .iter()
            .map(|peer| (*peer, self.state.address_of_downloader(torrent, *peer)))
            .collect();
        self.tell_torrent(torrent, TorrentHooks::on_piece_failed, |p, cx| p.on_piece_failed(cx, number));
        let mut useless = None;
        for peer in &contributors {
            if contributors.len() == 1 {
                useless = Some(self.doubt_web_seed(*peer, piece));
            }
            self.tell_peer(*peer, PeerHooks::on_piece_failed, |p, cx| p.on_piece_failed(cx, number));
        }
        self.pump();
        self.state.alert(AlertKind::HashFailed { torrent, name, piece: number });
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        let kept = t.picker.has_kept(piece);
        t.picker.failed(piece);
        t.forget_departed();
        t.record.changed(SaveResumeFlags::IF_DOWNLOAD_PROGRESS);
        let storage = t.storage;
        self.state.take_back(torrent, piece);
        self.state.disk(DiskJob::Forget { storage, piece });
        // What was kept from an earlier session may be as wrong as what they sent.
        if !kept {
            self.punish(torrent, &senders);
            self.punish_web_seeds(torrent, &contributors, useless);
        }
        for peer in self.state.peers_of(torrent) {
            self.state.request_blocks(peer);
        }
    }

    /// Who alone sent a bad piece is banned, and who had a part in one has to send a piece alone. That its connection is gone
    /// helps nobody.
    fn punish(&mut self, torrent: TorrentHandle, contributors: &[(PeerHandle, Option<SocketAddr>)]) {
        let first = contributors.first().and_then(|(_, address)| *address);
        let alone = contributors.iter().all(|(_, address)| address.map(|a| a.ip()) == first.map(|a| a.ip()));
        for (peer, address) in contributors {
            let Some(t) = self.state.torrent_mut(torrent) else { return };
            let Some(address) = address.filter(|address| t.candidates.piece_failed(*address, alone)) else {
                continue;
            };
            // The first reason to close a connection wins: this one says what the peer did, the ban's only that it was banned.
            self.state.peer_error(*peer, ErrorCode::TOO_MANY_CORRUPT_PIECES);
            self.ban(Some(torrent), address, BanReason::new(BanReason::ENGINE, "it sent bad data"));
        }
    }

    /// A web seed is banned by its URL: others may be at its address. `useless`: whether the only contributor, if it is a web
    /// seed, has nothing else.
    fn punish_web_seeds(
        &mut self,
        torrent: TorrentHandle,
        contributors: &[PeerHandle],
        useless: Option<bool>,
    ) {
        for peer in contributors {
            let web_seed = self.state.peer(*peer).filter(|connection| connection.web.is_some());
            let Some(address) = web_seed.map(|connection| connection.remote) else { continue };
            if self.state.blame_web_seed(*peer, useless) {
                self.state.peer_error(*peer, ErrorCode::TOO_MANY_CORRUPT_PIECES);
                let BanReason { by, why } = BanReason::new(BanReason::ENGINE, "it sent bad data");
                self.state.alert(AlertKind::PeerBan { torrent, peer: *peer, address, by, reason: why });
            }
        }
    }

    fn on_checked(&mut self, storage: StorageId, piece: PieceIndex, have: bool) {
        let Some(torrent) = self.state.stored(storage) else { return };
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        t.pieces_checked += 1;
        if !have {
            return self.state.keep_blocks(torrent, piece);
        }
        if t.picker.have(piece) {
            return;
        }
        t.picker.set_have(piece);
        t.record.changed(SaveResumeFlags::IF_DOWNLOAD_PROGRESS);
        let number = as_piece(piece.get());
        self.tell_torrent(torrent, TorrentHooks::on_piece_pass, |p, cx| {
            p.on_piece_pass(cx, number, PieceOrigin::CHECK)
        });
        self.state.note_files(torrent, piece, false);
    }
}

impl State {
    /// Where a peer is, or was, that sent a block of a begun piece; by the address by which the torrent knows it. Web seeds have
    /// none that would be theirs.
    pub(super) fn address_of_downloader(
        &self,
        torrent: TorrentHandle,
        peer: PeerHandle,
    ) -> Option<SocketAddr> {
        let connected = self
            .peer(peer)
            .filter(|connection| connection.torrent == Some(torrent) && connection.web.is_none());
        let departed = || self.torrent(torrent)?.company()?.departed.get(&peer).copied();
        connected.map(|connection| connection.known_as).or_else(departed)
    }

    /// A run of blocks is in the file, and waits no more.
    fn on_block_written(&mut self, storage: StorageId, span: BlockSpan, result: Result<(), DiskError>) {
        let limit = u64::from(self.settings.max_queued_disk_bytes);
        self.queued_disk_bytes = self.queued_disk_bytes.saturating_sub(u64::from(span.len));
        if self.queued_disk_bytes < limit / 2 {
            for torrent in std::mem::take(&mut self.congested) {
                if let Some(t) = self.torrent_mut(torrent) {
                    t.disk_congested = false;
                }
                self.resume_reading(torrent);
            }
        }
        let Some(torrent) = self.by_storage.get(&storage).copied() else { return };
        if let Some(t) = self.torrent_mut(torrent) {
            t.record.unwritten = t.record.unwritten.saturating_sub(span.len.into());
            t.record.changed(SaveResumeFlags::IF_DOWNLOAD_PROGRESS);
            match result {
                Ok(()) => t.picker.written(span),
                Err(_) => t.picker.failed(span.piece),
            }
        }
        self.look_for_record(torrent);
        if let Err(error) = result {
            // All of it is asked for anew, so none of what was written may stand in for what comes.
            self.disk(DiskJob::Forget { storage, piece: span.piece });
            self.disk_failed(torrent, &error);
        }
    }

    /// A file cannot be read or written.
    pub(super) fn disk_failed(&mut self, torrent: TorrentHandle, error: &DiskError) {
        let file = error.path.display().to_string();
        self.steps.push_back(Step::FileError(torrent, file, error.to_string()));
    }

    /// Tells the swarm that we have a piece.
    fn announce_piece(&mut self, torrent: TorrentHandle, piece: PieceIndex) {
        let redundant = self.settings.send_redundant_have;
        let told = self.told_early(torrent, piece);
        for peer in self.peers_of(torrent).into_iter().filter(|peer| !told.contains(peer)) {
            let wanted = self.peer(peer).is_some_and(|connection| {
                connection.is_established()
                    && connection.bitfield_sent
                    && (redundant || !connection.has.get(piece.get()))
            });
            if wanted {
                self.send_and_tell(peer, &Message::Have(piece.get()));
            }
        }
    }

    /// Tells those peers of a piece before its hash is known from which that can be taken back.
    pub(super) fn announce_early(&mut self, torrent: TorrentHandle, piece: PieceIndex) {
        let may_be_told = |connection: &Connection| {
            connection.is_established()
                && connection.bitfield_sent
                && connection.fast()
                && connection.extensions.theirs(DONT_HAVE).is_some()
                && !connection.has.get(piece.get())
        };
        let told: Vec<PeerHandle> = self
            .peers_of(torrent)
            .into_iter()
            .filter(|peer| self.peer(*peer).is_some_and(may_be_told))
            .collect();
        for peer in told {
            self.send_and_tell(peer, &Message::Have(piece.get()));
            if let Some(t) = self.torrent_mut(torrent) {
                t.company_mut().announced_early.push((piece, peer));
            }
        }
    }

    /// A piece that was announced early has the wrong hash: we do not have it after all (BEP 54).
    fn take_back(&mut self, torrent: TorrentHandle, piece: PieceIndex) {
        for peer in self.told_early(torrent, piece) {
            let id = self.peer(peer).and_then(|connection| connection.extensions.theirs(DONT_HAVE));
            if let Some(id) = id {
                let payload = Bytes::copy_from_slice(&piece.get().to_be_bytes());
                self.send(peer, &Message::Extended { id, payload });
            }
        }
    }

    /// Who was told of a piece early; asked once.
    fn told_early(&mut self, torrent: TorrentHandle, piece: PieceIndex) -> Vec<PeerHandle> {
        let Some(t) = self.torrent_mut(torrent) else { return Vec::new() };
        let early = &mut t.company_mut().announced_early;
        early.extract_if(.., |(early, _)| *early == piece).map(|(_, peer)| peer).collect()
    }

    fn piece_finished(&mut self, torrent: TorrentHandle, piece: PieceIndex) {
        self.alert(AlertKind::PieceFinished { torrent, piece: as_piece(piece.get()) });
        self.note_files(torrent, piece, true);
    }

    /// Counts a piece for the files that it belongs to.
    pub(super) fn note_files(&mut self, torrent: TorrentHandle, piece: PieceIndex, announce: bool) {
        let Some(t) = self.torrent_mut(torrent) else { return };
        let layout = t.layout.clone();
        let mut complete = Vec::new();
        for span in layout.spans(layout.geometry().whole(piece)) {
            if let Some(left) = t.pieces_left.get_mut(span.file) {
                *left = left.saturating_sub(1);
                if *left == 0 && layout.files()[span.file].on_disk() {
                    complete.push(layout.files()[span.file].path.display().to_string());
                }
            }
        }
        if announce {
            complete.into_iter().for_each(|file| self.alert(AlertKind::FileCompleted { torrent, file }));
        }
    }

    /// We have a piece that some peers have too: they may have nothing else for us.
    fn update_interest_in(&mut self, torrent: TorrentHandle, piece: PieceIndex) {
        for peer in self.peers_of(torrent) {
            if self.peer(peer).is_some_and(|c| c.interesting && c.has.get(piece.get()) && !c.is_seed()) {
                self.update_interest(peer);
                self.check_redundant(peer);
            }
        }
    }
}

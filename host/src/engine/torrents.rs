//! Torrents are checked, finish, and go.

use std::net::SocketAddr;

use pilotfish_plugin::{
    ErrorCode, Operation, SessionHooks, Severity, TorrentHandle, TorrentHooks, TorrentState,
};

use super::Engine;
use super::output::Output;
use super::pausing::PauseChange;
use super::state::{SessionPhase, State};
use super::step::Step;
use crate::alert::AlertKind;
use crate::command::{Answer, Command, SaveResumeFlags};
use crate::job::{DiskError, DiskJob, StorageId};
use crate::peer::Direction;
use crate::torrent::{BanReason, Begun, Priority, Torrent};

impl Engine {
    /// Another thread of the embedding program asks for something.
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::AddTorrent(ticket, torrent) => self.add_torrent(Some(ticket), Ok(torrent)),
            Command::RemoveTorrent { torrent, delete_files } => self.remove_torrent(torrent, delete_files),
            Command::PauseTorrent(torrent) => self.change_pause(torrent, PauseChange::Pause),
            Command::PauseTorrentGracefully(torrent) => {
                self.change_pause(torrent, PauseChange::PauseGracefully);
            }
            Command::ResumeTorrent(torrent) => self.change_pause(torrent, PauseChange::Resume),
            Command::Recheck(torrent) => self.recheck(torrent),
            Command::ConnectPeer { torrent, address, source } => self.offer_peer(torrent, address, source),
            Command::AddUrlSeed { torrent, url, kind } => self.add_web_seed(torrent, &url, kind),
            Command::RemoveUrlSeed { torrent, url, kind } => self.remove_web_seed(torrent, &url, kind),
            Command::UrlSeeds(ticket, torrent, kind) => {
                let urls =
                    self.state.torrent(torrent).map(|t| t.web_seeds.urls(kind).map(str::to_owned).collect());
                self.state.outputs.push_back(Output::Answer(ticket, Answer::UrlSeeds(urls)));
            }
            Command::SetPiecePriority { torrent, piece, priority } => {
                self.state.set_piece_priority(torrent, piece.0.cast_unsigned(), priority);
            }
            Command::SetTorrentLimit(torrent, limit) => {
                self.state.set_torrent_limit(torrent, limit);
            }
            Command::SetPeerLimit { peer, upload, limit } => {
                let direction = if upload { Direction::Upload } else { Direction::Download };
                self.state.set_peer_limit(peer, direction, limit);
            }
            Command::SetSuperSeeding(torrent, on) => self.state.set_super_seeding(torrent, on),
            Command::SetIpFilter(filter) => self.set_ip_filter(filter),
            Command::PrioritizeFiles(torrent, priorities) => self.state.prioritize_files(torrent, priorities),
            Command::Ban { torrent, address, reason } => {
                let reason = BanReason::new(BanReason::PROGRAM, &reason);
                self.ban(torrent, SocketAddr::new(address, 0), reason);
            }
            Command::Unban { torrent, address } => {
                self.state.lift_ban(torrent, SocketAddr::new(address, 0));
            }
            Command::Bans(ticket) => {
                let bans = self.state.all_bans();
                self.state.outputs.push_back(Output::Answer(ticket, Answer::Bans(bans)));
            }
            Command::PauseSession(pause) => self.pause_session(pause),
            Command::Set(ticket, name, value) => {
                let before = self.state.external_tcp_ports();
                let result = self.state.apply_setting(&name, &value);
                if self.state.external_tcp_ports() != before {
                    self.tell_new_port();
                }
                self.state.outputs.push_back(Output::Answer(ticket, Answer::Setting(result)));
            }
            Command::AddPlugin(ticket, source) => {
                let result = self.add_plugin(source).map(drop);
                self.state.outputs.push_back(Output::Answer(ticket, Answer::Plugin(result)));
            }
            Command::ForceReannounce { torrent, after, tracker, ignore_min_interval } => {
                self.force_reannounce(torrent, after, tracker, ignore_min_interval);
            }
            Command::ScrapeTracker { torrent, tracker } => self.scrape_tracker(torrent, tracker),
            Command::AddTracker { torrent, url, tier } => self.add_tracker(torrent, url, tier),
            Command::Trackers(ticket, torrent) => {
                let trackers = self.state.tracker_status(torrent);
                self.state.outputs.push_back(Output::Answer(ticket, Answer::Trackers(trackers)));
            }
            Command::AddTorrentExtension(torrent, extension) => {
                self.add_torrent_extension(torrent, extension)
            }
            Command::Status(ticket, torrent) => {
                let status = self.state.torrent_status(torrent).map(Box::new);
                self.state.outputs.push_back(Output::Answer(ticket, Answer::Status(status)));
            }
            Command::Metadata(ticket, torrent) => {
                let metainfo = self.state.torrent(torrent).and_then(|t| t.description.metainfo());
                let info = metainfo.map(|metainfo| metainfo.info_bytes().clone());
                self.state.outputs.push_back(Output::Answer(ticket, Answer::Metadata(info)));
            }
            Command::SaveState(ticket) => {
                let mut states = self.saved_states();
                states.extend(self.state.dht_state());
                self.state.outputs.push_back(Output::Answer(ticket, Answer::State(states)));
            }
            Command::SaveResumeData(ticket, torrent, flags) => {
                self.state.save_resume_data(ticket, torrent, flags);
            }
            Command::SaveResumeDataAtEnd(ticket, flags) => {
                self.state.resume_at_end = Some((ticket, flags, Vec::new()));
            }
            Command::Dht(command) => self.on_dht_command(command),
            Command::DhtPut(ticket, item) => {
                let stored = self.put_in_dht(&item);
                self.state.outputs.push_back(Output::Answer(ticket, Answer::Stored(stored)));
            }
            Command::Subscribed(mask) => self.state.subscribed = mask,
            Command::Shutdown => self.begin_shutdown(),
        }
    }

    /// The disk knows the torrent's files.
    pub(super) fn on_opened(&mut self, storage: StorageId, existing: Result<bool, DiskError>) {
        let Some(torrent) = self.state.stored(storage) else { return };
        match existing {
            Ok(_) if self.state.compares_record(torrent) => {}
            Ok(true) => {
                self.set_state(torrent, TorrentState::CHECKING_FILES);
                self.state.disk(DiskJob::Check { storage });
            }
            Ok(false) => self.files_checked(torrent),
            Err(error) => self.check_failed(torrent, &error),
        }
    }

    /// The files could not be looked at: the check is begun again when the torrent is resumed.
    fn check_failed(&mut self, torrent: TorrentHandle, error: &DiskError) {
        if let Some(t) = self.state.torrent_mut(torrent) {
            t.check_failed = true;
        }
        self.state.disk_failed(torrent, error);
    }

    pub(super) fn on_check_finished(&mut self, storage: StorageId, result: Result<(), DiskError>) {
        let Some(torrent) = self.state.stored(storage) else { return };
        if self.state.torrent(torrent).is_none_or(|t| t.state != TorrentState::CHECKING_FILES) {
            return;
        }
        match result {
            Ok(()) => self.files_checked(torrent),
            Err(error) => self.check_failed(torrent, &error),
        }
    }

    /// What is there is known: from now on the torrent takes peers.
    pub(super) fn files_checked(&mut self, torrent: TorrentHandle) {
        let now = self.state.unix_time();
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        t.record.checked(t.picker.is_finished(), now);
        let (finished, seed, pieces) = (t.picker.is_finished(), t.picker.is_seed(), t.picker.num_have());
        let name = t.name().to_owned();
        if finished {
            self.set_state(torrent, TorrentState::FINISHED);
            self.state.alert(AlertKind::TorrentFinished { torrent, name: name.clone() });
            if seed {
                self.set_state(torrent, TorrentState::SEEDING);
            }
        } else {
            self.set_state(torrent, TorrentState::DOWNLOADING);
        }
        self.state.alert(AlertKind::TorrentChecked { torrent, name, pieces });
        // Before the hook, which may ask for another check, other pieces, or another plugin.
        if let Some(t) = self.state.torrent_mut(torrent) {
            t.files_checked = true;
        }
        self.tell_torrent(torrent, TorrentHooks::on_files_checked, |p, cx| p.on_files_checked(cx));
        self.pump();
        self.release_held(torrent);
        // Those that sent us the metadata are still here.
        for peer in self.state.peers_of(torrent) {
            self.state.update_interest(peer);
            self.state.request_blocks(peer);
        }
        self.pump();
        self.connect_peers(torrent);
        self.update_announcing(torrent);
    }

    /// Changes the state, and tells everyone.
    pub(super) fn set_state(&mut self, torrent: TorrentHandle, state: TorrentState) {
        let Some(t) = self.state.torrent_mut(torrent).filter(|t| t.state != state) else { return };
        let previous = std::mem::replace(&mut t.state, state);
        let name = t.name().to_owned();
        self.state.alert(AlertKind::StateChanged { torrent, name, previous, state });
        self.pump();
        self.tell_torrent(torrent, TorrentHooks::on_state, |p, cx| p.on_state(cx, state));
        self.pump();
    }

    /// The last wanted piece is there: peers that only upload are of no use any more.
    pub(super) fn finish(&mut self, torrent: TorrentHandle) {
        let now = self.state.unix_time();
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        t.record.finished(now);
        let (seed, name) = (t.picker.is_seed(), t.name().to_owned());
        self.set_state(torrent, TorrentState::FINISHED);
        self.state.alert(AlertKind::TorrentFinished { torrent, name });
        if seed {
            self.set_state(torrent, TorrentState::SEEDING);
            self.announce_completed(torrent);
        }
        for peer in self.state.peers_of(torrent) {
            self.state.update_interest(peer);
            self.state.send_upload_only(peer, true);
            let redundant = self.state.settings.close_redundant_connections;
            if redundant && self.open_peer(peer).is_some_and(|connection| connection.upload_only()) {
                self.state.steps.push_back(Step::AskDisconnect(peer, ErrorCode::TORRENT_FINISHED));
            }
        }
    }

    /// Other pieces are wanted than before.
    pub(super) fn on_wanted(&mut self, torrent: TorrentHandle) {
        let Some(t) = self.state.torrent(torrent).filter(|t| t.files_checked) else { return };
        match (t.picker.is_finished(), t.state) {
            (true, TorrentState::DOWNLOADING) => self.finish(torrent),
            (false, TorrentState::FINISHED | TorrentState::SEEDING) => {
                self.set_state(torrent, TorrentState::DOWNLOADING);
                for peer in self.state.peers_of(torrent) {
                    self.state.send_upload_only(peer, false);
                }
                self.connect_peers(torrent);
            }
            _ => {}
        }
        for peer in self.state.peers_of(torrent) {
            self.state.update_interest(peer);
            self.state.request_blocks(peer);
        }
    }

    /// Forgets what is there, and hashes all files again.
    pub(super) fn recheck(&mut self, torrent: TorrentHandle) {
        let Some(t) = self.state.torrent_mut(torrent).filter(|t| t.files_checked && !t.removing) else {
            return;
        };
        t.files_checked = false;
        self.disconnect_all(torrent, ErrorCode::STOPPING_TORRENT);
        self.pump();
        self.begin_check(torrent);
    }

    pub(super) fn begin_check(&mut self, torrent: TorrentHandle) {
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        t.forget_pieces();
        t.record.forget();
        let storage = t.storage;
        self.set_state(torrent, TorrentState::CHECKING_FILES);
        self.state.disk(DiskJob::Check { storage });
    }

    /// A torrent cannot go on, and says why.
    pub(super) fn stop_for(&mut self, torrent: TorrentHandle, error: String) {
        if let Some(t) = self.state.torrent_mut(torrent) {
            t.error = Some(error.into());
            t.paused = true;
            t.draining = false;
            self.disconnect_all(torrent, ErrorCode::TORRENT_PAUSED);
            self.update_announcing(torrent);
        }
    }

    /// A file cannot be read or written: the torrent stops, and says why.
    pub(super) fn on_file_error(&mut self, torrent: TorrentHandle, file: String, error: String) {
        let Some(t) = self.state.torrent_mut(torrent).filter(|t| t.error.is_none()) else { return };
        t.error = Some(error.as_str().into());
        t.paused = true;
        t.draining = false;
        let name = t.name().to_owned();
        self.state.alert(AlertKind::FileError { torrent, name, file, error });
        self.disconnect_all(torrent, ErrorCode::DISK_ERROR);
        self.update_announcing(torrent);
    }

    /// Removes a torrent: plugins first, then its peers, then its files are closed.
    pub(super) fn remove_torrent(&mut self, torrent: TorrentHandle, delete_files: bool) {
        let Some(t) = self.state.torrent_mut(torrent).filter(|t| !t.removing) else { return };
        t.removing = true;
        self.state.refuse_records(torrent);
        let Some(t) = self.state.torrent(torrent) else { return };
        let (storage, name) = (t.storage, t.name().to_owned());
        self.update_announcing(torrent);
        self.state.forget_dht(torrent);
        self.disconnect_all(torrent, ErrorCode::TORRENT_REMOVED);
        self.pump();
        self.tell_torrent(torrent, TorrentHooks::on_removed, |p, cx| p.on_removed(cx));
        let Self { state, chains } = self;
        chains.session.tell(state, (), SessionHooks::torrent_removed, |p, cx| p.torrent_removed(cx, torrent));
        self.pump();
        self.chains.torrents.remove(torrent);
        self.state.unlist_torrent(torrent);
        self.state.disk(DiskJob::Close { storage, delete_files });
        self.state.alert(AlertKind::TorrentRemoved { torrent, name });
    }

    /// A torrent's files are closed: nothing is left of it.
    pub(super) fn on_closed(&mut self, storage: StorageId) {
        if let Some(torrent) = self.state.by_storage.remove(&storage) {
            self.state.remove_torrent(torrent);
            for waiting in self.state.order.clone() {
                self.state.open_storage(waiting);
            }
        }
        self.finish_shutdown();
    }

    pub(super) fn disconnect_all(&mut self, torrent: TorrentHandle, error: ErrorCode) {
        let held = self.state.torrent(torrent).and_then(Torrent::company).map(|company| company.held.clone());
        for peer in self.state.peers_of(torrent).into_iter().chain(held.unwrap_or_default()) {
            self.state.disconnect(peer, error, Operation::BITTORRENT, Severity::NORMAL);
        }
    }

    /// The end begins: plugins are told, and get time to finish.
    fn begin_shutdown(&mut self) {
        if self.state.phase != SessionPhase::Running {
            return;
        }
        self.mark_idle_plugins_done();
        let Self { state, chains } = self;
        chains.session.tell(state, (), SessionHooks::abort, |p, cx| p.abort(cx));
        let deadline = self.state.now + super::tick::ABORT_TIME;
        self.state.phase = SessionPhase::Aborting(deadline);
        self.state.timers.set(deadline, super::timers::Timer::Session);
        self.stop_trackers();
        self.state.stop_port_mappings();
        self.pump();
        self.continue_shutdown();
    }

    /// Plugins are done, or their time is over: everything is closed.
    pub(super) fn continue_shutdown(&mut self) {
        let SessionPhase::Aborting(deadline) = self.state.phase else { return };
        if !self.plugins_done() && self.state.now < deadline {
            return;
        }
        self.state.phase = SessionPhase::Closing;
        let peers: Vec<_> = self.state.peers().map(|(peer, _)| peer).collect();
        for peer in peers {
            self.state.disconnect(
                peer,
                ErrorCode::SESSION_IS_CLOSING,
                Operation::BITTORRENT,
                Severity::NORMAL,
            );
        }
        self.pump();
        // There is no next tick for those whose end was left to it.
        let late: Vec<_> = self.state.peers().map(|(peer, _)| peer).collect();
        for peer in late {
            self.finish_disconnect(peer);
        }
        let storages: Vec<StorageId> = self.state.by_storage.keys().copied().collect();
        for storage in storages {
            if !self.state.wants_last_record(storage) {
                self.state.disk(DiskJob::Close { storage, delete_files: false });
            }
        }
        self.finish_shutdown();
    }

    /// Files are closed, trackers and routers were told: nothing is left.
    pub(super) fn finish_shutdown(&mut self) {
        let state = &self.state;
        let over = state.by_storage.is_empty() && state.trackers_are_quiet() && state.routers_are_quiet();
        if self.state.phase == SessionPhase::Closing && over {
            self.drop_plugins();
            self.state.hand_out_last_records();
            self.state.outputs.push_back(Output::Stopped);
        }
    }
}

impl State {
    /// Tells the disk of a torrent, once; not while one that was removed still writes or deletes the same files.
    pub(super) fn open_storage(&mut self, torrent: TorrentHandle) {
        let Some(t) = self.torrent(torrent).filter(|t| !t.opened && !t.removing) else { return };
        let Some(metainfo) = t.description.metainfo() else { return };
        let same =
            |other: &Torrent| other.removing && other.save_path == t.save_path && other.name() == t.name();
        if self.by_storage.values().filter_map(|other| self.torrent(*other)).any(same) {
            return;
        }
        let job = DiskJob::Open {
            storage: t.storage,
            layout: t.layout.clone(),
            hashes: metainfo.hashes().clone(),
            root: t.save_path.clone(),
        };
        if let Some(t) = self.torrent_mut(torrent) {
            t.opened = true;
        }
        self.disk(job);
    }

    /// The torrent is not found any more, though its files are still being closed.
    fn unlist_torrent(&mut self, torrent: TorrentHandle) {
        self.order.retain(|other| *other != torrent);
        self.by_hash.retain(|_, other| *other != torrent);
        let Self { by_hash, by_obfuscated, .. } = self;
        by_obfuscated.retain(|_, hash| by_hash.contains_key(hash));
    }

    /// Changes how much a piece is wanted; what that means for peers follows.
    pub(super) fn set_piece_priority(&mut self, torrent: TorrentHandle, piece: u32, priority: u8) -> bool {
        let Some(t) = self.torrent_mut(torrent) else { return false };
        let Some(piece) = t.geometry().piece(piece) else { return false };
        t.picker.set_priority(piece, Priority::new(priority));
        t.record.changed(SaveResumeFlags::IF_CONFIG_CHANGED);
        // Once for however many pieces a plugin changes.
        if !matches!(self.steps.back(), Some(Step::Wanted(last)) if *last == torrent) {
            self.steps.push_back(Step::Wanted(torrent));
        }
        true
    }

    /// Changes how much files are wanted.
    fn prioritize_files(&mut self, torrent: TorrentHandle, priorities: Vec<u8>) {
        if let Some(t) = self.torrent_mut(torrent) {
            t.prioritize_files(priorities);
            t.record.changed(SaveResumeFlags::IF_CONFIG_CHANGED);
            self.steps.push_back(Step::Wanted(torrent));
        }
    }
}

impl Torrent {
    /// Nothing is had any more, and of no piece a part: the disk forgets what was written of those that it checks.
    fn forget_pieces(&mut self) {
        let geometry = self.geometry();
        let begun: Vec<_> = self.picker.begun().iter().map(Begun::piece).collect();
        begun.into_iter().for_each(|piece| self.picker.failed(piece));
        geometry.pieces().for_each(|piece| self.picker.unset_have(piece));
        self.pieces_checked = 0;
        self.pieces_left = pieces_per_file(&self.layout);
    }
}

/// How many pieces each file has a part in.
pub(super) fn pieces_per_file(layout: &crate::metainfo::FileLayout) -> Box<[u32]> {
    let length = u64::from(layout.geometry().piece_length());
    let pieces = layout.files().iter().map(|file| match file.length {
        0 => 0,
        bytes => (file.offset + bytes - 1) / length - file.offset / length + 1,
    });
    pieces.map(|n| u32::try_from(n).unwrap_or(u32::MAX)).collect()
}

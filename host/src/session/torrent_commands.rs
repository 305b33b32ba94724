//! What a program can have done to one torrent, or to one of its peers.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use pilotfish_plugin::{ConnectionType, PeerHandle, PeerSource, PieceIndex, TorrentHandle};

use super::{Session, SessionError};
use crate::command::{
    AddTorrent, Answer, Command, SaveResumeFlags, TorrentExtension, TorrentLimit, TorrentStatus,
    TrackerStatus,
};
use crate::metainfo::Resume;

impl Session {
    /// Adds a torrent. One that is there already is not added again: its handle is returned.
    ///
    /// # Errors
    /// The session has ended, or is about to.
    pub fn add_torrent(&self, torrent: AddTorrent) -> Result<TorrentHandle, SessionError> {
        match self.ask(|ticket| Command::AddTorrent(ticket, Box::new(torrent)))? {
            Answer::Added(added) => Ok(added?),
            _ => Err(SessionError::Closed),
        }
    }

    /// Attaches a plugin to a running torrent, connections that it has included (libtorrent's
    /// `torrent_handle::add_extension`).
    pub fn add_torrent_extension(&self, torrent: TorrentHandle, extension: TorrentExtension) {
        self.tell(Command::AddTorrentExtension(torrent, extension));
    }

    /// Removes a torrent; with `delete_files`, what was downloaded too. This and the following do nothing if the
    /// torrent, or the session, is gone.
    pub fn remove_torrent(&self, torrent: TorrentHandle, delete_files: bool) {
        self.tell(Command::RemoveTorrent { torrent, delete_files });
    }

    /// Pauses a torrent: its connections are closed.
    pub fn pause_torrent(&self, torrent: TorrentHandle) {
        self.tell(Command::PauseTorrent(torrent));
    }

    /// Pauses a torrent, but lets the blocks that it has asked for come first: each connection is closed when its last has,
    /// and `torrent_paused` is posted after all of them (libtorrent's `graceful_pause`).
    pub fn pause_torrent_gracefully(&self, torrent: TorrentHandle) {
        self.tell(Command::PauseTorrentGracefully(torrent));
    }

    /// Resumes a torrent.
    pub fn resume_torrent(&self, torrent: TorrentHandle) {
        self.tell(Command::ResumeTorrent(torrent));
    }

    /// Hashes a torrent's files again.
    pub fn recheck(&self, torrent: TorrentHandle) {
        self.tell(Command::Recheck(torrent));
    }

    /// Offers a torrent a peer. Whether and when it is connected to is the session's choice.
    pub fn connect_peer(&self, torrent: TorrentHandle, address: SocketAddr, source: PeerSource) {
        self.tell(Command::ConnectPeer { torrent, address, source });
    }

    /// Adds a web seed to a torrent: a URL that serves its files (BEP 19).
    pub fn add_url_seed(&self, torrent: TorrentHandle, url: &str) {
        self.tell(Command::AddUrlSeed { torrent, url: url.to_owned(), kind: ConnectionType::URL_SEED });
    }

    /// Takes a web seed away from a torrent; its connection is closed.
    pub fn remove_url_seed(&self, torrent: TorrentHandle, url: &str) {
        self.tell(Command::RemoveUrlSeed { torrent, url: url.to_owned(), kind: ConnectionType::URL_SEED });
    }

    /// The URLs of a torrent's web seeds (BEP 19). `None` if the torrent is gone.
    ///
    /// # Errors
    /// The session has ended.
    pub fn url_seeds(&self, torrent: TorrentHandle) -> Result<Option<Vec<String>>, SessionError> {
        match self.ask(|ticket| Command::UrlSeeds(ticket, torrent, ConnectionType::URL_SEED))? {
            Answer::UrlSeeds(urls) => Ok(urls),
            _ => Err(SessionError::Closed),
        }
    }

    /// As [`add_url_seed`](Self::add_url_seed), for a server that is asked for pieces by number (BEP 17).
    pub fn add_http_seed(&self, torrent: TorrentHandle, url: &str) {
        self.tell(Command::AddUrlSeed { torrent, url: url.to_owned(), kind: ConnectionType::HTTP_SEED });
    }

    /// As [`remove_url_seed`](Self::remove_url_seed), for a server that is asked for pieces by number (BEP 17).
    pub fn remove_http_seed(&self, torrent: TorrentHandle, url: &str) {
        self.tell(Command::RemoveUrlSeed { torrent, url: url.to_owned(), kind: ConnectionType::HTTP_SEED });
    }

    /// Has a torrent's trackers asked again `after` so long, but not sooner than they want it unless `ignore_min_interval`
    /// (libtorrent's `force_reannounce`): all of them, or one by its place in the list of [`trackers`](Self::trackers).
    pub fn force_reannounce(
        &self,
        torrent: TorrentHandle,
        after: Duration,
        tracker: Option<usize>,
        ignore_min_interval: bool,
    ) {
        self.tell(Command::ForceReannounce { torrent, after, tracker, ignore_min_interval });
    }

    /// Asks a tracker for a torrent's figures: one by its place in the list of [`trackers`](Self::trackers), or the first that
    /// works. The answer is an alert, [`ScrapeReply`](crate::alert::AlertKind::ScrapeReply) or
    /// [`ScrapeFailed`](crate::alert::AlertKind::ScrapeFailed).
    pub fn scrape_tracker(&self, torrent: TorrentHandle, tracker: Option<usize>) {
        self.tell(Command::ScrapeTracker { torrent, tracker });
    }

    /// Gives a torrent another tracker. One that it has already is not added again; lower tiers are asked first.
    pub fn add_tracker(&self, torrent: TorrentHandle, url: impl Into<String>, tier: u8) {
        self.tell(Command::AddTracker { torrent, url: url.into(), tier });
    }

    /// How a torrent's trackers stand, in the order in which they are tried. `None` if the torrent is gone.
    ///
    /// # Errors
    /// The session has ended.
    pub fn trackers(&self, torrent: TorrentHandle) -> Result<Option<Vec<TrackerStatus>>, SessionError> {
        match self.ask(|ticket| Command::Trackers(ticket, torrent))? {
            Answer::Trackers(trackers) => Ok(trackers),
            _ => Err(SessionError::Closed),
        }
    }

    /// Sets the priority of a piece, from 0 (not wanted) to 7. Pieces that do not exist are ignored.
    pub fn set_piece_priority(&self, torrent: TorrentHandle, piece: PieceIndex, priority: u8) {
        self.tell(Command::SetPiecePriority { torrent, piece, priority });
    }

    /// Limits how much of a torrent is sent, in B/s; 0 is no limit. The session's limit, which is the setting
    /// `upload_rate_limit`, holds besides.
    pub fn set_upload_limit(&self, torrent: TorrentHandle, limit: u32) {
        self.tell(Command::SetTorrentLimit(torrent, TorrentLimit::Upload(limit)));
    }

    /// Limits how much of a torrent is received, in B/s; 0 is no limit. The session's limit, which is the setting
    /// `download_rate_limit`, holds besides.
    pub fn set_download_limit(&self, torrent: TorrentHandle, limit: u32) {
        self.tell(Command::SetTorrentLimit(torrent, TorrentLimit::Download(limit)));
    }

    /// Limits how many peers a torrent is uploaded to at a time; 0 is no limit. The setting `unchoke_slots_limit` holds besides.
    pub fn set_max_uploads(&self, torrent: TorrentHandle, most: u32) {
        self.tell(Command::SetTorrentLimit(torrent, TorrentLimit::Uploads(most)));
    }

    /// Limits how many connections a torrent has at a time; 0 is no limit. Those that are too many are closed. The setting
    /// `connections_limit` holds besides.
    pub fn set_max_connections(&self, torrent: TorrentHandle, most: u32) {
        self.tell(Command::SetTorrentLimit(torrent, TorrentLimit::Connections(most)));
    }

    /// Limits how much is sent to one peer, in B/s; 0 is no limit.
    pub fn set_peer_upload_limit(&self, peer: PeerHandle, limit: u32) {
        self.tell(Command::SetPeerLimit { peer, upload: true, limit });
    }

    /// Limits how much is received from one peer, in B/s; 0 is no limit.
    pub fn set_peer_download_limit(&self, peer: PeerHandle, limit: u32) {
        self.tell(Command::SetPeerLimit { peer, upload: false, limit });
    }

    /// Gives a torrent away piece by piece (BEP 16): a peer that comes from now on is offered two rare pieces at a time. That
    /// spreads a complete copy for little more than its size, and is slower for whoever downloads. Of use only to the first seed.
    pub fn set_super_seeding(&self, torrent: TorrentHandle, on: bool) {
        self.tell(Command::SetSuperSeeding(torrent, on));
    }

    /// Sets the priorities of a torrent's files, each from 0 (not wanted) to 7; those beyond the end of the list are wanted. Its
    /// pieces follow.
    pub fn prioritize_files(&self, torrent: TorrentHandle, priorities: Vec<u8>) {
        self.tell(Command::PrioritizeFiles(torrent, priorities));
    }

    /// A torrent's figures, as they are now. `None` if it is gone.
    ///
    /// # Errors
    /// The session has ended.
    pub fn status(&self, torrent: TorrentHandle) -> Result<Option<TorrentStatus>, SessionError> {
        match self.ask(|ticket| Command::Status(ticket, torrent))? {
            Answer::Status(status) => Ok(status.map(|status| *status)),
            _ => Err(SessionError::Closed),
        }
    }

    /// A torrent's info dictionary, as it was written. `None` if it is not known, or the torrent is gone.
    ///
    /// # Errors
    /// The session has ended.
    pub fn metadata(&self, torrent: TorrentHandle) -> Result<Option<Bytes>, SessionError> {
        match self.ask(|ticket| Command::Metadata(ticket, torrent))? {
            Answer::Metadata(info) => Ok(info),
            _ => Err(SessionError::Closed),
        }
    }

    /// What is known of a torrent's files, to be written down for [`AddTorrent::resume`] of its next start. Waits for the disk,
    /// and if the torrent is paused or finished for what is still being written; nothing else does. `None` if it has not
    /// changed as `flags` ask, its files are being checked, or it is gone.
    ///
    /// # Errors
    /// The session has ended.
    pub fn save_resume_data(
        &self,
        torrent: TorrentHandle,
        flags: SaveResumeFlags,
    ) -> Result<Option<Resume>, SessionError> {
        match self.ask(|ticket| Command::SaveResumeData(ticket, torrent, flags))? {
            Answer::ResumeData(resume) => Ok(resume.map(|resume| *resume)),
            _ => Err(SessionError::Closed),
        }
    }
}

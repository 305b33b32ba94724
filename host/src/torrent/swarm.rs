//! One torrent: its pieces, its peers, and what it is doing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pilotfish_plugin::{PeerHandle, PluginId, TorrentFlags, TorrentHandle, TorrentState, Userdata};
use rustc_hash::FxHashMap;

use super::{Candidates, Picker, Priority, Record, Trackers, WebSeeds, selection};
use crate::command::TorrentLimits;
use crate::job::StorageId;
use crate::metainfo::{Description, FileLayout, Geometry, Metainfo, PieceIndex};
use crate::peer::{Budget, Meter};

/// One torrent of a session.
#[derive(Debug)]
pub struct Torrent {
    /// Its handle.
    pub handle: TorrentHandle,
    /// What is known of it.
    pub description: Description,
    /// Where its pieces lie: it has none until its metadata is known.
    pub layout: Arc<FileLayout>,
    /// Whose info dictionary is being looked at.
    pub metadata_from: Option<PluginId>,
    /// Its files' name at the disk.
    pub storage: StorageId,
    /// The folder that holds them.
    pub save_path: Arc<Path>,
    /// What the embedding program attached to it.
    pub userdata: Userdata,
    /// What it is doing.
    pub state: TorrentState,
    /// Whether it is paused by itself.
    pub paused: bool,
    /// Whether that pause is a graceful one: blocks that were asked for may still come. Only while it is paused.
    pub draining: bool,
    /// Whether the session is paused, and no plugin kept this torrent out of it.
    pub held_by_session: bool,
    /// What a plugin asked for in the hook that runs: visible at once, done afterwards.
    pub pause_asked: Option<bool>,
    /// Whether it exchanges no peers with its peers (BEP 11).
    pub disable_pex: bool,
    /// Whether it is stopped after its check.
    pub check_only: bool,
    /// Whether it is being removed.
    pub removing: bool,
    /// Whether the disk was told of its files.
    pub opened: bool,
    /// Whether the files have been checked, so that peers are welcome.
    pub files_checked: bool,
    /// What went wrong, if it stopped for that.
    pub error: Option<Box<str>>,
    /// Whether the last check ended in an error, so that it is not known what is there.
    pub check_failed: bool,
    /// Which pieces and blocks are there, asked for, or wanted.
    pub picker: Picker<PeerHandle>,
    /// Whom it announces itself to.
    pub trackers: Trackers,
    /// Peers that could be connected to.
    pub candidates: Candidates<PeerHandle>,
    /// Servers that have its files.
    pub web_seeds: WebSeeds<PeerHandle>,
    /// Connections, in the order in which they came.
    pub peers: Vec<PeerHandle>,
    /// What is kept of peers beside that, from the first of them on.
    pub company: Option<Box<Company>>,
    /// Pieces that a running check has looked at.
    pub pieces_checked: u32,
    /// Requests stopped because the disk is behind.
    pub disk_congested: bool,
    /// Whether it is given away piece by piece once it is complete (BEP 16).
    pub super_seeding: bool,
    /// The most connections; 0 is no limit.
    pub max_connections: u32,
    /// The most peers that it is uploaded to; 0 is no limit.
    pub max_uploads: u32,
    /// Its rate limits, by [`Direction`](crate::peer::Direction).
    pub budgets: [Budget; 2],
    /// Payload received.
    pub payload_down: Meter,
    /// Payload sent.
    pub payload_up: Meter,
    /// Bytes whose piece failed its hash check.
    pub failed_bytes: u64,
    /// Bytes that came twice, or unasked.
    pub redundant_bytes: u64,
    /// When its timer is due next.
    pub timer: Option<Instant>,
    /// How many blocks of which files are missing, for `file_completed`; pieces left per file.
    pub pieces_left: Box<[u32]>,
    /// The priority of each file, 0 (not wanted) to 7. Empty if all are wanted alike.
    pub file_priorities: Vec<u8>,
    /// What is written down of it.
    pub record: Record,
}

/// What is kept of a torrent's peers, which most torrents have never had.
#[derive(Clone, Debug, Default)]
pub struct Company {
    /// Where those were that sent blocks of begun pieces and are not connected any more.
    pub departed: FxHashMap<PeerHandle, SocketAddr>,
    /// Incoming connections that wait until the torrent can serve them.
    pub held: Vec<PeerHandle>,
    /// Who was told that we have which pieces, although their hashes are not known yet.
    pub announced_early: Vec<(PieceIndex, PeerHandle)>,
    /// Pieces that were read for peers lately, the newest first; kept only if peers are told of them.
    pub recently_read: VecDeque<PieceIndex>,
}

impl Torrent {
    /// What is kept of its peers, if it ever had any.
    pub fn company(&self) -> Option<&Company> {
        self.company.as_deref()
    }

    /// As above, to be added to.
    pub fn company_mut(&mut self) -> &mut Company {
        self.company.get_or_insert_default()
    }

    /// Its numbers.
    pub fn geometry(&self) -> Geometry {
        self.layout.geometry()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.layout.name()
    }

    /// Whether its info dictionary is known.
    pub fn has_metadata(&self) -> bool {
        self.description.metainfo().is_some()
    }

    /// Whether it is known to be private: its peers come from its trackers alone (BEP 27).
    pub fn is_private(&self) -> bool {
        self.description.metainfo().is_some_and(Metainfo::private)
    }

    /// Forgets where those were whose blocks have passed or failed by now.
    pub fn forget_departed(&mut self) {
        let Self { company: Some(company), picker, .. } = self else { return };
        company.departed.retain(|peer, _| picker.is_downloader(*peer));
    }

    /// What it was told to do.
    pub fn flags(&self) -> TorrentFlags {
        let flag = |on: bool, flag: TorrentFlags| if on { flag } else { TorrentFlags::NONE };
        flag(self.paused, TorrentFlags::PAUSED)
            | flag(self.check_only, TorrentFlags::STOP_WHEN_READY)
            | flag(self.disable_pex, TorrentFlags::DISABLE_PEX)
    }

    /// Whether all pieces that are wanted are there.
    pub fn is_finished(&self) -> bool {
        self.has_metadata() && self.picker.is_finished()
    }

    /// Whether all pieces that are wanted are there, but not all that there are (BEP 21).
    pub fn is_partial_seed(&self) -> bool {
        self.is_finished() && !self.picker.is_seed()
    }

    /// Whether blocks are to be requested at all.
    pub fn is_downloading(&self) -> bool {
        self.files_checked && !self.paused && !self.picker.is_finished()
    }

    /// Whether peers can be served, or have the metadata that is missing.
    pub fn takes_peers(&self) -> bool {
        (self.files_checked || !self.has_metadata()) && !self.paused && !self.check_only && !self.removing
    }

    /// Its limits.
    pub fn limits(&self) -> TorrentLimits {
        let [download_limit, upload_limit] = self.budgets.map(|budget| budget.limit());
        let (max_uploads, max_connections) = (self.max_uploads, self.max_connections);
        TorrentLimits { upload_limit, download_limit, max_uploads, max_connections }
    }

    /// Whether web seeds are of use now.
    pub fn wants_web_seeds(&self) -> bool {
        self.is_downloading() && !self.held_by_session && !self.check_only && !self.removing
    }

    /// Whether no block will be received: it is paused, or has all it wants.
    pub fn has_settled(&self) -> bool {
        (self.paused && !self.draining) || self.held_by_session || self.is_finished()
    }

    /// Bytes of the pieces that are wanted, and of those that are there too.
    pub fn wanted(&self) -> (u64, u64) {
        let geometry = self.geometry();
        let wanted = geometry.pieces().filter(|piece| self.picker.priority(*piece) != Priority::NEVER);
        let total = wanted.map(|piece| u64::from(geometry.piece_size(piece))).sum::<u64>();
        (total, total - self.picker.bytes_left())
    }

    /// Wants pieces as much as the files are wanted that they are parts of. An empty list wants all alike.
    pub fn prioritize_files(&mut self, priorities: Vec<u8>) {
        // What every piece begins with need not be said.
        if !priorities.is_empty() || !self.file_priorities.is_empty() {
            let pieces = selection::of_pieces(&self.layout, &priorities);
            for (piece, priority) in self.geometry().pieces().zip(pieces) {
                self.picker.set_priority(piece, priority);
            }
        }
        self.file_priorities = priorities;
    }

    /// Verified bytes.
    pub fn bytes_done(&self) -> u64 {
        let geometry = self.geometry();
        if self.picker.is_seed() {
            return geometry.total();
        }
        geometry.pieces().filter(|p| self.picker.have(*p)).map(|p| u64::from(geometry.piece_size(p))).sum()
    }
}

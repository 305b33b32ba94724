//! What is to be written down of a torrent, and what was written down last time.

use std::collections::BTreeMap;

use bytes::Bytes;
use pilotfish_plugin::ConnectionType;

use super::{Begun, Priority, Torrent};
use crate::command::{SaveResumeFlags, Ticket};
use crate::metainfo::resume::{Look, Stamps, Unfinished};
use crate::metainfo::{InfoHashes, PieceIndex, Resume};

/// The most peers that are written down.
const MOST_PEERS: usize = 100;
/// The most bans that are written down.
const MOST_BANS: usize = 1_000;

/// The resume data of a torrent, as far as it is not in the torrent itself.
#[derive(Debug, Default)]
pub struct Record {
    /// What changed since the last record, by the flags that ask for it.
    pub unsaved: SaveResumeFlags,
    /// Who waits for a record, and what it should hold.
    pub waiting: Vec<(Ticket, SaveResumeFlags)>,
    /// The session ends: one more record, and then the files are closed.
    pub last: bool,
    /// The disk is looking at the files.
    pub look: Option<Looking>,
    /// Bytes handed to the disk to be written, ever.
    pub handed_over: u64,
    /// Bytes of these of which nothing was heard yet.
    pub unwritten: u64,
    /// The record that has to be compared with the files.
    pub restored: Option<Box<Resume>>,
    /// Blocks that are on disk, of pieces that are being hashed.
    pub unsure: BTreeMap<PieceIndex, Vec<bool>>,
    /// Payload sent in earlier sessions, bytes.
    pub uploaded_before: u64,
    /// Payload received in earlier sessions, bytes.
    pub downloaded_before: u64,
    /// When the torrent was first added, in seconds since 1970.
    pub added_time: i64,
    /// When it was finished, in seconds since 1970; 0 if it is not.
    pub completed_time: i64,
    /// Payload sent and received at the last record.
    pub saved_totals: (u64, u64),
}

/// What was so when the disk was asked to look at the files.
#[derive(Clone, Copy, Debug)]
pub struct Looking {
    /// [`Record::handed_over`]
    pub handed_over: u64,
    /// Nothing was left to be written, and nothing was to come.
    pub settled: bool,
}

impl Record {
    /// Of a torrent that is added `now`, in seconds since 1970.
    pub fn new(torrent: &InfoHashes, restored: Option<Box<Resume>>, now: i64) -> Self {
        let mut record =
            Self { added_time: now, unsaved: SaveResumeFlags::ONLY_IF_MODIFIED, ..Self::default() };
        if let Some(resume) = restored.as_ref().filter(|resume| resume.is_of(torrent)) {
            (record.uploaded_before, record.downloaded_before) =
                (resume.total_uploaded, resume.total_downloaded);
            record.completed_time = resume.completed_time;
            if resume.added_time != 0 {
                record.added_time = resume.added_time;
            }
        }
        // One that says nothing of pieces leaves them to a check.
        Self { restored: restored.filter(|resume| !resume.pieces.is_empty()), ..record }
    }

    /// Something changed that a record would tell.
    pub fn changed(&mut self, what: SaveResumeFlags) {
        self.unsaved = self.unsaved | what;
    }

    /// It is known what is there, or is again.
    pub fn checked(&mut self, finished: bool, now: i64) {
        self.unsure.clear();
        match finished {
            // When it was finished before, it was so then.
            true if self.completed_time == 0 => self.completed_time = now,
            true => {}
            false => self.completed_time = 0,
        }
        self.changed(SaveResumeFlags::IF_DOWNLOAD_PROGRESS | SaveResumeFlags::IF_STATE_CHANGED);
    }

    /// All that is wanted is there.
    pub fn finished(&mut self, now: i64) {
        self.completed_time = now;
        self.changed(SaveResumeFlags::IF_STATE_CHANGED);
    }

    /// Everything is hashed anew: no record counts.
    pub fn forget(&mut self) {
        self.restored = None;
        self.unsure.clear();
    }

    /// There is a new record.
    pub fn saved(&mut self) {
        self.unsaved = SaveResumeFlags::NONE;
    }

    /// The disk is handed so many bytes.
    pub fn hand_over(&mut self, bytes: u32) {
        self.handed_over += u64::from(bytes);
        self.unwritten += u64::from(bytes);
    }
}

impl Torrent {
    /// Payload sent and received since the torrent was first added, bytes.
    pub fn totals(&self) -> (u64, u64) {
        let (up, down) = (self.payload_up.total(), self.payload_down.total());
        (self.record.uploaded_before + up, self.record.downloaded_before + down)
    }

    /// What changed since the last record, by the flags that ask for it.
    pub fn changes(&self) -> SaveResumeFlags {
        match self.totals() == self.record.saved_totals {
            true => self.record.unsaved,
            false => self.record.unsaved | SaveResumeFlags::IF_COUNTERS_CHANGED,
        }
    }

    /// The info dictionary, as it was written, once it is known.
    pub fn info(&self) -> Option<Bytes> {
        self.description.metainfo().map(|metainfo| metainfo.info_bytes().clone())
    }

    /// What is known of it now, without the info dictionary. `closed`: nothing was written since its files were looked at, and
    /// nothing will be.
    pub fn resume_data(&self, stamps: &Stamps, closed: bool) -> Resume {
        let (total_uploaded, total_downloaded) = self.totals();
        let pieces = || self.geometry().pieces();
        let open = if closed { Vec::new() } else { vec![stamps.at] };
        let priorities: Vec<u8> = pieces().map(|piece| self.picker.priority(piece).get()).collect();
        let usual = priorities.iter().all(|priority| *priority == Priority::DEFAULT.get());
        // Those that were added by hand, too.
        let web_seeds = self.web_seeds.urls(ConnectionType::URL_SEED).map(str::to_owned).collect();
        let mut tiers: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        for tracker in self.trackers.iter() {
            tiers.entry(tracker.tier).or_default().push(tracker.url.clone());
        }
        let unfinished = |begun: &Begun<_>| Some(Unfinished::new(begun.piece().get(), &begun.written()?));
        Resume {
            name: self.name().to_owned(),
            save_path: self.save_path.to_string_lossy().into_owned(),
            pieces: pieces().map(|piece| self.picker.have(piece)).collect(),
            unfinished: self.picker.begun().iter().filter_map(unfinished).collect(),
            look: self.opened.then(|| Look { stamps: stamps.clone(), open }),
            total_uploaded,
            total_downloaded,
            added_time: self.record.added_time,
            completed_time: self.record.completed_time,
            piece_priorities: if usual { Vec::new() } else { priorities },
            file_priorities: self.file_priorities.clone(),
            peers: self.peers_to_remember(),
            banned_peers: self.candidates.banned().iter().map(|(ip, _)| ip).take(MOST_BANS).collect(),
            trackers: tiers.into_values().collect(),
            web_seeds,
            paused: self.paused,
            sequential_download: self.picker.is_sequential(),
            ..Resume::new(*self.description.info_hashes())
        }
    }

    /// Those that can be connected to, and never failed; those that are connected first.
    fn peers_to_remember(&self) -> Vec<std::net::SocketAddr> {
        let mut peers: Vec<_> =
            self.candidates.iter().filter(|(_, known)| known.connectable && known.failcount == 0).collect();
        peers.sort_by_key(|(endpoint, known)| (known.connected.is_none(), *endpoint));
        peers.into_iter().take(MOST_PEERS).map(|(endpoint, _)| endpoint).collect()
    }
}

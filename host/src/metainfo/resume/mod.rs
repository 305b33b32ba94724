//! Resume data: what is known of a torrent's files, written down so that the next start need not hash them again.
//!
//! [`Resume`] is the record of one torrent, [`Resume::encode`] and [`Resume::decode`] are its bencoded form, and
//! [`Resume::fit`] says which of what it claims still holds for the files that are found. Nothing here opens a file.
//!
//! # The format
//!
//! It is libtorrent's (2.x, `write_resume_data`), so that records can be brought along from its clients, and taken back.
//! Read and written are `file-format`, `file-version`, `info-hash`, `info-hash2`, `name`, `save_path`, `info`, `pieces` (a
//! byte per piece, of which the lowest bit counts), `unfinished` (`piece` and `bitmask`), `piece_priority`, `file_priority`,
//! `peers`, `peers6`, `banned_peers`, `banned_peers6`, `trackers`, `url-list`, `total_uploaded`, `total_downloaded`,
//! `added_time`, `completed_time`, `paused` and `sequential_download`. Other keys are ignored. A known key of the wrong type
//! makes the whole record void: half of a record would look like one. What is ours alone stands in the dictionary `pilotfish`:
//! `version`; `files`, size and modification time of every file, in nanoseconds; `open`, since when they may have been
//! written; and `boot`. libtorrent compares sizes only, and of a record without our part so do we.
//!
//! # Why a killed process loses nothing
//!
//! A piece is recorded as verified once its hash was compared, which follows its last write. What was written is with the
//! operating system then, and outlives the process: SIGKILL takes nothing back. So a record never claims too much; it can only
//! be older than the files, because whoever downloads goes on writing. A modification time alone would make every such record
//! void, and so force the whole hash that it is there to spare. Therefore a record is one of two kinds:
//!
//! * A *closed* one is made when nothing is left to be written: the torrent is finished or paused, or the session ends. Sizes
//!   and times must be what they were, else whoever changed the file was not us: its pieces are hashed.
//! * An *open* one is made, every few seconds, while blocks are being written. A file may have grown, and may have been
//!   modified from then on for [as long as the next record may take](OPEN_FOR), but not before, nor later: those times are not
//!   ours. Recorded pieces are trusted, because a verified piece is never written again. Pieces that were verified after the
//!   record are found by hashing: those not recorded, in files that were written since, as far as there is data in them and
//!   not a hole. That is what was downloaded in the last seconds, however large the torrent. Blocks of unfinished pieces are
//!   trusted until the hash of their piece says otherwise.
//!
//! A program that goes on with a torrent makes its closed record an open one *before* it adds the torrent
//! ([`Resume::opened`]): else a kill between the first write and the first record would leave times that nothing explains.
//!
//! When the power fails, or the system crashes, what was written in the last half minute may be gone although its size and
//! time are there. No data is synced for a record, because that would make every download wait for the disk. Instead an open
//! record of [another boot](Stamps::boot) is not trusted in files that were written shortly before it: all their pieces are
//! hashed. A closed record is trusted; whoever lost power within half a minute after the end of a download should have it
//! checked.

mod decode;
mod encode;
mod fit;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

pub use fit::{Change, ChangedFile, Fit, Misfit};

use super::{Description, InfoHashes, Metainfo, MetainfoError};
use crate::wire::bencode::BencodeError;

/// How long after an open record our own writes may go on without another one, in nanoseconds: a record takes its time on a
/// busy machine.
pub const OPEN_FOR: i64 = 15_000_000_000;

/// A record that is opened more often than this without a new one being made stays as it is, and so becomes void.
const MOST_OPENINGS: usize = 1_000;

/// What is known of a torrent and its files at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Which torrent.
    pub info_hashes: InfoHashes,
    /// What it is called.
    pub name: String,
    /// The folder that holds its files. What is not UTF-8 in it is replaced.
    pub save_path: String,
    /// The info dictionary, as it was written, if it was to be kept. It hashes to `info_hashes`.
    pub info: Option<Bytes>,
    /// For each piece, whether it is verified. Empty if the torrent's size is not known.
    pub pieces: Vec<bool>,
    /// Pieces of which some blocks are written.
    pub unfinished: Vec<Unfinished>,
    /// What the files were like. `None` if whoever made the record did not look.
    pub look: Option<Look>,
    /// Payload sent since the torrent was first added, bytes.
    pub total_uploaded: u64,
    /// Payload received since the torrent was first added, bytes.
    pub total_downloaded: u64,
    /// When it was first added, in seconds since 1970; 0 if that is not known.
    pub added_time: i64,
    /// When it was finished, in seconds since 1970; 0 if it is not.
    pub completed_time: i64,
    /// The priority of each piece, 0 (not wanted) to 7. Empty if all are wanted alike.
    pub piece_priorities: Vec<u8>,
    /// The priority of each file, 0 (not wanted) to 7. Empty if all are wanted alike.
    pub file_priorities: Vec<u8>,
    /// Peers that could be connected to.
    pub peers: Vec<SocketAddr>,
    /// Addresses that are banned from the torrent.
    pub banned_peers: Vec<IpAddr>,
    /// Tracker URLs in tiers.
    pub trackers: Vec<Vec<String>>,
    /// URLs that serve the files over HTTP (BEP 19).
    pub web_seeds: Vec<String>,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether pieces are picked by number.
    pub sequential_download: bool,
}

/// A piece of which some blocks are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Its number. Nobody has checked that there is such a piece.
    pub piece: u32,
    /// A bit per block, the first in the highest bit of the first byte.
    pub bitmask: Vec<u8>,
}

impl Unfinished {
    /// Of a piece, which blocks are written.
    pub fn new(piece: u32, written: &[bool]) -> Self {
        let byte =
            |bits: &[bool]| (0..8).zip(bits).fold(0, |byte, (n, bit)| byte | u8::from(*bit) << (7 - n));
        Self { piece, bitmask: written.chunks(8).map(byte).collect() }
    }

    /// Whether a block is written.
    pub fn is_written(&self, block: u32) -> bool {
        self.bitmask.get((block / 8) as usize).is_some_and(|byte| byte & 0x80 >> (block % 8) != 0)
    }
}

/// What the files were like when a record was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Every file.
    pub stamps: Stamps,
    /// Since when they may have been written, for [`OPEN_FOR`] each time, in nanoseconds since 1970. Empty of a closed record:
    /// see [the module](self).
    pub open: Vec<i64>,
}

/// What the files of a torrent are like at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// When that was, by the clock that stamps the files; in nanoseconds since 1970. They were looked at right after.
    pub at: i64,
    /// Names the time between two starts of the system. `None` where the system does not tell.
    pub boot: Option<String>,
    /// Each file in the order of the torrent; `None` for one that is not there, or has no place on disk.
    pub files: Vec<Option<FileStamp>>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// Bytes.
    pub size: u64,
    /// When it was last modified, in nanoseconds since 1970.
    pub mtime: i64,
}

impl Resume {
    /// A record that claims nothing.
    pub fn new(info_hashes: InfoHashes) -> Self {
        Self {
            info_hashes,
            name: String::new(),
            save_path: String::new(),
            info: None,
            pieces: Vec::new(),
            unfinished: Vec::new(),
            look: None,
            total_uploaded: 0,
            total_downloaded: 0,
            added_time: 0,
            completed_time: 0,
            piece_priorities: Vec::new(),
            file_priorities: Vec::new(),
            peers: Vec::new(),
            banned_peers: Vec::new(),
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            paused: false,
            sequential_download: false,
        }
    }

    /// The same, to be written down before somebody goes on with the torrent: from `at` on (nanoseconds since 1970), in this
    /// boot of the system, its files may be modified. A record that was left open by another boot stays as it is, until its
    /// files have been compared.
    #[must_use]
    pub fn opened(mut self, at: i64, boot: Option<&str>) -> Self {
        if let Some(look) = &mut self.look {
            if look.open.is_empty() {
                look.stamps.boot = boot.map(str::to_owned);
            }
            if look.stamps.boot.as_deref() == boot && look.open.len() < MOST_OPENINGS {
                look.open.push(at);
            }
        }
        self
    }

    /// What is known of the torrent: what the caller knows, or if that is a link the metadata of the record, with the link's
    /// trackers and web seeds.
    pub fn describe(&self, known: Description) -> Description {
        match (known, &self.info) {
            (Description::Magnet(magnet), Some(info)) if self.is_of(&magnet.info_hashes) => {
                match Metainfo::from_info(info.clone()) {
                    Ok(metainfo) => metainfo.told_by(&magnet).into(),
                    Err(_) => magnet.into(),
                }
            }
            (known, _) => known,
        }
    }

    /// The same, without a word of what is there: everything is checked.
    #[must_use]
    pub fn without_pieces(self) -> Self {
        Self { pieces: Vec::new(), unfinished: Vec::new(), look: None, ..self }
    }

    /// Whether it is a record of this torrent.
    pub fn is_of(&self, torrent: &InfoHashes) -> bool {
        match (self.info_hashes.v1(), torrent.v1()) {
            (Some(recorded), Some(v1)) => recorded == v1,
            _ => self.info_hashes.v2().is_some() && self.info_hashes.v2() == torrent.v2(),
        }
    }
}

/// Bytes that are not resume data that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// Not bencoded, or not a dictionary.
    #[error("not resume data: {0}")]
    Bencode(#[from] BencodeError),
    /// Something follows the dictionary.
    #[error("not resume data: something follows its end")]
    Trailing,
    /// Some other sort of dictionary.
    #[error("not resume data: `file-format` is missing or says something else")]
    Format,
    /// Of a program that is newer.
    #[error("resume data of version {0}, which this program does not know")]
    Version(i64),
    /// A key that every record needs.
    #[error("the resume data lacks `{0}`")]
    Missing(&'static str),
    /// A key whose value makes no sense.
    #[error("the resume data has a `{0}` that makes no sense")]
    Invalid(&'static str),
    /// The info dictionary cannot be used.
    #[error("the resume data's metadata cannot be used: {0}")]
    Info(#[from] MetainfoError),
}

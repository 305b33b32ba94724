//! What the engine asks of the disk, and what it hears back.
//!
//! The engine never touches a file: it emits [`DiskJob`]s, and a pool of threads (or a simulated disk in a test)
//! answers with [`DiskDone`]s, in any order and as late as it likes. Data crosses as [`Bytes`], never copied.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha1::{Digest as _, Sha1};

use crate::metainfo::resume::Stamps;
use crate::metainfo::{BlockSpan, FileLayout, InfoHashes, Metainfo, MetainfoError, PieceHashes, PieceIndex};

/// Names one torrent's files for as long as they are open. Chosen by the engine, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageId(pub u64);

/// Comes back with the answer to a read, so that the engine knows whom it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadToken(pub u64);

/// Bytes of blocks that the disk keeps after it has written them, until it hashes them, apart from those in the hands of its
/// threads.
pub const MOST_HELD: usize = 4 << 20;

/// One request to the disk. Jobs of one piece are carried out in the order in which they were asked.
#[derive(Clone, Debug)]
pub enum DiskJob {
    /// Makes `storage` known. Touches no file; answered by [`DiskDone::Opened`].
    Open {
        /// The name that all later jobs use.
        storage: StorageId,
        /// Where each piece lies in which file.
        layout: Arc<FileLayout>,
        /// The hash that each piece must have.
        hashes: Arc<PieceHashes>,
        /// The folder that holds, or will hold, the torrent's files.
        root: Arc<Path>,
    },
    /// Hashes every piece that exists on disk; one [`DiskDone::Checked`] per piece, then [`DiskDone::CheckFinished`].
    Check {
        /// Whose files.
        storage: StorageId,
    },
    /// As [`Check`](Self::Check), of some pieces only.
    CheckPieces {
        /// Whose files.
        storage: StorageId,
        /// The pieces that are hashed.
        pieces: Vec<PieceIndex>,
        /// Pieces that are hashed too, unless there is a hole in them: nothing was written there.
        written: Vec<PieceIndex>,
    },
    /// Looks what the files are like; answered by [`DiskDone::Stamped`]. What was written, and answered, before is seen; if it
    /// completed a piece, [`DiskDone::Hashed`] comes first.
    Stamp {
        /// Whose files.
        storage: StorageId,
    },
    /// Takes a record's word for what is on disk. Touches no file, and is not answered.
    Restore {
        /// Whose files.
        storage: StorageId,
        /// Pieces that are right.
        pieces: Vec<PieceIndex>,
        /// Of other pieces, which blocks are written: not all of them.
        unfinished: Vec<(PieceIndex, Vec<bool>)>,
    },
    /// Writes one block. When every block of the piece has been written, the piece is hashed without being asked for:
    /// [`DiskDone::Written`] per block or run of blocks, then [`DiskDone::Hashed`] once per piece.
    Write {
        /// Whose files.
        storage: StorageId,
        /// Where the data belongs.
        span: BlockSpan,
        /// The data; `data.len() == span.len`.
        data: Bytes,
    },
    /// Forgets which blocks of a piece were written, so that all of them are expected anew.
    Forget {
        /// Whose files.
        storage: StorageId,
        /// The piece that failed its hash check.
        piece: PieceIndex,
    },
    /// Reads a range; answered by [`DiskDone::Read`].
    Read {
        /// Whose files.
        storage: StorageId,
        /// What to read.
        span: BlockSpan,
        /// Comes back with the answer.
        token: ReadToken,
    },
    /// Hashes a range with SHA-1, so that its data need not leave the disk's threads; answered by [`DiskDone::Digest`].
    Digest {
        /// Whose files.
        storage: StorageId,
        /// What to hash.
        span: BlockSpan,
        /// Comes back with the answer.
        token: ReadToken,
    },
    /// Hashes and reads an info dictionary that peers sent; answered by [`DiskDone::Metadata`]. Of a storage that is not
    /// open yet.
    Metadata {
        /// Whose.
        storage: StorageId,
        /// The dictionary, bencoded.
        info: Bytes,
        /// What it must hash to.
        info_hashes: InfoHashes,
    },
    /// Closes the files after the jobs before it, cutting a check short; answered by [`DiskDone::Closed`].
    Close {
        /// Whose files.
        storage: StorageId,
        /// Whether the torrent's files, and folders that are empty then, are deleted.
        delete_files: bool,
    },
}

/// One answer of the disk.
#[derive(Debug)]
pub enum DiskDone {
    /// The storage is known. `existing` is whether any of its files is there already, so that a check is worth it.
    Opened {
        /// Whose files.
        storage: StorageId,
        /// Whether at least one non-empty file exists.
        existing: Result<bool, DiskError>,
    },
    /// One piece of a check: whether its data is right.
    Checked {
        /// Whose files.
        storage: StorageId,
        /// Which piece.
        piece: PieceIndex,
        /// Whether the data on disk has the piece's hash.
        have: bool,
    },
    /// A check is over.
    CheckFinished {
        /// Whose files.
        storage: StorageId,
        /// The first file that could not be read although it exists.
        result: Result<(), DiskError>,
    },
    /// What the files are like.
    Stamped {
        /// Whose files.
        storage: StorageId,
        /// Each of them. One that cannot be looked at is as good as missing.
        stamps: Stamps,
    },
    /// A run of blocks is in the file, or failed. The disk keeps at most [`MOST_HELD`] bytes of it and others until it hashes them.
    Written {
        /// Whose files.
        storage: StorageId,
        /// The run; may cover several blocks that were written at once.
        span: BlockSpan,
        /// What went wrong.
        result: Result<(), DiskError>,
    },
    /// All blocks of a piece were written, and this is what its hash said.
    Hashed {
        /// Whose files.
        storage: StorageId,
        /// Which piece.
        piece: PieceIndex,
        /// Whether it has the right hash.
        passed: Result<bool, DiskError>,
    },
    /// The answer to a read.
    Read {
        /// Whose files.
        storage: StorageId,
        /// What was asked.
        span: BlockSpan,
        /// From the job.
        token: ReadToken,
        /// The data, `span.len` bytes.
        data: Result<Bytes, DiskError>,
    },
    /// The answer to a digest.
    Digest {
        /// From the job.
        token: ReadToken,
        /// The SHA-1.
        digest: Result<[u8; 20], DiskError>,
    },
    /// An info dictionary was looked at.
    Metadata {
        /// Whose.
        storage: StorageId,
        /// The torrent, if the dictionary is the right one.
        metainfo: Result<Box<Metainfo>, MetadataError>,
    },
    /// The files are closed, and everything written is with the operating system.
    Closed {
        /// Whose files.
        storage: StorageId,
    },
}

impl DiskDone {
    /// The answer to a digest, by what was read.
    pub fn digest(token: ReadToken, data: Result<Bytes, DiskError>) -> Self {
        Self::Digest { token, digest: data.map(|data| Sha1::digest(&data).into()) }
    }
}

/// What is wrong with an info dictionary that peers sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// It is another one than the link names: a peer lied.
    #[error("the metadata that peers sent has the wrong hash")]
    WrongHash,
    /// It is the one that the link names, and cannot be used.
    #[error("the torrent's metadata cannot be used: {0}")]
    Unusable(#[from] MetainfoError),
}

impl MetadataError {
    /// Hashes and reads an info dictionary.
    ///
    /// # Errors
    /// It is not the one of these hashes, or cannot be used.
    pub fn check(info: Bytes, info_hashes: &InfoHashes) -> Result<Metainfo, Self> {
        if info_hashes.verify_v1(&info) != Some(true) {
            return Err(Self::WrongHash);
        }
        Ok(Metainfo::from_info(info)?)
    }
}

/// A file that could not be opened, read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {operation} {}: {error}", path.display())]
pub struct DiskError {
    /// The verb: `open`, `read`, `write` or `create`.
    pub operation: &'static str,
    /// The file, with its folder.
    pub path: PathBuf,
    /// What the operating system said.
    pub error: Arc<std::io::Error>,
}

//! Why a torrent, an info dictionary or a magnet link was refused.

use std::path::PathBuf;

use crate::wire::bencode::BencodeError;

/// A torrent that cannot be used. Always the fault of whoever wrote it. Each message is one line for a person to read,
/// and what it quotes is escaped and not long, so that it may be printed on a terminal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// Not bencoded, or not a dictionary.
    #[error("not a torrent: {0}")]
    Bencode(#[from] BencodeError),
    /// A key that every torrent needs, named from the outermost dictionary on.
    #[error("not a torrent: `{0}` is missing or of the wrong type")]
    Missing(&'static str),
    /// A key whose value makes no sense.
    #[error("the torrent's `{key}` cannot be {value}")]
    Invalid {
        /// The key, named from the outermost dictionary on.
        key: &'static str,
        /// What it is.
        value: i128,
    },
    /// As many hashes as there are pieces are needed.
    #[error("the torrent has {found} bytes of piece hashes where its size needs {expected}")]
    HashCount {
        /// Bytes that are there.
        found: usize,
        /// Bytes that the size of the files needs.
        expected: u64,
    },
    /// A torrent that has no v1 side (BEP 52).
    #[error("the torrent is of version 2 only, which is not supported yet")]
    V2Only,
    /// All files together hold no byte.
    #[error("the torrent holds no data")]
    Empty,
    /// All files together are longer than 2^63 - 1 bytes.
    #[error("the files are too large together")]
    TooLarge,
    /// Zero, or more than [`MAX_PIECE_LENGTH`](super::MAX_PIECE_LENGTH).
    #[error("a piece length of {0} bytes is not allowed")]
    PieceLength(u64),
    /// More pieces than a message can number.
    #[error("the torrent would have {0} pieces, which is too many")]
    TooManyPieces(u64),
    /// A path that could lead out of the folder, or that no file system can hold.
    #[error("unsafe file path {path:?}: {reason}")]
    UnsafePath {
        /// The component or path at fault, or its beginning.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two files of the torrent would be one file on disk.
    #[error("the file {0:?} occurs twice")]
    DuplicatePath(PathBuf),
    /// One file's path is another file's folder.
    #[error("{0:?} is a file and a folder at once")]
    FileIsFolder(PathBuf),
    /// The data did not have the length that was told before.
    #[error("the files changed while they were read: {expected} bytes were expected, {found} came")]
    DataLength {
        /// Bytes that the files had at first.
        expected: u64,
        /// Bytes that were given.
        found: u64,
    },
    /// Not a link of the form `magnet:?...`.
    #[error("not a magnet link")]
    NotAMagnet,
    /// A magnet link without `xt=urn:btih:` or `xt=urn:btmh:`.
    #[error("the magnet link names no torrent")]
    NoInfoHash,
    /// An info-hash that is neither 40 hexadecimal nor 32 base-32 digits, nor a SHA-256 multihash.
    #[error("{0:?} is not an info-hash")]
    BadInfoHash(String),
}

impl MetainfoError {
    pub(super) fn unsafe_path(path: &str, reason: &'static str) -> Self {
        Self::UnsafePath { path: excerpt(path), reason }
    }
}

/// Enough of a stranger's text to recognise it by.
pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 100;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

//! Why a torrent, an info dictionary or a magnet link was refused.

use std::path::PathBuf;

/// A torrent that cannot be used. Always the fault of whoever wrote it; each message is one line for a person to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetainfoError {
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
        /// The component or path at fault, made printable.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two files of the torrent would be one file on disk.
    #[error("the file {} occurs twice", .0.display())]
    DuplicatePath(PathBuf),
    /// One file's path is another file's folder.
    #[error("{} is a file and a folder at once", .0.display())]
    FileIsFolder(PathBuf),
}

//! What a torrent is made of, before anything is downloaded: pieces and blocks, files, hashes.

mod error;
mod hash;
mod layout;

pub use error::MetainfoError;
pub use hash::{InfoHashes, PieceDigest, PieceHasher, PieceHashes};
pub use layout::{
    BLOCK_SIZE, BlockSpan, FileEntry, FileLayout, FileSpan, Geometry, MAX_PIECE_LENGTH, PieceIndex,
};

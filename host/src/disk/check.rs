//! Whether a piece on disk is right.

use std::io::ErrorKind;

use super::schedule::Holes;
use super::storage::{Access, Storage};
use crate::job::DiskError;
use crate::metainfo::{BlockSpan, PieceIndex};

/// Hashes one piece, through `chunk`. Where a file is missing or too short, or has a hole if that matters, the piece is not
/// there, and nothing is hashed.
///
/// # Errors
/// Names the file that exists, but cannot be read.
pub(super) fn is_right(
    storage: &Storage,
    access: &mut Access<'_>,
    piece: PieceIndex,
    holes: Holes,
    chunk: &mut [u8],
) -> Result<bool, DiskError> {
    let whole = storage.layout().geometry().whole(piece);
    if !access.holds(whole)? || (holes == Holes::Missing && access.has_hole(whole)?) {
        return Ok(false);
    }
    let mut hasher = storage.hashes().hasher();
    for start in (0..whole.len).step_by(chunk.len()) {
        // The smaller of the two fits `u32`, because the rest of the piece does.
        let len = chunk.len().min((whole.len - start) as usize) as u32;
        let part = &mut chunk[..len as usize];
        match access.read(BlockSpan { start, len, ..whole }, part) {
            Ok(()) => hasher.update(part),
            // Someone shortens the file at this moment.
            Err(error) if error.error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(storage.hashes().matches(piece, &hasher.finish()))
}

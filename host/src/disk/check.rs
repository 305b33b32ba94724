//! Whether pieces on disk are right.

use std::io::ErrorKind;

use super::checks::{Holes, PieceCheck};
use super::files::OpenFiles;
use super::storage::Access;
use crate::job::DiskError;
use crate::metainfo::{BlockSpan, PieceHasher};

/// Hashes pieces side by side, through equal parts of `chunk`. Where a file is missing or too short, or has a hole if that
/// matters, the piece is not there, and nothing is hashed. An error names the file that exists, but cannot be read.
pub(super) fn are_right(
    checks: &[PieceCheck],
    files: &OpenFiles,
    chunk: &mut [u8],
) -> Vec<Result<bool, DiskError>> {
    let mut lanes: Vec<_> = checks.iter().map(|check| Lane::new(check, files)).collect();
    let step = chunk.len() / lanes.len().max(1);
    for start in (0_u32..).step_by(step) {
        // Those of one torrent are of the same length, but for its last.
        let parts = lanes.iter_mut().zip(chunk.chunks_exact_mut(step));
        let read: Vec<_> = parts.filter_map(|(lane, part)| lane.read(start, part)).collect();
        if read.is_empty() {
            break;
        }
        PieceHasher::update_each(read);
    }
    lanes.into_iter().map(Lane::finish).collect()
}

/// A piece while it is hashed.
struct Lane<'a> {
    check: &'a PieceCheck,
    access: Access<'a>,
    whole: BlockSpan,
    hasher: PieceHasher,
    /// Whether it is as long as it should be; the first error if that cannot be told.
    there: Result<bool, DiskError>,
}

impl<'a> Lane<'a> {
    fn new(check: &'a PieceCheck, files: &'a OpenFiles) -> Self {
        let storage = &*check.storage;
        let mut access = Access::new(storage, files);
        let whole = storage.layout().geometry().whole(check.piece);
        let mut complete =
            || Ok(access.holds(whole)? && !(check.holes == Holes::Missing && access.has_hole(whole)?));
        let there = complete();
        if matches!(there, Ok(true)) {
            access.read_ahead(whole);
        }
        Self { check, access, whole, hasher: storage.hashes().hasher(), there }
    }

    /// Reads what lies at `start` of the piece, to be hashed. `None` if that is beyond its end, or cannot be read.
    fn read<'p>(&mut self, start: u32, part: &'p mut [u8]) -> Option<(&mut PieceHasher, [&'p [u8]; 1])> {
        let rest =
            self.whole.len.checked_sub(start).filter(|rest| *rest > 0 && matches!(self.there, Ok(true)))?;
        // Not longer than the rest of the piece.
        let len = part.len().min(rest as usize) as u32;
        let part = &mut part[..len as usize];
        match self.access.read(BlockSpan { start, len, ..self.whole }, part) {
            Ok(()) => return Some((&mut self.hasher, [part])),
            // Someone shortens the file at this moment.
            Err(error) if error.error.kind() == ErrorKind::UnexpectedEof => self.there = Ok(false),
            Err(error) => self.there = Err(error),
        }
        None
    }

    fn finish(self) -> Result<bool, DiskError> {
        Ok(self.there? && self.check.storage.hashes().matches(self.check.piece, &self.hasher.finish()))
    }
}

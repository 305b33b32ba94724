//! Checks under way: which pieces of a torrent are still to be looked at.

use std::sync::Arc;

use super::storage::Storage;
use crate::job::DiskError;
use crate::metainfo::{PieceHasher, PieceIndex};

/// A check under way.
pub(super) struct CheckRun {
    pub(super) id: CheckId,
    pub(super) storage: Arc<Storage>,
    pub(super) what: Checked,
    /// How many of the pieces have been begun, and how many there are.
    pub(super) next: usize,
    pub(super) end: usize,
    /// Pieces begun and not yet finished.
    pub(super) running: u32,
    pub(super) result: Result<(), DiskError>,
}

impl CheckRun {
    /// Number so and so of the pieces.
    pub(super) fn piece(&self, number: usize) -> Option<(PieceIndex, Holes)> {
        match &self.what {
            Checked::Everything => {
                let piece = self.storage.layout().geometry().piece(u32::try_from(number).ok()?)?;
                Some((piece, Holes::Zeros))
            }
            Checked::Pieces(pieces) => pieces.get(number).copied(),
        }
    }

    /// How many pieces one worker takes now: as many as are hashed side by side, but towards the end fewer, so that the
    /// other workers have some.
    pub(super) fn lanes(&self) -> usize {
        ((self.end - self.next) / (2 * PieceHasher::LANES)).clamp(1, PieceHasher::LANES)
    }

    pub(super) fn has_more(&self) -> bool {
        self.next < self.end
    }

    pub(super) fn is_over(&self) -> bool {
        !self.has_more() && self.running == 0
    }
}

/// One piece of a check, in the hands of one worker.
pub(super) struct PieceCheck {
    pub(super) id: CheckId,
    pub(super) storage: Arc<Storage>,
    pub(super) piece: PieceIndex,
    pub(super) holes: Holes,
}

/// What a hole in a piece means to a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holes {
    /// Zeros, like any others.
    Zeros,
    /// The piece is not there: whoever wrote it left no holes.
    Missing,
}

/// What is checked.
#[derive(Clone)]
pub(super) enum Checked {
    Everything,
    Pieces(Arc<[(PieceIndex, Holes)]>),
}

/// Names a check while it runs, so that each piece can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CheckId(pub(super) u64);

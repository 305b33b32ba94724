//! Stamps that wait until the pieces that were complete before them are hashed.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::schedule::Key;
use super::storage::Storage;
use crate::metainfo::PieceIndex;

#[derive(Default)]
pub(super) struct WaitingStamps(Vec<WaitingStamp>);

struct WaitingStamp {
    storage: Arc<Storage>,
    /// What may have been complete, and was not hashed then.
    pieces: FxHashSet<PieceIndex>,
}

impl WaitingStamps {
    /// Has a storage stamped after these pieces.
    pub(super) fn add(&mut self, storage: Arc<Storage>, pieces: FxHashSet<PieceIndex>) {
        self.0.push(WaitingStamp { storage, pieces });
    }

    /// Whether a stamp waits for a piece.
    pub(super) fn wait_for(&self, (storage, piece): Key) -> bool {
        self.0.iter().any(|stamp| stamp.storage.id() == storage && stamp.pieces.contains(&piece))
    }

    /// A piece is hashed, or was not complete.
    pub(super) fn passed(&mut self, (storage, piece): Key) {
        for stamp in self.0.iter_mut().filter(|stamp| stamp.storage.id() == storage) {
            stamp.pieces.remove(&piece);
        }
    }

    /// The storages that nothing is waited for any more.
    pub(super) fn begin(&mut self) -> impl Iterator<Item = Arc<Storage>> {
        self.0.extract_if(.., |stamp| stamp.pieces.is_empty()).map(|stamp| stamp.storage)
    }
}

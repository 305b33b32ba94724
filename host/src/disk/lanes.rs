//! Which pieces wait to be hashed, because several are hashed in little more than the time of one.
//!
//! What was written stays in memory until then. While pieces are completed one right after the other, each waits for
//! the next ones, but no longer than [`LINGER`]; one that comes alone does not wait. Nor does one that is so long that no other
//! would have room beside it: it is hashed bit by bit, while the processor's cache holds it.
//!
//! Every piece is counted here that holds something and is with no worker, so that memory is bounded: see [`MOST_HELD`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::schedule::Key;
use crate::job::MOST_HELD;
use crate::metainfo::PieceHasher;

/// How long a complete piece waits for others. Nobody at the other end of a network notices it; at a gigabyte a second several
/// pieces come in that time.
const LINGER: Duration = Duration::from_millis(5);

#[derive(Default)]
pub(super) struct Lanes {
    /// Pieces of which all blocks are written, oldest first. They wait as if a worker had them.
    complete: VecDeque<Complete>,
    /// Pieces of which some blocks are in memory, whether or not more of them wait to be written.
    partial: FxHashMap<Key, Held>,
    /// Bytes in memory, of all of them.
    held: usize,
    last_completed: Option<Instant>,
}

struct Complete {
    key: Key,
    held: Held,
    /// When it has waited long enough; `None` if it is not to wait at all.
    due: Option<Instant>,
}

/// What a piece keeps in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) bytes: usize,
    /// Bytes of the whole piece.
    pub(super) of: u32,
}

impl Held {
    /// Whether two such pieces are more than is held.
    fn is_long(self) -> bool {
        self.of as usize > MOST_HELD / 2
    }
}

impl Lanes {
    /// Takes a piece that holds so much.
    pub(super) fn add_partial(&mut self, key: Key, held: Held) {
        if held.bytes > 0 {
            self.partial.insert(key, held);
            self.held += held.bytes;
        }
    }

    /// Takes a complete piece, which waits for others unless it is wanted `at_once`.
    pub(super) fn add_complete(&mut self, key: Key, held: Held, at_once: bool, now: Instant) {
        let before = self.last_completed.replace(now);
        let alone = before.is_none_or(|before| now.saturating_duration_since(before) > LINGER);
        let at_once = at_once || alone || (held.is_long() && self.held == 0);
        let due = (!at_once).then(|| now + LINGER);
        self.complete.push_back(Complete { key, held, due });
        self.held += held.bytes;
    }

    /// Gives up a piece, because a worker gets it.
    pub(super) fn remove_partial(&mut self, key: Key) {
        self.held -= self.partial.remove(&key).unwrap_or_default().bytes;
    }

    /// Lets some pieces wait no longer.
    pub(super) fn hurry(&mut self, which: impl Fn(Key) -> bool) {
        for piece in self.complete.iter_mut().filter(|piece| which(piece.key)) {
            piece.due = None;
        }
    }

    /// When the next of those that wait has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.complete.iter().filter_map(|piece| piece.due).min()
    }

    /// Whether [`next`](Self::next) gives any.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.most(now) > 0
    }

    /// Gives pieces to be hashed side by side: as many as that is good for, or all if too much memory is held. They are gone
    /// from here then.
    pub(super) fn next(&mut self, now: Instant) -> Vec<Key> {
        let most = self.most(now);
        // The oldest first; one that is in a hurry brings those before it along.
        let complete = self.complete.drain(..most.min(self.complete.len()));
        let mut keys: Vec<_> = complete.map(|piece| (piece.key, piece.held)).collect();
        let partial = self.partial.iter().take(most - keys.len());
        keys.extend(partial.map(|(&key, &held)| (key, held)));
        for (key, held) in &keys {
            self.partial.remove(key);
            self.held -= held.bytes;
        }
        keys.into_iter().map(|(key, _)| key).collect()
    }

    /// How many pieces are to be hashed now.
    fn most(&self, now: Instant) -> usize {
        if self.held > MOST_HELD {
            return usize::MAX;
        }
        let enough = self.complete.len() >= PieceHasher::LANES;
        let is_due = |piece: &Complete| piece.due.is_none_or(|due| due <= now);
        let any = enough || self.complete.iter().any(is_due) || self.is_one_long_piece();
        if any { PieceHasher::LANES } else { 0 }
    }

    fn is_one_long_piece(&self) -> bool {
        self.complete.is_empty()
            && self.partial.len() == 1
            && self.partial.values().all(|held| held.is_long())
    }
}

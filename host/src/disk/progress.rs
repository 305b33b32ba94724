//! Which blocks of a piece are written, and how far it is hashed.

use std::cmp::Reverse;
use std::collections::VecDeque;

use bytes::Bytes;

use super::lanes::Held;
use super::storage::{Access, Storage};
use crate::job::DiskError;
use crate::metainfo::{BLOCK_SIZE, BlockSpan, PieceDigest, PieceHasher, PieceIndex};

/// Blocks of a piece that are hashed before their memory is given back.
const AT_ONCE: usize = 16;

/// A piece of which some blocks are written. What is hashed is always a prefix of it; behind it may be blocks that are
/// still in memory.
pub(super) struct Progress {
    /// All of the piece.
    whole: BlockSpan,
    written: Vec<bool>,
    missing: usize,
    hasher: PieceHasher,
    /// Blocks that are in the hash.
    hashed: usize,
    /// The blocks that follow those, as far as they are in memory.
    held: VecDeque<Bytes>,
}

impl Progress {
    /// Nothing is written.
    pub(super) fn new(storage: &Storage, piece: PieceIndex) -> Self {
        let geometry = storage.layout().geometry();
        let blocks = geometry.blocks_in(piece) as usize;
        Self {
            whole: geometry.whole(piece),
            written: vec![false; blocks],
            missing: blocks,
            hasher: storage.hashes().hasher(),
            hashed: 0,
            held: VecDeque::new(),
        }
    }

    /// These blocks are written already. What is hashed of them is read back when more come.
    pub(super) fn restored(storage: &Storage, piece: PieceIndex, written: &[bool]) -> Self {
        let mut progress = Self::new(storage, piece);
        progress.written.iter_mut().zip(written).for_each(|(block, written)| *block = *written);
        progress.missing = progress.written.iter().filter(|written| !**written).count();
        progress
    }

    /// Whether this block is on disk.
    pub(super) fn is_written(&self, block: BlockSpan) -> bool {
        self.written[block.block_index() as usize]
    }

    /// Whether every block is.
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// What is in memory until it is hashed.
    pub(super) fn held(&self) -> Held {
        Held { bytes: self.held.len() * BLOCK_SIZE as usize, of: self.whole.len }
    }

    /// Notes a block that was not written before. Its data stays in memory if it is the next to be hashed but for others that
    /// are in memory.
    pub(super) fn written(&mut self, block: BlockSpan, data: &Bytes) {
        let index = block.block_index() as usize;
        self.written[index] = true;
        self.missing -= 1;
        if index == self.hashed + self.held.len() {
            self.held.push_back(data.clone());
        }
    }

    /// Hashes what is in memory of several pieces, side by side, and lets go of it.
    pub(super) fn hash_each<'p>(pieces: impl IntoIterator<Item = &'p mut Self>) {
        let mut pieces: Vec<_> = pieces.into_iter().collect();
        pieces.sort_by_key(|piece| Reverse(piece.held.len()));
        while pieces.iter().any(|piece| !piece.held.is_empty()) {
            PieceHasher::update_each(pieces.iter_mut().map(|piece| piece.lane()));
            pieces.iter_mut().for_each(|piece| piece.release_hashed());
        }
    }

    /// If blocks that come next are on disk and not in memory, hashes them, and so all up to the first that is missing.
    ///
    /// # Errors
    /// Names the file that cannot be read. The hash stays as far as it came; the next call goes on from there.
    pub(super) fn catch_up(&mut self, access: &mut Access<'_>, chunk: &mut [u8]) -> Result<(), DiskError> {
        if self.written.get(self.hashed + self.held.len()) != Some(&true) {
            return Ok(());
        }
        Self::hash_each([&mut *self]);
        while self.written.get(self.hashed) == Some(&true) {
            let most = chunk.len() / BLOCK_SIZE as usize;
            let next = self.written[self.hashed..].iter().take(most).take_while(|&&written| written);
            let blocks = next.count();
            let span = self.blocks(self.hashed, blocks);
            let data = &mut chunk[..span.len as usize];
            access.read(span, data)?;
            self.hasher.update(data);
            self.hashed += blocks;
        }
        Ok(())
    }

    /// The hash of the piece, once it is complete and nothing of it is in memory.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub(super) fn finish(
        mut self,
        access: &mut Access<'_>,
        chunk: &mut [u8],
    ) -> Result<PieceDigest, DiskError> {
        self.catch_up(access, chunk)?;
        debug_assert!(self.is_complete() && self.hashed == self.written.len());
        Ok(self.hasher.finish())
    }

    /// The hash, and the next of the blocks in memory.
    fn lane(&mut self) -> (&mut PieceHasher, impl Iterator<Item = &[u8]>) {
        (&mut self.hasher, self.held.iter().take(AT_ONCE).map(|data| &data[..]))
    }

    /// Follows what [`lane`](Self::lane) gave.
    fn release_hashed(&mut self) {
        let count = self.held.len().min(AT_ONCE);
        self.held.drain(..count);
        self.hashed += count;
    }

    fn blocks(&self, first: usize, count: usize) -> BlockSpan {
        // Both are at most the number of blocks of a piece, so their bytes fit `u32`.
        let start = first as u32 * BLOCK_SIZE;
        let len = (count as u32 * BLOCK_SIZE).min(self.whole.len - start);
        BlockSpan { start, len, ..self.whole }
    }
}

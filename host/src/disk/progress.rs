//! Which blocks of a piece are written, and how far it is hashed.

use std::collections::VecDeque;

use bytes::Bytes;

use super::lanes::Held;
use super::storage::{Access, Storage};
use crate::job::DiskError;
use crate::metainfo::{BLOCK_SIZE, BlockSpan, PieceDigest, PieceHasher, PieceIndex};

/// Blocks of a piece that are hashed before their memory is given back.
const AT_ONCE: usize = 16;

/// A piece of which some blocks are written. What is hashed is always a prefix of it.
pub(super) struct Progress {
    /// All of the piece.
    whole: BlockSpan,
    written: Vec<bool>,
    missing: usize,
    hasher: PieceHasher,
    /// Blocks that are in the hash.
    hashed: usize,
    /// The first block that is not written.
    front: usize,
    /// Written blocks between these two that are still in memory, in order. The others have to be read back.
    held: VecDeque<(usize, Bytes)>,
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
            front: 0,
            held: VecDeque::new(),
        }
    }

    /// These blocks are written already. What is hashed of them is read back when more come.
    pub(super) fn restored(storage: &Storage, piece: PieceIndex, written: &[bool]) -> Self {
        let mut progress = Self::new(storage, piece);
        progress.written.iter_mut().zip(written).for_each(|(block, written)| *block = *written);
        progress.missing = progress.written.iter().filter(|written| !**written).count();
        progress.advance_front();
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

    /// Notes a block that was not written before. Its data stays in memory if all before it is written: then nothing but
    /// time keeps it from being hashed.
    pub(super) fn written(&mut self, block: BlockSpan, data: &Bytes) {
        let index = block.block_index() as usize;
        self.written[index] = true;
        self.missing -= 1;
        if index == self.front {
            self.held.push_back((index, data.clone()));
            self.advance_front();
        }
    }

    /// Hashes all that can be hashed of several pieces, side by side, and lets go of what was in memory for it. What
    /// cannot be read back now is tried again when its piece is complete.
    pub(super) fn hash_each(pieces: &mut [(&mut Self, Access<'_>)], chunk: &mut [u8]) {
        pieces.sort_by_key(|(piece, _)| std::cmp::Reverse(piece.held.len()));
        while pieces.iter().any(|(piece, _)| !piece.held.is_empty()) {
            for (piece, access) in &mut *pieces {
                let next = piece.held.front().map_or(piece.hashed, |(next, _)| *next);
                if piece.read_back(next, access, chunk).is_err() {
                    piece.held.clear();
                }
            }
            PieceHasher::update_each(pieces.iter_mut().map(|(piece, _)| piece.lane()));
            pieces.iter_mut().for_each(|(piece, _)| piece.release_hashed());
        }
    }

    /// The hash of the piece, once it is complete.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub(super) fn finish(
        mut self,
        access: &mut Access<'_>,
        chunk: &mut [u8],
    ) -> Result<PieceDigest, DiskError> {
        debug_assert!(self.is_complete() && self.held.is_empty());
        self.read_back(self.written.len(), access, chunk)?;
        Ok(self.hasher.finish())
    }

    /// The hash, and the blocks in memory that come next.
    fn lane(&mut self) -> (&mut PieceHasher, impl Iterator<Item = &[u8]>) {
        let first = self.held.iter().take(AT_ONCE).zip(self.hashed..);
        let next = first.take_while(|((index, _), next)| index == next);
        (&mut self.hasher, next.map(|((_, data), _)| &data[..]))
    }

    /// Follows what [`lane`](Self::lane) gave.
    fn release_hashed(&mut self) {
        let count = self.lane().1.count();
        self.held.drain(..count);
        self.hashed += count;
    }

    /// Reads back and hashes written blocks, up to number `end`.
    ///
    /// # Errors
    /// Names the file that cannot be read. The hash stays as far as it came; the next call goes on from there.
    fn read_back(&mut self, end: usize, access: &mut Access<'_>, chunk: &mut [u8]) -> Result<(), DiskError> {
        while self.hashed < end {
            let blocks = (chunk.len() / BLOCK_SIZE as usize).min(end - self.hashed);
            let span = self.blocks(self.hashed, blocks);
            let data = &mut chunk[..span.len as usize];
            access.read(span, data)?;
            self.hasher.update(data);
            self.hashed += blocks;
        }
        Ok(())
    }

    fn advance_front(&mut self) {
        let written = self.written[self.front..].iter().take_while(|written| **written);
        self.front += written.count();
    }

    fn blocks(&self, first: usize, count: usize) -> BlockSpan {
        // Both are at most the number of blocks of a piece, so their bytes fit `u32`.
        let start = first as u32 * BLOCK_SIZE;
        let len = (count as u32 * BLOCK_SIZE).min(self.whole.len - start);
        BlockSpan { start, len, ..self.whole }
    }
}

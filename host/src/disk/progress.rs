//! Which blocks of a piece are written, and how far it is hashed.

use super::storage::{Access, Storage};
use crate::job::DiskError;
use crate::metainfo::{BLOCK_SIZE, BlockSpan, PieceDigest, PieceHasher, PieceIndex};

/// A piece of which some blocks are written. What is hashed is always a prefix of it.
pub(super) struct Progress {
    /// All of the piece.
    whole: BlockSpan,
    written: Vec<bool>,
    missing: usize,
    hasher: PieceHasher,
    /// Blocks that are in the hash.
    hashed: usize,
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

    /// Notes a block that was not written before.
    pub(super) fn written(&mut self, block: BlockSpan) {
        self.written[block.block_index() as usize] = true;
        self.missing -= 1;
    }

    /// Takes the data of a written block from memory, if it comes next.
    pub(super) fn hash(&mut self, block: BlockSpan, data: &[u8]) {
        if self.hashed == block.block_index() as usize {
            self.hasher.update(data);
            self.hashed += 1;
        }
    }

    /// Reads back and hashes the written blocks that come next, except for `but`, of which the data is at hand.
    ///
    /// # Errors
    /// Names the file that cannot be read. The hash stays as far as it came; the next call goes on from there.
    pub(super) fn catch_up(
        &mut self,
        access: &mut Access<'_>,
        chunk: &mut [u8],
        but: Option<BlockSpan>,
    ) -> Result<(), DiskError> {
        let end = but.map_or(self.written.len(), |block| block.block_index() as usize);
        while self.hashed < end && self.written[self.hashed] {
            let most = (chunk.len() / BLOCK_SIZE as usize).min(end - self.hashed);
            let blocks = self.written[self.hashed..][..most].iter().take_while(|&&written| written).count();
            let span = self.blocks(self.hashed, blocks);
            let data = &mut chunk[..span.len as usize];
            access.read(span, data)?;
            self.hasher.update(data);
            self.hashed += blocks;
        }
        Ok(())
    }

    /// The hash of the piece, once it is complete and has caught up.
    pub(super) fn finish(self) -> PieceDigest {
        debug_assert_eq!(self.hashed, self.written.len());
        self.hasher.finish()
    }

    fn blocks(&self, first: usize, count: usize) -> BlockSpan {
        // Both are at most the number of blocks of a piece, so their bytes fit `u32`.
        let start = first as u32 * BLOCK_SIZE;
        let len = (count as u32 * BLOCK_SIZE).min(self.whole.len - start);
        BlockSpan { start, len, ..self.whole }
    }
}

//! The blocks of a piece that was begun.
//!
//! Invariant: each block is padding, free, asked of one to three peers, received from one, or kept from an earlier session;
//! `padding`, `free` and `asked` count the first three kinds, and no block before `first_free` is free. A block that is
//! `written` is one of the others.

use std::fmt::Debug;
use std::ops::Range;

use crate::metainfo::PieceIndex;
use crate::peer::Bitfield;

/// So many peers may be asked for the same block, in the end-game.
pub(super) const MAX_COPIES: usize = 3;

/// One piece of which some block was asked for or received, and which has not been verified yet.
#[derive(Clone, Debug)]
pub struct Begun<P> {
    piece: PieceIndex,
    blocks: Box<[Block<P>]>,
    /// Blocks that the disk has written.
    written: Bitfield,
    padding: u32,
    /// Whether the padding has been handed out to be written.
    padded: bool,
    free: u32,
    asked: u32,
    first_free: u32,
    reserved: Option<P>,
}

/// What became of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block<P> {
    /// Zeros that nobody need be asked for (BEP 47).
    Padding,
    /// Nobody was asked, or nobody will answer.
    Free,
    /// On its way.
    Asked(Askers<P>),
    /// Here, and sent by this peer; being written, or waiting for the rest of the piece.
    Received(P),
    /// Written in an earlier session. Who sent it is not known any more.
    Kept,
}

/// The peers that a block was asked of: one to [`MAX_COPIES`], each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Askers<P>([Option<P>; MAX_COPIES]);

impl<P: Copy + Eq + Debug> Begun<P> {
    /// A piece of `blocks` blocks, all free but those that are padding.
    pub(super) fn new(piece: PieceIndex, blocks: u32, padding: &[Range<u32>]) -> Self {
        let mut kinds = vec![Block::Free; blocks as usize].into_boxed_slice();
        for range in padding {
            kinds[range.start as usize..range.end as usize].fill(Block::Padding);
        }
        let padding = padding.iter().map(|range| range.end - range.start).sum();
        Self {
            piece,
            blocks: kinds,
            written: Bitfield::new(blocks),
            padding,
            padded: padding == 0,
            free: blocks - padding,
            asked: 0,
            first_free: 0,
            reserved: None,
        }
    }

    /// Which piece.
    pub fn piece(&self) -> PieceIndex {
        self.piece
    }

    /// How many blocks nobody was asked for.
    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// How many blocks are on their way.
    pub(super) fn asked(&self) -> u32 {
        self.asked
    }

    /// How many blocks are here.
    #[cfg(test)]
    pub(super) fn received(&self) -> u32 {
        self.blocks.len() as u32 - self.padding - self.free - self.asked
    }

    /// Whether all blocks are here, so that the piece only waits for its hash.
    pub(super) fn is_complete(&self) -> bool {
        self.free == 0 && self.asked == 0
    }

    /// Whether no block was asked for or received, so that the piece is not begun at all any more.
    pub(super) fn is_untouched(&self) -> bool {
        self.free + self.padding == self.blocks.len() as u32
    }

    /// The peer for whom the piece is [reserved](Self::reserve), while that one is at it.
    pub(super) fn reserved_for(&self) -> Option<P> {
        self.reserved.filter(|_| self.asked > 0)
    }

    /// Whether nobody but `peer` was asked for any block or sent one. O(blocks).
    pub(super) fn is_only_of(&self, peer: P) -> bool {
        self.blocks.iter().all(|block| match block {
            Block::Free | Block::Padding => true,
            Block::Asked(askers) => askers.iter().all(|asker| asker == peer),
            Block::Received(by) => *by == peer,
            Block::Kept => false,
        })
    }

    /// These free blocks are on disk since an earlier session.
    pub(super) fn keep(&mut self, written: impl Iterator<Item = u32>) {
        for index in written {
            if let Some(block) = self.blocks.get_mut(index as usize).filter(|block| **block == Block::Free) {
                *block = Block::Kept;
                self.written.set(index);
                self.free -= 1;
            }
        }
    }

    /// Whether it is not known who sent some of the blocks.
    pub(super) fn has_kept(&self) -> bool {
        self.blocks.contains(&Block::Kept)
    }

    /// The disk has written these blocks, if they are here.
    pub(super) fn set_written(&mut self, blocks: Range<u32>) {
        for index in blocks {
            if matches!(self.blocks.get(index as usize), Some(Block::Received(_) | Block::Padding)) {
                self.written.set(index);
            }
        }
    }

    /// Which blocks are on disk, if any is.
    pub fn written(&self) -> Option<Vec<bool>> {
        let all = || (0..self.blocks.len() as u32).map(|index| self.written.get(index)).collect();
        (!self.written.is_empty()).then(all)
    }

    /// Nobody else shall take part while blocks of `peer` are on their way: the hash shall judge it alone.
    pub(super) fn reserve(&mut self, peer: P) {
        self.reserved = Some(peer);
    }

    /// Takes up to `want` free blocks for `peer`, the first ones, and calls `taken` with each one's number.
    /// O(want) amortised. A reservation for somebody else ends here.
    pub(super) fn take(&mut self, peer: P, want: usize, mut taken: impl FnMut(u32)) {
        self.reserved = self.reserved.filter(|&only| only == peer);
        let mut left = want.min(self.free as usize);
        while left > 0 {
            let block = &mut self.blocks[self.first_free as usize];
            if *block == Block::Free {
                *block = Block::Asked(Askers::one(peer));
                self.free -= 1;
                self.asked += 1;
                left -= 1;
                taken(self.first_free);
            }
            self.first_free += 1;
        }
    }

    /// Asks `peer` too for up to `want` blocks that `copies` others were asked for. O(blocks).
    pub(super) fn join(&mut self, peer: P, copies: usize, want: usize, mut joined: impl FnMut(u32)) {
        let asked = (0..).zip(&mut self.blocks).filter_map(|(index, block)| match block {
            Block::Asked(askers) if askers.len() == copies && !askers.contains(peer) => Some((index, askers)),
            _ => None,
        });
        for (index, askers) in asked.take(want) {
            if askers.add(peer) {
                joined(index);
            }
        }
    }

    /// A block came from `peer`, asked for or not. Answers who else was asked for it; `None` if it was here already
    /// or does not exist.
    pub(super) fn receive(&mut self, peer: P, index: u32) -> Option<Vec<P>> {
        let block = self.blocks.get_mut(index as usize)?;
        let others = match block {
            Block::Free => {
                self.free -= 1;
                Vec::new()
            }
            Block::Asked(askers) => {
                self.asked -= 1;
                askers.iter().filter(|&asker| asker != peer).collect()
            }
            Block::Padding | Block::Received(_) | Block::Kept => return None,
        };
        *block = Block::Received(peer);
        Some(others)
    }

    /// The numbers of the blocks that are padding, once.
    pub(super) fn take_padding(&mut self) -> Vec<u32> {
        if std::mem::replace(&mut self.padded, true) {
            return Vec::new();
        }
        (0..)
            .zip(&self.blocks)
            .filter(|(_, block)| **block == Block::Padding)
            .map(|(index, _)| index)
            .collect()
    }

    /// `peer` will not send this block. Says whether it had been asked.
    pub(super) fn abort(&mut self, peer: P, index: u32) -> bool {
        let Some(Block::Asked(askers)) = self.blocks.get_mut(index as usize) else { return false };
        let was_asked = askers.remove(peer);
        if askers.len() == 0 {
            self.blocks[index as usize] = Block::Free;
            self.asked -= 1;
            self.free += 1;
            self.first_free = self.first_free.min(index);
        }
        was_asked
    }

    /// `peer` will send none of the blocks it was asked for. O(blocks).
    pub(super) fn abort_all(&mut self, peer: P) {
        if self.asked > 0 {
            (0..self.blocks.len() as u32).for_each(|index| {
                self.abort(peer, index);
            });
        }
    }

    /// Whether `peer` was asked for this block and it is not here.
    pub(super) fn is_asked_of(&self, peer: P, index: u32) -> bool {
        matches!(self.blocks.get(index as usize), Some(Block::Asked(askers)) if askers.contains(peer))
    }

    /// Who sent this block.
    pub(super) fn downloader(&self, index: u32) -> Option<P> {
        match self.blocks.get(index as usize)? {
            Block::Received(by) => Some(*by),
            _ => None,
        }
    }

    /// Who sent each block; `None` for those that are not here.
    pub(super) fn downloaders(&self) -> impl Iterator<Item = Option<P>> {
        self.blocks.iter().map(|block| if let Block::Received(by) = block { Some(*by) } else { None })
    }

    /// Everyone who sent a block, once each, in the order of the blocks. O(blocks) when they come in runs.
    pub(super) fn contributors(&self) -> Vec<P> {
        let mut contributors = Vec::new();
        let mut last = None;
        for block in &self.blocks {
            if let Block::Received(by) = *block
                && last != Some(by)
            {
                last = Some(by);
                if !contributors.contains(&by) {
                    contributors.push(by);
                }
            }
        }
        contributors
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let count =
            |kind: fn(&Block<P>) -> bool| self.blocks.iter().filter(|block| kind(block)).count() as u32;
        assert_eq!(self.free, count(|block| matches!(block, Block::Free)));
        assert_eq!(self.padding, count(|block| matches!(block, Block::Padding)));
        assert_eq!(self.asked, count(|block| matches!(block, Block::Asked(_))));
        assert!(count(|block| matches!(block, Block::Asked(askers) if askers.len() == 0)) == 0);
        assert!(self.blocks.iter().take(self.first_free as usize).all(|block| *block != Block::Free));
        assert!(!self.is_untouched());
    }
}

impl<P: Copy + Eq> Askers<P> {
    fn one(peer: P) -> Self {
        let mut askers = [None; MAX_COPIES];
        askers[0] = Some(peer);
        Self(askers)
    }

    /// Who was asked.
    pub(super) fn iter(&self) -> impl Iterator<Item = P> + '_ {
        self.0.iter().flatten().copied()
    }

    fn len(&self) -> usize {
        self.iter().count()
    }

    fn contains(&self, peer: P) -> bool {
        self.iter().any(|asker| asker == peer)
    }

    /// False if there is no room.
    fn add(&mut self, peer: P) -> bool {
        let place = self.0.iter_mut().find(|place| place.is_none());
        place.map(|place| *place = Some(peer)).is_some()
    }

    fn remove(&mut self, peer: P) -> bool {
        let place = self.0.iter_mut().find(|place| **place == Some(peer));
        place.map(|place| *place = None).is_some()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

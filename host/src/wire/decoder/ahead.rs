//! Where the blocks belong that most likely come next, so that one read takes several of them to where they will stay.
//!
//! A stream of blocks looks the same again and again: thirteen bytes, then sixteen KiB. What turns out to be something else
//! has landed in the wrong place, and is copied to where it should have been.

use std::collections::VecDeque;

use crate::metainfo::BLOCK_SIZE;
use crate::wire::block::{BlockBuf, BlockPool};
use crate::wire::message::{PIECE_HEADER_LEN, id};

/// So many blocks are read at once at most, besides the one that is being received.
pub(super) const MOST: usize = 7;

/// A message that is expected to be a whole block.
#[derive(Debug)]
pub(super) struct Slot {
    header: [u8; PIECE_HEADER_LEN],
    /// How much of the header has arrived.
    arrived: usize,
    pub(super) buffer: BlockBuf,
}

impl Slot {
    fn new(pool: &BlockPool) -> Self {
        Self { header: [0; PIECE_HEADER_LEN], arrived: 0, buffer: pool.take(BLOCK_SIZE) }
    }

    /// Takes its part of `n` bytes that were read in order; what is left of them.
    fn take(&mut self, n: usize) -> usize {
        let header = n.min(PIECE_HEADER_LEN - self.arrived);
        self.arrived += header;
        let data = (n - header).min(self.buffer.remaining());
        self.buffer.advance(data);
        n - header - data
    }

    /// Piece and offset, if it is what was expected: the header of a whole block.
    pub(super) fn block(&self) -> Option<(u32, u32)> {
        let [l0, l1, l2, l3, kind, a, b, c, d, e, f, g, h] = self.header;
        let whole = u32::from_be_bytes([l0, l1, l2, l3]) == BLOCK_SIZE + 9;
        let is_block = self.arrived == PIECE_HEADER_LEN && kind == id::PIECE && whole;
        is_block.then(|| (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
    }

    /// The bytes in it, in the order in which they came.
    pub(super) fn bytes(&self) -> [&[u8]; 2] {
        [&self.header[..self.arrived], self.buffer.as_ref()]
    }
}

/// The slots of one connection.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Those that the next read may fill.
    planned: Vec<Slot>,
    /// Those that have been read into, and not been looked at.
    arrived: VecDeque<Slot>,
    /// How many the last read filled, at least in part.
    filled: usize,
}

impl Ahead {
    /// Plans for `expected` whole blocks, but for no more than a little beyond what the last read brought.
    pub(super) fn plan(&mut self, expected: usize, pool: &BlockPool) {
        let count = expected.min(self.filled + 2).min(MOST);
        self.planned.truncate(count);
        self.planned.resize_with(count, || Slot::new(pool));
    }

    /// Nothing is planned: what comes next is not known.
    pub(super) fn plan_nothing(&mut self) {
        self.planned.clear();
    }

    pub(super) fn is_planned(&self) -> bool {
        !self.planned.is_empty()
    }

    /// Where the next bytes belong.
    pub(super) fn targets(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.planned.iter_mut().flat_map(|slot| {
            let Slot { header, buffer, .. } = slot;
            [&mut header[..], buffer.unfilled_mut()]
        })
    }

    /// `n` bytes were read into the targets; what is left of them. Buffers that got nothing are given back.
    pub(super) fn received(&mut self, mut n: usize) -> usize {
        self.filled = 0;
        for mut slot in self.planned.drain(..) {
            if n > 0 {
                n = slot.take(n);
                self.filled += 1;
                self.arrived.push_back(slot);
            }
        }
        n
    }

    /// The next slot that was read into.
    pub(super) fn next(&mut self) -> Option<Slot> {
        self.arrived.pop_front()
    }

    pub(super) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }
}

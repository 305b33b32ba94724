//! An info dictionary in the making.

use std::time::Duration;

use pilotfish_plugin::PeerHandle;

use super::BLOCK;

/// A block that was asked for is not asked of another for so long.
const PATIENCE: Duration = Duration::from_secs(3);

/// The blocks of an info dictionary of one length.
pub(super) struct Assembly {
    bytes: Vec<u8>,
    length: usize,
    blocks: Vec<Block>,
}

#[derive(Clone, Default)]
struct Block {
    /// How often it was asked for.
    requests: u32,
    /// When it was last asked for, on the session's clock.
    asked: Option<Duration>,
    /// Who sent it, once it is there.
    source: Option<PeerHandle>,
}

impl Assembly {
    /// Nothing is there. The memory is taken when the first block comes.
    pub(super) fn new(length: usize) -> Self {
        Self { bytes: Vec::new(), length, blocks: vec![Block::default(); length.div_ceil(BLOCK)] }
    }

    /// The next block to ask for: of those that are missing and not on their way, the one that was asked for least.
    pub(super) fn pick(&mut self, now: Duration, asked_already: &[u32]) -> Option<u32> {
        let open = |(index, block): &(usize, &mut Block)| {
            block.source.is_none()
                && block.asked.is_none_or(|asked| now >= asked + PATIENCE)
                && !asked_already.contains(&(*index as u32))
        };
        let open = self.blocks.iter_mut().enumerate().filter(open);
        let (index, block) = open.min_by_key(|(_, block)| block.requests)?;
        block.requests += 1;
        block.asked = Some(now);
        u32::try_from(index).ok()
    }

    /// A block will not come from where it was asked for.
    pub(super) fn release(&mut self, index: u32) {
        if let Some(block) = self.blocks.get_mut(index as usize) {
            block.asked = None;
        }
    }

    /// A block came. One of the wrong size, or that is there already, changes nothing.
    pub(super) fn put(&mut self, index: u32, data: &[u8], from: PeerHandle) {
        let start = index as usize * BLOCK;
        let Some(block) = self.blocks.get_mut(index as usize).filter(|block| block.source.is_none()) else {
            return;
        };
        if data.len() != BLOCK.min(self.length - start) {
            return;
        }
        self.bytes.resize(self.length, 0);
        self.bytes[start..start + data.len()].copy_from_slice(data);
        block.source = Some(from);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.blocks.iter().all(|block| block.source.is_some())
    }

    pub(super) fn is_one_block(&self) -> bool {
        self.blocks.len() == 1
    }

    /// All of it, once it is complete.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Everything is missing again; who sent what there was.
    pub(super) fn forget(&mut self) -> Vec<PeerHandle> {
        let mut sources: Vec<PeerHandle> = self.blocks.iter().filter_map(|block| block.source).collect();
        sources.sort_unstable_by_key(|peer| peer.into_raw());
        sources.dedup();
        self.blocks.fill(Block::default());
        self.bytes = Vec::new();
        sources
    }
}

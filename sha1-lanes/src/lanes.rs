//! Which messages are hashed side by side, and how far.

use crate::{BLOCK, Sha1};

/// How many messages are hashed at the same time. More of them find no idle instruction left.
pub const LANES: usize = 4;

/// Gives each hash the bytes that follow, as [`Sha1::update`] with each part in turn would, with [`LANES`] of them under way
/// for as long as there are so many. The longest should come first: what is left at the end is hashed alone.
pub fn update_each<'h, 'd, Parts>(messages: impl IntoIterator<Item = (&'h mut Sha1, Parts)>)
where
    Parts: IntoIterator<Item = &'d [u8]>,
{
    let mut waiting = messages.into_iter().filter_map(|(hash, parts)| {
        let lane = Lane { hash, blocks: &[], parts: parts.into_iter() };
        lane.with_blocks()
    });
    let mut lanes: Vec<_> = waiting.by_ref().take(LANES).collect();
    while let Some(count) = lanes.iter().map(|lane| lane.blocks.len()).min() {
        compress(&mut lanes, count);
        lanes = lanes.into_iter().filter_map(Lane::with_blocks).collect();
        lanes.extend(waiting.by_ref().take(LANES - lanes.len()));
    }
}

/// A message under way.
struct Lane<'h, 'd, Parts> {
    hash: &'h mut Sha1,
    /// What is hashed next.
    blocks: &'d [[u8; BLOCK]],
    parts: Parts,
}

impl<'d, Parts: Iterator<Item = &'d [u8]>> Lane<'_, 'd, Parts> {
    /// The lane with at least one block to hash; `None` if all of its message is taken.
    fn with_blocks(mut self) -> Option<Self> {
        while self.blocks.is_empty() {
            self.blocks = self.hash.absorb(self.parts.next()?);
        }
        Some(self)
    }

    fn advance(&mut self, count: usize) -> &'d [[u8; BLOCK]] {
        let (now, later) = self.blocks.split_at(count);
        self.blocks = later;
        now
    }
}

/// Hashes the next `count` blocks of each lane.
fn compress<'d, Parts: Iterator<Item = &'d [u8]>>(lanes: &mut [Lane<'_, 'd, Parts>], count: usize) {
    #[cfg(target_arch = "x86_64")]
    if lanes.len() > 1 && crate::x86::is_available() {
        return match lanes {
            [a, b] => side_by_side([a, b], count),
            [a, b, c] => side_by_side([a, b, c], count),
            [a, b, c, d] => side_by_side([a, b, c, d], count),
            more => more.iter_mut().for_each(|lane| alone(lane, count)),
        };
    }
    lanes.iter_mut().for_each(|lane| alone(lane, count));
}

#[cfg(target_arch = "x86_64")]
fn side_by_side<'d, Parts, const N: usize>(mut lanes: [&mut Lane<'_, 'd, Parts>; N], count: usize)
where
    Parts: Iterator<Item = &'d [u8]>,
{
    let blocks = lanes.each_mut().map(|lane| lane.advance(count));
    crate::x86::compress(lanes.map(|lane| &mut lane.hash.state), blocks);
}

fn alone<'d, Parts: Iterator<Item = &'d [u8]>>(lane: &mut Lane<'_, 'd, Parts>, count: usize) {
    let blocks = lane.advance(count);
    lane.hash.compress(blocks);
}

//! What to ask whom for next.
//!
//! Invariants: a piece is *had* (verified), *begun* (one [`Begun`] in `begun`, found through `slots`) or *open*. A begun
//! piece has at least one block that was asked for or received. `wanted` is the pieces that are not had and have a
//! priority; of those, the ones with a free block stand in `choice` under their priority and stage, and no others, once
//! the first peer has come: a torrent that idles has nothing to choose from.
//!
//! The picker knows nothing of connections: a peer is a key `P`, which must not be used for another peer as long as the
//! picker may name it.

mod choose;

use std::fmt::Debug;
use std::hash::Hash;
use std::ops::Range;

use rustc_hash::FxHashMap;

pub use super::availability::Priority;
use super::availability::{Availability, Place, Stage};
pub use super::blocks::{Begun, Block};
use crate::metainfo::{BLOCK_SIZE, BlockSpan, Geometry, PieceIndex};
use crate::peer::Bitfield;

/// Until so many pieces are had, the next one is chosen at random: whatever it is, it can be traded, and the rarest
/// would come slowest (libtorrent's `initial_picker_threshold`).
const INITIAL_PICKER_THRESHOLD: u32 = 4;

/// How to pick for one peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickOptions<'a> {
    /// Pieces the peer would rather send (SUGGEST, BEP 6): these before any other, after the one it is sending.
    pub suggested: &'a [PieceIndex],
    /// No other pieces than these: the allowed-fast ones of a peer that chokes us (BEP 6), in this order.
    pub only: Option<&'a [PieceIndex]>,
    /// The peer is on parole: only pieces of which nobody else was asked for a block. Nobody else will be while the
    /// peer is at it, except in the end-game, so that the hash judges the peer alone.
    pub parole: bool,
    /// The peer is fast: rather a piece of its own than the rest of one that others are at, unless too many pieces
    /// are begun already (3 for every 2 peers), or too few are had to trade with.
    pub contiguous: bool,
    /// When nothing else is left, blocks that others were asked for may be picked too, the ones asked of the fewest
    /// first and never of more than `MAX_COPIES` peers. Before those come the pieces kept for peers on parole. See
    /// [`Picker::all_requested`].
    pub endgame: bool,
}

/// What [`Picker::pick`] appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Picked {
    /// Blocks that nobody else was asked for.
    pub fresh: usize,
    /// Blocks that others were asked for too. They follow the fresh ones.
    pub copies: usize,
}

/// What a block that arrived means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<P> {
    /// We had it already (or the span is not one block): the data is of no use.
    pub duplicate: bool,
    /// The other peers that were asked for the block; they are not any more, and should be sent a CANCEL.
    pub others: Vec<P>,
    /// That was the last block: the piece now waits for [`Picker::passed`] or [`Picker::failed`].
    pub piece_complete: bool,
}

/// The state of every block of a torrent, and the choice of the next.
#[derive(Clone, Debug)]
pub struct Picker<P> {
    geometry: Geometry,
    had: Bitfield,
    wanted: Bitfield,
    /// Empty as long as all are the default.
    priorities: Vec<Priority>,
    /// For each piece its index in `begun`, or [`NOT_BEGUN`]; empty before the first is begun, and after the last is had.
    slots: Vec<u32>,
    begun: Vec<Begun<P>>,
    /// Of each piece that has both, the blocks that are nothing but padding (BEP 47).
    padding: FxHashMap<PieceIndex, Vec<Range<u32>>>,
    /// From the first peer on.
    choice: Option<Box<Choice<P>>>,
    sequential: bool,
    initial_picker_threshold: u32,
    bytes_left: u64,
}

/// What there is to choose from.
#[derive(Clone, Debug)]
struct Choice<P> {
    availability: Availability,
    /// The piece from which each peer was last given blocks.
    current: FxHashMap<P, PieceIndex>,
    /// Empty between calls; kept for its memory.
    chosen: Vec<PieceIndex>,
}

const NOT_BEGUN: u32 = u32::MAX;

impl<P: Copy + Eq + Hash + Debug> Picker<P> {
    /// Nothing is had, everything is wanted alike, and nobody has anything.
    pub fn new(geometry: Geometry) -> Self {
        let pieces = geometry.num_pieces();
        Self {
            geometry,
            had: Bitfield::new(pieces),
            wanted: Bitfield::full(pieces),
            priorities: Vec::new(),
            slots: Vec::new(),
            begun: Vec::new(),
            padding: FxHashMap::default(),
            choice: None,
            sequential: false,
            initial_picker_threshold: INITIAL_PICKER_THRESHOLD,
            bytes_left: geometry.total(),
        }
    }
}

/// Padding.
impl<P: Copy + Eq + Hash + Debug> Picker<P> {
    /// Blocks that lie in these ranges, in bytes from the start of the torrent, are zeros: they are never picked. A piece that
    /// is nothing else is picked like any other, so that every piece has somebody who sends it. O(ranges).
    pub fn with_padding(mut self, ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let length = u64::from(self.geometry.piece_length());
        for range in ranges {
            let pieces = [range.start / length, (range.end - 1) / length];
            let distinct = if pieces[0] == pieces[1] { 1 } else { 2 };
            for raw in pieces.into_iter().take(distinct) {
                let Some(piece) = u32::try_from(raw).ok().and_then(|raw| self.geometry.piece(raw)) else {
                    continue;
                };
                let (first, size) = (raw * length, u64::from(self.geometry.piece_size(piece)));
                let (from, to) = (range.start.saturating_sub(first), (range.end - first).min(size));
                let from = u32::try_from(from).unwrap_or(u32::MAX).div_ceil(BLOCK_SIZE);
                let until = match to == size {
                    true => self.geometry.blocks_in(piece),
                    false => u32::try_from(to).unwrap_or(0) / BLOCK_SIZE,
                };
                if from < until && until - from < self.geometry.blocks_in(piece) {
                    self.padding.entry(piece).or_default().push(from..until);
                }
            }
        }
        self
    }

    /// The padding of a piece that is begun, to be written with its other blocks; once, until the piece has failed. O(blocks).
    pub fn take_padding(&mut self, piece: PieceIndex) -> Vec<BlockSpan> {
        let Some(slot) = self.slot(piece) else { return Vec::new() };
        let blocks = self.begun[slot].take_padding();
        blocks.into_iter().filter_map(|index| self.geometry.block(piece, index)).collect()
    }
}

/// What becomes of what was picked.
impl<P: Copy + Eq + Hash + Debug> Picker<P> {
    /// `peer` will not send this block: it may be asked of others. Says whether it was asked of `peer`. O(1).
    pub fn abort(&mut self, peer: P, span: BlockSpan) -> bool {
        let Some(slot) = self.slot(span.piece).filter(|_| self.is_block(span)) else { return false };
        let was_asked = self.begun[slot].abort(peer, span.block_index());
        if was_asked {
            self.settle(span.piece);
        }
        was_asked
    }

    /// [`Picker::abort`] for many blocks.
    pub fn abort_all(&mut self, peer: P, spans: &[BlockSpan]) {
        for &span in spans {
            self.abort(peer, span);
        }
    }

    /// `peer` sent this block, whether it was asked or not. O(1).
    pub fn received(&mut self, peer: P, span: BlockSpan) -> Received<P> {
        let useless = Received { duplicate: true, others: Vec::new(), piece_complete: false };
        if self.have(span.piece) || !self.is_block(span) {
            return useless;
        }
        let begun = self.begin(span.piece);
        let Some(others) = begun.receive(peer, span.block_index()) else { return useless };
        let piece_complete = begun.is_complete();
        self.shelve(span.piece);
        Received { duplicate: false, others, piece_complete }
    }

    /// The disk has written these blocks, which were received. O(blocks).
    pub fn written(&mut self, span: BlockSpan) {
        if let Some(slot) = self.slot(span.piece) {
            self.begun[slot].set_written(span.block_index()..span.end().div_ceil(BLOCK_SIZE));
        }
    }

    /// These blocks of a piece that is not had are on disk since an earlier session. O(blocks).
    pub fn keep(&mut self, piece: PieceIndex, written: &[bool]) {
        if self.have(piece) || !written.contains(&true) {
            return;
        }
        let written = (0..self.geometry.blocks_in(piece)).zip(written).filter(|(_, written)| **written);
        self.begin(piece).keep(written.map(|(block, _)| block));
        self.settle(piece);
    }

    /// Whether it is not known who sent some of the piece, because it was kept from an earlier session.
    pub fn has_kept(&self, piece: PieceIndex) -> bool {
        self.begun_piece(piece).is_some_and(Begun::has_kept)
    }

    /// The piece is written and its hash is right: it is had. Its contributors are forgotten.
    pub fn passed(&mut self, piece: PieceIndex) {
        self.end(piece);
        if self.had.set(piece.get()) && self.wanted.clear(piece.get()) {
            self.bytes_left -= u64::from(self.geometry.piece_size(piece));
        }
        self.shelve(piece);
        if self.is_seed() {
            self.slots = Vec::new();
        }
    }

    /// The piece has the wrong hash, or could not be written: all its blocks are free again. Its contributors are
    /// forgotten, so ask for them before.
    pub fn failed(&mut self, piece: PieceIndex) {
        self.end(piece);
        self.shelve(piece);
    }

    /// Everyone who sent a block of this piece since it was begun, once each.
    pub fn contributors(&self, piece: PieceIndex) -> Vec<P> {
        self.begun_piece(piece).map(Begun::contributors).unwrap_or_default()
    }

    /// Who sent each block of this piece, until it has passed or failed; `None` for a block that is not here.
    pub fn downloaders(&self, piece: PieceIndex) -> Vec<Option<P>> {
        let begun = self.begun_piece(piece).map(|begun| begun.downloaders().collect());
        begun.unwrap_or_else(|| vec![None; self.geometry.blocks_in(piece) as usize])
    }

    /// Whether `peer` sent a block of a piece that has neither passed nor failed yet. O(blocks of begun pieces).
    pub fn is_downloader(&self, peer: P) -> bool {
        self.begun.iter().any(|begun| begun.downloaders().any(|by| by == Some(peer)))
    }

    /// Who sent this block, until the piece has passed or failed.
    pub fn downloader(&self, span: BlockSpan) -> Option<P> {
        self.begun_piece(span.piece)?.downloader(span.block_index())
    }

    /// Whether `peer` was asked for this block and nobody has sent it yet.
    pub fn is_requested_by(&self, peer: P, span: BlockSpan) -> bool {
        self.begun_piece(span.piece).is_some_and(|begun| begun.is_asked_of(peer, span.block_index()))
    }

    /// The peer is gone: nothing is asked of it any more. The blocks that it sent keep its name. What it had is
    /// the business of [`Picker::peer_left`]. O(blocks of begun pieces).
    pub fn forget_peer(&mut self, peer: P) {
        if let Some(choice) = &mut self.choice {
            choice.current.remove(&peer);
        }
        // Backwards, because settling may fill the place of a piece with the last one.
        for slot in (0..self.begun.len()).rev() {
            self.begun[slot].abort_all(peer);
            self.settle(self.begun[slot].piece());
        }
    }

    /// Whether `span` is exactly one block of this torrent.
    fn is_block(&self, span: BlockSpan) -> bool {
        self.geometry.block_at(span.piece.get(), span.start, span.len) == Some(span)
    }

    fn slot(&self, piece: PieceIndex) -> Option<usize> {
        self.slots.get(piece.as_usize()).filter(|&&slot| slot != NOT_BEGUN).map(|&slot| slot as usize)
    }

    fn begun_piece(&self, piece: PieceIndex) -> Option<&Begun<P>> {
        self.slot(piece).map(|slot| &self.begun[slot])
    }

    fn free_blocks(&self, piece: PieceIndex) -> u32 {
        let padding = || {
            self.padding.get(&piece).into_iter().flatten().map(|range| range.end - range.start).sum::<u32>()
        };
        self.begun_piece(piece).map_or_else(|| self.geometry.blocks_in(piece) - padding(), Begun::free)
    }

    fn begin(&mut self, piece: PieceIndex) -> &mut Begun<P> {
        let slot = self.slot(piece).unwrap_or_else(|| {
            self.slots.resize(self.geometry.num_pieces() as usize, NOT_BEGUN);
            self.slots[piece.as_usize()] = self.begun.len() as u32;
            let padding = self.padding.get(&piece).map(Vec::as_slice).unwrap_or_default();
            self.begun.push(Begun::new(piece, self.geometry.blocks_in(piece), padding));
            self.begun.len() - 1
        });
        &mut self.begun[slot]
    }

    /// The piece is open, or had.
    fn end(&mut self, piece: PieceIndex) {
        let Some(slot) = self.slot(piece) else { return };
        self.slots[piece.as_usize()] = NOT_BEGUN;
        self.begun.swap_remove(slot);
        if let Some(moved) = self.begun.get(slot) {
            self.slots[moved.piece().as_usize()] = slot as u32;
        }
    }

    /// After blocks were given back.
    fn settle(&mut self, piece: PieceIndex) {
        if self.begun_piece(piece).is_some_and(Begun::is_untouched) {
            self.end(piece);
        }
        self.shelve(piece);
    }

    /// Puts the piece where its state says. O(1); to be called after every change.
    fn shelve(&mut self, piece: PieceIndex) {
        if self.choice.is_some() {
            let place = self.place(piece);
            self.choice().availability.put(piece.get(), place);
        }
    }

    /// What there is to choose from, with every piece where it belongs. O(pieces) the first time.
    fn choice(&mut self) -> &mut Choice<P> {
        let choice = self.choice.take().unwrap_or_else(|| {
            let mut availability = Availability::new(self.geometry.num_pieces());
            self.geometry.pieces().for_each(|piece| availability.put(piece.get(), self.place(piece)));
            Box::new(Choice { availability, current: FxHashMap::default(), chosen: Vec::new() })
        });
        self.choice.insert(choice)
    }

    /// Where a piece belongs.
    fn place(&self, piece: PieceIndex) -> Option<Place> {
        let priority = self.priority(piece);
        let stage = match self.begun_piece(piece) {
            None => Some(Stage::Open),
            Some(begun) if begun.free() > 0 => Some(Stage::Begun),
            Some(_) => None,
        };
        stage.filter(|_| self.wanted.get(piece.get())).map(|stage| Place { priority, stage })
    }
}

/// What we have and want.
impl<P: Copy + Eq + Hash + Debug> Picker<P> {
    /// How the torrent is cut.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The piece was found on disk.
    pub fn set_have(&mut self, piece: PieceIndex) {
        self.passed(piece);
    }

    /// The piece turned out to be lost or damaged on disk: it is open again.
    pub fn unset_have(&mut self, piece: PieceIndex) {
        if self.had.clear(piece.get()) {
            self.want(piece);
            self.shelve(piece);
        }
    }

    /// Whether the piece is verified.
    pub fn have(&self, piece: PieceIndex) -> bool {
        self.had.get(piece.get())
    }

    /// The verified pieces, as a BITFIELD says it.
    pub fn bitfield(&self) -> &Bitfield {
        &self.had
    }

    /// How many pieces are verified.
    pub fn num_have(&self) -> u32 {
        self.had.count()
    }

    /// Whether every piece is verified.
    pub fn is_seed(&self) -> bool {
        self.had.is_full()
    }

    /// Whether every piece with a priority is verified.
    pub fn is_finished(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Bytes of the pieces that are wanted and not verified. Blocks that are here still count: the piece may fail.
    pub fn bytes_left(&self) -> u64 {
        self.bytes_left
    }

    /// How much the piece is wanted.
    pub fn priority(&self, piece: PieceIndex) -> Priority {
        self.priorities.get(piece.as_usize()).copied().unwrap_or_default()
    }

    /// Wants the piece more or less. With [`Priority::NEVER`] no more of it is asked for; what was asked for may come.
    pub fn set_priority(&mut self, piece: PieceIndex, priority: Priority) {
        if priority != self.priority(piece) {
            self.priorities.resize(self.geometry.num_pieces() as usize, Priority::DEFAULT);
            self.priorities[piece.as_usize()] = priority;
        }
        if priority == Priority::NEVER {
            if self.wanted.clear(piece.get()) {
                self.bytes_left -= u64::from(self.geometry.piece_size(piece));
            }
        } else {
            self.want(piece);
        }
        self.shelve(piece);
    }

    /// Whether pieces are picked by number instead of by rarity.
    pub fn is_sequential(&self) -> bool {
        self.sequential
    }

    /// Picks pieces by number instead of by rarity, or no longer. Priorities still come first.
    pub fn set_sequential(&mut self, sequential: bool) {
        self.sequential = sequential;
    }

    /// Until how many pieces are had the next one is chosen at random (libtorrent's `initial_picker_threshold`).
    pub fn set_initial_picker_threshold(&mut self, pieces: u32) {
        self.initial_picker_threshold = pieces;
    }

    /// Whether every block of every wanted piece was asked for or is here, but for pieces kept for peers on parole: the
    /// end-game begins. O(1) before, O(begun) after; without peers it has not begun.
    pub fn all_requested(&self) -> bool {
        let kept = |begun: &Begun<P>| begun.free() == 0 || begun.reserved_for().is_some();
        let wanted = |begun: &&Begun<P>| self.wanted.get(begun.piece().get());
        let none_is_open =
            self.choice.as_ref().is_some_and(|choice| choice.availability.len(Stage::Open) == 0);
        none_is_open && self.begun.iter().filter(wanted).all(kept)
    }

    /// Whether nobody is asked for anything. O(begun).
    pub fn stands_still(&self) -> bool {
        self.begun.iter().all(|begun| begun.asked() == 0)
    }

    /// The pieces that are begun and not verified, in no order.
    pub fn begun(&self) -> &[Begun<P>] {
        &self.begun
    }

    /// It is wanted, unless it is had or its priority forbids.
    fn want(&mut self, piece: PieceIndex) {
        let wanted = !self.have(piece) && self.priority(piece) != Priority::NEVER;
        if wanted && self.wanted.set(piece.get()) {
            self.bytes_left += u64::from(self.geometry.piece_size(piece));
        }
    }
}

/// What the peers have.
impl<P: Copy + Eq + Hash + Debug> Picker<P> {
    /// A peer came that has these pieces; to be called for every peer, even one that has none.
    pub fn peer_joined(&mut self, pieces: &Bitfield) {
        self.choice().availability.peer_joined(pieces);
    }

    /// A peer that has these pieces now left, however it came by them.
    pub fn peer_left(&mut self, pieces: &Bitfield) {
        self.choice().availability.peer_left(pieces);
    }

    /// A peer that had joined got this piece. O(1).
    pub fn peer_has(&mut self, piece: PieceIndex) {
        self.choice().availability.peer_has(piece.get());
    }

    /// A peer that had joined has this piece no longer.
    pub fn peer_lost(&mut self, piece: PieceIndex) {
        self.choice().availability.peer_lost(piece.get());
    }

    /// A peer came that has everything (HAVE ALL): the same as [`Picker::peer_joined`] with a full bitfield. O(1).
    pub fn peer_is_seed(&mut self) {
        self.choice().availability.seed_joined();
    }

    /// A peer that has everything left: the same as [`Picker::peer_left`] with a full bitfield.
    pub fn seed_left(&mut self) {
        self.choice().availability.seed_left();
    }

    /// How many peers have the piece.
    pub fn availability(&self, piece: PieceIndex) -> u32 {
        self.choice.as_ref().map_or(0, |choice| choice.availability.of(piece.get()))
    }

    /// Whether a peer with these pieces has one that we want. O(pieces / 64).
    pub fn is_interesting(&self, has: &Bitfield) -> bool {
        self.wanted.intersects(has)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

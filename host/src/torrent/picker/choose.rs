//! The choice itself: which blocks to ask a peer for.
//!
//! Invariant: what is appended for a peer is recorded as asked of it in the same step, and a peer is asked for no block
//! twice.

use std::fmt::Debug;
use std::hash::Hash;

use rand::{Rng, RngExt};

use super::super::availability::{Order, Place, Priority, Stage};
use super::super::blocks::MAX_COPIES;
use super::{Choice, PickOptions, Picked, Picker};
use crate::metainfo::{BlockSpan, PieceIndex};
use crate::peer::Bitfield;

/// One call of [`Picker::pick`].
#[derive(Clone, Copy)]
struct Asking<'a, P> {
    peer: P,
    has: &'a Bitfield,
    options: &'a PickOptions<'a>,
    /// How long the output may become.
    goal: usize,
    /// Pieces that are kept for peers on parole may be taken from.
    trespass: bool,
}

impl<P: Copy + Eq + Hash + Debug> Picker<P> {
    /// Appends up to `want` blocks for `peer`, which has the pieces `has`, and notes that it is asked for them.
    ///
    /// First the rest of the piece that the peer is on, then the suggested pieces, then by priority. Within a priority
    /// the pieces already begun come before new ones, and rare ones before common ones (or by number, in
    /// [sequential](Self::set_sequential) order), ties at random. Blocks of a piece are consecutive where they can be.
    ///
    /// O(want) while the peer is on a piece; else what `Availability::walk` costs, and O(begun) for a fast peer.
    /// Picking in the end-game is O(blocks of begun pieces).
    pub fn pick(
        &mut self,
        peer: P,
        has: &Bitfield,
        want: usize,
        options: &PickOptions<'_>,
        rng: &mut impl Rng,
        out: &mut Vec<BlockSpan>,
    ) -> Picked {
        let before = out.len();
        let asking = Asking { peer, has, options, goal: before.saturating_add(want), trespass: false };
        if want == 0 || has.is_empty() {
            return Picked::default();
        }
        // The blocks of a peer on parole are never mixed with those of others.
        let endgame = options.endgame && !options.parole;
        self.take_fresh(&asking, rng, out);
        if endgame && out.len() < asking.goal {
            self.take_fresh(&Asking { trespass: true, ..asking }, rng, out);
        }
        let fresh = out.len() - before;
        if let Some(last) = out[before..].last() {
            self.choice().current.insert(peer, last.piece);
        }
        if endgame && out.len() < asking.goal {
            self.take_copies(&asking, rng, out);
        }
        Picked { fresh, copies: out.len() - before - fresh }
    }

    /// Blocks that nobody was asked for.
    fn take_fresh(&mut self, asking: &Asking<'_, P>, rng: &mut impl Rng, out: &mut Vec<BlockSpan>) {
        self.take_listed(asking, out);
        if asking.options.only.is_none() && out.len() < asking.goal {
            self.take_ranked(asking, rng, out);
        }
    }

    /// From the piece that the peer is on, and from those that the options name.
    fn take_listed(&mut self, asking: &Asking<'_, P>, out: &mut Vec<BlockSpan>) {
        let only = asking.options.only;
        let current = self.choice.as_ref().and_then(|choice| choice.current.get(&asking.peer)).copied();
        if let Some(piece) = current.filter(|piece| only.is_none_or(|only| only.contains(piece))) {
            self.take(piece, asking, out);
        }
        for &piece in only.unwrap_or(asking.options.suggested) {
            if out.len() == asking.goal {
                return;
            }
            self.take(piece, asking, out);
        }
    }

    /// From all pieces, best first.
    fn take_ranked(&mut self, asking: &Asking<'_, P>, rng: &mut impl Rng, out: &mut Vec<BlockSpan>) {
        let mut chosen = std::mem::take(&mut self.choice().chosen);
        self.choose(asking, asking.goal - out.len(), rng, &mut chosen);
        for piece in chosen.drain(..) {
            self.take(piece, asking, out);
        }
        self.choice().chosen = chosen;
    }

    /// Appends the best pieces, until they have `missing` free blocks together.
    fn choose(
        &self,
        asking: &Asking<'_, P>,
        mut missing: usize,
        rng: &mut impl Rng,
        chosen: &mut Vec<PieceIndex>,
    ) {
        let Some(Choice { availability, .. }) = self.choice.as_deref() else { return };
        let start = if self.sequential { 0 } else { rng.random_range(0..self.geometry.num_pieces()) };
        let by_number = self.sequential || self.num_have() < self.initial_picker_threshold;
        let order = if by_number { Order::ByNumber } else { Order::RarestFirst };
        let share = !asking.options.contiguous
            || self.num_have() < self.initial_picker_threshold
            || availability.len(Stage::Begun) >= availability.peers() * 3 / 2;
        for priority in Priority::descending() {
            let walk = |stage| {
                availability
                    .walk(Place { priority, stage }, order, asking.has, start)
                    .filter_map(|piece| self.geometry.piece(piece))
                    .filter(|&piece| self.may_take(piece, asking))
            };
            let busy = |piece: &PieceIndex| self.begun_piece(*piece).is_some_and(|begun| begun.asked() > 0);
            let first = walk(Stage::Begun).filter(|piece| share || !busy(piece));
            let last = walk(Stage::Begun).filter(|piece| !share && busy(piece));
            for piece in first.chain(walk(Stage::Open)).chain(last) {
                chosen.push(piece);
                missing = missing.saturating_sub(self.free_blocks(piece) as usize);
                if missing == 0 {
                    return;
                }
            }
        }
    }

    fn may_take(&self, piece: PieceIndex, asking: &Asking<'_, P>) -> bool {
        asking.has.get(piece.get())
            && self.wanted.get(piece.get())
            && self.begun_piece(piece).is_none_or(|begun| {
                begun.free() > 0
                    && (asking.trespass || begun.reserved_for().is_none_or(|only| only == asking.peer))
                    && (!asking.options.parole || begun.is_only_of(asking.peer))
            })
    }

    /// Takes as many blocks of the piece as there are and are missing, if the peer may.
    fn take(&mut self, piece: PieceIndex, asking: &Asking<'_, P>, out: &mut Vec<BlockSpan>) {
        let missing = asking.goal - out.len();
        if missing == 0 || !self.may_take(piece, asking) {
            return;
        }
        let geometry = self.geometry;
        let begun = self.begin(piece);
        begun.take(asking.peer, missing, |index| out.extend(geometry.block(piece, index)));
        if asking.options.parole {
            begun.reserve(asking.peer);
        }
        self.shelve(piece);
    }

    /// The end-game: blocks that others were asked for, beginning at a random piece so that peers spread.
    fn take_copies(&mut self, asking: &Asking<'_, P>, rng: &mut impl Rng, out: &mut Vec<BlockSpan>) {
        if self.begun.is_empty() {
            return;
        }
        let geometry = self.geometry;
        let from = rng.random_range(0..self.begun.len());
        let allowed = |piece| asking.options.only.is_none_or(|only| only.contains(&piece));
        for copies in 1..MAX_COPIES {
            let (before, after) = self.begun.split_at_mut(from);
            for begun in after.iter_mut().chain(before) {
                let piece = begun.piece();
                let missing = asking.goal - out.len();
                if missing == 0 {
                    return;
                }
                if begun.asked() > 0
                    && asking.has.get(piece.get())
                    && self.wanted.get(piece.get())
                    && allowed(piece)
                {
                    begun.join(asking.peer, copies, missing, |index| {
                        out.extend(geometry.block(piece, index));
                    });
                }
            }
        }
    }
}

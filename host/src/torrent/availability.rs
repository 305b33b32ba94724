//! How many peers have each piece, and the pieces worth asking for in order of rarity.
//!
//! Invariants: `seeds + counts[piece]` peers have a piece. A piece with a [`Place`] stands on the shelf of that place,
//! once in `all` and once in `by_count[counts[piece]]`, and on no other; a piece without one stands nowhere.

use crate::peer::{Bitfield, ones};

/// How much a piece is wanted: 0 never, 1 least, 4 by default, 7 most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// Not to be downloaded.
    pub const NEVER: Self = Self(0);
    /// What every piece begins with.
    pub const DEFAULT: Self = Self(4);
    /// Before all others.
    pub const TOP: Self = Self(7);

    /// Numbers above 7 mean 7.
    pub fn new(raw: u8) -> Self {
        Self(raw.min(Self::TOP.0))
    }

    /// 0 to 7.
    pub fn get(self) -> u8 {
        self.0
    }

    /// Every priority but [`Priority::NEVER`], highest first.
    pub fn descending() -> impl Iterator<Item = Self> {
        (1..=Self::TOP.0).rev().map(Self)
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Whether some blocks of a piece are on their way already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No block was asked for.
    Open,
    /// At least one block was asked for, and at least one was not.
    Begun,
}

/// Where a piece that has blocks to ask for stands. Priority must not be [`Priority::NEVER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Higher ones come first, whatever their rarity.
    pub priority: Priority,
    /// Within a priority the two stages are kept apart.
    pub stage: Stage,
}

impl Place {
    fn shelf(self) -> usize {
        usize::from(self.priority.0) * 2 + usize::from(self.stage == Stage::Begun)
    }
}

/// In which order the pieces of a shelf are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Those that the fewest peers have come first.
    RarestFirst,
    /// By number alone.
    ByNumber,
}

/// Counts who has what, and keeps pieces sorted by it.
///
/// Moving a piece costs O(1). Walking the pieces that a peer has costs O(1) for every 64 neighbouring pieces of one
/// rarity and, for sets that are nearly empty, for every 4096 pieces; a shelf has as many sets as there are rarities.
#[derive(Clone, Debug)]
pub(super) struct Availability {
    /// Empty as long as all would be zero: most torrents idle, and have seeds at most.
    counts: Vec<u32>,
    places: Vec<Option<Place>>,
    /// Peers that have everything and are counted here instead of at every piece.
    seeds: u32,
    peers: u32,
    /// With [`Place::shelf`]; those of most places are never used.
    shelves: Vec<(usize, Shelf)>,
}

#[derive(Clone, Debug, Default)]
struct Shelf {
    all: PieceSet,
    by_count: Vec<PieceSet>,
}

impl Availability {
    /// No peers; no piece has a place.
    pub(super) fn new(num_pieces: u32) -> Self {
        Self {
            counts: Vec::new(),
            places: vec![None; num_pieces as usize],
            seeds: 0,
            peers: 0,
            shelves: Vec::new(),
        }
    }

    /// How many peers have the piece; 0 for a piece that does not exist.
    pub(super) fn of(&self, piece: u32) -> u32 {
        self.count(piece).map_or(0, |count| count + self.seeds)
    }

    /// How many peers there are.
    pub(super) fn peers(&self) -> u32 {
        self.peers
    }

    /// A peer came that has `pieces`, perhaps none. O(pieces it has), O(1) if that is all.
    pub(super) fn peer_joined(&mut self, pieces: &Bitfield) {
        if pieces.is_full() {
            return self.seed_joined();
        }
        self.peers += 1;
        for piece in pieces.iter_ones() {
            self.peer_has(piece);
        }
    }

    /// A peer that has `pieces` left. It may have got them all at once or one by one.
    pub(super) fn peer_left(&mut self, pieces: &Bitfield) {
        if pieces.is_full() {
            return self.seed_left();
        }
        self.peers = self.peers.saturating_sub(1);
        for piece in pieces.iter_ones() {
            self.peer_lost(piece);
        }
    }

    /// A peer came that has everything. O(1).
    pub(super) fn seed_joined(&mut self) {
        self.peers += 1;
        self.seeds += 1;
    }

    /// A peer that has everything left. O(1), or O(pieces) if every seed left became one piece by piece.
    pub(super) fn seed_left(&mut self) {
        self.peers = self.peers.saturating_sub(1);
        if self.seeds > 0 {
            self.seeds -= 1;
        } else {
            (0..self.places.len() as u32).for_each(|piece| self.peer_lost(piece));
        }
    }

    /// A peer got one more piece. O(1).
    pub(super) fn peer_has(&mut self, piece: u32) {
        if let Some(count) = self.count(piece) {
            self.recount(piece, count + 1);
        }
    }

    /// A peer has one piece less. O(1), or O(pieces) if it was counted among the seeds.
    pub(super) fn peer_lost(&mut self, piece: u32) {
        match self.count(piece) {
            Some(0) if self.seeds > 0 => {
                self.count_a_seed_piecewise();
                self.recount(piece, 0);
            }
            Some(count) => self.recount(piece, count.saturating_sub(1)),
            None => {}
        }
    }

    /// Puts a piece where it belongs now, or nowhere. O(1).
    pub(super) fn put(&mut self, piece: u32, place: Option<Place>) {
        let Some(count) = self.count(piece) else { return };
        let before = std::mem::replace(&mut self.places[piece as usize], place);
        if before == place {
            return;
        }
        if let Some(place) = before {
            let shelf = self.shelf(place);
            shelf.all.remove(piece);
            shelf.set(count).remove(piece);
        }
        if let Some(place) = place {
            let shelf = self.shelf(place);
            shelf.all.insert(piece);
            shelf.set(count).insert(piece);
        }
    }

    /// How many pieces stand in that stage, of any priority.
    pub(super) fn len(&self, stage: Stage) -> u32 {
        let shelves =
            self.shelves.iter().filter(|(number, _)| number % 2 == usize::from(stage == Stage::Begun));
        shelves.map(|(_, shelf)| shelf.all.len).sum()
    }

    /// The pieces of one place that a peer has. Pieces of one rank come in the order of their numbers, beginning at
    /// `start` and going round, so that a random `start` breaks ties at random.
    pub(super) fn walk<'a>(
        &'a self,
        place: Place,
        order: Order,
        has: &'a Bitfield,
        start: u32,
    ) -> impl Iterator<Item = u32> + 'a {
        let shelf = self.shelves.iter().find(|(number, _)| *number == place.shelf());
        let sets = match (shelf.map(|(_, shelf)| shelf), order) {
            (None, _) => &[],
            (Some(shelf), Order::RarestFirst) => &shelf.by_count[..],
            (Some(shelf), Order::ByNumber) => std::slice::from_ref(&shelf.all),
        };
        sets.iter().flat_map(move |set| set.common(has, start))
    }

    fn shelf(&mut self, place: Place) -> &mut Shelf {
        let number = place.shelf();
        let known = self.shelves.iter().position(|(other, _)| *other == number);
        let at = known.unwrap_or_else(|| {
            self.shelves.reserve_exact(1);
            self.shelves.push((number, Shelf::default()));
            self.shelves.len() - 1
        });
        &mut self.shelves[at].1
    }

    /// How many peers have the piece, those aside that have everything.
    fn count(&self, piece: u32) -> Option<u32> {
        let exists = (piece as usize) < self.places.len();
        exists.then(|| self.counts.get(piece as usize).copied().unwrap_or(0))
    }

    fn recount(&mut self, piece: u32, count: u32) {
        if self.counts.is_empty() {
            self.counts = vec![0; self.places.len()];
        }
        let before = std::mem::replace(&mut self.counts[piece as usize], count);
        if let Some(place) = self.places[piece as usize] {
            let shelf = self.shelf(place);
            shelf.set(before).remove(piece);
            shelf.set(count).insert(piece);
        }
    }

    /// One of the seeds is about to have less than everything.
    fn count_a_seed_piecewise(&mut self) {
        self.seeds -= 1;
        self.counts.resize(self.places.len(), 0);
        self.counts.iter_mut().for_each(|count| *count += 1);
        for (_, shelf) in &mut self.shelves {
            shelf.by_count.insert(0, PieceSet::default());
        }
    }

    #[cfg(test)]
    pub(super) fn place_of(&self, piece: u32) -> Option<Place> {
        self.places[piece as usize]
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        for (number, shelf) in &self.shelves {
            let counted: u32 = shelf.by_count.iter().map(|set| set.len).sum();
            let placed = self.places.iter().flatten().filter(|place| place.shelf() == *number).count();
            assert_eq!((counted, shelf.all.len), (placed as u32, placed as u32));
        }
        for (piece, place) in (0..).zip(&self.places) {
            let Some(place) = place else { continue };
            let shelf = self.shelves.iter().find(|(number, _)| *number == place.shelf());
            let (_, shelf) = shelf.expect("a piece stands on a shelf that is there");
            assert!(shelf.all.contains(piece));
            assert!(shelf.by_count[self.count(piece).unwrap_or(0) as usize].contains(piece));
        }
    }
}

impl Shelf {
    fn set(&mut self, count: u32) -> &mut PieceSet {
        let index = count as usize;
        if index >= self.by_count.len() {
            // There are many torrents without peers: they need no room for a second one.
            if self.by_count.is_empty() {
                self.by_count.reserve_exact(index + 1);
            }
            self.by_count.resize_with(index + 1, PieceSet::default);
        }
        &mut self.by_count[index]
    }
}

/// A set of piece numbers, laid out like a [`Bitfield`] so that the two meet word by word.
///
/// `occupied` has one bit per word that is not zero. An empty set holds no memory.
#[derive(Clone, Debug, Default)]
struct PieceSet {
    words: Vec<u64>,
    occupied: Vec<u64>,
    len: u32,
}

impl PieceSet {
    fn insert(&mut self, piece: u32) {
        let (word, bit) = locate(piece as usize);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
            self.occupied.resize(word / 64 + 1, 0);
        }
        if self.words[word] & bit == 0 {
            self.words[word] |= bit;
            let (summary, bit) = locate(word);
            self.occupied[summary] |= bit;
            self.len += 1;
        }
    }

    fn remove(&mut self, piece: u32) {
        if !self.contains(piece) {
            return;
        }
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
            return;
        }
        let (word, bit) = locate(piece as usize);
        self.words[word] &= !bit;
        if self.words[word] == 0 {
            let (summary, bit) = locate(word);
            self.occupied[summary] &= !bit;
        }
    }

    fn contains(&self, piece: u32) -> bool {
        let (word, bit) = locate(piece as usize);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// The members that `has` holds too, from `start` round to before it; within 64 neighbours the round is closed
    /// before the next 64 begin. With `start` 0 that is ascending order.
    fn common<'a>(&'a self, has: &'a Bitfield, start: u32) -> impl Iterator<Item = u32> + 'a {
        let (first, turn) = ((start / 64) as usize, start % 64);
        self.occupied(first..usize::MAX).chain(self.occupied(0..first)).flat_map(move |index| {
            let word = self.words[index] & has.word(index);
            ones(word.rotate_left(turn)).map(move |place| index as u32 * 64 + (place + turn) % 64)
        })
    }

    /// The words in `range` that are not zero.
    fn occupied(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = usize> + '_ {
        let summaries = range.start / 64..self.occupied.len();
        (summaries.take_while(move |summary| summary * 64 < range.end))
            .flat_map(|summary| ones(self.occupied[summary]).map(move |place| summary * 64 + place as usize))
            .filter(move |word| range.contains(word))
    }
}

fn locate(index: usize) -> (usize, u64) {
    (index / 64, 1 << (63 - index % 64))
}

#[cfg(test)]
mod tests;

//! Which pieces somebody has.
//!
//! Invariant: bits at and beyond `len` are zero, and `count` is the number of ones. So [`Bitfield::count`] and
//! [`Bitfield::is_full`] are O(1), and [`Bitfield::as_bytes`] is a valid BITFIELD payload (BEP 3) at any time.

use std::fmt;

/// One bit per piece in the order of the wire: piece 0 is the highest bit of the first byte.
///
/// Indices are raw numbers, because a peer may name pieces before we know how many there are. An index that is out
/// of range reads as zero and cannot be set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bitfield {
    /// A whole number of words, so that no loop over words has a tail to care for.
    bytes: Vec<u8>,
    len: u32,
    count: u32,
}

/// Bytes per word; a word holds 64 bits, the first piece in its highest bit.
const WORD: usize = 8;

impl Bitfield {
    /// `len` zeros.
    pub fn new(len: u32) -> Self {
        Self { bytes: vec![0; padded(len)], len, count: 0 }
    }

    /// `len` ones.
    pub fn full(len: u32) -> Self {
        let mut bits = Self { bytes: vec![0xff; padded(len)], len, count: len };
        bits.clear_spare();
        bits
    }

    /// A BITFIELD payload for a torrent of `len` pieces. `None` if it is not exactly as long as that takes.
    ///
    /// Spare bits should be zero (BEP 3); some clients set them, and they are cleared, as libtorrent does.
    pub fn from_wire(payload: &[u8], len: u32) -> Option<Self> {
        (payload.len() == wire_len(len)).then(|| Self::from_bytes(payload, len))
    }

    /// A BITFIELD payload for a torrent whose size is not known yet: eight bits per byte, spare ones included.
    /// [`Bitfield::resize`] it once the size is known. Bits beyond `u32::MAX`, which no torrent has, are dropped.
    pub fn from_wire_unsized(payload: &[u8]) -> Self {
        let len = u32::try_from(payload.len() * 8).unwrap_or(u32::MAX);
        Self::from_bytes(&payload[..wire_len(len)], len)
    }

    fn from_bytes(payload: &[u8], len: u32) -> Self {
        let mut bytes = Vec::with_capacity(padded(len));
        bytes.extend_from_slice(payload);
        bytes.resize(padded(len), 0);
        let mut bits = Self { bytes, len, count: 0 };
        bits.clear_spare();
        bits.recount();
        bits
    }

    /// How many bits there are.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no bit is one; also true of a bitfield of length 0.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether every bit is one. A bitfield of length 0 is not full: nothing is known about it.
    pub fn is_full(&self) -> bool {
        self.count == self.len && self.len > 0
    }

    /// How many ones there are. O(1).
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The bit at `index`; false beyond the end.
    pub fn get(&self, index: u32) -> bool {
        index < self.len && self.bytes[(index / 8) as usize] & mask(index) != 0
    }

    /// Makes the bit at `index` a one. Says whether that changed anything.
    pub fn set(&mut self, index: u32) -> bool {
        let changes = index < self.len && !self.get(index);
        if changes {
            self.bytes[(index / 8) as usize] |= mask(index);
            self.count += 1;
        }
        changes
    }

    /// Makes the bit at `index` a zero. Says whether that changed anything.
    pub fn clear(&mut self, index: u32) -> bool {
        let changes = self.get(index);
        if changes {
            self.bytes[(index / 8) as usize] &= !mask(index);
            self.count -= 1;
        }
        changes
    }

    /// Changes the length. New bits are zeros.
    pub fn resize(&mut self, len: u32) {
        self.bytes.resize(padded(len), 0);
        self.len = len;
        self.clear_spare();
        self.recount();
    }

    /// The indices of all ones, ascending. O(len / 64 + ones).
    pub fn iter_ones(&self) -> impl Iterator<Item = u32> + '_ {
        self.words().enumerate().flat_map(|(index, word)| ones(word).map(move |bit| index as u32 * 64 + bit))
    }

    /// Whether some bit is one in both. O(len / 64).
    pub fn intersects(&self, other: &Self) -> bool {
        self.words().zip(other.words()).any(|(a, b)| a & b != 0)
    }

    /// As a BITFIELD message carries it: `len / 8` bytes, rounded up, spare bits zero.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..wire_len(self.len)]
    }

    /// Bits `64 * index` and on, the first in the highest place; zeros beyond the end.
    pub(crate) fn word(&self, index: usize) -> u64 {
        self.bytes.as_chunks::<WORD>().0.get(index).map_or(0, |word| u64::from_be_bytes(*word))
    }

    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.bytes.as_chunks::<WORD>().0.iter().map(|word| u64::from_be_bytes(*word))
    }

    fn clear_spare(&mut self) {
        let last = (self.len / 8) as usize;
        if let Some(byte) = self.bytes.get_mut(last) {
            *byte &= !(0xff >> (self.len % 8));
            self.bytes[last + 1..].fill(0);
        }
    }

    fn recount(&mut self) {
        self.count = self.words().map(u64::count_ones).sum();
    }
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitfield({} of {})", self.count, self.len)
    }
}

/// The places of the ones of a word, the highest bit being place 0.
pub(crate) fn ones(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let place = word.leading_zeros();
        word &= !(1_u64 << 63).checked_shr(place)?;
        Some(place)
    })
}

fn mask(index: u32) -> u8 {
    0x80 >> (index % 8)
}

fn wire_len(len: u32) -> usize {
    len.div_ceil(8) as usize
}

fn padded(len: u32) -> usize {
    wire_len(len).next_multiple_of(WORD)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

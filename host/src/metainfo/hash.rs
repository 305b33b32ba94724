//! Info-hashes and piece hashes. Nothing outside this file knows how long a hash is.

use std::fmt;

use sha1_lanes::Sha1;

use super::PieceIndex;

/// The name of a torrent: what v1 (BEP 3) or v2 (BEP 52) clients call it, or both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InfoHashes {
    /// SHA-1 of the info dictionary.
    V1([u8; 20]),
    /// SHA-256 of the info dictionary.
    V2([u8; 32]),
    /// A hybrid torrent, known under both names.
    Hybrid {
        /// SHA-1 of the info dictionary.
        v1: [u8; 20],
        /// SHA-256 of the info dictionary.
        v2: [u8; 32],
    },
}

impl InfoHashes {
    /// The SHA-1 name, if the torrent has one.
    pub fn v1(&self) -> Option<&[u8; 20]> {
        match self {
            Self::V1(v1) | Self::Hybrid { v1, .. } => Some(v1),
            Self::V2(_) => None,
        }
    }

    /// The SHA-256 name, if the torrent has one.
    pub fn v2(&self) -> Option<&[u8; 32]> {
        match self {
            Self::V2(v2) | Self::Hybrid { v2, .. } => Some(v2),
            Self::V1(_) => None,
        }
    }

    /// The twenty bytes that handshakes, trackers and the DHT use: v1, or the start of v2 (BEP 52) if there is no v1.
    pub fn truncated(&self) -> [u8; 20] {
        match self {
            Self::V1(v1) | Self::Hybrid { v1, .. } => *v1,
            Self::V2(v2) => head(v2),
        }
    }

    /// The strongest name in twenty bytes: the start of v2, or v1 if there is no v2. The same as libtorrent's `get_best`.
    pub fn best(&self) -> [u8; 20] {
        self.v2().map_or_else(|| self.truncated(), head)
    }

    /// Whether `info` is the dictionary that the v1 name stands for; of a torrent without one, `None`.
    pub fn verify_v1(&self, info: &[u8]) -> Option<bool> {
        self.v1().map(|v1| Sha1::digest(info) == *v1)
    }

    /// Whether a peer that says `wire` in its handshake means this torrent.
    pub fn answers_to(&self, wire: &[u8; 20]) -> bool {
        self.v1() == Some(wire) || self.v2().is_some_and(|v2| head(v2) == *wire)
    }
}

/// Lowercase hexadecimal: v1 if there is one, else all of v2.
impl fmt::Display for InfoHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V1(v1) | Self::Hybrid { v1, .. } => write_hex(f, v1),
            Self::V2(v2) => write_hex(f, v2),
        }
    }
}

impl fmt::Debug for InfoHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHashes({self})")
    }
}

/// The hash that each piece of a torrent must have.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PieceHashes {
    /// SHA-1 of each whole piece, in order (BEP 3).
    V1(Vec<[u8; 20]>),
}

impl PieceHashes {
    /// How many pieces there are hashes for.
    pub fn len(&self) -> usize {
        match self {
            Self::V1(hashes) => hashes.len(),
        }
    }

    /// Whether there is no hash at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins a piece: feed it the data in order, then ask [`matches`](Self::matches).
    pub fn hasher(&self) -> PieceHasher {
        match self {
            Self::V1(_) => PieceHasher::Sha1(Sha1::new()),
        }
    }

    /// Whether `digest` is what `piece` must hash to. False for a piece of another torrent, beyond the last.
    pub fn matches(&self, piece: PieceIndex, digest: &PieceDigest) -> bool {
        match (self, digest) {
            (Self::V1(hashes), PieceDigest::Sha1(digest)) => hashes.get(piece.as_usize()) == Some(digest),
        }
    }
}

impl fmt::Debug for PieceHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V1(hashes) => write!(f, "PieceHashes::V1({} pieces)", hashes.len()),
        }
    }
}

/// What a piece's data hashes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PieceDigest {
    /// SHA-1 of the whole piece.
    Sha1([u8; 20]),
}

/// The hash of one piece while its data arrives in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PieceHasher {
    /// SHA-1 of the whole piece.
    Sha1(Sha1),
}

impl PieceHasher {
    /// As many pieces are hashed in little more than the time of one, if they are [hashed together](Self::update_each).
    pub const LANES: usize = sha1_lanes::LANES;

    /// Gives each of several pieces the bytes that follow, as [`update`](Self::update) with each part in turn would. The
    /// longest should come first.
    pub fn update_each<'h, 'd, Parts>(pieces: impl IntoIterator<Item = (&'h mut Self, Parts)>)
    where
        Parts: IntoIterator<Item = &'d [u8]>,
    {
        sha1_lanes::update_each(pieces.into_iter().map(|(Self::Sha1(sha1), parts)| (sha1, parts)));
    }

    /// Takes the bytes that follow those given before.
    pub fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha1(sha1) => sha1.update(data),
        }
    }

    /// The digest of everything given.
    pub fn finish(self) -> PieceDigest {
        match self {
            Self::Sha1(sha1) => PieceDigest::Sha1(sha1.finish()),
        }
    }
}

fn head(v2: &[u8; 32]) -> [u8; 20] {
    std::array::from_fn(|i| v2[i])
}

pub(super) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Geometry;
    use super::*;

    #[test]
    fn a_hybrid_answers_to_both_names_and_speaks_v1() {
        let hybrid = InfoHashes::Hybrid { v1: [1; 20], v2: [2; 32] };
        assert!(hybrid.answers_to(&[1; 20]) && hybrid.answers_to(&[2; 20]) && !hybrid.answers_to(&[3; 20]));
        assert_eq!((hybrid.truncated(), hybrid.best()), ([1; 20], [2; 20]));
        assert_eq!(InfoHashes::V2([2; 32]).truncated(), [2; 20]);
        assert_eq!(hybrid.to_string(), "01".repeat(20));
        assert_eq!(InfoHashes::V2([0xab; 32]).to_string(), "ab".repeat(32));
    }

    #[test]
    fn a_piece_matches_only_its_own_hash() {
        let hashes = PieceHashes::V1(vec![Sha1::digest(b"one"), Sha1::digest(b"two")]);
        let mut hasher = hashes.hasher();
        hasher.update(b"t");
        hasher.update(b"wo");
        let digest = hasher.finish();
        let pieces: Vec<_> = Geometry::new(3, 1).unwrap().pieces().collect();
        let matching: Vec<_> = pieces.iter().map(|&piece| hashes.matches(piece, &digest)).collect();
        assert_eq!(matching, [false, true, false]);
    }
}

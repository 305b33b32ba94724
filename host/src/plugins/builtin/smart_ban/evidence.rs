//! What is known of the blocks of one piece that failed.
//!
//! Of each block at most one hash is outstanding, so that no answer can be taken for another: either of what a suspect sent,
//! or, once the piece has passed and no other hash is outstanding, of what is right.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// So many versions of a block are kept.
const MOST_VERSIONS: usize = 8;

type Sha1 = [u8; 20];

/// The blocks of one piece, by where they begin.
#[derive(Default)]
pub(super) struct Evidence {
    /// Who sent what.
    versions: BTreeMap<u32, Vec<(SocketAddr, Sha1)>>,
    /// Who sent the block whose hash is outstanding.
    suspects: BTreeMap<u32, SocketAddr>,
    /// The blocks whose right hash is outstanding.
    comparing: BTreeSet<u32>,
    passed: bool,
}

/// Somebody has lied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) culprit: SocketAddr,
    /// In which block.
    pub(super) start: u32,
    /// Whether that is known because it sent another version of the same block.
    pub(super) lied_twice: bool,
}

impl Evidence {
    /// Whether the hash of a block of this failure may be asked for.
    pub(super) fn may_suspect(&self, start: u32) -> bool {
        !self.passed
            && !self.suspects.contains_key(&start)
            && self.versions.get(&start).is_none_or(|versions| versions.len() < MOST_VERSIONS)
    }

    /// The hash of a block was asked for, as `suspect` sent it.
    pub(super) fn suspect(&mut self, start: u32, suspect: SocketAddr) {
        self.suspects.insert(start, suspect);
    }

    /// The piece is there, and right.
    pub(super) fn passed(&mut self) {
        self.passed = true;
    }

    /// The blocks whose right hash is to be asked for now.
    pub(super) fn compare(&mut self) -> Vec<u32> {
        if !self.passed || !self.suspects.is_empty() || !self.comparing.is_empty() {
            return Vec::new();
        }
        self.comparing = self.versions.keys().copied().collect();
        self.comparing.iter().copied().collect()
    }

    /// The right hash of a block cannot be had.
    pub(super) fn give_up(&mut self, start: u32) {
        self.comparing.remove(&start);
        self.versions.remove(&start);
    }

    /// The hash of a block came, or does not.
    pub(super) fn hashed(&mut self, start: u32, hash: Option<Sha1>) -> Vec<Finding> {
        if self.comparing.remove(&start) {
            let versions = self.versions.remove(&start).unwrap_or_default();
            let wrong = versions.into_iter().filter(|(_, sent)| hash.is_some_and(|right| *sent != right));
            return wrong.map(|(culprit, _)| Finding { culprit, start, lied_twice: false }).collect();
        }
        let (Some(suspect), Some(hash)) = (self.suspects.remove(&start), hash) else { return Vec::new() };
        let versions = self.versions.entry(start).or_default();
        // Whoever shares an address shares its fate: a ban is of the address, too.
        match versions.iter().find(|(other, _)| other.ip() == suspect.ip()) {
            Some((_, sent)) if *sent == hash => Vec::new(),
            Some(_) => vec![Finding { culprit: suspect, start, lied_twice: true }],
            None => {
                versions.push((suspect, hash));
                Vec::new()
            }
        }
    }

    /// Whether nothing more can come of it.
    pub(super) fn is_closed(&self) -> bool {
        let waits = !self.suspects.is_empty() || !self.comparing.is_empty();
        !waits && (self.passed || self.versions.is_empty())
    }
}

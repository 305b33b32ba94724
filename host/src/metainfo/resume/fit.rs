//! Which of what a record claims still holds for the files that are found.

use std::collections::BTreeMap;
use std::fmt;

use super::{FileStamp, InfoHashes, Look, OPEN_FOR, Resume, Stamps, Unfinished};
use crate::metainfo::{FileEntry, FileLayout, Geometry, PieceIndex};

/// Time stamps of files may lag behind the clock by this much: some file systems count in steps of two seconds.
const STEP: i64 = 2_000_000_000;
/// After so long what was written is on the disk, and not only with the operating system.
const FLUSHED_AFTER: i64 = 120_000_000_000;

/// What is to be made of a record. Every piece of the torrent is in at most one of the three lists; those in none are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// Pieces that are there.
    pub trusted: Vec<PieceIndex>,
    /// Pieces that may be there, or not any more: they have to be hashed.
    pub hash: Vec<PieceIndex>,
    /// Pieces that may have been downloaded after the record: they have to be hashed, unless there is a hole in them.
    pub hash_if_written: Vec<PieceIndex>,
    /// Of pieces that are not trusted, the blocks that are written. Should the piece turn out to be right, they mean nothing.
    pub unfinished: BTreeMap<PieceIndex, Vec<bool>>,
    /// Files that are not what the record says.
    pub changed: Vec<ChangedFile>,
}

/// A file that is not what a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFile {
    /// Index into [`FileLayout::files`].
    pub file: usize,
    /// What is different.
    pub change: Change,
}

/// What is different about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is not there any more.
    Gone,
    /// It was not there.
    Came,
    /// It had another size.
    Size {
        /// Bytes by the record.
        recorded: u64,
        /// Bytes on disk.
        found: u64,
    },
    /// It is shorter than what is recorded of it.
    Short {
        /// Bytes that should be there at least.
        expected: u64,
        /// Bytes on disk.
        found: u64,
    },
    /// It was modified when nobody of us wrote.
    Modified,
    /// The system went down while it was being written.
    Crashed,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("it is not there any more"),
            Self::Came => f.write_str("it was not there"),
            Self::Size { recorded, found } => write!(f, "its size was {recorded} bytes, and is {found}"),
            Self::Short { expected, found } => {
                write!(f, "at least {expected} bytes were there, and {found} are")
            }
            Self::Modified => f.write_str("it was modified since"),
            Self::Crashed => f.write_str("the system went down while it was being written"),
        }
    }
}

/// Why nothing of a record can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It is another torrent's.
    #[error("it is of another torrent")]
    Torrent,
    /// The torrent is cut into another number of pieces.
    #[error("it is of a torrent of {recorded} pieces, and this one has {found}")]
    Pieces {
        /// By the record.
        recorded: usize,
        /// Of the torrent.
        found: u32,
    },
    /// The torrent has another number of files.
    #[error("it is of a torrent of {recorded} files, and this one has {found}")]
    Files {
        /// By the record.
        recorded: usize,
        /// Of the torrent.
        found: usize,
    },
    /// It speaks of blocks that do not exist.
    #[error("it names a block of piece {0} that does not exist")]
    Blocks(u32),
}

/// What became of a file since the record was made. The worst comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Same,
    /// We went on writing.
    Written,
    Changed(Change),
}

impl Resume {
    /// Compares the record with the torrent, and with its files as they are `found`.
    ///
    /// # Errors
    /// It is not a record of this torrent.
    pub fn fit(&self, torrent: &InfoHashes, layout: &FileLayout, found: &Stamps) -> Result<Fit, Misfit> {
        self.check_shape(torrent, layout)?;
        let geometry = layout.geometry();
        let mut fit = Fit::default();
        // Per piece, the worst that happened to one of its files.
        let mut fates = vec![Fate::Same; geometry.num_pieces() as usize];
        for (file, entry) in layout.files().iter().enumerate().filter(|(_, entry)| entry.on_disk()) {
            let fate = self.fate(geometry, file, entry, found);
            if let Fate::Changed(change) = fate {
                fit.changed.push(ChangedFile { file, change });
            }
            for piece in pieces_of(geometry, entry) {
                if fates[piece] == Fate::Same || matches!(fate, Fate::Changed(_)) {
                    fates[piece] = fate;
                }
            }
        }
        let unfinished: BTreeMap<u32, &Unfinished> = self.unfinished.iter().map(|u| (u.piece, u)).collect();
        for piece in geometry.pieces() {
            let had = self.pieces.get(piece.as_usize()).copied().unwrap_or(false);
            let blocks = unfinished.get(&piece.get()).filter(|_| !had).map(|u| blocks(geometry, piece, u));
            match fates[piece.as_usize()] {
                Fate::Changed(_) => fit.hash.push(piece),
                _ if had => fit.trusted.push(piece),
                Fate::Written => fit.hash_if_written.push(piece),
                // All of it is here, and only the hash was still missing.
                Fate::Same if blocks.as_ref().is_some_and(|blocks| !blocks.contains(&false)) => {
                    fit.hash.push(piece)
                }
                Fate::Same => {}
            }
            if let Some(blocks) = blocks.filter(|_| !matches!(fates[piece.as_usize()], Fate::Changed(_))) {
                fit.unfinished.insert(piece, blocks);
            }
        }
        Ok(fit)
    }

    fn check_shape(&self, torrent: &InfoHashes, layout: &FileLayout) -> Result<(), Misfit> {
        let (geometry, files) = (layout.geometry(), layout.files().len());
        if !self.is_of(torrent) {
            return Err(Misfit::Torrent);
        }
        let recorded = self.pieces.len();
        if recorded != 0 && recorded != geometry.num_pieces() as usize {
            return Err(Misfit::Pieces { recorded, found: geometry.num_pieces() });
        }
        if let Some(recorded) = self.look.as_ref().map(|look| look.stamps.files.len()).filter(|n| *n != files)
        {
            return Err(Misfit::Files { recorded, found: files });
        }
        for unfinished in &self.unfinished {
            let misfit = Misfit::Blocks(unfinished.piece);
            let piece = geometry.piece(unfinished.piece).ok_or_else(|| misfit.clone())?;
            let blocks = geometry.blocks_in(piece);
            let end = u32::try_from(unfinished.bitmask.len()).unwrap_or(u32::MAX).saturating_mul(8);
            if (blocks..end).any(|block| unfinished.is_written(block)) {
                return Err(misfit);
            }
        }
        Ok(())
    }

    fn fate(&self, geometry: Geometry, file: usize, entry: &FileEntry, found: &Stamps) -> Fate {
        let boot = found.boot.as_deref();
        let found = found.files.get(file).copied().flatten();
        let expected = self.expected_size(geometry, entry);
        let Some(look) = &self.look else { return fate_by_size(expected, found) };
        let recorded = look.stamps.files.get(file).copied().flatten();
        match (recorded, found) {
            (None, None) => Fate::Same,
            (Some(_), None) => Fate::Changed(Change::Gone),
            (_, Some(found)) if look.may_be_lost(found.mtime, boot) => Fate::Changed(Change::Crashed),
            (_, Some(found)) if look.may_have_written(found.mtime) && found.size >= expected => Fate::Written,
            (None, Some(_)) => Fate::Changed(Change::Came),
            (Some(recorded), Some(found)) if recorded.size != found.size => {
                Fate::Changed(Change::Size { recorded: recorded.size, found: found.size })
            }
            (Some(recorded), Some(found)) if recorded.mtime != found.mtime => Fate::Changed(Change::Modified),
            (Some(_), Some(found)) if found.size < expected => {
                Fate::Changed(Change::Short { expected, found: found.size })
            }
            (Some(_), Some(_)) => Fate::Same,
        }
    }

    /// How long a file must be at least, to hold what is recorded of it. In bytes.
    fn expected_size(&self, geometry: Geometry, entry: &FileEntry) -> u64 {
        let had = |piece: &usize| self.pieces.get(*piece).copied().unwrap_or(false);
        let Some(last) = pieces_of(geometry, entry).rev().find(had) else { return 0 };
        let end = (last as u64 + 1) * u64::from(geometry.piece_length());
        end.min(entry.offset + entry.length) - entry.offset
    }
}

impl Look {
    /// Whether a modification at that time may be our own, after the record.
    fn may_have_written(&self, mtime: i64) -> bool {
        let window = |from: &i64| from.saturating_sub(STEP)..=from.saturating_add(OPEN_FOR);
        self.open.iter().any(|from| window(from).contains(&mtime))
    }

    /// Whether what was written at that time may never have reached the disk: the system went down without an end of the
    /// session before.
    fn may_be_lost(&self, mtime: i64, boot: Option<&str>) -> bool {
        let recorded = self.stamps.boot.as_deref();
        let other_boot = recorded.is_none() || recorded != boot;
        let first = self.open.iter().min();
        other_boot && first.is_some_and(|from| mtime >= from.saturating_sub(FLUSHED_AFTER))
    }
}

/// Nothing but its size is known: it must be as long as what is recorded of it.
fn fate_by_size(expected: u64, found: Option<FileStamp>) -> Fate {
    match found {
        None if expected > 0 => Fate::Changed(Change::Gone),
        Some(found) if found.size < expected => Fate::Changed(Change::Short { expected, found: found.size }),
        _ => Fate::Same,
    }
}

/// The numbers of the pieces that a file has a part in.
fn pieces_of(geometry: Geometry, entry: &FileEntry) -> std::ops::Range<usize> {
    let length = u64::from(geometry.piece_length());
    let (first, end) = (entry.offset / length, (entry.offset + entry.length).div_ceil(length));
    // A file of no bytes has a part in none. Piece numbers fit 31 bits.
    if entry.length == 0 { 0..0 } else { first as usize..end as usize }
}

fn blocks(geometry: Geometry, piece: PieceIndex, unfinished: &Unfinished) -> Vec<bool> {
    (0..geometry.blocks_in(piece)).map(|block| unfinished.is_written(block)).collect()
}

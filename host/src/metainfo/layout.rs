//! Where bytes lie: pieces and blocks of a torrent, and the files behind them.
//!
//! A [`PieceIndex`] or [`BlockSpan`] made by a [`Geometry`] lies inside that torrent. Numbers off the wire are plain
//! `u32`s until [`Geometry::piece`], [`Geometry::block_at`] or [`Geometry::span`] has accepted them.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use super::MetainfoError;

/// Bytes per block, the unit of requests. Only the last block of a piece is shorter.
pub const BLOCK_SIZE: u32 = 16_384;

/// The longest piece that is accepted, in bytes.
pub const MAX_PIECE_LENGTH: u32 = 512 << 20;

/// The number of a piece that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// As messages number it.
    pub fn get(self) -> u32 {
        self.0
    }

    /// For indexing what is kept per piece.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// A range of bytes inside one piece, never empty; mostly one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockSpan {
    /// Which piece.
    pub piece: PieceIndex,
    /// Bytes from the start of the piece.
    pub start: u32,
    /// Bytes.
    pub len: u32,
}

impl BlockSpan {
    /// Which block of its piece the span begins in.
    pub fn block_index(self) -> u32 {
        self.start / BLOCK_SIZE
    }

    /// The first byte after the span, from the start of the piece.
    pub fn end(self) -> u32 {
        self.start + self.len
    }

    /// Whether the other span lies right behind this one, in the same piece.
    pub fn precedes(self, other: Self) -> bool {
        self.piece == other.piece && self.end() == other.start
    }
}

/// How a torrent's bytes are cut into pieces, and pieces into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    total: u64,
    piece_length: u32,
    num_pieces: u32,
}

impl Geometry {
    /// Of a torrent whose info dictionary is not known yet: no pieces.
    pub const UNKNOWN: Self = Self { total: 0, piece_length: BLOCK_SIZE, num_pieces: 0 };

    /// Cuts `total` bytes into pieces of `piece_length` bytes, the last one shorter.
    ///
    /// # Errors
    /// There is no data, the piece length is 0 or above [`MAX_PIECE_LENGTH`], or a piece number would not fit
    /// thirty-one bits.
    pub fn new(total: u64, piece_length: u32) -> Result<Self, MetainfoError> {
        if piece_length == 0 || piece_length > MAX_PIECE_LENGTH {
            return Err(MetainfoError::PieceLength(piece_length.into()));
        }
        if total == 0 {
            return Err(MetainfoError::Empty);
        }
        let pieces = total.div_ceil(piece_length.into());
        match i32::try_from(pieces) {
            Ok(num_pieces) => Ok(Self { total, piece_length, num_pieces: num_pieces.unsigned_abs() }),
            Err(_) => Err(MetainfoError::TooManyPieces(pieces)),
        }
    }

    /// Bytes of all pieces together.
    pub fn total(self) -> u64 {
        self.total
    }

    /// Bytes of every piece but the last.
    pub fn piece_length(self) -> u32 {
        self.piece_length
    }

    /// At least one, unless it is [`UNKNOWN`](Self::UNKNOWN).
    pub fn num_pieces(self) -> u32 {
        self.num_pieces
    }

    /// The piece of that number, if there is one.
    pub fn piece(self, raw: u32) -> Option<PieceIndex> {
        (raw < self.num_pieces).then_some(PieceIndex(raw))
    }

    /// Every piece, in order.
    pub fn pieces(self) -> impl ExactSizeIterator<Item = PieceIndex> + DoubleEndedIterator {
        (0..self.num_pieces).map(PieceIndex)
    }

    /// Bytes of this piece.
    pub fn piece_size(self, piece: PieceIndex) -> u32 {
        let left = self.total.saturating_sub(self.offset(piece));
        u32::try_from(left).map_or(self.piece_length, |left| left.min(self.piece_length))
    }

    /// Where the piece begins, in bytes from the start of the torrent.
    pub fn offset(self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_length)
    }

    /// How many blocks this piece has.
    pub fn blocks_in(self, piece: PieceIndex) -> u32 {
        self.piece_size(piece).div_ceil(BLOCK_SIZE)
    }

    /// Block number `index` of the piece, if there is one.
    pub fn block(self, piece: PieceIndex, index: u32) -> Option<BlockSpan> {
        let size = self.piece_size(piece);
        let start = index.checked_mul(BLOCK_SIZE).filter(|&start| start < size)?;
        Some(BlockSpan { piece, start, len: BLOCK_SIZE.min(size - start) })
    }

    /// Every block of the piece, in order.
    pub fn blocks(self, piece: PieceIndex) -> impl ExactSizeIterator<Item = BlockSpan> {
        let size = self.piece_size(piece);
        (0..self.blocks_in(piece)).map(move |index| {
            let start = index * BLOCK_SIZE;
            BlockSpan { piece, start, len: BLOCK_SIZE.min(size - start) }
        })
    }

    /// The block that these numbers off the wire describe, if they describe exactly one.
    pub fn block_at(self, piece: u32, start: u32, len: u32) -> Option<BlockSpan> {
        let block = self.block(self.piece(piece)?, start / BLOCK_SIZE)?;
        (block.start == start && block.len == len).then_some(block)
    }

    /// The range that these numbers off the wire describe, if it is not empty and lies inside one piece.
    pub fn span(self, piece: u32, start: u32, len: u32) -> Option<BlockSpan> {
        let piece = self.piece(piece)?;
        let end = start.checked_add(len)?;
        (len > 0 && end <= self.piece_size(piece)).then_some(BlockSpan { piece, start, len })
    }

    /// All of a piece as one span.
    pub fn whole(self, piece: PieceIndex) -> BlockSpan {
        BlockSpan { piece, start: 0, len: self.piece_size(piece) }
    }
}

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative to the folder that holds the torrent, and beginning with the torrent's name. Never leads out of it.
    pub path: PathBuf,
    /// Bytes.
    pub length: u64,
    /// Where the file begins, in bytes from the start of the torrent.
    pub offset: u64,
    /// Padding (BEP 47): zeros that are never on disk. Paths of padding may occur twice.
    pub pad: bool,
    /// The file should be executable (BEP 47).
    pub executable: bool,
    /// Stands for a symbolic link (BEP 47). It takes no bytes, and none is made: its target is a stranger's choice.
    pub symlink: bool,
}

impl FileEntry {
    /// An ordinary file. Its offset is set by [`FileLayout::new`].
    pub fn new(path: impl Into<PathBuf>, length: u64) -> Self {
        Self { path: path.into(), length, offset: 0, pad: false, executable: false, symlink: false }
    }

    /// Whether the file has a place on disk.
    pub fn on_disk(&self) -> bool {
        !self.pad && !self.symlink
    }
}

/// A range of bytes inside one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSpan {
    /// Index into [`FileLayout::files`].
    pub file: usize,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes, never 0.
    pub len: u32,
}

/// A torrent's files, one after the other, and how pieces lie across them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayout {
    name: String,
    geometry: Geometry,
    files: Vec<FileEntry>,
}

impl FileLayout {
    /// Lays `files` one behind the other and sets their offsets.
    ///
    /// # Errors
    /// A path leads elsewhere or clashes with another, or the sizes make no [`Geometry`].
    pub fn new(
        name: impl Into<String>,
        piece_length: u32,
        mut files: Vec<FileEntry>,
    ) -> Result<Self, MetainfoError> {
        let mut total = 0_u64;
        for file in &mut files {
            check_path(&file.path)?;
            file.offset = total;
            total = total
                .checked_add(file.length)
                .filter(|&total| i64::try_from(total).is_ok())
                .ok_or(MetainfoError::TooLarge)?;
        }
        check_clashes(&files)?;
        Ok(Self { name: name.into(), geometry: Geometry::new(total, piece_length)?, files })
    }

    /// Of a torrent whose info dictionary is not known yet: no files.
    pub fn unknown(name: impl Into<String>) -> Self {
        Self { name: name.into(), geometry: Geometry::UNKNOWN, files: Vec::new() }
    }

    /// The torrent's name, which is the first component of every path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Pieces and blocks.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// In the order of the torrent, padding included.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// Where padding lies, in bytes from the start of the torrent, in order; neighbours are taken for one (BEP 47).
    pub fn padding(&self) -> Vec<Range<u64>> {
        let mut ranges = Vec::<Range<u64>>::new();
        for file in self.files.iter().filter(|file| file.pad && file.length > 0) {
            match ranges.last_mut().filter(|last| last.end == file.offset) {
                Some(last) => last.end += file.length,
                None => ranges.push(file.offset..file.offset + file.length),
            }
        }
        ranges
    }

    /// The parts of files, padding included, that make up `span`, in order. Files without bytes have no part.
    pub fn spans(&self, span: BlockSpan) -> impl Iterator<Item = FileSpan> {
        let start = self.geometry.offset(span.piece) + u64::from(span.start);
        let end = start + u64::from(span.len);
        let first = self.files.partition_point(|file| file.offset + file.length <= start);
        (self.files.iter().enumerate().skip(first))
            .take_while(move |(_, file)| file.offset < end)
            .filter(|(_, file)| file.length > 0)
            .map(move |(index, file)| {
                let from = start.max(file.offset);
                let to = end.min(file.offset + file.length);
                // The difference is at most `span.len`.
                FileSpan { file: index, offset: from - file.offset, len: (to - from) as u32 }
            })
    }
}

fn check_path(path: &Path) -> Result<(), MetainfoError> {
    let unsafe_path = |reason| MetainfoError::unsafe_path(&path.to_string_lossy(), reason);
    if path.as_os_str().is_empty() {
        return Err(unsafe_path("it is empty"));
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(unsafe_path("it holds a zero byte"));
    }
    match path.components().find(|component| !matches!(component, Component::Normal(_))) {
        None => Ok(()),
        Some(Component::ParentDir) => Err(unsafe_path("it leads upwards")),
        Some(Component::CurDir) => Err(unsafe_path("it begins with a dot")),
        Some(_) => Err(unsafe_path("it is absolute")),
    }
}

/// Refuses files that would overwrite one another. Padding and links are never written, so theirs may.
fn check_clashes(files: &[FileEntry]) -> Result<(), MetainfoError> {
    let mut paths: Vec<_> =
        files.iter().filter(|file| file.on_disk()).map(|file| name_on_disk(&file.path)).collect();
    paths.sort_unstable();
    // Paths are ordered component by component, so whatever lies inside a folder follows directly upon it.
    for (path, next) in paths.iter().zip(paths.iter().skip(1)) {
        if path == next {
            return Err(MetainfoError::DuplicatePath(path.to_path_buf()));
        }
        if next.starts_with(path) {
            return Err(MetainfoError::FileIsFolder(path.to_path_buf()));
        }
    }
    Ok(())
}

/// Two paths mean one file when these are equal.
fn name_on_disk(path: &Path) -> Cow<'_, Path> {
    // The file systems of these usually ignore case.
    if cfg!(any(windows, target_vendor = "apple")) {
        Cow::Owned(path.to_string_lossy().to_lowercase().into())
    } else {
        Cow::Borrowed(path)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_piece_and_the_last_block_are_shorter() {
        let geometry = Geometry::new(100_000, 40_000).unwrap();
        let sizes: Vec<_> = geometry.pieces().map(|piece| geometry.piece_size(piece)).collect();
        assert_eq!(sizes, [40_000, 40_000, 20_000]);
        let last = geometry.piece(2).unwrap();
        let blocks: Vec<_> = geometry.blocks(last).map(|block| (block.start, block.len)).collect();
        assert_eq!(blocks, [(0, 16_384), (16_384, 3_616)]);
        assert_eq!(geometry.block(last, 2), None);
    }

    #[test]
    fn numbers_off_the_wire_must_describe_one_block() {
        let geometry = Geometry::new(100_000, 40_000).unwrap();
        assert!(geometry.block_at(2, 16_384, 3_616).is_some());
        for (piece, start, len) in
            [(3, 0, 16_384), (2, 16_384, 16_384), (0, 1, 16_384), (0, 0, 0), (0, u32::MAX, 1)]
        {
            assert_eq!(geometry.block_at(piece, start, len), None);
        }
        assert!(geometry.span(0, 39_999, 1).is_some() && geometry.span(1, 5, 39_995).is_some());
        for (piece, start, len) in [(0, 39_999, 2), (0, 40_000, 0), (0, u32::MAX, 2), (9, 0, 1)] {
            assert_eq!(geometry.span(piece, start, len), None);
        }
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        assert_eq!(Geometry::new(1, 0), Err(MetainfoError::PieceLength(0)));
        assert_eq!(Geometry::new(0, 1), Err(MetainfoError::Empty));
        assert_eq!(Geometry::new(u64::MAX, 1 << 14), Err(MetainfoError::TooManyPieces(1 << 50)));
        assert!(
            Geometry::new(1, MAX_PIECE_LENGTH).is_ok() && Geometry::new(1, MAX_PIECE_LENGTH + 1).is_err()
        );
        let files = vec![FileEntry::new("a", u64::MAX), FileEntry::new("b", 1)];
        assert_eq!(FileLayout::new("n", 1 << 20, files), Err(MetainfoError::TooLarge));
    }

    #[test]
    fn paths_that_lead_out_or_clash_are_refused() {
        for path in ["", "/etc/passwd", "../x", "a/../x", "a\0b", "./a"] {
            let refused = FileLayout::new("n", 1, vec![FileEntry::new(path, 1)]);
            assert!(matches!(refused, Err(MetainfoError::UnsafePath { .. })), "{path:?}");
        }
        let layout =
            |paths: &[&str]| FileLayout::new("n", 1, paths.iter().map(|p| FileEntry::new(p, 1)).collect());
        assert_eq!(layout(&["a", "b", "a"]), Err(MetainfoError::DuplicatePath("a".into())));
        assert_eq!(layout(&["a-b", "a/b", "a"]), Err(MetainfoError::FileIsFolder("a".into())));
        assert!(layout(&["a-b", "a/b", "ab", "a/c"]).is_ok());
        let pad = FileEntry { pad: true, ..FileEntry::new(".pad/1", 1) };
        assert!(FileLayout::new("n", 1, vec![pad.clone(), pad]).is_ok());
    }

    #[test]
    fn a_span_skips_files_without_bytes() {
        let files = [("a", 3), ("empty", 0), ("b", 2), ("c", 9)].map(|(path, len)| FileEntry::new(path, len));
        let layout = FileLayout::new("n", 14, files.into()).unwrap();
        let spans: Vec<_> = layout.spans(layout.geometry().span(0, 2, 4).unwrap()).collect();
        let expected =
            [(0, 2, 1), (2, 0, 2), (3, 0, 1)].map(|(file, offset, len)| FileSpan { file, offset, len });
        assert_eq!(spans, expected);
    }

    proptest! {
        #[test]
        fn spans_of_all_pieces_cover_every_byte_once(
            lengths in prop::collection::vec(0_u64..60_000, 1..20),
            piece_length in 1_000_u32..50_000,
        ) {
            prop_assume!(lengths.iter().sum::<u64>() > 0);
            let files = lengths.iter().enumerate().map(|(i, &len)| FileEntry::new(i.to_string(), len)).collect();
            let layout = FileLayout::new("n", piece_length, files).unwrap();
            let geometry = layout.geometry();
            let mut reached = vec![0; lengths.len()];
            for block in geometry.pieces().flat_map(|piece| geometry.blocks(piece)) {
                let spans: Vec<_> = layout.spans(block).collect();
                prop_assert_eq!(spans.iter().map(|span| span.len).sum::<u32>(), block.len);
                for span in spans {
                    prop_assert_eq!(span.offset, reached[span.file]);
                    reached[span.file] += u64::from(span.len);
                }
            }
            prop_assert_eq!(reached, lengths);
        }
    }
}

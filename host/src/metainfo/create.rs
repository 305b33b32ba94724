//! Making torrents (BEP 3). The caller finds and reads the files; a [`Creator`] says in which order, and hashes.

use std::mem;
use std::path::{Path, PathBuf};

use sha1_lanes::{Sha1, update_each};

use super::{FileEntry, FileLayout, MetainfoError};
use crate::wire::bencode::{Dict, Value};

/// Shortest piece that is chosen or allowed, in bytes.
const MIN_PIECE_LENGTH: u32 = 16 << 10;

/// Longest piece that is chosen, in bytes. More may be asked for.
const MAX_CHOSEN_PIECE_LENGTH: u32 = 16 << 20;

/// How many pieces a torrent should have at most, if the choice is ours. Fewer make a piece a coarse thing to share,
/// more make the torrent file large.
const TARGET_PIECES: u64 = 1500;

/// What a torrent says besides its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Bytes per piece, a power of two from 16 KiB. `None` chooses one for about 1500 pieces.
    pub piece_length: Option<u32>,
    /// Tracker URLs in tiers (BEP 12). Empty ones are left out.
    pub trackers: Vec<Vec<String>>,
    /// URLs that serve the files over HTTP (BEP 19).
    pub web_seeds: Vec<String>,
    /// Peers may come from the torrent's trackers only (BEP 27).
    pub private: bool,
    /// Where the torrent belongs. Makes the same files a different torrent for each tracker.
    pub source: Option<String>,
    /// Anything.
    pub comment: Option<String>,
    /// The program that makes it.
    pub created_by: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<i64>,
}

/// A file that is to be part of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Relative to the folder that the torrent is made of.
    pub path: PathBuf,
    /// Bytes.
    pub length: u64,
    /// Whether it should be executable (BEP 47).
    pub executable: bool,
}

/// A torrent in the making: knows the files, takes their bytes, yields the torrent.
pub struct Creator {
    options: CreateOptions,
    layout: FileLayout,
    is_folder: bool,
    hasher: Sha1,
    /// Bytes that the hasher has of its piece.
    in_piece: u32,
    pieces: Vec<u8>,
    taken: u64,
}

impl Creator {
    /// A torrent of one file.
    ///
    /// # Errors
    /// The file is empty, its name cannot be told to others, or the piece length makes no sense.
    pub fn file(
        name: &str,
        length: u64,
        executable: bool,
        options: CreateOptions,
    ) -> Result<Self, MetainfoError> {
        let file = FileEntry { executable, ..FileEntry::new(checked_name(name)?, length) };
        Self::new(name, vec![file], false, options)
    }

    /// A torrent of a folder. The files are put in order, so that the same ones make the same torrent.
    ///
    /// # Errors
    /// There is no data, a path leads elsewhere, clashes with another or is not Unicode, or the piece length makes no
    /// sense.
    pub fn folder(
        name: &str,
        mut files: Vec<NewFile>,
        options: CreateOptions,
    ) -> Result<Self, MetainfoError> {
        let root = checked_name(name)?;
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let entry = |file: NewFile| {
            // An absolute path would replace the root instead of being refused below.
            match file.path.is_relative() && file.path.to_str().is_some() {
                true => Ok(FileEntry {
                    executable: file.executable,
                    ..FileEntry::new(root.join(&file.path), file.length)
                }),
                false => Err(unsafe_path(&file.path, "it is absolute or not Unicode")),
            }
        };
        let files = files.into_iter().map(entry).collect::<Result<_, _>>()?;
        Self::new(name, files, true, options)
    }

    fn new(
        name: &str,
        files: Vec<FileEntry>,
        is_folder: bool,
        options: CreateOptions,
    ) -> Result<Self, MetainfoError> {
        let total = files.iter().fold(0_u64, |total, file| total.saturating_add(file.length));
        let piece_length = options.piece_length.unwrap_or_else(|| choose_piece_length(total));
        if !piece_length.is_power_of_two() || piece_length < MIN_PIECE_LENGTH {
            return Err(MetainfoError::PieceLength(piece_length.into()));
        }
        let layout = FileLayout::new(name, piece_length, files)?;
        let (hasher, pieces) = (Sha1::new(), Vec::new());
        Ok(Self { options, layout, is_folder, hasher, in_piece: 0, pieces, taken: 0 })
    }

    /// The files in the order in which their bytes are wanted. Paths begin with the torrent's name.
    pub fn layout(&self) -> &FileLayout {
        &self.layout
    }

    /// How many bytes have been given.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the bytes that follow those given before, across the borders of files.
    ///
    /// # Errors
    /// There are more than the files had at first.
    pub fn update(&mut self, mut data: &[u8]) -> Result<(), MetainfoError> {
        let (expected, found) = (self.layout.geometry().total(), self.taken + data.len() as u64);
        if found > expected {
            return Err(MetainfoError::DataLength { expected, found });
        }
        self.taken = found;
        if self.in_piece > 0 {
            let wanted = (self.layout.geometry().piece_length() - self.in_piece) as usize;
            let (head, rest) = data.split_at(wanted.min(data.len()));
            self.add(head);
            data = rest;
        }
        let pieces = data.chunks_exact(self.layout.geometry().piece_length() as usize);
        let rest = pieces.remainder();
        self.add_pieces(pieces);
        self.add(rest);
        Ok(())
    }

    /// The bytes of the torrent file.
    ///
    /// # Errors
    /// There was less data than the files had at first.
    pub fn finish(mut self) -> Result<Vec<u8>, MetainfoError> {
        let (expected, found) = (self.layout.geometry().total(), self.taken);
        if found != expected {
            return Err(MetainfoError::DataLength { expected, found });
        }
        if self.in_piece > 0 {
            self.end_piece();
        }
        Ok(Value::Dict(self.torrent()).encode())
    }

    /// Takes a part of the piece at hand.
    fn add(&mut self, part: &[u8]) {
        self.hasher.update(part);
        // No longer than the rest of the piece, so neither the cast nor the sum overflows.
        self.in_piece += part.len() as u32;
        if self.in_piece == self.layout.geometry().piece_length() {
            self.end_piece();
        }
    }

    /// Takes whole pieces, which are hashed side by side.
    fn add_pieces<'d>(&mut self, pieces: impl ExactSizeIterator<Item = &'d [u8]>) {
        let mut hashers = vec![Sha1::new(); pieces.len()];
        update_each(hashers.iter_mut().zip(pieces.map(|piece| [piece])));
        self.pieces.extend(hashers.into_iter().flat_map(Sha1::finish));
    }

    fn end_piece(&mut self) {
        self.pieces.extend(mem::take(&mut self.hasher).finish());
        self.in_piece = 0;
    }

    fn torrent(&self) -> Dict<'_> {
        let options = &self.options;
        let mut pairs = vec![(&b"info"[..], self.info().into())];
        let tiers = || options.trackers.iter().filter(|tier| !tier.is_empty());
        if let Some(first) = tiers().flatten().next() {
            pairs.push((b"announce", text(first)));
        }
        if tiers().flatten().count() > 1 {
            pairs.push((b"announce-list", tiers().map(|tier| texts(tier)).collect::<Vec<_>>().into()));
        }
        if !options.web_seeds.is_empty() {
            pairs.push((b"url-list", texts(&options.web_seeds)));
        }
        pairs.extend(options.comment.as_ref().map(|comment| (&b"comment"[..], text(comment))));
        pairs.extend(options.created_by.as_ref().map(|program| (&b"created by"[..], text(program))));
        pairs.extend(options.creation_date.map(|date| (&b"creation date"[..], date.into())));
        pairs.into_iter().collect()
    }

    fn info(&self) -> Dict<'_> {
        let files = self.layout.files();
        let piece_length = i64::from(self.layout.geometry().piece_length());
        let mut pairs = vec![
            (&b"name"[..], self.layout.name().into()),
            (b"piece length", piece_length.into()),
            (b"pieces", self.pieces.as_slice().into()),
        ];
        match files {
            [file] if !self.is_folder => pairs.extend(file_pairs(file)),
            files => pairs.push((b"files", files.iter().map(listed_file).collect::<Vec<_>>().into())),
        }
        if self.options.private {
            pairs.push((b"private", 1.into()));
        }
        pairs.extend(self.options.source.as_ref().map(|source| (&b"source"[..], text(source))));
        pairs.into_iter().collect()
    }
}

fn listed_file(file: &FileEntry) -> Value<'_> {
    // The first component is the torrent's name. All are Unicode: the constructors have seen to it.
    let path: Vec<_> = file.path.iter().skip(1).filter_map(|part| part.to_str().map(Value::from)).collect();
    Value::Dict(file_pairs(file).into_iter().chain([(&b"path"[..], path.into())]).collect())
}

fn file_pairs<'a>(file: &FileEntry) -> Vec<(&'a [u8], Value<'a>)> {
    let mut pairs = vec![(&b"length"[..], Value::Int(file.length.into()))];
    pairs.extend(file.executable.then_some((&b"attr"[..], "x".into())));
    pairs
}

/// A power of two that makes at most [`TARGET_PIECES`] pieces of `total` bytes, as far as the bounds allow.
fn choose_piece_length(total: u64) -> u32 {
    let fitting = total.div_ceil(TARGET_PIECES).min(MAX_CHOSEN_PIECE_LENGTH.into());
    // The minimum has made it fit.
    (fitting as u32).next_power_of_two().max(MIN_PIECE_LENGTH)
}

/// A name that is one component, for everybody.
fn checked_name(name: &str) -> Result<&Path, MetainfoError> {
    match Path::new(name).file_name() {
        Some(last) if last == name => Ok(Path::new(name)),
        _ => Err(unsafe_path(Path::new(name), "it is not the name of a file or folder")),
    }
}

fn unsafe_path(path: &Path, reason: &'static str) -> MetainfoError {
    MetainfoError::unsafe_path(&path.to_string_lossy(), reason)
}

fn text(text: &str) -> Value<'_> {
    text.into()
}

fn texts(texts: &[String]) -> Value<'_> {
    texts.iter().map(|item| text(item)).collect::<Vec<_>>().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::Metainfo;
    use super::*;

    fn file(path: &str, length: u64) -> NewFile {
        NewFile { path: path.into(), length, executable: false }
    }

    fn refused(made: Result<Creator, MetainfoError>) -> Option<MetainfoError> {
        made.err()
    }

    #[test]
    fn a_single_file_makes_the_torrent_of_the_specification() {
        let mut creator = Creator::file("a.txt", 5, false, CreateOptions::default()).unwrap();
        creator.update(b"he").unwrap();
        creator.update(b"llo").unwrap();
        let torrent = creator.finish().unwrap();
        let hash = b"\xaa\xf4\xc6\x1d\xdc\xc5\xe8\xa2\xda\xbe\xde\x0f\x3b\x48\x2c\xd9\xae\xa9\x43\x4d";
        let expected =
            [b"d4:infod6:lengthi5e4:name5:a.txt12:piece lengthi16384e6:pieces20:", &hash[..], b"ee"];
        assert_eq!(torrent, expected.concat());
    }

    #[test]
    fn options_are_written_where_readers_look() {
        let tiers = vec![vec!["udp://a".to_owned(), "udp://b".into()], vec![], vec!["udp://c".into()]];
        let options = CreateOptions {
            piece_length: Some(32_768),
            trackers: tiers,
            web_seeds: vec!["http://w/".into()],
            private: true,
            source: Some("S".into()),
            comment: Some("C".into()),
            created_by: Some("P".into()),
            creation_date: Some(-1),
        };
        let files = vec![NewFile { executable: true, ..file("z/run", 2) }, file("b", 1), file("empty", 0)];
        let mut creator = Creator::folder("top", files, options).unwrap();
        creator.update(b"xyz").unwrap();
        let torrent = creator.finish().unwrap();
        assert!(torrent.windows(11).any(|part| part == b"6:source1:S"));
        let torrent = Metainfo::parse(&torrent).unwrap();
        let paths: Vec<_> = torrent.layout().files().iter().map(|file| file.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["top/b", "top/empty", "top/z/run"]);
        assert!(torrent.private() && torrent.layout().files()[2].executable);
        assert_eq!(torrent.trackers().concat(), ["udp://a", "udp://b", "udp://c"]);
        assert_eq!((torrent.trackers().len(), torrent.web_seeds()), (2, &["http://w/".to_owned()][..]));
        assert_eq!((torrent.comment(), torrent.created_by()), (Some("C"), Some("P")));
        assert_eq!(torrent.creation_date(), Some(-1));
    }

    #[test]
    fn a_folder_of_one_file_stays_a_folder() {
        let mut creator = Creator::folder("top", vec![file("only", 1)], CreateOptions::default()).unwrap();
        creator.update(b"x").unwrap();
        let torrent = Metainfo::parse(&creator.finish().unwrap()).unwrap();
        assert_eq!(torrent.layout().files()[0].path, Path::new("top/only"));
    }

    #[test]
    fn piece_lengths_make_about_1500_pieces() {
        let lengths = [(1, 16 << 10), (20 << 20, 16 << 10), (1 << 30, 1 << 20), (1 << 40, 16 << 20)];
        for (total, expected) in lengths {
            assert_eq!(choose_piece_length(total), expected, "{total}");
        }
        assert_eq!(choose_piece_length(u64::MAX), 16 << 20);
        for piece_length in [0, 8192, 16_385, 1 << 31] {
            let options = CreateOptions { piece_length: Some(piece_length), ..Default::default() };
            let expected = Some(MetainfoError::PieceLength(piece_length.into()));
            assert_eq!(refused(Creator::file("n", 1, false, options)), expected);
        }
    }

    #[test]
    fn names_and_data_that_do_not_fit_are_refused() {
        let options = CreateOptions::default;
        for name in ["", ".", "..", "a/b", "/", "a/"] {
            assert!(Creator::file(name, 1, false, options()).is_err(), "{name:?}");
            assert!(Creator::folder(name, vec![file("a", 1)], options()).is_err(), "{name:?}");
        }
        for path in ["/a", "../a", ""] {
            assert!(Creator::folder("n", vec![file(path, 1), file("b", 1)], options()).is_err(), "{path:?}");
        }
        assert_eq!(refused(Creator::folder("n", vec![], options())), Some(MetainfoError::Empty));
        let mut creator = Creator::file("n", 2, false, options()).unwrap();
        assert_eq!(creator.update(b"abc"), Err(MetainfoError::DataLength { expected: 2, found: 3 }));
        creator.update(b"a").unwrap();
        assert_eq!(creator.finish(), Err(MetainfoError::DataLength { expected: 2, found: 1 }));
    }

    proptest! {
        #[test]
        fn hashes_do_not_depend_on_how_the_data_is_cut(
            lengths in prop::collection::vec(0_u64..80_000, 1..5),
            parts in prop::collection::vec(1_usize..150_000, 1..5),
        ) {
            let total: u64 = lengths.iter().sum();
            prop_assume!(total > 0);
            let files = lengths.iter().enumerate().map(|(i, &length)| file(&i.to_string(), length)).collect();
            let mut creator = Creator::folder("n", files, CreateOptions::default()).unwrap();
            let data: Vec<u8> = (0..total).map(|i| (i % 251) as u8).collect();
            let mut rest = &data[..];
            for part in parts.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*part));
                creator.update(now).unwrap();
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            let torrent = Metainfo::parse(&creator.finish().unwrap()).unwrap();
            let geometry = torrent.layout().geometry();
            prop_assert_eq!(geometry.total(), total);
            for piece in geometry.pieces() {
                let start = geometry.offset(piece) as usize;
                let mut hasher = torrent.hashes().hasher();
                hasher.update(&data[start..start + geometry.piece_size(piece) as usize]);
                prop_assert!(torrent.hashes().matches(piece, &hasher.finish()));
            }
        }
    }
}

//! A torrent and the data that belongs to it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pilotfish::metainfo::{BLOCK_SIZE, CreateOptions, Creator, FileLayout, Magnet, Metainfo, NewFile};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A torrent and its data.
#[derive(Clone)]
pub struct Content {
    pub metainfo: Metainfo,
    pub data: Data,
}

/// The bytes of a torrent.
#[derive(Clone)]
pub enum Data {
    /// Kept in memory, and hashed.
    Bytes(Arc<Vec<u8>>),
    /// Each block is its own number and then zeros: as long as one likes, and never hashed.
    Numbered,
}

impl Content {
    /// A torrent of one file of random data.
    pub fn random(seed: u64, length: usize, piece_length: u32) -> Self {
        Self::folder(seed, &[length], piece_length)
    }

    /// As [`random`](Self::random), but the file is not in a folder.
    pub fn file(seed: u64, length: usize, piece_length: u32) -> Self {
        let mut data = vec![0; length];
        StdRng::seed_from_u64(seed).fill_bytes(&mut data);
        let name = format!("content-{seed}.bin");
        let mut creator = Creator::file(&name, length as u64, false, options(piece_length)).unwrap();
        creator.update(&data).unwrap();
        let metainfo = Metainfo::parse(&creator.finish().unwrap()).unwrap();
        Self { metainfo, data: Data::Bytes(Arc::new(data)) }
    }

    /// As [`random`](Self::random), but private (BEP 27).
    pub fn private(seed: u64, length: usize, piece_length: u32) -> Self {
        Self::made(seed, &[length], CreateOptions { private: true, ..options(piece_length) })
    }

    /// As [`random`](Self::random), with trackers in tiers.
    pub fn tracked(seed: u64, length: usize, piece_length: u32, tiers: &[&[&str]]) -> Self {
        let trackers = owned(tiers);
        Self::made(seed, &[length], CreateOptions { trackers, ..options(piece_length) })
    }

    /// The same, but private (BEP 27).
    pub fn tracked_privately(seed: u64, length: usize, piece_length: u32, tiers: &[&[&str]]) -> Self {
        let trackers = owned(tiers);
        Self::made(seed, &[length], CreateOptions { trackers, private: true, ..options(piece_length) })
    }

    /// A torrent of several files of random data.
    pub fn folder(seed: u64, lengths: &[usize], piece_length: u32) -> Self {
        Self::made(seed, lengths, options(piece_length))
    }

    fn made(seed: u64, lengths: &[usize], options: CreateOptions) -> Self {
        let mut data = vec![0; lengths.iter().sum()];
        StdRng::seed_from_u64(seed).fill_bytes(&mut data);
        let metainfo = Metainfo::parse(&Self::of(seed, lengths, &data, options)).unwrap();
        Self { metainfo, data: Data::Bytes(Arc::new(data)) }
    }

    /// The torrent file of this data.
    fn of(seed: u64, lengths: &[usize], data: &[u8], options: CreateOptions) -> Vec<u8> {
        let file = |(i, length): (usize, &usize)| NewFile {
            path: Path::new(&format!("{i}.bin")).to_owned(),
            length: *length as u64,
            executable: false,
        };
        let files = lengths.iter().enumerate().map(file).collect();
        let mut creator = Creator::folder(&format!("content-{seed}"), files, options).unwrap();
        creator.update(data).unwrap();
        creator.finish().unwrap()
    }

    /// A torrent of several files of random data, each with zeros behind it up to the end of a piece (BEP 47).
    pub fn padded(seed: u64, lengths: &[usize], piece_length: u32) -> Self {
        let piece = piece_length as usize;
        let pads = lengths.iter().map(|length| length.next_multiple_of(piece) - length);
        let all: Vec<usize> = lengths.iter().zip(pads).flat_map(|(length, pad)| [*length, pad]).collect();
        let mut data = vec![0; all.iter().sum()];
        let mut rng = StdRng::seed_from_u64(seed);
        let starts = all.iter().scan(0, |end, length| Some(std::mem::replace(end, *end + length)));
        let files = starts.zip(&all).step_by(2);
        files.for_each(|(start, length)| rng.fill_bytes(&mut data[start..start + length]));
        let plain = Self::of(seed, &all, &data, options(piece_length));
        // Every other file becomes padding: `attr` is the first key of its dictionary.
        let mut file = plain;
        for (i, length) in all.iter().enumerate().skip(1).step_by(2) {
            let (name, old) = (format!("{i}.bin"), format!("d6:lengthi{length}e4:pathl"));
            let entry = format!("{old}{}:{name}ee", name.len());
            let at = file.windows(entry.len()).position(|bytes| bytes == entry.as_bytes()).unwrap();
            file.splice(at + 1..at + 1, *b"4:attr1:p");
        }
        Self { metainfo: Metainfo::parse(&file).unwrap(), data: Data::Bytes(Arc::new(data)) }
    }

    /// A torrent that is too large to keep or to hash.
    pub fn numbered(length: u64, piece_length: u32) -> Self {
        let pieces = vec![0; 20 * length.div_ceil(piece_length.into()) as usize];
        let mut file = format!(
            "d4:infod6:lengthi{length}e4:name8:numbered12:piece lengthi{piece_length}e6:pieces{}:",
            pieces.len()
        )
        .into_bytes();
        file.extend(pieces);
        file.extend(b"ee");
        Self { metainfo: Metainfo::parse(&file).unwrap(), data: Data::Numbered }
    }

    /// A link that says nothing but which torrent it is.
    pub fn link(&self) -> Magnet {
        Magnet::new(*self.metainfo.info_hashes())
    }

    pub fn layout(&self) -> &Arc<FileLayout> {
        self.metainfo.layout()
    }

    /// All bytes of a torrent that is kept in memory.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Bytes(bytes) => bytes,
            Data::Numbered => &[],
        }
    }
}

/// What stands at the start of a [numbered](Data::Numbered) block.
pub(super) fn number(offset: u64) -> [u8; 8] {
    (offset / u64::from(BLOCK_SIZE)).to_le_bytes()
}

/// Whether a numbered block is right; looks at its first bytes only.
pub(super) fn is_numbered(offset: u64, data: &Bytes) -> bool {
    data.starts_with(&number(offset))
}

fn owned(tiers: &[&[&str]]) -> Vec<Vec<String>> {
    tiers.iter().map(|tier| tier.iter().map(|url| (*url).to_owned()).collect()).collect()
}

fn options(piece_length: u32) -> CreateOptions {
    CreateOptions { piece_length: Some(piece_length), ..CreateOptions::default() }
}

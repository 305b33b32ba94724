//! The data of a test: made from a seed, described by a torrent, and compared byte for byte after its journey.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pilotfish_tests::program;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;

/// Bytes of a piece: several blocks, and many pieces.
pub(crate) const PIECE: u64 = 256 << 10;

/// Bytes of a block, as peers ask for them.
pub(crate) const BLOCK: u64 = 16 << 10;

/// A folder of data to be sent, a torrent for each of its entries, and a folder where the data should arrive.
pub(crate) struct Data {
    folder: TempDir,
    pub(crate) torrents: Vec<PathBuf>,
    /// Whom the torrents that are made from now on name.
    pub(crate) trackers: Vec<String>,
}

impl Data {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        ["complete", "arrived"].iter().for_each(|name| fs::create_dir(folder.path().join(name)).unwrap());
        Self { folder, torrents: Vec::new(), trackers: Vec::new() }
    }

    /// One torrent of one file, which does not end at the end of a piece or block.
    pub(crate) fn single(size: u64) -> Self {
        let mut data = Self::new();
        data.add("payload.bin", &[("", size + 4_321)]);
        data
    }

    /// Makes files of these sizes, by their paths within `name` ("" for `name` itself), and their torrent.
    pub(crate) fn add(&mut self, name: &str, files: &[(&str, u64)]) {
        let root = self.complete().join(name);
        for (number, (path, size)) in files.iter().enumerate() {
            let file = if path.is_empty() { root.clone() } else { root.join(path) };
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            let seed = (self.torrents.len() << 32 | number) as u64;
            fill(&mut File::create(file).unwrap(), *size, seed);
        }
        let torrent = self.path(&format!("{}.torrent", self.torrents.len()));
        let mut create = Command::new(program::pilotfish());
        create.arg("create").arg(&root).arg("--output").arg(&torrent);
        create.args(["--piece-length", &PIECE.to_string()]).stdin(Stdio::null());
        for tracker in &self.trackers {
            create.args(["--tracker", tracker]);
        }
        let output = create.output().unwrap();
        assert!(output.status.success(), "{create:?}: {}", String::from_utf8_lossy(&output.stderr));
        self.torrents.push(torrent);
    }

    /// Where the data is.
    pub(crate) fn complete(&self) -> PathBuf {
        self.path("complete")
    }

    /// Where the data should arrive.
    pub(crate) fn arrived(&self) -> PathBuf {
        self.path("arrived")
    }

    /// A path for whatever else a test needs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A copy of the data in which every piece is destroyed that `keep` does not want, by its offset in its file.
    /// Only for torrents of one file each.
    pub(crate) fn copy_in_part(&self, name: &str, keep: impl Fn(u64) -> bool) -> PathBuf {
        let part = self.path(name);
        fs::create_dir(&part).unwrap();
        for (file, size) in files(&self.complete()) {
            let mut bytes = fs::read(self.complete().join(&file)).unwrap();
            for piece in (0..size.div_ceil(PIECE)).filter(|&piece| !keep(piece)) {
                let end = size.min((piece + 1) * PIECE);
                bytes[(piece * PIECE) as usize..end as usize].fill(0);
            }
            fs::write(part.join(file), bytes).unwrap();
        }
        part
    }

    /// Everything arrived, as it was, and nothing else did.
    #[track_caller]
    pub(crate) fn assert_arrived(&self) {
        let sent = files(&self.complete());
        assert_eq!(sent, files(&self.arrived()), "names and sizes of the files");
        for file in sent.keys() {
            if let Some(at) = first_difference(&self.complete().join(file), &self.arrived().join(file)) {
                panic!("{}: wrong within the MiB at {at}", file.display());
            }
        }
    }
}

/// The files in `folder`, however deep, with their sizes in bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            match entry.metadata().unwrap() {
                data if data.is_dir() => folders.push(entry.path()),
                data => {
                    let path = entry.path().strip_prefix(folder).unwrap().to_owned();
                    found.insert(path, data.len());
                }
            }
        }
    }
    found
}

/// Where the first MiB begins in which two files differ.
fn first_difference(one: &Path, other: &Path) -> Option<u64> {
    let [one, other] = [one, other].map(|path| File::open(path).unwrap());
    let [mut a, mut b] = [Vec::new(), Vec::new()];
    for at in (0..).step_by(MIB as usize) {
        a.clear();
        b.clear();
        let read = (&one).take(MIB).read_to_end(&mut a).unwrap();
        (&other).take(MIB).read_to_end(&mut b).unwrap();
        if a != b {
            return Some(at);
        }
        if read == 0 {
            return None;
        }
    }
    None
}

/// Writes bytes that are the same for the same `seed`. No two pieces are alike: every MiB is the one before it, turned by
/// a prime.
fn fill(file: &mut File, size: u64, seed: u64) {
    let mut chunk = vec![0; MIB.min(size) as usize];
    StdRng::seed_from_u64(seed).fill_bytes(&mut chunk);
    let (mut left, turn) = (size, chunk.len().min(7_919));
    while left > 0 {
        let part = left.min(MIB);
        file.write_all(&chunk[..part as usize]).unwrap();
        left -= part;
        chunk.rotate_left(turn);
    }
}

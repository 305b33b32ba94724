//! Conversations with a pool over a folder of its own: jobs in, answers out, and what lies on disk afterwards.

mod checks;
mod lanes;
mod lingering;
mod order;
mod places;
mod reads;
mod records;
mod writes;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha1::{Digest, Sha1};
use tempfile::TempDir;

use super::DiskPool;
use crate::job::{DiskDone, DiskError, DiskJob, ReadToken, StorageId};
use crate::metainfo::{BLOCK_SIZE, BlockSpan, FileEntry, FileLayout, PieceHashes, PieceIndex};
use crate::wire::BlockPool;

/// Longer than any answer takes; a test that waits so long has failed.
const DEADLINE: Duration = Duration::from_secs(30);

const STORAGE: StorageId = StorageId(7);

/// One torrent, opened in a pool, with its right content at hand.
struct Disk {
    pool: DiskPool,
    buffers: BlockPool,
    answers: Receiver<DiskDone>,
    layout: Arc<FileLayout>,
    hashes: Arc<PieceHashes>,
    content: Vec<u8>,
    root: PathBuf,
    dir: TempDir,
    /// What `Opened` said.
    existing: Result<bool, DiskError>,
}

impl Disk {
    /// Files of these lengths, in pieces of this many bytes, none of them on disk.
    #[track_caller]
    fn new(files: &[(&str, u64)], piece_length: u32) -> Self {
        let files = files.iter().map(|&(path, length)| FileEntry::new(path, length)).collect();
        Self::prepared(files, piece_length, |_, _, _| {})
    }

    /// As `new`, with every file on disk already.
    #[track_caller]
    fn seeded(files: &[(&str, u64)], piece_length: u32) -> Self {
        let files = files.iter().map(|&(path, length)| FileEntry::new(path, length)).collect();
        Self::prepared(files, piece_length, lay_down)
    }

    /// `prepare` sees the root, the layout and the content before the storage is opened.
    #[track_caller]
    fn prepared(
        files: Vec<FileEntry>,
        piece_length: u32,
        prepare: impl FnOnce(&Path, &FileLayout, &[u8]),
    ) -> Self {
        let layout = Arc::new(FileLayout::new("torrent", piece_length, files).unwrap());
        let content = content(&layout);
        let hashes = Arc::new(PieceHashes::V1(
            content.chunks(piece_length as usize).map(|piece| Sha1::digest(piece).into()).collect(),
        ));
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        prepare(&root, &layout, &content);
        let buffers = BlockPool::new(4);
        let (pool, answers) = start(buffers.clone());
        let existing = Ok(false);
        let mut disk = Self { pool, buffers, answers, layout, hashes, content, root, dir, existing };
        disk.open();
        let DiskDone::Opened { existing, .. } = disk.answer() else { panic!("not opened") };
        disk.existing = existing;
        disk
    }

    fn open(&self) {
        let (layout, hashes) = (self.layout.clone(), self.hashes.clone());
        self.pool.submit(DiskJob::Open {
            storage: STORAGE,
            layout,
            hashes,
            root: self.root.as_path().into(),
        });
    }

    fn piece(&self, index: u32) -> PieceIndex {
        self.layout.geometry().piece(index).unwrap()
    }

    fn blocks(&self, piece: u32) -> Vec<BlockSpan> {
        self.layout.geometry().blocks(self.piece(piece)).collect()
    }

    fn all_blocks(&self) -> Vec<BlockSpan> {
        let geometry = self.layout.geometry();
        geometry.pieces().flat_map(|piece| geometry.blocks(piece)).collect()
    }

    /// What belongs there.
    fn right(&self, span: BlockSpan) -> Bytes {
        let start = self.layout.geometry().offset(span.piece) as usize + span.start as usize;
        Bytes::copy_from_slice(&self.content[start..][..span.len as usize])
    }

    fn write(&self, span: BlockSpan) {
        self.write_data(span, self.right(span));
    }

    fn write_data(&self, span: BlockSpan, data: Bytes) {
        self.pool.submit(DiskJob::Write { storage: STORAGE, span, data });
    }

    fn forget(&self, piece: u32) {
        self.pool.submit(DiskJob::Forget { storage: STORAGE, piece: self.piece(piece) });
    }

    fn check(&self) {
        self.pool.submit(DiskJob::Check { storage: STORAGE });
    }

    #[track_caller]
    fn answer(&self) -> DiskDone {
        self.answers.recv_timeout(DEADLINE).expect("no answer")
    }

    /// Answers until so many blocks are written; fails at the first that is not. Gives the other answers.
    #[track_caller]
    fn written(&self, blocks: usize) -> Vec<DiskDone> {
        let (mut left, mut others) = (blocks as u32, Vec::new());
        while left > 0 {
            match self.answer() {
                DiskDone::Written { span, result, .. } => {
                    result.unwrap();
                    left -= span.len.div_ceil(BLOCK_SIZE);
                }
                other => others.push(other),
            }
        }
        others
    }

    /// Waits for the next hash, over whatever is written meanwhile.
    #[track_caller]
    fn hashed(&self) -> (u32, Result<bool, DiskError>) {
        loop {
            match self.answer() {
                DiskDone::Hashed { piece, passed, .. } => return (piece.get(), passed),
                DiskDone::Written { result, .. } => result.unwrap(),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The pieces that a whole check finds, and its result.
    #[track_caller]
    fn checked(&self) -> (Vec<u32>, Result<(), DiskError>) {
        let (mut have, mut seen) = (Vec::new(), 0);
        loop {
            match self.answer() {
                DiskDone::Checked { piece, have: there, .. } => {
                    seen += 1;
                    have.extend(there.then_some(piece.get()));
                }
                DiskDone::CheckFinished { result, .. } => {
                    assert_eq!(seen, self.layout.geometry().num_pieces());
                    have.sort_unstable();
                    return (have, result);
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    #[track_caller]
    fn read(&self, span: BlockSpan) -> Result<Bytes, DiskError> {
        let asked = ReadToken(u64::from(span.start));
        self.pool.submit(DiskJob::Read { storage: STORAGE, span, token: asked });
        match self.answer() {
            DiskDone::Read { token, data, .. } if token == asked => data,
            other => panic!("unexpected {other:?}"),
        }
    }

    #[track_caller]
    fn close(&self) {
        self.pool.submit(DiskJob::Close { storage: STORAGE, delete_files: false });
        assert!(matches!(self.answer(), DiskDone::Closed { storage: STORAGE }));
    }

    /// Every file has its right content, and nothing else is in the folder.
    #[track_caller]
    fn assert_on_disk(&self) {
        let mut expected: Vec<_> = self.layout.files().iter().filter(|entry| entry.on_disk()).collect();
        expected.sort_by_key(|entry| &entry.path);
        assert_eq!(
            files_below(&self.root),
            expected.iter().map(|entry| entry.path.clone()).collect::<Vec<_>>()
        );
        for entry in expected {
            let right = &self.content[entry.offset as usize..][..entry.length as usize];
            assert!(fs::read(self.root.join(&entry.path)).unwrap() == right, "{:?} differs", entry.path);
        }
    }
}

fn start(buffers: BlockPool) -> (DiskPool, Receiver<DiskDone>) {
    let (sender, answers) = mpsc::channel();
    let pool = DiskPool::new(3, buffers, move |done| {
        assert!(!done.is_empty());
        // The test may have ended without waiting for the rest.
        done.into_iter().for_each(|done| drop(sender.send(done)));
    });
    (pool.unwrap(), answers)
}

fn lay_down(root: &Path, layout: &FileLayout, content: &[u8]) {
    for entry in layout.files().iter().filter(|entry| entry.on_disk()) {
        let path = root.join(&entry.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &content[entry.offset as usize..][..entry.length as usize]).unwrap();
    }
}

/// Random bytes, and zeros in padding.
fn content(layout: &FileLayout) -> Vec<u8> {
    let mut content = vec![0; layout.geometry().total() as usize];
    StdRng::seed_from_u64(1).fill_bytes(&mut content);
    for pad in layout.files().iter().filter(|entry| entry.pad) {
        content[pad.offset as usize..][..pad.length as usize].fill(0);
    }
    content
}

/// Paths of all files below a folder, relative to it and sorted.
fn files_below(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path().strip_prefix(root).unwrap().to_path_buf()),
            }
        }
    }
    files.sort();
    files
}

/// The error names this file and this verb.
#[track_caller]
fn assert_names(error: &DiskError, operation: &str, path: &Path) {
    assert_eq!((error.operation, error.path.as_path()), (operation, path), "{error}");
    assert!(error.to_string().starts_with(&format!("cannot {operation} {}: ", path.display())));
}

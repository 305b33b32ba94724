//! A disk in memory, with the rules of the real one (`host/src/disk`): the jobs of a piece are done in order and all that
//! wait are taken together, pieces overtake each other, a block that is there is not written again, and a piece is hashed
//! a while after its last block was written.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pilotfish::job::{DiskDone, DiskError, DiskJob, MetadataError, ReadToken, StorageId};
use pilotfish::metainfo::resume::{FileStamp, Stamps};
use pilotfish::metainfo::{BlockSpan, FileEntry, FileLayout, Geometry, PieceHashes, PieceIndex};
use pilotfish::wire::BlockPool;
use rand::RngExt;
use rand::rngs::StdRng;

use super::content::{Content, Data, is_numbered, number};

/// The disk of one node.
pub struct Disk {
    /// How long it takes until the jobs of a piece are looked at.
    pub latency: RangeInclusive<Duration>,
    /// Nothing is done before then.
    pub stalled_until: Duration,
    /// So many more writes fail.
    pub failing_writes: usize,
    /// So many more reads fail.
    pub failing_reads: usize,
    /// Reads of these pieces have a wrong bit.
    pub lies: BTreeSet<u32>,
    /// What the system calls the time since it started.
    pub boot: String,
    files: BTreeMap<Key, Files>,
    /// When each file was last modified, by the number of the file.
    modified: BTreeMap<(Key, usize), Duration>,
    storages: BTreeMap<StorageId, Storage>,
    pool: BlockPool,
}

/// The time of day at which a simulation begins, in nanoseconds since 1970.
const EPOCH: i64 = 1_700_000_000_000_000_000;

/// Something that the disk does after a while; see [`Disk::carry_out`].
#[derive(Debug)]
pub enum Visit {
    Answer(Box<DiskDone>),
    Open(StorageId),
    Piece(StorageId, PieceIndex),
    Stamp(StorageId),
}

/// What comes of a job or a visit.
#[derive(Default)]
pub struct Outcome {
    pub answers: Vec<DiskDone>,
    pub visits: Vec<Visit>,
}

/// Folder and torrent.
type Key = (Arc<Path>, String);

enum Files {
    Memory(Vec<u8>),
    /// [`Data::Numbered`], and whether it is there from the start.
    Numbered(bool),
}

struct Storage {
    key: Key,
    layout: Arc<FileLayout>,
    hashes: Arc<PieceHashes>,
    pieces: BTreeMap<PieceIndex, Piece>,
    verified: BTreeSet<PieceIndex>,
    /// Pieces of a check that are not done yet.
    unchecked: u32,
    /// Whether to delete the files.
    closing: Option<bool>,
}

#[derive(Default)]
struct Piece {
    waiting: Vec<PieceJob>,
    /// Blocks that are written, by number.
    written: BTreeSet<u32>,
    /// A numbered block was wrong.
    spoilt: bool,
    /// All blocks have come, and the hash is not done.
    complete: bool,
    scheduled: bool,
}

enum PieceJob {
    Write(BlockSpan, Bytes),
    Forget,
    Read(BlockSpan, ReadToken),
    Digest(BlockSpan, ReadToken),
    Check,
    Restore(Vec<bool>),
}

impl Disk {
    pub fn new(pool: BlockPool) -> Self {
        Self {
            latency: Duration::from_micros(200)..=Duration::from_millis(5),
            stalled_until: Duration::ZERO,
            failing_writes: 0,
            failing_reads: 0,
            lies: BTreeSet::new(),
            boot: "boot".to_owned(),
            files: BTreeMap::new(),
            modified: BTreeMap::new(),
            storages: BTreeMap::new(),
            pool,
        }
    }

    /// Has the files of a torrent there before anything is asked.
    pub fn put(&mut self, folder: impl AsRef<Path>, content: &Content) {
        let files = match &content.data {
            Data::Bytes(bytes) => Files::Memory(bytes.to_vec()),
            Data::Numbered => Files::Numbered(true),
        };
        self.files.insert((folder.as_ref().into(), content.metainfo.name().to_owned()), files);
    }

    /// The process that used the disk is gone, and so is everything that it was told or had asked for; another one begins.
    pub fn restart(&mut self, pool: BlockPool) {
        self.storages.clear();
        self.pool = pool;
    }

    /// Changes a byte of a torrent's data as another program would.
    pub fn spoil(&mut self, folder: impl AsRef<Path>, content: &Content, at: usize, now: Duration) {
        let key = (folder.as_ref().into(), content.metainfo.name().to_owned());
        if let Some(Files::Memory(bytes)) = self.files.get_mut(&key) {
            bytes[at] ^= 1;
        }
        let mut files = content.layout().files().iter();
        let file = files.position(|file| (file.offset..file.offset + file.length).contains(&(at as u64)));
        self.modified.insert((key, file.unwrap()), now);
    }

    /// Has what is written to the files of a numbered torrent looked at, and not kept.
    pub fn expect_numbered(&mut self, folder: impl AsRef<Path>, content: &Content) {
        self.files
            .insert((folder.as_ref().into(), content.metainfo.name().to_owned()), Files::Numbered(false));
    }

    /// The data of a torrent; empty if there is none.
    pub fn bytes(&mut self, folder: impl AsRef<Path>, content: &Content) -> &mut [u8] {
        match self.files.get_mut(&(folder.as_ref().into(), content.metainfo.name().to_owned())) {
            Some(Files::Memory(bytes)) => bytes,
            _ => &mut [],
        }
    }

    /// How long the next visit takes.
    pub fn delay(&self, now: Duration, rng: &mut StdRng) -> Duration {
        let nanos = self.latency.start().as_nanos() as u64..=self.latency.end().as_nanos() as u64;
        (now + Duration::from_nanos(rng.random_range(nanos))).max(self.stalled_until)
    }

    /// Takes a job; what it brings is done later.
    pub fn submit(&mut self, job: DiskJob) -> Outcome {
        match job {
            DiskJob::Open { storage, layout, hashes, root } => {
                let key = (root, layout.name().to_owned());
                let (pieces, verified) = Default::default();
                let fresh = Storage { key, layout, hashes, pieces, verified, unchecked: 0, closing: None };
                assert!(self.storages.insert(storage, fresh).is_none(), "a storage is opened twice");
                Outcome::visit(Visit::Open(storage))
            }
            DiskJob::Check { storage } => self.check(storage, None),
            DiskJob::CheckPieces { storage, pieces, written } => {
                self.check(storage, Some([pieces, written].concat()))
            }
            DiskJob::Stamp { storage } => Outcome::visit(Visit::Stamp(storage)),
            DiskJob::Restore { storage, pieces, unfinished } => self.restore(storage, pieces, unfinished),
            DiskJob::Metadata { storage, info, info_hashes } => {
                let metainfo = MetadataError::check(info, &info_hashes).map(Box::new);
                Outcome::visit(Visit::Answer(Box::new(DiskDone::Metadata { storage, metainfo })))
            }
            DiskJob::Write { storage, span, data } => {
                assert_eq!(data.len(), span.len as usize, "a block and its data differ in length");
                let refused = DiskDone::Written { storage, span, result: Err(error("open", "closed")) };
                self.enqueue(storage, span.piece, PieceJob::Write(span, data), refused)
            }
            DiskJob::Read { storage, span, token } => {
                let refused = DiskDone::Read { storage, span, token, data: Err(error("open", "closed")) };
                self.enqueue(storage, span.piece, PieceJob::Read(span, token), refused)
            }
            DiskJob::Digest { storage, span, token } => {
                let refused = DiskDone::Digest { token, digest: Err(error("open", "closed")) };
                self.enqueue(storage, span.piece, PieceJob::Digest(span, token), refused)
            }
            DiskJob::Forget { storage, piece } => {
                let nothing = DiskDone::Closed { storage };
                let mut outcome = self.enqueue(storage, piece, PieceJob::Forget, nothing);
                outcome.visits.retain(|visit| matches!(visit, Visit::Piece(..)));
                outcome
            }
            DiskJob::Close { storage, delete_files } => match self.storages.get_mut(&storage) {
                Some(open) => {
                    open.closing = Some(delete_files);
                    self.close_if_idle(storage)
                }
                None => Outcome::visit(Visit::Answer(Box::new(DiskDone::Closed { storage }))),
            },
        }
    }

    /// Does what is due.
    pub fn carry_out(&mut self, visit: Visit, now: Duration) -> Outcome {
        match visit {
            // What is complete is hashed before.
            Visit::Stamp(storage) if self.is_hashing(storage) => Outcome::visit(Visit::Stamp(storage)),
            Visit::Stamp(storage) => {
                let stamps = self.stamps(storage, now);
                Outcome { answers: vec![DiskDone::Stamped { storage, stamps }], visits: Vec::new() }
            }
            Visit::Answer(answer) => Outcome { answers: vec![*answer], visits: Vec::new() },
            Visit::Open(storage) => {
                let there = self.storages.get(&storage).map(|open| match self.files.get(&open.key) {
                    Some(Files::Numbered(there)) => *there,
                    Some(Files::Memory(_)) => true,
                    None => false,
                });
                let existing = there.ok_or_else(|| error("open", "closed"));
                Outcome { answers: vec![DiskDone::Opened { storage, existing }], visits: Vec::new() }
            }
            Visit::Piece(storage, piece) => self.visit(storage, piece, now),
        }
    }

    fn is_hashing(&self, storage: StorageId) -> bool {
        self.storages.get(&storage).is_some_and(|open| open.pieces.values().any(|piece| piece.complete))
    }

    /// A file is there once it was written to, in its whole length: the last byte may come first.
    fn stamps(&self, storage: StorageId, now: Duration) -> Stamps {
        let time = |time: Duration| EPOCH + time.as_nanos() as i64;
        let open = self.storages.get(&storage);
        let stamp = |open: &Storage, number: usize, file: &FileEntry| {
            let there = self.files.contains_key(&open.key);
            let modified = self.modified.get(&(open.key.clone(), number)).copied().unwrap_or_default();
            there.then(|| FileStamp { size: file.length, mtime: time(modified) })
        };
        let files = open.iter().flat_map(|open| {
            let files = open.layout.files().iter().enumerate();
            files.map(|(number, file)| stamp(open, number, file)).collect::<Vec<_>>()
        });
        Stamps { at: time(now), boot: Some(self.boot.clone()), files: files.collect() }
    }

    fn restore(
        &mut self,
        storage: StorageId,
        pieces: Vec<PieceIndex>,
        unfinished: Vec<(PieceIndex, Vec<bool>)>,
    ) -> Outcome {
        let Some(open) = self.storages.get_mut(&storage) else { return Outcome::default() };
        open.verified.extend(pieces);
        let mut outcome = Outcome::default();
        for (piece, written) in unfinished {
            let nothing = DiskDone::Closed { storage };
            outcome.visits.extend(self.enqueue(storage, piece, PieceJob::Restore(written), nothing).visits);
        }
        outcome
    }

    fn check(&mut self, storage: StorageId, only: Option<Vec<PieceIndex>>) -> Outcome {
        let Some(open) = self.storages.get_mut(&storage).filter(|open| open.closing.is_none()) else {
            let result = Err(error("open", "closed"));
            return Outcome::visit(Visit::Answer(Box::new(DiskDone::CheckFinished { storage, result })));
        };
        let pieces = only.unwrap_or_else(|| open.layout.geometry().pieces().collect());
        open.unchecked += pieces.len() as u32;
        let mut outcome = Outcome::default();
        for piece in pieces {
            let nothing = DiskDone::Closed { storage };
            outcome.visits.extend(self.enqueue(storage, piece, PieceJob::Check, nothing).visits);
        }
        outcome
    }

    fn enqueue(
        &mut self,
        storage: StorageId,
        piece: PieceIndex,
        job: PieceJob,
        refused: DiskDone,
    ) -> Outcome {
        let Some(open) = self.storages.get_mut(&storage).filter(|open| open.closing.is_none()) else {
            return Outcome::visit(Visit::Answer(Box::new(refused)));
        };
        let queue = open.pieces.entry(piece).or_default();
        queue.waiting.push(job);
        if std::mem::replace(&mut queue.scheduled, true) {
            return Outcome::default();
        }
        Outcome::visit(Visit::Piece(storage, piece))
    }

    fn visit(&mut self, storage: StorageId, piece: PieceIndex, now: Duration) -> Outcome {
        let Some(open) = self.storages.get_mut(&storage) else { return Outcome::default() };
        let queue = open.pieces.entry(piece).or_default();
        let jobs = std::mem::take(&mut queue.waiting);
        queue.scheduled = false;
        let mut outcome = Outcome::default();
        self.hash(storage, piece, &mut outcome.answers);
        let mut blocks = Vec::new();
        for job in jobs {
            // Writes are sorted among themselves, so that neighbours meet. Everything else keeps its place.
            if let PieceJob::Write(span, data) = job {
                blocks.push((span, data));
                continue;
            }
            self.write(storage, piece, std::mem::take(&mut blocks), now, &mut outcome.answers);
            self.hash(storage, piece, &mut outcome.answers);
            self.other(storage, piece, job, &mut outcome.answers);
        }
        self.write(storage, piece, blocks, now, &mut outcome.answers);
        let queue = self.storages.get_mut(&storage).and_then(|open| open.pieces.get_mut(&piece));
        if let Some(queue) = queue.filter(|queue| queue.complete) {
            queue.scheduled = true;
            outcome.visits.push(Visit::Piece(storage, piece));
        }
        outcome.visits.extend(self.close_if_idle(storage).visits);
        outcome
    }

    /// Says whether a piece is right, if all of it has come.
    fn hash(&mut self, storage: StorageId, piece: PieceIndex, answers: &mut Vec<DiskDone>) {
        let Some(open) = self.storages.get_mut(&storage) else { return };
        if open.pieces.get_mut(&piece).is_some_and(|queue| std::mem::take(&mut queue.complete)) {
            let passed = open.is_right(&self.files, piece);
            answers.push(DiskDone::Hashed { storage, piece, passed: Ok(passed) });
        }
    }

    fn write(
        &mut self,
        storage: StorageId,
        piece: PieceIndex,
        mut blocks: Vec<(BlockSpan, Bytes)>,
        now: Duration,
        answers: &mut Vec<DiskDone>,
    ) {
        let Some(open) = self.storages.get_mut(&storage) else { return };
        let geometry = open.layout.geometry();
        blocks.sort_by_key(|(span, _)| span.start);
        for run in blocks.chunk_by(|(left, _), (right, _)| left.end() == right.start) {
            let good = run.iter().position(|_| {
                let fails = self.failing_writes > 0;
                self.failing_writes -= usize::from(fails);
                fails
            });
            let (good, bad) = run.split_at(good.unwrap_or(run.len()));
            for (span, data) in good {
                assert_eq!(geometry.block(piece, span.block_index()), Some(*span), "this is not a block");
                open.write(&mut self.files, *span, data);
                for part in open.layout.spans(*span) {
                    self.modified.insert((open.key.clone(), part.file), now);
                }
            }
            answers.extend(written(storage, good, Ok(())));
            answers.extend(written(storage, bad, Err(error("write", "the disk is full"))));
        }
        let queue = open.pieces.entry(piece).or_default();
        queue.complete = queue.written.len() == geometry.blocks_in(piece) as usize;
    }

    fn other(&mut self, storage: StorageId, piece: PieceIndex, job: PieceJob, answers: &mut Vec<DiskDone>) {
        let Some(open) = self.storages.get_mut(&storage) else { return };
        match job {
            PieceJob::Write(..) => {}
            PieceJob::Forget => {
                open.forget(piece);
                open.verified.remove(&piece);
            }
            PieceJob::Read(span, token) | PieceJob::Digest(span, token) => {
                let fails = self.failing_reads > 0;
                self.failing_reads -= usize::from(fails);
                let data = match fails {
                    true => Err(error("read", "the disk is broken")),
                    false => Ok(open.read(&self.files, &self.pool, span, self.lies.contains(&piece.get()))),
                };
                answers.push(match job {
                    PieceJob::Digest(..) => DiskDone::digest(token, data),
                    _ => DiskDone::Read { storage, span, token, data },
                });
            }
            PieceJob::Restore(written) => {
                let numbers = (0..).zip(written).filter(|(_, written)| *written).map(|(number, _)| number);
                open.pieces.entry(piece).or_default().written = numbers.collect();
            }
            PieceJob::Check => {
                open.unchecked -= 1;
                if open.closing.is_none() {
                    open.forget(piece);
                    let have = open.is_right(&self.files, piece);
                    answers.push(DiskDone::Checked { storage, piece, have });
                }
                if open.unchecked == 0 {
                    answers.push(DiskDone::CheckFinished { storage, result: Ok(()) });
                }
            }
        }
    }

    fn close_if_idle(&mut self, storage: StorageId) -> Outcome {
        let Some(open) = self.storages.get(&storage) else { return Outcome::default() };
        let Some(delete) = open.closing.filter(|_| open.pieces.values().all(|piece| !piece.scheduled)) else {
            return Outcome::default();
        };
        if let Some(closed) = self.storages.remove(&storage).filter(|_| delete) {
            self.files.remove(&closed.key);
        }
        Outcome::visit(Visit::Answer(Box::new(DiskDone::Closed { storage })))
    }
}

impl Outcome {
    fn visit(visit: Visit) -> Self {
        Self { answers: Vec::new(), visits: vec![visit] }
    }
}

impl Storage {
    fn write(&mut self, files: &mut BTreeMap<Key, Files>, span: BlockSpan, data: &Bytes) {
        let (geometry, queue) = (self.layout.geometry(), self.pieces.entry(span.piece).or_default());
        if self.verified.contains(&span.piece) || !queue.written.insert(span.block_index()) {
            return;
        }
        let empty = || Files::Memory(vec![0; geometry.total() as usize]);
        let offset = offset(geometry, span);
        match files.entry(self.key.clone()).or_insert_with(empty) {
            Files::Memory(all) => all[offset as usize..][..data.len()].copy_from_slice(data),
            Files::Numbered(_) => queue.spoilt |= !is_numbered(offset, data),
        }
    }

    /// Hashes a piece, and forgets what was written of it.
    fn is_right(&mut self, files: &BTreeMap<Key, Files>, piece: PieceIndex) -> bool {
        let geometry = self.layout.geometry();
        let right = match files.get(&self.key) {
            Some(Files::Memory(all)) => {
                let start = geometry.offset(piece) as usize;
                let mut hasher = self.hashes.hasher();
                hasher.update(&all[start..][..geometry.piece_size(piece) as usize]);
                self.hashes.matches(piece, &hasher.finish())
            }
            Some(Files::Numbered(_)) => self.pieces.get(&piece).is_none_or(|piece| !piece.spoilt),
            None => false,
        };
        self.forget(piece);
        match right {
            true => self.verified.insert(piece),
            false => self.verified.remove(&piece),
        };
        right
    }

    fn forget(&mut self, piece: PieceIndex) {
        if let Some(piece) = self.pieces.get_mut(&piece) {
            piece.written.clear();
            piece.spoilt = false;
        }
    }

    fn read(&self, files: &BTreeMap<Key, Files>, pool: &BlockPool, span: BlockSpan, lie: bool) -> Bytes {
        let offset = offset(self.layout.geometry(), span);
        let mut buffer = pool.take(span.len);
        let data = buffer.unfilled_mut();
        match files.get(&self.key) {
            Some(Files::Memory(all)) => data.copy_from_slice(&all[offset as usize..][..span.len as usize]),
            Some(Files::Numbered(_)) => data[..8].copy_from_slice(&number(offset)),
            None => {}
        }
        data[0] ^= u8::from(lie);
        buffer.advance(span.len as usize);
        buffer.freeze()
    }
}

fn offset(geometry: Geometry, span: BlockSpan) -> u64 {
    geometry.offset(span.piece) + u64::from(span.start)
}

/// The answer for a run of blocks.
fn written(
    storage: StorageId,
    run: &[(BlockSpan, Bytes)],
    result: Result<(), DiskError>,
) -> Option<DiskDone> {
    let ((first, _), (last, _)) = (run.first()?, run.last()?);
    Some(DiskDone::Written { storage, span: BlockSpan { len: last.end() - first.start, ..*first }, result })
}

fn error(operation: &'static str, text: &str) -> DiskError {
    DiskError { operation, path: "sim".into(), error: Arc::new(io::Error::other(text)) }
}

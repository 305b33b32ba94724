//! Who does what next: the queues of the pool, without a thread or a file.
//!
//! The unit of scheduling is a piece, and where it is is its [`Place`]: jobs that arrive before a worker has it wait in its
//! queue and are taken all together. That alone keeps the jobs of a piece in order. Checks are cut into pieces too, and
//! are taken up when nothing else is ready.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use std::{io, mem};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::checks::{CheckId, CheckRun, Checked, Holes, PieceCheck};
use super::lanes::Lanes;
use super::progress::Progress;
use super::stamps::WaitingStamps;
use super::storage::Storage;
use crate::job::{DiskDone, DiskError, DiskJob, ReadToken, StorageId};
use crate::metainfo::resume::Stamps;
use crate::metainfo::{BlockSpan, InfoHashes, PieceIndex};

/// Everything that waits to be done.
#[derive(Default)]
pub(super) struct Schedule {
    storages: FxHashMap<StorageId, Slot>,
    pieces: FxHashMap<Key, PieceQueue>,
    ready: VecDeque<Ready>,
    lanes: Lanes,
    stamps: WaitingStamps,
    checks: VecDeque<CheckRun>,
    checks_begun: u64,
    /// Only what someone waits for is done.
    stopping: bool,
    /// Ready work taken since a check was last looked at.
    streak: u32,
}

/// What a worker is given. Each one must come back: see [`Schedule::finish`].
pub(super) enum Work {
    /// All jobs that waited for one piece.
    Piece(PieceWork),
    /// Pieces to hash side by side, as far as their blocks are written.
    Hash(Vec<PieceWork>),
    /// Pieces to read and hash side by side.
    Check(Vec<PieceCheck>),
    /// Look whether there are files, and answer.
    Open(Arc<Storage>),
    /// A check is about to begin: let go of files that may have been replaced.
    BeginCheck(Arc<Storage>, Checked),
    /// Look what the files are like, and answer.
    Stamp(Arc<Storage>),
    /// The last piece of a check is done: answer.
    CheckFinished(StorageId, Result<(), DiskError>),
    /// Nothing uses the storage any more: close its files, and answer.
    Close(Arc<Storage>, bool),
    /// An info dictionary that is to be hashed and read.
    Metadata { storage: StorageId, info: Bytes, info_hashes: InfoHashes },
    /// A job that could not be accepted.
    Refused(DiskDone),
}

/// One piece, in the hands of one worker.
pub(super) struct PieceWork {
    pub(super) storage: Arc<Storage>,
    pub(super) piece: PieceIndex,
    pub(super) jobs: Vec<PieceJob>,
    /// What is known about the blocks written so far; `None` before the first.
    pub(super) progress: Option<Box<Progress>>,
}

/// A piece that comes back from a worker.
pub(super) struct PieceDone {
    pub(super) storage: StorageId,
    pub(super) piece: PieceIndex,
    pub(super) progress: Option<Box<Progress>>,
    /// The checks that it was hashed for.
    pub(super) checked: Vec<(CheckId, Result<(), DiskError>)>,
}

/// What can be asked of a piece.
pub(super) enum PieceJob {
    Write {
        span: BlockSpan,
        data: Bytes,
    },
    Forget,
    Read {
        span: BlockSpan,
        token: ReadToken,
    },
    Digest {
        span: BlockSpan,
        token: ReadToken,
    },
    Check(CheckId, Holes),
    /// Which of its blocks are on disk.
    Restore(Vec<bool>),
}

/// What a worker hands back.
pub(super) enum Finished {
    Piece(PieceDone),
    Pieces(Vec<PieceDone>),
    /// The files are as on disk: the check may begin.
    CheckReady(Arc<Storage>, Checked),
    /// A [`Work::Open`], [`Work::Stamp`] or [`Work::CheckFinished`] was answered.
    Step(StorageId),
    /// Nothing waits for this.
    Nothing,
}

impl PieceJob {
    pub(super) fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. })
    }
}

/// Names a piece among those of all storages.
pub(super) type Key = (StorageId, PieceIndex);

enum Ready {
    Piece(Key),
    Other(Work),
}

struct Slot {
    storage: Arc<Storage>,
    /// Pieces that are not idle, checks under way and answers owed. The files can be closed when it is 0.
    active: usize,
    closing: bool,
    /// Whether the files go once they are closed.
    delete_files: bool,
}

#[derive(Default)]
struct PieceQueue {
    waiting: Vec<PieceJob>,
    progress: Option<Box<Progress>>,
    place: Place,
}

/// Where a piece is. All but the first keep its storage from being closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// It has no jobs.
    #[default]
    Idle,
    /// It waits in `ready` for a worker. An entry there of a piece that is elsewhere means nothing.
    Ready,
    /// It is complete, and waits in `lanes` to be hashed together with others.
    Lanes,
    /// A worker has it.
    Worker,
}

/// After so many pieces of other work a waiting check gets its turn, so that it does not starve.
const CHECK_AFTER: u32 = 16;
/// There is room for so much ready work even while there is none; the memory of a burst is given back.
const READY_KEPT: usize = 1_024;

impl Schedule {
    /// Puts a job where it belongs.
    pub(super) fn submit(&mut self, job: DiskJob) {
        match job {
            DiskJob::Open { storage, layout, hashes, root } => {
                self.open(Storage::new(storage, layout, hashes, root));
            }
            DiskJob::Check { storage } => self.check(storage, Checked::Everything),
            DiskJob::CheckPieces { storage, pieces, written } => {
                let zeros = pieces.into_iter().map(|piece| (piece, Holes::Zeros));
                let missing = written.into_iter().map(|piece| (piece, Holes::Missing));
                self.check(storage, Checked::Pieces(zeros.chain(missing).collect()));
            }
            DiskJob::Stamp { storage } => self.stamp(storage),
            DiskJob::Restore { storage, pieces, unfinished } => self.restore(storage, &pieces, unfinished),
            DiskJob::Metadata { storage, info, info_hashes } => {
                self.ready.push_back(Ready::Other(Work::Metadata { storage, info, info_hashes }));
            }
            DiskJob::Close { storage, delete_files } => self.close(storage, delete_files),
            DiskJob::Write { storage, span, data } => {
                if !self.enqueue(storage, span.piece, PieceJob::Write { span, data }) {
                    let result = Err(not_open(storage));
                    self.refuse(DiskDone::Written { storage, span, result });
                }
            }
            DiskJob::Read { storage, span, token } => {
                if !self.enqueue(storage, span.piece, PieceJob::Read { span, token }) {
                    let data = Err(not_open(storage));
                    self.refuse(DiskDone::Read { storage, span, token, data });
                }
            }
            DiskJob::Digest { storage, span, token } => {
                if !self.enqueue(storage, span.piece, PieceJob::Digest { span, token }) {
                    self.refuse(DiskDone::Digest { token, digest: Err(not_open(storage)) });
                }
            }
            DiskJob::Forget { storage, piece } => {
                self.enqueue(storage, piece, PieceJob::Forget);
            }
        }
    }

    /// The next work, if there is any that may be begun now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Work> {
        let lanes = self.lanes.next(now);
        if !lanes.is_empty() {
            return Some(Work::Hash(lanes.into_iter().map(|key| self.take(key)).collect()));
        }
        if self.ready.is_empty() || self.streak >= CHECK_AFTER {
            self.streak = 0;
            if let Some(work) = self.next_of_checks() {
                return Some(work);
            }
        }
        self.streak += 1;
        while let Some(ready) = self.ready.pop_front() {
            match ready {
                Ready::Piece(key) if self.place(key) == Place::Ready => {
                    return Some(Work::Piece(self.take(key)));
                }
                Ready::Piece(_) => {}
                Ready::Other(work) => return Some(work),
            }
        }
        self.ready.shrink_to(READY_KEPT);
        None
    }

    /// The storage, if nothing waits to be done, or is being done, to the piece: what is on disk now is what a read would see.
    pub(super) fn at_rest(&self, storage: StorageId, piece: PieceIndex) -> Option<Arc<Storage>> {
        let slot = self.storages.get(&storage).filter(|slot| !slot.closing)?;
        (self.place((storage, piece)) == Place::Idle).then(|| slot.storage.clone())
    }

    /// Whether it is worth asking for the [`next`](Self::next).
    pub(super) fn has_more(&self, now: Instant) -> bool {
        !self.ready.is_empty() || self.lanes.is_due(now) || self.checks.iter().any(CheckRun::has_more)
    }

    /// When [`next`](Self::next) gives what it does not give yet, even if nothing else happens.
    pub(super) fn due(&self) -> Option<Instant> {
        self.lanes.due()
    }

    /// Takes back what [`next`](Self::next) gave, after it was answered: so `CheckFinished` follows every `Checked`,
    /// and `Closed` follows everything.
    pub(super) fn finish(&mut self, finished: Finished, now: Instant) {
        match finished {
            Finished::Piece(done) => self.put_back(done, now),
            Finished::Pieces(done) => done.into_iter().for_each(|done| self.put_back(done, now)),
            Finished::CheckReady(storage, what) => self.begin_check(storage, what),
            Finished::Step(storage) => self.rest(storage),
            Finished::Nothing => {}
        }
    }

    /// Ends all checks early, and waits for nothing: what is left to do is only what someone waits for.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.cut_checks(|_| true);
        self.lanes.hurry(|_| true);
    }

    fn open(&mut self, storage: Storage) {
        let id = storage.id();
        if self.storages.contains_key(&id) {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, "is open already");
            let existing = Err(storage_error(id, error));
            return self.refuse(DiskDone::Opened { storage: id, existing });
        }
        let storage = Arc::new(storage);
        self.storages
            .insert(id, Slot { storage: storage.clone(), active: 1, closing: false, delete_files: false });
        self.ready.push_back(Ready::Other(Work::Open(storage)));
    }

    fn close(&mut self, id: StorageId, delete_files: bool) {
        let Some(slot) = self.storages.get_mut(&id).filter(|slot| !slot.closing) else {
            return self.refuse(DiskDone::Closed { storage: id });
        };
        slot.closing = true;
        slot.delete_files = delete_files;
        // Keeps the storage until its checks are cut.
        slot.active += 1;
        self.cut_checks(|storage| storage == id);
        self.lanes.hurry(|(storage, _)| storage == id);
        self.rest(id);
    }

    fn check(&mut self, id: StorageId, what: Checked) {
        let Some(slot) = self.storages.get_mut(&id).filter(|slot| !slot.closing) else {
            return self.refuse(DiskDone::CheckFinished { storage: id, result: Err(not_open(id)) });
        };
        slot.active += 1;
        self.ready.push_back(Ready::Other(Work::BeginCheck(slot.storage.clone(), what)));
    }

    /// What is complete by now is hashed first: whoever asks wants to know what became of it.
    fn stamp(&mut self, id: StorageId) {
        let Some(slot) = self.storages.get_mut(&id).filter(|slot| !slot.closing) else {
            return self.refuse(DiskDone::Stamped { storage: id, stamps: Stamps::default() });
        };
        slot.active += 1;
        let storage = slot.storage.clone();
        let begun = |queue: &PieceQueue| matches!(queue.place, Place::Lanes | Place::Worker);
        let pieces = self.pieces.iter().filter(|(key, queue)| key.0 == id && begun(queue));
        self.stamps.add(storage, pieces.map(|(key, _)| key.1).collect());
        self.lanes.hurry(|(storage, _)| storage == id);
        self.begin_stamps();
    }

    fn begin_stamps(&mut self) {
        let begun = self.stamps.begin().map(|storage| Ready::Other(Work::Stamp(storage)));
        self.ready.extend(begun);
    }

    fn restore(&mut self, id: StorageId, pieces: &[PieceIndex], unfinished: Vec<(PieceIndex, Vec<bool>)>) {
        let Some(slot) = self.storages.get(&id) else { return };
        pieces.iter().for_each(|piece| slot.storage.set_verified(*piece, true));
        for (piece, written) in unfinished {
            self.enqueue(id, piece, PieceJob::Restore(written));
        }
    }

    fn begin_check(&mut self, storage: Arc<Storage>, what: Checked) {
        let id = CheckId(self.checks_begun);
        self.checks_begun += 1;
        let end = match &what {
            Checked::Everything => storage.layout().geometry().num_pieces() as usize,
            Checked::Pieces(pieces) => pieces.len(),
        };
        let given_up = self.stopping || self.storages.get(&storage.id()).is_none_or(|slot| slot.closing);
        let next = if given_up { end } else { 0 };
        self.checks.push_back(CheckRun { id, storage, what, next, end, running: 0, result: Ok(()) });
        self.retire_checks();
    }

    /// False if there is no such storage.
    fn enqueue(&mut self, id: StorageId, piece: PieceIndex, job: PieceJob) -> bool {
        let Some(slot) = self.storages.get_mut(&id).filter(|slot| !slot.closing) else { return false };
        let key = (id, piece);
        let queue = self.pieces.entry(key).or_default();
        let hurry = queue.place == Place::Lanes && !job.is_write();
        queue.waiting.push(job);
        if queue.place == Place::Idle {
            queue.place = Place::Ready;
            slot.active += 1;
            self.ready.push_back(Ready::Piece(key));
        }
        if hurry {
            self.lanes.hurry(|lingering| lingering == key);
        }
        true
    }

    fn refuse(&mut self, answer: DiskDone) {
        self.ready.push_back(Ready::Other(Work::Refused(answer)));
    }

    fn place(&self, key: Key) -> Place {
        self.pieces.get(&key).map(|queue| queue.place).unwrap_or_default()
    }

    /// Gives a piece to a worker.
    fn take(&mut self, key: Key) -> PieceWork {
        self.lanes.remove_partial(key);
        let queue = self.pieces.entry(key).or_default();
        let was = mem::replace(&mut queue.place, Place::Worker);
        debug_assert_ne!(was, Place::Worker, "two workers have one piece");
        let (jobs, progress) = (mem::take(&mut queue.waiting), queue.progress.take());
        // A storage stays for as long as one of its pieces is not idle; and one that is idle goes with it.
        let slot = self.storages.get_mut(&key.0).expect("a piece has a storage");
        slot.active += usize::from(was == Place::Idle);
        PieceWork { storage: slot.storage.clone(), piece: key.1, jobs, progress }
    }

    fn put_back(&mut self, done: PieceDone, now: Instant) {
        let PieceDone { storage, piece, progress, checked } = done;
        for (id, result) in checked {
            self.count_checked(id, result);
        }
        let key = (storage, piece);
        let in_a_hurry = self.stopping
            || self.storages.get(&storage).is_none_or(|slot| slot.closing)
            || self.stamps.wait_for(key);
        let queue = self.pieces.entry(key).or_default();
        queue.progress = progress;
        let held = queue.progress.as_deref().map(Progress::held).unwrap_or_default();
        if queue.progress.as_deref().is_some_and(Progress::is_complete) {
            queue.place = Place::Lanes;
            let at_once = in_a_hurry || queue.waiting.iter().any(|job| !job.is_write());
            return self.lanes.add_complete(key, held, at_once, now);
        }
        self.lanes.add_partial(key, held);
        self.stamps.passed(key);
        self.begin_stamps();
        self.give_place(key);
    }

    /// A piece is with no worker, and not complete.
    fn give_place(&mut self, key: Key) {
        let Some(queue) = self.pieces.get_mut(&key) else { return };
        if !queue.waiting.is_empty() {
            queue.place = Place::Ready;
            return self.ready.push_back(Ready::Piece(key));
        }
        queue.place = Place::Idle;
        if queue.progress.is_none() {
            self.pieces.remove(&key);
        }
        self.rest(key.0);
    }

    /// Something that kept the storage busy is over.
    fn rest(&mut self, id: StorageId) {
        let Some(slot) = self.storages.get_mut(&id) else { return };
        slot.active -= 1;
        if slot.active > 0 || !slot.closing {
            return;
        }
        if let Some(slot) = self.storages.remove(&id) {
            for (key, _) in self.pieces.extract_if(|&(storage, _), _| storage == id) {
                self.lanes.remove_partial(key);
            }
            self.ready.push_back(Ready::Other(Work::Close(slot.storage, slot.delete_files)));
        }
    }

    /// Begins the next pieces of the oldest check that has any left. A piece that is busy gets the check as its next job.
    fn next_of_checks(&mut self) -> Option<Work> {
        let mut begun = Vec::new();
        while let Some(run) = self.checks.iter_mut().find(|run| run.has_more()) {
            if begun.len() >= run.lanes() {
                break;
            }
            let next = run.piece(run.next);
            run.next += 1;
            let Some((piece, holes)) = next else { continue };
            run.running += 1;
            let check = PieceCheck { id: run.id, storage: run.storage.clone(), piece, holes };
            let key = (check.storage.id(), piece);
            if self.place(key) == Place::Idle {
                self.take(key);
                begun.push(check);
            } else {
                self.enqueue(key.0, piece, PieceJob::Check(check.id, holes));
            }
        }
        (!begun.is_empty()).then_some(Work::Check(begun))
    }

    fn count_checked(&mut self, id: CheckId, result: Result<(), DiskError>) {
        let Some(run) = self.checks.iter_mut().find(|run| run.id == id) else { return };
        run.running -= 1;
        if run.result.is_ok() {
            run.result = result;
        }
        if run.is_over() {
            self.retire_checks();
        }
    }

    fn cut_checks(&mut self, which: impl Fn(StorageId) -> bool) {
        for run in self.checks.iter_mut().filter(|run| which(run.storage.id())) {
            run.next = run.end;
        }
        self.retire_checks();
    }

    fn retire_checks(&mut self) {
        let ready = &mut self.ready;
        self.checks.retain_mut(|run| {
            if run.is_over() {
                let result = mem::replace(&mut run.result, Ok(()));
                ready.push_back(Ready::Other(Work::CheckFinished(run.storage.id(), result)));
            }
            !run.is_over()
        });
    }
}

fn not_open(storage: StorageId) -> DiskError {
    storage_error(storage, io::Error::new(io::ErrorKind::NotFound, "is not open"))
}

/// For jobs that reach no file: the storage's number stands in its place.
fn storage_error(storage: StorageId, error: io::Error) -> DiskError {
    let path = PathBuf::from(format!("storage {}", storage.0));
    DiskError { operation: "open", path, error: Arc::new(error) }
}

//! The threads.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;
use std::{io, mem};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::files::OpenFiles;
use super::schedule::{Finished, Schedule, Work};
use super::{piece, resident};
use crate::job::{DiskDone, DiskJob, MetadataError, StorageId};
use crate::metainfo::BlockSpan;
use crate::wire::BlockPool;

/// A bounded number of threads that carry out [`DiskJob`]s. Clones are handles to the same threads.
///
/// When the last handle is dropped the pool is [shut down](Self::shutdown).
#[derive(Clone)]
pub struct DiskPool {
    threads: Arc<Threads>,
}

struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    work_came: Condvar,
    files: OpenFiles,
    buffers: BlockPool,
    on_done: Box<OnDone>,
}

type OnDone = dyn Fn(Vec<DiskDone>) + Send + Sync;

#[derive(Default)]
struct Queue {
    schedule: Schedule,
    stopping: bool,
    /// Threads that wake up by themselves when something is due.
    timed: usize,
}

/// What one thread has for itself.
pub(super) struct Worker<'a> {
    pub(super) files: &'a OpenFiles,
    pub(super) buffers: &'a BlockPool,
    chunk: Vec<u8>,
    answers: Vec<DiskDone>,
    on_done: &'a OnDone,
}

/// Bytes that are read at once for a hash. They are hashed while the second-level cache still holds them.
const CHUNK: usize = 256 << 10;

/// The most threads that are started unasked: more of them only wait for the same disk.
const MOST_THREADS: usize = 8;

impl DiskPool {
    /// Starts `threads` threads (at least one). Reads up to a block are answered in buffers from `buffers`.
    ///
    /// `on_done` is called on these threads, several at a time, with at least one answer. It should pass them on and
    /// return; it must not call [`shutdown`](Self::shutdown), nor own a handle to this pool.
    ///
    /// # Errors
    /// The operating system starts no more threads.
    pub fn new(
        threads: usize,
        buffers: BlockPool,
        on_done: impl Fn(Vec<DiskDone>) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work_came: Condvar::new(),
            files: OpenFiles::default(),
            buffers,
            on_done: Box::new(on_done),
        });
        // Made first, so that threads already started end if a later one fails to start.
        let pool = Self { threads: Arc::new(Threads { shared, handles: Mutex::default() }) };
        for number in 0..threads.max(1) {
            let shared = pool.threads.shared.clone();
            let thread = thread::Builder::new().name(format!("disk-{number}"));
            pool.threads.handles.lock().push(thread.spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    /// How many threads this machine keeps busy: one per core, between 1 and 8.
    pub fn default_threads() -> usize {
        thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS))
    }

    /// Hands in a job and returns at once. After [`shutdown`](Self::shutdown) jobs are dropped unanswered.
    pub fn submit(&self, job: DiskJob) {
        self.submit_all([job]);
    }

    /// Hands in several jobs at once, which is cheaper than one by one.
    pub fn submit_all(&self, jobs: impl IntoIterator<Item = DiskJob>) {
        let shared = &self.threads.shared;
        let has_more = {
            let mut queue = shared.queue.lock();
            if queue.stopping {
                return;
            }
            jobs.into_iter().for_each(|job| queue.schedule.submit(job));
            queue.schedule.has_more(Instant::now())
        };
        // One is enough: whoever takes work and leaves some behind wakes the next.
        if has_more {
            shared.work_came.notify_one();
        }
    }

    /// Reads neighbouring blocks of a piece at once, on the calling thread, if all of them are in memory and no job of the piece
    /// is under way. `None` says nothing about the blocks: a [`DiskJob::Read`] of each does. Never waits for a file.
    pub fn read_resident(&self, storage: StorageId, run: &[BlockSpan]) -> Option<Vec<Bytes>> {
        let shared = &self.threads.shared;
        let storage = shared.queue.lock().schedule.at_rest(storage, run.first()?.piece)?;
        resident::read(&storage, &shared.files, &shared.buffers, run)
    }

    /// Does everything that was asked, except that checks end after the pieces in progress, answers it, and ends the
    /// threads. Waits for all that.
    pub fn shutdown(&self) {
        self.threads.shutdown();
    }
}

impl Threads {
    fn shutdown(&self) {
        {
            let mut queue = self.shared.queue.lock();
            queue.stopping = true;
            queue.schedule.stop();
        }
        self.shared.work_came.notify_all();
        for handle in mem::take(&mut *self.handles.lock()) {
            // A thread that panicked has said so; the others still have to be waited for.
            let _ = handle.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    fn work(&self) {
        let mut worker = Worker {
            files: &self.files,
            buffers: &self.buffers,
            chunk: Vec::new(),
            answers: Vec::new(),
            on_done: &*self.on_done,
        };
        let mut finished = Finished::Nothing;
        while let Some(work) = self.next(finished) {
            finished = worker.carry_out(work);
            worker.deliver();
        }
    }

    /// Hands back the last work and waits for the next; `None` if there will be none.
    fn next(&self, finished: Finished) -> Option<Work> {
        let mut queue = self.queue.lock();
        let mut now = Instant::now();
        queue.schedule.finish(finished, now);
        loop {
            if let Some(work) = queue.schedule.next(now) {
                let nobody_waits = queue.timed == 0 && queue.schedule.due().is_some();
                let wake = nobody_waits || queue.schedule.has_more(now);
                drop(queue);
                if wake {
                    self.work_came.notify_one();
                }
                return Some(work);
            }
            // A worker that still holds a piece sees to whatever follows from it.
            if queue.stopping {
                return None;
            }
            match queue.schedule.due() {
                Some(due) => {
                    queue.timed += 1;
                    self.work_came.wait_until(&mut queue, due);
                    queue.timed -= 1;
                }
                None => self.work_came.wait(&mut queue),
            }
            now = Instant::now();
        }
    }
}

impl Worker<'_> {
    /// Notes an answer, to be delivered with others.
    pub(super) fn answer(&mut self, answer: DiskDone) {
        self.answers.push(answer);
    }

    /// Delivers what was answered.
    pub(super) fn deliver(&mut self) {
        self.deliver_if_at_least(1);
    }

    /// Delivers what was answered, if that is worth a delivery.
    pub(super) fn deliver_if_at_least(&mut self, count: usize) {
        if self.answers.len() >= count {
            (self.on_done)(mem::take(&mut self.answers));
        }
    }

    /// A buffer of whole blocks, with anything in it. It exists from the first use.
    pub(super) fn chunk(&mut self) -> &mut [u8] {
        self.chunk.resize(CHUNK, 0);
        &mut self.chunk
    }

    fn carry_out(&mut self, work: Work) -> Finished {
        match work {
            Work::Piece(work) => Finished::Piece(piece::work(work, self)),
            Work::Hash(pieces) => Finished::Pieces(piece::hash(pieces, self)),
            Work::Check(pieces) => Finished::Pieces(piece::check(pieces, self)),
            Work::Open(storage) => {
                self.answer(DiskDone::Opened { storage: storage.id(), existing: storage.exists() });
                Finished::Step(storage.id())
            }
            Work::BeginCheck(storage, what) => {
                self.files.close(storage.id());
                storage.forget_folders();
                Finished::CheckReady(storage, what)
            }
            Work::Stamp(storage) => {
                self.answer(DiskDone::Stamped { storage: storage.id(), stamps: storage.stamps() });
                Finished::Step(storage.id())
            }
            Work::CheckFinished(storage, result) => {
                self.answer(DiskDone::CheckFinished { storage, result });
                Finished::Step(storage)
            }
            Work::Close(storage, delete_files) => {
                self.files.close(storage.id());
                if delete_files {
                    storage.delete_files();
                }
                self.answer(DiskDone::Closed { storage: storage.id() });
                Finished::Nothing
            }
            Work::Metadata { storage, info, info_hashes } => {
                let metainfo = MetadataError::check(info, &info_hashes).map(Box::new);
                self.answer(DiskDone::Metadata { storage, metainfo });
                Finished::Nothing
            }
            Work::Refused(answer) => {
                self.answer(answer);
                Finished::Nothing
            }
        }
    }
}

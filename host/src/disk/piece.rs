//! What a worker does with all the jobs that wait for one piece.

use std::io::{self, ErrorKind};
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::check;
use super::checks::{CheckId, PieceCheck};
use super::files::OpenFiles;
use super::folders::disk_error;
use super::pool::Worker;
use super::progress::Progress;
use super::schedule::{PieceDone, PieceJob, PieceWork};
use super::storage::{Access, Storage};
use crate::job::{DiskDone, DiskError};
use crate::metainfo::{BLOCK_SIZE, BlockSpan, PieceIndex};

/// After so many reads of one piece the answers are delivered, so that the first need not wait for the last.
const READS_PER_DELIVERY: usize = 16;

/// Carries out the jobs in order, delivers the answers, and hands the piece back.
pub(super) fn work(work: PieceWork, worker: &mut Worker<'_>) -> PieceDone {
    let PieceWork { storage, piece, jobs, progress } = work;
    let mut visit = Visit {
        storage: &storage,
        files: worker.files,
        worker,
        piece,
        progress,
        blocks: Vec::new(),
        checked: Vec::new(),
    };
    for job in jobs {
        visit.carry_out(job);
    }
    visit.write_blocks();
    visit.worker.deliver();
    let Visit { progress, checked, .. } = visit;
    PieceDone { storage: storage.id(), piece, progress, checked }
}

/// Hashes pieces side by side, as far as they are written, and then carries out the jobs that came meanwhile.
pub(super) fn hash(mut pieces: Vec<PieceWork>, worker: &mut Worker<'_>) -> Vec<PieceDone> {
    Progress::hash_each(pieces.iter_mut().filter_map(|work| work.progress.as_deref_mut()));
    for work in &mut pieces {
        finish_if_complete(&work.storage, work.piece, &mut work.progress, worker);
    }
    worker.deliver();
    pieces.into_iter().map(|piece| work(piece, worker)).collect()
}

/// Reads and hashes pieces side by side. What is on disk now counts, and nothing that was written before.
pub(super) fn check(pieces: Vec<PieceCheck>, worker: &mut Worker<'_>) -> Vec<PieceDone> {
    let files = worker.files;
    let right = check::are_right(&pieces, files, worker.chunk());
    let done = pieces.into_iter().zip(right).map(|(PieceCheck { id, storage, piece, .. }, right)| {
        let passed = matches!(right, Ok(true));
        storage.set_verified(piece, passed);
        worker.answer(DiskDone::Checked { storage: storage.id(), piece, have: passed });
        let checked = vec![(id, right.map(drop))];
        PieceDone { storage: storage.id(), piece, progress: None, checked }
    });
    let done = done.collect();
    worker.deliver();
    done
}

/// Says whether the piece is right, if all of it is there.
fn finish_if_complete(
    storage: &Storage,
    piece: PieceIndex,
    progress: &mut Option<Box<Progress>>,
    worker: &mut Worker<'_>,
) {
    let Some(progress) = progress.take_if(|progress| progress.is_complete()) else { return };
    let mut access = Access::new(storage, worker.files);
    let digest = progress.finish(&mut access, worker.chunk());
    let passed = digest.map(|digest| storage.hashes().matches(piece, &digest));
    storage.set_verified(piece, matches!(passed, Ok(true)));
    worker.answer(DiskDone::Hashed { storage: storage.id(), piece, passed });
}

/// Neighbours that are written with one call.
const BATCH: usize = 16;

struct Visit<'a, 'w> {
    storage: &'a Arc<Storage>,
    files: &'a OpenFiles,
    worker: &'a mut Worker<'w>,
    piece: PieceIndex,
    progress: Option<Box<Progress>>,
    /// Blocks that were asked for one after the other, with no other job between them.
    blocks: Vec<(BlockSpan, Bytes)>,
    checked: Vec<(CheckId, Result<(), DiskError>)>,
}

impl Visit<'_, '_> {
    fn carry_out(&mut self, job: PieceJob) {
        // Writes may be sorted among themselves, so that neighbours meet. Everything else keeps its place.
        if !job.is_write() {
            self.write_blocks();
            self.hash_if_complete();
        }
        match job {
            PieceJob::Write { span, data } => self.blocks.push((span, data)),
            PieceJob::Forget => {
                self.progress = None;
                self.storage.set_verified(self.piece, false);
            }
            PieceJob::Read { span, token } => {
                let data = self.read(span);
                self.worker.answer(DiskDone::Read { storage: self.storage.id(), span, token, data });
                self.worker.deliver_if_at_least(READS_PER_DELIVERY);
            }
            PieceJob::Digest { span, token } => {
                let digest = DiskDone::digest(token, self.read(span));
                self.worker.answer(digest);
            }
            PieceJob::Check(id, holes) => {
                let (storage, piece) = (self.storage.clone(), self.piece);
                let done = check(vec![PieceCheck { id, storage, piece, holes }], self.worker);
                self.progress = None;
                self.checked.extend(done.into_iter().flat_map(|done| done.checked));
            }
            PieceJob::Restore(written) => {
                let restored = Progress::restored(self.storage, self.piece, &written);
                self.progress = Some(Box::new(restored));
            }
        }
    }

    fn write_blocks(&mut self) {
        if self.blocks.is_empty() {
            return;
        }
        let mut blocks = mem::take(&mut self.blocks);
        blocks.sort_by_key(|(span, _)| span.start);
        let mut access = Access::new(self.storage, self.files);
        for run in blocks.chunk_by(|(left, _), (right, _)| left.end() == right.start) {
            self.write_run(&mut access, run);
        }
        if let Some(progress) = &mut self.progress {
            // What cannot be read back now is tried again when the piece is complete, and reported then.
            let _ = progress.catch_up(&mut access, self.worker.chunk());
        }
        // What nobody holds is free again before the engine hears of it.
        drop(blocks);
        self.worker.deliver();
    }

    fn write_run(&mut self, access: &mut Access<'_>, run: &[(BlockSpan, Bytes)]) {
        let mut written = 0;
        for batch in run.chunks(BATCH) {
            if self.write_at_once(access, batch) {
                written += batch.len();
                continue;
            }
            for (span, data) in batch {
                if let Err(error) = self.write_block(access, *span, data) {
                    self.answer_written(&run[..written], Ok(()));
                    return self.answer_written(&run[written..], Err(error));
                }
                written += 1;
            }
        }
        self.answer_written(run, Ok(()));
    }

    /// Writes neighbours with one call. Whether that was possible: one by one, each gets its own answer.
    fn write_at_once(&mut self, access: &mut Access<'_>, batch: &[(BlockSpan, Bytes)]) -> bool {
        let fresh = |(span, data): &(BlockSpan, Bytes)| {
            self.is_block(*span, data) && self.progress.as_ref().is_none_or(|known| !known.is_written(*span))
        };
        let [(first, _), _, ..] = batch else { return false };
        if self.storage.is_verified(self.piece) || !batch.iter().all(fresh) {
            return false;
        }
        let len = batch.iter().map(|(span, _)| span.len).sum();
        let slices: Vec<&[u8]> = batch.iter().map(|(_, data)| &data[..]).collect();
        if access.write(BlockSpan { len, ..*first }, &slices).is_err() {
            return false;
        }
        batch.iter().for_each(|(span, data)| self.note_written(*span, data));
        true
    }

    fn is_block(&self, span: BlockSpan, data: &[u8]) -> bool {
        let geometry = self.storage.layout().geometry();
        geometry.block(self.piece, span.block_index()) == Some(span) && data.len() == span.len as usize
    }

    fn write_block(
        &mut self,
        access: &mut Access<'_>,
        span: BlockSpan,
        data: &Bytes,
    ) -> Result<(), DiskError> {
        if !self.is_block(span, data) {
            return Err(self.no_such_range("write"));
        }
        // A block that came twice: the data that is there already was, or will be, hashed.
        if self.storage.is_verified(self.piece) {
            return Ok(());
        }
        if self.progress.as_ref().is_none_or(|known| !known.is_written(span)) {
            access.write(span, &[data])?;
            self.note_written(span, data);
        }
        Ok(())
    }

    fn note_written(&mut self, span: BlockSpan, data: &Bytes) {
        let progress = self.progress.get_or_insert_with(|| Box::new(Progress::new(self.storage, self.piece)));
        progress.written(span, data);
    }

    fn answer_written(&mut self, run: &[(BlockSpan, Bytes)], result: Result<(), DiskError>) {
        let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else { return };
        let span = BlockSpan { len: last.end() - first.start, ..*first };
        self.worker.answer(DiskDone::Written { storage: self.storage.id(), span, result });
    }

    /// Whoever asks for something else than a write hears first whether the piece is right.
    fn hash_if_complete(&mut self) {
        if let Some(progress) = self.progress.as_deref_mut().filter(|progress| progress.is_complete()) {
            Progress::hash_each([progress]);
            finish_if_complete(self.storage, self.piece, &mut self.progress, self.worker);
        }
    }

    fn read(&mut self, span: BlockSpan) -> Result<Bytes, DiskError> {
        let geometry = self.storage.layout().geometry();
        if geometry.span(span.piece.get(), span.start, span.len) != Some(span) {
            return Err(self.no_such_range("read"));
        }
        let mut access = Access::new(self.storage, self.files);
        if span.len > BLOCK_SIZE {
            let mut data = vec![0; span.len as usize];
            access.read(span, &mut data)?;
            return Ok(data.into());
        }
        let mut buffer = self.worker.buffers.take(span.len);
        access.read(span, buffer.unfilled_mut())?;
        buffer.advance(span.len as usize);
        Ok(buffer.freeze())
    }

    fn no_such_range(&self, operation: &'static str) -> DiskError {
        let error = io::Error::new(ErrorKind::InvalidInput, "no such block in this torrent");
        disk_error(operation, self.storage.root(), error)
    }
}

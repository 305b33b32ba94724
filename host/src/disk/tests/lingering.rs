//! Pieces that are complete and wait to be hashed together with others, on a clock of the test's own.

use super::super::progress::Progress;
use super::super::schedule::{Finished, PieceDone, PieceWork, Schedule, Work};
use super::super::storage::Storage;
use super::*;
use crate::job::MOST_HELD;

/// A schedule with one torrent, that nobody but the test asks for work.
struct Desk {
    schedule: Schedule,
    disk: Disk,
    now: Instant,
}

impl Desk {
    fn new(pieces: u32, piece_length: u32) -> Self {
        let disk = Disk::new(&[("t", u64::from(pieces) * u64::from(piece_length))], piece_length);
        let mut desk = Self { schedule: Schedule::default(), disk, now: Instant::now() };
        let (layout, hashes) = (desk.disk.layout.clone(), desk.disk.hashes.clone());
        let root = desk.disk.root.as_path().into();
        desk.submit(DiskJob::Open { storage: STORAGE, layout, hashes, root });
        assert!(matches!(desk.next(), Some(Work::Open(_))));
        desk.finish(Finished::Step(STORAGE));
        desk
    }

    /// With one piece that is complete and waits.
    fn with_lingering_piece() -> (Self, PieceIndex) {
        let mut desk = Self::new(2, 32 << 10);
        desk.write_all(0);
        let alone = desk.hash();
        assert_eq!(numbers(&alone), [0]);
        desk.finish_hashed(alone);
        desk.write_all(1);
        assert!(!desk.schedule.has_more(desk.now) && desk.next().is_none());
        let piece = desk.disk.piece(1);
        (desk, piece)
    }

    fn submit(&mut self, job: DiskJob) {
        self.schedule.submit(job);
    }

    fn next(&mut self) -> Option<Work> {
        self.schedule.next(self.now)
    }

    fn finish(&mut self, finished: Finished) {
        self.schedule.finish(finished, self.now);
    }

    fn submit_write(&mut self, span: BlockSpan) {
        let data = Bytes::from_static(&[0; BLOCK_SIZE as usize]);
        self.submit(DiskJob::Write { storage: STORAGE, span, data });
    }

    /// Has blocks of a piece asked for, and takes them as a worker does.
    fn begin(&mut self, blocks: &[BlockSpan]) -> PieceWork {
        blocks.iter().for_each(|&block| self.submit_write(block));
        match self.next() {
            Some(Work::Piece(work)) => work,
            _ => panic!("no piece"),
        }
    }

    /// Hands a piece back, with these blocks written.
    fn end(&mut self, work: PieceWork, blocks: &[BlockSpan]) {
        let new = || Box::new(Progress::new(&work.storage, work.piece));
        let mut progress = work.progress.unwrap_or_else(new);
        let data = Bytes::from_static(&[0; BLOCK_SIZE as usize]);
        blocks.iter().for_each(|&block| progress.written(block, &data));
        self.finish(Finished::Piece(done(&work.storage, work.piece, Some(progress))));
    }

    fn write_all(&mut self, piece: u32) {
        let blocks = self.disk.blocks(piece);
        let work = self.begin(&blocks);
        self.end(work, &blocks);
    }

    #[track_caller]
    fn hash(&mut self) -> Vec<PieceWork> {
        match self.next() {
            Some(Work::Hash(pieces)) => pieces,
            _ => panic!("nothing to hash"),
        }
    }

    fn finish_hashed(&mut self, pieces: Vec<PieceWork>) {
        let hashed = pieces.into_iter().map(|work| done(&work.storage, work.piece, None));
        self.finish(Finished::Pieces(hashed.collect()));
    }
}

fn done(storage: &Storage, piece: PieceIndex, progress: Option<Box<Progress>>) -> PieceDone {
    PieceDone { storage: storage.id(), piece, progress, checked: Vec::new() }
}

fn numbers(pieces: &[PieceWork]) -> Vec<u32> {
    let mut numbers: Vec<_> = pieces.iter().map(|work| work.piece.get()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_piece_is_hashed_when_it_has_waited_long_enough() {
    let (mut desk, _) = Desk::with_lingering_piece();
    let due = desk.schedule.due().unwrap();
    desk.now = due;
    assert!(desk.schedule.has_more(due));
    let pieces = desk.hash();
    assert_eq!(numbers(&pieces), [1]);
    desk.finish_hashed(pieces);
    assert_eq!((desk.schedule.due(), desk.next().is_none()), (None, true));
}

#[test]
fn who_asks_something_of_a_piece_does_not_wait_for_others() {
    let (span, token) = (|desk: &Desk| desk.disk.blocks(1)[0], ReadToken(1));
    let asked: [fn(BlockSpan, ReadToken) -> DiskJob; 3] = [
        |span, token| DiskJob::Read { storage: STORAGE, span, token },
        |span, token| DiskJob::Digest { storage: STORAGE, span, token },
        |span, _| DiskJob::Forget { storage: STORAGE, piece: span.piece },
    ];
    for ask in asked {
        let (mut desk, _) = Desk::with_lingering_piece();
        let span = span(&desk);
        desk.submit_write(span);
        assert!(!desk.schedule.has_more(desk.now), "a block that came twice hurries nobody");
        desk.submit(ask(span, token));
        assert!(desk.schedule.has_more(desk.now));
        let pieces = desk.hash();
        assert_eq!((numbers(&pieces), pieces[0].jobs.len()), (vec![1], 2));
    }
}

#[test]
fn a_check_follows_the_hash_of_a_piece_that_waits() {
    let (mut desk, piece) = Desk::with_lingering_piece();
    desk.submit(DiskJob::Check { storage: STORAGE });
    let Some(Work::BeginCheck(storage, what)) = desk.next() else { panic!("no check") };
    desk.finish(Finished::CheckReady(storage, what));
    // The other piece is idle.
    assert!(matches!(desk.next(), Some(Work::Check(pieces)) if pieces.len() == 1));
    assert!(desk.next().is_none_or(|work| matches!(work, Work::Hash(_))));
    assert!(desk.schedule.at_rest(STORAGE, piece).is_none());
}

#[test]
fn closing_comes_after_the_hash_and_does_not_wait() {
    let (mut desk, _) = Desk::with_lingering_piece();
    desk.submit(DiskJob::Close { storage: STORAGE, delete_files: false });
    assert!(desk.schedule.has_more(desk.now));
    let pieces = desk.hash();
    assert!(desk.next().is_none());
    desk.finish_hashed(pieces);
    assert!(matches!(desk.next(), Some(Work::Close(..))));
}

#[test]
fn a_stamp_comes_after_the_hash_of_what_was_complete() {
    let (mut desk, _) = Desk::with_lingering_piece();
    desk.submit(DiskJob::Stamp { storage: STORAGE });
    let pieces = desk.hash();
    assert!(desk.next().is_none());
    desk.finish_hashed(pieces);
    assert!(matches!(desk.next(), Some(Work::Stamp(_))));
}

#[test]
fn a_stamp_waits_for_a_piece_that_a_worker_completes_and_not_for_one_that_it_does_not() {
    for complete in [true, false] {
        let mut desk = Desk::new(1, 32 << 10);
        let blocks = desk.disk.blocks(0);
        let work = desk.begin(&blocks);
        desk.submit(DiskJob::Stamp { storage: STORAGE });
        assert!(desk.next().is_none());
        desk.end(work, if complete { &blocks } else { &blocks[..1] });
        if complete {
            let pieces = desk.hash();
            desk.finish_hashed(pieces);
        }
        assert!(matches!(desk.next(), Some(Work::Stamp(_))));
    }
}

#[test]
fn a_piece_whose_blocks_fill_the_memory_is_hashed_although_more_wait_to_be_written() {
    let mut desk = Desk::new(2, 2 * MOST_HELD as u32);
    let most = MOST_HELD / BLOCK_SIZE as usize;
    let (first, second) = (desk.disk.blocks(0), desk.disk.blocks(1));
    let (one, other) = (desk.begin(&first[..most]), desk.begin(&second[..1]));
    for block in [first[most], second[1]] {
        desk.submit_write(block);
    }
    desk.end(other, &second[..1]);
    // The only piece that is known to hold something, and a long one.
    let other = desk.hash();
    assert_eq!((numbers(&other), other[0].jobs.len()), (vec![1], 1));
    desk.end(one, &first[..most]);
    let one = desk.hash();
    assert_eq!((numbers(&one), one[0].jobs.len()), (vec![0], 1));
    desk.finish_hashed(one);
    desk.finish_hashed(other);
    assert!(desk.next().is_none(), "what a worker had already is taken up again");
}

use std::iter;

use super::super::schedule::{Finished, PieceDone, Schedule, Work};
use super::*;

/// Takes the next work, and says which pieces it is for and how many jobs it holds.
fn take_pieces(schedule: &mut Schedule) -> Option<(Vec<u32>, usize)> {
    match schedule.next(Instant::now())? {
        Work::Piece(work) => Some((vec![work.piece.get()], work.jobs.len())),
        Work::Check(pieces) => Some((pieces.iter().map(|check| check.piece.get()).collect(), pieces.len())),
        _ => panic!("no piece"),
    }
}

/// A schedule in which a check has just begun, beside the torrent it is of.
fn checking() -> (Schedule, Disk) {
    let disk = Disk::new(&[("t", 640 << 10)], 16 << 10);
    let (layout, hashes) = (disk.layout.clone(), disk.hashes.clone());
    let (mut schedule, now) = (Schedule::default(), Instant::now());
    let root = disk.root.as_path().into();
    schedule.submit(DiskJob::Open { storage: STORAGE, layout, hashes, root });
    assert!(matches!(schedule.next(now), Some(Work::Open(_))));
    schedule.finish(Finished::Step(STORAGE), now);
    schedule.submit(DiskJob::Check { storage: STORAGE });
    let Some(Work::BeginCheck(storage, what)) = schedule.next(now) else { panic!("no check") };
    schedule.finish(Finished::CheckReady(storage, what), now);
    (schedule, disk)
}

fn forget(schedule: &mut Schedule, piece: PieceIndex) {
    schedule.submit(DiskJob::Forget { storage: STORAGE, piece });
}

#[test]
fn a_check_waits_for_other_work_and_does_not_starve() {
    let (mut schedule, disk) = checking();
    (20..40).for_each(|piece| forget(&mut schedule, disk.piece(piece)));
    let taken = iter::from_fn(|| take_pieces(&mut schedule));
    let order: Vec<_> = taken.flat_map(|(pieces, _)| pieces).collect();
    let first_of_check = order.iter().position(|&piece| piece == 0).unwrap();
    assert!((10..=20).contains(&first_of_check), "{order:?}");
    assert_eq!(order.iter().filter(|&&piece| piece < 20).count(), 20);
    assert!(!schedule.has_more(Instant::now()));
}

#[test]
fn a_check_takes_several_pieces_at_once_and_leaves_some_to_others_in_the_end() {
    let (mut schedule, _disk) = checking();
    let taken: Vec<_> =
        iter::from_fn(|| take_pieces(&mut schedule)).map(|(pieces, _)| pieces.len()).collect();
    assert_eq!((taken.iter().sum::<usize>(), taken[0], taken.last()), (40, 4, Some(&1)));
}

#[test]
fn a_piece_is_with_one_worker_at_a_time_and_its_jobs_gather() {
    let (mut schedule, disk) = checking();
    let piece = disk.piece(0);
    assert_eq!(take_pieces(&mut schedule).unwrap().0, [0, 1, 2, 3]);
    (0..3).for_each(|_| forget(&mut schedule, piece));
    assert_eq!(take_pieces(&mut schedule).unwrap().0, [4, 5, 6, 7]);
    let done = PieceDone { storage: STORAGE, piece, progress: None, checked: Vec::new() };
    schedule.finish(Finished::Piece(done), Instant::now());
    assert_eq!(take_pieces(&mut schedule), Some((vec![0], 3)));
}

#[test]
fn shutdown_finishes_and_answers_what_was_queued() {
    let disk = Disk::new(&[("t/a", 3 << 20), ("t/b", 1 << 20)], 256 << 10);
    let blocks = disk.all_blocks();
    disk.pool.submit_all(blocks.iter().map(|&span| {
        let data = disk.right(span);
        DiskJob::Write { storage: STORAGE, span, data }
    }));
    disk.pool.shutdown();
    let answers: Vec<_> = disk.answers.try_iter().collect();
    let written: u32 = answers
        .iter()
        .filter_map(|answer| match answer {
            DiskDone::Written { span, result: Ok(()), .. } => Some(span.len),
            _ => None,
        })
        .sum();
    assert_eq!(u64::from(written), disk.layout.geometry().total());
    let passed = answers.iter().filter(|answer| matches!(answer, DiskDone::Hashed { passed: Ok(true), .. }));
    assert_eq!(passed.count(), 16);
    disk.assert_on_disk();
    disk.write(blocks[0]);
    assert!(disk.answers.try_recv().is_err(), "answered after the end");
}

#[test]
fn closed_comes_after_everything_else() {
    let disk = Disk::new(&[("t", 2 << 20)], 64 << 10);
    disk.check();
    disk.all_blocks().into_iter().for_each(|block| disk.write(block));
    disk.pool.submit(DiskJob::Close { storage: STORAGE, delete_files: false });
    let (mut written, mut finished) = (0, 0);
    loop {
        match disk.answer() {
            DiskDone::Written { span, .. } => written += span.len,
            DiskDone::CheckFinished { .. } => finished += 1,
            DiskDone::Closed { .. } => break,
            _ => {}
        }
    }
    assert_eq!((written, finished), (2 << 20, 1));
    disk.pool.shutdown();
    assert!(disk.answers.try_recv().is_err());
}

#[test]
fn an_unknown_or_closed_storage_is_refused() {
    let disk = Disk::new(&[("t", 10)], 16_384);
    disk.close();
    let block = disk.blocks(0)[0];
    assert_eq!(disk.read(block).unwrap_err().to_string(), "cannot open storage 7: is not open");
    disk.write(block);
    assert!(matches!(disk.answer(), DiskDone::Written { result: Err(_), .. }));
    disk.check();
    assert!(matches!(disk.answer(), DiskDone::CheckFinished { result: Err(_), .. }));
    disk.close();
    assert!(!disk.root.exists());
}

#[test]
fn a_storage_is_opened_once() {
    let disk = Disk::new(&[("t", 10)], 16_384);
    disk.open();
    assert!(matches!(disk.answer(), DiskDone::Opened { existing: Err(_), .. }));
    disk.write(disk.blocks(0)[0]);
    assert!(disk.hashed().1.unwrap());
}

#[test]
fn empty_files_are_made_by_the_first_write_and_by_nothing_else() {
    let disk = Disk::new(&[("t/a", 16_384), ("t/b", 16_384), ("t/none/empty", 0)], 16_384);
    disk.check();
    disk.checked().1.unwrap();
    assert!(!disk.root.exists());
    disk.write(disk.blocks(1)[0]);
    assert!(disk.hashed().1.unwrap());
    assert_eq!(files_below(&disk.root), ["t/b", "t/none/empty"].map(PathBuf::from));
}

#[test]
fn dropping_the_last_handle_ends_the_threads() {
    let disk = Disk::new(&[("t", 10)], 16_384);
    let (answers, pool) = (disk.answers, disk.pool.clone());
    drop(disk.pool);
    drop(pool);
    // The senders lived in the pool.
    assert!(matches!(answers.recv_timeout(DEADLINE), Err(mpsc::RecvTimeoutError::Disconnected)));
}

#[test]
fn many_storages_at_once_stay_apart() {
    let disks = [(); 4].map(|()| Disk::new(&[("t/a", 300_000), ("t/b", 200_000)], 65_536));
    for block in disks[0].all_blocks() {
        disks.iter().for_each(|disk| disk.write(block));
    }
    for disk in &disks {
        for _ in 0..disk.layout.geometry().num_pieces() {
            assert!(disk.hashed().1.unwrap());
        }
        disk.assert_on_disk();
    }
}

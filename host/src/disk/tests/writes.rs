use rand::seq::SliceRandom;

use super::*;
use crate::job::MOST_HELD;

const FILES: &[(&str, u64)] =
    &[("t/a", 100_000), ("t/sub/b", 1), ("t/empty", 0), ("t/sub/deeper/c", 70_000), ("t/d", 33_333)];

#[test]
fn blocks_in_order_make_files() {
    let disk = Disk::new(FILES, 65_536);
    assert!(!disk.existing.as_ref().unwrap());
    assert!(!disk.root.exists(), "opening made something");
    disk.all_blocks().into_iter().for_each(|block| disk.write(block));
    let mut pieces: Vec<_> =
        (0..4).map(|_| disk.hashed()).map(|(piece, passed)| (piece, passed.unwrap())).collect();
    pieces.sort_unstable();
    assert_eq!(pieces, [(0, true), (1, true), (2, true), (3, true)]);
    disk.close();
    disk.assert_on_disk();
    assert_eq!(disk.buffers.in_use(), 0);
}

#[test]
fn blocks_in_any_order_make_the_same_files() {
    for seed in 0..20 {
        let disk = Disk::new(FILES, 100_000);
        let mut blocks = disk.all_blocks();
        blocks.shuffle(&mut StdRng::seed_from_u64(seed));
        // Alone and in batches, so that runs are cut in many ways.
        for batch in blocks.chunks(1 + seed as usize % 5) {
            disk.pool.submit_all(batch.iter().map(|&span| {
                let data = disk.right(span);
                DiskJob::Write { storage: STORAGE, span, data }
            }));
        }
        for _ in 0..3 {
            assert!(disk.hashed().1.unwrap(), "seed {seed}");
        }
        disk.close();
        disk.assert_on_disk();
    }
}

#[test]
fn hashed_follows_the_last_written_and_comes_once() {
    let disk = Disk::new(&[("t", 64 << 10)], 64 << 10);
    let blocks = disk.blocks(0);
    for block in [3, 1, 0] {
        disk.write(blocks[block]);
        assert!(disk.written(1).is_empty());
    }
    disk.write(blocks[2]);
    assert!(disk.written(1).is_empty());
    assert!(matches!(disk.answer(), DiskDone::Hashed { passed: Ok(true), .. }));
    disk.close();
}

#[test]
fn neighbours_are_answered_as_one_run() {
    let disk = Disk::new(&[("t", 64 << 10)], 64 << 10);
    let blocks = disk.blocks(0);
    disk.pool.submit_all([3, 1, 0].map(|block| {
        let (span, data) = (blocks[block], disk.right(blocks[block]));
        DiskJob::Write { storage: STORAGE, span, data }
    }));
    for expected in [BlockSpan { len: 2 * BLOCK_SIZE, ..blocks[0] }, blocks[3]] {
        assert!(matches!(disk.answer(), DiskDone::Written { span, result: Ok(()), .. } if span == expected));
    }
}

#[test]
fn of_a_block_that_comes_twice_the_first_counts() {
    let disk = Disk::new(&[("t", 32 << 10)], 32 << 10);
    let blocks = disk.blocks(0);
    let wrong = Bytes::from(vec![0; BLOCK_SIZE as usize]);
    disk.write(blocks[0]);
    disk.write_data(blocks[0], wrong.clone());
    assert!(disk.written(2).is_empty());
    disk.write(blocks[1]);
    assert!(disk.hashed().1.unwrap());
    disk.write_data(blocks[1], wrong.clone());
    assert!(disk.written(1).is_empty());
    disk.assert_on_disk();
    disk.forget(0);
    disk.write_data(blocks[1], wrong);
    disk.write(blocks[0]);
    assert!(!disk.hashed().1.unwrap());
}

#[test]
fn a_piece_that_failed_is_forgotten_and_written_anew() {
    let disk = Disk::new(&[("t", 48 << 10)], 48 << 10);
    let blocks = disk.blocks(0);
    disk.write_data(blocks[1], Bytes::from(vec![0; BLOCK_SIZE as usize]));
    disk.write(blocks[0]);
    disk.write(blocks[2]);
    assert!(!disk.hashed().1.unwrap());
    // A straggler of the first round must not count in the second.
    disk.write_data(blocks[1], Bytes::from(vec![1; BLOCK_SIZE as usize]));
    assert!(disk.written(1).is_empty());
    disk.forget(0);
    blocks.iter().for_each(|&block| disk.write(block));
    assert!(disk.hashed().1.unwrap());
    disk.close();
    disk.assert_on_disk();
}

#[test]
fn forgetting_halfway_expects_every_block_anew() {
    let disk = Disk::new(&[("t", 32 << 10)], 32 << 10);
    let blocks = disk.blocks(0);
    disk.write(blocks[0]);
    assert!(disk.written(1).is_empty());
    disk.forget(0);
    disk.write(blocks[1]);
    assert!(disk.written(1).is_empty());
    disk.write(blocks[0]);
    assert!(disk.hashed().1.unwrap());
}

#[test]
fn what_is_asked_right_after_the_last_block_comes_after_the_hash() {
    let disk = Disk::new(&[("t", 320 << 10)], 32 << 10);
    let pieces = disk.layout.geometry().num_pieces();
    for together in [true, false] {
        let write = |span| DiskJob::Write { storage: STORAGE, span, data: disk.right(span) };
        let forget = |piece| DiskJob::Forget { storage: STORAGE, piece: disk.piece(piece) };
        let writes = disk.all_blocks().into_iter().map(write);
        let forgets = (0..pieces).map(forget);
        if together {
            disk.pool.submit_all(writes.chain(forgets));
        } else {
            writes.chain(forgets).for_each(|job| disk.pool.submit(job));
        }
        for _ in 0..pieces {
            assert!(disk.hashed().1.unwrap());
        }
    }
    disk.close();
    assert_eq!(disk.buffers.in_use(), 0);
}

#[test]
fn a_long_piece_does_not_stay_in_memory_while_it_is_written() {
    const MOST_QUEUED: usize = 2 << 20;
    let disk = Disk::new(&[("t", 16 << 20)], 16 << 20);
    let mut queued = 0;
    for batch in disk.blocks(0).chunks(64) {
        disk.pool.submit_all(batch.iter().map(|&span| {
            let mut buffer = disk.buffers.take(span.len);
            buffer.extend(&disk.right(span));
            DiskJob::Write { storage: STORAGE, span, data: buffer.freeze() }
        }));
        queued += 1 << 20;
        while queued > MOST_QUEUED {
            let DiskDone::Written { span, result: Ok(()), .. } = disk.answer() else { panic!("not written") };
            queued -= span.len as usize;
        }
        // A worker's own are those that it was given at once.
        let most = MOST_HELD + 2 * MOST_QUEUED;
        assert!(disk.buffers.in_use() * BLOCK_SIZE as usize <= most, "{} blocks", disk.buffers.in_use());
    }
    assert!(disk.hashed().1.unwrap());
    disk.close();
    assert_eq!(disk.buffers.in_use(), 0);
}

#[test]
fn what_cannot_be_read_back_is_an_error_of_the_hash() {
    let disk = Disk::new(&[("t", 48 << 10)], 48 << 10);
    let blocks = disk.blocks(0);
    for block in [1, 2] {
        disk.write(blocks[block]);
        assert!(disk.written(1).is_empty());
    }
    fs::OpenOptions::new().write(true).open(disk.root.join("t")).unwrap().set_len(0).unwrap();
    disk.write(blocks[0]);
    assert_names(&disk.hashed().1.unwrap_err(), "read", &disk.root.join("t"));
    blocks.iter().for_each(|&block| disk.write(block));
    assert!(disk.hashed().1.unwrap());
}

#[test]
fn padding_is_not_on_disk_and_hashes_as_zeros() {
    let pad = FileEntry { pad: true, ..FileEntry::new(".pad/30000", 30_000) };
    let files = vec![FileEntry::new("t/a", 35_536), pad, FileEntry::new("t/b", 10)];
    let disk = Disk::prepared(files, 65_536, |_, _, _| {});
    // The last block first: those before it are read back.
    let mut blocks = disk.all_blocks();
    blocks.reverse();
    for block in blocks {
        disk.write(block);
        disk.written(1);
    }
    disk.close_after_hashes();
    disk.assert_on_disk();
    let padding = disk.blocks(0)[3];
    disk.open();
    disk.answer();
    assert_eq!(disk.read(padding).unwrap(), vec![0; BLOCK_SIZE as usize]);
}

#[test]
fn more_files_than_may_be_open_are_all_written() {
    let names: Vec<_> = (0..super::super::OPEN_FILES * 2).map(|i| format!("t/{i:04}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), 5_000)).collect();
    let disk = Disk::new(&files, 40_000);
    disk.all_blocks().into_iter().for_each(|block| disk.write(block));
    disk.written(disk.all_blocks().len());
    disk.close_after_hashes();
    disk.assert_on_disk();
}

#[cfg(unix)]
#[test]
fn an_executable_is_made_executable() {
    use std::os::unix::fs::PermissionsExt;
    let files =
        vec![FileEntry { executable: true, ..FileEntry::new("t/run", 5) }, FileEntry::new("t/data", 5)];
    let disk = Disk::prepared(files, 16_384, |_, _, _| {});
    disk.write(disk.blocks(0)[0]);
    assert!(disk.hashed().1.unwrap());
    let mode = |path| fs::metadata(disk.root.join(path)).unwrap().permissions().mode() & 0o100;
    assert_eq!((mode("t/run"), mode("t/data")), (0o100, 0));
}

#[test]
fn a_range_that_is_no_block_is_refused() {
    let disk = Disk::new(&[("t", 48 << 10)], 48 << 10);
    let block = disk.blocks(0)[0];
    let other = Disk::new(&[("t", 48 << 10)], 16 << 10);
    for (span, len) in [
        (BlockSpan { start: 1, ..block }, BLOCK_SIZE),
        (BlockSpan { len: 2 * BLOCK_SIZE, ..block }, 2 * BLOCK_SIZE),
        (BlockSpan { piece: other.piece(2), ..block }, BLOCK_SIZE),
        (block, 5),
    ] {
        disk.write_data(span, Bytes::from(vec![0; len as usize]));
        let DiskDone::Written { result: Err(error), .. } = disk.answer() else { panic!("accepted {span:?}") };
        assert_names(&error, "write", &disk.root);
    }
}

impl Disk {
    /// Closes, over the hashes that are still to come.
    #[track_caller]
    fn close_after_hashes(&self) {
        self.pool.submit(DiskJob::Close { storage: STORAGE, delete_files: false });
        loop {
            match self.answer() {
                DiskDone::Hashed { passed, .. } => assert!(passed.unwrap()),
                DiskDone::Closed { .. } => return,
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

use super::*;

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
    disk.pool.submit(DiskJob::Close { storage: STORAGE });
    let (mut hashed, mut finished) = (0, 0);
    loop {
        match disk.answer() {
            DiskDone::Hashed { .. } => hashed += 1,
            DiskDone::CheckFinished { .. } => finished += 1,
            DiskDone::Closed { .. } => break,
            _ => {}
        }
    }
    assert_eq!(finished, 1);
    // A check forgets what was written before its turn, so not every piece need be complete.
    assert!(hashed <= 32);
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

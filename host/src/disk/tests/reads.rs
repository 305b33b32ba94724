use super::*;

const FILES: &[(&str, u64)] = &[("t/a", 20_000), ("t/b", 100), ("t/c", 80_000)];

#[test]
fn a_block_is_read_across_files_into_a_pooled_buffer() {
    let disk = Disk::seeded(FILES, 65_536);
    assert!(disk.existing.as_ref().unwrap());
    for block in disk.all_blocks() {
        let data = disk.read(block).unwrap();
        assert_eq!(data, disk.right(block));
        assert_eq!(disk.buffers.in_use(), 1);
    }
    assert_eq!(disk.buffers.in_use(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_in_memory_is_read_at_once() {
    let disk = Disk::seeded(FILES, 65_536);
    let blocks = disk.all_blocks();
    for block in blocks {
        // The worker has answered, and hands the piece back at this moment.
        let deadline = Instant::now() + DEADLINE;
        let data = loop {
            match disk.pool.read_resident(STORAGE, &[block]) {
                None if Instant::now() < deadline => std::thread::yield_now(),
                data => break data,
            }
        };
        assert_eq!(data, Some(vec![disk.right(block)]));
    }
    assert_eq!(disk.buffers.in_use(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn neighbours_in_memory_are_read_together_across_files() {
    let disk = Disk::seeded(FILES, 65_536);
    let blocks = disk.blocks(0);
    disk.read(blocks[0]).unwrap();
    let deadline = Instant::now() + DEADLINE;
    let data = loop {
        match disk.pool.read_resident(STORAGE, &blocks) {
            None if Instant::now() < deadline => std::thread::yield_now(),
            data => break data.unwrap(),
        }
    };
    assert_eq!(data, blocks.iter().map(|block| disk.right(*block)).collect::<Vec<_>>());
    assert_eq!(disk.pool.read_resident(STORAGE, &[blocks[0], blocks[2]]), None);
    assert_eq!(disk.pool.read_resident(STORAGE, &[]), None);
}

#[test]
fn what_is_not_there_or_not_a_block_is_not_read_at_once() {
    let disk = Disk::seeded(FILES, 65_536);
    let block = disk.blocks(0)[3];
    disk.read(block).unwrap();
    for span in [BlockSpan { len: block.len + 1, ..block }, BlockSpan { len: 0, ..block }] {
        assert_eq!(disk.pool.read_resident(STORAGE, &[span]), None);
    }
    assert_eq!(disk.pool.read_resident(StorageId(99), &[block]), None);
    fs::OpenOptions::new().write(true).open(disk.root.join("t/c")).unwrap().set_len(30_000).unwrap();
    assert_eq!(disk.pool.read_resident(STORAGE, &[block]), None);
    disk.close();
    assert_eq!(disk.pool.read_resident(STORAGE, &disk.blocks(0)[..1]), None);
}

#[test]
fn a_range_longer_than_a_block_is_read_too() {
    let disk = Disk::seeded(FILES, 65_536);
    let span = disk.layout.geometry().span(0, 3, 60_000).unwrap();
    assert_eq!(disk.read(span).unwrap(), disk.right(span));
    assert_eq!(disk.buffers.in_use(), 0);
}

#[test]
fn reading_beyond_the_end_of_a_file_names_it() {
    let disk = Disk::seeded(FILES, 65_536);
    let path = disk.root.join("t/c");
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(30_000).unwrap();
    let blocks = disk.blocks(0);
    assert_eq!(disk.read(blocks[2]).unwrap(), disk.right(blocks[2]));
    assert_names(&disk.read(blocks[3]).unwrap_err(), "read", &path);
    assert_eq!(disk.buffers.in_use(), 0);
}

#[test]
fn reading_a_missing_file_names_it() {
    let disk = Disk::new(FILES, 65_536);
    assert_names(&disk.read(disk.blocks(0)[0]).unwrap_err(), "open", &disk.root.join("t/a"));
    assert!(!disk.root.exists());
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let disk = Disk::new(&[("t/a", 10)], 16_384);
    fs::create_dir_all(disk.root.join("t/a")).unwrap();
    assert_names(&disk.read(disk.blocks(0)[0]).unwrap_err(), "open", &disk.root.join("t/a"));
    disk.write(disk.blocks(0)[0]);
    let DiskDone::Written { result: Err(error), .. } = disk.answer() else { panic!("wrote a folder") };
    assert_names(&error, "open", &disk.root.join("t/a"));
    disk.check();
    assert_names(&disk.checked().1.unwrap_err(), "open", &disk.root.join("t/a"));
}

#[test]
fn a_read_sees_the_writes_before_it() {
    let disk = Disk::new(&[("t", 1 << 20)], 1 << 20);
    for block in disk.all_blocks() {
        let token = ReadToken(block.start.into());
        disk.pool.submit_all([
            DiskJob::Write { storage: STORAGE, span: block, data: disk.right(block) },
            DiskJob::Read { storage: STORAGE, span: block, token },
        ]);
    }
    let mut reads = 0;
    while reads < disk.all_blocks().len() {
        if let DiskDone::Read { span, data, .. } = disk.answer() {
            assert_eq!(data.unwrap(), disk.right(span));
            reads += 1;
        }
    }
}

#[test]
fn a_range_outside_the_piece_is_refused() {
    let disk = Disk::seeded(FILES, 65_536);
    let block = disk.blocks(0)[3];
    let too_long = BlockSpan { len: block.len + 1, ..block };
    assert_names(&disk.read(too_long).unwrap_err(), "read", &disk.root);
    assert_names(&disk.read(BlockSpan { len: 0, ..block }).unwrap_err(), "read", &disk.root);
}

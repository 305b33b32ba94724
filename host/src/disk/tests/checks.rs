use super::*;

const FILES: &[(&str, u64)] = &[("t/a", 40_000), ("t/b", 40_000), ("t/c", 40_000)];

#[test]
fn a_check_finds_what_is_right() {
    let disk = Disk::seeded(FILES, 16_384);
    disk.check();
    let (have, result) = disk.checked();
    assert_eq!(have, (0..8).collect::<Vec<_>>());
    result.unwrap();
}

#[test]
fn pieces_longer_than_a_chunk_are_hashed_whole() {
    let disk = Disk::seeded(&[("t/a", 700_000), ("t/b", 1_000_000)], 1 << 20);
    disk.check();
    assert_eq!(disk.checked().0, [0, 1]);
}

#[test]
fn pieces_that_are_read_side_by_side_are_told_apart() {
    let disk = Disk::seeded(
        &[("t/a", 6_000_000), ("t/b", 6_000_000), ("t/c", 6_000_000), ("t/d", 5_700_001)],
        600_000,
    );
    let path = disk.root.join("t/a");
    let mut bytes = fs::read(&path).unwrap();
    bytes[5 * 600_000] ^= 1;
    bytes[7 * 600_000 - 1] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::remove_file(disk.root.join("t/b")).unwrap();
    fs::OpenOptions::new().write(true).open(disk.root.join("t/c")).unwrap().set_len(5_999_999).unwrap();
    disk.check();
    let (have, result) = disk.checked();
    let wrong = |piece: &u32| [5, 6, 29].contains(piece) || (10..20).contains(piece);
    assert_eq!(have, (0..40).filter(|piece| !wrong(piece)).collect::<Vec<_>>());
    result.unwrap();
}

#[test]
fn missing_and_short_files_are_not_had_and_no_error() {
    let disk = Disk::seeded(FILES, 16_384);
    fs::remove_file(disk.root.join("t/b")).unwrap();
    fs::OpenOptions::new().write(true).open(disk.root.join("t/c")).unwrap().set_len(39_999).unwrap();
    disk.check();
    let (have, result) = disk.checked();
    assert_eq!(have, [0, 1, 5, 6]);
    result.unwrap();
}

#[test]
fn nothing_on_disk_is_nothing_had() {
    let disk = Disk::new(FILES, 16_384);
    disk.check();
    let (have, result) = disk.checked();
    assert!(have.is_empty() && !disk.root.exists());
    result.unwrap();
}

#[test]
fn a_damaged_piece_is_not_had() {
    let disk = Disk::seeded(FILES, 16_384);
    let path = disk.root.join("t/a");
    let mut bytes = fs::read(&path).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    disk.check();
    assert_eq!(disk.checked().0, [0, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_second_check_sees_files_that_were_replaced() {
    let disk = Disk::seeded(FILES, 16_384);
    disk.check();
    assert_eq!(disk.checked().0.len(), 8);
    fs::remove_dir_all(&disk.root).unwrap();
    disk.check();
    assert!(disk.checked().0.is_empty());
}

#[test]
fn a_check_forgets_what_was_written_before() {
    let disk = Disk::new(&[("t", 32 << 10)], 32 << 10);
    let blocks = disk.blocks(0);
    disk.write(blocks[0]);
    disk.written(1);
    disk.check();
    assert!(disk.checked().0.is_empty());
    disk.write(blocks[1]);
    assert!(disk.written(1).is_empty());
    disk.write(blocks[0]);
    assert!(disk.hashed().1.unwrap());
}

#[test]
fn a_verified_piece_that_was_deleted_is_written_again_after_a_check() {
    let disk = Disk::seeded(&[("t/a", 16 << 10)], 16 << 10);
    disk.check();
    assert_eq!(disk.checked().0, [0]);
    fs::remove_dir_all(&disk.root).unwrap();
    disk.check();
    assert!(disk.checked().0.is_empty());
    disk.write(disk.blocks(0)[0]);
    assert!(disk.hashed().1.unwrap());
    disk.assert_on_disk();
}

#[test]
fn closing_ends_a_check_early_and_says_so_in_order() {
    let disk = Disk::seeded(&[("t", 4 << 20)], 16_384);
    disk.check();
    disk.pool.submit(DiskJob::Close { storage: STORAGE, delete_files: false });
    let mut finished = 0;
    loop {
        match disk.answer() {
            DiskDone::Checked { have, .. } => assert!(have && finished == 0),
            DiskDone::CheckFinished { .. } => finished += 1,
            DiskDone::Closed { .. } => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(finished, 1);
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_is_an_error_that_names_it() {
    use std::os::unix::fs::PermissionsExt;
    let disk = Disk::seeded(FILES, 16_384);
    let path = disk.root.join("t/b");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_ok() {
        return; // Permissions do not bind root.
    }
    disk.check();
    let (have, result) = disk.checked();
    assert_eq!(have, [0, 1, 5, 6, 7]);
    assert_names(&result.unwrap_err(), "open", &path);
}

use super::*;

#[track_caller]
fn write_fails(disk: &Disk) -> DiskError {
    disk.write(disk.blocks(0)[0]);
    match disk.answer() {
        DiskDone::Written { result: Err(error), .. } => error,
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let disk = Disk::prepared(vec![FileEntry::new("t/a/b", 10)], 16_384, |root, _, _| {
        fs::create_dir_all(root).unwrap();
        fs::write(root.join("t"), "in the way").unwrap();
    });
    let error = write_fails(&disk);
    assert_eq!((error.operation, error.path), ("create", disk.root.join("t/a")));
    assert_eq!(fs::read(disk.root.join("t")).unwrap(), b"in the way");
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_gives_an_error_that_names_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let disk = Disk::prepared(vec![FileEntry::new("t/a", 10)], 16_384, |root, _, _| {
        fs::create_dir_all(root.join("t")).unwrap();
        fs::set_permissions(root.join("t"), fs::Permissions::from_mode(0o555)).unwrap();
    });
    if fs::write(disk.root.join("t/probe"), "").is_ok() {
        return; // Permissions do not bind root.
    }
    assert_names(&write_fails(&disk), "create", &disk.root.join("t/a"));
}

/// What a read-only folder is to a user, this is to everyone: nobody makes files in it.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_files_gives_an_error_that_names_the_file() {
    let mut disk = Disk::new(&[("a", 10)], 16_384);
    disk.close();
    disk.root = "/proc/self".into();
    disk.open();
    disk.answer();
    assert_names(&write_fails(&disk), "create", Path::new("/proc/self/a"));
}

#[test]
fn an_error_of_one_block_does_not_spoil_the_piece() {
    let disk = Disk::prepared(
        vec![FileEntry::new("t/a", 16_384), FileEntry::new("t/b", 32_768)],
        49_152,
        |root, _, _| fs::create_dir_all(root.join("t/b")).unwrap(),
    );
    let blocks = disk.blocks(0);
    disk.pool.submit_all(blocks.iter().map(|&span| {
        let data = disk.right(span);
        DiskJob::Write { storage: STORAGE, span, data }
    }));
    assert!(matches!(disk.answer(), DiskDone::Written { span, result: Ok(()), .. } if span == blocks[0]));
    let rest = BlockSpan { len: 32_768, ..blocks[1] };
    assert!(matches!(disk.answer(), DiskDone::Written { span, result: Err(_), .. } if span == rest));
    fs::remove_dir(disk.root.join("t/b")).unwrap();
    disk.write(blocks[1]);
    disk.write(blocks[2]);
    assert!(disk.hashed().1.unwrap());
    disk.assert_on_disk();
}

#[test]
fn a_piece_that_cannot_be_read_back_names_the_file_and_starts_over() {
    let disk = Disk::new(&[("t", 32 << 10)], 32 << 10);
    let (blocks, path) = (disk.blocks(0), disk.root.join("t"));
    disk.write(blocks[1]);
    disk.written(1);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    disk.write(blocks[0]);
    assert_names(&disk.hashed().1.unwrap_err(), "read", &path);
    blocks.iter().for_each(|&block| disk.write(block));
    assert!(disk.hashed().1.unwrap());
    disk.assert_on_disk();
}

#[test]
fn a_folder_taken_away_during_a_download_is_made_again() {
    let disk = Disk::new(&[("t/a", 16_384), ("t/b", 16_384)], 16_384);
    disk.write(disk.blocks(0)[0]);
    assert!(disk.hashed().1.unwrap());
    fs::remove_dir_all(&disk.root).unwrap();
    disk.write(disk.blocks(1)[0]);
    assert!(disk.hashed().1.unwrap());
    assert_eq!(files_below(&disk.root), [PathBuf::from("t/b")]);
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;

    use super::*;

    /// `link` below the root leads to `target`, a path relative to the folder that holds the root.
    fn linked(path: &str, link: &str, target: &str) -> Disk {
        Disk::prepared(vec![FileEntry::new(path, 10)], 16_384, |root, _, _| {
            let outside = root.parent().unwrap().join("outside");
            fs::create_dir_all(&outside).unwrap();
            fs::write(outside.join("victim"), "untouched!").unwrap();
            let link = root.join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            fs::create_dir_all(root.join("inside")).unwrap();
            symlink(root.parent().unwrap().join(target), link).unwrap();
        })
    }

    #[track_caller]
    fn refused(disk: &Disk, link: &str) {
        assert_names(&write_fails(disk), "open", &disk.root.join(link));
        let outside = disk.dir.path().join("outside");
        assert_eq!(files_below(&outside), [PathBuf::from("victim")]);
        assert_eq!(fs::read(outside.join("victim")).unwrap(), b"untouched!");
    }

    #[test]
    fn a_link_out_of_the_root_is_not_written_through() {
        refused(&linked("t/file", "t/file", "outside/victim"), "t/file");
        refused(&linked("t/file", "t/file", "outside/not-there-yet"), "t/file");
        refused(&linked("t/file", "t", "outside"), "t");
        refused(&linked("t/sub/file", "t", "outside"), "t");
        refused(&linked("t/file", "t", "nowhere"), "t");
    }

    #[test]
    fn a_link_within_the_root_is_followed() {
        let disk = linked("t/file", "t", "root/inside");
        disk.write(disk.blocks(0)[0]);
        assert!(disk.hashed().1.unwrap());
        assert_eq!(fs::read(disk.root.join("inside/file")).unwrap(), disk.content);
    }

    #[test]
    fn the_user_may_seed_through_a_link() {
        let disk = linked("t/file", "t/file", "outside/victim");
        assert!(disk.existing.as_ref().unwrap());
        assert_eq!(disk.read(disk.blocks(0)[0]).unwrap(), "untouched!");
    }
}

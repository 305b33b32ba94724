//! Records of an earlier session: what they are made of, and what becomes of them.

use super::*;
use crate::disk::files;
use crate::metainfo::resume::Stamps;

impl Disk {
    #[track_caller]
    fn stamps(&self) -> Stamps {
        self.pool.submit(DiskJob::Stamp { storage: STORAGE });
        match self.answer() {
            DiskDone::Stamped { stamps, .. } => stamps,
            other => panic!("unexpected {other:?}"),
        }
    }

    fn restore(&self, pieces: &[u32], unfinished: &[(u32, &[bool])]) {
        let pieces = pieces.iter().map(|piece| self.piece(*piece)).collect();
        let unfinished =
            unfinished.iter().map(|(piece, blocks)| (self.piece(*piece), blocks.to_vec())).collect();
        self.pool.submit(DiskJob::Restore { storage: STORAGE, pieces, unfinished });
    }

    /// Which of the pieces that are looked at are there.
    #[track_caller]
    fn checked_of(&self, pieces: &[u32], written: &[u32]) -> Vec<u32> {
        let [pieces, written] = [pieces, written].map(|list| list.iter().map(|p| self.piece(*p)).collect());
        self.pool.submit(DiskJob::CheckPieces { storage: STORAGE, pieces, written });
        let mut have = Vec::new();
        loop {
            match self.answer() {
                DiskDone::Checked { piece, have: there, .. } => have.extend(there.then_some(piece.get())),
                DiskDone::CheckFinished { result, .. } => {
                    result.unwrap();
                    have.sort_unstable();
                    return have;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

#[test]
fn a_stamp_sees_sizes_and_times_of_what_was_written_before() {
    let files = vec![
        FileEntry::new("t/a", 40_000),
        FileEntry { pad: true, ..FileEntry::new(".pad/1", 9_152) },
        FileEntry::new("t/b", 40_000),
    ];
    let disk = Disk::prepared(files, 16_384, |_, _, _| {});
    assert_eq!(disk.stamps().files, [None, None, None]);
    disk.write(disk.blocks(1)[0]);
    assert_eq!(disk.hashed().0, 1);
    let first = disk.stamps();
    let a = first.files[0].unwrap();
    assert_eq!((a.size, first.files[1], first.files[2]), (32_768, None, None));
    let age = first.at - a.mtime;
    assert!((-1_000_000_000..60_000_000_000).contains(&age), "{age} ns");
    assert!(first.boot.is_some() || !cfg!(target_os = "linux"));

    let path = disk.root.join("t/a");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH - std::time::Duration::from_nanos(1_500_000_000)).unwrap();
    assert_eq!(disk.stamps().files[0].unwrap().mtime, -1_500_000_000);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(disk.stamps().files[0], None);
}

#[test]
fn pieces_that_are_named_are_checked_and_no_others() {
    let disk = Disk::seeded(&[("t/a", 100_000)], 16_384);
    assert_eq!(disk.checked_of(&[1, 3], &[6]), [1, 3, 6]);
    assert!(disk.checked_of(&[], &[]).is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_hole_is_told_from_zeros_that_were_written() {
    let disk = Disk::seeded(&[("t/a", 1 << 20)], 1 << 19);
    let file = fs::OpenOptions::new().read(true).write(true).open(disk.root.join("t/a")).unwrap();
    file.set_len(0).unwrap();
    file.set_len(1 << 20).unwrap();
    files::write_all_at(&file, &mut [std::io::IoSlice::new(&[0; 65_536])], 0).unwrap();
    assert!(!files::has_hole(&file, 0, 65_536) && !files::has_hole(&file, 4_096, 8_192));
    assert!(files::has_hole(&file, 0, 1 << 19) && files::has_hole(&file, 1 << 19, 1 << 19));
    files::write_all_at(&file, &mut [std::io::IoSlice::new(&disk.content[1 << 19..])], 1 << 19).unwrap();
    // The first piece has a hole, the second is there.
    assert_eq!(disk.checked_of(&[], &[0, 1]), [1]);
}

#[test]
fn blocks_of_an_earlier_session_count_and_are_hashed_with_those_that_come() {
    let disk = Disk::seeded(&[("t/a", 4 * 65_536)], 65_536);
    disk.restore(&[0], &[(1, &[true, false, true, true]), (2, &[false, true, true, true])]);
    disk.write(disk.blocks(1)[1]);
    assert_eq!(disk.hashed().0, 1);
    disk.write(disk.blocks(2)[0]);
    let (piece, passed) = disk.hashed();
    assert!(piece == 2 && passed.unwrap());
    // What is right is not written again.
    disk.write_data(disk.blocks(0)[0], Bytes::from(vec![0; 16_384]));
    disk.written(1);
    disk.assert_on_disk();
}

#[test]
fn blocks_that_are_not_what_they_should_be_fail_with_their_piece() {
    let disk = Disk::seeded(&[("t/a", 65_536)], 65_536);
    let mut bytes = fs::read(disk.root.join("t/a")).unwrap();
    bytes[20_000] ^= 1;
    fs::write(disk.root.join("t/a"), bytes).unwrap();
    disk.restore(&[], &[(0, &[false, true, true, true])]);
    disk.write(disk.blocks(0)[0]);
    assert!(!disk.hashed().1.unwrap());
    disk.forget(0);
    disk.blocks(0).into_iter().for_each(|block| disk.write(block));
    assert!(disk.hashed().1.unwrap());
    disk.assert_on_disk();
}

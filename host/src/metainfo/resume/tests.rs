//! Records are read as they were written, and believed as far as the files bear them out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::metainfo::{FileEntry, FileLayout, PieceIndex};

const SECOND: i64 = 1_000_000_000;
/// When the records of these tests were made.
const AT: i64 = 1_800_000_000 * SECOND;

/// `a` has pieces 0 and 1, `b` pieces 1 to 3 (the first half of 1 is `a`'s), and `c` has no bytes.
fn layout() -> FileLayout {
    let files = [("t/a", 49_152), ("t/b", 65_536), ("t/c", 0)].map(|(path, len)| FileEntry::new(path, len));
    FileLayout::new("t", 32_768, files.into()).unwrap()
}

fn hash() -> InfoHashes {
    InfoHashes::V1([7; 20])
}

fn stamp(size: u64, mtime: i64) -> Option<FileStamp> {
    Some(FileStamp { size, mtime })
}

fn stamps(a: Option<FileStamp>, b: Option<FileStamp>) -> Stamps {
    Stamps { at: AT, boot: Some("one".to_owned()), files: vec![a, b, stamp(0, 0)] }
}

/// A record of pieces that are there, and of files as they were.
fn record(pieces: [bool; 4], stamps: Stamps, open: bool) -> Resume {
    let open = if open { vec![AT] } else { Vec::new() };
    let look = Some(Look { stamps, open });
    Resume { pieces: pieces.into(), look, ..Resume::new(hash()) }
}

fn fit(resume: &Resume, found: &Stamps) -> Fit {
    resume.fit(&hash(), &layout(), found).unwrap()
}

fn numbers(pieces: &[PieceIndex]) -> Vec<u32> {
    pieces.iter().map(|piece| piece.get()).collect()
}

#[track_caller]
fn assert_fit(fit: &Fit, trusted: &[u32], hash: &[u32], hash_if_written: &[u32]) {
    let found = [&fit.trusted, &fit.hash, &fit.hash_if_written].map(|pieces| numbers(pieces));
    assert_eq!(found, [trusted, hash, hash_if_written].map(<[u32]>::to_vec), "{:?}", fit.changed);
}

#[test]
fn a_record_that_fits_is_trusted_without_a_look_at_the_data() {
    let (a, b) = (stamp(49_152, AT - SECOND), stamp(20_000, AT - 5 * SECOND));
    let record = record([true, true, false, false], stamps(a, b), false);
    let fit = fit(&record, &stamps(a, b));
    assert_fit(&fit, &[0, 1], &[], &[]);
    assert!(fit.changed.is_empty() && fit.unfinished.is_empty());
}

#[test]
fn of_a_closed_record_any_change_of_a_file_has_its_pieces_hashed_and_no_others() {
    let (a, b) = (stamp(49_152, AT - 5 * SECOND), stamp(65_536, AT - 5 * SECOND));
    let record = record([true; 4], stamps(a, b), false);
    for (changed, change) in [
        (None, Change::Gone),
        (stamp(65_535, AT - 5 * SECOND), Change::Size { recorded: 65_536, found: 65_535 }),
        (stamp(65_536, AT - 5 * SECOND + 1), Change::Modified),
        (stamp(65_536, AT + SECOND), Change::Modified),
    ] {
        let fit = fit(&record, &stamps(a, changed));
        assert_fit(&fit, &[0], &[1, 2, 3], &[]);
        assert_eq!(fit.changed, [ChangedFile { file: 1, change }]);
    }
}

#[test]
fn what_was_written_after_an_open_record_is_looked_for_where_it_can_be() {
    let (a, b) = (stamp(49_152, AT - 60 * SECOND), stamp(10_000, AT - SECOND));
    let open = record([true, false, false, false], stamps(a, b), true);
    for mtime in [AT - SECOND, AT, AT + OPEN_FOR] {
        let fit = fit(&open, &stamps(a, stamp(65_536, mtime)));
        assert_fit(&fit, &[0], &[], &[1, 2, 3]);
        assert!(fit.changed.is_empty());
    }
    // Nobody of us wrote at these times.
    for mtime in [AT - 10 * SECOND, AT + OPEN_FOR + 1] {
        assert_fit(&fit(&open, &stamps(a, stamp(10_000, mtime))), &[0], &[1, 2, 3], &[]);
    }
    // Nor do we ever shorten a file.
    let shortened = record([true, false, true, false], stamps(a, stamp(65_536, AT)), true);
    let fit = fit(&shortened, &stamps(a, stamp(49_151, AT + SECOND)));
    assert_fit(&fit, &[0], &[1, 2, 3], &[]);
}

#[test]
fn a_record_that_is_opened_before_the_writing_stands_a_kill_before_the_next_record() {
    let (a, b) = (stamp(49_152, AT - 60 * SECOND), stamp(10_000, AT - 60 * SECOND));
    let day = 86_400 * SECOND;
    let opened = record([true, false, false, false], stamps(a, b), false).opened(AT + day, Some("one"));
    let written = stamps(a, stamp(65_536, AT + day + SECOND));
    assert_fit(&fit(&opened, &written), &[0], &[], &[1, 2, 3]);
    // And once more, before the record was renewed.
    let again = opened.opened(AT + 2 * day, Some("one"));
    assert_fit(&fit(&again, &written), &[0], &[], &[1, 2, 3]);
    let foreign = stamps(a, stamp(65_536, AT + day + 60 * SECOND));
    assert_fit(&fit(&again, &foreign), &[0], &[1, 2, 3], &[]);
}

#[test]
fn after_a_crash_of_the_system_what_was_being_written_is_hashed() {
    let (a, b) = (stamp(49_152, AT - 3_600 * SECOND), stamp(65_536, AT - 20 * SECOND));
    let open = record([true; 4], stamps(a, b), true);
    for boot in [Some("two"), None] {
        let found = Stamps { boot: boot.map(str::to_owned), ..stamps(a, b) };
        let fit = fit(&open, &found);
        assert_fit(&fit, &[0], &[1, 2, 3], &[]);
        assert_eq!(fit.changed, [ChangedFile { file: 1, change: Change::Crashed }]);
        // Opening it does not make that forgotten.
        let opened = open.clone().opened(AT + SECOND, boot);
        assert_eq!(opened.fit(&hash(), &layout(), &found).unwrap(), fit);
    }
    // A shutdown in good order is no crash.
    let closed = record([true; 4], stamps(a, b), false);
    let found = Stamps { boot: Some("two".to_owned()), ..stamps(a, b) };
    assert_fit(&fit(&closed, &found), &[0, 1, 2, 3], &[], &[]);
}

#[test]
fn of_files_that_nobody_looked_at_the_sizes_must_do() {
    let resume = Resume { pieces: vec![true, true, false, false], ..Resume::new(hash()) };
    let found = stamps(stamp(49_152, 1), stamp(16_384, 2));
    assert_fit(&fit(&resume, &found), &[0, 1], &[], &[]);
    let short = fit(&resume, &stamps(stamp(49_152, 1), stamp(16_383, 2)));
    assert_fit(&short, &[0], &[1, 2, 3], &[]);
    assert_eq!(short.changed[0].change, Change::Short { expected: 16_384, found: 16_383 });
    assert_fit(&fit(&resume, &stamps(None, stamp(16_384, 2))), &[], &[0, 1], &[]);
}

#[test]
fn blocks_of_unfinished_pieces_are_kept_and_a_piece_that_lacks_only_its_hash_gets_it() {
    let (a, b) = (stamp(49_152, AT - 60 * SECOND), stamp(65_536, AT - 60 * SECOND));
    let unfinished = vec![Unfinished::new(2, &[true, false]), Unfinished::new(3, &[true])];
    let resume = Resume { unfinished, ..record([true, true, false, false], stamps(a, b), true) };
    // The last piece is one block.
    let same = fit(&resume, &stamps(a, b));
    assert_fit(&same, &[0, 1], &[3], &[]);
    let kept: Vec<_> = same.unfinished.iter().map(|(piece, blocks)| (piece.get(), blocks.clone())).collect();
    assert_eq!(kept, [(2, vec![true, false]), (3, vec![true])]);
    let changed = fit(&resume, &stamps(a, stamp(65_536, AT - 59 * SECOND)));
    assert_fit(&changed, &[0], &[1, 2, 3], &[]);
    assert!(changed.unfinished.is_empty());
}

#[test]
fn a_record_of_something_else_is_no_use_at_all() {
    let (layout, found) = (layout(), stamps(None, None));
    let misfit = |resume: &Resume| resume.fit(&hash(), &layout, &found).unwrap_err();
    let right = record([false; 4], found.clone(), false);
    let other = Resume { info_hashes: InfoHashes::V1([8; 20]), ..right.clone() };
    assert_eq!(misfit(&other), Misfit::Torrent);
    let other = Resume { pieces: vec![true; 5], ..right.clone() };
    assert_eq!(misfit(&other), Misfit::Pieces { recorded: 5, found: 4 });
    let other = record([false; 4], Stamps { files: vec![None], ..found.clone() }, false);
    assert_eq!(misfit(&other), Misfit::Files { recorded: 1, found: 3 });
    for (piece, bitmask) in [(4, vec![0x80]), (3, vec![0x40]), (0, vec![0, 1])] {
        let other = Resume { unfinished: vec![Unfinished { piece, bitmask }], ..right.clone() };
        assert_eq!(misfit(&other), Misfit::Blocks(piece));
    }
}

fn refusal(bytes: &[u8]) -> ResumeError {
    Resume::decode(bytes).unwrap_err()
}

#[test]
fn what_is_no_record_is_refused_with_the_reason() {
    let whole = record([true; 4], stamps(None, None), false).encode();
    assert!(matches!(refusal(b""), ResumeError::Bencode(_)));
    assert!(matches!(refusal(&whole[..whole.len() / 2]), ResumeError::Bencode(_)));
    assert!(matches!(refusal(b"le"), ResumeError::Bencode(_)));
    assert_eq!(refusal(&[&whole[..], b"e"].concat()), ResumeError::Trailing);
    assert_eq!(refusal(b"d4:infodee"), ResumeError::Format);
    let with = |from: &str, to: &str| {
        let text = whole.iter().map(|byte| char::from(*byte)).collect::<String>();
        assert!(text.contains(from));
        text.replace(from, to).chars().map(|c| c as u8).collect::<Vec<u8>>()
    };
    assert_eq!(refusal(&with("12:file-versioni1e", "12:file-versioni2e")), ResumeError::Version(2));
    assert_eq!(refusal(&with("7:versioni1e", "7:versioni7e")), ResumeError::Version(7));
    assert_eq!(refusal(&with("6:pieces4:\x01\x01\x01\x01", "6:piecesi4e")), ResumeError::Invalid("pieces"));
    assert_eq!(refusal(&with("9:info-hash20:", "9:info-hasx20:")), ResumeError::Missing("info-hash"));
}

fn any_resume() -> impl Strategy<Value = Resume> {
    let stamp = prop::option::of(
        (0..=i64::MAX.unsigned_abs(), any::<i64>()).prop_map(|(size, mtime)| FileStamp { size, mtime }),
    );
    let stamps = (any::<i64>(), prop::option::of("[a-z]{0,9}"), prop::collection::vec(stamp, 0..5))
        .prop_map(|(at, boot, files)| Stamps { at, boot, files });
    let look =
        (stamps, prop::collection::vec(any::<i64>(), 0..4)).prop_map(|(stamps, open)| Look { stamps, open });
    let unfinished = (any::<u32>(), prop::collection::vec(any::<u8>(), 0..5))
        .prop_map(|(piece, bitmask)| Unfinished { piece, bitmask });
    let v4 = any::<(Ipv4Addr, u16)>().prop_map(SocketAddr::from);
    let v6 = any::<(Ipv6Addr, u16)>().prop_map(SocketAddr::from);
    let peers = (prop::collection::vec(v4, 0..4), prop::collection::vec(v6, 0..4))
        .prop_map(|(v4, v6)| [v4, v6].concat());
    let urls = prop::collection::vec(".{1,9}", 0..3);
    let tiers = prop::collection::vec(prop::collection::vec(".{1,9}", 1..3), 0..3);
    let counts = (0..=i64::MAX.unsigned_abs(), 0..=i64::MAX.unsigned_abs(), any::<i64>(), any::<i64>());
    let priorities = || prop::collection::vec(0_u8..8, 0..5);
    let lists = (
        prop::collection::vec(any::<bool>(), 0..20),
        prop::collection::vec(unfinished, 0..4),
        priorities(),
        priorities(),
        peers,
        prop::collection::vec(any::<Ipv4Addr>(), 0..3),
        tiers,
        urls,
    );
    (prop::option::of(look), counts, lists, ".{0,9}", any::<(bool, bool, [u8; 20])>()).prop_map(
        |(look, counts, lists, name, (paused, sequential_download, hash))| Resume {
            save_path: format!("/{name}"),
            name,
            pieces: lists.0,
            unfinished: lists.1,
            look,
            total_uploaded: counts.0,
            total_downloaded: counts.1,
            added_time: counts.2,
            completed_time: counts.3,
            piece_priorities: lists.2,
            file_priorities: lists.3,
            peers: lists.4,
            banned_peers: lists.5.into_iter().map(IpAddr::from).collect(),
            trackers: lists.6,
            web_seeds: lists.7,
            paused,
            sequential_download,
            ..Resume::new(InfoHashes::V1(hash))
        },
    )
}

proptest! {
    #[test]
    fn a_record_survives_the_round_trip(resume in any_resume()) {
        prop_assume!(resume.info_hashes != InfoHashes::V1([0; 20]));
        prop_assert_eq!(Resume::decode(&resume.encode()).unwrap(), resume);
    }

    #[test]
    fn a_damaged_record_is_refused_or_read_but_never_worse(
        resume in any_resume(), at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()
    ) {
        let mut bytes = resume.encode();
        let end = cut.index(bytes.len());
        prop_assert!(Resume::decode(&bytes[..end]).is_err());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Resume::decode(&bytes) {
            // Whatever it claims now, it can be written down, and compared with a torrent.
            prop_assert_eq!(&Resume::decode(&read.encode()).unwrap(), &read);
            let _ = read.fit(&hash(), &layout(), &stamps(None, None));
        }
    }

    #[test]
    fn every_piece_is_trusted_hashed_or_missing(
        pieces: [bool; 4], open: bool, recorded in prop::array::uniform4(-3_i64..20), sizes in prop::array::uniform4(0_u64..70_000)
    ) {
        let time = |n: i64| AT + n * SECOND;
        let was = stamps(stamp(sizes[0], time(recorded[0])), stamp(sizes[1], time(recorded[1])));
        let is = stamps(stamp(sizes[2], time(recorded[2])), stamp(sizes[3], time(recorded[3])));
        let fit = fit(&record(pieces, was, open), &is);
        let mut all = [numbers(&fit.trusted), numbers(&fit.hash), numbers(&fit.hash_if_written)].concat();
        all.sort_unstable();
        let before = all.len();
        all.dedup();
        prop_assert_eq!(all.len(), before);
        // What was there is looked at, or still is there.
        prop_assert!((0..4).filter(|n| pieces[*n as usize]).all(|n| all.contains(&n)));
        prop_assert!(fit.trusted.iter().all(|piece| pieces[piece.as_usize()]));
    }

    #[test]
    fn bits_stand_for_blocks_in_order(written in prop::collection::vec(any::<bool>(), 0..40)) {
        let unfinished = Unfinished::new(3, &written);
        let read: Vec<bool> = (0..written.len() as u32).map(|block| unfinished.is_written(block)).collect();
        prop_assert_eq!(read, written);
    }
}

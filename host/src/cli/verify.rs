//! `verify`: compares data with a torrent, on all cores, and lists what is wrong or missing.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use pilotfish_plugin::Level;
use serde_json::json;

use super::args::Verify;
use super::exit::{ExitCode, Failure};
use super::screen::Screen;
use super::signals::Signals;
use super::text;
use super::torrent_file;
use crate::disk::DiskPool;
use crate::job::{DiskDone, DiskError, DiskJob, StorageId};
use crate::metainfo::{FileEntry, FileLayout, Metainfo, PieceIndex};
use crate::wire::BlockPool;

/// The only storage in the pool.
const STORAGE: StorageId = StorageId(0);

/// How long a signal waits.
const NAP: Duration = Duration::from_millis(100);

/// # Errors
/// A piece is wrong or missing; a file exists but cannot be read.
pub(super) fn verify(args: &Verify, screen: &Screen, signals: &Signals) -> Result<ExitCode, Failure> {
    let torrent = torrent_file::read(&args.torrent)?;
    let (send, answers) = mpsc::channel();
    // Nobody listens any more after a signal or an error, and that is all right.
    let on_done = move |done: Vec<DiskDone>| done.into_iter().for_each(|done| drop(send.send(done)));
    let pool = DiskPool::new(DiskPool::default_threads(), BlockPool::new(0), on_done)
        .map_err(|error| Failure::new(ExitCode::Other, format!("no thread can be started: {error}")))?;
    pool.submit_all([
        DiskJob::Open {
            storage: STORAGE,
            layout: torrent.layout().clone(),
            hashes: torrent.hashes().clone(),
            root: args.data.as_path().into(),
        },
        DiskJob::Check { storage: STORAGE },
    ]);
    let checked = check(&answers, &torrent, screen, signals);
    pool.shutdown();
    match checked? {
        Checked::Stopped(code) => Ok(code),
        Checked::Over(bad) => report(&torrent, &args.data, bad, screen),
    }
}

enum Checked {
    /// The pieces that are not right, in order.
    Over(Vec<PieceIndex>),
    /// A signal came.
    Stopped(ExitCode),
}

fn check(
    answers: &Receiver<DiskDone>,
    torrent: &Metainfo,
    screen: &Screen,
    signals: &Signals,
) -> Result<Checked, Failure> {
    let geometry = torrent.layout().geometry();
    let bar = screen.bar(torrent.name(), geometry.total());
    let unreadable = |error: DiskError| Failure::new(ExitCode::Disk, error);
    let mut bad = Vec::new();
    loop {
        if let Some(code) = signals.received() {
            return Ok(Checked::Stopped(code));
        }
        match answers.recv_timeout(NAP) {
            Ok(DiskDone::Opened { existing, .. }) => drop(existing.map_err(unreadable)?),
            Ok(DiskDone::Checked { piece, have, .. }) => {
                bar.inc(geometry.piece_size(piece).into());
                if !have {
                    bad.push(piece);
                }
            }
            Ok(DiskDone::CheckFinished { result, .. }) => {
                bar.finish_and_clear();
                bad.sort_unstable();
                return result.map(|()| Checked::Over(bad)).map_err(unreadable);
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(ExitCode::Other, "the check ended unfinished"));
            }
        }
    }
}

/// A file of the torrent that is not as the torrent says.
#[derive(Debug, PartialEq, Eq)]
struct BadFile {
    path: String,
    state: &'static str,
    bad_pieces: usize,
}

fn report(
    torrent: &Metainfo,
    folder: &Path,
    bad: Vec<PieceIndex>,
    screen: &Screen,
) -> Result<ExitCode, Failure> {
    let layout = torrent.layout();
    let pieces = layout.geometry().num_pieces() as usize;
    let files = bad_files(layout, folder, &bad);
    let numbers: Vec<u32> = bad.iter().map(|piece| piece.get()).collect();
    if screen.json() {
        let file =
            |file: &BadFile| json!({"path": file.path, "state": file.state, "bad_pieces": file.bad_pieces});
        screen.object(&json!({
            "event": "verified",
            "schema": 1,
            "torrent": torrent.info_hashes().to_string(),
            "name": torrent.name(),
            "pieces": pieces,
            "pieces_ok": pieces - numbers.len(),
            "bad_pieces": numbers,
            "bad_files": files.iter().map(file).collect::<Vec<_>>(),
        }));
    } else {
        if !numbers.is_empty() {
            screen.data(format!("bad pieces: {}", text::ranges(&numbers)));
        }
        for BadFile { path, state, bad_pieces } in &files {
            screen.data(format!("{state}: {path} ({})", text::count(*bad_pieces, "bad piece")));
        }
    }
    if numbers.is_empty() {
        screen.say(Level::Info, format!("{}: all {} right", torrent.name(), text::count(pieces, "piece")));
        return Ok(ExitCode::Done);
    }
    let text = format!(
        "{}: {} of {} wrong or missing in {}",
        torrent.name(),
        numbers.len(),
        text::count(pieces, "piece"),
        folder.display()
    );
    Err(Failure::new(ExitCode::Mismatch, text))
}

/// The files that have a part of a bad piece, or of which no piece could tell that they are not as they should be: an empty one
/// that is missing, and one with more at its end. In the torrent's order.
fn bad_files(layout: &FileLayout, folder: &Path, bad: &[PieceIndex]) -> Vec<BadFile> {
    let mut counts = vec![0; layout.files().len()];
    for &piece in bad {
        layout.spans(layout.geometry().whole(piece)).for_each(|span| counts[span.file] += 1);
    }
    let files = layout.files().iter().zip(counts).filter(|(file, _)| file.on_disk());
    let state = |file: &FileEntry, bad_pieces| match folder.join(&file.path).metadata() {
        Err(_) => Some("missing"),
        Ok(there) if there.len() < file.length => Some("short"),
        Ok(there) if there.len() > file.length => Some("long"),
        Ok(_) => (bad_pieces > 0).then_some("wrong"),
    };
    let bad_file = |(file, bad_pieces): (&FileEntry, usize)| {
        let path = file.path.display().to_string();
        Some(BadFile { path, state: state(file, bad_pieces)?, bad_pieces })
    };
    files.filter_map(bad_file).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::args::Common;
    use crate::metainfo::{CreateOptions, Creator, NewFile};

    const PIECE: usize = 16_384;

    /// A folder with `t/a` (two pieces), `t/b` (half a piece), `t/c` (two pieces and a half), the empty `t/d`, and its torrent.
    fn stage() -> (tempfile::TempDir, Verify) {
        let folder = tempfile::tempdir().unwrap();
        let sizes = [("a", 2 * PIECE), ("b", PIECE / 2), ("c", 2 * PIECE + PIECE / 2), ("d", 0)];
        let new = |(name, size): (&str, usize)| NewFile {
            path: name.into(),
            length: size as u64,
            executable: false,
        };
        let options = CreateOptions { piece_length: Some(PIECE as u32), ..CreateOptions::default() };
        let mut creator = Creator::folder("t", sizes.map(new).into(), options).unwrap();
        fs::create_dir(folder.path().join("t")).unwrap();
        for (name, size) in sizes {
            let data = vec![name.as_bytes()[0]; size];
            creator.update(&data).unwrap();
            fs::write(folder.path().join("t").join(name), data).unwrap();
        }
        let torrent = folder.path().join("t.torrent");
        fs::write(&torrent, creator.finish().unwrap()).unwrap();
        let data = folder.path().to_owned();
        (folder, Verify { torrent, data })
    }

    fn outcome(args: &Verify) -> Result<ExitCode, Failure> {
        let screen = Screen::new(&Common { quiet: true, ..Common::default() });
        verify(args, &screen, &Signals::default())
    }

    #[test]
    fn data_that_is_right_is_said_to_be() {
        let (_folder, args) = stage();
        assert_eq!(outcome(&args).unwrap(), ExitCode::Done);
    }

    #[test]
    fn what_is_wrong_is_counted() {
        let (_folder, args) = stage();
        fs::write(args.data.join("t/c"), vec![b'c'; PIECE]).unwrap();
        fs::remove_file(args.data.join("t/a")).unwrap();
        let failure = outcome(&args).unwrap_err();
        let expected = format!("t: 4 of 5 pieces wrong or missing in {}", args.data.display());
        assert_eq!((failure.code, failure.to_string()), (ExitCode::Mismatch, expected));
    }

    #[test]
    fn files_with_bad_pieces_are_named_with_what_ails_them() {
        let (_folder, args) = stage();
        fs::write(args.data.join("t/c"), vec![b'c'; PIECE]).unwrap();
        fs::remove_file(args.data.join("t/a")).unwrap();
        let torrent = torrent_file::read(&args.torrent).unwrap();
        let bad: Vec<_> = [0, 1, 4].iter().filter_map(|&n| torrent.layout().geometry().piece(n)).collect();
        let bad = bad_files(torrent.layout(), &args.data, &bad);
        let bad: Vec<_> = bad.iter().map(|file| (file.state, file.bad_pieces)).collect();
        assert_eq!(bad, [("missing", 2), ("short", 1)]);
    }

    #[test]
    fn files_are_named_that_are_odd_though_each_piece_is_right() {
        let (_folder, args) = stage();
        fs::write(args.data.join("t/b"), vec![b'b'; PIECE]).unwrap();
        fs::remove_file(args.data.join("t/d")).unwrap();
        assert_eq!(outcome(&args).unwrap(), ExitCode::Done);
        let torrent = torrent_file::read(&args.torrent).unwrap();
        let odd = bad_files(torrent.layout(), &args.data, &[]);
        let odd: Vec<_> = odd.iter().map(|file| (file.state, file.bad_pieces)).collect();
        assert_eq!(odd, [("long", 0), ("missing", 0)]);
    }

    #[test]
    fn a_signal_ends_a_check() {
        let (_folder, args) = stage();
        let (_send, answers) = mpsc::channel();
        let torrent = torrent_file::read(&args.torrent).unwrap();
        let screen = Screen::new(&Common { quiet: true, ..Common::default() });
        let signals = Signals::with(ExitCode::Interrupted);
        let checked = check(&answers, &torrent, &screen, &signals).unwrap();
        assert!(matches!(checked, Checked::Stopped(ExitCode::Interrupted)));
    }
}

//! What is known of torrents' files, kept from one run to the next: a file for each torrent, named by its info-hash, in the
//! folder `resume` beside plugins' state. What stands in such a file is told by [`crate::metainfo::resume`]. A file that
//! libtorrent wrote will do, too: whoever comes from one of its clients puts it there under that name.
//!
//! A thread of its own asks the session for records and writes them, so that nobody waits for it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use pilotfish_plugin::{Level, TorrentHandle};
use tempfile::NamedTempFile;

use super::args::Common;
use super::screen::Screen;
use super::state;
use crate::command::SaveResumeFlags;
use crate::disk;
use crate::metainfo::{InfoHashes, Resume, ResumeError};
use crate::session::Session;

/// A file that is larger than this is not one of ours, in bytes.
const LARGEST: u64 = 256 << 20;
/// How often what was downloaded is written down. A record may be believed for longer than that: see
/// [`OPEN_FOR`](crate::metainfo::resume::OPEN_FOR).
const EVERY: Duration = Duration::from_secs(2);
/// How often counters are written down, if nothing else changes.
const COUNTERS_EVERY: Duration = Duration::from_secs(60);
/// Making and writing records may take one part in so many of the time.
const SHARE: u32 = 20;

/// What is written down as soon as it changes.
const PROGRESS: SaveResumeFlags = SaveResumeFlags(
    SaveResumeFlags::IF_DOWNLOAD_PROGRESS.0
        | SaveResumeFlags::IF_CONFIG_CHANGED.0
        | SaveResumeFlags::IF_STATE_CHANGED.0,
);

/// Where records are kept, if they are kept.
#[derive(Clone, Debug)]
pub(super) struct Records {
    folder: Option<PathBuf>,
    screen: Screen,
    /// It was said that something cannot be written, which once is enough.
    complained: Arc<AtomicBool>,
}

/// A record that was kept.
#[derive(Debug)]
pub(super) enum Kept {
    /// It is of this folder.
    Here(Box<Resume>),
    /// It is of data in another folder, and says nothing of what is in this one.
    Elsewhere(Box<Resume>),
}

impl Records {
    /// Where the command line, or else the environment, says.
    pub(super) fn of(common: &Common, screen: &Screen) -> Self {
        let folder = state::folder(common).map(|folder| folder.join("resume"));
        Self { folder, screen: screen.clone(), complained: Arc::default() }
    }

    /// The record of a torrent whose data is, or will be, in `data`. One that cannot be used is put aside, so that nothing is
    /// lost, and the data is checked instead.
    pub(super) fn load(&self, torrent: &InfoHashes, data: &Path) -> Option<Kept> {
        let file = self.file(torrent)?;
        let bytes = match read(&file) {
            Ok(bytes) => bytes?,
            Err(error) => {
                let text = "cannot be read, so the data is checked instead";
                self.screen.say(Level::Warn, format!("{}: {text}: {error}", file.display()));
                return None;
            }
        };
        match Resume::decode(&bytes) {
            Ok(resume) if Path::new(&resume.save_path) == data => Some(Kept::Here(Box::new(resume))),
            Ok(resume) => Some(Kept::Elsewhere(Box::new(resume))),
            Err(error) => {
                self.put_aside(&file, &error);
                None
            }
        }
    }

    fn put_aside(&self, file: &Path, error: &ResumeError) {
        let aside = file.with_extension("resume.damaged");
        let text = match fs::rename(file, &aside) {
            Ok(()) => format!("it is {} now", aside.display()),
            Err(error) => format!("it cannot be put aside: {error}"),
        };
        let line = format!("{}: {error}: the data is checked instead, and {text}", file.display());
        self.screen.say(Level::Warn, line);
    }

    /// Writes down that somebody is about to go on with the torrent of this record, if there is anything to go on with.
    pub(super) fn open(&self, resume: &Resume) {
        if !resume.pieces.is_empty() && !resume.pieces.contains(&false) {
            return;
        }
        let now = disk::nanoseconds(SystemTime::now());
        self.keep(&resume.clone().opened(now, disk::boot()));
    }

    /// Writes a record down. The first failure is shown: the data will be checked another time.
    pub(super) fn keep(&self, resume: &Resume) {
        let Some(file) = self.file(&resume.info_hashes) else { return };
        if let Err(error) = write(&file, &resume.encode())
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            let text = "what is known of the files cannot be written down, so they will be checked next time";
            self.screen.say(Level::Warn, format!("{}: {text}: {error}", file.display()));
        }
    }

    /// What was known counts no more.
    fn forget(&self, torrent: &InfoHashes) {
        if let Some(file) = self.file(torrent) {
            // If it stays, it is compared with the files as ever.
            let _ = fs::remove_file(file);
        }
    }

    fn file(&self, torrent: &InfoHashes) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{torrent}.resume")))
    }
}

/// `None` if there is no such file.
fn read(file: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(file) {
        Ok(metadata) if metadata.len() > LARGEST => {
            Err(io::Error::new(ErrorKind::InvalidData, "it is too large for what it should be"))
        }
        Ok(_) => fs::read(file).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whole or not at all, however the run ends: a new file takes the old one's place.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut new = NamedTempFile::new_in(folder)?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

/// Writes down what becomes of a session's torrents, on a thread of its own, until it is [ended](Self::end).
pub(super) struct Keeper {
    records: Records,
    /// None once nobody listens.
    thread: Option<(Sender<Note>, JoinHandle<()>)>,
}

/// What the thread is told.
enum Note {
    /// From now on there is this torrent. Its record has to hold the metadata, if `whole`.
    Here { torrent: TorrentHandle, info_hashes: InfoHashes, whole: bool },
    /// Something happened that is worth a record at once.
    Now(TorrentHandle),
    /// All is hashed anew: what was written down counts no more.
    Forget(TorrentHandle),
    /// The torrent is gone. What was written down of it stays.
    Gone(TorrentHandle),
}

impl Keeper {
    /// Begins to watch a session, if anything is kept at all.
    pub(super) fn start(session: Session, records: Records) -> Self {
        let thread = records.folder.is_some().then(|| {
            let (notes, heard) = channel();
            let clerk = Clerk { session, records: records.clone(), torrents: BTreeMap::new() };
            let thread = thread::Builder::new().name("records".to_owned()).spawn(move || clerk.work(&heard));
            thread.map(|thread| (notes, thread))
        });
        let thread = thread.and_then(|started| {
            let failed = |error: &io::Error| {
                let text =
                    "no thread can be started, so what is known of the files is only written down at the end";
                records.screen.say(Level::Warn, format!("{text}: {error}"));
            };
            started.inspect_err(failed).ok()
        });
        Self { records, thread }
    }

    /// From now on there is this torrent; `whole`: it began as a link, and has nothing else to learn its metadata from.
    pub(super) fn add(&self, torrent: TorrentHandle, info_hashes: InfoHashes, whole: bool) {
        self.tell(Note::Here { torrent, info_hashes, whole });
    }

    /// Something happened to a torrent that is worth a record at once.
    pub(super) fn note(&self, torrent: TorrentHandle) {
        self.tell(Note::Now(torrent));
    }

    /// A torrent's files are hashed anew.
    pub(super) fn forget(&self, torrent: TorrentHandle) {
        self.tell(Note::Forget(torrent));
    }

    /// A torrent is gone.
    pub(super) fn remove(&self, torrent: TorrentHandle) {
        self.tell(Note::Gone(torrent));
    }

    fn tell(&self, note: Note) {
        if let Some((notes, _)) = &self.thread {
            // It ends by itself when the session does.
            let _ = notes.send(note);
        }
    }

    /// Ends the session, and writes down what is known of its torrents then.
    pub(super) fn end(&mut self, session: &Session) {
        if let Some((notes, thread)) = self.thread.take() {
            drop(notes);
            // If it panicked, it said so.
            let _ = thread.join();
        }
        if self.records.folder.is_none() {
            return session.shutdown();
        }
        let last = session.shutdown_with_resume_data(SaveResumeFlags::SAVE_INFO_DICT);
        last.unwrap_or_default().iter().for_each(|resume| self.records.keep(resume));
    }
}

/// The thread's side.
struct Clerk {
    session: Session,
    records: Records,
    torrents: BTreeMap<TorrentHandle, (InfoHashes, SaveResumeFlags)>,
}

impl Clerk {
    fn work(mut self, notes: &Receiver<Note>) {
        let mut next = Instant::now() + EVERY;
        let mut next_counters = Instant::now() + COUNTERS_EVERY;
        loop {
            match notes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(note) => self.hear(&note),
                Err(RecvTimeoutError::Timeout) => {
                    let began = Instant::now();
                    let counters = began >= next_counters;
                    let condition = if counters { SaveResumeFlags::ONLY_IF_MODIFIED } else { PROGRESS };
                    for torrent in self.torrents.keys().copied().collect::<Vec<_>>() {
                        self.save(torrent, condition);
                    }
                    if counters {
                        next_counters = began + COUNTERS_EVERY;
                    }
                    next = Instant::now() + EVERY.max(began.elapsed() * SHARE);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn hear(&mut self, note: &Note) {
        match *note {
            Note::Here { torrent, info_hashes, whole } => {
                let flags = if whole { SaveResumeFlags::SAVE_INFO_DICT } else { SaveResumeFlags::NONE };
                self.torrents.insert(torrent, (info_hashes, flags));
            }
            Note::Now(torrent) => self.save(torrent, PROGRESS),
            Note::Forget(torrent) => {
                if let Some((info_hashes, _)) = self.torrents.get(&torrent) {
                    self.records.forget(info_hashes);
                }
            }
            Note::Gone(torrent) => drop(self.torrents.remove(&torrent)),
        }
    }

    fn save(&mut self, torrent: TorrentHandle, condition: SaveResumeFlags) {
        let Some((_, flags)) = self.torrents.get(&torrent) else { return };
        if let Ok(Some(resume)) = self.session.save_resume_data(torrent, *flags | condition)
            // Of a link without metadata there is nothing to know yet.
            && !resume.pieces.is_empty()
        {
            self.records.keep(&resume);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn records(folder: &Path) -> Records {
        let common = Common { state_dir: Some(folder.into()), quiet: true, ..Common::default() };
        Records::of(&common, &Screen::new(&common))
    }

    fn resume() -> Resume {
        let save_path = "/data".to_owned();
        Resume { save_path, pieces: vec![true, false], ..Resume::new(InfoHashes::V1([7; 20])) }
    }

    #[test]
    fn a_record_is_found_by_the_torrent_and_by_the_folder_of_its_data() {
        let folder = tempfile::tempdir().unwrap();
        let records = records(folder.path());
        let hash = resume().info_hashes;
        assert!(records.load(&hash, Path::new("/data")).is_none());
        records.keep(&resume());
        assert!(folder.path().join(format!("resume/{}.resume", "07".repeat(20))).is_file());
        let found = records.load(&hash, Path::new("/data/"));
        assert!(matches!(found, Some(Kept::Here(found)) if *found == resume()));
        assert!(matches!(records.load(&hash, Path::new("/other")), Some(Kept::Elsewhere(_))));
        assert!(records.load(&InfoHashes::V1([8; 20]), Path::new("/data")).is_none());
        records.forget(&hash);
        assert!(records.load(&hash, Path::new("/data")).is_none());
    }

    #[test]
    fn what_cannot_be_used_is_put_aside_and_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let records = records(folder.path());
        let file = folder.path().join(format!("resume/{}.resume", resume().info_hashes));
        fs::create_dir(folder.path().join("resume")).unwrap();
        for bytes in [&b""[..], b"garbage", b"de", &resume().encode()[..40]] {
            fs::write(&file, bytes).unwrap();
            assert!(records.load(&resume().info_hashes, Path::new("/data")).is_none());
            assert!(!file.exists());
            assert_eq!(fs::read(file.with_extension("resume.damaged")).unwrap(), bytes);
            records.keep(&resume());
            assert!(records.load(&resume().info_hashes, Path::new("/data")).is_some());
        }
    }

    #[test]
    fn nothing_is_kept_if_that_is_what_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let common = Common { state_dir: Some(folder.path().into()), no_state: true, ..Common::default() };
        let records = Records::of(&common, &Screen::new(&common));
        records.keep(&resume());
        assert!(records.load(&resume().info_hashes, Path::new("/data")).is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn where_nothing_can_be_written_the_run_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        let records = records(&in_the_way);
        records.keep(&resume());
        assert!(records.load(&resume().info_hashes, Path::new("/data")).is_none());
    }
}

//! One torrent's bytes, wherever its files are.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::files::{self, OpenFiles, Purpose};
use super::folders::{self, disk_error};
use crate::job::{DiskError, StorageId};
use crate::metainfo::resume::{FileStamp, Stamps};
use crate::metainfo::{BlockSpan, FileEntry, FileLayout, PieceHashes, PieceIndex};

/// What is known about one torrent on disk. Shared by the workers, which lock it only to look something up.
pub(super) struct Storage {
    id: StorageId,
    layout: Arc<FileLayout>,
    hashes: Arc<PieceHashes>,
    root: Arc<Path>,
    /// Folders that were made, or found to be where they seem to be.
    folders: Mutex<BTreeSet<PathBuf>>,
    empty_files_made: AtomicBool,
    /// Pieces that are known to be right on disk. Only the worker that has a piece reads or writes its flag.
    /// There are none before the first is set.
    verified: OnceLock<Box<[AtomicBool]>>,
}

impl Storage {
    /// Touches no file.
    pub(super) fn new(
        id: StorageId,
        layout: Arc<FileLayout>,
        hashes: Arc<PieceHashes>,
        root: Arc<Path>,
    ) -> Self {
        let (folders, empty_files_made, verified) = Default::default();
        Self { id, layout, hashes, root, folders, empty_files_made, verified }
    }

    pub(super) fn id(&self) -> StorageId {
        self.id
    }

    pub(super) fn layout(&self) -> &FileLayout {
        &self.layout
    }

    pub(super) fn hashes(&self) -> &PieceHashes {
        &self.hashes
    }

    /// The folder that everything stays in.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the file is, or will be.
    pub(super) fn path(&self, entry: &FileEntry) -> PathBuf {
        self.root.join(&entry.path)
    }

    /// Whether the piece was found or made right, and not given up since.
    pub(super) fn is_verified(&self, piece: PieceIndex) -> bool {
        let flag = self.verified.get().and_then(|flags| flags.get(piece.as_usize()));
        flag.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Notes what is on disk.
    pub(super) fn set_verified(&self, piece: PieceIndex, verified: bool) {
        if !verified && self.verified.get().is_none() {
            return;
        }
        let none = || self.layout.geometry().pieces().map(|_| AtomicBool::new(false)).collect();
        if let Some(flag) = self.verified.get_or_init(none).get(piece.as_usize()) {
            flag.store(verified, Ordering::Relaxed);
        }
    }

    /// Whether at least one file with bytes in it exists.
    ///
    /// # Errors
    /// Names the file that cannot be looked at.
    pub(super) fn exists(&self) -> Result<bool, DiskError> {
        for entry in self.layout.files().iter().filter(|entry| entry.on_disk() && entry.length > 0) {
            let path = self.path(entry);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() && metadata.len() > 0 => return Ok(true),
                Ok(_) => {}
                Err(error) if is_missing(error.kind()) => {}
                Err(error) => return Err(disk_error("open", path, error)),
            }
        }
        Ok(false)
    }

    /// What the files are like now.
    pub(super) fn stamps(&self) -> Stamps {
        // First this: what is modified from now on is modified later.
        let at = nanoseconds(SystemTime::now());
        let stamp = |entry: &FileEntry| {
            let metadata = fs::metadata(self.path(entry)).ok().filter(fs::Metadata::is_file)?;
            Some(FileStamp { size: metadata.len(), mtime: nanoseconds(metadata.modified().ok()?) })
        };
        let files = self.layout.files().iter().map(|entry| if entry.on_disk() { stamp(entry) } else { None });
        Stamps { at, boot: boot().map(str::to_owned), files: files.collect() }
    }

    /// Makes the torrent's files of no bytes, once: no block will ever do it.
    ///
    /// # Errors
    /// Names the file or folder that cannot be made. The next call tries again.
    pub(super) fn make_empty_files(&self) -> Result<(), DiskError> {
        if self.empty_files_made.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let mut empty = self.layout.files().iter().filter(|entry| entry.on_disk() && entry.length == 0);
        empty
            .try_for_each(|entry| files::create(self, entry))
            .inspect_err(|_| self.empty_files_made.store(false, Ordering::Relaxed))
    }

    /// Makes the folders above a file. Answers whether they were known already, and so not looked at.
    ///
    /// # Errors
    /// Names the folder that cannot be made, or leads out of the root.
    pub(super) fn make_folder_of(&self, entry: &FileEntry) -> Result<bool, DiskError> {
        let parent = entry.path.parent().unwrap_or(Path::new(""));
        if self.folders.lock().contains(parent) {
            return Ok(true);
        }
        folders::make(&self.root, parent)?;
        self.folders.lock().insert(parent.to_path_buf());
        Ok(false)
    }

    /// Deletes the torrent's files, and the folders below its root that are empty then. What cannot be deleted stays.
    pub(super) fn delete_files(&self) {
        for entry in self.layout.files().iter().filter(|entry| entry.on_disk()) {
            let path = self.path(entry);
            if std::fs::remove_file(&path).is_err() {
                continue;
            }
            let folders = path.ancestors().skip(1).take_while(|folder| *folder != self.root());
            let _ = folders.map(std::fs::remove_dir).take_while(Result::is_ok).count();
        }
    }

    /// Looks at each folder anew before the next file is made.
    pub(super) fn forget_folders(&self) {
        self.folders.lock().clear();
    }
}

/// A worker's way to a storage's bytes, for the length of one run: consecutive blocks of one file look it up once.
pub(super) struct Access<'a> {
    storage: &'a Storage,
    files: &'a OpenFiles,
    held: Option<(usize, Purpose, Arc<fs::File>)>,
}

impl<'a> Access<'a> {
    pub(super) fn new(storage: &'a Storage, files: &'a OpenFiles) -> Self {
        Self { storage, files, held: None }
    }

    /// Fills `buffer`, which is as long as the span. Padding is zeros.
    ///
    /// # Errors
    /// Names the file that is missing, ends too early or cannot be read.
    pub(super) fn read(&mut self, span: BlockSpan, mut buffer: &mut [u8]) -> Result<(), DiskError> {
        let storage = self.storage;
        for part in storage.layout.spans(span) {
            let (into, rest) = buffer.split_at_mut(part.len as usize);
            buffer = rest;
            let entry = &storage.layout.files()[part.file];
            if !entry.on_disk() {
                into.fill(0);
                continue;
            }
            let file = self.hold(part.file, Purpose::Read)?;
            files::read_exact_at(file, into, part.offset)
                .map_err(|error| disk_error("read", storage.path(entry), error))?;
        }
        Ok(())
    }

    /// Writes `data`, which is together as long as the span. What lies in padding is dropped.
    ///
    /// # Errors
    /// Names the file that cannot be made or written, or a folder above it.
    pub(super) fn write(&mut self, span: BlockSpan, data: &[&[u8]]) -> Result<(), DiskError> {
        let storage = self.storage;
        storage.make_empty_files()?;
        let (mut slices, mut head) = (data.iter().copied(), &[][..]);
        for part in storage.layout.spans(span) {
            let mut from = gather(part.len as usize, &mut head, &mut slices);
            let entry = &storage.layout.files()[part.file];
            if entry.on_disk() {
                let file = self.hold(part.file, Purpose::Write)?;
                files::write_all_at(file, &mut from, part.offset)
                    .map_err(|error| disk_error("write", storage.path(entry), error))?;
            }
        }
        Ok(())
    }

    /// Whether every file is there and long enough to hold its part of the span.
    ///
    /// # Errors
    /// Names the file that exists, but cannot be opened or looked at.
    pub(super) fn holds(&mut self, span: BlockSpan) -> Result<bool, DiskError> {
        let storage = self.storage;
        for part in storage.layout.spans(span) {
            let entry = &storage.layout.files()[part.file];
            if !entry.on_disk() {
                continue;
            }
            let length = match self.hold(part.file, Purpose::Read) {
                Ok(file) => file.metadata().map(|metadata| metadata.len()),
                Err(error) if is_missing(error.error.kind()) => return Ok(false),
                Err(error) => return Err(error),
            };
            let length = length.map_err(|error| disk_error("read", storage.path(entry), error))?;
            if length < part.offset + u64::from(part.len) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Has a span of several files read into memory, all at once. In one file the system reads ahead by itself. What cannot be
    /// opened is left to who reads it.
    pub(super) fn read_ahead(&mut self, span: BlockSpan) {
        let storage = self.storage;
        for part in storage.layout.spans(span).filter(|part| part.len < span.len) {
            let on_disk = storage.layout.files()[part.file].on_disk();
            if on_disk && let Ok(file) = self.hold(part.file, Purpose::Read) {
                files::read_ahead(file, part.offset, part.len);
            }
        }
    }

    /// Whether there is a hole in the span: a part of a file where nothing was written. False where the system does not tell.
    ///
    /// # Errors
    /// Names the file that cannot be opened.
    pub(super) fn has_hole(&mut self, span: BlockSpan) -> Result<bool, DiskError> {
        let storage = self.storage;
        for part in storage.layout.spans(span) {
            let entry = &storage.layout.files()[part.file];
            if !entry.on_disk() {
                continue;
            }
            if files::has_hole(self.hold(part.file, Purpose::Read)?, part.offset, part.len) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn hold(&mut self, file: usize, purpose: Purpose) -> Result<&fs::File, DiskError> {
        let fits =
            |held: &(usize, Purpose, _)| held.0 == file && (held.1 == purpose || held.1 == Purpose::Write);
        let held = match self.held.take().filter(fits) {
            Some(held) => held,
            None => (file, purpose, self.files.file(self.storage, file, purpose)?),
        };
        Ok(&self.held.insert(held).2)
    }
}

/// What names the time between two starts of the system, where it tells.
pub fn boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    };
    BOOT.get_or_init(|| if cfg!(target_os = "linux") { read() } else { None }).as_deref()
}

/// Nanoseconds since 1970, and before it.
pub fn nanoseconds(time: SystemTime) -> i64 {
    let (duration, sign) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (since, 1),
        Err(before) => (before.duration(), -1),
    };
    i64::try_from(duration.as_nanos()).map_or(i64::MAX, |nanoseconds| nanoseconds * sign)
}

/// The next `len` bytes: of `head`, and then of the slices that follow it.
fn gather<'d>(
    mut len: usize,
    head: &mut &'d [u8],
    slices: &mut impl Iterator<Item = &'d [u8]>,
) -> Vec<IoSlice<'d>> {
    let mut gathered = Vec::new();
    while len > 0 {
        if head.is_empty() {
            let Some(next) = slices.next() else { break };
            *head = next;
        }
        let (now, later) = head.split_at(head.len().min(len));
        gathered.push(IoSlice::new(now));
        *head = later;
        len -= now.len();
    }
    gathered
}

/// Whether an error means that there is nothing at a path: the file, or a folder on the way, is missing.
fn is_missing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

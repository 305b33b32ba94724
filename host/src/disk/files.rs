//! The files that are open, and the rules by which they are opened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::folders::{self, disk_error};
use super::resident;
use super::storage::Storage;
use crate::job::{DiskError, StorageId};
use crate::metainfo::FileEntry;

/// How many files a pool keeps open. Above that, the one unused for longest is closed.
pub const OPEN_FILES: usize = 128;

/// The open files of all storages. A file is used without any lock; one that is pushed out is closed by its last user.
#[derive(Default)]
pub(super) struct OpenFiles {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    files: FxHashMap<Key, Entry>,
    clock: u64,
}

type Key = (StorageId, usize);

struct Entry {
    file: Arc<File>,
    writable: bool,
    last_used: u64,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The file must be there.
    Read,
    /// The file and its folders are made if they are missing.
    Write,
}

impl OpenFiles {
    /// The file of that number in the storage's layout.
    ///
    /// # Errors
    /// Names the file, or the folder that could not be made for it.
    pub(super) fn file(
        &self,
        storage: &Storage,
        file: usize,
        purpose: Purpose,
    ) -> Result<Arc<File>, DiskError> {
        let key = (storage.id(), file);
        if let Some(file) = self.open.lock().find(key, purpose) {
            return Ok(file);
        }
        let entry = &storage.layout().files()[file];
        let file = Arc::new(match purpose {
            Purpose::Read => open_to_read(&storage.path(entry))?,
            Purpose::Write => open_to_write(storage, entry)?,
        });
        let pushed_out = self.open.lock().insert(key, file.clone(), purpose);
        // Closing may take its time, so it happens after the lock is gone.
        drop(pushed_out);
        Ok(file)
    }

    /// The file, to be read, if it is open or can be opened without waiting for a disk.
    pub(super) fn file_at_once(&self, storage: &Storage, file: usize) -> Option<Arc<File>> {
        let key = (storage.id(), file);
        {
            let mut open = self.open.lock();
            if let Some(file) = open.find(key, Purpose::Read) {
                return Some(file);
            }
            // To close what was written may take its time.
            if open
                .oldest()
                .is_some_and(|oldest| open.files.len() >= OPEN_FILES && open.files[&oldest].writable)
            {
                return None;
            }
        }
        let file = Arc::new(resident::open(&storage.path(&storage.layout().files()[file]))?);
        self.open.lock().insert(key, file.clone(), Purpose::Read);
        Some(file)
    }

    /// Closes all files of a storage, except for those in use at this moment, which follow when they are done with.
    pub(super) fn close(&self, storage: StorageId) {
        let closed: Vec<_> = {
            let mut open = self.open.lock();
            open.files.extract_if(|key, _| key.0 == storage).collect()
        };
        drop(closed);
    }
}

impl Open {
    fn find(&mut self, key: Key, purpose: Purpose) -> Option<Arc<File>> {
        self.clock += 1;
        let entry = self.files.get_mut(&key)?;
        if purpose == Purpose::Write && !entry.writable {
            return None;
        }
        entry.last_used = self.clock;
        Some(entry.file.clone())
    }

    fn insert(&mut self, key: Key, file: Arc<File>, purpose: Purpose) -> Option<Entry> {
        let entry = Entry { file, writable: purpose == Purpose::Write, last_used: self.clock };
        if let Some(replaced) = self.files.insert(key, entry) {
            return Some(replaced);
        }
        if self.files.len() <= OPEN_FILES {
            return None;
        }
        self.files.remove(&self.oldest()?)
    }

    /// The one unused for longest.
    fn oldest(&self) -> Option<Key> {
        self.files.iter().min_by_key(|(_, entry)| entry.last_used).map(|(&key, _)| key)
    }
}

/// Makes an empty file where there is none, with the folders above it.
///
/// # Errors
/// Names the file or folder that could not be made.
pub(super) fn create(storage: &Storage, entry: &FileEntry) -> Result<(), DiskError> {
    open_to_write(storage, entry).map(drop)
}

fn open_to_read(path: &Path) -> Result<File, DiskError> {
    let named = |error| disk_error("open", path, error);
    refuse_special(fs::metadata(path)).map_err(named)?;
    File::open(path).map_err(named)
}

fn open_to_write(storage: &Storage, entry: &FileEntry) -> Result<File, DiskError> {
    let known = storage.make_folder_of(entry)?;
    match open_or_create(storage, entry) {
        // The folder was there once, and someone has taken it away since.
        Err(error) if known && error.error.kind() == ErrorKind::NotFound => {
            storage.forget_folders();
            storage.make_folder_of(entry)?;
            open_or_create(storage, entry)
        }
        result => result,
    }
}

fn open_or_create(storage: &Storage, entry: &FileEntry) -> Result<File, DiskError> {
    let path = storage.path(entry);
    let operation = match fs::symlink_metadata(&path) {
        Ok(_) => {
            folders::refuse_outside(storage.root(), &path)?;
            refuse_special(fs::metadata(&path)).map_err(|error| disk_error("open", &path, error))?;
            "open"
        }
        Err(_) => "create",
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    mark_executable(&mut options, entry.executable);
    options.open(&path).map_err(|error| disk_error(operation, path, error))
}

/// Opening a named pipe would wait for its other end, and a folder has no bytes.
fn refuse_special(metadata: io::Result<fs::Metadata>) -> io::Result<()> {
    match metadata?.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// For a file that is created now; the user's umask still applies.
#[cfg(unix)]
fn mark_executable(options: &mut OpenOptions, executable: bool) {
    use std::os::unix::fs::OpenOptionsExt;
    if executable {
        options.mode(0o777);
    }
}

#[cfg(not(unix))]
fn mark_executable(_: &mut OpenOptions, _: bool) {}

/// Reads `buffer` full from `offset`.
///
/// # Errors
/// [`ErrorKind::UnexpectedEof`] if the file ends before.
pub(super) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match positioned::read(file, buffer, offset) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the file ends too early")),
            Ok(n) => (buffer, offset) = (&mut buffer[n..], offset + n as u64),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `data`, one slice behind the other, at `offset`. The file grows as needed, with a hole where nothing was written.
///
/// # Errors
/// Whatever the operating system says; part of the data may have been written.
pub(super) fn write_all_at(file: &File, mut data: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        match positioned::write(file, data, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => {
                IoSlice::advance_slices(&mut data, n);
                offset += n as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lets the system read a part of a file into memory, if it is not there, while something else is done.
#[cfg(target_os = "linux")]
pub(super) fn read_ahead(file: &File, offset: u64, len: u32) {
    // What the system does not take as advice it does without.
    let _ = rustix::fs::fadvise(file, offset, NonZero::new(len.into()), rustix::fs::Advice::WillNeed);
}

/// Not known here.
#[cfg(not(target_os = "linux"))]
pub(super) fn read_ahead(_: &File, _: u64, _: u32) {}

/// Whether a part of a file has a hole: some of it was never written. False where that cannot be told.
#[cfg(target_os = "linux")]
pub(super) fn has_hole(file: &File, offset: u64, len: u32) -> bool {
    // Everything here reads and writes at positions of its own, so nobody minds that the file's position moves.
    let hole = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(offset));
    hole.is_ok_and(|hole| hole < offset + u64::from(len))
}

/// As if there was none.
#[cfg(not(target_os = "linux"))]
pub(super) fn has_hole(_: &File, _: u64, _: u32) -> bool {
    false
}

#[cfg(unix)]
mod positioned {
    use std::fs::File;
    use std::io::{self, IoSlice};
    use std::os::unix::fs::FileExt;

    pub(super) fn read(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buffer, offset)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn write(file: &File, data: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(file, data, offset)?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn write(file: &File, data: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        file.write_at(data.first().map_or(&[], |slice| slice), offset)
    }
}

#[cfg(windows)]
mod positioned {
    use std::fs::File;
    use std::io::{self, IoSlice};
    use std::os::windows::fs::FileExt;

    pub(super) fn read(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        file.seek_read(buffer, offset)
    }

    pub(super) fn write(file: &File, data: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        file.seek_write(data.first().map_or(&[], |slice| slice), offset)
    }
}

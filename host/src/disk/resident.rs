//! Reading without waiting: blocks that are in memory already.
//!
//! Handing a block from thread to thread costs more than copying it out of the page cache. Where the system can say "only if
//! it is there" (Linux: `RWF_NOWAIT`, `RESOLVE_CACHED`), whoever must not wait reads it without the pool's threads.

use std::fs::File;
use std::path::Path;

use bytes::Bytes;

use super::files::OpenFiles;
use super::storage::Storage;
use crate::metainfo::{BLOCK_SIZE, BlockSpan};
use crate::wire::BlockPool;

/// The block, if its files are open, or can be opened at once, and hold it in memory. Never waits for a disk.
pub(super) fn read(
    storage: &Storage,
    files: &OpenFiles,
    buffers: &BlockPool,
    span: BlockSpan,
) -> Option<Bytes> {
    let geometry = storage.layout().geometry();
    if span.len > BLOCK_SIZE || geometry.span(span.piece.get(), span.start, span.len) != Some(span) {
        return None;
    }
    let mut buffer = buffers.take(span.len);
    for part in storage.layout().spans(span) {
        let len = part.len as usize;
        let into = &mut buffer.unfilled_mut()[..len];
        if storage.layout().files()[part.file].on_disk() {
            let file = files.file_at_once(storage, part.file)?;
            now::read(&file, into, part.offset).then_some(())?;
        } else {
            into.fill(0);
        }
        buffer.advance(len);
    }
    Some(buffer.freeze())
}

/// Opens a file to be read, if all that this takes is in memory. `None` says nothing about the file.
pub(super) fn open(path: &Path) -> Option<File> {
    now::open(path).filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()))
}

#[cfg(target_os = "linux")]
mod now {
    use std::fs::File;
    use std::io::IoSliceMut;
    use std::path::Path;

    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat2};
    use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

    /// What `fstatfs` calls a file system that is nothing but memory.
    const TMPFS_MAGIC: u64 = 0x0102_1994;

    /// Whether all of `into` was there. A file system that cannot say, an error and the end of the file count as no: the
    /// pool's threads find out which it is.
    pub(super) fn read(file: &File, into: &mut [u8], offset: u64) -> bool {
        let len = into.len();
        match preadv2(file, &mut [IoSliceMut::new(into)], offset, ReadWriteFlags::NOWAIT) {
            Err(Errno::OPNOTSUPP) if is_memory(file) => pread(file, into, offset) == Ok(len),
            read => read == Ok(len),
        }
    }

    /// A named pipe is not waited for.
    pub(super) fn open(path: &Path) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok().map(File::from)
    }

    fn is_memory(file: &File) -> bool {
        // The type of the field differs from machine to machine.
        fstatfs(file).is_ok_and(|about| u64::try_from(about.f_type) == Ok(TMPFS_MAGIC))
    }
}

#[cfg(not(target_os = "linux"))]
mod now {
    use std::fs::File;
    use std::path::Path;

    pub(super) fn read(_: &File, _: &mut [u8], _: u64) -> bool {
        false
    }

    pub(super) fn open(_: &Path) -> Option<File> {
        None
    }
}

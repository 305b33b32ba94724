//! Reading without waiting: blocks that are in memory already.
//!
//! Handing a block from thread to thread costs more than copying it out of the page cache. Where the system can say "only if
//! it is there" (Linux: `RWF_NOWAIT`, `RESOLVE_CACHED`), whoever must not wait reads it without the pool's threads.

use std::fs::File;
use std::io::IoSliceMut;
use std::path::Path;

use bytes::Bytes;

use super::files::OpenFiles;
use super::storage::Storage;
use crate::metainfo::{BLOCK_SIZE, BlockSpan};
use crate::wire::{BlockBuf, BlockPool};

/// Neighbouring blocks of one piece, if their files are open, or can be opened at once, and hold all of them in memory. Never
/// waits for a disk.
pub(super) fn read(
    storage: &Storage,
    files: &OpenFiles,
    pool: &BlockPool,
    run: &[BlockSpan],
) -> Option<Vec<Bytes>> {
    let (first, last) = (run.first()?, run.last()?);
    let geometry = storage.layout().geometry();
    let is_block = |span: &BlockSpan| {
        span.len <= BLOCK_SIZE && geometry.span(span.piece.get(), span.start, span.len) == Some(*span)
    };
    if !run.iter().all(is_block) || !run.is_sorted_by(|left, right| left.precedes(*right)) {
        return None;
    }
    let mut buffers: Vec<BlockBuf> = run.iter().map(|span| pool.take(span.len)).collect();
    for part in storage.layout().spans(BlockSpan { len: last.end() - first.start, ..*first }) {
        let mut into = room(&mut buffers, part.len as usize);
        if storage.layout().files()[part.file].on_disk() {
            let file = files.file_at_once(storage, part.file)?;
            now::read(&file, &mut into, part.offset).then_some(())?;
        } else {
            into.iter_mut().for_each(|slice| slice.fill(0));
        }
        let lens: Vec<usize> = into.iter().map(|slice| slice.len()).collect();
        let unfilled = buffers.iter_mut().filter(|buffer| !buffer.is_full());
        unfilled.zip(lens).for_each(|(buffer, len)| buffer.advance(len));
    }
    Some(buffers.into_iter().map(BlockBuf::freeze).collect())
}

/// Where the next `len` bytes belong.
fn room(buffers: &mut [BlockBuf], len: usize) -> Vec<IoSliceMut<'_>> {
    let mut left = len;
    let unfilled = buffers.iter_mut().filter(|buffer| !buffer.is_full());
    let slices = unfilled.map(|buffer| {
        let rest = buffer.unfilled_mut();
        let len = rest.len().min(left);
        left -= len;
        IoSliceMut::new(&mut rest[..len])
    });
    slices.take_while(|slice| !slice.is_empty()).collect()
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
    use rustix::io::{Errno, ReadWriteFlags, preadv, preadv2};

    /// What `fstatfs` calls a file system that is nothing but memory.
    const TMPFS_MAGIC: u64 = 0x0102_1994;

    /// Whether all of `into` was there. A file system that cannot say, an error and the end of the file count as no: the
    /// pool's threads find out which it is.
    pub(super) fn read(file: &File, into: &mut [IoSliceMut<'_>], offset: u64) -> bool {
        let len = into.iter().map(|slice| slice.len()).sum();
        match preadv2(file, into, offset, ReadWriteFlags::NOWAIT) {
            Err(Errno::OPNOTSUPP) if is_memory(file) => preadv(file, into, offset) == Ok(len),
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

    pub(super) fn read(_: &File, _: &mut [std::io::IoSliceMut<'_>], _: u64) -> bool {
        false
    }

    pub(super) fn open(_: &Path) -> Option<File> {
        None
    }
}

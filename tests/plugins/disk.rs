//! A disk that is a function: whole torrents in memory, every job done at once.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use pilotfish::job::{DiskDone, DiskJob, MetadataError, StorageId};
use pilotfish::metainfo::{BlockSpan, FileLayout, PieceIndex};

/// Torrents in memory.
#[derive(Default)]
pub(crate) struct Disk {
    /// What each torrent should contain, and whether it is there, by name.
    contents: HashMap<String, (&'static [u8], bool)>,
    open: HashMap<StorageId, Stored>,
}

struct Stored {
    layout: Arc<FileLayout>,
    right: &'static [u8],
    data: Vec<u8>,
    /// How many blocks of a piece have been written.
    written: HashMap<PieceIndex, u32>,
}

impl Disk {
    /// What a torrent contains, and whether it is on the disk.
    pub(crate) fn put(&mut self, name: &str, content: &'static [u8], there: bool) {
        self.contents.insert(name.to_owned(), (content, there));
    }

    /// Does a job; its answers in order.
    pub(crate) fn carry_out(&mut self, job: DiskJob) -> Vec<DiskDone> {
        match job {
            DiskJob::Open { storage, layout, .. } => {
                let (right, there) = self.contents.get(layout.name()).copied().unwrap_or_default();
                let data = if there { right.to_vec() } else { vec![0; right.len()] };
                self.open.insert(storage, Stored { layout, right, data, written: HashMap::new() });
                vec![DiskDone::Opened { storage, existing: Ok(there) }]
            }
            DiskJob::Metadata { storage, info, info_hashes } => {
                let metainfo = MetadataError::check(info, &info_hashes).map(Box::new);
                vec![DiskDone::Metadata { storage, metainfo }]
            }
            DiskJob::Check { storage } => {
                let Some(stored) = self.open.get(&storage) else { return Vec::new() };
                let pieces = stored.layout.geometry().pieces();
                let checked =
                    pieces.map(|piece| DiskDone::Checked { storage, piece, have: stored.is_right(piece) });
                checked.chain([DiskDone::CheckFinished { storage, result: Ok(()) }]).collect()
            }
            // No test here adds a torrent with a record, or asks for one.
            DiskJob::CheckPieces { .. } | DiskJob::Stamp { .. } | DiskJob::Restore { .. } => Vec::new(),
            DiskJob::Write { storage, span, data } => {
                let Some(stored) = self.open.get_mut(&storage) else { return Vec::new() };
                let from = stored.offset(span.piece) + span.start as usize;
                stored.data[from..from + data.len()].copy_from_slice(&data);
                drop(data);
                let mut done = vec![DiskDone::Written { storage, span, result: Ok(()) }];
                let written = stored.written.entry(span.piece).or_default();
                *written += 1;
                if *written == stored.layout.geometry().blocks_in(span.piece) {
                    let passed = Ok(stored.is_right(span.piece));
                    done.push(DiskDone::Hashed { storage, piece: span.piece, passed });
                }
                done
            }
            DiskJob::Forget { storage, piece } => {
                self.open.get_mut(&storage).map(|stored| stored.written.remove(&piece));
                Vec::new()
            }
            DiskJob::Read { storage, span, token } => {
                let Some(stored) = self.open.get(&storage) else { return Vec::new() };
                vec![DiskDone::Read { storage, span, token, data: Ok(stored.read(span)) }]
            }
            DiskJob::Digest { storage, span, token } => {
                let Some(stored) = self.open.get(&storage) else { return Vec::new() };
                vec![DiskDone::digest(token, Ok(stored.read(span)))]
            }
            DiskJob::Close { storage, .. } => {
                self.open.remove(&storage);
                vec![DiskDone::Closed { storage }]
            }
        }
    }
}

impl Stored {
    fn offset(&self, piece: PieceIndex) -> usize {
        piece.as_usize() * self.layout.geometry().piece_length() as usize
    }

    fn read(&self, span: BlockSpan) -> Bytes {
        let from = self.offset(span.piece) + span.start as usize;
        Bytes::copy_from_slice(&self.data[from..from + span.len as usize])
    }

    fn is_right(&self, piece: PieceIndex) -> bool {
        let from = self.offset(piece);
        let to = from + self.layout.geometry().piece_size(piece) as usize;
        self.data[from..to] == self.right[from..to]
    }
}

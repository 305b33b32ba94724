//! Blocks that plugins have read from disk.

use bytes::Bytes;
use pilotfish_plugin::{ErrorCode, PeerRequest, PluginId, TorrentHandle, TorrentHooks};

use super::Engine;
use super::state::{Reader, State};
use super::step::Step;
use crate::job::{DiskError, DiskJob, ReadToken};
use crate::metainfo::{BLOCK_SIZE, BlockSpan};
use crate::peer::as_request;

/// So many blocks may be on their way to plugins at a time: 16 MiB.
const MOST_READS: usize = 1_024;

impl State {
    /// The plugin whose hook runs wants to see a block. Whether it will.
    pub(super) fn read_block(&mut self, torrent: TorrentHandle, block: PeerRequest) -> bool {
        let readers = self.reads.values().filter(|reader| matches!(reader, Reader::Plugin(..)));
        let (outstanding, plugin) = (readers.count(), self.calling);
        let Some(t) = self.torrent(torrent).filter(|t| t.opened && !t.removing) else { return false };
        let number = |n: i32| u32::try_from(n).ok();
        let range = || Some((number(block.piece.0)?, number(block.start)?, number(block.length)?));
        let span = range().and_then(|(piece, start, length)| t.geometry().span(piece, start, length));
        let Some(span) = span.filter(|span| span.len <= BLOCK_SIZE) else { return false };
        if outstanding >= MOST_READS {
            return false;
        }
        let (storage, token) = (t.storage, ReadToken(self.fresh_id()));
        self.reads.insert(token, Reader::Plugin(torrent, plugin, span));
        self.disk(DiskJob::Read { storage, span, token });
        true
    }

    /// A block came for a plugin. A file that is missing or too short is no failure of the torrent: who asks for what was
    /// never written learns so.
    pub(super) fn on_read_for_plugin(
        &mut self,
        torrent: TorrentHandle,
        plugin: PluginId,
        span: BlockSpan,
        data: Result<Bytes, DiskError>,
    ) {
        let (data, error) = match data {
            Ok(data) => (data, ErrorCode::NO_ERROR),
            Err(error) => (Bytes::new(), system_error(&error)),
        };
        self.steps.push_back(Step::BlockRead { torrent, plugin, block: as_request(span), data, error });
    }
}

impl Engine {
    pub(super) fn tell_block_read(
        &mut self,
        torrent: TorrentHandle,
        plugin: PluginId,
        block: PeerRequest,
        data: &[u8],
        error: ErrorCode,
    ) {
        let Self { state, chains } = self;
        if let Some(chain) = chains.torrents.get_mut(torrent) {
            chain.only(state, plugin, torrent, TorrentHooks::on_block_read, |p, cx| {
                p.on_block_read(cx, block, data.into(), error)
            });
        }
    }
}

/// What the operating system said, as plugins see it.
fn system_error(error: &DiskError) -> ErrorCode {
    let end_of_file = error.error.kind() == std::io::ErrorKind::UnexpectedEof;
    match error.error.raw_os_error() {
        Some(value) => ErrorCode { category: ErrorCode::SYSTEM, value },
        None if end_of_file => ErrorCode::END_OF_FILE,
        // `EIO`: the one number for it that every system knows.
        None => ErrorCode { category: ErrorCode::SYSTEM, value: 5 },
    }
}

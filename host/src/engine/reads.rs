//! Blocks that plugins have read from disk, or hashed there.

use bytes::Bytes;
use pilotfish_plugin::{ErrorCode, PeerRequest, PluginId, TorrentHandle, TorrentHooks};

use super::Engine;
use super::state::{Reader, State};
use super::step::Step;
use crate::job::{DiskError, DiskJob, ReadToken, StorageId};
use crate::metainfo::{BLOCK_SIZE, BlockSpan};
use crate::peer::as_request;

/// So many blocks may be on their way to plugins at a time: 16 MiB.
const MOST_READS: usize = 1_024;
/// So many hashes of blocks may be on their way to plugins at a time: those of a piece of 256 MiB.
const MOST_HASHES: usize = 16_384;

impl State {
    /// The plugin whose hook runs wants to see a block. Whether it will.
    pub(super) fn read_block(&mut self, torrent: TorrentHandle, block: PeerRequest) -> bool {
        let Some((storage, span)) = self.block_to_read(torrent, block) else { return false };
        let readers = self.reads.values().filter(|reader| matches!(reader, Reader::Plugin(..)));
        if readers.count() >= MOST_READS {
            return false;
        }
        let (plugin, token) = (self.calling, ReadToken(self.fresh_id()));
        self.reads.insert(token, Reader::Plugin(torrent, plugin, span));
        self.disk(DiskJob::Read { storage, span, token });
        true
    }

    /// The plugin whose hook runs wants to know the hash of a block. Whether it will.
    pub(super) fn hash_block(&mut self, torrent: TorrentHandle, block: PeerRequest) -> bool {
        let Some((storage, span)) = self.block_to_read(torrent, block) else { return false };
        // What peers asked for counts too: it is not counted one by one for each of a piece's thousand blocks.
        if self.reads.len() >= MOST_HASHES {
            return false;
        }
        let (plugin, token) = (self.calling, ReadToken(self.fresh_id()));
        self.reads.insert(token, Reader::Hash(torrent, plugin, span));
        self.disk(DiskJob::Digest { storage, span, token });
        true
    }

    /// Where a plugin's block lies, if there is one, and its files are open.
    fn block_to_read(&self, torrent: TorrentHandle, block: PeerRequest) -> Option<(StorageId, BlockSpan)> {
        let t = self.torrent(torrent).filter(|t| t.opened && !t.removing)?;
        let number = |n: i32| u32::try_from(n).ok();
        let (piece, start, length) = (number(block.piece.0)?, number(block.start)?, number(block.length)?);
        let span = t.geometry().span(piece, start, length).filter(|span| span.len <= BLOCK_SIZE)?;
        Some((t.storage, span))
    }

    /// A block was hashed for a plugin.
    pub(super) fn on_digest(&mut self, token: ReadToken, digest: Result<[u8; 20], DiskError>) {
        let Some(Reader::Hash(torrent, plugin, span)) = self.reads.remove(&token) else { return };
        let (sha1, error) = match digest {
            Ok(digest) => (digest.to_vec(), ErrorCode::NO_ERROR),
            Err(error) => (Vec::new(), system_error(&error)),
        };
        self.steps.push_back(Step::BlockHash { torrent, plugin, block: as_request(span), sha1, error });
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

    pub(super) fn tell_block_hash(
        &mut self,
        torrent: TorrentHandle,
        plugin: PluginId,
        block: PeerRequest,
        sha1: &[u8],
        error: ErrorCode,
    ) {
        let Self { state, chains } = self;
        if let Some(chain) = chains.torrents.get_mut(torrent) {
            chain.only(state, plugin, torrent, TorrentHooks::on_block_hash, |p, cx| {
                p.on_block_hash(cx, block, sha1.into(), error)
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

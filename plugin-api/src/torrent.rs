//! A torrent, as a hook sees it.
#![allow(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::answer::HookStatus;
use crate::ban::Ban;
use crate::bencode::Dict;
use crate::context::Scope;
use crate::peer::ask;
use crate::torrent_plugin::TorrentBox;
use crate::value::{
    Endpoint, InfoHashes, PeerHandle, PeerRequest, PeerSource, PexFlags, PieceIndex, TorrentFlags,
    TorrentHandle, TorrentState, Userdata,
};

/// A torrent, for as long as the context stays borrowed (libtorrent's `torrent_handle`). What a method changes takes
/// effect when the hook has returned.
pub struct Torrent<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) handle: TorrentHandle,
}

impl<'a> Torrent<'a> {
    #[inline]
    pub(crate) fn open(scope: &'a Scope, handle: TorrentHandle) -> Option<Self> {
        let torrent = Self { scope, handle };
        let mut state = TorrentState(0);
        (ask!(torrent.torrent.state(&mut state)) != HookStatus::GONE).then_some(torrent)
    }

    /// The handle, to keep.
    #[inline]
    pub fn handle(&self) -> TorrentHandle {
        self.handle
    }

    /// Its identity.
    pub fn info_hashes(&self) -> InfoHashes {
        let mut hashes = InfoHashes::new(None, None);
        ask!(self.torrent.info_hashes(&mut hashes));
        hashes
    }

    /// Its name: the one in the metadata, or in the magnet link before that is known.
    pub fn name(&self) -> String {
        self.text(|s| ask!(self.torrent.name(s)))
    }

    /// What the embedding program attached to it.
    pub fn userdata(&self) -> Userdata {
        let mut data = Userdata(0);
        ask!(self.torrent.userdata(&mut data));
        data
    }

    /// What it is doing.
    pub fn state(&self) -> TorrentState {
        let mut state = TorrentState(0);
        ask!(self.torrent.state(&mut state));
        state
    }

    /// Its figures at this moment.
    pub fn status(&self) -> TorrentStatus {
        TorrentStatus(self.bytes(|s| ask!(self.torrent.status(s))))
    }

    /// Whether it is paused: visible as soon as `pause` was called.
    pub fn is_paused(&self) -> bool {
        ask!(self.torrent.is_paused()) == HookStatus::HANDLED
    }

    /// Pauses it: its peers are disconnected.
    pub fn pause(&self) {
        ask!(self.torrent.pause());
    }

    /// Pauses it, but lets the blocks that were asked for come first: each connection is closed when its last has.
    /// `on_pause` is called now, and again when the last connection is gone (libtorrent's `graceful_pause`).
    pub fn pause_gracefully(&self) {
        ask!(self.torrent.pause_gracefully());
    }

    /// Resumes it.
    pub fn resume(&self) {
        ask!(self.torrent.resume());
    }

    /// Disconnects its peers and hashes all files again.
    pub fn force_recheck(&self) {
        ask!(self.torrent.force_recheck());
    }

    /// Attaches a plugin to it while it runs. `new_connection` is called for each connection that it has already, with
    /// [`Attach::LATE`](crate::Attach::LATE).
    pub fn add_extension(&self, plugin: TorrentBox) {
        ask!(self.torrent.add_extension(plugin));
    }

    /// Offers it a peer (`on_add_peer`), which is connected to when its turn comes.
    pub fn connect_peer(&self, address: SocketAddr, source: PeerSource) {
        ask!(self.torrent.connect_peer(address.into(), source));
    }

    /// As [`connect_peer`](Self::connect_peer), with what is said of the peer: one that is said to be a seed is not
    /// connected to once the torrent is finished.
    pub fn add_peer(&self, address: SocketAddr, source: PeerSource, flags: PexFlags) {
        ask!(self.torrent.add_peer(address.into(), source, flags));
    }

    /// Bans the address, whatever its port, from this torrent, and disconnects it.
    pub fn ban(&self, address: SocketAddr) {
        ask!(self.torrent.ban(address.into()));
    }

    /// As [`ban`](Self::ban), and says why: the text is in the alert `peer_ban` and in the list of bans, cut after 200
    /// characters.
    pub fn ban_for(&self, address: SocketAddr, reason: &str) {
        ask!(self.torrent.ban_for(address.into(), reason.into()));
    }

    /// Lifts a ban from this torrent, whoever asked for it; one from the session stays.
    pub fn unban(&self, address: SocketAddr) {
        ask!(self.torrent.unban(address.into()));
    }

    /// Who is banned from this torrent.
    pub fn bans(&self) -> Vec<Ban> {
        Ban::read(&self.bytes(|s| ask!(self.torrent.bans(s))))
    }

    /// Its connections.
    pub fn peers(&self) -> Vec<PeerHandle> {
        words(&self.bytes(|s| ask!(self.torrent.peers(s)))).map(PeerHandle::from_raw).collect()
    }

    /// Whether we have a piece; `false` for a number out of range.
    pub fn have_piece(&self, piece: PieceIndex) -> bool {
        ask!(self.torrent.have_piece(piece)) == HookStatus::HANDLED
    }

    /// How many pieces it has; 0 until the metadata is known.
    pub fn num_pieces(&self) -> u32 {
        let mut n = 0;
        ask!(self.torrent.num_pieces(&mut n));
        n
    }

    /// The size of a piece in bytes; 0 for a number out of range.
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        let mut n = 0;
        ask!(self.torrent.piece_size(piece, &mut n));
        n
    }

    /// Its size in bytes; 0 until the metadata is known.
    pub fn total_size(&self) -> u64 {
        let mut n = 0;
        ask!(self.torrent.total_size(&mut n));
        n
    }

    /// The priority of a piece, 0 (not wanted) to 7; 0 for a number out of range.
    pub fn piece_priority(&self, piece: PieceIndex) -> u8 {
        let mut priority = 0;
        ask!(self.torrent.piece_priority(piece, &mut priority));
        priority
    }

    /// Sets the priority of a piece, 0 (not wanted) to 7.
    pub fn set_piece_priority(&self, piece: PieceIndex, priority: u8) {
        ask!(self.torrent.set_piece_priority(piece, priority));
    }

    /// How many of the connected peers have each piece.
    pub fn piece_availability(&self) -> Vec<u32> {
        let bytes = self.bytes(|s| ask!(self.torrent.piece_availability(s)));
        bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }

    /// Who sent the blocks of a piece that is being downloaded, or that has just passed or failed: the distinct
    /// connections, as far as they are still there.
    pub fn contributors(&self, piece: PieceIndex) -> Vec<PeerHandle> {
        words(&self.bytes(|s| ask!(self.torrent.contributors(piece, s)))).map(PeerHandle::from_raw).collect()
    }

    /// Who sent each block of a piece that is being downloaded, or that has just passed or failed; `None` for a block that
    /// is not here (libtorrent's `piece_picker::get_downloaders`). Also those whose connection has ended since:
    /// [`downloader_address`](Self::downloader_address) knows where they were.
    pub fn downloaders(&self, piece: PieceIndex) -> Vec<Option<PeerHandle>> {
        let handles = self.bytes(|s| ask!(self.torrent.downloaders(piece, s)));
        let handle = |raw| Some(PeerHandle::from_raw(raw)).filter(|peer| *peer != PeerHandle::INVALID);
        words(&handles).map(handle).collect()
    }

    /// The address of a peer that is connected, or that has sent a block of a piece that is neither had nor lost yet.
    pub fn downloader_address(&self, peer: PeerHandle) -> Option<SocketAddr> {
        let mut address = Endpoint::UNSPECIFIED;
        let known = ask!(self.torrent.downloader_address(peer, &mut address)) == HookStatus::HANDLED;
        known.then(|| address.into())
    }

    /// Has a block hashed where the disk is read, with SHA-1; [`TorrentPlugin::on_block_hash`](crate::TorrentPlugin::on_block_hash)
    /// of the plugin that asks is the answer. In everything else it is as [`read_block`](Self::read_block), but for the
    /// limit: 16,384 answers may be outstanding in the session.
    pub fn hash_block(&self, block: PeerRequest) -> bool {
        ask!(self.torrent.hash_block(&block)) == HookStatus::HANDLED
    }

    /// Has a block read from disk, at most 16 KiB of one piece; [`TorrentPlugin::on_block_read`](crate::TorrentPlugin::on_block_read)
    /// of the plugin that asks is the answer. What has been received of the piece so far is written first. A piece that has
    /// just failed its hash check is read as it failed, if that is asked for in `on_piece_failed`. `false`: the torrent has no
    /// such block, its files are not open yet, or 1,024 answers are outstanding in the session.
    pub fn read_block(&self, block: PeerRequest) -> bool {
        ask!(self.torrent.read_block(&block)) == HookStatus::HANDLED
    }

    /// Whether the info dictionary is known. Of a torrent that was added by a magnet link it is not, until peers have sent
    /// it: until then there are no pieces, and no files.
    pub fn has_metadata(&self) -> bool {
        ask!(self.torrent.has_metadata()) == HookStatus::HANDLED
    }

    /// Hands in the info dictionary of a torrent whose metadata is missing. It is hashed and read elsewhere; then
    /// [`on_metadata`](crate::TorrentPlugin::on_metadata) tells everyone, or
    /// [`on_metadata_failed`](crate::TorrentPlugin::on_metadata_failed) tells the plugin that it is the wrong one. `false`: none
    /// is missing, another is being looked at, or this one is longer than the setting `max_metadata_size`.
    pub fn set_metadata(&self, info: &[u8]) -> bool {
        ask!(self.torrent.set_metadata(info.into())) == HookStatus::HANDLED
    }

    /// The info dictionary, byte for byte; empty until it is known.
    pub fn metadata(&self) -> Vec<u8> {
        self.bytes(|s| ask!(self.torrent.metadata(s)))
    }

    /// The folder that holds its files.
    pub fn save_path(&self) -> PathBuf {
        self.text(|s| ask!(self.torrent.save_path(s))).into()
    }

    /// Whether its peers may come from its trackers alone (BEP 27).
    pub fn is_private(&self) -> bool {
        ask!(self.torrent.is_private()) == HookStatus::HANDLED
    }

    /// Limits how much of it is sent, protocol included, in B/s; 0 is no limit. The session's limit, which is the setting
    /// `upload_rate_limit`, holds besides.
    pub fn set_upload_limit(&self, limit: u32) {
        ask!(self.torrent.set_upload_limit(limit));
    }

    /// The limit of what is sent, in B/s; 0 is none.
    pub fn upload_limit(&self) -> u32 {
        let mut limit = 0;
        ask!(self.torrent.upload_limit(&mut limit));
        limit
    }

    /// Limits how much of it is received, protocol included, in B/s; 0 is no limit. The session's limit, which is the
    /// setting `download_rate_limit`, holds besides.
    pub fn set_download_limit(&self, limit: u32) {
        ask!(self.torrent.set_download_limit(limit));
    }

    /// The limit of what is received, in B/s; 0 is none.
    pub fn download_limit(&self) -> u32 {
        let mut limit = 0;
        ask!(self.torrent.download_limit(&mut limit));
        limit
    }

    /// Limits how many peers it is uploaded to at a time; 0 is no limit.
    pub fn set_max_uploads(&self, most: u32) {
        ask!(self.torrent.set_max_uploads(most));
    }

    /// The most peers that it is uploaded to at a time; 0 is no limit.
    pub fn max_uploads(&self) -> u32 {
        let mut most = 0;
        ask!(self.torrent.max_uploads(&mut most));
        most
    }

    /// Limits how many connections it has at a time; 0 is no limit. Those that are too many are closed.
    pub fn set_max_connections(&self, most: u32) {
        ask!(self.torrent.set_max_connections(most));
    }

    /// The most connections that it has at a time; 0 is no limit.
    pub fn max_connections(&self) -> u32 {
        let mut most = 0;
        ask!(self.torrent.max_connections(&mut most));
        most
    }

    /// What it was told to do.
    pub fn flags(&self) -> TorrentFlags {
        let mut flags = TorrentFlags::NONE;
        ask!(self.torrent.flags(&mut flags));
        flags
    }

    fn bytes(&self, f: impl FnOnce(crate::host_api::Sink<'_>) -> HookStatus) -> Vec<u8> {
        self.scope.collect(f).unwrap_or_default()
    }

    fn text(&self, f: impl FnOnce(crate::host_api::Sink<'_>) -> HookStatus) -> String {
        self.scope.text(f).unwrap_or_default()
    }
}

/// Handles as they come through a sink: eight bytes each, little-endian.
pub(crate) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word))
}

/// A torrent's figures at one moment (libtorrent's `torrent_status`), by libtorrent's field names.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TorrentStatus(Vec<u8>);

macro_rules! status {
    ($( $(#[doc = $doc:literal])* $name:ident; )*) => {
        impl TorrentStatus {
            $( $(#[doc = $doc])* pub fn $name(&self) -> i64 { self.dict().int(stringify!($name)).unwrap_or(0) } )*
        }
    };
}

status! {
    /// How much is there, 0 to 1,000,000.
    progress_ppm;
    /// Verified bytes.
    total_done;
    /// All bytes.
    total;
    /// Payload received in this session, in bytes.
    total_payload_download;
    /// Payload sent in this session, in bytes.
    total_payload_upload;
    /// Payload received, in B/s.
    download_payload_rate;
    /// Payload sent, in B/s.
    upload_payload_rate;
    /// Connections.
    num_peers;
    /// Connections to seeds.
    num_seeds;
    /// Pieces that we have.
    num_pieces;
    /// Bytes thrown away because their piece failed its hash check.
    total_failed_bytes;
    /// Bytes that came twice.
    total_redundant_bytes;
}

impl TorrentStatus {
    /// All fields, also those that are newer than this plugin.
    pub fn dict(&self) -> Dict<'_> {
        Dict::parse(&self.0).map_or_else(Dict::default, |(dict, _)| dict)
    }
}

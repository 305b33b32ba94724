//! libtorrent's `torrent_handle`, as far as plugins have use for it.

use pilotfish_plugin::rt::abi_stable::std_types::{RSlice, RStr};
use pilotfish_plugin::rt::{Endpoint, Sink};
use pilotfish_plugin::{
    InfoHashes, PeerHandle, PeerRequest, PeerSource, PexFlags, PieceIndex, TorrentBox, TorrentFlags,
    TorrentHandle, TorrentState, Userdata,
};

use super::{NO, YES, host_functions, yes_if};
use crate::command::TorrentLimit;
use crate::engine::bans::bencode_bans;
use crate::engine::pausing::PauseChange;
use crate::engine::state::State;
use crate::engine::step::{Boxed, Step, plugin_hashes};
use crate::metainfo::PieceIndex as ValidPiece;

impl State {
    /// A piece number of a plugin, if the torrent has such a piece.
    fn valid_piece(&self, torrent: TorrentHandle, piece: PieceIndex) -> Option<ValidPiece> {
        self.torrent(torrent)?.geometry().piece(u32::try_from(piece.0).ok()?)
    }

    /// Has a torrent paused or resumed after the hook; visible at once.
    fn ask_pause(&mut self, torrent: TorrentHandle, change: PauseChange) -> Option<()> {
        self.torrent_mut(torrent)?.pause_asked = Some(change.pauses());
        self.steps.push_back(Step::Pause(torrent, change));
        Some(())
    }
}

/// Handles as they go through a sink: eight bytes each, little-endian.
pub(super) fn words(handles: impl IntoIterator<Item = u64>) -> Vec<u8> {
    handles.into_iter().flat_map(u64::to_le_bytes).collect()
}

host_functions! {
    fn info_hashes(state, torrent: TorrentHandle, out: &mut InfoHashes) {
        *out = plugin_hashes(state.torrent(torrent)?.description.info_hashes());
        YES
    }

    fn name(state, torrent: TorrentHandle, out: Sink<'_>) {
        out.put(state.torrent(torrent)?.name().as_bytes());
        YES
    }

    fn userdata(state, torrent: TorrentHandle, out: &mut Userdata) {
        *out = state.torrent(torrent)?.userdata;
        YES
    }

    fn state(state, torrent: TorrentHandle, out: &mut TorrentState) {
        *out = state.torrent(torrent)?.state;
        YES
    }

    fn status(state, torrent: TorrentHandle, out: Sink<'_>) {
        out.put(&state.torrent_status_bencoded(torrent)?);
        YES
    }

    fn is_paused(state, torrent: TorrentHandle) {
        let t = state.torrent(torrent)?;
        yes_if(t.pause_asked.unwrap_or(t.paused))
    }

    fn pause(state, torrent: TorrentHandle) {
        state.ask_pause(torrent, PauseChange::Pause)?;
        YES
    }

    fn pause_gracefully(state, torrent: TorrentHandle) {
        state.ask_pause(torrent, PauseChange::PauseGracefully)?;
        YES
    }

    fn resume(state, torrent: TorrentHandle) {
        state.ask_pause(torrent, PauseChange::Resume)?;
        YES
    }

    fn force_recheck(state, torrent: TorrentHandle) {
        state.torrent(torrent)?;
        state.steps.push_back(Step::Recheck(torrent));
        YES
    }

    fn add_extension(state, torrent: TorrentHandle, plugin: TorrentBox) {
        state.torrent(torrent)?;
        let owner = state.calling;
        state.steps.push_back(Step::AttachTorrent(torrent, owner, Boxed(plugin)));
        YES
    }

    fn connect_peer(state, torrent: TorrentHandle, address: Endpoint, source: PeerSource) {
        state.torrent(torrent)?;
        state.steps.push_back(Step::OfferPeer(torrent, address.into(), source));
        YES
    }

    fn ban(state, torrent: TorrentHandle, address: Endpoint) {
        state.torrent(torrent)?;
        let reason = state.plugins_reason("it did not say why");
        state.steps.push_back(Step::Ban(Some(torrent), address.into(), reason));
        YES
    }

    fn peers(state, torrent: TorrentHandle, out: Sink<'_>) {
        out.put(&words(state.torrent(torrent)?.peers.iter().map(|peer| peer.into_raw())));
        YES
    }

    fn have_piece(state, torrent: TorrentHandle, piece: PieceIndex) {
        let valid = state.valid_piece(torrent, piece);
        let t = state.torrent(torrent)?;
        yes_if(valid.is_some_and(|piece| t.picker.have(piece)))
    }

    fn num_pieces(state, torrent: TorrentHandle, out: &mut u32) {
        *out = state.torrent(torrent)?.geometry().num_pieces();
        YES
    }

    fn piece_size(state, torrent: TorrentHandle, piece: PieceIndex, out: &mut u32) {
        let valid = state.valid_piece(torrent, piece);
        let geometry = state.torrent(torrent)?.geometry();
        *out = valid.map_or(0, |piece| geometry.piece_size(piece));
        YES
    }

    fn total_size(state, torrent: TorrentHandle, out: &mut u64) {
        *out = state.torrent(torrent)?.geometry().total();
        YES
    }

    fn piece_priority(state, torrent: TorrentHandle, piece: PieceIndex, out: &mut u8) {
        let valid = state.valid_piece(torrent, piece);
        let t = state.torrent(torrent)?;
        *out = valid.map_or(0, |piece| t.picker.priority(piece).get());
        YES
    }

    fn set_piece_priority(state, torrent: TorrentHandle, piece: PieceIndex, priority: u8) {
        let raw = u32::try_from(piece.0).ok()?;
        yes_if(state.set_piece_priority(torrent, raw, priority))
    }

    fn piece_availability(state, torrent: TorrentHandle, out: Sink<'_>) {
        let t = state.torrent(torrent)?;
        let counts: Vec<u8> = t.geometry().pieces().flat_map(|p| t.picker.availability(p).to_le_bytes()).collect();
        out.put(&counts);
        YES
    }

    fn contributors(state, torrent: TorrentHandle, piece: PieceIndex, out: Sink<'_>) {
        let valid = state.valid_piece(torrent, piece);
        let t = state.torrent(torrent)?;
        let peers: Vec<PeerHandle> = valid.map(|piece| t.picker.contributors(piece)).unwrap_or_default();
        out.put(&words(peers.into_iter().filter(|peer| state.peer(*peer).is_some()).map(PeerHandle::into_raw)));
        YES
    }

    fn read_block(state, torrent: TorrentHandle, block: &PeerRequest) {
        yes_if(state.read_block(torrent, *block))
    }

    fn has_metadata(state, torrent: TorrentHandle) {
        yes_if(state.torrent(torrent)?.has_metadata())
    }

    fn set_metadata(state, torrent: TorrentHandle, info: RSlice<'_, u8>) {
        yes_if(state.offer_metadata(torrent, info.as_slice()))
    }

    fn metadata(state, torrent: TorrentHandle, out: Sink<'_>) {
        out.put(state.torrent(torrent)?.description.metainfo()?.info_bytes());
        YES
    }

    fn save_path(state, torrent: TorrentHandle, out: Sink<'_>) {
        out.put(state.torrent(torrent)?.save_path.to_string_lossy().as_bytes());
        YES
    }

    fn is_private(state, torrent: TorrentHandle) {
        yes_if(state.torrent(torrent)?.is_private())
    }

    fn flags(state, torrent: TorrentHandle, out: &mut TorrentFlags) {
        *out = state.torrent(torrent)?.flags();
        YES
    }

    fn add_peer(state, torrent: TorrentHandle, address: Endpoint, source: PeerSource, flags: PexFlags) {
        state.torrent(torrent)?;
        let teller = state.teller;
        state.steps.push_back(Step::AddPeer { torrent, address: address.into(), source, flags, teller });
        YES
    }

    fn downloaders(state, torrent: TorrentHandle, piece: PieceIndex, out: Sink<'_>) {
        let valid = state.valid_piece(torrent, piece);
        let t = state.torrent(torrent)?;
        let peers = valid.map(|piece| t.picker.downloaders(piece)).unwrap_or_default();
        out.put(&words(peers.into_iter().map(|peer| peer.unwrap_or(PeerHandle::INVALID).into_raw())));
        YES
    }

    fn downloader_address(state, torrent: TorrentHandle, peer: PeerHandle, out: &mut Endpoint) {
        state.torrent(torrent)?;
        let Some(address) = state.address_of_downloader(torrent, peer) else { return NO };
        *out = address.into();
        YES
    }

    fn hash_block(state, torrent: TorrentHandle, block: &PeerRequest) {
        yes_if(state.hash_block(torrent, *block))
    }

    fn ban_for(state, torrent: TorrentHandle, address: Endpoint, reason: RStr<'_>) {
        state.torrent(torrent)?;
        let reason = state.plugins_reason(reason.as_str());
        state.steps.push_back(Step::Ban(Some(torrent), address.into(), reason));
        YES
    }

    fn unban(state, torrent: TorrentHandle, address: Endpoint) {
        yes_if(state.lift_ban(Some(torrent), address.into())?)
    }

    fn bans(state, torrent: TorrentHandle, out: Sink<'_>) {
        out.put(&bencode_bans(state.torrent(torrent)?.candidates.banned()));
        YES
    }

    fn set_upload_limit(state, torrent: TorrentHandle, limit: u32) {
        state.set_torrent_limit(torrent, TorrentLimit::Upload(limit))?;
        YES
    }

    fn upload_limit(state, torrent: TorrentHandle, out: &mut u32) {
        *out = state.torrent(torrent)?.limits().upload_limit;
        YES
    }

    fn set_download_limit(state, torrent: TorrentHandle, limit: u32) {
        state.set_torrent_limit(torrent, TorrentLimit::Download(limit))?;
        YES
    }

    fn download_limit(state, torrent: TorrentHandle, out: &mut u32) {
        *out = state.torrent(torrent)?.limits().download_limit;
        YES
    }

    fn set_max_uploads(state, torrent: TorrentHandle, most: u32) {
        state.set_torrent_limit(torrent, TorrentLimit::Uploads(most))?;
        YES
    }

    fn max_uploads(state, torrent: TorrentHandle, out: &mut u32) {
        *out = state.torrent(torrent)?.max_uploads;
        YES
    }

    fn set_max_connections(state, torrent: TorrentHandle, most: u32) {
        state.set_torrent_limit(torrent, TorrentLimit::Connections(most))?;
        YES
    }

    fn max_connections(state, torrent: TorrentHandle, out: &mut u32) {
        *out = state.torrent(torrent)?.max_connections;
        YES
    }
}

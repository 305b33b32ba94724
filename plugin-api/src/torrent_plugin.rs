//! Plugins on torrents (libtorrent's `torrent_plugin`).
#![allow(unsafe_code)]

use std::net::SocketAddr;

use abi_stable::std_types::{ROption, RSlice};

use crate::answer::Verdict;
use crate::context::TorrentContext;
use crate::error::ErrorCode;
use crate::peer_plugin::PeerBox;
use crate::table::hook_table;
use crate::value::{
    AddPeerFlags, Attach, Endpoint, PeerHandle, PeerRequest, PeerSource, PieceIndex, PieceOrigin, Refusal,
    TorrentState,
};

hook_table! {
    /// Sees one torrent. libtorrent: `torrent_plugin`, all 9 members.
    ///
    /// Every hook runs on the network thread, and has a default that changes nothing. If one panics, the plugin is
    /// detached from this torrent and its peers, without `on_disconnect`; a panic of `new_connection` closes that
    /// connection too.
    trait TorrentPlugin, context TorrentContext, set TorrentHooks, wire TorrentVtable as TorrentVtableRef, boxed TorrentBox, flat TorrentTable, object TorrentObject;
    hooks {
        /// A connection was made for this torrent: an outgoing one before it is tried, an incoming one when its info-hash is
        /// known. The plugin object that it returns sees that connection.
        fn new_connection(peer: PeerHandle => PeerHandle, attach: Attach => Attach) -> Option<PeerBox> => ROption<PeerBox> = None;
        /// A piece is there: downloaded, found by a check, or known from resume data.
        fn on_piece_pass(piece: PieceIndex => PieceIndex, origin: PieceOrigin => PieceOrigin) -> () = ();
        /// A downloaded piece failed its hash check. Its contributors can still be asked for.
        fn on_piece_failed(piece: PieceIndex => PieceIndex) -> () = ();
        /// Once per second, also while nothing happens.
        fn tick() -> () = ();
        /// The torrent is about to be resumed. Handled: it stays paused.
        fn on_resume() -> Verdict = Verdict::Continue;
        /// The torrent is about to be paused. Handled: it goes on. Of a graceful pause it comes twice: when
        /// that begins, and when its last connection is gone or it is made a pause at once.
        fn on_pause() -> Verdict = Verdict::Continue;
        /// The files have been checked, and downloading or seeding can begin: once per completed check, and once when the
        /// plugin is attached if checking is over. Of a magnet link not before its metadata is there.
        fn on_files_checked() -> () = ();
        /// The torrent's state changed.
        fn on_state(state: TorrentState => TorrentState) -> () = ();
        /// A peer was offered. `source` is who offered it now, `sources` everyone so far; `refusal` says why `flags` has
        /// `FILTERED`. Not for incoming connections.
        fn on_add_peer(address: SocketAddr => Endpoint, source: PeerSource => PeerSource, sources: PeerSource => PeerSource, flags: AddPeerFlags => AddPeerFlags, refusal: Refusal => Refusal) -> () = ();
        /// The torrent was added by a magnet link, and its info dictionary is known now: it has pieces and files, which are
        /// looked at next. Once; not called where it was known from the start. (Beyond libtorrent.)
        fn on_metadata() -> () = ();
        /// What this plugin handed in by [`Torrent::set_metadata`](crate::Torrent::set_metadata) is not the torrent's info
        /// dictionary: some peer lied. (Beyond libtorrent.)
        fn on_metadata_failed() -> () = ();
        /// The answer to [`Torrent::read_block`](crate::Torrent::read_block), for the plugin that asked: the bytes of the block as
        /// they are on disk, or why they cannot be read. Answers come in any order. (Beyond libtorrent, whose plugins reach
        /// into its disk cache.)
        fn on_block_read(block: PeerRequest => PeerRequest, data: &[u8] => RSlice<'_, u8>, error: ErrorCode => ErrorCode) -> () = ();
        /// The torrent is being removed from the session; nothing comes after it. (Beyond libtorrent.)
        fn on_removed() -> () = ();
        /// The answer to [`Torrent::hash_block`](crate::Torrent::hash_block), for the plugin that asked: the SHA-1 of the block
        /// as it is on disk, or nothing and why it cannot be read. Answers come in any order. (Beyond libtorrent.)
        fn on_block_hash(block: PeerRequest => PeerRequest, sha1: &[u8] => RSlice<'_, u8>, error: ErrorCode => ErrorCode) -> () = ();
    }
}

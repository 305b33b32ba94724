//! The functions that the host lends to plugins: one table per subject, appended to and never changed.
//!
//! Authors do not see this module; `Peer`, `Torrent`, `Session` and `Entry` are its faces. The rules of every function
//! here: it is called on the network thread, inside a hook; it validates each argument; it never panics; it never calls
//! a plugin. Strings and lists go out through a [`Sink`], so that nobody frees what another allocated.
#![allow(unsafe_code, missing_docs)]

use std::marker::PhantomData;

use abi_stable::StableAbi;
use abi_stable::std_types::{ROption, RSlice, RStr};

use crate::answer::HookStatus;
use crate::cipher_plugin::CipherBox;
use crate::entry::EntryId;
use crate::error::{ErrorCode, Operation, Severity};
use crate::mailbox::RawWaker;
use crate::peer_plugin::PeerBox;
use crate::torrent_plugin::TorrentBox;
use crate::value::{
    AlertCategory, Endpoint, InfoHashes, PeerHandle, PeerId, PeerRequest, PeerSource, PexFlags, PieceIndex,
    PluginId, Reserved, TorrentFlags, TorrentHandle, TorrentState, Userdata,
};

/// The host's side of one hook call. A raw pointer, so that whatever holds it is neither `Send` nor `Sync`.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy)]
pub struct HostPtr(pub *mut ());

/// Receives bytes of any length from the other side of the boundary, into a buffer of its own side.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Sink<'a> {
    data: *mut (),
    put: unsafe extern "C" fn(*mut (), RSlice<'_, u8>),
    _buffer: PhantomData<&'a mut ()>,
}

impl<'a> Sink<'a> {
    /// Appends what arrives to `buffer`.
    pub fn to(buffer: &'a mut Vec<u8>) -> Self {
        unsafe extern "C" fn put(data: *mut (), bytes: RSlice<'_, u8>) {
            // SAFETY: `data` is the vector below, which the sink borrows mutably for as long as it lives.
            unsafe { &mut *data.cast::<Vec<u8>>() }.extend_from_slice(bytes.as_slice());
        }
        Self { data: (&raw mut *buffer).cast(), put, _buffer: PhantomData }
    }

    /// Hands bytes over.
    pub fn put(&self, bytes: &[u8]) {
        // SAFETY: `data` and `put` were made together by `to`, whose borrow still holds.
        unsafe { (self.put)(self.data, bytes.into()) };
    }
}

macro_rules! host_table {
    ($(#[$meta:meta])* table $Api:ident as $ApiRef:ident; $( $(#[doc = $doc:literal])* fn $name:ident ( $( $arg:ident : $ty:ty ),* ); )*) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(StableAbi)]
        #[sabi(kind(Prefix(prefix_ref = $ApiRef)))]
        pub struct $Api {
            /// The API minor version of the host.
            #[sabi(last_prefix_field)]
            pub minor: u16,
            $( $(#[doc = $doc])* pub $name: unsafe extern "C" fn(host: HostPtr, $( $arg: $ty ),*) -> HookStatus, )*
        }
    };
}

/// All tables.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostApiRef)))]
pub struct HostApi {
    pub log: LogApiRef,
    pub entry: EntryApiRef,
    pub peer: PeerApiRef,
    pub bt: BtApiRef,
    pub torrent: TorrentApiRef,
    #[sabi(last_prefix_field)]
    pub session: SessionApiRef,
}

host_table! {
    /// Log lines.
    table LogApi as LogApiRef;
    fn log(level: u8, text: RStr<'_>);
    /// Whether a line of this level would be seen by anyone.
    fn enabled(level: u8);
}

host_table! {
    /// Dictionaries under construction.
    table EntryApi as EntryApiRef;
    fn insert_int(entry: EntryId, key: RSlice<'_, u8>, value: i64);
    fn insert_bytes(entry: EntryId, key: RSlice<'_, u8>, value: RSlice<'_, u8>);
    fn insert_bencoded(entry: EntryId, key: RSlice<'_, u8>, value: RSlice<'_, u8>);
    fn dict(entry: EntryId, key: RSlice<'_, u8>, out: &mut EntryId);
    fn encode(entry: EntryId, out: Sink<'_>);
    fn remove(entry: EntryId, key: RSlice<'_, u8>);
}

host_table! {
    /// libtorrent's `peer_connection_handle`.
    table PeerApi as PeerApiRef;
    /// The yes/no questions at once: `PeerFlags`.
    fn flags(peer: PeerHandle, out: &mut u32);
    fn connection_type(peer: PeerHandle, out: &mut u8);
    fn pid(peer: PeerHandle, out: &mut PeerId);
    fn remote(peer: PeerHandle, out: &mut Endpoint);
    fn local_endpoint(peer: PeerHandle, out: &mut Endpoint);
    fn associated_torrent(peer: PeerHandle, out: &mut TorrentHandle);
    fn has_piece(peer: PeerHandle, piece: PieceIndex);
    fn choke(peer: PeerHandle);
    fn maybe_unchoke(peer: PeerHandle);
    fn disconnect(peer: PeerHandle, error: ErrorCode, operation: Operation, severity: Severity);
    fn can_disconnect(peer: PeerHandle, error: ErrorCode);
    fn send_buffer(peer: PeerHandle, bytes: RSlice<'_, u8>);
    fn register_extended(peer: PeerHandle, name: RStr<'_>, out: &mut u8);
    fn send_extended(peer: PeerHandle, name: RStr<'_>, payload: RSlice<'_, u8>);
    fn add_extension(peer: PeerHandle, plugin: PeerBox);
    fn find_plugin(peer: PeerHandle, name: RStr<'_>, out: &mut PluginId);
    fn peer_info(peer: PeerHandle, out: Sink<'_>);
    fn set_has_metadata(peer: PeerHandle, has: u8);
    fn time_of_last_unchoke(peer: PeerHandle, out: &mut u64);
    fn last_seen_complete(peer: PeerHandle, out: &mut i64);
    fn should_log(peer: PeerHandle, direction: u8);
    fn peer_log(peer: PeerHandle, direction: u8, event: RStr<'_>, message: RStr<'_>);
    fn send_queue_len(peer: PeerHandle, out: &mut u64);
    fn set_upload_limit(peer: PeerHandle, limit: u32);
    fn set_download_limit(peer: PeerHandle, limit: u32);
    /// 0: not known.
    fn listen_port(peer: PeerHandle, out: &mut u16);
}

host_table! {
    /// What `bt_peer_connection_handle` adds.
    table BtApi as BtApiRef;
    fn packet_finished(peer: PeerHandle);
    fn switch_send_crypto(peer: PeerHandle, cipher: ROption<CipherBox>);
    fn switch_recv_crypto(peer: PeerHandle, cipher: ROption<CipherBox>);
    fn reserved(peer: PeerHandle, out: &mut Reserved);
}

host_table! {
    /// libtorrent's `torrent_handle`, as far as a plugin has use for it.
    table TorrentApi as TorrentApiRef;
    fn info_hashes(torrent: TorrentHandle, out: &mut InfoHashes);
    fn name(torrent: TorrentHandle, out: Sink<'_>);
    fn userdata(torrent: TorrentHandle, out: &mut Userdata);
    fn state(torrent: TorrentHandle, out: &mut TorrentState);
    fn status(torrent: TorrentHandle, out: Sink<'_>);
    fn is_paused(torrent: TorrentHandle);
    fn pause(torrent: TorrentHandle);
    fn pause_gracefully(torrent: TorrentHandle);
    fn resume(torrent: TorrentHandle);
    fn force_recheck(torrent: TorrentHandle);
    fn add_extension(torrent: TorrentHandle, plugin: TorrentBox);
    fn connect_peer(torrent: TorrentHandle, address: Endpoint, source: PeerSource);
    fn ban(torrent: TorrentHandle, address: Endpoint);
    fn peers(torrent: TorrentHandle, out: Sink<'_>);
    fn have_piece(torrent: TorrentHandle, piece: PieceIndex);
    fn num_pieces(torrent: TorrentHandle, out: &mut u32);
    fn piece_size(torrent: TorrentHandle, piece: PieceIndex, out: &mut u32);
    fn total_size(torrent: TorrentHandle, out: &mut u64);
    fn piece_priority(torrent: TorrentHandle, piece: PieceIndex, out: &mut u8);
    fn set_piece_priority(torrent: TorrentHandle, piece: PieceIndex, priority: u8);
    fn piece_availability(torrent: TorrentHandle, out: Sink<'_>);
    fn contributors(torrent: TorrentHandle, piece: PieceIndex, out: Sink<'_>);
    fn read_block(torrent: TorrentHandle, block: &PeerRequest);
    fn has_metadata(torrent: TorrentHandle);
    fn set_metadata(torrent: TorrentHandle, info: RSlice<'_, u8>);
    fn metadata(torrent: TorrentHandle, out: Sink<'_>);
    fn save_path(torrent: TorrentHandle, out: Sink<'_>);
    fn is_private(torrent: TorrentHandle);
    fn set_upload_limit(torrent: TorrentHandle, limit: u32);
    fn upload_limit(torrent: TorrentHandle, out: &mut u32);
    fn set_download_limit(torrent: TorrentHandle, limit: u32);
    fn download_limit(torrent: TorrentHandle, out: &mut u32);
    fn set_max_uploads(torrent: TorrentHandle, most: u32);
    fn max_uploads(torrent: TorrentHandle, out: &mut u32);
    fn set_max_connections(torrent: TorrentHandle, most: u32);
    fn max_connections(torrent: TorrentHandle, out: &mut u32);
    fn flags(torrent: TorrentHandle, out: &mut TorrentFlags);
    fn add_peer(torrent: TorrentHandle, address: Endpoint, source: PeerSource, flags: PexFlags);
    /// One handle for each block; an invalid one where nobody has sent it.
    fn downloaders(torrent: TorrentHandle, piece: PieceIndex, out: Sink<'_>);
    fn downloader_address(torrent: TorrentHandle, peer: PeerHandle, out: &mut Endpoint);
    fn hash_block(torrent: TorrentHandle, block: &PeerRequest);
    fn ban_for(torrent: TorrentHandle, address: Endpoint, reason: RStr<'_>);
    fn unban(torrent: TorrentHandle, address: Endpoint);
    /// A bencoded list: see `Ban`.
    fn bans(torrent: TorrentHandle, out: Sink<'_>);
}

host_table! {
    /// libtorrent's `session_handle`, as far as a plugin has use for it, and the plugin's own matters.
    table SessionApi as SessionApiRef;
    fn torrents(out: Sink<'_>);
    fn find_torrent(hashes: &InfoHashes, out: &mut TorrentHandle);
    fn new_entry(out: &mut EntryId);
    fn add_torrent(params: EntryId);
    fn remove_torrent(torrent: TorrentHandle, delete_files: u8);
    fn pause();
    fn resume();
    fn is_paused();
    fn listen_port(out: &mut u16);
    fn setting(name: RStr<'_>, out: Sink<'_>);
    fn apply_setting(name: RStr<'_>, value: RStr<'_>);
    fn post_alert(kind: u32, name: RStr<'_>, category: AlertCategory, message: RStr<'_>, payload: RSlice<'_, u8>, torrent: TorrentHandle, peer: PeerHandle);
    fn waker(out: &mut RawWaker);
    fn done();
    fn describe(error: ErrorCode, out: Sink<'_>);
    fn now(out: &mut u64);
    fn plugins(out: Sink<'_>);
    fn ban(address: Endpoint, reason: RStr<'_>);
    fn unban(address: Endpoint);
    /// A bencoded list: see `Ban`.
    fn bans(out: Sink<'_>);
}

//! A host that is no engine: it calls hooks straight through their chains, and its functions do nothing. For hooks that no
//! session calls yet, and for what a library's tables say.
#![allow(unsafe_code, reason = "a host lends raw functions to plugins")]

use std::collections::BTreeMap;

use pilotfish::hooks::{
    Chain, Host, Kind, PeerSubject, Peers, Place, Sessions, Torrents, with_session_context,
};
use pilotfish::plugins::PluginLibrary;
use pilotfish_plugin::rt::abi_stable::prefix_type::WithMetadata;
use pilotfish_plugin::rt::abi_stable::staticref;
use pilotfish_plugin::rt::abi_stable::std_types::{ROption, RSlice, RStr};
use pilotfish_plugin::rt::*;
use pilotfish_plugin::{
    AlertCategory, Attach, CipherBox, ErrorCode, InfoHashes, MessageOrigin, Operation, PeerBox, PeerContext,
    PeerHandle, PeerId, PeerRequest, PeerSource, PexFlags, PieceIndex, PluginId, Reserved, SessionHooks,
    Severity, TorrentBox, TorrentFlags, TorrentHandle, TorrentHooks, TorrentState, Userdata,
};

/// The one plugin of this host.
pub const PLUGIN: PluginId = PluginId(0);
/// What its objects are attached to.
pub const TORRENT: TorrentHandle = TorrentHandle::from_raw(1);
pub const PEER: PeerSubject =
    PeerSubject { peer: PeerHandle::from_raw(1), torrent: TORRENT, origin: MessageOrigin::WIRE };

/// A hook that panicked, what it was attached to, and the report.
pub type Fault = (&'static str, Place, String);

/// A host with one plugin.
pub struct BareHost {
    take_panic: unsafe extern "C" fn(Sink<'_>) -> HookStatus,
    pub faults: Vec<Fault>,
}

/// The chains of one session, torrent and connection, with a plugin's objects on them.
pub struct Chains {
    pub session: Chain<Sessions>,
    pub torrent: Chain<Torrents>,
    pub peer: Chain<Peers>,
}

/// A host whose plugin is linked in.
impl Default for BareHost {
    fn default() -> Self {
        Self { take_panic: LINKED_TAKE_PANIC, faults: Vec::new() }
    }
}

impl BareHost {
    /// Opens a plugin, and has it make its objects.
    pub fn open(library: &PluginLibrary, settings: &[(&str, &str)]) -> (Self, Chains) {
        let mut host = Self { take_panic: library.module.take_panic(), ..Self::default() };
        let settings: BTreeMap<_, _> =
            settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let session = with_session_context(&mut host, PLUGIN, |cx| library.open(cx, &settings)).unwrap();
        let mut chains =
            Chains { session: Chain::default(), torrent: Chain::default(), peer: Chain::default() };
        chains.session.push(PLUGIN, SessionObject::new(session));
        let torrents = chains.session.sprout(&mut host, (), SessionHooks::new_torrent, |p, cx, child| {
            let mut out = ROption::RNone;
            let status = p.new_torrent(cx, TORRENT, Userdata(0), &mut out);
            *child = out.into_option();
            status
        });
        torrents
            .children
            .into_iter()
            .for_each(|(id, torrent)| chains.torrent.push(id, TorrentObject::new(torrent)));
        let peers =
            chains.torrent.sprout(&mut host, TORRENT, TorrentHooks::new_connection, |p, cx, child| {
                let mut out = ROption::RNone;
                let status = p.new_connection(cx, PEER.peer, Attach::INCOMING, &mut out);
                *child = out.into_option();
                status
            });
        peers.children.into_iter().for_each(|(id, peer)| chains.peer.push(id, PeerObject::new(peer)));
        (host, chains)
    }

    /// Lends the context of a hook of [`PEER`].
    pub fn with_peer_context<R>(&mut self, call: impl FnOnce(&mut PeerContext<'_>) -> R) -> R {
        // SAFETY: the scope is fresh, and the host is not used until the context is gone.
        let mut cx = unsafe { Peers::context(self.scope(PLUGIN), PEER) };
        call(&mut cx)
    }

    /// A dictionary that takes everything and holds nothing.
    pub fn entry(&mut self) -> EntryRaw<'static> {
        // SAFETY: pointer and table belong together, and the call that this is passed to ends before the host is used.
        unsafe { EntryRaw::new(HostPtr((&raw mut *self).cast()), API, EntryId(0)) }
    }
}

// SAFETY: the pointer is to `self`, and the only function that uses it takes it for a `BareHost`; chains keep `self` untouched
// until the call is over.
unsafe impl Host for BareHost {
    fn scope(&mut self, _: PluginId) -> Scope {
        // SAFETY: as above.
        unsafe { Scope::new(HostPtr((&raw mut *self).cast()), API) }
    }

    // Whoever calls, the answers are the same.
    unsafe fn hand_to(_: Scope, _: PluginId) {}

    fn fault(&mut self, _: PluginId, hook: &'static str, place: Place) {
        let mut report = Vec::new();
        pilotfish::hooks::take_panic(self.take_panic, Sink::to(&mut report));
        self.faults.push((hook, place, String::from_utf8(report).unwrap()));
    }
}

unsafe extern "C" fn drop_cipher(_: HostPtr, _: PeerHandle, cipher: ROption<CipherBox>) -> HookStatus {
    drop(cipher.into_option().map(CipherObject::new));
    HookStatus::HANDLED
}

unsafe extern "C" fn is_bittorrent(_: HostPtr, _: PeerHandle, out: &mut u8) -> HookStatus {
    *out = 0;
    HookStatus::HANDLED
}

/// Defines host tables whose functions say that everything is gone, but for those that are given here.
macro_rules! tables {
    ($( $TABLE:ident: $Api:ident in $module:ident {
        $( fn $name:ident ( $( $argument:ty ),* ) $( = $function:ident )?; )*
    } )*) => {
        $(
            mod $module {
                use super::*;
                $( tables!(@function $name ( $( $argument ),* ) $( $function )?); )*
            }
        )*
        impl Tables {
            $( staticref!(const $TABLE: WithMetadata<$Api> =
                WithMetadata::new($Api { minor: API_MINOR, $( $name: $module::$name ),* })); )*
        }
    };
    (@function $name:ident ( $( $argument:ty ),* )) => {
        pub(super) unsafe extern "C" fn $name(_: HostPtr, $( _: $argument ),*) -> HookStatus { HookStatus::GONE }
    };
    (@function $name:ident ( $( $argument:ty ),* ) $function:ident) => {
        pub(super) use super::$function as $name;
    };
}

struct Tables;

impl Tables {
    staticref!(const HOST: WithMetadata<HostApi> = WithMetadata::new(HostApi {
        log: LogApiRef(Self::LOG.as_prefix()),
        entry: EntryApiRef(Self::ENTRY.as_prefix()),
        peer: PeerApiRef(Self::PEER.as_prefix()),
        bt: BtApiRef(Self::BT.as_prefix()),
        torrent: TorrentApiRef(Self::TORRENT.as_prefix()),
        session: SessionApiRef(Self::SESSION.as_prefix()),
    }));
}

const API: HostApiRef = HostApiRef(Tables::HOST.as_prefix());

tables! {
    LOG: LogApi in log {
        fn log(u8, RStr<'_>);
        fn enabled(u8);
    }
    ENTRY: EntryApi in entry {
        fn insert_int(EntryId, RSlice<'_, u8>, i64);
        fn insert_bytes(EntryId, RSlice<'_, u8>, RSlice<'_, u8>);
        fn insert_bencoded(EntryId, RSlice<'_, u8>, RSlice<'_, u8>);
        fn dict(EntryId, RSlice<'_, u8>, &mut EntryId);
        fn encode(EntryId, Sink<'_>);
        fn remove(EntryId, RSlice<'_, u8>);
    }
    PEER: PeerApi in peer {
        fn flags(PeerHandle, &mut u32);
        fn connection_type(PeerHandle, &mut u8) = is_bittorrent;
        fn pid(PeerHandle, &mut PeerId);
        fn remote(PeerHandle, &mut Endpoint);
        fn local_endpoint(PeerHandle, &mut Endpoint);
        fn associated_torrent(PeerHandle, &mut TorrentHandle);
        fn has_piece(PeerHandle, PieceIndex);
        fn choke(PeerHandle);
        fn maybe_unchoke(PeerHandle);
        fn disconnect(PeerHandle, ErrorCode, Operation, Severity);
        fn can_disconnect(PeerHandle, ErrorCode);
        fn send_buffer(PeerHandle, RSlice<'_, u8>);
        fn register_extended(PeerHandle, RStr<'_>, &mut u8);
        fn send_extended(PeerHandle, RStr<'_>, RSlice<'_, u8>);
        fn add_extension(PeerHandle, PeerBox);
        fn find_plugin(PeerHandle, RStr<'_>, &mut PluginId);
        fn peer_info(PeerHandle, Sink<'_>);
        fn set_has_metadata(PeerHandle, u8);
        fn time_of_last_unchoke(PeerHandle, &mut u64);
        fn last_seen_complete(PeerHandle, &mut i64);
        fn should_log(PeerHandle, u8);
        fn peer_log(PeerHandle, u8, RStr<'_>, RStr<'_>);
        fn send_queue_len(PeerHandle, &mut u64);
        fn set_upload_limit(PeerHandle, u32);
        fn set_download_limit(PeerHandle, u32);
        fn listen_port(PeerHandle, &mut u16);
    }
    BT: BtApi in bt {
        fn packet_finished(PeerHandle);
        fn switch_send_crypto(PeerHandle, ROption<CipherBox>) = drop_cipher;
        fn switch_recv_crypto(PeerHandle, ROption<CipherBox>);
        fn reserved(PeerHandle, &mut Reserved);
    }
    TORRENT: TorrentApi in torrent {
        fn info_hashes(TorrentHandle, &mut InfoHashes);
        fn name(TorrentHandle, Sink<'_>);
        fn userdata(TorrentHandle, &mut Userdata);
        fn state(TorrentHandle, &mut TorrentState);
        fn status(TorrentHandle, Sink<'_>);
        fn is_paused(TorrentHandle);
        fn pause(TorrentHandle);
        fn pause_gracefully(TorrentHandle);
        fn resume(TorrentHandle);
        fn force_recheck(TorrentHandle);
        fn add_extension(TorrentHandle, TorrentBox);
        fn connect_peer(TorrentHandle, Endpoint, PeerSource);
        fn ban(TorrentHandle, Endpoint);
        fn peers(TorrentHandle, Sink<'_>);
        fn have_piece(TorrentHandle, PieceIndex);
        fn num_pieces(TorrentHandle, &mut u32);
        fn piece_size(TorrentHandle, PieceIndex, &mut u32);
        fn total_size(TorrentHandle, &mut u64);
        fn piece_priority(TorrentHandle, PieceIndex, &mut u8);
        fn set_piece_priority(TorrentHandle, PieceIndex, u8);
        fn piece_availability(TorrentHandle, Sink<'_>);
        fn contributors(TorrentHandle, PieceIndex, Sink<'_>);
        fn read_block(TorrentHandle, &PeerRequest);
        fn has_metadata(TorrentHandle);
        fn set_metadata(TorrentHandle, RSlice<'_, u8>);
        fn metadata(TorrentHandle, Sink<'_>);
        fn save_path(TorrentHandle, Sink<'_>);
        fn is_private(TorrentHandle);
        fn set_upload_limit(TorrentHandle, u32);
        fn upload_limit(TorrentHandle, &mut u32);
        fn set_download_limit(TorrentHandle, u32);
        fn download_limit(TorrentHandle, &mut u32);
        fn set_max_uploads(TorrentHandle, u32);
        fn max_uploads(TorrentHandle, &mut u32);
        fn set_max_connections(TorrentHandle, u32);
        fn max_connections(TorrentHandle, &mut u32);
        fn flags(TorrentHandle, &mut TorrentFlags);
        fn add_peer(TorrentHandle, Endpoint, PeerSource, PexFlags);
        fn downloaders(TorrentHandle, PieceIndex, Sink<'_>);
        fn downloader_address(TorrentHandle, PeerHandle, &mut Endpoint);
        fn hash_block(TorrentHandle, &PeerRequest);
        fn ban_for(TorrentHandle, Endpoint, RStr<'_>);
        fn unban(TorrentHandle, Endpoint);
        fn bans(TorrentHandle, Sink<'_>);
    }
    SESSION: SessionApi in session {
        fn torrents(Sink<'_>);
        fn find_torrent(&InfoHashes, &mut TorrentHandle);
        fn new_entry(&mut EntryId);
        fn add_torrent(EntryId);
        fn remove_torrent(TorrentHandle, u8);
        fn pause();
        fn resume();
        fn is_paused();
        fn listen_port(&mut u16);
        fn setting(RStr<'_>, Sink<'_>);
        fn apply_setting(RStr<'_>, RStr<'_>);
        fn post_alert(u32, RStr<'_>, AlertCategory, RStr<'_>, RSlice<'_, u8>, TorrentHandle, PeerHandle);
        fn waker(&mut RawWaker);
        fn done();
        fn describe(ErrorCode, Sink<'_>);
        fn now(&mut u64);
        fn plugins(Sink<'_>);
        fn ban(Endpoint, RStr<'_>);
        fn unban(Endpoint);
        fn bans(Sink<'_>);
    }
}

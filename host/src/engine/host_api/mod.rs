//! The functions that plugins call, one file per table.
//!
//! Each is called on the network thread, inside a hook, with the pointer that [`State::scope`](Host::scope) gave out. While a
//! hook runs, the engine uses no reference into its state (the chains borrow the state only to make the next scope), so each
//! function may borrow it for the length of its body. No function calls a plugin, waits, or panics; each looks at every
//! argument before it uses it; and what would need a hook is written down as a step.
#![allow(unsafe_code)]

mod bt;
mod entry;
mod log;
mod peer;
mod session;
mod torrent;

use pilotfish_plugin::rt::abi_stable::prefix_type::WithMetadata;
use pilotfish_plugin::rt::abi_stable::staticref;
use pilotfish_plugin::rt::{
    API_MINOR, AlertRaw, BtApi, BtApiRef, EntryApi, EntryApiRef, HostApi, HostApiRef, HostPtr, LogApi,
    LogApiRef, PeerApi, PeerApiRef, Scope, SessionApi, SessionApiRef, TorrentApi, TorrentApiRef,
};
use pilotfish_plugin::{PeerHandle, PluginId, TorrentHandle};

use super::state::State;
use crate::alert::{Alert, AlertKind, Field};
use crate::hooks::{Host, Place};
use crate::wire::EntryTree;

/// Defines functions of a host table. The body answers with a status; `None` is "gone".
macro_rules! host_functions {
    ($( $(#[$meta:meta])* fn $name:ident ( $state:ident $(, $arg:ident : $ty:ty )* ) $body:block )*) => {
        $(
            $(#[$meta])*
            pub(super) unsafe extern "C" fn $name(host: pilotfish_plugin::rt::HostPtr, $( $arg: $ty ),*) -> pilotfish_plugin::rt::HookStatus {
                // SAFETY: the pointer is the one of this call's scope, and the engine uses no reference into its state until
                // the hook has returned; this borrow ends with this body.
                let $state = unsafe { &mut *host.0.cast::<crate::engine::state::State>() };
                crate::engine::host_api::answered(|| $body)
            }
        )*
    };
}
use host_functions;

/// "Yes", or done.
const YES: Option<pilotfish_plugin::rt::HookStatus> = Some(pilotfish_plugin::rt::HookStatus::HANDLED);
/// "No".
const NO: Option<pilotfish_plugin::rt::HookStatus> = Some(pilotfish_plugin::rt::HookStatus::CONTINUE);

/// The status of a body; `None` is "gone".
fn answered(
    body: impl FnOnce() -> Option<pilotfish_plugin::rt::HookStatus>,
) -> pilotfish_plugin::rt::HookStatus {
    body().unwrap_or(pilotfish_plugin::rt::HookStatus::GONE)
}

fn yes_if(yes: bool) -> Option<pilotfish_plugin::rt::HookStatus> {
    if yes { YES } else { NO }
}

pub(super) use entry::lend_entry;

struct Tables;

impl Tables {
    staticref!(const LOG: WithMetadata<LogApi> = WithMetadata::new(LogApi {
        minor: API_MINOR,
        log: log::log,
        enabled: log::enabled,
    }));
    staticref!(const ENTRY: WithMetadata<EntryApi> = WithMetadata::new(EntryApi {
        minor: API_MINOR,
        insert_int: entry::insert_int,
        insert_bytes: entry::insert_bytes,
        insert_bencoded: entry::insert_bencoded,
        dict: entry::dict,
        encode: entry::encode,
        remove: entry::remove,
    }));
    staticref!(const PEER: WithMetadata<PeerApi> = WithMetadata::new(PeerApi {
        minor: API_MINOR,
        flags: peer::flags,
        connection_type: peer::connection_type,
        pid: peer::pid,
        remote: peer::remote,
        local_endpoint: peer::local_endpoint,
        associated_torrent: peer::associated_torrent,
        has_piece: peer::has_piece,
        choke: peer::choke,
        maybe_unchoke: peer::maybe_unchoke,
        disconnect: peer::disconnect,
        can_disconnect: peer::can_disconnect,
        send_buffer: peer::send_buffer,
        register_extended: peer::register_extended,
        send_extended: peer::send_extended,
        add_extension: peer::add_extension,
        find_plugin: peer::find_plugin,
        peer_info: peer::peer_info,
        set_has_metadata: peer::set_has_metadata,
        time_of_last_unchoke: peer::time_of_last_unchoke,
        last_seen_complete: peer::last_seen_complete,
        should_log: peer::should_log,
        peer_log: peer::peer_log,
        send_queue_len: peer::send_queue_len,
        set_upload_limit: peer::set_upload_limit,
        set_download_limit: peer::set_download_limit,
        listen_port: peer::listen_port,
    }));
    staticref!(const BT: WithMetadata<BtApi> = WithMetadata::new(BtApi {
        minor: API_MINOR,
        packet_finished: bt::packet_finished,
        switch_send_crypto: bt::switch_send_crypto,
        switch_recv_crypto: bt::switch_recv_crypto,
        reserved: bt::reserved,
    }));
    staticref!(const TORRENT: WithMetadata<TorrentApi> = WithMetadata::new(TorrentApi {
        minor: API_MINOR,
        info_hashes: torrent::info_hashes,
        name: torrent::name,
        userdata: torrent::userdata,
        state: torrent::state,
        status: torrent::status,
        is_paused: torrent::is_paused,
        pause: torrent::pause,
        pause_gracefully: torrent::pause_gracefully,
        resume: torrent::resume,
        force_recheck: torrent::force_recheck,
        add_extension: torrent::add_extension,
        connect_peer: torrent::connect_peer,
        ban: torrent::ban,
        peers: torrent::peers,
        have_piece: torrent::have_piece,
        num_pieces: torrent::num_pieces,
        piece_size: torrent::piece_size,
        total_size: torrent::total_size,
        piece_priority: torrent::piece_priority,
        set_piece_priority: torrent::set_piece_priority,
        piece_availability: torrent::piece_availability,
        contributors: torrent::contributors,
        read_block: torrent::read_block,
        has_metadata: torrent::has_metadata,
        set_metadata: torrent::set_metadata,
        metadata: torrent::metadata,
        save_path: torrent::save_path,
        is_private: torrent::is_private,
        set_upload_limit: torrent::set_upload_limit,
        upload_limit: torrent::upload_limit,
        set_download_limit: torrent::set_download_limit,
        download_limit: torrent::download_limit,
        set_max_uploads: torrent::set_max_uploads,
        max_uploads: torrent::max_uploads,
        set_max_connections: torrent::set_max_connections,
        max_connections: torrent::max_connections,
        flags: torrent::flags,
        add_peer: torrent::add_peer,
        downloaders: torrent::downloaders,
        downloader_address: torrent::downloader_address,
        hash_block: torrent::hash_block,
        ban_for: torrent::ban_for,
        unban: torrent::unban,
        bans: torrent::bans,
    }));
    staticref!(const SESSION: WithMetadata<SessionApi> = WithMetadata::new(SessionApi {
        minor: API_MINOR,
        torrents: session::torrents,
        find_torrent: session::find_torrent,
        new_entry: session::new_entry,
        add_torrent: session::add_torrent,
        remove_torrent: session::remove_torrent,
        pause: session::pause,
        resume: session::resume,
        is_paused: session::is_paused,
        listen_port: session::listen_port,
        setting: session::setting,
        apply_setting: session::apply_setting,
        post_alert: session::post_alert,
        waker: session::waker,
        done: session::done,
        describe: session::describe,
        now: session::now,
        plugins: session::plugins,
        ban: session::ban,
        unban: session::unban,
        bans: session::bans,
    }));
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

// SAFETY: the pointer is to `self`, and every function of `API` takes it for a `State`. The chains keep `self` untouched until
// the call is over.
unsafe impl Host for State {
    #[inline]
    fn scope(&mut self, caller: PluginId) -> Scope {
        self.calling = caller;
        // SAFETY: as above.
        unsafe { Scope::new(HostPtr((&raw mut *self).cast()), API) }
    }

    #[inline]
    unsafe fn hand_to(scope: Scope, caller: PluginId) {
        // SAFETY: the scope is valid and `scope` above made it, so that it points to a state, which nobody else uses now.
        unsafe { (*scope.host().0.cast::<Self>()).calling = caller };
    }

    fn fault(&mut self, plugin: PluginId, hook: &'static str, place: Place) {
        self.record_fault(plugin, hook, place);
    }
}

/// An alert in the form in which a hook borrows it.
pub(super) struct LentAlert {
    alert_type: u32,
    category: pilotfish_plugin::AlertCategory,
    torrent: TorrentHandle,
    peer: PeerHandle,
    plugin: PluginId,
    kind: u32,
    timestamp: u64,
    what: String,
    message: String,
    fields: Vec<u8>,
    payload: Vec<u8>,
}

/// Makes an alert ready to be lent: a copy, outside the engine's state.
pub(super) fn lend_alert(alert: &Alert) -> LentAlert {
    let custom = if let AlertKind::Custom(custom) = &alert.kind { Some(custom) } else { None };
    LentAlert {
        alert_type: alert.kind.alert_type(),
        category: alert.kind.category(),
        torrent: alert.kind.torrent().unwrap_or(TorrentHandle::INVALID),
        peer: alert.kind.peer().unwrap_or(PeerHandle::INVALID),
        plugin: custom.map_or(PluginId(u32::MAX), |custom| custom.plugin),
        kind: custom.map_or(0, |custom| custom.kind),
        timestamp: u64::try_from(alert.timestamp.as_millis()).unwrap_or(u64::MAX),
        what: alert.kind.what().to_owned(),
        message: alert.kind.message(),
        fields: encode_fields(&alert.kind),
        payload: custom.map(|custom| custom.payload.clone()).unwrap_or_default(),
    }
}

fn encode_fields(kind: &AlertKind) -> Vec<u8> {
    let mut tree = EntryTree::new();
    for (name, field) in kind.fields() {
        // The root is a dictionary: nothing can be refused.
        let _ = match field {
            Field::Bool(yes) => tree.insert_int(EntryTree::ROOT, name.as_bytes(), yes.into()),
            Field::Int(n) => tree.insert_int(EntryTree::ROOT, name.as_bytes(), n),
            Field::Text(text) => tree.insert_bytes(EntryTree::ROOT, name.as_bytes(), text.as_bytes()),
            Field::Torrent(_) | Field::Peer(_) => Ok(()),
        };
    }
    tree.encode_root()
}

impl LentAlert {
    /// The wire form.
    pub(super) fn wire(&self) -> AlertRaw<'_> {
        AlertRaw {
            alert_type: self.alert_type,
            category: self.category,
            torrent: self.torrent,
            peer: self.peer,
            plugin: self.plugin,
            kind: self.kind,
            timestamp: self.timestamp,
            what: self.what.as_str().into(),
            message: self.message.as_str().into(),
            fields: self.fields.as_slice().into(),
            payload: self.payload.as_slice().into(),
        }
    }
}

//! libtorrent's `peer_connection_handle`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use pilotfish_plugin::rt::abi_stable::std_types::{RSlice, RStr};
use pilotfish_plugin::rt::{Endpoint, HookStatus, Sink};
use pilotfish_plugin::{
    AlertCategory, ErrorCode, Operation, PeerBox, PeerHandle, PeerId, PieceIndex, PluginId, Severity,
    TorrentHandle,
};

use super::{NO, YES, host_functions, yes_if};
use crate::engine::step::{Boxed, Step};
use crate::peer::{Direction, RegisterError};
use crate::wire::Message;

/// More than this may not wait to be sent to one peer, in bytes: a plugin that sends on and on would use up the memory.
const MOST_QUEUED: u64 = 64 << 20;
/// The longest payload of an extended message, in bytes: what peers accept as a message.
const LONGEST_PAYLOAD: usize = (1 << 20) - 2;
/// Our end of a connection that is not made yet, as libtorrent has it whatever the other end's family.
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

host_functions! {
    fn flags(state, peer: PeerHandle, out: &mut u32) {
        *out = state.peer(peer)?.flags().bits();
        YES
    }

    fn connection_type(state, peer: PeerHandle, out: &mut u8) {
        *out = state.peer(peer)?.connection_type().0;
        YES
    }

    fn pid(state, peer: PeerHandle, out: &mut PeerId) {
        *out = PeerId(state.peer(peer)?.pid);
        YES
    }

    fn remote(state, peer: PeerHandle, out: &mut Endpoint) {
        *out = state.peer(peer)?.remote.into();
        YES
    }

    fn local_endpoint(state, peer: PeerHandle, out: &mut Endpoint) {
        *out = state.peer(peer)?.local.unwrap_or(NOWHERE).into();
        YES
    }

    fn associated_torrent(state, peer: PeerHandle, out: &mut TorrentHandle) {
        *out = state.peer(peer)?.torrent.unwrap_or(TorrentHandle::INVALID);
        YES
    }

    fn has_piece(state, peer: PeerHandle, piece: PieceIndex) {
        let has = &state.peer(peer)?.has;
        yes_if(u32::try_from(piece.0).is_ok_and(|piece| has.get(piece)))
    }

    fn choke(state, peer: PeerHandle) {
        state.peer(peer)?;
        state.choke(peer);
        YES
    }

    fn maybe_unchoke(state, peer: PeerHandle) {
        state.peer(peer)?;
        state.maybe_unchoke(peer);
        YES
    }

    fn disconnect(state, peer: PeerHandle, error: ErrorCode, operation: Operation, severity: Severity) {
        state.peer(peer)?;
        state.disconnect(peer, error, operation, severity);
        YES
    }

    fn can_disconnect(state, peer: PeerHandle, _error: ErrorCode) {
        // The host itself never refuses: its policy is what asks.
        yes_if(state.peer(peer)?.plugins_refused)
    }

    fn send_buffer(state, peer: PeerHandle, bytes: RSlice<'_, u8>) {
        let connection = state.peer_mut(peer).filter(|connection| !connection.is_closing())?;
        if connection.outbox.len() + bytes.len() as u64 > MOST_QUEUED {
            return Some(HookStatus::DROPPED);
        }
        connection.outbox.push(bytes.as_slice());
        state.transmit(peer);
        YES
    }

    fn register_extended(state, peer: PeerHandle, name: RStr<'_>, out: &mut u8) {
        let plugin = state.calling;
        let connection = state.peer_mut(peer).filter(|connection| !connection.extended_handshake_sent)?;
        match connection.extensions.register(plugin, name.as_str()) {
            Ok(id) => {
                *out = id;
                YES
            }
            Err(RegisterError::NameTaken) => Some(HookStatus::DROPPED),
            Err(RegisterError::NoneLeft) => None,
        }
    }

    fn send_extended(state, peer: PeerHandle, name: RStr<'_>, payload: RSlice<'_, u8>) {
        let connection = state.peer(peer).filter(|connection| connection.is_established())?;
        let Some(id) = connection.extensions.theirs(name.as_str()) else { return NO };
        if payload.len() > LONGEST_PAYLOAD || connection.outbox.len() > MOST_QUEUED {
            return Some(HookStatus::DROPPED);
        }
        state.send(peer, &Message::Extended { id, payload: payload.to_vec().into() });
        YES
    }

    fn add_extension(state, peer: PeerHandle, plugin: PeerBox) {
        state.peer(peer)?;
        let owner = state.calling;
        state.steps.push_back(Step::AttachPeer(peer, owner, Boxed(plugin)));
        YES
    }

    fn find_plugin(state, peer: PeerHandle, name: RStr<'_>, out: &mut PluginId) {
        let Some((plugin, _)) = state.peer(peer)?.plugin_names.iter().find(|(_, known)| known.as_ref() == name.as_str()) else {
            return NO;
        };
        *out = *plugin;
        YES
    }

    fn peer_info(state, peer: PeerHandle, out: Sink<'_>) {
        out.put(&state.peer_info_bencoded(peer)?);
        YES
    }

    fn set_has_metadata(state, peer: PeerHandle, has: u8) {
        state.peer_mut(peer)?.has_metadata = has != 0;
        YES
    }

    fn time_of_last_unchoke(state, peer: PeerHandle, out: &mut u64) {
        let connection = state.peer(peer)?;
        let at = connection.last_unchoke.unwrap_or(connection.created);
        *out = u64::try_from(at.duration_since(state.epoch).as_millis()).unwrap_or(u64::MAX);
        YES
    }

    fn last_seen_complete(state, peer: PeerHandle, out: &mut i64) {
        *out = state.peer(peer)?.last_seen_complete;
        YES
    }

    fn should_log(state, peer: PeerHandle, _direction: u8) {
        state.peer(peer)?;
        yes_if(state.wants_alert(AlertCategory::PEER_LOG))
    }

    fn peer_log(state, peer: PeerHandle, direction: u8, event: RStr<'_>, message: RStr<'_>) {
        state.peer(peer)?;
        state.peer_log(peer, direction.into(), event.as_str(), message.as_str());
        YES
    }

    fn set_upload_limit(state, peer: PeerHandle, limit: u32) {
        state.set_peer_limit(peer, Direction::Upload, limit)?;
        YES
    }

    fn set_download_limit(state, peer: PeerHandle, limit: u32) {
        state.set_peer_limit(peer, Direction::Download, limit)?;
        YES
    }

    fn send_queue_len(state, peer: PeerHandle, out: &mut u64) {
        *out = state.peer(peer)?.outbox.len();
        YES
    }

    fn listen_port(state, peer: PeerHandle, out: &mut u16) {
        let connection = state.peer(peer)?;
        let said = connection.listen_port.unwrap_or(0);
        *out = if connection.outgoing { connection.remote.port() } else { said };
        YES
    }
}

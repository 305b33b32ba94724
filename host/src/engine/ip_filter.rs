//! Addresses that are kept out: they are neither let in, nor called, nor put on a list.

use std::net::SocketAddr;
use std::sync::Arc;

use pilotfish_plugin::{AlertCategory, ErrorCode, Operation, PeerHandle, Severity, TorrentHandle};

use super::Engine;
use super::state::State;
use crate::alert::AlertKind;
use crate::ip_filter::IpFilter;

impl Engine {
    /// Another filter holds from now on: what it does not let in goes.
    pub(super) fn set_ip_filter(&mut self, filter: Arc<IpFilter>) {
        let state = &mut self.state;
        state.ip_filter = filter.clone();
        state.update_dht();
        for torrent in state.order.clone() {
            if let Some(t) = state.torrent_mut(torrent) {
                t.candidates.retain(|endpoint, _| !filter.blocks(endpoint.ip()));
            }
        }
        let blocked = |connection: &crate::peer::Connection| filter.blocks(connection.remote.ip());
        let peers: Vec<PeerHandle> =
            state.peers().filter(|(_, connection)| blocked(connection)).map(|(peer, _)| peer).collect();
        for peer in peers {
            let Some(connection) = state.peer(peer).filter(|connection| !connection.is_closing()) else {
                continue;
            };
            let (address, torrent) =
                (connection.remote, connection.torrent.unwrap_or(TorrentHandle::INVALID));
            state.tell_blocked(torrent, address);
            state.disconnect(peer, ErrorCode::BANNED_BY_IP_FILTER, Operation::BITTORRENT, Severity::NORMAL);
        }
    }
}

impl State {
    /// Whether an address is kept out; if so, that is told.
    pub(super) fn blocks(&mut self, torrent: TorrentHandle, address: SocketAddr) -> bool {
        let blocked = self.ip_filter.blocks(address.ip());
        if blocked {
            self.tell_blocked(torrent, address);
        }
        blocked
    }

    fn tell_blocked(&mut self, torrent: TorrentHandle, address: SocketAddr) {
        if self.wants_alert(AlertCategory::IP_BLOCK) {
            self.alert(AlertKind::PeerBlocked { torrent, address, reason: "IP filter".to_owned() });
        }
    }
}

//! Both handshakes: sixty-eight bytes each (BEP 3), then the extension handshake (BEP 10) and what we have.

use pilotfish_plugin::rt::HookStatus;
use pilotfish_plugin::rt::abi_stable::std_types::RSlice;
use pilotfish_plugin::{
    Attach, ErrorCode, Operation, PeerHandle, PeerHooks, PluginId, Reserved as PluginReserved, SessionHooks,
    Severity, TorrentHandle,
};

use super::Engine;
use super::host_api::lend_entry;
use super::state::{SessionPhase, State};
use crate::command::AddTorrentError;
use crate::metainfo::InfoHashes;
use crate::peer::{Connection, ENGINE_EXTENSIONS, Phase, UT_HOLEPUNCH};
use crate::settings::EncPolicy;
use crate::torrent::Refusal;
use crate::wire::{EntryTree, ExtensionHandshake, Message, Reserved};

/// What we can do: the extension protocol (BEP 10), the fast extension (BEP 6) and the DHT (BEP 5).
pub(super) const RESERVED: Reserved = Reserved([0, 0, 0, 0, 0, 0x10, 0, 0x05]);

impl Engine {
    /// The peer named a torrent.
    pub(super) fn on_info_hash(&mut self, peer: PeerHandle, reserved: Reserved, info_hash: [u8; 20]) {
        let Some(connection) = self.open_peer(peer) else { return };
        connection.reserved = reserved;
        let (outgoing, ours) = (connection.outgoing, connection.torrent);
        let encryption = connection.encryption;
        if outgoing {
            let answers = ours
                .and_then(|torrent| self.state.torrent(torrent))
                .is_some_and(|torrent| torrent.description.info_hashes().answers_to(&info_hash));
            if !answers {
                self.state.peer_error(peer, ErrorCode::INVALID_INFO_HASH);
            }
            return;
        }
        if encryption.is_none() && self.state.settings.in_enc_policy == EncPolicy::Forced {
            let error = ErrorCode::NO_INCOMING_REGULAR;
            return self.state.disconnect(peer, error, Operation::BITTORRENT, Severity::NORMAL);
        }
        let torrent = self.state.by_hash.get(&info_hash).copied();
        // The encryption handshake has named the torrent already: it is one that is here, and no other.
        if let Some(encryption) = encryption
            && (torrent.is_none() || torrent != self.state.by_hash.get(&encryption.info_hash).copied())
        {
            return self.state.peer_error(peer, ErrorCode::INVALID_INFO_HASH);
        }
        match torrent {
            Some(torrent) => self.join(peer, torrent),
            None => self.on_unknown_torrent(peer, info_hash),
        }
    }

    /// An incoming peer asks for a torrent that is not there: a plugin may have it.
    fn on_unknown_torrent(&mut self, peer: PeerHandle, info_hash: [u8; 20]) {
        let params = self.params_of_unknown(peer, info_hash);
        if let Some(params) = params.filter(|_| self.open_peer(peer).is_some()) {
            match super::adding::read_params(&params) {
                Ok(torrent) => self.add_torrent(None, Ok(Box::new(torrent))),
                Err(text) => self.add_torrent(None, Err(AddTorrentError::Parameters(text))),
            }
            if let Some(torrent) = self.state.by_hash.get(&info_hash).copied() {
                return self.hold(peer, torrent);
            }
        }
        self.state.peer_error(peer, ErrorCode::INVALID_INFO_HASH);
    }

    /// What the first plugin that has the torrent fills in. Each begins with an empty sheet: what one wrote and does not
    /// answer for is nothing to the next.
    fn params_of_unknown(&mut self, peer: PeerHandle, info_hash: [u8; 20]) -> Option<EntryTree> {
        let hashes = super::step::plugin_hashes(&InfoHashes::V1(info_hash));
        for i in 0..self.state.plugins.len() {
            let id = PluginId(u32::try_from(i).unwrap_or(u32::MAX));
            let entry = self.state.begin_entry(EntryTree::new());
            let Self { state, chains } = self;
            let answer = chains.session.only(state, id, (), SessionHooks::on_unknown_torrent, |p, cx| {
                let raw = lend_entry(cx.scope(), entry);
                p.on_unknown_torrent(cx, hashes, peer, raw)
            });
            let params = self.state.end_entry(entry);
            if answer == Some(HookStatus::HANDLED) {
                return Some(params);
            }
        }
        None
    }

    /// The peer waits until the torrent, which was added for it, can serve it.
    fn hold(&mut self, peer: PeerHandle, torrent: TorrentHandle) {
        if self.state.torrent(torrent).is_some_and(crate::torrent::Torrent::takes_peers) {
            return self.join(peer, torrent);
        }
        if let Some(connection) = self.state.peer_mut(peer) {
            connection.phase = Phase::Held;
        }
        if let Some(torrent) = self.state.torrent_mut(torrent) {
            torrent.company_mut().held.push(peer);
        }
    }

    /// The torrent is ready: peers that waited for it go on.
    pub(super) fn release_held(&mut self, torrent: TorrentHandle) {
        let Some(t) = self.state.torrent_mut(torrent).filter(|t| t.company().is_some()) else { return };
        let held = std::mem::take(&mut t.company_mut().held);
        for peer in held {
            let now = self.state.now;
            let Some(connection) = self.state.peer_mut(peer) else { continue };
            connection.phase = Phase::Handshaking;
            // It was not read all the while: its time begins anew.
            (connection.created, connection.last_received) = (now, now);
            self.state.outputs.push_back(super::Output::Read(peer));
            self.join(peer, torrent);
            self.pump();
            self.decode(peer);
        }
    }

    /// An incoming connection joins its torrent, if that takes peers; then our handshake goes out.
    fn join(&mut self, peer: PeerHandle, torrent: TorrentHandle) {
        let state = &mut self.state;
        let crowded = state.is_crowded(peer, torrent);
        let Some(address) = state.peer(peer).map(|connection| connection.remote) else { return };
        let Some(t) = state.torrent_mut(torrent) else { return };
        let refusal = if t.paused || t.held_by_session {
            Some(ErrorCode::TORRENT_PAUSED)
        } else if !t.takes_peers() {
            Some(ErrorCode::TORRENT_NOT_READY)
        } else if crowded {
            Some(ErrorCode::DUPLICATE_PEER_ID)
        } else if !state.admit(peer, torrent) {
            Some(ErrorCode::TOO_MANY_CONNECTIONS)
        } else if let Some(t) = state.torrent_mut(torrent) {
            t.candidates.incoming(address, peer, false).err().map(|why| match why {
                Refusal::Banned => ErrorCode::PEER_BANNED,
                _ => ErrorCode::DUPLICATE_PEER_ID,
            })
        } else {
            None
        };
        if let Some(error) = refusal {
            return state.disconnect(peer, error, Operation::BITTORRENT, Severity::NORMAL);
        }
        if let Some(t) = state.torrent_mut(torrent) {
            t.peers.push(peer);
        }
        if let Some(connection) = state.peer_mut(peer) {
            connection.torrent = Some(torrent);
        }
        if !self.sprout_peer(peer, torrent, Attach::INCOMING) {
            return self.state.disconnect(
                peer,
                ErrorCode::PLUGIN_PANICKED,
                Operation::UNKNOWN,
                Severity::NORMAL,
            );
        }
        self.state.apply_rate_limits(peer);
        self.state.announce_connection(peer);
        self.state.schedule_torrent(torrent);
        self.send_handshake(peer);
    }

    /// The peer's id came: its handshake is complete.
    pub(super) fn on_peer_id(&mut self, peer: PeerHandle, id: [u8; 20]) {
        let refusal = match self.state.duplicate(peer, id) {
            _ if id == self.state.peer_id => Some((peer, ErrorCode::SELF_CONNECTION)),
            duplicate => duplicate.map(|one| (one, ErrorCode::DUPLICATE_PEER_ID)),
        };
        if let Some((refused, error)) = refusal {
            if error == ErrorCode::SELF_CONNECTION {
                self.state.end_our_own_call(peer);
            }
            self.state.disconnect(refused, error, Operation::BITTORRENT, Severity::NORMAL);
            self.pump();
        }
        let Some(connection) = self.open_peer(peer) else { return };
        connection.pid = id;
        connection.client = client_name(&id);
        connection.phase = Phase::Established;
        let reserved = PluginReserved(connection.reserved.0);
        let extended = connection.extended();
        if let Some((connection, torrent)) = self.state.pair(peer) {
            torrent.candidates.clear_failures(connection.known_as);
            if connection.outgoing {
                torrent.candidates.set_greeting(connection.known_as, connection.greeting);
            }
        }
        self.retain_on_handshake(peer, reserved);
        self.pump();
        if extended && self.open_peer(peer).is_some() {
            self.send_extension_handshake(peer);
        }
        self.pump();
        if self.open_peer(peer).is_none() {
            return;
        }
        self.state.send_bitfield(peer);
        self.pump();
        self.state.send_dht_port(peer);
        self.state.unchoke_early(peer);
        self.pump();
        let Some(connection) = self.open_peer(peer) else { return };
        connection.in_handshake = false;
    }

    fn retain_on_handshake(&mut self, peer: PeerHandle, reserved: PluginReserved) {
        let subject = self.subject(peer);
        if let Some(chain) = self.chains.peers.get_mut(peer) {
            chain.retain(&mut self.state, subject, PeerHooks::on_handshake, |p, cx| {
                p.on_handshake(cx, reserved)
            });
        }
        self.sync_plugin_names(peer);
    }

    /// Our extended handshake: the engine's keys, then the plugins'.
    fn send_extension_handshake(&mut self, peer: PeerHandle) {
        let entry = self.state.begin_entry(self.state.extension_handshake(peer));
        let subject = self.subject(peer);
        if let Some(chain) = self.chains.peers.get_mut(peer) {
            chain.tell(&mut self.state, subject, PeerHooks::add_handshake, |p, cx| {
                let raw = lend_entry(cx.scope(), entry);
                p.add_handshake(cx, raw)
            });
        }
        let mut handshake = self.state.end_entry(entry);
        let Some(connection) = self.open_peer(peer) else { return };
        connection.extended_handshake_sent = true;
        if let Ok(names) = handshake.dict(EntryTree::ROOT, b"m") {
            for (name, id) in connection.extensions.ours() {
                // The node is a dictionary: nothing can be refused.
                let _ = handshake.insert_int(names, name.as_bytes(), id.into());
            }
        }
        let payload = handshake.encode_root();
        self.state.send(peer, &Message::Extended { id: 0, payload: payload.into() });
    }

    /// The peer's extended handshake: the names of its messages, so that plugins can answer at once, then the plugins, then
    /// the keys that the engine reads.
    pub(super) fn on_extension_handshake(&mut self, peer: PeerHandle, payload: &[u8]) {
        let Ok(theirs) = ExtensionHandshake::parse(payload) else { return };
        let Some(connection) = self.open_peer(peer) else { return };
        let names =
            theirs.messages.iter().filter_map(|(name, id)| Some((std::str::from_utf8(name).ok()?, *id)));
        connection.extensions.learn(names);
        let subject = self.subject(peer);
        if let Some(chain) = self.chains.peers.get_mut(peer) {
            let message = RSlice::from_slice(payload);
            chain.retain(&mut self.state, subject, PeerHooks::on_extension_handshake, |p, cx| {
                p.on_extension_handshake(cx, message)
            });
        }
        self.sync_plugin_names(peer);
        let unix_now = self.state.unix_epoch + i64::try_from(self.state.clock().as_secs()).unwrap_or(0);
        let Some(connection) = self.open_peer(peer) else { return };
        connection.listen_port = theirs.port.or(connection.listen_port);
        connection.last_seen_complete =
            theirs.complete_ago.map_or(connection.last_seen_complete, |ago| unix_now - i64::from(ago));
        connection.said_upload_only |= theirs.upload_only;
        if let Some(reqq) = theirs.request_queue {
            connection.requests.set_peer_limit(reqq);
        }
        if let Some(version) = theirs.version.filter(|version| !version.is_empty()) {
            connection.client = version;
        }
        let voter = connection.remote.ip();
        self.state.learn_port(peer);
        self.state.check_redundant(peer);
        if let Some(ip) = theirs.your_ip {
            self.on_external_address(voter, ip);
        }
    }

    /// Plugins that left are found no more.
    fn sync_plugin_names(&mut self, peer: PeerHandle) {
        let Some(chain) = self.chains.peers.get(peer) else { return };
        if let Some(connection) = self.state.peer_mut(peer) {
            connection.plugin_names.retain(|(plugin, _)| chain.contains(*plugin));
        }
    }
}

impl State {
    /// Which connection has to go, if there is another one to the peer with this id. Of two that were opened at the same
    /// time, one from each side, both sides must choose the same: the side with the greater id keeps the one it opened.
    fn duplicate(&self, peer: PeerHandle, id: [u8; 20]) -> Option<PeerHandle> {
        let connection = self.peer(peer)?;
        let others = self.torrent(connection.torrent?)?.peers.iter().filter(|other| **other != peer);
        let mut others = others.filter_map(|other| Some((*other, self.peer(*other)?)));
        let (twin, other) = others.find(|(_, c)| c.pid == id && c.is_established())?;
        // Anyone can claim an id: a connection that is in use only makes way for one from the same machine.
        let crossed = other.outgoing != connection.outgoing && other.remote.ip() == connection.remote.ip();
        let stays = connection.outgoing == (self.peer_id > id);
        Some(if crossed && stays { twin } else { peer })
    }

    /// Whether the torrent has a connection to the same machine already, and only one is allowed. This machine is exempt:
    /// what runs here is its user's own.
    fn is_crowded(&self, peer: PeerHandle, torrent: TorrentHandle) -> bool {
        let Some(ip) = self.peer(peer).map(|connection| connection.remote.ip()) else { return false };
        let others = self.torrent(torrent).into_iter().flat_map(|t| &t.peers).filter(|other| **other != peer);
        !self.settings.allow_multiple_connections_per_ip
            && !ip.is_loopback()
            // One that is being made may be the same peer's: its id will tell.
            && others
                .filter_map(|other| self.peer(*other))
                .any(|other| other.is_established() && other.remote.ip() == ip)
    }

    /// The engine's own keys of our extended handshake (BEP 10; BEP 21 for `upload_only`).
    fn extension_handshake(&self, peer: PeerHandle) -> EntryTree {
        let mut tree = EntryTree::new();
        let Some(connection) = self.peer(peer) else { return tree };
        let finished = connection
            .torrent
            .and_then(|t| self.torrent(t))
            .is_some_and(crate::torrent::Torrent::is_finished);
        let ours = ExtensionHandshake {
            messages: ENGINE_EXTENSIONS
                .iter()
                .filter(|(_, id)| *id != UT_HOLEPUNCH || self.introduces())
                .map(|(name, id)| (name.as_bytes().to_vec(), *id))
                .collect(),
            port: self.listen_port().filter(|_| connection.outgoing),
            version: self.settings.client_version().map(str::to_owned),
            your_ip: Some(connection.remote.ip()),
            request_queue: Some(self.settings.max_allowed_in_request_queue),
            // Who believed it would leave once it has the few pieces that it is offered.
            upload_only: finished && !self.is_super_seeding(connection.torrent),
            ..ExtensionHandshake::default()
        };
        // The names are short and the tree is fresh: nothing can be refused.
        let _ = ours.write(&mut tree);
        let _ = tree.insert_int(EntryTree::ROOT, b"complete_ago", if finished { 0 } else { -1 });
        tree
    }

    /// A peer that called is ourselves: the call is ended at its other end, too, which may not have noticed yet.
    fn end_our_own_call(&mut self, peer: PeerHandle) {
        let Some(called) = self.peer(peer).filter(|connection| !connection.outgoing) else { return };
        let ends = (Some(called.remote), called.local);
        let is_caller = |other: &Connection| other.outgoing && (other.local, Some(other.remote)) == ends;
        let caller = self.peers().find(|(_, other)| is_caller(other));
        if let Some(caller) = caller.map(|(caller, _)| caller) {
            self.disconnect(caller, ErrorCode::SELF_CONNECTION, Operation::BITTORRENT, Severity::NORMAL);
        }
    }

    /// The port that peers reach us on.
    pub(super) fn listen_port(&self) -> Option<u16> {
        let local = self.listening.first().filter(|_| self.phase == SessionPhase::Running)?;
        Some(self.external_tcp_port(*local))
    }

    /// An incoming peer said where it listens: it can be found again there.
    fn learn_port(&mut self, peer: PeerHandle) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        if let Some(port) = connection.listen_port.filter(|_| !connection.outgoing) {
            connection.known_as = torrent.candidates.listens_on(connection.known_as, port);
        }
    }

    /// What we have, in the shortest way that the peer understands.
    pub(super) fn send_bitfield(&mut self, peer: PeerHandle) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        if !torrent.has_metadata() || connection.bitfield_sent || !connection.is_established() {
            return;
        }
        let (fast, handle) = (connection.fast(), torrent.handle);
        if self.is_super_seeding(Some(handle)) {
            return self.begin_super_seeding(peer);
        }
        let Some((_, torrent)) = self.pair(peer) else { return };
        if fast && torrent.picker.is_seed() {
            self.send_and_tell(peer, &Message::HaveAll);
        } else if fast && torrent.picker.num_have() == 0 {
            self.send_and_tell(peer, &Message::HaveNone);
        } else if torrent.picker.num_have() > 0 {
            let bits = torrent.picker.bitfield().as_bytes().to_vec();
            self.send(peer, &Message::Bitfield(bits.into()));
        }
        if let Some(connection) = self.peer_mut(peer) {
            connection.bitfield_sent = true;
        }
    }

    /// While slots are free, a peer need not wait until it is interested.
    fn unchoke_early(&mut self, peer: PeerHandle) {
        let Some((_, torrent)) = self.pair(peer) else { return };
        if torrent.picker.num_have() > 0 {
            self.maybe_unchoke(peer);
        }
    }
}

/// The client that a peer id names (BEP 20, Azureus style): `-PF0100-` is `PF 0.1.0.0`.
fn client_name(id: &[u8; 20]) -> String {
    let printable = id[..8].iter().all(u8::is_ascii_graphic);
    if id[0] != b'-' || id[7] != b'-' || !printable {
        return String::new();
    }
    let name = match &id[1..3] {
        b"LT" => "libtorrent",
        b"lt" => "libTorrent (rtorrent)",
        b"PF" => "Pilotfish",
        b"qB" => "qBittorrent",
        b"TR" => "Transmission",
        b"UT" => "uTorrent",
        b"DE" => "Deluge",
        b"AZ" => "Azureus",
        b"rQ" => "rqbit",
        b"A2" => "aria2",
        other => return format!("{} {}", String::from_utf8_lossy(other), version(&id[3..7])),
    };
    format!("{name} {}", version(&id[3..7]))
}

fn version(digits: &[u8]) -> String {
    let numbers: Vec<String> = digits
        .iter()
        .map(|digit| match digit {
            b'A'..=b'Z' => (digit - b'A' + 10).to_string(),
            other => char::from(*other).to_string(),
        })
        .collect();
    numbers.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_names_its_client() {
        assert_eq!(client_name(b"-LT20B0-abcdefghijkl"), "libtorrent 2.0.11.0");
        assert_eq!(client_name(b"-XX1234-abcdefghijkl"), "XX 1.2.3.4");
        assert_eq!(client_name(&[0; 20]), "");
    }
}

//! Peers that cannot be connected to, because their router lets nobody in, are called while they call us (BEP 55).
//!
//! Three have a part in it, and we may be any of them: one whom a call to the second has failed asks the third, who told it of
//! that one by ut_pex and is connected to it, for an *introduction*; the third tells both of each other; and both call by uTP at
//! once. The first packet of each goes out through a router, which from then on lets in what comes from where it went.
//!
//! uTP has no connection that both sides open. Each call that gets through is a connection of its own; of two that belong to one
//! pair of peers one is given up, as always.

use std::net::SocketAddr;

use pilotfish_plugin::{ErrorCode, PeerHandle, PeerSource, PexFlags, Severity, TorrentHandle};

use super::Engine;
use super::output::Dial;
use super::state::{SessionPhase, State};
use crate::peer::{Closing, Connection, Introductions, Phase, Transport};
use crate::torrent::Torrent;
use crate::wire::{Holepunch, HolepunchError, Message};

/// Our name for the messages.
const NAME: &str = "ut_holepunch";

impl Engine {
    /// A peer says something about introductions.
    pub(super) fn on_holepunch(&mut self, peer: PeerHandle, payload: &[u8]) {
        let now = self.state.now;
        if !self.state.introduces() {
            return;
        }
        let Some(said) = Holepunch::parse(payload) else { return };
        let Some((connection, torrent)) = self.state.pair(peer) else { return };
        if !may_be_introduced(torrent)
            || !connection.is_established()
            || !introductions(connection, now).may_ask(now)
        {
            return;
        }
        match said {
            Holepunch::Rendezvous(target) => self.state.introduce(peer, target),
            Holepunch::Connect(target) => self.meet(peer, target),
            // It is where it was before.
            Holepunch::Error(..) => {}
        }
    }

    /// Calls a peer that is about to call us.
    fn meet(&mut self, introducer: PeerHandle, target: SocketAddr) {
        let Some(torrent) = self.state.peer(introducer).and_then(|connection| connection.torrent) else {
            return;
        };
        if !self.add_candidate(torrent, target, PeerSource::PEX, PexFlags::UTP) {
            return;
        }
        let state = &mut self.state;
        if state.phase != SessionPhase::Running || state.is_full(torrent) || state.connects_left == 0 {
            return;
        }
        let Some(t) = state.torrent_mut(torrent).filter(|t| t.takes_peers() && !t.held_by_session) else {
            return;
        };
        let connected = t.candidates.known(target).is_none_or(|known| known.connected.is_some());
        // What seeds have to say to each other is nothing.
        let useless = t.is_finished() && t.candidates.known(target).is_some_and(|known| known.seed);
        if connected || useless {
            return;
        }
        state.connects_left -= 1;
        self.call(torrent, target, Dial::Utp, true);
    }
}

/// Whether peers of a torrent may be told of each other. Of one of which only the name is known nobody can tell: it may be
/// private (BEP 27).
fn may_be_introduced(torrent: &Torrent) -> bool {
    torrent.has_metadata() && !torrent.is_private() && !torrent.disable_pex
}

impl State {
    /// Whether we take part: without uTP in both directions there is no use in it.
    pub(super) fn introduces(&self) -> bool {
        self.settings.enable_outgoing_utp && self.settings.enable_incoming_utp && self.peer_proxy().is_none()
    }

    /// A peer told of another one that can be introduced.
    pub(super) fn told_by(&mut self, teller: PeerHandle, address: SocketAddr) {
        let now = self.now;
        if let Some(connection) = self.peer_mut(teller) {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            introductions(connection, now).remember(address);
        }
    }

    /// A call ended before there was a connection: whoever told us of the peer is asked to introduce us.
    pub(super) fn ask_for_introduction(&mut self, peer: PeerHandle, closing: Closing) {
        let Some(connection) = self.peer(peer) else { return };
        let failed = closing.severity >= Severity::FAILURE || closing.error == ErrorCode::TIMED_OUT;
        let is_call = connection.phase == Phase::Connecting && connection.web.is_none();
        if !failed || !is_call || connection.holepunched || !self.introduces() {
            return;
        }
        let Some(torrent) = connection.torrent else { return };
        if !self.torrent(torrent).is_some_and(may_be_introduced) {
            return;
        }
        let target = connection.known_as;
        let introduces = |connection: &Connection| {
            let introductions = connection.introductions.as_ref();
            connection.is_established()
                && introductions.is_some_and(|introductions| introductions.is_by(target))
        };
        let introducer = self.open_peers_of(torrent).find(|peer| self.peer(*peer).is_some_and(introduces));
        if let Some(introducer) = introducer {
            self.mediate(introducer, Holepunch::Rendezvous(target));
        }
    }

    /// Introduces two peers to each other, or tells the one who asks why not.
    fn introduce(&mut self, asker: PeerHandle, target: SocketAddr) {
        let Some((torrent, theirs)) =
            self.peer(asker).and_then(|asker| Some((asker.torrent?, callable(asker))))
        else {
            return;
        };
        let is_target = |connection: &Connection| {
            connection.is_established() && (connection.known_as == target || connection.remote == target)
        };
        let found = self.open_peers_of(torrent).find(|peer| self.peer(*peer).is_some_and(is_target));
        let refusal = match found {
            _ if target.port() <= 1 || target.ip().is_unspecified() => HolepunchError::NoSuchPeer,
            None => HolepunchError::NotConnected,
            Some(found) if found == asker => HolepunchError::NoSelf,
            Some(found) => {
                // From there it will call: what a router between us made of the address that it listens on.
                let there = self.peer(found).map_or(target, callable);
                if self.mediate(found, Holepunch::Connect(theirs)) {
                    self.mediate(asker, Holepunch::Connect(there));
                    return;
                }
                HolepunchError::NoSupport
            }
        };
        self.mediate(asker, Holepunch::Error(target, refusal));
    }

    fn open_peers_of(&self, torrent: TorrentHandle) -> impl Iterator<Item = PeerHandle> + '_ {
        let peers = self.torrent(torrent).into_iter().flat_map(|t| &t.peers).copied();
        peers.filter(|peer| {
            self.peer(*peer).is_some_and(|connection| !connection.is_closing() && connection.web.is_none())
        })
    }

    /// Sends a message. Whether the peer understands any.
    fn mediate(&mut self, peer: PeerHandle, message: Holepunch) -> bool {
        let Some(id) = self.peer(peer).and_then(|connection| connection.extensions.theirs(NAME)) else {
            return false;
        };
        self.send(peer, &Message::Extended { id, payload: message.encode().into() });
        true
    }
}

fn introductions(connection: &mut Connection, now: std::time::Instant) -> &mut Introductions {
    connection.introductions.get_or_insert_with(|| Introductions::new(now).into())
}

/// Where others can call a peer by uTP: from there it calls itself, or there it says that it listens.
fn callable(connection: &Connection) -> SocketAddr {
    match connection.transport {
        Transport::Utp => connection.remote,
        Transport::Tcp => connection.known_as,
    }
}

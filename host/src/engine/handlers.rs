//! What the engine does about each message, once no plugin took it.

use std::time::Duration;

use pilotfish_plugin::{ErrorCode, MessageOrigin, PeerHandle};

use super::Engine;
use super::metadata::Early;
use super::state::State;
use super::step::Step;
use super::timers::Timer;
use crate::peer::Bitfield;
use crate::wire::Message;

/// How long after its bitfield a peer is looked at.
const INTEREST_DELAY: Duration = Duration::from_millis(5);

/// So many pieces that a peer allows while it chokes us are remembered. BEP 6 has ten; each message looks through all of them.
const MOST_ALLOWED_FAST: usize = 256;

impl Engine {
    /// The default for each message.
    pub(super) fn default_handler(&mut self, peer: PeerHandle, message: Message, origin: MessageOrigin) {
        if let Message::Port(port) = message {
            return self.on_dht_port(peer, port);
        }
        let state = &mut self.state;
        if state.pair(peer).is_some_and(|(_, torrent)| !torrent.has_metadata()) {
            return state.early_handler(peer, message);
        }
        match message {
            Message::KeepAlive | Message::Port(_) | Message::Hash(_) | Message::Extended { .. } => {}
            Message::Choke => state.on_choke(peer),
            Message::Unchoke => state.on_unchoke(peer),
            Message::Interested => state.on_interested(peer),
            Message::NotInterested => state.on_not_interested(peer),
            Message::Have(piece) => state.on_have(peer, piece),
            Message::Bitfield(bits) => state.on_pieces(peer, |len| Bitfield::from_wire(&bits, len)),
            Message::HaveAll => state.on_pieces(peer, |len| Some(Bitfield::full(len))),
            Message::HaveNone => state.on_pieces(peer, |len| Some(Bitfield::new(len))),
            Message::AllowedFast(piece) => state.on_allowed_fast(peer, piece),
            Message::Request(request) => state.on_request(peer, request),
            Message::Piece { piece, start, data } if data.is_empty() => {
                self.on_empty_piece(peer, piece, start, origin);
            }
            Message::Piece { piece, start, data } => state.on_block(peer, piece, start, data),
            Message::Cancel(request) => state.on_cancel(peer, request),
            Message::Reject(request) => state.on_reject(peer, request),
            Message::Suggest(piece) => state.on_suggest(peer, piece),
            Message::Unknown { .. } => state.peer_error(peer, ErrorCode::INVALID_MESSAGE),
        }
    }

    /// A block without data refuses a request, as some clients without the fast extension do.
    fn on_empty_piece(&mut self, peer: PeerHandle, piece: u32, start: u32, _origin: MessageOrigin) {
        let Some(connection) = self.state.peer(peer) else { return };
        let refused =
            connection.requests.iter().find(|span| span.piece.get() == piece && span.start == start);
        self.state.steps.extend(refused.map(|span| Step::ImpliedReject(peer, span)));
    }
}

impl State {
    /// The default for each message while it is not known how many pieces there are.
    fn early_handler(&mut self, peer: PeerHandle, message: Message) {
        match message {
            Message::Choke => self.on_choke(peer),
            Message::Unchoke => self.on_unchoke(peer),
            Message::Interested => self.on_interested(peer),
            Message::NotInterested => self.on_not_interested(peer),
            Message::Have(piece) => self.on_early_have(peer, piece),
            Message::Bitfield(bits) => self.on_early_pieces(peer, Some(Bitfield::from_wire_unsized(&bits))),
            Message::HaveAll => self.on_early_pieces(peer, None),
            Message::HaveNone => self.on_early_pieces(peer, Some(Bitfield::default())),
            Message::AllowedFast(piece) => self.remember_early(peer, Early::AllowedFast(piece)),
            Message::Suggest(piece) => self.remember_early(peer, Early::Suggest(piece)),
            Message::Request(request) => self.on_request(peer, request),
            Message::Unknown { .. } => self.peer_error(peer, ErrorCode::INVALID_MESSAGE),
            // Nothing was asked for that could come, be refused or be taken back.
            Message::Piece { .. } | Message::Cancel(_) | Message::Reject(_) => {}
            Message::KeepAlive | Message::Port(_) | Message::Hash(_) | Message::Extended { .. } => {}
        }
    }

    fn on_choke(&mut self, peer: PeerHandle) {
        if let Some(connection) = self.peer_mut(peer) {
            connection.peer_choked = true;
        }
    }

    fn on_unchoke(&mut self, peer: PeerHandle) {
        if let Some(connection) = self.peer_mut(peer) {
            connection.peer_choked = false;
        }
        self.request_blocks(peer);
    }

    fn on_interested(&mut self, peer: PeerHandle) {
        let now = self.now;
        let Some(connection) = self.peer_mut(peer) else { return };
        connection.peer_interested = true;
        connection.became_uninterested = now;
        connection.last_incoming_request = now;
        if connection.choked {
            self.maybe_unchoke(peer);
        } else {
            // It may have missed the first one, sent before it was interested.
            self.send_and_tell(peer, &Message::Unchoke);
        }
    }

    fn on_not_interested(&mut self, peer: PeerHandle) {
        let now = self.now;
        let Some(connection) = self.peer_mut(peer) else { return };
        connection.peer_interested = false;
        connection.became_uninterested = now;
        if !connection.choked {
            self.choke(peer);
        }
    }

    fn on_have(&mut self, peer: PeerHandle, raw: u32) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let Some(piece) = torrent.geometry().piece(raw) else {
            return self.peer_error(peer, ErrorCode::INVALID_HAVE);
        };
        if !connection.has.set(raw) {
            return;
        }
        torrent.picker.peer_has(piece);
        if connection.is_seed() {
            // A seed is counted once for all pieces, as it would have been had it said so at first.
            let all = connection.has.clone();
            torrent.picker.peer_left(&all);
            torrent.picker.peer_is_seed();
        }
        self.spread(peer, piece);
        self.reconsider(peer);
    }

    /// The peer took a piece back.
    pub(super) fn lose_piece(&mut self, peer: PeerHandle, raw: u32) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let Some(piece) = torrent.geometry().piece(raw).filter(|_| connection.has.get(raw)) else { return };
        if connection.is_seed() {
            torrent.picker.seed_left();
            torrent.picker.peer_joined(&connection.has);
        }
        connection.has.clear(raw);
        torrent.picker.peer_lost(piece);
        self.update_interest(peer);
    }

    /// The peer says what it has, in whichever of the three ways.
    fn on_pieces(&mut self, peer: PeerHandle, pieces: impl FnOnce(u32) -> Option<Bitfield>) {
        self.uncount(peer);
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let Some(has) = pieces(torrent.geometry().num_pieces()) else { return };
        connection.has = has;
        connection.bitfield_received = true;
        self.count(peer);
        self.renew_offers(peer);
        let Some(connection) = self.peer_mut(peer) else { return };
        // A seed is interesting whatever it has. The others are looked at a moment later, or when they say more: so each
        // side has seen what the other has before it is asked for anything (as with libtorrent).
        if connection.is_seed() {
            self.reconsider(peer);
        } else {
            connection.interest_due = true;
            self.timers.set(self.now + INTEREST_DELAY, Timer::Interest(peer));
        }
    }

    /// What a peer has changed: it may have something for us now, or never will.
    fn reconsider(&mut self, peer: PeerHandle) {
        self.update_interest(peer);
        self.request_blocks(peer);
        self.check_redundant(peer);
    }

    /// Looks at a peer whose bitfield came, if that has not been done.
    pub(super) fn settle_interest(&mut self, peer: PeerHandle) {
        if self.peer_mut(peer).is_some_and(|connection| std::mem::take(&mut connection.interest_due)) {
            self.reconsider(peer);
        }
    }

    /// Takes what a peer has out of the torrent's availability.
    pub(super) fn uncount(&mut self, peer: PeerHandle) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        if !std::mem::replace(&mut connection.counted, false) {
            return;
        }
        if connection.is_seed() {
            torrent.picker.seed_left();
        } else {
            torrent.picker.peer_left(&connection.has);
        }
    }

    pub(super) fn on_allowed_fast(&mut self, peer: PeerHandle, raw: u32) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let Some(piece) = torrent.geometry().piece(raw) else { return };
        let full = connection.allowed_fast.len() >= MOST_ALLOWED_FAST;
        if full || torrent.picker.have(piece) || connection.allowed_fast.contains(&piece) {
            return;
        }
        connection.allowed_fast.push(piece);
        self.request_blocks(peer);
    }

    pub(super) fn on_suggest(&mut self, peer: PeerHandle, raw: u32) {
        let most = self.settings.max_suggest_pieces as usize;
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let Some(piece) = torrent.geometry().piece(raw) else { return };
        if torrent.picker.have(piece) {
            return;
        }
        connection.suggested.retain(|known| *known != piece);
        connection.suggested.insert(0, piece);
        connection.suggested.truncate(most);
    }

    /// Tells the peer whether it has anything for us, if that changed.
    pub(super) fn update_interest(&mut self, peer: PeerHandle) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        if !connection.is_established() || !torrent.files_checked {
            return;
        }
        let interesting = torrent.is_downloading() && torrent.picker.is_interesting(&connection.has);
        self.say_interest(peer, interesting);
    }

    /// Tells the peer that it has something for us, or not, unless it knows.
    pub(super) fn say_interest(&mut self, peer: PeerHandle, interesting: bool) {
        let now = self.now;
        let Some(connection) = self.peer_mut(peer).filter(|connection| connection.interesting != interesting)
        else {
            return;
        };
        connection.interesting = interesting;
        connection.became_uninteresting = now;
        let message = if interesting { Message::Interested } else { Message::NotInterested };
        self.send_and_tell(peer, &message);
    }

    /// Tells the peer whether we only upload from now on, if it wants to know (BEP 21, libtorrent's message of that name).
    pub(super) fn send_upload_only(&mut self, peer: PeerHandle, upload_only: bool) {
        let Some(connection) = self.peer(peer).filter(|connection| connection.is_established()) else {
            return;
        };
        if let Some(id) = connection.extensions.theirs("upload_only") {
            let payload = bytes::Bytes::copy_from_slice(&[upload_only.into()]);
            self.send(peer, &Message::Extended { id, payload });
        }
    }

    /// Closes a connection in which nothing can happen any more, if the plugins consent.
    pub(super) fn check_redundant(&mut self, peer: PeerHandle) {
        if !self.settings.close_redundant_connections {
            return;
        }
        let Some((connection, torrent)) = self.pair(peer) else { return };
        if !connection.is_established() || !torrent.files_checked || !connection.upload_only() {
            return;
        }
        if torrent.is_finished() {
            self.steps.push_back(Step::AskDisconnect(peer, ErrorCode::UPLOAD_UPLOAD_CONNECTION));
        } else if !connection.interesting && connection.bitfield_received {
            self.steps.push_back(Step::AskDisconnect(peer, ErrorCode::UNINTERESTING_UPLOAD_PEER));
        }
    }
}
